//! OpenAI Responses without any state at the vendor's: nothing is stored, every request holds the whole context.
//!
//! What the model reasoned comes back encrypted and is sent again as it came, but without its id: where nothing
//! is stored, the vendor takes an id for the name of something that it has lost.

use super::{Filling, WireError, answer, input_object, kind_of_error, object};
use crate::turns::{Answer, Block, Call, Message, Started, Stop, ToolResult};
use model::Usage;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    max_output_tokens: u64,
    stream: bool,
    store: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    include: Vec<&'static str>,
    instructions: &'a str,
    input: Vec<Item<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Item<'a> {
    Said { role: &'static str, content: Cow<'a, str> },
    Reasoned(Reasoning),
    Called { r#type: &'static str, call_id: &'a str, name: &'a str, arguments: String },
    Answered { r#type: &'static str, call_id: &'a str, output: Cow<'a, str> },
}

#[derive(Serialize)]
struct Tool<'a> {
    r#type: &'static str,
    name: &'a str,
    description: &'a str,
    parameters: Box<RawValue>,
    /// Strict schemas need every property to be required; ours are not written so.
    strict: bool,
}

/// Models that do not reason; they refuse to be asked for their reasoning. Any other may be asked.
const NOT_REASONING: [&str; 3] = ["gpt-3", "gpt-4", "chatgpt-"];

/// The body of a streaming request.
pub(super) fn request(started: &Started, messages: &[Message], may_call: bool) -> Vec<u8> {
    let mut input = Vec::new();
    for message in messages {
        match message {
            Message::User(text) => input.push(Item::Said { role: "user", content: Cow::Borrowed(text) }),
            Message::Model(blocks) => input.extend(blocks.iter().filter_map(said)),
            Message::Results(results) => input.extend(results.iter().map(result)),
        }
    }
    let tools = started
        .tools
        .iter()
        .map(|tool| Tool {
            r#type: "function",
            name: &tool.name,
            description: &tool.description,
            parameters: object(&tool.schema),
            strict: false,
        })
        .collect();
    let id = &*started.model.id;
    let reasons = !NOT_REASONING.iter().any(|start| id.starts_with(start));
    let body = Request {
        model: id,
        max_output_tokens: started.model.max_output_tokens,
        stream: true,
        store: false,
        include: if reasons { vec!["reasoning.encrypted_content"] } else { Vec::new() },
        instructions: &started.system,
        input,
        tools,
        tool_choice: (!may_call && !started.tools.is_empty()).then_some("none"),
    };
    serde_json::to_vec(&body).expect("structs of texts are JSON")
}

fn said(block: &Block) -> Option<Item<'_>> {
    Some(match block {
        Block::Text { text } => Item::Said { role: "assistant", content: Cow::Borrowed(text) },
        // Written by `Reasoning::into_block`; anything else is no reasoning of this dialect.
        Block::Redacted { data } => Item::Reasoned(serde_json::from_str(data).ok()?),
        Block::Thinking { .. } => return None,
        Block::Call(call) => Item::Called {
            r#type: "function_call",
            call_id: &call.id,
            name: &call.name,
            arguments: input_object(call).get().to_owned(),
        },
    })
}

fn result(result: &ToolResult) -> Item<'_> {
    let output = match (result.ok, &*result.text) {
        (true, "") => Cow::Borrowed("(no output)"),
        (true, text) => Cow::Borrowed(text),
        // This dialect has no field for it.
        (false, text) => Cow::Owned(format!("ERROR: {text}")),
    };
    Item::Answered { r#type: "function_call_output", call_id: &result.id, output }
}

/// An item of reasoning, with the fields that go back.
#[derive(Debug, Serialize, Deserialize)]
struct Reasoning {
    #[serde(default = "reasoning")]
    r#type: Cow<'static, str>,
    #[serde(default)]
    summary: Vec<Piece>,
    /// In the clear: from models that do not hide it.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    content: Vec<Piece>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    encrypted_content: Option<String>,
}

fn reasoning() -> Cow<'static, str> {
    Cow::Borrowed("reasoning")
}

/// A typed text.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Piece {
    r#type: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    text: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    refusal: String,
}

/// `null` as absent.
fn or_default<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

impl Reasoning {
    /// Kept if it can be sent back: a summary alone is no reasoning.
    fn into_block(self) -> Option<Block> {
        if self.encrypted_content.is_none() && self.content.is_empty() {
            return None;
        }
        serde_json::to_string(&self).ok().map(|data| Block::Redacted { data })
    }
}

/// An item of the answer, of whatever type.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Output {
    r#type: String,
    #[serde(deserialize_with = "or_default")]
    content: Vec<Piece>,
    #[serde(deserialize_with = "or_default")]
    summary: Vec<Piece>,
    encrypted_content: Option<String>,
    call_id: String,
    name: String,
    #[serde(deserialize_with = "or_default")]
    arguments: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Whole {
    object: String,
    status: Option<String>,
    #[serde(deserialize_with = "or_default")]
    output: Vec<Output>,
    incomplete_details: Option<Why>,
    usage: Option<Counts>,
    error: Option<ErrorBody>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Why {
    reason: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Counts {
    input_tokens: u64,
    output_tokens: u64,
    input_tokens_details: Option<Details>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Details {
    cached_tokens: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ErrorBody {
    code: Option<String>,
    r#type: Option<String>,
    #[serde(deserialize_with = "or_default")]
    message: String,
}

impl ErrorBody {
    fn into_error(self) -> WireError {
        // An event's own type is "error" and says nothing; an error's code says more than its type.
        let kind = self.code.or(self.r#type).unwrap_or_default();
        WireError { kind: kind_of_error(0, &kind, &self.message), text: format!("{kind}: {}", self.message) }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Event {
    r#type: String,
    output_index: u64,
    item: Option<Output>,
    #[serde(deserialize_with = "or_default")]
    delta: Option<Delta>,
    response: Option<Whole>,
    error: Option<ErrorBody>,
    code: Option<String>,
    message: Option<String>,
}

/// A piece of text; what else may stand under that name in an event of tomorrow is passed over.
#[derive(Deserialize)]
#[serde(untagged)]
enum Delta {
    Text(String),
    Other(serde::de::IgnoredAny),
}

impl From<Counts> for Usage {
    fn from(counts: Counts) -> Self {
        let cached = counts.input_tokens_details.and_then(|d| d.cached_tokens).unwrap_or(0);
        Self {
            input: counts.input_tokens.saturating_sub(cached),
            output: counts.output_tokens,
            cache_read: cached,
            ..Self::default()
        }
    }
}

/// Reads one streamed answer.
#[derive(Debug, Default)]
pub struct Reader {
    filling: Filling,
    usage: Usage,
    stop: Option<Stop>,
    refused: bool,
}

impl Reader {
    pub(super) fn event(&mut self, data: &str) -> Result<String, WireError> {
        // Some servers end every stream so.
        if data.trim() == "[DONE]" {
            return Ok(String::new());
        }
        let event: Event = serde_json::from_str(data)
            .map_err(|e| WireError::garbage(format!("the model's provider sent an event that cannot be read: {e}")))?;
        let at = event.output_index;
        let text = match event.delta {
            Some(Delta::Text(text)) => text,
            _ => String::new(),
        };
        match &*event.r#type {
            "response.output_item.added" => {
                if let Some(Output { r#type, call_id, name, .. }) = event.item
                    && r#type == "function_call"
                {
                    self.filling.begin(at, Block::Call(Call { id: call_id, name, input: String::new() }));
                }
            }
            "response.output_text.delta" => return Ok(self.words(at, text)),
            "response.refusal.delta" => {
                self.refused = true;
                return Ok(self.words(at, text));
            }
            "response.function_call_arguments.delta" => {
                self.filling.grow(&text);
                if let Some(Block::Call(call)) = self.filling.find(|index, _| index == at) {
                    call.input.push_str(&text);
                }
            }
            // Not kept (the item comes whole), but counted: reasoning without end is an answer without end.
            kind if kind.starts_with("response.reasoning") => self.filling.grow(&text),
            "response.output_item.done" => {
                if let Some(item) = event.item {
                    return Ok(self.item(at, item));
                }
            }
            "response.completed" | "response.incomplete" | "response.failed" => {
                return self.over(event.response.unwrap_or_default());
            }
            "error" => {
                let flat = ErrorBody { code: event.code, r#type: None, message: event.message.unwrap_or_default() };
                return Err(event.error.unwrap_or(flat).into_error());
            }
            _ => {
                if let Some(error) = event.error {
                    return Err(error.into_error());
                }
            }
        }
        Ok(String::new())
    }

    fn words(&mut self, at: u64, words: String) -> String {
        self.filling.grow(&words);
        match self.filling.find(|index, _| index == at) {
            Some(Block::Text { text }) => text.push_str(&words),
            Some(_) => {}
            None => self.filling.begin(at, Block::Text { text: words.clone() }),
        }
        words
    }

    /// An item that is whole takes the place of what was streamed of it; gives its words if none were.
    fn item(&mut self, at: u64, item: Output) -> String {
        let block = match &*item.r#type {
            "message" => {
                self.refused |= item.content.iter().any(|piece| !piece.refusal.is_empty());
                let text = item.content.into_iter().map(|piece| piece.text + &piece.refusal).collect();
                Some(Block::Text { text })
            }
            "function_call" => Some(Block::Call(Call { id: item.call_id, name: item.name, input: item.arguments })),
            "reasoning" => {
                let Output { summary, content, encrypted_content, .. } = item;
                Reasoning { r#type: reasoning(), summary, content, encrypted_content }.into_block()
            }
            _ => None,
        };
        let Some(block) = block else { return String::new() };
        if let Some(streamed) = self.filling.find(|index, _| index == at) {
            *streamed = block;
            return String::new();
        }
        let words = if let Block::Text { text } = &block { text.clone() } else { String::new() };
        self.filling.grow(&words);
        self.filling.begin(at, block);
        words
    }

    /// The response as it is at its end.
    fn over(&mut self, whole: Whole) -> Result<String, WireError> {
        if let Some(error) = whole.error {
            return Err(error.into_error());
        }
        if let Some(counts) = whole.usage {
            self.usage = counts.into();
        }
        let mut words = String::new();
        // A server that sent no items before sends them here.
        if self.filling.blocks.is_empty() {
            for (at, item) in (0..).zip(whole.output) {
                words.push_str(&self.item(at, item));
            }
        }
        let why = whole.incomplete_details.and_then(|why| why.reason);
        self.stop = Some(match (whole.status.as_deref(), why.as_deref()) {
            (Some("failed" | "cancelled"), _) => {
                let text = "the model's provider ended the answer as failed".into();
                return Err(WireError { kind: crate::turns::FailureKind::Busy, text });
            }
            (_, Some("content_filter")) => Stop::Refused,
            (Some("incomplete"), _) => Stop::OutputLimit,
            _ if self.refused => Stop::Refused,
            _ => Stop::Ended,
        });
        Ok(words)
    }

    pub(super) fn is_whole(&self) -> bool {
        self.stop.is_some()
    }
    pub(super) fn bytes(&self) -> usize {
        self.filling.bytes
    }
    pub(super) fn end(self) -> Result<Answer, WireError> {
        match self.stop {
            Some(stop) => Ok(answer(self.filling, stop, self.usage)),
            None => Err(WireError::cut()),
        }
    }
}

pub(super) fn whole(body: &[u8]) -> Result<Answer, WireError> {
    let response: Whole = serde_json::from_slice(body)
        .map_err(|e| WireError::garbage(format!("the model's provider sent an answer that cannot be read: {e}")))?;
    if response.error.is_none() && response.object != "response" {
        return Err(WireError::garbage("the model's provider sent something that is no response"));
    }
    let mut reader = Reader::default();
    reader.over(response)?;
    reader.end()
}
