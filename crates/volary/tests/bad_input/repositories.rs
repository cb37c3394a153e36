//! Repositories that are none, or are more than one thinks.

use crate::support::{all, end, only, platform, profile, refused, run, text, worker};
use serde_json::{Value, json};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::process::{Command, Stdio};
use testkit::{Platform, Repo};

/// Runs a command over a repository in a box.
fn over(platform: &Platform, repo: &str, line: &str) -> std::process::Output {
    platform.cli(&["exec", "--repo", repo, "--", "sh", "-c", line])
}

/// Feeds `git fast-import`.
fn import(repo: &Repo, stream: &[u8]) {
    let mut git = Command::new("git")
        .arg("-C")
        .arg(repo.path())
        .args(["fast-import", "--quiet"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    git.stdin.take().unwrap().write_all(stream).unwrap();
    assert!(git.wait().unwrap().success());
}

#[test]
fn what_is_no_repository_is_refused_by_name() {
    let platform = platform();
    let plain = tempfile::tempdir().unwrap();
    std::fs::set_permissions(plain.path(), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::write(plain.path().join("file"), "x").unwrap();
    let path = plain.path().to_str().unwrap();
    refused(&over(&platform, path, "true"), 125, &[path, "not a git repository", "git init"]);
    let missing = format!("{path}/missing");
    refused(&over(&platform, &missing, "true"), 125, &[&missing, "is not there"]);
    let file = format!("{path}/file");
    refused(&over(&platform, &file, "true"), 125, &[&file, "not a folder"]);
    let repo = Repo::failing();
    repo.write("sub/file", b"x");
    repo.commit("a folder");
    let inside = format!("{}/sub", repo.path_str());
    refused(&over(&platform, &inside, "true"), 125, &[&inside, "lies inside the repository", repo.path_str()]);
}

#[test]
fn a_repository_without_a_commit_is_told_to_commit_something() {
    let platform = platform();
    let repo = Repo::empty();
    refused(&over(&platform, repo.path_str(), "true"), 125, &[repo.path_str(), "no commit yet", "commit something"]);
}

#[test]
fn an_address_that_the_profile_does_not_name_is_refused_with_what_to_write_there() {
    let platform = platform();
    worker(&platform, &["true"]);
    for url in ["https://example.org/x.git", "git@example.org:x.git", "ssh://example.org/x"] {
        let out = platform.cli(&["run", "--repo", url, "work"]);
        refused(&out, 1, &[url, "names no repository", "[[repository]]"]);
    }
}

#[test]
fn a_dirty_repository_starts_at_head_and_says_what_was_left_out() {
    let platform = platform();
    worker(&platform, &["cat max.c; ls"]);
    let repo = Repo::failing();
    repo.write("max.c", b"int half_done;\n");
    repo.write("untracked", b"x");
    let before = repo.untouched();
    let (out, events) = run(&platform, repo.path_str(), &[]);
    assert!(out.status.success(), "{}", all(&out));
    let base = only(&events, "base");
    let left_out: Vec<&str> = base["left_out"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!(left_out, ["max.c", "untracked"]);
    assert_eq!(repo.untouched(), before);
    let out = over(&platform, repo.path_str(), "grep -c half_done max.c; ls");
    assert_eq!(text(&out.stdout), "0\nREADME.md\nmax.c\nmax_test.c\ntest.sh\n");
}

#[test]
fn a_bare_repository_is_worked_on_like_any() {
    let platform = platform();
    worker(&platform, &["echo more >> README.md"]);
    let repo = Repo::failing();
    let bare = tempfile::Builder::new().prefix("volary-r-").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(bare.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let at = bare.path().join("bare.git");
    drop(repo.git(&["clone", "--quiet", "--bare", ".", at.to_str().unwrap()]));
    let (out, events) = run(&platform, at.to_str().unwrap(), &[]);
    assert!(out.status.success(), "{}", all(&out));
    let branch = only(&events, "result")["branch"].as_str().unwrap();
    let shown = Command::new("git").arg("-C").arg(&at).args(["show", &format!("{branch}:README.md")]).output().unwrap();
    assert!(text(&shown.stdout).ends_with("more\n"), "{}", all(&shown));
}

#[test]
fn two_hundred_thousand_files_are_worked_on_and_the_branch_holds_them_all() {
    let platform = platform();
    worker(&platform, &["ls | wc -l; echo changed > d100/f500; rm d7/f1"]);
    let repo = Repo::empty();
    let mut stream = b"blob\nmark :1\ndata 2\nx\n\ncommit refs/heads/main\ncommitter T <t@example.org> 1700000000 +0000\ndata 4\nmany".to_vec();
    for n in 0..200_000 {
        write!(stream, "\nM 100644 :1 d{}/f{}", n / 1000, n % 1000).unwrap();
    }
    stream.push(b'\n');
    import(&repo, &stream);
    let (out, events) = run(&platform, repo.path_str(), &[]);
    assert!(out.status.success(), "{}", all(&out));
    let result = only(&events, "result");
    assert_eq!(result["files"], 2);
    let branch = result["branch"].as_str().unwrap();
    assert_eq!(repo.git(&["ls-tree", "-r", "--name-only", branch]).lines().count(), 199_999);
    assert_eq!(repo.git(&["diff", "--name-status", "main", branch]), "M\td100/f500\nD\td7/f1");
}

#[test]
fn a_submodule_is_an_empty_folder_and_stays_what_it_was() {
    let platform = platform();
    worker(&platform, &["ls -A sub | wc -l; echo x > new"]);
    let (inner, repo) = (Repo::failing(), Repo::failing());
    drop(repo.git(&["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", inner.path_str(), "sub"]));
    repo.commit("a submodule");
    let (out, events) = run(&platform, repo.path_str(), &[]);
    assert!(out.status.success(), "{}", all(&out));
    let notes: String = events.iter().filter(|e| e["kind"] == "note").filter_map(|e| e["text"].as_str()).collect();
    assert!(notes.contains("1 submodule"), "{notes}");
    let branch = only(&events, "result")["branch"].as_str().unwrap();
    assert_eq!(repo.git(&["diff", "--name-status", "main", branch]), "A\tnew");
}

#[test]
fn a_link_that_leaves_the_worktree_leads_nowhere_and_comes_back_as_it_was() {
    let platform = platform();
    worker(&platform, &["cat out || echo nowhere; echo x > new"]);
    let repo = Repo::failing();
    let outside = tempfile::Builder::new().prefix("volary-o-").tempdir_in("/tmp").unwrap();
    let secret = outside.path().join("secret");
    std::fs::write(&secret, "of the host").unwrap();
    std::os::unix::fs::symlink(&secret, repo.path().join("out")).unwrap();
    repo.commit("a link");
    let (out, events) = run(&platform, repo.path_str(), &[]);
    assert!(out.status.success(), "{}", all(&out));
    let branch = only(&events, "result")["branch"].as_str().unwrap();
    assert_eq!(repo.git(&["diff", "--name-status", "main", branch]), "A\tnew");
    let out = over(&platform, repo.path_str(), "cat out || readlink out");
    assert_eq!(text(&out.stdout), format!("{}\n", secret.display()));
}

#[test]
fn names_in_any_bytes_come_and_go_unchanged() {
    let platform = platform();
    worker(&platform, &[r#"for f in *; do echo y >> "$f"; done"#]);
    let repo = Repo::empty();
    let names: [&[u8]; 6] =
        [b"bad-\xff\xfe", b"new\nline", b"tab\there", b"-rf", b"quote\"'$(x)`", "\u{202e}txt.exe".as_bytes()];
    let mut stream = b"commit refs/heads/main\ncommitter T <t@example.org> 1700000000 +0000\ndata 5\nnames".to_vec();
    for name in names {
        stream.extend_from_slice(b"\nM 100644 inline \"");
        for byte in name {
            write!(stream, "\\{byte:03o}").unwrap();
        }
        stream.extend_from_slice(b"\"\ndata 2\nx\n");
    }
    stream.push(b'\n');
    import(&repo, &stream);
    let (out, events) = run(&platform, repo.path_str(), &[]);
    assert!(out.status.success(), "{}", all(&out));
    let branch = only(&events, "result")["branch"].as_str().unwrap();
    for name in names {
        use std::os::unix::ffi::OsStrExt;
        let mut what = std::ffi::OsString::from(format!("{branch}:"));
        what.push(std::ffi::OsStr::from_bytes(name));
        let shown = Command::new("git").arg("-C").arg(repo.path()).arg("show").arg(what).output().unwrap();
        assert_eq!(text(&shown.stdout), "x\ny\n", "{:?}: {}", String::from_utf8_lossy(name), all(&shown));
    }
    assert_eq!(only(&events, "result")["files"], names.len());
}

#[test]
fn a_file_of_two_gigabytes_is_there_and_one_that_does_not_fit_says_so() {
    let platform = platform();
    let repo = Repo::failing();
    let big = std::fs::File::create(repo.path().join("big")).unwrap();
    big.set_len(2 << 30).unwrap();
    drop(big);
    drop(repo.git(&["-c", "core.compression=1", "add", "big"]));
    repo.commit("big");
    std::fs::remove_file(repo.path().join("big")).unwrap();
    let out = over(&platform, repo.path_str(), "stat -c %s big; head -c 3 big | od -An -tx1");
    assert_eq!(text(&out.stdout), "2147483648\n 00 00 00\n", "{}", all(&out));
    // A change to it copies it up into the run's own room, which has a limit.
    profile(&platform, "small", "[limits]\nworktree-mib = 64\n");
    let out =
        platform.cli(&["exec", "--profile", "small", "--repo", repo.path_str(), "--", "sh", "-c", "echo x >> big"]);
    refused(&out, 2, &["No space left on device"]);
}

/// Makes a repository another's, and his folder above it one that only he may enter.
fn give_away(repo: &Repo, uid: u32) {
    let status = Command::new("chown").args(["-R", &format!("{uid}:{uid}")]).arg(repo.path()).status().unwrap();
    assert!(status.success());
    let above = repo.path().parent().unwrap();
    chown(above, Some(uid), Some(uid)).unwrap();
    std::fs::set_permissions(above, PermissionsExt::from_mode(0o700)).unwrap();
}

fn owners(folder: &Path, found: &mut std::collections::BTreeSet<u32>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        found.insert(entry.metadata().unwrap().uid());
        if entry.file_type().unwrap().is_dir() {
            owners(&entry.path(), found);
        }
    }
}

#[test]
fn someone_elses_repository_under_his_own_folder_is_worked_on_as_him() {
    let platform = platform();
    worker(&platform, &["echo x > new"]);
    let repo = Repo::failing();
    give_away(&repo, 65534);
    let (out, events) = run(&platform, repo.path_str(), &[]);
    assert!(out.status.success(), "{}", all(&out));
    let branch = only(&events, "result")["branch"].as_str().unwrap().to_owned();
    let mut found = std::collections::BTreeSet::new();
    owners(repo.path(), &mut found);
    assert_eq!(found.into_iter().collect::<Vec<_>>(), [65534], "everything is still his");
    let shown = Command::new("git")
        .args(["-c", "safe.directory=*", "-C"])
        .arg(repo.path())
        .args(["show", &format!("{branch}:new")])
        .output()
        .unwrap();
    assert_eq!(text(&shown.stdout), "x\n", "{}", all(&shown));
}

#[test]
fn a_repository_whose_owner_cannot_reach_it_names_the_folder_in_the_way() {
    let platform = platform();
    let repo = Repo::failing();
    let status = Command::new("chown").args(["-R", "65534:65534"]).arg(repo.path()).status().unwrap();
    assert!(status.success());
    let above = repo.path().parent().unwrap();
    std::fs::set_permissions(above, PermissionsExt::from_mode(0o700)).unwrap();
    let out = over(&platform, repo.path_str(), "true");
    refused(&out, 125, &[repo.path_str(), "uid 65534", "cannot enter", above.to_str().unwrap()]);
}

#[test]
fn a_repository_with_hooks_and_filters_runs_none_of_them() {
    let platform = platform();
    worker(&platform, &["echo x > new.txt; echo y >> README.md"]);
    let repo = Repo::failing();
    let mark = repo.path().parent().unwrap().join("ran");
    let touch = format!("#!/bin/sh\ntouch {}\n", mark.display());
    for hook in ["post-commit", "reference-transaction", "post-checkout", "pre-commit", "post-index-change"] {
        repo.write(&format!(".git/hooks/{hook}"), touch.as_bytes());
        std::fs::set_permissions(repo.path().join(".git/hooks").join(hook), PermissionsExt::from_mode(0o755)).unwrap();
    }
    repo.write(".git/evil", touch.as_bytes());
    std::fs::set_permissions(repo.path().join(".git/evil"), PermissionsExt::from_mode(0o755)).unwrap();
    let evil = repo.path().join(".git/evil");
    let evil = evil.to_str().unwrap();
    for (key, value) in [
        ("filter.evil.clean", evil),
        ("filter.evil.smudge", evil),
        ("core.fsmonitor", evil),
        ("core.sshCommand", evil),
        ("diff.external", evil),
        ("gpg.program", evil),
        ("commit.gpgSign", "true"),
    ] {
        let out = Command::new("git").arg("-C").arg(repo.path()).args(["config", key, value]).output().unwrap();
        assert!(out.status.success());
    }
    repo.write(".git/info/attributes", b"* filter=evil diff=evil\n");
    std::fs::remove_file(&mark).ok();
    let (out, events) = run(&platform, repo.path_str(), &[]);
    assert!(out.status.success(), "{}", all(&out));
    assert!(only(&events, "result")["branch"].is_string());
    assert!(!mark.exists(), "a program of the repository's configuration ran on the host");
    // The control: git itself would run it.
    let status = Command::new("git").arg("-C").arg(repo.path()).args(["status", "--porcelain"]).output().unwrap();
    assert!(mark.exists(), "{}", all(&status));
}

#[test]
fn a_run_that_changes_nothing_makes_no_branch() {
    let platform = platform();
    worker(&platform, &["true"]);
    let repo = Repo::failing();
    let (out, events) = run(&platform, repo.path_str(), &[]);
    assert!(out.status.success(), "{}", all(&out));
    assert_eq!(end(&events), ("done".to_owned(), String::new()));
    assert_eq!(only(&events, "result")["branch"], json!(null));
    assert_eq!(repo.git(&["branch", "--list", "volary/*"]), "");
}
