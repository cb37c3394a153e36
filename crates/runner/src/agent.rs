//! The agent's life: started behind its own walls, asked by the Agent Client Protocol, answered, recorded, ended.
//!
//! What an agent says is untrusted: it can put words and tool calls in the record, and nothing that only the
//! runner, the operator, the gateway or the server can know.

mod updates;

use crate::acp::{self, Incoming, NO_METHOD, Peer, Refusal};
use crate::process::{self, Start};
use crate::reaper::Role;
use crate::tail::Tail;
use crate::terminals::{self, Terminals};
use crate::{Context, bound, files};
use agent_client_protocol_schema::v1::{ReadTextFileRequest, WriteTextFileRequest};
use api::inbox::{ACP_DONE, ACP_EVENT, ACP_LOOP, ACP_TASK, AGENT_PATH, AgentTask, Done, ToRunner, WORKSPACE};
use api::steps;
use model::Event;
use model::event::Exit;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::ffi::OsStr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::BufReader;
use tokio::net::unix::pipe;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use updates::Updates;

/// What an agent that was cancelled may take to end in order.
const GRACE: Duration = Duration::from_secs(2);
/// Requests of the agent that are served at a time; one more waits unread.
const MAX_SERVED: usize = 64;
/// Bytes of the agent's standard error that are kept for the reason of its death.
const KEPT_STDERR: usize = 2000;
/// The tool without which an agent has no commands.
const SHELL: &str = "shell";
/// Longest reason, in characters.
const MAX_REASON: usize = 2000;

/// One agent, seen by the tasks that serve it.
struct Session {
    context: Rc<Context>,
    peer: Peer,
    /// None where the profile gives no commands: then nothing starts one, whatever the agent says.
    terminals: Option<Terminals>,
    updates: RefCell<Updates>,
    slots: Arc<Semaphore>,
}

/// Runs the agent on its task to the end of both.
pub async fn run(context: &Rc<Context>, mut task: AgentTask, inbox: mpsc::Receiver<ToRunner>) -> Done {
    task.history = steps::join(std::mem::take(&mut task.history));
    let start = Start {
        program: OsStr::new(AGENT_PATH),
        args: &[],
        env: &[],
        cwd: Path::new(WORKSPACE),
        stdin: true,
        open_files: task.limits.open_files,
        bearer: None,
    };
    let mut started = match process::start(&start, Role::Agent, context) {
        Ok(started) => started,
        Err(error) => return died(Exit::Unknown, &format!("the agent cannot be started: {error}")),
    };
    let Some(stdin) = started.stdin.take() else {
        return died(Exit::Unknown, "the agent has no standard input");
    };
    let session = Rc::new(Session {
        context: Rc::clone(context),
        peer: Peer::start(stdin),
        terminals: task.tools.iter().any(|tool| tool == SHELL).then(|| Terminals::new(task.limits.clone())),
        updates: RefCell::default(),
        slots: Arc::new(Semaphore::new(MAX_SERVED)),
    });
    let words = Rc::new(RefCell::new(Tail::new(KEPT_STDERR)));
    let listening = tokio::task::spawn_local(Rc::clone(&session).listen(started.stdout));
    let grumbling = tokio::task::spawn_local(keep_words(started.stderr, Rc::clone(&words)));

    let life = Life { session, pid: started.pid, ended: started.ended, words };
    life.run(&task, inbox, listening, grumbling).await
}

struct Life {
    session: Rc<Session>,
    pid: libc::pid_t,
    ended: oneshot::Receiver<Exit>,
    words: Rc<RefCell<Tail>>,
}

/// What came first.
enum First {
    /// The agent's last answer, or its refusal.
    Answer(Result<Value, Refusal>),
    /// Its death.
    Death(Exit),
    /// A person's word.
    Cancel,
    /// The wall time.
    Late,
}

impl Life {
    async fn run(
        mut self,
        task: &AgentTask,
        mut inbox: mpsc::Receiver<ToRunner>,
        listening: JoinHandle<()>,
        grumbling: JoinHandle<()>,
    ) -> Done {
        let talk = converse(Rc::clone(&self.session), task);
        tokio::pin!(talk);
        let met = Rc::clone(&self.session.context.met);
        let late = met.passed(Duration::from_secs(task.limits.seconds));
        let first = tokio::select! {
            answer = &mut talk => First::Answer(answer),
            exit = &mut self.ended => First::Death(exit.unwrap_or(Exit::Unknown)),
            () = cancelled(&mut inbox) => First::Cancel,
            () = late => First::Late,
        };
        let mut killed = None;
        let mut answer = None;
        match first {
            // Its pipe ended before it answered: its process ends too, by itself or by us.
            First::Answer(Err(_)) if self.session.peer.is_gone() => {
                let exit = match tokio::time::timeout(GRACE, &mut self.ended).await {
                    Ok(exit) => exit.unwrap_or(Exit::Unknown),
                    Err(_) => self.kill().await,
                };
                return self.dead(exit, listening, grumbling).await;
            }
            First::Answer(given) => answer = Some(given),
            First::Death(exit) => return self.dead(exit, listening, grumbling).await,
            First::Cancel => {
                let told = json!({ "sessionId": self.session.id() });
                // An agent that does not read cannot be told either.
                let ask = async { tokio::join!(self.session.peer.tell("session/cancel", &told), &mut talk).1 };
                answer = tokio::time::timeout(GRACE, ask).await.ok();
                killed = Some("killed: cancelled".to_owned());
            }
            First::Late => killed = Some(format!("killed: time limit {} s", task.limits.seconds)),
        }
        // It has said what it had to say: what it still does is no part of the run.
        self.kill().await;
        self.finish(listening, grumbling).await;
        conclude(killed, answer)
    }

    async fn kill(&mut self) -> Exit {
        self.session.context.reaper.kill(self.pid);
        (&mut self.ended).await.unwrap_or(Exit::Unknown)
    }

    async fn dead(&self, exit: Exit, listening: JoinHandle<()>, grumbling: JoinHandle<()>) -> Done {
        self.finish(listening, grumbling).await;
        // Read only now: its last words may have lain in the pipe.
        let words = self.words.borrow().text().0;
        let how = match &exit {
            Exit::Code { code } => format!(" with status {code}"),
            Exit::Signal { signal } => format!(" by signal {signal}"),
            Exit::Killed { why } => format!(" ({why})"),
            Exit::Unknown => String::new(),
        };
        let words = if words.is_empty() { String::new() } else { format!("; it said last: {words}") };
        died(exit, &format!("the agent died{how} before it answered{words}"))
    }

    /// After the agent's end: everything that it said is recorded, everything that it started is over.
    async fn finish(&self, listening: JoinHandle<()>, grumbling: JoinHandle<()>) {
        self.session.close_terminals().await;
        // What the agent forked may have left its session, and holds its pipes: nothing may live now.
        self.session.context.reaper.kill_everyone().await;
        for task in [listening, grumbling] {
            if let Err(error) = task.await {
                self.session.context.outbox.note(format!("words of the agent were lost: {error}")).await;
            }
        }
        // All slots free: nothing is served any more. A command that was just being made is ended too.
        drop(self.session.slots.acquire_many(MAX_SERVED as u32).await);
        self.session.close_terminals().await;
    }
}

/// Initialize, new session, prompt: the whole conversation that we lead. Gives the last answer.
async fn converse(session: Rc<Session>, task: &AgentTask) -> Result<Value, Refusal> {
    let peer = &session.peer;
    let hello = peer
        .ask(
            "initialize",
            &json!({
                "protocolVersion": 1,
                "clientCapabilities": { "fs": { "readTextFile": true, "writeTextFile": true }, "terminal": session.terminals.is_some() },
                "clientInfo": { "name": "volary", "version": env!("CARGO_PKG_VERSION") },
            }),
        )
        .await?;
    let version = hello.get("protocolVersion").and_then(Value::as_u64);
    if version != Some(1) {
        let said = version.map_or("none".to_owned(), |version| version.to_string());
        return Err(Refusal::failed(format!("the agent speaks version {said} of the Agent Client Protocol, not 1")));
    }
    session.updates.borrow_mut().greet(&hello);
    let new = json!({ "cwd": WORKSPACE, "mcpServers": [], "_meta": { ACP_TASK: task } });
    let made = peer.ask("session/new", &new).await?;
    let Some(id) = made.get("sessionId").and_then(Value::as_str) else {
        return Err(Refusal::failed("the agent answered session/new without a session"));
    };
    session.updates.borrow_mut().session = id.to_owned();
    let prompt = json!({ "sessionId": id, "prompt": [{ "type": "text", "text": task.task }] });
    peer.ask("session/prompt", &prompt).await
}

async fn cancelled(inbox: &mut mpsc::Receiver<ToRunner>) {
    loop {
        match inbox.recv().await {
            Some(ToRunner::Cancel) => return,
            // An agent's run has no other frames.
            Some(_) => {}
            // The input has ended, and with it, at any moment now, we.
            None => std::future::pending().await,
        }
    }
}

async fn keep_words(stderr: pipe::Receiver, words: Rc<RefCell<Tail>>) {
    use tokio::io::AsyncReadExt;
    let mut stderr = stderr;
    let mut piece = [0u8; 1024];
    while let Ok(read @ 1..) = stderr.read(&mut piece).await {
        words.borrow_mut().push(&piece[..read]);
    }
}

fn died(exit: Exit, reason: &str) -> Done {
    Done { exit, task_done: false, reason: bounded(reason) }
}

fn bounded(text: &str) -> String {
    text.chars().take(MAX_REASON).collect()
}

/// How the run ended, from the agent's last answer and from what we did to it.
fn conclude(killed: Option<String>, answer: Option<Result<Value, Refusal>>) -> Done {
    let (done, reason) = match answer {
        Some(Ok(answer)) => verdict(&answer),
        Some(Err(refusal)) => (false, format!("the agent refused: {} ({})", refusal.message, refusal.code)),
        None => (false, killed.clone().unwrap_or_default()),
    };
    match killed {
        Some(why) => {
            let reason = if reason.is_empty() { why.clone() } else { reason };
            Done { exit: Exit::Killed { why }, task_done: false, reason: bounded(&reason) }
        }
        // It answered and was ended in order; that is its good end, whatever state its process was in.
        None => Done { exit: Exit::Code { code: i32::from(!done) }, task_done: done, reason: bounded(&reason) },
    }
}

/// Whether the answer to the prompt says that the task is done, and if not, why.
fn verdict(answer: &Value) -> (bool, String) {
    if let Some(said) = answer.get("_meta").and_then(|meta| meta.get(ACP_DONE)) {
        let reason = said.get("reason").and_then(Value::as_str).unwrap_or_default();
        return (said.get("done").and_then(Value::as_bool).unwrap_or(false), reason.to_owned());
    }
    match answer.get("stopReason").and_then(Value::as_str) {
        Some("end_turn") => (true, String::new()),
        other => (false, format!("the agent stopped: {}", other.unwrap_or("without a reason"))),
    }
}

impl Session {
    fn id(&self) -> String {
        self.updates.borrow().session.clone()
    }

    /// Reads what the agent says until its pipe ends. Words are recorded here, in order; requests are served
    /// in tasks of their own, so that reading never waits for the agent to read.
    async fn listen(self: Rc<Self>, stdout: pipe::Receiver) {
        let mut from = BufReader::new(stdout);
        loop {
            match acp::read_line(&mut from).await {
                Ok(Some(line)) => self.take(&line).await,
                Ok(None) => break,
                Err(error) => {
                    self.context.outbox.note(format!("the agent's words cannot be read: {error}")).await;
                    break;
                }
            }
        }
        self.peer.gone();
    }

    async fn take(self: &Rc<Self>, line: &[u8]) {
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        match acp::parse(line) {
            Some(Incoming::Answer { id, result }) => self.peer.answered(id, result),
            Some(Incoming::Notification { method, params }) => self.hear(&method, params).await,
            Some(Incoming::Request { id, method, params }) => {
                let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else { return };
                let session = Rc::clone(self);
                tokio::task::spawn_local(async move {
                    let answer = session.serve(&method, params).await;
                    session.peer.answer(&id, answer).await;
                    drop(slot);
                });
            }
            None => {
                let start = String::from_utf8_lossy(&line[..line.len().min(120)]).into_owned();
                self.context.outbox.note(format!("the agent wrote a line that is no message: {start}")).await;
            }
        }
    }

    async fn hear(&self, method: &str, params: Value) {
        let outbox = &self.context.outbox;
        match method {
            ACP_LOOP => {
                if let Some(step) = params.get("step") {
                    outbox.event(Event::Loop { step: step.clone() }).await;
                }
            }
            ACP_EVENT => {
                self.updates.borrow_mut().speaks_volary = true;
                match bound::from_agent(params.get("event").unwrap_or(&Value::Null)) {
                    Ok(event) => outbox.event(event).await,
                    Err(kind) => outbox.note(format!("the agent may not say an event of kind {kind:?}; dropped")).await,
                }
            }
            "session/update" => {
                let event = self.updates.borrow_mut().take(&params);
                if let Some(event) = event {
                    outbox.event(event).await;
                }
            }
            // A notification that we do not know wants nothing of us.
            _ => {}
        }
    }

    async fn serve(&self, method: &str, params: Value) -> Result<Value, Refusal> {
        match method {
            "fs/read_text_file" => {
                let asked: ReadTextFileRequest = terminals::read(params)?;
                let content = files::read(&asked.path, asked.line, asked.limit).map_err(Refusal::failed)?;
                Ok(json!({ "content": content }))
            }
            "fs/write_text_file" => self.write(terminals::read(params)?).await,
            "terminal/create" => self.terminals()?.create(&self.context, params).await,
            "terminal/output" => self.terminals()?.output(params),
            "terminal/wait_for_exit" => self.terminals()?.wait(params).await,
            "terminal/kill" => self.terminals()?.kill(params),
            "terminal/release" => self.terminals()?.release(params),
            "session/request_permission" => {
                let title = params.get("toolCall").and_then(|call| call.get("title")).and_then(Value::as_str);
                let title = title.unwrap_or("a tool call").chars().take(200).collect::<String>();
                self.context
                    .outbox
                    .note(format!("the agent asked for permission ({title}); there is no one to give it"))
                    .await;
                Ok(json!({ "outcome": { "outcome": "cancelled" } }))
            }
            _ => Err(Refusal { code: NO_METHOD, message: format!("there is no method {method:?} here") }),
        }
    }

    fn terminals(&self) -> Result<&Terminals, Refusal> {
        let message = "this profile gives no commands (its tools are without shell)".to_owned();
        self.terminals.as_ref().ok_or(Refusal { code: NO_METHOD, message })
    }

    async fn close_terminals(&self) {
        if let Some(terminals) = &self.terminals {
            terminals.close().await;
        }
    }

    async fn write(&self, asked: WriteTextFileRequest) -> Result<Value, Refusal> {
        // Its edit stands in the record afterwards; that the model asked for it must stand there before.
        self.context.outbox.all_kept().await;
        let written = files::write(&asked.path, &asked.content).map_err(Refusal::failed)?;
        let path = asked.path.to_string_lossy().into_owned();
        let event = Event::FileEdit { path, created: written.created, diff: written.diff, diff_cut: written.cut };
        self.context.outbox.event_first(event).await;
        Ok(json!({}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_agent_says_itself_whether_the_task_is_done_and_others_by_their_stop_reason() {
        let ours = json!({ "stopReason": "end_turn", "_meta": { ACP_DONE: { "done": false, "reason": "no budget" } } });
        assert_eq!(verdict(&ours), (false, "no budget".into()));
        assert_eq!(verdict(&json!({ "stopReason": "end_turn" })), (true, String::new()));
        assert_eq!(verdict(&json!({ "stopReason": "refusal" })), (false, "the agent stopped: refusal".into()));
    }

    #[test]
    fn a_cancelled_run_is_not_done_whatever_the_agent_says() {
        let done = json!({ "stopReason": "end_turn", "_meta": { ACP_DONE: { "done": true, "reason": "" } } });
        let end = conclude(Some("killed: cancelled".into()), Some(Ok(done)));
        assert_eq!((end.task_done, end.reason.as_str()), (false, "killed: cancelled"));
    }

    #[test]
    fn a_reason_is_bounded_in_characters() {
        assert_eq!(died(Exit::Unknown, &"é".repeat(MAX_REASON + 1)).reason.chars().count(), MAX_REASON);
    }
}
