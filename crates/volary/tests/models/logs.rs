//! What the processes that hold live values log: a line that quotes one, from wherever it has it, holds it in no encoding.

use crate::shared::platform;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;
use testkit::{Platform, eventually};

/// Of no format: only who holds it knows that it is one. A host's name may have it as a part.
const VALUE: &str = "plain-words-of-4711-doors";

/// The value and how else a line may spell it.
fn spellings() -> [String; 4] {
    let hex: String = VALUE.bytes().map(|byte| format!("{byte:02x}")).collect();
    [VALUE.to_owned(), STANDARD.encode(VALUE), hex, VALUE.chars().rev().collect()]
}

fn log(platform: &Platform, process: &str) -> String {
    let text = fs::read_to_string(platform.home().join("log").join(process)).expect("a process has a log");
    for spelling in spellings() {
        assert!(!text.contains(&spelling), "the {process} logged {spelling}:\n{text}");
    }
    text
}

/// The first line that has this in it, if there is one.
fn line(platform: &Platform, process: &str, part: &str) -> Option<String> {
    log(platform, process).lines().find(|line| line.contains(part)).map(str::to_owned)
}

/// Whoever dials as an operator says how its host is called, and the server logs it: that line.
///
/// Dials again until there is one: the platform's own operator dials anew when its place is taken, and a connection whose place
/// it takes before the hello was read is never logged.
fn called(platform: &Platform, host: &str, part: &str) -> String {
    let hello = serde_json::json!({ "say": "hello", "host": host, "runs": [] }).to_string();
    let length = u32::try_from(hello.len()).expect("a short hello");
    eventually("the line of the log", || {
        let mut link = UnixStream::connect(platform.home().join("run/operator.sock")).expect("the link's socket");
        // The server may have shut it already.
        drop(link.write_all(&length.to_le_bytes()).and_then(|()| link.write_all(hello.as_bytes())));
        std::thread::sleep(Duration::from_millis(500));
        line(platform, "server", part)
    })
}

#[test]
fn a_log_line_of_the_server_or_the_gateway_holds_no_live_value_in_any_encoding() {
    let platform = platform();
    let [plain, base64, hex, reversed] = spellings();
    called(&platform, "control-of-the-test", "the operator of control-of-the-test is linked");

    platform.secret("model/openai", VALUE);
    let said = called(&platform, &format!("first-{plain} {base64} {hex} {reversed}"), "the operator of first-");
    assert_eq!(said.matches("[scrubbed:model/openai#").count(), 4, "{said}");

    // A model's address has it in its host; the gateway is given the value for its call, and logs that the name is not known.
    let base = format!("https://{plain}.{hex}.invalid/v1");
    drop(platform.ok(&[
        "model",
        "add",
        "far",
        "--provider",
        "openai",
        "--id",
        "m",
        "--base",
        &base,
        "--internal",
        "--price",
        "1,1,1,1",
    ]));
    let repo = testkit::Repo::failing();
    let run = platform.json(&["run", "--background", "--json", "--repo", repo.path_str(), "--model", "far", "work"]);
    let said = eventually("the line of the gateway", || {
        line(&platform, "gateway", "a model provider's name was not resolved")
    });
    assert_eq!(said.matches("[scrubbed:model/openai#").count(), 2, "{said}");
    drop(platform.cli(&["cancel", run["run"].as_str().expect("a run")]));
    for process in ["server", "gateway", "operator", "up"] {
        if platform.home().join("log").join(process).exists() {
            log(&platform, process);
        }
    }
    platform.stop();
}
