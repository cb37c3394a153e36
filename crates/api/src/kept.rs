//! Worktrees whose changes did not get into their repository: kept on their host until a person has them, or drops
//! them, or their time is over.
//!
//! The server asks over the link ([`crate::link::Down::Kept`]) and a person over HTTP; what is answered is the same.

use model::{Moment, RunId};
use serde::{Deserialize, Serialize};

/// One kept worktree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KeptWorktree {
    /// The run it is of, which is over.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub run: RunId,
    /// When it was put there, by the host's clock.
    #[cfg_attr(feature = "openapi", schema(value_type = i64))]
    pub at: Moment,
    /// When the host removes it by itself, unless room runs out before.
    #[cfg_attr(feature = "openapi", schema(value_type = i64))]
    pub until: Moment,
    /// Bytes it takes on the disk.
    pub bytes: u64,
    /// The repository that it is to go to, on the host.
    pub repo: Option<String>,
    /// The commit that its files lie over.
    pub base: Option<String>,
    /// Where it lies on the host.
    pub place: String,
}

/// A kept worktree that is in its repository now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KeptImported {
    /// The branch; none when nothing had been changed.
    pub branch: Option<String>,
    /// Its commit.
    pub commit: Option<String>,
    /// Files that it changes.
    pub files: u64,
    /// A unified diff, at most 1 MiB, scrubbed; empty when it could not be.
    pub diff: String,
    /// Whether the diff is not whole.
    pub diff_cut: bool,
    /// What could not be brought along, one sentence each.
    pub left_out: Vec<String>,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "kebab-case")]
pub enum KeptAct {
    /// Say which there are.
    List,
    /// Bring one into its repository; it is kept no longer then.
    Import {
        /// Whose.
        run: RunId,
    },
    /// Remove one.
    Drop {
        /// Whose.
        run: RunId,
    },
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "came", rename_all = "kebab-case")]
pub enum KeptAnswer {
    /// Which there are, the oldest first.
    List {
        /// All of them.
        kept: Vec<KeptWorktree>,
    },
    /// It is in its repository.
    Imported(KeptImported),
    /// It is gone.
    Dropped,
    /// None is kept of that run.
    None,
    /// It could not be done, and is as it was.
    Failed {
        /// One sentence.
        why: String,
    },
}
