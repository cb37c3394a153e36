//! The box's helper: a single-threaded process of its own, started by the operator as `process box-helper`.
//!
//! It is the box's parent and reaper and owns its mounts. Descriptor 3 is its socket to the operator: one
//! [`Order`] a packet, one [`Answer`] back. When that socket ends, or the helper does, the box ends.
//! It reads nothing that a box wrote except names and contents of files, which it copies and never follows.

use crate::doctor::{Cgroups, cgroups};
use crate::embedded::{ChangeCount, Ended};
use crate::harden::HardenedSpec;
use crate::layers::{self, Layers};
use crate::sole::Sole;
use crate::weigh::{LOOK, Scale};
use crate::worktree::Worktree;
use crate::{cable, changes, group, oci, packet, uids};
use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use model::event::Reading;
use model::profile::Engine;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Operator → helper.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// Make this box; its process 1 waits then. First, once. Answered by [`Answer::Made`] with the door's listener.
    Make(Box<HardenedSpec>),
    /// Put a run's worktree into the box. Once; process 1 may go on afterwards.
    Claim {
        /// A clean checkout; none for an empty worktree.
        lower: Option<PathBuf>,
    },
    /// Stop every process of the box where it stands.
    Pause,
    /// Let them go on.
    Resume,
    /// End every process of the box.
    Kill,
    /// Write the changes into the descriptor that comes with this packet.
    Changes,
    /// Kill, unmount, remove; then the helper ends.
    End,
}

/// Helper → operator.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// The box is made; its door comes beside.
    Made {
        /// Process 1, as the host counts.
        pid: u32,
        /// Its control group, absolute in each hierarchy.
        group: String,
        /// What the engine itself says of the box, against the promise.
        readings: Vec<Reading>,
    },
    /// Done as ordered.
    Did,
    /// All changes are written.
    Changed {
        /// How many.
        count: ChangeCount,
    },
    /// Nothing of the box is left but its image.
    Over {
        /// What it left.
        ended: Ended,
    },
    /// No box, because somebody else killed a part of it while it was made: worth another attempt.
    Lost {
        /// What went wrong, for a person.
        what: String,
    },
    /// Not done; the box is ended.
    Failed {
        /// What went wrong, for a person.
        what: String,
    },
}

/// How often every process of a box is killed before the helper gives up: a millisecond apart, so half a minute at least.
pub(crate) const KILL_ROUNDS: u32 = 30_000;

/// How often, a millisecond apart, a box that could not be made is looked at for a process that was killed: ten seconds at least,
/// for one that ends on a machine that is very busy. Only a failure waits for them.
const KILLED_ROUNDS: u32 = 10_000;

struct Made {
    spec: HardenedSpec,
    container: Container,
    pid: i32,
    worktree: Worktree,
    /// Free for the run's next box when this one's helper is gone, mounts and all.
    _sole: Sole,
    /// No other live box of the host has its uid.
    _uid: Option<uids::Own>,
    /// The tree of its image is not taken away while this is open.
    _image: Option<File>,
    reaped: bool,
    /// What bounds the worktree where its file system does not.
    scale: Option<Scale>,
    /// The limit that this helper ended it at.
    why: Option<String>,
}

/// The helper's `main`. Returns its exit status.
#[must_use]
pub fn main() -> i32 {
    if !rustix::process::geteuid().is_root() {
        // Without root: first into a user namespace, then executed anew in it. A process's memory belongs to the
        // namespace it was executed in; without the second step we could not look into the box's own /proc entries.
        let entered = crate::rootless::enter();
        let cause = match entered {
            Ok(()) => Command::new("/proc/self/exe").args(["process", "box-helper"]).exec(),
            Err(cause) => cause,
        };
        eprintln!("make a user namespace: {cause}");
        return 2;
    }
    // SAFETY: descriptor 3 is this process's by the contract with `Host::create`, and nothing else owns it.
    let control = unsafe { OwnedFd::from_raw_fd(3) };
    if let Err(e) = rustix::io::fcntl_setfd(&control, rustix::io::FdFlags::CLOEXEC) {
        eprintln!("the helper has no socket to an operator: {e}");
        return 2;
    }
    let mut made: Option<Made> = None;
    loop {
        await_order(control.as_fd(), made.as_mut());
        let (body, fds) = match packet::receive(control.as_fd()) {
            Ok((body, fds)) if !body.is_empty() => (body, fds),
            // The operator is gone, or never was: so is the box.
            _ => return i32::from(made.take().is_some_and(|made| made.end().is_err())),
        };
        let order: Order = match serde_json::from_slice(&body) {
            Ok(order) => order,
            Err(e) => {
                eprintln!("an order that cannot be read: {e}");
                return 2;
            }
        };
        let order = match order {
            Order::Make(spec) if spec.engine == Engine::Docker && made.is_none() => {
                return crate::docker::serve(control, *spec);
            }
            order => order,
        };
        let (answer, listener, last) = carry_out(order, fds, &mut made);
        let failed = matches!(answer, Answer::Failed { .. } | Answer::Lost { .. });
        if failed && made.as_ref().is_some_and(Made::was_killed) {
            // Not the box's fault, and nothing that a next one would meet again: it is as lost as with this helper.
            drop(made.take().map(Made::end));
            return 3;
        }
        let body = serde_json::to_vec(&answer).unwrap_or_default();
        let fds: Vec<BorrowedFd<'_>> = listener.iter().map(AsFd::as_fd).collect();
        let sent = packet::send(control.as_fd(), &body, &fds);
        if last || failed && made.is_none() || sent.is_err() {
            if let Some(made) = made.take() {
                return i32::from(made.end().is_err());
            }
            return i32::from(failed);
        }
    }
}

/// Waits for an order, or for the operator's end; looks meanwhile at what no file system bounds.
fn await_order(control: BorrowedFd<'_>, mut made: Option<&mut Made>) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let look = Timespec { tv_sec: LOOK.as_secs().cast_signed(), tv_nsec: 0 };
    while made.as_ref().is_some_and(|made| made.scale.is_some()) {
        let mut one = [PollFd::from_borrowed_fd(control, PollFlags::IN)];
        // What fails here is told by receiving.
        if poll(&mut one, Some(&look)) != Ok(0) {
            return;
        }
        if let Some(made) = &mut made
            && let Err(e) = made.weigh()
        {
            eprintln!("end a box at the limit of its worktree: {e}");
        }
    }
}

fn carry_out(order: Order, mut fds: Vec<OwnedFd>, made: &mut Option<Made>) -> (Answer, Option<OwnedFd>, bool) {
    let failed = |what: String| (Answer::Failed { what }, None, false);
    match (order, made.as_mut()) {
        (Order::Make(spec), None) => match make(*spec) {
            Ok((new, listener)) => {
                let pid = u32::try_from(new.pid).unwrap_or(0);
                let group = new.spec.cgroup();
                *made = Some(new);
                (Answer::Made { pid, group, readings: Vec::new() }, Some(listener), false)
            }
            Err(e) if e.is::<Killed>() => (Answer::Lost { what: whole(e.as_ref()) }, None, false),
            Err(e) => failed(whole(e.as_ref())),
        },
        (Order::Claim { lower }, Some(made)) => match made.claim(lower.as_deref()) {
            Ok(()) => (Answer::Did, None, false),
            Err(e) => failed(e.to_string()),
        },
        (order @ (Order::Pause | Order::Resume), Some(made)) => {
            match group::freeze(&made.spec.cgroup(), matches!(order, Order::Pause)) {
                Ok(()) => (Answer::Did, None, false),
                Err(e) => failed(format!("pause or resume the box: {e}")),
            }
        }
        (Order::Kill, Some(made)) => match made.kill() {
            Ok(()) => (Answer::Did, None, false),
            Err(e) => failed(format!("end the box's processes: {e}")),
        },
        (Order::Changes, Some(made)) if fds.len() == 1 && made.reaped => {
            let mut out = File::from(fds.remove(0));
            match changes::stream(&made.worktree.paths(), made.spec.limits.worktree_mib << 20, &mut out) {
                Ok(count) => (Answer::Changed { count }, None, false),
                Err(e) => failed(format!("read the run's changes: {e}")),
            }
        }
        (Order::End, Some(_)) => match made.take().map(Made::end) {
            Some(Ok(ended)) => (Answer::Over { ended }, None, true),
            Some(Err(e)) => (Answer::Failed { what: format!("take the box down: {e}") }, None, true),
            None => failed("no box".to_owned()),
        },
        _ => failed("an order out of order".to_owned()),
    }
}

/// An error with all its causes, in one line.
pub(crate) fn whole(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_text = next.to_string();
        if !text.ends_with(&next_text) {
            text = format!("{text}: {next_text}");
        }
        cause = next.source();
    }
    text
}

pub(crate) fn act(what: &str) -> impl FnOnce(io::Error) -> io::Error {
    let what = what.to_owned();
    move |e| io::Error::new(e.kind(), format!("{what}: {e}"))
}

/// Gives this process mounts of its own, and an empty stage for the box's.
pub(crate) fn stage(spec: &HardenedSpec) -> io::Result<PathBuf> {
    use rustix::mount::{MountPropagationFlags, mount_change};
    // SAFETY: this process has one thread, so no other is surprised by the new namespace.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }
        .map_err(|e| act("make a mount namespace")(e.into()))?;
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(|e| act("cut off the host's mounts")(e.into()))?;
    let stage = spec.host.dir.join("stage");
    rustix::mount::mount(
        "tmpfs",
        &stage,
        "tmpfs",
        rustix::mount::MountFlags::NOSUID | rustix::mount::MountFlags::NODEV,
        c"mode=0711,size=4m,nr_inodes=4096",
    )
    .map_err(|e| act("mount the stage")(e.into()))?;
    Ok(stage)
}

/// The file that moves processes into the group of control that this process is in.
fn own_group() -> Option<File> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let (of_line, hierarchy) = match cgroups() {
        Cgroups::V1 => ("pids", Path::new("/sys/fs/cgroup/pids")),
        Cgroups::V2 => ("", Path::new("/sys/fs/cgroup")),
        Cgroups::None => return None,
    };
    let path = groups.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        controllers.split(',').any(|name| name == of_line).then_some(path)
    })?;
    File::options().write(true).open(hierarchy.join(path.trim_start_matches('/')).join("cgroup.procs")).ok()
}

/// A child that begins what entering a group of control waits for (until every processor has passed through the
/// scheduler: 2 to 20 ms, by how busy they are), while the box's places are made: the kernel spares those who enter
/// shortly after another. It enters the group that it is in, which changes nothing; that it cannot is no hindrance.
struct Herald(libc::pid_t);

impl Herald {
    fn send() -> Option<Self> {
        let group = own_group()?;
        // SAFETY: this process has one thread; the child makes two raw calls and leaves.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: as above; the byte outlives the call.
            unsafe {
                libc::write(group.as_raw_fd(), c"0".as_ptr().cast(), 1);
                libc::_exit(0);
            }
        }
        (child > 0).then_some(Self(child))
    }
}

impl Drop for Herald {
    fn drop(&mut self) {
        // SAFETY: collects the child made above, which waits for nothing but the kernel.
        unsafe { libc::waitpid(self.0, std::ptr::null_mut(), 0) };
    }
}

fn make(spec: HardenedSpec) -> Result<(Made, OwnedFd), Box<dyn std::error::Error>> {
    let image = crate::image::kept::take(&spec)?;
    let _herald = Herald::send();
    let sole = Sole::take(&spec.upper_image).map_err(act("take the run's worktree"))?;
    let uid = uids::of(&spec).map_err(act("take the box's uid"))?;
    let stage = stage(&spec)?;
    let worktree = Worktree::prepare(&stage, &spec, &sole)?;
    let made = (|| {
        Layers::of(&spec, &stage.join(layers::FOLDER)).mount(&stage, &spec.host.dir, spec.host.root)?;
        oci::root_tree(&stage, &spec)?;
        oci::write_bundle(&stage, &spec)?;
        let built = ContainerBuilder::new(spec.box_id.to_string(), SyscallType::default())
            .with_root_path(stage.join("state"))?
            .as_init(stage.join("bundle"))
            .with_systemd(false)
            .with_detach(true)
            .build();
        let mut container = built.map_err(|e| Killed::or(e.into()))?;
        let pid = container.pid().map_or(0, nix_raw);
        let waiting = (|| {
            group::forbid_swap(&spec.cgroup()).map_err(act("forbid swap"))?;
            group::bound_sockets(&spec.cgroup()).map_err(act("bound what its sockets hold"))?;
            // Here and not by the runtime, which would set this helper's own.
            std::fs::write(format!("/proc/{pid}/oom_score_adj"), oci::OUT_OF_MEMORY_SCORE.to_string())
                .map_err(act("put the box first where the host's memory runs out"))?;
            let door = cable::bind(Path::new(&format!("/proc/{pid}/ns/net"))).map_err(act("bind the box's door"))?;
            container.start()?;
            Ok::<_, Box<dyn std::error::Error>>(door)
        })();
        match waiting {
            Ok(listener) => Ok((container, pid, listener)),
            Err(e) => {
                let e = Killed::or(e);
                // Half a box is no box.
                container.delete(true)?;
                Err(e)
            }
        }
    })();
    match made {
        Ok((container, pid, listener)) => {
            close_stdio()?;
            let scale = (!spec.host.root).then(|| Scale::of(spec.limits.worktree_mib));
            let (reaped, why) = (false, None);
            Ok((
                Made { spec, container, pid, worktree, _sole: sole, _uid: uid, _image: image, reaped, scale, why },
                listener,
            ))
        }
        Err(e) => {
            worktree.unmount()?;
            Err(e)
        }
    }
}

/// Somebody killed a process of a box that was being made.
#[derive(Debug, thiserror::Error)]
#[error("a process of the box was killed while it was made: {0}")]
struct Killed(String);

impl Killed {
    /// What a failure to make a box means: this, when one of this helper's children was killed, as they are its own
    /// work only when it takes a box down; else what it says itself. A child closes its end of a channel before it can
    /// be collected, so it is waited for; one that failed ends by itself, and one that does not end is not waited for
    /// beyond [`KILLED_ROUNDS`].
    fn or(failure: Box<dyn std::error::Error>) -> Box<dyn std::error::Error> {
        use rustix::process::{WaitOptions, wait};
        for _ in 0..KILLED_ROUNDS {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((_, status))) if status.signaled() => return Self(whole(failure.as_ref())).into(),
                Ok(Some(_)) => {}
                Ok(None) => std::thread::sleep(std::time::Duration::from_millis(1)),
                Err(_) => break,
            }
        }
        failure
    }
}

fn nix_raw(pid: impl Into<i32>) -> i32 {
    pid.into()
}

/// The pipes to the runner are the box's now; with copies here their ends would never be seen.
pub(crate) fn close_stdio() -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(())
}

impl Made {
    /// Whether somebody else killed process 1, asked when something of it failed: one that is ending has no namespaces
    /// any more before it can be seen to have ended, so it is waited for, [`KILLED_ROUNDS`] at most.
    fn was_killed(&self) -> bool {
        use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        let Some(pid) = Pid::from_raw(self.pid).filter(|_| !self.reaped) else { return false };
        for _ in 0..KILLED_ROUNDS {
            match waitid(WaitId::Pid(pid), look) {
                Ok(None) => std::thread::sleep(std::time::Duration::from_millis(1)),
                Ok(Some(status)) => return status.killed(),
                Err(_) => return false,
            }
        }
        false
    }

    /// Puts the run's worktree into the box, whose process 1 is this process's child: its number is nobody else's.
    fn claim(&mut self, lower: Option<&Path>) -> io::Result<()> {
        let mounts = File::open(format!("/proc/{}/ns/mnt", self.pid)).map_err(act("open the box's mounts"))?;
        self.worktree.claim(lower, &mounts)
    }

    /// Ends the box if its worktree holds too much.
    fn weigh(&mut self) -> io::Result<()> {
        let upper = self.worktree.paths().upper;
        let heavy = self.scale.as_mut().filter(|_| !self.reaped).and_then(|scale| scale.look(&upper));
        if heavy.is_none() {
            return Ok(());
        }
        self.why = heavy;
        self.kill()
    }

    fn kill(&mut self) -> io::Result<()> {
        if self.reaped {
            return Ok(());
        }
        let Some(pid) = rustix::process::Pid::from_raw(self.pid) else { return Ok(()) };
        // Every process, not process 1 alone: it is collected only when it has run to its own end, and a command of
        // its uid may have seen to it that it never gets to run.
        for _ in 0..KILL_ROUNDS {
            group::kill_members(&self.spec.host.cgroup_parent, &self.spec.cgroup())?;
            match rustix::process::kill_process(pid, rustix::process::Signal::KILL) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => {}
                Err(e) => return Err(e.into()),
            }
            // Process 1 is collected last of its namespace: when it is gone, all are.
            match rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::NOHANG) {
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::CHILD) | Ok(Some(_)) => {
                    self.reaped = true;
                    return Ok(());
                }
                Err(e) => return Err(e.into()),
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        Err(io::Error::other("the box's processes do not end"))
    }

    fn end(mut self) -> io::Result<Ended> {
        let killed = self.kill();
        let why = self.why.take().or_else(|| group::limit_met(&self.spec, &self.spec.cgroup()));
        let deleted = self.container.delete(true).map_err(|e| io::Error::other(whole(&e)));
        let unmounted = self.worktree.unmount();
        killed.and(deleted).and(unmounted)?;
        Ok(Ended { why })
    }
}
