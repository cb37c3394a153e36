//! What a host says over a WebSocket to a request with a credential: its frames are taken apart, and what stands in them
//! is scrubbed as two texts, that of its messages and that of its control frames, wherever frames cut them.
//!
//! A message does not survive a change of its length, so nothing is replaced: the WebSocket is cut before the credential
//! would be said. Until it is known that a text's end does not begin to say it, that end waits; it may be the beginning
//! of an ordinary word as well, so of what waits at the end of a message [`TELLS_NOTHING`] bytes go on. A message, or a
//! ping, of which more waits is held, and so is all that follows it: for [`super::limits::HELD_MESSAGE`] at most, counted for
//! each from the moment at which its own end came. In the middle of a message so much waits as the credential is long, whatever
//! it is: that something waits says nothing there (decision 0057).
//!
//! Nothing here reads a clock: callers pass `now`.
//!
//! Read [`Heard::push`], then [`Text`].

use super::frames::{Fault, Heads};
use super::run::TELLS_NOTHING;
use scrub::Scrubber;
use std::collections::VecDeque;
use tokio::time::Instant;

/// Most that waits, in bytes: the longest form of a value, and what comes beside it.
const WAITS: usize = 1 << 20;

/// A host's frames, in pieces as they come.
pub(crate) struct Heard {
    heads: Heads,
    /// Bytes of a head of which not all is there.
    begun: usize,
    /// What is still to come of the frame's payload.
    left: u64,
    control: bool,
    /// Its message ends with it.
    last: bool,
    said: Text,
    beside: Text,
    /// What came and was not passed on, and what it is, in its order.
    waits: VecDeque<u8>,
    parts: VecDeque<(Part, usize)>,
}

/// What bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Head,
    Said,
    Beside,
}

impl Heard {
    /// Looks for what `scrubber` replaces.
    pub(crate) fn new(scrubber: &Scrubber) -> Self {
        Self {
            heads: Heads::new(false),
            begun: 0,
            left: 0,
            control: false,
            last: false,
            said: Text::new(scrubber),
            beside: Text::new(scrubber),
            waits: VecDeque::new(),
            parts: VecDeque::new(),
        }
    }

    /// From here on looks for what `scrubber` replaces.
    pub(crate) fn renew(&mut self, scrubber: &Scrubber) {
        self.said.stream.renew(scrubber.clone());
        self.beside.stream.renew(scrubber.clone());
    }

    /// Takes the next piece, which came at `now`, and gives what may be passed on by then.
    ///
    /// # Errors
    /// [`Fault`]; then nothing more may be passed on.
    pub(crate) fn push(&mut self, mut piece: &[u8], now: Instant) -> Result<Vec<u8>, Fault> {
        while !piece.is_empty() {
            if self.left == 0 {
                self.wait(Part::Head, &piece[..1]);
                let head = self.heads.take(piece[0]).map_err(|()| Fault::Host)?;
                piece = &piece[1..];
                self.begun += 1;
                if let Some(head) = head {
                    self.begun = 0;
                    (self.left, self.control, self.last) = (head.length, head.control, head.last);
                    self.end_of_frame(now)?;
                }
                continue;
            }
            let bytes = piece.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            let part = if self.control { Part::Beside } else { Part::Said };
            self.wait(part, &piece[..bytes]);
            self.text(part).push(&piece[..bytes])?;
            self.left -= bytes as u64;
            piece = &piece[bytes..];
            self.end_of_frame(now)?;
        }
        let passed = self.passed();
        if self.waits.len() > WAITS {
            return Err(Fault::Host);
        }
        Ok(passed)
    }

    /// Since when a message or a control frame waits that came to its end then and of which not all may be passed on, the
    /// one that has waited longest; none where none does. Whoever waits for it waits in vain until more comes.
    pub(crate) fn held_since(&self) -> Option<Instant> {
        let since = |text: &Text| text.ends.front().map(|(_, since)| *since);
        since(&self.said).into_iter().chain(since(&self.beside)).min()
    }

    /// Whether anything waits.
    pub(crate) fn waits(&self) -> bool {
        !self.waits.is_empty()
    }

    /// Says that the host pauses in the middle of a message, and gives what may be passed on then: what stands behind it, a ping
    /// that is to be answered, is not to wait for its end.
    ///
    /// # Errors
    /// [`Fault`]; then nothing more may be passed on.
    pub(crate) fn pause(&mut self) -> Result<Vec<u8>, Fault> {
        self.said.settle()?;
        Ok(self.passed())
    }

    /// The ends, in bytes, of messages, what came of one before a pause, and control frames that were held since this was asked last. Each tells whoever had it said
    /// that it is the beginning of a value.
    pub(crate) fn newly_held(&mut self) -> Vec<usize> {
        let mut held = std::mem::take(&mut self.said.held);
        held.append(&mut self.beside.held);
        held
    }

    /// Says that no more comes, and gives what waits.
    ///
    /// # Errors
    /// [`Fault`], where that says the credential.
    pub(crate) fn finish(mut self) -> Result<Vec<u8>, Fault> {
        self.said.finish()?;
        self.beside.finish()?;
        Ok(self.waits.into())
    }

    fn text(&mut self, part: Part) -> &mut Text {
        if part == Part::Beside { &mut self.beside } else { &mut self.said }
    }

    fn end_of_frame(&mut self, now: Instant) -> Result<(), Fault> {
        if self.left == 0 && self.last {
            let part = if self.control { Part::Beside } else { Part::Said };
            self.text(part).end_of_message(now)?;
        }
        Ok(())
    }

    fn wait(&mut self, part: Part, bytes: &[u8]) {
        self.waits.extend(bytes);
        match self.parts.back_mut().filter(|(last, _)| *last == part) {
            Some((_, length)) => *length += bytes.len(),
            None => self.parts.push_back((part, bytes.len())),
        }
    }

    /// What stands before the first byte that has to wait.
    fn passed(&mut self) -> Vec<u8> {
        let mut free = 0;
        while let Some((part, length)) = self.parts.pop_front() {
            let may = match part {
                Part::Head if self.parts.is_empty() => length - self.begun,
                Part::Head => length,
                Part::Said | Part::Beside => self.text(part).give(length),
            };
            free += may;
            if may < length {
                self.parts.push_front((part, length - may));
                break;
            }
        }
        self.waits.drain(..free).collect()
    }
}

/// One text, and how much of it may be passed on.
struct Text {
    stream: scrub::Stream,
    /// Bytes that the scrubber has decided, from its beginning.
    decided: u64,
    /// What it has not.
    undecided: Vec<u8>,
    /// How much of that may be passed on all the same.
    ahead: usize,
    /// What may be passed on and was not, in bytes.
    free: usize,
    /// Where messages end of which not all may be passed on, in bytes from its beginning, and when those ends came: in their
    /// order, and of those that came at one moment the last.
    ends: VecDeque<(u64, Instant)>,
    /// The ends of messages that were held, in bytes.
    held: Vec<usize>,
}

impl Text {
    fn new(scrubber: &Scrubber) -> Self {
        Self {
            stream: scrubber.even_stream(),
            decided: 0,
            undecided: Vec::new(),
            ahead: 0,
            free: 0,
            ends: VecDeque::new(),
            held: Vec::new(),
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.undecided.extend_from_slice(bytes);
        let decided = self.stream.push(bytes);
        self.decide(&decided)
    }

    /// So much was decided, and stands as it is where no credential is.
    fn decide(&mut self, decided: &[u8]) -> Result<(), Fault> {
        if !self.undecided.starts_with(decided) {
            return Err(Fault::Credential);
        }
        self.undecided.drain(..decided.len());
        self.decided += decided.len() as u64;
        self.free += decided.len().saturating_sub(self.ahead);
        self.ahead = self.ahead.saturating_sub(decided.len());
        let passed = self.decided + self.ahead as u64;
        while self.ends.front().is_some_and(|(end, _)| *end <= passed) {
            self.ends.pop_front();
        }
        Ok(())
    }

    /// Sets free what does not end as the credential begins. Whether that is all; if not, that is told.
    fn settle(&mut self) -> Result<bool, Fault> {
        let decided = self.stream.ease(|_| true);
        self.decide(&decided)?;
        let all = self.undecided.len() <= TELLS_NOTHING;
        if all {
            self.free += self.undecided.len() - self.ahead;
            self.ahead = self.undecided.len();
            self.ends.clear();
        } else {
            self.held.push(self.undecided.len());
        }
        Ok(all)
    }

    fn end_of_message(&mut self, now: Instant) -> Result<(), Fault> {
        if self.settle()? {
            return Ok(());
        }
        let end = self.decided + self.undecided.len() as u64;
        match self.ends.back_mut().filter(|(_, since)| *since == now) {
            Some((last, _)) => *last = end,
            None => self.ends.push_back((end, now)),
        }
        Ok(())
    }

    /// Gives so many bytes of what may be passed on, or as many as there are.
    fn give(&mut self, length: usize) -> usize {
        let given = length.min(self.free);
        self.free -= given;
        given
    }

    fn finish(&mut self) -> Result<(), Fault> {
        let stream = std::mem::replace(&mut self.stream, Scrubber::new([]).stream());
        if stream.finish() == self.undecided { Ok(()) } else { Err(Fault::Credential) }
    }
}

#[cfg(test)]
#[path = "heard_tests.rs"]
mod tests;
