//! The driver: carries out what the machine asks for, and brings back what came of it as steps.
//!
//! Every step is sent for the record before its effects are begun, on the same ordered line as the calls to
//! the runner, so that nothing happens in the box that the record does not lead up to.

use crate::door::Door;
use crate::prompt;
use crate::tools::{self, Bench, Request};
use crate::turns::{Answer, Call, Effect, End, Ending, Failure, Machine, Started, Step, ToolResult, resume};
use agent_client_protocol_schema::v1::{
    CLIENT_METHOD_NAMES, ContentBlock, ContentChunk, SessionNotification, SessionUpdate, TextContent, ToolCall,
    ToolCallContent, ToolCallStatus, ToolCallUpdate, ToolCallUpdateFields,
};
use api::inbox::{ACP_EVENT, ACP_LOOP, AgentTask};
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use model::Event;
use serde_json::{Value, json};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Waits the given milliseconds.
pub type Sleeper = Rc<dyn Fn(u64) -> LocalBoxFuture<'static, ()>>;

/// The one that does wait.
#[must_use]
pub fn real_sleeper() -> Sleeper {
    Rc::new(|ms| Box::pin(tokio::time::sleep(Duration::from_millis(ms))))
}

/// Shortest time between two pieces of the model's words, so that a word is not an event.
const PIECE_TIME: Duration = Duration::from_millis(50);
/// Longest piece, in bytes.
const PIECE_BYTES: usize = 16 * 1024;
/// The agent ends this long before the run's wall-clock limit, so that it can say why.
const BEFORE_THE_END: u64 = 5;

/// Steps that are to be taken, with the work that brings more of them.
type Work<'a> = FuturesUnordered<LocalBoxFuture<'a, Step>>;

/// Runs one task.
pub struct Drive {
    bench: Bench,
    door: Door,
    sleeper: Sleeper,
    cancel: watch::Receiver<bool>,
}

/// The runner is gone; there is no one to tell.
struct Gone;

fn gone() -> End {
    End { how: Ending::Failed, reason: "The runner is gone.".into() }
}

impl Drive {
    /// A driver with its tools, its model, its clock, and the word that ends it.
    #[must_use]
    pub fn new(bench: Bench, door: Door, sleeper: Sleeper, cancel: watch::Receiver<bool>) -> Self {
        Self { bench, door, sleeper, cancel }
    }

    /// Runs the loop to its end: from its start, or on from where the task's history leaves it.
    pub async fn run(self, task: &AgentTask) -> End {
        let (machine, first) = if task.history.is_empty() {
            (Machine::default(), Step::Started(started(task)))
        } else {
            match resume(&task.history) {
                Ok((machine, results)) => {
                    // The box before may have died between a step and the event that shows it.
                    for result in results.iter().filter(|result| !task.answered.contains(&result.id)) {
                        if self.answered(result).await.is_err() {
                            return gone();
                        }
                    }
                    (machine, Step::Resumed)
                }
                Err(error) => {
                    let reason = format!("The run cannot be resumed: {error}.");
                    return End { how: Ending::Failed, reason };
                }
            }
        };
        let seconds = task.limits.seconds.saturating_sub(BEFORE_THE_END).max(1);
        match self.steps(machine, first, Duration::from_secs(seconds)).await {
            Ok(end) => end,
            Err(Gone) => gone(),
        }
    }

    async fn steps(&self, mut machine: Machine, first: Step, time: Duration) -> Result<End, Gone> {
        let (words, mut said) = mpsc::unbounded_channel::<String>();
        let mut cancel = self.cancel.clone();
        let mut deadline = std::pin::pin!(crate::lived::sleep(time));
        let mut work = Work::new();
        let mut pieces = Pieces::default();
        let mut next = Some(first);
        loop {
            while let Some(step) = next.take() {
                if matches!(step, Step::ModelAnswered(_) | Step::ModelFailed(_) | Step::Cancelled | Step::TimeUp) {
                    while let Ok(text) = said.try_recv() {
                        pieces.add(&text);
                    }
                    if matches!(step, Step::ModelFailed(_)) && pieces.any {
                        pieces.add("\n[the answer broke off here]\n");
                    }
                    self.flush(&mut pieces, machine.turns() + 1).await?;
                    pieces = Pieces::default();
                }
                self.tell(ACP_LOOP, json!({ "step": step })).await?;
                for effect in machine.step(&step) {
                    match effect {
                        Effect::CallModel { .. } => {
                            let body = machine.request().unwrap_or_default();
                            let words = words.clone();
                            work.push(Box::pin(self.call(body, words)));
                        }
                        Effect::RunTool(call) => {
                            self.announce(&call, machine.turns()).await?;
                            work.push(Box::pin(self.tool(call)));
                        }
                        Effect::Answered(result) => self.answered(&result).await?,
                        Effect::Wait { ms } => {
                            let waiting = (self.sleeper)(ms);
                            work.push(Box::pin(async move {
                                waiting.await;
                                Step::Waited
                            }));
                        }
                        Effect::Compact { left_out } => next = Some(Step::Compacted { left_out }),
                        Effect::Finish(end) => return Ok(end),
                    }
                }
            }
            // Cancelled and out of time come first: a model that answers without pause must not outrun them.
            tokio::select! {
                biased;
                Ok(_) = cancel.wait_for(|cancelled| *cancelled) => next = Some(Step::Cancelled),
                () = &mut deadline => next = Some(Step::TimeUp),
                Some(text) = said.recv() => {
                    pieces.add(&text);
                    if pieces.text.len() >= PIECE_BYTES {
                        self.flush(&mut pieces, machine.turns() + 1).await?;
                    }
                }
                () = pieces.due() => self.flush(&mut pieces, machine.turns() + 1).await?,
                Some(step) = work.next() => next = Some(step),
            }
        }
    }

    async fn call(&self, body: Vec<u8>, words: mpsc::UnboundedSender<String>) -> Step {
        let mut on_text = |text: &str| {
            // The receiver lives as long as this call does.
            words.send(text.to_owned()).ok();
        };
        let outcome: Result<Answer, Failure> = self.door.call(body, &mut on_text).await;
        match outcome {
            Ok(answer) => Step::ModelAnswered(answer),
            Err(failure) => Step::ModelFailed(failure),
        }
    }

    async fn tool(&self, call: Call) -> Step {
        Step::ToolFinished(tools::run(&self.bench, &call).await)
    }

    async fn flush(&self, pieces: &mut Pieces, turn: u32) -> Result<(), Gone> {
        let text = std::mem::take(&mut pieces.text);
        pieces.since = None;
        if text.is_empty() {
            return Ok(());
        }
        let mut rest = &text[..];
        while !rest.is_empty() {
            let piece = &rest[..rest.floor_char_boundary(PIECE_BYTES)];
            rest = &rest[piece.len()..];
            self.event(&Event::Chunk { turn, text: piece.to_owned() }).await?;
            self.update(SessionUpdate::AgentMessageChunk(ContentChunk::new(words(piece)))).await?;
        }
        Ok(())
    }

    async fn announce(&self, call: &Call, turn: u32) -> Result<(), Gone> {
        let parsed = Request::parse(call, &self.bench.tools);
        let title = parsed.as_ref().map_or_else(|_| format!("{} (malformed)", call.name), Request::title);
        // What is no JSON is shown as the text that it is.
        let input = serde_json::from_str(&call.input).unwrap_or_else(|_| Value::from(&*call.input));
        let event = Event::ToolCall {
            turn,
            id: call.id.clone(),
            name: tools::cut::characters(&call.name, 100),
            title: title.clone(),
            input: input.clone(),
        };
        self.event(&event).await?;
        let shown = ToolCall::new(call.id.clone(), title)
            .kind(parsed.map_or_else(|_| Default::default(), |request| request.kind()))
            .status(ToolCallStatus::InProgress)
            .raw_input(input);
        self.update(SessionUpdate::ToolCall(shown)).await
    }

    async fn answered(&self, result: &ToolResult) -> Result<(), Gone> {
        let (id, text) = (result.id.clone(), result.text.clone());
        self.event(&Event::ToolResult { id, ok: result.ok, text, cut: result.cut }).await?;
        let status = if result.ok { ToolCallStatus::Completed } else { ToolCallStatus::Failed };
        let fields =
            ToolCallUpdateFields::new().status(status).content(vec![ToolCallContent::from(words(&result.text))]);
        self.update(SessionUpdate::ToolCallUpdate(ToolCallUpdate::new(result.id.clone(), fields))).await
    }

    async fn event(&self, event: &Event) -> Result<(), Gone> {
        self.tell(ACP_EVENT, json!({ "event": event })).await
    }

    async fn update(&self, update: SessionUpdate) -> Result<(), Gone> {
        let note = SessionNotification::new(self.bench.session.clone(), update);
        self.bench.peer.notify(CLIENT_METHOD_NAMES.session_update, note).await.map_err(|_| Gone)
    }

    async fn tell(&self, method: &str, params: Value) -> Result<(), Gone> {
        self.bench.peer.notify(method, params).await.map_err(|_| Gone)
    }
}

fn words(text: &str) -> ContentBlock {
    ContentBlock::Text(TextContent::new(text))
}

/// The model's words that were not sent yet.
#[derive(Default)]
struct Pieces {
    text: String,
    /// When the oldest of them came.
    since: Option<Instant>,
    /// Whether this call said anything.
    any: bool,
}

impl Pieces {
    fn add(&mut self, text: &str) {
        self.text.push_str(text);
        self.since.get_or_insert_with(Instant::now);
        self.any = true;
    }
    async fn due(&self) {
        match self.since {
            Some(since) => tokio::time::sleep_until(since + PIECE_TIME).await,
            None => std::future::pending().await,
        }
    }
}

fn started(task: &AgentTask) -> Started {
    Started {
        task: task.task.clone(),
        system: prompt::system(task),
        tools: tools::specs(&task.tools),
        model: task.model.clone(),
        max_turns: task.limits.turns,
        max_tokens: task.limits.tokens,
    }
}
