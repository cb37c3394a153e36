//! The runs this host knows: their folders, their journals, and what is told to whom when something happens.
//!
//! Read [`Runs::open`] (what is found at start), then [`Run::record`] (the only way anything becomes known).

use crate::journal::{By, Journal, JournalError, Record, Tail, kind_of, write_whole};
use api::link::{Known, Launch, Up};
use model::event::Exit;
use model::run::RunKind;
use model::{Author, BoxId, Event, Moment, Outcome, Profile, RunId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};
use tokio::sync::{Notify, watch};

/// What is kept of a launch beside the journal. The handle is not: only a live attempt needs it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// The attempt's box.
    pub box_id: BoxId,
    /// From 1.
    pub attempt: u32,
    /// What it does.
    pub kind: RunKind,
    /// Repository on the host.
    pub repo: Option<PathBuf>,
    /// The commit the worktree starts from, once known: a later attempt must find the same files below its changes.
    pub base: Option<String>,
    /// What it may be.
    pub profile: Profile,
    /// Whether the result is imported.
    pub import: bool,
    /// The agent's model, by name, as the result's commit tells it.
    #[serde(default)]
    pub model: Option<String>,
    /// Who is the author of the result; where an earlier version kept it and does not say, the repository's owner.
    #[serde(default)]
    pub author: Option<Author>,
}

impl Kept {
    /// Whether what the run changes is to come into a repository.
    #[must_use]
    pub fn imports(&self) -> bool {
        self.import && self.repo.is_some() && self.kind == RunKind::Agent
    }
}

impl From<&Launch> for Kept {
    fn from(launch: &Launch) -> Self {
        Self {
            box_id: launch.box_id.clone(),
            attempt: launch.attempt,
            kind: launch.kind,
            repo: launch.repo.clone(),
            base: launch.base.clone(),
            profile: launch.profile.clone(),
            import: launch.import,
            model: launch.agent.as_ref().map(|agent| agent.model.name.clone()),
            author: launch.author.clone(),
        }
    }
}

/// One run on this host.
#[derive(Debug)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// Its folder.
    pub dir: PathBuf,
    journal: Mutex<Journal>,
    durable: AtomicU64,
    live: AtomicBool,
    breaking: AtomicBool,
    still: AtomicBool,
    news: Arc<Notify>,
}

impl Run {
    fn open(dir: PathBuf, id: RunId, news: Arc<Notify>) -> Result<Arc<Self>, JournalError> {
        let journal = Journal::open(&dir.join("journal"), &id)?;
        let durable = AtomicU64::new(journal.len());
        Ok(Arc::new(Self {
            id,
            dir,
            journal: Mutex::new(journal),
            durable,
            live: AtomicBool::new(false),
            breaking: AtomicBool::new(false),
            still: AtomicBool::new(false),
            news,
        }))
    }

    /// Records events and tells the link; durable when this returns. Blocks for a disk's sync.
    ///
    /// # Errors
    /// Those of [`Journal::append`].
    pub fn record_now(&self, by: By, events: &[Box<RawValue>]) -> Result<u64, JournalError> {
        let mut journal = locked(&self.journal);
        let last = journal.append(Moment::from(SystemTime::now()), by, events)?;
        self.durable.store(journal.len(), Ordering::Release);
        drop(journal);
        self.news.notify_one();
        Ok(last)
    }

    /// [`Run::record_now`] on a thread that may block.
    ///
    /// # Errors
    /// Those of [`Journal::append`].
    pub async fn record(self: &Arc<Self>, by: By, events: Vec<Box<RawValue>>) -> Result<u64, JournalError> {
        let run = Arc::clone(self);
        crate::blocking(move || run.record_now(by, &events)).await
    }

    /// Records one event of our own.
    ///
    /// # Errors
    /// Those of [`Journal::append`].
    pub async fn say(self: &Arc<Self>, event: &Event) -> Result<u64, JournalError> {
        self.record(By::Operator, vec![raw(event)]).await
    }

    /// The run as the server is told of it.
    #[must_use]
    pub fn known(&self) -> Known {
        let journal = locked(&self.journal);
        Known {
            run: self.id.clone(),
            last_seq: journal.last_seq(),
            live: self.is_live(),
            ended: journal.ended(),
            still: self.still.load(Ordering::Acquire),
        }
    }
    /// Durable bytes of the journal.
    #[must_use]
    pub fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }
    /// Whether an attempt is under way.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.live.load(Ordering::Acquire)
    }
    /// Whether its end is recorded.
    #[must_use]
    pub fn ended(&self) -> bool {
        locked(&self.journal).ended()
    }
    /// Whether any attempt came as far as its task.
    #[must_use]
    pub fn started(&self) -> bool {
        locked(&self.journal).started()
    }
    /// How long its boxes have worked, by the times of what the journal holds: each from its walls to its last word,
    /// without the time for which it stood still.
    /// Of a box that was silent when this program was killed, the silence is not counted. Blocks.
    ///
    /// # Errors
    /// The system's own.
    pub fn worked(&self) -> std::io::Result<Duration> {
        let (mut tail, durable) = (Tail::open(&self.journal_path(), &self.id, 0)?, self.durable());
        let (mut sum, mut now, mut still) = (0, None, false);
        while let Some(Record { at, by, event, .. }) = tail.next(durable)? {
            let kind = (by == By::Operator).then(|| kind_of(&event)).flatten();
            match (kind.as_deref(), now) {
                (Some("walls"), _) => now = Some((at.0, at.0)),
                (Some("attempt"), worked) => {
                    sum += worked.map_or(0, |(from, to): (i64, i64)| to - from);
                    (now, still) = (None, false);
                }
                (Some("froze"), Some((from, to))) => {
                    sum += at.0.max(to) - from;
                    (now, still) = (None, true);
                }
                (Some("thawed"), _) if still => (now, still) = (Some((at.0, at.0)), false),
                // A clock that was put back takes nothing away.
                (_, Some((from, to))) => now = Some((from, at.0.max(to))),
                (_, None) => {}
            }
        }
        let sum: i64 = sum + now.map_or(0, |(from, to)| to - from);
        Ok(Duration::from_millis(u64::try_from(sum).unwrap_or(0)))
    }
    /// Marks the start of an attempt.
    pub fn begin(&self) {
        self.live.store(true, Ordering::Release);
    }
    /// Marks the end of an attempt.
    pub fn rest(&self) {
        self.live.store(false, Ordering::Release);
        self.breaking.store(false, Ordering::Release);
        self.still.store(false, Ordering::Release);
    }
    /// Marks whether its box is to stand still.
    pub fn holds(&self, still: bool) {
        self.still.store(still, Ordering::Release);
    }
    /// Marks an attempt that is about to end without an end of its run.
    pub fn breaks(&self) {
        self.breaking.store(true, Ordering::Release);
    }
    /// Whether its attempt is about to end so.
    #[must_use]
    pub fn is_breaking(&self) -> bool {
        self.breaking.load(Ordering::Acquire)
    }
    /// The journal's file.
    #[must_use]
    pub fn journal_path(&self) -> PathBuf {
        self.dir.join("journal")
    }
    /// The run's changes to its worktree.
    #[must_use]
    pub fn image(&self) -> PathBuf {
        self.dir.join("worktree.img")
    }
    /// Keeps what a later attempt needs. Blocks.
    ///
    /// # Errors
    /// The system's own.
    pub fn keep(&self, kept: &Kept) -> std::io::Result<()> {
        write_whole(&self.dir.join("launch.json"), &serde_json::to_vec(kept)?)
    }
    /// What was kept; none when nothing readable was.
    #[must_use]
    pub fn kept(&self) -> Option<Kept> {
        serde_json::from_slice(&std::fs::read(self.dir.join("launch.json")).ok()?).ok()
    }
}

/// All runs with a folder here.
#[derive(Debug)]
pub struct Runs {
    dir: PathBuf,
    map: Mutex<BTreeMap<RunId, Arc<Run>>>,
    /// Something was recorded.
    pub news: Arc<Notify>,
    /// Launches that were taken and whose runs are not known yet.
    coming: watch::Sender<usize>,
    /// What the server is told beside events; of no worth to the next session.
    words: Mutex<Vec<Up>>,
    /// Counts up when a run is no longer live and not ended: the server must be told how things stand, by a new hello.
    pub stale: watch::Sender<u64>,
}

impl Runs {
    /// Opens every journal under `dir`. An exec that was interrupted after its command was sent is ended here:
    /// nobody knows whether the command finished, and it is never repeated by itself.
    ///
    /// # Errors
    /// The system's own, naming the folder; a journal's.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        use anyhow::Context;
        std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        let runs = Self {
            dir: dir.to_path_buf(),
            map: Mutex::default(),
            news: Arc::default(),
            coming: watch::Sender::new(0),
            words: Mutex::default(),
            stale: watch::Sender::new(0),
        };
        for entry in std::fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
            let name = entry?.file_name();
            match name.to_str().map(RunId::parse) {
                Some(Ok(id)) => {
                    let run = runs.take(&id)?;
                    if run.kept().is_some_and(|kept| kept.kind == RunKind::Exec)
                        && locked(&run.journal).started()
                        && !run.ended()
                    {
                        run.record_now(By::Operator, &[raw(&interrupted("its operator ended"))])?;
                    }
                }
                _ => tracing::warn!(?name, "not a run's folder; left alone"),
            }
        }
        Ok(runs)
    }

    /// The folder of the runs' folders.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The run, if this host knows it.
    #[must_use]
    pub fn get(&self, id: &RunId) -> Option<Arc<Run>> {
        locked(&self.map).get(id).cloned()
    }

    /// The run, with its folder and journal made if need be. Blocks.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn take(&self, id: &RunId) -> Result<Arc<Run>, JournalError> {
        let mut map = locked(&self.map);
        if let Some(run) = map.get(id) {
            return Ok(Arc::clone(run));
        }
        let dir = self.dir.join(id.as_str());
        let failed = |cause| JournalError::Io { act: "make the folder of", path: dir.join("journal"), cause };
        std::fs::create_dir_all(&dir).map_err(failed)?;
        crate::journal::sync_folder(&dir).map_err(failed)?;
        let run = Run::open(dir, id.clone(), Arc::clone(&self.news))?;
        map.insert(id.clone(), Arc::clone(&run));
        Ok(run)
    }

    /// Forgets a run and removes its folder. Its box is gone, its image too. Blocks.
    ///
    /// # Errors
    /// The system's own; the run is forgotten all the same, and found again at the next start.
    pub fn forget(&self, id: &RunId) -> std::io::Result<()> {
        let Some(run) = locked(&self.map).remove(id) else { return Ok(()) };
        // The journal goes last: a folder with a journal is a run, and one without is not half a run but garbage.
        std::fs::remove_dir_all(&run.dir)
    }

    /// Has the server told something that no journal holds, in this session of the link or never. A question that waits to be
    /// told does not wait twice.
    pub fn tell(&self, word: Up) {
        let mut words = locked(&self.words);
        if let Up::Image { id: again, .. } = &word {
            words.retain(|waits| !matches!(waits, Up::Image { id, .. } if id == again));
        }
        words.push(word);
        drop(words);
        self.news.notify_one();
    }

    /// What is to be told so, in order; from here on it is the caller's.
    #[must_use]
    pub fn words(&self) -> Vec<Up> {
        std::mem::take(&mut *locked(&self.words))
    }

    /// A launch was taken; the run is known, or is not to be, when what is returned is dropped.
    #[must_use]
    pub fn comes(self: &Arc<Self>) -> Coming {
        self.coming.send_modify(|count| *count += 1);
        Coming(Arc::clone(self))
    }

    /// Returns once every launch that was taken is a run that is known: a hello without it would be answered by a
    /// second launch, whose handle ends the first one's.
    pub async fn settled(&self) {
        // Its sender is in `self`.
        drop(self.coming.subscribe().wait_for(|count| *count == 0).await);
    }

    /// A run is no longer live and not ended.
    pub fn are_stale(&self) {
        self.stale.send_modify(|count| *count += 1);
    }

    /// Every run.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Run>> {
        locked(&self.map).values().cloned().collect()
    }
}

/// A launch on its way into a journal; see [`Runs::comes`].
#[derive(Debug)]
pub struct Coming(Arc<Runs>);

impl Drop for Coming {
    fn drop(&mut self) {
        self.0.coming.send_modify(|count| *count -= 1);
    }
}

/// The end of an exec whose command may have run to its end, or not, since of the platform something went: `what`.
#[must_use]
pub fn interrupted(what: &str) -> Event {
    Event::Ended {
        outcome: Outcome::Failed,
        reason: format!(
            "the platform was interrupted while the command ran ({what}): it may have finished, or not. It is not \
             repeated by itself; run it again if that is safe."
        ),
        exit: Some(Exit::Unknown),
    }
}

/// An event of ours as JSON.
///
/// # Panics
/// Never: an event has no map with keys that are not texts, and no float.
#[must_use]
pub fn raw(event: &Event) -> Box<RawValue> {
    serde_json::value::to_raw_value(event).expect("an event is JSON")
}

/// A lock whose holder panicked guards plain data that is whole after every statement.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_worked_from_the_walls_of_each_of_its_boxes_to_that_boxs_last_word() {
        let dir = tempfile::tempdir().unwrap();
        let runs = Runs::open(dir.path()).unwrap();
        let run = runs.take(&RunId::parse("r1").unwrap()).unwrap();
        let attempt = || raw(&Event::Attempt { attempt: 1, box_id: BoxId::parse("b1").unwrap(), uid: 7 });
        let (walls, note) = (|| raw(&Event::Walls { readings: vec![] }), || raw(&Event::Note { text: "n".into() }));
        let say = |ms: i64, event| locked(&run.journal).append(Moment(ms), By::Operator, &[event]).unwrap();
        say(1_000, attempt());
        say(2_000, walls());
        say(5_000, note());
        // Between boxes.
        say(60_000, attempt());
        say(61_000, walls());
        say(62_000, note());
        // A clock that was put back.
        say(50_000, note());
        run.durable.store(locked(&run.journal).len(), Ordering::Release);
        assert_eq!(run.worked().unwrap(), Duration::from_millis(3_000 + 1_000));
        // Of a box that stands still nothing counts, whatever is heard of it, also when it never goes on.
        let (froze, thawed) = (|| raw(&Event::Froze), || raw(&Event::Thawed { stood_ms: 1 }));
        say(70_000, attempt());
        say(70_000, walls());
        say(70_500, froze());
        say(80_000, note());
        say(90_000, thawed());
        say(90_250, note());
        say(91_000, froze());
        say(99_000, note());
        run.durable.store(locked(&run.journal).len(), Ordering::Release);
        assert_eq!(run.worked().unwrap(), Duration::from_millis(3_000 + 1_000 + 500 + 1_000));
    }
}
