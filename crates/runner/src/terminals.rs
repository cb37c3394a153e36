//! `terminal/*`: the commands that an agent asks for.

use crate::Context;
use crate::acp::{BAD_PARAMS, Refusal};
use crate::command::{self, Request, Running};
use crate::met;
use agent_client_protocol_schema::v1::{CreateTerminalRequest, TerminalOutputRequest};
use api::inbox::ACP_TOOL_CALL;
use api::leases::ACP_LEASE;
use model::Limits;
use model::event::Exit;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Commands that may run at a time.
const MAX_AT_ONCE: usize = 16;
/// Terminals that may be held unreleased; each keeps the end of its output.
const MAX_HELD: usize = 64;
/// Bytes of output that are kept for an agent which names no limit.
const KEEP: u64 = 256 * 1024;
/// Most bytes that are kept for one that does.
const MAX_KEEP: u64 = 1024 * 1024;

/// The terminals of one agent, by id.
pub struct Terminals {
    limits: Limits,
    next: Cell<u64>,
    held: RefCell<BTreeMap<String, Rc<Running>>>,
    /// Also those that were released while they ran.
    all: RefCell<Vec<Rc<Running>>>,
    closed: Cell<bool>,
}

impl Terminals {
    /// None yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, next: Cell::new(1), held: RefCell::default(), all: RefCell::default(), closed: Cell::new(false) }
    }

    /// `terminal/create`.
    ///
    /// # Errors
    /// A refusal for the agent.
    pub async fn create(&self, context: &Rc<Context>, params: Value) -> Result<Value, Refusal> {
        let asked: CreateTerminalRequest = read(params)?;
        if self.closed.get() {
            return Err(Refusal::failed("the run is ending"));
        }
        self.all.borrow_mut().retain(|running| running.exit().is_none());
        if self.all.borrow().len() >= MAX_AT_ONCE || self.held.borrow().len() >= MAX_HELD {
            return Err(Refusal::failed(format!(
                "at most {MAX_AT_ONCE} commands run at a time, and {MAX_HELD} terminals are held: wait for one, or release one"
            )));
        }
        let id = format!("t{}", self.next.replace(self.next.get() + 1));
        let request = request(id.clone(), asked)?;
        if !command::is_recordable(&request) {
            return Err(Refusal::failed("the command is longer than the record takes (128 KiB); put it in a file"));
        }
        let running = command::begin(context, request, &self.limits).await.running;
        if self.closed.get() {
            running.kill(ENDED);
        }
        self.all.borrow_mut().push(Rc::clone(&running));
        self.held.borrow_mut().insert(id.clone(), running);
        Ok(json!({ "terminalId": id }))
    }

    /// `terminal/output`.
    ///
    /// # Errors
    /// A refusal for the agent.
    pub fn output(&self, params: Value) -> Result<Value, Refusal> {
        let running = self.named(params)?;
        let (output, truncated) = running.tail.borrow().text();
        let mut answer = json!({ "output": output, "truncated": truncated });
        if let Some(exit) = running.exit() {
            answer["exitStatus"] = status(&exit, &running.beside());
        }
        Ok(answer)
    }

    /// `terminal/wait_for_exit`.
    ///
    /// # Errors
    /// A refusal for the agent.
    pub async fn wait(&self, params: Value) -> Result<Value, Refusal> {
        let running = self.named(params)?;
        let exit = running.wait().await;
        Ok(status(&exit, &running.beside()))
    }

    /// `terminal/kill`.
    ///
    /// # Errors
    /// A refusal for the agent.
    pub fn kill(&self, params: Value) -> Result<Value, Refusal> {
        self.named(params)?.kill("killed: by the agent");
        Ok(json!({}))
    }

    /// `terminal/release`.
    ///
    /// # Errors
    /// A refusal for the agent.
    pub fn release(&self, params: Value) -> Result<Value, Refusal> {
        let named: TerminalOutputRequest = read(params)?;
        let running = self.held.borrow_mut().remove(&*named.terminal_id.0).ok_or_else(unknown)?;
        running.kill("killed: released by the agent");
        Ok(json!({}))
    }

    /// Ends every command and returns when each end is recorded. No further one starts.
    pub async fn close(&self) {
        self.closed.set(true);
        loop {
            let Some(running) = self.all.borrow_mut().pop() else { return };
            running.kill(ENDED);
            running.wait().await;
        }
    }

    fn named(&self, params: Value) -> Result<Rc<Running>, Refusal> {
        let named: TerminalOutputRequest = read(params)?;
        self.held.borrow().get(&*named.terminal_id.0).cloned().ok_or_else(unknown)
    }
}

const ENDED: &str = "killed: the agent has ended";

/// Reads parameters of a method.
///
/// # Errors
/// [`BAD_PARAMS`], with the reason.
pub fn read<T: DeserializeOwned>(params: Value) -> Result<T, Refusal> {
    serde_json::from_value(params).map_err(|error| Refusal { code: BAD_PARAMS, message: error.to_string() })
}

fn unknown() -> Refusal {
    Refusal { code: BAD_PARAMS, message: "there is no such terminal; it may have been released".into() }
}

fn request(id: String, asked: CreateTerminalRequest) -> Result<Request, Refusal> {
    let tool_call = asked.meta.as_ref().and_then(|meta| meta.get(ACP_TOOL_CALL)).and_then(Value::as_str);
    let tool_call = tool_call.map(str::to_owned);
    let lease = match asked.meta.as_ref().and_then(|meta| meta.get(ACP_LEASE)) {
        None => None,
        Some(Value::String(lease)) => Some(lease.clone()),
        Some(_) => return Err(Refusal { code: BAD_PARAMS, message: "a lease is named by its id, a text".into() }),
    };
    if lease.is_some() && !asked.env.is_empty() {
        let message = "a command under a lease has an environment of the platform's alone: ask for it without env vars";
        return Err(Refusal { code: BAD_PARAMS, message: message.into() });
    }
    let mut argv = vec![asked.command];
    argv.extend(asked.args);
    let cwd = asked.cwd.map_or_else(|| api::inbox::WORKSPACE.to_owned(), |cwd| cwd.to_string_lossy().into_owned());
    let env: Vec<(String, String)> = asked.env.into_iter().map(|pair| (pair.name, pair.value)).collect();
    let zero = |text: &String| text.contains('\0');
    if argv[0].is_empty() || argv.iter().any(zero) || zero(&cwd) {
        return Err(Refusal { code: BAD_PARAMS, message: "the command is empty or holds a zero byte".into() });
    }
    if env.iter().any(|(name, value)| name.is_empty() || name.contains('=') || zero(name) || zero(value)) {
        return Err(Refusal {
            code: BAD_PARAMS,
            message: "an env var has a name that cannot be, or a zero byte".into(),
        });
    }
    let keep = usize::try_from(asked.output_byte_limit.unwrap_or(KEEP).min(MAX_KEEP)).unwrap_or(0);
    Ok(Request { id, argv, env, cwd, tool_call, lease, kept_first: true, stdin: false, keep })
}

/// An end, in the protocol's words; why we ended it and which limits it met, in ours beside.
fn status(exit: &Exit, beside: &[String]) -> Value {
    let mut status = in_protocol(exit);
    if !beside.is_empty() {
        status["_meta"] = json!({ "volary.why": met::whole(exit, beside) });
    }
    status
}

fn in_protocol(exit: &Exit) -> Value {
    match exit {
        Exit::Code { code } => json!({ "exitCode": code, "signal": null }),
        Exit::Signal { signal } => json!({ "exitCode": null, "signal": name(*signal) }),
        Exit::Killed { why } => json!({ "exitCode": null, "signal": "SIGKILL", "_meta": { "volary.why": why } }),
        Exit::Unknown => json!({ "exitCode": null, "signal": null }),
    }
}

fn name(signal: i32) -> String {
    const NAMES: [(i32, &str); 16] = [
        (libc::SIGHUP, "SIGHUP"),
        (libc::SIGINT, "SIGINT"),
        (libc::SIGQUIT, "SIGQUIT"),
        (libc::SIGILL, "SIGILL"),
        (libc::SIGTRAP, "SIGTRAP"),
        (libc::SIGABRT, "SIGABRT"),
        (libc::SIGBUS, "SIGBUS"),
        (libc::SIGFPE, "SIGFPE"),
        (libc::SIGKILL, "SIGKILL"),
        (libc::SIGUSR1, "SIGUSR1"),
        (libc::SIGSEGV, "SIGSEGV"),
        (libc::SIGUSR2, "SIGUSR2"),
        (libc::SIGPIPE, "SIGPIPE"),
        (libc::SIGALRM, "SIGALRM"),
        (libc::SIGTERM, "SIGTERM"),
        (libc::SIGSYS, "SIGSYS"),
    ];
    NAMES
        .iter()
        .find(|(number, _)| *number == signal)
        .map_or_else(|| signal.to_string(), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(more: Value) -> Result<Request, Refusal> {
        let mut params = json!({ "sessionId": "s", "command": "sh" });
        params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        request("t1".into(), read(params)?)
    }

    #[test]
    fn a_request_without_wishes_runs_in_the_worktree() {
        let request = asked(json!({ "args": ["-c", "true"], "_meta": { "volary.toolCall": "call-7" } })).unwrap();
        assert_eq!(request.argv, ["sh", "-c", "true"]);
        assert_eq!((request.cwd.as_str(), request.tool_call.as_deref()), ("/workspace", Some("call-7")));
        assert_eq!(request.keep as u64, KEEP);
    }

    #[test]
    fn what_no_process_can_be_started_with_is_refused() {
        assert!(asked(json!({ "command": "" })).is_err());
        assert!(asked(json!({ "args": ["a\0b"] })).is_err());
        assert!(asked(json!({ "cwd": "/a\0b" })).is_err());
        assert!(asked(json!({ "env": [{ "name": "A=B", "value": "c" }] })).is_err());
        assert!(asked(json!({ "env": [{ "name": "A", "value": "b=c" }] })).is_ok());
        assert_eq!(asked(json!({ "command": 7 })).err().unwrap().code, BAD_PARAMS);
    }

    #[test]
    fn a_command_under_a_lease_brings_no_variables_of_its_own() {
        let meta = |lease: Value| json!({ "_meta": { "volary.lease": lease } });
        assert_eq!(asked(meta(json!("abc"))).unwrap().lease.as_deref(), Some("abc"));
        assert!(asked(meta(json!(7))).is_err());
        let mut with = meta(json!("abc"));
        with["env"] = json!([{ "name": "LD_PRELOAD", "value": "/workspace/x.so" }]);
        assert!(asked(with).is_err());
    }

    #[test]
    fn an_end_is_told_in_the_words_of_the_protocol() {
        assert_eq!(status(&Exit::Code { code: 2 }, &[]), json!({ "exitCode": 2, "signal": null }));
        assert_eq!(status(&Exit::Signal { signal: 11 }, &[])["signal"], "SIGSEGV");
        let killed = status(&Exit::Killed { why: "killed: time limit 1 s".into() }, &[]);
        assert_eq!(killed["_meta"]["volary.why"], "killed: time limit 1 s");
        let beside = ["met the limit of 32 processes".to_owned(), "/tmp is full: limit 64 MiB".to_owned()];
        let met = status(&Exit::Code { code: 2 }, &beside);
        assert_eq!(met["exitCode"], 2);
        let why = "exit status 2; met the limit of 32 processes; /tmp is full: limit 64 MiB";
        assert_eq!(met["_meta"]["volary.why"], why);
    }
}
