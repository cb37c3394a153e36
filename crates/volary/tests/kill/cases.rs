//! Each victim at a chosen moment.

use crate::world::{UNKNOWN, Victim, World, attempts, done, reason, results, shell, write};
use model::{Entry, Event, Outcome};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use testkit::{Platform, eventually};

/// Writes a file, then runs a command that takes so many seconds after it took effect, then ends.
fn slow_command(seconds: &str) -> Value {
    json!([
        {"text": "First a file.", "tools": [write("before")]},
        {"text": "Then a command.", "tools": [shell("once", seconds)]},
        {"text": "Done."},
    ])
}

/// Says much, slowly, then works.
fn slow_model() -> Value {
    json!([
        {"text": "First a file.", "tools": [write("before")]},
        {"text": "one two three four five six seven eight nine ten ".repeat(4), "pause_ms": 400,
            "tools": [shell("once", "0.1")]},
        {"text": "Done."},
    ])
}

/// Kills `victim` while the command of [`slow_command`] runs, and judges.
fn while_a_command_runs(victim: Victim) -> Vec<Entry> {
    // A server's death does not end the command: that one is waited for.
    let mut world = World::of(&slow_command(if victim == Victim::Server { "6" } else { "60" }));
    let run = world.begin();
    world.wait_output(&run);
    assert!(world.kill(victim), "{victim:?} was there");
    world.judge(std::slice::from_ref(&run)).remove(&run).expect("its transcript")
}

/// Kills `victim` while the model of [`slow_model`] streams its second turn, and judges.
fn while_the_model_streams(victim: Victim) -> Vec<Entry> {
    let mut world = World::of(&slow_model());
    let run = world.begin();
    world.wait(&run, "the model's words", |event| matches!(event, Event::Chunk { turn: 2, .. }).then_some(()));
    assert!(world.kill(victim), "{victim:?} was there");
    world.judge(std::slice::from_ref(&run)).remove(&run).expect("its transcript")
}

/// The run went on in a second box, and the agent was told that it does not know what became of the command.
fn went_on_without_repeating(entries: &[Entry]) {
    assert!(done(entries), "{}", reason(entries));
    assert_eq!(attempts(entries), 2);
    let told = results(entries);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[1].starts_with(UNKNOWN), "{told:?}");
}

/// The run went on in a second box and asked the model again.
fn asked_again(entries: &[Entry]) {
    assert!(done(entries), "{}", reason(entries));
    assert_eq!(attempts(entries), 2);
    assert!(results(entries).iter().all(|text| !text.starts_with(UNKNOWN)), "{:?}", results(entries));
}

/// The run never noticed.
fn went_on_in_its_box(entries: &[Entry]) {
    assert!(done(entries), "{}", reason(entries));
    assert_eq!(attempts(entries), 1);
    assert!(results(entries).iter().all(|text| !text.starts_with(UNKNOWN)), "{:?}", results(entries));
}

#[test]
fn a_gateway_killed_while_a_command_runs_costs_the_box_and_not_the_run() {
    went_on_without_repeating(&while_a_command_runs(Victim::Gateway));
}

#[test]
fn a_gateway_killed_while_the_model_speaks_costs_the_box_and_not_the_run() {
    asked_again(&while_the_model_streams(Victim::Gateway));
}

#[test]
fn an_operator_killed_while_a_command_runs_takes_the_run_up_in_a_new_box_on_its_kept_worktree() {
    went_on_without_repeating(&while_a_command_runs(Victim::Operator));
}

#[test]
fn an_operator_killed_while_the_model_speaks_takes_the_run_up_in_a_new_box() {
    asked_again(&while_the_model_streams(Victim::Operator));
}

#[test]
fn a_server_killed_while_a_command_runs_is_not_noticed_by_the_run() {
    went_on_in_its_box(&while_a_command_runs(Victim::Server));
}

#[test]
fn a_server_killed_while_the_model_speaks_is_not_noticed_by_the_run() {
    went_on_in_its_box(&while_the_model_streams(Victim::Server));
}

#[test]
fn a_runner_killed_while_a_command_runs_costs_the_box_and_not_the_run() {
    went_on_without_repeating(&while_a_command_runs(Victim::Runner));
}

#[test]
fn a_helper_killed_while_a_command_runs_takes_its_box_along_and_not_the_run() {
    went_on_without_repeating(&while_a_command_runs(Victim::Helper));
}

#[test]
fn a_helper_killed_while_it_makes_the_box_leaves_nothing_of_it_and_the_run_gets_another() {
    let mut world = World::of(&json!([{"text": "One command.", "tools": [shell("once", "1")]}, {"text": "Done."}]));
    let mut runs = Vec::new();
    // Earlier and later in the making, which takes some 20 ms.
    for ms in [0, 2, 4, 6, 8, 10, 12, 15, 18, 22, 26, 30, 40] {
        let run = world.begin();
        eventually("a helper", || world.find(Victim::Helper));
        std::thread::sleep(std::time::Duration::from_millis(ms));
        world.kill(Victim::Helper);
        assert!(done(&world.over(&run)), "{ms} ms: {}", reason(&world.over(&run)));
        runs.push(run);
    }
    drop(world.judge(&runs));
}

#[test]
fn process_1_killed_while_its_box_is_made_leaves_nothing_of_it_and_the_run_gets_another() {
    let mut world = World::of(&json!([{"text": "One command.", "tools": [shell("once", "1")]}, {"text": "Done."}]));
    let mut runs = Vec::new();
    // From its first moment on: before the engine has made it the box's own, and before it is let run.
    for ms in [0, 0, 0, 1, 1, 2, 3, 4, 6, 8, 12] {
        let run = world.begin();
        let begun = std::time::Instant::now();
        while world.find(Victim::Runner).is_none() {
            assert!(begun.elapsed().as_secs() < 60, "no process 1");
            std::thread::yield_now();
        }
        std::thread::sleep(std::time::Duration::from_millis(ms));
        world.kill(Victim::Runner);
        assert!(done(&world.over(&run)), "{ms} ms: {}", reason(&world.over(&run)));
        runs.push(run);
    }
    drop(world.judge(&runs));
}

#[test]
fn an_agent_killed_while_a_command_runs_ends_the_run_with_the_reason() {
    let entries = while_a_command_runs(Victim::Agent);
    assert!(!done(&entries));
    assert!(reason(&entries).contains("the agent died by signal 9"), "{}", reason(&entries));
    assert_eq!(attempts(&entries), 1);
}

#[test]
fn up_killed_while_a_command_runs_takes_the_run_up_when_it_is_started_again() {
    went_on_without_repeating(&while_a_command_runs(Victim::Up));
}

#[test]
fn up_killed_while_the_model_speaks_takes_the_run_up_when_it_is_started_again() {
    asked_again(&while_the_model_streams(Victim::Up));
}

#[test]
fn a_run_that_a_person_ends_while_its_host_is_away_leaves_no_box_and_keeps_what_happened() {
    let mut world = World::of(&slow_command("60"));
    let run = world.begin();
    world.wait_output(&run);
    // A stopped `up` starts nothing again.
    world.stop_up(true);
    assert!(world.kill(Victim::Operator));
    eventually("the cancel while the host is away", || {
        let out = world.platform.cli(&["cancel", &run]);
        out.status.success().then_some(())
    });
    world.stop_up(false);
    let entries = world.judge(std::slice::from_ref(&run)).remove(&run).expect("its transcript");
    assert!(entries.iter().any(|e| matches!(e.event, Event::Ended { outcome: Outcome::Cancelled, .. })));
    assert_eq!(attempts(&entries), 1);
}

#[test]
fn a_command_that_the_host_has_not_recorded_is_not_begun() {
    let mut world = World::of(&slow_model());
    let run = world.begin();
    world.wait(&run, "the model's words", |event| matches!(event, Event::Chunk { turn: 2, .. }).then_some(()));
    // From here on the operator takes nothing down; the model's answer comes all the same, past it.
    let operator = world.find(Victim::Operator).expect("the operator");
    rustix::process::kill_process(operator, rustix::process::Signal::STOP).expect("it lives");
    eventually("the end of the model's answer", || {
        let settled = |entry: &&Entry| matches!(entry.event, Event::Settled { .. });
        (world.entries(&run)?.iter().filter(settled).count() == 2).then_some(())
    });
    // Room for the mistake: the agent has all that it needs to begin the command.
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert!(world.kill(Victim::Operator));
    // Were it begun, the next attempt would not know, and would begin it again: twice in the file.
    asked_again(&world.judge(std::slice::from_ref(&run)).remove(&run).expect("its transcript"));
}

/// Waits until the platform is whole again, and has no box, after `victim`, which was `before`, was killed.
fn wait_until_whole(world: &World, victim: Victim, before: Option<rustix::process::Pid>) {
    let is_part = matches!(victim, Victim::Gateway | Victim::Operator);
    eventually("the platform, whole again", || {
        if is_part && world.find(victim).is_none_or(|now| Some(now) == before) {
            return None;
        }
        let status: Value = serde_json::from_slice(&world.platform.cli(&["status", "--json"]).stdout).ok()?;
        let linked = status["operator_linked"] == true && status["gateway_connected"] == true;
        (linked && crate::world::boxes(&world.platform).is_empty()).then_some(())
    });
}

/// `volary exec` of a command that says a word and takes its time; gives the process and the lines that it prints.
fn slow_exec(platform: &Platform) -> (std::process::Child, std::io::Lines<BufReader<std::process::ChildStdout>>) {
    let mut exec = platform
        .command()
        .args(["exec", "--", "sh", "-c", "echo begun; sleep 30; echo ended"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("volary starts");
    let mut lines = BufReader::new(exec.stdout.take().expect("a pipe")).lines();
    assert_eq!(lines.next().expect("a word").expect("text"), "begun");
    (exec, lines)
}

#[test]
fn a_command_of_a_person_is_never_run_again_and_the_person_is_told_that_its_outcome_is_unknown() {
    let mut world = World::of(&slow_command("60"));
    for victim in [Victim::Gateway, Victim::Operator, Victim::Runner, Victim::Helper] {
        let (exec, lines) = slow_exec(&world.platform);
        let before = world.find(victim);
        assert!(world.kill(victim), "{victim:?} was there");
        assert_eq!(lines.map(|line| line.expect("text")).collect::<Vec<_>>(), Vec::<String>::new(), "{victim:?}");
        let out = exec.wait_with_output().expect("its end");
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(125), "{victim:?}: {said}");
        assert!(said.contains("it may have finished, or not"), "{victim:?}: {said}");
        wait_until_whole(&world, victim, before);
    }
    let runs = world.platform.json(&["runs", "--json"]);
    let runs: Vec<String> =
        runs.as_array().into_iter().flatten().map(|run| run["run"].as_str().expect("an id").to_owned()).collect();
    assert_eq!(runs.len(), 4);
    for run in &runs {
        let entries = world.over(run);
        let begun = entries.iter().filter(|entry| matches!(entry.event, Event::Command { .. })).count();
        assert_eq!((begun, attempts(&entries)), (1, 1), "{run}");
    }
    world.platform.down();
}

#[test]
fn a_client_of_exec_that_is_killed_leaves_no_command_behind_on_a_platform_that_stays() {
    let mut platform = Platform::start_on_engine_of_environment(env!("CARGO_BIN_EXE_volary"));
    let mut exec = platform
        .command()
        .args(["exec", "--", "sh", "-c", "echo begun; sleep 600"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("volary starts");
    let mut lines = BufReader::new(exec.stdout.take().expect("a pipe")).lines();
    assert_eq!(lines.next().expect("a word").expect("text"), "begun");
    exec.kill().expect("it lives");
    exec.wait().expect("its end");
    eventually("the end of its command", || {
        let runs = platform.json(&["runs", "--json"]);
        (runs[0]["state"] == "cancelled" && crate::world::boxes(&platform).is_empty()).then_some(())
    });
    let run = platform.json(&["runs", "--json"])[0]["run"].as_str().expect("an id").to_owned();
    let log = platform.ok(&["log", &run]);
    assert!(log.contains("whoever waited for this command is gone"), "{log}");
    platform.down();
}

#[test]
fn a_client_of_exec_that_is_away_for_a_moment_finds_its_command_at_work() {
    let mut world = World::of(&slow_command("60"));
    let mut exec = world
        .platform
        .command()
        .args(["exec", "--", "sh", "-c", "echo begun; sleep 12; echo ended"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("volary starts");
    let mut lines = BufReader::new(exec.stdout.take().expect("a pipe")).lines();
    assert_eq!(lines.next().expect("a word").expect("text"), "begun");
    // Every connection of it is cut, and it comes back.
    assert!(world.kill(Victim::Server));
    assert_eq!(lines.next().expect("a word").expect("text"), "ended");
    assert_eq!(exec.wait().expect("its end").code(), Some(0));
    world.platform.down();
}

#[test]
fn a_platform_that_a_command_started_for_itself_ends_also_when_the_command_is_killed() {
    // Not beside a daemon of this test's: a platform that a command starts is told of none.
    let mut platform = Platform::start(env!("CARGO_BIN_EXE_volary"));
    platform.down();
    let (mut exec, lines) = slow_exec(&platform);
    exec.kill().expect("it lives");
    exec.wait().expect("its end");
    drop(lines);
    eventually("the end of all that it started", || {
        testkit::leftovers(platform.home(), platform.label()).is_empty().then_some(())
    });
}

/// Tries for the door's port without pause, in four processes, and says so if it gets it, or meets anything but that
/// the port is taken. First it shows that another port can be had.
const RIVAL: &str = r#"
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

int main(void) {
    struct sockaddr_in door = { .sin_family = AF_INET, .sin_port = htons(8081) };
    door.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&door, sizeof door) != 0) return 1;
    door.sin_port = htons(8080);
    puts("spinning");
    fflush(stdout);
    fork();
    fork();
    for (time_t end = time(0) + 100; time(0) < end;) {
        int s = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
        door.sin_addr.s_addr ^= htonl(3); /* 127.0.0.1 and 127.0.0.2 in turn. */
        setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
        setsockopt(s, SOL_SOCKET, SO_REUSEPORT, &yes, sizeof yes);
        if (bind(s, (struct sockaddr *)&door, sizeof door) == 0) {
            puts("BOUND");
            fflush(stdout);
        } else if (errno != EADDRINUSE) {
            printf("%d\n", errno);
            fflush(stdout);
        }
        close(s);
    }
    return 0;
}
"#;

#[test]
fn no_rival_in_a_box_ever_gets_the_doors_port_when_the_gateway_is_killed() {
    let mut platform = Platform::start_on_engine_of_environment(env!("CARGO_BIN_EXE_volary"));
    for _ in 0..3 {
        let line = format!("cat > /tmp/r.c <<'END'\n{RIVAL}\nEND\ncc -w -o /tmp/rival /tmp/r.c && exec /tmp/rival");
        let mut exec = platform
            .command()
            .args(["exec", "--", "sh", "-c", &line])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("volary starts");
        let mut lines = BufReader::new(exec.stdout.take().expect("a pipe")).lines();
        assert_eq!(lines.next().expect("a word").expect("text"), "spinning");
        let gateway = eventually("the gateway", || platform.pid_of("gateway"));
        let pid = rustix::process::Pid::from_raw(gateway.cast_signed()).expect("a process");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it lives");
        let said: Vec<String> = lines.map(|line| line.expect("text")).collect();
        assert_eq!(said, Vec::<String>::new(), "the rival had the door");
        assert_eq!(exec.wait().expect("its end").code(), Some(125), "the command's end is the platform's failure");
        eventually("the gateway's return", || platform.pid_of("gateway").filter(|pid| *pid != gateway));
    }
    platform.down();
}
