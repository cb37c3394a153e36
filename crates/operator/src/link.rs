//! The link: dials the server, says which runs are here, sends what the server has not, and carries out what it says.
//!
//! A session ends with its connection, and also when a run is neither live nor ended ([`Runs::stale`]): the hello
//! of the next one tells the server how things stand, and the server decides on another attempt. Events are read
//! from the journals, so that memory stays small however long the server is away. What is new after the hello is
//! sent unasked, what is older when the server asks for it. What was acknowledged is not remembered: the server
//! takes each number once.
//!
//! Read [`keep`] (dialling), then `session`, then `Heads`.

use crate::journal::{Record, Tail, sync_folder};
use crate::runs::Runs;
use api::frame::{self, FrameError};
use api::link::{Down, Known, Up};
use model::RunId;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

/// Shortest pause between two dials.
pub const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// Longest pause between two dials.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Bytes of events sent of one run before another has its turn.
const BATCH_BYTES: usize = 256 * 1024;
/// A run that died with others is told of once, together with them: what breaks within this time counts as one.
const SETTLING: Duration = Duration::from_millis(100);
/// How long the others' boxes may take to end.
const LONGEST_SETTLING: Duration = Duration::from_secs(20);
/// Youngest session that is ended for a new hello: what the server answers to the last one must not be lost, for a
/// launch that nobody reads is an attempt that counts.
const YOUNGEST: Duration = Duration::from_secs(1);

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
        sleep(pause).await;
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
    runs.settled().await;
    // What was to be told in the session before this one means nothing in it.
    drop(runs.words());
    // Before the hello is written: what breaks later is not in it.
    let stale = runs.stale.subscribe();
    let known: Vec<Known> = runs.all().iter().map(|run| run.known()).collect();
    // What is new after the hello is sent unasked; what is older only if the server asks for it.
    let after = known.iter().map(|known| (known.run.clone(), known.last_seq)).collect();
    let hello = Up::Hello { host: host.to_owned(), runs: known };
    if let Err(e) = frame::write(&mut to, &hello).await {
        return e.to_string();
    }
    // Unbounded, so that a slow server cannot keep us from reading it; it holds a few words per order.
    let (tasks, todo) = mpsc::unbounded_channel();
    let over = tokio::select! {
        over = listen(from, heads, Arc::clone(orders), tasks) => over,
        over = tell(to, runs, after, todo) => over,
        over = out_of_date(runs, stale) => over,
    };
    over.to_string()
}

/// Returns once the last hello is no longer true, and everything that breaks at the same time has broken.
async fn out_of_date(runs: &Runs, mut stale: watch::Receiver<u64>) -> Over {
    let begun = Instant::now();
    if stale.changed().await.is_err() {
        // Its sender is in `runs`, which lives.
        std::future::pending::<()>().await;
    }
    sleep_until(begun + YOUNGEST).await;
    let last = Instant::now() + LONGEST_SETTLING;
    sleep(SETTLING).await;
    while runs.all().iter().any(|run| run.is_breaking()) && Instant::now() < last {
        sleep(SETTLING).await;
    }
    Over::Stale
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
            order @ (Down::Cancel { .. }
            | Down::Pause { .. }
            | Down::Resume { .. }
            | Down::Input { .. }
            | Down::Close { .. }
            | Down::Kept { .. }
            | Down::Image { .. }
            | Down::Warm { .. }) => {
                orders.obey(order);
            }
        }
    }
}

/// Where each run's events are read on: a number to read on after, then a tail.
enum Place {
    After(u64),
    At(Tail),
}

/// Sends what the server lacks, whenever there is something.
async fn tell(
    mut to: OwnedWriteHalf,
    runs: &Arc<Runs>,
    after: BTreeMap<RunId, u64>,
    mut todo: mpsc::UnboundedReceiver<Task>,
) -> Over {
    let mut places: BTreeMap<RunId, Place> = after.into_iter().map(|(run, after)| (run, Place::After(after))).collect();
    loop {
        for word in runs.words() {
            if let Err(e) = frame::write(&mut to, &word).await {
                return e.into();
            }
        }
        let more = match send_some(&mut to, runs, &mut places).await {
            Ok(more) => more,
            Err(over) => return over,
        };
        let task = tokio::select! {
            biased;
            Some(task) = todo.recv() => Some(task),
            () = std::future::ready(()), if more => None,
            () = runs.news.notified() => None,
        };
        match task {
            Some(Task::Send { run, after: Some(after) }) => drop(places.insert(run, Place::After(after))),
            // Launched: the server takes a number once, so a run that was known keeps its place.
            Some(Task::Send { run, after: None }) => drop(places.entry(run).or_insert(Place::After(0))),
            Some(Task::Forget(run)) => drop(places.remove(&run)),
            Some(Task::Witnessed(head)) => {
                if let Err(e) = frame::write(&mut to, &Up::Witnessed { head }).await {
                    return e.into();
                }
            }
            None => {}
        }
    }
}

/// Sends a batch of each run; true when some run has more.
async fn send_some(
    to: &mut OwnedWriteHalf,
    runs: &Arc<Runs>,
    places: &mut BTreeMap<RunId, Place>,
) -> Result<bool, Over> {
    let (mut more, mut damaged) = (false, Vec::new());
    for (id, place) in places.iter_mut() {
        // Launched, and its journal not made yet: there will be news of it.
        let Some(run) = runs.get(id) else { continue };
        let (durable, from) = (run.durable(), std::mem::replace(place, Place::After(0)));
        let read = crate::blocking(move || {
            let mut tail = match from {
                Place::At(tail) => tail,
                Place::After(after) => Tail::open(&run.journal_path(), &run.id, after)?,
            };
            let (batch, rest) = read_batch(&mut tail, durable)?;
            Ok::<_, io::Error>((tail, batch, rest))
        });
        let (tail, batch, rest) = match read.await {
            Ok(read) => read,
            Err(cause) => {
                // One damaged journal must not silence the others; the next start cuts it at its last whole record.
                tracing::error!(run = %id, %cause, "a journal cannot be read; its events are not sent");
                damaged.push(id.clone());
                continue;
            }
        };
        *place = Place::At(tail);
        more |= rest;
        for Record { seq, at, by: _, event } in batch {
            frame::write(to, &Up::Event { run: id.clone(), seq, at, event }).await?;
        }
    }
    for id in damaged {
        places.remove(&id);
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

/// Appends a signed head of the evidence to the witness file, durable when this returns: one JSON text a line. The
/// server sends its last head at every hello; one that is the last line already is not written again.
fn keep_head(path: &Path, head: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).read(true).append(true).mode(0o600).open(path)?;
    let mut line = serde_json::to_vec(head)?;
    line.push(b'\n');
    let len = file.metadata()?.len();
    if let Some(at) = len.checked_sub(line.len() as u64) {
        let mut last = vec![0; line.len()];
        file.read_exact_at(&mut last, at)?;
        if last == line && (at == 0 || byte_at(&file, at - 1)? == b'\n') {
            return Ok(());
        }
    }
    // A line that a crash cut short is ended, so that it spoils no other.
    if len > 0 && byte_at(&file, len - 1)? != b'\n' {
        line.insert(0, b'\n');
    }
    file.write_all(&line)?;
    file.sync_data()?;
    sync_folder(path)
}

fn byte_at(file: &File, at: u64) -> io::Result<u8> {
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    Ok(byte[0])
}
