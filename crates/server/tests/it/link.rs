//! What a host says, and what follows from what it knows.

use crate::stage::{KEY, Stage, agent, exec};
use api::http::RunView;
use api::link::{Down, Known};
use base64::{Engine, engine::general_purpose::STANDARD};
use http::Method;
use model::event::Stream;
use model::{Event, Outcome, RunId, RunState};
use serde_json::json;

fn known(run: &RunId, last_seq: u64, live: bool, ended: bool) -> Known {
    Known { run: run.clone(), last_seq, live, ended, still: false }
}

#[tokio::test]
async fn an_event_sent_twice_is_taken_once_and_a_gap_is_asked_for_once() {
    let stage = Stage::start();
    let mut operator = stage.operator(vec![]).await;
    let run = stage.create(&exec(&["true"])).await.run;
    let launch = operator.launch().await;
    operator.begin(&launch, 1).await;
    operator.begin(&launch, 1).await;
    let note = |text: &str| Event::Note { text: text.into() };
    operator.event(&run, 3, &note("three")).await;
    assert_eq!(operator.hear().await, Down::Resend { run: run.clone(), after: 1 });
    operator.event(&run, 4, &note("four")).await;
    operator.event(&run, 2, &note("two")).await;
    operator.event(&run, 3, &note("three")).await;
    operator.event(&run, 4, &note("four")).await;
    let mut acked = 1;
    while acked < 4 {
        match operator.hear().await {
            Down::Ack { seq, .. } => acked = seq,
            other => panic!("{other:?}"),
        }
    }
    let seqs: Vec<u64> = stage.transcript(&run).await.iter().skip(1).map(|line| line.source_seq).collect();
    assert_eq!(seqs, [1, 2, 3, 4]);
}

#[tokio::test]
async fn what_a_box_says_in_the_gateways_name_or_malformed_is_kept_and_means_nothing() {
    let stage = Stage::start();
    let mut operator = stage.operator(vec![]).await;
    let run = stage.create(&exec(&["true"])).await.run;
    operator.launch().await;
    let settled = r#"{"kind":"settled","grant":"g","model":"m","usage":{},"cost":0,"status":200}"#;
    for (seq, event) in (1..).zip([settled, r#"{"kind":"chunk","turn":"seven"}"#, r#"{"kind":"later","x":1}"#, "[1,2]"])
    {
        operator.raw(&run, seq, event).await;
        assert_eq!(operator.hear().await, Down::Ack { run: run.clone(), seq });
    }
    operator.raw(&run, 5, &json!({ "kind": "note", "text": "x".repeat(5 * 1024 * 1024) }).to_string()).await;
    assert_eq!(operator.hear().await, Down::Ack { run: run.clone(), seq: 5 });
    let lines = stage.home(Method::GET, &format!("/api/runs/{run}/events?after=1"), None).await.text();
    let lines: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 5);
    assert_eq!(lines[0]["event"]["kind"], "unknown");
    assert!(lines[0]["event"]["raw"].as_str().unwrap().contains("settled"));
    assert!(lines[1]["event"]["raw"].as_str().unwrap().contains("seven"));
    assert_eq!(lines[2]["event"], json!({ "kind": "later", "x": 1 }));
    assert_eq!(lines[3]["event"]["raw"], "[1,2]");
    assert!(lines[4].to_string().len() < 100_000);
}

#[tokio::test]
async fn a_models_key_never_reaches_the_transcript() {
    let stage = Stage::start();
    stage.model("m", "model-1").await;
    let mut operator = stage.operator(vec![]).await;
    let run = stage.create(&exec(&["env"])).await.run;
    operator.launch().await;
    operator.event(&run, 1, &Event::Note { text: format!("key={KEY};") }).await;
    operator.hear().await;
    let data_b64 = STANDARD.encode(format!("\u{fffd} key={KEY};\n"));
    operator.event(&run, 2, &Event::Output { id: "t1".into(), stream: Stream::Stdout, data_b64 }).await;
    operator.hear().await;
    let lines = stage.home(Method::GET, &format!("/api/runs/{run}/events?after=1"), None).await.text();
    let lines: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let note = lines[0]["event"]["text"].as_str().unwrap();
    let output = STANDARD.decode(lines[1]["event"]["data_b64"].as_str().unwrap()).unwrap();
    let output = String::from_utf8(output).unwrap();
    assert!(note.starts_with("key=[scrubbed:") && note.ends_with("];"), "{note}");
    assert!(output.starts_with("\u{fffd} key=[scrubbed:") && output.ends_with("];\n"), "{output}");
}

#[tokio::test]
async fn the_server_and_the_gateway_put_the_same_in_the_place_of_a_secret_and_of_a_token() {
    let stage = Stage::start();
    stage.model("m", "model-1").await;
    let gateway = stage.gateway().await;
    let mut operator = stage.operator(vec![]).await;
    let run = stage.create(&exec(&["env"])).await.run;
    operator.launch().await;
    let token = format!("ghp_{}", "a1B2".repeat(9));
    let said = format!("{KEY} and {token}");
    operator.event(&run, 1, &Event::Note { text: said.clone() }).await;
    operator.hear().await;
    let lines = stage.transcript(&run).await;
    let Event::Note { text } = &lines.last().unwrap().event else { panic!("{lines:?}") };
    // As the gateway makes its scrubber: of the key that it was told, and the value with its name.
    let values = [("model/m".to_owned(), model::Secret::new(KEY.to_owned()))];
    let gateways = scrub::Scrubber::keyed(&gateway.1.unwrap(), values).with_formats(scrub::Formats::load().unwrap());
    assert_eq!(*text, gateways.scrub_str(&said));
    assert!(text.starts_with("[scrubbed:model/m#") && text.contains("and [redacted: github-token#"), "{text}");
}

#[tokio::test]
async fn a_run_whose_box_is_gone_goes_on_in_a_new_one_from_its_history_with_a_new_handle() {
    let stage = Stage::start();
    stage.model("m", "model-1").await;
    let mut operator = stage.operator(vec![]).await;
    let run = stage.create(&agent("x")).await.run;
    let first = operator.launch().await;
    operator.begin(&first, 1).await;
    operator.event(&run, 2, &Event::Loop { step: json!({ "k": 1 }) }).await;
    operator.hear().await;
    drop(operator);

    // Event 3 is in the host's journal and not here yet: the launch waits for it.
    let mut operator = stage.operator(vec![known(&run, 3, false, false)]).await;
    assert_eq!(operator.hear().await, Down::Resend { run: run.clone(), after: 2 });
    operator.event(&run, 3, &Event::Loop { step: json!({ "k": 2 }) }).await;
    assert_eq!(operator.hear().await, Down::Ack { run: run.clone(), seq: 3 });
    let second = operator.launch().await;
    assert_eq!((second.attempt, second.history), (2, vec![json!({ "k": 1 }), json!({ "k": 2 })]));
    assert_ne!(second.agent.unwrap().handle, first.agent.unwrap().handle);
    assert_ne!(second.box_id, first.box_id);

    // It never came to its box: the same attempt again.
    let mut operator = stage.operator(vec![known(&run, 3, false, false)]).await;
    let second = operator.launch().await;
    assert_eq!(second.attempt, 2);
    operator.begin(&second, 4).await;
    let mut operator = stage.operator(vec![known(&run, 4, false, false)]).await;
    let third = operator.launch().await;
    assert_eq!(third.attempt, 3);
    operator.begin(&third, 5).await;
    // The host has the worktree: it ends the run, for the reason that it is told.
    let mut operator = stage.operator(vec![known(&run, 5, false, false)]).await;
    let Down::Close { run: closed, reason } = operator.hear().await else { panic!("not closed") };
    assert!(closed == run && reason.contains("3 attempts"), "{reason}");
    operator.event(&run, 6, &Event::Ended { outcome: Outcome::Failed, reason, exit: None }).await;
    assert_eq!(operator.hear().await, Down::Ack { run: run.clone(), seq: 6 });
    assert_eq!(operator.hear().await, Down::Settle { run: run.clone() });
    assert_eq!(stage.get(&run).await.state, RunState::Failed);
}

#[tokio::test]
async fn a_launch_that_its_host_never_survives_is_not_repeated_for_ever() {
    let stage = Stage::start();
    stage.model("m", "model-1").await;
    let mut operator = stage.operator(vec![]).await;
    let run = stage.create(&agent("x")).await.run;
    for _ in 0..10 {
        assert_eq!(operator.launch().await.attempt, 1);
        operator = stage.operator(vec![known(&run, 0, false, false)]).await;
    }
    let Down::Close { reason, .. } = operator.hear().await else { panic!("not closed") };
    assert!(reason.contains("launched 10 times") && reason.contains("10 of them before it had a box"), "{reason}");
}

#[tokio::test]
async fn a_command_that_was_interrupted_is_not_run_again() {
    let stage = Stage::start();
    let mut operator = stage.operator(vec![]).await;
    let run = stage.create(&exec(&["make", "install"])).await.run;
    let launch = operator.launch().await;
    operator.begin(&launch, 1).await;
    // Its box was made, and lost before the command was sent: nothing is repeated.
    let mut operator = stage.operator(vec![known(&run, 1, false, false)]).await;
    let launch = operator.launch().await;
    operator.begin(&launch, 2).await;
    operator.event(&run, 3, &Event::Walls { readings: vec![] }).await;
    operator.hear().await;
    let mut operator = stage.operator(vec![known(&run, 3, false, false)]).await;
    let Down::Close { run: closed, reason } = operator.hear().await else { panic!("not closed") };
    assert!(closed == run && reason.contains("outcome is unknown"), "{reason}");
}

#[tokio::test]
async fn a_run_that_is_over_here_or_unknown_here_loses_its_box_there() {
    let mut stage = Stage::start();
    let mut operator = stage.operator(vec![]).await;
    let run = stage.create(&exec(&["sleep"])).await.run;
    let launch = operator.launch().await;
    operator.begin(&launch, 1).await;
    drop(operator);
    // The server sees the link's end by itself; until then a cancel would be passed on to nobody.
    stage.again();
    let cancelled = stage.home(Method::POST, &format!("/api/runs/{run}/cancel"), None).await;
    assert_eq!(cancelled.json::<RunView>().state, RunState::Cancelled);
    let stranger: RunId = "stranger".parse().unwrap();
    let mut operator = stage.operator(vec![known(&run, 2, true, false), known(&stranger, 9, true, false)]).await;
    // What happened before the box heard of its end is taken all the same, and its end settles it.
    assert_eq!(operator.hear().await, Down::Resend { run: run.clone(), after: 1 });
    assert_eq!(operator.hear().await, Down::Cancel { run: run.clone() });
    assert_eq!(operator.hear().await, Down::Cancel { run: stranger });
    operator.event(&run, 2, &Event::Note { text: "late".into() }).await;
    assert_eq!(operator.hear().await, Down::Ack { run: run.clone(), seq: 2 });
    operator.event(&run, 3, &Event::Ended { outcome: Outcome::Failed, reason: "x".into(), exit: None }).await;
    assert_eq!(operator.hear().await, Down::Ack { run: run.clone(), seq: 3 });
    assert_eq!(operator.hear().await, Down::Settle { run: run.clone() });
    assert_eq!(stage.get(&run).await.state, RunState::Cancelled);
    assert!(stage.transcript(&run).await.iter().any(|line| line.event == Event::Note { text: "late".into() }));
}

#[tokio::test]
async fn a_run_that_ended_while_its_host_was_away_is_forgotten_there_once_its_journal_is_here() {
    let mut stage = Stage::start();
    let mut operator = stage.operator(vec![]).await;
    let run = stage.create(&exec(&["sleep"])).await.run;
    let launch = operator.launch().await;
    operator.begin(&launch, 1).await;
    drop(operator);
    stage.again();
    let cancelled = stage.home(Method::POST, &format!("/api/runs/{run}/cancel"), None).await;
    assert_eq!(cancelled.json::<RunView>().state, RunState::Cancelled);
    let mut operator = stage.operator(vec![known(&run, 2, false, false)]).await;
    assert_eq!(operator.hear().await, Down::Resend { run: run.clone(), after: 1 });
    operator.event(&run, 2, &Event::Note { text: "late".into() }).await;
    assert_eq!(operator.hear().await, Down::Ack { run: run.clone(), seq: 2 });
    assert_eq!(operator.hear().await, Down::Settle { run });
}

#[tokio::test]
async fn a_restarted_server_goes_on_where_it_was() {
    let mut stage = Stage::start();
    let mut operator = stage.operator(vec![]).await;
    let run = stage.create(&exec(&["true"])).await.run;
    let launch = operator.launch().await;
    operator.begin(&launch, 1).await;
    stage.again();
    let mut operator = stage.operator(vec![known(&run, 2, true, false)]).await;
    assert_eq!(operator.hear().await, Down::Resend { run: run.clone(), after: 1 });
    operator.event(&run, 2, &Event::Ended { outcome: Outcome::Done, reason: String::new(), exit: None }).await;
    assert_eq!(operator.hear().await, Down::Ack { run: run.clone(), seq: 2 });
    assert_eq!(stage.get(&run).await.state, RunState::Done);
}
