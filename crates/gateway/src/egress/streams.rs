//! The requests of one HTTP/2 connection of a box: tasks that end with it, and that end when nobody takes their answer.
//!
//! Over HTTP/1.1 a client that takes nothing stops its whole wire, and is cut there ([`super::wire`]). Over HTTP/2 it
//! may answer for the connection, and take nothing of one request's answer.
//!
//! Read [`Streams`], then [`watched`].

use super::limits::IDLE;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio::time::Instant;

tokio::task_local! {
    /// Of the request whose task this is.
    static WAITS: Waits;
}

/// Since when a piece of an answer waits to be taken; none while the next one is asked for.
#[derive(Clone, Default)]
struct Waits(Arc<Mutex<Option<Instant>>>);

impl Waits {
    fn since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends when a piece has waited for too long.
    async fn too_long(&self) {
        loop {
            let since = self.since().unwrap_or_else(Instant::now);
            tokio::time::sleep_until(since + IDLE).await;
            if self.since().is_some_and(|since| since.elapsed() >= IDLE) {
                return;
            }
        }
    }
}

/// The requests of one connection.
#[derive(Clone, Default)]
pub(crate) struct Streams(Arc<Mutex<JoinSet<()>>>);

impl Streams {
    fn all(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the requests when the connection does; by themselves they would hold each other.
pub(crate) struct EndsWith(pub(crate) Streams);

impl Drop for EndsWith {
    fn drop(&mut self) {
        self.0.all().abort_all();
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let mut all = self.all();
        while all.try_join_next().is_some() {}
        all.spawn(async move {
            let waits = Waits::default();
            tokio::select! {
                () = WAITS.scope(waits.clone(), stream) => {}
                () = waits.too_long() => tracing::debug!("nobody took an answer"),
            }
        });
    }
}

/// An answer's body, for the task of its own request: how long each of its pieces waits is watched there. The request's
/// seat is its own until the body is dropped.
pub(crate) fn watched<B>(body: B, seat: Option<OwnedSemaphorePermit>) -> Watched<B> {
    Watched { body, waits: WAITS.try_with(Waits::clone).unwrap_or_default(), _seat: seat }
}

/// A body whose pieces are waited for.
pub(crate) struct Watched<B> {
    body: B,
    waits: Waits,
    _seat: Option<OwnedSemaphorePermit>,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Watched<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let next = Pin::new(&mut self.body).poll_frame(cx);
        *self.waits.since() = matches!(next, Poll::Ready(Some(Ok(_)))).then(Instant::now);
        next
    }
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
