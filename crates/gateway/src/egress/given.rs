//! Which credentials hosts were given in the name of one run, by a request of its own, as a repository's upstream or as its model:
//! a host that was given one may tell it later, to a request that carries none, or another.
//!
//! Read [`Given::note`], then [`Given::scrubber`].

use crate::recent::Recent;
use model::Secret;
use policy::egress::Name;
use scrub::Scrubber;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Values that one host was given and that are looked for in what it says, the newest. A run gives a host one after another
/// where they are minted, or kept fresh.
const VALUES: usize = 16;

/// By host: there are as many as the table has hosts to write to, repositories and models, at most.
#[derive(Default)]
pub(crate) struct Given(Mutex<HashMap<Name, Values>>);

struct Values {
    /// The secret's name, and the value.
    each: VecDeque<(String, Secret<String>)>,
    scrubber: Scrubber,
}

impl Given {
    fn hosts(&self) -> MutexGuard<'_, HashMap<Name, Values>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The host is given this value of the secret `name`, from now on, whatever its port. Gives what is looked for in what it
    /// says.
    pub(crate) fn note(&self, host: &Name, (name, value): (&str, &Secret<String>), recent: &Recent) -> Scrubber {
        let mut hosts = self.hosts();
        let known = hosts
            .entry(host.clone())
            .or_insert_with(|| Values { each: VecDeque::new(), scrubber: recent.scrubber_of([]) });
        if value.expose().is_empty() {
            return known.scrubber.clone();
        }
        // Given again, it is the newest.
        if let Some(at) = known.each.iter().position(|(_, kept)| kept.expose() == value.expose()) {
            let kept = known.each.remove(at);
            known.each.extend(kept);
            return known.scrubber.clone();
        }
        if known.each.len() == VALUES {
            known.each.pop_front();
        }
        known.each.push_back((name.to_owned(), value.share()));
        known.scrubber = recent.scrubber_of(known.each.iter().map(|(name, value)| (name.as_str(), value)));
        known.scrubber.clone()
    }

    /// What is looked for in what this host says; none where it was given nothing.
    pub(crate) fn scrubber(&self, host: &Name) -> Option<Scrubber> {
        self.hosts().get(host).map(|known| known.scrubber.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_one_host_was_given_the_last_16_values_are_looked_for_in_what_it_says_and_in_what_no_other_does() {
        let (given, recent) = (Given::default(), Recent::new().unwrap());
        let host = |name| Name::parse(name).unwrap();
        let value = |n: usize| format!("tok-{n:04}-0123456789");
        let note = |n| {
            let noted = given.note(&host("a.example"), ("capability/a", &Secret::new(value(n))), &recent);
            assert_ne!(noted.scrub_str(&value(n)), value(n));
        };
        let shows = |n: usize| given.scrubber(&host("a.example")).unwrap().scrub_str(&value(n)) == value(n);
        assert!(given.scrubber(&host("a.example")).is_none());
        (0..VALUES).for_each(note);
        // Given again, it takes nobody's place, and goes last of all.
        note(0);
        assert!((0..VALUES).all(|n| !shows(n)));
        note(VALUES);
        assert!(shows(1) && (2..=VALUES).all(|n| !shows(n)) && !shows(0));
        assert!(given.scrubber(&host("b.example")).is_none());
    }
}
