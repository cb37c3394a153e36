//! What evidence says of an act, beyond who and when.

use model::event::Exit;
use model::{Event, RunId};
use serde_json::{Map, Value, json};

/// The fields of an object; anything else has none.
#[must_use]
pub fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// What is recorded of a run's end.
#[must_use]
pub fn ended(run: &RunId, event: &Event) -> Map<String, Value> {
    let Event::Ended { outcome, reason, exit } = event else { return fields(json!({ "run": run })) };
    let exit = exit.as_ref().map(|exit| match exit {
        Exit::Code { code } => format!("code {code}"),
        Exit::Signal { signal } => format!("signal {signal}"),
        Exit::Killed { why } => format!("killed: {}", short(why)),
        Exit::Unknown => "unknown".to_owned(),
    });
    fields(json!({ "run": run, "outcome": outcome, "reason": short(reason), "exit": exit }))
}

/// At most 1,000 characters of a text; a record is no place for more.
#[must_use]
pub fn short(text: &str) -> String {
    text.chars().take(1000).collect()
}

/// Whether an event that a host reports is recorded in evidence (by its digest), beside the transcript.
///
/// Streams (text, output) are not: the transcript holds them, and what they led to is recorded.
#[must_use]
pub fn worth(event: &Event) -> bool {
    matches!(
        event,
        Event::Base { .. }
            | Event::Attempt { .. }
            | Event::BrokenOff { .. }
            | Event::Walls { .. }
            | Event::Froze
            | Event::Thawed { .. }
            | Event::Result { .. }
            | Event::Ended { .. }
            | Event::ToolCall { .. }
            | Event::Command { .. }
            | Event::CommandEnd { .. }
            | Event::FileEdit { .. }
    )
}
