//! What is carried between two ends, one of which says nothing or goes.

use super::*;
use crate::server::Server;
use model::GrantId;
use std::pin::Pin;
use std::sync::atomic::AtomicUsize;
use std::task::{Context, Poll, Waker};

/// A client that says nothing and takes all.
struct Takes<'a>(&'a AtomicUsize);

impl AsyncRead for Takes<'_> {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut tokio::io::ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Takes<'_> {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.fetch_add(bytes.len(), Ordering::Relaxed);
        Poll::Ready(Ok(bytes.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_tunnel_whose_host_sends_without_end_gives_way_after_every_16_kib() {
    let (taken, spent) = (AtomicUsize::new(0), Spent::default());
    let leave = Leave::new(Server::unconnected(), GrantId::parse("g").unwrap());
    // As a tunnel's host is read: `After::Tunnel` holds no other.
    let host = Paced::new(tokio::io::join(tokio::io::repeat(b'x'), tokio::io::sink()));
    let bounds = Bounds { bytes: 1 << 20, time: REQUEST };
    let mut piped = Box::pin(pipe(Takes(&taken), host, bounds, &leave, &spent, Looks::default()));
    for turn in 1..=4 {
        assert!(piped.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert_eq!(taken.load(Ordering::Relaxed), turn * crate::pace::TURN);
    }
}
