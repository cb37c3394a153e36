//! The providers' wire formats, streaming and not: what goes out, what comes back, what it cost.

use crate::house::{HANDLE, House, KEY, Word, call, head, url};
use crate::provider::{Provider, Step, chunk, chunked, kept, whole};
use model::{Dialect, Usage};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

const JSON: &str = "200 OK\r\ncontent-type: application/json\r\nrequest-id: req_011\r\nanthropic-ratelimit-tokens-remaining: 7\r\nx-cache: hit";
const EVENTS: &str = "200 OK\r\ncontent-type: text/event-stream; charset=utf-8";

/// Odd on purpose: spaces, order, an escape, a number's form and a field that no one knows.
const ASKED: &str = "{ \"model\":\"claude-x\",\n \"max_tokens\": 64 , \"temperature\":1.0e0,\"metadata\":{\"user_id\":\"\\u00fc\"},\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}";
const MESSAGE: &str = r#"{"id":"msg_1","type":"message","role":"assistant","content":[{"type":"text","text":"Hello."}],"stop_reason":"end_turn","unknown":{"kept":true},"usage":{"input_tokens":12,"output_tokens":6,"cache_read_input_tokens":3}}"#;

#[tokio::test(flavor = "current_thread")]
async fn an_anthropic_call_goes_out_byte_for_byte_with_the_key_in_the_handles_place() {
    let mut provider = Provider::answering(whole(JSON, MESSAGE)).await;
    let mut house = House::granting(Dialect::Anthropic, url(&provider.base)).await;
    let got = call(house.door, "/v1/messages", ASKED).await;

    assert_eq!((got.status, got.text()), (200, MESSAGE));
    let seen = provider.seen().await;
    assert_eq!(seen.body, ASKED.as_bytes());
    assert!(seen.head.starts_with("POST /v1/messages HTTP/1.1\r\n"), "{}", seen.head);
    assert_eq!(seen.header("x-api-key"), Some(KEY));
    assert_eq!(seen.header("host"), provider.base.strip_prefix("http://"));
    assert_eq!(seen.header("anthropic-version"), Some("2023-06-01"));
    assert_eq!(seen.header("accept-encoding"), Some("identity"));
    assert_eq!((seen.header("x-other"), seen.header("authorization")), (None, None));
    assert!(!seen.head.contains(HANDLE));

    let asked = house.question().await;
    assert_eq!((asked.run, asked.provider.as_str(), asked.path.as_str()), (house.run.clone(), "m", "/v1/messages"));
    assert_eq!((asked.model.as_str(), asked.max_output_tokens), ("claude-x", 64));
    assert_eq!(asked.input_tokens_at_most, ASKED.len() as u64);
    // SHA-256 of HANDLE, by another implementation.
    assert_eq!(asked.handle_sha256, "4bc16c59e83600474f87f9173d769b0713c87a745552a78d6335b14c83556de6");
    let settled = house.settled().await;
    assert_eq!(settled.usage, Usage { input: 12, output: 6, cache_read: 3, ..Usage::default() });
    assert_eq!((settled.status, settled.interrupted), (200, false));
    house.said_nothing_more().await;
}

#[tokio::test(flavor = "current_thread")]
async fn of_an_answers_headers_only_the_listed_ones_come_back() {
    let provider = Provider::answering(whole(JSON, MESSAGE)).await;
    let house = House::granting(Dialect::Anthropic, url(&provider.base)).await;
    let got = call(house.door, "/v1/messages", ASKED).await;
    for kept in ["content-type: application/json", "request-id: req_011", "anthropic-ratelimit-tokens-remaining: 7"] {
        assert!(got.head.contains(kept), "{}", got.head);
    }
    assert!(!got.head.contains("x-cache"), "{}", got.head);
}

#[tokio::test(flavor = "current_thread")]
async fn a_header_of_an_answer_that_holds_the_key_in_its_name_does_not_come_back() {
    let reversed: String = KEY.chars().rev().collect();
    let names = [KEY.to_owned(), KEY.to_uppercase(), reversed].map(|key| format!("x-ratelimit-{key}: 1"));
    let answer = format!("{JSON}\r\n{}", names.join("\r\n"));
    let provider = Provider::answering(whole(&answer, MESSAGE)).await;
    let house = House::granting(Dialect::Anthropic, url(&provider.base)).await;
    let got = call(house.door, "/v1/messages", ASKED).await;
    assert!(got.head.contains("anthropic-ratelimit-tokens-remaining: 7"), "{}", got.head);
    assert!(!got.head.contains("x-ratelimit"), "{}", got.head);
}

const START: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\n\n";
const DELTA: &str = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hello\"}}\n\n";
const END: &str = "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":15}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

#[tokio::test(flavor = "current_thread")]
async fn a_stream_passes_through_as_it_arrives() {
    let go_on = Arc::new(Notify::new());
    let mut steps = chunked(EVENTS, &[START.as_bytes(), DELTA.as_bytes()]);
    steps.insert(3, Step::Wait(go_on.clone()));
    steps.insert(4, chunk(END.as_bytes()));
    let provider = Provider::answering(steps).await;
    let mut house = House::granting(Dialect::Anthropic, url(&provider.base)).await;

    let mut stream = tokio::net::TcpStream::connect(house.door).await.unwrap();
    stream.write_all(head("/v1/messages", ASKED.len()).as_bytes()).await.unwrap();
    stream.write_all(ASKED.as_bytes()).await.unwrap();
    let mut got = Vec::new();
    // The provider waits for us here: what it sent must be readable now, whole events of it.
    while !String::from_utf8_lossy(&got).contains(DELTA) {
        assert_ne!(crate::house::soon("the first events", stream.read_buf(&mut got)).await.unwrap(), 0);
    }
    go_on.notify_one();
    crate::house::soon("the end", stream.read_to_end(&mut got)).await.unwrap();
    assert!(String::from_utf8_lossy(&got).contains(END));

    house.question().await;
    let settled = house.settled().await;
    assert_eq!(settled.usage, Usage { input: 25, output: 15, ..Usage::default() });
    assert!(!settled.interrupted);
}

const CHAT: &str =
    r#"{"model":"gpt-x","max_completion_tokens":99,"messages":[{"role":"user","content":"hi"}],"seed":7}"#;
const CHAT_STREAM: &str = r#"{"model":"gpt-x","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"hi"}]}"#;

#[tokio::test(flavor = "current_thread")]
async fn an_openai_call_carries_its_key_as_a_bearer_token() {
    let answer = r#"{"id":"c1","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"Hello."},"finish_reason":"stop"}],"usage":{"prompt_tokens":20,"completion_tokens":5,"total_tokens":25,"prompt_tokens_details":{"cached_tokens":8}}}"#;
    let mut provider = Provider::answering(whole(JSON, answer)).await;
    let mut house = House::granting(Dialect::Openai, url(&provider.base)).await;
    let got = call(house.door, "/v1/chat/completions", CHAT).await;
    assert_eq!((got.status, got.text()), (200, answer));
    let seen = provider.seen().await;
    assert_eq!(seen.body, CHAT.as_bytes());
    assert_eq!(seen.header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    assert_eq!(seen.header("x-api-key"), None);
    assert_eq!(house.question().await.max_output_tokens, 99);
    assert_eq!(house.settled().await.usage, Usage { input: 12, output: 5, cache_read: 8, ..Usage::default() });
}

#[tokio::test(flavor = "current_thread")]
async fn an_openai_stream_is_metered_by_its_usage_chunk() {
    let pieces: [&[u8]; 3] = [
        b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hel\"}}],\"usage\":null}\n\n",
        b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":20,\"completion_tokens\":5}}\n\n",
        b"data: [DONE]\n\n",
    ];
    let provider = Provider::answering(chunked(EVENTS, &pieces)).await;
    let mut house = House::granting(Dialect::Openai, url(&provider.base)).await;
    let got = call(house.door, "/v1/chat/completions", CHAT_STREAM).await;
    assert_eq!(got.body, pieces.concat());
    assert!(got.whole);
    house.question().await;
    assert_eq!(house.settled().await.usage, Usage { input: 20, output: 5, ..Usage::default() });
}

#[tokio::test(flavor = "current_thread")]
async fn an_openai_responses_call_is_metered() {
    let answer = r#"{"id":"resp_1","object":"response","output":[],"usage":{"input_tokens":9,"output_tokens":4,"total_tokens":13}}"#;
    let provider = Provider::answering(whole(JSON, answer)).await;
    let mut house = House::granting(Dialect::Openai, url(&provider.base)).await;
    let got = call(house.door, "/v1/responses", r#"{"model":"gpt-x","store":false,"input":"hi"}"#).await;
    assert_eq!((got.status, got.text()), (200, answer));
    house.question().await;
    assert_eq!(house.settled().await.usage, Usage { input: 9, output: 4, ..Usage::default() });
}

const GENERATE: &str = r#"{ "contents":[{"role":"user","parts":[{"text":"hi \u00fc"}]}],"generationConfig":{"maxOutputTokens":64,"temperature":1.0e0} }"#;
const GENERATED: &str = r#"{"candidates":[{"content":{"parts":[{"text":"Hello."}],"role":"model"},"finishReason":"STOP","index":0,"unknown":[1]}],"usageMetadata":{"promptTokenCount":20,"cachedContentTokenCount":8,"candidatesTokenCount":5,"thoughtsTokenCount":30,"totalTokenCount":55},"modelVersion":"gemini-x","responseId":"r1"}"#;

#[tokio::test(flavor = "current_thread")]
async fn a_gemini_call_goes_out_byte_for_byte_with_the_key_in_the_handles_place_and_its_path_names_the_model() {
    let mut provider = Provider::answering(whole(JSON, GENERATED)).await;
    let mut house = House::granting(Dialect::Gemini, url(&provider.base)).await;
    let path = "/v1beta/models/gemini-x:generateContent";
    let geminis =
        head(path, GENERATE.len()).replace("authorization: Bearer ", "x-goog-api-client: js/1\r\nx-goog-api-key: ");
    for sent in [geminis, head(path, GENERATE.len())] {
        let mut stream = tokio::net::TcpStream::connect(house.door).await.unwrap();
        stream.write_all((sent + GENERATE).as_bytes()).await.unwrap();
        let mut got = Vec::new();
        crate::house::soon("the answer", stream.read_to_end(&mut got)).await.unwrap();
        let got = crate::house::parse(&got, true);
        assert_eq!((got.status, got.text()), (200, GENERATED));
        let seen = provider.seen().await;
        assert_eq!(seen.body, GENERATE.as_bytes());
        assert!(seen.head.starts_with("POST /v1beta/models/gemini-x:generateContent HTTP/1.1\r\n"), "{}", seen.head);
        assert_eq!(seen.header("x-goog-api-key"), Some(KEY));
        assert_eq!((seen.header("x-api-key"), seen.header("authorization")), (None, None));
        assert_eq!(seen.header("x-goog-api-client"), None);
        assert!(!seen.head.contains(HANDLE));
        let asked = house.question().await;
        assert_eq!((asked.model.as_str(), asked.max_output_tokens, asked.path.as_str()), ("gemini-x", 64, path));
        let settled = house.settled().await;
        assert_eq!(settled.usage, Usage { input: 12, output: 35, cache_read: 8, ..Usage::default() });
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_gemini_stream_passes_and_is_metered_by_its_last_event() {
    let pieces: [&[u8]; 2] = [
        b"data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"Hel\"}],\"role\":\"model\"},\"index\":0}],\"usageMetadata\":{\"promptTokenCount\":20,\"totalTokenCount\":20}}\r\n\r\n",
        b"data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"lo\"}],\"role\":\"model\"},\"finishReason\":\"STOP\",\"index\":0}],\"usageMetadata\":{\"promptTokenCount\":20,\"candidatesTokenCount\":5,\"thoughtsTokenCount\":7,\"totalTokenCount\":32}}\r\n\r\n",
    ];
    for (sent, expected) in [
        (2, Usage { input: 20, output: 12, ..Usage::default() }),
        (1, Usage { input: 20, output: 1, ..Usage::default() }),
    ] {
        let mut provider =
            Provider::answering(chunked("200 OK\r\ncontent-type: text/event-stream", &pieces[..sent])).await;
        let mut house = House::granting(Dialect::Gemini, url(&provider.base)).await;
        let got = call(house.door, "/v1beta/models/gemini-x:streamGenerateContent?alt=sse", GENERATE).await;
        assert_eq!(got.body, pieces[..sent].concat());
        let seen = provider.seen().await;
        assert!(
            seen.head.starts_with("POST /v1beta/models/gemini-x:streamGenerateContent?alt=sse HTTP/1.1"),
            "{}",
            seen.head
        );
        let asked = house.question().await;
        assert_eq!(asked.path, "/v1beta/models/gemini-x:streamGenerateContent");
        let settled = house.settled().await;
        assert_eq!((settled.usage, settled.interrupted), (expected, false));
    }
}

#[tokio::test(flavor = "current_thread")]
async fn counting_a_gemini_calls_tokens_is_free() {
    let provider = Provider::answering(whole(JSON, r#"{"totalTokens":4000}"#)).await;
    let mut house = House::granting(Dialect::Gemini, url(&provider.base)).await;
    let got = call(house.door, "/v1beta/models/gemini-x:countTokens", r#"{"contents":[]}"#).await;
    assert_eq!((got.status, got.text()), (200, r#"{"totalTokens":4000}"#));
    house.question().await;
    assert_eq!(house.settled().await.usage, Usage::default());
}

#[tokio::test(flavor = "current_thread")]
async fn what_gemini_would_reach_out_with_leaves_no_gateway() {
    let mut provider = Provider::answering(whole(JSON, GENERATED)).await;
    let house = House::granting(Dialect::Gemini, url(&provider.base)).await;
    let generate = "/v1beta/models/gemini-x:generateContent";
    for (path, body, rule) in [
        (generate, r#"{"contents":[],"tools":[{"googleSearch":{}}]}"#, "model.tool"),
        (generate, r#"{"contents":[],"tools":[{"google_search":{}}]}"#, "model.tool"),
        (generate, r#"{"contents":[],"tools":[{"urlContext":{}}]}"#, "model.tool"),
        (generate, r#"{"contents":[],"tools":[{"codeExecution":{}}]}"#, "model.tool"),
        (generate, r#"{"contents":[{"parts":[{"fileData":{"fileUri":"https://a"}}]}]}"#, "model.source"),
        (generate, r#"{"contents":[{"parts":[{"file_data":{"file_uri":"https://a"}}]}]}"#, "model.source"),
        (generate, r#"{"contents":[],"cachedContent":"cachedContents/x"}"#, "model.field"),
        (generate, r#"{"contents":[],"generation_config":{"maxOutputTokens":1}}"#, "model.field"),
        ("/v1beta/models/gemini-x:generateContent?key=AIzaSyX", "{}", "model.query"),
        ("/v1beta/models/gemini-x:streamGenerateContent", "{}", "model.query"),
        ("/v1beta/models/gemini-x:streamGenerateContent?alt=sse&key=x", "{}", "model.query"),
        ("/v1beta/models/gemini-x:batchGenerateContent", "{}", "model.path"),
        ("/v1beta/tunedModels/x:generateContent", "{}", "model.path"),
        ("/v1beta/files", "{}", "model.path"),
        ("/upload/v1beta/files", "{}", "model.path"),
    ] {
        let got = call(house.door, path, body).await;
        assert_eq!((got.status, got.rule().as_str()), (403, rule), "{path} {body}");
    }
    // The first that reaches it is the first that is allowed.
    assert_eq!(call(house.door, generate, GENERATE).await.status, 200);
    assert_eq!(provider.seen().await.body, GENERATE.as_bytes());
}

#[tokio::test(flavor = "current_thread")]
async fn a_provider_that_takes_no_key_gets_no_header() {
    let mut provider = Provider::answering(whole(JSON, "{}")).await;
    let house = House::granting(Dialect::Openai, url(&provider.base)).await;
    house.answer_with(Word::Grant { dialect: Dialect::Openai, place: url(&provider.base), key: String::new() });
    call(house.door, "/v1/chat/completions", CHAT).await;
    let seen = provider.seen().await;
    assert_eq!((seen.header("authorization"), seen.header("x-api-key")), (None, None));
}

#[tokio::test(flavor = "current_thread")]
async fn a_base_may_have_a_path_and_may_end_in_the_version() {
    let gemini = "/v1beta/models/m:generateContent";
    for (dialect, asked, body, path, expected) in [
        (Dialect::Openai, "/v1/chat/completions", CHAT, "/api", "POST /api/v1/chat/completions "),
        (Dialect::Openai, "/v1/chat/completions", CHAT, "/v1/", "POST /v1/chat/completions "),
        (Dialect::Gemini, gemini, GENERATE, "/v1beta", "POST /v1beta/models/m:generateContent "),
        (Dialect::Gemini, gemini, GENERATE, "/v1", "POST /v1/v1beta/models/m:generateContent "),
    ] {
        let mut provider = Provider::answering(whole(JSON, "{}")).await;
        let house = House::granting(dialect, url(&format!("{}{path}", provider.base))).await;
        call(house.door, asked, body).await;
        let seen = provider.seen().await;
        assert!(seen.head.starts_with(expected), "{}", seen.head);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_providers_error_comes_back_as_it_is_and_costs_nothing() {
    let body = r#"{"type":"error","error":{"type":"rate_limit_error","message":"slow down"}}"#;
    let provider =
        Provider::answering(whole("429 Too Many\r\ncontent-type: application/json\r\nretry-after: 9", body)).await;
    let mut house = House::granting(Dialect::Anthropic, url(&provider.base)).await;
    let got = call(house.door, "/v1/messages", ASKED).await;
    assert_eq!((got.status, got.text()), (429, body));
    assert!(got.head.contains("retry-after: 9"));
    house.question().await;
    let settled = house.settled().await;
    assert_eq!((settled.status, settled.usage), (429, Usage::default()));
}

#[tokio::test(flavor = "current_thread")]
async fn one_connection_of_the_box_carries_one_call_after_the_other() {
    let provider = Provider::answering(whole(JSON, MESSAGE)).await;
    let house = House::granting(Dialect::Anthropic, url(&provider.base)).await;
    let kept_alive = head("/v1/messages", ASKED.len()).replace("connection: close\r\n", "") + ASKED;
    let last = head("/v1/messages", ASKED.len()) + ASKED;
    let mut stream = tokio::net::TcpStream::connect(house.door).await.unwrap();
    stream.write_all((kept_alive + &last).as_bytes()).await.unwrap();
    let mut got = String::new();
    crate::house::soon("both answers", stream.read_to_string(&mut got)).await.unwrap();
    assert_eq!(got.matches("HTTP/1.1 200 OK").count(), 2, "{got}");
}

#[tokio::test(flavor = "current_thread")]
async fn a_connection_to_the_provider_is_used_again_by_the_same_run_and_by_no_other() {
    let mut provider = Provider::keeping_connections(kept(JSON, MESSAGE)).await;
    let mut house = House::granting(Dialect::Anthropic, url(&provider.base)).await;
    let other = house.second_run().await;
    let mut clients = Vec::new();
    for door in [house.door, house.door, other, other] {
        assert_eq!(call(door, "/v1/messages", ASKED).await.status, 200);
        clients.push(provider.seen().await.client);
    }
    assert_eq!((clients[0], clients[2]), (clients[1], clients[3]));
    assert_ne!(clients[0], clients[2]);
}

#[tokio::test(flavor = "current_thread")]
async fn a_connection_that_the_provider_closed_meanwhile_is_replaced() {
    let mut provider = Provider::answering(kept(JSON, MESSAGE)).await;
    let house = House::granting(Dialect::Anthropic, url(&provider.base)).await;
    assert_eq!(call(house.door, "/v1/messages", ASKED).await.status, 200);
    let first = provider.seen().await.client;
    // A close that crosses the request is a fault; it is not sent twice. A close that was seen is none.
    let again = async { while call(house.door, "/v1/messages", ASKED).await.status != 200 {} };
    crate::house::soon("a new connection", again).await;
    assert_ne!(provider.seen().await.client, first);
}

#[tokio::test(flavor = "current_thread")]
async fn a_long_answer_comes_through_whole() {
    let text: String = (0..400_000).map(|i| format!("{i:07} of the text\n")).collect();
    let body = serde_json::json!({ "content": [{ "type": "text", "text": text }] }).to_string();
    let provider = Provider::answering(whole(JSON, &body)).await;
    let house = House::granting(Dialect::Anthropic, url(&provider.base)).await;
    let got = call(house.door, "/v1/messages", ASKED).await;
    assert!(got.whole && got.body == body.as_bytes(), "{} of {} bytes", got.body.len(), body.len());
}
