//! Cloning: a repository at a git host becomes a bare one on this host, fetched through the gateway.
//!
//! `repo-clone FOLDER ADDRESS`, a local socket as standard input. The process has a network of its own in which nothing
//! is but a door: it binds that door, hands it to the operator, who has the gateway serve it for the run, and hears the
//! run's handle. Then it becomes a user that has nothing else, and has git fetch one commit, through that door, into
//! FOLDER. It holds no credential, and reaches nothing but the gateway.
//!
//! Read [`clone_main`] (the process), then [`Cloning`] (the operator's side).

use super::rein::{self, Rein};
use super::{Problem, close};
use model::RunId;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use rustix::process::{Gid, Resource, Rlimit, Uid, geteuid};
use std::ffi::OsString;
use std::io::{IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

/// The user that clones, when the operator is root: one that no box and no account has.
const UID: u32 = sandbox::embedded::BOX_UIDS.end;
/// Longest file that a clone may write, in bytes.
pub const MAX_FILE: u64 = 4 << 30;
/// How long a clone that no run needs is kept, for changes that could not be brought into it.
const KEPT: Duration = Duration::from_secs(30 * 86_400);
/// Longest handle.
const MAX_HANDLE: u64 = 256;

/// The cloning process. Arguments: the folder, which is made, and the repository's address at the door.
pub fn clone_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    close(match &args[..] {
        [folder, address] => clone(Path::new(folder), &address.to_string_lossy()),
        _ => Err(Problem::new("repo.usage", "which folder and address?")),
    })
}

fn clone(folder: &Path, address: &str) -> Result<(), Problem> {
    let root = geteuid().is_root();
    let parent = rustix::process::getppid();
    alone(root)?;
    let door = sandbox::cable::listen().map_err(Problem::io("bind a door"))?;
    let socket = std::io::stdin().as_fd().try_clone_to_owned().map_err(Problem::io("take the operator's socket"))?;
    hand_over(&socket, door)?;
    let mut handle = String::new();
    let mut said = UnixStream::from(socket).take(MAX_HANDLE);
    said.read_to_string(&mut handle).map_err(Problem::io("hear the run's handle"))?;
    if handle.is_empty() {
        return Err(Problem::new("repo.clone", "the gateway does not serve the clone"));
    }
    // It may be private at its host: no other account of this one reads it. Who works on it becomes its owner first.
    std::fs::DirBuilder::new().mode(0o700).create(folder).map_err(Problem::io("make the clone's folder"))?;
    if root {
        become_nobody(folder)?;
        rein::tie_again(parent)?;
    }
    bound()?;
    git(folder, &["init", "--quiet", "--bare", "."], address, &handle)?;
    git(folder, &["fetch", "--quiet", "--no-tags", "--depth=1", address, "HEAD"], address, &handle)?;
    git(folder, &["update-ref", "--no-deref", "HEAD", "FETCH_HEAD"], address, &handle)
}

/// Lets this process, and what it starts, write no file longer than [`MAX_FILE`].
///
/// # Errors
/// The system's own.
pub fn bound() -> Result<(), Problem> {
    let limit = Rlimit { current: Some(MAX_FILE), maximum: Some(MAX_FILE) };
    rustix::process::setrlimit(Resource::Fsize, limit).map_err(|e| Problem::io("bound the clone")(e.into()))
}

/// A network of its own, in which nothing is.
fn alone(root: bool) -> Result<(), Problem> {
    use rustix::thread::UnshareFlags;
    let spaces = if root { UnshareFlags::NEWNET } else { UnshareFlags::NEWNET | UnshareFlags::NEWUSER };
    let (uid, gid) = (geteuid().as_raw(), rustix::process::getegid().as_raw());
    // SAFETY: this process has one thread, and no memory is shared.
    unsafe { rustix::thread::unshare_unsafe(spaces) }
        .map_err(|e| Problem::io("have a network of its own")(e.into()))?;
    if !root {
        let written = std::fs::write("/proc/self/setgroups", "deny")
            .and_then(|()| std::fs::write("/proc/self/uid_map", format!("{uid} {uid} 1")))
            .and_then(|()| std::fs::write("/proc/self/gid_map", format!("{gid} {gid} 1")));
        written.map_err(Problem::io("map this user"))?;
    }
    Ok(())
}

fn hand_over(socket: &OwnedFd, door: OwnedFd) -> Result<(), Problem> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    let doors = [door.as_fd()];
    beside.push(SendAncillaryMessage::ScmRights(&doors));
    rustix::net::sendmsg(socket, &[IoSlice::new(b"D")], &mut beside, SendFlags::empty())
        .map(drop)
        .map_err(|e| Problem::io("hand the door over")(e.into()))
}

fn become_nobody(folder: &Path) -> Result<(), Problem> {
    let failed = |e: rustix::io::Errno| Problem::io("become the user that clones")(e.into());
    std::os::unix::fs::chown(folder, Some(UID), Some(UID)).map_err(Problem::io("give the clone's folder away"))?;
    let (uid, gid) = (Uid::from_raw(UID), Gid::from_raw(UID));
    rustix::thread::set_thread_groups(&[]).map_err(failed)?;
    rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(failed)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(failed)
}

/// git, with every transport off but to the door, and nobody's configuration.
fn git(folder: &Path, args: &[&str], address: &str, handle: &str) -> Result<(), Problem> {
    let mut git = Command::new("git");
    git.env_clear().current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let settings = [
        ("protocol.allow", "never"),
        ("protocol.http.allow", "always"),
        ("core.hooksPath", "/dev/null"),
        ("fetch.fsckObjects", "true"),
        ("transfer.unpackLimit", "1"),
        ("gc.auto", "0"),
        ("maintenance.auto", "false"),
        ("http.followRedirects", "false"),
        ("http.proxy", ""),
    ];
    git.env("PATH", sandbox::doctor::GIT_PATH).env("LC_ALL", "C").env("HOME", folder).env("GIT_TERMINAL_PROMPT", "0");
    git.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null").env("GIT_ASKPASS", "/bin/false");
    let header = [(format!("http.{address}.extraHeader"), format!("Authorization: Bearer {}", handle.trim()))];
    let settings = settings.map(|(key, value)| (key.to_owned(), value.to_owned()));
    git.env("GIT_CONFIG_COUNT", (settings.len() + header.len()).to_string());
    for (n, (key, value)) in settings.into_iter().chain(header).enumerate() {
        git.env(format!("GIT_CONFIG_KEY_{n}"), key).env(format!("GIT_CONFIG_VALUE_{n}"), value);
    }
    rein::tie(&mut git);
    let said = git.args(args).output().map_err(super::git::missing)?;
    if said.status.success() {
        return Ok(());
    }
    let words = super::git::last_words(&said.stderr);
    Err(Problem::new("repo.clone", format!("the repository could not be cloned: {words}")))
}

/// A clone being made. Dropping it ends the process.
pub struct Cloning {
    child: Child,
    rein: Rein,
    socket: UnixStream,
    waited: bool,
}

impl Cloning {
    /// Starts one into `folder`, which must not be there, of the repository at `address`, and takes its door. Blocks.
    ///
    /// # Errors
    /// [`Problem`] when the process cannot be started, or ends before it has a door.
    pub fn start(exe: &Path, folder: &Path, address: &str, rein: Rein) -> Result<(Self, OwnedFd), Problem> {
        let (ours, theirs) = UnixStream::pair().map_err(Problem::io("make a socket"))?;
        let mut command = Command::new(exe);
        command.args(["process", "repo-clone"]).arg(folder).arg(address).env_clear().current_dir("/");
        command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = rein::tie(&mut command).process_group(0).spawn();
        // It holds the other end of the socket until it is dropped.
        drop(command);
        let child = child.map_err(Problem::io("start the cloning process"))?;
        rein.hold(&child);
        let mut cloning = Self { child, rein, socket: ours, waited: false };
        match door(&cloning.socket) {
            Ok(door) => Ok((cloning, door)),
            Err(other) => Err(cloning.end().err().unwrap_or(other)),
        }
    }

    /// Tells it the run's handle, with which it may begin; the door is served by now. Waits for its end. Blocks.
    ///
    /// # Errors
    /// The process's own [`Problem`].
    pub fn finish(mut self, handle: &str) -> Result<(), Problem> {
        use std::io::Write as _;
        let told = self.socket.write_all(handle.as_bytes());
        let shut = self.socket.shutdown(std::net::Shutdown::Write);
        let ended = self.end();
        ended.and(told.and(shut).map_err(Problem::io("tell the cloning process the handle")))
    }

    fn end(&mut self) -> Result<(), Problem> {
        let mut said = Vec::new();
        if let Some(stderr) = self.child.stderr.take() {
            stderr.take(64 * 1024).read_to_end(&mut said).map_err(Problem::io("read from the cloning process"))?;
        }
        self.waited = true;
        let status = self.rein.wait(&mut self.child).map_err(Problem::io("wait for the cloning process"))?;
        if status.success() {
            return Ok(());
        }
        let reported = said.split(|b| *b == b'\n').rev().find_map(|line| serde_json::from_slice::<Problem>(line).ok());
        Err(reported.unwrap_or_else(|| Problem::new("repo.clone", super::git::last_words(&said))))
    }
}

impl Drop for Cloning {
    fn drop(&mut self) {
        if self.waited {
            return;
        }
        rein::kill(rustix::process::Pid::from_child(&self.child));
        if let Err(cause) = self.rein.wait(&mut self.child) {
            tracing::warn!(%cause, "a cloning process could not be ended");
        }
    }
}

/// The door that the process hands over.
fn door(socket: &UnixStream) -> Result<OwnedFd, Problem> {
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage};
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let mut word = [0; 1];
    let mut into = [std::io::IoSliceMut::new(&mut word)];
    rustix::net::recvmsg(socket, &mut into, &mut beside, RecvFlags::CMSG_CLOEXEC)
        .map_err(|e| Problem::io("take the clone's door")(e.into()))?;
    for message in beside.drain() {
        if let RecvAncillaryMessage::ScmRights(mut doors) = message
            && let Some(door) = doors.next()
        {
            return Ok(door);
        }
    }
    Err(Problem::new("repo.clone", "the cloning process ended before it had a door"))
}

/// Makes the folder in which clones lie, through which their own user passes, and removes those that no run here needs
/// any more.
///
/// # Errors
/// The system's own.
pub fn make_room(mirrors: &Path, is_known: impl Fn(&RunId) -> bool) -> std::io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o711).create(mirrors)?;
    std::fs::set_permissions(mirrors, std::fs::Permissions::from_mode(0o711))?;
    for entry in std::fs::read_dir(mirrors)? {
        let entry = entry?;
        let run = entry.path().file_stem().and_then(|name| RunId::parse(name.to_str()?).ok());
        let is_draft = entry.path().extension().is_some();
        // What a kept worktree was made from is needed as long as that may be brought home.
        let is_old = entry.metadata()?.modified()?.elapsed().is_ok_and(|age| age > KEPT);
        if run.is_none_or(|run| is_old && !is_known(&run)) || (is_draft && is_old) {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}
