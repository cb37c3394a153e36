//! What is refused, by which rule, in which words, and that it is recorded.

use crate::house::{HANDLE, House, KEY, Word, ask, call, head, soon, url};
use crate::provider::{Provider, chunked, whole};
use api::cable::ToCable;
use api::grants::{FromGateway, Place};
use model::Dialect;
use std::io::Read as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt};

const BODY: &str = r#"{"model":"claude-x","max_tokens":64,"messages":[{"role":"user","content":"hi"}]}"#;
const OK: &str = "200 OK\r\ncontent-type: application/json";

fn nowhere() -> Place {
    // Nothing listens on port 9 of loopback.
    url("http://127.0.0.1:9")
}

#[tokio::test(flavor = "current_thread")]
async fn whatever_is_no_model_path_is_a_closed_door() {
    let mut house = House::granting(Dialect::Anthropic, nowhere()).await;
    for (line, more, target) in [
        ("GET / HTTP/1.1", "", "/"),
        ("GET /model HTTP/1.1", "", "/model"),
        ("POST /v1/messages HTTP/1.1", "", "/v1/messages"),
        ("OPTIONS * HTTP/1.1", "", "*"),
        ("GET /model/m/v1/messages HTTP/1.1", "connection: upgrade\r\nupgrade: websocket\r\n", "/model/m/v1/messages"),
    ] {
        let got = ask(house.door, &format!("{line}\r\nhost: x\r\n{more}connection: close\r\n\r\n"), b"").await;
        assert_eq!((got.status, got.rule().as_str()), (403, "door.closed"), "{line}");
        assert_eq!(got.json()["error"]["type"], "volary_policy");
        let verdict = house.refusal().await;
        assert_eq!((verdict.rule.as_str(), verdict.target.as_str()), ("door.closed", target));
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_refusal_tells_a_model_what_it_is_and_what_to_do() {
    let house = House::granting(Dialect::Anthropic, nowhere()).await;
    let got = ask(house.door, "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", b"").await;
    let words = got.json()["error"]["message"].as_str().unwrap().to_owned();
    for said in [
        "Refused by policy (rule door.closed), not by a fault",
        "Do not send this again",
        "every other way is closed",
        "the person who gave you the task",
    ] {
        assert!(words.contains(said), "{words}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn what_is_no_http_is_recorded_too() {
    let mut house = House::granting(Dialect::Anthropic, nowhere()).await;
    let got = ask(house.door, "\u{16}\u{3}\u{1} tls or so\r\n\r\n", b"").await;
    assert_eq!(got.status, 400);
    assert_eq!(house.refusal().await.rule, "request.malformed");
}

#[tokio::test(flavor = "current_thread")]
async fn a_head_over_64_kib_is_refused() {
    let mut house = House::granting(Dialect::Anthropic, nowhere()).await;
    let mut stream = tokio::net::TcpStream::connect(house.door).await.unwrap();
    let long = format!("GET / HTTP/1.1\r\nhost: x\r\nx-long: {}\r\n\r\n", "a".repeat(64 * 1024));
    stream.write_all(long.as_bytes()).await.unwrap();
    assert_eq!(house.refusal().await.rule, "request.malformed");
}

#[tokio::test(flavor = "current_thread")]
async fn a_credential_that_is_not_one_handle_is_refused_and_its_value_recorded_nowhere() {
    let mut house = House::granting(Dialect::Anthropic, nowhere()).await;
    let two = format!("x-api-key: {HANDLE}\r\nauthorization: Bearer {HANDLE}");
    for (credential, rule) in [
        ("", "handle.missing"),
        (two.as_str(), "handle.foreign"),
        ("x-api-key: sk-ant-stolen-0123456789", "handle.foreign"),
        ("x-api-key: vh_stolen", "handle.foreign"),
        ("authorization: Bearer sk-ant-stolen-0123456789", "handle.foreign"),
    ] {
        let head = head("/v1/messages", BODY.len())
            .replace(&format!("x-api-key: {HANDLE}"), credential)
            .replace("\r\n\r\nanthropic", "\r\nanthropic");
        let got = ask(house.door, &head, BODY.as_bytes()).await;
        assert_eq!((got.status, got.rule().as_str()), (403, rule));
        let verdict = house.refusal().await;
        assert_eq!(verdict.rule, rule);
        let recorded = serde_json::to_string(&verdict).unwrap();
        assert!(!recorded.contains("stolen") && !recorded.contains(HANDLE) && !got.text().contains("stolen"));
    }
    house.said_nothing_more().await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_feature_switched_on_by_a_header_goes_on_only_if_it_is_listed() {
    let mut provider = Provider::answering(whole(OK, "{}")).await;
    let mut house = House::granting(Dialect::Anthropic, url(&provider.base)).await;
    let with = |more: &str| head("/v1/messages", BODY.len()).replace("x-other:", &format!("{more}\r\nx-other:"));
    for (more, named) in [
        ("anthropic-beta: web-fetch-2025-09-10", "web-fetch-2025-09-10"),
        ("Anthropic-Beta: effort-2025-11-24,mcp-client-2025-11-20", "mcp-client-2025-11-20"),
        ("anthropic-beta: effort-2025-11-24\r\nanthropic-beta: tomorrow-2027-01-01", "tomorrow-2027-01-01"),
        ("openai-beta: assistants=v2", "assistants=v2"),
    ] {
        let got = ask(house.door, &with(more), BODY.as_bytes()).await;
        assert_eq!((got.status, got.rule().as_str()), (403, "model.beta"), "{more}");
        assert!(house.refusal().await.why.contains(named), "{more}");
    }
    let allowed = "interleaved-thinking-2025-05-14,extended-cache-ttl-2025-04-11";
    assert_eq!(ask(house.door, &with(&format!("anthropic-beta: {allowed}")), BODY.as_bytes()).await.status, 200);
    assert_eq!(provider.seen().await.header("anthropic-beta"), Some(allowed));
}

#[tokio::test(flavor = "current_thread")]
async fn a_body_over_32_mib_is_refused_before_anyone_is_asked() {
    let mut house = House::granting(Dialect::Anthropic, nowhere()).await;
    let got = ask(house.door, &head("/v1/messages", 32 * 1024 * 1024 + 1), b"").await;
    assert_eq!((got.status, got.rule().as_str()), (413, "body.too-long"));
    assert_eq!(house.refusal().await.rule, "body.too-long");
}

#[tokio::test(flavor = "current_thread")]
async fn a_body_of_millions_of_values_is_refused_and_nobody_is_asked() {
    let mut house = House::granting(Dialect::Anthropic, nowhere()).await;
    let body = format!(r#"{{"model":"x","messages":[{}0]}}"#, r#"{"":0},"#.repeat(4_000_000));
    let got = call(house.door, "/v1/messages", &body).await;
    assert_eq!((got.status, got.rule().as_str()), (403, "model.body"));
    let verdict = house.refusal().await;
    assert!(verdict.why.contains("200000 values"), "{}", verdict.why);
    house.said_nothing_more().await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_handle_that_was_never_minted_is_refused_before_the_body_is_sent() {
    let mut house = House::granting(Dialect::Anthropic, nowhere()).await;
    let head = head("/v1/messages", 1_000_000).replace(HANDLE, "vh_junk");
    // Not a byte of the body: an answer before it is the only one that can come.
    let got = ask(house.door, &head, b"").await;
    assert_eq!((got.status, got.rule().as_str()), (403, "handle.foreign"));
    assert_eq!(house.refusal().await.body_sha256, None);
}

#[tokio::test(flavor = "current_thread")]
async fn what_policy_refuses_is_not_asked_for() {
    let mut house = House::granting(Dialect::Anthropic, nowhere()).await;
    let got = call(house.door, "/v1/files", BODY).await;
    assert_eq!(got.status, 403);
    let verdict = house.refusal().await;
    assert_eq!((verdict.rule, verdict.target.as_str()), (got.rule(), "/model/m/v1/files"));
    assert_eq!(verdict.body_sha256.unwrap().len(), 64);
    house.said_nothing_more().await;
}

#[tokio::test(flavor = "current_thread")]
async fn what_the_server_denies_is_refused_in_its_words_and_recorded_by_it_alone() {
    let mut house = House::granting(Dialect::Anthropic, nowhere()).await;
    house.answer_with(Word::Deny);
    let got = call(house.door, "/v1/messages", BODY).await;
    assert_eq!((got.status, got.rule().as_str()), (403, "budget.cost"));
    assert!(got.text().contains("It is spent."));
    house.question().await;
    house.said_nothing_more().await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_model_of_another_wire_format_is_refused_and_settled() {
    let mut provider = Provider::answering(whole(OK, "{}")).await;
    let mut house = House::granting(Dialect::Openai, url(&provider.base)).await;
    let got = call(house.door, "/v1/messages", BODY).await;
    assert_eq!((got.status, got.rule().as_str()), (403, "model.dialect"));
    house.question().await;
    let settled = house.settled().await;
    assert_eq!((settled.status, settled.usage.total()), (0, 0));
    let verdict = house.refusal().await;
    assert_eq!((verdict.rule.as_str(), verdict.grant.as_deref()), ("model.dialect", Some("grant1")));
    assert!(!provider.saw_more());
}

#[tokio::test(flavor = "current_thread")]
async fn an_address_that_is_not_public_is_refused_unless_marked_internal() {
    let mut provider = Provider::answering(whole(OK, "{}")).await;
    let mut house = House::granting(Dialect::Anthropic, nowhere()).await;
    let port = provider.base.rsplit(':').next().unwrap().to_owned();
    for base in [
        provider.base.clone(),
        provider.by_name(),
        format!("https://localhost:{port}"),
        format!("http://0x7f.1:{port}"),
        format!("http://[::ffff:127.0.0.1]:{port}"),
        format!("http://[::1]:{port}"),
        "http://169.254.169.254".to_owned(),
    ] {
        let place = Place::Url { base: base.clone(), internal: false };
        house.answer_with(Word::Grant { dialect: Dialect::Anthropic, place, key: KEY.to_owned() });
        let got = call(house.door, "/v1/messages", BODY).await;
        assert_eq!((got.status, got.rule().as_str()), (403, "egress.private"), "{base}");
        assert!(!got.text().contains("127.0.0.1"));
        house.question().await;
        assert_eq!(house.settled().await.status, 0);
        assert_eq!(house.refusal().await.rule, "egress.private");
    }
    assert!(!provider.saw_more());
}

#[tokio::test(flavor = "current_thread")]
async fn a_public_address_without_tls_gets_no_key() {
    let mut house = House::granting(Dialect::Anthropic, nowhere()).await;
    // Refused before anything is sent: nobody is there to answer.
    let place = Place::Url { base: "http://1.1.1.1".to_owned(), internal: false };
    house.answer_with(Word::Grant { dialect: Dialect::Anthropic, place, key: KEY.to_owned() });
    let got = call(house.door, "/v1/messages", BODY).await;
    assert_eq!((got.status, got.rule().as_str()), (403, "egress.plain"));
    house.question().await;
    house.settled().await;
    assert_eq!(house.refusal().await.rule, "egress.plain");
}

#[tokio::test(flavor = "current_thread")]
async fn a_redirect_is_not_followed() {
    let mut other = Provider::answering(whole(OK, "{}")).await;
    let moved = format!("307 Temporary Redirect\r\nlocation: {}/v1/messages", other.base);
    let provider = Provider::answering(whole(&moved, "")).await;
    let mut house = House::granting(Dialect::Anthropic, url(&provider.base)).await;
    let got = call(house.door, "/v1/messages", BODY).await;
    assert_eq!((got.status, got.rule().as_str()), (502, "upstream.redirect"));
    assert!(!got.head.contains("location"));
    house.question().await;
    assert_eq!(house.settled().await.status, 307);
    assert_eq!(house.refusal().await.rule, "upstream.redirect");
    assert!(!other.saw_more());
}

#[tokio::test(flavor = "current_thread")]
async fn an_answer_that_cannot_be_scrubbed_is_not_passed_on() {
    let provider = Provider::answering(chunked("200 OK\r\ncontent-encoding: gzip", &[b"\x1f\x8b"])).await;
    let mut house = House::granting(Dialect::Anthropic, url(&provider.base)).await;
    let got = call(house.door, "/v1/messages", BODY).await;
    assert_eq!((got.status, got.rule().as_str()), (502, "upstream.encoding"));
    house.question().await;
    assert_eq!(house.settled().await.status, 200);
    assert_eq!(house.refusal().await.rule, "upstream.encoding");
}

#[tokio::test(flavor = "current_thread")]
async fn while_the_server_is_away_everything_is_refused_and_nothing_dispatched() {
    let mut provider = Provider::answering(whole(OK, r#"{"usage":{"input_tokens":1,"output_tokens":1}}"#)).await;
    let mut house = House::granting(Dialect::Anthropic, url(&provider.base)).await;
    house.kill_server().await;
    let lost = loop {
        // Until the gateway has noticed, it may still believe the connection and lose the question with it.
        let got = call(house.door, "/v1/messages", BODY).await;
        assert_eq!(got.status, 503);
        if !provider.saw_more() {
            break got;
        }
    };
    assert_eq!(lost.rule(), "record.lost");
    assert!(lost.head.contains("retry-after"));
    assert!(!provider.saw_more());

    house.restart_server();
    house.until_up().await;
    assert_eq!(call(house.door, "/v1/messages", BODY).await.status, 200);
    house.question().await;
    assert!(matches!(house.hear().await, FromGateway::Settle { status: 200, .. }));
}

#[tokio::test(flavor = "current_thread")]
async fn a_provider_that_is_not_there_is_a_fault_without_its_address() {
    let mut house = House::granting(Dialect::Anthropic, nowhere()).await;
    let got = call(house.door, "/v1/messages", BODY).await;
    assert_eq!((got.status, got.rule().as_str()), (502, "upstream.unreachable"));
    assert_eq!(got.json()["error"]["type"], "volary_fault");
    assert!(!got.text().contains("127.0.0.1"));
    house.question().await;
    let settled = house.settled().await;
    assert_eq!((settled.status, settled.usage.total()), (0, 0));
    house.said_nothing_more().await;
}

#[tokio::test(flavor = "current_thread")]
async fn a_refusals_record_is_on_its_way_before_the_answer() {
    let mut house = House::granting(Dialect::Anthropic, nowhere()).await;
    house.kill_server().await;
    let mut server = house.deaf_server().await;
    server.set_nonblocking(true).unwrap();
    let request = "GET /now HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let mut sent = vec![0; 64 * 1024];
    loop {
        let status = ask(house.door, request, b"").await.status;
        // Nobody waits here: what is not in the socket yet when the answer is read came after it.
        let read = server.read(&mut sent);
        if status == 403 {
            let record = String::from_utf8_lossy(&sent[..read.expect("a record before the answer")]).into_owned();
            assert!(record.contains("door.closed") && record.contains("/now"), "{record}");
            break;
        }
        assert_eq!(status, 503);
    }
}

/// Sends `times` requests over one connection, and gives the status of each.
async fn knock(house: &House, request: &str, times: usize) -> Vec<String> {
    let mut stream = tokio::net::TcpStream::connect(house.door).await.unwrap();
    let mut statuses = Vec::new();
    let mut got = vec![0; 16 * 1024];
    for _ in 0..times {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"}}") {
            let read = soon("an answer", stream.read(&mut got)).await.unwrap();
            assert_ne!(read, 0, "it hung up");
            answer.extend_from_slice(&got[..read]);
        }
        statuses.push(String::from_utf8_lossy(&answer[..12]).into_owned());
    }
    statuses
}

#[tokio::test(flavor = "current_thread")]
async fn after_1000_refusals_of_a_run_they_are_only_counted_and_the_count_is_recorded_at_its_end() {
    let mut house = House::granting(Dialect::Anthropic, nowhere()).await;
    // One was refused while the house was built, and the server has its record.
    let statuses = knock(&house, "GET /again HTTP/1.1\r\nhost: x\r\n\r\n", 1499).await;
    assert!(statuses.iter().all(|status| status == "HTTP/1.1 403"), "every one is answered");
    for _ in 0..999 {
        assert_eq!(house.refusal().await.rule, "door.closed");
    }
    let last = house.refusal().await;
    assert_eq!(last.rule, "door.flood");
    assert!(!last.allowed && last.why.contains("counted"), "{}", last.why);

    // The other run has its own count.
    let other = house.second_run().await;
    assert_eq!(ask(other, "GET /other HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", b"").await.status, 403);
    assert!(matches!(house.hear().await, FromGateway::Refused { verdict, .. } if verdict.target == "/other"));

    house.send(&ToCable::Detach { run: house.run.clone() }, None);
    let count = house.refusal().await;
    assert_eq!(count.rule, "door.flood");
    assert!(count.why.starts_with("500 further requests"), "{}", count.why);
}

#[tokio::test(flavor = "current_thread")]
async fn after_1000_denials_in_a_row_the_server_is_not_asked_again() {
    let mut house = House::granting(Dialect::Anthropic, nowhere()).await;
    house.answer_with(Word::Deny);
    let request = head("/v1/messages", BODY.len()).replace("connection: close\r\n", "") + BODY;
    assert_eq!(knock(&house, &request, 999).await.len(), 999);
    for _ in 0..999 {
        house.question().await;
    }
    let granting = Word::Grant { dialect: Dialect::Anthropic, place: nowhere(), key: KEY.to_owned() };
    house.answer_with(granting);
    assert_eq!(call(house.door, "/v1/messages", BODY).await.status, 502, "granted, and nobody is there");
    house.question().await;
    house.settled().await;
    house.answer_with(Word::Deny);
    assert_eq!(knock(&house, &request, 1000).await.len(), 1000);
    for _ in 0..1000 {
        house.question().await;
    }
    let got = call(house.door, "/v1/messages", BODY).await;
    assert_eq!((got.status, got.rule().as_str()), (403, "door.flood"));
    assert_eq!(house.refusal().await.rule, "door.flood");
    house.said_nothing_more().await;
}
