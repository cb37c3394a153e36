//! What outlives a command: nothing.

use crate::support::{all, platform, shell, text};
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::time::{Duration, Instant};
use testkit::eventually;

const DAEMONS: &str = include_str!("daemons.c");

/// The processes of this host whose command line holds `mark`, with the parents of none of them being us.
fn alive(mark: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        // A process that ended meanwhile is what we want.
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = text(&line).replace('\0', " ");
        if line.starts_with("/tmp/daemons ") && line.contains(mark) {
            found.push(format!("{} {line}", entry.file_name().to_string_lossy()));
        }
    }
    found
}

/// Starts daemons in a box; returns the client once all of them live, and its standard input, which keeps it waiting.
fn started(platform: &testkit::Platform, mark: &str) -> std::process::Child {
    let line = "cat > /tmp/daemons.c <<'END'\n".to_owned()
        + DAEMONS
        + "END\ncc -w -o /tmp/daemons /tmp/daemons.c && exec /tmp/daemons \"$@\"";
    let mut child = platform
        .command()
        .args(["exec", "--", "sh", "-c", &line, "sh", mark])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    out.read_line(&mut first).unwrap();
    if first != "ready\n" {
        let mut error = String::new();
        child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
        panic!("the daemons did not start: {first}{error}");
    }
    // The positive control: the host sees every one of them.
    eventually("the command and its four daemons", || (alive(mark).len() == 5).then_some(()));
    child
}

#[test]
fn what_ignores_signals_daemonises_and_hides_is_gone_when_its_command_ends() {
    let platform = platform();
    let mark = format!("mark-end-{}", std::process::id());
    let mut child = started(&platform, &mark);
    drop(child.stdin.take());
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(0));
    assert_eq!(alive(&mark), Vec::<String>::new());
}

#[test]
fn what_ignores_signals_daemonises_and_hides_is_gone_when_its_run_is_cancelled() {
    let platform = platform();
    let mark = format!("mark-cancel-{}", std::process::id());
    let mut child = started(&platform, &mark);
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
    let status = child.wait().unwrap();
    assert_ne!(status.code(), Some(0));
    assert_eq!(alive(&mark), Vec::<String>::new());
}

#[test]
fn what_ignores_signals_daemonises_and_hides_is_gone_when_the_platform_ends() {
    let mut platform = platform();
    let mark = format!("mark-down-{}", std::process::id());
    let mut child = started(&platform, &mark);
    // The client's command line names the home, as what must not be left does.
    let killed = Instant::now();
    child.kill().unwrap();
    child.wait().unwrap();
    let left = alive(&mark).len();
    // Within the five seconds for which a client may be away.
    assert!(left == 5 || killed.elapsed() > Duration::from_secs(4), "a killed client ends no run: {left} are left");
    platform.down();
    assert_eq!(alive(&mark), Vec::<String>::new());
}

#[test]
fn a_signal_to_everyone_does_not_end_process_1() {
    let platform = platform();
    // The shell spares itself by `kill -1` only where the kernel does; its status is passed on by process 1 either way.
    let out =
        shell(&platform, "default", "sleep 1000 & sleep 1000 & kill -9 -1; kill -TERM 1; kill -9 1; echo here; exit 9");
    assert!([Some(9), Some(137)].contains(&out.status.code()), "{}", all(&out));
    assert!(!text(&out.stderr).contains("ended without a word"), "{}", all(&out));
}
