//! Lines of a transcript by their kind: found by an index, so that what a question costs does not grow with what else the run did.

use super::{RawEntry, entry, word};
use crate::script::Statement;
use crate::{Store, StoreError, Tx, from_row, to_row};
use model::RunId;
use model::event::Source;
use sqlx::Row;

const OF_KIND: &str = "SELECT n, at, source, source_seq, event FROM events WHERE run = $1 AND kind = $2 ORDER BY n";
const AFTER: &str = "SELECT n, at, source, source_seq, event FROM events WHERE run = $1 AND kind = $2 AND n > $3 \
    ORDER BY n LIMIT $4";
const COUNT: &str = "SELECT COUNT(*) FROM events WHERE run = $1 AND kind = $2";
const REFUSED: &str = "SELECT n, at, source, source_seq, event FROM events WHERE run = $1 AND kind = 'verdict' \
    AND source = $2 AND event LIKE '{\"kind\":\"verdict\",\"allowed\":false,%' ORDER BY n LIMIT $3";

impl Store {
    /// All events of one kind (`loop`, say) of a transcript, in order, as JSON.
    ///
    /// # Errors
    /// The engine's.
    pub async fn events_of_kind(&self, run: &RunId, kind: &str) -> Result<Vec<RawEntry>, StoreError> {
        let rows = sqlx::query(OF_KIND).bind(run.as_str()).bind(kind).fetch_all(&self.read).await;
        let rows = rows.map_err(StoreError::sql("read a transcript"))?;
        rows.iter().map(|row| entry(run.clone(), row)).collect()
    }

    /// Events of one kind after number `after`, in order, at most `limit`: for a kind of which there may be many.
    ///
    /// # Errors
    /// The engine's.
    pub async fn events_of_kind_after(
        &self,
        run: &RunId,
        kind: &str,
        after: u64,
        limit: u32,
    ) -> Result<Vec<RawEntry>, StoreError> {
        let rows = sqlx::query(AFTER).bind(run.as_str()).bind(kind).bind(to_row(after)).bind(i64::from(limit));
        let rows = rows.fetch_all(&self.read).await.map_err(StoreError::sql("read a transcript"))?;
        rows.iter().map(|row| entry(run.clone(), row)).collect()
    }

    /// The verdicts of a transcript by which something was refused, in order, at most `limit`: those of the server's own
    /// hand, for a host writes none.
    ///
    /// # Errors
    /// The engine's.
    pub async fn refusals(&self, run: &RunId, limit: u32) -> Result<Vec<RawEntry>, StoreError> {
        let rows = sqlx::query(REFUSED).bind(run.as_str()).bind(word(Source::Server)).bind(i64::from(limit));
        let rows = rows.fetch_all(&self.read).await.map_err(StoreError::sql("read a transcript"))?;
        rows.iter().map(|row| entry(run.clone(), row)).collect()
    }
}

impl Tx {
    /// How many events of one kind a transcript has, as it stands inside this transaction.
    ///
    /// # Errors
    /// The engine's.
    pub async fn count_of_kind(&mut self, run: &RunId, kind: &str) -> Result<u64, StoreError> {
        let count = Statement::new("count a transcript", COUNT).bind(run.as_str()).bind(kind);
        Ok(self.row(count).await?.map_or(0, |row| from_row(row.get(0))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_kind_of_a_transcript_is_found_by_its_index_and_never_by_reading_all_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("volary.db")).await.unwrap();
        for sql in [OF_KIND, AFTER, COUNT, REFUSED] {
            let plan = sqlx::query(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")))
                .fetch_all(&store.read)
                .await
                .unwrap();
            let steps: Vec<String> = plan.iter().map(|row| row.get("detail")).collect();
            assert_eq!(steps.len(), 1, "no sort beside it: {steps:?}");
            assert!(steps[0].contains("events_by_kind (run=? AND kind=?"), "{sql}: {steps:?}");
        }
    }
}
