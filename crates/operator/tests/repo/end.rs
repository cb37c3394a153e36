//! No repository process works on when nobody waits for it.

use crate::support::*;
use operator::repo::Rein;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Processes that name `at` in their arguments or work in it; none that have ended.
fn processes_at(at: &Path) -> Vec<String> {
    let mut all = vec![];
    for process in fs::read_dir("/proc").unwrap() {
        let process = process.unwrap().path();
        let args = fs::read(process.join("cmdline")).unwrap_or_default();
        let names = args.split(|b| *b == 0).any(|arg| arg == at.as_os_str().as_bytes());
        if names || fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd == at) {
            all.push(String::from_utf8_lossy(&args).replace('\0', " "));
        }
    }
    all
}

/// Returns once no process is there any more: the kernel kills at once, but not before the call that asked returns.
fn until_none(at: &Path) {
    while !processes_at(at).is_empty() {
        std::thread::yield_now();
    }
}

fn branches(at: &Path) -> String {
    git(at, &["for-each-ref", "refs/heads/volary", "refs/volary"])
}

#[test]
fn an_import_whose_rein_is_pulled_ends_with_its_git_and_makes_no_branch() {
    let place = simple();
    let (rein, run) = (Rein::default(), model::RunId::parse("r1").unwrap());
    let mut importing = process().import_held(&place.work, &run, &head(&place.work), "m", None, rein.clone()).unwrap();
    let mut stdin = importing.stdin().unwrap();
    let wire = stream(&[file(b"a.txt", &"x".repeat(4 << 20))]);
    stdin.write_all(&wire[..wire.len() - 20]).unwrap();
    let at_work = processes_at(&place.work);
    assert!(at_work.len() == 2 && at_work.iter().any(|args| args.contains(" fast-import ")), "{at_work:?}");
    rein.pull();
    // Its input is still open: nothing but the rein ends it.
    importing.finish().unwrap_err();
    until_none(&place.work);
    drop(stdin);
    assert_eq!(branches(&place.work), "");
}

#[test]
fn a_rein_that_was_pulled_before_ends_an_import_that_starts_after() {
    let place = simple();
    let (rein, run) = (Rein::default(), model::RunId::parse("r1").unwrap());
    rein.pull();
    let mut importing = process().import_held(&place.work, &run, &head(&place.work), "m", None, rein).unwrap();
    let stdin = importing.stdin();
    importing.finish().unwrap_err();
    until_none(&place.work);
    drop(stdin);
}

#[test]
fn an_import_that_breaks_while_its_diff_is_made_has_made_no_branch() {
    let place = simple();
    // Asked for by the diff of both trees, and by nothing before it; git would take the worktree's own if it is there.
    let blob = git(&place.work, &["rev-parse", "HEAD:a.txt"]);
    fs::remove_file(place.work.join(".git/objects").join(&blob[..2]).join(&blob[2..])).unwrap();
    fs::remove_file(place.work.join("a.txt")).unwrap();
    import(&place.work, &[file(b"a.txt", "two\n")]).unwrap_err();
    assert_eq!(branches(&place.work), "");
}

#[test]
fn an_import_and_its_git_end_with_the_operator_also_as_another_user() {
    assert!(rustix::process::geteuid().is_root(), "run as root");
    let place = simple();
    let (home, base) = (place.work.parent().unwrap(), head(&place.work));
    assert!(Command::new("chown").args(["-R", "12345:12345"]).arg(home).status().unwrap().success());
    fs::set_permissions(home, fs::Permissions::from_mode(0o700)).unwrap();
    let mut operator = Command::new(env!("CARGO_BIN_EXE_repo-process"));
    let operator = operator.arg("leave").arg(&place.work).arg(base).stdout(Stdio::piped());
    let mut operator = operator.spawn().unwrap();
    let mut keeper = String::new();
    BufReader::new(operator.stdout.take().unwrap()).read_line(&mut keeper).unwrap();
    assert_eq!(processes_at(&place.work).len(), 3, "{:?}", processes_at(&place.work));
    operator.kill().unwrap();
    operator.wait().unwrap();
    until_none(&place.work);
    // Their input was open all the while.
    let killed = Command::new("kill").arg(keeper.trim()).status().unwrap();
    assert!(killed.success(), "they ended with their input");
    assert_eq!(branches(&place.work), "");
}
