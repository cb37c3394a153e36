//! Checks an evidence file. Shares no code with the writer.

use std::collections::BTreeMap;

/// What holds of a file that is consistent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The workspace.
    pub workspace: String,
    /// The key its heads are signed under; compare it with the one you were given.
    pub verifier_key: String,
    /// Records in the file.
    pub records: u64,
    /// Signed heads in the file.
    pub heads: u64,
    /// Records that the last signed head covers; what comes after is not yet signed.
    pub signed: u64,
    /// Head after the last record, in hex.
    pub last_head: String,
    /// Whether a head kept elsewhere was given and found in the chain; else: consistent, not witnessed.
    pub witnessed: bool,
    /// Records that the farthest such head covers; 0 without one.
    pub witnessed_records: u64,
    /// Records by source.
    pub sources: BTreeMap<String, u64>,
    /// Records that a source numbered and that are not here.
    pub gaps: Vec<Gap>,
}

/// Numbers of one source that are missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The source.
    pub source: String,
    /// First number that is missing.
    pub from: u64,
    /// Last number that is missing.
    pub to: u64,
    /// The record of the file before which they are missing.
    pub before_record: u64,
}

/// What is wrong with a file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record {record}: {what}")]
pub struct Fault {
    /// Number of the record at fault, or of the last one before the fault; 0 before the first.
    pub record: u64,
    /// What is wrong, in a sentence.
    pub what: String,
}

/// Checks `file`, and that every note of `witnessed` (signed heads kept elsewhere) lies on its chain.
///
/// # Errors
/// The first [`Fault`].
pub fn verify(file: &[u8], witnessed: &[&str]) -> Result<Report, Fault> {
    let fault = |what: &str| Fault { record: 0, what: what.to_owned() };
    let text = std::str::from_utf8(file).map_err(|_| fault("the file is no text"))?;
    if !text.starts_with("volary-evidence 1\n") || !witnessed.is_empty() {
        return Err(fault("the file is no volary-evidence 1"));
    }
    Err(fault("the file is cut"))
}
