//! The answer on its way back: as it arrives, scrubbed, metered, no faster than the client reads.
//!
//! Read [`passable`] (what comes back at all), [`relay`] (the head), then [`Relayed`] (the body).

use crate::door::OnTheClock;
use crate::egress::decode::Encoding;
use crate::egress::run::Hints;
use crate::fields;
use crate::meter::{Meter, is_stream};
use crate::pieces::{Pieces, TooMuch};
use crate::refusal::Refusal;
use crate::server::Lease;
use crate::spare::{Connection, Spares};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Response, StatusCode, header};
use http_body::Frame;
use hyper::body::Incoming;
use scrub::Scrubber;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

/// The answer's headers that go to the client, and prefixes of such. What is not listed stays here.
const RETURNED: [&str; 4] = ["content-type", "retry-after", "request-id", "x-request-id"];
const RETURNED_PREFIXES: [&str; 2] = ["anthropic-ratelimit-", "x-ratelimit-"];

/// Whether an answer may be passed on.
///
/// # Errors
/// A policy refusal: for a redirect (it is never followed), or a body in an encoding that cannot be scrubbed.
pub(crate) fn passable<B>(response: &Response<B>) -> Result<(), Refusal> {
    let refuse = |rule, why| Err(Refusal::policy(rule, why).with_status(StatusCode::BAD_GATEWAY));
    if response.status().is_redirection() || response.status().is_informational() {
        return refuse("upstream.redirect", "The model provider answered with a redirect, and none is followed.");
    }
    if Encoding::of(response.headers()) != Ok(None) {
        return refuse(
            "upstream.encoding",
            "The model provider answered in an encoding that cannot be checked for secrets.",
        );
    }
    Ok(())
}

/// The listed headers of an answer, scrubbed: of names that hold what is looked for, none.
fn returned(headers: &HeaderMap, scrubber: &Scrubber) -> HeaderMap {
    let listed = |name: &HeaderName| {
        RETURNED.contains(&name.as_str()) || RETURNED_PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix))
    };
    fields::scrubbed(headers.iter().filter(|(name, _)| listed(name)), scrubber)
}

/// Turns a provider's answer, which is [`passable`], into the client's. The connection
/// is kept by `spares` if the answer comes to its end.
pub(crate) fn relay(
    response: Response<Incoming>,
    connection: Connection,
    (spares, hints): (Arc<Spares>, Arc<Hints>),
    mut lease: Lease,
    scrubber: &Scrubber,
    clock: OnTheClock,
) -> Response<Relayed> {
    let (head, upstream) = response.into_parts();
    let kind = head.headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if let Some(meter) = &mut lease.meter {
        meter.head(kind);
    }
    let looked_for = !scrubber.is_empty();
    let body = Relayed {
        upstream,
        scrub: looked_for.then(|| scrubber.even_stream()),
        pieces: (looked_for && is_stream(kind)).then(|| Pieces::new(scrubber.clone(), hints)),
        lease: Some(lease),
        cut: false,
        done: false,
        connection: Some(connection),
        spares,
        _clock: clock,
    };
    let mut response = Response::new(body);
    *response.status_mut() = head.status;
    *response.headers_mut() = returned(&head.headers, scrubber);
    response
}

/// A body that streams through. Dropped before its end, it settles its call as interrupted.
pub(crate) struct Relayed {
    upstream: Incoming,
    scrub: Option<scrub::Stream>,
    /// Of a stream of events: the texts in them.
    pieces: Option<Pieces>,
    lease: Option<Lease>,
    /// The provider broke off; the client is to be told.
    cut: bool,
    done: bool,
    connection: Option<Connection>,
    spares: Arc<Spares>,
    _clock: OnTheClock,
}

impl Relayed {
    fn meter(&mut self) -> Option<&mut Meter> {
        self.lease.as_mut().and_then(|lease| lease.meter.as_mut())
    }

    /// The provider has said all; what was held back.
    fn finish(&mut self) -> Result<Bytes, TooMuch> {
        let mut rest = self.scrub.take().map(scrub::Stream::finish).unwrap_or_default();
        if let Some(mut pieces) = self.pieces.take() {
            rest = pieces.push(&rest)?;
            rest.extend(pieces.finish());
        }
        self.done = true;
        if let Some(mut lease) = self.lease.take() {
            lease.whole = true;
        }
        if let Some(connection) = self.connection.take() {
            self.spares.keep(connection, Instant::now());
        }
        Ok(rest.into())
    }

    /// The bytes that can go on when these came.
    fn decided(&mut self, bytes: Bytes) -> Result<Bytes, TooMuch> {
        let Some(scrub) = &mut self.scrub else { return Ok(bytes) };
        let out = scrub.push(&bytes);
        match &mut self.pieces {
            Some(pieces) => pieces.push(&out).map(Bytes::from),
            None => Ok(out.into()),
        }
    }

    /// The client's connection ends without the last chunk, so that it cannot take this for the end.
    fn cut_off(&mut self, why: &dyn std::fmt::Display, cx: &Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.lease = None;
        tracing::warn!(%why, "the answer of a model provider is cut off");
        self.cut = true;
        // Come back once more, so that what arrived before the cut is written before the end.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl http_body::Body for Relayed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        if this.cut {
            this.done = true;
            this.cut = false;
            return Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into())));
        }
        while !this.done {
            match ready!(Pin::new(&mut this.upstream).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    // Trailers stay here.
                    let Ok(bytes) = frame.into_data() else { continue };
                    if let Some(meter) = this.meter() {
                        meter.push(&bytes);
                    }
                    match this.decided(bytes) {
                        Ok(out) if out.is_empty() => {}
                        Ok(out) => return Poll::Ready(Some(Ok(Frame::data(out)))),
                        Err(TooMuch) => return this.cut_off(&"more of it waits than may be held", cx),
                    }
                }
                Some(Err(error)) => return this.cut_off(&error, cx),
                None => match this.finish() {
                    Ok(rest) if rest.is_empty() => {}
                    Ok(rest) => return Poll::Ready(Some(Ok(Frame::data(rest)))),
                    Err(TooMuch) => return this.cut_off(&"more of it waits than may be held", cx),
                },
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.done
    }
}
