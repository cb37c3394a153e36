//! What one box says, event after event: a text that comes in pieces is scrubbed as the one text that people read.
//!
//! Pieces of the model's words, of a command's output, and of a long step of the agent's loop. The end of a piece that
//! could be the beginning of a secret waits here for the next piece of the same text. It is given out, scrubbed, before
//! the event that ends the text, and at the end of the box: late, never lost.
//!
//! Texts that run beside each other (two commands, two outputs of one) do not end one another.
//! Read [`Said::take`], then [`Piece::of`] (which events are pieces), [`Piece::ends`] and [`Open::is_ended_by`]
//! (what ends which text).

use crate::{
    Scrubber, Stream,
    event::{encoded, scrub_event, with},
    text::whole_characters,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

/// Texts that may be open at once; the longest unheard of is ended for another one.
const MAX_OPEN: usize = 32;
/// Bytes of the fields beside the text, as JSON, that a piece may have.
const MAX_FIELDS: usize = 4 * 1024;
/// Bytes of text in an event made here: what a box may put in one that always fits.
const TEXT_PIECE: usize = 16 * 1024;
/// The same of a command's output.
const OUTPUT_PIECE: usize = 48 * 1024;
/// The key of a part of a step of the loop: `[number from 1, count]`.
const PART: &str = "volary.part";

/// The texts of one box that are not at their end.
///
/// Holds at most 32 of them, each with as much as [`Stream`] holds back.
#[derive(Debug, Default)]
pub struct Said {
    open: Vec<Open>,
}

/// One text.
#[derive(Debug)]
struct Open {
    kind: Kind,
    /// The fields that all its pieces have.
    fields: Map<String, Value>,
    stream: Stream,
    /// The first bytes of a character whose others are held back.
    cut: Vec<u8>,
    /// Number of the next part.
    part: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Words,
    Output,
    Step,
}

/// An event that is a piece of a text.
struct Piece {
    kind: Kind,
    /// What is the same in all pieces of the text.
    fields: Map<String, Value>,
    bytes: Vec<u8>,
    /// Of a part of a step, its number and their count.
    part: (u64, u64),
}

impl Said {
    /// Takes the next event in, and gives the events to be kept for it, in order: none when all of it waits, more than
    /// one when something waited that comes before it. Each is JSON if `event` is.
    pub fn take(&mut self, scrubber: &Scrubber, event: &str) -> Vec<String> {
        let fields = serde_json::from_str::<Map<String, Value>>(event);
        let mut out = Vec::new();
        match fields.ok().map(Piece::of) {
            Some(Ok(piece)) => {
                self.end_where(scrubber, &mut out, |open| piece.ends(open));
                self.go_on(scrubber, piece, event, &mut out);
            }
            Some(Err(fields)) => {
                self.end_where(scrubber, &mut out, |open| open.is_ended_by(&fields));
                out.push(scrub_event(scrubber, event));
            }
            None => {
                self.end_where(scrubber, &mut out, |_| true);
                out.push(scrub_event(scrubber, event));
            }
        }
        out
    }

    /// Says that the box says nothing more, and gives all that waited.
    pub fn end(&mut self, scrubber: &Scrubber) -> Vec<String> {
        let mut out = Vec::new();
        self.end_where(scrubber, &mut out, |_| true);
        out
    }

    fn end_where(&mut self, scrubber: &Scrubber, out: &mut Vec<String>, ends: impl Fn(&Open) -> bool) {
        for open in self.open.extract_if(.., |open| ends(open)) {
            open.end(scrubber, out);
        }
    }

    fn go_on(&mut self, scrubber: &Scrubber, piece: Piece, event: &str, out: &mut Vec<String>) {
        let at = self.open.iter().position(|open| open.kind == piece.kind && open.fields == piece.fields);
        let mut open = match at {
            Some(at) => self.open.remove(at),
            None => {
                Open { kind: piece.kind, fields: piece.fields, stream: scrubber.stream(), cut: Vec::new(), part: 1 }
            }
        };
        if self.open.len() == MAX_OPEN {
            self.open.remove(0).end(scrubber, out);
        }
        open.stream.renew(scrubber.clone());
        if open.kind == Kind::Step {
            let (number, count) = piece.part;
            let mut text = open.stream.push(&piece.bytes);
            if number == count {
                text.extend(std::mem::replace(&mut open.stream, scrubber.stream()).finish());
            }
            let text = open.text(text, number == count);
            out.push(with(scrubber, &open.fields, "step", "").replacen(
                r#""step":"""#,
                &format!(r#""step":{}"#, json!({ PART: [number, count], "text": text })),
                1,
            ));
            open.part = number + 1;
            if number < count {
                self.open.push(open);
            }
            return;
        }
        let waited = open.waits();
        let decided = open.stream.push(&piece.bytes);
        // What holds nothing goes on to the byte.
        if !waited && !open.waits() && decided == piece.bytes && scrub_event(scrubber, &open.bare()) == open.bare() {
            out.push(event.to_owned());
        } else {
            open.give(scrubber, decided, false, out);
        }
        self.open.push(open);
    }
}

impl Piece {
    /// # Errors
    /// The fields again, when it is no piece of a text.
    fn of(mut fields: Map<String, Value>) -> Result<Self, Map<String, Value>> {
        let kind = match fields.get("kind").and_then(Value::as_str) {
            Some("chunk") => Kind::Words,
            Some("output") => Kind::Output,
            Some("loop") => Kind::Step,
            _ => return Err(fields),
        };
        let (name, mut part) = (kind.field(), (0, 0));
        let bytes = match (kind, fields.get(name)) {
            (Kind::Words, Some(Value::String(text))) => Some(text.as_bytes().to_vec()),
            (Kind::Output, Some(Value::String(text))) => STANDARD.decode(text).ok(),
            (Kind::Step, Some(Value::Object(step))) if step.len() == 2 => {
                step_part(step).map(|(number, count, text)| {
                    part = (number, count);
                    text.as_bytes().to_vec()
                })
            }
            _ => None,
        };
        let Some(bytes) = bytes else { return Err(fields) };
        let text = fields.remove(name);
        if Value::Object(fields.clone()).to_string().len() > MAX_FIELDS {
            fields.extend(text.map(|text| (name.to_owned(), text)));
            return Err(fields);
        }
        Ok(Self { kind, fields, bytes, part })
    }

    /// Whether this piece cannot follow, or run beside, an open text.
    fn ends(&self, open: &Open) -> bool {
        match (self.kind, open.kind) {
            (Kind::Words, Kind::Words) => self.fields != open.fields,
            (Kind::Step, Kind::Words) => true,
            (Kind::Step, Kind::Step) => self.part.0 == 1 || self.part.0 != open.part || self.fields != open.fields,
            _ => false,
        }
    }
}

fn step_part(step: &Map<String, Value>) -> Option<(u64, u64, &str)> {
    match &step.get(PART)?.as_array()?[..] {
        [number, count] => Some((number.as_u64()?, count.as_u64()?, step.get("text")?.as_str()?)),
        _ => None,
    }
}

impl Kind {
    /// The field that holds the text.
    fn field(self) -> &'static str {
        match self {
            Self::Words => "text",
            Self::Output => "data_b64",
            Self::Step => "step",
        }
    }
}

impl Open {
    /// Whether another event, with these fields, ends the text: a command's end ends its outputs, and everything but
    /// that and an output ends the model's words.
    fn is_ended_by(&self, fields: &Map<String, Value>) -> bool {
        let end_of_command = fields.get("kind").and_then(Value::as_str) == Some("command-end");
        match self.kind {
            Kind::Output => end_of_command && fields.get("id") == self.fields.get("id"),
            Kind::Words | Kind::Step => !end_of_command && fields.get("kind").and_then(Value::as_str) != Some("output"),
        }
    }

    fn waits(&self) -> bool {
        self.stream.holds() || !self.cut.is_empty()
    }

    /// An event of it without a word.
    fn bare(&self) -> String {
        Value::Object(self.fields.clone()).to_string()
    }

    fn end(mut self, scrubber: &Scrubber, out: &mut Vec<String>) {
        // Of a step that never became whole nothing is read.
        if self.kind == Kind::Step {
            return;
        }
        self.stream.renew(scrubber.clone());
        let rest = std::mem::replace(&mut self.stream, scrubber.stream()).finish();
        self.give(scrubber, rest, true, out);
    }

    /// Makes events of what is decided.
    fn give(&mut self, scrubber: &Scrubber, decided: Vec<u8>, last: bool, out: &mut Vec<String>) {
        let name = self.kind.field();
        if self.kind == Kind::Output {
            let pieces = decided.chunks(OUTPUT_PIECE);
            out.extend(pieces.map(|bytes| with(scrubber, &self.fields, name, &encoded(scrubber, bytes))));
            return;
        }
        let text = self.text(decided, last);
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.floor_char_boundary(TEXT_PIECE));
            out.push(with(scrubber, &self.fields, name, piece));
            rest = after;
        }
    }

    /// The bytes as text; those of a last character that is not whole wait, unless nothing more comes.
    fn text(&mut self, decided: Vec<u8>, last: bool) -> String {
        whole_characters(&mut self.cut, decided, last)
    }
}
