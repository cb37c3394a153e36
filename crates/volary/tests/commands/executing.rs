//! `exec`: bytes in, bytes out, how it ended; and what a profile's folders add to the box.

use crate::shared::{VOLARY, all, platform, text};
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use testkit::{Platform, Repo, eventually, leftovers};

fn shell(platform: &Platform, line: &str) -> Output {
    platform.cli(&["exec", "--", "sh", "-c", line])
}

/// Bytes of every value, in no order that compresses or repeats soon.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn five_megabytes_of_any_bytes_pass_through_a_box_unchanged() {
    let platform = platform();
    let bytes = noise(5_000_000);
    let mut child = platform
        .command()
        .args(["exec", "--", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("volary starts");
    let mut to = child.stdin.take().unwrap();
    let sent = bytes.clone();
    // Beside the reading: both pipes would fill.
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut to, &sent));
    let out = child.wait_with_output().unwrap();
    writer.join().unwrap().expect("all is read");
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    assert_eq!(out.stdout.len(), bytes.len());
    assert!(out.stdout == bytes, "a byte was changed");
    assert_eq!(text(&out.stderr), "");
}

#[test]
fn both_outputs_stay_apart_and_their_bytes_stay_as_they_are() {
    let platform = platform();
    let out = shell(&platform, r"printf 'out\000\377\n'; printf 'err\001\376\r' >&2; exit 7");
    assert_eq!(out.status.code(), Some(7), "{}", all(&out));
    assert_eq!(out.stdout, b"out\x00\xff\n");
    assert_eq!(out.stderr, b"err\x01\xfe\r");
}

/// What a person's terminal gets of `volary ARGUMENTS`, a line of a shell's, and its exit status.
fn on_terminal(platform: &Platform, arguments: &str) -> (String, Option<i32>) {
    let line = format!("{VOLARY} --home {} {arguments}", platform.home().display());
    let out = Command::new("script").args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()).output();
    let out = out.expect("script starts (of the package bsdutils)");
    (text(&out.stdout), out.status.code())
}

#[test]
fn a_terminal_gets_a_commands_colours_and_nothing_else_that_steers_it() {
    let platform = platform();
    let steers = r"exec -- printf 'a\033[1;31mred\033[0m\033]52;c;aGk=\007\033[2Jb\n'";
    let (said, status) = on_terminal(&platform, steers);
    assert_eq!(status, Some(0), "{said:?}");
    assert!(said.contains("a\x1b[1;31mred\x1b[0mb"), "{said:?}");
    assert!(said.contains("was left out"), "{said:?}");
    assert!(!said.contains("\x1b]") && !said.contains("\x1b[2J"), "{said:?}");
    let (said, _) = on_terminal(&platform, r"exec -- printf '\033[32mleft so\n'");
    assert!(said.contains("\x1b[32mleft so\r\n\x1b[0m") && !said.contains("left out"), "{said:?}");
    // Nor does what a run is called, in JSON: only a program gets that as it is.
    let run = platform.cli(&["exec", "--", "echo", "\u{9b}2J"]);
    assert!(run.status.success(), "{}", all(&run));
    assert!(platform.ok(&["runs", "--json"]).contains('\u{9b}'));
    let (said, _) = on_terminal(&platform, "runs --json");
    assert!(said.contains("\u{fffd}2J") && !said.contains('\u{9b}'), "{said:?}");
}

#[test]
fn what_is_said_of_a_command_stands_in_none_of_its_colours() {
    let mut platform = platform();
    let put_back = |said: &str| {
        let (before, ours) = said.split_once("volary: ").unwrap_or_else(|| panic!("nothing is said: {said:?}"));
        assert!(before.contains("\x1b[8mhidden") && before.ends_with("\x1b[0m") && !ours.contains('\x1b'), "{said:?}");
    };
    let (said, status) = on_terminal(&platform, r#"exec -- sh -c 'printf "\033[8mhidden"; kill -9 $$'"#);
    assert_eq!(status, Some(137), "{said:?}");
    put_back(&said);
    // Nor is what goes wrong here: nobody answers any more.
    let line =
        format!(r#"{VOLARY} --home {} exec -- sh -c 'printf "\033[8mhidden\n"; sleep 600'"#, platform.home().display());
    let mut terminal = Command::new("script");
    let terminal = terminal.args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut terminal = terminal.expect("script starts (of the package bsdutils)");
    let (mut from, mut said) = (terminal.stdout.take().unwrap(), Vec::new());
    while !text(&said).contains("hidden") {
        let mut piece = [0; 64];
        let read = from.read(&mut piece).unwrap();
        assert!(read > 0, "it ended: {:?}", text(&said));
        said.extend_from_slice(&piece[..read]);
    }
    platform.kill();
    from.read_to_end(&mut said).unwrap();
    assert_eq!(terminal.wait().unwrap().code(), Some(125), "{:?}", text(&said));
    put_back(&text(&said));
}

#[test]
fn an_exit_status_and_a_signal_are_passed_on_as_a_shell_would() {
    let platform = platform();
    for status in [0, 1, 42, 124, 255] {
        assert_eq!(shell(&platform, &format!("exit {status}")).status.code(), Some(status));
    }
    for signal in [9, 15, 6] {
        assert_eq!(shell(&platform, &format!("kill -{signal} $$")).status.code(), Some(128 + signal));
    }
    let missing = platform.cli(&["exec", "--", "no-such-program"]);
    assert!(!missing.status.success(), "{}", all(&missing));
    assert!(text(&missing.stderr).contains("no-such-program"), "{}", all(&missing));
}

#[test]
fn an_end_of_input_reaches_the_command_and_one_that_does_not_read_is_not_waited_for() {
    let platform = platform();
    let out = platform.cli_with_input(&["exec", "--", "wc", "-c"], b"seven b");
    assert_eq!(text(&out.stdout).trim(), "7", "{}", all(&out));
    let out = platform.cli_with_input(&["exec", "--", "wc", "-c"], b"");
    assert_eq!(text(&out.stdout).trim(), "0", "{}", all(&out));
    // Its input stays open: it ends all the same.
    let mut child =
        platform.command().args(["exec", "--", "true"]).stdin(Stdio::piped()).spawn().expect("volary starts");
    let open = child.stdin.take();
    let status = eventually("its end", || child.try_wait().unwrap());
    drop(open);
    assert_eq!(status.code(), Some(0));
}

#[test]
fn arguments_arrive_as_they_were_given() {
    let platform = platform();
    let out = platform.cli(&["exec", "--", "printf", "%s|", "a b", "", "--json", "$HOME", "ünï", "*"]);
    assert_eq!(text(&out.stdout), "a b||--json|$HOME|ünï|*|", "{}", all(&out));
}

#[test]
fn a_termination_of_exec_ends_the_command_and_its_box() {
    let platform = platform();
    let mut child = platform
        .command()
        .args(["exec", "--", "sh", "-c", "echo begun; sleep 100000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("volary starts");
    let mut line = String::new();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut line).unwrap();
    assert_eq!(line, "begun\n");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let status = eventually("its end", || child.try_wait().unwrap());
    assert!(!status.success(), "{status}");
    assert_eq!(platform.json(&["runs", "--json"])[0]["state"], "cancelled");
    platform.stop();
}

#[test]
fn exec_without_a_platform_starts_one_and_leaves_nothing() {
    let mut platform = platform();
    platform.down();
    let repo = Repo::failing();
    let out = platform.cli(&["exec", "--repo", repo.path_str(), "--", "sh", "-c", "cat README.md; exit 5"]);
    assert_eq!(out.status.code(), Some(5), "{}", all(&out));
    assert_eq!(text(&out.stdout), repo.read("README.md"));
    assert_eq!(leftovers(platform.home(), platform.label()), Vec::<String>::new());
}

#[test]
fn what_exec_writes_into_a_repository_is_thrown_away() {
    let (platform, repo) = (platform(), Repo::failing());
    let before = repo.untouched();
    let line = "echo x > new && rm max.c && ls";
    let out = platform.cli(&["exec", "--repo", repo.path_str(), "--", "sh", "-c", line]);
    assert_eq!(text(&out.stdout), "README.md\nmax_test.c\nnew\ntest.sh\n", "{}", all(&out));
    assert_eq!(repo.untouched(), before);
    assert_eq!(repo.git(&["for-each-ref", "refs/heads/volary"]), "");
}

// ---- folders of a profile ----------------------------------------------------------------------------------

fn profile(platform: &Platform, name: &str, folder: &Path, writable: bool) {
    let file = platform.home().join("profiles").join(format!("{name}.toml"));
    let words = format!("[[folders]]\npath = {:?}\nwritable = {writable}\n", folder.to_str().unwrap());
    std::fs::write(file, words).unwrap();
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("volary-f-").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    folder
}

#[test]
fn a_toolchain_in_a_read_only_folder_is_run_from_its_own_path_and_not_written() {
    let platform = platform();
    let folder = folder();
    let tool = folder.path().join("greet");
    std::fs::write(&tool, "#!/bin/sh\necho hello from $0\n").unwrap();
    std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
    profile(&platform, "tools", folder.path(), false);
    let tool = tool.to_str().unwrap();
    let run = |args: &[&str]| platform.cli(&[&["exec", "--profile", "tools", "--"], args].concat());
    let out = run(&[tool]);
    assert_eq!(text(&out.stdout), format!("hello from {tool}\n"), "{}", all(&out));
    for line in [format!("echo x > {tool}"), format!("touch {}/new", folder.path().display()), format!("rm {tool}")] {
        let out = run(&["sh", "-c", &line]);
        assert!(!out.status.success(), "{line}: {}", all(&out));
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    // Without the profile it is not there.
    let out = platform.cli(&["exec", "--", "ls", tool]);
    assert!(text(&out.stderr).contains("No such file"), "{}", all(&out));
    let reach = platform.json(&["reach", "tools", "--json"]);
    let line = format!("{}: the host's own folder: read, execute", folder.path().display());
    assert!(reach["files"].as_array().unwrap().contains(&line.clone().into()), "{line} is not in {reach:#}");
}

#[test]
fn a_writable_folder_takes_what_the_box_writes_and_reach_says_so() {
    let platform = platform();
    let folder = folder();
    profile(&platform, "shelf", folder.path(), true);
    let line = format!("echo kept > {}/file", folder.path().display());
    let out = platform.cli(&["exec", "--profile", "shelf", "--", "sh", "-c", &line]);
    assert!(out.status.success(), "{}", all(&out));
    assert_eq!(std::fs::read_to_string(folder.path().join("file")).unwrap(), "kept\n");
    let reach = platform.ok(&["reach", "shelf"]);
    assert!(
        reach.contains(&format!("{}: the host's own folder: read, execute; WRITE", folder.path().display())),
        "{reach}"
    );
}

#[test]
fn a_folder_that_is_not_there_or_a_profile_with_a_typo_is_refused_by_name() {
    let platform = platform();
    profile(&platform, "gone", Path::new("/no/such/folder"), false);
    std::fs::write(platform.home().join("profiles/typo.toml"), "[limits]\nmemory-mb = 5\n").unwrap();
    for (name, word) in [("gone", "/no/such/folder"), ("typo", "memory-mb"), ("nobody", "nobody")] {
        let out = platform.cli(&["exec", "--profile", name, "--", "true"]);
        assert!(!out.status.success() && all(&out).contains(word), "{name}: {}", all(&out));
    }
}
