//! git's plumbing, with everything off that could run a program of the repository's choosing or reach a network.
//!
//! What is off, and how: hooks (`core.hooksPath`), file system monitors (`core.fsmonitor`), content filters (every
//! configured `filter.*` is set to nothing; see [`Git::open`]), fetching of missing objects, every transport,
//! prompts, pagers, replaced objects, refreshes of the index, automatic maintenance.

use super::Problem;
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A repository, opened through git.
#[derive(Debug)]
pub struct Git {
    at: PathBuf,
    filters: Vec<OsString>,
    /// Whether it has no worktree.
    pub bare: bool,
}

impl Git {
    /// Opens the repository whose top is `path`, an absolute path without links.
    ///
    /// # Errors
    /// [`Problem`] when git is missing, when this is no repository or not its top, or when git refuses it.
    pub fn open(path: &Path) -> Result<Self, Problem> {
        let mut git = Self { at: path.to_path_buf(), filters: Vec::new(), bare: false };
        let shown = path.display();
        let said = git.run(&["rev-parse", "--is-bare-repository", "--absolute-git-dir"])?;
        if !said.status.success() {
            let words = last_words(&said.stderr);
            if words.contains("dubious ownership") {
                let message = format!("{shown} holds files of another user than its folder's; git refuses it: {words}");
                return Err(Problem::new("repo.owner", message));
            }
            let message = format!("{shown} is not a git repository ({words}). Give one, or run `git init` there.");
            return Err(Problem::new("repo.none", message));
        }
        let mut lines = said.stdout.splitn(2, |b| *b == b'\n');
        git.bare = lines.next() == Some(b"true");
        let top = if git.bare {
            lines.next().unwrap_or_default().to_vec()
        } else {
            // Inside `.git` there is no worktree, and this fails.
            let said = git.run(&["rev-parse", "--show-toplevel"])?;
            if said.status.success() {
                said.stdout
            } else {
                path.parent().unwrap_or(path).as_os_str().as_bytes().into()
            }
        };
        let top = PathBuf::from(OsString::from_vec(top.strip_suffix(b"\n").unwrap_or(&top).to_vec()));
        if top != path {
            let message = format!("{shown} lies inside the repository {}; give that path.", top.display());
            return Err(Problem::new("repo.inside", message));
        }
        git.filters = git.filter_keys()?;
        Ok(git)
    }

    /// `filter.<name>` of every filter that any configuration names. An empty `process` switches the filter off, its
    /// `clean` and `smudge` included, once it is not `required`; there is no switch for all at once.
    fn filter_keys(&self) -> Result<Vec<OsString>, Problem> {
        let said = self.run(&["config", "-z", "--name-only", "--get-regexp", r"^filter\."])?;
        let mut keys: Vec<OsString> = said
            .stdout
            .split(|b| *b == 0)
            .filter_map(|key| {
                let end = key.iter().rposition(|b| *b == b'.')?;
                (end > b"filter".len()).then(|| OsString::from_vec(key[..end].to_vec()))
            })
            .collect();
        keys.sort();
        keys.dedup();
        Ok(keys)
    }

    /// A git command in this repository.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        let mut git = Command::new("git");
        git.env_clear().current_dir(&self.at);
        git.env("PATH", sandbox::doctor::GIT_PATH).env("LC_ALL", "C").env("PWD", &self.at);
        if let Some(home) = home() {
            git.env("HOME", home);
        }
        for (name, value) in [
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_NO_LAZY_FETCH", "1"),
            ("GIT_OPTIONAL_LOCKS", "0"),
            ("GIT_ASKPASS", "/bin/false"),
            ("GIT_PAGER", "cat"),
            ("GIT_ADVICE", "0"),
        ] {
            git.env(name, value);
        }
        // By environment, not by `-c`: a filter's name may hold any character.
        let off = self.filters.iter().flat_map(|filter| [(filter, ".process", ""), (filter, ".required", "false")]);
        for (n, (filter, key, value)) in off.enumerate() {
            let key = [filter.as_bytes(), key.as_bytes()].concat();
            git.env(format!("GIT_CONFIG_KEY_{n}"), OsString::from_vec(key)).env(format!("GIT_CONFIG_VALUE_{n}"), value);
        }
        git.env("GIT_CONFIG_COUNT", (2 * self.filters.len()).to_string());
        git.args(["--no-pager", "--no-replace-objects", "--no-optional-locks"]);
        for setting in [
            "core.hooksPath=/dev/null",
            "core.fsmonitor=false",
            "core.untrackedCache=false",
            "core.quotePath=true",
            "core.fsync=objects,reference",
            // A large file is streamed, not held in memory, and a pack is looked at through small windows.
            "core.bigFileThreshold=16m",
            // What a run changed stays one pack: taken apart it would be compressed, and held in memory, once more.
            "fastimport.unpackLimit=0",
            "pack.compression=1",
            "core.packedGitWindowSize=16m",
            "core.packedGitLimit=128m",
            "protocol.allow=never",
            "gc.auto=0",
            "maintenance.auto=false",
        ] {
            git.args(["-c", setting]);
        }
        git.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        super::rein::tie(&mut git);
        git
    }

    /// Runs a command to its end.
    ///
    /// # Errors
    /// [`Problem`] when git cannot be started; not when it fails.
    pub fn run(&self, args: &[&str]) -> Result<Output, Problem> {
        self.command(args).output().map_err(missing)
    }

    /// Runs a command that must succeed; gives its output without the line end.
    ///
    /// # Errors
    /// [`Problem`] with git's own last words.
    pub fn ask(&self, args: &[&str]) -> Result<String, Problem> {
        let said = self.run(args)?;
        if !said.status.success() {
            return Err(failed(args, &said.stderr));
        }
        Ok(String::from_utf8_lossy(&said.stdout).trim_end_matches('\n').to_owned())
    }

    /// Where the repository keeps `name`, e.g. `objects`: a linked worktree's is elsewhere.
    ///
    /// # Errors
    /// [`Problem`] with git's own last words.
    pub fn inside(&self, name: &str) -> Result<PathBuf, Problem> {
        let args = ["rev-parse", "--git-path", name];
        let said = self.run(&args)?;
        if !said.status.success() {
            return Err(failed(&args, &said.stderr));
        }
        let path = said.stdout.strip_suffix(b"\n").unwrap_or(&said.stdout);
        Ok(self.at.join(OsString::from_vec(path.to_vec())))
    }

    /// Runs a command that lists paths with `-z`, and hands each over.
    ///
    /// # Errors
    /// [`Problem`] with git's own last words.
    pub fn list(&self, args: &[&str], mut each: impl FnMut(&[u8]) -> Result<(), Problem>) -> Result<(), Problem> {
        let mut child = self.command(args).stderr(Stdio::inherit()).spawn().map_err(missing)?;
        let mut from = std::io::BufReader::new(taken(child.stdout.take())?);
        let mut item = Vec::new();
        loop {
            item.clear();
            let read = std::io::BufRead::read_until(&mut from, 0, &mut item).map_err(Problem::io("read from git"))?;
            if read == 0 {
                break;
            }
            each(item.strip_suffix(&[0]).unwrap_or(&item))?;
        }
        let status = child.wait().map_err(Problem::io("wait for git"))?;
        if status.success() { Ok(()) } else { Err(failed(args, b"it said why on the line before")) }
    }
}

/// A pipe that was asked for.
///
/// # Errors
/// [`Problem`] when it is not there, which the standard library rules out.
pub fn taken<T>(pipe: Option<T>) -> Result<T, Problem> {
    pipe.ok_or_else(|| Problem::new("repo.io", "a pipe to git is missing"))
}

/// git cannot be started.
#[must_use]
pub fn missing(e: std::io::Error) -> Problem {
    match e.kind() {
        std::io::ErrorKind::NotFound => Problem::new("git.missing", "git is not installed; install the package `git`."),
        _ => Problem::new("git.start", format!("git cannot be started: {e}")),
    }
}

/// A git command failed.
#[must_use]
pub fn failed(args: &[&str], stderr: &[u8]) -> Problem {
    let act = args.first().copied().unwrap_or_default();
    Problem::new("git.failed", format!("`git {act}` failed: {}", last_words(stderr)))
}

/// The last lines of what a program said, in one bounded line.
#[must_use]
pub fn last_words(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with("hint:")).collect();
    let words = lines[lines.len().saturating_sub(3)..].join("; ");
    let words: String = words.chars().filter(|c| !c.is_control()).take(500).collect();
    if words.is_empty() { "it said nothing".to_owned() } else { words }
}

/// The home of the user this process runs as. `HOME` itself belongs to whoever started us, and was cleared.
fn home() -> Option<PathBuf> {
    std::env::home_dir().filter(|home| home.is_absolute())
}

/// Whether a text is a whole object name: 40 or 64 hexadecimal digits in lower case.
#[must_use]
pub fn is_object(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Reads everything a child says on `from`, but keeps no more than `most` bytes of it.
///
/// # Errors
/// The system's own.
pub fn bounded(from: &mut impl Read, most: usize) -> std::io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    from.take(most as u64).read_to_end(&mut kept)?;
    Ok(kept)
}
