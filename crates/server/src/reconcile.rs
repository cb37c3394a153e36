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
    /// The host drops its journal and worktree; the run is over.
    Settle,
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
            settle(ours, known, steps);
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

/// A run that is over, on a host that still has it: what its journal holds comes first, for it happened.
fn settle(ours: &Held, known: &Known, steps: &mut Vec<Step>) {
    let run = || ours.run.clone();
    if known.last_seq > ours.operator_seq {
        steps.push(Step::Resend { run: run(), after: ours.operator_seq });
    }
    if known.live {
        // Its end is the last event of its journal, and is answered with the word to settle.
        steps.push(Step::Cancel { run: run() });
    } else {
        steps.push(Step::When { run: run(), seq: known.last_seq, then: Then::Settle });
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn held() -> Held {
        Held {
            run: "r".parse().unwrap(),
            kind: RunKind::Agent,
            over: false,
            launches: 1,
            operator_seq: 5,
            cancel_asked: false,
        }
    }

    fn known(last_seq: u64, live: bool, ended: bool) -> Known {
        Known { run: "r".parse().unwrap(), last_seq, live, ended }
    }

    fn then(steps: &[Step]) -> Option<(u64, Then)> {
        steps.iter().find_map(|step| match step {
            Step::When { seq, then, .. } => Some((*seq, then.clone())),
            _ => None,
        })
    }

    #[test]
    fn a_run_whose_box_lives_is_left_to_it() {
        assert_eq!(reconcile(&[held()], &[known(5, true, false)]), []);
    }

    #[test]
    fn a_launch_that_never_arrived_is_the_same_attempt_again() {
        let never = Held { operator_seq: 0, ..held() };
        assert_eq!(then(&reconcile(&[never], &[])), Some((0, Then::Launch { attempt: 1 })));
    }

    #[test]
    fn the_last_attempt_is_the_third() {
        for (launches, expected) in [(2, true), (3, false)] {
            let steps = reconcile(&[Held { launches, ..held() }], &[known(5, false, false)]);
            let again = matches!(then(&steps), Some((5, Then::Launch { attempt: 3 })));
            assert_eq!(again, expected, "{steps:?}");
        }
    }

    #[test]
    fn a_command_that_began_is_failed_and_one_that_did_not_is_launched() {
        let exec = Held { kind: RunKind::Exec, operator_seq: 0, ..held() };
        let began = reconcile(std::slice::from_ref(&exec), &[known(1, false, false)]);
        assert!(matches!(then(&began), Some((1, Then::Fail { .. }))));
        let not = reconcile(&[exec], &[known(0, false, false)]);
        assert_eq!(then(&not), Some((0, Then::Launch { attempt: 1 })));
    }

    #[test]
    fn a_host_whose_journal_went_back_in_time_does_not_go_on() {
        let steps = reconcile(&[held()], &[known(4, true, false)]);
        assert!(matches!(then(&steps), Some((0, Then::Fail { .. }))), "{steps:?}");
    }

    fn any_held() -> impl Strategy<Value = Held> {
        (0u8..6, any::<bool>(), any::<bool>(), 0u32..5, 0u64..4, any::<bool>()).prop_map(
            |(run, exec, over, launches, operator_seq, cancel_asked)| Held {
                run: format!("r{run}").parse().unwrap(),
                kind: if exec { RunKind::Exec } else { RunKind::Agent },
                over,
                launches,
                operator_seq,
                cancel_asked,
            },
        )
    }

    fn any_known() -> impl Strategy<Value = Known> {
        (0u8..8, 0u64..4, any::<bool>(), any::<bool>()).prop_map(|(run, last_seq, live, ended)| Known {
            run: format!("r{run}").parse().unwrap(),
            last_seq,
            live: live && !ended,
            ended,
        })
    }

    fn of<'a>(steps: &'a [Step], run: &RunId) -> Vec<&'a Step> {
        let about = |step: &&Step| match step {
            Step::Resend { run: r, .. } | Step::When { run: r, .. } | Step::Cancel { run: r } => r == run,
        };
        steps.iter().filter(about).collect()
    }

    proptest! {
        #[test]
        fn no_run_is_left_in_limbo_and_no_box_without_a_run(
            held in prop::collection::btree_map(0u8..6, any_held(), 0..6),
            known in prop::collection::btree_map(0u8..8, any_known(), 0..8),
        ) {
            let held: Vec<Held> =
                held.into_iter().map(|(k, h)| Held { run: format!("r{k}").parse().unwrap(), ..h }).collect();
            let known: Vec<Known> =
                known.into_iter().map(|(k, n)| Known { run: format!("r{k}").parse().unwrap(), ..n }).collect();
            let steps = reconcile(&held, &known);
            for ours in &held {
                let steps = of(&steps, &ours.run);
                let theirs = known.iter().find(|k| k.run == ours.run);
                let decided = steps.iter().filter(|step| matches!(step, Step::When { .. })).count();
                if ours.over {
                    // Never launched again; no box of it lives on; forgotten by a host that has it, once all that its
                    // journal holds is here.
                    let forgotten = Step::When {
                        run: ours.run.clone(),
                        seq: theirs.map_or(0, |k| k.last_seq),
                        then: Then::Settle,
                    };
                    let ended = Step::Cancel { run: ours.run.clone() };
                    let live = theirs.is_some_and(|k| k.live);
                    prop_assert_eq!(decided, usize::from(theirs.is_some() && !live));
                    prop_assert_eq!(steps.contains(&&forgotten), theirs.is_some() && !live);
                    prop_assert_eq!(steps.contains(&&ended), live);
                    prop_assert_eq!(
                        steps.iter().any(|s| matches!(s, Step::Resend { .. })),
                        theirs.is_some_and(|k| k.last_seq > ours.operator_seq)
                    );
                } else {
                    // It has a box, or its end is on the way, or something is decided: exactly one of them.
                    let lives = theirs.is_some_and(|k| k.live && k.last_seq >= ours.operator_seq);
                    let ending = theirs.is_some_and(|k| k.ended && k.last_seq > ours.operator_seq);
                    prop_assert_eq!(usize::from(lives) + usize::from(ending) + decided, 1);
                    let settled = |s: &&Step| matches!(s, Step::When { then: Then::Settle, .. });
                    prop_assert!(!steps.iter().any(settled), "settled too early");
                }
                for step in steps {
                    if let Step::When { seq, then: Then::Launch { attempt }, .. } = step {
                        prop_assert!((1..=MAX_ATTEMPTS.max(ours.launches)).contains(attempt));
                        prop_assert!(!ours.cancel_asked);
                        // Nothing of the host's journal may be missing from the history.
                        prop_assert!(theirs.is_none_or(|k| *seq == k.last_seq));
                        if ours.kind == RunKind::Exec {
                            prop_assert!(ours.operator_seq == 0 && theirs.is_none_or(|k| k.last_seq == 0));
                        }
                    }
                }
            }
            for k in known.iter().filter(|k| !held.iter().any(|h| h.run == k.run)) {
                let expected = if k.live { vec![Step::Cancel { run: k.run.clone() }] } else { vec![] };
                prop_assert_eq!(of(&steps, &k.run), expected.iter().collect::<Vec<_>>());
            }
        }
    }
}
