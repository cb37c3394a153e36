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
