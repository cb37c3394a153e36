//! The secrets: set from a form, replaced, deleted after a question, never shown; their rows are live.
//!
//! Read [`show`], [`rows`], then [`form`] (setting one) and [`change`] (replacing and deleting one).

mod change;
mod form;

use super::form::Wrong;
use super::page::{Place, Trouble, Viewer, page};
use super::text::{line, plain};
use super::words::moment;
use crate::app::App;
use crate::fault::Fault;
use crate::guard::Caller;
use crate::guard::right::SecretsList;
use crate::routes::Routes;
use crate::secrets;
use api::http::SecretView;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use change::{ask, ask_value, delete, rotate};
use form::{SetForm, fields, set};
use http::Method;
use maud::{Markup, html};
use policy::access::Scope;
use policy::delivery::TEXT;
use policy::minters::Minter;
use policy::providers::Provider;
use serde::Deserialize;

/// The slot of their rows.
pub const ROWS: &str = "secrets";

pub(super) fn routes() -> Routes {
    Routes::default()
        .add(Method::GET, "/secrets", "The page of the secrets' names; no value.", show)
        .add(Method::POST, "/secrets", "Set a secret, or replace it, from its page.", set)
        .add(Method::GET, "/secrets/rotate", "A page that takes a new value for a secret; shows none.", ask_value)
        .add(Method::POST, "/secrets/rotate", "Put a new value in the place of one that is set, from its page.", rotate)
        .add(Method::GET, "/secrets/delete", "A page that asks before a secret is deleted; changes nothing.", ask)
        .add(Method::POST, "/secrets/delete", "Delete a secret, from its page; its value is lost.", delete)
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Was {
    #[serde(default)]
    set: Option<String>,
    #[serde(default)]
    rotated: Option<String>,
    #[serde(default)]
    deleted: Option<String>,
    /// With `deleted`: how many leases ended with it.
    #[serde(default)]
    leases: u32,
}

async fn show(
    by: Viewer<SecretsList>,
    State(app): State<App>,
    query: Result<Query<Was>, QueryRejection>,
) -> Result<Markup, Trouble> {
    let Query(was) = query.map_err(|_| {
        Fault::bad("query.wrong", "The query takes `set=NAME`, `rotated=NAME` or `deleted=NAME&leases=N`.")
    })?;
    let said = |name: &str, what: &str| html! { p.said role="status" { "✓ " code { (line(name, 80)) } (what) } };
    let ended = format!(" is deleted{}", with_it(was.leases));
    let said = match (&was.set, &was.rotated, &was.deleted) {
        (Some(name), ..) => said(name, " is set. Its value is shown nowhere."),
        (None, Some(name), _) => said(name, " has its new value. It is shown nowhere."),
        (None, None, Some(name)) => said(name, &ended),
        (None, None, None) => html! {},
    };
    list(&app, by.caller(), &SetForm::default(), &said, &Wrong::default()).await
}

async fn list(app: &App, caller: &Caller, was: &SetForm, said: &Markup, wrong: &Wrong) -> Result<Markup, Trouble> {
    let all = secrets::list(app).await?;
    let body = html! {
        div.head-line {
            h1 { "Secrets" }
            span.live-state #live-state role="status" {}
            noscript { a.button href="/secrets" { "Refresh" } }
        }
        p.lead {
            "A value goes in and never comes out. A managed key goes into requests to its provider's hosts, by the gateway, "
            "and into no box."
        }
        (said)
        (wrong.above())
        div.table-card {
            table.stack role="table" data-live="/secrets/live" {
                thead {
                    tr role="row" {
                        @for name in ["Name", "Set by", "Set, UTC", "Last used, UTC"] { th role="columnheader" { (name) } }
                        th.num role="columnheader" { "Version" }
                        th role="columnheader" { span.visually-hidden { "What can be done" } }
                    }
                }
                tbody #(ROWS) { (rows(&all, caller)) }
            }
        }
        @if caller.scopes.holds(Scope::SecretsSet) { (fields(app, was, wrong).await?) }
    };
    Ok(page(caller, Place::Secrets, "Secrets", &body))
}

/// What is said of the leases that ended with a value.
pub(super) fn with_it(leases: u32) -> String {
    match leases {
        0 => ".".to_owned(),
        1 => ", and the lease that was open on it is taken back.".to_owned(),
        n => format!(", and the {n} leases that were open on it are taken back."),
    }
}

/// The same in the address of the page that says it.
pub(super) fn and_leases(leases: u32) -> String {
    if leases == 0 { String::new() } else { format!("&leases={leases}") }
}

/// The rows of the values that are set.
pub fn rows(all: &[SecretView], caller: &Caller) -> Markup {
    html! {
        @for secret in all { (row(secret, caller)) }
        @if all.is_empty() { tr role="row" { td.empty role="cell" colspan="6" { "No secret is set." } } }
    }
}

/// Whether a value is this person's own.
fn is_mine(secret: &SecretView, caller: &Caller) -> bool {
    secret.person.as_deref() == Some(caller.person.as_str())
}

fn row(secret: &SecretView, caller: &Caller) -> Markup {
    let mine = is_mine(secret, caller);
    let of_it = format!("name={}{}", secret.name, if mine { "&mine=true" } else { "" });
    // Another person's value is theirs to replace and to delete.
    let ours = mine || secret.person.is_none();
    let spoken = format!("{}{}", plain(&secret.name), if mine { ", your own value" } else { "" });
    html! {
        tr role="row" {
            th scope="row" role="rowheader" {
                code { (line(&secret.name, 80)) }
                div.sub {
                    @match (&secret.kind, secret.managed) {
                        (Some(kind), _) if secret.minter.is_some() => {
                            span.chip { "minted from" } " " (line(kind, 40)) ": " (ends(kind))
                        }
                        (Some(kind), false) if kind == TEXT => { span.chip { "custom" } " a text, for a command's file or standard input" }
                        (Some(kind), _) => { span.chip { "managed" } " " (line(kind, 40)) ", for " (hosts(kind)) }
                        (None, true) if secret.name.starts_with("registry/") => { span.chip { "managed" } " a registry's sign-in" }
                        (None, true) => { span.chip { "managed" } " a model's key" }
                        (None, false) => span.chip { "custom" },
                    }
                    @if mine { " " span.chip { "your own" } }
                    @else if let Some(person) = &secret.person { " " span.chip { "of " (line(person, 64)) } }
                    @else if secret.personal { " · people may have their own in its place" }
                }
            }
            td role="cell" data-label="Set by" { span.keep { (line(&secret.set_by, 64)) } }
            td role="cell" data-label="Set, UTC" { (moment(secret.set_at)) }
            td role="cell" data-label="Last used, UTC" {
                @match secret.last_used { Some(at) => (moment(at)), None => span.faint { "never" } }
            }
            td.num role="cell" data-label="Version" { (secret.version) }
            td.act role="cell" {
                @if ours && caller.scopes.holds(Scope::SecretsSet) {
                    a.button.small #{ "replace-" (of_it) } href={ "/secrets/rotate?" (of_it) } aria-label={ "Replace " (spoken) } { "Replace" }
                    " "
                }
                @if ours && caller.scopes.holds(Scope::SecretsDelete) {
                    a.button.small #{ "delete-" (of_it) } href={ "/secrets/delete?" (of_it) } aria-label={ "Delete " (spoken) } { "Delete" }
                }
            }
        }
    }
}

fn hosts(kind: &str) -> String {
    Provider::of(kind).map_or_else(|| "no host".to_owned(), |provider| provider.hosts.join(", "))
}

/// What becomes of what is minted of a key.
fn ends(kind: &str) -> &'static str {
    match Minter::of(kind) {
        Some(minter) if minter.revocable => "each lease has a narrower one, which is revoked at its end",
        Some(_) => "each lease has a narrower one, which ends by itself",
        None => "of a kind that is known no more",
    }
}
