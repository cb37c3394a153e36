//! HTTP bodies and paths of the server. The same routes serve the CLI (over the home's socket, as the
//! enrolled administrator) and the console.

use model::{Dialect, MicroDollars, Moment, RunId, RunState, Usage, provider::Price, run::RunKind};
use serde::{Deserialize, Serialize};

/// `POST /api/runs`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CreateRun {
    /// What it does.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::RunKind))]
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
    /// For an exec: the capability of its profile that its command is to have the use of, by a lease.
    #[serde(default)]
    pub lease: Option<ExecLease>,
}

/// The one lease of an exec's command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ExecLease {
    /// The capability, by its name in the profile.
    pub capability: String,
    /// One of its destinations; the only one, when absent.
    #[serde(default)]
    pub destination: Option<String>,
}

/// A run as lists and `GET /api/runs/{run}` show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RunView {
    /// Its id.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub run: RunId,
    /// What it does.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::RunKind))]
    pub kind: RunKind,
    /// How it stands.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::RunState))]
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
    #[cfg_attr(feature = "openapi", schema(value_type = i64))]
    pub created: Moment,
    /// When it ended.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>))]
    pub ended: Option<Moment>,
    /// Attempts so far.
    pub attempts: u32,
    /// Model calls so far.
    pub calls: u64,
    /// Tokens so far.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Usage))]
    pub usage: Usage,
    /// Cost so far.
    #[cfg_attr(feature = "openapi", schema(value_type = u64))]
    pub cost: MicroDollars,
    /// Entries in its transcript.
    pub entries: u64,
    /// The branch that holds its result.
    pub branch: Option<String>,
}

/// `POST /api/runs/{run}/input`: bytes for an exec's standard input.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Base 64; at most [`INPUT_WINDOW`] bytes of it.
    pub data_b64: String,
    /// Whether this is the end.
    #[serde(default)]
    pub end: bool,
}

/// Bytes of base 64 that a command's input may run ahead of what its box took; a `POST` beyond that waits for room.
pub const INPUT_WINDOW: usize = 4 * 1024 * 1024;

/// `PUT /api/secrets/{name}`. There is no `GET` of a value.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SetSecret {
    /// The value; 8 to 16,384 bytes.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub value: crate::grants::WireSecret,
    /// The provider whose key it is (`github`), or `custom`; unless said it stays what it is, and a new one is custom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Whether it is the caller's own value, for the caller's own runs, and not the workspace's.
    #[serde(default)]
    pub mine: bool,
    /// Of the workspace's: whether people may have values of their own in its place; else what the provider's keys allow,
    /// and of a custom one: no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub personal: Option<bool>,
    /// Of a key that its vendor makes narrower ones of (`github-app`, `aws-role`, `kubernetes-account`): what else the
    /// vendor is told. Its `kind` is the secret's; unless said it stays what it is.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minter: Option<model::mint::Minter>,
}

impl SetSecret {
    /// The workspace's value, of which nothing more is said.
    #[must_use]
    pub fn of(value: crate::grants::WireSecret) -> Self {
        Self { value, kind: None, mine: false, personal: None, minter: None }
    }
}

/// `POST /api/secrets/{name}`: a new value in the place of one that is set.
#[derive(Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ReplaceSecret {
    /// The value; 8 to 16,384 bytes.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub value: crate::grants::WireSecret,
    /// Whether it is the caller's own value.
    #[serde(default)]
    pub mine: bool,
}

/// `DELETE /api/secrets/{name}`: what ended with the value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SecretRemoved {
    /// Leases that were open on it: taken back, and what used them is ended.
    pub leases: u32,
    /// Values that a vendor minted of it for them, and that it is being asked to end.
    pub revoking: u32,
    /// Until when values that were minted of it live that nobody can end, if there are any.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_until: Option<Moment>,
}

/// `GET /api/secrets`: one row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SecretView {
    /// `model/<name>`, `capability/<name>`.
    pub name: String,
    /// Whose own value it is; none for the workspace's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
    /// The provider whose key it is; `text` for a custom one that has spaces or line ends, none for any other custom one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// What its vendor is told when a narrower one is made of it; none of a key that is used itself.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minter: Option<model::mint::Minter>,
    /// Whether it ends inside no box, by whatever way.
    #[serde(default)]
    pub managed: bool,
    /// Whether people may have values of their own in its place.
    #[serde(default)]
    pub personal: bool,
    /// Who set it.
    pub set_by: String,
    /// When.
    #[cfg_attr(feature = "openapi", schema(value_type = i64))]
    pub set_at: Moment,
    /// When it was last opened for a grant, to the minute; none if never since it was set.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<Moment>,
    /// From 1; one more at each set.
    pub version: u64,
}

/// `PUT /api/models/{name}` and rows of `GET /api/models`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct ModelView {
    /// The name runs use.
    #[serde(default)]
    pub name: String,
    /// Wire format.
    #[cfg_attr(feature = "openapi", schema(value_type = schema::Dialect))]
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
    #[cfg_attr(feature = "openapi", schema(value_type = Option<schema::Price>))]
    pub price: Option<Price>,
    /// Most tokens written in one call.
    #[serde(default = "default_output")]
    pub max_output_tokens: u64,
    /// Tokens of its context window.
    #[serde(default = "default_context")]
    pub context_tokens: u64,
    /// The turns of a scripted model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<schema::ScriptTurn>))]
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SignInLink {
    /// Open it once, within ten minutes.
    pub url: String,
    /// When it stops working.
    #[cfg_attr(feature = "openapi", schema(value_type = i64))]
    pub expires: Moment,
}

/// Every error's body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Problem {
    /// Stable name, e.g. `run.unknown`.
    pub code: String,
    /// What is wrong and what to do, in whole sentences.
    pub message: String,
}

/// `GET /api/health`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
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

/// How the nouns of `model`, which knows nothing of schemas, look in JSON. For the server's OpenAPI page only.
#[cfg(feature = "openapi")]
#[allow(missing_docs, reason = "each field is documented at the type that this one mirrors")]
pub mod schema {
    use utoipa::ToSchema;

    /// See [`model::run::RunKind`].
    #[derive(ToSchema)]
    #[schema(rename_all = "kebab-case")]
    pub enum RunKind {
        Agent,
        Exec,
    }
    /// See [`model::RunState`].
    #[derive(ToSchema)]
    #[schema(rename_all = "kebab-case")]
    pub enum RunState {
        Queued,
        Running,
        Paused,
        Done,
        Failed,
        Cancelled,
    }
    /// See [`model::Dialect`].
    #[derive(ToSchema)]
    #[schema(rename_all = "kebab-case")]
    pub enum Dialect {
        Anthropic,
        Openai,
        OpenaiResponses,
        Gemini,
    }
    /// Tokens: see [`model::Usage`].
    #[derive(ToSchema)]
    pub struct Usage {
        pub input: u64,
        pub output: u64,
        pub cache_read: u64,
        pub cache_write: u64,
        pub cache_write_1h: Option<u64>,
    }
    /// Micro-dollars per million tokens: see [`model::provider::Price`].
    #[derive(ToSchema)]
    pub struct Price {
        pub input: u64,
        pub output: u64,
        pub cache_read: Option<u64>,
        pub cache_write: Option<u64>,
        pub cache_write_1h: Option<u64>,
    }
    /// See [`crate::grants::ScriptTurn`].
    #[derive(ToSchema)]
    pub struct ScriptTurn {
        pub text: Option<String>,
        pub tools: Option<Vec<ScriptTool>>,
        pub pause_ms: Option<u64>,
        pub fail_once: Option<u16>,
        pub cut: Option<bool>,
    }
    /// See [`crate::grants::ScriptTool`].
    #[derive(ToSchema)]
    pub struct ScriptTool {
        pub name: String,
        pub input: serde_json::Value,
    }
}
