//! Any bytes through the scrubber, whole and in pieces whose length the first byte gives.
#![no_main]

use model::Secret;
use scrub::Scrubber;
use std::sync::LazyLock;

const VALUE: &str = "hunter2-\"quoted\"-hunter2";
static SCRUBBER: LazyLock<Scrubber> = LazyLock::new(|| {
    Scrubber::new([("k".to_owned(), Secret::new(VALUE.to_owned()))])
        .with_formats(scrub::Formats::load().expect("the rules are right"))
});

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let whole = SCRUBBER.scrub(bytes);
    assert!(!whole.windows(VALUE.len()).any(|w| w == VALUE.as_bytes()), "a value is left");
    assert_eq!(SCRUBBER.scrub(&whole), whole, "a second scrub changed something");
    let step = usize::from(bytes.first().copied().unwrap_or(1)).max(1);
    let mut stream = SCRUBBER.stream();
    let mut out: Vec<u8> = bytes.chunks(step).flat_map(|piece| stream.push(piece)).collect();
    out.extend(stream.finish());
    assert_eq!(out, &*whole, "in pieces of {step} it is another");
});
