//! Allowances: where a run makes many requests of one kind, the server is asked for many of them at once, ahead of them.
//!
//! Of one kind are requests GET and HEAD to one host and port by one rule of one table, and requests by one row with one
//! handle. Each is judged as ever; what an allowance spares is the question to the server, and a record of its own.
//! The first few of a kind are always asked for one by one. Nobody waits for an allowance: while there is none,
//! requests are asked for one by one. See decision 0014.
//!
//! Read [`Kind`], [`Allowances::take`], then [`Allowances::ask`].

use crate::server::Server;
use crate::server::egress::{Allowance, Leave};
use api::grants::{EgressAsk, EgressCredential, READS_AT_ONCE};
use model::Moment;
use policy::egress::Name;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

/// Requests of one kind that are asked for one by one within [`LATELY`] before an allowance is asked for.
const ALONE: u32 = 4;
const LATELY: Duration = Duration::from_secs(1);
/// Requests that the first allowance of a kind is for; each that was half used before half of its time doubles the next.
const FIRST: u32 = 16;
/// How often what is over is told.
const TELL: Duration = Duration::from_millis(50);
/// Kinds of one run that are remembered.
const KINDS: usize = 64;

/// Requests of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Kind {
    pub(crate) host: Name,
    pub(crate) port: u16,
    pub(crate) tls: bool,
    /// Version of the table, and the rule of it.
    pub(crate) law: u64,
    pub(crate) rule: &'static str,
    /// Those with a credential: the row, and the SHA-256 of the handle.
    pub(crate) row: Option<(usize, String)>,
}

/// The allowances of one run.
#[derive(Default)]
pub(crate) struct Allowances(Mutex<HashMap<Kind, Slot>>);

/// Of one kind.
struct Slot {
    /// In the order of their answers: the one in use, and the next.
    open: VecDeque<Held>,
    asking: bool,
    /// Asked for one by one, since then.
    alone: u32,
    since: Instant,
    /// What the last allowance was for; 0 when there was none.
    size: u32,
}

#[derive(Clone)]
struct Held {
    allowance: Arc<Allowance>,
    credential: Option<Arc<EgressCredential>>,
}

/// What lets a request out by an allowance.
pub(crate) type Taken = (Leave, Option<Arc<EgressCredential>>);

impl Allowances {
    fn slots(&self) -> MutexGuard<'_, HashMap<Kind, Slot>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a request out by an allowance, if there is one; and says for how many an allowance is to be asked for now,
    /// by [`Allowances::ask`].
    pub(crate) fn take(&self, kind: &Kind, method: &str, target: &str) -> (Option<Taken>, Option<u32>) {
        let now = Instant::now();
        let mut gone = Vec::new();
        let mut slots = self.slots();
        if !slots.contains_key(kind) {
            if slots.len() >= KINDS {
                slots.retain(|_, slot| slot.asking || !slot.open.is_empty());
            }
            if slots.len() >= KINDS {
                return (None, None);
            }
            slots.insert(kind.clone(), Slot { open: VecDeque::new(), asking: false, alone: 0, since: now, size: 0 });
        }
        let Some(slot) = slots.get_mut(kind) else { return (None, None) };
        let mut taken = None;
        while let Some(held) = slot.open.front() {
            if let Some(leave) = held.allowance.take(now, wall_clock(), method, target) {
                taken = Some((leave, held.credential.clone()));
                break;
            }
            gone.extend(slot.open.pop_front());
        }
        let size = if slot.asking { None } else { slot.wants(taken.is_some(), now) };
        slot.asking |= size.is_some();
        drop(slots);
        // An allowance that ends here tells so, outside the lock.
        drop(gone);
        (taken, size)
    }

    /// Asks for an allowance of `ask.reads` requests, and keeps it for its time.
    pub(crate) fn ask(self: &Arc<Self>, server: &Arc<Server>, kind: Kind, ask: EgressAsk) {
        let (all, server, size) = (Arc::downgrade(self), server.clone(), ask.reads);
        tokio::spawn(async move {
            let word = server.ask_allowance(ask).await.ok().flatten();
            // The run is gone, or was ended meanwhile: what it was given is told of as unused.
            let kept = all.upgrade().and_then(|all| all.keep(&kind, word, size));
            if let Some((allowance, until)) = kept {
                watch(&all, &kind, &allowance, until).await;
            }
        });
    }

    /// Keeps an allowance that was asked for.
    fn keep(
        &self,
        kind: &Kind,
        word: Option<(Allowance, Option<EgressCredential>)>,
        size: u32,
    ) -> Option<(Weak<Allowance>, Instant)> {
        let mut slots = self.slots();
        let slot = slots.get_mut(kind)?;
        slot.asking = false;
        let Some((allowance, credential)) = word else {
            (slot.alone, slot.size) = (0, 0);
            return None;
        };
        let allowance = Arc::new(allowance);
        let watched = (Arc::downgrade(&allowance), allowance.until());
        slot.open.push_back(Held { allowance, credential: credential.map(Arc::new) });
        slot.size = size;
        Some(watched)
    }

    /// Ends all of them: nothing more is let out by any. What is under way is told of when it is over.
    pub(crate) fn end(&self) {
        let ended = std::mem::take(&mut *self.slots());
        drop(ended);
    }
}

impl Slot {
    /// For how many an allowance is to be asked for now.
    fn wants(&mut self, taken: bool, now: Instant) -> Option<u32> {
        if !taken {
            if now.saturating_duration_since(self.since) > LATELY {
                (self.alone, self.since) = (0, now);
            }
            self.alone += 1;
            return (self.alone > ALONE).then_some(if self.size == 0 { FIRST } else { self.size });
        }
        let (1, Some(held)) = (self.open.len(), self.open.front()) else { return None };
        let (most, used) = held.allowance.used();
        let half_its_time = held.allowance.until().saturating_duration_since(now) < LATELY / 2;
        match (used >= most / 2, half_its_time) {
            (true, false) => Some((most * 2).min(READS_AT_ONCE)),
            (true, true) => Some(most),
            // Little used: the next is smaller, or the requests are asked for one by one again.
            (false, true) if used > FIRST / 2 => Some((most / 2).max(FIRST)),
            _ => None,
        }
    }
}

/// Tells what is over by an allowance while it is held, and ends it at its time.
async fn watch(all: &Weak<Allowances>, kind: &Kind, allowance: &Weak<Allowance>, until: Instant) {
    loop {
        tokio::time::sleep_until(until.min(Instant::now() + TELL)).await;
        let Some(held) = allowance.upgrade() else { return };
        held.tell();
        if Instant::now() < until {
            continue;
        }
        let Some(all) = all.upgrade() else { return };
        let mut gone = Vec::new();
        if let Some(slot) = all.slots().get_mut(kind) {
            while slot.open.front().is_some_and(|first| Instant::now() >= first.allowance.until()) {
                gone.extend(slot.open.pop_front());
            }
        }
        drop(gone);
        return;
    }
}

/// Now, for the record.
fn wall_clock() -> Moment {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Moment(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_65th_kind_of_a_run_is_asked_for_one_by_one_while_the_others_have_allowances() {
        let all = Allowances::default();
        let kind = |port| {
            let host = Name::parse("a.example.org").expect("a name");
            Kind { host, port, tls: true, law: 1, rule: "read.any", row: None }
        };
        let is_to_be_asked = |port| (0..100).any(|_| all.take(&kind(port), "GET", "/").1.is_some());
        let most = u16::try_from(KINDS).expect("a small number");
        for port in 1..=most {
            assert!(is_to_be_asked(port), "{port}");
        }
        assert!(!is_to_be_asked(most + 1));
        // What has none any more makes room.
        all.keep(&kind(1), None, 0);
        assert!(is_to_be_asked(most + 1));
    }
}
