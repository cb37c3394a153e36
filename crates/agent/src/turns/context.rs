//! What the model sees: the working context, and how it is kept short.
//!
//! Compaction rewrites this only; the record keeps everything. Results are left out oldest first; when that
//! is not enough, the model is asked for a summary, which takes the place of everything but the task.

use super::{Block, Started, ToolResult};

/// A message of the working context. Neighbours of the same side are joined where a dialect wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Words to the model.
    User(String),
    /// An answer of the model.
    Model(Vec<Block>),
    /// The results of all calls of the answer before it, in the calls' order.
    Results(Results),
}

/// Results of one answer's calls.
pub type Results = Vec<ToolResult>;

/// A result shorter than this, in bytes, is not worth leaving out.
const WORTH_LEAVING_OUT: usize = 400;
/// What a message costs beside its text, in bytes.
const ENVELOPE: usize = 24;

/// The context's size in tokens, estimated from its bytes and from what the provider last reported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Gauge {
    tokens: u64,
    bytes: u64,
}

impl Gauge {
    /// The provider counted `tokens` for a context of `bytes`.
    pub(super) fn read(&mut self, tokens: u64, bytes: u64) {
        if tokens > 0 && bytes > 0 {
            *self = Self { tokens, bytes };
        }
    }
    /// Tokens of a context of `bytes`: between an eighth of a token a byte and one; a third until the
    /// provider has reported.
    pub(super) fn tokens(self, bytes: u64) -> u64 {
        if self.bytes == 0 {
            return bytes / 3;
        }
        let scaled = u128::from(bytes) * u128::from(self.tokens) / u128::from(self.bytes);
        u64::try_from(scaled).unwrap_or(u64::MAX).clamp(bytes / 8, bytes)
    }
}

/// Bytes of everything that a request carries.
pub(super) fn bytes(started: &Started, messages: &[Message]) -> u64 {
    let tools: usize = started.tools.iter().map(|t| t.name.len() + t.description.len() + t.schema.len()).sum();
    let all: usize = messages.iter().map(message_bytes).sum();
    (started.system.len() + tools + all) as u64
}

fn message_bytes(message: &Message) -> usize {
    match message {
        Message::User(text) => ENVELOPE + text.len(),
        Message::Model(blocks) => blocks.iter().map(|b| ENVELOPE + block_bytes(b)).sum(),
        Message::Results(results) => results.iter().map(|r| ENVELOPE + r.id.len() + r.text.len()).sum(),
    }
}

fn block_bytes(block: &Block) -> usize {
    match block {
        Block::Text { text } => text.len(),
        Block::Thinking { thinking, signature } => thinking.len() + signature.len(),
        Block::Redacted { data } => data.len(),
        Block::Call(call) => call.id.len() + call.name.len() + call.input.len(),
    }
}

/// Tokens from which on the context is compacted: three quarters of the window, less where the window must
/// hold a long answer too, never less than a quarter.
pub(super) fn full_at(started: &Started) -> u64 {
    let window = started.model.context_tokens;
    (window / 4 * 3).min(window.saturating_sub(started.model.max_output_tokens)).max(window / 4)
}

/// Ids of the oldest results which, left out, bring the context of `bytes` below `goal_bytes`; those of the
/// last message, which the model has not read yet, only `with_last`.
pub(super) fn oldest_results(messages: &[Message], bytes: u64, goal_bytes: u64, with_last: bool) -> Vec<String> {
    let (mut ids, mut left) = (Vec::new(), bytes);
    let until = if with_last { messages.len() } else { messages.len().saturating_sub(1) };
    for message in &messages[..until] {
        let Message::Results(results) = message else { continue };
        for result in results.iter().filter(|r| r.text.len() > WORTH_LEAVING_OUT) {
            if left <= goal_bytes {
                return ids;
            }
            left = left.saturating_sub((result.text.len() - left_out_note(result.text.len()).len()) as u64);
            ids.push(result.id.clone());
        }
    }
    ids
}

/// Puts a note in the place of the results of `ids`.
pub(super) fn leave_out(messages: &mut [Message], ids: &[String]) {
    for message in messages {
        let Message::Results(results) = message else { continue };
        for result in results.iter_mut().filter(|r| ids.contains(&r.id) && r.text.len() > WORTH_LEAVING_OUT) {
            result.text = left_out_note(result.text.len());
        }
    }
}

fn left_out_note(bytes: usize) -> String {
    format!("[This result of {bytes} bytes was left out to save room. Use the tool again if you need it.]")
}

/// Shortens the results of one answer so that together they fill at most a quarter of the window.
pub(super) fn fit(results: &mut [ToolResult], window_tokens: u64) {
    let budget = usize::try_from(window_tokens / 4 * 3).unwrap_or(usize::MAX);
    let each = (budget / results.len().max(1)).max(2048);
    for result in results {
        let (text, cut) = crate::tools::cut::middle(&result.text, each);
        if cut {
            (result.text, result.cut) = (text, true);
        }
    }
}
