//! Requests that can be read in two ways: each is refused at once, plainly and inside TLS, and no host sees a byte.

use crate::egress::world::{World, any, talk};

/// Shapes that have more than one reading. `H` stands for what names the host plainly, `` inside.
const SHAPES: [(&str, &str); 46] = [
    (
        "length and chunks",
        "GET @/ HTTP/1.1\r\nhost: a.example\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunks and length",
        "GET @/ HTTP/1.1\r\nhost: a.example\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
    ),
    ("two lengths", "GET @/ HTTP/1.1\r\nhost: a.example\r\ncontent-length: 0\r\ncontent-length: 5\r\n\r\nabcde"),
    ("two equal lengths", "GET @/ HTTP/1.1\r\nhost: a.example\r\ncontent-length: 0\r\ncontent-length: 0\r\n\r\n"),
    ("a list of lengths", "GET @/ HTTP/1.1\r\nhost: a.example\r\ncontent-length: 0, 0\r\n\r\n"),
    ("a signed length", "GET @/ HTTP/1.1\r\nhost: a.example\r\ncontent-length: +5\r\n\r\nabcde"),
    ("a negative length", "GET @/ HTTP/1.1\r\nhost: a.example\r\ncontent-length: -1\r\n\r\n"),
    ("a length in hexadecimal", "GET @/ HTTP/1.1\r\nhost: a.example\r\ncontent-length: 0x5\r\n\r\nabcde"),
    ("an empty length", "GET @/ HTTP/1.1\r\nhost: a.example\r\ncontent-length:\r\n\r\n"),
    ("a length beyond numbers", "GET @/ HTTP/1.1\r\nhost: a.example\r\ncontent-length: 99999999999999999999\r\n\r\n"),
    ("a length with a space", "GET @/ HTTP/1.1\r\nhost: a.example\r\ncontent-length: 1 0\r\n\r\n"),
    ("encoding identity", "GET @/ HTTP/1.1\r\nhost: a.example\r\ntransfer-encoding: identity\r\n\r\n"),
    (
        "encoding gzip, chunked",
        "GET @/ HTTP/1.1\r\nhost: a.example\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "encoding chunked, identity",
        "GET @/ HTTP/1.1\r\nhost: a.example\r\ntransfer-encoding: chunked, identity\r\n\r\n",
    ),
    ("encoding xchunked", "GET @/ HTTP/1.1\r\nhost: a.example\r\ntransfer-encoding: xchunked\r\n\r\n"),
    ("encoding with a quote", "GET @/ HTTP/1.1\r\nhost: a.example\r\ntransfer-encoding: \"chunked\"\r\n\r\n"),
    (
        "encoding twice",
        "GET @/ HTTP/1.1\r\nhost: a.example\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    ("encoding with a vertical tab", "GET @/ HTTP/1.1\r\nhost: a.example\r\ntransfer-encoding: \u{b}chunked\r\n\r\n"),
    ("encoding in HTTP/1.0", "GET @/ HTTP/1.0\r\nhost: a.example\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("a space before the colon", "GET @/ HTTP/1.1\r\nhost: a.example\r\ncontent-length : 5\r\n\r\nabcde"),
    ("a tab before the colon", "GET @/ HTTP/1.1\r\nhost: a.example\r\ntransfer-encoding\t: chunked\r\n\r\n"),
    ("a header without a colon", "GET @/ HTTP/1.1\r\nhost: a.example\r\ncontent-length 5\r\n\r\n"),
    ("an empty name", "GET @/ HTTP/1.1\r\nhost: a.example\r\n: x\r\n\r\n"),
    ("a folded header", "GET @/ HTTP/1.1\r\nhost: a.example\r\nx-a: b\r\n content-length: 5\r\n\r\nabcde"),
    ("a folded first header", "GET @/ HTTP/1.1\r\n host: a.example\r\n\r\n"),
    ("a fold by tab", "GET @/ HTTP/1.1\r\nhost: a.example\r\nx-a: b\r\n\tc\r\n\r\n"),
    ("bare line feeds", "GET @/ HTTP/1.1\nhost: a.example\n\n"),
    ("one bare line feed", "GET @/ HTTP/1.1\r\nhost: a.example\nx: y\r\n\r\n"),
    ("a bare carriage return", "GET @/ HTTP/1.1\r\nhost: a.example\rx: y\r\n\r\n"),
    ("a bare line feed at the end", "GET @/ HTTP/1.1\r\nhost: a.example\r\n\n"),
    ("a zero byte", "GET @/ HTTP/1.1\r\nhost: a.example\r\nx: a\0b\r\n\r\n"),
    ("an empty line before it", "\r\nGET @/ HTTP/1.1\r\nhost: a.example\r\n\r\n"),
    ("two spaces", "GET  @/ HTTP/1.1\r\nhost: a.example\r\n\r\n"),
    ("a tab in the line", "GET\t@/ HTTP/1.1\r\nhost: a.example\r\n\r\n"),
    ("a space in the target", "GET @/a b HTTP/1.1\r\nhost: a.example\r\n\r\n"),
    ("no version", "GET @/\r\nhost: a.example\r\n\r\n"),
    ("HTTP/2.0 in the line", "GET @/ HTTP/2.0\r\nhost: a.example\r\n\r\n"),
    ("HTTP/1.2", "GET @/ HTTP/1.2\r\nhost: a.example\r\n\r\n"),
    ("lower-case http", "GET @/ http/1.1\r\nhost: a.example\r\n\r\n"),
    ("no host", "GET @/ HTTP/1.1\r\nx: y\r\n\r\n"),
    ("two hosts", "GET @/ HTTP/1.1\r\nhost: a.example\r\nhost: a.example\r\n\r\n"),
    ("a method that is no token", "G(T @/ HTTP/1.1\r\nhost: a.example\r\n\r\n"),
    ("the method that stands for a refused one", "VOLARY-REFUSED @/ HTTP/1.1\r\nhost: a.example\r\n\r\n"),
    ("another expectation", "GET @/ HTTP/1.1\r\nhost: a.example\r\nexpect: 200-ok\r\n\r\n"),
    (
        "an upgrade with a body",
        "GET @/ HTTP/1.1\r\nhost: a.example\r\nupgrade: websocket\r\ncontent-length: 5\r\n\r\nabcde",
    ),
    ("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
];

#[tokio::test(flavor = "current_thread")]
async fn a_request_with_two_readings_has_none() {
    let mut world = World::with(any()).await;
    for (what, shape) in SHAPES {
        let got = world.raw(shape.replace('@', "http://a.example").as_bytes()).await;
        assert!(matches!(got.status, 400 | 417 | 431), "{what}: {}", got.status);
        assert_eq!(
            (got.rule(), world.refusal().await.rule),
            ("request.malformed".into(), "request.malformed".into()),
            "{what}"
        );
        world.nothing_left(what);
        let mut tls = world.tls("a.example:443", "a.example", &[b"http/1.1"]).await.unwrap();
        let got = talk(&mut tls, shape.replace('@', "").as_bytes()).await;
        assert!(matches!(got.status, 400 | 417 | 431), "{what}, inside: {}", got.status);
        assert_eq!(world.refusal().await.rule, "request.malformed", "{what}, inside");
        world.nothing_left(what);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_connection_whose_request_to_leave_http_was_refused_is_read_no_further() {
    let mut world = World::with(any()).await;
    // What follows has two readings, and would be read by one of them only.
    let second = "GET http://a.example/second#x HTTP/1.1\nhost: a.example\n\n";
    for first in [
        "GET /nothing HTTP/1.1\r\nhost: x\r\nupgrade: foo\r\n\r\n",
        "GET http://a.example/ HTTP/1.1\r\nhost: a.example\r\nconnection: upgrade\r\nupgrade: foo\r\n\r\n",
        "CONNECT 10.0.0.1:443 HTTP/1.1\r\nhost: 10.0.0.1:443\r\n\r\n",
    ] {
        let got = world.raw(format!("{first}{second}").as_bytes()).await;
        assert_eq!(got.status, 403, "{first}");
        assert!(got.head.to_ascii_lowercase().contains("connection: close"), "{}", got.head);
        assert!(!got.text().contains("HTTP/1.1"), "one answer and no more: {}", got.text());
        drop(world.refusal().await);
        world.nothing_left(first);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn places_that_name_a_host_must_agree() {
    let mut world = World::with(any()).await;
    for (what, request) in [
        ("Host of another", "GET http://a.example/ HTTP/1.1\r\nhost: b.example\r\nconnection: close\r\n\r\n"),
        ("Host of another port", "GET http://a.example/ HTTP/1.1\r\nhost: a.example:8080\r\nconnection: close\r\n\r\n"),
        ("Host of an address", "GET http://a.example/ HTTP/1.1\r\nhost: 10.0.0.1\r\nconnection: close\r\n\r\n"),
        ("CONNECT with Host of another", "CONNECT a.example:443 HTTP/1.1\r\nhost: b.example:443\r\n\r\n"),
        ("CONNECT with another port", "CONNECT a.example:443 HTTP/1.1\r\nhost: a.example:80\r\n\r\n"),
    ] {
        let got = world.raw(request.as_bytes()).await;
        assert_eq!((got.status, got.rule().as_str()), (403, "host.differs"), "{what}");
        assert_eq!(world.refusal().await.rule, "host.differs");
        world.nothing_left(what);
    }
    for (what, request) in [
        ("Host of another", "GET / HTTP/1.1\r\nhost: b.example\r\nconnection: close\r\n\r\n"),
        ("another port", "GET / HTTP/1.1\r\nhost: a.example:80\r\nconnection: close\r\n\r\n"),
        ("absolute for another", "GET https://b.example/ HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n"),
        ("absolute and plain", "GET http://a.example/ HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n"),
    ] {
        let mut tls = world.tls("a.example:443", "a.example", &[b"http/1.1"]).await.unwrap();
        let got = talk(&mut tls, request.as_bytes()).await;
        assert_eq!((got.status, got.rule().as_str()), (403, "host.differs"), "{what}, inside");
        assert_eq!(world.refusal().await.rule, "host.differs");
        world.nothing_left(what);
    }
    let mut tls = world.tls("a.example:443", "a.example", &[b"http/1.1"]).await.unwrap();
    let got = talk(&mut tls, b"CONNECT b.example:443 HTTP/1.1\r\nhost: b.example:443\r\n\r\n").await;
    assert_eq!(got.rule(), "connect.inside");
}

#[tokio::test(flavor = "current_thread")]
async fn chunks_that_are_not_plain_are_refused_and_no_second_request_is_read_out_of_them() {
    let mut world = World::with(super::world::writes("a.example", "POST", "/")).await;
    world.desk(|desk| desk.credential = Some((super::world::TOKEN.into(), "a.example".into(), 443)));
    for (what, body) in [
        ("an extension", "5;x=y\r\nhello\r\n0\r\n\r\n"),
        ("a space", "5 \r\nhello\r\n0\r\n\r\n"),
        ("a prefix", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("a sign", "+5\r\nhello\r\n0\r\n\r\n"),
        ("no size", "\r\nhello\r\n0\r\n\r\n"),
        ("a bare line feed", "5\nhello\r\n0\r\n\r\n"),
        ("a wrong end", "5\r\nhelloXX0\r\n\r\n"),
        ("a size beyond numbers", "ffffffffffffffff1\r\nhello\r\n0\r\n\r\n"),
        ("a length in the trailers", "5\r\nhello\r\n0\r\ncontent-length: 3\r\n\r\n"),
        ("a credential in the trailers", "5\r\nhello\r\n0\r\nauthorization: x\r\n\r\n"),
        ("a fold in the trailers", "5\r\nhello\r\n0\r\nx: y\r\n z\r\n\r\n"),
    ] {
        let head = format!(
            "POST /echo HTTP/1.1\r\nhost: a.example\r\nauthorization: Bearer {}\r\ntransfer-encoding: chunked\r\n\r\n",
            crate::house::HANDLE
        );
        let smuggled = "GET /smuggled HTTP/1.1\r\nhost: a.example\r\n\r\n";
        let mut tls = world.tls("a.example:443", "a.example", &[b"http/1.1"]).await.unwrap();
        drop(tokio::io::AsyncWriteExt::write_all(&mut tls, [&head, body, smuggled].concat().as_bytes()).await);
        drop(tokio::io::AsyncWriteExt::flush(&mut tls).await);
        assert_eq!(world.refusal().await.rule, "request.malformed", "{what}");
        assert!(world.origin.seen().iter().all(|seen| seen.body != b"hello"), "{what}: the body was taken for whole");
        assert!(world.origin.seen().iter().all(|seen| seen.target != "/smuggled"), "{what}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn pipelined_requests_are_answered_in_order_and_the_first_bad_one_is_the_last() {
    let mut world = World::with(any()).await;
    let good = |n: u8| format!("GET http://a.example/{n} HTTP/1.1\r\nhost: a.example\r\n\r\n");
    let bad = "GET http://a.example/ HTTP/1.1\r\nhost : a.example\r\n\r\n";
    let all = [good(1), good(2), bad.to_owned(), good(3)].concat();
    let got = world.raw(all.as_bytes()).await;
    assert_eq!(got.status, 200);
    let rest = String::from_utf8_lossy(&got.body).into_owned();
    assert!(rest.contains("GET /2") && rest.contains("request.malformed"), "{rest}");
    let seen: Vec<String> = world.origin.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(seen, ["/1", "/2"]);
    assert_eq!(world.refusal().await.rule, "request.malformed");
}
