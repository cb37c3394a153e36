//! The leases that are open, as they come and go, and how the last ones ended; one is taken back after a question.

use super::form::Question;
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

/// The slot of the open ones' rows.
pub const ROWS: &str = "leases";
/// The slot of the rows of those that ended.
pub const ENDED: &str = "ended-leases";

/// Ended leases that are shown; `volary lease list --all` lists more.
const SHOWN: usize = 20;

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
    let both = Both::read(&app).await?;
    let body = html! {
        div.head-line {
            h1 { "Leases" }
            span.live-state #live-state role="status" {}
            noscript { a.button href="/leases" { "Refresh" } }
        }
        p.lead {
            "Each is one use of one key by one run. The agent has the lease, never the key. Take one back, and what uses it \
             is ended at once."
        }
        section aria-labelledby="open" {
            h2 #open { "Open" }
            div.table-card {
                table.stack role="table" data-live="/leases/live" {
                    thead {
                        tr role="row" {
                            @for name in ["Capability", "State", "Run", "Travels by", "Until, UTC"] { th role="columnheader" { (name) } }
                            th role="columnheader" { span.visually-hidden { "What can be done" } }
                        }
                    }
                    tbody #(ROWS) { (rows(&both.open, by.caller())) }
                }
            }
        }
        section aria-labelledby="ended" {
            h2 #ended { "Ended lately" }
            div.table-card {
                table.stack role="table" {
                    thead {
                        tr role="row" {
                            @for name in ["Capability", "How it ended", "Run", "Used", "Ended, UTC"] { th role="columnheader" { (name) } }
                        }
                    }
                    tbody #(ENDED) { (ended(&both.ended)) }
                }
            }
        }
    };
    Ok(page(by.caller(), Place::Leases, "Leases", &body))
}

/// What the page shows.
pub struct Both {
    /// The open ones, oldest first.
    pub open: Vec<LeaseView>,
    /// The last ones that ended, at most [`SHOWN`], newest first.
    pub ended: Vec<LeaseView>,
}

impl Both {
    /// As they are now.
    ///
    /// # Errors
    /// The store's.
    pub async fn read(app: &App) -> Result<Self, Fault> {
        let open = leases::list(app, false).await?;
        let mut ended = leases::list(app, true).await?;
        ended.retain(|lease| open.iter().all(|other| other.lease != lease.lease));
        ended.sort_by_key(|lease| std::cmp::Reverse(lease.ended.unwrap_or(lease.expires)));
        ended.truncate(SHOWN);
        Ok(Self { open, ended })
    }
}

fn what(lease: &LeaseView) -> Markup {
    html! {
        th scope="row" role="rowheader" {
            code { (line(&lease.capability, 64)) } " for " (line(&lease.destination, 80))
            // The agent's own words.
            @if !lease.reason.is_empty() { div.sub { "“" (line(&lease.reason, 160)) "”" } }
            @if let Some(said) = minted(lease) { div.sub { (said) } }
        }
    }
}

/// How what a vendor minted for it stands.
fn minted(lease: &LeaseView) -> Option<Markup> {
    let until = moment(lease.minted_until?);
    Some(match lease.minted.as_str() {
        "asked" => html! { "a value of its own is being minted" },
        "live" => html! { "a value of its own, minted, until " (until) },
        "ending" => html! { "its minted value is being revoked" },
        "revoked" => html! { "its minted value was revoked " (until) },
        "left" => html! { "nobody can revoke its minted value; it ends by itself " (until) },
        "failed" => html! { "its vendor minted no value" },
        "unknown" => html! { "a value may have been minted that nobody has; it ends by itself " (until) },
        _ => html! { "its minted value ended " (until) },
    })
}

fn of_run(lease: &LeaseView) -> Markup {
    html! { td role="cell" data-label="Run" { a href={ "/runs/" (lease.run) } { code.keep { (lease.run) } } } }
}

/// How one that is over ended: the class of its badge, a word, and what there is to add.
fn outcome(lease: &LeaseView) -> (&'static str, &'static str, String) {
    let by = line_of(&lease.ended_by);
    match (lease.state.as_str(), lease.ended_by.as_str()) {
        ("denied", _) => ("failed", "refused", format!("by the rule {by}")),
        ("completed", "use") => ("done", "used", String::new()),
        ("completed", _) => ("done", "used", by.replacen("use, which", "what used it", 1)),
        ("revoked", "run's end") => ("cancelled", "taken back", "at the run's end".to_owned()),
        ("revoked", leases::VALUE_GONE) => {
            ("cancelled", "taken back", "when its secret was deleted, or its connection ended".to_owned())
        }
        ("revoked", "crash") => ("cancelled", "taken back", "when the platform broke off".to_owned()),
        ("revoked", _) => ("cancelled", "taken back", format!("by {by}")),
        _ if lease.used.is_some() => ("cancelled", "expired", "while it was used".to_owned()),
        _ => ("cancelled", "expired", "unused".to_owned()),
    }
}

fn line_of(text: &str) -> String {
    text.chars().take(120).collect()
}

/// The rows of those that ended.
pub fn ended(leases: &[LeaseView]) -> Markup {
    html! {
        @for lease in leases {
            @let (class, word, more) = outcome(lease);
            tr role="row" {
                (what(lease))
                td role="cell" data-label="How it ended" {
                    span class={ "badge " (class) } { (word) }
                    @if !more.is_empty() { div.sub { (line(&more, 160)) } }
                }
                (of_run(lease))
                td role="cell" data-label="Used" {
                    @if lease.used_by.is_empty() { span.faint { "not" } } @else { "by " (line(&lease.used_by, 120)) }
                }
                td role="cell" data-label="Ended, UTC" { (moment(lease.ended.unwrap_or(lease.expires))) }
            }
        }
        @if leases.is_empty() { tr role="row" { td.empty role="cell" colspan="5" { "None has ended yet." } } }
    }
}

/// The rows of the open ones.
pub fn rows(open: &[LeaseView], caller: &Caller) -> Markup {
    html! {
        @for lease in open {
            tr role="row" {
                (what(lease))
                td role="cell" data-label="State" {
                    @if lease.used.is_some() { span.badge.running { "in use" } } @else { span.badge.queued { "not used yet" } }
                    @if !lease.used_by.is_empty() { div.sub { "by " (line(&lease.used_by, 120)) } }
                }
                (of_run(lease))
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
        @if open.is_empty() { tr role="row" { td.empty role="cell" colspan="6" { "No lease is open. Runs ask for them as they need them." } } }
    }
}

async fn ask(by: Viewer<LeasesRevoke>, State(app): State<App>, LeaseIn(lease): LeaseIn) -> Result<Response, Trouble> {
    let open = leases::list(&app, false).await?;
    // It is over by itself already: as it would be.
    let Some(view) = open.into_iter().find(|view| view.lease == lease) else {
        return Ok(Redirect::to("/leases").into_response());
    };
    let told = html! {
        p { code { (line(&view.capability, 64)) } " for " (line(&view.destination, 80)) ", of the run " code { (view.run) } }
        p {
            @if view.used.is_some() { "What uses it now is ended at once. " }
            "The run can ask for another one; end the run to stop that."
        }
    };
    let question = Question {
        asks: "Take this lease back?",
        told,
        to: &format!("/leases/{lease}/revoke"),
        hidden: html! {},
        act: ("Take it back", "Taking back…"),
        leave: ("Leave it", "/leases"),
    };
    Ok(page(by.caller(), Place::Leases, "Take a lease back", &question.card()).into_response())
}

async fn revoke(
    by: Viewer<LeasesRevoke>,
    State(app): State<App>,
    LeaseIn(lease): LeaseIn,
) -> Result<Response, Trouble> {
    match leases::revoke(&app, by.caller(), &lease).await {
        Ok(revoked) if !revoked.use_ended => {
            let told = html! {
                div.card.alone {
                    h1 { "Taken back" }
                    p { "Nothing new is done by it. What uses it is told to end, and nobody has said yet that it has." }
                    p { a.button href="/leases" autofocus { "To the leases" } }
                }
            };
            return Ok(page(by.caller(), Place::Leases, "A lease is taken back", &told).into_response());
        }
        Ok(_) => {}
        // Its time, its end or someone else was faster: it is as wished.
        Err(Fault { status: StatusCode::CONFLICT, .. }) => {}
        Err(fault) => return Err(fault.into()),
    }
    Ok(Redirect::to("/leases").into_response())
}
