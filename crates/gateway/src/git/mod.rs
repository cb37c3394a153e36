//! `/git/{repository}`: a repository of the run's list, fetched from and pushed to over git's own HTTP.
//!
//! A box names the repository by its id and shows its handle; where that is and what opens it the server says, request by
//! request, and has recorded it then. What is fetched streams through. A push is held: its updates are judged, its pack is
//! read, what it changes is listed against what the upstream has, the server grants and records that very list, and only
//! then does it go on, in words of our own.
//!
//! | module | what |
//! |---|---|
//! | `body` | the handle, and what comes with a request |
//! | `pkt` | git's lines |
//! | `push` | updates, and the reports on them |
//! | `pack` | a pack's commits and trees |
//! | `look` | what the upstream has |
//! | `changes` | the list |
//! | `upstream` | the way there, and the credential |
//! | `local` | the way to the run's repository on its host |
//! | `propose` | what the agent says of what it pushed |
//! | `reply` | what is fetched, on its way back |
//!
//! Read [`answer`], then `fetch` and `pushed`.

mod body;
mod changes;
mod delta;
pub(crate) mod local;
mod look;
mod pack;
mod pkt;
pub(crate) mod propose;
mod push;
mod reply;
mod upstream;

pub(crate) use reply::Reply;

use crate::Gate;
use crate::call::{Answer, Caller, Words};
use crate::decide::sha256_hex;
use crate::refusal::{Kind, Refusal, Trace};
use crate::server::Lost;
use crate::server::git::{Granted, Push, Said};
use api::git::{GitAct, GitAsk, GitPush, NAMED_BYTES, NAMED_COMMITS, NAMED_PATHS};
use api::leases::LeaseEnd;
use body::{fetch_body, handle, read};
use bytes::Bytes;
use changes::Unlisted;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use look::{Commits, Pushed};
use model::LeaseId;
use pack::Packed;
use pkt::Oid;
use push::{Asked, Update};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use upstream::{Upstream, Wanted};

/// Longest push: updates and pack, in bytes.
pub(crate) const MAX_PUSH: usize = 64 << 20;
/// Longest list of references before a push, in bytes.
const MAX_OFFER: usize = 32 << 20;
/// Longest report on a push, in bytes.
const MAX_REPORT: usize = 1 << 20;
/// Longest text that is looked through or scrubbed by the thread that serves, in bytes.
const INLINE: usize = 256 << 10;
/// Packs and lists that are worked on at once, over all runs.
pub(crate) const READING: usize = 2;
static READERS: Semaphore = Semaphore::const_new(READING);

/// What a push takes of this gateway: its run's turn, and the room of its body. Held by whatever works for the push.
#[derive(Debug, Clone)]
struct Turn(#[expect(dead_code, reason = "held, not looked at")] Arc<(OwnedSemaphorePermit, SemaphorePermit<'static>)>);

/// Does `work` beside the thread that serves, in one of the seats for that.
///
/// The seat and `held` go along and end with the work: a box that hangs up ends its request, but not what was begun for
/// it, and would otherwise have a free seat for the next.
async fn beside<T: Send + 'static>(held: impl Send + 'static, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let seat = READERS.acquire().await.ok()?;
    let work = move || {
        let done = work();
        drop((seat, held));
        done
    };
    tokio::task::spawn_blocking(work).await.ok()
}

/// As [`beside`], for what is long enough to hold up the thread that serves; else at once. `length` is in bytes.
async fn weighed<T: Send + 'static>(length: usize, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    if length > INLINE { beside((), work).await } else { Some(work()) }
}

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
            let Ok(turn) = caller.pushes.clone().try_acquire_owned() else {
                return Err(Refusal::fault("git.busy", "This run is pushing already; one push at a time.")
                    .with_status(StatusCode::SERVICE_UNAVAILABLE));
            };
            let (body, held) = read(&head.headers, body, MAX_PUSH).await?;
            push_held(&asking, body, &Turn(Arc::new((turn, held)))).await
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
            Ok(Said::Noted(_)) => Err(Refusal::record_lost()),
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

/// References or objects, streamed back.
async fn fetch(asking: &Asking<'_>, what: What, two: bool, body: Bytes) -> Result<Answer, Refusal> {
    let granted = asking.grant(GitAct::Fetch).await?;
    // By version 2 git gives any commit whose name is known; of the host's repository a box gets those that references lead to.
    let two = two && !policy::git::is_local(&granted.repository);
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
    let gone = || Refusal::fault("git.offer", "The upstream's references could not be read.");
    let offered = weighed(list.len(), move || push::offered(&list)).await.ok_or_else(gone)?;
    let offered = offered.map_err(|wrong| {
        Refusal::policy("git.offer", format!("The upstream's references cannot be pushed to from here: {}.", wrong.0))
    })?;
    Ok(own(What::PushList.kind(), offered))
}

/// A push, whole. What is refused of it is refused in a report, which git shows.
async fn push_held(asking: &Asking<'_>, body: Bytes, turn: &Turn) -> Result<Answer, Refusal> {
    let wrong =
        |wrong: push::Wrong| Refusal::policy("git.form", format!("This is no push that can be taken: {}.", wrong.0));
    let looked = body.clone();
    let gone = || Refusal::fault("git.push", "The push could not be read.");
    let asked = weighed(body.len(), move || Asked::read(&looked)).await.ok_or_else(gone)?;
    let Some(asked) = asked.map_err(wrong)? else {
        // By this git finds out whether it may ask.
        return Ok(own(What::Push.kind(), Vec::new()));
    };
    let mut trace = Trace { method: "PUSH".into(), target: format!("/git/{}", asking.id), ..Trace::default() };
    if let [update] = &asked.updates[..] {
        trace.target = format!("/git/{} {}", asking.id, update.shown());
    }
    match pushed(asking, &body, &asked, turn).await {
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

/// Has a push leased, and ends it when its lease is over: whatever of it is under way then goes no further.
async fn pushed(asking: &Asking<'_>, body: &Bytes, asked: &Asked, turn: &Turn) -> Result<Vec<u8>, Refusal> {
    let [update] = &asked.updates[..] else {
        return Err(Refusal::policy("git.one", "A push sets one reference; push the run's own branch alone."));
    };
    let reference = std::str::from_utf8(&update.reference).ok().filter(|name| policy::git::is_reference(name));
    let Some(reference) = reference else {
        let why = "The reference has a name that no branch of a run has.";
        return Err(Refusal::policy("git.branch", why));
    };
    let (reference, old, new) = (reference.to_owned(), update.old.to_string(), update.new.to_string());
    let mut look = asking.grant(GitAct::Look { reference, old, new }).await?;
    // Without a lease nothing was granted.
    let Some(mut push) = look.push.take() else { return Err(Refusal::record_lost()) };
    let over = push.tenure.over();
    tokio::select! {
        biased;
        () = over => {
            let why = "Its lease was taken back, or its time was over, before the push was made.";
            Err(Refusal::denied("lease.over".into(), why.into()))
        }
        done = leased(asking, look, &mut push, body, asked, update, turn) => done,
    }
}

/// Lists what a push changes, has that granted and recorded, and sends it on. Gives the upstream's report.
async fn leased(
    asking: &Asking<'_>,
    look: Granted,
    push: &mut Push,
    body: &Bytes,
    asked: &Asked,
    update: &Update,
    turn: &Turn,
) -> Result<Vec<u8>, Refusal> {
    let reference = update.shown();
    let base = look.base.as_deref().and_then(|base| Oid::parse(base.as_bytes()));
    let length = body.len() - asked.pack_at;
    let (packed, objects) = read_pack(body, length, turn).await?;
    let told = {
        let mut upstream = asking.upstream(look).await?;
        let about = Pushed { update, reference: &reference, base, author: &push.author };
        let looked = look::look(asking.gate, &mut upstream, packed, about, turn).await?;
        upstream.leave.is_whole();
        let (lease, update) = (push.lease.clone(), update.clone());
        list(looked, turn, move |changed, commits| {
            listed(lease, &reference, &update, length, objects, changed, commits)
        })
        .await?
    };
    let granted = asking.grant(GitAct::Push(Box::new(told))).await?;
    let mut upstream = asking.upstream(granted).await?;
    let (whole, again, of) = (body.clone(), asked.clone(), update.clone());
    let gone = || Refusal::fault("git.push", "The push could not be written.");
    let written = weighed(body.len(), move || again.written(&of, &whole)).await.ok_or_else(gone)?;
    let wanted = Wanted {
        method: Method::POST,
        path: "/git-receive-pack",
        kind: Some("application/x-git-receive-pack-request"),
        answer: What::Push.kind(),
        two: false,
        body: written.into(),
    };
    let response = upstream.ask(asking.gate, wanted).await?;
    let report = upstream.whole(response, MAX_REPORT).await?;
    upstream.leave.is_whole();
    let is_made = push::succeeded(&report, asked.side_band, update);
    push.tenure.ended(if is_made { LeaseEnd::Completed } else { LeaseEnd::Failed });
    if !is_made {
        upstream.leave.answered(StatusCode::UNPROCESSABLE_ENTITY.as_u16());
    }
    Ok(report)
}

/// Reads the pack at the end of a push, beside the thread that serves. None of a push that needs none.
async fn read_pack(body: &Bytes, length: usize, turn: &Turn) -> Result<(Packed, u32), Refusal> {
    if length == 0 {
        return Ok((Packed::default(), 0));
    }
    let pack = body.slice(body.len() - length..);
    let gone = || Refusal::fault("git.pack", "The push's pack could not be read.");
    let read = beside(turn.clone(), move || pack::read(&pack)).await.ok_or_else(gone)?;
    let packed =
        read.map_err(|wrong| Refusal::policy("git.pack", format!("The push's pack is not taken: {}.", wrong.0)))?;
    let objects = packed.objects;
    Ok((packed, objects))
}

/// What a push changes, as `told` tells it.
async fn list(
    looked: look::Looked,
    turn: &Turn,
    told: impl FnOnce(&BTreeSet<Vec<u8>>, &Commits) -> GitPush + Send + 'static,
) -> Result<GitPush, Refusal> {
    let listing = move || {
        let changed = changes::between(&looked.trees, looked.tip, &looked.bases)?;
        Ok(told(&changed, &looked.commits))
    };
    let why = match beside(turn.clone(), listing).await {
        Some(Ok(push)) => return Ok(push),
        Some(Err(Unlisted::Wrong(why))) => why.to_owned(),
        Some(Err(Unlisted::Unknown(tree))) => format!(
            "neither the pack nor the upstream's commits beneath it hold the folder {tree}; fetch the default branch, \
             put your change on top of it, and push again"
        ),
        None => "it could not be walked".to_owned(),
    };
    Err(Refusal::policy(
        "git.unlisted",
        format!("What the push changes cannot be listed, and so it does not go on: {why}."),
    ))
}

/// The list as the server gets it.
fn listed(
    lease: LeaseId,
    reference: &str,
    update: &Update,
    bytes: usize,
    objects: u32,
    changed: &BTreeSet<Vec<u8>>,
    commits: &Commits,
) -> GitPush {
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
        lease,
        reference: reference.to_owned(),
        old: update.old.to_string(),
        new: update.new.to_string(),
        bytes: bytes as u64,
        objects,
        paths,
        paths_count: changed.len() as u64,
        paths_sha256: sha256_hex(&all),
        pipelines,
        there: commits.there.map(|oid| oid.to_string()),
        fresh: commits.fresh,
        commits: commits.count as u64,
        others: commits.others.iter().take(NAMED_COMMITS).map(Oid::to_string).collect(),
        others_count: commits.others.len() as u64,
        onto: commits.onto.map(|oid| oid.to_string()),
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

    #[tokio::test]
    async fn what_was_begun_for_a_push_keeps_its_seat_and_its_turn_when_the_box_hangs_up() {
        let (turns, room) = (Arc::new(Semaphore::new(1)), Box::leak(Box::new(Semaphore::new(1))));
        let room: &'static Semaphore = room;
        let turn = Turn(Arc::new((turns.clone().acquire_owned().await.unwrap(), room.acquire().await.unwrap())));
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let (end, may_end) = std::sync::mpsc::channel::<()>();
        let request = tokio::spawn(beside(turn, move || {
            begun.send(()).unwrap();
            may_end.recv().unwrap();
        }));
        has_begun.await.unwrap();
        request.abort();
        assert!(request.await.unwrap_err().is_cancelled());
        let free = || (turns.available_permits(), room.available_permits(), READERS.available_permits());
        assert_eq!(free(), (0, 0, READING - 1));
        end.send(()).unwrap();
        drop(tokio::time::timeout(std::time::Duration::from_secs(30), turns.acquire()).await.unwrap());
        // The seat was given back before the turn.
        assert_eq!(READERS.available_permits(), READING);
    }

    #[test]
    fn a_list_names_what_fits_counts_all_and_marks_every_pipeline_file() {
        let mut changed: BTreeSet<Vec<u8>> = (0..2000).map(|n| format!("d/{n:04}").into_bytes()).collect();
        changed.insert(b"z/Jenkinsfile".to_vec());
        let update = Update { old: Oid::ZERO, new: Oid([1; 20]), reference: b"refs/heads/x".to_vec() };
        let lease = LeaseId::parse("lease").unwrap();
        let commits = Commits { others: vec![Oid([3; 20]); 50], count: 60, ..Commits::default() };
        let push = listed(lease, "refs/heads/x", &update, 7, 3, &changed, &commits);
        assert_eq!((push.paths.len(), push.paths_count, push.bytes, push.objects), (NAMED_PATHS, 2001, 7, 3));
        assert_eq!(push.pipelines, ["z/Jenkinsfile"]);
        assert_eq!((push.others.len(), push.others_count, push.commits), (NAMED_COMMITS, 50, 60));
    }
}
