//! Any bytes as the first message of TLS.
#![no_main]

#[path = "../claims/hello.rs"]
mod claims;
#[path = "../../crates/gateway/src/egress/hello.rs"]
mod hello;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| claims::holds(bytes));
