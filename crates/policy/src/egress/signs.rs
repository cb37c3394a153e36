//! What a request's headers carry that decides whether it is a read: a body, an upgrade, an override, a
//! credential, this run's handle.

use super::credentials;
use base64::Engine as _;
use base64::alphabet::STANDARD as STANDARD_ALPHABET;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use model::Secret;

/// What every handle starts with.
const HANDLE_PREFIX: &str = "vh_";
/// What follows, in characters of base 32 (`a-z`, `2-7`): 256 random bits.
const HANDLE_CHARS: usize = 52;

/// What the headers of one request carry. The gateway adds what only it sees (a body without a header that
/// announces it, an extended CONNECT).
#[derive(Debug, Default)]
pub struct Signs {
    /// It asks for another protocol (WebSocket, extended CONNECT, `Upgrade` of any kind).
    pub upgrade: bool,
    /// It says that this is a WebSocket, over HTTP/1.1: the one upgrade that goes through.
    pub websocket: bool,
    /// It announces a body, or has one; a length of zero is none.
    pub body: bool,
    /// A header asks for another method, host or path than the request's own.
    pub overrides: bool,
    /// A header that carries a credential other than the handle; cookies are counted apart.
    pub credential: bool,
    /// A Cookie header.
    pub cookie: bool,
    /// Handles of this platform, whosesoever.
    pub handle: Handle,
}

/// Handles in a request's headers.
#[derive(Debug, Default)]
pub enum Handle {
    /// None.
    #[default]
    None,
    /// One, where a credential stands: alone in a header, after one word (`Bearer`, `token` …), or as the user of basic auth.
    Shown {
        /// The header, lower case.
        header: String,
        /// The handle; its SHA-256 is what the server is asked about.
        handle: Secret<String>,
        /// How it stands there, so that the credential can take its place.
        place: Place,
    },
    /// In another place, or more than one. Refused, and told to people.
    Misplaced,
}

/// How a handle stands in a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The whole value.
    Whole,
    /// After one word and one space.
    AfterWord,
    /// `Basic`, and the user part of it; the password is empty or a fixed word without meaning.
    BasicUser,
}

impl Signs {
    /// Reads headers, given as name and value; names in any case.
    pub fn of<'h>(headers: impl IntoIterator<Item = (&'h str, &'h [u8])>) -> Self {
        let mut signs = Self::default();
        for (name, value) in headers {
            signs.take(&name.to_ascii_lowercase(), value);
        }
        signs
    }

    fn take(&mut self, name: &str, value: &[u8]) {
        match shown(name, value) {
            // A name goes to the host as a value does.
            _ if holds_handle(name.as_bytes()) => self.handle = Handle::Misplaced,
            Handle::None => self.credential |= credentials::is_header(name),
            one @ Handle::Shown { .. } if matches!(self.handle, Handle::None) => self.handle = one,
            _ => self.handle = Handle::Misplaced,
        }
        match name {
            "upgrade" => {
                self.websocket = value.eq_ignore_ascii_case(b"websocket");
                self.upgrade = true;
            }
            "http2-settings" => self.upgrade = true,
            _ if name.starts_with("sec-websocket-") => self.upgrade = true,
            "content-length" => self.body |= value.trim_ascii() != b"0",
            "transfer-encoding" | "trailer" | "expect" => self.body = true,
            "cookie" | "cookie2" => self.cookie = true,
            _ => self.overrides |= is_override(name),
        }
    }
}

/// Whether a text holds a handle of this platform, at any place.
#[must_use]
pub fn holds_handle(text: &[u8]) -> bool {
    let is_char = |c: &u8| matches!(c, b'a'..=b'z' | b'2'..=b'7');
    let found = |at: usize| {
        let after = &text[at + HANDLE_PREFIX.len()..];
        after.len() >= HANDLE_CHARS && after[..HANDLE_CHARS].iter().all(is_char)
    };
    text.windows(HANDLE_PREFIX.len()).enumerate().any(|(at, w)| w == HANDLE_PREFIX.as_bytes() && found(at))
}

/// Bytes of a text that comes in pieces that are looked at again with what follows them: the longest form in which a
/// handle is looked for, percent-encoded to the last letter.
pub const HELD: usize = (HANDLE_PREFIX.len() + HANDLE_CHARS) * 3;

/// Whether a text holds a handle as it is, in percent-encoding, or in base64 (of either alphabet, at any place in it).
#[must_use]
pub fn hides_handle(text: &[u8]) -> bool {
    holds_handle(text) || (text.contains(&b'%') && holds_handle(&decoded(text))) || in_base64(text)
}

/// The text with its percent-encoded letters as they are.
#[must_use]
pub fn decoded(text: &[u8]) -> Vec<u8> {
    let digit = |at: usize| text.get(at).and_then(|b| char::from(*b).to_digit(16));
    let mut plain = Vec::with_capacity(text.len());
    let mut at = 0;
    while at < text.len() {
        let code = if text[at] == b'%' { digit(at + 1).zip(digit(at + 2)) } else { None };
        match code.and_then(|(high, low)| u8::try_from(high << 4 | low).ok()) {
            Some(byte) => {
                plain.push(byte);
                at += 3;
            }
            None => {
                plain.push(text[at]);
                at += 1;
            }
        }
    }
    plain
}

fn in_base64(text: &[u8]) -> bool {
    let shortest = (HANDLE_PREFIX.len() + HANDLE_CHARS) * 4 / 3;
    let is_letter = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'-' | b'_');
    text.split(|b| !is_letter(b)).filter(|run| run.len() >= shortest).any(|run| {
        let run: Vec<u8> = run
            .iter()
            .map(|b| {
                if *b == b'-' {
                    b'+'
                } else if *b == b'_' {
                    b'/'
                } else {
                    *b
                }
            })
            .collect();
        // Where the quartets begin is known only to whoever encoded.
        (0..4).any(|from| {
            let quartets = &run[from..];
            let whole = &quartets[..quartets.len() / 4 * 4];
            let rest = &quartets[whole.len()..];
            let plain = |text: &[u8]| ANY_END.decode(text).unwrap_or_default();
            // One letter more than quartets is no end of any text.
            holds_handle(&[plain(whole), if rest.len() > 1 { plain(rest) } else { Vec::new() }].concat())
        })
    })
}

/// Base64 as it stands in the middle of a text: the bits behind its last letter are not looked at.
const ANY_END: GeneralPurpose = GeneralPurpose::new(
    &STANDARD_ALPHABET,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

fn is_handle(text: &str) -> bool {
    text.len() == HANDLE_PREFIX.len() + HANDLE_CHARS && holds_handle(text.as_bytes())
}

fn shown(name: &str, value: &[u8]) -> Handle {
    let Ok(text) = std::str::from_utf8(value) else {
        return if hides_handle(value) { Handle::Misplaced } else { Handle::None };
    };
    let one =
        |handle: &str, place| Handle::Shown { header: name.to_owned(), handle: Secret::new(handle.to_owned()), place };
    let (word, rest) = text.split_once(' ').unwrap_or(("", text));
    if word.eq_ignore_ascii_case("basic") {
        return match basic_user(rest) {
            Some(Ok(user)) => one(&user, Place::BasicUser),
            Some(Err(())) => Handle::Misplaced,
            None if hides_handle(value) => Handle::Misplaced,
            None => Handle::None,
        };
    }
    // The proxy's own credential is no place: nothing is injected there.
    match is_handle(rest) {
        true if is_place(name) && word.is_empty() => one(rest, Place::Whole),
        true if is_place(name) && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') => {
            one(rest, Place::AfterWord)
        }
        _ if hides_handle(value) => Handle::Misplaced,
        _ => Handle::None,
    }
}

/// The handle in the user part of basic auth; an error when it stands in its password.
fn basic_user(encoded: &str) -> Option<Result<String, ()>> {
    let plain = STANDARD.decode(encoded.trim()).ok()?;
    if !holds_handle(&plain) {
        return None;
    }
    let plain = String::from_utf8(plain).ok()?;
    let Some((user, password)) = plain.split_once(':') else { return Some(Err(())) };
    // What tools put there when the user is the token.
    let empty = matches!(password, "" | "x-oauth-basic");
    Some(if is_handle(user) && empty { Ok(user.to_owned()) } else { Err(()) })
}

/// Headers in which a handle can stand for a credential: those that carry one, but the proxy's and cookies, and what is kept beside
/// an object to be read again (`x-amz-meta-token`).
fn is_place(name: &str) -> bool {
    credentials::is_header(name) && !name.starts_with("proxy-") && !name.contains("-meta-")
}

/// How headers begin by which proxies say what was asked of them, which some servers take for the request's own.
const SAID: [&str; 4] = ["xforwarded", "xoriginal", "xrewrite", "xenvoyoriginal"];
/// What they say so.
const PARTS: [&str; 7] = ["method", "host", "server", "url", "uri", "path", "prefix"];

/// Headers by which some servers take another method, host or path than the request's, by their letters and digits.
fn is_override(name: &str) -> bool {
    let letters: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    let said = SAID.into_iter().filter_map(|said| letters.strip_prefix(said)).any(|part| PARTS.contains(&part));
    said || letters.contains("override")
        || matches!(letters.as_str(), "xhttpmethod" | "xmethod" | "httpmethod" | "xhost" | "forwarded")
}
