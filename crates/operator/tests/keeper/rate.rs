//! A box that says more than it may: in a second, and in all.

use super::{DONE, chunks, end};
use crate::support::*;
use api::inbox::{Kind, ToRunner};
use model::Outcome;
use operator::journal::MAX_JOURNAL;

/// So often it says so much more than its rate, until it is told that it was held up.
const TRIES: usize = 1000;

#[tokio::test(flavor = "current_thread")]
async fn a_box_that_says_more_than_its_profile_lets_it_is_held_up_and_told_for_how_long() {
    let stage = Stage::new();
    let _gateway = stage.gateway().await;
    let (told, said) = std::sync::mpsc::channel();
    stage.play(move |mut runner| {
        runner.hello();
        runner.order();
        let mut held = (0, 0);
        for n in 0..TRIES {
            (0..16).for_each(|_| runner.chunk(&"x".repeat(1024)));
            runner.frame(Kind::Ask, "");
            let Some(ToRunner::Met { counts, .. }) = runner.order() else { panic!("an answer was due") };
            held = (16 * (n + 1), counts.held_ms);
            if held.1 > 0 {
                break;
            }
        }
        told.send(held).unwrap();
        runner.done(DONE, false, "");
    });
    let mut launch = exec();
    launch.profile.limits.output_kib_per_second = 16;
    stage.launch(launch);
    let events = stage.events().await;
    let (kib, held_ms) = said.recv().unwrap();
    assert!(held_ms > 0, "{kib} KiB were said at once and it was never held up");
    assert!(kib > 16 * 4 - 16, "held up after {kib} KiB, of which it may say four seconds' at once");
    // Held up, not cut: all of it is there.
    assert_eq!(chunks(&events).len(), kib);
    assert_eq!(end(&events).0, Outcome::Done);
}

#[tokio::test(flavor = "current_thread")]
async fn a_box_that_fills_its_runs_journal_is_ended_and_an_execs_is_twice_its_output_if_that_is_more() {
    assert_eq!(MAX_JOURNAL, 256 << 20);
    // What it may fill, as it is said, and how much of it a journal may exceed that by: what is kept together, at most.
    for (launch, mib) in [(agent(None), 1), (with_output(exec(), 1), 2), (with_output(exec(), 3), 6)] {
        let stage = Stage::whose_box_says(1 << 20);
        let _gateway = stage.gateway().await;
        stage.play(|mut runner| {
            runner.hello();
            runner.order();
            (0..8 * 1024).for_each(|_| runner.chunk(&"x".repeat(1024)));
            runner.done(DONE, false, "");
        });
        stage.launch(launch);
        let run = stage.over().await;
        let (outcome, reason, _) = end(&events(&run));
        assert_eq!(outcome, Outcome::Failed);
        assert!(reason.contains(&format!("the box said more than {mib} MiB")), "{reason}");
        let filled = run.durable();
        assert!(filled > mib << 20 && filled < (mib << 20) + (256 << 10), "{filled} bytes of {mib} MiB");
    }
}

fn with_output(mut launch: api::link::Launch, mib: u64) -> api::link::Launch {
    launch.profile.limits.output_mib = mib;
    launch
}
