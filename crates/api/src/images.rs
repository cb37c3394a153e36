//! Operator ↔ gateway: the parts of one image of a registry, over a stream socket of their own.
//!
//! [`crate::cable::ToCable::Pull`] brings the socket. On it the operator asks for one [`Part`] after the other, each a
//! frame. The gateway answers each with frames that hold the part's bytes, an empty frame, and a [`PartEnd`]. Either side
//! ends the pull by closing the socket. The bytes are as the registry sent them, bounded and no more: whoever asked
//! holds them against their digest.
//!
//! Operator ↔ server: what an image says of itself ([`Word`]), before a box is made of it.

use crate::grants::WireSecret;
use serde::{Deserialize, Serialize};

/// Bytes of a part in one frame, at most.
pub const PIECE: usize = 64 * 1024;
/// Longest part that may be asked for, in bytes.
pub const MAX_PART: u64 = 32 << 30;

/// A part of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// Where a registry keeps it.
    pub kind: PartKind,
    /// Most bytes that it may have, at most [`MAX_PART`].
    pub most: u64,
}

/// Where a registry keeps a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartKind {
    /// Indexes and manifests.
    Manifest,
    /// Configurations and layers.
    Blob,
}

/// How a part ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "end", rename_all = "kebab-case")]
pub enum PartEnd {
    /// The registry said that this was all.
    Whole,
    /// It did not come, or not to its end.
    Refused {
        /// Stable name of the rule, or of what is wrong.
        rule: String,
        /// What is wrong and what to do, for people.
        why: String,
    },
}

/// Most bytes of what one image says of itself, each [`Word`] with [`WORD`] more than it holds: however it is escaped, a
/// frame holds all of it.
pub const MAX_SAID: usize = 1 << 20;
/// Bytes that a [`Word`] counts for beside its own.
pub const WORD: usize = 32;

/// One thing that an image says of itself beside its files: a variable, a label, a command, a step of its making. It may
/// hold a key, whoever put it there.
#[derive(Debug, Serialize, Deserialize)]
pub struct Word {
    /// Where it stands, for people: `a variable of it`, `step 3 of its history`.
    pub of: String,
    /// It: `NAME=value` of a variable and of a label, else all texts of the place, a space between them.
    pub text: WireSecret,
}

impl Word {
    /// The same once more.
    #[must_use]
    pub fn share(&self) -> Self {
        Self { of: self.of.clone(), text: WireSecret(self.text.0.share()) }
    }
}
