//! Any bytes through the scrubber, whole and in pieces whose length the first byte gives.
#![no_main]

#[path = "../claims/scrub.rs"]
mod claims;

use model::Secret;
use scrub::Scrubber;
use std::sync::LazyLock;

const VALUE: &str = "hunter2-\"quoted\"-hunter2";
static SCRUBBER: LazyLock<Scrubber> = LazyLock::new(|| {
    Scrubber::new([("k".to_owned(), Secret::new(VALUE.to_owned()))])
        .with_formats(scrub::Formats::load().expect("the rules are right"))
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let step = usize::from(bytes.first().copied().unwrap_or(1));
    claims::holds(&SCRUBBER, VALUE, bytes, std::iter::repeat(step));
});
