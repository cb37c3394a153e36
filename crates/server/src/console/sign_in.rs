//! The sign-in link's page. Looking at it changes nothing (so that a link preview does not burn it); its one
//! button redeems it.

use crate::app::App;
use crate::fault::Fault;
use crate::guard::{Public, SelfOnly};
use crate::routes::Routes;
use crate::{session, sign_in};
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode, header};
use maud::{DOCTYPE, Markup, html};

pub(super) fn routes() -> Routes {
    Routes::default()
        .add(Method::GET, "/sign-in/{token}", "A page with one button; changes nothing.", page)
        .add(Method::POST, "/sign-in/{token}", "Redeem a sign-in link, once, for a session.", redeem)
        .add(Method::POST, "/sign-out", "End the caller's own session.", sign_out)
}

async fn page(_: Public, Path(_): Path<String>) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head { meta charset="utf-8"; meta name="viewport" content="width=device-width"; title { "Sign in to Volary" } }
            body {
                main {
                    h1 { "Volary" }
                    // Posts to the page's own address.
                    form method="post" { button autofocus { "Sign in" } }
                    p { "The link works once, within ten minutes." }
                }
            }
        }
    }
}

async fn redeem(_: Public, State(app): State<App>, Path(token): Path<String>) -> Result<Response, Fault> {
    let session = sign_in::redeem(&app, &token).await?;
    let head = [(header::SET_COOKIE, session::set(&session)), (header::LOCATION, "/".to_owned())];
    Ok((StatusCode::SEE_OTHER, head).into_response())
}

async fn sign_out(me: SelfOnly, State(app): State<App>) -> Result<Response, Fault> {
    sign_in::end(&app, &me.0).await?;
    Ok(([(header::SET_COOKIE, session::unset())], "You are signed out.").into_response())
}
