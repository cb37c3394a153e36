//! The link: dials the server, says which runs are here, sends what the server has not, and carries out what it says.
//!
//! A session ends with its connection, and also when a run is neither live nor ended ([`Runs::stale`]): the hello
//! of the next one tells the server how things stand, and the server decides on another attempt. Events are read
//! from the journals, so that memory stays small however long the server is away, and only from the number the
//! server asks for (or, for a run launched in this session, from the first it can lack). What was acknowledged
//! is not remembered: the server takes each number once.
//!
//! Read [`keep`] (dialling), then `session`, then `Heads`.

use crate::journal::{Record, Tail, sync_folder};
use crate::runs::Runs;
use api::frame::{self, FrameError};
use api::link::{Down, Up};
use model::RunId;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

/// Shortest pause between two dials.
pub const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause between two dials.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Bytes of events sent of one run before another has its turn.
const BATCH_BYTES: usize = 256 * 1024;
/// A run that died with others is told of once, together with them.
const SETTLING: Duration = Duration::from_millis(100);

/// Who carries out what the server says. Called on the link's reader: it must not block.
pub trait Orders: Send + Sync + 'static {
    /// Takes one order. Acks, resends and heads are the link's own business and do not come here.
    fn obey(&self, order: Down);
}

/// Dials for ever; returns only when told to stop by being dropped.
pub async fn keep(socket: PathBuf, host: String, heads: PathBuf, runs: Arc<Runs>, orders: Arc<dyn Orders>) {
    let mut pause = FIRST_PAUSE;
    loop {
        match UnixStream::connect(&socket).await {
            Ok(stream) => {
                pause = FIRST_PAUSE;
                let why = session(stream, &host, &heads, &runs, &orders).await;
                tracing::info!(%why, "the link ended; dialling again");
            }
            Err(cause) => tracing::debug!(%cause, socket = %socket.display(), "the server is not there"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// What the reader leaves to the writer.
enum Task {
    Send { run: RunId, after: Option<u64> },
    Forget(RunId),
    Witnessed(String),
}

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
enum Over {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("a run is neither live nor ended; the server is told anew")]
    Stale,
    #[error("the head {0:?} could not be kept: {1}")]
    Head(String, #[source] io::Error),
}

async fn session(stream: UnixStream, host: &str, heads: &Path, runs: &Arc<Runs>, orders: &Arc<dyn Orders>) -> String {
    let (from, mut to) = stream.into_split();
    let hello = Up::Hello { host: host.to_owned(), runs: runs.all().iter().map(|run| run.known()).collect() };
    if let Err(e) = frame::write(&mut to, &hello).await {
        return e.to_string();
    }
    // Unbounded, so that a slow server cannot keep us from reading it; it holds a few words per order.
    let (tasks, todo) = mpsc::unbounded_channel();
    let over = tokio::select! {
        over = listen(from, heads, Arc::clone(orders), tasks) => over,
        over = tell(to, runs, todo) => over,
    };
    over.to_string()
}

/// Reads orders until the connection ends.
async fn listen(
    mut from: OwnedReadHalf,
    heads: &Path,
    orders: Arc<dyn Orders>,
    tasks: mpsc::UnboundedSender<Task>,
) -> Over {
    // The writer's end is the end of the session: nobody is left to miss these tasks.
    let hand = |task| drop(tasks.send(task));
    loop {
        let down = match frame::read::<Down>(&mut from).await {
            Ok(down) => down,
            Err(e) => return e.into(),
        };
        match down {
            Down::Ack { .. } => {}
            Down::Resend { run, after } => hand(Task::Send { run, after: Some(after) }),
            Down::Head { head } => {
                let (path, kept) = (heads.to_path_buf(), head.clone());
                if let Err(e) = crate::blocking(move || keep_head(&path, &kept)).await {
                    return Over::Head(head, e);
                }
                hand(Task::Witnessed(head));
            }
            Down::Launch(launch) => {
                let run = launch.run.clone();
                orders.obey(Down::Launch(launch));
                hand(Task::Send { run, after: None });
            }
            Down::Settle { run } => {
                hand(Task::Forget(run.clone()));
                orders.obey(Down::Settle { run });
            }
            order @ (Down::Cancel { .. } | Down::Input { .. }) => orders.obey(order),
        }
    }
}

/// Sends what the server lacks, whenever there is something.
async fn tell(mut to: OwnedWriteHalf, runs: &Arc<Runs>, mut todo: mpsc::UnboundedReceiver<Task>) -> Over {
    let mut tails: BTreeMap<RunId, Option<Tail>> = BTreeMap::new();
    loop {
        let more = match send_some(&mut to, runs, &mut tails).await {
            Ok(more) => more,
            Err(over) => return over,
        };
        let task = tokio::select! {
            biased;
            Some(task) = todo.recv() => Some(task),
            () = std::future::ready(()), if more => None,
            () = runs.news.notified() => None,
            () = runs.stale.notified() => {
                tokio::time::sleep(SETTLING).await;
                return Over::Stale;
            }
        };
        match task {
            Some(Task::Send { run, after }) => {
                if let Some(known) = runs.get(&run)
                    && let Some(after) = after
                {
                    known.skip_to(after);
                    tails.insert(run, open_tail(&known, after));
                } else {
                    tails.entry(run).or_insert(None);
                }
            }
            Some(Task::Forget(run)) => {
                tails.remove(&run);
            }
            Some(Task::Witnessed(head)) => {
                if let Err(e) = frame::write(&mut to, &Up::Witnessed { head }).await {
                    return e.into();
                }
            }
            None => {}
        }
    }
}

fn open_tail(run: &crate::runs::Run, after: u64) -> Option<Tail> {
    // A journal that is not there yet is opened when there is news of it.
    Tail::open(&run.journal_path(), &run.id, after).ok()
}

/// Sends a batch of each run; true when some run has more.
async fn send_some(
    to: &mut OwnedWriteHalf,
    runs: &Arc<Runs>,
    tails: &mut BTreeMap<RunId, Option<Tail>>,
) -> Result<bool, Over> {
    let (mut more, mut damaged) = (false, Vec::new());
    for (id, slot) in tails.iter_mut() {
        let Some(run) = runs.get(id) else { continue };
        let Some(mut tail) = slot.take().or_else(|| open_tail(&run, 0)) else { continue };
        let durable = run.durable();
        let (tail, batch) = crate::blocking(move || {
            let batch = read_batch(&mut tail, durable);
            (tail, batch)
        })
        .await;
        let (batch, rest) = match batch {
            Ok(batch) => batch,
            Err(cause) => {
                // One damaged journal must not silence the others; the next start cuts it at its last whole record.
                tracing::error!(run = %id, %cause, "a journal cannot be read; its events are not sent");
                damaged.push(id.clone());
                continue;
            }
        };
        *slot = Some(tail);
        more |= rest;
        for Record { seq, at, by: _, event } in batch {
            frame::write(to, &Up::Event { run: id.clone(), seq, at, event }).await?;
        }
    }
    for id in damaged {
        tails.remove(&id);
    }
    Ok(more)
}

/// Some records, and whether there may be more.
fn read_batch(tail: &mut Tail, durable: u64) -> io::Result<(Vec<Record>, bool)> {
    let (mut batch, mut bytes) = (Vec::new(), 0);
    while bytes < BATCH_BYTES {
        let Some(record) = tail.next(durable)? else { return Ok((batch, false)) };
        bytes += record.event.get().len();
        batch.push(record);
    }
    Ok((batch, true))
}

/// Appends a signed head of the evidence to the witness file, durable when this returns: one JSON text a line.
fn keep_head(path: &Path, head: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    let mut line = serde_json::to_vec(head)?;
    line.push(b'\n');
    file.write_all(&line)?;
    file.sync_data()?;
    sync_folder(path)
}
