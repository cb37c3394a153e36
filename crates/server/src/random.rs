//! Random texts and hashes.

use aws_lc_rs::{digest, rand};
use model::id::base32;
use model::{BoxId, GrantId, LeaseId, RunId};

/// `N` random bytes of the system's own generator.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // Without random bytes no token of ours is a secret; there is nothing to fall back to.
    rand::fill(&mut bytes).expect("the system gives random bytes");
    bytes
}

/// SHA-256, in lower-case hex.
pub fn sha256_hex(of: &[u8]) -> String {
    digest::digest(&digest::SHA256, of).as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// A text of 256 random bits, 52 characters.
pub fn token() -> String {
    base32(&bytes::<32>())
}

/// A run's id: 12 characters, 60 bits.
pub fn run_id() -> RunId {
    RunId::parse(&base32(&bytes::<8>())[..12]).expect("base 32 is an id")
}

/// A box's id: 130 bits.
pub fn box_id() -> BoxId {
    BoxId::parse(&base32(&bytes::<17>())[..26]).expect("base 32 is an id")
}

/// A grant's id: 130 bits.
pub fn grant_id() -> GrantId {
    GrantId::parse(&base32(&bytes::<17>())[..26]).expect("base 32 is an id")
}

/// A lease's id: 130 bits.
pub fn lease_id() -> LeaseId {
    LeaseId::parse(&base32(&bytes::<17>())[..26]).expect("base 32 is an id")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_do_not_repeat_and_have_their_length() {
        assert_ne!(token(), token());
        assert_eq!(token().len(), 52);
        assert_eq!(run_id().as_str().len(), 12);
        assert_eq!(box_id().as_str().len(), 26);
    }

    #[test]
    fn sha256_is_that_of_fips_180() {
        assert_eq!(sha256_hex(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
