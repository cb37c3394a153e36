//! Events of a box: JSON texts, one of whose kinds carries bytes in base 64.
//!
//! A value in such bytes is replaced in the bytes. Replaced in their base 64, it would leave neither base 64 to
//! decode nor, around the value, the bytes that share a character with it.

use crate::{Scrubber, json};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::borrow::Cow;

/// Stands in the place of an output whose bytes cannot be written in base 64 without spelling a value.
const LEFT_OUT: &[u8] = b"[an output is left out: its base 64 spelled a secret]\n";

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
}

/// An event of the kind `output`. Of a field that is there twice nothing can be said, and it is none.
#[derive(Deserialize)]
struct Output {
    kind: String,
    data_b64: String,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// The JSON text of an event with every value and credential replaced; the very same text when it holds none.
///
/// Of an `output`, the bytes in `data_b64` are scrubbed and encoded again. In everything else that is JSON the strings
/// are, and JSON it stays; what is no JSON is scrubbed as the text that it is. Total: any text gives a text.
#[must_use]
pub fn scrub_event(scrubber: &Scrubber, text: &str) -> String {
    output(scrubber, text).unwrap_or_else(|| json::scrub(scrubber, text).into_owned())
}

/// As [`scrub_event`], of an output; none if `text` is no output whose bytes can be decoded.
fn output(scrubber: &Scrubber, text: &str) -> Option<String> {
    if serde_json::from_str::<Kind>(text).ok()?.kind != "output" {
        return None;
    }
    let Output { kind, data_b64, mut rest } = serde_json::from_str(text).ok()?;
    let bytes = STANDARD.decode(&data_b64).ok()?;
    let scrubbed = scrubber.scrub(&bytes);
    rest.insert("kind".to_owned(), kind.into());
    let event = with(scrubber, &rest, "data_b64", &encoded(scrubber, &scrubbed));
    let same = matches!(scrubbed, Cow::Borrowed(_)) && is_same(&event, text);
    Some(if same { text.to_owned() } else { event })
}

/// Whether two JSON texts say the same.
fn is_same(one: &str, other: &str) -> bool {
    let read = serde_json::from_str::<Value>;
    matches!((read(one), read(other)), (Ok(one), Ok(other)) if one == other)
}

/// The JSON text of an event: these fields, scrubbed, and one more whose text already is.
pub(crate) fn with(scrubber: &Scrubber, fields: &Map<String, Value>, name: &str, text: &str) -> String {
    let around = Value::Object(fields.clone()).to_string();
    let around = json::scrub(scrubber, &around);
    // The text is put in last, so that a value in another field cannot touch it.
    match serde_json::from_str::<Map<String, Value>>(&around) {
        Ok(mut event) => {
            event.insert(name.to_owned(), text.into());
            Value::Object(event).to_string()
        }
        Err(_) => around.into_owned(),
    }
}

/// Base 64 of scrubbed bytes. Bytes chosen to spell a value once they are encoded are left out; formats are not looked
/// for in it, since base 64 of honest bytes can look like anything.
pub(crate) fn encoded(scrubber: &Scrubber, bytes: &[u8]) -> String {
    let values = scrubber.values_alone();
    [bytes, LEFT_OUT]
        .map(|bytes| STANDARD.encode(bytes))
        .into_iter()
        .find(|text| matches!(values.scrub_str(text), Cow::Borrowed(_)))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Secret;
    use proptest::prelude::*;
    use serde_json::json;

    const KEY: &str = "sk-canary-0123456789abcdef";

    fn of(key: &str) -> Scrubber {
        Scrubber::new([("model/m".to_owned(), Secret::new(key.to_owned()))])
    }

    fn output_of(bytes: &[u8]) -> String {
        json!({"kind": "output", "id": "t1", "stream": "stdout", "data_b64": STANDARD.encode(bytes)}).to_string()
    }

    fn bytes_of(event: &str) -> Vec<u8> {
        let event: Value = serde_json::from_str(event).unwrap();
        STANDARD.decode(event["data_b64"].as_str().unwrap()).unwrap()
    }

    /// Whether the text or the bytes that it encodes hold the key or the middle of its base 64, at any alignment.
    fn shows(event: &str, key: &str) -> bool {
        let bytes = bytes_of(event);
        let forms = (0..3).map(|before| {
            let text = STANDARD.encode([&b"..."[..before], key.as_bytes()].concat());
            text[4..text.len() - 4].to_owned()
        });
        forms
            .chain([key.to_owned()])
            .any(|form| event.contains(&form) || bytes.windows(form.len()).any(|window| window == form.as_bytes()))
    }

    #[test]
    fn a_key_in_an_output_survives_nowhere_and_the_rest_of_the_output_is_intact() {
        for before in 0..6 {
            let head = [b"\x00\xffa\x80bc", &b"zzzzzz"[..before]].concat();
            let event = output_of(&[&head[..], KEY.as_bytes(), b"\n\xfe the rest\n"].concat());
            assert!(shows(&event, KEY), "the test looks in the right place");
            let after = scrub_event(&of(KEY), &event);
            assert!(!shows(&after, KEY), "{after}");
            assert_eq!(bytes_of(&after), [&head[..], b"[scrubbed:model/m]\n\xfe the rest\n"].concat());
            let others: Value = serde_json::from_str(&after).unwrap();
            assert_eq!(
                (&others["kind"], &others["id"], &others["stream"]),
                (&json!("output"), &json!("t1"), &json!("stdout"))
            );
            assert_eq!(scrub_event(&of(KEY), &after), after, "a second scrub changes nothing");
        }
    }

    #[test]
    fn a_key_that_an_output_shows_in_base_64_is_replaced_in_the_output() {
        let said = format!("encoded: {}.", STANDARD.encode(KEY));
        let after = scrub_event(&of(KEY), &output_of(said.as_bytes()));
        let shown = String::from_utf8(bytes_of(&after)).unwrap();
        assert!(shown.starts_with("encoded: [scrubbed:model/m]") && shown.ends_with('.'), "{shown}");
    }

    #[test]
    fn an_output_whose_data_is_no_base_64_is_scrubbed_as_text() {
        for data in [format!("{KEY}!"), format!("a{}", STANDARD.encode(KEY))] {
            let event = json!({"kind": "output", "id": "t1", "stream": "stdout", "data_b64": data}).to_string();
            assert_eq!(scrub_event(&of(KEY), &event), of(KEY).scrub_str(&event));
            assert!(!scrub_event(&of(KEY), &event).contains(&STANDARD.encode(KEY)[..30]));
        }
    }

    #[test]
    fn an_output_with_a_field_twice_is_scrubbed_as_text() {
        let key = STANDARD.encode(KEY);
        let event = format!(r#"{{"kind":"output","data_b64":"{key}","data_b64":"aGk="}}"#);
        let after = scrub_event(&of(KEY), &event);
        assert_eq!(after, of(KEY).scrub_str(&event));
        assert!(!after.contains(&key[..30]));
    }

    #[test]
    fn a_key_in_another_field_of_an_output_is_replaced_too() {
        let event = json!({"kind": "output", "id": KEY, "stream": "stdout", "data_b64": "aGk="}).to_string();
        let after = scrub_event(&of(KEY), &event);
        assert!(after.contains("[scrubbed:model/m]") && !after.contains(KEY), "{after}");
        assert_eq!(bytes_of(&after), b"hi");
    }

    #[test]
    fn a_key_behind_json_escapes_in_the_base_64_is_replaced() {
        let key: String = STANDARD.encode(KEY).chars().map(|char| format!("\\u{:04x}", u32::from(char))).collect();
        let after = scrub_event(&of(KEY), &format!(r#"{{"kind":"\u006futput","data_b64":"{key}"}}"#));
        assert_eq!(bytes_of(&after), b"[scrubbed:model/m]");
    }

    #[test]
    fn bytes_whose_base_64_is_the_key_itself_are_left_out() {
        let key = "abcdefghijklmnop";
        let event = output_of(&STANDARD.decode(key).unwrap());
        assert!(event.contains(key));
        let after = scrub_event(&of(key), &event);
        assert_eq!(bytes_of(&after), LEFT_OUT);
    }

    #[test]
    fn what_holds_no_key_is_left_as_it_is_to_the_byte() {
        for text in
            [output_of(b"hello").as_str(), r#"{ "data_b64" : "aGk=", "kind":"output" }"#, "[1, 2]", "no JSON", ""]
        {
            assert_eq!(scrub_event(&of(KEY), text), text);
        }
    }

    #[test]
    fn all_that_is_no_output_is_scrubbed_as_text() {
        for text in [
            json!({"kind": "note", "text": KEY, "data_b64": STANDARD.encode(KEY)}).to_string(),
            format!("\"{KEY}\""),
            format!("{KEY} {{"),
        ] {
            let after = scrub_event(&of(KEY), &text);
            assert_eq!(after, of(KEY).scrub_str(&text));
            assert!(!after.contains(KEY));
        }
    }

    proptest! {
        #[test]
        fn whatever_stands_around_a_key_what_is_left_is_that_and_a_placeholder(
            before in proptest::collection::vec(any::<u8>(), 0..40), after in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let event = output_of(&[&before[..], KEY.as_bytes(), &after].concat());
            let scrubbed = scrub_event(&of(KEY), &event);
            prop_assert!(!shows(&scrubbed, KEY));
            prop_assert_eq!(bytes_of(&scrubbed), [&before[..], b"[scrubbed:model/m]", &after].concat());
        }

    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn no_text_is_too_odd_and_an_output_stays_one(text in ".*", key in "[a-zA-Z0-9]{8,}") {
            let scrubber = of(&key);
            prop_assert_eq!(scrub_event(&scrubber, &text), scrubber.scrub_str(&text).into_owned());
            let event = json!({"kind": "output", "id": key, "data_b64": STANDARD.encode(&text)}).to_string();
            prop_assert_eq!(bytes_of(&scrub_event(&scrubber, &event)), scrubber.scrub(text.as_bytes()).into_owned());
        }
    }
}
