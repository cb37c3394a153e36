//! Events in bounded frames: split where a piece means the same, cut where the event says so, never dropped.

use api::inbox::Kind;
use api::{cable, steps};
use model::Event;
use serde_json::{Value, json};

/// Longest event, in bytes of JSON.
pub const MAX_EVENT: usize = 128 * 1024;
/// Longest event once it stands as a text inside another JSON text, as it does on the cable; the rest is for the envelope.
const MAX_QUOTED: usize = cable::MAX_PACKET - 4 * 1024;
/// Bytes of a command's output in one event.
pub const OUTPUT_PIECE: usize = 48 * 1024;
/// Bytes of text in a piece that always fits: a control character takes 6 bytes in JSON, and 7 inside a text again.
const TEXT_PIECE: usize = 16 * 1024;
/// Bytes of a loop step's JSON in a piece: a quote takes 2 bytes, and 4 inside a text again.
const STEP_PIECE: usize = 32 * 1024;

/// Whether an event's JSON fits its frame here and its packet on the cable.
fn fits(json: &str) -> bool {
    let quoted = json.len() + json.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count();
    json.len() <= MAX_EVENT && quoted <= MAX_QUOTED
}

fn text_of(event: &Event) -> String {
    // An event is strings, numbers and JSON values; none of them can fail to be written.
    serde_json::to_string(event)
        .unwrap_or_else(|_| r#"{"kind":"note","text":"an event could not be written"}"#.to_owned())
}

/// Whether an event can be recorded whole. What cannot be recorded must not happen: ask before a command.
#[must_use]
pub fn is_recordable(event: &Event) -> bool {
    fits(&text_of(event))
}

/// The frames of one event, in order.
#[must_use]
pub fn frames(event: Event) -> Vec<Vec<u8>> {
    let json = text_of(&event);
    if fits(&json) {
        return vec![frame(&json)];
    }
    let bytes = json.len();
    let smaller = match event {
        Event::Chunk { turn, text } => pieces(&text).map(|text| Event::Chunk { turn, text: text.to_owned() }).collect(),
        Event::Loop { step } => {
            steps::split(&step.to_string(), STEP_PIECE).into_iter().map(|step| Event::Loop { step }).collect()
        }
        Event::ToolResult { id, ok, text, .. } => {
            vec![Event::ToolResult { id: head(&id), ok, text: head(&text), cut: true }]
        }
        Event::ToolCall { turn, id, name, title, input } => {
            let input = json!({ "volary.cut": head(&input.to_string()) });
            let call = Event::ToolCall { turn, id: short(&id), name: short(&name), title: short(&title), input };
            vec![call, too_long("a tool call's input", bytes)]
        }
        Event::FileEdit { path, created, diff, .. } => {
            vec![Event::FileEdit { path: short(&path), created, diff: head(&diff), diff_cut: true }]
        }
        Event::Note { text } => vec![Event::Note { text: head(&text) }],
        // No other event of ours can be long: commands are asked about first, output comes in pieces.
        _ => vec![too_long("an event", bytes)],
    };
    smaller.iter().map(|event| frame(&text_of(event))).collect()
}

fn too_long(what: &str, bytes: usize) -> Event {
    Event::Note { text: format!("{what} of {bytes} bytes is longer than the record takes; it was cut") }
}

fn frame(json: &str) -> Vec<u8> {
    let mut frame = Vec::with_capacity(1 + json.len());
    frame.push(Kind::Event as u8);
    frame.extend_from_slice(json.as_bytes());
    frame
}

fn head(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_PIECE)].to_owned()
}

fn short(text: &str) -> String {
    text[..text.floor_char_boundary(256)].to_owned()
}

fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (piece, after) = rest.split_at(rest.floor_char_boundary(TEXT_PIECE));
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

/// The event that an agent's `_volary/event` may make: its own words and tools, nothing that only the runner,
/// the operator, the gateway or the server can know.
///
/// # Errors
/// The kind it asked for, when it may not make that, or the event is malformed.
pub fn from_agent(event: &Value) -> Result<Event, String> {
    match serde_json::from_value(event.clone()) {
        Ok(event @ (Event::Chunk { .. } | Event::ToolCall { .. } | Event::ToolResult { .. })) => Ok(event),
        _ => Err(short(event.get("kind").and_then(Value::as_str).unwrap_or("none"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(frames: &[Vec<u8>]) -> Vec<Event> {
        let each = frames.iter().map(|frame| {
            assert_eq!(frame[0], Kind::Event as u8);
            let json = std::str::from_utf8(&frame[1..]).unwrap();
            assert!(fits(json), "{} bytes", json.len());
            let run = model::RunId::parse(&"r".repeat(64)).unwrap();
            let on_the_cable = cable::ToCable::Hear { id: u64::MAX, run, event: Some(json.to_owned()) };
            assert!(serde_json::to_string(&on_the_cable).unwrap().len() <= cable::MAX_PACKET);
            serde_json::from_str(json).unwrap()
        });
        each.collect()
    }

    #[test]
    fn a_long_chunk_comes_in_pieces_that_join_to_it() {
        let text = "\u{1}é\"".repeat(100_000);
        let joined: String = check(&frames(Event::Chunk { turn: 2, text: text.clone() }))
            .into_iter()
            .map(|event| match event {
                Event::Chunk { turn: 2, text } => text,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(joined, text);
    }

    #[test]
    fn a_long_step_is_never_cut() {
        let step = json!({ "model": "\"\\\u{1}".repeat(200_000) });
        let parts = check(&frames(Event::Loop { step: step.clone() })).into_iter().map(|event| match event {
            Event::Loop { step } => step,
            other => panic!("{other:?}"),
        });
        assert_eq!(steps::join(parts.collect()), [step]);
    }

    #[test]
    fn what_is_cut_says_so() {
        let worst = "\u{1}".repeat(70_000);
        let result = Event::ToolResult { id: "1".into(), ok: true, text: worst.clone(), cut: false };
        assert!(matches!(&check(&frames(result))[..], [Event::ToolResult { cut: true, .. }]));
        let edit = Event::FileEdit { path: "/a".into(), created: true, diff: worst.clone(), diff_cut: false };
        assert!(matches!(&check(&frames(edit))[..], [Event::FileEdit { diff_cut: true, .. }]));
        let input = json!({ "content": worst });
        let call = Event::ToolCall { turn: 1, id: "1".into(), name: "write".into(), title: "w".into(), input };
        assert!(matches!(&check(&frames(call))[..], [Event::ToolCall { .. }, Event::Note { .. }]));
    }

    #[test]
    fn an_event_is_refused_by_its_size_on_the_cable_too() {
        let quotes = |n: usize| Event::Note { text: "\"".repeat(n) };
        // Two bytes each here, four each there.
        assert!(is_recordable(&quotes(MAX_QUOTED / 4 - 100)));
        assert!(!is_recordable(&quotes(MAX_QUOTED / 4)));
    }

    #[test]
    fn an_agent_cannot_forge_what_others_know() {
        assert!(from_agent(&json!({"kind": "chunk", "turn": 1, "text": "hi"})).is_ok());
        for kind in
            ["loop", "verdict", "settled", "ended", "walls", "command", "command-end", "output", "note", "file-edit"]
        {
            assert_eq!(from_agent(&json!({"kind": kind, "text": "", "step": 1})), Err(kind.to_owned()));
        }
        assert_eq!(from_agent(&json!({"kind": "chunk"})), Err("chunk".to_owned()));
        assert_eq!(from_agent(&json!(7)), Err("none".to_owned()));
    }
}
