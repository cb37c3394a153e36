//! Calling cargo, and the places it works in.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Lines of failed tests' output that an error of [`tests`] holds, from the first failure on.
const TOLD_LINES: usize = 80;

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask stands in the repository")
}

/// Where cargo builds.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// A cargo command at the root, the same cargo that runs this program.
pub fn command(args: &[&str]) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(args).current_dir(root());
    cargo
}

/// Runs cargo and lets it talk.
///
/// # Errors
/// When it cannot start or ends badly.
pub fn run(args: &[&str]) -> Result<()> {
    finish(&mut command(args))
}

/// Runs any command and lets it talk.
///
/// # Errors
/// When it cannot start or ends badly; the error names the command line.
pub fn finish(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{} cannot start", shown(command)))?;
    if status.success() { Ok(()) } else { bail!("{} ended with {status}", shown(command)) }
}

/// Runs tests and lets them talk.
///
/// # Errors
/// When they cannot start or end badly; the error holds what the failed ones said, so that whoever sees only the end
/// of a long output sees why.
pub fn tests(command: &mut Command) -> Result<()> {
    passed_on(command, &mut std::io::stdout())
}

fn passed_on(command: &mut Command, to: &mut impl Write) -> Result<()> {
    let mut child =
        command.stdout(Stdio::piped()).spawn().with_context(|| format!("{} cannot start", shown(command)))?;
    let said = child.stdout.take().context("no output to read")?;
    let mut failures = Failures::default();
    for line in BufReader::new(said).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        writeln!(to, "{line}")?;
        failures.take(&line);
    }
    let status = child.wait()?;
    if status.success() {
        return Ok(());
    }
    bail!("{} ended with {status}\n{}", shown(command), failures.told.join("\n"))
}

/// What libtest says of failures: all between a line `failures:` and the `test result:` of that program.
#[derive(Debug, Default)]
struct Failures {
    inside: bool,
    told: Vec<String>,
}

impl Failures {
    fn take(&mut self, line: &str) {
        self.inside |= line == "failures:";
        if self.inside && !line.is_empty() && line != "failures:" && self.told.len() < TOLD_LINES {
            self.told.push(line.to_owned());
        }
        self.inside &= !line.starts_with("test result: ");
    }
}

/// Runs any command and gives what it wrote to its standard output.
///
/// # Errors
/// When it cannot start or ends badly; the error holds what it wrote to its standard error.
pub fn output(command: &mut Command) -> Result<Vec<u8>> {
    let out = command.output().with_context(|| format!("{} cannot start", shown(command)))?;
    if !out.status.success() {
        bail!("{} ended with {}: {}", shown(command), out.status, String::from_utf8_lossy(&out.stderr).trim());
    }
    Ok(out.stdout)
}

/// `cargo metadata` for the platform the product is for, dependencies resolved.
///
/// # Errors
/// When cargo refuses the manifests.
pub fn metadata() -> Result<Value> {
    let text =
        output(&mut command(&["metadata", "--format-version", "1", "--filter-platform", "x86_64-unknown-linux-gnu"]))?;
    serde_json::from_slice(&text).context("cargo metadata wrote no JSON")
}

fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_output_the_failures_are_told() {
        let mut failures = Failures::default();
        let said = "running 2 tests\ntest a ... ok\ntest b ... FAILED\n\nfailures:\n\n---- b stdout ----\nnot 1\n\n\nfailures:\n    b\n\n\
            test result: FAILED. 1 passed; 1 failed\n\nrunning 1 test\ntest c ... ok\n";
        said.lines().for_each(|line| failures.take(line));
        assert_eq!(failures.told, ["---- b stdout ----", "not 1", "    b", "test result: FAILED. 1 passed; 1 failed"]);
    }

    #[test]
    fn tests_that_fail_are_told_in_the_error_and_tests_that_pass_are_none() {
        let says = |script: &str| passed_on(Command::new("sh").args(["-c", script]), &mut Vec::new());
        says("echo failures:").unwrap();
        let error = says("printf 'failures:\n\n---- x stdout ----\nwhy\n'; exit 101").unwrap_err().to_string();
        assert!(error.contains("101") && error.ends_with("---- x stdout ----\nwhy"), "{error}");
    }
}
