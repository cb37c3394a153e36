//! Which paths a commit changes against what the upstream has: the trees of both, walked where they differ.
//!
//! Against several trees at once: what is the same as in any of them is no change. So a proposal that took in what the
//! default branch became meanwhile changes only what is its own.
//!
//! Total: a tree that is not known, a name that no file can have, or too much to walk is a word, never a list that
//! leaves something out.
//!
//! Read [`between`].

use super::pkt::Oid;
use std::collections::{BTreeSet, HashMap, HashSet};

/// Entries that are looked at for one list.
const MAX_ENTRIES: usize = 2_000_000;
/// Paths of one list.
pub(crate) const MAX_PATHS: usize = 100_000;
/// Folders in folders.
const MAX_DEPTH: usize = 200;
/// Longest path, in bytes.
const MAX_PATH: usize = 4096;
/// What the paths of one list, and of the folders that are still to be looked at, take together, in bytes.
const MAX_HELD: usize = 64 << 20;
/// What a path takes beside its own bytes, in bytes: what it is kept with.
const BESIDE: usize = 128;

/// Why there is no list, as the end of a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unlisted {
    /// Neither the pack nor the upstream gave this tree.
    Unknown(Oid),
    /// What is wrong.
    Wrong(&'static str),
}

/// One entry of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry<'t> {
    is_tree: bool,
    mode: &'t [u8],
    oid: Oid,
}

impl Entry<'_> {
    /// Whether one who looks there may find a folder: it is one, or a link, or a submodule.
    fn leads_on(&self) -> bool {
        self.is_tree || matches!(self.mode, b"120000" | b"160000")
    }
}

/// Reads a tree. Of two entries with one name both are given; of what is pushed that is refused after.
fn entries(mut tree: &[u8]) -> Result<Vec<(&[u8], Entry<'_>)>, Unlisted> {
    let wrong = || Unlisted::Wrong("a folder in it cannot be read");
    let mut all = Vec::new();
    while !tree.is_empty() {
        let space = tree.iter().position(|b| *b == b' ').filter(|at| (5..=6).contains(at)).ok_or_else(wrong)?;
        let mode = &tree[..space];
        let rest = &tree[space + 1..];
        let end = rest.iter().position(|b| *b == 0).ok_or_else(wrong)?;
        let name = &rest[..end];
        let oid = rest.get(end + 1..end + 21).and_then(|oid| oid.try_into().ok()).map(Oid).ok_or_else(wrong)?;
        // git takes every mode of a kind for that kind, and a folder taken for a file here would never be looked into:
        // so none but those that git itself writes.
        if !matches!(mode, b"40000" | b"040000" | b"100644" | b"100755" | b"100664" | b"120000" | b"160000") {
            return Err(Unlisted::Wrong("it holds an entry of a kind that is none"));
        }
        if name.is_empty()
            || name.contains(&b'/')
            || name == b"."
            || name == b".."
            || name.eq_ignore_ascii_case(b".git")
        {
            return Err(Unlisted::Wrong("it holds a name that no file of a repository has"));
        }
        all.push((name, Entry { is_tree: matches!(mode, b"40000" | b"040000"), mode, oid }));
        tree = &rest[end + 21..];
    }
    Ok(all)
}

/// One folder that is to be compared.
struct Folder {
    path: Vec<u8>,
    depth: usize,
    ours: Oid,
    theirs: Vec<Option<Oid>>,
}

/// What is listed so far.
#[derive(Default)]
struct List {
    changed: BTreeSet<Vec<u8>>,
    /// What its paths, and those of the folders that are still to be looked at, take, in bytes.
    held: usize,
}

impl List {
    /// Before a path is kept, whatever for: folders are paths too, and little makes very many of them.
    fn hold(&mut self, path: &[u8]) -> Result<(), Unlisted> {
        self.held += path.len() + BESIDE;
        if self.held > MAX_HELD {
            return Err(Unlisted::Wrong(TOO_MUCH));
        }
        Ok(())
    }

    fn add(&mut self, path: Vec<u8>) -> Result<(), Unlisted> {
        if path.len() > MAX_PATH || self.changed.len() >= MAX_PATHS {
            return Err(Unlisted::Wrong(TOO_MUCH));
        }
        self.hold(&path)?;
        self.changed.insert(path);
        Ok(())
    }

    /// With a slash at its end.
    fn add_folder(&mut self, mut path: Vec<u8>) -> Result<(), Unlisted> {
        path.push(b'/');
        self.add(path)
    }
}

const TOO_MUCH: &str = "it changes more, or longer, paths than can be listed";

/// The paths that differ in `tip` from each of `bases`, in order. A folder that is gone whole stands with a slash at its
/// end; so does, beside its own name, what is no folder on both sides and on one a folder, a link or a submodule: what is
/// found through it changes with it, and stands nowhere else. Without any base everything differs.
///
/// # Errors
/// [`Unlisted`].
pub(crate) fn between(trees: &HashMap<Oid, Vec<u8>>, tip: Oid, bases: &[Oid]) -> Result<BTreeSet<Vec<u8>>, Unlisted> {
    let mut list = List::default();
    let mut looked = 0;
    let known = |oid: &Oid| trees.get(oid).map(Vec::as_slice).ok_or(Unlisted::Unknown(*oid));
    let mut folders = Vec::new();
    if !bases.contains(&tip) {
        let theirs = bases.iter().map(|base| Some(*base)).collect();
        folders.push(Folder { path: Vec::new(), depth: 0, ours: tip, theirs });
    }
    while let Some(Folder { path, depth, ours, theirs }) = folders.pop() {
        list.held = list.held.saturating_sub(path.len() + BESIDE);
        let ours = entries(known(&ours)?)?;
        let theirs = theirs.iter().map(|tree| match tree {
            Some(tree) => Ok(entries(known(tree)?)?.into_iter().collect()),
            None => Ok(HashMap::new()),
        });
        let theirs: Vec<HashMap<&[u8], Entry>> = theirs.collect::<Result<_, Unlisted>>()?;
        looked += ours.len() + theirs.iter().map(HashMap::len).sum::<usize>();
        if looked > MAX_ENTRIES {
            return Err(Unlisted::Wrong("there is more in it than can be looked at"));
        }
        let at = |name: &[u8]| {
            let mut whole = Vec::with_capacity(path.len() + 1 + name.len());
            whole.extend_from_slice(&path);
            if !whole.is_empty() {
                whole.push(b'/');
            }
            whole.extend_from_slice(name);
            whole
        };
        let mut names = HashSet::with_capacity(ours.len());
        if !ours.iter().all(|(name, _)| names.insert(*name)) {
            return Err(Unlisted::Wrong("a folder in it holds one name twice"));
        }
        let led_on = |name: &[u8]| theirs.iter().any(|base| base.get(name).is_some_and(Entry::leads_on));
        for (name, entry) in &ours {
            if theirs.iter().any(|base| base.get(name).is_some_and(|other| other == entry)) {
                continue;
            }
            let whole = at(name);
            if !entry.is_tree {
                if entry.leads_on() || led_on(name) {
                    list.add_folder(whole.clone())?;
                }
                list.add(whole)?;
                continue;
            }
            if depth >= MAX_DEPTH || whole.len() > MAX_PATH {
                return Err(Unlisted::Wrong("it has folders in folders too deep to look at"));
            }
            // What was a file and is a folder now has changed at its own name too.
            if theirs.iter().any(|base| base.get(name).is_some_and(|other| !other.is_tree)) {
                list.add(whole.clone())?;
                list.add_folder(whole.clone())?;
            }
            let theirs = theirs.iter().map(|base| base.get(name).filter(|e| e.is_tree).map(|e| e.oid)).collect();
            list.hold(&whole)?;
            folders.push(Folder { path: whole, depth: depth + 1, ours: entry.oid, theirs });
        }
        // Gone is what every base has.
        let Some((first, others)) = theirs.split_first() else { continue };
        for (name, entry) in first {
            let is_gone = others.iter().all(|base| base.contains_key(name)) && !names.contains(name);
            if is_gone && led_on(name) {
                list.add_folder(at(name))?;
            }
            if is_gone && !entry.is_tree {
                list.add(at(name))?;
            }
        }
    }
    Ok(list.changed)
}

#[cfg(test)]
mod tests {
    use super::super::pack::tests::{tree, tree_name};
    use super::*;
    use proptest::prelude::*;

    #[derive(Default)]
    struct Trees(HashMap<Oid, Vec<u8>>);

    impl Trees {
        fn put(&mut self, entries: &[(&str, &str, Oid)]) -> Oid {
            let content = tree(entries);
            let name = tree_name(&content);
            self.0.insert(name, content);
            name
        }
        fn between(&self, tip: Oid, bases: &[Oid]) -> Result<Vec<String>, Unlisted> {
            let paths = between(&self.0, tip, bases)?;
            Ok(paths.into_iter().map(|path| String::from_utf8(path).unwrap()).collect())
        }
    }

    const A: Oid = Oid([1; 20]);
    const B: Oid = Oid([2; 20]);
    const FILE: &str = "100644";
    const DIR: &str = "40000";

    #[test]
    fn what_is_added_changed_moved_made_executable_or_gone_is_listed() {
        let mut trees = Trees::default();
        let ci = trees.put(&[(FILE, "ci.yml", A)]);
        let old = trees.put(&[(DIR, ".github", ci), (FILE, "a", A), (FILE, "b", A), (FILE, "c", A)]);
        let new = trees.put(&[(FILE, "a", B), ("100755", "b", A), (FILE, "d", A)]);
        assert_eq!(trees.between(new, &[old]).unwrap(), [".github/", "a", "b", "c", "d"]);
        assert_eq!(trees.between(old, &[old]).unwrap(), [""; 0]);
        assert_eq!(trees.between(new, &[]).unwrap(), ["a", "b", "d"]);
        let link = trees.put(&[("120000", ".github", A), (FILE, "a", A), (FILE, "b", A), (FILE, "c", A)]);
        assert_eq!(trees.between(link, &[old]).unwrap(), [".github", ".github/"]);
        assert_eq!(trees.between(old, &[link]).unwrap(), [".github", ".github/", ".github/ci.yml"]);
    }

    #[test]
    fn what_is_or_was_a_folder_a_link_or_a_submodule_and_no_folder_on_both_sides_stands_with_a_slash_too() {
        let mut trees = Trees::default();
        let below = trees.put(&[(FILE, "ci.yml", A)]);
        let kinds = [(FILE, A), (DIR, below), ("120000", A), ("160000", A)];
        let [file, folder, link, submodule] = kinds.map(|(mode, oid)| trees.put(&[(mode, "x", oid)]));
        let none = trees.put(&[]);
        for other in [link, submodule] {
            assert_eq!(trees.between(other, &[none]).unwrap(), ["x", "x/"]);
            assert_eq!(trees.between(none, &[other]).unwrap(), ["x", "x/"]);
            assert_eq!(trees.between(file, &[other]).unwrap(), ["x", "x/"]);
        }
        assert_eq!(trees.between(file, &[folder]).unwrap(), ["x", "x/"]);
        assert_eq!(trees.between(folder, &[file]).unwrap(), ["x", "x/", "x/ci.yml"]);
        assert_eq!(trees.between(file, &[none]).unwrap(), ["x"]);
        assert_eq!(trees.between(folder, &[none]).unwrap(), ["x/ci.yml"]);
        assert_eq!(trees.between(none, &[folder]).unwrap(), ["x/"]);
        assert_eq!(trees.between(none, &[file, folder]).unwrap(), ["x", "x/"]);
    }

    #[test]
    fn a_folder_that_stands_elsewhere_in_the_upstream_is_a_change_where_it_is_put() {
        let mut trees = Trees::default();
        let flows = trees.put(&[(FILE, "ci.yml", B)]);
        let hub = trees.put(&[(DIR, "workflows", flows)]);
        let old = trees.put(&[(DIR, "docs", hub)]);
        let new = trees.put(&[(DIR, ".github", hub), (DIR, "docs", hub)]);
        assert_eq!(trees.between(new, &[old]).unwrap(), [".github/workflows/ci.yml"]);
    }

    #[test]
    fn what_is_as_in_either_of_two_bases_is_no_change() {
        let mut trees = Trees::default();
        let then = trees.put(&[(FILE, "a", A), (FILE, "b", A)]);
        let now = trees.put(&[(FILE, "a", B), (FILE, "b", A), (FILE, "c", A)]);
        let tip = trees.put(&[(FILE, "a", B), (FILE, "b", B)]);
        assert_eq!(trees.between(tip, &[then, now]).unwrap(), ["b"]);
    }

    #[test]
    fn what_cannot_be_seen_whole_is_not_listed_in_part() {
        let mut trees = Trees::default();
        let hidden = trees.put(&[(FILE, "x", A), (DIR, "y", B)]);
        assert_eq!(trees.between(hidden, &[]), Err(Unlisted::Unknown(B)));
        assert_eq!(trees.between(A, &[]), Err(Unlisted::Unknown(A)));
        for name in [".git", ".GIT", "..", "a/b", ""] {
            let odd = trees.put(&[(FILE, name, A)]);
            assert!(matches!(trees.between(odd, &[]), Err(Unlisted::Wrong(_))), "{name}");
        }
        // Each folder holds the one below it a thousand times: a thousand to the power of ten paths.
        let mut below = trees.put(&[(FILE, "x", A)]);
        let names: Vec<String> = (0..1000).map(|n| format!("{n:03}")).collect();
        for _ in 0..10 {
            let all: Vec<_> = names.iter().map(|name| (DIR, name.as_str(), below)).collect();
            below = trees.put(&all);
        }
        assert!(matches!(trees.between(below, &[]), Err(Unlisted::Wrong(_))));
    }

    #[test]
    fn a_folder_under_a_mode_that_git_never_writes_does_not_pass_for_a_file() {
        let mut trees = Trees::default();
        let flows = trees.put(&[(FILE, "ci.yml", B)]);
        for mode in ["40755", "040755", "47777", "100777", "160001", "000000"] {
            let odd = trees.put(&[(mode, "deploy", flows)]);
            let no = Unlisted::Wrong("it holds an entry of a kind that is none");
            assert_eq!(trees.between(odd, &[]), Err(no), "{mode}");
        }
        let old = trees.put(&[("040000", "deploy", flows), ("100664", "b", A), ("160000", "c", A)]);
        assert_eq!(trees.between(old, &[]).unwrap(), ["b", "c", "c/", "deploy/ci.yml"]);
    }

    #[test]
    fn a_little_that_makes_very_many_folders_is_refused_by_what_they_take() {
        let mut trees = Trees::default();
        let (long, below) = ("x".repeat(4000), trees.put(&[]));
        let same = trees.put(&vec![(DIR, "a", below); (16 << 20) / 28]);
        let tip = trees.put(&[(DIR, &long, same)]);
        assert_eq!(trees.between(tip, &[]), Err(Unlisted::Wrong("a folder in it holds one name twice")));
        let fits = MAX_HELD / (4000 + 1 + 5 + BESIDE);
        let names: Vec<String> = (0..=fits).map(|n| format!("{n:05}")).collect();
        let all: Vec<_> = names.iter().map(|name| (DIR, name.as_str(), below)).collect();
        let (many, fewer) = (trees.put(&all), trees.put(&all[..fits]));
        let (many, fewer) = (trees.put(&[(DIR, &long, many)]), trees.put(&[(DIR, &long, fewer)]));
        assert_eq!(trees.between(many, &[]), Err(Unlisted::Wrong(TOO_MUCH)));
        assert_eq!(trees.between(fewer, &[]).unwrap(), [""; 0]);
    }

    proptest! {
        #[test]
        fn any_bytes_as_a_tree_have_a_word(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let trees = HashMap::from([(A, bytes)]);
            if let Ok(paths) = between(&trees, A, &[]) {
                prop_assert!(paths.iter().all(|path| !path.is_empty()));
            }
        }
    }
}
