//! JSON-RPC 2.0 on lines, as the Agent Client Protocol speaks it on standard input and output.
//!
//! Whoever reads must never wait for whoever writes: answers go through a queue of their own.

use serde::Serialize;
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};

/// Longest line that an agent may write: a file of 8 MiB, escaped.
pub const MAX_LINE: usize = 20 * 1024 * 1024;
/// Messages that may wait for the agent to read.
const WAITING: usize = 16;

/// JSON-RPC: the method is not known.
pub const NO_METHOD: i64 = -32601;
/// JSON-RPC: the parameters are not those of the method.
pub const BAD_PARAMS: i64 = -32602;
/// JSON-RPC: it could not be done.
pub const FAILED: i64 = -32603;

/// An error answer, ours or theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// JSON-RPC's number.
    pub code: i64,
    /// One sentence.
    pub message: String,
}

impl Refusal {
    /// Could not be done, and why.
    #[must_use]
    pub fn failed(why: impl Into<String>) -> Self {
        Self { code: FAILED, message: why.into() }
    }
}

/// What the other side says.
#[derive(Debug, PartialEq)]
pub enum Incoming {
    /// It wants an answer.
    Request {
        /// To be given back with the answer.
        id: Value,
        /// What it wants.
        method: String,
        /// With what.
        params: Value,
    },
    /// It wants none.
    Notification {
        /// What it says.
        method: String,
        /// With what.
        params: Value,
    },
    /// It answers.
    Answer {
        /// Our number.
        id: u64,
        /// Its answer.
        result: Result<Value, Refusal>,
    },
}

/// Reads one message; none when the line is no message of JSON-RPC.
#[must_use]
pub fn parse(line: &[u8]) -> Option<Incoming> {
    let Value::Object(mut message) = serde_json::from_slice(line).ok()? else { return None };
    let id = message.remove("id").filter(|id| !id.is_null());
    if let Some(method) = message.remove("method") {
        let Value::String(method) = method else { return None };
        let params = message.remove("params").unwrap_or(Value::Null);
        return Some(match id {
            Some(id) => Incoming::Request { id, method, params },
            None => Incoming::Notification { method, params },
        });
    }
    let id = id?.as_u64()?;
    let result = match (message.remove("result"), message.remove("error")) {
        (_, Some(error)) => {
            let text = error.get("message").and_then(Value::as_str).unwrap_or("an error without words");
            let code = error.get("code").and_then(Value::as_i64).unwrap_or(FAILED);
            Err(Refusal { code, message: text.to_owned() })
        }
        (result, None) => Ok(result?),
    };
    Some(Incoming::Answer { id, result })
}

/// Reads one line without its end. None at the end of the stream.
///
/// # Errors
/// `InvalidData` past [`MAX_LINE`], and the pipe's own.
pub async fn read_line(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    loop {
        let there = from.fill_buf().await?;
        if there.is_empty() {
            return Ok((!line.is_empty()).then_some(line));
        }
        let (piece, whole) = match there.iter().position(|byte| *byte == b'\n') {
            Some(at) => (&there[..at], true),
            None => (there, false),
        };
        if line.len() + piece.len() > MAX_LINE {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is longer than any message"));
        }
        line.extend_from_slice(piece);
        let used = piece.len() + usize::from(whole);
        from.consume(used);
        if whole {
            return Ok(Some(line));
        }
    }
}

/// The other side, to be asked, told and answered.
pub struct Peer {
    to: mpsc::Sender<Vec<u8>>,
    next: Cell<u64>,
    open: RefCell<HashMap<u64, oneshot::Sender<Result<Value, Refusal>>>>,
    gone: Cell<bool>,
}

impl Peer {
    /// Starts the writer, in a task of its own. It ends with the pipe.
    #[must_use]
    pub fn start(mut stdin: pipe::Sender) -> Self {
        let (to, mut lines) = mpsc::channel::<Vec<u8>>(WAITING);
        tokio::task::spawn_local(async move {
            while let Some(line) = lines.recv().await {
                if stdin.write_all(&line).await.is_err() {
                    // The agent is gone; its reaper says so.
                    return;
                }
            }
        });
        Self { to, next: Cell::new(0), open: RefCell::default(), gone: Cell::new(false) }
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// The other side's refusal; a failure when it is gone.
    pub async fn ask(&self, method: &str, params: &impl Serialize) -> Result<Value, Refusal> {
        let id = self.next.replace(self.next.get() + 1);
        let (tell, told) = oneshot::channel();
        if self.gone.get() {
            return Err(Refusal::failed("the agent is gone"));
        }
        self.open.borrow_mut().insert(id, tell);
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })).await;
        told.await.unwrap_or_else(|_| Err(Refusal::failed("the agent is gone")))
    }

    /// Tells, without an answer.
    pub async fn tell(&self, method: &str, params: &impl Serialize) {
        self.send(&json!({ "jsonrpc": "2.0", "method": method, "params": params })).await;
    }

    /// Answers a request.
    pub async fn answer(&self, id: &Value, result: Result<Value, Refusal>) {
        let message = match result {
            Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
            Err(Refusal { code, message }) => {
                json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": message } })
            }
        };
        self.send(&message).await;
    }

    /// Hands an answer to whoever asked. An answer to no question is dropped.
    pub fn answered(&self, id: u64, result: Result<Value, Refusal>) {
        if let Some(tell) = self.open.borrow_mut().remove(&id) {
            // Whoever asked may have given up.
            drop(tell.send(result));
        }
    }

    /// The other side is gone: every question is answered so.
    pub fn gone(&self) {
        self.gone.set(true);
        self.open.borrow_mut().clear();
    }

    /// Whether [`Peer::gone`] was called.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.gone.get()
    }

    async fn send(&self, message: &Value) {
        let mut line = message.to_string().into_bytes();
        line.push(b'\n');
        // Without a writer the agent is gone; its reaper says so.
        drop(self.to.send(line).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_notifications_and_answers_are_told_apart() {
        let read = |text: &str| parse(text.as_bytes());
        assert_eq!(
            read(r#"{"jsonrpc":"2.0","id":"x","method":"m","params":{"a":1}}"#),
            Some(Incoming::Request { id: json!("x"), method: "m".into(), params: json!({"a": 1}) })
        );
        assert_eq!(
            read(r#"{"jsonrpc":"2.0","method":"m"}"#),
            Some(Incoming::Notification { method: "m".into(), params: Value::Null })
        );
        assert_eq!(read(r#"{"id":3,"result":null}"#), Some(Incoming::Answer { id: 3, result: Ok(Value::Null) }));
        let refusal = Refusal { code: -1, message: "no".into() };
        assert_eq!(
            read(r#"{"id":3,"error":{"code":-1,"message":"no"}}"#),
            Some(Incoming::Answer { id: 3, result: Err(refusal) })
        );
        for bad in ["", "[]", "{", r#"{"id":1}"#, r#"{"method":1}"#, r#"{"id":"x","result":1}"#] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_line_past_the_limit_is_refused_and_the_limit_itself_is_not() {
        let mut line = vec![b'x'; MAX_LINE];
        line.push(b'\n');
        assert_eq!(read_line(&mut &line[..]).await.unwrap().unwrap().len(), MAX_LINE);
        line.insert(0, b'x');
        assert!(read_line(&mut &line[..]).await.is_err());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn lines_end_with_the_stream() {
        let mut from: &[u8] = b"one\n\ntwo";
        let mut read = Vec::new();
        while let Some(line) = read_line(&mut from).await.unwrap() {
            read.push(line);
        }
        assert_eq!(read, [&b"one"[..], b"", b"two"]);
    }
}
