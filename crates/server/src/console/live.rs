//! What makes a page live: a stream of pieces of HTML, made by the functions that made the page.
//!
//! The id of an event is the number of the last entry in it. A browser that lost the connection says that number
//! again, and what comes then follows it: nothing is lost, nothing is doubled.

use super::list::{LISTED, ROWS, rows};
use super::page::{Trouble, Viewer};
use super::run::standing;
use super::sheet::{How, Piece};
use super::transcript::Transcript;
use super::{connections, denials, leases, secrets};
use crate::app::App;
use crate::fault::Fault;
use crate::guard::Caller;
use crate::guard::right::{ConnectionsRead, LeasesRead, RunsRead, SecretsList};
use crate::http_api::RunIn;
use crate::routes::Routes;
use crate::{now, runs};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method};
use maud::{PreEscaped, Render, html};
use model::{RunId, RunState};
use serde::Deserialize;
use std::collections::VecDeque;
use std::time::Duration;
use store::chain::Chain;
use store::runs::RawEntry;
use tokio::sync::watch;

/// Entries read at a time.
const READ: u32 = 256;

/// Longest event, in bytes of HTML, but for the last entry in it.
const LONGEST: usize = 256 * 1024;

/// Entries before the place of a (re)connect that are read again to know what is open there.
const LOOK_BACK: u64 = 4_000;

/// A list changes at most this often.
const PACE: Duration = Duration::from_millis(250);

/// How long the stream rests before it looks again whether the session lives.
const REST: Duration = Duration::from_secs(15);

pub(super) fn routes() -> Routes {
    Routes::default()
        .add(Method::GET, "/live", "What changes on the page of all runs, as it changes.", list)
        .add(Method::GET, "/runs/{run}/live", "What a run's page gains after `after`, as it happens.", run)
        .add(Method::GET, "/leases/live", "What changes on the page of the leases, as it changes.", open_leases)
        .add(
            Method::GET,
            "/secrets/live",
            "What changes on the page of the secrets, as it changes; no value.",
            set_secrets,
        )
        .add(
            Method::GET,
            "/connections/live",
            "What changes on the page of the connections, as it changes.",
            all_connections,
        )
}

/// Pieces as our script takes them: a template each, with the id of the slot.
fn data(pieces: Vec<Piece>) -> String {
    let mut joined: Vec<Piece> = Vec::with_capacity(pieces.len());
    for piece in pieces {
        match joined.last_mut() {
            Some(last) if last.to == piece.to && piece.how == How::Append && last.how == How::Append => {
                last.html.0.push_str(&piece.html.0);
            }
            _ => joined.push(piece),
        }
    }
    let mut out = String::new();
    for piece in joined {
        let how = match piece.how {
            How::Append => "append",
            How::Set => "set",
        };
        html! { template data-to=(piece.to) data-how=(how) { (PreEscaped(&piece.html.0)) } }.render_to(&mut out);
    }
    out
}

/// Whether the stream may go on: a browser that signed out hears nothing more.
async fn signed_in(app: &App, caller: &Caller) -> Result<bool, Fault> {
    match &caller.session {
        None => Ok(true),
        Some(hash) => Ok(crate::session::live(app.store.session(hash).await?, now()).is_some()),
    }
}

fn stream<S>(events: S) -> Response
where
    S: futures_util::Stream<Item = Result<Event, Fault>> + Send + 'static,
{
    Sse::new(events).keep_alive(KeepAlive::new().interval(REST)).into_response()
}

/// Tells the script that nothing more comes and it need not come back.
fn last_event(pieces: Vec<Piece>) -> Event {
    // An event without data is none.
    Event::default().event("end").data(format!("{}<!-- -->", data(pieces)))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct From {
    from: u64,
    after: u64,
}

async fn run(
    by: Viewer<RunsRead>,
    State(app): State<App>,
    RunIn(run): RunIn,
    headers: HeaderMap,
    query: Result<Query<From>, QueryRejection>,
) -> Result<Response, Trouble> {
    let Query(From { from, after }) =
        query.map_err(|_| Fault::bad("query.wrong", "The query takes `from=N` and `after=N`."))?;
    runs::get(&app, &run).await?;
    let seen = headers.get("last-event-id").and_then(|id| id.to_str().ok()).and_then(|id| id.parse().ok());
    let after = seen.unwrap_or(after);
    let mut transcript = Transcript::default();
    let mut read = from.saturating_sub(1).max(after.saturating_sub(LOOK_BACK));
    while read < after {
        let limit = u32::try_from(after - read).unwrap_or(READ).min(READ);
        let page = app.store.events(&run, read, limit).await?;
        let Some(last) = page.last() else { break };
        read = last.n;
        for entry in &page {
            transcript.take(entry);
        }
    }
    let news = app.live.subscribe(&run);
    let caller = by.caller().clone();
    // What the page showed when it was made, unless something was said since.
    let view = runs::get(&app, &run).await?;
    let shown = (view.entries <= after).then_some(view.state);
    let follower = Follower { app, run, caller, transcript, after, waiting: VecDeque::new(), news, shown };
    Ok(stream(futures_util::stream::unfold(Some(follower), |follower| async {
        let mut follower = follower?;
        let told = follower.next().await;
        match heard(&follower.app, &follower.caller, told).await {
            Ok(Told::More(event)) => Some((Ok(event), Some(follower))),
            Ok(Told::Last(event)) => Some((Ok(event), None)),
            Err(fault) => Some((Err(fault), None)),
        }
    })))
}

enum Told {
    More(Event),
    Last(Event),
}

/// What a browser hears of this: nothing, if it signed out while it was read.
async fn heard(app: &App, caller: &Caller, told: Result<Told, Fault>) -> Result<Told, Fault> {
    let told = told?;
    Ok(if signed_in(app, caller).await? { told } else { Told::Last(last_event(Vec::new())) })
}

struct Follower {
    app: App,
    run: RunId,
    caller: Caller,
    transcript: Transcript,
    after: u64,
    waiting: VecDeque<RawEntry>,
    news: watch::Receiver<u64>,
    /// The state whose buttons the page has; none before the first look.
    shown: Option<RunState>,
}

impl Follower {
    async fn next(&mut self) -> Result<Told, Fault> {
        loop {
            if !signed_in(&self.app, &self.caller).await? {
                return Ok(Told::Last(last_event(Vec::new())));
            }
            if self.waiting.is_empty() {
                self.news.mark_unchanged();
                self.waiting.extend(self.app.store.events(&self.run, self.after, READ).await?);
            }
            let before = self.after;
            let (mut pieces, refused) = self.pieces();
            if refused {
                let all = crate::denials::list(&self.app, &self.run).await?;
                pieces.push(Piece::set(denials::SLOT, denials::table(&self.run, &all)));
            }
            // Read after the entries, so that it is never behind them.
            let view = runs::get(&self.app, &self.run).await?;
            let scopes = self.caller.scopes;
            if self.after > before {
                pieces.extend(standing(&view, scopes, &mut self.shown));
                return Ok(Told::More(Event::default().id(self.after.to_string()).data(data(pieces))));
            }
            if view.state.is_over() && view.entries <= self.after {
                return Ok(Told::Last(last_event(standing(&view, scopes, &mut self.shown))));
            }
            // Woken by news; or after a while, to see whether the session still lives.
            if let Ok(Err(_)) = tokio::time::timeout(REST, self.news.changed()).await {
                return Ok(Told::Last(last_event(Vec::new())));
            }
        }
    }

    /// The pieces of the entries that wait, up to about [`LONGEST`], and whether the table of refusals changes with them.
    fn pieces(&mut self) -> (Vec<Piece>, bool) {
        let (mut pieces, mut bytes, mut refused) = (Vec::new(), 0, false);
        while bytes < LONGEST
            && let Some(entry) = self.waiting.pop_front()
        {
            self.after = entry.n;
            refused |= denials::touches(&entry);
            let new = self.transcript.take(&entry);
            bytes += new.iter().map(|piece| piece.html.0.len()).sum::<usize>();
            pieces.extend(new);
        }
        (pieces, refused)
    }
}

async fn list(by: Viewer<RunsRead>, State(app): State<App>) -> Result<Response, Trouble> {
    Ok(watch(app, by.caller(), What::Runs))
}

async fn open_leases(by: Viewer<LeasesRead>, State(app): State<App>) -> Result<Response, Trouble> {
    Ok(watch(app, by.caller(), What::Leases))
}

async fn set_secrets(by: Viewer<SecretsList>, State(app): State<App>) -> Result<Response, Trouble> {
    Ok(watch(app, by.caller(), What::Secrets))
}

async fn all_connections(by: Viewer<ConnectionsRead>, State(app): State<App>) -> Result<Response, Trouble> {
    Ok(watch(app, by.caller(), What::Connections))
}

fn watch(app: App, caller: &Caller, what: What) -> Response {
    let chain = app.store.chain();
    let watcher = Watcher { app, caller: caller.clone(), what, chain, shown: String::new() };
    stream(futures_util::stream::unfold(Some(watcher), |watcher| async {
        let mut watcher = watcher?;
        let told = watcher.next().await;
        match heard(&watcher.app, &watcher.caller, told).await {
            Ok(Told::More(event)) => Some((Ok(event), Some(watcher))),
            Ok(Told::Last(event)) => Some((Ok(event), None)),
            Err(fault) => Some((Err(fault), None)),
        }
    }))
}

/// Whose rows a page shows.
#[derive(Clone, Copy)]
enum What {
    Runs,
    Leases,
    Secrets,
    Connections,
}

/// Every change that a row shows is recorded, so the chain's growth says when to look; what changes with time alone (a token that
/// is over) is seen within [`REST`].
struct Watcher {
    app: App,
    caller: Caller,
    what: What,
    chain: watch::Receiver<Chain>,
    shown: String,
}

impl Watcher {
    async fn next(&mut self) -> Result<Told, Fault> {
        loop {
            if !signed_in(&self.app, &self.caller).await? {
                return Ok(Told::Last(last_event(Vec::new())));
            }
            self.chain.mark_unchanged();
            let pieces = match self.what {
                What::Runs => vec![Piece::set(ROWS, rows(&runs::list(&self.app, LISTED).await?))],
                What::Leases => {
                    let leases::Both { open, ended } = leases::Both::read(&self.app).await?;
                    let open = Piece::set(leases::ROWS, leases::rows(&open, &self.caller));
                    vec![open, Piece::set(leases::ENDED, leases::ended(&ended))]
                }
                What::Secrets => {
                    let all = crate::secrets::list(&self.app).await?;
                    vec![Piece::set(secrets::ROWS, secrets::rows(&all, &self.caller))]
                }
                What::Connections => {
                    let all = crate::connections::list(&self.app, &self.caller).await?;
                    vec![Piece::set(connections::ROWS, connections::rows(&all, &self.caller))]
                }
            };
            let data = data(pieces);
            if data != self.shown {
                self.shown.clone_from(&data);
                return Ok(Told::More(Event::default().data(data)));
            }
            tokio::time::sleep(PACE).await;
            if let Ok(Err(_)) = tokio::time::timeout(REST, self.chain.changed()).await {
                return Ok(Told::Last(last_event(Vec::new())));
            }
        }
    }
}
