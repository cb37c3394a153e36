//! The forward proxy: everything of a box that is not an endpoint of the door.
//!
//! One request is one expression, read top to bottom in [`through`]: *identify* (which run: its listener says it),
//! *decide* (pure policy, by the table that the server gave), *reserve* and *record* (the server grants, and has
//! recorded it then), *resolve* and *connect* (every address judged, one step), *inject* (last), *scrub* (what comes
//! back), *settle* and *outcome* (when the last byte has passed, or it was broken off).
//!
//! | module | what |
//! |---|---|
//! | `wire`, `shape` | HTTP/1.1 of a box, of which there is one reading |
//! | `request` | what a request names, and whether all places that name it agree |
//! | `run` | what is held of one run: authority, table, connections, count |
//! | `allowances` | many requests of one kind by one word of the server |
//! | `reach`, `resolve` | names to checked addresses to a connection |
//! | `line` | connections kept for the next request of the same run |
//! | `inject` | headers on their way, and the credential |
//! | `given`, `ending` | what hosts were given, and which connections end with a lease |
//! | `body`, `decode` | bodies on their way |
//! | `tunnel`, `hello` | CONNECT: TLS that is opened here, and TLS that is not |
//! | `frames`, `heard` | WebSockets: what the box says, and what the host says |
//! | `streams` | the requests of one HTTP/2 connection |
//! | `flood` | frames of HTTP/2 that carry nothing, of which a connection has a budget |
//! | `resets` | what of them the library refuses by itself, to be recorded |
//! | `authority` | whom the box trusts |
//! | `limits`, `fault` | numbers; what goes wrong outside |

pub(crate) mod allowances;
pub(crate) mod authority;
pub(crate) mod body;
pub(crate) mod decode;
pub(crate) mod ending;
mod fault;
pub(crate) mod flood;
mod frames;
#[cfg(test)]
mod fuzz;
pub(crate) mod given;
mod heard;
mod hello;
mod inject;
pub(crate) mod limits;
mod line;
mod near;
pub(crate) mod reach;
mod request;
mod resets;
mod resolve;
pub(crate) mod run;
pub(crate) mod shape;
mod streams;
pub(crate) mod tunnel;
pub(crate) mod wire;

pub use reach::{Outward, OutwardProxy};
pub(crate) use request::Came;
pub use resolve::system_name_servers;

use crate::Gate;
use crate::call::{self, Answer, Caller, Words};
use crate::decide::sha256_hex;
use crate::refusal::{Refusal, TARGET_CHARS, Trace};
use crate::server::Lost;
use crate::server::egress::{Leave, Said};
use crate::server::leases::Under;
use api::grants::{EgressAsk, EgressCredential, EgressKind};
use body::{Carried, Host, Outgoing, Stopped};
use bytes::Bytes;
use decode::Decoder;
use fault::Fault;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use inject::Facts;
use line::{Key, Line, Unanswered};
use policy::egress::{Allowed, Ask, Form, Handle, Kind, Verdict, judge};
use reach::Way;
use request::Asked;
use run::Known;
use std::sync::Arc;
use std::time::Instant;
use tunnel::{After, Next};

/// Tables that one request is judged by at most, one after the other.
const TABLES: usize = 4;

/// Whether a request on the run's listener is for the forward proxy.
pub(crate) fn is_for<B>(request: &Request<B>) -> bool {
    request.method() == Method::CONNECT || request.uri().scheme().is_some() || request.uri().authority().is_some()
}

/// Answers one request. What is to follow it on the connection (a tunnel, a WebSocket) is left in `next`.
pub(crate) async fn answer(
    gate: &Gate,
    caller: &Caller,
    came: &Came,
    next: &Next,
    request: Request<Incoming>,
) -> Answer {
    let mut trace = Trace::of(&request);
    let ends = request.method() == Method::CONNECT || request.headers().contains_key(header::UPGRADE);
    match through(gate, caller, came, next, request, &mut trace).await {
        Ok(answer) => answer,
        Err(refusal) => {
            let mut answer = call::refuse(caller, refusal, &trace).await;
            if ends {
                // What follows on the connection is no HTTP.
                answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            answer
        }
    }
}

async fn through(
    gate: &Gate,
    caller: &Caller,
    came: &Came,
    next: &Next,
    mut request: Request<Incoming>,
    trace: &mut Trace,
) -> Result<Answer, Refusal> {
    if !gate.server.is_up() {
        return Err(Refusal::record_lost());
    }
    let began = tokio::time::Instant::now();
    let asked = request::read(came, &request)?;
    if asked.form != Form::Connect {
        trace.target = asked.target().chars().take(TARGET_CHARS).collect();
    }
    body::may_be_so_long(request.body())?;
    let granted = grant(gate, caller, &asked, request.method(), request.headers()).await?;
    let way = Way {
        host: asked.host.clone(),
        port: asked.port,
        tls: asked.form == Form::Intercepted,
        internal: granted.allowed.internal,
        one: asked.signs.upgrade,
    };
    let (leave, credential) = match (granted.allowed.kind, granted.leave) {
        (Kind::Intercept, _) => {
            let on = hyper::upgrade::on(&mut request);
            next.set(After::Intercept { on, host: asked.host, port: asked.port });
            return Ok(open_tunnel());
        }
        (_, None) => return Err(Refusal::fault("law.unsettled", "The request was not granted.")),
        (Kind::Tunnel(budget), Some((leave, _))) => {
            let dialled = gate.reach.dial(&way, &granted.known.law).await;
            let (stream, _) = dialled.inspect_err(|no| unanswered(&leave, no))?;
            let on = hyper::upgrade::on(&mut request);
            next.set(After::Tunnel { on, host: asked.host, stream, budget, leave });
            return Ok(open_tunnel());
        }
        (Kind::Read | Kind::Package | Kind::Write { .. }, Some(granted)) => granted,
    };
    trace.grant = Some(leave.grant().to_string());
    let upgrade = asked.signs.upgrade.then(|| hyper::upgrade::on(&mut request));
    let (head, body) = request.into_parts();
    let is_write = matches!(granted.allowed.kind, Kind::Write { .. });
    let run = &caller.egress;
    if let Some(credential) = &credential {
        // Before it leaves: what comes back of it, by this request or another one, is to be known.
        gate.recent.note_minted(&credential.secret, &credential.value.0, credential.until, Instant::now());
        run.given.note(&asked.host, (&credential.secret, &credential.value.0), &gate.recent);
    }
    let under = credential.as_deref().map_or_else(Under::default, |credential| {
        gate.server.under(credential.lease.as_ref(), credential.carried.as_ref(), credential.stored.as_ref())
    });
    let was_given = run.given.scrubber(&asked.host).is_some();
    if upgrade.is_some() && was_given && run.hints_of_hosts.are_spent() {
        return Err(frames::Fault::Told.refusal());
    }
    let prepare = |line: &Line| {
        let mut request = prepare(&asked, &way, &head.method, &head.headers, line, credential.as_deref())?;
        if was_given && credential.is_none() {
            inject::readable(&mut request);
        }
        Ok(request)
    };

    let key = Key { way: way.clone(), law: granted.known.version, handle: handle_sha256(&asked), under: under.clone() };
    let stopped = Stopped::default();
    let body = Outgoing::new(body, leave.clone(), run.spent.clone(), stopped.clone());
    let line = run.lines.take(&key);
    let open = async || run.lines.open(&gate.reach, key.clone(), &granted.known.law).await;
    let exchanging = async {
        let line = match line {
            Some(line) => line,
            None => open().await?,
        };
        exchange(line, prepare, body, open).await
    };
    let exchanged = tokio::select! {
        biased;
        () = under.over() => {
            let why = "Its lease was taken back, its secret was deleted, or the command that had it is over, before the request \
                       was answered.";
            Err(Refusal::denied("lease.over".into(), why.into()))
        }
        exchanged = exchanging => exchanged,
    };
    let (mut response, line) =
        exchanged.map_err(|error| stopped.refusal().unwrap_or(error)).inspect_err(|no| unanswered(&leave, no))?;

    leave.answered(response.status().as_u16());
    if let Some(credential) = &credential {
        // Others may have been given since: this very one is looked for in its own answer.
        run.given.note(&asked.host, (&credential.secret, &credential.value.0), &gate.recent);
    }
    let scrubber = run.given.scrubber(&asked.host);
    let looked_at = is_write || scrubber.is_some();
    let encoding = if looked_at { inject::passable(response.status(), response.headers(), is_write)? } else { None };
    let has_body = head.method != Method::HEAD;
    let headers = inject::answer_headers(response.headers(), encoding.is_some(), scrubber.as_ref(), has_body);
    let status = response.status();
    if let (StatusCode::SWITCHING_PROTOCOLS, Some(on)) = (status, upgrade) {
        let host = hyper::upgrade::on(&mut response);
        let sought = run.given.sought(&asked.host);
        next.set(After::Socket { on, host, line: Box::new(line), leave, sought, trace: std::mem::take(trace) });
        return Ok(switch_protocols(headers));
    }
    if status.is_informational() {
        return Err(Fault::Cut.into());
    }
    let looked_for = run.given.sought(&asked.host).map(|sought| (sought, run.hints_of_hosts.clone()));
    let host = Host { body: response.into_body(), decoder: encoding.map(Decoder::new) };
    let carried =
        Carried::new(host, looked_for, leave, run.spent.clone(), (line, run.lines.clone()), began).begun().await?;
    let mut answer = Response::new(Words::Carried(Box::new(carried)));
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    Ok(answer)
}

/// Has it told with the outcome why there was no answer, where that is something outside.
fn unanswered(leave: &Leave, no: &Refusal) {
    if let Some(fault) = no.unanswered {
        leave.failed(fault);
    }
}

fn open_tunnel() -> Answer {
    Response::new(Words::Own(Full::new(Bytes::new())))
}

fn switch_protocols(mut headers: HeaderMap) -> Answer {
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    let mut answer = Response::new(Words::Own(Full::new(Bytes::new())));
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *answer.headers_mut() = headers;
    answer
}

/// What was granted, and by which table.
struct Granted {
    allowed: Allowed,
    known: Known,
    /// None for a CONNECT that is opened here: each request inside is granted by itself.
    leave: Option<(Leave, Option<Arc<EgressCredential>>)>,
}

/// Decides, and has the server grant and record it.
async fn grant(
    gate: &Gate,
    caller: &Caller,
    asked: &Asked,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Granted, Refusal> {
    let run = &caller.egress;
    let mut known = run.law(&gate.server, &caller.run).await?;
    let mut looked = known.is_fresh();
    for _ in 0..TABLES {
        let ask = Ask {
            form: asked.form,
            method: method.as_str(),
            host: &asked.host,
            port: asked.port,
            path: &asked.path,
            signs: &asked.signs,
        };
        let allowed = match judge(&known.law, &ask) {
            // Nobody is asked about this one, and so nobody would say that the table is an old one.
            Verdict::Allow(Allowed { kind: Kind::Intercept, .. }) if !looked => {
                known = run.refresh(&gate.server, &caller.run).await?;
                looked = true;
                continue;
            }
            Verdict::Allow(allowed) => allowed,
            Verdict::Deny(denial) if looked => {
                let ask = denial.ask();
                return Err(Refusal::policy(denial.rule, denial.why).with_ask(ask).with_next(denial.next));
            }
            Verdict::Deny(_) => {
                // A person may have allowed it a moment ago.
                known = run.refresh(&gate.server, &caller.run).await?;
                looked = true;
                continue;
            }
        };
        if allowed.kind == Kind::Intercept {
            return Ok(Granted { allowed, known, leave: None });
        }
        if matches!(allowed.kind, Kind::Write { .. }) && gate.recent.is_in_address(&asked.path, Instant::now()) {
            let why =
                "The address holds a credential, by its value or its format; only a handle in a header is taken here.";
            return Err(Refusal::policy("write.credential", why));
        }
        if run.given.is_in_head(asked.host.as_str(), &asked.path, headers) {
            let why = "The request holds the value of a secret that this run was given. A value leaves in a handle's place alone.";
            return Err(Refusal::policy("value.misplaced", why));
        }
        caller.tally.may_ask()?;
        let question = question(gate, caller, asked, method, allowed, &known);
        if let Some(kind) = kind(asked, &question, allowed) {
            let (taken, size) = run.allowances.take(&kind, &question.method, &question.target);
            if let Some(reads) = size {
                let ask = for_many(&question, &known, allowed, reads);
                run.allowances.ask(&gate.server, kind, ask);
            }
            if let Some(taken) = taken {
                return Ok(Granted { allowed, known, leave: Some(taken) });
            }
        }
        let at = Instant::now();
        match gate.server.ask_egress(question).await {
            Ok(Said::Granted { leave, credential }) => {
                caller.tally.granted();
                return Ok(Granted { allowed, known, leave: Some((leave, credential.map(Arc::new))) });
            }
            Ok(Said::Law { version, egress }) => {
                known = run.learn(version, &egress, at)?;
                looked = true;
            }
            Ok(Said::Denied { rule, why }) => {
                // What the server could not record is no record.
                if rule != "server.failed" {
                    caller.tally.denied();
                }
                return Err(Refusal::denied(rule, why));
            }
            Err(Lost) => return Err(Refusal::record_lost()),
        }
    }
    Err(Refusal::fault("law.unsettled", "The run's rules change faster than a request can be judged."))
}

fn question(
    gate: &Gate,
    caller: &Caller,
    asked: &Asked,
    method: &Method,
    allowed: Allowed,
    known: &Known,
) -> EgressAsk {
    let (kind, capability) = match allowed.kind {
        Kind::Read | Kind::Package | Kind::Intercept => (EgressKind::Read, None),
        Kind::Tunnel(_) => (EgressKind::Tunnel, None),
        Kind::Write { row } => {
            let kind = if asked.signs.upgrade { EgressKind::Upgrade } else { EgressKind::Write };
            (kind, known.law.write(row).map(|row| row.capability.clone()))
        }
    };
    EgressAsk {
        run: caller.run.clone(),
        law: known.version,
        kind,
        rule: allowed.rule.to_owned(),
        method: method.as_str().chars().take(crate::refusal::METHOD_CHARS).collect(),
        target: asked.target().chars().take(TARGET_CHARS).collect(),
        host: asked.host.to_string(),
        port: asked.port,
        capability,
        handle_sha256: handle_sha256(asked),
        delegated: gate.reach.delegates(&asked.host, allowed.internal.is_some()),
        reads: 0,
    }
}

/// Of which kind a request is, when one allowance may be for many such: it changes nothing, by its method.
fn kind(asked: &Asked, question: &EgressAsk, allowed: Allowed) -> Option<allowances::Kind> {
    let row = match allowed.kind {
        Kind::Read | Kind::Package => None,
        Kind::Write { row } => Some((row, question.handle_sha256.clone()?)),
        Kind::Intercept | Kind::Tunnel(_) => return None,
    };
    let reads = matches!(question.method.as_str(), "GET" | "HEAD") && !asked.signs.upgrade && !asked.signs.body;
    reads.then(|| allowances::Kind {
        host: asked.host.clone(),
        port: asked.port,
        tls: asked.form == Form::Intercepted,
        law: question.law,
        rule: allowed.rule,
        row,
    })
}

/// The question for many requests of the kind that this one is of.
fn for_many(question: &EgressAsk, known: &Known, allowed: Allowed, reads: u32) -> EgressAsk {
    let path = match allowed.kind {
        Kind::Write { row } => known.law.write(row).map(|row| row.path.to_string()),
        _ => None,
    };
    let root = question.target.splitn(4, '/').take(3).collect::<Vec<_>>().join("/");
    let method = if path.is_some() { question.method.clone() } else { "GET".to_owned() };
    EgressAsk { target: format!("{root}{}", path.as_deref().unwrap_or("/")), method, reads, ..question.clone() }
}

fn handle_sha256(asked: &Asked) -> Option<String> {
    match &asked.signs.handle {
        Handle::Shown { handle, .. } => Some(sha256_hex(handle.expose().as_bytes())),
        Handle::None | Handle::Misplaced => None,
    }
}

/// The head as it goes out over a line; the credential goes in last.
fn prepare(
    asked: &Asked,
    way: &Way,
    method: &Method,
    headers: &HeaderMap,
    line: &Line,
    credential: Option<&EgressCredential>,
) -> Result<Request<()>, Refusal> {
    let mut request = inject::outgoing(asked, way, method, headers, line.is_two())?;
    if asked.signs.upgrade {
        request.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        request.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    match (&asked.signs.handle, credential) {
        (Handle::None, None) => {}
        (handle, Some(credential)) => {
            // Inject last: whatever changed the request or its destination after this line would carry the key elsewhere.
            let facts = Facts { way, address: line.address, agreed: asked.agreed };
            inject::inject(&mut request, handle, credential, &facts)?;
        }
        // A handle never leaves, not even where its credential may not go.
        (Handle::Shown { .. } | Handle::Misplaced, None) => {
            return Err(Refusal::policy("inject.none", "There is no credential for this handle."));
        }
    }
    Ok(request)
}

/// Sends a request and waits for the head of its answer; over a new line, when a kept one had ended before the
/// request left.
async fn exchange(
    mut line: Line,
    prepare: impl Fn(&Line) -> Result<Request<()>, Refusal>,
    body: Outgoing,
    again: impl AsyncFnOnce() -> Result<Line, Refusal>,
) -> Result<(Response<Incoming>, Line), Refusal> {
    // While a body goes out its own pauses are bounded.
    let patience = if http_body::Body::is_end_stream(&body) { limits::FIRST_BYTE } else { limits::REQUEST };
    let request = prepare(&line)?.map(|()| body);
    let body = match tokio::time::timeout(patience, line.send(request)).await {
        Err(_) => return Err(Fault::Slow.into()),
        Ok(Ok(response)) => return Ok((response, line)),
        Ok(Err(Unanswered::Cut)) => return Err(Fault::Cut.into()),
        Ok(Err(Unanswered::Stale(request))) => request.into_body(),
    };
    let mut line = again().await?;
    let request = prepare(&line)?.map(|()| body);
    match tokio::time::timeout(patience, line.send(request)).await {
        Err(_) => Err(Fault::Slow.into()),
        Ok(Ok(response)) => Ok((response, line)),
        Ok(Err(_)) => Err(Fault::Cut.into()),
    }
}
