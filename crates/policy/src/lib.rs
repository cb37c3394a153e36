//! The law, as pure functions: facts in, a word out. No I/O, no clock, no rows.
//!
//! Only a positive answer allows: each table here lists what may be, and whatever is in no
//! table is refused, with a [`Refusal`] that says which rule held.
//!
//! Read [`access`] (who may ask for what), [`egress`] (which addresses exist for us),
//! [`model_call`] (what a model call may carry), [`git`] (what a run may do with a repository), [`budget`] (what it
//! may cost), [`delivery`] (how a credential may travel), [`lease`] (for how long it may be used), then [`minters`]
//! (of which keys narrower ones are made).

pub mod access;
pub mod budget;
pub mod delivery;
pub mod egress;
pub mod git;
pub mod lease;
pub mod minters;
pub mod model_call;
pub mod providers;
mod refusal;

pub use refusal::Refusal;
