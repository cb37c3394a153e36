//! Benchmarks: programs that print what was measured, beside the goal and beside the usual ways, in one run.
//!
//! Never tests: a slow machine fails nothing. What is compared is measured in the same run, because only ratios
//! travel from one machine to another. `cargo xtask bench` builds this and the platform, and runs all;
//! `cargo xtask bench NAME` runs one. `docs/benchmarks.md` says what each figure means.
//!
//! Read [`table`] (how figures are shown), [`stage`] and [`boxed`] (what is measured), then any benchmark.

mod box_start;
mod boxed;
mod boxes;
mod call;
mod changes;
mod check;
mod double;
mod egress;
mod evidence_rate;
mod idle;
mod lease;
mod proxy;
mod refresh;
mod rivals;
mod scrubbing;
mod stage;
mod table;
mod vault;
mod warm;

use anyhow::{Result, bail};

/// Name, what it measures, and the measuring.
type Bench = (&'static str, &'static str, fn() -> Result<()>);

const ALL: [Bench; 14] = [
    ("box", "box start: from create to the first output", box_start::run),
    ("warm", "a box that waited: from its claim to the first output", warm::run),
    ("boxes", "100 boxes, four at a time", boxes::run),
    ("call", "what the gateway adds to a model call", call::run),
    ("evidence", "durable evidence records per second", evidence_rate::run),
    ("idle", "memory when idle and start time, process by process", idle::run),
    ("scrub", "scrubber: throughput on clean and dirty text, recall, false alarms", scrubbing::run),
    ("check", "one permission check", check::run),
    ("vault", "a secret sealed and opened", vault::run),
    ("proxy", "the way out beside squid, tinyproxy and mitmproxy", proxy::run),
    ("egress", "one word of the egress policy, 1,000 rules", egress::run),
    ("lease", "a lease: granted, used, ended; and what it adds to a command", lease::run),
    ("refresh", "one refresh of a token for 50 clients that race for it", refresh::run),
    ("changes", "finding 10 changes in a large tree", changes::run),
];

fn main() {
    let names: Vec<String> = std::env::args().skip(1).collect();
    if let Err(error) = benches(&names) {
        eprintln!("benches: {error:#}");
        std::process::exit(1);
    }
}

/// Runs the benchmarks of these names, or all when none is named. One that fails does not keep the next from running.
fn benches(names: &[String]) -> Result<()> {
    if let Some(unknown) = names.iter().find(|name| !ALL.iter().any(|(known, ..)| known == name)) {
        let known: Vec<String> = ALL.iter().map(|(name, what, _)| format!("  {name:<9} {what}")).collect();
        bail!("{unknown} is no benchmark; there are:\n{}", known.join("\n"));
    }
    println!("{}", stage::machine());
    let mut failed = Vec::new();
    for (name, what, run) in ALL.iter().filter(|(name, ..)| names.is_empty() || names.iter().any(|n| n == name)) {
        println!("\n== {name}: {what}");
        if let Err(error) = run() {
            eprintln!("{name}: {error:#}");
            failed.push(*name);
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("not measured: {}", failed.join(", ")) }
}
