//! What may stand around a credential, so that it is one and no part of something else.

use serde::Deserialize;

/// What may stand before a keyword. The start of the text always may, and so may the end of an escape
/// (`\n`, `\u003d`, `%3D`, a colour of a terminal), whatever letter or digit it ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Before {
    /// No letter and no digit.
    #[default]
    NoWord,
    /// No letter, digit, `_` or `-`: for tokens made of those.
    NoToken,
    /// A digit.
    Digit,
    /// Anything.
    Any,
}

/// What may stand after a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum After {
    /// No letter and no digit.
    #[default]
    NoWord,
    /// No letter, digit, `_`, `-`, `+`, `/` or `=`.
    NoToken,
    /// An `@`.
    At,
    /// The end of a value: white space, a quote, a backslash, or one of `,;&)}]<#|`.
    Value,
    /// Anything.
    Any,
}

impl Before {
    /// Whether it may stand after this text.
    pub(crate) fn holds(self, before: &[u8]) -> bool {
        let Some(&byte) = before.last() else {
            return self != Self::Digit;
        };
        match self {
            Self::Any => true,
            Self::Digit => byte.is_ascii_digit(),
            Self::NoWord => !byte.is_ascii_alphanumeric() || ends_an_escape(before),
            Self::NoToken => !is_token(byte) || ends_an_escape(before),
        }
    }
}

impl After {
    /// Whether it may stand before this byte.
    pub(crate) fn holds(self, next: Option<&u8>) -> bool {
        match (self, next) {
            (Self::At, next) => next == Some(&b'@'),
            (_, None) | (Self::Any, _) => true,
            (Self::NoWord, Some(byte)) => !byte.is_ascii_alphanumeric(),
            (Self::NoToken, Some(byte)) => !is_token(*byte) && !b"+/=".contains(byte),
            (Self::Value, Some(byte)) => byte.is_ascii_whitespace() || b"\"'`\\,;&)}]<#|\x1b\0".contains(byte),
        }
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// Whether the last letter or digit of `text` belongs to an escape and not to a word.
fn ends_an_escape(text: &[u8]) -> bool {
    let hex = |count: usize, mark: &[u8]| {
        text.len() >= count
            && text[text.len() - count..].iter().all(u8::is_ascii_hexdigit)
            && text[..text.len() - count].ends_with(mark)
    };
    let [.., slash, letter] = text else { return false };
    if *slash == b'\\' && b"nrtbfve0".contains(letter) || hex(4, b"\\u") || hex(2, b"%") || hex(2, b"\\x") {
        return true;
    }
    // ESC [ 3 2 m, the escape itself in one of its spellings.
    let numbers =
        text[..text.len() - 1].iter().rev().take(10).take_while(|b| b.is_ascii_digit() || **b == b';').count();
    let [before @ .., b'['] = &text[..text.len() - 1 - numbers] else { return false };
    letter.is_ascii_alphabetic()
        && [&b"\x1b"[..], b"\\u001b", b"\\u001B", b"\\x1b", b"\\x1B", b"\\033", b"\\e"]
            .iter()
            .any(|esc| before.ends_with(esc))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_escape_before_a_token_is_no_word() {
        for before in ["\\n", "\\u003d", "%3D", "\\x3d", "\u{1b}[32m", "\\u001b[1;32m"] {
            assert!(Before::NoWord.holds(before.as_bytes()), "{before:?}");
        }
        for before in ["n", "a\\\\", "x%3", "[32m", "task"] {
            assert_eq!(Before::NoWord.holds(before.as_bytes()), before.ends_with('\\'), "{before:?}");
        }
    }
}
