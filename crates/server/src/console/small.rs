//! The small pages: models and evidence.

use super::page::{Place, Trouble, Viewer, page};
use super::text::{line, plain};
use super::words::number;
use crate::app::App;
use crate::guard::Caller;
use crate::guard::right::{EvidenceRead, ModelsManage, ModelsRead};
use crate::models;
use crate::routes::Routes;
use api::http::ModelView;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode};
use maud::{Markup, html};
use model::MicroDollars;
use model::provider::Dialect;
use policy::access::Scope;

pub(super) fn routes() -> Routes {
    Routes::default()
        .add(Method::GET, "/models", "The page of the models.", show_models)
        .add(Method::POST, "/models/{name}/test", "Make the smallest call to a model, from its page.", test_model)
        .add(Method::GET, "/evidence", "The page of the evidence: how far it goes, and where to get it.", show_evidence)
}

async fn show_models(by: Viewer<ModelsRead>, State(app): State<App>) -> Result<Markup, Trouble> {
    models_page(&app, by.caller(), &html! {}).await
}

async fn test_model(
    by: Viewer<ModelsManage>,
    State(app): State<App>,
    Path(name): Path<String>,
) -> Result<Response, Trouble> {
    let (status, well, said) = match models::test(&app, by.caller(), &name).await {
        Ok(tested) => (StatusCode::OK, tested.ok, tested.said),
        Err(fault) => (fault.status, false, fault.problem.message),
    };
    let said = html! {
        p.said.wrong[!well] role=(if well { "status" } else { "alert" }) {
            @if well { "✓ " } @else { "✗ " }
            strong { (line(&name, 64)) } ": "
            (line(&said, 500))
        }
    };
    Ok((status, models_page(&app, by.caller(), &said).await?).into_response())
}

async fn models_page(app: &App, caller: &Caller, said: &Markup) -> Result<Markup, Trouble> {
    let models = models::list(app).await?;
    let set: Vec<String> = app.store.secrets().await?.into_iter().map(|row| row.name).collect();
    let may_test = caller.scopes.holds(Scope::ModelsManage);
    let body = html! {
        h1 { "Models" }
        p.lead { "What runs may think with. Prices are in dollars for a million tokens, and are what a run's budget counts." }
        (said)
        div.table-card {
            table.stack role="table" {
                thead {
                    tr role="row" {
                        @for name in ["Name", "Where", "Key"] { th role="columnheader" { (name) } }
                        @for name in ["$ in", "$ out", "Context"] { th.num role="columnheader" { (name) } }
                        th role="columnheader" { span.visually-hidden { "What can be done" } }
                    }
                }
                tbody {
                    @for model in &models { (model_row(model, &set, may_test)) }
                    @if models.is_empty() {
                        tr role="row" { td.empty role="cell" colspan="7" { "No model yet. " code { "volary model add" } " adds one." } }
                    }
                }
            }
        }
        p.faint { "A test makes the smallest call there is; it costs next to nothing, and is recorded." }
    };
    Ok(page(caller, Place::Models, "Models", &body))
}

fn model_row(model: &ModelView, set: &[String], may_test: bool) -> Markup {
    let speaks = match model.dialect {
        Dialect::Anthropic => "Anthropic Messages",
        Dialect::Openai => "OpenAI",
        Dialect::OpenaiResponses => "OpenAI Responses",
        Dialect::Gemini => "Gemini",
    };
    let price = model.price.unwrap_or_default();
    html! {
        tr role="row" {
            th scope="row" role="rowheader" {
                (line(&model.name, 64))
                div.sub { code { (line(&model.id, 80)) } }
            }
            td role="cell" data-label="Where" {
                div {
                    @if model.base == models::SCRIPT { "scripted, " (model.script.len()) " turns" }
                    @else { code { (line(&model.base, 120)) } }
                    @if model.internal { " " span.chip { "internal" } }
                    div.sub { "speaks " (speaks) }
                }
            }
            td role="cell" data-label="Key" {
                @match &model.secret {
                    None => span.faint { "takes none" },
                    Some(name) => div {
                        code { (line(name, 80)) }
                        div.sub { @if set.contains(name) { span.good { "✓ set" } } @else { a.bad href="/secrets" { "✗ not set" } } }
                    }
                }
            }
            td.num role="cell" data-label="$ in" { (dollars(price.input)) }
            td.num role="cell" data-label="$ out" { (dollars(price.output)) }
            td.num role="cell" data-label="Context" { (number(model.context_tokens)) }
            td.act role="cell" {
                @if may_test {
                    form method="post" action={ "/models/" (model.name) "/test" } {
                        button.small data-busy="Testing…" aria-label={ "Test " (plain(&model.name)) } { "Test" }
                    }
                }
            }
        }
    }
}

fn dollars(m: MicroDollars) -> String {
    let cents = m.0 % 1_000_000 / 10_000;
    format!("{}.{cents:02}", number(m.0 / 1_000_000))
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
