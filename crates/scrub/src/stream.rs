//! Scrubbing texts that arrive in pieces.

use crate::{Scrubber, search::Held};
use zeroize::Zeroize;

/// One text, in pieces: the pieces that come out, put together, are [`Scrubber::scrub`] of the pieces that went in.
///
/// Nothing is held back but an end that could still become a value or a credential: text flows as it arrives. What is
/// held is at most as long as the longest form of a value, and 16 KiB more where formats are looked for.
#[derive(Debug)]
pub struct Stream {
    scrubber: Scrubber,
    values: Held,
    formats: Held,
}

impl Stream {
    pub(crate) fn new(scrubber: Scrubber) -> Self {
        Self { scrubber, values: Held::default(), formats: Held::default() }
    }

    /// Takes the next piece in, and gives all that is decided: everything but an end that could still become a value
    /// or a credential.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.take(bytes, false)
    }

    /// Says that no more comes, and gives what was held back, scrubbed.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.take(&[], true)
    }

    /// From here on scrubs by `scrubber`, what is held back included.
    pub fn renew(&mut self, scrubber: Scrubber) {
        self.scrubber = scrubber;
    }

    /// Whether anything is held back.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.waiting() > 0
    }

    /// How many bytes of the text's end are held back.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.values.len() + self.formats.len()
    }

    fn take(&mut self, bytes: &[u8], last: bool) -> Vec<u8> {
        let Some(formats) = self.scrubber.formats() else {
            let mut out = Vec::with_capacity(bytes.len());
            self.of_values(bytes, last, &mut out);
            return out;
        };
        let mut text = self.formats.open();
        text.reserve(bytes.len());
        self.of_values(bytes, last, &mut text);
        let mut out = Vec::with_capacity(text.len());
        self.formats.decide(&formats.marked(self.scrubber.key()), &text, last, &mut out);
        wipe_end(&mut text, self.formats.len());
        out
    }

    fn of_values(&mut self, bytes: &[u8], last: bool, out: &mut Vec<u8>) {
        let (scrubber, held) = (&self.scrubber, &mut self.values);
        if held.is_empty() {
            return held.decide(scrubber.values(), bytes, last, out);
        }
        let mut text = held.open();
        text.extend_from_slice(bytes);
        held.decide(scrubber.values(), &text, last, out);
        text.zeroize();
    }
}

/// Overwrites what is held back in the copy that is not kept; the rest was given out.
fn wipe_end(text: &mut [u8], held: usize) {
    let from = text.len().saturating_sub(held);
    text[from..].zeroize();
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{} bytes held]", self.len())
    }
}
