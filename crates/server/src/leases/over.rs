//! What ends a lease: its use, a person, its run's end, the end of its secret's value, time, a crash.
//!
//! Each is one act with its record, and with what becomes of a value that a vendor minted for it; whoever uses it is ended
//! by the gateway once the act is kept.
//!
//! Read [`end_in`], then [`ended`], [`revoke`], [`run_over`], [`stands_still`], [`value_over`],
//! [`end_left`], [`sweep`].

use super::{change, push, view};
use crate::app::App;
use crate::fault::Fault;
use crate::guard::Caller;
use crate::{gateway, mint, now, record};
use api::grants::StoredValue;
use api::leases::{LeaseEnd, LeaseRevoked};
use model::event::Exit;
use model::run::RunKind;
use model::{Event, LeaseId, Moment, RunId};
use serde_json::json;
use store::chain::By;
use store::leases::LeaseRow;
use store::runs::RunRow;
use store::secrets::SecretRow;
use store::{StoreError, Tx};
use vault::lease::{Effect, Happening, State};
use vault::mint::State as Minted;

/// What stands as the end of a lease whose secret's value is gone.
pub const VALUE_GONE: &str = "secret's end";

/// As [`change`], kept and recorded if it ended the lease. Answers what follows, once the act is committed.
pub(super) async fn end_in(
    tx: &mut Tx,
    lease: &mut LeaseRow,
    happening: Happening,
    at: Moment,
    (by, who): (&str, &str),
) -> Result<Effect, StoreError> {
    // A push's end ends its token's lease with it: the caller's copy of that may be from before, in this very act.
    if push::is_token(lease)
        && let Some(kept) = tx.lease(&lease.id).await?
    {
        *lease = kept;
    }
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
        push::token_over(tx, lease, at, who).await?;
    }
    Ok(effect)
}

/// Records how the use of a lease ended. One that is over stays as it ended; what broke off when its time was over was ended by
/// that, and the gateway's word of it may come before [`sweep`].
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
                    Some(mut lease) if outcome == LeaseEnd::Broken && at >= lease.expires => {
                        end_in(tx, &mut lease, Happening::Time, at, ("time", "gateway")).await.map(drop)
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

/// Takes a lease back, on a person's word. Who uses it is ended by the gateway, which is told at once; that is waited for as
/// by [`withdraw_and_wait`], where the gateway says it.
///
/// # Errors
/// 404, 409 for one that is over, the store's.
pub async fn revoke(app: &App, caller: &Caller, lease: &LeaseId) -> Result<LeaseRevoked, Fault> {
    let (id, at, who) = (lease.clone(), now(), caller.person.to_string());
    let row = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                let Some(mut lease) = tx.lease(&id).await? else {
                    let message = format!("There is no lease {id}; `volary lease list --all` lists the last ones.");
                    return Err(Fault::missing("lease.unknown", message));
                };
                let before = lease.state.clone();
                end_in(tx, &mut lease, Happening::TakeBack, at, (&who, &who)).await?;
                if lease.state == before {
                    let message = format!("The lease {id} is over already: {before}.");
                    return Err(Fault::conflict("lease.over", message));
                }
                Ok(lease)
            })
        })
        .await?;
    let this = std::slice::from_ref(&row.id);
    // What is still asked of a vendor was given to nobody.
    let is_given = row.used.is_some() && row.mint.state != Minted::Asked.word();
    let use_ended = if (is_given || push::is_push(&row)) && !mint::is_own(&row) {
        withdraw_and_wait(app, this).await
    } else {
        withdraw(app, this);
        !is_given
    };
    Ok(LeaseRevoked { lease: view(row), use_ended })
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

/// Takes back the leases of a run whose values commands of its box have, in the act in which it is to stand still, and gives
/// them: what is frozen cannot be ended, and would go on with its value when it is thawed.
///
/// # Errors
/// 409 where such a command is all there is of the run: it would end by it. The store's.
pub async fn stands_still(tx: &mut Tx, row: &RunRow, at: Moment, person: &str) -> Result<Vec<LeaseId>, Fault> {
    // The lease of a person's command is asked for before there is a box, and nobody would ask for another.
    let in_use = |lease: &LeaseRow| lease.used.is_some() || row.kind == RunKind::Exec;
    let has_value = |lease: &LeaseRow| in_use(lease) && lease.delivery.ends_in_the_box();
    let mut all = Vec::new();
    for mut lease in tx.open_leases().await?.into_iter().filter(|lease| lease.run == row.run && has_value(lease)) {
        if row.kind == RunKind::Exec {
            let message = format!(
                "The command of {} has a key, or is to have it, by the lease {}, and so does not stand still: let it end, or cancel it.",
                row.run, lease.id
            );
            return Err(Fault::conflict("run.has-key", message));
        }
        end_in(tx, &mut lease, Happening::TakeBack, at, ("pause", person)).await?;
        all.push(lease.id);
    }
    Ok(all)
}

/// What ended with a value.
#[derive(Debug, Default)]
pub struct Ended {
    /// The leases that were open on it: to be withdrawn once the act is kept.
    pub leases: Vec<LeaseId>,
    /// Values that a vendor minted for them, and that it is asked to end now.
    pub revoking: u32,
    /// The value: whatever the gateway has under way by it is to end, once the act is kept.
    pub value: Option<StoredValue>,
}

/// Which value this is.
pub fn value_of(row: &SecretRow) -> StoredValue {
    StoredValue { secret: row.name.clone(), person: row.person.clone(), version: row.version }
}

/// Takes back, in the act in which a value goes away and before it does, every open lease that carries it or would: the
/// workspace's value of this name, or with a person that person's own.
///
/// # Errors
/// The store's.
pub async fn value_over(tx: &mut Tx, (name, person): (&str, &str), who: &str, at: Moment) -> Result<Ended, StoreError> {
    let value = tx.secret_of(name, person).await?.as_ref().map(value_of);
    let mut all = Ended { value, ..Ended::default() };
    for mut lease in tx.open_leases().await?.into_iter().filter(|lease| lease.secret == name) {
        let Some(run) = tx.run(&lease.run).await? else { continue };
        if !person.is_empty() && person != run.person {
            continue;
        }
        // One in use carries what was chosen when that began; one that is not would carry what is chosen now.
        let is_other = match tx.secret_for(name, &run.person).await? {
            Ok(chosen) => {
                chosen.is_some_and(|row| row.person != person && lease.used.is_none_or(|used| row.set_at <= used))
            }
            // Which of the two one in use has is not known any more.
            Err(_) => false,
        };
        if is_other {
            continue;
        }
        end_in(tx, &mut lease, Happening::TakeBack, at, (VALUE_GONE, who)).await?;
        if lease.state == State::Revoked.word() {
            all.revoking += u32::from(lease.mint.state == Minted::Ending(0).word());
            all.leases.push(lease.id);
        }
    }
    Ok(all)
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
                let mut over = Vec::new();
                for id in in_use.iter().filter(|id| !is_open(id)) {
                    // As in [`sweep`]: what was begun by such a one goes on when only its time is over.
                    let may_go_on = |row: LeaseRow| row.state == State::Expired.word() && mint::is_own(&row);
                    if !tx.lease(id).await?.is_some_and(may_go_on) {
                        over.push(id.clone());
                    }
                }
                for mut lease in open.into_iter().filter(|lease| !in_use.contains(&lease.id)) {
                    end_in(tx, &mut lease, Happening::Crash, at, ("crash", "server")).await?;
                }
                Ok(over)
            })
        })
        .await
        .map_err(|e: StoreError| Fault::from(e))
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
                    let effect = end_in(tx, &mut lease, Happening::Time, at, ("time", "server")).await?;
                    // What a request or a fetch has begun with a value of the platform's own lease goes on within its own bounds.
                    if effect == Effect::Withdraw && !mint::is_own(&lease) {
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

/// As [`withdraw`], and waits until nothing uses them any more, for some seconds at most: of a gateway that is away, until it
/// is back. Whether it was said that nothing does.
pub async fn withdraw_and_wait(app: &App, leases: &[LeaseId]) -> bool {
    mint::ends::due(app);
    let waited = async {
        loop {
            if let Some(gateway) = app.gateway() {
                return gateway.revoke_and_wait(leases).await;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let said = tokio::time::timeout(gateway::ENDS, waited).await == Ok(true);
    if !said {
        tracing::warn!("nobody said in time that what uses a lease has ended");
    }
    said
}

/// As [`withdraw`], of all that ended with a value: what goes on by the value itself is ended too.
pub fn withdraw_value(app: &App, ended: &Ended) {
    withdraw(app, &ended.leases);
    if let (Some(gateway), Some(value)) = (app.gateway(), &ended.value) {
        gateway.end_value(value);
    }
}

/// Of the values by which the gateway that has just connected has requests under way, those that are kept no more: nobody told
/// it, while it was away. One that was set anew meanwhile is not told from one that was replaced.
///
/// # Errors
/// The store's.
pub async fn values_left(app: &App, in_use: Vec<StoredValue>) -> Result<Vec<StoredValue>, Fault> {
    app.store
        .write(move |tx| {
            Box::pin(async move {
                let mut over = Vec::new();
                for value in in_use {
                    if tx.secret_of(&value.secret, &value.person).await?.is_none() {
                        over.push(value);
                    }
                }
                Ok::<_, StoreError>(over)
            })
        })
        .await
        .map_err(Fault::from)
}

/// Has the gateway end what is in use of these. One that is not connected is told when it is back, of those that it still
/// uses: [`end_left`].
pub fn withdraw(app: &App, leases: &[LeaseId]) {
    mint::ends::due(app);
    if let Some(gateway) = app.gateway() {
        leases.iter().for_each(|lease| gateway.revoke(lease));
    }
}
