//! Leases: every one that was granted or denied, and how it stands. What may become of one is not decided here.

use crate::script::Statement;
use crate::{Store, StoreError, Tx, from_row};
use model::capability::{Delivery, Kind};
use model::{LeaseId, Moment, RunId};
use sqlx::Row;
use sqlx::any::AnyRow;

/// One lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseRow {
    /// Its id.
    pub id: LeaseId,
    /// The run that asked.
    pub run: RunId,
    /// The capability's name; of one that was denied, what was asked for.
    pub capability: String,
    /// What it is for; of one that was denied, what was asked for.
    pub destination: String,
    /// Why, in the agent's words; untrusted.
    pub reason: String,
    /// What the capability is for.
    pub kind: Kind,
    /// How it travels.
    pub delivery: Delivery,
    /// The secret's name; empty for one that was denied.
    pub secret: String,
    /// The word of its state.
    pub state: String,
    /// When it was asked for.
    pub made: Moment,
    /// The first moment at which it may not be used.
    pub expires: Moment,
    /// When its use began.
    pub used: Option<Moment>,
    /// By what.
    pub used_by: String,
    /// When it was over.
    pub ended: Option<Moment>,
    /// By what, or by whom.
    pub ended_by: String,
    /// SHA-256 of the handle that a command was given instead of the value; empty when there is none.
    pub handle_sha256: String,
    /// What a vendor minted for it, sealed; until something came of the question, by which settings it was asked, which is no
    /// secret; empty when none was.
    pub minted: Vec<u8>,
    /// How what a vendor minted for it stands.
    pub mint: MintRow,
}

/// How what a vendor mints for a lease stands. What may become of it is not decided here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MintRow {
    /// The word of its state; empty when nothing was asked for.
    pub state: String,
    /// When it ends by itself, or ended.
    pub until: Moment,
    /// When something is next to be done about it.
    pub next: Moment,
    /// How often its end was asked for.
    pub tries: u32,
}

impl Default for MintRow {
    fn default() -> Self {
        Self { state: String::new(), until: Moment(0), next: Moment(0), tries: 0 }
    }
}

pub(crate) fn lease(row: &AnyRow) -> Result<LeaseRow, StoreError> {
    let json = |text: &str| serde_json::Value::String(text.to_owned());
    Ok(LeaseRow {
        id: LeaseId::parse(row.get("id")).map_err(StoreError::corrupt("lease id"))?,
        run: RunId::parse(row.get("run")).map_err(StoreError::corrupt("run id"))?,
        capability: row.get("capability"),
        destination: row.get("destination"),
        reason: row.get("reason"),
        kind: serde_json::from_value(json(row.get("kind"))).map_err(StoreError::corrupt("kind of a capability"))?,
        delivery: serde_json::from_str(row.get("delivery")).map_err(StoreError::corrupt("delivery"))?,
        secret: row.get("secret"),
        state: row.get("state"),
        made: Moment(row.get("made")),
        expires: Moment(row.get("expires")),
        used: row.get::<Option<i64>, _>("used").map(Moment),
        used_by: row.get("used_by"),
        ended: row.get::<Option<i64>, _>("ended").map(Moment),
        ended_by: row.get("ended_by"),
        handle_sha256: row.get("handle_sha256"),
        minted: row.get("minted"),
        mint: MintRow {
            state: row.get("mint"),
            until: Moment(row.get("mint_until")),
            next: Moment(row.get("mint_next")),
            tries: u32::try_from(row.get::<i64, _>("mint_tries")).unwrap_or(u32::MAX),
        },
    })
}

pub(crate) fn all(rows: &[AnyRow]) -> Result<Vec<LeaseRow>, StoreError> {
    rows.iter().map(lease).collect()
}

const ONE: &str = "SELECT * FROM leases WHERE id = $1";
const OPEN: &str = "SELECT * FROM leases WHERE state IN ('granted', 'consumed') ORDER BY made, id";

impl Store {
    /// Every lease that is open, oldest first.
    ///
    /// # Errors
    /// The engine's.
    pub async fn open_leases(&self) -> Result<Vec<LeaseRow>, StoreError> {
        let rows = sqlx::query(OPEN).fetch_all(&self.read).await.map_err(StoreError::sql("list the open leases"))?;
        all(&rows)
    }

    /// The newest leases, at most `limit`.
    ///
    /// # Errors
    /// The engine's.
    pub async fn leases(&self, limit: u32) -> Result<Vec<LeaseRow>, StoreError> {
        const NEWEST: &str = "SELECT * FROM leases ORDER BY made DESC, id LIMIT $1";
        let rows = sqlx::query(NEWEST).bind(i64::from(limit)).fetch_all(&self.read).await;
        all(&rows.map_err(StoreError::sql("list the leases"))?)
    }

    /// One lease.
    ///
    /// # Errors
    /// The engine's.
    pub async fn lease(&self, id: &LeaseId) -> Result<Option<LeaseRow>, StoreError> {
        let row = sqlx::query(ONE).bind(id.as_str()).fetch_optional(&self.read).await;
        row.map_err(StoreError::sql("read a lease"))?.as_ref().map(lease).transpose()
    }
}

impl Tx {
    /// Keeps a new lease.
    ///
    /// # Errors
    /// What cannot be written as text.
    pub fn add_lease(&mut self, row: &LeaseRow) -> Result<(), StoreError> {
        const ADD: &str = "INSERT INTO leases (id, run, capability, destination, reason, kind, delivery, secret, state, made, \
            expires, used, used_by, ended, ended_by, handle_sha256, minted, mint, mint_until, mint_next, mint_tries) \
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, '', $19, $16, $17, $18, 0)";
        let delivery = serde_json::to_string(&row.delivery).map_err(StoreError::corrupt("delivery"))?;
        let add = Statement::new("keep a lease", ADD).bind(row.id.as_str()).bind(row.run.as_str());
        let add = add.bind(row.capability.as_str()).bind(row.destination.as_str()).bind(row.reason.as_str());
        let add = add.bind(row.kind.word()).bind(delivery).bind(row.secret.as_str()).bind(row.state.as_str());
        let add = add.bind(row.made.0).bind(row.expires.0).bind(row.used.map(|at| at.0)).bind(row.used_by.as_str());
        let add = add.bind(row.ended.map(|at| at.0)).bind(row.ended_by.as_str()).bind(row.mint.state.as_str());
        self.later(add.bind(row.mint.until.0).bind(row.mint.next.0).bind(row.minted.clone()));
        Ok(())
    }

    /// Keeps how a lease that was read in this act stands now.
    pub fn keep_lease(&mut self, row: &LeaseRow) {
        const KEEP: &str = "UPDATE leases SET state = $2, used = $3, used_by = $4, ended = $5, ended_by = $6, \
            handle_sha256 = $7, minted = $8, expires = $9, mint = $10, mint_until = $11, mint_next = $12, mint_tries = $13 \
            WHERE id = $1";
        let keep = Statement::new("keep a lease", KEEP).bind(row.id.as_str()).bind(row.state.as_str());
        let keep = keep.bind(row.used.map(|at| at.0)).bind(row.used_by.as_str()).bind(row.ended.map(|at| at.0));
        let keep = keep.bind(row.ended_by.as_str()).bind(row.handle_sha256.as_str()).bind(row.minted.clone());
        let keep = keep.bind(row.expires.0).bind(row.mint.state.as_str()).bind(row.mint.until.0);
        self.later(keep.bind(row.mint.next.0).bind(i64::from(row.mint.tries)));
    }

    /// One lease.
    ///
    /// # Errors
    /// The engine's.
    pub async fn lease(&mut self, id: &LeaseId) -> Result<Option<LeaseRow>, StoreError> {
        self.row(Statement::new("read a lease", ONE).bind(id.as_str())).await?.as_ref().map(lease).transpose()
    }

    /// The lease in use whose command was given the handle with this hash.
    ///
    /// # Errors
    /// The engine's.
    pub async fn lease_of_handle(&mut self, sha256: &str) -> Result<Option<LeaseRow>, StoreError> {
        const ONE: &str = "SELECT * FROM leases WHERE handle_sha256 = $1 AND state = 'consumed'";
        self.row(Statement::new("read a lease", ONE).bind(sha256)).await?.as_ref().map(lease).transpose()
    }

    /// Every lease that is open, oldest first.
    ///
    /// # Errors
    /// The engine's.
    pub async fn open_leases(&mut self) -> Result<Vec<LeaseRow>, StoreError> {
        let [rows] = self.rows([Statement::new("list the open leases", OPEN)]).await?;
        all(&rows)
    }

    /// How many leases of a capability a run was granted: since `since`, and ever.
    ///
    /// # Errors
    /// The engine's.
    pub async fn leases_granted(
        &mut self,
        run: &RunId,
        capability: &str,
        since: Moment,
    ) -> Result<(u64, u64), StoreError> {
        const COUNT: &str = "SELECT COUNT(CASE WHEN made > $3 THEN 1 END), COUNT(*) FROM leases \
            WHERE run = $1 AND capability = $2 AND state <> 'denied'";
        let count = Statement::new("count the leases", COUNT).bind(run.as_str()).bind(capability).bind(since.0);
        Ok(self.row(count).await?.map_or((0, 0), |row| (from_row(row.get(0)), from_row(row.get(1)))))
    }
}
