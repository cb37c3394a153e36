//! One run from launch to end, with every way it can break.

mod clone;
mod home;
mod images;
mod paused;
mod rate;
mod support;

use api::inbox::{Kind, ToRunner};
use api::link::Down;
use model::event::{Event, Exit};
use model::{Outcome, RunState};
use std::net::TcpStream;
use std::process::Command;
use support::*;

const DONE: Exit = Exit::Code { code: 0 };

/// Outcome, reason and exit of the last event.
fn end(events: &[Event]) -> (Outcome, String, Option<Exit>) {
    match events.last() {
        Some(Event::Ended { outcome, reason, exit }) => (*outcome, reason.clone(), exit.clone()),
        other => panic!("not an end: {other:?}"),
    }
}

fn chunks(events: &[Event]) -> Vec<&str> {
    events.iter().filter_map(|e| if let Event::Chunk { text, .. } = e { Some(text.as_str()) } else { None }).collect()
}

#[tokio::test(flavor = "current_thread")]
async fn what_a_box_says_is_scrubbed_and_kept_in_order_between_its_walls_and_its_end() {
    let stage = Stage::new();
    let gateway = stage.gateway().await;
    stage.play(|mut runner| {
        runner.hello();
        assert!(matches!(runner.order(), Some(ToRunner::Exec { argv, .. }) if argv == ["true"]));
        for n in 0..300 {
            runner.chunk(&format!("{n} {KEY}"));
        }
        runner.done(DONE, false, "");
    });
    stage.launch(exec());
    let events = stage.events().await;
    assert!(matches!(&events[0], Event::Attempt { attempt: 1, uid: 7, .. }));
    assert!(matches!(&events[1], Event::Walls { readings } if readings.len() == 2));
    let expected: Vec<String> = (0..300).map(|n| format!("{n} [scrubbed]")).collect();
    assert_eq!(chunks(&events), expected);
    assert_eq!(end(&events), (Outcome::Done, String::new(), Some(DONE)));
    assert_eq!(gateway.kill(), ["attach r1 1", "detach r1"]);
}

#[tokio::test(flavor = "current_thread")]
async fn a_command_that_fails_is_a_run_that_failed_with_its_exit() {
    let stage = Stage::new();
    let _gateway = stage.gateway().await;
    stage.play(|mut runner| {
        runner.hello();
        runner.order();
        runner.done(Exit::Code { code: 3 }, false, "");
    });
    stage.launch(exec());
    let (outcome, reason, exit) = end(&stage.events().await);
    assert_eq!((outcome, exit), (Outcome::Failed, Some(Exit::Code { code: 3 })));
    assert!(reason.contains("status 3"), "{reason}");
}

#[tokio::test(flavor = "current_thread")]
async fn a_wall_that_does_not_hold_ends_the_box_before_its_task() {
    let stage = Stage::new();
    let _gateway = stage.gateway().await;
    *stage.engine.wall_off.lock().unwrap() = true;
    let (told, orders) = std::sync::mpsc::channel();
    stage.play(move |mut runner| {
        runner.hello();
        told.send(runner.order()).unwrap();
    });
    stage.launch(exec());
    let (outcome, reason, _) = end(&stage.events().await);
    assert_eq!(outcome, Outcome::Failed);
    assert!(reason.contains("landlock") && !reason.contains("seccomp"), "{reason}");
    assert_eq!(orders.recv().unwrap(), None);
    assert_eq!(*stage.engine.alive.lock().unwrap(), 0);
}

#[tokio::test(flavor = "current_thread")]
async fn a_box_that_dies_while_its_walls_are_read_costs_the_attempt_and_not_the_run() {
    let stage = Stage::new();
    let _gateway = stage.gateway().await;
    *stage.engine.wall_off.lock().unwrap() = true;
    // Ten seconds later, as on a machine that is very busy.
    *stage.engine.dead.lock().unwrap() = Some(199);
    stage.play(|mut runner| runner.hello());
    let mut stale = stage.runs.stale.subscribe();
    stage.launch(agent(None));
    stale.changed().await.unwrap();
    let events = stage.events().await;
    assert!(
        matches!(events.last(), Some(Event::BrokenOff { reason, .. }) if reason.contains("while its walls were read")),
        "{events:?}"
    );
    assert!(!events.iter().any(|event| matches!(event, Event::Walls { .. } | Event::Ended { .. })), "{events:?}");
}

#[tokio::test(flavor = "current_thread")]
async fn a_box_that_claims_an_end_is_killed_and_its_claim_not_kept() {
    let stage = Stage::new();
    let _gateway = stage.gateway().await;
    stage.play(|mut runner| {
        runner.hello();
        runner.order();
        runner.chunk("before");
        runner.frame(Kind::Event, r#"{"kind":"ended","outcome":"done"}"#);
        runner.chunk("after");
        runner.order();
    });
    stage.launch(agent(None));
    let events = stage.events().await;
    assert_eq!(chunks(&events), ["before"]);
    let (outcome, reason, _) = end(&events);
    assert_eq!(outcome, Outcome::Failed);
    assert!(reason.contains("\"ended\", which is not for a box to say"), "{reason}");
}

#[tokio::test(flavor = "current_thread")]
async fn when_the_gateway_dies_the_door_is_shut_and_an_agents_run_waits_for_its_next_attempt() {
    let stage = Stage::new();
    let gateway = stage.gateway().await;
    let (working, began) = tokio::sync::oneshot::channel();
    stage.play(|mut runner| {
        runner.hello();
        runner.order();
        working.send(()).unwrap();
        runner.order();
        runner.chunk("too late, unscrubbed");
    });
    let mut stale = stage.runs.stale.subscribe();
    stage.launch(agent(None));
    began.await.unwrap();
    let door = stage.engine.doors.lock().unwrap()[0];
    assert!(TcpStream::connect(door).is_ok());
    gateway.kill();
    stale.changed().await.unwrap();
    let events = stage.events().await;
    assert!(TcpStream::connect(door).is_err(), "the door is open without a gateway");
    assert!(
        matches!(events.last(), Some(Event::BrokenOff { attempt: 1, reason }) if reason.contains("gateway ended")),
        "{events:?}"
    );
    assert!(chunks(&events).is_empty());
    let known = stage.over().await.known();
    assert!(!known.live && !known.ended);

    // The next attempt waits for the next gateway, and goes on.
    stage.play(|mut runner| {
        runner.hello();
        runner.order();
        runner.done(DONE, true, "");
    });
    stage.launch(api::link::Launch { attempt: 2, ..agent(None) });
    let _gateway = stage.gateway().await;
    while !stage.over().await.ended() {
        tokio::task::yield_now().await;
    }
    assert_eq!(end(&stage.events().await).0, Outcome::Done);
}

#[tokio::test(flavor = "current_thread")]
async fn a_command_cut_off_by_the_gateways_death_is_unknown_and_not_repeated() {
    let stage = Stage::new();
    let gateway = stage.gateway().await;
    let (working, began) = tokio::sync::oneshot::channel();
    stage.play(|mut runner| {
        runner.hello();
        runner.order();
        working.send(()).unwrap();
        runner.order();
    });
    stage.launch(exec());
    began.await.unwrap();
    gateway.kill();
    let (outcome, reason, exit) = end(&stage.events().await);
    assert_eq!((outcome, exit), (Outcome::Failed, Some(Exit::Unknown)));
    assert!(reason.contains("may have finished, or not"), "{reason}");
}

#[tokio::test(flavor = "current_thread")]
async fn a_box_ended_by_a_limit_is_a_failure_that_names_it() {
    let stage = Stage::new();
    let _gateway = stage.gateway().await;
    *stage.engine.why.lock().unwrap() = Some("killed: memory limit 2048 MiB".into());
    stage.play(|mut runner| {
        runner.hello();
        runner.order();
        runner.die();
    });
    stage.launch(agent(None));
    let why = "killed: memory limit 2048 MiB".to_owned();
    assert_eq!(end(&stage.events().await), (Outcome::Failed, why.clone(), Some(Exit::Killed { why })));
}

#[tokio::test(flavor = "current_thread")]
async fn what_a_box_said_before_it_was_ended_for_going_on_at_its_memory_limit_is_kept() {
    let stage = Stage::new();
    let _gateway = stage.gateway().await;
    *stage.engine.storm.lock().unwrap() = true;
    stage.play(|mut runner| {
        runner.hello();
        while runner.order().is_some() {}
    });
    stage.launch(agent(None));
    let events = stage.events().await;
    let (outcome, reason, _) = end(&events);
    assert!(outcome == Outcome::Failed && reason.starts_with("killed: memory limit"), "{reason}");
    let looked_at = usize::try_from(*stage.engine.looked_at.lock().unwrap()).unwrap();
    assert_eq!(chunks(&events).len(), looked_at * OF_A_LOOK);
}

#[tokio::test(flavor = "current_thread")]
async fn a_fault_of_ours_in_an_attempt_ends_the_attempt_and_not_the_run() {
    let stage = Stage::new();
    let _gateway = stage.gateway().await;
    *stage.engine.faulty.lock().unwrap() = true;
    let mut stale = stage.runs.stale.subscribe();
    stage.launch(agent(None));
    stale.changed().await.unwrap();
    let events = stage.events().await;
    let Some(Event::BrokenOff { attempt: 1, reason }) = events.last() else { panic!("{events:?}") };
    assert!(reason.starts_with("the operator failed"), "{reason}");

    *stage.engine.faulty.lock().unwrap() = false;
    stage.play(|mut runner| {
        runner.hello();
        runner.order();
        runner.done(DONE, true, "");
    });
    stage.launch(api::link::Launch { attempt: 2, ..agent(None) });
    loop {
        let events = stage.events().await;
        if matches!(events.last(), Some(Event::Ended { .. })) {
            assert_eq!(end(&events).0, Outcome::Done);
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_box_that_dies_without_a_reason_leaves_its_scrubbed_last_words_and_another_attempt() {
    for before_hello in [true, false] {
        let stage = Stage::new();
        let _gateway = stage.gateway().await;
        stage.play(move |mut runner| {
            if !before_hello {
                runner.hello();
                runner.order();
            }
            runner.die();
        });
        let mut stale = stage.runs.stale.subscribe();
        stage.launch(agent(None));
        stale.changed().await.unwrap();
        let events = stage.events().await;
        let Some(Event::BrokenOff { reason, .. }) = events.last() else { panic!("{events:?}") };
        assert!(reason.ends_with("last words: last words with [scrubbed]"), "{reason}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_cancel_lets_the_runner_end_in_order() {
    let stage = Stage::new();
    let _gateway = stage.gateway().await;
    let (working, began) = tokio::sync::oneshot::channel();
    stage.play(|mut runner| {
        runner.hello();
        runner.order();
        working.send(()).unwrap();
        assert_eq!(runner.order(), Some(ToRunner::Cancel));
        runner.chunk("goodbye");
        runner.done(Exit::Signal { signal: 15 }, false, "");
    });
    stage.launch(agent(None));
    began.await.unwrap();
    stage.keeper_cancel();
    let events = stage.events().await;
    assert_eq!(chunks(&events), ["goodbye"]);
    assert_eq!(end(&events), (Outcome::Cancelled, "cancelled".into(), Some(Exit::Signal { signal: 15 })));
}

#[tokio::test(flavor = "current_thread")]
async fn a_runner_that_does_not_obey_a_cancel_is_killed() {
    let stage = Stage::new();
    let _gateway = stage.gateway().await;
    let (working, began) = tokio::sync::oneshot::channel();
    stage.play(|mut runner| {
        runner.hello();
        runner.order();
        working.send(()).unwrap();
        while runner.order().is_some() {}
    });
    stage.launch(exec());
    began.await.unwrap();
    stage.keeper_cancel();
    assert_eq!(end(&stage.events().await).0, Outcome::Cancelled);
    assert_eq!(*stage.engine.alive.lock().unwrap(), 0);
}

#[tokio::test(flavor = "current_thread")]
async fn a_cancel_before_there_is_a_gateway_needs_no_box() {
    let stage = Stage::new();
    stage.launch(exec());
    stage.keeper_cancel();
    assert_eq!(end(&stage.events().await).0, Outcome::Cancelled);
    assert!(stage.engine.plans.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "current_thread")]
async fn an_execs_input_reaches_it_in_order_also_what_came_before_the_box() {
    let stage = Stage::new();
    let (told, orders) = std::sync::mpsc::channel();
    stage.play(move |mut runner| {
        runner.hello();
        for _ in 0..4 {
            told.send(runner.order().unwrap()).unwrap();
        }
        runner.done(DONE, false, "");
    });
    stage.launch(exec());
    let input = |data: &str, end| stage.keeper_input(data, end);
    input("YQ==", false);
    input("Yg==", true);
    let _gateway = stage.gateway().await;
    assert_eq!(end(&stage.events().await).0, Outcome::Done);
    let orders: Vec<ToRunner> = orders.iter().skip(1).collect();
    let data = |text: &str| ToRunner::Input { data_b64: text.into() };
    assert_eq!(orders, [data("YQ=="), data("Yg=="), ToRunner::InputEnd]);
}

#[tokio::test(flavor = "current_thread")]
async fn an_agents_work_becomes_a_branch_and_a_scrubbed_diff() {
    let stage = Stage::new();
    let _gateway = stage.gateway().await;
    let repo = stage.repo("echo dirty > b");
    *stage.engine.changes.lock().unwrap() = vec![(b"a".to_vec(), format!("two {KEY}\n"))];
    let (told, task) = std::sync::mpsc::channel();
    stage.play(move |mut runner| {
        runner.hello();
        told.send(runner.order().unwrap()).unwrap();
        runner.done(DONE, true, "");
    });
    stage.launch(agent(Some(repo.clone())));
    let events = stage.events().await;
    assert_eq!(end(&events), (Outcome::Done, String::new(), Some(DONE)));
    assert!(matches!(&events[0], Event::Base { left_out, left_out_count: 1, .. } if left_out == &["b"]));
    let result = &events[events.len() - 2];
    let Event::Result { branch, files: 1, diff, diff_cut: false, .. } = result else { panic!("{result:?}") };
    assert_eq!(branch.as_deref(), Some("volary/r1"));
    assert!(diff.contains("-one\n+two [scrubbed]\n"), "{diff}");
    let lower = stage.engine.plans.lock().unwrap()[0].lower.clone().unwrap();
    assert_eq!(std::fs::read_to_string(lower.join("a")).unwrap(), "one\n");
    let ToRunner::Agent(task) = task.recv().unwrap() else { panic!("no task") };
    // And the one by which its commands' leases are asked for.
    assert_eq!((task.handle.as_str(), task.tools.len()), ("handle-of-r1", model::profile::TOOLS.len() + 1));
    // The handle is nowhere on the disk.
    let grep = Command::new("grep").args(["-r", "handle-of-r1"]).arg(stage.dir.path()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&grep.stdout), "");
}

#[tokio::test(flavor = "current_thread")]
async fn changes_that_cannot_be_imported_outlive_the_run_and_its_end_says_where_they_are() {
    let stage = Stage::new();
    let _gateway = stage.gateway().await;
    let repo = stage.repo("git rev-parse HEAD > ../base");
    let base = std::fs::read_to_string(stage.dir.path().join("base")).unwrap();
    *stage.engine.changes.lock().unwrap() = vec![(b"a".to_vec(), "two\n".into())];
    let moved = repo.clone();
    stage.play(move |mut runner| {
        runner.hello();
        runner.order();
        std::fs::rename(&moved, moved.with_file_name("elsewhere")).unwrap();
        runner.done(DONE, true, "");
    });
    stage.launch(agent(Some(repo.clone())));
    let (outcome, reason, _) = end(&stage.events().await);
    assert_eq!(outcome, Outcome::Failed);
    let kept = stage.dir.path().join("kept/r1.img");
    assert!(reason.contains(&format!("{} is not there", repo.display())), "{reason}");
    assert!(reason.contains(&format!("`mount -o loop,ro,nosuid,nodev {} /mnt`", kept.display())), "{reason}");
    assert!(reason.contains(&format!("over commit {};", base.trim())), "{reason}");
    stage.settle().await;
    assert_eq!(std::fs::read_to_string(&kept).unwrap(), "an image");
    assert_eq!(std::fs::read_to_string(kept.with_extension("uid")).unwrap(), "7");
}

#[tokio::test(flavor = "current_thread")]
async fn changes_of_an_earlier_attempt_are_kept_when_the_next_one_finds_no_repository() {
    let stage = Stage::new();
    let _gateway = stage.gateway().await;
    let repo = stage.repo("true");
    stage.play(|mut runner| {
        runner.hello();
        runner.order();
        runner.die();
    });
    let mut stale = stage.runs.stale.subscribe();
    stage.launch(agent(Some(repo.clone())));
    stale.changed().await.unwrap();
    std::fs::rename(&repo, repo.with_file_name("elsewhere")).unwrap();
    stage.over().await;
    stage.launch(api::link::Launch { attempt: 2, ..agent(Some(repo)) });
    while !stage.over().await.ended() {
        tokio::task::yield_now().await;
    }
    let (_, reason, _) = end(&stage.events().await);
    assert!(reason.contains("is not there") && reason.contains("kept/r1.img /mnt`"), "{reason}");
    assert!(stage.dir.path().join("kept/r1.img").is_file());
}

#[tokio::test(flavor = "current_thread")]
async fn a_branch_named_volary_is_refused_before_the_agent_works() {
    let stage = Stage::new();
    let _gateway = stage.gateway().await;
    stage.launch(agent(Some(stage.repo("git branch volary"))));
    let (outcome, reason, _) = end(&stage.events().await);
    assert_eq!(outcome, Outcome::Failed);
    assert!(reason.contains("git branch -m volary"), "{reason}");
    assert!(stage.engine.plans.lock().unwrap().is_empty());
    assert!(!stage.dir.path().join("kept").exists());
}

#[tokio::test(flavor = "current_thread")]
async fn a_branch_named_volary_is_nothing_to_a_run_that_brings_nothing_back() {
    let stage = Stage::new();
    let _gateway = stage.gateway().await;
    stage.play(|mut runner| {
        runner.hello();
        runner.order();
        runner.done(DONE, true, "");
    });
    let launch = agent(Some(stage.repo("git branch volary")));
    stage.launch(api::link::Launch { import: false, ..launch });
    assert_eq!(end(&stage.events().await).0, Outcome::Done);
}

#[tokio::test(flavor = "current_thread")]
async fn a_repository_that_is_none_fails_the_run_with_its_name_and_needs_no_box() {
    let stage = Stage::new();
    let _gateway = stage.gateway().await;
    stage.launch(agent(Some("/nowhere/at/all".into())));
    let (outcome, reason, _) = end(&stage.events().await);
    assert_eq!(outcome, Outcome::Failed);
    assert!(reason.contains("/nowhere/at/all is not there"), "{reason}");
}

#[tokio::test(flavor = "current_thread")]
async fn a_profile_larger_than_the_disk_fails_with_the_way_out() {
    let stage = Stage::new();
    let mut launch = exec();
    launch.profile.limits.worktree_mib = 1 << 40;
    stage.launch(launch);
    let (outcome, reason, _) = end(&stage.events().await);
    assert_eq!(outcome, Outcome::Failed);
    assert!(reason.contains("lower worktree-mib"), "{reason}");
}

#[tokio::test(flavor = "current_thread")]
async fn a_settled_run_leaves_nothing_also_when_it_was_settled_alive() {
    for alive in [false, true] {
        let stage = Stage::new();
        let _gateway = stage.gateway().await;
        let (working, began) = tokio::sync::oneshot::channel();
        stage.play(move |mut runner| {
            runner.hello();
            runner.order();
            if alive {
                working.send(()).unwrap();
                assert_eq!(runner.order(), Some(ToRunner::Cancel));
            }
            runner.done(DONE, true, "");
        });
        stage.launch(agent(None));
        if alive {
            began.await.unwrap();
        } else {
            stage.over().await;
        }
        stage.settle().await;
        assert_eq!(std::fs::read_dir(stage.dir.path().join("runs")).unwrap().count(), 0);
        assert_eq!(*stage.engine.alive.lock().unwrap(), 0);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn an_order_for_a_run_that_ended_changes_nothing() {
    let stage = Stage::new();
    let _gateway = stage.gateway().await;
    stage.play(|mut runner| {
        runner.hello();
        runner.order();
        runner.done(DONE, true, "");
    });
    stage.launch(agent(None));
    let before = stage.events().await;
    stage.keeper_cancel();
    stage.launch(agent(None));
    for _ in 0..50 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    assert_eq!(stage.events().await, before);
    assert_eq!(RunState::Running.after(before.last().unwrap()), RunState::Done);
}

impl Stage {
    /// A repository with one commit, after `more` in it.
    fn repo(&self, more: &str) -> std::path::PathBuf {
        let script = "mkdir repo && cd repo && git init -q -b main && echo one > a && git add a && \
                      git -c user.name=A -c user.email=a commit -q -m x";
        let script = format!("{script} && {more}");
        assert!(Command::new("sh").current_dir(self.dir.path()).args(["-ec", &script]).status().unwrap().success());
        self.dir.path().canonicalize().unwrap().join("repo")
    }
    fn keeper_order(&self, order: Down) {
        operator::link::Orders::obey(&self.keeper, order);
    }
    fn keeper_cancel(&self) {
        self.keeper_order(Down::Cancel { run: id() });
    }
    fn keeper_input(&self, data: &str, end: bool) {
        let input = Down::Input { run: id(), data_b64: data.into(), end };
        operator::link::Orders::obey(&self.keeper, input);
    }
    async fn settle(&self) {
        operator::link::Orders::obey(&self.keeper, Down::Settle { run: id() });
        while self.runs.get(&id()).is_some() || std::fs::read_dir(self.dir.path().join("runs")).unwrap().count() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }
}
