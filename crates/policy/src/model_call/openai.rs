//! The lists for OpenAI Chat Completions and Responses (read 2026-11), and for servers that speak the first.

use super::object::{
    Fields, Path, data_url, each, kind, object, only, refused, schema, text_or_each, unknown_content, unknown_tool,
    wrong,
};
use crate::Refusal;
use serde_json::{Map, Value};

type Object = Map<String, Value>;

/// Fields of both, by which nothing leaves the request.
const SHARED: [&str; 13] = [
    "metadata",
    "model",
    "parallel_tool_calls",
    "prompt_cache_key",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "store",
    "stream",
    "stream_options",
    "temperature",
    "tool_choice",
    "tools",
];

const CHAT: [&str; 25] = [
    "audio",
    "chat_template_kwargs",
    "enable_thinking",
    "frequency_penalty",
    "logit_bias",
    "logprobs",
    "max_completion_tokens",
    "max_tokens",
    "messages",
    "min_p",
    "modalities",
    "n",
    "prediction",
    "presence_penalty",
    "reasoning_effort",
    "repetition_penalty",
    "response_format",
    "seed",
    "stop",
    "thinking",
    "top_k",
    "top_logprobs",
    "top_p",
    "user",
    "verbosity",
];

const RESPONSES: [&str; 12] = [
    "client_metadata",
    "context_management",
    "include",
    "input",
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "text",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
];

const OLD: &str = "it is the old form of what \"tools\" and \"tool_choice\" say; use those";
const STORED: &str = "the vendor would take something it stored";

/// Fields that are refused for a reason of their own, on either path, `background` and `prompt_cache_retention`
/// but for the value that is the usual one.
pub(super) const KNOWN: [(&str, &str); 18] = [
    ("background", "the vendor would store the answer and work on after the run has ended"),
    ("chat_template", "the server would run it"),
    ("conversation", STORED),
    ("file_id", STORED),
    ("function_call", OLD),
    ("functions", OLD),
    ("file_url", "the vendor would fetch the address; send the content itself (file_data)"),
    ("models", "another model than the run's could answer"),
    ("plugins", "the vendor would search or fetch"),
    ("preset", STORED),
    ("previous_response_id", STORED),
    ("prompt", STORED),
    ("prompt_cache_retention", "the vendor would keep what it was sent for hours"),
    ("provider", "another provider than the one that was set up could answer"),
    ("route", "another model than the run's could answer"),
    ("transforms", "a server between would change what was sent"),
    ("webhook", "the vendor would call out"),
    ("web_search_options", "the vendor would search the web"),
];

pub(super) fn chat(body: &Object) -> Result<(), Refusal> {
    let top = Path::TOP;
    only(body, &top, &[&SHARED[..], &CHAT, usual(body)].concat(), &KNOWN)?;
    not_stored(body, false)?;
    standard_price(body)?;
    if body.set("n").is_some_and(|n| n.as_u64() != Some(1)) {
        return Err(refused("model.field", &top.field("n"), "each further answer is written, and paid, once more"));
    }
    if let Some(settings) = body.set("chat_template_kwargs") {
        // One of them, on some servers, is the template itself: a program.
        let at = top.field("chat_template_kwargs");
        only(object(settings, &at)?, &at, &["enable_thinking", "reasoning_effort", "thinking"], &KNOWN)?;
    }
    each(body.set("messages"), &top.field("messages"), |message, at| {
        const MESSAGE: [&str; 11] = [
            "annotations",
            "audio",
            "content",
            "name",
            "reasoning",
            "reasoning_content",
            "reasoning_details",
            "refusal",
            "role",
            "tool_call_id",
            "tool_calls",
        ];
        only(message, at, &MESSAGE, &KNOWN)?;
        text_or_each(message.set("content"), &at.field("content"), chat_part)
    })?;
    each(body.set("tools"), &top.field("tools"), |tool, at| match kind(tool, at)? {
        "function" => {
            only(tool, at, &["type", "function"], &KNOWN)?;
            let at = at.field("function");
            let function = object(tool.set("function").unwrap_or(&Value::Null), &at)?;
            schema(function.set("parameters"), &at.field("parameters"))?;
            only(function, &at, &["name", "description", "parameters", "strict"], &KNOWN)
        }
        "custom" => {
            only(tool, at, &["type", "custom"], &KNOWN)?;
            let at = at.field("custom");
            let custom = object(tool.set("custom").unwrap_or(&Value::Null), &at)?;
            only(custom, &at, &["name", "description", "format"], &KNOWN)
        }
        other => Err(unknown_tool(other, at)),
    })?;
    schema(body.set("response_format"), &top.field("response_format"))
}

fn chat_part(part: &Object, at: &Path<'_>) -> Result<(), Refusal> {
    let inner = |name: &str, fields: &[&str]| {
        only(part, at, &["type", name, "cache_control"], &KNOWN)?;
        let at = at.field(name);
        let inner = object(part.set(name).unwrap_or(&Value::Null), &at)?;
        only(inner, &at, fields, &KNOWN)
    };
    match kind(part, at)? {
        "text" => only(part, at, &["type", "text", "cache_control"], &KNOWN),
        "refusal" => only(part, at, &["type", "refusal"], &KNOWN),
        "input_audio" => inner("input_audio", &["data", "format"]),
        "image_url" => {
            // Some servers take the address itself, in the place of the object.
            let place = at.field("image_url");
            match part.set("image_url") {
                Some(Value::Object(image)) => {
                    data_url(image.set("url"), &place.field("url"))?;
                    inner("image_url", &["url", "detail"])
                }
                url => {
                    data_url(url, &place)?;
                    only(part, at, &["type", "image_url", "cache_control"], &KNOWN)
                }
            }
        }
        "file" => {
            inner("file", &["file_data", "filename"])?;
            let (at, file) = (at.field("file"), part.set("file").and_then(Value::as_object));
            file_data(file.and_then(|file| file.set("file_data")), &at.field("file_data"))
        }
        other => Err(unknown_content(other, at)),
    }
}

pub(super) fn responses(body: &Object) -> Result<(), Refusal> {
    let top = Path::TOP;
    let background_off = body.get("background") == Some(&Value::Bool(false));
    let allowed = [&SHARED[..], &RESPONSES, usual(body), if background_off { &["background"] } else { &[] }].concat();
    only(body, &top, &allowed, &KNOWN)?;
    not_stored(body, true)?;
    standard_price(body)?;
    text_or_each(body.set("input"), &top.field("input"), item)?;
    each(body.set("tools"), &top.field("tools"), |tool, at| match kind(tool, at)? {
        "function" => {
            schema(tool.set("parameters"), &at.field("parameters"))?;
            only(tool, at, &["type", "name", "description", "parameters", "strict", "defer_loading"], &KNOWN)
        }
        "custom" => only(tool, at, &["type", "name", "description", "format", "defer_loading"], &KNOWN),
        // Run by whoever asked, without anything of the vendor's.
        "local_shell" | "apply_patch" | "computer" => only(tool, at, &["type"], &KNOWN),
        "computer_use_preview" => only(tool, at, &["type", "display_width", "display_height", "environment"], &KNOWN),
        other => Err(unknown_tool(other, at)),
    })?;
    schema(body.set("text"), &top.field("text"))
}

/// An item of `input`. `id` and `status` are labels of the vendor's: with `store` false it keeps nothing under them.
fn item(item: &Object, at: &Path<'_>) -> Result<(), Refusal> {
    let own: &[&str] = match kind(item, at)? {
        // An item without a type is a message.
        "" | "message" => {
            text_or_each(item.set("content"), &at.field("content"), part)?;
            &["role", "content", "phase"]
        }
        "reasoning" => {
            each(item.set("summary"), &at.field("summary"), part)?;
            each(item.set("content"), &at.field("content"), part)?;
            &["summary", "content", "encrypted_content"]
        }
        "compaction" => &["encrypted_content"],
        "function_call" => &["call_id", "name", "arguments", "namespace"],
        "custom_tool_call" => &["call_id", "name", "input", "namespace"],
        "local_shell_call" | "computer_call" => &["call_id", "action", "actions", "pending_safety_checks"],
        "apply_patch_call" => &["call_id", "operation"],
        "function_call_output" | "custom_tool_call_output" | "local_shell_call_output" | "apply_patch_call_output" => {
            text_or_each(item.set("output"), &at.field("output"), part)?;
            &["call_id", "output"]
        }
        "computer_call_output" => {
            let at = at.field("output");
            part(object(item.set("output").unwrap_or(&Value::Null), &at)?, &at)?;
            &["call_id", "output", "acknowledged_safety_checks"]
        }
        other => return Err(unknown_content(other, at)),
    };
    only(item, at, &[&["type", "id", "status"], own].concat(), &KNOWN)
}

fn part(part: &Object, at: &Path<'_>) -> Result<(), Refusal> {
    let own: &[&str] = match kind(part, at)? {
        "input_text" | "output_text" | "text" | "summary_text" | "reasoning_text" => {
            &["text", "annotations", "logprobs"]
        }
        "refusal" => &["refusal"],
        "input_audio" => &["input_audio"],
        "input_image" | "computer_screenshot" => {
            data_url(part.set("image_url"), &at.field("image_url"))?;
            &["image_url", "detail"]
        }
        "input_file" => {
            file_data(part.set("file_data"), &at.field("file_data"))?;
            &["file_data", "filename", "detail"]
        }
        other => return Err(unknown_content(other, at)),
    };
    only(part, at, &[&["type"], own].concat(), &KNOWN)
}

/// `prompt_cache_retention` where it asks for what is done without it: minutes, in memory.
fn usual(body: &Object) -> &'static [&'static str] {
    match body.get("prompt_cache_retention").and_then(Value::as_str) {
        Some("in_memory" | "in-memory") => &["prompt_cache_retention"],
        _ => &[],
    }
}

/// Responses are stored unless told otherwise, Chat Completions only when told so.
fn not_stored(body: &Object, by_default: bool) -> Result<(), Refusal> {
    match body.set("store") {
        Some(Value::Bool(false)) => Ok(()),
        None if !by_default => Ok(()),
        _ => Err(Refusal::new(
            "model.field",
            "Policy, not a fault: the vendor would store this call. Send the request with \"store\": false.",
        )),
    }
}

/// A tier that the price table does not know could cost more than was reserved.
fn standard_price(body: &Object) -> Result<(), Refusal> {
    match body.set("service_tier").map(Value::as_str) {
        None | Some(Some("auto" | "default" | "flex")) => Ok(()),
        Some(_) => Err(refused(
            "model.field",
            &Path::TOP.field("service_tier"),
            "the price table knows the tiers \"auto\", \"default\" and \"flex\" only",
        )),
    }
}

/// File content in base 64, alone or as a `data:` URL; never an address.
fn file_data(value: Option<&Value>, at: &Path<'_>) -> Result<(), Refusal> {
    match value {
        Some(Value::String(data))
            if data.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=-_".contains(&byte)) =>
        {
            Ok(())
        }
        None => Err(wrong(at, "the content of the file")),
        value => data_url(value, at),
    }
}
