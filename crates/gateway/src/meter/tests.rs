//! Each format, whole, in any pieces and cut.

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

const GEMINI: &str = concat!(
    r#"data: {"candidates":[{"content":{"parts":[{"text":"0123456789","thought":true}],"role":"model"},"index":0}],"usageMetadata":{"promptTokenCount":40,"cachedContentTokenCount":15,"totalTokenCount":42,"thoughtsTokenCount":2}}"#,
    "\r\n\r\n",
    r#"data: {"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{"a":"01234567890123456789"}},"thoughtSignature":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}],"role":"model"},"index":0}],"usageMetadata":{"promptTokenCount":40,"cachedContentTokenCount":15,"candidatesTokenCount":1,"totalTokenCount":43,"thoughtsTokenCount":2}}"#,
    "\r\n\r\n",
    r#"data: {"candidates":[{"content":{"parts":[{"text":""}],"role":"model"},"finishReason":"STOP","index":0}],"usageMetadata":{"promptTokenCount":40,"cachedContentTokenCount":15,"candidatesTokenCount":5,"thoughtsTokenCount":20,"totalTokenCount":65}}"#,
    "\r\n\r\n",
);

#[test]
fn a_gemini_stream_is_metered_by_its_last_event_thoughts_and_all() {
    let whole = Usage { input: 25, output: 25, cache_read: 15, ..Usage::default() };
    assert_eq!(usage(Dialect::Gemini, SSE, GEMINI), whole);
    let cut = &GEMINI[..GEMINI.find(r#"data: {"candidates":[{"content":{"parts":[{"text":""}]"#).unwrap()];
    // Ten bytes of text and twenty-one of a call: eleven tokens, more than were reported so far.
    let seen = Usage { output: 11, ..whole };
    assert_eq!(usage(Dialect::Gemini, SSE, cut), seen, "the signature is not counted as text");
    assert!(!metered(Dialect::Gemini, [cut.as_bytes()]).1 && metered(Dialect::Gemini, [GEMINI.as_bytes()]).1);
}

#[test]
fn what_gemini_used_for_tools_is_read_and_what_only_its_total_names_is_written() {
    for (report, input, output) in [
        (
            r#"{"promptTokenCount":12,"toolUsePromptTokenCount":65,"candidatesTokenCount":71,"thoughtsTokenCount":89,"totalTokenCount":237}"#,
            77,
            160,
        ),
        (r#"{"promptTokenCount":12,"candidatesTokenCount":3,"totalTokenCount":40}"#, 12, 28),
        (r#"{"promptTokenCount":12,"totalTokenCount":12}"#, 12, 0),
        (r#"{"promptTokenCount":12,"thoughtsTokenCount":9}"#, 12, 9),
    ] {
        let text = format!(r#"{{"candidates":[],"usageMetadata":{report}}}"#);
        let used = usage(Dialect::Gemini, "application/json", &text);
        assert_eq!(used, Usage { input, output, ..Usage::default() }, "{report}");
    }
}

#[test]
fn what_gemini_names_as_cached_only_later_is_not_counted_twice() {
    let event = |report: &str| format!("data: {{\"candidates\":[],\"usageMetadata\":{report}}}\n\n");
    let stream = event(r#"{"promptTokenCount":40}"#)
        + &event(r#"{"promptTokenCount":40,"cachedContentTokenCount":30}"#)
        + &event(r#"{"promptTokenCount":38}"#);
    let used = usage(Dialect::Gemini, SSE, &stream);
    assert_eq!(used, Usage { input: 10, cache_read: 30, ..Usage::default() });
}

#[test]
fn a_blocked_prompt_ends_a_gemini_stream_and_costs_what_was_read() {
    let blocked = "data: {\"promptFeedback\":{\"blockReason\":\"SAFETY\"},\"usageMetadata\":{\"promptTokenCount\":9,\"totalTokenCount\":9}}\n\n";
    assert_eq!(metered(Dialect::Gemini, [blocked.as_bytes()]), (Usage { input: 9, ..Usage::default() }, true));
}

#[test]
fn whole_answers_of_all_formats_are_metered() {
    let json = "application/json";
    for (dialect, text) in [
        (Dialect::Anthropic, r#"{"usage":{"input_tokens":3,"output_tokens":4}}"#),
        (Dialect::Openai, r#"{"usage":{"prompt_tokens":3,"completion_tokens":4}}"#),
        (Dialect::OpenaiResponses, r#"{"usage":{"input_tokens":3,"output_tokens":4}}"#),
        (Dialect::Gemini, r#"{"usageMetadata":{"promptTokenCount":3,"candidatesTokenCount":4,"totalTokenCount":7}}"#),
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
    let many = format!(r#"{{"usage":{{"input_tokens":1,"output_tokens":1}},"x":[{}0]}}"#, r#"{"":0},"#.repeat(70_000));
    let estimate = (many.len() as u64).div_ceil(OUTPUT_BYTES_PER_TOKEN);
    assert_eq!(usage(Dialect::Openai, "application/json", &many).output, estimate);
    assert_eq!(usage(Dialect::Openai, SSE, &format!("data: {many}\n\n")).output, estimate);
}

/// One of each format, with its dialect.
const STREAMS: [(Dialect, &str); 4] = [
    (Dialect::Anthropic, ANTHROPIC),
    (
        Dialect::Openai,
        "data: {\"choices\":[{\"delta\":{\"content\":\"hello\"}}]}\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":30,\"completion_tokens\":8}}\n\ndata: [DONE]\n\n",
    ),
    (
        Dialect::OpenaiResponses,
        "event: x\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"hey\"}\n\ndata: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":11,\"output_tokens\":6}}}\n\n",
    ),
    (Dialect::Gemini, GEMINI),
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
