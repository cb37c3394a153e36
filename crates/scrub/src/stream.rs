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

    /// Of a stream that is cut by length and lines: gives what one for people would have given by now, if `may` be told that then
    /// so many bytes of the end are held back; nothing otherwise. Whoever sees the pieces learns by it whether the text ends as a
    /// value begins, and as how much of one.
    pub fn ease(&mut self, may: impl FnOnce(usize) -> bool) -> Vec<u8> {
        let before = (self.values.clone(), self.formats.clone());
        let even = std::mem::replace(&mut self.even, false);
        let mut out = self.take(&[], false);
        self.even = even;
        if !may(self.waiting()) {
            out.zeroize();
            (self.values, self.formats) = before;
        }
        out
    }

    /// Whether anything is held back.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.waiting() > 0
    }

    /// What of the text's end is held back, as it came.
    #[must_use]
    pub fn held(&self) -> Vec<u8> {
        [self.formats.kept(), self.values.kept()].concat()
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
/// Of the text before [`Spans::decided`] all are known, and where that is says what could still become a value, as in
/// [`Scrubber::stream`]. Before [`Spans::even`] all are known too, and where that is says nothing, as in [`Scrubber::even_stream`].
/// Formats are not looked for.
#[derive(Debug)]
pub struct Spans {
    scrubber: Scrubber,
    held: Held,
    decided: u64,
    length: u64,
    even: u64,
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
        Self { scrubber, held: Held::default(), decided: 0, length: 0, even: 0 }
    }

    /// How many bytes from the text's beginning are decided.
    #[must_use]
    pub fn decided(&self) -> u64 {
        self.decided
    }

    /// How many bytes from the text's beginning go on so that how many says nothing of a value.
    #[must_use]
    pub fn even(&self) -> u64 {
        self.even
    }

    /// Takes the next piece in, and gives the values that are decided with it, in their order.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Span> {
        let values = self.scrubber.values();
        let by_lines = values.after_lines(bytes).map_or(0, |end| self.length + end as u64);
        self.length += bytes.len() as u64;
        let by_length = (self.length + 1).saturating_sub(values.longest() as u64);
        self.even = self.even.max(by_lines).max(by_length);
        self.take(bytes, false)
    }

    /// Says that no more comes, and gives the values in what was not decided.
    pub fn finish(&mut self) -> Vec<Span> {
        self.take(&[], true)
    }

    /// The values in what is not decided, as if no more came. What does come is looked through with it all the same.
    #[must_use]
    pub fn so_far(&self) -> Vec<Span> {
        self.found(self.held.kept(), true).0
    }

    /// The values in this text from [`Spans::decided`] on, and how much of it is decided.
    fn found(&self, text: &[u8], last: bool) -> (Vec<Span>, usize) {
        let (mut at, mut found) = (0, Vec::new());
        loop {
            match self.scrubber.values().next(text, at, last) {
                Next::Found { start, end, placeholder } => {
                    let (start, ends) = (self.decided + start as u64, self.decided + end as u64);
                    found.push(Span { start, end: ends, placeholder: placeholder.into_owned() });
                    at = end;
                }
                Next::None(held) => return (found, held.max(at)),
            }
        }
    }

    fn take(&mut self, bytes: &[u8], last: bool) -> Vec<Span> {
        let mut text = self.held.open();
        text.extend_from_slice(bytes);
        let (found, decided) = self.found(&text, last);
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
