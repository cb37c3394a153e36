//! The key of fingerprints: what makes a placeholder say "the same secret again" and nothing else.
//!
//! A plain hash of a weak secret can be guessed by hashing guesses; one under a key cannot without that key.
//! Who hands the key to which process: decision 0010.

use model::Secret;
use sha2::{Digest, Sha256};
use std::{fmt, sync::Arc};
use zeroize::{Zeroize, Zeroizing};

/// Bytes of the hash's block, by which HMAC pads its key (FIPS 180-4).
const BLOCK: usize = 64;

/// A key under which values are fingerprinted: 32 bytes, of one workspace. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Key(Arc<Secret<[u8; 32]>>);

impl Key {
    /// Characters of a fingerprint: hex digits of 32 bits. Two of 9,000 secrets share one by chance with a probability
    /// of 1 %; so few bits say nothing that could be used of a value, even to who has the key.
    pub const DIGITS: usize = 8;

    /// Takes the key. It is to be derived from the workspace's, for this and nothing else.
    #[must_use]
    pub fn new(key: Secret<[u8; 32]>) -> Self {
        Self(Arc::new(key))
    }

    /// The fingerprint of a value: the first four bytes of its HMAC-SHA-256 (RFC 2104) in hex, lower case.
    pub(crate) fn fingerprint(&self, value: &[u8]) -> String {
        self.hmac(value)[..Self::DIGITS / 2].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn hmac(&self, text: &[u8]) -> [u8; 32] {
        let padded = |pad: u8| {
            let mut block = Zeroizing::new([pad; BLOCK]);
            block.iter_mut().zip(self.0.expose()).for_each(|(byte, key)| *byte ^= key);
            Sha256::new_with_prefix(&block[..])
        };
        let mut inner: [u8; 32] = padded(0x36).chain_update(text).finalize().into();
        let outer = padded(0x5c).chain_update(inner).finalize().into();
        inner.zeroize();
        outer
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first two test cases of RFC 4231 that fit a key of 32 bytes: shorter keys are padded with zeros.
    #[test]
    fn it_is_hmac_as_the_rfc_has_it() {
        let of = |key: &[u8], text: &[u8]| {
            let mut whole = [0; 32];
            whole[..key.len()].copy_from_slice(key);
            let hmac = Key::new(Secret::new(whole)).hmac(text);
            hmac.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        assert_eq!(of(&[0x0b; 20], b"Hi There"), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
        assert_eq!(
            of(b"Jefe", b"what do ya want for nothing?"),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn a_fingerprint_is_eight_digits_of_the_key_and_the_value_alone() {
        let (one, other) = (Key::new(Secret::new([1; 32])), Key::new(Secret::new([2; 32])));
        let print = one.fingerprint(b"hunter22");
        assert!(print.len() == Key::DIGITS && print.bytes().all(|b| b.is_ascii_hexdigit()), "{print}");
        assert_eq!(print, Key::new(Secret::new([1; 32])).fingerprint(b"hunter22"));
        assert_ne!(print, one.fingerprint(b"hunter23"));
        assert_ne!(print, other.fingerprint(b"hunter22"), "without the key a guess cannot be tried");
    }

    #[test]
    fn a_key_does_not_print_itself() {
        assert_eq!(format!("{:?}", Key::new(Secret::new([7; 32]))), "Key");
    }
}
