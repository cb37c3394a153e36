//! A platform whose parts can be killed, and what must hold when all is quiet again.

use model::event::Source;
use model::{Entry, Event, Outcome, RunId};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use testkit::{Platform, Repo, eventually};

/// Said to the agent of a tool call that was under way when its box was lost.
pub const UNKNOWN: &str = "Outcome unknown";
/// Boxes that a run may have.
pub const MOST_ATTEMPTS: usize = 3;

/// Who can be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Victim {
    /// The server.
    Server,
    /// The gateway.
    Gateway,
    /// The operator.
    Operator,
    /// Process 1 of a box.
    Runner,
    /// The agent in a box.
    Agent,
    /// The process of the operator that holds a box.
    Helper,
    /// `volary up`.
    Up,
}

/// The victims.
pub const VICTIMS: [Victim; 7] =
    [Victim::Server, Victim::Gateway, Victim::Operator, Victim::Runner, Victim::Agent, Victim::Helper, Victim::Up];

/// A platform, a repository, and what the operator's journals were seen to hold.
pub struct World {
    pub platform: Platform,
    pub repo: Repo,
    seen: BTreeMap<String, BTreeMap<u64, Event>>,
}

impl World {
    /// A platform with a model that follows a script, and a repository.
    pub fn of(script: &Value) -> Self {
        let platform = Platform::start_on_engine_of_environment(env!("CARGO_BIN_EXE_volary"));
        platform.script("script", script, "sk-test-never-shown-4711");
        Self { platform, repo: Repo::failing(), seen: BTreeMap::new() }
    }

    /// Starts an agent and gives the run's id.
    pub fn begin(&self) -> String {
        let said = self.platform.json(&["run", "--background", "--json", "--repo", self.repo.path_str(), "work"]);
        said["run"].as_str().expect("a run has an id").to_owned()
    }

    /// The transcript so far; none while the server does not answer.
    pub fn entries(&self, run: &str) -> Option<Vec<Entry>> {
        let out = self.platform.cli(&["log", run, "--json"]);
        let text = String::from_utf8(out.stdout).expect("a transcript is UTF-8");
        let read = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        out.status.success().then(|| text.lines().map(read).collect())
    }

    /// Waits for an event of a run and gives what `look` makes of it.
    pub fn wait<T>(&self, run: &str, what: &str, mut look: impl FnMut(&Event) -> Option<T>) -> T {
        eventually(what, || self.entries(run)?.iter().find_map(|entry| look(&entry.event)))
    }

    /// Waits until a command of the run has said a word.
    pub fn wait_output(&self, run: &str) {
        self.wait(run, "a word of the command", |event| matches!(event, Event::Output { .. }).then_some(()));
    }

    /// The process to kill; none when it is not there at this moment. Of boxes the first one's.
    pub fn find(&self, victim: Victim) -> Option<Pid> {
        let pid = match victim {
            Victim::Server => self.platform.pid_of("server"),
            Victim::Gateway => self.platform.pid_of("gateway"),
            Victim::Operator => self.platform.pid_of("operator"),
            Victim::Runner => self.runner(),
            Victim::Agent => self.boxed().into_iter().find(|pid| is_agent(*pid)),
            Victim::Helper => self.helper(),
            Victim::Up => None,
        };
        Pid::from_raw(pid?.cast_signed())
    }

    fn boxed(&self) -> Vec<u32> {
        boxes(&self.platform).into_values().flatten().collect()
    }

    fn runner(&self) -> Option<u32> {
        self.boxed().into_iter().find(|pid| status(*pid, "NSpid:") == Some(1))
    }

    /// A helper is there before there is anything in its box.
    fn helper(&self) -> Option<u32> {
        let operator = self.platform.pid_of("operator")?;
        let threads = fs::read_dir(format!("/proc/{operator}/task")).ok()?.flatten();
        let lists: String =
            threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok()).collect();
        lists.split_whitespace().filter_map(|pid| pid.parse().ok()).find(|pid| is_helper(*pid))
    }

    /// Kills it without a warning; false when it is not there. `up` is started again at once, as a person would;
    /// all others are the platform's own to start again.
    pub fn kill(&mut self, victim: Victim) -> bool {
        let killed = if victim == Victim::Up {
            self.platform.kill();
            true
        } else {
            self.find(victim).is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok())
        };
        self.look_into_journals();
        if victim == Victim::Up {
            self.platform.up(&[]);
        }
        killed
    }

    /// Stops `volary up`, so that it starts nothing again, or lets it go on.
    pub fn stop_up(&self, stopped: bool) {
        let state = fs::read_to_string(self.platform.home().join("run/up.json")).expect("the platform is up");
        let state: Value = serde_json::from_str(&state).expect("its state is JSON");
        let pid = i32::try_from(state["pid"].as_i64().expect("a number")).ok().and_then(Pid::from_raw);
        let signal = if stopped { Signal::STOP } else { Signal::CONT };
        kill_process(pid.expect("a process"), signal).expect("volary up lives");
    }

    /// Remembers every whole record of every journal: from now on it must never be lost, changed or doubled.
    fn look_into_journals(&mut self) {
        for folder in fs::read_dir(self.platform.home().join("operator/runs")).into_iter().flatten().flatten() {
            let run = folder.file_name().to_string_lossy().into_owned();
            let bytes = fs::read(folder.path().join("journal")).unwrap_or_default();
            for (seq, event) in records(&run, &bytes) {
                let seen = self.seen.entry(run.clone()).or_default();
                let before = seen.entry(seq).or_insert_with(|| event.clone());
                assert_eq!(*before, event, "the journal of {run} changed at {seq}");
            }
        }
    }

    /// Waits until the run is over and gives its transcript.
    pub fn over(&self, run: &str) -> Vec<Entry> {
        let ended = |entries: &Vec<Entry>| entries.iter().any(|entry| matches!(entry.event, Event::Ended { .. }));
        eventually(&format!("the end of {run}"), || self.entries(run).filter(ended))
    }

    /// Waits until every run is over and no box is there, and holds everything to what must be true. The platform
    /// is down afterwards, with nothing left behind.
    pub fn judge(mut self, runs: &[String]) -> BTreeMap<String, Vec<Entry>> {
        for run in runs {
            drop(self.over(run));
        }
        eventually("the end of every box", || boxes(&self.platform).is_empty().then_some(()));
        eventually("the end of every journal", || {
            let left = fs::read_dir(self.platform.home().join("operator/runs")).expect("the operator's folder").count();
            (left == 0).then_some(())
        });
        let transcripts: BTreeMap<String, Vec<Entry>> =
            runs.iter().map(|run| (run.clone(), self.entries(run).expect("the server is back"))).collect();
        for (run, entries) in &transcripts {
            numbers(run, entries);
            self.nothing_lost(run, entries);
            ends(run, entries);
            self.effects(run, entries);
        }
        let all = self.platform.json(&["runs", "--json"]);
        for view in all.as_array().expect("a list of runs") {
            let state = view["state"].as_str().unwrap_or_default();
            assert!(["done", "failed", "cancelled"].contains(&state), "in limbo: {view:#}");
            assert!(runs.iter().any(|run| view["run"] == run.as_str()), "nobody asked for {view:#}");
        }
        let refs = self.repo.git(&["for-each-ref", "--format=%(refname)", "refs/volary"]);
        assert_eq!(refs, "", "half an import is left");
        drop(self.platform.ok(&["verify"]));
        self.platform.down();
        no_handle_lives(self.platform.home(), &transcripts);
        transcripts
    }

    fn nothing_lost(&self, run: &str, entries: &[Entry]) {
        let taken: BTreeMap<u64, &Event> = entries
            .iter()
            .filter(|entry| entry.source == Source::Operator)
            .map(|entry| (entry.source_seq, &entry.event))
            .collect();
        for (seq, event) in self.seen.get(run).into_iter().flatten() {
            match taken.get(seq) {
                Some(kept) => assert_eq!(*kept, event, "{run}: event {seq} is not what the journal held"),
                None => panic!("{run}: event {seq} stood in the journal and is lost: {event:?}"),
            }
        }
    }

    /// Each tool call took effect at most once, and exactly once where the agent was told that it did; the branch of
    /// a run that is done has it.
    fn effects(&self, run: &str, entries: &[Entry]) {
        let (mut calls, mut results, mut begun) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for entry in entries {
            match &entry.event {
                Event::ToolCall { id, name, input, .. } => {
                    let before = calls.insert(id.clone(), (name.clone(), input.clone()));
                    assert_eq!(before, None, "{run}: the tool call {id} was made twice");
                }
                Event::ToolResult { id, ok, text, .. } => {
                    let before = results.insert(id.clone(), (*ok, text.clone()));
                    assert_eq!(before, None, "{run}: the tool call {id} was answered twice");
                }
                Event::Command { tool_call: Some(id), .. } => *begun.entry(id.clone()).or_insert(0) += 1,
                _ => {}
            }
        }
        for (id, times) in &begun {
            assert_eq!(*times, 1, "{run}: the command of {id} was begun {times} times");
        }
        if !done(entries) {
            return;
        }
        // A run that changed nothing has no branch, and says so; then nothing may have taken effect.
        let branch = entries.iter().rev().find_map(|entry| match &entry.event {
            Event::Result { branch, .. } => Some(branch.clone()),
            _ => None,
        });
        let branch = branch.unwrap_or_else(|| panic!("{run} is done and has no result"));
        let shown = |path: &str| {
            let branch = branch.as_deref()?;
            let listed = self.repo.git(&["ls-tree", "-r", "--name-only", branch]);
            listed.lines().any(|name| name == path).then(|| self.repo.git(&["show", &format!("{branch}:{path}")]))
        };
        let log = shown("log").unwrap_or_default();
        for (id, (name, input)) in &calls {
            let (ok, text) = results.get(id).unwrap_or_else(|| panic!("{run}: {id} was never answered"));
            let unknown = text.starts_with(UNKNOWN);
            assert!(*ok || unknown, "{run}: {id} went wrong by itself: {text}");
            match name.as_str() {
                "shell" => {
                    let word = input["command"].as_str().and_then(|c| c.split('\'').nth(1)).expect("a command's word");
                    let times = log.lines().filter(|line| *line == word).count();
                    let right = if unknown { times <= 1 } else { times == 1 };
                    assert!(right, "{run}: {word} stands {times} times after {text:?}:\n{log}");
                }
                "write" => {
                    let held = shown(input["path"].as_str().expect("a path"));
                    let content = input["content"].as_str().map(|text| text.trim_end().to_owned());
                    assert!(held == content || (unknown && held.is_none()), "{run}: {id} left {held:?}");
                }
                other => panic!("a tool that no script has: {other}"),
            }
        }
    }
}

/// A shell call of a script: appends `word` to the file `log`, says so, and takes `seconds` in all.
pub fn shell(word: &str, seconds: &str) -> Value {
    json!({"name": "shell", "input": {"command": format!("echo '{word}' >> log; echo begun; sleep {seconds}")}})
}

/// A write of a script.
pub fn write(path: &str) -> Value {
    json!({"name": "write", "input": {"path": path, "content": format!("the content of {path}\n")}})
}

/// Whether the run was done.
pub fn done(entries: &[Entry]) -> bool {
    entries.iter().any(|entry| matches!(entry.event, Event::Ended { outcome: Outcome::Done, .. }))
}

/// How many boxes the run had.
pub fn attempts(entries: &[Entry]) -> usize {
    entries.iter().filter(|entry| matches!(entry.event, Event::Attempt { .. })).count()
}

/// What the agent was told of its tool calls, in order.
pub fn results(entries: &[Entry]) -> Vec<&str> {
    entries
        .iter()
        .filter_map(|entry| if let Event::ToolResult { text, .. } = &entry.event { Some(text.as_str()) } else { None })
        .collect()
}

/// How the run ended, in words.
pub fn reason(entries: &[Entry]) -> &str {
    let reason = entries.iter().find_map(|entry| match &entry.event {
        Event::Ended { reason, .. } => Some(reason.as_str()),
        _ => None,
    });
    reason.expect("the run ended")
}

/// Entries are numbered without a gap, in all and by each source.
fn numbers(run: &str, entries: &[Entry]) {
    let gapless = |numbers: Vec<u64>| numbers.iter().copied().eq(1..=numbers.len() as u64);
    assert!(gapless(entries.iter().map(|entry| entry.n).collect()), "{run}: a gap in the transcript");
    for source in [Source::Operator, Source::Server] {
        let own: Vec<u64> = entries.iter().filter(|e| e.source == source).map(|e| e.source_seq).collect();
        assert!(gapless(own.clone()), "{run}: the numbers of {source:?} are {own:?}");
    }
}

/// It ended once, with a reason unless it is done; its attempts are numbered, and no more than allowed.
fn ends(run: &str, entries: &[Entry]) {
    let ends: Vec<&Entry> = entries.iter().filter(|entry| matches!(entry.event, Event::Ended { .. })).collect();
    assert_eq!(ends.len(), 1, "{run} ended more than once: {ends:#?}");
    assert!(done(entries) || !reason(entries).is_empty(), "{run} did not end well, and no one says why");
    let boxes: BTreeSet<String> = entries
        .iter()
        .filter_map(|e| if let Event::Attempt { box_id, .. } = &e.event { Some(box_id.to_string()) } else { None })
        .collect();
    let tried = attempts(entries);
    assert_eq!(boxes.len(), tried, "{run}: one box was made twice");
    assert!(tried <= MOST_ATTEMPTS, "{run} was tried {tried} times");
}

/// The boxes that exist: name → processes, from the control groups.
pub fn boxes(platform: &Platform) -> BTreeMap<String, Vec<u32>> {
    let state = fs::read_to_string(platform.home().join("run/up.json")).unwrap_or_default();
    let state: Value = serde_json::from_str(&state).unwrap_or_default();
    state["cgroup"].as_str().map(sandbox::read_back::boxes).unwrap_or_default()
}

/// The last number of a line of a process's status.
fn status(pid: u32, name: &str) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    text.lines().find(|line| line.starts_with(name))?.split_whitespace().last()?.parse().ok()
}

fn is_agent(pid: u32) -> bool {
    fs::read_link(format!("/proc/{pid}/exe"))
        .is_ok_and(|exe| exe.ends_with("agent") || exe == Path::new(api::inbox::AGENT_PATH))
}

/// Whether it is the helper of a box, and no other child of the operator.
fn is_helper(pid: u32) -> bool {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).any(|word| word == b"box-helper")
}

/// The whole records of a journal: number and event. A torn record at its end was acknowledged to nobody.
fn records(run: &str, bytes: &[u8]) -> Vec<(u64, Event)> {
    const HEAD: usize = 32;
    let (mut all, mut rest) = (Vec::new(), bytes);
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        let Some(body) = after.get(HEAD..HEAD + length) else { break };
        let Ok(record) = serde_json::from_slice::<Value>(body) else { break };
        let event = serde_json::from_value(record["event"].clone()).unwrap_or(Event::Unknown);
        let seq = record["seq"].as_u64().expect("a record has a number");
        assert_eq!(seq, all.len() as u64 + 1, "the journal of {run} has a gap");
        all.push((seq, event));
        rest = &after[HEAD + length..];
    }
    all
}

/// In the rows that the server leaves, no run that is over has a handle that works.
fn no_handle_lives(home: &Path, transcripts: &BTreeMap<String, Vec<Entry>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let store = store::Store::open(&home.join("server/volary.db")).await.expect("the rows open");
        for run in transcripts.keys() {
            let handles = store.handles(&RunId::parse(run).expect("a run's id")).await.expect("the rows can be read");
            assert!(!handles.is_empty(), "{run} never had a handle");
            assert!(handles.iter().all(|handle| handle.dead), "{run} is over and has a live handle: {handles:?}");
        }
    });
}
