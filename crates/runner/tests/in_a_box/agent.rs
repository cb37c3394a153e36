//! A scripted agent in a box, over the Agent Client Protocol.

use crate::support::{Box, Story, code};
use api::inbox::{AgentTask, ModelRoute, ToRunner};
use model::event::{Exit, Stream};
use model::{Dialect, Event, Limits};
use serde_json::{Value, json};

pub fn task(script: &str, limits: Limits) -> ToRunner {
    let model = ModelRoute {
        name: "m".into(),
        dialect: Dialect::Anthropic,
        id: "m".into(),
        max_output_tokens: 1,
        context_tokens: 1,
    };
    ToRunner::Agent(AgentTask {
        task: script.bytes().map(|byte| format!("{byte:02x}")).collect(),
        handle: "handle".into(),
        model,
        tools: model::profile::TOOLS.map(str::to_owned).to_vec(),
        instructions: String::new(),
        limits,
        history: Vec::new(),
        answered: Vec::new(),
    })
}

pub async fn play(acts: &[String]) -> Story {
    let mut made = Box::start_with_agent().await;
    made.send(&task(&acts.join("\n"), Limits::default())).await;
    made.story().await
}

pub fn request(id: u64, method: &str, mut params: Value) -> String {
    params["sessionId"] = "s".into();
    format!("> {}", json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }))
}

fn tell(method: &str, params: Value) -> String {
    format!("> {}", json!({ "jsonrpc": "2.0", "method": method, "params": params }))
}

pub fn wait() -> String {
    "<".to_owned()
}

/// What the agent kept: answers as JSON, or a word and an error number.
pub fn kept(story: &Story) -> Vec<String> {
    let chunks = story.events.iter().filter_map(|event| match event {
        Event::Chunk { text, .. } => Some(text.clone()),
        _ => None,
    });
    chunks.collect()
}

pub fn answers(story: &Story) -> Vec<Value> {
    kept(story).iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "current_thread")]
async fn an_agent_that_says_it_is_done_is_done_and_ended() {
    let story = play(&[]).await;
    assert_eq!((kept(&story).len(), story.done.task_done, story.done.exit), (0, true, code(0)));
}

#[tokio::test(flavor = "current_thread")]
async fn files_are_written_read_and_recorded() {
    let story = play(&[
        request(1, "fs/write_text_file", json!({ "path": "/workspace/src/a.c", "content": "one\ntwo\nthree\n" })),
        wait(),
        request(2, "fs/write_text_file", json!({ "path": "/workspace/src/a.c", "content": "one\n2\nthree\n" })),
        wait(),
        request(3, "fs/read_text_file", json!({ "path": "/workspace/src/a.c", "line": 2, "limit": 1 })),
        wait(),
        request(4, "fs/read_text_file", json!({ "path": "/etc/passwd" })),
        wait(),
    ])
    .await;
    let answers = answers(&story);
    assert_eq!((answers[0]["id"].as_u64(), answers[2]["result"]["content"].as_str()), (Some(1), Some("2\n")));
    assert!(answers[3]["error"]["message"].as_str().unwrap().contains("only paths beneath /workspace and /tmp"));
    let edits: Vec<(bool, &str)> = story
        .events
        .iter()
        .filter_map(|event| match event {
            Event::FileEdit { created, diff, diff_cut: false, .. } => Some((*created, diff.as_str())),
            _ => None,
        })
        .collect();
    assert_eq!(edits.len(), 2);
    assert!(edits[0].0 && !edits[1].0);
    assert!(edits[1].1.ends_with(" one\n-two\n+2\n three\n"), "{}", edits[1].1);
}

/// Exchanges a folder of the worktree and a link to a place that no file tool reaches, and back, until it is told to stop.
/// It lets others go on while the folder is a folder, so that some writes find it on a busy machine too.
const SWAP: &str = "import ctypes, os\nos.mkdir('/workspace/race')\nos.symlink('/dev/shm', '/workspace/link')\n\
                    libc = ctypes.CDLL(None)\nswap = lambda: libc.renameat2(-100, b'/workspace/race', -100, b'/workspace/link', 2)\n\
                    open('/tmp/go', 'w')\nwhile not os.path.exists('/tmp/stop'):\n  swap()\n  swap()\n  os.sched_yield()\n";

#[tokio::test(flavor = "current_thread")]
async fn a_folder_that_turns_into_a_link_while_it_is_written_to_leads_no_file_out_of_its_root() {
    let sh = |id: u64, script: &str| request(id, "terminal/create", json!({ "command": "sh", "args": ["-c", script] }));
    let exit = |id: u64, terminal: &str| request(id, "terminal/wait_for_exit", json!({ "terminalId": terminal }));
    let mut acts = vec![sh(1, &format!("python3 -c \"{SWAP}\"")), wait()];
    acts.extend([sh(2, "until [ -e /tmp/go ]; do :; done"), wait(), exit(3, "t2"), wait()]);
    for id in 10..310 {
        let params = json!({ "path": "/workspace/race/planted", "content": "x" });
        acts.extend([request(id, "fs/write_text_file", params), wait()]);
    }
    acts.extend([sh(4, "touch /tmp/stop"), wait(), exit(5, "t3"), wait(), exit(6, "t1"), wait()]);
    acts.extend([sh(7, "ls -A /dev/shm; find /workspace -name planted | wc -l"), wait(), exit(8, "t4"), wait()]);
    let story = play(&acts).await;
    let said = story.text(Stream::Stdout);
    // The control: some writes found the folder, and what they wrote is there.
    assert_eq!(said, "1\n", "{said}");
    let written = answers(&story).iter().filter(|answer| answer["result"].is_object()).count();
    assert!(written > 1);
}

#[tokio::test(flavor = "current_thread")]
async fn a_file_that_a_command_holds_by_a_lease_does_not_hold_process_1_up() {
    let hold = "import fcntl, os, signal\nsignal.signal(signal.SIGIO, signal.SIG_IGN)\n\
                fd = os.open('/workspace/held', os.O_CREAT | os.O_RDWR)\nfcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)\n\
                open('/tmp/go', 'w')\nsignal.pause()";
    let story = play(&[
        request(1, "terminal/create", json!({ "command": "python3", "args": ["-c", hold] })),
        wait(),
        request(2, "terminal/create", json!({ "command": "sh", "args": ["-c", "until [ -e /tmp/go ]; do :; done"] })),
        wait(),
        request(3, "terminal/wait_for_exit", json!({ "terminalId": "t2" })),
        wait(),
        request(4, "fs/read_text_file", json!({ "path": "/workspace/held" })),
        wait(),
    ])
    .await;
    let answers = answers(&story);
    let said = answers.last().unwrap()["error"]["message"].as_str().unwrap();
    assert!(said.contains("temporarily unavailable"), "{said}");
}

#[tokio::test(flavor = "current_thread")]
async fn a_command_of_an_agent_is_recorded_waited_for_and_shown() {
    let script = "echo out; echo err >&2; exit 5";
    let create = json!({ "command": "sh", "args": ["-c", script], "_meta": { "volary.toolCall": "call-1" } });
    let story = play(&[
        request(1, "terminal/create", create),
        wait(),
        request(2, "terminal/wait_for_exit", json!({ "terminalId": "t1" })),
        wait(),
        request(3, "terminal/output", json!({ "terminalId": "t1" })),
        wait(),
        request(4, "terminal/release", json!({ "terminalId": "t1" })),
        wait(),
        request(5, "terminal/output", json!({ "terminalId": "t1" })),
        wait(),
    ])
    .await;
    let answers = answers(&story);
    assert_eq!(answers[1]["result"]["exitCode"], 5);
    let output = answers[2]["result"]["output"].as_str().unwrap();
    assert!(output.contains("out\n") && output.contains("err\n"), "{output}");
    assert_eq!(answers[2]["result"]["exitStatus"]["exitCode"], 5);
    assert!(answers[4]["error"].is_object(), "released");
    assert!(story.events.iter().any(|event| matches!(event, Event::Command { id, tool_call, cwd, .. }
        if id == "t1" && tool_call.as_deref() == Some("call-1") && cwd == "/workspace")));
    assert_eq!(story.text(Stream::Stdout), "out\n");
    assert!(
        story
            .events
            .iter()
            .any(|event| matches!(event, Event::CommandEnd { id, exit, .. } if id == "t1" && *exit == code(5)))
    );
}

#[tokio::test(flavor = "current_thread")]
async fn commands_run_at_the_same_time_and_die_when_killed_or_when_the_agent_ends() {
    let sleep = || json!({ "command": "sleep", "args": ["1000"] });
    let story = play(&[
        request(1, "terminal/create", sleep()),
        wait(),
        request(2, "terminal/create", sleep()),
        wait(),
        request(3, "terminal/wait_for_exit", json!({ "terminalId": "t1" })),
        request(4, "terminal/kill", json!({ "terminalId": "t1" })),
        wait(),
        wait(),
    ])
    .await;
    let end = |which: &str| {
        story.events.iter().find_map(|event| match event {
            Event::CommandEnd { id, exit, .. } if id == which => Some(exit.clone()),
            _ => None,
        })
    };
    assert_eq!(end("t1"), Some(Exit::Killed { why: "killed: by the agent".into() }));
    assert_eq!(end("t2"), Some(Exit::Killed { why: "killed: the agent has ended".into() }));
    let answers = answers(&story);
    let waited = answers.iter().find(|answer| answer["id"] == 3).unwrap();
    assert_eq!(waited["result"]["_meta"]["volary.why"], "killed: by the agent");
}

#[tokio::test(flavor = "current_thread")]
async fn a_seventeenth_command_at_once_and_a_65th_terminal_are_refused_with_what_to_do() {
    let create = |command: &str| json!({ "command": command, "args": ["1000"] });
    let mut acts = Vec::new();
    let mut ask = |method: &str, params: Value| {
        acts.extend([request(acts.len() as u64 / 2, method, params), wait()]);
        acts.len() / 2 - 1
    };
    for _ in 0..16 {
        ask("terminal/create", create("sleep"));
    }
    let refused = ask("terminal/create", create("sleep"));
    for n in 1..=16 {
        ask("terminal/kill", json!({ "terminalId": format!("t{n}") }));
        ask("terminal/wait_for_exit", json!({ "terminalId": format!("t{n}") }));
    }
    for n in 17..=64 {
        ask("terminal/create", create("true"));
        ask("terminal/wait_for_exit", json!({ "terminalId": format!("t{n}") }));
    }
    let too_many = ask("terminal/create", create("true"));
    ask("terminal/release", json!({ "terminalId": "t1" }));
    let again = ask("terminal/create", create("true"));
    let answers = answers(&play(&acts).await);
    for n in [refused, too_many] {
        let said = answers[n]["error"]["message"].as_str().unwrap_or_default();
        assert!(said.contains("release one"), "{n}: {}", answers[n]);
    }
    let wrong =
        answers.iter().enumerate().find(|(n, answer)| *n != refused && *n != too_many && answer["error"].is_object());
    assert_eq!(wrong, None);
    assert_eq!(answers[again]["result"]["terminalId"], "t65");
}

#[tokio::test(flavor = "current_thread")]
async fn an_agent_cannot_put_the_words_of_others_in_the_record() {
    let event = |event: Value| tell("_volary/event", json!({ "event": event }));
    let story = play(&[
        event(json!({ "kind": "settled", "grant": "g", "model": "m", "usage": {}, "cost": 0, "status": 200 })),
        event(json!({ "kind": "ended", "outcome": "done" })),
        event(json!({ "kind": "tool-result", "id": "1", "ok": true, "text": "mine" })),
        tell("_volary/loop", json!({ "step": { "n": 1 } })),
        "> this is no message".into(),
        request(1, "session/request_permission", json!({ "toolCall": { "title": "rm" }, "options": [] })),
        wait(),
        request(2, "no/such_method", json!({})),
        wait(),
    ])
    .await;
    assert!(
        !story.events.iter().any(|event| matches!(event, Event::Settled { .. } | Event::Ended { .. } | Event::Unknown))
    );
    assert!(story.events.iter().any(|event| matches!(event, Event::ToolResult { text, .. } if text == "mine")));
    assert!(story.events.iter().any(|event| matches!(event, Event::Loop { step } if step["n"] == 1)));
    let notes = story.events.iter().filter(|event| matches!(event, Event::Note { .. })).count();
    assert_eq!(notes, 4, "two forged events, one broken line, one permission: {:?}", story.events);
    let answers = answers(&story);
    let by = |id: u64| answers.iter().find(|answer| answer["id"] == id).unwrap();
    assert_eq!(by(1)["result"]["outcome"]["outcome"], "cancelled");
    assert_eq!(by(2)["error"]["code"], -32601);
}

#[tokio::test(flavor = "current_thread")]
async fn a_death_is_told_with_the_last_words() {
    let story = play(&["die 9".to_owned()]).await;
    assert_eq!((story.done.exit.clone(), story.done.task_done), (code(9), false));
    assert!(story.done.reason.ends_with("it said last: last words\n"), "{}", story.done.reason);
}

#[tokio::test(flavor = "current_thread")]
async fn what_an_agent_left_behind_holds_nothing_up() {
    let story = play(&["fork".to_owned(), "die 0".to_owned()]).await;
    assert_eq!(story.done.exit, code(0));
}

#[tokio::test(flavor = "current_thread")]
async fn what_escaped_a_command_dies_when_the_last_command_ends() {
    let sh = |script: &str| json!({ "command": "sh", "args": ["-c", script] });
    let count = "grep -lx escapee /proc/[0-9]*/comm | wc -l";
    let escape =
        format!("cp /bin/sleep /tmp/escapee; (setsid /tmp/escapee 1000 &); until [ $({count}) = 1 ]; do :; done");
    // It is killed by then, and on a loaded machine not yet collected. Were it not, this would look in vain for a minute.
    let gone = format!("i=0; until [ $({count}) = 0 ] || [ $i -gt 600 ]; do sleep 0.1; i=$((i+1)); done; {count}");
    let exit = |id: u64, terminal: &str| request(id, "terminal/wait_for_exit", json!({ "terminalId": terminal }));
    let story = play(&[
        request(1, "terminal/create", sh(&format!("until [ -e /tmp/go ]; do :; done; {count}"))),
        wait(),
        request(2, "terminal/create", sh(&escape)),
        wait(),
        exit(3, "t2"),
        wait(),
        request(4, "terminal/create", sh("touch /tmp/go")),
        wait(),
        exit(5, "t1"),
        wait(),
        exit(6, "t3"),
        wait(),
        request(7, "terminal/create", sh(&gone)),
        wait(),
        exit(8, "t4"),
        wait(),
    ])
    .await;
    // While another command ran it might have been that one's; then it was no one's.
    assert_eq!(story.text(Stream::Stdout), "1\n0\n", "{}", story.text(Stream::Stderr));
}

#[tokio::test(flavor = "current_thread")]
async fn a_step_too_long_for_one_event_arrives_whole() {
    let step = json!({ "model": "\"quoted\"".repeat(30_000) });
    let story = play(&[tell("_volary/loop", json!({ "step": step }))]).await;
    let steps: Vec<Value> = story
        .events
        .into_iter()
        .filter_map(|event| match event {
            Event::Loop { step } => Some(step),
            _ => None,
        })
        .collect();
    assert!(steps.len() > 1);
    assert_eq!(api::steps::join(steps), [step]);
}

#[tokio::test(flavor = "current_thread")]
async fn an_agent_that_asks_without_end_and_reads_nothing_can_still_be_cancelled() {
    let mut made = Box::start_with_agent().await;
    let big = "x".repeat(50_000);
    let mut acts = vec![request(1, "fs/write_text_file", json!({ "path": "/tmp/a", "content": big }))];
    acts.extend((2..200).map(|id| request(id, "fs/read_text_file", json!({ "path": "/tmp/a" }))));
    acts.push("sleep".to_owned());
    made.send(&task(&acts.join("\n"), Limits::default())).await;
    made.until(|event| matches!(event, Event::FileEdit { .. })).await;
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    made.send(&ToRunner::Cancel).await;
    assert_eq!(made.story().await.done.exit, Exit::Killed { why: "killed: cancelled".into() });
}

#[tokio::test(flavor = "current_thread")]
async fn a_cancelled_agent_that_does_not_listen_is_killed() {
    let mut made = Box::start_with_agent().await;
    let script =
        [request(1, "terminal/create", json!({ "command": "sleep", "args": ["1000"] })), wait(), "sleep".into()];
    made.send(&task(&script.join("\n"), Limits::default())).await;
    made.until(|event| matches!(event, Event::Command { .. })).await;
    made.send(&ToRunner::Cancel).await;
    let story = made.story().await;
    assert_eq!(story.done.exit, Exit::Killed { why: "killed: cancelled".into() });
    assert!(story.events.iter().any(|event| matches!(event, Event::CommandEnd { exit: Exit::Killed { .. }, .. })));
}

#[tokio::test(flavor = "current_thread")]
async fn a_run_ends_at_its_time() {
    let mut made = Box::start_with_agent().await;
    made.send(&task("sleep", Limits { seconds: 1, ..Limits::default() })).await;
    let story = made.story().await;
    assert_eq!(story.done.exit, Exit::Killed { why: "killed: time limit 1 s".into() });
    assert_eq!((story.done.task_done, story.done.reason.as_str()), (false, "killed: time limit 1 s"));
}

/// What an agent meets on its loopback, where the door is and another server.
const PORTS: [&str; 6] = ["dial 8080", "dial 8081", "fast 8081", "serve 8082", "serve 0", "serve any"];

#[tokio::test(flavor = "current_thread")]
async fn the_agents_own_tcp_leads_to_the_door_alone_and_it_takes_no_port() {
    let mut made = Box::start_with_agent().await;
    // Below level 4 Landlock knows no ports.
    let by_port = if made.hello.landlock_abi >= 4 { libc::EACCES } else { 0 };
    let listens = if made.hello.landlock_abi >= 4 { libc::EACCES } else { libc::EPERM };
    let server = made.server(8081);
    made.send(&task(&PORTS.join("\n"), Limits::default())).await;
    let story = made.story().await;
    let (seccomp, none) = (libc::EPERM, 0);
    let expected = [
        format!("dial {none}"),
        format!("dial {by_port}"),
        format!("fast {seccomp}"),
        format!("serve {listens}"),
        format!("serve {listens}"),
        format!("serve {seccomp}"),
    ];
    assert_eq!(kept(&story), expected);
    server.set_nonblocking(true).unwrap();
    if by_port != 0 {
        assert_eq!(server.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "somebody came");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn where_there_are_no_walls_an_agent_dials_and_takes_any_port() {
    let said = Box::unwalled_with_servers(&PORTS.join("\n"), [8080, 8081]).await;
    let met: Vec<&str> = said.iter().filter_map(|line| line.split_once("\"text\":\"")?.1.split('"').next()).collect();
    assert_eq!(met, ["dial 0", "dial 0", "fast 0", "serve 0", "serve 0", "serve 0"], "{said:?}");
}

#[tokio::test(flavor = "current_thread")]
async fn an_agent_starts_with_three_descriptors_and_five_env_vars() {
    let story = play(&["descriptors".to_owned(), "environment".to_owned()]).await;
    let [open, env] = &kept(&story)[..] else { panic!("two answers") };
    assert_eq!(open, "descriptors 0 1 2");
    let mut env: Vec<&str> = env.split(' ').collect();
    env.sort_unstable();
    assert_eq!(env, ["HOME=/tmp/home", "LANG=C.UTF-8", "PATH=/usr/bin:/bin", "TMPDIR=/tmp", "USER=agent"]);
}
