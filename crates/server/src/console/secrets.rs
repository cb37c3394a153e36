//! The secrets: set from a form, deleted after a question, never shown.

use super::form::{Field, Wrong};
use super::page::{Place, Trouble, Viewer, page};
use super::text::{line, plain};
use super::words::moment;
use crate::app::App;
use crate::fault::Fault;
use crate::guard::Caller;
use crate::guard::right::{SecretsDelete, SecretsList, SecretsSet};
use crate::routes::Routes;
use crate::{models, secrets};
use api::grants::WireSecret;
use axum::Form;
use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::{Method, StatusCode};
use maud::{Markup, html};
use policy::access::Scope;
use serde::Deserialize;

pub(super) fn routes() -> Routes {
    Routes::default()
        .add(Method::GET, "/secrets", "The page of the secrets' names; no value.", show)
        .add(Method::POST, "/secrets", "Set a secret, or replace it, from its page.", set)
        .add(Method::GET, "/secrets/delete", "A page that asks before a secret is deleted; changes nothing.", ask)
        .add(Method::POST, "/secrets/delete", "Delete a secret, from its page; its value is lost.", delete)
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Was {
    #[serde(default)]
    set: Option<String>,
    #[serde(default)]
    deleted: Option<String>,
}

async fn show(
    by: Viewer<SecretsList>,
    State(app): State<App>,
    query: Result<Query<Was>, QueryRejection>,
) -> Result<Markup, Trouble> {
    let Query(was) = query.map_err(|_| Fault::bad("query.wrong", "The query takes `set=NAME` or `deleted=NAME`."))?;
    let said = |name: &str, what: &str| html! { p.said role="status" { "✓ " code { (line(name, 80)) } (what) } };
    let said = match (&was.set, &was.deleted) {
        (Some(name), _) => said(name, " is set. Its value is shown nowhere."),
        (None, Some(name)) => said(name, " is deleted."),
        (None, None) => html! {},
    };
    list(&app, by.caller(), "", &said, &Wrong::default()).await
}

async fn list(app: &App, caller: &Caller, name: &str, said: &Markup, wrong: &Wrong) -> Result<Markup, Trouble> {
    let all = secrets::list(app).await?;
    let wanted: Vec<String> = models::list(app).await?.into_iter().filter_map(|model| model.secret).collect();
    let may_delete = caller.scopes.holds(Scope::SecretsDelete);
    let field = |name, label, hint| Field { name, label, hint, wrong };
    let body = html! {
        h1 { "Secrets" }
        p.lead { "A value goes in and never comes out: only the gateway gets it, for one granted call." }
        (said)
        (wrong.above())
        div.table-card {
            table.stack role="table" {
                thead {
                    tr role="row" {
                        th role="columnheader" { "Name" } th role="columnheader" { "Set by" }
                        th role="columnheader" { "Set, UTC" } th.num role="columnheader" { "Version" }
                        th role="columnheader" { span.visually-hidden { "What can be done" } }
                    }
                }
                tbody {
                    @for secret in &all {
                        tr role="row" {
                            th scope="row" role="rowheader" { code { (line(&secret.name, 80)) } }
                            td role="cell" data-label="Set by" { (line(&secret.set_by, 64)) }
                            td role="cell" data-label="Set, UTC" { (moment(secret.set_at)) }
                            td.num role="cell" data-label="Version" { (secret.version) }
                            td.act role="cell" {
                                @if may_delete {
                                    a.button.small href={ "/secrets/delete?name=" (secret.name) }
                                        aria-label={ "Delete " (plain(&secret.name)) } { "Delete" }
                                }
                            }
                        }
                    }
                    @if all.is_empty() { tr role="row" { td.empty role="cell" colspan="5" { "No secret is set." } } }
                }
            }
        }
        form.card.fields method="post" action="/secrets" autocomplete="off" {
            h2 { "Set a secret" }
            (field("name", "Name", html! { "A model's key is " code { "model/" } " and a name. One that is set already gets the new value." })
                .with(|ties| html! {
                    input #name name="name" required maxlength="70" placeholder="model/anthropic" list="names" value=(plain(name))
                        spellcheck="false" autocapitalize="none" autofocus[ties.focus] aria-describedby=(ties.described) aria-invalid=[ties.invalid];
                }))
            datalist #names { @for name in &wanted { option value=(name) {} } }
            (field("value", "Value", html! { "8 to 16,384 printable characters. It is not shown again." }).with(|ties| html! {
                input #value name="value" type="password" required autocomplete="new-password" maxlength="16384" autofocus[ties.focus]
                    aria-describedby=(ties.described) aria-invalid=[ties.invalid];
            }))
            div.row { button.primary data-busy="Setting…" { "Set the secret" } }
        }
    };
    Ok(page(caller, Place::Secrets, "Secrets", &body))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SetForm {
    name: String,
    value: WireSecret,
}

async fn set(
    by: Viewer<SecretsSet>,
    State(app): State<App>,
    form: Result<Form<SetForm>, FormRejection>,
) -> Result<Response, Trouble> {
    // A rejection's own words may repeat what was sent, which may be a value.
    let Form(form) = form.map_err(|_| Fault::bad("body.wrong", "The form takes a `name` and a `value`."))?;
    match secrets::set(&app, by.caller(), form.name.trim(), form.value.0).await {
        Ok(set) => Ok(Redirect::to(&format!("/secrets?set={}", set.name)).into_response()),
        Err(fault) => {
            let status = fault.status;
            let wrong = Wrong::of(fault, &[("secret.name", "name"), ("secret.", "value")])?;
            let page = list(&app, by.caller(), &form.name, &html! {}, &wrong).await?;
            Ok((status, page).into_response())
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    name: String,
}

async fn ask(
    by: Viewer<SecretsDelete>,
    State(app): State<App>,
    query: Result<Query<Named>, QueryRejection>,
) -> Result<Response, Trouble> {
    let Query(Named { name }) = query.map_err(|_| Fault::bad("query.wrong", "The query takes `name=NAME`."))?;
    if !secrets::list(&app).await?.iter().any(|secret| secret.name == name) {
        return Ok(Redirect::to("/secrets").into_response());
    }
    let of_it: Vec<String> = models::list(&app)
        .await?
        .into_iter()
        .filter(|model| model.secret.as_deref() == Some(name.as_str()))
        .map(|model| model.name)
        .collect();
    let body = html! {
        div.card.alone {
            h1 { "Delete this secret?" }
            p { code { (line(&name, 80)) } }
            p {
                "Its value is lost; nobody, you included, can get it back from here."
                @if !of_it.is_empty() { " The next call of a run that uses the model " strong { (line(&of_it.join(", "), 200)) } " is refused." }
            }
            form.row method="post" action="/secrets/delete" {
                input type="hidden" name="name" value=(name);
                button.danger.solid data-busy="Deleting…" { "Delete the secret" }
                a.button href="/secrets" autofocus data-escape { "Keep it" }
            }
        }
    };
    Ok(page(by.caller(), Place::Secrets, "Delete a secret", &body).into_response())
}

async fn delete(
    by: Viewer<SecretsDelete>,
    State(app): State<App>,
    form: Result<Form<Named>, FormRejection>,
) -> Result<Redirect, Trouble> {
    let Form(Named { name }) = form.map_err(|_| Fault::bad("body.wrong", "The form takes a `name`."))?;
    match secrets::remove(&app, by.caller(), &name).await {
        Ok(()) => {}
        // Someone else was faster: it is as wished.
        Err(fault) if fault.status == StatusCode::NOT_FOUND => {}
        Err(fault) => return Err(fault.into()),
    }
    Ok(Redirect::to(&format!("/secrets?deleted={name}")))
}
