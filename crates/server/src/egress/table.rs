//! The table that a run is judged by, read from its profile and kept for the next question.

use crate::app::App;
use aws_lc_rs::digest;
use model::egress::Reads;
use model::{Egress, RunId};
use policy::egress::Law;
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use store::StoreError;

/// Tables that are kept as they were read.
const REMEMBERED_TABLES: usize = 256;

/// The table of a run, and its version: a number of its text, never 0.
pub(super) struct Table {
    /// The profile that it was read from.
    pub(super) profile: String,
    pub(super) egress: Egress,
    pub(super) version: u64,
    /// Checked; none when it is wrong.
    pub(super) law: Option<Law>,
}

/// The tables of runs that were asked about lately. What is kept is what was read; whether it holds still is decided by
/// the profile's text, in each act.
static TABLES: LazyLock<Mutex<HashMap<RunId, Arc<Table>>>> = LazyLock::new(Mutex::default);

impl Table {
    /// Reads it. What was accepted before there were tables lets nothing out.
    pub(super) fn of(profile: &str) -> Result<Self, StoreError> {
        #[derive(Deserialize)]
        struct Kept {
            egress: Option<Egress>,
        }
        let corrupt = |e: serde_json::Error| StoreError::Corrupt { what: "profile", why: e.to_string() };
        let kept: Kept = serde_json::from_str(profile).map_err(corrupt)?;
        let egress = kept.egress.unwrap_or(Egress { reads: Reads::None, ..Egress::default() });
        let text = serde_json::to_vec(&egress).map_err(corrupt)?;
        let mut head = [0; 8];
        head.copy_from_slice(&digest::digest(&digest::SHA256, &text).as_ref()[..8]);
        let law = Law::of(&egress).ok();
        Ok(Self { profile: profile.to_owned(), egress, version: u64::from_be_bytes(head).max(1), law })
    }

    /// The table of a run as it was read lately, or as it is read now; none for a run that there is not.
    pub(super) async fn lately(app: &App, run: &RunId) -> Result<Option<Arc<Self>>, StoreError> {
        let kept = || TABLES.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = kept().get(run) {
            return Ok(Some(table.clone()));
        }
        let Some(row) = app.store.run(run).await? else { return Ok(None) };
        Ok(Some(Self::keep(run, Self::of(&row.profile)?)))
    }

    pub(super) fn keep(run: &RunId, table: Self) -> Arc<Self> {
        let mut kept = TABLES.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= REMEMBERED_TABLES {
            kept.clear();
        }
        let table = Arc::new(table);
        kept.insert(run.clone(), table.clone());
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_accepted_before_there_were_tables_lets_nothing_out() {
        let table = Table::of(r#"{"description": "an old one"}"#).unwrap();
        assert_eq!((table.egress.reads, table.egress.write.len()), (Reads::None, 0));
        // And a profile of today says what it means.
        let today = serde_json::to_string(&model::Profile::default()).unwrap();
        assert_eq!(Table::of(&today).unwrap().egress.reads, Reads::Any);
    }

    #[test]
    fn a_version_is_of_the_table_alone() {
        let of = |profile: &str| Table::of(profile).unwrap().version;
        let one = of(r#"{"description": "a", "egress": {"reads": "none"}}"#);
        assert_eq!(one, of(r#"{"egress": {"reads": "none", "write": []}, "description": "b"}"#));
        assert_ne!(one, of(r#"{"egress": {"reads": "any"}}"#));
        assert_ne!(one, 0);
    }
}
