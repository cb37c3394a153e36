//! Room on the disk, compared and set aside before anything is begun.
//!
//! A worktree lies on a sparse image: when the disk behind it is full, the box meets I/O errors in the middle of its
//! work. So room is counted as taken from the moment a run may use it. The rule: what is free, less what live runs
//! may still fill (each its `worktree-mib`, less what its image holds already), less what is being written, must
//! exceed what is asked for by [`SPARE`], which is left for journals.

use crate::runs::locked;
use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Bytes that stay free for journals and everything small.
pub const SPARE: u64 = 256 << 20;
/// What a file of a checkout takes beside its bytes: the rest of its last block, its inode, its entry.
pub const PER_FILE: u64 = 4096;

#[derive(Debug, Default)]
struct Taken {
    writing: u64,
    images: HashMap<PathBuf, u64>,
}

/// The disk that holds the operator's folder.
#[derive(Debug, Clone)]
pub struct Disk {
    dir: PathBuf,
    taken: Arc<Mutex<Taken>>,
}

/// Room set aside until dropped.
#[derive(Debug)]
pub struct Room {
    taken: Arc<Mutex<Taken>>,
    bytes: u64,
    image: Option<PathBuf>,
}

impl Room {
    /// So many bytes of it are written, and no longer free.
    pub fn used(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        if self.image.is_none() {
            locked(&self.taken).writing -= bytes;
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut taken = locked(&self.taken);
        match &self.image {
            Some(image) => drop(taken.images.remove(image)),
            None => taken.writing -= self.bytes,
        }
    }
}

impl Disk {
    /// The disk that holds `dir`.
    #[must_use]
    pub fn of(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf(), taken: Arc::default() }
    }

    /// Sets room aside for `bytes` of `what`, while it is written.
    ///
    /// # Errors
    /// One sentence with what is free and what is needed.
    pub fn reserve(&self, bytes: u64, what: &str) -> Result<Room, String> {
        let mut taken = locked(&self.taken);
        self.check(&taken, bytes, &format!("{what} need(s)"), "free some")?;
        taken.writing += bytes;
        Ok(Room { taken: Arc::clone(&self.taken), bytes, image: None })
    }

    /// Sets room aside for a run's image of at most `mib` MiB, while the run lives.
    ///
    /// # Errors
    /// One sentence with what is free, what is needed, and the way out.
    pub fn reserve_image(&self, image: &Path, mib: u64) -> Result<Room, String> {
        let bytes = mib.saturating_mul(1 << 20);
        let mut taken = locked(&self.taken);
        let way_out = "free some or lower worktree-mib";
        self.check(&taken, bytes.saturating_sub(held(image)), "this profile needs", way_out)?;
        taken.images.insert(image.to_path_buf(), bytes);
        Ok(Room { taken: Arc::clone(&self.taken), bytes, image: Some(image.to_path_buf()) })
    }

    fn check(&self, taken: &Taken, bytes: u64, who: &str, way_out: &str) -> Result<(), String> {
        let stat = rustix::fs::statvfs(&self.dir).map_err(|e| format!("look at {}: {e}", self.dir.display()))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        let promised: u64 = taken.images.iter().map(|(image, most)| most.saturating_sub(held(image))).sum();
        let promised = promised.saturating_add(taken.writing);
        let need = bytes.saturating_add(SPARE);
        if free.saturating_sub(promised) >= need {
            return Ok(());
        }
        let others = match promised >> 20 {
            0 => String::new(),
            mib => format!(", of which {mib} MiB are promised to runs that live"),
        };
        Err(format!(
            "the disk holding {} has {} MiB free{others}; {who} {} MiB; {way_out}",
            self.dir.display(),
            free >> 20,
            need.div_ceil(1 << 20)
        ))
    }
}

/// Bytes an image holds already; none when it is not there yet.
fn held(image: &Path) -> u64 {
    std::fs::metadata(image).map_or(0, |about| about.blocks() * 512)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(dir: &Path) -> u64 {
        let stat = rustix::fs::statvfs(dir).unwrap();
        stat.f_bavail * stat.f_frsize
    }

    #[test]
    fn what_is_promised_to_a_live_run_is_not_promised_twice() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::of(dir.path());
        assert_eq!(SPARE, 256 << 20);
        let most = (free(dir.path()) - SPARE) >> 20;
        let two_thirds = most / 3 * 2;
        let first = disk.reserve_image(&dir.path().join("a"), two_thirds).unwrap();
        let why = disk.reserve_image(&dir.path().join("b"), two_thirds).unwrap_err();
        assert!(why.contains("free some or lower worktree-mib") && why.contains("promised"), "{why}");
        assert!(disk.reserve(two_thirds << 20, "it").is_err());
        drop(first);
        disk.reserve_image(&dir.path().join("b"), two_thirds).unwrap();
    }
}
