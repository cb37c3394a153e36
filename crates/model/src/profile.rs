//! What a run may be: folders, limits, model. A profile is a TOML file in the
//! home's `profiles/`; the built-in one is [`Profile::default`].

use crate::capability::{Capability, Variable};
use crate::{Egress, MicroDollars, Repository};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One profile, as written by an administrator. Unknown keys are an error, so that a typo is not a hole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Profile {
    /// Shown to people. A file that gives none has none: the built-in profile's is not its.
    #[serde(default)]
    pub description: String,
    /// Who makes the box.
    pub engine: Engine,
    /// The file system that the box starts from; without one, the host's own listed system tree. A folder that is an OCI
    /// layout, or a tar of one or of `docker save`, which may be held to its digest (`/path@sha256:…`); or what a registry
    /// has under a digest (`registry/name@sha256:…`).
    pub image: Option<String>,
    /// Model to use when the run names none; the name of a `volary model add`.
    pub model: Option<String>,
    /// Folders of the host that the box sees at the same path.
    pub folders: Vec<Folder>,
    /// The tools our agent has, by name; empty means all of [`TOOLS`].
    pub tools: Vec<String>,
    /// Text added to the agent's instructions.
    pub instructions: String,
    /// Ceilings.
    pub limits: Limits,
    /// What is looked for in what leaves.
    #[serde(skip_serializing_if = "Scrub::is_usual")]
    pub scrub: Scrub,
    /// What a run may reach beyond its model.
    pub egress: Egress,
    /// Repositories that it may fetch from, and propose to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub repository: Vec<Repository>,
    /// Credentials that a run may use, never have.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub capability: Vec<Capability>,
    /// Variables that commands in the box find.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, Variable>,
}

/// Who makes a box. What a box is promised is the same with each.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// The platform itself.
    #[default]
    Embedded,
    /// The host's Docker engine.
    Docker,
}

/// What is replaced in what leaves a run, where an administrator may choose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Scrub {
    /// In what its model is sent.
    pub model: Sought,
}

impl Scrub {
    fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

/// What is looked for in a text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sought {
    /// The values of secrets that were leased lately, and whatever has the format of a credential.
    #[default]
    Formats,
    /// Those values alone: what only looks like a credential stays, and so does a credential that is none of ours.
    Values,
}

/// Our agent's tools, all of them.
pub const TOOLS: [&str; 6] = ["read", "write", "edit", "list", "search", "shell"];

/// The tool by which our agent asks for leases. It has it where it has commands (the tool `shell`), which alone use one:
/// what it may ask for can become more while it runs.
pub const LEASE_TOOL: &str = "lease";

/// The tool by which our agent proposes what it pushed. It has it where a repository of its profile takes pushes.
pub const PROPOSE_TOOL: &str = "propose";

impl Default for Profile {
    fn default() -> Self {
        Self {
            description:
                "The built-in profile: the worktree, the listed system tree, the gateway, and through it reads of \
                          public hosts; nothing else."
                    .into(),
            engine: Engine::Embedded,
            image: None,
            model: None,
            folders: Vec::new(),
            tools: Vec::new(),
            instructions: String::new(),
            limits: Limits::default(),
            scrub: Scrub::default(),
            egress: Egress::default(),
            repository: Vec::new(),
            capability: Vec::new(),
            variables: BTreeMap::new(),
        }
    }
}

/// A folder of the host inside the box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Folder {
    /// Absolute path, the same on both sides.
    pub path: PathBuf,
    /// Whether the box may write there. Read-only unless said.
    #[serde(default)]
    pub writable: bool,
}

/// Ceilings of one run. Every number is a hard limit with its own message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Limits {
    /// Memory of the whole box, in MiB.
    pub memory_mib: u64,
    /// Processor time, in thousandths of one processor.
    pub cpu_millis: u64,
    /// Processes and threads.
    pub processes: u64,
    /// Open files of one process.
    pub open_files: u64,
    /// What the run may change on disk (worktree), in MiB.
    pub worktree_mib: u64,
    /// Scratch space (`/tmp`, counted as memory), in MiB.
    pub scratch_mib: u64,
    /// Wall-clock time of the run, in seconds.
    pub seconds: u64,
    /// Wall-clock time of one command, in seconds.
    pub command_seconds: u64,
    /// Turns of the model.
    pub turns: u64,
    /// Tokens of all model calls together.
    pub tokens: u64,
    /// Cost of all model calls together.
    pub cost_micro_dollars: MicroDollars,
    /// Output of one command that is kept, in MiB; the command is ended beyond it.
    pub output_mib: u64,
    /// What all commands of a box and its agent may say together in a second, in KiB, 256 at least; what is more waits, and
    /// nothing is lost.
    pub output_kib_per_second: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_mib: 2048,
            cpu_millis: 2000,
            processes: 256,
            open_files: 1024,
            worktree_mib: 2048,
            scratch_mib: 512,
            seconds: 3600,
            command_seconds: 600,
            turns: 100,
            tokens: 2_000_000,
            cost_micro_dollars: MicroDollars(5_000_000),
            output_mib: 16,
            output_kib_per_second: 16 << 10,
        }
    }
}
