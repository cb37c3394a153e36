//! `/api/secrets`, `/api/models`, `/api/evidence`, `/api/sign-in`, `/api/health`

use super::{
    Body, By, ConsoleSignInLink, EvidenceRead, ModelsManage, ModelsRead, PlatformStatus, SecretsDelete, SecretsList,
    SecretsSet,
};
use crate::app::App;
use crate::fault::Fault;
use crate::routes::Routes;
use crate::{heads, models, secrets, sign_in, walls};
use api::http::{Health, ModelView, ReplaceSecret, SecretRemoved, SecretView, SetSecret, SignInLink, Tested};
use axum::Json;
use axum::body::Body as Stream;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use evidence::export::Export;
use http::{Method, StatusCode, header};
use serde::Deserialize;
use std::collections::VecDeque;
use store::chain::HeadRow;

pub fn routes() -> Routes {
    Routes::default()
        .add(Method::GET, "/api/secrets", "Names of the secrets, who set them and when; no value.", list_secrets)
        .answers("SecretView[]")
        .add(Method::PUT, "/api/secrets/{*name}", "Set a secret, or replace it.", set_secret)
        .takes("SetSecret")
        .answers("SecretView")
        .add(Method::POST, "/api/secrets/{*name}", "Put a new value in the place of one that is set.", replace_secret)
        .takes("ReplaceSecret")
        .answers("SecretView")
        .add(
            Method::DELETE,
            "/api/secrets/{*name}",
            "Remove a secret, or with `?mine=true` one's own value of it; it is lost, and its open leases end.",
            remove_secret,
        )
        .answers("SecretRemoved")
        .add(Method::GET, "/api/models", "The models.", list_models)
        .answers("ModelView[]")
        .add(Method::PUT, "/api/models/{name}", "Add a model, or replace it.", put_model)
        .takes("ModelView")
        .answers("ModelView")
        .add(Method::DELETE, "/api/models/{name}", "Remove a model.", remove_model)
        .add(Method::POST, "/api/models/{name}/test", "Make the smallest call to a model.", test_model)
        .answers("Tested")
        .add(Method::GET, "/api/evidence", "The evidence, as a file that `volary verify` checks.", export)
        .add(Method::POST, "/api/sign-in", "Make a link that signs in to the console, once.", sign_in_link)
        .answers("SignInLink")
        .add(Method::GET, "/api/health", "Version, and who is connected.", health)
        .answers("Health")
        .add(Method::GET, "/api/walls", "The calls that are forbidden to server and gateway, made by them now.", walls)
        .answers("Walls")
}

async fn list_secrets(_: By<SecretsList>, State(app): State<App>) -> Result<Json<Vec<SecretView>>, Fault> {
    secrets::list(&app).await.map(Json)
}

async fn set_secret(
    by: By<SecretsSet>,
    State(app): State<App>,
    Path(name): Path<String>,
    Body(body): Body<SetSecret>,
) -> Result<Json<SecretView>, Fault> {
    secrets::set(&app, &by.caller, &name, body).await.map(Json)
}

async fn replace_secret(
    by: By<SecretsSet>,
    State(app): State<App>,
    Path(name): Path<String>,
    Body(body): Body<ReplaceSecret>,
) -> Result<Json<SecretView>, Fault> {
    secrets::replace(&app, &by.caller, &name, body.mine, body.value.0).await.map(Json)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Whose {
    #[serde(default)]
    mine: bool,
}

async fn remove_secret(
    by: By<SecretsDelete>,
    State(app): State<App>,
    Path(name): Path<String>,
    whose: Result<Query<Whose>, QueryRejection>,
) -> Result<Json<SecretRemoved>, Fault> {
    let Query(whose) = whose.map_err(|_| Fault::bad("query.wrong", "The query takes `mine=true`."))?;
    secrets::remove(&app, &by.caller, &name, whose.mine).await.map(Json)
}

async fn list_models(_: By<ModelsRead>, State(app): State<App>) -> Result<Json<Vec<ModelView>>, Fault> {
    models::list(&app).await.map(Json)
}

async fn put_model(
    by: By<ModelsManage>,
    State(app): State<App>,
    Path(name): Path<String>,
    Body(wish): Body<ModelView>,
) -> Result<Json<ModelView>, Fault> {
    models::put(&app, &by.caller, &name, wish).await.map(Json)
}

async fn remove_model(
    by: By<ModelsManage>,
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<StatusCode, Fault> {
    models::remove(&app, &by.caller, &name).await.map(|()| StatusCode::NO_CONTENT)
}

async fn test_model(
    by: By<ModelsManage>,
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<Tested>, Fault> {
    models::test(&app, &by.caller, &name).await.map(Json)
}

async fn sign_in_link(by: By<ConsoleSignInLink>, State(app): State<App>) -> Result<Json<SignInLink>, Fault> {
    sign_in::make_link(&app, &by.caller).await.map(Json)
}

async fn health(_: By<PlatformStatus>, State(app): State<App>) -> Result<Json<Health>, Fault> {
    Ok(Json(Health {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        operator: app.operator().is_some(),
        gateway: app.gateway().is_some(),
        live_runs: app.store.live_runs().await?.len() as u64,
    }))
}

async fn walls(_: By<PlatformStatus>, State(app): State<App>) -> Json<api::walls::Walls> {
    Json(walls::prove(&app).await)
}

/// Records read at a time for an export.
const PAGE: u32 = 1024;

struct Exporting {
    app: App,
    file: Export,
    heads: VecDeque<HeadRow>,
    after: u64,
    until: u64,
}

impl Exporting {
    async fn more(&mut self) -> Result<(), store::StoreError> {
        for row in self.app.store.evidence(self.after, PAGE).await? {
            if row.n > self.until {
                break;
            }
            self.file.record(&row.body);
            self.after = row.n;
            while self.heads.front().is_some_and(|head| head.n <= row.n) {
                let head = self.heads.pop_front();
                if let Some(head) = head.filter(|head| head.n == row.n) {
                    self.file.head(&head.note);
                }
            }
        }
        Ok(())
    }
}

/// The whole chain up to now, its last record under a signed head.
async fn export(_: By<EvidenceRead>, State(app): State<App>) -> Result<Response, Fault> {
    let until = app.store.chain().borrow().n;
    let mut all = app.store.heads().await?;
    if until > 0 && all.last().is_none_or(|head| head.n < until) {
        all.push(heads::sign(&app).await?);
    }
    let until = all.last().map_or(0, |head| head.n);
    let file = Export::new(&app.workspace, &app.keys.signer.verifier_key());
    let exporting = Exporting { app, file, heads: all.into(), after: 0, until };
    let pieces = futures_util::stream::try_unfold(Some(exporting), |exporting| async {
        let Some(mut exporting) = exporting else { return Ok(None) };
        let before = exporting.after;
        if exporting.after < exporting.until {
            exporting.more().await.map_err(std::io::Error::other)?;
        }
        if exporting.after == exporting.until {
            return Ok(Some((exporting.file.finish(), None)));
        }
        if exporting.after == before {
            return Err(std::io::Error::other("records of the evidence are missing"));
        }
        Ok(Some((exporting.file.take(), Some(exporting))))
    });
    let head = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"volary-evidence.txt\""),
    ];
    Ok((head, Stream::from_stream(pieces)).into_response())
}
