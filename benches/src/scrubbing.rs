//! Scrubber throughput on clean text: what everything that leaves a box, and every answer, goes through.

use crate::table::{Table, figure, goal, times};
use anyhow::{Result, ensure};
use model::Secret;
use scrub::Scrubber;
use std::borrow::Cow;
use std::hint::black_box;

/// Text that is scrubbed, in bytes.
const TEXT: usize = 64 << 20;
/// Pieces in which it passes: what a socket gives at once.
const PIECE: usize = 16 * 1024;

/// Measures and prints.
pub fn run() -> Result<()> {
    let text = clean();
    let mut table = Table::new(&["clean text, one core", "MB/s", "of the plain search"]);
    let values: Vec<String> = (0..8).map(value).collect();
    let plain = rate(&text, |piece| {
        let piece = std::str::from_utf8(piece).unwrap_or_default();
        values.iter().filter(|value| piece.contains(value.as_str())).count()
    });
    let mut slowest = f64::INFINITY;
    for secrets in [0, 1, 8, 64] {
        for formats in [false, true] {
            let values = Scrubber::new((0..secrets).map(|n| (format!("model/{n}"), Secret::new(value(n)))));
            let scrubber = if formats { values.with_formats() } else { values };
            ensure!(matches!(scrubber.scrub(&text), Cow::Borrowed(_)), "the text is not clean");
            if scrubber.is_empty() {
                continue;
            }
            let whole = rate(&text, |piece| scrubber.scrub(piece).len());
            let mut stream = scrubber.stream();
            let streamed = rate(&text, |piece| stream.push(piece).len());
            let what = format!("{secrets} secrets in every encoding{}", if formats { ", and all formats" } else { "" });
            table.row([format!("{what}, whole pieces"), figure(whole), times(whole, plain)]);
            table.row([format!("{what}, as a stream"), figure(streamed), times(streamed, plain)]);
            slowest = slowest.min(whole).min(streamed);
        }
    }
    table.row(["8 secrets, plain value only, one search each".into(), figure(plain), times(plain, plain)]);
    table.print();
    goal(
        "scrubber, clean text, slowest of these",
        "≥ 300 MB/s",
        &format!("{} MB/s", figure(slowest)),
        slowest >= 300.0,
    );
    Ok(())
}

/// MB a second of this thread's own time on a core, so that what else runs on the machine does not count.
fn rate(text: &[u8], mut pass: impl FnMut(&[u8]) -> usize) -> f64 {
    let begun = on_core();
    for piece in text.chunks(PIECE) {
        black_box(pass(black_box(piece)));
    }
    text.len() as f64 / 1e6 / (on_core() - begun)
}

/// Seconds that this thread had a core.
fn on_core() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock is a constant of the kernel's, and `time` is a live place to write to.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    if failed == 0 { time.tv_sec as f64 + time.tv_nsec as f64 / 1e9 } else { f64::NAN }
}

/// A key as providers make them.
fn value(n: u64) -> String {
    let mut random = Random(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let tail: String = (0..95).map(|_| char::from(alphabet[random.below(alphabet.len())])).collect();
    format!("sk-ant-api03-{tail}")
}

/// Source code and log lines, always the same.
fn clean() -> Vec<u8> {
    let words = [
        "let",
        "mut",
        "return",
        "Err",
        "self",
        "path",
        "while",
        "0x7f31",
        "std::io",
        "\"event\":\"output\"",
        "{",
        "}",
        "run",
        "tests::passed",
        "=>",
        "for",
        "entry",
        "in",
        "read_dir(&folder)?",
        "//",
        "the",
        "sk-",
        "kernel",
        "ok",
        "10:42:07.113",
        "INFO",
        "compiling",
        "v0.9.1",
        "GET /model/m/v1/messages",
        "200",
        "width:",
        "e3b0c44298fc1c14",
    ];
    let mut random = Random(7);
    let mut text = Vec::with_capacity(TEXT + 32);
    while text.len() < TEXT {
        text.extend_from_slice(words[random.below(words.len())].as_bytes());
        text.push(if random.below(9) == 0 { b'\n' } else { b' ' });
    }
    text
}

/// Numbers that look random and are the same in every run (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as usize % end
    }
}
