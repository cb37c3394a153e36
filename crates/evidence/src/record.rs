//! One record, before it is bytes.

use crate::{
    canonical::{CanonicalError, canonical},
    chain::MAX_BODY,
};
use model::Moment;
use serde_json::{Map, Value};

/// The fields every record has, and what it says beyond them.
///
/// A secret never enters a record: values appear as names, versions and digests.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Its place in the workspace's chain: from 1, without a gap.
    pub n: u64,
    /// When it was decided, in milliseconds.
    pub at: Moment,
    /// Who wrote it: `server`, `gateway`, `operator/<host>`.
    pub source: String,
    /// Its number among that source's records: from 1; a gap shows a lost record.
    pub source_seq: u64,
    /// What it is: `run.created`, `model.call`, `model.refused` …
    pub kind: String,
    /// Who is behind it: a person, or a run of a person.
    pub who: String,
    /// Everything else, by name.
    pub more: Map<String, Value>,
}

/// Why a record has no body.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A field of [`Record::more`] has the name of a fixed one; holds the name.
    #[error("writing a record: the field {0:?} is one of the fixed ones")]
    Taken(String),
    /// A number in it starts at 1; holds the field.
    #[error("writing a record: {0} starts at 1")]
    Zero(&'static str),
    /// It has no canonical form.
    #[error("writing a record")]
    Canonical(#[from] CanonicalError),
    /// Longer than [`MAX_BODY`]; holds the length.
    #[error("writing a record: {0} bytes are more than {MAX_BODY}")]
    TooLong(usize),
}

const FIXED: [&str; 6] = ["n", "at", "source", "source_seq", "kind", "who"];

impl Record {
    /// The canonical bytes: what is linked, stored and exported.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn body(&self) -> Result<Vec<u8>, RecordError> {
        for (name, number) in [("n", self.n), ("source_seq", self.source_seq)] {
            if number == 0 {
                return Err(RecordError::Zero(name));
            }
        }
        let mut fields = self.more.clone();
        let fixed: [Value; 6] = [
            self.n.into(),
            self.at.0.into(),
            self.source.clone().into(),
            self.source_seq.into(),
            self.kind.clone().into(),
            self.who.clone().into(),
        ];
        for (name, value) in FIXED.into_iter().zip(fixed) {
            if fields.insert(name.to_owned(), value).is_some() {
                return Err(RecordError::Taken(name.to_owned()));
            }
        }
        let body = canonical(&Value::Object(fields))?;
        if body.len() > MAX_BODY {
            return Err(RecordError::TooLong(body.len()));
        }
        Ok(body)
    }
}
