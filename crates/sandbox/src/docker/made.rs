//! One box of Docker's: its making, its life, its end.

use super::{ask, connect, places, remove, trouble};
use crate::embedded::Ended;
use crate::harden::HardenedSpec;
use crate::helper::{self, Answer, KILL_ROUNDS, act};
use crate::oci::Mount;
use crate::process::Process;
use crate::sole::Sole;
use crate::worktree::{Paths, Worktree};
use crate::{cable, group, slice, uids};
use bollard::Docker;
use bollard::container::{AttachContainerResults, LogOutput};
use bollard::query_parameters::{AttachContainerOptions, CreateContainerOptions};
use futures_util::StreamExt;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::unix::pipe;
use tokio::task::JoinHandle;

/// How long what a dead box has said may take to come through.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// One box, made as far as it is made.
pub struct Made {
    spec: HardenedSpec,
    docker: Docker,
    /// The host's mount namespace, which this process has left.
    host: File,
    place: PathBuf,
    worktree: Worktree,
    id: Option<String>,
    process_1: Option<OwnedFd>,
    /// Process 1 again, to look into.
    first: Option<Process>,
    /// Where the daemon is told to put the box.
    parent: ask::Parent,
    /// The group that its processes are in, below that one; none before it is known.
    group: String,
    /// Moves the box's output; ends with it.
    output: Option<JoinHandle<()>>,
    input: Option<JoinHandle<()>>,
    /// Waits for a limit that is met, or for the box's end.
    limits: Option<JoinHandle<Option<String>>>,
    dead: bool,
    /// The limit that it met.
    why: Option<String>,
    /// Free for the run's next box when this one's helper is gone, mounts and all.
    _sole: Sole,
    /// No other live box of the host has its uid.
    _uid: Option<uids::Own>,
}

/// Makes the box: its process 1 waits, its door is bound, its mounts are as promised but for the worktree.
pub async fn make(spec: HardenedSpec) -> io::Result<(Made, Answer, OwnedFd)> {
    let docker = connect(&spec.host.docker).await?;
    let info = docker.info().await.map_err(trouble("ask the Docker engine what it is"))?;
    if let Some(why) = ask::obstacle(&info) {
        return Err(io::Error::other(format!("this Docker engine cannot make boxes: {why}")));
    }
    let parent = ask::parent(&info, &spec)?;
    let sole = Sole::take(&spec.upper_image).map_err(act("take the run's worktree"))?;
    let uid = uids::of(&spec).map_err(act("take the box's uid"))?;
    let host = File::open("/proc/self/ns/mnt")?;
    let stage = helper::stage(&spec)?;
    let worktree = Worktree::prepare(&stage, &spec, &sole)?;
    let place = places::place(&spec);
    let mut made = Made {
        spec,
        docker,
        host,
        place,
        worktree,
        id: None,
        process_1: None,
        first: None,
        parent,
        group: String::new(),
        output: None,
        input: None,
        limits: None,
        dead: false,
        why: None,
        _sole: sole,
        _uid: uid,
    };
    match made.bring_up(&stage).await {
        Ok((answer, listener)) => Ok((made, answer, listener)),
        Err(e) => match made.end().await {
            Ok(_) => Err(e),
            Err(also) => Err(io::Error::other(format!("{e}; and it could not be taken down: {also}"))),
        },
    }
}

impl Made {
    async fn bring_up(&mut self, stage: &Path) -> io::Result<(Answer, OwnedFd)> {
        places::write_own(stage, &self.spec)?;
        let image = match &self.spec.docker_image {
            Some(judged) => judged.clone(),
            None => ask::base(&self.docker).await?,
        };
        places::show(&self.host, stage, &self.place)?;
        let mounts = places::mounts(&self.place, &self.spec);
        let body = ask::container(&self.spec, &image, &mounts, &self.parent);
        let name = format!("volary{}", self.spec.cgroup().replace('/', "-"));
        let options = CreateContainerOptions { name: Some(name), ..Default::default() };
        let created = self.docker.create_container(Some(options), body).await;
        let id = created.map_err(trouble("create the box's container"))?.id;
        self.id = Some(id.clone());
        let attach =
            AttachContainerOptions { stream: true, stdin: true, stdout: true, stderr: true, ..Default::default() };
        // Before the start: nothing that process 1 says is kept anywhere else.
        let stdio = self.docker.attach_container(&id, Some(attach)).await.map_err(trouble("attach to the box"))?;
        // It fails when somebody kills process 1 before it is started, too.
        let lost = |e: io::Error| io::Error::new(io::ErrorKind::Interrupted, e.to_string());
        self.docker.start_container(&id, None).await.map_err(trouble("start the box's container")).map_err(lost)?;
        places::hide_from(&self.host, &self.place)?;
        self.move_stdio(stdio)?;
        let said = self.docker.inspect_container(&id, None).await.map_err(trouble("inspect the box"))?;
        let ended = || io::Error::new(io::ErrorKind::Interrupted, "the box's process 1 ended at once");
        let pid = said.state.as_ref().and_then(|state| state.pid).filter(|pid| *pid > 0).ok_or_else(ended)?;
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or_else(ended)?;
        let first = Process::open(pid.as_raw_nonzero().get().unsigned_abs()).map_err(|_| ended())?;
        self.process_1 = Some(pidfd_open(pid, PidfdFlags::empty()).map_err(|_| ended())?);
        let pid = first.number();
        // By now its number may be another's, in whose mounts and network nothing is to be done.
        if !first.is_in(&self.parent.group) {
            let of_whom = fs::read_to_string(first.file("cgroup")).unwrap_or_default();
            let said = self.docker.inspect_container(&id, None).await.map_err(trouble("inspect the box"))?;
            let is_it = said.state.and_then(|state| state.pid) == Some(i64::from(pid)) && !first.is_gone();
            let why = format!("the daemon put the box into another control group than it was told: {of_whom}");
            return Err(if is_it { io::Error::other(why) } else { ended() });
        }
        let narrowed = self.narrow(&first, &mounts);
        if self.is_over()? {
            return Err(ended());
        }
        let listener = narrowed?;
        self.first = Some(first);
        self.limits = Some(tokio::spawn(limit_met(self.process_1()?, self.spec.clone(), self.group.clone())));
        let readings = ask::readings(&said, &image, &self.parent, &self.group);
        Ok((Answer::Made { pid, group: self.group.clone(), readings }, listener))
    }

    /// What the daemon cannot be told is done from outside; gives the box's door.
    fn narrow(&mut self, first: &Process, mounts: &[Mount]) -> io::Result<OwnedFd> {
        self.group = group::of(first)?;
        if self.parent.is_slice {
            slice::forbid_swap(&self.group).map_err(act("have systemd forbid swap"))?;
        }
        group::forbid_swap(&self.group).map_err(act("forbid swap"))?;
        group::bound_sockets(&self.group).map_err(act("bound what its sockets hold"))?;
        places::tighten(&first.file("ns/mnt"), mounts)?;
        cable::bind(&first.file("ns/net")).map_err(act("bind the box's door"))
    }

    fn process_1(&self) -> io::Result<OwnedFd> {
        self.process_1.as_ref().map_or(Err(io::ErrorKind::NotFound.into()), OwnedFd::try_clone)
    }

    /// Moves bytes between the operator's pipes and the daemon's stream from now on.
    fn move_stdio(&mut self, stdio: AttachContainerResults) -> io::Result<()> {
        // Opened anew: whether these block is nobody else's matter then.
        let reopened = |number: i32, write: bool| {
            File::options().read(!write).write(write).open(format!("/proc/self/fd/{number}")).map(OwnedFd::from)
        };
        let mut stdin = pipe::Receiver::from_owned_fd(reopened(0, false)?)?;
        let mut stdout = pipe::Sender::from_owned_fd(reopened(1, true)?)?;
        let mut stderr = pipe::Sender::from_owned_fd(reopened(2, true)?)?;
        helper::close_stdio()?;
        let AttachContainerResults { mut output, mut input } = stdio;
        self.input = Some(tokio::spawn(async move {
            // A broken pipe either way: the box is ending, and its output says how.
            if tokio::io::copy(&mut stdin, &mut input).await.is_ok() {
                drop(input.shutdown().await);
            }
        }));
        self.output = Some(tokio::spawn(async move {
            while let Some(Ok(part)) = output.next().await {
                let (to, bytes) = match &part {
                    LogOutput::StdErr { message } => (&mut stderr, message),
                    LogOutput::StdOut { message } | LogOutput::Console { message } => (&mut stdout, message),
                    LogOutput::StdIn { .. } => continue,
                };
                if to.write_all(bytes).await.is_err() {
                    return;
                }
            }
        }));
        Ok(())
    }

    /// Whether process 1, and so every process of the box, has ended.
    fn is_over(&self) -> io::Result<bool> {
        let Some(process_1) = &self.process_1 else { return Ok(self.id.is_none()) };
        let mut one = [PollFd::new(process_1, PollFlags::IN)];
        Ok(poll(&mut one, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))? > 0)
    }

    pub fn is_dead(&self) -> bool {
        self.dead
    }

    /// Puts the run's worktree into the box.
    pub fn claim(&mut self, lower: Option<&Path>) -> io::Result<()> {
        let first = self.first.as_ref().map(|first| first.file("ns/mnt"));
        let mounts = first.ok_or_else(|| io::ErrorKind::NotFound.into()).and_then(File::open);
        if self.is_over()? {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "the box's process 1 ended before it had a run"));
        }
        self.worktree.claim(lower, &mounts.map_err(act("open the box's mounts"))?)
    }

    /// Where its changes are, and the most that they may be, in bytes.
    pub fn changes(&self) -> (Paths, u64) {
        (self.worktree.paths(), self.spec.limits.worktree_mib << 20)
    }

    pub async fn pause(&mut self) -> io::Result<()> {
        let id = self.id.as_deref().unwrap_or_default();
        self.docker.pause_container(id).await.map_err(trouble("pause the box"))
    }

    pub async fn resume(&mut self) -> io::Result<()> {
        let id = self.id.as_deref().unwrap_or_default();
        self.docker.unpause_container(id).await.map_err(trouble("resume the box"))
    }

    /// Ends every process of the box; says so only when the kernel does.
    pub async fn kill(&mut self) -> io::Result<()> {
        if self.dead {
            return Ok(());
        }
        // One without a group of its own is ended with its container.
        if self.process_1.is_some() && !self.group.is_empty() {
            // Read before the end: the daemon takes the group away with the last process.
            self.why = group::limit_met(&self.spec, &self.group);
            let mut rounds = 0;
            while !self.is_over()? {
                if rounds == KILL_ROUNDS {
                    return Err(io::Error::other("the box's processes do not end"));
                }
                rounds += 1;
                group::kill_members(&self.spec.host.cgroup_parent, &self.group)?;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        self.dead = true;
        if let Some(output) = self.output.take()
            && tokio::time::timeout(LAST_WORDS, output).await.is_err()
        {
            eprintln!("the box's last words did not come through in {} s", LAST_WORDS.as_secs());
        }
        if let Some(limits) = self.limits.take()
            && let Ok(Ok(why)) = tokio::time::timeout(LAST_WORDS, limits).await
        {
            self.why = self.why.take().or(why);
        }
        self.input.take().inspect(JoinHandle::abort);
        Ok(())
    }

    /// Ends it and all it held; its image stays.
    pub async fn end(&mut self) -> io::Result<Ended> {
        let killed = self.kill().await;
        let mut removed = Ok(());
        if let Some(id) = self.id.take() {
            if self.why.is_none()
                && let Ok(said) = self.docker.inspect_container(&id, None).await
                && said.state.and_then(|state| state.oom_killed) == Some(true)
            {
                self.why = Some(format!("killed: memory limit {} MiB", self.spec.limits.memory_mib));
            }
            removed = remove(&self.docker, &id).await;
        }
        let hidden = places::hide_from(&self.host, &self.place);
        let unmounted = self.worktree.unmount();
        // On v2 the group above keeps the count of a group that was taken away.
        self.why = self.why.take().or_else(|| group::limit_met(&self.spec, &self.parent.group));
        let name = self.spec.box_id.to_string();
        let gone = group::reap_one(&self.spec.host.cgroup_parent, &name);
        killed.and(removed).and(hidden).and(unmounted).and(gone)?;
        Ok(Ended { why: self.why.take() })
    }
}

/// The limit that a box meets, read while its group is there: a box that ends by itself takes its group along.
async fn limit_met(process_1: OwnedFd, spec: HardenedSpec, group: String) -> Option<String> {
    // SAFETY: both descriptors are owned by what watches them, and are closed after it.
    let over = unsafe { AsyncFd::register_with_interest(process_1, Interest::READABLE) }.ok()?;
    let events = File::open(group::process_events(&group)).ok()?;
    // SAFETY: as above.
    let events = unsafe { AsyncFd::register_with_interest(events, Interest::PRIORITY) }.ok()?;
    loop {
        if let Some(why) = group::limit_met(&spec, &group) {
            return Some(why);
        }
        tokio::select! {
            _ = over.readable() => return group::limit_met(&spec, &group),
            more = events.ready(Interest::PRIORITY) => more.ok()?.clear_ready(),
        }
    }
}
