//! Anthropic Messages, version 2023-06-01.

use super::{Filling, WireError, answer, input_object, kind_of_error, object};
use crate::turns::{Answer, Block, Call, Message, Started, Stop};
use model::Usage;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Value of the `anthropic-version` header.
pub const VERSION: &str = "2023-06-01";

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    max_tokens: u64,
    stream: bool,
    system: [Text<'a>; 1],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<Typed>,
    messages: Vec<Turn<'a>>,
}

#[derive(Serialize)]
struct Typed {
    r#type: &'static str,
}

/// Marks the end of what the provider may keep in its prompt cache.
const CACHED: Option<Typed> = Some(Typed { r#type: "ephemeral" });

#[derive(Serialize)]
struct Text<'a> {
    r#type: &'static str,
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<Typed>,
}

#[derive(Serialize)]
struct Tool<'a> {
    name: &'a str,
    description: &'a str,
    input_schema: Box<RawValue>,
}

#[derive(Serialize)]
struct Turn<'a> {
    role: &'static str,
    content: Vec<Content<'a>>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Content<'a> {
    Text {
        text: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<Typed>,
    },
    Thinking {
        thinking: &'a str,
        signature: &'a str,
    },
    RedactedThinking {
        data: &'a str,
    },
    ToolUse {
        id: &'a str,
        name: &'a str,
        input: Box<RawValue>,
    },
    ToolResult {
        tool_use_id: &'a str,
        content: &'a str,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        is_error: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<Typed>,
    },
}

/// The body of a streaming request.
pub(super) fn request(started: &Started, messages: &[Message], may_call: bool) -> Vec<u8> {
    let mut turns: Vec<Turn<'_>> = Vec::new();
    for message in messages {
        let (role, content) = match message {
            Message::User(text) => ("user", vec![Content::Text { text, cache_control: None }]),
            Message::Model(blocks) => ("assistant", blocks.iter().map(said).collect()),
            Message::Results(results) => ("user", results.iter().map(result).collect()),
        };
        match turns.last_mut() {
            Some(last) if last.role == role => last.content.extend(content),
            _ => turns.push(Turn { role, content }),
        }
    }
    if let Some(Content::Text { cache_control, .. } | Content::ToolResult { cache_control, .. }) =
        turns.last_mut().and_then(|turn| turn.content.last_mut())
    {
        *cache_control = CACHED;
    }
    let tools = started
        .tools
        .iter()
        .map(|tool| Tool { name: &tool.name, description: &tool.description, input_schema: object(&tool.schema) })
        .collect();
    let body = Request {
        model: &started.model.id,
        max_tokens: started.model.max_output_tokens,
        stream: true,
        system: [Text { r#type: "text", text: &started.system, cache_control: CACHED }],
        tools,
        tool_choice: (!may_call && !started.tools.is_empty()).then_some(Typed { r#type: "none" }),
        messages: turns,
    };
    serde_json::to_vec(&body).expect("structs of texts are JSON")
}

fn said(block: &Block) -> Content<'_> {
    match block {
        Block::Text { text } => Content::Text { text, cache_control: None },
        Block::Thinking { thinking, signature } => Content::Thinking { thinking, signature },
        Block::Redacted { data } => Content::RedactedThinking { data },
        Block::Call(call) => Content::ToolUse { id: &call.id, name: &call.name, input: input_object(call) },
    }
}

fn result(result: &crate::turns::ToolResult) -> Content<'_> {
    let content = if result.text.is_empty() { "(no output)" } else { &result.text };
    Content::ToolResult { tool_use_id: &result.id, content, is_error: !result.ok, cache_control: None }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Event {
    r#type: String,
    index: u64,
    message: Option<Whole>,
    content_block: Option<Part>,
    delta: Option<Delta>,
    usage: Option<Counts>,
    error: Option<ErrorBody>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Whole {
    content: Vec<Part>,
    stop_reason: Option<String>,
    usage: Option<Counts>,
    r#type: String,
    error: Option<ErrorBody>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Part {
    r#type: String,
    text: String,
    thinking: String,
    signature: String,
    data: String,
    id: String,
    name: String,
    input: Option<Box<RawValue>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Delta {
    r#type: String,
    text: String,
    partial_json: String,
    thinking: String,
    signature: String,
    stop_reason: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Counts {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    cache_creation: Option<Creation>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Creation {
    ephemeral_1h_input_tokens: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ErrorBody {
    r#type: String,
    message: String,
}

impl ErrorBody {
    fn into_error(self) -> WireError {
        let kind = kind_of_error(0, &self.r#type, &self.message);
        WireError { kind, text: format!("{}: {}", self.r#type, self.message) }
    }
}

impl Counts {
    /// Puts the counts that are there in the place of earlier ones: they are cumulative.
    fn into(self, usage: &mut Usage) {
        let set = |to: &mut u64, from: Option<u64>| *to = from.unwrap_or(*to);
        set(&mut usage.input, self.input_tokens);
        set(&mut usage.output, self.output_tokens);
        set(&mut usage.cache_write, self.cache_creation_input_tokens);
        set(&mut usage.cache_read, self.cache_read_input_tokens);
        set(&mut usage.cache_write_1h, self.cache_creation.and_then(|c| c.ephemeral_1h_input_tokens));
    }
}

impl Part {
    fn into_block(self) -> Option<Block> {
        Some(match &*self.r#type {
            "text" => Block::Text { text: self.text },
            "thinking" => Block::Thinking { thinking: self.thinking, signature: self.signature },
            "redacted_thinking" => Block::Redacted { data: self.data },
            "tool_use" => {
                // The stream begins a call with `{}` and sends the input after it.
                let input = self.input.map_or_else(String::new, |raw| raw.get().to_owned());
                let input = if input.trim() == "{}" { String::new() } else { input };
                Block::Call(Call { id: self.id, name: self.name, input })
            }
            _ => return None,
        })
    }
}

fn stop_of(word: &str) -> Stop {
    match word {
        "max_tokens" | "model_context_window_exceeded" => Stop::OutputLimit,
        "refusal" => Stop::Refused,
        _ => Stop::Ended,
    }
}

/// Reads one streamed answer.
#[derive(Debug, Default)]
pub struct Reader {
    filling: Filling,
    usage: Usage,
    stop: Option<Stop>,
    whole: bool,
}

impl Reader {
    pub(super) fn event(&mut self, data: &str) -> Result<String, WireError> {
        let event: Event = serde_json::from_str(data)
            .map_err(|e| WireError::garbage(format!("the model's provider sent an event that cannot be read: {e}")))?;
        if let Some(error) = event.error {
            return Err(error.into_error());
        }
        match &*event.r#type {
            "message_start" => {
                if let Some(counts) = event.message.and_then(|m| m.usage) {
                    counts.into(&mut self.usage);
                }
            }
            "content_block_start" => {
                if let Some(block) = event.content_block.and_then(Part::into_block) {
                    let words = if let Block::Text { text } = &block { text.clone() } else { String::new() };
                    self.filling.begin(event.index, block);
                    self.filling.grow(&words);
                    return Ok(words);
                }
            }
            "content_block_delta" => return Ok(self.delta(event.index, event.delta.unwrap_or_default())),
            "message_delta" => {
                if let Some(counts) = event.usage {
                    counts.into(&mut self.usage);
                }
                if let Some(word) = event.delta.and_then(|d| d.stop_reason) {
                    self.stop = Some(stop_of(&word));
                }
            }
            "message_stop" => self.whole = true,
            _ => {}
        }
        Ok(String::new())
    }

    fn delta(&mut self, at: u64, delta: Delta) -> String {
        self.filling.grow(&delta.text);
        self.filling.grow(&delta.partial_json);
        self.filling.grow(&delta.thinking);
        match (self.filling.find(|index, _| index == at), &*delta.r#type) {
            (Some(Block::Text { text }), "text_delta") => {
                text.push_str(&delta.text);
                return delta.text;
            }
            (Some(Block::Call(call)), "input_json_delta") => call.input.push_str(&delta.partial_json),
            (Some(Block::Thinking { thinking, .. }), "thinking_delta") => thinking.push_str(&delta.thinking),
            (Some(Block::Thinking { signature, .. }), "signature_delta") => signature.push_str(&delta.signature),
            _ => {}
        }
        String::new()
    }

    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }
    pub(super) fn bytes(&self) -> usize {
        self.filling.bytes
    }
    pub(super) fn end(self) -> Result<Answer, WireError> {
        if !self.whole {
            return Err(WireError::cut());
        }
        Ok(answer(self.filling, self.stop.unwrap_or(Stop::Ended), self.usage))
    }
}

pub(super) fn whole(body: &[u8]) -> Result<Answer, WireError> {
    let message: Whole = serde_json::from_slice(body)
        .map_err(|e| WireError::garbage(format!("the model's provider sent an answer that cannot be read: {e}")))?;
    if let Some(error) = message.error {
        return Err(error.into_error());
    }
    if message.r#type != "message" {
        return Err(WireError::garbage("the model's provider sent something that is no message"));
    }
    let mut usage = Usage::default();
    if let Some(counts) = message.usage {
        counts.into(&mut usage);
    }
    let mut filling = Filling::default();
    for (index, block) in message.content.into_iter().filter_map(Part::into_block).enumerate() {
        filling.begin(index as u64, block);
    }
    Ok(answer(filling, stop_of(message.stop_reason.as_deref().unwrap_or_default()), usage))
}
