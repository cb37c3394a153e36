//! `/api/connections`

use super::{Body, By, ConnectionsManage, ConnectionsRead};
use crate::app::App;
use crate::connections;
use crate::fault::Fault;
use crate::routes::Routes;
use api::connections::{ConnectionEnded, ConnectionRemoved, ConnectionView, SetConnection};
use axum::Json;
use axum::extract::{Path, State};
use http::Method;

pub fn routes() -> Routes {
    Routes::default()
        .add(Method::GET, "/api/connections", "The OAuth connections and how each stands; no token.", list)
        .answers("ConnectionView[]")
        .add(Method::GET, "/api/connections/{name}", "One OAuth connection.", find)
        .answers("ConnectionView")
        .add(
            Method::PUT,
            "/api/connections/{name}",
            "Add an OAuth connection, or set one anew that is not signed in.",
            put,
        )
        .takes("SetConnection")
        .answers("ConnectionView")
        .add(Method::DELETE, "/api/connections/{name}", "Remove an OAuth connection that is not signed in.", remove)
        .answers("ConnectionRemoved")
        .add(
            Method::POST,
            "/api/connections/{name}/device",
            "Ask the provider for a device's code to sign in with.",
            device,
        )
        .answers("ConnectionView")
        .add(Method::POST, "/api/connections/{name}/test", "Have the token fresh, if it can be.", test)
        .answers("ConnectionView")
        .add(Method::POST, "/api/connections/{name}/revoke", "End a connection, here and at its provider.", revoke)
        .answers("ConnectionEnded")
}

async fn list(by: By<ConnectionsRead>, State(app): State<App>) -> Result<Json<Vec<ConnectionView>>, Fault> {
    connections::list(&app, &by.caller).await.map(Json)
}

async fn find(
    by: By<ConnectionsRead>,
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<ConnectionView>, Fault> {
    connections::find(&app, &by.caller, &name).await.map(Json)
}

async fn put(
    by: By<ConnectionsManage>,
    State(app): State<App>,
    Path(name): Path<String>,
    Body(wish): Body<SetConnection>,
) -> Result<Json<ConnectionView>, Fault> {
    connections::put(&app, &by.caller, &name, wish).await.map(Json)
}

async fn remove(
    by: By<ConnectionsManage>,
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<ConnectionRemoved>, Fault> {
    connections::remove(&app, &by.caller, &name).await.map(Json)
}

async fn device(
    by: By<ConnectionsManage>,
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<ConnectionView>, Fault> {
    connections::device::begin(&app, &by.caller, &name).await.map(Json)
}

async fn test(
    by: By<ConnectionsManage>,
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<ConnectionView>, Fault> {
    match connections::refresh::ready(&app, &name).await {
        Ok(()) => connections::find(&app, &by.caller, &name).await.map(Json),
        Err(no) if no.rule == "connection.unknown" => Err(Fault::missing(no.rule, no.why)),
        Err(no) => Err(Fault::conflict(no.rule, no.why)),
    }
}

async fn revoke(
    by: By<ConnectionsManage>,
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Json<ConnectionEnded>, Fault> {
    connections::revoke::revoke(&app, &by.caller, &name).await.map(Json)
}
