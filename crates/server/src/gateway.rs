//! The grants' server side: the gateway dials in and asks before every model call.
//!
//! A word and its record are one act: verdict in the transcript, evidence, and reservation are committed
//! before the answer, which alone carries the opened key.

use crate::app::App;
use crate::fault::Fault;
use crate::{egress, git, grants, images, leases, mint};
use anyhow::{Context, bail};
use api::frame::{self, FrameError};
use api::git::GitWord;
use api::grants::{EgressWord, FromGateway, StoredValue, ToGateway, Upstream, WireSecret};
use api::leases::{LeaseWord, ValueWord};
use api::platform::{CallWord, MAX_SECONDS, PlatformCall, boot_ms};
use api::walls::Proof;
use model::{LeaseId, RunId};
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

/// Questions that are worked on at the same time.
const AT_ONCE: usize = 256;

/// Frames that may wait for the gateway.
const WAITING: usize = 1024;

/// How long a gateway may take to say hello.
const HELLO: Duration = Duration::from_secs(10);

/// How long a probe of a model may take.
const PROBE: Duration = Duration::from_secs(90);

/// How much longer than a call of our own may take its answer is waited for.
const CALLED: Duration = Duration::from_secs(5);

/// What came of a call that was waited for long enough, should the gateway say it yet.
pub(crate) type Late = oneshot::Receiver<CallWord>;

/// How long a gateway may take to make its forbidden calls.
const WALLS: Duration = Duration::from_secs(10);

/// How long what uses a lease may take to end, once that is taken back.
pub(crate) const ENDS: Duration = Duration::from_secs(5);

/// Who waits for a word of the gateway, by the question's number or by what it is about.
struct Waiting<T, K = u64>(Arc<Mutex<HashMap<K, oneshot::Sender<T>>>>);

impl<T, K> Clone for Waiting<T, K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T, K> Default for Waiting<T, K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T, K: Eq + Hash> Waiting<T, K> {
    fn add(&self, id: K) -> oneshot::Receiver<T> {
        let (tell, told) = oneshot::channel();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id, tell);
        told
    }
    fn take(&self, id: &K) -> Option<oneshot::Sender<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id)
    }
    /// Ends every wait: what is waited for will not be said any more.
    fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
    /// Passes an answer on; to nobody, when nobody waits any more.
    fn answered(&self, id: &K, answer: T) {
        if let Some(tell) = self.take(id)
            && tell.send(answer).is_err()
        {
            tracing::debug!("an answer of the gateway came when nobody waited for it any more");
        }
    }
}

/// The questions that one gateway was asked.
#[derive(Clone, Default)]
struct Asked {
    probes: Waiting<(u16, String)>,
    walls: Waiting<Proof>,
    calls: Waiting<CallWord>,
    /// For the end of a lease's use.
    ends: Waiting<(), LeaseId>,
}

/// Ends the wait for answers to calls of our own when the gateway's connection does: their outcome is unknown then, and
/// whoever waits has to know.
struct Ending(Asked);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.calls.clear();
        self.0.ends.clear();
    }
}

/// The way to one connected gateway.
#[derive(Clone)]
pub struct GatewayHandle {
    id: u64,
    out: mpsc::Sender<ToGateway>,
    asked: Asked,
    /// Ends the connection; the gateway comes again, and is told then what it was not told here.
    cut: Arc<Notify>,
}

impl GatewayHandle {
    /// Tells it that a run is over.
    pub fn close(&self, run: &RunId) {
        self.order(ToGateway::Close { run: run.clone() });
    }

    /// Tells it that another table holds for a run.
    pub fn end_reads(&self, run: &RunId) {
        self.order(ToGateway::EndReads { run: run.clone() });
    }

    /// Tells it that a lease was taken back.
    pub fn revoke(&self, lease: &LeaseId) {
        self.order(ToGateway::RevokeLease { lease: lease.clone() });
    }

    /// Tells it that a value was deleted.
    pub fn end_value(&self, value: &StoredValue) {
        self.order(ToGateway::EndValue { value: value.clone() });
    }

    /// Tells it that what a vendor made for a lease is kept. Should it not hear, it says it again after the next dial.
    pub(crate) fn kept(&self, lease: &LeaseId) {
        if self.out.try_send(ToGateway::Kept { lease: lease.clone() }).is_err() {
            tracing::debug!("the gateway was not told that what was made for {lease} is kept");
        }
    }

    /// Takes leases back, and comes when it has said that nothing uses them any more, or is gone: whether it has said so.
    pub(crate) async fn revoke_and_wait(&self, leases: &[LeaseId]) -> bool {
        let ends: Vec<_> = leases.iter().map(|lease| self.asked.ends.add(lease.clone())).collect();
        leases.iter().for_each(|lease| self.revoke(lease));
        let mut said = true;
        for end in ends {
            // An error is the end of the connection: it says what it still uses when it comes again, and is told then.
            said &= end.await.is_ok();
        }
        said
    }

    /// Says something that must not be lost. A gateway that takes nothing more is cut: what it has of runs, leases and
    /// tables is compared when it comes again.
    fn order(&self, order: ToGateway) {
        if let Err(TrySendError::Full(_)) = self.out.try_send(order) {
            tracing::warn!("the gateway does not read what it is told, and is cut");
            self.cut.notify_one();
        }
    }

    /// Lets it make the smallest call to a model; gives the status and a sentence.
    ///
    /// # Errors
    /// 503 when it is gone, 504 when it does not answer.
    pub async fn probe(&self, route: Upstream, model: String) -> Result<(u16, String), Fault> {
        let id = number();
        let told = self.asked.probes.add(id);
        if self.out.send(ToGateway::Probe { id, route, model }).await.is_err() {
            return Err(gone());
        }
        let answer = tokio::time::timeout(PROBE, told).await;
        self.asked.probes.take(&id);
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(gone()),
            Err(_) => {
                let message = format!("The model did not answer within {} seconds.", PROBE.as_secs());
                Err(Fault::new(http::StatusCode::GATEWAY_TIMEOUT, "model.slow", message))
            }
        }
    }

    /// Lets it make a call of the server's own, which stands in evidence already: see [`crate::platform`]. With what came of it,
    /// or that it is not known in time; then what is said later comes as well.
    pub(crate) async fn call(&self, call: PlatformCall) -> (CallWord, Option<Late>) {
        let lost = |unsent| CallWord::Fault {
            unsent,
            rule: "gateway.away".into(),
            why: "The gateway went away, or did not say what became of the call.".into(),
        };
        let limit = Duration::from_secs(u64::from(call.limits.seconds.clamp(1, MAX_SECONDS))) + CALLED;
        let id = number();
        let mut told = self.asked.calls.add(id);
        if self.out.send(ToGateway::Call { id, call: Box::new(call) }).await.is_err() {
            self.asked.calls.take(&id);
            return (lost(true), None);
        }
        match tokio::time::timeout(limit, &mut told).await {
            Ok(word) => (word.unwrap_or_else(|_| lost(false)), None),
            // It says it yet, or is gone.
            Err(_) => (lost(false), Some(told)),
        }
    }

    /// Lets it make the calls that its walls forbid; none when it does not say what came of them.
    pub async fn walls(&self) -> Option<Proof> {
        let id = number();
        let told = self.asked.walls.add(id);
        let asked = self.out.send(ToGateway::Walls { id }).await;
        let answer = if asked.is_ok() { tokio::time::timeout(WALLS, told).await.ok()?.ok() } else { None };
        self.asked.walls.take(&id);
        answer
    }
}

/// The number of a question; never given twice, nor by the server after this one, which a gateway may still answer this one's.
fn number() -> u64 {
    static COUNT: LazyLock<AtomicU64> = LazyLock::new(|| AtomicU64::new(boot_ms() << 20));
    COUNT.fetch_add(1, Ordering::Relaxed)
}

fn gone() -> Fault {
    let message = "The gateway is not connected; `volary status` says how it stands.";
    Fault::new(http::StatusCode::SERVICE_UNAVAILABLE, "gateway.away", message)
}

/// Serves gateways, one at a time: a new connection takes the place of the old one.
pub async fn serve(app: App, listener: UnixListener) {
    static COUNT: AtomicU64 = AtomicU64::new(1);
    let mut current: JoinSet<()> = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                current.shutdown().await;
                let (app, id) = (app.clone(), COUNT.fetch_add(1, Ordering::Relaxed));
                current.spawn(async move {
                    if let Err(e) = connection(&app, stream, id).await {
                        tracing::warn!("the gateway's connection ended: {e}");
                    }
                    if app.gateway().is_some_and(|now| now.id == id) {
                        app.set_gateway(None);
                    }
                });
            }
            Err(e) => {
                tracing::warn!("the gateway's socket does not accept: {e}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(app: &App, stream: UnixStream, id: u64) -> anyhow::Result<()> {
    let (mut from, mut to) = stream.into_split();
    let hello = tokio::time::timeout(HELLO, frame::read(&mut from)).await.context("it said no hello in time")??;
    let FromGateway::Hello { open, leases, values } = hello else { bail!("its first word is no hello") };
    // It also names calls that it settles again, in case that was not heard; most of those are settled.
    let (under_way, left) = grants::settle_left(app, &open).await?;
    tracing::info!(
        "a gateway is connected; {under_way} calls are under way, {left} of an earlier one were settled at their reservation"
    );
    let (out, mut waiting) = mpsc::channel::<ToGateway>(WAITING);
    let asked = Asked::default();
    let _ending = Ending(asked.clone());
    // First of all; there is room for one.
    out.try_send(ToGateway::Hello { fingerprints: WireSecret::of_key(app.keys.fingerprints()) })?;
    let cut = Arc::new(Notify::new());
    app.set_gateway(Some(GatewayHandle { id, out: out.clone(), asked: asked.clone(), cut: cut.clone() }));
    // Only now: a lease that is taken back from here on is told to this gateway, and one that was before, below.
    let taken_back = leases::end_left(app, &leases).await?;
    let deleted = leases::values_left(app, values).await?;

    let mut tasks: JoinSet<()> = JoinSet::new();
    let unheard = cut.clone();
    tasks.spawn(async move {
        while let Some(message) = waiting.recv().await {
            if let Err(e) = frame::write(&mut to, &message).await {
                tracing::warn!("the gateway does not read: {e}");
                // What it says would still be heard, and what it is told would be lost: it is to come anew.
                unheard.notify_one();
                return;
            }
        }
    });
    for lease in taken_back {
        out.send(ToGateway::RevokeLease { lease }).await?;
    }
    for value in deleted {
        out.send(ToGateway::EndValue { value }).await?;
    }
    let at_once = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let message = tokio::select! {
            message = frame::read::<FromGateway>(&mut from) => message,
            () = cut.notified() => bail!("it does not read what it is told"),
        };
        let message = match message {
            Ok(message) => message,
            Err(FrameError::Closed) => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        while tasks.try_join_next().is_some() {}
        // At once, and in nobody's place: those who have all the places may be the ones that wait for it.
        if matches!(message, FromGateway::Probed { .. } | FromGateway::Called { .. } | FromGateway::Walls { .. }) {
            answer(app, message, &out, &asked).await;
            continue;
        }
        let in_order = matches!(message, FromGateway::Reads { .. } | FromGateway::Refused { .. });
        let permit = at_once.clone().acquire_owned().await?;
        let (app, out, asked) = (app.clone(), out.clone(), asked.clone());
        let mut answering = Box::pin(async move {
            answer(&app, message, &out, &asked).await;
            drop(permit);
        });
        // What is told of an allowance counts by its place in it, and refusals stand on the record, and in a run's list, in the
        // order they came in. From its first step on it has its place in the store's row; were each waited for until it is kept,
        // what is asked after it would wait too. The step is taken whatever this task has used up of its turn: without that it
        // could end before the row.
        let first_step = std::future::poll_fn(|cx| Poll::Ready(answering.as_mut().poll(cx)));
        if in_order && tokio::task::unconstrained(first_step).await.is_ready() {
            continue;
        }
        tasks.spawn(answering);
    }
}

/// Answers a question about the outside; what could not be recorded is denied.
async fn said(out: &mpsc::Sender<ToGateway>, id: u64, word: Result<EgressWord, Fault>) -> Result<(), Option<Fault>> {
    let (answer, fault) = match word {
        Ok(answer) => (answer, None),
        Err(fault) => (egress::unrecorded(&fault), Some(fault)),
    };
    // A gateway that is gone by now leaves its grant open, which the next one settles.
    match (out.send(ToGateway::EgressAnswer { id, answer }).await, fault) {
        (_, Some(fault)) => Err(Some(fault)),
        (Err(_), None) => Err(None),
        (Ok(()), None) => Ok(()),
    }
}

/// A word on a lease; what could not be recorded is denied, and the fault is told.
fn recorded<W>(word: Result<W, Fault>, denied: impl FnOnce(String, String) -> W) -> (W, Result<(), Option<Fault>>) {
    match word {
        Ok(word) => (word, Ok(())),
        Err(fault) => {
            let why = format!("The platform could not decide this and so refuses it: {}", fault.problem.message);
            (denied("server.failed".into(), why), Err(Some(fault)))
        }
    }
}

async fn answer(app: &App, message: FromGateway, out: &mpsc::Sender<ToGateway>, asked: &Asked) {
    let done = match message {
        FromGateway::Hello { .. } => {
            tracing::warn!("a second hello on one connection of the gateway; it is ignored");
            Ok(())
        }
        FromGateway::Ask { id, call } => match grants::ask(app, call).await {
            // A gateway that is gone by now leaves its reservation behind, which the next one settles.
            Ok(answer) => out.send(ToGateway::Answer { id, answer }).await.map_err(|_| None),
            Err(fault) => {
                let denied = grants::unrecorded(&fault);
                out.send(ToGateway::Answer { id, answer: denied }).await.map_err(|_| Some(fault))
            }
        },
        FromGateway::Settle { grant, usage, status, interrupted } => {
            grants::settle(app, &grant, usage, status, interrupted).await.map_err(Some)
        }
        FromGateway::AskLaw { id, run } => said(out, id, egress::law(app, &run).await).await,
        FromGateway::AskEgress { id, ask } => said(out, id, egress::ask(app, ask).await).await,
        FromGateway::AskImage { id, ask } => said(out, id, images::ask(app, ask).await).await,
        FromGateway::SettleEgress { grant, outcome } => egress::settle(app, &grant, outcome).await.map_err(Some),
        FromGateway::AskGit { id, ask } => {
            let (word, fault) = recorded(git::ask(app, ask).await, |rule, why| GitWord::Denied { rule, why });
            // A gateway that is gone by now leaves its grant open, which the next one settles.
            out.send(ToGateway::GitAnswer { id, word }).await.map_err(|_| None).and(fault)
        }
        FromGateway::AskLease { id, ask } => {
            let word = leases::ask(app, ask).await;
            let (word, fault) = recorded(word, |rule, why| LeaseWord::Denied { rule, why });
            // A gateway that is gone by now never used it: it expires.
            out.send(ToGateway::LeaseAnswer { id, word }).await.map_err(|_| None).and(fault)
        }
        FromGateway::UseLease { id, used } => {
            let word = leases::take(app, used).await;
            let (word, fault) = recorded(word, |rule, why| ValueWord::Denied { rule, why });
            // The next gateway does not name it, and it ends.
            out.send(ToGateway::LeaseValue { id, word }).await.map_err(|_| None).and(fault)
        }
        FromGateway::EndLease { lease, outcome } => {
            asked.ends.answered(&lease, ());
            leases::ended(app, &lease, outcome).await.map_err(Some)
        }
        FromGateway::Reads { grant, before, reads, over } => {
            egress::reads(app, egress::Told { grant, before, reads, over }).await.map_err(Some)
        }
        FromGateway::Refused { run, verdict } => grants::refused(app, &run, verdict).await.map_err(Some),
        FromGateway::Probed { id, status, said } => {
            asked.probes.answered(&id, (status, said));
            Ok(())
        }
        FromGateway::Called { id, word } => {
            asked.calls.answered(&id, word);
            Ok(())
        }
        FromGateway::Held { lease, word } => mint::late(app, &lease, &word).await.map_err(Some),
        FromGateway::Walls { id, proof } => {
            asked.walls.answered(&id, proof);
            Ok(())
        }
    };
    if let Err(Some(fault)) = done {
        tracing::error!("a word of the gateway could not be taken: {}", fault.problem.message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_comes_of_a_call_after_its_limit_is_heard_as_soon_as_it_is_said() {
        let (out, mut waiting) = mpsc::channel(1);
        let handle = GatewayHandle { id: 1, out, asked: Asked::default(), cut: Arc::new(Notify::new()) };
        let url = "https://vendor.example/".to_owned();
        let call = PlatformCall {
            purpose: api::platform::Purpose::Mint,
            method: api::platform::Method::Post,
            named: crate::platform::named_host(&url, false).unwrap(),
            url,
            headers: Vec::new(),
            body: None,
            credential: None,
            limits: api::platform::CallLimits { seconds: 1, answer_bytes: 1, send_before_ms: None },
            lease: None,
        };
        let (word, late) = handle.call(call).await;
        assert!(matches!(word, CallWord::Fault { unsent: false, .. }), "{word:?}");
        let Some(ToGateway::Call { id, .. }) = waiting.recv().await else { panic!("no call") };
        let body = api::grants::WireSecret(model::Secret::new(String::new()));
        handle.asked.calls.answered(&id, CallWord::Answered { status: 201, headers: Vec::new(), body });
        let word = late.expect("it is waited for").await.expect("it is heard");
        assert!(matches!(word, CallWord::Answered { status: 201, .. }), "{word:?}");
    }

    #[tokio::test]
    async fn a_gateway_that_takes_no_more_orders_is_cut_and_one_that_ends_is_not_waited_for() {
        let (out, mut waiting) = mpsc::channel(1);
        let (asked, cut) = (Asked::default(), Arc::new(Notify::new()));
        let handle = GatewayHandle { id: 1, out, asked, cut };
        let (run, lease): (RunId, LeaseId) = ("r".parse().unwrap(), "l".parse().unwrap());
        handle.close(&run);
        handle.revoke(&lease);
        // Kept until the connection looks.
        handle.cut.notified().await;
        assert!(matches!(waiting.recv().await, Some(ToGateway::Close { .. })));
        // What was said in time is waited for, and not what nobody will say.
        let asked = handle.asked.clone();
        let told = async {
            assert!(matches!(waiting.recv().await, Some(ToGateway::RevokeLease { .. })));
            asked.ends.answered(&lease, ());
        };
        assert!(tokio::join!(handle.revoke_and_wait(std::slice::from_ref(&lease)), told).0);
        assert!(asked.ends.take(&lease).is_none());
        let gone = async {
            assert!(matches!(waiting.recv().await, Some(ToGateway::RevokeLease { .. })));
            drop(Ending(asked.clone()));
        };
        assert!(!tokio::join!(handle.revoke_and_wait(std::slice::from_ref(&lease)), gone).0);
    }
}
