//! Which credentials hosts were given in the name of one run, by a request of its own, as a repository's upstream or as its model:
//! a host that was given one may tell it later, to a request that carries none, or another. And which values its commands were
//! given: they leave in a handle's place alone.
//!
//! Read [`Given::note`], then [`Given::scrubber`], then [`Given::is_in_head`].

use crate::recent::{Recent, holds};
use http::HeaderMap;
use model::Secret;
use policy::egress::Name;
use policy::egress::signs::decoded;
use scrub::Scrubber;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Values that one host was given and that are looked for, the newest. A run gives a host one after another where they are minted, or
/// kept fresh.
const VALUES: usize = 16;

/// The same of the run's commands, which have more of them at a time.
const VALUES_OF_COMMANDS: usize = 64;

/// By host: there are as many as the table has hosts to write to, repositories and models, at most. What commands were given is
/// no host's.
#[derive(Default)]
pub(crate) struct Given(Mutex<HashMap<Option<Name>, Values>>);

/// What is looked for in what one host says, as long as that takes: it may be given more meanwhile.
#[derive(Clone)]
pub(crate) struct Sought {
    given: Arc<Given>,
    host: Name,
}

impl Sought {
    /// What is looked for by now.
    pub(crate) fn scrubber(&self) -> Scrubber {
        self.given.scrubber(&self.host).unwrap_or_else(|| Scrubber::new([]))
    }
}

struct Values {
    /// The secret's name, and the value.
    each: VecDeque<(String, Secret<String>)>,
    scrubber: Scrubber,
}

impl Given {
    fn each(&self) -> MutexGuard<'_, HashMap<Option<Name>, Values>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The host is given this value of the secret `name`, from now on, whatever its port. Gives what is looked for in what it
    /// says.
    pub(crate) fn note(&self, host: &Name, value: (&str, &Secret<String>), recent: &Recent) -> Scrubber {
        self.note_for(Some(host.clone()), value, recent)
    }

    /// A command of the run is given this value of the secret `name`.
    pub(crate) fn note_of_a_command(&self, value: (&str, &Secret<String>), recent: &Recent) {
        drop(self.note_for(None, value, recent));
    }

    fn note_for(&self, whom: Option<Name>, (name, value): (&str, &Secret<String>), recent: &Recent) -> Scrubber {
        let most = if whom.is_some() { VALUES } else { VALUES_OF_COMMANDS };
        let mut each = self.each();
        let known =
            each.entry(whom).or_insert_with(|| Values { each: VecDeque::new(), scrubber: recent.scrubber_of([]) });
        if value.expose().is_empty() {
            return known.scrubber.clone();
        }
        // Given again, it is the newest.
        if let Some(at) = known.each.iter().position(|(_, kept)| kept.expose() == value.expose()) {
            let kept = known.each.remove(at);
            known.each.extend(kept);
            return known.scrubber.clone();
        }
        if known.each.len() == most {
            known.each.pop_front();
        }
        known.each.push_back((name.to_owned(), value.share()));
        known.scrubber = recent.scrubber_of(known.each.iter().map(|(name, value)| (name.as_str(), value)));
        known.scrubber.clone()
    }

    /// What is looked for in what this host says; none where it was given nothing.
    pub(crate) fn scrubber(&self, host: &Name) -> Option<Scrubber> {
        self.each().get(&Some(host.clone())).map(|known| known.scrubber.clone())
    }

    /// What is looked for in what this host says from now on; none where it was given nothing.
    pub(crate) fn sought(self: &Arc<Self>, host: &Name) -> Option<Sought> {
        self.scrubber(host).filter(|scrubber| !scrubber.is_empty())?;
        Some(Sought { given: self.clone(), host: host.clone() })
    }

    /// Whether a host's name, a path and query, or the names or values of headers hold a value that the run was given. Those of
    /// other runs are not looked for: of a value that is a word it would stop everybody's reads, and say to anybody that it is one.
    pub(crate) fn is_in_head(&self, host: &str, address: &str, headers: &HeaderMap) -> bool {
        let address = decoded(address.as_bytes());
        self.each().values().any(|known| {
            let is_in = |text: &[u8]| holds(&known.scrubber, text);
            let of_a_header = |name: &str, value: &[u8]| known.scrubber.is_in_name(name) || is_in(value);
            is_in(host.as_bytes())
                || is_in(&address)
                || headers.iter().any(|(name, value)| of_a_header(name.as_str(), value.as_bytes()))
        })
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

    #[test]
    fn what_a_host_or_a_command_of_this_run_was_given_is_found_in_a_head_and_what_another_run_was_given_is_not() {
        let (given, other, recent) = (Given::default(), Given::default(), Recent::new().unwrap());
        let names = |name: &str| http::HeaderName::from_bytes(name.as_bytes()).unwrap();
        let is_in = |of: &Given, value: &str| {
            let mut all = Vec::new();
            for (host, address, name, said) in [
                (format!("{value}.example"), "/".to_owned(), "x-a".to_owned(), "b".to_owned()),
                ("a.example".into(), format!("/a?b={value}"), "x-a".into(), "b".into()),
                ("a.example".into(), "/".into(), format!("x-{value}"), "b".into()),
                ("a.example".into(), "/".into(), "x-a".into(), format!("a, {value}")),
            ] {
                let headers = HeaderMap::from_iter([(names(&name), said.parse().unwrap())]);
                all.push(of.is_in_head(&host, &address, &headers));
            }
            assert!(all.iter().all(|one| *one == all[0]), "{all:?}");
            all[0]
        };
        given.note(
            &Name::parse("b.example").unwrap(),
            ("capability/a", &Secret::new("tok-0-0123456789".into())),
            &recent,
        );
        given.note_of_a_command(("capability/b", &Secret::new("tok-1-0123456789".into())), &recent);
        assert!(is_in(&given, "tok-0-0123456789") && is_in(&given, "tok-1-0123456789"));
        assert!(!is_in(&given, "tok-2-0123456789"));
        assert!(!is_in(&other, "tok-0-0123456789") && !is_in(&other, "tok-1-0123456789"));
    }
}
