//! The link: the operator dials the server, also on one machine, and says what happens on its host.
//!
//! Every event of a run is numbered by the operator from 1, journalled on its disk and
//! made durable there before it is shown or takes effect, sent, and kept until the server acknowledges it.
//! After a cut the operator sends again from the number the server asks for; the server takes each number once.

use crate::inbox::ModelRoute;
use model::{BoxId, Moment, Profile, RunId, run::RunKind};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// Operator → server.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub enum Up {
    /// First frame after dialling: which runs this host knows, and how far.
    Hello {
        /// The host's own name.
        host: String,
        /// Every run with a journal on this host.
        runs: Vec<Known>,
    },
    /// One numbered event of a run.
    Event {
        /// The run.
        run: RunId,
        /// From 1, without gaps.
        seq: u64,
        /// By the host's clock.
        at: Moment,
        /// A [`model::Event`] as JSON. The operator did not look into what the box wrote.
        event: Box<RawValue>,
    },
    /// A signed head of the evidence that this host has seen and kept.
    Witnessed {
        /// The head, as the server sent it.
        head: String,
    },
}

/// A run as the host knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The run.
    pub run: RunId,
    /// The last number in its journal.
    pub last_seq: u64,
    /// Whether its box lives.
    pub live: bool,
    /// Whether its last event is its end.
    pub ended: bool,
}

/// Server → operator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Down {
    /// Make a box for this run; if a journal of it is there, it is its next attempt on the kept worktree.
    Launch(Box<Launch>),
    /// Everything up to `seq` of the run is durable here.
    Ack {
        /// The run.
        run: RunId,
        /// The last number taken.
        seq: u64,
    },
    /// Send again what follows `after`.
    Resend {
        /// The run.
        run: RunId,
        /// The last number the server has; 0 for none.
        after: u64,
    },
    /// End the run on a person's word.
    Cancel {
        /// The run.
        run: RunId,
    },
    /// The run is over and its result taken: drop its journal and worktree.
    Settle {
        /// The run.
        run: RunId,
    },
    /// Bytes for an exec's standard input.
    Input {
        /// The run.
        run: RunId,
        /// Base 64; empty text with `end` for the end alone.
        data_b64: String,
        /// Whether this is the end.
        end: bool,
    },
    /// A signed head of the evidence, to keep.
    Head {
        /// A C2SP signed note.
        head: String,
    },
}

/// A run to be carried out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    /// The run.
    pub run: RunId,
    /// This attempt's box.
    pub box_id: BoxId,
    /// From 1.
    pub attempt: u32,
    /// What it does.
    pub kind: RunKind,
    /// Repository on the host, absolute; none for an empty worktree.
    pub repo: Option<std::path::PathBuf>,
    /// The commit to start from, once known (from the first attempt's `base` event).
    pub base: Option<String>,
    /// What it may be.
    pub profile: Profile,
    /// Whether the result is imported into the repository as `volary/<run>`.
    pub import: bool,
    /// For an agent.
    pub agent: Option<LaunchAgent>,
    /// For an exec: program and arguments.
    pub argv: Vec<String>,
    /// Commands that were running when an earlier attempt broke off are told to the agent through this: the steps of its loop so far.
    pub history: Vec<Value>,
}

/// The agent's part of a [`Launch`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LaunchAgent {
    /// The task.
    pub task: String,
    /// The run's opaque handle for its model.
    pub handle: String,
    /// The model.
    pub model: ModelRoute,
}
