//! What ends a repository's processes: together, when the operator says so, and with their parent in any case.
//!
//! Each such process has a group of its own, with the git commands it starts. It is killed when its parent ends
//! ([`tie`], [`tie_again`]), and so are they: nothing works on in a repository that no operator waits for.

use super::Problem;
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getppid, kill_process_group, set_parent_process_death_signal, waitid,
};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What `command` starts is killed when the thread that starts it ends, and does not begin when its process has.
pub fn tie(command: &mut Command) -> &mut Command {
    let parent = rustix::process::getpid();
    // SAFETY: two system calls, of which none allocates or takes a lock.
    unsafe { command.pre_exec(move || tie_to(parent)) }
}

/// Ties this process to `parent` once more: the kernel forgets it when a process becomes another user.
///
/// # Errors
/// [`Problem`] when the parent has ended meanwhile.
pub fn tie_again(parent: Option<Pid>) -> Result<(), Problem> {
    let parent = parent.ok_or_else(|| io::Error::other("its parent is in another namespace"));
    parent.and_then(tie_to).map_err(Problem::io("stay with the operator"))
}

fn tie_to(parent: Pid) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have ended before this was set.
    if getppid() == Some(parent) { Ok(()) } else { Err(Errno::SRCH.into()) }
}

/// Kills the processes of one import, from any thread, whether they were started yet or not.
#[derive(Debug, Clone, Default)]
pub struct Rein(Arc<Mutex<Held>>);

#[derive(Debug, Default)]
enum Held {
    /// Nothing was started, or it has ended.
    #[default]
    None,
    Group(Pid),
    Pulled,
}

impl Rein {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills what it holds, and whatever it is given to hold from now on.
    pub fn pull(&self) {
        let mut held = self.held();
        if let Held::Group(group) = *held {
            kill(group);
        }
        *held = Held::Pulled;
    }

    /// Holds the group that `child` leads.
    pub(super) fn hold(&self, child: &Child) {
        let mut held = self.held();
        let group = Pid::from_child(child);
        match *held {
            Held::Pulled => kill(group),
            _ => *held = Held::Group(group),
        }
    }

    /// Waits for the end of `child`, kills what is left of its group, and holds it no longer: its number may become
    /// another's.
    pub(super) fn wait(&self, child: &mut Child) -> io::Result<ExitStatus> {
        let group = Pid::from_child(child);
        while let Err(e) = waitid(WaitId::Pid(group), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            if e != Errno::INTR {
                return Err(e.into());
            }
        }
        let mut held = self.held();
        kill(group);
        if matches!(*held, Held::Group(_)) {
            *held = Held::None;
        }
        child.wait()
    }
}

/// Kills a group whose leader was not waited for yet.
pub(super) fn kill(group: Pid) {
    match kill_process_group(group, Signal::KILL) {
        // Of a group of ended processes the system says either.
        Ok(()) | Err(Errno::SRCH | Errno::PERM) => {}
        Err(cause) => tracing::warn!(%cause, "a repository's processes could not be killed"),
    }
}
