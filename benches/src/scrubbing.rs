//! The scrubber's throughput, on clean text, on dirty and on hostile, and its recall: what everything that leaves a box goes through.

#[path = "../../crates/scrub/tests/it/corpus.rs"]
mod corpus;
mod recall;

use crate::table::{Table, figure, goal, times};
use anyhow::{Result, ensure};
use model::Secret;
use scrub::{Formats, Key, Scrubber};
use serde_json::json;
use std::borrow::Cow;
use std::hint::black_box;

/// Text that is scrubbed, in bytes.
const TEXT: usize = 64 << 20;
/// The same of dirty text.
const DIRTY: usize = 16 << 20;
/// An event of hostile text, in bytes, and how many are scrubbed.
const HOSTILE: usize = 48 * 1024;
const EVENTS: u32 = 32;
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
    let formats_read = Formats::load()?;
    let mut slowest = f64::INFINITY;
    for secrets in [0, 1, 8, 64] {
        for formats in [false, true] {
            let values = Scrubber::new((0..secrets).map(|n| (format!("model/{n}"), Secret::new(value(n)))));
            let scrubber = if formats { values.with_formats(formats_read) } else { values };
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
    dirty(&text, formats_read);
    hostile(formats_read);
    requests(&text, formats_read);
    recall::run(formats_read)
}

/// Text in which something is to be replaced every so many bytes: half of it values, in turn in each of four encodings,
/// half tokens of vendors; all with fingerprints.
fn dirty(clean: &[u8], formats: Formats) {
    let values: Vec<String> = (0..8).map(value).collect();
    let secrets = values.iter().enumerate().map(|(n, value)| (format!("model/{n}"), Secret::new(value.clone())));
    let scrubber = Scrubber::keyed(&Key::new(Secret::new([7; 32])), secrets).with_formats(formats);
    let mut table = Table::new(&["dirty text, one core: 8 secrets, all formats, fingerprints", "MB/s", "replaced"]);
    for every in [64 * 1024, 4 * 1024, 512, 128] {
        let mut random = corpus::Random::new(every as u64);
        let mut text = Vec::with_capacity(DIRTY + 1024);
        let mut planted = 0_u64;
        for piece in clean[..DIRTY].chunks(every) {
            text.extend_from_slice(piece);
            let (_, format) = corpus::FORMATS[random.below(corpus::FORMATS.len())];
            let value = &values[random.below(values.len())];
            let secret = match planted % 8 {
                0 => value.clone(),
                1 => value.bytes().map(|b| format!("{b:02x}")).collect(),
                2 => value.chars().rev().collect(),
                3 => value.bytes().map(|b| format!("%{b:02X}")).collect(),
                _ => corpus::token(format, &mut random).text,
            };
            text.extend_from_slice(format!(" {secret}\n").as_bytes());
            planted += 1;
        }
        let out = scrubber.scrub(&text);
        let out = String::from_utf8_lossy(&out);
        let replaced = out.matches("[redacted: ").count() + out.matches("[scrubbed:").count();
        let mut stream = scrubber.stream();
        let rate = rate(&text, |piece| stream.push(piece).len());
        let what = format!("one of {planted} secrets every {every} bytes, as a stream");
        table.row([what, figure(rate), replaced.to_string()]);
    }
    table.print();
}

/// Text made to be costly: the keyword of a rule at every few bytes, where the rule fails only at the end of its length.
fn hostile(formats: Formats) {
    let scrubber = Scrubber::keyed(&Key::new(Secret::new([7; 32])), []).with_formats(formats);
    let mut table = Table::new(&["hostile text, one core: an event of 48 KiB", "MB/s", "ms an event"]);
    for word in ["sessiontoken=", "xoxb-", "_authToken="] {
        let event = word.repeat(HOSTILE / word.len());
        let begun = on_core();
        for _ in 0..EVENTS {
            black_box(scrubber.scrub(black_box(event.as_bytes())).len());
        }
        let each = (on_core() - begun) / f64::from(EVENTS);
        table.row([format!("`{word}` over and over"), figure(event.len() as f64 / 1e6 / each), figure(each * 1e3)]);
    }
    table.print();
}

/// A request to a model of 200 KB, as it is scrubbed before it leaves: what is added to a call's time, beside the thread that
/// serves.
fn requests(clean: &[u8], formats: Formats) {
    let one = ("model/m".to_owned(), Secret::new(value(1)));
    let both = Scrubber::keyed(&Key::new(Secret::new([7; 32])), [one]).with_formats(formats);
    let mut random = corpus::Random::new(1);
    let mut table =
        Table::new(&["a request to a model, 200 KB, one core", "ms, values", "ms, and formats", "replaced"]);
    for tokens in [0, 1, 100] {
        let mut content: Vec<String> =
            clean[..200_000].chunks(2_000).map(|piece| String::from_utf8_lossy(piece).into_owned()).collect();
        for piece in content.iter_mut().take(tokens) {
            *piece += &format!(" {}\n", corpus::token("ghp_{an 36}", &mut random).text);
        }
        let messages: Vec<_> = content.iter().map(|text| json!({"role": "user", "content": text})).collect();
        let body = json!({"model": "m", "messages": messages}).to_string();
        let each = |scrubber: &Scrubber| {
            let begun = on_core();
            for _ in 0..EVENTS {
                black_box(scrub::request::scrub(scrubber, black_box(body.as_bytes())));
            }
            (on_core() - begun) / f64::from(EVENTS) * 1e3
        };
        let out = scrub::request::scrub(&both, body.as_bytes()).unwrap_or_default();
        let replaced = String::from_utf8_lossy(&out).matches("[redacted: ").count().to_string();
        let what = format!("{tokens} tokens in it");
        table.row([what, figure(each(&both.values_alone())), figure(each(&both)), replaced]);
    }
    table.print();
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
