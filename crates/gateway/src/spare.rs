//! Connections to providers: one call at a time, and kept a while for the next call of the same run.
//!
//! Never shared between runs, and found again only for the very same place: the address behind it was
//! checked when it was dialled, and a connection cannot change its address. No credential is kept with it.
//!
//! Read [`Connection::open`], [`Connection::send`], then [`Spares`].

use crate::connect::{Target, Wire};
use crate::pace::{Interim, Paced};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Longest head of a provider's answer, in bytes.
const MAX_HEAD: usize = 64 * 1024;
/// How long an unused connection is kept; most providers close theirs after a minute or more.
const KEPT: Duration = Duration::from_secs(45);
/// Unused connections kept for one run.
const KEPT_AT_MOST: usize = 8;

/// One connection to a provider. It ends when it is dropped.
pub(crate) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    interim: Interim,
    carrier: tokio::task::JoinHandle<()>,
    place: Option<Key>,
    reused: bool,
}

/// Whether a kept connection leads where a call goes, by the same rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) to: Target,
    /// Whether the address was allowed although it may not be public.
    pub(crate) internal: bool,
}

/// Why a request got no answer over a connection.
pub(crate) enum Unanswered {
    /// The connection was kept and had ended meanwhile; the request never left.
    Stale(Box<Request<Full<Bytes>>>),
    /// The provider broke off.
    Cut(hyper::Error),
}

impl Connection {
    /// A connection over a wire; `place` names it for [`Spares`], none if it must not be used again.
    ///
    /// # Errors
    /// None in practice: nothing is sent yet.
    pub(crate) async fn open(wire: Box<dyn Wire>, place: Option<Key>) -> hyper::Result<Self> {
        let wire = Paced::new(wire);
        let interim = wire.interim();
        let (sender, connection) = http1::Builder::new().max_buf_size(MAX_HEAD).handshake(TokioIo::new(wire)).await?;
        let carrier = tokio::spawn(async move {
            // Its error is the head's or the body's error too, and is told there.
            drop(connection.await);
        });
        Ok(Self { sender, interim, carrier, place, reused: false })
    }

    /// Sends one request and waits for the head of its answer.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub(crate) async fn send(&mut self, mut request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Unanswered> {
        self.interim.watch(&mut request);
        match self.sender.try_send_request(request).await {
            Ok(response) => Ok(response),
            Err(mut failed) => match failed.take_message().filter(|_| self.reused) {
                Some(request) => Err(Unanswered::Stale(Box::new(request))),
                None => Err(Unanswered::Cut(failed.into_error())),
            },
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.carrier.abort();
    }
}

/// The unused connections of one run.
#[derive(Default)]
pub(crate) struct Spares(Mutex<Vec<(Connection, Instant)>>);

impl Spares {
    /// A connection that leads to this place and can take a request at `now`; it is the caller's then.
    pub(crate) fn take(&self, place: &Key, now: Instant) -> Option<Connection> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(spare, since)| !spare.sender.is_closed() && now.saturating_duration_since(*since) < KEPT);
        let at = kept.iter().rposition(|(spare, _)| spare.place.as_ref() == Some(place) && spare.sender.is_ready())?;
        let (mut spare, _) = kept.remove(at);
        spare.reused = true;
        Some(spare)
    }

    /// Keeps a connection whose last answer has come to its end at `now`, if it may be used again.
    pub(crate) fn keep(&self, spare: Connection, now: Instant) {
        if spare.place.is_none() || spare.sender.is_closed() {
            return;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_AT_MOST {
            kept.remove(0);
        }
        kept.push((spare, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn of_a_runs_unused_connections_eight_are_kept_and_the_oldest_goes() {
        let (spares, now) = (Spares::default(), Instant::now());
        let mut far = Vec::new();
        let to = |name: &str| {
            let place = api::grants::Place::Url { base: format!("http://{name}.example"), internal: false };
            let to = Target::of(&place).expect("an address");
            Key { to, internal: false }
        };
        for n in 0..KEPT_AT_MOST + 1 {
            let (near, other) = tokio::io::duplex(64);
            far.push(other);
            let mut spare = Connection::open(Box::new(near), Some(to(&format!("h{n}")))).await.unwrap();
            spare.sender.ready().await.unwrap();
            spares.keep(spare, now);
        }
        assert_eq!(KEPT_AT_MOST, 8);
        assert!(spares.take(&to("h0"), now).is_none(), "the oldest gave way");
        for n in 1..=KEPT_AT_MOST {
            assert!(spares.take(&to(&format!("h{n}")), now).is_some(), "{n}");
        }
        assert!(spares.take(&to("h8"), now).is_none(), "each is taken once");
    }
}
