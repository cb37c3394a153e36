//! What a secret's name and its value may be.
//!
//! Read [`check_name`], [`check_value`], [`check_text`].

use crate::fault::Fault;

/// Longest value, in bytes.
pub const MAX_VALUE: usize = 16_384;

/// Shortest value, in bytes: the scrubber cannot look for less without mangling everything.
pub const MIN_VALUE: usize = scrub::MIN_BYTES;

/// Whether a text is 1 to 64 characters of `a-z`, `0-9`, `-`.
#[must_use]
pub fn plain_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
}

/// Whether a text is 1 to 128 characters of a host, its port beside it: `a-z`, `0-9`, `.`, `-`, `:`.
fn host_name(text: &str) -> bool {
    let is_one = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b':');
    (1..=128).contains(&text.len()) && text.bytes().all(is_one) && !text.starts_with(['-', '.', ':'])
}

/// Checks a secret's name: `model/<name>` for a model's key, `capability/<name>` for what a profile's egress rows name,
/// `registry/<host[:port]>` for `user:password` at a registry of images.
///
/// # Errors
/// 400.
pub fn check_name(name: &str) -> Result<(), Fault> {
    match name.split_once('/') {
        Some(("model" | "capability", rest)) if plain_name(rest) => Ok(()),
        Some(("registry", host)) if host_name(host) => Ok(()),
        _ => {
            let message = format!(
                "{name:?} is no secret's name: it is `model/` or `capability/` and 1 to 64 characters of a-z, 0-9 and '-', \
                 or `registry/` and a host."
            );
            Err(Fault::bad("secret.name", message))
        }
    }
}

fn check_length(value: &str) -> Result<(), Fault> {
    // Said without the white space around it, it is to be found, too.
    if value.trim().len() < MIN_VALUE || value.len() > MAX_VALUE {
        let message = format!(
            "A secret takes {MIN_VALUE} to {MAX_VALUE} bytes, white space around it not counted; this one has {}.",
            value.trim().len()
        );
        return Err(Fault::bad("secret.length", message));
    }
    Ok(())
}

/// Whether a value can stand in a header.
pub(super) fn check_value(value: &str) -> Result<(), Fault> {
    check_length(value)?;
    if !value.bytes().all(|b| b.is_ascii_graphic()) {
        let message = "This secret goes into a header: printable ASCII characters without spaces or line breaks. What a \
                       command reads from a file is a custom secret under `capability/`.";
        return Err(Fault::bad("secret.characters", message));
    }
    Ok(())
}

/// Whether a value can be a file of a command's, or its standard input: printable, with line ends and tabs.
pub(super) fn check_text(value: &str) -> Result<(), Fault> {
    check_length(value)?;
    // A form's bytes that are no UTF-8 come as this.
    let is_none = |c: char| c == char::REPLACEMENT_CHARACTER || c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    if value.chars().any(is_none) {
        let message = "A secret is printable text in UTF-8; beside that, line ends and tabs may stand in one.";
        return Err(Fault::bad("secret.characters", message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_could_split_a_header_or_is_too_short_to_be_found_is_refused() {
        assert!(check_value("sk-1234567").is_ok());
        assert!(check_value("sk-12345\r\nx: y").is_err());
        assert!(check_value(&"k".repeat(MIN_VALUE)).is_ok());
        assert!(check_value(&"k".repeat(MIN_VALUE - 1)).is_err());
        assert!(check_value(&"k".repeat(MAX_VALUE)).is_ok());
        assert!(check_value(&"k".repeat(MAX_VALUE + 1)).is_err());
    }

    #[test]
    fn white_space_around_a_text_does_not_make_it_long_enough() {
        assert!(check_text("  abcdefgh\n").is_ok());
        assert!(check_text("   abcdefg   \n").is_err());
        assert!(check_text("abcdefgh\u{fffd}0123").is_err());
    }

    #[test]
    fn a_name_is_of_a_model_a_capability_or_a_registry_and_nothing_else() {
        for good in ["model/anthropic", "registry/registry.corp:5000", "registry/localhost"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in [
            "registry/",
            "registry/a/b",
            "registry/A",
            "registry/../x",
            "registry/a@b",
            "model/",
            "anthropic",
            "model/a/b",
            "git/x",
            "model/../x",
            "model/A",
        ] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
