//! Asking the server about leases: for one, for the value when its one use begins, and saying how that ended.
//!
//! Read [`Server::ask_lease`], [`Server::use_lease`], then [`Held`] (a value in use, which ends itself).

use super::{Lost, Server, in_time};
use api::grants::{FromGateway, WireSecret};
use api::leases::{LeaseAsk, LeaseEnd, LeaseUse, LeaseWord, ValueWord};
use model::capability::Delivery;
use model::{LeaseId, Moment, RunId, Secret};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{oneshot, watch};

/// Leases that were taken back lately, and whose value may still be on its way here.
const REMEMBERED: usize = 256;

/// What the gateway knows of leases.
#[derive(Default)]
pub(super) struct Leases {
    pub(super) asked: HashMap<u64, oneshot::Sender<LeaseWord>>,
    pub(super) uses: HashMap<u64, Use>,
    /// In use now. The sender says that the lease was taken back.
    pub(super) held: BTreeMap<LeaseId, (RunId, watch::Sender<bool>)>,
    pub(super) revoked: VecDeque<LeaseId>,
}

/// A use that is being asked for.
pub(super) struct Use {
    run: RunId,
    lease: LeaseId,
    asker: oneshot::Sender<Taken>,
    /// The run is over since it was asked for.
    is_over: bool,
}

impl Leases {
    /// Nobody waits for the answers of a connection that is gone.
    pub(super) fn forget(&mut self) {
        self.asked.clear();
        self.uses.clear();
    }

    /// Whether nobody waits for this lease any more: then it is not asked for.
    pub(super) fn asker_is_gone(&mut self, id: u64) -> bool {
        let gone = self.asked.get(&id).is_none_or(oneshot::Sender::is_closed);
        if gone {
            self.asked.remove(&id);
        }
        gone
    }

    /// As [`Leases::asker_is_gone`], of a use.
    pub(super) fn user_is_gone(&mut self, id: u64) -> bool {
        let gone = self.uses.get(&id).is_none_or(|of| of.asker.is_closed());
        if gone {
            self.uses.remove(&id);
        }
        gone
    }
}

/// The server's word on the use of a lease.
pub(crate) enum Taken {
    /// It may be used, now and once.
    Value(Box<Held>),
    /// It may not.
    Denied { rule: String, why: String },
}

/// A value in use. Dropped, the use is over: the server is told how it ended, exactly once.
pub(crate) struct Held {
    server: Arc<Server>,
    pub(crate) lease: LeaseId,
    /// The credential, or a command's own handle.
    pub(crate) value: Secret<String>,
    /// The secret's name; empty for a handle.
    pub(crate) secret: String,
    pub(crate) delivery: Delivery,
    /// Variables that hold the same.
    pub(crate) variables: Vec<String>,
    pub(crate) destination: String,
    pub(crate) expires: Moment,
    /// What in it opens something by itself.
    pub(crate) parts: Vec<WireSecret>,
    outcome: LeaseEnd,
    revoked: watch::Receiver<bool>,
}

impl Held {
    /// How it ended. Until that is said it counts as broken off.
    pub(crate) fn ended(&mut self, outcome: LeaseEnd) {
        self.outcome = outcome;
    }

    /// Comes when it may no longer be used: it was taken back, or its time is over. Whoever uses it is to end then.
    pub(crate) async fn over(&self) {
        let mut revoked = self.revoked.clone();
        let left = self.expires.since(Moment::from(SystemTime::now()));
        let expires = tokio::time::sleep(Duration::from_millis(u64::try_from(left).unwrap_or(0)));
        tokio::select! {
            // An error is the end of what could take it back, which is no reason to go on either.
            _ = revoked.wait_for(|revoked| *revoked) => {}
            () = expires => {}
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.server.post(FromGateway::EndLease { lease: self.lease.clone(), outcome: self.outcome });
        self.server.shared().leases.held.remove(&self.lease);
    }
}

impl Server {
    /// May this run have a lease? The answer is recorded by the server before it comes.
    ///
    /// # Errors
    /// [`Lost`], as for [`Server::ask`].
    pub(crate) async fn ask_lease(&self, ask: LeaseAsk) -> Result<LeaseWord, Lost> {
        let (answered, word) = oneshot::channel();
        self.put(|shared, id| {
            shared.leases.asked.insert(id, answered);
            FromGateway::AskLease { id, ask }
        })?;
        in_time(word).await
    }

    /// The one use of a lease begins: its value, if it may. The word is recorded by the server before it comes.
    ///
    /// # Errors
    /// [`Lost`], as for [`Server::ask`]. Should the server give it after all, that use ends itself.
    pub(crate) async fn use_lease(&self, used: LeaseUse) -> Result<Taken, Lost> {
        let (answered, word) = oneshot::channel();
        let of = Use { run: used.run.clone(), lease: used.lease.clone(), asker: answered, is_over: false };
        self.put(|shared, id| {
            shared.leases.uses.insert(id, of);
            FromGateway::UseLease { id, used }
        })?;
        in_time(word).await
    }

    pub(super) fn lease_answered(&self, id: u64, word: LeaseWord) {
        // A grant that nobody waits for any more expires by itself: it was never used.
        if let Some(asker) = self.shared().leases.asked.remove(&id) {
            drop(asker.send(word));
        }
    }

    pub(super) fn lease_value(self: &Arc<Self>, id: u64, word: ValueWord) {
        let Some(Use { run, lease, asker, is_over }) = self.shared().leases.uses.remove(&id) else {
            // The connection that it was asked on is gone, and with it whoever asked; the server ends what is not named to it.
            return;
        };
        let taken = match word {
            ValueWord::Denied { rule, why } => Taken::Denied { rule, why },
            ValueWord::Value { value, secret, delivery, variables, destination, expires, parts, until } => {
                // Before anyone has it: what comes back of it is to be known. A handle is for boxes to see.
                if !secret.is_empty() {
                    for one in std::iter::once(&value).chain(&parts) {
                        self.recent.note_minted(&secret, &one.0, until, Instant::now());
                    }
                }
                let mut shared = self.shared();
                if is_over || shared.leases.revoked.contains(&lease) {
                    drop(shared);
                    // The server has begun this use, and it is never made.
                    self.post(FromGateway::EndLease { lease, outcome: LeaseEnd::Broken });
                    let why = "It was taken back; ask for another one.".to_owned();
                    drop(asker.send(Taken::Denied { rule: "lease.revoked".into(), why }));
                    return;
                }
                let (tell, revoked) = watch::channel(false);
                shared.leases.held.insert(lease.clone(), (run, tell));
                drop(shared);
                let outcome = LeaseEnd::Broken;
                let (server, value) = (self.clone(), value.0);
                Taken::Value(Box::new(Held {
                    server,
                    lease,
                    value,
                    secret,
                    delivery,
                    variables,
                    destination,
                    expires,
                    parts,
                    outcome,
                    revoked,
                }))
            }
        };
        // An asker who is gone drops the word here, outside the lock, and the use in it ends.
        drop(asker.send(taken));
    }

    /// A run is over, and with it whatever uses a lease of it, or is about to.
    pub(crate) fn revoke_all(&self, run: &RunId) {
        let mut shared = self.shared();
        for (of, held) in shared.leases.held.values() {
            if of == run {
                held.send_replace(true);
            }
        }
        for of in shared.leases.uses.values_mut().filter(|of| of.run == *run) {
            of.is_over = true;
        }
    }

    /// A lease was taken back.
    pub(super) fn revoke(&self, lease: LeaseId) {
        let mut shared = self.shared();
        if let Some((_, held)) = shared.leases.held.get(&lease) {
            held.send_replace(true);
        }
        if shared.leases.revoked.len() == REMEMBERED {
            shared.leases.revoked.pop_front();
        }
        shared.leases.revoked.push_back(lease);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::grants::WireSecret;
    use api::leases::LeaseUser;
    use futures_util::FutureExt as _;
    use std::pin::pin;

    #[tokio::test]
    async fn a_lease_that_is_taken_back_is_over_for_its_user_in_that_very_act_before_any_timer() {
        let server = Server::unconnected();
        let lease = LeaseId::parse(&"a".repeat(26)).unwrap();
        let run = RunId::parse("run1").unwrap();
        let by = LeaseUser::GitPush { repository: "app".into(), reference: "refs/heads/run1".into() };
        let mut taking = pin!(server.use_lease(LeaseUse { run, lease: lease.clone(), by }));
        assert!(taking.as_mut().now_or_never().is_none(), "nobody has said a word yet");
        let word = ValueWord::Value {
            value: WireSecret(Secret::new("a-value-of-a-test".to_owned())),
            secret: "capability/shop".into(),
            delivery: Delivery::Proxy,
            variables: Vec::new(),
            destination: "shop.example.org".into(),
            expires: Moment(i64::MAX),
            parts: Vec::new(),
            until: None,
        };
        server.lease_value(1, word);
        let Some(Ok(Taken::Value(held))) = taking.now_or_never() else { panic!("no value") };
        let mut over = pin!(held.over());
        assert!(over.as_mut().now_or_never().is_none(), "it is over before anyone took it back");
        server.revoke(lease);
        // Looked at once: no time passes, and nothing else runs.
        assert!(over.now_or_never().is_some(), "who uses it hears of it later");
    }
}
