//! Clean checkouts: the read-only lower halves of worktrees, written once per tree and shared by every run of it.
//!
//! A checkout lies at `checkouts/<owner and path of the repository, hashed>/<tree>/files`, owned by us, beneath a
//! folder only we may enter; the repository's own process gave its contents, so it is shared by runs of the same
//! repository and owner only. It is written under another name and renamed when whole. Every file is opened
//! beneath the folder above it, no link followed. What another boot of the machine left is not trusted (its
//! contents may not have reached the disk) and is removed at the start.
//!
//! Read [`Checkouts::get`], then `write_tree`.

use crate::disk::{self, Disk};
use crate::repo::{Head, Problem, RepoProcess};
use crate::runs::locked;
use api::changes::{self, Change};
use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

/// Checkouts that are kept although no run uses them.
pub const KEPT: usize = 8;

/// All checkouts of this host.
#[derive(Debug)]
pub struct Checkouts {
    dir: PathBuf,
    used: Mutex<HashMap<PathBuf, usize>>,
    drafts: AtomicU64,
}

/// A checkout in use; it stays at least as long as this lives.
#[derive(Debug)]
pub struct Checkout {
    /// The files.
    pub files: PathBuf,
    /// What it is of.
    pub head: Head,
    home: PathBuf,
    of: Arc<Checkouts>,
}

impl Drop for Checkout {
    fn drop(&mut self) {
        let mut used = locked(&self.of.used);
        if let Some(count) = used.get_mut(&self.home) {
            *count -= 1;
            if *count == 0 {
                used.remove(&self.home);
            }
        }
    }
}

impl Checkouts {
    /// Opens the cache at `dir` (made with mode 0700), and removes drafts and what another boot left.
    ///
    /// # Errors
    /// The system's own.
    pub fn open(dir: &Path) -> io::Result<Arc<Self>> {
        let boot = fs::read("/proc/sys/kernel/random/boot_id")?;
        let mark = dir.join("boot");
        if fs::read(&mark).ok().as_ref() != Some(&boot) {
            match fs::remove_dir_all(dir) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        for draft in fs::read_dir(dir)? {
            let draft = draft?.path();
            if draft.extension() == Some(OsStr::new("draft")) {
                fs::remove_dir_all(draft)?;
            }
        }
        fs::write(mark, boot)?;
        Ok(Arc::new(Self { dir: dir.to_path_buf(), used: Mutex::default(), drafts: AtomicU64::new(0) }))
    }

    /// The checkout of `commit` (HEAD if none) of the repository at `path`; read and written if it is not there. Blocks.
    ///
    /// # Errors
    /// [`Problem`]: the repository's own, or the disk's.
    pub fn get(
        self: &Arc<Self>,
        process: &RepoProcess,
        disk: &Disk,
        path: &Path,
        commit: Option<&str>,
    ) -> Result<Checkout, Problem> {
        let mut reading = process.read(path, commit)?;
        let head = reading.head().clone();
        let home = self.home(path, &head.tree)?;
        // Counted as used before it is looked for, so that it cannot be removed in between.
        *locked(&self.used).entry(home.clone()).or_default() += 1;
        let checkout = Checkout { files: home.join("files"), head, home, of: Arc::clone(self) };
        if !checkout.files.is_dir() {
            self.make_room();
            self.write(&mut reading, &checkout, disk)?;
        }
        // Its age among the unused is the age of its last use.
        fs::write(checkout.home.join("used"), b"").map_err(Problem::io("note the use of a checkout"))?;
        Ok(checkout)
    }

    fn home(&self, path: &Path, tree: &str) -> Result<PathBuf, Problem> {
        if !crate::repo::git::is_object(tree) {
            return Err(Problem::new("repo.io", "a tree's name is not one"));
        }
        let owner = fs::metadata(path).map_err(Problem::io("look at the repository"))?.uid();
        let mut hash = Sha256::new();
        hash.update(owner.to_le_bytes());
        hash.update(path.as_os_str().as_bytes());
        let key: String = hash.finalize().iter().take(16).map(|b| format!("{b:02x}")).collect();
        Ok(self.dir.join(format!("{key}-{tree}")))
    }

    fn write(&self, reading: &mut crate::repo::process::Reading, to: &Checkout, disk: &Disk) -> Result<(), Problem> {
        let head = &to.head;
        // A file takes whole blocks, and an entry in its folder.
        let need = head.bytes.saturating_add(head.bytes / 10).saturating_add(head.files.saturating_mul(disk::PER_FILE));
        let _reserved = disk.reserve(need, "the repository's files").map_err(|e| Problem::new("disk.full", e))?;
        let draft = self.dir.join(format!("{}.draft", self.drafts.fetch_add(1, Ordering::Relaxed)));
        let io = |act| move |e| Problem::io(act)(e);
        fs::create_dir(&draft).and_then(|()| fs::create_dir(draft.join("files"))).map_err(io("make a checkout"))?;
        let written = write_tree(&mut reading.stream, &draft.join("files"), head.files);
        let done = match (written, reading.finish()) {
            // The process knows better why its stream ended.
            (_, Err(problem)) => Err(problem),
            (Err(e), Ok(())) => Err(Problem::io("write the repository's files")(e)),
            (Ok(()), Ok(())) => match fs::rename(&draft, &to.home) {
                // Another run of the same tree was faster.
                Err(_) if to.files.is_dir() => fs::remove_dir_all(&draft).map_err(io("remove a spare checkout")),
                renamed => renamed.map_err(io("name a checkout")),
            },
        };
        if done.is_err() && draft.exists() {
            fs::remove_dir_all(&draft).map_err(io("remove a half-written checkout"))?;
        }
        done
    }

    /// Removes the checkouts longest unused, so that with one more at most [`KEPT`] are kept for nobody.
    fn make_room(&self) {
        if let Err(cause) = self.remove_oldest() {
            tracing::warn!(%cause, "old checkouts could not be removed");
        }
    }

    fn remove_oldest(&self) -> io::Result<()> {
        // Held throughout: what is being removed cannot come into use.
        let used = locked(&self.used);
        let mut idle = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.join("files").is_dir() && path.extension().is_none() && !used.contains_key(&path) {
                let last = fs::metadata(path.join("used")).and_then(|m| m.modified());
                idle.push((last.unwrap_or(SystemTime::UNIX_EPOCH), path));
            }
        }
        idle.sort();
        for (_, path) in idle.iter().take((idle.len() + 1).saturating_sub(KEPT)) {
            // Renamed first: half a checkout must not pass for a whole one.
            let gone = path.with_extension("draft");
            fs::rename(path, &gone)?;
            fs::remove_dir_all(gone)?;
        }
        Ok(())
    }
}

/// Writes a stream of files beneath `root`, an empty folder: files 0644 or 0755, folders 0755.
fn write_tree(from: &mut impl Read, root: &Path, files: u64) -> io::Result<()> {
    let mut beneath = Beneath::open(root)?;
    let mut count = 0;
    loop {
        match changes::read(from)? {
            Change::File { path, executable, len } => {
                let mut file = beneath.create(&path)?;
                if io::copy(&mut from.take(len), &mut file)? != len {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                // Also against the umask of whoever started us.
                rustix::fs::fchmod(&file, if executable { MODE_EXECUTABLE } else { MODE_FILE })?;
            }
            Change::Link { path, len } => {
                let mut target = Vec::new();
                from.take(len.min(changes::MAX_PATH as u64)).read_to_end(&mut target)?;
                if target.len() as u64 != len {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                let (parent, name) = beneath.parent(&path)?;
                rustix::fs::symlinkat(OsStr::from_bytes(&target), parent, name)?;
            }
            Change::Folder { path } => drop(beneath.folder(&path)?),
            Change::Gone { .. } => return Err(io::Error::other("a checkout takes nothing away")),
            Change::End { count: said } if said == count && count == files => return Ok(()),
            Change::End { .. } => return Err(io::Error::other("the stream of files is not whole")),
        }
        count += 1;
    }
}

const MODE_FILE: Mode = Mode::from_raw_mode(0o644);
const MODE_EXECUTABLE: Mode = Mode::from_raw_mode(0o755);

/// Opens things beneath one folder and nowhere else.
struct Beneath {
    root: OwnedFd,
    /// The folder last opened: files come in order, so most lie beside the one before.
    last: (Vec<u8>, OwnedFd),
}

impl Beneath {
    fn open(root: &Path) -> io::Result<Self> {
        let root: OwnedFd = File::open(root)?.into();
        rustix::fs::fchmod(&root, MODE_EXECUTABLE)?;
        let last = (Vec::new(), root.try_clone()?);
        Ok(Self { root, last })
    }

    fn create(&mut self, path: &[u8]) -> io::Result<File> {
        let (parent, name) = self.parent(path)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(open_beneath(parent, name, flags, MODE_FILE)?.into())
    }

    /// The folder that holds `path`, made if need be, and the last part of it.
    fn parent<'p>(&mut self, path: &'p [u8]) -> io::Result<(&OwnedFd, &'p OsStr)> {
        let (folder, name) = match path.iter().rposition(|b| *b == b'/') {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&b""[..], path),
        };
        if self.last.0 != folder {
            self.last = (folder.to_vec(), self.folder(folder)?);
        }
        Ok((&self.last.1, OsStr::from_bytes(name)))
    }

    /// A folder, made with all above it.
    fn folder(&self, path: &[u8]) -> io::Result<OwnedFd> {
        let mut at = self.root.try_clone()?;
        for part in path.split(|b| *b == b'/').filter(|part| !part.is_empty()) {
            let name = OsStr::from_bytes(part);
            match rustix::fs::mkdirat(&at, name, MODE_EXECUTABLE) {
                Ok(()) => rustix::fs::chmodat(&at, name, MODE_EXECUTABLE, AtFlags::empty())?,
                Err(rustix::io::Errno::EXIST) => {}
                Err(e) => return Err(e.into()),
            }
            at = open_beneath(&at, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        }
        Ok(at)
    }
}

fn open_beneath(at: impl AsFd, name: &OsStr, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(rustix::fs::openat2(at, name, flags, mode, resolve)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn stream(all: &[(Change, &[u8])]) -> Vec<u8> {
        let mut wire = Vec::new();
        for (change, content) in all {
            changes::write(&mut wire, change).unwrap();
            wire.extend_from_slice(content);
        }
        changes::write(&mut wire, &Change::End { count: all.len() as u64 }).unwrap();
        wire
    }

    #[test]
    fn a_file_below_a_link_is_refused_and_nothing_is_written_through_it() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let target = outside.path().as_os_str().as_bytes();
        let wire = stream(&[
            (Change::Link { path: b"out".to_vec(), len: target.len() as u64 }, target),
            (Change::File { path: b"out/planted".to_vec(), executable: false, len: 1 }, b"x"),
        ]);
        assert!(write_tree(&mut &wire[..], root.path(), 2).is_err());
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_stream_cut_at_any_byte_is_no_checkout() {
        let wire = stream(&[
            (Change::File { path: b"d/f".to_vec(), executable: true, len: 3 }, b"abc"),
            (Change::Folder { path: b"sub".to_vec() }, b""),
        ]);
        for cut in 0..wire.len() {
            let root = tempfile::tempdir().unwrap();
            assert!(write_tree(&mut &wire[..cut], root.path(), 2).is_err(), "cut at {cut}");
        }
        let root = tempfile::tempdir().unwrap();
        write_tree(&mut &wire[..], root.path(), 2).unwrap();
        assert_eq!(fs::read(root.path().join("d/f")).unwrap(), b"abc");
        assert_eq!(fs::metadata(root.path().join("d/f")).unwrap().permissions().mode() & 0o777, 0o755);
        assert!(root.path().join("sub").is_dir());
    }
}
