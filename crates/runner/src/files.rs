//! `fs/read_text_file` and `fs/write_text_file`: text files beneath the worktree and `/tmp`, for the agent.
//!
//! A path is opened beneath its root by the kernel (`openat2`): a link may lead anywhere inside, nowhere else,
//! whatever changes while we look.

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use similar::TextDiff;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// Roots that the agent's file tools reach.
const ROOTS: [&str; 2] = [api::inbox::WORKSPACE, "/tmp"];
/// Most bytes of text that are read at once, or written.
pub const MAX_TEXT: u64 = 8 * 1024 * 1024;
/// Most bytes of a diff in the record.
const MAX_DIFF: usize = 64 * 1024;
/// Files above this are recorded as edited, without a diff.
const MAX_DIFFED: usize = 2 * 1024 * 1024;
/// How often a file is opened that others move about: whoever goes on for ever must not hold process 1 up.
const TRIES: usize = 128;
/// A diff not found in this time is replaced by a coarser one.
const DIFF_TIME: Duration = Duration::from_millis(300);

/// A file that was written.
#[derive(Debug, PartialEq, Eq)]
pub struct Written {
    /// Whether it was not there before.
    pub created: bool,
    /// Unified diff.
    pub diff: String,
    /// Whether the diff is not whole.
    pub cut: bool,
}

/// Reads text: the whole file, or `limit` lines from `line` (from 1).
///
/// # Errors
/// A sentence for the agent.
pub fn read(path: &Path, line: Option<u32>, limit: Option<u32>) -> Result<String, String> {
    let (root, rest) = beneath(path)?;
    read_in(&root, &rest, line, limit).map_err(|why| format!("{}: {why}", path.display()))
}

/// Writes text, making the file and its folders where they are missing. A text that holds a placeholder of the platform's
/// which the file did not hold is not written: whoever wrote it was shown that in the place of a credential, which would
/// be lost.
///
/// # Errors
/// A sentence for the agent. The file may have been emptied when the disk is full.
pub fn write(path: &Path, text: &str) -> Result<Written, String> {
    let (root, rest) = beneath(path)?;
    write_in(&root, &rest, path, text).map_err(|why| format!("{}: {why}", path.display()))
}

/// The root that a path lies beneath, opened, and the path from there.
fn beneath(path: &Path) -> Result<(OwnedFd, PathBuf), String> {
    let refused = || format!("{}: only paths beneath {} can be used", path.display(), ROOTS.join(" and "));
    let root = ROOTS.iter().find(|root| path.starts_with(root)).ok_or_else(refused)?;
    let rest = path.strip_prefix(root).map_err(|_| refused())?;
    if rest.as_os_str().is_empty() || rest.components().any(|part| part == Component::ParentDir) {
        return Err(refused());
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(*root, flags, Mode::empty()).map_err(|e| format!("{root}: {e}"))?;
    Ok((root, rest.to_owned()))
}

fn open(root: &OwnedFd, path: &Path, flags: OFlags) -> Result<File, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let mode = if flags.contains(OFlags::CREATE) { Mode::from_raw_mode(0o644) } else { Mode::empty() };
    // A pipe that stands where a file should must not hold us up.
    let flags = if flags.contains(OFlags::PATH) { flags } else { flags | OFlags::NONBLOCK | OFlags::NOCTTY };
    let flags = flags | OFlags::CLOEXEC;
    for _ in 1..TRIES {
        match rustix::fs::openat2(root, path, flags, mode, resolve) {
            // The kernel asks to try again when something was renamed meanwhile; also while somebody has a lease on it.
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other.map(File::from),
        }
    }
    rustix::fs::openat2(root, path, flags, mode, resolve).map(File::from)
}

fn regular(file: &File) -> Result<u64, String> {
    let stat = rustix::fs::fstat(file).map_err(|e| e.to_string())?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(stat.st_size.unsigned_abs()),
        FileType::Directory => Err("it is a folder".into()),
        _ => Err("it is not a regular file".into()),
    }
}

fn words(error: Errno) -> String {
    match error {
        Errno::XDEV => "it leads out of its root".into(),
        other => std::io::Error::from(other).to_string(),
    }
}

fn read_in(root: &OwnedFd, path: &Path, line: Option<u32>, limit: Option<u32>) -> Result<String, String> {
    let file = open(root, path, OFlags::RDONLY).map_err(words)?;
    let size = regular(&file)?;
    let bytes = if line.is_none() && limit.is_none() {
        if size > MAX_TEXT {
            return Err(format!("it has {size} bytes, at most {MAX_TEXT} are read at once: give a line and a limit"));
        }
        let mut bytes = Vec::new();
        file.take(MAX_TEXT).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
        bytes
    } else {
        lines(BufReader::new(file), line.unwrap_or(1), limit.unwrap_or(u32::MAX))?
    };
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".into())
}

/// `limit` lines from line `first` (0 counts as 1).
fn lines(mut from: impl BufRead, first: u32, limit: u32) -> Result<Vec<u8>, String> {
    for _ in 1..first {
        if from.skip_until(b'\n').map_err(|e| e.to_string())? == 0 {
            return Ok(Vec::new());
        }
    }
    let mut bytes = Vec::new();
    for _ in 0..limit {
        let left = MAX_TEXT - bytes.len() as u64;
        let read = from.by_ref().take(left + 1).read_until(b'\n', &mut bytes).map_err(|e| e.to_string())?;
        if bytes.len() as u64 > MAX_TEXT {
            return Err(format!("these lines have more than {MAX_TEXT} bytes: give a smaller limit"));
        }
        if read == 0 {
            break;
        }
    }
    Ok(bytes)
}

fn write_in(root: &OwnedFd, path: &Path, shown: &Path, text: &str) -> Result<Written, String> {
    if text.len() as u64 > MAX_TEXT {
        return Err(format!("{} bytes are more than the {MAX_TEXT} that are written at once", text.len()));
    }
    let there = match open(root, path, OFlags::RDWR) {
        Ok(file) => Some((regular(&file)?, file)),
        Err(Errno::NOENT) => None,
        Err(error) => return Err(words(error)),
    };
    let before = there.as_ref().map(|(size, file)| before(file, *size)).transpose()?;
    let held = before.as_ref().map_or(&[][..], Vec::as_slice);
    if let Some(placeholder) = scrub::brought_in(held, text) {
        return Err(not_shown(placeholder));
    }
    let mut file = match there {
        Some((_, file)) => file,
        None => {
            if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                make_folders(root, parent)?;
            }
            open(root, path, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL).map_err(words)?
        }
    };
    use std::io::Seek;
    file.rewind()
        .and_then(|()| file.set_len(0))
        .and_then(|()| file.write_all(text.as_bytes()))
        .map_err(|e| e.to_string())?;
    let created = before.is_none();
    let before = before.unwrap_or_default();
    let (diff, cut) = match str::from_utf8(&before) {
        Ok(old) if old.len() <= MAX_DIFFED && text.len() <= MAX_DIFFED => diff(old, text, shown, created),
        _ => (String::new(), true),
    };
    Ok(Written { created, diff, cut })
}

/// The first bytes of a file, as many as are written at once.
fn before(file: &File, size: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(size.min(MAX_TEXT) as usize);
    file.take(MAX_TEXT).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    Ok(bytes)
}

/// What an agent is told that would write a placeholder into a file.
fn not_shown(placeholder: &str) -> String {
    format!(
        "nothing was written: {placeholder} stands for a credential that you are not shown, and would take its place. \
         Leave the line that holds the credential as it is and edit around it; in a new file leave it out, and say that \
         a person has to put it there"
    )
}

fn make_folders(root: &OwnedFd, path: &Path) -> Result<(), String> {
    let mut so_far = PathBuf::new();
    for part in path.components() {
        let above = if so_far.as_os_str().is_empty() { Path::new(".") } else { &so_far };
        let folder = open(root, above, OFlags::PATH | OFlags::DIRECTORY).map_err(words)?;
        match rustix::fs::mkdirat(&folder, Path::new(part.as_os_str()), Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => so_far.push(part),
            Err(error) => return Err(words(error)),
        }
    }
    Ok(())
}

/// The unified diff, cut at a line.
fn diff(old: &str, new: &str, path: &Path, created: bool) -> (String, bool) {
    let name = path.strip_prefix(api::inbox::WORKSPACE).unwrap_or(path).display().to_string();
    let from = if created { "/dev/null".to_owned() } else { format!("a/{name}") };
    let diff = TextDiff::configure().timeout(DIFF_TIME).diff_lines(old, new);
    let mut text = diff.unified_diff().header(&from, &format!("b/{name}")).to_string();
    if text.len() <= MAX_DIFF {
        return (text, false);
    }
    let whole = text.floor_char_boundary(MAX_DIFF);
    let line = text[..whole].rfind('\n').map_or(0, |at| at + 1);
    text.truncate(line);
    (text, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn folder(name: &str) -> (PathBuf, OwnedFd) {
        let path = std::env::temp_dir().join(format!("runner-files-{}-{name}", std::process::id()));
        if path.exists() {
            std::fs::remove_dir_all(&path).unwrap();
        }
        std::fs::create_dir(&path).unwrap();
        let root = rustix::fs::open(&path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).unwrap();
        (path, root)
    }

    #[test]
    fn only_paths_beneath_the_roots_are_taken() {
        for bad in ["/etc/passwd", "/workspace", "/workspace/../etc/passwd", "workspace/a", "/workspaces/a", "/"] {
            assert!(beneath(Path::new(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_link_that_leaves_the_root_is_refused_and_one_that_stays_is_followed() {
        let (path, root) = folder("links");
        std::fs::write(path.join("real"), "text").unwrap();
        symlink("real", path.join("inside")).unwrap();
        symlink("/etc/passwd", path.join("absolute")).unwrap();
        symlink("../../../../etc/passwd", path.join("climbing")).unwrap();
        symlink("/etc", path.join("folder")).unwrap();
        assert_eq!(read_in(&root, Path::new("inside"), None, None).unwrap(), "text");
        for bad in ["absolute", "climbing", "folder/passwd"] {
            assert!(read_in(&root, Path::new(bad), None, None).is_err(), "{bad}");
            assert!(write_in(&root, Path::new(bad), Path::new(bad), "x").is_err(), "{bad}");
        }
        assert!(write_in(&root, Path::new("folder/new/x"), Path::new("x"), "x").is_err());
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_pipe_or_a_folder_is_no_file_and_holds_nothing_up() {
        let (path, root) = folder("kinds");
        std::fs::create_dir(path.join("d")).unwrap();
        rustix::fs::mknodat(&root, "p", FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
        for name in ["d", "p"] {
            assert!(read_in(&root, Path::new(name), None, None).unwrap_err().starts_with("it is "), "{name}");
            assert!(write_in(&root, Path::new(name), Path::new(name), "x").is_err(), "{name}");
        }
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn writing_makes_folders_and_says_what_changed() {
        let (path, root) = folder("write");
        let at = Path::new("/workspace/a/b/c.txt");
        let made = write_in(&root, Path::new("a/b/c.txt"), at, "one\ntwo\n").unwrap();
        assert_eq!(
            made,
            Written {
                created: true,
                diff: "--- /dev/null\n+++ b/a/b/c.txt\n@@ -0,0 +1,2 @@\n+one\n+two\n".into(),
                cut: false
            }
        );
        let changed = write_in(&root, Path::new("a/b/c.txt"), at, "one\n").unwrap();
        assert_eq!(
            changed,
            Written {
                created: false,
                diff: "--- a/a/b/c.txt\n+++ b/a/b/c.txt\n@@ -1,2 +1 @@\n one\n-two\n".into(),
                cut: false
            }
        );
        assert_eq!(std::fs::read_to_string(path.join("a/b/c.txt")).unwrap(), "one\n");
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_text_with_a_placeholder_that_the_file_did_not_hold_is_refused_and_the_file_stays() {
        let (path, root) = folder("placeholders");
        let shown = "[redacted: npm-token#1f2e3d4c]";
        let put = |name: &str, text: &str| write_in(&root, Path::new(name), Path::new(name), text);
        std::fs::write(path.join("npmrc"), "token=npm_real\n").unwrap();
        let told = put("npmrc", &format!("token={shown}\nmore\n")).unwrap_err();
        assert!(told.contains(shown) && told.contains("edit around it"), "{told}");
        assert_eq!(std::fs::read_to_string(path.join("npmrc")).unwrap(), "token=npm_real\n");
        assert!(put("new/file", shown).is_err());
        assert!(!path.join("new").exists(), "nothing is made for what is not written");
        // A page about placeholders, and one that is longer than any diff.
        for long in ["", &"x".repeat(MAX_DIFFED)] {
            std::fs::write(path.join("page"), format!("{long}It says {shown}.\n")).unwrap();
            put("page", &format!("{long}It says {shown}, as before.\n")).unwrap();
            assert!(put("page", &format!("{long}{shown} {shown}")).is_err());
        }
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_long_diff_is_cut_at_a_line() {
        let (text, cut) = diff("", &"0123456789\n".repeat(10_000), Path::new("/workspace/x"), true);
        assert!(cut && text.len() <= MAX_DIFF && text.ends_with("+0123456789\n"));
        assert!(MAX_DIFF == 64 * 1024 && text.len() + "+0123456789\n".len() > MAX_DIFF, "{}", text.len());
    }

    #[test]
    fn a_text_of_8_mib_is_written_and_read_and_one_of_a_byte_more_is_not() {
        let (path, root) = folder("longest");
        let most = 8 * 1024 * 1024;
        let put = |length: usize| write_in(&root, Path::new("long"), Path::new("long"), &"x".repeat(length));
        put(most).unwrap();
        assert!(put(most + 1).unwrap_err().contains("more than the 8388608"));
        let read = |first| read_in(&root, Path::new("long"), first, None);
        assert_eq!(read(None).unwrap().len(), most);
        assert_eq!(read(Some(1)).unwrap().len(), most);
        std::fs::write(path.join("long"), "x".repeat(most + 1)).unwrap();
        for first in [None, Some(1)] {
            let why = read(first).unwrap_err();
            assert!(why.contains("8388608"), "{why}");
        }
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn lines_are_counted_from_one_and_the_last_needs_no_end() {
        let text = b"a\nb\nc";
        let ask = |line, limit| String::from_utf8(lines(&text[..], line, limit).unwrap()).unwrap();
        assert_eq!((ask(1, 2).as_str(), ask(2, 9).as_str(), ask(3, 1).as_str()), ("a\nb\n", "b\nc", "c"));
        assert_eq!((ask(4, 1).as_str(), ask(0, 1).as_str(), ask(1, 0).as_str()), ("", "a\n", ""));
    }
}
