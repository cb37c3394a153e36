//! `volary model test`: the smallest call there is, over the very path that runs take.

use crate::connect::{Scripted, Target};
use crate::refusal::Refusal;
use crate::{Gate, call, inject, relay};
use api::grants::{FromGateway, Upstream};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use model::Dialect;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How long a probe may take.
const PROBE_SECS: u64 = 60;
/// Longest answer that is read, in bytes.
const ANSWER_AT_MOST: usize = 1024 * 1024;
/// Longest quotation of a provider's words, in characters.
const QUOTED_CHARS: usize = 300;

/// Makes the call and tells the server what came of it.
pub(crate) async fn probe(gate: &Gate, id: u64, route: Upstream, model: &str) {
    let mut status = 0;
    let said =
        match tokio::time::timeout(Duration::from_secs(PROBE_SECS), answer(gate, &route, model, &mut status)).await {
            Ok(Ok(said)) => said,
            Ok(Err(refusal)) => refusal.why,
            Err(_) => format!("The model did not answer within {PROBE_SECS} seconds."),
        };
    gate.server.post(FromGateway::Probed { id, status, said });
}

async fn answer(gate: &Gate, route: &Upstream, model: &str, status: &mut u16) -> Result<String, Refusal> {
    if route.dialect == Dialect::OpenaiResponses {
        let body = json!({ "model": model, "max_output_tokens": 16, "store": false, "input": "ping" });
        let text = once(gate, route, "/v1/responses", body, status).await?;
        return Ok(sentence(*status, &text));
    }
    if route.dialect == Dialect::Gemini {
        let contents = json!([{ "role": "user", "parts": [{ "text": "ping" }] }]);
        let body = json!({ "contents": contents, "generationConfig": { "maxOutputTokens": 16 } });
        let text = once(gate, route, &format!("/v1beta/models/{model}:generateContent"), body, status).await?;
        return Ok(sentence(*status, &text));
    }
    let body =
        |ceiling: &str| json!({ "model": model, ceiling: 16, "messages": [{ "role": "user", "content": "ping" }] });
    let path = if route.dialect == Dialect::Anthropic { "/v1/messages" } else { "/v1/chat/completions" };
    let text = once(gate, route, path, body("max_tokens"), status).await?;
    // OpenAI's newer models know the ceiling by another name only, and say so.
    if *status == 400 && route.dialect == Dialect::Openai && text.contains("max_completion_tokens") {
        let text = once(gate, route, path, body("max_completion_tokens"), status).await?;
        return Ok(sentence(*status, &text));
    }
    Ok(sentence(*status, &text))
}

async fn once(gate: &Gate, route: &Upstream, path: &str, body: Value, status: &mut u16) -> Result<String, Refusal> {
    let credential = &route.credential.0;
    let scrubber = gate.recent.note(&route.secret, credential, Instant::now());
    let to = Target::of(&route.place)?;
    let scripted = Scripted { owner: "probe", dialect: route.dialect, credential };
    let open = async || call::open(gate, &route.place, &to, &scripted).await;
    let connection = open().await?;
    let request = inject::probe(route.dialect, path, &to, Bytes::from(body.to_string()), credential)?;
    let (response, _connection) = call::exchange(connection, request, open).await?;
    *status = response.status().as_u16();
    relay::passable(&response)?;
    let body = response.into_body();
    match Limited::new(body, ANSWER_AT_MOST).collect().await {
        // Scrubbed before anything is cut out of it: half a key would not be found any more.
        Ok(whole) => {
            let whole = whole.to_bytes();
            Ok(String::from_utf8_lossy(&scrubber.scrub(&whole)).into_owned())
        }
        Err(_) => Err(Refusal::fault("upstream.cut", "The model provider broke off in its answer.")),
    }
}

/// One sentence for the person who asked.
fn sentence(status: u16, text: &str) -> String {
    if (200..300).contains(&status) {
        return "The model answered.".to_owned();
    }
    let answer: Value = serde_json::from_str(text).unwrap_or_default();
    let words = answer["error"]["message"].as_str().or(answer["error"].as_str()).unwrap_or(text);
    let quoted: String = words.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(QUOTED_CHARS).collect();
    format!("The provider answered with status {status}: {quoted}")
}
