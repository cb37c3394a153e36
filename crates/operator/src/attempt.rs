//! One attempt of a run, from its launch to the end of its box.
//!
//! In order: room on the disk, a gateway, the repository's files, the box, its door at the gateway, the runner's
//! hello, the reading back of every wall, the task; then the box's events until its end; then the changes, brought
//! into the repository ([`crate::home`]); then the end. Whatever fails, the box is ended, and the reason is whole.
//!
//! Read [`Attempt::carry`], then `work` (a box at work, and what its end means).

mod git;
mod work;

use crate::boxed::Boxed;
use crate::cable::Attachment;
use crate::checkout::Checkout;
use crate::engine::{Gauge, Holds, Trouble, Watch};
use crate::home::{Homeward, until};
use crate::input::Input;
use crate::keeper::Means;
use crate::pull::Absent;
use crate::pump::{Bounds, Over, last_words, pump};
use crate::rate::Rate;
use crate::repo::Rein;
use crate::repo::clone::{self, Cloning};
use crate::repo::serve::Served;
use crate::runs::{Kept, Run, interrupted};
use crate::stood::Stood;
use crate::tell::{pipes, write};
use crate::walls::judge;
use api::inbox::{AgentTask, Hello, ToRunner, WORKSPACE};
use api::link::{Launch, LaunchClone};
use git::{branch, of_git};
use model::event::Exit;
use model::profile::{LEASE_TOOL, Limits, PROPOSE_TOOL, TOOLS};
use model::run::RunKind;
use model::{Event, Outcome, RunId};
use sandbox::BoxPlan;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::timeout;
use work::said;

/// How long an attempt waits for a gateway.
const GATEWAY: Duration = Duration::from_secs(60);
/// How long a repository may take to be cloned.
const CLONE: Duration = Duration::from_secs(600);
/// How long the runner may take to say hello.
const HELLO: Duration = Duration::from_secs(60);
/// How soon once more, and how often, is looked whether a box whose walls do not hold is just ending. On a machine that is
/// very busy that takes seconds; nobody waits for them but a run that ends by them.
const GOING: (Duration, u32) = (Duration::from_millis(50), 200);

/// How an attempt ended.
#[derive(Debug)]
pub enum Finish {
    /// The run is over.
    Ended(Event),
    /// The attempt is over and the run is not; a sentence for people.
    Broken(String),
}

fn ended(outcome: Outcome, reason: impl Into<String>, exit: Option<Exit>) -> Finish {
    Finish::Ended(Event::Ended { outcome, reason: reason.into(), exit })
}
fn failed(reason: impl Into<String>) -> Finish {
    ended(Outcome::Failed, reason, None)
}
fn cancelled_before() -> Finish {
    ended(Outcome::Cancelled, "cancelled before its box was made", None)
}
fn unrecorded(e: impl std::fmt::Display) -> Finish {
    Finish::Broken(format!("the attempt ended because its record could not be kept: {e}"))
}

/// A task that ends with its holder.
struct Own<T>(JoinHandle<T>);

impl<T> Drop for Own<T> {
    fn drop(&mut self) {
        AbortHandle::abort(&self.0.abort_handle());
    }
}

/// What people and the server wish of an attempt while it is under way.
pub struct Wishes {
    /// That it ends.
    pub cancelled: watch::Receiver<bool>,
    /// That its box stands still.
    pub still: watch::Receiver<bool>,
    /// What comes for an exec's standard input.
    pub input: Arc<Input>,
}

/// A box with its walls read back, at work.
struct Working {
    line: Arc<Attachment>,
    stood: Arc<Stood>,
    /// Tells the runner how the box stands, unasked.
    news: watch::Sender<u64>,
    watch: Watch,
    holds: Holds,
    gauge: Gauge,
    pump: Own<Over>,
    words: Own<String>,
    writer: Own<()>,
}

/// One attempt.
pub struct Attempt {
    means: Arc<Means>,
    run: Arc<Run>,
    launch: Launch,
    cancelled: watch::Receiver<bool>,
    still: watch::Receiver<bool>,
    input: Arc<Input>,
    /// What is left of the run's time.
    seconds: u64,
    /// Whether the changes came home from this attempt's box; none when that was not tried.
    home: OnceLock<Result<(), String>>,
}

impl Attempt {
    /// An attempt that has not begun.
    #[must_use]
    pub fn new(means: Arc<Means>, run: Arc<Run>, launch: Launch, wishes: Wishes) -> Self {
        let Wishes { cancelled, still, input } = wishes;
        let seconds = launch.profile.limits.seconds;
        Self { means, run, launch, cancelled, still, input, seconds, home: OnceLock::new() }
    }

    /// Carries it out.
    pub async fn carry(mut self) -> Finish {
        let finish = match self.whole().await {
            Ok(finish) | Err(finish) => finish,
        };
        match finish {
            Finish::Ended(Event::Ended { outcome, reason, exit }) if self.imports() => {
                Finish::Ended(match self.home.take() {
                    Some(Ok(())) => Event::Ended { outcome, reason, exit },
                    Some(Err(why)) => self.homeward().kept(outcome, &reason, exit, &why).await,
                    None => self.homeward().close(outcome, reason, exit).await,
                })
            }
            finish => finish,
        }
    }

    async fn whole(&mut self) -> Result<Finish, Finish> {
        let (means, run, image) = (Arc::clone(&self.means), Arc::clone(&self.run), self.run.image());
        let back = crate::blocking(move || crate::rescue::take_back(&run).and_then(|()| run.worked())).await;
        let worked = back.map_err(|e| failed(format!("its worktree, which was kept, cannot be taken back: {e}")))?;
        self.seconds = self.launch.profile.limits.seconds.saturating_sub(worked.as_secs());
        if self.seconds == 0 {
            return Err(self.out_of_time(None));
        }
        let mib = self.launch.profile.limits.worktree_mib;
        let _room = crate::blocking(move || means.disk.reserve_image(&image, mib)).await.map_err(failed)?;
        self.unless_cancelled(self.pulled()).await??;
        let cloned = self.unless_cancelled(self.cloned()).await??;
        self.launch.repo = cloned.or_else(|| self.launch.repo.take());
        let checkout = self.unless_cancelled(self.prepare()).await??;
        let mut slot = None;
        let begun = self.begin(checkout.as_ref(), &mut slot).await;
        // Its end is awaited on every way: two boxes must never have one worktree.
        match (begun, slot) {
            (Ok(working), Some(live)) => Ok(self.work(working, live).await),
            (Err(finish), Some(live)) => {
                self.end(live).await;
                Err(finish)
            }
            (Err(finish), None) => Err(finish),
            (Ok(_), None) => Err(failed("the box is gone")),
        }
    }

    /// The run's repository on this host, as its box may read it, and push its own branch to it. A clone of one at a git host is
    /// not: that host is asked.
    fn repository(&self) -> Option<Served> {
        let (path, branch) = (self.launch.repo.as_ref()?, branch(&self.launch)?);
        self.launch.clone.is_none().then(|| Served::new(&self.means.repo.exe, path, branch))
    }

    /// Waits for something that may be given up in the middle.
    async fn unless_cancelled<T>(&self, work: impl Future<Output = T>) -> Result<T, Finish> {
        tokio::select! {
            biased;
            () = until(self.cancelled.clone()) => {
                Err(cancelled_before())
            }
            done = work => Ok(done),
        }
    }

    /// A registry's image is on this host, where the profile names one: pulled, where it was not.
    async fn pulled(&self) -> Result<(), Finish> {
        match crate::pull::bring(&self.means, &self.run, &self.launch.profile).await {
            Ok(()) => Ok(()),
            Err(Absent::Refused(why)) => Err(failed(why)),
            Err(Absent::Lost(why)) => Err(self.broke(why)),
        }
    }

    /// The repository of a git host as a bare one on this host: fetched once for the run, through the gateway.
    async fn cloned(&self) -> Result<Option<PathBuf>, Finish> {
        let Some(LaunchClone { address, handle }) = self.launch.clone.clone() else { return Ok(None) };
        let folder = self.means.mirrors().join(self.run.id.as_str());
        if folder.is_dir() {
            return Ok(Some(folder));
        }
        self.means.cable.ready(GATEWAY).await.map_err(|e| failed(e.to_string()))?;
        let rein = Pull(Rein::default());
        let (means, run, runtime) = (Arc::clone(&self.means), self.run.id.clone(), Handle::current());
        let (held, to) = (rein.0.clone(), folder.clone());
        // One thread for all of it: the process ends with the thread that started it.
        let work = move || clone_into(&means, &run, &runtime, &to, &address, &handle, held);
        match timeout(CLONE, crate::blocking(work)).await {
            Ok(Ok(())) => Ok(Some(folder)),
            Ok(Err(why)) => Err(failed(why)),
            Err(_) => Err(failed(format!("the repository was not cloned within {} s", CLONE.as_secs()))),
        }
    }

    /// The gateway is there, and so are the repository's files, with the commit recorded.
    async fn prepare(&self) -> Result<Option<Checkout>, Finish> {
        self.means.cable.ready(GATEWAY).await.map_err(|e| failed(e.to_string()))?;
        let mut kept = Kept::from(&self.launch);
        // What an earlier attempt began with counts: its changes lie over those files.
        let earlier = self.run.kept().and_then(|kept| kept.base);
        kept.base = kept.base.or(earlier);
        self.keep(&kept).await?;
        let Some(repo) = self.launch.repo.clone() else { return Ok(None) };
        let (means, base) = (Arc::clone(&self.means), kept.base.clone());
        let get = move || means.checkouts.get(&means.repo, &means.disk, &repo, base.as_deref());
        let checkout = crate::blocking(get).await.map_err(|problem| failed(problem.message))?;
        if kept.base.is_none() {
            let head = &checkout.head;
            if let Some(why) = head.obstacle.as_ref().filter(|_| self.imports()) {
                return Err(failed(why));
            }
            kept.base = Some(head.commit.clone());
            let event = Event::Base {
                commit: head.commit.clone(),
                left_out: head.left_out.clone(),
                left_out_count: head.left_out_count,
            };
            self.say(&event).await?;
            for note in &head.notes {
                self.say(&Event::Note { text: note.clone() }).await?;
            }
            self.keep(&kept).await?;
        }
        Ok(Some(checkout))
    }

    /// The box stands, every wall was read back and holds, and the task was sent.
    async fn begin(&self, checkout: Option<&Checkout>, slot: &mut Option<Boxed>) -> Result<Working, Finish> {
        let plan = BoxPlan {
            run: self.run.id.clone(),
            box_id: self.launch.box_id.clone(),
            profile: self.launch.profile.clone(),
            lower: checkout.map(|checkout| checkout.files.clone()),
            upper_image: self.run.image(),
        };
        let engine = Arc::clone(&self.means.engine);
        // Waiting for a word on its image ends with the run.
        let heeded = self.means.vetting.heed(&self.run.id, self.cancelled.clone());
        let made = crate::blocking(move || engine.create(&plan)).await.map_err(|e| self.unmade(e))?;
        drop(heeded);
        let (live, uid) = (slot.insert(Boxed::new(made.live)), made.uid);
        self.say(&Event::Attempt { attempt: self.launch.attempt, box_id: made.box_id, uid }).await?;
        let line = self.means.cable.attach(&self.run.id, made.listener).await;
        let line = Arc::new(line.map_err(|e| self.broke(e))?);
        if let Some(repository) = self.repository() {
            line.serves(repository);
        }
        let (stdin, stdout, stderr) = pipes(made.stdin, made.stdout, made.stderr).map_err(|e| failed(e.to_string()))?;
        let words = Own(tokio::spawn(last_words(stderr)));
        let (said, hello) = oneshot::channel();
        let (keeps, kept) = watch::channel(0);
        let (asks, asked) = watch::channel(0);
        let rate = Arc::new(Rate::of(self.launch.profile.limits.output_kib_per_second));
        let (through, run) = (Arc::clone(&line), Arc::clone(&self.run));
        let bounds = Bounds { most: self.most_said(), rate: Arc::clone(&rate) };
        let news = asks.clone();
        let pump = Own(tokio::spawn(pump(stdout, through, run, said, keeps, asks, bounds)));
        live.with(|live| live.start()).await.map_err(|e| self.trouble(e))?;
        let hello = tokio::select! {
            () = line.lost() => return Err(self.broke("the gateway ended")),
            hello = timeout(HELLO, hello) => hello,
        };
        let Ok(Ok(hello)) = hello else {
            let in_time = hello.is_ok();
            return Err(self.no_hello(slot.take(), in_time, &line, words).await);
        };
        let (watch, holds, own) = {
            let hello = hello.clone();
            live.with(move |live| (live.watch(&hello), live.holds(), live.gauge())).await
        };
        self.read_back(live, hello).await?;
        let (left, all) = (self.seconds, self.launch.profile.limits.seconds);
        if left < all {
            self.say(&Event::Note { text: format!("{left} s of the run's {all} s are left") }).await?;
        }
        let kept = (self.launch.kind == RunKind::Agent).then_some(kept);
        let stood = Arc::new(Stood::default());
        let gauge = rate.beside(stood.beside(live.with(|live| live.gauge()).await));
        let asked = (Some(asked), gauge);
        let (input, cancelled) = (Arc::clone(&self.input), self.cancelled.clone());
        let trust = line.authority.clone().map(|authority| ToRunner::Trust { authority });
        let handle = self.launch.handle.clone().filter(|_| self.launch.kind == RunKind::Exec);
        let handle = handle.map(|handle| ToRunner::Handle { handle });
        let variables = Some(self.launch.variables.clone()).filter(|variables| !variables.is_empty());
        let variables = variables.map(|variables| ToRunner::Variables { variables });
        let first = trust.into_iter().chain(variables).chain(handle).chain([self.task()]).collect();
        let writer = Own(tokio::spawn(write(stdin, first, input, kept, asked, cancelled)));
        Ok(Working { line, stood, news, watch, holds, gauge: own, pump, words, writer })
    }

    async fn no_hello(&self, live: Option<Boxed>, in_time: bool, line: &Attachment, words: Own<String>) -> Finish {
        // Its end ends the pipes, so that its last words come.
        let limit = match live {
            Some(live) => self.end(live).await,
            None => None,
        };
        let words = said(words, line).await;
        match limit {
            Some(limit) => failed(format!("{limit}, before the box's runner said hello{words}")),
            None if in_time => self.broke(format!("the box's runner ended before it said hello{words}")),
            None => failed(format!("the box's runner did not say hello in {} s{words}", HELLO.as_secs())),
        }
    }

    /// Ends the box; gives the limit that had ended it before.
    async fn end(&self, live: Boxed) -> Option<String> {
        live.end().await.unwrap_or_else(|cause| {
            tracing::error!(run = %self.run.id, cause, "a box did not end in order");
            None
        })
    }

    async fn read_back(&self, live: &mut Boxed, hello: Hello) -> Result<(), Finish> {
        let readings = live.with(move |live| live.read_back(&hello)).await;
        let verdict = judge(&readings);
        // What was read may be of a box that is gone, not of one that breaks its promise: a process that ends is without its
        // files and networks before it is gone.
        for _ in 0..GOING.1 {
            if verdict.is_ok() {
                break;
            }
            if live.with(|live| live.is_lost()).await {
                return Err(self.broke("the box's helper ended while its walls were read"));
            }
            if live.with(|live| live.is_dead()).await {
                return Err(self.broke("the box's runner ended while its walls were read"));
            }
            tokio::time::sleep(GOING.0).await;
        }
        self.say(&Event::Walls { readings }).await?;
        verdict.map_err(failed)
    }

    fn task(&self) -> ToRunner {
        let launch = &self.launch;
        let limits = Limits { seconds: self.seconds, ..launch.profile.limits.clone() };
        let Some(agent) = launch.agent.as_ref().filter(|_| launch.kind == RunKind::Agent) else {
            let (argv, lease) = (launch.argv.clone(), launch.lease.clone());
            return ToRunner::Exec { argv, cwd: WORKSPACE.into(), limits, lease };
        };
        let profile = &launch.profile;
        let mut tools = profile.tools.clone();
        if tools.is_empty() {
            tools = TOOLS.iter().map(|tool| (*tool).to_owned()).collect();
        }
        let mut instructions = profile.instructions.clone();
        if tools.iter().any(|tool| tool == "shell") {
            tools.push(LEASE_TOOL.to_owned());
            if !profile.capability.is_empty() || !profile.egress.write.is_empty() {
                let told = model::capability::told(&profile.capability, &profile.egress);
                instructions = format!("{instructions}\n\n{told}");
            }
        }
        if branch(launch).is_some() && profile.repository.iter().any(|row| row.secret.is_some()) {
            tools.push(PROPOSE_TOOL.to_owned());
        }
        let base = self.run.kept().and_then(|kept| kept.base);
        instructions.push_str(&of_git(launch, base.as_deref()));
        ToRunner::Agent(AgentTask {
            task: agent.task.clone(),
            handle: agent.handle.clone(),
            model: agent.model.clone(),
            tools,
            instructions,
            limits,
            history: launch.history.clone(),
            answered: launch.answered.clone(),
        })
    }

    /// The end of an attempt whose box was not made.
    fn unmade(&self, trouble: Trouble) -> Finish {
        if *self.cancelled.borrow() { cancelled_before() } else { self.trouble(trouble) }
    }

    fn trouble(&self, trouble: Trouble) -> Finish {
        if trouble.lost { self.broke(trouble.what) } else { failed(trouble.what) }
    }

    /// The end of an attempt that was nobody's wish. See the keeper for what follows.
    fn broke(&self, why: impl std::fmt::Display) -> Finish {
        self.run.breaks();
        match self.launch.kind {
            RunKind::Agent => Finish::Broken(why.to_string()),
            // Before its task is sent the walls are not recorded, and the next attempt repeats nothing.
            RunKind::Exec if self.run.started() => Finish::Ended(interrupted(&why.to_string())),
            RunKind::Exec => Finish::Broken(why.to_string()),
        }
    }

    /// Whether what it changes is to come into a repository.
    fn imports(&self) -> bool {
        self.launch.agent.is_some() && Kept::from(&self.launch).imports()
    }

    /// Bytes of journal that its box may fill. A person's command has one output, which its profile bounds; it is base 64
    /// in its events, and small pieces of it have an envelope.
    fn most_said(&self) -> u64 {
        match self.launch.kind {
            RunKind::Agent => self.means.most_said,
            RunKind::Exec => self.means.most_said.max((self.launch.profile.limits.output_mib << 20).saturating_mul(2)),
        }
    }

    fn homeward(&self) -> Homeward {
        let (means, run) = (Arc::clone(&self.means), Arc::clone(&self.run));
        Homeward { means, run, cancelled: self.cancelled.clone() }
    }

    async fn say(&self, event: &Event) -> Result<(), Finish> {
        self.run.say(event).await.map(drop).map_err(unrecorded)
    }

    async fn keep(&self, kept: &Kept) -> Result<(), Finish> {
        let (run, kept) = (Arc::clone(&self.run), kept.clone());
        crate::blocking(move || run.keep(&kept)).await.map_err(unrecorded)
    }
}

/// Ends a clone that nobody waits for any more.
struct Pull(Rein);

impl Drop for Pull {
    fn drop(&mut self) {
        self.0.pull();
    }
}

fn clone_into(
    means: &Means,
    run: &RunId,
    runtime: &Handle,
    folder: &Path,
    address: &str,
    handle: &str,
    rein: Rein,
) -> Result<(), String> {
    let act = |act: &str, e: &dyn std::fmt::Display| format!("{act}: {e}");
    let mirrors = means.mirrors();
    clone::make_room(&mirrors, |run| means.runs.get(run).is_some()).map_err(|e| act("make room for a clone", &e))?;
    let draft = folder.with_extension("draft");
    match std::fs::remove_dir_all(&draft) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(act("remove a half-made clone", &e)),
        _ => {}
    }
    let (cloning, door) = Cloning::start(&means.repo.exe, &draft, address, rein).map_err(|problem| problem.message)?;
    // The box's own door takes its place later.
    let served = runtime.block_on(means.cable.attach(run, door)).map_err(|e| e.to_string())?;
    let done = cloning.finish(handle);
    drop(served);
    done.map_err(|problem| problem.message)?;
    std::fs::rename(&draft, folder).map_err(|e| act("name the clone", &e))
}
