//! The pages: rustdoc without a warning, no link in a `*.md` that leads nowhere, no test named that does not exist, no
//! claim made twice, no limit without what enforces it and a test, no decision left out of their list, and no folder of modules off the map.
//!
//! Only links inside the repository are followed; nothing is fetched.

use crate::cargo;
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Every warning is an error, but that a public page links to a private item: here both are built.
const FLAGS: &str = "-D warnings -A rustdoc::private_intra_doc_links";

/// Builds the documentation with warnings denied, then follows every link of every page.
///
/// # Errors
/// A rustdoc warning, or every dead link, one a line.
pub fn check() -> Result<()> {
    let mut faults = dead_links(cargo::root())?;
    faults.extend(missing_tests(cargo::root())?);
    let limits = std::fs::read_to_string(cargo::root().join(LIMITS))?;
    faults.extend(untested_limits(cargo::root(), &limits));
    faults.extend(unenforced_limits(&limits));
    faults.extend(unlisted_decisions(cargo::root())?);
    faults.extend(folders_off_the_map(cargo::root(), &std::fs::read_to_string(cargo::root().join(MAP))?)?);
    faults.extend(doubled_claims(&std::fs::read_to_string(cargo::root().join("SECURITY.md"))?));
    if !faults.is_empty() {
        bail!("{} fault(s):\n  {}", faults.len(), faults.join("\n  "));
    }
    // With private items: a module's opening says in which order to read them, and nobody but us reads these pages.
    let words = ["doc", "--workspace", "--no-deps", "--document-private-items", "--keep-going", "--quiet"];
    cargo::finish(cargo::command(&words).env("RUSTDOCFLAGS", FLAGS))?;
    println!("docs: no warning, no dead link");
    Ok(())
}

/// Pages that name the tests behind what they say, and folders of such.
const NAMES_TESTS: [&str; 3] = ["SECURITY.md", LIMITS, DECISIONS];

/// The folder of decisions.
const DECISIONS: &str = "docs/decisions";

/// The page of every number that bounds something.
const LIMITS: &str = "docs/limits.md";

/// The page that says where things are.
const MAP: &str = "ARCHITECTURE.md";

/// Names of tests in [`NAMES_TESTS`] that no source file of the repository holds.
fn missing_tests(root: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    find(root, "rs", &mut files)?;
    let mut known = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        known.extend(text.split("fn ").skip(1).filter_map(|rest| rest.split('(').next()).map(str::to_owned));
    }
    let mut faults = Vec::new();
    for page in NAMES_TESTS {
        let mut pages = Vec::new();
        let at = root.join(page);
        if at.is_dir() {
            find(&at, "md", &mut pages)?
        } else {
            pages.push(at)
        }
        for page in pages {
            let text = std::fs::read_to_string(&page).with_context(|| format!("reading {}", page.display()))?;
            let shown = page.strip_prefix(root).unwrap_or(&page).display();
            let missing = test_names(&text).into_iter().filter(|name| !known.contains(name));
            faults.extend(missing.map(|name| format!("{shown}: no test is called {name}")));
        }
    }
    Ok(faults)
}

/// What is written like a test's name: code of lower-case words joined by three or more `_`.
fn test_names(page: &str) -> Vec<String> {
    page.split('`')
        .skip(1)
        .step_by(2)
        .filter(|code| code.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'))
        .filter(|code| code.matches('_').count() >= 3)
        .map(str::to_owned)
        .collect()
}

/// Rows of the tables of [`LIMITS`] whose last column names neither a test nor a file of the repository that is one.
fn untested_limits(root: &Path, page: &str) -> Vec<String> {
    let lines: Vec<&str> = page.lines().collect();
    let is_row = |n: usize| {
        let is_head = lines.get(n + 1).is_some_and(|next| next.starts_with("|---"));
        lines[n].starts_with("| ") && !is_head
    };
    let is_tested = |line: &str| {
        let last = line.trim_end().trim_end_matches('|').rsplit(" |").next().unwrap_or_default();
        let is_file = |code: &str| code.contains("/tests/") && root.join(code).is_file();
        !test_names(last).is_empty() || last.split('`').skip(1).step_by(2).any(is_file)
    };
    let untested = (0..lines.len()).filter(|n| is_row(*n) && !is_tested(lines[*n]));
    untested.map(|n| format!("{LIMITS}:{}: no test is named: {}", n + 1, lines[n])).collect()
}

/// Tables of [`LIMITS`] without a column that says what enforces a limit, and rows of the others where it says nothing.
fn unenforced_limits(page: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut fault = |n: usize, why: &str, line: &str| faults.push(format!("{LIMITS}:{}: {why}: {line}", n + 1));
    let lines: Vec<&str> = page.lines().collect();
    // Of the table that a line is in.
    let mut column = None;
    for (n, line) in lines.iter().enumerate().filter(|(_, line)| line.starts_with("| ")) {
        let mut cells = line.split('|').map(str::trim);
        if lines.get(n + 1).is_some_and(|next| next.starts_with("|---")) {
            column = cells.position(|cell| cell == "enforced by");
            if column.is_none() {
                fault(n, "no column is called \"enforced by\"", line);
            }
        } else if column.is_some_and(|column| cells.nth(column).is_none_or(str::is_empty)) {
            fault(n, "nothing is said to enforce it", line);
        }
    }
    faults
}

/// Decisions that the list of decisions does not link to.
fn unlisted_decisions(root: &Path) -> Result<Vec<String>> {
    let folder = root.join(DECISIONS);
    let list = std::fs::read_to_string(folder.join("README.md")).context("reading docs/decisions/README.md")?;
    let mut pages = Vec::new();
    find(&folder, "md", &mut pages)?;
    Ok(unlisted(&list, pages.iter().filter_map(|page| page.file_name()?.to_str())))
}

fn unlisted<'a>(list: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let listed: BTreeSet<String> = targets(list).into_iter().map(|(_, target)| target).collect();
    names
        .filter(|name| *name != "README.md" && !listed.contains(*name))
        .map(|name| format!("docs/decisions/README.md: {name} is not listed"))
        .collect()
}

/// Folders of modules, below the `src` of a crate, that [`MAP`] links to nowhere. One that holds tests alone is none.
fn folders_off_the_map(root: &Path, map: &str) -> Result<Vec<String>> {
    let mut files = Vec::new();
    find(&root.join("crates"), "rs", &mut files)?;
    find(&root.join("benches"), "rs", &mut files)?;
    let folders: BTreeSet<String> = files
        .iter()
        .filter_map(|file| Some((file.file_name()?, file.strip_prefix(root).ok()?.parent()?.to_str()?)))
        .filter(|(name, folder)| *name != "tests.rs" && !folder.ends_with("/tests"))
        .filter(|(_, folder)| folder.split_once("/src/").is_some())
        .map(|(_, folder)| folder.to_owned())
        .collect();
    let named: BTreeSet<String> = targets(map).into_iter().map(|(_, target)| target).collect();
    let off = folders.into_iter().filter(|folder| !named.contains(folder));
    Ok(off.map(|folder| format!("{MAP}: {folder} is not on the map")).collect())
}

/// Claims of SECURITY.md's tables that stand there more than once.
fn doubled_claims(page: &str) -> Vec<String> {
    let mut seen = BTreeSet::new();
    page.lines()
        .enumerate()
        .filter_map(|(n, line)| Some((n + 1, line.strip_prefix("| ")?.split_once(" |")?.0)))
        .filter(|(_, claim)| *claim != "claim" && !seen.insert(*claim))
        .map(|(line, claim)| format!("SECURITY.md:{line}: claimed before: {claim}"))
        .collect()
}

fn dead_links(root: &Path) -> Result<Vec<String>> {
    let mut pages = Vec::new();
    find(root, "md", &mut pages)?;
    let mut faults = Vec::new();
    for page in pages {
        let text = std::fs::read_to_string(&page).with_context(|| format!("reading {}", page.display()))?;
        for (line, target) in targets(&text) {
            if let Some(fault) = fault(&page, &text, &target)? {
                let shown = page.strip_prefix(root).unwrap_or(&page);
                faults.push(format!("{}:{line}: {target}: {fault}", shown.display()));
            }
        }
    }
    Ok(faults)
}

/// All files below `folder` with this ending, but for what was built and what is hidden.
fn find(folder: &Path, ending: &str, pages: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && !path.is_symlink() {
            if name != "target" && !name.starts_with('.') {
                find(&path, ending, pages)?;
            }
        } else if path.extension().is_some_and(|ext| ext == ending) {
            pages.push(path);
        }
    }
    pages.sort();
    Ok(())
}

/// The targets of `[text](target)` links, with their lines from 1. Code, in blocks and in lines, is not looked at.
fn targets(page: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_block = false;
    for (n, line) in page.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
            continue;
        }
        if in_block {
            continue;
        }
        let prose: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        for piece in prose.split("](").skip(1) {
            if let Some((target, _)) = piece.split_once(')') {
                found.push((n + 1, target.split_whitespace().next().unwrap_or_default().to_owned()));
            }
        }
    }
    found
}

/// Why a target leads nowhere; none when it leads somewhere, or out of the repository.
fn fault(page: &Path, text: &str, target: &str) -> Result<Option<String>> {
    if target.contains("://") || target.starts_with("mailto:") {
        return Ok(None);
    }
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let folder = page.parent().unwrap_or(Path::new("."));
    let other = folder.join(path);
    if !path.is_empty() && !other.exists() {
        return Ok(Some("no such file".into()));
    }
    let Some(anchor) = anchor else { return Ok(None) };
    let there = if path.is_empty() { text.to_owned() } else { std::fs::read_to_string(&other)? };
    Ok((!headings(&there).contains(anchor)).then(|| "no such heading".into()))
}

/// The anchors that a page's headings make: lower case, spaces to `-`, everything but letters, digits, `-` and `_` left out.
fn headings(page: &str) -> BTreeSet<String> {
    page.lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            line.trim_start_matches('#')
                .trim()
                .to_lowercase()
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_page_of_the_repository_holds_a_dead_link() {
        assert_eq!(dead_links(cargo::root()).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn every_test_that_a_claim_names_exists() {
        assert_eq!(missing_tests(cargo::root()).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn every_limit_names_a_test_and_one_that_does_not_is_found() {
        let page = "| what | value | test |\n|---|---|---|\n| a | 1 | `a_test_of_it` |\n| b | 2 `a_test_of_it` | |\n\n\
                    | name | where | test |\n|---|---|---|\n| c | `d.rs` | none at the edge |\n\
                    | e | x | `crates/volary/tests/qemu/10-box.sh` |\n| f | x | `crates/volary/tests/qemu/no.sh` |\n";
        let found = untested_limits(cargo::root(), page);
        let lines: Vec<&str> = found.iter().map(|fault| fault.split(' ').next().unwrap()).collect();
        assert_eq!(lines, ["docs/limits.md:4:", "docs/limits.md:8:", "docs/limits.md:10:"]);
        let own = std::fs::read_to_string(cargo::root().join(LIMITS)).unwrap();
        assert_eq!(untested_limits(cargo::root(), &own), Vec::<String>::new());
    }

    #[test]
    fn every_limit_says_what_enforces_it_and_one_that_does_not_is_found() {
        let page = "| what | value | enforced by | test |\n|---|---|---|---|\n| a | 1 | `b.rs` | x |\n| c | 2 | | x |\n\n\
                    | what | value | test |\n|---|---|---|\n| d | 3 | x |\n\n\
                    | what | enforced by | test |\n|---|---|---|\n| e | server | x |\n| f |\n";
        let found = unenforced_limits(page);
        let lines: Vec<&str> = found.iter().map(|fault| fault.split(' ').next().unwrap()).collect();
        assert_eq!(lines, ["docs/limits.md:4:", "docs/limits.md:6:", "docs/limits.md:13:"]);
        let own = std::fs::read_to_string(cargo::root().join(LIMITS)).unwrap();
        assert_eq!(unenforced_limits(&own), Vec::<String>::new());
    }

    #[test]
    fn every_decision_is_listed() {
        assert_eq!(unlisted_decisions(cargo::root()).unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_decision_that_is_not_listed_is_found() {
        let found = unlisted("| [0001](0001-a.md) | a |", ["0001-a.md", "0002-b.md", "README.md"].into_iter());
        assert_eq!(found, ["docs/decisions/README.md: 0002-b.md is not listed"]);
    }

    #[test]
    fn every_folder_of_modules_is_on_the_map_and_one_that_is_not_is_found() {
        let own = std::fs::read_to_string(cargo::root().join(MAP)).unwrap();
        assert_eq!(folders_off_the_map(cargo::root(), &own).unwrap(), Vec::<String>::new());
        let without = own.replace("](crates/scrub/src/rules)", "](crates/scrub/src/rules.toml)");
        let found = folders_off_the_map(cargo::root(), &without).unwrap();
        assert_eq!(found, ["ARCHITECTURE.md: crates/scrub/src/rules is not on the map"]);
    }

    #[test]
    fn a_claim_that_is_made_twice_is_found() {
        let page = "| claim | test |\n|---|---|\n| A | x |\n| B | y |\n\n| claim | test |\n|---|---|\n| A | z |\n";
        assert_eq!(doubled_claims(page), ["SECURITY.md:8: claimed before: A"]);
        let own = std::fs::read_to_string(cargo::root().join("SECURITY.md")).unwrap();
        assert_eq!(doubled_claims(&own), Vec::<String>::new());
    }

    #[test]
    fn a_test_is_told_from_other_code_by_its_name() {
        assert_eq!(test_names("`a_name_of_four` `memory-mib` `SO_REUSE` `io_uring` `x`"), ["a_name_of_four"]);
    }

    #[test]
    fn a_link_to_no_file_and_one_to_no_heading_are_found() {
        let page = cargo::root().join("README.md");
        let text = "# A page, with a name\n";
        assert_eq!(fault(&page, text, "nowhere.md").unwrap().as_deref(), Some("no such file"));
        assert_eq!(fault(&page, text, "#elsewhere").unwrap().as_deref(), Some("no such heading"));
        assert_eq!(fault(&page, text, "#a-page-with-a-name").unwrap(), None);
        assert_eq!(fault(&page, text, "xtask/src/docs.rs").unwrap(), None);
        assert_eq!(fault(&page, text, "https://example.org/nowhere").unwrap(), None);
    }

    #[test]
    fn code_is_not_taken_for_links() {
        let page = "a [b](c.md) and `[d](e)`\n```\n[f](g)\n```\n[h](i \"title\")\n";
        assert_eq!(targets(page), [(1, "c.md".to_owned()), (5, "i".to_owned())]);
    }
}
