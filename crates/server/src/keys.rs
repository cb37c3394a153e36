//! The workspace's keys: the data key, which opens the secrets, and the signer of heads.
//!
//! The data key is kept wrapped with a key-encryption key that is not here: the server is offered it at its start,
//! unwraps with it, and forgets it. It is seen again when another takes its place ([`Keys::rewrap`]).
//!
//! Read [`Keys::open`], [`Keys::seal_for`], then [`Keys::rewrap`].

use anyhow::{Context, bail};
use api::vault::{KeyOffer, OfferedKey};
use evidence::Signer;
use model::{Secret, WorkspaceId};
use std::sync::{Mutex, PoisonError};
use store::{Store, StoreError};
use vault::{Dek, Kek, Place};

const DEK_ROW: &str = "data-key";
const SIGNER_ROW: &str = "evidence-signer";
const VERIFIER_ROW: &str = "evidence-verifier";

/// What is known of the key that the data key is wrapped with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrapped {
    /// Its id.
    pub key: String,
    /// Where it comes from, in words for people.
    pub source: String,
}

/// The keys of one workspace, opened.
#[derive(Debug)]
pub struct Keys {
    workspace: WorkspaceId,
    dek: Dek,
    wrapped: Mutex<Wrapped>,
    /// Held while the key-encryption key is exchanged; the ticket of whoever may do that.
    pub rotation: tokio::sync::Mutex<Option<String>>,
    /// Signs heads of the evidence.
    pub signer: Signer,
    /// The key of fingerprints; see [`Keys::fingerprints`].
    fingerprints: Secret<[u8; 32]>,
}

/// What was offered that is a key, and what is wrong with what is none.
struct Offered {
    keys: Vec<(String, Kek)>,
    why_not: Vec<String>,
}

impl Offered {
    fn of(offer: KeyOffer) -> Self {
        let mut all = Self { keys: Vec::new(), why_not: offer.missing };
        for OfferedKey { source, key } in offer.keys {
            match Kek::from_hex(key.0.expose()) {
                Some(key) => all.keys.push((source, key)),
                None => all.why_not.push(format!("{source} does not hold a key, which is 64 hex digits")),
            }
        }
        all
    }

    /// Why the database stays closed, in one sentence.
    fn none(&self) -> String {
        let tried: Vec<&str> = self.keys.iter().map(|(source, _)| source.as_str()).collect();
        let mut why = match tried[..] {
            [] => "the key of this home's vault could not be had".to_owned(),
            _ => format!(
                "the key from {} does not open this database's keys; bring back the one that belongs to it",
                tried.join(", and the key from ")
            ),
        };
        for reason in &self.why_not {
            why += "; ";
            why += reason;
        }
        why
    }
}

impl Keys {
    /// Opens the workspace's keys with whichever of the offered keys does, or makes them under the first of these where the
    /// database has none yet. The offered keys are forgotten.
    ///
    /// # Errors
    /// No key that opens them; the store's.
    pub async fn open(offer: KeyOffer, workspace: &WorkspaceId, store: &Store) -> anyhow::Result<Self> {
        let offered = Offered::of(offer);
        if store.workspace_key(DEK_ROW).await?.is_none() {
            let Some((_, key)) = offered.keys.first() else { bail!(offered.none()) };
            keep(store, DEK_ROW, key.wrap(&Dek::generate()?, workspace)?).await?;
        }
        // What is kept, also where another server was faster.
        let wrapped = store.workspace_key(DEK_ROW).await?.context("the vault's data key is gone from the database")?;
        let opens = |(source, key): &(String, Kek)| {
            let dek = key.unwrap(&wrapped, workspace).ok()?;
            Some((dek, source.clone(), key.id()))
        };
        let Some((dek, source, key)) = offered.keys.iter().find_map(opens) else { bail!(offered.none()) };
        let key = key?;
        drop(offered);
        let name = format!("volary/{workspace}");
        if store.workspace_key(SIGNER_ROW).await?.is_none() {
            let (_, seed) = Signer::generate(&name)?;
            keep(store, SIGNER_ROW, vault::seal(&dek, &signers_place(workspace), seed.expose())?).await?;
        }
        let sealed = store.workspace_key(SIGNER_ROW).await?.context("the evidence signer is gone from the database")?;
        let seed = vault::open(&dek, &signers_place(workspace), &sealed).context("opening the evidence signer")?;
        let seed = <[u8; 32]>::try_from(seed.expose().as_slice()).context("the evidence signer's seed")?;
        let signer = Signer::from_seed(&name, &Secret::new(seed))?;
        // It is no secret: whoever looks at the evidence of a home at rest has no need of a key.
        keep(store, VERIFIER_ROW, signer.verifier_key().into_bytes()).await?;
        let fingerprints = dek.fingerprints(workspace)?;
        tracing::info!("the vault is open: its key {key} is from {source}");
        let wrapped = Mutex::new(Wrapped { key, source });
        let rotation = tokio::sync::Mutex::new(None);
        Ok(Self { workspace: workspace.clone(), dek, wrapped, rotation, signer, fingerprints })
    }

    /// What is known of the key-encryption key.
    #[must_use]
    pub fn wrapped(&self) -> Wrapped {
        self.wrapped.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From here on this key-encryption key is the one that opens the database.
    pub fn is_wrapped(&self, with: Wrapped) {
        *self.wrapped.lock().unwrap_or_else(PoisonError::into_inner) = with;
    }

    /// The data key under another key-encryption key, and that key's id. It was unwrapped with it again, so that what is
    /// kept from here on is known to open.
    ///
    /// # Errors
    /// What is no key; [`vault::SealError`], [`vault::OpenError`].
    pub fn rewrap(&self, key: &Secret<String>) -> anyhow::Result<(Vec<u8>, String)> {
        let key = Kek::from_hex(key.expose()).context("a key is 64 hex digits")?;
        let wrapped = key.wrap(&self.dek, &self.workspace)?;
        key.unwrap(&wrapped, &self.workspace)?;
        Ok((wrapped, key.id()?))
    }

    /// The row that holds the data key.
    pub const DATA_KEY: &str = DEK_ROW;

    /// The key under which this workspace's scrubbers fingerprint what they replace. It opens nothing.
    #[must_use]
    pub fn fingerprints(&self) -> &Secret<[u8; 32]> {
        &self.fingerprints
    }

    /// Seals version `version` of the secret `name`: the workspace's value, or that of a `person`.
    ///
    /// # Errors
    /// [`vault::SealError`].
    pub fn seal_for(
        &self,
        person: &str,
        name: &str,
        version: u64,
        value: &Secret<String>,
    ) -> Result<Vec<u8>, vault::SealError> {
        let place = Place { workspace: &self.workspace, person, name, version };
        vault::seal(&self.dek, &place, value.expose().as_bytes())
    }

    /// Seals version `version` of something of the workspace's that is kept as `name`.
    ///
    /// # Errors
    /// [`vault::SealError`].
    pub fn seal(&self, name: &str, version: u64, value: &Secret<String>) -> Result<Vec<u8>, vault::SealError> {
        self.seal_for("", name, version, value)
    }

    /// Opens what [`Keys::seal_for`] made, to be used as it is.
    ///
    /// # Errors
    /// [`vault::OpenError`]: the value is not of this row and its version; [`vault::OpenError::Form`] also for a key of which
    /// others are minted, and which itself goes nowhere.
    pub fn open_secret(&self, row: &store::secrets::SecretRow) -> Result<Secret<String>, vault::OpenError> {
        if crate::mint::mints(row) {
            return Err(vault::OpenError::Form);
        }
        self.open_key(row)
    }

    /// As [`Keys::open_secret`], also of a key of which others are minted: to sign with, and to scrub.
    ///
    /// # Errors
    /// [`vault::OpenError`].
    pub(crate) fn open_key(&self, row: &store::secrets::SecretRow) -> Result<Secret<String>, vault::OpenError> {
        self.open_for(&row.person, &row.name, row.version, &row.sealed)
    }

    /// Opens what [`Keys::seal`] made.
    ///
    /// # Errors
    /// [`vault::OpenError`]: it was changed, or is of another place or version.
    pub fn open_sealed(&self, name: &str, version: u64, sealed: &[u8]) -> Result<Secret<String>, vault::OpenError> {
        self.open_for("", name, version, sealed)
    }

    fn open_for(
        &self,
        person: &str,
        name: &str,
        version: u64,
        sealed: &[u8],
    ) -> Result<Secret<String>, vault::OpenError> {
        let bytes = vault::open(&self.dek, &Place { workspace: &self.workspace, person, name, version }, sealed)?;
        std::str::from_utf8(bytes.expose()).map(|v| Secret::new(v.to_owned())).map_err(|_| vault::OpenError::Form)
    }
}

/// The id of a key: what it is called by, where the key itself is not shown.
///
/// # Errors
/// What is no key: 64 hex digits.
pub fn id_of(key: &Secret<String>) -> anyhow::Result<String> {
    Ok(Kek::from_hex(key.expose()).context("a key is 64 hex digits")?.id()?)
}

/// The key that the heads of a database's evidence are signed under: kept in the clear, for those who only verify.
///
/// # Errors
/// The store's; a database that no server of this version has served yet.
pub async fn verifier_key(store: &Store) -> anyhow::Result<String> {
    let kept = store.workspace_key(VERIFIER_ROW).await?;
    let kept = kept.context("this database has not been served by this version yet; start it once with `volary up`")?;
    Ok(String::from_utf8(kept)?)
}

fn signers_place(workspace: &WorkspaceId) -> Place<'_> {
    Place { workspace, person: "", name: SIGNER_ROW, version: 1 }
}

/// Keeps it, unless there is one.
async fn keep(store: &Store, name: &'static str, sealed: Vec<u8>) -> Result<(), StoreError> {
    store.write(move |tx| Box::pin(async move { tx.keep_workspace_key(name, &sealed).await.map(drop) })).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::grants::WireSecret;

    fn offer(keys: &[(&str, &str)], missing: &[&str]) -> KeyOffer {
        let keys = keys.iter().map(|(source, key)| OfferedKey {
            source: (*source).to_owned(),
            key: WireSecret(Secret::new((*key).to_owned())),
        });
        KeyOffer { keys: keys.collect(), missing: missing.iter().map(|why| (*why).to_owned()).collect() }
    }

    async fn open(store: &Store, keys: &[(&str, &str)], missing: &[&str]) -> Result<Keys, String> {
        let workspace = "main".parse().unwrap();
        Keys::open(offer(keys, missing), &workspace, store).await.map_err(|e| format!("{e:#}"))
    }

    #[tokio::test]
    async fn a_key_of_which_others_are_minted_is_opened_to_sign_and_for_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("volary.db")).await.unwrap();
        let keys = open(&store, &[("one", &"1".repeat(64))], &[]).await.unwrap();
        let row = |minter: &str| store::secrets::SecretRow {
            name: "capability/x".into(),
            person: String::new(),
            kind: String::new(),
            personal: false,
            sealed: keys.seal("capability/x", 1, &Secret::new("a-value-of-it".to_owned())).unwrap(),
            set_by: "ada".into(),
            set_at: model::Moment(1),
            last_used: None,
            version: 1,
            minter: minter.into(),
        };
        assert!(keys.open_secret(&row("")).is_ok());
        // Also where its settings cannot be read.
        assert!(keys.open_secret(&row("{}")).is_err() && keys.open_key(&row("{}")).is_ok());
    }

    #[tokio::test]
    async fn whichever_offered_key_fits_opens_and_where_none_does_it_is_said_what_was_tried() {
        let (one, two, three) = ("1".repeat(64), "2".repeat(64), "3".repeat(64));
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("volary.db")).await.unwrap();
        assert!(open(&store, &[], &["the file x is missing"]).await.unwrap_err().contains("the file x is missing"));
        // Made under the first, not under what follows.
        let first = open(&store, &[("one", &one), ("two", &two)], &[]).await.unwrap();
        let value = Secret::new("a-value-of-it".to_owned());
        let sealed = first.seal("n", 1, &value).unwrap();
        let again = open(&store, &[("three", &three), ("one", &one)], &[]).await.unwrap();
        assert_eq!(again.open_sealed("n", 1, &sealed).unwrap().expose(), value.expose());
        assert_eq!((again.wrapped().source.as_str(), again.wrapped().key), ("one", first.wrapped().key));
        assert_eq!(verifier_key(&store).await.unwrap(), first.signer.verifier_key());

        let said = open(&store, &[("two", &two), ("three", &three)], &["KMS is away"]).await.unwrap_err();
        assert!(said.contains("two") && said.contains("three") && said.contains("KMS is away"), "{said}");
        let said = open(&store, &[("four", "not a key")], &[]).await.unwrap_err();
        assert!(said.contains("four does not hold a key") && !said.contains("not a key"), "{said}");

        // Under another key: the data key is the same, and the key of before opens nothing.
        let (wrapped, id) = first.rewrap(&Secret::new(two.clone())).unwrap();
        assert_ne!(id, first.wrapped().key);
        let before = store.workspace_key(DEK_ROW).await.unwrap().unwrap();
        let exchanged: Result<bool, StoreError> = store
            .write(move |tx| Box::pin(async move { tx.exchange_workspace_key(DEK_ROW, &before, &wrapped).await }))
            .await;
        assert!(exchanged.unwrap());
        assert!(open(&store, &[("one", &one)], &[]).await.is_err());
        let after = open(&store, &[("two", &two)], &[]).await.unwrap();
        assert_eq!(after.open_sealed("n", 1, &sealed).unwrap().expose(), value.expose());
        assert_eq!(after.wrapped().key, id);
        assert!(first.rewrap(&Secret::new("no key".to_owned())).is_err());
    }
}
