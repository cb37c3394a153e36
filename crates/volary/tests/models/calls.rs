//! Whole runs: what leaves, what comes back, what it costs.

use crate::shared::{
    Asked, Ran, Wild, all, anthropic, event, gemini, head, mend, of_kind, openai, platform, run, sha256, text,
};
use model::Usage;
use serde_json::{Value, json};
use testkit::{ModelDouble, Platform, Repo, Request, Turn};

/// A run of two turns with an edit and a command.
fn turns() -> Vec<Turn> {
    let shell = ("shell".to_owned(), json!({"command": "sh test.sh"}));
    let edit = ("edit".to_owned(), mend());
    let first = Usage { input: 1_001, output: 77, cache_read: 503, ..Usage::default() };
    let second = Usage { input: 2_003, output: 31, cache_read: 1_007, ..Usage::default() };
    vec![
        Turn { text: "I mend it.".into(), tools: vec![edit], usage: first, ..Turn::default() },
        Turn { tools: vec![shell], usage: second, ..Turn::default() },
        Turn::says("It compared the wrong way round; the test passes now."),
    ]
}

/// What all that was reported costs: each part of each call rounded up to a micro-dollar. `price` is micro-dollars a
/// million tokens: read, written, read from cache, written to cache.
fn cost(turns: &[Turn], price: [u64; 4]) -> u64 {
    let parts = |u: Usage| [u.input, u.output, u.cache_read, u.cache_write];
    let call = |turn: &Turn| -> u64 {
        parts(turn.usage).iter().zip(price).map(|(tokens, price)| (tokens * price).div_ceil(1_000_000)).sum()
    };
    turns.iter().map(call).sum()
}

/// That the run did its work, and that every turn's bytes are the ones that the provider got.
fn whole(platform: &Platform, repo: &Repo, ran: &Ran, requests: &[Request]) {
    assert_eq!(ran.end(), ("done".into(), String::new()), "{}", all(&ran.out));
    assert!(ran.out.status.success());
    let results = ran.of_kind("tool-result");
    assert!(results.iter().all(|result| result["ok"] == true) && results.len() == 2, "{results:#?}");
    assert!(results[1]["text"].as_str().unwrap().contains("PASS"), "{results:#?}");
    assert!(repo.git(&["show", &format!("volary/{}:max.c", ran.run)]).contains("a > b"));

    assert_eq!(requests.len(), 3);
    for (turn, request) in (1..).zip(requests) {
        let replayed = platform.cli(&["replay", &ran.run, "--turn", &turn.to_string()]);
        assert!(replayed.status.success(), "turn {turn}: {}", all(&replayed));
        assert!(text(&replayed.stderr).contains(&sha256(&request.body)), "turn {turn}: {}", all(&replayed));
        assert_eq!(replayed.stdout, request.body, "turn {turn} is not what the provider got");
    }
    let passed: Vec<Value> = ran.of_kind("verdict").iter().map(|verdict| verdict["body_sha256"].clone()).collect();
    let got: Vec<Value> = requests.iter().map(|request| sha256(&request.body).into()).collect();
    assert_eq!(passed, got);
}

/// That the key stands in the one header that it belongs in, and nothing of ours anywhere.
fn keyed(requests: &[Request], header: &str, value: &str, other: &str) {
    for request in requests {
        let keys: Vec<&str> =
            request.headers.iter().filter(|(name, _)| name == header).map(|(_, value)| &**value).collect();
        assert_eq!(keys, [value]);
        assert_eq!(request.header(other), None, "{request:?}");
        let all = format!("{:?}{}", request.headers, text(&request.body));
        assert!(!all.contains("vh_"), "a handle left: {all}");
    }
}

#[test]
fn a_run_with_anthropics_format_sends_the_key_and_its_own_bytes_and_costs_what_was_reported() {
    let (platform, repo) = (platform(), Repo::failing());
    let mut turns = turns();
    turns[0].usage.cache_write = 401;
    let double = ModelDouble::start("sk-ant-api03-right-one", turns.clone());
    anthropic(&platform, "claude", &double.url(), "sk-ant-api03-right-one");
    let ran = run(&platform, &repo, &[]);
    whole(&platform, &repo, &ran, &double.requests());
    keyed(&double.requests(), "x-api-key", "sk-ant-api03-right-one", "authorization");
    assert!(double.requests().iter().all(|request| request.target == "/v1/messages"));

    let view = ran.view(&platform);
    let usage = turns.iter().fold(Usage::default(), |sum, turn| sum.plus(turn.usage));
    assert_eq!(view["usage"], serde_json::to_value(usage).unwrap());
    assert_eq!(view["cost"], cost(&turns, [3_000_000, 15_000_000, 300_000, 3_750_000]));
    assert_eq!(view["calls"], 3);
}

#[test]
fn a_run_with_openais_format_sends_the_key_and_its_own_bytes_and_costs_what_was_reported() {
    let (platform, repo) = (platform(), Repo::failing());
    let double = ModelDouble::start("sk-proj-right-one", turns());
    openai(&platform, "gpt", &double.url(), "sk-proj-right-one");
    let ran = run(&platform, &repo, &[]);
    whole(&platform, &repo, &ran, &double.requests());
    keyed(&double.requests(), "authorization", "Bearer sk-proj-right-one", "x-api-key");
    assert!(double.requests().iter().all(|request| request.target == "/v1/chat/completions"));

    let view = ran.view(&platform);
    let usage = turns().iter().fold(Usage::default(), |sum, turn| sum.plus(turn.usage));
    assert_eq!(view["usage"], serde_json::to_value(usage).unwrap());
    assert_eq!(view["cost"], cost(&turns(), [2_000_000, 8_000_000, 1_000_000, 2_000_000]));
    assert_eq!(view["calls"], 3);
}

/// Adds a model that our agent speaks to in OpenAI's Responses.
fn responses(platform: &Platform, name: &str, url: &str, key: &str) {
    platform.secret("model/openai", key);
    let fixed = ["model", "add", name, "--provider", "openai", "--api", "responses", "--id", "gpt-test"];
    drop(platform.ok(&[&fixed[..], &["--base", url, "--internal", "--price", "2,8,1,2"]].concat()));
}

#[test]
fn a_run_with_openais_responses_sends_the_whole_context_stores_nothing_and_costs_what_was_reported() {
    let (platform, repo) = (platform(), Repo::failing());
    let mut turns = turns();
    turns[0].reasoning = Some("gAAAA-first-thought".into());
    let double = ModelDouble::start("sk-proj-right-one", turns.clone());
    responses(&platform, "gpt", &double.url(), "sk-proj-right-one");
    let ran = run(&platform, &repo, &[]);
    let requests = double.requests();
    whole(&platform, &repo, &ran, &requests);
    keyed(&requests, "authorization", "Bearer sk-proj-right-one", "x-api-key");
    for request in &requests {
        assert_eq!(request.target, "/v1/responses");
        let body = request.json();
        assert_eq!((&body["store"], &body["previous_response_id"]), (&json!(false), &Value::Null));
        assert_eq!(body["include"], json!(["reasoning.encrypted_content"]));
    }
    // What the model said, thought and asked for stands in the next request, in its order, and then the result.
    let second = requests[1].json();
    let kinds: Vec<(&str, &str)> = second["input"].as_array().unwrap()[1..]
        .iter()
        .map(|item| (item["type"].as_str().unwrap_or("message"), item["role"].as_str().unwrap_or_default()))
        .collect();
    let wanted = [("reasoning", ""), ("message", "assistant"), ("function_call", ""), ("function_call_output", "")];
    assert_eq!(kinds, wanted, "{second:#}");
    assert_eq!(second["input"][1]["encrypted_content"], "gAAAA-first-thought");
    assert_eq!(second["input"][3]["call_id"], second["input"][4]["call_id"]);

    let view = ran.view(&platform);
    let usage = turns.iter().fold(Usage::default(), |sum, turn| sum.plus(turn.usage));
    assert_eq!(view["usage"], serde_json::to_value(usage).unwrap());
    assert_eq!(view["cost"], cost(&turns, [2_000_000, 8_000_000, 1_000_000, 2_000_000]));
    assert_eq!(view["calls"], 3);
}

#[test]
fn a_run_with_geminis_format_sends_the_key_and_its_own_bytes_and_signatures_and_costs_what_was_reported() {
    let (platform, repo) = (platform(), Repo::failing());
    let mut turns = turns();
    turns[0].reasoning = Some("CpcBAdHtim-first-thought".into());
    let double = ModelDouble::start("AIzaSyA-right-one-of-some-length", turns.clone());
    gemini(&platform, "gemini", &double.url(), "AIzaSyA-right-one-of-some-length");
    let ran = run(&platform, &repo, &[]);
    let requests = double.requests();
    whole(&platform, &repo, &ran, &requests);
    keyed(&requests, "x-goog-api-key", "AIzaSyA-right-one-of-some-length", "authorization");
    for request in &requests {
        assert_eq!(request.target, "/v1beta/models/gemini-test:streamGenerateContent?alt=sse");
        assert_eq!(request.header("x-api-key"), None);
    }
    // What the model said and asked for stands in the next request, signed where it was, and then the result.
    let second = requests[1].json();
    let (said, answered) = (&second["contents"][1], &second["contents"][2]);
    assert_eq!((&said["role"], &said["parts"][0]), (&json!("model"), &json!({"text": "I mend it."})), "{second:#}");
    assert_eq!(said["parts"][1]["functionCall"], json!({"name": "edit", "args": mend()}));
    assert_eq!(said["parts"][1]["thoughtSignature"], "CpcBAdHtim-first-thought");
    assert_eq!(
        (&answered["role"], &answered["parts"][0]["functionResponse"]["name"]),
        (&json!("user"), &json!("edit"))
    );

    let view = ran.view(&platform);
    let usage = turns.iter().fold(Usage::default(), |sum, turn| sum.plus(turn.usage));
    assert_eq!(view["usage"], serde_json::to_value(usage).unwrap());
    assert_eq!(view["cost"], cost(&turns, [2_000_000, 8_000_000, 1_000_000, 2_000_000]));
    assert_eq!(view["calls"], 3);
}

#[test]
fn a_scripted_model_speaks_each_of_the_four_formats() {
    let script = json!([
        {"text": "I mend it.", "tools": [{"name": "edit", "input": mend()}, {"name": "read", "input": {"path": "max.c"}}]},
        {"tools": [{"name": "shell", "input": {"command": "sh test.sh"}}]},
        {"text": "The test passes now."}]);
    let (platform, repo) = (platform(), Repo::failing());
    let file = platform.home().join("script.json");
    std::fs::write(&file, script.to_string()).unwrap();
    platform.secret("model/scripted", "a-canary-of-some-length");
    for (name, api) in
        [("messages", None), ("chat", Some("chat")), ("responses", Some("responses")), ("gemini", Some("gemini"))]
    {
        let mut add = vec!["model", "add", name, "--provider", "scripted", "--id", "scripted"];
        add.extend(["--script", file.to_str().unwrap()]);
        add.extend(api.iter().flat_map(|api| ["--api", api]));
        drop(platform.ok(&add));
        assert!(platform.ok(&["model", "test", name]).starts_with("ok: "), "{name}");
        let ran = run(&platform, &repo, &["--model", name]);
        assert_eq!(ran.end(), ("done".into(), String::new()), "{name}: {}", all(&ran.out));
        assert!(repo.git(&["show", &format!("volary/{}:max.c", ran.run)]).contains("a > b"), "{name}");
        assert_eq!(ran.view(&platform)["calls"], 3, "{name}");
    }
}

#[test]
fn what_is_cached_for_an_hour_costs_its_own_price() {
    let (platform, repo) = (platform(), Repo::failing());
    let usage = Usage { input: 10, output: 5, cache_write: 3_000, cache_write_1h: 1_000, ..Usage::default() };
    let double = ModelDouble::start("sk-ant-api03-right-one", vec![Turn { usage, ..Turn::says("Nothing to do.") }]);
    platform.secret("model/anthropic", "sk-ant-api03-right-one");
    let url = double.url();
    let add =
        ["model", "add", "claude", "--provider", "anthropic", "--id", "claude-test", "--base", &url, "--internal"];
    drop(platform.ok(&[&add[..], &["--price", "3,15,0.30,3.75,6"]].concat()));
    let ran = run(&platform, &repo, &[]);
    assert_eq!(ran.end().0, "done", "{}", all(&ran.out));
    assert_eq!(ran.view(&platform)["cost"], 10 * 3 + 5 * 15 + 2_000 * 3_750 / 1_000 + 1_000 * 6);
}

#[test]
fn a_model_without_a_secret_is_called_without_a_key() {
    let (platform, repo) = (platform(), Repo::failing());
    let wild = Wild::start(|_, _| vec![head("200 OK", "application/json", ""), chat("Nothing to do.", &[])]);
    drop(platform.ok(&[
        "model",
        "add",
        "local",
        "--provider",
        "openai-compatible",
        "--id",
        "llama",
        "--base",
        wild.url(),
        "--internal",
        "--price",
        "0,0",
    ]));
    let ran = run(&platform, &repo, &[]);
    assert_eq!(ran.end().0, "done", "{}", all(&ran.out));
    for Asked { headers, .. } in wild.asked() {
        assert!(!headers.iter().any(|(name, _)| name == "authorization" || name == "x-api-key"), "{headers:?}");
    }
    assert_eq!(ran.view(&platform)["cost"], 0);
}

/// A whole answer of OpenAI's, in one JSON text, with a field that no version of ours knows.
fn chat(words: &str, calls: &[(&str, Value)]) -> Vec<u8> {
    let call = |(n, (name, input)): (usize, &(&str, Value))| {
        json!({"id": format!("call_{n}"), "type": "function",
            "function": {"name": name, "arguments": input.to_string()}})
    };
    let calls: Vec<Value> = calls.iter().enumerate().map(call).collect();
    let why = if calls.is_empty() { "stop" } else { "tool_calls" };
    json!({"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "mood": {"of the day": [1]},
        "choices": [{"index": 0, "message": {"role": "assistant", "content": words, "tool_calls": calls,
            "telepathy": true}, "finish_reason": why}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110, "joules": 3}})
    .to_string()
    .into_bytes()
}

/// The same of OpenAI's Responses.
fn response(words: &str, calls: &[(&str, Value)]) -> Vec<u8> {
    let text = json!({"type": "output_text", "text": words, "annotations": [], "tone": "dry"});
    let mut output = vec![
        json!({"type": "telepathy", "id": "tp_1"}),
        json!({"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [text]}),
    ];
    let call = |(n, (name, input)): (usize, &(&str, Value))| {
        json!({"type": "function_call", "id": format!("fc_{n}"), "call_id": format!("call_{n}"), "name": name,
            "arguments": input.to_string(), "status": "completed"})
    };
    output.extend(calls.iter().enumerate().map(call));
    json!({"id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": "m", "error": null,
        "mood": {"of the day": [1]}, "output": output, "store": false,
        "usage": {"input_tokens": 100, "output_tokens": 10, "total_tokens": 110, "joules": 3}})
    .to_string()
    .into_bytes()
}

/// The same of Anthropic's.
fn message(words: &str, calls: &[(&str, Value)]) -> Vec<u8> {
    let mut content = vec![json!({"type": "text", "text": words, "tone": "dry"})];
    let call = |(n, (name, input)): (usize, &(&str, Value))| json!({"type": "tool_use", "id": format!("toolu_{n}"), "name": name, "input": input});
    content.extend(calls.iter().enumerate().map(call));
    let why = if calls.is_empty() { "end_turn" } else { "tool_use" };
    json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "mood": {"of the day": [1]},
        "content": content, "stop_reason": why, "stop_sequence": null,
        "usage": {"input_tokens": 100, "output_tokens": 10, "joules": 3}})
    .to_string()
    .into_bytes()
}

/// The same of Gemini's.
fn generated(words: &str, calls: &[(&str, Value)]) -> Vec<u8> {
    let mut parts = vec![json!({"text": words, "tone": "dry"})];
    parts.extend(calls.iter().map(|(name, input)| json!({"functionCall": {"name": name, "args": input}})));
    json!({"candidates": [{"content": {"parts": parts, "role": "model"}, "finishReason": "STOP", "index": 0}],
        "mood": {"of the day": [1]}, "modelVersion": "m",
        "usageMetadata": {"promptTokenCount": 100, "candidatesTokenCount": 4, "thoughtsTokenCount": 6, "joules": 3}})
    .to_string()
    .into_bytes()
}

#[test]
fn a_provider_that_answers_in_one_piece_although_asked_to_stream_is_understood_and_metered() {
    let repo = Repo::failing();
    for (add, make) in [
        (anthropic as fn(&Platform, &str, &str, &str), message as fn(&str, &[(&str, Value)]) -> Vec<u8>),
        (openai, chat),
        (responses, response),
        (gemini, generated),
    ] {
        let platform = platform();
        let wild = Wild::start(move |n, _| {
            let body = if n == 0 { make("Mending.", &[("edit", mend())]) } else { make("Mended.", &[]) };
            vec![head("200 OK", "application/json", ""), body]
        });
        add(&platform, "whole", wild.url(), "sk-a-key-of-some-length");
        let ran = run(&platform, &repo, &[]);
        assert_eq!(ran.end(), ("done".into(), String::new()), "{}", all(&ran.out));
        let streams = |asked: &Asked| {
            asked.line.contains(":streamGenerateContent?alt=sse ") || text(&asked.body).contains("\"stream\":true")
        };
        assert!(wild.asked().iter().all(streams));
        assert!(repo.git(&["show", &format!("volary/{}:max.c", ran.run)]).contains("a > b"));
        let view = ran.view(&platform);
        assert_eq!((&view["usage"]["input"], &view["usage"]["output"]), (&json!(200), &json!(20)), "{view:#}");
        let said: String = of_kind(&ran.entries, "chunk").iter().filter_map(|chunk| chunk["text"].as_str()).collect();
        assert_eq!(said, "Mending.Mended.");
    }
}

#[test]
fn fields_and_events_that_no_one_knows_yet_pass_and_disturb_nothing() {
    let (platform, repo) = (platform(), Repo::failing());
    let wild = Wild::start(|_, _| {
        let events = [
            json!({"type": "message_start", "omen": "good", "message": {"id": "msg_1", "type": "message",
                "role": "assistant", "model": "m", "content": [], "usage": {"input_tokens": 7, "joules": 1}}}),
            json!({"type": "telepathy", "thought": {"deep": [1, 2, 3]}}),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "", "tone": 1}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Fine.", "x": 0}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "aroma_delta", "aroma": "rose"}}),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}}),
            json!({"type": "message_stop", "encore": false}),
        ];
        let mut pieces = vec![head("200 OK", "text/event-stream", "x-omen: good\r\n")];
        pieces.extend(events.iter().map(event));
        pieces
    });
    anthropic(&platform, "new", wild.url(), "sk-a-key-of-some-length");
    let ran = run(&platform, &repo, &[]);
    assert_eq!(ran.end(), ("done".into(), String::new()), "{}", all(&ran.out));
    let view = ran.view(&platform);
    assert_eq!((&view["usage"]["input"], &view["usage"]["output"]), (&json!(7), &json!(3)), "{view:#}");
    assert!(ran.of_kind("unknown").is_empty());
}
