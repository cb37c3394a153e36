//! Gemini's generateContent, v1beta. The model stands in the path.
//!
//! What the model thought comes back as a signature on the part that it led to, and must be sent again on that
//! very part. It is kept as a hidden block before the part's own, and says which kind it belongs to: the machine
//! leaves out texts that say nothing, and a signature must not move to another part.
//!
//! A stream has no last word of its own. Its end is the last event's finish reason and then the connection's end.

use super::{Filling, WireError, answer, input_object, kind_of_error, object};
use crate::turns::{Answer, Block, Call, FailureKind, Message, Started, Stop, ToolResult};
use model::Usage;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashMap;

/// Ids that the machine made up begin so; the vendor gave none, and gets none back.
const OWN_ID: &str = "call-";
/// The name under which a call stands that the vendor could not read itself. There is no such tool, so it is
/// answered with an error.
const UNREAD: &str = "malformed_call";

/// The path of a streaming request, with its query.
pub(super) fn path(id: &str) -> String {
    format!("/v1beta/models/{id}:streamGenerateContent?alt=sse")
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<'a> {
    system_instruction: System<'a>,
    contents: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<[Tools<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<ToolConfig>,
    generation_config: Generation,
}

#[derive(Serialize)]
struct System<'a> {
    parts: [Part<'a>; 1],
}

#[derive(Serialize)]
struct Turn<'a> {
    role: &'static str,
    parts: Vec<Part<'a>>,
}

#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
struct Part<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_call: Option<Called<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_response: Option<Responded<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thought_signature: Option<String>,
}

#[derive(Serialize)]
struct Called<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    name: &'a str,
    args: Box<RawValue>,
}

#[derive(Serialize)]
struct Responded<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    name: &'a str,
    response: Response<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum Response<'a> {
    Output(&'a str),
    Error(&'a str),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Tools<'a> {
    function_declarations: Vec<Function<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Function<'a> {
    name: &'a str,
    description: &'a str,
    parameters_json_schema: Box<RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolConfig {
    function_calling_config: Calling,
}

#[derive(Serialize)]
struct Calling {
    mode: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Generation {
    max_output_tokens: u64,
}

fn text<'a>(text: impl Into<Cow<'a, str>>) -> Part<'a> {
    Part { text: Some(text.into()), ..Part::default() }
}

fn given(id: &str) -> Option<&str> {
    (!id.is_empty() && !id.starts_with(OWN_ID)).then_some(id)
}

/// The body of a streaming request.
pub(super) fn request(started: &Started, messages: &[Message], may_call: bool) -> Vec<u8> {
    let mut contents: Vec<Turn<'_>> = Vec::new();
    // Results are answered by the name of their call.
    let mut names: HashMap<&str, &str> = HashMap::new();
    for message in messages {
        let (role, parts) = match message {
            Message::User(words) => ("user", vec![text(words)]),
            Message::Model(blocks) => {
                let calls = blocks.iter().filter_map(|b| if let Block::Call(call) = b { Some(call) } else { None });
                names.extend(calls.map(|call| (&*call.id, &*call.name)));
                ("model", said(blocks))
            }
            Message::Results(results) => {
                ("user", results.iter().map(|r| result(r, names.get(&*r.id).copied().unwrap_or(UNREAD))).collect())
            }
        };
        match contents.last_mut() {
            _ if parts.is_empty() => {}
            Some(last) if last.role == role => last.parts.extend(parts),
            _ => contents.push(Turn { role, parts }),
        }
    }
    let functions = started.tools.iter().map(|tool| Function {
        name: &tool.name,
        description: &tool.description,
        parameters_json_schema: object(&tool.schema),
    });
    let any = !started.tools.is_empty();
    let body = Request {
        system_instruction: System { parts: [text(&started.system)] },
        contents,
        tools: any.then(|| [Tools { function_declarations: functions.collect() }]),
        tool_config: (any && !may_call).then_some(ToolConfig { function_calling_config: Calling { mode: "NONE" } }),
        generation_config: Generation { max_output_tokens: started.model.max_output_tokens },
    };
    serde_json::to_vec(&body).expect("structs of texts are JSON")
}

/// What a signature belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Of {
    Text,
    Call,
}

/// A part's signature, as it is kept in a hidden block.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Signed {
    thought_signature: String,
    of: Of,
}

impl Signed {
    fn into_block(self) -> Option<Block> {
        serde_json::to_string(&self).ok().map(|data| Block::Redacted { data })
    }
}

fn said(blocks: &[Block]) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut waiting: Option<Signed> = None;
    // A signature whose part is gone goes back on an empty text, as the vendor sends such ones itself.
    let alone = |signed: Signed| Part { thought_signature: Some(signed.thought_signature), ..text("") };
    for block in blocks {
        let (of, part) = match block {
            // Written by `Signed::into_block`; anything else is no signature of this dialect.
            Block::Redacted { data } => {
                if let Ok(signed) = serde_json::from_str(data) {
                    parts.extend(waiting.replace(signed).map(alone));
                }
                continue;
            }
            Block::Thinking { .. } => continue,
            Block::Text { text: words } => (Of::Text, text(words)),
            Block::Call(call) if call.name == UNREAD => {
                (Of::Text, text(format!("[A call of a tool that could not be read] {}", call.input)))
            }
            Block::Call(call) => {
                let call = Called { id: given(&call.id), name: &call.name, args: input_object(call) };
                (Of::Call, Part { function_call: Some(call), ..Part::default() })
            }
        };
        let signature = match waiting.take() {
            Some(signed) if signed.of == of => Some(signed.thought_signature),
            other => {
                parts.extend(other.map(alone));
                None
            }
        };
        parts.push(Part { thought_signature: signature, ..part });
    }
    parts.extend(waiting.map(alone));
    parts
}

fn result<'a>(result: &'a ToolResult, name: &'a str) -> Part<'a> {
    if name == UNREAD {
        return text(format!("[Your call could not be read, and was not run] {}", result.text));
    }
    let response = match (result.ok, &*result.text) {
        (true, "") => Response::Output("(no output)"),
        (true, text) => Response::Output(text),
        (false, text) => Response::Error(text),
    };
    Part { function_response: Some(Responded { id: given(&result.id), name, response }), ..Part::default() }
}

/// A whole answer, or an event of a stream: they have one shape.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Chunk {
    candidates: Option<Vec<Candidate>>,
    prompt_feedback: Option<Feedback>,
    usage_metadata: Option<Counts>,
    error: Option<ErrorBody>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Candidate {
    content: Option<Content>,
    finish_reason: Option<String>,
    finish_message: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Content {
    parts: Option<Vec<Piece>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Piece {
    text: Option<String>,
    thought: Option<bool>,
    thought_signature: Option<String>,
    function_call: Option<FunctionCall>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct FunctionCall {
    id: Option<String>,
    name: Option<String>,
    args: Option<Box<RawValue>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Feedback {
    block_reason: Option<String>,
    block_reason_message: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Counts {
    prompt_token_count: Option<u64>,
    candidates_token_count: Option<u64>,
    thoughts_token_count: Option<u64>,
    cached_content_token_count: Option<u64>,
    tool_use_prompt_token_count: Option<u64>,
}

impl From<Counts> for Usage {
    fn from(counts: Counts) -> Self {
        let [prompt, said, thought, cached, tools] = [
            counts.prompt_token_count,
            counts.candidates_token_count,
            counts.thoughts_token_count,
            counts.cached_content_token_count,
            counts.tool_use_prompt_token_count,
        ]
        .map(Option::unwrap_or_default);
        Self {
            input: prompt.saturating_add(tools).saturating_sub(cached),
            output: said.saturating_add(thought),
            cache_read: cached,
            ..Self::default()
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ErrorBody {
    code: Option<u16>,
    message: Option<String>,
    status: Option<String>,
    /// Of an error of the gateway's own.
    r#type: Option<String>,
}

impl ErrorBody {
    fn into_error(self) -> WireError {
        let (kind, message) = (self.status.or(self.r#type).unwrap_or_default(), self.message.unwrap_or_default());
        WireError { kind: kind_of_error(self.code.unwrap_or(0), &kind, &message), text: format!("{kind}: {message}") }
    }
}

/// Reads one streamed answer.
#[derive(Debug, Default)]
pub struct Reader {
    filling: Filling,
    usage: Usage,
    stop: Option<Stop>,
    /// The last block is a text that the next piece goes on with: one without a signature of its own.
    open: bool,
}

impl Reader {
    pub(super) fn event(&mut self, data: &str) -> Result<String, WireError> {
        let chunk: Chunk = serde_json::from_str(data)
            .map_err(|e| WireError::garbage(format!("the model's provider sent an event that cannot be read: {e}")))?;
        self.take(chunk)
    }

    fn take(&mut self, chunk: Chunk) -> Result<String, WireError> {
        if let Some(error) = chunk.error {
            return Err(error.into_error());
        }
        if let Some(counts) = chunk.usage_metadata {
            self.usage = counts.into();
        }
        let mut words = String::new();
        if let Some(Feedback { block_reason: Some(why), block_reason_message }) = chunk.prompt_feedback {
            words.push_str(&self.refused("refused the request", &why, block_reason_message));
        }
        // One candidate is asked for; a second would be another answer.
        let candidate = chunk.candidates.unwrap_or_default().into_iter().next().unwrap_or_default();
        for piece in candidate.content.unwrap_or_default().parts.unwrap_or_default() {
            words.push_str(&self.piece(piece));
        }
        match candidate.finish_reason.as_deref() {
            None | Some("") => {}
            Some("STOP") => self.stop = self.stop.or(Some(Stop::Ended)),
            Some("MAX_TOKENS") => self.stop = Some(Stop::OutputLimit),
            Some("MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL") => {
                let input = candidate.finish_message.unwrap_or_default();
                self.call(Call { id: String::new(), name: UNREAD.to_owned(), input }, None);
                self.stop = Some(Stop::Ended);
            }
            Some(why @ ("OTHER" | "MALFORMED_RESPONSE" | "FINISH_REASON_UNSPECIFIED")) => {
                let text = format!("the model's provider ended the answer as failed: {why}");
                return Err(WireError { kind: FailureKind::Garbage, text });
            }
            Some(why) => words.push_str(&self.refused("stopped the answer", why, candidate.finish_message)),
        }
        Ok(words)
    }

    /// The provider will not go on; the reason is said, since nothing else would say it.
    fn refused(&mut self, what: &str, why: &str, message: Option<String>) -> String {
        self.stop = Some(Stop::Refused);
        let message = message.map_or_else(String::new, |message| format!(": {message}"));
        self.words(format!("[The model's provider {what} ({why}){message}]"), None)
    }

    fn piece(&mut self, piece: Piece) -> String {
        let signature = piece.thought_signature.filter(|signature| !signature.is_empty());
        if let Some(FunctionCall { id, name, args }) = piece.function_call {
            let input = args.map_or_else(String::new, |raw| raw.get().to_owned());
            self.call(Call { id: id.unwrap_or_default(), name: name.unwrap_or_default(), input }, signature);
            return String::new();
        }
        let text = piece.text.unwrap_or_default();
        if piece.thought == Some(true) {
            // A summary for people, which is not asked for; counted, since thought without end is an answer without end.
            self.filling.grow(&text);
            return self.words(String::new(), signature);
        }
        self.words(text, signature)
    }

    fn sign(&mut self, signature: Option<String>, of: Of) {
        let signed = signature.map(|thought_signature| Signed { thought_signature, of });
        if let Some(block) = signed.and_then(Signed::into_block) {
            self.filling.begin(0, block);
            self.open = false;
        }
    }

    fn words(&mut self, words: String, signature: Option<String>) -> String {
        let signed = signature.is_some();
        self.sign(signature, Of::Text);
        if words.is_empty() {
            return words;
        }
        self.filling.grow(&words);
        match self.filling.blocks.last_mut() {
            Some((_, Block::Text { text })) if self.open => text.push_str(&words),
            _ => self.filling.begin(0, Block::Text { text: words.clone() }),
        }
        self.open = !signed;
        words
    }

    fn call(&mut self, call: Call, signature: Option<String>) {
        self.sign(signature, Of::Call);
        self.filling.grow(&call.input);
        self.filling.begin(0, Block::Call(call));
        self.open = false;
    }

    /// Never before the stream's end: some models give every event a finish reason.
    pub(super) fn is_whole(&self) -> bool {
        false
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
    let chunk: Chunk = serde_json::from_slice(body)
        .map_err(|e| WireError::garbage(format!("the model's provider sent an answer that cannot be read: {e}")))?;
    if chunk.error.is_none() && chunk.candidates.is_none() && chunk.prompt_feedback.is_none() {
        return Err(WireError::garbage("the model's provider sent something that is no answer"));
    }
    let mut reader = Reader::default();
    reader.take(chunk)?;
    reader.stop = reader.stop.or(Some(Stop::Ended));
    reader.end()
}
