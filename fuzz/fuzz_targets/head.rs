//! Any bytes as the head of a request, and as a body in chunks.
#![no_main]

#[path = "../claims/head.rs"]
mod claims;
#[allow(dead_code, reason = "the gateway's own file, of which the claims use a part")]
#[path = "../../crates/gateway/src/egress/shape.rs"]
mod shape;

/// What `shape` knows of the wire.
mod wire {
    pub(crate) const REFUSED: &str = "VOLARY-REFUSED";
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| claims::holds(bytes));
