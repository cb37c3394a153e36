//! What the scripted model says, in the providers' wire formats.

use api::grants::ScriptTool;
use bytes::Bytes;
use http::StatusCode;
use model::Dialect;
use serde_json::{Value, json};

/// Words in one piece of streamed text.
const WORDS_A_PIECE: usize = 3;
/// Bytes in one piece of a tool's streamed input, at least.
const INPUT_PIECE_BYTES: usize = 24;
/// Bytes that count as one token.
const BYTES_PER_TOKEN: usize = 4;

/// One answer.
pub(super) struct Said<'a> {
    /// The turn, from 0.
    pub(super) n: usize,
    /// The model that was asked for.
    pub(super) model: &'a str,
    pub(super) text: String,
    pub(super) tools: &'a [ScriptTool],
    /// Length of the request's body.
    pub(super) request_bytes: usize,
}

/// An error as the provider would put it.
pub(super) fn error(dialect: Dialect, status: StatusCode, kind: &str, message: &str) -> Value {
    match dialect {
        Dialect::Anthropic => json!({ "type": "error", "error": { "type": kind, "message": message } }),
        Dialect::Openai | Dialect::OpenaiResponses => {
            json!({ "error": { "type": kind, "message": message, "code": null, "param": null } })
        }
        Dialect::Gemini => {
            let kind = match status.as_u16() {
                400 => "INVALID_ARGUMENT",
                401 => "UNAUTHENTICATED",
                404 => "NOT_FOUND",
                429 => "RESOURCE_EXHAUSTED",
                503 | 529 => "UNAVAILABLE",
                _ => "INTERNAL",
            };
            json!({ "error": { "code": status.as_u16(), "message": message, "status": kind } })
        }
    }
}

impl Said<'_> {
    fn input_tokens(&self) -> usize {
        (self.request_bytes / BYTES_PER_TOKEN).max(1)
    }

    fn output_tokens(&self) -> usize {
        let tools: usize = self.tools.iter().map(|tool| tool.input.to_string().len()).sum();
        ((self.text.len() + tools) / BYTES_PER_TOKEN).max(1)
    }

    // ---- Anthropic Messages ----

    fn anthropic_id(&self) -> String {
        format!("msg_script_{}", self.n)
    }

    fn anthropic_stop(&self) -> &'static str {
        if self.tools.is_empty() { "end_turn" } else { "tool_use" }
    }

    fn anthropic_tool(&self, i: usize, input: Value) -> Value {
        json!({ "type": "tool_use", "id": format!("toolu_script_{}_{i}", self.n), "name": self.tools[i].name, "input": input })
    }

    /// The whole message.
    pub(super) fn anthropic(&self) -> Value {
        let mut content = Vec::new();
        if !self.text.is_empty() {
            content.push(json!({ "type": "text", "text": self.text }));
        }
        content.extend((0..self.tools.len()).map(|i| self.anthropic_tool(i, self.tools[i].input.clone())));
        json!({
            "id": self.anthropic_id(), "type": "message", "role": "assistant", "model": self.model, "content": content,
            "stop_reason": self.anthropic_stop(), "stop_sequence": null,
            "usage": { "input_tokens": self.input_tokens(), "output_tokens": self.output_tokens() },
        })
    }

    /// The message as server-sent events, each in one piece.
    pub(super) fn anthropic_events(&self) -> Vec<Bytes> {
        let mut events = vec![json!({ "type": "message_start", "message": {
            "id": self.anthropic_id(), "type": "message", "role": "assistant", "model": self.model, "content": [],
            "stop_reason": null, "stop_sequence": null,
            "usage": { "input_tokens": self.input_tokens(), "output_tokens": 1 },
        } })];
        let mut index = 0;
        let mut block = |start: Value, deltas: Vec<Value>| {
            events.push(json!({ "type": "content_block_start", "index": index, "content_block": start }));
            events.extend(
                deltas
                    .into_iter()
                    .map(|delta| json!({ "type": "content_block_delta", "index": index, "delta": delta })),
            );
            events.push(json!({ "type": "content_block_stop", "index": index }));
            index += 1;
        };
        if !self.text.is_empty() {
            let deltas = words(&self.text).map(|piece| json!({ "type": "text_delta", "text": piece })).collect();
            block(json!({ "type": "text", "text": "" }), deltas);
        }
        for (i, tool) in self.tools.iter().enumerate() {
            let input = tool.input.to_string();
            let deltas =
                slices(&input).map(|piece| json!({ "type": "input_json_delta", "partial_json": piece })).collect();
            block(self.anthropic_tool(i, json!({})), deltas);
        }
        events.push(json!({
            "type": "message_delta", "delta": { "stop_reason": self.anthropic_stop(), "stop_sequence": null },
            "usage": { "output_tokens": self.output_tokens() },
        }));
        events.push(json!({ "type": "message_stop" }));
        let line = |event: Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default());
        events.into_iter().map(|event| Bytes::from(line(event))).collect()
    }

    // ---- OpenAI chat completions ----

    fn openai_stop(&self) -> &'static str {
        if self.tools.is_empty() { "stop" } else { "tool_calls" }
    }

    fn openai_tool(&self, i: usize, arguments: &str) -> Value {
        let function = json!({ "name": self.tools[i].name, "arguments": arguments });
        json!({ "id": format!("call_script_{}_{i}", self.n), "type": "function", "function": function })
    }

    fn openai_usage(&self) -> Value {
        let (input, output) = (self.input_tokens(), self.output_tokens());
        json!({ "prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output })
    }

    /// The whole completion.
    pub(super) fn openai(&self) -> Value {
        let mut message = json!({ "role": "assistant", "content": if self.text.is_empty() { Value::Null } else { json!(self.text) } });
        if !self.tools.is_empty() {
            let calls: Vec<_> =
                (0..self.tools.len()).map(|i| self.openai_tool(i, &self.tools[i].input.to_string())).collect();
            message["tool_calls"] = calls.into();
        }
        json!({
            "id": format!("chatcmpl-script-{}", self.n), "object": "chat.completion", "created": 0, "model": self.model,
            "choices": [{ "index": 0, "message": message, "finish_reason": self.openai_stop() }],
            "usage": self.openai_usage(),
        })
    }

    /// The completion as chunks, each in one piece; the usage chunk only for a client that asked for it.
    pub(super) fn openai_events(&self, include_usage: bool) -> Vec<Bytes> {
        let chunk = |choices: Value| {
            json!({
                "id": format!("chatcmpl-script-{}", self.n), "object": "chat.completion.chunk", "created": 0,
                "model": self.model, "choices": choices,
            })
        };
        let delta = |delta: Value| chunk(json!([{ "index": 0, "delta": delta, "finish_reason": null }]));
        let mut chunks = vec![delta(json!({ "role": "assistant", "content": "" }))];
        chunks.extend(words(&self.text).map(|piece| delta(json!({ "content": piece }))));
        for (i, tool) in self.tools.iter().enumerate() {
            let mut start = self.openai_tool(i, "");
            start["index"] = json!(i);
            chunks.push(delta(json!({ "tool_calls": [start] })));
            let input = tool.input.to_string();
            chunks.extend(
                slices(&input)
                    .map(|piece| delta(json!({ "tool_calls": [{ "index": i, "function": { "arguments": piece } }] }))),
            );
        }
        chunks.push(chunk(json!([{ "index": 0, "delta": {}, "finish_reason": self.openai_stop() }])));
        if include_usage {
            let mut last = chunk(json!([]));
            last["usage"] = self.openai_usage();
            chunks.push(last);
        }
        let mut pieces: Vec<_> = chunks.into_iter().map(|chunk| Bytes::from(format!("data: {chunk}\n\n"))).collect();
        pieces.push(Bytes::from_static(b"data: [DONE]\n\n"));
        pieces
    }

    // ---- OpenAI Responses ----

    fn responses_items(&self) -> Vec<Value> {
        let mut items = Vec::new();
        if !self.text.is_empty() {
            items.push(json!({
                "type": "message", "id": format!("msg_script_{}", self.n), "status": "completed", "role": "assistant",
                "content": [{ "type": "output_text", "text": self.text, "annotations": [] }],
            }));
        }
        items.extend(self.tools.iter().enumerate().map(|(i, tool)| {
            json!({
                "type": "function_call", "id": format!("fc_script_{}_{i}", self.n), "status": "completed",
                "call_id": format!("call_script_{}_{i}", self.n), "name": tool.name,
                "arguments": tool.input.to_string(),
            })
        }));
        items
    }

    fn responses_at(&self, status: &str, output: Vec<Value>, usage: Value) -> Value {
        json!({
            "id": format!("resp_script_{}", self.n), "object": "response", "created_at": 0, "status": status,
            "error": null, "incomplete_details": null, "model": self.model, "output": output, "store": false,
            "usage": usage,
        })
    }

    /// The whole response.
    pub(super) fn responses(&self) -> Value {
        let (input, output) = (self.input_tokens(), self.output_tokens());
        let usage = json!({
            "input_tokens": input, "input_tokens_details": { "cached_tokens": 0 }, "output_tokens": output,
            "output_tokens_details": { "reasoning_tokens": 0 }, "total_tokens": input + output,
        });
        self.responses_at("completed", self.responses_items(), usage)
    }

    /// The response as server-sent events, each in one piece.
    pub(super) fn responses_events(&self) -> Vec<Bytes> {
        let begun = || self.responses_at("in_progress", Vec::new(), Value::Null);
        let mut events = vec![
            json!({ "type": "response.created", "response": begun() }),
            json!({ "type": "response.in_progress", "response": begun() }),
        ];
        for (at, item) in self.responses_items().into_iter().enumerate() {
            let (field, empty, kind) = if item["type"] == "message" {
                ("content", json!([]), "response.output_text.delta")
            } else {
                ("arguments", json!(""), "response.function_call_arguments.delta")
            };
            let pieces: Vec<&str> = match item["arguments"].as_str() {
                Some(arguments) => slices(arguments).collect(),
                None => words(&self.text).collect(),
            };
            let mut started = item.clone();
            started["status"] = json!("in_progress");
            started[field] = empty;
            events.push(json!({ "type": "response.output_item.added", "output_index": at, "item": started }));
            events.extend(pieces.into_iter().map(|piece| {
                json!({ "type": kind, "item_id": item["id"], "output_index": at, "content_index": 0, "delta": piece })
            }));
            events.push(json!({ "type": "response.output_item.done", "output_index": at, "item": item }));
        }
        events.push(json!({ "type": "response.completed", "response": self.responses() }));
        events.iter_mut().zip(0..).for_each(|(event, n)| event["sequence_number"] = json!(n));
        let line = |event: Value| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default());
        events.into_iter().map(|event| Bytes::from(line(event))).collect()
    }
}

impl Said<'_> {
    // ---- Gemini ----

    fn gemini_at(&self, parts: Vec<Value>, last: bool) -> Value {
        let (input, output) = (self.input_tokens(), if last { self.output_tokens() } else { 1 });
        let mut candidate = json!({ "content": { "parts": parts, "role": "model" }, "index": 0 });
        if last {
            candidate["finishReason"] = json!("STOP");
        }
        json!({
            "candidates": [candidate], "modelVersion": self.model, "responseId": format!("script-{}", self.n),
            "usageMetadata": { "promptTokenCount": input, "candidatesTokenCount": output, "totalTokenCount": input + output },
        })
    }

    fn gemini_calls(&self) -> impl Iterator<Item = Value> {
        self.tools.iter().map(|tool| json!({ "functionCall": { "name": tool.name, "args": tool.input } }))
    }

    /// The whole answer.
    pub(super) fn gemini(&self) -> Value {
        let text = (!self.text.is_empty()).then(|| json!({ "text": self.text }));
        self.gemini_at(text.into_iter().chain(self.gemini_calls()).collect(), true)
    }

    /// The answer as server-sent events, each in one piece; a call comes whole, and nothing but an end after the last.
    pub(super) fn gemini_events(&self) -> Vec<Bytes> {
        let texts = words(&self.text).map(|piece| json!({ "text": piece }));
        let mut events: Vec<_> =
            texts.chain(self.gemini_calls()).map(|part| self.gemini_at(vec![part], false)).collect();
        events.push(self.gemini_at(vec![json!({ "text": "" })], true));
        events.into_iter().map(|event| Bytes::from(format!("data: {event}\r\n\r\n"))).collect()
    }
}

/// A text in pieces of some words; together they are the text.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let end = rest.match_indices([' ', '\n']).nth(WORDS_A_PIECE - 1).map_or(rest.len(), |(at, _)| at + 1);
        let (piece, left) = rest.split_at(end);
        rest = left;
        (!piece.is_empty()).then_some(piece)
    })
}

/// A text in pieces of some bytes, cut between characters; together they are the text.
fn slices(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let end = (INPUT_PIECE_BYTES..=rest.len()).find(|at| rest.is_char_boundary(*at)).unwrap_or(rest.len());
        let (piece, left) = rest.split_at(end);
        rest = left;
        (!piece.is_empty()).then_some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_together_are_the_text() {
        for text in ["", "one", "one two three four\nfive  six ", "   ", "ä€𝄞 ".repeat(20).as_str()] {
            assert_eq!(words(text).collect::<String>(), text);
            assert_eq!(slices(text).collect::<String>(), text);
        }
        assert_eq!(words("one two three four").collect::<Vec<_>>(), ["one two three ", "four"]);
    }
}
