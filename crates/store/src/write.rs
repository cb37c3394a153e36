//! The one writer: a task that owns the writing connection and commits in groups.

use crate::chain::Chain;
use crate::{Store, StoreError};
use sqlx::AnyConnection;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

/// Acts in one transaction at most; bounds how long the first of them waits.
const GROUP: usize = 256;

/// A future that borrows the transaction.
pub type InTx<'t, R> = Pin<Box<dyn Future<Output = R> + Send + 't>>;

/// Tells one caller how its act went, once the transaction's fate is known.
type Reply = Box<dyn FnOnce(Result<(), Arc<sqlx::Error>>) + Send>;

struct Done {
    keep: bool,
    reply: Reply,
}

type Doing = dyn for<'t> FnOnce(&'t mut Tx) -> InTx<'t, Done> + Send;

/// One act, waiting for the writer. Dropping it tells its caller that nothing was done.
pub struct Act(Box<Doing>);

/// The open transaction, lent to one act at a time. The modules' methods on it are the acts' vocabulary.
pub struct Tx {
    pub(crate) conn: AnyConnection,
    pub(crate) chain: Chain,
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
    /// engine refused the whole transaction. Nothing was changed then.
    pub async fn write<T, E, F>(&self, act: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        F: for<'t> FnOnce(&'t mut Tx) -> InTx<'t, Result<T, E>> + Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        let boxed: Box<Doing> = Box::new(move |tx: &mut Tx| {
            let doing = act(tx);
            Box::pin(async move {
                let result = doing.await;
                let keep = result.is_ok();
                let reply: Reply = Box::new(move |committed| {
                    let fate = match committed {
                        Err(source) if keep => Err(StoreError::Sql { act: "commit", source }.into()),
                        _ => result,
                    };
                    // The caller may have gone away (a closed connection); its act stands all the same.
                    drop(tell.send(fate));
                });
                Done { keep, reply }
            })
        });
        self.acts.send(Act(boxed)).await.map_err(|_| StoreError::Closed)?;
        told.await.unwrap_or_else(|_| Err(StoreError::NotCommitted.into()))
    }
}

impl Tx {
    pub(crate) fn new(conn: AnyConnection, chain: Chain) -> Self {
        Self { conn, chain }
    }

    async fn say(&mut self, sql: &'static str) -> Result<(), sqlx::Error> {
        sqlx::query(sql).execute(&mut self.conn).await.map(drop)
    }

    /// Runs one act behind the open savepoint, and leaves a fresh one open for the next. An error means that the
    /// transaction itself can no longer be trusted.
    async fn attempt(&mut self, act: Act, last: bool) -> Result<Reply, sqlx::Error> {
        let before = self.chain;
        let done = (act.0)(self).await;
        if !done.keep {
            self.chain = before;
            // Fails when the engine has rolled all of it back by itself (a full disk): then what follows would
            // be committed one by one, behind our back.
            self.say("ROLLBACK TO act").await?;
        } else if !last {
            self.say("RELEASE act; SAVEPOINT act").await?;
        }
        Ok(done.reply)
    }

    async fn group(&mut self, batch: &mut Vec<Act>) {
        let before = self.chain;
        let mut replies: Vec<Reply> = Vec::with_capacity(batch.len());
        let whole = async {
            // Two statements at a time: each trip to the engine's thread costs as much as a small statement.
            self.say("BEGIN IMMEDIATE; SAVEPOINT act").await?;
            let mut left = batch.len();
            for act in batch.drain(..) {
                left -= 1;
                replies.push(self.attempt(act, left == 0).await?);
            }
            self.say("RELEASE act; COMMIT").await
        };
        let fate = whole.await.map_err(Arc::new);
        if fate.is_err() {
            self.chain = before;
            // There may be no transaction left to roll back.
            drop(self.say("ROLLBACK").await);
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
        let before = tx.chain;
        tx.group(&mut batch).await;
        if tx.chain != before {
            head.send_replace(tx.chain);
        }
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
            Box::pin(async move { tx.say("PRAGMA max_page_count = 1").await.map_err(StoreError::sql("be full")) })
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
