//! The lists for Gemini's generateContent (v1beta and v1, read 2026-11).
//!
//! The model stands in the path, and so does whether the answer streams. The vendor takes every field in two
//! spellings, `generationConfig` and `generation_config`, and one body can hold both: of the two only the first,
//! which its own clients send, is on the lists, so that no field is read that was not judged.

use super::object::{Fields, Path, each, object, only, refused, schema, short, wrong};
use super::{Asked, json};
use crate::Refusal;
use serde_json::{Map, Value};

type Object = Map<String, Value>;

/// What a path asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Generate,
    Stream,
    Count,
}

/// The only query there is: of the stream, in the form that is metered and scrubbed.
const STREAM_QUERY: &str = "alt=sse";

/// What a path asks for, and of which model: of `/v1beta/models/{model}:generateContent` and its like. A model that
/// was tuned, or what the vendor keeps under another name, has another path and is none of these.
fn road(path: &str) -> Option<(Act, &str)> {
    let named = path.strip_prefix("/v1beta/models/").or_else(|| path.strip_prefix("/v1/models/"))?;
    let (model, act) = named.split_once(':')?;
    let act = match act {
        "generateContent" => Act::Generate,
        "streamGenerateContent" => Act::Stream,
        "countTokens" => Act::Count,
        _ => return None,
    };
    is_model(model).then_some((act, model))
}

/// Whether this can be the id of a model in a path: 1 to 256 characters of letters, digits, `-`, `_` and `.`.
#[must_use]
pub fn is_model(id: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    (1..=256).contains(&id.len()) && id.bytes().all(plain) && !id.bytes().all(|b| b == b'.')
}

/// Whether a path is in the form of this vendor's, listed or not.
#[must_use]
pub fn is_path(path: &str) -> bool {
    path.starts_with("/v1beta/") || path.starts_with("/v1/models/") && path.contains(':')
}

/// Whether a call of this path only counts tokens.
pub(super) fn only_counts(path: &str) -> bool {
    matches!(road(path), Some((Act::Count, _)))
}

/// As [`super::judge`].
pub(super) fn judge(method: &str, path: &str, query: Option<&str>, body: &[u8]) -> Result<Asked, Refusal> {
    let Some((act, model)) = road(path) else {
        return Err(Refusal::new(
            "model.path",
            "Policy: of this provider only /v1beta/models/{model}:generateContent, :streamGenerateContent?alt=sse and \
             :countTokens can be reached, and only for inference.",
        ));
    };
    if method != "POST" {
        return Err(Refusal::new("model.method", format!("Policy: {path} takes the method POST only.")));
    }
    let wanted = (act == Act::Stream).then_some(STREAM_QUERY);
    if query != wanted {
        let why = match wanted {
            Some(query) => format!("Policy: {path} takes exactly the query ?{query}, and no key in it."),
            None => format!("Policy: {path} takes no query; the handle stands in a header, not behind a ?."),
        };
        return Err(Refusal::new("model.query", why));
    }
    let body = json::object(body)?;
    let top = Path::TOP;
    let max_output_tokens = match act {
        Act::Count => {
            count(&body, model)?;
            0
        }
        Act::Generate | Act::Stream => generate(&body, &top, model)?,
    };
    Ok(Asked { model: model.to_owned(), max_output_tokens, stream: act == Act::Stream, long_cache: false })
}

const SEARCHES: &str = "the vendor would search the web";
const STORED: &str = "the vendor would take something it stored";
const OWN_RUN: &str = "it is of tools that the vendor runs";
const UNPRICED: &str = "the price table does not know what it costs";
const OTHER_MODEL: &str = "another model than the one of the path could answer";
const SNAKE: &str = "the vendor takes each field in two spellings, and one of them is judged: write it in camelCase";

/// Fields that are refused for a reason of their own, wherever they stand; `serviceTier`, `store` and `model` but for
/// the value that is the usual one.
pub(super) const KNOWN: [(&str, &str); 22] = [
    ("audioTimestamp", UNPRICED),
    ("audioTranscription", UNPRICED),
    ("audioTranscriptionConfig", UNPRICED),
    ("cachedContent", STORED),
    ("codeExecutionResult", OWN_RUN),
    ("enableEnhancedCivicAnswers", "the vendor would look things up"),
    ("executableCode", OWN_RUN),
    ("fileData", "the vendor would fetch the address or take a stored file; send the content itself (inlineData)"),
    ("imageConfig", UNPRICED),
    ("includeServerSideToolInvocations", OWN_RUN),
    ("labels", "the vendor would keep them with the bill"),
    ("model", OTHER_MODEL),
    ("modelArmorConfig", "another service would read what is sent"),
    ("modelSelectionConfig", OTHER_MODEL),
    ("retrievalConfig", OWN_RUN),
    ("routingConfig", OTHER_MODEL),
    ("serviceTier", "the price table knows the tiers \"standard\" and \"flex\" only"),
    ("speechConfig", UNPRICED),
    ("store", "the vendor would keep this call; send the request with \"store\": false"),
    ("toolCall", OWN_RUN),
    ("toolResponse", OWN_RUN),
    ("videoMetadata", UNPRICED),
];

/// Tools that the vendor runs, and what it would do.
pub(super) const TOOLS: [(&str, &str); 11] = [
    ("codeExecution", "the vendor would run code"),
    ("enterpriseWebSearch", SEARCHES),
    ("exaAiSearch", SEARCHES),
    ("fileSearch", STORED),
    ("googleMaps", "the vendor would look up places"),
    ("googleSearch", SEARCHES),
    ("googleSearchRetrieval", SEARCHES),
    ("mcpServers", "the vendor would call other servers"),
    ("parallelAiSearch", SEARCHES),
    ("retrieval", STORED),
    ("urlContext", "the vendor would fetch addresses"),
];

/// Top-level fields of a call.
const GENERATE: [&str; 6] =
    ["contents", "generationConfig", "safetySettings", "systemInstruction", "toolConfig", "tools"];

/// Fields of `generationConfig`; `candidateCount` and `responseModalities` with one value only.
pub(super) const GENERATION: [&str; 17] = [
    "candidateCount",
    "frequencyPenalty",
    "logprobs",
    "maxOutputTokens",
    "mediaResolution",
    "presencePenalty",
    "responseJsonSchema",
    "responseLogprobs",
    "responseMimeType",
    "responseModalities",
    "responseSchema",
    "seed",
    "stopSequences",
    "temperature",
    "thinkingConfig",
    "topK",
    "topP",
];

/// As [`only`], in one spelling.
fn fields(object: &Object, at: &Path<'_>, allowed: &[&str]) -> Result<(), Refusal> {
    if let Some((name, _)) = object.iter().find(|(name, value)| !value.is_null() && name.contains('_')) {
        return Err(refused("model.field", &at.field(name), SNAKE));
    }
    only(object, at, allowed, &KNOWN)
}

/// The object of a field, if it is set.
fn set<'b>(body: &'b Object, name: &str, at: &Path<'_>) -> Result<Option<&'b Object>, Refusal> {
    body.set(name).map(|value| object(value, at)).transpose()
}

/// Judges what a call generates from; gives the ceiling of what is written, 0 when there is none.
fn generate(body: &Object, at: &Path<'_>, model: &str) -> Result<u64, Refusal> {
    let usual: [(&str, &[Value]); 3] = [
        ("model", &[model.into(), format!("models/{model}").into()]),
        ("serviceTier", &["standard".into(), "flex".into()]),
        ("store", &[false.into()]),
    ];
    let usual = usual.iter().filter(|(name, values)| body.get(*name).is_some_and(|value| values.contains(value)));
    fields(body, at, &GENERATE.into_iter().chain(usual.map(|(name, _)| *name)).collect::<Vec<_>>())?;
    each(body.set("contents"), &at.field("contents"), content)?;
    let place = at.field("systemInstruction");
    if let Some(system) = set(body, "systemInstruction", &place)? {
        content(system, &place)?;
    }
    each(body.set("tools"), &at.field("tools"), tool)?;
    let place = at.field("toolConfig");
    if let Some(config) = set(body, "toolConfig", &place)? {
        fields(config, &place, &["functionCallingConfig"])?;
        let place = place.field("functionCallingConfig");
        if let Some(calling) = set(config, "functionCallingConfig", &place)? {
            fields(calling, &place, &["allowedFunctionNames", "mode"])?;
        }
    }
    each(body.set("safetySettings"), &at.field("safetySettings"), |setting, at| {
        fields(setting, at, &["category", "threshold"])
    })?;
    let place = at.field("generationConfig");
    set(body, "generationConfig", &place)?.map_or(Ok(0), |config| generation(config, &place))
}

fn generation(config: &Object, at: &Path<'_>) -> Result<u64, Refusal> {
    fields(config, at, &GENERATION)?;
    if config.set("candidateCount").is_some_and(|n| n.as_u64() != Some(1)) {
        let because = "each further answer is written, and paid, once more";
        return Err(refused("model.field", &at.field("candidateCount"), because));
    }
    if config.set("responseModalities").is_some_and(|kinds| *kinds != Value::from(vec!["TEXT"])) {
        return Err(refused("model.field", &at.field("responseModalities"), "the price table knows [\"TEXT\"] only"));
    }
    let place = at.field("thinkingConfig");
    if let Some(thinking) = set(config, "thinkingConfig", &place)? {
        fields(thinking, &place, &["includeThoughts", "thinkingBudget", "thinkingLevel"])?;
    }
    for name in ["responseSchema", "responseJsonSchema"] {
        schema(config.set(name), &at.field(name))?;
    }
    // A number that we read as one and the vendor as another would be reserved wrongly.
    let place = at.field("maxOutputTokens");
    config.set("maxOutputTokens").map_or(Ok(0), |n| n.as_u64().ok_or_else(|| wrong(&place, "a whole number")))
}

/// Counting takes the contents, or a whole call of the same model.
fn count(body: &Object, model: &str) -> Result<(), Refusal> {
    let top = Path::TOP;
    fields(body, &top, &["contents", "generateContentRequest"])?;
    each(body.set("contents"), &top.field("contents"), content)?;
    let place = top.field("generateContentRequest");
    if let Some(call) = set(body, "generateContentRequest", &place)? {
        generate(call, &place, model)?;
    }
    Ok(())
}

fn content(content: &Object, at: &Path<'_>) -> Result<(), Refusal> {
    fields(content, at, &["parts", "role"])?;
    each(content.set("parts"), &at.field("parts"), part)
}

/// A part: only what holds its content itself, and what the model or a tool of the agent's said.
fn part(part: &Object, at: &Path<'_>) -> Result<(), Refusal> {
    const PART: [&str; 7] =
        ["functionCall", "functionResponse", "inlineData", "mediaResolution", "text", "thought", "thoughtSignature"];
    listed_source(part, at, &PART)?;
    let place = at.field("inlineData");
    if let Some(blob) = set(part, "inlineData", &place)? {
        inline(blob, &place)?;
    }
    let place = at.field("mediaResolution");
    if let Some(resolution) = set(part, "mediaResolution", &place)? {
        fields(resolution, &place, &["level"])?;
    }
    let place = at.field("functionCall");
    if let Some(call) = set(part, "functionCall", &place)? {
        fields(call, &place, &["args", "id", "name"])?;
    }
    let place = at.field("functionResponse");
    if let Some(response) = set(part, "functionResponse", &place)? {
        fields(response, &place, &["id", "name", "parts", "response"])?;
        each(response.set("parts"), &place.field("parts"), |inner, at| {
            listed_source(inner, at, &["inlineData"])?;
            let place = at.field("inlineData");
            set(inner, "inlineData", &place)?.map_or(Ok(()), |blob| inline(blob, &place))
        })?;
    }
    Ok(())
}

/// As [`fields`]; what is on no list is a source of content, and refused as one.
fn listed_source(part: &Object, at: &Path<'_>, allowed: &[&str]) -> Result<(), Refusal> {
    fields(part, at, allowed).map_err(|no| Refusal::new("model.source", no.why))
}

/// Content in base 64, of a kind that costs what text costs.
fn inline(blob: &Object, at: &Path<'_>) -> Result<(), Refusal> {
    fields(blob, at, &["data", "displayName", "mimeType"])?;
    let place = at.field("mimeType");
    let Some(Value::String(kind)) = blob.set("mimeType") else { return Err(wrong(&place, "a string")) };
    if kind.starts_with("image/") || kind.starts_with("text/") || kind == "application/pdf" {
        return Ok(());
    }
    let because = format!(
        "what \"{}\" costs is not known to the price table, which knows images, PDF files and text",
        short(kind)
    );
    Err(refused("model.source", &place, &because))
}

fn tool(tool: &Object, at: &Path<'_>) -> Result<(), Refusal> {
    for (name, value) in tool {
        if !value.is_null() && !matches!(name.as_str(), "functionDeclarations" | "computerUse") {
            let spelled = |(known, _): &&(&str, &str)| known == name;
            let because = match TOOLS.iter().find(spelled) {
                Some((_, because)) => because,
                None if name.contains('_') => SNAKE,
                None => {
                    "it is run by the vendor, or not known to be run by you; declare functions that you run yourself"
                }
            };
            return Err(refused("model.tool", &at.field(name), because));
        }
    }
    let place = at.field("computerUse");
    if let Some(computer) = set(tool, "computerUse", &place)? {
        // Names functions that the caller runs, of a screen that is the caller's.
        fields(computer, &place, &["environment", "excludedPredefinedFunctions"])?;
    }
    each(tool.set("functionDeclarations"), &at.field("functionDeclarations"), |function, at| {
        const SCHEMAS: [&str; 4] = ["parameters", "parametersJsonSchema", "response", "responseJsonSchema"];
        fields(function, at, &[&["behavior", "description", "name"], &SCHEMAS[..]].concat())?;
        SCHEMAS.iter().try_for_each(|name| schema(function.set(name), &at.field(name)))
    })
}
