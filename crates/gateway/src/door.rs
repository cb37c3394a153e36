//! A box's listener, served from outside: HTTP/1.1 with its limits. Whoever connects is the run that the
//! listener belongs to; nothing in a request can say otherwise.
//!
//! Read [`Doors`] (who is served), [`serve`] (one listener), then [`connection`].

use crate::Gate;
use crate::call::{self, Answer, Caller};
use crate::decide::Room;
use crate::egress::allowances::Allowances;
use crate::egress::shape::Fault;
use crate::egress::tunnel::{self, Next};
use crate::egress::wire::{self, Strict};
use crate::egress::{self, Came};
use crate::git::{self, propose};
use crate::lease;
use crate::pace::Paced;
use crate::private;
use crate::refusal::{Refusal, Trace};
use crate::seats::Share;
use crate::tally::Tally;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use model::RunId;
use std::collections::HashMap;
use std::convert::Infallible;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Connections of one run at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 64;
/// What the kernel holds for one client that takes nothing, in bytes of data; by itself it would be ten times as much, of
/// memory that all connections of the host share.
const SEND_BUFFER: usize = 128 * 1024;
/// How long a client may take to send a request's head, and to begin the next one.
pub(crate) const HEAD_SECS: u64 = 30;
/// Room beside the longest head, in bytes.
const SPARE: usize = 8 * 1024;
/// How long one call may take from its head to the last byte of its answer.
const CALL_SECS: u64 = 600;
/// Rest after a failed accept (out of descriptors, say), in milliseconds.
const ACCEPT_REST_MS: u64 = 50;

/// The doors that are open, by run.
#[derive(Default)]
pub(crate) struct Doors(Mutex<Open>);

#[derive(Default)]
struct Open {
    last: u64,
    by_run: HashMap<RunId, Door>,
}

/// One door's number; a run that is attached again gets another one.
pub(crate) type DoorId = u64;

/// An open door. Dropped, it is shut: listener, connections and calls end.
struct Door {
    id: DoorId,
    server: tokio::task::JoinHandle<()>,
    cut: watch::Sender<()>,
    allowances: Arc<Allowances>,
    /// The listener once more, to be shut down: that works on every copy of it, ours and the operator's,
    /// so that connects are refused at once and the port stays taken.
    listener: OwnedFd,
}

impl Drop for Door {
    fn drop(&mut self) {
        self.server.abort();
        if let Err(error) = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both) {
            tracing::debug!(%error, "a listener was down already");
        }
    }
}

impl Doors {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves `run` on `listener` from now on; a door that it had before is shut.
    ///
    /// # Errors
    /// When the descriptor is no listening TCP socket, or no authority can be made for the run.
    pub(crate) fn attach(&self, gate: &Arc<Gate>, run: RunId, listener: OwnedFd) -> std::io::Result<(DoorId, String)> {
        if !rustix::net::sockopt::socket_acceptconn(&listener)? {
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "the descriptor is no listening socket"));
        }
        // Connections have it from their listener.
        rustix::net::sockopt::set_socket_send_buffer_size(&listener, SEND_BUFFER)?;
        let copy = listener.try_clone()?;
        let listener = std::net::TcpListener::from(listener);
        listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let (cut, is_cut) = watch::channel(());
        let egress = egress::run::Run::new(&run).map_err(std::io::Error::other)?;
        let authority = egress.authority.pem();
        let allowances = egress.allowances.clone();
        let caller = Caller {
            run: run.clone(),
            room: Room::of(gate.court.clone()),
            tally: Tally::of(run.clone(), gate.server.clone()),
            spares: Arc::default(),
            egress,
            git: crate::git::Share::default(),
        };
        let server = tokio::spawn(serve(gate.clone(), Arc::new(caller), listener, is_cut));
        let mut open = self.open();
        open.last += 1;
        let id = open.last;
        let before = open.by_run.insert(run, Door { id, server, cut, allowances, listener: copy });
        drop(open);
        drop(before);
        Ok((id, authority))
    }

    /// Shuts the door of `run`; with `only`, only if it is that one. True if it was open.
    pub(crate) fn detach(&self, run: &RunId, only: Option<DoorId>) -> bool {
        let mut open = self.open();
        if only.is_some_and(|id| open.by_run.get(run).is_none_or(|door| door.id != id)) {
            return false;
        }
        let shut = open.by_run.remove(run);
        drop(open);
        shut.is_some()
    }

    /// Ends the allowances of `run`: what it asks for next is asked of the server.
    pub(crate) fn end_allowances(&self, run: &RunId) {
        if let Some(door) = self.open().by_run.get(run) {
            door.allowances.end();
        }
    }

    /// Cuts the live calls of `run`, and ends its allowances; its door stays open.
    pub(crate) fn cut_calls(&self, run: &RunId) {
        if let Some(door) = self.open().by_run.get(run) {
            door.allowances.end();
            door.cut.send_replace(());
        }
    }
}

/// Serves one listener until its task is aborted; connections end with it.
async fn serve(gate: Arc<Gate>, caller: Arc<Caller>, listener: TcpListener, cut: watch::Receiver<()>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let share = Share::of(&gate.seats);
    let mut connections = JoinSet::new();
    // Nobody has connected yet: the first who does is process 1, if it says so.
    let mut is_first = true;
    loop {
        let Ok(own) = room.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, run = %caller.run, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(ACCEPT_REST_MS)).await;
                continue;
            }
        };
        let seat = share.take().await;
        while connections.try_join_next().is_some() {}
        let (gate, caller, cut) = (gate.clone(), caller.clone(), cut.clone());
        let may_be_runner = std::mem::take(&mut is_first);
        connections.spawn(async move {
            if may_be_runner && private::is_runner(&stream, Duration::from_secs(HEAD_SECS)).await {
                drop((seat, own));
                return private::serve(&gate, &caller, stream).await;
            }
            connection(&gate, &caller, stream, cut).await;
            drop((seat, own));
        });
    }
}

/// HTTP/1.1 with its limits.
pub(crate) fn builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(HEAD_SECS))
        .max_header_size(wire::MAX_HEAD)
        // Of an answer that is not taken it holds as much.
        .max_buf_size(wire::MAX_HEAD + SPARE);
    builder
}

/// Serves one connection: one request after the other, and then what the last of them left to follow.
async fn connection(gate: &Arc<Gate>, caller: &Arc<Caller>, stream: TcpStream, mut cut: watch::Receiver<()>) {
    let run = &caller.run;
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, %run, "a client was gone before it was served");
        return;
    }
    cut.mark_unchanged();
    let (due, mut is_due) = watch::channel(None);
    let due = Arc::new(due);
    let next = Next::default();
    let service = service_fn(|request| {
        let (due, next) = (due.clone(), next.clone());
        async move {
            let leaves = Leaves::of(&request);
            let answer = match wire::fault_of(&request) {
                Some(fault) => misshapen(caller, fault).await,
                None if egress::is_for(&request) => egress::answer(gate, caller, &Came::Plain, &next, request).await,
                None if git::is_for(&request) => git::answer(gate, caller, request).await,
                None if lease::is_for(&request) => lease::answer(gate, caller, request).await,
                None if propose::is_for(&request) => propose::answer(gate, caller, request).await,
                None => call::answer(gate, caller, OnTheClock::start(due), request).await,
            };
            Ok::<_, Infallible>(leaves.or_close(answer))
        }
    });
    let served = builder().serve_connection(TokioIo::new(Strict::new(Paced::new(stream))), service).with_upgrades();
    let mut served = std::pin::pin!(served);
    loop {
        let end = *is_due.borrow_and_update();
        tokio::select! {
            done = served.as_mut() => {
                if let Err(error) = done {
                    ended_badly(caller, &error).await;
                }
                break;
            }
            _ = is_due.changed() => {}
            () = tokio::time::sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => {
                tracing::warn!(%run, "a call took longer than {CALL_SECS} s and is cut");
                return;
            }
            _ = cut.changed() => return,
        }
    }
    if let Some(after) = next.take() {
        tokio::select! {
            () = tunnel::follow(gate, caller, *after) => {}
            _ = cut.changed() => {}
        }
    }
}

/// A request that asks to leave HTTP: what follows it is not read strictly any more, whatever is answered. So the
/// connection ends with any answer but the one by which it does leave.
pub(crate) enum Leaves {
    /// It asks for nothing of that kind.
    No,
    /// For another protocol.
    Upgrade,
    /// For a tunnel.
    Tunnel,
}

impl Leaves {
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        match request.method() {
            &Method::CONNECT => Self::Tunnel,
            _ if request.headers().contains_key(header::UPGRADE) => Self::Upgrade,
            _ => Self::No,
        }
    }

    pub(crate) fn or_close<B>(&self, mut answer: Response<B>) -> Response<B> {
        let stays = match self {
            Self::No => false,
            Self::Upgrade => answer.status() != StatusCode::SWITCHING_PROTOCOLS,
            Self::Tunnel => !answer.status().is_success(),
        };
        if stays {
            answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }
}

/// Answers and records a request of which there is more than one reading.
pub(crate) async fn misshapen(caller: &Caller, fault: Fault) -> Answer {
    let status = match fault {
        Fault::TooLong | Fault::TooMany => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Fault::Expect => StatusCode::EXPECTATION_FAILED,
        _ => StatusCode::BAD_REQUEST,
    };
    let refusal = Refusal::policy("request.malformed", fault.why()).with_status(status);
    call::refuse(caller, refusal, &Trace::default()).await
}

/// What was no request of HTTP/1.1 is refused by the parser, or where it is read; its record is made here.
pub(crate) async fn ended_badly(caller: &Caller, error: &hyper::Error) {
    let run = &caller.run;
    let why = match wire::broken(error) {
        Some(fault) => fault.why().to_owned(),
        None if error.is_parse() => format!("What came was no request of HTTP/1.1: {error}."),
        None => {
            tracing::debug!(%error, %run, "a connection ended");
            return;
        }
    };
    let verdict = Trace::default().refused(&Refusal::policy("request.malformed", why));
    if caller.tally.record(verdict).await.is_err() {
        tracing::warn!(%run, "a malformed request was refused while the server was away");
    }
}

/// A call's time runs while this lives.
pub(crate) struct OnTheClock(Arc<watch::Sender<Option<Instant>>>);

impl OnTheClock {
    fn start(due: Arc<watch::Sender<Option<Instant>>>) -> Self {
        due.send_replace(Some(Instant::now() + Duration::from_secs(CALL_SECS)));
        Self(due)
    }
}

impl Drop for OnTheClock {
    fn drop(&mut self) {
        self.0.send_replace(None);
    }
}
