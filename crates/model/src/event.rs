//! What can happen in a run: the vocabulary of the transcript.
//!
//! The transcript is append-only; a run's state is a fold over it. Events of the
//! host are numbered per run by the operator, events of the gateway and the server
//! by the server, so that a gap in either shows.

use crate::{BoxId, MicroDollars, Moment, Outcome, RunId, Unanswered, Usage};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Who numbered an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The operator, for everything that happens on its host (it forwards the box's own words).
    Operator,
    /// The server, for its own acts and for the gateway's verdicts.
    Server,
}

/// One line of a transcript.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The run it belongs to.
    pub run: RunId,
    /// Place in the transcript, from 1, without gaps; given by the server.
    pub n: u64,
    /// When it happened, by the source's clock.
    pub at: Moment,
    /// Who numbered it.
    pub source: Source,
    /// The source's own number for the run, from 1, without gaps.
    pub source_seq: u64,
    /// What happened.
    pub event: Event,
}

#[allow(missing_docs, reason = "the doc of each event names its fields")]
/// What happened. Bytes are base 64 in `*_b64` fields; texts are scrubbed before they are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Event {
    // ---- the run's life -------------------------------------------------
    /// The server took the run on. (server)
    Accepted {
        task: String,
        profile: String,
        #[serde(default)]
        model: Option<String>,
        #[serde(default)]
        repo: Option<String>,
        person: String,
    },
    /// The commit the worktree starts from, and what was left out of it: paths of uncommitted files (lossy UTF-8, at most 100) and their full count. (operator)
    Base {
        commit: String,
        #[serde(default)]
        left_out: Vec<String>,
        left_out_count: u64,
    },
    /// A box is being made. Attempt 1 is the first. (operator)
    Attempt {
        attempt: u32,
        #[serde(rename = "box")]
        box_id: BoxId,
        uid: u32,
    },
    /// An attempt is over by nobody's wish, and its box with it; the run is not. What it changed is kept, and the next attempt goes on with it, or the run's end says why there is none. (operator)
    BrokenOff { attempt: u32, reason: String },
    /// What was read back of the box before any agent code ran. (operator)
    Walls { readings: Vec<Reading> },
    /// A person paused the run: its box is to stand still, or, where it has none, gets none until the run is resumed. (server)
    Paused { person: String },
    /// A person let the run go on; `queued` when no host had it yet. (server)
    Resumed {
        person: String,
        #[serde(default)]
        queued: bool,
    },
    /// Every process of the box stands still; from here on the run's time does too. (operator)
    Froze,
    /// They go on, having stood for `stood_ms`. (operator)
    Thawed { stood_ms: u64 },
    /// A sentence for people: progress, a resume, a warning. (operator or server)
    Note { text: String },
    /// What the run changed. `diff` is a unified diff, at most 1 MiB, cut at a line with `diff_cut`. (operator)
    Result {
        #[serde(default)]
        branch: Option<String>,
        #[serde(default)]
        commit: Option<String>,
        files: u64,
        diff: String,
        #[serde(default)]
        diff_cut: bool,
    },
    /// The run is over; nothing follows from this source. `reason` is whole and says what to do. (operator or server)
    Ended {
        outcome: Outcome,
        #[serde(default)]
        reason: String,
        #[serde(default)]
        exit: Option<Exit>,
    },

    // ---- the agent's words and acts (from the box, by way of the operator) ----
    /// A piece of the model's text, as it streams. Pieces of one turn join to the turn's text.
    Chunk { turn: u32, text: String },
    /// The model asks for a tool. `input` is what it wrote, whole.
    ToolCall { turn: u32, id: String, name: String, title: String, input: Value },
    /// The tool's answer as the model will read it: bounded; `cut` says that the full output is longer.
    ToolResult {
        id: String,
        ok: bool,
        text: String,
        #[serde(default)]
        cut: bool,
    },
    /// A command starts in the box (recorded before it runs). `id` is unique in the attempt.
    Command {
        id: String,
        argv: Vec<String>,
        cwd: String,
        #[serde(default)]
        tool_call: Option<String>,
    },
    /// A piece of a command's output, or of `volary exec`'s.
    Output { id: String, stream: Stream, data_b64: String },
    /// A command ended.
    CommandEnd { id: String, exit: Exit, ms: u64 },
    /// A file was written by the agent's tools. `diff` is unified, at most 64 KiB.
    FileEdit {
        path: String,
        created: bool,
        diff: String,
        #[serde(default)]
        diff_cut: bool,
    },
    /// One step of our agent's loop, exactly as its state machine took it; the run is resumed and replayed from these.
    Loop { step: Value },

    // ---- the gateway (numbered by the server) ----
    /// The gateway judged a request. For a model call that was let through, [`Event::Settled`] follows; for another request, [`Event::Passed`].
    Verdict(Verdict),
    /// A model call is over and paid for.
    Settled {
        grant: String,
        model: String,
        usage: Usage,
        cost: MicroDollars,
        status: u16,
        #[serde(default)]
        interrupted: bool,
    },
    /// A request to the outside that was let through is over. `sent` and `received` are bytes of body, or of a tunnel; `status` is 0 when the host was not reached; `fault` says why, where it is known.
    Passed {
        grant: String,
        status: u16,
        sent: u64,
        received: u64,
        #[serde(default)]
        interrupted: bool,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fault: Option<Unanswered>,
    },
    /// Requests that were made by an allowance are over, in the order of their ends. The allowance is the verdict with this grant, which says how many may be made within which time; `before` is how many of them were told before these. With `over` nothing more is made by it: `unheard` says how many may have been made all the same and will never be told, because the gateway ended.
    Reads {
        grant: String,
        before: u32,
        reads: Vec<OneRead>,
        #[serde(default)]
        over: bool,
        #[serde(default)]
        unheard: u32,
    },
    /// A push of a run was let through, by the verdict with this grant; it is made when [`Event::Passed`] of this grant says 200 and was not interrupted. `paths` are those that differ from what the upstream has, at most 200 of `paths_count`. (server)
    Push {
        grant: String,
        repository: String,
        reference: String,
        old: String,
        new: String,
        bytes: u64,
        paths: Vec<String>,
        paths_count: u64,
        /// The upstream did not have the commit before: a branch that stands there later was set by this push.
        #[serde(default)]
        fresh: bool,
        /// Commits of it, new to the upstream, that are not the run's person's, or do not name the agent.
        #[serde(default)]
        others: u64,
    },
    /// The run's agent proposes what it pushed, in its own words: untrusted. A person opens it, or the server does where the profile says so. (server)
    PullRequestWanted { repository: String, branch: String, title: String, body: String },
    /// A proposal was opened for what the run pushed, for `person`; as whoever the repository's secret belongs to when `as_app`. (server)
    PullRequest {
        repository: String,
        branch: String,
        url: String,
        number: u64,
        person: String,
        #[serde(default)]
        as_app: bool,
    },
    /// What an administrator would add to the profile to allow what was just refused, as TOML, and what that would newly open. It allows nothing by itself.
    Proposed { rule: String, profile: String, toml: String, opens: String },
    /// A person accepted what would allow the refusal that `volary explain` numbers `denial`: these rows hold for this run from here on, and stand in the profile for those to come. `version` is the SHA-256 of the profile's file, hex. (server)
    ProfileChanged { denial: u64, person: String, profile: String, version: String, toml: String, opens: String },

    /// An event this version does not know (or that came malformed); kept, never dropped.
    #[serde(other)]
    Unknown,
}

/// One request that was made by an allowance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OneRead {
    /// When it began, by the gateway's clock.
    pub at: Moment,
    /// `GET` or `HEAD`.
    pub method: String,
    /// `https://host[:port]/path`, without query, at most 256 characters.
    pub target: String,
    /// Status of the answer; 0 when the host was not reached.
    pub status: u16,
    /// Bytes of body that came back.
    pub received: u64,
    /// It was broken off in the middle, by whichever side.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub interrupted: bool,
    /// Why there was no answer, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Unanswered>,
}

/// One thing read back from a live box.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// The wall, e.g. `seccomp`, `landlock`, `network`.
    pub wall: String,
    /// What was promised, in words or the kernel's own notation.
    pub promised: String,
    /// What was read, the same way.
    pub read: String,
    /// Whether they agree.
    pub holds: bool,
    /// How it was read: `/proc/PID/status`, `forbidden call`, …
    pub by: String,
}

/// How a process ended.
#[allow(missing_docs, reason = "the doc of each variant names its field")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "how")]
pub enum Exit {
    /// By itself, with a status.
    Code { code: i32 },
    /// By a signal, by number.
    Signal { signal: i32 },
    /// By us, for a reason in words ("killed: time limit 600 s").
    Killed { why: String },
    /// The platform was interrupted while it ran: it may have finished, or not.
    Unknown,
}

/// Which of a process's two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The gateway's word on one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether it was let through.
    pub allowed: bool,
    /// The rule that decided, by its stable name, e.g. `model.path`, `handle.unknown`, `door.closed`.
    pub rule: String,
    /// HTTP method, as sent, at most 32 characters.
    pub method: String,
    /// Target as sent, without query, at most 256 characters.
    pub target: String,
    /// One sentence: why.
    pub why: String,
    /// SHA-256 of the request body, hex; for model calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_sha256: Option<String>,
    /// The grant, when let through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<String>,
    /// The model asked for, for model calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What was reserved of the budget before dispatch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserved: Option<MicroDollars>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_a_later_version_is_kept_as_unknown() {
        let event: Event = serde_json::from_str(r#"{"kind":"teleported","to":"moon"}"#).unwrap();
        assert_eq!(event, Event::Unknown);
    }

    #[test]
    fn every_event_survives_the_wire() {
        let verdict = Verdict {
            allowed: false,
            rule: "door.closed".into(),
            method: "GET".into(),
            target: "/".into(),
            why: "closed".into(),
            body_sha256: None,
            grant: None,
            model: None,
            reserved: None,
        };
        for event in [
            Event::Verdict(verdict),
            Event::Command { id: "1".into(), argv: vec!["sh".into()], cwd: "/workspace".into(), tool_call: None },
            Event::CommandEnd { id: "1".into(), exit: Exit::Code { code: 3 }, ms: 5 },
            Event::Ended { outcome: Outcome::Done, reason: String::new(), exit: Some(Exit::Unknown) },
            Event::Paused { person: "a".into() },
            Event::Resumed { person: "a".into(), queued: true },
            Event::BrokenOff { attempt: 1, reason: "the gateway ended".into() },
            Event::Froze,
            Event::Thawed { stood_ms: 3 },
            Event::Passed { grant: "g".into(), status: 200, sent: 1, received: 2, interrupted: true, fault: None },
            Event::Passed {
                grant: "g".into(),
                status: 0,
                sent: 1,
                received: 2,
                interrupted: true,
                fault: Some(Unanswered::Tls),
            },
            Event::Reads {
                grant: "g".into(),
                before: 1,
                reads: vec![OneRead {
                    at: Moment(1),
                    method: "GET".into(),
                    target: "http://a.example/".into(),
                    status: 200,
                    received: 2,
                    interrupted: true,
                    fault: Some(Unanswered::Name),
                }],
                over: true,
                unheard: 3,
            },
            Event::Push {
                grant: "g".into(),
                repository: "app".into(),
                reference: "refs/heads/pr/a/b".into(),
                old: "0".into(),
                new: "1".into(),
                bytes: 3,
                paths: vec!["a".into()],
                paths_count: 1,
                fresh: true,
                others: 2,
            },
            Event::PullRequestWanted {
                repository: "app".into(),
                branch: "pr/a/b".into(),
                title: "t".into(),
                body: "b".into(),
            },
            Event::PullRequest {
                repository: "app".into(),
                branch: "pr/a/b".into(),
                url: "https://a.example/1".into(),
                number: 1,
                person: "a".into(),
                as_app: true,
            },
            Event::Proposed { rule: "r".into(), profile: "p".into(), toml: "t".into(), opens: "o".into() },
            Event::ProfileChanged {
                denial: 1,
                person: "a".into(),
                profile: "p".into(),
                version: "v".into(),
                toml: "t".into(),
                opens: "o".into(),
            },
        ] {
            let text = serde_json::to_string(&event).unwrap();
            assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event, "{text}");
        }
    }
}
