//! The evidence: one chain of records, each appended in the transaction of what it speaks of.

use crate::script::Statement;
use crate::{Store, StoreError, Tx, from_row, to_row};
use evidence::{Head, Record};
use model::Moment;
use serde_json::{Map, Value};
use sqlx::{AnyConnection, Row};
use tokio::sync::watch;

/// Who is the source of a record. Each source's records are numbered for themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The server's own acts.
    Server,
    /// What the gateway decided and metered.
    Gateway,
    /// What a host said of its boxes.
    Operator,
}

impl By {
    const ALL: [Self; 3] = [Self::Server, Self::Gateway, Self::Operator];

    fn word(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Gateway => "gateway",
            Self::Operator => "operator",
        }
    }
}

/// Where the chain stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chain {
    /// Records so far.
    pub n: u64,
    /// Head after the last one.
    pub head: Head,
    /// Records so far of each source.
    by: [u64; By::ALL.len()],
}

/// One record of the chain as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceRow {
    /// From 1, without gaps.
    pub n: u64,
    /// Canonical bytes.
    pub body: Vec<u8>,
    /// Head after it.
    pub head: Head,
}

/// A signed head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadRow {
    /// The record it covers the chain up to.
    pub n: u64,
    /// The signed note.
    pub note: String,
}

fn head(bytes: &[u8]) -> Result<Head, StoreError> {
    bytes.try_into().map(Head::from_bytes).map_err(StoreError::corrupt("head of the evidence"))
}

impl Chain {
    pub(crate) async fn last(conn: &mut AnyConnection) -> Result<Self, StoreError> {
        const LAST: &str = "SELECT n, head FROM evidence ORDER BY n DESC LIMIT 1";
        const BY: &str = "SELECT MAX(source_seq) FROM evidence WHERE source = $1";
        let fail = || StoreError::sql("read the evidence's head");
        let mut chain = Self { n: 0, head: Head::ZERO, by: [0; By::ALL.len()] };
        if let Some(row) = sqlx::query(LAST).fetch_optional(&mut *conn).await.map_err(fail())? {
            chain.n = from_row(row.get(0));
            chain.head = head(row.get(1))?;
        }
        for by in By::ALL {
            let row = sqlx::query(BY).bind(by.word()).fetch_one(&mut *conn).await.map_err(fail())?;
            chain.by[by as usize] = from_row(row.get::<Option<i64>, _>(0).unwrap_or(0));
        }
        Ok(chain)
    }
}

impl Store {
    /// Where the chain stands, in what is committed; changes can be awaited on it.
    #[must_use]
    pub fn chain(&self) -> watch::Receiver<Chain> {
        self.head.clone()
    }

    /// Records after number `after`, in order, at most `limit`.
    ///
    /// # Errors
    /// The engine's.
    pub async fn evidence(&self, after: u64, limit: u32) -> Result<Vec<EvidenceRow>, StoreError> {
        const AFTER: &str = "SELECT n, body, head FROM evidence WHERE n > $1 ORDER BY n LIMIT $2";
        let rows = sqlx::query(AFTER).bind(to_row(after)).bind(i64::from(limit)).fetch_all(&self.read).await;
        let rows = rows.map_err(StoreError::sql("read the evidence"))?;
        rows.iter()
            .map(|row| Ok(EvidenceRow { n: from_row(row.get(0)), body: row.get(1), head: head(row.get(2))? }))
            .collect()
    }

    /// The newest signed head.
    ///
    /// # Errors
    /// The engine's.
    pub async fn last_head(&self) -> Result<Option<HeadRow>, StoreError> {
        const LAST: &str = "SELECT n, note FROM heads ORDER BY n DESC LIMIT 1";
        let row =
            sqlx::query(LAST).fetch_optional(&self.read).await.map_err(StoreError::sql("read the signed heads"))?;
        Ok(row.map(|row| HeadRow { n: from_row(row.get(0)), note: row.get(1) }))
    }

    /// Every signed head, oldest first.
    ///
    /// # Errors
    /// The engine's.
    pub async fn heads(&self) -> Result<Vec<HeadRow>, StoreError> {
        const ALL: &str = "SELECT n, note FROM heads ORDER BY n";
        let rows = sqlx::query(ALL).fetch_all(&self.read).await.map_err(StoreError::sql("read the signed heads"))?;
        Ok(rows.iter().map(|row| HeadRow { n: from_row(row.get(0)), note: row.get(1) }).collect())
    }
}

impl Tx {
    /// Appends a record to the chain: what `by` has to say of an act of `who`, and when.
    /// `more` holds whole numbers, texts, lists and objects, at most 64 KiB of them, and never a value of a secret.
    ///
    /// # Errors
    /// The engine's; [`StoreError::Corrupt`] for a record that the chain does not take.
    pub async fn record(
        &mut self,
        by: By,
        at: Moment,
        kind: &str,
        who: &str,
        more: Map<String, Value>,
    ) -> Result<(), StoreError> {
        const ADD: &str = "INSERT INTO evidence (n, source, source_seq, body, head) VALUES ($1, $2, $3, $4, $5)";
        let mut next = self.chain;
        next.n += 1;
        next.by[by as usize] += 1;
        let record = Record {
            n: next.n,
            at,
            source: by.word().to_owned(),
            source_seq: next.by[by as usize],
            kind: kind.to_owned(),
            who: who.to_owned(),
            more,
        };
        let body = record.body().map_err(StoreError::corrupt("record"))?;
        next.head = evidence::chain::link(self.chain.head, &body).map_err(StoreError::corrupt("record"))?;
        let add = Statement::new("append to the evidence", ADD).bind(to_row(next.n)).bind(by.word());
        self.later(add.bind(to_row(record.source_seq)).bind(body).bind(next.head.as_bytes().to_vec()));
        self.chain = next;
        Ok(())
    }

    /// Where the chain stands inside this transaction.
    #[must_use]
    pub fn chain(&self) -> Chain {
        self.chain
    }

    /// Keeps a signed head.
    ///
    /// # Errors
    /// The engine's.
    pub async fn add_head(&mut self, row: &HeadRow, at: Moment) -> Result<(), StoreError> {
        const ADD: &str = "INSERT INTO heads (n, note, at) VALUES ($1, $2, $3) ON CONFLICT (n) DO NOTHING";
        let add = Statement::new("keep a signed head", ADD).bind(to_row(row.n)).bind(row.note.as_str()).bind(at.0);
        self.later(add);
        Ok(())
    }
}
