//! All runs.

use super::page::{Place, Trouble, Viewer, page};
use super::text::line;
use super::words::{badge, cost, moment, number, span};
use crate::app::App;
use crate::guard::right::RunsRead;
use crate::routes::Routes;
use crate::{now, runs};
use api::http::RunView;
use axum::extract::State;
use http::Method;
use maud::{Markup, html};
use policy::access::Scope;

/// Runs that the page holds at most.
pub const LISTED: u32 = 200;

/// The slot of the table's rows.
pub const ROWS: &str = "rows";

pub(super) fn routes() -> Routes {
    Routes::default().add(Method::GET, "/", "The page of the newest 200 runs.", list)
}

async fn list(by: Viewer<RunsRead>, State(app): State<App>) -> Result<Markup, Trouble> {
    let runs = runs::list(&app, LISTED).await?;
    let body = html! {
        div.head-line {
            h1 { "Runs" }
            span.live-state #live-state role="status" {}
            noscript { a.button href="/" { "Refresh" } }
            @if by.caller().scopes.holds(Scope::RunsCreate) { a.button.primary.right href="/runs/new" { "Start a run" } }
        }
        div.table-card {
            table.runs role="table" data-live="/live" {
                thead {
                    tr {
                        th { "State" } th { "Task" } th.wide { "Model" }
                        th.num.wide { "Tokens" } th.num { "Cost" } th.wide { "Started, UTC" } th.num.wide { "Took" }
                    }
                }
                tbody #(ROWS) { (rows(&runs)) }
            }
        }
        @if runs.len() == LISTED as usize {
            p.faint { "These are the newest " (LISTED) "; " code { "volary runs" } " lists more." }
        }
    };
    Ok(page(by.caller(), Place::Runs, "Runs", &body))
}

/// The rows of the table.
pub fn rows(runs: &[RunView]) -> Markup {
    html! {
        @for run in runs {
            // The roles hold where a narrow screen shows the row as a block.
            tr role="row" {
                td.state role="cell" { (badge(run.state)) }
                td.task role="cell" {
                    a id={ "run-" (run.run) } href={ "/runs/" (run.run) } { (line(&run.task, 200)) }
                    div.sub {
                        code { (run.run) }
                        @if let Some(repo) = &run.repo { " · " (line(repo.rsplit('/').next().unwrap_or(repo), 60)) }
                        span.narrow { " · " (moment(run.created)) }
                    }
                    @if !run.reason.is_empty() && run.reason != run.state.word() { div.sub.reason { (line(&run.reason, 160)) } }
                }
                td.wide role="cell" { @if let Some(model) = &run.model { (line(model, 40)) } @else { span.faint { "–" } } }
                td.num.wide role="cell" { (number(run.usage.total())) }
                td.num.cost role="cell" { (cost(run.cost)) }
                td.wide role="cell" { (moment(run.created)) }
                td.num.wide role="cell" { (took(run)) }
            }
        }
        @if runs.is_empty() {
            tr { td.empty colspan="7" { "No run yet. Start one here, or with " code { "volary run \"the task\"" } "." } }
        }
    }
}

/// How long a run took, or takes.
pub fn took(run: &RunView) -> String {
    span(run.ended.unwrap_or_else(now).since(run.created))
}
