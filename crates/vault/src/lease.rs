//! The life of a lease: what may happen to it, in which order, and what has to follow.
//!
//! A lease is the permission for one use of one secret by one run. Nothing here reads a clock, opens a secret or keeps a
//! row: callers pass what happened and when, keep the state that comes out together with its record, and only then do
//! what [`Effect`] says.
//!
//! ```text
//! requested ─grant─► granted ─use─► consumed ─end─► completed
//!     │                 │               │
//!     └─deny─► denied   ├─time─► expired ◄─time─┤
//!                       └─taken─► revoked ◄─taken┘
//! ```
//!
//! Read [`State`], [`Happening`], then [`State::after`].

use model::Moment;

/// How a lease stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// It was asked for, and nothing was said yet. Never kept: an answer that was not recorded is no answer.
    Requested,
    /// It may be used once, before `expires`.
    Granted {
        /// The first moment at which it may not be used.
        expires: Moment,
    },
    /// It was refused.
    Denied,
    /// Its one use is under way, until `expires` at the latest.
    Consumed {
        /// The first moment at which whoever uses it is ended.
        expires: Moment,
    },
    /// Its use ended by itself.
    Completed,
    /// Its time was over, used or not.
    Expired,
    /// It was taken back, used or not.
    Revoked,
}

/// What happens to a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Happening {
    /// It is granted, until then.
    Grant {
        /// The first moment at which it may not be used.
        expires: Moment,
    },
    /// It is refused.
    Deny,
    /// Somebody wants to use it.
    Use,
    /// Whoever used it says that the use is over.
    End,
    /// Time passes.
    Time,
    /// A person takes it back, or its run ends.
    TakeBack,
    /// The server or the gateway was lost; who uses it, if anyone does, is not known to be alive.
    Crash,
}

/// What follows, once the new state is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Nothing: it is as it was, and whoever asked gets nothing.
    Nothing,
    /// The id may be told.
    Tell,
    /// The value may be given, this once.
    Give,
    /// The value, if it is out, is to be taken back: who uses it is ended, what a vendor made for it is revoked.
    Withdraw,
    /// The value is out no more; what a vendor made for it is revoked.
    Forget,
}

impl State {
    /// What becomes of it at the moment `now`, and what follows.
    ///
    /// What cannot happen to a lease as it stands changes nothing. A use at its deadline is a use too late: time counts
    /// before whatever else happens.
    #[must_use]
    pub fn after(self, happening: Happening, now: Moment) -> (Self, Effect) {
        use Effect as E;
        use Happening as H;
        match (self, happening) {
            (Self::Requested, H::Grant { expires }) if now < expires => (Self::Granted { expires }, E::Tell),
            (Self::Requested, H::Grant { .. } | H::Deny | H::TakeBack | H::Crash) => (Self::Denied, E::Nothing),
            (Self::Granted { expires }, _) if now >= expires => (Self::Expired, E::Nothing),
            (Self::Granted { expires }, H::Use) => (Self::Consumed { expires }, E::Give),
            (Self::Granted { .. }, H::TakeBack | H::Crash) => (Self::Revoked, E::Nothing),
            (Self::Consumed { .. }, H::End) => (Self::Completed, E::Forget),
            (Self::Consumed { expires }, _) if now >= expires => (Self::Expired, E::Withdraw),
            (Self::Consumed { .. }, H::TakeBack | H::Crash) => (Self::Revoked, E::Withdraw),
            (as_it_was, _) => (as_it_was, E::Nothing),
        }
    }

    /// Whether it can still be used, or is in use.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Granted { .. } | Self::Consumed { .. })
    }

    /// The word for it, as it is kept and shown.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Requested => "requested",
            Self::Granted { .. } => "granted",
            Self::Denied => "denied",
            Self::Consumed { .. } => "consumed",
            Self::Completed => "completed",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }

    /// The state of this word; of an open one with this expiry.
    #[must_use]
    pub fn of(word: &str, expires: Moment) -> Option<Self> {
        [
            Self::Requested,
            Self::Granted { expires },
            Self::Denied,
            Self::Consumed { expires },
            Self::Completed,
            Self::Expired,
            Self::Revoked,
        ]
        .into_iter()
        .find(|state| state.word() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Happening as H;

    const DEADLINE: Moment = Moment(100);
    /// Before the deadline, at it, after it.
    const TIMES: [Moment; 3] = [Moment(99), Moment(100), Moment(101)];
    const HAPPENINGS: [H; 7] =
        [H::Grant { expires: DEADLINE }, H::Deny, H::Use, H::End, H::Time, H::TakeBack, H::Crash];
    /// Happenings in a row: with three times each, every order of them.
    const DEPTH: usize = 5;

    /// What was done on the way to a state.
    #[derive(Clone, Copy)]
    struct Way {
        state: State,
        now: usize,
        told: u32,
        given: u32,
        ended: u32,
        out: bool,
    }

    /// Every order of happenings up to [`DEPTH`], time never going back.
    fn every_way(way: Way, left: usize, seen: &mut u64, look: &mut impl FnMut(Way, H, Moment, Way, Effect)) {
        if left == 0 {
            return;
        }
        for (now, happening) in (way.now..TIMES.len()).flat_map(|now| HAPPENINGS.map(|happening| (now, happening))) {
            let (state, effect) = way.state.after(happening, TIMES[now]);
            let mut next = Way { state, now, ..way };
            match effect {
                Effect::Tell => next.told += 1,
                Effect::Give => (next.given, next.out) = (next.given + 1, true),
                Effect::Withdraw | Effect::Forget => (next.ended, next.out) = (next.ended + 1, false),
                Effect::Nothing => {}
            }
            *seen += 1;
            look(way, happening, TIMES[now], next, effect);
            every_way(next, left - 1, seen, look);
        }
    }

    fn all(mut look: impl FnMut(Way, H, Moment, Way, Effect)) -> u64 {
        let start = Way { state: State::Requested, now: 0, told: 0, given: 0, ended: 0, out: false };
        let mut seen = 0;
        every_way(start, DEPTH, &mut seen, &mut look);
        seen
    }

    #[test]
    fn in_every_order_of_request_use_expiry_revocation_and_crash_a_value_is_given_at_most_once_and_never_late() {
        let seen = all(|before, _, now, after, effect| {
            assert!(
                after.told <= 1 && after.given <= after.told && after.given <= 1,
                "{before_:?}",
                before_ = before.state
            );
            if effect == Effect::Give {
                assert_eq!(before.state, State::Granted { expires: DEADLINE });
                assert!(now < DEADLINE, "given at its deadline");
            }
        });
        assert!(seen > 100_000, "only {seen} steps were looked at");
    }

    #[test]
    fn in_every_order_a_value_that_is_out_is_taken_back_or_was_ended_exactly_once() {
        all(|_, _, _, after, _| {
            assert_eq!(after.out, matches!(after.state, State::Consumed { .. }), "{:?}", after.state);
            assert_eq!(after.given, after.ended + u32::from(after.out));
        });
    }

    #[test]
    fn in_every_order_what_is_over_stays_as_it_ended() {
        all(|before, happening, _, after, effect| {
            if !before.state.is_open() && before.state != State::Requested {
                assert_eq!((after.state, effect), (before.state, Effect::Nothing), "{happening:?}");
            }
        });
    }

    #[test]
    fn in_every_order_nothing_is_open_after_its_deadline_once_anything_happens_nor_after_a_crash_or_a_person_s_word() {
        all(|_, happening, now, after, _| {
            if now >= DEADLINE || matches!(happening, H::TakeBack | H::Crash) {
                assert!(!after.state.is_open(), "{:?} after {happening:?} at {now:?}", after.state);
            }
        });
    }

    #[test]
    fn in_every_order_what_was_never_granted_is_never_told_nor_given() {
        all(|before, happening, _, after, effect| {
            if effect == Effect::Tell {
                assert!(before.state == State::Requested && matches!(happening, H::Grant { .. }));
            }
            assert!(after.state != State::Denied || after.told == 0);
        });
    }

    #[test]
    fn a_lease_is_dead_at_its_deadline_not_after_it() {
        let granted = State::Granted { expires: DEADLINE };
        assert_eq!(granted.after(H::Use, Moment(99)), (State::Consumed { expires: DEADLINE }, Effect::Give));
        assert_eq!(granted.after(H::Use, Moment(100)), (State::Expired, Effect::Nothing));
        // What ended by itself at its deadline did end by itself.
        let used = State::Consumed { expires: DEADLINE };
        assert_eq!(used.after(H::End, Moment(100)), (State::Completed, Effect::Forget));
        assert_eq!(used.after(H::Time, Moment(100)), (State::Expired, Effect::Withdraw));
    }

    #[test]
    fn a_state_is_read_back_as_it_was_kept() {
        let mut met = Vec::new();
        all(|_, _, _, after, _| {
            if !met.contains(&after.state) {
                met.push(after.state);
            }
        });
        met.push(State::Requested);
        for state in &met {
            assert_eq!(State::of(state.word(), DEADLINE), Some(*state));
        }
        met.sort_by_key(|state| state.word());
        met.dedup();
        assert_eq!(met.len(), 7, "a state that nothing leads to: {met:?}");
        assert_eq!(State::of("held", DEADLINE), None);
    }
}
