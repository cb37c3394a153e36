//! Grants of requests to the outside: rows of the same table as those of model calls, with nothing set aside and
//! no model. A run's count of model calls, its tokens and its cost do not move with them.

use crate::grants::GrantRow;
use crate::script::Statement;
use crate::{Store, StoreError, Tx};
use model::provider::Price;
use model::{GrantId, MicroDollars, Moment, RunId};
use sqlx::Row;

impl GrantRow {
    /// An open grant of a request to the outside.
    #[must_use]
    pub fn passage(id: GrantId, run: RunId) -> Self {
        Self {
            id,
            run,
            model: String::new(),
            settled: false,
            reserved_tokens: 0,
            reserved_cost: MicroDollars(0),
            price: Price::default(),
            reads: 0,
            told: 0,
        }
    }

    /// An open grant of so many such requests.
    #[must_use]
    pub fn allowance(id: GrantId, run: RunId, reads: u32) -> Self {
        Self { reads, ..Self::passage(id, run) }
    }

    /// Whether it is one of a request to the outside, and not of a model call.
    #[must_use]
    pub fn is_passage(&self) -> bool {
        self.model.is_empty()
    }
}

impl Store {
    /// What came of a request to the outside: the status of its answer, and whether it was broken off. None while it is
    /// under way, and for what was no such request.
    ///
    /// # Errors
    /// The engine's; [`StoreError::Corrupt`] for a status that is none.
    pub async fn passed(&self, grant: &str) -> Result<Option<(u16, bool)>, StoreError> {
        const PASSED: &str =
            "SELECT status, interrupted FROM grants WHERE id = $1 AND model = '' AND reads = 0 AND state = 'settled'";
        let row = sqlx::query(PASSED).bind(grant).fetch_optional(&self.read).await;
        let Some(row) = row.map_err(StoreError::sql("read a grant"))? else { return Ok(None) };
        let status = u16::try_from(row.get::<i64, _>(0)).map_err(StoreError::corrupt("status"))?;
        Ok(Some((status, row.get::<i64, _>(1) != 0)))
    }
}

impl Tx {
    /// Notes that so many more requests of an allowance that was read in this act are over; with `over`, that no more are
    /// made by it. One that is settled, or no allowance, is left as it is; answers whether it was open.
    ///
    /// # Errors
    /// [`StoreError`], when the engine refuses the statement.
    pub fn tell_reads(
        &mut self,
        grant: &mut GrantRow,
        at: Moment,
        more: u32,
        over: bool,
        interrupted: bool,
    ) -> Result<bool, StoreError> {
        const TELL: &str = "UPDATE grants SET told = told + $2, state = $3, settled = $4, interrupted = $5 \
            WHERE id = $1 AND reads > 0 AND state = 'reserved'";
        if grant.settled || grant.reads == 0 {
            return Ok(false);
        }
        let tell = Statement::new("settle an allowance", TELL).bind(grant.id.as_str()).bind(i64::from(more));
        let tell = tell.bind(if over { "settled" } else { "reserved" }).bind(over.then_some(at.0));
        self.later(tell.bind(i64::from(interrupted)));
        grant.told = grant.told.saturating_add(more);
        grant.settled = over;
        Ok(true)
    }

    /// Settles a grant of a request to the outside that was read in this act. Settling one that is settled, or one of
    /// a model call, changes nothing; answers whether it was open.
    ///
    /// # Errors
    /// [`StoreError`], when the engine refuses the statement.
    pub fn settle_passage(
        &mut self,
        grant: &mut GrantRow,
        at: Moment,
        status: u16,
        interrupted: bool,
    ) -> Result<bool, StoreError> {
        const SETTLE: &str = "UPDATE grants SET state = 'settled', settled = $2, status = $3, interrupted = $4 \
            WHERE id = $1 AND model = '' AND state = 'reserved'";
        if grant.settled || !grant.is_passage() {
            return Ok(false);
        }
        let settle = Statement::new("settle a passage", SETTLE).bind(grant.id.as_str()).bind(at.0);
        self.later(settle.bind(i64::from(status)).bind(i64::from(interrupted)));
        grant.settled = true;
        Ok(true)
    }
}
