//! What a run changed: the upper half of its worktree, compared with the lower by content, mode and type.
//!
//! Proportional to what was touched, however large the checkout. The box's processes are gone when this runs; even
//! so no link is followed, and nothing is opened that is not beneath the worktree and a regular file.
//!
//! How many entries change is the agent's choice, and what git does with them takes time that grows with the square
//! of a folder's: so no more than [`MOST_IN_FOLDER`] and [`MOST`] are carried, and the rest is left out and said.

use crate::embedded::ChangeCount;
use crate::worktree::Paths;
use api::changes::{Change, path_is_plain, write};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, openat, readlinkat, statat};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Deepest folder that is read; deeper ones are left out and said.
const MAX_DEPTH: usize = 256;

/// Most changed entries of one folder that are carried, folders with changes beneath them among them.
const MOST_IN_FOLDER: u64 = 20_000;
/// Most changed entries that are carried in all.
const MOST: u64 = 200_000;
/// Most bytes that the names of the folders on the way take in memory, each with [`NAME`] beside it. Without it whoever
/// makes millions of links to one file takes the memory of this process, which no limit of the box's counts.
const MOST_NAMES: usize = 128 << 20;
/// Bytes that a name takes beside its own.
const NAME: usize = 64;
/// Most lines of what was left out.
const MOST_LINES: usize = 50;

struct Reader<'a, W: Write> {
    out: BufWriter<&'a mut W>,
    count: ChangeCount,
    budget: u64,
    /// Entries that may still be carried, and the most of one folder.
    room: u64,
    most_in_folder: u64,
    /// The folders from the top to the one that is being read.
    way: Vec<Folder>,
    /// Lines of what was left out beyond [`MOST_LINES`].
    unsaid: u64,
    /// Bytes that names may still take.
    names: usize,
}

/// The names in a folder, and the bytes that they take.
#[derive(Default)]
struct Names(BTreeSet<CString>, usize);

/// What is carried of a folder that is being read.
#[derive(Default)]
struct Folder {
    carried: u64,
    left_out: u64,
    /// Whether its folder counts it already.
    counted: bool,
}

/// Streams the changes under `paths` into `out`, contents of at most `budget` bytes together.
///
/// # Errors
/// The worktree's or the stream's own. A file beyond the budget is left out and said, not an error.
pub fn stream(paths: &Paths, budget: u64, out: &mut impl Write) -> io::Result<ChangeCount> {
    stream_most(paths, budget, (MOST, MOST_IN_FOLDER, MOST_NAMES), out)
}

fn stream_most(
    paths: &Paths,
    budget: u64,
    (room, most_in_folder, names): (u64, u64, usize),
    out: &mut impl Write,
) -> io::Result<ChangeCount> {
    let out = BufWriter::with_capacity(1 << 16, out);
    let (count, way) = (ChangeCount::default(), Vec::new());
    let mut reader = Reader { out, count, budget, room, most_in_folder, way, unsaid: 0, names };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |path| openat(CWD, path, flags, Mode::empty());
    let (upper, merged) = (open(&paths.upper)?, open(&paths.merged)?);
    let lower = open(&paths.lower)?;
    reader.upper_folder(&upper, &merged, Some(&lower), &mut Vec::new(), 0)?;
    if reader.unsaid > 0 {
        reader.count.left_out.push(format!("and {} more files and folders", reader.unsaid));
    }
    let count = reader.count.changes;
    write(&mut reader.out, &Change::End { count })?;
    reader.out.flush()?;
    drop(reader.out);
    Ok(reader.count)
}

fn stat(folder: &OwnedFd, name: &CStr) -> io::Result<Option<Stat>> {
    match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

fn kind(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

fn enter(folder: &OwnedFd, name: &CStr) -> io::Result<OwnedFd> {
    Ok(openat(folder, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

fn open_file(folder: &OwnedFd, name: &CStr) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(File::from(openat(folder, name, flags, Mode::empty())?))
}

/// Whether an upper folder does not simply lie over the lower one of its name (replaced or renamed).
fn stands_alone(folder: BorrowedFd<'_>) -> bool {
    let mut value = [0u8; 4096];
    ["trusted.overlay.opaque", "trusted.overlay.redirect", "user.overlay.opaque", "user.overlay.redirect"]
        .iter()
        .any(|name| rustix::fs::fgetxattr(folder, *name, &mut value[..]).is_ok())
}

impl<W: Write> Reader<'_, W> {
    fn leave_out(&mut self, path: &[u8], why: &str) {
        // The last line is for how many more there are.
        if self.count.left_out.len() < MOST_LINES - 1 {
            self.count.left_out.push(format!("{}: {why}", String::from_utf8_lossy(path)));
        } else {
            self.unsaid += 1;
        }
    }

    /// The names in a folder; none, and the folder left out, where they are more than there is room for. They are given back
    /// to [`Reader::forget`].
    fn names(&mut self, folder: &OwnedFd, path: &[u8]) -> io::Result<Option<Names>> {
        let mut all = Names::default();
        for entry in Dir::read_from(folder)? {
            let name = entry?.file_name().to_owned();
            if name.as_bytes() == b"." || name.as_bytes() == b".." {
                continue;
            }
            all.1 += name.count_bytes() + NAME;
            if all.1 > self.names {
                let path = if path.is_empty() { b"." } else { path };
                self.leave_out(path, "more names than are read of folders at once; nothing of it is carried");
                return Ok(None);
            }
            all.0.insert(name);
        }
        self.names -= all.1;
        Ok(Some(all))
    }

    /// Names that are no longer needed.
    fn forget(&mut self, bytes: usize) {
        self.names += bytes;
    }

    /// Whether one more changed entry of the folder that is being read is carried; if not, it is counted.
    fn carries(&mut self) -> bool {
        // What git gets is an entry in this folder, and one for each folder on the way that had none.
        let first = self.way.iter().rposition(|folder| folder.counted).unwrap_or(0);
        let full = (first..self.way.len()).find(|at| self.way[*at].carried >= self.most_in_folder);
        if self.room == 0 || full.is_some() {
            if let Some(folder) = full.or(self.way.len().checked_sub(1)).and_then(|at| self.way.get_mut(at)) {
                folder.left_out += 1;
            }
            return false;
        }
        self.room -= 1;
        for folder in self.way.iter_mut().skip(first) {
            folder.carried += 1;
        }
        for folder in self.way.iter_mut().skip(first + 1) {
            folder.counted = true;
        }
        true
    }

    /// The folder that was being read is done.
    fn leave(&mut self, path: &[u8]) {
        let Some(folder) = self.way.pop().filter(|folder| folder.left_out > 0) else { return };
        let limit = if self.room == 0 { "in all" } else { "in one folder" };
        let most = if self.room == 0 { self.count.changes } else { self.most_in_folder };
        let path = if path.is_empty() { b"." } else { path };
        self.leave_out(
            path,
            &format!("{} changed entries, beyond the {most} {limit} that are carried", folder.left_out),
        );
    }

    /// One folder of the upper half. `lower` is the folder of the same name below, if there is one.
    fn upper_folder(
        &mut self,
        upper: &OwnedFd,
        merged: &OwnedFd,
        lower: Option<&OwnedFd>,
        path: &mut Vec<u8>,
        depth: usize,
    ) -> io::Result<()> {
        let Some(Names(names, bytes)) = self.names(upper, path)? else { return Ok(()) };
        self.way.push(Folder::default());
        for name in names {
            let Some(above) = stat(upper, &name)? else { continue };
            let below = match lower {
                Some(lower) => stat(lower, &name)?,
                None => None,
            };
            let length = push(path, &name);
            if !path_is_plain(path) {
                if path.as_slice() != b".git" {
                    self.leave_out(path, "git cannot keep a path of that name");
                }
            } else if is_whiteout(&above) {
                if below.is_some() && self.carries() {
                    self.record(&Change::Gone { path: path.clone() })?;
                }
            } else if kind(&above) == FileType::Directory
                && below.as_ref().is_some_and(|b| kind(b) == FileType::Directory)
                && depth < MAX_DEPTH
            {
                let (above, seen) = (enter(upper, &name)?, enter(merged, &name)?);
                let below = lower.map(|lower| enter(lower, &name)).transpose()?;
                if stands_alone(above.as_fd()) {
                    self.compare_folders(&seen, below.as_ref(), path, depth + 1)?;
                } else {
                    self.upper_folder(&above, &seen, below.as_ref(), path, depth + 1)?;
                }
            } else {
                self.compare(merged, lower, &name, path, depth)?;
            }
            path.truncate(length);
        }
        self.forget(bytes);
        self.leave(path);
        Ok(())
    }

    /// Both halves of a folder as the box saw it, against the lower, entry by entry.
    fn compare_folders(
        &mut self,
        merged: &OwnedFd,
        lower: Option<&OwnedFd>,
        path: &mut Vec<u8>,
        depth: usize,
    ) -> io::Result<()> {
        let Some(Names(seen, bytes)) = self.names(merged, path)? else { return Ok(()) };
        let below = match lower {
            Some(lower) => self.names(lower, path)?,
            None => Some(Names::default()),
        };
        let Some(Names(below, bytes_below)) = below else {
            self.forget(bytes);
            return Ok(());
        };
        self.way.push(Folder::default());
        for name in below.difference(&seen) {
            let length = push(path, name);
            if path_is_plain(path) && self.carries() {
                self.record(&Change::Gone { path: path.clone() })?;
            }
            path.truncate(length);
        }
        drop(below);
        self.forget(bytes_below);
        for name in seen {
            let length = push(path, &name);
            if path_is_plain(path) {
                self.compare(merged, lower, &name, path, depth)?;
            } else {
                self.leave_out(path, "git cannot keep a path of that name");
            }
            path.truncate(length);
        }
        self.forget(bytes);
        self.leave(path);
        Ok(())
    }

    /// One entry that may differ from the lower's.
    fn compare(
        &mut self,
        merged: &OwnedFd,
        lower: Option<&OwnedFd>,
        name: &CStr,
        path: &mut Vec<u8>,
        depth: usize,
    ) -> io::Result<()> {
        let Some(now) = stat(merged, name)? else { return Ok(()) };
        let before = match lower {
            Some(lower) => stat(lower, name)?,
            None => None,
        };
        let same_kind = before.as_ref().is_some_and(|b| kind(b) == kind(&now));
        match kind(&now) {
            FileType::Directory => {
                if depth >= MAX_DEPTH {
                    self.leave_out(path, "deeper than 256 folders");
                    return Ok(());
                }
                if before.is_some() && !same_kind {
                    if !self.carries() {
                        return Ok(());
                    }
                    self.record(&Change::Gone { path: path.clone() })?;
                }
                let below = match lower {
                    Some(lower) if same_kind => Some(enter(lower, name)?),
                    _ => None,
                };
                self.compare_folders(&enter(merged, name)?, below.as_ref(), path, depth + 1)
            }
            FileType::RegularFile => {
                let executable = now.st_mode & 0o111 != 0;
                let len = u64::try_from(now.st_size).unwrap_or(u64::MAX);
                if let (Some(before), Some(lower), true) = (&before, lower, same_kind)
                    && before.st_size == now.st_size
                    && (before.st_mode & 0o111 != 0) == executable
                    && same_content(open_file(merged, name)?, open_file(lower, name)?)?
                {
                    return Ok(());
                }
                if len > self.budget {
                    self.leave_out(path, "more content than the worktree's limit");
                    return Ok(());
                }
                if !self.carries() {
                    return Ok(());
                }
                if before.is_some() && !same_kind {
                    self.record(&Change::Gone { path: path.clone() })?;
                }
                self.budget -= len;
                self.record(&Change::File { path: path.clone(), executable, len })?;
                self.copy(open_file(merged, name)?, len)
            }
            FileType::Symlink => {
                let target = readlinkat(merged, name, Vec::new())?;
                if let (Some(lower), true) = (lower, same_kind)
                    && readlinkat(lower, name, Vec::new())? == target
                {
                    return Ok(());
                }
                if !self.carries() {
                    return Ok(());
                }
                if before.is_some() && !same_kind {
                    self.record(&Change::Gone { path: path.clone() })?;
                }
                let target = target.into_bytes();
                self.record(&Change::Link { path: path.clone(), len: target.len() as u64 })?;
                self.count.bytes += target.len() as u64;
                self.out.write_all(&target)
            }
            _ => {
                self.leave_out(path, "neither a file, a link nor a folder");
                Ok(())
            }
        }
    }

    fn record(&mut self, change: &Change) -> io::Result<()> {
        self.count.changes += 1;
        write(&mut self.out, change)
    }

    fn copy(&mut self, file: File, len: u64) -> io::Result<()> {
        let copied = io::copy(&mut file.take(len), &mut self.out)?;
        self.count.bytes += copied;
        if copied == len {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a file of the worktree became shorter while it was read"))
    }
}

fn push(path: &mut Vec<u8>, name: &CStr) -> usize {
    let length = path.len();
    if length > 0 {
        path.push(b'/');
    }
    path.extend_from_slice(name.to_bytes());
    length
}

fn is_whiteout(stat: &Stat) -> bool {
    kind(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn same_content(mut a: File, mut b: File) -> io::Result<bool> {
    let (mut left, mut right) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let n = a.read(&mut left)?;
        if n == 0 {
            return Ok(b.read(&mut right)? == 0);
        }
        match b.read_exact(&mut right[..n]) {
            Ok(()) if left[..n] == right[..n] => {}
            Ok(()) => return Ok(false),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod race;

#[cfg(test)]
#[path = "changes_tests.rs"]
mod tests;
