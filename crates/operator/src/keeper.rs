//! The keeper: one task per live run, and the server's orders carried out.
//!
//! An order never blocks the link. A launch of a run that lives, or that has ended, changes nothing: the server's
//! picture was old, and the journal corrects it. A cancel of a run that is not live is recorded as its end here.
//!
//! How a run that broke comes to its next attempt: when the gateway ends, or a box dies without a reason that we
//! know, an agent's run is *not* ended. It gets a note, its worktree and journal stay, and [`Runs::stale`] makes the
//! link say hello anew; the server sees the run neither live nor ended and launches its next attempt (or ends it
//! after the last one allowed). That is the way it goes after an operator's own death, so there is one way only. An
//! exec whose command was sent is ended instead, with its outcome unknown: a command is never silently repeated.
//!
//! Read [`Keeper::obey`](Orders::obey), then [`crate::attempt`].

use crate::attempt::{Attempt, Finish};
use crate::cable::Cable;
use crate::checkout::Checkouts;
use crate::disk::Disk;
use crate::engine::Engine;
use crate::input::Input;
use crate::link::Orders;
use crate::repo::RepoProcess;
use crate::runs::{Coming, Run, Runs, locked};
use api::link::{Down, Launch};
use model::{Event, Outcome, RunId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// What every attempt works with.
pub struct Means {
    /// The runs.
    pub runs: Arc<Runs>,
    /// The gateway.
    pub cable: Cable,
    /// The engine.
    pub engine: Arc<dyn Engine>,
    /// The repository processes.
    pub repo: RepoProcess,
    /// Clean checkouts.
    pub checkouts: Arc<Checkouts>,
    /// The disk that holds all of it.
    pub disk: Disk,
}

/// What steers a live run.
struct Reins {
    cancel: watch::Sender<bool>,
    input: Arc<Input>,
    over: watch::Receiver<()>,
}

/// Carries out the server's orders.
#[derive(Clone)]
pub struct Keeper {
    means: Arc<Means>,
    live: Arc<Mutex<HashMap<RunId, Reins>>>,
}

impl Keeper {
    /// A keeper of no boxes yet.
    #[must_use]
    pub fn new(means: Means) -> Self {
        Self { means: Arc::new(means), live: Arc::default() }
    }

    fn launch(&self, launch: Launch) {
        let mut live = locked(&self.live);
        if live.contains_key(&launch.run) {
            tracing::warn!(run = %launch.run, attempt = launch.attempt, "launched although it lives; nothing changes");
            return;
        }
        let (cancel, cancelled) = watch::channel(false);
        let (done, over) = watch::channel(());
        let input = Arc::new(Input::default());
        live.insert(launch.run.clone(), Reins { cancel, input: Arc::clone(&input), over });
        drop(live);
        let (keeper, coming) = (self.clone(), self.means.runs.comes());
        tokio::spawn(async move {
            let id = launch.run.clone();
            keeper.carry(launch, coming, cancelled, input).await;
            locked(&keeper.live).remove(&id);
            drop(done);
        });
    }

    async fn carry(&self, launch: Launch, coming: Coming, cancelled: watch::Receiver<bool>, input: Arc<Input>) {
        let (means, id) = (Arc::clone(&self.means), launch.run.clone());
        let run = match crate::blocking(move || means.runs.take(&id)).await {
            Ok(run) => run,
            Err(cause) => {
                // Nothing can be recorded, so nothing happens; the next hello does not know the run.
                tracing::error!(run = %launch.run, %cause, "a run has no journal; it is not launched");
                self.means.runs.are_stale();
                return;
            }
        };
        if run.ended() {
            tracing::info!(run = %run.id, "launched although it ended; the link tells the server");
            return;
        }
        run.begin();
        drop(coming);
        let finish = Attempt::new(Arc::clone(&self.means), Arc::clone(&run), launch, cancelled, input).carry().await;
        let (event, broken) = match finish {
            Finish::Ended(event) => (event, false),
            Finish::Broken(text) => (Event::Note { text }, true),
        };
        let recorded = run.say(&event).await;
        run.rest();
        if let Err(cause) = &recorded {
            tracing::error!(run = %run.id, %cause, "the end of an attempt could not be recorded");
        }
        if broken || recorded.is_err() {
            locked(&self.live).remove(&run.id);
            self.means.runs.are_stale();
        }
    }

    fn cancel(&self, id: &RunId) {
        if let Some(reins) = locked(&self.live).get(id) {
            reins.cancel.send_replace(true);
            return;
        }
        let Some(run) = self.means.runs.get(id) else { return };
        tokio::spawn(async move {
            if !run.ended()
                && let Err(cause) = run.say(&cancelled()).await
            {
                tracing::error!(run = %run.id, %cause, "a cancel could not be recorded");
            }
        });
    }

    fn settle(&self, id: RunId) {
        let over = locked(&self.live).get(&id).map(|reins| {
            reins.cancel.send_replace(true);
            reins.over.clone()
        });
        let means = Arc::clone(&self.means);
        tokio::spawn(async move {
            if let Some(mut over) = over {
                while over.changed().await.is_ok() {}
            }
            let Some(run) = means.runs.get(&id) else { return };
            crate::blocking(move || drop_all(&means, &run)).await;
        });
    }
}

fn drop_all(means: &Means, run: &Run) {
    if let Err(cause) = means.engine.drop_worktree(&run.image()) {
        tracing::error!(run = %run.id, cause, "a worktree could not be removed");
    }
    if let Err(cause) = means.runs.forget(&run.id) {
        tracing::error!(run = %run.id, %cause, "a run's folder could not be removed");
    }
}

/// The end of a run on a person's word, when no box of it lives.
fn cancelled() -> Event {
    Event::Ended { outcome: Outcome::Cancelled, reason: "cancelled; no box of it was alive".into(), exit: None }
}

impl Orders for Keeper {
    fn obey(&self, order: Down) {
        match order {
            Down::Launch(launch) => self.launch(*launch),
            Down::Cancel { run } => self.cancel(&run),
            Down::Settle { run } => self.settle(run),
            Down::Input { run, data_b64, end } => {
                if let Some(reins) = locked(&self.live).get(&run) {
                    reins.input.push(data_b64, end);
                }
            }
            // The link's own business.
            Down::Ack { .. } | Down::Resend { .. } | Down::Head { .. } => {}
        }
    }
}
