//! Credentials that were live in the last hour, for scrubbing what boxes say. Older ones are dropped.

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
    values: Vec<(Secret<String>, Instant)>,
    scrubber: Option<Scrubber>,
}

impl Recent {
    /// A credential is leased at `now`.
    pub(crate) fn note(&self, credential: &Secret<String>, now: Instant) {
        if credential.expose().is_empty() {
            return;
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, last)) = kept.values.iter_mut().find(|(value, _)| value.expose() == credential.expose()) {
            *last = now;
            return;
        }
        kept.values.push((credential.share(), now));
        kept.scrubber = None;
    }

    /// The scrubber for what is said at `now`.
    pub(crate) fn scrubber(&self, now: Instant) -> Scrubber {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = kept.values.len();
        kept.values.retain(|(_, last)| now.saturating_duration_since(*last) <= KEPT);
        if kept.values.len() != before {
            kept.scrubber = None;
        }
        if let Some(scrubber) = &kept.scrubber {
            return scrubber.clone();
        }
        let scrubber = of(kept.values.iter().map(|(value, _)| value));
        kept.scrubber = Some(scrubber.clone());
        scrubber
    }
}

/// A scrubber over credentials; empty ones are none.
pub(crate) fn of<'a>(values: impl IntoIterator<Item = &'a Secret<String>>) -> Scrubber {
    Scrubber::new(values.into_iter().filter(|v| !v.expose().is_empty()).map(|v| ("model-key".to_owned(), v.share())))
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
        recent.note(&key, start);
        recent.note(&key, start + KEPT / 2);
        assert!(hidden(start + KEPT / 2 + KEPT));
        assert!(!hidden(start + KEPT / 2 + KEPT + Duration::from_millis(1)));
    }
}
