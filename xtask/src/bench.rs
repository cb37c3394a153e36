//! Benchmarks: the programs of `benches/`, which print ratios side by side.
//! They are never tests: a slow machine fails nothing.

use crate::cargo;
use anyhow::Result;
use std::process::Command;

/// Builds the platform and the benchmarks in release, then runs the benchmarks of these names, or all when none is named.
///
/// # Errors
/// What does not build; a name that is none of them; a benchmark that could not measure.
pub fn run(names: &[&str]) -> Result<()> {
    cargo::run(&["build", "--release", "--package", "volary", "--package", "benches"])?;
    cargo::finish(Command::new(cargo::target().join("release/benches")).args(names))
}
