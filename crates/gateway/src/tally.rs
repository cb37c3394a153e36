//! How often a run was refused. Each refusal leaves a record for good, so that they end somewhere: so many are recorded
//! one by one, of any one rule always the first, and the rest is counted. How much a run is granted in all is the server's to
//! count, over all its boxes.
//!
//! Read [`Tally::record`], [`Tally::may_ask`], then `drop` (the counts' own record).

use crate::refusal::{Refusal, Trace};
use crate::server::{Lost, Server};
use model::{RunId, event::Verdict};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Refusals of one run that are recorded one by one, and questions of it that the server may deny in a row.
pub(crate) const RECORDED: u64 = 1000;
/// Refusals by any one rule that are recorded one by one however many others there were: noise hides none of them.
pub(crate) const RECORDED_OF_A_RULE: u64 = 20;
/// The rule of what is said about many requests at once.
const FLOOD: &str = "door.flood";

/// The refusals of one run, from attach to detach. Dropped with its last connection.
pub(crate) struct Tally {
    run: RunId,
    server: Arc<Server>,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    /// Refused by the gateway, by rule.
    refused: BTreeMap<String, u64>,
    /// Those of them that are not recorded one by one, by rule.
    counted: BTreeMap<String, u64>,
    /// Denied, and so recorded, by the server since it granted something.
    denied_in_a_row: u64,
}

/// What becomes of a refusal.
#[derive(Debug, PartialEq, Eq)]
enum Kept {
    /// It is recorded.
    Alone,
    /// It is counted, and that is said, since it is the first.
    FirstCounted,
    /// It is counted.
    Counted,
}

impl Counts {
    fn refuse(&mut self, rule: &str) -> Kept {
        let all: u64 = self.refused.values().sum();
        let of_this = self.refused.entry(rule.to_owned()).or_default();
        *of_this += 1;
        if all < RECORDED || *of_this <= RECORDED_OF_A_RULE {
            return Kept::Alone;
        }
        let first = self.counted.is_empty();
        *self.counted.entry(rule.to_owned()).or_default() += 1;
        if first { Kept::FirstCounted } else { Kept::Counted }
    }

    /// Why the server is not asked any more, if it is not.
    fn spent(&self) -> Option<String> {
        (self.denied_in_a_row >= RECORDED)
            .then(|| format!("{RECORDED} calls in a row were denied to this run; it can make no more."))
    }

    /// What is said at the end of those that were only counted.
    fn last_words(&self) -> Option<String> {
        let all: u64 = self.counted.values().sum();
        let rules: Vec<String> = self.counted.iter().map(|(rule, count)| format!("{rule} {count}")).collect();
        (all > 0).then(|| {
            let rules = rules.join(", ");
            format!("{all} further requests of this run were refused and are not recorded one by one: {rules}.")
        })
    }
}

impl Tally {
    pub(crate) fn of(run: RunId, server: Arc<Server>) -> Self {
        Self { run, server, counts: Mutex::default() }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a refusal, or only counts it.
    ///
    /// # Errors
    /// [`Lost`] when it was to be recorded and the server is away.
    pub(crate) async fn record(&self, verdict: Verdict) -> Result<(), Lost> {
        let kept = self.counts().refuse(&verdict.rule);
        match kept {
            Kept::Alone => self.server.refused(self.run.clone(), verdict).await,
            Kept::FirstCounted => {
                let why = format!(
                    "{RECORDED} requests of this run were refused. From here on refusals are answered and counted, and \
                     only the first {RECORDED_OF_A_RULE} of each rule recorded one by one; the numbers of the others \
                     are recorded at the end."
                );
                self.server.refused(self.run.clone(), flood(why)).await
            }
            Kept::Counted => Ok(()),
        }
    }

    /// Whether the server may be asked for this run: each of its denials is a record too.
    ///
    /// # Errors
    /// A refusal once the server has denied very many questions and granted none between them.
    pub(crate) fn may_ask(&self) -> Result<(), Refusal> {
        self.counts().spent().map_or(Ok(()), |why| Err(Refusal::policy(FLOOD, why)))
    }

    /// A question to the server was denied, or is one that it is to be asked seldom: a proposal.
    pub(crate) fn denied(&self) {
        let mut counts = self.counts();
        counts.denied_in_a_row = counts.denied_in_a_row.saturating_add(1);
    }

    /// The server has granted a call.
    pub(crate) fn granted(&self) {
        self.counts().denied_in_a_row = 0;
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        let words = self.counts().last_words();
        if let Some(why) = words {
            self.server.note_refused(self.run.clone(), flood(why));
        }
    }
}

fn flood(why: String) -> Verdict {
    Trace::default().refused(&Refusal::policy(FLOOD, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_hides_no_rule_and_each_is_counted_at_the_end() {
        let mut counts = Counts::default();
        assert!((0..RECORDED).all(|_| counts.refuse("read.none") == Kept::Alone));
        assert_eq!(counts.last_words(), None);
        assert_eq!(counts.refuse("read.none"), Kept::FirstCounted);
        assert_eq!(counts.refuse("read.none"), Kept::Counted);
        assert!((0..RECORDED_OF_A_RULE).all(|_| counts.refuse("host.metadata") == Kept::Alone));
        assert_eq!(counts.refuse("host.metadata"), Kept::Counted);
        let words = counts.last_words().unwrap();
        assert!(words.starts_with("3 further requests") && words.ends_with("host.metadata 1, read.none 2."), "{words}");
    }

    #[test]
    fn after_so_many_denials_in_a_row_the_server_is_not_asked_any_more() {
        let mut counts = Counts { denied_in_a_row: RECORDED - 1, ..Counts::default() };
        assert_eq!(counts.spent(), None);
        counts.denied_in_a_row += 1;
        assert!(counts.spent().unwrap().contains("1000 calls in a row were denied"));
    }
}
