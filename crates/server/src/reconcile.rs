//! What follows when a host links: its list of runs against ours. Pure; [`crate::link`] carries it out. Read
//! [`reconcile`], then [`again`].
//!
//! No run is left in limbo: every run that is not over is waited for, launched again, left to the person who paused it,
//! or ended with a reason;
//! and no box lives for a run that is over or that nobody here knows.

use api::link::Known;
use model::RunId;
use std::collections::BTreeMap;

/// Boxes that one run may have, one after the other.
pub const MAX_ATTEMPTS: u32 = 3;

/// Launches that one run may have. One that came to no box, because its host was interrupted before, is no attempt at
/// the run's task; but a host that is interrupted by the launch itself must not be asked for ever.
pub const MAX_LAUNCHES: u32 = 10;

/// A run as the server holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The run.
    pub run: RunId,
    /// Whether it is over.
    pub over: bool,
    /// How often it was launched.
    pub launches: u32,
    /// The number of its last box; 0 for none.
    pub boxes: u32,
    /// The last number taken from a host.
    pub operator_seq: u64,
    /// Whether a person asked for its end.
    pub cancel_asked: bool,
    /// Whether a person paused it.
    pub paused: bool,
    /// Whether it is a command that may have been begun: it is never begun again. Matters to [`again`] only.
    pub command_begun: bool,
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
    /// Its box lives, and a person's word did not reach it: have it stand still, or go on.
    Hold {
        /// The run.
        run: RunId,
        /// Whether it is to stand still.
        still: bool,
    },
}

/// What to do about a run that has no box any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Then {
    /// Go on with it, or not: see [`again`].
    Again {
        /// Whether the host has its journal, and so its worktree.
        here: bool,
    },
    /// It failed, for this reason.
    Fail {
        /// Whole sentences.
        reason: String,
    },
    /// The host drops its journal and worktree; the run is over.
    Settle,
}

/// How a run without a box goes on, or ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Launch it.
    Launch {
        /// As this attempt.
        attempt: u32,
    },
    /// Nothing, until a person resumes it.
    Wait,
    /// The host ends it as a person asked; what it changed comes home first.
    Cancel,
    /// The host ends it as failed for this reason; what it changed comes home first.
    Close {
        /// Whole sentences.
        reason: String,
    },
    /// No host has anything of it; it ends as a person asked.
    End,
    /// No host has anything of it; it failed for this reason.
    Fail {
        /// Whole sentences.
        reason: String,
    },
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
        let then = if ours.operator_seq == 0 { Then::Again { here: false } } else { older() };
        steps.push(Step::When { run: run(), seq: 0, then });
        return;
    };
    if known.last_seq < ours.operator_seq {
        steps.push(Step::When { run: run(), seq: 0, then: older() });
        return;
    }
    let behind = known.last_seq > ours.operator_seq;
    if behind {
        steps.push(Step::Resend { run: run(), after: ours.operator_seq });
    }
    if known.live {
        if ours.cancel_asked {
            steps.push(Step::Cancel { run: run() });
        } else if ours.paused != known.still {
            steps.push(Step::Hold { run: run(), still: ours.paused });
        }
    } else if !known.ended {
        steps.push(Step::When { run: run(), seq: known.last_seq, then: Then::Again { here: true } });
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

/// What a host says next would carry numbers that are taken already, and be dropped as known.
fn older() -> Then {
    let reason = "The host's journal of this run is older than what was recorded of it, or gone (was its disk put back \
                  to an earlier state?). Start a new run.";
    Then::Fail { reason: reason.into() }
}

/// What becomes of a run without a box; `ours` as it is once all that its host recorded is here. `here`: the host has
/// its journal.
#[must_use]
pub fn again(ours: &Held, here: bool) -> Next {
    if ours.cancel_asked {
        return if here { Next::Cancel } else { Next::End };
    }
    let reason = if ours.command_begun {
        "The platform was interrupted while the command ran; its outcome is unknown. It is not run again by itself: \
         look at what it did, then start it again."
            .to_owned()
    } else if ours.boxes >= MAX_ATTEMPTS {
        format!(
            "The platform was interrupted in each of {MAX_ATTEMPTS} attempts at this run; it is not tried again by \
             itself. See the host's log, then start a new run."
        )
    } else if ours.launches >= MAX_LAUNCHES {
        format!(
            "The run was launched {MAX_LAUNCHES} times, and its host was interrupted each time, {} of them before it \
             had a box; it is not launched again by itself. See the host's log, then start a new run.",
            MAX_LAUNCHES - ours.boxes
        )
    } else if ours.paused {
        return Next::Wait;
    } else {
        return Next::Launch { attempt: ours.boxes + 1 };
    };
    if here { Next::Close { reason } } else { Next::Fail { reason } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn held() -> Held {
        Held {
            run: "r".parse().unwrap(),
            over: false,
            launches: 1,
            boxes: 1,
            operator_seq: 5,
            cancel_asked: false,
            paused: false,
            command_begun: false,
        }
    }

    fn known(last_seq: u64, live: bool, ended: bool) -> Known {
        Known { run: "r".parse().unwrap(), last_seq, live, ended, still: false }
    }

    fn then(steps: &[Step]) -> Option<(u64, Then)> {
        steps.iter().find_map(|step| match step {
            Step::When { seq, then, .. } => Some((*seq, then.clone())),
            _ => None,
        })
    }

    #[test]
    fn a_run_whose_box_lives_is_left_to_it() {
        let steps =
            |paused, still| reconcile(&[Held { paused, ..held() }], &[Known { still, ..known(5, true, false) }]);
        for still in [false, true] {
            assert_eq!(steps(still, still), []);
            assert_eq!(steps(still, !still), [Step::Hold { run: "r".parse().unwrap(), still }]);
        }
    }

    #[test]
    fn a_paused_run_without_a_box_gets_none_and_can_be_ended() {
        let paused = Held { paused: true, ..held() };
        assert_eq!(again(&paused, true), Next::Wait);
        assert_eq!(again(&Held { cancel_asked: true, ..paused.clone() }, true), Next::Cancel);
        // A command that may have begun is not begun again, paused or not: its person is told now.
        assert!(matches!(again(&Held { command_begun: true, ..paused.clone() }, true), Next::Close { .. }));
        assert!(matches!(again(&Held { boxes: 3, ..paused }, true), Next::Close { .. }));
    }

    #[test]
    fn a_launch_that_never_came_to_a_box_is_the_same_attempt_again() {
        let never = Held { operator_seq: 0, boxes: 0, ..held() };
        assert_eq!(then(&reconcile(std::slice::from_ref(&never), &[])), Some((0, Then::Again { here: false })));
        assert_eq!(again(&never, false), Next::Launch { attempt: 1 });
        assert_eq!(again(&Held { launches: 5, boxes: 1, ..held() }, true), Next::Launch { attempt: 2 });
    }

    #[test]
    fn the_last_attempt_is_the_third() {
        assert_eq!(again(&Held { boxes: 2, ..held() }, true), Next::Launch { attempt: 3 });
        let Next::Close { reason } = again(&Held { boxes: 3, ..held() }, true) else { panic!("a fourth") };
        assert!(reason.contains("in each of 3 attempts"), "{reason}");
    }

    #[test]
    fn the_last_launch_is_the_tenth_however_few_boxes_came_of_them() {
        assert_eq!(again(&Held { launches: 9, boxes: 0, ..held() }, true), Next::Launch { attempt: 1 });
        let Next::Close { reason } = again(&Held { launches: 10, boxes: 1, ..held() }, true) else { panic!("more") };
        assert!(reason.contains("launched 10 times") && reason.contains("9 of them before it had a box"), "{reason}");
        assert!(matches!(again(&Held { launches: 10, boxes: 0, ..held() }, false), Next::Fail { .. }));
    }

    #[test]
    fn who_has_the_worktree_ends_the_run() {
        let asked = Held { cancel_asked: true, ..held() };
        assert_eq!((again(&asked, true), again(&asked, false)), (Next::Cancel, Next::End));
        assert_eq!(then(&reconcile(&[held()], &[known(5, false, false)])), Some((5, Then::Again { here: true })));
    }

    #[test]
    fn a_command_that_may_have_begun_is_not_begun_again() {
        let Next::Close { reason } = again(&Held { command_begun: true, ..held() }, true) else { panic!("again") };
        assert!(reason.contains("outcome is unknown"), "{reason}");
    }

    #[test]
    fn a_host_that_lost_what_was_recorded_does_not_go_on() {
        assert!(matches!(then(&reconcile(&[held()], &[])), Some((0, Then::Fail { .. }))));
    }

    #[test]
    fn a_host_whose_journal_went_back_in_time_does_not_go_on() {
        let steps = reconcile(&[held()], &[known(4, true, false)]);
        assert!(matches!(then(&steps), Some((0, Then::Fail { .. }))), "{steps:?}");
    }

    fn any_held() -> impl Strategy<Value = Held> {
        (0u8..6, any::<bool>(), 0u32..12, 0u32..5, 0u64..4, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
            |(run, over, launches, boxes, operator_seq, cancel_asked, paused, command_begun)| Held {
                run: format!("r{run}").parse().unwrap(),
                over,
                launches,
                boxes,
                operator_seq,
                cancel_asked,
                paused,
                command_begun,
            },
        )
    }

    fn any_known() -> impl Strategy<Value = Known> {
        (0u8..8, 0u64..4, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
            |(run, last_seq, live, ended, still)| Known {
                run: format!("r{run}").parse().unwrap(),
                last_seq,
                live: live && !ended,
                ended,
                still,
            },
        )
    }

    fn of<'a>(steps: &'a [Step], run: &RunId) -> Vec<&'a Step> {
        let about = |step: &&Step| match step {
            Step::Resend { run: r, .. }
            | Step::When { run: r, .. }
            | Step::Cancel { run: r }
            | Step::Hold { run: r, .. } => r == run,
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
                    if let Step::When { seq, then: Then::Again { here }, .. } = step {
                        // Nothing of the host's journal may be missing from the history.
                        prop_assert_eq!(theirs.map(|k| k.last_seq), here.then_some(*seq));
                        let next = again(ours, *here);
                        if let Next::Launch { attempt } = next {
                            prop_assert!((1..=MAX_ATTEMPTS).contains(&attempt));
                            prop_assert!(ours.launches < MAX_LAUNCHES && !ours.cancel_asked && !ours.command_begun);
                            prop_assert!(!ours.paused);
                        }
                        // Where there is a worktree nothing is ended without its host.
                        let without_host = matches!(next, Next::End | Next::Fail { .. });
                        prop_assert!(!(*here && without_host));
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
