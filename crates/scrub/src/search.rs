//! What both searches have in common: replacing what is found, in whole texts and in texts that arrive in pieces.

use std::borrow::Cow;
use zeroize::Zeroize;

/// Looks for what must not stand in a text.
pub(crate) trait Search {
    /// The next place to replace in `text`, not before `from`. What stands before `from` is there to be looked back at.
    ///
    /// `last` says that nothing comes after `text`. The answer depends on nothing but the bytes: one that is given
    /// when more may come is the answer for every continuation.
    fn next(&self, text: &[u8], from: usize, last: bool) -> Next<'_>;

    /// How many bytes before a place it looks back at, at most.
    const BEHIND: usize;
}

/// The answer of a search.
pub(crate) enum Next<'a> {
    /// These bytes are to be replaced.
    Found {
        /// The first of them.
        start: usize,
        /// The first after them.
        end: usize,
        /// What takes their place.
        placeholder: Cow<'a, str>,
    },
    /// Nothing is to be replaced that begins before this place, and from there on it depends on what comes;
    /// the end of the text when nothing does.
    None(usize),
}

/// `text` with everything replaced; the very same bytes when there is nothing to replace.
pub(crate) fn replace<'a>(search: &impl Search, text: &'a [u8]) -> Cow<'a, [u8]> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Next::Found { start, end, placeholder } = search.next(text, at, true) {
        out.extend_from_slice(&text[at..start]);
        out.extend_from_slice(placeholder.as_bytes());
        at = end;
    }
    if at == 0 {
        return Cow::Borrowed(text);
    }
    out.extend_from_slice(&text[at..]);
    Cow::Owned(out)
}

/// The end of a text of which more may come.
#[derive(Default, Clone)]
pub(crate) struct Held {
    /// Some bytes that were given out already, to look back at, and those that were not.
    text: Vec<u8>,
    given: usize,
}

impl Held {
    /// What of the text is still here, for the next piece to be appended to.
    pub(crate) fn open(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.text)
    }

    /// Whether there is nothing that a next piece has to be appended to.
    pub(crate) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Appends what is decided of `text` to `out`, of what begins before `until`; of the last text, that is everything.
    /// `text` is what [`Held::open`] gave and the next piece.
    pub(crate) fn decide<S: Search>(&mut self, search: &S, text: &[u8], until: usize, last: bool, out: &mut Vec<u8>) {
        let mut at = self.given;
        let held = loop {
            match search.next(text, at, last) {
                Next::Found { start, .. } if start >= until => break until.max(at),
                Next::Found { start, end, placeholder } => {
                    out.extend_from_slice(&text[at..start]);
                    out.extend_from_slice(placeholder.as_bytes());
                    at = end;
                }
                Next::None(held) => break held.min(until).max(at),
            }
        };
        out.extend_from_slice(&text[at..held]);
        let behind = held.saturating_sub(S::BEHIND);
        self.text = text[behind..].to_vec();
        self.given = held - behind;
    }

    /// Holds this end back, of which nothing was given out.
    pub(crate) fn keep(&mut self, end: &[u8]) {
        (self.text, self.given) = (end.to_vec(), 0);
    }

    /// What is held back.
    pub(crate) fn kept(&self) -> &[u8] {
        &self.text[self.given..]
    }

    /// How many bytes are held back.
    pub(crate) fn len(&self) -> usize {
        self.text.len() - self.given
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.text.zeroize();
    }
}
