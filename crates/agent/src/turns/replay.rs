//! The record: steps as JSON values, and what is rebuilt from them.

use super::{Effect, Machine, Step, ToolResult};
use serde::Deserialize;
use serde_json::Value;

/// Why a history cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadHistory {
    /// A value is no step of this version.
    #[error("step {index} of the run's record cannot be read")]
    Step {
        /// Its place among the joined steps, from 0.
        index: usize,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The run has no such turn.
    #[error("the run has no turn {turn}; its last is {last}")]
    NoSuchTurn {
        /// What was asked for.
        turn: u32,
        /// The last that was sent; 0 for none.
        last: u32,
    },
}

/// The steps that a history holds: the `step`s of a run's `loop` events in order, those that the runner split
/// (see [`api::steps`]) joined again.
///
/// # Errors
/// [`BadHistory::Step`].
pub fn steps(history: &[Value]) -> Result<Vec<Step>, BadHistory> {
    let whole = api::steps::join(history.to_vec());
    let read = |(index, value)| Step::deserialize(value).map_err(|source| BadHistory::Step { index, source });
    whole.iter().enumerate().map(read).collect()
}

/// The machine as it stood after the last step of `history`, and the results of tool calls that it told on its way, in
/// order. Step it with [`Step::Resumed`] next.
///
/// # Errors
/// As [`steps`].
pub fn resume(history: &[Value]) -> Result<(Machine, Vec<ToolResult>), BadHistory> {
    let (mut machine, mut results) = (Machine::default(), Vec::new());
    for step in steps(history)? {
        for effect in machine.step(&step) {
            if let Effect::Answered(result) = effect {
                results.push(result);
            }
        }
    }
    Ok((machine, results))
}

/// The exact body of the request that call `turn` of the model sent: to compare with what the gateway saw.
///
/// Calls are numbered from 1 in the order of their answers; a call that failed and was tried again keeps its
/// number, and the body of its last try is given (an earlier one differs only if the provider found it too
/// long).
///
/// # Errors
/// As [`steps`], and [`BadHistory::NoSuchTurn`].
pub fn context_at(history: &[Value], turn: u32) -> Result<Vec<u8>, BadHistory> {
    let (mut machine, mut found, mut last) = (Machine::default(), None, 0);
    for step in steps(history)? {
        for effect in machine.step(&step) {
            if let Effect::CallModel { turn: called } = effect {
                last = called;
                if called == turn {
                    found = machine.request();
                }
            }
        }
    }
    found.ok_or(BadHistory::NoSuchTurn { turn, last })
}
