//! What was pulled from registries, for boxes that the platform makes itself.
//!
//! Each image is a folder in `images/pulled`, named by the digest that a profile asks for, and is an OCI layout. A part
//! gets its name when it is whole, has its digest and is on the disk; so whatever ends a pull, what has a name is right,
//! and the next pull goes on from there. Once the image's tree is unpacked its layers go. Nothing here connects: parts
//! come from a [`Source`], which is believed in nothing.
//!
//! Read [`is_here`], then [`pull`].

use super::content::{Content, blob, missing, named};
use super::kept::{self, MOST, UNUSED_DAYS};
use api::images::{MAX_PART, Part};
use model::image::Reference;
use rustix::fs::{FlockOperation, Timespec, Timestamps, UTIME_NOW};
use rustix::io::Errno;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Descriptions that lead to one image: indexes, its manifest, its configuration.
const DESCRIPTIONS: usize = 8;
/// Bytes after which a part's progress is told, and the room on the disk is looked at again.
const STEP: u64 = 8 << 20;
/// How often whoever waits for another's pull looks whether it is done.
const LOOK: Duration = Duration::from_millis(200);

/// What gives the parts of an image.
pub trait Source {
    /// Writes a part's bytes, of which nothing is believed.
    ///
    /// # Errors
    /// Why it did not come to its end, in words for people; or what `to` said.
    fn part(&mut self, part: &Part, to: &mut dyn Write) -> io::Result<()>;

    /// Hears, again and again, that another pulls the same image, which is waited for.
    ///
    /// # Errors
    /// That nobody wants the image any more.
    fn waits(&mut self) -> io::Result<()>;

    /// Sets room on the disk aside for so many bytes of layers, which are asked for next, until this source is dropped.
    ///
    /// # Errors
    /// What is free and what is needed, in words for people.
    fn set_aside(&mut self, bytes: u64) -> io::Result<()>;
}

/// How far a pull is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of layers that are here.
    pub done: u64,
    /// Bytes of all layers, packed as the registry has them.
    pub all: u64,
}

/// Where the parts of an image lie.
struct Store {
    name: String,
    digest: String,
    folder: PathBuf,
    /// The tree that it becomes lies below the same.
    dir: PathBuf,
}

impl Store {
    fn of(dir: &Path, name: &str) -> io::Result<Self> {
        let wrong = |why| io::Error::new(io::ErrorKind::InvalidInput, why);
        let digest = Reference::parse(name).map_err(wrong)?.digest;
        let folder = dir.join("images/pulled").join(digest.trim_start_matches("sha256:"));
        Ok(Self { name: name.to_owned(), digest, folder, dir: dir.to_owned() })
    }

    fn content(&self) -> io::Result<Content> {
        Content::pulled(&self.folder, &self.name, &self.digest)
    }

    fn place(&self, part: &Part) -> PathBuf {
        self.folder.join(blob(&part.digest))
    }

    /// The lock under which parts come and go; that it is taken says that the image is used.
    fn lock(&self) -> io::Result<File> {
        let path = self.folder.with_extension("lock");
        let mut open = OpenOptions::new();
        open.read(true).write(true).create(true).truncate(false).mode(0o600);
        let lock = open.open(path)?;
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        rustix::fs::futimens(&lock, &Timestamps { last_access: now, last_modification: now })?;
        Ok(lock)
    }

    /// Whether a box can be made of it as it lies there.
    fn is_whole(&self) -> bool {
        self.content().is_ok_and(|content| self.holds(&content))
    }

    /// Whether its tree is there, or all that the tree is made of.
    fn holds(&self, content: &Content) -> bool {
        kept::place(&self.dir, &content.id).is_dir()
            || content.layers().is_ok_and(|parts| parts.iter().all(|part| self.place(part).is_file()))
    }

    /// Has a part brought, whole and with its digest, unless it is here.
    fn fetch(&self, part: &Part, source: &mut dyn Source, told: &mut dyn FnMut(u64)) -> io::Result<()> {
        let place = self.place(part);
        if place.is_file() {
            told(part.most);
            return Ok(());
        }
        let path = place.with_extension("part");
        let file = File::create(&path)?;
        let mut draft = Draft { file, digest: Sha256::new(), length: 0, most: part.most, told };
        let came = source.part(part, &mut draft).and_then(|()| {
            draft.file.sync_all()?;
            let real = named(&draft.digest.finalize());
            if real == part.digest {
                return Ok(());
            }
            let why = format!("the registry gives {real} under the name {}; it is not taken", part.digest);
            Err(io::Error::new(io::ErrorKind::InvalidData, why))
        });
        match came.and_then(|()| fs::rename(&path, &place)) {
            Ok(()) => Ok(()),
            Err(e) => {
                fs::remove_file(&path)?;
                Err(io::Error::new(e.kind(), format!("the image {}: {e}", self.name)))
            }
        }
    }
}

/// A part on its way to the disk.
struct Draft<'a> {
    file: File,
    digest: Sha256,
    length: u64,
    most: u64,
    told: &'a mut dyn FnMut(u64),
}

impl Write for Draft<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.length + bytes.len() as u64;
        if length > self.most {
            let why = format!("the registry sends more than the {} bytes that a part of it has", self.most);
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        self.file.write_all(bytes)?;
        self.digest.update(bytes);
        if self.length == 0 || self.length / STEP != length / STEP {
            has_room(&self.file, 0)?;
        }
        self.length = length;
        (self.told)(bytes.len() as u64);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// That the disk keeps free what it is to keep free, beside so much more.
fn has_room(file: &File, more: u64) -> io::Result<()> {
    let disk = rustix::fs::fstatvfs(file)?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    if free >= MOST.spare.saturating_add(more) {
        return Ok(());
    }
    let (free, spare) = (free >> 20, MOST.spare >> 20);
    let why = match more >> 20 {
        0 => format!("the disk would have less than {spare} MiB free; free some space"),
        more => {
            format!("it needs {more} MiB, packed, and the disk has {free} MiB, of which {spare} stay free; free some")
        }
    };
    Err(io::Error::new(io::ErrorKind::StorageFull, why))
}

/// The description of a registry's image as far as it was pulled to `dir`, the operator's folder; layers may have gone.
///
/// # Errors
/// A sentence that names the image.
pub(crate) fn content(dir: &Path, name: &str) -> io::Result<Content> {
    Store::of(dir, name)?.content()
}

/// The same, none where a box cannot be made of what is here.
///
/// # Errors
/// As of [`content`].
pub(crate) fn whole(dir: &Path, name: &str) -> io::Result<Option<Content>> {
    let store = Store::of(dir, name)?;
    if !store.folder.join("index.json").is_file() {
        return Ok(None);
    }
    match store.content() {
        Err(e) if missing(&e).is_some() => Ok(None),
        read => read.map(|content| store.holds(&content).then_some(content)),
    }
}

/// Whether a box can be made of a registry's image without asking the registry; it is kept from now on as one that is
/// used. `dir` is the operator's folder.
///
/// # Errors
/// A sentence, when the name is none; the system's own.
pub fn is_here(dir: &Path, name: &str) -> io::Result<bool> {
    let store = Store::of(dir, name)?;
    if !store.folder.is_dir() {
        return Ok(false);
    }
    let _used = store.lock()?;
    Ok(store.is_whole())
}

/// Has all of a registry's image brought to `dir`, the operator's folder; of two that pull the same, one does. Blocks.
///
/// `said` hears how far it is, often.
///
/// # Errors
/// A sentence that names the image: what the source said, what of the image is not as it says, or what the disk lacks.
/// Parts that came whole stay, for the next time.
pub fn pull(dir: &Path, name: &str, source: &mut dyn Source, said: &mut dyn FnMut(Progress)) -> io::Result<()> {
    let store = Store::of(dir, name)?;
    let all = dir.join("images/pulled");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&all)?;
    drop_unused(&all)?;
    let lock = store.lock()?;
    while let Err(e) = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        if !matches!(e, Errno::WOULDBLOCK | Errno::INTR) {
            return Err(e.into());
        }
        source.waits()?;
        std::thread::sleep(LOOK);
    }
    if store.is_whole() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(store.folder.join("blobs/sha256"))?;
    let index = json!({ "schemaVersion": 2, "manifests": [{ "digest": store.digest }] });
    // Others read it without the lock: it is there as a whole, or not at all.
    let (at, beside) = (store.folder.join("index.json"), store.folder.join("index.json.new"));
    if fs::read(&at).ok().as_deref() != Some(index.to_string().as_bytes()) {
        fs::write(&beside, index.to_string())?;
        fs::rename(&beside, &at)?;
    }
    let content = describe(&store, source)?;
    let layers = content.layers()?;
    let progress = |done| Progress { done, all: layers.iter().map(|part| part.most).fold(0, u64::saturating_add) };
    let (mut done, bytes) = (0, progress(0).all);
    if bytes > MOST.bytes.min(MAX_PART) {
        return Err(content.wrong("its layers are longer than an image may be, packed as they are"));
    }
    let absent: u64 = layers.iter().filter(|part| !store.place(part).is_file()).map(|part| part.most).sum();
    has_room(&lock, absent).and_then(|()| source.set_aside(absent)).map_err(|e| content.wrong(e))?;
    said(progress(done));
    for part in &layers {
        store.fetch(part, source, &mut |more| {
            done += more;
            said(progress(done));
        })?;
    }
    // The names, too: what is found after a power cut is whole or not there.
    File::open(store.folder.join("blobs/sha256"))?.sync_all()
}

/// Has every description of the image brought that leads to its layers.
fn describe(store: &Store, source: &mut dyn Source) -> io::Result<Content> {
    for _ in 0..DESCRIPTIONS {
        match store.content() {
            Err(e) => match missing(&e) {
                Some(part) => store.fetch(part, source, &mut |_| {})?,
                None => return Err(e),
            },
            whole => return whole,
        }
    }
    store.content()
}

/// Removes the layers of an image whose tree is unpacked, and held by whoever calls this.
///
/// # Errors
/// The system's own.
pub(crate) fn drop_layers(dir: &Path, name: &str) -> io::Result<()> {
    let store = Store::of(dir, name)?;
    for part in store.content()?.layers()? {
        match fs::remove_file(store.place(&part)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

/// Removes what no box asked for in a long time.
fn drop_unused(all: &Path) -> io::Result<()> {
    for entry in fs::read_dir(all)? {
        let path = entry?.path();
        if path.extension().is_none_or(|kind| kind != "lock") {
            continue;
        }
        let lock = OpenOptions::new().read(true).write(true).open(&path)?;
        let is_old = || {
            let age = SystemTime::now().duration_since(lock.metadata()?.modified()?).unwrap_or_default();
            Ok::<_, io::Error>(age > Duration::from_secs(UNUSED_DAYS * 24 * 3600))
        };
        // The lock's own file stays: another may hold it open already.
        if is_old()? && rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() && is_old()? {
            let folder = path.with_extension("");
            if folder.exists() {
                fs::remove_dir_all(&folder)?;
            }
        }
    }
    Ok(())
}
