//! The key never reaches a client, however a provider throws it back; and boxes' words are scrubbed.

use crate::house::{HANDLE, House, KEY, call, redacted, scrubbed, url};
use crate::provider::{Provider, chunked, whole};
use api::cable::{FromCable, ToCable};
use base64::{Engine, engine::general_purpose::STANDARD};
use model::Dialect;
use model::event::{Event, Stream};
use model::profile::Sought;
use serde_json::{Value, json};

const BODY: &str = r#"{"model":"claude-x","max_tokens":64,"messages":[{"role":"user","content":"hi"}]}"#;

async fn answer(steps: Vec<crate::provider::Step>) -> crate::house::Got {
    let provider = Provider::answering(steps).await;
    let house = House::granting(Dialect::Anthropic, url(&provider.base)).await;
    call(house.door, "/v1/messages", BODY).await
}

#[tokio::test(flavor = "current_thread")]
async fn a_key_in_a_header_of_the_answer_is_scrubbed() {
    let head = format!("200 OK\r\ncontent-type: application/json\r\nrequest-id: for-{KEY}\r\nx-echo: {KEY}");
    let got = answer(whole(&head, "{}")).await;
    assert!(got.head.contains(&format!("request-id: for-{}", scrubbed())), "{}", got.head);
    assert!(!got.head.contains("canary"));
}

#[tokio::test(flavor = "current_thread")]
async fn a_key_in_a_whole_body_or_an_error_is_scrubbed() {
    for status in ["200 OK", "401 Unauthorized", "500 Oops"] {
        let head = format!("{status}\r\ncontent-type: application/json");
        let got = answer(whole(&head, &format!(r#"{{"error":{{"message":"bad key {KEY}!"}}}}"#))).await;
        assert_eq!(got.text(), format!(r#"{{"error":{{"message":"bad key {}!"}}}}"#, scrubbed()));
        assert!(got.whole);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_key_cut_in_two_by_the_stream_is_scrubbed_wherever_the_cut_is() {
    let event = format!("data: {{\"type\":\"ping\",\"x\":\"{KEY}\"}}\n\n");
    let start = event.find(KEY).unwrap();
    let expected = event.replace(KEY, &scrubbed());
    for cut in [start, start + 1, start + KEY.len() / 2, start + KEY.len() - 1, start + KEY.len()] {
        let (one, two) = event.as_bytes().split_at(cut);
        let got = answer(chunked("200 OK\r\ncontent-type: text/event-stream", &[one, two])).await;
        assert_eq!(got.text(), expected, "cut at {cut}");
    }
    let bytes: Vec<&[u8]> = event.as_bytes().chunks(1).collect();
    assert_eq!(answer(chunked("200 OK\r\ncontent-type: text/event-stream", &bytes)).await.text(), expected);
}

#[tokio::test(flavor = "current_thread")]
async fn a_key_cut_between_two_events_reaches_no_client_of_any_format() {
    let anthropic =
        |text: &str| json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}});
    let chat = |text: &str| json!({"choices": [{"index": 0, "delta": {"content": text}}]});
    let responses = |text: &str| json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": text});
    let gemini = |text: &str| json!({"candidates": [{"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}], "modelVersion": "gemini"});
    let formats: [&dyn Fn(&str) -> Value; 4] = [&anthropic, &chat, &responses, &gemini];
    let places = ["/delta/text", "/choices/0/delta/content", "/delta", "/candidates/0/content/parts/0/text"];
    for (format, place) in formats.iter().zip(places) {
        for cut in [1, 3, 4, KEY.len() / 2, KEY.len() - 1] {
            let (one, two) = KEY.split_at(cut);
            let events = ["It is ", one, two, ", no?"].map(|text| format!("data: {}\n\n", format(text)));
            let pieces: Vec<&[u8]> = events.iter().map(String::as_bytes).collect();
            let got = answer(chunked("200 OK\r\ncontent-type: text/event-stream", &pieces)).await;
            let whole = got.text();
            let datas = whole.lines().filter_map(|line| line.strip_prefix("data: "));
            let said: String = datas
                .map(|data| serde_json::from_str::<Value>(data).expect("JSON stays JSON"))
                .map(|event| event.pointer(place).and_then(Value::as_str).expect("a text").to_owned())
                .collect();
            let told = if cut < 4 { one } else { "" };
            assert_eq!(said, format!("It is {told}{}, no?", scrubbed()), "cut at {cut}");
            assert!(got.whole);
        }
    }
}

/// What a model reads of what an agent says.
async fn read_by_a_model(house: &House, provider: &mut Provider, said: &str) -> String {
    let body = json!({"model": "claude-x", "max_tokens": 64, "messages": [{"role": "user", "content": said}]});
    call(house.door, "/v1/messages", &body.to_string()).await;
    let seen = provider.seen().await;
    let read: Value = serde_json::from_slice(&seen.body).expect("JSON stays JSON");
    read["messages"][0]["content"].as_str().expect("a text").to_owned()
}

#[tokio::test(flavor = "current_thread")]
async fn a_token_of_a_format_that_an_agent_found_reaches_no_model_unless_its_profile_lets_it() {
    let answers = || whole("200 OK\r\ncontent-type: application/json", "{}");
    let mut provider = Provider::answering(answers()).await;
    let house = House::granting(Dialect::Anthropic, url(&provider.base)).await;
    let token = format!("npm_{}", "a1B2".repeat(9));
    let said = format!("of .npmrc: {token}, and the run's own handle {HANDLE}.");
    let clean = format!(
        "of .npmrc: {}, and the run's own handle {}.",
        redacted("npm-token", &token),
        redacted("volary-handle", HANDLE)
    );
    for _ in 0..2 {
        assert_eq!(read_by_a_model(&house, &mut provider, &said).await, clean, "the same each time");
    }
    house.desk.lock().unwrap().sought = Sought::Values;
    assert_eq!(read_by_a_model(&house, &mut provider, &said).await, said);
}

#[tokio::test(flavor = "current_thread")]
async fn what_hides_credentials_makes_no_request_much_longer_than_was_granted() {
    let provider = Provider::answering(whole("200 OK\r\ncontent-type: application/json", "{}")).await;
    let house = House::granting(Dialect::Anthropic, url(&provider.base)).await;
    let said = "postgres://u:pw1@db.example/x ".repeat(3000);
    let body = json!({"model": "claude-x", "max_tokens": 64, "messages": [{"role": "user", "content": said}]});
    let got = call(house.door, "/v1/messages", &body.to_string()).await;
    assert_eq!((got.status, got.rule().as_str()), (403, "body.hidden"));
}

#[tokio::test(flavor = "current_thread")]
async fn a_key_that_an_agent_says_to_its_model_is_scrubbed_on_the_way() {
    let mut provider = Provider::answering(whole("200 OK\r\ncontent-type: application/json", "{}")).await;
    let house = House::granting(Dialect::Anthropic, url(&provider.base)).await;
    let said = format!("of .env: {KEY}, in base 64 {}.", STANDARD.encode(KEY));
    let told = read_by_a_model(&house, &mut provider, &said).await;
    assert!(told.starts_with(&format!("of .env: {}, in base 64 {}", scrubbed(), scrubbed())), "{told}");
}

#[tokio::test(flavor = "current_thread")]
async fn what_a_box_says_is_scrubbed_of_keys_that_were_leased_and_answered_in_order() {
    let provider = Provider::answering(whole("200 OK\r\ncontent-type: application/json", "{}")).await;
    let house = House::granting(Dialect::Anthropic, url(&provider.base)).await;
    call(house.door, "/v1/messages", BODY).await;
    for id in 0..3 {
        let text = format!(r#"{{"kind":"note","text":"{id}: it is {KEY}"}}"#);
        house.send(&ToCable::Hear { id, run: house.run.clone(), event: Some(text) }, None);
    }
    for expected in 0..3 {
        match house.receive().await {
            FromCable::Heard { id, events, more: false, .. } => {
                assert_eq!(id, expected);
                assert_eq!(events, [format!(r#"{{"kind":"note","text":"{id}: it is {}"}}"#, scrubbed())]);
            }
            other => panic!("not an answer: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "current_thread")]
async fn an_output_of_a_box_is_scrubbed_in_its_bytes_and_stays_an_output() {
    let provider = Provider::answering(whole("200 OK\r\ncontent-type: application/json", "{}")).await;
    let house = House::granting(Dialect::Anthropic, url(&provider.base)).await;
    call(house.door, "/v1/messages", BODY).await;
    let data_b64 = STANDARD.encode(format!("it is {KEY}\n"));
    let output = Event::Output { id: "t1".into(), stream: Stream::Stdout, data_b64 };
    let event = Some(serde_json::to_string(&output).unwrap());
    house.send(&ToCable::Hear { id: 7, run: house.run.clone(), event }, None);
    let FromCable::Heard { id: 7, events, .. } = house.receive().await else { panic!("not an answer") };
    let [text] = &events[..] else { panic!("not one event: {events:?}") };
    let Event::Output { data_b64, .. } = serde_json::from_str(text).unwrap() else { panic!("not an output: {text}") };
    assert_eq!(STANDARD.decode(data_b64).unwrap(), format!("it is {}\n", scrubbed()).as_bytes());
}

#[tokio::test(flavor = "current_thread")]
async fn what_a_box_says_in_pieces_is_scrubbed_where_they_meet_and_given_out_at_its_end() {
    let provider = Provider::answering(whole("200 OK\r\ncontent-type: application/json", "{}")).await;
    let house = House::granting(Dialect::Anthropic, url(&provider.base)).await;
    call(house.door, "/v1/messages", BODY).await;
    let (one, two) = KEY.split_at(KEY.len() / 2);
    let chunk = |text: &str| format!(r#"{{"kind":"chunk","text":"{text}","turn":1}}"#);
    let call = r#"{"kind":"tool-call","turn":1,"id":"a","name":"n","title":"t","input":{}}"#;
    let said = [chunk(&format!("it is {one}")), chunk(two), chunk(one), call.to_owned(), chunk(one)].map(Some);
    for (id, event) in (0..).zip(said.into_iter().chain([None])) {
        house.send(&ToCable::Hear { id, run: house.run.clone(), event }, None);
    }
    let expected: [Vec<String>; 6] = [
        vec![chunk("it is ")],
        vec![chunk(&scrubbed())],
        vec![],
        vec![chunk(one), call.to_owned()],
        vec![],
        vec![chunk(one)],
    ];
    // The order of an event's fields is nobody's promise.
    let read = |events: &[String]| -> Vec<serde_json::Value> {
        events.iter().map(|event| serde_json::from_str(event).unwrap()).collect()
    };
    for (at, expected) in (0..).zip(expected) {
        match house.receive().await {
            FromCable::Heard { id, events, more: false, .. } => assert_eq!((id, read(&events)), (at, read(&expected))),
            other => panic!("not an answer: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "current_thread")]
async fn what_no_one_packet_holds_comes_in_as_many_as_it_takes() {
    let house = House::granting(Dialect::Anthropic, url("http://127.0.0.1:1")).await;
    let output = |bytes: &[u8]| {
        let output = Event::Output { id: "t".into(), stream: Stream::Stdout, data_b64: STANDARD.encode(bytes) };
        Some(serde_json::to_string(&output).unwrap())
    };
    // What waits, since it could become a private key, makes the second event longer than a packet.
    let begun = [&b"-----BEGIN PRIVATE KEY-----\n"[..], &b"A".repeat(15_000)].concat();
    let long = [&b"! "[..], &b"x".repeat(140_000)].concat();
    house.send(&ToCable::Hear { id: 1, run: house.run.clone(), event: output(&begun) }, None);
    house.send(&ToCable::Hear { id: 2, run: house.run.clone(), event: output(&long) }, None);
    let (mut said, mut packets, mut answered) = (Vec::new(), 0, 0);
    while answered < 2 {
        let FromCable::Heard { events, more, .. } = house.receive().await else { panic!("not an answer") };
        for event in events {
            let Event::Output { data_b64, .. } = serde_json::from_str(&event).unwrap() else { panic!("{event}") };
            said.extend(STANDARD.decode(data_b64).unwrap());
        }
        packets += 1;
        answered += u32::from(!more);
    }
    assert!(said == [begun, long].concat(), "{} bytes", said.len());
    assert!(packets > 2, "it came in {packets} packets");
}

#[tokio::test(flavor = "current_thread")]
async fn an_event_that_its_placeholders_make_longer_than_a_packet_comes_whole() {
    let house = House::granting(Dialect::Anthropic, url("http://127.0.0.1:1")).await;
    // What looks like a password, seven thousand times: each becomes three times as long.
    let command = format!(": '{}'", ";pwd=zzzz".repeat(7000));
    let event = json!({"kind": "command", "id": "t-1", "argv": ["sh", "-c", command], "cwd": "/workspace"}).to_string();
    house.send(&ToCable::Hear { id: 9, run: house.run.clone(), event: Some(event) }, None);
    let (mut whole, mut packets) = (String::new(), 0);
    loop {
        let FromCable::Heard { id: 9, events, more, cut } = house.receive().await else { panic!("not an answer") };
        assert_eq!((events.len(), cut), (1, more), "one event, in pieces");
        whole += &events[0];
        packets += 1;
        if !more {
            break;
        }
    }
    assert!(packets > 1, "it fitted {packets} packet");
    let event: Value = serde_json::from_str(&whole).expect("an event stays one");
    assert_eq!((&event["kind"], &event["id"]), (&json!("command"), &json!("t-1")));
    let said = event["argv"][2].as_str().expect("a text");
    assert!(!said.contains("zzzz") && said.matches(";pwd=[").count() == 7000, "{} bytes", said.len());
}
