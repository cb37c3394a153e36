//! `run` to its end, in the background, cancelled, interrupted; with a platform that is up and with its own.

use crate::shared::{VOLARY, all, anthropic, mend, of_kind, platform, text, view};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use testkit::{ModelDouble, Platform, Repo, Turn, eventually, leftovers};

const KEY: &str = "sk-a-key-of-some-length";

/// A turn whose command does not end by itself.
fn endless() -> Turn {
    Turn::calls("shell", json!({"command": "echo begun; sleep 100000", "timeout": 500}))
}

/// Waits until a run's endless command has begun.
fn begun(platform: &Platform, run: &str) {
    eventually("the command's first word", || {
        (!of_kind(&platform.json_lines(&["log", run, "--json"]), "output").is_empty()).then_some(())
    });
}

fn boxes(platform: &Platform) -> usize {
    // Whatever its status: a box that just ends may lack a wall.
    let out = platform.cli(&["status", "--json"]);
    let status: Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {}", all(&out)));
    status["boxes"].as_array().map(Vec::len).or(status["boxes"].as_object().map(serde_json::Map::len)).expect("boxes")
}

#[test]
fn the_live_view_tells_the_work_the_diff_and_the_branch_and_the_status_is_0() {
    let (platform, repo) = (platform(), Repo::failing());
    let double = ModelDouble::start(
        KEY,
        vec![
            Turn { text: "I mend \u{1b}[31mit.".into(), ..Turn::calls("edit", mend()) },
            Turn::calls("shell", json!({"command": "sh test.sh"})),
            Turn::says("Mended."),
        ],
    );
    anthropic(&platform, "claude", &double.url(), KEY);
    let out = platform.cli(&["run", "--repo", repo.path_str(), "make the test pass"]);
    assert_eq!(out.status.code(), Some(0), "{}", all(&out));
    let said = text(&out.stdout);
    let branch = repo.git(&["for-each-ref", "--format=%(refname:short)", "refs/heads/volary"]);
    for word in [
        "make the test pass",
        "walls read back",
        "$ /bin/sh -c sh test.sh",
        "PASS",
        "-    return a < b",
        "Mended.",
        "+    return a > b",
        &branch,
        "✓ done",
    ] {
        assert!(said.contains(word), "{word:?} is not in it: {said}");
    }
    assert!(!said.contains('\u{1b}'), "the model steers the terminal: {said:?}");
}

#[test]
fn a_task_that_the_model_does_not_do_ends_with_status_1_and_its_reason() {
    let (platform, repo) = (platform(), Repo::failing());
    let double = ModelDouble::start(KEY, vec![Turn::says("NOT DONE: there is nothing to do here.")]);
    anthropic(&platform, "claude", &double.url(), KEY);
    let out = platform.cli(&["run", "--repo", repo.path_str(), "do it"]);
    assert_eq!(out.status.code(), Some(1), "{}", all(&out));
    assert!(text(&out.stdout).contains("✗ failed: there is nothing to do here."), "{}", all(&out));
    assert_eq!(repo.git(&["for-each-ref", "refs/heads/volary"]), "", "a run that changed nothing made a branch");
}

#[test]
fn a_cancelled_run_ends_as_cancelled_and_its_box_is_gone() {
    let (platform, repo) = (platform(), Repo::failing());
    let double = ModelDouble::start(KEY, vec![endless()]);
    anthropic(&platform, "claude", &double.url(), KEY);
    let run = platform.ok(&["run", "--background", "--repo", repo.path_str(), "never ends"]).trim().to_owned();
    begun(&platform, &run);
    assert_eq!(boxes(&platform), 1);
    assert!(platform.ok(&["cancel", &run]).contains(&run));
    eventually("the run's end", || (view(&platform, &run)["state"] == "cancelled").then_some(()));
    eventually("the box's end", || (boxes(&platform) == 0).then_some(()));
    let entries = platform.json_lines(&["log", &run, "--json"]);
    let ends = of_kind(&entries, "ended");
    assert_eq!((ends.len(), &ends[0]["outcome"]), (1, &json!("cancelled")), "{ends:#?}");
    let again = platform.cli(&["cancel", &run]);
    assert!(!again.status.success() && all(&again).contains("is over already: cancelled"), "{}", all(&again));
    let nobody = platform.cli(&["cancel", "nobody"]);
    assert!(!nobody.status.success() && all(&nobody).contains("volary runs"), "{}", all(&nobody));
}

/// `volary run` on an endless task, interrupted once its command has begun; with its standard output.
fn interrupted(home: &Path, repo: &Repo, how: Signal) -> Output {
    let child = Command::new(VOLARY)
        .arg("--home")
        .arg(home)
        .args(["run", "--json", "--repo", repo.path_str(), "never ends"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("volary starts");
    let pid = Pid::from_child(&child);
    // Reads beside the test: a full pipe would stop the run.
    let (to, lines) = std::sync::mpsc::channel();
    let mut child = child;
    let out = child.stdout.take().expect("a pipe");
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        for line in std::io::BufRead::lines(std::io::BufReader::new(out)) {
            let line = line.expect("lines of text");
            all.extend_from_slice(format!("{line}\n").as_bytes());
            if line.contains("\"kind\":\"output\"") {
                // Only the first is waited for.
                to.send(()).ok();
            }
        }
        all
    });
    let waited = lines.recv_timeout(std::time::Duration::from_secs(testkit::PATIENCE_SECS));
    kill_process(pid, how).expect("it lives");
    let mut out = child.wait_with_output().expect("it ends");
    out.stdout = reader.join().expect("its lines are read");
    assert!(waited.is_ok(), "the command did not begin: {}", all(&out));
    out
}

fn cancelled(out: &Output) {
    assert_eq!(out.status.code(), Some(130), "{}", all(out));
    let last: Value = serde_json::from_str(text(&out.stdout).lines().last().unwrap()).unwrap();
    assert_eq!((&last["event"]["kind"], &last["event"]["outcome"]), (&json!("ended"), &json!("cancelled")));
}

#[test]
fn an_interrupt_of_run_cancels_the_run_and_takes_the_box_down() {
    let (platform, repo) = (platform(), Repo::failing());
    let before = repo.untouched();
    let double = ModelDouble::start(KEY, vec![endless(), endless()]);
    anthropic(&platform, "claude", &double.url(), KEY);
    for how in [Signal::INT, Signal::TERM] {
        cancelled(&interrupted(platform.home(), &repo, how));
        eventually("the box's end", || (boxes(&platform) == 0).then_some(()));
    }
    let states = platform.json(&["runs", "--json"]);
    assert!(states.as_array().unwrap().iter().all(|run| run["state"] == "cancelled"), "{states:#}");
    assert_eq!(repo.untouched(), before);
    platform.stop();
}

#[test]
fn an_interrupt_of_run_with_a_platform_of_its_own_leaves_nothing_behind() {
    let (mut platform, repo) = (platform(), Repo::failing());
    let double = ModelDouble::start(KEY, vec![endless()]);
    anthropic(&platform, "claude", &double.url(), KEY);
    platform.down();
    cancelled(&interrupted(platform.home(), &repo, Signal::INT));
    assert_eq!(leftovers(platform.home(), platform.label()), Vec::<String>::new());
    // It is kept all the same.
    platform.up(&[]);
    assert_eq!(platform.json(&["runs", "--json"])[0]["state"], "cancelled");
}

#[test]
fn a_background_run_needs_a_platform_that_stays_and_says_so() {
    let home = tempfile::Builder::new().prefix("volary-t-").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let out = Command::new(VOLARY)
        .arg("--home")
        .arg(home.path())
        .args(["run", "--empty", "--background", "x"])
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(1), "{}", all(&out));
    assert!(text(&out.stderr).contains("volary up"), "{}", all(&out));
    assert_eq!(leftovers(home.path(), ""), Vec::<String>::new());
}

#[test]
fn a_repository_that_is_not_there_is_named_before_anything_is_made_or_missed() {
    let above = tempfile::tempdir().unwrap();
    let home = above.path().join("never-made");
    let run = ["run", "--repo", "/no/such/folder", "x"];
    let out = Command::new(VOLARY).arg("--home").arg(&home).args(run).stdin(Stdio::null()).output().unwrap();
    assert_eq!(out.status.code(), Some(1), "{}", all(&out));
    assert!(text(&out.stderr).contains("/no/such/folder is not there"), "{}", all(&out));
    assert!(!home.exists(), "a home was made");
}

#[test]
fn a_repository_that_is_none_is_refused_with_the_way_out() {
    let platform = platform();
    let double = ModelDouble::start(KEY, Vec::new());
    anthropic(&platform, "claude", &double.url(), KEY);
    for url in ["https://example.org/x.git", "git@example.org:x.git"] {
        let out = platform.cli(&["run", "--repo", url, "x"]);
        assert!(!out.status.success() && all(&out).contains("names no repository at"), "{}", all(&out));
    }
    let empty = tempfile::tempdir().unwrap();
    for (path, word) in [(empty.path(), "repository"), (Path::new("/no/such/folder"), "/no/such/folder")] {
        let out = platform.cli(&["run", "--repo", path.to_str().unwrap(), "x"]);
        assert_eq!(out.status.code(), Some(1), "{}", all(&out));
        assert!(all(&out).contains(word), "{}", all(&out));
    }
    let without_commit = Repo::empty();
    let out = platform.cli(&["run", "--repo", without_commit.path_str(), "x"]);
    assert_eq!(out.status.code(), Some(1), "{}", all(&out));
    assert!(all(&out).contains("commit"), "{}", all(&out));
    assert_eq!(double.requests().len(), 0, "a model was asked although there was nothing to work on");
}
