//! A client in a box: what it sends to the door, and what it gets.

use super::{HANDLE, soon};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What a client got.
#[derive(Debug)]
pub struct Got {
    pub status: u16,
    /// The head, in lower case up to each colon, as sent after it.
    pub head: String,
    /// The body, its chunks joined.
    pub body: Vec<u8>,
    /// Whether the body came to its end.
    pub whole: bool,
}

impl Got {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }
    /// The rule that a refusal names in its head, also where it has no body.
    pub fn headers_rule(&self) -> Option<&str> {
        self.head.split("volary-refused: ").nth(1)?.split("\r\n").next()
    }
    /// The rule that an error of the gateway names.
    pub fn rule(&self) -> String {
        self.json()["error"]["rule"].as_str().expect("a rule").to_owned()
    }
}

/// A model call as an agent makes it.
pub async fn call(door: SocketAddr, path: &str, body: &str) -> Got {
    ask(door, &head(path, body.len()), body.as_bytes()).await
}

/// The head of a model call of `length` body bytes, its handle in the right place.
pub fn head(path: &str, length: usize) -> String {
    let credential = if path.contains("/v1/messages") {
        format!("x-api-key: {HANDLE}\r\nanthropic-version: 2023-06-01")
    } else {
        format!("authorization: Bearer {HANDLE}")
    };
    format!(
        "POST /model/m{path} HTTP/1.1\r\nhost: 127.0.0.1:8080\r\n{credential}\r\ncontent-type: application/json\r\n\
         accept-encoding: gzip\r\nx-other: stays here\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    )
}

/// Sends a request and reads the answer to the end of the connection.
pub async fn ask(door: SocketAddr, head: &str, body: &[u8]) -> Got {
    soon("an answer", async {
        let mut stream = TcpStream::connect(door).await.expect("the door is open");
        // A refusal may come before the body is taken; then writing fails, and reading tells why.
        let _ = stream.write_all(head.as_bytes()).await;
        let _ = stream.write_all(body).await;
        let mut all = Vec::new();
        let ended = stream.read_to_end(&mut all).await;
        parse(&all, ended.is_ok())
    })
    .await
}

pub fn parse(all: &[u8], ended: bool) -> Got {
    let at = all.windows(4).position(|w| w == b"\r\n\r\n").expect("a head");
    let head = std::str::from_utf8(&all[..at]).expect("a head in ASCII").to_owned();
    let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
    let raw = &all[at + 4..];
    let lower = head.to_ascii_lowercase();
    let (body, whole) = if lower.contains("transfer-encoding: chunked") {
        dechunk(raw)
    } else {
        let length = lower
            .split("content-length: ")
            .nth(1)
            .and_then(|l| l.split("\r\n").next())
            .map(|l| l.trim().parse::<usize>().expect("a length"));
        (raw.to_vec(), length.map_or(ended, |n| n == raw.len()))
    };
    Got { status, head: lower, body, whole }
}

fn dechunk(mut raw: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let Some(at) = raw.windows(2).position(|w| w == b"\r\n") else { return (body, false) };
        let size = usize::from_str_radix(std::str::from_utf8(&raw[..at]).expect("hex"), 16).expect("hex");
        raw = &raw[at + 2..];
        if size == 0 {
            return (body, true);
        }
        if raw.len() < size + 2 {
            body.extend_from_slice(&raw[..raw.len().min(size)]);
            return (body, false);
        }
        body.extend_from_slice(&raw[..size]);
        raw = &raw[size + 2..];
    }
}
