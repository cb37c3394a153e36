//! Where the key of the vault comes from: `vault.toml` of the home, and whoever obtains the key for the server.
//!
//! The server is confined and reads no key file, runs no command and asks no KMS. Each time that `up` starts it, a process
//! of its own obtains the key, writes it into a pipe whose other end is the server's, and ends: neither `up` nor any
//! other process ever has it, and it stands in no argument, environment or file that was not an administrator's choice.
//!
//! Read [`Config`] (what `vault.toml` may say), [`source`] (how a key is had), [`offer`], [`hand_over`], then [`rotate`].

pub mod rotate;
pub mod source;
mod transit;

use crate::home::Home;
use anyhow::{Context, bail};
use api::vault::{KeyOffer, MAX_OFFER, OfferedKey};
use model::Secret;
use rustix::pipe::{PipeFlags, pipe_with};
use serde::{Deserialize, Serialize};
pub use source::{Environment, Source};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The file of a home that says where its key comes from. Without it the key is a file of the home's own.
pub const FILE: &str = "vault.toml";

/// Longest `vault.toml`, in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// The file of the home's own key, where nothing else is said.
const OWN: &str = "keys/kek";

/// Longest that obtaining keys may take altogether, in seconds; then the process that does it is ended.
const WHOLE_SECS: u32 = 50;

/// What `vault.toml` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The key in use.
    pub key: Entry,
    /// While a rotation is under way: the key that is to follow. The database opens with one of the two.
    pub next: Option<Entry>,
}

/// A key by its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it comes from.
    pub source: Source,
    /// Its id, where a rotation wrote it down.
    pub id: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    key: Row,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<Row>,
}

/// One table of the file: one source, and perhaps an id.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    env: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    credential: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    command: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    transit: Option<source::Transit>,
}

impl Row {
    fn entry(self, table: &str) -> anyhow::Result<Entry> {
        let all = [
            self.file.map(Source::File),
            self.env.map(Source::Env),
            self.credential.map(Source::Credential),
            self.command.map(Source::Command),
            self.transit.map(Source::Transit),
        ];
        let mut given = all.into_iter().flatten();
        let (Some(source), None) = (given.next(), given.next()) else {
            bail!("[{table}] takes exactly one of file, env, credential, command and transit");
        };
        source.check().with_context(|| format!("[{table}]"))?;
        let hex = |id: &String| id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit());
        if self.id.as_ref().is_some_and(|id| !hex(id)) {
            bail!("[{table}] has an id that is none: it is 16 hex digits, written by a rotation; leave it out");
        }
        Ok(Entry { source, id: self.id })
    }

    fn of(entry: &Entry) -> Self {
        let mut row = Self { id: entry.id.clone(), ..Self::default() };
        match entry.source.clone() {
            Source::File(path) => row.file = Some(path),
            Source::Env(name) => row.env = Some(name),
            Source::Credential(name) => row.credential = Some(name),
            Source::Command(argv) => row.command = Some(argv),
            Source::Transit(transit) => row.transit = Some(transit),
        }
        row
    }
}

/// The words of an error in TOML, with its line and without what stands there.
fn plain(text: &str, e: &toml::de::Error) -> String {
    let line = e.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    format!("line {}: {}", line.unwrap_or(1), e.message())
}

impl Config {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let read: Text = toml::from_str(text).map_err(|e| anyhow::anyhow!(plain(text, &e)))?;
        let key = read.key.entry("key")?;
        Ok(Self { key, next: read.next.map(|next| next.entry("next")).transpose()? })
    }

    /// What a home says; what holds where it says nothing. Nothing of a key is looked at.
    ///
    /// # Errors
    /// Each way in which `vault.toml` can be wrong, with what to do.
    pub fn read(home: &Home) -> anyhow::Result<Self> {
        let path = home.path().join(FILE);
        let about = || format!("{}", path.display());
        // A pipe in its place must not hold up the platform's start, and a link is not followed: it names programs.
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = match OpenOptions::new().read(true).custom_flags(flags).open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                let source = Source::File(own(home));
                return Ok(Self { key: Entry { source, id: None }, next: None });
            }
            Err(e) => return Err(e).with_context(about),
        };
        let known = file.metadata().with_context(about)?;
        let own = rustix::process::geteuid().as_raw();
        if !known.is_file() || known.mode() & 0o022 != 0 || (known.uid() != own && known.uid() != 0) {
            bail!(
                "{} must be a file of root's or yours that nobody else may write (it is uid {}'s, mode {:03o})",
                path.display(),
                known.uid(),
                known.mode() & 0o777
            );
        }
        let mut text = String::new();
        file.take(MAX_FILE).read_to_string(&mut text).with_context(about)?;
        Self::parse(&text).with_context(about)
    }

    /// Puts this in the place of what the home says: all of it, or nothing. It is on the disk when this returns.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, home: &Home) -> anyhow::Result<()> {
        let text = Text { key: Row::of(&self.key), next: self.next.as_ref().map(Row::of) };
        let words = "# Where the key of this home's vault comes from. It holds no key. `volary vault rotate --to …` writes it.\n\n";
        let text = format!("{words}{}", toml::to_string(&text)?);
        let path = home.path().join(FILE);
        // Beside the keys: whatever is left of a draft, a home still holds nothing but its own.
        let draft = home.keys().join("vault.toml.draft");
        write_new(&draft, text.as_bytes(), true).with_context(|| format!("write {}", draft.display()))?;
        fs::rename(&draft, &path).with_context(|| format!("write {}", path.display()))?;
        File::open(home.path())?.sync_all().context("sync the home")
    }
}

/// Writes a file of the caller's alone, to the disk.
fn write_new(path: &Path, bytes: &[u8], over: bool) -> std::io::Result<()> {
    if over
        && let Err(e) = fs::remove_file(path)
        && e.kind() != std::io::ErrorKind::NotFound
    {
        return Err(e);
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// The file of the home's own key, where nothing else is said: that of before there was a folder for it, if it is there.
fn own(home: &Home) -> PathBuf {
    let before = home.server().join("kek");
    if fs::symlink_metadata(&before).is_ok() { before } else { PathBuf::from(OWN) }
}

/// Everything that the server may be opened with, and why the rest could not be had. At the first start of a home
/// that says nothing of it, its own key is made.
///
/// # Errors
/// A `vault.toml` that is wrong.
pub fn offer(home: &Home, environment: Environment<'_>) -> anyhow::Result<KeyOffer> {
    let config = Config::read(home)?;
    let first = !home.path().join(FILE).exists() && !home.server().join("volary.db").exists();
    if let (Source::File(path), true) = (&config.key.source, first) {
        let path = home.path().join(path);
        if fs::symlink_metadata(&path).is_err() {
            let key = source::generate()?;
            write_new(&path, key.expose().as_bytes(), false)
                .with_context(|| format!("make the key file {}", path.display()))?;
        }
    }
    let mut offer = KeyOffer::default();
    for entry in std::iter::once(&config.key).chain(&config.next) {
        match entry.source.obtain(home, environment) {
            Ok(key) => {
                let key = api::grants::WireSecret(key);
                offer.keys.push(OfferedKey { source: entry.source.words(home), key });
            }
            Err(e) => offer.missing.push(format!("{e:#}")),
        }
    }
    Ok(offer)
}

/// Starts the process that obtains the key, and gives the end of the pipe that it writes into.
///
/// # Errors
/// The system's.
pub fn hand_over(config: &str, log: File) -> anyhow::Result<OwnedFd> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0("volary-key").args(["process", "key", config]);
    // Its environment is that of `up`: a variable or a folder of credentials may be where the key is.
    command.stdin(Stdio::null()).stdout(Stdio::from(write)).stderr(log).process_group(0);
    command.spawn().context("start the process that obtains the vault's key")?;
    Ok(read)
}

/// That process: obtains, writes to its standard output, ends. What goes wrong is told through the pipe.
///
/// # Errors
/// When it is not confined as it has to be, or the pipe is gone.
pub fn give(home: &Home, up: u32) -> anyhow::Result<()> {
    guard_memory(up)?;
    // SAFETY: plain calls; the signal's default ends this process, and with it the wait of the server.
    unsafe {
        libc::signal(libc::SIGALRM, libc::SIG_DFL);
        libc::alarm(WHOLE_SECS);
    }
    let offer = offer(home, &|name| std::env::var_os(name))
        .unwrap_or_else(|e| KeyOffer { keys: Vec::new(), missing: vec![format!("{e:#}")] });
    // Room for all of it: a text that grew would leave copies of its beginning behind.
    let mut text = Secret::new(Vec::with_capacity(MAX_OFFER));
    serde_json::to_writer(text.expose_mut(), &offer)?;
    // Past the standard output's own buffer, which would keep a copy.
    let out = std::io::stdout();
    let mut left = text.expose().as_slice();
    while !left.is_empty() {
        let written = rustix::io::write(&out, left)?;
        left = &left[written..];
    }
    Ok(())
}

/// Nobody of this uid reads this process, and no core of it is kept: for whatever holds a key for a moment.
///
/// # Errors
/// The system's.
pub fn shut_memory() -> anyhow::Result<()> {
    use rustix::process::{DumpableBehavior, Resource, Rlimit};
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(1), maximum: Some(1) })?;
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// The same, and this process ends with `up`.
fn guard_memory(up: u32) -> anyhow::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    if rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().cast_unsigned()) != Some(up) {
        bail!("the process that started this one is gone");
    }
    shut_memory()
}

/// Reads what [`give`] wrote, to its end. Whoever reads is confined by now.
///
/// # Errors
/// When it is no offer.
pub fn take(pipe: OwnedFd) -> anyhow::Result<KeyOffer> {
    let mut text = Secret::new(vec![0; MAX_OFFER].into_boxed_slice());
    let mut length = 0;
    let mut pipe = File::from(pipe);
    loop {
        match pipe.read(&mut text.expose_mut()[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e).context("read the vault's key from its pipe"),
        }
    }
    if length == 0 {
        bail!("the process that obtains the vault's key ended without a word");
    }
    // Its own words could repeat what it read.
    serde_json::from_slice(&text.expose()[..length]).map_err(|_| anyhow::anyhow!("what came for the vault is no key"))
}

#[cfg(test)]
mod tests;
