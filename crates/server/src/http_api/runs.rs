//! `/api/runs`

use super::{Body, By, RunIn, RunsCancel, RunsCreate, RunsPause, RunsPropose, RunsRead};
use crate::app::App;
use crate::doors;
use crate::fault::Fault;
use crate::forge::{self, Part, Words};
use crate::guard::{Caller, Door};
use crate::routes::Routes;
use crate::{live, pause, runs};
use api::git::{OpenProposal, PullRequestView};
use api::http::{CreateRun, Input, RunView};
use axum::Json;
use axum::body::Body as Stream;
use axum::extract::{Query, State};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use http::{HeaderMap, Method, StatusCode, header};
use policy::access::Scope;
use serde::Deserialize;
use std::time::Duration;

/// Runs that a list holds at most.
const LISTED: u32 = 500;

pub fn routes() -> Routes {
    Routes::default()
        .add(Method::POST, "/api/runs", "Start a run.", create)
        .takes("CreateRun")
        .answers("RunView")
        .add(Method::GET, "/api/runs", "The newest 500 runs, the newest first.", list)
        .answers("RunView[]")
        .add(Method::GET, "/api/runs/{run}", "One run.", get)
        .answers("RunView")
        .add(
            Method::GET,
            "/api/runs/{run}/events",
            "Its transcript after `after`, as JSON lines; with `follow=true` as server-sent events until it is over; with `hold=true`, too, the run ends when the connection does, which takes the scope runs.cancel and, over the port, a page of our own.",
            events,
        )
        .add(Method::POST, "/api/runs/{run}/cancel", "End it.", cancel)
        .answers("RunView")
        .add(Method::POST, "/api/runs/{run}/pause", "Have it stand still where it is.", hold_still)
        .answers("RunView")
        .add(Method::POST, "/api/runs/{run}/resume", "Let it go on.", go_on)
        .answers("RunView")
        .add(Method::POST, "/api/runs/{run}/propose", "Open a pull request for what it pushed.", propose)
        .answers("PullRequestView")
        .add(Method::POST, "/api/runs/{run}/input", "Bytes for a command's standard input.", input)
        .takes("Input")
}

async fn create(
    by: By<RunsCreate>,
    State(app): State<App>,
    Body(wish): Body<CreateRun>,
) -> Result<(StatusCode, Json<RunView>), Fault> {
    Ok((StatusCode::CREATED, Json(runs::create(&app, &by.caller, wish).await?)))
}

async fn list(_: By<RunsRead>, State(app): State<App>) -> Result<Json<Vec<RunView>>, Fault> {
    runs::list(&app, LISTED).await.map(Json)
}

async fn get(_: By<RunsRead>, State(app): State<App>, RunIn(run): RunIn) -> Result<Json<RunView>, Fault> {
    runs::get(&app, &run).await.map(Json)
}

async fn cancel(by: By<RunsCancel>, State(app): State<App>, RunIn(run): RunIn) -> Result<Json<RunView>, Fault> {
    runs::cancel(&app, &by.caller, &run).await.map(Json)
}

async fn hold_still(by: By<RunsPause>, State(app): State<App>, RunIn(run): RunIn) -> Result<Json<RunView>, Fault> {
    pause::pause(&app, &by.caller, &run).await.map(Json)
}

async fn go_on(by: By<RunsPause>, State(app): State<App>, RunIn(run): RunIn) -> Result<Json<RunView>, Fault> {
    pause::resume(&app, &by.caller, &run).await.map(Json)
}

async fn propose(
    by: By<RunsPropose>,
    State(app): State<App>,
    RunIn(run): RunIn,
    Body(wish): Body<OpenProposal>,
) -> Result<Json<PullRequestView>, Fault> {
    let OpenProposal { title, body } = wish;
    let who = by.caller.person.to_string();
    let said = Words { title: Part::or_agents(title), body: Part::or_agents(body) };
    forge::open(&app, &who, &run, said).await.map(Json)
}

// Input belongs to who may start a run: it is part of what the command does.
async fn input(
    _: By<RunsCreate>,
    State(app): State<App>,
    RunIn(run): RunIn,
    Body(bytes): Body<Input>,
) -> Result<StatusCode, Fault> {
    runs::input(&app, &run, bytes).await.map(|()| StatusCode::NO_CONTENT)
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct From {
    #[serde(default)]
    after: u64,
    #[serde(default)]
    follow: bool,
    #[serde(default)]
    hold: bool,
}

/// Whether who follows a run may hold it: it ends with who does, so that this takes what ending it takes. And it is no mere
/// read: no page but our own makes a browser do it.
fn may_hold(caller: &Caller, view: &RunView, headers: &HeaderMap) -> Result<(), Fault> {
    if view.person != caller.person.to_string() {
        let message = format!("Only {}, who is behind the run {}, can hold it.", view.person, view.run);
        return Err(Fault::conflict("run.hold", message));
    }
    if !caller.scopes.holds(Scope::RunsCancel) {
        let message = format!("To hold a run takes the scope {}, which you do not have.", Scope::RunsCancel);
        return Err(Fault::forbidden(&message));
    }
    match caller.door {
        Door::Home => Ok(()),
        Door::Tcp => doors::of_our_own_page(headers),
    }
}

async fn events(
    by: By<RunsRead>,
    State(app): State<App>,
    RunIn(run): RunIn,
    headers: HeaderMap,
    query: Result<Query<From>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Fault> {
    let wrong = "The query takes `after=N`, `follow=true`, and with that `hold=true`.";
    let Query(from) = query.map_err(|_| Fault::bad("query.wrong", wrong))?;
    let view = runs::get(&app, &run).await?;
    if from.follow {
        if from.hold {
            may_hold(&by.caller, &view, &headers)?;
        }
        let hold = from.hold.then(|| live::hold(&app, &run, view.person));
        // A browser that lost the connection says where it was; that goes before the first wish.
        let seen = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| id.parse().ok());
        let lines = live::follow(&app, &run, seen.unwrap_or(from.after), hold).map(|entry| {
            let entry = entry.map_err(Fault::from)?;
            let line = serde_json::to_string(&entry).map_err(|e| Fault::ours("write an event down", &e))?;
            Ok::<_, Fault>(sse::Event::default().id(entry.n.to_string()).data(line))
        });
        let lines = lines.map(|line| line.map_err(|fault| std::io::Error::other(fault.problem.message)));
        return Ok(Sse::new(lines).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))).into_response());
    }
    let pages = futures_util::stream::try_unfold(from.after, move |after| {
        let (app, run) = (app.clone(), run.clone());
        async move {
            let page = app.store.events(&run, after, 256).await.map_err(std::io::Error::other)?;
            let Some(last) = page.last().map(|entry| entry.n) else { return Ok(None) };
            let mut text = Vec::new();
            for entry in &page {
                serde_json::to_writer(&mut text, entry)?;
                text.push(b'\n');
            }
            Ok::<_, std::io::Error>(Some((text, last)))
        }
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Stream::from_stream(pages)).into_response())
}
