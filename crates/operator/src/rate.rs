//! How fast a box may say things: what comes faster waits in the box's own pipes, and nothing of it is lost.
//!
//! Without it a box's words would take as much of the host's disk and processors as the gateway's scrubber lets through.

use crate::engine::Gauge;
use crate::runs::locked;
use api::inbox::Counts;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

/// So many seconds of its rate a box may say at once, where it said less before.
const AHEAD_SECS: u64 = 4;

/// The rate of one box.
#[derive(Debug)]
pub struct Rate {
    /// Bytes in a second.
    most: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// When all that was said would have been said at the rate itself.
    due: Option<Instant>,
    /// For how long the box was held up, before the moment in `since`.
    held: Duration,
    /// Since when it is held up, if it is.
    since: Option<Instant>,
}

impl Rate {
    /// So many KiB of frames in a second; of none, each byte waits as if it were of one.
    #[must_use]
    pub fn of(kib_per_second: u64) -> Self {
        Self { most: kib_per_second.max(1).saturating_mul(1024), state: Mutex::default() }
    }

    /// How long so many bytes take at the rate.
    fn time_of(&self, bytes: u64) -> Duration {
        Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / self.most)
    }

    /// The box has said `bytes` more; returns when it may go on.
    pub async fn take(&self, bytes: usize) {
        let now = Instant::now();
        let until = {
            let mut state = locked(&self.state);
            let due = state.due.map_or(now, |due| due.max(now)) + self.time_of(bytes as u64);
            state.due = Some(due);
            let until = due.checked_sub(Duration::from_secs(AHEAD_SECS)).filter(|until| *until > now);
            state.since = until.map(|_| now);
            until
        };
        let Some(until) = until else { return };
        tokio::time::sleep_until(until).await;
        let mut state = locked(&self.state);
        if let Some(since) = state.since.take() {
            state.held += since.elapsed();
        }
    }

    /// For how long it was held up so far, this time included.
    fn so_far(&self) -> Duration {
        let state = locked(&self.state);
        state.held + state.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// A gauge that tells it beside what `gauge` does.
    pub fn beside(self: &Arc<Self>, gauge: Gauge) -> Gauge {
        let rate = Arc::clone(self);
        let held = move || u64::try_from(rate.so_far().as_millis()).unwrap_or(u64::MAX);
        Box::new(move || Counts { held_ms: held(), ..gauge() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Profile;

    const MIB: usize = 1 << 20;
    const SAID_MIB_A_SECOND: u64 = 16;
    const SAID_MIB_AHEAD: u64 = 64;

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn what_a_box_says_beyond_its_rate_waits_and_how_long_is_counted() {
        let rate = Arc::new(Rate::of(Profile::default().limits.output_kib_per_second));
        let gauge = rate.beside(Box::new(|| Counts { memory_kills: 3, ..Counts::default() }));
        let began = Instant::now();
        // So much at once.
        for _ in 0..SAID_MIB_AHEAD {
            rate.take(MIB).await;
        }
        assert_eq!((began.elapsed(), gauge().held_ms), (Duration::ZERO, 0));
        // And from then on so much in a second, in pieces of whatever length.
        for _ in 0..SAID_MIB_A_SECOND * 3 {
            rate.take(MIB).await;
        }
        rate.take(SAID_MIB_A_SECOND as usize * MIB).await;
        let (all, held) = (began.elapsed(), gauge().held_ms);
        assert!(all >= Duration::from_secs(4) && all < Duration::from_millis(4100), "{all:?}");
        assert!((3_900..=4_100).contains(&held), "{held}");
        assert_eq!(gauge().memory_kills, 3);
        // What was not said for a while may be said at once.
        tokio::time::sleep(Duration::from_secs(1000)).await;
        let began = Instant::now();
        rate.take(SAID_MIB_AHEAD as usize * MIB).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
        rate.take(1).await;
        assert!(began.elapsed() > Duration::ZERO);
        // A box that is held up at this moment is so for the gauge too.
        let holding = {
            let rate = Arc::clone(&rate);
            tokio::spawn(async move { rate.take(SAID_MIB_A_SECOND as usize * MIB * 10).await })
        };
        let before = gauge().held_ms;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!((4_900..=5_100).contains(&(gauge().held_ms - before)), "{}", gauge().held_ms - before);
        holding.await.unwrap();
    }
}
