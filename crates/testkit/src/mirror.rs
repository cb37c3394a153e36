//! A host that gives back what it was sent, in every way in which a host could: a careless one, or one that means harm.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use hyper::body::{Body, Bytes, Frame};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{HeaderMap, Response, StatusCode};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::io::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The host's name in [`crate::Outside`].
pub const HOST: &str = "mirror.example";

/// The same, which speaks HTTP/2 and nothing else.
pub const HOST_OF_TWO: &str = "two.mirror.example";

/// What it signs in by who shows it a credential: as good as that, and made of nothing of it.
pub const SESSION: &str = "session-of-the-mirror-5e1f0c9a7b3d2846";

/// Every way, as it stands in a path.
pub const WAYS: [&str; 20] = [
    "body",
    "header",
    "header-name",
    "cookie",
    "signed-in",
    "redirect",
    "reason",
    "error",
    "chunks",
    "trailer",
    "gzip",
    "deflate",
    "base64",
    "base64-shifted",
    "base64-url",
    "hex",
    "percent",
    "json",
    "reversed",
    "file-name",
];

/// Those that HTTP/2 has a form of its own for.
pub const WAYS_OF_TWO: [&str; 9] =
    ["body", "header", "header-name", "signed-in", "redirect", "error", "chunks", "trailer", "gzip"];

/// Every way over a WebSocket, as it stands below `/socket/`: where the frames cut what is said, and what is said beside them.
pub const FRAMES: [&str; 7] = ["text", "binary", "fragments", "base64", "ping", "close", "messages"];

/// Bytes of a piece of what is said in pieces, so that no secret stands in one.
const PIECE: usize = 3;

/// An answer, before it is written in a version of HTTP.
struct Said {
    status: u16,
    reason: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    in_pieces: bool,
    /// The value of `x-last`.
    trailer: Option<String>,
}

impl Said {
    fn new(status: u16, reason: &str, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { status, reason: reason.to_owned(), headers, body: body.to_owned(), in_pieces: false, trailer: None }
    }

    fn pieces(body: &str, trailer: Option<&str>) -> Self {
        let trailer = trailer.map(str::to_owned);
        Self { in_pieces: true, trailer, ..Self::new(200, "OK", &[("content-type", "text/plain")], body.as_bytes()) }
    }
}

/// The answer in HTTP/1.1 to a request with this head. What is given back is the value of `authorization` (of basic sign-in the
/// password, or the user where it has none), else of `x-api-key`, else `nothing`.
#[must_use]
pub fn answer(head: &str) -> Vec<u8> {
    let said = said(head);
    let mut reply = format!("HTTP/1.1 {} {}\r\n", said.status, said.reason);
    for (name, value) in &said.headers {
        write!(reply, "{name}: {value}\r\n").expect("memory takes it");
    }
    if !said.in_pieces {
        write!(reply, "content-length: {}\r\n\r\n", said.body.len()).expect("memory takes it");
        return [reply.as_bytes(), &said.body].concat();
    }
    reply += "transfer-encoding: chunked\r\n";
    if said.trailer.is_some() {
        reply += "trailer: x-last\r\n";
    }
    reply += "\r\n";
    for piece in said.body.chunks(PIECE) {
        write!(reply, "{:x}\r\n{}\r\n", piece.len(), String::from_utf8_lossy(piece)).expect("memory takes it");
    }
    let trailer = said.trailer.map_or_else(String::new, |value| format!("x-last: {value}\r\n"));
    write!(reply, "0\r\n{trailer}\r\n").expect("memory takes it");
    reply.into_bytes()
}

/// The same answer in HTTP/2.
pub(crate) fn answer_of_two(head: &str) -> Response<Frames> {
    let said = said(head);
    let pieces = said.body.chunks(if said.in_pieces { PIECE } else { said.body.len().max(1) });
    let mut frames: VecDeque<Frame<Bytes>> = pieces.map(|piece| Frame::data(Bytes::copy_from_slice(piece))).collect();
    frames.extend(said.trailer.map(|value| {
        let value = HeaderValue::from_str(&value).expect("a value");
        Frame::trailers(HeaderMap::from_iter([(HeaderName::from_static("x-last"), value)]))
    }));
    let mut answer = Response::new(Frames(frames));
    *answer.status_mut() = StatusCode::from_u16(said.status).expect("a status");
    for (name, value) in &said.headers {
        // What is no name cannot be said at all.
        if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
            answer.headers_mut().append(name, HeaderValue::from_str(value).expect("a value"));
        }
    }
    answer
}

/// A body of frames that are all there.
pub(crate) struct Frames(VecDeque<Frame<Bytes>>);

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

/// All that is said to a request with this head that asks for a WebSocket: the head of the answer, and frames.
pub(crate) fn socket(head: &str) -> Option<Vec<u8>> {
    let way = head.split(' ').nth(1)?.strip_prefix("/socket/")?;
    let value = credential(head);
    let frame = |first: u8, payload: &[u8]| {
        let length = u8::try_from(payload.len()).ok().filter(|length| *length < 126).expect("a short message");
        [&[first, length], payload].concat()
    };
    let pieces: Vec<&[u8]> = value.as_bytes().chunks(PIECE).collect();
    let said = match way {
        "text" => frame(0x81, format!("you sent {value}\n").as_bytes()),
        "binary" => frame(0x82, &[b"\0\xff", value.as_bytes(), b"\xff\0"].concat()),
        "base64" => frame(0x81, STANDARD.encode(&value).as_bytes()),
        "ping" => frame(0x89, value.as_bytes()),
        "close" => frame(0x88, &[&1000_u16.to_be_bytes(), value.as_bytes()].concat()),
        "messages" => pieces.iter().flat_map(|piece| frame(0x81, piece)).collect(),
        // One message, with a ping after each of its frames but the last.
        "fragments" => {
            let last = pieces.len() - 1;
            let one = |(n, piece): (usize, &&[u8])| {
                let first = u8::from(n == 0) | if n == last { 0x80 } else { 0 };
                [frame(first, piece), if n == last { Vec::new() } else { frame(0x89, b"?") }].concat()
            };
            pieces.iter().enumerate().flat_map(one).collect()
        }
        _ => return None,
    };
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nset-cookie: session={SESSION}\r\n\r\n"
    );
    Some([head.as_bytes(), &said].concat())
}

fn said(head: &str) -> Said {
    let path = head.split(' ').nth(1).unwrap_or_default();
    let way = path.trim_start_matches('/').split(['?', '/']).next().unwrap_or_default();
    let value = credential(head);
    let text = |body: &str| Said::new(200, "OK", &[("content-type", "text/plain")], body.as_bytes());
    let extra = |name: &str, value: &str| Said::new(200, "OK", &[(name, value)], b"see the headers\n");
    let packed = |name: &str, bytes: &[u8]| {
        Said::new(200, "OK", &[("content-type", "text/plain"), ("content-encoding", name)], bytes)
    };
    match way {
        "header" => extra("x-echo", &format!("you sent {value}")),
        "header-name" => extra(&format!("x-{value}"), "yes"),
        "cookie" => extra("set-cookie", &format!("session={value}; Path=/")),
        "signed-in" => extra("set-cookie", &format!("session={SESSION}; Path=/; HttpOnly")),
        "redirect" => {
            Said::new(302, "Found", &[("location", &format!("https://{HOST}/body?token={value}"))], b"moved\n")
        }
        "reason" => Said::new(200, &value, &[], b""),
        "error" => Said::new(500, "Internal Server Error", &[], format!("bad credential {value}\n").as_bytes()),
        "chunks" => Said::pieces(&format!("in pieces: {value}\n"), None),
        "trailer" => Said::pieces("see below\n", Some(&value)),
        "gzip" => {
            let mut packer = GzEncoder::new(Vec::new(), Compression::default());
            packer.write_all(format!("packed: {value}\n").as_bytes()).expect("memory takes it");
            packed("gzip", &packer.finish().expect("memory takes it"))
        }
        "deflate" => {
            let mut packer = ZlibEncoder::new(Vec::new(), Compression::default());
            packer.write_all(format!("packed: {value}\n").as_bytes()).expect("memory takes it");
            packed("deflate", &packer.finish().expect("memory takes it"))
        }
        "base64" => text(&STANDARD.encode(&value)),
        "base64-shifted" => text(&format!(
            "{}\n{}\n",
            STANDARD_NO_PAD.encode(format!("x{value}y")),
            STANDARD_NO_PAD.encode(format!("xx{value}yy"))
        )),
        "base64-url" => text(&URL_SAFE_NO_PAD.encode(&value)),
        "hex" => text(&value.bytes().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("memory takes it");
            hex
        })),
        "percent" => text(&value.bytes().fold(String::new(), |mut text, byte| {
            write!(text, "%{byte:02X}").expect("memory takes it");
            text
        })),
        "json" => text(&serde_json::json!({"echo": [{"you": value}]}).to_string()),
        "reversed" => text(&value.chars().rev().collect::<String>()),
        "file-name" => extra("content-disposition", &format!("attachment; filename=\"{value}.txt\"")),
        _ => text(&format!("you sent {value}\n")),
    }
}

fn credential(head: &str) -> String {
    let header = |wanted: &str| {
        head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(wanted).then(|| value.trim().to_owned())
        })
    };
    let Some(shown) = header("authorization") else { return header("x-api-key").unwrap_or_else(|| "nothing".into()) };
    let (scheme, value) = shown.split_once(' ').unwrap_or(("", &shown));
    if !scheme.eq_ignore_ascii_case("basic") {
        return value.to_owned();
    }
    let plain = STANDARD.decode(value).ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
    match plain.split_once(':') {
        Some((user, "")) => user.to_owned(),
        Some((_, password)) => password.to_owned(),
        None => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_is_what_was_sent_and_each_way_differs() {
        assert_eq!(credential("GET / HTTP/1.1\r\nauthorization: Bearer abc\r\n\r\n"), "abc");
        assert_eq!(credential("GET / HTTP/1.1\r\nAuthorization: Basic eDphYmM=\r\n\r\n"), "abc");
        assert_eq!(credential("GET / HTTP/1.1\r\nAuthorization: Basic YWJjOg==\r\n\r\n"), "abc");
        assert_eq!(credential("GET / HTTP/1.1\r\nx-api-key: abc\r\n\r\n"), "abc");
        // Of a length that base 64 pads, and with what it writes in two ways.
        let answers =
            WAYS.map(|way| answer(&format!("GET /{way} HTTP/1.1\r\nauthorization: Bearer a?>~a?>~ab\r\n\r\n")));
        for (at, one) in answers.iter().enumerate() {
            assert!(one.starts_with(b"HTTP/1.1 "), "{}", WAYS[at]);
            assert!(!answers[..at].contains(one), "{} is another's", WAYS[at]);
        }
    }

    #[test]
    fn over_http_2_and_a_websocket_what_was_sent_is_given_back_too() {
        let head = |path: &str| format!("GET {path} HTTP/1.1\r\nauthorization: Bearer abcdefg\r\n\r\n");
        let two = answer_of_two(&head("/trailer"));
        let last = two.body().0.back().and_then(Frame::trailers_ref).expect("trailers");
        assert_eq!((two.status(), last["x-last"].as_bytes()), (StatusCode::OK, &b"abcdefg"[..]));
        assert_eq!(answer_of_two(&head("/chunks")).body().0[4].data_ref().expect("data"), &Bytes::from("bcd"));
        let frames = |way: &str| {
            let all = socket(&head(&format!("/socket/{way}"))).expect("frames");
            let at = all.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
            all[at + 4..].to_vec()
        };
        assert_eq!(frames("fragments"), b"\x01\x03abc\x89\x01?\x00\x03def\x89\x01?\x80\x01g");
        assert_eq!(frames("messages"), b"\x81\x03abc\x81\x03def\x81\x01g");
        let all = FRAMES.map(frames);
        assert!(all.iter().enumerate().all(|(at, one)| !all[..at].contains(one)), "{all:?}");
        assert!(socket(&head("/body")).is_none());
    }
}
