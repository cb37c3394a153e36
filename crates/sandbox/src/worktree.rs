//! The worktree: a clean checkout below, the run's own changes above.
//!
//! Lower: a checkout owned by root, shown to the box as its own by an idmapped mount. Upper: a sparse ext4 image
//! per run on a loop device, which is the size and inode limit and survives the box. All of it is mounted in the
//! helper's private namespace and goes with it.
//!
//! Two steps, because a box may wait for its run: [`Worktree::prepare`] mounts what no run is needed for, and
//! [`Worktree::claim`] puts the run's files below it and all of it into the box.

mod blank;
mod device;

pub use blank::reserve;

use crate::harden::HardenedSpec;
use crate::oci::Origin;
use crate::sole::Sole;
use device::attach;
use rustix::fs::{AtFlags, CWD};
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// A worktree: its upper half is mounted; all of it once it is claimed.
#[derive(Debug)]
pub struct Worktree {
    stage: PathBuf,
    /// Shows what root owns as the box's own; none without root, where all is the user's.
    names: Option<OwnedFd>,
    root: bool,
    claimed: bool,
}

/// Where its parts are, as the helper sees them.
#[derive(Debug, Clone)]
pub struct Paths {
    /// The clean checkout; an empty folder when there is none.
    pub lower: PathBuf,
    /// The run's changes.
    pub upper: PathBuf,
    /// Both together: what the box saw.
    pub merged: PathBuf,
}

fn act<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> io::Error {
    let what = what.into();
    move |e| {
        let e = e.into();
        io::Error::new(e.kind(), format!("{what}: {e}"))
    }
}

impl Worktree {
    /// Mounts the upper half of the worktree of `spec`, whose image is `image`, under `stage`, in this process's own
    /// mount namespace.
    ///
    /// # Errors
    /// The system's own, named by act; what was mounted until then is taken down.
    pub fn prepare(stage: &Path, spec: &HardenedSpec, image: &Sole) -> io::Result<Self> {
        let mut new = Self { stage: stage.to_path_buf(), names: None, root: spec.host.root, claimed: false };
        match new.mount_upper(spec, image) {
            Ok(()) => Ok(new),
            Err(e) => {
                // The first error is the one to tell; this namespace ends with the process anyway.
                drop(new.unmount());
                Err(e)
            }
        }
    }

    fn mount_upper(&mut self, spec: &HardenedSpec, image: &Sole) -> io::Result<()> {
        let stage = &self.stage;
        for name in ["disk", "lower", "work"] {
            fs::create_dir(stage.join(name))?;
        }
        if spec.host.root {
            self.mount_image(spec, image)?;
        } else {
            rustix::mount::mount_bind(&spec.upper_image, stage.join("disk")).map_err(act("show the run's folder"))?;
        }
        fresh_git(&stage.join("disk"), spec.uid_inside())?;
        if spec.host.root {
            self.names = Some(id_map(spec.uid)?);
        }
        Ok(())
    }

    /// Puts the run's checkout below, both together, and that into the mount namespace of the box `mounts`, where
    /// nothing but process 1 runs and that waits. Once.
    ///
    /// # Errors
    /// The system's own, named by act; the box has no worktree then, and is to be ended.
    pub fn claim(&mut self, lower: Option<&Path>, mounts: &File) -> io::Result<()> {
        if self.claimed {
            return Err(io::Error::other("the box is claimed already"));
        }
        self.claimed = true;
        match (lower, &self.names) {
            (Some(lower), Some(names)) => self.show_lower(lower, names.as_fd())?,
            (Some(lower), None) => {
                rustix::mount::mount_bind(lower, self.stage.join("lower")).map_err(act("show the checkout"))?;
            }
            (None, _) => {}
        }
        // Relative paths: absolute ones would show the host's folders in the box's mount table.
        rustix::process::chdir(&self.stage)?;
        let (options, full) = if self.root {
            (
                c"lowerdir=lower,upperdir=disk/up,workdir=disk/wk,redirect_dir=on,index=off,metacopy=off",
                c"lowerdir=disk/up:lower,redirect_dir=on,index=off,metacopy=off",
            )
        } else {
            (
                c"lowerdir=lower,upperdir=disk/up,workdir=disk/wk,userxattr,index=off",
                c"lowerdir=disk/up:lower,userxattr,index=off",
            )
        };
        let flags = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOATIME;
        let mut mounted = rustix::mount::mount("worktree", "work", "overlay", flags, options);
        if let Err(rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT) = mounted {
            // Full to its last inode it can be read and not worked on: a box that is to work is told by its reading back.
            mounted = rustix::mount::mount("worktree", "work", "overlay", flags | MountFlags::RDONLY, full);
        }
        mounted.map_err(act("mount the worktree"))?;
        rustix::process::chdir("/")?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = rustix::mount::open_tree(CWD, self.stage.join("work"), flags).map_err(act("open the worktree"))?;
        within(mounts, || {
            let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
            rustix::mount::move_mount(tree.as_fd(), "", CWD, api::inbox::WORKSPACE, empty)
                .map_err(act("put the worktree into the box"))
        })
    }

    fn mount_image(&self, spec: &HardenedSpec, image: &Sole) -> io::Result<()> {
        let stage = &self.stage;
        let device = attach(image.file())?;
        rustix::mount::mount(
            &device.0,
            stage.join("disk"),
            "ext4",
            MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOATIME,
            // Without barriers: mount and unmount need not wait for the host's disk (2 to 40 ms each). The image has no
            // journal, so after a power cut its last changes are not to be counted on either way; a killed process loses none.
            Some(c"barrier=0"),
        )
        .map_err(act("mount the run's image"))?;
        drop(device);
        for name in ["disk/up", "disk/wk"] {
            own_folder(&stage.join(name), spec.uid)?;
        }
        Ok(())
    }

    /// Shows the checkout, which root owns, as the box's own.
    fn show_lower(&self, lower: &Path, names: BorrowedFd<'_>) -> io::Result<()> {
        let tree =
            rustix::mount::open_tree(CWD, lower, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
                .map_err(act("open the checkout"))?;
        set_idmap(tree.as_fd(), names).map_err(act("show the checkout as the box's own (idmapped mount)"))?;
        rustix::mount::move_mount(
            tree.as_fd(),
            "",
            CWD,
            self.stage.join("lower"),
            MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
        )
        .map_err(act("place the checkout"))
    }

    /// Where its parts are.
    #[must_use]
    pub fn paths(&self) -> Paths {
        Paths { lower: self.stage.join("lower"), upper: self.stage.join("disk/up"), merged: self.stage.join("work") }
    }

    /// Takes it all down; the loop device goes with the last mount of it.
    ///
    /// # Errors
    /// The first that could not be taken down.
    pub fn unmount(&self) -> io::Result<()> {
        let mut first = Ok(());
        for name in ["work", "lower", "disk", ""] {
            match rustix::mount::unmount(self.stage.join(name), UnmountFlags::NOFOLLOW) {
                Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
                Err(rustix::io::Errno::BUSY) => {
                    // A mount in it of a box that is just going; it goes with the namespace.
                    rustix::mount::unmount(self.stage.join(name), UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)?;
                }
                Err(e) => first = first.and(Err(act(format!("unmount {name}"))(e))),
            }
        }
        first
    }
}

/// By what a box's worktree is known: the run's checkout below, and what the box makes of it above.
pub(crate) fn origin() -> Origin {
    Origin::Layers { option: "lowerdir=lower".into(), part: "/".into() }
}

/// Does something in another mount namespace, and comes back. This process has one thread.
pub(crate) fn within<T>(namespace: &File, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
    let own = File::open("/proc/self/ns/mnt")?;
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount))
        .map_err(act("enter the other mounts"))?;
    let done = work();
    move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::Mount)).map_err(act("leave the other mounts"))?;
    done
}

/// Makes a folder that belongs to `uid`, if it is not there. It belongs to `uid` only when it is whole: an earlier
/// helper may have been killed between any two of these steps, and nobody else makes a folder at that place.
fn own_folder(path: &Path, uid: u32) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(there) if std::os::unix::fs::MetadataExt::uid(&there) == uid => return Ok(()),
        Ok(_) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => fs::create_dir(path)?,
        Err(e) => return Err(e),
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    chown(path, Some(uid), Some(uid))
}

/// A user namespace whose only use is its map: 0 on disk is `uid` to be seen.
fn id_map(uid: u32) -> io::Result<OwnedFd> {
    let (ready_ours, ready_theirs) = rustix::pipe::pipe()?;
    let (go_theirs, go_ours) = rustix::pipe::pipe()?;
    // SAFETY: this process has one thread; the child makes raw calls only and leaves by `_exit`.
    let child = unsafe { libc::fork() };
    if child < 0 {
        return Err(io::Error::last_os_error());
    }
    if child == 0 {
        // SAFETY: raw calls of the child, as above.
        unsafe {
            libc::close(go_ours.as_raw_fd());
            let ok = libc::unshare(libc::CLONE_NEWUSER) == 0;
            let byte = [u8::from(ok)];
            libc::write(ready_theirs.as_raw_fd(), byte.as_ptr().cast(), 1);
            let mut end = [0u8];
            libc::read(go_theirs.as_raw_fd(), end.as_mut_ptr().cast(), 1);
            libc::_exit(0);
        }
    }
    drop((ready_theirs, go_theirs));
    let made = (|| {
        let mut byte = [0u8];
        if rustix::io::read(&ready_ours, &mut byte)? != 1 || byte[0] != 1 {
            return Err(io::Error::other("no user namespace can be made for an id map"));
        }
        fs::write(format!("/proc/{child}/uid_map"), format!("0 {uid} 1"))?;
        fs::write(format!("/proc/{child}/gid_map"), format!("0 {uid} 1"))?;
        Ok(OwnedFd::from(File::open(format!("/proc/{child}/ns/user"))?))
    })();
    drop(go_ours);
    // SAFETY: collects the child made above.
    unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    made
}

#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}
const MOUNT_ATTR_RDONLY: u64 = 0x1;
const MOUNT_ATTR_NOSUID: u64 = 0x2;
const MOUNT_ATTR_NODEV: u64 = 0x4;
const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;

fn set_idmap(tree: BorrowedFd<'_>, names: BorrowedFd<'_>) -> io::Result<()> {
    let attr = MountAttr {
        set: MOUNT_ATTR_IDMAP | MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
        clear: 0,
        propagation: 0,
        userns: u64::from(names.as_raw_fd().unsigned_abs()),
    };
    // SAFETY: mount_setattr reads one `mount_attr` of the size given, which lives until the call returns.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            AtFlags::EMPTY_PATH.bits(),
            &attr,
            size_of::<MountAttr>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// An empty repository of the box's own, whose one remote is the gateway. The host never runs git on it. It is made
/// beside the upper folder, where no box comes, and placed when it is whole: what a killed helper left is no repository.
///
/// Where there is no room for one there is none: an agent that filled its worktree and removed its repository has what
/// it made, and its changes can be read.
fn fresh_git(disk: &Path, uid: u32) -> io::Result<()> {
    let (git, place) = (disk.join("git"), disk.join("up/.git"));
    if fs::symlink_metadata(&place).is_ok() {
        return Ok(());
    }
    let remove = || match fs::remove_dir_all(&git) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    };
    remove()?;
    match make_git(&git, uid).and_then(|()| fs::rename(&git, place)) {
        Err(e) if matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => remove(),
        made => made,
    }
}

fn make_git(git: &Path, uid: u32) -> io::Result<()> {
    for folder in ["", "objects", "objects/info", "objects/pack", "refs", "refs/heads", "refs/tags", "info"] {
        fs::create_dir(git.join(folder))?;
    }
    fs::write(git.join("HEAD"), "ref: refs/heads/work\n")?;
    let config = format!(
        "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\
         [remote \"origin\"]\n\turl = http://{}/git/origin\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n\
         [user]\n\tname = agent\n\temail = agent@localhost\n",
        api::inbox::DOOR
    );
    fs::write(git.join("config"), config)?;
    let mut open = vec![git.to_path_buf()];
    while let Some(path) = open.pop() {
        std::os::unix::fs::lchown(&path, Some(uid), Some(uid))?;
        if path.is_dir() {
            for entry in fs::read_dir(&path)? {
                open.push(entry?.path());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn what_a_killed_helper_left_half_made_is_made_whole_by_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let up = dir.path().join("up");
        // Nobody but root can give a folder away: then the box's uid is one's own, and the repository is what is left.
        let me = rustix::process::geteuid();
        let uid = if me.is_root() { 4711 } else { me.as_raw() };
        fs::create_dir(&up).unwrap();
        fs::create_dir_all(dir.path().join("git/objects")).unwrap();

        own_folder(&up, uid).unwrap();
        fresh_git(dir.path(), uid).unwrap();

        assert_eq!(fs::metadata(&up).unwrap().uid(), uid, "the worktree is not the box's own");
        for name in ["", "HEAD", "config", "refs/heads"] {
            assert_eq!(fs::metadata(up.join(".git").join(name)).unwrap().uid(), uid, "{name}");
        }
        assert!(!dir.path().join("git").exists());
        // The agent's own from now on, whatever it makes of it.
        fs::remove_dir_all(up.join(".git")).unwrap();
        fs::write(up.join(".git"), "gone").unwrap();
        fs::set_permissions(&up, fs::Permissions::from_mode(0o700)).unwrap();
        own_folder(&up, uid).unwrap();
        fresh_git(dir.path(), uid).unwrap();
        assert_eq!(fs::metadata(&up).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::read_to_string(up.join(".git")).unwrap(), "gone");
    }

    #[test]
    fn a_full_worktree_whose_repository_was_removed_can_still_be_read() {
        if !rustix::process::geteuid().is_root() {
            // Nobody else can mount what is small enough to be full.
            return;
        }
        struct Mounted(tempfile::TempDir);
        impl Drop for Mounted {
            fn drop(&mut self) {
                rustix::mount::unmount(self.0.path(), UnmountFlags::DETACH).unwrap();
            }
        }
        // The folder itself, the upper half, and then none: the repository is met at each of its files.
        for inodes in 2..14 {
            let dir = tempfile::tempdir().unwrap();
            let options = std::ffi::CString::new(format!("size=64k,nr_inodes={inodes}")).unwrap();
            rustix::mount::mount("full", dir.path(), "tmpfs", MountFlags::NOSUID, options.as_c_str()).unwrap();
            let full = Mounted(dir);
            fs::create_dir(full.0.path().join("up")).unwrap();
            fresh_git(full.0.path(), 4711).unwrap();
            let left: Vec<_> = fs::read_dir(full.0.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(left, ["up"], "{inodes} inodes");
            let whole = full.0.path().join("up/.git/config").exists();
            assert_eq!(whole, full.0.path().join("up/.git").exists(), "half a repository, {inodes} inodes");
        }
    }
}
