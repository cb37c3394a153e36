//! A run that a person pauses: on either engine its box stands still, and its time with it; and it is what it is when the
//! server or the operator is killed meanwhile.

use serde_json::{Value, json};
use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};
use testkit::{Platform, Repo, eventually};

const VOLARY: &str = env!("CARGO_BIN_EXE_volary");
/// A shell's line that counts into a file of the worktree.
const COUNTS: &str = "n=0; while :; do n=$((n+1)); echo $n >next; mv next count; done";

/// Process 1 of the one box, once there is one.
fn first(platform: &Platform) -> Option<u64> {
    let out = platform.cli(&["status", "--json"]);
    let status: Value = serde_json::from_slice(&out.stdout).unwrap_or_default();
    let boxes = status["boxes"].as_object()?.values();
    let mut processes = boxes.filter_map(|found| found["processes"].as_array()).flatten();
    processes.find(|process| process["inside"] == "1")?["pid"].as_u64()
}

/// How far the box has counted.
fn count(pid: u64) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/root/workspace/count")).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

fn run(platform: &Platform) -> Value {
    platform.json(&["runs", "--json"])[0].clone()
}

fn events(platform: &Platform, run: &str, kind: &str) -> Vec<Value> {
    let entries = platform.json_lines(&["log", run, "--json"]);
    entries.into_iter().map(|entry| entry["event"].clone()).filter(|event| event["kind"] == kind).collect()
}

fn stands_still_and_goes_on(platform: Platform) {
    let began = Instant::now();
    // It ends with its standard input.
    let line = format!("({COUNTS}) & cat; kill $!");
    let mut child = platform
        .command()
        .args(["exec", "--", "sh", "-c", &line])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = eventually("a box that counts", || first(&platform).filter(|pid| count(*pid) > 0));
    let id = run(&platform)["run"].as_str().unwrap().to_owned();
    let said = platform.ok(&["pause", &id]);
    assert!(said.contains("its box stands still"), "{said}");
    assert_eq!(run(&platform)["state"], "paused");
    let still = count(pid);
    // In this time its walls are read again.
    std::thread::sleep(Duration::from_secs(12));
    assert_eq!(count(pid), still, "it went on while it was paused");
    assert_eq!(first(&platform), Some(pid), "its box did not outlive a reading of its walls");
    let said = platform.ok(&["resume", &id]);
    assert!(said.contains("running"), "{said}");
    eventually("it counts on", || (count(pid) > still).then_some(()));
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    let took = began.elapsed().as_millis();
    assert_eq!(events(&platform, &id, "froze").len(), 1);
    let stood = u128::from(events(&platform, &id, "thawed")[0]["stood_ms"].as_u64().unwrap());
    assert!(stood >= 12_000, "{stood}");
    // The command's time is what it lived through.
    let lived = u128::from(events(&platform, &id, "command-end")[0]["ms"].as_u64().unwrap());
    assert!(lived + stood <= took, "{lived} ms and {stood} ms of {took}");
    platform.stop();
}

#[test]
fn a_paused_run_stands_still_and_its_time_with_it_and_goes_on() {
    stands_still_and_goes_on(Platform::start(VOLARY));
}

#[test]
fn a_paused_run_on_dockers_engine_stands_still_and_its_time_with_it_and_goes_on() {
    stands_still_and_goes_on(Platform::start_on_docker(VOLARY));
}

fn is_cancelled_where_it_stands(platform: Platform) {
    let mut child = platform
        .command()
        .args(["exec", "--", "sh", "-c", COUNTS])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("a box that counts", || first(&platform).filter(|pid| count(*pid) > 0));
    let id = run(&platform)["run"].as_str().unwrap().to_owned();
    drop(platform.ok(&["pause", &id]));
    drop(platform.ok(&["cancel", &id]));
    child.wait().unwrap();
    let ended = events(&platform, &id, "ended");
    assert_eq!(ended[0]["outcome"], "cancelled", "{ended:?}");
    assert_eq!(ended[0]["reason"], "cancelled while it was paused", "{ended:?}");
    assert_eq!(events(&platform, &id, "thawed"), Vec::<Value>::new());
    platform.stop();
}

#[test]
fn a_paused_run_is_ended_where_it_stands() {
    is_cancelled_where_it_stands(Platform::start(VOLARY));
}

#[test]
fn a_paused_run_on_dockers_engine_is_ended_where_it_stands() {
    is_cancelled_where_it_stands(Platform::start_on_docker(VOLARY));
}

fn kill(platform: &Platform, part: &str) {
    let pid = platform.pid_of(part).unwrap().cast_signed();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    eventually("another process in its place", || {
        let now = platform.pid_of(part)?;
        (now.cast_signed() != pid.as_raw_nonzero().get()).then_some(())
    });
    eventually("the platform whole again", || {
        let out = platform.cli(&["status", "--json"]);
        let status: Value = serde_json::from_slice(&out.stdout).unwrap_or_default();
        (status["operator_linked"] == true && status["gateway_connected"] == true).then_some(())
    });
}

#[test]
fn a_paused_run_stays_so_when_the_server_is_killed_and_when_the_operator_is_until_it_is_resumed() {
    let platform = Platform::start(VOLARY);
    let turns = json!([
        {"text": "A command.", "tools": [{"name": "shell", "input": {"command": COUNTS}}]},
        {"text": "Done."}
    ]);
    platform.script("script", &turns, "sk-test-never-shown-4712");
    let repo = Repo::failing();
    let started = platform.json(&["run", "--background", "--json", "--repo", repo.path_str(), "work"]);
    let id = started["run"].as_str().unwrap().to_owned();
    let pid = eventually("a box that counts", || first(&platform).filter(|pid| count(*pid) > 0));
    drop(platform.ok(&["pause", &id]));
    let still = count(pid);
    kill(&platform, "server");
    assert_eq!((run(&platform)["state"].as_str(), count(pid)), (Some("paused"), still));

    // Its box goes with the operator; another is not made before a person wants it.
    kill(&platform, "operator");
    eventually("the end of its box", || first(&platform).is_none().then_some(()));
    assert_eq!((run(&platform)["state"].as_str(), run(&platform)["attempts"].as_u64()), (Some("paused"), Some(1)));
    drop(platform.ok(&["resume", &id]));
    eventually("its end", || (!events(&platform, &id, "ended").is_empty()).then_some(()));
    assert_eq!(run(&platform)["state"], "done", "{:#?}", events(&platform, &id, "ended"));
    assert_eq!(run(&platform)["attempts"], 2);
    platform.stop();
}
