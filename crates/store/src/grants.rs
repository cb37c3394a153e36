//! Handles (what an agent holds instead of a key) and grants (one permission for one model call).

use crate::{Store, StoreError, Tx, from_row, to_row};
use model::provider::Price;
use model::{GrantId, MicroDollars, Moment, RunId, Usage};
use sqlx::Row;
use sqlx::any::AnyRow;

/// A handle as it is kept: by its SHA-256 only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandleRow {
    /// The run it stands for.
    pub run: RunId,
    /// The model it may be used for.
    pub model: String,
    /// The first moment at which it no longer works.
    pub expires: Moment,
    /// Whether it was ended for good.
    pub dead: bool,
}

/// A grant that is not settled, or was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrantRow {
    /// Its id.
    pub id: GrantId,
    /// The run.
    pub run: RunId,
    /// The model's name.
    pub model: String,
    /// Whether its cost is known; reserved until then.
    pub settled: bool,
    /// Tokens set aside for it.
    pub reserved_tokens: u64,
    /// Cost set aside for it.
    pub reserved_cost: MicroDollars,
    /// The price it was granted at.
    pub price: Price,
}

/// What a run has used of its budget, and what is set aside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Tokens of settled calls.
    pub tokens: u64,
    /// Cost of settled calls.
    pub cost: MicroDollars,
    /// Tokens set aside for calls under way.
    pub reserved_tokens: u64,
    /// Cost set aside for calls under way.
    pub reserved_cost: MicroDollars,
}

fn grant(row: &AnyRow) -> Result<GrantRow, StoreError> {
    Ok(GrantRow {
        id: GrantId::parse(row.get("id")).map_err(StoreError::corrupt("grant id"))?,
        run: RunId::parse(row.get("run")).map_err(StoreError::corrupt("run id"))?,
        model: row.get("model"),
        settled: row.get::<&str, _>("state") != "reserved",
        reserved_tokens: from_row(row.get("reserved_tokens")),
        reserved_cost: MicroDollars(from_row(row.get("reserved_cost"))),
        price: serde_json::from_str(row.get("price")).map_err(StoreError::corrupt("price"))?,
    })
}

impl Store {
    /// Renews every handle of a run that is not over, to `expires`.
    ///
    /// # Errors
    /// The engine's.
    pub async fn renew_handles(&self, expires: Moment) -> Result<(), StoreError> {
        const RENEW: &str = "UPDATE handles SET expires = $1 WHERE dead = 0 AND expires < $1 AND run IN \
            (SELECT run FROM runs WHERE state IN ('queued', 'running'))";
        self.write(move |tx| {
            Box::pin(async move {
                let renewed = sqlx::query(RENEW).bind(expires.0).execute(&mut tx.conn).await;
                renewed.map(drop).map_err(StoreError::sql("renew the handles"))
            })
        })
        .await
    }

    /// Every handle that a run ever had.
    ///
    /// # Errors
    /// The engine's.
    pub async fn handles(&self, run: &RunId) -> Result<Vec<HandleRow>, StoreError> {
        const ALL: &str = "SELECT run, model, expires, dead FROM handles WHERE run = $1";
        let rows = sqlx::query(ALL).bind(run.as_str()).fetch_all(&self.read).await;
        rows.map_err(StoreError::sql("list the handles"))?.iter().map(handle).collect()
    }
}

fn handle(row: &AnyRow) -> Result<HandleRow, StoreError> {
    Ok(HandleRow {
        run: RunId::parse(row.get("run")).map_err(StoreError::corrupt("run id"))?,
        model: row.get("model"),
        expires: Moment(row.get("expires")),
        dead: row.get::<i64, _>("dead") != 0,
    })
}

impl Tx {
    /// Keeps a new handle; the run's earlier ones are dead from here on.
    ///
    /// # Errors
    /// The engine's.
    pub async fn add_handle(&mut self, sha256: &str, handle: &HandleRow) -> Result<(), StoreError> {
        const ADD: &str = "INSERT INTO handles (sha256, run, model, expires, dead) VALUES ($1, $2, $3, $4, 0)";
        self.end_handles(&handle.run).await?;
        let add = sqlx::query(ADD).bind(sha256).bind(handle.run.as_str()).bind(&handle.model).bind(handle.expires.0);
        add.execute(&mut self.conn).await.map(drop).map_err(StoreError::sql("keep a handle"))
    }

    /// Ends every handle of a run, for good.
    ///
    /// # Errors
    /// The engine's.
    pub async fn end_handles(&mut self, run: &RunId) -> Result<(), StoreError> {
        const END: &str = "UPDATE handles SET dead = 1 WHERE run = $1";
        let end = sqlx::query(END).bind(run.as_str()).execute(&mut self.conn).await;
        end.map(drop).map_err(StoreError::sql("end a handle"))
    }

    /// The handle with this hash.
    ///
    /// # Errors
    /// The engine's.
    pub async fn handle(&mut self, sha256: &str) -> Result<Option<HandleRow>, StoreError> {
        const ONE: &str = "SELECT run, model, expires, dead FROM handles WHERE sha256 = $1";
        let row = sqlx::query(ONE).bind(sha256).fetch_optional(&mut self.conn).await;
        row.map_err(StoreError::sql("look up a handle"))?.as_ref().map(self::handle).transpose()
    }

    /// Lets a handle live until `expires`.
    ///
    /// # Errors
    /// The engine's.
    pub async fn renew_handle(&mut self, sha256: &str, expires: Moment) -> Result<(), StoreError> {
        const RENEW: &str = "UPDATE handles SET expires = $2 WHERE sha256 = $1 AND dead = 0";
        let renew = sqlx::query(RENEW).bind(sha256).bind(expires.0).execute(&mut self.conn).await;
        renew.map(drop).map_err(StoreError::sql("renew a handle"))
    }

    /// What a run has used and has set aside.
    ///
    /// # Errors
    /// The engine's.
    pub async fn spent(&mut self, run: &RunId) -> Result<Spent, StoreError> {
        const USED: &str = "SELECT used_input + used_output + used_cache_read + used_cache_write, cost \
            FROM runs WHERE run = $1";
        const RESERVED: &str =
            "SELECT reserved_tokens, reserved_cost FROM grants WHERE run = $1 AND state = 'reserved'";
        let fail = || StoreError::sql("read a budget");
        let mut spent = Spent::default();
        let used = sqlx::query(USED).bind(run.as_str()).fetch_optional(&mut self.conn).await.map_err(fail())?;
        if let Some(row) = used {
            spent.tokens = from_row(row.get(0));
            spent.cost = MicroDollars(from_row(row.get(1)));
        }
        for row in sqlx::query(RESERVED).bind(run.as_str()).fetch_all(&mut self.conn).await.map_err(fail())? {
            spent.reserved_tokens = spent.reserved_tokens.saturating_add(from_row(row.get(0)));
            spent.reserved_cost = spent.reserved_cost.plus(MicroDollars(from_row(row.get(1))));
        }
        Ok(spent)
    }

    /// Sets a grant's reservation aside.
    ///
    /// # Errors
    /// The engine's.
    pub async fn reserve(&mut self, grant: &GrantRow, made: Moment) -> Result<(), StoreError> {
        const ADD: &str = "INSERT INTO grants (id, run, model, state, made, reserved_tokens, reserved_cost, price, \
            used_input, used_output, used_cache_read, used_cache_write, cost, status, interrupted) \
            VALUES ($1, $2, $3, 'reserved', $4, $5, $6, $7, 0, 0, 0, 0, 0, 0, 0)";
        let price = serde_json::to_string(&grant.price).map_err(StoreError::corrupt("price"))?;
        let add = sqlx::query(ADD).bind(grant.id.as_str()).bind(grant.run.as_str()).bind(&grant.model).bind(made.0);
        let add = add.bind(to_row(grant.reserved_tokens)).bind(to_row(grant.reserved_cost.0)).bind(price);
        add.execute(&mut self.conn).await.map(drop).map_err(StoreError::sql("reserve"))
    }

    /// One grant.
    ///
    /// # Errors
    /// The engine's.
    pub async fn grant(&mut self, id: &GrantId) -> Result<Option<GrantRow>, StoreError> {
        const ONE: &str = "SELECT * FROM grants WHERE id = $1";
        let row = sqlx::query(ONE).bind(id.as_str()).fetch_optional(&mut self.conn).await;
        row.map_err(StoreError::sql("read a grant"))?.as_ref().map(grant).transpose()
    }

    /// Every grant whose cost is not known yet, oldest first.
    ///
    /// # Errors
    /// The engine's.
    pub async fn open_grants(&mut self) -> Result<Vec<GrantRow>, StoreError> {
        const OPEN: &str = "SELECT * FROM grants WHERE state = 'reserved' ORDER BY made, id";
        let rows =
            sqlx::query(OPEN).fetch_all(&mut self.conn).await.map_err(StoreError::sql("list the open grants"))?;
        rows.iter().map(grant).collect()
    }

    /// Replaces a grant's reservation by what the call used; the run's sums follow.
    /// Settling a grant that is settled changes nothing; answers whether it was open.
    ///
    /// # Errors
    /// The engine's.
    pub async fn settle_grant(
        &mut self,
        grant: &GrantRow,
        at: Moment,
        usage: Usage,
        cost: MicroDollars,
        status: u16,
        interrupted: bool,
    ) -> Result<bool, StoreError> {
        const SETTLE: &str = "UPDATE grants SET state = 'settled', settled = $2, used_input = $3, used_output = $4, \
            used_cache_read = $5, used_cache_write = $6, cost = $7, status = $8, interrupted = $9 \
            WHERE id = $1 AND state = 'reserved'";
        const ADD: &str = "UPDATE runs SET calls = calls + 1, used_input = used_input + $2, \
            used_output = used_output + $3, used_cache_read = used_cache_read + $4, \
            used_cache_write = used_cache_write + $5, cost = cost + $6 WHERE run = $1";
        let fail = || StoreError::sql("settle a grant");
        // Sums of the engine's integers must not run over, whatever a provider claims to have counted.
        let bounded = |n: u64| to_row(n.min(1 << 50));
        let (input, output) = (bounded(usage.input), bounded(usage.output));
        let (cache_read, cache_write) = (bounded(usage.cache_read), bounded(usage.cache_write));
        let cost = bounded(cost.0);
        let settle = sqlx::query(SETTLE).bind(grant.id.as_str()).bind(at.0).bind(input).bind(output);
        let settle = settle.bind(cache_read).bind(cache_write).bind(cost);
        let settle = settle.bind(i64::from(status)).bind(i64::from(interrupted));
        if settle.execute(&mut self.conn).await.map_err(fail())?.rows_affected() == 0 {
            return Ok(false);
        }
        let add = sqlx::query(ADD).bind(grant.run.as_str()).bind(input).bind(output).bind(cache_read);
        add.bind(cache_write).bind(cost).execute(&mut self.conn).await.map_err(fail())?;
        Ok(true)
    }
}
