//! `volary scrub`: standard input to standard output, without secrets and credentials.
//!
//! The values never leave the server: the text goes to it over the home's own socket and comes back scrubbed, as it
//! arrives and in bounded memory. Without an answer nothing is let through.

use super::platform;
use crate::home::Home;
use anyhow::Context;
use clap::Args as Arguments;
use scrub::{Formats, Scrubber};
use std::io::{self, Read, Write};

/// Bytes that are read at once.
const PIECE: usize = 64 * 1024;

/// How to scrub.
#[derive(Debug, Arguments)]
pub struct Args {
    /// Look for published formats of credentials alone: needs no home, and knows no secret's value
    #[arg(long)]
    formats: bool,
}

/// Carries it out; 0 once all of the input is through.
///
/// # Errors
/// When some of it is not: a home or a platform that is not there, an input that cannot be read, a server that breaks
/// off. What came out until then is scrubbed.
pub async fn main(home: &Home, args: &Args) -> anyhow::Result<i32> {
    let mut to = io::stdout().lock();
    if args.formats {
        formats(&mut io::stdin().lock(), &mut to)?;
        return Ok(0);
    }
    let platform = platform::reach_made(home).await.context(
        "scrubbing takes the home's secrets, so that their values are found; \
         `volary scrub --formats` looks for published formats alone",
    )?;
    let mut pieces = platform.client.scrub(io::stdin()).await?;
    while let Some(piece) = pieces.next().await? {
        to.write_all(&piece).and_then(|()| to.flush()).context("write to standard output")?;
    }
    platform.finish().await;
    Ok(0)
}

/// Here, without a server: what has the format of a credential.
fn formats(from: &mut impl Read, to: &mut impl Write) -> anyhow::Result<()> {
    let mut stream = Scrubber::new([]).with_formats(Formats::load()?).stream();
    let mut piece = vec![0; PIECE];
    loop {
        let got = match from.read(&mut piece) {
            Ok(0) => break,
            Ok(got) => got,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e).context("read standard input"),
        };
        let out = stream.push(&piece[..got]);
        to.write_all(&out).and_then(|()| to.flush()).context("write to standard output")?;
    }
    to.write_all(&stream.finish()).and_then(|()| to.flush()).context("write to standard output")
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
        formats(&mut Pieces(pieces(), false), &mut out).unwrap();
        assert_eq!(out, b"one [redacted: npm-token] \xff two");
        out.clear();
        let error = formats(&mut Pieces(pieces(), true), &mut out).unwrap_err();
        assert_eq!(format!("{error:#}"), "read standard input: a bad disk");
        assert!(out.starts_with(b"one [redacted: npm-token] "), "{}", out.escape_ascii());
    }
}
