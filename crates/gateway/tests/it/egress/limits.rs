//! Time, sizes and counts on the way out: who is slow is cut, in either direction and at every step; what nobody takes
//! is not held; more than the number waits.
//!
//! Hours pass in moments here: [`pass`] moves the clock of the test's runtime, in which the gateway stands too.

use crate::egress::inside::two;
use crate::egress::world::{TOKEN, Tls, World, any, writes};
use crate::house::{Got, HANDLE, parse, pass, past, soon, when};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use model::Egress;
use model::egress::InternalRow;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const WRITER: &str = "a.example";

/// A world in which a handle may POST, and open a WebSocket.
async fn writing() -> World {
    let mut table = writes(WRITER, "POST", "/");
    table.write.extend(writes(WRITER, "UPGRADE", "/socket").write);
    let world = World::with(table).await;
    world.desk(|desk| desk.credential = Some((TOKEN.to_owned(), WRITER.to_owned(), 443)));
    world
}

/// An exception for a name inside, on a port that nobody serves yet.
fn inside() -> Egress {
    let row = InternalRow {
        host: "wiki.corp".to_owned(),
        port: 8081,
        addresses: vec!["10.2.3.0/24".to_owned()],
        why: String::new(),
    };
    Egress { internal: vec![row], ..any() }
}

/// A connection through the door on which these bytes were sent.
async fn saying(world: &World, bytes: &str) -> TcpStream {
    let mut stream = TcpStream::connect(world.house.door).await.expect("the door is open");
    stream.write_all(bytes.as_bytes()).await.expect("sent");
    stream
}

fn plain(path: &str) -> String {
    format!("GET http://a.example{path} HTTP/1.1\r\nhost: a.example\r\n\r\n")
}

async fn inner(world: &World) -> Tls {
    world.tls("a.example:443", "a.example", &[b"http/1.1"]).await.expect("TLS with the gateway")
}

/// Reads until this is there.
async fn until(stream: &mut (impl AsyncRead + Unpin), needle: &str) {
    soon(needle, async {
        let mut all = Vec::new();
        while !String::from_utf8_lossy(&all).contains(needle) {
            assert_ne!(stream.read_buf(&mut all).await.expect("read"), 0, "it ended: {}", all.escape_ascii());
        }
    })
    .await;
}

/// All that comes until the end, however it ends.
async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut all = Vec::new();
    drop(stream.read_to_end(&mut all).await);
    all
}

async fn answer(stream: &mut (impl AsyncRead + Unpin)) -> Got {
    parse(&rest(stream).await, true)
}

/// One letter of `/drip` reaches the box.
async fn drip(world: &World, stream: &mut (impl AsyncRead + Unpin)) -> bool {
    world.origin.flow.drop_one();
    let mut piece = [0; 64];
    let read = async {
        loop {
            match stream.read(&mut piece).await {
                Ok(0) | Err(_) => return false,
                Ok(length) if piece[..length].contains(&b'x') => return true,
                Ok(_) => {}
            }
        }
    };
    soon("a letter, or the end", read).await
}

#[tokio::test(flavor = "current_thread")]
async fn a_name_that_is_not_resolved_in_ten_seconds_is_given_up() {
    let world = World::with(any()).await;
    let mut asking =
        saying(&world, "GET http://silent.example/ HTTP/1.1\r\nhost: silent.example\r\nconnection: close\r\n\r\n")
            .await;
    when("a question", || world.desk(|desk| !desk.asked.is_empty())).await;
    let got = past("a fault", 10, answer(&mut asking)).await;
    assert_eq!((got.status, got.rule().as_str()), (502, "egress.name"));
}

#[tokio::test(flavor = "current_thread")]
async fn a_name_has_64_addresses_at_most() {
    let world = World::with(any()).await;
    let addresses = |count: u8| -> Vec<String> { (1..=count).map(|n| format!("93.184.216.{n}")).collect() };
    for (count, status) in [(64, 200), (65, 502)] {
        let addresses = addresses(count);
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        // Each a name of its own, to which no connection is kept.
        let name = format!("has-{count}.example");
        world.names.set(&name, &[&addresses]);
        let got = world.get(&format!("GET http://{name}/"), "").await;
        assert_eq!(got.status, status, "{count} addresses");
    }
}

/// A port of an address on which connections are taken by nobody: the kernel's queue is full.
async fn full(at: &str) -> (std::net::TcpListener, TcpStream) {
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .expect("a socket");
    let at: SocketAddr = at.parse().expect("an address");
    rustix::net::bind(&socket, &at).expect("bound");
    rustix::net::listen(&socket, 0).expect("listening");
    (socket.into(), TcpStream::connect(at).await.expect("one has room"))
}

#[tokio::test(flavor = "current_thread")]
async fn an_address_has_ten_seconds_and_of_a_name_four_are_tried() {
    let world = World::with(inside()).await;
    let mut queues = Vec::new();
    for last in 1..=4 {
        queues.push(full(&format!("10.2.3.{last}:8081")).await);
    }
    let alive = TcpListener::bind("10.2.3.5:8081").await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = alive.accept().await {
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await);
        }
    });
    let request = "GET http://wiki.corp:8081/ HTTP/1.1\r\nhost: wiki.corp:8081\r\nconnection: close\r\n\r\n";
    for (first, status) in [(2, 200), (1, 502)] {
        let addresses: Vec<String> = (first..=5).map(|last| format!("10.2.3.{last}")).collect();
        let names: Vec<&str> = addresses.iter().map(String::as_str).collect();
        world.names.set("wiki.corp", &[&names]);
        let mut asking = saying(&world, request).await;
        // Four that are asked and say nothing; the one that would is the fifth then.
        for last in first..=4 {
            when("a connection under way", || dials(last)).await;
            pass(Duration::from_secs(11)).await;
        }
        let got = soon("an answer", answer(&mut asking)).await;
        assert_eq!(got.status, status, "{addresses:?}");
        if status == 502 {
            assert_eq!(got.rule(), "egress.unreachable");
        }
    }
}

/// Whether somebody in this network dials `10.2.3.last`, port 8081.
fn dials(last: u8) -> bool {
    let table = std::fs::read_to_string("/proc/thread-self/net/tcp").expect("the kernel's table");
    let to = format!("{:08X}:{:04X} 02", u32::from_le_bytes([10, 2, 3, last]), 8081);
    table.lines().any(|line| line.contains(&to))
}

#[tokio::test(flavor = "current_thread")]
async fn a_host_that_says_nothing_in_tls_has_ten_seconds() {
    let world = World::with(inside()).await;
    world.names.set("wiki.corp", &[&["10.2.3.4"]]);
    let silent = TcpListener::bind("10.2.3.4:8081").await.unwrap();
    let mut tls = world.tls("wiki.corp:8081", "wiki.corp", &[b"http/1.1"]).await.expect("TLS with the gateway");
    let request = "GET / HTTP/1.1\r\nhost: wiki.corp:8081\r\nconnection: close\r\n\r\n";
    tls.write_all(request.as_bytes()).await.unwrap();
    let _taken = soon("a connection", silent.accept()).await.unwrap();
    let got = past("a fault", 10, answer(&mut tls)).await;
    assert_eq!((got.status, got.rule().as_str()), (502, "egress.tls"));
}

#[tokio::test(flavor = "current_thread")]
async fn a_companys_proxy_that_says_nothing_has_ten_seconds() {
    let proxy = gateway::OutwardProxy { host: "proxy.corp".to_owned(), port: 3128, resolves: false, sign_in: None };
    let world = World::of(any(), true, |outward| outward.proxy = Some(proxy)).await;
    world.names.set("proxy.corp", &[&["10.9.9.9"]]);
    let silent = TcpListener::bind("10.9.9.9:3128").await.unwrap();
    let mut asking = saying(&world, &plain("/").replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n")).await;
    let _taken = soon("a connection", silent.accept()).await.unwrap();
    let got = past("a fault", 10, answer(&mut asking)).await;
    assert_eq!((got.status, got.rule().as_str()), (502, "egress.proxy"));
}

#[tokio::test(flavor = "current_thread")]
async fn the_head_of_an_answer_has_120_seconds_and_64_kib() {
    let world = World::with(any()).await;
    let mut asking = saying(&world, &plain("/hang").replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n")).await;
    when("the request", || world.origin.flow.begun.load(Ordering::Relaxed) == 1).await;
    let got = past("a fault", 120, answer(&mut asking)).await;
    assert_eq!((got.status, got.headers_rule()), (502, Some("egress.slow")), "{got:?}");
    for two in [false, true] {
        let world = World::of(any(), two, |_| {}).await;
        let got = world.https("a.example", "GET /long-head", b"").await;
        assert_eq!((got.status, got.headers_rule()), (502, Some("egress.cut")), "{two}: {got:?}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn an_answer_that_pauses_for_a_minute_is_cut_and_one_that_drips_has_600_seconds() {
    let mut world = World::with(any()).await;
    let mut pauses = saying(&world, &plain("/drip")).await;
    until(&mut pauses, "first").await;
    pass(Duration::from_secs(30)).await;
    assert!(drip(&world, &mut pauses).await, "a pause of less than a minute is none");
    let got = past("its end", 60, rest(&mut pauses)).await;
    assert!(!got.ends_with(b"0\r\n\r\n"), "it looks whole: {}", got.escape_ascii());
    assert!(world.settled().await.interrupted);

    let mut drips = inner(&world).await;
    drips.write_all(b"GET /drip HTTP/1.1\r\nhost: a.example\r\n\r\n").await.unwrap();
    until(&mut drips, "first").await;
    let mut letters = 0;
    loop {
        pass(Duration::from_secs(40)).await;
        if !drip(&world, &mut drips).await {
            break;
        }
        letters += 1;
        assert!(letters < 15, "it is longer than 600 seconds");
    }
    assert!(letters > 4, "it was cut long before: {letters}");
    assert!(world.settled().await.interrupted);
}

#[tokio::test(flavor = "current_thread")]
async fn a_body_that_pauses_for_a_minute_is_refused_and_recorded() {
    for alpn in ["http/1.1", "h2"] {
        let mut world = writing().await;
        let tls = world.tls("a.example:443", WRITER, &[alpn.as_bytes()]).await.unwrap();
        let (status, rule) = if alpn == "h2" {
            let mut sender = two_streaming(tls).await;
            let body = half_a_body();
            let request = Request::post("https://a.example/echo").header("authorization", format!("Bearer {HANDLE}"));
            let answer = sender.send_request(request.body(body).unwrap());
            let mut answer = std::pin::pin!(answer);
            tokio::select! {
                _ = &mut answer => panic!("answered without its body"),
                () = when("the request", || world.origin.flow.begun.load(Ordering::Relaxed) == 1) => {}
            }
            let got = past("a refusal", 60, answer).await.expect("an answer");
            (got.status().as_u16(), got.headers()["volary-refused"].to_str().unwrap().to_owned())
        } else {
            let mut tls = tls;
            let head = format!(
                "POST /echo HTTP/1.1\r\nhost: {WRITER}\r\nauthorization: Bearer {HANDLE}\r\nconnection: close\r\ncontent-length: 10\r\n\r\nhalf"
            );
            tls.write_all(head.as_bytes()).await.unwrap();
            when("the request", || world.origin.flow.begun.load(Ordering::Relaxed) == 1).await;
            let got = past("a refusal", 60, answer(&mut tls)).await;
            (got.status, got.rule())
        };
        assert_eq!((status, rule.as_str()), (400, "body.slow"), "{alpn}");
        assert_eq!(world.refusal().await.rule, "body.slow", "{alpn}");
        assert!(world.origin.seen().is_empty(), "{alpn}: half a body was taken for whole");
    }
}

type Half = futures_util::stream::BoxStream<'static, Result<http_body::Frame<Bytes>, std::convert::Infallible>>;

/// A body of which half comes, and the rest never does.
fn half_a_body() -> http_body_util::StreamBody<Half> {
    use futures_util::StreamExt as _;
    let half = futures_util::stream::iter([Ok(http_body::Frame::data(Bytes::from_static(b"half")))]);
    http_body_util::StreamBody::new(half.chain(futures_util::stream::pending()).boxed())
}

async fn two_streaming(tls: Tls) -> hyper::client::conn::http2::SendRequest<http_body_util::StreamBody<Half>> {
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await.expect("HTTP/2");
    tokio::spawn(async move { drop(connection.await) });
    sender
}

#[tokio::test(flavor = "current_thread")]
async fn a_client_that_takes_nothing_for_a_minute_is_cut_and_little_was_held_for_it() {
    let mut world = World::with(any()).await;
    // Plainly, inside TLS, and one request of several over HTTP/2.
    let mut takes_nothing = saying(&world, &plain("/endless")).await;
    until(&mut takes_nothing, "www").await;
    assert!(past("its end", 60, world.settled()).await.interrupted);

    let mut takes_nothing = inner(&world).await;
    takes_nothing.write_all(b"GET /endless HTTP/1.1\r\nhost: a.example\r\n\r\n").await.unwrap();
    until(&mut takes_nothing, "www").await;
    assert!(past("its end", 60, world.settled()).await.interrupted);

    world.origin.flow.poured.store(0, Ordering::Relaxed);
    let mut sender = two(world.tls("a.example:443", "a.example", &[b"h2"]).await.unwrap()).await;
    let request = Request::get("https://a.example/endless").body(Full::new(Bytes::new())).unwrap();
    let mut answer = soon("an answer", sender.send_request(request)).await.unwrap();
    soon("a piece", answer.body_mut().frame()).await.expect("a piece").expect("a piece");
    assert!(past("its end", 60, world.settled()).await.interrupted);
    let poured = world.origin.flow.poured.load(Ordering::Relaxed);
    assert!(poured < 8 << 20, "{poured} bytes were held for one request that nobody takes");
    // The connection itself is good, and others on it go on.
    let request = Request::get("https://a.example/next").body(Full::new(Bytes::new())).unwrap();
    assert_eq!(soon("an answer", sender.send_request(request)).await.unwrap().status(), 200);
}

#[tokio::test(flavor = "current_thread")]
async fn http_2_that_never_asks_anything_or_stops_in_a_head_is_cut() {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let world = World::with(any()).await;
    // Nothing at all; half a preface; no request; a head of which half comes.
    let half_a_head = [PREFACE, b"\0\0\x40\x01\x04\0\0\0\x01\x82"].concat();
    for (what, bytes) in [
        ("nothing", &b""[..]),
        ("half a preface", &PREFACE[..10]),
        ("no request", PREFACE),
        ("half a head", &half_a_head),
    ] {
        let mut tls = world.tls("a.example:443", "a.example", &[b"h2"]).await.unwrap();
        tls.write_all(bytes).await.unwrap();
        drop(past(what, 30, rest(&mut tls)).await);
    }
    // After a request that was good: nobody answers the question whether he is there.
    let mut tls = world.tls("a.example:443", "a.example", &[b"h2"]).await.unwrap();
    let request = [PREFACE, b"\0\0\x0e\x01\x05\0\0\0\x01\x82\x87\x84\x41\x09a.example"].concat();
    tls.write_all(&request).await.unwrap();
    when("the request", || world.origin.flow.begun.load(Ordering::Relaxed) == 1).await;
    drop(past("the end of who does not answer", 50, rest(&mut tls)).await);
}

#[tokio::test(flavor = "current_thread")]
async fn a_websocket_that_pauses_for_a_minute_is_cut_and_none_is_longer_than_600_seconds() {
    let mut world = writing().await;
    for pauses in [true, false] {
        let (mut tls, _) = world.websocket(WRITER, "").await;
        let said = super::writes::host_frame(0x82, &[b'a'; 4096]);
        let long = super::writes::frame(&said);
        let mut echoes = 0;
        loop {
            let mut echo = vec![0; said.len()];
            let sent = tls.write_all(&long).await.is_ok();
            if !sent || soon("an echo, or the end", tls.read_exact(&mut echo)).await.is_err() {
                break;
            }
            if pauses {
                drop(past("its end", 60, rest(&mut tls)).await);
                break;
            }
            pass(Duration::from_secs(40)).await;
            echoes += 1;
            assert!(echoes < 16, "it is longer than 600 seconds");
        }
        assert!(pauses || echoes > 4, "it was cut long before: {echoes}");
        assert!(world.settled().await.interrupted);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn more_than_64_connections_out_of_one_run_wait_and_others_do_not() {
    let mut world = World::of(any(), false, |_| {}).await;
    let other = world.house.second_run().await;
    let begun = || world.origin.flow.begun.load(Ordering::Relaxed);
    let mut held = Vec::new();
    // Over HTTP/2, so that they are few connections of the box.
    for _ in 0..2 {
        let mut sender = two(world.tls("a.example:443", "a.example", &[b"h2"]).await.unwrap()).await;
        for _ in 0..32 {
            let request = Request::get("https://a.example/hang").body(Full::new(Bytes::new())).unwrap();
            let answer = sender.send_request(request);
            held.push(tokio::spawn(async move { drop(answer.await) }));
            // Each has TLS of its own with its host, which has ten seconds.
            if held.len().is_multiple_of(8) {
                when("these requests", || begun() == held.len()).await;
            }
        }
    }
    when("64 requests", || begun() == 64).await;
    let mut waits = saying(&world, &plain("/waits")).await;
    when("its question", || world.desk(|desk| desk.asked.len() == 65)).await;
    // Another run has connections of its own, and it was asked after the one that waits.
    let request = "GET http://a.example/other HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n";
    assert_eq!(crate::house::ask(other, request, b"").await.status, 200);
    assert_eq!((begun(), world.origin.connected().len()), (65, 65), "the 65th of the run was connected too");
    held.pop().expect("one").abort();
    until(&mut waits, "GET /waits").await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_33rd_request_on_one_http_2_connection_waits() {
    let world = World::with(any()).await;
    let mut sender = two(world.tls("a.example:443", "a.example", &[b"h2"]).await.unwrap()).await;
    let mut held = Vec::new();
    // The first one tells the client how many there may be.
    let request = Request::get("https://a.example/first").body(Full::new(Bytes::new())).unwrap();
    assert_eq!(soon("an answer", sender.send_request(request)).await.unwrap().status(), 200);
    for _ in 0..33 {
        let request = Request::get("https://a.example/hang").body(Full::new(Bytes::new())).unwrap();
        let answer = sender.send_request(request);
        held.push(tokio::spawn(async move { drop(answer.await) }));
    }
    when("32 requests", || world.origin.flow.begun.load(Ordering::Relaxed) == 33).await;
    // What is said on another connection comes later, and is there.
    assert_eq!(world.get("GET http://a.example/later", "").await.status, 200);
    assert_eq!(world.desk(|desk| desk.asked.len()), 34, "the 33rd was let in");
    held.remove(0).abort();
    when("the one that waited", || world.desk(|desk| desk.asked.len()) == 35).await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_257th_request_of_a_run_over_all_its_http_2_connections_is_told_so_at_once() {
    let world = World::with(any()).await;
    let mut held = Vec::new();
    let connect = async || two(world.tls("a.example:443", "a.example", &[b"h2"]).await.unwrap()).await;
    let get = |path: &str| Request::get(format!("https://a.example{path}")).body(Full::new(Bytes::new())).unwrap();
    let mut senders = Vec::new();
    for _ in 0..8 {
        let mut sender = connect().await;
        for _ in 0..32 {
            let answer = sender.send_request(get("/hang"));
            held.push(tokio::spawn(async move { drop(answer.await) }));
            if held.len() == 1 {
                // The others go over its connection: TLS with a host has ten seconds, which 64 at once may not have.
                when("the first at its host", || world.origin.flow.begun.load(Ordering::Relaxed) == 1).await;
            }
        }
        senders.push(sender);
    }
    when("256 requests", || world.desk(|desk| desk.asked.len()) == 256).await;
    let mut more = connect().await;
    let answer = soon("an answer", more.send_request(get("/more"))).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.headers()["volary-refused"].to_str().unwrap()),
        (503, "egress.crowded")
    );
    assert_eq!(world.desk(|desk| desk.asked.len()), 256, "it was asked about");
    // The end of one makes room.
    held.remove(0).abort();
    let again = async {
        while more.send_request(get("/more")).await.unwrap().status() == 503 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = again => {}
        () = when("room", || world.desk(|desk| desk.asked.len()) == 257) => {}
    }
}

#[tokio::test(flavor = "current_thread")]
async fn thirty_two_unused_connections_are_kept_for_45_seconds() {
    let world = World::of(any(), false, |_| {}).await;
    // Two more at once than are kept; then all have come to their end.
    let many = async || {
        let begun = world.origin.flow.begun.load(Ordering::Relaxed);
        let mut all = Vec::new();
        for _ in 0..34 {
            all.push(saying(&world, &plain("/wait")).await);
        }
        when("all requests", || world.origin.flow.begun.load(Ordering::Relaxed) == begun + 34).await;
        all.iter().for_each(|_| world.origin.flow.drop_one());
        for mut one in all {
            until(&mut one, "waited").await;
        }
        world.origin.connected().len()
    };
    assert_eq!(many().await, 34);
    assert_eq!(many().await, 2, "32 were kept");
    pass(Duration::from_secs(20)).await;
    assert_eq!(many().await, 2, "32 were kept for 20 seconds");
    pass(Duration::from_secs(46)).await;
    assert_eq!(many().await, 34, "none was kept for 46 seconds");
}
