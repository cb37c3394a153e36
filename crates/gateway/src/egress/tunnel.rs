//! What follows the HTTP of a connection: TLS that is opened here, a blind tunnel, a WebSocket.
//!
//! All of it lives in the future of the connection that it follows, and ends with it.
//!
//! Read [`After`], [`follow`], [`intercept`], then [`pipe`].

use super::flood::Guarded;
use super::frames::{self, Frames};
use super::given::Sought;
use super::heard::Heard;
use super::hello::{self, Look};
use super::limits::{
    CONNECTION_WINDOW, HELD_MESSAGE, HELLO, IDLE, PAUSE, REQUEST, REQUEST_BYTES, RUN_STREAMS, STREAM_WINDOW, STREAMS,
};
use super::line::Line;
use super::request::{Came, Inside};
use super::resets::{Resets, Watched};
use super::run::{Hints, Spent};
use super::shape;
use super::streams::{self, EndsWith, Streams};
use super::wire::{self, Strict};
use crate::Gate;
use crate::call::{self, Caller};
use crate::door::{self, Leaves};
use crate::pace::Paced;
use crate::refusal::{Refusal, Trace};
use crate::server::egress::Leave;
use http::StatusCode;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use policy::egress::{Budget, Name};
use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::LazyConfigAcceptor;

/// Bytes that are held on their way, each direction.
const PIECE: usize = 16 * 1024;
/// How often an HTTP/2 client is asked whether it is still there, and how long it may take to say so.
const PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));

/// What follows.
pub(crate) enum After {
    /// TLS, opened with the run's authority.
    Intercept { on: OnUpgrade, host: Name, port: u16 },
    /// Bytes that are not looked into, but for the first message.
    Tunnel { on: OnUpgrade, host: Name, stream: Paced<TcpStream>, budget: Budget, leave: Leave },
    /// A WebSocket.
    Socket { on: OnUpgrade, host: OnUpgrade, line: Box<Line>, leave: Leave, sought: Option<Sought>, trace: Trace },
}

/// Where a request leaves what is to follow on its connection.
#[derive(Clone, Default)]
pub(crate) struct Next(Arc<Mutex<Option<Box<After>>>>);

impl Next {
    pub(crate) fn set(&self, after: After) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(after));
    }
    pub(crate) fn take(&self) -> Option<Box<After>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Serves what follows the HTTP of a connection, until it ends.
pub(crate) async fn follow(gate: &Arc<Gate>, caller: &Arc<Caller>, after: After) {
    let run = &caller.run;
    match after {
        After::Intercept { on, host, port } => {
            let Ok(client) = on.await else { return };
            let trace = connect_trace(&host, port);
            match intercept(gate, caller, TokioIo::new(client), host, port).await {
                Ok(()) => {}
                Err(Ended::Refused(refusal)) => record(caller, &refusal, &trace).await,
                Err(Ended::Broken(error)) => tracing::debug!(%error, %run, "TLS with a box ended"),
            }
        }
        After::Tunnel { on, host, stream, budget, leave } => {
            let Ok(client) = on.await else { return };
            let trace = connect_trace(&host, 443);
            match tunnel(TokioIo::new(client), &host, stream, budget, &leave, &caller.egress.spent).await {
                Ok(()) => leave.is_whole(),
                Err(Ended::Refused(refusal)) => record(caller, &refusal, &trace).await,
                Err(Ended::Broken(error)) => tracing::debug!(%error, %run, "a tunnel ended"),
            }
        }
        After::Socket { on, host, line, leave, sought, trace } => {
            let (Ok(client), Ok(host)) = (on.await, host.await) else { return };
            let bounds = Bounds { bytes: REQUEST_BYTES, time: REQUEST };
            let heard = sought.map(|sought| (Heard::new(&sought.scrubber()), sought, &*caller.egress.hints_of_hosts));
            let looks = Looks { frames: Some(Frames::default()), heard };
            let piped = pipe(TokioIo::new(client), TokioIo::new(host), bounds, &leave, &caller.egress.spent, looks);
            match piped.await {
                Ok(()) => leave.is_whole(),
                Err(error) => match error.get_ref().and_then(|why| why.downcast_ref::<frames::Fault>()) {
                    Some(fault) => record(caller, &fault.refusal(), &trace).await,
                    None => tracing::debug!(%error, %run, "a WebSocket ended"),
                },
            }
            drop(line);
        }
    }
}

/// Why something that followed ended.
enum Ended {
    Refused(Refusal),
    Broken(io::Error),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

fn refused<T>(rule: &str, why: &str) -> Result<T, Ended> {
    Err(Ended::Refused(Refusal::policy(rule, why)))
}

fn connect_trace(host: &Name, port: u16) -> Trace {
    Trace { method: "CONNECT".to_owned(), target: format!("{host}:{port}"), ..Trace::default() }
}

async fn record(caller: &Caller, refusal: &Refusal, trace: &Trace) {
    if caller.tally.record(trace.refused(refusal)).await.is_err() {
        tracing::warn!(run = %caller.run, rule = refusal.rule, "a refusal was not recorded: the server is away");
    }
}

/// Opens TLS as `host`, and serves the requests inside.
async fn intercept(
    gate: &Arc<Gate>,
    caller: &Arc<Caller>,
    client: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    host: Name,
    port: u16,
) -> Result<(), Ended> {
    let greeted = tokio::time::timeout(HELLO, LazyConfigAcceptor::new(rustls::server::Acceptor::default(), client));
    let start = match greeted.await {
        Ok(Ok(start)) => start,
        Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(error.into()),
        Ok(Err(_)) => return refused("tunnel.no-tls", "What came in the tunnel is no TLS; nothing else goes through."),
        Err(_) => return refused("tunnel.slow", "Nothing came in the tunnel for ten seconds."),
    };
    let named = match start.client_hello().server_name() {
        None => false,
        Some(name) if Name::parse(name).is_ok_and(|name| name == host) => true,
        Some(_) => return refused("tunnel.name", "The name in TLS is another one than in the CONNECT line."),
    };
    let shaking = async {
        let Ok(config) = caller.egress.authority.leaf(bare(&host).as_ref()) else {
            return refused("tunnel.certificate", "No certificate can be made for this host's name.");
        };
        match tokio::time::timeout(HELLO, start.into_stream(config)).await {
            Ok(done) => Ok(done?),
            Err(slow) => Err(io::Error::from(slow).into()),
        }
    };
    let tls = caller.egress.handshakes.begin(shaking).await?;
    let two = tls.get_ref().1.alpn_protocol() == Some(b"h2");
    let came = Came::Inside(Inside { host, port, named });
    if two {
        serve_two(gate, caller, tls, came).await
    } else {
        serve_one(gate, caller, tls, came).await
    }
    Ok(())
}

/// The host as it stands in a certificate: an IPv6 address without brackets.
fn bare(host: &Name) -> String {
    host.address().map_or_else(|| host.to_string(), |address| address.to_string())
}

async fn serve_one(
    gate: &Arc<Gate>,
    caller: &Arc<Caller>,
    tls: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    came: Came,
) {
    let next = Next::default();
    let service = {
        let (gate, caller, next) = (gate.clone(), caller.clone(), next.clone());
        service_fn(move |request| {
            let (gate, caller, came, next) = (gate.clone(), caller.clone(), came.clone(), next.clone());
            async move {
                let leaves = Leaves::of(&request);
                let answer = match wire::fault_of(&request) {
                    Some(fault) => door::misshapen(&caller, fault).await,
                    None => super::answer(&gate, &caller, &came, &next, request).await,
                };
                Ok::<_, Infallible>(leaves.or_close(answer))
            }
        })
    };
    let served = door::builder().serve_connection(TokioIo::new(Strict::new(tls)), service).with_upgrades().await;
    if let Err(error) = served {
        door::ended_badly(caller, &error).await;
    }
    // A WebSocket; there is no tunnel inside a tunnel.
    if let Some(after) = next.take() {
        Box::pin(follow(gate, caller, *after)).await;
    }
}

/// What is said when a run has as many requests over HTTP/2 in progress as it may.
fn crowded() -> Refusal {
    let why = format!(
        "{RUN_STREAMS} requests of this run over HTTP/2 are in progress; one more is taken when one of them ends."
    );
    Refusal::fault("egress.crowded", why).with_status(StatusCode::SERVICE_UNAVAILABLE)
}

async fn serve_two(
    gate: &Arc<Gate>,
    caller: &Arc<Caller>,
    tls: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    came: Came,
) {
    let asked = Arc::new(AtomicBool::new(false));
    let service = {
        let (gate, caller, asked) = (gate.clone(), caller.clone(), asked.clone());
        service_fn(move |request| {
            asked.store(true, Ordering::Relaxed);
            let (gate, caller, came) = (gate.clone(), caller.clone(), came.clone());
            async move {
                // Nothing waits with a head in memory that is not to be taken.
                let seat = caller.egress.streams.clone().try_acquire_owned().ok();
                let answer = match shape::of_two(&request) {
                    Err(fault) => {
                        drop(request);
                        door::misshapen(&caller, fault).await
                    }
                    Ok(()) if seat.is_none() => {
                        drop(request);
                        call::refuse(&caller, crowded(), &Trace::default()).await
                    }
                    Ok(()) => super::answer(&gate, &caller, &came, &Next::default(), request).await,
                };
                Ok::<_, Infallible>(answer.map(|body| streams::watched(body, seat)))
            }
        })
    };
    let resets = Arc::new(Resets::default());
    let tls = Guarded::of_box(tls, caller.egress.frames.clone());
    let flooded = tls.flooded();
    let streams = Streams::default();
    let _ends = EndsWith(streams.clone());
    let served = http2::Builder::new(streams)
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size((CONNECTION_WINDOW / STREAMS) as usize)
        .max_header_list_size(u32::try_from(wire::MAX_HEAD).unwrap_or(u32::MAX))
        .keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1)
        .serve_connection(TokioIo::new(Watched::new(tls, resets.clone())), service);
    let recording = async {
        loop {
            resets.next().await;
            reset(caller, 1).await;
        }
    };
    // Later ones may wait as long as their client answers for itself; one that never asks has nothing to wait for.
    let never_asks = async {
        tokio::time::sleep(Duration::from_secs(door::HEAD_SECS)).await;
        if asked.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        served = served => {
            if let Err(error) = served {
                tracing::debug!(%error, run = %caller.run, "an HTTP/2 connection ended");
            }
        }
        () = recording => {}
        () = never_asks => tracing::debug!(run = %caller.run, "an HTTP/2 connection that asks nothing is cut"),
    }
    reset(caller, resets.left()).await;
    if let Some(refusal) = flooded.refusal() {
        record(caller, &refusal, &Trace::default()).await;
    }
}

/// Records what the HTTP/2 library refused by itself, so many times.
async fn reset(caller: &Caller, times: u64) {
    let why = "What came over HTTP/2 was malformed, or asked for another protocol over a stream, which is not offered: its \
               stream, or the connection, was ended.";
    for _ in 0..times {
        let verdict = Trace::default().refused(&Refusal::policy("request.malformed", why));
        if caller.tally.record(verdict).await.is_err() {
            tracing::warn!(run = %caller.run, "a malformed request was refused while the server was away");
        }
    }
}

/// A blind tunnel: the first message is looked at, the rest only counted.
async fn tunnel(
    mut client: impl AsyncRead + AsyncWrite + Send + Unpin,
    host: &Name,
    mut stream: Paced<TcpStream>,
    budget: Budget,
    leave: &Leave,
    spent: &Spent,
) -> Result<(), Ended> {
    let mut first = Vec::new();
    let looking = async {
        loop {
            match hello::look(&first) {
                Look::More => {}
                look => return Ok(look),
            }
            if client.read_buf(&mut first).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
        }
    };
    let look = match tokio::time::timeout(HELLO, looking).await {
        Ok(look) => look?,
        Err(_) => return refused("tunnel.slow", "Nothing came in the tunnel for ten seconds."),
    };
    match look {
        Look::Name(name) if Name::parse(&name).is_ok_and(|name| name == *host) => {}
        Look::Name(_) => return refused("tunnel.name", "The name in TLS is another one than in the CONNECT line."),
        Look::Nameless => return refused("tunnel.nameless", "TLS in a blind tunnel must name its host."),
        Look::Hidden => {
            return refused("tunnel.hidden", "TLS in a blind tunnel must not encrypt the name of its host.");
        }
        Look::Other | Look::More => {
            return refused("tunnel.no-tls", "What came in the tunnel is no TLS; nothing else goes through.");
        }
    }
    leave.sent(first.len());
    stream.write_all(&first).await?;
    let bounds =
        Bounds { bytes: budget.bytes.saturating_sub(first.len() as u64), time: Duration::from_secs(budget.seconds) };
    match pipe(client, stream, bounds, leave, spent, Looks::default()).await {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::QuotaExceeded => {
            refused("tunnel.budget", "The tunnel has carried all that it may, or stood as long as it may.")
        }
        Err(error) => Err(error.into()),
    }
}

/// What is looked at on the way, each direction: nothing, unless said.
#[derive(Default)]
struct Looks<'r> {
    /// What the box says, before it is passed on.
    frames: Option<Frames>,
    /// What comes back, before it is passed on, and what the run has learnt of that.
    heard: Option<(Heard, Sought, &'r Hints)>,
}

/// How much, and how long.
struct Bounds {
    bytes: u64,
    time: Duration,
}

/// Passes bytes both ways until both sides have ended.
///
/// # Errors
/// `QuotaExceeded` beyond the bounds; a [`frames::Fault`] in what either side says; a side's own error.
async fn pipe(
    client: impl AsyncRead + AsyncWrite + Unpin,
    host: impl AsyncRead + AsyncWrite + Unpin,
    bounds: Bounds,
    leave: &Leave,
    spent: &Spent,
    looks: Looks<'_>,
) -> io::Result<()> {
    let Looks { mut frames, mut heard } = looks;
    let cut = |fault: frames::Fault| io::Error::new(io::ErrorKind::InvalidData, fault);
    let left = AtomicU64::new(bounds.bytes);
    let take = |bytes: usize| {
        let enough = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |l| l.checked_sub(bytes as u64)).is_ok();
        if enough && spent.spend(bytes) { Ok(()) } else { Err(io::Error::from(io::ErrorKind::QuotaExceeded)) }
    };
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_host, mut to_host) = tokio::io::split(host);
    let out = async {
        let mut piece = vec![0; PIECE];
        loop {
            let bytes = idle(from_client.read(&mut piece)).await?;
            if bytes == 0 {
                return to_host.shutdown().await;
            }
            take(bytes)?;
            if let Some(frames) = &mut frames {
                frames.look(&piece[..bytes]).map_err(cut)?;
            }
            leave.sent(bytes);
            idle(to_host.write_all(&piece[..bytes])).await?;
        }
    };
    let back = async {
        let (mut piece, mut pauses) = (vec![0; PIECE], false);
        let tell = |heard: &mut Heard, hints: &Hints| {
            heard.newly_held().into_iter().for_each(|end| hints.tell(end));
            // Also where another one told it: each that goes on would tell one more.
            if hints.are_spent() { Err(cut(frames::Fault::Told)) } else { Ok(()) }
        };
        loop {
            let read = idle(from_host.read(&mut piece));
            let bytes = match &mut heard {
                Some((heard, ..)) if let Some(since) = heard.held_since() => {
                    timeout_at(since + HELD_MESSAGE, read).await.map_err(|_| cut(frames::Fault::Held))??
                }
                Some((heard, _, hints)) if heard.waits() && !pauses => match tokio::time::timeout(PAUSE, read).await {
                    Ok(bytes) => bytes?,
                    Err(_) => {
                        pauses = true;
                        let passed = heard.pause().map_err(cut)?;
                        tell(heard, hints)?;
                        idle(to_client.write_all(&passed)).await?;
                        continue;
                    }
                },
                _ => read.await?,
            };
            pauses = false;
            if bytes == 0 {
                if let Some((heard, ..)) = heard {
                    idle(to_client.write_all(&heard.finish().map_err(cut)?)).await?;
                }
                return to_client.shutdown().await;
            }
            take(bytes)?;
            leave.received(bytes);
            match &mut heard {
                None => idle(to_client.write_all(&piece[..bytes])).await?,
                Some((heard, sought, hints)) => {
                    heard.renew(&sought.scrubber());
                    let passed = heard.push(&piece[..bytes], Instant::now()).map_err(cut)?;
                    tell(heard, hints)?;
                    idle(to_client.write_all(&passed)).await?;
                }
            }
        }
    };
    match tokio::time::timeout(bounds.time, async { tokio::try_join!(out, back) }).await {
        Ok(done) => done.map(|_| ()),
        Err(_) => Err(io::ErrorKind::QuotaExceeded.into()),
    }
}

async fn idle<T>(step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(IDLE, step).await {
        Ok(done) => done,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

#[cfg(test)]
#[path = "tunnel_tests.rs"]
mod tests;
