//! Frames to the operator, in order, by one writer.
//!
//! Few frames wait here: when the operator is slow, whoever has something to say waits, and so does,
//! through its pipe, the command that said it.

use crate::bound;
use api::frame;
use api::inbox::{Done, Hello, Kind};
use model::Event;
use serde::Serialize;
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};

/// Frames that may wait.
const WAITING: usize = 4;

struct Parcel {
    body: Vec<u8>,
    written: Option<oneshot::Sender<()>>,
}

/// The way out. Clones write to the same pipe.
#[derive(Clone)]
pub struct Outbox {
    to: mpsc::Sender<Parcel>,
}

impl Outbox {
    /// Starts the writer, in a task of its own. An operator that is gone is the end of the box.
    #[must_use]
    pub fn start(mut stdout: pipe::Sender) -> Self {
        let (to, mut parcels) = mpsc::channel::<Parcel>(WAITING);
        tokio::task::spawn_local(async move {
            while let Some(parcel) = parcels.recv().await {
                if let Err(error) = frame::write_bytes(&mut stdout, &parcel.body).await {
                    eprintln!("runner: the operator cannot be told: {error}");
                    std::process::exit(70);
                }
                if let Some(written) = parcel.written {
                    // Whoever asked may have been ended meanwhile.
                    let _ = written.send(());
                }
            }
        });
        Self { to }
    }

    /// Says what happened; returns once it stands in the queue.
    pub async fn event(&self, event: Event) {
        for body in bound::frames(event) {
            self.send(body, None).await;
        }
    }

    /// Says what is about to happen; returns once the operator's pipe holds it.
    pub async fn event_first(&self, event: Event) {
        for body in bound::frames(event) {
            self.written(body).await;
        }
    }

    /// A sentence for people.
    pub async fn note(&self, text: impl Into<String>) {
        self.event(Event::Note { text: text.into() }).await;
    }

    /// The first frame.
    pub async fn hello(&self, hello: &Hello) {
        self.written(message(Kind::Hello, hello)).await;
    }

    /// The last frame; returns once it is written.
    pub async fn done(&self, done: &Done) {
        self.written(message(Kind::Done, done)).await;
    }

    async fn written(&self, body: Vec<u8>) {
        let (written, seen) = oneshot::channel();
        self.send(body, Some(written)).await;
        // The writer drops this unanswered only when the process ends.
        drop(seen.await);
    }

    async fn send(&self, body: Vec<u8>, written: Option<oneshot::Sender<()>>) {
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
