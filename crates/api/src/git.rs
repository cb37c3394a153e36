//! Git through the gateway: what it asks the server before each request to a repository's upstream.
//!
//! A word and its record are one act of the server, as for [`crate::grants`], whose messages carry these. A grant is
//! settled as one for the outside is (`SettleEgress`); of a push, status 200 says that the upstream made the update.

use crate::grants::WireSecret;
use model::{GrantId, RunId};
use serde::{Deserialize, Serialize};

/// Paths of a push that are named to the server; the rest is counted.
pub const NAMED_PATHS: usize = 500;
/// Bytes of the named paths together.
pub const NAMED_BYTES: usize = 64 * 1024;

/// May this run do this with this repository now?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitAsk {
    /// The run, known by the listener alone.
    pub run: RunId,
    /// SHA-256 of the handle that the request carried, hex, lower case.
    pub handle_sha256: String,
    /// The repository, by the id that the request named: one of the run's own list, or nothing.
    pub repository: String,
    /// What.
    pub act: GitAct,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "kebab-case")]
pub enum GitAct {
    /// References or objects are read.
    Fetch,
    /// References are read, to push.
    Offer,
    /// What the upstream has is read, to list what a push would change. The word tells what is to be compared with.
    Look,
    /// A reference is set.
    Push(GitPush),
}

/// A push, as the gateway read it. Names of paths were written by a box; what is no UTF-8 in them is replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitPush {
    /// The reference, whole.
    pub reference: String,
    /// What it is, as the pusher believes: 40 hex digits.
    pub old: String,
    /// What it is to become.
    pub new: String,
    /// Length of the pack, in bytes.
    pub bytes: u64,
    /// Objects in it.
    pub objects: u32,
    /// Paths that differ from what the upstream has, at most [`NAMED_PATHS`] and [`NAMED_BYTES`].
    pub paths: Vec<String>,
    /// How many there are.
    pub paths_count: u64,
    /// SHA-256 of all of them, each ended by a zero byte, in order, hex.
    pub paths_sha256: String,
    /// Those of all that decide what a forge runs, at most [`NAMED_PATHS`].
    pub pipelines: Vec<String>,
}

/// The server's word on a [`GitAsk`]; recorded before it is said.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "word", rename_all = "kebab-case")]
pub enum GitWord {
    /// Recorded; do it.
    Granted {
        /// To be settled.
        grant: GrantId,
        /// The row of the run's profile.
        repository: Box<model::Repository>,
        /// What opens it; none for what everybody may read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        credential: Option<GitCredential>,
        /// The branch that is this run's own, without `refs/heads/`.
        branch: String,
        /// The commit that the run started from, where that is of this repository.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        base: Option<String>,
    },
    /// Recorded; refuse it.
    Denied {
        /// Stable name of the rule.
        rule: String,
        /// One sentence for the agent.
        why: String,
    },
}

/// What opens a repository.
#[derive(Debug, Serialize, Deserialize)]
pub struct GitCredential {
    /// The user beside it.
    pub user: String,
    /// Its value.
    pub value: WireSecret,
    /// The name of the secret that it is, for the scrubber's placeholder.
    pub secret: String,
}

/// A pull or merge request that stands open for what a run pushed: `POST /api/runs/{run}/propose`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PullRequestView {
    /// Where people read it.
    pub url: String,
    /// Its number there.
    pub number: u64,
    /// It had been opened before.
    pub already: bool,
}
