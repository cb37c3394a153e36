//! A registry, as the hosts of the test's own network are one: the repository's name says how it behaves.

use super::origin::{Flow, Words, said, with};
use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::StreamBody;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Frame;

/// What its token service gives.
pub const TOKEN: &str = "registry-token-5d1c";
/// Where another host of it keeps its parts.
const THERE: &str = "/there?signed=1";

/// Its answer; none where no registry is asked.
pub fn said_by(head: &http::request::Parts, flow: &Flow) -> Option<Response<Words>> {
    let shown = head.headers.get(header::AUTHORIZATION).map(|value| value.to_str().expect("text").to_owned());
    if head.uri.path() == "/token" {
        return Some(said(StatusCode::OK, format!(r#"{{"token":"{TOKEN}","expires_in":60}}"#)));
    }
    if head.uri.path() == "/token-none" {
        return Some(said(StatusCode::UNAUTHORIZED, "no"));
    }
    if head.uri.path() == "/there" {
        return Some(said(StatusCode::OK, "a part from there"));
    }
    let repository = head.uri.path().strip_prefix("/v2/")?.split('/').next()?;
    let challenge = |text: &str| {
        let mut answer = said(StatusCode::UNAUTHORIZED, r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#);
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_str(text).expect("a value"));
        answer
    };
    let to = |place: &str| {
        let mut answer = said(StatusCode::TEMPORARY_REDIRECT, "there");
        answer.headers_mut().insert(header::LOCATION, HeaderValue::from_str(place).expect("a value"));
        answer
    };
    let has_token = shown.as_deref() == Some(&format!("Bearer {TOKEN}"));
    let realm =
        |realm: &str| challenge(&format!(r#"Bearer realm="{realm}",service="the registry",scope="repository:*:*""#));
    Some(match repository {
        "plain" => said(StatusCode::OK, "a part"),
        "token" | "token-elsewhere" if !has_token => realm("https://a.example/token?scope=repository:other:push"),
        "token-at-b" if !has_token => realm("https://b.example/token"),
        "token-inward" => realm("https://inside.example/token"),
        "token-clear" => realm("http://b.example/token"),
        "token-none" => realm("https://a.example/token-none"),
        "never-enough" => realm("https://a.example/token"),
        "token" | "token-at-b" => said(StatusCode::OK, "a part by token"),
        "basic" if shown.as_deref().is_none_or(|shown| !shown.starts_with("Basic ")) => challenge("Basic realm=x"),
        "basic" => said(StatusCode::OK, "a part by password"),
        "strange" => challenge("Negotiate"),
        "elsewhere" | "token-elsewhere" => to(&format!("https://b.example{THERE}")),
        // By a name that has lost its case.
        "told-password" if shown.is_none() => challenge("Basic realm=x"),
        "told-token" if !has_token => realm("https://a.example/token"),
        "told-password" => to(&format!("https://canary-5F20C1.example{THERE}")),
        "told-token" => to(&format!("https://x.{TOKEN}.b.example{THERE}")),
        "token-at-password" => realm("https://canary-5f20c1.example/token"),
        "told-code" if shown.is_none() => challenge("Basic realm=x"),
        "told-code" => said(StatusCode::FORBIDDEN, r#"{"errors":[{"code":"CANARY_OF_CAPITALS"}]}"#),
        "inward" => to(&format!("https://inside.example{THERE}")),
        "loopback" => to(&format!("https://127.0.0.1{THERE}")),
        "metadata" => to("https://169.254.169.254/latest"),
        "clear" => to(&format!("http://b.example{THERE}")),
        "file" => to("file:///etc/passwd"),
        "named" => to(&format!("https://joe:secret@b.example{THERE}")),
        "nowhere" => said(StatusCode::TEMPORARY_REDIRECT, "there"),
        "circle" => to(head.uri.path()),
        "gone" => said(StatusCode::NOT_FOUND, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"<b>evil"}]}"#),
        "busy" => said(StatusCode::TOO_MANY_REQUESTS, r#"{"errors":[{"code":"not a code"}]}"#),
        "broken" => said(StatusCode::INTERNAL_SERVER_ERROR, vec![b'x'; 1 << 20]),
        "packed" => with(said(StatusCode::OK, "not really"), "content-encoding", "gzip"),
        "long" => said(StatusCode::OK, vec![b'x'; 100_000]),
        "endless" => {
            let pieces = futures_util::stream::unfold(flow.clone(), Flow::pour);
            Response::new(UnsyncBoxBody::new(StreamBody::new(pieces)))
        }
        "cut" => {
            let piece = futures_util::stream::iter([Ok(Frame::data(Bytes::from_static(b"half a")))]);
            let answer = Response::new(UnsyncBoxBody::new(StreamBody::new(piece.chain(futures_util::stream::empty()))));
            with(answer, "content-length", "1000")
        }
        "hang" => {
            let never = futures_util::stream::pending();
            Response::new(UnsyncBoxBody::new(StreamBody::new(never)))
        }
        _ => return None,
    })
}
