//! The record: steps as JSON values, and what is rebuilt from them.

use super::{Effect, Machine, Step};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Longest piece of a step's JSON text, in bytes. The record passes the scrubber in packets of 192 KiB, inside
/// two layers of JSON; 36 KiB stay below that whatever they are made of.
pub const PIECE: usize = 36 * 1024;

/// Most bytes of a step's JSON text once it is a JSON string itself.
const WHOLE: usize = 4 * PIECE;

/// A piece of a step that is too long for one value: `part` of `of`, from 1.
#[derive(Debug, Serialize, Deserialize)]
struct Part {
    part: u32,
    of: u32,
    text: String,
}

/// Why a history cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadHistory {
    /// A value is no step of this version.
    #[error("step {index} of the run's record cannot be read")]
    Step {
        /// Its place, from 0.
        index: usize,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A piece of a step stands where another belongs.
    #[error("step {index} of the run's record is a piece that does not fit the one before it")]
    Pieces {
        /// Its place, from 0.
        index: usize,
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

/// A step as the values that are recorded, in order: one, or pieces of a long one. A piece ends after a space
/// where there is one, so that a scrubber sees whole words.
///
/// # Panics
/// Never: a step is always valid JSON.
#[must_use]
pub fn record(step: &Step) -> Vec<Value> {
    let text = serde_json::to_string(step).expect("a step has no map with keys other than text");
    if text.len() <= PIECE || serde_json::to_string(&text).is_ok_and(|twice| twice.len() <= WHOLE) {
        return vec![serde_json::to_value(step).expect("as above")];
    }
    let mut pieces = Vec::new();
    let mut rest = &text[..];
    while !rest.is_empty() {
        let most = rest.floor_char_boundary(PIECE);
        let end = match rest[..most].rfind(' ') {
            Some(space) if most < rest.len() && space > PIECE / 2 => space + 1,
            _ => most,
        };
        pieces.push(&rest[..end]);
        rest = &rest[end..];
    }
    let of = pieces.len() as u32;
    (1..)
        .zip(pieces)
        .map(|(part, text)| serde_json::to_value(Part { part, of, text: text.to_owned() }).expect("plain fields"))
        .collect()
}

/// The steps that a history holds. Pieces at its end that are no whole step are left out: nothing was done
/// because of them.
///
/// # Errors
/// [`BadHistory::Step`], [`BadHistory::Pieces`].
pub fn steps(history: &[Value]) -> Result<Vec<Step>, BadHistory> {
    let mut steps = Vec::with_capacity(history.len());
    let mut held = (0u32, 0u32, String::new());
    for (index, value) in history.iter().enumerate() {
        let bad = |source| BadHistory::Step { index, source };
        if value.get("part").is_none() {
            // Pieces that nothing completed: the process died between them, and its next life started here.
            held = (0, 0, String::new());
            steps.push(Step::deserialize(value).map_err(bad)?);
            continue;
        }
        let part = Part::deserialize(value).map_err(bad)?;
        if part.part == 1 {
            held = (0, part.of, String::new());
        }
        if part.part != held.0 + 1 || part.of != held.1 {
            return Err(BadHistory::Pieces { index });
        }
        held.0 += 1;
        held.2.push_str(&part.text);
        if held.0 == held.1 {
            steps.push(serde_json::from_str(&held.2).map_err(bad)?);
            held = (0, 0, String::new());
        }
    }
    Ok(steps)
}

/// The machine as it stood after the last step of `history`. Step it with [`Step::Resumed`] next.
///
/// # Errors
/// As [`steps`].
pub fn resume(history: &[Value]) -> Result<Machine, BadHistory> {
    let mut machine = Machine::default();
    for step in steps(history)? {
        machine.step(&step);
    }
    Ok(machine)
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
