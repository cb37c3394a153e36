//! What is let through, and one refusal for each exit of a vendor.
//!
//! Read `fields` for the whole list, field by field, and `properties` for what holds of any body.

mod fields;
mod geminis;
mod properties;

use super::*;
use Dialect::{Anthropic, Gemini, Openai};
use serde_json::json;

const MESSAGES: &str = "/v1/messages";
const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const GENERATE: &str = "/v1beta/models/m:generateContent";
const COUNT: &str = "/v1beta/models/m:countTokens";

fn post(dialect: Dialect, path: &str, body: &Value) -> Result<Asked, Refusal> {
    judge(dialect, "POST", path, None, body.to_string().as_bytes())
}

/// A plain call of each path.
fn plain(path: &str) -> (Dialect, Value) {
    match path {
        CHAT => (Openai, json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]})),
        RESPONSES => (Openai, json!({"model": "m", "input": "hi", "store": false})),
        GENERATE | COUNT => (Gemini, json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}]})),
        _ => (Anthropic, json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]})),
    }
}

/// A plain call of `path`, with `field` set.
fn with(path: &str, field: &str, value: Value) -> Result<Asked, Refusal> {
    let (dialect, mut body) = plain(path);
    body[field] = value;
    post(dialect, path, &body)
}

#[track_caller]
fn assert_refused(answer: Result<Asked, Refusal>, rule: &str, named: &str) {
    let refusal = answer.expect_err(named);
    assert_eq!(refusal.rule, rule, "{refusal}");
    assert!(refusal.why.contains(named), "{named:?} is not named in: {}", refusal.why);
}

#[test]
fn a_plain_call_of_each_path_is_allowed_and_read() {
    for path in [MESSAGES, "/v1/messages/count_tokens", CHAT, RESPONSES, GENERATE, COUNT] {
        let (dialect, body) = plain(path);
        let max_output_tokens = if path == MESSAGES { 9 } else { 0 };
        let asked = Asked { model: "m".into(), max_output_tokens, stream: false, long_cache: false };
        assert_eq!(post(dialect, path, &body), Ok(asked), "{path}");
    }
    assert!(with(MESSAGES, "stream", json!(true)).unwrap().stream);
}

#[test]
fn a_body_of_too_many_values_is_refused_before_it_is_read_and_the_text_in_it_does_not_count() {
    let of = |messages: &str| {
        let body = format!(r#"{{"model":"m","max_tokens":9,"messages":[{messages}"#);
        judge(Anthropic, "POST", MESSAGES, None, body.as_bytes())
    };
    // It is no JSON either, at its end; what is named tells that nobody read so far.
    for many in [r#"{"":0},"#.repeat(70_000), "[".repeat(200_001), "0,".repeat(200_001)] {
        assert_refused(of(&many), "model.body", "200000 values");
    }
    assert_refused(of(&r#"{"":0},"#.repeat(60_000)), "model.body", "not JSON");
    let text = r#"[{,:\"\\"#.repeat(100_000);
    let whole = format!(r#"{{"role":"user","content":"{text}"}}]}}"#);
    assert_eq!(of(&whole).map(|asked| asked.model), Ok("m".to_owned()));
    let after = format!(r#"{{"role":"user","content":"{text}"}},{}"#, r#"{"":0},"#.repeat(70_000));
    assert_refused(of(&after), "model.body", "200000 values");
}

#[test]
fn the_ceiling_is_the_highest_that_a_reader_could_take() {
    let (_, mut body) = plain(CHAT);
    body["max_tokens"] = json!(5);
    body["max_completion_tokens"] = json!(7);
    assert_eq!(post(Openai, CHAT, &body).unwrap().max_output_tokens, 7);
    assert_eq!(with(RESPONSES, "max_output_tokens", json!(8)).unwrap().max_output_tokens, 8);
    for unreadable in [json!(1e6), json!("1000"), json!(-1), json!([7])] {
        assert_refused(with(MESSAGES, "max_tokens", unreadable), "model.body", "max_tokens");
    }
}

#[test]
fn an_agents_real_anthropic_call_is_allowed() {
    let body = json!({
    "model": "claude", "max_tokens": 32000, "stream": true, "temperature": 1, "metadata": {"user_id": "u"},
    "thinking": {"type": "enabled", "budget_tokens": 16000}, "service_tier": "auto",
    "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]},
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    "tools": [
        {"name": "read", "description": "d", "input_schema": {"type": "object", "$schema": "http://json-schema.org/draft-07/schema#",
            "properties": {"path": {"$ref": "#/$defs/p"}}, "$defs": {"p": {"type": "string"}}}},
        {"type": "custom", "name": "x", "input_schema": {}}, {"type": "bash_20250124", "name": "bash"},
        {"type": "text_editor_20250728", "name": "e", "max_characters": 9}, {"type": "memory_20250818", "name": "memory"},
        {"type": "computer_20250124", "name": "c", "display_width_px": 1, "display_height_px": 1}],
    "tool_choice": {"type": "auto", "disable_parallel_tool_use": false},
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "see https://example.com"},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}, "title": "t"},
            {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "x"}]}}]},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": "…", "signature": "s"},
            {"type": "redacted_thinking", "data": "d"},
            // What a tool is given is the agent's business, whatever it looks like.
            {"type": "tool_use", "id": "1", "name": "x", "input": {"type": "image", "source": {"type": "url", "url": "http://a"},
                "mcp_servers": [], "file_id": "f"}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "is_error": false, "content": [
            {"type": "text", "text": "ok"}, {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA"}}]},
            {"type": "tool_result", "tool_use_id": "2", "content": "plain"}, {"type": "tool_result", "tool_use_id": "3"}]},
    ]});
    let asked = judge(Anthropic, "POST", MESSAGES, Some("beta=true"), body.to_string().as_bytes());
    assert_eq!(asked, Ok(Asked { model: "claude".into(), max_output_tokens: 32000, stream: true, long_cache: false }));
}

#[test]
fn an_agents_real_openai_calls_are_allowed() {
    let chat = json!({
        "model": "gpt", "stream": true, "stream_options": {"include_usage": true}, "store": false, "n": 1, "seed": null,
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"$ref": "#/$defs/a"}}},
        "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": true}},
            {"type": "custom", "custom": {"name": "c"}}],
        "chat_template_kwargs": {"enable_thinking": false}, "modalities": ["text", "audio"], "audio": {"voice": "v", "format": "wav"},
        "messages": [{"role": "system", "content": "s"},
            {"role": "user", "content": [{"type": "text", "text": "t"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}},
                {"type": "image_url", "image_url": "DATA:image/png;base64,AA"}, {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,AA"}}]},
            {"role": "assistant", "content": null, "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "1", "content": "done"}]});
    assert!(post(Openai, CHAT, &chat).unwrap().stream);

    let responses = json!({
        "model": "gpt", "instructions": "i", "store": false, "stream": true, "include": ["reasoning.encrypted_content"],
        "reasoning": {"effort": "high", "summary": "auto"}, "prompt_cache_key": "k", "text": {"verbosity": "low"},
        "parallel_tool_calls": false, "tool_choice": "auto", "background": false, "previous_response_id": null,
        "tools": [{"type": "function", "name": "f", "parameters": {}, "strict": false}, {"type": "local_shell"},
            {"type": "custom", "name": "patch", "format": {"type": "grammar", "syntax": "lark", "definition": "start: /x/"}}],
        "input": [{"role": "user", "content": "hi"},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "t"},
                {"type": "input_image", "image_url": "data:image/png;base64,AA"}, {"type": "input_file", "filename": "a", "file_data": "AA=="}]},
            {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "s"}], "encrypted_content": "e"},
            {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "1", "output": "o"},
            {"type": "message", "role": "assistant", "id": "m", "status": "completed", "content": [{"type": "output_text", "text": "t", "annotations": []}]}]});
    assert_eq!(
        post(Openai, RESPONSES, &responses),
        Ok(Asked { model: "gpt".into(), max_output_tokens: 0, stream: true, long_cache: false })
    );
}

#[test]
fn only_listed_paths_of_the_own_dialect_exist() {
    for (dialect, path) in [
        (Anthropic, CHAT),
        (Openai, MESSAGES),
        (Anthropic, "/v1/files"),
        (Anthropic, "/v1/messages/batches"),
        (Anthropic, "/v1/messages/"),
        (Anthropic, "//v1/messages"),
        (Anthropic, "/v1/../v1/messages"),
        (Anthropic, "/v1/%6dessages"),
        (Anthropic, "/V1/messages"),
        (Openai, "/v1/responses/abc"),
        (Openai, "/v1/embeddings"),
        (Openai, "/v1/vector_stores"),
        (Openai, ""),
        (Anthropic, GENERATE),
        (Openai, GENERATE),
        (Gemini, CHAT),
        (Gemini, MESSAGES),
    ] {
        let refusal = judge(dialect, "POST", path, None, b"{\"model\":\"m\"}").expect_err(path);
        assert_eq!(refusal.rule, "model.path", "{path}");
    }
}

#[test]
fn only_post_without_a_query_but_the_one_is_allowed() {
    let body = plain(MESSAGES).1.to_string();
    for method in ["GET", "post", "PUT", "DELETE", "POST "] {
        assert_refused(judge(Anthropic, method, MESSAGES, None, body.as_bytes()), "model.method", "POST");
    }
    for query in ["", "beta=false", "beta=true&x=1", "BETA=true"] {
        assert_refused(judge(Anthropic, "POST", MESSAGES, Some(query), body.as_bytes()), "model.query", "query");
    }
    let chat = plain(CHAT).1.to_string();
    assert_refused(judge(Openai, "POST", CHAT, Some("beta=true"), chat.as_bytes()), "model.query", "query");
}

#[test]
fn a_body_that_two_readers_could_read_differently_is_refused() {
    for body in [
        r#"{"model":"m","model":"n"}"#,
        r#"{"model":"m","mod\u0065l":"n"}"#,
        r#"{"model":"m","messages":[{"role":"user","role":"x"}]}"#,
        r#"{"model":"m"} {"model":"n"}"#,
        r#"{"model":"m"}x"#,
        r#"[{"model":"m"}]"#,
        r#""m""#,
        "",
        "null",
        r#"{"model":"m""#,
        r#"{"model":"m",}"#,
        r#"{'model':'m'}"#,
        r#"{"model":"\ud800"}"#,
        "\u{feff}{\"model\":\"m\"}",
        r#"{"model":"m","temperature":1e999}"#,
        r#"{"model":"m","temperature":NaN}"#,
        "/**/{\"model\":\"m\"}",
    ] {
        assert_eq!(
            judge(Anthropic, "POST", MESSAGES, None, body.as_bytes()).expect_err(body).rule,
            "model.body",
            "{body}"
        );
    }
    assert_eq!(judge(Anthropic, "POST", MESSAGES, None, b"{\"model\":\"\xff\"}").unwrap_err().rule, "model.body");
    let deep = format!("{{\"model\":\"m\",\"metadata\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(judge(Anthropic, "POST", MESSAGES, None, deep.as_bytes()).unwrap_err().rule, "model.body");
}

#[test]
fn the_model_is_a_string_of_1_to_256_bytes() {
    for model in [json!(null), json!(1), json!(""), json!(["m"]), json!("m".repeat(257))] {
        assert_refused(with(MESSAGES, "model", model), "model.body", "model");
    }
    assert!(with(MESSAGES, "model", json!("m".repeat(256))).is_ok());
    assert_refused(with(MESSAGES, "stream", json!("yes")), "model.body", "stream");
}

#[test]
fn fields_by_which_the_vendor_calls_out_stores_or_runs_code_are_refused_by_name() {
    for (path, field, value) in [
        (MESSAGES, "mcp_servers", json!([{"type": "url", "url": "https://a"}])),
        (MESSAGES, "mcp_servers", json!([])),
        (MESSAGES, "container", json!("c")),
        (MESSAGES, "Container", json!("c")),
        (MESSAGES, "speed", json!("fast")),
        (MESSAGES, "tomorrow", json!(1)),
        ("/v1/messages/count_tokens", "mcp_servers", json!([])),
        (CHAT, "web_search_options", json!({})),
        (CHAT, "plugins", json!([{"id": "web"}])),
        (CHAT, "models", json!(["a"])),
        (CHAT, "chat_template", json!("{{ x }}")),
        (CHAT, "chat_template_kwargs", json!({"chat_template": "{{ x }}"})),
        (CHAT, "prompt_cache_retention", json!("24h")),
        (CHAT, "service_tier", json!("priority")),
        (CHAT, "n", json!(2)),
        (CHAT, "n", json!(1.0)),
        (RESPONSES, "background", json!(true)),
        (RESPONSES, "background", json!(0)),
        (RESPONSES, "previous_response_id", json!("r")),
        (RESPONSES, "conversation", json!("c")),
        (RESPONSES, "prompt", json!({"id": "p"})),
        (RESPONSES, "tomorrow", json!(1)),
    ] {
        assert_refused(with(path, field, value), "model.field", field);
    }
}

#[test]
fn a_call_that_the_vendor_would_store_is_refused() {
    for store in [json!(true), json!("false"), json!(0)] {
        assert_refused(with(CHAT, "store", store.clone()), "model.field", "store");
        assert_refused(with(RESPONSES, "store", store), "model.field", "store");
    }
    // Stored unless it says otherwise, and null says nothing.
    assert_refused(with(RESPONSES, "store", json!(null)), "model.field", "\"store\": false");
    assert!(with(CHAT, "store", json!(null)).is_ok());
}

#[test]
fn tools_that_the_vendor_runs_are_refused() {
    for kind in [
        "web_search_20250305",
        "web_fetch_20250910",
        "code_execution_20250825",
        "mcp_toolset",
        "tool_search_tool_regex_20251119",
        "bash_",
        "bash_2025x",
        "BASH_20250124",
        "computer",
        "advisor_20260301",
    ] {
        assert_refused(
            with(MESSAGES, "tools", json!([{"name": "ok"}, {"type": kind, "name": "t"}])),
            "model.tool",
            kind,
        );
    }
    for kind in
        ["web_search", "web_search_preview", "file_search", "code_interpreter", "mcp", "image_generation", "shell", ""]
    {
        assert_refused(with(RESPONSES, "tools", json!([{"type": kind}])), "model.tool", "tools[0]");
    }
    for kind in ["web_search", "browser_search", ""] {
        assert_refused(with(CHAT, "tools", json!([{"type": kind}])), "model.tool", "tools[0]");
    }
    assert_refused(with(MESSAGES, "tools", json!([{"name": "x", "url": "http://a"}])), "model.field", "tools[0].url");
    assert_refused(with(MESSAGES, "tools", json!([{"type": 1}])), "model.body", "tools[0].type");
    assert_refused(with(MESSAGES, "tools", json!({"type": "web_search_20250305"})), "model.body", "tools");
    assert_refused(with(MESSAGES, "tools", json!(["web_search_20250305"])), "model.body", "tools[0]");
}

#[test]
fn schemas_that_refer_elsewhere_are_refused() {
    let elsewhere = json!({"properties": {"a": {"anyOf": [{"$ref": "https://a/b.json"}]}}});
    let place = "input_schema.properties.a.anyOf[0].$ref";
    assert_refused(
        with(MESSAGES, "tools", json!([{"name": "x", "input_schema": elsewhere.clone()}])),
        "model.source",
        place,
    );
    let function = json!([{"type": "function", "name": "f", "parameters": elsewhere.clone()}]);
    assert_refused(with(RESPONSES, "tools", function), "model.source", "$ref");
    let function = json!([{"type": "function", "function": {"name": "f", "parameters": elsewhere.clone()}}]);
    assert_refused(with(CHAT, "tools", function), "model.source", "$ref");
    assert_refused(with(CHAT, "response_format", elsewhere.clone()), "model.source", "$ref");
    assert_refused(with(RESPONSES, "text", elsewhere.clone()), "model.source", "$ref");
    assert_refused(with(MESSAGES, "output_config", elsewhere), "model.source", "$ref");
}

#[test]
fn anthropic_content_that_the_vendor_would_fetch_or_has_stored_is_refused_at_any_depth() {
    for block in [
        json!({"type": "image", "source": {"type": "url", "url": "https://a"}}),
        json!({"type": "image", "source": {"type": "file", "file_id": "f"}}),
        json!({"type": "document", "source": {"type": "url", "url": "https://a"}}),
        json!({"type": "document", "source": {"type": "file", "file_id": "f"}}),
        json!({"type": "document", "source": {"type": "tomorrow"}}),
        json!({"type": "container_upload", "file_id": "f"}),
        json!({"type": "web_search_tool_result", "content": []}),
        json!({"type": "server_tool_use", "name": "web_search"}),
        json!({"type": "mcp_tool_use"}),
        json!({"text": "no type"}),
    ] {
        let inside = |block: &Value| json!([{"role": "user", "content": [block]}]);
        assert_refused(with(MESSAGES, "messages", inside(&block)), "model.source", "messages[0].content[0]");
        let result =
            json!({"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "t"}, block]});
        assert_refused(with(MESSAGES, "messages", inside(&result)), "model.source", "content[0].content[1]");
        let document = json!({"type": "document", "source": {"type": "content", "content": [block]}});
        assert_refused(with(MESSAGES, "messages", inside(&document)), "model.source", "source.content[0]");
        assert_refused(with(MESSAGES, "system", json!([block])), "model.source", "system[0]");
    }
    for (block, named) in [
        (json!({"type": "image", "source": {"type": "base64", "data": "AA", "url": "https://a"}}), "source.url"),
        (json!({"type": "image", "file_id": "f", "source": {"type": "base64", "data": "AA"}}), "file_id"),
        (json!({"type": "text", "text": "t", "source": {"type": "url"}}), "source"),
    ] {
        assert_refused(with(MESSAGES, "messages", json!([{"role": "user", "content": [block]}])), "model.field", named);
    }
    assert_refused(
        with(MESSAGES, "messages", json!([{"role": "user", "content": [{"type": "image"}]}])),
        "model.body",
        "source",
    );
    assert_refused(
        with(MESSAGES, "messages", json!([{"role": "user", "content": [{"type": "image", "source": "https://a"}]}])),
        "model.body",
        "source",
    );
}

#[test]
fn openai_content_that_the_vendor_would_fetch_or_has_stored_is_refused() {
    for (part, rule, named) in [
        (json!({"type": "image_url", "image_url": {"url": "https://a/b.png"}}), "model.source", "image_url.url"),
        (json!({"type": "image_url", "image_url": "http://a"}), "model.source", "image_url"),
        (json!({"type": "image_url", "image_url": {"url": " data:x"}}), "model.source", "image_url.url"),
        (json!({"type": "image_url", "image_url": {"url": ["https://a"]}}), "model.body", "image_url.url"),
        (json!({"type": "file", "file": {"file_id": "f"}}), "model.field", "file_id"),
        (json!({"type": "file", "file": {"file_data": "https://a/b.pdf"}}), "model.source", "file_data"),
        (json!({"type": "file", "file": {"filename": "a"}}), "model.body", "file_data"),
        (json!({"type": "video_url", "video_url": {"url": "https://a"}}), "model.source", "video_url"),
        (json!({"type": "text", "text": "t", "image_url": "https://a"}), "model.field", "image_url"),
    ] {
        assert_refused(with(CHAT, "messages", json!([{"role": "user", "content": [part]}])), rule, named);
    }
    for (part, rule, named) in [
        (json!({"type": "input_image", "image_url": "https://a"}), "model.source", "image_url"),
        (json!({"type": "input_image", "file_id": "f"}), "model.field", "file_id"),
        (json!({"type": "input_file", "file_url": "https://a"}), "model.body", "file_data"),
        (json!({"type": "input_file", "file_url": "https://a", "file_data": "AA"}), "model.field", "file_url"),
        (json!({"type": "input_file", "file_id": "f", "file_data": "AA"}), "model.field", "file_id"),
        (json!({"type": "input_file", "file_data": "ftp://a"}), "model.source", "file_data"),
        (json!({"type": "tomorrow"}), "model.source", "tomorrow"),
    ] {
        let message = json!([{"role": "user", "content": [part]}]);
        assert_refused(with(RESPONSES, "input", message), rule, named);
        let output = json!([{"type": "function_call_output", "call_id": "1", "output": [part]}]);
        assert_refused(with(RESPONSES, "input", output), rule, named);
    }
    let screenshot = json!([{"type": "computer_call_output", "call_id": "1", "output": {"type": "computer_screenshot", "image_url": "https://a"}}]);
    assert_refused(with(RESPONSES, "input", screenshot), "model.source", "output.image_url");
    for kind in [
        "item_reference",
        "web_search_call",
        "mcp_call",
        "mcp_approval_response",
        "code_interpreter_call",
        "shell_call",
    ] {
        assert_refused(with(RESPONSES, "input", json!([{"type": kind, "id": "x"}])), "model.source", kind);
    }
}

#[test]
fn a_refusal_names_a_field_on_one_short_line() {
    let refusal = with(MESSAGES, &format!("x\n\"{}", "y".repeat(1000)), json!(1)).unwrap_err();
    assert!(refusal.why.len() < 400 && !refusal.why.contains('\n'), "{}", refusal.why);
}
