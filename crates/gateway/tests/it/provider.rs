//! A provider that answers with recorded bytes, piece by piece, and keeps what it was asked.

use crate::house::soon;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio_rustls::TlsAcceptor;

/// One step of an answer.
#[derive(Clone)]
pub enum Step {
    /// These bytes, in a write of their own.
    Send(Vec<u8>),
    /// Wait for the test.
    Wait(Arc<Notify>),
    /// Never go on.
    Hang,
}

pub struct Provider {
    pub base: String,
    seen: mpsc::UnboundedReceiver<Seen>,
}

/// A request as it came.
pub struct Seen {
    /// Where it came from: another connection, another address.
    pub client: SocketAddr,
    pub head: String,
    pub body: Vec<u8>,
}

impl Seen {
    /// The value of a header; none if it did not come.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.split("\r\n").filter_map(|line| line.split_once(": "));
        lines.find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// A head and a body in chunks, on a connection that ends with it.
pub fn chunked(head: &str, pieces: &[&[u8]]) -> Vec<Step> {
    let mut steps = vec![Step::Send(
        format!("HTTP/1.1 {head}\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n").into_bytes(),
    )];
    steps.extend(pieces.iter().map(|piece| chunk(piece)));
    steps.push(Step::Send(b"0\r\n\r\n".to_vec()));
    steps
}

pub fn chunk(piece: &[u8]) -> Step {
    let mut bytes = format!("{:x}\r\n", piece.len()).into_bytes();
    bytes.extend_from_slice(piece);
    bytes.extend_from_slice(b"\r\n");
    Step::Send(bytes)
}

/// A head and a body of known length, on a connection that ends with it.
pub fn whole(head: &str, body: &str) -> Vec<Step> {
    kept(&format!("{head}\r\nconnection: close"), body)
}

/// The same, on a connection that is said to go on.
pub fn kept(head: &str, body: &str) -> Vec<Step> {
    vec![Step::Send(format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes())]
}

impl Provider {
    /// Answers every connection with `steps`, then closes it.
    pub async fn answering(steps: Vec<Step>) -> Self {
        Self::start(steps, None, false).await
    }

    /// Answers every request of every connection with `steps`.
    pub async fn keeping_connections(steps: Vec<Step>) -> Self {
        Self::start(steps, None, true).await
    }

    /// The same, behind TLS.
    pub async fn behind_tls(steps: Vec<Step>, tls: TlsAcceptor) -> Self {
        Self::start(steps, Some(tls), false).await
    }

    async fn start(steps: Vec<Step>, tls: Option<TlsAcceptor>, keep: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (saw, seen) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, client)) = listener.accept().await {
                stream.set_nodelay(true).expect("a live socket");
                let (steps, saw, tls) = (steps.clone(), saw.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => while answer(&mut stream, client, &steps, &saw).await && keep {},
                        Some(tls) => {
                            // A client that does not trust us hangs up here, and nothing was seen.
                            if let Ok(mut stream) = tls.accept(stream).await {
                                answer(&mut stream, client, &steps, &saw).await;
                                // A close that is no error.
                                let _ = stream.shutdown().await;
                            }
                        }
                    }
                });
            }
        });
        Self { base: format!("{scheme}://{address}"), seen }
    }

    /// The same address by a name.
    pub fn by_name(&self) -> String {
        self.base.replace("127.0.0.1", "localhost")
    }

    /// The next request that came.
    pub async fn seen(&mut self) -> Seen {
        soon("a request", self.seen.recv()).await.expect("the provider lives")
    }

    /// Whether a request came that the test has not looked at.
    pub fn saw_more(&mut self) -> bool {
        self.seen.try_recv().is_ok()
    }
}

/// Reads one request and answers it. False if the client hung up.
async fn answer(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    client: SocketAddr,
    steps: &[Step],
    saw: &mpsc::UnboundedSender<Seen>,
) -> bool {
    let mut all = Vec::new();
    let (head, body) = loop {
        if stream.read_buf(&mut all).await.unwrap_or(0) == 0 {
            return false;
        }
        let Some(at) = all.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(all[..at].to_vec()).expect("a head in ASCII");
        let length = head
            .split("\r\n")
            .filter_map(|line| line.split_once(": "))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .map_or(0, |(_, value)| value.parse().expect("a length"));
        if all.len() >= at + 4 + length {
            break (head, all.split_off(at + 4));
        }
    };
    // The test may be over.
    let _ = saw.send(Seen { client, head, body });
    for step in steps {
        match step {
            Step::Send(bytes) => {
                if stream.write_all(bytes).await.is_err() || stream.flush().await.is_err() {
                    return false;
                }
                // Let the other side read before the next piece is written.
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            Step::Wait(until) => until.notified().await,
            Step::Hang => {
                // Until the client hangs up.
                let _ = stream.read_buf(&mut Vec::new()).await;
                return false;
            }
        }
    }
    true
}
