//! Gemini: every path, field, part and tool, with a value as a client sends it, and whether it passes.

use super::*;

const STREAM: &str = "/v1beta/models/gemini-2.5-pro:streamGenerateContent";

/// A plain call with the one field of `generationConfig` set.
fn config(field: &str, value: Value) -> Result<Asked, Refusal> {
    with(GENERATE, "generationConfig", json!({ field: value }))
}
/// The same with the one part.
fn part(part: Value) -> Result<Asked, Refusal> {
    with(GENERATE, "contents", json!([{"role": "user", "parts": [{"text": "hi"}, part]}]))
}
/// The same with the one tool.
fn tool(tool: Value) -> Result<Asked, Refusal> {
    with(GENERATE, "tools", json!([{"functionDeclarations": [{"name": "ok"}]}, tool]))
}

#[test]
fn the_model_and_the_stream_stand_in_the_path_and_the_ceiling_in_the_config() {
    let body = json!({"contents": [], "generationConfig": {"maxOutputTokens": 9}}).to_string();
    for (path, query, stream, ceiling) in [
        ("/v1beta/models/gemini-2.5-pro:generateContent", None, false, 9),
        ("/v1/models/gemini-2.5-pro:generateContent", None, false, 9),
        (STREAM, Some("alt=sse"), true, 9),
        ("/v1/models/gemini-2.5-pro:streamGenerateContent", Some("alt=sse"), true, 9),
    ] {
        let asked = Asked { model: "gemini-2.5-pro".into(), max_output_tokens: ceiling, stream, long_cache: false };
        assert_eq!(judge(Gemini, "POST", path, query, body.as_bytes()), Ok(asked), "{path}");
    }
    for (path, counts) in [(COUNT, true), ("/v1/models/m:countTokens", true), (GENERATE, false), (STREAM, false)] {
        assert_eq!(only_counts(path), counts, "{path}");
    }
}

#[test]
fn a_path_that_is_no_models_inference_is_refused() {
    let long = format!("/v1beta/models/{}:generateContent", "m".repeat(257));
    for path in [
        "/v1beta/models",
        "/v1beta/models/m",
        "/v1beta/models/m:embedContent",
        "/v1beta/models/m:batchGenerateContent",
        "/v1beta/models/m:batchEmbedContents",
        "/v1beta/models/m:generateAnswer",
        "/v1beta/models/m:predictLongRunning",
        "/v1beta/models/m:generateContent:countTokens",
        "/v1beta/models/:generateContent",
        "/v1beta/models/..:generateContent",
        "/v1beta/models/a/b:generateContent",
        "/v1beta/models/a%2Fb:generateContent",
        "/v1beta/models/m%3AgenerateContent",
        "/v1beta/models/m:GenerateContent",
        "/v1beta/models/m:generateContent/",
        "/v1beta//models/m:generateContent",
        "/v1beta/tunedModels/m:generateContent",
        "/v1beta/dynamic/m:generateContent",
        "/v1beta/cachedContents",
        "/v1beta/files",
        "/upload/v1beta/files",
        "/v1beta/interactions",
        "/v1alpha/models/m:generateContent",
        "/v1beta1/models/m:generateContent",
        &long,
    ] {
        let refusal = judge(Gemini, "POST", path, None, plain(GENERATE).1.to_string().as_bytes()).expect_err(path);
        assert_eq!(refusal.rule, "model.path", "{path}");
    }
    let at_the_edge = format!("/v1beta/models/{}:generateContent", "m".repeat(256));
    assert!(judge(Gemini, "POST", &at_the_edge, None, plain(GENERATE).1.to_string().as_bytes()).is_ok());
}

#[test]
fn only_post_and_no_query_but_the_one_of_the_stream_are_allowed_and_never_a_key_in_it() {
    let body = plain(GENERATE).1.to_string();
    for path in [GENERATE, COUNT, STREAM] {
        assert_refused(judge(Gemini, "GET", path, None, body.as_bytes()), "model.method", "POST");
    }
    for query in ["", "key=AIza", "alt=sse", "alt=json", "$fields=x"] {
        for path in [GENERATE, COUNT] {
            assert_refused(judge(Gemini, "POST", path, Some(query), body.as_bytes()), "model.query", "no query");
        }
    }
    for query in [None, Some(""), Some("alt=json"), Some("alt=sse&key=AIza"), Some("key=AIza&alt=sse"), Some("ALT=sse")]
    {
        assert_refused(judge(Gemini, "POST", STREAM, query, body.as_bytes()), "model.query", "?alt=sse");
    }
}

#[test]
fn every_field_that_the_vendors_own_clients_send_and_that_only_works_on_the_request_passes() {
    for (field, value) in [
        ("contents", json!([{"role": "model", "parts": [{"text": "t"}]}])),
        ("generationConfig", json!({})),
        ("model", json!("m")),
        ("model", json!("models/m")),
        ("safetySettings", json!([{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}])),
        ("serviceTier", json!("standard")),
        ("serviceTier", json!("flex")),
        ("store", json!(false)),
        ("systemInstruction", json!({"role": "user", "parts": [{"text": "Be brief."}]})),
        ("toolConfig", json!({"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}})),
        ("tools", json!([{"functionDeclarations": [{"name": "f"}]}])),
    ] {
        for value in [value, Value::Null] {
            let answer = with(GENERATE, field, value.clone());
            assert!(answer.is_ok(), "{field}: {value}: {}", answer.unwrap_err());
        }
    }
    for (field, value) in [
        ("candidateCount", json!(1)),
        ("frequencyPenalty", json!(0.5)),
        ("logprobs", json!(3)),
        ("maxOutputTokens", json!(9)),
        ("mediaResolution", json!("MEDIA_RESOLUTION_LOW")),
        ("presencePenalty", json!(0.5)),
        ("responseJsonSchema", json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}})),
        ("responseLogprobs", json!(true)),
        ("responseMimeType", json!("application/json")),
        ("responseModalities", json!(["TEXT"])),
        ("responseSchema", json!({"type": "OBJECT"})),
        ("seed", json!(1)),
        ("stopSequences", json!(["STOP"])),
        ("temperature", json!(0)),
        ("thinkingConfig", json!({"thinkingBudget": -1, "includeThoughts": true})),
        ("thinkingConfig", json!({"thinkingLevel": "HIGH"})),
        ("topK", json!(64)),
        ("topP", json!(0.95)),
    ] {
        for value in [value, Value::Null] {
            let answer = config(field, value.clone());
            assert!(answer.is_ok(), "{field}: {value}: {}", answer.unwrap_err());
        }
    }
    assert!(gemini::GENERATION.iter().all(|field| config(field, Value::Null).is_ok()));
}

#[test]
fn every_part_that_holds_its_content_itself_passes_and_what_the_model_or_a_tool_said_is_not_judged() {
    let image = json!({"mimeType": "image/png", "data": "AAAA"});
    for inside in [
        json!({"text": "see https://example.com and file_data", "thought": true, "thoughtSignature": "c2ln"}),
        json!({"inlineData": image}),
        json!({"inlineData": {"mimeType": "application/pdf", "data": "AA", "displayName": "a.pdf"}}),
        json!({"inlineData": {"mimeType": "text/x-c", "data": "AA"}, "mediaResolution": {"level": "MEDIA_RESOLUTION_LOW"}}),
        json!({"functionCall": {"id": "1", "name": "f", "args": {"fileData": {"fileUri": "https://a"}, "snake_case": 1}},
            "thoughtSignature": "c2ln"}),
        json!({"functionResponse": {"id": "1", "name": "f", "response": {"output": {"google_search": {}}}}}),
        json!({"functionResponse": {"name": "f", "response": {}, "parts": [{"inlineData": image}]}}),
    ] {
        assert!(part(inside.clone()).is_ok(), "{inside}: {:?}", part(inside.clone()));
    }
}

#[test]
fn content_that_the_vendor_would_fetch_or_has_stored_or_made_itself_is_refused_wherever_it_stands() {
    for (inside, named) in [
        (json!({"fileData": {"fileUri": "https://a", "mimeType": "image/png"}}), "fileData"),
        (json!({"fileData": {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/x"}}), "fileData"),
        (json!({"file_data": {"file_uri": "https://a"}}), "file_data"),
        (json!({"executableCode": {"language": "PYTHON", "code": "x"}}), "executableCode"),
        (json!({"codeExecutionResult": {"outcome": "OUTCOME_OK"}}), "codeExecutionResult"),
        (json!({"toolCall": {"toolType": "GOOGLE_SEARCH_WEB"}}), "toolCall"),
        (json!({"toolResponse": {}}), "toolResponse"),
        (json!({"videoMetadata": {"fps": 24}}), "videoMetadata"),
        (json!({"tomorrow": 1}), "tomorrow"),
        (json!({"inline_data": {"mime_type": "image/png", "data": "AA"}}), "inline_data"),
        (json!({"inlineData": {"mimeType": "audio/mp3", "data": "AA"}}), "audio/mp3"),
        (json!({"inlineData": {"mimeType": "video/mp4", "data": "AA"}}), "video/mp4"),
        (json!({"inlineData": {"mimeType": "IMAGE/png", "data": "AA"}}), "IMAGE/png"),
    ] {
        assert_refused(part(inside.clone()), "model.source", named);
        let nested = json!({"functionResponse": {"name": "f", "response": {}, "parts": [inside]}});
        assert_refused(part(nested), "model.source", "functionResponse.parts[0]");
        let system = json!({"parts": [inside]});
        assert_refused(with(GENERATE, "systemInstruction", system), "model.source", "systemInstruction.parts[0]");
        let counted = json!([{"parts": [inside]}]);
        assert_refused(with(COUNT, "contents", counted), "model.source", "contents[0].parts[0]");
    }
    for (inside, rule, named) in [
        (json!({"inlineData": {"data": "AA"}}), "model.body", "mimeType"),
        (json!({"inlineData": {"mimeType": ["image/png"], "data": "AA"}}), "model.body", "mimeType"),
        (json!({"inlineData": {"mimeType": "image/png", "fileUri": "https://a"}}), "model.field", "fileUri"),
        (json!({"inlineData": "https://a"}), "model.body", "inlineData"),
        (json!({"functionCall": {"name": "f", "willContinue": true}}), "model.field", "willContinue"),
        (json!({"functionResponse": {"name": "f", "scheduling": "SILENT"}}), "model.field", "scheduling"),
        (json!({"functionResponse": []}), "model.body", "functionResponse"),
    ] {
        assert_refused(part(inside), rule, named);
    }
    for contents in
        [json!("hi"), json!({"parts": [{"fileData": {}}]}), json!([{"parts": {"fileData": {}}}]), json!(["hi"])]
    {
        assert_refused(with(GENERATE, "contents", contents), "model.body", "contents");
    }
    assert_refused(with(GENERATE, "systemInstruction", json!("Be brief.")), "model.body", "systemInstruction");
}

#[test]
fn every_field_that_is_refused_by_name_says_its_own_reason_wherever_it_stands() {
    for (field, because) in gemini::KNOWN {
        for answer in [with(GENERATE, field, json!("x")), config(field, json!("x"))] {
            let refusal = answer.expect_err(field);
            assert_eq!(refusal.rule, "model.field", "{field}");
            assert!(refusal.why.contains(field) && refusal.why.contains(because), "{field}: {}", refusal.why);
        }
        assert_eq!(part(json!({ field: {} })).expect_err(field).rule, "model.source", "{field}");
    }
    for (field, value) in [
        ("cachedContent", json!("cachedContents/x")),
        ("store", json!(true)),
        ("store", json!("false")),
        ("serviceTier", json!("priority")),
        ("serviceTier", json!(3)),
        ("model", json!("models/other")),
        ("model", json!("tunedModels/m")),
        ("stream", json!(true)),
        ("tomorrow", json!(1)),
    ] {
        assert_refused(with(GENERATE, field, value), "model.field", field);
    }
    for (field, value) in [
        ("candidateCount", json!(2)),
        ("candidateCount", json!(1.0)),
        ("candidateCount", json!("1")),
        ("responseModalities", json!(["TEXT", "IMAGE"])),
        ("responseModalities", json!(["AUDIO"])),
        ("responseModalities", json!([1])),
        ("responseModalities", json!("TEXT")),
        ("tomorrow", json!(1)),
    ] {
        assert_refused(config(field, value), "model.field", field);
    }
    for unreadable in [json!(1e6), json!("1000"), json!(-1), json!([7])] {
        assert_refused(config("maxOutputTokens", unreadable), "model.body", "maxOutputTokens");
    }
    let retrieval = json!({"retrievalConfig": {"latLng": {}}});
    assert_refused(with(GENERATE, "toolConfig", retrieval), "model.field", "retrievalConfig");
    let server = json!({"includeServerSideToolInvocations": true});
    assert_refused(with(GENERATE, "toolConfig", server), "model.field", "includeServerSideToolInvocations");
    assert_refused(config("thinkingConfig", json!({"tomorrow": 1})), "model.field", "tomorrow");
    assert_refused(with(GENERATE, "safetySettings", json!([{"method": "x"}])), "model.field", "method");
}

#[test]
fn the_second_spelling_of_a_field_is_refused_alone_and_beside_the_first() {
    for (field, value) in [
        ("system_instruction", json!({"parts": [{"text": "t"}]})),
        ("generation_config", json!({"maxOutputTokens": 9})),
        ("safety_settings", json!([])),
        ("tool_config", json!({})),
        ("cached_content", json!("c")),
        ("service_tier", json!("standard")),
    ] {
        assert_refused(with(GENERATE, field, value), "model.field", "camelCase");
    }
    let (_, mut both) = plain(GENERATE);
    both["generationConfig"] = json!({"maxOutputTokens": 9});
    both["generation_config"] = json!({"maxOutputTokens": 60_000});
    assert_refused(post(Gemini, GENERATE, &both), "model.field", "generation_config");
    for (field, value) in
        [("max_output_tokens", json!(9)), ("candidate_count", json!(8)), ("thinking_config", json!({}))]
    {
        assert_refused(config(field, value), "model.field", field);
    }
    assert_refused(tool(json!({"function_declarations": []})), "model.tool", "camelCase");
    assert_refused(tool(json!({"google_search": {}})), "model.tool", "google_search");
    assert_refused(part(json!({"function_call": {"name": "f"}})), "model.source", "camelCase");
}

#[test]
fn tools_that_the_vendor_runs_are_refused_and_functions_of_the_callers_pass() {
    for (name, because) in gemini::TOOLS {
        assert_refused(tool(json!({ name: {} })), "model.tool", because);
        assert_refused(tool(json!({"functionDeclarations": [], name: {"x": 1}})), "model.tool", name);
        assert!(tool(json!({ name: null })).is_ok());
    }
    assert_refused(tool(json!({"tomorrow": {}})), "model.tool", "tools[1].tomorrow");
    assert_refused(with(GENERATE, "tools", json!({"googleSearch": {}})), "model.body", "tools");
    assert_refused(with(GENERATE, "tools", json!(["googleSearch"])), "model.body", "tools[0]");

    let all = json!({"name": "f", "description": "d", "behavior": "BLOCKING", "parameters": {"type": "OBJECT"},
        "parametersJsonSchema": {"type": "object", "$defs": {"my_name": {}}}, "response": {}, "responseJsonSchema": {}});
    assert!(tool(json!({"functionDeclarations": [all]})).is_ok());
    assert_refused(tool(json!({"functionDeclarations": [{"name": "f", "url": "https://a"}]})), "model.field", "url");
    for name in ["parameters", "parametersJsonSchema", "response", "responseJsonSchema"] {
        let function = json!({"name": "f", name: {"properties": {"a": {"$ref": "https://a/b.json"}}}});
        assert_refused(tool(json!({"functionDeclarations": [function]})), "model.source", "$ref");
    }
    for name in ["responseSchema", "responseJsonSchema"] {
        assert_refused(config(name, json!({"$ref": "https://a/b.json"})), "model.source", "$ref");
    }
    assert!(
        tool(json!({"computerUse": {"environment": "ENVIRONMENT_BROWSER", "excludedPredefinedFunctions": []}})).is_ok()
    );
    assert_refused(tool(json!({"computerUse": {"tomorrow": 1}})), "model.field", "tomorrow");
}

#[test]
fn counting_takes_contents_or_a_whole_call_of_the_same_model() {
    let whole = |model: &str, extra: Value| {
        let mut call = json!({"model": model, "contents": [], "generationConfig": {"maxOutputTokens": 9}});
        call.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        post(Gemini, COUNT, &json!({"generateContentRequest": call}))
    };
    assert_eq!(whole("models/m", json!({})).unwrap().max_output_tokens, 0);
    assert_refused(whole("models/other", json!({})), "model.field", "generateContentRequest.model");
    assert_refused(whole("models/m", json!({"cachedContent": "c"})), "model.field", "cachedContent");
    assert_refused(whole("models/m", json!({"tools": [{"googleSearch": {}}]})), "model.tool", "googleSearch");
    assert_refused(post(Gemini, COUNT, &json!({"tools": []})), "model.field", "tools");
}

#[test]
fn an_agents_real_call_is_allowed() {
    let body = json!({
        "systemInstruction": {"role": "user", "parts": [{"text": "You are an agent."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "go"}]},
            {"role": "model", "parts": [{"text": "I look.", "thought": true},
                {"functionCall": {"name": "read_file", "args": {"absolute_path": "/a"}}, "thoughtSignature": "CpcB"},
                {"functionCall": {"name": "ls", "args": {}}}]},
            {"role": "user", "parts": [
                {"functionResponse": {"id": "read_file-1", "name": "read_file", "response": {"output": "x"}}},
                {"functionResponse": {"id": "ls-1", "name": "ls", "response": {"error": "no"}}}]}],
        "tools": [{"functionDeclarations": [{"name": "read_file", "description": "d",
            "parametersJsonSchema": {"type": "object", "properties": {"absolute_path": {"type": "string"}}}}]}],
        "toolConfig": {"functionCallingConfig": {"mode": "AUTO"}},
        "generationConfig": {"temperature": 0, "topP": 0.95, "topK": 64, "thinkingConfig": {"includeThoughts": true}}});
    let asked = judge(Gemini, "POST", STREAM, Some("alt=sse"), body.to_string().as_bytes());
    let wanted = Asked { model: "gemini-2.5-pro".into(), max_output_tokens: 0, stream: true, long_cache: false };
    assert_eq!(asked, Ok(wanted));
}
