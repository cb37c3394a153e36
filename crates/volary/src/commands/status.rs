//! `volary status`: every process and every box, read back from the kernel now, not from memory.

use crate::client::Client;
use crate::home::Home;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

struct Promise {
    uid: u32,
    seccomp: bool,
}

/// Prints it; status 1 when something is not as promised or nothing is up.
pub async fn main(home: &Home, as_json: bool) -> anyhow::Result<i32> {
    let state: Option<Value> =
        fs::read_to_string(home.run("up.json")).ok().and_then(|text| serde_json::from_str(&text).ok());
    let client = Client::new(home);
    let health = client.health().await;
    let (Some(state), Some(health)) = (state, health) else {
        if as_json {
            println!("{}", json!({"up": false, "home": home.path()}));
        } else {
            println!("No platform is up on {}. Start one: volary up", home.path().display());
        }
        return Ok(1);
    };
    let mut all_hold = health.operator && health.gateway;
    let mut processes = Vec::new();
    let root = rustix::process::geteuid().is_root();
    let own = rustix::process::geteuid().as_raw();
    let (server_uid, gateway_uid) = if root { home.uids() } else { (own, own) };
    for (name, uid) in [("server", server_uid), ("gateway", gateway_uid), ("operator", own)] {
        let pid = state["processes"][name].as_u64().unwrap_or(0);
        let facts = facts(pid, &Promise { uid, seccomp: true });
        all_hold &= facts.iter().all(|(_, _, holds)| *holds);
        processes.push((name, pid, facts));
    }
    let boxes = sandbox::read_back::boxes(state["cgroup"].as_str().unwrap_or("/"));
    if as_json {
        let processes: Vec<Value> = processes
            .iter()
            .map(|(name, pid, facts)| {
                let facts: Vec<Value> = facts
                    .iter()
                    .map(|(what, read, holds)| json!({"what": what, "read": read, "holds": holds}))
                    .collect();
                json!({"name": name, "pid": pid, "facts": facts})
            })
            .collect();
        let value = json!({"up": true, "home": home.path(), "url": state["url"], "processes": processes,
            "operator_linked": health.operator, "gateway_connected": health.gateway,
            "live_runs": health.live_runs, "boxes": boxes, "all_hold": all_hold});
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
        for (what, read, holds) in facts {
            println!("  {} {what:<20} {read}", if *holds { "✓" } else { "✗" });
        }
    }
    println!(
        "operator linked: {}; gateway connected: {}; live runs: {}",
        health.operator, health.gateway, health.live_runs
    );
    for (name, pids) in &boxes {
        println!("box {name}: {} processes", pids.len());
        for pid in pids {
            let status = fields(u64::from(*pid));
            let of = |key: &str| status.get(key).cloned().unwrap_or_default();
            println!(
                "    {pid}: {} uid {} seccomp {} capabilities {} no-new-privileges {}",
                of("Name"),
                of("Uid").split(' ').next().unwrap_or_default(),
                of("Seccomp"),
                of("CapEff"),
                of("NoNewPrivs")
            );
        }
    }
    Ok(i32::from(!all_hold))
}

fn fields(pid: u64) -> BTreeMap<String, String> {
    fs::read_to_string(format!("/proc/{pid}/status"))
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(key, value)| (key.to_owned(), value.split_whitespace().collect::<Vec<_>>().join(" ")))
        .collect()
}

fn facts(pid: u64, promise: &Promise) -> Vec<(&'static str, String, bool)> {
    let status = fields(pid);
    let of = |key: &str| status.get(key).cloned().unwrap_or_else(|| "unreadable".into());
    let uids = [promise.uid; 4].map(|n| n.to_string()).join(" ");
    let owner = fs::metadata(format!("/proc/{pid}/environ")).map(|m| m.uid());
    let dumpable = owner.as_ref().is_ok_and(|owner| *owner != 0) && promise.uid != 0;
    let core = fs::read_to_string(format!("/proc/{pid}/limits"))
        .unwrap_or_default()
        .lines()
        .find_map(|line| {
            line.strip_prefix("Max core file size").map(|rest| rest.split_whitespace().next().unwrap_or("?").to_owned())
        })
        .unwrap_or_else(|| "unreadable".into());
    let wanted = if promise.seccomp { "2" } else { "0" };
    vec![
        ("uid", of("Uid"), of("Uid") == uids),
        ("seccomp", of("Seccomp"), of("Seccomp") == wanted),
        ("no new privileges", of("NoNewPrivs"), of("NoNewPrivs") == "1"),
        ("not dumpable", (!dumpable).to_string(), !dumpable),
        ("core dumps", core.clone(), core == "1"),
    ]
}
