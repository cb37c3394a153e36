//! What a run changed, on its way into its repository.
//!
//! The rule, whatever ends a run: its changes become the branch `volary/<run>`; where that cannot be done they are kept
//! ([`crate::rescue`]), and the reason of the end says where and what to do. A box whose processes are dead is read as
//! it is; without one, as after a kill, a box is made on the worktree that nothing ever runs in, and is read.
//!
//! Read [`Homeward::close`] (an end with no box left), then [`Homeward::bring_box`].

use crate::boxed::Boxed;
use crate::keeper::Means;
use crate::repo::{Imported, Rein};
use crate::rescue;
use crate::runs::{Kept, Run};
use api::kept::KeptImported;
use model::event::Exit;
use model::profile::Engine;
use model::{Event, Outcome, Profile, RunId};
use sandbox::BoxPlan;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long a result may take to come into the repository.
const HOME: Duration = Duration::from_secs(600);
/// The same, of a run that was cancelled before.
const HOME_CANCELLED: Duration = Duration::from_secs(60);

/// The way home of one run's changes.
pub struct Homeward {
    /// What it works with.
    pub means: Arc<Means>,
    /// The run.
    pub run: Arc<Run>,
    /// A person's wish to end it.
    pub cancelled: watch::Receiver<bool>,
}

/// What was brought home, and what could not be brought along.
type Brought = (Imported, Vec<String>);

impl Homeward {
    /// The end of a run that has no box, or whose box brought nothing home: its changes come home first. What is given
    /// is to be recorded.
    pub async fn close(&self, outcome: Outcome, reason: String, exit: Option<Exit>) -> Event {
        match self.bring_image().await {
            Ok(()) => Event::Ended { outcome, reason, exit },
            Err(why) => self.kept(outcome, &reason, exit, &why).await,
        }
    }

    /// The end of a run whose changes cannot come home, for the reason `why`: they are kept.
    pub async fn kept(&self, outcome: Outcome, reason: &str, exit: Option<Exit>, why: &str) -> Event {
        let before = if reason.is_empty() { "the agent says the task is done" } else { reason };
        let outcome = if outcome == Outcome::Cancelled { outcome } else { Outcome::Failed };
        let (before, why) = (before.trim_end_matches('.'), why.trim_end_matches('.'));
        let (run, means) = (Arc::clone(&self.run), Arc::clone(&self.means));
        let kept = crate::blocking(move || {
            let base = run.kept().and_then(|kept| kept.base).unwrap_or_default();
            let place = rescue::keep(&run).map_err(|e| format!("The agent's changes could not be kept: {e}."))?;
            means.tidy();
            Ok(rescue::way_out(&place, &run.id, &base))
        });
        let kept = kept.await.unwrap_or_else(|why: String| why);
        let reason = format!("{before}; but the result is not in the repository: {why}. {kept}");
        Event::Ended { outcome, reason, exit }
    }

    /// From a box whose processes are dead, and records the result.
    ///
    /// # Errors
    /// One sentence: why there is no branch.
    pub async fn bring_box(&self, live: &mut Boxed) -> Result<(), String> {
        let Some(kept) = self.run.kept().filter(Kept::imports) else { return Ok(()) };
        let brought = bring(&self.means, &self.run.id, &kept, live, &self.cancelled).await?;
        self.record(brought).await
    }

    /// From the worktree of a run without a box, and records the result. Nothing happens for a run that never came to
    /// its task.
    async fn bring_image(&self) -> Result<(), String> {
        let Some(kept) = self.run.kept().filter(Kept::imports).filter(|_| self.run.started()) else { return Ok(()) };
        let run = Arc::clone(&self.run);
        let back = crate::blocking(move || rescue::take_back(&run)).await;
        back.map_err(|e| format!("its worktree, which was kept, cannot be taken back: {e}"))?;
        let brought = read(&self.means, &self.run.id, &kept, self.run.image(), &self.cancelled).await?;
        self.record(brought).await
    }

    async fn record(&self, (imported, left_out): Brought) -> Result<(), String> {
        for text in left_out.chunks(10).map(|some| format!("not brought along: {}", some.join("; "))) {
            let text = self.means.cable.scrub_text(&text).await.map_err(|e| e.to_string())?;
            self.run.say(&Event::Note { text }).await.map_err(|e| e.to_string())?;
        }
        let (diff, diff_cut) = shown(&self.means, &imported).await;
        let Imported { branch, commit, files, .. } = imported;
        let event = Event::Result { branch, commit, files, diff, diff_cut };
        self.run.say(&event).await.map(drop).map_err(|e| e.to_string())
    }
}

/// Brings home a worktree that is kept; it stays where it is.
///
/// # Errors
/// One sentence.
pub async fn bring_kept(means: &Arc<Means>, run: &RunId, kept: &Kept, image: PathBuf) -> Result<KeptImported, String> {
    // Nobody can give it up but by ending the operator.
    let (_nobody, cancelled) = watch::channel(false);
    let (imported, left_out) = read(means, run, kept, image, &cancelled).await?;
    let (diff, diff_cut) = shown(means, &imported).await;
    let mut shown_out = Vec::with_capacity(left_out.len());
    for text in left_out {
        shown_out.push(means.cable.scrub_text(&text).await.map_err(|e| e.to_string())?);
    }
    let Imported { branch, commit, files, .. } = imported;
    Ok(KeptImported { branch, commit, files, diff, diff_cut, left_out: shown_out })
}

/// The diff holds what the box wrote. Without the scrubber it is not shown; the branch has it.
async fn shown(means: &Means, imported: &Imported) -> (String, bool) {
    match means.cable.scrub_text(&imported.diff).await {
        Ok(diff) => (diff, imported.diff_cut),
        Err(_) => (String::new(), true),
    }
}

/// A profile for a box in which nothing ever runs: where the platform itself makes it, it needs no image, which may not
/// be to be had any more.
fn unseen(profile: &Profile) -> Profile {
    let image = profile.image.clone().filter(|_| profile.engine != Engine::Embedded);
    Profile { image, ..profile.clone() }
}

/// Has a worktree without a box read: by a box that is made on it, and never started.
async fn read(
    means: &Arc<Means>,
    run: &RunId,
    kept: &Kept,
    image: PathBuf,
    cancelled: &watch::Receiver<bool>,
) -> Result<Brought, String> {
    let (all, wish, id) = (Arc::clone(means), kept.clone(), run.clone());
    let made = crate::blocking(move || {
        // Making a box on it would make it, empty.
        std::fs::symlink_metadata(&image).map_err(|e| format!("its worktree {}: {e}", image.display()))?;
        let room = all.disk.reserve_image(&image, wish.profile.limits.worktree_mib)?;
        let (repo, base) = (wish.repo.as_ref().ok_or("no repository is known")?, wish.base.as_deref());
        let checkout = all.checkouts.get(&all.repo, &all.disk, repo, base).map_err(|problem| problem.message)?;
        let plan = BoxPlan {
            run: id,
            box_id: wish.box_id.clone(),
            profile: unseen(&wish.profile),
            lower: Some(checkout.files.clone()),
            upper_image: image,
        };
        let made = all.engine.create(&plan).map_err(|trouble| trouble.what)?;
        Ok::<_, String>((made.live, checkout, room))
    });
    let (live, _checkout, _room) = made.await?;
    let mut live = Boxed::new(live);
    let killed = live.with(|live| live.kill()).await;
    let brought = match killed {
        Ok(()) => bring(means, run, kept, &mut live, cancelled).await,
        Err(why) => Err(why),
    };
    // Its end is awaited on every way: two boxes must never have one worktree.
    if let Err(cause) = live.end().await {
        tracing::error!(%run, cause, "a box that was made to read a worktree did not end in order");
    }
    brought
}

/// Brings what a box's worktree holds into the repository, as `volary/<run>`; the box's processes are dead.
async fn bring(
    means: &Arc<Means>,
    run: &RunId,
    kept: &Kept,
    live: &mut Boxed,
    cancelled: &watch::Receiver<bool>,
) -> Result<Brought, String> {
    let (Some(repo), Some(base)) = (kept.repo.clone(), kept.base.clone()) else {
        return Err("the commit that it began from is not known".into());
    };
    let (means, id, model) = (Arc::clone(means), run.clone(), kept.model.clone().unwrap_or_default());
    let author = kept.author.clone();
    let rein = Rein::default();
    let held = rein.clone();
    let work = live.with(move |live| {
        let importing = means.repo.import_held(&repo, &id, &base, &model, author.as_ref(), held);
        let mut importing = importing.map_err(|problem| problem.message)?;
        let stdin = importing.stdin().ok_or("the importing process has no input")?;
        let written = live.write_changes(OwnedFd::from(stdin));
        match (written, importing.finish()) {
            (Ok(left_out), Ok(imported)) => Ok((imported, left_out)),
            // Of a stream that was cut the writer knows why; of one that was not taken, the importer.
            (Err(why), Err(problem)) if problem.code == "repo.changes" => Err(why),
            (_, Err(problem)) => Err(problem.message),
            (Err(why), Ok(_)) => Err(why),
        }
    });
    in_time(work, &rein, cancelled).await
}

/// Waits for an import that `rein` kills: when it takes too long, and when the run is cancelled meanwhile.
async fn in_time<T>(
    work: impl Future<Output = Result<T, String>>,
    rein: &Rein,
    cancelled: &watch::Receiver<bool>,
) -> Result<T, String> {
    let before = *cancelled.borrow();
    let limit = if before { HOME_CANCELLED } else { HOME };
    let mut work = pin!(work);
    let why = tokio::select! {
        biased;
        done = &mut work => return done,
        () = until(cancelled.clone()), if !before => "its import was cancelled".into(),
        () = tokio::time::sleep(limit) => format!("its import took longer than {} s", limit.as_secs()),
    };
    rein.pull();
    // The box is still lent to it; and it may have come to its end just before.
    work.await.map_err(|_| format!("{why} and was ended"))
}

/// Returns once a person cancelled the run.
pub async fn until(mut cancelled: watch::Receiver<bool>) {
    if cancelled.wait_for(|cancelled| *cancelled).await.is_err() {
        // The keeper of the reins is gone, so nobody can cancel any more.
        std::future::pending::<()>().await;
    }
}
