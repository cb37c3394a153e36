//! The law, as pure functions: facts in, a word out. No I/O, no clock, no rows.
//!
//! Only a positive answer allows: each table here lists what may be, and whatever is in no
//! table is refused, with a [`Refusal`] that says which rule held.
//!
//! Read [`access`] (who may ask for what), [`egress`] (which addresses exist for us),
//! [`model_call`] (what a model call may carry), then [`budget`] (what it may cost).

pub mod access;
pub mod budget;
pub mod egress;
pub mod model_call;
mod refusal;

pub use refusal::Refusal;
