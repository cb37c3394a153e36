//! A handle at any place but its own: refused, recorded, and no host sees it.

use crate::egress::inside::two;
use crate::egress::world::{TOKEN, World, talk, writes};
use crate::house::{HANDLE, soon};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::io::AsyncWriteExt as _;

const HOST: &str = "api.example";

async fn world(method: &str) -> World {
    let world = World::with(writes(HOST, method, "/")).await;
    world.names.set(HOST, &[&["93.184.216.34"]]);
    world.desk(|desk| desk.credential = Some((TOKEN.to_owned(), HOST.to_owned(), 443)));
    world
}

/// What no host may have seen of a handle.
fn unseen(world: &World, what: &str) {
    for seen in world.origin.seen() {
        let text = format!("{} {:?} {}", seen.target, seen.headers, String::from_utf8_lossy(&seen.body));
        for hidden in [HANDLE.to_owned(), STANDARD.encode(HANDLE), URL_SAFE_NO_PAD.encode(HANDLE)] {
            assert!(!text.contains(&hidden), "{what}: {text}");
        }
    }
    world.origin.connected();
}

#[tokio::test(flavor = "current_thread")]
async fn an_encoded_handle_in_a_url_or_a_header_is_refused_and_recorded_without_it() {
    let mut world = world("POST").await;
    let base = STANDARD.encode(format!("key={HANDLE}"));
    let url = URL_SAFE_NO_PAD.encode(HANDLE);
    let percent = HANDLE.replacen("vh_", "%76h%5F", 1);
    for head in [
        format!("GET /{percent}"),
        format!("GET /?q={percent}"),
        format!("GET /{url}"),
        format!("GET /?x={url}&y=1"),
        format!("GET /\r\nx-note: {base}\r\n"),
        format!("GET /\r\ncookie: a=b; s={url}\r\n"),
        format!("GET /\r\nuser-agent: curl/{percent}\r\n"),
        format!("GET /\r\nauthorization: Bearer {base}\r\n"),
        format!("POST /\r\nauthorization: Bearer {HANDLE}\r\nx-trace: {url}\r\ncontent-length: 0\r\n"),
        format!("POST /\r\nauthorization: Basic {}\r\n", STANDARD.encode(format!("joe:{base}"))),
    ] {
        let got = world.https(HOST, &head, b"").await;
        let rule = if head.contains("Basic") { "write.credential" } else { "handle.misplaced" };
        assert_eq!((got.status, got.rule().as_str()), (403, rule), "{head}");
        let verdict = format!("{:?}", world.refusal().await);
        for hidden in [HANDLE, &percent, &url] {
            assert!(!verdict.contains(hidden), "{head}: {verdict}");
        }
        unseen(&world, &head);
    }
    // As a name, which a name server outside would be asked for.
    for target in [format!("GET http://{HANDLE}.example/"), format!("GET http://x.{HANDLE}.example/")] {
        let got = world.get(&target, "").await;
        assert_eq!((got.status, got.rule().as_str()), (403, "handle.misplaced"), "{target}");
        assert!(!format!("{:?}", world.refusal().await).contains(HANDLE));
        assert_eq!(world.names.asked(&format!("{HANDLE}.example")), 0);
        world.nothing_left(&target);
    }
    let refused = world.connect(&format!("{HANDLE}.example:443")).await.expect_err("refused");
    assert_eq!(refused.rule(), "handle.misplaced");
    assert!(!format!("{:?}", world.refusal().await).contains(HANDLE));
}

#[tokio::test(flavor = "current_thread")]
async fn a_handle_in_a_body_is_refused_and_recorded_however_it_is_cut_and_never_whole_at_its_host() {
    let mut world = world("POST").await;
    let head =
        format!("POST /echo HTTP/1.1\r\nhost: {HOST}\r\nauthorization: Bearer {HANDLE}\r\nconnection: close\r\n");
    let base = STANDARD.encode(format!("my key: {HANDLE}"));
    for (what, body) in [
        ("alone", HANDLE.to_owned()),
        ("in JSON", format!("{{\"key\": \"{HANDLE}\"}}")),
        ("in a form", format!("a=b&key={}", HANDLE.replacen('_', "%5f", 1))),
        ("in base64", base),
        ("at the end of much", format!("{}{HANDLE}", "x".repeat(100_000))),
    ] {
        for piece in [body.len(), 1000, 20, 1] {
            if piece < 20 && body.len() > 1000 {
                continue;
            }
            let mut tls = world.tls("api.example:443", HOST, &[b"http/1.1"]).await.unwrap();
            let chunks: String = body
                .as_bytes()
                .chunks(piece)
                .map(|piece| format!("{:x}\r\n{}\r\n", piece.len(), String::from_utf8_lossy(piece)))
                .collect();
            let request = format!("{head}transfer-encoding: chunked\r\n\r\n{chunks}0\r\n\r\n");
            let got = talk(&mut tls, request.as_bytes()).await;
            assert_eq!((got.status, got.rule().as_str()), (400, "handle.misplaced"), "{what} by {piece}");
            let verdict = world.refusal().await;
            assert_eq!(verdict.rule, "handle.misplaced", "{what} by {piece}");
            unseen(&world, what);
        }
        let mut tls = world.tls("api.example:443", HOST, &[b"http/1.1"]).await.unwrap();
        let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
        assert_eq!(talk(&mut tls, request.as_bytes()).await.rule(), "handle.misplaced", "{what} with a length");
        world.refusal().await;
        unseen(&world, what);
    }
    // Its beginning alone is nobody's handle.
    let mut tls = world.tls("api.example:443", HOST, &[b"http/1.1"]).await.unwrap();
    let request = format!("{head}content-length: 54\r\n\r\n{}", &HANDLE[..54]);
    assert_eq!(talk(&mut tls, request.as_bytes()).await.text(), &HANDLE[..54]);
}

#[tokio::test(flavor = "current_thread")]
async fn over_http_2_and_in_trailers_a_handle_is_found_as_well() {
    let mut world = world("POST").await;
    let mut sender = two(world.tls("api.example:443", HOST, &[b"h2"]).await.unwrap()).await;
    let request = Request::post(format!("https://{HOST}/echo")).header("authorization", format!("Bearer {HANDLE}"));
    let request = request.body(Full::new(Bytes::from(format!("key: {HANDLE}")))).unwrap();
    let answer = soon("an answer", sender.send_request(request)).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.headers()["volary-refused"].as_bytes()),
        (400, b"handle.misplaced".as_slice())
    );
    assert_eq!(world.refusal().await.rule, "handle.misplaced");
    unseen(&world, "a body over HTTP/2");
    for trailer in
        [format!("x-note: {HANDLE}"), format!("x-note: {}", STANDARD.encode(HANDLE)), format!("x-{HANDLE}: 1")]
    {
        let mut tls = world.tls("api.example:443", HOST, &[b"http/1.1"]).await.unwrap();
        let request = format!(
            "POST /echo HTTP/1.1\r\nhost: {HOST}\r\nauthorization: Bearer {HANDLE}\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n{trailer}\r\n\r\n"
        );
        drop(tls.write_all(request.as_bytes()).await);
        drop(tls.flush().await);
        assert_eq!(world.refusal().await.rule, "handle.misplaced", "in a trailer");
        unseen(&world, "a trailer");
    }
    for trailer in ["private-token: other", "cookie: a=b", "x-http-method-override: DELETE", "upgrade: h2c"] {
        let mut tls = world.tls("api.example:443", HOST, &[b"http/1.1"]).await.unwrap();
        let request = format!(
            "POST /echo HTTP/1.1\r\nhost: {HOST}\r\nauthorization: Bearer {HANDLE}\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n{trailer}\r\n\r\n"
        );
        drop(tls.write_all(request.as_bytes()).await);
        drop(tls.flush().await);
        assert_eq!(world.refusal().await.rule, "request.malformed", "{trailer}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_handle_for_another_host_is_refused_there_and_shown_to_nobody() {
    let mut world = world("POST").await;
    // The table has a row for one host alone.
    let post = format!("POST /\r\nauthorization: Bearer {HANDLE}\r\ncontent-length: 0\r\n");
    for (host, head, rule) in [
        ("a.example", post.clone(), "write.no-row"),
        ("a.example", format!("GET /\r\nauthorization: Bearer {HANDLE}\r\n"), "handle.no-row"),
        (HOST, format!("GET /\r\nauthorization: Bearer {HANDLE}\r\n"), "handle.no-row"),
    ] {
        let got = world.https(host, &head, b"").await;
        assert_eq!((got.status, got.rule().as_str()), (403, rule), "{host}: {head}");
        assert_eq!(world.refusal().await.rule, rule);
        world.nothing_left(host);
    }
    // And plainly, where everybody on the way would read it.
    let plain = world.get(&format!("GET http://{HOST}/"), &format!("authorization: Bearer {HANDLE}\r\n")).await;
    assert_eq!(plain.status, 403);
    world.nothing_left("plainly");
}
