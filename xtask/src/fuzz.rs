//! The fuzz targets, for a minute each: generators in the crates' own tests, which `cargo test` runs for a count of seeds
//! and which run on here, side by side, at the lowest priority, beside the last and shortest tests.
//!
//! The same seeds every time, as many as the minute gives. A failure prints its seed and the line that repeats it.

use crate::cargo::{self, Built, Failures};
use crate::suites::{self, Suite};
use anyhow::{Result, bail};
use std::process::{Command, Stdio};

/// How long each generator runs.
const SECS: &str = "60";
/// The package, the test program, the part of its tests' names and how many they are, for each place that has generators.
const PLACES: [(&str, &str, &str, usize); 3] = [
    // The proxy's head, one request behind another, CONNECT, the first message of TLS.
    ("gateway", "gateway", "egress::fuzz::", 4),
    // Hosts, targets, CONNECT, headers, a rule and what it opens.
    ("policy", "egress", "fuzz::", 5),
    // The scrubber.
    ("scrub", "it", "fuzz::", 4),
];

/// Compiles the crate `fuzz`, which is no part of the workspace, so that no change leaves it behind. What libFuzzer itself is
/// built from is left out: nothing is linked.
///
/// # Errors
/// When one of its targets does not compile.
pub fn check() -> Result<()> {
    let mut command = cargo::command(&["check", "--manifest-path", "fuzz/Cargo.toml", "--target-dir"]);
    command.arg(cargo::target().join("fuzz")).env("CUSTOM_LIBFUZZER_PATH", cargo::root().join("fuzz/none.a"));
    cargo::finish(&mut command)
}

/// All of them as one suite.
///
/// # Errors
/// When a test program is not there.
pub fn suite(built: &Built) -> Result<Suite> {
    let mut places = Vec::new();
    for (package, target, part, generators) in PLACES {
        let program = built.command(package, target)?;
        let mut command = Command::new("nice");
        command.args(["-n", "19"]).arg(program.get_program()).arg(part);
        // Each generator has a thread of its own, so that all of them have the same minute.
        command.args(["--test-threads", "64", "--show-output"]).env("VOLARY_FUZZ_SECS", SECS);
        command.current_dir(cargo::root().join("crates").join(package));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        places.push((package, generators, command));
    }
    Ok(Suite::new("generators", move |said| run(places, said)))
}

/// Runs all of them, each place beside the others, and tells what they said. All that began is waited for, whatever failed.
fn run(places: Vec<(&str, usize, Command)>, said: &mut String) -> Result<()> {
    let (mut running, mut failed) = (Vec::new(), Vec::new());
    for (package, generators, mut command) in places {
        match cargo::held(&mut command).spawn() {
            Ok(child) => running.push((package, generators, child)),
            Err(error) => failed.push(format!("the generators of {package} cannot start: {error}")),
        }
    }
    for (package, generators, child) in running {
        let out = match child.wait_with_output() {
            Ok(out) => out,
            Err(error) => {
                failed.push(format!("what the generators of {package} say cannot be heard: {error}"));
                continue;
            }
        };
        let told = String::from_utf8_lossy(&out.stdout);
        said.push_str(&format!("generators of {package}, {SECS} seconds each:\n{told}"));
        if !out.status.success() {
            failed.push(format!("a generator found something in {package}\n{}", Failures::of(&told).told()));
        } else if let Err(error) = suites::all_ran(&told) {
            failed.push(format!("the generators of {package} did not come to their end: {error:#}"));
        } else if ran(&told) != generators {
            // A part of a name that no test has is no failure to a test program.
            failed.push(format!("{} of {generators} generators ran in {package}", ran(&told)));
        }
    }
    if failed.is_empty() { Ok(()) } else { bail!("{}", failed.join("; ")) }
}

/// How many generators said how far they came.
fn ran(said: &str) -> usize {
    said.lines().filter(|line| line.split_once(" seeds").is_some_and(|(n, _)| n.parse::<u64>().is_ok())).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generators_that_cannot_start_are_told_and_the_others_are_waited_for() {
        let result = "test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out";
        let mut well = Command::new("sh");
        well.args(["-c", &format!("echo running 1 test; echo 5 seeds: a; echo '{result}'")]).stdout(Stdio::piped());
        let mut said = String::new();
        let places = vec![("none", 1, Command::new("/nowhere/none")), ("well", 1, well)];
        let error = run(places, &mut said).unwrap_err().to_string();
        assert!(error.starts_with("the generators of none cannot start") && !error.contains("well"), "{error}");
        assert!(said.contains("generators of well") && said.contains("5 seeds"), "{said}");
    }

    #[test]
    fn a_generator_that_did_not_say_how_far_it_came_did_not_run() {
        let said =
            "running 2 tests\ntest fuzz::a ... ok\n---- fuzz::a stdout ----\n914096 seeds: fuzz::a\n\nno seeds\n";
        assert_eq!(ran(said), 1);
        assert_eq!(ran("running 0 tests\n\ntest result: ok. 0 passed\n"), 0);
    }
}
