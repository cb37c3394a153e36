//! Operator ↔ runner, on the runner's standard input and output.
//!
//! Operator → runner: frames of one JSON [`ToRunner`] each. Runner → operator: frames whose first byte
//! is a [`Kind`] and whose rest is JSON. The operator reads that byte and, of the
//! box's events, nothing more: it passes their bytes on. What it does parse, [`Hello`] and [`Done`], is
//! written by our own runner, before any agent code runs and after all of it is gone.

use model::LeaseId;
use model::event::Exit;
use model::profile::Limits;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The one byte that the runner waits for before all frames, before its walls too: its box has a worktree now.
pub const GO: u8 = b'G';

/// The environment variable in which the command of an exec finds its run's handle.
pub const HANDLE: &str = "VOLARY_HANDLE";

/// First byte of a frame from the runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// [`Hello`]: the walls are taken; the first frame, once.
    Hello = b'H',
    /// One [`model::Event`] as JSON; the operator does not look into it.
    Event = b'E',
    /// A question, with nothing beside it: how often did the box meet which limit? Answered by [`ToRunner::Met`].
    Ask = b'A',
    /// [`Done`]: the last frame, once.
    Done = b'D',
}

impl Kind {
    /// The kind that a byte stands for.
    #[must_use]
    pub fn of(byte: u8) -> Option<Self> {
        match byte {
            b'H' => Some(Self::Hello),
            b'E' => Some(Self::Event),
            b'A' => Some(Self::Ask),
            b'D' => Some(Self::Done),
            _ => None,
        }
    }
}

/// The runner has taken its walls, before any other thread or child existed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Landlock ABI that the kernel offers and the runner's layer was built for.
    pub landlock_abi: u32,
    /// Calls that the runner made although they are forbidden, and what the kernel said.
    pub forbidden: Vec<Forbidden>,
}

/// A forbidden call made on purpose, and what came of it; what `/proc` does not show is proved so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forbidden {
    /// The call, as [`forbidden`] has it.
    pub call: String,
    /// The error number it met; 0 when it went through, which kills the box.
    pub errno: i32,
}

/// The calls that a runner makes although they are forbidden: the wall, the call, and the error number that this wall gives.
/// The operator holds what came of them against this list: a call that was not made, or met another error, proves nothing.
pub fn forbidden() -> impl Iterator<Item = (&'static str, &'static str, i32)> {
    const ALL: [(&str, &str, Errno); 12] = [
        ("landlock", "read /var/volary-probe", Errno::ACCESS),
        ("read-only root", "make /run/x", Errno::ROFS),
        ("read-only root", "mkdir /volary-forbidden", Errno::ROFS),
        ("seccomp", "io_uring_setup", Errno::PERM),
        ("seccomp", "unshare(CLONE_NEWUSER)", Errno::PERM),
        ("seccomp", "clone3", Errno::NOSYS),
        ("seccomp", "socket(AF_NETLINK)", Errno::PERM),
        ("seccomp", "socket(AF_INET, SOCK_RAW)", Errno::PERM),
        ("seccomp", X32, Errno::NOSYS),
        ("network", "TCP connect 192.0.2.1:443", Errno::NETUNREACH),
        ("network", "TCP connect 192.0.2.1:8080", Errno::NETUNREACH),
        ("network", "UDP connect 192.0.2.1:53", Errno::NETUNREACH),
    ];
    // Only this processor has it.
    let here = |call: &str| call != X32 || cfg!(target_arch = "x86_64");
    ALL.into_iter().filter(move |(_, call, _)| here(call)).map(|(wall, call, errno)| (wall, call, errno.raw_os_error()))
}

/// A call by the numbers of x86's 32-bit pointers.
pub const X32: &str = "x32 getpid";

/// What the operator tells the runner.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum ToRunner {
    /// Commands trust this certificate authority, and find the door as a proxy. At most once, before the task.
    Trust {
        /// The certificate of the run's own authority, PEM.
        authority: String,
    },
    /// Every command finds these variables in its environment: the literals of its profile. At most once, after
    /// [`ToRunner::Trust`] and before the task.
    Variables {
        /// Names and texts.
        variables: Vec<(String, String)>,
    },
    /// The command of an exec finds this handle in its environment, as [`HANDLE`]; no other process is given it. At most
    /// once, after [`ToRunner::Trust`] and before the command.
    Handle {
        /// The run's handle.
        handle: String,
    },
    /// Start our agent on a task. Sent once, after the read-back.
    Agent(AgentTask),
    /// Run one command, its standard input fed by [`ToRunner::Input`]. Sent once, after the read-back.
    Exec {
        /// Program (looked up in the box's `PATH`) and arguments.
        argv: Vec<String>,
        /// Working directory in the box.
        cwd: String,
        /// Ceilings.
        limits: Limits,
        /// The lease under which the command runs; what it is given then comes from the gateway.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lease: Option<LeaseId>,
    },
    /// Bytes for an exec's standard input, base 64.
    Input {
        /// The bytes.
        data_b64: String,
    },
    /// End of an exec's standard input.
    InputEnd,
    /// The box's first `events` events stand in the host's journal. For an agent only: what it does in its box waits
    /// for what led up to it, so that after a crash nothing was done that the record does not know of.
    Kept {
        /// How many, of all that the runner said so far.
        events: u64,
    },
    /// What the kernel counted of the box, after its first `asked` questions; told unasked after a pause.
    Met {
        /// How many of its questions were heard.
        asked: u64,
        /// The numbers.
        counts: Counts,
    },
    /// A person ended the run: stop the agent and its commands, then say [`Done`].
    Cancel,
}

/// How often a box met a limit of its control group, since it was made.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Processes of it that were killed for its memory limit.
    pub memory_kills: u64,
    /// Processes and threads that it was refused.
    pub process_refusals: u64,
    /// Tenths of a second in which it had used up its share of the processor.
    pub throttled: u64,
    /// For how long it stood still then, in thousandths of a second, each processor's for itself.
    pub throttled_ms: u64,
    /// For how long it stood still because a person had paused its run, by the operator's clock, in thousandths of a second.
    #[serde(default)]
    pub stood_ms: u64,
    /// For how long it was held up because it said more than it may in a second, in thousandths of a second.
    #[serde(default)]
    pub held_ms: u64,
}

/// What our agent is to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentTask {
    /// The task, in the person's words.
    pub task: String,
    /// The opaque handle that stands for the model's key on this run's listener.
    pub handle: String,
    /// The model, its wire format and its place on the gateway.
    pub model: ModelRoute,
    /// Names of the tools it has.
    pub tools: Vec<String>,
    /// Text added to its instructions.
    pub instructions: String,
    /// Ceilings. Turns, tokens and time are kept by the agent too, so that it can end in order; the walls are elsewhere.
    pub limits: Limits,
    /// The `step`s of every `loop` event of earlier attempts, in order; empty at first.
    pub history: Vec<Value>,
    /// Ids of the tool calls whose results were shown in earlier attempts; those of `history` that are not among them
    /// are shown first.
    #[serde(default)]
    pub answered: Vec<String>,
}

/// Where a model is, seen from the box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRoute {
    /// Name as added by `volary model add`; the path segment after `/model/`.
    pub name: String,
    /// Wire format.
    pub dialect: model::Dialect,
    /// The provider's own id of the model, put in the request's `model` field.
    pub id: String,
    /// Most tokens the model may write in one call.
    pub max_output_tokens: u64,
    /// Tokens of the model's context window; compaction keeps below it.
    pub context_tokens: u64,
}

/// How it ended, as the runner saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// How the agent, or the exec's command, ended.
    pub exit: Exit,
    /// For an agent: whether it says that the task is done.
    pub task_done: bool,
    /// For an agent that is not done: why, in its own words; at most 2,000 characters.
    pub reason: String,
}

/// Where the runner and the agent stand in the box.
pub const RUNNER_PATH: &str = "/run/volary/runner";
/// See [`RUNNER_PATH`].
pub const AGENT_PATH: &str = "/run/volary/agent";
/// Where the gateway listens in the box.
pub const DOOR: &str = "127.0.0.1:8080";
/// Where commands under a lease have their scratch, each a folder of its own that is removed with it. No rule of the walls
/// of the agent, or of a command without a lease, names it.
pub const BEARERS: &str = "/run/bearer";
/// The worktree in the box.
pub const WORKSPACE: &str = "/workspace";

/// ACP extension notification (agent → client) that carries one step of our agent's loop: `{"step": …}`.
pub const ACP_LOOP: &str = "_volary/loop";
/// ACP extension notification (agent → client): one [`model::Event`] other than `loop`, for what ACP has no word for: `{"event": …}`.
pub const ACP_EVENT: &str = "_volary/event";
/// Key of `_meta` in `session/new` under which the runner hands the agent its [`AgentTask`].
pub const ACP_TASK: &str = "volary.task";
/// Key of `_meta` in the answer to `session/prompt`: `{"done": bool, "reason": text}`.
pub const ACP_DONE: &str = "volary.done";
/// Key of `_meta` in `terminal/create`: the id of the tool call that asks.
pub const ACP_TOOL_CALL: &str = "volary.toolCall";
