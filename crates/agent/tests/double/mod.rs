//! Doubles of what surrounds the agent: a model behind a real TCP listener, and a runner at the other end of
//! its stdio.

#![allow(dead_code, reason = "each test file uses its part")]

use agent::acp::{self, Surroundings};
use agent::rpc::{self, Incoming, Peer};
use api::inbox::{ACP_DONE, ACP_TASK, AgentTask, ModelRoute};
use model::{Dialect, Limits};
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Runs a future with its tasks, on one thread, as the agent does.
pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, work)
}

/// A request as the model's double saw it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub head: String,
    pub body: Vec<u8>,
}

/// A model: answers each connection with the next of its scripted raw answers, then closes.
pub struct ModelDouble {
    pub address: String,
    pub seen: Rc<RefCell<Vec<Seen>>>,
}

impl ModelDouble {
    pub async fn new(answers: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen = Rc::new(RefCell::new(Vec::new()));
        let kept = Rc::clone(&seen);
        let mut answers = VecDeque::from(answers);
        tokio::task::spawn_local(async move {
            while let Some(answer) = answers.pop_front() {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = request(&mut stream).await;
                kept.borrow_mut().push(request);
                stream.write_all(answer.as_bytes()).await.unwrap();
                if answer.ends_with(HANG.trim_end()) || answer.ends_with(HANG) {
                    // Never closes: what follows is up to the other side.
                    std::mem::forget(stream);
                }
            }
        });
        Self { address, seen }
    }

    pub fn bodies(&self) -> Vec<Vec<u8>> {
        self.seen.borrow().iter().map(|seen| seen.body.clone()).collect()
    }
}

/// At the end of an answer: keep the connection open.
pub const HANG: &str = ": hang\n";

async fn request(stream: &mut TcpStream) -> Seen {
    let mut all = Vec::new();
    loop {
        let mut piece = [0; 4096];
        let n = stream.read(&mut piece).await.unwrap();
        assert!(n > 0, "the agent closed in the middle of its request");
        all.extend_from_slice(&piece[..n]);
        let Some(end) = all.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(all[..end].to_vec()).unwrap().to_ascii_lowercase();
        let length = head.lines().find_map(|l| l.strip_prefix("content-length: ")).unwrap().parse::<usize>().unwrap();
        if all.len() >= end + 4 + length {
            return Seen { head, body: all[end + 4..].to_vec() };
        }
    }
}

/// A raw answer that ends with its connection.
pub fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}\r\n{body}")
}

/// A streamed answer of any dialect, with text and calls (id, name, input).
pub fn streamed(dialect: Dialect, text: &str, calls: &[(&str, &str, Value)]) -> String {
    let mut body = String::new();
    let mut event = |data: Value| body.push_str(&format!("data: {data}\n\n"));
    match dialect {
        Dialect::Anthropic => {
            event(json!({"type": "message_start", "message": {"usage": {"input_tokens": 100, "output_tokens": 1}}}));
            event(json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}));
            event(json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}));
            for (n, (id, name, input)) in calls.iter().enumerate() {
                let block = json!({"type": "tool_use", "id": id, "name": name, "input": {}});
                event(json!({"type": "content_block_start", "index": n + 1, "content_block": block}));
                let input = input.as_str().map_or_else(|| input.to_string(), str::to_owned);
                let delta = json!({"type": "input_json_delta", "partial_json": input});
                event(json!({"type": "content_block_delta", "index": n + 1, "delta": delta}));
            }
            event(
                json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}}),
            );
            event(json!({"type": "message_stop"}));
        }
        Dialect::Openai => {
            event(json!({"choices": [{"delta": {"content": text}}]}));
            for (n, (id, name, input)) in calls.iter().enumerate() {
                let input = input.as_str().map_or_else(|| input.to_string(), str::to_owned);
                let call = json!({"index": n, "id": id, "function": {"name": name, "arguments": input}});
                event(json!({"choices": [{"delta": {"tool_calls": [call]}}]}));
            }
            event(json!({"choices": [{"delta": {}, "finish_reason": "stop"}]}));
            event(json!({"choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 9}}));
            body.push_str("data: [DONE]\n\n");
        }
        Dialect::OpenaiResponses => {
            let delta = |kind: &str, at: usize, delta: &str| json!({"type": kind, "output_index": at, "delta": delta});
            event(delta("response.output_text.delta", 0, text));
            for (n, (id, name, input)) in calls.iter().enumerate() {
                let input = input.as_str().map_or_else(|| input.to_string(), str::to_owned);
                let item = json!({"type": "function_call", "call_id": id, "name": name, "arguments": ""});
                event(json!({"type": "response.output_item.added", "output_index": n + 1, "item": item}));
                event(delta("response.function_call_arguments.delta", n + 1, &input));
            }
            let usage = json!({"input_tokens": 100, "output_tokens": 9});
            event(json!({"type": "response.completed", "response": {"status": "completed", "usage": usage}}));
        }
        Dialect::Gemini => {
            let part = |part: Value| json!({"candidates": [{"content": {"role": "model", "parts": [part]}}]});
            event(part(json!({"text": text})));
            for (id, name, input) in calls {
                let input = input.as_str().map_or_else(|| input.clone(), |text| json!({ "text": text }));
                event(part(json!({"functionCall": {"id": id, "name": name, "args": input}})));
            }
            let usage = json!({"promptTokenCount": 100, "candidatesTokenCount": 9, "totalTokenCount": 109});
            event(json!({"candidates": [{"finishReason": "STOP"}], "usageMetadata": usage}));
        }
    }
    answer("200 OK", "content-type: text/event-stream\r\n", &body)
}

/// A task for a model of `dialect`.
pub fn task(dialect: Dialect) -> AgentTask {
    AgentTask {
        task: "Fix the bug.".into(),
        handle: "vh_test".into(),
        model: ModelRoute {
            name: "m".into(),
            dialect,
            id: "model-1".into(),
            max_output_tokens: 1000,
            context_tokens: 100_000,
        },
        tools: Vec::new(),
        instructions: String::new(),
        limits: Limits::default(),
        history: Vec::new(),
        answered: Vec::new(),
    }
}

/// What the runner's double saw, in order: method and parameters.
pub type Heard = Rc<RefCell<Vec<(String, Value)>>>;

/// A runner over a folder: files are real, commands are scripted by their text.
pub struct RunnerDouble {
    pub heard: Heard,
    pub waits: Rc<RefCell<Vec<u64>>>,
    root: PathBuf,
    peer: Peer,
    terminals: RefCell<Vec<String>>,
    /// Say this when a command whose text contains `cancel` is created.
    cancel: Cell<bool>,
}

/// Runs one task to its end; gives the last answer's `volary.done`, its stop reason, and what was heard.
pub async fn run(task: &AgentTask, door: &str, root: &Path) -> (Value, Rc<RunnerDouble>) {
    let waits: Rc<RefCell<Vec<u64>>> = Rc::default();
    let noted = Rc::clone(&waits);
    let around = Surroundings {
        door: door.to_owned(),
        root: root.to_owned(),
        sleeper: Rc::new(move |ms| {
            noted.borrow_mut().push(ms);
            Box::pin(std::future::ready(()))
        }),
        ..Surroundings::default()
    };
    let (ours, theirs) = tokio::io::duplex(64 * 1024);
    let (from, to) = tokio::io::split(theirs);
    let (peer, queue) = Peer::new();
    tokio::task::spawn_local(rpc::write_all(queue, to));
    tokio::task::spawn_local(async move { acp::serve(rpc::buffered(from), peer, around).await.unwrap() });

    let (from, to) = tokio::io::split(ours);
    let (peer, queue) = Peer::new();
    tokio::task::spawn_local(rpc::write_all(queue, to));
    let runner = Rc::new(RunnerDouble {
        heard: Rc::default(),
        waits,
        root: root.to_owned(),
        peer: peer.clone(),
        terminals: RefCell::default(),
        cancel: Cell::new(true),
    });
    let serving = Rc::clone(&runner);
    tokio::task::spawn_local(async move {
        let mut from = rpc::buffered(from);
        while let Some(incoming) = rpc::receive(&mut from, &serving.peer).await.unwrap() {
            serving.hear(incoming).await;
        }
    });

    let hello: Value = peer.request("initialize", json!({"protocolVersion": 1})).await.unwrap();
    assert_eq!((&hello["protocolVersion"], &hello["_meta"]["_volary"]["version"]), (&json!(1), &json!(1)));
    let new = json!({"cwd": "/workspace", "mcpServers": [], "_meta": {ACP_TASK: task}});
    let session: Value = peer.request("session/new", new).await.unwrap();
    let prompt = json!({"sessionId": session["sessionId"], "prompt": [{"type": "text", "text": task.task}]});
    let answer: Value = peer.request("session/prompt", prompt).await.unwrap();
    let mut done = answer["_meta"][ACP_DONE].clone();
    done["stop"] = answer["stopReason"].clone();
    (done, runner)
}

impl RunnerDouble {
    async fn hear(self: &Rc<Self>, incoming: Incoming) {
        let (id, method, params) = match incoming {
            Incoming::Request { id, method, params } => (Some(id), method, params),
            Incoming::Notification { method, params } => (None, method, params),
        };
        let params: Value = params.map_or(Value::Null, |p| serde_json::from_str(p.get()).unwrap());
        self.heard.borrow_mut().push((method.clone(), params.clone()));
        if let Some(id) = id {
            let this = Rc::clone(self);
            tokio::task::spawn_local(async move {
                let outcome = this
                    .serve(&method, &params)
                    .await
                    .map_err(|why| agent_client_protocol_schema::v1::Error::new(-32603, why));
                this.peer.answer(&id, outcome).await.ok();
            });
        }
    }

    async fn serve(&self, method: &str, params: &Value) -> Result<Value, String> {
        let path = || {
            let path = PathBuf::from(params["path"].as_str().unwrap());
            assert!(path.starts_with(&self.root), "{path:?}");
            path
        };
        let command =
            || self.terminals.borrow()[params["terminalId"].as_str().unwrap().parse::<usize>().unwrap()].clone();
        // Others get their turn, as between processes.
        tokio::task::yield_now().await;
        Ok(match method {
            "fs/read_text_file" => {
                let bytes = std::fs::read(path()).map_err(|e| e.to_string())?;
                let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text")?;
                let first = params["line"].as_u64().unwrap_or(1) as usize - 1;
                let limit = params["limit"].as_u64().map_or(usize::MAX, |n| n as usize);
                json!({"content": text.split_inclusive('\n').skip(first).take(limit).collect::<String>()})
            }
            "fs/write_text_file" => {
                std::fs::write(path(), params["content"].as_str().unwrap()).map_err(|e| e.to_string())?;
                json!({})
            }
            "terminal/create" => {
                let command = params["args"][1].as_str().unwrap().to_owned();
                if command.contains("cancel") && self.cancel.replace(false) {
                    self.peer.notify("session/cancel", json!({"sessionId": params["sessionId"]})).await.unwrap();
                }
                self.terminals.borrow_mut().push(command);
                json!({"terminalId": (self.terminals.borrow().len() - 1).to_string()})
            }
            "terminal/wait_for_exit" if command().contains("forever") => std::future::pending().await,
            "terminal/wait_for_exit" => json!({"exitCode": i32::from(command().contains("fail")), "signal": null}),
            "terminal/output" => json!({"output": format!("ran {}\n", command()), "truncated": false}),
            "terminal/kill" | "terminal/release" => json!({}),
            other => return Err(format!("no method {other}")),
        })
    }

    /// The parameters of every message of a method, in order.
    pub fn all(&self, method: &str) -> Vec<Value> {
        self.heard.borrow().iter().filter(|(m, _)| m == method).map(|(_, p)| p.clone()).collect()
    }
    /// The record, as the server would keep it.
    pub fn steps(&self) -> Vec<Value> {
        self.all("_volary/loop").into_iter().map(|p| p["step"].clone()).collect()
    }
    /// Every event of a kind.
    pub fn events(&self, kind: &str) -> Vec<Value> {
        let all = self.all("_volary/event").into_iter().map(|p| p["event"].clone());
        all.filter(|event| event["kind"] == kind).collect()
    }
}
