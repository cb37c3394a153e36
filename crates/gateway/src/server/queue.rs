//! What waits to be said to the server, who waits for its answers, and what is under way meanwhile.
//!
//! Read [`Shared`], then [`Shared::forget`] (a cut) and [`Shared::front_is_written`].

use super::Word;
use api::grants::FromGateway;
use model::{GrantId, RunId};
use std::collections::{BTreeSet, HashMap, VecDeque};
use tokio::sync::oneshot;

/// Settlements that are said again after a cut.
const KEPT_SETTLED: usize = 256;

/// What the parts of the gateway share of the server.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) up: bool,
    /// How many connections are gone: an answer is for the one that its question came on.
    pub(super) dial: u64,
    pub(super) last_id: u64,
    pub(super) questions: HashMap<u64, oneshot::Sender<Word>>,
    pub(super) egress_questions: HashMap<u64, oneshot::Sender<super::egress::Said>>,
    pub(super) git_questions: HashMap<u64, (RunId, oneshot::Sender<super::git::Said>)>,
    pub(super) leases: super::leases::Leases,
    /// What vendors made, and the server did not say that it has.
    pub(super) made: super::held::Held,
    pub(super) queue: VecDeque<Queued>,
    pub(super) refusals: usize,
    /// Calls under way, by grant.
    pub(super) open: BTreeSet<GrantId>,
    /// The last settlements that were written on this connection, oldest first.
    pub(super) settled: VecDeque<FromGateway>,
}

/// A message, and who waits until it is written.
pub(super) struct Queued {
    pub(super) message: FromGateway,
    pub(super) written: Option<oneshot::Sender<()>>,
}

impl Shared {
    /// The first word after a dial: what is under way.
    pub(super) fn hello(&self) -> FromGateway {
        let settling = self.queue.iter().filter_map(|queued| match &queued.message {
            FromGateway::Settle { grant, .. }
            | FromGateway::SettleEgress { grant, .. }
            | FromGateway::Reads { grant, .. } => Some(grant.clone()),
            _ => None,
        });
        let ending = self.queue.iter().filter_map(|queued| match &queued.message {
            FromGateway::EndLease { lease, .. } => Some(lease.clone()),
            _ => None,
        });
        let (carried, values) = self.leases.carried_now();
        FromGateway::Hello {
            open: self.open.iter().cloned().chain(settling).collect(),
            leases: self.leases.held.keys().cloned().chain(carried).chain(ending).collect(),
            values,
        }
    }

    /// The connection is gone: nobody waits for its answers any more.
    pub(super) fn forget(&mut self) {
        self.up = false;
        self.dial += 1;
        // Questions and answers of probes die with the connection that they belong to; the rest waits.
        let waits = |message: &FromGateway| {
            matches!(
                message,
                FromGateway::Settle { .. }
                    | FromGateway::SettleEgress { .. }
                    | FromGateway::Reads { .. }
                    | FromGateway::EndLease { .. }
                    | FromGateway::Refused { .. }
            )
        };
        self.queue.retain(|q| waits(&q.message));
        for queued in &mut self.queue {
            queued.written = None;
        }
        let again = std::mem::take(&mut self.settled);
        for message in again.into_iter().rev() {
            self.queue.push_front(Queued { message, written: None });
        }
        let made = self.made.again();
        self.queue.extend(made);
        self.questions.clear();
        self.egress_questions.clear();
        self.git_questions.clear();
        self.leases.forget();
    }

    /// Whether nobody waits any more for the answer to the message in front; it need not be sent then.
    pub(super) fn asker_of_front_is_gone(&mut self) -> bool {
        let Some(Queued { message, .. }) = self.queue.front() else { return false };
        match message {
            FromGateway::Ask { id, .. } => {
                let id = *id;
                let gone = self.questions.get(&id).is_none_or(oneshot::Sender::is_closed);
                if gone {
                    self.questions.remove(&id);
                }
                gone
            }
            FromGateway::AskEgress { id, .. } | FromGateway::AskLaw { id, .. } | FromGateway::AskImage { id, .. } => {
                let id = *id;
                let gone = self.egress_questions.get(&id).is_none_or(oneshot::Sender::is_closed);
                if gone {
                    self.egress_questions.remove(&id);
                }
                gone
            }
            FromGateway::AskGit { id, .. } => {
                let id = *id;
                let gone = self.git_questions.get(&id).is_none_or(|(_, asker)| asker.is_closed());
                if gone {
                    self.git_questions.remove(&id);
                }
                gone
            }
            FromGateway::AskLease { id, .. } => {
                let id = *id;
                self.leases.asker_is_gone(id)
            }
            FromGateway::UseLease { id, .. } => {
                let id = *id;
                self.leases.user_is_gone(id)
            }
            _ => false,
        }
    }

    /// Takes the message in front, which is written whole.
    pub(super) fn front_is_written(&mut self) {
        let Some(front) = self.queue.pop_front() else { return };
        match front.message {
            FromGateway::Refused { .. } => self.refusals -= 1,
            settled @ (FromGateway::Settle { .. }
            | FromGateway::SettleEgress { .. }
            | FromGateway::Reads { .. }
            | FromGateway::EndLease { .. }) => {
                if self.settled.len() == KEPT_SETTLED {
                    self.settled.pop_front();
                }
                self.settled.push_back(settled);
            }
            _ => {}
        }
        if let Some(written) = front.written {
            // Whoever waited may have gone; the record is written all the same.
            let _ = written.send(());
        }
    }
}
