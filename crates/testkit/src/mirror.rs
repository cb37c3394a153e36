//! A host that gives back what it was sent, in every way in which a host could: a careless one, or one that means harm.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use std::fmt::Write as _;
use std::io::Write as _;

/// The host's name in [`crate::Outside`].
pub const HOST: &str = "mirror.example";

/// Every way, as it stands in a path.
pub const WAYS: [&str; 19] = [
    "body",
    "header",
    "header-name",
    "cookie",
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

/// The answer to a request with this head. What is given back is the value of `authorization` (of basic sign-in the
/// password), else of `x-api-key`, else `nothing`.
pub fn answer(head: &str) -> Vec<u8> {
    let path = head.split(' ').nth(1).unwrap_or_default();
    let way = path.trim_start_matches('/').split(['?', '/']).next().unwrap_or_default();
    let value = credential(head);
    let text = |body: &str| whole("200 OK", "content-type: text/plain\r\n", body.as_bytes());
    let extra = |line: &str| whole("200 OK", line, b"see the headers\n");
    let packed = |name: &str, bytes: &[u8]| {
        whole("200 OK", &format!("content-type: text/plain\r\ncontent-encoding: {name}\r\n"), bytes)
    };
    match way {
        "header" => extra(&format!("x-echo: you sent {value}\r\n")),
        "header-name" => extra(&format!("x-{value}: yes\r\n")),
        "cookie" => extra(&format!("set-cookie: session={value}; Path=/\r\n")),
        "redirect" => whole("302 Found", &format!("location: https://{HOST}/body?token={value}\r\n"), b"moved\n"),
        "reason" => format!("HTTP/1.1 200 {value}\r\ncontent-length: 0\r\n\r\n").into_bytes(),
        "error" => whole("500 Internal Server Error", "", format!("bad credential {value}\n").as_bytes()),
        "chunks" => chunked(&format!("in pieces: {value}\n"), ""),
        "trailer" => chunked("see below\n", &format!("x-last: {value}\r\n")),
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
        "file-name" => extra(&format!("content-disposition: attachment; filename=\"{value}.txt\"\r\n")),
        _ => text(&format!("you sent {value}\n")),
    }
}

fn whole(status: &str, lines: &str, body: &[u8]) -> Vec<u8> {
    let mut reply = format!("HTTP/1.1 {status}\r\n{lines}content-length: {}\r\n\r\n", body.len()).into_bytes();
    reply.extend(body);
    reply
}

/// Three bytes to the chunk, so that no secret stands in one.
fn chunked(body: &str, trailer: &str) -> Vec<u8> {
    let mut reply = String::from("HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n");
    if !trailer.is_empty() {
        reply.push_str("trailer: x-last\r\n");
    }
    reply.push_str("\r\n");
    for piece in body.as_bytes().chunks(3) {
        write!(reply, "{:x}\r\n{}\r\n", piece.len(), String::from_utf8_lossy(piece)).expect("memory takes it");
    }
    write!(reply, "0\r\n{trailer}\r\n").expect("memory takes it");
    reply.into_bytes()
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
    plain.split_once(':').map_or(plain.clone(), |(_, password)| password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_is_what_was_sent_and_each_way_differs() {
        assert_eq!(credential("GET / HTTP/1.1\r\nauthorization: Bearer abc\r\n\r\n"), "abc");
        assert_eq!(credential("GET / HTTP/1.1\r\nAuthorization: Basic eDphYmM=\r\n\r\n"), "abc");
        assert_eq!(credential("GET / HTTP/1.1\r\nx-api-key: abc\r\n\r\n"), "abc");
        // Of a length that base 64 pads, and with what it writes in two ways.
        let answers =
            WAYS.map(|way| answer(&format!("GET /{way} HTTP/1.1\r\nauthorization: Bearer a?>~a?>~ab\r\n\r\n")));
        for (at, one) in answers.iter().enumerate() {
            assert!(one.starts_with(b"HTTP/1.1 "), "{}", WAYS[at]);
            assert!(!answers[..at].contains(one), "{} is another's", WAYS[at]);
        }
    }
}
