//! The record of a run: whole, replayable, and evidence that shows every change made to it afterwards.

mod shared;

use serde_json::{Value, json};
use shared::{Ran, VOLARY, Wild, all, anthropic, api, head, mend, of_kind, platform, run, steps, text, view};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use testkit::{Platform, Repo, eventually};

const KEY: &str = "sk-a-key-of-some-length";

/// A scripted run with parallel calls, a failing tool, an unknown tool, a command that is killed, and a long output.
fn rich(platform: &Platform, repo: &Repo) -> Ran {
    let tool = |name: &str, input: Value| json!({"name": name, "input": input});
    let shell = |command: &str| tool("shell", json!({"command": command}));
    platform.script(
        "scripted",
        &json!([
            {"text": "I look around.", "tools": [tool("list", json!({})), tool("read", json!({"path": "max.c"})),
                tool("read", json!({"path": "no-such-file"})), tool("teleport", json!({"to": "moon"})),
                tool("search", json!({"pattern": "a <"}))]},
            {"tools": [shell("sh test.sh"), shell("yes | head -c 100000"), shell("kill -9 $$"), shell("exit 3")]},
            {"tools": [tool("shell", json!({"command": "sleep 1000", "timeout": 1})), tool("edit", mend())],
                "fail_once": 529},
            {"tools": [shell("sh test.sh")]},
            {"text": "Mended."},
        ]),
        KEY,
    );
    let ran = run(platform, repo, &[]);
    assert_eq!(ran.end(), ("done".into(), String::new()), "{}", all(&ran.out));
    ran
}

/// Texts of a field of the events of one kind.
fn field(entries: &[Value], kind: &str, name: &str) -> Vec<String> {
    let text = |event: &&Value| event[name].as_str().unwrap_or_else(|| panic!("{kind} without {name}")).to_owned();
    of_kind(entries, kind).iter().map(text).collect()
}

#[test]
fn every_call_has_its_result_every_command_its_end_every_passed_request_its_price_and_no_number_is_missing() {
    let (platform, repo) = (platform(), Repo::failing());
    let ran = rich(&platform, &repo);
    let entries = &ran.entries;
    assert_eq!(*entries, platform.json_lines(&["log", &ran.run, "--json"]), "what was shown is not what is kept");

    let unique = |all: &[String]| {
        let set: BTreeSet<String> = all.iter().cloned().collect();
        assert_eq!(set.len(), all.len(), "{all:?}");
        set
    };
    let calls = field(entries, "tool-call", "id");
    assert_eq!(calls.len(), 12);
    assert_eq!(unique(&calls), unique(&field(entries, "tool-result", "id")));
    let commands = field(entries, "command", "id");
    assert_eq!(commands.len(), 6);
    assert_eq!(unique(&commands), unique(&field(entries, "command-end", "id")));
    let granted: Vec<String> = of_kind(entries, "verdict")
        .iter()
        .filter(|verdict| verdict["allowed"] == true)
        .map(|verdict| verdict["grant"].as_str().expect("an allowed call has a grant").to_owned())
        .collect();
    assert_eq!(granted.len(), 6);
    assert_eq!(unique(&granted), unique(&field(entries, "settled", "grant")));

    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    for (n, entry) in (1..).zip(entries) {
        assert_eq!((&entry["run"], &entry["n"]), (&json!(ran.run), &json!(n)));
        let source = last.entry(entry["source"].as_str().unwrap()).or_default();
        *source += 1;
        assert_eq!(entry["source_seq"], *source, "{entry:#}");
    }
    assert_eq!(last.keys().copied().collect::<Vec<_>>(), ["operator", "server"]);
    assert!(of_kind(entries, "unknown").is_empty());
    assert_eq!(view(&platform, &ran.run)["entries"], entries.len());

    // Each command's own words and end, and the order of things.
    let ends: Vec<&Value> = of_kind(entries, "command-end").iter().map(|end| &end["exit"]).collect();
    for exit in
        [json!({"how": "signal", "signal": 9}), json!({"how": "code", "code": 3}), json!({"how": "code", "code": 0})]
    {
        assert!(ends.contains(&&exit), "{exit} is not among {ends:?}");
    }
    assert!(ends.iter().any(|exit| exit["how"] == "killed"), "{ends:?}");
    let bytes: usize = of_kind(entries, "output").iter().map(|event| decoded(&event["data_b64"]).len()).sum();
    assert!(bytes >= 100_000, "of the long output {bytes} bytes are kept");
    let place = |kind: &str| entries.iter().position(|entry| entry["event"]["kind"] == kind).unwrap();
    let order = ["accepted", "base", "attempt", "walls", "loop", "tool-call", "result", "ended"];
    let places: Vec<usize> = order.iter().map(|kind| place(kind)).collect();
    assert!(places.is_sorted(), "{order:?} stand at {places:?}");
    assert_eq!(*places.last().unwrap() + 1, entries.len());
}

fn decoded(text: &Value) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(text.as_str().unwrap()).expect("base 64")
}

#[test]
fn every_turn_is_replayed_to_the_byte_and_a_turn_that_was_not_is_refused() {
    let (platform, repo) = (platform(), Repo::failing());
    let ran = rich(&platform, &repo);
    let turns = steps(&ran.entries, "model-answered").len();
    assert_eq!(turns, 5);
    let mut bodies = BTreeSet::new();
    for turn in 1..=turns {
        let out = platform.cli(&["replay", &ran.run, "--turn", &turn.to_string()]);
        assert!(out.status.success(), "turn {turn}: {}", all(&out));
        assert!(text(&out.stderr).contains("the gateway passed these very bytes"));
        let body: Value = serde_json::from_slice(&out.stdout).expect("a context is JSON");
        assert_eq!(body["stream"], true);
        bodies.insert(shared::sha256(&out.stdout));
    }
    assert_eq!(bodies.len(), turns, "two turns saw the same context");
    for turn in ["0", "6"] {
        let out = platform.cli(&["replay", &ran.run, "--turn", turn]);
        assert!(!out.status.success() && out.stdout.is_empty(), "{}", all(&out));
        assert!(all(&out).contains(&format!("no turn {turn}; its last is 5")), "{}", all(&out));
    }
}

#[test]
fn a_run_in_the_background_is_followed_to_its_end() {
    let (platform, repo) = (platform(), Repo::failing());
    let go = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&go);
    let wild = Wild::start(move |_, _| {
        eventually("the word to go on", || seen.load(Ordering::SeqCst).then_some(()));
        let said = json!({"type": "message", "role": "assistant", "content": [{"type": "text", "text": "Done."}],
            "stop_reason": "end_turn", "usage": {"input_tokens": 1, "output_tokens": 1}});
        vec![head("200 OK", "application/json", ""), said.to_string().into_bytes()]
    });
    anthropic(&platform, "slow", wild.url(), KEY);
    let made = platform.json(&["run", "--background", "--json", "--repo", repo.path_str(), "wait"]);
    let id = made["run"].as_str().unwrap().to_owned();
    let mut follow = platform
        .command()
        .args(["log", &id, "--follow", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("volary starts");
    let lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    let mut lines = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).expect("an entry"));
    let mut followed = vec![lines.next().expect("it begins before the run is over")];
    go.store(true, Ordering::SeqCst);
    followed.extend(lines);
    assert!(follow.wait().unwrap().success());
    assert_eq!(followed, platform.json_lines(&["log", &id, "--json"]));
    assert_eq!(followed.last().unwrap()["event"]["kind"], "ended");
    // After its end the same is told again, and ends by itself.
    assert_eq!(platform.json_lines(&["log", &id, "--follow", "--json"]), followed);
}

// ---- evidence ----------------------------------------------------------------------------------------------

/// What `volary verify --json FILE` says, and whether it found nothing wrong.
fn verify(home: &Path, file: Option<&Path>) -> (bool, Value) {
    let mut command = Command::new(VOLARY);
    command.arg("--home").arg(home).args(["verify", "--json"]).args(file).stdin(Stdio::null());
    let out = command.output().expect("volary starts");
    let said: Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{}", all(&out)));
    assert_eq!(out.status.success(), said["ok"] == true && said["gaps"] == json!([]), "{}", all(&out));
    (out.status.success(), said)
}

/// The evidence of a platform that did something, as a file's bytes.
fn evidence(platform: &Platform) -> Vec<u8> {
    let repo = Repo::failing();
    let ran = rich(platform, &repo);
    let file = api(platform, "/api/evidence");
    assert!(text(&file).contains(&ran.run));
    file
}

/// Waits until the operator keeps a head of all that is there, and gives the report of that. A head is signed, and
/// sent, when nothing was recorded for a moment.
fn witnessed(platform: &Platform) -> Value {
    eventually("the operator's witness", || {
        let (ok, said) = verify(platform.home(), None);
        assert!(ok, "{said:#}");
        (said["witnessed_records"] == said["records"]).then_some(said)
    })
}

#[test]
fn the_evidence_of_a_home_is_whole_while_it_is_up_and_after_and_the_operator_is_its_witness() {
    let mut platform = platform();
    let file = evidence(&platform);
    let kept = platform.home().join("evidence.txt");
    std::fs::write(&kept, &file).unwrap();
    let (ok, exported) = verify(platform.home(), Some(&kept));
    assert!(ok, "{exported:#}");
    let records = text(&file).lines().filter(|line| line.starts_with("R ")).count();
    assert_eq!((&exported["records"], &exported["signed"]), (&json!(records), &json!(records)));
    let witnessed = witnessed(&platform);
    assert!(witnessed["records"].as_u64() >= Some(records as u64), "{witnessed:#}");
    assert_eq!(witnessed["verifier_key"], exported["verifier_key"]);
    platform.down();
    let (ok, offline) = verify(platform.home(), None);
    assert!(ok && offline["witnessed"] == true, "{offline:#}");
    assert!(offline["records"].as_u64() >= witnessed["records"].as_u64(), "{offline:#}");
}

#[test]
fn a_file_that_is_no_evidence_is_called_that_and_not_tampered_with() {
    let platform = platform();
    let other = platform.home().parent().unwrap().join("no-such-file");
    for (file, status, word) in [(Path::new("/etc/passwd"), 2, "no evidence file"), (&other, 1, "no-such-file")] {
        let out = platform.cli(&["verify", file.to_str().unwrap()]);
        assert_eq!(out.status.code(), Some(status), "{}", all(&out));
        assert!(all(&out).contains(word) && !all(&out).contains("NOT CONSISTENT"), "{}", all(&out));
    }
    let (ok, said) = verify(platform.home(), Some(Path::new("/etc/passwd")));
    assert!(!ok && said["is_evidence"] == false, "{said:#}");
}

#[test]
fn any_flipped_bit_of_the_evidence_is_found() {
    const BITS: u64 = 200;
    let platform = platform();
    let file = evidence(&platform);
    let kept = platform.home().join("evidence.txt");
    // Another place each time it runs; a failure names the bit.
    let nanos = std::time::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
    let mut random = u64::from(std::process::id()) << 32 | u64::from(nanos);
    for _ in 0..BITS {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bit = (random >> 16) as usize % (file.len() * 8);
        let mut forged = file.clone();
        forged[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&kept, &forged).unwrap();
        let (ok, said) = verify(platform.home(), Some(&kept));
        let line = text(&file[..bit / 8]).lines().count();
        assert!(!ok, "bit {} of byte {}, line {line} of {}: {said:#}", bit % 8, bit / 8, file.len());
    }
}

#[test]
fn a_record_that_is_removed_swapped_doubled_changed_or_cut_off_is_found() {
    let platform = platform();
    let file = text(&evidence(&platform));
    let kept = platform.home().join("evidence.txt");
    let lines: Vec<&str> = file.lines().collect();
    let records: Vec<usize> = (0..lines.len()).filter(|n| lines[*n].starts_with("R ")).collect();
    let heads: Vec<usize> = (0..lines.len()).filter(|n| lines[*n].starts_with("H ")).collect();
    assert!(records.len() > 20 && !heads.is_empty(), "{file}");
    let found = |what: &str, lines: &[&str]| {
        std::fs::write(&kept, lines.join("\n") + "\n").unwrap();
        let (ok, said) = verify(platform.home(), Some(&kept));
        assert!(!ok, "{what} is not found: {said:#}");
    };
    let (first, middle, last) = (records[0], records[records.len() / 2], *records.last().unwrap());
    for at in [first, middle, last] {
        let mut removed = lines.clone();
        removed.remove(at);
        found(&format!("the removal of line {at}"), &removed);
        // The count at the end is no proof: who removes a record can write it anew.
        let end = format!("E {} {}", records.len() - 1, heads.len());
        *removed.last_mut().unwrap() = &end;
        found(&format!("the removal of line {at}, with the count mended"), &removed);
        let mut doubled = lines.clone();
        doubled.insert(at, lines[at]);
        let end = format!("E {} {}", records.len() + 1, heads.len());
        *doubled.last_mut().unwrap() = &end;
        found(&format!("the doubling of line {at}"), &doubled);
    }
    for at in records.windows(2).map(|pair| (pair[0], pair[1])).step_by(7) {
        let mut swapped = lines.clone();
        swapped.swap(at.0, at.1);
        found(&format!("the swap of lines {at:?}"), &swapped);
    }
    for most in [1, 3, first + 1, middle, last, lines.len() - 1] {
        found(&format!("a cut after {most} lines"), &lines[..most]);
    }
    let changed = file.replace("gateway.allowed", "gateway.refused");
    assert_ne!(changed, file);
    found("another word", &changed.lines().collect::<Vec<_>>());
    // Without its heads nothing binds what is left, whatever it says.
    let forged: Vec<String> = records[..records.len() / 2]
        .iter()
        .map(|at| lines[*at].replace("administrator", "mallory"))
        .chain([format!("E {} 0", records.len() / 2)])
        .collect();
    let forged: Vec<&str> = lines[..3].iter().copied().chain(forged.iter().map(String::as_str)).collect();
    found("a history written anew without heads", &forged);
    // Under a key of the forger's own, every signature may hold: the home's operator knows another.
    let other = shared::platform();
    let foreign = text(&evidence(&other));
    found("the evidence of another installation", &foreign.lines().collect::<Vec<_>>());
    // An earlier export, cut at a head, is what it says, and that this home knows more is said too.
    let until = heads[0];
    let mut earlier: Vec<&str> = lines[..=until].to_vec();
    let end = format!("E {} 1", records.iter().filter(|at| **at < until).count());
    earlier.push(&end);
    std::fs::write(&kept, earlier.join("\n") + "\n").unwrap();
    let (ok, said) = verify(platform.home(), Some(&kept));
    assert!(ok, "{said:#}");
    std::fs::write(&kept, &file).unwrap();
    let (ok, said) = verify(platform.home(), Some(&kept));
    assert!(ok, "{said:#}");
}

/// Copies a folder's files; it has no folders in it that matter here.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

#[test]
fn a_word_changed_in_the_database_itself_is_found() {
    let mut platform = platform();
    drop(evidence(&platform));
    drop(witnessed(&platform));
    platform.down();
    assert!(verify(platform.home(), None).0);
    let mut changed = 0;
    for entry in std::fs::read_dir(platform.home().join("server")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        // As long as the other, so that the database stays one.
        while let Some(at) = bytes.windows(15).position(|window| window == b"gateway.allowed") {
            bytes[at..at + 15].copy_from_slice(b"gateway.refused");
            changed += 1;
        }
        std::fs::write(&path, &bytes).unwrap();
    }
    assert!(changed > 0, "no such word in the database");
    let (ok, said) = verify(platform.home(), None);
    assert!(!ok, "{said:#}");
}

#[test]
fn a_database_put_back_to_an_earlier_moment_is_found_by_the_operators_witness() {
    let mut platform = platform();
    platform.secret("model/one", "a-value-of-some-length");
    platform.down();
    let (server, kept) = (platform.home().join("server"), tempfile::tempdir().unwrap());
    let earlier = kept.path().join("earlier");
    copy(&server, &earlier);
    platform.up(&[]);
    platform.secret("model/two", "a-value-of-some-length");
    drop(witnessed(&platform));
    platform.down();
    assert!(verify(platform.home(), None).0);
    for entry in std::fs::read_dir(&server).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::remove_file(path).unwrap();
        }
    }
    copy(&earlier, &server);
    let (ok, said) = verify(platform.home(), None);
    assert!(!ok, "{said:#}");
}
