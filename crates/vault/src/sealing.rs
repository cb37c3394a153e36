//! The two keys and what they do. Sealed form: version byte 1, nonce (12), ciphertext, tag (16).

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    hkdf, rand,
};
use model::{Secret, WorkspaceId};
use zeroize::Zeroize;

const FORMAT: u8 = 1;
const NONCE: usize = 12;
const TAG: usize = 16;

/// The longest plaintext that is sealed, in bytes: a secret is at most 16 KiB (`api::http::SetSecret`); 64 KiB leaves room for bundles.
pub const MAX_PLAINTEXT: usize = 64 * 1024;

/// Key-encryption key: from a file, a command or a KMS, never stored beside what it wraps.
#[derive(Debug)]
pub struct Kek(Secret<[u8; 32]>);

/// Data-encryption key of one workspace; leaves this crate only wrapped.
#[derive(Debug)]
pub struct Dek(Secret<[u8; 32]>);

/// Why nothing was sealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The plaintext is longer than [`MAX_PLAINTEXT`]; holds its length.
    #[error("sealing a value: {0} bytes are more than {MAX_PLAINTEXT}")]
    TooLong(usize),
    /// The system gave no randomness, or the cipher failed.
    #[error("sealing a value: the cryptographic library failed")]
    Library,
}

/// Why nothing was opened. Says nothing of the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not in the sealed form, or in a newer one.
    #[error("opening a sealed value: it is not in a form this version knows")]
    Form,
    /// Another key, another place (workspace, name, version), or changed bytes. Which one cannot be told.
    #[error("opening a sealed value: it was sealed with another key, for another place, or was changed")]
    Refused,
}

impl Kek {
    /// Takes the 32 bytes of a key.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Secret::new(bytes))
    }

    /// Seals `dek` for `workspace`. 61 bytes.
    ///
    /// # Errors
    /// [`SealError::Library`].
    pub fn wrap(&self, dek: &Dek, workspace: &WorkspaceId) -> Result<Vec<u8>, SealError> {
        encrypt(&self.0, &wrap_place(workspace), dek.0.expose())
    }

    /// Opens what [`Kek::wrap`] made with the same key for the same workspace.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn unwrap(&self, wrapped: &[u8], workspace: &WorkspaceId) -> Result<Dek, OpenError> {
        let mut plain = decrypt(&self.0, &wrap_place(workspace), wrapped)?;
        let key = <[u8; 32]>::try_from(plain.as_slice());
        plain.zeroize();
        key.map(|key| Dek(Secret::new(key))).map_err(|_| OpenError::Form)
    }
}

impl Dek {
    /// Takes 32 random bytes.
    #[must_use]
    pub fn new(random: [u8; 32]) -> Self {
        Self(Secret::new(random))
    }

    /// A fresh one, from the system's randomness.
    ///
    /// # Errors
    /// [`SealError::Library`].
    pub fn generate() -> Result<Self, SealError> {
        let mut bytes = [0; 32];
        rand::fill(&mut bytes).map_err(|_| SealError::Library)?;
        let dek = Self::new(bytes);
        bytes.zeroize();
        Ok(dek)
    }

    /// The key under which `workspace`'s scrubbers fingerprint what they replace: HKDF-SHA-256 (RFC 5869) of this key,
    /// always the same, and of no use for opening anything.
    ///
    /// # Errors
    /// [`SealError::Library`].
    pub fn fingerprints(&self, workspace: &WorkspaceId) -> Result<Secret<[u8; 32]>, SealError> {
        let derive = || {
            let place = place(&[b"volary fingerprints 1", workspace.as_str().as_bytes()]);
            let mut key = [0; 32];
            let from = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(self.0.expose());
            from.expand(&[&place], hkdf::HKDF_SHA256)?.fill(&mut key)?;
            let secret = Secret::new(key);
            key.zeroize();
            Ok::<_, aws_lc_rs::error::Unspecified>(secret)
        };
        derive().map_err(|_| SealError::Library)
    }
}

/// Seals `plaintext` as `version` (from 1) of the secret `name` of `workspace`. 29 bytes longer than the plaintext.
///
/// # Errors
/// [`SealError`].
pub fn seal(
    dek: &Dek,
    workspace: &WorkspaceId,
    name: &str,
    version: u64,
    plaintext: &[u8],
) -> Result<Vec<u8>, SealError> {
    encrypt(&dek.0, &secret_place(workspace, name, version), plaintext)
}

/// Opens what [`seal`] made with the same key for the same place.
///
/// # Errors
/// [`OpenError`].
pub fn open(
    dek: &Dek,
    workspace: &WorkspaceId,
    name: &str,
    version: u64,
    sealed: &[u8],
) -> Result<Secret<Vec<u8>>, OpenError> {
    decrypt(&dek.0, &secret_place(workspace, name, version), sealed).map(Secret::new)
}

/// Where a wrapped data key belongs. The first part differs from [`secret_place`]'s, so neither opens as the other.
fn wrap_place(workspace: &WorkspaceId) -> Vec<u8> {
    place(&[b"volary data key 1", workspace.as_str().as_bytes()])
}

fn secret_place(workspace: &WorkspaceId, name: &str, version: u64) -> Vec<u8> {
    place(&[b"volary secret 1", workspace.as_str().as_bytes(), name.as_bytes(), &version.to_be_bytes()])
}

/// Each part with its length before it: two different lists never give the same bytes.
fn place(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts {
        out.extend_from_slice(&(part.len() as u64).to_be_bytes());
        out.extend_from_slice(part);
    }
    out
}

fn cipher(key: &Secret<[u8; 32]>) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, key.expose()).ok().map(LessSafeKey::new)
}

fn encrypt(key: &Secret<[u8; 32]>, place: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, SealError> {
    if plaintext.len() > MAX_PLAINTEXT {
        return Err(SealError::TooLong(plaintext.len()));
    }
    let mut nonce = [0; NONCE];
    rand::fill(&mut nonce).map_err(|_| SealError::Library)?;
    // All of it reserved at once: a vector that grows leaves copies of the plaintext behind.
    let mut out = Vec::with_capacity(1 + NONCE + plaintext.len() + TAG);
    out.push(FORMAT);
    out.extend_from_slice(&nonce);
    out.extend_from_slice(plaintext);
    let tag = cipher(key).and_then(|cipher| {
        let nonce = Nonce::assume_unique_for_key(nonce);
        cipher.seal_in_place_separate_tag(nonce, Aad::from(place), &mut out[1 + NONCE..]).ok()
    });
    let Some(tag) = tag else {
        out.zeroize();
        return Err(SealError::Library);
    };
    out.extend_from_slice(tag.as_ref());
    Ok(out)
}

fn decrypt(key: &Secret<[u8; 32]>, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
    let (&FORMAT, rest) = sealed.split_first().ok_or(OpenError::Form)? else {
        return Err(OpenError::Form);
    };
    let (nonce, body) = rest.split_first_chunk::<NONCE>().ok_or(OpenError::Form)?;
    if body.len() < TAG {
        return Err(OpenError::Form);
    }
    let mut out = body.to_vec();
    let opened = cipher(key).and_then(|cipher| {
        let nonce = Nonce::assume_unique_for_key(*nonce);
        cipher.open_in_place(nonce, Aad::from(place), &mut out).ok().map(|plain| plain.len())
    });
    let Some(len) = opened else {
        out.zeroize();
        return Err(OpenError::Refused);
    };
    out.truncate(len);
    Ok(out)
}
