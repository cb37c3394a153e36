//! Calling cargo, and the places it works in.

use crate::suites::Suite;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Lines of failed tests' output that [`Failures`] holds, from the first failure on.
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

/// Has a command end when the thread that starts it does, and so with this program, however that ends: a test command that was
/// killed leaves nothing running.
pub fn held(command: &mut Command) -> &mut Command {
    let parent = std::process::id();
    // SAFETY: plain system calls, which allocate nothing.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
            let now = rustix::process::getppid().map(|now| now.as_raw_nonzero().get().unsigned_abs());
            if now == Some(parent) {
                Ok(())
            } else {
                // Whom this is for is gone: nobody reads it.
                Err(rustix::io::Errno::SRCH.into())
            }
        })
    }
}

/// What libtest says of failures: all between a line `failures:` and the `test result:` of that program.
#[derive(Debug, Default)]
pub struct Failures {
    inside: bool,
    told: Vec<String>,
}

impl Failures {
    /// Those in the output of test programs.
    pub fn of(said: &str) -> Self {
        let mut failures = Self::default();
        said.lines().for_each(|line| failures.take(line));
        failures
    }

    /// Their lines, without the empty ones.
    pub fn told(&self) -> String {
        self.told.join("\n")
    }

    fn take(&mut self, line: &str) {
        self.inside |= line == "failures:";
        if self.inside && !line.is_empty() && line != "failures:" && self.told.len() < TOLD_LINES {
            self.told.push(line.to_owned());
        }
        self.inside &= !line.starts_with("test result: ");
    }
}

/// The test programs of the workspace, built.
pub struct Built(Vec<Program>);

/// One of them.
struct Program {
    package: String,
    target: String,
    /// Whether it stands in the package's folder `tests`, and not within the code.
    is_outside: bool,
    file: PathBuf,
    folder: PathBuf,
}

impl Built {
    /// Builds them, and the programs that they start.
    ///
    /// # Errors
    /// When something does not build; what, is shown.
    pub fn tests() -> Result<Self> {
        let mut cargo = command(&["test", "--workspace", "--no-run", "--message-format", "json-render-diagnostics"]);
        let out = cargo.stderr(Stdio::inherit()).output().context("cargo cannot start")?;
        if !out.status.success() {
            bail!("{} ended with {}", shown(&cargo), out.status);
        }
        Ok(Self::read(&String::from_utf8(out.stdout).context("cargo writes UTF-8")?))
    }

    /// Those that cargo's messages name: first whole platforms, then the rest that stands outside of the code, which take
    /// the longest, so that none of them is left over at the end.
    fn read(messages: &str) -> Self {
        let program = |message: Value| -> Option<Program> {
            let folder = Path::new(message["manifest_path"].as_str()?).parent()?;
            Some(Program {
                package: folder.file_name()?.to_str()?.to_owned(),
                target: message["target"]["name"].as_str()?.to_owned(),
                is_outside: message["target"]["kind"][0] == "test",
                file: message["executable"].as_str().filter(|_| message["profile"]["test"] == true)?.into(),
                folder: folder.to_owned(),
            })
        };
        let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut programs: Vec<Program> = messages.filter_map(program).collect();
        let rank = |program: &Program| (!program.is_outside, program.package != "volary");
        programs.sort_by(|a, b| (rank(a), &a.package, &a.target).cmp(&(rank(b), &b.package, &b.target)));
        Self(programs)
    }

    /// The program of a package's test target, to be run as cargo runs it.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn command(&self, package: &str, target: &str) -> Result<Command> {
        let found = self.0.iter().find(|program| program.package == package && program.target == target);
        found.map(Program::command).with_context(|| format!("{package} has no test {target}"))
    }

    /// All of them as suites.
    pub fn suites(&self) -> impl Iterator<Item = Suite> {
        self.0.iter().map(|program| {
            let place = if program.is_outside { "" } else { " (unit tests)" };
            Suite::of(format!("{}/{}{place}", program.package, program.target), program.command())
        })
    }
}

impl Program {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.file);
        command.current_dir(&self.folder).env("CARGO_MANIFEST_DIR", &self.folder);
        command
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

/// A command line, for messages.
pub fn shown(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_output_the_failures_are_told() {
        let said = "running 2 tests\ntest a ... ok\ntest b ... FAILED\n\nfailures:\n\n---- b stdout ----\nnot 1\n\n\nfailures:\n    b\n\n\
            test result: FAILED. 1 passed; 1 failed\n\nrunning 1 test\ntest c ... ok\n";
        assert_eq!(
            Failures::of(said).told(),
            "---- b stdout ----\nnot 1\n    b\ntest result: FAILED. 1 passed; 1 failed"
        );
    }

    #[test]
    fn a_test_program_is_found_by_package_and_target_and_no_other_program_is_one() {
        let line = |package: &str, target: &str, kind: &str, test: bool, program: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/x/{package}/Cargo.toml","target":{{"name":"{target}","kind":["{kind}"]}},"profile":{{"test":{test}}},"executable":{program}}}"#
            )
        };
        let built = Built::read(
            &[
                line("scrub", "it", "test", true, r#""/t/scrub-it""#),
                line("gateway", "gateway", "lib", false, "null"),
                line("gateway", "it", "test", true, r#""/t/gateway-it""#),
                line("gateway", "gateway", "lib", true, r#""/t/gateway""#),
                line("volary", "volary", "bin", false, r#""/t/volary-itself""#),
                line("volary", "volary", "bin", true, r#""/t/volary""#),
                line("volary", "kill", "test", true, r#""/t/kill""#),
            ]
            .join("\n"),
        );
        let file = |package, target| built.command(package, target).map(|command| command.get_program().to_owned());
        assert_eq!(file("gateway", "gateway").unwrap(), "/t/gateway");
        assert_eq!(file("scrub", "it").unwrap(), "/t/scrub-it");
        assert_eq!(file("volary", "volary").unwrap(), "/t/volary");
        assert!(file("policy", "egress").is_err());
        let all: Vec<&str> = built.0.iter().filter_map(|program| program.file.to_str()).collect();
        assert_eq!(all, ["/t/kill", "/t/gateway-it", "/t/scrub-it", "/t/volary", "/t/gateway"]);
    }
}
