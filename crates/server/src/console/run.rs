//! One run: its transcript, its totals, and its end by a person.

use super::form::Question;
use super::list::took;
use super::page::{Place, Trouble, Viewer, page};
use super::sheet::{LOG, Piece, Sheet};
use super::text::{line, plain, shown};
use super::transcript::Transcript;
use super::words::{badge, cost, moment, number};
use super::{blocks, denials, proposal};
use crate::app::App;
use crate::fault::Fault;
use crate::guard::right::{RunsCancel, RunsPause, RunsRead};
use crate::http_api::RunIn;
use crate::routes::Routes;
use crate::{pause, runs};
use api::http::RunView;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use http::{Method, StatusCode};
use maud::{Markup, html};
use model::run::RunKind;
use model::{RunId, RunState};
use policy::access::{Scope, Scopes};
use serde::Deserialize;

/// Entries of a transcript that one page holds.
pub const PAGE: u64 = 500;

pub(super) fn routes() -> Routes {
    Routes::default()
        .add(Method::GET, "/runs/{run}", "The page of a run: the last 500 entries, or those from `from`.", show)
        .add(Method::GET, "/runs/{run}/cancel", "A page that asks before a run is ended; changes nothing.", ask)
        .add(Method::POST, "/runs/{run}/cancel", "End a run, from its page.", cancel)
        .add(Method::POST, "/runs/{run}/pause", "Have a run stand still, from its page.", hold_still)
        .add(Method::POST, "/runs/{run}/resume", "Let a run go on, from its page.", go_on)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct From {
    #[serde(default)]
    from: Option<u64>,
}

async fn show(
    by: Viewer<RunsRead>,
    State(app): State<App>,
    RunIn(run): RunIn,
    query: Result<Query<From>, QueryRejection>,
) -> Result<Markup, Trouble> {
    let Query(query) = query.map_err(|_| Fault::bad("query.wrong", "The query takes `from=N`."))?;
    let view = runs::get(&app, &run).await?;
    let tail = view.entries.saturating_sub(PAGE) + 1;
    let first = query.from.unwrap_or(tail).clamp(1, tail);
    let entries = runs::events_after(&app, &run, first - 1, PAGE as u32).await?;
    let last = entries.last().map_or(first - 1, |entry| entry.n);

    let mut transcript = Transcript::default();
    let mut sheet = Sheet::default();
    for entry in &entries {
        sheet.apply(transcript.take(entry));
    }
    if last < view.entries {
        sheet.apply(transcript.leave(&blocks::continued()));
    }
    let refused = crate::denials::list(&app, &run).await?;
    let proposal = proposal::card(&app, &view, by.caller().scopes).await?;
    let live =
        (last >= view.entries && !view.state.is_over()).then(|| format!("/runs/{run}/live?from={first}&after={last}"));
    let pages = pages(&view, first, last);
    let body = html! {
        header.run {
            div.run-line {
                span #state { (badge(view.state)) }
                h1 title=(view.run) { (line(&view.task, 200)) }
                span.live-state #live-state role="status" {}
                span.actions #actions { (actions(&view, by.caller().scopes)) }
            }
            div.totals #totals { (totals(&view)) }
        }
        (about(&view))
        (proposal)
        div id=(denials::SLOT) { (denials::table(&run, &refused)) }
        (pages)
        h2.visually-hidden { "Transcript" }
        div.log #(LOG) role="log" aria-live="polite" aria-label="Transcript" data-live=[live] data-follow {
            (sheet.write())
        }
        (pages)
        p #end.faint {
            @if last < view.entries { "This page ends at entry " (number(last)) " of " (number(view.entries)) "." }
            @else { span #count { (number(view.entries)) } " entries." }
        }
    };
    let title = format!("{} · {}", view.state.word(), plain(&view.task.chars().take(60).collect::<String>()));
    Ok(page(by.caller(), Place::Runs, &title, &body))
}

/// The pieces of a run's page that are not its transcript, as they are now; `shown` is the state of its buttons.
pub fn standing(view: &RunView, scopes: Scopes, shown: &mut Option<RunState>) -> Vec<Piece> {
    let mut pieces = vec![Piece::set("state", badge(view.state)), Piece::set("totals", totals(view))];
    pieces.push(Piece::set("count", html! { (number(view.entries)) }));
    // While the state is the same its buttons stay as they are: one of them may have the keyboard.
    if shown.replace(view.state) != Some(view.state) {
        pieces.push(Piece::set("actions", actions(view, scopes)));
    }
    pieces
}

fn totals(view: &RunView) -> Markup {
    let figure = |name: &str, value: &Markup| html! { div { dt { (name) } dd { (value) } } };
    html! {
        dl {
            (figure("Model calls", &html! { (number(view.calls)) }))
            (figure("Tokens in", &html! { (number(view.usage.total().saturating_sub(view.usage.output))) }))
            (figure("Tokens out", &html! { (number(view.usage.output)) }))
            (figure("Cost", &html! { (cost(view.cost)) }))
            @if view.state.is_over() { (figure("Took", &html! { (took(view)) })) }
            @if view.attempts > 1 { (figure("Attempts", &html! { (view.attempts) })) }
        }
        @if !view.reason.is_empty() && view.reason != view.state.word() { p.reason title=(plain(&view.reason)) { (line(&view.reason, 300)) } }
    }
}

fn actions(view: &RunView, scopes: Scopes) -> Markup {
    let (act, text, busy) = match view.state {
        RunState::Paused => ("resume", "Resume", "Resuming…"),
        _ => ("pause", "Pause", "Pausing…"),
    };
    html! {
        a.button href="#end" { "To the end" }
        @if !view.state.is_over() {
            noscript { a.button href={ "/runs/" (view.run) "#end" } { "Refresh" } }
            @if scopes.holds(Scope::RunsPause) {
                // One id for both, so that the keyboard stays where it is.
                form.inline method="post" action={ "/runs/" (view.run) "/" (act) } { button #hold data-busy=(busy) { (text) } }
            }
            @if scopes.holds(Scope::RunsCancel) { a.button.danger #cancel href={ "/runs/" (view.run) "/cancel" } { "Cancel run" } }
        }
    }
}

/// What does not change while it runs.
fn about(view: &RunView) -> Markup {
    let kind = match view.kind {
        RunKind::Agent => "agent",
        RunKind::Exec => "command",
    };
    html! {
        dl.about {
            div { dt { "Run" } dd { code { (view.run) } } }
            div { dt { "Kind" } dd { (kind) } }
            @if let Some(repo) = &view.repo { div { dt { "Repository" } dd { code { (line(repo, 200)) } } } }
            @if let Some(model) = &view.model { div { dt { "Model" } dd { (line(model, 64)) } } }
            div { dt { "Profile" } dd { (line(&view.profile, 64)) } }
            div { dt { "By" } dd { (line(&view.person, 64)) } }
            div { dt { "Started, UTC" } dd { (moment(view.created)) } }
        }
    }
}

fn pages(view: &RunView, first: u64, last: u64) -> Markup {
    if first <= 1 && last >= view.entries {
        return html! {};
    }
    let run = &view.run;
    html! {
        nav.pages aria-label="Pages of the transcript" {
            @if first > 1 { a.button href={ "/runs/" (run) "?from=" (first.saturating_sub(PAGE).max(1)) } { "← Earlier" } }
            span.faint { "entries " (number(first)) " to " (number(last)) " of " (number(view.entries)) }
            @if last < view.entries {
                a.button href={ "/runs/" (run) "?from=" (last + 1) } { "Later →" }
                " " a.button href={ "/runs/" (run) } { "Latest" }
            }
        }
    }
}

async fn ask(by: Viewer<RunsCancel>, State(app): State<App>, RunIn(run): RunIn) -> Result<Response, Trouble> {
    let view = runs::get(&app, &run).await?;
    if view.state.is_over() {
        return Ok(Redirect::to(&format!("/runs/{run}#end")).into_response());
    }
    let told = html! {
        blockquote { pre.prose { "\n" (shown(&view.task.chars().take(2_000).collect::<String>())) } }
        p { "Its box is ended at once, with every process in it. The transcript so far is kept, and what it has changed in a repository becomes its branch." }
    };
    let question = Question {
        asks: "Cancel this run?",
        told,
        to: &format!("/runs/{run}/cancel"),
        hidden: html! {},
        act: ("Cancel the run", "Cancelling…"),
        leave: ("Let it run", &format!("/runs/{run}")),
    };
    Ok(page(by.caller(), Place::Runs, "Cancel a run", &question.card()).into_response())
}

async fn cancel(by: Viewer<RunsCancel>, State(app): State<App>, RunIn(run): RunIn) -> Result<Response, Trouble> {
    match runs::cancel(&app, by.caller(), &run).await {
        Ok(_) => {}
        // It ended while the person looked at the question: there is nothing left to do.
        Err(fault) if fault.status == StatusCode::CONFLICT => {}
        Err(fault) => return Err(fault.into()),
    }
    Ok(Redirect::to(&format!("/runs/{run}#end")).into_response())
}

async fn hold_still(by: Viewer<RunsPause>, State(app): State<App>, RunIn(run): RunIn) -> Result<Response, Trouble> {
    held(&run, pause::pause(&app, by.caller(), &run).await)
}

async fn go_on(by: Viewer<RunsPause>, State(app): State<App>, RunIn(run): RunIn) -> Result<Response, Trouble> {
    held(&run, pause::resume(&app, by.caller(), &run).await)
}

/// Back to the run's page, which says how it stands; also when it ended before the person's word came.
fn held(run: &RunId, done: Result<RunView, Fault>) -> Result<Response, Trouble> {
    match done {
        Err(fault) if fault.status != StatusCode::CONFLICT => Err(fault.into()),
        _ => Ok(Redirect::to(&format!("/runs/{run}#end")).into_response()),
    }
}
