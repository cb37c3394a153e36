//! Any table of what may leave, and any request: lines of table, method, target, name and value of a header.
#![no_main]

#[path = "../claims/rule.rs"]
mod claims;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let mut lines = text.splitn(5, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let (table, method, target, name, value) = (line(), line(), line(), line(), line());
    claims::holds(table, method, target, (name, value));
});
