//! A run that a person pauses, and lets go on.

use crate::leases::{self, curl, granted, take, wish};
use crate::stage::*;
use api::grants::{FromGateway, ToGateway};
use api::http::{CreateRun, ExecLease, RunView};
use api::leases::{LeaseEnd, LeaseView, ValueWord};
use api::link::{Down, Known};
use http::Method;
use model::{Event, Outcome, RunId, RunState};

async fn ask(stage: &Stage, run: &RunId, what: &str) -> Answer {
    stage.home(Method::POST, &format!("/api/runs/{run}/{what}"), None).await
}

async fn state_after(stage: &Stage, run: &RunId, what: &str) -> RunState {
    ask(stage, run, what).await.json::<RunView>().state
}

#[tokio::test]
async fn a_pause_is_a_persons_word_that_their_host_is_told_once_and_their_transcript_shows() {
    let stage = Stage::start();
    let mut operator = stage.operator(vec![]).await;
    let run = stage.create(&exec(&["sleep"])).await.run;
    let launch = operator.launch().await;
    operator.begin(&launch, 1).await;
    assert_eq!(state_after(&stage, &run, "pause").await, RunState::Paused);
    assert_eq!(operator.hear().await, Down::Pause { run: run.clone() });
    operator.event(&run, 2, &Event::Froze).await;
    assert_eq!(operator.hear().await, Down::Ack { run: run.clone(), seq: 2 });
    // Twice is once; its host is told again all the same, which changes nothing there.
    assert_eq!(state_after(&stage, &run, "pause").await, RunState::Paused);
    assert_eq!(operator.hear().await, Down::Pause { run: run.clone() });
    assert_eq!(state_after(&stage, &run, "resume").await, RunState::Running);
    assert_eq!(operator.hear().await, Down::Resume { run: run.clone() });
    operator.event(&run, 3, &Event::Thawed { stood_ms: 7 }).await;
    assert_eq!(operator.hear().await, Down::Ack { run: run.clone(), seq: 3 });
    let is_of_it = |event: &Event| {
        matches!(
            event,
            Event::Paused { .. } | Event::Resumed { queued: false, .. } | Event::Froze | Event::Thawed { .. }
        )
    };
    let events: Vec<Event> =
        stage.transcript(&run).await.into_iter().map(|entry| entry.event).filter(is_of_it).collect();
    assert_eq!(events.len(), 4, "{events:?}");
    operator.event(&run, 4, &Event::Ended { outcome: Outcome::Done, reason: String::new(), exit: None }).await;
    assert_eq!(operator.hear().await, Down::Ack { run: run.clone(), seq: 4 });
    assert_eq!(ask(&stage, &run, "pause").await.code(), "run.over");
    assert_eq!(ask(&stage, &run, "resume").await.code(), "run.over");
    assert_eq!(ask(&stage, &"none".parse().unwrap(), "pause").await.code(), "run.unknown");
}

#[tokio::test]
async fn a_run_that_is_paused_before_it_has_a_box_gets_none_until_it_is_resumed() {
    let stage = Stage::start();
    let run = stage.create(&exec(&["sleep"])).await.run;
    assert_eq!(state_after(&stage, &run, "pause").await, RunState::Paused);
    let mut operator = stage.operator(vec![]).await;
    let other = stage.create(&exec(&["true"])).await.run;
    assert_eq!(operator.launch().await.run, other, "a paused run was launched");
    assert_eq!(state_after(&stage, &run, "resume").await, RunState::Queued);
    assert_eq!(operator.launch().await.run, run);
    // A person may as well end it while it is paused.
    let idle = stage.create(&exec(&["sleep"])).await.run;
    assert_eq!(operator.launch().await.run, idle);
    assert_eq!(state_after(&stage, &idle, "pause").await, RunState::Paused);
    assert_eq!(operator.hear().await, Down::Pause { run: idle.clone() });
    ask(&stage, &idle, "cancel").await;
    assert_eq!(operator.hear().await, Down::Cancel { run: idle.clone() });
    assert_eq!(ask(&stage, &idle, "resume").await.code(), "run.over");
}

#[tokio::test]
async fn a_word_that_a_host_missed_is_told_at_its_hello_by_a_new_server_too() {
    for paused in [true, false] {
        let mut stage = Stage::start();
        let mut operator = stage.operator(vec![]).await;
        let run = stage.create(&exec(&["sleep"])).await.run;
        let launch = operator.launch().await;
        operator.begin(&launch, 1).await;
        if !paused {
            ask(&stage, &run, "pause").await;
            assert_eq!(operator.hear().await, Down::Pause { run: run.clone() });
        }
        drop(operator);
        stage.again();
        ask(&stage, &run, if paused { "pause" } else { "resume" }).await;
        stage.again();
        let known = Known { run: run.clone(), last_seq: 1, live: true, ended: false, still: !paused };
        let mut operator = stage.operator(vec![known]).await;
        let word = if paused { Down::Pause { run } } else { Down::Resume { run } };
        assert_eq!(operator.hear().await, word);
    }
}

#[tokio::test]
async fn a_paused_run_whose_box_is_gone_is_launched_when_it_is_resumed_and_not_before() {
    let stage = Stage::start();
    stage.model("m", "model-1").await;
    let mut operator = stage.operator(vec![]).await;
    let run = stage.create(&agent("x")).await.run;
    let launch = operator.launch().await;
    operator.begin(&launch, 1).await;
    ask(&stage, &run, "pause").await;
    assert_eq!(operator.hear().await, Down::Pause { run: run.clone() });
    drop(operator);
    // Its host was started anew, and its box went with it.
    let gone = || Known { run: run.clone(), last_seq: 1, live: false, ended: false, still: false };
    let mut operator = stage.operator(vec![gone()]).await;
    let other = stage.create(&exec(&["true"])).await.run;
    assert_eq!(operator.launch().await.run, other, "a paused run was launched");
    assert_eq!(stage.get(&run).await.state, RunState::Paused);
    assert_eq!(state_after(&stage, &run, "resume").await, RunState::Running);
    assert_eq!(operator.hear().await, Down::Resume { run: run.clone() });
    // To which a host without a box says hello anew.
    drop(operator);
    let mut operator = stage.operator(vec![gone()]).await;
    let launch = operator.launch().await;
    assert_eq!((launch.run, launch.attempt), (run, 2));
}

#[tokio::test]
async fn a_command_that_has_a_value_ends_before_its_run_stands_still_and_none_begins_meanwhile() {
    let stage = Stage::start();
    let (mut operator, launch, mut gateway) = leases::running(&stage).await;
    let run = launch.run.clone();
    let (used, other) =
        (granted(&mut gateway, wish(&launch)).await.lease, granted(&mut gateway, wish(&launch)).await.lease);
    assert!(matches!(take(&mut gateway, &launch, &used, curl()).await, ValueWord::Value { .. }));
    let ends = async {
        assert!(matches!(gateway.hear().await, ToGateway::RevokeLease { lease } if lease == used));
        // What cannot be ended is not frozen: its host is told when it is over, and not before.
        let early = tokio::time::timeout(std::time::Duration::from_millis(300), operator.hear()).await;
        assert!(early.is_err(), "{early:?}");
        // Nor one that comes anew meanwhile, with its box going on.
        drop(operator);
        let known = Known { run: run.clone(), last_seq: 1, live: true, ended: false, still: false };
        let mut operator = stage.operator(vec![known]).await;
        let early = tokio::time::timeout(std::time::Duration::from_millis(300), operator.hear()).await;
        assert!(early.is_err(), "{early:?}");
        gateway.say(&FromGateway::EndLease { lease: used.clone(), outcome: LeaseEnd::Broken }).await;
        assert_eq!(operator.hear().await, Down::Pause { run: run.clone() });
    };
    let (paused, ()) = tokio::join!(ask(&stage, &run, "pause"), ends);
    assert_eq!(paused.json::<RunView>().state, RunState::Paused);
    let all: Vec<LeaseView> = stage.home(Method::GET, "/api/leases?all=true", None).await.json();
    let is = |id| all.iter().find(|lease| lease.lease == id).map(|lease| (&*lease.state, &*lease.ended_by)).unwrap();
    assert_eq!((is(used), is(other.clone())), (("revoked", "pause"), ("granted", "")));
    let denied = take(&mut gateway, &launch, &other, curl()).await;
    assert!(matches!(&denied, ValueWord::Denied { rule, .. } if rule == "run.paused"), "{denied:?}");
    assert_eq!(state_after(&stage, &run, "resume").await, RunState::Running);
    assert!(matches!(take(&mut gateway, &launch, &other, curl()).await, ValueWord::Value { .. }));
}

#[tokio::test]
async fn a_persons_command_that_has_a_value_does_not_stand_still() {
    let stage = Stage::start();
    let (mut operator, _, mut gateway) = leases::running(&stage).await;
    let lease = ExecLease { capability: "shop".into(), destination: Some("shop.example.org".into()) };
    let wish = CreateRun { profile: Some("p".into()), lease: Some(lease), ..exec(&["curl"]) };
    let run = stage.create(&wish).await.run;
    let launch = operator.launch().await;
    operator.begin(&launch, 1).await;
    let used = launch.lease.clone().unwrap();
    assert!(matches!(take(&mut gateway, &launch, &used, curl()).await, ValueWord::Value { .. }));
    assert_eq!(ask(&stage, &run, "pause").await.code(), "run.has-key");
    assert_eq!(stage.get(&run).await.state, RunState::Running);
    gateway.say(&FromGateway::EndLease { lease: used, outcome: LeaseEnd::Completed }).await;
    // It is no matter of the command's any more, but of when the server heard it.
    loop {
        let paused = ask(&stage, &run, "pause").await;
        if paused.status.is_success() {
            break;
        }
        assert_eq!(paused.code(), "run.has-key");
        tokio::task::yield_now().await;
    }
    assert_eq!(operator.hear().await, Down::Pause { run });
}

#[tokio::test]
async fn what_a_person_asked_for_and_did_not_wait_for_is_brought_to_its_end() {
    use tokio::io::AsyncWriteExt as _;
    let stage = Stage::start();
    let (mut operator, launch, mut gateway) = leases::running(&stage).await;
    let used = granted(&mut gateway, wish(&launch)).await.lease;
    assert!(matches!(take(&mut gateway, &launch, &used, curl()).await, ValueWord::Value { .. }));
    let mut client = tokio::net::UnixStream::connect(stage.socket("api")).await.unwrap();
    let asked = format!("POST /api/runs/{}/pause HTTP/1.1\r\nhost: volary\r\ncontent-length: 0\r\n\r\n", launch.run);
    client.write_all(asked.as_bytes()).await.unwrap();
    assert!(matches!(gateway.hear().await, ToGateway::RevokeLease { lease } if lease == used));
    // It hangs up while the server waits; the server may see that or not before the end of the lease's use.
    drop(client);
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    gateway.say(&FromGateway::EndLease { lease: used, outcome: LeaseEnd::Broken }).await;
    assert_eq!(operator.hear().await, Down::Pause { run: launch.run });
}
