//! A run that a person pauses.

use super::{DONE, chunks, end};
use crate::support::*;
use api::inbox::ToRunner;
use api::link::Down;
use model::event::Event;
use model::{Outcome, RunState};
use std::time::Duration;
use tokio::sync::oneshot;

/// The run's events, once one of them is as looked for.
async fn once(stage: &Stage, is: impl Fn(&Event) -> bool) -> Vec<Event> {
    loop {
        let all = stage.runs.get(&id()).map(|run| events(&run)).unwrap_or_default();
        if all.iter().any(&is) {
            return all;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// An exec that has one second, and a host that gives it thirty more.
fn short() -> api::link::Launch {
    let mut launch = exec();
    launch.profile.limits.seconds = 1;
    launch
}

#[tokio::test(flavor = "current_thread")]
async fn a_paused_box_stands_still_beyond_its_time_and_goes_on_by_a_clock_that_stood_too() {
    let stage = Stage::new();
    let _gateway = stage.gateway().await;
    let (working, began) = oneshot::channel();
    let (told, said) = std::sync::mpsc::channel();
    stage.play(move |mut runner| {
        runner.hello();
        runner.order();
        working.send(()).unwrap();
        told.send(runner.order()).unwrap();
        runner.chunk("on");
        runner.done(DONE, false, "");
    });
    stage.launch(short());
    began.await.unwrap();
    stage.keeper_order(Down::Pause { run: id() });
    once(&stage, |event| *event == Event::Froze).await;
    pass(Duration::from_secs(3600)).await;
    // Told twice, as after a cut of the link, it stands once.
    stage.keeper_order(Down::Pause { run: id() });
    stage.keeper_order(Down::Resume { run: id() });
    let events = stage.events().await;
    assert_eq!(chunks(&events), ["on"]);
    assert_eq!(end(&events).0, Outcome::Done, "{events:?}");
    let stood = events.iter().find_map(|e| if let Event::Thawed { stood_ms } = e { Some(*stood_ms) } else { None });
    assert!(stood.is_some_and(|ms| ms >= 3_600_000), "{events:?}");
    let Some(ToRunner::Met { asked: 0, counts }) = said.recv().unwrap() else { panic!("the runner was not told") };
    assert!(counts.stood_ms >= 3_600_000, "{counts:?}");
    assert_eq!(*stage.engine.acts.lock().unwrap(), ["pause", "resume", "kill"]);
}

#[tokio::test(flavor = "current_thread")]
async fn a_run_that_is_cancelled_while_it_is_paused_ends_where_it_stands() {
    let stage = Stage::new();
    let _gateway = stage.gateway().await;
    let (working, began) = oneshot::channel();
    stage.play(move |mut runner| {
        runner.hello();
        runner.order();
        working.send(()).unwrap();
        while runner.order().is_some() {}
    });
    stage.launch(exec());
    began.await.unwrap();
    stage.keeper_order(Down::Pause { run: id() });
    once(&stage, |event| *event == Event::Froze).await;
    stage.keeper_cancel();
    let (outcome, reason, _) = end(&stage.events().await);
    assert_eq!((outcome, reason.as_str()), (Outcome::Cancelled, "cancelled while it was paused"));
    // It was killed as it was, without another move.
    assert_eq!(*stage.engine.acts.lock().unwrap(), ["pause", "kill"]);
}

#[tokio::test(flavor = "current_thread")]
async fn a_box_that_does_not_stand_still_is_asked_to_again_and_a_pause_before_it_is_made_holds() {
    let stage = Stage::new();
    *stage.engine.unruly.lock().unwrap() = 1;
    stage.play(move |mut runner| {
        runner.hello();
        while runner.order().is_some() {}
    });
    stage.launch(exec());
    stage.keeper_order(Down::Pause { run: id() });
    let _gateway = stage.gateway().await;
    once(&stage, |event| matches!(event, Event::Note { text } if text.contains("does not stand still yet"))).await;
    pass(Duration::from_secs(6)).await;
    once(&stage, |event| *event == Event::Froze).await;
    stage.keeper_cancel();
    assert_eq!(end(&stage.events().await).0, Outcome::Cancelled);
}

#[tokio::test(flavor = "current_thread")]
async fn a_run_whose_box_is_gone_is_told_of_anew_when_it_is_to_go_on() {
    let stage = Stage::new();
    let gateway = stage.gateway().await;
    let (working, began) = oneshot::channel();
    stage.play(move |mut runner| {
        runner.hello();
        runner.order();
        working.send(()).unwrap();
        while runner.order().is_some() {}
    });
    stage.launch(agent(None));
    began.await.unwrap();
    stage.keeper_order(Down::Pause { run: id() });
    once(&stage, |event| *event == Event::Froze).await;
    // A box without a gateway is ended, paused or not.
    let mut stale = stage.runs.stale.subscribe();
    gateway.kill();
    stale.changed().await.unwrap();
    let run = stage.over().await;
    assert!(!run.ended(), "{:?}", events(&run));
    // To stand still it does already.
    stage.keeper_order(Down::Pause { run: id() });
    assert!(!stale.has_changed().unwrap());
    stage.keeper_order(Down::Resume { run: id() });
    assert!(stale.has_changed().unwrap());
}

#[test]
fn a_run_is_paused_from_a_persons_word_until_their_next() {
    let resumed = |queued| Event::Resumed { person: "a".into(), queued };
    let paused = Event::Paused { person: "a".into() };
    let attempt = Event::Attempt { attempt: 1, box_id: model::BoxId::parse("b").unwrap(), uid: 7 };
    for (before, event, after) in [
        (RunState::Queued, &paused, RunState::Paused),
        (RunState::Running, &paused, RunState::Paused),
        (RunState::Done, &paused, RunState::Done),
        (RunState::Paused, &attempt, RunState::Paused),
        (RunState::Paused, &Event::Froze, RunState::Paused),
        (RunState::Running, &Event::Froze, RunState::Running),
        (RunState::Paused, &resumed(true), RunState::Queued),
        (RunState::Paused, &resumed(false), RunState::Running),
        (RunState::Failed, &resumed(false), RunState::Failed),
    ] {
        assert_eq!(before.after(event), after, "{before:?} {event:?}");
    }
}
