//! HTTPS that the gateway opens: HTTP/1.1 and HTTP/2 on both sides, names that must agree, answers that come whole.

use crate::egress::world::{TOKEN, Tls, World, any, talk, writes};
use crate::house::{HANDLE, soon};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};

pub async fn two(tls: Tls) -> SendRequest<Full<Bytes>> {
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await.expect("HTTP/2");
    tokio::spawn(async move { drop(connection.await) });
    sender
}

async fn ask(
    sender: &mut SendRequest<Full<Bytes>>,
    request: http::request::Builder,
    body: &'static str,
) -> (StatusCode, HeaderMap, Bytes) {
    let request = request.body(Full::new(Bytes::from_static(body.as_bytes()))).expect("a request");
    let answer: Response<Incoming> = soon("an answer", sender.send_request(request)).await.expect("an answer");
    let (head, body) = answer.into_parts();
    let body = soon("a body", body.collect()).await.expect("a body").to_bytes();
    (head.status, head.headers, body)
}

fn rule(headers: &HeaderMap) -> &str {
    headers.get("volary-refused").map_or("", |value| value.to_str().expect("text"))
}

#[tokio::test(flavor = "current_thread")]
async fn each_pair_of_versions_works_and_an_upstream_that_offers_http_2_gets_it() {
    for (ours, theirs) in [(true, true), (true, false), (false, true), (false, false)] {
        let world = World::of(any(), theirs, |_| {}).await;
        let alpn: &[&[u8]] = if ours { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
        let tls = world.tls("a.example:443", "a.example", alpn).await.unwrap();
        if ours {
            let mut sender = two(tls).await;
            for path in ["/one", "/two"] {
                let (status, _, body) = ask(&mut sender, Request::get(format!("https://a.example{path}")), "").await;
                assert_eq!((status.as_u16(), body), (200, format!("GET {path}").into()));
            }
        } else {
            let mut tls = tls;
            let request = "GET /one HTTP/1.1\r\nhost: a.example\r\n\r\nGET /two HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n";
            let got = talk(&mut tls, request.as_bytes()).await;
            assert_eq!(got.status, 200);
            assert!(String::from_utf8_lossy(&got.body).contains("GET /two"));
        }
        let seen = world.origin.seen();
        let version = if theirs { Version::HTTP_2 } else { Version::HTTP_11 };
        assert_eq!(seen.len(), 2);
        assert!(seen.iter().all(|s| s.version == version), "{ours} {theirs}: {seen:?}");
        assert_eq!(world.origin.connected().len(), 1, "the connection was used again");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn over_http_2_the_same_is_refused_as_over_http_1() {
    let mut world = World::with(any()).await;
    let tls = world.tls("a.example:443", "a.example", &[b"h2"]).await.unwrap();
    let mut sender = two(tls).await;
    for (request, body, expected) in [
        (Request::post("https://a.example/"), "x", "write.no-row"),
        (Request::post("https://a.example/"), "", "write.no-row"),
        (Request::get("https://a.example/"), "a body", "read.body"),
        (Request::delete("https://a.example/"), "", "write.no-row"),
        (Request::get("https://b.example/"), "", "host.differs"),
        (Request::get("https://a.example:8443/"), "", "host.differs"),
        (Request::get("http://a.example/"), "", "host.differs"),
        (Request::get("https://a.example/").header("host", "b.example"), "", "host.differs"),
        (Request::get("https://a.example/").header("x-http-method-override", "PUT"), "", "method.override"),
        (Request::get("https://a.example/").header("authorization", "Bearer x"), "", "read.credential"),
        (Request::get(format!("https://a.example/?{HANDLE}")), "", "handle.misplaced"),
    ] {
        let what = format!("{request:?}");
        let (status, headers, body) = ask(&mut sender, request, body).await;
        assert_eq!((status.as_u16(), rule(&headers)), (403, expected), "{what}");
        assert!(String::from_utf8_lossy(&body).contains(expected), "{what}");
        assert_eq!(world.refusal().await.rule, expected, "{what}");
        world.nothing_left(&what);
    }
    let (status, ..) = ask(&mut sender, Request::get("https://a.example/still"), "").await;
    assert_eq!(status, 200, "the connection goes on");
}

#[tokio::test(flavor = "current_thread")]
async fn over_http_2_a_hundred_headers_are_taken_and_what_is_malformed_is_refused_and_recorded() {
    let mut world = World::with(any()).await;
    let mut sender = two(world.tls("a.example:443", "a.example", &[b"h2"]).await.unwrap()).await;
    let get = |headers: usize| {
        (0..headers).fold(Request::get("https://a.example/many"), |request, n| request.header(format!("x-{n}"), "1"))
    };
    let (status, ..) = ask(&mut sender, get(100), "").await;
    assert_eq!(status, 200);
    assert_eq!((world.origin.seen().len(), world.origin.connected().len()), (1, 1));
    for (request, expected) in [
        (get(101), 431),
        (get(1200), 431),
        (get(0).header("expect", "the-unexpected"), 417),
        (get(0).header("host", "a.example").header("host", "a.example"), 400),
        (get(0).method("VOLARY-REFUSED"), 400),
    ] {
        let what = format!("{request:?}");
        let what = &what[..what.len().min(200)];
        let (status, headers, _) = ask(&mut sender, request, "").await;
        assert_eq!((status.as_u16(), rule(&headers)), (expected, "request.malformed"), "{what}");
        assert_eq!(world.refusal().await.rule, "request.malformed", "{what}");
        world.nothing_left(what);
    }
    let (status, ..) = ask(&mut sender, get(1), "").await;
    assert_eq!(status, 200, "the connection goes on");
}

#[tokio::test(flavor = "current_thread")]
async fn over_http_2_a_handle_is_replaced_and_the_answer_scrubbed() {
    let world = World::with(writes("a.example", "POST", "/")).await;
    world.desk(|desk| desk.credential = Some((TOKEN.to_owned(), "a.example".to_owned(), 443)));
    let mut sender = two(world.tls("a.example:443", "a.example", &[b"h2"]).await.unwrap()).await;
    let request = Request::post("https://a.example/key").header("authorization", format!("Bearer {HANDLE}"));
    let (status, headers, body) = ask(&mut sender, request, "hi").await;
    assert_eq!(status, 200);
    assert_eq!(world.saw().header("authorization"), Some(format!("Bearer {TOKEN}").as_str()));
    assert!(!format!("{headers:?}").contains(TOKEN) && !String::from_utf8_lossy(&body).contains(TOKEN));
}

#[tokio::test(flavor = "current_thread")]
async fn the_name_in_tls_is_the_one_of_the_connect() {
    let mut world = World::with(any()).await;
    for name in ["b.example", "10.0.0.1.example", "a.example.b.example"] {
        assert!(world.tls("a.example:443", name, &[b"http/1.1"]).await.is_err(), "{name}");
        assert_eq!(world.refusal().await.rule, "tunnel.name");
        world.nothing_left(name);
    }
    // An address has no name in TLS, and the certificate is for the address.
    let mut tls = world.tls("93.184.216.34:443", "93.184.216.34", &[b"http/1.1"]).await.unwrap();
    let got = talk(&mut tls, b"GET /by-address HTTP/1.1\r\nhost: 93.184.216.34\r\nconnection: close\r\n\r\n").await;
    assert_eq!(got.status, 200);
}

#[tokio::test(flavor = "current_thread")]
async fn what_is_no_tls_in_a_tunnel_is_refused_at_once() {
    let mut world = World::with(any()).await;
    for bytes in [
        &b"SSH-2.0-x\r\n"[..],
        b"GET / HTTP/1.1\r\nhost: a.example\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello",
        b"\0\0\0\0\0\0",
    ] {
        let mut stream = world.connect("a.example:443").await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, bytes).await.unwrap();
        assert_eq!(world.refusal().await.rule, "tunnel.no-tls", "{bytes:?}");
        let mut rest = Vec::new();
        drop(soon("the end", tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest)).await);
        world.nothing_left("no TLS");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_host_whose_certificate_is_not_to_be_trusted_is_a_fault_and_gets_no_request() {
    let world = World::with(any()).await;
    for host in ["untrusted.example", "wrong.example"] {
        let got = world.https(host, "GET /", b"").await;
        assert_eq!((got.status, got.rule().as_str()), (502, "egress.tls"), "{host}");
        assert!(world.origin.seen().is_empty(), "{host}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn headers_of_one_connection_stay_on_it_in_both_directions() {
    let world = World::of(any(), false, |_| {}).await;
    let head = "GET /hops\r\nproxy-connection: keep-alive\r\nkeep-alive: 5\r\nte: trailers\r\nx-mine: 1\r\nx-private: 2\r\nconnection: x-private\r\n";
    let got = world.https("a.example", head, b"").await;
    assert_eq!(got.status, 200);
    let seen = world.saw();
    for name in
        ["proxy-connection", "keep-alive", "te", "x-private", "connection", "via", "forwarded", "x-forwarded-for"]
    {
        assert_eq!(seen.header(name), None, "{name}");
    }
    assert_eq!(seen.header("x-mine"), Some("1"));
    for name in ["keep-alive", "proxy-authenticate", "alt-svc"] {
        assert!(!got.head.contains(name), "{name}: {}", got.head);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn answers_come_whole_whatever_their_length() {
    let world = World::with(any()).await;
    for (path, length) in [("/big", 8 << 20), ("/empty", 0)] {
        let got = world.https("a.example", &format!("GET {path}"), b"").await;
        assert_eq!((got.status, got.body.len(), got.whole), (200, length, true), "{path}");
    }
    assert_eq!(world.https("a.example", "GET /none", b"").await.status, 204);
    let got = world.https("a.example", "HEAD /big", b"").await;
    assert_eq!((got.status, got.body.len()), (200, 0));
    assert!(got.head.contains("content-length: 8388608"), "{}", got.head);
    let got = world.https("a.example", "GET /gzip", b"").await;
    assert_eq!((got.status, got.head.contains("content-encoding: gzip")), (200, true), "a read is passed as it is");
}

#[tokio::test(flavor = "current_thread")]
async fn trailers_of_an_answer_come_through() {
    let world = World::with(any()).await;
    let mut sender = two(world.tls("a.example:443", "a.example", &[b"h2"]).await.unwrap()).await;
    let request = Request::get("https://a.example/trailers").body(Full::new(Bytes::new())).unwrap();
    let answer = soon("an answer", sender.send_request(request)).await.unwrap();
    let whole = soon("a body", answer.into_body().collect()).await.unwrap();
    assert_eq!(whole.trailers().and_then(|t| t.get("x-sum")).map(|v| v.as_bytes()), Some(&b"42"[..]));
    assert_eq!(whole.to_bytes(), "with trailers");
}

#[tokio::test(flavor = "current_thread")]
pub async fn two_runs_share_no_connection_and_trust_each_others_authority_not() {
    let mut world = World::with(any()).await;
    assert_eq!(world.https("a.example", "GET /first", b"").await.status, 200);
    let first = world.saw().client;
    let own = world.house.authority.clone();
    world.house.door = world.house.second_run().await;
    assert!(world.tls("a.example:443", "a.example", &[b"http/1.1"]).await.is_err(), "another authority signed");
    let got = world.get("GET http://a.example/", "").await;
    assert_eq!(got.status, 200);
    assert_ne!(world.saw().client, first);
    assert_eq!(own, world.house.authority);
}

#[tokio::test(flavor = "current_thread")]
async fn a_denial_tells_a_machine_and_a_model_what_it_is() {
    let world = World::with(any()).await;
    for (got, ask) in [
        (world.get("POST http://a.example/x", "content-length: 0\r\n").await, "Send it over https"),
        (world.https("a.example", "POST /x\r\ncontent-length: 0\r\n", b"").await, "policy and not a fault"),
        (world.connect("10.0.0.1:443").await.expect_err("refused"), "policy and not a fault"),
        (world.connect("127.0.0.1:443").await.expect_err("refused"), "an administrator may write one"),
        (world.get("GET http://a.example/x", "content-length: 1\r\n").await, "without a body"),
        (world.get("GET http://0x7f.1/x", "").await, "four decimal numbers"),
    ] {
        let error = got.json()["error"].clone();
        assert_eq!((got.status, &error["policy"], &error["retry"]), (403, &true.into(), &false.into()));
        assert_eq!(got.headers_rule(), error["rule"].as_str());
        for (field, words) in [("message", "not by a fault"), ("ask", ask), ("why", "")] {
            assert!(error[field].as_str().is_some_and(|text| text.contains(words)), "{field}: {error}");
        }
    }
}
