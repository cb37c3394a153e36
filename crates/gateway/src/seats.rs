//! Connections over all runs. Each is a descriptor of this process, and so is what it reaches: when there are
//! many, a run that has more than its share of them waits, and the others do not.
//!
//! Read [`Share::take`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The part of this process's descriptors that connections of boxes take freely. Twice as many can be taken when
/// every run has its share, and each may reach out once: that is all of them only if every run does its worst.
const PART: u64 = 4;
/// Taken for the descriptors of a process without a limit.
const NO_LIMIT: u64 = 1 << 20;

/// The seats of all runs.
pub(crate) struct Seats {
    plenty: usize,
    taken: Mutex<Taken>,
    freed: Notify,
}

#[derive(Default)]
struct Taken {
    last: u64,
    all: usize,
    by_share: HashMap<u64, usize>,
}

impl Seats {
    /// As many as this process's limit of descriptors allows.
    pub(crate) fn of_this_process() -> Arc<Self> {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(NO_LIMIT);
        Self::of(usize::try_from(limit / PART).unwrap_or(usize::MAX).max(1))
    }

    fn of(plenty: usize) -> Arc<Self> {
        Arc::new(Self { plenty, taken: Mutex::default(), freed: Notify::new() })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One run's part in the seats; it lives as long as the last of its seats.
pub(crate) struct Share {
    seats: Arc<Seats>,
    id: u64,
}

impl Share {
    pub(crate) fn of(seats: &Arc<Seats>) -> Arc<Self> {
        let mut taken = seats.taken();
        taken.last += 1;
        let id = taken.last;
        taken.by_share.insert(id, 0);
        Arc::new(Self { seats: seats.clone(), id })
    }

    /// A seat: at once while there are plenty, or this run has fewer than its share; else when that is so.
    pub(crate) async fn take(self: &Arc<Self>) -> Seat {
        loop {
            let mut freed = std::pin::pin!(self.seats.freed.notified());
            freed.as_mut().enable();
            if let Some(seat) = self.take_now() {
                return seat;
            }
            freed.await;
        }
    }

    fn take_now(self: &Arc<Self>) -> Option<Seat> {
        let mut taken = self.seats.taken();
        let share = (self.seats.plenty / taken.by_share.len().max(1)).max(1);
        let plenty = taken.all < self.seats.plenty;
        let own = taken.by_share.get_mut(&self.id)?;
        if !plenty && *own >= share {
            return None;
        }
        *own += 1;
        taken.all += 1;
        Some(Seat(self.clone()))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.seats.taken().by_share.remove(&self.id);
        self.seats.freed.notify_waiters();
    }
}

/// A seat; given back when it is dropped.
pub(crate) struct Seat(Arc<Share>);

impl Drop for Seat {
    fn drop(&mut self) {
        let seats = &self.0.seats;
        {
            let mut taken = seats.taken();
            taken.all -= 1;
            if let Some(own) = taken.by_share.get_mut(&self.0.id) {
                *own -= 1;
            }
        }
        seats.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Poll;

    #[tokio::test(flavor = "current_thread")]
    async fn a_run_that_has_all_seats_waits_and_one_that_has_none_does_not() {
        let seats = Seats::of(4);
        let (greedy, modest) = (Share::of(&seats), Share::of(&seats));
        let mut held: Vec<_> = (0..4).map(|_| greedy.take_now().expect("plenty")).collect();
        assert!(greedy.take_now().is_none());
        let other: Vec<_> = (0..2).map(|_| modest.take_now().expect("its share")).collect();
        assert!(modest.take_now().is_none(), "a share of two runs is half of four");

        let mut waiting = std::pin::pin!(greedy.take());
        for there_are in [5, 4] {
            assert!(std::future::poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx).is_pending())).await);
            drop(held.pop());
            assert_eq!(seats.taken().all, there_are);
        }
        assert!(std::future::poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx).is_pending())).await);
        drop(other);
        drop(waiting.await);
        assert_eq!(seats.taken().all, 2);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_run_that_is_gone_leaves_its_share_to_the_others() {
        let seats = Seats::of(2);
        let (stays, goes) = (Share::of(&seats), Share::of(&seats));
        let _held = [stays.take_now().expect("plenty"), goes.take_now().expect("plenty")];
        assert!(stays.take_now().is_none());
        drop((_held, goes));
        assert_eq!(seats.taken().by_share.len(), 1);
        assert!(stays.take_now().is_some());
    }
}
