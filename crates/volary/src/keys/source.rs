//! How a key is had from each kind of source. A key is 64 hex digits; nothing here shows one, in no error either.

use super::transit;
use crate::home::Home;
use anyhow::{Context, bail};
use model::Secret;
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Digits of a key.
const DIGITS: usize = 64;

/// Longest text that a key is looked for in, in bytes: its digits and white space.
const MAX_TEXT: usize = 1024;

/// Longest that a command or a KMS may take, in seconds. Both keys of a rotation fit into what a start waits.
pub const SECS: u64 = 15;

/// Where names of the environment are looked up.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Where a key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A file that nobody but its owner may read; a path that is not absolute is one of the home's own.
    File(PathBuf),
    /// A variable of `up`'s environment.
    Env(String),
    /// A credential that systemd gives the service: `$CREDENTIALS_DIRECTORY/NAME`.
    Credential(String),
    /// The first line of what a program prints.
    Command(Vec<String>),
    /// A KMS that decrypts it.
    Transit(Transit),
}

/// A transit engine in the style of OpenBao: the key stands in `vault.toml`, encrypted by a key that never leaves the KMS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Transit {
    /// `https://HOST[:PORT]`; `http` for a host of loopback alone.
    pub address: String,
    /// The engine's name of its key.
    pub key: String,
    /// A file with the token, which nobody but its owner may read.
    pub token_file: PathBuf,
    /// Where the engine is mounted.
    #[serde(default = "usual_mount")]
    pub mount: String,
    /// A namespace of the KMS: 1 to 256 printable ASCII characters, without spaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// A file of certificate authorities in PEM, beside those of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Our key as the KMS encrypted it. A rotation writes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ciphertext: Option<String>,
}

fn usual_mount() -> String {
    "transit".to_owned()
}

/// A name that stands in a path or a variable as it is.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 128
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
        && !text.starts_with('.')
}

impl Source {
    /// Refuses what cannot be a source.
    ///
    /// # Errors
    /// What is wrong, and what it takes.
    pub fn check(&self) -> anyhow::Result<()> {
        let absolute = |what: &str, path: &Path| match path.is_absolute() {
            true => Ok(()),
            false => Err(anyhow::anyhow!("{what} {} is no absolute path", path.display())),
        };
        match self {
            Self::File(path) if path.starts_with("keys") && path.components().count() == 2 => Ok(()),
            Self::File(path) => absolute("file", path),
            Self::Env(name) if is_name(name) && !name.contains(['-', '.']) => Ok(()),
            Self::Env(name) => bail!("env {name:?} is no name of a variable: letters, digits and '_'"),
            Self::Credential(name) if is_name(name) => Ok(()),
            Self::Credential(name) => bail!("credential {name:?} is no name: letters, digits, '_', '-' and '.'"),
            Self::Command(argv) => match argv.first() {
                Some(program) => absolute("the program of command", Path::new(program)),
                None => bail!("command is empty: it takes a list, the program by its absolute path and its arguments"),
            },
            Self::Transit(transit) => {
                absolute("token-file", &transit.token_file)?;
                transit.ca.as_deref().map_or(Ok(()), |ca| absolute("ca", ca))?;
                if !is_name(&transit.key) || !transit.mount.split('/').all(is_name) {
                    bail!("key and mount of transit are names: letters, digits, '_', '-' and '.'");
                }
                let is_plain =
                    |text: &String| (1..=256).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
                if !transit.namespace.as_ref().is_none_or(is_plain) {
                    bail!(
                        "namespace of transit stands in a header: 1 to 256 printable ASCII characters, without spaces"
                    );
                }
                transit::address(transit).map(drop)
            }
        }
    }

    /// In words, for people and records: where, never what.
    pub fn words(&self, home: &Home) -> String {
        match self {
            Self::File(path) => format!("the file {}", home.path().join(path).display()),
            Self::Env(name) => format!("the variable {name}"),
            Self::Credential(name) => format!("the systemd credential {name}"),
            Self::Command(argv) => format!("the command {}", argv.first().map_or("", String::as_str)),
            Self::Transit(transit) => format!("the key {} of the KMS at {}", transit.key, transit.address),
        }
    }

    /// Obtains the key.
    ///
    /// # Errors
    /// Why it could not be had, and what to do; nothing of what was read.
    pub fn obtain(&self, home: &Home, environment: Environment<'_>) -> anyhow::Result<Secret<String>> {
        let text = match self {
            Self::File(path) => {
                let path = home.path().join(path);
                read(&path, 0o077, home.uids().0).with_context(|| format!("the key file {}", path.display()))?
            }
            Self::Env(name) => {
                let value = environment(name).with_context(|| {
                    format!("the variable {name} is not set where `volary up` runs; the vault's key is expected there")
                })?;
                let value = value.into_string().map_err(|_| anyhow::anyhow!("the variable {name} is not UTF-8"))?;
                Secret::new(value)
            }
            Self::Credential(name) => {
                let folder = environment("CREDENTIALS_DIRECTORY").with_context(|| {
                    format!(
                        "CREDENTIALS_DIRECTORY is not set where `volary up` runs; give the service a line \
                         LoadCredentialEncrypted={name}:… and start it by systemd"
                    )
                })?;
                let path = PathBuf::from(folder).join(name);
                // For a service of another user systemd grants reading by an access list, which shows as the group's mode.
                read(&path, 0o007, home.uids().0)
                    .with_context(|| format!("the systemd credential {}", path.display()))?
            }
            Self::Command(argv) => run(argv).with_context(|| format!("the command {}", argv[0]))?,
            Self::Transit(transit) => {
                transit::decrypt(transit, home.uids().0).with_context(|| format!("the KMS at {}", transit.address))?
            }
        };
        let key = Secret::new(text.expose().trim().to_owned());
        let is_key = key.expose().len() == DIGITS && key.expose().bytes().all(|b| b.is_ascii_hexdigit());
        if !is_key {
            bail!("{} gives no key: it is {DIGITS} hex digits (openssl rand -hex 32)", self.words(home));
        }
        Ok(key)
    }

    /// What can be said of it without obtaining anything: whether a start would find it.
    ///
    /// # Errors
    /// What is missing.
    pub fn look(&self, home: &Home) -> anyhow::Result<()> {
        // Opened as a start opens it, and not read.
        let ours = |path: &Path, what: &str| match open(path, 0o077, home.uids().0) {
            Ok(_) => Ok(()),
            Err(e) => Err(e.context(format!("{what} {}", path.display()))),
        };
        match self {
            Self::File(path) => ours(&home.path().join(path), "the key file"),
            Self::Env(_) | Self::Credential(_) => Ok(()),
            Self::Command(argv) if Path::new(&argv[0]).exists() => Ok(()),
            Self::Command(argv) => bail!("the program {} is not there", argv[0]),
            Self::Transit(transit) => {
                if transit.ciphertext.is_none() {
                    bail!("transit has no ciphertext; `volary vault rotate --to` writes it");
                }
                ours(&transit.token_file, "the token file")
            }
        }
    }
}

/// A new key, from the system's randomness.
///
/// # Errors
/// A system that gives none.
pub fn generate() -> anyhow::Result<Secret<String>> {
    let mut key = Secret::new(vec![0; DIGITS / 2]);
    let got = rustix::rand::getrandom(key.expose_mut().as_mut_slice(), rustix::rand::GetRandomFlags::empty())?;
    if got != DIGITS / 2 {
        bail!("the system gave {got} random bytes of {}", DIGITS / 2);
    }
    let mut text = Secret::new(String::with_capacity(DIGITS));
    for digit in key.expose().iter().flat_map(|byte| [byte >> 4, byte & 15]) {
        text.expose_mut().push(char::from(b"0123456789abcdef"[usize::from(digit)]));
    }
    Ok(text)
}

/// Reads a small file that nobody but root, this account or the server may own, and nobody else may read.
pub fn read(path: &Path, shut: u32, server: u32) -> anyhow::Result<Secret<String>> {
    text(open(path, shut, server)?)
}

/// The same, and not read yet.
fn open(path: &Path, shut: u32, server: u32) -> anyhow::Result<File> {
    // A link here is somebody's trick, and a pipe would hold up the platform's start.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            bail!("is missing; what is kept under it stays closed until it is put back")
        }
        Err(e) if e.raw_os_error() == Some(libc::ELOOP) => bail!("is a link, which is not followed"),
        Err(e) => return Err(e.into()),
    };
    let known = file.metadata()?;
    let own = rustix::process::geteuid().as_raw();
    if !known.is_file() {
        bail!("is no file");
    }
    if known.mode() & shut != 0 {
        bail!("may be read by others (mode {:03o}); make it yours alone: chmod 600", known.mode() & 0o777);
    }
    if ![0, own, server].contains(&known.uid()) {
        bail!("belongs to another account (uid {})", known.uid());
    }
    Ok(file)
}

/// The whole of a small text. Room for all of it is there at once: a text that grew would leave copies of its beginning.
fn text(from: impl Read) -> anyhow::Result<Secret<String>> {
    let mut bytes = Secret::new(Vec::with_capacity(MAX_TEXT + 1));
    from.take(MAX_TEXT as u64 + 1).read_to_end(bytes.expose_mut())?;
    if bytes.expose().len() > MAX_TEXT {
        bail!("holds more than a key");
    }
    let text = std::str::from_utf8(bytes.expose()).map_err(|_| anyhow::anyhow!("is not UTF-8"))?;
    Ok(Secret::new(text.to_owned()))
}

/// Runs a program with next to no environment, for so long and so much output, and ends whatever it started.
fn run(argv: &[String]) -> anyhow::Result<Secret<String>> {
    let mut command = Command::new(&argv[0]);
    command.args(&argv[1..]).env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin").env("LC_ALL", "C");
    // What it says on its standard error may be the key as well; whoever sets it up runs it by hand.
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
    // SAFETY: one plain system call, which allocates nothing.
    unsafe {
        command.pre_exec(|| {
            // Killed, this process cannot end it: then the kernel does.
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            Ok(())
        });
    }
    let mut child = command.spawn().context("cannot be started")?;
    let group = Pid::from_child(&child);
    let out = child.stdout.take().context("has no standard output")?;
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // Nobody waits any more: it took too long.
        drop(tell.send(text(out)));
    });
    let end = Instant::now() + Duration::from_secs(SECS);
    let said = told.recv_timeout(Duration::from_secs(SECS));
    let status = loop {
        match child.try_wait()? {
            Some(status) => break Some(status),
            None if said.is_err() || Instant::now() >= end => break None,
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    // Itself, if it goes on, and what it left behind.
    match rustix::process::kill_process_group(group, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(e) => return Err(e).context("cannot be ended"),
    }
    let Some(status) = status else {
        child.wait()?;
        bail!("took longer than {SECS} s and was ended");
    };
    // First what it said: one that says too much is ended by that.
    let text = said.map_err(|_| anyhow::anyhow!("took longer than {SECS} s"))??;
    if !status.success() {
        bail!("ended with {status}; run it by hand to see what it says");
    }
    Ok(text)
}
