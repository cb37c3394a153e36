//! One value, one sequence of bytes: JSON with one way to write everything.
//!
//! Object keys are sorted by their UTF-8 bytes; there is no white space; numbers are whole numbers of
//! 64 bits (a fraction or an exponent is refused, since nobody agrees on how to print those); strings
//! escape `"`, `\` and control characters only, by `\" \\ \b \f \n \r \t` and else `\u00xx` in lower case.
//! For what it accepts this is RFC 8785, but for the order of keys outside the basic plane.

use serde_json::Value;

/// Deepest nesting of arrays and objects, the outermost counted.
pub const MAX_DEPTH: usize = 32;

/// Why a value has no canonical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CanonicalError {
    /// A number is no whole number of 64 bits.
    #[error("writing a value in canonical bytes: a number in it is no whole number of 64 bits")]
    NotWhole,
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("writing a value in canonical bytes: it is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

/// The canonical bytes of `value`.
///
/// # Errors
/// [`CanonicalError`].
pub fn canonical(value: &Value) -> Result<Vec<u8>, CanonicalError> {
    let mut out = Vec::with_capacity(256);
    write(value, MAX_DEPTH, &mut out)?;
    Ok(out)
}

fn write(value: &Value, levels: usize, out: &mut Vec<u8>) -> Result<(), CanonicalError> {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => {
            let text = match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => number.to_string(),
                (_, Some(number)) => number.to_string(),
                _ => return Err(CanonicalError::NotWhole),
            };
            out.extend_from_slice(text.as_bytes());
        }
        Value::String(text) => string(text, out),
        Value::Array(items) => {
            let levels = levels.checked_sub(1).ok_or(CanonicalError::TooDeep)?;
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write(item, levels, out)?;
            }
            out.push(b']');
        }
        Value::Object(fields) => {
            let levels = levels.checked_sub(1).ok_or(CanonicalError::TooDeep)?;
            // Sorted here: whether the map sorts by itself depends on a feature that any crate can switch.
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by_key(|(key, _)| *key);
            out.push(b'{');
            for (at, (key, item)) in fields.into_iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                string(key, out);
                out.push(b':');
                write(item, levels, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in text.as_bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x0c => out.extend_from_slice(b"\\f"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..0x20 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn text(value: &Value) -> String {
        String::from_utf8(canonical(value).unwrap()).unwrap()
    }

    #[test]
    fn keys_are_sorted_by_their_bytes_at_every_level() {
        let value = json!({"b": {"z": 1, "a": [{"y": 0, "x": 0}]}, "a": null, "\u{e9}": true, "B": false, "": []});
        let expected = "{\"\":[],\"B\":false,\"a\":null,\"b\":{\"a\":[{\"x\":0,\"y\":0}],\"z\":1},\"\u{e9}\":true}";
        assert_eq!(text(&value), expected);
    }

    #[test]
    fn only_quotes_backslashes_and_control_characters_are_escaped() {
        let value = json!("\"\\/\u{8}\u{c}\n\r\t\0\u{1f}\u{7f}\u{e9}\u{2028}\u{1f600}");
        let expected = "\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0000\\u001f\u{7f}\u{e9}\u{2028}\u{1f600}\"";
        assert_eq!(text(&value), expected);
    }

    #[test]
    fn whole_numbers_of_64_bits_are_written_and_no_others() {
        assert_eq!(text(&json!([u64::MAX, i64::MIN, 0, -1])), "[18446744073709551615,-9223372036854775808,0,-1]");
        for bad in ["1.5", "1.0", "1e3", "-0", "18446744073709551616"] {
            let value: Value = serde_json::from_str(bad).unwrap();
            assert_eq!(canonical(&value), Err(CanonicalError::NotWhole), "{bad}");
        }
    }

    #[test]
    fn a_value_of_32_levels_is_written_and_one_of_33_is_not() {
        let nested = |levels: usize| (1..levels).fold(json!([]), |inner, _| json!([inner]));
        assert!(canonical(&nested(32)).is_ok());
        assert_eq!(canonical(&nested(33)), Err(CanonicalError::TooDeep));
        let nested = (1..33).fold(json!({}), |inner, _| json!({"a": inner}));
        assert_eq!(canonical(&nested), Err(CanonicalError::TooDeep));
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_back_and_written_the_same(
            fields in prop::collection::hash_map(any::<String>(), (any::<String>(), any::<i64>(), any::<bool>()), 0..6)
        ) {
            let value: Value = fields.into_iter().map(|(key, (a, b, c))| (key, json!([a, b, c, {"x": null}]))).collect();
            let bytes = canonical(&value).unwrap();
            let again: Value = serde_json::from_slice(&bytes).unwrap();
            prop_assert_eq!(&again, &value);
            prop_assert_eq!(canonical(&again).unwrap(), bytes);
        }
    }
}
