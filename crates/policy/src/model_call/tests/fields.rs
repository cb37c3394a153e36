//! Every top-level field that the vendors' own clients send today, and every feature named in a header: whether
//! it passes, and why not.

use super::*;
use crate::model_call::beta;

/// Fields of Anthropic Messages that pass, each with a value as a client sends it.
fn of_messages() -> Vec<(&'static str, Value)> {
    vec![
        ("cache_control", json!({"type": "ephemeral"})),
        (
            "context_management",
            json!({"edits": [{"type": "clear_tool_uses_20250919", "keep": {"type": "tool_uses", "value": 3}}]}),
        ),
        ("context_management", json!({"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]})),
        ("inference_geo", json!("global")),
        ("max_tokens", json!(1024)),
        ("metadata", json!({"user_id": "u"})),
        ("output_config", json!({"effort": "medium", "format": {"type": "json_schema", "schema": {"type": "object"}}})),
        ("output_format", json!({"type": "json_schema", "schema": {"type": "object"}})),
        ("service_tier", json!("standard_only")),
        ("speed", json!("standard")),
        ("stop_sequences", json!(["STOP"])),
        ("stream", json!(true)),
        ("system", json!("Be brief.")),
        ("temperature", json!(0.5)),
        ("thinking", json!({"type": "adaptive"})),
        ("thinking", json!({"type": "enabled", "budget_tokens": 2048})),
        ("tool_choice", json!({"type": "any", "disable_parallel_tool_use": true})),
        ("tools", json!([{"name": "f", "input_schema": {"type": "object"}}])),
        ("top_k", json!(5)),
        ("top_p", json!(0.9)),
    ]
}

/// The same of both of OpenAI's.
fn of_openai() -> Vec<(&'static str, Value)> {
    vec![
        ("metadata", json!({"k": "v"})),
        ("parallel_tool_calls", json!(true)),
        ("prompt_cache_key", json!("k")),
        ("prompt_cache_retention", json!("in_memory")),
        ("prompt_cache_retention", json!("in-memory")),
        ("safety_identifier", json!("s")),
        ("service_tier", json!("auto")),
        ("service_tier", json!("default")),
        ("service_tier", json!("flex")),
        ("store", json!(false)),
        ("stream", json!(true)),
        ("temperature", json!(1)),
        ("tool_choice", json!("auto")),
        ("top_logprobs", json!(3)),
        ("top_p", json!(1)),
        ("user", json!("u")),
    ]
}

/// The same of Chat Completions alone, and of the servers compatible with it.
fn of_chat() -> Vec<(&'static str, Value)> {
    vec![
        ("audio", json!({"voice": "v", "format": "wav"})),
        ("chat_template_kwargs", json!({"enable_thinking": true})),
        ("enable_thinking", json!(true)),
        ("frequency_penalty", json!(0)),
        ("logit_bias", json!({"1": -1})),
        ("logprobs", json!(true)),
        ("max_completion_tokens", json!(9)),
        ("max_tokens", json!(9)),
        ("min_p", json!(0.1)),
        ("modalities", json!(["text"])),
        ("n", json!(1)),
        ("prediction", json!({"type": "content", "content": "x"})),
        ("presence_penalty", json!(0)),
        ("reasoning_effort", json!("low")),
        ("repetition_penalty", json!(1)),
        ("response_format", json!({"type": "json_object"})),
        ("seed", json!(1)),
        ("stop", json!(["x"])),
        ("stream_options", json!({"include_usage": true})),
        ("thinking", json!({"type": "disabled"})),
        ("tools", json!([{"type": "function", "function": {"name": "f"}}])),
        ("top_k", json!(1)),
        ("verbosity", json!("low")),
    ]
}

/// The same of Responses alone.
fn of_responses() -> Vec<(&'static str, Value)> {
    vec![
        ("background", json!(false)),
        ("client_metadata", json!({"k": "v"})),
        ("context_management", json!([{"type": "compaction", "compact_threshold": 100_000}])),
        ("include", json!(["reasoning.encrypted_content"])),
        ("instructions", json!("Be brief.")),
        ("max_output_tokens", json!(9)),
        ("max_tool_calls", json!(3)),
        ("reasoning", json!({"effort": "high", "summary": "auto"})),
        ("stream_options", json!({"include_obfuscation": false})),
        ("text", json!({"format": {"type": "text"}, "verbosity": "low"})),
        ("tools", json!([{"type": "function", "name": "f", "parameters": {}}])),
        ("truncation", json!("disabled")),
    ]
}

#[test]
fn every_field_that_the_vendors_own_clients_send_and_that_only_works_on_the_request_passes() {
    let both = [of_openai(), of_chat()].concat();
    let responses = [of_openai(), of_responses()].concat();
    for (path, fields) in [(MESSAGES, of_messages()), (CHAT, both), (RESPONSES, responses)] {
        for (field, value) in fields {
            let answer = with(path, field, value.clone());
            assert!(answer.is_ok(), "{path} {field}: {value}: {}", answer.unwrap_err());
            // Null is as absent, but for what must be said.
            if !(path == RESPONSES && field == "store") {
                assert!(with(path, field, Value::Null).is_ok(), "{path} {field}: null");
            }
        }
    }
}

#[test]
fn every_field_that_is_refused_by_name_says_its_own_reason() {
    let openai = || openai::KNOWN.iter();
    let lists = [
        (MESSAGES, anthropic::KNOWN.iter().collect::<Vec<_>>()),
        (CHAT, openai().collect()),
        (RESPONSES, openai().collect()),
    ];
    for (path, known) in lists {
        for (field, because) in known {
            let refusal = with(path, field, json!("x")).expect_err(field);
            assert_eq!(refusal.rule, "model.field", "{path} {field}");
            assert!(refusal.why.contains(field) && refusal.why.contains(because), "{path} {field}: {}", refusal.why);
        }
    }
}

#[test]
fn values_that_cost_more_than_the_table_knows_are_refused() {
    for (path, field, value) in [
        (MESSAGES, "speed", json!("fast")),
        (MESSAGES, "inference_geo", json!("us")),
        (MESSAGES, "inference_geo", json!(["global"])),
        (CHAT, "service_tier", json!("priority")),
        (RESPONSES, "service_tier", json!("priority")),
        (RESPONSES, "prompt_cache_retention", json!("24h")),
    ] {
        assert_refused(with(path, field, value), "model.field", field);
    }
    let edit = |kind: &str| with(MESSAGES, "context_management", json!({"edits": [{"type": kind}]}));
    assert_refused(edit("compact_20260112"), "model.field", "compact_20260112");
    assert_refused(edit(""), "model.field", "context_management.edits[0]");
    assert_refused(with(MESSAGES, "context_management", json!({"tomorrow": 1})), "model.field", "tomorrow");
    assert_refused(with(MESSAGES, "context_management", json!([])), "model.body", "context_management");
}

#[test]
fn a_cache_that_lasts_longer_is_seen_wherever_it_is_asked_for() {
    let block = |ttl: Value| json!([{"type": "text", "text": "t", "cache_control": {"type": "ephemeral", "ttl": ttl}}]);
    let tool = json!([{"name": "f", "input_schema": {}, "cache_control": {"type": "ephemeral", "ttl": "1h"}}]);
    for (field, value, long) in [
        ("system", block(json!("1h")), true),
        ("system", block(json!("24h")), true),
        ("system", block(json!("5m")), false),
        ("system", block(Value::Null), false),
        ("messages", json!([{"role": "user", "content": block(json!("1h"))}]), true),
        ("tools", tool, true),
        ("cache_control", json!({"type": "ephemeral", "ttl": "1h"}), true),
        ("cache_control", json!({"type": "ephemeral"}), false),
    ] {
        assert_eq!(with(MESSAGES, field, value.clone()).unwrap().long_cache, long, "{field}: {value}");
    }
}

#[test]
fn features_that_work_on_the_request_alone_may_be_switched_on_by_a_header() {
    for (name, because) in beta::ANTHROPIC {
        assert_eq!(betas("anthropic-beta", name), Ok(()), "{name}");
        assert!(because.len() > 5, "{name} has no reason");
    }
    for (name, _) in beta::OPENAI {
        assert_eq!(betas("openai-beta", name), Ok(()), "{name}");
    }
    for value in ["", " , ", "claude-code-20250219, interleaved-thinking-2025-05-14,effort-2025-11-24"] {
        assert_eq!(betas("anthropic-beta", value), Ok(()), "{value:?}");
    }
}

#[test]
fn features_by_which_the_vendor_does_more_and_features_of_tomorrow_are_refused_by_name() {
    for (header, refused) in [("anthropic-beta", &beta::ANTHROPIC_REFUSED[..]), ("openai-beta", &beta::OPENAI_REFUSED)]
    {
        for (name, because) in refused {
            let refusal = betas(
                header,
                &format!("claude-code-20250219, {name}").replace("claude-code-20250219, assist", "assist"),
            );
            assert_refused_header(refusal.clone(), name);
            assert!(refusal.unwrap_err().why.contains(because), "{name}");
        }
    }
    for name in ["telepathy-2027-01-01", "Effort-2025-11-24", "effort-2025-11-24;x", "prompt-caching", "effort\u{fffd}"]
    {
        assert_refused_header(betas("anthropic-beta", name), &name.escape_debug().to_string());
    }
    assert_refused_header(betas("anthropic-beta", "responses=experimental"), "responses=experimental");
    assert_refused_header(betas("openai-beta", "effort-2025-11-24"), "effort-2025-11-24");
}

#[track_caller]
fn assert_refused_header(answer: Result<(), Refusal>, named: &str) {
    let refusal = answer.expect_err(named);
    assert_eq!(refusal.rule, "model.beta");
    assert!(refusal.why.contains(named), "{named:?} is not named in: {}", refusal.why);
}
