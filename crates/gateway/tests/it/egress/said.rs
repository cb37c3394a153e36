//! What a host says of a credential that it was given, where nobody asked for it: in names, and later on.

use crate::egress::inside::two;
use crate::egress::origin::{Words, said, with};
use crate::egress::world::{TOKEN, World, talk, writes};
use crate::house::{HANDLE, Word, ask, call, placeholder, soon};
use api::grants::Place;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;

const HOST: &str = "api.example";

/// The credential of a header that was shown, in the ways in which it can be a name.
fn names(shown: &str) -> Vec<HeaderName> {
    let token = shown.rsplit(' ').next().unwrap_or_default();
    let hex: String = token.bytes().map(|byte| format!("{byte:02X}")).collect();
    let backwards: String = token.chars().rev().collect();
    [token.to_owned(), hex, backwards, URL_SAFE_NO_PAD.encode(token)]
        .iter()
        .map(|form| HeaderName::try_from(format!("x-{form}")).expect("a name"))
        .collect()
}

/// The answer with the credential in the names of headers.
pub fn in_a_name(mut answer: Response<Words>, shown: &str) -> Response<Words> {
    for name in names(shown) {
        answer.headers_mut().append(name, HeaderValue::from_static("yes"));
    }
    answer
}

/// What a host says at `path`, where that is one of these.
pub fn by(path: &str, shown: &str) -> Option<Response<Words>> {
    Some(match path.strip_prefix("/told/")? {
        "name" => in_a_name(said(StatusCode::OK, "ok"), shown),
        "none" => in_a_name(said(StatusCode::NO_CONTENT, ""), shown),
        "trailer" => {
            let trailers: HeaderMap =
                names(shown).into_iter().map(|name| (name, HeaderValue::from_static("a"))).collect();
            let listed = names(shown).iter().map(HeaderName::as_str).collect::<Vec<_>>().join(", ");
            let frames = [Ok(Frame::data(Bytes::from_static(b"ok"))), Ok(Frame::trailers(trailers))];
            let body = StreamBody::new(futures_util::stream::iter(frames));
            let mut answer = Response::new(UnsyncBoxBody::new(body));
            answer.headers_mut().insert("trailer", HeaderValue::from_str(&listed).expect("a value"));
            answer
        }
        "later" => with(said(StatusCode::OK, format!("it was {TOKEN}")), "x-it-was", TOKEN),
        "away" => {
            let mut answer = said(StatusCode::FOUND, "there");
            let there = HeaderValue::from_str(&format!("/x?it-was={TOKEN}")).expect("a value");
            answer.headers_mut().insert("location", there);
            answer
        }
        "part" => said(StatusCode::PARTIAL_CONTENT, &TOKEN[..9]),
        path if path.starts_with("sent/") => super::bands::sent(&path["sent/".len()..]),
        _ => return None,
    })
}

/// The references of a repository, one of which has this name.
pub fn references(status: StatusCode, name: &str) -> Response<Words> {
    let line = |text: &str| format!("{:04x}{text}", text.len() + 4);
    let list = line(&format!("{} refs/heads/{name}\0\n", "1".repeat(40)));
    let body = format!("{}0000{list}0000", line("# service=git-upload-pack\n"));
    with(said(status, body), "content-type", "application/x-git-upload-pack-advertisement")
}

async fn world(two: bool) -> World {
    let mut table = writes(HOST, "GET", "/told");
    table.write.extend(writes(HOST, "UPGRADE", "/socket").write);
    let world = World::of(table, two, |_| {}).await;
    world.names.set(HOST, &[&["93.184.216.34"]]);
    world.desk(|desk| desk.credential = Some((TOKEN.to_owned(), HOST.to_owned(), 443)));
    world
}

/// No way in which a name can hold it, in whatever case.
fn holds_none(what: &str, text: &str) {
    let text = text.to_ascii_lowercase();
    for name in names(TOKEN) {
        assert!(!text.contains(name.as_str()), "{what}: {text}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn the_name_of_a_header_or_a_trailer_tells_no_credential() {
    for theirs in [false, true] {
        let world = world(theirs).await;
        let bearer = format!("authorization: Bearer {HANDLE}\r\n");
        for (path, status) in [("/told/name", 200), ("/told/none", 204), ("/told/trailer", 200)] {
            let mut tls = world.tls("api.example:443", HOST, &[b"http/1.1"]).await.unwrap();
            let ask =
                format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\n{bearer}te: trailers\r\nconnection: close\r\n\r\n");
            let got = talk(&mut tls, ask.as_bytes()).await;
            assert_eq!(got.status, status, "{path}: {}", got.head);
            holds_none(path, &format!("{}{}", got.head, String::from_utf8_lossy(&got.body)));

            let mut sender = two(world.tls("api.example:443", HOST, &[b"h2"]).await.unwrap()).await;
            let ask = Request::get(format!("https://{HOST}{path}")).header("authorization", format!("Bearer {HANDLE}"));
            let answer =
                soon("an answer", sender.send_request(ask.body(Full::new(Bytes::new())).unwrap())).await.unwrap();
            let (head, body) = answer.into_parts();
            let body = soon("a body", body.collect()).await.unwrap();
            assert_eq!(head.status.as_u16(), status, "{path}");
            holds_none(path, &format!("{:?}{:?}", head.headers, body.trailers()));
        }
        world.origin.seen();
    }
    let world = world(false).await;
    let mut tls = world.tls("api.example:443", HOST, &[b"http/1.1"]).await.unwrap();
    let websocket = crate::egress::world::WEBSOCKET;
    let ask = format!("GET /socket/told HTTP/1.1\r\nhost: {HOST}\r\nauthorization: Bearer {HANDLE}\r\n{websocket}\r\n");
    tokio::io::AsyncWriteExt::write_all(&mut tls, ask.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    soon("an answer", async {
        while !head.ends_with(b"\r\n\r\n") {
            head.push(tokio::io::AsyncReadExt::read_u8(&mut tls).await.unwrap());
        }
    })
    .await;
    assert!(head.starts_with(b"HTTP/1.1 101"));
    holds_none("a WebSocket", &String::from_utf8_lossy(&head));
}

#[tokio::test(flavor = "current_thread")]
async fn a_host_that_was_given_a_credential_tells_it_to_no_later_request_of_the_run() {
    let mut world = world(true).await;
    let placed = placeholder("api", TOKEN);
    let asks = "accept-encoding: gzip\r\nrange: bytes=0-9\r\nif-none-match: \"a\"\r\n";
    let later = format!("GET /told/later\r\n{asks}");
    // Before it was given one, it is any host, and what it says is its own.
    let got = world.https(HOST, &later, b"").await;
    assert!(got.text().contains(TOKEN), "{}", got.text());
    assert_eq!(world.saw().header("accept-encoding"), Some("gzip"));
    let given = world.https(HOST, &format!("GET /told/name\r\nauthorization: Bearer {HANDLE}\r\n"), b"").await;
    assert_eq!(given.status, 200);
    world.saw();
    let got = world.https(HOST, &later, b"").await;
    assert_eq!((got.status, got.text()), (200, format!("it was {placed}").as_str()));
    assert!(got.head.contains(&placed) && !got.head.contains(TOKEN), "{}", got.head);
    let seen = world.saw();
    assert_eq!(seen.header("accept-encoding"), Some("identity"));
    assert_eq!((seen.header("range"), seen.header("if-none-match")), (None, None));
    let over_two = async {
        let mut sender = two(world.tls("api.example:443", HOST, &[b"h2"]).await.unwrap()).await;
        let ask = Request::get(format!("https://{HOST}/told/later")).body(Full::new(Bytes::new())).unwrap();
        let answer = soon("an answer", sender.send_request(ask)).await.unwrap();
        soon("a body", answer.into_body().collect()).await.unwrap().to_bytes()
    };
    assert_eq!(over_two.await, format!("it was {placed}"));
    // A read is led elsewhere as before, without the value; a part of an answer is no whole one.
    let away = world.https(HOST, "GET /told/away\r\n", b"").await;
    assert_eq!(away.status, 302);
    assert!(away.head.contains(&format!("/x?it-was={placed}")), "{}", away.head);
    let part = world.https(HOST, "GET /told/part\r\n", b"").await;
    assert_eq!((part.status, part.rule().as_str()), (502, "write.partial"));
    assert_eq!(world.refusal().await.rule, "write.partial");
    // Another host was given nothing.
    assert!(world.https("a.example", "GET /told/later\r\n", b"").await.text().contains(TOKEN));
}

/// The references of the run's repository, asked for at its door.
async fn fetched(world: &World) -> String {
    let head = format!(
        "GET /git/app/info/refs?service=git-upload-pack HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {HANDLE}\r\nconnection: close\r\n\r\n"
    );
    let got = ask(world.house.door, &head, b"").await;
    assert_eq!(got.status, 200, "{}", got.text());
    got.text().to_owned()
}

#[tokio::test(flavor = "current_thread")]
async fn what_opened_a_repository_or_called_a_model_its_host_tells_to_no_read_and_no_other_credential_to_git() {
    let later = "GET /told/later\r\n";
    let world = world(true).await;
    let repository =
        |credential: Option<&str>| Some((format!("https://{HOST}/repo.git"), credential.map(str::to_owned)));
    // What everybody may read is opened by nothing: what its host says is its own.
    world.desk(|desk| desk.repository = repository(None));
    assert!(fetched(&world).await.contains(TOKEN));
    assert!(world.https(HOST, later, b"").await.text().contains(TOKEN));
    world.desk(|desk| desk.repository = repository(Some(TOKEN)));
    let placed = placeholder("capability/forge", TOKEN);
    assert!(fetched(&world).await.contains(&placed));
    let got = world.https(HOST, later, b"").await;
    assert_eq!((got.status, got.text()), (200, format!("it was {placed}").as_str()));
    assert!(!got.head.contains(TOKEN), "{}", got.head);

    // A repository that nothing opens, at a host that was given a credential by a row; or that another value opens.
    for credential in [None, Some("another-0123456789")] {
        let world = self::world(true).await;
        world.desk(|desk| desk.repository = repository(credential));
        let given = world.https(HOST, &format!("GET /told/name\r\nauthorization: Bearer {HANDLE}\r\n"), b"").await;
        assert_eq!(given.status, 200);
        let list = fetched(&world).await;
        assert!(list.contains(&placeholder("api", TOKEN)) && !list.contains(TOKEN), "{list}");
    }

    let world = self::world(true).await;
    let place = Place::Url { base: format!("https://{HOST}"), internal: false };
    world.house.answer_with(Word::Grant { dialect: model::Dialect::Anthropic, place, key: TOKEN.to_owned() });
    let asked = r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"go"}]}"#;
    let got = call(world.house.door, "/v1/messages", asked).await;
    assert_eq!((got.status, got.text()), (200, "POST /v1/messages"));
    let got = world.https(HOST, later, b"").await;
    assert_eq!((got.status, got.text()), (200, format!("it was {}", placeholder("model/m", TOKEN)).as_str()));
}
