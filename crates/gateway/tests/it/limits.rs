//! Time at the door: who is slow with a head, a body or an answer is cut, and who is slow in time is not.
//!
//! Hours pass in moments here: [`pass`] moves the clock of the test's runtime, in which the gateway stands too.

use crate::house::{HANDLE, House, KEY, Word, call, head, pass, past, soon, url};
use crate::provider::{Provider, Step, chunk, whole};
use model::Dialect;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

const BODY: &str = r#"{"model":"claude-x","max_tokens":64,"messages":[{"role":"user","content":"hi"}]}"#;
const ANSWER: &str = r#"{"usage":{"input_tokens":1,"output_tokens":1}}"#;
const MESSAGES: &str = "/v1/messages";

async fn granting(base: &str) -> House {
    House::granting(Dialect::Anthropic, url(base)).await
}

/// A connection on which these bytes were sent.
async fn saying(door: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(door).await.expect("the door is open");
    stream.write_all(bytes).await.expect("sent");
    stream
}

/// Reads until this is there.
async fn until(stream: &mut (impl AsyncRead + Unpin), needle: &str) -> String {
    soon(needle, async {
        let mut all = Vec::new();
        while !String::from_utf8_lossy(&all).contains(needle) {
            assert_ne!(stream.read_buf(&mut all).await.expect("read"), 0, "it ended: {}", all.escape_ascii());
        }
        String::from_utf8_lossy(&all).into_owned()
    })
    .await
}

/// All that comes until the end, however it ends.
async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut all = Vec::new();
    drop(stream.read_to_end(&mut all).await);
    all
}

#[tokio::test(flavor = "current_thread")]
async fn a_head_that_is_not_whole_in_30_seconds_ends_its_connection_whether_it_stands_or_drips() {
    let house = granting("http://127.0.0.1:9").await;
    let mut stands = saying(house.door, b"GET / HT").await;
    assert!(past("its end", 30, rest(&mut stands)).await.is_empty());

    // One byte every five seconds: the head has its time, not each of its bytes.
    let slow = async |mut stream: TcpStream| {
        for _ in 0..12 {
            pass(Duration::from_secs(5)).await;
            // It may have been cut already.
            if stream.write_all(b"x").await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        soon("its end", rest(&mut stream)).await
    };
    assert!(slow(saying(house.door, b"GET /").await).await.is_empty());

    // So has the next one, on a connection that was good so far.
    let mut kept = saying(house.door, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    until(&mut kept, "\r\n\r\n{").await;
    pass(Duration::from_secs(10)).await;
    kept.write_all(b"GET /").await.expect("it lives");
    assert!(!String::from_utf8_lossy(&slow(kept).await).contains("HTTP/1.1"), "nothing more was answered");
}

#[tokio::test(flavor = "current_thread")]
async fn a_body_that_is_not_whole_in_30_seconds_is_refused_and_recorded() {
    let mut house = granting("http://127.0.0.1:9").await;
    let whole = head(MESSAGES, 1000);
    let mut stands = saying(house.door, format!("{whole}{{\"model\"").as_bytes()).await;
    // Another's request is answered, so that this one's head has been read: a head has its own thirty seconds.
    house.said_nothing_more().await;
    let got = past("a refusal", 30, rest(&mut stands)).await;
    let got = crate::house::parse(&got, true);
    assert_eq!((got.status, got.rule().as_str()), (408, "body.slow"));
    assert_eq!(house.refusal().await.rule, "body.slow");
}

/// A provider's answer of which the second half waits for a word of the test.
async fn in_two_halves() -> (Provider, Arc<Notify>) {
    let word = Arc::new(Notify::new());
    let head =
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    let steps = vec![
        Step::Send(head.to_vec()),
        chunk(b"{\"usage\":\n"),
        Step::Wait(word.clone()),
        chunk(br#"{"input_tokens":1,"output_tokens":1}}"#),
        Step::Send(b"0\r\n\r\n".to_vec()),
    ];
    (Provider::answering(steps).await, word)
}

#[tokio::test(flavor = "current_thread")]
async fn a_call_has_600_seconds_from_its_head_to_the_last_byte_and_no_more() {
    let (provider, word) = in_two_halves().await;
    let mut house = granting(&provider.base).await;
    let request = format!("{}{BODY}", head(MESSAGES, BODY.len()));

    let mut in_time = saying(house.door, request.as_bytes()).await;
    until(&mut in_time, "usage").await;
    pass(Duration::from_secs(500)).await;
    word.notify_one();
    until(&mut in_time, "output_tokens").await;
    assert!(!house.settled_of_a_call().await.interrupted);

    let mut late = saying(house.door, request.as_bytes()).await;
    until(&mut late, "usage").await;
    let got = past("its end", 600, rest(&mut late)).await;
    assert!(got.is_empty(), "{}", got.escape_ascii());
    assert!(house.settled_of_a_call().await.interrupted);
}

#[tokio::test(flavor = "current_thread")]
async fn a_server_that_says_nothing_for_30_seconds_has_allowed_nothing() {
    let mut provider = Provider::answering(whole("200 OK\r\ncontent-type: application/json", ANSWER)).await;
    let mut house = granting(&provider.base).await;
    house.answer_with(Word::Silence);
    let mut asking = saying(house.door, format!("{}{BODY}", head(MESSAGES, BODY.len())).as_bytes()).await;
    house.question().await;
    let got = past("a refusal", 30, rest(&mut asking)).await;
    let got = crate::house::parse(&got, true);
    assert_eq!((got.status, got.rule().as_str()), (503, "record.lost"));
    assert!(!provider.saw_more());
}

/// A port on which connections are taken by nobody: the kernel's queue is full.
async fn full(at: &str) -> (SocketAddr, [std::os::fd::OwnedFd; 1], Vec<TcpStream>) {
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .expect("a socket");
    rustix::net::bind(&socket, &at.parse::<SocketAddr>().expect("an address")).expect("bound");
    rustix::net::listen(&socket, 0).expect("listening");
    let listener = std::net::TcpListener::from(socket);
    let address = listener.local_addr().expect("an address");
    let waiting = vec![TcpStream::connect(address).await.expect("one has room")];
    (address, [listener.into()], waiting)
}

#[tokio::test(flavor = "current_thread")]
async fn a_provider_that_takes_no_connection_or_no_tls_is_given_up_after_ten_seconds() {
    let (address, _listener, _waiting) = full("127.0.0.1:0").await;
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_at = silent.local_addr().unwrap();
    for base in [format!("http://{address}"), format!("https://{silent_at}")] {
        let mut house = granting(&base).await;
        let mut asking = saying(house.door, format!("{}{BODY}", head(MESSAGES, BODY.len())).as_bytes()).await;
        house.question().await;
        let got = past("a fault", 10, rest(&mut asking)).await;
        let got = crate::house::parse(&got, true);
        assert_eq!((got.status, got.rule().as_str()), (502, "upstream.unreachable"), "{base}");
        assert!(!String::from_utf8_lossy(&got.body).contains(KEY));
        assert!(house.settled_of_a_call().await.interrupted);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_client_that_takes_nothing_of_a_models_answer_for_a_minute_is_cut() {
    let piece = vec![b'x'; 64 * 1024];
    let mut steps =
        vec![Step::Send(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 1000000000\r\n\r\n".to_vec())];
    steps.extend(std::iter::repeat_n(Step::Send(piece), 15_000));
    let provider = Provider::answering(steps).await;
    let mut house = granting(&provider.base).await;
    let mut takes_nothing = saying(house.door, format!("{}{BODY}", head(MESSAGES, BODY.len())).as_bytes()).await;
    house.question().await;
    until(&mut takes_nothing, "xxx").await;
    let settled = past("its end", 60, house.settled_of_a_call()).await;
    assert!(settled.interrupted);
}

#[tokio::test(flavor = "current_thread")]
async fn a_slow_one_keeps_nobody_else_waiting() {
    let mut provider = Provider::answering(whole("200 OK\r\ncontent-type: application/json", ANSWER)).await;
    let house = granting(&provider.base).await;
    let mut slow = Vec::new();
    for _ in 0..60 {
        slow.push(saying(house.door, head(MESSAGES, 1000).as_bytes()).await);
    }
    assert_eq!(call(house.door, MESSAGES, BODY).await.status, 200);
    assert!(!provider.seen().await.head.contains(HANDLE));
}
