//! The scrubber itself: values first, then formats.

use crate::{
    Formats, Key, Spans, Stream,
    encodings::{self, Form},
    search::{self, Next, Search as _},
    values::Values,
};
use model::Secret;
use std::{
    borrow::Cow,
    collections::BTreeMap,
    fmt,
    sync::{Arc, OnceLock},
};

/// The shortest value that is looked for, in bytes. A shorter one would be found all over honest text;
/// whoever accepts secrets should refuse shorter ones.
pub const MIN_BYTES: usize = 8;

/// Longest placeholder, in bytes: six times the shortest value.
pub const MAX_PLACEHOLDER: usize = 48;

/// Longest KIND in a placeholder, in bytes: what the brackets and a fingerprint leave.
const MAX_KIND: usize = MAX_PLACEHOLDER - "[scrubbed:#]".len() - Key::DIGITS;

/// Knows values, and formats of credentials, and replaces both. Cheap to clone; clones share the values.
///
/// Of a value are looked for: itself, its hex (either case; with spaces, colons or `\x` between the bytes too), base 64
/// (standard and URL-safe, at any alignment), percent-encoding (seven common ways, either case), JSON string escaping (ten
/// common ways, once, and twice by any two of them), the entities of HTML and XML, the quoting of shells, Python's escapes, and
/// the value reversed. Where several start at one place, the longest is replaced;
/// of two that overlap, the first. Formats ([`Scrubber::with_formats`]) are looked for in what is left then.
///
/// A value that begins or ends as a placeholder does (`…[`) can appear once more where a text had all of it
/// but that bracket before a placeholder: nothing is shown then that was not in the text beside the value.
#[derive(Clone)]
pub struct Scrubber {
    values: Arc<Values>,
    /// Their forms in lower case, once they are asked for.
    folded: Arc<OnceLock<Values>>,
    formats: Option<Formats>,
    key: Option<Key>,
}

impl Scrubber {
    /// A scrubber of these values whose placeholders carry no fingerprint: for who has no workspace's key.
    ///
    /// `kind` says in the placeholder what stood there (the secret's name). A value is looked for as it is and without
    /// white space around it (a file's last newline). Values of less than [`MIN_BYTES`] bytes are ignored. Of KIND only
    /// ASCII letters, digits and `./_-` are kept, at most 28.
    pub fn new(secrets: impl IntoIterator<Item = (String, Secret<String>)>) -> Self {
        Self::of(None, secrets)
    }

    /// As [`Scrubber::new`], with fingerprints: `[scrubbed:KIND#1f2e3d4c]`. The same value has the same one under the
    /// same key, whoever computes it and in whatever encoding it was found; so has what formats find.
    pub fn keyed(key: &Key, secrets: impl IntoIterator<Item = (String, Secret<String>)>) -> Self {
        Self::of(Some(key.clone()), secrets)
    }

    fn of(key: Option<Key>, secrets: impl IntoIterator<Item = (String, Secret<String>)>) -> Self {
        let mut placeholders: Vec<String> = Vec::new();
        let mut found: BTreeMap<Form, usize> = BTreeMap::new();
        for (kind, value) in secrets {
            let value = value.expose();
            let placeholder = placeholder(&kind, value, key.as_ref());
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
        Self { values: Arc::new(Values::new(found, placeholders)), folded: Arc::default(), formats: None, key }
    }

    /// The same, that also replaces what looks like a credential, by `[redacted: RULE]`: tokens of vendors, private
    /// keys, passwords in addresses. For what people read, what is kept and what a model is sent; not for the files and
    /// answers that an agent works with, since what only looks like a credential is replaced as well.
    #[must_use]
    pub fn with_formats(self, formats: Formats) -> Self {
        Self { formats: Some(formats), ..self }
    }

    /// The same without the formats: values alone.
    #[must_use]
    pub fn values_alone(&self) -> Self {
        Self { formats: None, ..self.clone() }
    }

    /// The same without the values: formats alone; none where no formats are looked for.
    pub(crate) fn formats_alone(&self) -> Option<Self> {
        let values = Arc::new(Values::new([], Vec::new()));
        let (folded, key) = (Arc::default(), self.key.clone());
        self.formats.map(|formats| Self { values, folded, formats: Some(formats), key })
    }

    /// Whether there is nothing to look for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty() && self.formats.is_none()
    }

    /// `text` with every value and every credential replaced; the very same bytes when it holds none.
    #[must_use]
    pub fn scrub<'a>(&self, text: &'a [u8]) -> Cow<'a, [u8]> {
        let scrubbed = search::replace(&*self.values, text);
        let Some(formats) = self.formats else { return scrubbed };
        let marked = formats.marked(self.key());
        match scrubbed {
            Cow::Borrowed(text) => search::replace(&marked, text),
            Cow::Owned(text) => Cow::Owned(search::replace(&marked, &text).into_owned()),
        }
    }

    /// Whether a value stands in a name that may have lost its case on the way, as a header's has: in any of its forms,
    /// whatever their case. Formats are not looked for.
    #[must_use]
    pub fn is_in_name(&self, name: &str) -> bool {
        if self.values.is_empty() {
            return false;
        }
        let folded = self.folded.get_or_init(|| self.values.folded());
        matches!(folded.next(name.to_ascii_lowercase().as_bytes(), 0, true), Next::Found { .. })
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

    /// Scrubs a text that arrives in pieces, for people.
    #[must_use]
    pub fn stream(&self) -> Stream {
        Stream::new(self.clone(), false)
    }

    /// Scrubs a text that arrives in pieces, for a box: how it is cut says nothing of a value.
    #[must_use]
    pub fn even_stream(&self) -> Stream {
        Stream::new(self.clone(), true)
    }

    /// Says where values stand in a text that arrives in pieces.
    #[must_use]
    pub fn spans(&self) -> Spans {
        Spans::new(self.clone())
    }

    /// The values.
    pub(crate) fn values(&self) -> &Values {
        &self.values
    }

    /// The formats, if they are looked for.
    pub(crate) fn formats(&self) -> Option<Formats> {
        self.formats
    }

    /// The key of fingerprints.
    pub(crate) fn key(&self) -> Option<&Key> {
        self.key.as_ref()
    }
}

impl fmt::Debug for Scrubber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrubber")
    }
}

/// No quote, backslash or control character, so that JSON stays JSON; no part of `value`.
fn placeholder(kind: &str, value: &str, key: Option<&Key>) -> String {
    let kept: String = kind
        .chars()
        .map(|char| if char.is_ascii_alphanumeric() || "./_-".contains(char) { char } else { '-' })
        .take(MAX_KIND)
        .collect();
    let value = value.trim();
    let print = key.map_or_else(String::new, |key| format!("#{}", key.fingerprint(value.as_bytes())));
    let shows = |text: &str| value.len() >= MIN_BYTES && text.contains(value);
    let named = format!("[scrubbed:{kept}{print}]");
    if !kept.is_empty() && !shows(&named) {
        return named;
    }
    let unnamed = format!("[scrubbed:secret{print}]");
    if shows(&unnamed) { "[scrubbed:secret]".to_owned() } else { unnamed }
}
