//! Reading: the tree of a commit, as a stream of files on standard output.
//!
//! `repo-read PATH [COMMIT]`: one [`Head`] line, then an [`api::changes`] stream: files and links of the commit (HEAD
//! when none is given), an empty folder for each submodule. Contents come from the object store, never from the
//! worktree, and no attribute or filter is applied to them.

use super::git::{Git, failed, is_object, missing, taken};
use super::owner::become_owner;
use super::{Head, NAMED_LEFT_OUT, Problem, close};
use api::changes::{self, Change};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::process::{ExitCode, Stdio};

/// The reading process. Arguments: the repository's path, and the commit if not HEAD.
pub fn read_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args = args.into_iter();
    let (path, commit) = (args.next(), args.next());
    close(path.ok_or_else(|| Problem::new("repo.usage", "which repository?")).and_then(|path| {
        let commit = commit.as_ref().map(|c| c.to_string_lossy());
        read(Path::new(&path), commit.as_deref(), &mut BufWriter::with_capacity(1 << 16, io::stdout().lock()))
    }))
}

/// One entry of the tree that goes into the stream.
struct Leaf {
    kind: Kind,
    object: String,
    size: u64,
    path: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    File,
    Executable,
    Link,
    Submodule,
}

fn read(path: &Path, commit: Option<&str>, to: &mut impl Write) -> Result<(), Problem> {
    let path = become_owner(path)?;
    let git = Git::open(&path)?;
    let commit = resolve(&git, &path, commit)?;
    let tree = git.ask(&["rev-parse", "--verify", "--end-of-options", &format!("{commit}^{{tree}}")])?;
    let leaves = leaves(&git, &path, &tree)?;
    let (left_out, left_out_count) = uncommitted(&git)?;
    let mut notes = Vec::new();
    let submodules = leaves.iter().filter(|leaf| leaf.kind == Kind::Submodule).count();
    if submodules > 0 {
        notes.push(format!(
            "{submodules} submodule(s) are empty folders in the worktree; their contents do not come along."
        ));
    }
    let head = Head {
        commit,
        tree,
        left_out,
        left_out_count,
        files: leaves.len() as u64,
        bytes: leaves.iter().map(|leaf| leaf.size).sum(),
        notes,
        obstacle: super::preflight::obstacle(&git, &path),
    };
    let out = |e| Problem::io("write the tree")(e);
    serde_json::to_writer(&mut *to, &head).map_err(|e| out(e.into()))?;
    to.write_all(b"\n").map_err(out)?;
    stream(&git, &leaves, to)?;
    changes::write(to, &Change::End { count: leaves.len() as u64 }).map_err(out)?;
    to.flush().map_err(out)
}

/// The commit's whole name.
fn resolve(git: &Git, path: &Path, commit: Option<&str>) -> Result<String, Problem> {
    let shown = path.display();
    let name = match commit {
        Some(name) if is_object(name) => name,
        Some(name) => return Err(Problem::new("repo.commit", format!("{name:?} is not the whole name of a commit."))),
        None => "HEAD",
    };
    let said = git.run(&["rev-parse", "--verify", "--quiet", "--end-of-options", &format!("{name}^{{commit}}")])?;
    if said.status.success() {
        return Ok(String::from_utf8_lossy(&said.stdout).trim().to_owned());
    }
    Err(match commit {
        Some(name) => Problem::new("repo.commit", format!("{shown} has no commit {name}; it may have been removed.")),
        None => Problem::new("repo.empty", format!("{shown} has no commit yet; commit something first.")),
    })
}

fn leaves(git: &Git, path: &Path, tree: &str) -> Result<Vec<Leaf>, Problem> {
    let mut all = Vec::new();
    git.list(&["ls-tree", "-r", "-z", "-l", "--full-tree", tree], |line| {
        all.push(
            leaf(line).map_err(|(code, why)| {
                Problem::new(code, format!("{} cannot be carried out: {why}", path.display()))
            })?,
        );
        Ok(())
    })?;
    Ok(all)
}

/// Reads `<mode> <type> <object> <size>\t<path>`.
fn leaf(line: &[u8]) -> Result<Leaf, (&'static str, String)> {
    let strange =
        || ("repo.tree", format!("an entry of its tree is not understood: {}", String::from_utf8_lossy(line)));
    let tab = line.iter().position(|b| *b == b'\t').ok_or_else(strange)?;
    let (fields, path) = (String::from_utf8_lossy(&line[..tab]), &line[tab + 1..]);
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let [mode, _, object, size] = fields[..] else { return Err(strange()) };
    let name = String::from_utf8_lossy(path);
    if !changes::path_is_plain(path) {
        return Err(("repo.path", format!("it holds the path {name:?}, which names .git, climbs or is too long")));
    }
    let kind = match mode {
        "100644" | "100664" => Kind::File,
        "100755" => Kind::Executable,
        "120000" => Kind::Link,
        "160000" => Kind::Submodule,
        _ => return Err(strange()),
    };
    let size = match (kind, size) {
        (Kind::Submodule, _) => 0,
        (_, "BAD") => {
            let why =
                format!("the content of {name:?} is not in it (a partial clone?); run `git fetch --refetch` there");
            return Err(("repo.incomplete", why));
        }
        (_, size) => size.parse().map_err(|_| strange())?,
    };
    if kind == Kind::Link && size >= changes::MAX_PATH as u64 {
        return Err(("repo.path", format!("the link {name:?} has a target longer than any path")));
    }
    Ok(Leaf { kind, object: object.to_owned(), size, path: path.to_vec() })
}

/// What stands in the worktree and not in the commit: staged, changed, deleted and untracked files that are not ignored.
fn uncommitted(git: &Git) -> Result<(Vec<String>, u64), Problem> {
    if git.bare {
        return Ok((Vec::new(), 0));
    }
    let mut all = BTreeSet::new();
    for args in [
        &["diff-index", "--cached", "--name-only", "-z", "--no-ext-diff", "--ignore-submodules", "HEAD", "--"][..],
        &["ls-files", "-z", "--modified", "--deleted", "--others", "--exclude-standard"],
    ] {
        git.list(args, |path| {
            all.insert(path.to_vec());
            Ok(())
        })?;
    }
    let named = all.iter().take(NAMED_LEFT_OUT).map(|path| String::from_utf8_lossy(path).into_owned()).collect();
    Ok((named, all.len() as u64))
}

/// Writes every leaf with its content, which `cat-file` gives in the order asked.
fn stream(git: &Git, leaves: &[Leaf], to: &mut impl Write) -> Result<(), Problem> {
    let args = ["cat-file", "--batch", "--buffer"];
    let mut command = git.command(&args);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::inherit()).spawn().map_err(missing)?;
    let asking = taken(child.stdin.take())?;
    let mut from = BufReader::with_capacity(1 << 16, taken(child.stdout.take())?);
    let objects: Vec<String> =
        leaves.iter().filter(|leaf| leaf.kind != Kind::Submodule).map(|leaf| leaf.object.clone()).collect();
    // On a thread of its own: git answers while it is still being asked, and both pipes are short.
    let asker = std::thread::spawn(move || {
        let mut asking = BufWriter::new(asking);
        objects.iter().try_for_each(|object| writeln!(asking, "{object}"))?;
        asking.flush()
    });
    let out = |e| Problem::io("write the tree")(e);
    for leaf in leaves {
        let path = leaf.path.clone();
        let (executable, len) = (leaf.kind == Kind::Executable, leaf.size);
        let change = match leaf.kind {
            Kind::Submodule => Change::Folder { path },
            Kind::Link => Change::Link { path, len },
            Kind::File | Kind::Executable => Change::File { path, executable, len },
        };
        changes::write(to, &change).map_err(out)?;
        if leaf.kind != Kind::Submodule {
            content(&mut from, leaf, to)?;
        }
    }
    drop(from);
    let asked = asker.join().map_err(|_| Problem::new("repo.io", "the thread that asks git panicked"))?;
    asked.map_err(Problem::io("ask git for contents"))?;
    let status = child.wait().map_err(Problem::io("wait for git"))?;
    if status.success() { Ok(()) } else { Err(failed(&args, b"it said why on the line before")) }
}

/// Copies one answer of `cat-file --batch`: `<object> blob <size>`, the content, a line end.
fn content(from: &mut impl BufRead, leaf: &Leaf, to: &mut impl Write) -> Result<(), Problem> {
    let mut line = String::new();
    from.read_line(&mut line).map_err(Problem::io("read from git"))?;
    if line.trim_end() != format!("{} blob {}", leaf.object, leaf.size) {
        let name = String::from_utf8_lossy(&leaf.path);
        return Err(Problem::new(
            "repo.incomplete",
            format!("the content of {name:?} cannot be read: {}", line.trim()),
        ));
    }
    let copied = io::copy(&mut from.take(leaf.size), to).map_err(Problem::io("copy a file's content"))?;
    let mut end = [0u8];
    from.read_exact(&mut end).map_err(Problem::io("read from git"))?;
    if copied != leaf.size || end != *b"\n" {
        return Err(Problem::new("repo.io", "git broke off in the middle of a file"));
    }
    Ok(())
}
