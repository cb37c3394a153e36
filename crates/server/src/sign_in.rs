//! Signing a browser in: a link that works once, and the session it makes.

use crate::app::App;
use crate::fault::Fault;
use crate::guard::Caller;
use crate::port::Account;
use crate::{now, random, record, session};
use api::http::SignInLink;
use serde_json::json;
use store::StoreError;
use store::chain::By;
use store::keep::TokenRow;

/// How long a link works, in milliseconds: ten minutes.
pub const LINK_MS: i64 = 600_000;

/// What someone is told who is not signed in.
pub const HOW: &str = "Sign in first: `volary sign-in` prints a link that works once.";

/// Makes a link that signs the caller in to the console, once.
///
/// # Errors
/// The store's.
pub async fn make_link(app: &App, caller: &Caller) -> Result<SignInLink, Fault> {
    let token = random::token();
    let (hash, person, at) = (random::sha256_hex(token.as_bytes()), caller.person.clone(), now());
    let expires = at.plus_ms(LINK_MS);
    app.store
        .write(move |tx| {
            Box::pin(async move {
                tx.add_link(&hash, &TokenRow { person: person.clone(), expires }, at).await?;
                tx.record(By::Server, at, "sign-in.link-made", person.as_str(), record::fields(json!({}))).await
            })
        })
        .await
        .map_err(|e: StoreError| Fault::from(e))?;
    Ok(SignInLink { url: format!("http://127.0.0.1:{}/sign-in/{token}", app.port), expires })
}

/// Redeems a link's token for a session's token, which is worth something in the hands of `account` alone.
///
/// # Errors
/// 403 for a token that is unknown, used or over, which of them is not told; and for an account that is not known:
/// the link is not used up then.
pub async fn redeem(app: &App, token: &str, account: Account) -> Result<String, Fault> {
    let fresh = random::token();
    let session = session::hash(&fresh, account).ok_or_else(|| {
        Fault::forbidden("This system does not say which account this browser runs under, so it cannot be signed in.")
    })?;
    let (link, at) = (random::sha256_hex(token.as_bytes()), now());
    let expires = session::end(at);
    app.store
        .write(move |tx| {
            Box::pin(async move {
                let Some(person) = tx.redeem_link(&link, at).await? else { return Ok(false) };
                tx.add_session(&session, &TokenRow { person: person.clone(), expires }, at).await?;
                tx.record(By::Server, at, "sign-in.redeemed", person.as_str(), record::fields(json!({}))).await?;
                Ok(true)
            })
        })
        .await
        .map_err(|e: StoreError| Fault::from(e))?
        .then_some(fresh)
        .ok_or_else(|| {
            Fault::forbidden(
                "This link was used already, is over ten minutes old, or was never one. `volary sign-in` prints a new one.",
            )
        })
}

/// Ends the caller's session.
///
/// # Errors
/// The store's.
pub async fn end(app: &App, caller: &Caller) -> Result<(), Fault> {
    let Some(hash) = caller.session.clone() else { return Ok(()) };
    let (who, at) = (caller.person.to_string(), now());
    app.store
        .write(move |tx| {
            Box::pin(async move {
                tx.end_session(&hash).await?;
                tx.record(By::Server, at, "sign-in.ended", &who, record::fields(json!({}))).await
            })
        })
        .await
        .map_err(|e: StoreError| Fault::from(e))
}
