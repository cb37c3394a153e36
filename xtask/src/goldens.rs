//! Goldens: pages of `docs/generated` that the code itself prints, so that a change of policy is a
//! changed line in review.
//!
//! `volary goldens DIR` (a hidden subcommand) writes [`PRINTED`] into an empty folder; this program adds
//! the crate graph. A page that is missing on either side, or on one side only, fails.

use crate::{cargo, layers};
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::path::Path;

/// What `volary goldens` must write. A page that is no longer written is a page nobody reviews: it fails.
const PRINTED: [&str; 7] =
    ["delivery.md", "forges.md", "limits.md", "managed-keys.md", "refused-calls.md", "routes.md", "scopes.md"];

/// What to do about a difference.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Fail.
    Compare,
    /// Write what the code prints.
    Bless,
}

/// Compares or writes `docs/generated`.
///
/// # Errors
/// Any difference, missing page or page too many, each named.
pub fn run(mode: Mode) -> Result<()> {
    let printed = print()?;
    let folder = cargo::root().join("docs/generated");
    if mode == Mode::Bless {
        std::fs::create_dir_all(&folder)?;
        for name in read(&folder)?.keys().filter(|name| !printed.contains_key(*name)) {
            std::fs::remove_file(folder.join(name))?;
        }
        for (name, text) in &printed {
            std::fs::write(folder.join(name), text)?;
        }
        println!("goldens: wrote {}", printed.len());
        return Ok(());
    }
    let faults = differences(&read(&folder)?, &printed);
    if !faults.is_empty() {
        bail!("{}\nif each of these is meant, write them with `cargo xtask goldens --bless`", faults.join("\n"));
    }
    println!("goldens: {} pages are as the code prints them", printed.len());
    Ok(())
}

fn print() -> Result<BTreeMap<String, String>> {
    let folder = cargo::target().join("goldens");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).with_context(|| format!("emptying {}", folder.display()))?;
    }
    std::fs::create_dir_all(&folder)?;
    let path = folder.to_str().context("the target folder's name is no text")?;
    cargo::run(&["run", "--quiet", "--package", "volary", "--", "goldens", path])?;
    let mut printed = read(&folder)?;
    for name in PRINTED {
        if !printed.contains_key(name) {
            bail!("`volary goldens` wrote no {name}");
        }
    }
    if let Some(name) = printed.keys().find(|name| !PRINTED.contains(&name.as_str())) {
        bail!("`volary goldens` wrote {name}, which is not listed in xtask/src/goldens.rs: add it to PRINTED");
    }
    printed.insert("crates.md".into(), layers::page()?);
    Ok(printed)
}

fn read(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut pages = BTreeMap::new();
    if !folder.exists() {
        return Ok(pages);
    }
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        pages.insert(name, std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?);
    }
    Ok(pages)
}

/// One line for each page that is not the same on both sides; for a changed one, its first differing line.
fn differences(kept: &BTreeMap<String, String>, printed: &BTreeMap<String, String>) -> Vec<String> {
    let mut faults = Vec::new();
    for (name, new) in printed {
        match kept.get(name) {
            None => faults.push(format!("docs/generated/{name} is missing")),
            Some(old) if old != new => {
                let n = old.lines().zip(new.lines()).take_while(|(a, b)| a == b).count();
                let line = |text: &str| text.lines().nth(n).unwrap_or("(end)").to_owned();
                faults.push(format!(
                    "docs/generated/{name} differs from line {}:\n  kept:    {}\n  printed: {}",
                    n + 1,
                    line(old),
                    line(new)
                ));
            }
            Some(_) => {}
        }
    }
    for name in kept.keys().filter(|name| !printed.contains_key(*name)) {
        faults.push(format!("docs/generated/{name} is printed by nothing"));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pages(all: &[(&str, &str)]) -> BTreeMap<String, String> {
        all.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    #[test]
    fn a_page_missing_on_either_side_is_a_difference() {
        let one = pages(&[("a.md", "x")]);
        assert_eq!(differences(&pages(&[]), &one), ["docs/generated/a.md is missing"]);
        assert_eq!(differences(&one, &pages(&[])), ["docs/generated/a.md is printed by nothing"]);
        assert!(differences(&one, &one).is_empty());
    }

    #[test]
    fn a_page_that_lost_its_last_line_is_a_difference() {
        let found = differences(&pages(&[("a.md", "x\ny\n")]), &pages(&[("a.md", "x\n")]));
        assert_eq!(found, ["docs/generated/a.md differs from line 2:\n  kept:    y\n  printed: (end)"]);
    }
}
