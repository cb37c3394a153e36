//! Time as the box lives it. While a person has a run paused, its box stands still and the kernel's clocks go on: what an
//! agent waited for is not over by that.
//!
//! The limits of a run are kept elsewhere ([`Counts::stood_ms`](api::inbox::Counts)); these are the agent's own.

use std::time::Duration;
use tokio::time::Instant;

/// How often the clock is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// What one look counts for at most: more than a busy machine lets it be late.
const MOST: Duration = Duration::from_secs(5);

/// It took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Late;

/// Waits for so long; a pause counts as [`MOST`] at most.
pub async fn sleep(time: Duration) {
    let mut left = time;
    while !left.is_zero() {
        let (step, began) = (left.min(LOOK), Instant::now());
        tokio::time::sleep(step).await;
        left = left.saturating_sub(began.elapsed().clamp(step, MOST));
    }
}

/// What comes of `work`, if that comes in time.
///
/// # Errors
/// [`Late`]; the work is given up then.
pub async fn timeout<T>(time: Duration, work: impl Future<Output = T>) -> Result<T, Late> {
    tokio::select! {
        biased;
        done = work => Ok(done),
        () = sleep(time) => Err(Late),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn a_jump_of_the_clock_counts_as_one_late_look() {
        let began = Instant::now();
        let waits = tokio::spawn(sleep(Duration::from_secs(60)));
        tokio::time::sleep(Duration::from_millis(10_500)).await;
        // As after a pause of an hour: nothing of this process saw it pass.
        tokio::time::advance(Duration::from_secs(3600)).await;
        waits.await.unwrap();
        let lived = began.elapsed() - Duration::from_secs(3600);
        assert!(lived <= Duration::from_secs(60) && lived >= Duration::from_secs(60) - MOST, "{lived:?}");
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn what_does_not_come_in_time_is_late_and_what_comes_is_not() {
        assert_eq!(timeout(Duration::from_secs(300), std::future::pending::<()>()).await, Err(Late));
        assert_eq!(timeout(Duration::from_secs(300), sleep(Duration::from_secs(299))).await, Ok(()));
        assert_eq!(timeout(Duration::ZERO, std::future::ready(7)).await, Ok(7));
    }
}
