//! Scrubbing texts that arrive in pieces.

use crate::{
    Scrubber,
    search::{Held, Next, Search as _},
};
use zeroize::Zeroize;

/// One text, in pieces: the pieces that come out, put together, are [`Scrubber::scrub`] of the pieces that went in.
///
/// For people ([`Scrubber::stream`]) nothing is held back but an end that could still become a value or a credential: text flows
/// as it arrives. Whoever sees the pieces and can have a text said to him learns a value by that, letter by letter: an end that is
/// held back was guessed right. So what goes to a box ([`Scrubber::even_stream`]) is cut by its length and its lines alone. What is
/// held is at most as long as the longest form of a value, and 16 KiB more where formats are looked for.
#[derive(Debug)]
pub struct Stream {
    scrubber: Scrubber,
    even: bool,
    values: Held,
    formats: Held,
}

impl Stream {
    pub(crate) fn new(scrubber: Scrubber, even: bool) -> Self {
        Self { scrubber, even, values: Held::default(), formats: Held::default() }
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
        self.formats.decide(&formats.marked(self.scrubber.key()), &text, text.len(), last, &mut out);
        wipe_end(&mut text, self.formats.len());
        out
    }

    fn of_values(&mut self, bytes: &[u8], last: bool, out: &mut Vec<u8>) {
        let (values, even, held) = (self.scrubber.values(), self.even, &mut self.values);
        let until = |text: &[u8]| if even && !last { values.even(text) } else { text.len() };
        if held.is_empty() {
            return held.decide(values, bytes, until(bytes), last, out);
        }
        let mut text = held.open();
        text.extend_from_slice(bytes);
        held.decide(values, &text, until(&text), last, out);
        text.zeroize();
    }
}

/// Overwrites what is held back in the copy that is not kept; the rest was given out.
fn wipe_end(text: &mut [u8], held: usize) {
    let from = text.len().saturating_sub(held);
    text[from..].zeroize();
}

/// Where in a text that arrives in pieces values stand: for whoever puts the placeholders in by itself.
///
/// Of the text before [`Spans::decided`] all are known. Where that is says what could still become a value, as in
/// [`Scrubber::stream`], until [`Spans::be_even`] is said: from then on nothing, as in [`Scrubber::even_stream`]. Formats are not
/// looked for.
#[derive(Debug)]
pub struct Spans {
    scrubber: Scrubber,
    even: bool,
    held: Held,
    decided: u64,
}

/// A value in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Its first byte, from the text's beginning.
    pub start: u64,
    /// The first byte after it.
    pub end: u64,
    /// What takes its place.
    pub placeholder: String,
}

impl Spans {
    pub(crate) fn new(scrubber: Scrubber) -> Self {
        Self { scrubber, even: false, held: Held::default(), decided: 0 }
    }

    /// From here on where the text is decided says nothing of a value.
    pub fn be_even(&mut self) {
        self.even = true;
    }

    /// How many bytes from the text's beginning are decided.
    #[must_use]
    pub fn decided(&self) -> u64 {
        self.decided
    }

    /// Takes the next piece in, and gives the values that are decided with it, in their order.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Span> {
        self.take(bytes, false)
    }

    /// Says that no more comes, and gives the values in what was not decided.
    pub fn finish(&mut self) -> Vec<Span> {
        self.take(&[], true)
    }

    fn take(&mut self, bytes: &[u8], last: bool) -> Vec<Span> {
        let mut text = self.held.open();
        text.extend_from_slice(bytes);
        let values = self.scrubber.values();
        let until = if self.even && !last { values.even(&text) } else { text.len() };
        let (mut at, mut found) = (0, Vec::new());
        let decided = loop {
            match values.next(&text, at, last) {
                Next::Found { start, .. } if start >= until => break until.max(at),
                Next::Found { start, end, placeholder } => {
                    let (start, ends) = (self.decided + start as u64, self.decided + end as u64);
                    found.push(Span { start, end: ends, placeholder: placeholder.into_owned() });
                    at = end;
                }
                Next::None(held) => break held.min(until).max(at),
            }
        };
        self.decided += decided as u64;
        self.held.keep(&text[decided..]);
        text.zeroize();
        found
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{} bytes held]", self.len())
    }
}
