//! Recall by kind and by surroundings, and false alarms: on tokens made after the formats that vendors publish.
//!
//! The corpus is the one of the scrubber's own tests: each format written down a second time, apart from the rules, the
//! rest of each token random; none is real.

use super::corpus::{FORMATS, NAMED, PLACES, Random, clean, token};
use crate::table::{Table, figure, goal};
use anyhow::{Context, Result};
use scrub::{Formats, Scrubber};
use std::collections::BTreeMap;
use std::path::Path;

/// Tokens of each format in each place.
const EACH: usize = 10;
/// Kinds of one line of the list.
const IN_A_LINE: usize = 4;

/// How many of how many were found.
#[derive(Clone, Copy, Default)]
struct Found {
    found: usize,
    all: usize,
}

impl Found {
    fn count(&mut self, found: bool) {
        self.found += usize::from(found);
        self.all += 1;
    }
    fn percent(self) -> f64 {
        self.found as f64 * 100.0 / self.all as f64
    }
    fn shown(self) -> String {
        format!("{}/{} {:.1} %", self.found, self.all, self.percent())
    }
}

/// Measures and prints.
pub fn run(formats: Formats) -> Result<()> {
    let scrubber = Scrubber::new([]).with_formats(formats);
    let mut random = Random::new(20_261_120);
    let (mut all, mut named) = (Found::default(), Found::default());
    let (mut kinds, mut places) = (BTreeMap::<&str, Found>::new(), BTreeMap::<&str, Found>::new());
    for (kind, format) in FORMATS {
        for (place, around) in PLACES.iter().cycle().take(PLACES.len() * EACH) {
            let token = token(format, &mut random);
            let out = scrubber.scrub_str(&around.replace('@', &token.text)).into_owned();
            let found = !out.contains(&token.secret);
            all.count(found);
            named.count(out.contains(&format!("[redacted: {kind}]")));
            kinds.entry(kind).or_default().count(found);
            places.entry(place).or_default().count(found);
        }
    }
    let mut generic = Found::default();
    for format in NAMED.iter().cycle().take(2000) {
        let token = token(format, &mut random);
        generic.count(!scrubber.scrub_str(&token.text).contains(&token.secret));
    }

    println!(
        "\nrecall by kind, of {} formats of {} rules, {EACH} tokens in each of {} places:",
        FORMATS.len(),
        kinds.len(),
        PLACES.len()
    );
    let cells: Vec<String> = kinds.iter().map(|(kind, found)| format!("{kind} {:.1} %", found.percent())).collect();
    for line in cells.chunks(IN_A_LINE) {
        println!("  {}", line.iter().map(|cell| format!("{cell:<34}")).collect::<String>().trim_end());
    }
    let mut table = Table::new(&["recall by surroundings", "found"]);
    for (place, found) in &places {
        table.row([(*place).to_owned(), found.shown()]);
    }
    table.row(["all".into(), all.shown()]);
    table.row(["all, by its own name".into(), named.shown()]);
    table.row(["random values of no format, named as secrets".into(), generic.shown()]);
    table.print();

    let looks = clean(60_000);
    let own = sources()?;
    let mut table = Table::new(&["false alarms", "MB", "found", "per MB"]);
    for (what, text) in [
        ("hashes, ids, lock files, base 64, source that looks it", &looks),
        ("this repository's source, documents, lock file", &own),
    ] {
        let alarms = text
            .lines()
            .map(|line| scrubber.scrub_str(line).matches("[redacted: ").count() - line.matches("[redacted: ").count());
        let (alarms, mb) = (alarms.sum::<usize>(), text.len() as f64 / 1e6);
        table.row([what.into(), figure(mb), alarms.to_string(), figure(alarms as f64 / mb)]);
    }
    table.print();
    goal("recall on tokens of published formats", "≥ 99 %", &format!("{:.2} %", all.percent()), all.percent() >= 99.0);
    Ok(())
}

/// Our own text, without the tests that hold tokens on purpose.
fn sources() -> Result<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut text = std::fs::read_to_string(root.join("Cargo.lock")).context("read the lock file")?;
    let mut open: Vec<_> = ["crates", "xtask", "benches", "docs"].map(|folder| root.join(folder)).into();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
            let path = entry?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if path.is_dir() {
                if !name.contains("test") {
                    open.push(path);
                }
            } else if [".rs", ".md", ".toml"].iter().any(|end| name.ends_with(end)) && !name.contains("test") {
                let source = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
                // Unit tests stand at the end of a file.
                text.push_str(source.split("#[cfg(test)]").next().unwrap_or_default());
            }
        }
    }
    Ok(text)
}
