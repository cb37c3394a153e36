//! Temporary folders of one test's own, so that what a platform leaves there, or makes there for a moment, is seen.

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount};
use std::collections::BTreeSet;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where programs make temporary files when nobody says another place.
const FOLDERS: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];

/// How the names begin that this crate and the tests themselves make there.
const OWN: [&str; 4] = [".tmp", "volary-t-", "volary-r-", "volary-f-"];

/// Empty folders in the place of the host's temporary ones, for one test and whatever it starts.
///
/// To be made before anything else of the test, so that it goes after it.
pub struct Temporary {
    /// The covered folders, and what lies over each.
    covered: Vec<(PathBuf, OwnedFd)>,
    watch: OwnedFd,
    // Held for its drop, when nothing covers it any more.
    _all: tempfile::TempDir,
}

impl Temporary {
    /// Puts this thread, and whatever it starts from now on, where these folders are empty. `program` stays where it
    /// is, also below one of them.
    ///
    /// # Panics
    /// When this is not root.
    #[must_use]
    pub fn enter(program: &str) -> Self {
        let all = tempfile::Builder::new().prefix("volary-h-").tempdir().expect("a folder");
        let program = Path::new(program).parent().expect("a program lies in a folder");
        // SAFETY: it changes which mounts this thread sees, and no memory.
        unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }.expect("mounts of our own");
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).expect("and they stay here");
        // Opened in these mounts: one of others cannot be shown here.
        let programs = open(program);
        let mut places = FOLDERS.map(PathBuf::from).to_vec();
        let named = std::env::temp_dir();
        if !places.contains(&named) {
            places.push(named);
        }
        let folders: Vec<OwnedFd> = (0..places.len())
            .map(|n| {
                let folder = all.path().join(n.to_string());
                std::fs::create_dir(&folder).expect("a folder");
                std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o1777)).expect("its mode");
                open(&folder)
            })
            .collect();
        let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).expect("a watch");
        let mut own = Self { covered: Vec::new(), watch, _all: all };
        for (place, folder) in places.into_iter().zip(folders) {
            // The one that the environment names may lie below another.
            std::fs::create_dir_all(&place).expect("a folder");
            mount_bind(way(&folder), &place).expect("a folder is covered");
            own.covered.push((place, folder));
        }
        if own.covered.iter().any(|(place, _)| program.starts_with(place)) {
            std::fs::create_dir_all(program).expect("a folder");
            mount_bind(way(&programs), program).expect("the programs are where they were");
        }
        for (_, folder) in &own.covered {
            let of = WatchFlags::CREATE | WatchFlags::MOVED_TO;
            inotify::add_watch(&own.watch, way(folder), of).expect("it is watched");
        }
        own
    }

    /// The folders as they can be searched: without what is mounted in them.
    #[must_use]
    pub fn folders(&self) -> Vec<PathBuf> {
        self.covered.iter().map(|(_, folder)| way(folder).join(".")).collect()
    }

    /// The names that anyone but a test made directly in them since this was asked last, also of what is gone already.
    ///
    /// # Panics
    /// When more was made than the kernel told.
    #[must_use]
    pub fn made(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        let mut space = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.watch, &mut space);
        loop {
            match reader.next() {
                Err(rustix::io::Errno::AGAIN) => break,
                Err(error) => panic!("the watch: {error}"),
                Ok(event) => {
                    assert!(!event.events().contains(ReadFlags::QUEUE_OVERFLOW), "more was made than is told");
                    names.extend(event.file_name().map(|name| name.to_string_lossy().into_owned()));
                }
            }
        }
        names.retain(|name| !OWN.iter().any(|own| name.starts_with(own)));
        names
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        for (place, _) in self.covered.iter().rev() {
            if let Err(error) = unmount(place, UnmountFlags::DETACH) {
                // The folder stays behind then, and nothing else does.
                eprintln!("uncovering {}: {error}", place.display());
            }
        }
    }
}

fn open(folder: &Path) -> OwnedFd {
    std::fs::File::open(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())).into()
}

/// A path to an open folder, which no mount covers; of this very process, for programs that it starts.
fn way(folder: &OwnedFd) -> PathBuf {
    format!("/proc/{}/fd/{}", std::process::id(), folder.as_raw_fd()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_in_a_temporary_folder_is_told_also_when_it_is_gone_and_nothing_of_it_reaches_the_hosts() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let name = format!("volary-temporary-{}", std::process::id());
        {
            let own = Temporary::enter(std::env::current_exe().unwrap().to_str().unwrap());
            assert!(own.made().is_empty() && std::env::current_exe().unwrap().exists());
            for folder in FOLDERS {
                let file = Path::new(folder).join(&name);
                std::fs::write(&file, "x").unwrap();
                assert_eq!(own.made(), BTreeSet::from([name.clone()]), "{folder}");
                let kept = own.folders().iter().filter(|folder| folder.join(&name).exists()).count();
                assert_eq!(kept, 1, "{folder}");
                std::fs::remove_file(&file).unwrap();
            }
            drop(tempfile::tempdir().unwrap());
            assert!(own.made().is_empty(), "a test's own");
            std::fs::write(Path::new("/tmp").join(&name), "x").unwrap();
        }
        assert!(FOLDERS.iter().all(|folder| !Path::new(folder).join(&name).exists()));
    }
}
