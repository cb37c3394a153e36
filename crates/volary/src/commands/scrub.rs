//! `volary scrub`: standard input to standard output, without secrets and credentials.
//!
//! The values never leave the server: the text goes to it over the home's own socket and comes back scrubbed, as it
//! arrives and in bounded memory. Without an answer nothing is let through.

use super::platform;
use crate::home::Home;
use anyhow::Context;
use clap::Args as Arguments;
use scrub::{Formats, Scrubber, Shown};
use serde_json::{Value, json};
use std::io::{self, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes that are read at once.
const PIECE: usize = 64 * 1024;

/// How to scrub.
#[derive(Debug, Arguments)]
pub struct Args {
    /// Look for published formats of credentials alone: needs no home, and knows no secret's value
    #[arg(long)]
    formats: bool,
    /// Say on standard error, as one JSON object, what was found: how often each kind and fingerprint
    #[arg(long)]
    json: bool,
}

/// Carries it out; 0 once all of the input is through.
///
/// # Errors
/// When some of it is not: a home or a platform that is not there, an input that cannot be read, a server that breaks
/// off. What came out until then is scrubbed.
pub async fn main(home: &Home, args: &Args) -> anyhow::Result<i32> {
    let before = Counted::new(io::stdin());
    let (counts, mut after) = (before.counts.clone(), Counts::default());
    let mut to = io::stdout().lock();
    let mut put = |piece: &[u8]| {
        after.take(piece);
        to.write_all(piece).and_then(|()| to.flush()).context(crate::out::UNWRITTEN)
    };
    if args.formats {
        formats(before, &mut put)?;
    } else {
        let platform = platform::reach_made(home).await.context(
            "scrubbing takes the home's secrets, so that their values are found; \
             `volary scrub --formats` looks for published formats alone",
        )?;
        let mut pieces = platform.client.scrub(before).await?;
        while let Some(piece) = pieces.next().await? {
            put(&piece)?;
        }
        platform.finish().await;
    }
    if args.json {
        eprintln!("{}", summary(&counts.lock().unwrap_or_else(PoisonError::into_inner), &after));
    }
    Ok(0)
}

/// Here, without a server: what has the format of a credential.
fn formats(mut from: impl Read, put: &mut impl FnMut(&[u8]) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut stream = Scrubber::new([]).with_formats(Formats::load()?).stream();
    let mut piece = vec![0; PIECE];
    loop {
        let got = match from.read(&mut piece) {
            Ok(0) => break,
            Ok(got) => got,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e).context("read standard input"),
        };
        put(&stream.push(&piece[..got]))?;
    }
    put(&stream.finish())
}

/// A text's length, and the placeholders in it.
#[derive(Default)]
struct Counts {
    bytes: u64,
    shown: Shown,
}

impl Counts {
    fn take(&mut self, piece: &[u8]) {
        self.bytes += piece.len() as u64;
        self.shown.take(piece);
    }
}

/// What is read through it is counted.
struct Counted<R> {
    from: R,
    counts: Arc<Mutex<Counts>>,
}

impl<R> Counted<R> {
    fn new(from: R) -> Self {
        Self { from, counts: Arc::default() }
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let got = self.from.read(into)?;
        self.counts.lock().unwrap_or_else(PoisonError::into_inner).take(&into[..got]);
        Ok(got)
    }
}

/// What was found: placeholders of the text that came out, but for those that stood in what went in.
fn summary(before: &Counts, after: &Counts) -> Value {
    let found = after.shown.beyond(&before.shown);
    let kinds: Vec<Value> = found
        .iter()
        .map(|(found, times)| {
            let by = if found.of_format { "format" } else { "value" };
            json!({ "by": by, "kind": found.kind, "fingerprint": found.print, "times": times })
        })
        .collect();
    json!({
        "bytes_in": before.bytes, "bytes_out": after.bytes, "found": found.values().sum::<u64>(), "kinds": kinds,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives its text in the pieces that it has, then fails or ends.
    struct Pieces(Vec<Vec<u8>>, bool);

    impl Read for Pieces {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            if self.0.is_empty() {
                return if self.1 { Err(io::Error::other("a bad disk")) } else { Ok(0) };
            }
            let piece = self.0.remove(0);
            into[..piece.len()].copy_from_slice(&piece);
            Ok(piece.len())
        }
    }

    #[test]
    fn formats_are_found_across_pieces_and_what_cannot_be_read_is_an_error_after_all_that_could() {
        let token = format!("npm_{}", "a1B2".repeat(9));
        let pieces = || vec![b"one ".to_vec(), token[..9].into(), token[9..].into(), b" \xff two".to_vec()];
        let mut out = Vec::new();
        let put = |out: &mut Vec<u8>, ends| {
            formats(Pieces(pieces(), ends), &mut |piece: &[u8]| {
                out.extend_from_slice(piece);
                Ok(())
            })
        };
        put(&mut out, false).unwrap();
        assert_eq!(out, b"one [redacted: npm-token] \xff two");
        out.clear();
        let error = put(&mut out, true).unwrap_err();
        assert_eq!(format!("{error:#}"), "read standard input: a bad disk");
        assert!(out.starts_with(b"one [redacted: npm-token] "), "{}", out.escape_ascii());
    }

    #[test]
    fn a_machine_is_told_what_was_found_and_not_what_stood_there_before() {
        let token = format!("npm_{}", "a1B2".repeat(9));
        let text = format!("[redacted: npm-token] {token} {token} npm_");
        let from = Counted::new(text.as_bytes());
        let (before, mut after) = (from.counts.clone(), Counts::default());
        let put = &mut |piece: &[u8]| {
            after.take(piece);
            Ok(())
        };
        formats(from, put).unwrap();
        let told = summary(&before.lock().unwrap(), &after);
        let out = text.replace(&token, "[redacted: npm-token]");
        let kinds = json!([{ "by": "format", "kind": "npm-token", "fingerprint": null, "times": 2 }]);
        assert_eq!(told, json!({ "bytes_in": text.len(), "bytes_out": out.len(), "found": 2, "kinds": kinds }));
    }
}
