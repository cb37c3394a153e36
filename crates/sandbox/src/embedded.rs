//! The embedded engine, seen from the operator: one helper process per box.
//!
//! Every call here blocks for milliseconds; an async caller gives it a thread.
//!
//! Read [`Host`] (what makes a box), then `live` (a box that exists).

mod live;

use crate::harden::{BoxPlan, HardenError, HardenedSpec, HostFacts, harden};
use crate::helper::{Answer, Order};
use crate::image::said::{Judge, Unfit};
use crate::process::Process;
use crate::strays::{Held, Strays};
use crate::{group, packet, uids};
use model::RunId;
use model::event::Reading;
use model::profile::Engine;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;

/// First uid of boxes on any installation; the range is not allocated by Debian or systemd to anyone.
const FIRST_UID: u32 = 0x7000_0000;
/// Uids of one installation. Its block is one of 1,024, chosen by its folder: two of a host may share one, and then no two
/// live boxes of theirs share a uid all the same ([`mod@uids`]).
const UIDS: u32 = 1 << 17;
/// Where the uids of all boxes of all installations lie, when the engine has root.
pub const BOX_UIDS: std::ops::Range<u32> = FIRST_UID..FIRST_UID + 1024 * UIDS;

/// Why a box could not be made, used or ended.
#[derive(Debug, thiserror::Error)]
pub enum BoxError {
    /// The plan asks for what no box may be.
    #[error(transparent)]
    Harden(#[from] HardenError),
    /// Something of the host failed.
    #[error("{act}: {cause}")]
    Host {
        /// What was done, and to what.
        act: String,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// The helper said no.
    #[error("the box could not be made: {0}")]
    Helper(String),
    /// The engine could not bring the box up, and may the next time.
    #[error("the box did not come up: {0}")]
    Lost(String),
    /// The helper is gone.
    #[error("the box's helper process ended unexpectedly")]
    HelperGone,
}

fn host(act: impl Into<String>) -> impl FnOnce(io::Error) -> BoxError {
    let act = act.into();
    move |cause| BoxError::Host { act, cause }
}

/// The engine on this host.
#[derive(Debug)]
pub struct Host {
    facts: HostFacts,
    exe: PathBuf,
    runner: PathBuf,
    agent: PathBuf,
    strays: Arc<Strays>,
    /// Who judges what images say; without one no box is made of an image.
    judge: Option<Arc<dyn Judge>>,
}

/// A box that is made and waits: its door is bound, its three pipes are open, and its process 1 does nothing yet.
#[derive(Debug)]
pub struct Created {
    /// The box.
    pub live: LiveBox,
    /// `127.0.0.1:8080` inside it, listening.
    pub listener: OwnedFd,
    /// The runner's standard input.
    pub stdin: OwnedFd,
    /// The runner's standard output: frames.
    pub stdout: OwnedFd,
    /// Standard error of runner and helper: last words only.
    pub stderr: OwnedFd,
}

/// A box that exists. Dropping it ends it.
#[derive(Debug)]
pub struct LiveBox {
    spec: HardenedSpec,
    /// Process 1; none while the box is being made.
    first: Option<Arc<Process>>,
    /// Its control group, absolute in each hierarchy.
    group: String,
    /// What the engine itself said of it.
    readings: Vec<Reading>,
    /// The checkout below its worktree, once it has one.
    lower: Option<PathBuf>,
    helper: Child,
    control: Option<OwnedFd>,
    /// Its standard input, until process 1 was let go on.
    go: Option<OwnedFd>,
    /// How the helper ended, once it and what it left are gone.
    over: Option<ExitStatus>,
    /// Until the box is gone.
    held: Held,
}

/// How many changes a run made, and what could not be carried.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeCount {
    /// Records written.
    pub changes: u64,
    /// Bytes of content written.
    pub bytes: u64,
    /// What was left out and why (sockets, devices, nested `.git`, files larger than the worktree), at most 50 lines.
    pub left_out: Vec<String>,
}

/// What a box left.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The limit that ended it, in words, if one did.
    pub why: Option<String>,
}

impl Host {
    /// Opens the operator's folder: writes the two executables that go into boxes (by digest, once), makes sub-folders.
    ///
    /// `cgroup_parent` is where boxes' control groups go, from [`crate::rootless::cgroup_parent`]; `exe` is the program
    /// whose `process box-helper` is the helper.
    ///
    /// # Errors
    /// [`BoxError::Host`].
    pub fn open(dir: &Path, cgroup_parent: &str, exe: &Path, runner: &[u8], agent: &[u8]) -> Result<Self, BoxError> {
        for folder in ["bin", "stage", "boxes", crate::warm::FOLDER] {
            let path = dir.join(folder);
            fs::create_dir_all(&path).map_err(host(format!("make {}", path.display())))?;
        }
        // The stage is an empty mount point that boxes' namespaces look through; everything in it is theirs alone.
        fs::set_permissions(dir.join("stage"), fs::Permissions::from_mode(0o711)).map_err(host("open the stage"))?;
        let root = rustix::process::geteuid().is_root();
        let runner = carried(dir, "runner", runner)?;
        let agent = carried(dir, "agent", agent)?;
        Ok(Self {
            facts: HostFacts {
                dir: dir.to_path_buf(),
                cgroup_parent: cgroup_parent.to_owned(),
                root,
                docker: crate::docker::address(),
            },
            exe: exe.to_path_buf(),
            runner,
            agent,
            strays: Arc::default(),
            judge: None,
        })
    }

    pub(crate) fn strays(&self) -> &Arc<Strays> {
        &self.strays
    }

    pub(crate) fn facts(&self) -> &HostFacts {
        &self.facts
    }

    /// The same, with its Docker engine at `address` instead of where this process's environment says.
    #[must_use]
    pub fn with_docker(mut self, address: String) -> Self {
        self.facts.docker = address;
        self
    }

    /// The same, with somebody who judges what an image says before a box is made of it.
    #[must_use]
    pub fn with_judge(mut self, judge: Arc<dyn Judge>) -> Self {
        self.judge = Some(judge);
        self
    }

    /// Its folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.facts.dir
    }

    /// Makes a box for a run and binds its door; nothing of an agent runs yet, and its process 1 waits.
    ///
    /// # Errors
    /// [`BoxError`]; nothing is left behind then.
    pub fn create(&self, plan: &BoxPlan) -> Result<Created, BoxError> {
        let mut made = self.make(plan)?;
        made.live.claim(plan.lower.as_deref())?;
        Ok(made)
    }

    /// The box of a plan, without its checkout, and so without a worktree.
    pub(crate) fn make(&self, plan: &BoxPlan) -> Result<Created, BoxError> {
        let spec = self.harden(plan, &plan.run)?;
        let blanks = self.facts.dir.join("bin");
        crate::worktree::reserve(&plan.upper_image, &blanks, spec.limits.worktree_mib, self.facts.root)?;
        if spec.engine == Engine::Embedded {
            group::make_parent(&self.facts.cgroup_parent).map_err(host("make the control group of the boxes"))?;
        }

        let (ours, theirs) = rustix::net::socketpair(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::SEQPACKET,
            rustix::net::SocketFlags::CLOEXEC,
            None,
        )
        .map_err(|e| host("make a socket")(e.into()))?;
        rustix::net::sockopt::set_socket_send_buffer_size(&ours, 2 * packet::MAX)
            .map_err(|e| host("size a socket")(e.into()))?;
        let raw = theirs.as_raw_fd();
        let mut command = Command::new(&self.exe);
        command.args(["process", "box-helper"]).env_clear();
        // A group of its own: what it forks while it makes a box is ended with it, also when it is killed.
        command.process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // SAFETY: dup2 and fcntl are async-signal-safe, and nothing here allocates.
        unsafe {
            command.pre_exec(move || {
                if raw == 3 {
                    if libc::fcntl(3, libc::F_SETFD, 0) < 0 {
                        return Err(io::Error::last_os_error());
                    }
                } else if libc::dup2(raw, 3) < 0 {
                    return Err(io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let held = self.strays.hold(spec.box_id.to_string());
        let mut helper = command.spawn().map_err(host("start the box's helper"))?;
        drop(theirs);
        let pipes = (helper.stdin.take(), helper.stdout.take(), helper.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else { return Err(BoxError::HelperGone) };
        let stdin = OwnedFd::from(stdin);
        let go = stdin.try_clone().map_err(host("keep the box's standard input"))?;
        let mut live = LiveBox {
            spec,
            first: None,
            group: String::new(),
            readings: Vec::new(),
            lower: None,
            helper,
            control: Some(ours),
            go: Some(go),
            over: None,
            held,
        };
        let order = serde_json::to_vec(&Order::Make(Box::new(live.spec.clone())))
            .map_err(|e| BoxError::Helper(format!("a path of the plan is not UTF-8: {e}")))?;
        let listener = match live.order(&order, &[]) {
            Ok((Answer::Made { pid, group, readings }, mut fds)) if fds.len() == 1 => {
                let ended = || BoxError::Lost("its process 1 ended before it had a run".into());
                // A number alone may be another's by now.
                let groups = group::of_box(&live.spec.host.cgroup_parent, live.spec.box_id.as_str());
                let is_its = |first: &Process| groups.iter().any(|group| first.is_in(group));
                let first = Process::open(pid).ok().filter(is_its);
                live.first = Some(Arc::new(first.ok_or_else(ended)?));
                (live.group, live.readings) = (group, readings);
                fds.remove(0)
            }
            Ok((Answer::Failed { what }, _)) => return Err(BoxError::Helper(what)),
            Ok((Answer::Lost { what }, _)) => return Err(BoxError::Lost(what)),
            Err(BoxError::HelperGone) => {
                // What it left is ended first: it holds the pipe of the last words too.
                let status = live.finish()?;
                return Err(match status.signal() {
                    Some(_) => BoxError::HelperGone,
                    None => BoxError::Helper(last_words(stderr.into())),
                });
            }
            Ok(_) => return Err(BoxError::HelperGone),
            Err(e) => return Err(e),
        };
        Ok(Created { live, listener, stdin, stdout: stdout.into(), stderr: stderr.into() })
    }

    /// What a box of the plan is promised to be on this host. What its image says of itself was judged then, of the very
    /// image that the box is made of, for the run that wants it.
    pub(crate) fn harden(&self, plan: &BoxPlan, run: &RunId) -> Result<HardenedSpec, BoxError> {
        let uid = self.uid_of(&plan.upper_image)?;
        let (mut spec, mut said) = harden(plan, uid, &self.facts, &self.runner, &self.agent)?;
        let Some(image) = &spec.image else { return Ok(spec) };
        if spec.engine == Engine::Docker {
            let had = crate::docker::image(&self.facts.docker, image).map_err(|e| BoxError::Helper(e.to_string()))?;
            (spec.docker_image, said) = (Some(had.0), had.1);
        }
        let refused = |why: String| {
            let why = format!("{}: {why}", plan.profile.image.as_deref().unwrap_or_default());
            BoxError::Harden(HardenError::Engine { what: "image", why })
        };
        let judge = self.judge.as_ref().ok_or_else(|| refused("nobody is here who judges what it says".into()))?;
        match judge.judge(run, said) {
            Ok(()) => Ok(spec),
            Err(Unfit::Refused(why)) => Err(refused(why)),
            Err(Unfit::Unjudged(why)) => Err(BoxError::Lost(why)),
        }
    }

    /// Ends what a dead operator left: processes and cgroups under this installation's label.
    ///
    /// Mounts and loop devices go with the last process of their namespace.
    ///
    /// # Errors
    /// [`BoxError::Host`] when something of it cannot be ended.
    pub fn reap_orphans(&self) -> Result<Vec<String>, BoxError> {
        let parent = &self.facts.cgroup_parent;
        let reaped = group::reap(parent).map_err(host("reap the boxes of an earlier operator"))?;
        match crate::docker::reap(&self.facts.docker, &self.facts.dir, parent, None) {
            // It may have been starting one just then.
            Ok(true) => drop(group::reap(parent).map_err(host("reap the boxes of an earlier operator"))?),
            Ok(false) => {}
            // Nothing of them runs any more; what the daemon still lists, the next start takes away.
            Err(e) => eprintln!("take away what Docker still lists of an earlier operator's boxes: {e}"),
        }
        self.remove_warm().map_err(host("remove the images of warm boxes"))?;
        Ok(reaped)
    }

    /// Removes the run's image. The box must be gone.
    ///
    /// # Errors
    /// [`BoxError::Host`]; a missing image is no error.
    pub fn drop_worktree(&self, image: &Path) -> Result<(), BoxError> {
        if image.is_dir() {
            return crate::rootless::remove(image).map_err(host(format!("remove {}", image.display())));
        }
        for path in [image.to_path_buf(), uid_file(image)] {
            match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(host(format!("remove {}", path.display()))(e));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The uid of a run's boxes: taken once, from a counter, so that no two kept worktrees and no two live boxes share one.
    fn uid_of(&self, image: &Path) -> Result<u32, BoxError> {
        if !self.facts.root {
            return Ok(rustix::process::geteuid().as_raw());
        }
        let first = FIRST_UID + (digest(self.facts.dir.as_os_str().as_encoded_bytes()) & 1023) as u32 * UIDS;
        let block = first..first + UIDS;
        let own = uid_file(image);
        if let Ok(text) = fs::read_to_string(&own)
            && let Ok(uid) = text.trim().parse::<u32>()
            && block.contains(&uid)
        {
            return Ok(uid);
        }
        let counter = self.facts.dir.join("next-uid");
        let act = || format!("take a uid from {}", counter.display());
        let mut file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&counter)
            .map_err(host(act()))?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).map_err(|e| host(act())(e.into()))?;
        let text = fs::read_to_string(&counter).map_err(host(act()))?;
        let following = |uid: u32| if block.contains(&(uid + 1)) { uid + 1 } else { first };
        let mut next = text.trim().parse::<u32>().ok().filter(|n| block.contains(n)).unwrap_or(first);
        // One that a live box of another installation has is passed by; to be had at all is what its helper sees to.
        while !uids::is_free(next).map_err(host(act()))? {
            next = following(next);
        }
        let after = following(next);
        file.set_len(0).and_then(|()| write!(file, "{after}")).map_err(host(act()))?;
        fs::write(&own, next.to_string()).map_err(host(act()))?;
        Ok(next)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Empty by then; one that is not holds a box that another operator is about to reap.
        group::remove_parent(&self.facts.cgroup_parent);
    }
}

fn uid_file(image: &Path) -> PathBuf {
    image.with_extension("uid")
}

/// FNV-1a: for names only.
pub(crate) fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
}

/// Writes an executable that goes into boxes, under its own content's name, once.
fn carried(dir: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf, BoxError> {
    let path = dir.join("bin").join(format!("{name}-{:016x}", digest(bytes)));
    let act = || format!("write {}", path.display());
    if fs::read(&path).is_ok_and(|held| held == bytes) {
        return Ok(path);
    }
    let draft = path.with_extension(format!("{}.tmp", std::process::id()));
    fs::write(&draft, bytes).map_err(host(act()))?;
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o555)).map_err(host(act()))?;
    fs::rename(&draft, &path).map_err(host(act()))?;
    Ok(path)
}

fn last_words(stderr: OwnedFd) -> String {
    let mut said = Vec::new();
    let mut file = fs::File::from(stderr);
    // The helper is gone, so this ends; what cannot be read is not there to be told.
    if io::Read::read_to_end(&mut io::Read::take(&mut file, 4096), &mut said).is_err() || said.is_empty() {
        return "its helper process ended without a word".to_owned();
    }
    String::from_utf8_lossy(&said).trim().to_owned()
}
