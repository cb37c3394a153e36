//! Bodies on their way: streamed, counted, bounded in bytes and time, and never faster than the other side takes them.
//!
//! Read [`Outgoing`] (to a host), then [`Carried`] (back to the box).

use super::decode::Decoder;
use super::ending::Over;
use super::fault::Fault;
use super::given::Sought;
use super::limits::{IDLE, PAUSE, REQUEST, REQUEST_BYTES};
use super::line::{Line, Lines};
use super::run::{Hints, Spent, TELLS_NOTHING};
use super::wire;
use crate::fields;
use crate::refusal::Refusal;
use crate::server::egress::Leave;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use policy::egress::signs::{self, Handle, Signs};
use scrub::Scrubber;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use tokio::time::{Instant, Sleep};

/// A request's body, on its way to a host.
pub(crate) struct Outgoing {
    client: Incoming,
    leave: Leave,
    spent: Arc<Spent>,
    length: Length,
    watch: Watch,
    idle: Pin<Box<Sleep>>,
    stopped: Stopped,
}

/// Looks for handles in what goes out piece by piece. The piece that ends one is the one that is met: what went before
/// holds less than a handle.
#[derive(Default)]
pub(crate) struct Watch(Vec<u8>);

impl Watch {
    /// Whether the text so far holds a handle, as it is or encoded, that ends in this piece.
    pub(crate) fn meets_handle(&mut self, piece: &[u8]) -> bool {
        self.0.extend_from_slice(piece);
        let meets = signs::hides_handle(&self.0);
        let known = self.0.len().saturating_sub(signs::HELD);
        self.0.drain(..known);
        meets
    }
}

/// How long a body is so far.
#[derive(Default)]
struct Length(u64);

impl Length {
    /// Whether it may be so many bytes longer.
    fn takes(&mut self, bytes: usize) -> bool {
        self.0 = self.0.saturating_add(bytes as u64);
        self.0 <= REQUEST_BYTES
    }
}

const TOO_LONG: &str = "body.too-long";
const TOO_LONG_WHY: &str = "The request's body is longer than 1 GiB.";

/// Refuses a body that says itself that it is longer than one may be.
///
/// # Errors
/// `body.too-long`.
pub(crate) fn may_be_so_long(body: &impl Body) -> Result<(), Refusal> {
    if body.size_hint().lower() <= REQUEST_BYTES {
        return Ok(());
    }
    Err(Refusal::policy(TOO_LONG, TOO_LONG_WHY).with_status(StatusCode::PAYLOAD_TOO_LARGE))
}

/// Why a body was stopped on its way, once it was: the rule and its reason.
#[derive(Clone, Default)]
pub(crate) struct Stopped(Arc<OnceLock<(&'static str, &'static str)>>);

impl Stopped {
    /// The refusal that tells it.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        let (rule, why) = self.0.get()?;
        Some(Refusal::policy(rule, *why).with_status(StatusCode::BAD_REQUEST))
    }

    fn by(&self, rule: &'static str, why: &'static str) -> io::Error {
        let (_, why) = self.0.get_or_init(|| (rule, why));
        broken(why)
    }
}

impl Outgoing {
    pub(crate) fn new(client: Incoming, leave: Leave, spent: Arc<Spent>, stopped: Stopped) -> Self {
        Self {
            client,
            leave,
            spent,
            length: Length::default(),
            watch: Watch::default(),
            idle: Box::pin(tokio::time::sleep(IDLE)),
            stopped,
        }
    }
}

fn broken(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        let Poll::Ready(next) = Pin::new(&mut this.client).poll_frame(cx) else {
            ready!(this.idle.as_mut().poll(cx));
            return Poll::Ready(Some(Err(this
                .stopped
                .by("body.slow", "The request's body stood still for a minute."))));
        };
        this.idle.as_mut().reset(Instant::now() + IDLE);
        let frame = match next {
            None => return Poll::Ready(None),
            Some(Err(error)) => {
                return Poll::Ready(Some(Err(match wire::broken(&error) {
                    Some(fault) => this.stopped.by("request.malformed", fault.why()),
                    None => this.stopped.by("body.cut", "The request's body broke off."),
                })));
            }
            Some(Ok(frame)) => frame,
        };
        if let Some(data) = frame.data_ref() {
            this.leave.sent(data.len());
            if !this.length.takes(data.len()) {
                return Poll::Ready(Some(Err(this.stopped.by(TOO_LONG, TOO_LONG_WHY))));
            }
            if !this.spent.spend(data.len()) {
                return Poll::Ready(Some(Err(this.stopped.by("run.bytes", "This run has moved all that it may."))));
            }
            if this.watch.meets_handle(data) {
                let why = "A handle stands in the body of the request; it goes alone into one header.";
                return Poll::Ready(Some(Err(this.stopped.by("handle.misplaced", why))));
            }
        }
        if let Some(trailers) = frame.trailers_ref() {
            let signs = Signs::of(trailers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())));
            if !matches!(signs.handle, Handle::None) {
                let why = "A handle stands in a trailer of the request.";
                return Poll::Ready(Some(Err(this.stopped.by("handle.misplaced", why))));
            }
            // Servers that put trailers to the head would take them as said there, where they were judged.
            if signs.credential || signs.cookie || signs.overrides || signs.upgrade || signs.body {
                let why = "A trailer of the request says what only its head may.";
                return Poll::Ready(Some(Err(this.stopped.by("request.malformed", why))));
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.client.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.client.size_hint()
    }
}

/// An answer's body, as it comes from a host, and what takes its encoding off, where it has one that is not to go on.
pub(crate) struct Host {
    pub(crate) body: Incoming,
    pub(crate) decoder: Option<Decoder>,
}

/// What is looked for in an answer.
struct Looked {
    stream: scrub::Stream,
    sought: Sought,
    hints: Arc<Hints>,
    /// What of the stream's end went on before it was decided.
    ahead: Vec<u8>,
    /// Until the host has said nothing for a while.
    pause: Pin<Box<Sleep>>,
}

impl Looked {
    fn new(sought: Sought, hints: Arc<Hints>) -> Self {
        let stream = sought.scrubber().even_stream();
        Self { stream, sought, hints, ahead: Vec::new(), pause: Box::pin(tokio::time::sleep(PAUSE)) }
    }

    /// What of an answer goes on, now that these bytes came.
    fn push(&mut self, bytes: &[u8]) -> Bytes {
        self.stream.renew(self.sought.scrubber());
        let decided = self.stream.push(bytes);
        self.beyond(decided).into()
    }

    /// Of what is decided, what did not go on before.
    fn beyond(&mut self, mut decided: Vec<u8>) -> Vec<u8> {
        let same = decided.iter().zip(&self.ahead).take_while(|(now, before)| now == before).count();
        if same < decided.len() {
            // Behind it, or the placeholder of a value that begins in it.
            self.ahead.clear();
        } else {
            self.ahead.drain(..same);
        }
        decided.drain(..same);
        decided
    }

    /// The host has said all.
    fn finish(mut self) -> Bytes {
        let stream = std::mem::replace(&mut self.stream, Scrubber::new([]).stream());
        self.beyond(stream.finish()).into()
    }

    /// What goes on because the host pauses, and its client may have to say something before it goes on. None while it does not.
    fn in_a_pause(&mut self, cx: &mut Context<'_>) -> Option<Bytes> {
        if !self.stream.holds() || self.hints.are_spent() || self.pause.as_mut().poll(cx).is_pending() {
            return None;
        }
        // Looked at once in each pause.
        self.pause.as_mut().reset(Instant::now() + REQUEST);
        let eased = self.stream.ease(|end| {
            self.hints.tell(end);
            !self.hints.are_spent()
        });
        let mut out = self.beyond(eased);
        if self.stream.waiting() <= TELLS_NOTHING && !self.hints.are_spent() {
            let held = self.stream.held();
            out.extend_from_slice(&held[self.ahead.len()..]);
            self.ahead = held;
        }
        (!out.is_empty()).then(|| out.into())
    }
}

/// An answer's body, on its way back. Dropped before its end, it counts as interrupted.
pub(crate) struct Carried {
    host: Incoming,
    decoder: Option<Decoder>,
    /// Came already, before the head went on.
    first: Option<Frame<Bytes>>,
    scrub: Option<Looked>,
    trailers: Option<HeaderMap>,
    leave: Leave,
    spent: Arc<Spent>,
    line: Option<(Line, Arc<Lines>)>,
    idle: Pin<Box<Sleep>>,
    ends: Pin<Box<Sleep>>,
    /// The lease of the credential that the request carried is over.
    over: Over,
    cut: Option<io::Error>,
    /// The host has said all.
    ended: bool,
    done: bool,
}

impl Carried {
    /// `looked_for` is given when its host was given a credential. The connection is kept if the answer comes to its end.
    pub(crate) fn new(
        host: Host,
        looked_for: Option<(Sought, Arc<Hints>)>,
        leave: Leave,
        spent: Arc<Spent>,
        (line, lines): (Line, Arc<Lines>),
        began: Instant,
    ) -> Self {
        let over = Box::pin(line.under().over());
        let mut carried = Self {
            host: host.body,
            decoder: host.decoder,
            first: None,
            scrub: looked_for.map(|(sought, hints)| Looked::new(sought, hints)),
            trailers: None,
            leave,
            spent,
            line: Some((line, lines)),
            idle: Box::pin(tokio::time::sleep(IDLE)),
            ends: Box::pin(tokio::time::sleep_until(began + REQUEST)),
            over,
            cut: None,
            ended: false,
            done: false,
        };
        if carried.host.is_end_stream() {
            carried.finish();
        }
        carried
    }

    /// The same, once its first bytes are decoded: of what is not in the encoding that its head names, not even the
    /// head goes on. What turns out later breaks the answer off.
    ///
    /// # Errors
    /// `write.encoding`; a fault when the host breaks off.
    pub(crate) async fn begun(mut self) -> Result<Self, Refusal> {
        if self.decoder.is_none() {
            return Ok(self);
        }
        match std::future::poll_fn(|cx| Pin::new(&mut self).poll_frame(cx)).await {
            None => Ok(self),
            Some(Ok(frame)) => {
                self.first = Some(frame);
                Ok(self)
            }
            Some(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                let why =
                    "The host's answer is not in the encoding that its head names, and cannot be checked for secrets.";
                Err(Refusal::policy("write.encoding", why).with_status(StatusCode::BAD_GATEWAY))
            }
            Some(Err(error)) if error.kind() == io::ErrorKind::TimedOut => Err(Fault::Slow.into()),
            Some(Err(_)) => Err(Fault::Cut.into()),
        }
    }

    fn finish(&mut self) {
        self.done = true;
        self.leave.is_whole();
        if let Some((line, lines)) = self.line.take() {
            lines.keep(line);
        }
    }

    /// Breaks the answer off. Once more this is asked, so that what came before is written before the end.
    fn cut_off(&mut self, cx: &Context<'_>, error: io::Error) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.cut = Some(error);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// The host says no more.
    fn end(&mut self) {
        self.ended = true;
        if let Some(decoder) = &mut self.decoder {
            decoder.feed(None);
        }
    }

    /// The next decoded piece of what came, scrubbed. None when there is no encoding to take off, or more must come.
    ///
    /// # Errors
    /// When what came cannot be decoded. What was decoded before is with the box; the answer is broken off.
    fn decoded(&mut self) -> io::Result<Option<Bytes>> {
        let Some(decoder) = &mut self.decoder else { return Ok(None) };
        while let Some(piece) = decoder.next()? {
            let out = Self::scrubbed(&mut self.scrub, piece);
            if !out.is_empty() {
                return Ok(Some(out));
            }
        }
        Ok(None)
    }

    fn scrubbed(scrub: &mut Option<Looked>, bytes: Bytes) -> Bytes {
        match scrub {
            Some(looked) => looked.push(&bytes),
            None => bytes,
        }
    }

    /// The host has said all: what the scrubber held back, then the trailers.
    fn rest(&mut self) -> Option<Frame<Bytes>> {
        if let Some(looked) = self.scrub.take() {
            let held = looked.finish();
            if !held.is_empty() {
                return Some(Frame::data(held));
            }
        }
        self.finish();
        self.trailers.take().map(Frame::trailers)
    }

    fn scrubbed_trailers(&self, mut trailers: HeaderMap) -> HeaderMap {
        match &self.scrub {
            Some(looked) => fields::scrubbed(&trailers, &looked.sought.scrubber()),
            None => {
                // A host may have a credential of which nothing can be looked for. Nobody else's cookie is taken of a trailer.
                fields::without_cookies(&mut trailers);
                trailers
            }
        }
    }
}

impl Body for Carried {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        // What of it came already goes no further either.
        if !this.done && this.over.as_mut().poll(cx).is_ready() {
            (this.first, this.cut, this.done) = (None, None, true);
            return Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into())));
        }
        if let Some(frame) = this.first.take() {
            return Poll::Ready(Some(Ok(frame)));
        }
        if let Some(error) = this.cut.take() {
            this.done = true;
            return Poll::Ready(Some(Err(error)));
        }
        while !this.done {
            match this.decoded() {
                Ok(None) => {}
                Ok(Some(piece)) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
                Err(error) => return this.cut_off(cx, error),
            }
            if this.ended {
                match this.rest() {
                    Some(frame) => return Poll::Ready(Some(Ok(frame))),
                    None => break,
                }
            }
            let late = this.ends.as_mut().poll(cx).is_ready();
            let next = match Pin::new(&mut this.host).poll_frame(cx) {
                Poll::Ready(next) if !late => next,
                Poll::Pending if !late && this.idle.as_mut().poll(cx).is_pending() => {
                    let eased = this.scrub.as_mut().and_then(|looked| looked.in_a_pause(cx));
                    return eased.map_or(Poll::Pending, |bytes| Poll::Ready(Some(Ok(Frame::data(bytes)))));
                }
                _ => {
                    this.done = true;
                    return Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())));
                }
            };
            this.idle.as_mut().reset(Instant::now() + IDLE);
            if let Some(looked) = &mut this.scrub {
                looked.pause.as_mut().reset(Instant::now() + PAUSE);
            }
            match next {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => {
                        this.leave.received(bytes.len());
                        if !this.spent.spend(bytes.len()) {
                            this.done = true;
                            return Poll::Ready(Some(Err(io::ErrorKind::QuotaExceeded.into())));
                        }
                        if let Some(decoder) = &mut this.decoder {
                            decoder.feed(Some(bytes));
                            continue;
                        }
                        let out = Self::scrubbed(&mut this.scrub, bytes);
                        // Who knows the length asks no further after the last byte.
                        if this.scrub.is_none() && this.host.is_end_stream() {
                            this.finish();
                        }
                        if !out.is_empty() {
                            return Poll::Ready(Some(Ok(Frame::data(out))));
                        }
                    }
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            this.end();
                            this.trailers = Some(this.scrubbed_trailers(trailers));
                        }
                    }
                },
                Some(Err(error)) => {
                    tracing::debug!(%error, "a host broke off in the middle of its answer");
                    return this.cut_off(cx, io::ErrorKind::UnexpectedEof.into());
                }
                None => this.end(),
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.done && self.cut.is_none() && self.first.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.scrub.is_some() || self.decoder.is_some() { SizeHint::default() } else { self.host.size_hint() }
    }
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
