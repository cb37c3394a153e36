//! What a call used, read from the provider's own words as they pass. It changes no byte and may be wrong
//! about none: where the provider reported, its report counts; where a stream broke before that, the
//! estimate is never below what was reported or seen.
//!
//! Read [`Meter::push`] (bytes in), [`Meter::usage`] (the sum), then [`Report`] (four wire formats).

use model::{Dialect, Usage};
use serde_json::Value;

/// Longest whole JSON answer, and longest single event, that is parsed. Longer ones are estimated.
const PARSED_AT_MOST: usize = 16 * 1024 * 1024;
/// Bytes of output text that are counted as one token where nothing was reported: fewer than in any common text.
const OUTPUT_BYTES_PER_TOKEN: u64 = 3;
/// Bytes of request body that are counted as one token where nothing was reported.
const INPUT_BYTES_PER_TOKEN: u64 = 4;

/// The meter of one call, running from its dispatch on.
pub(crate) struct Meter {
    dialect: Dialect,
    request_bytes: u64,
    free: bool,
    shape: Shape,
    report: Report,
}

enum Shape {
    /// The answer's head has not come.
    Waiting,
    /// One JSON text.
    Whole { text: Vec<u8>, over: u64 },
    /// Server-sent events.
    Events(Events),
}

impl Meter {
    /// A meter for a call that is being dispatched with a body of `request_bytes` bytes.
    ///
    /// `path` is the inference path: counting tokens is free.
    pub(crate) fn new(dialect: Dialect, path: &str, request_bytes: usize) -> Self {
        Self {
            dialect,
            request_bytes: request_bytes as u64,
            free: policy::model_call::only_counts(path),
            shape: Shape::Waiting,
            report: Report::default(),
        }
    }

    /// The answer's head is there; `content_type` is its own word.
    pub(crate) fn head(&mut self, content_type: &str) {
        self.shape = if is_stream(content_type) {
            Shape::Events(Events::default())
        } else {
            Shape::Whole { text: Vec::new(), over: 0 }
        };
    }

    /// Takes the next bytes of the answer, as the provider sent them.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        match &mut self.shape {
            Shape::Waiting => {}
            Shape::Whole { text, over } => {
                let room = PARSED_AT_MOST - text.len();
                let (kept, rest) = bytes.split_at(bytes.len().min(room));
                text.extend_from_slice(kept);
                *over += rest.len() as u64;
            }
            Shape::Events(events) => events.push(bytes, self.dialect, &mut self.report),
        }
    }

    /// Whether the stream has said its last word (`message_stop`, `[DONE]`, `response.completed`, a `finishReason`).
    pub(crate) fn saw_the_end(&self) -> bool {
        self.report.ended
    }

    /// What the call used, given the provider's status (0 when it did not answer).
    ///
    /// An answer that is no success and reports nothing used nothing.
    pub(crate) fn usage(&mut self, status: u16) -> Usage {
        match &mut self.shape {
            Shape::Waiting => {}
            Shape::Whole { text, over } => {
                match (*over == 0).then(|| parse(text)).flatten() {
                    Some(answer) => self.report.whole(self.dialect, &answer),
                    // Broken off, or too much to parse: every byte counts as output.
                    _ => self.report.output_bytes = text.len() as u64 + *over,
                }
                text.clear();
            }
            Shape::Events(events) => events.end(self.dialect, &mut self.report),
        }
        let report = &self.report;
        let mut usage = report.usage;
        if self.free || report.complete || status >= 300 {
            return usage;
        }
        if !report.input_known {
            usage.input = usage.input.max(self.request_bytes.div_ceil(INPUT_BYTES_PER_TOKEN));
        }
        usage.output = usage.output.max(report.output_bytes.div_ceil(OUTPUT_BYTES_PER_TOKEN));
        usage
    }
}

/// What the provider said of the use so far.
#[derive(Default)]
struct Report {
    usage: Usage,
    /// Whether `usage.input` is the provider's word.
    input_known: bool,
    /// Whether the provider gave its last word on the use.
    complete: bool,
    /// Whether the stream ended by its own last event.
    ended: bool,
    /// Bytes of text, thought and tool input that the model wrote.
    output_bytes: u64,
}

impl Report {
    /// A whole JSON answer.
    fn whole(&mut self, dialect: Dialect, answer: &Value) {
        let usage = if dialect == Dialect::Gemini { "usageMetadata" } else { "usage" };
        let known = self.take(dialect, &answer[usage]);
        self.complete |= known;
        if !known {
            // An answer without a report: its texts stand for the output.
            self.output_bytes = text_bytes(answer);
        }
    }

    /// One event of a stream.
    fn event(&mut self, dialect: Dialect, event: &Value) {
        match dialect {
            Dialect::Anthropic => self.anthropic(event),
            Dialect::Openai => self.chat(event),
            Dialect::OpenaiResponses => self.responses(event),
            Dialect::Gemini => self.gemini(event),
        }
    }

    fn anthropic(&mut self, event: &Value) {
        match event["type"].as_str().unwrap_or_default() {
            "message_start" => {
                self.take(Dialect::Anthropic, &event["message"]["usage"]);
            }
            "content_block_start" => self.output_bytes += text_bytes(&event["content_block"]["text"]),
            "content_block_delta" => {
                self.output_bytes += ["text", "partial_json", "thinking"]
                    .iter()
                    .map(|part| text_bytes(&event["delta"][part]))
                    .sum::<u64>();
            }
            "message_delta" => self.complete |= self.take(Dialect::Anthropic, &event["usage"]),
            "message_stop" => self.ended = true,
            _ => {}
        }
    }

    fn responses(&mut self, event: &Value) {
        match event["type"].as_str().unwrap_or_default() {
            "response.completed" | "response.incomplete" | "response.failed" => {
                self.complete |= self.take(Dialect::OpenaiResponses, &event["response"]["usage"]);
                self.ended = true;
            }
            _ => self.output_bytes += text_bytes(&event["delta"]),
        }
    }

    /// The chunk with the usage comes last; some servers put it in every chunk.
    fn chat(&mut self, event: &Value) {
        self.complete |= self.take(Dialect::Openai, &event["usage"]);
        for choice in event["choices"].as_array().into_iter().flatten() {
            let delta = &choice["delta"];
            self.output_bytes += ["content", "reasoning_content", "reasoning", "refusal"]
                .iter()
                .map(|part| text_bytes(&delta[part]))
                .sum::<u64>();
            for call in delta["tool_calls"].as_array().into_iter().flatten() {
                self.output_bytes += text_bytes(&call["function"]);
            }
        }
    }

    /// Every event holds the use so far. Some models give each of them a finish reason, so that none is the last
    /// before the stream ends.
    fn gemini(&mut self, event: &Value) {
        let known = self.take(Dialect::Gemini, &event["usageMetadata"]);
        self.ended |= event["promptFeedback"]["blockReason"].is_string();
        for candidate in event["candidates"].as_array().into_iter().flatten() {
            self.ended |= candidate["finishReason"].is_string();
            for part in candidate["content"]["parts"].as_array().into_iter().flatten() {
                self.output_bytes += text_bytes(&part["text"]) + text_bytes(&part["functionCall"]);
            }
        }
        self.complete = known && self.ended;
    }

    /// Takes a `usage` object; later reports of one call never lower earlier ones. True if it was one.
    fn take(&mut self, dialect: Dialect, usage: &Value) -> bool {
        if !usage.is_object() {
            return false;
        }
        let number = |name: &str| usage[name].as_u64();
        let (input, output, cache_read, cache_write) = match dialect {
            Dialect::Anthropic => (
                number("input_tokens"),
                number("output_tokens"),
                number("cache_read_input_tokens"),
                number("cache_creation_input_tokens"),
            ),
            Dialect::Openai | Dialect::OpenaiResponses => {
                let [input, output, details] = if dialect == Dialect::Openai {
                    ["prompt_tokens", "completion_tokens", "prompt_tokens_details"]
                } else {
                    ["input_tokens", "output_tokens", "input_tokens_details"]
                };
                let (input, output) = (number(input), number(output));
                let cached = usage[details]["cached_tokens"].as_u64();
                (input.map(|n| n.saturating_sub(cached.unwrap_or(0))), output, cached, None)
            }
            Dialect::Gemini => {
                let [prompt, tools, cached] =
                    ["promptTokenCount", "toolUsePromptTokenCount", "cachedContentTokenCount"].map(number);
                let read = prompt.map(|n| n.saturating_add(tools.unwrap_or(0)));
                let [said, thought] = ["candidatesTokenCount", "thoughtsTokenCount"].map(number);
                let wrote = said.unwrap_or(0).saturating_add(thought.unwrap_or(0));
                // What the total holds beyond what was read was written, named or not.
                let rest = number("totalTokenCount").zip(read).map_or(0, |(total, read)| total.saturating_sub(read));
                let output = (said.is_some() || thought.is_some() || rest > 0).then_some(wrote.max(rest));
                // A later event may name a part of what was read as cached; together it never becomes less.
                let before = self.usage;
                let cached = before.cache_read.max(cached.unwrap_or(0));
                if let Some(read) = read {
                    self.usage.input = read.max(before.input.saturating_add(before.cache_read)).saturating_sub(cached);
                }
                (read.map(|_| self.usage.input), output, Some(cached), None)
            }
        };
        self.input_known |= input.is_some();
        let now = &mut self.usage;
        now.input = now.input.max(input.unwrap_or(0));
        now.output = now.output.max(output.unwrap_or(0));
        now.cache_read = now.cache_read.max(cache_read.unwrap_or(0));
        now.cache_write = now.cache_write.max(cache_write.unwrap_or(0));
        // Anthropic's, and null elsewhere.
        let hour = usage["cache_creation"]["ephemeral_1h_input_tokens"].as_u64();
        now.cache_write_1h = now.cache_write_1h.max(hour.unwrap_or(0));
        input.is_some() || output.is_some()
    }
}

/// Whether a body of this type is a stream of server-sent events.
pub(crate) fn is_stream(content_type: &str) -> bool {
    content_type.trim_start().to_ascii_lowercase().starts_with("text/event-stream")
}

/// What the provider wrote, unless it is no JSON or so full of values that a tree of it would fill the memory.
pub(crate) fn parse(text: &[u8]) -> Option<Value> {
    if policy::model_call::is_bounded(text) { serde_json::from_slice(text).ok() } else { None }
}

/// Bytes of all texts in a value.
fn text_bytes(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.len() as u64,
        Value::Array(all) => all.iter().map(text_bytes).sum(),
        Value::Object(all) => all.values().map(text_bytes).sum(),
        _ => 0,
    }
}

/// Bytes of a line from which one sees whether it is empty: none, or a carriage return alone.
const TELLS_EMPTY: usize = 2;

/// Splits a stream into events; keeps the unfinished one.
#[derive(Default)]
struct Events {
    line: Vec<u8>,
    data: Vec<u8>,
    /// The event is longer than is parsed: all of it counts as output, and nothing of it is kept until it ends.
    over: bool,
}

impl Events {
    fn push(&mut self, mut bytes: &[u8], dialect: Dialect, report: &mut Report) {
        while let Some(end) = bytes.iter().position(|b| *b == b'\n') {
            self.keep(&bytes[..end], report);
            bytes = &bytes[end + 1..];
            self.line_ends(dialect, report);
        }
        self.keep(bytes, report);
    }

    fn keep(&mut self, bytes: &[u8], report: &mut Report) {
        if !self.over && self.line.len() + self.data.len() + bytes.len() > PARSED_AT_MOST {
            self.over = true;
            report.output_bytes += (self.line.len() + self.data.len()) as u64;
            self.data = Vec::new();
            self.line = self.line.iter().take(TELLS_EMPTY).copied().collect();
        }
        let mut kept = bytes;
        if self.over {
            report.output_bytes += bytes.len() as u64;
            kept = &bytes[..bytes.len().min(TELLS_EMPTY.saturating_sub(self.line.len()))];
        }
        self.line.extend_from_slice(kept);
    }

    fn line_ends(&mut self, dialect: Dialect, report: &mut Report) {
        let mut line = std::mem::take(&mut self.line);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        if line.is_empty() {
            return self.event_ends(dialect, report);
        }
        if let Some(data) = line.strip_prefix(b"data:") {
            if !self.data.is_empty() {
                self.data.push(b'\n');
            }
            self.data.extend_from_slice(data.strip_prefix(b" ").unwrap_or(data));
        }
        line.clear();
        self.line = line;
    }

    fn event_ends(&mut self, dialect: Dialect, report: &mut Report) {
        let over = std::mem::take(&mut self.over);
        if !over && self.data == b"[DONE]" {
            report.ended = true;
        } else if !over && !self.data.is_empty() {
            match parse(&self.data) {
                Some(event) => report.event(dialect, &event),
                // Not this protocol: count it all.
                None => report.output_bytes += self.data.len() as u64,
            }
        }
        self.data.clear();
    }

    /// The stream is over; an unfinished last event counts if it is whole, as bytes if not.
    fn end(&mut self, dialect: Dialect, report: &mut Report) {
        self.line_ends(dialect, report);
        self.event_ends(dialect, report);
    }
}

#[cfg(test)]
mod tests;
