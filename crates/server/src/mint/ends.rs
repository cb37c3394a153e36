//! How minted values end: at their vendor where it can be asked to, else by themselves, which is said then.
//!
//! Whatever ended a lease has left its row as one to be ended ([`lease_over`]), in the act of that end. Here the vendor is
//! told, each time on record before it is; a kill in between leaves a row that is due again.
//!
//! Read [`lease_over`], then [`keep`].

use super::value::{End, Kept, Minted};
use super::{Minting, State, github, open, said, set, state};
use crate::app::App;
use crate::fault::Fault;
use crate::{now, platform};
use api::platform::{CallWord, PlatformCall};
use futures_util::StreamExt as _;
use model::{LeaseId, Moment};
use serde_json::json;
use std::time::Duration;
use store::leases::LeaseRow;
use store::{StoreError, Tx};
use vault::mint::{Effect, KNOWN_MS, again};

/// How often it is looked for what is due, if nobody says so.
const ROUND: Duration = Duration::from_secs(2);
/// How often it is looked for what is known no longer.
const FORGET: Duration = Duration::from_secs(60);
/// Vendors that are told at the same time.
const AT_ONCE: usize = 8;

/// The value of a lease that ends in this act is to be ended too, or it is said that it ends by itself. The row is the
/// caller's to keep.
///
/// # Errors
/// The store's.
pub async fn lease_over(tx: &mut Tx, lease: &mut LeaseRow, at: Moment) -> Result<(), StoreError> {
    let revocable = lease.mint.next != Moment(0);
    let (after, effect) = state(&lease.mint).after(Minting::Over { revocable });
    match effect {
        Effect::Revoke => (lease.mint.next, _) = (at, set(&mut lease.mint, after)),
        Effect::Say => {
            set(&mut lease.mint, after);
            left(tx, lease, at).await?;
        }
        _ => {}
    }
    Ok(())
}

/// Says that a value ends by itself, and when.
pub(super) async fn left(tx: &mut Tx, lease: &LeaseRow, at: Moment) -> Result<(), StoreError> {
    said(tx, "mint.left", lease, at, "server", json!({ "until": lease.mint.until })).await
}

/// Something may be due.
pub fn due(app: &App) {
    app.mints.due.notify_one();
}

/// Ends what is to be ended, and forgets what is over, for as long as the server lives.
pub async fn keep(app: &App) {
    let mut every = tokio::time::interval(ROUND);
    let mut forget = tokio::time::interval(FORGET);
    loop {
        let done = tokio::select! {
            _ = every.tick() => round(app).await,
            () = app.mints.due.notified() => round(app).await,
            _ = forget.tick() => forgotten(app).await,
        };
        if let Err(fault) = done {
            tracing::warn!("what was minted was not looked at: {}", fault.problem.message);
        }
    }
}

async fn round(app: &App) -> Result<(), Fault> {
    let due = app.store.mints_due(now()).await?;
    futures_util::stream::iter(due)
        .for_each_concurrent(AT_ONCE, |lease| async move {
            if let Err(fault) = one(app, &lease).await {
                tracing::warn!(
                    "what was minted for the lease {} is not ended yet: {}",
                    lease.id,
                    fault.problem.message
                );
            }
        })
        .await;
    Ok(())
}

async fn one(app: &App, lease: &LeaseRow) -> Result<(), Fault> {
    if state(&lease.mint) == State::Asked {
        return lost(app, &lease.id).await;
    }
    // Nobody to send it: that counts as no try, until the value is over.
    if app.gateway().is_none() && now() < lease.mint.until {
        return Ok(());
    }
    let Some(noted) = tell(app, &lease.id).await? else { return Ok(()) };
    let word = platform::send(app, noted).await;
    // What it does not know, or no longer takes, it has ended.
    if matches!(word, CallWord::Answered { status: 200..=299 | 401 | 404 | 410, .. }) {
        told(app, &lease.id).await?;
    }
    Ok(())
}

/// A vendor was asked, and whoever asked it is gone: something may have been made.
async fn lost(app: &App, lease: &LeaseId) -> Result<(), Fault> {
    let (id, at) = (lease.clone(), now());
    let act = app.store.write(move |tx| {
        Box::pin(async move {
            let Some(mut lease) = tx.lease(&id).await? else { return Ok(()) };
            let (after, effect) = state(&lease.mint).after(Minting::Lost);
            if effect == Effect::Say && lease.mint.next <= at {
                set(&mut lease.mint, after);
                lease.mint.next = Moment(0);
                tx.keep_lease(&lease);
                let more = json!({
                    "until": lease.mint.until,
                    "why": "The answer was lost: the vendor may have made a value, which nobody has; it ends by itself.",
                });
                said(tx, "mint.unknown", &lease, at, "server", more).await?;
            }
            Ok(())
        })
    });
    act.await.map_err(|e: StoreError| Fault::from(e))
}

/// Puts on record that the vendor is asked to end a value; none when it is over, or was asked often enough.
async fn tell(app: &App, lease: &LeaseId) -> Result<Option<platform::Noted>, Fault> {
    let (ours, id, at) = (app.clone(), lease.clone(), now());
    let act = app.store.write(move |tx| {
        Box::pin(async move {
            let Some(mut lease) = tx.lease(&id).await? else { return Ok(None) };
            if lease.mint.next > at {
                return Ok(None);
            }
            let happening = if lease.mint.until <= at { Minting::Time } else { Minting::Tell };
            let (after, effect) = state(&lease.mint).after(happening);
            if effect == Effect::Nothing {
                return Ok(None);
            }
            set(&mut lease.mint, after);
            lease.mint.next = again(at, lease.mint.tries);
            tx.keep_lease(&lease);
            if effect == Effect::Say {
                said(
                    tx,
                    "mint.left",
                    &lease,
                    at,
                    "server",
                    json!({ "until": lease.mint.until, "why": "It could not be revoked." }),
                )
                .await?;
                return Ok(None);
            }
            let kept = open(&ours, &lease)?;
            let Some(call) = end(&kept, &lease.secret)? else { return Ok(None) };
            said(tx, "mint.ending", &lease, at, "server", json!({ "try": lease.mint.tries })).await?;
            Ok::<_, Fault>(Some(platform::note(tx, at, "server", call).await?))
        })
    });
    act.await
}

fn end(kept: &Kept, secret: &str) -> Result<Option<PlatformCall>, Fault> {
    let (Some(End { base, internal }), Minted::Token(token)) = (&kept.end, &kept.value) else { return Ok(None) };
    github::end(base, *internal, &token.0, secret).map(Some).map_err(|why| Fault::ours("end a token", &why))
}

/// The vendor has ended it.
async fn told(app: &App, lease: &LeaseId) -> Result<(), Fault> {
    let (id, at) = (lease.clone(), now());
    let act = app.store.write(move |tx| {
        Box::pin(async move {
            let Some(mut lease) = tx.lease(&id).await? else { return Ok(()) };
            let (after, _) = state(&lease.mint).after(Minting::Told);
            if after == State::Revoked {
                set(&mut lease.mint, after);
                (lease.mint.until, lease.mint.next) = (lease.mint.until.min(at), Moment(0));
                tx.keep_lease(&lease);
                said(tx, "mint.revoked", &lease, at, "server", json!({})).await?;
            }
            Ok(())
        })
    });
    act.await.map_err(|e: StoreError| Fault::from(e))
}

/// Forgets the values whose end is longer ago than they are looked for.
async fn forgotten(app: &App) -> Result<(), Fault> {
    let since = now().plus_ms(-KNOWN_MS);
    let over = app.store.minted(since, true).await?;
    if over.is_empty() {
        return Ok(());
    }
    let act = app.store.write(move |tx| {
        Box::pin(async move {
            for lease in over {
                let Some(mut lease) = tx.lease(&lease.id).await? else { continue };
                let (after, _) = state(&lease.mint).after(Minting::Forget);
                if after == State::Gone {
                    set(&mut lease.mint, after);
                    (lease.minted, lease.mint.next) = (Vec::new(), Moment(0));
                    tx.keep_lease(&lease);
                }
            }
            Ok(())
        })
    });
    act.await.map_err(|e: StoreError| Fault::from(e))?;
    app.renew_scrubber().await
}
