//! Benchmarks: the programs of `benches/`, which print ratios side by side.
//! They are never tests: a slow machine fails nothing.

use crate::{cargo, machine};
use anyhow::Result;
use std::process::Command;

/// What the gateway is measured beside, by program and package. The package `squid` is built without TLS.
const PROXIES: [(&str, &str); 3] = [("squid", "squid-openssl"), ("tinyproxy", "tinyproxy"), ("mitmdump", "mitmproxy")];

/// Builds the platform and the benchmarks in release, then runs the benchmarks of these names, or all when none is named.
///
/// # Errors
/// What does not build; a name that is none of them; a benchmark that could not measure.
pub fn run(names: &[&str]) -> Result<()> {
    if names.is_empty() || names.contains(&"proxy") {
        machine::bring(&PROXIES);
    }
    cargo::run(&["build", "--release", "--package", "volary", "--package", "benches"])?;
    cargo::finish(Command::new(cargo::target().join("release/benches")).args(names))
}
