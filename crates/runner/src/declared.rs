//! The executable that a command under a lease names: found, opened and known by its bytes.
//!
//! Every folder on the way to it, every link among them, and the file itself lie on mounts that the box cannot write, so
//! nobody in the box can put another file in its place, before or after. The server says whether it is one that an
//! administrator declared; what is executed is what was opened here.

use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatVfsMountFlags};
use sha2::{Digest, Sha256};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

/// Where a name without a slash is looked up.
const PLACES: [&str; 2] = ["/usr/bin", "/bin"];
/// Most links on the way, the system's own number.
const MAX_LINKS: usize = 40;
/// Bytes that are read at a time.
const PIECE: usize = 256 * 1024;

/// An executable that nobody in the box can change.
#[derive(Debug)]
pub struct Declared {
    /// As it was asked for, absolute.
    pub path: PathBuf,
    /// The file.
    pub file: File,
    /// Whether the kernel executes another program for it, which opens it by its path.
    pub is_script: bool,
}

/// Opens the executable `name`.
///
/// # Errors
/// A sentence for the agent.
pub fn open(name: &str) -> Result<Declared, String> {
    if !name.contains('/') {
        let found = PLACES.iter().map(|place| Path::new(place).join(name)).find(|path| path.exists());
        let path = found.ok_or_else(|| format!("there is no program {name:?} in {}", PLACES.join(" or ")))?;
        return open_path(path);
    }
    let path = PathBuf::from(name);
    let is_normal = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !path.is_absolute() || !is_normal {
        return Err(format!("{name:?} is neither a program's name nor an absolute path without . and .."));
    }
    open_path(path)
}

fn open_path(path: PathBuf) -> Result<Declared, String> {
    let said = |e: io::Error| format!("{}: {e}", path.display());
    let file = walk(&path).map_err(said)?;
    let mut head = [0; 2];
    let is_script = std::os::unix::fs::FileExt::read_at(&file, &mut head, 0).map_err(said)? == 2 && head == *b"#!";
    Ok(Declared { path, file, is_script })
}

impl Declared {
    /// SHA-256 of its bytes, hex. Reads it all, with rests for what else process 1 has to do.
    ///
    /// # Errors
    /// The system's own.
    pub async fn sha256(&self) -> io::Result<String> {
        let mut hash = Sha256::new();
        let mut piece = vec![0; PIECE];
        let mut file = &self.file;
        loop {
            match file.read(&mut piece)? {
                0 => return Ok(hex(&hash.finalize())),
                read => hash.update(&piece[..read]),
            }
            tokio::task::yield_now().await;
        }
    }
}

/// SHA-256 of arguments, each ended by a zero byte, hex.
#[must_use]
pub fn sha256_of(argv: &[String]) -> String {
    let mut hash = Sha256::new();
    for argument in argv {
        hash.update(argument.as_bytes());
        hash.update([0]);
    }
    hex(&hash.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn forbidden(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

fn is_fixed(at: &OwnedFd) -> io::Result<()> {
    if rustix::fs::fstatvfs(at)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(());
    }
    Err(forbidden("it, or a folder or link that leads to it, can be written in this box"))
}

/// Goes from the root to the file, one name after the other; each folder that a name is looked up in cannot be written.
fn walk(path: &Path) -> io::Result<File> {
    let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = || rustix::fs::open("/", folder, Mode::empty());
    let mut rest: Vec<OsString> = Vec::new();
    push(&mut rest, path);
    let mut at = root()?;
    let mut links = 0;
    while let Some(name) = rest.pop() {
        is_fixed(&at)?;
        let about = rustix::fs::statat(&at, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(about.st_mode) {
            FileType::Symlink => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(forbidden("it lies behind too many links"));
                }
                let target = rustix::fs::readlinkat(&at, &name, Vec::new())?;
                let target = OsString::from_vec(target.into_bytes());
                if target.as_bytes().first() == Some(&b'/') {
                    at = root()?;
                }
                push(&mut rest, Path::new(&target));
            }
            FileType::Directory => {
                at = rustix::fs::openat(&at, &name, folder | OFlags::NOFOLLOW, Mode::empty())?;
            }
            FileType::RegularFile if rest.is_empty() => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let file = rustix::fs::openat(&at, &name, flags, Mode::empty())?;
                is_fixed(&file)?;
                let opened = rustix::fs::fstat(&file)?;
                if (opened.st_dev, opened.st_ino) != (about.st_dev, about.st_ino) {
                    return Err(forbidden("it was changed while it was opened"));
                }
                return Ok(File::from(file));
            }
            _ => return Err(forbidden("it is no file that can be executed")),
        }
    }
    Err(forbidden("it is no file that can be executed"))
}

/// The names of a path, the first of them last.
fn push(rest: &mut Vec<OsString>, path: &Path) {
    let names = path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name),
        Component::ParentDir => Some(OsStr::new("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    rest.extend(names.map(OsStr::to_owned));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_written_is_no_declared_executable() {
        // This host's own /usr/bin can be written by who runs this, as /tmp can in a box.
        let writable = rustix::fs::statvfs("/usr/bin").unwrap().f_flag.contains(StatVfsMountFlags::RDONLY);
        let opened = open("/usr/bin/env");
        assert_eq!(opened.is_ok(), writable, "{opened:?}");
        for name in ["bin/env", "/usr/../usr/bin/env", "./env", "/", "no-such-program-here"] {
            assert!(open(name).is_err(), "{name}");
        }
    }

    #[test]
    fn two_lists_of_arguments_have_one_digest_only_if_they_are_the_same() {
        let of = |argv: &[&str]| sha256_of(&argv.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>());
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&["a", ""]), of(&["a"]));
        assert_eq!(of(&["a"]), "ffe9aaeaa2a2d5048174df0b80599ef0197ec024c4b051bc9860cff58ef7f9f3");
    }
}
