//! The sign-in link's page. Looking at it changes nothing (so that a link preview does not burn it); its one
//! button redeems it.

use super::page::{Trouble, bare};
use crate::app::App;
use crate::guard::{Public, SelfOnly};
use crate::port::Account;
use crate::routes::Routes;
use crate::{session, sign_in};
use axum::Extension;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode, header};
use maud::{Markup, html};

pub(super) fn routes() -> Routes {
    Routes::default()
        .add(Method::GET, "/sign-in/{token}", "A page with one button; changes nothing.", page)
        .add(Method::POST, "/sign-in/{token}", "Redeem a sign-in link, once, for a session.", redeem)
        .add(Method::POST, "/sign-out", "End the caller's own session.", sign_out)
}

async fn page(_: Public, Path(_): Path<String>) -> Markup {
    bare(
        "Sign in",
        &html! {
            h1 { "Sign in" }
            p { "This link signs this browser in, once. It works for ten minutes after it was made." }
            // Posts to the page's own address.
            form method="post" { button.primary autofocus { "Sign in" } }
        },
    )
}

async fn redeem(
    _: Public,
    State(app): State<App>,
    Path(token): Path<String>,
    Extension(account): Extension<Account>,
) -> Result<Response, Trouble> {
    let session = sign_in::redeem(&app, &token, account).await?;
    let head = [(header::SET_COOKIE, session::set(&session, app.port)), (header::LOCATION, "/".to_owned())];
    Ok((StatusCode::SEE_OTHER, head).into_response())
}

async fn sign_out(me: SelfOnly, State(app): State<App>) -> Result<Response, Trouble> {
    sign_in::end(&app, &me.0).await?;
    let body = html! {
        h1 { "You are signed out" }
        p { code { "volary sign-in" } " prints a link that signs a browser in again." }
    };
    Ok(([(header::SET_COOKIE, session::unset(app.port))], bare("Signed out", &body)).into_response())
}
