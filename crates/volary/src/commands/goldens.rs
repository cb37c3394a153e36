//! What a reviewer reads: the tables of `docs/generated`, written from the code that enforces them.

#[path = "../../../runner/src/walls/refused.rs"]
pub(super) mod refused;

use anyhow::Context;
use model::Limits;
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// Writes all of them into `dir`.
pub fn main(dir: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(dir)?;
    let files = [
        ("routes.md", server::inventory()),
        ("scopes.md", policy::access::table()),
        ("limits.md", limits()),
        ("refused-calls.md", refused::page()),
        ("delivery.md", policy::delivery::page()),
        ("forges.md", policy::git::forge::table::page()),
        ("managed-keys.md", policy::providers::page() + &policy::minters::page()),
    ];
    for (name, text) in files {
        fs::write(dir.join(name), text).with_context(|| format!("write {name}"))?;
    }
    Ok(())
}

fn limits() -> String {
    let l = Limits::default();
    let mut out = String::from("# Limits of the built-in profile\n\n| limit | value | unit |\n|---|---|---|\n");
    let rows: [(&str, u64, &str); 13] = [
        ("memory-mib", l.memory_mib, "MiB"),
        ("cpu-millis", l.cpu_millis, "thousandths of a processor"),
        ("processes", l.processes, "processes and threads"),
        ("open-files", l.open_files, "descriptors of one process"),
        ("worktree-mib", l.worktree_mib, "MiB"),
        ("scratch-mib", l.scratch_mib, "MiB"),
        ("seconds", l.seconds, "s of a run"),
        ("command-seconds", l.command_seconds, "s of a command"),
        ("turns", l.turns, "turns of the model"),
        ("tokens", l.tokens, "tokens of a run"),
        ("cost-micro-dollars", l.cost_micro_dollars.0, "millionths of a dollar"),
        ("output-mib", l.output_mib, "MiB of a command's output"),
        ("output-kib-per-second", l.output_kib_per_second, "KiB that a box says in a second"),
    ];
    for (name, value, unit) in rows {
        // Writing to a String does not fail.
        let _ = writeln!(out, "| {name} | {value} | {unit} |");
    }
    out
}
