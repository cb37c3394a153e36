//! One unit of work and how it stands.

use serde::{Deserialize, Serialize};

/// What a run does in its box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunKind {
    /// Our agent works on a task.
    Agent,
    /// One command, for `volary exec`.
    Exec,
}

/// How a run stands. Derived from its events: see [`RunState::after`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// Accepted; no host has it yet.
    Queued,
    /// A host makes its box, or the box works.
    Running,
    /// A person paused it: its box stands still, or it gets none.
    Paused,
    /// Ended well.
    Done,
    /// Ended, with a reason.
    Failed,
    /// Ended by a person.
    Cancelled,
}

impl RunState {
    /// Whether nothing more can happen in the run.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
    /// The state once `event` has happened in this one. An ended run stays as it ended.
    #[must_use]
    pub fn after(self, event: &crate::Event) -> Self {
        use crate::Event;
        match (self, event) {
            (over, _) if over.is_over() => over,
            (_, Event::Ended { outcome, .. }) => match outcome {
                Outcome::Done => Self::Done,
                Outcome::Failed => Self::Failed,
                Outcome::Cancelled => Self::Cancelled,
            },
            (Self::Queued, Event::Attempt { .. }) => Self::Running,
            (_, Event::Paused { .. }) => Self::Paused,
            (Self::Paused, Event::Resumed { queued: true, .. }) => Self::Queued,
            (Self::Paused, Event::Resumed { queued: false, .. }) => Self::Running,
            (now, _) => now,
        }
    }
    /// The word for it, as `runs` prints and stores it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The task was carried out, or the command exited with 0.
    Done,
    /// It was not; the reason stands beside.
    Failed,
    /// A person ended it.
    Cancelled,
}
