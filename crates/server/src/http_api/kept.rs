//! `/api/kept`

use super::{By, RunIn, RunsCancel, RunsCreate, RunsRead};
use crate::app::App;
use crate::fault::Fault;
use crate::kept;
use crate::routes::Routes;
use api::kept::{KeptImported, KeptWorktree};
use axum::Json;
use axum::extract::State;
use http::{Method, StatusCode};

pub fn routes() -> Routes {
    Routes::default()
        .add(Method::GET, "/api/kept", "Worktrees whose changes are in no repository, the oldest first.", list)
        .answers("KeptWorktree[]")
        .add(Method::POST, "/api/kept/{run}/import", "Bring one into its repository.", import)
        .answers("KeptImported")
        .add(Method::DELETE, "/api/kept/{run}", "Remove one for good.", discard)
}

async fn list(_: By<RunsRead>, State(app): State<App>) -> Result<Json<Vec<KeptWorktree>>, Fault> {
    kept::list(&app).await.map(Json)
}

// What a run that may be started does at its end, done later.
async fn import(by: By<RunsCreate>, State(app): State<App>, RunIn(run): RunIn) -> Result<Json<KeptImported>, Fault> {
    kept::import(&app, &by.caller, &run).await.map(Json)
}

// Who may end a run may also give up what it did.
async fn discard(by: By<RunsCancel>, State(app): State<App>, RunIn(run): RunIn) -> Result<StatusCode, Fault> {
    kept::discard(&app, &by.caller, &run).await.map(|()| StatusCode::NO_CONTENT)
}
