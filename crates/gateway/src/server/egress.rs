//! Asking the server about requests to the outside: by which table a run is judged, and for each request a grant.
//!
//! Read [`Server::ask_law`], [`Server::ask_egress`], then [`Leave`] (a grant that settles itself).

use super::{ANSWER_SECS, Lost, Queued, Server};
use api::grants::{EgressAsk, EgressCredential, EgressOutcome, EgressWord, FromGateway};
use model::{Egress, GrantId, RunId};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;

/// The server's word on a request to the outside.
pub(crate) enum Said {
    /// Judge by this table from now on.
    Law { version: u64, egress: Box<Egress> },
    /// Let it out.
    Granted { leave: Leave, credential: Option<EgressCredential> },
    /// Do not.
    Denied { rule: String, why: String },
}

impl Server {
    /// By which table is this run judged?
    ///
    /// # Errors
    /// [`Lost`], as for [`Server::ask`].
    pub(crate) async fn ask_law(&self, run: RunId) -> Result<Said, Lost> {
        self.question(|id| FromGateway::AskLaw { id, run }).await
    }

    /// May this request go out? The answer is recorded by the server before it comes.
    ///
    /// # Errors
    /// [`Lost`], as for [`Server::ask`].
    pub(crate) async fn ask_egress(&self, ask: EgressAsk) -> Result<Said, Lost> {
        self.question(|id| FromGateway::AskEgress { id, ask }).await
    }

    async fn question(&self, message: impl FnOnce(u64) -> FromGateway) -> Result<Said, Lost> {
        let (answered, said) = oneshot::channel();
        {
            let mut shared = self.shared();
            if !shared.up {
                return Err(Lost);
            }
            shared.last_id += 1;
            let id = shared.last_id;
            shared.egress_questions.insert(id, answered);
            shared.queue.push_back(Queued { message: message(id), written: None });
        }
        self.work.notify_one();
        match tokio::time::timeout(Duration::from_secs(ANSWER_SECS), said).await {
            Ok(Ok(said)) => Ok(said),
            Ok(Err(_)) | Err(_) => Err(Lost),
        }
    }

    pub(super) fn egress_answered(self: &Arc<Self>, id: u64, word: EgressWord) {
        let said = match word {
            EgressWord::Law { version, egress } => Said::Law { version, egress: Box::new(egress) },
            EgressWord::Granted { grant, credential } => {
                self.shared().open.insert(grant.clone());
                Said::Granted { leave: Leave::new(self.clone(), grant), credential }
            }
            EgressWord::Denied { rule, why } => Said::Denied { rule, why },
        };
        let asker = self.shared().egress_questions.remove(&id);
        // An asker who is gone drops the word here, outside the lock, and the leave in it settles.
        if let Some(asker) = asker {
            drop(asker.send(said));
        }
    }
}

/// A request that may go out. It settles exactly once, when its last holder drops it, whatever ended it.
#[derive(Clone)]
pub(crate) struct Leave(Arc<Held>);

struct Held {
    server: Arc<Server>,
    grant: GrantId,
    status: AtomicU16,
    sent: AtomicU64,
    received: AtomicU64,
    whole: AtomicBool,
}

impl Leave {
    fn new(server: Arc<Server>, grant: GrantId) -> Self {
        Self(Arc::new(Held {
            server,
            grant,
            status: AtomicU16::new(0),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            whole: AtomicBool::new(false),
        }))
    }

    pub(crate) fn grant(&self) -> &GrantId {
        &self.0.grant
    }
    /// The host answered.
    pub(crate) fn answered(&self, status: u16) {
        self.0.status.store(status, Ordering::Relaxed);
    }
    /// So many bytes more went out.
    pub(crate) fn sent(&self, bytes: usize) {
        self.0.sent.fetch_add(bytes as u64, Ordering::Relaxed);
    }
    /// So many bytes more came back.
    pub(crate) fn received(&self, bytes: usize) {
        self.0.received.fetch_add(bytes as u64, Ordering::Relaxed);
    }
    /// It came to its end. Until that is said, it counts as interrupted.
    pub(crate) fn is_whole(&self) {
        self.0.whole.store(true, Ordering::Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let outcome = EgressOutcome {
            status: self.status.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
            interrupted: !self.whole.load(Ordering::Relaxed),
        };
        self.server.post(FromGateway::SettleEgress { grant: self.grant.clone(), outcome });
        self.server.shared().open.remove(&self.grant);
    }
}
