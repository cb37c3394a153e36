//! Calling cargo, and the places it works in.

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

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
