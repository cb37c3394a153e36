//! What follows when a host links: its list of runs against ours. Pure; [`crate::link`] carries it out.
//!
//! No run is left in limbo: every run that is not over is waited for, launched again, or ended with a reason;
//! and no box lives for a run that is over or that nobody here knows.

use api::link::Known;
use model::RunId;
use model::run::RunKind;
use std::collections::BTreeMap;

/// Boxes that one run may have, one after the other.
pub const MAX_ATTEMPTS: u32 = 3;

/// A run as the server holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The run.
    pub run: RunId,
    /// What it does.
    pub kind: RunKind,
    /// Whether it is over.
    pub over: bool,
    /// The last attempt that was asked for; 0 for none.
    pub launches: u32,
    /// The last number taken from a host.
    pub operator_seq: u64,
    /// Whether a person asked for its end.
    pub cancel_asked: bool,
}

/// What to do about one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Ask for the events after `after`.
    Resend {
        /// The run.
        run: RunId,
        /// The last number that is here.
        after: u64,
    },
    /// Do `then`, once events up to `seq` are here.
    When {
        /// The run.
        run: RunId,
        /// The last number in the host's journal; nothing is missing when it is 0.
        seq: u64,
        /// What then.
        then: Then,
    },
    /// End its box.
    Cancel {
        /// The run.
        run: RunId,
    },
    /// Drop its journal and worktree.
    Settle {
        /// The run.
        run: RunId,
    },
}

/// What to do about a run that has no box any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Then {
    /// Launch it.
    Launch {
        /// As this attempt.
        attempt: u32,
    },
    /// It failed, for this reason.
    Fail {
        /// Whole sentences.
        reason: String,
    },
    /// It ends as a person asked.
    End,
}

/// The steps, run by run.
#[must_use]
pub fn reconcile(held: &[Held], known: &[Known]) -> Vec<Step> {
    let known: BTreeMap<&RunId, &Known> = known.iter().map(|k| (&k.run, k)).collect();
    let mut steps = Vec::new();
    for ours in held {
        one(ours, known.get(&ours.run).copied(), &mut steps);
    }
    for k in known.values().filter(|k| k.live && !held.iter().any(|ours| ours.run == k.run)) {
        // Nobody here knows it: its box goes, its journal stays for whoever does.
        steps.push(Step::Cancel { run: k.run.clone() });
    }
    steps
}

fn one(ours: &Held, known: Option<&Known>, steps: &mut Vec<Step>) {
    let run = || ours.run.clone();
    if ours.over {
        if let Some(known) = known {
            if known.live {
                steps.push(Step::Cancel { run: run() });
            }
            steps.push(Step::Settle { run: run() });
        }
        return;
    }
    let Some(known) = known else {
        steps.push(Step::When { run: run(), seq: 0, then: again(ours, ours.operator_seq > 0) });
        return;
    };
    if known.last_seq < ours.operator_seq {
        // What the host says next would carry numbers that are taken already, and be dropped as known.
        let reason = "The host's journal of this run is older than what was recorded of it (was its disk put back \
                      to an earlier state?). Start a new run.";
        steps.push(Step::When { run: run(), seq: 0, then: Then::Fail { reason: reason.into() } });
        return;
    }
    let behind = known.last_seq > ours.operator_seq;
    if behind {
        steps.push(Step::Resend { run: run(), after: ours.operator_seq });
    }
    if known.live {
        if ours.cancel_asked {
            steps.push(Step::Cancel { run: run() });
        }
    } else if !known.ended {
        steps.push(Step::When { run: run(), seq: known.last_seq, then: again(ours, known.last_seq > 0) });
    } else if !behind {
        let reason = "The host says that the run is over, in words that could not be read. Start a new run.";
        steps.push(Step::When { run: run(), seq: 0, then: Then::Fail { reason: reason.into() } });
    }
}

/// What becomes of a run without a box. `began`: something of it happened already.
fn again(ours: &Held, began: bool) -> Then {
    if ours.cancel_asked {
        return Then::End;
    }
    if !began {
        // Nothing takes effect on a host before it is in the journal, so this attempt never was.
        return Then::Launch { attempt: ours.launches.max(1) };
    }
    if ours.kind == RunKind::Exec {
        let reason = "The platform was interrupted while the command ran; its outcome is unknown. It is not run again \
                      by itself: look at what it did, then start it again.";
        return Then::Fail { reason: reason.into() };
    }
    if ours.launches >= MAX_ATTEMPTS {
        let reason = format!(
            "The platform was interrupted in each of {MAX_ATTEMPTS} attempts at this run; it is not tried again by \
             itself. See the host's log, then start a new run."
        );
        return Then::Fail { reason };
    }
    Then::Launch { attempt: ours.launches.max(1) + 1 }
}
