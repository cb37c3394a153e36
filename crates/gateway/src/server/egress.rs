//! Asking the server about requests to the outside: by which table a run is judged, and for each request a grant.
//!
//! Read [`Server::ask_law`], [`Server::ask_egress`], [`Leave`] (a grant that settles itself), then [`Allowance`] (many
//! requests by one grant).

use super::{Lost, Server, in_time};
use api::grants::{
    EgressAsk, EgressCredential, EgressOutcome, EgressWord, FromGateway, ImageAsk, READS_MS, READS_TOLD,
};
use model::event::OneRead;
use model::{Egress, GrantId, Moment, RunId, Unanswered};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

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

    /// May this image be pulled? The answer is recorded by the server before it comes.
    ///
    /// # Errors
    /// [`Lost`], as for [`Server::ask`].
    pub(crate) async fn ask_image(&self, ask: ImageAsk) -> Result<Said, Lost> {
        self.question(|id| FromGateway::AskImage { id, ask }).await
    }

    /// Puts a question of this kind on its way.
    fn put_egress(
        &self,
        answered: oneshot::Sender<Said>,
        message: impl FnOnce(u64) -> FromGateway,
    ) -> Result<(), Lost> {
        self.put(|shared, id| {
            shared.egress_questions.insert(id, answered);
            message(id)
        })
    }

    async fn question(&self, message: impl FnOnce(u64) -> FromGateway) -> Result<Said, Lost> {
        let (answered, said) = oneshot::channel();
        self.put_egress(answered, message)?;
        in_time(said).await
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

/// A request that may go out. Its outcome is told exactly once, when its last holder drops it, whatever ended it.
#[derive(Clone)]
pub(crate) struct Leave(Arc<Held>);

struct Held {
    by: By,
    status: AtomicU16,
    sent: AtomicU64,
    received: AtomicU64,
    whole: AtomicBool,
    /// Why there was no answer.
    fault: Mutex<Option<Unanswered>>,
    /// Its outcome is told by somebody else.
    handed_on: AtomicBool,
}

/// What lets it out.
enum By {
    /// A grant of its own.
    Grant { server: Arc<Server>, grant: GrantId },
    /// An allowance, as the request that began then.
    Allowance { allowance: Arc<Allowance>, at: Moment, method: String, target: String },
}

impl Leave {
    pub(crate) fn new(server: Arc<Server>, grant: GrantId) -> Self {
        Self::by(By::Grant { server, grant })
    }

    fn by(by: By) -> Self {
        Self(Arc::new(Held {
            by,
            status: AtomicU16::new(0),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            whole: AtomicBool::new(false),
            fault: Mutex::default(),
            handed_on: AtomicBool::new(false),
        }))
    }

    /// The grant is that of an allowance, which tells what came of it.
    fn becomes_an_allowance(self) -> GrantId {
        self.0.handed_on.store(true, Ordering::Relaxed);
        self.grant().clone()
    }

    pub(crate) fn grant(&self) -> &GrantId {
        match &self.0.by {
            By::Grant { grant, .. } => grant,
            By::Allowance { allowance, .. } => &allowance.grant,
        }
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
    /// There was no answer, for this reason.
    pub(crate) fn failed(&self, fault: Unanswered) {
        *self.0.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
    }
    /// It came to its end. Until that is said, it counts as interrupted.
    pub(crate) fn is_whole(&self) {
        self.0.whole.store(true, Ordering::Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if *self.handed_on.get_mut() {
            return;
        }
        let (status, received) = (self.status.load(Ordering::Relaxed), self.received.load(Ordering::Relaxed));
        let interrupted = !self.whole.load(Ordering::Relaxed);
        let fault = *self.fault.get_mut().unwrap_or_else(PoisonError::into_inner);
        match &mut self.by {
            By::Grant { server, grant } => {
                let sent = self.sent.load(Ordering::Relaxed);
                let outcome = EgressOutcome { status, sent, received, interrupted, fault };
                server.post(FromGateway::SettleEgress { grant: grant.clone(), outcome });
                server.shared().open.remove(grant);
            }
            By::Allowance { allowance, at, method, target } => allowance.is_over(OneRead {
                at: *at,
                method: std::mem::take(method),
                target: std::mem::take(target),
                status,
                received,
                interrupted,
                fault,
            }),
        }
    }
}

/// The server's word that so many requests of one kind may be made within so long; each is told when it is over.
///
/// What is over and was not told yet is told by [`Allowance::tell`], and in any case when the last holder is gone.
pub(crate) struct Allowance {
    server: Arc<Server>,
    grant: GrantId,
    until: Instant,
    most: u32,
    made: Mutex<Made>,
}

#[derive(Default)]
struct Made {
    begun: u32,
    told: u32,
    /// Over, and not told.
    over: Vec<OneRead>,
}

impl Server {
    /// May so many requests of this kind be made, each of them now or within a second? Recorded by the server before
    /// the answer comes.
    ///
    /// # Errors
    /// [`Lost`], as for [`Server::ask`].
    pub(crate) async fn ask_allowance(
        self: &Arc<Self>,
        ask: EgressAsk,
    ) -> Result<Option<(Allowance, Option<EgressCredential>)>, Lost> {
        // From before the question on: what the server records says "within a second" of a later moment.
        let (until, most) = (Instant::now() + Duration::from_millis(READS_MS), ask.reads);
        let (answered, said) = oneshot::channel();
        self.put_egress(answered, |id| FromGateway::AskEgress { id, ask })?;
        // The word is waited for however long it takes: an answer that nobody takes is an allowance that nobody tells of.
        match said.await {
            Ok(Said::Granted { leave, credential }) => {
                let grant = leave.becomes_an_allowance();
                let allowance = Allowance { server: self.clone(), grant, until, most, made: Mutex::default() };
                Ok(Some((allowance, credential)))
            }
            Ok(Said::Law { .. } | Said::Denied { .. }) => Ok(None),
            Err(_) => Err(Lost),
        }
    }
}

impl Allowance {
    fn made(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets one more request out, when there is one left and its time is not over.
    pub(crate) fn take(self: &Arc<Self>, now: Instant, at: Moment, method: &str, target: &str) -> Option<Leave> {
        {
            let mut made = self.made();
            if now >= self.until || made.begun >= self.most {
                return None;
            }
            made.begun += 1;
        }
        let (method, target) = (method.to_owned(), target.to_owned());
        Some(Leave::by(By::Allowance { allowance: self.clone(), at, method, target }))
    }

    /// When its time is over.
    pub(crate) fn until(&self) -> Instant {
        self.until
    }

    /// How many requests it is for, and how many of them are made.
    pub(crate) fn used(&self) -> (u32, u32) {
        (self.most, self.made().begun)
    }

    fn is_over(&self, read: OneRead) {
        let many = {
            let mut made = self.made();
            made.over.push(read);
            made.over.len() >= READS_TOLD
        };
        if many {
            self.tell();
        }
    }

    /// Tells the server what is over by now.
    pub(crate) fn tell(&self) {
        let mut made = self.made();
        let reads = std::mem::take(&mut made.over);
        if !reads.is_empty() {
            let before = made.told;
            made.told += u32::try_from(reads.len()).unwrap_or(u32::MAX);
            // Within the lock: what is told first is sent first.
            self.server.post(FromGateway::Reads { grant: self.grant.clone(), before, reads, over: false });
        }
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        let made = self.made.get_mut().unwrap_or_else(PoisonError::into_inner);
        let (before, reads) = (made.told, std::mem::take(&mut made.over));
        self.server.post(FromGateway::Reads { grant: self.grant.clone(), before, reads, over: true });
        self.server.shared().open.remove(&self.grant);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recent::Recent;

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn an_allowance_lets_out_as_many_as_it_is_for_and_none_at_its_end() {
        let (said, _hears) = tokio::sync::mpsc::unbounded_channel();
        let server = Server::dial("/nonexistent".into(), said, Arc::new(Recent::new().unwrap()));
        let until = Instant::now() + Duration::from_millis(READS_MS);
        let allowance = |most| {
            let (server, grant) = (server.clone(), GrantId::parse("g").unwrap());
            Arc::new(Allowance { server, grant, until, most, made: Mutex::default() })
        };
        let take = |from: &Arc<Allowance>| from.take(Instant::now(), Moment(1), "GET", "http://a.example/").is_some();
        let few = allowance(2);
        assert_eq!([take(&few), take(&few), take(&few)], [true, true, false]);
        let many = allowance(1000);
        tokio::time::advance(Duration::from_millis(READS_MS - 1)).await;
        assert!(take(&many), "just before its end");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!take(&many), "at it");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_was_made_is_told_in_order_by_64_at_a_time_and_at_the_end() {
        let (said, _hears) = tokio::sync::mpsc::unbounded_channel();
        let server = Server::dial("/nonexistent".into(), said, Arc::new(Recent::new().unwrap()));
        let until = Instant::now() + Duration::from_secs(3600);
        let grant = GrantId::parse("g").unwrap();
        let allowance = Arc::new(Allowance { server: server.clone(), grant, until, most: 100, made: Mutex::default() });
        for n in 0..READS_TOLD + 1 {
            let leave = allowance.take(Instant::now(), Moment(1), "GET", &n.to_string()).expect("there are more");
            leave.is_whole();
        }
        drop(allowance);
        let told: Vec<(u32, usize, bool)> = server
            .shared()
            .queue
            .iter()
            .map(|queued| match &queued.message {
                FromGateway::Reads { before, reads, over, .. } => {
                    for (at, read) in reads.iter().enumerate() {
                        assert_eq!(read.target, (*before as usize + at).to_string());
                    }
                    (*before, reads.len(), *over)
                }
                other => panic!("not of an allowance: {other:?}"),
            })
            .collect();
        assert_eq!(told, [(0, 64, false), (64, 1, true)]);
    }
}
