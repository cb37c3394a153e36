//! What can go wrong with rows.

use std::path::PathBuf;
use std::sync::Arc;

/// Why rows could not be read or written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The database's file could not be made or opened.
    #[error("cannot open the database {path}: {why}")]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system or the engine said.
        why: String,
    },
    /// The database was written by a later version of this program. It is left as it was.
    #[error(
        "the database {path} has schema {found}, written by volary {written_by}; this is volary {version} and knows \
         schemas up to {known}. Start volary {written_by} or a later one, or move the home folder aside to begin anew"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The version that wrote it.
        written_by: String,
        /// This program's version.
        version: &'static str,
        /// The last schema that this program knows.
        known: u32,
    },
    /// A statement failed; nothing of its act was kept.
    #[error("the database could not {act}")]
    Sql {
        /// What it was to do.
        act: &'static str,
        /// What the engine said.
        #[source]
        source: Arc<sqlx::Error>,
    },
    /// The transaction was not committed (a full disk, say): nothing of the act was kept.
    #[error("the database did not commit; nothing was changed (is the disk full?)")]
    NotCommitted,
    /// The store is closed.
    #[error("the database is closed")]
    Closed,
    /// A row holds what this program never writes.
    #[error("the database holds a {what} that cannot be read: {why}")]
    Corrupt {
        /// Which kind of value.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

impl StoreError {
    /// For `map_err`: the error of the statement that was to do `act`.
    pub(crate) fn sql(act: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Sql { act, source: Arc::new(source) }
    }

    /// For `map_err`: a value of kind `what` that does not parse.
    pub(crate) fn corrupt<E: std::fmt::Display>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |why| Self::Corrupt { what, why: why.to_string() }
    }
}
