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

const MIGRATIONS: [&str; 7] = [
    include_str!("../migrations/0001.sql"),
    include_str!("../migrations/0002.sql"),
    include_str!("../migrations/0003.sql"),
    include_str!("../migrations/0004.sql"),
    include_str!("../migrations/0005.sql"),
    include_str!("../migrations/0006.sql"),
    include_str!("../migrations/0007.sql"),
];

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
    options: AnyConnectOptions,
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
            .connect_with(options.clone())
            .await
            .map_err(|e| fail(e.to_string()))?;
        let (acts, queue) = mpsc::channel(QUEUE);
        let (tell, head) = watch::channel(chain);
        tokio::spawn(write::serve(Tx::new(conn, chain), queue, tell));
        Ok(Self { read, acts, head, options })
    }

    /// Writes a copy of all that is committed to `path`, where nothing may be: one whole file, as of one moment, without a
    /// byte of what was deleted. Acts go on meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Sql`]: the engine's, a file that is there among them.
    pub async fn copy_to(&self, path: &Path) -> Result<(), StoreError> {
        let fail = || StoreError::sql("copy the database");
        let mut conn = self.options.connect().await.map_err(fail())?;
        sqlx::query(NO_TEMPORARY_FILES).fetch_optional(&mut conn).await.map_err(fail())?;
        let path = path.to_string_lossy().into_owned();
        sqlx::query("VACUUM INTO $1").bind(path).execute(&mut conn).await.map_err(fail())?;
        conn.close().await.map_err(fail())
    }

    /// Brings everything that is committed into the database's own file, and empties the log beside it: what was deleted or
    /// replaced before stands in neither any more. Answers false when a reader held it up for ten seconds.
    ///
    /// # Errors
    /// The engine's.
    pub async fn forget(&self) -> Result<bool, StoreError> {
        let fail = || StoreError::sql("empty the database's log");
        let mut conn = self.options.connect().await.map_err(fail())?;
        pragmas(&mut conn).await.map_err(fail())?;
        let row = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut conn).await.map_err(fail())?;
        conn.close().await.map_err(fail())?;
        Ok(row.get::<i64, _>(0) == 0)
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

/// What is deleted or replaced is overwritten where it stood. A sealed value that lay on in free space would be one that
/// nobody can delete.
const OVERWRITE: &str = "PRAGMA secure_delete = ON";

async fn pragmas(conn: &mut AnyConnection) -> Result<(), sqlx::Error> {
    // FULL: a commit is on the disk before it is answered; WAL alone would lose the last ones with the power.
    for pragma in [
        "PRAGMA journal_mode = WAL",
        "PRAGMA synchronous = FULL",
        "PRAGMA busy_timeout = 10000",
        NO_TEMPORARY_FILES,
        OVERWRITE,
    ] {
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
    async fn a_database_of_before_keeps_its_secrets_as_the_workspaces_own() {
        const BEFORE: &str = "INSERT INTO secrets (name, sealed, set_by, set_at, version, gone) VALUES \
            ('model/a', x'0102', 'ada', 7, 3, 0), ('model/b', x'', 'ada', 8, 2, 1)";
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("volary.db");
        drop(std::fs::File::create(&path).unwrap());
        sqlx::any::install_default_drivers();
        let mut conn = options(&path).unwrap().connect().await.unwrap();
        sqlx::raw_sql(MIGRATIONS[0]).execute(&mut conn).await.unwrap();
        sqlx::query(BEFORE).execute(&mut conn).await.unwrap();
        let versions = "CREATE TABLE schema_versions (version BIGINT PRIMARY KEY NOT NULL, written_by TEXT NOT NULL); \
            INSERT INTO schema_versions VALUES (1, '0.0.1')";
        sqlx::raw_sql(versions).execute(&mut conn).await.unwrap();
        conn.close().await.unwrap();

        let store = Store::open(&path).await.unwrap();
        let kept = store.secrets().await.unwrap();
        assert_eq!(kept.len(), 1);
        let row = &kept[0];
        assert_eq!((row.name.as_str(), row.person.as_str(), row.kind.as_str()), ("model/a", "", ""));
        assert_eq!((row.sealed.as_slice(), row.set_by.as_str(), row.set_at.0, row.version), (&[1, 2][..], "ada", 7, 3));
        assert_eq!((row.personal, row.last_used), (false, None));
        let next = store.write(|tx| Box::pin(async move { tx.next_secret_version("model/b", "").await }));
        assert_eq!(next.await.unwrap(), 3, "one that was removed keeps its version");
    }

    #[tokio::test]
    async fn a_copy_is_whole_and_what_was_deleted_is_in_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("volary.db")).await.unwrap();
        // Longer than a page, so that it lies in pages that become free.
        let sealed: Vec<u8> = (0..17_000u32).map(|n| (n % 251) as u8).collect();
        let places = || -> Vec<String> {
            let files = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
            // The engine takes its side files away a moment after it closes.
            let holds = |path: &std::path::PathBuf| match std::fs::read(path) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => false,
                read => read.unwrap().windows(64).any(|window| window == &sealed[8000..8064]),
            };
            files.filter(holds).map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
        };
        let row = |name: &str| crate::secrets::SecretRow {
            name: name.into(),
            person: String::new(),
            kind: String::new(),
            personal: false,
            sealed: sealed.clone(),
            set_by: "ada".into(),
            set_at: model::Moment(1),
            last_used: None,
            version: 1,
            minter: String::new(),
        };
        let (one, two) = (row("one"), row("two"));
        let set = store.write(move |tx| {
            Box::pin(async move {
                tx.set_secret(&one).await?;
                tx.set_secret(&two).await
            })
        });
        set.await.unwrap();
        assert!(!places().is_empty());
        let remove = |name| store.write(move |tx| Box::pin(async move { tx.remove_secret(name, "").await }));
        assert!(remove("one").await.unwrap());

        let copy = dir.path().join("copy.db");
        store.copy_to(&copy).await.unwrap();
        assert!(store.copy_to(&copy).await.is_err(), "nothing is written over");
        let copied = Store::open(&copy).await.unwrap().secrets().await.unwrap();
        assert_eq!(copied.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["two"]);
        std::fs::remove_file(&copy).unwrap();

        assert!(remove("two").await.unwrap());
        assert!(store.forget().await.unwrap());
        assert_eq!(places(), Vec::<String>::new());
    }

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
