//! What the providers' servers really write, field for field and event for event, as recorded from their
//! published examples: Anthropic Messages, OpenAI Chat Completions, OpenAI Responses, Gemini's generateContent.

use crate::double::Turn;
use serde_json::{Value, json};

/// Which of the four, by the path of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `POST /v1/messages`
    Messages,
    /// `POST /v1/chat/completions`
    Chat,
    /// `POST /v1/responses`
    Responses,
    /// `POST /v1beta/models/{model}:generateContent`, and `:streamGenerateContent`
    Gemini,
}

impl Format {
    /// The format behind a path, whatever stands before `/v1`.
    pub fn of(path: &str) -> Option<Self> {
        let ends = [
            (Self::Messages, "/v1/messages"),
            (Self::Chat, "/v1/chat/completions"),
            (Self::Responses, "/v1/responses"),
            (Self::Gemini, ":generateContent"),
            (Self::Gemini, ":streamGenerateContent"),
        ];
        ends.into_iter().find_map(|(format, end)| path.ends_with(end).then_some(format))
    }

    /// The whole answer in one JSON text.
    pub fn whole(self, model: &str, turn: &Turn) -> Value {
        match self {
            Self::Messages => messages(model, turn),
            Self::Chat => chat(model, turn),
            Self::Responses => responses(model, turn, "completed"),
            Self::Gemini => gemini(model, turn),
        }
    }

    /// The same as server-sent events, one text for each; `usage` is whether Chat's client asked for the count.
    pub fn events(self, model: &str, turn: &Turn, usage: bool) -> Vec<String> {
        match self {
            Self::Messages => messages_events(model, turn),
            Self::Chat => chat_events(model, turn, usage),
            Self::Responses => responses_events(model, turn),
            Self::Gemini => gemini_events(model, turn),
        }
    }

    /// An error's body.
    pub fn error(self, status: u16, kind: &str, message: &str) -> Value {
        match self {
            Self::Messages => json!({"type": "error", "error": {"type": kind, "message": message},
                "request_id": "req_011CSHoEeqs5C35K2UUqR7Fy"}),
            Self::Gemini => {
                let words = match status {
                    400 | 401 => "INVALID_ARGUMENT",
                    404 => "NOT_FOUND",
                    429 => "RESOURCE_EXHAUSTED",
                    503 => "UNAVAILABLE",
                    _ => "INTERNAL",
                };
                json!({"error": {"code": status, "message": message, "status": words}})
            }
            _ => json!({"error": {"message": message, "type": kind, "param": null, "code": kind}}),
        }
    }
}

/// Text in pieces of a few characters, as a model streams it.
fn pieces(text: &str) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    characters.chunks(7).map(|piece| piece.iter().collect()).collect()
}

fn named(event: &Value) -> String {
    format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap_or_default())
}

// ---- Anthropic Messages ------------------------------------------------------------------------------------

fn tool_id(n: usize) -> String {
    format!("toolu_01T1x1fJ34qAmk2tNTrN7Up{n}")
}

fn stop_reason(turn: &Turn) -> &'static str {
    if turn.tools.is_empty() { "end_turn" } else { "tool_use" }
}

fn messages_usage(turn: &Turn, output: u64) -> Value {
    json!({"input_tokens": turn.usage.input, "cache_creation_input_tokens": turn.usage.cache_write,
        "cache_creation": {"ephemeral_5m_input_tokens": turn.usage.cache_write - turn.usage.cache_write_1h,
            "ephemeral_1h_input_tokens": turn.usage.cache_write_1h},
        "cache_read_input_tokens": turn.usage.cache_read, "output_tokens": output, "service_tier": "standard"})
}

fn messages(model: &str, turn: &Turn) -> Value {
    let mut content = Vec::new();
    if !turn.text.is_empty() {
        content.push(json!({"type": "text", "text": turn.text}));
    }
    for (n, (name, input)) in turn.tools.iter().enumerate() {
        content.push(json!({"type": "tool_use", "id": tool_id(n), "name": name, "input": input}));
    }
    json!({"id": "msg_01XFDUDYJgAACzvnptvVoYEL", "type": "message", "role": "assistant", "model": model,
        "content": content, "stop_reason": stop_reason(turn), "stop_sequence": null,
        "usage": messages_usage(turn, turn.usage.output)})
}

fn messages_events(model: &str, turn: &Turn) -> Vec<String> {
    let mut events =
        vec![json!({"type": "message_start", "message": {"id": "msg_01XFDUDYJgAACzvnptvVoYEL", "type": "message",
        "role": "assistant", "model": model, "content": [], "stop_reason": null, "stop_sequence": null,
        "usage": messages_usage(turn, 1)}})];
    let mut index = 0;
    if !turn.text.is_empty() {
        events.push(
            json!({"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": ""}}),
        );
        events.push(json!({"type": "ping"}));
        for text in pieces(&turn.text) {
            events.push(
                json!({"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": text}}),
            );
        }
        events.push(json!({"type": "content_block_stop", "index": index}));
        index += 1;
    }
    for (n, (name, input)) in turn.tools.iter().enumerate() {
        events.push(json!({"type": "content_block_start", "index": index,
            "content_block": {"type": "tool_use", "id": tool_id(n), "name": name, "input": {}}}));
        // The first piece is empty, as the real server's is.
        for part in std::iter::once(String::new()).chain(pieces(&input.to_string())) {
            events.push(json!({"type": "content_block_delta", "index": index,
                "delta": {"type": "input_json_delta", "partial_json": part}}));
        }
        events.push(json!({"type": "content_block_stop", "index": index}));
        index += 1;
    }
    events.push(json!({"type": "message_delta", "delta": {"stop_reason": stop_reason(turn), "stop_sequence": null},
        "usage": {"output_tokens": turn.usage.output}}));
    events.push(json!({"type": "message_stop"}));
    events.iter().map(named).collect()
}

// ---- OpenAI Chat Completions -------------------------------------------------------------------------------

fn call_id(n: usize) -> String {
    format!("call_DdmO9pD3xa9XTPNJ32zg2hc{n}")
}

fn finish_reason(turn: &Turn) -> &'static str {
    if turn.tools.is_empty() { "stop" } else { "tool_calls" }
}

fn content(turn: &Turn) -> Value {
    if turn.text.is_empty() { Value::Null } else { turn.text.clone().into() }
}

fn chat_usage(turn: &Turn) -> Value {
    // OpenAI counts what it read from its cache among the prompt's tokens.
    let prompt = turn.usage.input + turn.usage.cache_read;
    json!({"prompt_tokens": prompt, "completion_tokens": turn.usage.output,
        "total_tokens": prompt + turn.usage.output,
        "prompt_tokens_details": {"cached_tokens": turn.usage.cache_read, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0}})
}

fn chat(model: &str, turn: &Turn) -> Value {
    let mut message = json!({"role": "assistant", "content": content(turn), "refusal": null, "annotations": []});
    if !turn.tools.is_empty() {
        let call = |(n, (name, input)): (usize, &(String, Value))| {
            json!({"id": call_id(n), "type": "function",
                "function": {"name": name, "arguments": input.to_string()}})
        };
        message["tool_calls"] = turn.tools.iter().enumerate().map(call).collect();
    }
    json!({"id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT", "object": "chat.completion", "created": 1_741_569_952,
        "model": model, "choices": [{"index": 0, "message": message, "logprobs": null,
            "finish_reason": finish_reason(turn)}],
        "usage": chat_usage(turn), "service_tier": "default", "system_fingerprint": "fp_44709d6fcb"})
}

fn chat_events(model: &str, turn: &Turn, usage: bool) -> Vec<String> {
    let mut chunks = Vec::new();
    let chunk = |delta: Value, finish: Value| {
        json!({"id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT", "object": "chat.completion.chunk",
            "created": 1_741_569_952, "model": model, "service_tier": "default",
            "system_fingerprint": "fp_44709d6fcb",
            "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]})
    };
    chunks.push(chunk(json!({"role": "assistant", "content": "", "refusal": null}), Value::Null));
    for text in pieces(&turn.text) {
        chunks.push(chunk(json!({"content": text}), Value::Null));
    }
    for (n, (name, input)) in turn.tools.iter().enumerate() {
        chunks.push(chunk(
            json!({"tool_calls": [{"index": n, "id": call_id(n), "type": "function",
                "function": {"name": name, "arguments": ""}}]}),
            Value::Null,
        ));
        for part in pieces(&input.to_string()) {
            chunks.push(chunk(json!({"tool_calls": [{"index": n, "function": {"arguments": part}}]}), Value::Null));
        }
    }
    chunks.push(chunk(json!({}), finish_reason(turn).into()));
    if usage {
        for chunk in &mut chunks {
            chunk["usage"] = Value::Null;
        }
        let mut last = chunk(Value::Null, Value::Null);
        last["choices"] = json!([]);
        last["usage"] = chat_usage(turn);
        chunks.push(last);
    }
    let mut events: Vec<String> = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    events.push("data: [DONE]\n\n".into());
    events
}

// ---- OpenAI Responses --------------------------------------------------------------------------------------

fn output(turn: &Turn) -> Vec<Value> {
    let mut items = Vec::new();
    if let Some(hidden) = &turn.reasoning {
        items.push(json!({"type": "reasoning", "id": "rs_68d5a95e6a3c8190a1b2c3d4e5f60718", "summary": [],
            "encrypted_content": hidden}));
    }
    if !turn.text.is_empty() {
        items.push(json!({"type": "message", "id": "msg_67ccd2bf17f0819081ff3bb2cf6508e6", "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": turn.text, "annotations": [], "logprobs": []}]}));
    }
    for (n, (name, input)) in turn.tools.iter().enumerate() {
        items.push(json!({"type": "function_call", "id": format!("fc_67ca09c6bedc8190a7abfec07b1a133{n}"),
            "call_id": call_id(n), "name": name, "arguments": input.to_string(), "status": "completed"}));
    }
    items
}

fn responses(model: &str, turn: &Turn, status: &str) -> Value {
    let done = status == "completed";
    let read = turn.usage.input + turn.usage.cache_read;
    let usage = json!({"input_tokens": read, "input_tokens_details": {"cached_tokens": turn.usage.cache_read},
        "output_tokens": turn.usage.output, "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": read + turn.usage.output});
    json!({"id": "resp_67ccd2bed1ec8190b14f964abc0542670bb6a6b452d3795b", "object": "response",
        "created_at": 1_741_476_542, "status": status, "error": null, "incomplete_details": null, "model": model,
        "output": if done { output(turn) } else { Vec::new() }, "parallel_tool_calls": true,
        "previous_response_id": null, "store": false, "usage": if done { usage } else { Value::Null }})
}

fn responses_events(model: &str, turn: &Turn) -> Vec<String> {
    let mut events = vec![
        json!({"type": "response.created", "response": responses(model, turn, "in_progress")}),
        json!({"type": "response.in_progress", "response": responses(model, turn, "in_progress")}),
    ];
    for (at, item) in output(turn).into_iter().enumerate() {
        let id = item["id"].clone();
        if item["type"] == "reasoning" {
            let mut begun = item.clone();
            begun["encrypted_content"] = "".into();
            events.push(json!({"type": "response.output_item.added", "output_index": at, "item": begun}));
            events.push(json!({"type": "response.output_item.done", "output_index": at, "item": item}));
            continue;
        }
        let mut begun = item.clone();
        begun["status"] = "in_progress".into();
        let (field, empty, kind) = if item["type"] == "message" {
            ("content", json!([]), "response.output_text")
        } else {
            ("arguments", json!(""), "response.function_call_arguments")
        };
        begun[field] = empty;
        events.push(json!({"type": "response.output_item.added", "output_index": at, "item": begun}));
        let text =
            if item["type"] == "message" { turn.text.as_str() } else { item["arguments"].as_str().unwrap_or("") };
        for part in pieces(text) {
            events.push(json!({"type": format!("{kind}.delta"), "item_id": id, "output_index": at,
                "content_index": 0, "delta": part}));
        }
        events.push(json!({"type": "response.output_item.done", "output_index": at, "item": item}));
    }
    events.push(json!({"type": "response.completed", "response": responses(model, turn, "completed")}));
    for (n, event) in events.iter_mut().enumerate() {
        event["sequence_number"] = n.into();
    }
    events.iter().map(named).collect()
}

// ---- Gemini ------------------------------------------------------------------------------------------------

fn gemini_usage(turn: &Turn, output: u64) -> Value {
    // What was read from the cache is among the prompt's; what was thought is beside what was said.
    let prompt = turn.usage.input + turn.usage.cache_read;
    let thought = output / 2;
    json!({"promptTokenCount": prompt, "candidatesTokenCount": output - thought,
        "totalTokenCount": prompt + output, "cachedContentTokenCount": turn.usage.cache_read,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": prompt}],
        "cacheTokensDetails": [{"modality": "TEXT", "tokenCount": turn.usage.cache_read}],
        "thoughtsTokenCount": thought})
}

/// The parts of an answer; what was thought stands as a signature on the first call, or on the text.
fn gemini_parts(turn: &Turn) -> Vec<Value> {
    let mut parts = Vec::new();
    if !turn.text.is_empty() {
        parts.push(json!({"text": turn.text}));
    }
    let calls = parts.len();
    parts.extend(turn.tools.iter().map(|(name, input)| json!({"functionCall": {"name": name, "args": input}})));
    let first = if turn.tools.is_empty() { 0 } else { calls };
    if let (Some(hidden), Some(part)) = (&turn.reasoning, parts.get_mut(first)) {
        part["thoughtSignature"] = hidden.as_str().into();
    }
    parts
}

fn gemini_at(model: &str, turn: &Turn, parts: Vec<Value>, last: bool) -> Value {
    let mut candidate = json!({"content": {"parts": parts, "role": "model"}, "index": 0});
    if last {
        candidate["finishReason"] = "STOP".into();
    }
    let output = if last { turn.usage.output } else { turn.usage.output.min(1) };
    json!({"candidates": [candidate], "usageMetadata": gemini_usage(turn, output), "modelVersion": model,
        "responseId": "mAitaLmkHPPlz7IPvtfUqQ4"})
}

fn gemini(model: &str, turn: &Turn) -> Value {
    gemini_at(model, turn, gemini_parts(turn), true)
}

fn gemini_events(model: &str, turn: &Turn) -> Vec<String> {
    let mut parts = Vec::new();
    for part in gemini_parts(turn) {
        match part["text"].as_str().filter(|_| part.get("thoughtSignature").is_none()) {
            Some(text) => parts.extend(pieces(text).into_iter().map(|piece| json!({"text": piece}))),
            None => parts.push(part),
        }
    }
    let mut events: Vec<Value> = parts.into_iter().map(|part| gemini_at(model, turn, vec![part], false)).collect();
    events.push(gemini_at(model, turn, vec![json!({"text": ""})], true));
    events.iter().map(|event| format!("data: {event}\r\n\r\n")).collect()
}
