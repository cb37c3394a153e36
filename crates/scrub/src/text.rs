//! Scrubbing a text that arrives in pieces of text, so that text comes out.

use crate::{Scrubber, Stream};

/// One text, in pieces: what comes out, put together, is [`Scrubber::scrub_str`] of what went in. Holds back as much as
/// [`Stream`] does.
#[derive(Debug)]
pub struct Text {
    stream: Stream,
    /// The first bytes of a character whose others are held back.
    cut: Vec<u8>,
}

impl Text {
    /// A text of which nothing was said yet.
    #[must_use]
    pub fn new(scrubber: &Scrubber) -> Self {
        Self { stream: scrubber.stream(), cut: Vec::new() }
    }

    /// Takes the next piece in, or the last one, and gives what is decided. From here on `scrubber` scrubs, what is held
    /// back included. After the last piece another text may begin.
    pub fn take(&mut self, scrubber: &Scrubber, piece: &str, last: bool) -> String {
        self.stream.renew(scrubber.clone());
        let mut decided = self.stream.push(piece.as_bytes());
        if last {
            decided.extend(std::mem::replace(&mut self.stream, scrubber.stream()).finish());
        }
        whole_characters(&mut self.cut, decided, last)
    }
}

/// Bytes as text, those of a character that was cut before them; those of a last one that is not whole wait in `cut`,
/// unless nothing more comes.
pub(crate) fn whole_characters(cut: &mut Vec<u8>, decided: Vec<u8>, last: bool) -> String {
    let mut bytes = std::mem::take(cut);
    bytes.extend(decided);
    if let Err(error) = std::str::from_utf8(&bytes)
        && error.error_len().is_none()
        && !last
    {
        *cut = bytes.split_off(error.valid_up_to());
    }
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Formats;
    use model::Secret;

    #[test]
    fn a_private_key_over_many_pieces_is_one_secret_and_the_next_text_begins_anew() {
        let scrubber = Scrubber::new([("k".to_owned(), Secret::new("grün-hunter2-äöü".to_owned()))]);
        let scrubber = scrubber.with_formats(Formats::load().unwrap());
        let body = "+MIIEowIBAAKCAQEAtk9h7s8d6f5g4h3j2k1l0q9w8e7r6t5y4u3i2o1pAsDfGhJk\n".repeat(30);
        let whole = format!(
            "+é before\n+-----BEGIN RSA PRIVATE KEY-----\n{body}+-----END RSA PRIVATE KEY-----\n+é grün-hunter2-äöü é\n"
        );
        let expected = "+é before\n+[redacted: private-key]\n+é [scrubbed:k] é\n";
        for size in [1, 2, 7, 64, 1000, 10_000] {
            let mut text = Text::new(&scrubber);
            for _ in 0..2 {
                let (mut out, mut rest) = (String::new(), whole.as_str());
                while !rest.is_empty() {
                    let (piece, after) = rest.split_at(rest.ceil_char_boundary(size));
                    rest = after;
                    out += &text.take(&scrubber, piece, rest.is_empty());
                }
                assert_eq!(out, expected, "in pieces of {size}");
            }
        }
    }
}
