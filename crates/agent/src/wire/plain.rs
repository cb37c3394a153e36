//! Whether a JSON text can be read in one way only: the gateway refuses a body that holds anything else, and
//! one odd tool input of a model must not make every later request unsendable.

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::collections::HashSet;
use std::fmt;

/// Deepest nesting; the body around it adds a few levels, and JSON readers stop at 128.
const MAX_DEPTH: u8 = 64;

/// Whether `text` is JSON without repeated keys, unreadable numbers or texts, or very deep nesting.
pub(super) fn is_plain(text: &str) -> bool {
    let mut reader = serde_json::Deserializer::from_str(text);
    Plain(0).deserialize(&mut reader).and_then(|()| reader.end()).is_ok()
}

struct Plain(u8);

impl<'de> DeserializeSeed<'de> for Plain {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl Plain {
    fn inside<E: Error>(&self) -> Result<Self, E> {
        if self.0 < MAX_DEPTH { Ok(Self(self.0 + 1)) } else { Err(E::custom("too deep")) }
    }
}

impl<'de> Visitor<'de> for Plain {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }
    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }
    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }
    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(self.inside()?)?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let mut keys = HashSet::new();
        while let Some(key) = fields.next_key::<String>()? {
            fields.next_value_seed(self.inside()?)?;
            if !keys.insert(key) {
                return Err(A::Error::custom("a key stands twice"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_readers_could_read_differently_is_not_plain() {
        for plain in ["{}", r#"{"a":[1,2.5,-3,null,true,"x"],"b":{"a":1}}"#, " 1 "] {
            assert!(is_plain(plain), "{plain}");
        }
        let deep = format!("{}1{}", "[".repeat(65), "]".repeat(65));
        for odd in [r#"{"a":1,"a":2}"#, r#"{"b":{"a":1,"a":1}}"#, "1e999", r#""\ud800""#, "{", "{} {}", "", &deep] {
            assert!(!is_plain(odd), "{odd}");
        }
    }
}
