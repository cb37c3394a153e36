//! A provider's stream of events, read as its client reads it: a text comes in pieces, one an event, and a credential
//! that is cut between two of them is whole where the client puts them together. No event goes on while the end of
//! a text in it could still become a credential; one that did is replaced in the events that it lies in. A stream that
//! holds none goes on to the byte.
//!
//! An event that waits tells whoever has its text said that it ends as a credential begins. So a box is told few letters by that
//! ([`Hints`]). From then on its events wait whatever they end in: until of each text so much came after them as a credential
//! is long, or the end of a line, or nothing for [`PATIENCE`] events. See decision 0057.
//!
//! Read [`Pieces::push`] (bytes in, whole events out), `take` (an event's texts), then `release` (what goes on).

use crate::egress::run::{Hints, TELLS_NOTHING};
use scrub::{Scrubber, Span, Spans};
use serde_json::Value;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// The longest event that is read, and all that may wait, in bytes.
const LONGEST: usize = 16 * 1024 * 1024;
/// Events after which a text that no more comes of is taken for whole: its client shows it then at the latest.
const PATIENCE: usize = 32;
/// Bytes of a piece that is taken for such a word; a shorter one may well be said twice in a credential.
const WORD: usize = 4;
/// Texts that are remembered at once; the one longest unheard of is forgotten for another.
const MOST_TEXTS: usize = 256;
/// Fields of an event, or of an entry of a list in it, that say which of several texts it goes on with.
const NUMBERS: [&str; 4] = ["index", "output_index", "content_index", "summary_index"];

/// The events of one answer on their way.
pub(crate) struct Pieces {
    scrubber: Scrubber,
    hints: Arc<Hints>,
    /// The last event of which the box was told that it waits, by the clock of events.
    hinted: usize,
    event: Vec<u8>,
    /// Where the line begins that is being read.
    line: usize,
    /// The last byte was a carriage return, which a line feed may belong to.
    returned: bool,
    texts: HashMap<String, Text>,
    waiting: VecDeque<Event>,
    /// Bytes of them.
    held: usize,
    /// Events so far: the clock of what is longest unheard of.
    events: usize,
}

/// A text as the client puts it together.
struct Text {
    spans: Spans,
    /// Bytes that came, those of them that go on although they are not decided, and the last of its pieces.
    length: u64,
    let_go: u64,
    last: Vec<u8>,
    /// Credentials that lie in events which wait, and whether the placeholder was written.
    found: Vec<(Span, bool)>,
    /// The last event that had a piece of it.
    heard: usize,
}

/// An event that is whole.
struct Event {
    raw: Vec<u8>,
    data: Option<Value>,
    said: Vec<Said>,
}

/// One piece of a text in an event.
struct Said {
    text: String,
    /// Where it stands in the data, as a JSON pointer; none for what stands beside it.
    place: Option<String>,
    piece: Vec<u8>,
    /// Its first byte, from the text's beginning.
    from: u64,
}

impl Said {
    fn to(&self) -> u64 {
        self.from + self.piece.len() as u64
    }
}

/// More waits, or an event is longer, than is held.
#[derive(Debug)]
pub(crate) struct TooMuch;

impl Pieces {
    /// The pieces of an answer that has not begun.
    pub(crate) fn new(scrubber: Scrubber, hints: Arc<Hints>) -> Self {
        Self {
            scrubber,
            hints,
            hinted: 0,
            event: Vec::new(),
            line: 0,
            returned: false,
            texts: HashMap::new(),
            waiting: VecDeque::new(),
            held: 0,
            events: 0,
        }
    }

    /// Takes the next bytes, and gives the events that can go on.
    ///
    /// # Errors
    /// [`TooMuch`]: nothing of this answer goes on any more.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>, TooMuch> {
        let mut out = Vec::new();
        for byte in bytes {
            self.event.push(*byte);
            let ends = match byte {
                b'\n' if self.returned => {
                    // The rest of an end that was seen; it may have ended the event before.
                    self.line = self.event.len();
                    false
                }
                b'\n' | b'\r' => {
                    let empty = self.line + 1 == self.event.len();
                    self.line = self.event.len();
                    empty
                }
                _ => false,
            };
            self.returned = *byte == b'\r';
            if ends {
                self.take();
                self.release(&mut out);
            }
        }
        if self.event.len() + self.held > LONGEST { Err(TooMuch) } else { Ok(out) }
    }

    /// Says that no more comes, and gives all that waited.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let mut out = Vec::new();
        if !self.event.is_empty() {
            self.take();
        }
        for text in self.texts.values_mut() {
            text.finish();
        }
        self.release(&mut out);
        out
    }

    /// An event is whole.
    fn take(&mut self) {
        let raw = std::mem::take(&mut self.event);
        self.line = 0;
        self.events += 1;
        let (mut data, mut beside) = (Vec::new(), Vec::new());
        for line in raw.split(|byte| matches!(byte, b'\n' | b'\r')).filter(|line| !line.is_empty()) {
            match line.strip_prefix(b"data:") {
                Some(more) => {
                    if !data.is_empty() {
                        data.push(b'\n');
                    }
                    data.extend_from_slice(more.strip_prefix(b" ").unwrap_or(more));
                }
                None => beside.push(line),
            }
        }
        let mut event = Event { data: crate::meter::parse(&data), said: Vec::new(), raw: Vec::new() };
        match &event.data {
            Some(value) => {
                let mut key = String::new();
                numbers(value, &mut key);
                let mut leaves = Vec::new();
                strings(value, &mut key, &mut String::new(), &mut leaves);
                event.said = leaves
                    .into_iter()
                    .map(|(text, place, piece)| self.hear(text, Some(place), piece.as_bytes()))
                    .collect();
            }
            None => event.said.push(self.hear("data".to_owned(), None, &data)),
        }
        for line in beside {
            let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
            let text = format!("beside {}", String::from_utf8_lossy(name));
            let said = line.get(name.len() + 1..).unwrap_or_default();
            event.said.push(self.hear(text, None, said.strip_prefix(b" ").unwrap_or(said)));
        }
        self.held += raw.len();
        event.raw = raw;
        self.waiting.push_back(event);
    }

    fn hear(&mut self, text: String, place: Option<String>, piece: &[u8]) -> Said {
        if self.texts.len() >= MOST_TEXTS && !self.texts.contains_key(&text) {
            self.forget();
        }
        let known = self.texts.entry(text.clone()).or_insert_with(|| Text::new(&self.scrubber));
        known.heard = self.events;
        let from = known.length;
        known.length += piece.len() as u64;
        known.take(|spans| spans.push(piece));
        if self.hints.are_spent() && piece.len() >= WORD && known.last == piece {
            // The word that each event of its kind has, and no text that goes on.
            known.let_go();
        }
        known.last = piece.to_vec();
        Said { text, place, piece: piece.to_vec(), from }
    }

    /// Forgets the text longest unheard of; of several, one of which nothing went on undecided. One that an event waits for stays.
    fn forget(&mut self) {
        let waits_from = self.events - self.waiting.len();
        let idle = self.texts.iter().filter(|(_, text)| text.heard < waits_from);
        let oldest = idle.min_by_key(|(_, text)| (text.went_undecided(), text.heard));
        if let Some(name) = oldest.map(|(name, _)| name.clone()) {
            self.texts.remove(&name);
        }
    }

    /// Gives the events, in their order, of which everything is decided.
    fn release(&mut self, out: &mut Vec<u8>) {
        while let Some(event) = self.waiting.front() {
            // Other answers may have told the rest of what may be told.
            let even = self.hints.are_spent();
            let mut waits: Vec<usize> = Vec::new();
            for said in &event.said {
                let Some(text) = self.texts.get_mut(&said.text) else { continue };
                if even && self.events - text.heard >= PATIENCE {
                    text.let_go();
                }
                let decided = if even { text.spans.even() } else { text.spans.decided() };
                let undecided = said.to().saturating_sub(decided.max(text.let_go));
                waits.push(usize::try_from(undecided).unwrap_or(usize::MAX));
            }
            if waits.iter().any(|waits| *waits > if even { 0 } else { TELLS_NOTHING }) {
                let number = self.events - self.waiting.len() + 1;
                if !even && self.hinted < number {
                    self.hinted = number;
                    waits.into_iter().for_each(|waits| self.hints.tell(waits));
                }
                return;
            }
            let Some(event) = self.waiting.pop_front() else { return };
            self.held -= event.raw.len();
            write(event, &mut self.texts, out);
        }
    }
}

impl Text {
    fn new(scrubber: &Scrubber) -> Self {
        Self { spans: scrubber.spans(), length: 0, let_go: 0, last: Vec::new(), found: Vec::new(), heard: 0 }
    }

    fn take(&mut self, found: impl FnOnce(&mut Spans) -> Vec<Span>) {
        // What went on already was looked through as if no more came: of a credential that more did come of, the rest is left.
        let left = found(&mut self.spans).into_iter().filter(|span| span.end > self.let_go);
        let left = left.map(|span| Span { start: span.start.max(self.let_go), ..span });
        self.found.extend(left.map(|span| (span, false)));
    }

    /// All that came of it goes on. What more comes is looked through with its end.
    fn let_go(&mut self) {
        self.take(|spans| spans.so_far());
        self.let_go = self.length;
    }

    /// Whether its end went on although it could still become a credential.
    fn went_undecided(&self) -> bool {
        self.spans.decided() < self.length
    }

    /// No more comes of it.
    fn finish(&mut self) {
        self.take(Spans::finish);
        self.let_go = self.length;
    }

    /// A piece without the credentials in it, now that it goes on; none where none lies in it. A placeholder stands where its
    /// credential begins, or where what has not gone on of it does.
    fn without(&mut self, said: &Said) -> Option<Vec<u8>> {
        let here = |place: u64| usize::try_from(place.clamp(said.from, said.to()) - said.from).unwrap_or(usize::MAX);
        let (mut became, mut at, mut any) = (Vec::new(), 0, false);
        self.found.retain(|(span, _)| span.end > said.from);
        for (span, written) in self.found.iter_mut().filter(|(span, _)| span.start < said.to()) {
            any = true;
            became.extend_from_slice(&said.piece[at..here(span.start)]);
            if !std::mem::replace(written, true) {
                became.extend_from_slice(span.placeholder.as_bytes());
            }
            at = here(span.end);
        }
        became.extend_from_slice(&said.piece[at..]);
        any.then_some(became)
    }
}

/// Writes an event, without the credentials in it.
fn write(mut event: Event, texts: &mut HashMap<String, Text>, out: &mut Vec<u8>) {
    let (mut changed, mut unplaced) = (false, false);
    for said in &event.said {
        let Some(became) = texts.get_mut(&said.text).and_then(|text| text.without(said)) else { continue };
        changed = true;
        match said.place.as_deref().zip(event.data.as_mut()).and_then(|(place, data)| data.pointer_mut(place)) {
            Some(leaf) => *leaf = String::from_utf8_lossy(&became).into(),
            None => unplaced = true,
        }
    }
    match event.data.filter(|_| !unplaced) {
        _ if !changed => out.extend(event.raw),
        Some(data) => {
            // With the ends of lines that it came with: the first may be the rest of the event's before.
            let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r');
            let first = event.raw.iter().position(|byte| !is_end(byte)).unwrap_or(0);
            let last = event.raw.iter().rposition(|byte| !is_end(byte)).map_or(0, |last| last + 1);
            let (begin, lines, end) = (&event.raw[..first], &event.raw[first..last], &event.raw[last..]);
            let between = lines.iter().skip_while(|byte| !is_end(byte)).take_while(|byte| is_end(byte));
            out.extend_from_slice(begin);
            if let Some(named) = lines.split(is_end).find(|line| line.starts_with(b"event:")) {
                out.extend(named.iter().chain(between));
            }
            out.extend(format!("data: {data}").bytes());
            out.extend_from_slice(if end.is_empty() { b"\n\n" } else { end });
        }
        // What is no JSON, or stands beside the data, is no text of a model: it stays here.
        None => {}
    }
}

/// Which of several texts an object goes on with.
fn numbers(value: &Value, key: &mut String) {
    for name in NUMBERS {
        if let Some(number) = value.get(name).and_then(Value::as_u64) {
            key.push_str(&format!("{name}{number}/"));
        }
    }
}

/// Every string in a value: the text that it is a piece of, where it stands, and itself.
fn strings<'a>(value: &'a Value, key: &mut String, place: &mut String, found: &mut Vec<(String, String, &'a str)>) {
    let (key_ends, place_ends) = (key.len(), place.len());
    let mut within = |name: &str, number: Option<&Value>, value: &'a Value, key: &mut String, place: &mut String| {
        place.push('/');
        place.push_str(&name.replace('~', "~0").replace('/', "~1"));
        match number {
            Some(entry) if NUMBERS.iter().any(|name| entry.get(name).is_some_and(Value::is_u64)) => numbers(entry, key),
            _ => {
                key.push('/');
                key.push_str(name);
            }
        }
        strings(value, key, place, found);
        key.truncate(key_ends);
        place.truncate(place_ends);
    };
    match value {
        Value::String(text) => found.push((key.clone(), place.clone(), text)),
        Value::Array(all) => {
            for (at, entry) in all.iter().enumerate() {
                within(&at.to_string(), Some(entry), entry, key, place);
            }
        }
        Value::Object(all) => {
            for (name, entry) in all {
                within(name, None, entry, key, place);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
#[path = "pieces_tests.rs"]
mod tests;
