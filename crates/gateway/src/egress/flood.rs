//! Frames of HTTP/2 that carry nothing: a connection has a budget of them, and ends when it is spent.
//!
//! The HTTP/2 library answers each WINDOW_UPDATE, PRIORITY, PING, SETTINGS and RST_STREAM, and skips interim answers, as long
//! as they come. Each costs their sender next to nothing, and the one thread that serves about as much as a piece of a real
//! answer. So frames are counted by their heads, between TLS and the library, both ways: what the peer sends without carrying
//! something is spent, what this side sends to it (an answer to a box, a request to a host) is earned again, and time earns
//! a little. A client that acknowledges each frame of a download twice stays far below it, however long the download is.
//! One that answers each of many tiny messages by a WINDOW_UPDATE and a PING, as grpc-go does to measure its way, does not:
//! for it a run has a purse that its connections share.
//!
//! Read [`Guarded`], then [`Budget`] and [`Purse`].

use crate::pace::INTERIM_ANSWERS;
use crate::refusal::Refusal;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// Frames without a piece of a body that one connection may send at once.
const FRAMES: u32 = 2048;
/// How many of them each second earns.
const FRAMES_PER_SECOND: u32 = 200;
/// The same over all connections of one run, each of which has spent its own: as many at once, and more with each second.
const RUN_FRAMES_PER_SECOND: u32 = 2000;
/// How many the head of a message earns that is sent to the peer.
const FRAMES_PER_HEAD: u32 = 4;
/// How many bytes of a body that is sent to the peer earn one.
const BYTES_PER_FRAME: u32 = 64;
/// How many one frame of such a body earns at most.
const FRAMES_PER_PIECE: u32 = 8;
/// Frames of a connection that are handled before everything else has its turn.
const TURN_FRAMES: u32 = 128;
/// Bytes that are read at once, and so what the library may handle in a turn.
const READ: usize = 4 * 1024;

/// Bytes of a frame's head (RFC 9113, 4.1), and of what a client says first (3.4).
const HEAD: usize = 9;
const PREFACE: usize = 24;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
/// A flag of DATA and HEADERS: the last frame of its message.
const END_STREAM: u8 = 1;

/// The head of one frame.
struct Head {
    /// Bytes of its payload.
    length: u32,
    kind: u8,
    flags: u8,
}

/// Where in a row of frames its reader is.
struct Heads {
    head: [u8; HEAD],
    have: usize,
    /// Bytes that are still to come before the next head.
    left: usize,
}

impl Heads {
    fn after(left: usize) -> Self {
        Self { head: [0; HEAD], have: 0, left }
    }

    /// Takes in the next bytes; `seen` is told each head that ends in them.
    fn take(&mut self, mut bytes: &[u8], mut seen: impl FnMut(Head)) {
        while !bytes.is_empty() {
            let taken = if self.left > 0 { self.left.min(bytes.len()) } else { (HEAD - self.have).min(bytes.len()) };
            let (these, rest) = bytes.split_at(taken);
            bytes = rest;
            if self.left > 0 {
                self.left -= taken;
                continue;
            }
            self.head[self.have..self.have + taken].copy_from_slice(these);
            self.have += taken;
            if self.have == HEAD {
                let [a, b, c, kind, flags, ..] = self.head;
                let length = u32::from_be_bytes([0, a, b, c]);
                self.have = 0;
                self.left = length as usize;
                seen(Head { length, kind, flags });
            }
        }
    }
}

/// What may be spent, and what time earns.
struct Purse {
    /// Frames, times [`BYTES_PER_FRAME`].
    left: u32,
    since: Instant,
    /// Frames that a second earns.
    per_second: u32,
}

impl Purse {
    const MOST: u32 = FRAMES * BYTES_PER_FRAME;

    fn new(per_second: u32) -> Self {
        Self { left: Self::MOST, since: Instant::now(), per_second }
    }

    /// What was earned until `now`.
    fn pass(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since).as_millis();
        let earned = passed * u128::from(self.per_second * BYTES_PER_FRAME) / 1000;
        if earned > 0 {
            self.since = now;
            self.earn(u32::try_from(earned).unwrap_or(u32::MAX));
        }
    }

    fn earn(&mut self, earned: u32) {
        self.left = self.left.saturating_add(earned).min(Self::MOST);
    }

    /// False, and nothing is spent, where there is not so much left.
    fn spend(&mut self, cost: u32) -> bool {
        let less = self.left.checked_sub(cost);
        self.left = less.unwrap_or(self.left);
        less.is_some()
    }
}

/// What the connections of one run may spend beside their own, one with the other.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Mutex<Purse>>);

impl Default for Shared {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Purse::new(RUN_FRAMES_PER_SECOND))))
    }
}

impl Shared {
    fn spend(&self, cost: u32, now: Instant) -> bool {
        let mut purse = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        purse.pass(now);
        purse.spend(cost)
    }
}

/// What a peer may still send that carries nothing.
struct Budget {
    own: Purse,
    of_run: Shared,
    /// Heads of answers, interim ones among them; none where requests are read.
    heads: Option<u32>,
}

impl Budget {
    fn new(of_run: Shared, heads: Option<u32>) -> Self {
        Self { own: Purse::new(FRAMES_PER_SECOND), of_run, heads }
    }

    /// What a frame costs. The library itself bounds bodies in small pieces, and how long a head is.
    fn cost(frame: &Head) -> u32 {
        match frame.kind {
            DATA if frame.length > 0 => 0,
            DATA | HEADERS | CONTINUATION => BYTES_PER_FRAME,
            _ => BYTES_PER_FRAME * (1 + frame.length / BYTES_PER_FRAME),
        }
    }

    /// Takes a frame of the peer, which came at `now`. False when there is no room for it.
    fn spend(&mut self, frame: &Head, now: Instant) -> bool {
        if let (Some(heads), HEADERS) = (&mut self.heads, frame.kind)
            && frame.flags & END_STREAM == 0
        {
            let Some(less) = heads.checked_sub(1) else { return false };
            *heads = less;
        }
        let cost = Self::cost(frame);
        self.own.spend(cost) || self.of_run.spend(cost, now)
    }

    /// Takes a frame of this side.
    fn earn(&mut self, frame: &Head) {
        let earned = match frame.kind {
            DATA => frame.length.min(FRAMES_PER_PIECE * BYTES_PER_FRAME),
            HEADERS => FRAMES_PER_HEAD * BYTES_PER_FRAME,
            _ => 0,
        };
        self.own.earn(earned);
        if let (Some(heads), HEADERS) = (&mut self.heads, frame.kind) {
            *heads = heads.saturating_add(1 + INTERIM_ANSWERS);
        }
    }
}

/// Whether a connection was ended because its budget was spent.
#[derive(Clone, Default)]
pub(crate) struct Flooded(Arc<AtomicBool>);

impl Flooded {
    /// The refusal that is recorded then, if it was.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        let why = "Too many frames came over HTTP/2 that carry nothing: the connection was ended.";
        self.0.load(Ordering::Relaxed).then(|| Refusal::policy("request.flood", why))
    }
}

/// A connection of HTTP/2 whose frames are counted.
pub(crate) struct Guarded<T> {
    inner: T,
    reads: Heads,
    writes: Heads,
    budget: Budget,
    /// Frames of this turn.
    turn: u32,
    flooded: Flooded,
}

impl<T> Guarded<T> {
    /// One on which a box asks.
    pub(crate) fn of_box(inner: T, of_run: Shared) -> Self {
        Self::new(inner, (PREFACE, 0), Budget::new(of_run, None))
    }

    /// One on which a host answers.
    pub(crate) fn of_host(inner: T, of_run: Shared) -> Self {
        Self::new(inner, (0, PREFACE), Budget::new(of_run, Some(0)))
    }

    fn new(inner: T, (reads, writes): (usize, usize), budget: Budget) -> Self {
        Self {
            inner,
            reads: Heads::after(reads),
            writes: Heads::after(writes),
            budget,
            turn: 0,
            flooded: Flooded::default(),
        }
    }

    pub(crate) fn flooded(&self) -> Flooded {
        self.flooded.clone()
    }

    fn wrote(&mut self, bytes: &[u8]) {
        self.writes.take(bytes, |frame| self.budget.earn(&frame));
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Guarded<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.turn >= TURN_FRAMES {
            this.turn = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let mut space = ReadBuf::new(into.initialize_unfilled_to(READ.min(into.remaining())));
        let done = Pin::new(&mut this.inner).poll_read(cx, &mut space);
        if done.is_pending() {
            this.turn = 0;
        }
        ready!(done)?;
        let (mut within, now) = (true, Instant::now());
        this.budget.own.pass(now);
        this.reads.take(space.filled(), |frame| {
            this.turn += 1;
            within &= this.budget.spend(&frame, now);
        });
        if !within {
            this.flooded.0.store(true, Ordering::Relaxed);
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a flood of frames that carry nothing",
            )));
        }
        let came = space.filled().len();
        into.advance(came);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Guarded<T> {
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
    use std::task::Waker;
    use std::time::Duration;

    const WINDOW_UPDATE: Head = Head { length: 4, kind: 8, flags: 0 };
    const PIECE: Head = Head { length: 16 * 1024, kind: DATA, flags: 0 };

    /// One of a run that has spent what its connections share.
    fn budget(heads: Option<u32>) -> Budget {
        let of_run = Shared::default();
        of_run.0.lock().unwrap().left = 0;
        Budget::new(of_run, heads)
    }

    /// How many of this frame a budget takes one after the other, up to a million, at the moment of its own making.
    fn taken(budget: &mut Budget, frame: &Head) -> u32 {
        let now = budget.of_run.0.lock().unwrap().since;
        (0..1_000_000).find(|_| !budget.spend(frame, now)).unwrap_or(1_000_000)
    }

    #[test]
    fn frames_that_carry_nothing_are_2048_at_most_and_200_more_after_each_second() {
        let mut budget = budget(None);
        let empty = Head { length: 0, kind: DATA, flags: 0 };
        assert_eq!(taken(&mut budget, &WINDOW_UPDATE), 2048);
        budget.own.pass(budget.own.since + Duration::from_secs(1));
        assert_eq!(taken(&mut budget, &empty), 200);
        budget.own.pass(budget.own.since + Duration::from_secs(3600));
        assert_eq!(taken(&mut budget, &empty), 2048, "an hour of silence is worth no more");
        budget.own.pass(budget.own.since + Duration::from_secs(3600));
        assert_eq!(
            taken(&mut budget, &Head { length: 16 * 1024, kind: 4, flags: 0 }),
            2048 / 257,
            "long ones cost more"
        );
    }

    #[test]
    fn a_connection_of_small_frames_gives_way_after_128_of_them_and_a_piece() {
        let frames = [vec![b'P'; PREFACE], vec![0; 2000 * HEAD]].concat();
        let mut guarded = Guarded::of_box(&frames[..], Shared::default());
        let (mut into, mut turns) = (vec![0; frames.len()], 0);
        let mut into = ReadBuf::new(&mut into);
        while into.remaining() > 0 {
            let before = into.filled().len();
            let cx = &mut Context::from_waker(Waker::noop());
            while Pin::new(&mut guarded).poll_read(cx, &mut into).is_ready() && into.remaining() > 0 {}
            assert!(into.filled().len() - before <= READ, "a turn of {} bytes", into.filled().len() - before);
            turns += 1;
        }
        assert!(turns >= frames.len() / READ && into.filled() == frames, "{turns}");
    }

    #[test]
    fn a_download_whose_every_frame_is_acknowledged_twice_never_ends_by_its_budget() {
        let (mut budget, now) = (budget(None), Instant::now());
        for _ in 0..1_000_000 {
            budget.earn(&PIECE);
            assert!(budget.spend(&WINDOW_UPDATE, now) && budget.spend(&WINDOW_UPDATE, now));
        }
    }

    #[test]
    fn the_connections_of_a_run_share_2048_frames_and_2000_more_after_each_second() {
        let (of_run, start) = (Shared::default(), Instant::now());
        let mut two = [Budget::new(of_run.clone(), None), Budget::new(of_run.clone(), None)];
        let mut spent = |now| {
            two.iter_mut().map(|one| (0..100_000).find(|_| !one.spend(&WINDOW_UPDATE, now)).unwrap()).sum::<u32>()
        };
        of_run.0.lock().unwrap().since = start;
        assert_eq!(spent(start), 2 * 2048 + 2048);
        assert_eq!(spent(start + Duration::from_secs(1)), 2000);
        assert_eq!(spent(start + Duration::from_secs(3600)), 2048, "an hour of silence is worth no more");
        assert_eq!(taken(&mut Budget::new(Shared::default(), None), &WINDOW_UPDATE), 4096, "another run has its own");
    }

    #[test]
    fn who_measures_its_way_by_two_frames_for_each_of_a_thousand_tiny_messages_a_second_is_not_ended() {
        // grpc-go: a WINDOW_UPDATE and a PING for each piece that comes while no PING is unanswered.
        let (ping, message) = (Head { length: 8, kind: 6, flags: 0 }, Head { length: 5 + 10, kind: DATA, flags: 0 });
        let mut budget = Budget::new(Shared::default(), None);
        let start = budget.own.since;
        for message_at in 0..600_000 {
            let now = start + Duration::from_millis(message_at);
            budget.own.pass(now);
            budget.earn(&message);
            assert!(budget.spend(&WINDOW_UPDATE, now) && budget.spend(&ping, now), "at {message_at} ms");
        }
    }

    #[test]
    fn a_body_costs_nothing_and_bytes_taken_one_by_one_do() {
        let mut budget = budget(None);
        assert_eq!(taken(&mut budget, &PIECE), 1_000_000);
        let now = budget.own.since;
        let taken = (0..1_000_000).find(|_| {
            budget.earn(&Head { length: 1, kind: DATA, flags: 0 });
            !budget.spend(&WINDOW_UPDATE, now)
        });
        assert!(taken.is_some_and(|taken| taken < 2100));
    }

    #[test]
    fn a_host_has_eight_interim_answers_for_each_request() {
        let (asked, interim) =
            (Head { length: 50, kind: HEADERS, flags: 5 }, Head { length: 5, kind: HEADERS, flags: 4 });
        let mut budget = budget(Some(0));
        assert_eq!(taken(&mut budget, &interim), 0, "nothing was asked");
        for _ in 0..3 {
            budget.earn(&asked);
            assert_eq!(taken(&mut budget, &interim), 9, "the last of them is the answer");
        }
    }

    #[test]
    fn heads_are_found_however_the_bytes_are_cut() {
        let frame =
            |length: u8, kind: u8| [&[0, 0, length, kind, 1, 0, 0, 0, 1][..], &vec![kind; length.into()]].concat();
        let all = [vec![b'P'; PREFACE], frame(0, 4), frame(200, 0), frame(8, 6), frame(255, 1), frame(0, 0)].concat();
        for size in [1, 2, 5, 9, 10, 100, 1000] {
            let (mut heads, mut seen) = (Heads::after(PREFACE), Vec::new());
            all.chunks(size)
                .for_each(|piece| heads.take(piece, |head| seen.push((head.length, head.kind, head.flags))));
            assert_eq!(seen, [(0, 4, 1), (200, 0, 1), (8, 6, 1), (255, 1, 1), (0, 0, 1)], "in pieces of {size}");
        }
    }
}
