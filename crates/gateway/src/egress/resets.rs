//! What the HTTP/2 library refuses by itself, before a request is anything that could be judged: it is seen in what the
//! library says back, so that it is recorded all the same.
//!
//! A head that is malformed, and one that asks for another protocol over a stream (extended CONNECT, which is not offered),
//! is answered by a frame that resets its stream; bytes that are no HTTP/2 by one that ends the connection. Those are frames of
//! 13 and of 17 bytes or more in the clear, which our own side writes; nothing that a box says is read here.
//!
//! Read [`Watched`], then [`Resets::next`].

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

/// Bytes of a frame's head (RFC 9113, 4.1).
const HEAD: usize = 9;
/// Bytes of the longest payload that is looked at: of GOAWAY, up to its code.
const LOOKED_AT: usize = 8;
/// RST_STREAM: ends a stream.
const RESET: u8 = 3;
/// GOAWAY: ends the connection.
const AWAY: u8 = 7;
/// The codes that say that what came was malformed: PROTOCOL_ERROR, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, COMPRESSION_ERROR.
const MALFORMED: [u32; 4] = [1, 3, 6, 9];

/// How often the library refused something as malformed.
#[derive(Default)]
pub(crate) struct Resets {
    count: AtomicU64,
    news: Notify,
}

impl Resets {
    /// Takes one; waits for it. Where many came at once, those that were not taken are [`Self::left`].
    pub(crate) async fn next(&self) {
        let less_one = |count: u64| count.checked_sub(1);
        while self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less_one).is_err() {
            self.news.notified().await;
        }
    }

    /// Takes all that were not taken.
    pub(crate) fn left(&self) -> u64 {
        self.count.swap(0, Ordering::Relaxed)
    }

    fn one(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.news.notify_one();
    }
}

/// Where in a row of frames its reader is.
#[derive(Default)]
struct Frames {
    /// The head and the first bytes of the frame that is not at its end.
    start: [u8; HEAD + LOOKED_AT],
    have: usize,
    /// Bytes of it that are still to come, once its head is whole.
    left: usize,
}

impl Frames {
    /// Takes in the next bytes, and gives how many frames that end in them refuse something as malformed.
    fn take(&mut self, mut bytes: &[u8]) -> u64 {
        let mut count = 0;
        while !bytes.is_empty() {
            let looks_at = self.start.len().min(HEAD + self.length());
            if self.have < looks_at {
                self.start[self.have] = bytes[0];
                self.have += 1;
                bytes = &bytes[1..];
                match self.have {
                    HEAD => self.left = self.length(),
                    more if more > HEAD => self.left -= 1,
                    _ => continue,
                }
            } else {
                let passed = self.left.min(bytes.len());
                self.left -= passed;
                bytes = &bytes[passed..];
            }
            if self.left == 0 {
                count += u64::from(self.refuses());
                self.have = 0;
            }
        }
        count
    }

    /// Length of the payload; 0 while the head is not whole.
    fn length(&self) -> usize {
        let [a, b, c, ..] = self.start;
        if self.have < HEAD { 0 } else { usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c) }
    }

    fn refuses(&self) -> bool {
        let code = match (self.start[3], self.length()) {
            (RESET, 4) => &self.start[HEAD..HEAD + 4],
            (AWAY, 8..) => &self.start[HEAD + 4..],
            _ => return false,
        };
        MALFORMED.contains(&code.iter().fold(0, |code, byte| code << 8 | u32::from(*byte)))
    }
}

/// A connection of which what is written is watched.
pub(crate) struct Watched<T> {
    inner: T,
    frames: Frames,
    resets: Arc<Resets>,
}

impl<T> Watched<T> {
    pub(crate) fn new(inner: T, resets: Arc<Resets>) -> Self {
        Self { inner, frames: Frames::default(), resets }
    }

    fn wrote(&mut self, bytes: &[u8]) {
        (0..self.frames.take(bytes)).for_each(|_| self.resets.one());
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, into)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.inner).poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = wrote {
            self.wrote(&bytes[..count]);
        }
        wrote
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.inner).poll_write_vectored(cx, pieces);
        if let Poll::Ready(Ok(mut count)) = wrote {
            for piece in pieces {
                let of_this = piece.len().min(count);
                self.wrote(&piece[..of_this]);
                count -= of_this;
            }
        }
        wrote
    }
    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, 0, 0, 0, 0, 1], payload].concat()
    }

    #[test]
    fn a_frame_that_refuses_is_counted_however_it_is_cut_and_no_other_is() {
        let reset = |code: u32| frame(RESET, &code.to_be_bytes());
        let away = |code: u32| frame(AWAY, &[&[0; 4][..], &code.to_be_bytes(), b"words"].concat());
        let all = [
            frame(4, &[]),
            frame(0, &[RESET; 300]),
            reset(1),
            frame(1, &reset(1)),
            reset(0),
            reset(8),
            frame(0, &[]),
            away(9),
            away(0),
            frame(RESET, &[0; 3]),
            reset(6),
        ]
        .concat();
        for size in [1, 2, 5, 9, 13, 100, 1000] {
            let mut frames = Frames::default();
            assert_eq!(all.chunks(size).map(|piece| frames.take(piece)).sum::<u64>(), 3, "in pieces of {size}");
        }
    }
}
