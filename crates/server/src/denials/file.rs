//! A profile's file with one row more: the rest of it as it was, to the byte, and in its place in one step.
//!
//! A text is never trusted to mean what it was edited to mean: it is read again, and has to be the profile that was
//! asked for. A file is exchanged for the new one, so that what an administrator wrote in the meantime is seen and
//! put back.
//!
//! Read [`Seen`], [`edited`], [`Staged`], [`Beside`].

use super::change::Change;
use crate::fault::Fault;
use crate::{profiles, random};
use model::egress::Reads;
use model::{Egress, Profile};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, Value};

/// The head of the file that takes the built-in profile's place.
const BUILT_IN: &str = "# Takes the place of the built-in profile: what is left out here is as there.\n\
                        description = \"The built-in profile, and what was added to it.\"\n";

/// A profile's file as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its content; none where the built-in profile has no file.
    pub text: Option<String>,
    /// What it says.
    pub profile: Profile,
}

impl Seen {
    /// Reads the file of the profile `name`.
    ///
    /// # Errors
    /// Those of [`profiles::load`]; 409 for a file that is a link or no file, which is somebody else's to change.
    pub fn of(dir: &Path, name: &str) -> Result<Self, Fault> {
        let profile = profiles::load(dir, name)?;
        let path = place(dir, name);
        let text = match fs::symlink_metadata(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => None,
            Ok(about) if about.is_file() => Some(fs::read_to_string(&path).map_err(|e| unreadable(&path, &e))?),
            Ok(_) => {
                let message = format!("{} is a link or no file; add the rows there yourself.", path.display());
                return Err(Fault::conflict("profile.link", message));
            }
            Err(e) => return Err(unreadable(&path, &e)),
        };
        // Both were read, one after the other; they are the same text.
        match &text {
            Some(text) if read(text, &profile).as_ref() != Some(&profile) => Err(changed(name)),
            _ => Ok(Self { text, profile }),
        }
    }
}

/// What a text says as the file of a profile, beside the registries of this home that `like` has.
fn read(text: &str, like: &Profile) -> Option<Profile> {
    let mut profile: Profile = toml::from_str(text).ok()?;
    profile.egress.registries.clone_from(&like.egress.registries);
    Some(profile)
}

pub(super) fn unreadable(path: &Path, e: &std::io::Error) -> Fault {
    Fault::bad("profile.unreadable", format!("The profile {} cannot be read: {e}.", path.display()))
}

/// What a person is told whose view of the profile is out of date.
pub fn changed(name: &str) -> Fault {
    let message = format!(
        "The profile {name:?}, or what this run may do, was changed since this was shown; nothing was done. Look again."
    );
    Fault::conflict("profile.changed", message)
}

/// Where the file of a profile is.
pub(super) fn place(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.toml"))
}

/// The file's text with the change in it, which reads as `wider` beside everything else that the profile says.
///
/// # Errors
/// 409 for a text that this cannot be written into; it names the rows to add by hand.
pub fn edited(name: &str, seen: &Seen, change: &Change, wider: &Egress) -> Result<String, Fault> {
    let by_hand = || {
        let message = format!(
            "The profile {name:?} is written in a way that this cannot add to; add these rows yourself:\n{}",
            change.toml()
        );
        Fault::conflict("profile.by-hand", message)
    };
    let text = seen.text.as_deref().unwrap_or(BUILT_IN);
    let mut document: DocumentMut = text.parse().map_err(|_| by_hand())?;
    write_into(&mut document, change, seen.profile.egress.reads, wider).ok_or_else(by_hand)?;
    let new = document.to_string();
    let read = read(&new, &seen.profile).filter(|_| new.len() <= profiles::MAX_FILE).ok_or_else(by_hand)?;
    let description = read.description.clone();
    let meant = Profile { egress: wider.clone(), ..seen.profile.clone() };
    // The file that takes the built-in one's place has a description of its own.
    let meant = if seen.text.is_none() { Profile { description, ..meant } } else { meant };
    if read == meant { Ok(new) } else { Err(by_hand()) }
}

fn write_into(document: &mut DocumentMut, change: &Change, had: Reads, wider: &Egress) -> Option<()> {
    let table = document.entry("egress").or_insert_with(|| {
        let mut table = Table::new();
        // Its header is written when it has keys of its own.
        table.set_implicit(true);
        Item::Table(table)
    });
    let inline = table.is_inline_table();
    let table = table.as_table_like_mut()?;
    if wider.reads != had {
        let word = toml::Value::try_from(wider.reads).ok()?;
        set(table, "reads", word.as_str()?);
    }
    let (kind, row) = match change {
        Change::Read(_) => ("read", wider.read.last().and_then(|row| toml::Table::try_from(row).ok())?),
        Change::Write(_) => ("write", wider.write.last().and_then(|row| toml::Table::try_from(row).ok())?),
        Change::Internal(_) => ("internal", wider.internal.last().and_then(|row| toml::Table::try_from(row).ok())?),
    };
    let row = columns(&row)?;
    let rows = table.entry(kind).or_insert_with(|| {
        if inline { Item::Value(Array::new().into()) } else { Item::ArrayOfTables(ArrayOfTables::new()) }
    });
    match rows {
        Item::ArrayOfTables(rows) => {
            let mut table = row.into_table();
            table.decor_mut().set_prefix("\n");
            rows.push(table);
        }
        Item::Value(Value::Array(rows)) => rows.push(row),
        _ => return None,
    }
    Some(())
}

/// Sets a word; what stands around the old one (spaces, a comment behind it) stays.
fn set(table: &mut dyn toml_edit::TableLike, key: &str, word: &str) {
    let mut value = Value::from(word);
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            *value.decor_mut() = old.decor().clone();
            *old = value;
        }
        None => drop(table.insert(key, Item::Value(value))),
    }
}

/// A row in the order in which the documentation has it. Every value is written as a value, never as text.
fn columns(row: &toml::Table) -> Option<InlineTable> {
    const ORDER: [&str; 7] = ["capability", "host", "method", "path", "port", "addresses", "why"];
    let mut table = InlineTable::new();
    for key in ORDER.into_iter().filter(|key| row.contains_key(*key)) {
        let value = match &row[key] {
            toml::Value::String(text) => Value::from(text.as_str()),
            toml::Value::Integer(number) => Value::from(*number),
            toml::Value::Array(texts) => {
                Value::Array(texts.iter().map(|text| text.as_str().map(Value::from)).collect::<Option<_>>()?)
            }
            _ => return None,
        };
        table.insert(key, value);
    }
    (table.len() == row.len()).then_some(table)
}

/// What lies beside a profile's file while it is changed; see [`super::repair`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    /// The new content, not recorded yet, or not seen to be.
    New,
    /// The new content, once it is recorded, and then what the file was exchanged for.
    Put,
}

impl Beside {
    const ALL: [Self; 2] = [Self::New, Self::Put];

    fn end(self) -> &'static str {
        match self {
            Self::New => ".toml.new",
            Self::Put => ".toml.put",
        }
    }

    /// Where it is.
    pub(super) fn of(self, dir: &Path, name: &str) -> PathBuf {
        dir.join(format!(".{name}{}", self.end()))
    }
}

/// The profiles beside whose file something lies; what cannot be listed is empty.
pub(super) fn left(dir: &Path) -> Vec<(String, Beside)> {
    let names =
        fs::read_dir(dir).into_iter().flatten().flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let one = |file: String| {
        let of =
            |beside: Beside| file.strip_prefix('.')?.strip_suffix(beside.end()).map(|name| (name.to_owned(), beside));
        Beside::ALL.into_iter().find_map(of)
    };
    names.filter_map(one).collect()
}

/// Puts what lies beside into the file's place; with `exchange`, what was there lies beside then, as [`Beside::Put`].
///
/// # Errors
/// The disk's.
pub(super) fn put_left(dir: &Path, name: &str, beside: Beside, exchange: bool) -> Result<(), Fault> {
    let flags = if exchange { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
    let from = Beside::Put.of(dir, name);
    let put = || -> std::io::Result<()> {
        if beside != Beside::Put {
            fs::rename(beside.of(dir, name), &from)?;
        }
        renameat_with(CWD, &from, CWD, place(dir, name), flags)?;
        sync(dir)
    };
    put().map_err(|e| unwritable(&place(dir, name), &e))
}

/// Keeps what lies beside as [`Beside::Put`], which somebody else wrote and which is not the file any more, under a name
/// that no profile has.
///
/// # Errors
/// The disk's.
pub(super) fn set_aside(dir: &Path, name: &str) -> Result<(), Fault> {
    let from = Beside::Put.of(dir, name);
    let aside = || -> std::io::Result<PathBuf> {
        let version = random::sha256_hex(&fs::read(&from)?);
        let to = dir.join(format!("{name}.toml.theirs-{}", &version[..8]));
        fs::rename(&from, &to)?;
        sync(dir)?;
        Ok(to)
    };
    let to = aside().map_err(|e| unwritable(&from, &e))?;
    tracing::warn!("what was written into the profile {name} while a row was put into it is kept as {}", to.display());
    Ok(())
}

/// Removes what lies beside, but for what is not `ours`: that is set aside.
fn clear(dir: &Path, name: &str, ours: &[&str]) -> Result<(), Fault> {
    match fs::read(Beside::Put.of(dir, name)) {
        Ok(left) if !ours.iter().any(|text| text.as_bytes() == left) => set_aside(dir, name)?,
        _ => {}
    }
    remove_left(dir, name)
}

/// Removes what lies beside.
///
/// # Errors
/// The disk's.
pub(super) fn remove_left(dir: &Path, name: &str) -> Result<(), Fault> {
    for path in Beside::ALL.map(|beside| beside.of(dir, name)) {
        match fs::remove_file(&path) {
            Err(e) if e.kind() != ErrorKind::NotFound => return Err(unwritable(&path, &e)),
            _ => {}
        }
    }
    Ok(())
}

fn sync(dir: &Path) -> std::io::Result<()> {
    File::open(dir).and_then(|dir| dir.sync_all())
}

fn unwritable(path: &Path, e: &std::io::Error) -> Fault {
    tracing::error!("write {}: {e}", path.display());
    let message = format!("The profile {} cannot be written: {e}.", path.display());
    Fault::new(http::StatusCode::INTERNAL_SERVER_ERROR, "profile.unwritable", message)
}

/// A new content that lies beside the file, on the disk for good, and is not yet in its place.
#[derive(Debug)]
pub struct Staged {
    dir: PathBuf,
    name: String,
    old: Option<String>,
    new: String,
    /// Whether it has begun to take its place; what lies beside is then the word of where that is.
    begun: bool,
}

impl Drop for Staged {
    fn drop(&mut self) {
        // What is left is taken away by the next one, or the next start.
        if !self.begun
            && let Err(fault) = remove_left(&self.dir, &self.name)
        {
            tracing::warn!("what lies beside the profile {} stays: {}", self.name, fault.problem.message);
        }
    }
}

impl Staged {
    /// Writes `new` beside the file of the profile `name`.
    ///
    /// # Errors
    /// The disk's.
    pub fn new(dir: &Path, name: &str, old: Option<String>, new: &str) -> Result<Self, Fault> {
        let (path, beside) = (place(dir, name), Beside::New.of(dir, name));
        clear(dir, name, &[new, old.as_deref().unwrap_or_default()])?;
        let write = || -> std::io::Result<()> {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
            file.write_all(new.as_bytes())?;
            let mode = if old.is_some() { fs::metadata(&path)?.permissions().mode() & 0o666 } else { 0o644 };
            file.set_permissions(Permissions::from_mode(mode))?;
            file.sync_all()?;
            // Its name too: once it is recorded it has to be there, also after a loss of power.
            sync(dir)
        };
        let written = write().map_err(|e| unwritable(&path, &e));
        let staged = Self { dir: dir.to_owned(), name: name.to_owned(), old, new: new.to_owned(), begun: false };
        written.map(|()| staged)
    }

    /// Puts it in its place, where the file is still the one that was read. To be called once that is recorded. After an
    /// error, what lies beside the file stays there until [`Staged::remove`].
    ///
    /// # Errors
    /// 409 when it is another one by now, which then stays; the disk's.
    pub fn put(&mut self) -> Result<(), Fault> {
        self.begun = true;
        let (path, beside) = (place(&self.dir, &self.name), Beside::Put.of(&self.dir, &self.name));
        let cannot = |e: &std::io::Error| unwritable(&path, e);
        fs::rename(Beside::New.of(&self.dir, &self.name), &beside).map_err(|e| cannot(&e))?;
        let flags = if self.old.is_some() { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
        let rename = || renameat_with(CWD, &beside, CWD, &path, flags);
        match rename() {
            Ok(()) => {}
            Err(rustix::io::Errno::EXIST | rustix::io::Errno::NOENT) => return Err(changed(&self.name)),
            Err(e) => return Err(cannot(&e.into())),
        }
        if let Some(old) = &self.old
            && !fs::read(&beside).is_ok_and(|was| was == old.as_bytes())
        {
            // Somebody wrote it in the meantime: theirs is the one that counts.
            rename().map_err(|e| cannot(&e.into()))?;
            return Err(changed(&self.name));
        }
        sync(&self.dir).map_err(|e| cannot(&e))?;
        remove_left(&self.dir, &self.name)
    }

    /// Removes what lies beside the file; what somebody else wrote of it is kept under another name.
    ///
    /// # Errors
    /// The disk's.
    pub fn remove(self) -> Result<(), Fault> {
        clear(&self.dir, &self.name, &[&self.new, self.old.as_deref().unwrap_or_default()])
    }
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;
