//! What a box has the host's kernel hold in memory that no control group counts, on either version of them.
//!
//! Each of these is memory that an unprivileged process asks for and that nobody is charged with: the names of an open folder,
//! a lock on a part of a file, a connection that nobody has accepted and what was sent on it, what a socket keeps of what it
//! sent. (A connection that was closed before all of it was sent is charged, and one of those that the kernel has only so many of
//! for the whole host.) There is no limit to set, so they are counted from outside ([`look`]); whoever looks ends the box. What
//! cannot be seen from outside is refused by seccomp: a lock that belongs to an open file, which a mapping keeps when its
//! descriptor is gone, policies of shared memory, groups of IPv6 that a socket joins, and what it puts into each packet.

use crate::doctor::{Cgroups, cgroups};
use crate::group::{cgroup_path, listed};
use crate::process::Process;
use api::inbox::WORKSPACE;
use rustix::fs::{Mode, OFlags, ResolveFlags, fgetxattr, openat2};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Descriptors of a box that are looked at in one look, at most. A box that has more is taken to hide something.
const LOOKED_AT: usize = 1 << 16;
/// Lines that are read of one list of the kernel's, at most; who has more has too much.
const LINES: usize = 1 << 18;
/// Lines that are read of all descriptors in one look, at most: each copy of one says all locks of its file again. A box that
/// has as many has too many locks.
const LINES_OF_ALL: usize = 1 << 20;
/// Open folders of the worktree whose lists are looked for in one look. A box that has more has too many of them in any case.
const LISTED: usize = 64;
/// Bytes that a folder's list counts at least whose place is not found: it was removed, and on the disk its list is empty by then,
/// or it is being renamed just now; and that of one below it counts that cannot be looked at. What works has such a folder open, and
/// hardly several.
const UNKNOWN: u64 = 16 << 20;

/// What was counted. Where a box has more than is looked at, or what can hide something, a number is the largest there is; what
/// is gone before it is looked at, as of a process that is just ending, counts as nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held {
    /// Folders of the worktree that are open, each descriptor counted for each process.
    pub folders: usize,
    /// Bytes of their lists on the disk together, of the run's own changes and of the checkout below them; of the first of them,
    /// where there are very many.
    pub names: u64,
    /// Whether its worktree could not be looked at, so that every folder that is open counts as one of it, whose list nobody knows.
    pub unseen: bool,
    /// Other folders that are open.
    pub elsewhere: usize,
    /// Locks on parts of files, and of whatever else can be open, those of each descriptor counted.
    pub locks: usize,
    /// Connections that no process has: nobody accepted them, or they were closed and are not done.
    pub nobodys: usize,
    /// Bytes that were sent on them and not read, and those that wait in sockets of datagrams; what a socket keeps of its own
    /// datagrams, to tell of them, is among the latter and charged to nobody.
    pub unread: u64,
    /// Sockets that its processes have, of whatever kind. One of TCP keeps copies of what it sent, to tell when that left, and they are
    /// charged to nobody and stand in no list.
    pub sockets: usize,
}

/// Counts what the processes in a box's group hold. `first` is its process 1, `halves` where the two halves of its worktree are found.
/// Where it is not to be whole, sockets and what is on them alone, which costs little. Nothing of processes that may not be looked at.
pub(crate) fn look(group: &str, first: &Process, halves: &Halves, whole: bool) -> Held {
    let mut held = Held::default();
    if whole {
        descriptors(group, first, halves, &mut held);
    }
    let lines = |table: &str| {
        let lines = File::open(first.file(table)).map(|file| BufReader::new(file).lines());
        lines.into_iter().flatten().skip(1).take(LINES).map_while(Result::ok)
    };
    for line in ["net/udp", "net/udp6"].into_iter().flat_map(lines) {
        held.unread = held.unread.saturating_add(waiting(&line).unwrap_or(0));
    }
    let mut waits = 0;
    for line in ["net/tcp", "net/tcp6"].into_iter().flat_map(lines) {
        let Some(bytes) = nobodys(&line) else { continue };
        held.nobodys += 1;
        held.unread = held.unread.saturating_add(bytes);
        waits += usize::from(is_unaccepted(&line));
    }
    // Not the lines: one that both sides hung up on is in no list, and open still.
    let said = fs::read_to_string(first.file("net/sockstat")).unwrap_or_default();
    // Of a process that is just ending the kernel says nothing: its namespaces go before it does.
    held.sockets = used(&said).unwrap_or(0).saturating_sub(waits);
    held
}

/// How many sockets there are, as `/proc/net/sockstat` says it.
fn used(said: &str) -> Option<usize> {
    said.lines().find_map(|line| line.strip_prefix("sockets: used "))?.trim().parse().ok()
}

/// Whether the connection of a line of `/proc/net/tcp` that no process has waits to be accepted. What else nobody has is no
/// socket any more, of which a line alone is left, or one that sends the last of what it was given.
fn is_unaccepted(line: &str) -> bool {
    const STANDS: &str = "01";
    const ONE_HUNG_UP: &str = "08";
    line.split_whitespace().nth(3).is_some_and(|state| state == STANDS || state == ONE_HUNG_UP)
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

fn descriptors(group: &str, first: &Process, halves: &Halves, held: &mut Held) {
    let members = match cgroups() {
        Cgroups::V2 => cgroup_path(group, ""),
        _ => cgroup_path(group, "pids"),
    };
    // Where it cannot be opened, any folder may be one of its own.
    let worktree = Worktree::open(&first.file("root").join(&WORKSPACE[1..]), halves);
    held.unseen = worktree.is_err();
    let all = |path: String| fs::read_dir(path).into_iter().flatten().flatten();
    let (mut looked_at, mut left) = (0, LINES_OF_ALL);
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
            // Of whatever kind it is: a folder, a pipe and a socket can be locked like a file.
            let info = File::open(table.join("fdinfo").join(one.file_name())).map(|file| BufReader::new(file).lines());
            if !of_one(info.into_iter().flatten().map_while(Result::ok), &mut left, held) {
                return;
            }
            let Some(there) = fs::metadata(one.path()).ok().filter(Metadata::is_dir) else { continue };
            if worktree.as_ref().is_ok_and(|worktree| worktree.device != there.dev()) {
                held.elsewhere += 1;
                continue;
            }
            held.folders += 1;
            if held.folders <= LISTED {
                let shown = fs::read_link(one.path()).unwrap_or_default();
                let names = worktree.as_ref().map_or(UNKNOWN, |worktree| worktree.names(&there, &shown));
                held.names = held.names.saturating_add(names);
            }
        }
    }
}

/// Counts what the kernel says of one descriptor, of so many lines that are left to be read. False when nothing more is to be
/// looked at: it is too much in any case.
fn of_one(info: impl Iterator<Item = String>, left: &mut usize, held: &mut Held) -> bool {
    for line in info {
        if *left == 0 {
            held.locks = usize::MAX;
            return false;
        }
        *left -= 1;
        held.locks += usize::from(line.starts_with("lock:"));
        let on_their_way = line.strip_prefix("scm_fds:").and_then(|number| number.trim().parse::<u64>().ok());
        // What is on its way from one process to another may be of any kind, so that one is too many.
        if on_their_way.is_some_and(|number| number > 0) {
            held.folders = usize::MAX;
            return false;
        }
    }
    true
}

/// Where the two halves of a box's worktree are found.
#[derive(Debug)]
pub(crate) struct Halves {
    /// The checkout below, if there is one.
    pub(crate) lower: Option<PathBuf>,
    /// What the run makes of it, as the helper sees that.
    pub(crate) upper: PathBuf,
}

/// A worktree as its box sees it.
struct Worktree {
    seen: File,
    device: u64,
    /// Where there is a checkout: it, and what the run makes of it.
    halves: Option<(File, File)>,
}

impl Worktree {
    /// Fails where one of them is not found, as well.
    fn open(seen: &Path, Halves { lower, upper }: &Halves) -> io::Result<Self> {
        let seen = File::open(seen)?;
        let device = seen.metadata()?.dev();
        let halves = match lower {
            Some(lower) => Some((File::open(lower)?, File::open(upper)?)),
            None => None,
        };
        Ok(Self { seen, device, halves })
    }

    /// Bytes of the lists of an open folder, of which the kernel says `there`, and that it shows at this path.
    fn names(&self, there: &Metadata, shown: &Path) -> u64 {
        let Ok(path) = shown.strip_prefix(WORKSPACE) else { return UNKNOWN };
        let found = folder(&self.seen, path).map_err(io::Error::from).and_then(|found| found.metadata());
        if found.is_ok_and(|found| (found.dev(), found.ino()) == (there.dev(), there.ino())) {
            return there.len().saturating_add(self.below(path));
        }
        // As the kernel writes it once it is removed.
        let before = path.to_str().and_then(|path| path.strip_suffix(" (deleted)")).map_or(path, Path::new);
        there.len().saturating_add(self.below(before)).max(UNKNOWN)
    }

    /// Bytes of the list of the checkout's folder that the folder at this path is laid over; 0 where there is none, and
    /// [`UNKNOWN`] where that cannot be looked at.
    fn below(&self, path: &Path) -> u64 {
        let list = |(lower, upper): &(File, File)| list_below(lower, upper, path).unwrap_or(UNKNOWN);
        self.halves.as_ref().map_or(0, list)
    }
}

/// It has the same path there, except where a folder on the way, or itself, was renamed: the upper half says of that one what it was.
fn list_below(lower: &File, upper: &File, path: &Path) -> io::Result<u64> {
    let (mut above, mut place) = (Some(upper.try_clone()?), PathBuf::new());
    for name in path {
        above = match above {
            Some(above) => if_there(folder(&above, Path::new(name)))?,
            None => None,
        };
        match above.as_ref().map(redirect).transpose()?.flatten() {
            None => place.push(name),
            // Another name in the same folder, or, from `/` on, a place anywhere in the checkout.
            Some(was) => place.push(was),
        }
    }
    let place = place.strip_prefix("/").unwrap_or(&place);
    let found = if_there(folder(lower, place))?.map(|found| found.metadata()).transpose()?;
    Ok(found.map_or(0, |found| found.len()))
}

/// What a folder of the upper half was before it was renamed, as the kernel keeps it there. Nothing in a box can write that.
fn redirect(folder: &File) -> io::Result<Option<PathBuf>> {
    let mut was = [0u8; 4096];
    match fgetxattr(folder, "trusted.overlay.redirect", &mut was[..]) {
        Ok(length) => Ok(was.get(..length).map(|was| PathBuf::from(OsStr::from_bytes(was)))),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// The folder at a path below another, by no link.
fn folder(of: &File, path: &Path) -> Result<File, Errno> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(File::from(openat2(of, path, flags, Mode::empty(), within)?))
}

/// None where no folder is there, or one by a link or elsewhere alone. Whatever else goes wrong says nothing of it.
fn if_there(found: Result<File, Errno>) -> io::Result<Option<File>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => Ok(None),
        Err(e) => Err(e.into()),
    }
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
            assert_eq!(is_unaccepted(&line(state, 0)), ["01", "08"].contains(&state), "{state}");
        }
        for (state, file) in [("03", 0), ("06", 0), ("0A", 4711)] {
            assert_eq!(nobodys(&line(state, file)), None, "{state} {file}");
        }
        for none in ["", "  sl  local_address rem_address   st tx_queue rx_queue", "1: a b 01 x 0 0 0 0 0"] {
            assert_eq!(nobodys(none), None, "{none}");
        }
    }

    #[test]
    fn sockets_are_as_many_as_the_kernel_says_and_lines_beside_that_say_nothing() {
        let said = "sockets: used 101\nTCP: inuse 1 orphan 0 tw 50 alloc 116 mem 0\nUDP: inuse 0 mem 0\n";
        assert_eq!(used(said), Some(101));
        for none in ["", "TCP: inuse 1 orphan 0 tw 50 alloc 116 mem 0\n", "sockets: used \n"] {
            assert_eq!(used(none), None, "{none}");
        }
    }

    #[test]
    fn of_a_worktree_that_cannot_be_looked_at_it_is_said() {
        let itself = Process::open(std::process::id()).unwrap();
        let gone = Path::new("/does/not/exist");
        let halves = Halves { lower: Some(gone.to_path_buf()), upper: gone.to_path_buf() };
        // Of a group that is none, so that nothing is counted beside.
        let look = |whole| look("/volary-no-group-of-this-name", &itself, &halves, whole);
        assert!(look(true).unseen && !look(false).unseen);
    }

    /// A worktree in which this is seen, with this checkout below and nothing of the run's own.
    fn worktree(seen: &Path, checkout: &Path) -> Worktree {
        let halves = Halves { lower: Some(checkout.to_path_buf()), upper: seen.to_path_buf() };
        Worktree::open(seen, &halves).unwrap()
    }

    #[test]
    fn a_worktree_is_not_opened_without_the_halves_it_is_made_of() {
        let (there, gone) = (Path::new("/"), Path::new("/does/not/exist"));
        let open = |seen: &Path, lower: Option<&Path>, upper: &Path| {
            let halves = Halves { lower: lower.map(Path::to_path_buf), upper: upper.to_path_buf() };
            Worktree::open(seen, &halves).is_ok()
        };
        assert!(open(there, Some(there), there) && open(there, None, gone));
        assert!(!open(gone, None, there) && !open(there, Some(gone), there) && !open(there, Some(there), gone));
    }

    #[test]
    fn of_a_folder_that_is_laid_over_one_of_the_checkout_that_ones_list_counts() {
        let checkout = tempfile::tempdir().unwrap();
        let (folder, outside) = (checkout.path().join("a/b"), tempfile::tempdir().unwrap());
        fs::create_dir_all(&folder).unwrap();
        std::os::unix::fs::symlink(outside.path(), checkout.path().join("link")).unwrap();
        let worktree = worktree(outside.path(), checkout.path());
        let size = fs::metadata(&folder).unwrap().len();
        assert!(size > 0);
        for path in ["a/b", ""] {
            assert_eq!(worktree.below(Path::new(path)), size, "{path}");
        }
        for none in ["a/c", "link", "link/..", "../etc", "/etc"] {
            assert_eq!(worktree.below(Path::new(none)), 0, "{none}");
        }
    }

    #[test]
    fn what_cannot_be_looked_at_below_a_folder_is_not_nothing() {
        let (seen, checkout) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(checkout.path().join("a")).unwrap();
        let worktree = worktree(seen.path(), checkout.path());
        // A name that is too long: it is not said that nothing is there. Of the upper half, then of the checkout alone.
        let long = "n".repeat(300);
        for path in [PathBuf::from(&long), Path::new("a").join(&long)] {
            assert_eq!(worktree.below(&path), UNKNOWN);
        }
        let nothing = File::open(seen.path()).unwrap();
        assert_eq!(redirect(&nothing).unwrap(), None);
        let not_to_be_asked = rustix::fs::open(seen.path(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        assert!(redirect(&File::from(not_to_be_asked)).is_err());
    }

    #[test]
    fn a_look_reads_so_many_lines_of_all_descriptors_together_and_who_has_more_has_too_many_locks() {
        let info =
            |locks: usize| ["pos:\t0".to_owned()].into_iter().chain((0..locks).map(|n| format!("lock:\t{n}: POSIX")));
        let (mut left, mut held) = (100, Held::default());
        assert!(of_one(info(49), &mut left, &mut held) && of_one(info(49), &mut left, &mut held));
        assert_eq!((left, held.locks), (0, 98));
        assert!(!of_one(info(0), &mut left, &mut held));
        assert_eq!(held.locks, usize::MAX);
        let (mut left, mut held) = (100, Held::default());
        assert!(!of_one(["scm_fds: 1".to_owned()].into_iter(), &mut left, &mut held));
        assert_eq!((held.folders, held.locks), (usize::MAX, 0));
    }

    #[test]
    fn of_a_folder_whose_place_is_not_found_nobody_knows_how_many_names_it_has() {
        let (seen, checkout) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |name: &str| Path::new(WORKSPACE).join(name);
        for tree in [&seen, &checkout] {
            fs::create_dir(tree.path().join("a")).unwrap();
        }
        let worktree = worktree(seen.path(), checkout.path());
        let open = File::open(seen.path().join("a")).unwrap();
        let there = open.metadata().unwrap();
        let both = there.len() + fs::metadata(checkout.path().join("a")).unwrap().len();
        assert_eq!(worktree.names(&there, &at("a")), both);
        // Renamed between the kernel's word and the look; then as it says itself what is longer than a path may be.
        for shown in [at("b"), PathBuf::new(), "/elsewhere".into()] {
            assert_eq!(worktree.names(&there, &shown), UNKNOWN, "{}", shown.display());
        }
        fs::remove_dir(seen.path().join("a")).unwrap();
        assert_eq!(worktree.names(&open.metadata().unwrap(), &at("a (deleted)")), UNKNOWN);
        // Another one has its name since.
        fs::create_dir(seen.path().join("a")).unwrap();
        assert_eq!(worktree.names(&open.metadata().unwrap(), &at("a (deleted)")), UNKNOWN);
    }
}
