//! Checks an evidence file. Shares no code with the writer: its own reader of lines, its own canonical
//! form, its own hash and signature calls (another Ed25519 than the signer's), so that a mistake of the
//! writer is not repeated by whoever checks it.
//!
//! What a consistent file proves: every record up to the last signed head is the one that was signed, at its
//! place, with none missing between. What it does not: that the key is ours (compare
//! [`Report::verifier_key`]), and that no newer head was ever signed; a head that was kept elsewhere shows that,
//! and is what makes a report *witnessed*.
//!
//! Read [`verify`], then [`Report`] and [`Fault`].

use base64::{Engine, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature, VerifyingKey};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
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
    /// Records that the last signed head covers; what comes after is not yet signed and could have been changed.
    pub signed: u64,
    /// Head after the last record, in hex.
    pub last_head: String,
    /// Whether a head kept elsewhere was given and found in the chain; else: consistent, not witnessed.
    pub witnessed: bool,
    /// Records that the farthest such head covers; 0 without one.
    pub witnessed_records: u64,
    /// Records by source.
    pub sources: BTreeMap<String, u64>,
    /// Records that a source numbered and that never reached the chain, in the order in which they show.
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

/// A head whose signature was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedHead {
    /// The workspace.
    pub workspace: String,
    /// Records it covers.
    pub size: u64,
    /// The head after them.
    pub head: [u8; 32],
}

/// Longest record, in bytes.
const LONGEST: usize = 65_536;
/// Deepest nesting in a record.
const DEEPEST: usize = 32;

/// Whether `file` says of itself that it is evidence, in the form that [`verify`] reads.
#[must_use]
pub fn is_evidence(file: &[u8]) -> bool {
    file.starts_with(b"volary-evidence 1\n")
}

/// Checks `file` whole, and that every note of `witnessed` (signed heads that were kept elsewhere, of the same
/// workspace and key) lies on its chain.
///
/// # Errors
/// The first [`Fault`].
pub fn verify(file: &[u8], witnessed: &[&str]) -> Result<Report, Fault> {
    let mut lines = Lines { rest: file };
    if !is_evidence(file) || lines.next().is_none() {
        return Err(fault(0, "this is no evidence file of the form \"volary-evidence 1\""));
    }
    let workspace = header(&mut lines, "workspace ")?;
    let verifier_key = header(&mut lines, "verifier ")?;
    let mut witnesses = Vec::new();
    for (at, note) in witnessed.iter().enumerate() {
        let witness = check_note(note, verifier_key)
            .map_err(|what| fault(0, format!("the witnessed head {} is not one of this file's key: {what}", at + 1)))?;
        if witness.workspace != workspace {
            return Err(fault(0, format!("the witnessed head {} is of another workspace", at + 1)));
        }
        witnesses.push(witness);
    }
    let mut check = Check {
        report: Report {
            workspace: workspace.to_owned(),
            verifier_key: verifier_key.to_owned(),
            records: 0,
            heads: 0,
            signed: 0,
            last_head: String::new(),
            witnessed: false,
            witnessed_records: 0,
            sources: BTreeMap::new(),
            gaps: Vec::new(),
        },
        head: [0; 32],
        last_numbers: BTreeMap::new(),
        witnesses,
    };
    // A witnessed head of no records says something too.
    check.compare_witnesses()?;
    loop {
        let line = lines.next();
        match line.and_then(|line| line.split_first_chunk::<2>()) {
            Some((b"R ", body)) => check.record(body)?,
            Some((b"H ", note)) => check.signed_head(note)?,
            Some((b"E ", counts)) => {
                check.end(counts, lines.rest)?;
                break;
            }
            Some(_) => return Err(check.fault("a line after it is neither a record, a head nor the end")),
            None if line.is_some() => return Err(check.fault("a line after it is too short to be any")),
            None => return Err(check.fault("the file is cut after it: its last line (E) is missing")),
        }
    }
    check.finish()
}

/// Checks the signature of one signed head under `verifier_key` (`name+hash+key`).
///
/// # Errors
/// What is wrong, in half a sentence.
pub fn check_note(note: &str, verifier_key: &str) -> Result<SignedHead, String> {
    let (key, hash, name) = read_key(verifier_key)?;
    let (text, signatures) = note.split_once("\n\n").ok_or("it has no signature")?;
    let line = signatures.strip_suffix('\n').ok_or("its last line has no end")?;
    let (signer, encoded) = line
        .strip_prefix("\u{2014} ")
        .and_then(|line| line.split_once(' '))
        .ok_or("its signature line is malformed")?;
    let signature = STANDARD.decode(encoded).map_err(|_| "its signature is no base 64")?;
    let (signed_by, signature) = signature.split_first_chunk::<4>().ok_or("its signature is too short")?;
    if signer != name || *signed_by != hash {
        return Err("it is signed by another key".to_owned());
    }
    let signature = Signature::from_slice(signature).map_err(|_| "its signature has a wrong length")?;
    let text_signed = format!("{text}\n");
    key.verify_strict(text_signed.as_bytes(), &signature).map_err(|_| "its signature is bad")?;

    let mut lines = text.split('\n');
    let workspace = lines.next().and_then(|line| line.strip_prefix("volary/")).ok_or("it is no head of a workspace")?;
    let size_text = lines.next().unwrap_or("");
    let size: u64 = size_text.parse().map_err(|_| "its size is no number")?;
    let head = lines.next().and_then(|line| STANDARD.decode(line).ok()).and_then(|head| head.try_into().ok());
    let head = head.ok_or("its head is not 32 bytes of base 64")?;
    if size.to_string() != size_text || lines.next().is_some() {
        return Err("its text has another form".to_owned());
    }
    Ok(SignedHead { workspace: workspace.to_owned(), size, head })
}

fn read_key(text: &str) -> Result<(VerifyingKey, [u8; 4], &str), String> {
    let mut parts = text.splitn(3, '+');
    let (Some(name), Some(hash), Some(encoded)) = (parts.next(), parts.next(), parts.next()) else {
        return Err("the verifier key is not of the form name+hash+key".to_owned());
    };
    let typed = STANDARD.decode(encoded).map_err(|_| "the verifier key is no base 64")?;
    let mut hashed = Sha256::new();
    hashed.update(name);
    hashed.update("\n");
    hashed.update(&typed);
    let digest = hashed.finalize();
    let own_hash = [digest[0], digest[1], digest[2], digest[3]];
    if hash != format!("{:08x}", u32::from_be_bytes(own_hash)) {
        return Err("the verifier key does not fit its own hash".to_owned());
    }
    let key = match typed.split_first() {
        Some((1, key)) => key.try_into().ok().and_then(|key| VerifyingKey::from_bytes(key).ok()),
        _ => None,
    };
    Ok((key.ok_or("the verifier key is no Ed25519 key")?, own_hash, name))
}

fn fault(record: u64, what: impl Into<String>) -> Fault {
    Fault { record, what: what.into() }
}

fn header<'a>(lines: &mut Lines<'a>, name: &str) -> Result<&'a str, Fault> {
    let line = lines.next().and_then(|line| std::str::from_utf8(line).ok());
    line.and_then(|line| line.strip_prefix(name))
        .ok_or_else(|| fault(0, format!("the file's line \"{name}…\" is missing or damaged")))
}

/// Lines that end in one newline; a last one that does not is none.
struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Option<&'a [u8]> {
        let end = self.rest.iter().position(|byte| *byte == b'\n')?;
        let line = &self.rest[..end];
        self.rest = &self.rest[end + 1..];
        Some(line)
    }
}

/// Where the check stands.
struct Check {
    report: Report,
    head: [u8; 32],
    last_numbers: BTreeMap<String, u64>,
    witnesses: Vec<SignedHead>,
}

impl Check {
    fn fault(&self, what: impl Into<String>) -> Fault {
        fault(self.report.records, what)
    }

    fn record(&mut self, body: &[u8]) -> Result<(), Fault> {
        let expected = self.report.records + 1;
        let fault = |what: String| fault(expected, what);
        if body.len() > LONGEST {
            return Err(fault(format!("it is {} bytes long, more than {LONGEST}", body.len())));
        }
        let value: Value = serde_json::from_slice(body).map_err(|_| fault("it is no JSON".into()))?;
        let mut again = Vec::with_capacity(body.len());
        if !rewrite(&value, DEEPEST, &mut again) || again != body {
            return Err(fault("its bytes are not canonical".into()));
        }
        let Value::Object(fields) = value else { return Err(fault("it is no object".into())) };
        let number = |name: &str| fields.get(name).and_then(Value::as_u64).filter(|number| *number > 0);
        let n = number("n").ok_or_else(|| fault("it has no number".into()))?;
        if n != expected {
            return Err(fault(format!("in its place stands number {n}: records were removed, added or swapped")));
        }
        let source = text(&fields, "source").ok_or_else(|| fault("it names no source".into()))?;
        let source_seq = number("source_seq").ok_or_else(|| fault("its source gave it no number".into()))?;
        let complete = fields.get("at").is_some_and(Value::is_i64) || fields.get("at").is_some_and(Value::is_u64);
        if !complete || text(&fields, "kind").is_none() || text(&fields, "who").is_none() {
            return Err(fault("it lacks one of at, kind and who".into()));
        }
        let last = self.last_numbers.insert(source.to_owned(), source_seq).unwrap_or(0);
        if source_seq <= last {
            let what = format!("its source \"{}\" numbered it {source_seq} after {last}", source.escape_debug());
            return Err(fault(what));
        }
        if source_seq > last + 1 {
            let (from, to) = (last + 1, source_seq - 1);
            self.report.gaps.push(Gap { source: source.to_owned(), from, to, before_record: expected });
        }
        *self.report.sources.entry(source.to_owned()).or_default() += 1;

        let mut hash = Sha256::new();
        hash.update(self.head);
        hash.update(body);
        self.head = hash.finalize().into();
        self.report.records = expected;
        self.compare_witnesses()
    }

    fn compare_witnesses(&mut self) -> Result<(), Fault> {
        for witness in self.witnesses.iter().filter(|witness| witness.size == self.report.records) {
            if witness.head != self.head {
                let what =
                    "a witnessed head of this place is another: a record up to here was changed after it was seen";
                return Err(self.fault(what));
            }
            self.report.witnessed = true;
            self.report.witnessed_records = witness.size;
        }
        Ok(())
    }

    fn signed_head(&mut self, encoded: &[u8]) -> Result<(), Fault> {
        let note = STANDARD.decode(encoded).ok().and_then(|note| String::from_utf8(note).ok());
        let note = note.ok_or_else(|| self.fault("the signed head after it is damaged"))?;
        let signed = check_note(&note, &self.report.verifier_key)
            .map_err(|what| self.fault(format!("the signed head after it does not hold: {what}")))?;
        if signed.workspace != self.report.workspace {
            return Err(self.fault("the signed head after it is of another workspace"));
        }
        if signed.size != self.report.records {
            let what =
                format!("the signed head after it covers {} records: something is not at its place", signed.size);
            return Err(self.fault(what));
        }
        if signed.head != self.head {
            let since = self.report.signed + 1;
            let what = format!("the signed head after it does not fit: a record from {since} to here was changed");
            return Err(self.fault(what));
        }
        if self.report.heads > 0 && signed.size == self.report.signed {
            return Err(self.fault("two signed heads stand after it"));
        }
        self.report.heads += 1;
        self.report.signed = signed.size;
        Ok(())
    }

    fn end(&self, counts: &[u8], rest: &[u8]) -> Result<(), Fault> {
        if !rest.is_empty() {
            return Err(self.fault("something follows the end of the file"));
        }
        if counts != format!("{} {}", self.report.records, self.report.heads).as_bytes() {
            return Err(self.fault("the last line counts other records or heads than the file has: lines are missing"));
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Report, Fault> {
        if let Some(beyond) = self.witnesses.iter().map(|witness| witness.size).max()
            && beyond > self.report.records
        {
            let what = format!("the file is cut after it: a witnessed head covers {beyond} records");
            return Err(self.fault(what));
        }
        self.report.last_head = self.head.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(self.report)
    }
}

fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    fields.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// Writes `value` the one way it may be written; false when there is none (a fraction, too deep).
fn rewrite(value: &Value, deeper: usize, out: &mut Vec<u8>) -> bool {
    match value {
        Value::Number(number) => {
            out.extend(number.to_string().bytes());
            !number.is_f64()
        }
        Value::Array(_) | Value::Object(_) if deeper == 0 => false,
        Value::Array(items) => {
            let mut before = b'[';
            let mut good = true;
            for item in items {
                out.push(before);
                good &= rewrite(item, deeper - 1, out);
                before = b',';
            }
            out.extend(if items.is_empty() { &b"[]"[..] } else { b"]" });
            good
        }
        Value::Object(fields) => {
            let sorted: BTreeMap<&[u8], (&String, &Value)> =
                fields.iter().map(|field| (field.0.as_bytes(), field)).collect();
            let mut before = b'{';
            let mut good = true;
            for (name, item) in sorted.into_values() {
                out.push(before);
                out.extend(Value::from(name.as_str()).to_string().bytes());
                out.push(b':');
                good &= rewrite(item, deeper - 1, out);
                before = b',';
            }
            out.extend(if fields.is_empty() { &b"{}"[..] } else { b"}" });
            good
        }
        plain => {
            out.extend(plain.to_string().bytes());
            true
        }
    }
}
