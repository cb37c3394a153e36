//! `volary verify [FILE]`: the evidence, checked by a program that shares no code with the one that wrote it.
//!
//! What binds the records is the chain, and what binds the chain is its signed heads: records that no head covers can
//! have been written by anyone, and a file's own key only says which key was used. So a file is held against this
//! home's key and the heads that its operator kept, or against the key that was given.

use crate::client::Client;
use crate::home::Home;
use anyhow::Context;
use evidence::verify::{Fault, Report, check_note, is_evidence, verify};
use serde_json::json;
use std::fs;
use std::path::Path;

/// This home's own evidence: from the platform that is up, whose database is being written, or from the database at rest.
fn own(home: &Home) -> anyhow::Result<Vec<u8>> {
    let client = Client::new(home);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let asked = runtime.block_on(async {
        if !client.is_up().await {
            return Ok(None);
        }
        client.answers().await?;
        client.get_bytes("/api/evidence").await.map(Some)
    })?;
    match asked {
        Some(bytes) => Ok(bytes),
        None => server::export(&home.server()),
    }
}

/// What was found, beyond the chain itself.
struct Findings {
    report: Report,
    /// Why it is not to be relied on, although every link holds.
    doubts: Vec<String>,
    /// What a reader should know.
    remarks: Vec<String>,
}

/// Exit status for what is no evidence at all, as for other mistakes of whoever types.
const NO_EVIDENCE: i32 = 2;

/// Checks a file, or this home's own evidence; status 1 when something is wrong or cannot be relied on, 2 when the file
/// is another kind of file.
pub fn main(home: &Home, file: Option<&Path>, key: Option<&str>, json: bool) -> anyhow::Result<i32> {
    if file.is_none() {
        home.is_there()?;
    }
    // The heads first: what the operator has kept by now, the database holds by the time that it is read.
    let kept = kept_heads(home);
    let (name, bytes) = match file {
        Some(path) => (path.display().to_string(), fs::read(path).with_context(|| format!("read {}", path.display()))?),
        None => ("this home's evidence".to_owned(), own(home)?),
    };
    if !is_evidence(&bytes) {
        let what = "this is no evidence file, so there is nothing to verify: an evidence file begins with the line \
                    \"volary-evidence 1\", and is what a platform answers to GET /api/evidence";
        if json {
            println!("{}", json!({"ok": false, "is_evidence": false, "what": what}));
        } else {
            eprintln!("volary: {name}: {what}");
        }
        return Ok(NO_EVIDENCE);
    }
    let found = examine(&bytes, &kept, key, file.is_some());
    if json {
        println!("{}", as_json(&found));
    } else {
        tell(&name, &found);
    }
    Ok(i32::from(!found.is_ok_and(|found| found.doubts.is_empty())))
}

fn examine(bytes: &[u8], kept: &[String], key: Option<&str>, is_file: bool) -> Result<Findings, Fault> {
    let own = verifier_key(bytes);
    let fault = |what: &str| Fault { record: 0, what: what.to_owned() };
    let mut remarks = Vec::new();
    match (key, own) {
        (Some(given), Some(own)) if given != own => {
            return Err(fault("its heads are signed under another key than the one that was given"));
        }
        (None, Some(own)) if is_file && kept.is_empty() => {
            remarks.push(format!("its key was compared with nothing: give the one you know by --key (it is {own})"));
        }
        _ => {}
    }
    let sizes: Vec<(u64, &str)> = match own {
        Some(own) => kept.iter().filter_map(|note| Some((check_note(note, own).ok()?.size, note.as_str()))).collect(),
        None => Vec::new(),
    };
    if key.is_none() && sizes.len() < kept.len() {
        return Err(fault("its heads are signed under another key than those that this home's operator has kept"));
    }
    let records = bytes.split(|b| *b == b'\n').filter(|line| line.starts_with(b"R ")).count() as u64;
    // A file may be an earlier export: heads beyond its end say nothing of what is in it. This home's own may not be short.
    let beyond = sizes.iter().map(|(size, _)| *size).max().filter(|size| is_file && *size > records);
    if let Some(beyond) = beyond {
        remarks.push(format!("this home knows {beyond} records: the file is an earlier export, or was cut"));
    }
    let held: Vec<&str> =
        sizes.iter().filter(|(size, _)| beyond.is_none() || *size <= records).map(|(_, n)| *n).collect();
    let report = verify(bytes, &held)?;
    let mut doubts = Vec::new();
    let bare = report.records - report.signed;
    if bare > 0 && (is_file || report.signed == 0) {
        doubts.push(format!("its last {bare} records are under no signed head: anyone can have written them"));
    } else if bare > 0 {
        remarks.push(format!("its last {bare} records are not signed yet"));
    }
    for gap in &report.gaps {
        doubts.push(format!("records {} to {} of {} are missing", gap.from, gap.to, gap.source));
    }
    Ok(Findings { report, doubts, remarks })
}

/// The key that a file says it is signed under.
fn verifier_key(file: &[u8]) -> Option<&str> {
    let line = file.split(|b| *b == b'\n').nth(2)?.strip_prefix(b"verifier ")?;
    std::str::from_utf8(line).ok()
}

fn as_json(found: &Result<Findings, Fault>) -> serde_json::Value {
    match found {
        Ok(Findings { report, doubts, remarks }) => json!({
            "ok": doubts.is_empty(), "doubts": doubts,
            "gaps": report.gaps.iter().map(|g| json!({"source": g.source, "from": g.from, "to": g.to})).collect::<Vec<_>>(), "remarks": remarks,
            "workspace": report.workspace, "verifier_key": report.verifier_key,
            "records": report.records, "heads": report.heads, "signed": report.signed,
            "last_head": report.last_head, "witnessed": report.witnessed,
            "witnessed_records": report.witnessed_records, "sources": report.sources,
        }),
        Err(fault) => json!({"ok": false, "record": fault.record, "what": fault.what}),
    }
}

fn tell(name: &str, found: &Result<Findings, Fault>) {
    let Findings { report, doubts, remarks } = match found {
        Ok(found) => found,
        Err(fault) => {
            println!("{name}: NOT CONSISTENT at record {}: {}", fault.record, fault.what);
            return;
        }
    };
    println!("{name}: {} records, every link holds", report.records);
    println!("  signed heads    {} (the last covers {} records)", report.heads, report.signed);
    println!("  key             {}", report.verifier_key);
    println!("  last head       {}", report.last_head);
    for (source, count) in &report.sources {
        println!("  from {source:<10} {count}");
    }
    for remark in remarks {
        println!("  note: {remark}");
    }
    for doubt in doubts {
        println!("  NOT RELIABLE: {doubt}");
    }
    if report.witnessed {
        println!("  consistent, and witnessed up to record {}", report.witnessed_records);
    } else {
        println!("  consistent, not witnessed: no head of it was kept elsewhere");
    }
}

/// The heads that a home's operator has kept: one JSON text a line. A line that was cut by a crash is no note.
pub fn kept_heads(home: &Home) -> Vec<String> {
    let kept = fs::read_to_string(home.operator().join("heads")).unwrap_or_default();
    kept.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
