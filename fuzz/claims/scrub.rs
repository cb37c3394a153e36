//! What must hold of any bytes that are scrubbed, of values and of formats, whole and in pieces.

use scrub::Scrubber;

/// Holds of any bytes, given to a stream in pieces that `pieces` gives the lengths of (at least one byte each; what is left
/// when it ends is one more), by a scrubber that knows `value`.
pub fn holds(scrubber: &Scrubber, value: &str, bytes: &[u8], pieces: impl IntoIterator<Item = usize>) {
    let whole = scrubber.scrub(bytes);
    assert!(!whole.windows(value.len()).any(|w| w == value.as_bytes()), "a value is left");
    // The shortest thing that a rule replaces has three bytes, the shortest value eight.
    assert!(whole.len() <= bytes.len() * (scrub::MAX_PLACEHOLDER / 3), "{} of {}", whole.len(), bytes.len());
    stay(&String::from_utf8_lossy(&whole), &String::from_utf8_lossy(&scrubber.scrub(&whole)));
    let (mut stream, mut out, mut rest) = (scrubber.stream(), Vec::new(), bytes);
    for length in pieces {
        let (piece, after) = rest.split_at(length.clamp(1, rest.len().max(1)).min(rest.len()));
        out.extend(stream.push(piece));
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    out.extend(stream.push(rest));
    out.extend(stream.finish());
    assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&whole), "in pieces it is another");
}

/// A second scrub may find what stood so close to a token that only its placeholder shows where it ends; it takes no
/// placeholder away, and changes none.
pub fn stay(once: &str, twice: &str) {
    let mut left = placeholders(twice).into_iter();
    for placeholder in placeholders(once) {
        assert!(left.any(|it| it == placeholder), "{placeholder} is gone: {once} is {twice}");
    }
}

/// The placeholders of a text, in order.
fn placeholders(text: &str) -> Vec<&str> {
    let begins = text.match_indices('[').map(|(at, _)| &text[at..]);
    let whole = begins.filter_map(|rest| rest.find(']').map(|end| &rest[..=end]));
    whole.filter(|it| it.starts_with("[scrubbed:") || it.starts_with("[redacted: ")).collect()
}
