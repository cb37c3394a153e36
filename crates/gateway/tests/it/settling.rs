//! Every grant is settled exactly once, whatever ends its call.

use crate::house::{HANDLE, House, Word, call, head, route, soon, url};
use crate::provider::{Provider, Step, chunk, chunked, whole};
use api::cable::ToCable;
use api::grants::{Answer, FromGateway, ToGateway};
use model::{Dialect, GrantId, MicroDollars, Usage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const BODY: &str = r#"{"model":"claude-x","max_tokens":64,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
const EVENTS: &str = "200 OK\r\ncontent-type: text/event-stream";
const START: &[u8] = b"event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\n\n";
const TEN_BYTES: &[u8] = b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"0123456789\"}}\n\n";
/// What was reported, and ten bytes of text at three a token.
const SEEN: Usage = Usage { input: 25, output: 4, cache_read: 0, cache_write: 0, cache_write_1h: 0 };

/// A provider that begins its answer and then does no more.
async fn stuck() -> Provider {
    let mut steps = chunked(EVENTS, &[START, TEN_BYTES]);
    steps.pop();
    steps.push(Step::Hang);
    Provider::answering(steps).await
}

/// A client that has read `until` of its answer.
async fn client_in_the_middle(house: &House, until: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(house.door).await.unwrap();
    stream.write_all((head("/v1/messages", BODY.len()) + BODY).as_bytes()).await.unwrap();
    let mut got = Vec::new();
    while !got.windows(until.len()).any(|w| w == until) {
        assert_ne!(soon("the answer's middle", stream.read_buf(&mut got)).await.unwrap(), 0);
    }
    stream
}

#[tokio::test(flavor = "current_thread")]
async fn when_the_client_hangs_up_in_the_middle() {
    let provider = stuck().await;
    let mut house = House::granting(Dialect::Anthropic, url(&provider.base)).await;
    drop(client_in_the_middle(&house, TEN_BYTES).await);
    house.question().await;
    let settled = house.settled().await;
    assert_eq!((settled.status, settled.interrupted, settled.usage), (200, true, SEEN));
    house.said_nothing_more().await;
}

#[tokio::test(flavor = "current_thread")]
async fn when_the_client_hangs_up_before_the_head() {
    let mut provider = Provider::answering(vec![Step::Hang]).await;
    let mut house = House::granting(Dialect::Anthropic, url(&provider.base)).await;
    let mut stream = TcpStream::connect(house.door).await.unwrap();
    stream.write_all((head("/v1/messages", BODY.len()) + BODY).as_bytes()).await.unwrap();
    provider.seen().await;
    drop(stream);
    house.question().await;
    let settled = house.settled().await;
    assert_eq!((settled.status, settled.interrupted), (0, true));
    assert_eq!(settled.usage, Usage { input: (BODY.len() as u64).div_ceil(4), ..Usage::default() });
    house.said_nothing_more().await;
}

#[tokio::test(flavor = "current_thread")]
async fn when_the_provider_breaks_off_and_the_client_learns_it() {
    let mut steps = chunked(EVENTS, &[START, TEN_BYTES]);
    steps.pop();
    let provider = Provider::answering(steps).await;
    let mut house = House::granting(Dialect::Anthropic, url(&provider.base)).await;
    let got = call(house.door, "/v1/messages", BODY).await;
    assert_eq!(got.status, 200);
    assert!(!got.whole, "the last chunk must not come");
    house.question().await;
    let settled = house.settled().await;
    assert_eq!((settled.status, settled.interrupted, settled.usage), (200, true, SEEN));
    house.said_nothing_more().await;
}

#[tokio::test(flavor = "current_thread")]
async fn when_the_provider_closes_without_an_answer() {
    let provider = Provider::answering(Vec::new()).await;
    let mut house = House::granting(Dialect::Anthropic, url(&provider.base)).await;
    let got = call(house.door, "/v1/messages", BODY).await;
    assert_eq!((got.status, got.rule().as_str()), (502, "upstream.cut"));
    house.question().await;
    let settled = house.settled().await;
    assert_eq!((settled.status, settled.interrupted), (0, true));
    house.said_nothing_more().await;
}

#[tokio::test(flavor = "current_thread")]
async fn when_the_client_hangs_up_after_the_streams_last_word_nothing_was_interrupted() {
    let last = b"event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":9}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    let mut steps = chunked(EVENTS, &[START]);
    steps.pop();
    steps.extend([chunk(last), Step::Hang]);
    let provider = Provider::answering(steps).await;
    let mut house = House::granting(Dialect::Anthropic, url(&provider.base)).await;
    drop(client_in_the_middle(&house, b"message_stop\"}\n\n").await);
    house.question().await;
    let settled = house.settled().await;
    assert!(!settled.interrupted);
    assert_eq!(settled.usage, Usage { input: 25, output: 9, ..Usage::default() });
}

#[tokio::test(flavor = "current_thread")]
async fn when_the_server_closes_the_run_its_calls_are_cut_and_its_door_stays() {
    let provider = stuck().await;
    let mut house = House::granting(Dialect::Anthropic, url(&provider.base)).await;
    let mut client = client_in_the_middle(&house, TEN_BYTES).await;
    house.say.send(ToGateway::Close { run: house.run.clone() }).unwrap();
    // The connection ends, in order or not.
    let _ = soon("the cut", client.read_to_end(&mut Vec::new())).await;
    house.question().await;
    assert!(house.settled().await.interrupted);
    house.said_nothing_more().await;
}

#[tokio::test(flavor = "current_thread")]
async fn when_the_operator_detaches_the_run_its_calls_are_cut_and_its_door_is_shut() {
    let provider = stuck().await;
    let mut house = House::granting(Dialect::Anthropic, url(&provider.base)).await;
    let mut client = client_in_the_middle(&house, TEN_BYTES).await;
    house.send(&ToCable::Detach { run: house.run.clone() }, None);
    let _ = soon("the cut", client.read_to_end(&mut Vec::new())).await;
    house.question().await;
    assert!(house.settled().await.interrupted);
    assert!(TcpStream::connect(house.door).await.is_err());
}

#[tokio::test(flavor = "current_thread")]
async fn when_the_answer_to_the_question_comes_after_the_client_is_gone() {
    let mut provider = Provider::answering(whole("200 OK", "{}")).await;
    let mut house = House::granting(Dialect::Anthropic, url(&provider.base)).await;
    house.answer_with(Word::Silence);
    let mut stream = TcpStream::connect(house.door).await.unwrap();
    stream.write_all((head("/v1/messages", BODY.len()) + BODY).as_bytes()).await.unwrap();
    let FromGateway::Ask { id, .. } = house.hear().await else { panic!("not a question") };
    drop(stream);
    // A refusal on another connection shows that the gateway has had its turn to notice.
    house.said_nothing_more().await;
    let answer = Answer::Granted {
        sought: model::profile::Sought::default(),
        grant: GrantId::parse("grant1").unwrap(),
        upstream: route(Dialect::Anthropic, url(&provider.base), "k"),
        reserved: MicroDollars(1),
    };
    house.say.send(ToGateway::Answer { id, answer }).unwrap();
    let settled = house.settled().await;
    assert_eq!((settled.status, settled.interrupted, settled.usage.total()), (0, true, 0));
    house.said_nothing_more().await;
    assert!(!provider.saw_more());
}

#[tokio::test(flavor = "current_thread")]
async fn when_the_server_goes_away_in_the_middle_the_settlement_waits_for_its_return() {
    let provider = stuck().await;
    let mut house = House::granting(Dialect::Anthropic, url(&provider.base)).await;
    let client = client_in_the_middle(&house, TEN_BYTES).await;
    house.question().await;
    house.kill_server().await;
    drop(client);
    // Until the gateway refuses for want of a server, it has not noticed.
    while call(house.door, "/v1/messages", &format!("{{\"x\":\"{HANDLE}\"}}")).await.rule() != "record.lost" {}
    house.restart_server();
    let settled = house.settled().await;
    assert_eq!((settled.status, settled.interrupted, settled.usage), (200, true, SEEN));
    house.until_up().await;
    house.said_nothing_more().await;
}
