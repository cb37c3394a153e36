//! A run that a person pauses, and lets go on.
//!
//! What a person wants stands in the run's state: [`RunState::Paused`] from the word on. Its host has the box stand still
//! and says so in the run's transcript (`froze`); after a cut of the link it is told again, by [`crate::reconcile`]. A run
//! without a box gets none until it is resumed. A command that has a value by a lease is ended first: while it stands still
//! nothing could end it. That is waited for some seconds ([`leases::withdraw_and_wait`]), and not by a server that was
//! started anew meanwhile; what was not ended by then is when the box goes on. A handle is not renewed meanwhile: it is dead after ten minutes, and lives again when the run goes on.

use crate::app::App;
use crate::fault::Fault;
use crate::guard::Caller;
use crate::link::LinkHandle;
use crate::runs::{self, HANDLE_MS};
use crate::{leases, now, record};
use api::http::RunView;
use api::link::Down;
use model::{Event, LeaseId, RunId, RunState};
use serde_json::json;
use store::chain::By;
use store::runs::RunRow;

/// Pauses a run; one that is paused stays so.
///
/// # Errors
/// 404, 409 for a run that is over or whose end is asked for or whose only command has a key, the store's.
pub async fn pause(app: &App, caller: &Caller, run: &RunId) -> Result<RunView, Fault> {
    let _pausing = app.pausing.lock().await;
    if let Some((_, leases)) = change(app, caller, run, true).await?
        && !leases.is_empty()
    {
        leases::withdraw_and_wait(app, &leases).await;
    }
    if let Some(link) = app.operator() {
        link.tell(&Down::Pause { run: run.clone() });
    }
    runs::get(app, run).await
}

/// Lets a paused run go on; one that is not paused goes on as it is.
///
/// # Errors
/// As of [`pause`].
pub async fn resume(app: &App, caller: &Caller, run: &RunId) -> Result<RunView, Fault> {
    let _pausing = app.pausing.lock().await;
    let changed = change(app, caller, run, false).await?;
    if let Some(link) = app.operator() {
        if changed.is_some_and(|(row, _)| row.launches == 0) {
            let _placing = app.placing.lock().await;
            runs::launch(app, &link, run, 1, None).await?;
        } else {
            link.tell(&Down::Resume { run: run.clone() });
        }
    }
    runs::get(app, run).await
}

/// Has a host that is back, and whose box of a paused run does not stand still, be told of the pause: after a pause that is
/// on its way has ended what has a value, and unless the run was resumed by then.
pub(crate) fn again(app: &App, link: &LinkHandle, run: RunId) {
    let (app, link) = (app.clone(), link.clone());
    tokio::spawn(async move {
        let _pausing = app.pausing.lock().await;
        match app.store.run(&run).await {
            Ok(row) if row.as_ref().is_some_and(|row| row.state == RunState::Paused) => link.tell(&Down::Pause { run }),
            Ok(_) => {}
            Err(e) => {
                tracing::warn!("whether the run {run} is paused could not be read, and its host was not told: {e}")
            }
        }
    });
}

/// Records a person's word, unless it changes nothing; gives the run's row as it was before then, and the leases that were
/// taken back by it.
async fn change(app: &App, caller: &Caller, run: &RunId, still: bool) -> Result<Option<(RunRow, Vec<LeaseId>)>, Fault> {
    let (ours, at, person) = (run.clone(), now(), caller.person.to_string());
    // No launch may be on its way meanwhile.
    let _placing = app.placing.lock().await;
    let changed = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                let row = tx.run(&ours).await?.ok_or_else(|| runs::unknown(&ours))?;
                if row.state.is_over() {
                    let message = format!("The run {ours} is over already: {}.", row.state.word());
                    return Err(Fault::conflict("run.over", message));
                }
                if row.cancel_asked {
                    return Err(Fault::conflict("run.over", format!("The run {ours} is being ended.")));
                }
                if (row.state == RunState::Paused) == still {
                    return Ok(None);
                }
                let leases = if still { leases::stands_still(tx, &row, at, &person).await? } else { Vec::new() };
                let (event, kind) = if still {
                    (Event::Paused { person: person.clone() }, "run.paused")
                } else {
                    tx.renew_handles_of(&ours, at.plus_ms(HANDLE_MS));
                    (Event::Resumed { person: person.clone(), queued: row.launches == 0 }, "run.resumed")
                };
                let n = tx.append(&ours, at, &event).await?.n;
                tx.record(By::Server, at, kind, &person, record::fields(json!({ "run": ours }))).await?;
                Ok(Some((row, leases, n)))
            })
        })
        .await?;
    Ok(changed.map(|(row, leases, n)| {
        app.live.tell(run, n);
        (row, leases)
    }))
}
