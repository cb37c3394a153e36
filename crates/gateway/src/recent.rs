//! Credentials that were live in the last hour, and their scrubbers. Older ones are dropped.
//!
//! An answer is scrubbed of the one credential that its call carried, what a box says of all of them and of whatever
//! has the format of a credential: that is read and kept, while an answer is what an agent works with.
//! Making a scrubber costs more than a call; it is made once.

use model::Secret;
use scrub::Scrubber;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long after its last lease a credential is still looked for.
const KEPT: Duration = Duration::from_secs(3600);

/// The credentials, and the scrubber made of them.
#[derive(Default)]
pub(crate) struct Recent(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    each: Vec<One>,
    all: Option<Scrubber>,
}

struct One {
    value: Secret<String>,
    last: Instant,
    scrubber: Scrubber,
}

impl Recent {
    /// A credential is leased at `now`; gives the scrubber for the answer. An empty one is no credential.
    pub(crate) fn note(&self, credential: &Secret<String>, now: Instant) -> Scrubber {
        if credential.expose().is_empty() {
            return of([]);
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.drop_old(now);
        if let Some(one) = kept.each.iter_mut().find(|one| one.value.expose() == credential.expose()) {
            one.last = now;
            return one.scrubber.clone();
        }
        let scrubber = of([credential]);
        kept.each.push(One { value: credential.share(), last: now, scrubber: scrubber.clone() });
        kept.all = None;
        scrubber
    }

    /// The scrubber for what is said at `now`.
    pub(crate) fn scrubber(&self, now: Instant) -> Scrubber {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.drop_old(now);
        if let Some(scrubber) = &kept.all {
            return scrubber.clone();
        }
        let scrubber = of(kept.each.iter().map(|one| &one.value)).with_formats();
        kept.all = Some(scrubber.clone());
        scrubber
    }
}

impl Kept {
    fn drop_old(&mut self, now: Instant) {
        let before = self.each.len();
        self.each.retain(|one| now.saturating_duration_since(one.last) <= KEPT);
        if self.each.len() != before {
            self.all = None;
        }
    }
}

fn of<'a>(values: impl IntoIterator<Item = &'a Secret<String>>) -> Scrubber {
    Scrubber::new(values.into_iter().map(|value| ("model-key".to_owned(), value.share())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_looked_for_until_an_hour_after_its_last_lease() {
        let recent = Recent::default();
        let start = Instant::now();
        let text = b"the key is sk-canary-0123456789 here";
        let hidden = |at: Instant| !recent.scrubber(at).scrub(text).windows(9).any(|w| w == b"sk-canary");
        assert!(!hidden(start), "nothing was leased yet");
        let key = Secret::new("sk-canary-0123456789".to_owned());
        assert!(!recent.note(&key, start).is_empty());
        assert!(!recent.note(&key, start + KEPT / 2).is_empty());
        assert!(hidden(start + KEPT / 2 + KEPT));
        assert!(!hidden(start + KEPT / 2 + KEPT + Duration::from_millis(1)));
    }
}
