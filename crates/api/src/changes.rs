//! What a run changed, as a stream of bytes between two confined processes: the reader of the worktree
//! (which runs where the box's files are) and the importer (which runs as the repository's owner).
//! The same format carries a clean checkout the other way.
//!
//! A record is a kind byte, then `u32` little-endian path length and the path's bytes (relative, no leading
//! or trailing `/`, no `.`, `..` or `.git` component, at most [`MAX_PATH`]), then for files and links a
//! `u64` little-endian content length and the content. A stream ends with the [`Change::End`] record, which
//! carries the count of records before it; a stream without it was cut and is worth nothing.

use std::io::{self, Read, Write};

/// Longest path, in bytes (Linux' own `PATH_MAX`).
pub const MAX_PATH: usize = 4096;

/// One record's head. The content, where there is one, follows on the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A regular file of `len` bytes stands here now.
    File {
        /// Where, in any bytes.
        path: Vec<u8>,
        /// Whether it may be executed.
        executable: bool,
        /// Bytes of content that follow.
        len: u64,
    },
    /// A symbolic link stands here now; its target is the content.
    Link {
        /// Where.
        path: Vec<u8>,
        /// Bytes of target that follow.
        len: u64,
    },
    /// What stood here (a file, a link or a whole folder) is gone.
    Gone {
        /// Where.
        path: Vec<u8>,
    },
    /// An empty folder stands here (git does not keep those; a submodule's place in a checkout).
    Folder {
        /// Where.
        path: Vec<u8>,
    },
    /// The end, with the number of records before it.
    End {
        /// Records before this one.
        count: u64,
    },
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Whether a path may stand in a record.
#[must_use]
pub fn path_is_plain(path: &[u8]) -> bool {
    !path.is_empty()
        && path.len() <= MAX_PATH
        && !path.contains(&0)
        && path.split(|b| *b == b'/').all(|part| !part.is_empty() && part != b"." && part != b".." && !means_git(part))
}

/// Whether a file system somewhere takes this name for `.git`: git refuses to check such a tree out.
///
/// NTFS has the short name `git~1` and drops dots and spaces at the end (and what follows a colon); HFS+ drops
/// characters that cannot be seen. Both do not tell upper from lower case.
fn means_git(part: &[u8]) -> bool {
    let text = String::from_utf8_lossy(part);
    let unseen = |c: &char| matches!(*c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}');
    let seen: String = text.chars().filter(|c| !unseen(c)).collect();
    let name = seen.split([':', '\\']).next().unwrap_or_default().trim_end_matches(['.', ' ']);
    name.eq_ignore_ascii_case(".git") || name.eq_ignore_ascii_case("git~1")
}

/// Writes one head; the caller writes the content after it.
///
/// # Errors
/// `InvalidInput` for a path that may not stand in a record, and the writer's own.
pub fn write(to: &mut impl Write, change: &Change) -> io::Result<()> {
    let (kind, path, len): (u8, &[u8], Option<u64>) = match change {
        Change::File { path, executable: false, len } => (b'F', path, Some(*len)),
        Change::File { path, executable: true, len } => (b'X', path, Some(*len)),
        Change::Link { path, len } => (b'L', path, Some(*len)),
        Change::Gone { path } => (b'D', path, None),
        Change::Folder { path } => (b'M', path, None),
        Change::End { count } => {
            to.write_all(b"E")?;
            return to.write_all(&count.to_le_bytes());
        }
    };
    if !path_is_plain(path) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a path that cannot stand in a change stream"));
    }
    to.write_all(&[kind])?;
    to.write_all(&(path.len() as u32).to_le_bytes())?;
    to.write_all(path)?;
    if let Some(len) = len {
        to.write_all(&len.to_le_bytes())?;
    }
    Ok(())
}

/// Reads one head; the caller reads exactly `len` bytes of content after it.
///
/// # Errors
/// `InvalidData` for anything that [`write()`] would not have written, and the reader's own.
pub fn read(from: &mut impl Read) -> io::Result<Change> {
    let mut kind = [0u8];
    from.read_exact(&mut kind)?;
    let mut long = [0u8; 8];
    if kind[0] == b'E' {
        from.read_exact(&mut long)?;
        return Ok(Change::End { count: u64::from_le_bytes(long) });
    }
    let mut short = [0u8; 4];
    from.read_exact(&mut short)?;
    let path_len = u32::from_le_bytes(short) as usize;
    if path_len > MAX_PATH {
        return Err(bad("a path longer than any path"));
    }
    let mut path = vec![0; path_len];
    from.read_exact(&mut path)?;
    if !path_is_plain(&path) {
        return Err(bad("a path that leaves its folder or names .git"));
    }
    let mut len = || {
        from.read_exact(&mut long)?;
        Ok::<u64, io::Error>(u64::from_le_bytes(long))
    };
    match kind[0] {
        b'F' => Ok(Change::File { path, executable: false, len: len()? }),
        b'X' => Ok(Change::File { path, executable: true, len: len()? }),
        b'L' => Ok(Change::Link { path, len: len()? }),
        b'D' => Ok(Change::Gone { path }),
        b'M' => Ok(Change::Folder { path }),
        _ => Err(bad("a record of no known kind")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_4096_bytes_passes_and_one_of_a_byte_more_is_refused_on_both_sides() {
        let gone = |length: usize| Change::Gone { path: vec![b'a'; length] };
        let mut wire = Vec::new();
        write(&mut wire, &gone(4096)).unwrap();
        assert_eq!(read(&mut &wire[..]).unwrap(), gone(4096));
        assert!(write(&mut Vec::new(), &gone(4097)).is_err());
        let long = [&b"D"[..], &4097_u32.to_le_bytes(), &[b'a'; 4097]].concat();
        assert!(read(&mut &long[..]).is_err());
    }

    #[test]
    fn a_path_that_climbs_or_names_git_is_refused_on_both_sides() {
        for path in [
            &b"../x"[..],
            b"/x",
            b"a//b",
            b"a/./b",
            b".git/config",
            b"a/.GIT/x",
            b"",
            b"a\0b",
            b"a/",
            b"git~1/x",
            b"GIT~1",
            b".git /x",
            b".git./x",
            b".git::$INDEX_ALLOCATION/x",
            ".g\u{200c}it/hooks".as_bytes(),
        ] {
            assert!(write(&mut Vec::new(), &Change::Gone { path: path.to_vec() }).is_err(), "{path:?}");
            let mut wire = vec![b'D'];
            wire.extend_from_slice(&(path.len() as u32).to_le_bytes());
            wire.extend_from_slice(path);
            assert!(read(&mut &wire[..]).is_err(), "{path:?}");
        }
    }

    #[test]
    fn records_survive_the_stream_with_names_in_any_bytes() {
        let all = [
            Change::File { path: b"src/\xff\n\".c".to_vec(), executable: true, len: 7 },
            Change::Link { path: b"l".to_vec(), len: 3 },
            Change::Gone { path: b"old".to_vec() },
            Change::Folder { path: b"sub".to_vec() },
            Change::End { count: 4 },
        ];
        let mut wire = Vec::new();
        for change in &all {
            write(&mut wire, change).unwrap();
        }
        let mut from = &wire[..];
        for change in &all {
            assert_eq!(&read(&mut from).unwrap(), change);
        }
    }
}
