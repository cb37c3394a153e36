//! Followers of transcripts: they are woken, and read what is new from the rows, so a slow one loses nothing.
//!
//! A follower may hold its run ([`hold`]): when the last one that does is gone, and none comes back within
//! [`HOLD_GRACE`], the run is ended. So `volary exec` leaves no command behind when it is killed.

use crate::app::App;
use crate::runs;
use futures_util::Stream;
use model::RunId;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use store::StoreError;
use store::runs::RawEntry;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// How long a run waits for one who holds it: as long as a client may take to come back after a cut.
pub const HOLD_GRACE: Duration = Duration::from_secs(5);

/// Who waits for which run.
#[derive(Debug, Default)]
pub struct Live(Mutex<HashMap<RunId, watch::Sender<u64>>>, Mutex<HashMap<RunId, usize>>);

/// One who holds a run, while this lives.
pub struct Hold {
    app: App,
    run: RunId,
    person: String,
    runtime: Handle,
}

/// Holds a run for the person behind it.
///
/// # Panics
/// Outside a runtime.
#[must_use]
pub fn hold(app: &App, run: &RunId, person: String) -> Hold {
    *app.live.1.lock().unwrap_or_else(PoisonError::into_inner).entry(run.clone()).or_default() += 1;
    Hold { app: app.clone(), run: run.clone(), person, runtime: Handle::current() }
}

impl Live {
    fn is_held(&self, run: &RunId) -> bool {
        self.1.lock().unwrap_or_else(PoisonError::into_inner).contains_key(run)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut holds = self.app.live.1.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = holds.get_mut(&self.run) {
            *count -= 1;
            if *count > 0 {
                return;
            }
            holds.remove(&self.run);
        }
        drop(holds);
        let (app, run, person) = (self.app.clone(), self.run.clone(), self.person.clone());
        self.runtime.spawn(async move {
            tokio::time::sleep(HOLD_GRACE).await;
            if app.live.is_held(&run) {
                return;
            }
            let note = "whoever waited for this command is gone; it is ended".to_owned();
            match runs::cancel_for(&app, person, &run, note).await {
                Ok(_) => tracing::info!("the client of {run} is gone; it is ended"),
                // As it mostly is: over, and so its stream ended.
                Err(fault) => tracing::debug!("{run} needs no end: {}", fault.problem.message),
            }
        });
    }
}

impl Live {
    /// Wakes at every new line of the run's transcript; holds the last line's number once there was one.
    #[must_use]
    pub fn subscribe(&self, run: &RunId) -> watch::Receiver<u64> {
        let mut runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        runs.entry(run.clone()).or_insert_with(|| watch::channel(0).0).subscribe()
    }

    /// Says that line `n` of the run's transcript is committed.
    pub fn tell(&self, run: &RunId, n: u64) {
        let mut runs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = runs.get(run) {
            sender.send_if_modified(|last| std::mem::replace(last, n.max(*last)) < n);
            if sender.receiver_count() == 0 {
                runs.remove(run);
            }
        }
    }
}

/// Lines read at a time.
const PAGE: u32 = 256;

struct Follower {
    _hold: Option<Hold>,
    app: App,
    run: RunId,
    after: u64,
    read: VecDeque<RawEntry>,
    news: watch::Receiver<u64>,
}

impl Follower {
    async fn next(&mut self) -> Result<Option<RawEntry>, StoreError> {
        loop {
            if let Some(entry) = self.read.pop_front() {
                self.after = entry.n;
                return Ok(Some(entry));
            }
            self.news.mark_unchanged();
            self.read.extend(self.app.store.events(&self.run, self.after, PAGE).await?);
            if !self.read.is_empty() {
                continue;
            }
            let over = match self.app.store.run(&self.run).await? {
                None => true,
                Some(row) => row.state.is_over() && row.entries <= self.after,
            };
            // The sender lives as long as this receiver does; its end would mean that nothing more can come.
            if over || (self.news.changed().await.is_err()) {
                return Ok(None);
            }
        }
    }
}

/// The lines of a transcript after number `after`, and then each new one as it is committed.
/// Ends after the last line of a run that is over. `hold` lives as long as what is returned.
pub fn follow(
    app: &App,
    run: &RunId,
    after: u64,
    hold: Option<Hold>,
) -> impl Stream<Item = Result<RawEntry, StoreError>> + Send + use<> {
    let news = app.live.subscribe(run);
    let follower = Follower { _hold: hold, app: app.clone(), run: run.clone(), after, read: VecDeque::new(), news };
    futures_util::stream::unfold(Some(follower), |follower| async {
        let mut follower = follower?;
        match follower.next().await {
            Ok(Some(entry)) => Some((Ok(entry), Some(follower))),
            Ok(None) => None,
            Err(e) => Some((Err(e), None)),
        }
    })
}
