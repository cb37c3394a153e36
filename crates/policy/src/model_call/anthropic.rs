//! The lists for Anthropic Messages (API version 2023-06-01, read 2026-11).

use super::object::{
    Fields, Path, each, kind, object, only, refused, schema, short, text_or_each, unknown_content, unknown_tool, wrong,
};
use crate::Refusal;
use serde_json::{Map, Value};

type Object = Map<String, Value>;

const MESSAGES: [&str; 18] = [
    "cache_control",
    "context_management",
    "max_tokens",
    "messages",
    "metadata",
    "model",
    "output_config",
    "output_format",
    "service_tier",
    "stop_sequences",
    "stream",
    "system",
    "temperature",
    "thinking",
    "tool_choice",
    "tools",
    "top_k",
    "top_p",
];

/// Fields that are refused for a reason of their own; `speed` and `inference_geo` but for one value.
pub(super) const KNOWN: [(&str, &str); 5] = [
    ("mcp_servers", "the vendor would call other servers"),
    ("container", "the vendor would run code"),
    ("inference_geo", UNPRICED),
    ("speed", UNPRICED),
    ("user_profile_id", "the vendor would take something it stored"),
];

const UNPRICED: &str = "the price table does not know what it costs";

/// The kinds of `context_management` that only leave parts of the request unread. The vendor's own summaries
/// (`compact_…`) are paid beside what the answer reports as used.
const EDITS: [&str; 2] = ["clear_tool_uses_20250919", "clear_thinking_20251015"];

pub(super) fn messages(body: &Object) -> Result<(), Refusal> {
    let top = Path::TOP;
    let usual = [("speed", "standard"), ("inference_geo", "global")];
    let usual: Vec<&str> =
        usual.iter().filter(|(name, value)| body.get(*name) == Some(&(*value).into())).map(|(name, _)| *name).collect();
    only(body, &top, &[&MESSAGES[..], &usual].concat(), &KNOWN)?;
    if let Some(management) = body.set("context_management") {
        let at = top.field("context_management");
        let management = object(management, &at)?;
        only(management, &at, &["edits"], &[])?;
        each(management.set("edits"), &at.field("edits"), |edit, at| {
            let kind = kind(edit, at)?;
            if EDITS.contains(&kind) { Ok(()) } else { Err(unknown_edit(kind, at)) }
        })?;
    }
    text_or_each(body.set("system"), &top.field("system"), block)?;
    each(body.set("messages"), &top.field("messages"), |message, at| {
        only(message, at, &["role", "content"], &[])?;
        text_or_each(message.set("content"), &at.field("content"), block)
    })?;
    each(body.set("tools"), &top.field("tools"), tool)?;
    for name in ["output_config", "output_format"] {
        schema(body.set(name), &top.field(name))?;
    }
    Ok(())
}

fn unknown_edit(kind: &str, at: &Path<'_>) -> Refusal {
    let because = format!("an edit of the type \"{}\" is not known to be paid as the answer reports", short(kind));
    refused("model.field", at, &because)
}

/// Whether a body asks, at any depth, for a cache of the prompt that lasts longer than the usual five minutes.
/// What merely looks so (in a tool's input, say) counts too: then more is reserved than is used.
pub(super) fn long_cache(body: &Object) -> bool {
    fn anywhere(value: &Value) -> bool {
        match value {
            Value::Object(fields) => long_cache(fields),
            Value::Array(items) => items.iter().any(anywhere),
            _ => false,
        }
    }
    body.iter().any(|(name, value)| match name.as_str() {
        "cache_control" => value["ttl"].as_str().is_some_and(|ttl| ttl != "5m"),
        _ => anywhere(value),
    })
}

/// Counting takes a part of the same fields; what it does not know, the vendor refuses.
pub(super) fn count_tokens(body: &Object) -> Result<(), Refusal> {
    messages(body)
}

/// A block of content: only what holds its content itself, and what the model or a tool of the agent's said.
fn block(block: &Object, at: &Path<'_>) -> Result<(), Refusal> {
    let fields: &[&str] = match kind(block, at)? {
        "text" => &["type", "text", "cache_control", "citations"],
        "thinking" => &["type", "thinking", "signature"],
        "redacted_thinking" => &["type", "data"],
        "compaction" => &["type", "content", "cache_control"],
        "tool_use" => &["type", "id", "name", "input", "caller", "cache_control"],
        "tool_reference" => &["type", "tool_name", "cache_control"],
        "tool_result" => {
            text_or_each(block.set("content"), &at.field("content"), self::block)?;
            &["type", "tool_use_id", "content", "is_error", "cache_control"]
        }
        // Its `source` is a label, not fetched.
        "search_result" => {
            text_or_each(block.set("content"), &at.field("content"), self::block)?;
            &["type", "source", "title", "content", "citations", "cache_control"]
        }
        "image" => {
            source(block, at)?;
            &["type", "source", "cache_control"]
        }
        "document" => {
            source(block, at)?;
            &["type", "source", "title", "context", "citations", "cache_control"]
        }
        other => return Err(unknown_content(other, at)),
    };
    only(block, at, fields, &[("file_id", "the vendor would take a stored file")])
}

fn source(block: &Object, at: &Path<'_>) -> Result<(), Refusal> {
    let at = at.field("source");
    let Some(source) = block.set("source") else { return Err(wrong(&at, "an object")) };
    let source = object(source, &at)?;
    let because = match kind(source, &at)? {
        "base64" | "text" => return only(source, &at, &["type", "media_type", "data"], &[]),
        "content" => {
            text_or_each(source.set("content"), &at.field("content"), self::block)?;
            return only(source, &at, &["type", "content"], &[]);
        }
        "url" => "the vendor would fetch the address; send the content itself (type \"base64\" or \"text\")",
        "file" => "the vendor would take a stored file; send the content itself (type \"base64\" or \"text\")",
        _ => "its type is not one that holds the content itself (\"base64\", \"text\" or \"content\")",
    };
    Err(refused("model.source", &at, because))
}

/// Tools whose schema is the vendor's and whose work is the agent's; a date of digits follows.
const CLIENT_SIDE: [&str; 4] = ["bash_", "text_editor_", "computer_", "memory_"];

fn tool(tool: &Object, at: &Path<'_>) -> Result<(), Refusal> {
    let kind = kind(tool, at)?;
    let dated = |prefix: &&str| {
        kind.strip_prefix(prefix).is_some_and(|date| !date.is_empty() && date.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let own: &[&str] = if matches!(kind, "" | "custom") {
        schema(tool.set("input_schema"), &at.field("input_schema"))?;
        &["description", "input_schema", "eager_input_streaming"]
    } else if CLIENT_SIDE.iter().any(dated) {
        &["display_width_px", "display_height_px", "display_number", "enable_zoom", "max_characters"]
    } else {
        return Err(unknown_tool(kind, at));
    };
    let shared = ["type", "name", "cache_control", "strict", "defer_loading", "allowed_callers", "input_examples"];
    only(tool, at, &[&shared, own].concat(), &[])
}
