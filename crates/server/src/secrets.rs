//! Secrets: set, listed by name, removed. No function of the server's API gives a value back.

use crate::app::App;
use crate::fault::Fault;
use crate::guard::Caller;
use crate::{now, record};
use api::http::SecretView;
use model::Secret;
use serde_json::json;
use store::chain::By;
use store::keep::SecretRow;

/// Longest value, in bytes.
pub const MAX_VALUE: usize = 16_384;

/// Shortest value, in bytes: the scrubber cannot look for less without mangling everything.
pub const MIN_VALUE: usize = scrub::MIN_BYTES;

/// Whether a text is 1 to 64 characters of `a-z`, `0-9`, `-`.
#[must_use]
pub fn plain_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
}

/// Checks a secret's name: `model/<name>` for a model's key, `capability/<name>` for what a profile's egress rows name.
///
/// # Errors
/// 400.
pub fn check_name(name: &str) -> Result<(), Fault> {
    match name.split_once('/') {
        Some(("model" | "capability", rest)) if plain_name(rest) => Ok(()),
        _ => {
            let message = format!(
                "{name:?} is no secret's name: it is `model/` or `capability/` and 1 to 64 characters of a-z, 0-9 and '-'."
            );
            Err(Fault::bad("secret.name", message))
        }
    }
}

fn check_value(value: &str) -> Result<(), Fault> {
    if !(MIN_VALUE..=MAX_VALUE).contains(&value.len()) {
        let message = format!("A secret takes {MIN_VALUE} to {MAX_VALUE} bytes; this one has {}.", value.len());
        return Err(Fault::bad("secret.length", message));
    }
    if !value.bytes().all(|b| b.is_ascii_graphic()) {
        let message = "A secret goes into a header: printable ASCII characters without spaces or line breaks.";
        return Err(Fault::bad("secret.characters", message));
    }
    Ok(())
}

fn view(row: SecretRow) -> SecretView {
    SecretView { name: row.name, set_by: row.set_by, set_at: row.set_at, version: row.version }
}

/// Every secret that is set, by name, without values.
///
/// # Errors
/// The store's.
pub async fn list(app: &App) -> Result<Vec<SecretView>, Fault> {
    Ok(app.store.secrets().await?.into_iter().map(view).collect())
}

/// Sets a secret, or replaces it.
///
/// # Errors
/// 400 for a name or a value that cannot be one; the store's.
pub async fn set(app: &App, caller: &Caller, name: &str, value: Secret<String>) -> Result<SecretView, Fault> {
    check_name(name)?;
    check_value(value.expose())?;
    let (ours, who, at, name) = (app.clone(), caller.person.to_string(), now(), name.to_owned());
    let row = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                let version = tx.next_secret_version(&name).await?;
                let sealed = ours.keys.seal(&name, version, &value).map_err(|e| Fault::ours("seal the secret", &e))?;
                let row = SecretRow { name, sealed, set_by: who.clone(), set_at: at, version };
                tx.set_secret(&row).await?;
                let more = record::fields(json!({ "secret": row.name, "version": version }));
                tx.record(By::Server, at, "secret.set", &who, more).await?;
                Ok::<_, Fault>(row)
            })
        })
        .await?;
    app.renew_scrubber().await?;
    Ok(view(row))
}

/// Removes a secret.
///
/// # Errors
/// 404, the store's.
pub async fn remove(app: &App, caller: &Caller, name: &str) -> Result<(), Fault> {
    check_name(name)?;
    let (who, at, name) = (caller.person.to_string(), now(), name.to_owned());
    app.store
        .write(move |tx| {
            Box::pin(async move {
                if !tx.remove_secret(&name).await? {
                    let message = format!("There is no secret {name:?}; `volary secret list` lists them.");
                    return Err(Fault::missing("secret.unknown", message));
                }
                let more = record::fields(json!({ "secret": name }));
                Ok(tx.record(By::Server, at, "secret.removed", &who, more).await?)
            })
        })
        .await?;
    app.renew_scrubber().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_could_split_a_header_or_is_too_short_to_be_found_is_refused() {
        assert!(check_value("sk-1234567").is_ok());
        assert!(check_value("sk-12345\r\nx: y").is_err());
        assert!(check_value(&"k".repeat(MIN_VALUE)).is_ok());
        assert!(check_value(&"k".repeat(MIN_VALUE - 1)).is_err());
        assert!(check_value(&"k".repeat(MAX_VALUE)).is_ok());
        assert!(check_value(&"k".repeat(MAX_VALUE + 1)).is_err());
    }

    #[test]
    fn a_name_is_a_model_and_nothing_else() {
        assert!(check_name("model/anthropic").is_ok());
        for bad in ["model/", "anthropic", "model/a/b", "git/x", "model/../x", "model/A"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
