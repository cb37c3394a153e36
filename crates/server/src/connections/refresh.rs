//! Keeping access tokens fresh.
//!
//! A refresh is three acts: the lock, the journal and the call's record are kept; the gateway makes the call; what came of
//! it is kept, if the lock is still ours. Whatever is lost between two of them, the next one who looks decides by what is
//! written down ([`vault::refresh::Standing::next`]).
//!
//! Read [`ready`], [`look`], [`finish`], then [`keep`].

mod wait;

use super::again::until_kept;
use super::ending::When;
use super::wire::{self, Said};
use super::{Kept, closed, ending, late, locked, unknown_here};
use crate::app::App;
use crate::fault::Fault;
use crate::platform::{self, Noted};
use crate::{leases, now, record};
use api::platform::{CallWord, Purpose, boot_ms};
use model::Moment;
use policy::Refusal;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use store::chain::By;
use store::{StoreError, Tx};
use vault::refresh::{Act, CALL_SECS, Lapse, Life, Outcome, SEND_MS, Standing};

/// How often all connections are looked at.
const ROUND: Duration = Duration::from_secs(5);

/// What one look has led to.
enum Looked {
    /// The access token may be given out.
    Usable,
    /// It may not, and nothing but a person changes that.
    Closed(Refusal),
    /// It may not yet.
    Later,
}

/// Of what a refresh is.
struct Of {
    /// The connection as it was when this was begun.
    was: Kept,
    fence: u64,
    asked: Moment,
}

/// A refresh under way.
struct Ticket {
    of: Of,
    noted: Noted,
}

/// Returns once a connection's access token may be given out; a refresh that this takes is made once, whoever waits.
///
/// # Errors
/// A refusal, for one that is closed, or does not become fresh in time.
pub async fn ready(app: &App, name: &str) -> Result<(), Refusal> {
    let (changed, seats) = (&app.connections.changed, &app.connections.waiting.0);
    wait::until_usable(name, wait::PATIENCE, changed, seats, || look(app, name)).await
}

/// Looks at a connection once, and begins what is to be done.
async fn look(app: &App, name: &str) -> Result<Looked, Fault> {
    let Some(row) = app.store.connection(name).await? else { return Ok(Looked::Closed(unknown_here(name))) };
    let kept = Kept::of(row)?;
    let next = kept.standing.next(now(), app.connections.seen_ms(name, kept.standing.fence));
    if matches!(next.act, Act::Send | Act::Lapse(_))
        && let Some(ticket) = begin(app, name).await?
    {
        // Whoever asked may go away; what was begun is brought to its end.
        let app = app.clone();
        tokio::spawn(async move {
            let Ticket { of, noted } = ticket;
            let of = Arc::new(of);
            let (word, late) = platform::sent(&app, noted).await;
            finish(&app, &of, &word).await;
            // Said when it was waited for no more: its fence says what becomes of it.
            if let Some(late) = late
                && let Ok(word) = late.await
            {
                finish(&app, &of, &word).await;
            }
        });
    }
    Ok(match (next.usable, next.act) {
        (true, _) => Looked::Usable,
        (false, Act::Rest) => Looked::Closed(closed(name, &kept.standing)),
        (false, _) => Looked::Later,
    })
}

/// Takes the lock and journals the refresh, or closes the connection: one act. None if there is nothing to send.
async fn begin(app: &App, name: &str) -> Result<Option<Ticket>, Fault> {
    let (ours, name, asked, asked_ms) = (app.clone(), name.to_owned(), now(), boot_ms());
    let (ticket, over) = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                let Some(row) = tx.connection(&name).await? else { return Ok((None, None)) };
                let mut kept = Kept::of(row)?;
                let seen = ours.connections.seen_ms(&name, kept.standing.fence);
                match kept.standing.next(asked, seen).act {
                    Act::Send => {}
                    Act::Lapse(why) => {
                        let standing = kept.standing.lapse(why);
                        return Ok((None, Some(lapse(tx, &mut kept, standing, (why, asked)).await?)));
                    }
                    Act::Rest | Act::Wait => return Ok((None, None)),
                }
                let standing = kept.standing.take();
                let Some(token) = kept.refresh_token(&ours)? else {
                    let standing = kept.standing.lapse(Lapse::Expired);
                    return Ok((None, Some(lapse(tx, &mut kept, standing, (Lapse::Expired, asked)).await?)));
                };
                let secret = kept.client_secret(&ours)?;
                let fields = [("grant_type", "refresh_token"), ("refresh_token", token.expose().as_str())];
                let mut call = kept
                    .form(secret.as_ref(), Purpose::Refresh, &kept.settings.token_url, &fields)
                    .map_err(|why| Fault::ours("ask for a token", &why))?;
                call.limits.seconds = CALL_SECS;
                call.limits.send_before_ms = Some(asked_ms + SEND_MS);
                let (fence, generation, tries) = (standing.fence, standing.generation, standing.tries);
                kept.keep(tx, standing).await?;
                let more = json!({ "connection": name, "fence": fence, "generation": generation, "try": tries });
                tx.record(By::Server, asked, "connection.refresh", "server", record::fields(more)).await?;
                let noted = platform::note(tx, asked, "server", call).await?;
                let of = Of { was: kept, fence, asked };
                Ok::<_, Fault>((Some(Ticket { of, noted }), None))
            })
        })
        .await?;
    if let Some(ended) = over {
        leases::withdraw_value(app, &ended);
        tell(app).await;
    }
    Ok(ticket)
}

/// Closes a connection until somebody signs in again. Gives what ended with it.
async fn lapse(
    tx: &mut Tx,
    kept: &mut Kept,
    standing: Standing,
    (why, at): (Lapse, Moment),
) -> Result<leases::Ended, StoreError> {
    let ended = kept.close(tx, standing, ("server", at)).await?;
    let more = record::fields(json!({ "connection": kept.row.name, "why": why, "leases": ended.leases.len() }));
    tx.record(By::Server, at, "connection.lapsed", "server", more).await?;
    Ok(ended)
}

/// Keeps what came of a refresh, if the lock is still ours. It is tried until it is kept: with a provider that changes its
/// tokens, nobody else has the new ones.
async fn finish(app: &App, of: &Arc<Of>, word: &CallWord) {
    let said = Arc::new(wire::said(word));
    let mut late = None;
    let name = &of.was.row.name;
    match until_kept(&format!("what came of a refresh of {name}"), || keep_answer(app, of, &said)).await {
        Ok((ended, noted)) => {
            leases::withdraw_value(app, &ended);
            late = noted;
        }
        Err(fault) => late::given_up(app, name, said.tokens(), &fault).await,
    }
    tell(app).await;
    // What came too late to be kept is ended at once.
    let name = late.unwrap_or_else(|| name.clone());
    match app.store.connection(&name).await.map(|row| row.map(Kept::of)) {
        Ok(Some(Ok(kept))) => ending::go_on(app, &kept),
        Ok(None) => {}
        Ok(Some(Err(e))) | Err(e) => tracing::warn!("the connection {name} could not be looked at: {e}"),
    }
}

/// Gives what ended with a connection which this answer closes, and the row at which tokens of it stand that are
/// of a connection that is no more.
async fn keep_answer(app: &App, of: &Arc<Of>, said: &Arc<Said>) -> Result<(leases::Ended, Option<String>), Fault> {
    let (ours, of, said, at) = (app.clone(), of.clone(), said.clone(), now());
    app.store
        .write(move |tx| {
            Box::pin(async move {
                let Of { was, fence, asked } = &*of;
                let (name, fence, asked) = (&was.row.name, *fence, *asked);
                let row = tx.connection(name).await?.filter(|row| row.set_at == was.row.set_at);
                // Set anew or removed: what came is of a connection that is no more.
                let Some(row) = row else {
                    let noted = match &*said {
                        Said::Tokens(tokens) => late::note(tx, &ours, was, &tokens.unkept(), at).await?,
                        Said::Unusable(tokens) => late::note(tx, &ours, was, tokens, at).await?,
                        _ => None,
                    };
                    return Ok((leases::Ended::default(), noted));
                };
                let mut kept = Kept::of(row)?;
                let refreshable = kept.standing.token.is_some_and(|token| token.refreshable);
                let (outcome, came, why) = match &*said {
                    Said::Tokens(tokens) => {
                        let refreshable = refreshable || tokens.refresh.is_some();
                        (Outcome::Tokens { asked, lives: tokens.lives, refreshable }, "tokens", "")
                    }
                    Said::Untouched(why) => (Outcome::Untouched, "untouched", why.as_str()),
                    Said::Refused(why) => (Outcome::Refused, "refused", why.as_str()),
                    Said::Pending { .. } => {
                        (Outcome::Refused, "refused", "The provider says that somebody has yet to decide.")
                    }
                    // Others of its family may be good still: they are tried once, as after an answer that was lost.
                    Said::Unusable(_) => (Outcome::Unknown, "unknown", wire::UNUSABLE),
                    Said::Unknown(why) => (Outcome::Unknown, "unknown", why.as_str()),
                };
                let standing = kept.standing.answered(fence, outcome, at);
                let life = standing.as_ref().map(|standing| standing.life);
                let more = json!({
                    "connection": name, "fence": fence, "came": came, "why": why,
                    "kept": standing.is_some(), "generation": standing.as_ref().map(|s| s.generation),
                });
                // Nobody uses them, and they are of the family of those that may be good still.
                if let (Said::Unusable(tokens), true) = (&*said, standing.is_some()) {
                    kept.note_ending(&ours, fence, tokens, When::SignedOut)?;
                }
                // A lock that was lost: another one decides, by what is written down.
                let Some(standing) = standing else {
                    tx.record(By::Server, at, "connection.answered", "server", record::fields(more)).await?;
                    over(tx, &ours, kept, &said, fence).await?;
                    return Ok((leases::Ended::default(), None));
                };
                tx.record(By::Server, at, "connection.answered", "server", record::fields(more)).await?;
                match (&*said, life) {
                    (Said::Tokens(tokens), _) => kept.keep_tokens(tx, &ours, tokens, standing, ("server", at)).await?,
                    (_, Some(Life::Lapsed(why))) => {
                        return Ok((lapse(tx, &mut kept, standing, (why, at)).await?, None));
                    }
                    _ => kept.keep(tx, standing).await?,
                }
                Ok::<_, Fault>((leases::Ended::default(), None))
            })
        })
        .await
}

/// An answer that came when its lock was lost: it is waited for no more, and its tokens, which nobody has, are to be ended at
/// the provider. While somebody is signed in that waits: they may be of the very family that is used.
async fn over(tx: &mut Tx, app: &App, mut kept: Kept, said: &Said, fence: u64) -> Result<(), Fault> {
    let mut standing = kept.standing.clone();
    kept.ending.came(fence);
    match said {
        Said::Tokens(tokens) => standing = kept.late(app, fence, &tokens.unkept())?,
        Said::Unusable(tokens) => standing = kept.late(app, fence, tokens)?,
        _ => {}
    }
    Ok(kept.keep(tx, standing).await?)
}

/// Tells whoever waits, once what there is to be scrubbed is known.
pub(super) async fn tell(app: &App) {
    if let Err(fault) = app.renew_scrubber().await {
        tracing::error!("the scrubber was not renewed: {}", fault.problem.message);
    }
    app.connections.changed.notify_waiters();
}

/// Keeps every connection fresh ahead of its end, and goes on with what was begun, for as long as the server lives.
pub async fn keep(app: &App) {
    let mut every = tokio::time::interval(ROUND);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        if let Err(fault) = round(app).await {
            tracing::warn!("the connections were not looked at: {}", fault.problem.message);
        }
    }
}

async fn round(app: &App) -> Result<(), Fault> {
    let rows = app.store.connections().await?;
    // Of those that are gone nothing is remembered.
    locked(&app.connections.seen).retain(|name, _| rows.iter().any(|row| row.name == *name));
    for row in rows {
        let name = row.name.clone();
        // One that cannot be looked at holds up no other, nor what is to be ended of itself.
        let failed =
            |fault: Fault| tracing::error!("the connection {name} was not looked at: {}", fault.problem.message);
        let Ok(kept) = Kept::of(row).map_err(|e| failed(e.into())) else { continue };
        if kept.standing.life == Life::Live
            && let Err(fault) = look(app, &name).await
        {
            failed(fault);
        }
        ending::go_on(app, &kept);
    }
    Ok(())
}
