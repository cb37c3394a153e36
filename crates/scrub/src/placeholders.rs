//! Placeholders in a text that is about to be written: whoever was shown one in a credential's place must not put it there.

use crate::{Key, MAX_PLACEHOLDER};
use std::collections::BTreeMap;

/// How a placeholder begins: of a format, of a value.
const STARTS: [&str; 2] = ["[redacted: ", "[scrubbed:"];

/// The first placeholder in `new` that stands there more often than in `old`, which need not be text.
///
/// Placeholders are those with a fingerprint, as every model is shown them; `[redacted: npm-token]` alone is a text.
#[must_use]
pub fn brought_in<'a>(old: &[u8], new: &'a str) -> Option<&'a str> {
    let mut there = BTreeMap::<&[u8], usize>::new();
    if all(new.as_bytes()).next().is_some() {
        all(old).for_each(|one| *there.entry(one).or_default() += 1);
    }
    all(new.as_bytes()).find_map(|one| match there.get_mut(one) {
        Some(left) if *left > 0 => {
            *left -= 1;
            None
        }
        _ => str::from_utf8(one).ok(),
    })
}

/// Every placeholder of a text, in their order.
fn all(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let begins = text.iter().enumerate().filter(|(_, byte)| **byte == b'[');
    begins.filter_map(|(at, _)| placeholder(&text[at..]))
}

/// The placeholder that `text` begins with.
fn placeholder(text: &[u8]) -> Option<&[u8]> {
    let start = STARTS.iter().find(|start| text.starts_with(start.as_bytes()))?;
    let longest = &text[start.len()..text.len().min(MAX_PLACEHOLDER)];
    let name = longest.iter().take_while(|b| b.is_ascii_alphanumeric() || b"./_-".contains(b)).count();
    let [b'#', print @ .., b']'] = longest.get(name..name + Key::DIGITS + 2)? else { return None };
    let is_print = print.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b));
    (name > 0 && is_print).then(|| &text[..start.len() + name + Key::DIGITS + 2])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Formats, Scrubber};
    use model::Secret;

    #[test]
    fn every_placeholder_that_a_model_is_shown_is_known_as_one() {
        let key = Key::new(Secret::new([3; 32]));
        for name in ["model/m", "capability/forge.x_y-z", "an odd näme"] {
            let value = "hunter2-hunter2";
            let scrubber = Scrubber::keyed(&key, [(name.to_owned(), Secret::new(value.to_owned()))]);
            let shown = scrubber.scrub_str(value).into_owned();
            assert_eq!(brought_in(b"", &format!("a {shown} b")), Some(shown.as_str()));
        }
        let formats = Scrubber::keyed(&key, []).with_formats(Formats::load().unwrap());
        let shown = formats.scrub_str(&format!("npm_{}", "a1B2".repeat(9))).into_owned();
        assert_eq!(brought_in(b"", &shown), Some(shown.as_str()));
    }

    #[test]
    fn what_stood_there_before_may_stand_there_again_and_not_once_more() {
        let one = "[redacted: npm-token#1f2e3d4c]";
        let other = "[scrubbed:model/m#00000000]";
        assert_eq!(brought_in(one.as_bytes(), one), None);
        assert_eq!(brought_in(one.as_bytes(), &format!("{one}{one}")), Some(one));
        assert_eq!(brought_in(one.as_bytes(), &format!("{one} {other}")), Some(other));
        assert_eq!(brought_in(format!("{one}{one}").as_bytes(), one), None, "one may be taken out");
    }

    #[test]
    fn what_only_resembles_one_is_a_text() {
        for text in [
            "",
            "[",
            "[redacted: npm-token]",
            "[redacted: npm-token#1f2e3d4]",
            "[redacted: npm-token#1f2e3d4c",
            "[redacted: npm-token#1F2E3D4C]",
            "[redacted: #1f2e3d4c]",
            "[scrubbed:#1f2e3d4c]",
            "[scrubbed:a b#1f2e3d4c]",
            "[redacted: x#1f2eä3d]",
            "[redacted: ä#1f2e3d4c]",
        ] {
            assert_eq!(brought_in(b"", text), None, "{text}");
        }
    }
}
