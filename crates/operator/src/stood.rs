//! How long a box stood still because a person had paused its run: the clock by which its limits count, here and, through
//! [`Counts`], in the box itself, whose own clocks went on.

use crate::engine::Gauge;
use crate::runs::locked;
use api::inbox::Counts;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The clock of one box.
#[derive(Debug, Default)]
pub struct Stood(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    before: Duration,
    /// Since when it stands still, if it does.
    since: Option<Instant>,
}

impl Stood {
    /// It stands still from now on.
    pub fn stop(&self) {
        locked(&self.0).since.get_or_insert_with(Instant::now);
    }

    /// It goes on.
    pub fn go_on(&self) {
        let mut state = locked(&self.0);
        if let Some(since) = state.since.take() {
            state.before += since.elapsed();
        }
    }

    /// Whether it stands still.
    #[must_use]
    pub fn stands(&self) -> bool {
        locked(&self.0).since.is_some()
    }

    /// For how long it stood still so far, this time included.
    #[must_use]
    pub fn so_far(&self) -> Duration {
        let state = locked(&self.0);
        state.before + state.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// For how long it has been standing still, in milliseconds.
    #[must_use]
    pub fn this_time(&self) -> u64 {
        ms(locked(&self.0).since.map_or(Duration::ZERO, |since| since.elapsed()))
    }

    /// A gauge that tells it beside what the kernel counted.
    pub fn beside(self: &Arc<Self>, gauge: Gauge) -> Gauge {
        let stood = Arc::clone(self);
        Box::new(move || Counts { stood_ms: ms(stood.so_far()), ..gauge() })
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Returns once a person wants the box to do what it does not: to go on where it `stands`, or else to stand. One that
/// did not obey is asked `again` at that moment.
pub async fn wished(wish: &mut watch::Receiver<bool>, stands: bool, again: Option<Instant>) {
    if wish.wait_for(|still| *still != stands).await.is_err() {
        // The keeper of the reins is gone, so nobody can wish any more.
        std::future::pending::<()>().await;
    }
    if let Some(moment) = again {
        tokio::time::sleep_until(moment).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn each_pause_counts_once_and_one_that_lasts_counts_so_far() {
        let stood = Arc::new(Stood::default());
        let gauge = stood.beside(Box::new(|| Counts { memory_kills: 3, ..Counts::default() }));
        let wait = |secs| tokio::time::sleep(Duration::from_secs(secs));
        wait(5).await;
        assert_eq!(stood.so_far(), Duration::ZERO);
        stood.stop();
        wait(7).await;
        stood.stop();
        assert_eq!((stood.this_time(), stood.so_far()), (7_000, Duration::from_secs(7)));
        assert_eq!(gauge(), Counts { memory_kills: 3, stood_ms: 7_000, ..Counts::default() });
        stood.go_on();
        stood.go_on();
        wait(9).await;
        stood.stop();
        wait(1).await;
        assert_eq!((stood.this_time(), stood.so_far(), stood.stands()), (1_000, Duration::from_secs(8), true));
    }
}
