//! Rows: the only crate that speaks SQL.
//!
//! One SQLite file holds what a workspace knows. It is written by one task that owns the one writing
//! connection: callers hand it *acts*, it takes what has queued up into one transaction, and answers every caller
//! after the commit (group commit). What a person is told has happened is therefore on the disk. An act that fails
//! leaves nothing of itself and spares its neighbours; an engine that refuses a statement fails all of the transaction.
//!
//! Evidence is written through the same [`Tx`] as the rows it speaks of, so neither exists without the other.
//! Nothing here reads a clock, opens a secret or decides anything; times come from callers.
//!
//! Read [`Store::open`], then [`Store::write`] and [`Tx`], then the rows: [`runs`], [`grants`], [`leases`], [`secrets`], [`keep`], [`chain`].

pub mod chain;
pub mod connections;
mod egress;
mod error;
pub mod grants;
pub mod keep;
pub mod leases;
mod mints;
mod open;
pub mod runs;
mod script;
pub mod secrets;
mod write;

pub use error::StoreError;
pub use open::{SCHEMA, Store};
pub use write::{Act, InTx, Tx};

/// A count of ours as the engine keeps it; saturating, for the engine's integers have a sign.
fn to_row(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// A count as the engine kept it; a negative one was never written by us and reads as none.
fn from_row(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}
