//! Models that answer garbage, never end, break off, or ask for what is not there.

use crate::support::{all, end, only, platform, profile, run, text};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use testkit::{ModelDouble, Platform, Repo, Turn};

/// A server that says the same to every request, however wrong.
struct Wrong {
    url: String,
    asked: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
}

impl Wrong {
    /// `head` is the answer's status line and headers; `body` is sent once, or again and again.
    fn start(head: &'static str, body: &'static str, endless: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (asked, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, ended) = (Arc::clone(&asked), Arc::clone(&over));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, Ordering::Relaxed);
                let ended = Arc::clone(&ended);
                std::thread::spawn(move || answer(stream, head, body, endless, &ended));
            }
        });
        Self { url, asked, over }
    }
}

impl Drop for Wrong {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn answer(mut stream: TcpStream, head: &str, body: &str, endless: bool, ended: &AtomicBool) {
    let mut request = [0; 65536];
    // Its head at least; whoever hung up needs no answer.
    if stream.read(&mut request).is_err() || stream.write_all(head.as_bytes()).is_err() {
        return;
    }
    loop {
        if stream.write_all(body.as_bytes()).is_err() || !endless || ended.load(Ordering::Relaxed) {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Lets an agent work with this model, under limits that end what does not end itself.
fn work_with(platform: &Platform, wrong: &Wrong) -> (Output, Vec<Value>) {
    let add = [
        "model",
        "add",
        "worker",
        "--provider",
        "openai-compatible",
        "--id",
        "m",
        "--internal",
        "--price",
        "1,1",
        "--base",
    ];
    drop(platform.ok(&[&add[..], &[&wrong.url]].concat()));
    // The agent ends five seconds before.
    profile(platform, "brief", "[limits]\nseconds = 12\nturns = 4\n");
    let repo = Repo::failing();
    let (out, events) = run(platform, repo.path_str(), &["--profile", "brief"]);
    assert!(wrong.asked.load(Ordering::Relaxed) > 0, "the model was never asked: {}", all(&out));
    (out, events)
}

/// It failed, with a reason that says something.
fn failed(out: &Output, events: &[Value]) -> String {
    let (outcome, reason) = end(events);
    assert_eq!((out.status.code(), outcome.as_str()), (Some(1), "failed"), "{}", all(out));
    assert!(reason.len() > 15 && !reason.contains("panicked"), "{reason:?}");
    reason
}

const JSON: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n";
const STREAM: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";

#[test]
fn garbage_of_every_kind_ends_the_run_with_a_reason() {
    let platform = platform();
    for (head, body) in [
        (JSON, "this is no JSON"),
        (JSON, "{\"choices\":[]}"),
        (STREAM, "data: {not json}\n\n"),
        (STREAM, "\u{0}\u{1}\u{2}garbage\n\n"),
        (STREAM, ""),
        ("NOT HTTP AT ALL\r\n\r\n", "x"),
        ("HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n", "<html>a captive portal</html>"),
        ("HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\nconnection: close\r\n\r\n", ""),
        (
            "HTTP/1.1 401 Unauthorized\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n",
            "{\"error\":{\"message\":\"no\"}}",
        ),
    ] {
        let wrong = Wrong::start(head, body, false);
        let (out, events) = work_with(&platform, &wrong);
        let reason = failed(&out, &events);
        assert!(!reason.is_empty(), "{head}{body}");
    }
}

#[test]
fn an_answer_that_never_ends_is_ended_by_the_runs_time() {
    let platform = platform();
    for (head, body) in [
        (
            STREAM,
            "data: {\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"and \"}}]}\n\n",
        ),
        (STREAM, ": still thinking\n\n"),
        ("HTTP/1.1 200 OK\r\n", "x-header: again\r\n"),
    ] {
        let wrong = Wrong::start(head, body, true);
        let (out, events) = work_with(&platform, &wrong);
        failed(&out, &events);
    }
}

#[test]
fn a_stream_that_breaks_off_is_asked_for_again_and_the_run_goes_on() {
    let platform = platform();
    let key = "sk-a-key-of-the-worker-model";
    let broken =
        Turn { cut: true, ..Turn::says("A sentence long enough to be broken off in its middle, as streams are.") };
    let double = ModelDouble::start(key, vec![broken, Turn::says("Whole this time.")]);
    platform.secret("model/worker", key);
    let add = ["model", "add", "worker", "--provider", "openai-compatible", "--id", "m", "--internal"];
    let more = ["--price", "1,1", "--secret", "model/worker", "--base", &double.url()];
    drop(platform.ok(&[&add[..], &more[..]].concat()));
    let repo = Repo::failing();
    let (out, events) = run(&platform, repo.path_str(), &[]);
    assert_eq!(end(&events), ("done".to_owned(), String::new()), "{}", all(&out));
    assert!(text(&out.stdout).contains("Whole this time."), "{}", all(&out));
    assert_eq!(double.requests().len(), 2);
}

#[test]
fn a_stream_that_always_breaks_off_is_given_up_in_the_end() {
    let platform = platform();
    let turns = json!([{"text": "Broken off in its middle each time that it is asked for.", "cut": true}]);
    platform.script("worker", &turns, "sk-a-key-of-the-worker-model");
    profile(&platform, "brief", "[limits]\nseconds = 8\n");
    let repo = Repo::failing();
    let (out, events) = run(&platform, repo.path_str(), &["--profile", "brief"]);
    let reason = failed(&out, &events);
    // Whoever counts to the end of its time first: the agent, or the runner.
    let ends = ["limits.seconds", "time limit 8 s", "broke off"];
    assert!(ends.iter().any(|end| reason.contains(end)), "{reason}");
}

#[test]
fn a_tool_that_does_not_exist_is_answered_to_the_model_and_the_run_goes_on() {
    let platform = platform();
    let turns = json!([
        {"text": "", "tools": [{"name": "teleport", "input": {"to": "the host"}}]},
        {"text": "", "tools": [{"name": "shell", "input": {"comand": "a typo"}}]},
        {"text": "", "tools": [{"name": "read", "input": {"path": "../../etc/shadow"}}, {"name": "read", "input": 7}]},
        {"text": "", "tools": [{"name": "shell", "input": {"command": "echo went-on > new"}}]},
        {"text": "Done after all."},
    ]);
    platform.script("worker", &turns, "sk-a-key-of-the-worker-model");
    let repo = Repo::failing();
    let (out, events) = run(&platform, repo.path_str(), &[]);
    assert!(out.status.success(), "{}", all(&out));
    let branch = only(&events, "result")["branch"].as_str().unwrap();
    assert_eq!(repo.git(&["show", &format!("{branch}:new")]), "went-on");
    assert!(text(&out.stdout).contains("teleport"), "the record holds what was asked for");
}

#[test]
fn a_model_that_asks_for_tools_for_ever_meets_the_limit_of_turns() {
    let platform = platform();
    profile(&platform, "brief", "[limits]\nturns = 3\n");
    let again = json!({"text": "", "tools": [{"name": "shell", "input": {"command": "true"}}]});
    platform.script("worker", &json!(vec![again; 50]), "sk-a-key-of-the-worker-model");
    let repo = Repo::failing();
    let (out, events) = run(&platform, repo.path_str(), &["--profile", "brief"]);
    let reason = failed(&out, &events);
    assert!(reason.contains("turn") && reason.contains('3'), "{reason}");
}

#[test]
fn an_unknown_model_or_none_is_refused_before_a_run_is_made() {
    let platform = platform();
    let repo = Repo::failing();
    let out = platform.cli(&["run", "--repo", repo.path_str(), "--model", "nobody", "work"]);
    crate::support::refused(&out, 1, &["nobody", "model add"]);
    let out = platform.cli(&["run", "--repo", repo.path_str(), "work"]);
    crate::support::refused(&out, 1, &["model"]);
}
