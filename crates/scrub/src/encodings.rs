//! In which forms a value can show up. Every form is a byte string to look for.

use base64::{Engine, alphabet, engine::general_purpose};
use std::{collections::BTreeSet, ops::Deref};
use zeroize::{Zeroize, Zeroizing};

/// One form of a value: sorts as its bytes, is overwritten when dropped, and cannot be printed.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Form(Vec<u8>);

impl Form {
    /// The same in lower case.
    pub(crate) fn folded(&self) -> Self {
        Self(self.0.to_ascii_lowercase())
    }
}

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
    for (before, between) in [("", " "), ("", ":"), ("\\x", "")] {
        for digits in [b"0123456789abcdef", b"0123456789ABCDEF"] {
            let pairs = raw.iter().map(|byte| [digits[usize::from(byte >> 4)], digits[usize::from(byte & 15)]]);
            let each = pairs.map(|pair| [before.as_bytes(), &pair[..]].concat()).collect::<Vec<_>>();
            add(each.join(between.as_bytes()));
        }
    }
    // Every character by its number: a JSON string that is all escapes, and markup.
    add(value.encode_utf16().flat_map(|unit| format!("\\u{unit:04x}").into_bytes()).collect());
    add(value.encode_utf16().flat_map(|unit| format!("\\u{unit:04X}").into_bytes()).collect());
    add(value.chars().flat_map(|char| format!("&#{};", u32::from(char)).into_bytes()).collect());
    let json: BTreeSet<Form> = JSON_STYLES.iter().map(|style| Form(json(value, *style).into_bytes())).collect();
    for once in &json {
        // Tool calls carry JSON in a JSON string, and whoever wrote the one need not have written the other.
        let once = std::str::from_utf8(once).unwrap_or_default();
        JSON_STYLES.iter().for_each(|style| add(self::json(once, *style).into_bytes()));
    }
    json.into_iter().for_each(|form| add(form.to_vec()));
    for escapes in MARKUP {
        add(replaced(value, escapes).into_bytes());
    }
    for (special, quote) in SHELL {
        add(quoted(value, special, quote).into_bytes());
    }
    for quote in ["'", ""] {
        add(python(value, quote).into_bytes());
        // The bytes, each as the character of its number.
        let bytes: String = raw.iter().copied().map(char::from).collect();
        add(python(&bytes, quote).into_bytes());
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
    /// These as `\u00xx`, for whoever puts it into a page.
    coded: &'static str,
    /// Everything outside ASCII as `\uxxxx`.
    ascii: bool,
    /// Hex digits in upper case.
    upper: bool,
}

const PLAIN: JsonStyle = JsonStyle { slash: false, coded: "", ascii: false, upper: false };

const JSON_STYLES: [JsonStyle; 10] = [
    PLAIN,
    JsonStyle { slash: true, ..PLAIN },
    JsonStyle { coded: "<>&", ..PLAIN },
    JsonStyle { ascii: true, ..PLAIN },
    JsonStyle { ascii: true, upper: true, ..PLAIN },
    JsonStyle { slash: true, ascii: true, ..PLAIN },
    // As Gson, .NET's two writers, and PHP with all of its options write it.
    JsonStyle { coded: "<>&='", ..PLAIN },
    JsonStyle { coded: "\"&'+<>`", ascii: true, upper: true, ..PLAIN },
    JsonStyle { coded: "<>&'", ..PLAIN },
    JsonStyle { coded: "\"&'<>", slash: true, ascii: true, upper: true },
];

fn json(text: &str, style: JsonStyle) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for char in text.chars() {
        match char {
            _ if style.coded.contains(char) => unicode(char, style.upper, &mut out),
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '/' if style.slash => out.push_str("\\/"),
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

/// How writers of HTML and XML differ: what takes the place of which character.
const MARKUP: [&[(char, &str)]; 8] = [
    &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;")],
    &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&quot;")],
    &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&quot;"), ('\'', "&#39;")],
    &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&quot;"), ('\'', "&#x27;")],
    &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&quot;"), ('\'', "&apos;")],
    &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&#34;"), ('\'', "&#39;")],
    &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&#34;"), ('\'', "&#39;"), ('+', "&#43;")],
    &[
        ('&', "&amp;"),
        ('<', "&lt;"),
        ('>', "&gt;"),
        ('"', "&quot;"),
        ('\'', "&#x27;"),
        ('=', "&#x3D;"),
        ('`', "&#x60;"),
    ],
];

fn replaced(text: &str, escapes: &[(char, &str)]) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for char in text.chars() {
        match escapes.iter().find(|(from, _)| *from == char) {
            Some((_, to)) => out.push_str(to),
            None => out.push(char),
        }
    }
    out
}

/// How shells, and languages after them, write a word: which characters get something of theirs, and what; none, a backslash before them.
const SHELL: [(&str, Option<&str>); 7] = [
    ("'", Some("'\\''")),
    ("'", Some("'\"'\"'")),
    ("\"$`\\", None),
    // And languages that quote as shells do.
    ("'\\", None),
    ("\\", None),
    (" !\"#$&'()*,;<>?[\\]^`{|}~", None),
    (" !\"#$&'()*;<=>?[\\]^`{|}~", None),
];

fn quoted(text: &str, special: &str, with: Option<&str>) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for char in text.chars() {
        match with {
            Some(with) if special.contains(char) => out.push_str(with),
            None if special.contains(char) => out.extend(['\\', char]),
            _ => out.push(char),
        }
    }
    out
}

/// As Python's `ascii` and its kin write it, in quotes of one kind or of the other.
fn python(text: &str, quote: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    for char in text.chars() {
        match u32::from(char) {
            0x5c => out.push_str("\\\\"),
            0x0a => out.push_str("\\n"),
            0x0d => out.push_str("\\r"),
            0x09 => out.push_str("\\t"),
            code @ (0..0x20 | 0x7f..=0xff) => out += &format!("\\x{code:02x}"),
            code @ 0x100..=0xffff => out += &format!("\\u{code:04x}"),
            code @ 0x1_0000.. => out += &format!("\\U{code:08x}"),
            _ if quote.contains(char) => out.extend(['\\', char]),
            _ => out.push(char),
        }
    }
    out
}
