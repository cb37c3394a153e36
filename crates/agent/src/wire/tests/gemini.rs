//! What is Gemini's alone: signatures, ids that were never given, ends without a last word.

use super::*;

/// The answer to these parts, one event each, ended so.
fn answered(parts: &[Value], end: &Value) -> Answer {
    let mut reader = Reader::new(Dialect::Gemini);
    for part in parts {
        let event = json!({"candidates": [{"content": {"role": "model", "parts": [part]}, "index": 0}]});
        reader.event(&event.to_string()).unwrap();
    }
    reader.event(&json!({"candidates": [end]}).to_string()).unwrap();
    reader.end().unwrap()
}

fn stopped() -> Value {
    json!({"finishReason": "STOP"})
}

/// The contents of the request that goes on from these messages.
fn contents(messages: &[Message]) -> Value {
    let (started, _) = conversation(Dialect::Gemini);
    let body: Value = serde_json::from_slice(&request(&started, messages, true)).unwrap();
    let path = "/v1beta/models/id-1:streamGenerateContent";
    policy::model_call::judge(Dialect::Gemini, "POST", path, Some("alt=sse"), body.to_string().as_bytes()).unwrap();
    body["contents"].clone()
}

#[test]
fn a_body_is_what_the_vendor_wants_to_the_byte() {
    let (started, messages) = conversation(Dialect::Gemini);
    let body = String::from_utf8(request(&started, &messages, true)).unwrap();
    let wanted = concat!(
        r#"{"systemInstruction":{"parts":[{"text":"S"}]},"contents":[{"role":"user","parts":[{"text":"T"}]},"#,
        r#"{"role":"model","parts":[{"text":"look"},"#,
        r#"{"functionCall":{"id":"1","name":"read","args":{"z": 1,  "a":2.0}}},"#,
        r#"{"functionCall":{"id":"2","name":"read","args":{"not_an_object":"{\"path\": \"a"}}},"#,
        r#"{"functionCall":{"id":"3","name":"read","args":{"not_an_object":"{\"a\":1,\"a\":2}"}}}]},"#,
        r#"{"role":"user","parts":[{"functionResponse":{"id":"1","name":"read","response":{"output":"one"}}},"#,
        r#"{"functionResponse":{"id":"2","name":"read","response":{"error":"bad"}}},"#,
        r#"{"functionResponse":{"id":"3","name":"read","response":{"output":"(no output)"}}},{"text":"go on"}]}],"#,
        r#""tools":[{"functionDeclarations":[{"name":"read","description":"D","parametersJsonSchema":{"type":"object"}}]}],"#,
        r#""generationConfig":{"maxOutputTokens":64}}"#
    );
    assert_eq!(body, wanted);
    assert_eq!(path(&started.model), "/v1beta/models/id-1:streamGenerateContent?alt=sse");
}

#[test]
fn a_signature_goes_back_on_the_very_part_it_came_on() {
    let parts = [
        json!({"text": "**Thinking**", "thought": true}),
        json!({"text": "I "}),
        json!({"text": "look."}),
        json!({"text": "Signed words.", "thoughtSignature": "c2lnMA=="}),
        json!({"text": "More."}),
        json!({"functionCall": {"name": "read", "args": {"path": "a"}}, "thoughtSignature": "c2lnMQ=="}),
        json!({"functionCall": {"name": "list", "args": {}}}),
        json!({"text": "", "thoughtSignature": "c2lnMg=="}),
    ];
    let Answer { content, .. } = answered(&parts, &stopped());
    let sent = contents(&[Message::User("T".into()), Message::Model(content)]);
    let wanted = json!([
        {"text": "I look."},
        {"text": "Signed words.", "thoughtSignature": "c2lnMA=="},
        {"text": "More."},
        {"functionCall": {"name": "read", "args": {"path": "a"}}, "thoughtSignature": "c2lnMQ=="},
        {"functionCall": {"name": "list", "args": {}}},
        {"text": "", "thoughtSignature": "c2lnMg=="}]);
    assert_eq!(sent[1]["parts"], wanted);
}

#[test]
fn a_signature_whose_text_the_machine_left_out_moves_to_no_other_part() {
    let hidden =
        |of: &str, n: u8| Block::Redacted { data: json!({"thoughtSignature": format!("s{n}"), "of": of}).to_string() };
    let call = Block::Call(Call { id: "1".into(), name: "read".into(), input: "{}".into() });
    let alone = |n: u8| json!({"text": "", "thoughtSignature": format!("s{n}")});
    let called = json!({"functionCall": {"id": "1", "name": "read", "args": {}}});
    let mut signed = called.clone();
    signed["thoughtSignature"] = json!("s2");
    for (blocks, parts) in [
        (vec![hidden("text", 1), call.clone()], json!([alone(1), called])),
        (vec![hidden("text", 1), hidden("call", 2), call.clone()], json!([alone(1), signed])),
        (vec![Block::Redacted { data: "another vendor's".into() }, call], json!([called])),
    ] {
        assert_eq!(contents(&[Message::User("T".into()), Message::Model(blocks)])[1]["parts"], parts);
    }
}

#[test]
fn a_call_that_came_without_an_id_is_answered_without_one_and_by_its_name() {
    let mut machine = crate::turns::Machine::default();
    let (started, _) = conversation(Dialect::Gemini);
    machine.step(&crate::turns::Step::Started(Started { max_turns: 9, max_tokens: 1_000_000, ..started }));
    let part = json!({"functionCall": {"name": "read", "args": {}}});
    let calls = answered(&[part.clone(), part], &stopped());
    machine.step(&crate::turns::Step::ModelAnswered(calls));
    let crate::turns::Phase::Tools(waiting) = machine.phase().clone() else { panic!("{:?}", machine.phase()) };
    for (n, (call, _)) in waiting.iter().enumerate().rev() {
        let result = ToolResult { id: call.id.clone(), text: format!("result {n}"), ok: true, cut: false };
        machine.step(&crate::turns::Step::ToolFinished(result));
    }
    let body: Value = serde_json::from_slice(&machine.request().expect("a call follows")).unwrap();
    let answer = |n: u8| json!({"functionResponse": {"name": "read", "response": {"output": format!("result {n}")}}});
    assert_eq!(
        body["contents"][1]["parts"],
        json!([{"functionCall": {"name": "read", "args": {}}}, {"functionCall": {"name": "read", "args": {}}}])
    );
    assert_eq!(body["contents"][2]["parts"], json!([answer(0), answer(1)]));
}

#[test]
fn a_call_that_the_vendor_could_not_read_is_answered_to_the_model_in_words() {
    for reason in ["MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL"] {
        let end = json!({"finishReason": reason, "finishMessage": "print(default_api.read(path='a'))"});
        let answer = answered(&[json!({"text": "I read."})], &end);
        assert_eq!(answer.stop, Stop::Ended);
        let Some(Block::Call(call)) = answer.content.last() else { panic!("{answer:?}") };
        assert!(!crate::tools::specs(&[]).iter().any(|tool| tool.name == call.name), "it is no tool's name");
        let mut content = answer.content.clone();
        let Some(Block::Call(call)) = content.last_mut() else { panic!() };
        call.id = "call-1-0".into();
        let error = ToolResult { id: "call-1-0".into(), text: "There is no such tool.".into(), ok: false, cut: false };
        let sent = contents(&[Message::User("T".into()), Message::Model(content), Message::Results(vec![error])]);
        let texts = |turn: usize| {
            sent[turn]["parts"].as_array().unwrap().iter().map(|p| p["text"].as_str().unwrap()).collect::<Vec<_>>()
        };
        assert!(texts(1)[1].contains("print(default_api.read(path='a'))"), "{sent}");
        assert!(texts(2)[0].contains("could not be read") && texts(2)[0].contains("no such tool"), "{sent}");
    }
}

#[test]
fn an_answer_that_stopped_early_says_why() {
    for (reason, stop) in [
        ("STOP", Stop::Ended),
        ("MAX_TOKENS", Stop::OutputLimit),
        ("SAFETY", Stop::Refused),
        ("RECITATION", Stop::Refused),
        ("PROHIBITED_CONTENT", Stop::Refused),
        ("BLOCKLIST", Stop::Refused),
        ("SPII", Stop::Refused),
        ("LANGUAGE", Stop::Refused),
        ("A_REASON_OF_TOMORROW", Stop::Refused),
    ] {
        let answer = answered(&[json!({"text": "Half"})], &json!({"finishReason": reason, "finishMessage": "because"}));
        assert_eq!(answer.stop, stop, "{reason}");
        let Block::Text { text } = &answer.content[0] else { panic!() };
        assert_eq!(text.contains(reason) && text.contains("because"), stop == Stop::Refused, "{text}");
    }
    let mut reader = Reader::new(Dialect::Gemini);
    let words = reader
        .event(r#"{"promptFeedback":{"blockReason":"PROHIBITED_CONTENT"},"usageMetadata":{"promptTokenCount":7}}"#);
    let answer = reader.end().unwrap();
    assert!(words.unwrap().contains("PROHIBITED_CONTENT"));
    assert_eq!((answer.stop, answer.usage.input), (Stop::Refused, 7));
}

#[test]
fn a_model_that_gives_every_event_a_finish_reason_is_heard_to_its_end() {
    let mut reader = Reader::new(Dialect::Gemini);
    for text in ["One ", "two."] {
        let event = json!({"candidates": [{"content": {"parts": [{"text": text}]}, "finishReason": "STOP"}]});
        reader.event(&event.to_string()).unwrap();
        assert!(!reader.is_whole());
    }
    assert_eq!(reader.end().unwrap().content, [Block::Text { text: "One two.".into() }]);
}

#[test]
fn what_is_read_for_tools_and_what_is_thought_is_counted() {
    let usage = r#"{"usageMetadata":{"promptTokenCount":12,"toolUsePromptTokenCount":65,"cachedContentTokenCount":4,"candidatesTokenCount":71,"thoughtsTokenCount":89,"totalTokenCount":237}}"#;
    let mut reader = Reader::new(Dialect::Gemini);
    reader.event(usage).unwrap();
    reader.event(&json!({"candidates": [stopped()]}).to_string()).unwrap();
    assert_eq!(reader.end().unwrap().usage, Usage { input: 73, output: 160, cache_read: 4, ..Usage::default() });
}
