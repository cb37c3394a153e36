//! One rule: a line of `rules.toml`, compiled, and tried where one of its keywords may stand.
//!
//! Read [`Line`], then [`Rule::look`].

use super::{GRAM, gram};
use crate::{
    Key,
    around::{After, Before},
    pattern::{Pattern, Run, Stay},
};
use serde::Deserialize;
use std::collections::BTreeSet;

/// Bytes over which a rule is tried when it names no length.
pub(super) const USUAL_CAP: usize = 1024;
/// Longest id, so that its placeholder stays below [`crate::MAX_PLACEHOLDER`].
const MAX_ID: usize = 26;

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
    pub(crate) source: String,
    /// The day on which the rule was written or last changed: `YYYY-MM-DD`.
    pub(crate) date: String,
    /// What each match begins with, one of them; at least three bytes.
    pub(crate) keywords: Vec<String>,
    /// Whether the keywords are meant in either case.
    #[serde(default)]
    pub(super) any_case: bool,
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
    pub(super) cap: Option<usize>,
    /// Least entropy of what is replaced, in bits a byte.
    #[serde(default)]
    entropy: f64,
    /// Fewest digits in what is replaced.
    #[serde(default)]
    digits: usize,
}

/// One rule, compiled.
pub(super) struct Rule {
    id: String,
    any_case: bool,
    before: Before,
    pub(super) lead: Option<Pattern>,
    pub(super) secret: Pattern,
    after: After,
    pub(super) cap: usize,
    entropy: f64,
    digits: usize,
}

/// An answer about one place.
pub(super) enum Look {
    /// It is not what the rule looks for, whatever comes.
    No,
    /// It is, from here to there, whatever comes.
    Yes { start: usize, end: usize },
    /// More must come.
    Open,
}

impl Rule {
    /// Of a line of the file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn compile(line: &Line) -> Result<Self, &'static str> {
        let is_id = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !(1..=MAX_ID).contains(&line.id.len()) || !line.id.bytes().all(is_id) {
            return Err("its id is not one to 26 lower-case letters, digits and `-`");
        }
        if line.source.is_empty() || !is_date(&line.date) {
            return Err("it names no source, or no day");
        }
        if line.keywords.is_empty() || line.keywords.iter().any(|keyword| keyword.len() < GRAM - 1) {
            return Err("it has no keyword, or one of less than three bytes");
        }
        let pattern = |text: &str| Pattern::compile(text).ok_or("a pattern of it is none, or has too many states");
        Ok(Self {
            id: line.id.clone(),
            any_case: line.any_case,
            before: line.before,
            lead: line.lead.as_deref().map(pattern).transpose()?,
            secret: pattern(&line.secret)?,
            after: line.after,
            cap: line.cap.unwrap_or(USUAL_CAP),
            entropy: line.entropy,
            digits: line.digits,
        })
    }

    /// What takes the place of `secret`: at most [`crate::MAX_PLACEHOLDER`] bytes.
    pub(super) fn placeholder(&self, secret: &[u8], key: Option<&Key>) -> String {
        match key {
            Some(key) => format!("[redacted: {}#{}]", self.id, key.fingerprint(secret)),
            None => format!("[redacted: {}]", self.id),
        }
    }

    /// The hashes of the four bytes that a match with this keyword can begin with.
    pub(super) fn grams(&self, keyword: &[u8]) -> BTreeSet<usize> {
        let first = self.lead.as_ref().unwrap_or(&self.secret);
        match *keyword {
            [a, b, c, d, ..] => BTreeSet::from([gram([a, b, c, d])]),
            [a, b, c] => (0..=u8::MAX).map(|d| [a, b, c, d]).filter(|it| first.may_go_on(it)).map(gram).collect(),
            _ => BTreeSet::new(),
        }
    }

    /// Tries it where `keyword` may begin, at `at`. `stay` is of its secret in this text.
    pub(super) fn look(&self, keyword: &[u8], text: &[u8], at: usize, last: bool, stay: &mut Stay) -> Look {
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
            Some(lead) => match lead.longest(text, at, last, self.cap, &mut Stay::default()) {
                Run::No => return Look::No,
                Run::Open => return Look::Open,
                Run::Yes(end) => at + end,
            },
        };
        match self.secret.longest(text, start, last, self.cap, stay) {
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

/// Shannon's entropy of the bytes as they are distributed here, in bits a byte.
fn entropy(bytes: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in bytes {
        counts[usize::from(*byte)] += 1;
    }
    let all = bytes.len() as f64;
    -counts.iter().filter(|count| **count > 0).map(|count| f64::from(*count) / all).map(|p| p * p.log2()).sum::<f64>()
}

/// Whether it is written as a day is: `2026-11-20`.
fn is_date(text: &str) -> bool {
    let digits =
        |part: Option<&str>, count| part.is_some_and(|p| p.len() == count && p.bytes().all(|b| b.is_ascii_digit()));
    let mut parts = text.split('-');
    digits(parts.next(), 4) && digits(parts.next(), 2) && digits(parts.next(), 2) && parts.next().is_none()
}
