//! Followers of transcripts: they are woken, and read what is new from the rows, so a slow one loses nothing.

use crate::app::App;
use futures_util::Stream;
use model::RunId;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use store::StoreError;
use store::runs::RawEntry;
use tokio::sync::watch;

/// Who waits for which run.
#[derive(Debug, Default)]
pub struct Live(Mutex<HashMap<RunId, watch::Sender<u64>>>);

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
/// Ends after the last line of a run that is over.
pub fn follow(app: &App, run: &RunId, after: u64) -> impl Stream<Item = Result<RawEntry, StoreError>> + Send + use<> {
    let news = app.live.subscribe(run);
    let follower = Follower { app: app.clone(), run: run.clone(), after, read: VecDeque::new(), news };
    futures_util::stream::unfold(Some(follower), |follower| async {
        let mut follower = follower?;
        match follower.next().await {
            Ok(Some(entry)) => Some((Ok(entry), Some(follower))),
            Ok(None) => None,
            Err(e) => Some((Err(e), None)),
        }
    })
}
