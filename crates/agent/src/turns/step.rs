//! What goes into the machine and what comes out of it.

use api::inbox::ModelRoute;
use model::Usage;
use serde::{Deserialize, Serialize};

/// One thing that happened to the loop. The steps of a run, in order, are its record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum Step {
    /// The task was given. First step of a run, once.
    Started(Started),
    /// The model's answer is here, whole.
    ModelAnswered(Answer),
    /// A call of the model came to nothing.
    ModelFailed(Failure),
    /// The wait that [`Effect::Wait`] asked for is over.
    Waited,
    /// A tool is done.
    ToolFinished(ToolResult),
    /// The results that [`Effect::Compact`] named are to be left out of the context from here on.
    Compacted {
        /// Ids of their calls.
        left_out: Vec<String>,
    },
    /// The process that kept the loop died, and another takes it up.
    Resumed,
    /// A person ended the run.
    Cancelled,
    /// The run's time is over.
    TimeUp,
}

/// What the loop starts from. Everything that the request bodies are built from stands here, so that a
/// later version of the agent, with another prompt or other tools, replays an earlier run to the byte.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// The task, in the person's words.
    pub task: String,
    /// The system prompt.
    pub system: String,
    /// The tools.
    pub tools: Vec<ToolSpec>,
    /// The model. (No handle: it goes into a header, not into a body.)
    pub model: ModelRoute,
    /// Most answers of the model.
    pub max_turns: u64,
    /// Most tokens of all calls together.
    pub max_tokens: u64,
}

/// A tool, as the model is told of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolSpec {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: String,
    /// JSON Schema of its input, as text, so that no map order can change it.
    pub schema: String,
}

/// What the model answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Text and tool calls, in order.
    pub content: Vec<Block>,
    /// Why it stopped.
    pub stop: Stop,
    /// What it says it used.
    pub usage: Usage,
}

/// A part of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Block {
    /// Words.
    Text {
        /// The words.
        text: String,
    },
    /// Reasoning that the provider wants back unchanged.
    Thinking {
        /// The reasoning.
        thinking: String,
        /// The provider's signature over it.
        signature: String,
    },
    /// Reasoning that the provider hides, and wants back unchanged.
    Redacted {
        /// Opaque: Anthropic's own text, or an item of reasoning of OpenAI Responses as JSON.
        data: String,
    },
    /// A call of a tool.
    Call(Call),
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Unique in the run: the machine renames what is empty or was there before.
    pub id: String,
    /// The tool's name, as the model wrote it.
    pub name: String,
    /// The input: the JSON text that the model wrote, which need not be JSON.
    pub input: String,
}

/// Why the model stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stop {
    /// It had said all, or asks for tools.
    Ended,
    /// It reached the limit of its output.
    OutputLimit,
    /// It, or the provider, will not go on.
    Refused,
}

/// Why a call of the model came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind, which decides what follows.
    pub kind: FailureKind,
    /// HTTP status; 0 when there was none.
    pub status: u16,
    /// What was said, for people; at most 1,000 characters.
    pub text: String,
    /// What `Retry-After` asked for, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// A random number, `0..=1000`, drawn when it happened; spreads the retries of many runs.
    #[serde(default)]
    pub jitter: u16,
}

/// Kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// Overload or a passing fault: 408, 409, 429, 5xx. Tried again.
    Busy,
    /// No connection. Tried again.
    Unreachable,
    /// The stream ended in the middle. Tried again.
    Cut,
    /// The answer is not of the dialect. Tried again.
    Garbage,
    /// The context is over the model's window. Shortened, then tried again.
    TooLong,
    /// The gateway refused, by policy. Ends the run.
    Policy,
    /// The provider refused the request. Ends the run.
    Refused,
    /// The answer did not end: cut at the limit of size or time. Ends the run.
    Endless,
}

/// A tool's result as the model reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolResult {
    /// The call.
    pub id: String,
    /// Bounded by the tool.
    pub text: String,
    /// Whether it did what was asked.
    pub ok: bool,
    /// Whether the full output is longer than `text`.
    #[serde(default)]
    pub cut: bool,
}

/// What is to be done next, by the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send [`super::Machine::request`] to the model.
    CallModel {
        /// Number of the call, from 1; a retry keeps its number.
        turn: u32,
    },
    /// Run a tool, and answer with [`Step::ToolFinished`].
    RunTool(Call),
    /// For the record: this result was taken in.
    Answered(ToolResult),
    /// Wait, and answer with [`Step::Waited`].
    Wait {
        /// Milliseconds, `0..=60_000`.
        ms: u64,
    },
    /// Answer with [`Step::Compacted`] of the same ids.
    Compact {
        /// Ids of calls whose results are to be left out.
        left_out: Vec<String>,
    },
    /// It is over; nothing follows.
    Finish(End),
}

/// How the loop ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// In one word.
    pub how: Ending,
    /// Why, in whole sentences; empty when done; at most 2,000 characters.
    pub reason: String,
}

impl End {
    /// Whether the agent says that the task is done.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.how == Ending::Done
    }
}

/// The ends that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// The model says that the task is done.
    Done,
    /// The model says that it is not, or has stopped saying anything.
    NotDone,
    /// The limit of turns.
    Turns,
    /// The limit of tokens, or of one answer.
    Tokens,
    /// The limit of time.
    Time,
    /// The model or its provider refuses.
    Refused,
    /// The model could not be had.
    Failed,
    /// A person.
    Cancelled,
}
