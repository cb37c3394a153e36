//! The operator's side: starting a repository process and talking to it.

use super::rein::{self, Rein};
use super::{Head, Imported, Problem};
use model::{Author, RunId};
use rustix::process::Pid;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;

/// Most bytes of a process's standard error that are looked at.
const MOST_WORDS: usize = 64 * 1024;
/// Most bytes of its one line: a diff, escaped.
const MOST_LINE: u64 = 8 * 1024 * 1024;

/// How the repository processes are started.
#[derive(Debug, Clone)]
pub struct RepoProcess {
    /// The program.
    pub exe: PathBuf,
    /// What stands before the arguments of the reading one.
    pub read: Vec<OsString>,
    /// What stands before the arguments of the importing one.
    pub import: Vec<OsString>,
}

impl RepoProcess {
    /// This program's own: `process repo-read …` and `process repo-import …`.
    #[must_use]
    pub fn own() -> Self {
        Self {
            exe: "/proc/self/exe".into(),
            read: vec!["process".into(), "repo-read".into()],
            import: vec!["process".into(), "repo-import".into()],
        }
    }

    fn start(&self, before: &[OsString], args: &[OsString], stdin: Stdio) -> Result<(Child, Words), Problem> {
        let mut command = Command::new(&self.exe);
        command.args(before).args(args).env_clear().current_dir("/");
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own: git's commands are ended with it.
        let child = rein::tie(&mut command).process_group(0).spawn();
        let mut child = child.map_err(Problem::io("start the repository's process"))?;
        let mut stderr = super::git::taken(child.stderr.take())?;
        let words = std::thread::spawn(move || {
            let said = super::git::bounded(&mut stderr, MOST_WORDS);
            // Nobody reads on; a process that says more meets a closed pipe.
            said.unwrap_or_default()
        });
        Ok((child, Words(words)))
    }

    /// Starts reading the tree of `commit` (HEAD if none) of the repository at `path`. Blocks until the head is there.
    ///
    /// # Errors
    /// The process's own [`Problem`].
    pub fn read(&self, path: &Path, commit: Option<&str>) -> Result<Reading, Problem> {
        let mut args = vec![OsString::from(path)];
        args.extend(commit.map(OsString::from));
        let (mut child, words) = self.start(&self.read, &args, Stdio::null())?;
        let mut stream = BufReader::with_capacity(1 << 16, super::git::taken(child.stdout.take())?);
        let mut line = Vec::new();
        let read = (&mut stream).take(MOST_LINE).read_until(b'\n', &mut line);
        let mut reading = Reading { child, words: Some(words), stream, head: None };
        match read.map_err(Problem::io("read from the repository's process")).and_then(|_| {
            serde_json::from_slice::<Head>(&line)
                .map_err(|e| Problem::new("repo.io", format!("a head is not one: {e}")))
        }) {
            Ok(head) => {
                reading.head = Some(head);
                Ok(reading)
            }
            Err(other) => Err(reading.finish().err().unwrap_or(other)),
        }
    }

    /// Starts importing; the caller writes the changes to what [`Importing::stdin`] gives, then asks for the result. Without
    /// an author the repository's owner is it.
    ///
    /// # Errors
    /// [`Problem`] when the process cannot be started.
    pub fn import(
        &self,
        path: &Path,
        run: &RunId,
        base: &str,
        model: &str,
        author: Option<&Author>,
    ) -> Result<Importing, Problem> {
        self.import_held(path, run, base, model, author, Rein::default())
    }

    /// As [`RepoProcess::import`]; `rein` kills it. The calling thread must not end before the import has.
    ///
    /// # Errors
    /// [`Problem`] when the process cannot be started.
    pub fn import_held(
        &self,
        path: &Path,
        run: &RunId,
        base: &str,
        model: &str,
        author: Option<&Author>,
        rein: Rein,
    ) -> Result<Importing, Problem> {
        let author = author.map(Author::identity).unwrap_or_default();
        let args = [path.into(), run.as_str().into(), base.into(), model.into(), author.into()];
        let (child, words) = self.start(&self.import, &args, Stdio::piped())?;
        rein.hold(&child);
        Ok(Importing { child, words: Some(words), rein, waited: false })
    }
}

/// What a process said on its standard error.
struct Words(JoinHandle<Vec<u8>>);

impl Words {
    /// The problem it reported, or its last words.
    fn problem(self) -> Problem {
        let said = self.0.join().unwrap_or_default();
        let reported = said.split(|b| *b == b'\n').rev().find_map(|line| serde_json::from_slice::<Problem>(line).ok());
        reported.unwrap_or_else(|| {
            let words = super::git::last_words(&said);
            Problem::new("repo.io", format!("the repository's process ended without a result: {words}"))
        })
    }
}

/// A repository being read. Dropping it ends the process.
pub struct Reading {
    child: Child,
    words: Option<Words>,
    /// The stream of files.
    pub stream: BufReader<ChildStdout>,
    head: Option<Head>,
}

impl Reading {
    /// What is read.
    ///
    /// # Panics
    /// Never: a reading is handed out with its head only.
    #[must_use]
    pub fn head(&self) -> &Head {
        self.head.as_ref().expect("handed out with its head only")
    }

    /// Waits for its end, when the stream was read to its own.
    ///
    /// # Errors
    /// The process's own [`Problem`].
    pub fn finish(&mut self) -> Result<(), Problem> {
        let status = self.child.wait().map_err(Problem::io("wait for the repository's process"))?;
        match self.words.take() {
            Some(words) if !status.success() => Err(words.problem()),
            _ => Ok(()),
        }
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// A branch being made. Dropping it ends the process.
pub struct Importing {
    child: Child,
    words: Option<Words>,
    rein: Rein,
    waited: bool,
}

impl Importing {
    /// Where the changes go; given once. The stream's end record must be written before it is dropped.
    pub fn stdin(&mut self) -> Option<std::process::ChildStdin> {
        self.child.stdin.take()
    }

    /// Waits for the result.
    ///
    /// # Errors
    /// The process's own [`Problem`]; no branch was made then.
    pub fn finish(mut self) -> Result<Imported, Problem> {
        drop(self.child.stdin.take());
        let mut said = Vec::new();
        let read = super::git::taken(self.child.stdout.take()).and_then(|out| {
            out.take(MOST_LINE).read_to_end(&mut said).map_err(Problem::io("read the import's result"))
        });
        let status = self.wait().map_err(Problem::io("wait for the importing process"))?;
        if let Some(words) = self.words.take().filter(|_| !status.success()) {
            return Err(words.problem());
        }
        read?;
        serde_json::from_slice(&said).map_err(|e| Problem::new("repo.io", format!("a result is not one: {e}")))
    }

    fn wait(&mut self) -> std::io::Result<ExitStatus> {
        self.waited = true;
        self.rein.wait(&mut self.child)
    }
}

impl Drop for Importing {
    fn drop(&mut self) {
        if self.waited {
            return;
        }
        rein::kill(Pid::from_child(&self.child));
        if let Err(cause) = self.wait() {
            tracing::warn!(%cause, "an importing process could not be ended");
        }
    }
}

/// Ends a process that may have ended already, and collects it.
fn end(child: &mut Child) {
    if matches!(child.try_wait(), Ok(Some(_))) {
        return;
    }
    rein::kill(Pid::from_child(child));
    if let Err(cause) = child.wait() {
        tracing::warn!(%cause, "a repository's process could not be ended");
    }
}
