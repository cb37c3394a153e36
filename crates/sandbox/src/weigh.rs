//! The size of a worktree that is a plain folder, as without root: nothing of the kernel bounds it, so the helper weighs it
//! while the box works, and ends a box whose run holds more than its profile says.
//!
//! A wall of the second row: between two looks a box writes what the host's disk takes in a second. It follows no link and
//! opens no file; a folder that turns into a link meanwhile costs a wrong weight, and no more.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often it is looked at, at most.
pub const LOOK: Duration = Duration::from_secs(1);
/// The part of the helper's time, one of so many, that looking may take.
const PART: u32 = 20;

/// When to look, and at how much a folder is too heavy.
#[derive(Debug)]
pub struct Scale {
    mib: u64,
    next: Instant,
}

impl Scale {
    /// Of a folder that may hold so much, and an inode for each 4 KiB of it, as an image has.
    #[must_use]
    pub fn of(mib: u64) -> Self {
        Self { mib, next: Instant::now() }
    }

    /// Weighs the folder, if it is time to: the limit in words, once it is passed.
    pub fn look(&mut self, folder: &Path) -> Option<String> {
        let now = Instant::now();
        if now < self.next {
            return None;
        }
        let heavy = is_over(folder, self.mib << 20);
        self.next = now + LOOK.max(now.elapsed() * PART);
        heavy.then(|| format!("killed: worktree limit {} MiB", self.mib))
    }
}

/// Whether what lies in the folder takes more than so many bytes of a disk, or more than so many inodes by 4 KiB each.
fn is_over(folder: &Path, most: u64) -> bool {
    let (mut bytes, mut inodes, mut linked) = (0, 0, HashSet::new());
    let mut open = vec![folder.to_path_buf()];
    while let Some(path) = open.pop() {
        // What goes meanwhile weighs nothing.
        for entry in fs::read_dir(&path).into_iter().flatten().flatten() {
            let Ok(about) = entry.metadata() else { continue };
            if about.nlink() > 1 && !about.is_dir() && !linked.insert(about.ino()) {
                continue;
            }
            bytes += about.blocks() * 512;
            inodes += 1;
            if bytes > most || inodes > most / 4096 {
                return true;
            }
            if about.is_dir() {
                open.push(entry.path());
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_weighs_what_the_disk_holds_of_it_and_what_lies_behind_a_link_nothing() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let megabyte = vec![1; 1 << 20];
        fs::write(other.path().join("big"), vec![1; 4 << 20]).unwrap();
        std::os::unix::fs::symlink(other.path(), dir.path().join("link")).unwrap();
        fs::create_dir(dir.path().join("deep")).unwrap();
        fs::write(dir.path().join("deep/one"), &megabyte).unwrap();
        fs::hard_link(dir.path().join("deep/one"), dir.path().join("again")).unwrap();
        // A hole is no weight.
        fs::File::create(dir.path().join("hole")).unwrap().set_len(1 << 30).unwrap();
        assert!(!is_over(dir.path(), 2 << 20));
        fs::write(dir.path().join("two"), &megabyte).unwrap();
        assert!(is_over(dir.path(), 2 << 20) && !is_over(dir.path(), 4 << 20));
        assert!(!is_over(Path::new("/no/such/folder"), 0));
    }

    #[test]
    fn a_folder_has_as_many_files_as_an_image_would_have_and_a_limit_is_named_when_it_is_passed() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..256 {
            fs::write(dir.path().join(n.to_string()), b"").unwrap();
        }
        assert!(!is_over(dir.path(), 1 << 20));
        let mut scale = Scale::of(1);
        let before = Instant::now();
        assert_eq!(scale.look(dir.path()), None);
        assert!(scale.next >= before + LOOK);
        fs::write(dir.path().join("more"), b"").unwrap();
        assert!(is_over(dir.path(), 1 << 20));
        // Not before it is time, which a slow machine may reach by itself.
        scale.next = Instant::now() + Duration::from_secs(3600);
        assert_eq!(scale.look(dir.path()), None);
        scale.next = Instant::now();
        assert_eq!(scale.look(dir.path()).as_deref(), Some("killed: worktree limit 1 MiB"));
    }
}
