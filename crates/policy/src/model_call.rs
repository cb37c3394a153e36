//! What a model call may carry. A model vendor is a computer on the internet that takes orders: asked
//! so, it fetches addresses, runs code, keeps what it was sent and calls other servers, past every
//! other wall of ours. [`judge`] lets through only calls that do none of that.

pub use crate::Refusal;
use model::Dialect;

/// What a call that was let through asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The `model` field.
    pub model: String,
    /// The most tokens it may write; 0 when the body sets no ceiling.
    pub max_output_tokens: u64,
    /// Whether the answer comes as a stream.
    pub stream: bool,
}

/// Judges one call.
///
/// # Errors
/// The first rule that held.
pub fn judge(dialect: Dialect, method: &str, path: &str, query: Option<&str>, body: &[u8]) -> Result<Asked, Refusal> {
    let listed: &[&str] = match dialect {
        Dialect::Anthropic => &["/v1/messages", "/v1/messages/count_tokens"],
        Dialect::Openai => &["/v1/chat/completions", "/v1/responses"],
    };
    if !listed.contains(&path) {
        return Err(Refusal::new("model.path", format!("Only these paths exist here: {}.", listed.join(", "))));
    }
    if method != "POST" {
        return Err(Refusal::new("model.method", "Only POST is allowed on this path."));
    }
    if !(query.is_none() || dialect == Dialect::Anthropic && query == Some("beta=true")) {
        return Err(Refusal::new("model.query", "This path takes no query."));
    }
    let body: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(body)
        .map_err(|error| Refusal::new("model.body", format!("The body is no JSON object: {error}.")))?;
    let Some(model) = body.get("model").and_then(|model| model.as_str()) else {
        return Err(Refusal::new("model.body", "The body has no field \"model\" that is a string."));
    };
    let number = |name: &str| body.get(name).and_then(serde_json::Value::as_u64).unwrap_or(0);
    Ok(Asked {
        model: model.to_owned(),
        max_output_tokens: number("max_tokens").max(number("max_completion_tokens")).max(number("max_output_tokens")),
        stream: body.get("stream").and_then(serde_json::Value::as_bool).unwrap_or(false),
    })
}
