//! `volary backup FOLDER` and `volary restore FOLDER --home NEW`.
//!
//! A backup is a folder: the database as of one moment, in which every secret is sealed as it is at home; `vault.toml`, which
//! says where the key comes from; the profiles; and the heads that the operator kept, so that the evidence of the copy can be
//! held against them. The key itself is never in it. `backup.toml` goes last: without it a backup is none.

use super::platform;
use crate::client::Client;
use crate::home::Home;
use crate::keys::{self, Config, Source, rotate};
use anyhow::{Context, bail};
use api::vault::VaultView;
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, chown};
use std::path::Path;

const DATABASE: &str = "volary.db";
const LAST: &str = "backup.toml";
const HEADS: &str = "heads";
const PROFILES: &str = "profiles";

/// Longest file beside the database, in bytes.
const MOST: u64 = 64 << 20;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct About {
    /// The version that made it.
    version: String,
    /// When, as people read it.
    made: String,
    /// Id of the key that it opens with.
    key: String,
    /// Where that key came from.
    source: String,
}

/// Makes a backup of `home` into `to`, which must not be there. Runs go on.
///
/// # Errors
/// What hinders it; what was written until then is no backup.
pub async fn backup(home: &Home, to: &Path) -> anyhow::Result<i32> {
    let platform = platform::reach_made(home).await?;
    let Some(_lock) = rotate::lock(home)? else {
        bail!("a rotation of the vault's key or another backup is under way")
    };
    rotate::settle(home, &platform.client).await?;
    fs::DirBuilder::new().mode(0o700).create(to).with_context(|| format!("make the folder {}", to.display()))?;
    database(&platform.client, &to.join(DATABASE)).await?;
    let view: VaultView = platform.client.get("/api/vault").await?;
    copy_if_there(&home.path().join(keys::FILE), &to.join(keys::FILE))?;
    copy_if_there(&home.operator().join(HEADS), &to.join(HEADS))?;
    profiles(&home.profiles(), &to.join(PROFILES))?;
    let made = super::log::when(model::Moment::from(std::time::SystemTime::now()));
    let about = About { version: env!("CARGO_PKG_VERSION").to_owned(), made, key: view.key, source: view.source };
    write(&to.join(LAST), toml::to_string(&about)?.as_bytes())?;
    File::open(to)?.sync_all()?;
    println!(
        "A backup is in {}. Its secrets are sealed with the key {}, from {}.",
        to.display(),
        about.key,
        about.source
    );
    println!("That key is not in it: keep a copy of it, and in another place.");
    Ok(0)
}

async fn database(client: &Client, to: &Path) -> anyhow::Result<()> {
    let mut body = client.stream("/api/backup").await?;
    let mut file = create(to)?;
    while let Some(frame) = body.frame().await {
        // A copy that was cut off is an error of its length.
        if let Some(data) = frame.context("the server broke off")?.data_ref() {
            file.write_all(data).with_context(|| format!("write {}", to.display()))?;
        }
    }
    file.sync_all()?;
    Ok(())
}

fn create(path: &Path) -> anyhow::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.with_context(|| format!("make {}", path.display()))
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut file = create(path)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).with_context(|| format!("write {}", path.display()))
}

/// Copies a plain file; a link is not followed, for a profile's folder is one that the server writes.
fn copy_if_there(from: &Path, to: &Path) -> anyhow::Result<()> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(from) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e).with_context(|| format!("open {}", from.display())),
    };
    let about = file.metadata()?;
    if !about.is_file() || about.len() > MOST {
        bail!("{} is no plain file of at most {} MiB", from.display(), MOST >> 20);
    }
    let mut bytes = Vec::new();
    file.take(MOST).read_to_end(&mut bytes)?;
    write(to, &bytes)
}

fn profiles(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new().mode(0o700).create(to).with_context(|| format!("make {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        if Path::new(&name).extension().is_some_and(|kind| kind == "toml") && entry.file_type()?.is_file() {
            copy_if_there(&entry.path(), &to.join(&name))?;
        }
    }
    Ok(())
}

/// Makes a home of a backup: `home` must not be there yet. Whatever ran when the backup was made has ended, and nobody
/// is signed in; what it needs now is its key, which is said.
///
/// # Errors
/// What is no backup, and a home that is there.
pub fn restore(from: &Path, home: &Home) -> anyhow::Result<i32> {
    let about = fs::read_to_string(from.join(LAST))
        .with_context(|| format!("{} is no backup that was finished: it has no {LAST}", from.display()))?;
    let about: About = toml::from_str(&about).with_context(|| format!("{}", from.join(LAST).display()))?;
    if fs::read_dir(home.path()).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("{} is not empty; a backup is restored into a home of its own: give --home", home.path().display());
    }
    let server = home.uids().0;
    home.make(server)?;
    copy_whole(&from.join(DATABASE), &home.server().join(DATABASE))?;
    copy_if_there(&from.join(keys::FILE), &home.path().join(keys::FILE))?;
    copy_if_there(&from.join(HEADS), &home.operator().join(HEADS))?;
    for entry in fs::read_dir(from.join(PROFILES)).context("read the profiles")? {
        let entry = entry?;
        copy_if_there(&entry.path(), &home.profiles().join(entry.file_name()))?;
    }
    let ended = server::offline::restored(&home.server())?;
    if rustix::process::geteuid().is_root() {
        for entry in fs::read_dir(home.server())? {
            chown(entry?.path(), Some(server), Some(server))?;
        }
        for entry in fs::read_dir(home.profiles())? {
            let path = entry?.path();
            chown(&path, None, Some(server))?;
            fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o664))?;
        }
    }
    println!("{} is a home as of {}, made by version {}.", home.path().display(), about.made, about.version);
    if ended.runs > 0 {
        println!("{} of its runs had not ended when the backup was made; they have now.", ended.runs);
    }
    println!("Its key is not in the backup. {}", bring(home, &about)?);
    Ok(0)
}

fn copy_whole(from: &Path, to: &Path) -> anyhow::Result<()> {
    let mut source = File::open(from).with_context(|| format!("open {}", from.display()))?;
    let mut file = create(to)?;
    std::io::copy(&mut source, &mut file).with_context(|| format!("write {}", to.display()))?;
    file.sync_all()?;
    Ok(())
}

/// What has to be brought, and where to.
fn bring(home: &Home, About { key, source, .. }: &About) -> anyhow::Result<String> {
    Ok(match Config::read(home)?.key.source {
        Source::File(path) => format!(
            "Put the key {key} (it was in {source}) at {}, mode 0600; then `volary up` starts it.",
            home.path().join(path).display()
        ),
        other => format!("Start it by `volary up` where {} gives the key {key}.", other.words(home)),
    })
}
