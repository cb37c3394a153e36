//! What vendors minted for leases: the rows about which something is to be done, or whose value is known.

use crate::leases::{LeaseRow, all, lease};
use crate::script::Statement;
use crate::{Store, StoreError, Tx};
use model::{Moment, RunId};

impl Store {
    /// Leases whose mint was asked for, or whose value is to be ended at its vendor, when that is due at `now`.
    ///
    /// # Errors
    /// The engine's.
    pub async fn mints_due(&self, now: Moment) -> Result<Vec<LeaseRow>, StoreError> {
        const DUE: &str =
            "SELECT * FROM leases WHERE mint IN ('asked', 'ending') AND mint_next <= $1 ORDER BY mint_next LIMIT 64";
        let rows = sqlx::query(DUE).bind(now.0).fetch_all(&self.read).await;
        all(&rows.map_err(StoreError::sql("list what is minted"))?)
    }

    /// Leases with a minted value that is kept, sealed; those that ended before `since` alone, or the others.
    ///
    /// # Errors
    /// The engine's.
    pub async fn minted(&self, since: Moment, ended: bool) -> Result<Vec<LeaseRow>, StoreError> {
        const KNOWN: &str =
            "SELECT * FROM leases WHERE mint IN ('live', 'ending', 'revoked', 'left') AND mint_until >= $1";
        const OVER: &str =
            "SELECT * FROM leases WHERE mint IN ('live', 'ending', 'revoked', 'left') AND mint_until < $1";
        let rows = sqlx::query(if ended { OVER } else { KNOWN }).bind(since.0).fetch_all(&self.read).await;
        all(&rows.map_err(StoreError::sql("list what is minted"))?)
    }
}

impl Tx {
    /// The newest lease of a run in use for this very thing, with a value that a vendor minted for it.
    ///
    /// # Errors
    /// The engine's.
    pub async fn live_mint(
        &mut self,
        run: &RunId,
        capability: &str,
        destination: &str,
    ) -> Result<Option<LeaseRow>, StoreError> {
        const ONE: &str = "SELECT * FROM leases WHERE run = $1 AND capability = $2 AND destination = $3 \
            AND state = 'consumed' AND mint = 'live' ORDER BY made DESC LIMIT 1";
        let one = Statement::new("read what is minted", ONE).bind(run.as_str()).bind(capability).bind(destination);
        self.row(one).await?.as_ref().map(lease).transpose()
    }
}
