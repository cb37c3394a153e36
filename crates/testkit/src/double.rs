//! A model provider on loopback that answers as the real ones write, and keeps every request it got.

use crate::wire::Format;
use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use model::Usage;
use serde_json::Value;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

/// One answer.
#[derive(Debug, Clone, Default)]
pub struct Turn {
    /// What the model says, or its error's message; `{key}` in it is the key that the request showed.
    pub text: String,
    /// What it reasoned, encrypted: in Responses, and as Gemini's signature.
    pub reasoning: Option<String>,
    /// Which tools it asks for: name and input. `{lease 1}` in an input is the first lease that the request tells of, and so on.
    pub tools: Vec<(String, Value)>,
    /// What it reports as used.
    pub usage: Usage,
    /// Milliseconds before each event of a stream.
    pub pause_ms: u64,
    /// Breaks a stream off at half of its events.
    pub cut: bool,
    /// Answers with this error status instead.
    pub fail: Option<u16>,
    /// `Retry-After` of that error, in seconds.
    pub retry_after_secs: Option<u64>,
}

impl Turn {
    /// An answer in words.
    #[must_use]
    pub fn says(text: &str) -> Self {
        Self { text: text.into(), usage: Usage { input: 10, output: 5, ..Usage::default() }, ..Self::default() }
    }
    /// An answer that asks for one tool.
    #[must_use]
    pub fn calls(name: &str, input: Value) -> Self {
        Self { tools: vec![(name.into(), input)], ..Self::says("") }
    }
    /// An error.
    #[must_use]
    pub fn fails(status: u16) -> Self {
        Self { fail: Some(status), ..Self::default() }
    }
}

/// One request as it arrived.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case and values, in the order of arrival.
    pub headers: Vec<(String, String)>,
    /// The bytes of the body.
    pub body: Vec<u8>,
}

impl Request {
    /// The first header of this name (in lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the request's body is JSON")
    }
}

/// A provider that speaks Anthropic Messages, OpenAI Chat Completions, OpenAI Responses and Gemini, told apart by
/// path; streaming when the request asks for it.
///
/// A request without the right key gets 401; the others get the turns in order, one each; after the last, 400.
pub struct ModelDouble {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    end: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

struct State {
    key: String,
    turns: VecDeque<Turn>,
    requests: Vec<Request>,
}

impl ModelDouble {
    /// Starts one on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// When no port can be had.
    #[must_use]
    pub fn start(key: &str, turns: Vec<Turn>) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a listener can be non-blocking");
        let address = listener.local_addr().expect("a listener has an address");
        let state = Arc::new(Mutex::new(State { key: key.into(), turns: turns.into(), requests: Vec::new() }));
        let (end, ended) = tokio::sync::oneshot::channel();
        let shared = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, shared) => {}
                    // Sent, or dropped with the double: the end either way.
                    _ = ended => {}
                }
            });
        });
        Self { address, state, end: Some(end), thread: Some(thread) }
    }

    /// Its base address, as `volary model add` takes it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request so far, refused ones too.
    ///
    /// # Panics
    /// When the double itself panicked.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.state.lock().expect("the double lives").requests.clone()
    }

    /// Adds turns after those that are left.
    ///
    /// # Panics
    /// When the double itself panicked.
    pub fn then(&self, turns: Vec<Turn>) {
        self.state.lock().expect("the double lives").turns.extend(turns);
    }
}

impl Drop for ModelDouble {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the model's double panicked");
        }
    }
}

async fn serve(listener: std::net::TcpListener, state: Arc<Mutex<State>>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&state)));
            // A client that goes away, and a stream that is cut on purpose, both end here.
            drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

async fn answer(
    request: hyper::Request<Incoming>,
    state: Arc<Mutex<State>>,
) -> Result<hyper::Response<Pieces>, io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let headers = head.headers.iter();
    let headers: Vec<(String, String)> =
        headers.map(|(n, v)| (n.as_str().to_owned(), String::from_utf8_lossy(v.as_bytes()).into_owned())).collect();
    let request =
        Request { method: head.method.as_str().to_owned(), target: head.uri.to_string(), headers, body: body.to_vec() };
    let format = (head.method == hyper::Method::POST).then(|| Format::of(head.uri.path())).flatten();
    let mut state = state.lock().expect("the double lives");
    state.requests.push(request.clone());
    let Some(format) = format else {
        return Ok(failure(Format::Chat, 404, "not_found_error", "no such path", None));
    };
    let key = match format {
        Format::Messages => request.header("x-api-key"),
        Format::Gemini => request.header("x-goog-api-key"),
        _ => request.header("authorization").and_then(|value| value.strip_prefix("Bearer ")),
    };
    if key != Some(state.key.as_str()) {
        return Ok(failure(format, 401, "authentication_error", "invalid x-api-key", None));
    }
    let Ok(asked) = serde_json::from_slice::<Value>(&body) else {
        return Ok(failure(format, 400, "invalid_request_error", "the body is not JSON", None));
    };
    let Some(mut turn) = state.turns.pop_front() else {
        return Ok(failure(format, 400, "invalid_request_error", "the double has no further turn", None));
    };
    turn.text = turn.text.replace("{key}", &state.key);
    drop(state);
    fill_leases(&mut turn, &String::from_utf8_lossy(&body));
    if let Some(status) = turn.fail {
        let kind = match status {
            429 => "rate_limit_error",
            529 => "overloaded_error",
            _ => "api_error",
        };
        let message = if turn.text.is_empty() { "as the test asked" } else { &turn.text };
        return Ok(failure(format, status, kind, message, turn.retry_after_secs));
    }
    let in_path = head.uri.path().rsplit_once('/').and_then(|(_, end)| end.split_once(':'));
    let (model, stream) = match in_path.filter(|_| format == Format::Gemini) {
        Some((model, act)) => (model, act == "streamGenerateContent" && head.uri.query() == Some("alt=sse")),
        None => (asked["model"].as_str().unwrap_or_default(), asked["stream"] == Value::Bool(true)),
    };
    if !stream {
        let whole = format.whole(model, &turn).to_string();
        return Ok(respond(200, "application/json", Pieces::of(vec![whole])));
    }
    let usage = asked["stream_options"]["include_usage"] == Value::Bool(true);
    let mut events = format.events(model, &turn, usage);
    if turn.cut {
        events.truncate(events.len() / 2);
    }
    let pieces = Pieces { cut: turn.cut, pause: Duration::from_millis(turn.pause_ms), ..Pieces::of(events) };
    Ok(respond(200, "text/event-stream; charset=utf-8", pieces))
}

/// Puts the leases that a request tells of into the tools that are asked for.
fn fill_leases(turn: &mut Turn, body: &str) {
    let is_id = |text: &&str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let ids = body.split("lease ").skip(1).filter_map(|rest| rest.get(..26)).filter(is_id);
    for (n, id) in ids.enumerate() {
        for (_, input) in &mut turn.tools {
            let filled = input.to_string().replace(&format!("{{lease {}}}", n + 1), id);
            *input = serde_json::from_str(&filled).expect("it is JSON still");
        }
    }
}

fn failure(format: Format, status: u16, kind: &str, message: &str, wait: Option<u64>) -> hyper::Response<Pieces> {
    let body = format.error(status, kind, message).to_string();
    let mut response = respond(status, "application/json", Pieces::of(vec![body]));
    if let Some(secs) = wait {
        response.headers_mut().insert(hyper::header::RETRY_AFTER, HeaderValue::from(secs));
    }
    response
}

fn respond(status: u16, kind: &'static str, body: Pieces) -> hyper::Response<Pieces> {
    let mut response = hyper::Response::new(body);
    *response.status_mut() = hyper::StatusCode::from_u16(status).expect("a status");
    let headers = response.headers_mut();
    headers.insert(hyper::header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(HeaderName::from_static("request-id"), HeaderValue::from_static("req_018EeWyXxfu5pfWkrYcMdjWG"));
    response
}

/// A body that leaves piece by piece, and may break off.
struct Pieces {
    left: VecDeque<String>,
    pause: Duration,
    waiting: Option<Pin<Box<tokio::time::Sleep>>>,
    cut: bool,
}

impl Pieces {
    fn of(pieces: Vec<String>) -> Self {
        Self { left: pieces.into(), pause: Duration::ZERO, waiting: None, cut: false }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        // hyper throws away what it still holds when a body breaks: the pieces must have left before.
        let pause = if self.left.is_empty() && self.cut { Duration::from_millis(100) } else { self.pause };
        let ended = self.left.is_empty() && !self.cut;
        if !ended && !pause.is_zero() {
            let waiting = self.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
            std::task::ready!(waiting.as_mut().poll(cx));
            self.waiting = None;
        }
        Poll::Ready(match self.left.pop_front() {
            Some(piece) => Some(Ok(Frame::data(Bytes::from(piece)))),
            None if self.cut => Some(Err(io::Error::other("cut, as the test asked"))),
            None => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    /// Sends one request and gives the whole answer as text, up to its end or its break.
    fn post(double: &ModelDouble, path: &str, key: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(double.address).unwrap();
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-api-key: {key}\r\n\
             authorization: Bearer {key}\r\nx-goog-api-key: {key}\r\ncontent-length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[test]
    fn each_path_is_answered_in_its_own_format_streamed_or_not() {
        let turn = Turn::calls("read", serde_json::json!({"path": "max.c"}));
        for (path, whole, streamed) in [
            ("/v1/messages", "\"type\":\"tool_use\"", "event: message_stop"),
            ("/v1/chat/completions", "\"object\":\"chat.completion\"", "data: [DONE]"),
            ("/v1/responses", "\"object\":\"response\"", "event: response.completed"),
        ] {
            let double = ModelDouble::start("k", vec![turn.clone(), turn.clone()]);
            assert!(post(&double, path, "k", r#"{"model":"m"}"#).contains(whole), "{path}");
            assert!(post(&double, path, "k", r#"{"model":"m","stream":true}"#).contains(streamed), "{path}");
            assert_eq!(double.requests().len(), 2);
        }
        let double = ModelDouble::start("k", vec![turn.clone(), turn]);
        let whole = post(&double, "/v1beta/models/m:generateContent", "k", "{}");
        assert!(whole.contains("\"functionCall\":") && !whole.contains("data: "), "{whole}");
        let streamed = post(&double, "/v1beta/models/m:streamGenerateContent?alt=sse", "k", "{}");
        assert!(streamed.contains("data: ") && streamed.contains("\"finishReason\":\"STOP\""), "{streamed}");
    }

    #[test]
    fn a_lease_that_a_request_tells_of_stands_where_a_turn_names_it() {
        let turn = Turn::calls("shell", serde_json::json!({"command": "x", "lease": "{lease 2}"}));
        let double = ModelDouble::start("k", vec![turn]);
        let (one, two) = ("a".repeat(26), "b7".repeat(13));
        let body = format!(r#"{{"of":"a lease for","one":"lease {one}\nFor one use","two":"lease {two}"}}"#);
        assert!(post(&double, "/v1/messages", "k", &body).contains(&two));
    }

    #[test]
    fn a_wrong_key_uses_no_turn_up_and_a_spent_double_says_so() {
        let double = ModelDouble::start("k", vec![Turn::says("hello")]);
        assert!(post(&double, "/v1/messages", "wrong", "{}").starts_with("HTTP/1.1 401"));
        assert!(post(&double, "/v1/messages", "k", "{}").contains("hello"));
        assert!(post(&double, "/v1/messages", "k", "{}").starts_with("HTTP/1.1 400"));
    }

    #[test]
    fn a_cut_stream_has_no_end() {
        let double = ModelDouble::start("k", vec![Turn { cut: true, ..Turn::says("a long enough answer") }]);
        let answer = post(&double, "/v1/messages", "k", r#"{"stream":true}"#);
        assert!(answer.contains("message_start") && !answer.contains("message_stop"), "{answer}");
        assert!(!answer.ends_with("0\r\n\r\n"), "the last chunk must be missing");
    }

    #[test]
    fn a_turn_gives_the_key_back_where_it_names_it_also_as_an_error() {
        let says = Turn::says("your key is {key}.");
        let double = ModelDouble::start("k-1", vec![says.clone(), Turn { fail: Some(500), ..says }]);
        assert!(post(&double, "/v1/messages", "k-1", "{}").contains("your key is k-1."));
        let error = post(&double, "/v1/messages", "k-1", "{}");
        assert!(error.starts_with("HTTP/1.1 500") && error.contains("your key is k-1."), "{error}");
    }

    #[test]
    fn an_overload_says_when_to_come_back() {
        let double = ModelDouble::start("k", vec![Turn { retry_after_secs: Some(3), ..Turn::fails(529) }]);
        let answer = post(&double, "/v1/messages", "k", "{}");
        assert!(answer.starts_with("HTTP/1.1 529") && answer.contains("retry-after: 3"), "{answer}");
    }
}
