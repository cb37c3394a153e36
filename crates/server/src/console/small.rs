//! The small pages: models, secrets, evidence.

use super::page::{Place, Trouble, Viewer, page};
use super::text::line;
use super::words::{moment, number};
use crate::app::App;
use crate::fault::Fault;
use crate::guard::Caller;
use crate::guard::right::{EvidenceRead, ModelsRead, SecretsList, SecretsSet};
use crate::routes::Routes;
use crate::{models, secrets};
use api::grants::WireSecret;
use api::http::ModelView;
use axum::Form;
use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::{Method, StatusCode};
use maud::{Markup, html};
use model::MicroDollars;
use model::provider::{Dialect, Price};
use serde::Deserialize;

pub(super) fn routes() -> Routes {
    Routes::default()
        .add(Method::GET, "/models", "The page of the models.", show_models)
        .add(Method::GET, "/secrets", "The page of the secrets' names; no value.", show_secrets)
        .add(Method::POST, "/secrets", "Set a secret, or replace it, from its page.", set_secret)
        .add(Method::GET, "/evidence", "The page of the evidence: how far it goes, and where to get it.", show_evidence)
}

async fn show_models(by: Viewer<ModelsRead>, State(app): State<App>) -> Result<Markup, Trouble> {
    let models = models::list(&app).await?;
    let set: Vec<String> = app.store.secrets().await?.into_iter().map(|row| row.name).collect();
    let body = html! {
        h1 { "Models" }
        div.table-card {
            div.scroll tabindex="0" role="group" aria-label="Models" {
                table {
                    thead {
                        tr {
                            th { "Name" } th { "Id" } th { "Speaks" } th { "At" } th { "Key" }
                            th.num { "$ in / M" } th.num { "$ out / M" } th.num { "Context" }
                        }
                    }
                    tbody {
                        @for model in &models { (model_row(model, &set)) }
                        @if models.is_empty() { tr { td.empty colspan="8" { "No model yet." } } }
                    }
                }
            }
        }
        p.faint { code { "volary model add" } " adds one, " code { "volary model test" } " makes the smallest call to one." }
    };
    Ok(page(by.caller(), Place::Models, "Models", &body))
}

fn model_row(model: &ModelView, set: &[String]) -> Markup {
    let speaks = match model.dialect {
        Dialect::Anthropic => "Anthropic Messages",
        Dialect::Openai => "OpenAI Chat Completions",
        Dialect::OpenaiResponses => "OpenAI Responses",
    };
    let price = model.price.unwrap_or_default();
    html! {
        tr {
            th scope="row" { (line(&model.name, 64)) }
            td { code { (line(&model.id, 80)) } }
            td { (speaks) }
            td {
                @if model.base == models::SCRIPT { "scripted, " (model.script.len()) " turns" }
                @else { code { (line(&model.base, 120)) } }
                @if model.internal { " " span.chip { "internal" } }
            }
            td {
                @match &model.secret {
                    None => span.faint { "takes none" },
                    Some(name) => {
                        code { (line(name, 80)) } " "
                        @if set.contains(name) { span.good { "✓ set" } } @else { span.bad { "✗ not set" } }
                    }
                }
            }
            (prices(price))
            td.num { (number(model.context_tokens)) }
        }
    }
}

fn prices(price: Price) -> Markup {
    let dollars = |m: MicroDollars| {
        let cents = m.0 % 1_000_000 / 10_000;
        format!("{}.{cents:02}", number(m.0 / 1_000_000))
    };
    html! { td.num { (dollars(price.input)) } td.num { (dollars(price.output)) } }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Was {
    #[serde(default)]
    set: Option<String>,
}

async fn show_secrets(
    by: Viewer<SecretsList>,
    State(app): State<App>,
    query: Result<Query<Was>, QueryRejection>,
) -> Result<Markup, Trouble> {
    let Query(was) = query.map_err(|_| Fault::bad("query.wrong", "The query takes `set=NAME`."))?;
    let said = was.set.map(|name| html! { p.said role="status" { "✓ " code { (line(&name, 80)) } " is set." } });
    secrets_page(&app, by.caller(), "", &said.unwrap_or_default()).await
}

async fn secrets_page(app: &App, caller: &Caller, name: &str, said: &Markup) -> Result<Markup, Trouble> {
    let all = secrets::list(app).await?;
    let wanted: Vec<String> = models::list(app).await?.into_iter().filter_map(|model| model.secret).collect();
    let body = html! {
        h1 { "Secrets" }
        p.lead { "A value goes in and never comes out: only the gateway gets it, for one granted call." }
        (said)
        div.table-card {
            table {
                thead { tr { th { "Name" } th { "Set by" } th { "Set, UTC" } th.num { "Version" } } }
                tbody {
                    @for secret in &all {
                        tr {
                            th scope="row" { code { (line(&secret.name, 80)) } }
                            td { (line(&secret.set_by, 64)) }
                            td { (moment(secret.set_at)) }
                            td.num { (secret.version) }
                        }
                    }
                    @if all.is_empty() { tr { td.empty colspan="4" { "No secret is set." } } }
                }
            }
        }
        form.card.fields method="post" action="/secrets" autocomplete="off" {
            h2 { "Set a secret" }
            label for="name" { "Name" }
            input #name name="name" required maxlength="70" placeholder="model/anthropic" list="names" value=(name)
                spellcheck="false" autocapitalize="none";
            datalist #names { @for name in &wanted { option value=(name) {} } }
            label for="value" { "Value" }
            input #value name="value" type="password" required autocomplete="new-password" maxlength="16384";
            p.faint { "A name that is set already gets the new value; the old one is gone." }
            button.primary { "Set" }
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

async fn set_secret(
    by: Viewer<SecretsSet>,
    State(app): State<App>,
    form: Result<Form<SetForm>, FormRejection>,
) -> Result<Response, Trouble> {
    // A rejection's own words may repeat what was sent, which may be a value.
    let Form(form) = form.map_err(|_| Fault::bad("body.wrong", "The form takes a `name` and a `value`."))?;
    match secrets::set(&app, by.caller(), &form.name, form.value.0).await {
        Ok(set) => Ok(Redirect::to(&format!("/secrets?set={}", set.name)).into_response()),
        Err(fault) if fault.status == StatusCode::BAD_REQUEST => {
            let said = html! { p.said.wrong role="alert" { "✗ " (fault.problem.message) } };
            let page = secrets_page(&app, by.caller(), &form.name, &said).await?;
            Ok((fault.status, page).into_response())
        }
        Err(fault) => Err(fault.into()),
    }
}

async fn show_evidence(by: Viewer<EvidenceRead>, State(app): State<App>) -> Result<Markup, Trouble> {
    let chain = *app.store.chain().borrow();
    let heads = app.store.heads().await?;
    let hash: String = chain.head.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let body = html! {
        h1 { "Evidence" }
        p.lead { "Everything that was decided, one record linked to the next, under signed heads." }
        dl.card.facts {
            div { dt { "Records" } dd { (number(chain.n)) } }
            div { dt { "Head (SHA-256)" } dd { code.hash { (hash) } } }
            div { dt { "Signed heads" } dd {
                (number(heads.len() as u64))
                @if let Some(last) = heads.last() { span.faint { " · the last covers record " (number(last.n)) } }
            } }
        }
        p { a.button.primary href="/api/evidence" download { "Download the evidence" } }
        p.faint {
            code { "volary verify FILE" } " checks every link and signature without this server, and against the heads that the operator kept."
        }
        @if let Some(last) = heads.last() {
            details.fold { summary { "The last signed head" } pre.text { "\n" (last.note) } }
        }
    };
    Ok(page(by.caller(), Place::Evidence, "Evidence", &body))
}
