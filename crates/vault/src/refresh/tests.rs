use super::*;
use proptest::prelude::*;
use std::collections::{HashSet, VecDeque};

const HOUR: i64 = 3_600_000;

fn live(issued: i64, lives: u64) -> Standing {
    Standing::default().signed_in(Token::of(Moment(issued), Some(lives), true))
}

#[test]
fn a_token_is_refreshed_ahead_of_its_end_and_given_out_until_shortly_before_it() {
    let at = |now| live(0, 3600).next(Moment(now), 0);
    assert_eq!(at(0), Next { usable: true, act: Act::Rest });
    assert_eq!(at(HOUR - AHEAD_MS - 1), Next { usable: true, act: Act::Rest });
    assert_eq!(at(HOUR - AHEAD_MS), Next { usable: true, act: Act::Send });
    assert_eq!(at(HOUR - MARGIN_MS - 1), Next { usable: true, act: Act::Send });
    assert_eq!(at(HOUR - MARGIN_MS), Next { usable: false, act: Act::Send });
}

#[test]
fn a_token_of_a_second_is_given_out_for_most_of_it() {
    let at = |now| live(0, 1).next(Moment(now), 0);
    assert_eq!(at(749), Next { usable: true, act: Act::Rest });
    assert_eq!(at(750), Next { usable: true, act: Act::Send });
    assert_eq!(at(899), Next { usable: true, act: Act::Send });
    assert_eq!(at(900), Next { usable: false, act: Act::Send });
}

#[test]
fn a_clock_that_was_set_back_beyond_the_issue_makes_a_token_due_and_not_eternal() {
    let standing = live(10 * HOUR, 3600);
    assert_eq!(standing.next(Moment(10 * HOUR - SKEW_MS), 0).act, Act::Rest);
    assert_eq!(standing.next(Moment(10 * HOUR - SKEW_MS - 1), 0), Next { usable: false, act: Act::Send });
}

#[test]
fn a_lock_is_passed_over_only_by_one_who_saw_it_for_the_whole_hold_by_a_clock_of_its_own() {
    let taken = live(0, 3600).take();
    // However late it is by the clock on the wall.
    for now in [HOUR, 1000 * HOUR] {
        assert_eq!(taken.next(Moment(now), HOLD_MS - 1), Next { usable: false, act: Act::Wait });
        assert_eq!(taken.next(Moment(now), HOLD_MS).act, Act::Send);
    }
}

#[test]
fn after_an_unknown_outcome_the_old_token_is_tried_once_and_then_the_connection_is_closed() {
    let first = live(0, 3600).take();
    let again = first.answered(first.fence, Outcome::Unknown, Moment(HOUR)).unwrap();
    assert_eq!(again.next(Moment(0), 0).act, Act::Send, "also while the access token holds");
    let second = again.take();
    assert_eq!(second.tries, 2);
    let over = second.answered(second.fence, Outcome::Unknown, Moment(HOUR)).unwrap();
    assert_eq!(over.life, Life::Lapsed(Lapse::Unknown));
    // The same when nobody tells that it is unknown.
    assert_eq!(first.next(Moment(HOUR), HOLD_MS).act, Act::Send);
    assert_eq!(second.next(Moment(0), HOLD_MS), Next { usable: false, act: Act::Lapse(Lapse::Unknown) });
}

#[test]
fn what_did_not_reach_the_provider_is_tried_again_after_a_wait_that_grows_to_its_bound() {
    let mut standing = live(0, 3600);
    let mut now = Moment(HOUR);
    let mut waits = Vec::new();
    for _ in 0..12 {
        assert_eq!(standing.next(now, 0).act, Act::Send);
        let taken = standing.take();
        standing = taken.answered(taken.fence, Outcome::Untouched, now).unwrap();
        assert_eq!((standing.tries, standing.life), (0, Life::Live));
        assert_eq!(standing.next(now, 0), Next { usable: false, act: Act::Wait });
        let then = standing.not_before.unwrap();
        waits.push(then.since(now));
        now = then;
    }
    assert_eq!((waits[0], waits[1], *waits.last().unwrap()), (BACKOFF_MS.0, 2 * BACKOFF_MS.0, BACKOFF_MS.1));
    // One that a clock ahead of ours wrote holds nothing up.
    standing.not_before = Some(now.plus_ms(BACKOFF_MS.1 + 1));
    assert_eq!(standing.next(now, 0).act, Act::Send);
}

#[test]
fn an_answer_under_another_fence_than_the_last_is_kept_by_nobody() {
    let taken = live(0, 3600).take();
    let tokens = Outcome::Tokens { asked: Moment(HOUR), lives: Some(3600), refreshable: true };
    let over = taken.take();
    for standing in [over.clone(), over.signed_in(Token::of(Moment(1), None, true)), taken.revoke(), taken.revoked()] {
        assert_eq!(standing.answered(taken.fence, tokens, Moment(HOUR)), None, "{standing:?}");
    }
    assert!(taken.answered(taken.fence, tokens, Moment(HOUR)).is_some());
}

#[test]
fn a_connection_that_is_not_signed_in_is_closed_whatever_its_tokens_are() {
    for life in [Life::New, Life::Lapsed(Lapse::Refused), Life::Revoking, Life::Revoked] {
        let standing = Standing { life, ..live(0, 3600) };
        assert_eq!(standing.next(Moment(0), HOLD_MS), Next { usable: false, act: Act::Rest });
    }
}

#[test]
fn without_a_refresh_token_a_token_is_used_to_its_end_and_then_the_connection_is_closed() {
    let once = Standing::default().signed_in(Token::of(Moment(0), Some(3600), false));
    assert_eq!(once.next(Moment(HOUR - AHEAD_MS), 0), Next { usable: true, act: Act::Rest });
    assert_eq!(once.next(Moment(HOUR), 0), Next { usable: false, act: Act::Lapse(Lapse::Expired) });
    let forever = Standing::default().signed_in(Token::of(Moment(0), None, false));
    assert_eq!(forever.next(Moment(1 << 50), 0), Next { usable: true, act: Act::Rest });
}

proptest! {
    #[test]
    fn no_lifetime_that_a_provider_claims_makes_a_time_run_over(asked in any::<i64>(), lives in any::<u64>(), now in any::<i64>(), seen in any::<u64>()) {
        let standing = Standing::default().signed_in(Token::of(Moment(asked), Some(lives), true));
        let next = standing.next(Moment(now), seen);
        prop_assert!(matches!(next.act, Act::Rest | Act::Send));
    }
}

// Every interleaving of two servers, a gateway each, one database, one provider and their clocks.
//
// A tick is a third of the hold; a request is sent in the tick of its lock and is over in the next one, as the
// constants have it. A server that is killed leaves its request under way.

/// Ticks after which a lock may be passed over.
const HOLD: u8 = 3;
/// Ticks of a request's life, from its lock.
const OVER: u8 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Server {
    Idle,
    /// Its lock is kept, so many ticks ago; nothing is sent yet.
    Locked {
        fence: u64,
        age: u8,
        token: u64,
    },
    /// Its request is with the gateway.
    Waits {
        fence: u64,
    },
    /// The answer has come and is not kept yet.
    Told {
        fence: u64,
        answer: Told,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Told {
    Tokens(u64),
    Refused,
    Unknown,
}

/// A token's number where the kept one is number 10; what is older than the one before that is old alike.
fn beside(token: u64, kept: u64) -> u64 {
    (10 + token).saturating_sub(kept).max(8)
}

impl Told {
    fn shift(&mut self, kept: u64) {
        if let Self::Tokens(token) = self {
            *token = beside(*token, kept);
        }
    }
}

/// A request at a gateway or on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Flying {
    /// Whose it is; nobody's after a kill.
    of: Option<usize>,
    token: u64,
    age: u8,
    /// The provider has acted on it; its answer is on the way.
    answer: Option<Told>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    standing: Standing,
    /// Which refresh token is kept; it goes with the generation.
    kept: u64,
    servers: [Server; 2],
    /// For how many ticks each has seen the fence.
    seen: [(u64, u8); 2],
    flying: Vec<Flying>,
    /// The refresh token that the provider takes, and the one before it if it is lenient.
    valid: u64,
    /// Servers killed and answers lost so far.
    trouble: u8,
    /// A server that had something to do did nothing for a tick.
    stalled: bool,
}

/// Most trouble on one walk: three in a row meet every state of a token that may be tried twice.
const TROUBLE: u8 = 3;

#[derive(Debug, Clone, Copy)]
struct Provider {
    rotates: bool,
    /// It takes the last token before once more.
    lenient: bool,
}

impl World {
    fn begin() -> Self {
        Self {
            standing: live(0, 3600),
            kept: 1,
            servers: [Server::Idle; 2],
            seen: [(0, 0); 2],
            flying: Vec::new(),
            valid: 1,
            trouble: 0,
            stalled: false,
        }
    }

    /// The access token is over all the time: a refresh is always wanted.
    const NOW: Moment = Moment(HOUR);

    /// One server looks, and does what it is told: an act in the database.
    fn look(&self, who: usize) -> Option<Self> {
        let mut next = self.clone();
        let seen = if self.seen[who].0 == self.standing.fence { self.seen[who].1 } else { 0 };
        next.seen[who] = (self.standing.fence, seen);
        let seen_ms = if seen >= HOLD { HOLD_MS } else { u64::from(seen) * (HOLD_MS / u64::from(HOLD)) };
        match self.standing.next(Self::NOW, seen_ms).act {
            Act::Send => {
                next.standing = self.standing.take();
                next.servers[who] = Server::Locked { fence: next.standing.fence, age: 0, token: self.kept };
            }
            Act::Lapse(why) => next.standing = self.standing.lapse(why),
            Act::Rest | Act::Wait => {}
        }
        (next != *self).then_some(next)
    }

    /// Keeps an answer: an act in the database.
    fn keep(&self, who: usize, fence: u64, told: Told) -> Self {
        let mut next = self.clone();
        next.servers[who] = Server::Idle;
        let outcome = match told {
            Told::Tokens(_) => Outcome::Tokens { asked: Self::NOW, lives: Some(0), refreshable: true },
            Told::Refused => Outcome::Refused,
            Told::Unknown => Outcome::Unknown,
        };
        if let Some(standing) = self.standing.answered(fence, outcome, Self::NOW) {
            next.standing = standing;
            if let Told::Tokens(token) = told {
                next.kept = token;
            }
        }
        next
    }

    fn successors(&self, provider: Provider) -> Vec<Self> {
        let mut all = Vec::new();
        for who in 0..2 {
            match self.servers[who] {
                Server::Idle => all.extend(self.look(who)),
                Server::Locked { fence, age, token } => {
                    let mut next = self.clone();
                    // Held up for longer than a request may be: it is not sent.
                    if age >= 1 {
                        next.servers[who] = Server::Idle;
                        next.standing = self.standing.answered(fence, Outcome::Untouched, Self::NOW).map_or_else(
                            || self.standing.clone(),
                            |standing| Standing { misses: 0, not_before: None, ..standing },
                        );
                    } else {
                        next.servers[who] = Server::Waits { fence };
                        next.flying.push(Flying { of: Some(who), token, age, answer: None });
                    }
                    all.push(next);
                }
                Server::Waits { .. } => {}
                Server::Told { fence, answer } => all.push(self.keep(who, fence, answer)),
            }
            if self.servers[who] != Server::Idle && self.trouble < TROUBLE {
                let mut next = self.clone();
                next.trouble += 1;
                next.servers[who] = Server::Idle;
                next.seen[who] = (0, 0);
                for flying in next.flying.iter_mut().filter(|flying| flying.of == Some(who)) {
                    flying.of = None;
                }
                all.push(next);
            }
        }
        for at in 0..self.flying.len() {
            let flying = self.flying[at];
            match flying.answer {
                // The provider acts on it.
                None => {
                    let mut next = self.clone();
                    let good = flying.token == self.valid || provider.lenient && flying.token + 1 == self.valid;
                    let answer = match (good, provider.rotates) {
                        (true, true) => {
                            next.valid += 1;
                            Told::Tokens(next.valid)
                        }
                        (true, false) => Told::Tokens(flying.token),
                        (false, _) => Told::Refused,
                    };
                    next.flying[at].answer = Some(answer);
                    all.push(next);
                }
                // The answer comes back, to whoever still waits for it.
                Some(answer) => all.push(self.land(at, answer)),
            }
            // It is lost on either way.
            if self.trouble < TROUBLE {
                let mut next = self.land(at, Told::Unknown);
                next.trouble += 1;
                all.push(next);
            }
        }
        // Time passes; a request that has had its time is given up before it does.
        if self.flying.iter().all(|flying| flying.age + 1 < OVER) {
            let mut next = self.clone();
            for who in 0..2 {
                next.stalled |= matches!(next.servers[who], Server::Locked { age: 1, .. } | Server::Told { .. });
                let (fence, seen) = next.seen[who];
                next.seen[who] = (fence, (seen + 1).min(HOLD));
                if let Server::Locked { age, .. } = &mut next.servers[who] {
                    *age = (*age + 1).min(1);
                }
            }
            next.flying.iter_mut().for_each(|flying| flying.age += 1);
            all.push(next);
        }
        all
    }

    /// The same world with small numbers: of fences only whether they are the last one matters, of tokens which is
    /// newer, of generations whether there was a refresh.
    fn reduced(mut self) -> Self {
        let (last, kept) = (self.standing.fence, self.kept);
        let fence = |of: u64| if of == last { 2 } else { 1 };
        for server in &mut self.servers {
            match server {
                Server::Idle => {}
                Server::Locked { fence: of, token, .. } => (*of, *token) = (fence(*of), beside(*token, kept)),
                Server::Waits { fence: of } => *of = fence(*of),
                Server::Told { fence: of, answer } => {
                    *of = fence(*of);
                    answer.shift(kept);
                }
            }
        }
        for (of, ticks) in &mut self.seen {
            if *of != last {
                *ticks = 0;
            }
            *of = fence(*of);
        }
        for flying in &mut self.flying {
            flying.token = beside(flying.token, kept);
            if let Some(answer) = &mut flying.answer {
                answer.shift(kept);
            }
        }
        self.valid = beside(self.valid, kept);
        self.kept = 10;
        self.standing.fence = 2;
        self.standing.generation = self.standing.generation.min(2);
        self
    }

    fn land(&self, at: usize, answer: Told) -> Self {
        let mut next = self.clone();
        let flying = next.flying.remove(at);
        if let Some(who) = flying.of
            && let Server::Waits { fence } = self.servers[who]
        {
            next.servers[who] = Server::Told { fence, answer };
        }
        next
    }
}

/// Walks through every world that can come about; gives them.
fn walk(provider: Provider) -> HashSet<World> {
    let mut met = HashSet::from([World::begin().reduced()]);
    let mut ahead = VecDeque::from([World::begin().reduced()]);
    while let Some(world) = ahead.pop_front() {
        for next in world.successors(provider) {
            assert!(next.standing.fence >= world.standing.fence, "a fence only grows");
            assert!(
                next.kept >= world.kept,
                "tokens that are kept are never older than those before:\n{world:?}\n{next:?}"
            );
            let next = next.reduced();
            assert!(met.len() < 2_000_000, "there is no end to it");
            if met.insert(next.clone()) {
                ahead.push_back(next);
            }
        }
    }
    met
}

#[test]
fn in_every_interleaving_at_most_one_refresh_is_under_way() {
    for provider in every_provider() {
        let met = walk(provider);
        assert!(met.len() > 1000, "it is a walk: {}", met.len());
        for world in &met {
            assert!(world.flying.len() <= 1, "{world:?}");
        }
    }
}

#[test]
fn in_every_interleaving_a_live_connection_has_the_token_that_works_or_knows_that_it_may_not() {
    for provider in every_provider() {
        for world in &walk(provider) {
            let standing = &world.standing;
            if standing.life == Life::Live && standing.tries == 0 {
                assert_eq!(world.kept, world.valid, "{provider:?} {world:?}");
            }
            assert!(standing.tries <= 2, "{world:?}");
        }
    }
}

#[test]
fn in_every_interleaving_some_way_leads_back_to_a_connection_that_works_or_says_that_it_does_not() {
    for provider in every_provider() {
        let met = walk(provider);
        // A provider that does not rotate, or forgives, loses no sign-in to one kill.
        if !provider.rotates || provider.lenient {
            let one = |world: &&World| world.trouble <= 1 && !world.stalled;
            assert!(met.iter().filter(one).all(|w| !matches!(w.standing.life, Life::Lapsed(_))), "{provider:?}");
        }
        // From every world, and without more trouble: a kill is no way out.
        let mut leads: HashSet<&World> = HashSet::new();
        loop {
            let before = leads.len();
            for world in &met {
                let ends = |next: World| {
                    let refreshed = next.standing.generation > world.standing.generation;
                    next.trouble == world.trouble && (refreshed || leads.contains(&next.reduced()))
                };
                if matches!(world.standing.life, Life::Lapsed(_)) || world.successors(provider).into_iter().any(ends) {
                    leads.insert(world);
                }
            }
            if leads.len() == before {
                break;
            }
        }
        assert_eq!(met.iter().find(|world| !leads.contains(world)), None, "{provider:?}");
    }
}

fn every_provider() -> [Provider; 3] {
    [
        Provider { rotates: true, lenient: false },
        Provider { rotates: true, lenient: true },
        Provider { rotates: false, lenient: false },
    ]
}
