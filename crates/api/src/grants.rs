//! Gateway → server: asking for each model call, and saying what came of it.
//!
//! A grant and its record are one act of the server; the gateway dispatches nothing before
//! the answer. The credential in [`Answer::Granted`] crosses this local socket only, never the link.

mod upstream;

pub use upstream::{Place, ScriptTool, ScriptTurn, Upstream, WireSecret};

use crate::git::{GitAsk, GitWord};
use crate::leases::{LeaseAsk, LeaseEnd, LeaseUse, LeaseWord, ValueWord};
use crate::platform::{CallWord, PlatformCall};
use model::event::{OneRead, Verdict};
use model::profile::Sought;
use model::{GrantId, LeaseId, MicroDollars, RunId, Usage};
use serde::{Deserialize, Serialize};

/// Gateway → server. `id` numbers the questions of one connection; answers carry it back.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub enum FromGateway {
    /// First message after the dial.
    Hello {
        /// Granted calls that this gateway has under way, or whose [`FromGateway::Settle`] follows. Nobody will ever
        /// say what any other open grant cost.
        open: Vec<GrantId>,
        /// Leases whose use is under way here. Every other open one is over: nobody would ever say how it ended.
        #[serde(default)]
        leases: Vec<LeaseId>,
        /// Values by which requests are under way here.
        #[serde(default)]
        values: Vec<StoredValue>,
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
    /// By which table of its profile is this run judged? Answered by [`EgressWord::Law`], or `Denied`.
    AskLaw {
        /// Question number.
        id: u64,
        /// The run.
        run: RunId,
    },
    /// May this run send this request out now? The gateway has judged it by the run's table.
    AskEgress {
        /// Question number.
        id: u64,
        /// The request.
        ask: EgressAsk,
    },
    /// A request that was let out is over. Sent for each grant, also when it failed; once, or again after a new dial.
    SettleEgress {
        /// The grant.
        grant: GrantId,
        /// What came of it.
        outcome: EgressOutcome,
    },
    /// What was made by an allowance ([`EgressAsk::reads`]) is over, in the order of its ends. The last of them, with
    /// `over`, is sent for each allowance, also when nothing was made by it; each once, or again after a new dial.
    Reads {
        /// The grant of the allowance.
        grant: GrantId,
        /// How many of it were told before these.
        before: u32,
        /// They; at most [`READS_TOLD`].
        reads: Vec<OneRead>,
        /// Nothing more is made by it.
        over: bool,
    },
    /// May this run do this with a repository? Answered by [`ToGateway::GitAnswer`]; settled as a request to the outside.
    AskGit {
        /// Question number.
        id: u64,
        /// The question.
        ask: GitAsk,
    },
    /// May this image be pulled for this run? Answered by [`ToGateway::EgressAnswer`], with a grant or a denial; settled as
    /// a request to the outside.
    AskImage {
        /// Question number.
        id: u64,
        /// The question.
        ask: ImageAsk,
    },
    /// May this run have a lease? Answered by [`ToGateway::LeaseAnswer`].
    AskLease {
        /// Question number.
        id: u64,
        /// The question.
        ask: LeaseAsk,
    },
    /// The one use of a lease begins. Answered by [`ToGateway::LeaseValue`].
    UseLease {
        /// Question number.
        id: u64,
        /// The use.
        used: LeaseUse,
    },
    /// The use of a lease is over. Sent for each use, once, or again after a new dial.
    EndLease {
        /// The lease.
        lease: LeaseId,
        /// How it ended.
        outcome: LeaseEnd,
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
    /// Answer to [`ToGateway::Call`].
    Called {
        /// Question number of the call.
        id: u64,
        /// What became of it.
        word: CallWord,
    },
    /// What a vendor made by a [`ToGateway::Call`] for a lease, and of which the server did not say that it has it: said
    /// after a new dial, again and again until [`ToGateway::Kept`].
    Held {
        /// The lease.
        lease: LeaseId,
        /// What became of the call.
        word: CallWord,
    },
    /// Answer to [`ToGateway::Walls`].
    Walls {
        /// Question number.
        id: u64,
        /// The forbidden calls, as they were just made.
        proof: crate::walls::Proof,
    },
}

/// An image that the operator wants for a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageAsk {
    /// The run, as the operator says.
    pub run: RunId,
    /// The image, `registry/name@sha256:…`: granted only if the run's profile names this very one.
    pub image: String,
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
    /// First message after the gateway's own hello. Before it the gateway grants nothing, and scrubs nothing either.
    Hello {
        /// The key under which scrubbers fingerprint what they replace: 64 hex digits.
        fingerprints: WireSecret,
    },
    /// Answers [`FromGateway::Ask`].
    Answer {
        /// Question number.
        id: u64,
        /// The word.
        answer: Answer,
    },
    /// Answers [`FromGateway::AskLaw`] and [`FromGateway::AskEgress`].
    EgressAnswer {
        /// Question number.
        id: u64,
        /// The word.
        answer: EgressWord,
    },
    /// Answers [`FromGateway::AskGit`].
    GitAnswer {
        /// Question number.
        id: u64,
        /// The word.
        word: GitWord,
    },
    /// Answers [`FromGateway::AskLease`].
    LeaseAnswer {
        /// Question number.
        id: u64,
        /// The word.
        word: LeaseWord,
    },
    /// Answers [`FromGateway::UseLease`].
    LeaseValue {
        /// Question number.
        id: u64,
        /// The word.
        word: ValueWord,
    },
    /// This lease is no more: whoever uses it is ended, and what is held of its value is forgotten.
    RevokeLease {
        /// The lease.
        lease: LeaseId,
    },
    /// This value is no more, nor any that was in its place before: whatever goes on by one of them is ended.
    EndValue {
        /// The value.
        value: StoredValue,
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
    /// Make this call of the server's own, which is recorded.
    Call {
        /// Question number, of the server's own count.
        id: u64,
        /// The call.
        call: Box<PlatformCall>,
    },
    /// What came of the call for this lease is kept, or there is nothing to keep: it is held no longer.
    Kept {
        /// The lease.
        lease: LeaseId,
    },
    /// Make the forbidden calls and report them, for `volary status`.
    Walls {
        /// Question number, of the server's own count.
        id: u64,
    },
    /// Another table holds for this run from here on: nothing more is made by the allowances of the one before.
    EndReads {
        /// The run.
        run: RunId,
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
        /// What is to be replaced in its body before it leaves, as the run's profile says.
        #[serde(default)]
        sought: Sought,
    },
    /// Recorded; refuse it.
    Denied {
        /// Stable name of the rule.
        rule: String,
        /// One sentence for the agent.
        why: String,
    },
}

/// A request to the outside, as the gateway judged it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressAsk {
    /// The run, known by the listener alone.
    pub run: RunId,
    /// The version of the table by which it was judged. Is there another one by now, the answer is
    /// [`EgressWord::Law`], and nothing is granted or recorded.
    pub law: u64,
    /// What it is.
    pub kind: EgressKind,
    /// The rule of the table that allows it, as the verdict is to name it.
    pub rule: String,
    /// The method, at most 32 characters; `CONNECT` for a blind tunnel.
    pub method: String,
    /// `https://host[:port]/path`, without query, at most 256 characters; for the verdict.
    pub target: String,
    /// The host in its one spelling.
    pub host: String,
    /// The port.
    pub port: u16,
    /// For a write: the capability of its row, by the name of the secret. The server grants it only if the handle
    /// is one of this run for this very capability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability: Option<String>,
    /// SHA-256 of the handle that the request carried, hex, lower case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle_sha256: Option<String>,
    /// The proxy that leads outside resolves the host's name: its addresses are not checked here.
    #[serde(default)]
    pub delegated: bool,
    /// 0: this one request. More, at most [`READS_AT_ONCE`]: an allowance of so many requests GET or HEAD without a
    /// body, by this rule to this host and port, that begin within [`READS_MS`] of the question. `target` is the
    /// host's root then, or the path of the row that gives the credential. The gateway judges each of them by the same
    /// table, and tells each in [`FromGateway::Reads`].
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub reads: u32,
}

/// Requests that one allowance is for, at most.
pub const READS_AT_ONCE: u32 = 512;

/// How long an allowance lasts, in milliseconds: a table that changed, and a run that is over, are met within it.
pub const READS_MS: u64 = 1000;

/// Requests that are told at once, at most: they are one line of the transcript and one record.
pub const READS_TOLD: usize = 64;

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
fn is_nothing(n: &u32) -> bool {
    *n == 0
}

/// What a request to the outside is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EgressKind {
    /// A read: without body, without credential.
    Read,
    /// What a row allows, with the credential of that row.
    Write,
    /// A WebSocket that a row allows, with the credential of that row.
    Upgrade,
    /// A blind tunnel to a package registry.
    Tunnel,
}

/// The server's word on an [`EgressAsk`], or on which table holds.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "word", rename_all = "kebab-case")]
pub enum EgressWord {
    /// The table by which this run is judged from now on. Nothing was granted.
    Law {
        /// Its version; it changes whenever the table does, and is never 0.
        version: u64,
        /// The table.
        egress: model::Egress,
    },
    /// Recorded; let it out.
    Granted {
        /// To be settled.
        grant: GrantId,
        /// What takes the handle's place; none if the request carried no handle.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        credential: Option<EgressCredential>,
    },
    /// Recorded; refuse it.
    Denied {
        /// Stable name of the rule.
        rule: String,
        /// One sentence for the agent.
        why: String,
    },
}

/// A credential, and the one place where it may go.
#[derive(Debug, Serialize, Deserialize)]
pub struct EgressCredential {
    /// Its value.
    pub value: WireSecret,
    /// The name of the secret that it is, for the scrubber's placeholder.
    #[serde(default)]
    pub secret: String,
    /// The host that the handle is for, in its one spelling. The gateway injects nowhere else.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Of what a vendor minted: until when it may open something, if nobody ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<model::Moment>,
    /// The lease of the command whose handle was shown: what goes on by it ends when the gateway has that use no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseId>,
    /// The platform's own lease that carries a minted value: what goes on by it ends when that is taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried: Option<LeaseId>,
    /// Of a value that is kept: which it is. What goes on by it ends when that is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<StoredValue>,
}

/// One value that the vault keeps or kept.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StoredValue {
    /// The secret's name.
    pub secret: String,
    /// Whose own it is; empty for the workspace's.
    pub person: String,
    /// The how-manieth of that name and person it is, from 1 on; one that is deleted counts.
    pub version: u64,
}

/// What came of a request that was let out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EgressOutcome {
    /// Status of the answer; 0 when the host was not reached, or for a tunnel.
    pub status: u16,
    /// Bytes of body, or of the tunnel, that went out.
    pub sent: u64,
    /// Bytes of body, or of the tunnel, that came back.
    pub received: u64,
    /// It was broken off in the middle, by whichever side.
    pub interrupted: bool,
    /// Why there was no answer, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<model::Unanswered>,
}
