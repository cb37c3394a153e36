//! Other protocols over an HTTP connection: they count as writes, whichever version of HTTP asks for them.

use crate::egress::inside::two;
use crate::egress::world::{TOKEN, WEBSOCKET, World, any, talk, writes};
use crate::egress::writes::{frame as message, host_frame};
use crate::house::{HANDLE, pass, past, soon, when};
use http::{Method, Request, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::ext::Protocol;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const HOST: &str = "api.example";

async fn world(table: model::Egress) -> World {
    let world = World::with(table).await;
    world.names.set(HOST, &[&["93.184.216.34"]]);
    world.desk(|desk| desk.credential = Some((TOKEN.to_owned(), HOST.to_owned(), 443)));
    world
}

#[tokio::test(flavor = "current_thread")]
async fn over_http_2_a_websocket_is_not_offered_and_whoever_asks_for_one_all_the_same_gets_nowhere() {
    for table in [any(), writes(HOST, "UPGRADE", "/"), writes(HOST, "POST", "/")] {
        let world = world(table).await;
        let tls = world.tls("api.example:443", HOST, &[b"h2"]).await.unwrap();
        let mut sender = two(tls).await;
        for protocol in ["websocket", "connect-udp", "x"] {
            let mut request = Request::builder()
                .method(Method::CONNECT)
                .version(Version::HTTP_2)
                .uri(format!("https://{HOST}/socket"))
                .header("authorization", format!("Bearer {HANDLE}"))
                .body(Full::default())
                .unwrap();
            request.extensions_mut().insert(Protocol::from_static(protocol));
            // The gateway never says that it knows extended CONNECT, so our own client may not even send it.
            let answer = soon("an answer", sender.send_request(request)).await;
            assert!(answer.is_err_and(|error| !error.is_timeout()), "{protocol}");
            sender = two(world.tls("api.example:443", HOST, &[b"h2"]).await.unwrap()).await;
        }
        // A plain CONNECT inside is no way either.
        let request = Request::connect(format!("{HOST}:443")).body(Full::default()).unwrap();
        let answer = soon("an answer", sender.send_request(request)).await.unwrap();
        assert_eq!(answer.headers()["volary-refused"], "connect.inside");
        drop(soon("a body", answer.into_body().collect()).await);
        world.nothing_left("no upgrade over HTTP/2");
    }
}

/// A frame of HTTP/2 on stream `stream`.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// The head of a request, each field spelled out (RFC 7541, 6.2.2), and nothing after it.
fn two_head(stream: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
    let block: Vec<u8> = fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect();
    frame(1, 0x5, stream, &block)
}

#[tokio::test(flavor = "current_thread")]
async fn over_http_2_whoever_asks_for_another_protocol_or_is_malformed_is_recorded_each_time() {
    let mut world = world(writes(HOST, "UPGRADE", "/")).await;
    let socket = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "https"),
        (":path", "/socket"),
        (":authority", HOST),
    ];
    let twice = [(":method", "GET"), (":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", HOST)];
    // By this the whole connection ends.
    let upper = [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", HOST), ("X-Upper", "x")];
    let mut tls = world.tls("api.example:443", HOST, &[b"h2"]).await.unwrap();
    tls.write_all(&[&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, &[])].concat()).await.unwrap();
    for (stream, head) in [(1, &socket), (3, &twice), (5, &socket), (7, &upper)] {
        tls.write_all(&two_head(stream, head)).await.unwrap();
        let said = world.refusal().await;
        assert_eq!(said.rule, "request.malformed", "stream {stream}");
        assert!(said.why.contains("another protocol over a stream"), "{}", said.why);
    }
    world.nothing_left("nothing of it left");
}

#[tokio::test(flavor = "current_thread")]
async fn a_fragment_in_an_http_2_path_neither_is_judged_nor_leaves() {
    // Only what is judged may leave; of a fragment the library leaves neither.
    let mut world = world(writes(HOST, "POST", "/v1/")).await;
    let bearer = format!("Bearer {HANDLE}");
    let head = |path| {
        [(":method", "POST"), (":scheme", "https"), (":path", path), (":authority", HOST), ("authorization", &*bearer)]
    };
    let mut tls = world.tls("api.example:443", HOST, &[b"h2"]).await.unwrap();
    tls.write_all(&[&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, &[])].concat()).await.unwrap();
    // What the row allows stands in the fragment alone.
    tls.write_all(&two_head(1, &head("/other#/v1/x"))).await.unwrap();
    assert_eq!(world.refusal().await.rule, "write.no-row");
    tls.write_all(&two_head(3, &head("/v1/x#/../other"))).await.unwrap();
    let mut seen = None;
    when("the request", || {
        seen = seen.take().or_else(|| world.origin.seen().pop());
        seen.is_some()
    })
    .await;
    assert_eq!(seen.map(|seen| seen.target).as_deref(), Some("https://api.example/v1/x"));
}

#[tokio::test(flavor = "current_thread")]
async fn an_upgrade_is_judged_as_a_write_plainly_and_inside() {
    let mut world = world(writes(HOST, "UPGRADE", "/socket")).await;
    let socket = WEBSOCKET;
    let bearer = format!("authorization: Bearer {HANDLE}\r\n");
    for (head, rule) in [
        (format!("GET /socket\r\n{socket}"), "write.handle"),
        (format!("GET /socket\r\n{socket}authorization: Bearer other\r\n"), "write.credential"),
        (format!("GET /socket\r\n{socket}{bearer}cookie: s=1\r\n"), "write.credential"),
        (format!("GET /other\r\n{socket}{bearer}"), "upgrade.no-row"),
        (format!("POST /socket\r\n{socket}{bearer}"), "method.unknown"),
        (format!("UPGRADE /socket\r\nconnection: close\r\n{bearer}"), "method.unknown"),
        // What only looks like one, and what is another protocol.
        (
            format!("GET /socket\r\nconnection: close\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{bearer}"),
            "upgrade.unknown",
        ),
        (format!("GET /socket\r\nconnection: upgrade\r\nupgrade: h2c\r\n{bearer}"), "upgrade.unknown"),
        (format!("GET /socket\r\nconnection: upgrade\r\nupgrade: websocket, h2c\r\n{bearer}"), "upgrade.unknown"),
        (format!("GET /socket\r\nconnection: upgrade\r\nupgrade: connect-udp\r\n{bearer}"), "upgrade.unknown"),
    ] {
        let mut tls = world.tls("api.example:443", HOST, &[b"http/1.1"]).await.unwrap();
        let (line, more) = head.split_once("\r\n").unwrap();
        let got = talk(&mut tls, format!("{line} HTTP/1.1\r\nhost: {HOST}\r\n{more}\r\n").as_bytes()).await;
        assert_eq!((got.status, got.rule().as_str()), (403, rule), "{head}");
        assert_eq!(world.refusal().await.rule, rule, "{head}");
        world.nothing_left(&head);
    }
    // In the clear it is none, whatever the table says.
    let got = world.get(&format!("GET http://{HOST}/socket"), &format!("{socket}{bearer}")).await;
    assert_eq!(got.status, 403);
}

#[tokio::test(flavor = "current_thread")]
async fn a_message_or_a_ping_that_ends_as_the_credential_begins_waits_for_ten_seconds_and_no_longer() {
    for first in [0x81, 0x89] {
        let mut slow = 0;
        while !holds_for_ten_seconds(first).await {
            slow += 1;
            assert!(slow < 20, "the machine stands still for a second each time");
        }
    }
}

/// Shows it of messages that begin with this byte. False where nine seconds that passed, and those of the machine, were ten.
async fn holds_for_ten_seconds(first: u8) -> bool {
    let mut world = world(writes(HOST, "UPGRADE", "/socket")).await;
    let (mut tls, _) = world.websocket(HOST, "").await;
    let begun = host_frame(first, &[b"it is ", &TOKEN.as_bytes()[..5]].concat());
    let behind = host_frame(if first == 0x81 { 0x89 } else { 0x82 }, b"news");
    // It ends as the credential begins, too.
    let again = host_frame(first, &[b", no, it is ", &TOKEN.as_bytes()[..5]].concat());
    let decided = host_frame(first, b", no");
    let mut held_since = Instant::now();
    tls.write_all(&message(&begun)).await.unwrap();
    let mut came = vec![0; begun.len() - 5];
    soon("what is decided", tls.read_exact(&mut came)).await.unwrap();
    assert_eq!(came, begun[..begun.len() - 5]);
    // What shows that it is another word comes in time: all of it goes on, in its order. The second has ten seconds of its own.
    for (more, goes_on) in [
        ([&behind[..], &again].concat(), [&behind[..], &again[..again.len() - 5]].concat()),
        (decided.clone(), decided.clone()),
    ] {
        pass(Duration::from_secs(9)).await;
        let next = Instant::now();
        let mut came = vec![0; 5 + goes_on.len()];
        let coming = async {
            tls.write_all(&message(&more)).await?;
            tls.read_exact(&mut came).await
        };
        if let Err(error) = soon("the rest", coming).await {
            assert!(held_since.elapsed() > Duration::from_millis(900), "it was ended before ten seconds: {error}");
            return false;
        }
        assert_eq!(came, [&TOKEN.as_bytes()[..5], &goes_on].concat());
        held_since = next;
    }
    // It does not: neither it nor what stands behind it does, and that is told.
    tls.write_all(&message(&[&begun[..], &behind].concat())).await.unwrap();
    let mut came = vec![0; begun.len() - 5];
    soon("what is decided", tls.read_exact(&mut came)).await.unwrap();
    let mut rest = Vec::new();
    drop(past("its end", 10, tls.read_to_end(&mut rest)).await);
    assert_eq!(rest, b"");
    let refusal = world.refusal().await;
    assert_eq!(refusal.rule, "websocket.credential");
    assert!(refusal.why.contains("ten seconds"), "{}", refusal.why);
    true
}

#[tokio::test(flavor = "current_thread")]
async fn a_box_that_was_told_eight_letters_by_messages_that_wait_has_no_websocket_to_a_host_with_a_credential() {
    let mut world = world(writes(HOST, "UPGRADE", "/socket")).await;
    let (mut one, _) = world.websocket(HOST, "").await;
    let (mut other, _) = world.websocket(HOST, "").await;
    let hello = host_frame(0x81, b"hello");
    for (letters, more) in [(4, ", no"), (2, ", no"), (1, ", no")] {
        let begun = host_frame(0x81, &[b"it is ", &TOKEN.as_bytes()[..3 + letters]].concat());
        let decided = host_frame(0x81, more.as_bytes());
        one.write_all(&message(&[&begun[..], &decided].concat())).await.unwrap();
        let mut came = vec![0; begun.len() + decided.len()];
        soon("both", one.read_exact(&mut came)).await.unwrap();
        assert_eq!(came, [begun, decided].concat());
    }
    other.write_all(&message(&hello)).await.unwrap();
    let mut came = vec![0; hello.len()];
    soon("a word", other.read_exact(&mut came)).await.unwrap();
    // One letter more is the last.
    one.write_all(&message(&host_frame(0x81, &TOKEN.as_bytes()[..4]))).await.unwrap();
    let mut rest = Vec::new();
    drop(soon("the end", one.read_to_end(&mut rest)).await);
    assert_eq!(rest, b"");
    assert!(world.refusal().await.why.contains("not open to this box any more"));
    // Also of those that were open, for each would tell one more; and no other one opens.
    other.write_all(&message(&hello)).await.unwrap();
    drop(soon("the end", other.read_to_end(&mut rest)).await);
    assert_eq!(rest, b"");
    world.refusal().await;
    world.origin.seen();
    let (_, head) = world.websocket(HOST, "").await;
    assert!(head.starts_with("HTTP/1.1 403") && head.contains("volary-refused: websocket.credential"), "{head}");
    assert!(world.origin.seen().is_empty(), "the host was given nothing");
}
