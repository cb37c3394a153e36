//! A request to a model, scrubbed: values everywhere in it, formats of credentials in its texts.
//!
//! JSON stays JSON, byte for byte but for the strings that change, and the same text changes to the same one each time,
//! so that a vendor's cache of a prompt holds. What a vendor signed, sealed or takes as base 64 is not looked through for
//! formats: one byte changed there makes the vendor refuse the whole conversation, and a format is found in plain text only.
//!
//! Read [`scrub`], then `sealed` (which parts those are, and why).

use crate::{Scrubber, json};
use std::{borrow::Cow, ops::Range};

/// Members through which the parts are reached that a vendor's format gives a meaning. Below any other (a tool's input, a
/// schema, what a function answered) nothing is sealed, whatever it is named.
const KNOWN: [&str; 20] = [
    "messages",
    "content",
    "source",
    "input_audio",
    "file",
    "image_url",
    "tool_calls",
    "extra_content",
    "google",
    "reasoning_details",
    "contents",
    "parts",
    "inlineData",
    "inline_data",
    "functionResponse",
    "function_response",
    "system",
    "systemInstruction",
    "system_instruction",
    "output",
];
/// Objects whose `data` is base 64.
const OF_DATA: [&str; 3] = ["inlineData", "inline_data", "input_audio"];
/// Members that are a vendor's own sealed words, in whichever object of its format.
const SEALED: [&str; 5] =
    ["signature", "thought_signature", "thoughtSignature", "encrypted_content", "encrypted_index"];
/// Members whose object is the vendor's as a whole: it checks what it signed.
const SIGNS_ALL: [&str; 2] = ["thought_signature", "thoughtSignature"];
/// Types of objects that are the vendor's as a whole (Anthropic's thinking; OpenAI's reasoning).
const OF_THE_VENDOR: [&str; 3] = ["thinking", "redacted_thinking", "reasoning"];
/// How far into a string a `data:` address says that its content is base 64.
const DATA_HEAD: usize = 256;

/// `body` without values and, where `scrubber` looks for formats, without what has the format of a credential; none if
/// it holds neither. Of what is no JSON all of it is looked through as one text.
#[must_use]
pub fn scrub(scrubber: &Scrubber, body: &[u8]) -> Option<Vec<u8>> {
    let Ok(text) = str::from_utf8(body) else { return changed(scrubber.scrub(body)) };
    let values = scrubber.values_alone();
    // Every spelling that JSON has for a value is a form of it, so a clean body is looked through but once.
    let clean = match values.scrub_str(text) {
        Cow::Borrowed(_) => None,
        Cow::Owned(_) => Some(json::scrub(&values, text).into_owned()),
    };
    let Some(formats) = scrubber.formats_alone() else { return clean.map(String::into_bytes) };
    let text = clean.as_deref().unwrap_or(text);
    if !json::is_json(text) {
        let found = changed(formats.scrub(text.as_bytes()));
        return found.or_else(|| clean.map(String::into_bytes));
    }
    let mut found = json::found(&formats, text);
    if !found.is_empty() {
        let sealed = sealed(text);
        found.retain(|(place, _)| {
            let before = sealed.partition_point(|part| part.start <= place.start);
            before.checked_sub(1).is_none_or(|last| sealed[last].end < place.end)
        });
    }
    if found.is_empty() {
        return clean.map(String::into_bytes);
    }
    Some(json::put(text, found).into_bytes())
}

fn changed(text: Cow<'_, [u8]>) -> Option<Vec<u8>> {
    match text {
        Cow::Borrowed(_) => None,
        Cow::Owned(text) => Some(text),
    }
}

/// An object, or the list of some, that is not at its end.
struct Open<'a> {
    start: usize,
    is_list: bool,
    /// The member that it is of the object around it, also through lists.
    member: &'a str,
    /// Whether a vendor's format gives it its meaning.
    known: bool,
    /// The member that is read next.
    name: &'a str,
    /// Its `type`.
    kind: &'a str,
    /// Its `data`, where it is a string.
    data: Option<Range<usize>>,
    signs_all: bool,
}

/// The parts of a JSON text that a vendor signed or sealed, or takes as base 64; quotes and brackets included, in their
/// order, none within another. `text` is JSON.
///
/// - Thinking of Anthropic's models, with its signature, and OpenAI's reasoning: they go back as they came, or the
///   request is refused. Their words are the model's own.
/// - A part of Gemini's that carries a signature of its thoughts.
/// - `encrypted_content` and the signatures themselves.
/// - Pictures, sound and documents: `data` beside `"type": "base64"`, in `inlineData` and in `input_audio`; and every
///   `data:` address in base 64.
fn sealed(text: &str) -> Vec<Range<usize>> {
    let bytes = text.as_bytes();
    let (mut parts, mut open, mut at) = (Vec::new(), Vec::<Open<'_>>::new(), 0);
    while at < bytes.len() {
        let end = match bytes[at] {
            b'"' => json::string_end(bytes, at),
            _ => at + 1,
        };
        match bytes[at] {
            b'"' => string(text, at..end, open.last_mut(), &mut parts),
            b'{' | b'[' => {
                let next = Open::within(open.last(), at, bytes[at] == b'[');
                open.push(next);
            }
            b'}' | b']' => {
                if let Some(closed) = open.pop() {
                    parts.extend(closed.sealed(end));
                }
            }
            _ => {}
        }
        at = end;
    }
    parts.sort_unstable_by_key(|part| part.start);
    // A part lies before another or within it.
    parts.dedup_by(|next, before| next.start < before.end);
    parts
}

/// Whether a string of JSON, as it is spelled, is a `data:` address of base 64 and nothing else. A text that only begins as
/// one is none.
fn is_data_address(inner: &str) -> bool {
    const MARK: &str = ";base64,";
    let head = &inner[..inner.floor_char_boundary(DATA_HEAD)];
    if !head.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:")) {
        return false;
    }
    let Some(at) = head.find(MARK) else { return false };
    // JSON may spell a slash as `\/`; any other escape is no letter of base 64.
    let data = inner[at + MARK.len()..].trim_end_matches('=').as_bytes();
    data.iter().enumerate().all(|(n, &byte)| match byte {
        b'+' | b'/' | b'-' | b'_' => true,
        b'\\' => data.get(n + 1) == Some(&b'/'),
        _ => byte.is_ascii_alphanumeric(),
    })
}

/// Takes in the string at `place`: a member's name, or what a member is.
fn string<'a>(text: &'a str, place: Range<usize>, around: Option<&mut Open<'a>>, parts: &mut Vec<Range<usize>>) {
    let inner = &text[place.start + 1..place.end - 1];
    let is_name = text[place.end..].trim_start().starts_with(':');
    if !is_name && is_data_address(inner) {
        parts.push(place);
        return;
    }
    let Some(around) = around.filter(|around| !around.is_list) else { return };
    if is_name {
        around.name = inner;
        around.signs_all |= SIGNS_ALL.contains(&inner);
        return;
    }
    match around.name {
        "type" => around.kind = inner,
        "data" => around.data = Some(place),
        name if around.known && SEALED.contains(&name) => parts.push(place),
        _ => {}
    }
}

impl<'a> Open<'a> {
    /// What begins at `start`, in `around`.
    fn within(around: Option<&Self>, start: usize, is_list: bool) -> Self {
        let (member, known) = match around {
            None => ("", true),
            Some(list) if list.is_list => (list.member, list.known),
            // `input` is OpenAI's list of everything that was said, and in a tool's call whatever the tool takes.
            Some(object) => {
                let of_all = object.member.is_empty() && object.name == "input";
                (object.name, object.known && (of_all || KNOWN.contains(&object.name)))
            }
        };
        Self { start, is_list, member, known, name: "", kind: "", data: None, signs_all: false }
    }

    /// What of it is sealed, now that it ends before `end`.
    fn sealed(self, end: usize) -> Option<Range<usize>> {
        if !self.known || self.is_list {
            return None;
        }
        let of_the_vendor = OF_THE_VENDOR.contains(&self.kind) || self.kind.starts_with("reasoning.");
        // Google's signature beside a call of OpenAI's format is one of its neighbours, and no more.
        if of_the_vendor || self.signs_all && self.member == "parts" {
            return Some(self.start..end);
        }
        self.data.filter(|_| self.kind == "base64" || OF_DATA.contains(&self.member))
    }
}

#[cfg(test)]
mod tests;
