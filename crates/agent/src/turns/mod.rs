//! The loop of the agent as a pure state machine: [`Step`]s in, [`Effect`]s out.
//!
//! No clock, no randomness, no I/O here: what comes from outside (an answer, a delay's jitter, the end of
//! the time) comes as a step. So folding the recorded steps rebuilds the state exactly, [`resume`] takes a
//! run up where its record ends, and [`context_at`] gives the very bytes that a turn sent.
//!
//! Read [`Step`] and [`Effect`], then [`Machine::step`], then `context` (what the model sees, and how it is
//! kept short), then `replay` (the record).

mod context;
mod machine;
mod replay;
mod step;

pub use context::{Message, Results};
pub use machine::{Machine, Phase, Purpose};
pub use replay::{BadHistory, context_at, resume, steps};
pub use step::{
    Answer, Block, Call, Effect, End, Ending, Failure, FailureKind, Started, Step, Stop, ToolResult, ToolSpec,
};

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
