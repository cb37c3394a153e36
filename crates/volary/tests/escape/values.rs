//! A value that one command is given, on a whole platform: it is read by nobody else in the box, and kept nowhere.

use crate::support::{all, landlock, platform, text};
use base64::Engine;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use testkit::{ModelDouble, Platform, Repo, Turn, eventually, shell_capability};

const KEY: &str = "sk-ant-api03-of-this-test";

/// Capabilities, each with its way.
const WAYS: [(&str, &str); 4] = [
    ("in-variable", "{ variable = \"TOKEN\" }"),
    ("in-file", "{ file = \"TOKEN_FILE\" }"),
    ("on-input", "\"stdin\""),
    ("by-git", "\"git-helper\""),
];

/// Says what it was given, in whichever way, shows that it is there, and lives until the other one is done.
const HOLD: &str = r#"sh -c 'v="$TOKEN"; [ -z "$TOKEN_FILE" ] || v=$(cat $TOKEN_FILE); [ -n "$v" ] || read -r v; [ -n "$v" ] || v=$(printf "protocol=https\nhost=git.example\n\n" | git credential fill | sed -n s/password=//p); echo "given $v in $REGION"; printf %s "$v" | wc -c; : > $HOME/ready; i=0; until [ -e /workspace/over ] || [ $i -gt 4000 ]; do sleep 0.1; i=$((i+1)); done; [ -e /workspace/over ] && echo "control at-once 0"'"#;

/// Goes for every process but its own, by number: what `/proc` does not list may still be there. A line for each try.
const GO: &str = r#"
i=0; until [ "$(echo /run/bearer/*/ready | wc -w)" = 4 ] || [ $i -gt 4000 ]; do sleep 0.1; i=$((i+1)); done
[ "$(ls /run/bearer/*/ready | wc -l)" = 4 ] && echo "control ready 0"
n=1; while [ $n -lt 80 ]; do
  if [ $n != $$ ]; then
    for f in environ cmdline mem maps auxv fd/0 fd/1 fd/3 fd/10 root/etc/passwd cwd/max.c; do
      head -c 1 /proc/$n/$f >/dev/null 2>&1; echo "read-$f $?"
    done
    ls /proc/$n/fd >/dev/null 2>&1; echo "list $?"
    kill -0 $n 2>/dev/null; echo "signal $?"
  fi
  n=$((n+1))
done
for f in /run/bearer/*/ready; do
  cat $f 2>/dev/null; echo "scratch $?"
  (echo x > $f) 2>/dev/null; echo "scratch-write $?"
done
head -c 1 /proc/$$/environ >/dev/null; echo "control own 0"
cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline /tmp/* /dev/shm/* 2>/dev/null | tr '\0' '\n'
echo > /workspace/over
"#;

/// What is there afterwards.
const AFTER: &str = "ls -A /run/bearer | wc -l; env; cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'; \
                     grep -rs TOKEN= /tmp /dev/shm /workspace | head -c 1000; echo control after 0";

fn profile(platform: &Platform, value: &str) {
    let rows = WAYS.map(|(name, delivery)| shell_capability(name, "capability/shop", "git.example/shop", delivery));
    let file = platform.home().join("profiles/shop.toml");
    let text = format!("{}{}[variables]\nREGION = \"eu\"\n", platform.engine(), rows.concat());
    std::fs::write(file, text).expect("a profile is written");
    platform.secret("capability/shop", value);
}

/// As long as a loaded machine may want.
const SECONDS: u64 = 500;

fn shell(command: &str) -> (String, Value) {
    ("shell".into(), json!({ "command": command, "timeout": SECONDS }))
}

fn under_lease(command: &str, lease: usize) -> (String, Value) {
    ("shell".into(), json!({ "command": command, "timeout": SECONDS, "lease": format!("{{lease {lease}}}") }))
}

fn wish(capability: &str) -> (String, Value) {
    let wish = json!({ "capability": capability, "destination": "git.example/shop", "reason": "to publish" });
    ("lease".into(), wish)
}

/// A model that does so, and the arguments of a run with it.
fn model(platform: &Platform, turns: Vec<Turn>, repo: &Repo) -> (ModelDouble, Vec<String>) {
    let double = ModelDouble::start(KEY, turns);
    platform.secret("model/anthropic", KEY);
    let base = ["--base", &double.url(), "--internal", "--price", "3,15"];
    drop(platform.ok(&[&["model", "add", "m", "--provider", "anthropic", "--id", "claude-test"], &base[..]].concat()));
    let args = ["run", "--repo", repo.path_str(), "--model", "m", "--profile", "shop", "--json", "publish it"];
    (double, args.map(str::to_owned).to_vec())
}

#[test]
fn a_lease_that_a_person_takes_back_ends_its_command_and_all_that_it_started() {
    let platform = platform();
    profile(&platform, "tok-Ab3dE5gH1jK2mN4p-of-revocation");
    let turns = vec![
        Turn { tools: vec![wish("in-variable")], ..Turn::says("I ask.") },
        Turn { tools: vec![under_lease("sh -c 'echo ready; sleep 1000 & sleep 1000'", 1)], ..Turn::says("I go.") },
        Turn {
            tools: vec![
                shell("ls -A /run/bearer | wc -l; cat /proc/[0-9]*/comm | grep -c sleep"),
                under_lease("sh -c true", 1),
            ],
            ..Turn::says("And?")
        },
        Turn::says("Done."),
    ];
    let repo = Repo::failing();
    let (_double, args) = model(&platform, turns, &repo);
    let run =
        platform.command().args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("volary starts");
    // The lease is in use before the value is on its way.
    eventually("its command", || {
        let run = platform.json(&["runs", "--json"])[0]["run"].as_str()?.to_owned();
        let log = platform.json_lines(&["log", &run, "--json"]);
        log.iter().any(|entry| entry["event"]["kind"] == "output").then_some(())
    });
    let in_use = eventually("a lease in use", || {
        let leases = platform.json(&["lease", "list", "--json"]);
        leases.as_array()?.iter().find(|lease| !lease["used"].is_null())?["lease"].as_str().map(str::to_owned)
    });
    drop(platform.ok(&["lease", "revoke", &in_use]));
    let out = run.wait_with_output().expect("volary ends");
    let said = all(&out);
    assert!(out.status.success() && said.contains("its lease was taken back"), "{said}");
    assert!(said.contains("0\\n0\\n[exit status 1]"), "its scratch and its processes are gone: {said}");
    // By the evidence's own times: nothing is given by it at or after the person's word, and the use that is tried is refused.
    let records = evidence(&platform);
    let of: Vec<&Value> = records.iter().filter(|record| record["lease"] == in_use.as_str()).collect();
    let revoked = of.iter().find(|record| record["kind"] == "lease.ended").expect("the person's word");
    assert_eq!(revoked["state"], "revoked", "{revoked}");
    let moment = |record: &Value| (record["at"].as_i64().expect("a moment"), record["n"].as_u64().expect("a number"));
    let given = of.iter().filter(|record| record["kind"] == "gateway.allowed");
    assert_eq!(
        given.clone().map(|record| record["rule"].as_str()).collect::<Vec<_>>(),
        [Some("lease.granted"), Some("lease.used")]
    );
    assert!(given.into_iter().all(|record| moment(record) < moment(revoked)), "{of:#?}");
    let refused = of.iter().find(|record| record["kind"] == "gateway.refused").expect("the use after it");
    assert!(refused["rule"] == "lease.revoked" && moment(refused) > moment(revoked), "{refused}");
}

/// The records of the evidence, in their order.
fn evidence(platform: &Platform) -> Vec<Value> {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "http://home/api/evidence", "--unix-socket"]).arg(platform.home().join("run/api.sock"));
    let file = text(&curl.output().expect("curl starts").stdout);
    file.lines().filter_map(|line| serde_json::from_str(line.strip_prefix("R ")?).ok()).collect()
}

#[test]
fn what_one_command_is_given_no_other_process_of_a_live_box_reads_and_nothing_keeps() {
    let platform = platform();
    let value = format!("tok-{:x}-Ab3dE5gH1jK2mN4p", std::process::id());
    profile(&platform, &value);
    let holds = (1..=WAYS.len()).map(|lease| under_lease(HOLD, lease));
    let turns = vec![
        Turn { tools: WAYS.map(|(name, _)| wish(name)).to_vec(), ..Turn::says("I ask first.") },
        Turn { tools: holds.chain([shell(GO)]).collect(), ..Turn::says("All at once.") },
        Turn { tools: vec![shell(AFTER)], ..Turn::says("And after.") },
        // It was for one use.
        Turn { tools: vec![under_lease("sh -c true", 1)], ..Turn::says("Once more.") },
        Turn::says("Done."),
    ];
    let repo = Repo::failing();
    let (double, args) = model(&platform, turns, &repo);
    let out = platform.cli(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(out.status.success(), "{}", all(&out));
    // What several commands say at once is put together by command.
    let (mut outputs, mut results) = (BTreeMap::<String, Vec<u8>>::new(), Vec::new());
    for line in text(&out.stdout).lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        if entry["event"]["kind"] == "output" {
            let data = entry["event"]["data_b64"].as_str().unwrap();
            let of = outputs.entry(entry["event"]["id"].to_string()).or_default();
            of.extend(base64::engine::general_purpose::STANDARD.decode(data).unwrap());
        }
        if entry["event"]["kind"] == "tool-result" {
            results.push(entry["event"]["text"].as_str().unwrap_or_default().to_owned());
        }
    }
    let said: String = outputs.values().map(|output| text(output)).collect();
    for control in ["ready 0", "own 0", "at-once 0", "after 0"] {
        assert!(said.contains(&format!("control {control}")), "{control}: {said}\n{}", all(&out));
    }
    let given =
        said.lines().filter(|line| line.starts_with("given [scrubbed:capability/shop") && line.ends_with(" in eu"));
    assert_eq!(given.count(), WAYS.len(), "{said}");
    assert_eq!(said.lines().filter(|line| **line == value.len().to_string()).count(), WAYS.len(), "{said}");
    let signals = landlock(&platform) >= 6;
    let numbers = |line: &&str| line.split_once(' ').is_some_and(|(_, met)| met.parse::<u8>().is_ok());
    let tried: Vec<&str> = said.lines().filter(|line| !line.starts_with("control")).filter(numbers).collect();
    assert!(tried.len() > 900, "{} tries: {said}", tried.len());
    for line in tried {
        // Before level 6 one uid may signal itself.
        assert!(!line.ends_with(" 0") || line.starts_with("signal") && !signals, "WENT THROUGH: {line}\n{said}");
    }
    let spent = results.last().expect("results");
    assert!(spent.contains("the command was not started"), "a lease is for one use: {results:?}");
    // The agent and its model, the record, and every file of the home.
    let shown = format!("{}{:?}", all(&out), double.requests());
    assert!(!shown.contains(&value) && !said.contains(&value));
    assert!(double.requests().iter().all(|request| !text(&request.body).contains(&value)));
    let kept = Command::new("grep").args(["-rlaF", &value]).arg(platform.home()).output().expect("grep runs");
    assert_eq!(text(&kept.stdout), "", "kept in a file");
}
