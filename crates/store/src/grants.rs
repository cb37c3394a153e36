//! Handles (what an agent holds instead of a key) and grants (one permission for one model call).

use crate::keep::ModelRow;
use crate::runs::RunRow;
use crate::script::Statement;
use crate::secrets::{self, Apart, SecretRow};
use crate::{Store, StoreError, Tx, from_row, keep, runs, to_row};
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
    /// Of an allowance: the requests that it is for. 0 for a grant of one request.
    pub reads: u32,
    /// Of them, those that were told to be over.
    pub told: u32,
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

/// How a run, and what a call of it names, stand inside a transaction.
#[derive(Debug)]
pub struct Standing {
    /// The run.
    pub run: Option<RunRow>,
    /// The handle.
    pub handle: Option<HandleRow>,
    /// The model.
    pub model: Option<ModelRow>,
    /// What the run gets of the secret that was asked for by name.
    pub secret: Result<Option<SecretRow>, Apart>,
    /// The run's budget, as far as it is gone.
    pub spent: Spent,
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
        reads: runs::small(row.get("reads")),
        told: runs::small(row.get("told")),
    })
}

impl Store {
    /// Renews every handle of a run that is neither over nor paused, to `expires`.
    ///
    /// # Errors
    /// The engine's.
    pub async fn renew_handles(&self, expires: Moment) -> Result<(), StoreError> {
        const RENEW: &str = "UPDATE handles SET expires = $1 WHERE dead = 0 AND expires < $1 AND run IN \
            (SELECT run FROM runs WHERE state IN ('queued', 'running'))";
        self.write(move |tx| {
            Box::pin(async move {
                tx.later(Statement::new("renew the handles", RENEW).bind(expires.0));
                Ok(())
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

fn one_handle(sha256: &str) -> Statement {
    const ONE: &str = "SELECT run, model, expires, dead FROM handles WHERE sha256 = $1";
    Statement::new("look up a handle", ONE).bind(sha256)
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
        self.end_handles(&handle.run).await?;
        self.add_handle_beside(sha256, handle);
        Ok(())
    }

    /// Keeps a new handle beside the run's others.
    pub fn add_handle_beside(&mut self, sha256: &str, handle: &HandleRow) {
        const ADD: &str = "INSERT INTO handles (sha256, run, model, expires, dead) VALUES ($1, $2, $3, $4, 0)";
        let add = Statement::new("keep a handle", ADD).bind(sha256).bind(handle.run.as_str());
        self.later(add.bind(handle.model.as_str()).bind(handle.expires.0));
    }

    /// Ends every handle of a run, for good.
    ///
    /// # Errors
    /// The engine's.
    pub async fn end_handles(&mut self, run: &RunId) -> Result<(), StoreError> {
        const END: &str = "UPDATE handles SET dead = 1 WHERE run = $1";
        self.later(Statement::new("end a handle", END).bind(run.as_str()));
        Ok(())
    }

    /// The handle with this hash.
    ///
    /// # Errors
    /// The engine's.
    pub async fn handle(&mut self, sha256: &str) -> Result<Option<HandleRow>, StoreError> {
        self.row(one_handle(sha256)).await?.as_ref().map(self::handle).transpose()
    }

    /// Lets a handle live until `expires`.
    ///
    /// # Errors
    /// The engine's.
    pub async fn renew_handle(&mut self, sha256: &str, expires: Moment) -> Result<(), StoreError> {
        const RENEW: &str = "UPDATE handles SET expires = $2 WHERE sha256 = $1 AND dead = 0";
        self.later(Statement::new("renew a handle", RENEW).bind(sha256).bind(expires.0));
        Ok(())
    }

    /// Lets every handle of a run that is not dead live until `expires`.
    pub fn renew_handles_of(&mut self, run: &RunId, expires: Moment) {
        const RENEW: &str = "UPDATE handles SET expires = $2 WHERE run = $1 AND dead = 0";
        self.later(Statement::new("renew the handles of a run", RENEW).bind(run.as_str()).bind(expires.0));
    }

    /// Everything that speaks for or against a call: the run, the handle with this hash, the model of this name, the
    /// secret of that name (the run's person's own where the key allows it), and what the run has used and set aside. One trip to the engine.
    ///
    /// # Errors
    /// The engine's.
    pub async fn standing(
        &mut self,
        of_run: &RunId,
        handle_sha256: &str,
        model: &str,
        secret: &str,
    ) -> Result<Standing, StoreError> {
        const RESERVED: &str =
            "SELECT reserved_tokens, reserved_cost FROM grants WHERE run = $1 AND state = 'reserved'";
        let [run, handle, model, secret, reserved] = self
            .rows([
                runs::one_run(of_run),
                one_handle(handle_sha256),
                keep::one_model(model),
                secrets::for_run(secret, of_run),
                Statement::new("read a budget", RESERVED).bind(of_run.as_str()),
            ])
            .await?;
        let run = run.first().map(runs::run_row).transpose()?;
        let mut spent = run.as_ref().map_or_else(Spent::default, |row| Spent {
            tokens: row.usage.total(),
            cost: row.cost,
            ..Spent::default()
        });
        for row in &reserved {
            spent.reserved_tokens = spent.reserved_tokens.saturating_add(from_row(row.get(0)));
            spent.reserved_cost = spent.reserved_cost.plus(MicroDollars(from_row(row.get(1))));
        }
        Ok(Standing {
            run,
            handle: handle.first().map(self::handle).transpose()?,
            model: model.first().map(keep::model),
            secret: secrets::chosen(&secret),
            spent,
        })
    }

    /// Sets a grant's reservation aside.
    ///
    /// # Errors
    /// The engine's.
    pub async fn reserve(&mut self, grant: &GrantRow, made: Moment) -> Result<(), StoreError> {
        const ADD: &str = "INSERT INTO grants (id, run, model, state, made, reserved_tokens, reserved_cost, price, \
            used_input, used_output, used_cache_read, used_cache_write, cost, status, interrupted, reads, told) \
            VALUES ($1, $2, $3, 'reserved', $4, $5, $6, $7, 0, 0, 0, 0, 0, 0, 0, $8, 0)";
        let price = serde_json::to_string(&grant.price).map_err(StoreError::corrupt("price"))?;
        let add = Statement::new("reserve", ADD).bind(grant.id.as_str()).bind(grant.run.as_str());
        let add = add.bind(grant.model.as_str()).bind(made.0).bind(to_row(grant.reserved_tokens));
        self.later(add.bind(to_row(grant.reserved_cost.0)).bind(price).bind(i64::from(grant.reads)));
        Ok(())
    }

    /// One grant, and the run that it was given to.
    ///
    /// # Errors
    /// The engine's.
    pub async fn grant(&mut self, id: &GrantId) -> Result<Option<(GrantRow, Option<RunRow>)>, StoreError> {
        const ONE: &str = "SELECT * FROM grants WHERE id = $1";
        const ITS_RUN: &str = "SELECT * FROM runs WHERE run = (SELECT run FROM grants WHERE id = $1)";
        let [of_grant, of_run] = self
            .rows([
                Statement::new("read a grant", ONE).bind(id.as_str()),
                Statement::new("read a run", ITS_RUN).bind(id.as_str()),
            ])
            .await?;
        let Some(row) = of_grant.first() else { return Ok(None) };
        Ok(Some((grant(row)?, of_run.first().map(runs::run_row).transpose()?)))
    }

    /// Every grant whose cost is not known yet, oldest first.
    ///
    /// # Errors
    /// The engine's.
    pub async fn open_grants(&mut self) -> Result<Vec<GrantRow>, StoreError> {
        const OPEN: &str = "SELECT * FROM grants WHERE state = 'reserved' ORDER BY made, id";
        let [rows] = self.rows([Statement::new("list the open grants", OPEN)]).await?;
        rows.iter().map(grant).collect()
    }

    /// Replaces the reservation of a grant that was read in this act by what the call used; the run's sums follow.
    /// Settling a grant that is settled changes nothing; answers whether it was open.
    ///
    /// # Errors
    /// The engine's.
    pub async fn settle_grant(
        &mut self,
        grant: &mut GrantRow,
        at: Moment,
        usage: Usage,
        cost: MicroDollars,
        status: u16,
        interrupted: bool,
    ) -> Result<bool, StoreError> {
        const ADD: &str = "UPDATE runs SET calls = calls + 1, used_input = used_input + $2, \
            used_output = used_output + $3, used_cache_read = used_cache_read + $4, \
            used_cache_write = used_cache_write + $5, cost = cost + $6 \
            WHERE run = (SELECT run FROM grants WHERE id = $1 AND state = 'reserved')";
        const SETTLE: &str = "UPDATE grants SET state = 'settled', settled = $2, used_input = $3, used_output = $4, \
            used_cache_read = $5, used_cache_write = $6, cost = $7, status = $8, interrupted = $9 \
            WHERE id = $1 AND state = 'reserved'";
        if grant.settled {
            return Ok(false);
        }
        // Sums of the engine's integers must not run over, whatever a provider claims to have counted.
        let bounded = |n: u64| to_row(n.min(1 << 50));
        let (input, output) = (bounded(usage.input), bounded(usage.output));
        let (cache_read, cache_write) = (bounded(usage.cache_read), bounded(usage.cache_write));
        let cost = bounded(cost.0);
        // The sums first: they look whether it is open.
        let add = Statement::new("add up a run's use", ADD).bind(grant.id.as_str()).bind(input).bind(output);
        self.later(add.bind(cache_read).bind(cache_write).bind(cost));
        let settle = Statement::new("settle a grant", SETTLE).bind(grant.id.as_str()).bind(at.0).bind(input);
        let settle = settle.bind(output).bind(cache_read).bind(cache_write).bind(cost);
        self.later(settle.bind(i64::from(status)).bind(i64::from(interrupted)));
        grant.settled = true;
        Ok(true)
    }
}
