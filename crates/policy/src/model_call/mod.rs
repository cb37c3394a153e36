//! What a model call may carry. A model vendor is a computer on the internet that takes orders: asked
//! so, it fetches addresses, runs code, keeps what it was sent and calls other servers, past every
//! other wall of ours. [`judge`] lets through only calls that do none of that.
//!
//! Everything is an allow list: paths, top-level fields, types of tools and of content, and the fields
//! of each. A field that the vendor adds tomorrow is refused by its name until someone has read what it
//! does. What the model or the agent merely *says* (text, tool inputs, schemas) is not judged.
//! A field that is `null` is as absent: the vendors say so.
//!
//! The body goes on unchanged, so the judge must read it as the vendor will: a key that stands twice,
//! where one reader takes the first and the other the last, is refused.
//!
//! What is not judged here: that the model named is the run's model (the server knows it; a model's name alone can
//! turn on a search at some vendors), and headers (the gateway sends only its own list) but for those of
//! [`BETA_HEADERS`].
//!
//! Read [`judge`], then [`betas`], `anthropic`, `openai` and [`gemini`] (the lists), then `object` and `json` (how they
//! are applied).

mod anthropic;
mod beta;
pub mod gemini;
mod json;
mod object;
mod openai;
#[cfg(test)]
mod tests;

pub use crate::Refusal;
pub use beta::{BETA_HEADERS, betas};
pub use json::is_bounded;
use model::Dialect;
use object::{Fields, Path};
use serde_json::{Map, Value};

/// What a call that was let through asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The model that the body names, or Gemini's path; 1 to 256 bytes.
    pub model: String,
    /// The most tokens it may write; 0 when the body sets no ceiling, and always when only tokens are counted.
    pub max_output_tokens: u64,
    /// Whether the answer comes as a stream.
    pub stream: bool,
    /// Whether it asks the vendor to keep the prompt's cache for longer than five minutes, which costs more.
    pub long_cache: bool,
}

/// One inference path and how its body is judged.
struct Road {
    path: &'static str,
    judge: fn(&Map<String, Value>) -> Result<(), Refusal>,
    /// Fields that set a ceiling of what is written; the highest counts.
    ceilings: &'static [&'static str],
}

/// The path that only counts tokens.
const COUNTING: &str = "/v1/messages/count_tokens";

/// Whether a call of this path only counts tokens: it writes none, and the vendor takes no money for it.
#[must_use]
pub fn only_counts(path: &str) -> bool {
    path == COUNTING || gemini::only_counts(path)
}

const ANTHROPIC: [Road; 2] = [
    Road { path: "/v1/messages", judge: anthropic::messages, ceilings: &["max_tokens"] },
    Road { path: COUNTING, judge: anthropic::count_tokens, ceilings: &[] },
];
const OPENAI: [Road; 2] = [
    Road { path: "/v1/chat/completions", judge: openai::chat, ceilings: &["max_tokens", "max_completion_tokens"] },
    Road { path: "/v1/responses", judge: openai::responses, ceilings: &["max_output_tokens"] },
];

/// Judges one call: `path` as it stands in the request after `/model/{name}`, `query` without its `?`,
/// `body` whole. Constant memory but for the parsed body (50 MB at the worst).
///
/// # Errors
/// The first rule that held, of `model.path`, `model.method`, `model.query`, `model.body` (no JSON object,
/// a key twice, a field of the wrong type, more than 200,000 values), `model.field`, `model.tool` and `model.source`.
pub fn judge(dialect: Dialect, method: &str, path: &str, query: Option<&str>, body: &[u8]) -> Result<Asked, Refusal> {
    let roads = match dialect {
        Dialect::Anthropic => &ANTHROPIC,
        Dialect::Openai | Dialect::OpenaiResponses => &OPENAI,
        Dialect::Gemini => return gemini::judge(method, path, query, body),
    };
    let Some(road) = roads.iter().find(|road| road.path == path) else {
        let listed: Vec<_> = roads.iter().map(|road| road.path).collect();
        return Err(Refusal::new(
            "model.path",
            format!("Policy: of this provider only {} can be reached, and only for inference.", listed.join(" and ")),
        ));
    };
    if method != "POST" {
        return Err(Refusal::new("model.method", format!("Policy: {path} takes the method POST only.")));
    }
    if !(query.is_none() || dialect == Dialect::Anthropic && query == Some("beta=true")) {
        return Err(Refusal::new(
            "model.query",
            format!("Policy: {path} takes no query; leave out what follows the ?."),
        ));
    }
    let body = json::object(body)?;
    let top = Path::TOP;
    let model = match body.get("model") {
        Some(Value::String(model)) if (1..=256).contains(&model.len()) => model.clone(),
        _ => return Err(object::wrong(&top.field("model"), "a string of 1 to 256 bytes")),
    };
    let stream = match body.set("stream") {
        None => false,
        Some(Value::Bool(stream)) => *stream,
        Some(_) => return Err(object::wrong(&top.field("stream"), "true or false")),
    };
    let mut max_output_tokens = 0;
    for name in road.ceilings {
        // A number that we read as one and the vendor as another would be reserved wrongly.
        if let Some(ceiling) = body.set(name) {
            let ceiling = ceiling.as_u64().ok_or_else(|| object::wrong(&top.field(name), "a whole number"))?;
            max_output_tokens = max_output_tokens.max(ceiling);
        }
    }
    (road.judge)(&body)?;
    let long_cache = dialect == Dialect::Anthropic && anthropic::long_cache(&body);
    Ok(Asked { model, max_output_tokens, stream, long_cache })
}
