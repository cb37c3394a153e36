//! Keeping access tokens fresh.
//!
//! A refresh is three acts: the lock, the journal and the call's record are kept; the gateway makes the call; what came of
//! it is kept, if the lock is still ours. Whatever is lost between two of them, the next one who looks decides by what is
//! written down ([`vault::refresh::Standing::next`]).
//!
//! Read [`ready`], [`look`], [`finish`], then [`keep`].

use super::wire::{self, Said};
use super::{Kept, closed, ending, locked, unknown_here};
use crate::app::App;
use crate::fault::Fault;
use crate::platform::{self, Noted};
use crate::{leases, now, record};
use api::platform::{CallWord, Purpose, boot_ms};
use model::{LeaseId, Moment};
use policy::Refusal;
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::chain::By;
use store::{StoreError, Tx};
use vault::refresh::{Act, CALL_SECS, Lapse, Life, Outcome, SEND_MS, Standing};

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

/// Of what a refresh is.
struct Of {
    name: String,
    /// The connection is still the one that it was begun for.
    set_at: Moment,
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
            let Ticket { of, noted } = ticket;
            let word = platform::send(&app, noted).await;
            finish(&app, of, &word).await;
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
                let of = Of { name, set_at: kept.row.set_at, fence, asked };
                Ok::<_, Fault>((Some(Ticket { of, noted }), None))
            })
        })
        .await?;
    if let Some(leases) = over {
        leases::withdraw(app, &leases);
        tell(app).await;
    }
    Ok(ticket)
}

/// Closes a connection until somebody signs in again. Gives the leases that ended with it.
async fn lapse(
    tx: &mut Tx,
    kept: &mut Kept,
    standing: Standing,
    (why, at): (Lapse, Moment),
) -> Result<Vec<LeaseId>, StoreError> {
    let leases = kept.close(tx, standing, ("server", at)).await?;
    let more = record::fields(json!({ "connection": kept.row.name, "why": why, "leases": leases.len() }));
    tx.record(By::Server, at, "connection.lapsed", "server", more).await?;
    Ok(leases)
}

/// Keeps what came of a refresh, if the lock is still ours. That it cannot be kept is tried a few times: with a provider
/// that changes its tokens, nobody else has the new ones.
async fn finish(app: &App, of: Of, word: &CallWord) {
    let (of, said) = (Arc::new(of), Arc::new(wire::said(word)));
    for n in 1..=KEEPS {
        match keep_answer(app, &of, &said).await {
            Ok(leases) => {
                leases::withdraw(app, &leases);
                break;
            }
            Err(fault) if n == KEEPS => {
                tracing::error!("what came of a refresh of {} is lost: {}", of.name, fault.problem.message);
            }
            Err(_) => pause(n).await,
        }
    }
    tell(app).await;
    // What came too late to be kept is ended at once.
    match app.store.connection(&of.name).await.map(|row| row.map(Kept::of)) {
        Ok(Some(Ok(kept))) => ending::go_on(app, &kept),
        Ok(None) => {}
        Ok(Some(Err(e))) | Err(e) => tracing::warn!("the connection {} could not be looked at: {e}", of.name),
    }
}

/// The wait after the `n`th time that something could not be kept.
pub(super) async fn pause(n: u32) {
    tokio::time::sleep(Duration::from_millis(20 * u64::from(n))).await;
}

/// Gives the leases that ended with a connection which this answer closes.
async fn keep_answer(app: &App, of: &Arc<Of>, said: &Arc<Said>) -> Result<Vec<LeaseId>, Fault> {
    let (ours, of, said, at) = (app.clone(), of.clone(), said.clone(), now());
    app.store
        .write(move |tx| {
            Box::pin(async move {
                let Of { name, set_at, fence, asked } = &*of;
                let (fence, asked) = (*fence, *asked);
                let row = tx.connection(name).await?.filter(|row| row.set_at == *set_at);
                // Set anew or removed: whose tokens these are, nobody knows here any more.
                let Some(row) = row else { return Ok(Vec::new()) };
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
                    tx.record(By::Server, at, "connection.answered", "server", record::fields(more)).await?;
                    over(tx, &ours, kept, &said, fence).await?;
                    return Ok(Vec::new());
                };
                tx.record(By::Server, at, "connection.answered", "server", record::fields(more)).await?;
                match (&*said, life) {
                    (Said::Tokens(tokens), _) => kept.keep_tokens(tx, &ours, tokens, standing, ("server", at)).await?,
                    (_, Some(Life::Lapsed(why))) => return Ok(lapse(tx, &mut kept, standing, (why, at)).await?),
                    _ => kept.keep(tx, standing).await?,
                }
                Ok::<_, Fault>(Vec::new())
            })
        })
        .await
}

/// An answer that came when its lock was lost. Tokens of a sign-in that is over, or of a connection that is closed, are
/// ended at the provider: here nobody has them. Those of a live one are of its own family, and ending them could end all of it.
async fn over(tx: &mut Tx, app: &App, mut kept: Kept, said: &Said, fence: u64) -> Result<(), Fault> {
    let mut standing = kept.standing.clone();
    if fence >= kept.since && standing.life == Life::Live {
        return Ok(());
    }
    kept.ending.waits = false;
    if let Said::Tokens(tokens) = said {
        standing = kept.late(app, fence, tokens)?;
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
        let kept = Kept::of(row)?;
        let name = kept.row.name.clone();
        match kept.standing.life {
            Life::Live => drop(look(app, &name).await?),
            Life::New | Life::Lapsed(_) | Life::Revoking | Life::Revoked => {}
        }
        ending::go_on(app, &kept);
    }
    Ok(())
}
