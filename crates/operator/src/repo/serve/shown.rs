//! What a box may know of a repository: what its shown references stand at, the commits that those lead to, and what those hold.
//! All else in the store (a stash, the index, what was amended away, what the owner hides) is for the box as if it were not there.
//!
//! git itself judges commits that are asked for, and nothing more: whether it has an object it tells whoever names it, a file or
//! a folder it gives, and what is pushed may name any of them.
//!
//! Read [`Shown::of`], then [`Shown::among`] (of what is asked for) and [`Shown::holds`] (of what is pushed).

use super::super::Problem;
use super::super::git::{Git, failed, is_object, missing, taken};
use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

/// Longest list of references that is read, in bytes.
const MAX_LIST: usize = 256 << 20;
/// Objects of a push that are in no part of it and not at the edge of what is shown: so many are looked for in all the history.
const MAX_LOOKED_FOR: usize = 10_000;

/// What the shown references stand at.
pub(super) struct Shown {
    tips: Vec<String>,
}

impl Shown {
    /// What `list` tells, which is git's own list of references for a box, in version 0 of the protocol.
    ///
    /// # Errors
    /// [`Problem`] when git cannot say it.
    pub(super) fn of(mut list: Command) -> Result<Self, Problem> {
        let mut child = list.stderr(Stdio::null()).spawn().map_err(missing)?;
        let mut from = taken(child.stdout.take())?;
        let said = super::super::git::bounded(&mut from, MAX_LIST).map_err(Problem::io("read from git"))?;
        drop(from);
        let status = child.wait().map_err(Problem::io("wait for git"))?;
        if !status.success() {
            return Err(failed(&["upload-pack"], b"it did not list what it shows"));
        }
        let mut tips = Vec::new();
        for line in super::lines::of(&said) {
            let Some(line) = line.map_err(|_| failed(&["upload-pack"], b"its list has no end"))? else { break };
            let name = line.split(|b| *b == b' ').next().and_then(|name| std::str::from_utf8(name).ok());
            // Of an empty repository the one line names nothing; a last few may say where a shallow one ends.
            tips.extend(name.filter(|name| is_object(name) && name.bytes().any(|b| b != b'0')).map(str::to_owned));
        }
        Ok(Self { tips })
    }

    /// Those of `names`, whole names of objects, that a box may name: tips, and commits that tips lead to.
    ///
    /// # Errors
    /// [`Problem`] when git cannot say it.
    pub(super) fn among(&self, git: &Git, names: HashSet<String>) -> Result<HashSet<String>, Problem> {
        let tips: HashSet<&str> = self.tips.iter().map(String::as_str).collect();
        let (mut shown, rest): (HashSet<String>, Vec<String>) = {
            let (shown, rest): (Vec<String>, Vec<String>) = names.into_iter().partition(|n| tips.contains(n.as_str()));
            (shown.into_iter().collect(), rest)
        };
        if rest.is_empty() {
            return Ok(shown);
        }
        let mut commits = HashSet::new();
        let kinds = git.command(&["cat-file", "--batch-check=%(objectname) %(objecttype)"]);
        let whole = fed(kinds, rest.join("\n") + "\n", |line| {
            commits.extend(line.strip_suffix(" commit").map(str::to_owned));
            true
        })?;
        if !whole {
            return Err(failed(&["cat-file"], b"it did not say what is there"));
        }
        if commits.is_empty() {
            return Ok(shown);
        }
        let asked: String = commits.iter().flat_map(|name| [name, "\n"]).collect();
        // What no tip leads to, those that are asked about among it.
        let whole = fed(git.command(&["rev-list", "--stdin"]), asked + &self.not(), |line| {
            commits.remove(line);
            true
        })?;
        if !whole {
            return Err(failed(&["rev-list"], b"it did not say what is led to"));
        }
        shown.extend(commits);
        Ok(shown)
    }

    /// Whether all that `new` leads to is in `sent`, or led to by tips; seen with the objects in the folder `with` beside the
    /// repository's. Where it is not, what it is instead (hidden, or nowhere) makes no difference.
    ///
    /// # Errors
    /// [`Problem`] when git cannot be asked.
    pub(super) fn holds(&self, git: &Git, new: &str, sent: &HashSet<String>, with: &Path) -> Result<bool, Problem> {
        let listing = || git.command(&["rev-list", "--objects", "--no-object-names", "--missing=print", "--stdin"]);
        let mut rest = HashSet::new();
        let mut command = listing();
        command.env("GIT_OBJECT_DIRECTORY", with);
        // Of what tips lead to, git leaves out what lies at the edge: what is older is listed with the rest.
        let whole = fed(command, format!("{new}\n{}", self.not()), |line| {
            let name = line.strip_prefix('?').unwrap_or(line);
            if !sent.contains(name) {
                rest.insert(name.to_owned());
            }
            rest.len() <= MAX_LOOKED_FOR
        })?;
        if !whole || rest.len() > MAX_LOOKED_FOR {
            return Ok(false);
        }
        if !rest.is_empty() {
            // An older state put back, by a git that left out what it knew to be here: all of the history says.
            let tips: String = self.tips.iter().flat_map(|tip| [tip, "\n"]).collect();
            fed(listing(), tips, |line| {
                rest.remove(line.strip_prefix('?').unwrap_or(line));
                !rest.is_empty()
            })?;
        }
        Ok(rest.is_empty())
    }

    /// All tips, as what is left out.
    fn not(&self) -> String {
        self.tips.iter().flat_map(|tip| ["^", tip, "\n"]).collect()
    }
}

/// Feeds `input` to a command and hands over each line that it says, until `each` wants no more. Whether it ended well.
///
/// # Errors
/// [`Problem`] when it cannot be started or read from.
pub(super) fn fed(
    mut command: Command,
    input: impl Into<Vec<u8>>,
    mut each: impl FnMut(&str) -> bool,
) -> Result<bool, Problem> {
    let input = input.into();
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().map_err(missing)?;
    let (mut to, from) = (taken(child.stdin.take())?, taken(child.stdout.take())?);
    // One that ended meanwhile reads no more, and its end says enough.
    let feeder = std::thread::spawn(move || drop(to.write_all(&input)));
    for line in BufReader::new(from).lines() {
        if !each(&line.map_err(Problem::io("read from git"))?) {
            // It ends by itself once nobody reads; this is sooner.
            drop(child.kill());
            break;
        }
    }
    let status = child.wait().map_err(Problem::io("wait for git"))?;
    drop(feeder.join());
    Ok(status.success())
}
