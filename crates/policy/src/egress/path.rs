//! Paths: which may be sent at all, and which lie under a row's prefix.

use crate::Refusal;

/// Whether `target` (path and query) is one that every program on the way reads alike.
///
/// # Errors
/// `target.path`.
pub(super) fn check(target: &str) -> Result<(), Refusal> {
    if !target.starts_with('/') {
        return Err(Refusal::new("target.path", "The path begins with a slash."));
    }
    if !target.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'#' | b'\\')) {
        return Err(Refusal::new(
            "target.path",
            "The target holds a character that stands in no URL; percent-encode it, and leave a fragment out.",
        ));
    }
    Ok(())
}

/// The path without its query.
pub(super) fn bare(target: &str) -> &str {
    target.split_once('?').map_or(target, |(path, _)| path)
}

/// Whether the path of `target` lies under `prefix`, by whole segments. A path that some servers would read as
/// another one ([`is_odd`]) lies under no prefix but the root.
pub(super) fn is_under(target: &str, prefix: &str) -> bool {
    let path = bare(target);
    if prefix == "/" {
        return true;
    }
    if is_odd(path) {
        return false;
    }
    let Some(rest) = path.strip_prefix(prefix) else { return false };
    rest.is_empty() || prefix.ends_with('/') || rest.starts_with('/')
}

/// Whether servers differ on which path this is: dot segments, empty segments, a segment with a parameter that
/// hides dots, encoded dots, slashes, backslashes, percent signs and zero bytes, and broken percent-encoding.
pub(super) fn is_odd(path: &str) -> bool {
    let Some(inner) = path.strip_prefix('/') else { return true };
    let last = inner.split('/').count().saturating_sub(1);
    let segment_is_odd = |(at, segment): (usize, &str)| {
        let name = segment.split_once(';').map_or(segment, |(name, _)| name);
        // An empty last segment is a slash at the end.
        (segment.is_empty() && at != last) || matches!(name, "." | "..") || (name.is_empty() && !segment.is_empty())
    };
    inner.split('/').enumerate().any(segment_is_odd) || encodes_structure(path)
}

fn encodes_structure(path: &str) -> bool {
    let bytes = path.as_bytes();
    bytes.iter().enumerate().filter(|(_, b)| **b == b'%').any(|(at, _)| {
        let code = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        let code = code.filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            // Whatever needs no encoding may be decoded on the way; letters and digits are as odd as dots then.
            Some(byte) => matches!(byte, b'/' | b'\\' | b'%' | b';' | 0..=0x1f | 0x7f) || is_unreserved(byte),
            None => true,
        }
    })
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Whether a parameter of the query asks some servers to take another method than the request's.
///
/// Names are compared by their letters: PHP takes `.`, a space and `[` for `_`, leaves spaces before a name out, and ends it at a
/// zero byte. `method` alone is an everyday parameter.
pub(super) fn overrides_method(target: &str) -> bool {
    let Some((_, query)) = target.split_once('?') else { return false };
    query.split(['&', ';', '?']).any(|pair| {
        let name = pair.split_once('=').map_or(pair, |(name, _)| name);
        let name = decoded(name).to_ascii_lowercase();
        let name = name.split('\0').next().unwrap_or_default();
        let letters: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
        match letters.as_str() {
            "method" => !name.starts_with('m'),
            "httpmethod" | "xhttpmethod" => true,
            _ => letters.contains("methodoverride"),
        }
    })
}

/// Percent-decodes once; what is no ASCII then is kept out, for no name here has any.
pub(super) fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::new();
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'%').then(|| bytes.get(at + 1..at + 3)).flatten();
        let code = code.and_then(|hex| std::str::from_utf8(hex).ok()).and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match code {
            Some(byte) => {
                out.push(char::from(byte));
                at += 3;
            }
            None => {
                out.push(char::from(bytes[at]));
                at += 1;
            }
        }
    }
    out
}
