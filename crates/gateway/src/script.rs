//! The scripted provider: a model whose words are a file, behind the same door as a real one.
//!
//! It is an upstream like any other: it gets the request over a connection, checks the key that was
//! injected, and speaks the provider's wire format, streaming or whole. Turn *k* answers the request that
//! holds *k* answers of the model, so it keeps no conversation.
//!
//! Read [`Scripts::serve`], [`Provider::answer`], then `wire` (the formats) and [`Pieces`] (the pace).

mod wire;

use api::grants::ScriptTurn;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use model::{Dialect, Secret};
use serde_json::Value;
use std::collections::{HashSet, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::DuplexStream;
use tokio::time::Sleep;

/// Said when a script is over.
const NO_FURTHER_TURN: &str = "The script has no further turn.";
/// Stands in a script's text for the key that the provider was called with.
const CREDENTIAL: &str = "{{credential}}";
/// Seconds after which a scripted overload may be tried again.
const RETRY_AFTER: &str = "1";

/// What scripted providers remember: which turns have failed their one time, by owner.
#[derive(Default)]
pub(crate) struct Scripts {
    failed: Mutex<HashSet<(String, usize)>>,
}

impl Scripts {
    /// Serves one connection of a scripted provider that is called with `key`, in a task that ends with it.
    ///
    /// `owner` is a run and a model's name, `run/name`.
    pub(crate) fn serve(
        self: &Arc<Self>,
        stream: DuplexStream,
        owner: &str,
        dialect: Dialect,
        turns: Vec<ScriptTurn>,
        key: Secret<String>,
    ) {
        let provider = Arc::new(Provider { scripts: self.clone(), owner: owner.to_owned(), dialect, turns, key });
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let provider = provider.clone();
                async move { provider.answer(request).await }
            });
            if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await {
                // A cut of the script's own, or a client that hung up.
                tracing::debug!(%error, "a scripted call ended early");
            }
        });
    }

    /// Forgets what the turns of a run did.
    pub(crate) fn forget(&self, run: &str) {
        let of_run = |owner: &str| owner.split('/').next() == Some(run);
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).retain(|(owner, _)| !of_run(owner));
    }

    /// True the first time it is asked for this turn.
    fn fails_now(&self, owner: &str, turn: usize) -> bool {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).insert((owner.to_owned(), turn))
    }
}

/// A body: whole, or in pieces at a pace.
type Body = Either<Full<Bytes>, Pieces>;

struct Provider {
    scripts: Arc<Scripts>,
    owner: String,
    dialect: Dialect,
    turns: Vec<ScriptTurn>,
    key: Secret<String>,
}

/// What a provider reads in a request.
struct Read {
    model: String,
    stream: bool,
    /// Whether an OpenAI client asked for the usage chunk.
    include_usage: bool,
    /// Answers of the model that stand in the request.
    answers: usize,
    bytes: usize,
}

impl Provider {
    async fn answer(&self, request: Request<Incoming>) -> hyper::Result<Response<Body>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        if !self.key_fits(&head.headers) {
            return Ok(self.error(
                StatusCode::UNAUTHORIZED,
                "authentication_error",
                "The key is not the one of this script.",
            ));
        }
        let served = match self.dialect {
            Dialect::Anthropic => head.uri.path() == "/v1/messages",
            Dialect::Openai => head.uri.path() == "/v1/chat/completions",
            Dialect::OpenaiResponses => head.uri.path() == "/v1/responses",
            Dialect::Gemini => gemini_model(&head.uri).is_some(),
        };
        if !served {
            return Ok(self.error(
                StatusCode::NOT_FOUND,
                "not_found_error",
                "The scripted provider does not serve this path.",
            ));
        }
        let Some(read) = Read::of(self.dialect, &head.uri, &body) else {
            return Ok(self.error(StatusCode::BAD_REQUEST, "invalid_request_error", "The body holds no messages."));
        };
        Ok(self.turn(&read))
    }

    fn key_fits(&self, headers: &HeaderMap) -> bool {
        let key = self.key.expose();
        match self.dialect {
            _ if key.is_empty() => {
                !["x-api-key", "x-goog-api-key", "authorization"].iter().any(|name| headers.contains_key(*name))
            }
            Dialect::Anthropic => headers.get("x-api-key").is_some_and(|v| v.as_bytes() == key.as_bytes()),
            Dialect::Gemini => headers.get("x-goog-api-key").is_some_and(|v| v.as_bytes() == key.as_bytes()),
            Dialect::Openai | Dialect::OpenaiResponses => headers
                .get(header::AUTHORIZATION)
                .and_then(|v| v.as_bytes().strip_prefix(b"Bearer "))
                .is_some_and(|v| v == key.as_bytes()),
        }
    }

    fn turn(&self, read: &Read) -> Response<Body> {
        let n = read.answers;
        let past_the_end = ScriptTurn { text: NO_FURTHER_TURN.to_owned(), ..ScriptTurn::default() };
        let turn = self.turns.get(n).unwrap_or(&past_the_end);
        if let Some(status) = turn.fail_once.filter(|_| self.scripts.fails_now(&self.owner, n)) {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            return self.error(status, "overloaded_error", "The script fails here, once.");
        }
        let said = wire::Said {
            n,
            model: &read.model,
            text: turn.text.replace(CREDENTIAL, self.key.expose()),
            tools: &turn.tools,
            request_bytes: read.bytes,
        };
        let (kind, pieces) = match (read.stream, self.dialect) {
            (true, Dialect::Anthropic) => ("text/event-stream; charset=utf-8", said.anthropic_events()),
            (true, Dialect::Openai) => ("text/event-stream; charset=utf-8", said.openai_events(read.include_usage)),
            (true, Dialect::OpenaiResponses) => ("text/event-stream; charset=utf-8", said.responses_events()),
            (true, Dialect::Gemini) => ("text/event-stream", said.gemini_events()),
            (false, Dialect::Anthropic) => ("application/json", halves(&said.anthropic())),
            (false, Dialect::Openai) => ("application/json", halves(&said.openai())),
            (false, Dialect::OpenaiResponses) => ("application/json", halves(&said.responses())),
            (false, Dialect::Gemini) => ("application/json", halves(&said.gemini())),
        };
        let mut response = Response::new(Either::Right(Pieces::new(pieces, turn.pause_ms, turn.cut)));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        response.headers_mut().insert("request-id", HeaderValue::from_static("req_script"));
        response
    }

    fn error(&self, status: StatusCode, kind: &str, message: &str) -> Response<Body> {
        let mut response =
            Response::new(Either::Left(Full::from(wire::error(self.dialect, status, kind, message).to_string())));
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if matches!(status.as_u16(), 429 | 503 | 529) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER));
        }
        response
    }
}

/// The model that a Gemini path names, and whether its answer streams.
fn gemini_model(uri: &Uri) -> Option<(&str, bool)> {
    let (model, act) = uri.path().strip_prefix("/v1beta/models/")?.split_once(':')?;
    match (act, uri.query()) {
        ("generateContent", None) => Some((model, false)),
        ("streamGenerateContent", Some("alt=sse")) => Some((model, true)),
        _ => None,
    }
}

impl Read {
    fn of(dialect: Dialect, uri: &Uri, body: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(body).ok()?;
        let by_model = |item: &Value| {
            item["role"] == "assistant" || matches!(item["type"].as_str(), Some("function_call" | "reasoning"))
        };
        let answers = match dialect {
            Dialect::Anthropic | Dialect::Openai => {
                value["messages"].as_array()?.iter().filter(|m| by_model(m)).count()
            }
            // One answer is a row of items: words, reasoning, calls.
            Dialect::OpenaiResponses => match &value["input"] {
                Value::String(_) => 0,
                input => {
                    input.as_array()?.chunk_by(|a, b| by_model(a) == by_model(b)).filter(|r| by_model(&r[0])).count()
                }
            },
            Dialect::Gemini => value["contents"].as_array()?.iter().filter(|c| c["role"] == "model").count(),
        };
        let named = (value["model"].as_str().unwrap_or_default(), value["stream"].as_bool().unwrap_or(false));
        let (model, stream) = if dialect == Dialect::Gemini { gemini_model(uri)? } else { named };
        Some(Self {
            model: model.to_owned(),
            stream,
            include_usage: value["stream_options"]["include_usage"].as_bool().unwrap_or(false),
            answers,
            bytes: body.len(),
        })
    }
}

/// A whole answer in two pieces, so that a cut can fall between them.
fn halves(answer: &Value) -> Vec<Bytes> {
    let mut second = Bytes::from(answer.to_string());
    let first = second.split_to(second.len() / 2);
    vec![first, second]
}

/// A body that comes in pieces, with a pause before each, and may break off in its middle.
struct Pieces {
    left: VecDeque<Bytes>,
    /// Pieces that still come before the cut; none to be cut.
    until_cut: Option<usize>,
    cut_announced: bool,
    pause: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Pieces {
    fn new(pieces: Vec<Bytes>, pause_ms: u64, cut: bool) -> Self {
        let until_cut = cut.then_some(pieces.len() / 2);
        Self {
            left: pieces.into(),
            until_cut,
            cut_announced: false,
            pause: Duration::from_millis(pause_ms),
            sleep: None,
        }
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        if !this.pause.is_zero() && !this.left.is_empty() {
            let pause = this.pause;
            let sleep = this.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
            ready!(sleep.as_mut().poll(cx));
            this.sleep = None;
        }
        match &mut this.until_cut {
            Some(0) if !this.cut_announced => {
                // Come back once more, so that the pieces before the cut are written.
                this.cut_announced = true;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Some(0) => return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into()))),
            Some(n) => *n -= 1,
            None => {}
        }
        Poll::Ready(this.left.pop_front().map(|piece| Ok(Frame::data(piece))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The status that a script called with `key` gives to a request that shows `shown`.
    async fn status(dialect: Dialect, key: &str, header: &'static str, shown: &'static str) -> StatusCode {
        let (ours, theirs) = tokio::io::duplex(1024);
        let scripts = Arc::new(Scripts::default());
        scripts.serve(theirs, "run/m", dialect, Vec::new(), Secret::new(key.to_owned()));
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(ours)).await.unwrap();
        tokio::spawn(connection);
        let (path, body) = match dialect {
            Dialect::Anthropic => ("/v1/messages", r#"{"messages":[]}"#),
            Dialect::Openai => ("/v1/chat/completions", r#"{"messages":[]}"#),
            Dialect::OpenaiResponses => ("/v1/responses", r#"{"input":[]}"#),
            Dialect::Gemini => ("/v1beta/models/m:generateContent", r#"{"contents":[]}"#),
        };
        let request = Request::post(path).header(header, shown);
        let request = request.body(Full::<Bytes>::from(body)).unwrap();
        sender.send_request(request).await.unwrap().status()
    }

    #[tokio::test(flavor = "current_thread")]
    async fn only_the_scripts_own_key_is_served() {
        use Dialect::{Anthropic, Gemini, Openai, OpenaiResponses};
        for (expected, dialect, key, header, shown) in [
            (200, Anthropic, "right", "x-api-key", "right"),
            (401, Anthropic, "right", "x-api-key", "wrong"),
            (401, Anthropic, "right", "authorization", "Bearer right"),
            (200, Openai, "right", "authorization", "Bearer right"),
            (401, Openai, "right", "authorization", "Bearer wrong"),
            (401, Openai, "right", "x-api-key", "right"),
            (200, OpenaiResponses, "right", "authorization", "Bearer right"),
            (401, OpenaiResponses, "right", "authorization", "Bearer wrong"),
            (401, OpenaiResponses, "right", "x-api-key", "right"),
            (200, Gemini, "right", "x-goog-api-key", "right"),
            (401, Gemini, "right", "x-goog-api-key", "wrong"),
            (401, Gemini, "right", "x-api-key", "right"),
            (401, Gemini, "", "x-goog-api-key", "vh_handle"),
            (200, Openai, "", "x-other", "any"),
            (401, Openai, "", "authorization", "Bearer vh_handle"),
        ] {
            let status = status(dialect, key, header, shown).await;
            assert_eq!(status.as_u16(), expected, "{dialect:?} {key:?} {header}: {shown}");
        }
    }
}
