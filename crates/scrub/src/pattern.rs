//! Patterns of the rules, as automata that are run from one place on.

use regex_automata::{
    Anchored, MatchKind,
    dfa::{Automaton, StartKind, dense},
    util::{primitives::StateID, start, syntax},
};

/// A pattern that is run from one place on, byte by byte.
pub(crate) struct Pattern {
    pub(crate) dfa: dense::DFA<Vec<u32>>,
    pub(crate) start: StateID,
}

/// Bytes over which a pattern stays in one state from which on that is remembered.
const LONG: usize = 64;

/// Where in a text a pattern stayed in one state: whichever run of it comes to this state in there stays in it to the end.
///
/// Without it, a text in which a keyword stands at every few bytes costs its length times the rule's length.
#[derive(Clone, Copy, Default)]
pub(crate) struct Stay {
    pub(crate) state: StateID,
    pub(crate) from: usize,
    pub(crate) to: usize,
}

impl Stay {
    fn note(&mut self, state: StateID, from: usize, to: usize) {
        if to - from >= LONG {
            *self = Self { state, from, to };
        }
    }
}

/// What a pattern says of a text.
pub(crate) enum Run {
    No,
    Yes(usize),
    Open,
}

impl Pattern {
    /// None when it is no regular expression, or one of too many states.
    pub(crate) fn compile(pattern: &str) -> Option<Self> {
        let config = dense::Config::new()
            .match_kind(MatchKind::All)
            .start_kind(StartKind::Anchored)
            .accelerate(false)
            .dfa_size_limit(Some(8 << 20))
            .determinize_size_limit(Some(16 << 20));
        let bytes = syntax::Config::new().unicode(false).utf8(false);
        let dfa = dense::Builder::new().configure(config).syntax(bytes).build(pattern).ok()?;
        let start = dfa.start_state(&start::Config::new().anchored(Anchored::Yes)).ok()?;
        Some(Self { dfa, start })
    }

    /// Whether a match can begin with these bytes.
    pub(crate) fn may_go_on(&self, bytes: &[u8]) -> bool {
        let end = bytes.iter().fold(self.start, |state, byte| self.dfa.next_state(state, *byte));
        !self.dfa.is_dead_state(end)
    }

    /// The length of the longest match that begins at `at`, in the `cap` bytes from there. `stay` is of this pattern and
    /// this text; it changes no answer.
    pub(crate) fn longest(&self, text: &[u8], at: usize, last: bool, cap: usize, stay: &mut Stay) -> Run {
        let (dfa, mut state) = (&self.dfa, self.start);
        let mut best = Run::No;
        let end = text.len().min(at + cap);
        // Since `since` the state is what it is.
        let (mut place, mut since) = (at, at);
        while place < end {
            if stay.state == state && (stay.from..stay.to).contains(&place) {
                place = stay.to.min(end);
                since = since.min(stay.from);
                if dfa.is_match_state(state) {
                    best = Run::Yes(place - 1 - at);
                }
                continue;
            }
            let next = dfa.next_state(state, text[place]);
            if next != state {
                stay.note(state, since, place);
                (state, since) = (next, place + 1);
            }
            if dfa.is_special_state(state) {
                if !dfa.is_match_state(state) {
                    return best;
                }
                // It says so one byte late.
                best = Run::Yes(place - at);
            }
            place += 1;
        }
        if since < end {
            stay.note(state, since, end);
        }
        if text.len() - at >= cap {
            return best;
        }
        if !last {
            return Run::Open;
        }
        if dfa.is_match_state(dfa.next_eoi_state(state)) { Run::Yes(text.len() - at) } else { best }
    }
}
