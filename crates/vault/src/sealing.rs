//! The two keys and what they do. Sealed form: a byte for the form, nonce (12), ciphertext, tag (16).
//!
//! A value is padded before it is sealed, so that a row, a backup and a page of free space show one of four lengths and
//! not the value's.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    hkdf, rand,
};
use model::{Secret, WorkspaceId};
use zeroize::Zeroize;

/// What is sealed is as long as it is: keys, which all have one length, and values of before there was padding.
const BARE: u8 = 1;
/// The value's length in four bytes, the value, and zeros up to one of [`STEPS`].
const PADDED: u8 = 2;
const NONCE: usize = 12;
const TAG: usize = 16;
const LENGTH: usize = 4;

/// What values are padded to, in bytes. The first holds every key and token that is in use; a few long ones (certificates,
/// service accounts) show that they are long, and no more.
const STEPS: [usize; 4] = [1 << 10, 1 << 12, 1 << 14, MAX_PLAINTEXT];

/// The longest plaintext that is sealed, in bytes: a secret is at most 16 KiB (`api::http::SetSecret`); 64 KiB leaves room for bundles.
pub const MAX_PLAINTEXT: usize = 64 * 1024;

/// Key-encryption key: from a file, a command or a KMS, never stored beside what it wraps.
#[derive(Debug)]
pub struct Kek(Secret<Box<[u8]>>);

/// Data-encryption key of one workspace; leaves this crate only wrapped.
#[derive(Debug)]
pub struct Dek(Secret<Box<[u8]>>);

/// Where a sealed value belongs; it opens nowhere else.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The workspace.
    pub workspace: &'a WorkspaceId,
    /// Whose value it is: a person's id, or nothing for the workspace's own.
    pub person: &'a str,
    /// The secret's name.
    pub name: &'a str,
    /// From 1.
    pub version: u64,
}

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
    pub fn new(mut bytes: [u8; 32]) -> Self {
        let key = Self(Secret::new(Box::new(bytes)));
        bytes.zeroize();
        key
    }

    /// Reads 64 hex digits, with white space around them or not; none if it is anything else. The key is decoded to
    /// where it stays: no copy of it is left on the way.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits = text.trim().as_bytes();
        if digits.len() != 64 {
            return None;
        }
        let mut key = Secret::new(vec![0; 32].into_boxed_slice());
        for (byte, pair) in key.expose_mut().iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16);
            *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
        }
        Some(Self(key))
    }

    /// The key's name: 16 hex digits that are always the same, told apart from those of any other key, and of no use for
    /// opening anything (HKDF-SHA-256, RFC 5869). It may be shown and recorded.
    ///
    /// # Errors
    /// [`SealError::Library`].
    pub fn id(&self) -> Result<String, SealError> {
        let mut id = [0; 8];
        let derived = derive(&self.0, &place(&[b"volary key id 1"]), &mut id);
        clean_stack();
        derived.map_err(|_| SealError::Library)?;
        Ok(id.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Seals `dek` for `workspace`. 61 bytes.
    ///
    /// # Errors
    /// [`SealError::Library`].
    pub fn wrap(&self, dek: &Dek, workspace: &WorkspaceId) -> Result<Vec<u8>, SealError> {
        let wrapped = encrypt(&self.0, BARE, &wrap_place(workspace), dek.0.expose());
        clean_stack();
        wrapped
    }

    /// Opens what [`Kek::wrap`] made with the same key for the same workspace.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn unwrap(&self, wrapped: &[u8], workspace: &WorkspaceId) -> Result<Dek, OpenError> {
        let (form, sealed) = parts(wrapped)?;
        if form != BARE {
            return Err(OpenError::Form);
        }
        let plain = decrypt(&self.0, &wrap_place(workspace), sealed);
        clean_stack();
        let plain = plain?;
        if plain.expose().len() != 32 {
            return Err(OpenError::Form);
        }
        Ok(Dek(Secret::new(plain.expose().as_slice().into())))
    }
}

impl Dek {
    /// Takes 32 random bytes.
    #[must_use]
    pub fn new(mut random: [u8; 32]) -> Self {
        let key = Self(Secret::new(Box::new(random)));
        random.zeroize();
        key
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
        let mut key = [0; 32];
        let place = place(&[b"volary fingerprints 1", workspace.as_str().as_bytes()]);
        derive(&self.0, &place, &mut key).map_err(|_| SealError::Library)?;
        let secret = Secret::new(key);
        key.zeroize();
        Ok(secret)
    }
}

/// Seals `plaintext` for `place`. All values of up to 1,024 bytes give the same length, as do those of up to 4, 16 and
/// 64 KiB.
///
/// # Errors
/// [`SealError`].
pub fn seal(dek: &Dek, place: &Place<'_>, plaintext: &[u8]) -> Result<Vec<u8>, SealError> {
    let too_long = || SealError::TooLong(plaintext.len());
    let step = STEPS.into_iter().find(|step| plaintext.len() <= *step).ok_or_else(too_long)?;
    let length = u32::try_from(plaintext.len()).map_err(|_| too_long())?;
    // All of it reserved at once: a vector that grows leaves copies of the plaintext behind.
    let mut padded = Vec::with_capacity(LENGTH + step);
    padded.extend_from_slice(&length.to_be_bytes());
    padded.extend_from_slice(plaintext);
    padded.resize(LENGTH + step, 0);
    let padded = Secret::new(padded);
    encrypt(&dek.0, PADDED, &secret_place(PADDED, place), padded.expose())
}

/// Opens what [`seal`] made with the same key for the same place.
///
/// # Errors
/// [`OpenError`].
pub fn open(dek: &Dek, place: &Place<'_>, sealed: &[u8]) -> Result<Secret<Vec<u8>>, OpenError> {
    let (form, sealed) = parts(sealed)?;
    match form {
        // Of before persons had values of their own.
        BARE if place.person.is_empty() => decrypt(&dek.0, &secret_place(BARE, place), sealed),
        PADDED => {
            let padded = decrypt(&dek.0, &secret_place(PADDED, place), sealed)?;
            let (length, rest) = padded.expose().split_first_chunk::<LENGTH>().ok_or(OpenError::Form)?;
            let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| OpenError::Form)?;
            Ok(Secret::new(rest.get(..length).ok_or(OpenError::Form)?.to_vec()))
        }
        _ => Err(OpenError::Form),
    }
}

/// Where a wrapped data key belongs. The first part differs from [`secret_place`]'s, so neither opens as the other.
fn wrap_place(workspace: &WorkspaceId) -> Vec<u8> {
    place(&[b"volary data key 1", workspace.as_str().as_bytes()])
}

/// Each form has a place of its own: a row whose form was changed does not open as the other.
fn secret_place(form: u8, at: &Place<'_>) -> Vec<u8> {
    let (workspace, version) = (at.workspace.as_str().as_bytes(), at.version.to_be_bytes());
    match form {
        BARE => place(&[b"volary secret 1", workspace, at.name.as_bytes(), &version]),
        _ => place(&[b"volary secret 2", workspace, at.person.as_bytes(), at.name.as_bytes(), &version]),
    }
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

/// Writes over what the calls before left on the stack: the cipher's library lays a key's schedule there, which begins with the
/// key itself, and does not take it away. A key-encryption key is to be gone once it was used.
#[inline(never)]
fn clean_stack() {
    let mut room = [0u8; 32 * 1024];
    std::hint::black_box(&mut room);
}

fn derive(key: &Secret<Box<[u8]>>, place: &[u8], to: &mut [u8]) -> Result<(), aws_lc_rs::error::Unspecified> {
    struct Bytes(usize);
    impl hkdf::KeyType for Bytes {
        fn len(&self) -> usize {
            self.0
        }
    }
    let from = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(key.expose());
    from.expand(&[place], Bytes(to.len()))?.fill(to)
}

fn cipher(key: &Secret<Box<[u8]>>) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, key.expose()).ok().map(LessSafeKey::new)
}

fn encrypt(key: &Secret<Box<[u8]>>, form: u8, place: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, SealError> {
    let mut nonce = [0; NONCE];
    rand::fill(&mut nonce).map_err(|_| SealError::Library)?;
    // All of it reserved at once: a vector that grows leaves copies of the plaintext behind.
    let mut out = Vec::with_capacity(1 + NONCE + plaintext.len() + TAG);
    out.push(form);
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

/// The byte that says the form, and what follows.
fn parts(sealed: &[u8]) -> Result<(u8, &[u8]), OpenError> {
    sealed.split_first().map(|(form, rest)| (*form, rest)).ok_or(OpenError::Form)
}

fn decrypt(key: &Secret<Box<[u8]>>, place: &[u8], sealed: &[u8]) -> Result<Secret<Vec<u8>>, OpenError> {
    let (nonce, body) = sealed.split_first_chunk::<NONCE>().ok_or(OpenError::Form)?;
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
    Ok(Secret::new(out))
}
