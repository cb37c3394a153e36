//! Placeholders, known again: in a text that is about to be written, where they must not come in by whoever was shown one in a
//! credential's place; and in a text that was scrubbed, where they say what was found.
//!
//! Read [`brought_in`], then [`Shown`].

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

/// Every placeholder of a text that has a fingerprint, in their order.
fn all(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    places(text).filter_map(|(_, one)| one.filter(|one| one.print.is_some()).map(|one| one.whole))
}

/// Where a placeholder may begin, and the one that does begin there.
fn places(text: &[u8]) -> impl Iterator<Item = (usize, Option<Placeholder<'_>>)> {
    let begins = text.iter().enumerate().filter(|(_, byte)| **byte == b'[');
    begins.map(|(at, _)| (at, Placeholder::at_start(&text[at..])))
}

/// One placeholder, in a text.
struct Placeholder<'a> {
    whole: &'a [u8],
    of_format: bool,
    kind: &'a [u8],
    print: Option<&'a [u8]>,
}

impl<'a> Placeholder<'a> {
    /// The one that `text` begins with.
    fn at_start(text: &'a [u8]) -> Option<Self> {
        let start = STARTS.iter().find(|start| text.starts_with(start.as_bytes()))?;
        let longest = &text[start.len()..text.len().min(MAX_PLACEHOLDER)];
        let name = longest.iter().take_while(|b| b.is_ascii_alphanumeric() || b"./_-".contains(b)).count();
        let (kind, rest) = longest.split_at(name);
        let print = match rest {
            [b']', ..] => None,
            [b'#', rest @ ..] => {
                let (print, end) = rest.split_at_checked(Key::DIGITS)?;
                let is_print = print.iter().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(b));
                (is_print && end.first() == Some(&b']')).then_some(Some(print))?
            }
            _ => return None,
        };
        let end = start.len() + name + print.map_or(0, |print| print.len() + 1) + 1;
        (name > 0).then(|| Self { whole: &text[..end], of_format: *start == STARTS[0], kind, print })
    }
}

/// What a scrubbed text shows that was found in it, counted as the text comes in pieces.
#[derive(Debug, Default)]
pub struct Shown {
    /// The end of the text so far, where a placeholder may have begun.
    held: Vec<u8>,
    counts: BTreeMap<Found, u64>,
}

/// One thing that was found: whatever has the same kind and fingerprint is the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// Whether it was found by the format of a credential; else it is the value of a secret.
    pub of_format: bool,
    /// The rule's id, or the secret's name.
    pub kind: String,
    /// Its fingerprint; none where there was no key for it.
    pub print: Option<String>,
}

/// Different things that are counted; further ones are not.
const MOST_COUNTED: usize = 10_000;

impl Shown {
    /// Takes the next piece in.
    pub fn take(&mut self, piece: &[u8]) {
        let mut text = std::mem::take(&mut self.held);
        text.extend_from_slice(piece);
        let held = self.count(&text, false);
        self.held = text.split_off(held);
    }

    /// Counts the placeholders of a text up to where one may begin that is not whole, unless nothing follows; gives that
    /// place, or the text's end.
    fn count(&mut self, text: &[u8], last: bool) -> usize {
        for (at, one) in places(text) {
            let Some(one) = one else {
                if !last && text.len() - at < MAX_PLACEHOLDER {
                    return at;
                }
                continue;
            };
            let owned = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let found = Found { of_format: one.of_format, kind: owned(one.kind), print: one.print.map(owned) };
            if self.counts.len() < MOST_COUNTED || self.counts.contains_key(&found) {
                *self.counts.entry(found).or_default() += 1;
            }
        }
        text.len()
    }

    /// The counts of the text as it is, of which nothing more comes.
    fn whole(&self) -> BTreeMap<Found, u64> {
        let mut whole = Self { held: Vec::new(), counts: self.counts.clone() };
        whole.count(&self.held, true);
        whole.counts
    }

    /// What was found, but for what `before`, the same text unscrubbed, showed already.
    #[must_use]
    pub fn beyond(&self, before: &Self) -> BTreeMap<Found, u64> {
        let before = before.whole();
        let less = |found: &Found| before.get(found).copied().unwrap_or_default();
        let counts = self.whole().into_iter().map(|(found, times)| (times.saturating_sub(less(&found)), found));
        counts.filter(|(times, _)| *times > 0).map(|(times, found)| (found, times)).collect()
    }
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

    #[test]
    fn what_was_found_is_counted_by_kind_and_fingerprint_wherever_the_text_is_cut() {
        let (one, other) = ("[redacted: npm-token#1f2e3d4c]", "[redacted: npm-token#00000000]");
        let before = format!("[ {one} [scrubbed:x");
        let after = format!("[ {one} [scrubbed:x {other}[{other}[scrubbed:model/m] {one}] [redacted: jwt");
        for size in 1..after.len() {
            let shown = |text: &str| {
                let mut shown = Shown::default();
                text.as_bytes().chunks(size).for_each(|piece| shown.take(piece));
                shown
            };
            let found = |of_format, kind: &str, print: Option<&str>| Found {
                of_format,
                kind: kind.to_owned(),
                print: print.map(str::to_owned),
            };
            let expected = [
                (found(false, "model/m", None), 1),
                (found(true, "npm-token", Some("00000000")), 2),
                (found(true, "npm-token", Some("1f2e3d4c")), 1),
            ];
            assert_eq!(shown(&after).beyond(&shown(&before)), BTreeMap::from(expected), "in pieces of {size}");
        }
    }
}
