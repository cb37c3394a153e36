//! Operator → gateway, over a `SOCK_SEQPACKET` socket that the operator dials: one JSON message a packet,
//! a descriptor beside [`ToCable::Attach`] (the listener), [`ToCable::Pull`] (a socket) and [`FromCable::Repository`] (a
//! socket).
//!
//! The end of this connection means the end of every run on it, seen from either side.

use model::RunId;
use serde::{Deserialize, Serialize};

/// Longest packet, in bytes. Longer texts to scrub are sent in pieces that overlap nothing: the operator
/// scrubs whole events, which the runner keeps below this.
pub const MAX_PACKET: usize = 192 * 1024;

/// Operator → gateway.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum ToCable {
    /// Serve this run on the listener that comes with the packet.
    Attach {
        /// The run.
        run: RunId,
    },
    /// Ask a registry for the image that this run's profile names, on the stream socket that comes with the packet:
    /// see [`crate::images`]. Nothing is answered here.
    Pull {
        /// The run.
        run: RunId,
        /// The image, `registry/name@sha256:…`, as the profile names it.
        image: String,
    },
    /// Stop serving it.
    Detach {
        /// The run.
        run: RunId,
    },
    /// Scrub the next piece of a text that is not an event of a live box (a diff, last words), before it is kept, shown or
    /// sent. All pieces of one number are one text. Answered by [`FromCable::Scrubbed`].
    Scrub {
        /// The text's number.
        id: u64,
        /// The piece.
        text: String,
        /// Another piece follows.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        more: bool,
    },
    /// Scrub the next event that a run's box said, as what it is: perhaps a piece of a text, whose end may have to
    /// wait for the next piece. Answered by [`FromCable::Heard`].
    Hear {
        /// Question number.
        id: u64,
        /// The run, attached on this connection.
        run: RunId,
        /// The event: JSON, written by the box; none when the box says nothing more, for what waited to be given out.
        event: Option<String>,
    },
}

/// Gateway → operator.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub enum FromCable {
    /// The run is served.
    Attached {
        /// The run.
        run: RunId,
        /// The certificate, in PEM, of the authority that signs for every host this run reaches through the
        /// listener, in this gateway's life: to be trusted in the box. Its key never leaves the gateway's memory.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        authority: Option<String>,
    },
    /// The run cannot be served now, for want of something here; the other runs go on.
    Refused {
        /// The run.
        run: RunId,
        /// What is short, one sentence.
        why: String,
    },
    /// Serve one request of git's HTTP, of this run's repository on this host, on the socket that comes with the packet. Where
    /// the run has none, the socket is closed.
    Repository {
        /// The run, attached on this connection.
        run: RunId,
    },
    /// What is decided of a text by the piece that came: perhaps nothing yet.
    Scrubbed {
        /// The text's number.
        id: u64,
        /// That part of it.
        text: String,
        /// Another packet for the same piece follows: it did not fit one.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        more: bool,
    },
    /// What is to be kept for an event that was heard: perhaps nothing yet, perhaps something that waited before it.
    Heard {
        /// Question number.
        id: u64,
        /// The events, in order; still JSON.
        events: Vec<String>,
        /// Another packet with this number follows: they did not fit one.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        more: bool,
        /// The last of the events is not whole: the first of the next packet goes on with it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        cut: bool,
    },
}
