//! The keeper: one task per live run, and the server's orders carried out.
//!
//! An order never blocks the link. A launch of a run that lives, or that has ended, changes nothing: the server's
//! picture was old, and the journal corrects it. A run that is not live is ended here, too, on a cancel or when the
//! server launches it no more: what it changed comes home first ([`crate::home`]).
//!
//! How a run that broke comes to its next attempt: when the gateway ends, or a box dies without a reason that we
//! know, an agent's run is *not* ended. It is told that the attempt is broken off, and why; its worktree and journal stay,
//! and [`Runs::stale`] makes the link say hello anew; the server sees the run neither live nor ended and launches its next
//! attempt (or ends it after the last one allowed). That is the way it goes after an operator's own death, so there is one
//! way only. An exec whose command was sent is ended instead, with its outcome unknown: a command is never silently
//! repeated. Decision 0023.
//!
//! Read [`Keeper::obey`](Orders::obey), then [`crate::attempt`].

use crate::attempt::{Attempt, Finish, Wishes};
use crate::cable::Cable;
use crate::checkout::Checkouts;
use crate::disk::Disk;
use crate::engine::Engine;
use crate::home::Homeward;
use crate::input::Input;
use crate::link::Orders;
use crate::repo::RepoProcess;
use crate::runs::{Coming, Run, Runs, locked};
use crate::vetting::Vetting;
use api::kept::{KeptAct, KeptAnswer};
use api::link::{Down, Launch, Up};
use model::{Event, Moment, Outcome, RunId};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// How often kept worktrees are tidied.
const TIDY: Duration = Duration::from_secs(3600);

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
    /// Bytes of a run's journal that its box may fill: [`crate::journal::MAX_JOURNAL`], less in tests.
    pub most_said: u64,
    /// Who is asked what images may be used.
    pub vetting: Arc<Vetting>,
}

impl Means {
    /// Where clones lie: beside our own folder, since their own user passes through.
    #[must_use]
    pub fn mirrors(&self) -> PathBuf {
        let own = self.runs.dir().parent().unwrap_or_else(|| self.runs.dir());
        own.parent().unwrap_or(own).join("mirrors")
    }

    /// Removes kept worktrees whose time is over, or for which there is no room. Blocks.
    pub fn tidy(&self) {
        match crate::rescue::tidy(self.engine.as_ref(), self.runs.dir(), Moment::from(SystemTime::now())) {
            Ok(gone) => {
                gone.iter().for_each(|run| tracing::warn!(%run, "a kept worktree was removed: its time was over"))
            }
            Err(cause) => tracing::error!(cause, "kept worktrees could not be tidied"),
        }
    }
}

/// What steers a live run.
struct Reins {
    cancel: watch::Sender<bool>,
    /// Whether its box is to stand still.
    still: watch::Sender<bool>,
    input: Arc<Input>,
    over: watch::Receiver<()>,
}

/// Carries out the server's orders.
#[derive(Clone)]
pub struct Keeper {
    means: Arc<Means>,
    live: Arc<Mutex<HashMap<RunId, Reins>>>,
    /// What no box took yet, of execs that are not settled.
    inputs: Arc<Mutex<HashMap<RunId, Arc<Input>>>>,
    /// One question about kept worktrees at a time: two imports of one would be two boxes on it.
    kept: Arc<tokio::sync::Mutex<()>>,
}

impl Keeper {
    /// A keeper of no boxes yet.
    #[must_use]
    pub fn new(means: Means) -> Self {
        Self { means: Arc::new(means), live: Arc::default(), inputs: Arc::default(), kept: Arc::default() }
    }

    /// Tidies the kept worktrees, now and every hour; does not return.
    pub async fn tidy(self) {
        loop {
            let means = Arc::clone(&self.means);
            crate::blocking(move || means.tidy()).await;
            tokio::time::sleep(TIDY).await;
        }
    }

    /// The input of a run, from before its box until it is settled.
    fn input(&self, id: &RunId) -> Arc<Input> {
        let mut inputs = locked(&self.inputs);
        let input = inputs.entry(id.clone()).or_insert_with(|| {
            let (runs, run) = (Arc::downgrade(&self.means.runs), id.clone());
            Arc::new(Input::telling(move |bytes| {
                if let Some(runs) = runs.upgrade() {
                    runs.tell(Up::Took { run: run.clone(), bytes });
                }
            }))
        });
        Arc::clone(input)
    }

    /// Says that a run is live, and gives what steers it; none when it lives already.
    fn enliven(&self, id: &RunId, cancelled: bool) -> Option<(Wishes, watch::Sender<()>)> {
        let mut live = locked(&self.live);
        if live.contains_key(id) {
            return None;
        }
        let ((cancel, cancelled), (still, stand)) = (watch::channel(cancelled), watch::channel(false));
        let (done, over) = watch::channel(());
        let input = self.input(id);
        live.insert(id.clone(), Reins { cancel, still, input: Arc::clone(&input), over });
        Some((Wishes { cancelled, still: stand, input }, done))
    }

    fn launch(&self, launch: Launch) {
        let Some((wishes, done)) = self.enliven(&launch.run, false) else {
            tracing::warn!(run = %launch.run, attempt = launch.attempt, "launched although it lives; nothing changes");
            return;
        };
        let (keeper, coming) = (self.clone(), self.means.runs.comes());
        tokio::spawn(async move {
            let id = launch.run.clone();
            keeper.carry(launch, coming, wishes).await;
            locked(&keeper.live).remove(&id);
            drop(done);
        });
    }

    async fn carry(&self, launch: Launch, coming: Coming, wishes: Wishes) {
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
        // What was wished before the run was known here.
        run.holds(*wishes.still.borrow());
        drop(coming);
        let attempt = launch.attempt;
        // In a task of its own: a fault of ours in it ends the attempt, and does not leave a run that nobody carries.
        let carried = Attempt::new(Arc::clone(&self.means), Arc::clone(&run), launch, wishes).carry();
        let finish = tokio::spawn(carried).await.unwrap_or_else(|fault| {
            tracing::error!(run = %run.id, %fault, "an attempt ended by a fault of the operator");
            Finish::Broken("the operator failed while it carried the run; its log says where".to_owned())
        });
        let (event, broken) = match finish {
            Finish::Ended(event) => (event, false),
            Finish::Broken(reason) => (Event::BrokenOff { attempt, reason }, true),
        };
        self.rest(&run, &event, broken).await;
    }

    /// Records how an attempt ended; a run that has not ended by that is told of anew.
    async fn rest(&self, run: &Arc<Run>, event: &Event, broken: bool) {
        let recorded = run.say(event).await;
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
        self.close(id, Outcome::Cancelled, "cancelled; no box of it was alive".into());
    }

    /// Has the box of a live run stand still, or go on. A run without one that is to go on is told of anew, so that the
    /// server launches it.
    fn hold(&self, id: &RunId, still: bool) {
        if let Some(reins) = locked(&self.live).get(id) {
            reins.still.send_replace(still);
            if let Some(run) = self.means.runs.get(id) {
                run.holds(still);
            }
        } else if !still && self.means.runs.get(id).is_none_or(|run| !run.ended()) {
            self.means.runs.are_stale();
        }
    }

    /// Ends a run that has no box, once what it changed is home. It counts as live meanwhile.
    fn close(&self, id: &RunId, outcome: Outcome, reason: String) {
        let Some(run) = self.means.runs.get(id).filter(|run| !run.ended()) else { return };
        let Some((wishes, done)) = self.enliven(id, outcome == Outcome::Cancelled) else {
            tracing::warn!(run = %id, "to be closed although it lives; nothing changes");
            return;
        };
        run.begin();
        let keeper = self.clone();
        tokio::spawn(async move {
            let homeward =
                Homeward { means: Arc::clone(&keeper.means), run: Arc::clone(&run), cancelled: wishes.cancelled };
            let event = homeward.close(outcome, reason, None).await;
            keeper.rest(&run, &event, false).await;
            locked(&keeper.live).remove(&run.id);
            drop(done);
        });
    }

    /// Does something about the kept worktrees, and tells the server what came of it.
    fn about_kept(&self, id: u64, what: KeptAct) {
        let keeper = self.clone();
        tokio::spawn(async move {
            let _alone = keeper.kept.lock().await;
            let answer = match what {
                KeptAct::List => keeper.list_kept().await,
                KeptAct::Import { run } => keeper.import_kept(run).await,
                KeptAct::Drop { run } => keeper.drop_kept(run).await,
            };
            let answer = answer.unwrap_or_else(|why| KeptAnswer::Failed { why });
            keeper.means.runs.tell(Up::Kept { id, answer });
        });
    }

    async fn list_kept(&self) -> Result<KeptAnswer, String> {
        let means = Arc::clone(&self.means);
        crate::blocking(move || {
            means.tidy();
            let kept = crate::rescue::list(means.runs.dir());
            kept.map(|kept| KeptAnswer::List { kept }).map_err(|e| format!("the kept worktrees cannot be listed: {e}"))
        })
        .await
    }

    async fn import_kept(&self, run: RunId) -> Result<KeptAnswer, String> {
        let (means, id) = (Arc::clone(&self.means), run.clone());
        let (note, place) = crate::blocking(move || {
            let dir = means.runs.dir();
            (crate::rescue::note(dir, &id), crate::rescue::place(dir, &id))
        })
        .await;
        let Some(note) = note else { return Ok(KeptAnswer::None) };
        let imported = crate::home::bring_kept(&self.means, &run, &note.of, place).await?;
        // The branch is there: whatever becomes of this, nothing is lost.
        self.drop_kept(run).await?;
        Ok(KeptAnswer::Imported(imported))
    }

    async fn drop_kept(&self, run: RunId) -> Result<KeptAnswer, String> {
        let means = Arc::clone(&self.means);
        let dropped = move || crate::rescue::discard(means.engine.as_ref(), means.runs.dir(), &run);
        let dropped = crate::blocking(dropped).await?;
        Ok(if dropped { KeptAnswer::Dropped } else { KeptAnswer::None })
    }

    fn settle(&self, id: RunId) {
        let over = locked(&self.live).get(&id).map(|reins| {
            reins.cancel.send_replace(true);
            reins.over.clone()
        });
        let (means, inputs) = (Arc::clone(&self.means), Arc::clone(&self.inputs));
        tokio::spawn(async move {
            if let Some(mut over) = over {
                while over.changed().await.is_ok() {}
            }
            locked(&inputs).remove(&id);
            let Some(run) = means.runs.get(&id) else { return };
            crate::blocking(move || drop_all(&means, &run)).await;
        });
    }
}

fn drop_all(means: &Means, run: &Run) {
    // The server ended it while nobody here could bring its changes home: a person asked for its end while this host was
    // away, say. They are not thrown away for that.
    if !run.ended() && run.started() && run.kept().is_some_and(|kept| kept.imports()) && run.image().exists() {
        match crate::rescue::keep(run) {
            Ok(place) => tracing::warn!(run = %run.id, place = %place.display(), "its changes are kept"),
            Err(cause) => {
                tracing::error!(run = %run.id, %cause, "its changes could not be kept; nothing of it is removed");
                return;
            }
        }
        means.tidy();
    }
    if let Err(cause) = means.engine.drop_worktree(&run.image()) {
        tracing::error!(run = %run.id, cause, "a worktree could not be removed");
    }
    if let Err(cause) = means.runs.forget(&run.id) {
        tracing::error!(run = %run.id, %cause, "a run's folder could not be removed");
    }
}

impl Orders for Keeper {
    fn obey(&self, order: Down) {
        match order {
            Down::Launch(launch) => self.launch(*launch),
            Down::Cancel { run } => self.cancel(&run),
            Down::Pause { run } => self.hold(&run, true),
            Down::Resume { run } => self.hold(&run, false),
            Down::Settle { run } => self.settle(run),
            Down::Close { run, reason } => self.close(&run, Outcome::Failed, reason),
            Down::Kept { id, what } => self.about_kept(id, what),
            Down::Image { id, refused } => self.means.vetting.answered(id, refused),
            Down::Warm { profiles } => self.means.engine.keep_warm(profiles),
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
