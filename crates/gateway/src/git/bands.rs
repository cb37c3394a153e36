//! What a host that was given a credential says in git's lines, on its way to a box: without the credential.
//!
//! A value is whole where it is read. What the bands of progress and of errors say is put together before it is looked through,
//! and goes on in packets of our own; any other line is looked through by itself. A pack with a byte changed is none: it goes on as
//! it came, and the answer ends before a value that stands in it. What is deflated in it is not looked into. What is no line of
//! git's ends the answer too.
//!
//! What waits of a text or a pack is as long as the longest form of a value, whatever it is (decision 0057).
//!
//! Read [`Bands::push`], then `line`, then [`Pack`].

use super::pkt::{self, Line, Lines, MAX_LINE};
use super::push::Wrong;
use bytes::BytesMut;
use scrub::{Scrubber, Spans, Stream};
use std::collections::VecDeque;

/// Longest text of one packet, in bytes.
const MOST: usize = MAX_LINE - 5;
/// The same of progress: packets of `side-band` are shorter than those of `side-band-64k`.
const MOST_PROGRESS: usize = 1000 - 5;

/// One answer on its way.
pub(super) struct Bands {
    scrubber: Scrubber,
    /// A line of which not all is there.
    begun: Vec<u8>,
    /// What comes stands in bands, until their end.
    banded: bool,
    /// A pack came that stands in no lines. It is all that comes.
    bare: bool,
    first: First,
    /// What progress and errors say.
    said: Stream,
    /// What of that goes on as an error, once one came. git reads no further than an error's first packet: there is one.
    last_words: Option<Vec<u8>>,
}

/// What the first band is.
enum First {
    Pack(Pack),
    /// The report on a push: lines again.
    Report(Box<Bands>),
}

fn wrong<T>(why: &str) -> Result<T, Wrong> {
    Err(Wrong(why.to_owned()))
}

impl Bands {
    /// The answer to a fetch, without what `scrubber` replaces.
    pub(super) fn of_fetch(scrubber: &Scrubber) -> Self {
        Self {
            scrubber: scrubber.clone(),
            begun: Vec::new(),
            banded: false,
            bare: false,
            first: First::Pack(Pack::of(scrubber.spans())),
            said: scrubber.even_stream(),
            last_words: None,
        }
    }

    /// The report on a push, whole, without what `scrubber` replaces.
    ///
    /// # Errors
    /// [`Wrong`], where it is no report.
    pub(super) fn report(scrubber: &Scrubber, report: &[u8]) -> Result<Vec<u8>, Wrong> {
        let first = First::Report(Box::new(Self::of_fetch(scrubber)));
        let mut bands = Self { first, ..Self::of_fetch(scrubber) };
        let mut out = bands.push(report)?;
        out.append(&mut bands.finish()?);
        Ok(out)
    }

    /// What git shows of that nothing more goes on: an error's packet, where it reads bands. Between packets one may stand.
    pub(super) fn refusal(&self, why: &str) -> Vec<u8> {
        let mut out = Vec::new();
        if self.banded {
            packets(3, format!("The gateway passes nothing more of this answer on: {why}.\n").as_bytes(), &mut out);
        }
        out
    }

    /// Takes the next bytes, and gives what goes on.
    ///
    /// # Errors
    /// [`Wrong`]: nothing of this answer goes on any more.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Wrong> {
        let mut out = Vec::with_capacity(bytes.len());
        let mut begun = std::mem::take(&mut self.begun);
        begun.extend_from_slice(bytes);
        let mut lines = Lines::of(&begun);
        while !self.bare {
            match lines.next() {
                Ok(Some(line)) => self.line(line, &mut out)?,
                Ok(None) | Err(pkt::Wrong::Cut) => break,
                Err(pkt::Wrong::Length) if !self.banded && lines.rest().starts_with(b"PACK") => self.bare = true,
                Err(pkt::Wrong::Length) => return Err(pkt::Wrong::Length.into()),
            }
        }
        let rest = lines.rest();
        match &mut self.first {
            First::Pack(pack) if self.bare => pack.take(&[], rest, &mut out)?,
            First::Report(_) if self.bare => return wrong("it is a pack"),
            _ => {
                begun.drain(..begun.len() - rest.len());
                self.begun = begun;
            }
        }
        Ok(out)
    }

    /// Says that no more comes, and gives what waited.
    ///
    /// # Errors
    /// [`Wrong`], as [`Bands::push`]; also in the middle of a line.
    pub(super) fn finish(mut self) -> Result<Vec<u8>, Wrong> {
        let mut out = Vec::new();
        self.close(&mut out)?;
        Ok(out)
    }

    fn line(&mut self, line: Line<'_>, out: &mut Vec<u8>) -> Result<(), Wrong> {
        let end: &[u8] = match line {
            Line::Data([band @ 1..=3, data @ ..]) => {
                self.banded = true;
                return self.packet(*band, data, out);
            }
            Line::Data(_) if self.banded => return wrong("a packet is of no band"),
            Line::Data(data) => {
                let said = self.scrubber.scrub(data);
                if said.len() > MAX_LINE - 4 {
                    return wrong("a line is too long without the values in it");
                }
                pkt::line(out, &said);
                return Ok(());
            }
            Line::Flush => b"0000",
            Line::Delimiter => b"0001",
            Line::End => b"0002",
        };
        self.close(out)?;
        self.banded = false;
        out.extend_from_slice(end);
        Ok(())
    }

    fn packet(&mut self, band: u8, data: &[u8], out: &mut Vec<u8>) -> Result<(), Wrong> {
        match (band, &mut self.first) {
            // By an empty one a host says that it is there still.
            (1 | 2, _) if data.is_empty() => pkt::line(out, &[band]),
            (1, First::Pack(pack)) => pack.take(format!("{:04x}\u{1}", data.len() + 5).as_bytes(), data, out)?,
            (1, First::Report(report)) => packets(1, &report.push(data)?, out),
            (band, _) => {
                let said = self.said.push(data);
                if band == 3 {
                    self.last_words.get_or_insert_default();
                }
                self.say(&said, out)?;
            }
        }
        Ok(())
    }

    fn say(&mut self, said: &[u8], out: &mut Vec<u8>) -> Result<(), Wrong> {
        match &mut self.last_words {
            Some(words) if words.len() + said.len() > MOST => return wrong("it has no end of errors"),
            Some(words) => words.extend_from_slice(said),
            None => packets(2, said, out),
        }
        Ok(())
    }

    /// What came is all of the pack, the report and the texts.
    fn close(&mut self, out: &mut Vec<u8>) -> Result<(), Wrong> {
        if !self.begun.is_empty() {
            return Err(pkt::Wrong::Cut.into());
        }
        match &mut self.first {
            First::Pack(pack) => pack.close(out)?,
            First::Report(report) => {
                let mut rest = Vec::new();
                report.close(&mut rest)?;
                packets(1, &rest, out);
            }
        }
        let said = std::mem::replace(&mut self.said, self.scrubber.even_stream()).finish();
        self.say(&said, out)?;
        packets(3, &self.last_words.take().unwrap_or_default(), out);
        Ok(())
    }
}

/// Writes a text in packets of a band.
fn packets(band: u8, text: &[u8], out: &mut Vec<u8>) {
    for part in text.chunks(if band == 2 { MOST_PROGRESS } else { MOST }) {
        pkt::line(out, &[&[band], part].concat());
    }
}

/// A pack: it goes on to the byte, packet by packet, up to the one in which a value begins.
struct Pack {
    spans: Spans,
    /// Bytes of it that came.
    length: u64,
    /// What did not go on, with the heads of its packets; of each packet, where it ends in the pack, and its bytes.
    waits: BytesMut,
    parts: VecDeque<(u64, usize)>,
}

impl Pack {
    fn of(spans: Spans) -> Self {
        Self { spans, length: 0, waits: BytesMut::new(), parts: VecDeque::new() }
    }

    fn take(&mut self, head: &[u8], data: &[u8], out: &mut Vec<u8>) -> Result<(), Wrong> {
        let found = self.spans.push(data);
        self.length += data.len() as u64;
        self.waits.extend_from_slice(head);
        self.waits.extend_from_slice(data);
        self.parts.push_back((self.length, head.len() + data.len()));
        self.give(&found, self.spans.even(), out)
    }

    fn close(&mut self, out: &mut Vec<u8>) -> Result<(), Wrong> {
        let found = self.spans.finish();
        self.give(&found, self.length, out)
    }

    fn give(&mut self, found: &[scrub::Span], until: u64, out: &mut Vec<u8>) -> Result<(), Wrong> {
        if !found.is_empty() {
            return wrong("a value that the host was given stands in its pack");
        }
        while let Some((_, bytes)) = self.parts.pop_front_if(|(ends, _)| *ends <= until) {
            out.extend_from_slice(&self.waits.split_to(bytes));
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "bands_tests.rs"]
mod tests;
