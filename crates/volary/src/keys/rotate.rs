//! Another key for the vault, while everything goes on.
//!
//! 1. `vault.toml` names the key in use and the one to follow; a start offers the server both.
//! 2. The new key is made, where it is ours to make, and read back the way a start would read it.
//! 3. The server wraps the data key with it: one row, with its evidence.
//! 4. `vault.toml` names the new key alone.
//!
//! Killed before 3 the old key opens, after it the new one, and both are offered: the platform starts. Which of the two
//! it is, the server says ([`settle`]), at the next start or the next rotation. No key that was ever in use is deleted:
//! backups of before open with it.

use super::source::{self, Environment, Source};
use super::{Config, Entry, Row, offer, plain, write_new};
use crate::client::Client;
use crate::home::Home;
use anyhow::{Context, bail};
use api::grants::WireSecret;
use api::vault::{RotateVault, RotationTicket, VaultView};
use hyper::Method;
use model::Secret;
use serde_json::json;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// Held while `vault.toml` is changed, or has to stay as it is.
#[derive(Debug)]
pub struct Lock {
    _folder: File,
}

/// Takes the lock, if nobody has it.
///
/// # Errors
/// The system's.
pub fn lock(home: &Home) -> anyhow::Result<Option<Lock>> {
    let folder = home.keys();
    let folder = File::open(&folder).with_context(|| format!("open {}", folder.display()))?;
    match rustix::fs::flock(&folder, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(Lock { _folder: folder })),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// What a rotation did.
#[derive(Debug)]
pub struct Rotated {
    /// Id of the key of before, and where it is, in words.
    pub before: (String, String),
    /// The same of the key that is in use now.
    pub now: (String, String),
}

/// Brings `vault.toml` up to what is in use, after a rotation that was cut off. Whoever calls holds the lock.
///
/// # Errors
/// A server that does not answer, a file that cannot be written.
pub async fn settle(home: &Home, client: &Client) -> anyhow::Result<()> {
    let Config { key, next: Some(next) } = Config::read(home)? else { return Ok(()) };
    // Written by hand, it has none: then it stays for whoever wrote it.
    let Some(id) = next.id.clone() else { return Ok(()) };
    // The ticket of whoever was cut off is void with this: what is in use now stays so.
    let ticket: RotationTicket = client.post("/api/vault/rotation", &json!({})).await?;
    if ticket.key == id {
        return Config { key: next, next: None }.write(home);
    }
    Config { key, next: None }.write(home)?;
    // It was made for this rotation and nothing was ever wrapped with it.
    match next.source {
        Source::File(path) if path.is_relative() => match fs::remove_file(home.path().join(path)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).context("remove the key that was not used"),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

/// Wraps the vault with another key. `to` is a line of `vault.toml`, `file` for a new file of the home's own, or nothing for
/// a new key of the kind that is in use.
///
/// # Errors
/// What is wrong with the new source, with the key it gives, or with the platform. Whether anything was changed is said.
pub async fn rotate(home: &Home, client: &Client, to: Option<&str>) -> anyhow::Result<Rotated> {
    let Some(_lock) = lock(home)? else { bail!("another rotation or a backup is under way on this home") };
    settle(home, client).await?;
    let now = Config::read(home)?;
    let environment = of_up(home)?;
    let environment: Environment<'_> = &|name| environment.get(name).cloned();
    let (source, made) = following(home, &now.key.source, to)?;
    let key = match made {
        Some(key) => key,
        None => source.obtain(home, environment)?,
    };
    let id = server::keys::id_of(&key)?;
    let source = match source {
        // It has the key's id in its name, so that no two keys ever have one place.
        Source::File(path) if path.as_os_str().is_empty() => Source::File(PathBuf::from(format!("keys/kek-{id}"))),
        other => other,
    };
    let view: VaultView = client.get("/api/vault").await?;
    if view.key == id {
        bail!("the key from {} is the one in use ({id}); nothing was changed", source.words(home));
    }
    let ticket: RotationTicket = client.post("/api/vault/rotation", &json!({})).await?;
    let before = Entry { source: now.key.source, id: Some(view.key.clone()) };
    let next = Entry { source, id: Some(id.clone()) };
    Config { key: before, next: Some(next.clone()) }.write(home)?;
    let exchanged = exchange(home, client, environment, &next, key, ticket).await;
    if let Err(e) = exchanged {
        return Err(match settle(home, client).await {
            Ok(()) => e.context("the vault's key was not exchanged"),
            // The next start, or the next rotation, settles it; until then both keys are offered.
            Err(unsettled) => e.context(format!("the server did not say which key is in use ({unsettled:#})")),
        });
    }
    let words = next.source.words(home);
    Config { key: next, next: None }.write(home)?;
    Ok(Rotated { before: (view.key, view.source), now: (id, words) })
}

async fn exchange(
    home: &Home,
    client: &Client,
    environment: Environment<'_>,
    next: &Entry,
    key: Secret<String>,
    RotationTicket { ticket, .. }: RotationTicket,
) -> anyhow::Result<()> {
    if let Source::File(path) = &next.source
        && path.is_relative()
    {
        let path = home.path().join(path);
        write_new(&path, key.expose().as_bytes(), false).with_context(|| format!("write {}", path.display()))?;
    }
    // As a start will read it: what gives another key each time, or none to `up`, is no place for one.
    let offered = offer(home, environment)?;
    let same = |key: &WireSecret| server::keys::id_of(&key.0).is_ok_and(|id| Some(&id) == next.id.as_ref());
    if !offered.keys.iter().any(|offered| same(&offered.key)) {
        let why = offered.missing.join("; ");
        bail!("{} does not give the same key again {why}", next.source.words(home));
    }
    let wish = RotateVault { ticket, source: next.source.words(home), key: WireSecret(key) };
    client.act(Method::PUT, "/api/vault/rotation", &wish).await
}

/// Where the next key is to come from, and the key, where it is made here.
fn following(home: &Home, now: &Source, to: Option<&str>) -> anyhow::Result<(Source, Option<Secret<String>>)> {
    let source = match (to, now) {
        (Some("file"), _) => Source::File(PathBuf::new()),
        (Some(text), _) => {
            let row: Row = toml::from_str(text).map_err(|e| {
                anyhow::anyhow!(
                    "--to takes `file`, or a line of vault.toml such as env = \"NAME\": {}",
                    plain(text, &e)
                )
            })?;
            let source = row.entry("--to")?.source;
            // A relative file is one that a rotation made, and that goes again when the rotation does not come about.
            if matches!(&source, Source::File(path) if path.is_relative()) {
                bail!(
                    "a key of the home's own is made, not named: --to file; one that is there is named by its absolute path"
                );
            }
            source
        }
        (None, Source::File(path)) if path.is_relative() || *path == home.server().join("kek") => {
            Source::File(PathBuf::new())
        }
        (None, Source::Transit(transit)) => Source::Transit(source::Transit { ciphertext: None, ..transit.clone() }),
        (None, other) => bail!(
            "the key in use comes from {}, where this command makes none; say by --to where the new one is",
            other.words(home)
        ),
    };
    Ok(match source {
        Source::File(path) if path.as_os_str().is_empty() => (Source::File(path), Some(source::generate()?)),
        Source::Transit(transit) if transit.ciphertext.is_none() => {
            let key = source::generate()?;
            let ciphertext = super::transit::encrypt(&transit, &key, home.uids().0)
                .with_context(|| format!("the KMS at {}", transit.address))?;
            (Source::Transit(source::Transit { ciphertext: Some(ciphertext), ..transit }), Some(key))
        }
        other => (other, None),
    })
}

/// The environment that `up` was started with: what it has not, the next start will not have either.
fn of_up(home: &Home) -> anyhow::Result<BTreeMap<String, OsString>> {
    let state = fs::read_to_string(home.run("up.json")).context("read which platform is up")?;
    let state: serde_json::Value = serde_json::from_str(&state).context("read which platform is up")?;
    let pid = state["pid"].as_u64().context("read which platform is up")?;
    let bytes = fs::read(format!("/proc/{pid}/environ")).context("read the environment of `volary up`")?;
    let pairs = bytes.split(|byte| *byte == 0).filter_map(|pair| {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        Some((String::from_utf8(pair[..at].to_vec()).ok()?, OsString::from_vec(pair[at + 1..].to_vec())))
    });
    Ok(pairs.collect())
}
