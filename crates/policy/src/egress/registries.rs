//! Package registries: which hosts belong to which package group. Data: `registries.txt` beside this file, and what a
//! home's own list changes of it.
//!
//! Hosts stand in reverse label order (`org.example.registry`), as do sorted lists of names everywhere; a `.*` at
//! the end declares that every name below belongs too. Whatever is not in the list is no registry.

use super::Name;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

/// Most lines that a list has.
pub const MAX_LINES: usize = 1024;

/// The list that is compiled in.
const TEXT: &str = include_str!("registries.txt");

static BUILT_IN: LazyLock<Registries> =
    LazyLock::new(|| Registries::parse(TEXT).unwrap_or_else(|why| panic!("registries.txt: {why}")));

/// One host of a package group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    /// Its group: `rust`, `python` …
    pub group: String,
    /// Its name in the order that people write.
    pub host: Name,
    /// Whether the names below it belong too.
    pub below: bool,
    /// What is there.
    pub why: String,
}

/// All registries, found by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registries(BTreeMap<String, Registry>);

impl Registries {
    /// The list that comes with Volary.
    #[must_use]
    pub fn built_in() -> &'static Self {
        &BUILT_IN
    }

    /// Reads a list: one registry a line, `org.example.registry group what is there`; `#` begins a comment.
    ///
    /// # Errors
    /// A sentence that names the line: not three parts, not a name, not in order, or there twice.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self(BTreeMap::new()).amended(text)
    }

    /// This list as another one changes it. A line of that adds a registry, or takes the place of the line that has its
    /// name here; a line with `-` before a name, and nothing behind it, takes that one out.
    ///
    /// # Errors
    /// Those of [`Self::parse`]; and a line that takes out what is not here, or more than [`MAX_LINES`] lines.
    pub fn amended(&self, text: &str) -> Result<Self, String> {
        let mut all = self.0.clone();
        let mut seen = BTreeSet::new();
        let mut before = "";
        for (n, line) in lines(text) {
            let at = |why: &str| format!("line {n}: {why}");
            if seen.len() >= MAX_LINES {
                return Err(at("there are more lines than a list may have"));
            }
            let (out, line) = line.strip_prefix('-').map_or((false, line), |line| (true, line));
            let mut parts = line.splitn(3, char::is_whitespace).map(str::trim);
            let reverse = parts.next().unwrap_or_default();
            if reverse <= before {
                return Err(at("it is not in order, or there twice"));
            }
            before = reverse;
            let (name, below) = reverse.strip_suffix(".*").map_or((reverse, false), |name| (name, true));
            let host = Name::parse(&turned(name)).map_err(|no| at(&no.why))?;
            let plain = host.address().is_none() && host.as_str() == turned(name) && name.contains('.');
            if !plain {
                return Err(at("the name is no plain host"));
            }
            if !seen.insert(host.as_str().to_owned()) {
                return Err(at("it is there twice"));
            }
            match (out, parts.next(), parts.next()) {
                (true, None, None) => {
                    if all.remove(host.as_str()).is_none() {
                        return Err(at("there is no such registry to take out"));
                    }
                }
                (true, ..) => return Err(at("a name that is taken out stands alone")),
                (false, Some(group), Some(why)) => {
                    if group.is_empty() || !group.bytes().all(|b| b.is_ascii_lowercase()) {
                        return Err(at("the group is no plain word"));
                    }
                    let registry = Registry { group: group.to_owned(), host, below, why: why.trim().to_owned() };
                    all.insert(registry.host.as_str().to_owned(), registry);
                }
                (false, ..) => return Err(at("it takes a name in reverse order, a group, and what is there")),
            }
        }
        Ok(Self(all))
    }

    /// The registry that `host` is, exactly or below a declared one.
    #[must_use]
    pub fn find(&self, host: &Name) -> Option<&Registry> {
        if host.address().is_some() {
            return None;
        }
        let below = || host.parents().find_map(|name| self.0.get(name).filter(|registry| registry.below));
        self.0.get(host.as_str()).or_else(below)
    }

    /// The hosts of a group, in the order of their names.
    pub fn group<'r>(&'r self, group: &'r str) -> impl Iterator<Item = &'r Registry> {
        self.0.values().filter(move |registry| registry.group == group)
    }

    /// The groups, each once, in order.
    #[must_use]
    pub fn groups(&self) -> Vec<&str> {
        let mut all: Vec<&str> = self.0.values().map(|registry| registry.group.as_str()).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

/// The lines of a list that say something, each with its number from 1.
pub fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let said = |(_, line): &(usize, &str)| !line.is_empty() && !line.starts_with('#');
    text.lines().enumerate().map(|(n, line)| (n + 1, line.trim_end())).filter(said)
}

/// Turns the labels of a name around.
fn turned(name: &str) -> String {
    name.rsplit('.').collect::<Vec<_>>().join(".")
}
