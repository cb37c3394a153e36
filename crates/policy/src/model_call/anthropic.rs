//! The lists for Anthropic Messages (API version 2023-06-01, read 2026-11).

use super::object::{
    Fields, Path, each, kind, object, only, refused, schema, text_or_each, unknown_content, unknown_tool, wrong,
};
use crate::Refusal;
use serde_json::{Map, Value};

type Object = Map<String, Value>;

const MESSAGES: [&str; 19] = [
    "cache_control",
    "context_management",
    "inference_geo",
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

const KNOWN: [(&str, &str); 3] = [
    ("mcp_servers", "the vendor would call other servers"),
    ("container", "the vendor would run code"),
    ("speed", "the price table does not know what it costs"),
];

pub(super) fn messages(body: &Object) -> Result<(), Refusal> {
    let top = Path::TOP;
    only(body, &top, &MESSAGES, &KNOWN)?;
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
