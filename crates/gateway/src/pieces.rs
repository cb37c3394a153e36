//! A provider's stream of events, read as its client reads it: a text comes in pieces, one an event, and a credential
//! that is cut between two of them is whole where the client puts them together. No event goes on while the end of
//! a text in it could still become a credential; one that did is replaced in the events that it lies in. A stream that
//! holds none goes on to the byte.
//!
//! Read [`Pieces::push`] (bytes in, whole events out), `take` (an event's texts), then `release` (what goes on).

use scrub::{Scrubber, Stream};
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// The end of a text, in bytes, that lets its event go on although it could be the beginning of a credential: so short
/// that it tells nothing, and honest text ends in it all the time.
const TELLS_NOTHING: usize = 3;
/// The longest event that is read, and all that may wait, in bytes.
const LONGEST: usize = 16 * 1024 * 1024;
/// Texts that are remembered at once; the one longest unheard of is forgotten for another.
const MOST_TEXTS: usize = 256;
/// Fields of an event, or of an entry of a list in it, that say which of several texts it goes on with.
const NUMBERS: [&str; 4] = ["index", "output_index", "content_index", "summary_index"];

/// The events of one answer on their way.
pub(crate) struct Pieces {
    scrubber: Scrubber,
    event: Vec<u8>,
    /// Where the line begins that is being read.
    line: usize,
    /// The last byte was a carriage return, which a line feed may belong to.
    returned: bool,
    texts: HashMap<String, Text>,
    /// The texts whose end could still become a credential.
    undecided: HashSet<String>,
    waiting: Vec<Event>,
    /// Bytes of them.
    held: usize,
    /// Events so far: the clock of what is longest unheard of.
    events: usize,
}

/// A text as the client puts it together.
struct Text {
    stream: Stream,
    /// What came since the last time that it could go on; before it, what had gone on and was not decided.
    came: Vec<u8>,
    carried: usize,
    /// What the scrubber made of it so far.
    went: Vec<u8>,
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
    /// What the scrubber gave out for it.
    became: Vec<u8>,
}

/// More waits, or an event is longer, than is held.
#[derive(Debug)]
pub(crate) struct TooMuch;

impl Pieces {
    /// The pieces of an answer that has not begun.
    pub(crate) fn new(scrubber: Scrubber) -> Self {
        Self {
            scrubber,
            event: Vec::new(),
            line: 0,
            returned: false,
            texts: HashMap::new(),
            undecided: HashSet::new(),
            waiting: Vec::new(),
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
                self.release(false, &mut out);
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
        self.release(true, &mut out);
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
        self.waiting.push(event);
    }

    fn hear(&mut self, text: String, place: Option<String>, piece: &[u8]) -> Said {
        if self.texts.len() >= MOST_TEXTS && !self.texts.contains_key(&text) {
            self.forget();
        }
        let known = self.texts.entry(text.clone()).or_insert_with(|| Text {
            stream: self.scrubber.stream(),
            came: Vec::new(),
            carried: 0,
            went: Vec::new(),
            heard: 0,
        });
        known.heard = self.events;
        known.came.extend_from_slice(piece);
        let became = known.stream.push(piece);
        known.went.extend_from_slice(&became);
        if known.stream.waiting() > TELLS_NOTHING {
            self.undecided.insert(text.clone());
        } else {
            self.undecided.remove(&text);
        }
        Said { text, place, became }
    }

    /// Forgets the text longest unheard of. One that an event waits for stays.
    fn forget(&mut self) {
        let waits_from = self.events - self.waiting.len();
        let oldest = self.texts.iter().filter(|(_, text)| text.heard < waits_from).min_by_key(|(_, text)| text.heard);
        if let Some(name) = oldest.map(|(name, _)| name.clone()) {
            self.texts.remove(&name);
        }
    }

    /// Gives what waits, if nothing in it is undecided, or nothing more comes.
    fn release(&mut self, last: bool, out: &mut Vec<u8>) {
        if !last && !self.undecided.is_empty() {
            return;
        }
        let (waiting, mut found) = (std::mem::take(&mut self.waiting), false);
        self.held = 0;
        let mut ends: HashMap<String, End> = HashMap::new();
        for name in waiting.iter().flat_map(|event| &event.said).map(|said| &said.text) {
            if ends.contains_key(name) {
                continue;
            }
            let Some(text) = self.texts.get_mut(name) else { continue };
            let mut end = text.came[text.came.len() - text.stream.waiting()..].to_vec();
            if last {
                let rest = std::mem::replace(&mut text.stream, self.scrubber.stream()).finish();
                text.went.extend_from_slice(&rest);
                end = rest;
            }
            let holds = !text.came.starts_with(&text.went);
            found |= holds;
            let before = &text.came[..text.carried];
            let gone = if text.went.starts_with(before) { text.carried } else { 0 };
            text.carried = if last { 0 } else { end.len() };
            text.came = if last { Vec::new() } else { end.clone() };
            text.went = Vec::new();
            ends.insert(name.clone(), End { holds, gone, rest: Some(end) });
        }
        if !found {
            out.extend(waiting.into_iter().flat_map(|event| event.raw));
            return;
        }
        let mut rewritten = Vec::new();
        // From the last on: the first piece met of a text is its last, which its end belongs to.
        for mut event in waiting.into_iter().rev() {
            for said in event.said.iter_mut().rev() {
                let rest = ends.get_mut(&said.text).and_then(|end| end.rest.take());
                said.became.extend(rest.into_iter().flatten());
            }
            rewritten.push(event);
        }
        for event in rewritten.into_iter().rev() {
            write(event, &mut ends, out);
        }
    }
}

/// What is to be known of a text whose events go on.
struct End {
    /// Whether a credential was found in it.
    holds: bool,
    /// How much of what the scrubber gave out had gone on before.
    gone: usize,
    /// The end that it held back.
    rest: Option<Vec<u8>>,
}

/// Writes an event of which some text holds a credential.
fn write(mut event: Event, ends: &mut HashMap<String, End>, out: &mut Vec<u8>) {
    let (mut changed, mut unplaced) = (false, false);
    for said in &event.said {
        let Some(end) = ends.get_mut(&said.text).filter(|end| end.holds) else { continue };
        let skip = said.became.len().min(end.gone);
        end.gone -= skip;
        changed = true;
        match said.place.as_deref().zip(event.data.as_mut()).and_then(|(place, data)| data.pointer_mut(place)) {
            Some(leaf) => *leaf = String::from_utf8_lossy(&said.became[skip..]).into(),
            None => unplaced = true,
        }
    }
    match event.data.filter(|_| !unplaced) {
        _ if !changed => out.extend(event.raw),
        Some(data) => {
            let named = event.raw.split(|byte| matches!(byte, b'\n' | b'\r')).find(|line| line.starts_with(b"event:"));
            out.extend(named.into_iter().flat_map(|line| line.iter().chain(b"\n")));
            out.extend(format!("data: {data}\n\n").bytes());
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
mod tests {
    use super::*;
    use model::Secret;
    use proptest::prelude::*;
    use serde_json::json;

    const KEY: &str = "sk-4fQz81LmWv0Ty7RkPb3N";

    fn scrubber() -> Scrubber {
        Scrubber::new([("model/key".to_owned(), Secret::new(KEY.to_owned()))])
    }

    fn event(data: &Value) -> String {
        format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or("x"))
    }

    fn delta(index: u64, text: &str) -> String {
        event(&json!({"type": "delta", "index": index, "delta": {"type": "text_delta", "text": text}}))
    }

    /// What comes out of a stream that arrives in pieces of so many bytes.
    fn through(stream: &str, piece: usize) -> String {
        let mut pieces = Pieces::new(scrubber());
        let mut out: Vec<u8> =
            stream.as_bytes().chunks(piece).flat_map(|bytes| pieces.push(bytes).expect("not too much")).collect();
        out.extend(pieces.finish());
        String::from_utf8(out).expect("text")
    }

    /// The text of one index, as a client puts it together.
    fn text(stream: &str, index: u64) -> String {
        let datas = stream.lines().filter_map(|line| line.strip_prefix("data: "));
        let events = datas.filter_map(|data| serde_json::from_str::<Value>(data).ok());
        events
            .filter(|event| event["index"] == index)
            .filter_map(|event| event["delta"]["text"].as_str().map(str::to_owned))
            .collect()
    }

    #[test]
    fn a_credential_cut_between_events_is_replaced_wherever_it_is_cut() {
        let mark = scrubber().scrub_str(KEY).into_owned();
        for cut in 1..KEY.len() {
            let (left, right) = KEY.split_at(cut);
            let stream = [
                delta(0, "It is "),
                delta(0, left),
                event(&json!({"type": "ping"})),
                delta(0, right),
                delta(0, ", no?"),
            ]
            .concat();
            for piece in [1, 7, stream.len()] {
                let out = through(&stream, piece);
                let told = if cut <= TELLS_NOTHING { left } else { "" };
                assert_eq!(text(&out, 0), format!("It is {told}{mark}, no?"), "cut at {cut}");
                assert!(!out.contains(right) || right.len() <= TELLS_NOTHING, "{out}");
                assert!(out.contains(r#"{"type":"ping"}"#), "{out}");
            }
        }
    }

    #[test]
    fn a_credential_of_which_every_event_brings_one_byte_is_replaced() {
        let stream: String = KEY.chars().map(|char| delta(0, &char.to_string())).collect();
        let said = text(&through(&stream, 9), 0);
        assert_eq!(said, format!("{}{}", &KEY[..TELLS_NOTHING], scrubber().scrub_str(KEY)));
    }

    #[test]
    fn texts_that_run_beside_each_other_are_put_together_each_for_itself() {
        let (left, right) = KEY.split_at(9);
        let stream = [delta(0, left), delta(1, "other"), delta(0, right), delta(1, " words")].concat();
        let out = through(&stream, 5);
        assert_eq!(text(&out, 0), scrubber().scrub_str(KEY));
        assert_eq!(text(&out, 1), "other words");
        let chat = |at: u64, text: &str| {
            event(
                &json!({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": at, "function": {"arguments": text}}]}}]}),
            )
        };
        let out = through(&[chat(3, left), chat(4, "{}"), chat(3, right)].concat(), 11);
        assert!(!out.contains(left) && !out.contains(right), "{out}");
        // Two texts, of which neither holds it, although their pieces alternate as its halves.
        let stream = [delta(0, left), delta(1, right)].concat();
        assert_eq!(through(&stream, 5), stream);
    }

    #[test]
    fn the_beginning_of_a_credential_waits_and_goes_on_to_the_byte_when_it_becomes_none() {
        let mut pieces = Pieces::new(scrubber());
        let (held, ping, rest) = (delta(0, &KEY[..12]), event(&json!({"type": "ping"})), delta(0, " only begins so"));
        assert!(pieces.push(held.as_bytes()).unwrap().is_empty());
        assert!(pieces.push(ping.as_bytes()).unwrap().is_empty(), "events keep their order");
        let out = pieces.push(rest.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), [held.clone(), ping, rest].concat());
        assert!(pieces.push(held.as_bytes()).unwrap().is_empty());
        assert_eq!(String::from_utf8(pieces.finish()).unwrap(), held, "the end of the stream decides it too");
    }

    #[test]
    fn an_event_goes_on_when_it_is_whole_and_not_before_whatever_ends_its_lines() {
        for end in ["\n", "\r\n", "\r"] {
            let stream = format!("event: x{end}data: {{\"a\":1}}{end}{end}: note{end}{end}data: [DONE]{end}{end}");
            for piece in 1..9 {
                assert_eq!(through(&stream, piece), stream, "{end:?}");
            }
            let mut pieces = Pieces::new(scrubber());
            assert!(pieces.push(format!("data: 1{end}").as_bytes()).unwrap().is_empty());
            assert!(!pieces.push(end.as_bytes()).unwrap().is_empty(), "{end:?}");
        }
    }

    #[test]
    fn what_is_no_json_or_stands_beside_the_data_and_completes_a_credential_stays_here() {
        let (left, right) = KEY.split_at(10);
        let out = through(&format!("data: {left}\n\ndata: {right}\n\n: {left}\n\n:{right}\n\ndata: ok\n\n"), 6);
        assert!(!out.contains(left) && !out.contains(right), "{out}");
        assert!(out.ends_with("data: ok\n\n"), "{out}");
    }

    #[test]
    fn a_stream_that_never_decides_is_cut_at_what_may_wait_and_one_of_many_texts_is_not() {
        let mut pieces = Pieces::new(scrubber());
        assert!(pieces.push(delta(0, &KEY[..12]).as_bytes()).unwrap().is_empty());
        let other = delta(1, &"x".repeat(1 << 20));
        let fits = LONGEST / other.len();
        (0..fits).for_each(|_| assert!(pieces.push(other.as_bytes()).unwrap().is_empty()));
        assert!(pieces.push(other.as_bytes()).is_err());
        let many: String = (0..2000).map(|index| delta(index, "words")).collect();
        assert_eq!(through(&many, 4096), many);
        let mut pieces = Pieces::new(scrubber());
        pieces.push(many.as_bytes()).unwrap();
        assert!(pieces.texts.len() <= MOST_TEXTS);
    }

    proptest! {
        #[test]
        fn a_stream_without_a_credential_goes_on_to_the_byte(
            texts in prop::collection::vec((0u64..3, "[sk4-]{0,3}[a-z\\\\\"\n\u{e9}]{0,6}[sk4-]{0,5}"), 0..20), piece in 1usize..60
        ) {
            let stream: String = texts.iter().map(|(index, text)| delta(*index, text)).collect();
            prop_assert_eq!(through(&stream, piece), stream);
        }

        #[test]
        fn no_cut_into_events_and_no_words_around_bring_a_credential_through(
            before in "[sk4-]{0,6}", after in "[sk4-]{0,6}", cuts in prop::collection::vec(1usize..6, 1..30), piece in 1usize..60
        ) {
            let whole = format!("{before}{KEY}{after}");
            let (mut rest, mut stream) = (whole.as_str(), String::new());
            for cut in cuts {
                let (now, then) = rest.split_at(cut.min(rest.len()));
                stream.push_str(&delta(0, now));
                rest = then;
            }
            stream.push_str(&delta(0, rest));
            let said = text(&through(&stream, piece), 0);
            prop_assert!(!said.contains(&KEY[..8]) && !said.contains(&KEY[8..16]) && !said.contains(&KEY[16..]), "{}", said);
            prop_assert!(said.starts_with(&before) && said.ends_with(&after), "{}", said);
        }
    }
}
