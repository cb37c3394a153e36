//! Writes, and reads with a handle: what a row allows, with the credential of that row, and nothing else.

use crate::egress::inside::two;
use crate::egress::world::{TOKEN, World, any, talk, writes};
use crate::house::{HANDLE, soon};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};

const HOST: &str = "api.example";

async fn world(method: &str, path: &str) -> World {
    let world = World::with(writes(HOST, method, path)).await;
    world.names.set(HOST, &[&["93.184.216.34"]]);
    world.desk(|desk| desk.credential = Some((TOKEN.to_owned(), HOST.to_owned(), 443)));
    world
}

fn post(path: &str, more: &str, length: usize) -> String {
    format!("POST {path}\r\n{more}content-length: {length}\r\n")
}

#[tokio::test(flavor = "current_thread")]
async fn no_write_leaves_without_a_row() {
    let mut world = World::with(any()).await;
    for (head, rule) in [
        ("POST /", "write.no-row"),
        ("PUT /", "write.no-row"),
        ("PATCH /", "write.no-row"),
        ("DELETE /", "write.no-row"),
        ("OPTIONS /", "method.unknown"),
        ("TRACE /", "method.unknown"),
        ("PROPFIND /", "method.unknown"),
        ("get /", "method.unknown"),
        ("Get /", "method.unknown"),
        ("GETX /", "method.unknown"),
        ("POST /?x=1\r\ncontent-length: 0\r\n", "write.no-row"),
        ("GET /\r\ncontent-length: 1\r\n", "read.body"),
        ("HEAD /\r\ncontent-length: 1\r\n", "read.body"),
        ("GET /\r\ntransfer-encoding: chunked\r\n", "read.body"),
        ("GET /\r\nexpect: 100-continue\r\n", "read.body"),
        ("GET /\r\nx-http-method-override: DELETE\r\n", "method.override"),
        ("GET /\r\nX-Method-Override: POST\r\n", "method.override"),
        ("GET /\r\nx-http-method: PUT\r\n", "method.override"),
        ("GET /\r\nx_http_method_override: PUT\r\n", "method.override"),
        ("GET /\r\nx-original-url: /admin\r\n", "method.override"),
        ("GET /\r\nx-rewrite-url: /admin\r\n", "method.override"),
        ("GET /\r\nx-forwarded-host: b.example\r\n", "method.override"),
        ("GET /\r\nforwarded: host=b.example\r\n", "method.override"),
        ("GET /?_method=DELETE", "method.override"),
        ("GET /?x=1&_METHOD=delete", "method.override"),
        ("GET /\r\nauthorization: Bearer abc\r\n", "read.credential"),
        ("GET /\r\nauthorization: Basic am9lOnB3\r\n", "read.credential"),
        ("GET /\r\nx-api-key: abc\r\n", "read.credential"),
        ("GET /\r\nprivate-token: abc\r\n", "read.credential"),
        ("GET /\r\nupgrade: websocket\r\nconnection: upgrade\r\n", "upgrade.no-row"),
        ("GET /\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n", "upgrade.no-row"),
        ("GET /\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "upgrade.no-row"),
    ] {
        let host = "a.example";
        let plain = {
            let (line, more) = head.split_once("\r\n").unwrap_or((head, ""));
            world.get(&line.replacen(" /", " http://a.example/", 1), more).await
        };
        // Plainly some are refused for being plain first.
        let recorded = world.refusal().await.rule;
        assert_eq!((plain.status, plain.headers_rule()), (403, Some(recorded.as_str())), "{head}");
        let inside = world.https(host, head, b"").await;
        assert_eq!((inside.status, inside.headers_rule()), (403, Some(rule)), "{head}, inside");
        assert_eq!(world.refusal().await.rule, rule, "{head}, inside");
        assert!(world.origin.seen().is_empty() && world.origin.connected().is_empty(), "{head}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn the_credential_takes_the_handles_place_wherever_a_credential_can_stand() {
    let world = world("POST", "/v1").await;
    for (shown, sent) in [
        (format!("authorization: Bearer {HANDLE}"), ("authorization", format!("Bearer {TOKEN}"))),
        (format!("Authorization: token {HANDLE}"), ("authorization", format!("token {TOKEN}"))),
        (format!("private-token: {HANDLE}"), ("private-token", TOKEN.to_owned())),
        (format!("x-api-key: {HANDLE}"), ("x-api-key", TOKEN.to_owned())),
        (
            format!("authorization: Basic {}", STANDARD.encode(format!("{HANDLE}:"))),
            ("authorization", format!("Basic {}", STANDARD.encode(format!("{TOKEN}:")))),
        ),
        (
            format!("authorization: Basic {}", STANDARD.encode(format!("{HANDLE}:x-oauth-basic"))),
            ("authorization", format!("Basic {}", STANDARD.encode(format!("{TOKEN}:x-oauth-basic")))),
        ),
    ] {
        let got = world.https(HOST, &post("/v1/things", &format!("{shown}\r\n"), 2), b"hi").await;
        assert_eq!(got.status, 200, "{shown}: {}", String::from_utf8_lossy(&got.body));
        let seen = world.saw();
        assert_eq!(seen.header(sent.0), Some(sent.1.as_str()), "{shown}");
        assert_eq!((seen.method.as_str(), seen.body.as_slice()), ("POST", &b"hi"[..]));
        assert!(!format!("{:?}", seen.headers).contains(HANDLE));
        let asked = world.desk(|desk| desk.asked.pop()).expect("it was asked for");
        assert_eq!((asked.rule.as_str(), asked.capability.as_deref()), ("write.row", Some("api")));
        assert_eq!(asked.handle_sha256.map(|hex| hex.len()), Some(64));
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_live_value_leaves_by_no_read_and_beside_no_handle() {
    let mut world = world("POST", "/v1").await;
    world.names.set("a.example", &[&["93.184.216.34"]]);
    let shown = format!("authorization: Bearer {HANDLE}\r\n");
    assert_eq!(world.https(HOST, &post("/v1/things", &shown, 2), b"hi").await.status, 200);
    world.saw();
    let percent: String = TOKEN.bytes().map(|byte| format!("%{byte:02X}")).collect();
    for (host, head) in [
        ("a.example", format!("GET /?x={TOKEN}")),
        ("a.example", format!("GET /a/{TOKEN}/b")),
        ("a.example", format!("GET /?x={percent}")),
        ("a.example", format!("GET /?x={}", STANDARD.encode(TOKEN))),
        ("a.example", format!("HEAD /\r\nuser-agent: {TOKEN}\r\n")),
        ("a.example", format!("GET /\r\ncookie: a={TOKEN}\r\n")),
        ("a.example", format!("GET /\r\nx-note: {}\r\n", STANDARD.encode(TOKEN))),
        (HOST, post("/v1/things", &format!("{shown}x-note: {TOKEN}\r\n"), 0)),
    ] {
        let got = world.https(host, &head, b"").await;
        assert_eq!((got.status, got.headers_rule()), (403, Some("value.misplaced")), "{head}");
        assert_eq!(world.refusal().await.rule, "value.misplaced", "{head}");
        assert!(world.origin.seen().is_empty(), "{head}");
    }
    let plain = world.get(&format!("GET http://a.example/?x={TOKEN}"), "").await;
    assert_eq!((plain.status, plain.headers_rule()), (403, Some("value.misplaced")));
    world.refusal().await;
    assert_eq!(world.https("a.example", "GET /?x=another", b"").await.status, 200);
}

#[tokio::test(flavor = "current_thread")]
async fn a_handle_anywhere_else_is_refused_recorded_and_never_leaves() {
    let mut world = world("POST", "/").await;
    let basic = STANDARD.encode(format!("joe:{HANDLE}"));
    for (head, rule) in [
        (format!("POST /?key={HANDLE}\r\ncontent-length: 0\r\n"), "handle.misplaced"),
        (format!("POST /{HANDLE}\r\ncontent-length: 0\r\n"), "handle.misplaced"),
        (format!("GET /{HANDLE}"), "handle.misplaced"),
        (format!("GET /?{HANDLE}"), "handle.misplaced"),
        (format!("POST /\r\nx-note: {HANDLE}\r\ncontent-length: 0\r\n"), "handle.misplaced"),
        (format!("GET /\r\nuser-agent: {HANDLE}\r\n"), "handle.misplaced"),
        (format!("GET /\r\nreferer: https://b.example/?{HANDLE}\r\n"), "handle.misplaced"),
        (format!("POST /\r\ncookie: s={HANDLE}\r\ncontent-length: 0\r\n"), "handle.misplaced"),
        (format!("POST /\r\nauthorization: Basic {basic}\r\ncontent-length: 0\r\n"), "handle.misplaced"),
        (format!("POST /\r\nauthorization: Bearer x{HANDLE}\r\ncontent-length: 0\r\n"), "handle.misplaced"),
        (
            format!("POST /\r\nauthorization: Bearer {HANDLE}\r\nx-api-key: {HANDLE}\r\ncontent-length: 0\r\n"),
            "handle.misplaced",
        ),
        (format!("POST /\r\nproxy-authorization: Bearer {HANDLE}\r\ncontent-length: 0\r\n"), "handle.misplaced"),
    ] {
        let got = world.https(HOST, &head, b"").await;
        assert_eq!((got.status, got.rule().as_str()), (403, rule), "{head}");
        let verdict = world.refusal().await;
        assert_eq!(verdict.rule, rule, "{head}");
        assert!(!format!("{verdict:?}").contains(HANDLE), "{head}");
        world.origin.connected();
        assert!(world.origin.seen().is_empty(), "{head}");
    }
    world.origin.connected();
    let target = format!(
        "CONNECT {HOST}:443 HTTP/1.1\r\nhost: {HOST}:443\r\nproxy-authorization: Basic {}\r\n\r\n",
        STANDARD.encode(format!("{HANDLE}:"))
    );
    assert_eq!(world.raw(target.as_bytes()).await.rule(), "connect.credential");
    world.nothing_left("a handle for the proxy");
}

#[tokio::test(flavor = "current_thread")]
async fn a_write_carries_this_runs_handle_and_no_other_credential_over_https_within_its_row() {
    let mut world = world("POST", "/v1").await;
    let bearer = format!("authorization: Bearer {HANDLE}\r\n");
    for (head, rule) in [
        (post("/v1", "", 0), "write.handle"),
        (post("/v1", "authorization: Bearer other\r\n", 0), "write.credential"),
        (post("/v1", &format!("{bearer}x-api-key: other\r\n"), 0), "write.credential"),
        (post("/v1", &format!("{bearer}cookie: s=1\r\n"), 0), "write.credential"),
        (post("/v1", &format!("{bearer}fastly-key: other\r\n"), 0), "write.credential"),
        (post("/v1", &format!("{bearer}DD-APPLICATION-KEY: other\r\n"), 0), "write.credential"),
        (post("/v1?private_token=other", &bearer, 0), "write.credential"),
        (post("/v1?a=b&PRIVATE%5FTOKEN%5B%5D=other", &bearer, 0), "write.credential"),
        (post("/v1/x;access_token=other", &bearer, 0), "write.credential"),
        (post("/v10", &bearer, 0), "write.no-row"),
        (post("/", &bearer, 0), "write.no-row"),
        (post("/v1/../admin", &bearer, 0), "write.path"),
        (post("/v1/%2e%2e/admin", &bearer, 0), "write.path"),
        (post("/v1/..;/admin", &bearer, 0), "write.path"),
        (post("/v1//admin", &bearer, 0), "write.path"),
        (post("/v1%2fadmin", &bearer, 0), "write.path"),
        (post("/v1", &bearer, 0).replacen("POST", "PUT", 1), "write.no-row"),
        (post("/v1", &bearer, 0).replacen("POST", "DELETE", 1), "write.no-row"),
        (format!("GET /v1\r\n{bearer}"), "handle.no-row"),
    ] {
        let got = world.https(HOST, &head, b"").await;
        assert_eq!((got.status, got.rule().as_str()), (403, rule), "{head}");
        assert_eq!(world.refusal().await.rule, rule, "{head}");
        world.nothing_left(&head);
        // Who has a row is told what to do next, whose path is read in several ways to write it plainly, and who has no
        // row to leave it.
        let told = got.text();
        let has_row = matches!(rule, "write.handle" | "write.credential");
        assert_eq!(told.contains("ask the tool `lease` for the capability"), has_row, "{told}");
        assert_eq!(told.contains("written plainly"), rule == "write.path", "{told}");
        assert_eq!(told.contains("Do not send this again"), !has_row && rule != "write.path", "{told}");
    }
    let got = world.get(&format!("POST http://{HOST}/v1"), &format!("{bearer}content-length: 0\r\n")).await;
    assert_eq!(got.status, 403);
    world.nothing_left("a plain write");
}

#[tokio::test(flavor = "current_thread")]
async fn the_address_of_a_write_holds_no_credential_by_its_format_or_its_value_and_that_of_a_read_may() {
    let mut world = world("POST", "/v1").await;
    let bearer = format!("authorization: Bearer {HANDLE}\r\n");
    assert_eq!(world.https(HOST, &post("/v1?note=tok-canary-83b1f5d2", &bearer, 0), b"").await.status, 200);
    // From now on this gateway knows the value that it put in.
    world.saw();
    world.origin.connected();
    let forge = format!("glpat-{}", "Ab1Cd2Ef3Gh4Ij5Kl6Mn");
    let percent = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
    for target in [
        format!("/v1?note={forge}"),
        format!("/v1?note=a{}", percent(&format!(" {forge}"))),
        format!("/v1?{forge}"),
        format!("/v1/{forge}/x"),
        format!("/v1?q={TOKEN}"),
        format!("/v1?q={}", percent(TOKEN)),
        format!("/v1?q={}", STANDARD.encode(TOKEN)),
    ] {
        let got = world.https(HOST, &post(&target, &bearer, 0), b"").await;
        assert_eq!((got.status, got.rule().as_str()), (403, "write.credential"), "{target}");
        assert_eq!(world.refusal().await.rule, "write.credential", "{target}");
        world.nothing_left(&target);
    }
    let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    let ordinary = format!("/v1?sha256={digest}&page_token=CAESBgoEZ2xwYXQ&id=3f2504e0-4f89-41d3-9a0c-0305e82c3301");
    let more = format!("{bearer}idempotency-key: 3f2504e0-4f89-41d3-9a0c-0305e82c3301\r\n");
    assert_eq!(world.https(HOST, &post(&ordinary, &more, 0), b"").await.status, 200);
    assert!(world.saw().target.ends_with(&ordinary));
    // Addresses of downloads are signed.
    for target in [format!("/x?note={forge}"), "/x?X-Amz-Signature=0a1b&X-Amz-Credential=c&sig=d".to_owned()] {
        assert_eq!(world.https("a.example", &format!("GET {target}"), b"").await.status, 200, "{target}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn each_of_the_four_facts_is_needed() {
    let bearer = format!("authorization: Bearer {HANDLE}\r\n");
    let mut world = world("POST", "/").await;
    // The handle is another host's, or another port's.
    for (host, port) in [("b.example", 443), ("api.example.b.example", 443), (HOST, 8443)] {
        world.desk(|desk| desk.credential = Some((TOKEN.to_owned(), host.to_owned(), port)));
        let got = world.https(HOST, &post("/v1", &bearer, 0), b"").await;
        assert_eq!((got.status, got.rule().as_str()), (403, "inject.host"));
        assert_eq!(world.refusal().await.rule, "inject.host");
    }
    // The server knows no credential for it.
    world.desk(|desk| desk.credential = None);
    assert_eq!(world.https(HOST, &post("/v1", &bearer, 0), b"").await.rule(), "inject.none");
    assert!(world.origin.seen().is_empty());
    // Its certificate is not to be trusted, or another's.
    for host in ["untrusted.example", "wrong.example"] {
        world.legislate(writes(host, "POST", "/")).await;
        world.desk(|desk| desk.credential = Some((TOKEN.to_owned(), host.to_owned(), 443)));
        let got = world.https(host, &post("/v1", &bearer, 0), b"").await;
        assert_eq!((got.status, got.rule().as_str()), (502, "egress.tls"), "{host}");
        assert!(world.origin.seen().is_empty(), "{host}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_handle_inside_tls_that_names_no_host_or_another_one_than_the_request_goes_nowhere() {
    let mut world = world("POST", "/").await;
    let target = format!("{HOST}:443");
    for sni in [false, true] {
        // Where TLS names the host, Host and :authority name another.
        let named = if sni { "b.example" } else { HOST };
        let rule = if sni { "host.differs" } else { "inject.name" };
        let what = format!("TLS names it: {sni}");
        let mut one = world.tls_of(&target, HOST, sni, &[b"http/1.1"]).await.unwrap();
        let head = format!("POST /v1 HTTP/1.1\r\nhost: {named}\r\nauthorization: Bearer {HANDLE}\r\n");
        let got = talk(&mut one, format!("{head}content-length: 0\r\nconnection: close\r\n\r\n").as_bytes()).await;
        assert_eq!((got.status, got.rule().as_str()), (403, rule), "{what}");
        assert_eq!(world.refusal().await.rule, rule, "{what}");
        let mut sender = two(world.tls_of(&target, HOST, sni, &[b"h2"]).await.unwrap()).await;
        let request = Request::post(format!("https://{named}/v1")).header("authorization", format!("Bearer {HANDLE}"));
        let answer =
            soon("an answer", sender.send_request(request.body(Full::new(Bytes::new())).unwrap())).await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.headers()["volary-refused"].as_bytes()), (403, rule.as_bytes()));
        assert_eq!(world.refusal().await.rule, rule, "{what}, over HTTP/2");
        assert!(world.origin.seen().is_empty(), "{what}");
    }
    // Without a name in TLS what needs no credential passes; with it, the same write does.
    let mut nameless = world.tls_of("a.example:443", "a.example", false, &[b"http/1.1"]).await.unwrap();
    let read = b"GET /read HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n";
    assert_eq!(talk(&mut nameless, read).await.status, 200);
    assert!(world.saw().target.ends_with("/read"));
    let bearer = format!("authorization: Bearer {HANDLE}\r\n");
    assert_eq!(world.https(HOST, &post("/v1", &bearer, 0), b"").await.status, 200);
}

#[tokio::test(flavor = "current_thread")]
async fn a_redirect_a_part_or_an_encoded_answer_to_a_write_is_not_passed() {
    let mut world = world("POST", "/").await;
    let bearer = format!("authorization: Bearer {HANDLE}\r\n");
    for (path, rule) in [("/redirect", "write.redirect"), ("/gzip", "write.encoding"), ("/part", "write.partial")] {
        let got = world.https(HOST, &post(path, &bearer, 0), b"").await;
        assert_eq!((got.status, got.rule().as_str()), (502, rule));
        assert!(!got.head.contains("location"));
        assert_eq!(world.refusal().await.rule, rule);
        assert!(world.saw().target.ends_with(path));
        world.origin.connected();
    }
    world.nothing_left("nothing was followed");
    // A read's redirect is the box's to follow, by a request that is judged like any other.
    let got = world.https("a.example", "GET /redirect", b"").await;
    assert_eq!((got.status, got.head.contains("location: http://10.0.0.1/")), (302, true));
    assert_eq!(world.get("GET http://10.0.0.1/", "").await.rule(), "host.private");
}

#[tokio::test(flavor = "current_thread")]
async fn an_answer_that_says_the_credential_is_scrubbed_in_body_and_headers() {
    let world = world("GET", "/").await;
    for shown in [format!("authorization: Bearer {HANDLE}\r\n"), format!("private-token: {HANDLE}\r\n")] {
        let got = world.https(HOST, &format!("GET /key\r\n{shown}"), b"").await;
        assert_eq!(got.status, 200);
        assert_eq!(world.saw().method, "GET");
        assert!(got.text().contains("you are") && !got.text().contains(TOKEN) && !got.head.contains(TOKEN), "{got:?}");
        assert!(got.head.contains("x-you-are"), "{}", got.head);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_host_that_signs_in_who_shows_a_credential_gives_the_box_no_cookie_and_takes_none() {
    let mut world = world("POST", "/").await;
    world.names.set("a.example", &[&["93.184.216.34"]]);
    // Who showed none is told what a host likes to set.
    assert!(world.https("a.example", "GET /signed-in", b"").await.head.contains("session=minted"));
    let shown = format!("authorization: Bearer {HANDLE}\r\n");
    let got = world.https(HOST, &post("/signed-in", &shown, 0), b"").await;
    assert_eq!((got.status, got.head.contains("x-plain")), (200, true), "{}", got.head);
    assert!(!got.head.contains("minted") && got.text().contains("signed in"), "{got:?}");
    let mut sender = two(world.tls("api.example:443", HOST, &[b"h2"]).await.unwrap()).await;
    let request = Request::post(format!("https://{HOST}/signed-in")).header("te", "trailers");
    let request = request.header("authorization", format!("Bearer {HANDLE}")).body(Full::new(Bytes::new())).unwrap();
    let answer = soon("an answer", sender.send_request(request)).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers().get("set-cookie")), (200, None));
    let whole = soon("a body", answer.into_body().collect()).await.unwrap();
    let trailers = whole.trailers().expect("trailers");
    assert!(trailers.contains_key("x-sum") && !trailers.contains_key("set-cookie"), "{trailers:?}");
    world.origin.seen();
    // Nor does a plain read of it take one, whoever it was set for.
    for head in ["GET /v2\r\ncookie: session=minted\r\n", "HEAD /\r\ncookie: a=b\r\n"] {
        let got = world.https(HOST, head, b"").await;
        assert_eq!((got.status, got.headers_rule()), (403, Some("read.cookie")), "{head}");
        assert_eq!(world.refusal().await.rule, "read.cookie");
        assert!(world.origin.seen().is_empty(), "{head}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn what_would_hide_a_part_of_an_answer_is_dropped_from_a_request_with_a_credential_and_from_no_other() {
    let world = world("GET", "/with").await;
    let more = "range: bytes=0-1\r\nif-none-match: \"x\"\r\nif-modified-since: x\r\nif-range: \"x\"\r\naccept-encoding: gzip\r\n";
    assert_eq!(world.https(HOST, &format!("GET /without\r\n{more}"), b"").await.status, 200);
    let seen = world.saw();
    assert_eq!((seen.header("range"), seen.header("accept-encoding")), (Some("bytes=0-1"), Some("gzip")));
    let got = world.https(HOST, &format!("GET /with\r\nauthorization: Bearer {HANDLE}\r\n{more}"), b"").await;
    assert_eq!(got.status, 200);
    let seen = world.saw();
    for name in ["range", "if-none-match", "if-modified-since", "if-range"] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    assert_eq!(seen.header("accept-encoding"), Some("identity"));
}

/// A binary message of a client's, masked with nothing, in one frame.
pub fn frame(payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("a short one").to_be_bytes();
    [&[0x82, 0x80 | 126][..], &length, &[0; 4], payload].concat()
}

#[tokio::test(flavor = "current_thread")]
async fn a_handle_in_a_masked_message_of_a_websocket_and_what_is_no_frame_end_it_and_are_recorded() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mask = [0x5a, 0xc3, 0x17, 0x88];
    let mut hidden = frame(format!("take {HANDLE}").as_bytes());
    hidden[4..8].copy_from_slice(&mask);
    for (n, byte) in hidden[8..].iter_mut().enumerate() {
        *byte ^= mask[n % 4];
    }
    for (what, rule) in [(hidden, "handle.websocket"), (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "websocket.frame")] {
        let mut world = world("UPGRADE", "/socket").await;
        let (mut tls, _) = world.websocket(HOST, "").await;
        tls.write_all(&what).await.unwrap();
        let mut rest = Vec::new();
        drop(crate::house::soon("the end", tls.read_to_end(&mut rest)).await);
        assert_eq!(rest, b"", "the host heard it and said it back");
        assert_eq!(world.refusal().await.rule, rule);
    }
}

/// A frame of a host's, for a host that says what it is sent.
pub fn host_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("a short one").to_be_bytes();
    [&[first, 126][..], &length, payload].concat()
}

#[tokio::test(flavor = "current_thread")]
async fn a_websocket_that_a_row_allows_passes_both_ways_and_is_cut_before_it_says_the_credential() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (one, two) = TOKEN.as_bytes().split_at(9);
    for (what, says) in [
        ("a message", host_frame(0x81, format!("you are {TOKEN}").as_bytes())),
        ("a message in two frames", [host_frame(0x01, one), host_frame(0x80, two)].concat()),
        ("a ping between them", [host_frame(0x02, one), host_frame(0x89, b"there?"), host_frame(0x80, two)].concat()),
        ("two messages", [host_frame(0x81, one), host_frame(0x81, two)].concat()),
        ("the reason of a close", host_frame(0x88, &[&[3, 232][..], TOKEN.as_bytes()].concat())),
    ] {
        let mut world = world("UPGRADE", "/socket").await;
        let (mut tls, answer) = world.websocket(HOST, "sec-websocket-extensions: permessage-deflate\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
        let seen = world.saw();
        assert_eq!(seen.header("authorization"), Some(format!("Bearer {TOKEN}").as_str()));
        assert_eq!(seen.header("sec-websocket-extensions"), None);
        assert_eq!(seen.header("sec-websocket-key"), Some("dGhlIHNhbXBsZSBub25jZQ=="));
        let long = host_frame(0x82, &[b'a'; 4096]);
        tls.write_all(&frame(&long)).await.unwrap();
        let mut back = vec![0; long.len()];
        crate::house::soon("all of a message", tls.read_exact(&mut back)).await.unwrap();
        assert_eq!(back, long);
        tls.write_all(&frame(&says)).await.unwrap();
        let mut rest = Vec::new();
        drop(crate::house::soon("the end", tls.read_to_end(&mut rest)).await);
        assert!(rest.len() + 8 < says.len(), "{what}: {}", String::from_utf8_lossy(&rest));
        for end in 4..TOKEN.len() {
            assert!(!rest.windows(end).any(|part| part == &TOKEN.as_bytes()[..end]), "{what}");
        }
        assert_eq!(world.refusal().await.rule, "websocket.credential", "{what}");
        assert_eq!(world.desk(|desk| desk.asked.pop()).unwrap().kind, api::grants::EgressKind::Upgrade);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_websocket_with_an_extension_that_nobody_asked_for_and_one_of_no_frames_pass_nothing() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut world = world("UPGRADE", "/socket").await;
    let bearer = format!("authorization: Bearer {HANDLE}\r\n");
    let mut tls = world.tls("api.example:443", HOST, &[b"http/1.1"]).await.unwrap();
    let socket = crate::egress::world::WEBSOCKET;
    let head = format!("GET /socket/extended HTTP/1.1\r\nhost: {HOST}\r\n{bearer}{socket}\r\n");
    let got = talk(&mut tls, head.as_bytes()).await;
    assert_eq!((got.status, got.rule().as_str()), (502, "websocket.extension"));
    assert_eq!(world.refusal().await.rule, "websocket.extension");
    let deflated = [&[0xc1, 4][..], b"zip!"].concat();
    let masked = frame(b"masked, as a client's");
    for says in [deflated, masked, b"HTTP/1.1 200 OK\r\n\r\n".to_vec()] {
        let (mut tls, _) = world.websocket(HOST, "").await;
        tls.write_all(&frame(&says)).await.unwrap();
        let mut rest = Vec::new();
        drop(crate::house::soon("the end", tls.read_to_end(&mut rest)).await);
        assert_eq!(rest, b"", "{says:?}");
        assert_eq!(world.refusal().await.rule, "websocket.host");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn bodies_in_chunks_of_no_length_and_with_expectations_come_through() {
    let world = world("POST", "/").await;
    let bearer = format!("authorization: Bearer {HANDLE}\r\n");
    for (what, more, body, expected) in [
        ("chunks", "transfer-encoding: chunked\r\n", "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "hello world"),
        ("empty chunks", "transfer-encoding: chunked\r\n", "0\r\n\r\n", ""),
        (
            "a trailer",
            "transfer-encoding: chunked\r\ntrailer: x-sum\r\n",
            "5\r\nhello\r\n0\r\nx-sum: 5\r\n\r\n",
            "hello",
        ),
        ("a length", "content-length: 5\r\n", "hello", "hello"),
        ("a length of zero", "content-length: 0\r\n", "", ""),
        ("no body", "", "", ""),
        ("an expectation", "content-length: 5\r\nexpect: 100-continue\r\n", "hello", "hello"),
    ] {
        let mut tls = world.tls("api.example:443", HOST, &[b"http/1.1"]).await.unwrap();
        let request = format!("POST /echo HTTP/1.1\r\nhost: {HOST}\r\n{bearer}{more}connection: close\r\n\r\n{body}");
        let got = talk(&mut tls, request.as_bytes()).await;
        let got = if got.status == 100 { crate::house::parse(&got.body, true) } else { got };
        assert_eq!((got.status, got.text()), (200, expected), "{what}");
        let seen = world.saw();
        assert_eq!(seen.body, expected.as_bytes(), "{what}");
        assert_eq!(seen.trailers.is_some(), what == "a trailer", "{what}");
    }
}
