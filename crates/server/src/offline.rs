//! What is done with a database without a server: its evidence is read, from a copy, so that nothing of the original
//! is opened for writing and no file of another owner appears beside it; and one that was restored is made fit to be served.

use crate::{connections, keys, now, record, runs};
use anyhow::Context;
use evidence::export::Export;
use model::{Event, Outcome, WorkspaceId};
use serde_json::json;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use store::chain::By;
use store::{Store, StoreError};

/// Records read at a time.
const PAGE: u32 = 1024;

/// A folder that is gone when this is.
struct Copy(PathBuf);

impl Drop for Copy {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir_all(&self.0) {
            tracing::warn!("remove {}: {e}", self.0.display());
        }
    }
}

/// The evidence file of the server whose folder is `dir`.
///
/// # Errors
/// A folder without a database, and what the database says.
pub fn export(dir: &Path) -> anyhow::Result<Vec<u8>> {
    let original = dir.join("volary.db");
    if !original.exists() {
        anyhow::bail!("there is no database at {}; give --home, or an evidence file", original.display());
    }
    let copy = Copy(std::env::temp_dir().join(format!("volary-verify-{}", std::process::id())));
    fs::DirBuilder::new().mode(0o700).create(&copy.0).with_context(|| format!("make {}", copy.0.display()))?;
    // The log first: what it holds is in the database only after a checkpoint.
    for name in ["volary.db-wal", "volary.db"] {
        let from = dir.join(name);
        if from.exists() {
            fs::copy(&from, copy.0.join(name)).with_context(|| format!("copy {}", from.display()))?;
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = Store::open(&copy.0.join("volary.db")).await?;
        let workspace = WorkspaceId::parse("main")?;
        let mut file = Export::new(&workspace, &keys::verifier_key(&store).await?);
        let mut heads = store.heads().await?.into_iter().peekable();
        let mut after = 0;
        loop {
            let rows = store.evidence(after, PAGE).await?;
            if rows.is_empty() {
                return Ok(file.finish());
            }
            for row in rows {
                file.record(&row.body);
                after = row.n;
                while let Some(head) = heads.next_if(|head| head.n <= row.n) {
                    if head.n == row.n {
                        file.head(&head.note);
                    }
                }
            }
        }
    })
}

/// What was ended in a database that was restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// Runs.
    pub runs: usize,
    /// OAuth connections that somebody was signed in to: whoever wants one signs in again.
    pub connections: usize,
}

/// Makes the database in `dir`, which is a copy of another of some moment ago, fit to be served: what ran then is over
/// and is not begun again, nobody is signed in, and no connection is: each has its own way to a sign-in. All of it is in the
/// database's own file then. Gives how many runs were ended, and how many sign-ins.
///
/// # Errors
/// What the database says.
pub fn restored(dir: &Path) -> anyhow::Result<Restored> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = Store::open(&dir.join("volary.db")).await?;
        let (live, connections) = (store.live_runs().await?, store.connections().await?);
        let (runs, at) = (live.len(), now());
        let done: Result<usize, StoreError> = store
            .write(move |tx| {
                Box::pin(async move {
                    let reason =
                        "The platform was restored from a backup that was made while this run went on.".to_owned();
                    let ended = Event::Ended { outcome: Outcome::Failed, reason, exit: None };
                    for run in &live {
                        runs::end_in(tx, run, at, &ended).await?;
                    }
                    tx.end_sessions();
                    let connections = connections::restored(tx, connections, at).await?;
                    let more = record::fields(json!({ "ended": runs, "connections": connections }));
                    tx.record(By::Server, at, "vault.restored", "nobody", more).await?;
                    Ok(connections)
                })
            })
            .await;
        let connections = done?;
        if !store.forget().await? {
            anyhow::bail!("the restored database is being read by somebody else");
        }
        Ok(Restored { runs, connections })
    })
}
