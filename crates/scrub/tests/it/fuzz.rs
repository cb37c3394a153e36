//! Texts made of tokens, parts of tokens, values, escapes and noise: the same in every run. A bounded
//! count of them; `cargo xtask test` lets each test run on for a minute (`fuzz/seeds.rs`).

#[allow(dead_code, reason = "each crate's generators use some of it")]
#[path = "../../../../fuzz/seeds.rs"]
mod seeds;

use crate::corpus::{FORMATS, PLACES, Random, token};
use base64::{Engine, engine::general_purpose::STANDARD};
use model::Secret;
use scrub::{Formats, Key, MAX_PLACEHOLDER, Said, Scrubber};

const ROUNDS: u64 = 400;
const VALUE: &str = "hunter2-\"quoted\"-hunter2";

fn scrubber() -> Scrubber {
    let key = Key::new(Secret::new([5; 32]));
    Scrubber::keyed(&key, [("k".to_owned(), Secret::new(VALUE.to_owned()))]).with_formats(Formats::load().unwrap())
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
            2 => text.push_str(&PLACES[random.below(PLACES.len())].1.replace('@', &token)),
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
    seeds::run(ROUNDS, |seed| {
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
    });
}

/// The placeholders of a text, in order.
fn placeholders(text: &str) -> Vec<&str> {
    let begins = text.match_indices('[').map(|(at, _)| &text[at..]);
    let whole = begins.filter_map(|rest| rest.find(']').map(|end| &rest[..=end]));
    whole.filter(|it| it.starts_with("[scrubbed:") || it.starts_with("[redacted: ")).collect()
}

/// A second scrub may find what stood so close to a token that only its placeholder shows where it ends; it takes no
/// placeholder away, and changes none.
fn stay(once: &str, twice: &str) {
    let mut left = placeholders(twice).into_iter();
    for placeholder in placeholders(once) {
        assert!(left.any(|it| it == placeholder), "{placeholder} is gone: {once} is {twice}");
    }
}

#[test]
fn a_second_scrub_changes_no_placeholder() {
    let scrubber = scrubber();
    seeds::run(ROUNDS, |seed| {
        let once = scrubber.scrub_str(&text(seed)).into_owned();
        stay(&once, &scrubber.scrub_str(&once));
    });
}

#[test]
fn no_value_is_left_and_the_output_is_bounded() {
    let scrubber = scrubber();
    seeds::run(ROUNDS, |seed| {
        let text = text(seed);
        let out = scrubber.scrub_str(&text);
        assert!(!out.contains(VALUE), "{out}");
        // The shortest thing that a rule replaces has three bytes, the shortest value eight.
        assert!(out.len() <= text.len() * (MAX_PLACEHOLDER / 3), "{} of {}", out.len(), text.len());
    });
}

#[test]
fn any_bytes_are_taken_in_any_pieces_as_a_whole_or_as_events() {
    let scrubber = scrubber();
    seeds::run(ROUNDS, |seed| {
        let mut random = Random::new(seed + 2_000_000);
        // A text of which bytes are struck out, doubled and added; most often it is no UTF-8 then.
        let mut bytes = text(seed).into_bytes();
        for _ in 0..random.below(20) {
            let at = random.below(bytes.len() + 1);
            match random.below(8) {
                0 => bytes.truncate(at),
                1 => bytes.extend_from_within(at.saturating_sub(100)..at),
                _ => bytes.insert(at, random.below(256) as u8),
            }
        }
        let (mut stream, mut said) = (scrubber.stream(), Said::default());
        let (mut out, mut rest) = (Vec::new(), &bytes[..]);
        while !rest.is_empty() {
            let (piece, after) = rest.split_at((1 + random.below(200)).min(rest.len()));
            rest = after;
            out.extend(stream.push(piece));
            for event in said.take(&scrubber, &String::from_utf8_lossy(piece)) {
                assert!(!event.contains(VALUE), "{event}");
            }
        }
        out.extend(stream.finish());
        assert_eq!(out, scrubber.scrub(&bytes).into_owned());
        said.end(&scrubber);
    });
}

#[test]
fn an_event_stays_json_and_a_second_scrub_changes_no_placeholder() {
    let scrubber = scrubber();
    seeds::run(ROUNDS, |seed| {
        let event = serde_json::json!({"kind": "note", "text": text(seed), "n": seed, "more": [text(seed + 7)]});
        let once = scrub::event::scrub_event(&scrubber, &event.to_string());
        let read: serde_json::Value =
            serde_json::from_str(&once).unwrap_or_else(|e| panic!("seed {seed}: {e}: {once}"));
        assert_eq!(read["kind"], "note");
        assert!(!once.contains("hunter2"), "seed {seed}: {once}");
        let twice = scrub::event::scrub_event(&scrubber, &once);
        stay(&once, &twice);
        assert!(serde_json::from_str::<serde_json::Value>(&twice).is_ok(), "seed {seed}: {twice}");
    });
}

#[test]
fn noise_in_base_64_comes_through_to_the_byte() {
    let scrubber = scrubber();
    seeds::run(100, |seed| {
        let mut random = Random::new(seed);
        let bytes: Vec<u8> = (0..3000).map(|_| random.below(256) as u8).collect();
        let event =
            serde_json::json!({"kind": "output", "id": "t", "stream": "stdout", "data_b64": STANDARD.encode(bytes)});
        assert_eq!(scrub::event::scrub_event(&scrubber, &event.to_string()), event.to_string(), "seed {seed}");
    });
}
