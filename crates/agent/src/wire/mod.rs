//! The four wire formats: bodies built from the context, answers read from the stream.
//!
//! Building is deterministic: plain structs in a fixed order, tool inputs and schemas as the text they came
//! as. Reading is tolerant: unknown fields and events are passed over, whatever is missing has a default, and
//! a stream may be cut anywhere without being taken for a whole answer.
//!
//! Read [`request`], then [`Reader`] (one event after another), then [`whole`] (a server that does not stream).

pub mod anthropic;
pub mod events;
pub mod gemini;
pub mod openai;
mod plain;
pub mod responses;

use crate::turns::{Answer, Block, Call, FailureKind, Message, Started, Stop};
use api::inbox::ModelRoute;
use model::Dialect;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// Where a model's calls go, after `/model/{name}`; with a query where the dialect has one.
#[must_use]
pub fn path(model: &ModelRoute) -> Cow<'static, str> {
    Cow::Borrowed(match model.dialect {
        Dialect::Anthropic => "/v1/messages",
        Dialect::Openai => "/v1/chat/completions",
        Dialect::OpenaiResponses => "/v1/responses",
        Dialect::Gemini => return Cow::Owned(gemini::path(&model.id)),
    })
}

/// The body of a streaming request. Without `may_call`, tools are named but may not be called.
#[must_use]
pub fn request(started: &Started, messages: &[Message], may_call: bool) -> Vec<u8> {
    match started.model.dialect {
        Dialect::Anthropic => anthropic::request(started, messages, may_call),
        Dialect::Openai => openai::request(started, messages, may_call),
        Dialect::OpenaiResponses => responses::request(started, messages, may_call),
        Dialect::Gemini => gemini::request(started, messages, may_call),
    }
}

/// What a stream said that ends it as a failure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct WireError {
    /// What kind.
    pub kind: FailureKind,
    /// For people.
    pub text: String,
}

impl WireError {
    fn garbage(what: impl Into<String>) -> Self {
        Self { kind: FailureKind::Garbage, text: what.into() }
    }
    /// The stream ended before the answer did.
    #[must_use]
    pub fn cut() -> Self {
        Self { kind: FailureKind::Cut, text: "the model's answer broke off in the middle".into() }
    }
}

/// Reads an answer from its events.
#[derive(Debug)]
pub enum Reader {
    /// Of Anthropic Messages.
    Anthropic(anthropic::Reader),
    /// Of OpenAI Chat Completions.
    Openai(openai::Reader),
    /// Of OpenAI Responses.
    Responses(responses::Reader),
    /// Of Gemini.
    Gemini(gemini::Reader),
}

impl Reader {
    /// A reader of an answer that has not begun.
    #[must_use]
    pub fn new(dialect: Dialect) -> Self {
        match dialect {
            Dialect::Anthropic => Self::Anthropic(anthropic::Reader::default()),
            Dialect::Openai => Self::Openai(openai::Reader::default()),
            Dialect::OpenaiResponses => Self::Responses(responses::Reader::default()),
            Dialect::Gemini => Self::Gemini(gemini::Reader::default()),
        }
    }

    /// Takes one event's data; gives the words for people that it held, often none.
    ///
    /// # Errors
    /// What the event says is wrong, or that it cannot be read.
    pub fn event(&mut self, data: &str) -> Result<String, WireError> {
        match self {
            Self::Anthropic(reader) => reader.event(data),
            Self::Openai(reader) => reader.event(data),
            Self::Responses(reader) => reader.event(data),
            Self::Gemini(reader) => reader.event(data),
        }
    }

    /// Whether the answer is whole, so that nothing after it matters.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        match self {
            Self::Anthropic(reader) => reader.is_whole(),
            Self::Openai(reader) => reader.is_whole(),
            Self::Responses(reader) => reader.is_whole(),
            Self::Gemini(reader) => reader.is_whole(),
        }
    }

    /// Bytes of content so far.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Anthropic(reader) => reader.bytes(),
            Self::Openai(reader) => reader.bytes(),
            Self::Responses(reader) => reader.bytes(),
            Self::Gemini(reader) => reader.bytes(),
        }
    }

    /// The answer, at the stream's end.
    ///
    /// # Errors
    /// [`FailureKind::Cut`] when it is not whole.
    pub fn end(self) -> Result<Answer, WireError> {
        match self {
            Self::Anthropic(reader) => reader.end(),
            Self::Openai(reader) => reader.end(),
            Self::Responses(reader) => reader.end(),
            Self::Gemini(reader) => reader.end(),
        }
    }
}

/// The answer of a server that answered in one piece although it was asked to stream.
///
/// # Errors
/// What the body says is wrong, or that it cannot be read.
pub fn whole(dialect: Dialect, body: &[u8]) -> Result<Answer, WireError> {
    match dialect {
        Dialect::Anthropic => anthropic::whole(body),
        Dialect::Openai => openai::whole(body),
        Dialect::OpenaiResponses => responses::whole(body),
        Dialect::Gemini => gemini::whole(body),
    }
}

/// Types and codes of errors that pass.
const BUSY: [&str; 10] = [
    "overloaded_error",
    "rate_limit_error",
    "rate_limit_exceeded",
    "api_error",
    "timeout_error",
    "server_error",
    // Gemini's.
    "UNAVAILABLE",
    "RESOURCE_EXHAUSTED",
    "INTERNAL",
    "DEADLINE_EXCEEDED",
];

/// What kind of failure an error's type and words, as any dialect writes them, stand for.
#[must_use]
pub fn kind_of_error(status: u16, kind: &str, message: &str) -> FailureKind {
    let said = message.to_ascii_lowercase();
    let too_long = [
        "prompt is too long",
        "context length",
        "context_length",
        "context window",
        "too many tokens",
        "exceeds the maximum number of tokens",
    ];
    if kind.contains("volary_policy") {
        FailureKind::Policy
    } else if kind == "context_length_exceeded"
        || (matches!(status, 0 | 400 | 413) && too_long.iter().any(|w| said.contains(w)))
    {
        FailureKind::TooLong
    } else if matches!(status, 408 | 409 | 429 | 500..) || BUSY.contains(&kind) {
        FailureKind::Busy
    } else {
        FailureKind::Refused
    }
}

/// A call's input as a JSON object: what the model wrote, or, when that is none, an object that holds it as a
/// text (the vendors refuse to read back anything else, and the model must see what it did).
fn input_object(call: &Call) -> Box<RawValue> {
    if call.input.trim_start().starts_with('{')
        && plain::is_plain(&call.input)
        && let Ok(raw) = RawValue::from_string(call.input.clone())
    {
        return raw;
    }
    let text = serde_json::to_string(&call.input).unwrap_or_else(|_| "\"\"".into());
    RawValue::from_string(format!("{{\"not_an_object\":{text}}}")).unwrap_or_default_object()
}

/// A text that should be a JSON object, or an empty one.
fn object(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap_or_default_object()
}

trait OrEmptyObject {
    fn unwrap_or_default_object(self) -> Box<RawValue>;
}

impl OrEmptyObject for serde_json::Result<Box<RawValue>> {
    fn unwrap_or_default_object(self) -> Box<RawValue> {
        self.unwrap_or_else(|_| RawValue::from_string("{}".into()).expect("two braces are JSON"))
    }
}

/// Blocks in the order they began, being filled.
#[derive(Debug, Default)]
struct Filling {
    blocks: Vec<(u64, Block)>,
    bytes: usize,
}

impl Filling {
    fn begin(&mut self, index: u64, block: Block) {
        self.blocks.push((index, block));
    }
    fn find(&mut self, wanted: impl Fn(u64, &Block) -> bool) -> Option<&mut Block> {
        self.blocks.iter_mut().rev().find(|(index, block)| wanted(*index, block)).map(|(_, block)| block)
    }
    fn grow(&mut self, text: &str) {
        self.bytes += text.len();
    }
    /// All blocks; a call without input gets the empty object.
    fn done(self) -> Vec<Block> {
        self.blocks
            .into_iter()
            .map(|(_, mut block)| {
                if let Block::Call(call) = &mut block
                    && call.input.trim().is_empty()
                {
                    call.input = "{}".into();
                }
                block
            })
            .collect()
    }
}

fn answer(filling: Filling, stop: Stop, usage: model::Usage) -> Answer {
    Answer { content: filling.done(), stop, usage }
}

#[cfg(test)]
mod streams;
#[cfg(test)]
mod tests;
