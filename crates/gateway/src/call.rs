//! One call, from its request to its answer: the stack, read top to bottom.

use crate::connect::{Scripted, Target};
use crate::decide::{Call, Room, decide};
use crate::door::OnTheClock;
use crate::egress::body::Carried;
use crate::meter::Meter;
use crate::refusal::{Kind, Refusal, Trace};
use crate::relay::Relayed;
use crate::server::{Granted, Lost, Word};
use crate::spare::{Connection, Key, Spares, Unanswered};
use crate::tally::Tally;
use crate::{Gate, egress, inject, relay};
use api::grants::{ModelCall, Place};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use model::RunId;
use model::profile::Sought;
use serde::Serialize;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

/// Who calls, as its listener says.
pub(crate) struct Caller {
    pub(crate) run: RunId,
    pub(crate) room: Room,
    pub(crate) tally: Tally,
    pub(crate) spares: Arc<Spares>,
    pub(crate) egress: egress::run::Run,
    /// What it may take for git.
    pub(crate) git: crate::git::Share,
}

/// What a client gets.
pub(crate) type Answer = Response<Words>;

/// The body of an answer: our own words, a provider's, or another host's.
pub(crate) enum Words {
    Own(Full<Bytes>),
    Model(Box<Relayed>),
    Carried(Box<Carried>),
    Git(Box<crate::git::Reply>),
}

impl Body for Words {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut *self {
            Self::Own(words) => Pin::new(words).poll_frame(cx).map_err(|never| match never {}),
            Self::Model(words) => Pin::new(&mut **words).poll_frame(cx),
            Self::Carried(words) => Pin::new(&mut **words).poll_frame(cx),
            Self::Git(words) => Pin::new(&mut **words).poll_frame(cx),
        }
    }
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(words) => words.is_end_stream(),
            Self::Model(words) => words.is_end_stream(),
            Self::Carried(words) => words.is_end_stream(),
            Self::Git(words) => words.is_end_stream(),
        }
    }
    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(words) => words.size_hint(),
            Self::Model(words) => words.size_hint(),
            Self::Carried(words) => words.size_hint(),
            Self::Git(words) => words.size_hint(),
        }
    }
}

/// Answers one request of a run. A refusal's record is on its way to the server before the answer is.
pub(crate) async fn answer(gate: &Gate, caller: &Caller, clock: OnTheClock, request: Request<Incoming>) -> Answer {
    let mut trace = Trace::of(&request);
    match through(gate, caller, clock, request, &mut trace).await {
        Ok(response) => response.map(|body| Words::Model(Box::new(body))),
        Err(refusal) => refuse(caller, refusal, &trace).await,
    }
}

/// The gateway's own answer in JSON to a question of an agent, or the refusal of it.
pub(crate) async fn own<T: Serialize>(caller: &Caller, said: Result<T, Refusal>, trace: &Trace) -> Answer {
    match said {
        Ok(said) => {
            let body = serde_json::to_vec(&said).expect("ids, numbers and texts are JSON");
            let mut answer = Response::new(Words::Own(Full::new(body.into())));
            answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            answer
        }
        Err(refusal) => refuse(caller, refusal, trace).await,
    }
}

/// The answer that says no. Its record is on its way to the server before the answer is.
pub(crate) async fn refuse(caller: &Caller, refusal: Refusal, trace: &Trace) -> Answer {
    let refusal = match refusal.kind {
        Kind::Policy => match caller.tally.record(trace.refused(&refusal)).await {
            Ok(()) => refusal,
            Err(Lost) => Refusal::record_lost(),
        },
        Kind::Denied | Kind::Fault => refusal,
    };
    refusal.answer().map(Words::Own)
}

async fn through(
    gate: &Gate,
    caller: &Caller,
    clock: OnTheClock,
    request: Request<Incoming>,
    trace: &mut Trace,
) -> Result<Response<Relayed>, Refusal> {
    if !gate.server.is_up() {
        return Err(Refusal::record_lost());
    }
    let run = &caller.run;
    let mut call = decide(request, &caller.room, trace).await?;
    caller.tally.may_ask()?;
    let Granted { mut lease, upstream, sought } = match gate.server.ask(question(run, &call)).await {
        Ok(Word::Granted(granted)) => {
            caller.tally.granted();
            *granted
        }
        Ok(Word::Denied { rule, why }) => {
            // What the server could not record is no record.
            if rule != "server.failed" {
                caller.tally.denied();
            }
            return Err(Refusal::denied(rule, why));
        }
        Err(Lost) => return Err(Refusal::record_lost()),
    };
    // From here on every way out drops the lease, and a dropped lease settles.
    trace.grant = Some(lease.grant().to_string());
    let credential = &upstream.credential.0;
    let own = gate.recent.note(&upstream.secret, credential, Instant::now());
    if !upstream.dialect.takes(call.dialect) {
        return Err(Refusal::policy(
            "model.dialect",
            "This model speaks another wire format than the one of this path.",
        ));
    }
    call.body = readable(gate, caller, &call, sought).await?;
    let to = Target::of(&upstream.place)?;
    let owner = format!("{run}/{}", call.provider);
    let scripted = Scripted { owner: &owner, dialect: call.dialect, credential };
    let spare = upstream_key(&upstream.place, &to).and_then(|key| caller.spares.take(&key, Instant::now()));
    let connection = match spare {
        Some(connection) => connection,
        None => open(gate, &upstream.place, &to, &scripted).await?,
    };
    // A box that may read this host asks it by its name; and it may have been given another credential by that.
    let host = to.name();
    let given =
        || host.as_ref().map(|host| caller.egress.given.note(host, (&upstream.secret, credential), &gate.recent));
    drop(given());
    // Inject last: whatever changed the request or its destination after this line would carry the key elsewhere.
    let request = inject::call(&call, &to, credential)?;
    lease.meter = Some(Meter::new(call.dialect, &call.path, call.body.len()));
    let again = || open(gate, &upstream.place, &to, &scripted);
    let (response, connection) = exchange(connection, request, again).await?;
    lease.status = response.status().as_u16();
    relay::passable(&response)?;
    let scrubber = given().unwrap_or(own);
    let kept = (caller.spares.clone(), caller.egress.hints_of_models.clone());
    Ok(relay::relay(response, connection, kept, lease, &scrubber, clock))
}

/// The body as a model may read it, whatever the agent found in its files. Looked through beside the thread that serves.
///
/// # Errors
/// When that did not come to its end; then nothing may leave.
async fn readable(gate: &Gate, caller: &Caller, call: &Call, sought: Sought) -> Result<Bytes, Refusal> {
    let (recent, body, room) = (gate.recent.clone(), call.body.clone(), call.room.clone());
    let work = move || {
        let clean = recent.of_a_request(&body, sought, Instant::now());
        // It keeps its room as long as it is held here.
        drop(room);
        clean.map_or(body, Bytes::from)
    };
    let unread = || Refusal::fault("model.body", "The request's body could not be looked through for credentials.");
    let clean = caller.room.judge(work).await.ok_or_else(unread)?;
    if clean.len() > longest(call.body.len()) {
        let why = "What hides the credentials in this request makes it longer than what was set aside for it.";
        return Err(Refusal::policy("body.hidden", why));
    }
    Ok(clean)
}

/// How long placeholders may make a body for which a call was granted, in bytes: a quarter more, and a few short secrets.
fn longest(granted: usize) -> usize {
    granted.saturating_add(granted / 4).saturating_add(4096)
}

/// Under which name a connection to this place is kept; none for a script, whose connection is its turns.
fn upstream_key(place: &Place, to: &Target) -> Option<Key> {
    match place {
        Place::Url { internal, .. } => Some(Key { to: to.clone(), internal: *internal }),
        Place::Script { .. } => None,
    }
}

/// A new connection to a place that was granted.
///
/// # Errors
/// Those of [`crate::connect::Outlet::connect`].
pub(crate) async fn open(
    gate: &Gate,
    place: &Place,
    to: &Target,
    scripted: &Scripted<'_>,
) -> Result<Connection, Refusal> {
    let wire = gate.outlet.connect(&gate.reach, place, to, scripted).await?;
    Connection::open(wire, upstream_key(place, to)).await.map_err(cut)
}

/// Sends a request and waits for the head of its answer. If the connection was a kept one that had ended
/// before the request left, the request goes over one that `again` opens.
///
/// # Errors
/// A fault when the provider breaks off, and those of `again`.
pub(crate) async fn exchange(
    mut connection: Connection,
    request: Request<Full<Bytes>>,
    again: impl AsyncFnOnce() -> Result<Connection, Refusal>,
) -> Result<(Response<Incoming>, Connection), Refusal> {
    let request = match connection.send(request).await {
        Ok(response) => return Ok((response, connection)),
        Err(Unanswered::Cut(error)) => return Err(cut(error)),
        Err(Unanswered::Stale(request)) => *request,
    };
    let mut connection = again().await?;
    match connection.send(request).await {
        Ok(response) => Ok((response, connection)),
        Err(Unanswered::Cut(error)) => Err(cut(error)),
        Err(Unanswered::Stale(_)) => Err(Refusal::fault("upstream.cut", CUT)),
    }
}

const CUT: &str = "The model provider broke off before it answered.";

fn cut(error: hyper::Error) -> Refusal {
    tracing::warn!(%error, "a model provider broke off");
    Refusal::fault("upstream.cut", CUT)
}

fn question(run: &RunId, call: &Call) -> ModelCall {
    ModelCall {
        run: run.clone(),
        handle_sha256: call.handle_sha256.clone(),
        provider: call.provider.clone(),
        path: call.path.clone(),
        model: call.asked.model.clone(),
        max_output_tokens: call.asked.max_output_tokens,
        input_tokens_at_most: call.body.len() as u64,
        body_sha256: call.body_sha256.clone(),
        long_cache: call.asked.long_cache,
    }
}
