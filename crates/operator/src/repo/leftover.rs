//! What a failed import leaves in the repository: git's half-written pack, and its report of the crash; and what a
//! killed one leaves: the locks of its references.
//!
//! A pack is removed only when this import's git can have made it: it was not there before, it belongs to the owner,
//! and no process of the owner has it open. Otherwise it may be another git's, at work in the same repository.

use super::Problem;
use super::git::Git;
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The half-written packs that were there before an import.
#[derive(Debug)]
pub struct Leftovers {
    packs: PathBuf,
    before: BTreeSet<OsString>,
}

impl Leftovers {
    /// Notes what is there before git is started.
    ///
    /// # Errors
    /// [`Problem`] when the repository's packs cannot be listed.
    pub fn before(git: &Git) -> Result<Self, Problem> {
        let packs = git.inside("objects/pack")?;
        let before = half_written(&packs).map_err(Problem::io("list the repository's packs"))?;
        Ok(Self { packs, before })
    }

    /// Removes what the git of process id `pid`, which has ended, left.
    ///
    /// # Errors
    /// [`Problem`] when something cannot be looked at or removed; it stays then.
    pub fn remove(self, git: &Git, pid: u32) -> Result<(), Problem> {
        let report = git.inside(&format!("fast_import_crash_{pid}"))?;
        gone(fs::remove_file(report)).map_err(Problem::io("remove git's report"))?;
        self.remove_packs().map_err(Problem::io("remove a half-written pack"))
    }

    fn remove_packs(self) -> io::Result<()> {
        let new: Vec<OsString> = half_written(&self.packs)?.difference(&self.before).cloned().collect();
        if new.is_empty() {
            return Ok(());
        }
        let uid = rustix::process::geteuid().as_raw();
        let open = open_in_processes_of(uid)?;
        for name in new.iter().filter(|name| !open.contains(*name)) {
            let path = self.packs.join(name);
            let about = fs::symlink_metadata(&path)?;
            if about.is_file() && about.uid() == uid {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

/// Removes the locks that a killed git left on references that no one but imports of this run writes. An earlier import
/// is dead: it ends with its operator, and there is one operator.
///
/// # Errors
/// [`Problem`] when one cannot be removed.
pub fn unlock(git: &Git, references: &[&str]) -> Result<(), Problem> {
    for reference in references {
        let lock = git.inside(&format!("{reference}.lock"))?;
        match fs::remove_file(lock) {
            // A branch named as the folder: there is no lock in it, and the branch is named when it is in the way.
            Err(e) if e.kind() == io::ErrorKind::NotADirectory => {}
            removed => gone(removed).map_err(Problem::io("remove the lock that an interrupted import left"))?,
        }
    }
    Ok(())
}

fn is_half_written(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b"tmp_pack_")
}

fn half_written(packs: &Path) -> io::Result<BTreeSet<OsString>> {
    let mut all = BTreeSet::new();
    for entry in none_if_gone(fs::read_dir(packs))?.into_iter().flatten() {
        let name = entry?.file_name();
        if is_half_written(&name) {
            all.insert(name);
        }
    }
    Ok(all)
}

/// Names of half-written packs, of whatever repository, that a process of this user has open.
fn open_in_processes_of(uid: u32) -> io::Result<BTreeSet<OsString>> {
    let mut all = BTreeSet::new();
    for process in fs::read_dir("/proc")? {
        let process = process?;
        let is_process = process.file_name().as_bytes().iter().all(u8::is_ascii_digit);
        if !is_process || none_if_gone(process.metadata())?.is_none_or(|about| about.uid() != uid) {
            continue;
        }
        match open_in(&process.path(), &mut all) {
            // One with rights that we do not have, e.g. process 1: what counts is that it is no git.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied && !is_git(&process.path())? => {}
            looked => looked?,
        }
    }
    Ok(all)
}

fn open_in(process: &Path, all: &mut BTreeSet<OsString>) -> io::Result<()> {
    for file in none_if_gone(fs::read_dir(process.join("fd")))?.into_iter().flatten() {
        let Some(file) = none_if_gone(file)? else { continue };
        let target = none_if_gone(fs::read_link(file.path()))?;
        if let Some(name) = target.as_deref().and_then(Path::file_name).filter(|name| is_half_written(name)) {
            all.insert(name.to_os_string());
        }
    }
    Ok(())
}

fn is_git(process: &Path) -> io::Result<bool> {
    Ok(none_if_gone(fs::read(process.join("comm")))?.is_some_and(|name| name.starts_with(b"git")))
}

/// None of a file, or process, that is not there (any more).
fn none_if_gone<T>(got: io::Result<T>) -> io::Result<Option<T>> {
    match got {
        Ok(got) => Ok(Some(got)),
        Err(e) if matches!(Errno::from_io_error(&e), Some(Errno::NOENT | Errno::SRCH)) => Ok(None),
        Err(e) => Err(e),
    }
}

/// That a file was removed, or was not there.
///
/// # Errors
/// Any other of the system's own.
pub fn gone(removed: io::Result<()>) -> io::Result<()> {
    none_if_gone(removed).map(drop)
}
