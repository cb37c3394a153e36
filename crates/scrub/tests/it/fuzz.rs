//! Texts made of tokens, parts of tokens, values, escapes and noise: the same in every run. A bounded
//! count of them; `cargo xtask test` lets each test run on for a minute (`fuzz/seeds.rs`).

#[allow(dead_code, reason = "each crate's generators use some of it")]
#[path = "../../../../fuzz/seeds.rs"]
mod seeds;

/// What holds of any bytes, for coverage-guided fuzzing too.
#[path = "../../../../fuzz/claims/scrub.rs"]
mod claims;

use crate::corpus::{FORMATS, PLACES, Random, token};
use base64::{Engine, engine::general_purpose::STANDARD};
use model::Secret;
use scrub::{Formats, Key, Said, Scrubber};

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
fn of_any_text_no_value_is_left_the_output_is_bounded_and_a_stream_is_the_whole() {
    let scrubber = scrubber();
    seeds::run(ROUNDS, |seed| {
        let mut random = Random::new(seed + 1_000_000);
        let most = 1 + random.below(60);
        let pieces = std::iter::repeat_with(|| 1 + random.below(most));
        claims::holds(&scrubber, VALUE, text(seed).as_bytes(), pieces);
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
        let pieces: Vec<usize> = std::iter::repeat_with(|| 1 + random.below(200)).take(bytes.len().max(1)).collect();
        let (mut said, mut rest) = (Said::default(), &bytes[..]);
        for length in &pieces {
            let (piece, after) = rest.split_at((*length).min(rest.len()));
            rest = after;
            for event in said.take(&scrubber, &String::from_utf8_lossy(piece)) {
                assert!(!event.contains(VALUE), "{event}");
            }
        }
        said.end(&scrubber);
        claims::holds(&scrubber, VALUE, &bytes, pieces);
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
        claims::stay(&once, &twice);
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
