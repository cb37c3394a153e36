//! What the gateway holds of one run for its way out: its authority, its table, its connections, what it has moved.

use super::allowances::Allowances;
use super::authority::Authority;
use super::flood::Shared;
use super::given::Given;
use super::limits::{LAW_FRESH, RUN_BYTES, RUN_STREAMS};
use super::line::Lines;
use crate::pace::OneByOne;
use crate::refusal::Refusal;
use crate::server::egress::Said;
use crate::server::{Lost, Server};
use model::{Egress, RunId};
use policy::egress::Law;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::Semaphore;

/// One run's part of the way out. It ends with the run's door.
pub(crate) struct Run {
    pub(crate) authority: Authority,
    pub(crate) lines: Arc<Lines>,
    pub(crate) spent: Arc<Spent>,
    pub(crate) allowances: Arc<Allowances>,
    pub(crate) given: Arc<Given>,
    /// By the events of its models.
    pub(crate) hints_of_models: Arc<Hints>,
    /// By WebSockets, and by hosts that pause in an answer.
    pub(crate) hints_of_hosts: Arc<Hints>,
    /// What its connections over HTTP/2 may spend, one with the other.
    pub(crate) frames: Shared,
    /// TLS with its box: each signs.
    pub(crate) handshakes: OneByOne,
    /// One for each request over HTTP/2 that may be in progress.
    pub(crate) streams: Arc<Semaphore>,
    law: Mutex<Option<Known>>,
}

/// The end of a text, in bytes, that tells nothing although it could be the beginning of a value: honest text ends in it all the
/// time.
pub(crate) const TELLS_NOTHING: usize = 3;
/// Letters of values that a box may be told by ends that wait, one end with the other, by its models and by its hosts each.
const LETTERS: u64 = 8;

/// What a box was told of values: a text that waits because it ends as a value begins says to whoever had it said that it does, and
/// as how much of one. Wrong guesses cost nothing, so that what counts is letters and not ends.
#[derive(Default)]
pub(crate) struct Hints(AtomicU64);

impl Hints {
    /// Counts an end of so many bytes that waits.
    pub(crate) fn tell(&self, bytes: usize) {
        self.0.fetch_add(bytes.saturating_sub(TELLS_NOTHING) as u64, Ordering::Relaxed);
    }

    /// Whether nothing more may be told.
    pub(crate) fn are_spent(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= LETTERS
    }
}

/// What a run has moved, both ways, in bytes.
#[derive(Default)]
pub(crate) struct Spent(AtomicU64);

impl Spent {
    /// Counts so many bytes more. False when they are more than a run may move.
    pub(crate) fn spend(&self, bytes: usize) -> bool {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed).saturating_add(bytes as u64) <= RUN_BYTES
    }
}

/// A table, as it was last heard of.
#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) law: Arc<Law>,
    pub(crate) version: u64,
    /// When it was asked for. The server read it later than that, so a table that was changed is never older here than it is
    /// there, however long the answer was on its way.
    asked: Instant,
}

impl Known {
    /// Whether it was asked for so lately that a refusal by it needs no second look: what a person allowed longer ago than
    /// [`LAW_FRESH`] is in it.
    pub(crate) fn is_fresh(&self) -> bool {
        self.asked.elapsed() < LAW_FRESH
    }
}

impl Run {
    /// # Errors
    /// When no authority can be made.
    pub(crate) fn new(run: &RunId) -> anyhow::Result<Self> {
        let frames = Shared::default();
        Ok(Self {
            authority: Authority::new(run)?,
            lines: Arc::new(Lines::of(frames.clone())),
            frames,
            handshakes: OneByOne::default(),
            spent: Arc::default(),
            allowances: Arc::default(),
            given: Arc::default(),
            hints_of_models: Arc::default(),
            hints_of_hosts: Arc::default(),
            streams: Arc::new(Semaphore::new(RUN_STREAMS)),
            law: Mutex::default(),
        })
    }

    /// The table, as known; asked for when it is not.
    ///
    /// # Errors
    /// Those of [`Run::refresh`].
    pub(crate) async fn law(&self, server: &Server, run: &RunId) -> Result<Known, Refusal> {
        let known = self.law.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match known {
            Some(known) => Ok(known),
            None => self.refresh(server, run).await,
        }
    }

    /// The table as it is now.
    ///
    /// # Errors
    /// When the server is away, knows none, or gives one that is wrong.
    pub(crate) async fn refresh(&self, server: &Server, run: &RunId) -> Result<Known, Refusal> {
        let asked = Instant::now();
        match server.ask_law(run.clone()).await {
            Ok(Said::Law { version, egress }) => self.learn(version, &egress, asked),
            Ok(Said::Denied { rule, why }) => Err(Refusal::denied(rule, why)),
            Ok(Said::Granted { .. }) => Err(Refusal::fault("law.none", "The run's rules are not known.")),
            Err(Lost) => Err(Refusal::record_lost()),
        }
    }

    /// Judges by this table from now on, which the server gave to who asked at `asked`.
    ///
    /// # Errors
    /// A policy refusal when the table is wrong; there is none then.
    pub(crate) fn learn(&self, version: u64, egress: &Egress, asked: Instant) -> Result<Known, Refusal> {
        let mut kept = self.law.lock().unwrap_or_else(PoisonError::into_inner);
        // Two questions at once may be answered in either order of their askers.
        if let Some(known) = kept.as_mut().filter(|known| known.version == version || known.asked > asked) {
            known.asked = known.asked.max(asked);
            return Ok(known.clone());
        }
        *kept = None;
        let law = Law::of(egress).map_err(|wrong| {
            tracing::error!(%wrong, "a profile's egress table is wrong; nothing leaves its runs");
            Refusal::policy("law.wrong", "The profile's rules of what may leave are wrong, and so nothing does.")
        })?;
        let known = Known { law: Arc::new(law), version, asked };
        *kept = Some(known.clone());
        Ok(known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::egress::Reads;

    #[test]
    fn a_table_is_as_old_as_the_question_that_it_answers_however_long_the_answer_took() {
        let run = Run::new(&RunId::parse("r1").unwrap()).unwrap();
        let (old, new) = (Egress::default(), Egress { reads: Reads::None, ..Egress::default() });
        let long_ago = Instant::now().checked_sub(LAW_FRESH).unwrap();
        // It came this very moment, and was asked for before a person could have allowed anything since.
        assert!(!run.learn(1, &old, long_ago).unwrap().is_fresh());
        // Between the two looks at the clock a machine may stand still.
        assert!((0..100).any(|_| run.learn(1, &old, Instant::now()).unwrap().is_fresh()));
        // The answer to an earlier question, which comes later, takes nothing back.
        let now = Instant::now();
        assert_eq!(run.learn(2, &new, now).unwrap().version, 2);
        let known = run.learn(1, &old, long_ago).unwrap();
        assert_eq!((known.version, known.asked), (2, now));
        assert_eq!(run.law.lock().unwrap().as_ref().map(|known| known.version), Some(2));
    }

    #[test]
    fn a_run_moves_what_it_may_to_the_byte() {
        let spent = Spent(AtomicU64::new(RUN_BYTES - 3));
        assert!(spent.spend(3));
        assert!(!spent.spend(1));
    }
}
