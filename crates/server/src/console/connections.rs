//! The connections: how each stands, live; signing in to one, ending one.
//!
//! A sign-in leaves for the provider by a link and comes back by the callback's page, which changes nothing: the browser
//! brings no session with what another site sent it. Its one button does, and hands over what came.

use super::form::Question;
use super::page::{Place, Trouble, Viewer, bare, page};
use super::secrets::{and_leases, with_it};
use super::text::{line, plain};
use super::words::moment;
use crate::app::App;
use crate::connections::{self, sign_in};
use crate::fault::Fault;
use crate::guard::right::{ConnectionsManage, ConnectionsRead};
use crate::guard::{Caller, Public};
use crate::routes::Routes;
use api::connections::ConnectionView;
use api::grants::WireSecret;
use axum::Form;
use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::Method;
use maud::{Markup, html};
use policy::access::Scope;
use serde::Deserialize;
use url::Url;

/// The slot of their rows.
pub const ROWS: &str = "connections";

pub(super) fn routes() -> Routes {
    Routes::default()
        .add(Method::GET, "/connections", "The page of the OAuth connections; no token.", show)
        .add(Method::POST, "/connections/sign-in", "Begin a sign-in; the page that leads to the provider.", begin)
        .add(Method::GET, "/connections/callback", "Where a provider sends the browser back to; changes nothing.", back)
        .add(Method::POST, "/connections/callback", "End the sign-in that this session began, once.", finish)
        .add(Method::POST, "/connections/device", "Ask the provider for a device's code, from the page.", device)
        .add(Method::GET, "/connections/revoke", "A page that asks before a connection is ended; changes nothing.", ask)
        .add(Method::POST, "/connections/revoke", "End a connection, from its page.", revoke)
        .add(
            Method::GET,
            "/connections/remove",
            "A page that asks before a connection is removed; changes nothing.",
            ask_remove,
        )
        .add(Method::POST, "/connections/remove", "Remove a connection that is not signed in, from its page.", remove)
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Was {
    #[serde(default)]
    signed_in: Option<String>,
    #[serde(default)]
    ended: Option<String>,
    /// With `ended`: how many leases ended with it.
    #[serde(default)]
    leases: u32,
    #[serde(default)]
    removed: Option<String>,
    /// With `removed`: of how many tokens the end is not confirmed.
    #[serde(default)]
    left: u32,
}

async fn show(
    by: Viewer<ConnectionsRead>,
    State(app): State<App>,
    query: Result<Query<Was>, QueryRejection>,
) -> Result<Markup, Trouble> {
    let Query(was) = query.map_err(|_| {
        let takes = "The query takes `signed_in=NAME`, `ended=NAME&leases=N` or `removed=NAME&left=N`.";
        Fault::bad("query.wrong", takes)
    })?;
    let all = connections::list(&app, by.caller()).await?;
    let said = html! {
        @if let Some(name) = &was.signed_in { p.said role="status" { "✓ Signed in to " code { (line(name, 64)) } "." } }
        @if let Some(name) = &was.ended {
            @let unconfirmed = all.iter().any(|one| one.name == *name && one.state == "revoking");
            p.said role="status" {
                @if !unconfirmed { "✓ " }
                code { (line(name, 64)) } " is ended" @if unconfirmed { " here" } (with_it(was.leases))
                @if unconfirmed { " Its provider has not confirmed it yet." }
            }
        }
        @if let Some(name) = &was.removed {
            p.said role="status" {
                @if was.left == 0 { "✓ " }
                code { (line(name, 64)) } " is removed."
                @if was.left > 0 { " Nobody ends " (tokens(was.left)) " any more: end them in your account at its provider." }
            }
        }
    };
    Ok(list(by.caller(), &all, &said))
}

/// So many tokens of a connection whose end is not confirmed.
fn tokens(left: u32) -> String {
    match left {
        1 => "the token of it whose end its provider has not confirmed".to_owned(),
        n => format!("the {n} tokens of it whose end its provider has not confirmed"),
    }
}

fn list(caller: &Caller, all: &[ConnectionView], said: &Markup) -> Markup {
    let body = html! {
        div.head-line {
            h1 { "Connections" }
            span.live-state #live-state role="status" {}
            noscript { a.button href="/connections" { "Refresh" } }
        }
        p.lead {
            "Integrations that somebody signed in to. Their tokens are sealed and kept fresh here; a run has the use of one, never "
            "the token."
        }
        (said)
        div.table-card {
            table.stack role="table" data-live="/connections/live" {
                thead {
                    tr role="row" {
                        th role="columnheader" { "Name" } th role="columnheader" { "State" }
                        th role="columnheader" { "Token until, UTC" } th role="columnheader" { "Last refresh, UTC" }
                        th role="columnheader" { "Signed in by" }
                        th role="columnheader" { span.visually-hidden { "What can be done" } }
                    }
                }
                tbody #(ROWS) { (rows(all, caller)) }
            }
        }
    };
    page(caller, Place::Connections, "Connections", &body)
}

/// The rows of the connections.
pub fn rows(all: &[ConnectionView], caller: &Caller) -> Markup {
    let may = caller.scopes.holds(Scope::ConnectionsManage);
    html! {
        @for one in all { (row(one, may)) }
        @if all.is_empty() { tr role="row" { td.empty role="cell" colspan="6" { "There is no connection. " code { "volary connect add" } " adds one." } } }
    }
}

/// The class of a state's badge.
fn badge(state: &str) -> &'static str {
    match state {
        "live" => "done",
        "lapsed" => "failed",
        "revoked" => "cancelled",
        "revoking" => "paused",
        _ => "queued",
    }
}

fn row(one: &ConnectionView, may: bool) -> Markup {
    let dash = || html! { span.faint { "–" } };
    html! {
        tr role="row" {
            th scope="row" role="rowheader" { code { (line(&one.name, 64)) } }
            td role="cell" data-label="State" {
                span class={ "badge " (badge(&one.state)) } { (one.state) }
                div.sub { (one.said) }
                @if let Some(device) = one.device.as_ref().filter(|device| device.said != connections::device::SIGNED_IN) {
                    p.sub {
                        @if device.said == connections::device::WAITING {
                            "At " a href=(plain(&device.verification_uri)) rel="noreferrer" { (line(&device.verification_uri, 120)) }
                            " type " strong { code { (line(&device.user_code, 64)) } } "; it is shown here once that is done."
                        } @else { "The device's code: " (line(&device.said, 200)) }
                    }
                }
            }
            td role="cell" data-label="Token until, UTC" { @match one.expires { Some(at) => (moment(at)), None => (dash()) } }
            td role="cell" data-label="Last refresh, UTC" { @match one.refreshed { Some(at) => (moment(at)), None => (dash()) } }
            td role="cell" data-label="Signed in by" { @if one.signed_in_by.is_empty() { (dash()) } @else { span.keep { (line(&one.signed_in_by, 64)) } } }
            td.act role="cell" {
                @if may {
                    @if one.settings.authorize_url.is_some() {
                        form method="post" action="/connections/sign-in" {
                            input type="hidden" name="name" value=(one.name);
                            button.small #{ "sign-in-" (one.name) } aria-label={ "Sign in to " (plain(&one.name)) } {
                                @if one.state == "new" { "Sign in" } @else { "Sign in again" }
                            }
                        }
                    }
                    @if one.settings.device_url.is_some() {
                        form method="post" action="/connections/device" {
                            input type="hidden" name="name" value=(one.name);
                            button.small #{ "code-" (one.name) } aria-label={ "Sign in to " (plain(&one.name)) " with a code" } { "With a code" }
                        }
                    }
                    @if matches!(one.state.as_str(), "live" | "lapsed" | "revoking") {
                        a.button.small #{ "end-" (one.name) } href={ "/connections/revoke?name=" (one.name) } aria-label={ "End " (plain(&one.name)) } { "End" }
                    }
                    @if one.state != "live" {
                        a.button.small #{ "remove-" (one.name) } href={ "/connections/remove?name=" (one.name) } aria-label={ "Remove " (plain(&one.name)) } { "Remove" }
                    }
                }
            }
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
}

fn named(form: Result<Form<Named>, FormRejection>) -> Result<String, Fault> {
    form.map(|Form(form)| form.name).map_err(|_| Fault::bad("body.wrong", "The form takes a `name`."))
}

async fn begin(
    by: Viewer<ConnectionsManage>,
    State(app): State<App>,
    form: Result<Form<Named>, FormRejection>,
) -> Result<Markup, Trouble> {
    let name = named(form)?;
    let url = sign_in::begin(&app, by.caller(), &name).await?;
    let host = Url::parse(&url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
    // A link and no redirect: our forms may lead to nobody but ourselves.
    let body = html! {
        div.card.alone {
            h1 { "Sign in to " (line(&name, 64)) }
            p { "The next page is " strong { (line(&host, 200)) } "'s own. It sends this browser back here when you have decided." }
            div.row {
                a.button.primary href=(url) rel="noreferrer" autofocus { "Go to " (line(&host, 200)) }
                a.button href="/connections" data-escape { "Not now" }
            }
        }
    };
    Ok(page(by.caller(), Place::Connections, "Sign in", &body))
}

/// What a provider adds to the address that it sends the browser back to (RFC 6749 §4.1.2), and what some add to that.
#[derive(Deserialize)]
struct Back {
    #[serde(default)]
    state: String,
    code: Option<WireSecret>,
    error: Option<String>,
}

async fn back(_: Public, query: Result<Query<Back>, QueryRejection>) -> Result<Markup, Trouble> {
    let wrong = || Fault::bad("query.wrong", "This is where a provider sends a browser back to after a sign-in.");
    let Query(back) = query.map_err(|_| wrong())?;
    let code = match back.code {
        Some(code) if code.0.expose().len() <= sign_in::MAX_CODE && back.state.len() <= sign_in::MAX_CODE => code,
        Some(_) => return Err(wrong().into()),
        None => {
            let why: String = back
                .error
                .unwrap_or_default()
                .chars()
                .filter(|c| c.is_ascii_alphanumeric() || *c == '_')
                .take(64)
                .collect();
            let body = html! {
                h1 { "There is no sign-in" }
                p { "The provider says " code { (if why.is_empty() { "nothing" } else { why.as_str() }) } "." }
                p { a.button href="/connections" { "Connections" } }
            };
            return Ok(bare("No sign-in", &body));
        }
    };
    let body = html! {
        h1 { "Finish the sign-in" }
        p { "The provider has sent this browser back. It is done when you say so here, in the session that began it." }
        form method="post" action="/connections/callback" {
            input type="hidden" name="state" value=(back.state);
            input type="hidden" name="code" value=(code.0.expose());
            button.primary autofocus { "Finish" }
        }
    };
    Ok(bare("Finish the sign-in", &body))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Finish {
    state: String,
    code: WireSecret,
}

async fn finish(
    by: Viewer<ConnectionsManage>,
    State(app): State<App>,
    form: Result<Form<Finish>, FormRejection>,
) -> Result<Redirect, Trouble> {
    // A rejection's own words may repeat what was sent.
    let Form(form) = form.map_err(|_| Fault::bad("body.wrong", "The form takes a `state` and a `code`."))?;
    let name = sign_in::finish(&app, by.caller(), &form.state, &form.code.0).await?;
    Ok(Redirect::to(&format!("/connections?signed_in={name}")))
}

async fn device(
    by: Viewer<ConnectionsManage>,
    State(app): State<App>,
    form: Result<Form<Named>, FormRejection>,
) -> Result<Redirect, Trouble> {
    connections::device::begin(&app, by.caller(), &named(form)?).await?;
    Ok(Redirect::to("/connections"))
}

async fn ask(
    by: Viewer<ConnectionsManage>,
    State(app): State<App>,
    query: Result<Query<Named>, QueryRejection>,
) -> Result<Response, Trouble> {
    let Query(Named { name }) = query.map_err(|_| Fault::bad("query.wrong", "The query takes `name=NAME`."))?;
    let one = connections::find(&app, by.caller(), &name).await?;
    let told = html! {
        p { code { (line(&one.name, 64)) } }
        p {
            "From then on no run has the use of it; the leases that are open on it are taken back, and what uses them is ended. "
            @if one.settings.revoke_url.is_some() { "The provider is told to end its tokens." }
            @else { "Its provider has no address at which tokens are ended: end them in your account there too." }
        }
    };
    let question = Question {
        asks: "End this connection?",
        told,
        to: "/connections/revoke",
        hidden: html! { input type="hidden" name="name" value=(one.name); },
        act: ("End the connection", "Ending…"),
        leave: ("Keep it", "/connections"),
    };
    Ok(page(by.caller(), Place::Connections, "End a connection", &question.card()).into_response())
}

async fn revoke(
    by: Viewer<ConnectionsManage>,
    State(app): State<App>,
    form: Result<Form<Named>, FormRejection>,
) -> Result<Redirect, Trouble> {
    let name = named(form)?;
    let leases = match connections::revoke::revoke(&app, by.caller(), &name).await {
        Ok(over) => over.leases,
        // Someone else was faster: it is as wished.
        Err(fault) if fault.problem.code == "connection.over" => 0,
        Err(fault) => return Err(fault.into()),
    };
    Ok(Redirect::to(&format!("/connections?ended={name}{}", and_leases(leases))))
}

async fn ask_remove(
    by: Viewer<ConnectionsManage>,
    State(app): State<App>,
    query: Result<Query<Named>, QueryRejection>,
) -> Result<Response, Trouble> {
    let Query(Named { name }) = query.map_err(|_| Fault::bad("query.wrong", "The query takes `name=NAME`."))?;
    let one = connections::find(&app, by.caller(), &name).await?;
    let told = html! {
        p { code { (line(&one.name, 64)) } }
        p {
            "Its settings are gone from here then, and a run whose profile names it is refused."
            @if one.left > 0 { " Nobody ends " (tokens(one.left)) " any more: end them in your account there." }
        }
    };
    let question = Question {
        asks: "Remove this connection?",
        told,
        to: "/connections/remove",
        hidden: html! { input type="hidden" name="name" value=(one.name); },
        act: ("Remove the connection", "Removing…"),
        leave: ("Keep it", "/connections"),
    };
    Ok(page(by.caller(), Place::Connections, "Remove a connection", &question.card()).into_response())
}

async fn remove(
    by: Viewer<ConnectionsManage>,
    State(app): State<App>,
    form: Result<Form<Named>, FormRejection>,
) -> Result<Redirect, Trouble> {
    let name = named(form)?;
    let left = match connections::remove(&app, by.caller(), &name).await {
        Ok(removed) => removed.left,
        // Someone else was faster: it is as wished.
        Err(fault) if fault.problem.code == "connection.unknown" => 0,
        Err(fault) => return Err(fault.into()),
    };
    let left = if left == 0 { String::new() } else { format!("&left={left}") };
    Ok(Redirect::to(&format!("/connections?removed={name}{left}")))
}
