//! A static agent that does as it is told: the prompt's text is its script, in hex, so that it needs no JSON.
//!
//! A line of the script is one act: `> LINE` writes the line, `<` waits for one and keeps it, `x PATH` executes,
//! `r PATH` reads and `w PATH` writes a file, `try WAY` executes in one of many ways, `try-all` in each that must be
//! refused, `dial PORT`, `fast PORT` and `serve PORT` go for the loopback, `descriptors` and
//! `environment` look at what it began with (and each keeps the error number), `fork` leaves a process of its own session behind that holds all pipes,
//! `sleep` waits for ever, `die N` exits. What was kept is said at the end, as one chunk a line, then the prompt is
//! answered. Compiled by the tests; std only.

#[path = "executes.rs"]
mod executes;
#[path = "network.rs"]
mod network;

use std::io::{BufRead, Write};

fn main() {
    if std::env::args().nth(1).as_deref() == Some(executes::AGAIN) {
        std::process::exit(executes::AGAIN_STATUS);
    }
    let mut lines = std::io::stdin().lock().lines().map_while(Result::ok);
    let say = |text: &str| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{text}").and_then(|()| out.flush()).unwrap();
    };
    let answer = |line: &str, result: &str| say(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, id(line)));

    let hello = lines.next().unwrap();
    answer(&hello, r#"{"protocolVersion":1,"_meta":{"_volary":{"version":1}}}"#);
    let new = lines.next().unwrap();
    answer(&new, r#"{"sessionId":"s"}"#);
    let prompt = lines.next().unwrap();
    let mut kept = vec![];
    if !new.contains(r#""cwd":"/workspace""#) || !new.contains("volary.task") || !prompt.contains(r#""sessionId":"s""#)
    {
        kept.push("the client did not say what it must".to_owned());
    }
    for act in script(&prompt).lines() {
        let (what, with) = act.split_once(' ').unwrap_or((act, ""));
        let errno = |error: std::io::Error| error.raw_os_error().unwrap_or(-1);
        match what {
            ">" => say(with),
            "<" => kept.push(lines.next().unwrap()),
            "x" => kept.push(format!("x {}", std::process::Command::new(with).spawn().map_or_else(errno, |_| 0))),
            "r" => kept.push(format!("r {}", std::fs::read(with).map_or_else(errno, |_| 0))),
            "w" => kept.push(format!("w {}", write(with).map_or_else(errno, |()| 0))),
            "try" => kept.push(format!("{with} {}", executes::attempt(with))),
            "try-all" => kept.extend(executes::WAYS.map(|way| format!("{way} {}", executes::attempt(way)))),
            "dial" => kept.push(format!("dial {}", network::dial(with.parse().unwrap()))),
            "fast" => kept.push(format!("fast {}", network::dial_by_sending(with.parse().unwrap()))),
            "serve" => kept.push(format!("serve {}", network::serve(with))),
            "descriptors" => kept.push(format!("descriptors {}", network::descriptors())),
            "environment" => {
                let all: Vec<String> = std::env::vars().map(|(name, value)| format!("{name}={value}")).collect();
                kept.push(all.join(" "));
            }
            "fork" => fork(),
            "sleep" => std::thread::sleep(std::time::Duration::from_secs(1000)),
            "die" => {
                eprintln!("last words");
                std::process::exit(with.parse().unwrap());
            }
            other => panic!("{other}"),
        }
    }
    for line in kept {
        let text = line.replace('\\', "\\\\").replace('"', "\\\"");
        say(&format!(
            r#"{{"jsonrpc":"2.0","method":"_volary/event","params":{{"event":{{"kind":"chunk","turn":1,"text":"{text}"}}}}}}"#
        ));
    }
    answer(&prompt, r#"{"stopReason":"end_turn","_meta":{"volary.done":{"done":true,"reason":""}}}"#);
    // Like an agent that does not go when it is done.
    std::thread::sleep(std::time::Duration::from_secs(1000));
}

/// Writes a program that anyone may execute, as far as its mode goes.
fn write(path: &str) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, "#!/bin/sh\n")?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))
}

fn id(line: &str) -> &str {
    let rest = line.split_once(r#""id":"#).unwrap().1;
    &rest[..rest.find(|c: char| !c.is_ascii_digit()).unwrap()]
}

fn script(prompt: &str) -> String {
    let hex = prompt.split_once(r#""text":""#).unwrap().1.split('"').next().unwrap();
    let bytes = hex.as_bytes().chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap());
    String::from_utf8(bytes.collect()).unwrap()
}

fn fork() {
    unsafe extern "C" {
        fn fork() -> i32;
        fn setsid() -> i32;
    }
    // SAFETY: one thread; the child makes one system call and sleeps.
    unsafe {
        if fork() == 0 {
            if fork() == 0 {
                setsid();
                std::thread::sleep(std::time::Duration::from_secs(1000));
            }
            std::process::exit(0);
        }
    }
}
