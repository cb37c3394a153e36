//! Signed heads, as C2SP signed notes: plain text that any Ed25519 tool can check.
//!
//! ```text
//! volary/main
//! 128
//! <head, base 64>
//!
//! — volary-main <base 64 of key hash (4 bytes) and signature (64)>
//! ```

use crate::chain::Head;
use aws_lc_rs::{
    rand,
    signature::{Ed25519KeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use model::{Secret, WorkspaceId};
use sha2::{Digest, Sha256};

/// C2SP's number for plain Ed25519.
const ED25519: u8 = 1;

/// Signs heads under one name.
pub struct Signer {
    name: String,
    pair: Ed25519KeyPair,
}

/// Why there is no signer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignerError {
    /// A name is 1 to 128 visible characters without `+`.
    #[error("making a signer: {0:?} is no key name (1 to 128 visible ASCII characters, no +)")]
    Name(String),
    /// The system gave no randomness, or the seed is no key.
    #[error("making a signer: the cryptographic library failed")]
    Library,
}

impl Signer {
    /// The signer of this seed (32 random bytes) under `name`.
    ///
    /// # Errors
    /// [`SignerError`].
    pub fn from_seed(name: &str, seed: &Secret<[u8; 32]>) -> Result<Self, SignerError> {
        if name.is_empty() || name.len() > 128 || !name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'+') {
            return Err(SignerError::Name(name.to_owned()));
        }
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.expose()).map_err(|_| SignerError::Library)?;
        Ok(Self { name: name.to_owned(), pair })
    }

    /// A fresh signer and its seed, to be sealed and kept.
    ///
    /// # Errors
    /// [`SignerError`].
    pub fn generate(name: &str) -> Result<(Self, Secret<[u8; 32]>), SignerError> {
        let mut seed = [0; 32];
        rand::fill(&mut seed).map_err(|_| SignerError::Library)?;
        let seed = Secret::new(seed);
        Ok((Self::from_seed(name, &seed)?, seed))
    }

    /// The text form of the public key: `name+hash+key`, as C2SP writes it. Give it to whoever shall verify.
    #[must_use]
    pub fn verifier_key(&self) -> String {
        let hash: String = self.key_hash().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{}+{hash}+{}", self.name, STANDARD.encode(self.typed_key()))
    }

    /// The signed note that `size` records of `workspace` end in `head`.
    #[must_use]
    pub fn sign(&self, workspace: &WorkspaceId, size: u64, head: Head) -> String {
        self.sign_text(&format!("volary/{workspace}\n{size}\n{}\n", STANDARD.encode(head.as_bytes())))
    }

    fn sign_text(&self, text: &str) -> String {
        let mut signature = self.key_hash().to_vec();
        signature.extend_from_slice(self.pair.sign(text.as_bytes()).as_ref());
        format!("{text}\n\u{2014} {} {}\n", self.name, STANDARD.encode(signature))
    }

    fn typed_key(&self) -> Vec<u8> {
        [&[ED25519], self.pair.public_key().as_ref()].concat()
    }

    fn key_hash(&self) -> [u8; 4] {
        let digest = Sha256::digest([self.name.as_bytes(), b"\n", &self.typed_key()].concat());
        [digest[0], digest[1], digest[2], digest[3]]
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({})", self.verifier_key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of Go's `sumdb/note` documentation, the first implementation of the format.
    fn peter_neumann() -> Signer {
        let seed = STANDARD.decode("AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz").unwrap();
        Signer::from_seed("PeterNeumann", &Secret::new(seed[1..].try_into().unwrap())).unwrap()
    }

    #[test]
    fn the_verifier_key_is_that_of_another_implementation() {
        let expected = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        assert_eq!(peter_neumann().verifier_key(), expected);
    }

    #[test]
    fn a_note_is_that_of_another_implementation() {
        let text =
            "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n";
        let line = "\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
        assert_eq!(peter_neumann().sign_text(text), format!("{text}\n{line}"));
    }

    #[test]
    fn a_key_name_is_1_to_128_visible_characters_without_plus() {
        let seed = Secret::new([1; 32]);
        for bad in ["", "a b", "a+b", "a\nb", "\u{e9}", &"a".repeat(129)] {
            assert_eq!(Signer::from_seed(bad, &seed).unwrap_err(), SignerError::Name(bad.to_owned()));
        }
        assert!(Signer::from_seed(&"a".repeat(128), &seed).is_ok());
    }

    #[test]
    fn a_generated_signer_comes_back_from_its_seed() {
        let (signer, seed) = Signer::generate("volary-main").unwrap();
        assert_eq!(Signer::from_seed("volary-main", &seed).unwrap().verifier_key(), signer.verifier_key());
        assert_ne!(Signer::generate("volary-main").unwrap().0.verifier_key(), signer.verifier_key());
    }
}
