//! `volary scrub`: what a person pipes through it, and how it ends.

use crate::shared::{VOLARY, all, platform, text};
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

/// The signal's number on Linux.
const SIGPIPE: i32 = 13;
const KEY: &str = "canary-key-0123456789abcdef";

fn token() -> String {
    format!("ghp_{}", "a1B2".repeat(9))
}

#[test]
fn scrub_filters_the_homes_values_and_formats_as_they_arrive_and_any_length_of_them() {
    let platform = platform();
    let set = platform.cli_with_input(&["secret", "set", "model/m"], KEY.as_bytes());
    assert!(set.status.success(), "{}", all(&set));
    let out = platform.cli_with_input(&["scrub"], format!("a {KEY}\n\u{1}\nb {}\n", token()).as_bytes());
    assert_eq!(out.status.code(), Some(0), "{}", all(&out));
    let said = text(&out.stdout);
    assert!(
        said.starts_with("a [scrubbed:model/m#") && said.contains("]\n\u{1}\nb [redacted: github-token#"),
        "{said}"
    );
    assert!(out.stderr.is_empty(), "{}", all(&out));

    // For a machine: what of it was found, and not what stood there before.
    let again = platform.cli_with_input(&["scrub", "--json"], format!("{said}{KEY} {KEY}").as_bytes());
    let told: serde_json::Value = serde_json::from_slice(&again.stderr).expect("one JSON object");
    let print = said.split(['#', ']']).nth(1).expect("a fingerprint");
    let kinds = serde_json::json!([{ "by": "value", "kind": "model/m", "fingerprint": print, "times": 2 }]);
    assert_eq!((&told["found"], &told["kinds"]), (&2.into(), &kinds));

    // A line is through before the next one is said.
    let mut child = Command::new(VOLARY)
        .args(["--home".as_ref(), platform.home().as_os_str(), "scrub".as_ref()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut to, mut from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut line = vec![0; 6];
    for _ in 0..3 {
        to.write_all(b"words\n").unwrap();
        from.read_exact(&mut line).unwrap();
        assert_eq!(line, b"words\n");
    }
    // More than every buffer on the way holds, read at the same time.
    let writing = std::thread::spawn(move || {
        let piece = format!("clean {KEY} words\n").repeat(1000);
        (0..200).for_each(|_| to.write_all(piece.as_bytes()).unwrap());
    });
    let mut rest = String::new();
    from.read_to_string(&mut rest).unwrap();
    writing.join().unwrap();
    assert!(child.wait().unwrap().success());
    assert!(!rest.contains(KEY));
    assert_eq!(rest.matches("clean [scrubbed:model/m#").count(), 200_000);
    assert_eq!(rest.lines().count(), 200_000);
}

#[test]
fn without_a_home_scrub_lets_nothing_through_and_names_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("none");
    let scrub = |args: &[&str]| {
        let mut child = Command::new(VOLARY)
            .arg("--home")
            .arg(&home)
            .arg("scrub")
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut to = child.stdin.take().unwrap();
        // It may be gone before it read any.
        to.write_all(format!("b {}\n", token()).as_bytes()).ok();
        drop(to);
        child.wait_with_output().unwrap()
    };
    let out = scrub(&[]);
    assert_eq!(out.status.code(), Some(1), "{}", all(&out));
    assert!(out.stdout.is_empty() && text(&out.stderr).contains("volary scrub --formats"), "{}", all(&out));
    let out = scrub(&["--formats"]);
    assert_eq!((out.status.code(), text(&out.stdout).as_str()), (Some(0), "b [redacted: github-token]\n"));
    assert!(!home.exists(), "a filter makes no home");
}

#[test]
fn a_reader_that_goes_away_ends_scrub_as_it_ends_other_filters() {
    let mut child = Command::new(VOLARY)
        .args(["scrub", "--formats"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut to = child.stdin.take().unwrap();
    let piece = vec![b'x'; 64 * 1024];
    while to.write_all(&piece).is_ok() {}
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.signal(), Some(SIGPIPE), "{}", all(&out));
    assert!(out.stderr.is_empty(), "{}", all(&out));
}
