//! `session/update`, in the words of the transcript, for agents that have no `_volary/event`.

use model::Event;
use serde_json::Value;
use std::collections::HashMap;

/// Tool calls that are remembered until they end; an agent with more open ones gets no answers recorded for the rest.
const MAX_OPEN: usize = 256;

/// What is known of a session from what was said in it.
#[derive(Default)]
pub struct Updates {
    /// The session's id; empty before there is one.
    pub session: String,
    /// The agent says its words by `_volary/event`: `session/update` would say them twice.
    pub speaks_volary: bool,
    turn: u32,
    /// Whether text came since the last tool call.
    in_text: bool,
    open: HashMap<String, String>,
}

impl Updates {
    /// Reads the answer to `initialize`: an agent that has our extensions says so in a `_meta` key that begins with `_volary` or `volary`.
    pub fn greet(&mut self, hello: &Value) {
        let places = [hello.get("_meta"), hello.get("agentCapabilities").and_then(|can| can.get("_meta"))];
        let keys = places.into_iter().flatten().filter_map(Value::as_object).flat_map(|meta| meta.keys());
        self.speaks_volary = keys.map(|key| key.trim_start_matches('_')).any(|key| key.starts_with("volary"));
    }

    /// The event that an update makes, if any.
    pub fn take(&mut self, params: &Value) -> Option<Event> {
        if self.speaks_volary {
            return None;
        }
        let update = params.get("update")?;
        match update.get("sessionUpdate")?.as_str()? {
            "agent_message_chunk" => {
                let text = update.get("content")?.get("text")?.as_str()?.to_owned();
                if !self.in_text {
                    self.in_text = true;
                    self.turn += 1;
                }
                Some(Event::Chunk { turn: self.turn, text })
            }
            "tool_call" => {
                self.in_text = false;
                let id = text(update, "toolCallId");
                if self.open.len() < MAX_OPEN {
                    self.open.insert(id.clone(), text(update, "title"));
                }
                let name = ["name", "kind"].map(|key| text(update, key)).into_iter().find(|name| !name.is_empty());
                let name = name.unwrap_or_else(|| "other".into());
                let input = update.get("rawInput").cloned().unwrap_or(Value::Null);
                Some(Event::ToolCall { turn: self.turn.max(1), id, name, title: text(update, "title"), input })
            }
            "tool_call_update" => {
                let ok = match update.get("status")?.as_str()? {
                    "completed" => true,
                    "failed" => false,
                    _ => return None,
                };
                let id = text(update, "toolCallId");
                self.open.remove(&id)?;
                Some(Event::ToolResult { id, ok, text: answer(update), cut: false })
            }
            _ => None,
        }
    }
}

fn text(of: &Value, key: &str) -> String {
    of.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// The text blocks of a tool call's content; its raw output when there are none.
fn answer(update: &Value) -> String {
    let blocks = update.get("content").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let texts = blocks.iter().filter_map(|block| block.get("content")?.get("text")?.as_str());
    let joined = texts.collect::<Vec<_>>().join("\n");
    if !joined.is_empty() {
        return joined;
    }
    match update.get("rawOutput") {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn update(update: Value) -> Value {
        json!({ "sessionId": "s", "update": update })
    }

    #[test]
    fn a_foreign_agent_is_recorded_by_its_standard_updates() {
        let mut updates = Updates::default();
        let chunk = |text: &str| {
            update(json!({ "sessionUpdate": "agent_message_chunk", "content": { "type": "text", "text": text } }))
        };
        assert_eq!(updates.take(&chunk("a")), Some(Event::Chunk { turn: 1, text: "a".into() }));
        assert_eq!(updates.take(&chunk("b")), Some(Event::Chunk { turn: 1, text: "b".into() }));
        let call = update(
            json!({ "sessionUpdate": "tool_call", "toolCallId": "7", "title": "Read x", "kind": "read", "rawInput": { "path": "x" } }),
        );
        let input = json!({ "path": "x" });
        let expected = Event::ToolCall { turn: 1, id: "7".into(), name: "read".into(), title: "Read x".into(), input };
        assert_eq!(updates.take(&call), Some(expected));
        let working =
            update(json!({ "sessionUpdate": "tool_call_update", "toolCallId": "7", "status": "in_progress" }));
        assert_eq!(updates.take(&working), None);
        let done = update(json!({ "sessionUpdate": "tool_call_update", "toolCallId": "7", "status": "completed",
            "content": [{ "type": "content", "content": { "type": "text", "text": "hello" } }] }));
        let expected = Event::ToolResult { id: "7".into(), ok: true, text: "hello".into(), cut: false };
        assert_eq!(updates.take(&done), Some(expected));
        assert_eq!(updates.take(&done), None, "a call ends once");
        assert_eq!(updates.take(&chunk("c")), Some(Event::Chunk { turn: 2, text: "c".into() }));
    }

    #[test]
    fn an_agent_that_speaks_our_extension_is_not_recorded_twice() {
        let mut updates = Updates::default();
        updates.greet(&json!({ "protocolVersion": 1, "agentCapabilities": { "_meta": { "_volary": true } } }));
        let chunk = json!({ "sessionUpdate": "agent_message_chunk", "content": { "type": "text", "text": "a" } });
        assert_eq!(updates.take(&update(chunk)), None);
    }
}
