//! Asking the server about leases: for one, for the value when its one use begins, and saying how that ended.
//!
//! Read [`Server::ask_lease`], [`Server::use_lease`], then [`Held`] (a value in use, which ends itself), and [`Under`] (when
//! whatever goes on by a lease is to end).

use super::{Lost, Server, in_time};
use api::delivery::Over;
use api::grants::{FromGateway, StoredValue, WireSecret};
use api::leases::{LeaseAsk, LeaseEnd, LeaseUse, LeaseWord, ValueWord};
use model::capability::Delivery;
use model::{LeaseId, Moment, RunId, Secret};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{oneshot, watch};

/// Leases that were taken back lately, and values that were deleted, which may still be on their way here.
const REMEMBERED: usize = 256;

/// What something goes on by, and ends with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum By {
    Lease(LeaseId),
    /// A value that the vault keeps.
    Value(StoredValue),
}

impl By {
    /// Whether this is over when `gone` is: a value with each that took its place, for nobody has those any more either.
    fn ends_with(&self, gone: &Self) -> bool {
        match (self, gone) {
            (Self::Value(own), Self::Value(gone)) => {
                (&own.secret, &own.person) == (&gone.secret, &gone.person) && own.version <= gone.version
            }
            _ => self == gone,
        }
    }
}

/// What the gateway knows of leases.
#[derive(Default)]
pub(super) struct Leases {
    pub(super) asked: HashMap<u64, oneshot::Sender<LeaseWord>>,
    pub(super) uses: HashMap<u64, Use>,
    /// In use now.
    pub(super) held: BTreeMap<LeaseId, InUse>,
    /// The platform's own leases by whose values requests are under way, and kept values by which they are. The sender says
    /// that it is over.
    carried: HashMap<By, watch::Sender<bool>>,
    gone_leases: VecDeque<By>,
    gone_values: VecDeque<By>,
}

/// The use of a lease that is under way. Dropped, it is over.
pub(super) struct InUse {
    run: RunId,
    expires: Moment,
    /// Says that the lease was taken back.
    tell: watch::Sender<bool>,
}

/// Until when something may be done by a lease: until it is taken back, its use is over, or its time is.
#[derive(Debug, Clone)]
pub(crate) struct Term {
    /// None: what was begun has no end by time.
    expires: Option<Moment>,
    over: watch::Receiver<bool>,
}

impl Term {
    /// Comes when it is over.
    pub(crate) fn over(&self) -> impl Future<Output = ()> + Send + use<> {
        let ends = self.ends();
        async move {
            ends.await;
        }
    }

    /// The same, and says why it is over.
    fn ends(&self) -> impl Future<Output = Over> + Send + use<> {
        let Self { expires, mut over } = self.clone();
        async move {
            let time = async {
                let Some(expires) = expires else { return std::future::pending().await };
                let left = expires.since(Moment::from(SystemTime::now()));
                tokio::time::sleep(Duration::from_millis(u64::try_from(left).unwrap_or(0))).await;
            };
            tokio::select! {
                // An error is the end of the use, or of what could take it back, which is no reason to go on either.
                _ = over.wait_for(|over| *over) => Over::TakenBack,
                () = time => Over::Expired,
            }
        }
    }
}

/// By what a request goes on that carries a credential: leases, and the value itself. Two are equal that are of the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Under(Vec<(By, Term)>);

impl PartialEq for Under {
    fn eq(&self, other: &Self) -> bool {
        self.0.iter().map(|(by, _)| by).eq(other.0.iter().map(|(by, _)| by))
    }
}

impl Eq for Under {}

impl Under {
    /// Whether one of them was taken back, or deleted. Of none nothing is.
    pub(crate) fn is_over(&self) -> bool {
        self.0.iter().any(|(_, term)| *term.over.borrow())
    }

    /// Comes when the first of them is over: whatever goes on is to end then. Of none it never comes.
    pub(crate) fn over(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut all: Vec<_> = self.0.iter().map(|(_, term)| Box::pin(term.over())).collect();
        std::future::poll_fn(move |cx| {
            let over = all.iter_mut().any(|term| term.as_mut().poll(cx).is_ready());
            if over { Poll::Ready(()) } else { Poll::Pending }
        })
    }
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

    /// The use of a lease begins.
    pub(super) fn begins(&mut self, lease: LeaseId, run: RunId, expires: Moment) -> Term {
        let (tell, over) = watch::channel(self.is_gone(&By::Lease(lease.clone())));
        self.held.insert(lease, InUse { run, expires, tell });
        Term { expires: Some(expires), over }
    }

    /// Until when a command's lease is used; one that is not in use here is over.
    fn of_use(&self, lease: &LeaseId) -> Term {
        match self.held.get(lease) {
            Some(held) => Term { expires: Some(held.expires), over: held.tell.subscribe() },
            None => Term { expires: None, over: watch::channel(true).1 },
        }
    }

    /// By what requests go on now: the platform's own leases, and kept values.
    pub(super) fn carried_now(&self) -> (Vec<LeaseId>, Vec<StoredValue>) {
        let (mut leases, mut values) = (Vec::new(), Vec::new());
        for (by, _) in self.carried.iter().filter(|(_, tell)| tell.receiver_count() > 0) {
            match by {
                By::Lease(lease) => leases.push(lease.clone()),
                By::Value(value) => values.push(value.clone()),
            }
        }
        (leases, values)
    }

    /// Until when what was begun by a lease of the platform's own, or by a value, may go on: until that is taken back or
    /// deleted, and not until its time is over, after which none begins.
    fn of_carried(&mut self, by: By) -> (By, Term) {
        self.carried.retain(|_, tell| tell.receiver_count() > 0);
        let is_over = self.is_gone(&by);
        let tell = self.carried.entry(by.clone()).or_insert_with(|| watch::channel(is_over).0);
        let over = tell.subscribe();
        (by, Term { expires: None, over })
    }

    fn is_gone(&self, by: &By) -> bool {
        let gone = match by {
            By::Lease(_) => &self.gone_leases,
            By::Value(_) => &self.gone_values,
        };
        gone.iter().any(|gone| by.ends_with(gone))
    }

    /// Ends what goes on by this, and whatever would begin by it yet.
    fn is_over(&mut self, over: By) {
        if let By::Lease(lease) = &over
            && let Some(held) = self.held.get(lease)
        {
            held.tell.send_replace(true);
        }
        for (_, tell) in self.carried.iter().filter(|(by, _)| by.ends_with(&over)) {
            tell.send_replace(true);
        }
        let gone = match over {
            By::Lease(_) => &mut self.gone_leases,
            By::Value(_) => &mut self.gone_values,
        };
        if gone.len() == REMEMBERED {
            gone.pop_front();
        }
        gone.push_back(over);
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
    /// What in it opens something by itself.
    pub(crate) parts: Vec<WireSecret>,
    outcome: LeaseEnd,
    term: Term,
}

impl Held {
    /// How it ended. Until that is said it counts as broken off.
    pub(crate) fn ended(&mut self, outcome: LeaseEnd) {
        self.outcome = outcome;
    }

    /// Comes when it may no longer be used: it was taken back, or its time is over. Whoever uses it is to end then.
    pub(crate) fn over(&self) -> impl Future<Output = Over> + Send + use<> {
        self.term.ends()
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
                if is_over || shared.leases.is_gone(&By::Lease(lease.clone())) {
                    drop(shared);
                    // The server has begun this use, and it is never made.
                    self.post(FromGateway::EndLease { lease, outcome: LeaseEnd::Broken });
                    let why = "It was taken back; ask for another one.".to_owned();
                    drop(asker.send(Taken::Denied { rule: "lease.revoked".into(), why }));
                    return;
                }
                let term = shared.leases.begins(lease.clone(), run, expires);
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
                    parts,
                    outcome,
                    term,
                }))
            }
        };
        // An asker who is gone drops the word here, outside the lock, and the use in it ends.
        drop(asker.send(taken));
    }

    /// A run is over, and with it whatever uses a lease of it, or is about to.
    pub(crate) fn revoke_all(&self, run: &RunId) {
        let mut shared = self.shared();
        for held in shared.leases.held.values().filter(|held| held.run == *run) {
            held.tell.send_replace(true);
        }
        for of in shared.leases.uses.values_mut().filter(|of| of.run == *run) {
            of.is_over = true;
        }
    }

    /// By what a request goes on that carries a credential: the lease of the command whose handle was shown, the platform's own
    /// that carries a minted value, or the kept value.
    pub(crate) fn under(
        &self,
        command: Option<&LeaseId>,
        carried: Option<&LeaseId>,
        stored: Option<&StoredValue>,
    ) -> Under {
        let mut shared = self.shared();
        let leases = &mut shared.leases;
        let mut all = Vec::new();
        all.extend(command.map(|lease| (By::Lease(lease.clone()), leases.of_use(lease))));
        all.extend(carried.map(|lease| leases.of_carried(By::Lease(lease.clone()))));
        all.extend(stored.map(|value| leases.of_carried(By::Value(value.clone()))));
        Under(all)
    }

    /// A lease was taken back.
    pub(super) fn revoke(&self, lease: LeaseId) {
        self.shared().leases.is_over(By::Lease(lease));
    }

    /// A value was deleted, and with it all that were in its place before.
    pub(super) fn end_value(&self, value: StoredValue) {
        self.shared().leases.is_over(By::Value(value));
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

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn what_goes_on_by_a_commands_lease_is_over_at_its_time_and_by_one_of_the_platforms_own_when_that_is_taken_back()
     {
        let server = Server::unconnected();
        let [command, own, gone] = ["a", "b", "c"].map(|letter| LeaseId::parse(&letter.repeat(26)).unwrap());
        let expires = Moment::from(SystemTime::now()).plus_ms(60_000);
        // Kept to its end: dropped, the use would be over.
        let _term = server.shared().leases.begins(command.clone(), RunId::parse("run1").unwrap(), expires);
        let under = |lease: Option<&LeaseId>, carried: Option<&LeaseId>| server.under(lease, carried, None);
        let is_over = |under: &Under| under.over().now_or_never().is_some();
        assert!(!is_over(&under(None, None)), "of none nothing is over");
        assert!(is_over(&under(Some(&gone), None)), "no command here uses it");
        let (by_command, by_own, both) =
            (under(Some(&command), None), under(None, Some(&own)), under(Some(&command), Some(&own)));
        assert!([&by_command, &by_own, &both].iter().all(|under| !is_over(under)));
        assert!(by_command == under(Some(&command), None) && by_command != both && by_own != both);
        let (mut early, mut late) = (Box::pin(by_command.over()), Box::pin(by_own.over()));
        assert!(early.as_mut().now_or_never().is_none() && late.as_mut().now_or_never().is_none());
        // After a cut the server is told of both, so that it can say which was taken back meanwhile.
        let named = || match server.shared().hello() {
            api::grants::FromGateway::Hello { leases, .. } => leases,
            other => panic!("{other:?}"),
        };
        assert!(named().contains(&own) && named().contains(&command), "{:?}", named());
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(early.now_or_never().is_some(), "its time is over");
        assert!(late.as_mut().now_or_never().is_none(), "of the platform's own time ends nothing that was begun");
        server.revoke(own.clone());
        assert!(late.as_mut().now_or_never().is_some() && is_over(&both));
        drop((late, by_own, both));
        assert!(!named().contains(&own), "nothing goes on by it");
        assert!(is_over(&under(None, Some(&own))), "and it is remembered");
    }

    #[test]
    fn what_goes_on_by_a_value_is_over_when_that_or_one_that_took_its_place_is_deleted_and_by_no_others() {
        let server = Server::unconnected();
        let value =
            |secret: &str, person: &str, version| StoredValue { secret: secret.into(), person: person.into(), version };
        let under = |value: &StoredValue| server.under(None, None, Some(value));
        let is_over = |under: &Under| {
            assert_eq!(under.over().now_or_never().is_some(), under.is_over());
            under.is_over()
        };
        let [first, second, third] = [1, 2, 3].map(|version| value("capability/shop", "", version));
        let (own, other) = (value("capability/shop", "ada", 1), value("capability/bank", "", 1));
        let of = [&first, &second, &third, &own, &other].map(under);
        assert!(of.iter().all(|under| !is_over(under)) && of[0] == under(&first) && of[0] != of[1]);
        let named = || match server.shared().hello() {
            FromGateway::Hello { values, .. } => values,
            other => panic!("{other:?}"),
        };
        assert_eq!(named().len(), 5);
        server.end_value(second.clone());
        assert_eq!(of.each_ref().map(is_over), [true, true, false, false, false]);
        drop(of);
        assert!(named().is_empty(), "nothing goes on by any");
        // Asked for before, and told later than that it was deleted.
        assert!(is_over(&under(&first)) && is_over(&under(&second)) && !is_over(&under(&third)));
    }
}
