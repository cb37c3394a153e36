//! Importing: a stream of changes becomes the branch `volary/<run>`.
//!
//! `repo-import PATH RUN BASE MODEL AUTHOR`, the changes on standard input; one [`Imported`] line on standard output. The
//! commit is authored by the run's person (`NAME <ADDRESS>`), and committed by the repository's owner, who makes it. The
//! objects are made by `git fast-import` under a reference of its own (`refs/volary/import/<run>`), which goes at once.
//! The branch is set after everything else: whoever is killed before has made none. It is set in one step that expects
//! it not to be there. A branch that is there is replaced only when it is this
//! run's own, left by an import that was interrupted before it was recorded. A stream that was cut makes nothing.

use super::git::{Git, bounded, failed, is_object, last_words, missing, taken};
use super::leftover::{Leftovers, gone, unlock};
use super::owner::become_owner;
use super::preflight;
use super::{Imported, MAX_DIFF, Problem, close};
use api::changes::{self, Change};
use model::RunId;
use std::ffi::OsString;
use std::fs;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

/// The importing process. Arguments: the repository's path, the run, the base commit, the model's name, the author; empty
/// for the repository's owner.
pub fn import_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let done = match &args[..] {
        [path, run, base, model, author] => {
            let (run, base, model) = (run.to_string_lossy(), base.to_string_lossy(), model.to_string_lossy());
            let from = &mut BufReader::with_capacity(1 << 16, io::stdin().lock());
            import(Path::new(path), &run, &base, &model, &author.to_string_lossy(), from)
        }
        _ => Err(Problem::new("repo.usage", "which repository, run, base, model and author?")),
    };
    close(done.map(|imported| println!("{}", serde_json::json!(imported))))
}

fn import(
    path: &Path,
    run: &str,
    base: &str,
    model: &str,
    author: &str,
    from: &mut impl Read,
) -> Result<Imported, Problem> {
    let run = RunId::parse(run).map_err(|e| Problem::new("repo.usage", e))?;
    if !author.is_empty() && !is_identity(author) {
        return Err(Problem::new("repo.usage", format!("{author:?} is no author, NAME <ADDRESS>.")));
    }
    if !is_object(base) {
        return Err(Problem::new("repo.commit", format!("{base:?} is not the whole name of a commit.")));
    }
    let path = become_owner(path)?;
    let git = Git::open(&path)?;
    preflight::room(&git)?;
    let draft = format!("refs/volary/import/{run}");
    unlock(&git, &[&draft, &format!("refs/heads/volary/{run}")])?;
    let owner = identity(&git)?;
    let by = By { author: if author.is_empty() { &owner } else { author }, committer: &owner };
    let made = build(&git, &draft, &message(&run, model), base, &by, from);
    let commit = made.and_then(|()| git.ask(&["rev-parse", "--verify", &draft]));
    // Also after a failure: what it held is garbage then, which git collects in time, and not before some days.
    let swept = sweep(&git, &draft);
    let commit = commit?;
    swept?;
    publish(&git, &run, commit, base)
}

/// Takes the draft reference away. It is a file of this run's own: removed as one, no lock of all references is held
/// meanwhile, which a kill would leave in everybody's way. Where it is no file any more, git removes it.
fn sweep(git: &Git, draft: &str) -> Result<(), Problem> {
    for file in [draft.to_owned(), format!("logs/{draft}")] {
        gone(fs::remove_file(git.inside(&file)?)).map_err(Problem::io("remove the draft of a branch"))?;
    }
    if git.run(&["rev-parse", "--verify", "--quiet", draft])?.status.success() {
        git.ask(&["update-ref", "-d", draft])?;
    }
    Ok(())
}

fn message(run: &RunId, model: &str) -> String {
    let model: String = model.chars().filter(|c| !c.is_control()).collect();
    format!("Result of volary run {run}\n\nRun: {run}\nAgent: volary/{model}\n")
}

/// Feeds the changes to `git fast-import`; the commit stands at `draft` afterwards.
fn build(git: &Git, draft: &str, message: &str, base: &str, by: &By, from: &mut impl Read) -> Result<(), Problem> {
    let args = ["fast-import", "--quiet", "--force", "--done", "--date-format=raw"];
    let leftovers = Leftovers::before(git)?;
    let mut child = git.command(&args).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().map_err(missing)?;
    let mut to = BufWriter::with_capacity(1 << 16, taken(child.stdin.take())?);
    let mut stderr = taken(child.stderr.take())?;
    // git says little, but a full pipe would stop it.
    let listener = std::thread::spawn(move || bounded(&mut stderr, 64 * 1024));
    let fed = feed(&mut to, draft, message, base, by, from);
    // The end of the pipe without `done` makes git throw everything away.
    drop(to);
    let status = child.wait().map_err(Problem::io("wait for git"))?;
    if (fed.is_err() || !status.success())
        && let Err(problem) = leftovers.remove(git, child.id())
    {
        // Why the import failed is what is told; this line goes before it.
        eprintln!("{problem}");
    }
    let said = listener.join().map_err(|_| Problem::new("repo.io", "the thread that listens to git panicked"))?;
    let said = said.map_err(Problem::io("read from git"))?;
    match fed {
        // A broken pipe means that git gave up first, and its own words say why.
        Err(Feed::Git(e)) if said.is_empty() => Err(Problem::io("feed git")(e)),
        Err(Feed::Git(_)) => Err(failed(&args, &said)),
        Err(Feed::Stream(e)) => {
            Err(Problem::new("repo.changes", format!("the run's changes are not whole, so no branch was made: {e}")))
        }
        Ok(()) if !status.success() => Err(failed(&args, &said)),
        Ok(()) => Ok(()),
    }
}

/// Which side of the copy failed.
enum Feed {
    Git(io::Error),
    Stream(io::Error),
}

fn feed(
    to: &mut impl Write,
    draft: &str,
    message: &str,
    base: &str,
    by: &By,
    from: &mut impl Read,
) -> Result<(), Feed> {
    let By { author, committer } = by;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    write!(
        to,
        "commit {draft}\nauthor {author} {now} +0000\ncommitter {committer} {now} +0000\ndata {}\n{message}\nfrom {base}\n",
        message.len()
    )
    .map_err(Feed::Git)?;
    let mut count = 0;
    loop {
        match changes::read(from).map_err(Feed::Stream)? {
            Change::File { path, executable, len } => {
                file(to, if executable { "100755" } else { "100644" }, &path, len, from)?;
            }
            Change::Link { path, len } => file(to, "120000", &path, len, from)?,
            Change::Gone { path } => writeln_quoted(to, b"D ", &path).map_err(Feed::Git)?,
            // git keeps no empty folders.
            Change::Folder { .. } => {}
            Change::End { count: said } if said == count => break,
            Change::End { .. } => return Err(Feed::Stream(io::Error::other("the count at its end is another"))),
        }
        count += 1;
    }
    to.write_all(b"done\n").and_then(|()| to.flush()).map_err(Feed::Git)
}

fn file(to: &mut impl Write, mode: &str, path: &[u8], len: u64, from: &mut impl Read) -> Result<(), Feed> {
    writeln_quoted(to, format!("M {mode} inline ").as_bytes(), path).map_err(Feed::Git)?;
    writeln!(to, "data {len}").map_err(Feed::Git)?;
    let mut left = len;
    let mut piece = vec![0; 1 << 16];
    while left > 0 {
        let most = usize::try_from(left).map_or(piece.len(), |left| left.min(piece.len()));
        let got = from.read(&mut piece[..most]).map_err(Feed::Stream)?;
        if got == 0 {
            return Err(Feed::Stream(io::ErrorKind::UnexpectedEof.into()));
        }
        to.write_all(&piece[..got]).map_err(Feed::Git)?;
        left -= got as u64;
    }
    to.write_all(b"\n").map_err(Feed::Git)
}

/// A path in git's C-style quotes: every byte can be written so, a line end too.
fn writeln_quoted(to: &mut impl Write, before: &[u8], path: &[u8]) -> io::Result<()> {
    let mut line = before.to_vec();
    line.push(b'"');
    for &byte in path {
        match byte {
            b'"' | b'\\' => line.extend_from_slice(&[b'\\', byte]),
            0..=31 | 127.. => line.extend_from_slice(format!("\\{byte:03o}").as_bytes()),
            _ => line.push(byte),
        }
    }
    line.extend_from_slice(b"\"\n");
    to.write_all(&line)
}

/// Whose a commit is: `Name <mail>`, twice.
struct By<'a> {
    author: &'a str,
    committer: &'a str,
}

/// Whether a text is one whole identity, which ends nothing of the stream that it stands in.
fn is_identity(text: &str) -> bool {
    let plain = |text: &str| !text.contains(|c: char| c.is_control() || matches!(c, '<' | '>'));
    let parts = text.strip_suffix('>').and_then(|text| text.split_once(" <"));
    parts.is_some_and(|(name, mail)| !name.is_empty() && plain(name) && plain(mail))
}

/// `Name <mail>` as the owner's own configuration has it.
fn identity(git: &Git) -> Result<String, Problem> {
    let read = |key| {
        let said = git.run(&["config", "--get", key])?;
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        let text: String = text.chars().filter(|c| !c.is_control() && !matches!(c, '<' | '>')).collect();
        Ok::<_, Problem>(Some(text.trim().to_owned()).filter(|text| !text.is_empty()))
    };
    Ok(match (read("user.name")?, read("user.email")?) {
        (Some(name), Some(mail)) => format!("{name} <{mail}>"),
        _ => "volary <volary@localhost>".to_owned(),
    })
}

/// Sets the branch to `commit`, unless nothing changed.
fn publish(git: &Git, run: &RunId, commit: String, base: &str) -> Result<Imported, Problem> {
    let tree_of = |commit: &str| git.ask(&["rev-parse", "--verify", &format!("{commit}^{{tree}}")]);
    if tree_of(&commit)? == tree_of(base)? {
        return Ok(Imported { branch: None, commit: None, files: 0, diff: String::new(), diff_cut: false });
    }
    let mut files = 0;
    git.list(&["diff-tree", "-r", "-z", "--name-only", "--no-ext-diff", base, &commit], |_| {
        files += 1;
        Ok(())
    })?;
    let (diff, diff_cut) = diff(git, base, &commit)?;
    let (name, full) = (format!("volary/{run}"), format!("refs/heads/volary/{run}"));
    let old = own_earlier(git, run, &full, base)?.unwrap_or_else(|| "0".repeat(commit.len()));
    let set = git.run(&["update-ref", "-m", "volary: import", &full, &commit, &old])?;
    if !set.status.success() {
        let words = last_words(&set.stderr);
        let message = format!("the branch {name} could not be made: {words}. Rename what is in its way and run again.");
        return Err(Problem::new("repo.branch", message));
    }
    Ok(Imported { branch: Some(name), commit: Some(commit), files, diff, diff_cut })
}

/// The commit of a branch that an earlier, interrupted import of the same run left: same parent, same `Run:` line.
fn own_earlier(git: &Git, run: &RunId, branch: &str, base: &str) -> Result<Option<String>, Problem> {
    let there = git.run(&["rev-parse", "--verify", "--quiet", branch])?;
    if !there.status.success() {
        return Ok(None);
    }
    let old = String::from_utf8_lossy(&there.stdout).trim().to_owned();
    let body = git.ask(&["cat-file", "commit", &old])?;
    let (head, message) = body.split_once("\n\n").unwrap_or((&body, ""));
    let parents: Vec<&str> = head.lines().filter_map(|line| line.strip_prefix("parent ")).collect();
    if parents == [base] && message.lines().any(|line| line == format!("Run: {run}")) {
        return Ok(Some(old));
    }
    let message =
        format!("the branch {} is there already, with other content.", branch.trim_start_matches("refs/heads/"));
    Err(Problem::new("repo.branch", message))
}

/// The unified diff, at most [`MAX_DIFF`] bytes, cut at a line. A file of more than 2 MiB is told as one that differs: compared
/// line by line git takes up to fifty times its length of memory, and not much of it would be shown.
fn diff(git: &Git, base: &str, commit: &str) -> Result<(String, bool), Problem> {
    let args = [
        "-c",
        "core.bigFileThreshold=2m",
        "diff-tree",
        "-p",
        "-M",
        "--no-ext-diff",
        "--no-textconv",
        "--no-color",
        base,
        commit,
    ];
    let mut child = git.command(&args).stderr(Stdio::inherit()).spawn().map_err(missing)?;
    let mut from = taken(child.stdout.take())?;
    let mut kept = bounded(&mut from, MAX_DIFF + 1).map_err(Problem::io("read the diff"))?;
    let cut = kept.len() > MAX_DIFF;
    if cut {
        kept.truncate(MAX_DIFF);
        let end = kept.iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
        kept.truncate(end);
        // It may be writing still, to nobody.
        child.kill().map_err(Problem::io("end git"))?;
    }
    let status = child.wait().map_err(Problem::io("wait for git"))?;
    if !cut && !status.success() {
        return Err(failed(&args[2..], b"it said why on the line before"));
    }
    let text = String::from_utf8_lossy(&kept).into_owned();
    // Bytes that are no UTF-8 became three bytes each.
    let end = text.floor_char_boundary(MAX_DIFF);
    Ok((text[..end].to_owned(), cut || end < text.len()))
}
