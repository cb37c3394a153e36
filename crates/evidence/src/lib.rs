//! Evidence: what was decided, in a form that can be checked without trusting whoever kept it.
//!
//! A [`record`] is a JSON object in [`canonical`] bytes; the [`chain`] links each to all before it;
//! a [`note`] signs where the chain stands; an [`export`] is the file that holds all of that; and
//! [`verify`] checks such a file, sharing no code with the parts that wrote it.
//! Nothing here stores anything or reads a clock.

pub mod canonical;
pub mod chain;
pub mod export;
pub mod note;
pub mod record;
pub mod verify;

pub use chain::Head;
pub use note::Signer;
pub use record::Record;
