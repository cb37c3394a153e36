//! The scrubber: no secret that is live leaves by an answer, a log line, an event or an error.
//!
//! It knows the exact values of the live secrets and replaces each, in every common encoding, by
//! `[scrubbed:KIND#FINGERPRINT]`; and, where people read and where things are kept, the published formats of
//! credentials, by `[redacted: RULE#FINGERPRINT]`. It cannot fail: whatever comes in, something scrubbed comes out.
//!
//! What it does not find: a value cut in parts by the sender, encrypted, compressed, wrapped over
//! lines, or spelled in an encoding that is not in [`Scrubber`]'s list; a credential that has no format, or one of a
//! vendor that is not in `rules.toml`, in any encoding but its own. Leaving no live secret where
//! an agent can read it is the wall; this is the net below.
//!
//! Read [`Scrubber`], then [`Stream`] (the same over pieces as they arrive) and [`Text`] (pieces of text), then
//! [`event`] (one thing that a box says), [`Said`] (all that it says, event after event) and [`request`] (what a model is sent).

mod around;
mod current;
mod encodings;
pub mod event;
pub mod json;
mod key;
mod matcher;
mod pattern;
mod placeholders;
pub mod request;
mod rules;
mod said;
mod search;
mod stream;
mod text;
mod values;
mod words;

pub use current::{Current, Now, unlocked};
pub use key::Key;
pub use matcher::{MAX_PLACEHOLDER, MIN_BYTES, Scrubber};
pub use placeholders::{Found, Shown, brought_in};
pub use rules::{Formats, FormatsError};
pub use said::Said;
pub use stream::{Span, Spans, Stream};
pub use text::Text;
pub use words::{MOST_BYTES, MOST_WORDS, words};

use model::Secret;
use std::borrow::Cow;

/// The password of a value that is `user:password`, without the line's end that a file brings along: who is given the
/// value may say this part alone, as git and basic sign-ins do.
#[must_use]
pub fn password(value: &str) -> Option<&str> {
    Some(value.split_once(':')?.1.trim())
}

/// Named values, each with what may be said of it alone beside it: its [`password`], if it has one (an address,
/// `https://…`, has none), and its [`mod@words`], if it is a text.
pub fn with_parts(
    values: impl IntoIterator<Item = (String, Secret<String>)>,
) -> impl Iterator<Item = (String, Secret<String>)> {
    values.into_iter().flat_map(|(name, value)| {
        let password = password(value.expose()).filter(|password| !password.starts_with("//"));
        let parts = password.into_iter().map(Cow::Borrowed).chain(words(value.expose()));
        let parts: Vec<_> = parts.map(|part| (name.clone(), Secret::new(part.into_owned()))).collect();
        std::iter::once((name, value)).chain(parts)
    })
}

#[cfg(test)]
mod tests;
