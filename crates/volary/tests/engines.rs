//! What boxes of either engine can, and what of Docker's own there is to it: that the daemon keeps nothing, that a
//! box is gone with its operator, which images are taken, and what a person is told where there is no daemon.
//!
//! The attacks and the killing are made on both engines by their own suites (`escape`, `kill`; `cargo xtask test`).

#[path = "engines/folders.rs"]
mod folders;
#[path = "engines/images.rs"]
mod images;
#[path = "engines/no_shell.rs"]
mod no_shell;
#[path = "engines/registries.rs"]
mod registries;

use api::inbox::{Hello, Kind, ToRunner};
use model::profile::Engine;
use model::{BoxId, Limits, Profile, RunId};
use sandbox::{BoxPlan, Created, Host};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use testkit::{Docker, Platform, Repo, eventually};

const VOLARY: &str = env!("CARGO_BIN_EXE_volary");
const RUNNER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/runner"));
const AGENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/agent"));

fn all(out: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n-- stdout\n{}-- stderr\n{}", out.status, text(&out.stdout), text(&out.stderr))
}

fn profile(platform: &Platform, name: &str, text: &str) {
    std::fs::write(platform.home().join("profiles").join(format!("{name}.toml")), text).unwrap();
}

#[test]
fn a_box_of_dockers_has_the_walls_of_any_and_the_daemon_keeps_nothing_of_it() {
    let platform = Platform::start_on_docker(VOLARY);
    let docker = platform.docker().unwrap();
    let mut child = platform
        .command()
        .args(["exec", "--", "sh", "-c", "echo from-the-box; cat; echo over; exit 7"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let held = eventually("its container", || {
        docker.containers().into_iter().find(|container| container["State"] == "running")
    });
    assert_eq!(held["HostConfig"]["NetworkMode"], "none", "{held}");
    assert!(held["Labels"]["volary.box"].is_string(), "{held}");
    // Its input comes through the daemon too, and so does the end of it.
    child.stdin.take().unwrap().write_all(b"through standard input\n").unwrap();
    let out = child.wait_with_output().unwrap();
    assert_eq!(out.status.code(), Some(7), "{}", all(&out));
    assert_eq!(out.stdout, b"from-the-box\nthrough standard input\nover\n", "{}", all(&out));
    let run = platform.json(&["runs", "--json"])[0]["run"].as_str().unwrap().to_owned();
    let entries = platform.json_lines(&["log", &run, "--json"]);
    let walls = entries.iter().find(|entry| entry["event"]["kind"] == "walls").expect("the walls are recorded");
    let readings = walls["event"]["readings"].as_array().unwrap();
    assert!(readings.iter().all(|reading| reading["holds"] == true), "{readings:#?}");
    for wall in ["seccomp", "mounts", "landlock", "memory", "swap", "log driver", "engine's network", "image"] {
        assert!(readings.iter().any(|reading| reading["wall"] == wall), "{wall} was not read: {readings:#?}");
    }
    assert_eq!(docker.containers(), Vec::<Value>::new());
    platform.stop();
}

#[test]
fn what_an_agent_changed_in_a_box_of_dockers_comes_home() {
    let platform = Platform::start_on_docker(VOLARY);
    let repo = Repo::failing();
    let turns = json!([
        {"text": "I write.", "tools": [{"name": "shell", "input": {"command": "echo changed > made-in-docker; git status"}}]},
        {"text": "Done.", "tools": []},
    ]);
    platform.script("writer", &turns, "sk-test-only-key-of-a-scripted-model");
    let out = platform.cli(&["run", "--repo", repo.path_str(), "--model", "writer", "--json", "write"]);
    assert!(out.status.success(), "{}", all(&out));
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let result = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let result = result.into_iter().find(|entry| entry["event"]["kind"] == "result").expect("a result");
    assert!(result["event"]["diff"].as_str().unwrap().contains("made-in-docker"), "{result}");
    platform.stop();
}

fn plan(dir: &Path, engine: Engine) -> BoxPlan {
    let limits = Limits { worktree_mib: 16, ..Limits::default() };
    BoxPlan {
        run: RunId::parse("run").unwrap(),
        box_id: BoxId::parse("box").unwrap(),
        profile: Profile { engine, limits, ..Profile::default() },
        lower: None,
        upper_image: dir.join("boxes/run.img"),
    }
}

/// A box with a command that counts into a file of its worktree; without a daemon it is of the embedded engine.
fn counting(dir: &Path, docker: Option<&Docker>, label: &str) -> (Host, Created, std::path::PathBuf) {
    working(dir, docker, label, "n=0; while :; do n=$((n+1)); echo $n > next; mv next count; done")
}

/// The same with a shell's command line.
fn working(dir: &Path, docker: Option<&Docker>, label: &str, line: &str) -> (Host, Created, std::path::PathBuf) {
    let argv = ["sh", "-c", line].map(str::to_owned).to_vec();
    let limits = plan(dir, Engine::Embedded).profile.limits;
    begun(dir, docker, label, AGENT, &ToRunner::Exec { argv, cwd: "/workspace".into(), limits, lease: None })
}

/// A box that was read back and told its task; `agent` is the program of its agent.
fn begun(
    dir: &Path,
    docker: Option<&Docker>,
    label: &str,
    agent: &[u8],
    task: &ToRunner,
) -> (Host, Created, std::path::PathBuf) {
    let host = Host::open(dir, &format!("/volary-{label}"), Path::new(VOLARY), RUNNER, agent)
        .unwrap()
        .with_docker(docker.map(Docker::address).unwrap_or_default());
    let engine = if docker.is_some() { Engine::Docker } else { Engine::Embedded };
    let plan = plan(dir, engine);
    let Created { mut live, listener, stdin, stdout, stderr } = host.create(&plan).unwrap();
    live.start().unwrap();
    let (mut input, mut output) = (File::from(stdin), File::from(stdout));
    let (kind, hello) = heard(&mut output);
    assert_eq!(kind, Kind::Hello);
    let hello: Hello = serde_json::from_slice(&hello).unwrap();
    let wrong: Vec<_> = live.read_back(&hello).into_iter().filter(|reading| !reading.holds).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    tell(&mut input, task);
    (host, Created { live, listener, stdin: input.into(), stdout: output.into(), stderr }, plan.upper_image)
}

/// The next frame of a box.
fn heard(from: &mut File) -> (Kind, Vec<u8>) {
    let mut length = [0u8; 4];
    from.read_exact(&mut length).unwrap();
    let mut frame = vec![0; u32::from_le_bytes(length) as usize];
    from.read_exact(&mut frame).unwrap();
    (Kind::of(frame[0]).expect("a kind of frame"), frame.split_off(1))
}

fn tell(to: &mut File, message: &ToRunner) {
    try_to_tell(to, message).unwrap();
}

fn try_to_tell(to: &mut File, message: &ToRunner) -> std::io::Result<()> {
    let body = serde_json::to_vec(message).unwrap();
    to.write_all(&u32::try_from(body.len()).unwrap().to_le_bytes())?;
    to.write_all(&body)
}

/// What the command has counted to.
fn count(pid: u32) -> u64 {
    eventually("a count", || {
        std::fs::read_to_string(format!("/proc/{pid}/root/workspace/count")).ok()?.trim().parse().ok()
    })
}

fn a_box_stands_still_while_it_is_paused(docker: Option<&Docker>, label: &str) {
    let dir = tempfile::Builder::new().prefix("volary-e-").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    let (host, made, image) = counting(dir.path(), docker, label);
    let mut live = made.live;
    let pid = live.pid();
    let before = count(pid);
    eventually("it counts on", || (count(pid) > before).then_some(()));
    live.pause().unwrap();
    let still = count(pid);
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(count(pid), still, "it went on while it was paused");
    live.resume().unwrap();
    eventually("it goes on", || (count(pid) > still).then_some(()));
    // A paused box ends like any other.
    live.pause().unwrap();
    live.kill().unwrap();
    assert!(!Path::new(&format!("/proc/{pid}/root/workspace")).exists());
    live.end().unwrap();
    host.drop_worktree(&image).unwrap();
    assert_eq!(sandbox::read_back::boxes(&format!("/volary-{label}")).len(), 0);
}

#[test]
fn a_paused_box_stands_still_and_can_be_ended() {
    a_box_stands_still_while_it_is_paused(None, "pause-embedded");
}

#[test]
fn a_paused_box_of_dockers_stands_still_and_can_be_ended() {
    a_box_stands_still_while_it_is_paused(Some(&Docker::start()), "pause-docker");
}

#[test]
fn a_worktree_that_is_full_to_its_last_inode_and_has_no_repository_is_read_all_the_same() {
    let dir = tempfile::Builder::new().prefix("volary-e-").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    let line = "rm -rf .git; echo of-the-run > mine; (i=0; while :; do i=$((i+1)); : > f$i; done) 2>/dev/null; \
                cat /dev/zero 2>/dev/null > mine.more; cat /dev/zero 2>/dev/null >> f1; echo > /dev/shm/full; sleep 1000";
    let (host, made, image) = working(dir.path(), None, "full-worktree", line);
    let full = format!("/proc/{}/root/dev/shm/full", made.live.pid());
    eventually("a full worktree", || std::fs::metadata(&full).ok());
    made.live.end().unwrap();

    let mut live = host.create(&plan(dir.path(), Engine::Embedded)).unwrap().live;
    live.kill().unwrap();
    let (mut ours, theirs) = std::io::pipe().unwrap();
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        ours.read_to_end(&mut all).map(|_| all)
    });
    let count = live.write_changes(theirs.into()).unwrap();
    let all = reader.join().unwrap().unwrap();
    assert!(count.changes > 1000, "{count:?}");
    assert!(all.windows(10).any(|part| part == b"of-the-run"), "what the run wrote is not there");
    live.end().unwrap();
    host.drop_worktree(&image).unwrap();
}

#[test]
fn what_the_daemon_still_has_of_a_dead_operator_is_taken_away_at_the_next_start() {
    let docker = Docker::start();
    let folder = || tempfile::Builder::new().prefix("volary-e-").tempdir_in("/tmp").unwrap();
    let (dir, elsewhere) = (folder(), folder());
    let (host, made, _) = counting(dir.path(), Some(&docker), "orphan-docker");
    // Beside it, in the same daemon, works a box of another installation, whose label begins as this one's does.
    let (other, foreign, image) = counting(elsewhere.path(), Some(&docker), "orphan-docker-of-others");
    assert_eq!(docker.containers().len(), 2);
    // Nobody of this box is asked: as after a power cut that left the daemon running.
    let helper = rustix::process::Pid::from_raw(made.live.helper_pid().cast_signed()).unwrap();
    rustix::process::kill_process(helper, rustix::process::Signal::KILL).unwrap();
    host.reap_orphans().unwrap();
    let left = docker.containers();
    assert_eq!(left.len(), 1, "{left:#?}");
    let label = left[0]["Labels"].as_object().unwrap().values().find(|word| *word == "/volary-orphan-docker-of-others");
    assert!(label.is_some() && left[0]["State"] == "running", "{left:#?}");
    let pid = foreign.live.pid();
    let before = count(pid);
    eventually("the other installation's box counts on", || (count(pid) > before).then_some(()));
    drop(made);
    foreign.live.end().unwrap();
    other.drop_worktree(&image).unwrap();
    assert_eq!(docker.containers(), Vec::<Value>::new());
}

#[test]
fn a_profile_that_docker_cannot_keep_is_refused_with_what_to_do() {
    let platform = Platform::start_on_docker(VOLARY);
    let cases = [
        ("tag", "engine = \"docker\"\nimage = \"debian:12\"\n", "name the image by its digest"),
        ("short", "engine = \"docker\"\nimage = \"debian@sha256:12\"\n", "64 hexadecimal digits"),
        ("absent", "engine = \"docker\"\nimage = \"/no/such/image.tar\"\n", "cannot be opened"),
        ("own-absent", "image = \"/no/such/image.tar\"\n", "cannot be opened"),
        ("own-tag", "image = \"debian:12\"\n", "name the image by its digest"),
        ("own-name", &format!("image = \"a.example/Tools@sha256:{}\"\n", "0a".repeat(32)), "in small letters"),
        ("own-registry", &format!("image = \"127.0.0.1:1/x@sha256:{}\"\n", "0a".repeat(32)), "was not reached"),
    ];
    for (name, text, why) in cases {
        profile(&platform, name, text);
        let out = platform.cli(&["exec", "--profile", name, "--", "true"]);
        assert!(!out.status.success() && all(&out).contains(why), "{name}: {}", all(&out));
    }
    profile(&platform, "typo", "engine = \"dokcer\"\n");
    let out = platform.cli(&["exec", "--profile", "typo", "--", "true"]);
    assert!(!out.status.success() && all(&out).contains("docker"), "{}", all(&out));
    platform.stop();
}

#[test]
fn without_a_daemon_a_profile_that_asks_for_it_is_told_how_to_get_one() {
    let home = tempfile::Builder::new().prefix("volary-t-").tempdir_in("/tmp").unwrap();
    let said = |address: &str| {
        let out = Command::new(VOLARY).args(["doctor", "--json"]).env("DOCKER_HOST", address).output().unwrap();
        let facts: Value = serde_json::from_slice(&out.stdout).unwrap();
        let fact = facts.as_array().unwrap().iter().find(|fact| fact["name"] == "docker").unwrap().clone();
        assert_eq!(fact["ok"], true, "a host without Docker keeps boxes all the same: {fact}");
        fact["found"].as_str().unwrap().to_owned()
    };
    let nowhere = format!("unix://{}/none.sock", home.path().display());
    assert!(said(&nowhere).starts_with("none at"), "{}", said(&nowhere));
    assert!(said("tcp://127.0.0.1:1").contains("no socket of this host"), "{}", said("tcp://127.0.0.1:1"));
    let docker = Docker::start();
    assert!(said(&docker.address()).ends_with("every wall"), "{}", said(&docker.address()));
    // A command without `volary up` looks at the host from within a runtime.
    let own = home.path().join("own");
    let mut alone = Command::new(VOLARY);
    alone.args(["exec", "--home", own.to_str().unwrap(), "--", "echo", "from a box"]);
    let out = alone.env("DOCKER_HOST", docker.address()).output().unwrap();
    assert!(out.status.success() && out.stdout == b"from a box\n", "{}", all(&out));
    let host = Host::open(home.path(), "/volary-none-docker", Path::new(VOLARY), RUNNER, AGENT).unwrap();
    let refused = host.with_docker(nowhere).create(&plan(home.path(), Engine::Docker)).err().unwrap().to_string();
    assert!(refused.contains("apt-get install docker.io") && refused.contains("none.sock"), "{refused}");
}
