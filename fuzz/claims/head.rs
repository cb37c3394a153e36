//! What must hold of any bytes that come as HTTP/1.1. Whoever includes this file has `shape` beside it.
//!
//! The second reader is `httparse`, by which hyper reads: what passes is read by it in the same way, to the same end.

use super::shape::{self, Chunks, Next};

/// Holds of any bytes: a head that passes has one reading, and so has a body in chunks.
pub fn holds(bytes: &[u8]) {
    if shape::head(bytes).is_ok() {
        assert!(bytes.ends_with(b"\r\n\r\n"));
    }
    if shape::bytes_of_head(bytes, 0).is_ok() {
        assert!(!bytes.contains(&0));
    }
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
    if shape::bytes_of_head(&bytes[..end], 0).is_ok()
        && let Ok(next) = shape::head(&bytes[..end])
    {
        assert_eq!(second_reading(bytes), Some((end, next)), "{}", bytes.escape_ascii());
    }
    chunks(bytes);
}

/// A body in chunks is read alike whole and byte by byte.
fn chunks(bytes: &[u8]) {
    let mut whole = Chunks::default();
    let read = whole.read(bytes);
    let mut slow = Chunks::default();
    let mut at = 0;
    let mut failed = None;
    while at < bytes.len() && !matches!(slow, Chunks::Done) {
        match slow.read(&bytes[at..=at]) {
            Ok(taken) => at += taken,
            Err(fault) => {
                failed = Some(fault);
                break;
            }
        }
    }
    assert_eq!(read, failed.map_or(Ok(at), Err), "{}", bytes.escape_ascii());
}

/// How the second reader reads a request: where its head ends, and what follows. None when it does not.
pub fn second_reading(bytes: &[u8]) -> Option<(usize, Next)> {
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(end) = request.parse(bytes).ok()? else { return None };
    let all = |name: &str| -> Vec<&[u8]> {
        let headers = request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        headers.map(|header| header.value).collect()
    };
    let (lengths, encodings) = (all("content-length"), all("transfer-encoding"));
    let length = match lengths.as_slice() {
        [] => None,
        [one] => Some(std::str::from_utf8(one).ok()?.trim().parse().ok()?),
        _ => return None,
    };
    let chunked = match encodings.as_slice() {
        [] => false,
        [one] => one.trim_ascii().eq_ignore_ascii_case(b"chunked"),
        _ => return None,
    };
    let hosts = all("host").len();
    if hosts > 1 || (hosts == 0 && request.version == Some(1)) {
        return None;
    }
    let other = request.method == Some("CONNECT") || !all("upgrade").is_empty();
    let next = match (length, chunked) {
        (Some(_), true) => return None,
        (None | Some(0), false) if other => Next::Other,
        (_, _) if other => return None,
        (None, true) => Next::Chunked,
        (length, false) => Next::Body(length.unwrap_or(0)),
    };
    Some((end, next))
}
