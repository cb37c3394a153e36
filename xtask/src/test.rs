//! All tests: cargo's own, with real boxes and a real browser among them, then a boot of another kernel.

use crate::guest::Guest;
use crate::{cargo, fuzz, machine, qemu};
use anyhow::{Result, bail};

/// Suites that are made once more on boxes of Docker's; each starts an engine of its own.
const EACH_ENGINE: [&str; 2] = ["escape", "kill"];

/// How much of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Everything.
    All,
    /// What runs on this kernel.
    NoQemu,
    /// What runs under qemu.
    OnlyQemu,
}

/// Prepares the machine and runs the tests. The boot comes last and comes also when a test before it failed,
/// so that one run tells everything.
///
/// # Errors
/// What the machine lacks; which of the two parts failed.
pub fn run(part: Part) -> Result<()> {
    machine::prepare(part != Part::NoQemu)?;
    let mut failed = Failed::default();
    if part != Part::OnlyQemu {
        failed.or("cargo test", cargo::tests(&mut cargo::command(&["test", "--workspace", "--no-fail-fast"])));
    }
    // Beside what follows, which mostly waits.
    let mut generators = None;
    if part != Part::OnlyQemu {
        generators = failed.or("the generators", fuzz::start());
        for suite in EACH_ENGINE {
            // The whole workspace again: for one package its dependencies would be built with other features, anew.
            let mut tests = cargo::command(&["test", "--workspace", "--no-fail-fast", "--test", suite]);
            failed.or("a test on Docker", cargo::tests(tests.env("VOLARY_TEST_ENGINE", "docker")));
        }
    }
    if part != Part::NoQemu {
        cargo::run(&["build", "--quiet", "--workspace", "--bins"])?;
        failed.or("the boot under qemu", qemu::run(Guest::Bare));
        failed.or("the boot of systemd and Docker under qemu", qemu::run(Guest::Docker { whole: false }));
    }
    if let Some(running) = generators {
        failed.or("a generator", running.finish());
    }
    failed.verdict()
}

/// The parts that failed, each with its reason, which is told last too: of a long output often only the end is seen.
#[derive(Default)]
struct Failed(Vec<(&'static str, anyhow::Error)>);

impl Failed {
    fn or<T>(&mut self, part: &'static str, result: Result<T>) -> Option<T> {
        result
            .map_err(|error| {
                eprintln!("{part}: {error:#}");
                self.0.push((part, error));
            })
            .ok()
    }

    fn verdict(self) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let parts: Vec<&str> = self.0.iter().map(|(part, _)| *part).collect();
        let reasons: Vec<String> = self.0.iter().map(|(part, error)| format!("== {part}\n{error:#}")).collect();
        bail!("failed: {}\n{}", parts.join(", "), reasons.join("\n"))
    }
}
