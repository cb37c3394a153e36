//! The journal of one run: what happened on this host, durable before it is shown or takes effect.
//!
//! A record is `u32` little-endian (length of the body), the chain's head after it (32 bytes), and the body:
//! one JSON object `{seq, at, by, event}`. The head after a record is SHA-256(head before ‖ body); the first
//! head is SHA-256 of a label and the run's id, so that a journal cannot be taken for another run's.
//! Appending is one write and one `fdatasync`, however many events it takes. A crash in the middle leaves a
//! torn tail; opening cuts it at the last whole record. What was acknowledged is never in the tail.
//!
//! Nothing here looks into what a box wrote. Read [`Journal::append`], then [`Journal::open`], then [`Tail`].

use model::{Moment, RunId};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Longest body, in bytes: what still fits a frame of the link, with room for its envelope.
pub const MAX_BODY: usize = api::frame::MAX_FRAME - 1024;
/// Bytes in a journal after which a box's own events are taken no more. The run's end still fits.
pub const MAX_JOURNAL: u64 = 256 * 1024 * 1024;
const HEAD: usize = 32;
const ENVELOPE: usize = 4 + HEAD;

/// Who wrote an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// This program.
    Operator,
    /// The box; its words were scrubbed and are otherwise opaque.
    Box,
}

/// One numbered event.
#[derive(Debug, Serialize, Deserialize)]
pub struct Record {
    /// From 1; one more at each record.
    pub seq: u64,
    /// By the host's clock.
    pub at: Moment,
    /// Who wrote it.
    pub by: By,
    /// The event, as JSON.
    pub event: Box<RawValue>,
}

/// Why a journal could not be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system failed.
    #[error("{act} the journal {path}: {cause}")]
    Io {
        /// What was done.
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        cause: io::Error,
    },
    /// One event is longer than a frame of the link.
    #[error("an event of {0} bytes is over the journal's limit of {MAX_BODY}")]
    TooLong(usize),
    /// An earlier write failed in a way that leaves the file's state unknown; it takes nothing more.
    #[error("the journal is closed, because an earlier write to it failed")]
    Closed,
}

/// A journal, open for appending.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    head: [u8; HEAD],
    len: u64,
    last_seq: u64,
    ended: bool,
    walls: bool,
    closed: bool,
}

impl Journal {
    /// Opens or makes the journal of `run` at `path` (mode 0600), and cuts a torn tail.
    ///
    /// # Errors
    /// [`JournalError::Io`].
    pub fn open(path: &Path, run: &RunId) -> Result<Self, JournalError> {
        let failed = |act| move |cause| JournalError::Io { act, path: path.to_path_buf(), cause };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(failed("open"))?;
        let whole = file.metadata().map_err(failed("measure"))?.len();
        let mut journal = Self {
            file,
            path: path.to_path_buf(),
            head: first_head(run),
            len: 0,
            last_seq: 0,
            ended: false,
            walls: false,
            closed: false,
        };
        let mut from = BufReader::new(journal.file.try_clone().map_err(failed("open"))?);
        while let Some((record, head, size)) = read_record(&mut from, journal.head).map_err(failed("read"))? {
            if record.seq != journal.last_seq + 1 {
                break;
            }
            journal.head = head;
            journal.len += size;
            journal.took(&record);
        }
        if journal.len < whole {
            tracing::warn!(%run, cut = whole - journal.len, "a torn tail was cut from the journal");
            journal.file.set_len(journal.len).map_err(failed("cut"))?;
        }
        journal.file.sync_all().map_err(failed("sync"))?;
        sync_folder(path).map_err(failed("sync the folder of"))?;
        Ok(journal)
    }

    /// Appends events, durable when this returns; gives the last number.
    ///
    /// # Errors
    /// [`JournalError::TooLong`] (nothing appended), [`JournalError::Closed`], [`JournalError::Io`]. After a failed
    /// write the file ends where it ended before; where even that fails, and after a failed sync, the journal closes.
    pub fn append(&mut self, at: Moment, by: By, events: &[Box<RawValue>]) -> Result<u64, JournalError> {
        if self.closed {
            return Err(JournalError::Closed);
        }
        let (mut wire, mut head, mut seq) = (Vec::new(), self.head, self.last_seq);
        let mut records = Vec::with_capacity(events.len());
        for event in events {
            seq += 1;
            let record = Record { seq, at, by, event: event.clone() };
            let body = serde_json::to_vec(&record).map_err(|e| self.failed("write", e.into()))?;
            if body.len() > MAX_BODY {
                return Err(JournalError::TooLong(body.len()));
            }
            head = next_head(&head, &body);
            // The cast is exact: a body is at most MAX_BODY long.
            wire.extend_from_slice(&(body.len() as u32).to_le_bytes());
            wire.extend_from_slice(&head);
            wire.extend_from_slice(&body);
            records.push(record);
        }
        if let Err(cause) = self.file.write_all_at(&wire, self.len) {
            self.closed = self.file.set_len(self.len).is_err();
            return Err(self.failed("write", cause));
        }
        // After a failed sync the kernel may have dropped the pages: what the file holds is not known.
        if let Err(cause) = self.file.sync_data() {
            self.closed = true;
            return Err(self.failed("sync", cause));
        }
        self.head = head;
        self.len += wire.len() as u64;
        for record in &records {
            self.took(record);
        }
        Ok(self.last_seq)
    }

    /// The last number; 0 for none.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.last_seq
    }
    /// Whether the last event is the operator's word that the run is over.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.ended
    }
    /// Whether any attempt came as far as its task: its walls were read back.
    #[must_use]
    pub fn started(&self) -> bool {
        self.walls
    }
    /// Durable bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }
    /// Whether nothing was ever recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn took(&mut self, record: &Record) {
        self.last_seq = record.seq;
        let kind = (record.by == By::Operator).then(|| kind_of(&record.event)).flatten();
        self.ended = kind.as_deref() == Some("ended");
        self.walls |= kind.as_deref() == Some("walls");
    }

    fn failed(&self, act: &'static str, cause: io::Error) -> JournalError {
        JournalError::Io { act, path: self.path.clone(), cause }
    }
}

/// The `kind` of an event; none when it has not exactly one.
#[must_use]
pub fn kind_of(event: &RawValue) -> Option<String> {
    #[derive(Deserialize)]
    struct Kind {
        kind: String,
    }
    // The derived reader refuses a second `kind`, so that no two readers can disagree on which one counts.
    serde_json::from_str::<Kind>(event.get()).ok().map(|k| k.kind)
}

/// A reader of a journal that another holder appends to.
#[derive(Debug)]
pub struct Tail {
    from: BufReader<File>,
    head: [u8; HEAD],
    at: u64,
    after: u64,
}

impl Tail {
    /// Reads on after number `after`.
    ///
    /// # Errors
    /// The system's own.
    pub fn open(path: &Path, run: &RunId, after: u64) -> io::Result<Self> {
        Ok(Self { from: BufReader::new(File::open(path)?), head: first_head(run), at: 0, after })
    }

    /// The next record among the first `durable` bytes; none when there is no more yet.
    ///
    /// # Errors
    /// `InvalidData` when a durable record is not whole: the disk, or someone with root, changed it.
    pub fn next(&mut self, durable: u64) -> io::Result<Option<Record>> {
        while self.at < durable {
            let broken = || io::Error::new(io::ErrorKind::InvalidData, "a record that was durable is not whole");
            let (record, head, size) = read_record(&mut self.from, self.head)?.ok_or_else(broken)?;
            self.head = head;
            self.at += size;
            if record.seq > self.after {
                self.after = record.seq;
                return Ok(Some(record));
            }
        }
        // The buffer may have met the file's end before the next append: read from there again.
        self.from.seek(SeekFrom::Start(self.at))?;
        Ok(None)
    }
}

fn first_head(run: &RunId) -> [u8; HEAD] {
    let mut hash = Sha256::new();
    hash.update(b"volary journal 1\n");
    hash.update(run.as_str());
    hash.finalize().into()
}

fn next_head(head: &[u8; HEAD], body: &[u8]) -> [u8; HEAD] {
    let mut hash = Sha256::new();
    hash.update(head);
    hash.update(body);
    hash.finalize().into()
}

/// The next whole record with the head after it and its size on disk; none at the end or at the first that is torn.
fn read_record(from: &mut impl Read, head: [u8; HEAD]) -> io::Result<Option<(Record, [u8; HEAD], u64)>> {
    let mut envelope = [0u8; ENVELOPE];
    if !filled(from, &mut envelope)? {
        return Ok(None);
    }
    let (length, said) = envelope.split_at(4);
    let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
    if length > MAX_BODY {
        return Ok(None);
    }
    let mut body = vec![0; length];
    if !filled(from, &mut body)? {
        return Ok(None);
    }
    let next = next_head(&head, &body);
    if next != said {
        return Ok(None);
    }
    Ok(serde_json::from_slice(&body).ok().map(|record| (record, next, (ENVELOPE + length) as u64)))
}

/// Whether the whole buffer could be filled before the end.
fn filled(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

/// Makes the entry of `path` in its folder durable.
///
/// # Errors
/// The system's own.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Writes a small file so that it is whole or not there: a draft beside it, synced, then renamed.
///
/// # Errors
/// The system's own.
pub fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("draft");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&draft, path)?;
    sync_folder(path)
}
