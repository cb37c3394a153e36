//! All tests: cargo's own, with real boxes and a real browser among them, then a boot of another kernel.

use crate::cargo::{self, Built};
use crate::guest::Guest;
use crate::suites::{self, Suite};
use crate::{fuzz, machine, qemu};
use anyhow::Result;

/// Suites of volary that are made once more on boxes of Docker's; each starts an engine of its own.
const EACH_ENGINE: [&str; 2] = ["kill", "escape"];

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

/// Prepares the machine, builds, and runs the tests, all of them also when one failed, so that one run tells everything.
///
/// # Errors
/// What the machine lacks; what does not build; which suites failed, and why.
pub fn run(part: Part) -> Result<()> {
    machine::prepare(part != Part::NoQemu)?;
    let guest = |name: &str, guest: Guest| Suite::new(name, move |said| qemu::run(guest, said));
    let mut bare = Some(guest("Debian's kernel under qemu", Guest::Bare));
    let mut docker = Some(guest("systemd and Docker under qemu", Guest::Docker { whole: false }));
    if part == Part::OnlyQemu {
        cargo::run(&["build", "--quiet", "--workspace", "--bins"])?;
        return suites::run(bare.into_iter().chain(docker).collect());
    }
    // The programs of `volary` among them, which the guests have too.
    let built = Built::tests()?;
    machine::room()?;
    if part == Part::NoQemu {
        (bare, docker) = (None, None);
    }
    // What computes beside what waits.
    let mut suites = Vec::new();
    for (suite, guest) in EACH_ENGINE.into_iter().zip([bare, docker]) {
        suites.extend(guest);
        let mut command = built.command("volary", suite)?;
        command.env("VOLARY_TEST_ENGINE", "docker");
        suites.push(Suite::of(format!("volary/{suite} on Docker"), command));
    }
    suites.extend(built.suites());
    let mut docs = cargo::command(&["test", "--workspace", "--no-fail-fast", "--doc"]);
    docs.env("CARGO_TERM_COLOR", "never");
    suites.push(Suite::of("examples in the documentation", docs));
    // Last: beside the short ones, which leave room.
    suites.push(fuzz::suite(&built)?);
    suites::run(suites)
}
