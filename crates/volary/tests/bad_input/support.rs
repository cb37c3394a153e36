//! What the tests share.

use serde_json::{Value, json};
use std::process::Output;
use testkit::Platform;

/// The program under test.
pub const VOLARY: &str = env!("CARGO_BIN_EXE_volary");

/// A platform for one test, and a model in it that says it is done after its commands, one a turn.
pub fn platform() -> Platform {
    Platform::start(VOLARY)
}

/// Adds a model that has these commands run, one a turn, and then says it is done.
pub fn worker(platform: &Platform, commands: &[&str]) {
    let shell = |command: &&str| json!({"text": "On it.", "tools": [{"name": "shell", "input": {"command": command}}]});
    let mut turns: Vec<Value> = commands.iter().map(shell).collect();
    turns.push(json!({"text": "Done."}));
    platform.script("worker", &json!(turns), "sk-a-key-of-the-worker-model");
}

/// Writes a profile as it stands.
pub fn profile(platform: &Platform, name: &str, text: &str) {
    std::fs::write(platform.home().join("profiles").join(format!("{name}.toml")), text).expect("a profile is written");
}

/// Text of an output, for messages and searches.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Everything that was said, and how it ended.
pub fn all(out: &Output) -> String {
    format!("{}\n-- stdout\n{}-- stderr\n{}", out.status, text(&out.stdout), text(&out.stderr))
}

/// Holds an output to a refusal: its status, and words that name the thing and the way out.
pub fn refused(out: &Output, status: i32, words: &[&str]) {
    let said = text(&out.stderr) + &text(&out.stdout);
    assert_eq!(out.status.code(), Some(status), "{}", all(out));
    for word in words {
        assert!(said.contains(word), "{word:?} is not in:\n{}", all(out));
    }
    assert!(!said.contains("panicked"), "{}", all(out));
}

/// Lets the worker work on a repository; gives how it ended and the events of its transcript.
pub fn run(platform: &Platform, repo: &str, more: &[&str]) -> (Output, Vec<Value>) {
    let out = platform.cli(&[&["run", "--repo", repo, "--model", "worker", "--json"], more, &["work"]].concat());
    let events = text(&out.stdout)
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .map(|mut entry| entry["event"].take())
        .collect();
    (out, events)
}

/// The one event of a kind.
pub fn only<'a>(events: &'a [Value], kind: &str) -> &'a Value {
    let found: Vec<&Value> = events.iter().filter(|event| event["kind"] == kind).collect();
    assert_eq!(found.len(), 1, "{kind}: {events:?}");
    found[0]
}

/// How a run ended: outcome and reason.
pub fn end(events: &[Value]) -> (String, String) {
    let ended = only(events, "ended");
    (ended["outcome"].as_str().unwrap().to_owned(), ended["reason"].as_str().unwrap().to_owned())
}
