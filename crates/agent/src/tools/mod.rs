//! What the model may do: six tools, each bounded in size and time, `lease` beside `shell`, and `propose` where what it pushes
//! can become a pull request.
//!
//! `read`, `write`, `edit` go through the runner's `fs/*`, `shell` through its `terminal/*`, so that each is
//! recorded by it; `list` and `search` read the worktree directly. Whatever is wrong with a call (no such
//! tool, an input that is no JSON, a field too many) is an answer to the model, never the end of the run.
//!
//! Read [`specs`] (what the model is told), [`Request::parse`], then [`run`].

pub mod cut;
mod files;
mod lease;
mod propose;
mod shell;
mod walk;
mod words;

use crate::rpc::{Peer, RpcError};
use crate::turns::{Call, ToolResult, ToolSpec};
use agent_client_protocol_schema::v1::{SessionId, ToolKind};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::path::{Component, Path, PathBuf};

/// Most bytes of a tool's output that the model reads.
pub const MAX_TEXT: usize = 30 * 1024;

/// What tools need to work.
#[derive(Debug)]
pub struct Bench {
    /// The runner.
    pub peer: Peer,
    /// The session.
    pub session: SessionId,
    /// The worktree: [`api::inbox::WORKSPACE`], another folder in tests.
    pub root: PathBuf,
    /// Names of the tools of this run.
    pub tools: Vec<String>,
    /// Most seconds of one command.
    pub command_seconds: u64,
    /// Address of the run's own door.
    pub door: String,
    /// The run's handle, to ask for leases with.
    pub handle: String,
    /// Keeps writes in the order of their calls: two edits of one file in one answer must not lose one another.
    pub writing: tokio::sync::Mutex<()>,
}

/// A call, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// See [`specs`].
    Read(Read),
    /// See [`specs`].
    Write(Write),
    /// See [`specs`].
    Edit(Edit),
    /// See [`specs`].
    List(List),
    /// See [`specs`].
    Search(Search),
    /// See [`specs`].
    Shell(Shell),
    /// See [`specs`].
    Lease(Lease),
    /// `propose`
    Propose(Propose),
}

/// Input of `read`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Read {
    path: String,
    offset: Option<u32>,
    limit: Option<u32>,
}

/// Input of `write`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Write {
    path: String,
    content: String,
}

/// Input of `edit`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    path: String,
    old: String,
    new: String,
    #[serde(default)]
    all: bool,
}

/// Input of `list`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    path: Option<String>,
    depth: Option<u32>,
}

/// Input of `search`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Search {
    pattern: String,
    path: Option<String>,
    #[serde(default)]
    literal: bool,
}

/// Input of `shell`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shell {
    command: String,
    timeout: Option<u64>,
    lease: Option<String>,
}

/// Input of `lease`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    capability: String,
    destination: String,
    reason: String,
}

/// Input of `propose`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Propose {
    title: String,
    body: String,
}

struct Described {
    name: &'static str,
    description: &'static str,
    schema: &'static str,
}

/// All tools, in the order of [`model::profile::TOOLS`].
const ALL: [Described; 6] = [
    Described {
        name: "read",
        description: "Reads a text file (UTF-8). Gives at most 30 KiB; read on with `offset`.",
        schema: r#"{"type":"object","properties":{"path":{"type":"string","description":"Relative to /workspace, or absolute."},"offset":{"type":"integer","minimum":1,"description":"First line, from 1."},"limit":{"type":"integer","minimum":1,"description":"Most lines; 2000 unless said."}},"required":["path"],"additionalProperties":false}"#,
    },
    Described {
        name: "write",
        description: "Writes a whole text file, in the place of what was there; makes missing folders. For a small change use edit.",
        schema: r#"{"type":"object","properties":{"path":{"type":"string","description":"Relative to /workspace, or absolute."},"content":{"type":"string"}},"required":["path","content"],"additionalProperties":false}"#,
    },
    Described {
        name: "edit",
        description: "Replaces an exact text in a file. `old` must stand there exactly once, with its spaces and line ends, unless `all` is true.",
        schema: r#"{"type":"object","properties":{"path":{"type":"string","description":"Relative to /workspace, or absolute."},"old":{"type":"string"},"new":{"type":"string"},"all":{"type":"boolean","description":"Replace every occurrence."}},"required":["path","old","new"],"additionalProperties":false}"#,
    },
    Described {
        name: "list",
        description: "Lists a folder of the worktree, with the sizes of files. Leaves .git out.",
        schema: r#"{"type":"object","properties":{"path":{"type":"string","description":"Relative to /workspace; the whole worktree unless said."},"depth":{"type":"integer","minimum":1,"maximum":8,"description":"Levels of folders; 2 unless said."}},"additionalProperties":false}"#,
    },
    Described {
        name: "search",
        description: "Finds lines in the text files of the worktree. Gives path:line: text, at most 200 lines. Leaves .git, binary files and files over 2 MiB out.",
        schema: r#"{"type":"object","properties":{"pattern":{"type":"string","description":"A regular expression (no look-around, no back-references)."},"path":{"type":"string","description":"A file or folder, relative to /workspace; the whole worktree unless said."},"literal":{"type":"boolean","description":"Take the pattern as plain text."}},"required":["pattern"],"additionalProperties":false}"#,
    },
    Described {
        name: "shell",
        description: "Runs a command by /bin/sh -c in /workspace, without a terminal and without standard input. Gives both outputs and the exit status; of a long output the first and the last 15 KiB.",
        schema: r#"{"type":"object","properties":{"command":{"type":"string"},"timeout":{"type":"integer","minimum":1,"description":"Seconds after which it is killed; 120 unless said."},"lease":{"type":"string","description":"Id of a lease that the command is to use. It is then one program with its arguments, executed without a shell, and only a program that the lease is for."}},"required":["command"],"additionalProperties":false}"#,
    },
];

/// The tool of a run that has commands; see [`model::profile::LEASE_TOOL`].
const LEASE: Described = Described {
    name: model::profile::LEASE_TOOL,
    description: "Asks for a lease: the use of a capability, once and within a short time. Gives its id, never a credential. Ask right before you use it, for a capability and a destination that your instructions list or a refusal names.",
    schema: r#"{"type":"object","properties":{"capability":{"type":"string","description":"Its name."},"destination":{"type":"string","description":"One of its destinations."},"reason":{"type":"string","description":"What you need it for, for the people who own this run."}},"required":["capability","destination","reason"],"additionalProperties":false}"#,
};

/// The tool of a run that pushes to a git host; see [`model::profile::PROPOSE_TOOL`].
const PROPOSE: Described = Described {
    name: model::profile::PROPOSE_TOOL,
    description: "Proposes what you pushed to the run's own branch: says what the pull request is to say. Call it once, after your last push. Nothing is merged by it.",
    schema: r#"{"type":"object","properties":{"title":{"type":"string","description":"One line, at most 120 characters."},"body":{"type":"string","description":"What it changes and why, and what showed that it works. Markdown."}},"required":["title","body"],"additionalProperties":false}"#,
};

/// The tools of a run as the model is told of them: those that `names` has, all if it is empty (but `lease` and `propose`,
/// which are always named). A name that is no tool is left out.
#[must_use]
pub fn specs(names: &[String]) -> Vec<ToolSpec> {
    let named = |tool: &&Described| names.iter().any(|name| name == tool.name);
    ALL.iter()
        .filter(|tool| names.is_empty() || named(tool))
        .chain([&LEASE, &PROPOSE].into_iter().filter(named))
        .map(|tool| ToolSpec {
            name: tool.name.to_owned(),
            description: tool.description.to_owned(),
            schema: tool.schema.to_owned(),
        })
        .collect()
}

impl Request {
    /// Understands a call, or says to the model what is wrong with it. `tools` are the names it may use.
    ///
    /// # Errors
    /// One or two sentences for the model.
    pub fn parse(call: &Call, tools: &[String]) -> Result<Self, String> {
        if !tools.contains(&call.name) {
            let name = cut::characters(&call.name, 100);
            return Err(format!("There is no tool {name:?}. The tools are: {}.", tools.join(", ")));
        }
        Ok(match &*call.name {
            "read" => Self::Read(input(call)?),
            "write" => Self::Write(input(call)?),
            "edit" => Self::Edit(input(call)?),
            "list" => Self::List(input(call)?),
            "search" => Self::Search(input(call)?),
            "shell" => Self::Shell(input(call)?),
            "lease" => Self::Lease(input(call)?),
            "propose" => Self::Propose(input(call)?),
            _ => return Err(format!("There is no tool {:?}.", call.name)),
        })
    }

    /// One line for people: what is about to be done; at most 200 characters.
    #[must_use]
    pub fn title(&self) -> String {
        let title = match self {
            Self::Read(r) => format!("read {}", r.path),
            Self::Write(w) => format!("write {}", w.path),
            Self::Edit(e) => format!("edit {}", e.path),
            Self::List(l) => format!("list {}", l.path.as_deref().unwrap_or(".")),
            Self::Search(s) => format!("search {}", s.pattern),
            Self::Shell(s) => s.command.clone(),
            Self::Lease(l) => format!("lease {} for {}", l.capability, l.destination),
            Self::Propose(p) => format!("propose {}", p.title),
        };
        let line = title.lines().next().unwrap_or_default();
        cut::characters(line, 200)
    }

    /// Its kind, in the protocol's words.
    #[must_use]
    pub fn kind(&self) -> ToolKind {
        match self {
            Self::Read(_) | Self::List(_) => ToolKind::Read,
            Self::Write(_) | Self::Edit(_) => ToolKind::Edit,
            Self::Search(_) => ToolKind::Search,
            Self::Shell(_) => ToolKind::Execute,
            Self::Lease(_) | Self::Propose(_) => ToolKind::Other,
        }
    }
}

fn input<T: DeserializeOwned>(call: &Call) -> Result<T, String> {
    serde_json::from_str(&call.input).map_err(|e| {
        let hint = if e.is_eof() {
            " It ends in the middle: if it reached the limit of your output, write less at a time."
        } else {
            ""
        };
        format!("The input of {} is not what it takes: {e}.{hint}", call.name)
    })
}

/// A tool's output before it has a call's id.
struct Said {
    text: String,
    ok: bool,
    cut: bool,
}

impl Said {
    fn ok(text: impl Into<String>) -> Self {
        Self { text: text.into(), ok: true, cut: false }
    }
    fn error(text: impl Into<String>) -> Self {
        Self { text: text.into(), ok: false, cut: false }
    }
}

impl From<RpcError> for Said {
    fn from(error: RpcError) -> Self {
        Self::error(error.to_string())
    }
}

/// Runs a call to its result.
pub async fn run(bench: &Bench, call: &Call) -> ToolResult {
    let said = match Request::parse(call, &bench.tools) {
        Err(wrong) => Said::error(wrong),
        Ok(request) => carry_out(bench, &call.id, request).await,
    };
    let (text, cut) = cut::middle(&said.text, MAX_TEXT + 1024);
    ToolResult { id: call.id.clone(), text, ok: said.ok, cut: said.cut || cut }
}

async fn carry_out(bench: &Bench, id: &str, request: Request) -> Said {
    let outcome = match request {
        Request::Read(read) => files::read(bench, &read).await,
        Request::Write(write) => files::write(bench, &write).await,
        Request::Edit(edit) => files::edit(bench, &edit).await,
        Request::List(list) => walk::list(bench, &list).await,
        Request::Search(search) => walk::search(bench, &search).await,
        Request::Shell(shell) => shell::run(bench, id, &shell).await,
        Request::Lease(lease) => lease::run(bench, &lease).await,
        Request::Propose(propose) => propose::run(bench, &propose).await,
    };
    outcome.unwrap_or_else(|said| said)
}

impl Bench {
    /// A path as the model wrote it, absolute and without `.` and `..`.
    fn path(&self, path: &str) -> Result<PathBuf, Said> {
        if path.is_empty() || path.contains('\0') {
            return Err(Said::error("The path is empty or holds a zero byte."));
        }
        let mut whole = PathBuf::new();
        for part in self.root.join(path).components() {
            match part {
                Component::ParentDir => {
                    whole.pop();
                }
                Component::CurDir => {}
                other => whole.push(other),
            }
        }
        Ok(whole)
    }

    /// The same, for tools that stay in the worktree.
    fn inside(&self, path: Option<&str>) -> Result<PathBuf, Said> {
        let whole = self.path(path.unwrap_or("."))?;
        if whole.starts_with(&self.root) {
            Ok(whole)
        } else {
            let root = self.root.display();
            Err(Said::error(format!("{} is not in {root}; use shell for what is elsewhere.", whole.display())))
        }
    }

    /// A path as people and the model read it.
    fn shown<'a>(&self, path: &'a Path) -> std::borrow::Cow<'a, str> {
        path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tools_are_those_a_profile_may_name_and_their_schemas_are_objects() {
        let specs = specs(&[]);
        assert_eq!(specs.iter().map(|spec| &*spec.name).collect::<Vec<_>>(), model::profile::TOOLS);
        for spec in &specs {
            let schema: serde_json::Value = serde_json::from_str(&spec.schema).unwrap();
            assert_eq!((&schema["type"], &schema["additionalProperties"]), (&"object".into(), &false.into()));
        }
    }

    #[test]
    fn every_field_that_a_schema_names_is_taken_and_no_other() {
        let values = |kind: &str| match kind {
            "string" => "x".into(),
            "integer" => 1.into(),
            _ => serde_json::Value::Bool(true),
        };
        let names: Vec<String> =
            model::profile::TOOLS.iter().chain([&model::profile::LEASE_TOOL]).map(|name| (*name).to_owned()).collect();
        assert_eq!(specs(&names).len(), names.len());
        for spec in specs(&names) {
            let schema: serde_json::Value = serde_json::from_str(&spec.schema).unwrap();
            let fields = schema["properties"].as_object().unwrap();
            let mut input: serde_json::Map<_, _> =
                fields.iter().map(|(name, field)| (name.clone(), values(field["type"].as_str().unwrap()))).collect();
            let mut call = Call { id: "1".into(), name: spec.name.clone(), input: String::new() };
            call.input = serde_json::to_string(&input).unwrap();
            assert!(Request::parse(&call, &names).is_ok(), "{}", call.input);
            input.insert("more".into(), true.into());
            call.input = serde_json::to_string(&input).unwrap();
            assert!(Request::parse(&call, &names).unwrap_err().contains("unknown field `more`"));
        }
    }
}
