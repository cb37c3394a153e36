//! A run's repository, touched only by processes that run as its owner.
//!
//! The operator may be root; the repository belongs to someone else, lies perhaps under a folder only they may
//! enter, and holds configuration that makes git run programs. So a process of its own becomes the owner before it
//! opens anything, and uses git's plumbing with hooks, filters, monitors and fetching off (decision 0001).
//!
//! [`read`] gives the tree of a commit as a stream of files. [`import`] takes a stream of changes and makes the
//! branch `volary/<run>` of it; the checked-out branch, the index and the worktree are never touched.
//! What such a process has to say before or after its stream is one line of JSON; an error is one line of JSON on
//! its standard error ([`Problem`]), and exit status 1.

pub mod clone;
pub mod git;
pub mod import;
pub mod leftover;
pub mod owner;
pub mod preflight;
pub mod process;
pub mod read;
pub mod rein;
pub mod serve;
mod whole;

pub use clone::clone_main;
pub use import::import_main;
pub use process::RepoProcess;
pub use read::read_main;
pub use rein::Rein;
pub use serve::serve_main;

use serde::{Deserialize, Serialize};
use std::fmt;

/// Paths of uncommitted files that are named; the rest is counted.
pub const NAMED_LEFT_OUT: usize = 100;
/// Longest diff that is shown, in bytes.
pub const MAX_DIFF: usize = 1024 * 1024;

/// First line of what [`read`] says; the stream of files follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The commit, whole.
    pub commit: String,
    /// Its tree.
    pub tree: String,
    /// Uncommitted files, lossy UTF-8, at most [`NAMED_LEFT_OUT`].
    pub left_out: Vec<String>,
    /// How many there are.
    pub left_out_count: u64,
    /// Records that follow, without the end.
    pub files: u64,
    /// Bytes of content that follow.
    pub bytes: u64,
    /// Sentences for people, e.g. that submodules are empty.
    pub notes: Vec<String>,
    /// Why a result could not be imported as things are: whole sentences with the way out.
    #[serde(default)]
    pub obstacle: Option<String>,
}

/// What [`import`] made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// The branch; none when nothing changed.
    pub branch: Option<String>,
    /// Its commit.
    pub commit: Option<String>,
    /// Files that differ from the base.
    pub files: u64,
    /// Unified diff from the base, at most [`MAX_DIFF`], lossy UTF-8.
    pub diff: String,
    /// Whether the diff is longer; it was cut at a line.
    pub diff_cut: bool,
}

/// Why a repository could not be read or written: a stable name and whole sentences.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// E.g. `repo.none`.
    pub code: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl Problem {
    /// A problem by its name and sentence.
    pub fn new(code: &str, message: impl fmt::Display) -> Self {
        Self { code: code.to_owned(), message: message.to_string() }
    }
    /// A failed system call, by what it was for.
    pub(crate) fn io(act: &str) -> impl FnOnce(std::io::Error) -> Self {
        let act = act.to_owned();
        move |e| Self::new("repo.io", format_args!("{act}: {e}"))
    }
}

/// Ends a repository process: its problem, if any, as one line on standard error.
pub(crate) fn close(done: Result<(), Problem>) -> std::process::ExitCode {
    match done {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{}", serde_json::json!({ "code": problem.code, "message": problem.message }));
            std::process::ExitCode::FAILURE
        }
    }
}
