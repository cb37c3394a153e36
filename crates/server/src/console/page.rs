//! What every page has: its frame, its guard, and how it says that something did not work.

use super::assets;
use crate::app::App;
use crate::fault::Fault;
use crate::guard::{Caller, Guard, Right, Scoped};
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::request::Parts;
use maud::{DOCTYPE, Markup, html};
use policy::access::GuardKind;

/// Where a page stands in the navigation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Runs,
    Models,
    Secrets,
    Connections,
    Leases,
    Evidence,
}

const NAVIGATION: [(Place, &str, &str); 6] = [
    (Place::Runs, "/", "Runs"),
    (Place::Models, "/models", "Models"),
    (Place::Secrets, "/secrets", "Secrets"),
    (Place::Connections, "/connections", "Connections"),
    (Place::Leases, "/leases", "Leases"),
    (Place::Evidence, "/evidence", "Evidence"),
];

/// A page of someone who is signed in.
pub fn page(caller: &Caller, place: Place, title: &str, body: &Markup) -> Markup {
    let top = html! {
        header.site {
            a.mark href="/" aria-label="Volary, all runs" { (assets::mark()) span { "Volary" } }
            nav aria-label="Main" {
                @for (at, path, name) in NAVIGATION {
                    a href=(path) aria-current=[(at == place).then_some("page")] { (name) }
                }
            }
            form.out method="post" action="/sign-out" {
                // As what is recorded names them, too.
                span.who { (caller.name) @if caller.name != caller.person.as_str() { " (" (caller.person) ")" } }
                button.quiet { "Sign out" }
            }
        }
    };
    frame(title, &top, body)
}

/// A page of someone who may not be signed in.
pub fn bare(title: &str, body: &Markup) -> Markup {
    frame(title, &html! {}, &html! { div.card.alone { p.mark { (assets::mark()) span { "Volary" } } (body) } })
}

fn frame(title: &str, top: &Markup, body: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                // Under the answer's `no-referrer` a browser says `Origin: null` with a form, even to ourselves,
                // and our own forms would be refused as another site's.
                meta name="referrer" content="same-origin";
                meta name="color-scheme" content="light dark";
                title { (title) " · Volary" }
                link rel="icon" type="image/svg+xml" href=(assets::path("mark.svg"));
                link rel="stylesheet" href=(assets::path("console.css"));
                script src=(assets::path("console.js")) defer {}
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                (top)
                main #main tabindex="-1" { (body) }
            }
        }
    }
}

/// A fault as a page.
#[derive(Debug)]
pub struct Trouble(pub Fault);

impl<E: Into<Fault>> From<E> for Trouble {
    fn from(fault: E) -> Self {
        Self(fault.into())
    }
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        let Fault { status, problem } = self.0;
        let title = match status {
            StatusCode::UNAUTHORIZED => "You are not signed in",
            StatusCode::NOT_FOUND => "There is nothing here",
            StatusCode::FORBIDDEN => "That was refused",
            s if s.is_server_error() => "That did not work",
            _ => "That does not fit",
        };
        let body = html! {
            h1 { (title) }
            p { (problem.message) }
            p.faint { code { (problem.code) } }
            @if status != StatusCode::UNAUTHORIZED { p { a.button href="/" { "All runs" } } }
        };
        (status, bare(title, &body)).into_response()
    }
}

/// Signed in, and holding the scope that `S` stands for: [`Scoped`], with a page for who is not.
#[derive(Debug, Clone)]
pub struct Viewer<S>(pub Scoped<S>);

impl<S: Right> Guard for Viewer<S> {
    const KIND: GuardKind = Scoped::<S>::KIND;
}

impl<S: Right + Send> FromRequestParts<App> for Viewer<S> {
    type Rejection = Trouble;
    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Trouble> {
        Ok(Self(Scoped::from_request_parts(parts, app).await?))
    }
}

impl<S> Viewer<S> {
    /// Who.
    pub fn caller(&self) -> &Caller {
        &self.0.caller
    }
}
