//! Acts that are done again until they are kept: what they keep, nobody else has.

use crate::fault::Fault;
use std::time::Duration;

/// How often an act for which somebody waits is tried: for about half a second.
pub(super) const TRIES: u32 = 8;

/// How long is waited after these tries, in an act for which nobody waits.
const AGAIN: Duration = Duration::from_secs(5);

/// The wait after the `n`th time that something could not be kept.
pub(super) async fn pause(n: u32) {
    tokio::time::sleep(Duration::from_millis(20 * u64::from(n))).await;
}

/// Does an act until it is kept, for as long as the server lives: eight times in half a second, then every five. Nobody may wait
/// for it. `what` says to the log what is not kept yet.
///
/// # Errors
/// One that stays whenever it is tried ([`Fault::is_lasting`]).
pub(super) async fn until_kept<T, F>(what: &str, act: impl Fn() -> F) -> Result<T, Fault>
where
    F: Future<Output = Result<T, Fault>>,
{
    tried(what, AGAIN, act).await
}

async fn tried<T, F>(what: &str, again: Duration, act: impl Fn() -> F) -> Result<T, Fault>
where
    F: Future<Output = Result<T, Fault>>,
{
    let mut n = 1;
    loop {
        match act().await {
            Err(fault) if fault.is_lasting() => return Err(fault),
            Err(_) if n < TRIES => pause(n).await,
            Err(fault) => {
                tracing::error!("{what} is not kept yet: {}", fault.problem.message);
                tokio::time::sleep(again).await;
            }
            kept => return kept,
        }
        n = n.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use store::StoreError;

    /// Does an act that fails so long with this; gives how often it was done, and what came of it.
    async fn done(fails: u32, with: StoreError) -> (u32, Result<(), Fault>) {
        let times = Cell::new(0);
        let act = || {
            times.set(times.get() + 1);
            let failed = times.get() <= fails;
            std::future::ready(if failed { Err(Fault::from(with.clone())) } else { Ok(()) })
        };
        let came = tried("it", Duration::from_millis(1), act).await;
        (times.get(), came)
    }

    #[tokio::test]
    async fn what_may_pass_is_tried_until_it_is_kept_and_what_stays_is_tried_once() {
        let (times, kept) = done(TRIES + 30, StoreError::NotCommitted).await;
        assert!(times == TRIES + 31 && kept.is_ok());
        let corrupt = StoreError::Corrupt { what: "connection", why: "x".into() };
        let (times, kept) = done(100, corrupt).await;
        assert_eq!((times, kept.unwrap_err().problem.code.as_str()), (1, "store.corrupt"));
    }
}
