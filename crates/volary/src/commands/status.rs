//! `volary status`: every process and every box, read back from the kernel now, not from memory; and what the kernel
//! does not show, proved by the process that is confined.

use crate::client::Client;
use crate::home::Home;
use crate::walls::{Fact, Process, Promise, facts, holds, proved};
use crate::{confine, process};
use api::vault::VaultView;
use api::walls::Walls;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::time::Duration;

/// How often boxes are read again, 50 ms apart, before a wall of theirs counts as missing: a box that is just being
/// made, or just ending, has not all of them.
const READINGS: u32 = 40;

/// Prints it; status 1 when something is not as promised or nothing is up.
pub async fn main(home: &Home, as_json: bool) -> anyhow::Result<i32> {
    let state: Option<Value> =
        fs::read_to_string(home.run("up.json")).ok().and_then(|text| serde_json::from_str(&text).ok());
    let client = Client::new(home);
    let health = match client.answers().await {
        Ok(health) => health,
        Err(silent) => {
            if as_json {
                println!("{}", json!({"up": false, "home": home.path(), "why": silent.to_string()}));
            } else {
                println!("✗ {silent}.");
            }
            return Ok(1);
        }
    };
    let (Some(state), Some(health)) = (state, health) else {
        if as_json {
            println!("{}", json!({"up": false, "home": home.path()}));
        } else if let Err(e) = home.is_there() {
            println!("No platform is up: {e}.");
        } else {
            println!("No platform is up on {}. Start one: volary up", home.path().display());
        }
        return Ok(1);
    };
    // Not every wall shows in /proc: each process proves its own by being refused.
    let walls: Option<Walls> = client.get("/api/walls").await.ok();
    let vault: Option<VaultView> = client.get("/api/vault").await.ok();
    let processes = platform(home, &state, walls.as_ref());
    let boxes = settled_boxes(state["cgroup"].as_str().unwrap_or("/")).await;
    let all_hold = health.operator
        && health.gateway
        && processes.iter().all(|(_, _, facts)| holds(facts))
        && boxes.values().all(|found| found.hold());
    if as_json {
        let processes: Vec<Value> =
            processes.iter().map(|(name, pid, facts)| json!({"name": name, "pid": pid, "facts": facts})).collect();
        let boxes: serde_json::Map<String, Value> =
            boxes.iter().map(|(name, found)| (name.clone(), found.json())).collect();
        let value = json!({"up": true, "home": home.path(), "url": state["url"], "processes": processes,
            "operator_linked": health.operator, "gateway_connected": health.gateway,
            "live_runs": health.live_runs, "vault": vault, "boxes": boxes, "all_hold": all_hold});
        println!("{}", serde_json::to_string_pretty(&value)?);
        return Ok(i32::from(!all_hold));
    }
    println!(
        "volary {} on {}, console {}",
        health.version,
        home.path().display(),
        state["url"].as_str().unwrap_or("?")
    );
    for (name, pid, facts) in &processes {
        println!("{name} (process {pid})");
        print(facts);
    }
    let connected = |is: bool| if is { "connected" } else { "✗ not connected" };
    println!(
        "operator {}, gateway {}; {}",
        connected(health.operator),
        connected(health.gateway),
        counted(health.live_runs, "live run", "live runs")
    );
    match &vault {
        Some(vault) => println!("vault: its key is {}, from {}", vault.key, vault.source),
        None => println!("✗ the server does not say which key its vault is wrapped with"),
    }
    for (name, found) in &boxes {
        let waits = if found.waits { "; it waits for a run, and has no worktree yet" } else { "" };
        println!("box {name}: {}{waits}", counted(found.processes.len() as u64, "process", "processes"));
        if !found.has_first() {
            println!("  ✗ none of them is its process 1");
        }
        for (process, facts) in &found.processes {
            println!("  {} (process {} of the host, {} of the box)", process.name(), process.pid, process.inside());
            print(facts);
        }
    }
    println!("{}", if all_hold { "Every wall holds." } else { "✗ What is marked so is not as promised." });
    Ok(i32::from(!all_hold))
}

fn counted(count: u64, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

fn print(facts: &[Fact]) {
    for fact in facts {
        let mark = match fact.holds {
            Some(true) => '✓',
            Some(false) => '✗',
            None => '·',
        };
        println!("  {mark} {:<20} {}", fact.what, fact.read);
    }
}

/// `up` and the three processes that it started.
fn platform(home: &Home, state: &Value, walls: Option<&Walls>) -> Vec<(&'static str, u64, Vec<Fact>)> {
    let own = rustix::process::geteuid().as_raw();
    let (server, gateway) = if own == 0 { home.uids() } else { (own, own) };
    let pid = |value: &Value| value.as_u64().unwrap_or(0);
    let mut all = Vec::new();
    let up = pid(&state["pid"]);
    all.push(("up", up, facts(&Process::read(up), &Promise::Supervisor { uid: own })));
    let proofs = [
        proved(&confine::promised(&process::server_row()), walls.map(|walls| &walls.server)),
        proved(&confine::promised(&process::gateway_row()), walls.and_then(|walls| walls.gateway.as_ref())),
        // It makes boxes: it keeps files, mounts and namespaces, and what it gave up shows in /proc.
        Vec::new(),
    ];
    for ((name, uid), proof) in [("server", server), ("gateway", gateway), ("operator", own)].into_iter().zip(proofs) {
        let pid = pid(&state["processes"][name]);
        let mut facts = facts(&Process::read(pid), &Promise::Part { uid });
        facts.extend(proof);
        all.push((name, pid, facts));
    }
    all
}

/// What was read of one box.
struct Found {
    processes: Vec<(Process, Vec<Fact>)>,
    /// Whether it waits for a run: there is process 1 and nothing else in it, and no worktree.
    waits: bool,
}

impl Found {
    /// A box without any process is one that begins or ends: there is nothing that a wall could be missing of.
    fn has_first(&self) -> bool {
        self.processes.is_empty() || self.processes.iter().any(|(process, _)| process.inside() == "1")
    }
    fn hold(&self) -> bool {
        self.has_first() && self.processes.iter().all(|(_, facts)| holds(facts))
    }
    fn json(&self) -> Value {
        let processes: Vec<Value> = self
            .processes
            .iter()
            .map(|(process, facts)| {
                json!({"name": process.name(), "pid": process.pid, "inside": process.inside(), "facts": facts})
            })
            .collect();
        json!({"processes": processes, "has_process_1": self.has_first(), "waits": self.waits})
    }
}

/// The boxes, read again while a wall is missing, until it is clear that it does not come.
async fn settled_boxes(parent: &str) -> BTreeMap<String, Found> {
    let mut found = boxes(parent);
    for _ in 1..READINGS {
        if found.values().all(Found::hold) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        found = boxes(parent);
    }
    found
}

fn boxes(parent: &str) -> BTreeMap<String, Found> {
    let own = rustix::process::geteuid().as_raw();
    let uids = if own == 0 { sandbox::embedded::BOX_UIDS } else { own..own + 1 };
    let judged = |pid: u32, waits: bool| {
        let process = Process::read(u64::from(pid));
        // Ended between the list and the look.
        if matches!(&process.status, Err(e) if e.kind() == io::ErrorKind::NotFound) {
            return None;
        }
        // Without root a box's user namespace is this very user's: /proc shows the same owner either way.
        let tells = own == 0 && process.inside() == "1";
        let facts = facts(&process, &Promise::Boxed { uids: uids.clone(), not_dumpable: tells, waits });
        Some((process, facts))
    };
    let found = |pids: Vec<u32>| {
        let waits = matches!(pids[..], [only] if has_no_worktree(only));
        Found { processes: pids.into_iter().filter_map(|pid| judged(pid, waits)).collect(), waits }
    };
    sandbox::read_back::boxes(parent).into_iter().map(|(name, pids)| (name, found(pids))).collect()
}

/// Whether the process is alone with a tree that no worktree was put into; by the kernel's own table. A box at work
/// cannot take its worktree away.
fn has_no_worktree(pid: u32) -> bool {
    let table = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    let mut points = table.lines().filter_map(|line| line.split(' ').nth(4));
    !table.is_empty() && points.all(|point| point != api::inbox::WORKSPACE)
}
