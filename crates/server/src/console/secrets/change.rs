//! One value that is set: the page that takes a new one for it, and the one that asks before it is deleted.
//!
//! Read [`ask_value`] and [`rotate`], then [`ask`] and [`delete`].

use super::form::{in_one_line, value_hint};
use super::{and_leases, is_mine};
use crate::app::App;
use crate::console::form::{Field, Question, Wrong};
use crate::console::page::{Place, Trouble, Viewer, page};
use crate::console::text::line;
use crate::fault::Fault;
use crate::guard::Caller;
use crate::guard::right::{SecretsDelete, SecretsSet};
use crate::{models, secrets};
use api::grants::WireSecret;
use api::http::SecretView;
use axum::Form;
use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::StatusCode;
use maud::{Markup, html};
use serde::Deserialize;

/// Which value is meant.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    name: String,
    #[serde(default)]
    mine: bool,
}

impl Named {
    /// Whether there is such a value.
    async fn is_set(&self, app: &App, caller: &Caller) -> Result<bool, Fault> {
        let all = secrets::list(app).await?;
        let is = |secret: &SecretView| match self.mine {
            true => is_mine(secret, caller),
            false => secret.person.is_none(),
        };
        Ok(all.iter().any(|secret| secret.name == self.name && is(secret)))
    }

    /// What says so to a form.
    fn hidden(&self) -> Markup {
        html! {
            input type="hidden" name="name" value=(self.name);
            @if self.mine { input type="hidden" name="mine" value="true"; }
        }
    }

    /// As a heading says it.
    fn shown(&self) -> Markup {
        html! { p { code { (line(&self.name, 80)) } @if self.mine { " " span.chip { "your own" } } } }
    }
}

pub(super) type Asked = Result<Query<Named>, QueryRejection>;

fn named(query: Asked) -> Result<Named, Fault> {
    query
        .map(|Query(named)| named)
        .map_err(|_| Fault::bad("query.wrong", "The query takes `name=NAME` and `mine=true`."))
}

pub(super) async fn ask_value(
    by: Viewer<SecretsSet>,
    State(app): State<App>,
    query: Asked,
) -> Result<Response, Trouble> {
    let named = named(query)?;
    if !named.is_set(&app, by.caller()).await? {
        return Ok(Redirect::to("/secrets").into_response());
    }
    Ok(new_value(by.caller(), &named, &Wrong::default()).into_response())
}

fn new_value(caller: &Caller, named: &Named, wrong: &Wrong) -> Markup {
    let field = Field { name: "value", label: "New value", hint: value_hint(), wrong };
    let body = html! {
        (wrong.above())
        form.card.fields method="post" action="/secrets/rotate" autocomplete="off" {
            h1 { "Replace this secret's value" }
            (named.shown())
            p {
                "From the next call on, the new value is used. A lease that is in use goes on with the old one until its end: "
                a href="/leases" { "take it back" } " if that must not be. Revoke the old one where it was made."
            }
            (named.hidden())
            (field.first_with(|ties| html! {
                input #value name="value" type="password" required autocomplete="new-password" maxlength="16384" autofocus[ties.focus]
                    aria-describedby=(ties.described) aria-invalid=[ties.invalid];
            }))
            div.row {
                button.primary data-busy="Replacing…" { "Replace the value" }
                a.button href="/secrets" data-escape { "Keep it" }
            }
        }
    };
    page(caller, Place::Secrets, "Replace a secret", &body)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RotateForm {
    name: String,
    #[serde(default)]
    mine: bool,
    value: WireSecret,
}

pub(super) async fn rotate(
    by: Viewer<SecretsSet>,
    State(app): State<App>,
    form: Result<Form<RotateForm>, FormRejection>,
) -> Result<Response, Trouble> {
    let Form(form) = form.map_err(|_| Fault::bad("body.wrong", "The form takes `name`, `mine` and `value`."))?;
    let RotateForm { name, mine, value } = form;
    let is_apps = |one: &SecretView| one.name == name && one.kind.as_deref() == Some("github-app");
    let is_apps = secrets::list(&app).await?.iter().any(is_apps);
    if let Err(fault) = in_one_line(&value, is_apps) {
        let status = fault.status;
        let wrong = Wrong::of(fault, &[("secret.", "value")])?;
        return Ok((status, new_value(by.caller(), &Named { name, mine }, &wrong)).into_response());
    }
    match secrets::replace(&app, by.caller(), &name, mine, value.0).await {
        Ok(set) => Ok(Redirect::to(&format!("/secrets?rotated={}", set.name)).into_response()),
        // Someone else deleted it: there is nothing to replace.
        Err(fault) if fault.status == StatusCode::NOT_FOUND => Ok(Redirect::to("/secrets").into_response()),
        Err(fault) => {
            let status = fault.status;
            let wrong = Wrong::of(fault, &[("secret.", "value")])?;
            Ok((status, new_value(by.caller(), &Named { name, mine }, &wrong)).into_response())
        }
    }
}

pub(super) async fn ask(by: Viewer<SecretsDelete>, State(app): State<App>, query: Asked) -> Result<Response, Trouble> {
    let named = named(query)?;
    if !named.is_set(&app, by.caller()).await? {
        return Ok(Redirect::to("/secrets").into_response());
    }
    let of_it: Vec<String> = models::list(&app)
        .await?
        .into_iter()
        .filter(|model| !named.mine && model.secret.as_deref() == Some(named.name.as_str()))
        .map(|model| model.name)
        .collect();
    let told = html! {
        (named.shown())
        p {
            "Its value is lost; nobody, you included, can get it back from here. The leases that are open on it are taken back: what "
            "uses them is ended, and what was minted of it for them is revoked where its vendor allows."
            @if !of_it.is_empty() { " The next call of a run that uses the model " strong { (line(&of_it.join(", "), 200)) } " is refused." }
        }
    };
    let question = Question {
        asks: "Delete this secret?",
        told,
        to: "/secrets/delete",
        hidden: named.hidden(),
        act: ("Delete the secret", "Deleting…"),
        leave: ("Keep it", "/secrets"),
    };
    Ok(page(by.caller(), Place::Secrets, "Delete a secret", &question.card()).into_response())
}

pub(super) async fn delete(
    by: Viewer<SecretsDelete>,
    State(app): State<App>,
    form: Result<Form<Named>, FormRejection>,
) -> Result<Redirect, Trouble> {
    let Form(Named { name, mine }) = form.map_err(|_| Fault::bad("body.wrong", "The form takes `name` and `mine`."))?;
    let leases = match secrets::remove(&app, by.caller(), &name, mine).await {
        Ok(removed) => removed.leases,
        // Someone else was faster: it is as wished.
        Err(fault) if fault.status == StatusCode::NOT_FOUND => 0,
        Err(fault) => return Err(fault.into()),
    };
    Ok(Redirect::to(&format!("/secrets?deleted={name}{}", and_leases(leases))))
}
