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
    /// A fixed number is 0 or a fixed text is empty; holds the field.
    #[error("writing a record: {0} is missing (numbers start at 1)")]
    Missing(&'static str),
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
        let there = [
            ("n", self.n > 0),
            ("source_seq", self.source_seq > 0),
            ("source", !self.source.is_empty()),
            ("kind", !self.kind.is_empty()),
            ("who", !self.who.is_empty()),
        ];
        if let Some((name, _)) = there.into_iter().find(|(_, there)| !there) {
            return Err(RecordError::Missing(name));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn record(more: Value) -> Record {
        let Value::Object(more) = more else { panic!("an object") };
        let (source, kind, who) = ("server".into(), "run.created".into(), "person/a".into());
        Record { n: 7, at: Moment(1_700_000_000_000), source, source_seq: 3, kind, who, more }
    }

    #[test]
    fn a_body_holds_the_fixed_fields_and_the_free_ones_in_order() {
        let body = record(serde_json::json!({"run": "abc", "Kind": 1})).body().unwrap();
        let expected = r#"{"Kind":1,"at":1700000000000,"kind":"run.created","n":7,"run":"abc","source":"server","source_seq":3,"who":"person/a"}"#;
        assert_eq!(String::from_utf8(body).unwrap(), expected);
    }

    #[test]
    fn a_free_field_cannot_stand_in_for_a_fixed_one() {
        for name in FIXED {
            let body = record(serde_json::json!({name: 1})).body();
            assert_eq!(body, Err(RecordError::Taken(name.to_owned())));
        }
    }

    #[test]
    fn numbers_start_at_one_and_texts_are_not_empty() {
        let whole = record(serde_json::json!({}));
        assert_eq!(Record { n: 0, ..whole.clone() }.body(), Err(RecordError::Missing("n")));
        assert_eq!(Record { source_seq: 0, ..whole.clone() }.body(), Err(RecordError::Missing("source_seq")));
        assert_eq!(Record { source: String::new(), ..whole.clone() }.body(), Err(RecordError::Missing("source")));
        assert_eq!(Record { kind: String::new(), ..whole.clone() }.body(), Err(RecordError::Missing("kind")));
        assert_eq!(Record { who: String::new(), ..whole }.body(), Err(RecordError::Missing("who")));
    }

    #[test]
    fn a_body_of_64_kib_is_written_and_one_byte_more_is_not() {
        let around = record(serde_json::json!({"x": ""})).body().unwrap().len();
        let with = |len: usize| record(serde_json::json!({"x": "a".repeat(len)})).body();
        assert_eq!(with(MAX_BODY - around).unwrap().len(), MAX_BODY);
        assert_eq!(with(MAX_BODY - around + 1), Err(RecordError::TooLong(MAX_BODY + 1)));
    }
}
