//! Secrets: set, listed by name, replaced, removed. No function of the server's API gives a value back.
//!
//! A key that is set as one of a known provider's is *managed*: it goes into requests to that provider's hosts and
//! nowhere else. Of a key that allows it a person may have a value of their own, which their runs get in place of the workspace's.
//!
//! Read [`set`], [`replace`], [`remove`], then [`belongs`] (where one may go) and [`nature`] (what one is).

mod check;
mod custody;
mod nature;

use crate::app::App;
use crate::fault::Fault;
use crate::guard::Caller;
use crate::{leases, now, record};
use api::http::{SecretRemoved, SecretView, SetSecret};
use model::{Moment, Secret};
use nature::{Nature, fit, own, shared};
use serde_json::json;
use store::Tx;
use store::chain::By;
use store::secrets::SecretRow;

pub use check::{MAX_VALUE, MIN_VALUE, check_name, plain_name};
pub use custody::{apart, belongs, managed, may_go, of_person};

fn view(row: SecretRow) -> SecretView {
    SecretView {
        managed: managed(&row),
        minter: serde_json::from_str(&row.minter).ok(),
        name: row.name,
        person: Some(row.person).filter(|person| !person.is_empty()),
        kind: Some(row.kind).filter(|kind| !kind.is_empty()),
        personal: row.personal,
        set_by: row.set_by,
        set_at: row.set_at,
        last_used: row.last_used,
        version: row.version,
    }
}

/// Every value that is set, by name, without the values.
///
/// # Errors
/// The store's.
pub async fn list(app: &App) -> Result<Vec<SecretView>, Fault> {
    // A connection's token is nobody's to set; it is seen with its connection.
    let set = app.store.secrets().await?.into_iter().filter(|row| !row.name.starts_with("connection/"));
    Ok(set.map(view).collect())
}

/// Whose value is meant: the caller's own, or the workspace's.
fn whose(caller: &Caller, mine: bool) -> String {
    if mine { caller.person.to_string() } else { String::new() }
}

/// Sets a secret, or replaces it. What is not said of it stays as it is.
///
/// # Errors
/// 400 for a name, a kind or a value that cannot be one, and for a value of one's own where the key allows none; the store's.
pub async fn set(app: &App, caller: &Caller, name: &str, wish: SetSecret) -> Result<SecretView, Fault> {
    check_name(name)?;
    let (person, who, at, name) = (whose(caller, wish.mine), caller.person.to_string(), now(), name.to_owned());
    let ours = app.clone();
    let row = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                let workspaces = tx.secret_of(&name, "").await?;
                let mut nature = if person.is_empty() {
                    shared(&wish, workspaces.as_ref())?
                } else {
                    let before = tx.secret_of(&name, &person).await?;
                    own(&wish, &name, workspaces.as_ref(), before.as_ref())?
                };
                let value = fit(&name, &mut nature, &wish.value.0)?;
                put(tx, &ours, name, person, nature, &value, &who, at, "secret.set").await
            })
        })
        .await?;
    changed(app).await?;
    Ok(view(row))
}

/// Puts a new value in the place of one that is set; everything else of it stays as it is. Leases that are in use go on with
/// what they were given, until their end; one that is used from now on has the new value.
///
/// # Errors
/// 404; 400 for a value that cannot be one, and for one of one's own of another kind than the workspace's; the store's.
pub async fn replace(
    app: &App,
    caller: &Caller,
    name: &str,
    mine: bool,
    value: Secret<String>,
) -> Result<SecretView, Fault> {
    check_name(name)?;
    let (person, who, at, name) = (whose(caller, mine), caller.person.to_string(), now(), name.to_owned());
    let ours = app.clone();
    let row = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                let before = tx.secret_of(&name, &person).await?.ok_or_else(|| unknown(&name, mine))?;
                if let Err(two) = tx.secret_for(&name, &person).await? {
                    return Err(Fault::bad("secret.kinds", apart(&two).why));
                }
                let mut nature = Nature { kind: before.kind, personal: before.personal, minter: before.minter };
                let value = fit(&name, &mut nature, &value)?;
                put(tx, &ours, name, person, nature, &value, &who, at, "secret.rotated").await
            })
        })
        .await?;
    changed(app).await?;
    Ok(view(row))
}

#[allow(clippy::too_many_arguments, reason = "the row's own columns, told apart by their types and names")]
async fn put(
    tx: &mut Tx,
    app: &App,
    name: String,
    person: String,
    nature: Nature,
    value: &Secret<String>,
    who: &str,
    at: Moment,
    act: &str,
) -> Result<SecretRow, Fault> {
    let version = tx.next_secret_version(&name, &person).await?;
    let sealed = app.keys.seal_for(&person, &name, version, value).map_err(|e| Fault::ours("seal the secret", &e))?;
    let Nature { kind, personal, minter } = nature;
    let set_by = who.to_owned();
    let row = SecretRow { name, person, kind, personal, sealed, set_by, set_at: at, last_used: None, version, minter };
    tx.set_secret(&row).await?;
    let kind = if row.kind.is_empty() { "custom" } else { &row.kind };
    let more = json!({ "secret": row.name, "person": row.person, "provider": kind, "version": version });
    let mut more = record::fields(more);
    if !row.minter.is_empty() {
        more.insert("minter".into(), row.minter.clone().into());
    }
    tx.record(By::Server, at, act, who, more).await?;
    Ok(row)
}

fn unknown(name: &str, mine: bool) -> Fault {
    let whose = if mine { "You have no value of your own for" } else { "There is no secret" };
    Fault::missing("secret.unknown", format!("{whose} {name:?}; `volary secret list` lists them."))
}

/// The scrubber knows the new values, and the old ones stand in no file any more, sealed or not.
async fn changed(app: &App) -> Result<(), Fault> {
    app.renew_scrubber().await?;
    if !app.store.forget().await? {
        tracing::warn!("what was replaced or deleted stands, sealed, in the database's log until its next checkpoint");
    }
    Ok(())
}

/// Removes a secret: the workspace's value, or with `mine` the caller's own. With it end the leases that are open on it, and what
/// was minted of it where its vendor ends that, which takes the value that was minted and not this one.
///
/// # Errors
/// 404, the store's.
pub async fn remove(app: &App, caller: &Caller, name: &str, mine: bool) -> Result<SecretRemoved, Fault> {
    check_name(name)?;
    let (person, who, at, of) = (whose(caller, mine), caller.person.to_string(), now(), name.to_owned());
    let ended = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                // While it is known whose runs have it.
                let ended = leases::value_over(tx, (&of, &person), &who, at).await?;
                if !tx.remove_secret(&of, &person).await? {
                    return Err(unknown(&of, mine));
                }
                let more = json!({ "secret": of, "person": person, "leases": ended.leases.len() });
                tx.record(By::Server, at, "secret.removed", &who, record::fields(more)).await?;
                Ok(ended)
            })
        })
        .await?;
    leases::withdraw_value(app, &ended);
    changed(app).await?;
    // Also of leases that were over before.
    let minted = app.store.minted(at, false).await?;
    let left = minted.iter().filter(|lease| !mine && lease.secret == name && lease.mint.state == "left");
    Ok(SecretRemoved {
        leases: u32::try_from(ended.leases.len()).unwrap_or(u32::MAX),
        revoking: ended.revoking,
        left_until: left.map(|lease| lease.mint.until).max(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A value of the workspace's, of this kind.
    pub(super) fn row(kind: &str, personal: bool) -> SecretRow {
        SecretRow {
            name: "capability/forge".into(),
            person: String::new(),
            kind: kind.into(),
            personal,
            sealed: Vec::new(),
            set_by: String::new(),
            set_at: Moment(1),
            last_used: None,
            version: 1,
            minter: String::new(),
        }
    }
}
