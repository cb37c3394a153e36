//! Grants of requests to the outside: rows of the same table as those of model calls, with nothing set aside and
//! no model. A run's count of model calls, its tokens and its cost do not move with them.

use crate::grants::GrantRow;
use crate::script::Statement;
use crate::{StoreError, Tx};
use model::provider::Price;
use model::{GrantId, MicroDollars, Moment, RunId};

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
        }
    }

    /// Whether it is one of a request to the outside, and not of a model call.
    #[must_use]
    pub fn is_passage(&self) -> bool {
        self.model.is_empty()
    }
}

impl Tx {
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
