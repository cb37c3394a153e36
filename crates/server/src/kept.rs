//! Worktrees that a host keeps because their changes are in no repository: listed, brought home, dropped.
//!
//! The host does it; what was done stands in the run's transcript and in the evidence.

use crate::app::App;
use crate::fault::Fault;
use crate::guard::Caller;
use crate::{now, record};
use api::kept::{KeptAct, KeptAnswer, KeptImported, KeptWorktree};
use api::link::Down;
use model::{Event, RunId};
use serde_json::json;
use std::time::Duration;
use store::StoreError;
use store::chain::By;

/// How long a host may take to answer: longer than an import may.
const PATIENCE: Duration = Duration::from_secs(660);

async fn ask(app: &App, what: KeptAct) -> Result<KeptAnswer, Fault> {
    let away = || Fault::conflict("host.away", "The host is not linked at the moment; try again when it is.");
    let link = app.operator().ok_or_else(away)?;
    let (id, answer) = link.desk.ask().map_err(|_| away())?;
    link.send(&Down::Kept { id, what }).map_err(|_| away())?;
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(KeptAnswer::Failed { why })) => {
            let stop = if why.ends_with('.') { "" } else { "." };
            Err(Fault::conflict("kept.failed", format!("It is kept as it was: {why}{stop}")))
        }
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(away()),
        Err(_) => Err(Fault::conflict("host.slow", "The host did not answer; `volary kept` shows how things stand.")),
    }
}

fn none(run: &RunId) -> Fault {
    Fault::missing("kept.none", format!("No worktree is kept of {run}; `volary kept` lists them."))
}

fn unexpected(answer: &KeptAnswer) -> Fault {
    Fault::ours("understand the host", &format!("{answer:?}"))
}

/// All that are kept, the oldest first.
///
/// # Errors
/// 409 when no host is linked.
pub async fn list(app: &App) -> Result<Vec<KeptWorktree>, Fault> {
    match ask(app, KeptAct::List).await? {
        KeptAnswer::List { kept } => Ok(kept),
        answer => Err(unexpected(&answer)),
    }
}

/// Brings one into its repository; its transcript has the result then.
///
/// # Errors
/// 404; 409 with the reason when it could not be done, and it is kept as it was.
pub async fn import(app: &App, caller: &Caller, run: &RunId) -> Result<KeptImported, Fault> {
    let imported = match ask(app, KeptAct::Import { run: run.clone() }).await? {
        KeptAnswer::Imported(imported) => imported,
        KeptAnswer::None => return Err(none(run)),
        answer => return Err(unexpected(&answer)),
    };
    let result = Event::Result {
        branch: imported.branch.clone(),
        commit: imported.commit.clone(),
        files: imported.files,
        diff: imported.diff.clone(),
        diff_cut: imported.diff_cut,
    };
    note(app, caller, run, "run.kept-imported", result).await?;
    Ok(imported)
}

/// Removes one for good.
///
/// # Errors
/// 404; 409 when no host is linked.
pub async fn discard(app: &App, caller: &Caller, run: &RunId) -> Result<(), Fault> {
    match ask(app, KeptAct::Drop { run: run.clone() }).await? {
        KeptAnswer::Dropped => {
            let text = format!("{} dropped the kept worktree of this run", caller.person);
            note(app, caller, run, "run.kept-dropped", Event::Note { text }).await
        }
        KeptAnswer::None => Err(none(run)),
        answer => Err(unexpected(&answer)),
    }
}

async fn note(app: &App, caller: &Caller, run: &RunId, kind: &'static str, event: Event) -> Result<(), Fault> {
    let (ours, person, at) = (run.clone(), caller.person.to_string(), now());
    let n = app
        .store
        .write(move |tx| {
            Box::pin(async move {
                // One that an earlier database knew, in a home that was put back, is done all the same.
                let there = tx.run(&ours).await?.is_some();
                let n = if there { Some(tx.append(&ours, at, &event).await?.n) } else { None };
                tx.record(By::Server, at, kind, &person, record::fields(json!({ "run": ours, "entry": n }))).await?;
                Ok::<_, StoreError>(n)
            })
        })
        .await
        .map_err(Fault::from)?;
    if let Some(n) = n {
        app.live.tell(run, n);
    }
    Ok(())
}
