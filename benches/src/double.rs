//! A model provider that answers at once, always the same, and a client that asks as fast as it is answered.

use anyhow::{Context, Result, bail};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The provider's id of the model.
pub const MODEL: &str = "model-1";

/// Serves on a thread of its own until the program ends.
pub fn serve() -> Result<SocketAddr> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async move {
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    // The end of a connection is the end of a client.
                    drop(connection(stream).await);
                });
            }
        });
    });
    Ok(address)
}

async fn connection(mut stream: TcpStream) -> Result<()> {
    stream.set_nodelay(true)?;
    let answer = answer();
    let mut got = Vec::with_capacity(16 * 1024);
    loop {
        let head = loop {
            if let Some(at) = end_of_head(&got) {
                break at;
            }
            if stream.read_buf(&mut got).await? == 0 {
                return Ok(());
            }
        };
        let length = content_length(&got[..head]).context("a request without a length")?;
        while got.len() < head + length {
            if stream.read_buf(&mut got).await? == 0 {
                return Ok(());
            }
        }
        got.drain(..head + length);
        stream.write_all(answer.as_bytes()).await?;
    }
}

fn answer() -> String {
    let text = "I have read the file and will now run its tests. ".repeat(8);
    let body = format!(
        r#"{{"id":"msg_1","type":"message","role":"assistant","model":"{MODEL}","content":[{{"type":"text","text":"{text}"}}],"stop_reason":"end_turn","stop_sequence":null,"usage":{{"input_tokens":9,"output_tokens":1}}}}"#
    );
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4)
}

fn content_length(head: &[u8]) -> Option<usize> {
    let head = std::str::from_utf8(head).ok()?.to_ascii_lowercase();
    head.split("\r\ncontent-length: ").nth(1)?.split("\r\n").next()?.parse().ok()
}

/// A model call as an agent makes it, of about 2 KB.
pub fn request(path: &str, handle: &str) -> String {
    let text = "The tests of this repository fail; find out why, and change as little as you can. ".repeat(24);
    let body = format!(
        r#"{{"model":"{MODEL}","max_tokens":16,"messages":[{{"role":"user","content":[{{"type":"text","text":"{text}"}}]}}]}}"#
    );
    format!(
        "POST {path} HTTP/1.1\r\nhost: 127.0.0.1:8080\r\nx-api-key: {handle}\r\nanthropic-version: 2023-06-01\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Asks `to` over `clients` kept connections for that long, each the next thing when the last is answered.
/// Gives the microseconds of every call.
pub async fn ask(to: SocketAddr, request: &str, clients: usize, length: Duration) -> Result<Vec<f64>> {
    let end = Instant::now() + length;
    let mut asking = Vec::new();
    for _ in 0..clients {
        let request = request.to_owned();
        asking.push(tokio::spawn(async move { one_client(to, &request, end).await }));
    }
    let mut all = Vec::new();
    for client in asking {
        all.extend(client.await??);
    }
    Ok(all)
}

async fn one_client(to: SocketAddr, request: &str, end: Instant) -> Result<Vec<f64>> {
    let mut stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let mut all = Vec::new();
    let mut got = Vec::with_capacity(16 * 1024);
    while Instant::now() < end {
        let begun = Instant::now();
        stream.write_all(request.as_bytes()).await?;
        read_answer(&mut stream, &mut got).await?;
        all.push(begun.elapsed().as_secs_f64() * 1e6);
    }
    Ok(all)
}

/// Reads one whole answer, which must be a 200.
async fn read_answer(stream: &mut TcpStream, got: &mut Vec<u8>) -> Result<()> {
    got.clear();
    loop {
        if stream.read_buf(got).await? == 0 {
            bail!("the connection ended in an answer: {}", String::from_utf8_lossy(got));
        }
        let Some(head) = end_of_head(got) else { continue };
        let whole = match content_length(&got[..head]) {
            Some(length) => got.len() >= head + length,
            // In chunks; the text of these answers never ends like the last one.
            None => got.ends_with(b"\r\n0\r\n\r\n"),
        };
        if whole {
            break;
        }
    }
    if !got.starts_with(b"HTTP/1.1 200") {
        bail!("not answered with 200: {}", String::from_utf8_lossy(got));
    }
    Ok(())
}

/// Head and body of an answer with a length, once it is whole.
pub fn whole(got: &[u8]) -> Option<(&str, &[u8])> {
    let at = end_of_head(got)?;
    let body = &got[at..];
    let is_whole = body.len() >= content_length(&got[..at])?;
    is_whole.then_some((std::str::from_utf8(&got[..at]).ok()?, body))
}
