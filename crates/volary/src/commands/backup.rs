//! `volary backup FOLDER` and `volary restore FOLDER --home NEW`.
//!
//! A backup is a folder: the database as of one moment, in which every secret is sealed as it is at home; `vault.toml`, which
//! says where the key comes from; the profiles and the list of registries beside them; and the heads that the operator kept, so
//! that the evidence of the copy can be held against them. The key itself is never in it. `backup.toml` goes last: without it
//! a backup is none.
//!
//! A restore writes first that it is one, and takes that back last: killed in between, it leaves what nothing starts. The
//! database comes to its place whole, and with what ran when the backup was made ended.
//!
//! Read [`backup`], [`restore`], then [`restored`] (its steps).

use super::platform;
use crate::client::Client;
use crate::home::{Home, RESTORING};
use crate::keys::{self, Config, Source, rotate};
use anyhow::{Context, bail};
use api::vault::VaultView;
use http_body_util::BodyExt;
use serde::{Deserialize, Serialize};
use server::offline::Restored;
use server::profiles::REGISTRIES;
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
    let made = fs::DirBuilder::new().mode(0o700).create(to);
    made.with_context(|| format!("make the folder {} (name one that is not there, in one that is)", to.display()))?;
    database(&platform.client, &to.join(DATABASE)).await?;
    let view: VaultView = platform.client.get("/api/vault").await?;
    copy_if_there(&home.path().join(keys::FILE), &to.join(keys::FILE))?;
    copy_if_there(&home.operator().join(HEADS), &to.join(HEADS))?;
    let copied = to.join(PROFILES);
    fs::DirBuilder::new().mode(0o700).create(&copied).with_context(|| format!("make {}", copied.display()))?;
    profiles(&home.profiles(), &copied)?;
    let made = super::log::when(model::Moment::from(std::time::SystemTime::now()));
    let about = About { version: env!("CARGO_PKG_VERSION").to_owned(), made, key: view.key, source: view.source };
    write(&to.join(LAST), toml::to_string(&about)?.as_bytes())?;
    sync(to)?;
    println!(
        "A backup is in {}. Its secrets are sealed with the key {}, from {}.",
        to.display(),
        about.key,
        about.source
    );
    println!("That key is not in it: keep a copy of it, and in another place.");
    println!(
        "Nor are logs, images, mirrors, what runs changed and nobody has brought home (`volary kept`), options of `volary up`, and \
         files outside the home that vault.toml names."
    );
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

/// Copies what an administrator writes in the folder of profiles; `to` is there.
fn profiles(from: &Path, to: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        let is_one = name == REGISTRIES || Path::new(&name).extension().is_some_and(|kind| kind == "toml");
        if is_one && entry.file_type()?.is_file() {
            copy_if_there(&entry.path(), &to.join(&name))?;
        }
    }
    sync(to)
}

/// What was written into a folder is there after a crash of the machine.
fn sync(folder: &Path) -> anyhow::Result<()> {
    File::open(folder).and_then(|folder| folder.sync_all()).with_context(|| format!("sync {}", folder.display()))
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
    home.is_whole()?;
    if fs::read_dir(home.path()).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("{} is not empty; a backup is restored into a home of its own: give --home", home.path().display());
    }
    let ended = restored(from, home, &mut |_| Ok(()))?;
    println!("{} is a home as of {}, made by version {}.", home.path().display(), about.made, about.version);
    if ended.runs > 0 {
        println!("{} of its runs had not ended when the backup was made; they have now.", ended.runs);
    }
    if ended.connections > 0 {
        println!(
            "{} of its connections were signed in; their tokens stay with the home that the backup was made of: sign in again here.",
            ended.connections
        );
    }
    println!("Its key is not in the backup. {}", bring(home, &about)?);
    Ok(0)
}

/// Makes the home, step by step; after each, `step` is told its name, and an error of it ends the restore right there.
fn restored(
    from: &Path,
    home: &Home,
    step: &mut dyn FnMut(&'static str) -> anyhow::Result<()>,
) -> anyhow::Result<Restored> {
    let server = home.uids().0;
    let mark = home.path().join(RESTORING);
    fs::create_dir_all(home.path()).with_context(|| format!("make the home {}", home.path().display()))?;
    write(&mark, format!("Of the backup {}.\n", from.display()).as_bytes())?;
    sync(home.path())?;
    step("marked")?;
    home.make_folders(server)?;
    copy_if_there(&from.join(keys::FILE), &home.path().join(keys::FILE))?;
    copy_if_there(&from.join(HEADS), &home.operator().join(HEADS))?;
    sync(&home.operator())?;
    profiles(&from.join(PROFILES), &home.profiles())?;
    step("files")?;
    let draft = home.server().join("draft");
    fs::DirBuilder::new().mode(0o700).create(&draft).with_context(|| format!("make {}", draft.display()))?;
    copy_whole(&from.join(DATABASE), &draft.join(DATABASE))?;
    step("copy")?;
    let ended = server::offline::restored(&draft)?;
    File::open(draft.join(DATABASE))?.sync_all()?;
    step("ended")?;
    fs::rename(draft.join(DATABASE), home.server().join(DATABASE)).context("bring the database to its place")?;
    // What the engine left beside it is empty.
    fs::remove_dir_all(&draft).with_context(|| format!("remove {}", draft.display()))?;
    sync(&home.server())?;
    step("placed")?;
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
    step("owned")?;
    fs::remove_file(&mark).with_context(|| format!("remove {}", mark.display()))?;
    sync(home.path())?;
    Ok(ended)
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    const STEPS: [&str; 6] = ["marked", "files", "copy", "ended", "placed", "owned"];

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    /// A backup of a home that was never used.
    fn backup(at: &Path) -> PathBuf {
        let backup = at.join("backup");
        fs::create_dir_all(backup.join(PROFILES)).unwrap();
        runtime().block_on(async {
            let store = store::Store::open(&backup.join(DATABASE)).await.unwrap();
            assert!(store.forget().await.unwrap());
        });
        for (name, text) in [(HEADS, "head"), ("profiles/p.toml", ""), ("profiles/registries.txt", "# none")] {
            fs::write(backup.join(name), text).unwrap();
        }
        backup
    }

    /// Kinds of the records of a home's database, if it has one.
    fn evidence(home: &Home) -> Option<String> {
        let path = home.server().join(DATABASE);
        path.exists().then(|| {
            runtime().block_on(async {
                let store = store::Store::open(&path).await.unwrap();
                let rows = store.evidence(0, 100).await.unwrap();
                rows.iter().map(|row| String::from_utf8_lossy(&row.body).into_owned()).collect()
            })
        })
    }

    #[test]
    fn a_restore_that_is_killed_at_any_step_leaves_no_home_that_starts_and_no_database_in_which_something_goes_on() {
        let dir = tempfile::Builder::new().prefix("volary-r-").tempdir_in("/tmp").unwrap();
        fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
        let from = backup(dir.path());
        let mut seen = Vec::new();
        for killed in STEPS {
            let home = Home::resolve(Some(&dir.path().join(killed))).unwrap();
            let why = restored(&from, &home, &mut |step| {
                seen.push(step);
                if step == killed { bail!("killed") } else { Ok(()) }
            });
            assert_eq!(why.unwrap_err().to_string(), "killed");
            for refused in [home.make(home.uids().0), home.is_whole(), home.is_there()] {
                let why = refused.unwrap_err().to_string();
                assert!(why.contains("has not ended") && why.contains("rm -r"), "{killed}: {why}");
            }
            assert!(evidence(&home).is_none_or(|said| said.contains("vault.restored")), "{killed}");
            assert_eq!(evidence(&home).is_some(), ["placed", "owned"].contains(&killed), "{killed}");
        }
        assert_eq!(seen.last(), Some(&"owned"));

        let home = Home::resolve(Some(&dir.path().join("home"))).unwrap();
        let mut steps = Vec::new();
        restored(&from, &home, &mut |step| {
            steps.push(step);
            Ok(())
        })
        .unwrap();
        assert_eq!(steps, STEPS);
        assert!(evidence(&home).is_some_and(|said| said.contains("vault.restored")));
        home.make(home.uids().0).unwrap();
        for there in ["operator/heads", "profiles/p.toml", "profiles/registries.txt"] {
            assert!(home.path().join(there).exists(), "{there}");
        }
    }
}
