//! What one run may take of this gateway for git. Whatever it fills, it fills for itself: another run has its own beside it.
//!
//! Read [`Share`].

use super::body::{MAX_FETCH, declared};
use super::{INLINE, READERS};
use http::HeaderMap;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bodies of one run's fetches that are held at once, in bytes; further ones wait. Twice the longest.
const ASKED: usize = 2 * MAX_FETCH;
/// The unit in which they are counted, in bytes.
const UNIT: usize = 64 << 10;

/// One run's share.
#[derive(Clone)]
pub(crate) struct Share {
    /// Its turn to push: one at a time.
    pushes: Arc<Semaphore>,
    /// Its turn to propose: one at a time.
    proposals: Arc<Semaphore>,
    /// Room for what its fetches ask for.
    asked: Arc<Semaphore>,
    /// Its turn to have something worked on: one at a time.
    works: Arc<Semaphore>,
}

impl Default for Share {
    fn default() -> Self {
        let of = |permits| Arc::new(Semaphore::new(permits));
        Self { pushes: of(1), proposals: of(1), asked: of(ASKED / UNIT), works: of(1) }
    }
}

impl Share {
    /// The turn to push, if no push of the run has it.
    pub(super) fn push(&self) -> Option<OwnedSemaphorePermit> {
        self.pushes.clone().try_acquire_owned().ok()
    }

    /// The turn to propose, if no proposal of the run has it.
    pub(super) fn propose(&self) -> Option<OwnedSemaphorePermit> {
        self.proposals.clone().try_acquire_owned().ok()
    }

    /// Waits for room for the body of a fetch with these headers; it is given back when the permit is dropped.
    pub(super) async fn ask(&self, headers: &HeaderMap) -> Option<OwnedSemaphorePermit> {
        let units = declared(headers, MAX_FETCH).div_ceil(UNIT).max(1);
        self.asked.clone().acquire_many_owned(u32::try_from(units).ok()?).await.ok()
    }

    /// Does `work` beside the thread that serves, in one of the seats for that, once it is the run's turn: however much it has to
    /// be done, it stands once in the queue for all.
    ///
    /// Turn, seat and `held` go along and end with the work: a box that hangs up ends its request, but not what was begun for
    /// it, and would otherwise have a free seat for the next.
    pub(super) async fn beside<T: Send + 'static>(
        &self,
        held: impl Send + 'static,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let turn = self.works.clone().acquire_owned().await.ok()?;
        let seat = READERS.acquire().await.ok()?;
        let work = move || {
            let done = work();
            drop((seat, turn, held));
            done
        };
        tokio::task::spawn_blocking(work).await.ok()
    }

    /// As [`Share::beside`], for what is long enough to hold up the thread that serves; else at once. `length` is in bytes.
    pub(super) async fn weighed<T: Send + 'static>(
        &self,
        length: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        if length > INLINE { self.beside((), work).await } else { Some(work()) }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::READING;
    use super::super::body::{fetch_body, read};
    use super::*;
    use bytes::Bytes;
    use http::HeaderValue;
    use http_body::Frame;
    use http_body_util::StreamBody;
    use std::convert::Infallible;
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::Poll;
    use tokio::sync::Mutex;

    /// Tests that look at the seats of all, one after the other.
    pub(in crate::git) static SEATS: Mutex<()> = Mutex::const_new(());

    async fn is_pending<T>(coming: &mut Pin<&mut (dyn Future<Output = T> + '_)>) -> bool {
        std::future::poll_fn(|cx| Poll::Ready(coming.as_mut().poll(cx).is_pending())).await
    }

    /// A body of so many bytes that then stands still.
    fn standing(bytes: usize) -> impl http_body::Body<Data = Bytes, Error = Infallible> + Unpin {
        use futures_util::StreamExt as _;
        let first = futures_util::stream::iter([Ok(Frame::data(Bytes::from(vec![b'0'; bytes])))]);
        StreamBody::new(Box::pin(first.chain(futures_util::stream::pending())))
    }

    fn whole(bytes: Vec<u8>) -> http_body_util::Full<Bytes> {
        http_body_util::Full::new(bytes.into())
    }

    #[tokio::test]
    async fn a_run_that_floods_with_fetches_that_stand_still_fills_its_own_room_and_another_run_fetches() {
        let (flooding, other, none) = (Share::default(), Share::default(), HeaderMap::new());
        let mut flood: Vec<_> = (0..64)
            .map(|_| {
                let (share, none) = (&flooding, &none);
                Box::pin(async move {
                    let room = share.ask(none).await;
                    fetch_body(share, none, standing(MAX_FETCH - 1)).await.map(|body| (body, room))
                })
            })
            .collect();
        for one in &mut flood {
            assert!(is_pending(&mut (one.as_mut() as Pin<&mut dyn Future<Output = _>>)).await, "none is refused");
        }
        assert_eq!(flooding.asked.available_permits(), 0, "two are held, and sixty-two are not read");
        let room = other.ask(&none).await;
        assert!(fetch_body(&other, &none, whole(b"0000".to_vec())).await.is_ok() && room.is_some());
        // And what it pushes in the same way is its own, too: one at a time, of which little is taken from all.
        let turn = flooding.push();
        assert!(turn.is_some() && flooding.push().is_none() && other.push().is_some());
    }

    #[tokio::test]
    async fn what_is_said_to_be_short_takes_little_room() {
        let (share, mut headers) = (Share::default(), HeaderMap::new());
        headers.insert("content-length", HeaderValue::from_static("2000"));
        let short = share.ask(&headers).await;
        assert_eq!(share.asked.available_permits(), ASKED / UNIT - 1);
        drop(short);
        // Out of gzip it may be as long as any.
        headers.insert("content-encoding", HeaderValue::from_static("gzip"));
        let _long = share.ask(&headers).await;
        assert_eq!(share.asked.available_permits(), ASKED / UNIT / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_push_takes_nothing_of_the_room_of_all_and_a_long_one_waits_for_it() {
        use super::super::MAX_PUSH;
        use super::super::body::{HELD, OWN_PUSH};
        let share = Share::default();
        let all = HELD.acquire_many(u32::try_from(HELD.available_permits()).unwrap()).await.unwrap();
        let none = HeaderMap::new();
        let (short, held) = read(&share, &none, whole(vec![0; OWN_PUSH]), (OWN_PUSH, MAX_PUSH)).await.unwrap();
        assert!(short.len() == OWN_PUSH && held.is_none(), "it is the run's own");
        let mut long = pin!(read(&share, &none, whole(vec![0; OWN_PUSH + 1]), (OWN_PUSH, MAX_PUSH)));
        assert!(is_pending(&mut (long.as_mut() as Pin<&mut dyn Future<Output = _>>)).await);
        drop(all);
        let (long, held) = long.await.unwrap();
        assert_eq!(
            (long.len(), held.map(|held| held.num_permits())),
            (OWN_PUSH + 1, Some((MAX_PUSH - OWN_PUSH) >> 20))
        );
        let _all = HELD.acquire_many(u32::try_from(HELD.available_permits()).unwrap()).await.unwrap();
        let no = read(&share, &none, whole(vec![0; OWN_PUSH + 1]), (OWN_PUSH, MAX_PUSH)).await.unwrap_err();
        assert_eq!(no.rule, "git.full", "it does not wait for ever");
    }

    #[tokio::test]
    async fn of_a_run_one_thing_is_worked_on_at_once_and_another_run_has_the_other_seat() {
        let _alone = SEATS.lock().await;
        let (flooding, other) = (Share::default(), Share::default());
        let (end, may_end) = std::sync::mpsc::channel::<()>();
        let first = flooding.beside((), move || may_end.recv().unwrap_err());
        let mut first = pin!(first);
        assert!(is_pending(&mut (first.as_mut() as Pin<&mut dyn Future<Output = _>>)).await);
        let mut more: Vec<_> = (0..64).map(|_| Box::pin(flooding.beside((), || ()))).collect();
        for one in &mut more {
            assert!(is_pending(&mut (one.as_mut() as Pin<&mut dyn Future<Output = _>>)).await);
        }
        assert_eq!(READERS.available_permits(), READING - 1);
        assert_eq!(other.beside((), || 7).await, Some(7));
        drop(end);
        assert!(first.await.is_some());
        for one in more {
            assert_eq!(one.await, Some(()));
        }
    }
}
