//! The fuzz targets, for a minute each: generators in the crates' own tests, which `cargo test` runs for a count of seeds
//! and which run on here, side by side, at the lowest priority, beside tests that mostly wait.
//!
//! The same seeds every time, as many as the minute gives. A failure prints its seed and the line that repeats it.

use crate::cargo;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

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

/// Generators that are running: whose, how many, and their program.
pub struct Running(Vec<(&'static str, usize, Child)>);

/// Starts all of them.
///
/// # Errors
/// When a test program does not build or cannot start.
pub fn start() -> Result<Running> {
    // The programs that `cargo test --workspace` has just run.
    let built = cargo::output(&mut cargo::command(&["test", "--workspace", "--no-run", "--message-format", "json"]))?;
    let built = String::from_utf8(built).context("cargo writes UTF-8")?;
    let mut running = Running(Vec::new());
    for (package, target, part, generators) in PLACES {
        let program = program(&built, package, target).with_context(|| format!("{package} has no test {target}"))?;
        let mut command = Command::new("nice");
        command.args(["-n", "19"]).arg(program).arg(part);
        // Each generator has a thread of its own, so that all of them have the same minute.
        command.args(["--test-threads", "64", "--show-output"]).env("VOLARY_FUZZ_SECS", SECS);
        command.current_dir(cargo::root().join("crates").join(package));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let child = command.spawn().with_context(|| format!("the generators of {package} cannot start"))?;
        running.0.push((package, generators, child));
    }
    Ok(running)
}

/// The program of a package's test target, as cargo says where it is.
fn program(built: &str, package: &str, target: &str) -> Option<PathBuf> {
    let messages = built.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let of_it = |message: &Value| {
        let manifest = message["manifest_path"].as_str().unwrap_or_default();
        message["target"]["name"] == target && manifest.ends_with(&format!("crates/{package}/Cargo.toml"))
    };
    messages.filter(of_it).find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

impl Running {
    /// Waits for all of them and shows what they said.
    ///
    /// # Errors
    /// Which of them failed.
    pub fn finish(self) -> Result<()> {
        let mut failed = Vec::new();
        for (package, generators, child) in self.0 {
            let out = child.wait_with_output()?;
            println!("generators of {package}, {SECS} seconds each:");
            let said = String::from_utf8_lossy(&out.stdout);
            print!("{said}");
            if !out.status.success() {
                failed.push(format!("a generator found something in {package}"));
            } else if ran(&said) != generators {
                // A part of a name that no test has is no failure to a test program.
                failed.push(format!("{} of {generators} generators ran in {package}", ran(&said)));
            }
        }
        if failed.is_empty() { Ok(()) } else { bail!("{}", failed.join("; ")) }
    }
}

/// How many generators said how far they came.
fn ran(said: &str) -> usize {
    said.lines().filter(|line| line.split_once(" seeds").is_some_and(|(n, _)| n.parse::<u64>().is_ok())).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generator_that_did_not_say_how_far_it_came_did_not_run() {
        let said =
            "running 2 tests\ntest fuzz::a ... ok\n---- fuzz::a stdout ----\n914096 seeds: fuzz::a\n\nno seeds\n";
        assert_eq!(ran(said), 1);
        assert_eq!(ran("running 0 tests\n\ntest result: ok. 0 passed\n"), 0);
    }

    #[test]
    fn a_test_program_is_found_by_package_and_target() {
        let line = |package: &str, target: &str, program: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/x/crates/{package}/Cargo.toml","target":{{"name":"{target}"}},"executable":{program}}}"#
            )
        };
        let built = [
            line("scrub", "it", r#""/t/scrub-it""#),
            line("gateway", "gateway", "null"),
            line("gateway", "it", r#""/t/gateway-it""#),
            line("gateway", "gateway", r#""/t/gateway""#),
        ]
        .join("\n");
        assert_eq!(program(&built, "gateway", "gateway"), Some("/t/gateway".into()));
        assert_eq!(program(&built, "scrub", "it"), Some("/t/scrub-it".into()));
        assert_eq!(program(&built, "policy", "egress"), None);
    }
}
