//! In which forms a value can show up. Every form is a byte string to look for.

use base64::{Engine, alphabet, engine::general_purpose};
use std::{collections::BTreeSet, ops::Deref};
use zeroize::{Zeroize, Zeroizing};

/// One form of a value: sorts as its bytes, is overwritten when dropped, and cannot be printed.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Form(Vec<u8>);

impl Deref for Form {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Form {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// All forms of `value`, each once.
pub(crate) fn of(value: &str) -> BTreeSet<Form> {
    let mut forms = BTreeSet::new();
    let mut add = |form: Vec<u8>| {
        forms.insert(Form(form));
    };
    let raw = value.as_bytes();
    add(raw.to_vec());
    add(raw.iter().rev().copied().collect());
    add(value.chars().rev().collect::<String>().into_bytes());
    add(hex(raw, b"0123456789abcdef"));
    add(hex(raw, b"0123456789ABCDEF"));
    for (alphabet, offset) in
        [&alphabet::STANDARD, &alphabet::URL_SAFE].into_iter().flat_map(|a| (0..3).map(move |o| (a, o)))
    {
        add(base64_core(raw, alphabet, offset));
    }
    for (safe, digits) in
        SAFE_IN_URLS.iter().flat_map(|safe| [(safe, b"0123456789ABCDEF"), (safe, b"0123456789abcdef")])
    {
        add(percent(raw, safe, digits, false));
        add(percent(raw, safe, digits, true));
    }
    // Every byte, letters and digits too: what writers do that want nothing to be read.
    for digits in [b"0123456789ABCDEF", b"0123456789abcdef"] {
        add(hex(raw, digits).chunks(2).flat_map(|pair| [b'%', pair[0], pair[1]]).collect());
    }
    for style in JSON_STYLES {
        let once = json(value, style);
        // Tool calls carry JSON in a JSON string.
        add(json(&once, style).into_bytes());
        add(once.into_bytes());
    }
    forms
}

fn hex(raw: &[u8], digits: &[u8; 16]) -> Vec<u8> {
    raw.iter().flat_map(|byte| [digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]).collect()
}

/// The characters of the base 64 text that depend on `raw` alone when `offset` (0 to 2) unknown bytes,
/// modulo 3, come before it and anything after it.
fn base64_core(raw: &[u8], alphabet: &alphabet::Alphabet, offset: usize) -> Vec<u8> {
    let mut shifted = Zeroizing::new(vec![0; offset]);
    shifted.extend_from_slice(raw);
    let engine = general_purpose::GeneralPurpose::new(alphabet, general_purpose::NO_PAD);
    let text = Zeroizing::new(engine.encode(&*shifted));
    let (first, last) = ((offset * 8).div_ceil(6), shifted.len() * 8 / 6);
    text.as_bytes()[first..last].to_vec()
}

/// What different programs leave as it is when they percent-encode, beside letters and digits.
const SAFE_IN_URLS: [&[u8]; 6] = [
    // All of it encoded but letters and digits; form encoding; RFC 3986; the same with slashes; and
    // the two functions of JavaScript.
    b"",
    b"*-._",
    b"-._~",
    b"-._~/",
    b"-._~!*'()",
    b"-._~!*'();/?:@&=+$,#",
];

fn percent(raw: &[u8], safe: &[u8], digits: &[u8; 16], plus_for_space: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len() * 3);
    for &byte in raw {
        match byte {
            b' ' if plus_for_space => out.push(b'+'),
            _ if byte.is_ascii_alphanumeric() || safe.contains(&byte) => out.push(byte),
            _ => out.extend_from_slice(&[b'%', digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]),
        }
    }
    out
}

/// How JSON writers differ, beside what all must escape.
#[derive(Clone, Copy)]
struct JsonStyle {
    /// `/` as `\/`.
    slash: bool,
    /// `<`, `>` and `&` as `\u00xx`, for HTML.
    html: bool,
    /// Everything outside ASCII as `\uxxxx`.
    ascii: bool,
    /// Hex digits in upper case.
    upper: bool,
}

const JSON_STYLES: [JsonStyle; 6] = [
    JsonStyle { slash: false, html: false, ascii: false, upper: false },
    JsonStyle { slash: true, html: false, ascii: false, upper: false },
    JsonStyle { slash: false, html: true, ascii: false, upper: false },
    JsonStyle { slash: false, html: false, ascii: true, upper: false },
    JsonStyle { slash: false, html: false, ascii: true, upper: true },
    JsonStyle { slash: true, html: false, ascii: true, upper: false },
];

fn json(text: &str, style: JsonStyle) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '/' if style.slash => out.push_str("\\/"),
            '<' | '>' | '&' if style.html => unicode(char, style.upper, &mut out),
            '\0'..' ' => unicode(char, style.upper, &mut out),
            _ if style.ascii && !char.is_ascii() => unicode(char, style.upper, &mut out),
            _ => out.push(char),
        }
    }
    out
}

fn unicode(char: char, upper: bool, out: &mut String) {
    for unit in char.encode_utf16(&mut [0; 2]) {
        *out += &if upper { format!("\\u{unit:04X}") } else { format!("\\u{unit:04x}") };
    }
}
