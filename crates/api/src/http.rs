//! HTTP bodies and paths of the server. The same routes serve the CLI (over the home's socket, as the
//! enrolled administrator) and the console.

use model::{Dialect, MicroDollars, Moment, RunId, RunState, Usage, provider::Price, run::RunKind};
use serde::{Deserialize, Serialize};

/// `POST /api/runs`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateRun {
    /// What it does.
    pub kind: RunKind,
    /// The task, for an agent; 1 to 65,536 bytes.
    #[serde(default)]
    pub task: String,
    /// Absolute path of a repository on the host.
    #[serde(default)]
    pub repo: Option<String>,
    /// Name of a model; the profile's, or the only one, when absent.
    #[serde(default)]
    pub model: Option<String>,
    /// Name of a profile; the built-in one, `default`, when absent.
    #[serde(default)]
    pub profile: Option<String>,
    /// Program and arguments, for an exec.
    #[serde(default)]
    pub argv: Vec<String>,
}

/// A run as lists and `GET /api/runs/{run}` show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunView {
    /// Its id.
    pub run: RunId,
    /// What it does.
    pub kind: RunKind,
    /// How it stands.
    pub state: RunState,
    /// Why it ended so; empty when all is well.
    pub reason: String,
    /// The task, or the command.
    pub task: String,
    /// The repository.
    pub repo: Option<String>,
    /// The profile's name.
    pub profile: String,
    /// The model's name.
    pub model: Option<String>,
    /// Who is behind it.
    pub person: String,
    /// When it was accepted.
    pub created: Moment,
    /// When it ended.
    pub ended: Option<Moment>,
    /// Attempts so far.
    pub attempts: u32,
    /// Model calls so far.
    pub calls: u64,
    /// Tokens so far.
    pub usage: Usage,
    /// Cost so far.
    pub cost: MicroDollars,
    /// Entries in its transcript.
    pub entries: u64,
    /// The branch that holds its result.
    pub branch: Option<String>,
}

/// `POST /api/runs/{run}/input`: bytes for an exec's standard input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Base 64.
    pub data_b64: String,
    /// Whether this is the end.
    #[serde(default)]
    pub end: bool,
}

/// `PUT /api/secrets/{name}`. There is no `GET` of a value.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SetSecret {
    /// The value; 1 to 16,384 bytes.
    pub value: crate::grants::WireSecret,
}

/// `GET /api/secrets`: one row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretView {
    /// `model/<name>`.
    pub name: String,
    /// Who set it.
    pub set_by: String,
    /// When.
    pub set_at: Moment,
    /// From 1; one more at each set.
    pub version: u64,
}

/// `PUT /api/models/{name}` and rows of `GET /api/models`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelView {
    /// The name runs use.
    #[serde(default)]
    pub name: String,
    /// Wire format.
    pub dialect: Dialect,
    /// Base URL; `script:` for the scripted provider.
    pub base: String,
    /// The provider's id of the model.
    pub id: String,
    /// Secret that holds its key, e.g. `model/anthropic`; none for a server that takes none.
    #[serde(default)]
    pub secret: Option<String>,
    /// Whether the base may be a non-public address.
    #[serde(default)]
    pub internal: bool,
    /// Price; taken from the table for a known id when absent.
    #[serde(default)]
    pub price: Option<Price>,
    /// Most tokens written in one call.
    #[serde(default = "default_output")]
    pub max_output_tokens: u64,
    /// Tokens of its context window.
    #[serde(default = "default_context")]
    pub context_tokens: u64,
    /// The turns of a scripted model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub script: Vec<crate::grants::ScriptTurn>,
}

fn default_output() -> u64 {
    16_384
}
fn default_context() -> u64 {
    200_000
}

/// `POST /api/models/{name}/test`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tested {
    /// Whether the model answered.
    pub ok: bool,
    /// HTTP status of the provider; 0 when it was not reached.
    pub status: u16,
    /// One sentence.
    pub said: String,
}

/// `POST /api/sign-in`: a single-use link to the console.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignInLink {
    /// Open it once, within ten minutes.
    pub url: String,
    /// When it stops working.
    pub expires: Moment,
}

/// Every error's body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Stable name, e.g. `run.unknown`.
    pub code: String,
    /// What is wrong and what to do, in whole sentences.
    pub message: String,
}

/// `GET /api/health`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// This program's version.
    pub version: String,
    /// Whether an operator is linked.
    pub operator: bool,
    /// Whether a gateway is connected.
    pub gateway: bool,
    /// Runs that are not over.
    pub live_runs: u64,
}
