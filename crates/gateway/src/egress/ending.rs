//! A connection over which a credential goes ends with the lease that the credential was given by: whatever is under way on it,
//! a body either way or a WebSocket, over HTTP/1.1 or HTTP/2, goes no further from that moment on.
//!
//! Read [`Ending`].

use crate::server::leases::Under;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Comes when a lease is over.
pub(crate) type Over = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A wire that carries no byte more, either way, once one of its leases is over.
pub(crate) struct Ending<W> {
    wire: W,
    /// None once it came.
    over: Option<Over>,
}

impl<W> Ending<W> {
    /// This wire until the end of these leases.
    pub(crate) fn with(under: &Under, wire: W) -> Self {
        Self { wire, over: Some(Box::pin(under.over())) }
    }

    /// # Errors
    /// `ConnectionAborted` once a lease is over; whoever asks is woken then.
    fn goes_on(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.over.as_mut().is_some_and(|over| over.as_mut().poll(cx).is_pending()) {
            return Ok(());
        }
        self.over = None;
        Err(io::ErrorKind::ConnectionAborted.into())
    }
}

impl<W: AsyncRead + Unpin> AsyncRead for Ending<W> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.goes_on(cx)?;
        Pin::new(&mut self.wire).poll_read(cx, into)
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Ending<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.goes_on(cx)?;
        Pin::new(&mut self.wire).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.goes_on(cx)?;
        Pin::new(&mut self.wire).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // TLS holds what was written until it is flushed.
        self.goes_on(cx)?;
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.goes_on(cx)?;
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }
}
