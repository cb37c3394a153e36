//! The key-encryption key: how the server gets it, and what is told of it.
//!
//! The server reads no key file, runs no command and asks no KMS: it is confined. A process that is not obtains the key and
//! writes a [`KeyOffer`] into a pipe, which is the server's alone (decision 0019). Nobody is ever told the key; what is told is its
//! id, which opens nothing.

use crate::grants::WireSecret;
use serde::{Deserialize, Serialize};

/// Longest offer, in bytes of JSON.
pub const MAX_OFFER: usize = 64 * 1024;

/// What the server is handed when it starts.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyOffer {
    /// The keys that could be had: the one that is in use and, while a rotation is under way, the one that is to follow.
    pub keys: Vec<OfferedKey>,
    /// Why others could not, in words for people.
    pub missing: Vec<String>,
}

/// One key.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OfferedKey {
    /// Where it comes from, in words for people.
    pub source: String,
    /// The key: 64 hex digits.
    pub key: WireSecret,
}

/// `GET /api/vault`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct VaultView {
    /// Id of the key that the data key is wrapped with.
    pub key: String,
    /// Where that key comes from, in words for people.
    pub source: String,
}

/// `POST /api/vault/rotation`: whoever holds the ticket made last may exchange the key, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RotationTicket {
    /// To be shown with the new key. Every ticket made before it is void.
    pub ticket: String,
    /// Id of the key that is in use.
    pub key: String,
}

/// `PUT /api/vault/rotation`.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct RotateVault {
    /// See [`RotationTicket`].
    pub ticket: String,
    /// Where the new key comes from, in words for people.
    pub source: String,
    /// The new key: 64 hex digits.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub key: WireSecret,
}
