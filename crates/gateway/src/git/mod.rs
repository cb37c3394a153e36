//! `/git/{repository}`: a repository of the run's list, fetched from and pushed to over git's own HTTP.
//!
//! A box names the repository by its id and shows its handle; where that is and what opens it the server says, request by
//! request, and has recorded it then. What is fetched streams through. A push is held: its updates are judged, its pack is
//! read, what it changes is listed against what the upstream has, the server grants and records that very list, and only
//! then does it go on, in words of our own.
//!
//! | module | what |
//! |---|---|
//! | `share` | what one run may take of this gateway |
//! | `body` | the handle, and what comes with a request |
//! | `asks` | what a fetch may say |
//! | `pkt` | git's lines |
//! | `pushing` | a push, from its body to the report on it |
//! | `push` | updates, and the reports on them |
//! | `pack` | a pack's commits and trees |
//! | `look` | what the upstream has |
//! | `changes` | the list |
//! | `upstream` | the way there, and the credential |
//! | `local` | the way to the run's repository on its host |
//! | `propose` | what the agent says of what it pushed |
//! | `reply` | what is fetched, on its way back |
//! | `bands` | what is looked for in that, and in the report on a push |
//!
//! Read [`answer`], then `fetch` and `pushing`.

mod asks;
mod bands;
mod body;
mod changes;
mod delta;
pub(crate) mod local;
mod look;
mod pack;
mod pkt;
pub(crate) mod propose;
mod push;
mod pushing;
mod reply;
mod share;
mod upstream;

pub(crate) use reply::Reply;
pub(crate) use share::Share;

use crate::Gate;
use crate::call::{Answer, Caller, Words};
use crate::refusal::{Kind, Refusal, Trace};
use crate::server::Lost;
use crate::server::git::{Granted, Said};
use api::git::{GitAct, GitAsk};
use body::{OWN_PUSH, fetch_body, handle, read};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use pushing::push_held;
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
struct Turn(
    #[expect(dead_code, reason = "held, not looked at")] Arc<(OwnedSemaphorePermit, Option<SemaphorePermit<'static>>)>,
);

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
        What::FetchList | What::Fetch => fetch(&asking, what, &head.headers, body).await,
        What::PushList => offer(&asking).await,
        What::Push => {
            let Some(turn) = caller.git.push() else {
                return Err(Refusal::fault("git.busy", "This run is pushing already; one push at a time.")
                    .with_status(StatusCode::SERVICE_UNAVAILABLE));
            };
            let (body, held) = read(&caller.git, &head.headers, body, (OWN_PUSH, MAX_PUSH)).await?;
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
async fn fetch(asking: &Asking<'_>, what: What, headers: &HeaderMap, body: Incoming) -> Result<Answer, Refusal> {
    let share = &asking.caller.git;
    // Until the upstream has the body.
    let _room = match what {
        What::Fetch => share.ask(headers).await,
        _ => None,
    };
    // Before a byte of the body is held: who has no repository has none held.
    let granted = asking.grant(GitAct::Fetch).await?;
    let body = match what {
        What::Fetch => fetch_body(share, headers, body).await?,
        _ => Bytes::new(),
    };
    let two = headers.get("git-protocol").is_some_and(|v| v.as_bytes() == b"version=2");
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
    let offered = asking.caller.git.weighed(list.len(), move || push::offered(&list)).await.ok_or_else(gone)?;
    let offered = offered.map_err(|wrong| {
        Refusal::policy("git.offer", format!("The upstream's references cannot be pushed to from here: {}.", wrong.0))
    })?;
    Ok(own(What::PushList.kind(), offered))
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
        let _alone = share::tests::SEATS.lock().await;
        let (turns, room) = (Arc::new(Semaphore::new(1)), Box::leak(Box::new(Semaphore::new(1))));
        let room: &'static Semaphore = room;
        let turn = Turn(Arc::new((turns.clone().acquire_owned().await.unwrap(), Some(room.acquire().await.unwrap()))));
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let (end, may_end) = std::sync::mpsc::channel::<()>();
        let request = tokio::spawn(async move {
            let work = move || {
                begun.send(()).unwrap();
                may_end.recv().unwrap();
            };
            Share::default().beside(turn, work).await
        });
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
}
