//! What an administrator would add to a profile to allow what was refused, written down for each run once.

use super::table::Table;
use model::event::Verdict;
use model::{Event, Moment, RunId};
use policy::egress::{Law, Proposal};
use std::collections::HashSet;
use std::sync::{LazyLock, Mutex, PoisonError};
use store::runs::RunRow;
use store::{StoreError, Tx};

/// Proposals that are remembered so that each is made once; a run that goes on knocking makes no more rows.
const REMEMBERED: usize = 4096;

/// What was made of late, and what is being made.
static MADE: LazyLock<Mutex<HashSet<(RunId, String)>>> = LazyLock::new(Mutex::default);

/// A proposal that is being written down. One that is dropped before that is done was not made, and is made again.
pub struct Made {
    key: (RunId, String),
    recorded: bool,
}

impl Made {
    /// None for one that was made, or is being made.
    fn begin(run: &RunId, toml: &str) -> Option<Self> {
        let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
        if made.len() >= REMEMBERED {
            made.clear();
        }
        let key = (run.clone(), toml.to_owned());
        // Made only when it is one: one that is dropped here would lock what is locked.
        made.insert(key.clone()).then(|| Self { key, recorded: false })
    }

    /// It is committed.
    pub fn recorded(mut self) {
        self.recorded = true;
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if !self.recorded {
            MADE.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        }
    }
}

/// Writes down what an administrator would add to the profile to allow what was refused, where there is such a row and it
/// was not written down for this run before: its place in the transcript, and what is to be told once that is committed.
/// It allows nothing by itself.
///
/// # Errors
/// The store's.
pub fn propose(
    tx: &mut Tx,
    run: &mut RunRow,
    at: Moment,
    refused: &Verdict,
) -> Result<Option<(u64, Made)>, StoreError> {
    let Ok(law) = Law::of(&Table::of(&run.profile)?.egress) else { return Ok(None) };
    let proposal = Proposal::of(&law, &refused.rule, &refused.method, &refused.target);
    let Some(Proposal { toml, opens }) = proposal else { return Ok(None) };
    let Some(made) = Made::begin(&run.run, &toml) else { return Ok(None) };
    let event = Event::Proposed { rule: refused.rule.clone(), profile: run.profile_name.clone(), toml, opens };
    Ok(Some((tx.append_to(run, at, &event)?.n, made)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proposal_is_made_once_and_again_when_it_could_not_be_recorded() {
        let run = RunId::parse("made-once-01").unwrap();
        let first = Made::begin(&run, "a row").unwrap();
        assert!(Made::begin(&run, "a row").is_none(), "it is being made");
        drop(first);
        Made::begin(&run, "a row").unwrap().recorded();
        assert!(Made::begin(&run, "a row").is_none());
        assert!(Made::begin(&run, "another").is_some());
    }
}
