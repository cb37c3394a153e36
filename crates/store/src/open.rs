//! Opening the database: its file, its schema, its connections.

use crate::write::{self, Act, Tx};
use crate::{StoreError, chain::Chain};
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyConnection, AnyPool, ConnectOptions, Connection, Row};
use std::fs::{OpenOptions, Permissions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::str::FromStr;
use tokio::sync::{mpsc, watch};

/// The schema this program writes; one more for each file in `migrations/`.
pub const SCHEMA: u32 = MIGRATIONS.len() as u32;

const MIGRATIONS: [&str; 1] = [include_str!("../migrations/0001.sql")];

/// Connections that read at the same time.
const READERS: u32 = 4;

/// Acts that may wait for the writer; callers wait beyond it.
const QUEUE: usize = 1024;

/// The workspace's rows. Cheap to clone; every clone is the same database.
#[derive(Clone)]
pub struct Store {
    pub(crate) read: AnyPool,
    pub(crate) acts: mpsc::Sender<Act>,
    pub(crate) head: watch::Receiver<Chain>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

impl Store {
    /// Opens the database at `path`, making it (mode 0600) when it is not there, and brings its schema up to
    /// [`SCHEMA`]. Starts the writing task on the current tokio runtime; it ends when the last clone is gone.
    ///
    /// # Errors
    /// [`StoreError::Newer`] for a database of a later version, which is not touched; [`StoreError::Open`] and
    /// [`StoreError::Sql`] for what the system and the engine refuse.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let fail = |why: String| StoreError::Open { path: path.to_owned(), why };
        let made = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
        made.and_then(|file| file.set_permissions(Permissions::from_mode(0o600))).map_err(|e| fail(e.to_string()))?;
        let options = options(path).map_err(fail)?;

        let mut conn = options.connect().await.map_err(|e| fail(e.to_string()))?;
        pragmas(&mut conn).await.map_err(|e| fail(e.to_string()))?;
        migrate(&mut conn, path).await?;
        let chain = Chain::last(&mut conn).await?;

        let read = AnyPoolOptions::new()
            .max_connections(READERS)
            .after_connect(|conn, _| Box::pin(async move { read_only(conn).await }))
            .connect_with(options)
            .await
            .map_err(|e| fail(e.to_string()))?;
        let (acts, queue) = mpsc::channel(QUEUE);
        let (tell, head) = watch::channel(chain);
        tokio::spawn(write::serve(Tx::new(conn, chain), queue, tell));
        Ok(Self { read, acts, head })
    }
}

/// The engine's address of a file; everything but plain characters is escaped, so that no path ends early.
fn options(path: &Path) -> Result<AnyConnectOptions, String> {
    let text = path.to_str().ok_or("its path is not UTF-8")?;
    let mut url = String::from("sqlite://");
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.".contains(&byte) {
            url.push(char::from(byte));
        } else {
            url.push_str(&format!("%{byte:02X}"));
        }
    }
    AnyConnectOptions::from_str(&url).map(ConnectOptions::disable_statement_logging).map_err(|e| e.to_string())
}

/// What the engine would put in a temporary file (the undo of a large savepoint, a large sort) stays in memory:
/// the process that serves this is confined to its own folder, where it would be refused such a file.
const NO_TEMPORARY_FILES: &str = "PRAGMA temp_store = MEMORY";

async fn pragmas(conn: &mut AnyConnection) -> Result<(), sqlx::Error> {
    // FULL: a commit is on the disk before it is answered; WAL alone would lose the last ones with the power.
    for pragma in
        ["PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL", "PRAGMA busy_timeout = 10000", NO_TEMPORARY_FILES]
    {
        sqlx::query(pragma).fetch_optional(&mut *conn).await?;
    }
    Ok(())
}

async fn read_only(conn: &mut AnyConnection) -> Result<(), sqlx::Error> {
    for pragma in ["PRAGMA busy_timeout = 10000", "PRAGMA query_only = 1", NO_TEMPORARY_FILES] {
        sqlx::query(pragma).fetch_optional(&mut *conn).await?;
    }
    Ok(())
}

async fn migrate(conn: &mut AnyConnection, path: &Path) -> Result<(), StoreError> {
    const MAKE: &str =
        "CREATE TABLE IF NOT EXISTS schema_versions (version BIGINT PRIMARY KEY NOT NULL, written_by TEXT NOT NULL)";
    const LAST: &str = "SELECT version, written_by FROM schema_versions ORDER BY version DESC LIMIT 1";
    const NOTE: &str = "INSERT INTO schema_versions (version, written_by) VALUES ($1, $2)";
    let version = env!("CARGO_PKG_VERSION");

    sqlx::query(MAKE).execute(&mut *conn).await.map_err(StoreError::sql("note its schema"))?;
    let last = sqlx::query(LAST).fetch_optional(&mut *conn).await.map_err(StoreError::sql("read its schema"))?;
    let found = match &last {
        None => 0,
        Some(row) => {
            let found = u32::try_from(row.get::<i64, _>(0)).map_err(StoreError::corrupt("schema version"))?;
            if found > SCHEMA {
                let written_by = row.get(1);
                return Err(StoreError::Newer { path: path.to_owned(), found, written_by, version, known: SCHEMA });
            }
            found
        }
    };
    for (number, text) in (1..).zip(MIGRATIONS).skip(found as usize) {
        let fail = StoreError::sql("bring its schema up to date");
        let step = async {
            let mut tx = conn.begin().await?;
            sqlx::raw_sql(text).execute(&mut *tx).await?;
            sqlx::query(NOTE).bind(i64::from(number)).bind(version).execute(&mut *tx).await?;
            tx.commit().await
        };
        step.await.map_err(fail)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Statement;

    #[tokio::test]
    async fn no_connection_ever_needs_a_temporary_file() {
        const ASK: &str = "PRAGMA temp_store";
        const IN_MEMORY: i64 = 2;
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("volary.db")).await.unwrap();
        assert_eq!(sqlx::query(ASK).fetch_one(&store.read).await.unwrap().get::<i64, _>(0), IN_MEMORY);
        let written = store.write(|tx| {
            Box::pin(async move {
                let row = tx.row(Statement::new("ask", ASK)).await?;
                Ok::<_, StoreError>(row.unwrap().get::<i64, _>(0))
            })
        });
        assert_eq!(written.await.unwrap(), IN_MEMORY);
    }
}
