//! The evidence file, `volary-evidence 1`: lines of text that a second program can check.
//!
//! ```text
//! volary-evidence 1
//! workspace main
//! verifier <verifier key>
//! R <record 1, canonical JSON>
//! R <record 2>
//! H <base 64 of the note that signs two records>
//! E <number of records> <number of heads>
//! ```
//! The last line tells a file that was cut by accident from a whole one; against a forger
//! it proves nothing, the heads do.

use base64::{Engine, engine::general_purpose::STANDARD};
use model::WorkspaceId;

/// Writes one file, piece by piece. The caller gives records in the order of the chain and each head at its place.
#[derive(Debug)]
pub struct Export {
    out: Vec<u8>,
    records: u64,
    heads: u64,
}

impl Export {
    /// Begins the file of `workspace`, whose heads are signed under `verifier_key`.
    #[must_use]
    pub fn new(workspace: &WorkspaceId, verifier_key: &str) -> Self {
        let out = format!("volary-evidence 1\nworkspace {workspace}\nverifier {verifier_key}\n").into_bytes();
        Self { out, records: 0, heads: 0 }
    }
    /// Adds the next record, in its canonical bytes.
    pub fn record(&mut self, body: &[u8]) {
        self.out.extend_from_slice(b"R ");
        self.out.extend_from_slice(body);
        self.out.push(b'\n');
        self.records += 1;
    }
    /// Adds the signed head of the records so far. At most one at one place.
    pub fn head(&mut self, note: &str) {
        self.out.extend_from_slice(format!("H {}\n", STANDARD.encode(note)).as_bytes());
        self.heads += 1;
    }
    /// Takes what was written since the last call, to send a long file in pieces.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }
    /// Ends the file and gives what was not taken yet.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.out.extend_from_slice(format!("E {} {}\n", self.records, self.heads).as_bytes());
        self.out
    }
}
