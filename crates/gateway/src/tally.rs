//! How often a run was refused. So many refusals are recorded one by one; a box that goes on knocking is
//! answered as before, and counted, so that it cannot fill the disk with its own record.
//!
//! Read [`Tally::record`], then `drop` (the count's own record).

use crate::refusal::{Refusal, Trace};
use crate::server::{Lost, Server};
use model::{RunId, event::Verdict};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Refusals of one run that are recorded one by one, and questions of it that the server may deny in a row.
pub(crate) const RECORDED: u64 = 1000;
/// The rule of what is said about many refusals at once.
const FLOOD: &str = "door.flood";

/// The refusals of one run, from attach to detach. Dropped with its last connection.
pub(crate) struct Tally {
    run: RunId,
    server: Arc<Server>,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    /// Refused by the gateway.
    refused: u64,
    /// Denied, and so recorded, by the server since it granted something.
    denied_in_a_row: u64,
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
        let nth = {
            let mut counts = self.counts();
            counts.refused = counts.refused.saturating_add(1);
            counts.refused
        };
        if nth <= RECORDED {
            self.server.refused(self.run.clone(), verdict).await
        } else if nth == RECORDED + 1 {
            let why = format!(
                "{RECORDED} requests of this run were refused. From here on refusals are answered and counted, not \
                 recorded one by one; their number is recorded at the end."
            );
            self.server.refused(self.run.clone(), flood(why)).await
        } else {
            Ok(())
        }
    }

    /// Whether the server may be asked for this run: each of its denials is a record too.
    ///
    /// # Errors
    /// A refusal once the server has denied very many questions, and granted none between them.
    pub(crate) fn may_ask(&self) -> Result<(), Refusal> {
        if self.counts().denied_in_a_row < RECORDED {
            return Ok(());
        }
        Err(Refusal::policy(FLOOD, format!("{RECORDED} calls in a row were denied to this run; it can make no more.")))
    }

    /// The server has recorded a denial.
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
        let counted = self.counts().refused.saturating_sub(RECORDED);
        if counted > 0 {
            let why = format!("{counted} further requests of this run were refused and are not recorded one by one.");
            self.server.note_refused(self.run.clone(), flood(why));
        }
    }
}

fn flood(why: String) -> Verdict {
    Trace::default().refused(&Refusal::policy(FLOOD, why))
}
