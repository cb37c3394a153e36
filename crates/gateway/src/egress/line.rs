//! Connections to hosts, HTTP/1.1 or HTTP/2, kept a while for the next request of the same run to the same place.
//!
//! Never shared between runs, and found again only by the very same rules: the address behind one was checked when it
//! was dialled, and a connection cannot change its address. No credential is kept with it.
//!
//! Read [`Line::open`], [`Line::send`], then [`Lines`].

use super::body::Outgoing;
use super::ending::Ending;
use super::fault::Fault;
use super::flood::{Guarded, Shared};
use super::limits::{ANSWER_HEAD, CONNECTION_WINDOW, KEPT, KEPT_LINES, LINES, STREAM_WINDOW};
use super::reach::{Reach, Way};
use crate::pace::Interim;
use crate::refusal::Refusal;
use crate::server::leases::Under;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use policy::egress::Law;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Where a connection leads, and by which table that was allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) way: Way,
    pub(crate) law: u64,
    /// SHA-256 of the handle whose credential goes over it: some hosts sign a whole connection in, and what goes over
    /// that must not be another's, or nobody's.
    pub(crate) handle: Option<String>,
    /// The leases by which that credential was given: the connection ends with the first of them.
    pub(crate) under: Under,
}

/// One connection, or one request's part in it.
pub(crate) struct Line {
    sender: Sender,
    key: Key,
    /// The checked address behind it.
    pub(crate) address: Option<IpAddr>,
    interim: Interim,
    used: bool,
    carrier: Arc<Carrier>,
}

enum Sender {
    One(http1::SendRequest<Outgoing>),
    Two(http2::SendRequest<Outgoing>),
}

/// Carries a connection's bytes until its last holder is gone.
struct Carrier {
    task: tokio::task::JoinHandle<()>,
    _room: OwnedSemaphorePermit,
}

impl Drop for Carrier {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why a request got no answer.
pub(crate) enum Unanswered {
    /// The connection was a kept one and had ended; the request never left.
    Stale(Box<Request<Outgoing>>),
    /// The host broke off.
    Cut,
}

impl Line {
    async fn open(
        reach: &Reach,
        key: Key,
        law: &Law,
        (room, frames): (OwnedSemaphorePermit, Shared),
    ) -> Result<Self, Refusal> {
        let reached = reach.open(&key.way, law).await?;
        let cut = |error: hyper::Error| {
            tracing::debug!(%error, "a host broke off as it was reached");
            Fault::Cut
        };
        let wire = Ending::with(&key.under, reached.wire);
        let (sender, task) = if reached.two {
            let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .max_header_list_size(u32::try_from(ANSWER_HEAD).unwrap_or(u32::MAX))
                .handshake(TokioIo::new(Guarded::of_host(wire, frames)))
                .await
                .map_err(cut)?;
            // Its error is the head's or the body's error too, and is told there.
            (Sender::Two(sender), tokio::spawn(async move { drop(connection.await) }))
        } else {
            let (sender, connection) =
                http1::Builder::new().max_buf_size(ANSWER_HEAD).handshake(TokioIo::new(wire)).await.map_err(cut)?;
            (Sender::One(sender), tokio::spawn(async move { drop(connection.with_upgrades().await) }))
        };
        let carrier = Arc::new(Carrier { task, _room: room });
        Ok(Self { sender, key, address: reached.address, interim: reached.interim, used: false, carrier })
    }

    /// Whether it speaks HTTP/2.
    pub(crate) fn is_two(&self) -> bool {
        matches!(self.sender, Sender::Two(_))
    }

    /// The leases that it ends with.
    pub(crate) fn under(&self) -> &Under {
        &self.key.under
    }

    /// Sends one request and waits for the head of its answer.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub(crate) async fn send(&mut self, mut request: Request<Outgoing>) -> Result<Response<Incoming>, Unanswered> {
        self.interim.watch(&mut request);
        let sent = match &mut self.sender {
            Sender::One(sender) => sender.try_send_request(request).await,
            Sender::Two(sender) => sender.try_send_request(request).await,
        };
        if let (Ok(response), Sender::One(_)) = (&sent, &self.sender)
            && (is_too_long(response) || self.interim.too_many())
        {
            tracing::debug!("a host's head is too long, or too many came before it");
            return Err(Unanswered::Cut);
        }
        sent.map_err(|mut failed| match failed.take_message().filter(|_| self.used) {
            Some(request) => Unanswered::Stale(Box::new(request)),
            None => {
                tracing::debug!(error = %failed.into_error(), "a host broke off");
                Unanswered::Cut
            }
        })
    }

    fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::One(sender) => sender.is_closed(),
            Sender::Two(sender) => sender.is_closed(),
        }
    }

    fn is_ready(&self) -> bool {
        match &self.sender {
            Sender::One(sender) => sender.is_ready(),
            Sender::Two(sender) => sender.is_ready(),
        }
    }

    /// Another part in the same connection, where it takes several requests.
    fn part(&self) -> Option<Self> {
        let Sender::Two(sender) = &self.sender else { return None };
        Some(Self {
            sender: Sender::Two(sender.clone()),
            key: self.key.clone(),
            address: self.address,
            interim: self.interim.clone(),
            used: true,
            carrier: self.carrier.clone(),
        })
    }
}

/// The length of an answer's head on a wire of HTTP/1.1, in bytes, with no more white space than there has to be. What hyper
/// reads at once may be up to twice as long as its buffer.
fn head_bytes<B>(response: &Response<B>) -> usize {
    let reason = match response.extensions().get::<hyper::ext::ReasonPhrase>() {
        Some(reason) => reason.as_bytes().len(),
        None => response.status().canonical_reason().unwrap_or_default().len(),
    };
    let line = "HTTP/1.1 200 \r\n".len() + reason;
    let headers: usize = response.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    line + headers + "\r\n".len()
}

fn is_too_long<B>(response: &Response<B>) -> bool {
    head_bytes(response) > ANSWER_HEAD
}

/// The connections of one run.
pub(crate) struct Lines {
    kept: Mutex<Vec<(Line, Instant)>>,
    room: Arc<Semaphore>,
    frames: Shared,
}

impl Lines {
    /// None yet; those over HTTP/2 share these frames with all of the run.
    pub(crate) fn of(frames: Shared) -> Self {
        Self { kept: Mutex::default(), room: Arc::new(Semaphore::new(LINES)), frames }
    }

    /// A kept connection by this key that can take a request now.
    pub(crate) fn take(&self, key: &Key) -> Option<Line> {
        let now = Instant::now();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(line, since)| !line.is_closed() && now.saturating_duration_since(*since) < KEPT);
        let at = kept.iter().rposition(|(line, _)| line.key == *key && line.is_ready())?;
        if let Some(part) = kept[at].0.part() {
            kept[at].1 = now;
            return Some(part);
        }
        let (mut line, _) = kept.remove(at);
        line.used = true;
        Some(line)
    }

    /// A new connection by this key.
    ///
    /// # Errors
    /// Those of [`Reach::open`].
    pub(crate) async fn open(&self, reach: &Reach, key: Key, law: &Law) -> Result<Line, Refusal> {
        if self.room.available_permits() == 0 {
            // What nobody uses gives way to what somebody waits for.
            self.kept.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        let room = self.room.clone().acquire_owned().await.map_err(|_| Fault::Cut)?;
        let line = Line::open(reach, key, law, (room, self.frames.clone())).await?;
        if let Some(part) = line.part() {
            self.keep(part);
        }
        Ok(line)
    }

    /// Keeps a connection whose last answer has just come to its end, if it may be used again.
    pub(crate) fn keep(&self, line: Line) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |other: &(Line, Instant)| Arc::ptr_eq(&other.0.carrier, &line.carrier);
        if line.is_closed() || line.key.way.one || kept.iter().any(known) {
            return;
        }
        if kept.len() >= KEPT_LINES {
            kept.remove(0);
        }
        kept.push((line, Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt as _, Empty};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[test]
    fn a_head_of_64_kib_passes_and_one_of_a_byte_more_does_not() {
        let with = |length: usize| {
            let value = http::HeaderValue::from_bytes(&vec![b'x'; length]).unwrap();
            Response::builder().header("x-long", value).body(()).unwrap()
        };
        let without = head_bytes(&with(0));
        assert!(!is_too_long(&with(ANSWER_HEAD - without)));
        assert!(is_too_long(&with(ANSWER_HEAD - without + 1)));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_head_of_an_answer_is_as_long_as_on_its_wire() {
        for (line, more) in [
            ("HTTP/1.1 200 OK", ""),
            ("HTTP/1.1 200 Fine by me", "x: y\r\nx: z\r\n"),
            ("HTTP/1.1 404 Not Found", "a: b\r\n"),
        ] {
            let head = format!("{line}\r\ncontent-length: 0\r\n{more}\r\n");
            let (near, mut far) = tokio::io::duplex(4096);
            let (mut sender, connection) = http1::handshake(TokioIo::new(near)).await.unwrap();
            let carried = tokio::spawn(connection);
            let answered = sender.send_request(Request::new(Empty::<bytes::Bytes>::new()));
            let host = async {
                let mut asked = [0; 1024];
                assert!(far.read(&mut asked).await.unwrap() > 0);
                far.write_all(head.as_bytes()).await.unwrap();
            };
            let (response, ()) = tokio::join!(answered, host);
            let response = response.unwrap();
            assert_eq!(head_bytes(&response), head.len(), "{head}");
            response.into_body().collect().await.unwrap();
            carried.abort();
        }
    }
}
