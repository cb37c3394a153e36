//! What a call used, read from the provider's own words as they pass. It changes no byte and may be wrong
//! about none: where the provider reported, its report counts; where a stream broke before that, the
//! estimate is never below what was reported or seen.
//!
//! Read [`Meter::push`] (bytes in), [`Meter::usage`] (the sum), then [`Report`] (three wire formats).

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

    /// Whether the stream has said its last word (`message_stop`, `[DONE]`, `response.completed`).
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
        let known = self.take(dialect, &answer["usage"]);
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SSE: &str = "text/event-stream; charset=utf-8";

    fn usage(dialect: Dialect, kind: &str, text: &str) -> Usage {
        let mut meter = Meter::new(dialect, "/v1/x", 400);
        meter.head(kind);
        // One byte at a time: no event may depend on where the network cuts.
        for byte in text.as_bytes() {
            meter.push(std::slice::from_ref(byte));
        }
        meter.usage(200)
    }

    const ANTHROPIC: &str = concat!(
        "event: message_start\n",
        r#"data: {"type":"message_start","message":{"usage":{"input_tokens":25,"cache_creation_input_tokens":7,"cache_creation":{"ephemeral_5m_input_tokens":2,"ephemeral_1h_input_tokens":5},"cache_read_input_tokens":9,"output_tokens":1}}}"#,
        "\n\n",
        "event: content_block_delta\n",
        r#"data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"0123456789"}}"#,
        "\n\n",
        "event: message_delta\r\n",
        r#"data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":15}}"#,
        "\r\n\r\n",
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
    );

    #[test]
    fn an_anthropic_stream_is_metered_by_its_own_report() {
        let whole = Usage { input: 25, output: 15, cache_read: 9, cache_write: 7, cache_write_1h: 5 };
        assert_eq!(usage(Dialect::Anthropic, SSE, ANTHROPIC), whole);
    }

    #[test]
    fn a_stream_that_broke_off_counts_what_was_reported_and_a_third_of_the_bytes_written() {
        let cut = &ANTHROPIC[..ANTHROPIC.find("event: message_delta").unwrap()];
        let seen = Usage { input: 25, output: 4, cache_read: 9, cache_write: 7, cache_write_1h: 5 };
        assert_eq!(usage(Dialect::Anthropic, SSE, cut), seen, "ten bytes written: four tokens, rounded up");
    }

    #[test]
    fn a_chat_stream_is_metered_by_its_usage_chunk_and_without_one_by_its_bytes() {
        let text = "data: {\"choices\":[{\"delta\":{\"content\":\"hello\"}}]}\n\n";
        let report = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":30,\"completion_tokens\":8,\"prompt_tokens_details\":{\"cached_tokens\":10}}}\n\ndata: [DONE]\n\n";
        let reported = usage(Dialect::Openai, SSE, &format!("{text}{report}"));
        assert_eq!(reported, Usage { input: 20, output: 8, cache_read: 10, ..Usage::default() });
        let estimated = usage(Dialect::Openai, SSE, &format!("{text}data: [DONE]\n\n"));
        assert_eq!(estimated, Usage { input: 100, output: 2, ..Usage::default() });
    }

    #[test]
    fn a_responses_stream_is_metered_by_its_last_event() {
        let text = "data: {\"type\":\"response.output_text.delta\",\"delta\":\"hey\"}\n\n";
        let last = "data: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":11,\"output_tokens\":6,\"input_tokens_details\":{\"cached_tokens\":1}}}}\n\n";
        let reported = usage(Dialect::OpenaiResponses, SSE, &format!("{text}{last}"));
        assert_eq!(reported, Usage { input: 10, output: 6, cache_read: 1, ..Usage::default() });
    }

    #[test]
    fn whole_answers_of_all_three_formats_are_metered() {
        let json = "application/json";
        for (dialect, text) in [
            (Dialect::Anthropic, r#"{"usage":{"input_tokens":3,"output_tokens":4}}"#),
            (Dialect::Openai, r#"{"usage":{"prompt_tokens":3,"completion_tokens":4}}"#),
            (Dialect::OpenaiResponses, r#"{"usage":{"input_tokens":3,"output_tokens":4}}"#),
        ] {
            assert_eq!(usage(dialect, json, text), Usage { input: 3, output: 4, ..Usage::default() }, "{text}");
        }
    }

    #[test]
    fn a_call_that_was_dispatched_and_never_answered_counts_its_input() {
        let mut meter = Meter::new(Dialect::Anthropic, "/v1/messages", 401);
        assert_eq!(meter.usage(0), Usage { input: 101, ..Usage::default() });
    }

    #[test]
    fn an_error_a_redirect_and_a_token_count_used_nothing() {
        let mut error = Meter::new(Dialect::Anthropic, "/v1/messages", 400);
        error.head("application/json");
        error.push(br#"{"type":"error","error":{"type":"overloaded_error"}}"#);
        assert_eq!(error.usage(529), Usage::default());
        assert_eq!(Meter::new(Dialect::Anthropic, "/v1/messages", 400).usage(307), Usage::default());
        let mut count = Meter::new(Dialect::Anthropic, "/v1/messages/count_tokens", 400);
        count.head("application/json");
        count.push(br#"{"input_tokens":4000}"#);
        assert_eq!(count.usage(200), Usage::default());
    }

    #[test]
    fn an_event_that_does_not_end_is_not_kept_and_counted_whole_and_the_next_one_is_read() {
        for piece in [PARSED_AT_MOST + 9, 4 << 20] {
            let mut meter = Meter::new(Dialect::Anthropic, "/v1/messages", 400);
            meter.head(SSE);
            meter.push(b"event: x\ndata: ");
            let long = vec![b'x'; PARSED_AT_MOST + 9];
            long.chunks(piece).for_each(|piece| meter.push(piece));
            meter.push(b"\ndata: more\n");
            let Shape::Events(events) = &meter.shape else { panic!("it is a stream") };
            assert!(events.line.capacity() + events.data.capacity() < 100, "what is lost takes room");
            let bytes = meter.report.output_bytes;
            assert_eq!(bytes, "data: ".len() as u64 + long.len() as u64 + "data: more".len() as u64);
            meter.push(b"\r\n");
            meter.push(ANTHROPIC.as_bytes());
            assert!(meter.saw_the_end());
            assert_eq!(meter.usage(200).input, 25);
        }
    }

    #[test]
    fn an_answer_of_millions_of_values_is_counted_by_its_bytes_and_not_read() {
        let many =
            format!(r#"{{"usage":{{"input_tokens":1,"output_tokens":1}},"x":[{}0]}}"#, r#"{"":0},"#.repeat(70_000));
        let estimate = (many.len() as u64).div_ceil(OUTPUT_BYTES_PER_TOKEN);
        assert_eq!(usage(Dialect::Openai, "application/json", &many).output, estimate);
        assert_eq!(usage(Dialect::Openai, SSE, &format!("data: {many}\n\n")).output, estimate);
    }

    /// One of each format, with its dialect.
    const STREAMS: [(Dialect, &str); 3] = [
        (Dialect::Anthropic, ANTHROPIC),
        (
            Dialect::Openai,
            "data: {\"choices\":[{\"delta\":{\"content\":\"hello\"}}]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":30,\"completion_tokens\":8}}\n\ndata: [DONE]\n\n",
        ),
        (
            Dialect::OpenaiResponses,
            "event: x\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"hey\"}\n\ndata: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":11,\"output_tokens\":6}}}\n\n",
        ),
    ];

    /// What a meter says of a stream that came in pieces.
    fn metered<'a>(dialect: Dialect, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Usage, bool) {
        let mut meter = Meter::new(dialect, "/v1/x", 400);
        meter.head(SSE);
        pieces.into_iter().for_each(|piece| meter.push(piece));
        (meter.usage(200), meter.saw_the_end())
    }

    proptest! {
        #[test]
        fn any_stream_cut_into_any_pieces_is_metered_the_same(
            which in 0..STREAMS.len(), at in any::<u8>(), out in 0usize..40,
            garbage in prop::collection::vec(any::<u8>(), 0..40), piece in 1usize..50
        ) {
            let (dialect, stream) = STREAMS[which];
            let at = stream.len() * usize::from(at) / 256;
            let mut bytes = stream.as_bytes().to_vec();
            bytes.splice(at..(at + out).min(stream.len()), garbage);
            prop_assert_eq!(metered(dialect, [&bytes[..]]), metered(dialect, bytes.chunks(piece)));
        }

        #[test]
        fn a_stream_cut_off_anywhere_counts_its_input_as_reported_or_by_its_bytes(which in 0..STREAMS.len(), cut in any::<u8>()) {
            let (dialect, stream) = STREAMS[which];
            let end = stream.len() * usize::from(cut) / 256;
            let (whole, part) = (metered(dialect, [stream.as_bytes()]).0, metered(dialect, [&stream.as_bytes()[..end]]).0);
            prop_assert!([whole.input, 100].contains(&part.input), "{:?}", part);
        }
    }
}
