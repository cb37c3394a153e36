//! One model call over the run's listener: the only network there is.
//!
//! HTTP/1.1 in the clear to [`api::inbox::DOOR`], a connection a call, the handle in the header of the
//! dialect. Everything that can go wrong becomes a [`Failure`]; the machine decides what follows.

use crate::lived;
use crate::turns::{Answer, Failure, FailureKind};
use crate::wire::{self, Reader, WireError, events::Events};
use api::inbox::ModelRoute;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use model::Dialect;
use std::time::Duration;
use tokio::net::TcpStream;

/// Ceilings of one call.
#[derive(Debug, Clone, Copy)]
pub struct CallLimits {
    /// To connect.
    pub connect: Duration,
    /// Without a byte.
    pub idle: Duration,
    /// All together.
    pub total: Duration,
}

impl Default for CallLimits {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), idle: Duration::from_secs(300), total: Duration::from_secs(600) }
    }
}

/// Longest error body that is read, in bytes.
const MAX_ERROR_BODY: usize = 64 * 1024;

/// Where the model is, and what opens it.
pub struct Door {
    /// Address of the listener.
    pub address: String,
    /// The model.
    pub route: ModelRoute,
    /// The run's handle.
    pub handle: String,
    /// Ceilings.
    pub limits: CallLimits,
}

impl Door {
    /// Sends a body and reads the answer; `on_text` gets the model's words as they come.
    ///
    /// # Errors
    /// [`Failure`], whose jitter is drawn here.
    pub async fn call(&self, body: Vec<u8>, on_text: &mut dyn FnMut(&str)) -> Result<Answer, Failure> {
        match lived::timeout(self.limits.total, self.exchange(body, on_text)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(failure(
                FailureKind::Endless,
                0,
                format!("The model's answer did not end within {} seconds and was cut.", self.limits.total.as_secs()),
            )),
        }
    }

    async fn exchange(&self, body: Vec<u8>, on_text: &mut dyn FnMut(&str)) -> Result<Answer, Failure> {
        let unreachable = |what: String| failure(FailureKind::Unreachable, 0, what);
        let stream = lived::timeout(self.limits.connect, TcpStream::connect(&self.address))
            .await
            .map_err(|_| unreachable("The gateway did not take the connection.".into()))?
            .map_err(|e| unreachable(format!("The gateway cannot be reached: {e}.")))?;
        // Only speed is lost without it.
        stream.set_nodelay(true).ok();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| unreachable(format!("The gateway cannot be reached: {e}.")))?;
        let request = self.request(body)?;
        // The connection ends by itself when the sender and the body are gone, and its errors show in them.
        let driving = async move {
            connection.await.ok();
            std::future::pending::<std::convert::Infallible>().await
        };
        let asking = async {
            let response = lived::timeout(self.limits.idle, sender.send_request(request))
                .await
                .map_err(|_| failure(FailureKind::Cut, 0, "The model did not begin to answer.".into()))?
                .map_err(|e| failure(FailureKind::Cut, 0, format!("The gateway broke the connection: {e}.")))?;
            self.read(response, on_text).await
        };
        tokio::select! {
            outcome = asking => outcome,
            never = driving => match never {},
        }
    }

    fn request(&self, body: Vec<u8>) -> Result<Request<Full<Bytes>>, Failure> {
        let path = format!("/model/{}{}", self.route.name, wire::path(&self.route));
        let builder = Request::post(path)
            .header(HOST, &self.address)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "text/event-stream")
            .header(USER_AGENT, concat!("volary-agent/", env!("CARGO_PKG_VERSION")));
        let builder = match self.route.dialect {
            Dialect::Anthropic => {
                builder.header("x-api-key", &self.handle).header("anthropic-version", wire::anthropic::VERSION)
            }
            Dialect::Openai | Dialect::OpenaiResponses => {
                builder.header(AUTHORIZATION, format!("Bearer {}", self.handle))
            }
            Dialect::Gemini => builder.header("x-goog-api-key", &self.handle),
        };
        builder
            .body(Full::new(Bytes::from(body)))
            .map_err(|e| failure(FailureKind::Refused, 0, format!("The model's name or handle cannot be sent: {e}.")))
    }

    async fn read(&self, response: Response<Incoming>, on_text: &mut dyn FnMut(&str)) -> Result<Answer, Failure> {
        let status = response.status();
        if status != StatusCode::OK {
            return Err(self.refused(status, response).await);
        }
        let kind = response.headers().get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
        if kind.starts_with("application/json") {
            let most = self.most_bytes();
            let body = Limited::new(response.into_body(), most).collect();
            let body = lived::timeout(self.limits.idle, body)
                .await
                .map_err(|_| self.wire(WireError::cut()))?
                .map_err(|_| self.wire(WireError::cut()))?
                .to_bytes();
            let answer = wire::whole(self.route.dialect, &body).map_err(|e| self.wire(e))?;
            for block in &answer.content {
                if let crate::turns::Block::Text { text } = block {
                    on_text(text);
                }
            }
            return Ok(answer);
        }
        self.stream(response.into_body(), on_text).await
    }

    async fn stream(&self, mut body: Incoming, on_text: &mut dyn FnMut(&str)) -> Result<Answer, Failure> {
        let (mut seen, most) = (0, self.most_bytes());
        let mut events = Events::default();
        let mut reader = Reader::new(self.route.dialect);
        while !reader.is_whole() {
            let frame =
                lived::timeout(self.limits.idle, body.frame()).await.map_err(|_| self.wire(WireError::cut()))?;
            let Some(frame) = frame else { break };
            let frame = frame.map_err(|_| self.wire(WireError::cut()))?;
            let Ok(piece) = frame.into_data() else { continue };
            seen += piece.len();
            if seen > most {
                return Err(endless());
            }
            for data in events.push(&piece).map_err(|e| self.wire(e))? {
                let words = reader.event(&data).map_err(|e| self.wire(e))?;
                if !words.is_empty() {
                    on_text(&words);
                }
                if reader.bytes() as u64 > self.route.max_output_tokens.saturating_mul(16).saturating_add(4096) {
                    return Err(endless());
                }
                if reader.is_whole() {
                    break;
                }
            }
        }
        reader.end().map_err(|e| self.wire(e))
    }

    /// Bytes of stream that no honest answer of this model reaches.
    fn most_bytes(&self) -> usize {
        usize::try_from(self.route.max_output_tokens.saturating_mul(1024).saturating_add(1 << 20)).unwrap_or(usize::MAX)
    }

    fn wire(&self, error: WireError) -> Failure {
        failure(error.kind, 200, error.text)
    }

    async fn refused(&self, status: StatusCode, response: Response<Incoming>) -> Failure {
        let retry_after_ms = retry_after(response.headers());
        let body = Limited::new(response.into_body(), MAX_ERROR_BODY).collect();
        let body = match lived::timeout(self.limits.idle, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            _ => Bytes::new(),
        };
        let retry_after_ms = retry_after_ms.or_else(|| retry_delay(&body));
        let (kind, words) = error_words(status, &body);
        let what = wire::kind_of_error(status.as_u16(), &kind, &words);
        let text = match what {
            FailureKind::Policy => words,
            _ => format!("{status}: {words}"),
        };
        Failure { retry_after_ms, ..failure(what, status.as_u16(), text) }
    }
}

fn endless() -> Failure {
    let text = "The model's answer went far beyond the limit of its length and was cut.";
    failure(FailureKind::Endless, 200, text.into())
}

fn failure(kind: FailureKind, status: u16, text: String) -> Failure {
    let text = crate::tools::cut::characters(&text, 1000);
    Failure { kind, status, text, retry_after_ms: None, jitter: jitter() }
}

/// A random number, `0..=1000`. Without a source of randomness retries are only less spread.
fn jitter() -> u16 {
    let mut two = [0u8; 2];
    match getrandom::fill(&mut two) {
        Ok(()) => u16::from_le_bytes(two) % 1001,
        Err(_) => 500,
    }
}

/// Milliseconds that `retry-after-ms`, or `retry-after` in seconds, asks for. Dates are passed over: the agent
/// trusts no clock.
fn retry_after(headers: &HeaderMap) -> Option<u64> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok().filter(|n| *n >= 0.0);
    let ms = number("retry-after-ms").or_else(|| number("retry-after").map(|s| s * 1000.0))?;
    Some(ms.min(1e12) as u64)
}

/// Milliseconds that an error of Gemini's asks for in its body: `"retryDelay": "34s"`.
fn retry_delay(body: &[u8]) -> Option<u64> {
    let value: serde_json::Value = serde_json::from_slice(body).ok()?;
    let delay = value["error"]["details"].as_array()?.iter().find_map(|detail| detail["retryDelay"].as_str())?;
    let secs = delay.strip_suffix('s')?.parse::<f64>().ok().filter(|secs| *secs >= 0.0)?;
    Some((secs * 1000.0).min(1e12) as u64)
}

/// The type and the message of an error's body, in any dialect; the body itself when it is of none.
fn error_words(status: StatusCode, body: &[u8]) -> (String, String) {
    let text = String::from_utf8_lossy(body);
    let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let error = value.get("error").unwrap_or(&value);
    let word = |name: &str| error.get(name).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
    let code = word("code");
    let kind = if code == "context_length_exceeded" || code.contains("volary_policy") { code } else { word("type") };
    // Gemini's has a status in words.
    let kind = if kind.is_empty() { word("status") } else { kind };
    let by_policy = status == StatusCode::FORBIDDEN && text.contains("volary_policy");
    let kind = if by_policy { "volary_policy".to_owned() } else { kind };
    let message = match word("message") {
        empty if empty.is_empty() => crate::tools::cut::characters(text.trim(), 500),
        message => message,
    };
    (kind, message)
}
