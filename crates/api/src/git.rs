//! Git through the gateway: what it asks the server before each request to a repository's upstream.
//!
//! A word and its record are one act of the server, as for [`crate::grants`], whose messages carry these. A grant is
//! settled as one for the outside is (`SettleEgress`); of a push, status 200 says that the upstream made the update.

use crate::grants::WireSecret;
use model::{GrantId, LeaseId, Moment, RunId};
use serde::{Deserialize, Serialize};

/// Paths of a push that are named to the server; the rest is counted.
pub const NAMED_PATHS: usize = 500;
/// Bytes of the named paths together.
pub const NAMED_BYTES: usize = 64 * 1024;
/// Commits of a push by others that are named to the server; the rest is counted.
pub const NAMED_COMMITS: usize = 20;
/// The header in which the process that serves a repository of the host says, in a sentence for a box, why it does not.
pub const WHY: &str = "volary-why";
/// Where a run proposes what it pushed, at its own door.
pub const PROPOSE: &str = "/propose";
/// Longest body of a [`Proposal`], in bytes.
pub const MAX_PROPOSAL: usize = 64 * 1024;

/// What a run's agent proposes, with its handle in `Authorization: Bearer`. Untrusted text, both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proposal {
    /// One line.
    pub title: String,
    /// What it changes and why.
    #[serde(default)]
    pub body: String,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposed {
    /// One or two sentences for the agent.
    pub said: String,
}

/// May this run do this with this repository now?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitAsk {
    /// The run, known by the listener alone.
    pub run: RunId,
    /// SHA-256 of the handle that the request carried, hex, lower case.
    pub handle_sha256: String,
    /// The repository, by the id that the request named: one of the run's own list, or nothing. Empty for
    /// [`GitAct::Propose`].
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
    /// A push begins: what the upstream has is read, to list what it would change. The word tells what is to be compared
    /// with, and holds the lease of the push.
    Look {
        /// The reference, whole.
        reference: String,
        /// What it is, as the pusher believes: 40 hex digits.
        old: String,
        /// What it is to become.
        new: String,
    },
    /// A reference is set.
    Push(Box<GitPush>),
    /// What the run pushed is proposed, in its agent's words. Answered by [`GitWord::Said`].
    Propose(Proposal),
}

/// A push, as the gateway read it. Names of paths were written by a box; what is no UTF-8 in them is replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GitPush {
    /// The lease under which it is made.
    pub lease: LeaseId,
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
    /// What the reference is at the upstream, asked for this push; none when it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub there: Option<String>,
    /// The upstream has not had the new commit before.
    #[serde(default)]
    pub fresh: bool,
    /// Commits that the upstream does not have.
    #[serde(default)]
    pub commits: u64,
    /// Those of them that are not as [`Leased::author`] says, at most [`NAMED_COMMITS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<String>,
    /// How many there are.
    #[serde(default)]
    pub others_count: u64,
    /// The one commit that the new ones stand on, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub onto: Option<String>,
}

/// The lease of a push: a row like every other lease's, that people list and take back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leased {
    /// Its id.
    pub lease: LeaseId,
    /// When the push is ended, whatever it does.
    pub expires: Moment,
    /// Whose the commits must be.
    pub author: model::Author,
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
        credential: Option<Box<GitCredential>>,
        /// The commit that the run started from, where that is of this repository.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        base: Option<String>,
        /// Of [`GitAct::Look`]: the push's lease.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        leased: Option<Leased>,
    },
    /// The word on a proposal.
    Said {
        /// For the agent.
        text: String,
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
    /// Of what a vendor minted: until when it may open something, if nobody ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<model::Moment>,
    /// The platform's own lease that carries a minted value: what goes on by it ends when that is taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried: Option<model::LeaseId>,
    /// Of a value that is kept: which it is. What goes on by it ends when that is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<crate::grants::StoredValue>,
}

/// What a person wants a pull request to say: `POST /api/runs/{run}/propose`. Without it, what the agent or the task says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, default)]
pub struct OpenProposal {
    /// One line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
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
