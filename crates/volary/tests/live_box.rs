//! A live box, searched from the host as root for the model's real key: it must be nowhere that a box can reach. For every
//! other kind of secret, and in every form, the leak hunt does the same (`leaks/live.rs`).
//!
//! The same search finds the run's handle in the agent's memory and a mark in a command's environment, so that a
//! search that sees nothing proves nothing. Then the platform's own processes are searched, and tried against one another.

#[path = "shared/boxes.rs"]
mod boxes;

use boxes::{memory_of, processes_of_boxes, words};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use testkit::{Platform, Repo, eventually};

/// The real key: never an argument, never in a file of this test.
const KEY: &str = "sk-live-box-4f0c8b52d7e94c0aa1b6e35f7d2c9081";
/// Stands in the environment of the box's long command.
const MARK: &str = "mark-of-the-long-command";

/// A run whose agent waits for a long command, and the processes of its box as the host numbers them.
struct Live {
    platform: Platform,
    client: Child,
    _repo: Repo,
    box_pids: Vec<u32>,
}

impl Live {
    fn start() -> Self {
        let platform = Platform::start(env!("CARGO_BIN_EXE_volary"));
        let repo = Repo::failing();
        let turns = json!([
            {"text": "I wait.", "tools": [{"name": "shell", "input": {"command": format!("WITH={MARK} exec sleep 1000")}}]},
            {"text": "Done.", "tools": []},
        ]);
        platform.script("waiter", &turns, KEY);
        // A small worktree: its image is among the files that are searched.
        fs::write(platform.home().join("profiles/small.toml"), "[limits]\nworktree-mib = 16\n").unwrap();
        let client = platform
            .command()
            .args(["run", "--profile", "small", "--repo", repo.path_str(), "--model", "waiter", "--json", "wait"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let box_pids = eventually("the box's long command", || {
            let pids = processes_of_boxes(platform.label());
            pids.iter().any(|pid| words(*pid).starts_with("sleep 1000")).then_some(pids)
        });
        Self { platform, client, _repo: repo, box_pids }
    }

    /// The one process of the box whose command line begins so.
    fn process(&self, start: &str) -> u32 {
        let found: Vec<u32> = self.box_pids.iter().copied().filter(|pid| words(*pid).starts_with(start)).collect();
        assert_eq!(found.len(), 1, "{start}: {:?}", self.box_pids.iter().map(|pid| words(*pid)).collect::<Vec<_>>());
        found[0]
    }

    fn end(mut self) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.client), rustix::process::Signal::INT)
            .unwrap();
        self.client.wait().unwrap();
        self.platform.down();
    }
}

/// Whether `text` is in `bytes`. The C library's search: a search of gigabytes, unoptimised, would take minutes.
fn holds(bytes: &[u8], text: &str) -> bool {
    // SAFETY: both are read within their lengths only.
    let at = unsafe { libc::memmem(bytes.as_ptr().cast(), bytes.len(), text.as_ptr().cast(), text.len()) };
    !at.is_null()
}

/// Reads on from `read` to its end and says whether `text` is there, wherever pieces meet.
fn stream_holds(mut read: impl Read, text: &str) -> std::io::Result<bool> {
    let mut data = vec![0; 1 << 20];
    let mut held = 0;
    loop {
        let got = read.read(&mut data[held..])?;
        if got == 0 {
            return Ok(false);
        }
        held += got;
        if holds(&data[..held], text) {
            return Ok(true);
        }
        let keep = held.min(text.len() - 1);
        data.copy_within(held - keep..held, 0);
        held = keep;
    }
}

/// Whether a process's memory holds `text`, and how many bytes of it were read.
fn memory_holds(pid: u32, text: &str) -> (bool, u64) {
    let mut found = false;
    let bytes = memory_of(pid, text.len(), |piece| found |= holds(piece, text)).expect("it lives");
    (found, bytes)
}

/// Length of a handle: its prefix, and 52 characters of base 32.
const HANDLE: usize = 3 + 52;

/// The handles in these bytes, whole.
fn handles(bytes: &[u8]) -> BTreeSet<String> {
    let at = (0..bytes.len().saturating_sub(HANDLE - 1)).filter(|at| bytes[*at..].starts_with(b"vh_"));
    let of = at.map(|at| String::from_utf8_lossy(&bytes[at..at + HANDLE]).into_owned());
    of.filter(|text| text[3..].bytes().all(|b| matches!(b, b'a'..=b'z' | b'2'..=b'7'))).collect()
}

/// The handles in a process's memory.
fn memory_handles(pid: u32) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    memory_of(pid, HANDLE, |piece| found.extend(if holds(piece, "vh_") { handles(piece) } else { BTreeSet::new() }))
        .expect("it lives");
    found
}

/// Every regular file beneath a folder that holds `text`, and how many were read. Other file systems are entered.
fn files_holding(root: &Path, text: &str, skip: &[&str]) -> (Vec<PathBuf>, usize) {
    let (mut found, mut read, mut folders) = (Vec::new(), 0, vec![root.to_path_buf()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let inside = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            let Ok(kind) = entry.file_type() else { continue };
            if kind.is_dir() && !skip.contains(&inside.as_str()) {
                folders.push(path);
            } else if kind.is_file() && !kind.is_fifo() {
                // What vanished meanwhile, or is no file to read, cannot be read by a box either.
                let Ok(file) = File::open(&path) else { continue };
                read += 1;
                if stream_holds(file, text).unwrap_or(false) {
                    found.push(path);
                }
            }
        }
    }
    (found, read)
}

#[test]
fn the_real_key_is_nowhere_in_a_live_box_and_the_handle_is() {
    let live = Live::start();
    assert!(live.box_pids.len() >= 3, "runner, agent and command: {:?}", live.box_pids);
    let (runner, agent, command) =
        (live.process("/run/volary/runner"), live.process("/run/volary/agent"), live.process("sleep 1000"));

    // What git shows at the door for the run's repository: commands have it, and it is no model's.
    let gits = handles(&fs::read(format!("/proc/{command}/environ")).unwrap());
    assert_eq!(gits.len(), 1, "git's handle alone");
    for pid in &live.box_pids {
        for file in ["environ", "cmdline"] {
            let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap();
            assert!(!holds(&bytes, KEY), "the key is in the {file} of {}", words(*pid));
            let of_command = file == "environ" && ![runner, agent].contains(pid);
            let may: &BTreeSet<String> = if of_command { &gits } else { &BTreeSet::new() };
            assert!(handles(&bytes).is_subset(may), "a handle is in the {file} of {}", words(*pid));
        }
        let (found, bytes) = memory_holds(*pid, KEY);
        assert!(!found, "the key is in the memory of {}", words(*pid));
        assert!(bytes > 50_000, "only {bytes} bytes of {} were read", words(*pid));
    }
    // The controls: the same searches see what is there.
    assert!(holds(&fs::read(format!("/proc/{command}/environ")).unwrap(), MARK));
    let agents = memory_handles(agent);
    assert!(!agents.is_empty() && agents.is_disjoint(&gits), "the agent holds its handle, and not git's");
    assert!(memory_handles(command).is_subset(&gits), "a command holds the agent's handle");
    assert!(memory_holds(runner, MARK).0, "the runner was asked for the command");

    // Its files, by its own mount tree. /usr is the host's system and the same for all; /proc is what was read above.
    let root = PathBuf::from(format!("/proc/{agent}/root"));
    let (found, read) = files_holding(&root, KEY, &["usr", "proc"]);
    assert_eq!(found, Vec::<PathBuf>::new());
    assert!(read > 20, "only {read} files were read");
    let (found, _) = files_holding(&root, "return a < b ? a : b;", &["usr", "proc"]);
    assert!(found.contains(&root.join("workspace/max.c")), "the control: {found:?}");
    live.end();
}

#[test]
fn the_key_lies_sealed_on_the_disk_and_in_no_command_line_or_environment_of_the_platform() {
    let live = Live::start();
    for name in ["server", "gateway", "operator"] {
        let pid = live.platform.pid_of(name).unwrap();
        for file in ["environ", "cmdline"] {
            let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap();
            assert!(!holds(&bytes, KEY), "the key is in the {file} of the {name}");
        }
    }
    let operator = live.platform.pid_of("operator").unwrap();
    assert!(!memory_holds(operator, KEY).0, "the operator holds the key");
    assert!(memory_holds(operator, "waiter").0 || memory_holds(operator, "volary").0, "the control");
    let home = live.platform.home();
    let (found, read) = files_holding(home, KEY, &[]);
    assert_eq!(found, Vec::<PathBuf>::new());
    assert!(read > 5, "only {read} files of the home were read");
    // The control: the name of the secret is a fact and is there.
    assert!(!files_holding(home, "model/scripted", &[]).0.is_empty());
    live.end();
}

/// What a program run as `uid` says: `cat` of each of a process's files, signals to it, its database.
fn as_uid(uid: u32, line: &str) -> String {
    use std::os::unix::process::CommandExt;
    let out = Command::new("sh").args(["-c", line]).uid(uid).gid(uid).current_dir("/").output().unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn uid_of(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn server_and_gateway_cannot_read_or_signal_one_another_even_under_the_others_uid() {
    let live = Live::start();
    let pid = |name: &str| live.platform.pid_of(name).unwrap();
    let (server, gateway, operator) = (pid("server"), pid("gateway"), pid("operator"));
    let uids = [uid_of(server), uid_of(gateway), uid_of(operator)];
    assert!(uids[0] != uids[1] && uids[0] != 0 && uids[1] != 0 && uids[2] == 0, "{uids:?}");
    let boxed = live.box_pids[0];
    let uids = [uids[0], uids[1], uid_of(boxed)];
    for uid in uids {
        for target in [server, gateway, operator, boxed] {
            // Even its own uid opens none of them: they are not dumpable. Commands of a box are, to their own.
            for file in ["mem", "environ", "maps", "fd/0"] {
                let said = as_uid(uid, &format!("head -c 1 /proc/{target}/{file} >/dev/null 2>&1; echo $?"));
                assert_ne!(said, "0\n", "uid {uid} reads {file} of {}", words(target));
            }
            if uid_of(target) != uid {
                assert_ne!(
                    as_uid(uid, &format!("kill -0 {target} 2>/dev/null; echo $?")),
                    "0\n",
                    "uid {uid} signals {target}"
                );
            }
        }
        // The server's uid owns its rows, and nobody's but root's is the key that they are sealed with.
        for (file, readers) in [("server/volary.db", &uids[..1]), ("keys/kek", &uids[..0])] {
            let path = live.platform.home().join(file);
            assert!(path.exists(), "{file}");
            let said = as_uid(uid, &format!("head -c 1 '{}' >/dev/null 2>&1; echo $?", path.display()));
            assert_eq!(said == "0\n", readers.contains(&uid), "uid {uid} and {file}");
        }
        for file in ["operator", "log", "keys"] {
            let path = live.platform.home().join(file);
            assert_ne!(
                as_uid(uid, &format!("ls '{}' >/dev/null 2>&1; echo $?", path.display())),
                "0\n",
                "uid {uid} lists {file}"
            );
        }
    }
    // The control: the helper program reads what it may.
    assert_eq!(as_uid(uids[0], "head -c 1 /proc/self/environ >/dev/null 2>&1; echo $?"), "0\n");
    live.end();
}

#[test]
fn status_reads_every_wall_of_every_process_back() {
    let live = Live::start();
    let status = eventually("a status in which all holds", || {
        let out = live.platform.cli(&["status", "--json"]);
        let status: Value = serde_json::from_slice(&out.stdout).ok()?;
        (status["all_hold"] == true).then_some(status)
    });
    let boxes = status["boxes"].as_object().unwrap().values();
    let of_boxes = boxes.flat_map(|found| found["processes"].as_array().unwrap());
    let told: Vec<&Value> = status["processes"].as_array().unwrap().iter().chain(of_boxes).collect();
    let names = ["server", "gateway", "operator"].map(|name| live.platform.pid_of(name).unwrap());
    for pid in names.iter().chain(&live.box_pids) {
        let process = told.iter().find(|process| process["pid"] == *pid).unwrap_or_else(|| panic!("{pid}: {status:#}"));
        let own = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let fact = |what: &str| process["facts"].as_array().unwrap().iter().find(|fact| fact["what"] == what);
        for (what, key) in [
            ("uid", "Uid:"),
            ("seccomp", "Seccomp:"),
            ("no new privileges", "NoNewPrivs:"),
            ("capabilities", "CapEff:"),
            ("capability bound", "CapBnd:"),
        ] {
            let kernel = own.lines().find_map(|line| line.strip_prefix(key)).unwrap();
            let kernel = kernel.split_whitespace().collect::<Vec<_>>().join(" ");
            // Of the platform's own processes no set of capabilities is told.
            let Some(fact) = fact(what) else {
                assert!(names.contains(pid) && what.starts_with("capabilit"), "{what}: {process:#}");
                continue;
            };
            assert_eq!((fact["read"].as_str(), &fact["holds"]), (Some(&*kernel), &json!(true)), "{what}: {process:#}");
        }
    }
    live.end();
}
