//! Limits that an agent's command met, told to the agent and to people.

use crate::agent::{answers, play, request, task, wait};
use crate::support::{Box, code, sh};
use api::inbox::Counts;
use model::event::Exit;
use model::{Event, Limits};
use serde_json::json;

#[tokio::test(flavor = "current_thread")]
async fn a_limit_that_a_command_met_is_told_to_the_agent_and_to_people() {
    let run = |id: u64, script: &str| {
        let create = json!({ "command": "sh", "args": ["-c", script] });
        let terminal = format!("t{}", id / 2 + 1);
        [
            request(id, "terminal/create", create),
            wait(),
            request(id + 1, "terminal/wait_for_exit", json!({ "terminalId": terminal })),
            wait(),
        ]
    };
    let mut made = Box::start_with_agent().await;
    made.met(Counts { memory_kills: 1, process_refusals: 1, ..Counts::default() });
    // The second one is killed by itself: of the box's limits nothing is new then.
    let acts = [run(0, "kill -9 $$"), run(2, "kill -9 $$"), run(4, "exit 137"), run(6, "true")].concat();
    let limits = Limits { memory_mib: 512, processes: 32, ..Limits::default() };
    made.send(&task(&acts.join("\n"), limits)).await;
    let story = made.story().await;
    let answers = answers(&story);
    let why = |n: usize| answers[2 * n + 1]["result"]["_meta"]["volary.why"].as_str();
    assert_eq!(why(0), Some("killed: memory limit 512 MiB; met the limit of 32 processes"));
    assert_eq!((why(1), why(2), why(3)), (None, None, None));
    let ends: Vec<&Exit> = story
        .events
        .iter()
        .filter_map(|event| if let Event::CommandEnd { exit, .. } = event { Some(exit) } else { None })
        .collect();
    let killed = Exit::Killed { why: "killed: memory limit 512 MiB".into() };
    assert_eq!(ends, [&killed, &Exit::Signal { signal: 9 }, &code(137), &code(0)]);
    let note = Event::Note { text: "command t1: met the limit of 32 processes".into() };
    assert!(story.events.contains(&note), "{:?}", story.events);
}

#[tokio::test(flavor = "current_thread")]
async fn a_command_that_was_slowed_or_had_no_descriptors_is_told_the_limit_also_when_it_ended_well() {
    let mut made = Box::start_with_agent().await;
    made.met(Counts { throttled: 1000, throttled_ms: 100_000, held_ms: 100_000, ..Counts::default() });
    let run = |id: u64, terminal: &str, script: &str| {
        [
            request(id, "terminal/create", json!({ "command": "sh", "args": ["-c", script] })),
            wait(),
            request(id + 1, "terminal/wait_for_exit", json!({ "terminalId": terminal })),
            wait(),
        ]
    };
    let says = "echo x: Too many open files >&2";
    let acts =
        [run(1, "t1", "sleep 1.1"), run(3, "t2", "true"), run(5, "t3", &format!("{says}; exit 3")), run(7, "t4", says)];
    let limits = Limits { cpu_millis: 250, open_files: 64, ..Limits::default() };
    made.send(&task(&acts.concat().join("\n"), limits)).await;
    let story = made.story().await;
    let answers = answers(&story);
    let why = |n: usize| answers[2 * n + 1]["result"]["_meta"]["volary.why"].as_str().unwrap_or_default();
    let slowed = "exit status 0; slowed: its box met the limit of 0.25 processors in ";
    assert!(why(0).starts_with(slowed), "{:?}", why(0));
    let held_up = "; slowed: its box met the limit of 16 MiB of output in a second in ";
    assert!(why(0).contains(held_up), "{:?}", why(0));
    assert_eq!(answers[1]["result"]["exitCode"], 0);
    assert_eq!(why(1), "");
    assert_eq!(why(2), "exit status 3; it says \"Too many open files\": the limit is 64 for one process");
    assert_eq!(why(3), "exit status 0; it says \"Too many open files\": the limit is 64 for one process");
    let is_note = |event: &&Event| matches!(event, Event::Note { text } if text.starts_with("command t1: slowed"));
    assert_eq!(story.events.iter().filter(is_note).count(), 1, "{:?}", story.events);
}

#[tokio::test(flavor = "current_thread")]
async fn a_process_that_was_killed_or_refused_and_a_place_that_is_full_are_told_also_when_the_command_ended_with_0() {
    let mut made = Box::start_with_agent().await;
    made.met(Counts { memory_kills: 1, process_refusals: 1, ..Counts::default() });
    let run = |n: u64, script: &str| {
        [
            request(2 * n, "terminal/create", json!({ "command": "sh", "args": ["-c", script] })),
            wait(),
            request(2 * n + 1, "terminal/wait_for_exit", json!({ "terminalId": format!("t{n}") })),
            wait(),
        ]
    };
    let scripts = ["true", "true", "cat /dev/zero > /dev/shm/fill; true", "true", "false"];
    let acts: Vec<String> = (1..).zip(scripts).flat_map(|(n, script)| run(n, script)).collect();
    made.send(&task(&acts.join("\n"), Limits { memory_mib: 512, processes: 32, ..Limits::default() })).await;
    let story = made.story().await;
    let answers = answers(&story);
    let why: Vec<&str> = (0..scripts.len())
        .map(|n| answers[2 * n + 1]["result"]["_meta"]["volary.why"].as_str().unwrap_or_default())
        .collect();
    let met = "exit status 0; met the limit of 32 processes; a process of it was killed: memory limit 512 MiB";
    // What was full when a command began is nothing to one that ended well.
    assert_eq!(why, [met, "", "exit status 0; /dev/shm is full", "", "exit status 1; /dev/shm is full"]);
    let ends = story.events.iter().filter(|event| matches!(event, Event::CommandEnd { exit, .. } if *exit == code(0)));
    assert_eq!(ends.count(), 4, "each keeps its status: {:?}", story.events);
}

#[tokio::test(flavor = "current_thread")]
async fn a_persons_command_that_has_no_descriptors_is_told_how_many_it_may_have_however_it_ends_and_how_much_it_says() {
    for status in [0, 3] {
        let mut made = Box::start().await;
        let much = "head -c 100000 /dev/zero | tr '\\0' a";
        let script = format!("{much}; echo x: Too many open files >&2; exit {status}");
        made.send(&sh(&script, Limits { open_files: 64, ..Limits::default() })).await;
        let done = made.story().await.done;
        let said = "it says \"Too many open files\": the limit is 64 for one process";
        assert_eq!((done.exit, done.reason), (code(status), format!("exit status {status}; {said}")));
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_place_that_is_full_is_told_with_the_end_of_the_command_that_found_it_so() {
    let story = play(&[
        request(1, "terminal/create", json!({ "command": "sh", "args": ["-c", "cat /dev/zero > /dev/shm/fill"] })),
        wait(),
        request(2, "terminal/wait_for_exit", json!({ "terminalId": "t1" })),
        wait(),
    ])
    .await;
    let why = answers(&story)[1]["result"]["_meta"]["volary.why"].as_str().unwrap_or_default().to_owned();
    assert_eq!(why, "exit status 1; /dev/shm is full");
}
