//! Ending a connection: here at once, at the provider (RFC 7009) as soon as it answers.
//!
//! Read [`revoke`], then [`go_on`] (which a kill in the middle leads to).

use super::refresh::tell;
use super::{Kept, access_name, find, locked, unknown};
use crate::app::App;
use crate::fault::Fault;
use crate::guard::Caller;
use crate::{leases, now, platform, record};
use api::connections::ConnectionEnded;
use api::platform::{CallWord, Purpose};
use model::Secret;
use serde_json::json;
use store::chain::By;
use vault::refresh::Life;

/// How long after a provider that did not answer it is told again, in milliseconds.
const AGAIN_MS: i64 = 60_000;

/// Ends a connection. From here on no grant finds its token, and the leases that were open on it are over; the provider is told
/// now, and again until it answers.
///
/// # Errors
/// 404, 409 for one that is not signed in, the store's.
pub async fn revoke(app: &App, caller: &Caller, name: &str) -> Result<ConnectionEnded, Fault> {
    let (ours, who, at, of) = (app.clone(), caller.person.to_string(), now(), name.to_owned());
    let (access, ended) = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                let mut kept = Kept::of(tx.connection(&of).await?.ok_or_else(|| unknown(&of))?)?;
                if matches!(kept.standing.life, Life::New | Life::Revoked) {
                    return Err(Fault::conflict("connection.over", format!("The connection {of:?} is not signed in.")));
                }
                let access = match tx.secret_of(&access_name(&of), "").await? {
                    Some(row) => ours.keys.open_secret(&row).ok(),
                    None => None,
                };
                let ended = leases::value_over(tx, (&access_name(&of), ""), &who, at).await?;
                let standing = kept.standing.revoke();
                kept.close(tx, standing).await?;
                let more = record::fields(json!({ "connection": of, "leases": ended.leases.len() }));
                tx.record(By::Server, at, "connection.revoked", &who, more).await?;
                Ok::<_, Fault>((access, ended))
            })
        })
        .await?;
    leases::withdraw(app, &ended.leases);
    locked(&app.connections.devices).remove(name);
    tell(app).await;
    told(app, name, access).await?;
    let leases = u32::try_from(ended.leases.len()).unwrap_or(u32::MAX);
    Ok(ConnectionEnded { connection: find(app, name).await?, leases })
}

/// Tells the provider of a connection that was ended here and of which it does not know yet.
///
/// # Errors
/// The store's.
pub(super) async fn go_on(app: &App, name: &str) -> Result<(), Fault> {
    let Some(row) = app.store.connection(name).await? else { return Ok(()) };
    let held = Kept::of(row)?.standing.not_before.is_some_and(|then| then > now() && then.since(now()) <= AGAIN_MS);
    if held { Ok(()) } else { told(app, name, None).await }
}

/// Tells the provider, and forgets the tokens once it has answered.
async fn told(app: &App, name: &str, access: Option<Secret<String>>) -> Result<(), Fault> {
    let Some(row) = app.store.connection(name).await? else { return Ok(()) };
    let kept = Kept::of(row)?;
    if kept.standing.life != Life::Revoking {
        return Ok(());
    }
    let mut confirmed = true;
    if let Some(url) = &kept.settings.revoke_url {
        let secret = kept.client_secret(app)?;
        // The refresh token first: with it a provider ends what was made of it too (RFC 7009 §2.1).
        let tokens = [("refresh_token", kept.refresh_token(app)?), ("access_token", access)];
        for (hint, token) in tokens.into_iter().filter_map(|(hint, token)| Some((hint, token?))) {
            let fields = [("token", token.expose().as_str()), ("token_type_hint", hint)];
            let call = kept
                .form(secret.as_ref(), Purpose::Revoke, url, &fields)
                .map_err(|why| Fault::ours("end a token", &why))?;
            let word = platform::call(app, "server", call).await?;
            // What it refuses for good (a token it does not know, a kind that it does not end) is not asked again.
            confirmed &= matches!(word, CallWord::Answered { status: 200..=499, .. });
        }
    }
    let (fence, has_url, of, at) = (kept.standing.fence, kept.settings.revoke_url.is_some(), name.to_owned(), now());
    app.store
        .write(move |tx| {
            Box::pin(async move {
                let Some(row) = tx.connection(&of).await? else { return Ok(()) };
                let mut kept = Kept::of(row)?;
                if kept.standing.fence != fence || kept.standing.life != Life::Revoking {
                    return Ok(());
                }
                let mut standing = kept.standing.clone();
                if confirmed {
                    standing = standing.revoked();
                    kept.row.refresh = Vec::new();
                } else {
                    standing.not_before = Some(at.plus_ms(AGAIN_MS));
                }
                kept.keep(tx, standing).await?;
                let more = json!({ "connection": of, "told": confirmed && has_url, "address": has_url });
                Ok::<_, Fault>(tx.record(By::Server, at, "connection.ended", "server", record::fields(more)).await?)
            })
        })
        .await?;
    tell(app).await;
    Ok(())
}
