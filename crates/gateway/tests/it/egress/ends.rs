//! What goes on by the handle of a command, or by a value that a vendor minted, ends with the lease: a body either way and a
//! WebSocket, over both versions of HTTP.

use crate::egress::bands;
use crate::egress::inside::two;
use crate::egress::world::{TOKEN, Tls, World, writes};
use crate::egress::writes::frame as message;
use crate::house::{HANDLE, ask, parse, soon, when};
use api::delivery::{FromRunner, RUNNER, ToRunner};
use api::frame;
use api::grants::{FromGateway, StoredValue, ToGateway, WireSecret};
use api::leases::{LeaseEnd, LeaseUser, ValueWord};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use model::capability::Delivery;
use model::{LeaseId, Moment, RunId, Secret};
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const HOST: &str = "api.example";

fn lease(letter: char) -> LeaseId {
    LeaseId::parse(&letter.to_string().repeat(26)).expect("an id")
}

async fn world(two: bool) -> World {
    let mut table = writes(HOST, "GET", "/");
    for (method, path) in [("POST", "/"), ("UPGRADE", "/socket")] {
        table.write.extend(writes(HOST, method, path).write);
    }
    let world = World::of(table, two, |_| {}).await;
    world.names.set(HOST, &[&["93.184.216.34"]]);
    world.desk(|desk| desk.credential = Some((TOKEN.to_owned(), HOST.to_owned(), 443)));
    world
}

/// A world whose run has a command that uses a lease, and shows its handle; and the connection of its runner.
async fn with_command(two: bool) -> (World, TcpStream) {
    let mut world = world(two).await;
    let (door, authority) = world.house.another_run("run3").await;
    (world.house.door, world.house.authority) = (door, authority);
    world.house.run = RunId::parse("run3").expect("an id");
    let mut line = TcpStream::connect(door).await.expect("the door is open");
    line.write_all(&[RUNNER]).await.expect("it reads");
    let by = LeaseUser::Command {
        executable: "/usr/bin/curl".into(),
        executable_sha256: "0".repeat(64),
        argv_sha256: "1".repeat(64),
    };
    frame::write(&mut line, &FromRunner::Use { id: 1, lease: lease('a'), by }).await.expect("it reads");
    let FromGateway::UseLease { id, .. } = world.house.hear().await else { panic!("no use") };
    let word = ValueWord::Value {
        value: WireSecret(Secret::new(HANDLE.to_owned())),
        secret: String::new(),
        delivery: Delivery::Proxy,
        variables: vec!["SHOP".into()],
        destination: HOST.into(),
        expires: Moment::from(SystemTime::now()).plus_ms(600_000),
        parts: Vec::new(),
        until: None,
    };
    world.house.say.send(ToGateway::LeaseValue { id, word }).expect("the server lives");
    let told = soon("a value", frame::read::<ToRunner>(&mut line)).await.expect("a frame");
    assert!(matches!(told, ToRunner::Value { .. }));
    world.desk(|desk| desk.lease = Some(lease('a')));
    (world, line)
}

/// What a box has under way.
enum Way {
    Answer(Tls),
    Upload(Tls),
    Socket(Tls),
    Silence(Tls),
    OverTwo(hyper::body::Incoming),
}

async fn begin(world: &World, way: &str) -> Way {
    let begun = world.origin.flow.begun.load(Ordering::Relaxed);
    let bearer = format!("host: {HOST}\r\nauthorization: Bearer {HANDLE}\r\n");
    if way == "a WebSocket" {
        let (mut tls, head) = world.websocket(HOST, "").await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        echoed(&mut tls).await.expect("it is passed on");
        return Way::Socket(tls);
    }
    if way == "an answer over HTTP/2" {
        let mut sender = two(world.tls("api.example:443", HOST, &[b"h2"]).await.unwrap()).await;
        let ask = Request::get(format!("https://{HOST}/drip")).header("authorization", format!("Bearer {HANDLE}"));
        // Whole lines go on at once.
        let answer = soon("an answer", sender.send_request(ask.body(Full::new(Bytes::new())).unwrap())).await.unwrap();
        let mut body = answer.into_body();
        assert_eq!(soon("its begin", body.frame()).await.unwrap().unwrap().into_data().unwrap(), "first\n");
        // The connection stays, so that what ends the request is not its end.
        std::mem::forget(sender);
        return Way::OverTwo(body);
    }
    let mut tls = world.tls("api.example:443", HOST, &[b"http/1.1"]).await.unwrap();
    let (head, way): (String, fn(Tls) -> Way) = match way {
        "an answer" => (format!("GET /drip HTTP/1.1\r\n{bearer}\r\n"), Way::Answer),
        "silence" => (format!("GET /hang HTTP/1.1\r\n{bearer}\r\n"), Way::Silence),
        _ => {
            let chunked = "transfer-encoding: chunked\r\n\r\n5\r\nbegun\r\n";
            (format!("POST /echo HTTP/1.1\r\n{bearer}{chunked}"), Way::Upload)
        }
    };
    tls.write_all(head.as_bytes()).await.unwrap();
    tls.flush().await.unwrap();
    when("the request at its host", || world.origin.flow.begun.load(Ordering::Relaxed) > begun).await;
    if head.contains("/drip") {
        let mut came = Vec::new();
        soon("its begin", async {
            while !came.windows(4).any(|four| four == b"firs") {
                came.push(tls.read_u8().await.unwrap());
            }
        })
        .await;
    }
    way(tls)
}

/// Whether a message comes back over a WebSocket.
async fn echoed(tls: &mut Tls) -> std::io::Result<()> {
    let said = [&[0x82, 2][..], b"hi"].concat();
    tls.write_all(&message(&said)).await?;
    tls.flush().await?;
    let mut came = vec![0; said.len()];
    soon("an echo, or the end", tls.read_exact(&mut came)).await.map(drop)
}

/// The head of the answer is the refusal.
async fn refused(tls: &mut Tls) {
    let mut head = Vec::new();
    soon("a refusal", async {
        while !head.ends_with(b"\r\n\r\n") {
            head.push(tls.read_u8().await.expect("a refusal"));
        }
    })
    .await;
    let head = String::from_utf8(head).expect("text");
    assert!(head.starts_with("HTTP/1.1 403") && head.contains("volary-refused: lease.over"), "{head}");
}

/// It is over for the box, and nothing of it reaches the host or comes back any more.
async fn is_over(world: &World, way: Way) {
    let mut rest = Vec::new();
    match way {
        Way::Answer(mut tls) => {
            drop(soon("the end of an answer", tls.read_to_end(&mut rest)).await);
            world.origin.flow.drop_one();
            assert!(!rest.contains(&b'x'), "{rest:?}");
        }
        Way::OverTwo(mut body) => {
            let ended = soon("the end of an answer", body.frame()).await;
            assert!(ended.is_some_and(|ended| ended.is_err()), "it did not break off");
        }
        Way::Socket(mut tls) => {
            drop(soon("the end of a WebSocket", tls.read_to_end(&mut rest)).await);
            assert_eq!(rest, b"");
            assert!(echoed(&mut tls).await.is_err());
        }
        Way::Silence(mut tls) => refused(&mut tls).await,
        Way::Upload(mut tls) => {
            refused(&mut tls).await;
            // What its client still sends is nobody's.
            drop(tls.write_all(b"5\r\nended\r\n0\r\n\r\n").await);
            drop(tls.flush().await);
            drop(soon("the end", tls.read_to_end(&mut rest)).await);
            assert!(!rest.windows(5).any(|five| five == b"ended"), "{rest:?}");
        }
    }
}

/// What of an answer comes of which the host says no more, and does not end.
async fn paused(world: &World, says: &str, comes: &str) -> Tls {
    let mut tls = world.tls("api.example:443", HOST, &[b"http/1.1"]).await.unwrap();
    let head = format!("GET /pause/{says} HTTP/1.1\r\nhost: {HOST}\r\nauthorization: Bearer {HANDLE}\r\n\r\n");
    tls.write_all(head.as_bytes()).await.unwrap();
    let mut came = Vec::new();
    soon("what it says", async {
        while !came.ends_with(comes.as_bytes()) {
            came.push(tls.read_u8().await.unwrap());
        }
    })
    .await;
    tls
}

#[tokio::test(flavor = "current_thread")]
async fn what_a_host_says_before_it_pauses_goes_on_until_that_told_the_box_eight_letters() {
    let world = world(false).await;
    // Neither a line nor as much as could be told from a beginning of the credential.
    let _one = paused(&world, "Password:", "Password:").await;
    let _two = paused(&world, &format!("is-{}", &TOKEN[..7]), "is-").await;
    let _three = paused(&world, "Password:", "Password:").await;
    // More would be told by that it does not go on, and from then on by none.
    let mut spent = paused(&world, &format!("is-{}", &TOKEN[..7]), "\r\n\r\n").await;
    let mut after = paused(&world, "Password:", "\r\n\r\n").await;
    for tls in [&mut spent, &mut after] {
        let mut rest = [0];
        let came = tokio::time::timeout(Duration::from_secs(3), tls.read(&mut rest)).await;
        assert!(came.is_err(), "{rest:?}");
    }
}

const WAYS: [&str; 5] = ["an answer", "an answer over HTTP/2", "silence", "an upload", "a WebSocket"];

#[tokio::test(flavor = "current_thread")]
async fn what_goes_on_by_a_commands_handle_ends_when_its_lease_is_taken_back_or_the_command_is_over() {
    for theirs in [false, true] {
        for taken_back in [true, false] {
            let (mut world, mut line) = with_command(theirs).await;
            let mut ways = Vec::new();
            for way in WAYS {
                ways.push(begin(&world, way).await);
            }
            // What was silent has been asked; of the upload and the WebSocket the host saw no whole request.
            world.origin.seen();
            if taken_back {
                world.house.say.send(ToGateway::RevokeLease { lease: lease('a') }).expect("the server lives");
            } else {
                let end = FromRunner::End { id: 1, outcome: LeaseEnd::Completed };
                frame::write(&mut line, &end).await.expect("it reads");
            }
            for way in ways {
                is_over(&world, way).await;
            }
            let mut interrupted = 0;
            while interrupted < WAYS.len() {
                match world.house.hear().await {
                    FromGateway::SettleEgress { outcome, .. } => {
                        assert!(outcome.interrupted, "{outcome:?}");
                        interrupted += 1;
                    }
                    FromGateway::EndLease { .. } => {}
                    other => panic!("not a settlement: {other:?}"),
                }
            }
            assert!(world.origin.seen().is_empty(), "the upload did not come whole");
            // And none begins by it, should the server have granted it before it heard.
            world.origin.connected();
            let begun = world.origin.flow.begun.load(Ordering::Relaxed);
            let got = world.https(HOST, &format!("GET /one\r\nauthorization: Bearer {HANDLE}\r\n"), b"").await;
            assert_eq!((got.status, got.rule().as_str()), (403, "lease.over"));
            assert_eq!(world.origin.flow.begun.load(Ordering::Relaxed), begun);
            assert!(world.origin.connected().is_empty());
        }
    }
}

#[tokio::test(flavor = "current_thread")]
async fn what_goes_on_by_a_value_ends_when_that_is_deleted_or_the_lease_that_carries_it_taken_back_and_no_other_does() {
    let value = |version| StoredValue { secret: "capability/tracker".to_owned(), person: String::new(), version };
    for (theirs, is_minted) in [(false, true), (true, true), (false, false), (true, false)] {
        let mut world = world(theirs).await;
        let give = |n: u64| {
            world.desk(|desk| {
                desk.carried = is_minted.then(|| lease(if n == 1 { 'b' } else { 'c' }));
                desk.stored = (!is_minted).then(|| value(n));
            });
        };
        give(1);
        let mut ended = Vec::new();
        for way in WAYS {
            ended.push(begin(&world, way).await);
        }
        // The next one carries the next value, over a connection of its own.
        world.origin.connected();
        give(2);
        let stays = begin(&world, "an answer over HTTP/2").await;
        assert_eq!(world.origin.connected().len(), 1, "what two leases carry goes over one connection");
        let over = match is_minted {
            true => ToGateway::RevokeLease { lease: lease('b') },
            false => ToGateway::EndValue { value: value(1) },
        };
        world.house.say.send(over).expect("the server lives");
        for way in ended {
            is_over(&world, way).await;
        }
        let Way::OverTwo(mut body) = stays else { panic!("another way") };
        let came = async {
            // A drop may be taken by the host's task of an answer that is over.
            loop {
                world.origin.flow.drop_one();
                if let Ok(next) = tokio::time::timeout(std::time::Duration::from_millis(50), body.frame()).await {
                    return next;
                }
            }
        };
        assert!(soon("more", came).await.is_some_and(|next| next.is_ok()));
        while let Ok(said) = world.house.heard.try_recv() {
            assert!(matches!(said, FromGateway::SettleEgress { .. }), "{said:?}");
        }
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_fetch_that_is_under_way_ends_with_the_value_that_opens_its_repository_and_none_begins_by_that() {
    let world = world(true).await;
    let value = StoredValue { secret: "capability/forge".to_owned(), person: String::new(), version: 1 };
    world.desk(|desk| {
        desk.repository = Some((format!("https://{HOST}/hang"), Some(TOKEN.to_owned())));
        desk.stored = Some(value.clone());
    });
    let head = format!(
        "GET /git/app/info/refs?service=git-upload-pack HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {HANDLE}\r\nconnection: close\r\n\r\n"
    );
    let refused = |got: &crate::house::Got| {
        assert_eq!((got.status, got.headers_rule()), (403, Some("lease.over")), "{}", got.head);
    };
    let begun = || world.origin.flow.begun.load(Ordering::Relaxed);
    let deleted = async {
        when("the fetch at its host", || begun() == 1).await;
        world.house.say.send(ToGateway::EndValue { value: value.clone() }).expect("the server lives");
    };
    let (got, ()) = tokio::join!(ask(world.house.door, &head, b""), deleted);
    refused(&got);
    world.origin.connected();
    let got = ask(world.house.door, &head, b"").await;
    refused(&got);
    assert!(begun() == 1 && world.origin.connected().is_empty(), "its host is not even reached");
}

#[tokio::test(flavor = "current_thread")]
async fn a_fetch_whose_host_has_sent_half_of_its_pack_ends_with_the_value_that_opens_it_for_the_box_and_for_the_host() {
    let mut world = world(true).await;
    let value = StoredValue { secret: "capability/forge".to_owned(), person: String::new(), version: 1 };
    world.desk(|desk| {
        desk.repository = Some((format!("https://{HOST}/half"), Some(TOKEN.to_owned())));
        desk.stored = Some(value.clone());
    });
    let mut stream = TcpStream::connect(world.house.door).await.expect("the door is open");
    stream.write_all(&bands::fetch()).await.expect("written");
    let mut came = Vec::new();
    soon("half of a pack", async {
        while !came.windows(4).any(|four| four == b"PACK") {
            assert_ne!(stream.read_buf(&mut came).await.expect("more of it"), 0, "it ended before");
        }
    })
    .await;
    let halves = world.origin.flow.halves.clone();
    let standing = || halves.load(Ordering::Relaxed);
    assert_eq!(standing(), 1);
    world.house.say.send(ToGateway::EndValue { value }).expect("the server lives");
    // A host that says no more for a minute would be given up, whatever became of the value.
    let ended = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut came)).await.expect("its end");
    let got = parse(&came, ended.is_ok());
    assert!(got.status == 200 && !got.whole, "half of a pack is taken for a whole one");
    when("the end at its host", || standing() == 0).await;
    let outcome = world.settled().await;
    assert!(outcome.interrupted, "{outcome:?}");
}
