//! Texts made of tokens, parts of tokens, values, escapes and noise: the same in every run, a bounded count of them.

use crate::corpus::{FORMATS, PLACES, Random, token};
use base64::{Engine, engine::general_purpose::STANDARD};
use model::Secret;
use scrub::Scrubber;

const ROUNDS: u64 = 400;
const VALUE: &str = "hunter2-\"quoted\"-hunter2";

fn scrubber() -> Scrubber {
    Scrubber::new([("k".to_owned(), Secret::new(VALUE.to_owned()))]).with_formats()
}

/// One text; every seed has its own.
fn text(seed: u64) -> String {
    let mut random = Random::new(seed);
    let mut text = String::new();
    for _ in 0..1 + random.below(12) {
        let (_, format) = FORMATS[random.below(FORMATS.len())];
        let token = token(format, &mut random).text;
        match random.below(7) {
            0 => text.push_str(&token),
            1 => text.push_str(&token[..random.below(token.len())]),
            2 => text.push_str(&PLACES[random.below(PLACES.len())].replace('@', &token)),
            3 => text.push_str(VALUE),
            4 => text.push_str(&STANDARD.encode(VALUE)[..random.below(32)]),
            5 => text.extend((0..random.below(20)).map(|_| char::from(random.below(128) as u8))),
            _ => text.push_str(&serde_json::Value::from(token + VALUE + "é").to_string()),
        }
    }
    text
}

#[test]
fn a_stream_cut_anywhere_is_the_whole() {
    let scrubber = scrubber();
    for seed in 0..ROUNDS {
        let (text, mut random) = (text(seed), Random::new(seed + 1_000_000));
        let (mut stream, mut out, mut rest) = (scrubber.stream(), Vec::new(), text.as_bytes());
        let most = 1 + random.below(60);
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((1 + random.below(most)).min(rest.len()));
            out.extend(stream.push(piece));
            rest = after;
        }
        out.extend(stream.finish());
        assert_eq!(String::from_utf8_lossy(&out), scrubber.scrub_str(&text), "seed {seed}: {text:?}");
    }
}

#[test]
fn a_second_scrub_changes_nothing() {
    let scrubber = scrubber();
    for seed in 0..ROUNDS {
        let once = scrubber.scrub_str(&text(seed)).into_owned();
        assert_eq!(scrubber.scrub_str(&once), once, "seed {seed}");
    }
}

#[test]
fn an_event_stays_json_and_a_second_scrub_changes_nothing() {
    let scrubber = scrubber();
    for seed in 0..ROUNDS {
        let event = serde_json::json!({"kind": "note", "text": text(seed), "n": seed, "more": [text(seed + 7)]});
        let once = scrub::event::scrub_event(&scrubber, &event.to_string());
        let read: serde_json::Value =
            serde_json::from_str(&once).unwrap_or_else(|e| panic!("seed {seed}: {e}: {once}"));
        assert_eq!(read["kind"], "note");
        assert!(!once.contains("hunter2"), "seed {seed}: {once}");
        assert_eq!(scrub::event::scrub_event(&scrubber, &once), once, "seed {seed}");
    }
}

#[test]
fn noise_in_base_64_comes_through_to_the_byte() {
    let scrubber = scrubber();
    for seed in 0..100 {
        let mut random = Random::new(seed);
        let bytes: Vec<u8> = (0..3000).map(|_| random.below(256) as u8).collect();
        let event =
            serde_json::json!({"kind": "output", "id": "t", "stream": "stdout", "data_b64": STANDARD.encode(bytes)});
        assert_eq!(scrub::event::scrub_event(&scrubber, &event.to_string()), event.to_string(), "seed {seed}");
    }
}
