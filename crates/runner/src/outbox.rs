//! Frames to the operator, in order, by one writer.
//!
//! Few frames wait here: when the operator is slow, whoever has something to say waits, and so does,
//! through its pipe, the command that said it.
//!
//! What an agent does waits further, for the host's journal ([`Outbox::event_kept`]): a frame in a pipe is lost when
//! the operator is killed, and the next attempt, not knowing of it, would do the same again.

use crate::bound;
use api::frame;
use api::inbox::{Done, Hello, Kind};
use model::Event;
use serde::Serialize;
use std::rc::Rc;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot, watch};

/// Frames that may wait.
const WAITING: usize = 4;

struct Parcel {
    /// A frame; none to learn what was written before.
    body: Option<Vec<u8>>,
    /// Told the number of events written by then.
    written: Option<oneshot::Sender<u64>>,
}

/// The way out. Clones write to the same pipe.
#[derive(Clone)]
pub struct Outbox {
    to: mpsc::Sender<Parcel>,
    kept: Rc<watch::Sender<u64>>,
}

impl Outbox {
    /// Starts the writer, in a task of its own. An operator that is gone is the end of the box.
    #[must_use]
    pub fn start(mut stdout: pipe::Sender) -> Self {
        let (to, mut parcels) = mpsc::channel::<Parcel>(WAITING);
        tokio::task::spawn_local(async move {
            let mut events = 0;
            while let Some(Parcel { body, written }) = parcels.recv().await {
                if let Some(body) = body {
                    if let Err(error) = frame::write_bytes(&mut stdout, &body).await {
                        eprintln!("runner: the operator cannot be told: {error}");
                        std::process::exit(70);
                    }
                    events += u64::from(body.first() == Some(&(Kind::Event as u8)));
                }
                if let Some(written) = written {
                    // Whoever asked may have been ended meanwhile.
                    let _ = written.send(events);
                }
            }
        });
        Self { to, kept: Rc::new(watch::Sender::new(0)) }
    }

    /// The host says that its journal holds the first `events` events.
    pub fn are_kept(&self, events: u64) {
        self.kept.send_if_modified(|kept| {
            let more = events > *kept;
            *kept = events.max(*kept);
            more
        });
    }

    /// Says what happened; returns once it stands in the queue.
    pub async fn event(&self, event: Event) {
        for body in bound::frames(event) {
            self.send(Some(body), None).await;
        }
    }

    /// Says what is about to happen; returns once the operator's pipe holds it.
    pub async fn event_first(&self, event: Event) {
        for body in bound::frames(event) {
            self.written(Some(body)).await;
        }
    }

    /// Says what is about to happen; returns once the host's journal holds it, and all that was said before.
    pub async fn event_kept(&self, event: Event) {
        self.event(event).await;
        self.all_kept().await;
    }

    /// Returns once the host's journal holds all that was said so far.
    pub async fn all_kept(&self) {
        let events = self.written(None).await;
        // Its sender is in `self`.
        drop(self.kept.subscribe().wait_for(|kept| *kept >= events).await);
    }

    /// Asks how often the box met which limit; the answer comes with the other frames.
    pub async fn ask(&self) {
        self.send(Some(vec![Kind::Ask as u8]), None).await;
    }

    /// A sentence for people.
    pub async fn note(&self, text: impl Into<String>) {
        self.event(Event::Note { text: text.into() }).await;
    }

    /// The first frame.
    pub async fn hello(&self, hello: &Hello) {
        self.written(Some(message(Kind::Hello, hello))).await;
    }

    /// The last frame; returns once it is written.
    pub async fn done(&self, done: &Done) {
        self.written(Some(message(Kind::Done, done))).await;
    }

    async fn written(&self, body: Option<Vec<u8>>) -> u64 {
        let (written, seen) = oneshot::channel();
        self.send(body, Some(written)).await;
        // The writer drops this unanswered only when the process ends.
        seen.await.unwrap_or(u64::MAX)
    }

    async fn send(&self, body: Option<Vec<u8>>, written: Option<oneshot::Sender<u64>>) {
        // The writer lives as long as the process.
        drop(self.to.send(Parcel { body, written }).await);
    }
}

fn message(kind: Kind, message: &impl Serialize) -> Vec<u8> {
    let mut body = vec![kind as u8];
    if let Err(error) = serde_json::to_writer(&mut body, message) {
        eprintln!("runner: a frame cannot be written: {error}");
        std::process::exit(70);
    }
    body
}
