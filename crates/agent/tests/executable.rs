//! The executable itself, on pipes.

use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

#[test]
fn it_speaks_from_behind_its_walls_and_ends_with_its_client() {
    let mut agent =
        Command::new(env!("CARGO_BIN_EXE_agent")).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut to = agent.stdin.take().unwrap();
    let mut from = BufReader::new(agent.stdout.take().unwrap());
    let mut ask = |line: &str| {
        writeln!(to, "{line}").unwrap();
        let mut answer = String::new();
        from.read_line(&mut answer).unwrap();
        serde_json::from_str::<Value>(&answer).unwrap()
    };
    let hello = ask(r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":1}}"#);
    assert_eq!(hello["result"]["protocolVersion"], 1);
    let no = ask(r#"{"jsonrpc":"2.0","id":1,"method":"session/new","params":{"cwd":"/workspace","mcpServers":[]}}"#);
    assert!(no["error"]["data"].as_str().unwrap().contains("volary.task"), "{no}");
    let no = ask(r#"{"jsonrpc":"2.0","id":2,"method":"session/prompt","params":{"sessionId":"x","prompt":[]}}"#);
    assert_eq!(no["error"]["code"], -32602);
    let no = ask(r#"{"jsonrpc":"2.0","id":3,"method":"session/fork","params":{}}"#);
    assert_eq!(no["error"]["code"], -32601);

    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.id())).unwrap();
    let line = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!((line("Seccomp:"), line("NoNewPrivs:"), line("Threads:")), ("2".into(), "1".into(), "1".into()));

    drop(to);
    assert!(agent.wait().unwrap().success());
}
