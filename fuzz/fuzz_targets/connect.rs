//! Any two texts as the CONNECT line and the Host header: a line end is between them.
#![no_main]

#[path = "../claims/connect.rs"]
mod claims;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let (line, header) = text.split_once('\n').unwrap_or((text, text));
    claims::holds(line, header);
});
