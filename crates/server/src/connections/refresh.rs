//! Keeping access tokens fresh.
//!
//! A refresh is three acts: the lock, the journal and the call's record are kept; the gateway makes the call; what came of
//! it is kept, if the lock is still ours. Whatever is lost between two of them, the next one who looks decides by what is
//! written down ([`vault::refresh::Standing::next`]).
//!
//! Read [`ready`], [`look`], [`finish`], then [`keep`].

use super::wire::{self, Said};
use super::{Kept, closed, locked, unknown_here};
use crate::app::App;
use crate::fault::Fault;
use crate::platform::{self, Noted};
use crate::{now, record};
use api::platform::{CallWord, Purpose, boot_ms};
use model::Moment;
use policy::Refusal;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::chain::By;
use vault::refresh::{Act, CALL_SECS, Lapse, Life, Outcome, SEND_MS};

/// How long one who needs a token waits for it at most.
const PATIENCE: Duration = Duration::from_secs(25);

/// How often one who waits looks again, should nobody tell: another server may be the one that refreshes.
const AGAIN: Duration = Duration::from_millis(200);

/// How often all connections are looked at.
const ROUND: Duration = Duration::from_secs(5);

/// How often keeping an answer is tried.
pub(super) const KEEPS: u32 = 8;

/// What one look has led to.
enum Looked {
    /// The access token may be given out.
    Usable,
    /// It may not, and nothing but a person changes that.
    Closed(Refusal),
    /// It may not yet.
    Later,
}

/// A refresh under way.
struct Ticket {
    name: String,
    fence: u64,
    asked: Moment,
    noted: Noted,
}

/// Returns once a connection's access token may be given out; a refresh that this takes is made once, whoever waits.
///
/// # Errors
/// A refusal, for one that is closed, or does not become fresh in time.
pub async fn ready(app: &App, name: &str) -> Result<(), Refusal> {
    let end = Instant::now() + PATIENCE;
    let mut seat = None;
    loop {
        let changed = app.connections.changed.notified();
        match look(app, name).await {
            Ok(Looked::Usable) => return Ok(()),
            Ok(Looked::Closed(no)) => return Err(no),
            Ok(Looked::Later) => {}
            // Another server was faster with its record; what it did is seen at the next look.
            Err(fault) => tracing::warn!("the connection {name} could not be looked at: {}", fault.problem.message),
        }
        if seat.is_none() {
            let Ok(taken) = app.connections.waiting.0.try_acquire() else {
                return Err(Refusal::new("connection.stale", "Too many wait for this connection's token; try again."));
            };
            seat = Some(taken);
        }
        if Instant::now() >= end {
            let why = format!("The access token of the connection {name:?} is over, and no new one has come yet.");
            return Err(Refusal::new("connection.stale", why));
        }
        // That it took so long is no error: it looks again either way.
        drop(tokio::time::timeout(AGAIN, changed).await);
    }
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
            let Ticket { name, fence, asked, noted } = ticket;
            let word = platform::send(&app, noted).await;
            finish(&app, &name, fence, asked, &word).await;
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
    let (ticket, lapsed) = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                let Some(row) = tx.connection(&name).await? else { return Ok((None, false)) };
                let mut kept = Kept::of(row)?;
                let seen = ours.connections.seen_ms(&name, kept.standing.fence);
                match kept.standing.next(asked, seen).act {
                    Act::Send => {}
                    Act::Lapse(why) => {
                        let standing = kept.standing.lapse(why);
                        kept.close(tx, standing).await?;
                        let more = record::fields(json!({ "connection": name, "why": why }));
                        tx.record(By::Server, asked, "connection.lapsed", "server", more).await?;
                        return Ok((None, true));
                    }
                    Act::Rest | Act::Wait => return Ok((None, false)),
                }
                let standing = kept.standing.take();
                let Some(token) = kept.refresh_token(&ours)? else {
                    let standing = kept.standing.lapse(Lapse::Expired);
                    kept.close(tx, standing).await?;
                    return Ok((None, true));
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
                Ok::<_, Fault>((Some(Ticket { name, fence, asked, noted }), false))
            })
        })
        .await?;
    if lapsed {
        tell(app).await;
    }
    Ok(ticket)
}

/// Keeps what came of a refresh, if the lock is still ours. That it cannot be kept is tried a few times: with a provider
/// that changes its tokens, nobody else has the new ones.
async fn finish(app: &App, name: &str, fence: u64, asked: Moment, word: &CallWord) {
    let said = Arc::new(wire::said(word));
    for n in 1..=KEEPS {
        match keep_answer(app, name, fence, asked, &said).await {
            Ok(()) => break,
            Err(fault) if n == KEEPS => {
                tracing::error!("what came of a refresh of {name} is lost: {}", fault.problem.message);
            }
            Err(_) => pause(n).await,
        }
    }
    tell(app).await;
}

/// The wait after the `n`th time that something could not be kept.
pub(super) async fn pause(n: u32) {
    tokio::time::sleep(Duration::from_millis(20 * u64::from(n))).await;
}

async fn keep_answer(app: &App, name: &str, fence: u64, asked: Moment, said: &Arc<Said>) -> Result<(), Fault> {
    let (ours, name, said, at) = (app.clone(), name.to_owned(), said.clone(), now());
    app.store
        .write(move |tx| {
            Box::pin(async move {
                let Some(row) = tx.connection(&name).await? else { return Ok(()) };
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
                    Said::Unknown(why) => (Outcome::Unknown, "unknown", why.as_str()),
                };
                let standing = kept.standing.answered(fence, outcome, at);
                let life = standing.as_ref().map(|standing| standing.life);
                let more = json!({
                    "connection": name, "fence": fence, "came": came, "why": why,
                    "kept": standing.is_some(), "generation": standing.as_ref().map(|s| s.generation),
                });
                // A lock that was lost: another one decides, by what is written down.
                let Some(standing) = standing else {
                    return Ok(tx
                        .record(By::Server, at, "connection.answered", "server", record::fields(more))
                        .await?);
                };
                match (&*said, life) {
                    (Said::Tokens(tokens), _) => kept.keep_tokens(tx, &ours, tokens, standing, ("server", at)).await?,
                    (_, Some(Life::Lapsed(_))) => kept.close(tx, standing).await?,
                    _ => kept.keep(tx, standing).await?,
                }
                tx.record(By::Server, at, "connection.answered", "server", record::fields(more)).await?;
                if let Some(Life::Lapsed(why)) = life {
                    let more = record::fields(json!({ "connection": name, "why": why }));
                    tx.record(By::Server, at, "connection.lapsed", "server", more).await?;
                }
                Ok::<_, Fault>(())
            })
        })
        .await
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
        let kept = Kept::of(row)?;
        let name = kept.row.name.clone();
        match kept.standing.life {
            Life::Live => {
                look(app, &name).await?;
            }
            Life::Revoking => super::revoke::go_on(app, &name).await?,
            Life::New | Life::Lapsed(_) | Life::Revoked => {}
        }
    }
    Ok(())
}
