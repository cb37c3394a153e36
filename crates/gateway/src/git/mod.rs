//! `/git/{repository}`: a repository of the run's list, fetched from and pushed to over git's own HTTP.
//!
//! A box names the repository by its id and shows its handle; where that is and what opens it the server says, request by
//! request, and has recorded it then. What is fetched streams through. A push is held: its updates are judged, its pack is
//! read, what it changes is listed against what the upstream has, the server grants and records that very list, and only
//! then does it go on, in words of our own.
//!
//! | module | what |
//! |---|---|
//! | `pkt` | git's lines |
//! | `push` | updates, and the reports on them |
//! | `pack` | a pack's commits and trees |
//! | `look` | what the upstream has |
//! | `changes` | the list |
//! | `upstream` | the way there, and the credential |
//! | `reply` | what is fetched, on its way back |
//!
//! Read [`answer`], then `fetch` and `pushed`.

mod changes;
mod look;
mod pack;
mod pkt;
mod push;
mod reply;
mod upstream;

pub(crate) use reply::Reply;

use crate::Gate;
use crate::call::{Answer, Caller, Words};
use crate::decide::sha256_hex;
use crate::egress::wire;
use crate::refusal::{Kind, Refusal, Trace};
use crate::server::Lost;
use crate::server::git::{Granted, Said};
use api::git::{GitAct, GitAsk, GitPush, NAMED_BYTES, NAMED_PATHS};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use changes::Unlisted;
use flate2::bufread::GzDecoder;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use pack::Packed;
use pkt::{Lines, Oid};
use policy::egress::signs;
use push::{Asked, Update};
use std::collections::BTreeSet;
use std::io::Read as _;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use upstream::{Upstream, Wanted};

/// Longest body of a fetch, unpacked, in bytes.
pub(crate) const MAX_FETCH: usize = 8 << 20;
/// Longest push: updates and pack, in bytes.
pub(crate) const MAX_PUSH: usize = 64 << 20;
/// Longest list of references before a push, in bytes.
const MAX_OFFER: usize = 32 << 20;
/// Longest report on a push, in bytes.
const MAX_REPORT: usize = 1 << 20;
/// How long a box may take for a body. It comes over loopback.
const BODY: Duration = Duration::from_secs(120);
/// How long a body may stand still.
const STILL: Duration = Duration::from_secs(30);
/// Bodies of all runs that are held at once, in MiB.
static HELD: Semaphore = Semaphore::const_new(512);
/// Packs that are read at once, over all runs.
static READERS: Semaphore = Semaphore::const_new(2);

/// Whether a request is for a repository.
pub(crate) fn is_for<B>(request: &Request<B>) -> bool {
    request.uri().path().starts_with("/git/")
}

/// What a request wants of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    FetchList,
    Fetch,
    PushList,
    Push,
}

impl What {
    /// Takes a target apart: the id, and what follows it.
    fn of(method: &Method, path: &str, query: Option<&str>) -> Result<(String, Self), Refusal> {
        let rest = path.strip_prefix("/git/").unwrap_or_default();
        let (id, rest) = rest.split_once('/').unwrap_or((rest, ""));
        let id = id.strip_suffix(".git").unwrap_or(id);
        if !policy::git::is_id(id) {
            return Err(Refusal::policy(
                "git.form",
                "This is no id of a repository; write /git/ID as the remote's address.",
            ));
        }
        let get = method == Method::GET;
        let what = match (rest, query) {
            ("info/refs", Some("service=git-upload-pack")) if get => Self::FetchList,
            ("info/refs", Some("service=git-receive-pack")) if get => Self::PushList,
            ("git-upload-pack", None) if method == Method::POST => Self::Fetch,
            ("git-receive-pack", None) if method == Method::POST => Self::Push,
            _ => {
                let why = "A repository is fetched from and pushed to over git's smart HTTP here, and nothing else.";
                return Err(Refusal::policy("git.form", why));
            }
        };
        Ok((id.to_owned(), what))
    }

    const fn kind(self) -> &'static str {
        match self {
            Self::FetchList => "application/x-git-upload-pack-advertisement",
            Self::Fetch => "application/x-git-upload-pack-result",
            Self::PushList => "application/x-git-receive-pack-advertisement",
            Self::Push => "application/x-git-receive-pack-result",
        }
    }
}

/// Answers one request. A refusal's record is on its way to the server before the answer is.
pub(crate) async fn answer(gate: &Gate, caller: &Caller, request: Request<Incoming>) -> Answer {
    let trace = Trace::of(&request);
    let what = match What::of(request.method(), request.uri().path(), request.uri().query()) {
        Ok((id, what)) => {
            return match through(gate, caller, &id, what, request).await {
                Ok(answer) => answer,
                Err(no) => refuse(caller, no, &trace, Some(what)).await,
            };
        }
        Err(no) => no,
    };
    refuse(caller, what, &trace, None).await
}

/// A refusal in the words that git shows: a line of the protocol where it reads one, plain text where it does not.
async fn refuse(caller: &Caller, refusal: Refusal, trace: &Trace, what: Option<What>) -> Answer {
    let refusal = match refusal.kind {
        Kind::Policy => match caller.tally.record(trace.refused(&refusal)).await {
            Ok(()) => refusal,
            Err(Lost) => Refusal::record_lost(),
        },
        Kind::Denied | Kind::Fault => refusal,
    };
    let Refusal { rule, why, kind, status, .. } = &refusal;
    let words = match kind {
        Kind::Fault => format!("not answered ({rule}): {why} This is a fault, not a rule; it may work later."),
        Kind::Policy | Kind::Denied => format!("refused by policy, rule {rule}: {why}"),
    };
    let (status, kind, body) = match what {
        Some(What::Fetch) => {
            let mut line = Vec::new();
            pkt::line(&mut line, format!("ERR {words}").as_bytes());
            (StatusCode::OK, What::Fetch.kind(), line)
        }
        _ => (*status, "text/plain; charset=utf-8", format!("{words}\n").into_bytes()),
    };
    let mut answer = own(kind, body);
    *answer.status_mut() = status;
    if let Ok(rule) = HeaderValue::from_str(rule) {
        answer.headers_mut().insert("volary-refused", rule);
    }
    answer
}

/// An answer of our own.
fn own(kind: &'static str, body: Vec<u8>) -> Answer {
    let mut answer = Response::new(Words::Own(Full::new(body.into())));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    answer
}

async fn through(
    gate: &Gate,
    caller: &Caller,
    id: &str,
    what: What,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    if !gate.server.is_up() {
        return Err(Refusal::record_lost());
    }
    let (head, body) = request.into_parts();
    let handle_sha256 = handle(&head.headers)?;
    let asking = Asking { gate, caller, id, handle_sha256 };
    match what {
        What::FetchList | What::Fetch => {
            let body = match what {
                What::Fetch => fetch_body(&head.headers, body).await?,
                _ => Bytes::new(),
            };
            let two = head.headers.get("git-protocol").is_some_and(|v| v.as_bytes() == b"version=2");
            fetch(&asking, what, two, body).await
        }
        What::PushList => offer(&asking).await,
        What::Push => {
            let Ok(_turn) = caller.pushes.clone().try_acquire_owned() else {
                return Err(Refusal::fault("git.busy", "This run is pushing already; one push at a time.")
                    .with_status(StatusCode::SERVICE_UNAVAILABLE));
            };
            let (body, _held) = read(&head.headers, body, MAX_PUSH).await?;
            push_held(&asking, body).await
        }
    }
}

/// Who asks for what.
struct Asking<'a> {
    gate: &'a Gate,
    caller: &'a Caller,
    id: &'a str,
    handle_sha256: String,
}

impl Asking<'_> {
    /// Has the server grant and record an act.
    async fn grant(&self, act: GitAct) -> Result<Granted, Refusal> {
        self.caller.tally.may_ask()?;
        let ask = GitAsk {
            run: self.caller.run.clone(),
            handle_sha256: self.handle_sha256.clone(),
            repository: self.id.to_owned(),
            act,
        };
        match self.gate.server.ask_git(ask).await {
            Ok(Said::Granted(granted)) => {
                self.caller.tally.granted();
                Ok(*granted)
            }
            Ok(Said::Denied { rule, why }) => {
                // What the server could not record is no record.
                if rule != "server.failed" {
                    self.caller.tally.denied();
                }
                Err(Refusal::denied(rule, why))
            }
            Err(Lost) => Err(Refusal::record_lost()),
        }
    }

    async fn upstream(&self, granted: Granted) -> Result<Upstream, Refusal> {
        Upstream::open(self.gate, self.caller, granted).await
    }
}

/// The SHA-256 of the handle that a request shows, as a bearer or as either part of basic auth; no other credential beside it.
fn handle(headers: &HeaderMap) -> Result<String, Refusal> {
    let no = |rule, why| Err(Refusal::policy(rule, why));
    let foreign = "The request carries a credential that is not this run's handle.";
    let others = ["cookie", "proxy-authorization", "x-api-key", "private-token", "x-auth-token"];
    if others.iter().any(|name| headers.contains_key(*name)) {
        return no("handle.foreign", foreign);
    }
    let mut all = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (all.next(), all.next()) else {
        let why =
            "The request must show this run's handle in one Authorization header; git's configuration in the box does.";
        return no("handle.missing", why);
    };
    let Some((scheme, rest)) = value.to_str().ok().and_then(|text| text.split_once(' ')) else {
        return no("handle.foreign", foreign);
    };
    let shown = if scheme.eq_ignore_ascii_case("bearer") {
        rest.to_owned()
    } else if scheme.eq_ignore_ascii_case("basic") {
        let pair = STANDARD.decode(rest.trim()).ok().and_then(|pair| String::from_utf8(pair).ok()).unwrap_or_default();
        let (user, password) = pair.split_once(':').unwrap_or((&pair, ""));
        if signs::holds_handle(user.as_bytes()) { user.to_owned() } else { password.to_owned() }
    } else {
        return no("handle.foreign", foreign);
    };
    let shown = model::Secret::new(shown);
    let whole = shown.expose().strip_prefix("vh_").is_some_and(|rest| rest.len() == 52);
    if !whole || !signs::holds_handle(shown.expose().as_bytes()) {
        return no("handle.foreign", foreign);
    }
    Ok(sha256_hex(shown.expose().as_bytes()))
}

/// Reads a body whole and takes gzip off it.
async fn read(
    headers: &HeaderMap,
    mut body: Incoming,
    most: usize,
) -> Result<(Bytes, tokio::sync::SemaphorePermit<'static>), Refusal> {
    let too_long = || {
        let why = format!("This is longer than {} MiB, which is the most that git may send at once.", most >> 20);
        Refusal::policy("git.too-long", why).with_status(StatusCode::PAYLOAD_TOO_LARGE)
    };
    let bad = |why: &'static str| Refusal::policy("body.cut", why).with_status(StatusCode::BAD_REQUEST);
    let slow = || {
        let why = "The request's body stood still for 30 seconds, or took longer than two minutes.";
        Refusal::policy("body.slow", why).with_status(StatusCode::REQUEST_TIMEOUT)
    };
    let full = || {
        Refusal::fault("git.full", "The gateway holds all the pushes that it can.")
            .with_status(StatusCode::SERVICE_UNAVAILABLE)
    };
    let mut held = HELD.try_acquire().map_err(|_| full())?;
    let (mut out, ends) = (Vec::new(), Instant::now() + BODY);
    loop {
        let next = tokio::time::timeout(STILL.min(ends.saturating_duration_since(Instant::now())), body.frame());
        let frame = match next.await {
            Err(_) => return Err(slow()),
            Ok(None) => break,
            Ok(Some(Err(error))) => {
                return Err(match wire::broken(&error) {
                    Some(fault) => bad(fault.why()),
                    None => bad("The request's body broke off."),
                });
            }
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        if out.len() + data.len() > most {
            return Err(too_long());
        }
        out.extend_from_slice(&data);
        while held.num_permits() <= out.len() >> 20 {
            held.merge(HELD.try_acquire().map_err(|_| full())?);
        }
    }
    let encodings: Vec<_> = headers.get_all(header::CONTENT_ENCODING).iter().map(HeaderValue::as_bytes).collect();
    match encodings[..] {
        [] | [b"identity"] => {}
        [b"gzip" | b"x-gzip"] => {
            let mut plain = Vec::new();
            let mut decoder = GzDecoder::new(&out[..]).take(most as u64 + 1);
            decoder.read_to_end(&mut plain).map_err(|_| bad("The request's body is not the gzip that it says."))?;
            if !decoder.into_inner().into_inner().is_empty() && plain.len() <= most {
                return Err(bad("Something follows the gzip of the request's body."));
            }
            if plain.len() > most {
                return Err(too_long());
            }
            out = plain;
        }
        _ => return Err(bad("The request's body is in an encoding that is not taken.")),
    }
    Ok((out.into(), held))
}

/// The body of a fetch: git's lines and nothing else.
async fn fetch_body(headers: &HeaderMap, body: Incoming) -> Result<Bytes, Refusal> {
    let (body, _held) = read(headers, body, MAX_FETCH).await?;
    if signs::hides_handle(&body) {
        return Err(Refusal::policy("handle.misplaced", "A handle stands in what git asks for."));
    }
    let mut lines = Lines::of(&body);
    loop {
        match lines.next() {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(body),
            Err(wrong) => return Err(Refusal::policy("git.form", format!("This is not what git asks: {wrong}."))),
        }
    }
}

/// References or objects, streamed back.
async fn fetch(asking: &Asking<'_>, what: What, two: bool, body: Bytes) -> Result<Answer, Refusal> {
    let granted = asking.grant(GitAct::Fetch).await?;
    let mut upstream = asking.upstream(granted).await?;
    let wanted = match what {
        What::Fetch => Wanted {
            method: Method::POST,
            path: "/git-upload-pack",
            kind: Some("application/x-git-upload-pack-request"),
            answer: what.kind(),
            two,
            body,
        },
        _ => Wanted {
            method: Method::GET,
            path: "/info/refs?service=git-upload-pack",
            kind: None,
            answer: What::FetchList.kind(),
            two,
            body,
        },
    };
    let response = upstream.ask(asking.gate, wanted).await?;
    let reply = Reply::new(response.into_body(), upstream, asking.caller.egress.spent.clone());
    let mut answer = Response::new(Words::Git(Box::new(reply)));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(what.kind()));
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Ok(answer)
}

/// The references before a push, offered with what a push may use here.
async fn offer(asking: &Asking<'_>) -> Result<Answer, Refusal> {
    let granted = asking.grant(GitAct::Offer).await?;
    let mut upstream = asking.upstream(granted).await?;
    let wanted = Wanted {
        method: Method::GET,
        path: "/info/refs?service=git-receive-pack",
        kind: None,
        answer: What::PushList.kind(),
        two: false,
        body: Bytes::new(),
    };
    let response = upstream.ask(asking.gate, wanted).await?;
    let list = upstream.whole(response, MAX_OFFER).await?;
    upstream.leave.is_whole();
    let offered = push::offered(&list).map_err(|wrong| {
        Refusal::policy("git.offer", format!("The upstream's references cannot be pushed to from here: {}.", wrong.0))
    })?;
    Ok(own(What::PushList.kind(), offered))
}

/// A push, whole. What is refused of it is refused in a report, which git shows.
async fn push_held(asking: &Asking<'_>, body: Bytes) -> Result<Answer, Refusal> {
    let wrong =
        |wrong: push::Wrong| Refusal::policy("git.form", format!("This is no push that can be taken: {}.", wrong.0));
    let Some(asked) = Asked::read(&body).map_err(wrong)? else {
        // By this git finds out whether it may ask.
        return Ok(own(What::Push.kind(), Vec::new()));
    };
    let mut trace = Trace { method: "PUSH".into(), target: format!("/git/{}", asking.id), ..Trace::default() };
    if let [update] = &asked.updates[..] {
        trace.target = format!("/git/{} {}", asking.id, update.shown());
    }
    match pushed(asking, &body, &asked).await {
        Ok(report) => Ok(own(What::Push.kind(), report)),
        Err(no) => {
            let no = match no.kind {
                Kind::Policy => match asking.caller.tally.record(trace.refused(&no)).await {
                    Ok(()) => no,
                    Err(Lost) => Refusal::record_lost(),
                },
                Kind::Denied | Kind::Fault => no,
            };
            Ok(own(What::Push.kind(), push::report(&asked, &no.rule, &no.why)))
        }
    }
}

/// Judges a push, lists what it changes, has that granted and recorded, and sends it on. Gives the upstream's report.
async fn pushed(asking: &Asking<'_>, body: &Bytes, asked: &Asked<'_>) -> Result<Vec<u8>, Refusal> {
    let [update] = &asked.updates[..] else {
        return Err(Refusal::policy("git.one", "A push sets one reference; push the run's own branch alone."));
    };
    let look = asking.grant(GitAct::Look).await?;
    let reference = std::str::from_utf8(&update.reference).ok().filter(|name| policy::git::is_reference(name));
    let Some(reference) = reference else {
        let why = "The reference has a name that no branch of a run has.";
        return Err(Refusal::policy("git.branch", why));
    };
    let (old, new) = (update.old.to_string(), update.new.to_string());
    let judged = policy::git::Update { reference, old: &old, new: &new };
    policy::git::may_push(&look.repository, &look.branch, &judged).map_err(|no| Refusal::policy(no.rule, no.why))?;
    let base = look.base.as_deref().and_then(|base| Oid::parse(base.as_bytes()));
    let (packed, objects) = read_pack(body, asked.pack.len()).await?;
    let changed = {
        let mut upstream = asking.upstream(look).await?;
        let looked = look::look(asking.gate, &mut upstream, packed, update.new, update.old, base).await?;
        upstream.leave.is_whole();
        list(looked).await?
    };
    let granted = asking.grant(GitAct::Push(listed(reference, update, asked.pack.len(), objects, &changed))).await?;
    let mut upstream = asking.upstream(granted).await?;
    let wanted = Wanted {
        method: Method::POST,
        path: "/git-receive-pack",
        kind: Some("application/x-git-receive-pack-request"),
        answer: What::Push.kind(),
        two: false,
        body: asked.written(update).into(),
    };
    let response = upstream.ask(asking.gate, wanted).await?;
    let report = upstream.whole(response, MAX_REPORT).await?;
    upstream.leave.is_whole();
    if !push::succeeded(&report, asked.side_band, update) {
        upstream.leave.answered(StatusCode::UNPROCESSABLE_ENTITY.as_u16());
    }
    Ok(report)
}

/// Reads the pack at the end of a push, beside the thread that serves. None of a push that needs none.
async fn read_pack(body: &Bytes, length: usize) -> Result<(Packed, u32), Refusal> {
    if length == 0 {
        return Ok((Packed::default(), 0));
    }
    let pack = body.slice(body.len() - length..);
    let gone = || Refusal::fault("git.pack", "The push's pack could not be read.");
    let seat = READERS.acquire().await.map_err(|_| gone())?;
    let read = tokio::task::spawn_blocking(move || pack::read(&pack)).await.map_err(|_| gone())?;
    drop(seat);
    let packed =
        read.map_err(|wrong| Refusal::policy("git.pack", format!("The push's pack is not taken: {}.", wrong.0)))?;
    let objects = packed.objects;
    Ok((packed, objects))
}

/// What a push changes.
async fn list(looked: look::Looked) -> Result<BTreeSet<Vec<u8>>, Refusal> {
    let listing = move || changes::between(&looked.trees, looked.tip, &looked.bases);
    let listed = tokio::task::spawn_blocking(listing).await;
    let why = match listed {
        Ok(Ok(changed)) => return Ok(changed),
        Ok(Err(Unlisted::Wrong(why))) => why.to_owned(),
        Ok(Err(Unlisted::Unknown(tree))) => format!(
            "neither the pack nor the upstream's commits beneath it hold the folder {tree}; fetch the default branch, \
             put your change on top of it, and push again"
        ),
        Err(_) => "it could not be walked".to_owned(),
    };
    Err(Refusal::policy(
        "git.unlisted",
        format!("What the push changes cannot be listed, and so it does not go on: {why}."),
    ))
}

/// The list as the server gets it.
fn listed(reference: &str, update: &Update, bytes: usize, objects: u32, changed: &BTreeSet<Vec<u8>>) -> GitPush {
    let mut all = Vec::new();
    let (mut paths, mut pipelines, mut room) = (Vec::new(), Vec::new(), NAMED_BYTES);
    for path in changed {
        all.extend_from_slice(path);
        all.push(0);
        let text = String::from_utf8_lossy(path).into_owned();
        if pipelines.len() < NAMED_PATHS && policy::git::is_pipeline(&text) {
            pipelines.push(text.chars().take(1000).collect());
        }
        if paths.len() < NAMED_PATHS && text.len() <= room {
            room -= text.len();
            paths.push(text);
        }
    }
    GitPush {
        reference: reference.to_owned(),
        old: update.old.to_string(),
        new: update.new.to_string(),
        bytes: bytes as u64,
        objects,
        paths,
        paths_count: changed.len() as u64,
        paths_sha256: sha256_hex(&all),
        pipelines,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: Method, target: &str) -> Result<(String, What), String> {
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        What::of(&method, path, query).map_err(|no| no.rule)
    }

    #[test]
    fn a_target_is_one_of_four_and_nothing_else() {
        let app = |what| Ok(("app".to_owned(), what));
        assert_eq!(of(Method::GET, "/git/app/info/refs?service=git-upload-pack"), app(What::FetchList));
        assert_eq!(of(Method::GET, "/git/app.git/info/refs?service=git-receive-pack"), app(What::PushList));
        assert_eq!(of(Method::POST, "/git/app/git-upload-pack"), app(What::Fetch));
        assert_eq!(of(Method::POST, "/git/app/git-receive-pack"), app(What::Push));
        for (method, target) in [
            (Method::GET, "/git/app/info/refs"),
            (Method::GET, "/git/app/HEAD"),
            (Method::GET, "/git/app/objects/info/packs"),
            (Method::GET, "/git/app/info/refs?service=git-upload-archive"),
            (Method::GET, "/git/app/info/refs?service=git-upload-pack&x=1"),
            (Method::POST, "/git/app/info/refs?service=git-upload-pack"),
            (Method::GET, "/git/app/git-receive-pack"),
            (Method::POST, "/git/../git-receive-pack"),
            (Method::POST, "/git/a%2fb/git-receive-pack"),
            (Method::POST, "/git/app/x/git-receive-pack"),
            (Method::PUT, "/git/app/git-receive-pack"),
            (Method::GET, "/git/"),
        ] {
            assert_eq!(of(method, target), Err("git.form".to_owned()), "{target}");
        }
    }

    #[test]
    fn the_handle_is_shown_once_and_alone() {
        let shown = |pairs: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, value.parse().unwrap());
            }
            handle(&headers).map_err(|no| no.rule)
        };
        let handle = format!("vh_{}", "a".repeat(52));
        let digest = Ok(sha256_hex(handle.as_bytes()));
        let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
        assert_eq!(shown(&[("authorization", &format!("Bearer {handle}"))]), digest);
        assert_eq!(shown(&[("authorization", &basic(&format!("{handle}:")))]), digest);
        assert_eq!(shown(&[("authorization", &basic(&format!("git:{handle}")))]), digest);
        assert_eq!(shown(&[]), Err("handle.missing".into()));
        let bearer = format!("Bearer {handle}");
        assert_eq!(shown(&[("authorization", &bearer), ("authorization", &bearer)]), Err("handle.missing".into()));
        for pairs in [
            [("authorization", "Bearer ghp_x"), ("accept", "*/*")],
            [("authorization", &format!("Bearer {handle}b")), ("accept", "*/*")],
            [("authorization", &format!("Bearer x{handle}")), ("accept", "*/*")],
            [("authorization", &format!("token {handle}")), ("accept", "*/*")],
            [("authorization", &bearer), ("cookie", "a=b")],
            [("authorization", &bearer), ("private-token", "x")],
        ] {
            assert_eq!(shown(&pairs), Err("handle.foreign".into()), "{pairs:?}");
        }
    }

    #[test]
    fn a_list_names_what_fits_counts_all_and_marks_every_pipeline_file() {
        let mut changed: BTreeSet<Vec<u8>> = (0..2000).map(|n| format!("d/{n:04}").into_bytes()).collect();
        changed.insert(b"z/Jenkinsfile".to_vec());
        let update = Update { old: Oid::ZERO, new: Oid([1; 20]), reference: b"refs/heads/x".to_vec() };
        let push = listed("refs/heads/x", &update, 7, 3, &changed);
        assert_eq!((push.paths.len(), push.paths_count, push.bytes, push.objects), (NAMED_PATHS, 2001, 7, 3));
        assert_eq!(push.pipelines, ["z/Jenkinsfile"]);
    }
}
