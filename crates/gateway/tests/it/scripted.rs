//! The scripted provider: the same path as any other, and the same formats.

use crate::house::{House, KEY, Settled, Word, call, route, script};
use api::grants::{FromGateway, Place, ScriptTool, ScriptTurn, ToGateway};
use model::Dialect;
use serde_json::{Value, json};

fn turn(text: &str) -> ScriptTurn {
    ScriptTurn { text: text.to_owned(), ..ScriptTurn::default() }
}

fn tools() -> ScriptTurn {
    let tool =
        |name: &str| ScriptTool { name: name.to_owned(), input: json!({ "path": "a/long/enough/path.c", "n": 1 }) };
    ScriptTurn {
        text: "I look at both files now.".to_owned(),
        tools: vec![tool("read"), tool("list")],
        ..ScriptTurn::default()
    }
}

/// A request that holds `n` assistant messages.
fn body(n: usize, stream: bool) -> String {
    let mut messages = vec![json!({ "role": "user", "content": "go" })];
    for i in 0..n {
        messages.push(json!({ "role": "assistant", "content": format!("turn {i}") }));
        messages.push(json!({ "role": "user", "content": "go on" }));
    }
    json!({ "model": "script-1", "max_tokens": 100, "stream": stream, "messages": messages }).to_string()
}

fn chat(n: usize, stream: bool) -> String {
    let mut body: Value = serde_json::from_str(&body(n, stream)).unwrap();
    if stream {
        body["stream_options"] = json!({ "include_usage": true });
    }
    body.to_string()
}

fn events(text: &str) -> Vec<Value> {
    text.lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .filter(|data| *data != "[DONE]")
        .map(|data| serde_json::from_str(data).expect("JSON"))
        .collect()
}

async fn house(turns: Vec<ScriptTurn>) -> House {
    House::with(script(turns), rustls::RootCertStore::empty()).await
}

async fn settled(house: &mut House) -> Settled {
    house.question().await;
    house.settled().await
}

#[tokio::test(flavor = "current_thread")]
async fn the_turn_is_the_number_of_assistant_messages_and_past_the_last_the_script_says_so() {
    let house = house(vec![turn("first"), turn("second")]).await;
    for (n, text) in [(1, "second"), (0, "first"), (2, "The script has no further turn.")] {
        let answer = call(house.door, "/v1/messages", &body(n, false)).await.json();
        assert_eq!(answer["content"], json!([{ "type": "text", "text": text }]));
        assert_eq!(answer["stop_reason"], "end_turn");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn an_anthropic_stream_has_its_events_in_order_and_its_tools_in_pieces() {
    let mut house = house(vec![tools()]).await;
    let asked = body(0, true);
    let got = call(house.door, "/v1/messages", &asked).await;
    assert!(got.whole, "{got:?}");
    let events = events(got.text());
    let kinds: Vec<_> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!((kinds[0], kinds[1], kinds[2]), ("message_start", "content_block_start", "content_block_delta"));
    assert_eq!(kinds[kinds.len() - 2..], ["message_delta", "message_stop"]);
    let joined = |index: u64, part: &str| -> String {
        let of = events.iter().filter(|e| e["index"] == index);
        of.filter_map(|e| e["delta"][part].as_str()).collect()
    };
    assert_eq!(joined(0, "text"), "I look at both files now.");
    for index in [1, 2] {
        let input: Value = serde_json::from_str(&joined(index, "partial_json")).unwrap();
        assert_eq!(input, tools().tools[0].input);
    }
    assert!(events.iter().filter(|e| e["delta"]["type"] == "input_json_delta").count() > 2, "in pieces");
    let settled = settled(&mut house).await;
    let output = events.iter().find(|e| e["type"] == "message_delta").unwrap()["usage"]["output_tokens"].as_u64();
    assert_eq!((settled.usage.input, Some(settled.usage.output)), (asked.len() as u64 / 4, output));
    assert!(!settled.interrupted);
}

#[tokio::test(flavor = "current_thread")]
async fn openai_answers_whole_and_in_chunks() {
    let mut house = house(Vec::new()).await;
    let place = Place::Script { turns: vec![tools()] };
    house.answer_with(Word::Grant { dialect: Dialect::Openai, place, key: KEY.to_owned() });

    let whole = call(house.door, "/v1/chat/completions", &chat(0, false)).await.json();
    let message = &whole["choices"][0]["message"];
    assert_eq!(whole["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(message["content"], "I look at both files now.");
    let arguments = message["tool_calls"][1]["function"]["arguments"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(arguments).unwrap(), tools().tools[1].input);
    let first = settled(&mut house).await;

    let asked = chat(0, true);
    let got = call(house.door, "/v1/chat/completions", &asked).await;
    assert!(got.whole && got.text().ends_with("data: [DONE]\n\n"), "{got:?}");
    let chunks = events(got.text());
    let text: String = chunks.iter().filter_map(|c| c["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(text, "I look at both files now.");
    let calls: Vec<_> = chunks.iter().filter_map(|c| c["choices"][0]["delta"]["tool_calls"].get(0)).collect();
    let arguments: String =
        calls.iter().filter(|c| c["index"] == 1).filter_map(|c| c["function"]["arguments"].as_str()).collect();
    assert_eq!(serde_json::from_str::<Value>(&arguments).unwrap(), tools().tools[1].input);
    assert!(calls[0]["id"].is_string() && calls[0]["function"]["name"] == "read");
    let second = settled(&mut house).await;
    assert_eq!(second.usage.input, asked.len() as u64 / 4);
    assert_eq!(first.usage.output, second.usage.output);
}

#[tokio::test(flavor = "current_thread")]
async fn openai_responses_come_whole_and_in_events_and_a_row_of_items_is_one_answer() {
    let mut house = house(Vec::new()).await;
    let place = Place::Script { turns: vec![tools(), turn("second")] };
    house.answer_with(Word::Grant { dialect: Dialect::OpenaiResponses, place, key: KEY.to_owned() });
    let asked = |input: Value, stream: bool| {
        json!({ "model": "script-1", "store": false, "stream": stream, "input": input }).to_string()
    };

    let whole = call(house.door, "/v1/responses", &asked(json!("go"), false)).await.json();
    assert_eq!((&whole["object"], &whole["status"]), (&json!("response"), &json!("completed")));
    assert_eq!(whole["output"][0]["content"][0]["text"], "I look at both files now.");
    let arguments = whole["output"][2]["arguments"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(arguments).unwrap(), tools().tools[1].input);
    let first = settled(&mut house).await;

    let body = asked(json!([{ "role": "user", "content": "go" }]), true);
    let got = call(house.door, "/v1/responses", &body).await;
    assert!(got.whole, "{got:?}");
    let events = events(got.text());
    assert_eq!(events.last().unwrap()["response"]["output"], whole["output"]);
    let joined = |at: u64, kind: &str| -> String {
        let of = events.iter().filter(|e| e["output_index"] == at && e["type"] == kind);
        of.filter_map(|e| e["delta"].as_str()).collect()
    };
    assert_eq!(joined(0, "response.output_text.delta"), "I look at both files now.");
    assert_eq!(joined(2, "response.function_call_arguments.delta"), arguments);
    let second = settled(&mut house).await;
    assert_eq!((second.usage.input, second.usage.output), (body.len() as u64 / 4, first.usage.output));
    assert!(!second.interrupted);

    let mut input = vec![json!({ "role": "user", "content": "go" })];
    input.extend(whole["output"].as_array().unwrap().iter().cloned());
    input.push(json!({ "type": "function_call_output", "call_id": "call_script_0_0", "output": "x" }));
    let next = call(house.door, "/v1/responses", &asked(input.into(), false)).await.json();
    assert_eq!(next["output"][0]["content"][0]["text"], "second");
}

#[tokio::test(flavor = "current_thread")]
async fn gemini_answers_whole_and_in_events_and_its_turn_is_told_by_the_models_contents() {
    let mut house = house(Vec::new()).await;
    let place = Place::Script { turns: vec![tools(), turn("second")] };
    house.answer_with(Word::Grant { dialect: Dialect::Gemini, place, key: KEY.to_owned() });
    let user = json!({ "role": "user", "parts": [{ "text": "go" }] });
    let asked = json!({ "contents": [user] }).to_string();

    let whole = call(house.door, "/v1beta/models/script-1:generateContent", &asked).await.json();
    let content = whole["candidates"][0]["content"].clone();
    assert_eq!(content["parts"][0]["text"], "I look at both files now.");
    assert_eq!(content["parts"][2]["functionCall"], json!({ "name": "list", "args": tools().tools[1].input }));
    assert_eq!((&whole["candidates"][0]["finishReason"], &whole["modelVersion"]), (&json!("STOP"), &json!("script-1")));
    let first = settled(&mut house).await;

    let got = call(house.door, "/v1beta/models/script-1:streamGenerateContent?alt=sse", &asked).await;
    assert!(got.whole && !got.text().contains("[DONE]"), "{got:?}");
    let events = events(got.text());
    let parts = || events.iter().map(|event| &event["candidates"][0]["content"]["parts"][0]);
    assert_eq!(parts().filter_map(|part| part["text"].as_str()).collect::<String>(), "I look at both files now.");
    assert_eq!(parts().filter(|part| part["functionCall"].is_object()).count(), 2);
    let ends: Vec<bool> = events.iter().map(|event| event["candidates"][0]["finishReason"] == "STOP").collect();
    assert_eq!((ends.iter().filter(|end| **end).count(), ends.last()), (1, Some(&true)));
    let second = settled(&mut house).await;
    assert_eq!((second.usage.input, second.usage.output), (asked.len() as u64 / 4, first.usage.output));
    assert!(!second.interrupted);

    let result = json!({ "functionResponse": { "name": "read", "response": { "output": "x" } } });
    let next = json!({ "contents": [user, content, { "role": "user", "parts": [result] }] }).to_string();
    let answer = call(house.door, "/v1beta/models/script-1:generateContent", &next).await.json();
    assert_eq!(answer["candidates"][0]["content"]["parts"], json!([{ "text": "second" }]));
}

#[tokio::test(flavor = "current_thread")]
async fn a_turn_that_fails_once_fails_once() {
    let mut house = house(vec![ScriptTurn { fail_once: Some(529), ..turn("now") }]).await;
    let failed = call(house.door, "/v1/messages", &body(0, true)).await;
    assert_eq!((failed.status, failed.json()["error"]["type"].as_str()), (529, Some("overloaded_error")));
    assert!(failed.head.contains("retry-after"));
    let first = settled(&mut house).await;
    assert_eq!((first.status, first.usage.total()), (529, 0));
    assert_eq!(call(house.door, "/v1/messages", &body(0, true)).await.status, 200);
}

#[tokio::test(flavor = "current_thread")]
async fn a_turn_that_is_cut_breaks_off_in_its_middle() {
    let mut house =
        house(vec![ScriptTurn { cut: true, ..turn("one two three four five six seven eight nine ten") }]).await;
    for stream in [true, false] {
        let got = call(house.door, "/v1/messages", &body(0, stream)).await;
        assert_eq!(got.status, 200);
        // Of what is no lines, so short a beginning waits, and is cut with the rest.
        assert!(!got.whole && (!stream || !got.body.is_empty()));
        assert!(!got.text().contains("message_stop"));
        assert!(settled(&mut house).await.interrupted);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_script_that_says_its_key_is_scrubbed_like_any_provider() {
    let house = house(vec![turn("The key is {{credential}}, I think.")]).await;
    for stream in [true, false] {
        let got = call(house.door, "/v1/messages", &body(0, stream)).await;
        assert!(got.text().contains(&crate::house::scrubbed()), "{}", got.text());
        assert!(!got.text().contains("canary") && !got.text().contains("{{credential}}"));
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_probe_takes_the_same_path_and_tells_the_server() {
    let mut house = house(Vec::new()).await;
    for (id, dialect) in
        [(5, Dialect::Anthropic), (6, Dialect::Openai), (7, Dialect::OpenaiResponses), (8, Dialect::Gemini)]
    {
        let route = route(dialect, Place::Script { turns: vec![turn("pong")] }, KEY);
        house.say.send(ToGateway::Probe { id, route, model: "script-1".to_owned() }).unwrap();
        let FromGateway::Probed { id: of, status, said } = house.hear().await else { panic!("not of a probe") };
        assert_eq!((of, status, said.as_str()), (id, 200, "The model answered."));
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_probe_quotes_the_providers_error_without_the_key() {
    let mut house = house(Vec::new()).await;
    let body = format!(r#"{{"error":{{"message":"{} {KEY}"}}}}"#, "x".repeat(290));
    let provider = crate::provider::Provider::answering(crate::provider::whole("401 No", &body)).await;
    let route = route(Dialect::Openai, crate::house::url(&provider.base), KEY);
    house.say.send(ToGateway::Probe { id: 9, route, model: "gpt-x".to_owned() }).unwrap();
    match house.hear().await {
        FromGateway::Probed { id: 9, status: 401, said } => {
            assert!(said.contains("xxx") && !said.contains("sk-"), "{said}")
        }
        other => panic!("not the probe's answer: {other:?}"),
    }
}
