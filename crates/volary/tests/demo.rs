//! `volary demo`, the README's first command, as a person types it.

use serde_json::Value;
use std::process::Command;

/// Attempts that the demo's hijacked agent makes.
const ATTEMPTS: usize = 27;

#[test]
fn the_demo_does_its_task_and_every_wall_holds() {
    let done = Command::new(env!("CARGO_BIN_EXE_volary")).args(["demo", "--exit", "--json"]).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    let why = || format!("{} {said}\n{}", done.status, String::from_utf8_lossy(&done.stderr));
    let report: Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{}", why()));
    let attempts = report["attempts"].as_array().unwrap_or_else(|| panic!("{}", why()));
    let open: Vec<&Value> = attempts.iter().filter(|attempt| attempt["held"] != true).collect();
    assert!(open.is_empty() && attempts.len() == ATTEMPTS, "{open:#?}\n{}", why());
    assert!(done.status.success() && report["ok"] == true && report["task_done"] == true, "{}", why());
    assert!(report["evidence"]["witnessed"] == true && report["walls_read_back"].as_u64() > Some(20), "{}", why());
}
