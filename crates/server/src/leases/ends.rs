//! How leases end: by their use, their time, a person, their run's end, or a crash; each end is kept and recorded, and who
//! uses the lease is ended by the gateway.

use crate::app::App;
use crate::fault::Fault;
use crate::{mint, now, record};
use api::leases::LeaseEnd;
use model::event::Exit;
use model::run::RunKind;
use model::{Event, LeaseId, Moment, RunId};
use serde_json::json;
use store::chain::By;
use store::leases::LeaseRow;
use store::{StoreError, Tx};
use vault::lease::{Effect, Happening, State};

/// Lets something happen to a lease that was read in this act; says what follows once it is kept. `by` is what ended it, if that did.
pub(super) fn change(lease: &mut LeaseRow, happening: Happening, at: Moment, by: &str) -> Effect {
    let Some(before) = State::of(&lease.state, lease.expires) else { return Effect::Nothing };
    let (after, effect) = before.after(happening, at);
    if after != before {
        lease.state = after.word().to_owned();
        if !after.is_open() {
            lease.ended = Some(at);
            lease.ended_by = if after == State::Expired { "time".to_owned() } else { by.to_owned() };
            // A handle that is over names nothing.
            lease.handle_sha256 = String::new();
        }
    }
    effect
}

/// As [`change`], kept and recorded if it ended the lease. Answers what follows, once the act is committed.
pub(super) async fn end_in(
    tx: &mut Tx,
    lease: &mut LeaseRow,
    happening: Happening,
    at: Moment,
    (by, who): (&str, &str),
) -> Result<Effect, StoreError> {
    let before = lease.state.clone();
    let effect = change(lease, happening, at, by);
    if lease.state != before {
        mint::ends::lease_over(tx, lease, at).await?;
        tx.keep_lease(lease);
        let more = record::fields(json!({
            "run": lease.run, "lease": lease.id, "capability": lease.capability, "state": lease.state,
            "was": before, "by": lease.ended_by,
        }));
        tx.record(By::Server, at, "lease.ended", who, more).await?;
    }
    Ok(effect)
}

/// Records how the use of a lease ended. One that is over stays as it ended.
///
/// # Errors
/// The store's.
pub async fn ended(app: &App, lease: &LeaseId, outcome: LeaseEnd) -> Result<(), Fault> {
    let (id, at) = (lease.clone(), now());
    let by = match outcome {
        LeaseEnd::Completed => "use",
        LeaseEnd::Failed => "use, which failed",
        LeaseEnd::Broken => "use, which broke off",
    };
    app.store
        .write(move |tx| {
            Box::pin(async move {
                match tx.lease(&id).await? {
                    // Nobody used it, and nobody will: what it was for ended before.
                    Some(mut lease) if lease.used.is_none() => {
                        end_in(tx, &mut lease, Happening::TakeBack, at, ("given up", "gateway")).await.map(drop)
                    }
                    Some(mut lease) => end_in(tx, &mut lease, Happening::End, at, (by, "gateway")).await.map(drop),
                    None => Ok(()),
                }
            })
        })
        .await
        .map_err(|e: StoreError| Fault::from(e))?;
    mint::ends::due(app);
    Ok(())
}

/// Ends every open lease but those in use at the gateway that has just connected: of the others nobody will say anything.
/// Gives those that it has in use and that are not open any more: nobody told it, while it was away.
///
/// # Errors
/// The store's.
pub async fn end_left(app: &App, in_use: &[LeaseId]) -> Result<Vec<LeaseId>, Fault> {
    let (in_use, at) = (in_use.to_vec(), now());
    app.store
        .write(move |tx| {
            Box::pin(async move {
                let open = tx.open_leases().await?;
                let is_open = |id: &LeaseId| open.iter().any(|lease| lease.id == *id);
                let over: Vec<LeaseId> = in_use.iter().filter(|id| !is_open(id)).cloned().collect();
                for mut lease in open.into_iter().filter(|lease| !in_use.contains(&lease.id)) {
                    end_in(tx, &mut lease, Happening::Crash, at, ("crash", "server")).await?;
                }
                Ok(over)
            })
        })
        .await
        .map_err(|e: StoreError| Fault::from(e))
}

/// Takes back every open lease of a run that ends in this act. The gateway ends their use when it hears of the run's end.
/// A person's command is its whole run: where that came to an end of its own, the use of its lease did, whoever says so first.
///
/// # Errors
/// The store's.
pub async fn run_over(tx: &mut Tx, run: &RunId, at: Moment, ended: &Event) -> Result<(), StoreError> {
    let by = match ended {
        Event::Ended { exit: Some(Exit::Code { code: 0 }), .. } => Some("use"),
        Event::Ended { exit: Some(Exit::Code { .. } | Exit::Signal { .. }), .. } => Some("use, which failed"),
        _ => None,
    };
    let is_command = by.is_some() && tx.run(run).await?.is_some_and(|row| row.kind == RunKind::Exec);
    for mut lease in tx.open_leases().await?.into_iter().filter(|lease| lease.run == *run) {
        if let Some(by) = by.filter(|_| is_command) {
            end_in(tx, &mut lease, Happening::End, at, (by, "server")).await?;
        }
        end_in(tx, &mut lease, Happening::TakeBack, at, ("run's end", "server")).await?;
    }
    Ok(())
}

/// Keeps as expired what is over by its time. Nothing hangs on it: a lease is dead at its deadline, whoever looks.
///
/// # Errors
/// The store's.
pub async fn sweep(app: &App) -> Result<(), Fault> {
    let at = now();
    let late = move |lease: &LeaseRow| lease.expires <= at;
    if !app.store.open_leases().await?.iter().any(late) {
        return Ok(());
    }
    let taken_back = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                let mut taken_back = Vec::new();
                for mut lease in tx.open_leases().await?.into_iter().filter(late) {
                    if end_in(tx, &mut lease, Happening::Time, at, ("time", "server")).await? == Effect::Withdraw {
                        taken_back.push(lease.id);
                    }
                }
                Ok(taken_back)
            })
        })
        .await
        .map_err(|e: StoreError| Fault::from(e))?;
    withdraw(app, &taken_back);
    Ok(())
}

/// Has the gateway end what is in use of these. One that is not connected is told when it is back, of those that it still
/// uses: [`end_left`].
pub(super) fn withdraw(app: &App, leases: &[LeaseId]) {
    mint::ends::due(app);
    if let Some(gateway) = app.gateway() {
        leases.iter().for_each(|lease| gateway.revoke(lease));
    }
}
