//! The ends of processes: the one place that waits, because process 1 inherits every orphan.
//!
//! A watched child is kept as a zombie until what is left of its session has been killed: while the zombie
//! stands, its number cannot be given to a stranger. What escaped a session belongs to some command; when the
//! last command ends, so does everything but the agent.

use model::event::Exit;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::rc::Rc;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

/// Rounds of killing a session before giving up: each round meets only what was forked during the one before.
const ROUNDS: usize = 50;

/// What a child of ours is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The agent.
    Agent,
    /// A command.
    Command,
}

struct Watched {
    role: Role,
    tell: oneshot::Sender<Exit>,
}

/// Waits for every process of the box.
pub struct Reaper {
    watched: RefCell<HashMap<libc::pid_t, Watched>>,
}

impl Reaper {
    /// Starts to wait, in a task of its own.
    ///
    /// # Errors
    /// The kernel's own, of the signal descriptor.
    pub fn start() -> io::Result<Rc<Self>> {
        // SAFETY: the descriptor is owned by the registration, and stays open as long as it.
        let signals = unsafe { AsyncFd::register(child_signals()?)? };
        let reaper = Rc::new(Self { watched: RefCell::default() });
        let waiting = Rc::clone(&reaper);
        tokio::task::spawn_local(async move {
            loop {
                match signals.readable().await {
                    Ok(mut ready) => {
                        drain(signals.get_ref());
                        ready.clear_ready();
                        waiting.reap();
                    }
                    Err(error) => {
                        eprintln!("runner: the reaper: {error}");
                        std::process::exit(70);
                    }
                }
            }
        });
        Ok(reaper)
    }

    /// From now on the end of `pid`, a child of ours, is told through the receiver.
    #[must_use]
    pub fn watch(&self, pid: libc::pid_t, role: Role) -> oneshot::Receiver<Exit> {
        let (tell, told) = oneshot::channel();
        self.watched.borrow_mut().insert(pid, Watched { role, tell });
        told
    }

    /// Kills a watched child, its session and their descendants. Nothing happens to one that has ended.
    pub fn kill(&self, pid: libc::pid_t) {
        if self.watched.borrow().contains_key(&pid) {
            kill_tree(pid);
        }
    }

    /// Returns when nobody is in the group that `leader` led. To be called when that was killed whole, and of a leader
    /// whose processes cannot leave its group.
    pub async fn group_is_empty(&self, leader: libc::pid_t) {
        // SAFETY: numbers only; a number that is a group's is not given to a new process.
        while unsafe { libc::kill(-leader, libc::SIGKILL) } == 0 {
            self.reap();
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }

    /// Kills every process of the box but ourselves and returns when none is left.
    pub async fn kill_everyone(&self) {
        loop {
            // SAFETY: numbers only. As process 1 of a namespace, -1 is everything in it but ourselves.
            if unsafe { libc::kill(-1, libc::SIGKILL) } != 0 || !self.reap() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }

    /// Takes every zombie there is. Returns whether children are left.
    fn reap(&self) -> bool {
        loop {
            let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
            let look = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
            // SAFETY: the kernel writes one siginfo; zeroed memory is one too. The pid is read from its SIGCHLD form.
            let pid = unsafe {
                if libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), look) != 0 {
                    return false;
                }
                info.assume_init_ref().si_pid()
            };
            if pid == 0 {
                return true;
            }
            let watched = self.watched.borrow_mut().remove(&pid);
            if let Some(Watched { role, .. }) = watched {
                kill_tree(pid);
                if role == Role::Command {
                    self.kill_strays();
                }
            }
            let mut status = 0;
            // SAFETY: waits for the zombie that was just seen; the kernel writes one int.
            if unsafe { libc::waitpid(pid, &raw mut status, 0) } == pid
                && let Some(Watched { tell, .. }) = watched
            {
                // A waiter that is gone needs no answer.
                drop(tell.send(exit_of(status)));
            }
        }
    }

    /// When no command runs: kills all but the agent and its own.
    fn kill_strays(&self) {
        let watched = self.watched.borrow();
        if watched.values().any(|child| child.role == Role::Command) {
            return;
        }
        let keep: Vec<libc::pid_t> = watched.keys().copied().collect();
        kill_all_of(|all| {
            let kept: HashSet<libc::pid_t> = keep.iter().flat_map(|leader| tree_of(*leader, all)).collect();
            all.iter().map(|process| process.pid).filter(|pid| *pid != 1 && !kept.contains(pid)).collect()
        });
    }
}

/// How a wait status reads.
fn exit_of(status: i32) -> Exit {
    if libc::WIFSIGNALED(status) {
        Exit::Signal { signal: libc::WTERMSIG(status) }
    } else {
        Exit::Code { code: libc::WEXITSTATUS(status) }
    }
}

fn child_signals() -> io::Result<OwnedFd> {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: a set that is initialised before it is used; children empty their mask again before they execute.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGCHLD);
        if libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        match libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

fn drain(signals: &OwnedFd) {
    let mut buffer = [0u8; 512];
    // SAFETY: a buffer of the length given, and a descriptor that does not block.
    while unsafe { libc::read(signals.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) } > 0 {}
}

/// One living process, as `/proc` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    pid: libc::pid_t,
    parent: libc::pid_t,
    session: libc::pid_t,
}

/// Kills the session that `leader` leads and every descendant of it, until none is left.
///
/// What left the session *and* lost its parent is not found: see [`Reaper::kill_strays`].
fn kill_tree(leader: libc::pid_t) {
    // First without looking: what made itself invisible in `/proc` can still be in its group.
    // SAFETY: numbers only; the leader's number is held by its living process or its zombie.
    unsafe { libc::kill(-leader, libc::SIGKILL) };
    kill_all_of(|all| tree_of(leader, all));
}

/// Kills what `chosen` finds among the living, until it finds nothing.
fn kill_all_of(chosen: impl Fn(&[Process]) -> Vec<libc::pid_t>) {
    for _ in 0..ROUNDS {
        let found = chosen(&processes());
        for pid in &found {
            // SAFETY: numbers only.
            unsafe { libc::kill(*pid, libc::SIGKILL) };
        }
        if found.is_empty() {
            return;
        }
    }
}

/// The living of a session and their descendants, ourselves excepted.
fn tree_of(leader: libc::pid_t, all: &[Process]) -> Vec<libc::pid_t> {
    let mut tree: HashSet<libc::pid_t> = HashSet::from([leader]);
    loop {
        let before = tree.len();
        for process in all {
            if process.pid != 1 && (process.session == leader || tree.contains(&process.parent)) {
                tree.insert(process.pid);
            }
        }
        if tree.len() == before {
            break;
        }
    }
    all.iter().map(|process| process.pid).filter(|pid| tree.contains(pid)).collect()
}

fn processes() -> Vec<Process> {
    let Ok(folder) = std::fs::read_dir("/proc") else { return Vec::new() };
    let numbers = folder.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<libc::pid_t>().ok());
    numbers.filter_map(|pid| parse(pid, &std::fs::read(format!("/proc/{pid}/stat")).ok()?)).collect()
}

/// Reads `/proc/PID/stat`: the fields after the name, which may itself hold spaces and brackets. No zombies.
fn parse(pid: libc::pid_t, stat: &[u8]) -> Option<Process> {
    let after = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let mut fields = std::str::from_utf8(&stat[after..]).ok()?.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    Some(Process { pid, parent, session })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_cannot_forge_the_fields_after_it() {
        let stat = b"7 (x) S 1 1 1 (y) R 3 7 5 0 -1";
        assert_eq!(parse(7, stat), Some(Process { pid: 7, parent: 3, session: 5 }));
        assert_eq!(parse(7, b"7 (x) Z 3 7 5 0 -1"), None);
    }

    #[test]
    fn a_tree_is_its_session_and_the_children_of_that_even_in_sessions_of_their_own() {
        let process = |pid, parent, session| Process { pid, parent, session };
        let all = [
            process(1, 0, 1),
            process(10, 1, 10),
            process(11, 10, 10),
            process(12, 11, 12), // called setsid, its parent lives
            process(13, 1, 10),  // its parent died
            process(20, 1, 20),  // another command
        ];
        assert_eq!(tree_of(10, &all), [10, 11, 12, 13]);
    }

    #[test]
    fn a_wait_status_reads_as_a_code_or_a_signal() {
        assert_eq!(exit_of(3 << 8), Exit::Code { code: 3 });
        assert_eq!(exit_of(libc::SIGKILL), Exit::Signal { signal: libc::SIGKILL });
    }
}
