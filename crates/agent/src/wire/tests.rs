mod gemini;

use super::*;
use crate::turns::ToolResult;
use crate::turns::ToolSpec;
use api::inbox::ModelRoute;
use model::Usage;
use serde_json::{Value, json};

/// Reads a recorded stream that comes in the given pieces; gives the answer and the words as they came.
pub(super) fn read(dialect: Dialect, pieces: &[&[u8]]) -> Result<(Answer, String), WireError> {
    let (mut events, mut reader, mut words) = (events::Events::default(), Reader::new(dialect), String::new());
    for piece in pieces {
        for data in events.push(piece)? {
            if !reader.is_whole() {
                words.push_str(&reader.event(&data)?);
            }
        }
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

const RESPONSES: &str = "event: response.created\n\
data: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"resp_1\",\"object\":\"response\",\"status\":\"in_progress\",\"error\":null,\"incomplete_details\":null,\"output\":[],\"store\":false,\"usage\":null}}\n\n\
event: response.output_item.added\n\
data: {\"type\":\"response.output_item.added\",\"output_index\":0,\"item\":{\"id\":\"msg_1\",\"type\":\"message\",\"status\":\"in_progress\",\"role\":\"assistant\",\"content\":[]}}\n\n\
event: response.content_part.added\n\
data: {\"type\":\"response.content_part.added\",\"item_id\":\"msg_1\",\"output_index\":0,\"content_index\":0,\"part\":{\"type\":\"output_text\",\"text\":\"\",\"annotations\":[]}}\n\n\
event: response.output_text.delta\n\
data: {\"type\":\"response.output_text.delta\",\"item_id\":\"msg_1\",\"output_index\":0,\"content_index\":0,\"delta\":\"Héllo \",\"obfuscation\":\"x\"}\n\n\
event: response.output_text.delta\n\
data: {\"type\":\"response.output_text.delta\",\"item_id\":\"msg_1\",\"output_index\":0,\"content_index\":0,\"delta\":\"wörld 漢\"}\n\n\
event: response.output_text.done\n\
data: {\"type\":\"response.output_text.done\",\"output_index\":0,\"content_index\":0,\"text\":\"Héllo wörld 漢\"}\n\n\
event: response.output_item.done\n\
data: {\"type\":\"response.output_item.done\",\"output_index\":0,\"item\":{\"id\":\"msg_1\",\"type\":\"message\",\"status\":\"completed\",\"role\":\"assistant\",\"content\":[{\"type\":\"output_text\",\"text\":\"Héllo wörld 漢\",\"annotations\":[]}]}}\n\n\
event: response.output_item.added\n\
data: {\"type\":\"response.output_item.added\",\"output_index\":1,\"item\":{\"id\":\"fc_1\",\"type\":\"function_call\",\"status\":\"in_progress\",\"arguments\":\"\",\"call_id\":\"call_1\",\"name\":\"read\"}}\n\n\
event: response.function_call_arguments.delta\n\
data: {\"type\":\"response.function_call_arguments.delta\",\"item_id\":\"fc_1\",\"output_index\":1,\"delta\":\"{\\\"path\\\": \\\"a\"}\n\n\
event: response.function_call_arguments.delta\n\
data: {\"type\":\"response.function_call_arguments.delta\",\"item_id\":\"fc_1\",\"output_index\":1,\"delta\":\".c\\\"}\"}\n\n\
event: response.output_item.done\n\
data: {\"type\":\"response.output_item.done\",\"output_index\":1,\"item\":{\"id\":\"fc_1\",\"type\":\"function_call\",\"status\":\"completed\",\"arguments\":\"{\\\"path\\\": \\\"a.c\\\"}\",\"call_id\":\"call_1\",\"name\":\"read\"}}\n\n\
event: response.output_item.added\n\
data: {\"type\":\"response.output_item.added\",\"output_index\":2,\"item\":{\"id\":\"fc_2\",\"type\":\"function_call\",\"status\":\"in_progress\",\"arguments\":\"\",\"call_id\":\"call_2\",\"name\":\"list\"}}\n\n\
event: response.completed\n\
data: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_1\",\"object\":\"response\",\"status\":\"completed\",\"error\":null,\"incomplete_details\":null,\"output\":[],\"usage\":{\"input_tokens\":29,\"input_tokens_details\":{\"cached_tokens\":4},\"output_tokens\":89,\"output_tokens_details\":{\"reasoning_tokens\":0},\"total_tokens\":118}}}\n\n";

const GEMINI: &str = "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"**Thinking**\",\"thought\":true}],\"role\":\"model\"},\"index\":0}],\"usageMetadata\":{\"promptTokenCount\":29,\"totalTokenCount\":60,\"thoughtsTokenCount\":31},\"modelVersion\":\"gemini\",\"responseId\":\"r1\"}\r\n\r\n\
data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Héllo \"}],\"role\":\"model\"},\"index\":0}],\"usageMetadata\":{\"promptTokenCount\":29,\"candidatesTokenCount\":2,\"totalTokenCount\":62,\"thoughtsTokenCount\":31}}\r\n\r\n\
data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"wörld 漢\"}],\"role\":\"model\"},\"index\":0,\"safetyRatings\":[]}]}\r\n\r\n\
data: {\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{\"id\":\"fc_1\",\"name\":\"read\",\"args\":{\"path\": \"a.c\"}}},{\"functionCall\":{\"id\":\"fc_2\",\"name\":\"list\"}}],\"role\":\"model\"},\"index\":0}]}\r\n\r\n\
data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"\"}],\"role\":\"model\"},\"finishReason\":\"STOP\",\"index\":0}],\"usageMetadata\":{\"promptTokenCount\":29,\"candidatesTokenCount\":58,\"totalTokenCount\":118,\"cachedContentTokenCount\":4,\"thoughtsTokenCount\":31}}\r\n\r\n";

pub(super) fn expected(dialect: Dialect) -> Answer {
    let (one, two, usage) = match dialect {
        Dialect::Anthropic => {
            ("toolu_1", "toolu_2", Usage { input: 25, output: 89, cache_read: 4, cache_write: 3, ..Usage::default() })
        }
        Dialect::Openai | Dialect::OpenaiResponses => {
            ("call_1", "call_2", Usage { input: 25, output: 89, cache_read: 4, ..Usage::default() })
        }
        Dialect::Gemini => ("fc_1", "fc_2", Usage { input: 25, output: 89, cache_read: 4, ..Usage::default() }),
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

pub(super) const ALL: [(Dialect, &str); 4] = [
    (Dialect::Anthropic, ANTHROPIC),
    (Dialect::Openai, OPENAI),
    (Dialect::OpenaiResponses, RESPONSES),
    (Dialect::Gemini, GEMINI),
];

#[test]
fn a_recorded_stream_split_at_any_byte_reads_the_same() {
    for (dialect, stream) in ALL {
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
    for (dialect, stream) in ALL {
        let last = match dialect {
            Dialect::Anthropic => stream.find("{\"type\":\"message_stop\"}").unwrap(),
            // From the finish reason on the answer is whole; its usage may be missing.
            Dialect::Openai => stream.find("\"finish_reason\":\"tool_calls\"").unwrap(),
            Dialect::OpenaiResponses => stream.find("{\"type\":\"response.completed\"").unwrap(),
            Dialect::Gemini => stream.find("\"finishReason\":\"STOP\"").unwrap(),
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
    let responses = json!({"id": "resp_1", "object": "response", "status": "completed", "error": null, "output": [
        {"type": "message", "id": "msg_1", "role": "assistant", "content": [
            {"type": "output_text", "text": "Héllo wörld 漢", "annotations": [], "logprobs": []}]},
        {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "read", "arguments": "{\"path\":\"a.c\"}"},
        {"type": "function_call", "id": "fc_2", "call_id": "call_2", "name": "list", "arguments": ""}],
        "usage": {"input_tokens": 29, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 89}});
    let gemini = json!({"candidates": [{"content": {"role": "model", "parts": [
        {"text": "Héllo wörld 漢"},
        {"functionCall": {"id": "fc_1", "name": "read", "args": {"path": "a.c"}}},
        {"functionCall": {"id": "fc_2", "name": "list", "args": {}}}]}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {"promptTokenCount": 29, "candidatesTokenCount": 58, "thoughtsTokenCount": 31,
            "cachedContentTokenCount": 4, "totalTokenCount": 118}});
    for (dialect, body) in [
        (Dialect::Anthropic, anthropic),
        (Dialect::Openai, openai),
        (Dialect::OpenaiResponses, responses),
        (Dialect::Gemini, gemini),
    ] {
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
        (
            Dialect::OpenaiResponses,
            r#"{"type":"error","code":"rate_limit_exceeded","message":"slow down","param":null}"#,
            FailureKind::Busy,
        ),
        (
            Dialect::OpenaiResponses,
            r#"{"type":"error","error":{"type":"invalid_request_error","code":"context_length_exceeded","message":"x"}}"#,
            FailureKind::TooLong,
        ),
        (
            Dialect::OpenaiResponses,
            r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"server_error","message":"x"}}}"#,
            FailureKind::Busy,
        ),
        (Dialect::OpenaiResponses, r#"{"type":"response.failed","response":{"status":"failed"}}"#, FailureKind::Busy),
        (Dialect::OpenaiResponses, r#"{"error":{"type":"volary_policy","message":"no"}}"#, FailureKind::Policy),
        (Dialect::OpenaiResponses, "{\"output_index\":\"x\"}", FailureKind::Garbage),
        (
            Dialect::Gemini,
            r#"{"error":{"code":503,"message":"The model is overloaded.","status":"UNAVAILABLE"}}"#,
            FailureKind::Busy,
        ),
        (Dialect::Gemini, r#"{"error":{"message":"x","status":"RESOURCE_EXHAUSTED"}}"#, FailureKind::Busy),
        (Dialect::Gemini, r#"{"error":{"message":"x","status":"INTERNAL"}}"#, FailureKind::Busy),
        (Dialect::Gemini, r#"{"error":{"message":"x","status":"DEADLINE_EXCEEDED"}}"#, FailureKind::Busy),
        (
            Dialect::Gemini,
            r#"{"error":{"code":400,"message":"The input token count (1048577) exceeds the maximum number of tokens allowed (1048576).","status":"INVALID_ARGUMENT"}}"#,
            FailureKind::TooLong,
        ),
        (
            Dialect::Gemini,
            r#"{"error":{"code":400,"message":"API key not valid.","status":"INVALID_ARGUMENT"}}"#,
            FailureKind::Refused,
        ),
        (Dialect::Gemini, r#"{"error":{"type":"volary_policy","message":"no"}}"#, FailureKind::Policy),
        (Dialect::Gemini, r#"{"candidates":[{"finishReason":"OTHER"}]}"#, FailureKind::Garbage),
        (Dialect::Gemini, "{\"candidates\":7}", FailureKind::Garbage),
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

/// The answer to these events of Responses.
fn responses(events: &[Value]) -> Answer {
    let mut reader = Reader::new(Dialect::OpenaiResponses);
    for event in events {
        reader.event(&event.to_string()).unwrap();
    }
    reader.end().unwrap()
}

#[test]
fn reasoning_goes_back_as_it_came_but_for_its_id_and_only_if_it_can_be_read_again() {
    let item = |at: u64, item: Value| json!({"type": "response.output_item.done", "output_index": at, "item": item});
    let end = json!({"type": "response.completed", "response": {"status": "completed"}});
    let Answer { content, .. } = responses(&[
        item(
            0,
            json!({"type": "reasoning", "id": "rs_1", "status": null, "content": null, "encrypted_content": "gAAA",
            "summary": [{"type": "summary_text", "text": "why"}], "tomorrow": 1}),
        ),
        item(1, json!({"type": "reasoning", "id": "rs_2", "summary": [{"type": "summary_text", "text": "lost"}]})),
        item(
            2,
            json!({"type": "reasoning", "id": "rs_3", "summary": [], "content": [
            {"type": "reasoning_text", "text": "open"}]}),
        ),
        item(3, json!({"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "read", "arguments": "{}"})),
        end,
    ]);
    let (started, _) = conversation(Dialect::OpenaiResponses);
    let body: Value = serde_json::from_slice(&request(&started, &[Message::Model(content)], true)).unwrap();
    let wanted = json!([
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "why"}], "encrypted_content": "gAAA"},
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "open"}]},
        {"type": "function_call", "call_id": "c1", "name": "read", "arguments": "{}"}]);
    assert_eq!(body["input"], wanted);
    assert_eq!((&body["store"], &body["include"]), (&json!(false), &json!(["reasoning.encrypted_content"])));
    policy::model_call::judge(Dialect::OpenaiResponses, "POST", "/v1/responses", None, body.to_string().as_bytes())
        .unwrap();
}

#[test]
fn a_model_that_does_not_reason_is_not_asked_for_its_reasoning() {
    for (id, asked) in [("gpt-4.1", false), ("gpt-4o-mini", false), ("gpt-5", true), ("o3", true), ("any", true)] {
        let (mut started, messages) = conversation(Dialect::OpenaiResponses);
        started.model.id = id.into();
        let body: Value = serde_json::from_slice(&request(&started, &messages, true)).unwrap();
        assert_eq!(body.get("include").is_some(), asked, "{id}");
    }
}

#[test]
fn a_response_that_stopped_early_says_why() {
    for (status, reason, stop) in [
        ("completed", Value::Null, Stop::Ended),
        ("incomplete", json!({"reason": "max_output_tokens"}), Stop::OutputLimit),
        ("incomplete", json!({"reason": "content_filter"}), Stop::Refused),
        ("incomplete", Value::Null, Stop::OutputLimit),
    ] {
        let response = json!({"status": status, "incomplete_details": reason});
        let answer = responses(&[json!({"type": format!("response.{status}"), "response": response})]);
        assert_eq!(answer.stop, stop, "{response}");
    }
    let refusal = json!({"type": "response.refusal.delta", "output_index": 0, "delta": "I will not."});
    let end = json!({"type": "response.completed", "response": {"status": "completed"}});
    let answer = responses(&[refusal, end]);
    assert_eq!((answer.stop, answer.content), (Stop::Refused, vec![Block::Text { text: "I will not.".into() }]));
}

#[test]
fn a_server_that_streams_no_pieces_of_a_response_still_has_its_words_heard_once() {
    let message = json!({"type": "message", "content": [{"type": "output_text", "text": "Hello."}]});
    let done = json!({"type": "response.output_item.done", "output_index": 0, "item": message});
    let end =
        |output: Value| json!({"type": "response.completed", "response": {"status": "completed", "output": output}});
    for events in [vec![done.clone(), end(json!([message]))], vec![end(json!([message]))]] {
        let mut reader = Reader::new(Dialect::OpenaiResponses);
        let words: String = events.iter().map(|event| reader.event(&event.to_string()).unwrap()).collect();
        assert_eq!(words, "Hello.");
        assert_eq!(reader.end().unwrap().content, [Block::Text { text: "Hello.".into() }]);
    }
}

pub(super) fn conversation(dialect: Dialect) -> (Started, Vec<Message>) {
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
fn a_body_of_responses_holds_the_whole_context_and_keeps_nothing_at_the_vendors_to_the_byte() {
    let (started, messages) = conversation(Dialect::OpenaiResponses);
    let body = String::from_utf8(request(&started, &messages, true)).unwrap();
    let wanted = concat!(
        r#"{"model":"id-1","max_output_tokens":64,"stream":true,"store":false,"include":["reasoning.encrypted_content"],"#,
        r#""instructions":"S","input":[{"role":"user","content":"T"},{"role":"assistant","content":"look"},"#,
        r#"{"type":"function_call","call_id":"1","name":"read","arguments":"{\"z\": 1,  \"a\":2.0}"},"#,
        r#"{"type":"function_call","call_id":"2","name":"read","arguments":"{\"not_an_object\":\"{\\\"path\\\": \\\"a\"}"},"#,
        r#"{"type":"function_call","call_id":"3","name":"read","arguments":"{\"not_an_object\":\"{\\\"a\\\":1,\\\"a\\\":2}\"}"},"#,
        r#"{"type":"function_call_output","call_id":"1","output":"one"},"#,
        r#"{"type":"function_call_output","call_id":"2","output":"ERROR: bad"},"#,
        r#"{"type":"function_call_output","call_id":"3","output":"(no output)"},{"role":"user","content":"go on"}],"#,
        r#""tools":[{"type":"function","name":"read","description":"D","parameters":{"type":"object"},"strict":false}]}"#
    );
    assert_eq!(body, wanted);
}

#[test]
fn tools_are_named_but_barred_when_a_summary_is_asked_for() {
    for (dialect, choice) in [
        (Dialect::Anthropic, json!({"type": "none"})),
        (Dialect::Openai, json!("none")),
        (Dialect::OpenaiResponses, json!("none")),
        (Dialect::Gemini, json!({"functionCallingConfig": {"mode": "NONE"}})),
    ] {
        let (started, messages) = conversation(dialect);
        let body: Value = serde_json::from_slice(&request(&started, &messages, false)).unwrap();
        assert_eq!(body[if dialect == Dialect::Gemini { "toolConfig" } else { "tool_choice" }], choice);
        assert_eq!(body["tools"].as_array().unwrap().len(), 1);
    }
}

#[test]
fn the_gateway_lets_our_bodies_through_whatever_the_model_wrote_into_them() {
    for (dialect, _) in ALL {
        for may_call in [true, false] {
            let (mut started, messages) = conversation(dialect);
            started.tools = crate::tools::specs(&[]);
            let body = request(&started, &messages, may_call);
            let path = path(&started.model);
            let (path, query) = path.split_once('?').map_or((&*path, None), |(path, query)| (path, Some(query)));
            let asked = policy::model_call::judge(dialect, "POST", path, query, &body).unwrap();
            assert_eq!((&*asked.model, asked.max_output_tokens, asked.stream), ("id-1", 64, true));
        }
    }
}
