//! Signing in with a browser: the authorization code with PKCE (RFC 7636), bound to the session that began it, once.
//!
//! The provider sends the browser back to the console. That page changes nothing (another site's link brings no session
//! with it); its one button hands code and state over, and then the session must be the one that began.
//!
//! Read [`begin`], then [`finish`].

use super::again::{TRIES, pause};
use super::ending::When;
use super::refresh::tell;
use super::wire::{self, Said, Tokens};
use super::{Kept, late, locked, providers, unknown};
use crate::app::App;
use crate::fault::Fault;
use crate::guard::Caller;
use crate::{now, platform, random, record};
use api::platform::Purpose;
use model::{Moment, Secret};
use serde_json::json;
use std::sync::Arc;
use store::StoreError;
use store::chain::By;
use url::Url;
use vault::refresh::{Lapse, Life, Token};

/// How long a sign-in may take, in milliseconds: ten minutes.
const BEGUN_MS: i64 = 600_000;

/// Sign-ins that are under way at the same time; the oldest gives way.
const BEGUN_AT_MOST: usize = 64;

/// Longest code and state that are taken, in bytes.
pub const MAX_CODE: usize = 4096;

/// A sign-in under way.
pub(super) struct Begun {
    connection: String,
    /// The connection is still the one that it was begun for.
    set_at: Moment,
    /// Hash of the session's token.
    session: String,
    verifier: Secret<String>,
    expires: Moment,
}

/// Where the provider sends the browser back to.
fn redirect(app: &App) -> String {
    format!("http://127.0.0.1:{}/connections/callback", app.port)
}

/// Begins a sign-in; gives the address at which the person goes on.
///
/// # Errors
/// 404, 400 for a connection without such an address or a caller without a browser's session, the store's.
pub async fn begin(app: &App, caller: &Caller, name: &str) -> Result<String, Fault> {
    let kept = Kept::of(app.store.connection(name).await?.ok_or_else(|| unknown(name))?)?;
    let Some(session) = caller.session.clone() else {
        return Err(Fault::bad("connection.session", "Signing in with a browser begins in the console."));
    };
    let Some(authorize) = &kept.settings.authorize_url else {
        return Err(Fault::bad(
            "connection.browser",
            format!("The connection {name:?} has no address to sign in at; use a device."),
        ));
    };
    let mut url = Url::parse(authorize).map_err(|e| Fault::ours("begin the sign-in", &e))?;
    let (state, verifier) = (random::token(), Secret::new(random::token()));
    {
        let mut query = url.query_pairs_mut();
        query
            .append_pair("response_type", "code")
            .append_pair("client_id", &kept.settings.client_id)
            .append_pair("redirect_uri", &redirect(app))
            .append_pair("state", &state)
            .append_pair("code_challenge", &wire::challenge(&verifier))
            .append_pair("code_challenge_method", "S256");
        if !kept.settings.scopes.is_empty() {
            query.append_pair("scope", &kept.settings.scopes.join(" "));
        }
        query.extend_pairs(providers::more(&kept.settings));
    }
    let (who, at, connection) = (caller.person.to_string(), now(), name.to_owned());
    let begun = Begun { connection, set_at: kept.row.set_at, session, verifier, expires: at.plus_ms(BEGUN_MS) };
    let more = json!({ "connection": name, "by": "browser" });
    app.store
        .write(move |tx| {
            Box::pin(
                async move { tx.record(By::Server, at, "connection.sign-in-begun", &who, record::fields(more)).await },
            )
        })
        .await
        .map_err(|e: StoreError| Fault::from(e))?;
    let mut all = locked(&app.connections.begun);
    all.retain(|_, begun| at < begun.expires);
    if all.len() >= BEGUN_AT_MOST
        && let Some(oldest) = all.iter().min_by_key(|(_, begun)| begun.expires).map(|(hash, _)| hash.clone())
    {
        all.remove(&oldest);
    }
    all.insert(random::sha256_hex(state.as_bytes()), begun);
    Ok(url.into())
}

/// Gives up the sign-ins to this connection that browsers have under way.
pub(super) fn given_up(app: &App, name: &str) {
    locked(&app.connections.begun).retain(|_, begun| begun.connection != name);
}

/// Ends a sign-in with the code that the provider gave; whatever comes of it, its state is used up. Gives the connection's
/// name.
///
/// # Errors
/// 403 for a state that is not one of this session's, 400 with what the provider says, the store's.
pub async fn finish(app: &App, caller: &Caller, state: &str, code: &Secret<String>) -> Result<String, Fault> {
    let begun = locked(&app.connections.begun).remove(&random::sha256_hex(state.as_bytes()));
    let ours = begun.filter(|begun| Some(&begun.session) == caller.session.as_ref() && now() < begun.expires);
    let Some(begun) = ours else {
        return Err(Fault::forbidden(
            "This sign-in was not begun in this browser's session, was used already, or took over ten minutes. Begin it again.",
        ));
    };
    let name = begun.connection;
    let kept = Kept::of(app.store.connection(&name).await?.ok_or_else(|| unknown(&name))?)?;
    if kept.row.set_at != begun.set_at {
        return Err(Fault::conflict(
            "connection.changed",
            "The connection was changed meanwhile; begin the sign-in again.",
        ));
    }
    let secret = kept.client_secret(app)?;
    let back = redirect(app);
    let fields = [
        ("grant_type", "authorization_code"),
        ("code", code.expose().as_str()),
        ("redirect_uri", back.as_str()),
        ("code_verifier", begun.verifier.expose().as_str()),
    ];
    let call = kept
        .form(secret.as_ref(), Purpose::SignIn, &kept.settings.token_url, &fields)
        .map_err(|why| Fault::ours("ask for tokens", &why))?;
    let who = caller.person.to_string();
    let asked = now();
    let (word, too_late) = platform::called(app, &who, call).await?;
    let kept = Arc::new(kept);
    late::if_said(app, &kept, too_late);
    match wire::said(&word) {
        Said::Tokens(tokens) => {
            signed_in(app, SignIn { was: kept, asked, tokens, who, by: "browser" }).await.map(|()| name)
        }
        Said::Unusable(tokens) => {
            late::ended(app, &kept, tokens);
            Err(Fault::bad("connection.refused", format!("There is no sign-in. {}", wire::UNUSABLE)))
        }
        Said::Pending { .. } => {
            Err(Fault::bad("connection.refused", "The provider says that somebody has yet to decide."))
        }
        Said::Untouched(why) | Said::Refused(why) | Said::Unknown(why) => {
            Err(Fault::bad("connection.refused", format!("There is no sign-in. {why}")))
        }
    }
}

/// Tokens that somebody's sign-in gave, and whose they are.
pub(super) struct SignIn {
    /// The connection as it was when the sign-in was begun, or the provider was asked.
    pub(super) was: Arc<Kept>,
    pub(super) asked: Moment,
    pub(super) tokens: Tokens,
    pub(super) who: String,
    /// `browser` or `device`.
    pub(super) by: &'static str,
}

/// Keeps the tokens of a sign-in. That they cannot be kept is tried a few times: nobody else has them. Those of a connection
/// that was ended, set anew or removed meanwhile are ended at the provider.
///
/// # Errors
/// 404, 409 for a connection that was changed meanwhile, the store's.
pub(super) async fn signed_in(app: &App, sign_in: SignIn) -> Result<(), Fault> {
    let sign_in = Arc::new(sign_in);
    let mut n = 1;
    let done = loop {
        match keep(app, &sign_in).await {
            Err(fault) if !fault.is_lasting() && n < TRIES => pause(n).await,
            done => break done,
        }
        n += 1;
    };
    match done {
        Ok(Ok(())) => {
            tell(app).await;
            Ok(())
        }
        Ok(Err((fault, noted))) => {
            let ours = app.clone();
            // A provider may take its time.
            tokio::spawn(async move { late::go_on(&ours, noted).await });
            Err(fault)
        }
        Err(fault) => {
            late::ended(app, &sign_in.was, sign_in.tokens.unkept());
            Err(fault)
        }
    }
}

/// Why a sign-in is not kept, and the row at which its tokens stand to be ended.
type NotKept = (Fault, Option<String>);

/// Keeps the tokens, or notes that they are to be ended: one act.
async fn keep(app: &App, sign_in: &Arc<SignIn>) -> Result<Result<(), NotKept>, Fault> {
    let (ours, sign_in, at) = (app.clone(), sign_in.clone(), now());
    app.store
        .write(move |tx| {
            Box::pin(async move {
                let SignIn { was, asked, tokens, who, by } = &*sign_in;
                let name = &was.row.name;
                let there = match tx.connection(name).await? {
                    Some(row) => {
                        let kept = Kept::of(row)?;
                        kept.still(was).map(|()| kept)
                    }
                    None => Err(unknown(name)),
                };
                let mut kept = match there {
                    Ok(kept) => kept,
                    Err(fault) => return Ok(Err((fault, late::note(tx, &ours, was, &tokens.unkept(), at).await?))),
                };
                // Those that these take the place of are nobody's then.
                if matches!(kept.standing.life, Life::Live | Life::Lapsed(Lapse::Unknown)) {
                    let before = kept.tokens(tx, &ours).await?;
                    kept.note_ending(&ours, kept.standing.fence, &before, When::SignedOut)?;
                }
                let token = Token::of(*asked, tokens.lives, tokens.refresh.is_some());
                let standing = kept.standing.signed_in(token);
                let generation = standing.generation;
                kept.row.signed_in_by.clone_from(who);
                kept.keep_tokens(tx, &ours, tokens, standing, (who, at)).await?;
                let more = json!({
                    "connection": name, "by": by, "generation": generation, "refreshable": tokens.refresh.is_some(),
                });
                tx.record(By::Server, at, "connection.signed-in", who, record::fields(more)).await?;
                Ok::<_, Fault>(Ok(()))
            })
        })
        .await
}
