//! Envelope encryption of secrets: bytes in, bytes out.
//!
//! A key-encryption key ([`Kek`]) wraps one data key ([`Dek`]) per workspace; the data key seals each
//! secret. Associated data ties every ciphertext to its place (workspace, person, name, version), so that one that is put
//! into another row, or under another version, does not open. The version stands in the same row: one who can write the
//! database can put a whole older row back, and that opens. A ciphertext's length says nothing of a usual value's. Nothing
//! here stores, reads a clock or logs; there is no way to list or search values.
//!
//! AES-256-GCM with a random 96-bit nonce each time (NIST SP 800-38D: at most 2^32 sealings under one
//! key; a workspace that sets a secret every second reaches that in 136 years).
//!
//! [`lease`] is the life of a lease, [`mint`] that of what a vendor makes for one, and [`refresh`] that of an OAuth
//! connection, each as a pure function.
//!
//! Read [`Kek`], [`Dek`], [`Place`], then [`seal`] and [`open`].

pub mod lease;
pub mod mint;
pub mod refresh;
mod sealing;

pub use sealing::{Dek, Kek, MAX_PLAINTEXT, OpenError, Place, SealError, open, seal};

#[cfg(test)]
mod tests;
