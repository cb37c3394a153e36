//! Scrubbing JSON so that JSON comes out: in its strings, as they are read and not as they are spelled.

use crate::Scrubber;
use serde::de::IgnoredAny;
use std::{borrow::Cow, ops::Range};

/// Stands in the place of an event that would be no JSON any more.
const LEFT_OUT: &str =
    r#"{"kind":"note","text":"An event of the box is left out: across its fields it spelled a secret."}"#;

/// A JSON text with every value and credential replaced, JSON again; any other text is scrubbed as a text.
///
/// What stands behind escapes is found too, and a number that is a value becomes a string. A value that goes across
/// strings (a JSON text that is itself the secret) leaves nothing that could be read: then a note takes its place.
#[must_use]
pub fn scrub<'a>(scrubber: &Scrubber, text: &'a str) -> Cow<'a, str> {
    if !is_json(text) {
        return scrubber.scrub_str(text);
    }
    let read = in_strings(scrubber, text);
    match scrubber.scrub_str(read.as_deref().unwrap_or(text)) {
        Cow::Borrowed(_) => read.map_or(Cow::Borrowed(text), Cow::Owned),
        Cow::Owned(spelled) if is_json(&spelled) => Cow::Owned(spelled),
        Cow::Owned(_) => Cow::Owned(LEFT_OUT.to_owned()),
    }
}

pub(crate) fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// The JSON text with its strings and numbers scrubbed; none if nothing was found.
fn in_strings(scrubber: &Scrubber, text: &str) -> Option<String> {
    let found = found(scrubber, text);
    (!found.is_empty()).then(|| put(text, found))
}

/// The strings and numbers of a JSON text that hold something, in their order, and what they say without it.
pub(crate) fn found(scrubber: &Scrubber, text: &str) -> Vec<(Range<usize>, String)> {
    let bytes = text.as_bytes();
    let (mut found, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let (end, scrubbed) = match bytes[at] {
            b'"' => string(scrubber, text, at),
            b'-' | b'0'..=b'9' => {
                let number =
                    bytes[at..].iter().take_while(|b| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'));
                let end = at + number.count();
                (end, changed(scrubber.scrub_str(&text[at..end])))
            }
            _ => (at + 1, None),
        };
        found.extend(scrubbed.map(|scrubbed| (at..end, scrubbed)));
        at = end;
    }
    found
}

/// The text with these strings in those places.
pub(crate) fn put(text: &str, found: Vec<(Range<usize>, String)>) -> String {
    let (mut out, mut copied) = (String::with_capacity(text.len()), 0);
    for (place, scrubbed) in found {
        out.push_str(&text[copied..place.start]);
        out.push_str(&serde_json::Value::String(scrubbed).to_string());
        copied = place.end;
    }
    out.push_str(&text[copied..]);
    out
}

/// Where the string ends that begins at `at`: after its last quote, or with the text.
pub(crate) fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut end = at + 1;
    while end < bytes.len() && bytes[end] != b'"' {
        end += 1 + usize::from(bytes[end] == b'\\');
    }
    (end + 1).min(bytes.len())
}

/// The end of the string that begins at `at`, and what it says then if that is changed.
fn string(scrubber: &Scrubber, text: &str, at: usize) -> (usize, Option<String>) {
    let end = string_end(text.as_bytes(), at);
    if !text[at..end].contains('\\') {
        return (end, changed(scrubber.scrub_str(&text[at + 1..end - 1])));
    }
    // One that cannot be read (half a pair of UTF-16) is scrubbed as it is spelled, with the rest.
    let read = serde_json::from_str::<String>(&text[at..end]).ok();
    (end, read.and_then(|read| changed(scrubber.scrub_str(&read))))
}

fn changed(text: Cow<'_, str>) -> Option<String> {
    match text {
        Cow::Borrowed(_) => None,
        Cow::Owned(text) => Some(text),
    }
}
