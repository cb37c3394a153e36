//! A process by a handle of its own: a number means another process once its own is gone and collected.
//!
//! The handle is the process's folder of `/proc`, held open. Whatever has the number later, in that folder nothing can be
//! read then, and no signal goes anywhere.

use rustix::fs::{Mode, OFlags};
use rustix::process::{Signal, pidfd_send_signal};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// See the module.
#[derive(Debug)]
pub struct Process {
    number: u32,
    folder: OwnedFd,
}

impl Process {
    /// The process that has this number now. Whose it is tells [`Process::is_in`].
    ///
    /// # Errors
    /// The system's own; `NotFound` when there is none.
    pub fn open(number: u32) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(format!("/proc/{number}"), flags, Mode::empty())?;
        Ok(Self { number, folder })
    }

    /// Its number, as the host counts.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// A file of its folder of `/proc`, for this process of ours to open.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        Path::new("/proc/self/fd").join(self.folder.as_raw_fd().to_string()).join(name)
    }

    /// Whether it has ended, collected or not.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        let stat = fs::read_to_string(self.file("stat"));
        // The state stands behind the name, which ends at the last bracket.
        stat.map_or(true, |stat| stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X'])))
    }

    /// Whether it is in this control group or in one below, absolute in each hierarchy. On v1 what is ending is said to be
    /// in the host's own; but a process whose first thread has ended goes on with its others, so each is asked.
    #[must_use]
    pub fn is_in(&self, group: &str) -> bool {
        let is_there = |table: PathBuf| {
            let table = fs::read_to_string(table).unwrap_or_default();
            let mut groups = table.lines().filter_map(|line| line.splitn(3, ':').nth(2));
            groups.any(|of| Path::new(of).starts_with(group))
        };
        let of_a_thread = || {
            let threads = fs::read_dir(self.file("task")).into_iter().flatten().flatten();
            threads.map(|thread| thread.path().join("cgroup")).any(is_there)
        };
        !group.trim_matches('/').is_empty() && (is_there(self.file("cgroup")) || of_a_thread())
    }

    /// Kills it. One that has ended needs no more.
    ///
    /// # Errors
    /// The system's own.
    pub fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(&self.folder, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    /// Kills the process of this number, if it is in the control group.
    ///
    /// # Errors
    /// The system's own.
    pub fn end_member(number: u32, group: &str) -> io::Result<()> {
        match Self::open(number) {
            Ok(process) if process.is_in(group) => process.kill(),
            // It ended since it was listed.
            Ok(_) => Ok(()),
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => Ok(()),
            Err(e) => Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};

    fn sleeper() -> Child {
        Command::new("sleep").arg("600").spawn().unwrap()
    }

    /// Gives the number `of` to a process again, which takes root: to this child, or to one of somebody else's. Fifty times
    /// at most, for each turns back the numbers of the whole host.
    fn again(of: u32) -> Option<Child> {
        for _ in 0..50 {
            fs::write("/proc/sys/kernel/ns_last_pid", (of - 1).to_string()).ok()?;
            let mut child = sleeper();
            if child.id() == of {
                return Some(child);
            }
            child.kill().and_then(|()| child.wait()).unwrap();
        }
        None
    }

    #[test]
    fn a_handle_never_comes_to_mean_another_process_that_has_its_number() {
        let mut first = sleeper();
        let handle = Process::open(first.id()).unwrap();
        assert!(!handle.is_gone());
        assert!(fs::read_to_string(handle.file("comm")).is_ok());
        handle.kill().unwrap();
        first.wait().unwrap();
        assert!(handle.is_gone() && fs::read_to_string(handle.file("comm")).is_err());
        // Without root, or where others take the number each time, nobody has it again, or somebody who is left alone.
        let other = again(first.id());
        assert!(handle.is_gone() && fs::read_to_string(handle.file("comm")).is_err());
        let Some(mut other) = other else { return eprintln!("nobody was given its number again") };
        handle.kill().unwrap();
        assert!(!Process::open(other.id()).unwrap().is_gone(), "another process was killed");
        other.kill().unwrap();
        other.wait().unwrap();
    }

    #[test]
    fn what_is_not_in_a_group_is_not_killed_for_it() {
        let mut child = sleeper();
        for group in ["", "/", "/volary-nowhere/b1"] {
            assert!(!Process::open(child.id()).unwrap().is_in(group), "{group:?}");
            Process::end_member(child.id(), group).unwrap();
        }
        assert_eq!(child.try_wait().unwrap(), None);
        child.kill().unwrap();
        let number = child.id();
        child.wait().unwrap();
        Process::end_member(number, "/volary-nowhere/b1").unwrap();
    }
}
