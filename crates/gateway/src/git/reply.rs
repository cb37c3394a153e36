//! An upstream's answer to a fetch on its way back: as it comes, scrubbed, counted, and never faster than it is taken.

use super::bands::Bands;
use super::push::Wrong;
use super::upstream::{Carrier, Upstream};
use crate::egress::limits::{IDLE, REQUEST};
use crate::egress::run::Spent;
use crate::server::egress::Leave;
use bytes::Bytes;
use http_body::{Body, Frame};
use hyper::body::Incoming;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::time::{Instant, Sleep};

/// Dropped before its end, it counts as interrupted.
pub(crate) struct Reply {
    host: Incoming,
    bands: Option<Bands>,
    leave: Leave,
    spent: Arc<Spent>,
    idle: Pin<Box<Sleep>>,
    ends: Pin<Box<Sleep>>,
    done: bool,
    /// It was refused: nothing more of it goes on, once what was said of that is on its way.
    refused: Option<bool>,
    _carrier: Option<Carrier>,
}

impl Reply {
    pub(crate) fn new(host: Incoming, from: Upstream, spent: Arc<Spent>) -> Self {
        let (carrier, scrubber, leave) = from.into_parts();
        Self {
            host,
            bands: scrubber.filter(|s| !s.is_empty()).map(|s| Bands::of_fetch(&s)),
            leave,
            spent,
            idle: Box::pin(tokio::time::sleep(IDLE)),
            ends: Box::pin(tokio::time::sleep(REQUEST)),
            done: false,
            refused: None,
            _carrier: carrier,
        }
    }

    fn end(&mut self, kind: io::ErrorKind) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.done = true;
        Poll::Ready(Some(Err(kind.into())))
    }

    /// Nothing more goes on, for this reason: what git shows of it, where it would read that.
    fn refuse(&mut self, bands: Bands, Wrong(why): &Wrong) -> Bytes {
        tracing::warn!(why, "a repository's host's answer to a fetch was refused in its middle");
        self.refused = Some(false);
        bands.refusal(why).into()
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        while !this.done {
            match this.refused.replace(true) {
                None => this.refused = None,
                // What is written is sent before a body's error ends its connection.
                Some(false) => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Some(true) => return this.end(io::ErrorKind::InvalidData),
            }
            if this.ends.as_mut().poll(cx).is_ready() {
                return this.end(io::ErrorKind::TimedOut);
            }
            let Poll::Ready(next) = Pin::new(&mut this.host).poll_frame(cx) else {
                if this.idle.as_mut().poll(cx).is_ready() {
                    return this.end(io::ErrorKind::TimedOut);
                }
                return Poll::Pending;
            };
            this.idle.as_mut().reset(Instant::now() + IDLE);
            let out = match next {
                Some(Ok(frame)) => {
                    // Trailers stay here.
                    let Ok(bytes) = frame.into_data() else { continue };
                    this.leave.received(bytes.len());
                    if !this.spent.spend(bytes.len()) {
                        return this.end(io::ErrorKind::QuotaExceeded);
                    }
                    match this.bands.take() {
                        Some(mut bands) => match bands.push(&bytes) {
                            Ok(out) => {
                                this.bands = Some(bands);
                                Bytes::from(out)
                            }
                            Err(wrong) => this.refuse(bands, &wrong),
                        },
                        None => bytes,
                    }
                }
                Some(Err(_)) => return this.end(io::ErrorKind::UnexpectedEof),
                None => {
                    let Ok(rest) = this.bands.take().map_or(Ok(Vec::new()), Bands::finish) else {
                        tracing::warn!("a repository's host's answer to a fetch is none at its end");
                        return this.end(io::ErrorKind::InvalidData);
                    };
                    this.done = true;
                    this.leave.is_whole();
                    Bytes::from(rest)
                }
            };
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(out))));
            }
        }
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        self.done
    }
}
