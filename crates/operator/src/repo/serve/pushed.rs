//! What a box pushes, before git takes it: one update, of the run's own branch; a pack that is set apart first, and of which all
//! is either sent or shown. git is content with what it finds in its store, of which a box sees only a part.
//!
//! Read [`update_of`], then [`Pushed::set_apart`].

use super::super::Problem;
use super::super::git::{Git, is_object, taken};
use super::OF_ITS_PUSHES;
use super::shown::{Shown, fed};
use crate::disk::Disk;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// What the folder of a pack begins with that is set apart, beside the objects; the rest is the number of the process. git's own
/// clearing away takes what is called so, once it is old.
const APART: &str = "tmp_objdir-volary-";

/// The lines with which a push begins, when they ask for one update, of this branch, and what it is to stand
/// at. The rest stays in `from`.
///
/// # Errors
/// `repo.branch` for any other update, `repo.form` where they break off.
pub(super) fn update_of(from: &mut impl Read, branch: &str) -> Result<(Vec<u8>, String), Problem> {
    let no = || Problem::new("repo.branch", "The run's own branch alone is pushed here, and never taken away.");
    let form = |_| Problem::new("repo.form", "The push broke off.");
    let (mut head, mut updates, mut pushed) = (Vec::new(), 0, String::new());
    loop {
        let mut digits = [0; 4];
        from.read_exact(&mut digits).map_err(form)?;
        head.extend_from_slice(&digits);
        let length = std::str::from_utf8(&digits).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
        let length = match length.ok_or_else(no)? {
            0 => break,
            length => length.checked_sub(4).filter(|length| *length > 0).ok_or_else(no)?,
        };
        let at = head.len();
        head.resize(at + length, 0);
        from.read_exact(&mut head[at..]).map_err(form)?;
        let line = &head[at..];
        if updates == 0 && line.starts_with(b"shallow ") && head.len() < (1 << 20) {
            continue;
        }
        updates += 1;
        let command = line.split(|b| *b == 0).next().unwrap_or_default();
        let command = command.strip_suffix(b"\n").unwrap_or(command);
        let mut words = command.split(|b| *b == b' ');
        let (old, new, reference) = (words.next(), words.next(), words.next());
        let is_gone = new.is_none_or(|new| new.iter().all(|b| *b == b'0'));
        let own = format!("refs/heads/{branch}");
        if updates > 1 || old.is_none() || is_gone || reference != Some(own.as_bytes()) || words.next().is_some() {
            return Err(no());
        }
        pushed =
            new.and_then(|new| std::str::from_utf8(new).ok()).filter(|new| is_object(new)).ok_or_else(no)?.to_owned();
    }
    if updates == 1 { Ok((head, pushed)) } else { Err(no()) }
}

/// Whether the run may send this much more, in bytes, and the disk keeps what it must while it lies there twice.
///
/// # Errors
/// `repo.room`, `repo.disk`.
pub(super) fn has_room(git: &Git, bytes: u64, room: u64) -> Result<(), Problem> {
    if bytes > room {
        let most = OF_ITS_PUSHES >> 20;
        let message = format!("The run has pushed what a run may push to its host in all, {most} MiB.");
        return Err(Problem::new("repo.room", message));
    }
    let disk = Disk::of(&git.inside("objects")?);
    disk.reserve(bytes.saturating_mul(2), "a push").map(drop).map_err(|why| Problem::new("repo.disk", why))
}

/// A push's pack, in a folder of its own that ends with this.
pub(super) struct Pushed {
    at: PathBuf,
    /// The pack as it came.
    pack: PathBuf,
}

impl Drop for Pushed {
    fn drop(&mut self) {
        // What stays, the next push takes away, or git's own clearing away.
        drop(fs::remove_dir_all(&self.at));
    }
}

impl Pushed {
    /// Takes the pack in `from`, apart from the repository's objects, and looks whether all that `new` leads to is sent or shown.
    ///
    /// # Errors
    /// `repo.unsent`, whatever is wrong with it; [`Problem`] when it cannot be set apart or git cannot be asked.
    pub(super) fn set_apart(git: &Git, shown: &Shown, new: &str, mut from: impl Read) -> Result<Self, Problem> {
        let unsent = || {
            let message = "The push leaves out what no branch or tag of the repository leads to, or its pack is none; fetch, and \
                           push from a repository that holds all of it.";
            Problem::new("repo.unsent", message)
        };
        let objects = git.inside("objects")?;
        sweep(&objects).map_err(Problem::io("clear away what an ended push left"))?;
        let at = objects.join(format!("{APART}{}", std::process::id()));
        fs::create_dir(&at).map_err(Problem::io("make a folder for the push"))?;
        let mut pushed = Self { pack: PathBuf::new(), at };
        let info = pushed.at.join("info");
        // The repository's own objects, seen from there; without a path, which may hold any character.
        let made = fs::create_dir(&info).and_then(|()| fs::write(info.join("alternates"), "..\n"));
        made.map_err(Problem::io("make a folder for the push"))?;
        let settings = ["-c", "core.fsync=none", "-c", "pack.threads=1"];
        // Whole: a difference to what it does not hold would be filled in from the store.
        let mut command = git.command(&[&settings[..], &["index-pack", "--stdin"]].concat());
        command.env("GIT_OBJECT_DIRECTORY", &pushed.at).stdin(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(super::super::git::missing)?;
        let mut to = taken(child.stdin.take())?;
        // A git that ended meanwhile reads no more, and its end says enough.
        drop(io::copy(&mut from, &mut to));
        drop(to);
        let said = child.wait_with_output().map_err(Problem::io("wait for git"))?;
        let name = String::from_utf8_lossy(&said.stdout).trim_end().strip_prefix("pack\t").map(str::to_owned);
        let name = name.filter(|name| said.status.success() && is_object(name)).ok_or_else(unsent)?;
        pushed.pack = pushed.at.join(format!("pack/pack-{name}.pack"));
        let sent = pushed.objects(git, &name)?;
        if shown.holds(git, new, &sent, &pushed.at)? { Ok(pushed) } else { Err(unsent()) }
    }

    /// The names of all objects in the pack.
    fn objects(&self, git: &Git, name: &str) -> Result<HashSet<String>, Problem> {
        let index =
            fs::read(self.at.join(format!("pack/pack-{name}.idx"))).map_err(Problem::io("read the push's index"))?;
        let mut all = HashSet::new();
        let whole = fed(git.command(&["show-index"]), index, |line| {
            all.extend(line.split(' ').nth(1).map(str::to_owned));
            true
        })?;
        if whole { Ok(all) } else { Err(super::super::git::failed(&["show-index"], b"it did not list the push")) }
    }

    /// The pack, from its beginning.
    ///
    /// # Errors
    /// The system's own.
    pub(super) fn read(&self) -> Result<File, Problem> {
        File::open(&self.pack).map_err(Problem::io("read the push"))
    }
}

/// Removes the folders of processes that are no more: they were killed with their run.
fn sweep(objects: &Path) -> io::Result<()> {
    for entry in fs::read_dir(objects)? {
        let entry = entry?;
        let name = entry.file_name();
        let number =
            name.to_str().and_then(|name| name.strip_prefix(APART)).and_then(|number| number.parse::<u32>().ok());
        let Some(number) = number else { continue };
        if number == std::process::id() || !Path::new("/proc").join(number.to_string()).exists() {
            match fs::remove_dir_all(entry.path()) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                removed => removed?,
            }
        }
    }
    Ok(())
}
