//! Hosts that lack something: what is missing is named, with one command to type.

use crate::support::{VOLARY, all, refused, text};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs the program where these files of `/usr/bin` cannot be executed, and `/usr/local/bin` is empty.
fn without(files: &[&str], args: &[&str]) -> Output {
    let hide: String = files.iter().map(|file| format!("mount --bind /dev/null /usr/bin/{file} && ")).collect();
    let line = format!("mount -t tmpfs none /usr/local/bin && {hide}exec \"$0\" \"$@\"");
    Command::new("unshare")
        .args(["--mount", "sh", "-c", &line, VOLARY])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("unshare starts")
}

#[test]
fn a_demo_without_git_or_a_compiler_ends_at_once_with_the_one_command() {
    for (files, command) in [
        (&["git", "cc"][..], "Do this: apt-get install --yes git gcc libc6-dev\n"),
        (&["git"], "Do this: apt-get install --yes git\n"),
        (&["cc"], "Do this: apt-get install --yes gcc libc6-dev\n"),
    ] {
        let out = without(files, &["demo", "--exit"]);
        refused(&out, 1, &[files, &[command]].concat());
        assert!(text(&out.stderr).ends_with(command), "{}", all(&out));
        assert_eq!(text(&out.stdout), "", "something was begun");
    }
}

#[test]
fn a_compiler_is_only_the_demos_need_and_git_is_everyones() {
    let out = without(&["cc"], &["doctor"]);
    assert_eq!(out.status.code(), Some(0), "{}", all(&out));
    for words in ["note    cc", "volary demo", "apt-get install --yes gcc libc6-dev", "can keep boxes"] {
        assert!(text(&out.stdout).contains(words), "{words:?} is not in:\n{}", all(&out));
    }
    let out = without(&["git"], &["doctor"]);
    assert_eq!(out.status.code(), Some(1), "{}", all(&out));
    assert!(text(&out.stdout).contains("MISSING git"), "{}", all(&out));
    // Where this shell looks is not where a platform looks.
    let out = Command::new(VOLARY).arg("doctor").env("PATH", "/nowhere").output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", all(&out));
}

#[test]
fn a_user_who_can_keep_no_boxes_is_told_one_command_that_helps_on_this_host() {
    let folder = tempfile::Builder::new().prefix("volary-u-").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let program = folder.path().join("volary");
    std::fs::copy(VOLARY, &program).unwrap();
    let out = Command::new(&program)
        .args(["--home", "/tmp/a home", "up", "--port", "0"])
        .uid(65534)
        .gid(65534)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let before = if v2 { "systemd-run --user --scope --property=Delegate=yes" } else { "sudo" };
    let command = format!("Do this: {before} {} --home '/tmp/a home' up --port 0\n", program.display());
    refused(&out, 1, &[&command]);
    assert!(text(&out.stderr).ends_with(&command), "{}", all(&out));
    assert!(v2 || !text(&out.stderr).contains("systemd-run"), "{}", all(&out));
    assert!(!Path::new("/tmp/a home").exists());
}
