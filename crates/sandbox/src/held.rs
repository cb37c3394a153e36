//! What a box has the host's kernel hold in memory that no control group counts, on either version of them.
//!
//! Each of these is memory that an unprivileged process asks for and that nobody is charged with: the names of an open folder,
//! a lock on a part of a file, a connection that nobody has accepted and what was sent on it. (One that was closed before all of
//! it was sent is charged, and one of those that the kernel has only so many of for the whole host.) There is no limit to set, so they
//! are counted from outside ([`look`]); whoever looks ends the box. What cannot be seen from outside is refused by seccomp: a
//! lock that belongs to an open file, which a mapping keeps when its descriptor is gone, and policies of shared memory.

use crate::doctor::{Cgroups, cgroups};
use crate::group::{cgroup_path, listed};
use crate::process::Process;
use api::inbox::WORKSPACE;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

/// Descriptors of a box that are looked at in one look, at most. A box that has more is taken to hide something.
const LOOKED_AT: usize = 1 << 16;
/// Lines that are read of one list of the kernel's, at most; who has more has too much.
const LINES: usize = 1 << 18;

/// What was counted. A number that cannot be known is the largest there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Folders of the worktree that are open, each descriptor counted for each process.
    pub folders: usize,
    /// Bytes of their lists on the disk together, of the run's own changes and of the checkout below them.
    pub names: u64,
    /// Other folders that are open.
    pub elsewhere: usize,
    /// Locks on parts of files, those of each descriptor counted.
    pub locks: usize,
    /// Connections that no process has: nobody accepted them, or they were closed and are not done.
    pub nobodys: usize,
    /// Bytes that were sent on them and not read, and those that wait in sockets of datagrams; what a socket keeps of its own
    /// datagrams, to tell of them, is among the latter and charged to nobody.
    pub unread: u64,
}

/// Counts what the processes in a box's group hold. `first` is its process 1, `lower` the checkout below its worktree. Where it is not
/// to be whole, connections and datagrams alone, which costs little. Nothing of processes that may not be looked at.
pub(crate) fn look(group: &str, first: &Process, lower: Option<&Path>, whole: bool) -> Held {
    let mut held = Held::default();
    if whole {
        descriptors(group, first, lower, &mut held);
    }
    let lines = |table: &str| {
        let lines = File::open(first.file(table)).map(|file| BufReader::new(file).lines());
        lines.into_iter().flatten().skip(1).take(LINES).map_while(Result::ok)
    };
    for line in ["net/udp", "net/udp6"].into_iter().flat_map(lines) {
        held.unread = held.unread.saturating_add(waiting(&line).unwrap_or(0));
    }
    for bytes in ["net/tcp", "net/tcp6"].into_iter().flat_map(lines).filter_map(|line| nobodys(&line)) {
        held.nobodys += 1;
        held.unread = held.unread.saturating_add(bytes);
    }
    held
}

/// What was sent and not read on the connection of a line of `/proc/net/tcp`, in bytes; none of one that some process has, or
/// that takes next to nothing: one that is still being made, or is over and only remembered.
fn nobodys(line: &str) -> Option<u64> {
    const MADE: &str = "03";
    const REMEMBERED: &str = "06";
    let mut words = line.split_whitespace().skip(3);
    let state = words.next()?;
    // Behind its queues, timers, retransmissions, uid and timeout: the number of its file.
    let takes = words.nth(5)? == "0" && state != MADE && state != REMEMBERED;
    waiting(line).filter(|_| takes)
}

/// What waits to be read in the socket of a line of `/proc/net/udp` or `tcp`, in bytes.
fn waiting(line: &str) -> Option<u64> {
    u64::from_str_radix(line.split_whitespace().nth(4)?.split_once(':')?.1, 16).ok()
}

fn descriptors(group: &str, first: &Process, lower: Option<&Path>, held: &mut Held) {
    let members = match cgroups() {
        Cgroups::V2 => cgroup_path(group, ""),
        _ => cgroup_path(group, "pids"),
    };
    let worktree = fs::metadata(first.file("root").join(&WORKSPACE[1..])).ok().map(|worktree| worktree.dev());
    let lower = lower.and_then(|path| rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok());
    let all = |path: String| fs::read_dir(path).into_iter().flatten().flatten();
    let mut looked_at = 0;
    for pid in listed(&members) {
        // Its threads have one table; the first of them may have ended before the others.
        let tables = all(format!("/proc/{pid}/task")).map(|thread| thread.path());
        let Some(table) = tables.into_iter().find(|thread| all(format!("{}/fd", thread.display())).next().is_some())
        else {
            continue;
        };
        for one in all(format!("{}/fd", table.display())) {
            looked_at += 1;
            if looked_at > LOOKED_AT {
                held.folders = usize::MAX;
                return;
            }
            let Ok(there) = fs::metadata(one.path()) else { continue };
            let info =
                || File::open(table.join("fdinfo").join(one.file_name())).map(|file| BufReader::new(file).lines());
            if there.is_dir() && Some(there.dev()) == worktree {
                let shown = fs::read_link(one.path()).unwrap_or_default();
                let below = lower.as_ref().map_or(0, |lower| below(lower, &shown));
                held.folders += 1;
                held.names = held.names.saturating_add(there.len()).saturating_add(below);
            } else if there.is_dir() {
                held.elsewhere += 1;
            } else if there.is_file() {
                let lines = info().into_iter().flatten().take(LINES).map_while(Result::ok);
                held.locks += lines.filter(|line| line.starts_with("lock:")).count();
            } else if there.file_type().is_socket() {
                let lines = info().into_iter().flatten().map_while(Result::ok);
                let mut on_their_way =
                    lines.filter_map(|line| line.strip_prefix("scm_fds:")?.trim().parse::<u64>().ok());
                // What is on its way from one process to another may be of any kind, so that one is too many.
                if on_their_way.any(|number| number > 0) {
                    held.folders = usize::MAX;
                    return;
                }
            }
        }
    }
}

/// Bytes of the list of the checkout's folder that an open folder of the worktree is laid over, by its path in the box; 0 where the
/// checkout has none. A folder that lies in both has one path in both, for as long as it is open.
fn below(lower: &impl std::os::fd::AsFd, shown: &Path) -> u64 {
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let bytes = |path: &Path| {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let folder = openat2(lower, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty(), within);
        folder
            .map_err(std::io::Error::from)
            .and_then(|folder| File::from(folder).metadata())
            .map_or(0, |found| found.len())
    };
    let Ok(path) = shown.strip_prefix(WORKSPACE) else { return 0 };
    // As the kernel writes it once it is removed: then it was here all the same.
    let before = path.to_str().and_then(|path| path.strip_suffix(" (deleted)"));
    bytes(path).max(before.map_or(0, |before| bytes(Path::new(before))))
}

/// KiB of a page of this machine's memory. As the C library was told at its start: a process that cannot be dumped and is not
/// root's may not read its own `/proc/self/auxv`, where others look for it, and end with that on a Linux before 6.4.
#[must_use]
pub fn page_kib() -> u64 {
    // SAFETY: numbers only.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).map_or(4, |bytes| bytes >> 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_no_process_has_is_told_from_one_that_some_process_has() {
        let line = |state: &str, file: u32| {
            format!(
                "   1: 0100007F:2328 0100007F:A840 {state} 00000000:0000EA61 00:00000000 00000000     0        0 {file} 1 \
                 00000000aa8837ec 20 4 0 10 -1"
            )
        };
        // Not accepted yet, the second one closed by whoever sent it; then closed with something unsent, three ways.
        for state in ["01", "08", "04", "09", "0B"] {
            assert_eq!(nobodys(&line(state, 0)), Some(60_001), "{state}");
            assert_eq!(nobodys(&line(state, 4711)), None, "{state}");
        }
        for (state, file) in [("03", 0), ("06", 0), ("0A", 4711)] {
            assert_eq!(nobodys(&line(state, file)), None, "{state} {file}");
        }
        for none in ["", "  sl  local_address rem_address   st tx_queue rx_queue", "1: a b 01 x 0 0 0 0 0"] {
            assert_eq!(nobodys(none), None, "{none}");
        }
    }

    #[test]
    fn of_a_folder_that_is_laid_over_one_of_the_checkout_that_ones_list_counts_removed_or_not() {
        let checkout = tempfile::tempdir().unwrap();
        let (folder, outside) = (checkout.path().join("a/b"), tempfile::tempdir().unwrap());
        fs::create_dir_all(&folder).unwrap();
        std::os::unix::fs::symlink(outside.path(), checkout.path().join("link")).unwrap();
        let lower = File::open(checkout.path()).unwrap();
        let size = fs::metadata(&folder).unwrap().len();
        assert!(size > 0);
        for shown in ["/workspace/a/b", "/workspace/a/b (deleted)", "/workspace"] {
            assert_eq!(below(&lower, Path::new(shown)), size, "{shown}");
        }
        for none in ["/workspace/a/c", "/workspace/link", "/workspace/link/..", "/workspace/../etc", "/etc", ""] {
            assert_eq!(below(&lower, Path::new(none)), 0, "{none}");
        }
    }
}
