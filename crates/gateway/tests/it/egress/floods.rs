//! Peers that send without end what carries nothing: frames of HTTP/2 that are no request and no body, interim answers. The
//! connection ends, and others are answered meanwhile; what heavy use sends passes.

use crate::egress::world::{TOKEN, World, any, writes};
use crate::house::{HANDLE, ask, soon};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

#[tokio::test(flavor = "current_thread")]
async fn a_client_that_floods_with_frames_that_carry_nothing_is_ended_and_another_run_is_answered_meanwhile() {
    let get = frame(1, 5, 1, b"\x82\x87\x84\x41\x09a.example");
    for (what, first, again) in [
        ("WINDOW_UPDATE", vec![], frame(8, 0, 0, &[0, 0, 0, 1])),
        ("PRIORITY", vec![], frame(2, 0, 101, &[0, 0, 0, 0, 5])),
        ("PING", vec![], frame(6, 0, 0, b"12345678")),
        ("SETTINGS", vec![], frame(4, 0, 0, &[0, 4, 0, 0, 255, 255])),
        ("an answer to a PING that was none", vec![], frame(6, 1, 0, b"12345678")),
        ("RST_STREAM", get, frame(3, 0, 1, &[0, 0, 0, 8])),
        ("a kind that nobody knows", vec![], frame(77, 0, 0, b"x")),
    ] {
        let mut world = World::with(any()).await;
        let other = world.house.second_run().await;
        let tls = world.tls("a.example:443", "a.example", &[b"h2"]).await.unwrap();
        let (mut from, mut to) = tokio::io::split(tls);
        let start = [PREFACE, &frame(4, 0, 0, &[]), &first].concat();
        to.write_all(&start).await.unwrap();
        let ends = tokio::spawn(async move { drop(from.read_to_end(&mut Vec::new()).await) });
        let flood = async {
            let many = again.repeat(1000);
            for _ in 0..100 {
                if to.write_all(&many).await.is_err() {
                    break;
                }
            }
            soon(&format!("the end of {what}"), ends).await.expect("it read");
        };
        let request = "GET http://a.example/other HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n";
        let ((), got) = tokio::join!(flood, ask(other, request, b""));
        assert_eq!(got.status, 200, "{what}");
        let verdict = world.refusal().await;
        assert_eq!(verdict.rule, "request.flood", "{what}: {verdict:?}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn empty_pieces_of_a_body_without_end_are_ended_too() {
    let world = World::with(any()).await;
    let tls = world.tls("a.example:443", "a.example", &[b"h2"]).await.unwrap();
    let (mut from, mut to) = tokio::io::split(tls);
    let head = frame(1, 4, 1, b"\x82\x87\x84\x41\x09a.example");
    to.write_all(&[PREFACE, &frame(4, 0, 0, &[]), &head].concat()).await.unwrap();
    let ends = tokio::spawn(async move { drop(from.read_to_end(&mut Vec::new()).await) });
    let many = frame(0, 0, 1, &[]).repeat(1000);
    for _ in 0..100 {
        if to.write_all(&many).await.is_err() {
            break;
        }
    }
    soon("the end", ends).await.expect("it read");
}

/// What a host of this name sends before its answer: `hints-8.example` eight interim answers, `pings-8.example` eight PINGs.
pub fn before_the_answer(name: &str) -> Option<(&'static str, usize)> {
    let (what, count) = name.strip_suffix(".example")?.split_once('-')?;
    let what = ["hints", "pings"].into_iter().find(|known| *known == what)?;
    Some((what, count.parse().ok()?))
}

/// Answers one request so, over HTTP/2 or HTTP/1.1, and waits for the end.
pub async fn answer_after(mut stream: impl AsyncRead + AsyncWrite + Unpin, two: bool, (what, count): (&str, usize)) {
    let (before, answer) = if two {
        stream.read_exact(&mut [0; PREFACE.len()]).await.expect("a preface");
        stream.write_all(&frame(4, 0, 0, &[])).await.expect("taken");
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.expect("a frame");
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            stream.read_exact(&mut vec![0; length as usize]).await.expect("a frame");
            if head[3] == 1 {
                break;
            }
        }
        let before = if what == "hints" { frame(1, 4, 1, b"\x08\x03103") } else { frame(6, 0, 0, b"12345678") };
        (before, [frame(1, 4, 1, b"\x88"), frame(0, 1, 1, &[])].concat())
    } else {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a request"));
        }
        (b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec(), b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec())
    };
    let mut left = count;
    while left > 0 {
        let some = left.min(500);
        if stream.write_all(&before.repeat(some)).await.is_err() {
            return;
        }
        left -= some;
    }
    // Whoever has had enough is gone.
    drop(stream.write_all(&answer).await);
    drop(stream.read_to_end(&mut Vec::new()).await);
}

#[tokio::test(flavor = "current_thread")]
async fn a_host_has_eight_interim_answers_and_one_that_sends_more_or_never_ends_is_refused() {
    for over_two in [false, true] {
        let mut world = World::of(any(), over_two, |_| {}).await;
        let other = world.house.second_run().await;
        for (count, status) in [(0, 200), (8, 200), (9, 502), (1_000_000, 502)] {
            let name = format!("hints-{count}.example");
            world.names.set(&name, &[&[super::world::PUBLIC]]);
            let request = "GET http://a.example/other HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n";
            let asked = async { world.https(&name, "GET /", b"").await };
            let (got, others) = tokio::join!(asked, ask(other, request, b""));
            assert_eq!((got.status, others.status), (status, 200), "{count} over HTTP/2: {over_two}: {got:?}");
            if status != 200 {
                assert_eq!(got.headers_rule(), Some("egress.cut"), "{got:?}");
                assert!(String::from_utf8_lossy(&got.body).contains("The host broke off"), "{got:?}");
            }
        }
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_host_that_floods_with_frames_that_carry_nothing_is_refused_and_one_that_sends_many_is_not() {
    let mut world = World::with(any()).await;
    let other = world.house.second_run().await;
    for (count, status) in [(2000, 200), (1_000_000, 502)] {
        let name = format!("pings-{count}.example");
        world.names.set(&name, &[&[super::world::PUBLIC]]);
        let request = "GET http://a.example/other HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n";
        let asked = async { world.https(&name, "GET /", b"").await };
        let (got, others) = tokio::join!(asked, ask(other, request, b""));
        assert_eq!((got.status, others.status), (status, 200), "{count}: {got:?}");
        assert_eq!(got.headers_rule(), (status != 200).then_some("egress.cut"), "{got:?}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn downloads_uploads_pings_and_a_hundred_requests_at_once_over_http_2_are_no_flood() {
    let world = World::with(writes("a.example", "POST", "/")).await;
    world.desk(|desk| desk.credential = Some((TOKEN.to_owned(), "a.example".to_owned(), 443)));
    let tls = world.tls("a.example:443", "a.example", &[b"h2"]).await.unwrap();
    // Small windows, which are acknowledged often, and a question every moment whether we are there.
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(32 * 1024)
        .initial_connection_window_size(32 * 1024)
        .keep_alive_interval(Duration::from_millis(20))
        .keep_alive_timeout(Duration::from_secs(60))
        .handshake(TokioIo::new(tls))
        .await
        .expect("HTTP/2");
    tokio::spawn(async move { drop(connection.await) });
    let ask = |request: Request<Full<Bytes>>| {
        let mut sender = sender.clone();
        tokio::spawn(async move {
            let answer = sender.send_request(request).await.expect("an answer");
            let status = answer.status().as_u16();
            (status, answer.into_body().collect().await.expect("a whole answer").to_bytes().len())
        })
    };
    let get = |path: &str| Request::get(format!("https://a.example{path}")).body(Full::new(Bytes::new())).unwrap();
    // The first one tells the client how many there may be.
    assert_eq!(soon("an answer", ask(get("/first"))).await.unwrap().0, 200);
    let long = Bytes::from(vec![b'x'; 8 << 20]);
    let post = Request::post("https://a.example/echo").header("authorization", format!("Bearer {HANDLE}"));
    let upload = ask(post.body(Full::new(long.clone())).unwrap());
    let downloads = [(); 3].map(|()| ask(get("/big")));
    let many: Vec<_> = (0..100).map(|_| ask(get("/many"))).collect();
    for one in many {
        assert_eq!(soon("one of many", one).await.unwrap(), (200, "GET /many".len()));
    }
    for one in downloads.into_iter().chain([upload]) {
        assert_eq!(soon("a long one", one).await.unwrap(), (200, long.len()));
    }
    // The connection is as good as before.
    assert_eq!(soon("an answer", ask(get("/next"))).await.unwrap().0, 200);
}
