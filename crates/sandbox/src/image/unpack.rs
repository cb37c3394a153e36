//! Layers become a tree, by the rules of the OCI image specification and none of a tar's own.
//!
//! A layer is untrusted: every path is opened beneath the tree by the kernel itself (`openat2`), links in it lead
//! back into it as in a box, and nothing that is there is ever written through: it is removed and made anew. Owner,
//! set-uid, set-gid, sticky bit, the group's and others' write, and extended attributes are left out: whoever uses
//! the tree finds it read-only. Devices and pipes are left out; a sparse file, and whatever else is unknown, is refused.

use crate::oci;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use rustix::io::Errno;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use tar::{Archive, EntryType, Header};

/// Longest path, and longest name in it, in bytes; those of the system.
const MAX_PATH: usize = 4096;
const MAX_NAME: usize = 255;
/// Longest record about one entry (its long names and attributes), in bytes.
const MAX_RECORD: u64 = 1 << 20;
/// What says that something of a lower layer is gone, before its name.
const GONE: &[u8] = b".wh.";
/// What says that everything of lower layers in a folder is gone.
const ALL_GONE: &[u8] = b".wh..wh..opq";
/// What names of the file system that this way of writing comes from begin with; none of them is a file.
const NO_FILE: &[u8] = b".wh..wh.";
/// Bytes after which the room on the disk is looked at again.
const STEP: u64 = 64 << 20;

/// What all layers of one image may come to, together.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    /// Bytes of the layers when nothing packs them.
    pub bytes: u64,
    /// Files, folders, links, and what is left out.
    pub entries: u64,
    /// Bytes that the disk keeps free.
    pub spare: u64,
}

fn refuse(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).escape_debug().to_string()
}

/// One layer on its way into a tree.
struct Layer<'a> {
    root: BorrowedFd<'a>,
    budget: &'a mut Budget,
    /// What this layer made, so that what it says of lower ones is not done to it.
    made: HashSet<Vec<u8>>,
    written: u64,
}

/// What is said of an entry before it.
#[derive(Default)]
struct Said {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

/// Puts one layer, a tar that nothing packs, over what is beneath `root`.
///
/// # Errors
/// A sentence that names the entry; the tree is worth nothing then.
pub(crate) fn layer(root: BorrowedFd<'_>, tar: &mut dyn Read, budget: &mut Budget) -> io::Result<()> {
    let mut layer = Layer { root, budget, made: HashSet::new(), written: 0 };
    let mut archive = Archive::new(tar);
    let mut said = Said::default();
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry?;
        layer.budget.entries =
            layer.budget.entries.checked_sub(1).ok_or_else(|| refuse("it holds more files than an image may"))?;
        let header = entry.header().clone();
        match header.entry_type() {
            EntryType::GNULongName => said.path = Some(name_of(&mut entry)?),
            EntryType::GNULongLink => said.link = Some(name_of(&mut entry)?),
            EntryType::XHeader => attributes(&record(&mut entry)?, &mut said)?,
            // A comment of whoever wrote it; what it would say of paths is not said here.
            EntryType::XGlobalHeader => drop(record(&mut entry)?),
            kind => {
                let said = std::mem::take(&mut said);
                let path = said.path.unwrap_or_else(|| header.path_bytes().into_owned());
                let link = said.link.or_else(|| header.link_name_bytes().map(|link| link.into_owned()));
                let named = |e: io::Error| refuse(format!("{}: {e}", shown(&path)));
                let parts = parts(&path).map_err(named)?;
                layer.take(kind, &parts, &header, link.as_deref(), &mut entry).map_err(named)?;
            }
        }
    }
    Ok(())
}

fn record(entry: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    entry.take(MAX_RECORD + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_RECORD {
        return Err(refuse("an entry has more said of it than any file needs"));
    }
    Ok(bytes)
}

fn name_of(entry: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut name = record(entry)?;
    if name.last() == Some(&0) {
        name.pop();
    }
    Ok(name)
}

/// Records of the extended format: a length in decimal digits, a space, a key, `=`, a value, a line's end.
fn attributes(mut records: &[u8], said: &mut Said) -> io::Result<()> {
    let broken = || refuse("an entry's extended header cannot be read");
    while !records.is_empty() {
        let space = records.iter().position(|byte| *byte == b' ').ok_or_else(broken)?;
        let length = std::str::from_utf8(&records[..space]).ok().and_then(|text| text.parse::<usize>().ok());
        let length = length.filter(|length| *length > space + 1 && *length <= records.len()).ok_or_else(broken)?;
        let (record, rest) = records.split_at(length);
        let pair = record[space + 1..].strip_suffix(b"\n").ok_or_else(broken)?;
        let equals = pair.iter().position(|byte| *byte == b'=').ok_or_else(broken)?;
        let (key, value) = (&pair[..equals], &pair[equals + 1..]);
        match key {
            b"path" => said.path = Some(value.to_vec()),
            b"linkpath" => said.link = Some(value.to_vec()),
            // It would make the entry another length than the tar's own header gives it.
            b"size" => return Err(refuse("a file is longer than 8 GiB")),
            _ if key.starts_with(b"GNU.sparse.") => return Err(refuse("a file is sparse; images have none")),
            _ => {}
        }
        records = rest;
    }
    Ok(())
}

/// The names of a path beneath the tree; none for the tree itself.
fn parts(path: &[u8]) -> io::Result<Vec<&[u8]>> {
    if path.len() > MAX_PATH {
        return Err(refuse("its path is longer than 4096 bytes"));
    }
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    if parts.contains(&&b".."[..]) {
        return Err(refuse("its path climbs"));
    }
    if parts.iter().any(|part| part.len() > MAX_NAME || part.contains(&0)) {
        return Err(refuse("a name in its path is no name"));
    }
    Ok(parts)
}

/// Whether a link at this path would lead above the tree, as far as names go.
fn climbs(at: &[&[u8]], target: &[u8]) -> bool {
    let mut depth = if target.starts_with(b"/") { 0 } else { at.len() - 1 };
    for part in target.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." if depth == 0 => return true,
            b".." => depth -= 1,
            _ => depth += 1,
        }
    }
    false
}

/// Opens what is beneath `root`; links lead as in a box whose root this is.
fn open(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { &b"."[..] } else { path };
    let how = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), how)
}

/// Removes whatever is at a name, folders with all that is in them.
fn remove(folder: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR) => {
            // By a path that the kernel made of the descriptor; links below it are not followed.
            let path = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string());
            fs::remove_dir_all(path.join(std::ffi::OsStr::from_bytes(name)))
        }
        Err(e) => Err(e.into()),
    }
}

fn kind_of(folder: BorrowedFd<'_>, name: &[u8]) -> Result<Option<FileType>, Errno> {
    match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) => Ok(Some(FileType::from_raw_mode(found.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

impl Layer<'_> {
    fn take(
        &mut self,
        kind: EntryType,
        parts: &[&[u8]],
        header: &Header,
        link: Option<&[u8]>,
        content: &mut dyn Read,
    ) -> io::Result<()> {
        let Some((name, above)) = parts.split_last() else {
            // The tree itself, which is there.
            return if kind.is_dir() { Ok(()) } else { Err(refuse("the tree is no folder")) };
        };
        if *name == ALL_GONE {
            return match open(self.root, &above.join(&b'/'), OFlags::RDONLY | OFlags::DIRECTORY) {
                Ok(folder) => self.clear(&folder, above),
                Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
                Err(e) => Err(e.into()),
            };
        }
        if name.starts_with(NO_FILE) {
            return Ok(());
        }
        if let Some(gone) = name.strip_prefix(GONE) {
            if gone.is_empty() || gone == b"." || gone == b".." {
                return Err(refuse("it says that something without a name is gone"));
            }
            let path = [above, &[gone]].concat().join(&b'/');
            return match open(self.root, &above.join(&b'/'), OFlags::PATH | OFlags::DIRECTORY) {
                Ok(folder) if !self.made.contains(&path) => remove(folder.as_fd(), gone),
                Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => Ok(()),
                Err(e) => Err(e.into()),
            };
        }
        if matches!(kind, EntryType::Char | EntryType::Block | EntryType::Fifo) {
            return Ok(());
        }
        let folder = self.folder(above)?;
        let folder = folder.as_fd();
        let mode = Mode::from_raw_mode(header.mode()? & 0o755);
        match kind {
            EntryType::Directory => {
                if kind_of(folder, name)? != Some(FileType::Directory) {
                    remove(folder, name)?;
                    rustix::fs::mkdirat(folder, *name, Mode::from_raw_mode(0o755))?;
                }
                let made = rustix::fs::openat(folder, *name, OFlags::RDONLY | NO_LINK, Mode::empty())?;
                // Its owner, whoever unpacks, must be able to fill it.
                rustix::fs::fchmod(&made, mode | Mode::RWXU)?;
            }
            EntryType::Regular | EntryType::Continuous => {
                remove(folder, name)?;
                self.file(folder, name, mode, header, content)?;
            }
            EntryType::Symlink => {
                let target = link.filter(|link| !link.is_empty()).ok_or_else(|| refuse("it is a link to nothing"))?;
                if target.len() >= MAX_PATH || target.contains(&0) || climbs(parts, target) {
                    return Err(refuse(format!("it is a link that climbs out of the tree: {}", shown(target))));
                }
                remove(folder, name)?;
                rustix::fs::symlinkat(target, folder, *name)?;
            }
            EntryType::Link => {
                let target = self::parts(link.unwrap_or_default())?;
                let Some((last, over)) = target.split_last() else { return Err(refuse("it is a link to nothing")) };
                let of = open(self.root, &over.join(&b'/'), OFlags::PATH | OFlags::DIRECTORY)?;
                if !matches!(kind_of(of.as_fd(), last)?, Some(FileType::RegularFile | FileType::Symlink)) {
                    return Err(refuse("it is another name of what is no file of the image"));
                }
                if target != parts {
                    remove(folder, name)?;
                    rustix::fs::linkat(&of, *last, folder, *name, AtFlags::empty())?;
                }
            }
            EntryType::GNUSparse => return Err(refuse("it is sparse; images have no such files")),
            other => return Err(refuse(format!("it is of the kind {:?}, which is no file", other.as_byte()))),
        }
        self.made.extend((1..=parts.len()).map(|n| parts[..n].join(&b'/')));
        Ok(())
    }

    /// The folder at a path, made where it is not there.
    fn folder(&self, above: &[&[u8]]) -> io::Result<OwnedFd> {
        let whole = open(self.root, &above.join(&b'/'), OFlags::PATH | OFlags::DIRECTORY);
        match whole {
            Err(Errno::NOENT) => {}
            found => return Ok(found?),
        }
        let mut at = open(self.root, b"", OFlags::PATH | OFlags::DIRECTORY)?;
        for n in 1..=above.len() {
            let path = above[..n].join(&b'/');
            at = match open(self.root, &path, OFlags::PATH | OFlags::DIRECTORY) {
                Err(Errno::NOENT) => {
                    // Fails where a link is that leads nowhere.
                    rustix::fs::mkdirat(&at, above[n - 1], Mode::from_raw_mode(0o755))?;
                    open(self.root, &path, OFlags::PATH | OFlags::DIRECTORY)?
                }
                found => found?,
            };
        }
        Ok(at)
    }

    fn file(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &[u8],
        mode: Mode,
        header: &Header,
        content: &mut dyn Read,
    ) -> io::Result<()> {
        let how = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | NO_LINK;
        let mut file = File::from(rustix::fs::openat(folder, name, how, Mode::from_raw_mode(0o600))?);
        let size = header.size()?;
        if size > self.budget.bytes {
            return Err(refuse("it is longer than all of an image may be"));
        }
        let mut block = vec![0; 1 << 16];
        let mut left = size;
        while left > 0 {
            let read = content.read(&mut block)?;
            if read == 0 {
                return Err(refuse("the layer ends in the middle of it"));
            }
            file.write_all(&block[..read])?;
            left = left.saturating_sub(read as u64);
            self.has_room(read as u64)?;
        }
        rustix::fs::fchmod(&file, mode)?;
        let secs = i64::try_from(header.mtime()?).unwrap_or(0);
        let time = Timespec { tv_sec: secs, tv_nsec: 0 };
        rustix::fs::futimens(&file, &Timestamps { last_access: time, last_modification: time })?;
        Ok(())
    }

    /// Looks at the disk from time to time, so that an image does not take what live runs were promised.
    fn has_room(&mut self, more: u64) -> io::Result<()> {
        let before = self.written / STEP;
        self.written += more;
        if self.written / STEP == before && self.written != more {
            return Ok(());
        }
        let disk = rustix::fs::fstatvfs(self.root)?;
        if disk.f_bavail.saturating_mul(disk.f_frsize) < self.budget.spare {
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!("the disk would have less than {} MiB free; free some space", self.budget.spare >> 20),
            ));
        }
        Ok(())
    }

    /// Removes from a folder what this layer did not make.
    fn clear(&self, folder: &OwnedFd, at: &[&[u8]]) -> io::Result<()> {
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let path = [at, &[name]].concat();
            if !self.made.contains(&path.join(&b'/')) {
                remove(folder.as_fd(), name)?;
            } else if kind_of(folder.as_fd(), name)? == Some(FileType::Directory) {
                let below = rustix::fs::openat(folder, name, OFlags::RDONLY | NO_LINK, Mode::empty())?;
                self.clear(&below, &path)?;
            }
        }
        Ok(())
    }
}

const NO_LINK: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC);

/// Whether a link at the tree's top leads into its system, as far as names go: process 1 looks where it leads in a box.
fn is_of_the_system(target: &[u8]) -> bool {
    let parts = parts(target).unwrap_or_default();
    parts.first().is_some_and(|first| oci::SYSTEM.iter().any(|point| point.as_bytes()[1..] == **first))
}

/// Makes places in the tree's `/etc` for the files that every box has of its own.
///
/// # Errors
/// The system's own; a sentence when `/etc` or `/usr` is no folder, or the system is a link to something else.
pub(crate) fn make_places(tree: &Path, names: &[&str]) -> io::Result<()> {
    let root = rustix::fs::openat(CWD, tree, OFlags::PATH | OFlags::DIRECTORY | NO_LINK, Mode::empty())?;
    for folder in ["etc", "usr"] {
        match kind_of(root.as_fd(), folder.as_bytes())? {
            Some(FileType::Directory) => {}
            None => rustix::fs::mkdirat(&root, folder, Mode::from_raw_mode(0o755))?,
            Some(_) => return Err(refuse(format!("its /{folder} is no folder"))),
        }
    }
    for name in oci::SYSTEM.map(|point| &point[1..]) {
        if kind_of(root.as_fd(), name.as_bytes())? == Some(FileType::Symlink) {
            let target = rustix::fs::readlinkat(&root, name, Vec::new())?;
            if !is_of_the_system(target.to_bytes()) {
                let to = shown(target.to_bytes());
                return Err(refuse(format!("its /{name} leads to {to}, which is no part of the system")));
            }
        }
    }
    let etc = rustix::fs::openat(&root, "etc", OFlags::PATH | OFlags::DIRECTORY | NO_LINK, Mode::empty())?;
    for name in names {
        if kind_of(etc.as_fd(), name.as_bytes())? != Some(FileType::RegularFile) {
            remove(etc.as_fd(), name.as_bytes())?;
            let how = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | NO_LINK;
            rustix::fs::openat(&etc, *name, how, Mode::from_raw_mode(0o644))?;
        }
    }
    Ok(())
}
