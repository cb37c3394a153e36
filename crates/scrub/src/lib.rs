//! The scrubber: no secret that is live leaves by an answer, a log line, an event or an error.
//!
//! It knows the exact values of the live secrets and replaces each, in every common encoding, by
//! `[scrubbed:KIND]`. It cannot fail: whatever comes in, something scrubbed comes out.
//!
//! What it does not find: a value cut in parts by the sender, encrypted, compressed, wrapped over
//! lines, or spelled in an encoding that is not in [`Scrubber`]'s list. Leaving no live secret where
//! an agent can read it is the wall; this is the net below.
//!
//! Read [`Scrubber`], then [`Stream`] (the same over pieces as they arrive), then [`event`] (what a box says).

mod encodings;
pub mod event;
mod matcher;
mod stream;

pub use matcher::{MIN_BYTES, Scrubber};
pub use stream::Stream;
#[cfg(test)]
mod tests;
