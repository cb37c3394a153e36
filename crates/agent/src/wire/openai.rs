//! OpenAI Chat Completions, as OpenAI and the servers compatible with it speak it.

use super::{Filling, WireError, answer, input_object, kind_of_error, object};
use crate::turns::{Answer, Block, Call, Message, Started, Stop, ToolResult};
use model::Usage;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    max_completion_tokens: u64,
    stream: bool,
    stream_options: StreamOptions,
    messages: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<&'static str>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
#[serde(tag = "role", rename_all = "lowercase")]
enum Turn<'a> {
    System {
        content: &'a str,
    },
    User {
        content: &'a str,
    },
    Assistant {
        content: Option<String>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        tool_calls: Vec<Asked<'a>>,
    },
    Tool {
        tool_call_id: &'a str,
        content: Cow<'a, str>,
    },
}

#[derive(Serialize)]
struct Asked<'a> {
    id: &'a str,
    r#type: &'static str,
    function: Function<'a>,
}

#[derive(Serialize)]
struct Function<'a> {
    name: &'a str,
    arguments: String,
}

#[derive(Serialize)]
struct Tool<'a> {
    r#type: &'static str,
    function: Described<'a>,
}

#[derive(Serialize)]
struct Described<'a> {
    name: &'a str,
    description: &'a str,
    parameters: Box<RawValue>,
}

/// The body of a streaming request.
pub(super) fn request(started: &Started, messages: &[Message], may_call: bool) -> Vec<u8> {
    let mut turns = vec![Turn::System { content: &started.system }];
    for message in messages {
        match message {
            Message::User(content) => turns.push(Turn::User { content }),
            Message::Model(blocks) => turns.push(said(blocks)),
            Message::Results(results) => turns.extend(results.iter().map(result)),
        }
    }
    let tools = started
        .tools
        .iter()
        .map(|tool| Tool {
            r#type: "function",
            function: Described { name: &tool.name, description: &tool.description, parameters: object(&tool.schema) },
        })
        .collect();
    let body = Request {
        model: &started.model.id,
        max_completion_tokens: started.model.max_output_tokens,
        stream: true,
        stream_options: StreamOptions { include_usage: true },
        messages: turns,
        tools,
        tool_choice: (!may_call && !started.tools.is_empty()).then_some("none"),
    };
    serde_json::to_vec(&body).expect("structs of texts are JSON")
}

fn said(blocks: &[Block]) -> Turn<'_> {
    let (mut words, mut tool_calls) = (String::new(), Vec::new());
    for block in blocks {
        match block {
            Block::Text { text } => words.push_str(text),
            Block::Thinking { .. } | Block::Redacted { .. } => {}
            Block::Call(call) => tool_calls.push(Asked {
                id: &call.id,
                r#type: "function",
                function: Function { name: &call.name, arguments: input_object(call).get().to_owned() },
            }),
        }
    }
    Turn::Assistant { content: (!words.is_empty()).then_some(words), tool_calls }
}

fn result(result: &ToolResult) -> Turn<'_> {
    let content = match (result.ok, &*result.text) {
        (true, "") => Cow::Borrowed("(no output)"),
        (true, text) => Cow::Borrowed(text),
        // This dialect has no field for it.
        (false, text) => Cow::Owned(format!("ERROR: {text}")),
    };
    Turn::Tool { tool_call_id: &result.id, content }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Chunk {
    choices: Vec<Choice>,
    usage: Option<Counts>,
    error: Option<ErrorBody>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Choice {
    delta: Option<Delta>,
    message: Option<Delta>,
    finish_reason: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Delta {
    content: Option<String>,
    refusal: Option<String>,
    tool_calls: Option<Vec<CallPart>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CallPart {
    index: Option<u64>,
    id: Option<String>,
    function: Option<FunctionPart>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct FunctionPart {
    name: Option<String>,
    /// A text by the format; an object from some compatible servers.
    arguments: Option<Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Counts {
    prompt_tokens: u64,
    completion_tokens: u64,
    prompt_tokens_details: Option<PromptDetails>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PromptDetails {
    cached_tokens: Option<u64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ErrorBody {
    Full {
        #[serde(default)]
        message: String,
        #[serde(default)]
        r#type: Option<String>,
        #[serde(default)]
        code: Option<Value>,
    },
    Other(Value),
}

impl ErrorBody {
    fn into_error(self) -> WireError {
        let (message, kind, code) = match self {
            Self::Full { message, r#type, code } => (message, r#type.unwrap_or_default(), code),
            Self::Other(value) => (value.to_string(), String::new(), None),
        };
        let (word, status) = match code {
            Some(Value::String(word)) => (word, 0),
            Some(Value::Number(n)) => (String::new(), n.as_u64().and_then(|n| u16::try_from(n).ok()).unwrap_or(0)),
            _ => (String::new(), 0),
        };
        let known = if word == "context_length_exceeded" || kind.is_empty() { &word } else { &kind };
        WireError { kind: kind_of_error(status, known, &message), text: format!("{known}: {message}") }
    }
}

impl From<Counts> for Usage {
    fn from(counts: Counts) -> Self {
        let cached = counts.prompt_tokens_details.and_then(|d| d.cached_tokens).unwrap_or(0);
        Self {
            input: counts.prompt_tokens.saturating_sub(cached),
            output: counts.completion_tokens,
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
    whole: bool,
}

impl Reader {
    pub(super) fn event(&mut self, data: &str) -> Result<String, WireError> {
        if data.trim() == "[DONE]" {
            self.whole = true;
            return Ok(String::new());
        }
        let chunk: Chunk = serde_json::from_str(data)
            .map_err(|e| WireError::garbage(format!("the model's provider sent a chunk that cannot be read: {e}")))?;
        self.take(chunk)
    }

    fn take(&mut self, chunk: Chunk) -> Result<String, WireError> {
        if let Some(error) = chunk.error {
            return Err(error.into_error());
        }
        if let Some(counts) = chunk.usage {
            self.usage = counts.into();
        }
        // One choice is asked for; a second would be another answer.
        let Some(choice) = chunk.choices.into_iter().next() else { return Ok(String::new()) };
        let delta = choice.delta.or(choice.message).unwrap_or_default();
        if delta.refusal.as_ref().is_some_and(|words| !words.is_empty()) {
            self.stop = Some(Stop::Refused);
        }
        let words = delta.content.unwrap_or_default() + &delta.refusal.unwrap_or_default();
        self.words(&words);
        for (place, part) in (0..).zip(delta.tool_calls.unwrap_or_default()) {
            self.call(place, part);
        }
        match choice.finish_reason.as_deref() {
            None | Some("") => {}
            Some("length") => self.stop = Some(Stop::OutputLimit),
            Some("content_filter") => self.stop = Some(Stop::Refused),
            Some(_) => self.stop = self.stop.or(Some(Stop::Ended)),
        }
        Ok(words)
    }

    fn words(&mut self, words: &str) {
        if words.is_empty() {
            return;
        }
        self.filling.grow(words);
        match self.filling.blocks.last_mut() {
            Some((_, Block::Text { text })) => text.push_str(words),
            _ => self.filling.begin(0, Block::Text { text: words.to_owned() }),
        }
    }

    fn call(&mut self, place: u64, part: CallPart) {
        let index = part.index.unwrap_or(place);
        let function = part.function.unwrap_or_default();
        let arguments = match function.arguments {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text,
            Some(other) => other.to_string(),
        };
        self.filling.grow(&arguments);
        let id = part.id.unwrap_or_default();
        let open = self.filling.find(|at, block| {
            matches!(block, Block::Call(call) if at == index && (id.is_empty() || call.id.is_empty() || call.id == id))
        });
        if let Some(Block::Call(call)) = open {
            if call.id.is_empty() {
                call.id = id;
            }
            if call.name.is_empty() {
                call.name = function.name.unwrap_or_default();
            }
            call.input.push_str(&arguments);
        } else {
            let call = Call { id, name: function.name.unwrap_or_default(), input: arguments };
            self.filling.begin(index, Block::Call(call));
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.whole
    }
    pub(super) fn bytes(&self) -> usize {
        self.filling.bytes
    }
    pub(super) fn end(self) -> Result<Answer, WireError> {
        // Some servers leave `[DONE]` away, some the finish reason; either says that the answer is whole.
        match self.stop.or(self.whole.then_some(Stop::Ended)) {
            Some(stop) => Ok(answer(self.filling, stop, self.usage)),
            None => Err(WireError::cut()),
        }
    }
}

pub(super) fn whole(body: &[u8]) -> Result<Answer, WireError> {
    let chunk: Chunk = serde_json::from_slice(body)
        .map_err(|e| WireError::garbage(format!("the model's provider sent an answer that cannot be read: {e}")))?;
    if chunk.error.is_none() && chunk.choices.is_empty() {
        return Err(WireError::garbage("the model's provider sent something that is no completion"));
    }
    let mut reader = Reader::default();
    reader.take(chunk)?;
    reader.stop = reader.stop.or(Some(Stop::Ended));
    reader.end()
}
