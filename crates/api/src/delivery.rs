//! Runner ↔ gateway, on the runner's own connection to its box's door: how a value reaches one command.
//!
//! Process 1 makes this connection when its box has a run, before its walls and before there is any other process in the
//! box, and keeps it for life: it is the first that the door's listener ever accepts, and no later one is taken for it. Its
//! first byte is [`RUNNER`], which begins no request; frames of one JSON message each follow, both ways. Nothing else in
//! the box speaks on it, and a value crosses nothing else on its way into a box.
//!
//! The runner asks ([`FromRunner::Use`]), is given a value or a refusal, is told when the use is over before its command
//! is ([`ToRunner::Over`]), and says how it ended once nothing of the command lives ([`FromRunner::End`]).

use crate::grants::WireSecret;
use crate::leases::{LeaseEnd, LeaseUser};
use model::LeaseId;
use model::capability::Delivery;
use serde::{Deserialize, Serialize};

/// The first byte of the runner's connection.
pub const RUNNER: u8 = 0;
/// Leases that one box may use at a time.
pub const MAX_USES: usize = 16;

/// Runner → gateway.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub enum FromRunner {
    /// A command wants to use a lease. Answered by [`ToRunner::Value`] or [`ToRunner::Denied`].
    Use {
        /// Number of the use, of this connection's own count.
        id: u64,
        /// The lease, as the agent named it.
        lease: LeaseId,
        /// The command.
        by: LeaseUser,
    },
    /// The use is over: nothing of the command lives, and its scratch is gone. Once for each value.
    End {
        /// Number of the use.
        id: u64,
        /// How it ended.
        outcome: LeaseEnd,
    },
}

/// Gateway → runner.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub enum ToRunner {
    /// The command may be given this.
    Value {
        /// Number of the use.
        id: u64,
        /// The credential; with [`Delivery::Proxy`] the command's own handle instead.
        value: WireSecret,
        /// The name of the secret, for the placeholder in what the command says.
        secret: String,
        /// How the command gets it.
        delivery: Delivery,
        /// Further variables that hold the same.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        variables: Vec<String>,
        /// What it is for.
        destination: String,
        /// Of what a vendor minted: the values in it that open something, each to be scrubbed by itself.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        parts: Vec<WireSecret>,
    },
    /// The command must not run.
    Denied {
        /// Number of the use.
        id: u64,
        /// Stable name of the rule.
        rule: String,
        /// One sentence for the agent.
        why: String,
    },
    /// The command is to be ended.
    Over {
        /// Number of the use.
        id: u64,
        /// The reason.
        why: Over,
    },
}

/// Why the use of a lease is over before its command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Over {
    /// By a person's word, by that of the platform, or with the run.
    TakenBack,
    /// The lease's time has passed.
    Expired,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_not_printed_and_the_first_byte_begins_no_request() {
        let value = WireSecret(model::Secret::new("very-secret-value".to_owned()));
        let word = ToRunner::Value {
            id: 1,
            value,
            secret: "custom/shop".into(),
            delivery: Delivery::Stdin,
            variables: Vec::new(),
            destination: "shop".into(),
            parts: Vec::new(),
        };
        assert!(!format!("{word:?}").contains("very-secret"));
        assert!(!RUNNER.is_ascii_graphic() && !RUNNER.is_ascii_whitespace());
    }
}
