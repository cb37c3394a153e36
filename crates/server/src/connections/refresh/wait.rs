//! The wait of one who needs an access token that is over.

use super::Looked;
use crate::fault::Fault;
use policy::Refusal;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, Semaphore};

/// How long one who needs a token waits for it at most.
pub(super) const PATIENCE: Duration = Duration::from_secs(25);

/// How often one who waits looks again, should nobody tell: another server may be the one that refreshes.
const AGAIN: Duration = Duration::from_millis(200);

/// Looks at the connection `name` until its token is usable or it is closed: at once, whenever something `changed`, and every
/// now and then; for `patience`, and on one of `seats`.
///
/// # Errors
/// A refusal: of a connection that is closed, where no seat is free, and when the time is over.
pub(super) async fn until_usable<L>(
    name: &str,
    patience: Duration,
    changed: &Notify,
    seats: &Semaphore,
    mut look: impl FnMut() -> L,
) -> Result<(), Refusal>
where
    L: Future<Output = Result<Looked, Fault>>,
{
    let end = Instant::now() + patience;
    let mut seat = None;
    loop {
        let changed = changed.notified();
        match look().await {
            Ok(Looked::Usable) => return Ok(()),
            Ok(Looked::Closed(no)) => return Err(no),
            Ok(Looked::Later) => {}
            // Another server was faster with its record; what it did is seen at the next look.
            Err(fault) => tracing::warn!("the connection {name} could not be looked at: {}", fault.problem.message),
        }
        if seat.is_none() {
            let Ok(taken) = seats.try_acquire() else {
                return Err(Refusal::new("connection.stale", "Too many wait for this connection's token; try again."));
            };
            seat = Some(taken);
        }
        if Instant::now() >= end {
            let why = format!("The access token of the connection {name:?} is over, and no new one has come yet.");
            return Err(Refusal::new("connection.stale", why));
        }
        // That it took so long is no error: it looks again either way.
        drop(tokio::time::timeout(AGAIN, changed).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits so long at most for a token that becomes usable at look number `at`; gives how often was looked, and how long it took.
    async fn waited(patience: Duration, at: Option<u32>) -> (Result<(), Refusal>, u32, Duration) {
        let (changed, seats, began, mut looks) = (Notify::new(), Semaphore::new(1), Instant::now(), 0);
        let look = || {
            looks += 1;
            let now = if at == Some(looks) { Looked::Usable } else { Looked::Later };
            std::future::ready(Ok(now))
        };
        let came = until_usable("x", patience, &changed, &seats, look).await;
        assert_eq!(seats.available_permits(), 1, "its place is free again");
        (came, looks, began.elapsed())
    }

    #[tokio::test]
    async fn a_token_that_is_over_is_waited_for_as_long_as_patience_lasts_and_then_refused() {
        assert_eq!(PATIENCE, Duration::from_secs(25));
        let patience = Duration::from_secs(3);
        let (came, looks, took) = waited(patience, None).await;
        let no = came.unwrap_err();
        assert_eq!(no.rule, "connection.stale");
        assert!(no.why.contains("no new one has come yet"), "{}", no.why);
        assert!(looks >= 2 && took >= patience, "{looks} looks in {took:?}");
        // One that comes meanwhile is taken at the next look.
        let (came, looks, _) = waited(Duration::from_secs(3600), Some(3)).await;
        assert!(came.is_ok());
        assert_eq!(looks, 3);
    }
}
