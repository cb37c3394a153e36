//! The link's server side: operators dial in, one at a time, and say what happens on their host.
//!
//! Each event is taken once and in order, and acknowledged after its commit. A cut ends nothing: the operator
//! comes back, and [`crate::reconcile`] says what follows from what it knows then.

use crate::app::App;
use crate::desk::{Closing, Desk};
use crate::fault::Fault;
use crate::reconcile::{Held, Next, Step, Then, again, reconcile};
use crate::{now, pause, record, runs};
use api::frame::{self, FrameError, MAX_FRAME};
use api::link::{Down, Known, Up};
use model::event::Source;
use model::run::RunKind;
use model::{Event, Moment, Outcome, RunId, RunState};
use scrub::Scrubber;
use serde_json::json;
use serde_json::value::RawValue;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use store::chain::By;
use store::runs::{RunRow, Taken};
use store::{StoreError, Tx};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

/// Longest event that is kept whole, in bytes: a diff of 1 MiB (the longest text of an event), escaped as JSON.
pub const MAX_EVENT: usize = 4 * 1024 * 1024;

/// How much of a longer event is kept, in bytes.
const KEPT_OF_LONGER: usize = 64 * 1024;

/// Events taken in one act.
const GROUP: usize = 256;

/// Frames that may wait for the operator; one that is slower than that is cut off, and comes back.
const WAITING: usize = 4096;

/// How long an operator may take to say hello.
const HELLO: Duration = Duration::from_secs(10);

/// Why a frame did not go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The connection is gone, or too far behind and cut off.
    #[error("the operator is not linked")]
    Gone,
    /// The message is longer than a frame; holds its length.
    #[error("a message of {0} bytes is longer than a frame")]
    TooLong(usize),
}

/// The way to one linked operator.
#[derive(Debug, Clone)]
pub struct LinkHandle {
    id: u64,
    /// The host's own name.
    pub host: Arc<str>,
    out: mpsc::Sender<Vec<u8>>,
    cut: Arc<Notify>,
    /// Where its answers and its room for input come in.
    pub desk: Arc<Desk>,
}

impl LinkHandle {
    /// Queues a message.
    ///
    /// # Errors
    /// [`SendError`]; nothing was queued then.
    pub fn send(&self, down: &Down) -> Result<(), SendError> {
        let bytes = serde_json::to_vec(down).map_err(|_| SendError::Gone)?;
        if bytes.len() > MAX_FRAME {
            return Err(SendError::TooLong(bytes.len()));
        }
        self.out.try_send(bytes).map_err(|_| {
            self.cut.notify_one();
            SendError::Gone
        })
    }

    /// Queues a message that the next hello makes up for, should the connection be gone.
    pub fn tell(&self, down: &Down) {
        if let Err(e) = self.send(down) {
            tracing::debug!("not told to the operator: {e}");
        }
    }
}

/// Serves operators, one at a time: a new connection takes the place of the old one.
pub async fn serve(app: App, listener: UnixListener) {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    let mut current: JoinSet<()> = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                current.shutdown().await;
                let (app, id) = (app.clone(), COUNT.fetch_add(1, Ordering::Relaxed));
                current.spawn(async move {
                    if let Err(e) = connection(&app, stream, id).await {
                        tracing::warn!("the link was cut: {e}");
                    }
                    if app.operator().is_some_and(|now| now.id == id) {
                        app.set_operator(None);
                    }
                });
            }
            Err(e) => {
                tracing::warn!("the link's socket does not accept: {e}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Cut {
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("no hello came")]
    NoHello,
    #[error("{}", .0.problem.message)]
    Fault(Fault),
    #[error("the operator does not read what it is told")]
    Slow,
}

impl<E: Into<Fault>> From<E> for Cut {
    fn from(fault: E) -> Self {
        Self::Fault(fault.into())
    }
}

/// What this connection still has to do, or has asked for.
#[derive(Default)]
struct Open {
    /// Runs that wait for events up to a number.
    when: HashMap<RunId, (u64, Then)>,
    /// Where a resend was asked from last, so that it is asked once.
    asked: HashMap<RunId, u64>,
}

async fn connection(app: &App, stream: UnixStream, id: u64) -> Result<(), Cut> {
    let (mut from, mut to) = stream.into_split();
    let hello = tokio::time::timeout(HELLO, frame::read(&mut from)).await.map_err(|_| Cut::NoHello)??;
    let Up::Hello { host, runs } = hello else { return Err(Cut::NoHello) };
    tracing::info!("the operator of {host} is linked; it knows {} runs", runs.len());

    let (out, mut waiting) = mpsc::channel::<Vec<u8>>(WAITING);
    let (said, mut hear) = mpsc::channel::<Up>(GROUP);
    let cut = Arc::new(Notify::new());
    let desk = Arc::new(Desk::default());
    // Whoever waits at it is told, however this connection ends.
    let _closing = Closing(desk.clone());
    let link = LinkHandle { id, host: host.into(), out, cut: cut.clone(), desk };
    let mut halves: JoinSet<Result<(), FrameError>> = JoinSet::new();
    halves.spawn(async move {
        while let Some(bytes) = waiting.recv().await {
            frame::write_bytes(&mut to, &bytes).await?;
        }
        Ok(())
    });
    halves.spawn(async move {
        loop {
            let up = frame::read(&mut from).await?;
            if said.send(up).await.is_err() {
                return Ok(());
            }
        }
    });

    let mut open = Open::default();
    {
        let _placing = app.placing.lock().await;
        app.set_operator(Some(link.clone()));
        greet(app, &link, runs, &mut open).await?;
    }
    // Another operator, whose boxes are others.
    app.warm.forget_told();
    if let Some(head) = app.store.last_head().await? {
        link.tell(&Down::Head { head: head.note });
    }
    let mut batch = Vec::with_capacity(GROUP);
    loop {
        tokio::select! {
            n = hear.recv_many(&mut batch, GROUP) => {
                if n == 0 {
                    break;
                }
                take(app, &link, batch.drain(..), &mut open).await?;
            }
            () = cut.notified() => return Err(Cut::Slow),
        }
    }
    match halves.join_next().await {
        Some(Ok(Err(FrameError::Closed))) | None => Ok(()),
        Some(Ok(Err(e))) => Err(e.into()),
        Some(_) => Ok(()),
    }
}

fn held(row: &RunRow) -> Held {
    Held {
        run: row.run.clone(),
        over: row.state.is_over(),
        launches: row.launches,
        boxes: row.attempts,
        operator_seq: row.operator_seq,
        cancel_asked: row.cancel_asked,
        paused: row.state == RunState::Paused,
        command_begun: false,
    }
}

/// Carries out what follows from the host's list.
async fn greet(app: &App, link: &LinkHandle, known: Vec<Known>, open: &mut Open) -> Result<(), Fault> {
    let mut rows = app.store.live_runs().await?;
    for k in &known {
        if !rows.iter().any(|row| row.run == k.run) {
            rows.extend(app.store.run(&k.run).await?);
        }
    }
    let ours: Vec<Held> = rows.iter().map(held).collect();
    for step in reconcile(&ours, &known) {
        match step {
            Step::Resend { run, after } => {
                open.asked.insert(run.clone(), after);
                link.tell(&Down::Resend { run, after });
            }
            Step::Cancel { run } => link.tell(&Down::Cancel { run }),
            Step::Hold { run, still: true } => pause::again(app, link, run),
            Step::Hold { run, still: false } => link.tell(&Down::Resume { run }),
            Step::When { run, seq, then } => {
                let here = ours.iter().find(|o| o.run == run).map_or(0, |o| o.operator_seq);
                if here >= seq {
                    carry_out(app, link, &run, then).await?;
                } else {
                    open.when.insert(run, (seq, then));
                }
            }
        }
    }
    Ok(())
}

async fn carry_out(app: &App, link: &LinkHandle, run: &RunId, then: Then) -> Result<(), Fault> {
    match then {
        Then::Again { here } => {
            // As it is now, with all that its host recorded.
            let Some(row) = app.store.run(run).await?.filter(|row| !row.state.is_over()) else { return Ok(()) };
            // Its walls are recorded before a command is sent.
            let sent = row.kind == RunKind::Exec && !app.store.events_of_kind(run, "walls").await?.is_empty();
            match again(&Held { command_begun: sent, ..held(&row) }, here) {
                Next::Launch { attempt } => runs::launch(app, link, run, attempt, None).await,
                Next::Wait => Ok(()),
                Next::Cancel => {
                    link.tell(&Down::Cancel { run: run.clone() });
                    Ok(())
                }
                Next::Close { reason } => {
                    link.tell(&Down::Close { run: run.clone(), reason });
                    Ok(())
                }
                Next::End => runs::end(app, run, Outcome::Cancelled, "A person ended the run.").await,
                Next::Fail { reason } => runs::end(app, run, Outcome::Failed, &reason).await,
            }
        }
        Then::Fail { reason } => runs::end(app, run, Outcome::Failed, &reason).await,
        Then::Settle => {
            link.tell(&Down::Settle { run: run.clone() });
            Ok(())
        }
    }
}

/// One event as it will be kept.
struct Incoming {
    run: RunId,
    seq: u64,
    at: Moment,
    raw: Box<RawValue>,
    event: Event,
}

/// What is kept of what an operator sent: scrubbed, whole where it can be, never nothing.
///
/// Events that only the server may write are kept as unknown ones, so that no box speaks in the gateway's name.
fn incoming(scrubber: &Scrubber, raw: &RawValue) -> (Box<RawValue>, Event) {
    let text = scrub::event::scrub_event(scrubber, raw.get());
    let unknown = |why: &str| {
        let cut: String = text.chars().take(KEPT_OF_LONGER).collect();
        let kept = json!({ "kind": "unknown", "why": why, "bytes": text.len(), "raw": cut });
        let kept = serde_json::value::to_raw_value(&kept).expect("a JSON value is JSON");
        (kept, Event::Unknown)
    };
    if text.len() > MAX_EVENT {
        return unknown("longer than an event may be");
    }
    match serde_json::from_str::<Event>(&text) {
        Ok(
            Event::Accepted { .. }
            | Event::Paused { .. }
            | Event::Resumed { .. }
            | Event::Verdict(_)
            | Event::Settled { .. }
            | Event::Passed { .. }
            | Event::Reads { .. }
            | Event::Push { .. }
            | Event::PullRequestWanted { .. }
            | Event::PullRequest { .. }
            | Event::Proposed { .. }
            | Event::ProfileChanged { .. },
        ) => unknown("an event that only the server writes"),
        Ok(event) => match RawValue::from_string(text.clone()) {
            Ok(raw) => (raw, event),
            Err(_) => unknown("not JSON"),
        },
        Err(_) => unknown("malformed"),
    }
}

/// What one act came to, for one run.
#[derive(Default)]
struct Came {
    last: u64,
    ack: Option<u64>,
    gap: Option<u64>,
    ended: bool,
    missing: bool,
}

async fn take(app: &App, link: &LinkHandle, batch: impl Iterator<Item = Up>, open: &mut Open) -> Result<(), Fault> {
    let scrubber = app.scrubber();
    let mut events = Vec::new();
    for up in batch {
        match up {
            Up::Event { run, seq, at, event } => {
                let (raw, event) = incoming(&scrubber, &event);
                events.push(Incoming { run, seq, at, raw, event });
            }
            Up::Took { run, bytes } => link.desk.took(&run, bytes),
            Up::Kept { id, answer } => link.desk.answer(id, answer),
            Up::Image { id, words } => {
                link.tell(&Down::Image { id, refused: crate::images::unfit(&scrubber, &words) });
            }
            Up::Witnessed { head } => drop(app.heads.witnessed.send_replace(head)),
            Up::Hello { .. } => tracing::warn!("a second hello on one link; it is ignored"),
        }
    }
    if events.is_empty() {
        return Ok(());
    }
    let host = link.host.to_string();
    let came = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                let mut came: BTreeMap<RunId, Came> = BTreeMap::new();
                for event in events {
                    let run = event.run.clone();
                    let one = came.entry(run).or_default();
                    take_one(tx, event, &host, one).await?;
                }
                Ok::<_, StoreError>(came)
            })
        })
        .await?;
    for (run, one) in came {
        if one.missing {
            tracing::warn!("the operator speaks of a run that is not here: {run}");
            continue;
        }
        if let Some(seq) = one.ack {
            link.tell(&Down::Ack { run: run.clone(), seq });
        }
        match one.gap {
            Some(after) if open.asked.insert(run.clone(), after) != Some(after) => {
                link.tell(&Down::Resend { run: run.clone(), after });
            }
            _ => {}
        }
        if one.ended {
            open.when.remove(&run);
            runs::over(app, &run, one.last);
            link.desk.forget(&run);
            app.heads.wanted.notify_one();
            link.tell(&Down::Settle { run: run.clone() });
        } else if one.last > 0 {
            app.live.tell(&run, one.last);
        }
        if let Some((seq, _)) = open.when.get(&run)
            && one.ack.is_some_and(|have| have >= *seq)
            && let Some((_, then)) = open.when.remove(&run)
        {
            let _placing = app.placing.lock().await;
            carry_out(app, link, &run, then).await?;
        }
    }
    Ok(())
}

async fn take_one(tx: &mut Tx, incoming: Incoming, host: &str, came: &mut Came) -> Result<(), StoreError> {
    let Incoming { run, seq, at, raw, event } = incoming;
    match tx.take(&run, seq, at, raw, &event).await? {
        Taken::NoRun => came.missing = true,
        Taken::Known => came.ack = came.ack.max(Some(seq)),
        Taken::Gap { have } => came.gap = Some(have),
        Taken::New(entry) => {
            came.ack = came.ack.max(Some(seq));
            came.last = entry.n;
            came.gap = None;
            debug_assert_eq!(entry.source, Source::Operator);
            if record::worth(&event) {
                let mut more = match &event {
                    Event::Ended { .. } => record::ended(&run, &event),
                    Event::Walls { readings } => record::fields(json!({
                        "run": run, "readings": readings.len(), "hold": readings.iter().all(|r| r.holds),
                    })),
                    Event::BrokenOff { attempt, reason } => record::fields(json!({
                        "run": run, "attempt": attempt, "reason": record::short(reason),
                    })),
                    _ => record::fields(json!({ "run": run })),
                };
                more.insert("entry".into(), entry.n.into());
                more.insert("entry_sha256".into(), crate::random::sha256_hex(entry.event.get().as_bytes()).into());
                let kind = format!("run.event.{}", kind(&event));
                tx.record(By::Operator, now(), &kind, host, more).await?;
            }
            if matches!(event, Event::Ended { .. }) {
                came.ended = true;
                tx.end_handles(&run).await?;
                crate::leases::run_over(tx, &run, now(), &event).await?;
            }
        }
    }
    Ok(())
}

fn kind(event: &Event) -> &'static str {
    match event {
        Event::Base { .. } => "base",
        Event::Attempt { .. } => "attempt",
        Event::BrokenOff { .. } => "broken-off",
        Event::Walls { .. } => "walls",
        Event::Froze => "froze",
        Event::Thawed { .. } => "thawed",
        Event::Result { .. } => "result",
        Event::Ended { .. } => "ended",
        Event::ToolCall { .. } => "tool-call",
        Event::Command { .. } => "command",
        Event::CommandEnd { .. } => "command-end",
        Event::FileEdit { .. } => "file-edit",
        _ => "other",
    }
}
