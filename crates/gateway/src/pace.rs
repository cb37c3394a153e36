//! Turns: no connection keeps the one thread that serves for long, and no host keeps a request in heads that answer nothing.
//!
//! The HTTP libraries read as long as there is something to read. What a peer sends fast is then handled in one go, while
//! every other run, and the link to the server, waits. So each connection gives way after [`TURN`] bytes. And hyper skips
//! interim answers (1xx) over HTTP/1.1 without bound: they are counted here, over HTTP/2 in [`crate::egress::flood`]. What takes
//! long in one piece, a TLS handshake, a run has one at a time.
//!
//! Read [`Paced`], then [`Interim`], then [`OneByOne`].

use http::Request;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Mutex;

/// Bytes that are read of one connection before everything else has its turn.
pub(crate) const TURN: usize = 16 * 1024;
/// Interim answers (1xx) to one request, which say that the answer is still to come.
pub(crate) const INTERIM_ANSWERS: u32 = 8;

/// A connection that gives way while it is read.
pub(crate) struct Paced<S> {
    wire: S,
    /// Bytes of this turn.
    read: usize,
    interim: Interim,
}

impl<S> Paced<S> {
    pub(crate) fn new(wire: S) -> Self {
        Self { wire, read: 0, interim: Interim::default() }
    }

    /// By what requests over this connection are watched: it ends with the first that has too many interim answers.
    pub(crate) fn interim(&self) -> Interim {
        self.interim.clone()
    }
}

/// Whether a host over HTTP/1.1 has sent too many interim answers.
#[derive(Clone, Default)]
pub(crate) struct Interim(Arc<AtomicBool>);

impl Interim {
    /// Counts the interim answers to this request.
    pub(crate) fn watch<B>(&self, request: &mut Request<B>) {
        let (too_many, count) = (self.0.clone(), AtomicU32::new(0));
        hyper::ext::on_informational(request, move |_| {
            if count.fetch_add(1, Ordering::Relaxed) >= INTERIM_ANSWERS {
                too_many.store(true, Ordering::Relaxed);
            }
        });
    }

    /// Whether there were too many; nothing more is read then.
    pub(crate) fn too_many(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.interim.too_many() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "too many interim answers")));
        }
        if self.read >= TURN {
            self.read = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = into.filled().len();
        let done = Pin::new(&mut self.wire).poll_read(cx, into);
        if done.is_pending() {
            self.read = 0;
        }
        ready!(done)?;
        self.read += into.filled().len() - before;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write(cx, bytes)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire).poll_write_vectored(cx, pieces)
    }
    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }
}

/// One run's work whose beginning takes long in one piece: one beginning at a time, and between two of them everything else
/// has its turn.
#[derive(Default)]
pub(crate) struct OneByOne(Mutex<()>);

impl OneByOne {
    /// Does `work`. It begins when those that asked before have begun, and then waits beside them.
    pub(crate) async fn begin<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        let turn = self.0.lock().await;
        let begun = std::future::poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx))).await;
        tokio::task::yield_now().await;
        drop(turn);
        match begun {
            Poll::Ready(done) => done,
            Poll::Pending => work.await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::task::Waker;
    use tokio::io::AsyncReadExt as _;

    #[test]
    fn who_sends_without_end_gives_way_after_every_16_kib() {
        let read = Cell::new(0);
        let mut reading = Box::pin(async {
            let mut endless = Paced::new(tokio::io::repeat(b'x'));
            let mut piece = [0; 1024];
            // Were there no end to a turn, there would be one here.
            while read.get() < 100 * TURN {
                read.set(read.get() + endless.read(&mut piece).await.unwrap());
            }
        });
        for turn in 1..=4 {
            assert!(reading.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            assert_eq!(read.get(), turn * TURN);
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn between_two_beginnings_of_one_run_everything_else_has_its_turn() {
        let (turns, begun) = (Arc::new(OneByOne::default()), Arc::new(AtomicU32::new(0)));
        let let_go = Arc::new(tokio::sync::Semaphore::new(0));
        let mut working = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let (turns, begun, let_go) = (turns.clone(), begun.clone(), let_go.clone());
            let work = async move {
                begun.fetch_add(1, Ordering::Relaxed);
                drop(let_go.acquire().await);
            };
            working.spawn(async move { turns.begin(work).await });
        }
        // This task is everything else: each time that it has its turn, one more has begun at most.
        let mut before = 0;
        while before < 100 {
            tokio::task::yield_now().await;
            let now = begun.load(Ordering::Relaxed);
            assert!(now <= before + 1, "{before} had begun, then {now}");
            before = now;
        }
        // They wait beside one another for what comes later.
        let_go.add_permits(1);
        working.join_all().await;
    }

    #[tokio::test(flavor = "current_thread")]
    async fn who_goes_away_in_its_turn_leaves_the_next_one_its_own() {
        let turns = OneByOne::default();
        {
            let mut gone = pin!(turns.begin(std::future::pending::<()>()));
            assert!(std::future::poll_fn(|cx| Poll::Ready(gone.as_mut().poll(cx).is_pending())).await);
            assert!(turns.0.try_lock().is_err());
        }
        assert_eq!(turns.begin(async { 7 }).await, 7);
    }
}
