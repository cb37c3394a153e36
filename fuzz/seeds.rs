//! Numbered seeds, for the generators in the crates' own tests: the same texts every time, on every machine.
//!
//! | env var | what it does |
//! |---|---|
//! | `VOLARY_FUZZ_SECS` | each generator runs on for so many seconds, with further seeds |
//! | `VOLARY_FUZZ_SEED` | each generator makes this seed's text alone: how a failure is repeated |
//!
//! A test includes this file by its path; it belongs to no crate. Read [`run`].

use std::time::{Duration, Instant};

/// Runs `one` on the numbers from 0 to `texts`, and beyond while there is time. The number at which it panics is printed.
pub fn run(texts: u64, mut one: impl FnMut(u64)) {
    if let Some(seed) = number("VOLARY_FUZZ_SEED") {
        return one(seed);
    }
    let until = number("VOLARY_FUZZ_SECS").map(|secs| Instant::now() + Duration::from_secs(secs));
    let mut at = At(0);
    while at.0 < texts || until.is_some_and(|until| Instant::now() < until) {
        one(at.0);
        at.0 += 1;
    }
    if until.is_some() {
        println!("{} seeds: {}", at.0, std::thread::current().name().unwrap_or_default());
    }
}

/// Whether one seed alone is tried, of which nothing can be counted.
pub fn alone() -> bool {
    number("VOLARY_FUZZ_SEED").is_some()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|e| panic!("{name} is a whole number: {e}")))
}

/// The seed that is being tried.
struct At(u64);

impl Drop for At {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (seed, package) = (self.0, env!("CARGO_PKG_NAME"));
            let thread = std::thread::current();
            let test = thread.name().unwrap_or_default();
            eprintln!("at seed {seed}; to repeat: VOLARY_FUZZ_SEED={seed} cargo test -p {package} {test}");
        }
    }
}

/// Numbers that are the same on every machine.
pub struct Random(u64);

impl Random {
    /// Those of a seed.
    pub fn of(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d)
    }

    /// The next of all numbers.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `0..end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// Pieces of a grammar, now and then broken: cut, doubled, or with a character that does not belong.
    pub fn text(&mut self, pieces: &[&str], most: usize) -> String {
        let mut text: String = (0..self.below(most) + 1).map(|_| self.pick(pieces)).collect();
        for _ in 0..self.below(3) {
            let at = text.char_indices().map(|(at, _)| at).nth(self.below(text.chars().count().max(1))).unwrap_or(0);
            match self.below(4) {
                0 => text.truncate(at),
                1 => text.insert(at, char::from_u32(self.next() as u32 % 0x3000).unwrap_or('\u{fffd}')),
                2 => text.insert(at, char::from(self.pick(b"@:/\\%#?[]. \t\r\n\0~{}|"))),
                _ => {
                    let again = text[at..].to_owned();
                    text.push_str(&again);
                }
            }
        }
        text
    }
}
