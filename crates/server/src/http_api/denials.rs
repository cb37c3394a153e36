//! `/api/runs/{run}/denials`

use super::{Body, By, ProfilesEdit, RunIn, RunsRead};
use crate::app::App;
use crate::denials::{self, EditProfile};
use crate::fault::Fault;
use crate::routes::Routes;
use crate::runs;
use api::denials::{Allow, Allowed, ChangeView, DenialView, Terms};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Path, Query, State};
use http::Method;
use http::request::Parts;
use model::RunId;

pub fn routes() -> Routes {
    Routes::default()
        .add(Method::GET, "/api/runs/{run}/denials", "What it was refused, and what would allow each.", list)
        .answers("DenialView[]")
        .add(Method::GET, "/api/runs/{run}/denials/{n}", "One of them.", show)
        .answers("DenialView")
        .add(
            Method::GET,
            "/api/runs/{run}/denials/{n}/change",
            "What accepting its proposal would do to the profile; takes `capability`, `addresses` and `why`, and changes nothing.",
            change,
        )
        .answers("ChangeView")
        .add(
            Method::POST,
            "/api/runs/{run}/denials/{n}/allow",
            "Accept its proposal as it was shown: for this run from here on, and in the profile.",
            allow,
        )
        .takes("Allow")
        .answers("Allowed")
}

/// The refusal that a path names.
#[derive(Debug)]
pub struct DenialIn(pub RunId, pub u64);

impl FromRequestParts<App> for DenialIn {
    type Rejection = Fault;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Fault> {
        let unknown = || Fault::missing("denial.unknown", "There is no such refusal; `volary explain RUN` lists them.");
        let Path((run, n)) = Path::<(String, u64)>::from_request_parts(parts, app).await.map_err(|_| unknown())?;
        RunId::parse(&run).map(|run| Self(run, n)).map_err(|_| unknown())
    }
}

async fn list(_: By<RunsRead>, State(app): State<App>, RunIn(run): RunIn) -> Result<Json<Vec<DenialView>>, Fault> {
    denials::list(&app, &run).await.map(Json)
}

async fn show(_: By<RunsRead>, State(app): State<App>, DenialIn(run, n): DenialIn) -> Result<Json<DenialView>, Fault> {
    denials::show(&app, &run, n).await.map(Json)
}

async fn change(
    by: By<ProfilesEdit>,
    State(app): State<App>,
    DenialIn(run, n): DenialIn,
    query: Result<Query<Terms>, QueryRejection>,
) -> Result<Json<ChangeView>, Fault> {
    let wrong = "The query takes `capability`, `addresses` and `why`.";
    let Query(terms) = query.map_err(|_| Fault::bad("query.wrong", wrong))?;
    let permit = EditProfile::of(&by.caller, &runs::get(&app, &run).await?.profile)?;
    denials::preview(&app, &permit, &run, n, &terms).await.map(Json)
}

async fn allow(
    by: By<ProfilesEdit>,
    State(app): State<App>,
    DenialIn(run, n): DenialIn,
    Body(wish): Body<Allow>,
) -> Result<Json<Allowed>, Fault> {
    let permit = EditProfile::of(&by.caller, &runs::get(&app, &run).await?.profile)?;
    denials::allow(&app, permit, &run, n, &wish).await.map(Json)
}
