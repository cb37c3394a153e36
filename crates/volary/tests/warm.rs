//! Boxes that wait for runs, on either engine: what one is before its claim, that it is claimed once, that an edit of its
//! profile ends it, and that nothing of it stays when it, its helper or the operator is killed.
//!
//! The attacks (`escape`) are made in boxes that waited, too.

#[path = "warm/claim.rs"]
mod claim;

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use testkit::{Platform, Repo, eventually};

const VOLARY: &str = env!("CARGO_BIN_EXE_volary");
const WARM: [&str; 2] = ["--warm", "1"];

/// The engines, each as a platform that keeps one box warm.
fn on_each_engine(test: impl Fn(Platform)) {
    test(Platform::start_with(VOLARY, &WARM));
    test(Platform::start_on_docker_with(VOLARY, &WARM));
}

/// A box that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Waiting {
    name: String,
    pid: u32,
}

/// All that wait now.
fn waiting(platform: &Platform) -> Vec<Waiting> {
    let out = platform.cli(&["status", "--json"]);
    let status: Value = serde_json::from_slice(&out.stdout).unwrap_or_default();
    let boxes = status["boxes"].as_object().into_iter().flatten();
    let waits = boxes.filter(|(_, found)| found["waits"] == true).map(|(name, found)| {
        let pid = u32::try_from(found["processes"][0]["pid"].as_u64().unwrap_or_default()).unwrap();
        Waiting { name: name.clone(), pid }
    });
    waits.collect()
}

/// The box that waits on the platform's own engine, once it does, and only it.
fn the_one(platform: &Platform) -> Waiting {
    eventually("one box that waits", || {
        let all = waiting(platform);
        let [one] = &all[..] else { return None };
        // Docker's own group lies below the box's; before the profile named that engine, the other one's box waited.
        let below = fs::read_to_string(format!("/proc/{}/cgroup", one.pid)).ok()?;
        let below =
            below.lines().any(|line| line.rsplit('/').next() != Some(one.name.as_str()) && line.contains(&one.name));
        // Made to the end: its process 1 is ours, and its door is bound, which is what comes last.
        let of = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", one.pid)).ok();
        let made = of("cmdline")? == "/run/volary/runner\0" && of("net/tcp")?.contains(":1F90 00000000:0000 0A ");
        (made && below == platform.docker().is_some()).then(|| one.clone())
    })
}

/// Waits until process 1 of a box is gone.
fn gone(box_: &Waiting) {
    eventually("the end of a box that waited", || {
        let table = fs::read_to_string(format!("/proc/{}/cgroup", box_.pid)).unwrap_or_default();
        (!table.contains(&box_.name)).then_some(())
    });
}

/// What the last run's transcript holds.
fn last(platform: &Platform) -> Vec<Value> {
    let run = platform.json(&["runs", "--json"])[0]["run"].as_str().unwrap().to_owned();
    platform.json_lines(&["log", &run, "--json"])
}

fn events<'a>(entries: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    entries.iter().map(|entry| &entry["event"]).filter(move |event| event["kind"] == kind)
}

/// The boxes of the last run.
fn boxes(entries: &[Value]) -> Vec<String> {
    events(entries, "attempt").map(|event| event["box"].as_str().unwrap().to_owned()).collect()
}

fn is_v2() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// The folder of a box's control group.
fn group(box_: &Waiting, controller: &str) -> PathBuf {
    let table = fs::read_to_string(format!("/proc/{}/cgroup", box_.pid)).unwrap();
    let mut lines = table.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let is_it = |names: &str| if is_v2() { names.is_empty() } else { names.split(',').any(|name| name == controller) };
    let group = lines.find(|(names, _)| is_it(names)).unwrap().1;
    Path::new("/sys/fs/cgroup").join(if is_v2() { "" } else { controller }).join(group.trim_start_matches('/'))
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    // It may have ended just before; then there is nothing to kill.
    if let Err(e) = rustix::process::kill_process(pid, rustix::process::Signal::KILL) {
        assert_eq!(e, rustix::io::Errno::SRCH);
    }
}

fn parent(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
    line.and_then(|ppid| ppid.trim().parse().ok()).unwrap_or(0)
}

#[test]
fn a_box_that_waited_becomes_one_runs_own_with_every_wall_read_back_and_is_never_used_again() {
    on_each_engine(|platform| {
        let mut used = Vec::new();
        for word in ["first", "second"] {
            let box_ = the_one(&platform);
            // What one run leaves in its files, no other finds.
            let line = format!("ls -A /workspace /tmp /dev/shm | grep -v -e .git -e home; echo {word} > /workspace/x");
            let out = platform.ok(&["exec", "--", "sh", "-c", &format!("{line}; touch /tmp/{word} /dev/shm/{word}")]);
            assert!(!out.contains("first") && !out.contains("second"), "{out}");
            let entries = last(&platform);
            assert_eq!(
                boxes(&entries),
                std::slice::from_ref(&box_.name),
                "the run's box is another than the one that waited"
            );
            let walls: Vec<&Value> = events(&entries, "walls").collect();
            let readings = walls[0]["readings"].as_array().unwrap();
            assert_eq!(walls.len(), 1);
            assert!(readings.iter().all(|reading| reading["holds"] == true), "{readings:#?}");
            for wall in ["seccomp", "mounts", "landlock", "memory", "not dumpable", "no new privileges"] {
                assert!(readings.iter().any(|reading| reading["wall"] == wall), "{wall} was not read: {readings:#?}");
            }
            gone(&box_);
            used.push(box_.name);
        }
        assert_ne!(used[0], used[1]);
        platform.stop();
    });
}

/// What is done to a box that waits, and what is said of it then.
type Break = (fn(&Waiting), &'static str);

/// What somebody with root on the host does to a box that waits, and what is read of its walls then.
const BROKEN: [Break; 3] = [
    (|box_| fs::write(group(box_, "pids").join("pids.max"), "7777").unwrap(), "processes (promised 256, read 7777)"),
    (
        |box_| fs::write(format!("/proc/{}/oom_score_adj", box_.pid), "0").unwrap(),
        "ended first when memory runs out (promised 1000, read 0)",
    ),
    (
        |box_| {
            let mounts = format!("--mount=/proc/{}/ns/mnt", box_.pid);
            let remount = ["mount", "-o", "remount,bind,rw", "/usr"];
            assert!(Command::new("nsenter").arg(mounts).args(remount).status().unwrap().success());
        },
        "mounts (promised ",
    ),
];

#[test]
fn a_real_box_of_either_engine_with_a_wall_that_does_not_hold_is_ended_before_its_task() {
    on_each_engine(|platform| {
        for (broken, why) in BROKEN {
            let box_ = the_one(&platform);
            broken(&box_);
            let out = platform.cli(&["exec", "--", "echo", "it was begun"]);
            let said = String::from_utf8_lossy(&out.stderr);
            assert!(!out.status.success() && out.stdout.is_empty(), "{why}: {out:?}");
            assert!(said.contains("a wall of the box does not hold: ") && said.contains(why), "{why}: {said}");
            let entries = last(&platform);
            assert_eq!(boxes(&entries), [box_.name.as_str()], "{why}");
            let walls: Vec<&Value> =
                events(&entries, "walls").flat_map(|e| e["readings"].as_array().unwrap()).collect();
            assert_eq!(walls.iter().filter(|reading| reading["holds"] == false).count(), 1, "{why}: {walls:#?}");
            assert_eq!(events(&entries, "command").count(), 0, "{why}: its task was sent");
            gone(&box_);
        }
        drop(platform.ok(&["exec", "--", "true"]));
        platform.stop();
    });
}

/// Connects to 127.0.0.1:8080 as process `pid` sees it, and says what a client says.
fn ask_at_the_door_of(pid: u32) -> TcpStream {
    let namespace = fs::File::open(format!("/proc/{pid}/ns/net")).unwrap();
    // A thread of its own: it stays in that namespace.
    let asked = std::thread::spawn(move || {
        let kind = Some(rustix::thread::LinkNameSpaceType::Network);
        rustix::thread::move_into_link_name_space(namespace.as_fd(), kind).unwrap();
        let mut door = TcpStream::connect("127.0.0.1:8080").unwrap();
        door.write_all(b"GET http://example.org/ HTTP/1.1\r\nHost: example.org\r\n\r\n").unwrap();
        door
    });
    asked.join().unwrap()
}

#[test]
fn before_its_claim_a_box_has_no_worktree_no_handle_no_task_and_nobody_answers_at_its_door() {
    on_each_engine(|platform| {
        let Waiting { pid, .. } = the_one(&platform);
        let file = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap();
        assert!(!file("mountinfo").lines().any(|line| line.split(' ').nth(4) == Some("/workspace")));
        assert_eq!(fs::read_dir(format!("/proc/{pid}/root/workspace")).unwrap().count(), 0);
        // What the engine gives every process of its own accord, and nothing of a run.
        let names = file("environ");
        let names: Vec<&str> = names.split('\0').filter_map(|var| Some(var.split_once('=')?.0)).collect();
        assert!(names.iter().all(|name| ["PATH", "HOSTNAME", "HOME"].contains(name)), "{names:?}");
        assert_eq!(file("cmdline"), "/run/volary/runner\0");
        let open: BTreeSet<String> = fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .map(|entry| fs::read_link(entry.unwrap().path()).unwrap().to_string_lossy().into_owned())
            .collect();
        assert!(open.len() == 3 && open.iter().all(|to| to.starts_with("pipe:")), "{open:?}");
        // It has no capability and can get none, and everything about it that no run is needed for.
        let status = file("status");
        for line in ["NoNewPrivs:\t1", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "Threads:\t1"] {
            assert!(status.contains(line), "{line}: {status}");
        }
        let mut door = ask_at_the_door_of(pid);
        door.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let said = door.read(&mut [0; 64]);
        assert!(said.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock), "{said:?}");
        drop(door);
        // And it is a box like any other for who looks after it.
        eventually("every wall holds", || platform.cli(&["status"]).status.success().then_some(()));
        platform.stop();
    });
}

#[test]
fn an_edit_of_the_profile_ends_the_box_that_waits_and_a_box_of_the_new_version_waits() {
    on_each_engine(|platform| {
        let profile = platform.home().join("profiles/default.toml");
        let old = the_one(&platform);
        fs::write(&profile, format!("{}[limits]\nmemory-mib = 333\n", platform.engine())).unwrap();
        // What is run at once is a run of the new version, whether or not the pool knows of it yet.
        drop(platform.ok(&["exec", "--", "true"]));
        let entries = last(&platform);
        assert!(!boxes(&entries).contains(&old.name), "a run of one version got the box of another");
        let readings: Vec<&Value> = events(&entries, "walls").flat_map(|e| e["readings"].as_array().unwrap()).collect();
        let memory = readings.iter().find(|reading| reading["wall"] == "memory").unwrap();
        assert_eq!(memory["read"], (333u64 << 20).to_string());
        gone(&old);
        let new = the_one(&platform);
        fs::write(&profile, format!("{}[limits]\nmemory-mib = 222\n", platform.engine())).unwrap();
        gone(&new);
        // A profile that is no more has no box.
        let newest = the_one(&platform);
        fs::write(&profile, "this is no profile").unwrap();
        gone(&newest);
        platform.stop();
    });
}

#[test]
fn a_killed_operator_leaves_nothing_of_the_box_that_waited_and_the_next_one_has_its_own() {
    on_each_engine(|platform| {
        let old = the_one(&platform);
        kill(platform.pid_of("operator").unwrap());
        gone(&old);
        let new = the_one(&platform);
        assert_ne!(old.name, new.name);
        let images = || fs::read_dir(platform.home().join("operator/warm")).unwrap().count();
        // An image and its uid.
        eventually("the old image's end", || (images() == 2).then_some(()));
        drop(platform.ok(&["exec", "--", "true"]));
        platform.stop();
    });
}

#[test]
fn a_platform_that_is_killed_leaves_no_box_that_waits() {
    let mut platform = Platform::start_with(VOLARY, &WARM);
    let old = the_one(&platform);
    platform.kill();
    gone(&old);
    platform.up(&WARM);
    assert_ne!(the_one(&platform).name, old.name);
    platform.stop();
}

#[test]
fn a_box_that_is_killed_while_it_waits_or_is_claimed_costs_the_run_nothing() {
    on_each_engine(|platform| {
        let turns = json!([
            {"text": "A file.", "tools": [{"name": "write", "input": {"path": "before", "content": "before\n"}}]},
            {"text": "One command.", "tools": [{"name": "shell", "input": {"command": "echo once >> once"}}]},
            {"text": "Done."}
        ]);
        platform.script("script", &turns, "sk-test-never-shown-4711");
        let repo = Repo::failing();
        // Before the run is there, and sooner and later while it takes the box.
        for (n, ms) in [0, 0, 5, 10, 20, 40].into_iter().enumerate() {
            let box_ = the_one(&platform);
            let victim = if n % 2 == 0 { box_.pid } else { parent(box_.pid) };
            // Docker's boxes have the daemon's child as parent, which is not ours to kill.
            let victim = if platform.docker().is_some() { box_.pid } else { victim };
            if ms == 0 {
                kill(victim);
                // One that is not gone yet may be claimed still.
                gone(&box_);
            }
            let mut run = platform.command();
            let mut run = run.args(["run", "--repo", repo.path_str(), "work"]).spawn().unwrap();
            if ms > 0 {
                std::thread::sleep(Duration::from_millis(ms));
                kill(victim);
            }
            assert!(run.wait().unwrap().success(), "{ms} ms");
            let entries = last(&platform);
            let diff = events(&entries, "result").next().unwrap()["diff"].as_str().unwrap().to_owned();
            // Killed between the command's record and its effect: then the agent is told that nobody knows.
            let told = events(&entries, "tool-result").last().unwrap()["text"].as_str().unwrap().to_owned();
            let times = diff.matches("+once").count();
            assert!(times == 1 || ms > 0 && times == 0 && told.starts_with("Outcome unknown"), "{told}\n{diff}");
            if ms == 0 {
                assert_eq!(boxes(&entries).len(), 1, "a box that was dead before counts as an attempt");
            }
            gone(&box_);
        }
        platform.stop();
    });
}

#[test]
fn where_none_is_to_wait_none_does() {
    let platform = Platform::start_with(VOLARY, &["--warm", "0"]);
    drop(platform.ok(&["exec", "--", "true"]));
    assert_eq!(waiting(&platform), []);
    assert_eq!(fs::read_dir(Path::new(platform.home()).join("operator/warm")).unwrap().count(), 0);
    platform.stop();
}

#[test]
fn a_box_that_is_changed_from_outside_is_ended_and_the_run_goes_on_in_another() {
    on_each_engine(changed_from_outside);
}

fn changed_from_outside(platform: Platform) {
    let turns = json!([
        {"text": "A command.", "tools": [{"name": "shell", "input": {"command": "echo begun >> once; sleep 300"}}]},
        {"text": "Done."}
    ]);
    platform.script("script", &turns, "sk-test-never-shown-4711");
    let repo = Repo::failing();
    let first = the_one(&platform);
    let run = platform.json(&["run", "--background", "--json", "--repo", repo.path_str(), "work"]);
    let run = run["run"].as_str().unwrap().to_owned();
    let entries = || platform.json_lines(&["log", &run, "--json"]);
    eventually("its command", || events(&entries(), "command").next().map(drop));
    // Somebody with root on the host is generous: the box may have more processes than its profile says, and its share of
    // the processor five times as often.
    let operator = rustix::process::Pid::from_raw(platform.pid_of("operator").unwrap().cast_signed()).unwrap();
    let (file, text) = if is_v2() { ("cpu.max", "200000 20000") } else { ("cpu.cfs_period_us", "20000") };
    // Both between two looks of the operator's.
    rustix::process::kill_process(operator, rustix::process::Signal::STOP).unwrap();
    let written =
        [fs::write(group(&first, "pids").join("pids.max"), "7777"), fs::write(group(&first, "cpu").join(file), text)];
    rustix::process::kill_process(operator, rustix::process::Signal::CONT).unwrap();
    written.into_iter().for_each(|written| written.unwrap());
    let entries = eventually("its end", || {
        let entries = entries();
        let is_over = events(&entries, "ended").next().is_some();
        is_over.then_some(entries)
    });
    assert_eq!(events(&entries, "ended").next().unwrap()["outcome"], "done", "{entries:#?}");
    assert_eq!(boxes(&entries).len(), 2);
    for wall in ["processes (promised 256, read 7777)", "processor (promised 200000 of 100000, read 200000 of 20000)"] {
        let said = |event: &Value| event["reason"].as_str().unwrap_or_default().contains(wall);
        assert!(events(&entries, "broken-off").any(said), "{wall}: {entries:#?}");
    }
    platform.stop();
}
