//! What came of requests to the outside that were granted: each by itself, or many that were made by one allowance.
//!
//! Read [`settle`], then [`reads`].

use super::TARGET_CHARS;
use crate::app::App;
use crate::fault::Fault;
use crate::{now, record};
use api::grants::{EgressOutcome, READS_TOLD};
use model::event::OneRead;
use model::{Event, GrantId, Moment, RunId};
use serde_json::json;
use store::chain::By;
use store::grants::GrantRow;
use store::runs::RunRow;
use store::{StoreError, Tx};

/// Records what came of a request. One that is settled already stays as it is.
///
/// # Errors
/// The store's.
pub async fn settle(app: &App, grant: &GrantId, outcome: EgressOutcome) -> Result<(), Fault> {
    let (id, at) = (grant.clone(), now());
    let told = app
        .store
        .write_soon(move |tx| {
            Box::pin(async move {
                let Some((mut grant, mut run)) = tx.grant(&id).await? else { return Ok(None) };
                // An allowance whose end is told so was not used.
                let outcome = EgressOutcome { interrupted: outcome.interrupted && grant.reads == 0, ..outcome };
                settle_in(tx, &mut grant, run.as_mut(), at, outcome).await
            })
        })
        .await
        .map_err(|e: StoreError| Fault::from(e))?;
    match told {
        Some((run, n)) => app.live.tell(&run, n),
        None => tracing::debug!("the gateway settled a passage that is not open: {grant}"),
    }
    Ok(())
}

/// What was made by an allowance and is over by now.
pub struct Told {
    /// The grant of the allowance.
    pub grant: GrantId,
    /// How many of it were told before.
    pub before: u32,
    /// They.
    pub reads: Vec<OneRead>,
    /// Nothing more is made by it.
    pub over: bool,
}

/// Records what was made by an allowance. What was told before is not recorded again.
///
/// # Errors
/// The store's.
pub async fn reads(app: &App, told: Told) -> Result<(), Fault> {
    let at = now();
    let Told { grant: id, before, mut reads, over } = told;
    let scrubber = app.scrubber();
    let mut last: Option<(String, String)> = None;
    for read in &mut reads {
        // Most are of the same place as the one before them.
        let clean = match last.take_if(|(target, _)| *target == read.target) {
            Some((_, clean)) => clean,
            None => scrubber.scrub_str(&read.target).chars().take(TARGET_CHARS).collect(),
        };
        last = Some((std::mem::replace(&mut read.target, clean.clone()), clean));
    }
    let told = app
        .store
        .write_soon(move |tx| {
            Box::pin(async move {
                let Some((mut grant, Some(mut run))) = tx.grant(&id).await? else { return Ok(None) };
                // Said again after a cut.
                let known = usize::try_from(grant.told.saturating_sub(before)).unwrap_or(usize::MAX).min(reads.len());
                let reads = reads.split_off(known);
                let room = usize::try_from(grant.reads.saturating_sub(grant.told)).unwrap_or(usize::MAX);
                if before > grant.told || reads.len() > room.min(READS_TOLD) {
                    return Err(StoreError::Corrupt {
                        what: "allowance",
                        why: format!("{} of {}", before, grant.reads),
                    });
                }
                tell(tx, &mut grant, &mut run, at, reads, over, 0).await
            })
        })
        .await
        .map_err(|e: StoreError| Fault::from(e))?;
    if let Some((run, n)) = told {
        app.live.tell(&run, n);
    }
    Ok(())
}

async fn tell(
    tx: &mut Tx,
    grant: &mut GrantRow,
    run: &mut RunRow,
    at: Moment,
    reads: Vec<OneRead>,
    over: bool,
    unheard: u32,
) -> Result<Option<(RunId, u64)>, StoreError> {
    let (before, more) = (grant.told, u32::try_from(reads.len()).unwrap_or(u32::MAX));
    if !tx.tell_reads(grant, at, more, over, unheard > 0)? {
        return Ok(None);
    }
    let mut fields = record::fields(json!({
        "run": grant.run, "grant": grant.id, "before": before, "over": over, "unheard": unheard,
    }));
    let corrupt = |e: serde_json::Error| StoreError::Corrupt { what: "reads", why: e.to_string() };
    fields.insert("reads".into(), serde_json::to_value(&reads).map_err(corrupt)?);
    let event = Event::Reads { grant: grant.id.to_string(), before, reads, over, unheard };
    let n = tx.append_to(run, at, &event)?.n;
    tx.record(By::Gateway, at, "egress.reads", &run.person, fields).await?;
    Ok(Some((grant.run.clone(), n)))
}

/// As [`settle`], inside an act. Of an allowance nothing more is told: what was `interrupted` may have been made by it.
///
/// # Errors
/// The store's.
pub async fn settle_in(
    tx: &mut Tx,
    grant: &mut GrantRow,
    run: Option<&mut RunRow>,
    at: Moment,
    outcome: EgressOutcome,
) -> Result<Option<(RunId, u64)>, StoreError> {
    let EgressOutcome { status, sent, received, interrupted, fault } = outcome;
    if grant.reads > 0 {
        let Some(run) = run else { return Ok(None) };
        let unheard = if interrupted { grant.reads.saturating_sub(grant.told) } else { 0 };
        return tell(tx, grant, run, at, Vec::new(), true, unheard).await;
    }
    if !tx.settle_passage(grant, at, status, interrupted)? {
        return Ok(None);
    }
    let run = run.ok_or_else(|| StoreError::Corrupt { what: "run", why: format!("no run {}", grant.run) })?;
    let event = Event::Passed { grant: grant.id.to_string(), status, sent, received, interrupted, fault };
    let n = tx.append_to(run, at, &event)?.n;
    let more = record::fields(json!({
        "run": grant.run, "grant": grant.id, "status": status, "sent": sent, "received": received,
        "interrupted": interrupted, "fault": fault,
    }));
    tx.record(By::Gateway, at, "egress.passed", &run.person, more).await?;
    Ok(Some((grant.run.clone(), n)))
}
