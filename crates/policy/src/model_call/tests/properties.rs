//! What holds of any body at all.

use super::*;
use proptest::prelude::*;

/// JSON that often has the shape of a call, and the words that matter in it.
fn any_json() -> impl Strategy<Value = Value> {
    let word = prop::sample::select(vec![
        "type",
        "source",
        "url",
        "file",
        "content",
        "messages",
        "tools",
        "input",
        "role",
        "text",
        "image",
        "tool_result",
        "model",
        "function",
        "image_url",
        "data:",
        "base64",
        "store",
        "stream",
        "system",
        "custom",
        "message",
        "parameters",
        "contents",
        "parts",
        "inlineData",
        "mimeType",
        "image/png",
        "functionCall",
        "functionResponse",
        "functionDeclarations",
        "generationConfig",
        "$ref",
        "output",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::hash_map(word.clone().prop_map(str::to_owned), inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn any_road() -> impl Strategy<Value = (Dialect, &'static str)> {
    prop::sample::select(vec![
        (Anthropic, MESSAGES),
        (Anthropic, "/v1/messages/count_tokens"),
        (Openai, CHAT),
        (Openai, RESPONSES),
        (Gemini, GENERATE),
        (Gemini, COUNT),
    ])
}

proptest! {
    #[test]
    fn any_bytes_get_a_word(road in any_road(), method: String, query: Option<String>, body: Vec<u8>) {
        prop_assert!(judge(road.0, &method, road.1, query.as_deref(), &body).is_err());
        prop_assert!(judge(road.0, "POST", road.1, None, &body).is_err());
    }

    #[test]
    fn any_json_gets_a_word(road in any_road(), field in "messages|input|tools|system|store|stream|text|response_format|contents|generationConfig|toolConfig", value in any_json()) {
        let mut body = plain(road.1).1;
        body[&field] = value;
        if let Err(refusal) = post(road.0, road.1, &body) {
            prop_assert!(!refusal.why.is_empty());
        }
    }

    #[test]
    fn a_field_on_no_list_is_refused_by_its_name(road in any_road(), name in "[a-z]{3,4}_[a-z]{5,9}x") {
        let answer = with(road.1, &name, json!(1));
        prop_assert_eq!(answer.as_ref().unwrap_err().rule, "model.field");
        prop_assert!(answer.unwrap_err().why.contains(&name));
    }

    #[test]
    fn no_path_names_a_gemini_model_but_by_its_plain_name(name: String, act in "[a-zA-Z:]{0,20}", version in "v1(beta|alpha)?") {
        let path = format!("/{version}/models/{name}:{act}");
        if let Ok(asked) = judge(Gemini, "POST", &path, None, plain(GENERATE).1.to_string().as_bytes()) {
            prop_assert!(gemini::is_model(&name) && asked.model == name);
            prop_assert!(version != "v1alpha" && ["generateContent", "countTokens"].contains(&&*act));
        }
    }
}
