//! How an attack gets into a box, and what it met.

use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use testkit::{Platform, eventually};

/// What stands before every program.
const SHARED: &str = include_str!("attack.h");
/// Reads a C program from its standard input, compiles it and becomes it.
const BECOME: &str = "cc -w -x c -o /tmp/attack - && exec /tmp/attack \"$@\"";

/// A platform for one test, on the engine that the environment names. A box waits for its first command already, and for
/// each that follows: what is attacked is a box that was made ahead.
pub fn platform() -> Platform {
    let platform = Platform::start_on_engine_of_environment_with(env!("CARGO_BIN_EXE_volary"), &["--warm", "1"]);
    eventually("a box that waits", || {
        let status = platform.cli(&["status", "--json"]).stdout;
        let status: Value = serde_json::from_slice(&status).ok()?;
        let waits = status["boxes"].as_object()?.values().any(|found| found["waits"] == true);
        // Until the profile names Docker, the platform's own engine makes it.
        let made = platform.docker().is_none_or(|docker| !docker.containers().is_empty());
        (waits && made).then_some(())
    });
    platform
}

/// The port of the console on this host's loopback, where it listens: the API itself is a socket of the home.
pub fn console_port(platform: &Platform) -> String {
    let address = platform.url().strip_prefix("http://").expect("an address of the console");
    TcpStream::connect(address).expect("the console answers on the host");
    address.rsplit(':').next().expect("a port").to_owned()
}

/// Text of an output, for messages and searches.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Everything that was said, and how it ended.
pub fn all(out: &Output) -> String {
    format!("{}\n-- stdout\n{}-- stderr\n{}", out.status, text(&out.stdout), text(&out.stderr))
}

/// Runs a shell's command line in a box under a profile.
pub fn shell(platform: &Platform, profile: &str, line: &str) -> Output {
    platform.cli(&["exec", "--profile", profile, "--", "sh", "-c", line])
}

/// Writes a profile: `limits` are lines of its table of limits.
pub fn profile(platform: &Platform, name: &str, limits: &str) {
    let file = platform.home().join("profiles").join(format!("{name}.toml"));
    std::fs::write(file, format!("{}[limits]\n{limits}\n", platform.engine())).expect("a profile is written");
}

/// Compiles a program in a box and runs it there; `volary` is the client, with what a test adds to it.
pub fn compiled(mut volary: Command, program: &str, args: &[&str]) -> Output {
    let source = format!("{SHARED}#line 1 \"attack\"\n{program}");
    volary.args(["exec", "--", "sh", "-c", BECOME, "attack"]).args(args);
    let mut child =
        volary.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("volary starts");
    child.stdin.take().expect("a pipe").write_all(source.as_bytes()).expect("volary reads its input");
    child.wait_with_output().expect("volary ends")
}

/// Compiles a program on the host, so that it needs nothing of the box that it runs in.
pub fn built(program: &str, to: &Path) {
    let args = ["-w", "-static", "-x", "c", "-o"];
    let mut cc = Command::new("cc").args(args).arg(to).arg("-").stdin(Stdio::piped()).spawn().expect("cc starts");
    let source = format!("{SHARED}#line 1 \"attack\"\n{program}");
    cc.stdin.take().expect("a pipe").write_all(source.as_bytes()).expect("cc reads its input");
    assert!(cc.wait().expect("cc ends").success(), "the program cannot be compiled");
}

/// Compiles a program in a box, runs it there, and gives what each of its attempts met.
pub fn attempts(platform: &Platform, program: &str, args: &[&str]) -> BTreeMap<String, i32> {
    attempted(&compiled(platform.command(), program, args))
}

/// The same of what a program said.
pub fn attempted(out: &Output) -> BTreeMap<String, i32> {
    assert!(out.status.success(), "the program did not get to its end: {}", all(out));
    let line = |line: &str| {
        let (name, met) = line.split_once(' ').unwrap_or_else(|| panic!("{line:?} is no attempt"));
        (name.to_owned(), met.parse().unwrap_or_else(|_| panic!("{line:?} is no attempt")))
    };
    text(&out.stdout).lines().map(line).collect()
}

/// What some attempts must meet: one of these errnos, from this wall.
pub struct Must(pub &'static str, pub &'static [i32], pub &'static str);

/// Holds a program's attempts to what they must meet: each one that was made, and no other.
pub fn judge(met: &BTreeMap<String, i32>, musts: &[Must]) {
    let mut wrong = Vec::new();
    let mut expected = BTreeMap::new();
    for Must(wall, errnos, names) in musts {
        for name in names.split_whitespace() {
            assert!(expected.insert(name, ()).is_none(), "{name} is expected twice");
            match met.get(name) {
                None => wrong.push(format!("{name} was not attempted")),
                Some(errno) if errnos.contains(errno) => {}
                Some(0) => wrong.push(format!("{name} WENT THROUGH; it must meet {wall} with {errnos:?}")),
                Some(errno) => wrong.push(format!("{name} met {errno}; it must meet {wall} with {errnos:?}")),
            }
        }
    }
    wrong.extend(
        met.keys().filter(|name| !expected.contains_key(name.as_str())).map(|name| format!("{name} is in no table")),
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The Landlock level that this host offers, as `volary doctor` says it.
pub fn landlock(platform: &Platform) -> u32 {
    let out = platform.cli(&["doctor", "--json"]);
    let facts: serde_json::Value = serde_json::from_slice(&out.stdout).expect("doctor prints JSON");
    let fact = facts.as_array().and_then(|all| all.iter().find(|fact| fact["name"] == "landlock"));
    let found = fact.and_then(|fact| fact["found"].as_str()).expect("doctor names Landlock");
    let level = found.strip_prefix("ABI ").expect("a level");
    level.split(|c: char| !c.is_ascii_digit()).next().and_then(|level| level.parse().ok()).expect("a number")
}
