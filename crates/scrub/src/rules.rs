//! Finding what looks like a credential: the formats that vendors publish, as rules in `rules.toml`.
//!
//! A rule is tried only where one of its keywords stands, and its match begins there. So one pass over the text with a
//! small table finds the places, and of those few each is looked at in full, over a bounded length.
//!
//! Read [`Rule`] (one line of the file, compiled), [`Rule::look`], then [`Rules`] as a [`Search`].

use crate::search::{Next, Search};
use regex_automata::{
    Anchored, MatchKind,
    dfa::{Automaton, StartKind, dense},
    util::{primitives::StateID, start, syntax},
};
use serde::Deserialize;
use std::{collections::BTreeSet, sync::LazyLock};

/// The rules, as they are edited.
const FILE: &str = include_str!("rules.toml");

/// Bytes by which places are found: a keyword's first, and of a keyword of three bytes every one that could follow.
const GRAM: usize = 4;
/// Bits of the table of those.
const GRAM_BITS: u32 = 17;
/// Bytes over which a rule is tried when it names no length.
const USUAL_CAP: usize = 1024;

/// All rules.
pub(crate) static RULES: LazyLock<Rules> = LazyLock::new(|| Rules::read(FILE));

/// One rule as it stands in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Line {
    /// Stands in the placeholder: lower-case letters, digits and `-`.
    pub(crate) id: String,
    /// Whose credential it is, and what it opens.
    #[allow(dead_code, reason = "for whoever reads the file, and for the tests")]
    pub(crate) what: String,
    /// Where its format is written down; a title and not an address.
    #[allow(dead_code, reason = "for whoever reads the file, and for the tests")]
    pub(crate) source: String,
    /// What each match begins with, one of them; at least three bytes.
    pub(crate) keywords: Vec<String>,
    /// Whether the keywords are meant in either case.
    #[serde(default)]
    any_case: bool,
    /// What may stand before the keyword.
    #[serde(default)]
    before: Before,
    /// What stays: a pattern that begins with the keyword. Without it the secret itself does.
    lead: Option<String>,
    /// What is replaced.
    pub(crate) secret: String,
    /// What may follow it.
    #[serde(default)]
    after: After,
    /// Bytes over which it is tried; longer ones are not found, or not to their end.
    #[serde(default)]
    cap: Option<usize>,
    /// Least entropy of what is replaced, in bits a byte.
    #[serde(default)]
    entropy: f64,
    /// Fewest digits in what is replaced.
    #[serde(default)]
    digits: usize,
}

/// What may stand before a keyword. The start of the text always may, and so may the end of an escape
/// (`\n`, `\u003d`, `%3D`, a colour of a terminal), whatever letter or digit it ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Before {
    /// No letter and no digit.
    #[default]
    NoWord,
    /// No letter, digit, `_` or `-`: for tokens made of those.
    NoToken,
    /// A digit.
    Digit,
    /// Anything.
    Any,
}

/// What may stand after a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum After {
    /// No letter and no digit.
    #[default]
    NoWord,
    /// No letter, digit, `_`, `-`, `+`, `/` or `=`.
    NoToken,
    /// An `@`.
    At,
    /// The end of a value: white space, a quote, a backslash, or one of `,;&)}]<#|`.
    Value,
    /// Anything.
    Any,
}

struct Rule {
    placeholder: String,
    any_case: bool,
    before: Before,
    lead: Option<Pattern>,
    secret: Pattern,
    after: After,
    cap: usize,
    entropy: f64,
    digits: usize,
}

/// An answer about one place.
enum Look {
    /// It is not what the rule looks for, whatever comes.
    No,
    /// It is, from here to there, whatever comes.
    Yes { start: usize, end: usize },
    /// More must come.
    Open,
}

impl Rule {
    fn compile(line: &Line) -> Option<Self> {
        Some(Self {
            placeholder: format!("[redacted: {}]", line.id),
            any_case: line.any_case,
            before: line.before,
            lead: line.lead.as_deref().map(|lead| Pattern::compile(lead).ok_or(())).transpose().ok()?,
            secret: Pattern::compile(&line.secret)?,
            after: line.after,
            cap: line.cap.unwrap_or(USUAL_CAP),
            entropy: line.entropy,
            digits: line.digits,
        })
    }

    /// The hashes of the four bytes that a match with this keyword can begin with.
    fn grams(&self, keyword: &[u8]) -> BTreeSet<usize> {
        let first = self.lead.as_ref().unwrap_or(&self.secret);
        match *keyword {
            [a, b, c, d, ..] => BTreeSet::from([gram([a, b, c, d])]),
            [a, b, c] => (0..=u8::MAX).map(|d| [a, b, c, d]).filter(|it| first.may_go_on(it)).map(gram).collect(),
            _ => BTreeSet::new(),
        }
    }

    /// Tries it where `keyword` may begin, at `at`.
    fn look(&self, keyword: &[u8], text: &[u8], at: usize, last: bool) -> Look {
        let rest = &text[at..];
        let there = &rest[..rest.len().min(keyword.len())];
        let same = if self.any_case {
            there.eq_ignore_ascii_case(&keyword[..there.len()])
        } else {
            keyword.starts_with(there)
        };
        if !same || !self.before.holds(&text[..at]) {
            return Look::No;
        }
        if there.len() < keyword.len() {
            return if last { Look::No } else { Look::Open };
        }
        let start = match &self.lead {
            None => at,
            Some(lead) => match lead.longest(rest, last, self.cap) {
                Run::No => return Look::No,
                Run::Open => return Look::Open,
                Run::Yes(end) => at + end,
            },
        };
        match self.secret.longest(&text[start..], last, self.cap) {
            Run::No => Look::No,
            Run::Open => Look::Open,
            Run::Yes(end) => {
                let secret = &text[start..start + end];
                let good = self.after.holds(text.get(start + end))
                    && secret.iter().filter(|byte| byte.is_ascii_digit()).count() >= self.digits
                    && (self.entropy == 0.0 || entropy(secret) >= self.entropy);
                if good && end > 0 { Look::Yes { start, end: start + end } } else { Look::No }
            }
        }
    }
}

impl Before {
    fn holds(self, before: &[u8]) -> bool {
        let Some(&byte) = before.last() else {
            return self != Self::Digit;
        };
        match self {
            Self::Any => true,
            Self::Digit => byte.is_ascii_digit(),
            Self::NoWord => !byte.is_ascii_alphanumeric() || ends_an_escape(before),
            Self::NoToken => !is_token(byte) || ends_an_escape(before),
        }
    }
}

impl After {
    fn holds(self, next: Option<&u8>) -> bool {
        match (self, next) {
            (Self::At, next) => next == Some(&b'@'),
            (_, None) | (Self::Any, _) => true,
            (Self::NoWord, Some(byte)) => !byte.is_ascii_alphanumeric(),
            (Self::NoToken, Some(byte)) => !is_token(*byte) && !b"+/=".contains(byte),
            (Self::Value, Some(byte)) => byte.is_ascii_whitespace() || b"\"'`\\,;&)}]<#|\x1b\0".contains(byte),
        }
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// Whether the last letter or digit of `text` belongs to an escape and not to a word.
fn ends_an_escape(text: &[u8]) -> bool {
    let hex = |count: usize, mark: &[u8]| {
        text.len() >= count
            && text[text.len() - count..].iter().all(u8::is_ascii_hexdigit)
            && text[..text.len() - count].ends_with(mark)
    };
    let [.., slash, letter] = text else { return false };
    if *slash == b'\\' && b"nrtbfve0".contains(letter) || hex(4, b"\\u") || hex(2, b"%") || hex(2, b"\\x") {
        return true;
    }
    // ESC [ 3 2 m, the escape itself in one of its spellings.
    let numbers =
        text[..text.len() - 1].iter().rev().take(10).take_while(|b| b.is_ascii_digit() || **b == b';').count();
    let [before @ .., b'['] = &text[..text.len() - 1 - numbers] else { return false };
    letter.is_ascii_alphabetic()
        && [&b"\x1b"[..], b"\\u001b", b"\\u001B", b"\\x1b", b"\\x1B", b"\\033", b"\\e"]
            .iter()
            .any(|esc| before.ends_with(esc))
}

/// Shannon's entropy of the bytes as they are distributed here, in bits a byte.
fn entropy(bytes: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in bytes {
        counts[usize::from(*byte)] += 1;
    }
    let all = bytes.len() as f64;
    -counts.iter().filter(|count| **count > 0).map(|count| f64::from(*count) / all).map(|p| p * p.log2()).sum::<f64>()
}

/// A pattern that is run from one place on, byte by byte.
struct Pattern {
    dfa: dense::DFA<Vec<u32>>,
    start: StateID,
}

enum Run {
    No,
    Yes(usize),
    Open,
}

impl Pattern {
    /// None when it is no regular expression, or one of too many states.
    fn compile(pattern: &str) -> Option<Self> {
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
    fn may_go_on(&self, bytes: &[u8]) -> bool {
        let end = bytes.iter().fold(self.start, |state, byte| self.dfa.next_state(state, *byte));
        !self.dfa.is_dead_state(end)
    }

    /// The end of the longest match that begins where `text` does, in its first `cap` bytes.
    fn longest(&self, text: &[u8], last: bool, cap: usize) -> Run {
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

/// All rules, and where to try which.
pub(crate) struct Rules {
    rules: Vec<Rule>,
    keywords: Vec<Keyword>,
    /// For every hash of a keyword's first bytes whether there is such a keyword.
    grams: Vec<u64>,
    /// Those keywords, sorted by that hash.
    by_gram: Vec<(u32, u16)>,
    /// The keywords that begin with each byte, in either case.
    by_first: Vec<Vec<u16>>,
}

struct Keyword {
    text: Vec<u8>,
    rule: usize,
}

/// What makes letters lower-case.
const FOLD: u64 = 0x2020_2020_2020_2020;

/// The hash of four bytes in either case.
fn gram(bytes: [u8; GRAM]) -> usize {
    hash(u32::from_le_bytes(bytes) | FOLD as u32)
}

fn hash(folded: u32) -> usize {
    ((folded ^ folded >> 15).wrapping_mul(0x9e37_79b1) >> (32 - GRAM_BITS)) as usize
}

impl Rules {
    /// The rules of a file. One that is none is left out; a test sees to it that there is none such.
    fn read(file: &str) -> Self {
        let mut read = Self {
            rules: Vec::new(),
            keywords: Vec::new(),
            grams: vec![0; 1 << (GRAM_BITS - 6)],
            by_gram: Vec::new(),
            by_first: vec![Vec::new(); 256],
        };
        for line in lines(file) {
            let Some(rule) = Rule::compile(&line) else { continue };
            for keyword in &line.keywords {
                let text = keyword.as_bytes().to_vec();
                for gram in rule.grams(&text) {
                    read.grams[gram >> 6] |= 1 << (gram & 63);
                    read.by_gram.push((gram as u32, read.keywords.len() as u16));
                }
                read.by_first[usize::from(text[0] | 0x20)].push(read.keywords.len() as u16);
                read.keywords.push(Keyword { text, rule: read.rules.len() });
            }
            read.rules.push(rule);
        }
        read.by_gram.sort_unstable();
        read
    }

    /// The first place from `at` on where a keyword may stand, if four bytes stand there.
    fn candidate(&self, text: &[u8], mut at: usize) -> Option<usize> {
        let is = |gram: usize| self.grams[gram >> 6] >> (gram & 63) & 1;
        // Five places by one load, most often none of them a candidate.
        while let Some(bytes) = text.get(at..)?.first_chunk() {
            let here = u64::from_le_bytes(*bytes) | FOLD;
            let hit = |on: u32| is(hash((here >> (8 * on)) as u32));
            let hits = [hit(0), hit(1), hit(2), hit(3), hit(4)];
            if hits.iter().fold(0, |any, hit| any | hit) != 0 {
                return hits.iter().position(|hit| *hit != 0).map(|on| at + on);
            }
            at += hits.len();
        }
        let rest = text.get(at..)?.windows(GRAM).position(|w| is(gram([w[0], w[1], w[2], w[3]])) != 0);
        rest.map(|on| at + on)
    }

    /// What all rules whose keyword may stand at `at` say together.
    fn look(&self, text: &[u8], at: usize, last: bool) -> Option<Next<'_>> {
        let gram = gram(*text[at..].first_chunk()?) as u32;
        let from = self.by_gram.partition_point(|(other, _)| *other < gram);
        let mut best: Option<(usize, usize, &str)> = None;
        for (_, keyword) in self.by_gram[from..].iter().take_while(|(other, _)| *other == gram) {
            let Keyword { text: keyword, rule } = &self.keywords[usize::from(*keyword)];
            let rule = &self.rules[*rule];
            match rule.look(keyword, text, at, last) {
                Look::No => {}
                Look::Open => return Some(Next::None(at)),
                Look::Yes { start, end } if best.is_none_or(|(_, other, _)| end > other) => {
                    best = Some((start, end, &rule.placeholder));
                }
                Look::Yes { .. } => {}
            }
        }
        best.map(|(start, end, placeholder)| Next::Found { start, end, placeholder })
    }

    /// Whether a keyword may begin with the few bytes that stand at the end of `text`.
    fn may_begin(&self, text: &[u8], at: usize) -> bool {
        self.by_first[usize::from(text[at] | 0x20)].iter().any(|keyword| {
            let keyword = &self.keywords[usize::from(*keyword)];
            matches!(self.rules[keyword.rule].look(&keyword.text, text, at, false), Look::Open)
        })
    }
}

impl Search for Rules {
    const BEHIND: usize = 24;

    fn next(&self, text: &[u8], from: usize, last: bool) -> Next<'_> {
        let mut at = from;
        while let Some(candidate) = self.candidate(text, at) {
            if let Some(next) = self.look(text, candidate, last) {
                return next;
            }
            at = candidate + 1;
        }
        if last {
            return Next::None(text.len());
        }
        let tail = from.max((text.len() + 1).saturating_sub(GRAM));
        Next::None((tail..text.len()).find(|&at| self.may_begin(text, at)).unwrap_or(text.len()))
    }
}

#[derive(Deserialize)]
struct File {
    rule: Vec<Line>,
}

fn lines(file: &str) -> Vec<Line> {
    toml::from_str::<File>(file).map(|file| file.rule).unwrap_or_default()
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_of_the_file_is_one_and_is_bounded() {
        let file: File = toml::from_str(FILE).unwrap();
        assert!(file.rule.len() > 100, "{} rules", file.rule.len());
        let ids: BTreeSet<&str> = file.rule.iter().map(|line| line.id.as_str()).collect();
        assert_eq!(ids.len(), file.rule.len(), "an id stands twice");
        for line in &file.rule {
            assert!(Rule::compile(line).is_some(), "{}: a pattern is none", line.id);
            assert!(!line.what.is_empty() && !line.source.is_empty(), "{}", line.id);
            assert!(line.cap.unwrap_or(USUAL_CAP) <= 16 * 1024, "{}", line.id);
            assert!(line.id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'), "{}", line.id);
            let folded = line.keywords.iter().all(|keyword| !line.any_case || *keyword == keyword.to_lowercase());
            assert!(folded && !line.keywords.is_empty(), "{}", line.id);
            assert!(line.keywords.iter().all(|keyword| keyword.len() >= 3), "{}: a keyword is too short", line.id);
        }
        assert_eq!(Rules::read(FILE).rules.len(), file.rule.len());
    }

    #[test]
    fn a_rules_match_can_begin_with_each_of_its_keywords() {
        for line in lines(FILE) {
            let rule = Rule::compile(&line).unwrap();
            let first = rule.lead.as_ref().unwrap_or(&rule.secret);
            for keyword in &line.keywords {
                assert!(first.may_go_on(keyword.as_bytes()), "{}: {keyword:?} leads nowhere", line.id);
                assert!(!rule.grams(keyword.as_bytes()).is_empty());
            }
        }
    }

    #[test]
    fn no_secret_holds_a_quote_so_that_json_stays_json() {
        for line in lines(FILE) {
            let rule = Rule::compile(&line).unwrap();
            let (mut seen, mut open) = (BTreeSet::from([rule.secret.start]), vec![rule.secret.start]);
            while let Some(state) = open.pop() {
                assert!(
                    rule.secret.dfa.is_dead_state(rule.secret.dfa.next_state(state, b'"'))
                        || rule.secret.dfa.is_match_state(rule.secret.dfa.next_state(state, b'"')),
                    "{}",
                    line.id
                );
                let next = (0..=u8::MAX).filter(|b| *b != b'"').map(|b| rule.secret.dfa.next_state(state, b));
                open.extend(next.filter(|next| seen.insert(*next)));
            }
        }
    }

    #[test]
    fn an_escape_before_a_token_is_no_word() {
        for before in ["\\n", "\\u003d", "%3D", "\\x3d", "\u{1b}[32m", "\\u001b[1;32m"] {
            assert!(Before::NoWord.holds(before.as_bytes()), "{before:?}");
        }
        for before in ["n", "a\\\\", "x%3", "[32m", "task"] {
            assert_eq!(Before::NoWord.holds(before.as_bytes()), before.ends_with('\\'), "{before:?}");
        }
    }
}
