//! The leases that are open, as they come and go; one is taken back after a question.

use super::page::{Place, Trouble, Viewer, page};
use super::text::line;
use super::words::moment;
use crate::app::App;
use crate::fault::Fault;
use crate::guard::Caller;
use crate::guard::right::{LeasesRead, LeasesRevoke};
use crate::http_api::LeaseIn;
use crate::leases;
use crate::routes::Routes;
use api::leases::LeaseView;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use http::{Method, StatusCode};
use maud::{Markup, html};
use policy::access::Scope;

/// The slot of the table's rows.
pub const ROWS: &str = "leases";

pub(super) fn routes() -> Routes {
    Routes::default()
        .add(Method::GET, "/leases", "The page of the open leases; no value.", show)
        .add(
            Method::GET,
            "/leases/{lease}/revoke",
            "A page that asks before a lease is taken back; changes nothing.",
            ask,
        )
        .add(Method::POST, "/leases/{lease}/revoke", "Take a lease back, from its page.", revoke)
}

async fn show(by: Viewer<LeasesRead>, State(app): State<App>) -> Result<Markup, Trouble> {
    let open = leases::list(&app, false).await?;
    let body = html! {
        div.head-line {
            h1 { "Leases" }
            span.live-state #live-state role="status" {}
            noscript { a.button href="/leases" { "Refresh" } }
        }
        p.lead { "Each is one use of one key by one run. The agent has the lease, never the key." }
        div.table-card {
            table.stack role="table" data-live="/leases/live" {
                thead {
                    tr role="row" {
                        @for name in ["Capability", "State", "Run", "Travels by", "Until, UTC"] { th role="columnheader" { (name) } }
                        th role="columnheader" { span.visually-hidden { "What can be done" } }
                    }
                }
                tbody #(ROWS) { (rows(&open, by.caller())) }
            }
        }
    };
    Ok(page(by.caller(), Place::Leases, "Leases", &body))
}

/// The rows of the table.
pub fn rows(open: &[LeaseView], caller: &Caller) -> Markup {
    html! {
        @for lease in open {
            tr role="row" {
                th scope="row" role="rowheader" {
                    code { (line(&lease.capability, 64)) } " for " (line(&lease.destination, 80))
                    // The agent's own words.
                    @if !lease.reason.is_empty() { div.sub { "“" (line(&lease.reason, 160)) "”" } }
                }
                td role="cell" data-label="State" {
                    (lease.state)
                    @if !lease.used_by.is_empty() { div.sub { "by " (line(&lease.used_by, 120)) } }
                }
                td role="cell" data-label="Run" { a href={ "/runs/" (lease.run) } { code { (lease.run) } } }
                td role="cell" data-label="Travels by" { (line(&lease.delivery, 80)) }
                td role="cell" data-label="Until, UTC" { (moment(lease.expires)) }
                td.act role="cell" {
                    @if caller.scopes.holds(Scope::LeasesRevoke) {
                        a.button.small #{ "revoke-" (lease.lease) } href={ "/leases/" (lease.lease) "/revoke" }
                            aria-label={ "Take back the lease of " (lease.capability) " of the run " (lease.run) } { "Take back" }
                    }
                }
            }
        }
        @if open.is_empty() { tr role="row" { td.empty role="cell" colspan="6" { "No lease is open." } } }
    }
}

async fn ask(by: Viewer<LeasesRevoke>, State(app): State<App>, LeaseIn(lease): LeaseIn) -> Result<Response, Trouble> {
    let open = leases::list(&app, false).await?;
    // It is over by itself already: as it would be.
    let Some(view) = open.into_iter().find(|view| view.lease == lease) else {
        return Ok(Redirect::to("/leases").into_response());
    };
    let body = html! {
        div.card.alone {
            h1 { "Take this lease back?" }
            p { code { (line(&view.capability, 64)) } " for " (line(&view.destination, 80)) ", of the run " code { (view.run) } }
            p {
                @if view.used.is_some() { "What uses it now is ended at once. " }
                "The run can ask for another one; end the run to stop that."
            }
            form.row method="post" action={ "/leases/" (lease) "/revoke" } {
                button.danger.solid data-busy="Taking back…" { "Take it back" }
                a.button href="/leases" autofocus data-escape { "Leave it" }
            }
        }
    };
    Ok(page(by.caller(), Place::Leases, "Take a lease back", &body).into_response())
}

async fn revoke(
    by: Viewer<LeasesRevoke>,
    State(app): State<App>,
    LeaseIn(lease): LeaseIn,
) -> Result<Redirect, Trouble> {
    match leases::revoke(&app, by.caller(), &lease).await {
        Ok(_) => {}
        // Its time, its end or someone else was faster: it is as wished.
        Err(Fault { status: StatusCode::CONFLICT, .. }) => {}
        Err(fault) => return Err(fault.into()),
    }
    Ok(Redirect::to("/leases"))
}
