//! The link against a server that the test plays.

use api::frame;
use api::link::{Down, Launch, Up};
use model::event::Event;
use model::{RunId, RunState};
use operator::journal::By;
use operator::link::{self, Orders};
use operator::runs::{Kept, Runs, raw};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio::net::{UnixListener, UnixStream};

#[derive(Default)]
struct Heard(Mutex<Vec<Down>>);

impl Orders for Heard {
    fn obey(&self, order: Down) {
        self.0.lock().unwrap().push(order);
    }
}

struct Stage {
    dir: tempfile::TempDir,
    server: UnixListener,
    runs: Arc<Runs>,
    heard: Arc<Heard>,
}

impl Stage {
    fn heads(&self) -> PathBuf {
        self.dir.path().join("heads")
    }
}

/// An operator's link, dialling a server that is about to answer.
fn stage() -> Stage {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("sock");
    let server = UnixListener::bind(&socket).unwrap();
    let runs = Arc::new(Runs::open(&dir.path().join("runs")).unwrap());
    let heard = Arc::new(Heard::default());
    tokio::spawn(link::keep(
        socket,
        "here".into(),
        dir.path().join("heads"),
        Arc::clone(&runs),
        Arc::clone(&heard) as Arc<dyn Orders>,
    ));
    Stage { dir, server, runs, heard }
}

fn id(text: &str) -> RunId {
    RunId::parse(text).unwrap()
}

fn launch(run: &str) -> Launch {
    Launch {
        run: id(run),
        box_id: model::BoxId::parse("b").unwrap(),
        attempt: 1,
        kind: model::run::RunKind::Exec,
        repo: None,
        base: None,
        profile: model::Profile::default(),
        import: false,
        author: None,
        agent: None,
        argv: vec!["true".into()],
        lease: None,
        handle: None,
        history: vec![],
        answered: vec![],
        variables: vec![],
        clone: None,
    }
}

fn say(runs: &Runs, run: &str, text: &str) {
    let note = raw(&Event::Note { text: text.into() });
    runs.take(&id(run)).unwrap().record_now(By::Operator, &[note]).unwrap();
}

async fn accept(stage: &Stage) -> (UnixStream, Vec<(String, u64, bool, bool)>) {
    let (mut stream, _) = stage.server.accept().await.unwrap();
    let Up::Hello { host, runs } = frame::read(&mut stream).await.unwrap() else { panic!("no hello") };
    assert_eq!(host, "here");
    (stream, runs.into_iter().map(|k| (k.run.to_string(), k.last_seq, k.live, k.ended)).collect())
}

async fn event(stream: &mut UnixStream) -> (String, u64, String) {
    match frame::read(stream).await.unwrap() {
        Up::Event { run, seq, event, .. } => match serde_json::from_str(event.get()).unwrap() {
            Event::Note { text } => (run.to_string(), seq, text),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "current_thread")]
async fn it_sends_what_the_server_asks_for_and_then_what_is_new() {
    let stage = stage();
    for text in ["1", "2", "3"] {
        say(&stage.runs, "a", text);
    }
    let (mut server, known) = accept(&stage).await;
    assert_eq!(known, [("a".to_owned(), 3, false, false)]);
    frame::write(&mut server, &Down::Resend { run: id("a"), after: 1 }).await.unwrap();
    assert_eq!(event(&mut server).await, ("a".into(), 2, "2".into()));
    assert_eq!(event(&mut server).await, ("a".into(), 3, "3".into()));
    say(&stage.runs, "a", "4");
    assert_eq!(event(&mut server).await, ("a".into(), 4, "4".into()));
    frame::write(&mut server, &Down::Resend { run: id("a"), after: 3 }).await.unwrap();
    assert_eq!(event(&mut server).await, ("a".into(), 4, "4".into()));
}

#[tokio::test(flavor = "current_thread")]
async fn after_a_cut_it_dials_again_and_nothing_is_lost() {
    let stage = stage();
    let (server, known) = accept(&stage).await;
    assert!(known.is_empty());
    drop(server);
    say(&stage.runs, "a", "while it was away");
    let (mut server, known) = accept(&stage).await;
    assert_eq!(known, [("a".to_owned(), 1, false, false)]);
    frame::write(&mut server, &Down::Resend { run: id("a"), after: 0 }).await.unwrap();
    assert_eq!(event(&mut server).await, ("a".into(), 1, "while it was away".into()));
}

#[tokio::test(flavor = "current_thread")]
async fn a_server_that_lacks_nothing_asks_for_nothing_and_gets_what_is_new() {
    let stage = stage();
    say(&stage.runs, "a", "1");
    let (mut server, known) = accept(&stage).await;
    assert_eq!(known, [("a".to_owned(), 1, false, false)]);
    say(&stage.runs, "a", "2");
    assert_eq!(event(&mut server).await, ("a".into(), 2, "2".into()));
}

#[tokio::test(flavor = "current_thread")]
async fn a_run_launched_in_this_session_is_sent_from_its_first_event() {
    let stage = stage();
    let (mut server, _) = accept(&stage).await;
    frame::write(&mut server, &Down::Launch(Box::new(launch("a")))).await.unwrap();
    while stage.heard.0.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    say(&stage.runs, "a", "1");
    assert_eq!(event(&mut server).await, ("a".into(), 1, "1".into()));
}

#[tokio::test(flavor = "current_thread")]
async fn a_head_is_on_the_disk_before_the_server_hears_that_it_was_seen() {
    let stage = stage();
    let (mut server, _) = accept(&stage).await;
    std::fs::write(stage.heads(), "\"cut by a cra").unwrap();
    for head in ["head one\nwith lines", "head two", "head two"] {
        frame::write(&mut server, &Down::Head { head: head.into() }).await.unwrap();
        let Up::Witnessed { head: seen } = frame::read(&mut server).await.unwrap() else { panic!("no witness") };
        assert_eq!(seen, head);
    }
    let kept = std::fs::read_to_string(stage.heads()).unwrap();
    let kept: Vec<Option<String>> = kept.lines().map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(kept, [None, Some("head one\nwith lines".into()), Some("head two".into())]);
}

#[tokio::test(flavor = "current_thread")]
async fn a_run_that_is_neither_live_nor_ended_brings_a_new_hello() {
    let stage = stage();
    let (mut server, _) = accept(&stage).await;
    say(&stage.runs, "a", "it broke");
    stage.runs.are_stale();
    assert!(matches!(frame::read::<Up>(&mut server).await, Err(frame::FrameError::Closed)));
    let (_server, known) = accept(&stage).await;
    assert_eq!(known, [("a".to_owned(), 1, false, false)]);
}

#[tokio::test(flavor = "current_thread")]
async fn runs_that_break_together_are_told_of_in_one_hello() {
    let stage = stage();
    let (mut server, _) = accept(&stage).await;
    let slow = stage.runs.take(&id("slow")).unwrap();
    slow.begin();
    slow.breaks();
    stage.runs.are_stale();
    let closed = async { frame::read::<Up>(&mut server).await };
    let slow_ends = async {
        tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
        slow.rest();
        stage.runs.are_stale();
    };
    assert!(matches!(tokio::join!(closed, slow_ends).0, Err(frame::FrameError::Closed)));
    let (_server, known) = accept(&stage).await;
    assert_eq!(known, [("slow".to_owned(), 0, false, false)]);
}

#[tokio::test(flavor = "current_thread")]
async fn a_server_that_does_not_read_is_still_listened_to() {
    let stage = stage();
    let (mut server, _) = accept(&stage).await;
    let long = "x".repeat(1 << 20);
    for _ in 0..8 {
        say(&stage.runs, "a", &long);
    }
    frame::write(&mut server, &Down::Resend { run: id("a"), after: 0 }).await.unwrap();
    // Nothing is read here, so the operator's writer is stuck in the middle of an event.
    for n in 0..200 {
        frame::write(&mut server, &Down::Cancel { run: id(&format!("c{n}")) }).await.unwrap();
    }
    while stage.heard.0.lock().unwrap().len() < 200 {
        tokio::task::yield_now().await;
    }
    for seq in 1..=8 {
        assert_eq!(event(&mut server).await.1, seq);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn an_exec_that_an_operator_left_running_is_ended_with_its_outcome_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let left = |kind: model::run::RunKind, run: &str, walls: bool| {
        let runs = Runs::open(dir.path()).unwrap();
        let run = runs.take(&id(run)).unwrap();
        let kept = Kept::from(&Launch { kind, ..launch("x") });
        run.keep(&kept).unwrap();
        if walls {
            run.record_now(By::Operator, &[raw(&Event::Walls { readings: vec![] })]).unwrap();
        }
    };
    left(model::run::RunKind::Exec, "sent", true);
    left(model::run::RunKind::Exec, "unsent", false);
    left(model::run::RunKind::Agent, "agent", true);
    let runs = Runs::open(dir.path()).unwrap();
    let ended: Vec<_> = runs.all().iter().map(|run| (run.id.to_string(), run.ended())).collect();
    assert_eq!(ended, [("agent".into(), false), ("sent".into(), true), ("unsent".into(), false)]);
    assert_eq!(RunState::Running.after(&operator::runs::interrupted("its operator ended")), RunState::Failed);
}

#[tokio::test(flavor = "current_thread")]
async fn a_hello_waits_for_a_launch_that_is_on_its_way_into_a_journal() {
    let stage = stage();
    let coming = stage.runs.comes();
    let (mut stream, _) = stage.server.accept().await.unwrap();
    // Room for the mistake: without the wait the hello would be on its way by now, and would not name the run.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    stage.runs.take(&id("a")).unwrap().begin();
    drop(coming);
    let Up::Hello { runs, .. } = frame::read(&mut stream).await.unwrap() else { panic!("no hello") };
    assert_eq!(runs.iter().map(|k| (k.run.as_str(), k.live)).collect::<Vec<_>>(), [("a", true)]);
}
