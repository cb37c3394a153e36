//! The home: one folder that holds all of an installation, and the places in it.

use anyhow::{Context, bail};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// Room that a platform needs on its disk before it starts, in MiB: its database, journals and logs begin with a
/// few, and what a run needs is set aside for it when it starts.
const MIN_FREE_MIB: u64 = 32;

/// In a home that is being made of a backup; gone when it is one.
pub const RESTORING: &str = "restoring";

/// Whether nothing is at `path`, as far as one can see.
pub fn is_missing(path: &Path) -> bool {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    fs::metadata(path).is_err_and(|e| matches!(e.kind(), NotFound | NotADirectory))
}

/// An installation's folder.
#[derive(Debug, Clone)]
pub struct Home(PathBuf);

/// Longest path of a Unix socket, with some room for the longest name under `run/`.
const MAX_HOME_BYTES: usize = 80;

impl Home {
    /// The home that a command means: what `--home` says, or the user's own.
    ///
    /// Root's is `/var/lib/volary`, because server and gateway, which run under uids of their own, must be able to reach
    /// it; anyone else's is in his data folder.
    pub fn resolve(given: Option<&Path>) -> anyhow::Result<Self> {
        let path = match given {
            Some(path) => std::path::absolute(path)?,
            None if rustix::process::geteuid().is_root() => PathBuf::from("/var/lib/volary"),
            None => match std::env::var_os("XDG_DATA_HOME").filter(|v| Path::new(v).is_absolute()) {
                Some(data) => PathBuf::from(data).join("volary"),
                None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set; give --home DIR")?)
                    .join(".local/share/volary"),
            },
        };
        if path.as_os_str().len() > MAX_HOME_BYTES {
            bail!(
                "the home {} is too long a path for sockets ({MAX_HOME_BYTES} bytes at most); give a shorter --home",
                path.display()
            );
        }
        if path.to_str().is_none() {
            bail!("the home {} is not UTF-8; give another --home", path.display());
        }
        Ok(Self(path))
    }

    /// Makes the folders, with the owners that their processes need, unless a restore into them did not end.
    pub fn make(&self, server_uid: u32) -> anyhow::Result<()> {
        self.is_whole()?;
        self.make_folders(server_uid)
    }

    /// Refuses a home in which a restore did not end: what ran when its backup was made could begin again.
    pub fn is_whole(&self) -> anyhow::Result<()> {
        if !is_missing(&self.0.join(RESTORING)) {
            bail!(
                "the restore into the home {0} has not ended; if none is under way, remove that folder and restore the backup \
                 again: rm -r {0} && volary restore BACKUP --home {0}",
                self.0.display()
            );
        }
        Ok(())
    }

    /// As [`Home::make`], also of one that is being restored.
    pub fn make_folders(&self, server_uid: u32) -> anyhow::Result<()> {
        let root = rustix::process::geteuid().is_root();
        self.has_room()?;
        if !self.0.exists() {
            fs::create_dir_all(&self.0).with_context(|| format!("make the home {}", self.0.display()))?;
        }
        self.is_safe()?;
        self.is_ours()?;
        let owner = fs::metadata(&self.0)?.uid();
        if owner != rustix::process::geteuid().as_raw() {
            bail!(
                "the home {} belongs to uid {owner}, not to you (uid {}); run as its owner, or give another --home",
                self.0.display(),
                rustix::process::geteuid().as_raw()
            );
        }
        if root {
            for folder in self.0.ancestors().skip(1) {
                if fs::metadata(folder)?.mode() & 0o001 == 0 {
                    bail!(
                        "the home {} lies under {}, which only its owner can enter; server and gateway run under uids of \
                         their own and could not reach it: give --home under a folder that all may enter, such as \
                         /var/lib/volary",
                        self.0.display(),
                        folder.display()
                    );
                }
            }
        }
        let folders: [(&str, u32, Option<u32>); 7] = [
            ("", 0o711, None),
            ("server", 0o700, Some(server_uid)),
            ("operator", 0o700, None),
            ("profiles", 0o755, None),
            ("run", 0o711, None),
            ("log", 0o700, None),
            ("keys", 0o700, None),
        ];
        for (name, mode, uid) in folders {
            let path = if name.is_empty() { self.0.clone() } else { self.0.join(name) };
            if !path.exists() {
                fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
            }
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
            if let (true, Some(uid)) = (root, uid) {
                chown(&path, Some(uid), Some(uid))?;
            }
        }
        if root {
            // The server writes there what a person accepted; its Landlock layer says what else it may do there: nothing.
            let profiles = self.profiles();
            chown(&profiles, None, Some(server_uid))?;
            fs::set_permissions(&profiles, fs::Permissions::from_mode(0o775))?;
        }
        Ok(())
    }

    /// Refuses a home that was never made, or not whole: whoever only looks at one makes none.
    pub fn is_there(&self) -> anyhow::Result<()> {
        self.is_whole()?;
        if is_missing(&self.server()) {
            bail!(
                "there is no home at {}; `volary up` makes one, as does `volary run`, or give another --home",
                self.0.display()
            );
        }
        Ok(())
    }

    /// Refuses a home that somebody else could put another in the place of.
    fn is_safe(&self) -> anyhow::Result<()> {
        if fs::symlink_metadata(&self.0)?.is_symlink() {
            bail!("the home {} is a link; give the folder that it leads to", self.0.display());
        }
        let own = rustix::process::geteuid().as_raw();
        for folder in fs::canonicalize(&self.0)?.ancestors().skip(1) {
            let about = fs::metadata(folder)?;
            // A user's own folders are often writable by his own group; root's are not.
            let others = if own == 0 { 0o022 } else { 0o002 };
            let others_write = about.mode() & others != 0 && about.mode() & 0o1000 == 0;
            if others_write || (about.uid() != 0 && about.uid() != own) {
                bail!(
                    "the home {} lies under {}, where uid {} or others may put something else in its place; give --home \
                     under a folder that only root or you may write",
                    self.0.display(),
                    folder.display(),
                    about.uid()
                );
            }
        }
        Ok(())
    }

    /// Refuses a folder that holds anything but a home's own: its modes and owners would be changed.
    fn is_ours(&self) -> anyhow::Result<()> {
        const OURS: [&str; 9] =
            ["server", "operator", "mirrors", "profiles", "run", "log", "keys", crate::keys::FILE, RESTORING];
        for entry in fs::read_dir(&self.0).with_context(|| format!("look into the home {}", self.0.display()))? {
            let name = entry?.file_name();
            if !OURS.iter().any(|ours| name == *ours) {
                bail!(
                    "the folder {} is no home: it holds {:?}; give --home a folder of its own (it is made if it is not there)",
                    self.0.display(),
                    name
                );
            }
        }
        Ok(())
    }

    /// Refuses a disk that is full, before anything on it is half written.
    fn has_room(&self) -> anyhow::Result<()> {
        let there = self.0.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
        let disk = rustix::fs::statvfs(there).with_context(|| format!("look at the disk of {}", there.display()))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize) >> 20;
        if free < MIN_FREE_MIB {
            bail!(
                "the disk that holds the home {} has {free} MiB free; the platform needs {MIN_FREE_MIB}: free some space, \
                 or give another --home",
                self.0.display()
            );
        }
        Ok(())
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }
    /// The server's own.
    pub fn server(&self) -> PathBuf {
        self.0.join("server")
    }
    /// The operator's own.
    pub fn operator(&self) -> PathBuf {
        self.0.join("operator")
    }
    /// Profiles, one TOML file each.
    pub fn profiles(&self) -> PathBuf {
        self.0.join("profiles")
    }
    /// The vault's keys, where they are files of the home's own: no process of the platform reads it once it is up.
    pub fn keys(&self) -> PathBuf {
        self.0.join("keys")
    }
    /// A socket or a state file of the running platform.
    pub fn run(&self, name: &str) -> PathBuf {
        self.0.join("run").join(name)
    }

    /// A short stable name of this installation, for cgroups and uids: 8 characters of base 32.
    pub fn label(&self) -> String {
        let mut label = model::id::base32(&self.digest().to_be_bytes()[..5]);
        label.truncate(8);
        label
    }

    /// The uids of server and gateway, when root: two of a range that no one allocates, told apart by home.
    pub fn uids(&self) -> (u32, u32) {
        let base = 0x6800_0000 + (u32::try_from(self.digest() & 0x00ff_ffff).unwrap_or(0) << 1);
        (base, base + 1)
    }

    fn digest(&self) -> u64 {
        use std::os::unix::ffi::OsStrExt;
        let bytes = self.0.as_os_str().as_bytes();
        bytes.iter().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3))
    }
}
