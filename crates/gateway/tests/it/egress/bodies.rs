//! Bodies and their ends, on both versions of HTTP and on both sides: what follows one body is the next request.

use crate::egress::inside::two;
use crate::egress::world::{TOKEN, World, talk, writes};
use crate::house::{HANDLE, soon, when};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use tokio::io::AsyncWriteExt as _;

const HOST: &str = "api.example";

async fn world(theirs: bool) -> World {
    let world = World::of(writes(HOST, "POST", "/"), theirs, |_| {}).await;
    world.names.set(HOST, &[&["93.184.216.34"]]);
    world.desk(|desk| desk.credential = Some((TOKEN.to_owned(), HOST.to_owned(), 443)));
    world
}

#[tokio::test(flavor = "current_thread")]
async fn a_host_over_http_2_is_told_that_its_trailers_are_taken_where_they_are() {
    for (theirs, asks, told) in [(true, true, Some("trailers")), (true, false, None), (false, true, None)] {
        let world = world(theirs).await;
        let mut sender = two(world.tls("api.example:443", HOST, &[b"h2"]).await.unwrap()).await;
        let mut request = Request::get(format!("https://{HOST}/trailers"));
        if asks {
            request = request.header("te", "trailers");
        }
        let answer = soon("an answer", sender.send_request(request.body(Full::default()).unwrap())).await.unwrap();
        let whole = soon("a body", answer.into_body().collect()).await.unwrap();
        // Over HTTP/1.1 the test's host sends them to who says so alone.
        assert_eq!(whole.trailers().is_some_and(|trailers| trailers["x-sum"] == "42"), theirs, "{theirs} {asks}");
        assert_eq!(world.saw().header("te"), told, "{theirs} {asks}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn bodies_over_http_2_come_through_whole_with_and_without_trailers_to_either_version() {
    for theirs in [true, false] {
        let world = world(theirs).await;
        let tls = world.tls("api.example:443", HOST, &[b"h2"]).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await.unwrap();
        tokio::spawn(async move { drop(connection.await) });
        for (what, pieces, trailer) in [
            ("pieces", &["hello", " ", "world"][..], false),
            ("pieces and a trailer", &["hello", " ", "world"], true),
            ("nothing and a trailer", &[], true),
            ("an empty piece", &[""], false),
            ("nothing", &[], false),
        ] {
            let mut frames: Vec<Result<Frame<Bytes>, Infallible>> =
                pieces.iter().map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes())))).collect();
            if trailer {
                let sum =
                    HeaderMap::from_iter([(http::HeaderName::from_static("x-sum"), HeaderValue::from_static("11"))]);
                frames.push(Ok(Frame::trailers(sum)));
            }
            let request = Request::post(format!("https://{HOST}/echo"))
                .header("authorization", format!("Bearer {HANDLE}"))
                .body(StreamBody::new(futures_util::stream::iter(frames)))
                .unwrap();
            let answer = soon("an answer", sender.send_request(request)).await.unwrap();
            assert_eq!(answer.status(), 200, "{what} {theirs}");
            let echoed = soon("a body", answer.into_body().collect()).await.unwrap().to_bytes();
            let seen = world.saw();
            assert_eq!(
                (echoed.as_ref(), seen.body.as_slice()),
                (pieces.concat().as_bytes(), pieces.concat().as_bytes())
            );
            // HTTP/1.1 has trailers only where they were announced before the body; they are dropped then, and no more.
            if theirs {
                assert_eq!(seen.trailers.is_some_and(|t| t.contains_key("x-sum")), trailer, "{what}");
            }
        }
        assert_eq!(world.origin.connected().len(), 1, "one connection took all of them");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn an_expectation_over_http_2_is_no_reason_to_wait_and_does_not_go_on() {
    for theirs in [true, false] {
        let world = world(theirs).await;
        let mut sender = two(world.tls("api.example:443", HOST, &[b"h2"]).await.unwrap()).await;
        let request = Request::post(format!("https://{HOST}/echo"))
            .header("authorization", format!("Bearer {HANDLE}"))
            .header("expect", "100-continue")
            .body(Full::new(Bytes::from_static(b"hello")))
            .unwrap();
        let answer = soon("an answer", sender.send_request(request)).await.unwrap();
        assert_eq!(soon("a body", answer.into_body().collect()).await.unwrap().to_bytes(), "hello");
        assert_eq!(world.saw().header("expect"), None);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn requests_with_bodies_in_one_breath_are_each_read_to_their_own_end() {
    for theirs in [true, false] {
        let world = world(theirs).await;
        let bearer = format!("authorization: Bearer {HANDLE}\r\n");
        let all = [
            format!("POST /echo HTTP/1.1\r\nhost: {HOST}\r\n{bearer}content-length: 3\r\n\r\none"),
            format!(
                "POST /echo HTTP/1.1\r\nhost: {HOST}\r\n{bearer}transfer-encoding: chunked\r\n\r\n3\r\ntwo\r\n0\r\n\r\n"
            ),
            format!("GET /three HTTP/1.1\r\nhost: {HOST}\r\n\r\n"),
            format!("POST /echo HTTP/1.1\r\nhost: {HOST}\r\n{bearer}content-length: 0\r\n\r\n"),
            format!("GET /five HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
        ];
        let mut tls = world.tls("api.example:443", HOST, &[b"http/1.1"]).await.unwrap();
        let got = talk(&mut tls, all.concat().as_bytes()).await;
        assert_eq!(got.status, 200);
        let seen: Vec<(String, String)> = world
            .origin
            .seen()
            .into_iter()
            .map(|seen| {
                let path = seen.target.rsplit('/').next().unwrap_or_default().to_owned();
                (path, String::from_utf8(seen.body).expect("text"))
            })
            .collect();
        let expected = [("echo", "one"), ("echo", "two"), ("three", ""), ("echo", ""), ("five", "")];
        let expected: Vec<(String, String)> = expected.map(|(path, body)| (path.into(), body.into())).into();
        assert_eq!(seen, expected, "HTTP/2 on the other side: {theirs}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_body_that_says_that_it_is_longer_than_1_gib_is_refused_before_any_of_it_is_sent() {
    let mut world = world(false).await;
    let head = |length: u64| format!("authorization: Bearer {HANDLE}\r\ncontent-length: {length}\r\n");
    let got = world.https(HOST, &format!("POST /echo\r\n{}", head((1 << 30) + 1)), b"").await;
    assert_eq!((got.status, got.headers_rule()), (413, Some("body.too-long")));
    assert_eq!(world.refusal().await.rule, "body.too-long");
    world.nothing_left("nothing of it left");
    // One of just that length is begun.
    let mut tls = world.tls("api.example:443", HOST, &[b"http/1.1"]).await.unwrap();
    let request = format!("POST /echo HTTP/1.1\r\nhost: {HOST}\r\n{}\r\nit begins", head(1 << 30));
    tls.write_all(request.as_bytes()).await.unwrap();
    when("a connection to its host", || !world.origin.connected().is_empty()).await;
}
