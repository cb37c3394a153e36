//! The HTTP API: each handler parses, calls one function of the application, answers.

mod connections;
mod denials;
mod extract;
mod kept;
mod leases;
mod runs;
mod scrub;
mod small;
mod vault;

use crate::guard::{Public, Scoped, right};
use crate::routes::Routes;
use axum::response::IntoResponse;
pub use denials::DenialIn;
pub use extract::{Body, RunIn};
use http::{Method, header};
pub use leases::LeaseIn;

/// The API's routes.
#[must_use]
pub fn routes() -> Routes {
    runs::routes()
        .and(denials::routes())
        .and(kept::routes())
        .and(connections::routes())
        .and(leases::routes())
        .and(small::routes())
        .and(scrub::routes())
        .and(vault::routes())
        .add(Method::GET, "/api/openapi.json", "This list, for programs (OpenAPI 3.1).", openapi)
}

async fn openapi(_: Public) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], crate::openapi::document())
}

/// Shorthand for the handlers' first argument.
type By<S> = Scoped<S>;
use right::{
    ConnectionsManage, ConnectionsRead, ConsoleSignInLink, EvidenceRead, LeasesRead, LeasesRevoke, ModelsManage,
    ModelsRead, PlatformStatus, ProfilesEdit, RunsCancel, RunsCreate, RunsPause, RunsPropose, RunsRead, SecretsDelete,
    SecretsList, SecretsSet, VaultBackup, VaultRotate,
};
