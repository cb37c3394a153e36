//! A client's wire, of which nothing is read that is not in [`super::shape`]: between the socket (or TLS) and hyper.
//!
//! hyper is lenient where old clients need it (a bare line feed, two equal lengths, a length beside chunks); what
//! may leave a box is not. A head is held back until it is whole and judged. In the place of one that has a fault
//! hyper reads a request that no client can make ([`REFUSED`]), so that the refusal is answered and recorded like
//! any other, in its turn; after it nothing more is read.

use super::limits::IDLE;
use super::shape::{self, Chunks, Fault, Next};
use bytes::{Buf as _, BytesMut};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// The method of the request that stands for a refused one. [`super::shape`] refuses it from a client.
pub(crate) const REFUSED: &str = "VOLARY-REFUSED";
/// Longest head, in bytes.
pub(crate) const MAX_HEAD: usize = 64 * 1024;
/// Bytes that are read at once.
const READ: usize = 16 * 1024;

/// The fault that a request of the method [`REFUSED`] stands for.
pub(crate) fn fault_of<B>(request: &http::Request<B>) -> Option<Fault> {
    if request.method().as_str() != REFUSED {
        return None;
    }
    let number = request.uri().path().trim_start_matches('/').parse().unwrap_or(usize::MAX);
    Some(Fault::at(number).unwrap_or(Fault::Line))
}

/// A fault in the middle of a body.
#[derive(Debug)]
struct Broken(Fault);

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.why())
    }
}
impl std::error::Error for Broken {}

/// The fault in the middle of a body by which a connection ended, if it did.
pub(crate) fn broken(error: &(dyn std::error::Error + 'static)) -> Option<Fault> {
    let mut error = Some(error);
    while let Some(this) = error {
        let inner = this.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(Broken(fault)) = inner.and_then(|inner| inner.downcast_ref()) {
            return Some(*fault);
        }
        error = this.source();
    }
    None
}

/// A wire that is read strictly.
pub(crate) struct Strict<S> {
    wire: S,
    /// Came, and is not judged.
    raw: BytesMut,
    /// Of `raw`, how much was looked at.
    looked: usize,
    /// Judged, and to be handed on.
    good: BytesMut,
    state: State,
    /// Runs while the client takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

enum State {
    Head,
    Body(u64),
    Chunks(Chunks),
    /// Another protocol, or nothing: the answer to the last head decides.
    Other,
    Refused,
    Ended,
}

impl<S> Strict<S> {
    pub(crate) fn new(wire: S) -> Self {
        Self { wire, raw: BytesMut::new(), looked: 0, good: BytesMut::new(), state: State::Head, stalled: None }
    }

    /// A client that takes nothing for long is cut.
    fn taken<T>(&mut self, cx: &mut Context<'_>, done: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if done.is_ready() {
            self.stalled = None;
            return done;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(IDLE)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Judges what came. True if something was decided.
    fn judge(&mut self) -> io::Result<bool> {
        match &mut self.state {
            State::Head => match self.head() {
                Ok(whole) => Ok(whole),
                Err(fault) => {
                    let stand_in =
                        format!("{REFUSED} /{} HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n", fault.number());
                    self.good.extend_from_slice(stand_in.as_bytes());
                    self.raw.clear();
                    self.state = State::Refused;
                    Ok(true)
                }
            },
            State::Body(left) => {
                let taken = self.raw.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= taken as u64;
                if *left == 0 {
                    self.state = State::Head;
                }
                Ok(self.hand_on(taken))
            }
            State::Chunks(chunks) => {
                let taken = chunks
                    .read(&self.raw)
                    .map_err(|fault| io::Error::new(io::ErrorKind::InvalidData, Broken(fault)))?;
                if matches!(chunks, Chunks::Done) {
                    self.state = State::Head;
                }
                Ok(self.hand_on(taken))
            }
            State::Other => Ok(self.hand_on(self.raw.len())),
            State::Refused | State::Ended => Ok(false),
        }
    }

    fn hand_on(&mut self, bytes: usize) -> bool {
        self.looked = 0;
        if self.good.is_empty() {
            self.good = self.raw.split_to(bytes);
        } else {
            let some = self.raw.split_to(bytes);
            self.good.extend_from_slice(&some);
        }
        bytes > 0
    }

    /// Takes a head, if it is whole.
    fn head(&mut self) -> Result<bool, Fault> {
        let from = self.looked.saturating_sub(3);
        let end = self.raw[from..].windows(4).position(|w| w == b"\r\n\r\n").map(|at| from + at + 4);
        let known = end.unwrap_or(self.raw.len());
        if known > MAX_HEAD {
            return Err(Fault::TooLong);
        }
        shape::bytes_of_head(&self.raw[..known], self.looked)?;
        let Some(end) = end else {
            self.looked = known;
            return Ok(false);
        };
        self.state = match shape::head(&self.raw[..end])? {
            Next::Body(0) => State::Head,
            Next::Body(length) => State::Body(length),
            Next::Chunked => State::Chunks(Chunks::default()),
            Next::Other => State::Other,
        };
        Ok(self.hand_on(end))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Strict<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if !this.good.is_empty() {
                let taken = this.good.len().min(to.remaining());
                to.put_slice(&this.good[..taken]);
                this.good.advance(taken);
                return Poll::Ready(Ok(()));
            }
            match this.state {
                State::Ended => return Poll::Ready(Ok(())),
                // The stand-in asks for the end itself; until it is answered there is nothing to read.
                State::Refused => return Poll::Pending,
                _ => {}
            }
            if this.judge()? {
                continue;
            }
            let before = this.raw.len();
            this.raw.resize(before + READ, 0);
            let mut space = ReadBuf::new(&mut this.raw[before..]);
            let read = Pin::new(&mut this.wire).poll_read(cx, &mut space);
            let came = space.filled().len();
            this.raw.truncate(before + came);
            ready!(read)?;
            if came == 0 {
                // In the middle of a head or body hyper says what is missing.
                let rest = std::mem::take(&mut this.raw);
                if matches!(this.state, State::Head) {
                    this.good = rest;
                }
                this.state = State::Ended;
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Strict<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.wire).poll_write(cx, from);
        self.taken(cx, done)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.wire).poll_flush(cx);
        self.taken(cx, done)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.wire).poll_shutdown(cx);
        self.taken(cx, done)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let done = Pin::new(&mut self.wire).poll_write_vectored(cx, from);
        self.taken(cx, done)
    }
    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }
}
