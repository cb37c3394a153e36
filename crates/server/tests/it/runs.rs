//! A run's life, as people see it.

use crate::stage::{Stage, agent, exec, soon};
use api::http::{ExecLease, RunView};
use api::leases::LeaseView;
use api::link::Down;
use http::{Method, StatusCode};
use model::run::RunKind;
use model::{Event, Outcome, RunState};
use serde_json::json;

#[tokio::test]
async fn a_run_goes_from_its_wish_to_its_end_and_every_line_stands_in_the_transcript() {
    let stage = Stage::start();
    stage.model("m", "model-1").await;
    let mut operator = stage.operator(vec![]).await;
    let mut wish = agent("fix it");
    wish.repo = Some("/srv/repo".into());
    let run = stage.create(&wish).await.run;
    let launch = operator.launch().await;
    assert_eq!((launch.run.clone(), launch.attempt, launch.import), (run.clone(), 1, true));
    assert!(launch.agent.as_ref().unwrap().handle.starts_with("vh_"));
    assert_eq!(launch.agent.as_ref().unwrap().model.id, "model-1");

    operator.begin(&launch, 1).await;
    assert_eq!(stage.get(&run).await.state, RunState::Running);
    operator.event(&run, 2, &Event::Chunk { turn: 1, text: "hm".into() }).await;
    assert_eq!(operator.hear().await, Down::Ack { run: run.clone(), seq: 2 });
    let result =
        Event::Result { branch: Some("volary/x".into()), commit: None, files: 1, diff: "+a".into(), diff_cut: false };
    operator.event(&run, 3, &result).await;
    assert_eq!(operator.hear().await, Down::Ack { run: run.clone(), seq: 3 });
    operator.event(&run, 4, &Event::Ended { outcome: Outcome::Done, reason: String::new(), exit: None }).await;
    assert_eq!(operator.hear().await, Down::Ack { run: run.clone(), seq: 4 });
    assert_eq!(operator.hear().await, Down::Settle { run: run.clone() });

    let seen = stage.get(&run).await;
    assert_eq!((seen.state, seen.attempts, seen.entries), (RunState::Done, 1, 5));
    assert_eq!(seen.branch.as_deref(), Some("volary/x"));
    assert_eq!(seen.ended, Some(model::Moment(1_004)));
    let lines = stage.transcript(&run).await;
    assert_eq!(lines.iter().map(|line| line.n).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert!(matches!(lines[0].event, Event::Accepted { .. }));
    assert_eq!(lines[3].event, result);
}

#[tokio::test]
async fn a_run_waits_for_a_host_and_is_launched_when_one_links() {
    let stage = Stage::start();
    let run = stage.create(&exec(&["true"])).await;
    assert_eq!((run.state, run.task.as_str()), (RunState::Queued, "true"));
    let launch = stage.operator(vec![]).await.launch().await;
    assert_eq!((launch.run, launch.kind, launch.argv), (run.run, RunKind::Exec, vec!["true".to_owned()]));
    assert!(launch.agent.is_none() && !launch.import);
}

#[tokio::test]
async fn a_wish_that_cannot_be_a_run_is_refused_with_what_to_do() {
    let stage = Stage::start();
    let ask = async |body: serde_json::Value| stage.home(Method::POST, "/api/runs", Some(body)).await;
    assert_eq!(ask(json!({ "kind": "agent", "task": "x" })).await.code(), "model.none");
    stage.model("m", "model-1").await;
    for (body, code) in [
        (json!({ "kind": "agent", "task": "  " }), "run.task"),
        (json!({ "kind": "agent", "task": "x".repeat(65_537) }), "run.task"),
        (json!({ "kind": "agent", "task": "x", "repo": "relative" }), "run.repo"),
        (json!({ "kind": "agent", "task": "x", "repo": "https://example.com/r.git" }), "run.repo"),
        (json!({ "kind": "agent", "task": "x", "model": "none" }), "model.unknown"),
        (json!({ "kind": "agent", "task": "x", "profile": "none" }), "profile.unknown"),
        (json!({ "kind": "exec" }), "run.argv"),
        (json!({ "kind": "exec", "argv": ["a\u{0}b"] }), "run.argv"),
        (json!({ "kind": "exec", "argv": ["x", "x".repeat(131_070)] }), "run.argv"),
        (json!({ "kind": "agent", "task": "x", "color": "red" }), "body.wrong"),
    ] {
        let answer = ask(body.clone()).await;
        assert!(answer.status.is_client_error(), "{body}");
        assert_eq!(answer.code(), code, "{body}");
    }
    let task = ask(json!({ "kind": "agent", "task": "x".repeat(65_536) })).await;
    assert_eq!(task.status, StatusCode::CREATED);
    let command = ask(json!({ "kind": "exec", "argv": ["x", "x".repeat(131_069)] })).await;
    assert_eq!(command.status, StatusCode::CREATED);
}

#[tokio::test]
async fn a_profile_with_a_typo_names_its_file_and_line() {
    let stage = Stage::start();
    stage.model("m", "model-1").await;
    std::fs::write(stage.dir.path().join("profiles/p.toml"), "[limits]\nturn = 3\n").unwrap();
    let mut wish = agent("x");
    wish.profile = Some("p".into());
    let answer = stage.home(Method::POST, "/api/runs", Some(serde_json::to_value(wish).unwrap())).await;
    assert_eq!(answer.code(), "profile.wrong");
    assert!(answer.text().contains("p.toml") && answer.text().contains("line 2"), "{}", answer.text());
}

#[tokio::test]
async fn a_cancelled_run_that_no_host_has_is_over_at_once_and_a_running_one_when_its_host_says_so() {
    let stage = Stage::start();
    let waiting = stage.create(&exec(&["sleep"])).await.run;
    let cancel = async |run| stage.home(Method::POST, &format!("/api/runs/{run}/cancel"), None).await;
    assert_eq!(cancel(&waiting).await.json::<RunView>().state, RunState::Cancelled);
    assert_eq!(cancel(&waiting).await.code(), "run.over");

    let mut operator = stage.operator(vec![]).await;
    let run = stage.create(&exec(&["sleep"])).await.run;
    let launch = operator.launch().await;
    operator.begin(&launch, 1).await;
    assert_eq!(cancel(&run).await.json::<RunView>().state, RunState::Running);
    assert_eq!(operator.hear().await, Down::Cancel { run: run.clone() });
    operator.event(&run, 2, &Event::Ended { outcome: Outcome::Cancelled, reason: String::new(), exit: None }).await;
    assert_eq!(operator.hear().await, Down::Ack { run: run.clone(), seq: 2 });
    assert_eq!(stage.get(&run).await.state, RunState::Cancelled);
}

#[tokio::test]
async fn input_reaches_a_command_and_nothing_else() {
    let stage = Stage::start();
    stage.model("m", "model-1").await;
    let command = stage.create(&exec(&["cat"])).await.run;
    let send = async |run, body| stage.home(Method::POST, &format!("/api/runs/{run}/input"), Some(body)).await;
    assert_eq!(send(&command, json!({ "data_b64": "aGk=" })).await.code(), "host.away");
    let mut operator = stage.operator(vec![]).await;
    operator.launch().await;
    assert_eq!(send(&command, json!({ "data_b64": "aGk=", "end": true })).await.status, StatusCode::NO_CONTENT);
    let input = Down::Input { run: command.clone(), data_b64: "aGk=".into(), end: true };
    assert_eq!(operator.hear().await, input);
    assert_eq!(send(&command, json!({ "data_b64": "not base 64" })).await.code(), "run.input");
    let task = stage.create(&agent("x")).await.run;
    assert_eq!(send(&task, json!({ "data_b64": "" })).await.code(), "run.input");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn input_does_not_reach_a_host_that_has_just_come_before_the_command_does() {
    let stage = std::sync::Arc::new(Stage::start());
    let command = stage.create(&exec(&["cat"])).await.run;
    // Nothing can be kept meanwhile, a launch neither.
    let file = format!("sqlite://{}", stage.dir.path().join("server/volary.db").display());
    sqlx::any::install_default_drivers();
    let mut other = <sqlx::AnyConnection as sqlx::Connection>::connect(&file).await.unwrap();
    sqlx::query("PRAGMA busy_timeout = 60000").execute(&mut other).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let mut operator = stage.operator(vec![]).await;
    let (of, run) = (stage.clone(), command.clone());
    let fed = tokio::spawn(async move {
        let body = json!({ "data_b64": "aGk=", "end": true });
        loop {
            let sent = of.home(Method::POST, &format!("/api/runs/{run}/input"), Some(body.clone())).await;
            if sent.status == StatusCode::NO_CONTENT {
                return;
            }
            assert_eq!(sent.code(), "host.away");
        }
    });
    // Room for the mistake.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    assert_eq!(operator.launch().await.run, command);
    assert!(matches!(operator.hear().await, Down::Input { run, .. } if run == command));
    soon("it is sent", fed).await.unwrap();
}

#[tokio::test]
async fn a_follower_sees_what_was_and_what_comes_and_ends_with_the_run() {
    let stage = Stage::start();
    let mut operator = stage.operator(vec![]).await;
    let run = stage.create(&exec(&["true"])).await.run;
    let launch = operator.launch().await;
    operator.begin(&launch, 1).await;
    let path = format!("/api/runs/{run}/events?after=1&follow=true");
    let follow = stage.home(Method::GET, &path, None);
    let end = async {
        operator.event(&run, 2, &Event::Note { text: "late".into() }).await;
        operator.event(&run, 3, &Event::Ended { outcome: Outcome::Done, reason: String::new(), exit: None }).await;
    };
    let (seen, ()) = soon("the run's end", async { tokio::join!(follow, end) }).await;
    let text = seen.text();
    let ids: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("id: ")).collect();
    assert_eq!(ids, ["2", "3", "4"], "{text}");
    let last: model::Entry = text
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .next_back()
        .map(|line| serde_json::from_str(line).unwrap())
        .unwrap();
    assert!(matches!(last.event, Event::Ended { .. }));
    assert_eq!(last.n, 4);
}

/// A profile whose one capability a command may have a lease of.
async fn with_a_capability(stage: &Stage) -> api::http::CreateRun {
    let put = json!({ "value": "canary-of-a-command" });
    assert_eq!(stage.home(Method::PUT, "/api/secrets/capability/shop", Some(put)).await.status, StatusCode::OK);
    let profile = "[[capability]]\nname = \"shop\"\nsecret = \"capability/shop\"\nkind = \"command\"\n\
        destinations = [\"shop\"]\ndelivery = \"stdin\"\nexecutables = [\"/usr/bin/cat\"]\n";
    std::fs::write(stage.dir.path().join("profiles/shop.toml"), profile).unwrap();
    let mut wish = exec(&["cat"]);
    wish.profile = Some("shop".into());
    wish.lease = Some(ExecLease { capability: "shop".into(), destination: None });
    wish
}

#[tokio::test]
async fn a_command_has_its_lease_in_the_act_that_takes_its_run_on_and_comes_with_it_at_every_launch() {
    let stage = Stage::start();
    let wish = with_a_capability(&stage).await;
    let run = stage.create(&wish).await;
    let leases: Vec<LeaseView> = stage.home(Method::GET, "/api/leases?all=true", None).await.json();
    let [lease] = &leases[..] else { panic!("{leases:?}") };
    assert_eq!((&lease.run, lease.made, lease.state.as_str()), (&run.run, run.created, "granted"));
    let mut boxes = Vec::new();
    for _ in 0..2 {
        let launch = stage.operator(vec![]).await.launch().await;
        assert_eq!((&launch.run, launch.lease.as_ref()), (&run.run, Some(&lease.lease)));
        boxes.push(launch.box_id);
    }
    assert_ne!(boxes[0], boxes[1]);
}

#[tokio::test]
async fn where_a_commands_lease_cannot_be_kept_there_is_no_run_that_would_go_without_it() {
    let mut stage = Stage::start();
    let wish = with_a_capability(&stage).await;
    stage.stop();
    let file = format!("sqlite://{}", stage.dir.path().join("server/volary.db").display());
    let mut conn = <sqlx::AnyConnection as sqlx::Connection>::connect(&file).await.unwrap();
    let broken = "CREATE TRIGGER broken BEFORE INSERT ON leases BEGIN SELECT RAISE(ABORT, 'the disk is full'); END";
    sqlx::query(broken).execute(&mut conn).await.unwrap();
    drop(conn);
    stage.again();
    let _operator = stage.operator(vec![]).await;
    let failed = stage.home(Method::POST, "/api/runs", Some(serde_json::to_value(&wish).unwrap())).await;
    assert_eq!(failed.status, StatusCode::INTERNAL_SERVER_ERROR, "{}", failed.text());
    let runs: Vec<RunView> = stage.home(Method::GET, "/api/runs", None).await.json();
    assert_eq!(runs, []);
}
