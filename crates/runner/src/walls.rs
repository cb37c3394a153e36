//! The walls: taken by process 1 first thing in `main`, and, one layer more, by every child between fork and exec.
//!
//! [`paths`] holds the tables of Landlock, [`program`] knows the agent's loader, [`refused`] holds the table of seccomp,
//! [`calls`] makes its programs, [`proof`]
//! the forbidden calls that are made on purpose afterwards. Nothing is best effort: what the kernel offers is
//! asked for by its level, and one thing refused ends the box before it has begun.

pub mod calls;
pub mod paths;
pub mod program;
pub mod proof;
pub mod refused;

use crate::boxfile::{BoxFile, Folder};
use api::inbox::AGENT_PATH;
use seccompiler::BpfProgram;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// What stands, and what children will take.
pub struct Walls {
    /// The Landlock level that process 1's layer was built for.
    pub abi: u32,
    /// For every command.
    pub command: ChildWalls,
    /// For the agent.
    pub agent: ChildWalls,
    /// Folders of the profile.
    extra: Vec<Folder>,
}

/// One more layer, prepared before the fork so that taking it allocates nothing.
pub struct ChildWalls {
    ruleset: OwnedFd,
    filter: BpfProgram,
    /// What must be said to execute behind them; none where anyone may.
    pub word: Option<calls::Word>,
}

impl ChildWalls {
    /// Restricts the calling thread, for good. Two system calls, no allocation: safe between fork and exec.
    ///
    /// # Errors
    /// The kernel's own; the child must not execute then.
    pub fn take(&self) -> io::Result<()> {
        // SAFETY: a plain system call on a descriptor that we own.
        if unsafe { libc::syscall(libc::SYS_landlock_restrict_self, self.ruleset.as_raw_fd(), 0u32) } != 0 {
            return Err(io::Error::last_os_error());
        }
        seccompiler::apply_filter(&self.filter).map_err(|_| io::Error::last_os_error())
    }
}

/// Takes process 1's walls, in the only order that works, and prepares those of its children. [`quiet`] comes first.
///
/// # Errors
/// A sentence that names the wall. Nothing of the box may run then.
pub fn take() -> Result<Walls, String> {
    let abi = paths::abi()?;
    let extra = BoxFile::read()?.folders;
    // Rulesets and programs first: making them opens files, which the walls would judge.
    let command = ChildWalls {
        ruleset: paths::build(abi, &paths::command(&extra), paths::Ports::Any)?,
        filter: calls::child()?,
        word: None,
    };
    let word = calls::Word::new()?;
    let loader = program::loader(Path::new(AGENT_PATH)).map_err(|e| format!("{AGENT_PATH}: {e}"))?;
    let agent = ChildWalls {
        ruleset: paths::build(abi, &paths::agent(&extra, loader)?, paths::Ports::DoorOnly)?,
        filter: calls::agent(word)?,
        word: Some(word),
    };
    let own = ChildWalls {
        ruleset: paths::build(abi, &paths::runner(&extra), paths::Ports::Any)?,
        filter: calls::everyone()?,
        word: None,
    };
    let missing = calls::unimplemented()?;
    own.take().map_err(|e| format!("Landlock or seccomp: {e}"))?;
    seccompiler::apply_filter(&missing).map_err(|e| format!("seccomp: {e}"))?;
    Ok(Walls { abi, command, agent, extra })
}

/// The walls of one command that holds a value, whose scratch is `scratch`. Taken by nobody else, they are a domain that no
/// other process of the box is in or above, but process 1: and so nobody else reads its memory, its environment or what it
/// has open.
///
/// # Errors
/// A sentence that names the wall.
pub fn bearer(walls: &Walls, scratch: &Path) -> Result<ChildWalls, String> {
    let by_port = walls.abi >= paths::KNOWS_PORTS;
    let ruleset = paths::build(walls.abi, &paths::bearer(&walls.extra, scratch), paths::Ports::DoorOnly)?;
    Ok(ChildWalls { ruleset, filter: calls::bearer(by_port)?, word: None })
}

/// No new privileges, no core, no tracer, no descriptor that was left open by mistake, no life after the helper: what
/// process 1 takes before it waits for its box to have a run.
///
/// # Errors
/// What was refused.
pub fn quiet() -> Result<(), String> {
    // 1, not 0: a core handler that the host pipes cores into is started at 0 all the same, and at 1 it is not.
    let none = libc::rlimit { rlim_cur: 1, rlim_max: 1 };
    // SAFETY: plain system calls on values; nothing but descriptors 0, 1 and 2 is ours yet.
    let asked = unsafe {
        [
            ("close descriptors above 2", libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 0u32)),
            ("no new privileges", libc::c_long::from(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))),
            ("not dumpable", libc::c_long::from(libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0))),
            ("die with the helper", libc::c_long::from(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0))),
            ("no core", libc::c_long::from(libc::setrlimit(libc::RLIMIT_CORE, &none))),
        ]
    };
    match asked.iter().find(|(_, answer)| *answer != 0) {
        Some((what, _)) => Err((*what).to_owned()),
        None => Ok(()),
    }
}
