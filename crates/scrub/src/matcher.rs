//! Finding values in whole texts.

use crate::{
    Stream,
    encodings::{self, Form},
};
use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use model::Secret;
use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};

/// The shortest value that is looked for, in bytes. A shorter one would be found all over honest text;
/// whoever accepts secrets should refuse shorter ones.
pub const MIN_BYTES: usize = 8;

/// Longest KIND in a placeholder: so that the placeholder is at most 32 bytes, four times the shortest value.
const MAX_KIND: usize = 21;

/// The most bytes of all forms together for which the fastest tables are made: those take up to 512 bytes
/// for each, here 8 MiB. Beyond, far smaller ones are made, at about a third of the speed (measured: 190 to 530 MB/s).
const MAX_FAST_BYTES: usize = 16 * 1024;

/// Knows values and replaces them. Cheap to clone; clones share the values.
///
/// Looked for are: the value itself, its hex (either case), base 64 (standard and URL-safe, at any
/// alignment), percent-encoding (six common ways, either case), JSON string escaping (six common ways,
/// once and twice) and the value reversed. Where several start at one place, the longest is replaced;
/// of two that overlap, the first.
///
/// A value that begins or ends as a placeholder does (`…[`) can appear once more where a text had all of it
/// but that bracket before a placeholder: nothing is shown then that was not in the text beside the value.
#[derive(Clone)]
pub struct Scrubber(Arc<Values>);

struct Values {
    finder: Finder,
    /// Sorted, each once.
    forms: Vec<Form>,
    /// For each form, the index of its placeholder.
    kinds: Vec<usize>,
    placeholders: Vec<String>,
    /// Whether any form starts with this byte.
    first: [bool; 256],
    longest: usize,
}

enum Finder {
    /// One pass over the text. Its tables hold the values in a spread-out form that is not overwritten when dropped.
    Automaton(Box<AhoCorasick>),
    /// Form by form; only when the automaton's tables would not fit (gigabytes of values).
    OneByOne,
}

impl Scrubber {
    /// A scrubber of these values; `kind` says in the placeholder what stood there (the secret's name).
    ///
    /// A value is looked for as it is and without white space around it (a file's last newline). Values of
    /// less than [`MIN_BYTES`] bytes are ignored. Of KIND only ASCII letters, digits and `./_-` are kept, at most 21.
    pub fn new(secrets: impl IntoIterator<Item = (String, Secret<String>)>) -> Self {
        Self::build(secrets, true)
    }

    /// As [`Scrubber::new`], form by form: what the automaton is tested against.
    #[cfg(test)]
    pub(crate) fn without_automaton(secrets: impl IntoIterator<Item = (String, Secret<String>)>) -> Self {
        Self::build(secrets, false)
    }

    fn build(secrets: impl IntoIterator<Item = (String, Secret<String>)>, automaton: bool) -> Self {
        let mut placeholders: Vec<String> = Vec::new();
        let mut found: BTreeMap<Form, usize> = BTreeMap::new();
        for (kind, value) in secrets {
            let value = value.expose();
            let placeholder = placeholder(&kind, value);
            for value in [value.as_str(), value.trim()] {
                if value.len() < MIN_BYTES {
                    continue;
                }
                for form in encodings::of(value) {
                    // First come, first named: the placeholder does not depend on the order of a map.
                    found.entry(form).or_insert(placeholders.len());
                }
            }
            placeholders.push(placeholder);
        }
        let (forms, kinds): (Vec<_>, Vec<_>) = found.into_iter().unzip();
        let mut first = [false; 256];
        for form in &forms {
            first[usize::from(form[0])] = true;
        }
        let kind = if forms.iter().map(|form| form.len()).sum::<usize>() <= MAX_FAST_BYTES {
            AhoCorasickKind::DFA
        } else {
            AhoCorasickKind::ContiguousNFA
        };
        // Without the prefilter: it jumps to rare bytes, and so many forms leave none rare (500 MB/s instead of 100).
        let mut builder = AhoCorasick::builder();
        builder.match_kind(MatchKind::LeftmostLongest).kind(Some(kind)).prefilter(false);
        let finder = automaton
            .then(|| builder.build(forms.iter().map(|form| &form[..])))
            .and_then(Result::ok)
            .map_or(Finder::OneByOne, |automaton| Finder::Automaton(Box::new(automaton)));
        let longest = forms.iter().map(|form| form.len()).max().unwrap_or(0);
        Self(Arc::new(Values { finder, forms, kinds, placeholders, first, longest }))
    }

    /// Whether there is nothing to look for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.forms.is_empty()
    }

    /// `text` with every value replaced; the very same bytes when it holds none.
    #[must_use]
    pub fn scrub<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        let Some(mut found) = self.find(text) else {
            return Cow::Borrowed(text);
        };
        let (mut out, mut rest) = (Vec::with_capacity(text.len()), text);
        loop {
            out.extend_from_slice(&rest[..found.start]);
            out.extend_from_slice(found.placeholder.as_bytes());
            rest = &rest[found.end..];
            match self.find(rest) {
                Some(next) => found = next,
                None => break,
            }
        }
        out.extend_from_slice(rest);
        Cow::Owned(out)
    }

    /// As [`Scrubber::scrub`], on text that stays text.
    #[must_use]
    pub fn scrub_str<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match self.scrub(text.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            // A form can only begin and end inside a character if it was itself cut there (a value reversed
            // byte by byte); then what is left of that character is replaced.
            Cow::Owned(scrubbed) => Cow::Owned(match String::from_utf8(scrubbed) {
                Ok(text) => text,
                Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
            }),
        }
    }

    /// Scrubs a text that arrives in pieces.
    #[must_use]
    pub fn stream(&self) -> Stream {
        Stream::new(self.clone())
    }

    /// The first place in `text` where a value stands, and the longest form there.
    pub(crate) fn find(&self, text: &[u8]) -> Option<Found<'_>> {
        let values = &*self.0;
        let (form, start, end) = match &values.finder {
            Finder::Automaton(automaton) => {
                let found = automaton.find(text)?;
                (found.pattern().as_usize(), found.start(), found.end())
            }
            Finder::OneByOne => (0..text.len()).find_map(|start| {
                let rest = &text[start..];
                let forms = values.forms.iter().enumerate();
                let here = forms.filter(|(_, form)| rest.starts_with(&form[..])).max_by_key(|(_, form)| form.len());
                here.map(|(at, form)| (at, start, start + form.len()))
            })?,
        };
        Some(Found { start, end, placeholder: &values.placeholders[values.kinds[form]] })
    }

    /// Where the longest end of `text` begins that could become a form, were more to come; `text.len()` if none could.
    pub(crate) fn held_from(&self, text: &[u8]) -> usize {
        let values = &*self.0;
        let earliest = text.len().saturating_sub(values.longest.saturating_sub(1));
        let could_grow = |end: &[u8]| {
            // The first form that sorts after `end` extends it, if any does.
            let after = values.forms.partition_point(|form| &form[..] <= end);
            values.forms.get(after).is_some_and(|form| form.starts_with(end))
        };
        (earliest..text.len())
            .find(|&from| values.first[usize::from(text[from])] && could_grow(&text[from..]))
            .unwrap_or(text.len())
    }
}

/// One place where a value stands.
pub(crate) struct Found<'a> {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) placeholder: &'a str,
}

impl fmt::Debug for Scrubber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrubber")
    }
}

/// No quote, backslash or control character, so that JSON stays JSON; no part of `value`.
fn placeholder(kind: &str, value: &str) -> String {
    let kept: String = kind
        .chars()
        .map(|char| if char.is_ascii_alphanumeric() || "./_-".contains(char) { char } else { '-' })
        .take(MAX_KIND)
        .collect();
    let named = format!("[scrubbed:{kept}]");
    let value = value.trim();
    if kept.is_empty() || value.len() >= MIN_BYTES && named.contains(value) {
        return "[scrubbed:secret]".to_owned();
    }
    named
}
