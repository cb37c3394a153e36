//! Benchmarks: programs (`[[bench]]` targets with `harness = false`) that print ratios side by side.
//! They are never tests: a slow machine fails nothing.

use crate::cargo;
use anyhow::{Result, bail};
use serde_json::Value;

/// Runs the benchmark programs of these names, or all when none is named, one after the other.
///
/// # Errors
/// A name that is none of them; a program that ends badly.
pub fn run(names: &[&str]) -> Result<()> {
    let programs = programs(&cargo::metadata()?);
    if let Some(unknown) = names.iter().find(|name| !programs.iter().any(|(_, program)| program == *name)) {
        let known: Vec<&str> = programs.iter().map(|(_, program)| program.as_str()).collect();
        bail!("{unknown} is no benchmark; there are: {}", known.join(", "));
    }
    if programs.is_empty() {
        println!("bench: there is no benchmark program yet");
    }
    for (package, program) in programs.iter().filter(|(_, p)| names.is_empty() || names.contains(&p.as_str())) {
        println!("== {package}: {program}");
        cargo::run(&["bench", "--quiet", "--package", package, "--bench", program])?;
    }
    Ok(())
}

/// Package and name of every `bench` target of the workspace.
fn programs(metadata: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let members = metadata["workspace_members"].as_array().cloned().unwrap_or_default();
    for package in metadata["packages"].as_array().into_iter().flatten().filter(|p| members.contains(&p["id"])) {
        for target in package["targets"].as_array().into_iter().flatten() {
            if target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "bench")) {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                found.push((text(&package["name"]), text(&target["name"])));
            }
        }
    }
    found.sort();
    found
}
