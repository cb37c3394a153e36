//! The one writer: a task that owns the writing connection and commits in groups.

use crate::chain::Chain;
use crate::script::{Statement, carry_out};
use crate::{Store, StoreError};
use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use std::pin::Pin;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

/// Acts in one transaction at most; bounds how long the first of them waits.
const GROUP: usize = 256;

/// Statements that ride together at most; the engine keeps each mixture that it has met prepared.
const RIDE: usize = 16;

/// How long an act that nobody waits for lets its commit wait for another act's.
const LINGER: Duration = Duration::from_millis(20);

/// A future that borrows the transaction.
pub type InTx<'t, R> = Pin<Box<dyn Future<Output = R> + Send + 't>>;

/// Tells one caller how its act went, once the transaction's fate is known.
type Reply = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

struct Done {
    keep: bool,
    reply: Reply,
}

type Doing = dyn for<'t> FnOnce(&'t mut Tx) -> InTx<'t, Done> + Send;

/// One act, waiting for the writer. Dropping it tells its caller that nothing was done.
pub struct Act {
    doing: Box<Doing>,
    haste: Haste,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Haste {
    /// Somebody waits.
    Now,
    /// Within [`LINGER`].
    Soon,
}

/// The open transaction, lent to one act at a time. The modules' methods on it are the acts' vocabulary.
pub struct Tx {
    conn: AnyConnection,
    pub(crate) chain: Chain,
    /// Statements that ride with the next trip.
    waiting: Vec<Statement>,
    /// What the act at hand has written so far.
    written: Written,
    /// Whether the engine refused something: then nothing of the group is kept.
    refused: Option<StoreError>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    Nothing,
    /// All of it waits still, from this place on; a savepoint goes before it.
    Waiting(usize),
    /// The engine has some of it, behind a savepoint.
    Begun,
}

impl std::fmt::Debug for Tx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tx")
    }
}

impl Store {
    /// Carries out one act: everything it writes is kept, or (when it answers with an error) nothing is.
    /// Returns after the commit, so an `Ok` is durable. Acts take effect in the order in which they are first
    /// polled here; an act must not call back into the store's `write`, which would wait for itself.
    ///
    /// # Errors
    /// The act's own error; [`StoreError::NotCommitted`], [`StoreError::Sql`] or [`StoreError::Closed`] when the
    /// engine refused a statement of the transaction, this act's or another's in it. Nothing was changed then.
    pub async fn write<T, E, F>(&self, act: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> InTx<'t, Result<T, E>> + Send + 'static,
    {
        self.submit(Haste::Now, act).await
    }

    /// As [`Store::write`], for an act for whose commit nobody waits: it is carried out in its turn, and kept with the
    /// next act's commit or after 20 ms, so that it costs that next act none of its own.
    ///
    /// # Errors
    /// Those of [`Store::write`].
    pub async fn write_soon<T, E, F>(&self, act: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> InTx<'t, Result<T, E>> + Send + 'static,
    {
        self.submit(Haste::Soon, act).await
    }

    async fn submit<T, E, F>(&self, haste: Haste, act: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> InTx<'t, Result<T, E>> + Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        let doing: Box<Doing> = Box::new(move |tx: &mut Tx| {
            let doing = act(tx);
            Box::pin(async move {
                let result = doing.await;
                let keep = result.is_ok();
                let reply: Reply = Box::new(move |committed| {
                    let fate = match committed {
                        Err(refused) if keep => Err(refused.into()),
                        _ => result,
                    };
                    // The caller may have gone away (a closed connection); its act stands all the same.
                    drop(tell.send(fate));
                });
                Done { keep, reply }
            })
        });
        self.acts.send(Act { doing, haste }).await.map_err(|_| StoreError::Closed)?;
        told.await.unwrap_or_else(|_| Err(StoreError::NotCommitted.into()))
    }
}

impl Tx {
    pub(crate) fn new(conn: AnyConnection, chain: Chain) -> Self {
        Self { conn, chain, waiting: Vec::new(), written: Written::Nothing, refused: None }
    }

    /// Has a statement carried out before whatever follows it; that it was refused is told there.
    pub(crate) fn later(&mut self, statement: Statement) {
        if self.written == Written::Nothing && !statement.reads() {
            self.written = Written::Waiting(self.waiting.len());
            self.waiting.push(Statement::new("begin an act", "SAVEPOINT act"));
        }
        self.waiting.push(statement);
    }

    /// Has statements carried out, and gives the rows of each. All of them are one trip.
    pub(crate) async fn rows<const N: usize>(
        &mut self,
        statements: [Statement; N],
    ) -> Result<[Vec<AnyRow>; N], StoreError> {
        for statement in statements {
            self.later(statement);
        }
        let mut all = self.ride().await?;
        let last = all.split_off(all.len().saturating_sub(N));
        last.try_into().map_err(|_| StoreError::NotCommitted)
    }

    /// Has a statement carried out, and gives its first row.
    pub(crate) async fn row(&mut self, statement: Statement) -> Result<Option<AnyRow>, StoreError> {
        let [rows] = self.rows([statement]).await?;
        Ok(rows.into_iter().next())
    }

    /// Carries out what waits. Once the engine has refused something, nothing more is asked of it in this group.
    async fn ride(&mut self) -> Result<Vec<Vec<AnyRow>>, StoreError> {
        if let Some(refused) = &self.refused {
            return Err(refused.clone());
        }
        if self.waiting.is_empty() {
            return Ok(Vec::new());
        }
        if self.written != Written::Nothing {
            self.written = Written::Begun;
        }
        let rows = carry_out(&mut self.conn, std::mem::take(&mut self.waiting)).await;
        // It may have rolled back all of it by itself (a full disk): what followed would be committed one by one.
        self.refused = rows.as_ref().err().cloned();
        rows
    }

    /// Carries one act out. What fails leaves nothing of itself.
    async fn attempt(&mut self, doing: Box<Doing>) -> Reply {
        let before = self.chain;
        self.written = Written::Nothing;
        let done = doing(self).await;
        match (self.written, done.keep) {
            (Written::Nothing, _) => {}
            // All or nothing as it is.
            (Written::Waiting(at), true) => drop(self.waiting.remove(at)),
            (Written::Waiting(at), false) => self.waiting.truncate(at),
            (Written::Begun, true) => self.waiting.push(Statement::new("end an act", "RELEASE act")),
            (Written::Begun, false) => {
                self.waiting.clear();
                self.waiting.push(Statement::new("undo an act", "ROLLBACK TO act"));
                self.waiting.push(Statement::new("undo an act", "RELEASE act"));
            }
        }
        if !done.keep {
            self.chain = before;
        }
        self.written = Written::Nothing;
        done.reply
    }

    /// Carries out these acts, and with them what comes while nobody waits; then commits all, or nothing.
    async fn group(&mut self, batch: &mut Vec<Act>, queue: &mut mpsc::Receiver<Act>, head: &watch::Sender<Chain>) {
        let (before, end) = (self.chain, Instant::now() + LINGER);
        let mut replies: Vec<Reply> = Vec::with_capacity(batch.len());
        self.waiting.push(Statement::new("begin", "BEGIN IMMEDIATE"));
        loop {
            let mut haste = Haste::Soon;
            for act in batch.drain(..) {
                if act.haste == Haste::Now {
                    haste = Haste::Now;
                }
                replies.push(self.attempt(act.doing).await);
                if self.waiting.len() >= RIDE {
                    // That it was refused is told to everyone below.
                    drop(self.ride().await);
                }
            }
            if haste == Haste::Now || replies.len() >= GROUP {
                break;
            }
            if queue.is_empty() {
                drop(self.ride().await);
            }
            let more = queue.recv_many(batch, GROUP - replies.len());
            if !timeout_at(end, more).await.is_ok_and(|more| more > 0) {
                break;
            }
        }
        self.waiting.push(Statement::new("commit", "COMMIT"));
        let fate = self.ride().await.map(drop);
        if fate.is_err() {
            self.chain = before;
            self.waiting.clear();
            self.refused = None;
            // There may be no transaction left to roll back.
            drop(carry_out(&mut self.conn, vec![Statement::new("roll back", "ROLLBACK")]).await);
            // Another server on this database may have appended to the chain: the next group begins where it ends now.
            self.chain = Chain::last(&mut self.conn).await.unwrap_or(before);
        }
        // Before anybody has an answer: who has one finds their own act in the chain.
        if self.chain != before {
            head.send_replace(self.chain);
        }
        for reply in replies {
            reply(fate.clone());
        }
    }
}

/// The writing task: lives until every [`Store`] is gone.
pub(crate) async fn serve(mut tx: Tx, mut queue: mpsc::Receiver<Act>, head: watch::Sender<Chain>) {
    let mut batch = Vec::with_capacity(GROUP);
    while queue.recv_many(&mut batch, GROUP).await > 0 {
        tx.group(&mut batch, &mut queue, &head).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::By;
    use model::Moment;
    use serde_json::{Map, json};

    #[tokio::test]
    async fn on_a_full_disk_what_was_said_to_be_kept_is_what_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("volary.db")).await.unwrap();
        // The file may not grow any more, as on a full disk.
        let full = store.write(|tx| {
            Box::pin(async move { tx.row(Statement::new("be full", "PRAGMA max_page_count = 1")).await.map(drop) })
        });
        full.await.unwrap();
        let write = async |n: u64| {
            let size = if n % 8 == 3 { 60_000 } else { 10 };
            let more: Map<_, _> = json!({ "number": n, "text": "x".repeat(size) }).as_object().unwrap().clone();
            let act = store
                .write(move |tx| Box::pin(async move { tx.record(By::Server, Moment(1), "test", "me", more).await }));
            (n, act.await)
        };
        let mut results: Vec<(u64, Result<(), StoreError>)> = vec![write(0).await, write(3).await];
        // One group: the engine may give all of it up for the one that does not fit.
        results.extend(futures_util::future::join_all((0..64).map(write)).await);
        results.push(write(1).await);
        let mut kept = 0;
        for (n, result) in &results {
            assert!(n % 8 != 3 || result.is_err(), "{n} does not fit");
            kept += u64::from(result.is_ok());
        }
        assert!(results[0].1.is_ok() && results.last().unwrap().1.is_ok(), "what fits is written, before and after");
        let rows = store.evidence(0, 1000).await.unwrap();
        assert_eq!(rows.len() as u64, kept);
        assert_eq!(rows.iter().map(|row| row.n).collect::<Vec<_>>(), (1..=kept).collect::<Vec<_>>());
        assert_eq!(store.chain().borrow().n, kept);
    }
}
