//! `/api/leases`

use super::{By, LeasesRead, LeasesRevoke};
use crate::app::App;
use crate::fault::Fault;
use crate::leases;
use crate::routes::Routes;
use api::leases::{LeaseRevoked, LeaseView};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Path, Query, State};
use http::Method;
use http::request::Parts;
use model::LeaseId;
use serde::Deserialize;

pub fn routes() -> Routes {
    Routes::default()
        .add(Method::GET, "/api/leases", "The leases that are open, or with `?all=true` the last ones; no value.", list)
        .answers("LeaseView[]")
        .add(Method::POST, "/api/leases/{lease}/revoke", "Take a lease back; who uses it is ended.", revoke)
        .answers("LeaseRevoked")
}

/// The lease that a path names.
#[derive(Debug)]
pub struct LeaseIn(pub LeaseId);

impl FromRequestParts<App> for LeaseIn {
    type Rejection = Fault;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Fault> {
        let unknown = || {
            Fault::missing("lease.unknown", "There is no such lease; `volary lease list --all` lists the last ones.")
        };
        let Path(lease) = Path::<String>::from_request_parts(parts, app).await.map_err(|_| unknown())?;
        LeaseId::parse(&lease).map(Self).map_err(|_| unknown())
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    #[serde(default)]
    all: bool,
}

async fn list(
    _: By<LeasesRead>,
    State(app): State<App>,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Json<Vec<LeaseView>>, Fault> {
    let Query(which) = which.map_err(|_| Fault::bad("query.wrong", "The query takes `all=true`."))?;
    leases::list(&app, which.all).await.map(Json)
}

async fn revoke(
    by: By<LeasesRevoke>,
    State(app): State<App>,
    LeaseIn(lease): LeaseIn,
) -> Result<Json<LeaseRevoked>, Fault> {
    leases::revoke(&app, &by.caller, &lease).await.map(Json)
}
