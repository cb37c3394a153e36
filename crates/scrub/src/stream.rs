//! Finding values in texts that arrive in pieces.

use crate::Scrubber;
use zeroize::Zeroize;

/// One text, in pieces: the pieces that come out, put together, are [`Scrubber::scrub`] of the pieces that went in.
///
/// Nothing is held back but an end that could still become a value: text flows as it arrives.
#[derive(Debug)]
pub struct Stream {
    scrubber: Scrubber,
    held: Held,
}

/// Could be most of a secret: not printed, overwritten when dropped.
struct Held(Vec<u8>);

impl Stream {
    pub(crate) fn new(scrubber: Scrubber) -> Self {
        Self { scrubber, held: Held(Vec::new()) }
    }

    /// Takes the next piece in, and gives all that is decided: everything but an end that could still become a value.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.held.0.is_empty() {
            return self.decide(bytes);
        }
        let mut text = std::mem::take(&mut self.held.0);
        text.extend_from_slice(bytes);
        let out = self.decide(&text);
        text.zeroize();
        out
    }

    /// Gives what of `text` is decided and holds the rest back.
    fn decide(&mut self, text: &[u8]) -> Vec<u8> {
        let (mut out, mut at) = (Vec::with_capacity(text.len()), 0);
        let mut undecided = self.scrubber.held_from(text);
        while let Some(found) = self.scrubber.find(&text[at..]) {
            // From the undecided end on, what is to come can still make a find longer.
            if at + found.start >= undecided {
                break;
            }
            out.extend_from_slice(&text[at..at + found.start]);
            out.extend_from_slice(found.placeholder.as_bytes());
            at += found.end;
            if at > undecided {
                undecided = at + self.scrubber.held_from(&text[at..]);
            }
        }
        out.extend_from_slice(&text[at..undecided]);
        self.held.0 = text[undecided..].to_vec();
        out
    }

    /// Says that no more comes, and gives what was held back, scrubbed.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.scrubber.scrub(&self.held.0).into_owned()
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{} bytes held]", self.0.len())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}
