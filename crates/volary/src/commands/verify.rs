//! `volary verify [FILE]`: the evidence, checked by a program that shares no code with the one that wrote it.

use crate::home::Home;
use anyhow::Context;
use serde_json::json;
use std::fs;
use std::path::Path;

/// Checks a file, or this home's own evidence; status 1 when a fault is found.
///
/// The home's own is read from its database, whether the platform is up or not; the signed heads that the operator
/// kept elsewhere are held against it.
pub fn main(home: &Home, file: Option<&Path>, json: bool) -> anyhow::Result<i32> {
    let (name, bytes) = match file {
        Some(path) => (path.display().to_string(), fs::read(path).with_context(|| format!("read {}", path.display()))?),
        None => ("this home's evidence".to_owned(), server::export(&home.server())?),
    };
    let kept = fs::read_to_string(home.operator().join("heads")).unwrap_or_default();
    let heads = witnessed(&kept);
    let heads: Vec<&str> = if file.is_some() { Vec::new() } else { heads.iter().map(String::as_str).collect() };
    match evidence::verify::verify(&bytes, &heads) {
        Ok(report) => {
            if json {
                println!(
                    "{}",
                    json!({"ok": true, "workspace": report.workspace, "verifier_key": report.verifier_key,
                        "records": report.records, "heads": report.heads, "signed": report.signed,
                        "last_head": report.last_head, "witnessed": report.witnessed,
                        "witnessed_records": report.witnessed_records, "sources": report.sources,
                        "gaps": report.gaps.iter().map(|g| json!({"source": g.source, "from": g.from, "to": g.to})).collect::<Vec<_>>()})
                );
            } else {
                println!("{name}: {} records, every link holds", report.records);
                println!("  signed heads    {} (the last covers {} records)", report.heads, report.signed);
                println!("  key             {}", report.verifier_key);
                println!("  last head       {}", report.last_head);
                for (source, count) in &report.sources {
                    println!("  from {source:<10} {count}");
                }
                for gap in &report.gaps {
                    println!("  MISSING         {} {} to {}", gap.source, gap.from, gap.to);
                }
                if report.witnessed {
                    println!("  consistent, and witnessed up to record {}", report.witnessed_records);
                } else {
                    println!("  consistent, not witnessed: no head of it was kept elsewhere");
                }
            }
            Ok(i32::from(!report.gaps.is_empty()))
        }
        Err(fault) => {
            if json {
                println!("{}", json!({"ok": false, "record": fault.record, "what": fault.what}));
            } else {
                println!("{name}: NOT CONSISTENT at record {}: {}", fault.record, fault.what);
            }
            Ok(1)
        }
    }
}

/// The notes that an operator kept: one JSON text a line. A line that was cut by a crash is no note.
pub fn witnessed(kept: &str) -> Vec<String> {
    kept.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
