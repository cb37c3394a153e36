//! Writes an initramfs: the `newc` cpio format, as the kernel's `Documentation/driver-api/early-userspace`
//! describes it. Everything in it belongs to root.

use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

/// What stands at a path.
enum Entry {
    Folder(u32),
    Bytes(u32, Vec<u8>),
    Copy(u32, PathBuf),
    Link(String),
}

/// A file tree that is not on any disk. Paths are absolute and plain; a later entry replaces an earlier one.
#[derive(Default)]
pub struct Tree(BTreeMap<String, Entry>);

impl Tree {
    /// Whether something stands at `path`.
    pub fn has(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }
    /// A folder with these permission bits, and the folders above it with 0755.
    pub fn folder(&mut self, path: &str, mode: u32) {
        self.above(path);
        self.0.insert(path.to_owned(), Entry::Folder(mode));
    }
    /// A file with this content.
    pub fn bytes(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.above(path);
        self.0.insert(path.to_owned(), Entry::Bytes(mode, content.to_vec()));
    }
    /// A file with the content of the host's file `from`, links followed.
    pub fn copy(&mut self, path: &str, mode: u32, from: impl Into<PathBuf>) {
        self.above(path);
        self.0.insert(path.to_owned(), Entry::Copy(mode, from.into()));
    }
    /// A symbolic link.
    pub fn link(&mut self, path: &str, to: &str) {
        self.above(path);
        self.0.insert(path.to_owned(), Entry::Link(to.to_owned()));
    }

    fn above(&mut self, path: &str) {
        for (at, _) in path.match_indices('/').skip(1) {
            self.0.entry(path[..at].to_owned()).or_insert(Entry::Folder(0o755));
        }
    }

    /// Writes the archive.
    ///
    /// # Errors
    /// When a file cannot be read or is 4 GiB or longer, or the archive cannot be written.
    pub fn write(&self, to: &mut impl Write) -> Result<()> {
        let mut inode = 0;
        for (path, entry) in &self.0 {
            inode += 1;
            let (mode, content) = match entry {
                Entry::Folder(mode) => (0o040_000 | mode, Vec::new()),
                Entry::Bytes(mode, content) => (0o100_000 | mode, content.clone()),
                Entry::Copy(mode, from) => {
                    (0o100_000 | mode, std::fs::read(from).with_context(|| format!("reading {}", from.display()))?)
                }
                Entry::Link(target) => (0o120_777, target.as_bytes().to_vec()),
            };
            record(to, inode, mode, path.trim_start_matches('/'), &content)?;
        }
        record(to, 0, 0, "TRAILER!!!", &[])
    }
}

fn record(to: &mut impl Write, inode: u32, mode: u32, name: &str, content: &[u8]) -> Result<()> {
    let Ok(length) = u32::try_from(content.len()) else { bail!("{name} is too long for an initramfs") };
    // magic, ino, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
    let numbers = [inode, mode, 0, 0, 1, 0, length, 0, 0, 0, 0, name.len() as u32 + 1, 0];
    let mut head = String::from("070701");
    for number in numbers {
        head.push_str(&format!("{number:08x}"));
    }
    head.push_str(name);
    head.push('\0');
    to.write_all(head.as_bytes())?;
    to.write_all(&[0; 3][..padding(head.len())])?;
    to.write_all(content)?;
    to.write_all(&[0; 3][..padding(content.len())])?;
    Ok(())
}

/// Zero bytes after `length` up to a multiple of four.
fn padding(length: usize) -> usize {
    length.wrapping_neg() % 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_begins_at_a_multiple_of_four_and_the_trailer_ends_it() {
        let mut tree = Tree::default();
        tree.bytes("/a/b", 0o755, b"hello");
        tree.link("/l", "a/b");
        let mut archive = Vec::new();
        tree.write(&mut archive).unwrap();
        let starts: Vec<usize> =
            archive.windows(6).enumerate().filter(|(_, w)| w == b"070701").map(|(at, _)| at).collect();
        assert_eq!(starts.len(), 4, "folder a, file a/b, link l, trailer");
        assert!(starts.iter().all(|at| at % 4 == 0), "{starts:?}");
        let name = |at: usize| archive[at + 110..].split(|b| *b == 0).next().unwrap().to_vec();
        assert_eq!(starts.into_iter().map(name).collect::<Vec<_>>(), [&b"a"[..], b"a/b", b"l", b"TRAILER!!!"]);
    }
}
