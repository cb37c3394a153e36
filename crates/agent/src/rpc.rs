//! JSON-RPC 2.0 over a pair of byte streams, one message a line: the transport of the Agent Client Protocol.
//!
//! [`Peer`] sends; [`receive`] gives what the other side asks and notes, and hands answers to whoever waits
//! for them. Messages go out in the order they were sent, whatever their kind: what is recorded before a
//! command is asked for is read before it, too.

use agent_client_protocol_schema::v1::Error;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

/// Longest line read, in bytes: a resumed run's history (a frame of at most 8 MiB, JSON once more) fits.
pub const MAX_LINE: usize = 48 * 1024 * 1024;
/// Messages that may wait to be written before senders wait.
const QUEUE: usize = 256;

/// A request's id, as the other side wrote it.
pub type Id = Box<RawValue>;

/// What the other side wants.
#[derive(Debug)]
pub enum Incoming {
    /// An answer is due: [`Peer::answer`].
    Request {
        /// To be sent back.
        id: Id,
        /// What is asked.
        method: String,
        /// With what.
        params: Option<Box<RawValue>>,
    },
    /// No answer.
    Notification {
        /// What is noted.
        method: String,
        /// With what.
        params: Option<Box<RawValue>>,
    },
}

/// Why a request of ours came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// The other side refused; its words.
    #[error("{0}")]
    Refused(String),
    /// The other side is gone.
    #[error("the runner is gone")]
    Gone,
    /// The answer is not of the protocol.
    #[error("the runner's answer cannot be read")]
    Malformed(#[source] serde_json::Error),
}

type Waiting = Rc<RefCell<HashMap<u64, oneshot::Sender<Result<Box<RawValue>, Error>>>>>;

/// The sending side. Clones share one connection.
#[derive(Debug, Clone)]
pub struct Peer {
    lines: mpsc::Sender<String>,
    waiting: Waiting,
    next: Rc<Cell<u64>>,
}

#[derive(Deserialize)]
struct Line {
    id: Option<Box<RawValue>>,
    method: Option<String>,
    params: Option<Box<RawValue>>,
    result: Option<Box<RawValue>>,
    error: Option<Error>,
}

#[derive(Serialize)]
struct Out<'a, P: Serialize> {
    jsonrpc: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    method: &'a str,
    params: P,
}

#[derive(Serialize)]
struct Reply<'a, R: Serialize> {
    jsonrpc: &'static str,
    id: &'a RawValue,
    #[serde(flatten)]
    outcome: Outcome<R>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome<R> {
    Result(R),
    Error(Error),
}

impl Peer {
    /// A sender, and what it sends: to be given to [`write_all`].
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<String>) {
        let (lines, queue) = mpsc::channel(QUEUE);
        (Self { lines, waiting: Waiting::default(), next: Rc::new(Cell::new(1)) }, queue)
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// [`RpcError`].
    pub async fn request<P: Serialize, R: DeserializeOwned>(&self, method: &str, params: P) -> Result<R, RpcError> {
        let id = self.next.replace(self.next.get() + 1);
        let (to, answer) = oneshot::channel();
        self.waiting.borrow_mut().insert(id, to);
        self.send(&Out { jsonrpc: "2.0", id: Some(id), method, params }).await?;
        let raw = answer.await.map_err(|_| RpcError::Gone)?.map_err(|e| RpcError::Refused(words(&e)))?;
        serde_json::from_str(raw.get()).map_err(RpcError::Malformed)
    }

    /// Notes something; no answer comes.
    ///
    /// # Errors
    /// [`RpcError::Gone`].
    pub async fn notify<P: Serialize>(&self, method: &str, params: P) -> Result<(), RpcError> {
        self.send(&Out { jsonrpc: "2.0", id: None, method, params }).await
    }

    /// Answers a request.
    ///
    /// # Errors
    /// [`RpcError::Gone`].
    pub async fn answer<R: Serialize>(&self, id: &Id, outcome: Result<R, Error>) -> Result<(), RpcError> {
        let outcome = match outcome {
            Ok(result) => Outcome::Result(result),
            Err(error) => Outcome::Error(error),
        };
        self.send(&Reply { jsonrpc: "2.0", id, outcome }).await
    }

    async fn send<M: Serialize>(&self, message: &M) -> Result<(), RpcError> {
        let mut line = serde_json::to_string(message).map_err(RpcError::Malformed)?;
        line.push('\n');
        self.lines.send(line).await.map_err(|_| RpcError::Gone)
    }

    fn answered(&self, id: &RawValue, line: Line) {
        let waiting = id.get().parse().ok().and_then(|id: u64| self.waiting.borrow_mut().remove(&id));
        let outcome = match (line.error, line.result) {
            (Some(error), _) => Err(error),
            (None, Some(result)) => Ok(result),
            (None, None) => Ok(RawValue::NULL.to_owned()),
        };
        // Nobody waits when the request was given up, or never made: then there is nothing to do.
        waiting.map(|to| to.send(outcome).ok());
    }

    /// Ends every wait: the other side is gone.
    fn gone(&self) {
        self.waiting.borrow_mut().clear();
    }
}

/// An error's message, with its data where that is a text.
fn words(error: &Error) -> String {
    match error.data.as_ref().and_then(|d| d.as_str()) {
        Some(data) if !data.is_empty() => format!("{}: {data}", error.message),
        _ => error.message.clone(),
    }
}

/// Writes what is sent, until the other side is gone or every [`Peer`] is.
///
/// # Errors
/// The stream's own.
pub async fn write_all(mut queue: mpsc::Receiver<String>, mut to: impl AsyncWrite + Unpin) -> std::io::Result<()> {
    while let Some(line) = queue.recv().await {
        to.write_all(line.as_bytes()).await?;
        if queue.is_empty() {
            to.flush().await?;
        }
    }
    Ok(())
}

/// Reads until something is wanted of us; none at the end of the stream. A line that is no message is answered
/// as JSON-RPC says, and passed over.
///
/// # Errors
/// The stream's own; `InvalidData` for a line over [`MAX_LINE`].
pub async fn receive(from: &mut (impl AsyncBufRead + Unpin), peer: &Peer) -> std::io::Result<Option<Incoming>> {
    loop {
        let Some(text) = line(from).await? else {
            peer.gone();
            return Ok(None);
        };
        if text.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let Ok(mut line) = serde_json::from_slice::<Line>(&text) else {
            let null = RawValue::NULL.to_owned();
            // If the other side is gone, the next read says so.
            peer.answer::<()>(&null, Err(Error::parse_error())).await.ok();
            continue;
        };
        match (line.method.take(), line.id.take()) {
            (Some(method), Some(id)) => return Ok(Some(Incoming::Request { id, method, params: line.params })),
            (Some(method), None) => return Ok(Some(Incoming::Notification { method, params: line.params })),
            (None, Some(id)) => peer.answered(&id, line),
            (None, None) => {}
        }
    }
}

async fn line(from: &mut (impl AsyncBufRead + Unpin)) -> std::io::Result<Option<Vec<u8>>> {
    let mut text = Vec::new();
    loop {
        let piece = from.fill_buf().await?;
        if piece.is_empty() {
            return Ok((!text.is_empty()).then_some(text));
        }
        let end = piece.iter().position(|b| *b == b'\n');
        let taken = end.map_or(piece.len(), |at| at + 1);
        if text.len() + taken > MAX_LINE {
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "a line longer than any message"));
        }
        text.extend_from_slice(&piece[..taken]);
        from.consume(taken);
        if end.is_some() {
            return Ok(Some(text));
        }
    }
}

/// A line reader as [`receive`] wants it.
pub fn buffered<R: tokio::io::AsyncRead>(from: R) -> tokio::io::BufReader<R> {
    tokio::io::BufReader::with_capacity(64 * 1024, from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, work)
    }

    #[test]
    fn a_line_that_is_no_message_is_answered_and_the_next_is_read() {
        block_on(async {
            let (peer, mut queue) = Peer::new();
            let mut from = buffered(&b"\n{nonsense\n{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"method\":\"m\"}\n"[..]);
            let got = receive(&mut from, &peer).await.unwrap();
            assert!(matches!(got, Some(Incoming::Request { id, method, .. }) if id.get() == "\"x\"" && method == "m"));
            let said = queue.recv().await.unwrap();
            assert!(said.contains("-32700") && said.contains("\"id\":null"), "{said}");
        });
    }

    #[test]
    fn answers_reach_those_who_wait_in_any_order_and_the_end_of_the_stream_ends_every_wait() {
        block_on(async {
            let (peer, _queue) = Peer::new();
            let answers = b"{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":2}\n{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":\
                {\"code\":1,\"message\":\"no\",\"data\":\"because\"}}\n{\"jsonrpc\":\"2.0\",\"id\":99,\"result\":0}\n";
            let first = peer.request::<_, u8>("a", ());
            let second = peer.request::<_, u8>("b", ());
            let third = peer.request::<_, u8>("c", ());
            let reading = async {
                let mut from = buffered(&answers[..]);
                assert!(receive(&mut from, &peer).await.unwrap().is_none());
            };
            let (first, second, third, ()) = tokio::join!(first, second, third, reading);
            assert_eq!(first.unwrap_err().to_string(), "no: because");
            assert_eq!(second.unwrap(), 2);
            assert!(matches!(third, Err(RpcError::Gone)));
        });
    }
}
