//! What a person allows a live run: when it holds, and what an agent makes of it.

use super::VOLARY;
use serde_json::{Value, json};
use std::fs::{File, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::SystemTime;
use testkit::{ModelDouble, Outside, Platform, Repo, Turn, eventually};

/// What opens the hosts: a canary of its own kind, so that it is found wherever it lies.
const SECRET: &str = "canary-of-the-tracker-8f2a61c07d";
const KEY: &str = "sk-ant-api03-of-accepting";

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn shell(command: &str) -> (String, Value) {
    ("shell".into(), json!({ "command": command, "timeout": 500 }))
}

fn under_lease(command: &str, lease: usize) -> (String, Value) {
    ("shell".into(), json!({ "command": command, "timeout": 500, "lease": format!("{{lease {lease}}}") }))
}

fn wish(capability: &str, destination: &str) -> (String, Value) {
    ("lease".into(), json!({ "capability": capability, "destination": destination, "reason": "to file an issue" }))
}

fn turn(tools: Vec<(String, Value)>) -> Turn {
    Turn { tools, ..Turn::says("I go on.") }
}

/// An agent's run on a platform before the outside, whose model does so.
struct Agent {
    outside: Outside,
    platform: Platform,
    double: ModelDouble,
    repo: Repo,
}

impl Agent {
    fn new(turns: Vec<Turn>) -> Self {
        let outside = Outside::enter();
        let platform = Platform::start_with(VOLARY, &outside.options());
        let double = ModelDouble::start(KEY, turns);
        platform.secret("model/anthropic", KEY);
        platform.secret("capability/tracker", SECRET);
        let base = double.url();
        let add = ["model", "add", "m", "--provider", "anthropic", "--id", "claude-test", "--price", "3,15"];
        drop(platform.ok(&[&add[..], &["--base", &base, "--internal"]].concat()));
        Self { outside, platform, double, repo: Repo::failing() }
    }

    fn run(&self, profile: &[&str]) -> Command {
        let mut command = self.platform.command();
        command.args(["run", "--repo", self.repo.path_str(), "--model", "m", "--json"]).args(profile);
        command.arg("file an issue").stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The results of the tools of a run, in their order, from what its command printed.
    fn results(said: &str) -> Vec<String> {
        let events = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let result = |entry: Value| {
            let event = &entry["event"];
            (event["kind"] == "tool-result").then(|| event["text"].as_str().unwrap_or_default().to_owned())
        };
        events.filter_map(result).collect()
    }

    /// The requests that reached a host, with what they showed there.
    fn heard(&self) -> Vec<(String, String)> {
        let one = |head: String| {
            let shown = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("authorization").then(|| value.trim().to_owned())
            });
            let host =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("host: ").map(str::to_owned));
            (
                format!("{} {}", host.unwrap_or_default(), head.lines().next().unwrap_or_default()),
                shown.unwrap_or_default(),
            )
        };
        self.outside.heard().into_iter().map(one).collect()
    }

    /// Neither the model nor the record, nor a file of the home, ever held the secret.
    fn told_nowhere(&self, said: &str) {
        assert!(!said.contains(SECRET), "{said}");
        assert!(self.double.requests().iter().all(|request| !text(&request.body).contains(SECRET)));
        let kept = Command::new("grep").args(["-rlaF", SECRET]).arg(self.platform.home()).output().expect("grep runs");
        assert_eq!(text(&kept.stdout), "", "kept in a file");
    }
}

#[test]
fn an_agent_whose_write_a_person_allows_is_told_how_asks_a_lease_and_makes_it_in_the_same_live_run() {
    let posts = "curl -sS -X POST -d '{}' https://api.example.org/v1/issues";
    let waits =
        format!("until said=$({posts}) && echo \"$said\" | grep -q write.handle; do sleep 0.2; done; echo \"$said\"");
    let files = "sh -c 'curl -sS -X POST -H \"Authorization: Bearer $VOLARY_HANDLE\" -d {} https://api.example.org/v1/issues; \
                 echo; echo \"given ${#VOLARY_HANDLE}\"; env >/workspace/environment; echo $VOLARY_HANDLE >/workspace/handle'";
    let again = "curl -sS -X POST -H \"Authorization: Bearer $(cat /workspace/handle)\" -d {} https://api.example.org/v1/issues; \
                 echo; echo \"own: ${VOLARY_HANDLE:-none}\"; grep -c canary /workspace/environment";
    let agent = Agent::new(vec![
        turn(vec![shell(posts)]),
        turn(vec![shell(&waits)]),
        turn(vec![wish("tracker", "api.example.org")]),
        turn(vec![under_lease(files, 1)]),
        turn(vec![shell(again)]),
        Turn::says("It is filed."),
    ]);
    let platform = &agent.platform;
    let child = agent.run(&[]).spawn().expect("volary starts");
    // A second refusal of it: the run is in its loop, live.
    let run = eventually("the refused write", || {
        let run = platform.json(&["runs", "--json"])[0]["run"].as_str()?.to_owned();
        let refused = platform.json(&["explain", &run, "--json"]);
        (refused[0]["rule"] == "write.no-row" && refused[0]["times"].as_u64()? > 1).then_some(run)
    });
    let shown = platform.ok(&["explain", &run, "1"]);
    assert!(shown.contains("by commands under leases of this capability"), "{shown}");
    let allowed = platform.ok(&["allow", &run, "1", "--capability", "tracker", "--yes"]);
    assert!(allowed.contains("Allowed.") && allowed.contains("leases of this capability"), "{allowed}");
    let out = child.wait_with_output().expect("it ends");
    let said = format!("{}{}", text(&out.stdout), text(&out.stderr));
    assert!(out.status.success(), "{said}");

    let results = Agent::results(&said);
    let [first, told, lease, filed, after] = &results[..] else { panic!("{results:#?}\n{said}") };
    assert!(first.contains("write.no-row"), "{first}");
    for word in ["ask the tool `lease`", "tracker", "api.example.org", "Authorization: Bearer $VOLARY_HANDLE"] {
        assert!(told.contains(word), "{word}: {told}");
    }
    assert!(!told.contains("Do not send this again"), "{told}");
    assert!(lease.contains("any that you cannot write"), "{lease}");
    assert!(filed.contains("the outside heard POST /v1/issues") && filed.contains("given 55"), "{filed}");
    // Its handle is dead when the command is, and no other command has one; nothing of the box held the secret.
    assert!(after.contains("handle.unknown") && after.contains("own: none\n0\n"), "{after}");
    let heard = agent.heard();
    let expected = ("api.example.org POST /v1/issues HTTP/1.1".to_owned(), format!("Bearer {SECRET}"));
    assert_eq!(heard, [expected], "once, with the secret itself");
    agent.told_nowhere(&said);

    // One box, one attempt; the record says who allowed it, and by which program it was used.
    let entries = platform.json_lines(&["log", &run, "--json"]);
    let kinds = |kind: &str| entries.iter().filter(|entry| entry["event"]["kind"] == kind).count();
    assert_eq!((kinds("attempt"), kinds("profile-changed")), (1, 1));
    let leases = platform.json(&["lease", "list", "--all", "--json"]);
    let one = &leases[0];
    let told = ["capability", "destination", "state", "delivery"].map(|name| one[name].as_str().unwrap_or_default());
    assert_eq!(told, ["tracker", "api.example.org", "completed", "proxy"], "{leases}");
    assert!(one["used_by"].as_str().is_some_and(|by| by.ends_with("/sh")), "{leases}");
    assert!(platform.cli(&["verify"]).status.success());
    drop(agent);
}

#[test]
fn a_lease_of_a_row_is_for_its_host_its_port_and_its_capability_and_for_no_program_of_the_worktree() {
    let rows = ["tracker api.example.org", "tracker other.example.org", "other third.example.org"].map(|row| {
        let (capability, host) = row.split_once(' ').expect("two words");
        format!("[[egress.write]]\ncapability = {capability:?}\nhost = {host:?}\nmethod = \"POST\"\npath = \"/v1\"\n")
    });
    let all = "sh -c 'for host in api other third; do curl -sS -X POST -H \"Authorization: Bearer $VOLARY_HANDLE\" -d {} \
               https://$host.example.org/v1/x; echo; done'";
    let copies = "cp /bin/sh /workspace/mine && chmod +x /workspace/mine && echo copied";
    let agent = Agent::new(vec![
        turn(vec![wish("tracker", "api.example.org")]),
        turn(vec![wish("tracker", "third.example.org")]),
        turn(vec![wish("none", "api.example.org")]),
        turn(vec![shell(copies)]),
        turn(vec![under_lease("/workspace/mine -c 'echo ran $VOLARY_HANDLE'", 1)]),
        turn(vec![under_lease(all, 1)]),
        Turn::says("It is done."),
    ]);
    agent.platform.secret("capability/other", "canary-of-the-other-one");
    std::fs::write(agent.platform.home().join("profiles/rows.toml"), rows.concat()).expect("a profile");
    let out = agent.run(&["--profile", "rows"]).output().expect("volary runs");
    let said = format!("{}{}", text(&out.stdout), text(&out.stderr));
    assert!(out.status.success(), "{said}");
    let results = Agent::results(&said);
    let [given, elsewhere, unnamed, copied, mine, posted] = &results[..] else { panic!("{results:#?}\n{said}") };
    assert!(given.starts_with("lease "), "{given}");
    assert!(elsewhere.contains("lease.destination") && unnamed.contains("it has tracker, other"), "{results:#?}");
    assert!(
        copied.contains("copied") && mine.contains("can be written in this box") && !mine.contains("ran"),
        "{mine}"
    );
    let (api, rest) = posted.split_once('\n').expect("lines");
    assert!(api.contains("the outside heard POST /v1/x"), "{posted}");
    for rule in ["lease.destination", "handle.other-capability"] {
        assert!(rest.contains(rule), "{rule}: {posted}");
    }
    assert_eq!(agent.heard().len(), 1, "{:?}", agent.heard());
    // Its model was told of the rows when it began.
    let first = text(&agent.double.requests()[0].body);
    for line in ["- tracker (command): api.example.org, other.example.org", "POST https://third.example.org/v1"] {
        assert!(first.contains(line), "{line}: {first}");
    }
    agent.told_nowhere(&said);
}

/// Asks as fast as it can until the folder's gate is open, with the moment before each question.
const TRIES: &str = r#"until [ -e GATE/open ]; do
  at=$(date +%s%3N); said=$(curl -sS http://docs.example.org/guide 2>&1)
  case "$said" in *"outside heard"*) echo "$at let-out";; *read.none*) echo "$at refused";; *) echo "$at $said";; esac
done"#;

#[test]
fn of_what_a_run_asks_for_a_second_after_a_person_allowed_it_nothing_is_refused_by_the_table_before() {
    let outside = Outside::enter();
    let platform = Platform::start_with(VOLARY, &outside.options());
    let gate = tempfile::Builder::new().prefix("volary-g-").tempdir_in("/tmp").expect("a folder");
    std::fs::set_permissions(gate.path(), Permissions::from_mode(0o755)).expect("its mode");
    let profile = format!("folders = [{{ path = {:?} }}]\n[egress]\nreads = \"none\"\n", gate.path());
    std::fs::write(platform.home().join("profiles/none.toml"), profile).expect("a profile");
    let script = TRIES.replace("GATE", gate.path().to_str().expect("a plain path"));
    let mut command = platform.command();
    command.args(["exec", "--profile", "none", "--", "sh", "-c", &script]).stdout(Stdio::piped());
    let mut child = command.spawn().expect("volary starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut next = || -> (i64, String) {
        let line = lines.next().expect("it goes on").expect("text");
        let (at, word) = line.split_once(' ').expect("a moment and a word");
        (at.parse::<i64>().unwrap_or_else(|e| panic!("{e}: {line}")), word.to_owned())
    };
    let before = next();
    assert_eq!(before.1, "refused");
    let run = platform.json(&["runs", "--json"])[0]["run"].as_str().expect("a run").to_owned();
    eventually("the refusal on record", || {
        (!platform.json(&["explain", &run, "--json"]).as_array()?.is_empty()).then_some(())
    });
    drop(platform.ok(&["allow", &run, "1", "--yes"]));
    // The record's moment is before the act is kept; the person is told after it.
    let told = SystemTime::UNIX_EPOCH.elapsed().expect("a clock after 1970").as_millis();
    let told = i64::try_from(told).expect("a moment");
    let entries = platform.json_lines(&["log", &run, "--json"]);
    let change = entries.iter().find(|entry| entry["event"]["kind"] == "profile-changed").expect("it is on record");
    let allowed = change["at"].as_i64().expect("a moment");
    assert!(before.0 < allowed);
    // By the moments alone: however slow this machine is, what was asked for later is judged by the table that holds.
    let mut later = 0;
    while later < 20 {
        let (at, word) = next();
        if at > told + 1_000 {
            assert_ne!(word, "refused", "asked for {} ms after the person was told", at - told);
            later += usize::from(word == "let-out");
        }
    }
    drop(File::create(gate.path().join("open")).expect("the gate"));
    while let Some(Ok(_)) = lines.next() {}
    assert!(child.wait().expect("it ends").success());
    platform.stop();
}
