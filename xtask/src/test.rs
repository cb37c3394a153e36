//! All tests: cargo's own, with real boxes and a real browser among them, then a boot of another kernel.

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
    let mut failed = Vec::new();
    if part != Part::OnlyQemu
        && let Err(error) = cargo::run(&["test", "--workspace", "--no-fail-fast"])
    {
        eprintln!("{error:#}");
        failed.push("cargo test");
    }
    // Beside what follows, which mostly waits.
    let mut generators = None;
    if part != Part::OnlyQemu {
        match fuzz::start() {
            Ok(running) => generators = Some(running),
            Err(error) => {
                eprintln!("{error:#}");
                failed.push("the generators");
            }
        }
        for suite in EACH_ENGINE {
            let mut tests = cargo::command(&["test", "--package", "volary", "--no-fail-fast", "--test", suite]);
            if let Err(error) = cargo::finish(tests.env("VOLARY_TEST_ENGINE", "docker")) {
                eprintln!("{error:#}");
                failed.push("a test on Docker");
            }
        }
    }
    if part != Part::NoQemu {
        cargo::run(&["build", "--quiet", "--package", "volary"])?;
        if let Err(error) = qemu::run() {
            eprintln!("{error:#}");
            failed.push("the boot under qemu");
        }
    }
    if let Some(Err(error)) = generators.map(fuzz::Running::finish) {
        eprintln!("{error:#}");
        failed.push("a generator");
    }
    if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join(", ")) }
}
