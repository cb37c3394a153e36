//! What becomes of a value that a vendor mints for one lease: asked for, live, ended at its vendor, or left to end itself.
//!
//! Nothing here reads a clock, sends a request or opens a value. Callers pass what happened, keep the state that comes
//! out together with its record, and only then do what [`Effect`] says. The lease itself has a life of its own
//! ([`crate::lease`]); this one begins with its use and may outlive it.
//!
//! ```text
//!  ─ask─► asked ─value─► live ─lease over─► ending ─told─► revoked
//!           │ │           └─lease over, no way to end it──► left ◄─time, tries─┘
//!           │ └─refused─► failed
//!           └─nobody knows─► unknown
//! ```
//!
//! A value that comes when its lease is over already goes straight to `ending`: a lease that is not open gives nothing, and
//! what was made for it is ended.
//!
//! Read [`State`], [`Happening`], then [`State::after`].

use model::Moment;

/// How often a vendor is asked to end a value, at most.
pub const TRIES: u32 = 16;
/// The longest wait between two of these, in milliseconds.
const MAX_WAIT_MS: i64 = 60_000;
/// How long after a value's end it is still looked for in what is kept and shown, in milliseconds.
pub const KNOWN_MS: i64 = 3_600_000;
/// How long a vendor is waited for, from the journal on, before what it did counts as unknown, in milliseconds.
pub const ASKED_MS: i64 = 60_000;

/// How what is minted stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Nothing was asked for.
    None,
    /// It is on record that the vendor is asked; it may have answered.
    Asked,
    /// There is a value, and its lease is open.
    Live,
    /// The lease is over; the vendor is asked to end the value, so often by now.
    Ending(u32),
    /// The vendor ended it.
    Revoked,
    /// Nobody ends it; it ends by itself.
    Left,
    /// The vendor made none.
    Failed,
    /// The vendor may have made one, and nobody has it.
    Unknown,
    /// It ended long ago, and nobody looks for it any more: it is kept no longer.
    Gone,
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Happening {
    /// The vendor is about to be asked.
    Ask,
    /// It gave a value; whether the lease is still open, and whether the vendor can end what it made.
    Value {
        /// The lease may still be used.
        open: bool,
        /// The vendor can end it.
        revocable: bool,
    },
    /// It made none.
    Refused,
    /// It may have made one, and the answer is lost.
    Lost,
    /// The lease is over; whether the vendor can end what it made.
    Over {
        /// The vendor can end it.
        revocable: bool,
    },
    /// The vendor says that the value is ended.
    Told,
    /// The vendor is about to be asked to end it.
    Tell,
    /// The value ended by itself.
    Time,
    /// Its end is longer ago than [`KNOWN_MS`].
    Forget,
}

/// What follows, once the new state is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Nothing.
    Nothing,
    /// The vendor may be asked.
    Send,
    /// The value may be given, for the use of its lease.
    Give,
    /// The vendor is to be asked to end it.
    Revoke,
    /// It is to be said that it ends by itself.
    Say,
}

impl State {
    /// What becomes of it, and what follows. What cannot happen to it as it stands changes nothing.
    #[must_use]
    pub fn after(self, happening: Happening) -> (Self, Effect) {
        use Effect as E;
        use Happening as H;
        match (self, happening) {
            (Self::None, H::Ask) => (Self::Asked, E::Send),
            (Self::Asked, H::Value { open: true, .. }) => (Self::Live, E::Give),
            // Also what was given up: there it is, and it is ended.
            (Self::Asked | Self::Unknown, H::Value { revocable: true, .. }) => (Self::Ending(0), E::Revoke),
            (Self::Asked | Self::Unknown, H::Value { revocable: false, .. }) => (Self::Left, E::Say),
            (Self::Asked, H::Refused) => (Self::Failed, E::Nothing),
            (Self::Asked, H::Lost) => (Self::Unknown, E::Say),
            (Self::Live, H::Over { revocable: true }) => (Self::Ending(0), E::Revoke),
            (Self::Live, H::Over { revocable: false }) => (Self::Left, E::Say),
            (Self::Ending(n), H::Tell) if n < TRIES => (Self::Ending(n + 1), E::Send),
            (Self::Ending(_), H::Tell | H::Time) => (Self::Left, E::Say),
            (Self::Ending(_), H::Told) => (Self::Revoked, E::Nothing),
            (Self::Revoked | Self::Left, H::Forget) => (Self::Gone, E::Nothing),
            (as_it_was, _) => (as_it_was, E::Nothing),
        }
    }

    /// Whether there is a value that may still open something.
    #[must_use]
    pub fn is_out(self) -> bool {
        matches!(self, Self::Live | Self::Ending(_))
    }

    /// The word for it, as it is kept and shown.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Asked => "asked",
            Self::Live => "live",
            Self::Ending(_) => "ending",
            Self::Revoked => "revoked",
            Self::Left => "left",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::Gone => "gone",
        }
    }

    /// The state of this word; of one that is being ended after so many tries.
    #[must_use]
    pub fn of(word: &str, tries: u32) -> Option<Self> {
        let all = [
            Self::None,
            Self::Asked,
            Self::Live,
            Self::Ending(tries),
            Self::Revoked,
            Self::Left,
            Self::Failed,
            Self::Unknown,
            Self::Gone,
        ];
        all.into_iter().find(|state| state.word() == word)
    }
}

/// When a vendor that was asked for the `tries`th time at `now` is asked again: after 2, 4, 8 … seconds, at most a minute.
#[must_use]
pub fn again(now: Moment, tries: u32) -> Moment {
    now.plus_ms((1_000_i64 << tries.min(10)).min(MAX_WAIT_MS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use Happening as H;

    const HAPPENINGS: [H; 13] = [
        H::Ask,
        H::Value { open: true, revocable: true },
        H::Value { open: true, revocable: false },
        H::Value { open: false, revocable: true },
        H::Value { open: false, revocable: false },
        H::Refused,
        H::Lost,
        H::Over { revocable: true },
        H::Over { revocable: false },
        H::Told,
        H::Tell,
        H::Time,
        H::Forget,
    ];

    #[derive(Clone, Copy)]
    struct Way {
        state: State,
        sent: u32,
        given: u32,
        /// A value came, and neither its vendor nor time has ended it, nor was it said that it ends by itself.
        owed: bool,
    }

    /// Every order of happenings, so many in a row.
    fn every(way: Way, left: usize, seen: &mut u64, look: &mut impl FnMut(Way, H, Way, Effect)) {
        if left == 0 {
            return;
        }
        for happening in HAPPENINGS {
            let (state, effect) = way.state.after(happening);
            let mut next = Way { state, ..way };
            match effect {
                Effect::Send if way.state == State::None => next.sent += 1,
                Effect::Give => (next.given, next.owed) = (next.given + 1, true),
                Effect::Revoke => next.owed = true,
                Effect::Say => next.owed = false,
                Effect::Send | Effect::Nothing => {}
            }
            if state == State::Revoked {
                next.owed = false;
            }
            *seen += 1;
            look(way, happening, next, effect);
            every(next, left - 1, seen, look);
        }
    }

    fn all(mut look: impl FnMut(Way, H, Way, Effect)) -> u64 {
        let mut seen = 0;
        every(Way { state: State::None, sent: 0, given: 0, owed: false }, 5, &mut seen, &mut look);
        seen
    }

    #[test]
    fn in_every_order_a_vendor_is_asked_once_and_what_it_made_is_given_at_most_once_and_to_an_open_lease() {
        let seen = all(|_, happening, after, effect| {
            assert!(after.sent <= 1 && after.given <= after.sent);
            if effect == Effect::Give {
                assert!(matches!(happening, H::Value { open: true, .. }));
            }
        });
        assert!(seen > 200_000, "only {seen} steps were looked at");
    }

    #[test]
    fn in_every_order_a_value_that_came_is_live_or_being_ended_until_it_is_revoked_or_said_to_be_left() {
        all(|_, _, after, _| assert_eq!(after.owed, after.state.is_out(), "{:?}", after.state));
    }

    #[test]
    fn in_every_order_what_a_crash_left_open_is_called_unknown_and_a_value_that_comes_after_all_is_ended() {
        assert_eq!(State::Asked.after(H::Lost), (State::Unknown, Effect::Say));
        let late = |open| H::Value { open, revocable: true };
        for open in [true, false] {
            assert_eq!(State::Unknown.after(late(open)), (State::Ending(0), Effect::Revoke));
        }
        all(|before, _, after, effect| {
            assert!(before.state != State::Unknown || effect != Effect::Give, "{:?}", after.state);
        });
    }

    #[test]
    fn a_vendor_is_told_a_bounded_number_of_times_and_then_it_is_said_that_the_value_ends_by_itself() {
        let mut state = State::Ending(0);
        for n in 1..=TRIES {
            let (next, effect) = state.after(H::Tell);
            assert_eq!((next, effect), (State::Ending(n), Effect::Send));
            state = next;
        }
        assert_eq!(state.after(H::Tell), (State::Left, Effect::Say));
        assert_eq!(state.after(H::Told), (State::Revoked, Effect::Nothing));
        let waits: Vec<i64> = (1..=8).map(|n| again(Moment(0), n).0).collect();
        assert_eq!(waits, [2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]);
        assert_eq!(again(Moment(0), TRIES).0, 60_000);
    }

    #[test]
    fn a_state_is_read_back_as_it_was_kept() {
        let mut met = vec![State::None];
        all(|_, _, after, _| {
            if !met.contains(&after.state) {
                met.push(after.state);
            }
        });
        for state in &met {
            let tries = if let State::Ending(n) = state { *n } else { 0 };
            assert_eq!(State::of(state.word(), tries), Some(*state));
        }
        for state in
            [State::Revoked, State::Left, State::Failed, State::Unknown, State::Live, State::Asked, State::Gone]
        {
            assert!(met.contains(&state), "nothing leads to {state:?}");
        }
        assert_eq!(State::of("held", 0), None);
    }
}
