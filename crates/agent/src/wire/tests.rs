use super::*;
use crate::turns::ToolResult;
use crate::turns::ToolSpec;
use api::inbox::ModelRoute;
use bytes::Bytes;
use eventsource_stream::Eventsource;
use futures_util::StreamExt;
use model::Usage;
use serde_json::{Value, json};

/// Reads a recorded stream that comes in the given pieces; gives the answer and the words as they came.
fn read(dialect: Dialect, pieces: &[&[u8]]) -> Result<(Answer, String), WireError> {
    let pieces: Vec<_> = pieces.iter().map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece))).collect();
    let events = futures_util::stream::iter(pieces).eventsource().map(Result::unwrap);
    let events: Vec<_> = futures_util::FutureExt::now_or_never(events.collect::<Vec<_>>()).unwrap();
    let (mut reader, mut words) = (Reader::new(dialect), String::new());
    for event in events {
        words.push_str(&reader.event(&event.data)?);
    }
    reader.end().map(|answer| (answer, words))
}

const ANTHROPIC: &str = "event: message_start\r\n\
data: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude\",\"content\":[],\"stop_reason\":null,\"usage\":{\"input_tokens\":25,\"cache_creation_input_tokens\":3,\"cache_read_input_tokens\":4,\"output_tokens\":1,\"service_tier\":\"standard\"}}}\r\n\r\n\
event: content_block_start\n\
data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n\
event: ping\ndata: {\"type\": \"ping\"}\n\n\
: a comment\n\n\
event: content_block_delta\n\
data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Héllo \"}}\n\n\
event: content_block_delta\n\
data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"wörld 漢\"}}\n\n\
event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n\
event: content_block_start\n\
data: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"tool_use\",\"id\":\"toolu_1\",\"name\":\"read\",\"input\":{}}}\n\n\
event: content_block_delta\n\
data: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"\"}}\n\n\
event: content_block_delta\n\
data: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"path\\\": \\\"a\"}}\n\n\
event: content_block_delta\n\
data: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\".c\\\"}\"}}\n\n\
event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":1}\n\n\
event: content_block_start\n\
data: {\"type\":\"content_block_start\",\"index\":2,\"content_block\":{\"type\":\"tool_use\",\"id\":\"toolu_2\",\"name\":\"list\",\"input\":{}}}\n\n\
event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":2}\n\n\
event: message_delta\n\
data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":89}}\n\n\
event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

const OPENAI: &str = "data: {\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"gpt\",\"service_tier\":\"default\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}\n\n\
data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Héllo \"},\"finish_reason\":null}],\"obfuscation\":\"x\"}\n\n\
data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"wörld 漢\"},\"finish_reason\":null}]}\n\n\
data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"call_1\",\"type\":\"function\",\"function\":{\"name\":\"read\",\"arguments\":\"\"}}]},\"finish_reason\":null}]}\n\n\
data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{\\\"path\\\": \\\"a\"}}]},\"finish_reason\":null}]}\n\n\
data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":1,\"id\":\"call_2\",\"type\":\"function\",\"function\":{\"name\":\"list\",\"arguments\":\"\"}}]},\"finish_reason\":null}]}\n\n\
data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\".c\\\"}\"}}]},\"finish_reason\":null}]}\n\n\
data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n\
data: {\"choices\":[],\"usage\":{\"prompt_tokens\":29,\"completion_tokens\":89,\"total_tokens\":118,\"prompt_tokens_details\":{\"cached_tokens\":4}}}\n\n\
data: [DONE]\n\n";

fn expected(dialect: Dialect) -> Answer {
    let (one, two, usage) = match dialect {
        Dialect::Anthropic => ("toolu_1", "toolu_2", Usage { input: 25, output: 89, cache_read: 4, cache_write: 3 }),
        Dialect::Openai => ("call_1", "call_2", Usage { input: 25, output: 89, cache_read: 4, cache_write: 0 }),
    };
    Answer {
        content: vec![
            Block::Text { text: "Héllo wörld 漢".into() },
            Block::Call(Call { id: one.into(), name: "read".into(), input: "{\"path\": \"a.c\"}".into() }),
            Block::Call(Call { id: two.into(), name: "list".into(), input: "{}".into() }),
        ],
        stop: Stop::Ended,
        usage,
    }
}

const BOTH: [(Dialect, &str); 2] = [(Dialect::Anthropic, ANTHROPIC), (Dialect::Openai, OPENAI)];

#[test]
fn a_recorded_stream_split_at_any_byte_reads_the_same() {
    for (dialect, stream) in BOTH {
        let stream = stream.as_bytes();
        for at in 0..=stream.len() {
            let (answer, words) = read(dialect, &[&stream[..at], &stream[at..]]).unwrap();
            assert_eq!(answer, expected(dialect), "{dialect:?} at {at}");
            assert_eq!(words, "Héllo wörld 漢");
        }
        let single: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(read(dialect, &single).unwrap().0, expected(dialect));
    }
}

#[test]
fn a_stream_cut_anywhere_before_its_end_is_no_answer() {
    for (dialect, stream) in BOTH {
        let last = match dialect {
            Dialect::Anthropic => stream.find("{\"type\":\"message_stop\"}").unwrap(),
            // From the finish reason on the answer is whole; its usage may be missing.
            Dialect::Openai => stream.find("\"finish_reason\":\"tool_calls\"").unwrap(),
        };
        for at in (0..=last).filter(|at| stream.is_char_boundary(*at)) {
            let error = read(dialect, &[&stream.as_bytes()[..at]]).unwrap_err();
            assert_eq!(error.kind, FailureKind::Cut, "{dialect:?} at {at}");
        }
    }
}

#[test]
fn an_answer_in_one_piece_reads_like_its_stream() {
    let anthropic = json!({"id": "msg_1", "type": "message", "role": "assistant", "content": [
        {"type": "text", "text": "Héllo wörld 漢"},
        {"type": "tool_use", "id": "toolu_1", "name": "read", "input": {"path": "a.c"}},
        {"type": "tool_use", "id": "toolu_2", "name": "list", "input": {}}],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": 25, "cache_creation_input_tokens": 3, "cache_read_input_tokens": 4, "output_tokens": 89}});
    let openai = json!({"object": "chat.completion", "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {
        "role": "assistant", "content": "Héllo wörld 漢", "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "read", "arguments": "{\"path\":\"a.c\"}"}},
            {"id": "call_2", "type": "function", "function": {"name": "list", "arguments": ""}}]}}],
        "usage": {"prompt_tokens": 29, "completion_tokens": 89, "prompt_tokens_details": {"cached_tokens": 4}}});
    for (dialect, body) in [(Dialect::Anthropic, anthropic), (Dialect::Openai, openai)] {
        let mut wanted = expected(dialect);
        let Block::Call(call) = &mut wanted.content[1] else { panic!() };
        call.input = "{\"path\":\"a.c\"}".into();
        assert_eq!(whole(dialect, body.to_string().as_bytes()).unwrap(), wanted);
    }
}

#[test]
fn errors_inside_a_stream_are_told_apart() {
    for (dialect, event, kind) in [
        (
            Dialect::Anthropic,
            r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
            FailureKind::Busy,
        ),
        (
            Dialect::Anthropic,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"no"}}"#,
            FailureKind::Refused,
        ),
        (Dialect::Anthropic, r#"{"error":{"type":"volary_policy","message":"budget"}}"#, FailureKind::Policy),
        (
            Dialect::Openai,
            r#"{"error":{"message":"slow down","type":"rate_limit_error","code":null}}"#,
            FailureKind::Busy,
        ),
        (
            Dialect::Openai,
            r#"{"error":{"message":"x","type":"invalid_request_error","code":"context_length_exceeded"}}"#,
            FailureKind::TooLong,
        ),
        (Dialect::Openai, r#"{"error":{"message":"down","code":503}}"#, FailureKind::Busy),
        (Dialect::Openai, r#"{"error":"out of memory"}"#, FailureKind::Refused),
        (Dialect::Anthropic, "<html>", FailureKind::Garbage),
        (Dialect::Openai, "{\"choices\":7}", FailureKind::Garbage),
    ] {
        assert_eq!(Reader::new(dialect).event(event).unwrap_err().kind, kind, "{event}");
    }
}

#[test]
fn events_and_fields_of_tomorrow_are_passed_over() {
    let mut reader = Reader::new(Dialect::Anthropic);
    for event in [
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"hologram","mass":3}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"spin_delta","spin":1}}"#,
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"thinking","thinking":"","signature":""}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"thinking_delta","thinking":"hm"}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"signature_delta","signature":"sig"}}"#,
        r#"{"type":"dawn"}"#,
        r#"{"type":"message_stop"}"#,
    ] {
        assert_eq!(reader.event(event).unwrap(), "");
    }
    let thinking = Block::Thinking { thinking: "hm".into(), signature: "sig".into() };
    assert_eq!(reader.end().unwrap().content, [thinking]);
}

#[test]
fn a_server_that_numbers_no_calls_still_has_its_calls_told_apart() {
    let mut reader = Reader::new(Dialect::Openai);
    for event in [
        r#"{"choices":[{"delta":{"tool_calls":[{"id":"a","function":{"name":"read","arguments":{"path":"x"}}}]}}]}"#,
        r#"{"choices":[{"delta":{"tool_calls":[{"id":"b","function":{"name":"list","arguments":"{}"}}]}}]}"#,
        r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#,
    ] {
        reader.event(event).unwrap();
    }
    let call =
        |id: &str, name: &str, input: &str| Block::Call(Call { id: id.into(), name: name.into(), input: input.into() });
    assert_eq!(reader.end().unwrap().content, [call("a", "read", r#"{"path":"x"}"#), call("b", "list", "{}")]);
}

fn conversation(dialect: Dialect) -> (Started, Vec<Message>) {
    let started = Started {
        task: "T".into(),
        system: "S".into(),
        tools: vec![ToolSpec { name: "read".into(), description: "D".into(), schema: r#"{"type":"object"}"#.into() }],
        model: ModelRoute { name: "m".into(), dialect, id: "id-1".into(), max_output_tokens: 64, context_tokens: 1000 },
        max_turns: 1,
        max_tokens: 1,
    };
    let call = |id: &str, input: &str| Block::Call(Call { id: id.into(), name: "read".into(), input: input.into() });
    let result = |id: &str, text: &str, ok| ToolResult { id: id.into(), text: text.into(), ok, cut: false };
    let messages = vec![
        Message::User("T".into()),
        Message::Model(vec![
            Block::Thinking { thinking: "h".into(), signature: "s".into() },
            Block::Text { text: "look".into() },
            call("1", "{\"z\": 1,  \"a\":2.0}"),
            call("2", "{\"path\": \"a"),
            call("3", "{\"a\":1,\"a\":2}"),
        ]),
        Message::Results(vec![result("1", "one", true), result("2", "bad", false), result("3", "", true)]),
        Message::User("go on".into()),
    ];
    (started, messages)
}

#[test]
fn a_body_is_what_the_dialect_wants_to_the_byte() {
    let (started, messages) = conversation(Dialect::Anthropic);
    let body = String::from_utf8(request(&started, &messages, true)).unwrap();
    let wanted = concat!(
        r#"{"model":"id-1","max_tokens":64,"stream":true,"#,
        r#""system":[{"type":"text","text":"S","cache_control":{"type":"ephemeral"}}],"#,
        r#""tools":[{"name":"read","description":"D","input_schema":{"type":"object"}}],"#,
        r#""messages":[{"role":"user","content":[{"type":"text","text":"T"}]},"#,
        r#"{"role":"assistant","content":[{"type":"thinking","thinking":"h","signature":"s"},{"type":"text","text":"look"},"#,
        r#"{"type":"tool_use","id":"1","name":"read","input":{"z": 1,  "a":2.0}},"#,
        r#"{"type":"tool_use","id":"2","name":"read","input":{"not_an_object":"{\"path\": \"a"}},"#,
        r#"{"type":"tool_use","id":"3","name":"read","input":{"not_an_object":"{\"a\":1,\"a\":2}"}}]},"#,
        r#"{"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":"one"},"#,
        r#"{"type":"tool_result","tool_use_id":"2","content":"bad","is_error":true},"#,
        r#"{"type":"tool_result","tool_use_id":"3","content":"(no output)"},"#,
        r#"{"type":"text","text":"go on","cache_control":{"type":"ephemeral"}}]}]}"#
    );
    assert_eq!(body, wanted);

    let (started, messages) = conversation(Dialect::Openai);
    let body = String::from_utf8(request(&started, &messages, true)).unwrap();
    let wanted = concat!(
        r#"{"model":"id-1","max_completion_tokens":64,"stream":true,"stream_options":{"include_usage":true},"#,
        r#""messages":[{"role":"system","content":"S"},{"role":"user","content":"T"},"#,
        r#"{"role":"assistant","content":"look","tool_calls":["#,
        r#"{"id":"1","type":"function","function":{"name":"read","arguments":"{\"z\": 1,  \"a\":2.0}"}},"#,
        r#"{"id":"2","type":"function","function":{"name":"read","arguments":"{\"not_an_object\":\"{\\\"path\\\": \\\"a\"}"}},"#,
        r#"{"id":"3","type":"function","function":{"name":"read","arguments":"{\"not_an_object\":\"{\\\"a\\\":1,\\\"a\\\":2}\"}"}}]},"#,
        r#"{"role":"tool","tool_call_id":"1","content":"one"},{"role":"tool","tool_call_id":"2","content":"ERROR: bad"},"#,
        r#"{"role":"tool","tool_call_id":"3","content":"(no output)"},{"role":"user","content":"go on"}],"#,
        r#""tools":[{"type":"function","function":{"name":"read","description":"D","parameters":{"type":"object"}}}]}"#
    );
    assert_eq!(body, wanted);
}

#[test]
fn tools_are_named_but_barred_when_a_summary_is_asked_for() {
    for (dialect, choice) in [(Dialect::Anthropic, json!({"type": "none"})), (Dialect::Openai, json!("none"))] {
        let (started, messages) = conversation(dialect);
        let body: Value = serde_json::from_slice(&request(&started, &messages, false)).unwrap();
        assert_eq!(body["tool_choice"], choice);
        assert_eq!(body["tools"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn the_gateway_lets_our_bodies_through_whatever_the_model_wrote_into_them() {
    for dialect in [Dialect::Anthropic, Dialect::Openai] {
        for may_call in [true, false] {
            let (mut started, messages) = conversation(dialect);
            started.tools = crate::tools::specs(&[]);
            let body = request(&started, &messages, may_call);
            let asked = policy::model_call::judge(dialect, "POST", path(dialect), None, &body).unwrap();
            assert_eq!((&*asked.model, asked.max_output_tokens, asked.stream), ("id-1", 64, true));
        }
    }
}
