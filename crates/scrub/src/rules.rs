//! Finding what looks like a credential: the formats that vendors publish, as rules in `rules.toml`.
//!
//! A rule is tried only where one of its keywords stands, and its match begins there. So one pass over the text with a
//! small table finds the places, and of those few each is looked at in full, over a bounded length.
//!
//! A file of which one rule cannot be used gives none at all, and whoever wants formats looked for has to have them
//! read first ([`Formats::load`]): there is no scrubber of formats that quietly knows none.
//!
//! Read [`rule`] (one line of the file, compiled), then [`Marked`], which searches.

mod rule;

use crate::{
    Key,
    pattern::Stay,
    search::{Next, Search},
};
pub(crate) use rule::Line;
use rule::{Look, Rule};
use serde::Deserialize;
use std::sync::LazyLock;

/// The rules, as they are edited.
const FILE: &str = include_str!("rules.toml");

/// Bytes by which places are found: a keyword's first, and of a keyword of three bytes every one that could follow.
const GRAM: usize = 4;
/// Bits of the table of those.
const GRAM_BITS: u32 = 17;
/// The rules, or what is wrong with their file.
static RULES: LazyLock<Result<Rules, FormatsError>> = LazyLock::new(|| Rules::read(FILE));

/// The formats of credentials, read: whoever holds this has every rule of the file.
#[derive(Clone, Copy)]
pub struct Formats(&'static Rules);

/// Why formats of credentials cannot be looked for. A process that was to look for them must not begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormatsError(String);

impl std::fmt::Display for FormatsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the rules by which credentials are known cannot be used: {}", self.0)
    }
}
impl std::error::Error for FormatsError {}

impl Formats {
    /// Reads the rules that are compiled in; at the first call, some tens of milliseconds.
    ///
    /// # Errors
    /// [`FormatsError`]: one of them, by its id, cannot be used. Then there are none.
    pub fn load() -> Result<Self, FormatsError> {
        RULES.as_ref().map(Self).map_err(Clone::clone)
    }

    /// How many rules there are.
    #[must_use]
    pub fn count(self) -> usize {
        self.0.rules.len()
    }

    /// The search for them; what is found is fingerprinted under `key`, if there is one.
    pub(crate) fn marked(self, key: Option<&Key>) -> Marked<'_> {
        Marked { rules: self.0, key }
    }
}

impl std::fmt::Debug for Formats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Formats({})", self.count())
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
    /// The rules of a file: all, or none.
    ///
    /// # Errors
    /// What is wrong with the file, or with the first rule that cannot be used.
    fn read(file: &str) -> Result<Self, FormatsError> {
        let file: File = toml::from_str(file).map_err(|e| FormatsError(e.message().to_owned()))?;
        if file.rule.is_empty() {
            return Err(FormatsError("there are none".to_owned()));
        }
        let mut read = Self {
            rules: Vec::new(),
            keywords: Vec::new(),
            grams: vec![0; 1 << (GRAM_BITS - 6)],
            by_gram: Vec::new(),
            by_first: vec![Vec::new(); 256],
        };
        for line in &file.rule {
            let rule = Rule::compile(line).map_err(|why| FormatsError(format!("{}: {why}", line.id)))?;
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
        Ok(read)
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

    /// What all rules whose keyword may stand at `at` say together. `stays` are of this text, by rule, or none yet.
    fn look(&self, text: &[u8], at: usize, last: bool, stays: &mut Vec<Stay>) -> Option<Said<'_>> {
        stays.resize(self.rules.len(), Stay::default());
        let gram = gram(*text[at..].first_chunk()?) as u32;
        let from = self.by_gram.partition_point(|(other, _)| *other < gram);
        let mut best: Option<(usize, usize, &Rule)> = None;
        for (_, keyword) in self.by_gram[from..].iter().take_while(|(other, _)| *other == gram) {
            let Keyword { text: keyword, rule } = &self.keywords[usize::from(*keyword)];
            let (rule, stay) = (&self.rules[*rule], &mut stays[*rule]);
            match rule.look(keyword, text, at, last, stay) {
                Look::No => {}
                Look::Open => return Some(Said::Open),
                Look::Yes { start, end } if best.is_none_or(|(_, other, _)| end > other) => {
                    best = Some((start, end, rule));
                }
                Look::Yes { .. } => {}
            }
        }
        best.map(|(start, end, rule)| Said::Found { start, end, rule })
    }

    /// Whether a keyword may begin with the few bytes that stand at the end of `text`.
    fn may_begin(&self, text: &[u8], at: usize) -> bool {
        self.by_first[usize::from(text[at] | 0x20)].iter().any(|keyword| {
            let keyword = &self.keywords[usize::from(*keyword)];
            matches!(self.rules[keyword.rule].look(&keyword.text, text, at, false, &mut Stay::default()), Look::Open)
        })
    }
}

/// What all rules say of one place.
enum Said<'a> {
    Open,
    Found { start: usize, end: usize, rule: &'a Rule },
}

/// The rules, and the key under which what they find is fingerprinted.
pub(crate) struct Marked<'a> {
    rules: &'static Rules,
    key: Option<&'a Key>,
}

impl Search for Marked<'_> {
    const BEHIND: usize = 24;

    fn next(&self, text: &[u8], from: usize, last: bool) -> Next<'_> {
        let (rules, mut at, mut stays) = (self.rules, from, Vec::new());
        while let Some(candidate) = rules.candidate(text, at) {
            match rules.look(text, candidate, last, &mut stays) {
                Some(Said::Open) => return Next::None(candidate),
                Some(Said::Found { start, end, rule }) => {
                    let placeholder = rule.placeholder(&text[start..end], self.key).into();
                    return Next::Found { start, end, placeholder };
                }
                None => at = candidate + 1,
            }
        }
        if last {
            return Next::None(text.len());
        }
        let tail = from.max((text.len() + 1).saturating_sub(GRAM));
        Next::None((tail..text.len()).find(|&at| rules.may_begin(text, at)).unwrap_or(text.len()))
    }
}

#[derive(Deserialize)]
struct File {
    rule: Vec<Line>,
}

#[cfg(test)]
mod tests {
    use super::rule::USUAL_CAP;
    use super::*;
    use crate::pattern::Run;
    use regex_automata::dfa::Automaton;
    use std::collections::BTreeSet;

    #[test]
    fn every_rule_of_the_file_is_one_and_is_bounded() {
        let file: File = toml::from_str(FILE).unwrap();
        assert!(file.rule.len() > 130, "{} rules", file.rule.len());
        let ids: BTreeSet<&str> = file.rule.iter().map(|line| line.id.as_str()).collect();
        assert_eq!(ids.len(), file.rule.len(), "an id stands twice");
        for line in &file.rule {
            let rule = Rule::compile(line).unwrap_or_else(|why| panic!("{}: {why}", line.id));
            let placeholder = rule.placeholder(b"some secret", Some(&Key::new(model::Secret::new([0; 32]))));
            assert!(placeholder.len() <= crate::MAX_PLACEHOLDER, "{placeholder}");
            assert!(!line.what.is_empty(), "{}", line.id);
            assert!(line.cap.unwrap_or(USUAL_CAP) <= 16 * 1024, "{}", line.id);
            let folded = line.keywords.iter().all(|keyword| !line.any_case || *keyword == keyword.to_lowercase());
            assert!(folded, "{}", line.id);
        }
        assert_eq!(Formats::load().unwrap().count(), file.rule.len());
    }

    #[test]
    fn a_file_of_which_one_rule_cannot_be_used_gives_no_rules_and_says_which() {
        let good = r#"
            [[rule]]
            id = "some-key"
            what = "Some: a key"
            source = "Some documentation"
            date = "2026-11-20"
            keywords = ["some_"]
            secret = "some_[a-z]{20}"
        "#;
        assert_eq!(Rules::read(good).map(|rules| rules.rules.len()).ok(), Some(1));
        let second =
            |from: &str, to: &str| format!("{good}{}", good.replace("some-key", "other").replacen(from, to, 1));
        for (file, why) in [
            (String::new(), "missing field"),
            ("rule = []".to_owned(), "there are none"),
            (second("{20}", "{20"), "other: a pattern"),
            (second("\"2026-11-20\"", "\"\""), "other: it names no source, or no day"),
            (second("\"2026-11-20\"", "\"in November\""), "other: it names no source, or no day"),
            (second("Some documentation", ""), "other: it names no source, or no day"),
            (second("\"some_\"", "\"so\""), "other: it has no keyword"),
            (second("\"some_\"", ""), "other: it has no keyword"),
            (second("\"other\"", "\"Other\""), "Other: its id"),
            (second("date = ", "day = "), "unknown field"),
        ] {
            let error = Rules::read(&file).map(|_| ()).expect_err(&file);
            assert!(error.0.contains(why), "{error}: {file}");
        }
    }

    /// Bytes that fail a rule late and at every few places: each keyword, with what its lead asks for, over and over.
    #[test]
    fn what_is_remembered_of_a_text_changes_no_answer() {
        for line in toml::from_str::<File>(FILE).unwrap().rule {
            let rule = Rule::compile(&line).unwrap();
            for keyword in &line.keywords {
                let text = [keyword.as_str(), "=", keyword, "_", keyword, "1A"].concat().repeat(400);
                let mut stay = Stay::default();
                for at in (0..text.len()).step_by(7).take(120) {
                    let secret = |stay: &mut Stay| match rule.secret.longest(text.as_bytes(), at, true, rule.cap, stay)
                    {
                        Run::No => None,
                        Run::Open => panic!("it was the last"),
                        Run::Yes(end) => Some(end),
                    };
                    assert_eq!(secret(&mut stay), secret(&mut Stay::default()), "{}: {keyword:?} at {at}", line.id);
                }
            }
        }
    }

    #[test]
    fn a_keyword_at_every_few_bytes_is_not_run_over_again_from_each() {
        let line = toml::from_str::<File>(FILE).unwrap().rule.into_iter().find(|line| line.cap == Some(4400)).unwrap();
        let rule = Rule::compile(&line).unwrap();
        let (text, mut stay) = ("sessiontoken=".repeat(1000), Stay::default());
        assert!(matches!(rule.secret.longest(text.as_bytes(), 13, true, rule.cap, &mut stay), Run::Yes(4399)));
        let (state, to) = (stay.state, stay.to);
        assert_eq!(to, 13 + 4400);
        assert!(stay.from < 13 + 200, "{}", stay.from);
        // The next one goes on from where the first ended, and what is remembered grows by that alone.
        assert!(matches!(rule.secret.longest(text.as_bytes(), 26, true, rule.cap, &mut stay), Run::Yes(4399)));
        assert_eq!((stay.state, stay.to), (state, to + 13));
    }

    #[test]
    fn a_rules_match_can_begin_with_each_of_its_keywords() {
        for line in toml::from_str::<File>(FILE).unwrap().rule {
            let rule = Rule::compile(&line).unwrap();
            let first = rule.lead.as_ref().unwrap_or(&rule.secret);
            for keyword in &line.keywords {
                assert!(first.may_go_on(keyword.as_bytes()), "{}: {keyword:?} leads nowhere", line.id);
                assert!(!rule.grams(keyword.as_bytes()).is_empty());
            }
        }
    }

    #[test]
    fn no_secret_holds_a_quote_so_that_json_stays_json_nor_a_bracket_so_that_placeholders_stay() {
        for (line, never) in
            toml::from_str::<File>(FILE).unwrap().rule.iter().flat_map(|line| [(line, b'"'), (line, b'[')])
        {
            let rule = Rule::compile(line).unwrap();
            let (mut seen, mut open) = (BTreeSet::from([rule.secret.start]), vec![rule.secret.start]);
            while let Some(state) = open.pop() {
                assert!(
                    rule.secret.dfa.is_dead_state(rule.secret.dfa.next_state(state, never))
                        || rule.secret.dfa.is_match_state(rule.secret.dfa.next_state(state, never)),
                    "{}",
                    line.id
                );
                let next = (0..=u8::MAX).filter(|b| *b != never).map(|b| rule.secret.dfa.next_state(state, b));
                open.extend(next.filter(|next| seen.insert(*next)));
            }
        }
    }
}
