//! What the operator wants of a container engine. The real ones are behind [`sandbox::Host`], which asks the profile
//! whose box it is: the embedded one or Docker. Tests bring their own.
//!
//! Every call blocks; an async caller gives it a thread.

use api::inbox::{Counts, Hello};
use model::event::Reading;
use model::{BoxId, Profile};
use sandbox::BoxPlan;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

/// Why a box could not be made or started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// One sentence.
    pub what: String,
    /// Something was killed in the middle: nobody's fault, and worth another attempt.
    pub lost: bool,
}

impl From<&str> for Trouble {
    fn from(what: &str) -> Self {
        Self { what: what.to_owned(), lost: false }
    }
}

impl From<sandbox::BoxError> for Trouble {
    fn from(e: sandbox::BoxError) -> Self {
        Self { what: e.to_string(), lost: matches!(e, sandbox::BoxError::HelperGone | sandbox::BoxError::Lost(_)) }
    }
}

/// Makes boxes.
pub trait Engine: Send + Sync + 'static {
    /// Makes a box for a run, with its door bound; its process 1 waits.
    ///
    /// # Errors
    /// [`Trouble`]; nothing is left behind then.
    fn create(&self, plan: &BoxPlan) -> Result<Made, Trouble>;
    /// Makes a box that waits for a run of exactly this profile.
    ///
    /// # Errors
    /// [`Trouble`]; nothing is left behind then.
    fn prepare(&self, box_id: &BoxId, profile: &Profile) -> Result<Box<dyn Waits>, Trouble> {
        Err(format!("this engine makes no box {box_id} ahead of its run ({})", profile.description).as_str().into())
    }
    /// From now on a box is to wait for a run of each of these profiles, and for no other. Does not block.
    fn keep_warm(&self, profiles: Vec<Profile>) {
        tracing::debug!(profiles = profiles.len(), "this engine makes no box ahead of its run");
    }
    /// Removes a run's image. Its box is gone.
    ///
    /// # Errors
    /// One sentence; a missing image is no error.
    fn drop_worktree(&self, image: &Path) -> Result<(), String>;
}

/// A box that is made and waits for a run. Dropping it ends it, and blocks for as long as that takes.
pub trait Waits: Send + Sync + 'static {
    /// Whether it is still there.
    fn is_alive(&self) -> bool;
    /// Makes it the box of a run, which has no worktree yet.
    ///
    /// # Errors
    /// Why it cannot be, in words; it is gone then, and [`Engine::create`] does for the same plan.
    fn claim(self: Box<Self>, plan: &BoxPlan) -> Result<Made, String>;
}

/// A box that is made and not started.
pub struct Made {
    /// The box.
    pub live: Box<dyn Live>,
    /// Its name: the plan's, or that of the box that waited for it.
    pub box_id: BoxId,
    /// The uid of everything in it.
    pub uid: u32,
    /// `127.0.0.1:8080` inside it, listening.
    pub listener: OwnedFd,
    /// The runner's standard input, a pipe.
    pub stdin: OwnedFd,
    /// The runner's standard output, a pipe: frames.
    pub stdout: OwnedFd,
    /// Standard error, a pipe: last words only.
    pub stderr: OwnedFd,
}

/// Reads how often a box met which limit.
pub type Gauge = Box<dyn Fn() -> Counts + Send + Sync>;

/// Reads the walls of a box again while it works; none once there is no process 1 to read them of.
pub type Watch = Arc<dyn Fn() -> Option<Vec<Reading>> + Send + Sync>;

/// Counts what a box has the kernel hold that is counted for nobody: all of it, or, told `false`, what costs little to count.
pub type Holds = Arc<dyn Fn(bool) -> sandbox::Held + Send + Sync>;

/// A box that exists. Dropping it ends it.
pub trait Live: Send + 'static {
    /// Lets process 1 run.
    ///
    /// # Errors
    /// [`Trouble`].
    fn start(&mut self) -> Result<(), Trouble>;
    /// What the kernel says of the box, line by line against the promise.
    fn read_back(&self, hello: &Hello) -> Vec<Reading>;
    /// What reads its walls again, for as long as it lives.
    fn watch(&self, hello: &Hello) -> Watch;
    /// What counts what it has the kernel hold that is counted for nobody, for as long as it lives.
    fn holds(&self) -> Holds;
    /// What tells how often it met which limit, for as long as it lives.
    fn gauge(&self) -> Gauge {
        Box::new(Counts::default)
    }
    /// Whether it was lost: somebody killed what holds it. Its image stays.
    fn is_lost(&self) -> bool {
        false
    }
    /// Whether its process 1 is gone, and so everything in it.
    fn is_dead(&self) -> bool {
        false
    }
    /// Stops every process of the box where it stands.
    ///
    /// # Errors
    /// One sentence; an engine that cannot says so.
    fn pause(&mut self) -> Result<(), String> {
        Err("this engine cannot pause a box".into())
    }
    /// Lets a paused box go on.
    ///
    /// # Errors
    /// One sentence.
    fn resume(&mut self) -> Result<(), String> {
        Err("this engine cannot pause a box".into())
    }
    /// Ends every process of the box, paused or not; its worktree stays.
    ///
    /// # Errors
    /// One sentence; the box is gone then, and its worktree not readable through it.
    fn kill(&mut self) -> Result<(), String>;
    /// After [`Live::kill`]: streams what the run changed into `out`; gives what could not be carried, in words.
    ///
    /// # Errors
    /// One sentence; the stream is cut then.
    fn write_changes(&mut self, out: OwnedFd) -> Result<Vec<String>, String>;
    /// Ends it and all it held; gives the limit that had ended it before, if one did.
    ///
    /// # Errors
    /// One sentence; what is left is reaped at the operator's next start.
    fn end(self: Box<Self>) -> Result<Option<String>, String>;
}

impl From<sandbox::Created> for Made {
    fn from(made: sandbox::Created) -> Self {
        Self {
            box_id: made.live.box_id().clone(),
            uid: made.live.uid(),
            live: Box::new(made.live),
            listener: made.listener,
            stdin: made.stdin,
            stdout: made.stdout,
            stderr: made.stderr,
        }
    }
}

impl Engine for Arc<sandbox::Host> {
    fn create(&self, plan: &BoxPlan) -> Result<Made, Trouble> {
        Ok(sandbox::Host::create(self, plan)?.into())
    }
    fn prepare(&self, box_id: &BoxId, profile: &Profile) -> Result<Box<dyn Waits>, Trouble> {
        let warm = sandbox::Host::prepare(self, box_id, profile)?;
        Ok(Box::new(Waiting { host: Self::clone(self), warm }))
    }
    fn drop_worktree(&self, image: &Path) -> Result<(), String> {
        sandbox::Host::drop_worktree(self, image).map_err(|e| e.to_string())
    }
}

/// A real box that waits, with what can make it a run's.
struct Waiting {
    host: Arc<sandbox::Host>,
    warm: sandbox::Warm,
}

impl Waits for Waiting {
    fn is_alive(&self) -> bool {
        self.warm.is_alive()
    }
    fn claim(self: Box<Self>, plan: &BoxPlan) -> Result<Made, String> {
        self.host.claim(self.warm, plan).map(Made::from).map_err(|e| e.to_string())
    }
}

impl Live for sandbox::LiveBox {
    fn start(&mut self) -> Result<(), Trouble> {
        Ok(Self::start(self)?)
    }
    fn read_back(&self, hello: &Hello) -> Vec<Reading> {
        Self::read_back(self, hello)
    }
    fn watch(&self, hello: &Hello) -> Watch {
        Self::watch(self, hello).into()
    }
    fn holds(&self) -> Holds {
        Self::holds(self).into()
    }
    fn gauge(&self) -> Gauge {
        Self::gauge(self)
    }
    fn is_lost(&self) -> bool {
        Self::is_lost(self)
    }
    fn is_dead(&self) -> bool {
        Self::is_dead(self)
    }
    fn pause(&mut self) -> Result<(), String> {
        Self::pause(self).map_err(|e| e.to_string())
    }
    fn resume(&mut self) -> Result<(), String> {
        Self::resume(self).map_err(|e| e.to_string())
    }
    fn kill(&mut self) -> Result<(), String> {
        Self::kill(self).map_err(|e| e.to_string())
    }
    fn write_changes(&mut self, out: OwnedFd) -> Result<Vec<String>, String> {
        Self::write_changes(self, out).map(|count| count.left_out).map_err(|e| e.to_string())
    }
    fn end(self: Box<Self>) -> Result<Option<String>, String> {
        Self::end(*self).map(|ended| ended.why).map_err(|e| e.to_string())
    }
}
