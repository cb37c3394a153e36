//! Gateway → server: asking for each model call, and saying what came of it.
//!
//! A grant and its record are one act of the server; the gateway dispatches nothing before
//! the answer. The credential in [`Answer::Granted`] crosses this local socket only, never the link.

use model::{Dialect, GrantId, MicroDollars, RunId, Usage, event::Verdict, provider::Price};
use serde::{Deserialize, Serialize};

/// Gateway → server. `id` numbers the questions of one connection; answers carry it back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub enum FromGateway {
    /// First message after the dial.
    Hello {
        /// Granted calls that this gateway has under way, or whose [`FromGateway::Settle`] follows. Nobody will ever
        /// say what any other open grant cost.
        open: Vec<GrantId>,
    },
    /// May this run make this model call now?
    Ask {
        /// Question number.
        id: u64,
        /// The call.
        call: ModelCall,
    },
    /// A granted call is over. Sent for each grant, also when it failed; once, or again after a new dial.
    Settle {
        /// The grant.
        grant: GrantId,
        /// What the provider reported; when it reported nothing, what the gateway estimates, never less than what was seen.
        usage: Usage,
        /// HTTP status of the provider; 0 when it was not reached.
        status: u16,
        /// The client or the provider broke off in the middle.
        interrupted: bool,
    },
    /// The gateway refused a request by itself; to be recorded. After many of one run, this stands for all
    /// further ones of it (rule `door.flood`).
    Refused {
        /// The run whose listener it came from.
        run: RunId,
        /// The verdict; `allowed` is false.
        verdict: Verdict,
    },
    /// Answer to [`ToGateway::Probe`].
    Probed {
        /// Question number of the probe.
        id: u64,
        /// HTTP status of the provider; 0 when it was not reached.
        status: u16,
        /// One sentence, scrubbed.
        said: String,
    },
    /// Answer to [`ToGateway::Walls`].
    Walls {
        /// Question number.
        id: u64,
        /// The forbidden calls, as they were just made.
        proof: crate::walls::Proof,
    },
}

/// What the gateway knows of a model call before it is dispatched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelCall {
    /// The run, known by the listener alone.
    pub run: RunId,
    /// SHA-256 of the handle the request carried, hex, lower case.
    pub handle_sha256: String,
    /// The name after `/model/`.
    pub provider: String,
    /// The inference path after it, e.g. `/v1/messages`.
    pub path: String,
    /// The `model` field of the body.
    pub model: String,
    /// The most tokens the call may write: the body's own ceiling; 0 when it sets none.
    pub max_output_tokens: u64,
    /// Upper estimate of the tokens the call reads: body length in bytes (a token is at least one byte).
    pub input_tokens_at_most: u64,
    /// SHA-256 of the body, hex.
    pub body_sha256: String,
    /// The body asks for a cache of its prompt that lasts longer than the usual one, and costs more.
    #[serde(default)]
    pub long_cache: bool,
}

/// Server → gateway.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub enum ToGateway {
    /// First message after the dial, and whenever it changes: values to scrub by exact value from everything
    /// that passes, also while no lease is live.
    Answer {
        /// Question number.
        id: u64,
        /// The word.
        answer: Answer,
    },
    /// Make the smallest call to this model, for `volary model test`.
    Probe {
        /// Question number, of the server's own count.
        id: u64,
        /// As if granted.
        route: Upstream,
        /// The provider's id of the model.
        model: String,
    },
    /// Make the forbidden calls and report them, for `volary status`.
    Walls {
        /// Question number, of the server's own count.
        id: u64,
    },
    /// Drop whatever the gateway holds for this run; its grants are dead.
    Close {
        /// The run.
        run: RunId,
    },
}

/// The server's word on a [`ModelCall`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "word", rename_all = "kebab-case")]
pub enum Answer {
    /// Recorded; dispatch it.
    Granted {
        /// To be settled.
        grant: GrantId,
        /// Where to, with what.
        upstream: Upstream,
        /// What was reserved of the run's budget.
        reserved: MicroDollars,
    },
    /// Recorded; refuse it.
    Denied {
        /// Stable name of the rule.
        rule: String,
        /// One sentence for the agent.
        why: String,
    },
}

/// A model provider as the gateway reaches it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Upstream {
    /// Wire format.
    pub dialect: Dialect,
    /// Where it is.
    pub place: Place,
    /// The credential, injected last. Empty when the provider takes none (a local Ollama).
    pub credential: WireSecret,
    /// For metering in the gateway's own log lines; the server computes the cost that counts.
    pub price: Price,
}

/// Where a provider is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "at", rename_all = "kebab-case")]
pub enum Place {
    /// At a URL set by an administrator.
    Url {
        /// Base, without the inference path: `https://api.anthropic.com`.
        base: String,
        /// The administrator allowed this one non-public address by name (a local model server).
        internal: bool,
    },
    /// The scripted provider, in the gateway itself: answers from these turns over the real wire format.
    Script {
        /// Turn `k` answers the request that holds `k` assistant messages.
        turns: Vec<ScriptTurn>,
    },
}

/// One answer of the scripted model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScriptTurn {
    /// What it says.
    pub text: String,
    /// Which tools it asks for, all at once.
    pub tools: Vec<ScriptTool>,
    /// Milliseconds to wait before each piece of the stream.
    pub pause_ms: u64,
    /// Answer with this HTTP status instead (429, 529, 500), the first time the turn is asked for.
    pub fail_once: Option<u16>,
    /// Break the stream off in its middle.
    pub cut: bool,
}

/// A tool call of the scripted model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptTool {
    /// The tool.
    pub name: String,
    /// Its input.
    pub input: serde_json::Value,
}

/// A secret on its way over a local socket: the one place where one is serialised.
#[derive(Debug)]
pub struct WireSecret(pub model::Secret<String>);

impl Serialize for WireSecret {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.0.expose())
    }
}
impl<'de> Deserialize<'de> for WireSecret {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(|text| Self(model::Secret::new(text)))
    }
}
