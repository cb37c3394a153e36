//! What an image says of itself beside its files: its variables, labels and commands, and how each layer was made.
//!
//! A build leaves there what it was given: `ENV` stands among the variables and in a step, an argument of the build in each
//! step that it was there for. No box gets any of it; but whoever has the image has it. It is read in one way for every
//! engine, and judged before there is a box. Nothing is judged here: which values are secrets is known elsewhere.
//!
//! Read [`said`], then [`Judge`].

use api::grants::WireSecret;
use api::images::{MAX_SAID, WORD, Word};
use model::{RunId, Secret};
use serde_json::Value;

/// Who says whether a box may be made of an image that says this of itself.
pub trait Judge: Send + Sync + std::fmt::Debug {
    /// Judges all that one image says, for a run, or for `nobody` where its box is made ahead. Blocks.
    ///
    /// # Errors
    /// [`Unfit`].
    fn judge(&self, run: &RunId, words: Vec<Word>) -> Result<(), Unfit>;
}

/// Why no box is made of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    /// What it says holds a key; by names alone, for people.
    Refused(String),
    /// Nobody judged it; worth another attempt.
    Unjudged(String),
}

/// All that an image's configuration says, as the OCI writes one (`config`, `history`, and texts beside them).
///
/// # Errors
/// A sentence, where it is more than [`MAX_SAID`] bytes.
pub(crate) fn said(configuration: &Value) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut say = |of: String, text: String| words.push(Word { of, text: WireSecret(Secret::new(text)) });
    let box_config = &configuration["config"];
    for variable in box_config["Env"].as_array().into_iter().flatten() {
        say("a variable of it".into(), text_of(variable));
    }
    for (key, value) in box_config["Labels"].as_object().into_iter().flatten() {
        say(format!("its label {key}"), format!("{key}={}", text_of(value)));
    }
    for (number, step) in configuration["history"].as_array().into_iter().flatten().enumerate() {
        say(format!("step {} of its history", number + 1), text_of(step));
    }
    let rest = |of: &Value, without: &[&str]| -> Vec<(String, String)> {
        let all = of.as_object().into_iter().flatten().filter(|(key, _)| !without.contains(&key.as_str()));
        all.map(|(key, value)| (format!("its {key}"), text_of(value))).filter(|(_, text)| !text.is_empty()).collect()
    };
    let rest = [rest(box_config, &["Env", "Labels"]), rest(configuration, &["config", "history", "rootfs"])];
    rest.into_iter().flatten().for_each(|(of, text)| say(of, text));
    let bytes: usize = words.iter().map(|word| word.of.len() + word.text.0.expose().len() + WORD).sum();
    if bytes > MAX_SAID {
        let most = MAX_SAID >> 20;
        return Err(format!("its variables, labels and history are more than {most} MiB, which is not looked through"));
    }
    Ok(words)
}

/// Every text of a value, a space between them, and each name of an object before what it names.
fn text_of(value: &Value) -> String {
    let joined = |parts: Vec<String>| parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
    match value {
        Value::String(text) => text.clone(),
        Value::Array(all) => joined(all.iter().map(text_of).collect()),
        Value::Object(all) => joined(all.iter().map(|(key, value)| format!("{key}={}", text_of(value))).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) => String::new(),
    }
}
