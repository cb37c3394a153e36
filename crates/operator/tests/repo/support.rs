//! Repositories made for one test, and the processes under test.

use api::changes::{self, Change};
use operator::checkout::{Checkout, Checkouts};
use operator::disk::Disk;
use operator::repo::{Imported, Problem, RepoProcess};
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A folder with a repository `work` in it.
pub struct Place {
    _dir: TempDir,
    pub work: PathBuf,
}

/// The processes of this crate's own test program.
pub fn process() -> RepoProcess {
    RepoProcess {
        exe: env!("CARGO_BIN_EXE_repo-process").into(),
        read: vec!["read".into()],
        import: vec!["import".into()],
    }
}

/// git, as a person would call it; its output without the line end.
pub fn git(at: &Path, args: &[&str]) -> String {
    let said = Command::new("git")
        .current_dir(at)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "init.defaultBranch=main"])
        .args(["-c", "protocol.file.allow=always", "-c", "safe.directory=*"])
        .args(args)
        .output()
        .unwrap();
    assert!(said.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&said.stderr));
    String::from_utf8_lossy(&said.stdout).trim_end().to_owned()
}

/// An empty repository, made with `git init` and these arguments.
pub fn place(init: &[&str]) -> Place {
    let dir = tempfile::tempdir().unwrap();
    let top = dir.path().canonicalize().unwrap();
    let work = top.join("work");
    fs::create_dir(&work).unwrap();
    git(&work, &[&["init", "-q"], init].concat());
    Place { _dir: dir, work }
}

/// A repository with one commit of `a.txt` and `bin/run`.
pub fn simple() -> Place {
    let place = place(&[]);
    fs::write(place.work.join("a.txt"), "one\n").unwrap();
    fs::create_dir(place.work.join("bin")).unwrap();
    fs::write(place.work.join("bin/run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(place.work.join("bin/run"), fs::Permissions::from_mode(0o755)).unwrap();
    git(&place.work, &["add", "."]);
    commit(&place.work);
    place
}

pub fn commit(at: &Path) {
    git(at, &["commit", "-q", "-m", "it"]);
}

pub fn head(at: &Path) -> String {
    git(at, &["rev-parse", "HEAD"])
}

/// A checkout of the repository, and the folder that holds it.
pub fn checkout(path: &Path, commit: Option<&str>) -> Result<(Checkout, TempDir), Problem> {
    let dir = tempfile::tempdir().unwrap();
    let checkouts = Checkouts::open(&dir.path().join("checkouts")).unwrap();
    let checkout = checkouts.get(&process(), &Disk::of(dir.path()), path, commit)?;
    Ok((checkout, dir))
}

pub fn problem(path: &Path) -> Problem {
    checkout(path, None).expect_err("it was read")
}

pub fn file<'a>(path: &[u8], content: &'a str) -> (Change, &'a [u8]) {
    let content = content.as_bytes();
    (Change::File { path: path.to_vec(), executable: false, len: content.len() as u64 }, content)
}

pub fn gone(path: &[u8]) -> (Change, &'static [u8]) {
    (Change::Gone { path: path.to_vec() }, b"")
}

pub fn stream(all: &[(Change, &[u8])]) -> Vec<u8> {
    let mut wire = Vec::new();
    for (change, content) in all {
        changes::write(&mut wire, change).unwrap();
        wire.extend_from_slice(content);
    }
    changes::write(&mut wire, &Change::End { count: all.len() as u64 }).unwrap();
    wire
}

/// Imports bytes as the changes of run `r1`, on top of `base`.
pub fn import_bytes(at: &Path, base: &str, wire: &[u8]) -> Result<Imported, Problem> {
    import_by(at, base, wire, None)
}

/// The same, of this author's.
pub fn import_by(at: &Path, base: &str, wire: &[u8], author: Option<&model::Author>) -> Result<Imported, Problem> {
    let mut importing = process().import(at, &model::RunId::parse("r1").unwrap(), base, "scripted", author)?;
    // A process that refuses before it reads closes the pipe; the refusal is what counts then.
    importing.stdin().unwrap().write_all(wire).unwrap_or_default();
    importing.finish()
}

pub fn import(at: &Path, all: &[(Change, &[u8])]) -> Result<Imported, Problem> {
    import_bytes(at, &head(at), &stream(all))
}

/// Everything that an import must leave as it is: checked-out branch, index, files, other references.
pub fn outside_of_ours(at: &Path) -> String {
    let files = Command::new("sh")
        .current_dir(at)
        .args([
            "-c",
            "find . -path ./.git -prune -o -type f -exec sha256sum {} + | sort; sha256sum .git/index .git/HEAD",
        ])
        .output()
        .unwrap();
    assert!(files.status.success());
    let refs = git(at, &["for-each-ref"]);
    let refs: Vec<&str> = refs.lines().filter(|line| !line.contains("refs/heads/volary/")).collect();
    format!("{}{}", String::from_utf8_lossy(&files.stdout), refs.join("\n"))
}
