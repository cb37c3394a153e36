//! The key that the vault's data key is wrapped with: which it is, its exchange for another, and a sealed copy of it all.
//!
//! An exchange takes a ticket. Making one voids those before it, and waits for an exchange that is under way: so whoever
//! has just made one knows which key is in use, and that it stays so until they exchange it. Nothing of a caller that was
//! killed on its way can come through later.

use crate::app::App;
use crate::fault::Fault;
use crate::guard::{Caller, Door};
use crate::keys::{Keys, Wrapped};
use crate::{now, random, record};
use api::vault::{RotateVault, RotationTicket, VaultView};
use serde_json::json;
use std::fs::{self, File};
use store::StoreError;
use store::chain::By;

/// What copies that are being made are called.
const COPY: &str = "copy-";

/// Which key is in use.
#[must_use]
pub fn view(app: &App) -> VaultView {
    let Wrapped { key, source } = app.keys.wrapped();
    VaultView { key, source }
}

/// What a key or a copy of everything goes over is the home's own socket, whoever asks.
///
/// # Errors
/// 403.
pub fn at_home(caller: &Caller) -> Result<(), Fault> {
    match caller.door {
        Door::Home => Ok(()),
        Door::Tcp => Err(Fault::forbidden("This is answered over the home's own socket only.")),
    }
}

/// Makes a ticket for an exchange; every one before it is void from here on.
pub async fn ticket(app: &App) -> RotationTicket {
    let ticket = random::token();
    let mut held = app.keys.rotation.lock().await;
    *held = Some(ticket.clone());
    RotationTicket { ticket, key: app.keys.wrapped().key }
}

/// Wraps the data key with another key, in one transaction with its evidence. Runs go on: the data key stays what it is.
///
/// # Errors
/// 409 for a ticket that is not the last one made; 400 for what is no key; the store's.
pub async fn rotate(app: &App, caller: &Caller, wish: RotateVault) -> Result<VaultView, Fault> {
    let (ours, who) = (app.clone(), caller.person.to_string());
    // Its own task: a caller that goes away does not leave it half done and its ticket free.
    let done = tokio::spawn(async move { exchange(&ours, who, wish).await }).await;
    done.map_err(|e| Fault::ours("exchange the vault's key", &e))?
}

async fn exchange(app: &App, who: String, wish: RotateVault) -> Result<VaultView, Fault> {
    let mut held = app.keys.rotation.lock().await;
    if held.as_deref() != Some(wish.ticket.as_str()) {
        let message =
            "Another rotation of the vault's key began after this one, or the server was started again; begin anew.";
        return Err(Fault::conflict("vault.ticket", message));
    }
    *held = None;
    let (after, id) =
        app.keys.rewrap(&wish.key.0).map_err(|e| Fault::bad("vault.key", format!("This cannot be the key: {e}.")))?;
    let before = app.store.workspace_key(Keys::DATA_KEY).await?.unwrap_or_default();
    let from = app.keys.wrapped();
    let to = Wrapped { key: id, source: record::short(&wish.source) };
    let more = record::fields(json!({ "from": from.key, "to": to.key, "place": to.source }));
    app.store
        .write(move |tx| {
            Box::pin(async move {
                if !tx.exchange_workspace_key(Keys::DATA_KEY, &before, &after).await? {
                    let why = "the wrapped data key is another than it was".to_owned();
                    return Err(StoreError::Corrupt { what: "workspace key", why });
                }
                tx.record(By::Server, now(), "vault.rotated", &who, more).await
            })
        })
        .await?;
    tracing::info!("the vault's key is {} from {}; it was {}", to.key, to.source, from.key);
    app.keys.is_wrapped(to);
    // What the old key opens stands in no file of this server any more.
    if !app.store.forget().await? {
        tracing::warn!("the data key under the old key stands in the database's log until its next checkpoint");
    }
    Ok(view(app))
}

/// A whole copy of the database as of now, in a file without a name: every secret in it is sealed as it is here.
///
/// # Errors
/// The store's; a disk that takes no copy.
pub async fn copy(app: &App, caller: &Caller) -> Result<File, Fault> {
    let (who, at) = (caller.person.to_string(), now());
    let key = app.keys.wrapped().key;
    app.store
        .write(move |tx| {
            Box::pin(async move {
                tx.record(By::Server, at, "vault.copied", &who, record::fields(json!({ "key": key }))).await
            })
        })
        .await
        .map_err(|e: StoreError| Fault::from(e))?;
    let path = app.dir.join(format!("{COPY}{}.db", random::token()));
    let copied = app.store.copy_to(&path).await;
    let file = File::open(&path);
    // Gone with the last who reads it; also where it was not made whole.
    if let Err(e) = fs::remove_file(&path)
        && e.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!("remove {}: {e}", path.display());
    }
    copied?;
    file.map_err(|e| Fault::ours("read the copy of the database", &e))
}

/// Removes what a server that was killed left of copies.
///
/// # Errors
/// A folder that cannot be read, a file that cannot be removed.
pub fn sweep(dir: &std::path::Path) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(COPY) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
