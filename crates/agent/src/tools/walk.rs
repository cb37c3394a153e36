//! `list` and `search`: read directly, bounded in entries, bytes and time; no link is followed and nothing but
//! regular files is opened, so that a pipe or a device in the worktree cannot hold us up.

use super::{Bench, List, MAX_TEXT, Said, Search, cut};
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Most entries looked at.
const MAX_SEEN: usize = 50_000;
/// Most lines of an answer of `list`.
const MAX_LISTED: usize = 1000;
/// Most lines of an answer of `search`.
const MAX_FOUND: usize = 200;
/// Largest file searched, in bytes.
const MAX_FILE: u64 = 2 * 1024 * 1024;
/// Most bytes read by one search.
const MAX_READ: u64 = 128 * 1024 * 1024;
/// Longest time of one call.
const MAX_TIME: Duration = Duration::from_secs(10);
/// Longest line shown, in characters.
const MAX_LINE: usize = 300;
/// Longest part of a line that is searched, in bytes.
const MAX_SEARCHED: usize = 64 * 1024;
/// Bytes of text between two looks at the clock.
const WATCH: usize = 16 * 1024;
/// Largest regular expression once it is compiled, in bytes: bounds the work for one byte of text.
const MAX_PROGRAM: usize = 64 * 1024;
/// Longest pattern, in bytes.
const MAX_PATTERN: usize = 1000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Folder,
    File,
    Link,
    Other,
}

struct Entry {
    path: PathBuf,
    kind: Kind,
    depth: u32,
    len: u64,
}

/// Walks a tree, folder by folder, names in order, without `.git`.
struct Walk {
    stack: Vec<Entry>,
    max_depth: u32,
    seen: usize,
    until: Instant,
    /// Why not all was looked at.
    stopped: Option<&'static str>,
    /// Folders that could not be read.
    closed: usize,
}

impl Walk {
    fn new(top: &Path, max_depth: u32) -> Result<Self, std::io::Error> {
        let entry = entry(top.to_owned(), 0)?;
        let until = Instant::now() + MAX_TIME;
        Ok(Self { stack: vec![entry], max_depth, seen: 0, until, stopped: None, closed: 0 })
    }

    fn next(&mut self) -> Option<Entry> {
        let next = self.stack.pop()?;
        self.seen += 1;
        if self.seen > MAX_SEEN || Instant::now() >= self.until {
            self.stopped = Some(if self.seen > MAX_SEEN { "too many entries" } else { "out of time" });
            return None;
        }
        if next.kind == Kind::Folder && next.depth < self.max_depth {
            self.open(&next);
        }
        Some(next)
    }

    fn open(&mut self, folder: &Entry) {
        let Ok(entries) = std::fs::read_dir(&folder.path) else {
            self.closed += 1;
            return;
        };
        let mut inside: Vec<Entry> = entries
            .take(MAX_SEEN)
            .filter_map(Result::ok)
            .filter(|e| e.file_name() != ".git")
            .filter_map(|e| entry(e.path(), folder.depth + 1).ok())
            .collect();
        inside.sort_by(|a, b| b.path.cmp(&a.path));
        self.stack.append(&mut inside);
    }

    fn notes(&self, text: &mut String) {
        if let Some(why) = self.stopped {
            text.push_str(&format!("[not all was looked at: {why}; narrow it by `path`]\n"));
        }
        if self.closed > 0 {
            text.push_str(&format!("[{} folders could not be read]\n", self.closed));
        }
    }
}

fn entry(path: PathBuf, depth: u32) -> std::io::Result<Entry> {
    let meta = std::fs::symlink_metadata(&path)?;
    let kind = match meta.file_type() {
        t if t.is_dir() => Kind::Folder,
        t if t.is_file() => Kind::File,
        t if t.is_symlink() => Kind::Link,
        _ => Kind::Other,
    };
    Ok(Entry { path, kind, depth, len: meta.len() })
}

fn cannot(bench: &Bench, path: &Path, error: &std::io::Error) -> Said {
    Said::error(format!("{} cannot be read: {error}.", bench.shown(path)))
}

pub(super) async fn list(bench: &Bench, list: &List) -> Result<Said, Said> {
    let top = bench.inside(list.path.as_deref())?;
    let mut walk = Walk::new(&top, list.depth.unwrap_or(2).clamp(1, 8)).map_err(|e| cannot(bench, &top, &e))?;
    let (mut text, mut lines, mut cut) = (String::new(), 0usize, false);
    while let Some(entry) = walk.next() {
        if entry.depth == 0 && entry.kind == Kind::Folder {
            continue;
        }
        if lines == MAX_LISTED || text.len() > MAX_TEXT {
            text.push_str("[there is more: list a folder of it]\n");
            cut = true;
            break;
        }
        lines += 1;
        let name = bench.shown(&entry.path);
        text.push_str(&match entry.kind {
            Kind::Folder => format!("{name}/\n"),
            Kind::File => format!("{name}  {} bytes\n", entry.len),
            Kind::Link => match std::fs::read_link(&entry.path) {
                Ok(to) => format!("{name} -> {}\n", to.to_string_lossy()),
                Err(_) => format!("{name}  (link)\n"),
            },
            Kind::Other => format!("{name}  (not a file)\n"),
        });
        if walk.seen.is_multiple_of(256) {
            tokio::task::yield_now().await;
        }
    }
    walk.notes(&mut text);
    let cut = cut || walk.stopped.is_some();
    Ok(Said { text: if text.is_empty() { "(empty)".into() } else { text }, ok: true, cut })
}

enum Pattern {
    Text(String),
    Regex(regex_lite::Regex),
}

impl Pattern {
    fn new(search: &Search) -> Result<Self, Said> {
        if search.pattern.is_empty() || search.pattern.len() > MAX_PATTERN {
            return Err(Said::error(format!("The pattern must be 1 to {MAX_PATTERN} bytes long.")));
        }
        if search.literal {
            return Ok(Self::Text(search.pattern.clone()));
        }
        let built = regex_lite::RegexBuilder::new(&search.pattern).size_limit(MAX_PROGRAM).build();
        built.map(Self::Regex).map_err(|e| {
            Said::error(format!("The pattern is no regular expression: {e}. Set `literal` to search for it as text."))
        })
    }
    fn is_in(&self, line: &str) -> bool {
        match self {
            Self::Text(text) => line.contains(text),
            Self::Regex(regex) => regex.is_match(line),
        }
    }
}

pub(super) async fn search(bench: &Bench, search: &Search) -> Result<Said, Said> {
    let pattern = Pattern::new(search)?;
    let top = bench.inside(search.path.as_deref())?;
    let mut walk = Walk::new(&top, u32::MAX).map_err(|e| cannot(bench, &top, &e))?;
    let (mut text, mut found, mut read, mut large, mut binary) = (String::new(), 0usize, 0u64, 0usize, 0usize);
    'files: while let Some(entry) = walk.next() {
        if entry.kind != Kind::File {
            continue;
        }
        tokio::task::yield_now().await;
        if entry.len > MAX_FILE {
            large += 1;
            continue;
        }
        if read > MAX_READ {
            walk.stopped = Some("too many bytes");
            break;
        }
        let Ok(content) = contents(&entry.path) else { continue };
        read += content.len() as u64;
        if content.iter().take(8192).any(|b| *b == 0) {
            binary += 1;
            continue;
        }
        let content = String::from_utf8_lossy(&content);
        let mut unwatched = 0;
        for (number, line) in (1usize..).zip(content.lines()) {
            // A hard pattern on long lines must neither outlast the limit of time nor keep others waiting.
            unwatched += line.len();
            if unwatched > WATCH {
                unwatched = 0;
                tokio::task::yield_now().await;
                if Instant::now() >= walk.until {
                    walk.stopped = Some("out of time");
                    break 'files;
                }
            }
            if !pattern.is_in(&line[..line.floor_char_boundary(MAX_SEARCHED)]) {
                continue;
            }
            if found == MAX_FOUND || text.len() > MAX_TEXT {
                walk.stopped = Some("too many lines found");
                break 'files;
            }
            found += 1;
            let line = cut::characters(line.trim_end(), MAX_LINE);
            text.push_str(&format!("{}:{number}: {line}\n", bench.shown(&entry.path)));
        }
    }
    if found == 0 {
        text.push_str("(nothing found)\n");
    }
    walk.notes(&mut text);
    if large + binary > 0 {
        text.push_str(&format!("[left out: {large} files over {MAX_FILE} bytes, {binary} binary files]\n"));
    }
    Ok(Said { text, ok: true, cut: walk.stopped.is_some() })
}

/// A regular file's bytes, at most [`MAX_FILE`]. It was one a moment ago; a pipe put in its place since must
/// not block the open.
fn contents(path: &Path) -> std::io::Result<Vec<u8>> {
    let file = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    let mut content = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut content)?;
    Ok(content)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::rpc::Peer;
    use agent_client_protocol_schema::v1::SessionId;
    use futures_util::FutureExt as _;

    /// Runs a walk to its end: it waits for nothing but its own turns.
    fn now<T>(work: impl Future<Output = Result<Said, T>>) -> Result<Said, T> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(work)
    }

    pub(crate) fn bench(root: &Path) -> Bench {
        Bench {
            peer: Peer::new().0,
            session: SessionId::new("s"),
            root: root.to_owned(),
            tools: Vec::new(),
            command_seconds: 1,
            door: String::new(),
            handle: String::new(),
            writing: tokio::sync::Mutex::new(()),
        }
    }

    fn found(root: &Path, pattern: &str) -> Said {
        let search = Search { pattern: pattern.into(), path: None, literal: true };
        now(super::search(&bench(root), &search)).ok().unwrap()
    }

    #[test]
    fn neither_a_pipe_nor_a_link_out_of_the_worktree_is_opened_and_git_is_left_out() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |name: &str| root.path().join(name);
        std::fs::write(outside.path().join("secret"), "needle").unwrap();
        std::os::unix::fs::symlink(outside.path(), at("link")).unwrap();
        std::fs::create_dir(at(".git")).unwrap();
        std::fs::write(at(".git/config"), "needle").unwrap();
        std::fs::write(at("binary"), b"needle\0").unwrap();
        std::fs::write(at("text"), "a\n  a needle here  \n").unwrap();
        let pipe = std::ffi::CString::new(at("pipe").to_str().unwrap()).unwrap();
        // SAFETY: the path is a C string that outlives the call.
        assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);

        let said = found(root.path(), "needle");
        assert!(said.ok && !said.cut);
        assert_eq!(said.text, "text:2:   a needle here\n[left out: 0 files over 2097152 bytes, 1 binary files]\n");
        assert!(contents(&at("pipe")).is_err(), "also when it became a pipe after it was looked at");

        let list = List { path: None, depth: None };
        let listed = now(super::list(&bench(root.path()), &list)).ok().unwrap().text;
        let outside = outside.path().display();
        assert_eq!(listed, format!("binary  7 bytes\nlink -> {outside}\npipe  (not a file)\ntext  20 bytes\n"));
    }

    #[test]
    fn answers_are_bounded_and_say_that_there_is_more() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("many"), "needle\n".repeat(MAX_FOUND + 1)).unwrap();
        let said = found(root.path(), "needle");
        assert!(said.cut && said.text.contains("narrow it by `path`"));
        assert_eq!(said.text.lines().filter(|line| line.starts_with("many:")).count(), MAX_FOUND);

        let large = std::fs::File::create(root.path().join("large")).unwrap();
        large.set_len(MAX_FILE + 1).unwrap();
        assert!(found(root.path(), "nowhere").text.contains("1 files over"));

        for n in 0..=MAX_LISTED {
            std::fs::write(root.path().join(format!("f{n}")), "").unwrap();
        }
        let list = List { path: None, depth: None };
        let said = now(super::list(&bench(root.path()), &list)).ok().unwrap();
        assert!(said.cut && said.text.contains("there is more"));
    }

    #[test]
    fn a_pattern_that_explodes_is_refused_and_a_long_line_is_searched_in_part() {
        let root = tempfile::tempdir().unwrap();
        let bench = bench(root.path());
        let regex = |pattern: &str| Search { pattern: pattern.into(), path: None, literal: false };
        assert!(now(super::search(&bench, &regex("((a{100}){100}){100}"))).is_err());
        std::fs::write(root.path().join("long"), format!("{}b{}c", "a".repeat(60_000), "a".repeat(60_000))).unwrap();
        assert!(now(super::search(&bench, &regex("a+b"))).ok().unwrap().text.starts_with("long:1: aaa"));
        assert!(now(super::search(&bench, &regex("a+c"))).ok().unwrap().text.starts_with("(nothing found)"));
    }

    #[test]
    fn a_walk_gives_others_their_turn() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("a"), "x").unwrap();
        let search = Search { pattern: "x".into(), path: None, literal: true };
        assert!(super::search(&bench(root.path()), &search).now_or_never().is_none());
    }
}
