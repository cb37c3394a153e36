//! The trees of images, for boxes that the platform makes itself: each unpacked once, under its id, and only read since.
//!
//! A tree is written beside its place and gets its name when it is whole and on the disk. Whoever unpacks or uses it
//! holds a lock; one that no box used for [`UNUSED_DAYS`] goes when the next is unpacked.

use super::content::{Content, named};
use super::packed::unpacked;
use super::unpack::{self, Budget};
use super::{Image, pulled};
use crate::harden::HardenedSpec;
use crate::oci;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, Timespec, Timestamps, UTIME_NOW};
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Most that an image may come to, and what the disk keeps free beside it.
pub(crate) const MOST: Budget = Budget { bytes: 32 << 30, entries: 2_000_000, spare: 1 << 30 };
/// Days for which a tree that no box uses is kept.
pub(crate) const UNUSED_DAYS: u64 = 30;

/// Where the tree of an image is kept; `id` is its digest.
pub(crate) fn place(dir: &Path, id: &str) -> PathBuf {
    dir.join("images").join(id.trim_start_matches("sha256:"))
}

/// Makes sure of the tree of a box's image, which stays for as long as the file is open. None where the box has no
/// image of ours.
///
/// # Errors
/// A sentence that names the image and what is wrong with it; no tree has its name then.
pub(crate) fn take(spec: &HardenedSpec) -> io::Result<Option<File>> {
    let (Some(image), Some(id)) = (&spec.image, &spec.image_id) else { return Ok(None) };
    let dir = &spec.host.dir;
    let Image::Registry(name) = image else {
        return hold(dir, id, &MOST, || Content::read(image)).map(Some);
    };
    hold_pulled(dir, id, &MOST, name).map(Some)
}

/// The same of a registry's image, which was pulled. Its layers go: the tree is what is used, and what is not as it says is
/// to be pulled anew by the next run.
pub(super) fn hold_pulled(dir: &Path, id: &str, most: &Budget, name: &str) -> io::Result<File> {
    let held = hold(dir, id, most, || pulled::content(dir, name));
    if held.as_ref().map_or_else(|e| e.kind() == io::ErrorKind::InvalidData, |_| true) {
        pulled::drop_layers(dir, name)?;
    }
    held
}

pub(super) fn hold(
    dir: &Path,
    id: &str,
    most: &Budget,
    read: impl FnOnce() -> io::Result<Content>,
) -> io::Result<File> {
    let tree = place(dir, id);
    let folder = dir.join("images");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    let lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(tree.with_extension("lock"))?;
    rustix::fs::flock(&lock, FlockOperation::LockShared)?;
    if !tree.is_dir() {
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
        // Another may have unpacked it meanwhile.
        if !tree.is_dir() {
            let content = read()?;
            if content.id != id {
                return Err(content.wrong(format!("it holds {} now, and held {id} a moment ago", content.id)));
            }
            drop_unused(&folder, &lock)?;
            let said = |e: io::Error| io::Error::new(e.kind(), content.wrong(e).to_string());
            publish(&content, &tree, *most).map_err(said)?;
        }
        rustix::fs::flock(&lock, FlockOperation::LockShared)?;
        if !tree.is_dir() {
            return Err(io::Error::other(format!("the tree of the image {id} was taken away as it was unpacked")));
        }
    }
    let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
    rustix::fs::futimens(&lock, &Timestamps { last_access: now, last_modification: now })?;
    Ok(lock)
}

/// Unpacks an image beside its place and moves it there whole.
fn publish(content: &Content, tree: &Path, mut left: Budget) -> io::Result<()> {
    let draft = tree.with_extension("draft");
    if draft.exists() {
        // Of one that was killed.
        fs::remove_dir_all(&draft)?;
    }
    fs::DirBuilder::new().mode(0o755).create(&draft)?;
    let done = fill(content, &draft, &mut left).and_then(|()| fs::rename(&draft, tree));
    if done.is_err() && draft.exists() {
        fs::remove_dir_all(&draft)?;
    }
    done
}

fn fill(content: &Content, draft: &Path, left: &mut Budget) -> io::Result<()> {
    let root = rustix::fs::openat(CWD, draft, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    for (number, promised) in content.diffs.iter().enumerate() {
        let mut tar = Counted { of: unpacked(content.layer(number)?)?, digest: Sha256::new(), left: left.bytes };
        let whole = unpack::layer(root.as_fd(), &mut tar, left)
            // What follows the last entry is the layer's too.
            .and_then(|()| io::copy(&mut tar, &mut io::sink()));
        whole.map_err(|e| io::Error::new(e.kind(), format!("layer {}: {e}", number + 1)))?;
        let real = named(&tar.digest.finalize());
        if real != *promised {
            let why = format!("layer {}: its content is {real}, and the image says that it is {promised}", number + 1);
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        left.bytes = tar.left;
    }
    unpack::make_places(draft, &oci::own_in_etc())?;
    // Whole on the disk before it has its name: half a tree would spoil every later box.
    // SAFETY: a plain call on a descriptor that is open.
    if unsafe { libc::syncfs(root.as_raw_fd()) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A layer as it is read: bounded, and its digest taken.
struct Counted {
    of: Box<dyn Read + Send>,
    digest: Sha256,
    left: u64,
}

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.of.read(into)?;
        self.digest.update(&into[..read]);
        let left = self.left.checked_sub(read as u64);
        self.left =
            left.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it unpacks to more than an image may be"))?;
        Ok(read)
    }
}

/// Removes the trees that no box used for long, and what was left of one that was not unpacked to its end.
fn drop_unused(folder: &Path, own: &File) -> io::Result<()> {
    let own = rustix::fs::fstat(own)?.st_ino;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_none_or(|kind| kind != "lock") {
            continue;
        }
        let lock = OpenOptions::new().read(true).write(true).open(&path)?;
        let about = lock.metadata()?;
        let age = SystemTime::now().duration_since(about.modified()?).unwrap_or_default();
        let is_old = age > Duration::from_secs(UNUSED_DAYS * 24 * 3600);
        if std::os::unix::fs::MetadataExt::ino(&about) == own
            || !is_old
            || rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err()
        {
            continue;
        }
        // The lock's own file stays: another may hold it open already.
        for left in [path.with_extension(""), path.with_extension("draft")] {
            if left.exists() {
                fs::remove_dir_all(&left)?;
            }
        }
    }
    Ok(())
}
