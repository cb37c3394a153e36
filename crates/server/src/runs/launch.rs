//! What a host is sent of a run, each time that it is placed: its profile, its handle, its way to its repositories, and what
//! it has done so far.
//!
//! Read [`launch`], then `assemble`.

use super::{HANDLE_MS, Handle, end, keep_handle, of_model};
use crate::app::App;
use crate::fault::Fault;
use crate::link::{LinkHandle, SendError};
use crate::{git, leases, models, now, random, record};
use api::http::ModelView;
use api::inbox::ModelRoute;
use api::link::{Down, Launch, LaunchAgent, LaunchClone};
use model::capability::Variable;
use model::run::RunKind;
use model::{Event, Outcome, Profile, RunId, RunState};
use serde_json::{Value, json};
use store::StoreError;
use store::chain::By;
use store::grants::HandleRow;
use store::runs::RunRow;

/// Sends a run to a host as attempt `attempt`. Without the `clear` handle of its acceptance a new one is made,
/// and the earlier ones are dead from then on. The caller holds [`crate::app::Inner::placing`].
///
/// A run that is over, or paused, is left alone. One that cannot be sent (its history is longer than a frame, its model is
/// gone) is ended with the reason.
///
/// # Errors
/// The store's.
pub async fn launch(
    app: &App,
    link: &LinkHandle,
    run: &RunId,
    attempt: u32,
    clear: Option<String>,
) -> Result<(), Fault> {
    let goes_on = |row: &RunRow| !row.state.is_over() && row.state != RunState::Paused;
    let Some(row) = app.store.run(run).await?.filter(goes_on) else { return Ok(()) };
    let launch = match assemble(app, &row, attempt, clear).await {
        Ok(launch) => launch,
        Err(Unfit::Reason(reason)) => return end(app, run, Outcome::Failed, &reason).await,
        Err(Unfit::Fault(fault)) => return Err(fault),
    };
    let (run, at, box_id, host) = (run.clone(), now(), launch.box_id.clone(), link.host.to_string());
    let (marked, launches) = (run.clone(), row.launches + 1);
    app.store
        .write(move |tx| {
            Box::pin(async move {
                tx.launched(&marked, launches).await?;
                let more = json!({ "run": marked, "attempt": attempt, "box": box_id, "host": host });
                tx.record(By::Server, at, "run.launched", &row.person, record::fields(more)).await
            })
        })
        .await
        .map_err(|e: StoreError| Fault::from(e))?;
    match link.send(&Down::Launch(Box::new(launch))) {
        // A connection that is gone comes back, and says then that it does not know the run.
        Ok(()) | Err(SendError::Gone) => {
            app.warm.ran(&row.profile_name);
            Ok(())
        }
        Err(SendError::TooLong(bytes)) => {
            let reason = format!(
                "The run's history of {bytes} bytes is too long to go on from in a new box. Its transcript is kept; \
                 start a new run."
            );
            end(app, &run, Outcome::Failed, &reason).await
        }
    }
}

/// Why a launch cannot be put together.
enum Unfit {
    Reason(String),
    Fault(Fault),
}

impl<E: Into<Fault>> From<E> for Unfit {
    fn from(fault: E) -> Self {
        Self::Fault(fault.into())
    }
}

async fn assemble(app: &App, row: &RunRow, attempt: u32, clear: Option<String>) -> Result<Launch, Unfit> {
    let profile: Profile = serde_json::from_str(&row.profile)
        .map_err(|e| Unfit::Reason(format!("The run's profile cannot be read any more: {e}. Start a new run.")))?;
    let model = match &row.model {
        None => None,
        Some(name) => Some(models::find(app, name).await?.ok_or_else(|| {
            Unfit::Reason(format!("The model {name:?} was removed while the run was to use it. Start a new run."))
        })?),
    };
    let clear = match clear {
        Some(clear) => clear,
        None => new_handle(app, row, of_model(row)).await?,
    };
    let (agent, handle) = match model {
        Some(model) => (Some(LaunchAgent { task: row.task.clone(), handle: clear, model: route(&model) }), None),
        None => (None, Some(clear)),
    };
    let (variables, clone) = git_of(app, row, &profile).await?;
    // Whatever became of it: a command that was to have one never runs without. What else the run has had is not its.
    let lease = match row.kind {
        RunKind::Exec => app.store.lease(&leases::of_command(&row.run)).await?.map(|lease| lease.id),
        RunKind::Agent => None,
    };
    let (history, answered) = if row.launches > 0 {
        (history(app, &row.run).await?, answered(app, &row.run).await?)
    } else {
        Default::default()
    };
    Ok(Launch {
        run: row.run.clone(),
        box_id: random::box_id(),
        attempt,
        kind: row.kind,
        repo: row.repo.clone().filter(|_| clone.is_none()).map(Into::into),
        base: row.base.clone(),
        profile,
        import: row.kind == RunKind::Agent && row.repo.is_some(),
        author: Some(git::author_of(row)),
        agent,
        argv: row.argv.clone(),
        lease,
        handle,
        history,
        answered,
        variables,
        clone,
    })
}

/// What every command of the box finds in its environment (the profile's literals, and the way to its repositories), and
/// where the run's repository is cloned from, if it is at a git host. The handle is one that is for these alone.
async fn git_of(
    app: &App,
    row: &RunRow,
    profile: &Profile,
) -> Result<(Vec<(String, String)>, Option<LaunchClone>), Unfit> {
    let literals = profile.variables.iter().filter_map(|(name, variable)| match variable {
        Variable::Literal(text) => Some((name.clone(), text.clone())),
        Variable::Handle { .. } => None,
    });
    let mut all: Vec<(String, String)> = literals.collect();
    let repositories = git::with_local(row, &profile.repository);
    if repositories.is_empty() {
        return Ok((all, None));
    }
    let Handle { clear, sha256 } = Handle::mint();
    let at = now();
    let model = git::HANDLE.to_owned();
    let kept = HandleRow { run: row.run.clone(), model, expires: at.plus_ms(HANDLE_MS), dead: false };
    app.store
        .write(move |tx| {
            Box::pin(async move {
                tx.add_handle_beside(&sha256, &kept);
                Ok::<_, StoreError>(())
            })
        })
        .await?;
    all.extend(git::variables(row, &repositories, &clear));
    let address = git::address_of(row, &profile.repository);
    Ok((all, address.map(|address| LaunchClone { address, handle: clear })))
}

async fn new_handle(app: &App, row: &RunRow, model: &str) -> Result<String, StoreError> {
    let Handle { clear, sha256 } = Handle::mint();
    let (run, model, at) = (row.run.clone(), model.to_owned(), now());
    app.store.write(move |tx| Box::pin(async move { keep_handle(tx, &sha256, &run, &model, at).await })).await?;
    Ok(clear)
}

fn route(model: &ModelView) -> ModelRoute {
    ModelRoute {
        name: model.name.clone(),
        dialect: model.dialect,
        id: model.id.clone(),
        max_output_tokens: model.max_output_tokens,
        context_tokens: model.context_tokens,
    }
}

/// The steps of the agent's loop in all attempts so far, in order.
async fn history(app: &App, run: &RunId) -> Result<Vec<Value>, StoreError> {
    let steps = app.store.events_of_kind(run, "loop").await?;
    Ok(steps
        .iter()
        .filter_map(|entry| match entry.event() {
            Event::Loop { step } => Some(step),
            _ => None,
        })
        .collect())
}

/// The tool calls whose results the transcript shows.
async fn answered(app: &App, run: &RunId) -> Result<Vec<String>, StoreError> {
    let results = app.store.events_of_kind(run, "tool-result").await?;
    let id = |event| match event {
        Event::ToolResult { id, .. } => Some(id),
        _ => None,
    };
    Ok(results.iter().filter_map(|entry| id(entry.event())).collect())
}
