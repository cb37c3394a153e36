//! The Agent Client Protocol, version 1, agent's side.
//!
//! What is said, beside the standard:
//! - `initialize` answers with `_meta: {"_volary": {"version": 1}}`: by it the runner knows our agent, takes
//!   its record from the two extension notifications, and passes its `session/update`s over.
//! - `session/new` takes the whole task ([`AgentTask`]) in `_meta["volary.task"]`. One session, one prompt.
//! - `session/prompt` runs the loop to its end (its text is the task once more, and not looked at) and answers
//!   with `_meta["volary.done"]`: `{"done": bool, "reason": text}`.
//! - `_volary/loop` `{"step": …}`: every step of the loop, before anything is done because of it.
//! - `_volary/event` `{"event": …}`: `Event::Chunk`, `Event::ToolCall`, `Event::ToolResult`.
//! - `session/update`: message chunks, tool calls and their updates, so that any client can show the session.
//!
//! Files and commands are the client's: `fs/*` and `terminal/*`.

use crate::door::{CallLimits, Door};
use crate::drive::{Drive, Sleeper};
use crate::rpc::{Id, Incoming, Peer, RpcError, receive};
use crate::tools::{Bench, specs};
use crate::turns::{End, Ending};
use agent_client_protocol_schema::ProtocolVersion;
use agent_client_protocol_schema::v1::{
    AGENT_METHOD_NAMES, Error, Implementation, InitializeResponse, Meta, NewSessionRequest, NewSessionResponse,
    PromptRequest, PromptResponse, SessionId, StopReason,
};
use api::inbox::{ACP_DONE, ACP_TASK, AgentTask, DOOR};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use serde_json::value::RawValue;
use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use tokio::io::AsyncBufRead;
use tokio::sync::watch;

/// Key of `_meta` in the answer to `initialize` that says: this is our agent.
pub const CAPABILITY: &str = "_volary";

const SESSION: &str = "volary";

/// What the agent needs of its surroundings; other values in tests.
#[derive(Clone)]
pub struct Surroundings {
    /// Address of the gateway.
    pub door: String,
    /// The worktree.
    pub root: PathBuf,
    /// Waits between tries.
    pub sleeper: Sleeper,
    /// Ceilings of a model call.
    pub call_limits: CallLimits,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self {
            door: DOOR.to_owned(),
            root: PathBuf::from(api::inbox::WORKSPACE),
            sleeper: crate::drive::real_sleeper(),
            call_limits: CallLimits::default(),
        }
    }
}

enum State {
    /// No session.
    Idle,
    /// A session that waits for its prompt.
    Ready(Box<AgentTask>),
    /// The prompt was taken.
    Taken,
}

struct Agent {
    peer: Peer,
    state: RefCell<State>,
    cancel: watch::Sender<bool>,
    around: Surroundings,
}

/// Serves one connection, until the client closes it. Must run inside a [`tokio::task::LocalSet`].
///
/// # Errors
/// The stream's own.
pub async fn serve(mut from: impl AsyncBufRead + Unpin, peer: Peer, around: Surroundings) -> std::io::Result<()> {
    let (cancel, _) = watch::channel(false);
    let agent = Rc::new(Agent { peer, state: RefCell::new(State::Idle), cancel, around });
    while let Some(incoming) = receive(&mut from, &agent.peer).await? {
        match incoming {
            Incoming::Request { id, method, params } => {
                let agent = Rc::clone(&agent);
                // Each in a task of its own: a prompt lasts as long as the run, and asks this very reader for
                // answers.
                tokio::task::spawn_local(async move {
                    // A client that is gone is met by the reader too, which ends the process.
                    agent.request(&id, &method, params.as_deref()).await.ok();
                });
            }
            Incoming::Notification { method, .. } if method == AGENT_METHOD_NAMES.session_cancel => {
                agent.cancel.send_replace(true);
            }
            Incoming::Notification { .. } => {}
        }
    }
    Ok(())
}

impl Agent {
    async fn request(&self, id: &Id, method: &str, params: Option<&RawValue>) -> Result<(), RpcError> {
        let names = AGENT_METHOD_NAMES;
        if method == names.initialize {
            self.peer.answer(id, Ok(initialized())).await
        } else if method == names.session_new {
            self.peer.answer(id, self.new_session(params)).await
        } else if method == names.session_prompt {
            let outcome = match self.begin(params) {
                Ok(task) => Ok(answered(&self.run(*task).await)),
                Err(error) => Err(error),
            };
            self.peer.answer(id, outcome).await
        } else {
            self.peer.answer::<()>(id, Err(Error::method_not_found())).await
        }
    }

    fn new_session(&self, params: Option<&RawValue>) -> Result<NewSessionResponse, Error> {
        let ask: NewSessionRequest = read(params)?;
        let task = ask.meta.as_ref().and_then(|meta| meta.get(ACP_TASK)).ok_or_else(|| {
            Error::invalid_params().data(json!(format!("this agent takes its task from _meta[{ACP_TASK:?}]")))
        })?;
        let task = AgentTask::deserialize(task).map_err(|e| Error::invalid_params().data(json!(e.to_string())))?;
        let mut state = self.state.borrow_mut();
        if !matches!(*state, State::Idle) {
            return Err(Error::invalid_request().data(json!("this agent has one session, and it was made already")));
        }
        *state = State::Ready(Box::new(task));
        Ok(NewSessionResponse::new(SESSION))
    }

    fn begin(&self, params: Option<&RawValue>) -> Result<Box<AgentTask>, Error> {
        let ask: PromptRequest = read(params)?;
        let mut state = self.state.borrow_mut();
        match std::mem::replace(&mut *state, State::Taken) {
            State::Ready(task) if &*ask.session_id.0 == SESSION => Ok(task),
            other => {
                *state = other;
                Err(Error::invalid_params().data(json!("there is no such session, or its one prompt was taken")))
            }
        }
    }

    async fn run(&self, task: AgentTask) -> End {
        let bench = Bench {
            peer: self.peer.clone(),
            session: SessionId::new(SESSION),
            root: self.around.root.clone(),
            tools: specs(&task.tools).into_iter().map(|tool| tool.name).collect(),
            command_seconds: task.limits.command_seconds,
            door: self.around.door.clone(),
            handle: task.handle.clone(),
            writing: tokio::sync::Mutex::new(()),
        };
        let door = Door {
            address: self.around.door.clone(),
            route: task.model.clone(),
            handle: task.handle.clone(),
            limits: self.around.call_limits,
        };
        Drive::new(bench, door, Rc::clone(&self.around.sleeper), self.cancel.subscribe()).run(&task).await
    }
}

fn read<T: DeserializeOwned>(params: Option<&RawValue>) -> Result<T, Error> {
    let text = params.map_or("null", RawValue::get);
    serde_json::from_str(text).map_err(|e| Error::invalid_params().data(json!(e.to_string())))
}

fn initialized() -> InitializeResponse {
    let mut meta = Meta::new();
    meta.insert(CAPABILITY.to_owned(), json!({"version": 1}));
    InitializeResponse::new(ProtocolVersion::V1)
        .agent_info(Implementation::new("volary-agent", env!("CARGO_PKG_VERSION")))
        .meta(meta)
}

fn answered(end: &End) -> PromptResponse {
    let stop = match end.how {
        Ending::Done | Ending::NotDone | Ending::Failed | Ending::Time => StopReason::EndTurn,
        Ending::Turns => StopReason::MaxTurnRequests,
        Ending::Tokens => StopReason::MaxTokens,
        Ending::Refused => StopReason::Refusal,
        Ending::Cancelled => StopReason::Cancelled,
    };
    let mut meta = Meta::new();
    meta.insert(ACP_DONE.to_owned(), json!({"done": end.is_done(), "reason": end.reason}));
    PromptResponse::new(stop).meta(meta)
}
