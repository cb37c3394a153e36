//! The loopback port as it is served: HTTP/1.1 with limits, so that no account of this host can hold it busy.
//!
//! Read [`Limits`], then [`serve`] (who is let in), [`connection`] (how long a request may take to come), [`Paced`]
//! (how long an answer may wait to be taken).

use crate::accounts::Accounts;
use axum::Router;
use axum::body::{Body, Bytes};
use http::Request;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep};
use tower_service::Service;

/// What one connection, one account and all of them may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once; more wait in the kernel's queue.
    pub connections: usize,
    /// Connections of one account at once; more are closed.
    pub of_one_account: usize,
    /// Time for a request's head, and until the next one begins.
    pub head: Duration,
    /// Time for a request's body.
    pub body: Duration,
    /// Time in which a client takes at least something of what waits for it.
    pub stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            of_one_account: 64,
            head: Duration::from_secs(10),
            body: Duration::from_secs(30),
            stall: Duration::from_secs(60),
        }
    }
}

/// The account that a connection comes from; none where the kernel does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account(pub Option<u32>);

/// Longest head of a request, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// Rest after a failed accept (out of descriptors, say).
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Serves `router` until the task is dropped; connections end with it.
pub async fn serve(listener: TcpListener, accounts: Accounts, limits: Limits, router: Router) {
    let room = Arc::new(Semaphore::new(limits.connections));
    let seats = Arc::new(Seats { most: limits.of_one_account, taken: Mutex::default() });
    let mut connections = JoinSet::new();
    loop {
        let Ok(own) = room.clone().acquire_owned().await else { return };
        let (stream, far) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(e) => {
                tracing::warn!("the console's port does not accept: {e}");
                tokio::time::sleep(ACCEPT_REST).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let account = Account(stream.local_addr().ok().and_then(|near| accounts.of(far, near)));
        let Some(seat) = Seats::take(&seats, account) else {
            // Not louder: whoever goes on knocking would fill the log.
            tracing::debug!("{account:?} has {} connections already; one more was closed", limits.of_one_account);
            continue;
        };
        let router = router.clone();
        connections.spawn(async move {
            connection(stream, account, limits, router).await;
            drop((seat, own));
        });
    }
}

/// Who has how many connections.
struct Seats {
    most: usize,
    taken: Mutex<HashMap<Option<u32>, usize>>,
}

impl Seats {
    fn take(all: &Arc<Self>, account: Account) -> Option<Seat> {
        let mut taken = all.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.entry(account.0).or_default();
        if *own >= all.most {
            return None;
        }
        *own += 1;
        Some(Seat { all: all.clone(), account })
    }
}

/// One connection's place; given back when dropped.
struct Seat {
    all: Arc<Seats>,
    account: Account,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.all.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.account.0) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.account.0);
            }
        }
    }
}

/// Serves one connection, one request after the other.
async fn connection(stream: TcpStream, account: Account, limits: Limits, router: Router) {
    // Without this, small answers wait for the other side's delayed acknowledgement.
    if let Err(e) = stream.set_nodelay(true) {
        tracing::debug!("a client was gone before it was served: {e}");
        return;
    }
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request =
            request.map(|body| Body::new(Timely { body, end: Box::pin(tokio::time::sleep(limits.body)) }));
        request.extensions_mut().insert(account);
        router.clone().call(request)
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_header_size(MAX_HEAD)
        .max_buf_size(2 * MAX_HEAD)
        .serve_connection(Paced { io: TokioIo::new(stream), stall: limits.stall, waits: None }, service)
        .await;
    if let Err(e) = served {
        tracing::debug!("a connection of the console ended: {e}");
    }
}

/// A request's body that comes in its time, or not at all.
struct Timely {
    body: Incoming,
    end: Pin<Box<Sleep>>,
}

impl http_body::Body for Timely {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(frame.map(|frame| frame.map_err(Into::into))),
            Poll::Pending => self.end.as_mut().poll(cx).map(|()| Some(Err("the body did not come in time".into()))),
        }
    }
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream that is cut when nothing of what waits to be written is taken for too long. What is read has its limits
/// elsewhere: a page that is live rightly sends nothing for hours.
struct Paced {
    io: TokioIo<TcpStream>,
    stall: Duration,
    /// Since something waits to be written: when that is too long.
    waits: Option<Pin<Box<Sleep>>>,
}

impl Paced {
    fn pace<T>(&mut self, wrote: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if wrote.is_ready() {
            self.waits = None;
            return wrote;
        }
        let end = Instant::now() + self.stall;
        let waits = self.waits.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(end)));
        waits.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Read for Paced {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, to)
    }
}

impl Write for Paced {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.pace(wrote, cx)
    }
    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.io).poll_write_vectored(cx, bytes);
        self.pace(wrote, cx)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::response::IntoResponse;
    use std::net::SocketAddr;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::mpsc;

    /// What is waited for comes at once or never; this is when it is never.
    const NEVER: Duration = Duration::from_secs(60);
    /// Long for a test that must not meet it.
    const LONG: Duration = Duration::from_secs(600);
    const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";

    fn loose() -> Limits {
        Limits { connections: 50, of_one_account: 50, head: LONG, body: LONG, stall: LONG }
    }

    /// Says when an answer's body is dropped, which is when its connection ended.
    struct Gone(mpsc::UnboundedSender<()>);
    impl Drop for Gone {
        fn drop(&mut self) {
            self.0.send(()).ok();
        }
    }

    /// `/` answers at once, `/echo` once its body has come, `/flood` without an end.
    #[allow(clippy::disallowed_methods, reason = "a router of this test, which serves nothing of ours")]
    async fn port(limits: Limits) -> (SocketAddr, mpsc::UnboundedReceiver<()>) {
        let (tell, gone) = mpsc::unbounded_channel();
        let router = Router::new().fallback(move |request: Request<Body>| {
            let gone = Gone(tell.clone());
            async move {
                match request.uri().path() {
                    "/echo" => match axum::body::to_bytes(request.into_body(), 100).await {
                        Ok(bytes) => bytes.into_response(),
                        Err(e) => e.to_string().into_response(),
                    },
                    "/flood" => {
                        let flood = futures_util::stream::repeat_with(move || {
                            let _held = &gone;
                            Ok::<_, io::Error>(Bytes::from_static(&[b'x'; 65536]))
                        });
                        Body::from_stream(flood).into_response()
                    }
                    _ => "here".into_response(),
                }
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, Accounts::open().unwrap(), limits, router));
        (at, gone)
    }

    async fn said(stream: &mut TcpStream) -> String {
        let mut got = vec![0; 4096];
        let n = tokio::time::timeout(NEVER, stream.read(&mut got)).await.expect("an answer or an end").unwrap_or(0);
        String::from_utf8_lossy(&got[..n]).into_owned()
    }

    async fn ask(at: SocketAddr, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(at).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }

    #[tokio::test]
    async fn a_head_that_does_not_come_in_time_ends_its_connection_also_after_a_whole_request() {
        let (at, _gone) = port(Limits { head: Duration::from_millis(300), ..loose() }).await;
        let mut slow = ask(at, b"GET / HT").await;
        assert_eq!(said(&mut slow).await, "");
        let mut idle = ask(at, GET).await;
        assert!(said(&mut idle).await.contains("here"));
        assert_eq!(said(&mut idle).await, "");
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_in_time_is_an_error_and_not_waited_for() {
        let (at, _gone) = port(Limits { body: Duration::from_millis(300), ..loose() }).await;
        let head = b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n";
        let mut slow = ask(at, &[&head[..], b"ab"].concat()).await;
        assert!(said(&mut slow).await.contains("did not come in time"));
        let mut whole = ask(at, &[&head[..], b"abcd"].concat()).await;
        assert!(said(&mut whole).await.ends_with("abcd"));
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_of_its_answer_is_cut() {
        let (at, mut gone) = port(Limits { stall: Duration::from_millis(300), ..loose() }).await;
        let deaf = ask(at, b"GET /flood HTTP/1.1\r\nhost: x\r\n\r\n").await;
        tokio::time::timeout(NEVER, gone.recv()).await.expect("the answer is given up").unwrap();
        drop(deaf);
    }

    #[tokio::test]
    async fn connections_beyond_the_limit_wait_until_one_ends() {
        let (at, _gone) = port(Limits { connections: 2, ..loose() }).await;
        let (mut one, mut two) = (ask(at, GET).await, ask(at, GET).await);
        assert!(said(&mut one).await.contains("here") && said(&mut two).await.contains("here"));
        let mut third = ask(at, GET).await;
        let mut byte = [0];
        let early = tokio::time::timeout(Duration::from_millis(300), third.peek(&mut byte)).await;
        assert!(early.is_err(), "a third connection was served beside two");
        drop(one);
        assert!(said(&mut third).await.contains("here"));
    }

    #[tokio::test]
    async fn one_account_has_its_share_and_one_connection_more_is_closed() {
        let (at, _gone) = port(Limits { of_one_account: 2, ..loose() }).await;
        let (mut one, mut two) = (ask(at, GET).await, ask(at, GET).await);
        assert!(said(&mut one).await.contains("here") && said(&mut two).await.contains("here"));
        let mut third = TcpStream::connect(at).await.unwrap();
        assert_eq!(said(&mut third).await, "");
        drop(one);
        // Its place is free as soon as its end was seen.
        let end = Instant::now() + NEVER;
        loop {
            let mut again = TcpStream::connect(at).await.unwrap();
            let sent = again.write_all(GET).await;
            if sent.is_ok() && said(&mut again).await.contains("here") {
                break;
            }
            assert!(Instant::now() < end, "the place was never given back");
        }
    }
}
