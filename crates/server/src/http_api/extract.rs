//! What handlers take out of a request, with errors that say what is wrong.

use crate::app::App;
use crate::fault::Fault;
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use http::request::Parts;
use model::RunId;
use serde::de::DeserializeOwned;

/// A JSON body.
#[derive(Debug)]
pub struct Body<T>(pub T);

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = Fault;
    async fn from_request(request: Request, app: &App) -> Result<Self, Fault> {
        match Json::<T>::from_request(request, app).await {
            Ok(Json(body)) => Ok(Self(body)),
            // serde's own words may repeat what was sent; a body may hold a secret, so only the place is told.
            Err(JsonRejection::JsonDataError(e)) => Err(Fault::bad("body.wrong", wrong(&e))),
            Err(JsonRejection::JsonSyntaxError(_)) => Err(Fault::bad("body.wrong", "The body is not JSON.")),
            Err(JsonRejection::MissingJsonContentType(_)) => {
                Err(Fault::bad("body.type", "The body has to come as `content-type: application/json`."))
            }
            Err(e) => {
                Err(Fault::new(e.status(), "body.unreadable", "The body could not be read (it may be too long)."))
            }
        }
    }
}

/// What serde says of a body that does not fit, without any value of it.
fn wrong(e: &dyn std::error::Error) -> String {
    let mut cause: &dyn std::error::Error = e;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let text = cause.to_string();
    let named = ["unknown field", "missing field", "unknown variant", "duplicate field"];
    if named.iter().any(|what| text.contains(what)) {
        format!("The body does not fit: {text}.")
    } else {
        "The body does not fit: a field has a value of the wrong kind.".to_owned()
    }
}

/// The run that a path names.
#[derive(Debug)]
pub struct RunIn(pub RunId);

impl FromRequestParts<App> for RunIn {
    type Rejection = Fault;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Fault> {
        let unknown = || Fault::missing("run.unknown", "There is no such run; `volary runs` lists them.");
        let Path(text) = Path::<String>::from_request_parts(parts, app).await.map_err(|_| unknown())?;
        RunId::parse(&text).map(Self).map_err(|_| unknown())
    }
}
