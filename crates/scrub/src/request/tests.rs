use super::*;
use crate::{Formats, Key};
use model::Secret;
use proptest::prelude::*;
use serde_json::{Value, json};

const VALUE: &str = "sk-canary-\"0123456789\"";

fn token() -> String {
    format!("npm_{}", "a1B2".repeat(9))
}

fn scrubber() -> Scrubber {
    let key = Key::new(Secret::new([7; 32]));
    Scrubber::keyed(&key, [("model/m".to_owned(), Secret::new(VALUE.to_owned()))])
        .with_formats(Formats::load().unwrap())
}

/// What goes to a model of this body, read again.
fn sent(body: &Value) -> Value {
    let text = body.to_string();
    let clean = scrub(&scrubber(), text.as_bytes()).unwrap_or_else(|| text.into_bytes());
    serde_json::from_slice(&clean).expect("JSON stays JSON")
}

fn hidden() -> String {
    let shown = scrubber().scrub_str(&token()).into_owned();
    assert!(shown.starts_with("[redacted: npm-token#"), "{shown}");
    shown
}

#[test]
fn a_token_is_replaced_wherever_a_vendor_s_format_has_a_text_and_what_is_around_it_stays_to_the_byte() {
    let (t, h) = (token(), hidden());
    let texts = |t: &str| {
        [
            // Anthropic's.
            format!(
                r#"{{ "system" : [{{"type":"text","text":"a {t}\n"}}], "messages":[{{"role":"user","content":"{t}"}}]}}"#
            ),
            format!(
                r#"{{"messages":[{{"role":"user","content":[{{"type":"tool_result","tool_use_id":"x","content":[{{"type":"text","text":"\"{t}\""}}]}}]}}]}}"#
            ),
            format!(
                r#"{{"messages":[{{"role":"assistant","content":[{{"type":"tool_use","id":"x","name":"write","input":{{"content":"{t}"}}}}]}}]}}"#
            ),
            format!(
                r#"{{"messages":[{{"content":[{{"type":"document","source":{{"type":"text","media_type":"text/plain","data":"{t}"}}}}]}}]}}"#
            ),
            // OpenAI's, both.
            format!(
                r#"{{"messages":[{{"role":"tool","tool_call_id":"x","content":"{t}"}},{{"role":"assistant","tool_calls":[{{"id":"x","type":"function","function":{{"name":"write","arguments":"{{\"content\":\"{t}\\n\"}}"}}}}]}}]}}"#
            ),
            format!(
                r#"{{"instructions":"{t}","input":[{{"type":"function_call_output","call_id":"x","output":"{t}"}},{{"role":"user","content":[{{"type":"input_text","text":"{t}"}}]}}]}}"#
            ),
            format!(r#"{{"input":"{t}"}}"#),
            // Gemini's.
            format!(
                r#"{{"systemInstruction":{{"parts":[{{"text":"{t}"}}]}},"contents":[{{"parts":[{{"text":"\t{t}"}},{{"functionResponse":{{"name":"x","response":{{"output":"{t}"}}}}}},{{"functionCall":{{"name":"x","args":{{"y":["{t}"]}}}}}}]}}]}}"#
            ),
        ]
    };
    for (before, after) in texts(&t).into_iter().zip(texts(&h)) {
        let clean = scrub(&scrubber(), before.as_bytes()).expect("something is replaced");
        assert_eq!(String::from_utf8(clean).unwrap(), after);
        assert_eq!(scrub(&scrubber(), after.as_bytes()), None, "and nothing more the next time");
    }
}

#[test]
fn what_a_vendor_signed_or_sealed_or_takes_as_base_64_goes_on_to_the_byte() {
    let t = token();
    for body in [
        json!({"messages": [{"role": "assistant", "content": [
            {"type": "thinking", "thinking": t, "signature": t}, {"data": t, "type": "redacted_thinking"},
        ]}]}),
        json!({"messages": [{"content": [{"type": "image", "source": {"data": t, "media_type": "image/png", "type": "base64"}}]}]}),
        json!({"messages": [{"content": [{"type": "tool_result", "content": [
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": t}},
        ]}]}]}),
        json!({"messages": [{"content": [{"type": "other", "encrypted_content": t}]}]}),
        json!({"messages": [{"content": [{"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{t}")}}]}]}),
        json!({"messages": [{"content": [{"type": "input_audio", "input_audio": {"data": t, "format": "wav"}}]}]}),
        json!({"messages": [{"content": "", "reasoning_details": [{"type": "reasoning.encrypted", "data": t}]}]}),
        json!({"messages": [{"tool_calls": [{"id": "x", "extra_content": {"google": {"thought_signature": t}}}]}]}),
        json!({"input": [{"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": t}], "encrypted_content": t}]}),
        json!({"contents": [{"parts": [{"text": t, "thoughtSignature": t}, {"inlineData": {"mimeType": "image/png", "data": t}}]}]}),
        json!({"contents": [{"parts": [{"functionCall": {"name": "x", "args": {"y": t}}, "thoughtSignature": t}]}]}),
        json!({"contents": [{"parts": [{"functionResponse": {"name": "x", "response": {}, "parts": [{"inlineData": {"data": t}}]}}]}]}),
    ] {
        assert_eq!(sent(&body), body);
    }
}

#[test]
fn the_same_names_in_what_is_a_tool_s_own_seal_nothing() {
    let (t, h) = (token(), hidden());
    let with = |t: &str| {
        let odd = json!({
            "type": "thinking", "thinking": t, "signature": t, "data": t, "thoughtSignature": t, "encrypted_content": t,
            "messages": [{"content": [{"type": "base64", "data": t}]}], "input": [{"type": "reasoning", "text": t}],
        });
        json!({
            "messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "x", "name": "n", "input": odd}]}],
            "tools": [{"name": "n", "input_schema": {"properties": odd}}],
            "contents": [{"parts": [{"functionCall": {"name": "x", "args": odd}}, {"functionResponse": {"response": odd}}]}],
        })
    };
    assert_eq!(sent(&with(&t)), with(&h));
}

#[test]
fn a_value_is_replaced_everywhere_in_sealed_parts_too() {
    let body = json!({"messages": [{"content": [{"type": "thinking", "thinking": VALUE, "signature": "x"}]}]});
    let told = &sent(&body)["messages"][0]["content"][0]["thinking"];
    assert!(told.as_str().unwrap().starts_with("[scrubbed:model/m#"), "{told}");
    let values = scrub(&scrubber().values_alone(), json!({"a": token(), "b": VALUE}).to_string().as_bytes()).unwrap();
    let values: Value = serde_json::from_slice(&values).unwrap();
    assert_eq!(values["a"], token(), "who looks for values alone leaves a format");
    assert!(values["b"].as_str().unwrap().starts_with("[scrubbed:"), "{values}");
}

#[test]
fn two_requests_of_one_conversation_begin_with_the_same_bytes() {
    let turn = |n: usize| json!({"role": "user", "content": format!("turn {n}: {}", token())});
    let body = |turns: usize| json!({"messages": (0..turns).map(turn).collect::<Vec<_>>()}).to_string();
    let (short, long) = (body(3), body(4));
    let clean = |text: &str| scrub(&scrubber(), text.as_bytes()).unwrap();
    let (short, long) = (clean(&short), clean(&long));
    assert_eq!(short[..short.len() - 2], long[..short.len() - 2]);
}

#[test]
fn what_is_no_json_is_one_text_and_what_holds_nothing_is_none() {
    for (text, clean) in [(format!("\"{}", token()), format!("\"{}", hidden())), (token(), hidden())] {
        assert_eq!(scrub(&scrubber(), text.as_bytes()), Some(clean.into_bytes()));
    }
    let bytes = [b"\xff ", token().as_bytes()].concat();
    assert_eq!(scrub(&scrubber(), &bytes), Some([b"\xff ", hidden().as_bytes()].concat()));
    for text in ["", "{}", "\"", "{\"a\":\"b\"}", "\\", "{\"type\":\"thinking\"}"] {
        assert_eq!(scrub(&scrubber(), text.as_bytes()), None, "{text}");
    }
}

proptest! {
    #[test]
    fn any_text_comes_to_an_end_and_any_json_stays_json(
        text in "[\\[\\]{}\",:\\\\ a-c1-2]{0,60}", names in proptest::collection::vec("[a-z]{1,4}|type|data|input|parts", 1..6),
    ) {
        let said = scrub(&scrubber(), text.as_bytes());
        prop_assert!(said.is_none_or(|said| !said.is_empty()));
        let body = names.iter().rev().fold(json!(token()), |inner, name| json!({name: [inner, {"data": token()}]}));
        let clean = sent(&body);
        prop_assert!(!clean.to_string().contains("npm_"), "{}", clean);
    }
}

#[test]
fn only_what_is_an_address_of_base_64_to_its_end_is_left_alone() {
    let is = |text: &str| super::is_data_address(text);
    assert!(is("data:image/png;base64,iVBORw0KGgo=") && is(r"DATA:image/png;base64,\/9j\/4AA"));
    for text in ["data:image/png;base64,AAAA\\nAPI_KEY=abc", "data:a;base64,AAAA API_KEY", "data:text/plain,AAAA", "x"]
    {
        assert!(!is(text), "{text}");
    }
}
