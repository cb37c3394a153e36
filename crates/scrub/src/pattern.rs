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

    /// The end of the longest match that begins where `text` does, in its first `cap` bytes.
    pub(crate) fn longest(&self, text: &[u8], last: bool, cap: usize) -> Run {
        let (dfa, mut state) = (&self.dfa, self.start);
        let mut best = Run::No;
        for (at, &byte) in text.iter().take(cap).enumerate() {
            state = dfa.next_state(state, byte);
            if !dfa.is_special_state(state) {
                continue;
            }
            if !dfa.is_match_state(state) {
                return best;
            }
            // It says so one byte late.
            best = Run::Yes(at);
        }
        if text.len() >= cap {
            return best;
        }
        if !last {
            return Run::Open;
        }
        if dfa.is_match_state(dfa.next_eoi_state(state)) { Run::Yes(text.len()) } else { best }
    }
}
