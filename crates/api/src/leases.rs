//! Leases on the wire: asked for by a run through the gateway, used once, ended.
//!
//! | step | message |
//! |---|---|
//! | a run asks at its door (`POST /lease`: [`Wish`] in, [`Given`] out) | [`LeaseAsk`] → [`LeaseWord`] |
//! | what the lease is for begins: a command, a push, an injection | [`LeaseUse`] → [`ValueWord`] |
//! | it is over | [`LeaseEnd`] |
//! | a person, or the run's end, takes it back | `RevokeLease` |
//!
//! The messages themselves are variants of [`crate::grants`]. A value crosses from the server to the gateway, and from
//! there on the runner's own connection alone: never the link, never the operator, never the agent.

use crate::grants::WireSecret;
use model::capability::Delivery;
use model::{LeaseId, Moment, RunId};
use serde::{Deserialize, Serialize};

/// Where a run asks for a lease, at its own door.
pub const PATH: &str = "/lease";
/// Longest body of a [`Wish`], in bytes.
pub const MAX_WISH: usize = 8 * 1024;
/// Longest reason that is kept, in characters.
pub const MAX_REASON: usize = 500;
/// Key of `_meta` in `terminal/create`: the id of the lease under which the command is to run.
pub const ACP_LEASE: &str = "volary.lease";

/// What a run asks at its door, with its handle in `Authorization: Bearer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wish {
    /// The capability, by its name in the profile: of a `[[capability]]`, or of a row to write.
    pub capability: String,
    /// One of the capability's destinations; of a row to write its host, with its port where that is another than 443.
    pub destination: String,
    /// Why, in the agent's words: shown and recorded as untrusted text, never judged.
    #[serde(default)]
    pub reason: String,
}

/// What it gets: an opaque id, until when, and how the credential will travel. Never a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// Opaque.
    pub lease: LeaseId,
    /// The first moment at which it can no longer be used.
    pub expires: Moment,
    /// How.
    pub delivery: Delivery,
    /// The programs that may use it; empty with [`Delivery::Proxy`] alone, for any that the box cannot write.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub executables: Vec<String>,
}

/// A question for a lease, as the gateway knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseAsk {
    /// The run, known by the listener alone.
    pub run: RunId,
    /// SHA-256 of the handle that the request carried, hex, lower case.
    pub handle_sha256: String,
    /// The capability, as it was asked for.
    pub capability: String,
    /// The destination, as it was asked for.
    pub destination: String,
    /// Untrusted text.
    pub reason: String,
}

/// The server's word on a [`LeaseAsk`]; recorded before it is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "word", rename_all = "kebab-case")]
pub enum LeaseWord {
    /// It may be used once, until it expires.
    Granted(Given),
    /// No.
    Denied {
        /// Stable name of the rule.
        rule: String,
        /// One sentence for the agent.
        why: String,
    },
}

/// The one use of a lease begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseUse {
    /// The run, known by the listener alone.
    pub run: RunId,
    /// Which.
    pub lease: LeaseId,
    /// By what.
    pub by: LeaseUser,
}

/// What uses a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub enum LeaseUser {
    /// A command in the box, as the runner opened it.
    Command {
        /// The executable as it was asked for, absolute: neither it nor a folder or link on its way can be written in the box.
        executable: String,
        /// SHA-256 of the executable's bytes, hex, lower case.
        executable_sha256: String,
        /// SHA-256 of its arguments, each ended by a zero byte, hex, lower case.
        argv_sha256: String,
    },
    /// A push through the git gateway.
    GitPush {
        /// The repository's id, which is the lease's destination.
        repository: String,
        /// The one ref that it may set.
        reference: String,
    },
}

/// The server's word on a [`LeaseUse`]; recorded before it is said.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "word", rename_all = "kebab-case")]
pub enum ValueWord {
    /// What it may use now. Boxed nowhere, printed nowhere.
    Value {
        /// The credential; with [`Delivery::Proxy`] for a command, that command's own handle instead.
        value: WireSecret,
        /// The name of the secret that it is, for the scrubber's placeholder; empty for a handle.
        #[serde(default)]
        secret: String,
        /// How it is to travel.
        delivery: Delivery,
        /// Variables of the profile that hold this very value as well (a handle's), by name.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        variables: Vec<String>,
        /// What it is for.
        destination: String,
        /// When whoever uses it is ended, whatever it does.
        expires: Moment,
        /// Of what a vendor minted: the values in it that open something, each to be scrubbed by itself.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        parts: Vec<WireSecret>,
        /// Of what a vendor minted: until when it may open something, if nobody ends it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Moment>,
    },
    /// No.
    Denied {
        /// Stable name of the rule.
        rule: String,
        /// One sentence for the agent.
        why: String,
    },
}

/// How the use of a lease ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeaseEnd {
    /// It did what it was for.
    Completed,
    /// It was used, and what used it failed.
    Failed,
    /// It was broken off: revoked, expired, the box or the upstream gone.
    Broken,
}

/// A lease as people see it: `GET /api/leases`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeaseView {
    /// Its id.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub lease: LeaseId,
    /// The run that asked.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub run: RunId,
    /// What was asked for.
    pub capability: String,
    /// For what.
    pub destination: String,
    /// Why, in the agent's words: untrusted.
    pub reason: String,
    /// What the capability is for: `git-push`, `tool`, `command`.
    pub kind: String,
    /// How it travels: `proxy`, `variable NAME`, …
    pub delivery: String,
    /// `granted`, `denied`, `consumed`, `completed`, `expired` or `revoked`.
    pub state: String,
    /// When it was asked for, in milliseconds since 1970.
    #[cfg_attr(feature = "openapi", schema(value_type = i64))]
    pub made: Moment,
    /// The first moment at which it may not be used.
    #[cfg_attr(feature = "openapi", schema(value_type = i64))]
    pub expires: Moment,
    /// When its use began.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>))]
    pub used: Option<Moment>,
    /// By what; empty before.
    pub used_by: String,
    /// When it was over.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>))]
    pub ended: Option<Moment>,
    /// By what, or by whom; of a denied one the rule.
    pub ended_by: String,
    /// Of what a vendor minted for it: `asked`, `live`, `ending` (the vendor is asked to end it), `revoked`, `left` (it ends
    /// by itself, nobody can end it), `failed`, `unknown` (it may have been made, nobody has it), `gone`; else empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub minted: String,
    /// When that ends by itself, or ended.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<i64>))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minted_until: Option<Moment>,
}

/// `POST /api/leases/{lease}/revoke`: the lease as it was taken back, and whether that is the end of its use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeaseRevoked {
    /// The lease.
    #[serde(flatten)]
    pub lease: LeaseView,
    /// Nothing uses it any more: nothing did, or the gateway said that it has ended. Else the gateway is told, or is when it is
    /// back, and did not say so yet.
    pub use_ended: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_with_a_field_that_nobody_knows_is_none() {
        assert!(serde_json::from_str::<Wish>(r#"{"capability":"a","destination":"b"}"#).is_ok());
        assert!(serde_json::from_str::<Wish>(r#"{"capability":"a","destination":"b","secret":"c"}"#).is_err());
    }

    #[test]
    fn a_value_is_not_printed() {
        let value = WireSecret(model::Secret::new("very-secret-value".to_owned()));
        let word = ValueWord::Value {
            value,
            secret: "custom/shop".into(),
            delivery: Delivery::Stdin,
            variables: Vec::new(),
            destination: "shop".into(),
            expires: Moment(1),
            parts: Vec::new(),
            until: None,
        };
        assert!(!format!("{word:?}").contains("very-secret"));
    }
}
