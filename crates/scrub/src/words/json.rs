//! A value that is a JSON document: its texts, as whoever parses it has them.

use super::{is_place, is_secrets, of_text};
use serde_json::Value;

/// The words of a document, in its order; none where `value` is no object or array.
pub(super) fn of(value: &str) -> Option<Vec<String>> {
    let value = value.trim();
    if !value.starts_with(['{', '[']) {
        return None;
    }
    let document: Value = serde_json::from_str(value).ok()?;
    let mut all = Vec::new();
    walk("", &document, &mut all);
    Some(all)
}

/// `name` is the member's whose value, or part of a value, this is. serde_json bounds how deep a document is.
fn walk(name: &str, value: &Value, all: &mut Vec<String>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| walk(name, value, all)),
        Value::Array(items) => items.iter().for_each(|item| walk(name, item, all)),
        Value::String(text) => {
            let is_one = !text.contains(['\n', '\r']);
            if is_one && is_secrets(name) && !text.contains("://") && !is_place(text) {
                all.push(text.clone());
            }
            // Of many lines it is a key; of one, what looks like chance, or an address with a sign-in, as in any text.
            let line = if is_one { format!("{name}: {text}") } else { text.clone() };
            all.extend(of_text(&line).map(str::to_owned));
        }
        Value::Number(number) if is_secrets(name) => all.push(number.to_string()),
        Value::Number(_) | Value::Bool(_) | Value::Null => {}
    }
}
