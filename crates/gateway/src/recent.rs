//! Credentials that were live in the last hour, and their scrubbers. Older ones are dropped.
//!
//! An answer is scrubbed of the one credential that its call carried, as it is what an agent works with. What a box says
//! is read and kept, and what a model is sent leaves for good: they are scrubbed of all of them, and of whatever has the
//! format of a credential.
//! Making a scrubber costs more than a call; it is made once.
//!
//! The key of the fingerprints is the workspace's, and the server says it ([`Recent::know`]); until it has, nothing is
//! leased and the cable waits ([`Recent::known`]), so that one secret has one placeholder everywhere.

use model::profile::Sought;
use model::{Moment, Secret};
use policy::egress::signs::decoded;
use scrub::{Formats, FormatsError, Key, Scrubber};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::watch;

/// How long after its last lease a credential is still looked for.
const KEPT: Duration = Duration::from_secs(3600);
/// The longest life of a minted value that is reckoned with.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The credentials, and the scrubber made of them.
pub(crate) struct Recent {
    formats: Formats,
    kept: Mutex<Kept>,
    known: watch::Sender<bool>,
}

#[derive(Default)]
struct Kept {
    key: Option<Key>,
    each: Vec<One>,
    all: Option<Scrubber>,
}

struct One {
    /// The secret's name.
    name: String,
    value: Secret<String>,
    last: Instant,
    scrubber: Scrubber,
}

impl Recent {
    /// Nothing was leased yet.
    ///
    /// # Errors
    /// [`FormatsError`]: what boxes say could not be scrubbed of formats.
    pub(crate) fn new() -> Result<Self, FormatsError> {
        Ok(Self { formats: Formats::load()?, kept: Mutex::default(), known: watch::Sender::new(false) })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server said the key of the fingerprints.
    pub(crate) fn know(&self, key: Key) {
        let mut kept = self.kept();
        for one in &mut kept.each {
            one.scrubber = of(Some(&key), [(one.name.as_str(), &one.value)]);
        }
        kept.all = None;
        kept.key = Some(key);
        self.known.send_replace(true);
    }

    /// Returns once the key is known.
    pub(crate) async fn known(&self) {
        // It cannot end otherwise: the sender is `self`.
        drop(self.known.subscribe().wait_for(|known| *known).await);
    }

    /// The credential that the secret `name` is was leased at `now`; gives the scrubber for the answer. An empty one is
    /// no credential.
    pub(crate) fn note(&self, name: &str, credential: &Secret<String>, now: Instant) -> Scrubber {
        let mut kept = self.kept();
        if credential.expose().is_empty() {
            return of(kept.key.as_ref(), []);
        }
        kept.drop_old(now);
        if let Some(one) = kept.each.iter_mut().find(|one| one.value.expose() == credential.expose()) {
            one.last = one.last.max(now);
            return one.scrubber.clone();
        }
        let scrubber = of(kept.key.as_ref(), [(name, credential)]);
        let one = One { name: name.to_owned(), value: credential.share(), last: now, scrubber: scrubber.clone() };
        kept.each.push(one);
        kept.all = None;
        scrubber
    }

    /// As [`Recent::note`], of what a vendor minted and what may open something for `lives` from `now` on: it is looked for
    /// until an hour after that.
    pub(crate) fn note_minted(
        &self,
        name: &str,
        credential: &Secret<String>,
        until: Option<Moment>,
        now: Instant,
    ) -> Scrubber {
        let left = until.map_or(0, |until| until.since(Moment::from(SystemTime::now())));
        let lives = Duration::from_millis(u64::try_from(left).unwrap_or(0)).min(LONGEST);
        let scrubber = self.note(name, credential, now);
        if let Some(one) = self.kept().each.iter_mut().find(|one| one.value.expose() == credential.expose()) {
            one.last = one.last.max(now + lives);
        }
        scrubber
    }

    /// A scrubber of these values alone, each with the name of its secret.
    pub(crate) fn scrubber_of<'a>(&self, values: impl IntoIterator<Item = (&'a str, &'a Secret<String>)>) -> Scrubber {
        of(self.kept().key.as_ref(), values)
    }

    /// The scrubber for what is said at `now`.
    pub(crate) fn scrubber(&self, now: Instant) -> Scrubber {
        self.kept().all(self.formats, now)
    }

    /// As [`Recent::scrubber`], for what is logged: none on a thread that panics while somebody changes the credentials, for
    /// that may be this thread.
    pub(crate) fn of_the_log(&self, now: Instant) -> Option<Scrubber> {
        scrub::unlocked(&self.kept).map(|mut kept| kept.all(self.formats, now))
    }
}

impl Recent {
    /// The body of a request to a model, without what is sought: whatever an agent found it in, no model reads it. None
    /// if nothing is to be replaced. To be called beside the thread that serves.
    pub(crate) fn of_a_request(&self, body: &[u8], sought: Sought, now: Instant) -> Option<Vec<u8>> {
        let scrubber = self.scrubber(now);
        match sought {
            Sought::Formats => scrub::request::scrub(&scrubber, body),
            Sought::Values => scrub::request::scrub(&scrubber.values_alone(), body),
        }
    }
}

impl Recent {
    /// Whether a path and query hold a value that is kept here, or what has the format of a credential, as they are or in
    /// percent-encoding. Formats are looked for in each part alone: what a parameter is by its name, policy has judged.
    pub(crate) fn is_in_address(&self, address: &str, now: Instant) -> bool {
        let scrubber = self.scrubber(now);
        let parts = address.replace(['/', '?', '&', ';', '='], "\n");
        holds(&scrubber, &decoded(parts.as_bytes())) || holds(&scrubber.values_alone(), &decoded(address.as_bytes()))
    }
}

pub(crate) fn holds(scrubber: &Scrubber, text: &[u8]) -> bool {
    *scrubber.scrub(text) != *text
}

impl Kept {
    /// The scrubber of all of them, made if it is not there.
    fn all(&mut self, formats: Formats, now: Instant) -> Scrubber {
        self.drop_old(now);
        if let Some(scrubber) = &self.all {
            return scrubber.clone();
        }
        let values = self.each.iter().map(|one| (one.name.as_str(), &one.value));
        let scrubber = of(self.key.as_ref(), values).with_formats(formats);
        self.all = Some(scrubber.clone());
        scrubber
    }

    fn drop_old(&mut self, now: Instant) {
        let before = self.each.len();
        self.each.retain(|one| now.saturating_duration_since(one.last) <= KEPT);
        if self.each.len() != before {
            self.all = None;
        }
    }
}

/// Looks for each value, for the password of one that is `user:password`, and for the words of one that is a text.
fn of<'a>(key: Option<&Key>, values: impl IntoIterator<Item = (&'a str, &'a Secret<String>)>) -> Scrubber {
    let values = scrub::with_parts(values.into_iter().map(|(name, value)| (name.to_owned(), value.share())));
    match key {
        Some(key) => Scrubber::keyed(key, values),
        None => Scrubber::new(values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, mpsc};

    #[test]
    fn a_credential_is_looked_for_until_an_hour_after_its_last_lease() {
        let recent = Recent::new().unwrap();
        let start = Instant::now();
        let text = b"the key is sk-canary-0123456789 here";
        let hidden = |at: Instant| !recent.scrubber(at).scrub(text).windows(9).any(|w| w == b"sk-canary");
        assert!(!hidden(start), "nothing was leased yet");
        let key = Secret::new("sk-canary-0123456789".to_owned());
        assert!(!recent.note("model/m", &key, start).is_empty());
        assert!(!recent.note("model/m", &key, start + KEPT / 2).is_empty());
        assert!(hidden(start + KEPT / 2 + KEPT));
        assert!(!hidden(start + KEPT / 2 + KEPT + Duration::from_millis(1)));
    }

    #[test]
    fn what_was_minted_is_looked_for_until_an_hour_after_its_own_end() {
        let recent = Recent::new().unwrap();
        let start = Instant::now();
        let hidden = |at: Instant| recent.scrubber(at).scrub_str("sk-canary-0123456789").starts_with("[scrubbed");
        let key = Secret::new("sk-canary-0123456789".to_owned());
        let until = Moment::from(SystemTime::now()).plus_ms(900_000);
        recent.note_minted("capability/m", &key, Some(until), start);
        // A use of it does not make that shorter.
        recent.note("capability/m", &key, start);
        assert!(hidden(start + KEPT + Duration::from_secs(800)));
        assert!(!hidden(start + KEPT + Duration::from_secs(901)));
    }

    #[test]
    fn of_a_user_and_a_password_the_password_alone_is_found() {
        let recent = Recent::new().unwrap();
        let now = Instant::now();
        let one = recent.note("capability/forge", &Secret::new("robot:tok-0123456789\n".to_owned()), now);
        for scrubber in [one, recent.scrubber(now)] {
            assert_eq!(scrubber.scrub_str("of robot: tok-0123456789."), "of robot: [scrubbed:capability/forge].");
        }
    }

    #[test]
    fn of_a_request_values_and_formats_are_replaced_or_values_alone_and_json_stays_json() {
        let recent = Recent::new().unwrap();
        let now = Instant::now();
        recent.note("model/m", &Secret::new("sk-canary-\"0123456789\"".to_owned()), now);
        let token = format!("npm_{}", "a1B2".repeat(9));
        let body = serde_json::json!({ "model": "m", "messages": [{ "content": format!("{token} sk-canary-\"0123456789\"") }] });
        for (sought, shown) in [(Sought::Formats, "[redacted: npm-token]"), (Sought::Values, token.as_str())] {
            let clean = recent.of_a_request(body.to_string().as_bytes(), sought, now).unwrap();
            let clean: serde_json::Value = serde_json::from_slice(&clean).unwrap();
            assert_eq!(clean["messages"][0]["content"], format!("{shown} [scrubbed:model/m]"));
        }
        assert_eq!(recent.of_a_request(token.as_bytes(), Sought::Values, now), None);
    }

    #[test]
    fn a_thread_that_panics_while_it_changes_the_credentials_logs_without_waiting_for_itself() {
        struct Log(Arc<Recent>, mpsc::Sender<bool>);
        impl Drop for Log {
            fn drop(&mut self) {
                self.1.send(self.0.of_the_log(Instant::now()).is_some()).unwrap();
            }
        }
        let (recent, (to, said)) = (Arc::new(Recent::new().unwrap()), mpsc::channel());
        let of = recent.clone();
        let thread = std::thread::spawn(move || {
            let logged = std::panic::catch_unwind(|| {
                let _kept = of.kept();
                let _log = Log(of.clone(), to.clone());
                std::panic::resume_unwind(Box::new(()));
            });
            assert!(logged.is_err());
            // It has let go of them, and the next one that panics has them.
            let logged = std::panic::catch_unwind(|| {
                let _log = Log(of.clone(), to.clone());
                std::panic::resume_unwind(Box::new(()));
            });
            assert!(logged.is_err());
        });
        let said = || said.recv_timeout(Duration::from_secs(60)).expect("it waits for itself");
        assert!(!said() && said());
        thread.join().unwrap();
        assert!(recent.of_the_log(Instant::now()).is_some());
    }

    #[tokio::test]
    async fn once_the_key_is_known_a_credential_is_named_and_fingerprinted_by_both_scrubbers() {
        let recent = Recent::new().unwrap();
        let now = Instant::now();
        let value = Secret::new("sk-canary-0123456789".to_owned());
        let print = Key::new(Secret::new([3; 32]));
        recent.note("model/early", &value, now);
        recent.know(print.clone());
        recent.known().await;
        let expected = Scrubber::keyed(&print, [("model/early".to_owned(), value.share())]);
        let expected = expected.scrub_str(value.expose()).into_owned();
        assert!(expected.starts_with("[scrubbed:model/early#"), "{expected}");
        assert_eq!(recent.scrubber(now).scrub_str(value.expose()), expected);
        assert_eq!(recent.note("model/early", &value, now).scrub_str(value.expose()), expected);
    }
}
