//! The server ends when it is told to, whoever is still looking. A process of its own, for it takes a signal.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};

#[test]
fn a_signal_ends_the_server_while_a_follower_waits_for_a_run_that_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let bind = |name: &str| UnixListener::bind(dir.path().join(name)).unwrap();
    let config = server::Config {
        tcp: TcpListener::bind("127.0.0.1:0").unwrap(),
        api: bind("api"),
        operator: bind("operator"),
        gateway: bind("gateway"),
        dir: dir.path().to_owned(),
        keys: key(),
        profiles: dir.path().join("profiles"),
        workspace: "main".parse().unwrap(),
        administrator: "ada".to_owned(),
        accounts: server::accounts::Accounts::open().unwrap(),
        prove: Vec::new,
        warm: 0,
        log: scrub::Current::default(),
    };
    let serving = std::thread::spawn(|| server::run(config));

    let ask = |request: String| {
        let mut stream = UnixStream::connect(dir.path().join("api")).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    };
    let body = r#"{"kind":"exec","argv":["sleep"]}"#;
    let head = "host: volary\r\ncontent-type: application/json\r\nconnection: close";
    let mut answer = String::new();
    ask(format!("POST /api/runs HTTP/1.1\r\n{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()))
        .read_to_string(&mut answer)
        .unwrap();
    let run = answer.split("\"run\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect(&answer).to_owned();
    let mut follower = ask(format!("GET /api/runs/{run}/events?follow=true HTTP/1.1\r\n{head}\r\n\r\n"));
    let mut first = [0; 16];
    follower.read_exact(&mut first).unwrap();

    // SAFETY: plain system calls on this very process; the server's handler is in place, for it has answered.
    unsafe { libc::kill(libc::getpid(), libc::SIGTERM) };
    serving.join().unwrap().unwrap();
    let mut rest = Vec::new();
    follower.read_to_end(&mut rest).ok();
}

/// What opens the vault of a test's server.
fn key() -> api::vault::KeyOffer {
    let key = api::grants::WireSecret(model::Secret::new("5".repeat(64)));
    let keys = vec![api::vault::OfferedKey { source: "the test".to_owned(), key }];
    api::vault::KeyOffer { keys, missing: Vec::new() }
}
