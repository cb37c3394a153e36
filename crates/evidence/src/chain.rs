//! The chain: each head stands for every record so far, in their order.

use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr};

/// The longest record, in canonical bytes: 64 KiB. Larger things are recorded by their digest.
pub const MAX_BODY: usize = 64 * 1024;

/// Where a chain stands: 32 bytes, written as 64 hex digits in lower case.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Head([u8; 32]);

/// Why a record was not linked, or a text is no head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// The record is longer than [`MAX_BODY`]; holds its length.
    #[error("linking a record: {0} bytes are more than {MAX_BODY}")]
    TooLong(usize),
    /// Not 64 hex digits in lower case.
    #[error("reading a head: it is not 64 hex digits in lower case")]
    NoHead,
}

impl Head {
    /// The head before the first record: all zeros.
    pub const ZERO: Self = Self([0; 32]);

    /// A head that was stored.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Links one record to the chain and returns the new head.
///
/// `head` is the head before it ([`Head::ZERO`] for the first record); `body` is the record in
/// canonical bytes, at most [`MAX_BODY`] long. New head = SHA-256(`head` ‖ `body`). Source: FIPS 180-4.
///
/// # Errors
/// [`ChainError::TooLong`], holding the length; the chain is unchanged then.
pub fn link(head: Head, body: &[u8]) -> Result<Head, ChainError> {
    if body.len() > MAX_BODY {
        return Err(ChainError::TooLong(body.len()));
    }
    let mut hash = Sha256::new();
    hash.update(head.0);
    hash.update(body);
    Ok(Head(hash.finalize().into()))
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Head({self})")
    }
}

impl FromStr for Head {
    type Err = ChainError;
    fn from_str(text: &str) -> Result<Self, ChainError> {
        let text = text.as_bytes();
        if text.len() != 64 {
            return Err(ChainError::NoHead);
        }
        let mut out = [0; 32];
        for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(out))
    }
}

fn digit(digit: u8) -> Result<u8, ChainError> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(ChainError::NoHead),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_link_is_the_digest_of_32_zeros_and_the_body() {
        let head = link(Head::ZERO, b"{}").unwrap();
        assert_eq!(head.as_bytes()[..], Sha256::digest([&[0u8; 32][..], b"{}"].concat())[..]);
    }

    #[test]
    fn a_body_of_64_kib_is_linked_and_one_byte_more_is_not() {
        assert!(link(Head::ZERO, &vec![b' '; MAX_BODY]).is_ok());
        assert_eq!(link(Head::ZERO, &vec![b' '; MAX_BODY + 1]), Err(ChainError::TooLong(MAX_BODY + 1)));
    }

    #[test]
    fn a_head_is_read_back_from_its_text_and_from_no_other() {
        let head = link(Head::ZERO, b"x").unwrap();
        let text = head.to_string();
        assert_eq!(text.parse(), Ok(head));
        for bad in [&text[1..], &text.to_uppercase(), &format!("{text}0"), &"é".repeat(32), &format!("+{}", &text[1..])]
        {
            assert_eq!(bad.parse::<Head>(), Err(ChainError::NoHead), "{bad}");
        }
    }
}
