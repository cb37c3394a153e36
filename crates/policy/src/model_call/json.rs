//! JSON that can be read in one way only.

use crate::Refusal;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

/// The most values, keys and ends that a body may hold, about; a tree of them takes 50 MB at the worst.
/// The longest conversations hold some ten thousand.
const MAX_NODES: usize = 200_000;

/// Whether `text`, if it is JSON, holds few enough values to be read into a tree; it is not read for that.
#[must_use]
pub fn is_bounded(text: &[u8]) -> bool {
    nodes(text) <= MAX_NODES
}

/// The body as an object.
///
/// Refused are: more than [`MAX_NODES`] (before any tree is built), other than an object, a key that stands twice in one object (at any depth, also when
/// written with different escapes), bytes after the end, text that is no UTF-8, half surrogates,
/// numbers beyond a double, and more than 128 levels (the parser's own bound).
pub(super) fn object(body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    let refuse = |why: String| Refusal::new("model.body", why);
    if !is_bounded(body) {
        return Err(refuse(format!("The body holds more than {MAX_NODES} values; send less of them at once.")));
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = Once
        .deserialize(&mut reader)
        .and_then(|value| reader.end().map(|()| value))
        .map_err(|error| refuse(format!("The body is not JSON that can be judged: {error}.")))?;
    match value {
        Value::Object(fields) => Ok(fields),
        _ => Err(refuse("The body must be a JSON object.".to_owned())),
    }
}

/// How many values a body holds, at most: the marks that begin, separate or name one, outside of strings.
fn nodes(body: &[u8]) -> usize {
    let (mut count, mut quoted, mut escaped) = (0, false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' | b',' | b':' if !quoted => count += 1,
            _ => {}
        }
    }
    count
}

/// Reads a value in which every key stands once.
struct Once;

impl<'de> DeserializeSeed<'de> for Once {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Once {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut out = Vec::new();
        while let Some(item) = items.next_element_seed(Once)? {
            out.push(item);
        }
        Ok(Value::Array(out))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut out = Map::new();
        while let Some(key) = fields.next_key::<String>()? {
            let value = fields.next_value_seed(Once)?;
            if out.contains_key(&key) {
                return Err(A::Error::custom(format!(
                    "a key stands twice in one object: {}",
                    super::object::short(&key)
                )));
            }
            out.insert(key, value);
        }
        Ok(Value::Object(out))
    }
}
