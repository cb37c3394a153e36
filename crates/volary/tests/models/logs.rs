//! What the processes that hold live values log: a line that quotes one, from wherever it has it, holds it in no encoding.

use crate::shared::platform;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
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

/// The end of a line that has this in it, once there is one.
fn line(platform: &Platform, process: &str, begin: &str, end: &str) -> String {
    eventually("the line of the log", || {
        let text = log(platform, process);
        let mut lines = text.lines().filter(|line| line.contains(begin) && line.contains(end));
        lines.next().map(str::to_owned)
    })
}

#[test]
fn a_log_line_of_the_server_or_the_gateway_holds_no_live_value_in_any_encoding() {
    let platform = platform();
    // Whoever dials as an operator says how its host is called, and the server logs it.
    let call_it = |host: &str| {
        let hello = serde_json::json!({ "say": "hello", "host": host, "runs": [] }).to_string();
        let mut link = UnixStream::connect(platform.home().join("run/operator.sock")).expect("the link's socket");
        let length = u32::try_from(hello.len()).expect("a short hello");
        link.write_all(&length.to_le_bytes())
            .and_then(|()| link.write_all(hello.as_bytes()))
            .expect("the server reads");
    };
    let [plain, base64, hex, reversed] = spellings();
    call_it("control-of-the-test");
    line(&platform, "server", "the operator of control-of-the-test is linked", "");

    platform.secret("model/openai", VALUE);
    call_it(&format!("first-{plain} {base64} {hex} {reversed}"));
    let said = line(&platform, "server", "the operator of first-", " is linked");
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
    let said = line(&platform, "gateway", "a model provider's name was not resolved", "");
    assert_eq!(said.matches("[scrubbed:model/openai#").count(), 2, "{said}");
    drop(platform.cli(&["cancel", run["run"].as_str().expect("a run")]));
    for process in ["server", "gateway", "operator", "up"] {
        if platform.home().join("log").join(process).exists() {
            log(&platform, process);
        }
    }
    platform.stop();
}
