//! The workspace's keys: the key-encryption key from its file, the data key it wraps, the signer of heads.

use anyhow::{Context, bail};
use evidence::Signer;
use model::{Secret, WorkspaceId};
use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use store::{Store, StoreError};
use vault::{Dek, Kek};

const KEK_FILE: &str = "kek";
const DEK_ROW: &str = "data-key";
const SIGNER_ROW: &str = "evidence-signer";

/// The keys of one workspace, opened.
#[derive(Debug)]
pub struct Keys {
    workspace: WorkspaceId,
    dek: Dek,
    /// Signs heads of the evidence.
    pub signer: Signer,
    /// The key of fingerprints; see [`Keys::fingerprints`].
    fingerprints: Secret<[u8; 32]>,
}

impl Keys {
    /// Reads the key-encryption key from `dir/kek`, or makes it (mode 0600) at the first start, and with it opens
    /// the workspace's keys, or makes those.
    ///
    /// # Errors
    /// A key file that others may read, a missing one beside rows that were sealed with it, or one that does not fit.
    pub async fn open(dir: &Path, workspace: &WorkspaceId, store: &Store) -> anyhow::Result<Self> {
        let wrapped = store.workspace_key(DEK_ROW).await?;
        let kek = kek(&dir.join(KEK_FILE), wrapped.is_none())?;
        let dek = match wrapped {
            Some(wrapped) => kek.unwrap(&wrapped, workspace).with_context(|| {
                format!(
                    "the key file {} does not open this database's keys; put back the key file that belongs to it",
                    dir.join(KEK_FILE).display()
                )
            })?,
            None => {
                let dek = Dek::generate()?;
                let wrapped = kek.wrap(&dek, workspace)?;
                keep(store, DEK_ROW, wrapped).await?;
                dek
            }
        };
        let name = format!("volary/{workspace}");
        let signer = match store.workspace_key(SIGNER_ROW).await? {
            Some(sealed) => {
                let seed =
                    vault::open(&dek, workspace, SIGNER_ROW, 1, &sealed).context("opening the evidence signer")?;
                let seed = <[u8; 32]>::try_from(seed.expose().as_slice()).context("the evidence signer's seed")?;
                Signer::from_seed(&name, &Secret::new(seed))?
            }
            None => {
                let (signer, seed) = Signer::generate(&name)?;
                let sealed = vault::seal(&dek, workspace, SIGNER_ROW, 1, seed.expose())?;
                keep(store, SIGNER_ROW, sealed).await?;
                signer
            }
        };
        let fingerprints = dek.fingerprints(workspace)?;
        Ok(Self { workspace: workspace.clone(), dek, signer, fingerprints })
    }

    /// The key under which this workspace's scrubbers fingerprint what they replace. It opens nothing.
    #[must_use]
    pub fn fingerprints(&self) -> &Secret<[u8; 32]> {
        &self.fingerprints
    }

    /// Seals version `version` of the secret `name`.
    ///
    /// # Errors
    /// [`vault::SealError`].
    pub fn seal(&self, name: &str, version: u64, value: &Secret<String>) -> Result<Vec<u8>, vault::SealError> {
        vault::seal(&self.dek, &self.workspace, name, version, value.expose().as_bytes())
    }

    /// Opens what [`Keys::seal`] made.
    ///
    /// # Errors
    /// [`vault::OpenError`]: the row was changed, moved or rolled back.
    pub fn open_secret(&self, row: &store::keep::SecretRow) -> Result<Secret<String>, vault::OpenError> {
        let bytes = vault::open(&self.dek, &self.workspace, &row.name, row.version, &row.sealed)?;
        std::str::from_utf8(bytes.expose()).map(|v| Secret::new(v.to_owned())).map_err(|_| vault::OpenError::Form)
    }
}

async fn keep(store: &Store, name: &'static str, sealed: Vec<u8>) -> Result<(), StoreError> {
    store.write(move |tx| Box::pin(async move { tx.keep_workspace_key(name, &sealed).await.map(drop) })).await
}

/// Reads the key file; makes it only when nothing was sealed with an earlier one.
fn kek(path: &Path, first_start: bool) -> anyhow::Result<Kek> {
    let mut file = match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path) {
        // A link here is somebody's trick; it is not followed.
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound && first_start => return make(path),
        Err(e) if e.kind() == ErrorKind::NotFound => bail!(
            "the key file {} is missing, and what this database holds is sealed with it; put it back",
            path.display()
        ),
        Err(e) => return Err(e).with_context(|| format!("opening the key file {}", path.display())),
    };
    let mode = file.metadata()?.mode();
    if mode & 0o077 != 0 {
        bail!(
            "the key file {} may be read by others (mode {:03o}); make it yours alone: chmod 600 {0}",
            path.display(),
            mode & 0o777
        );
    }
    let text = Secret::new({
        let mut text = String::new();
        file.read_to_string(&mut text).with_context(|| format!("reading the key file {}", path.display()))?;
        text
    });
    let key = unhex(text.expose().trim()).with_context(|| {
        format!("the key file {} does not hold 64 hex digits; put back the one that belongs here", path.display())
    })?;
    Ok(Kek::new(key))
}

fn make(path: &Path) -> anyhow::Result<Kek> {
    let key = crate::random::bytes::<32>();
    let hex = Secret::new(key.iter().map(|b| format!("{b:02x}")).collect::<String>());
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("making the key file {}", path.display()))?;
    file.write_all(hex.expose().as_bytes())?;
    file.sync_all()?;
    Ok(Kek::new(key))
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let text = text.as_bytes();
    let mut key = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(text.chunks_exact(2)) {
        let digit = |d: u8| char::from(d).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_file_is_made_once_read_again_and_refused_when_others_may_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kek");
        kek(&path, true).unwrap();
        let first = std::fs::read(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        kek(&path, true).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), first);
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(kek(&path, true).unwrap_err().to_string().contains("chmod 600"));
    }

    #[test]
    fn a_lost_key_file_is_not_replaced_by_a_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kek");
        assert!(kek(&path, false).unwrap_err().to_string().contains("missing"));
        assert!(!path.exists());
    }
}
