//! The life of an OAuth connection: what to do next, from what is written down, a clock and nothing else.
//!
//! A refresh token may be good for one use. Whoever wants to use it takes the lock in the database first, and in the
//! same act journals that it is about to be sent; the lock's number is the fence without which no answer is kept. What
//! became of a refresh that nobody told of (a crash, a lost answer) is unknown: then the token that is there is tried
//! once more, and after that the connection is closed until somebody signs in again.
//!
//! The lock has no time written on it, for two servers' clocks may differ: it is passed over by one who has seen the
//! very same fence for [`HOLD_MS`] by a clock of its own. A call under it is not sent later than [`SEND_MS`] after the
//! lock was asked for, and is given up [`CALL_SECS`] later, so at most one is ever under way.
//!
//! Read [`Standing`], [`Standing::next`], then what may happen: [`Standing::take`], [`Standing::answered`],
//! [`Standing::signed_in`], [`Standing::revoke`].

use model::Moment;
use serde::{Deserialize, Serialize};

/// How long after the lock was asked for a refresh may still be sent, in milliseconds.
pub const SEND_MS: u64 = 4_000;

/// How long a refresh may take once it is with the gateway, in seconds.
pub const CALL_SECS: u16 = 8;

/// How long one and the same fence must have been seen before the lock is passed over, in milliseconds.
pub const HOLD_MS: u64 = 20_000;

const _: () =
    assert!(HOLD_MS >= SEND_MS + 1000 * CALL_SECS as u64 + 5_000, "a call under the lock is over before the lock is");

/// How long before its end an access token is refreshed, at most, in milliseconds; never more than a quarter of its life.
const AHEAD_MS: i64 = 300_000;

/// How long before its end an access token is no longer given out, at most, in milliseconds; never more than a tenth
/// of its life.
const MARGIN_MS: i64 = 30_000;

/// How far the clock may stand before the moment of issue before nothing is believed of the token's age.
const SKEW_MS: i64 = 60_000;

/// Waits after a refresh that did not reach its provider, in milliseconds: the first, doubled up to the last.
const BACKOFF_MS: (i64, i64) = (2_000, 300_000);

/// Longest lifetime of an access token that is believed, in seconds: ten years.
const MAX_LIFE_SECS: u64 = 315_360_000;

/// How a connection stands, as it is kept beside its sealed tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Standing {
    /// Whether it may be used at all.
    pub life: Life,
    /// Of the tokens that are kept.
    pub token: Option<Token>,
    /// Which tokens those are: one more with each sign-in and each refresh.
    pub generation: u64,
    /// The number of the last lock, of a refresh, a sign-in or a revocation; it only grows.
    pub fence: u64,
    /// The lock is held under [`Standing::fence`].
    pub locked: bool,
    /// How often the refresh token of this generation was sent without its outcome being known.
    pub tries: u8,
    /// Refreshes that did not reach the provider since the last that did.
    pub misses: u8,
    /// No refresh before this moment.
    pub not_before: Option<Moment>,
}

/// Whether a connection may be used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Life {
    /// Nobody has signed in yet.
    #[default]
    New,
    /// Signed in.
    Live,
    /// Closed until somebody signs in again.
    Lapsed(Lapse),
    /// Ended here; what is left of its tokens is being ended at the provider.
    Revoking,
    /// Ended.
    Revoked,
}

/// Why a connection is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lapse {
    /// The provider refused the refresh token.
    Refused,
    /// Twice it did not become known what came of a refresh.
    Unknown,
    /// The access token is over, and there is no refresh token.
    Expired,
    /// The row is of a copy; the tokens are another home's.
    Restored,
}

/// What is known of the tokens that are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Token {
    /// When they were asked for, so that an answer's way counts against them.
    pub issued: Moment,
    /// When the access token is over; none if the provider does not say.
    pub expires: Option<Moment>,
    /// Whether there is a refresh token.
    pub refreshable: bool,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    /// The access token that is kept may be given out.
    pub usable: bool,
    /// What to do about the refresh token.
    pub act: Act,
}

/// See [`Next`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Nothing, now.
    Rest,
    /// Another one refreshes, or nobody may for a while.
    Wait,
    /// Take the lock and send the refresh token.
    Send,
    /// Close the connection.
    Lapse(Lapse),
}

/// What became of a refresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// New tokens came; the access token lives for so many seconds, if the provider says.
    Tokens {
        /// When they were asked for.
        asked: Moment,
        /// Seconds.
        lives: Option<u64>,
        /// Whether there is a refresh token now, the old one or a new one.
        refreshable: bool,
    },
    /// The provider did not see it, or said that it did not act on it.
    Untouched,
    /// The provider refused the refresh token.
    Refused,
    /// Nobody knows.
    Unknown,
}

impl Token {
    /// Of an answer that was asked for at `asked`.
    #[must_use]
    pub fn of(asked: Moment, lives: Option<u64>, refreshable: bool) -> Self {
        let ms = |secs: u64| i64::try_from(secs.min(MAX_LIFE_SECS)).unwrap_or(0) * 1000;
        Self { issued: asked, expires: lives.map(|secs| asked.plus_ms(ms(secs))), refreshable }
    }

    /// Whether it may be given out, and whether it should be refreshed, as far as its age goes.
    fn age(self, now: Moment) -> (bool, bool) {
        let Some(expires) = self.expires else { return (true, false) };
        let life = expires.since(self.issued);
        let left = expires.since(now);
        // Before its issue nothing is known of its age: a clock was set back, here or there.
        let strange = self.issued.since(now) > SKEW_MS;
        (left > (life / 10).min(MARGIN_MS) && !strange, left <= (life / 4).min(AHEAD_MS) || strange)
    }
}

impl Standing {
    /// What to do at `now`, by one who has seen the very same fence for `seen_ms` by a clock that is never set.
    #[must_use]
    pub fn next(&self, now: Moment, seen_ms: u64) -> Next {
        let closed = Next { usable: false, act: Act::Rest };
        let (Life::Live, Some(token)) = (self.life, self.token) else { return closed };
        let (fresh, due) = token.age(now);
        let next = |act| Next { usable: fresh, act };
        if self.locked && seen_ms < HOLD_MS {
            return next(if fresh { Act::Rest } else { Act::Wait });
        }
        // What was sent without an answer is dealt with whether or not the access token still holds.
        if self.tries >= 2 {
            return Next { usable: false, act: Act::Lapse(Lapse::Unknown) };
        }
        if self.tries == 0 && !due {
            return next(Act::Rest);
        }
        if !token.refreshable {
            return if fresh { next(Act::Rest) } else { Next { usable: false, act: Act::Lapse(Lapse::Expired) } };
        }
        // A moment further away than any wait was written by a clock that ran ahead.
        let held = self.not_before.is_some_and(|then| then > now && then.since(now) <= BACKOFF_MS.1);
        match (held, fresh) {
            (false, _) => next(Act::Send),
            (true, true) => next(Act::Rest),
            (true, false) => next(Act::Wait),
        }
    }

    /// The lock is taken, and the journal says that the refresh token is about to be sent. To be kept before it is.
    #[must_use]
    pub fn take(&self) -> Self {
        Self { fence: self.fence + 1, locked: true, tries: self.tries + 1, ..self.clone() }
    }

    /// A refresh under `fence` has come to its end at `now`. None if that lock is no longer held: then nothing of the
    /// answer may be kept.
    #[must_use]
    pub fn answered(&self, fence: u64, outcome: Outcome, now: Moment) -> Option<Self> {
        if !self.locked || self.fence != fence || self.life != Life::Live {
            return None;
        }
        let free = Self { locked: false, ..self.clone() };
        Some(match outcome {
            Outcome::Tokens { asked, lives, refreshable } => Self {
                token: Some(Token::of(asked, lives, refreshable)),
                generation: self.generation + 1,
                tries: 0,
                misses: 0,
                not_before: None,
                ..free
            },
            Outcome::Untouched => {
                let wait = BACKOFF_MS.0.saturating_mul(1 << i64::from(self.misses.min(20))).min(BACKOFF_MS.1);
                Self {
                    tries: self.tries.saturating_sub(1),
                    misses: self.misses.saturating_add(1),
                    not_before: Some(now.plus_ms(wait)),
                    ..free
                }
            }
            Outcome::Refused => free.lapse(Lapse::Refused),
            Outcome::Unknown if self.tries >= 2 => free.lapse(Lapse::Unknown),
            Outcome::Unknown => free,
        })
    }

    /// Closed until somebody signs in again.
    #[must_use]
    pub fn lapse(&self, why: Lapse) -> Self {
        Self { life: Life::Lapsed(why), locked: false, tries: 0, misses: 0, not_before: None, ..self.clone() }
    }

    /// Somebody signed in: the tokens are those of the sign-in, and no answer to an older question is kept.
    #[must_use]
    pub fn signed_in(&self, token: Token) -> Self {
        Self {
            life: Life::Live,
            token: Some(token),
            generation: self.generation + 1,
            fence: self.fence + 1,
            ..Self::default()
        }
    }

    /// Ended here, at once; no answer to an older question is kept.
    #[must_use]
    pub fn revoke(&self) -> Self {
        Self {
            life: Life::Revoking,
            token: self.token,
            generation: self.generation,
            fence: self.fence + 1,
            ..Self::default()
        }
    }

    /// Its tokens are gone.
    #[must_use]
    pub fn revoked(&self) -> Self {
        Self { life: Life::Revoked, token: None, generation: self.generation, fence: self.fence + 1, ..Self::default() }
    }
}

#[cfg(test)]
mod tests;
