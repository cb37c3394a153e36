//! Durable evidence records per second: the store's group commit with more and more writers, beside one by one.

use crate::stage;
use crate::table::{Table, figure, goal, times};
use anyhow::{Context, Result, ensure};
use model::Moment;
use serde_json::{Map, Value, json};
use std::io::{Seek, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::chain::By;
use store::{Store, StoreError};
use tokio::sync::Mutex;

const LENGTH: Duration = Duration::from_millis(2000);

/// Measures and prints.
pub fn run() -> Result<()> {
    let runtime = runtime()?;
    let dir = stage::folder(&std::env::temp_dir())?;
    let disk = syncs(dir.path())?;
    let (one_by_one, grouped, alone) = runtime.block_on(async {
        let store = Store::open(&dir.path().join("evidence.db")).await?;
        let turn = Arc::new(Mutex::new(()));
        let one_by_one = appends(&store, 64, Some(&turn)).await?;
        let mut grouped = Vec::new();
        for writers in [1, 8, 64, 256] {
            grouped.push((writers, appends(&store, writers, None).await?));
        }
        let memory = Path::new("/dev/shm");
        let alone = if memory.is_dir() {
            let dir = stage::folder(memory)?;
            let store = Store::open(&dir.path().join("evidence.db")).await?;
            Some(appends(&store, 64, None).await?)
        } else {
            None
        };
        Ok::<_, anyhow::Error>((one_by_one, grouped, alone))
    })?;

    let mut table =
        Table::new(&["evidence records, each durable before it is answered", "per second", "of one by one"]);
    table.row(["64 writers, one commit for each record".into(), figure(one_by_one), times(one_by_one, one_by_one)]);
    for (writers, rate) in &grouped {
        table.row([format!("{writers} writers, group commit"), figure(*rate), times(*rate, one_by_one)]);
    }
    if let Some(alone) = alone {
        table.row(["64 writers, group commit, in memory (no disk)".into(), figure(alone), times(alone, one_by_one)]);
    }
    table.row([
        "the disk itself: writes of 4 KiB made durable one by one".into(),
        figure(disk),
        times(disk, one_by_one),
    ]);
    table.print();
    let best = grouped.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
    goal("durable evidence, group commit", "≥ 20 000/s", &format!("{}/s", figure(best)), best >= 20_000.0);
    Ok(())
}

/// Microseconds that one durable record takes when nothing else is written, in a database under `parent`.
pub fn one_commit(parent: &Path) -> Result<f64> {
    let dir = stage::folder(parent)?;
    runtime()?.block_on(async {
        let store = Store::open(&dir.path().join("evidence.db")).await?;
        Ok(1e6 / appends(&store, 1, None).await?)
    })
}

/// Microseconds that the disk under `parent` takes to make one small write durable.
pub fn one_sync(parent: &Path) -> Result<f64> {
    Ok(1e6 / syncs(stage::folder(parent)?.path())?)
}

/// As the server's own.
fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

/// What the server records of a granted call.
fn fields() -> Map<String, Value> {
    let fields = json!({
        "run": "k5tq3m9w2x7c", "rule": "model.call", "method": "POST", "target": "/model/m/v1/messages",
        "model": "model-1", "body_sha256": "0".repeat(64), "grant": "g7w2x4n9q3zk", "reserved": 1234,
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// Records a second. With `turn` each waits for the one before it to be durable.
async fn appends(store: &Store, writers: usize, turn: Option<&Arc<Mutex<()>>>) -> Result<f64> {
    let before = store.chain().borrow().n;
    let begun = Instant::now();
    let end = begun + LENGTH;
    let mut writing = Vec::new();
    for _ in 0..writers {
        let (store, turn) = (store.clone(), turn.cloned());
        writing.push(tokio::spawn(async move {
            let mut written = 0u64;
            while Instant::now() < end {
                let _mine = match &turn {
                    Some(turn) => Some(turn.lock().await),
                    None => None,
                };
                append(&store).await?;
                written += 1;
            }
            Ok::<_, StoreError>(written)
        }));
    }
    let mut answered = 0;
    for writer in writing {
        answered += writer.await??;
    }
    let took = begun.elapsed();
    // The chain is told of a group just after its writers are.
    let mut chain = store.chain();
    let told = tokio::time::timeout(Duration::from_secs(5), chain.wait_for(|chain| chain.n >= before + answered)).await;
    let kept = told.context("the chain is shorter than what was answered")??.n - before;
    ensure!(kept == answered, "{answered} records were answered and {kept} are in the chain");
    Ok(answered as f64 / took.as_secs_f64())
}

async fn append(store: &Store) -> Result<(), StoreError> {
    store
        .write(|tx| {
            Box::pin(async move {
                tx.record(By::Gateway, Moment(1_800_000_000_000), "gateway.allowed", "person/a", fields()).await
            })
        })
        .await
}

/// How many small writes a second the disk makes durable, one by one.
fn syncs(dir: &Path) -> Result<f64> {
    let mut file = std::fs::File::create(dir.join("sync"))?;
    let block = [7u8; 4096];
    // As the engine's log is: written over, not grown.
    file.write_all(&[0u8; 256 * 4096])?;
    file.sync_all()?;
    let begun = Instant::now();
    let mut count = 0;
    while begun.elapsed() < Duration::from_millis(700) {
        file.seek(std::io::SeekFrom::Start((count % 256) * 4096))?;
        file.write_all(&block)?;
        file.sync_data()?;
        count += 1;
    }
    Ok(count as f64 / begun.elapsed().as_secs_f64())
}
