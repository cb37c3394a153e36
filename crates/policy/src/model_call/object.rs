//! How the lists are applied to an object, and how a refusal names the place.

use crate::Refusal;
use serde_json::{Map, Value};
use std::fmt;

/// A place in the body; printed as `messages[3].content[0].source`, and only when something is refused.
#[derive(Clone, Copy)]
pub(super) struct Path<'a> {
    before: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Top,
    Field(&'a str),
    Item(usize),
}

impl<'a> Path<'a> {
    pub(super) const TOP: Path<'static> = Path { before: None, step: Step::Top };

    pub(super) fn field(&'a self, name: &'a str) -> Path<'a> {
        Path { before: Some(self), step: Step::Field(name) }
    }
    pub(super) fn item(&'a self, at: usize) -> Path<'a> {
        Path { before: Some(self), step: Step::Item(at) }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(before) = self.before {
            before.fmt(f)?;
        }
        match self.step {
            Step::Top => Ok(()),
            Step::Field(name) => {
                let dot = if matches!(self.before, Some(Path { step: Step::Top, .. }) | None) { "" } else { "." };
                write!(f, "{dot}{}", short(name))
            }
            Step::Item(at) => write!(f, "[{at}]"),
        }
    }
}

/// A name the caller chose, fit for one line: at most 64 characters, escaped.
pub(super) fn short(name: &str) -> String {
    let cut: String = name.chars().take(64).flat_map(char::escape_debug).collect();
    if name.chars().nth(64).is_some() { cut + "…" } else { cut }
}

/// Fields of an object, where `null` is as absent.
pub(super) trait Fields {
    /// The field, unless it is absent or null.
    fn set(&self, name: &str) -> Option<&Value>;
}

impl Fields for Map<String, Value> {
    fn set(&self, name: &str) -> Option<&Value> {
        self.get(name).filter(|value| !value.is_null())
    }
}

/// A field that has the wrong type or value.
pub(super) fn wrong(at: &Path<'_>, expected: &str) -> Refusal {
    Refusal::new("model.body", format!("The field {at} must be {expected}."))
}

/// A field that policy refuses, for a reason.
pub(super) fn refused(rule: &'static str, at: &Path<'_>, because: &str) -> Refusal {
    Refusal::new(rule, format!("Policy, not a fault: {at} is refused, because {because}. Send the request without it."))
}

/// Refuses every field of `object` that is set and not in `allowed`, with the reason in `known` if one is given.
pub(super) fn only(
    object: &Map<String, Value>,
    at: &Path<'_>,
    allowed: &[&str],
    known: &[(&str, &str)],
) -> Result<(), Refusal> {
    for (name, value) in object {
        if value.is_null() || allowed.contains(&name.as_str()) {
            continue;
        }
        let because = known.iter().find(|(field, _)| field == name).map_or(UNKNOWN, |(_, because)| because);
        return Err(refused("model.field", &at.field(name), because));
    }
    Ok(())
}

const UNKNOWN: &str =
    "it is not on the list of fields known to make the vendor neither fetch, store, call out nor run code";

/// The object at `at`.
pub(super) fn object<'a>(value: &'a Value, at: &Path<'_>) -> Result<&'a Map<String, Value>, Refusal> {
    value.as_object().ok_or_else(|| wrong(at, "an object"))
}

/// Applies `judge` to each item of a list; an absent list is an empty one.
pub(super) fn each(
    list: Option<&Value>,
    at: &Path<'_>,
    judge: impl Fn(&Map<String, Value>, &Path<'_>) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let Some(list) = list else { return Ok(()) };
    for (index, item) in list.as_array().ok_or_else(|| wrong(at, "a list"))?.iter().enumerate() {
        let at = at.item(index);
        judge(object(item, &at)?, &at)?;
    }
    Ok(())
}

/// As [`each`], for content that may also be one string.
pub(super) fn text_or_each(
    content: Option<&Value>,
    at: &Path<'_>,
    judge: impl Fn(&Map<String, Value>, &Path<'_>) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    match content {
        Some(Value::String(_)) => Ok(()),
        Some(content) if !content.is_array() => Err(wrong(at, "a string or a list")),
        content => each(content, at, judge),
    }
}

/// The `type` of an object; empty when it has none.
pub(super) fn kind<'a>(object: &'a Map<String, Value>, at: &Path<'_>) -> Result<&'a str, Refusal> {
    match object.set("type") {
        None => Ok(""),
        Some(Value::String(kind)) => Ok(kind),
        Some(_) => Err(wrong(&at.field("type"), "a string")),
    }
}

/// Refuses content of a type that is on no list.
pub(super) fn unknown_content(kind: &str, at: &Path<'_>) -> Refusal {
    let because = format!("content of the type \"{}\" is not on the list of what stays in the request", short(kind));
    refused("model.source", at, &because)
}

/// Refuses a tool of a type that is on no list.
pub(super) fn unknown_tool(kind: &str, at: &Path<'_>) -> Refusal {
    let because = format!(
        "a tool of the type \"{}\" is run by the vendor, or not known to be run by you; declare tools that you run yourself",
        short(kind)
    );
    refused("model.tool", at, &because)
}

/// Refuses a schema that names a document elsewhere (`$ref` to anything but a place in itself).
pub(super) fn schema(value: Option<&Value>, at: &Path<'_>) -> Result<(), Refusal> {
    match value {
        Some(Value::Object(fields)) => fields.iter().try_for_each(|(name, value)| match (name.as_str(), value) {
            ("$ref" | "$dynamicRef", Value::String(target)) if !target.starts_with('#') => {
                Err(refused("model.source", &at.field(name), "a schema may only refer to itself (\"#/…\")"))
            }
            _ => schema(Some(value), &at.field(name)),
        }),
        Some(Value::Array(items)) => {
            items.iter().enumerate().try_for_each(|(index, item)| schema(Some(item), &at.item(index)))
        }
        _ => Ok(()),
    }
}

/// Refuses an address that the vendor would fetch; a `data:` URL holds its content itself.
pub(super) fn data_url(value: Option<&Value>, at: &Path<'_>) -> Result<(), Refusal> {
    match value {
        None => Ok(()),
        Some(Value::String(url)) if url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:")) => Ok(()),
        Some(Value::String(_)) => Err(refused(
            "model.source",
            at,
            "the vendor would fetch the address; only a data: URL, which holds the content itself, is allowed",
        )),
        Some(_) => Err(wrong(at, "a string")),
    }
}
