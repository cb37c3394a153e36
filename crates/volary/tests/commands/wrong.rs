//! What was typed wrong, and answers that nobody can take.

use crate::shared::{VOLARY, all, platform, text};
use std::fs::File;
use std::process::Command;

#[test]
fn an_answer_that_cannot_be_written_is_an_error_that_says_so_and_no_panic() {
    let platform = platform();
    assert!(platform.cli(&["exec", "--", "true"]).status.success());
    let run = platform.json(&["runs", "--json"])[0]["run"].as_str().unwrap().to_owned();
    let all: [&[&str]; 11] = [
        &["runs"],
        &["runs", "--json"],
        &["log", &run],
        &["log", &run, "--json"],
        &["status", "--json"],
        &["doctor"],
        &["reach"],
        &["verify", "--json"],
        &["profile", "list"],
        &["secret", "--help"],
        &["exec", "--", "sh", "-c", "echo hi; sleep 600"],
    ];
    for args in all {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let out = platform.command().args(args).stdout(full).output().unwrap();
        let said = text(&out.stderr);
        let failed = if args[0] == "exec" { 125 } else { 1 };
        assert_eq!(out.status.code(), Some(failed), "{args:?}: {said}");
        assert!(said.contains("standard output takes no more") && said.contains("No space left"), "{args:?}: {said}");
        assert!(!said.contains("panicked"), "{args:?}: {said}");
    }
    // The command was ended with it.
    let last = platform.json(&["runs", "--json"])[0].clone();
    assert_eq!(last["state"], "cancelled", "{last}");
    platform.stop();
}

#[test]
fn an_option_that_exec_has_not_is_no_command_and_touches_no_home() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().join("home");
    let out = Command::new(VOLARY).arg("--home").arg(&home).args(["exec", "--empty"]).output().unwrap();
    assert_eq!(out.status.code(), Some(2), "{}", all(&out));
    let said = text(&out.stderr);
    assert!(said.contains("unexpected argument '--empty'") && said.contains("takes: --profile <PROFILE>"), "{said}");
    assert!(!home.exists(), "{}", all(&out));
}

#[test]
fn what_goes_wrong_before_a_command_runs_is_not_taken_for_its_own_status() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "no folder").unwrap();
    let out = Command::new(VOLARY).arg("--home").arg(&file).args(["exec", "--", "false"]).output().unwrap();
    assert_eq!(out.status.code(), Some(125), "{}", all(&out));
    assert!(text(&out.stderr).contains("Not a directory"), "{}", all(&out));
}
