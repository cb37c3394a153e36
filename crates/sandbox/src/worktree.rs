//! The worktree: a clean checkout below, the run's own changes above.
//!
//! Lower: a checkout owned by root, shown to the box as its own by an idmapped mount. Upper: a sparse ext4 image
//! per run on a loop device, which is the size and inode limit and survives the box. All of it is mounted in the
//! helper's private namespace and goes with it.
//!
//! Two steps, because a box may wait for its run: [`Worktree::prepare`] mounts what no run is needed for, and
//! [`Worktree::claim`] puts the run's files below it and all of it into the box.

use crate::embedded::BoxError;
use crate::harden::HardenedSpec;
use crate::sole::Sole;
use rustix::fs::{AtFlags, CWD, Mode};
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes the host's disk keeps free beside every image.
const SPARE: u64 = 64 << 20;
/// Bytes of image for each inode.
const BYTES_PER_INODE: u64 = 4096;

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

/// Makes the run's image if it is not there, after making sure that the disk can hold all of it. `blanks` is a folder
/// of the operator's own, on the same disk.
///
/// A sparse image behind a full disk gives I/O errors in the middle of a run; so what is free is compared first.
///
/// # Errors
/// [`BoxError::Helper`] with what is free and what is needed; [`BoxError::Host`].
pub fn reserve(image: &Path, blanks: &Path, mib: u64, root: bool) -> Result<(), BoxError> {
    let host = |act: String| move |cause: io::Error| BoxError::Host { act, cause };
    let folder = image.parent().unwrap_or(Path::new("/"));
    let bytes = mib << 20;
    let held = fs::metadata(image).map(|m| std::os::unix::fs::MetadataExt::blocks(&m) * 512).unwrap_or(0);
    let stat = rustix::fs::statvfs(folder).map_err(|e| host(format!("look at {}", folder.display()))(e.into()))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let need = bytes.saturating_sub(held).saturating_add(SPARE);
    if free < need {
        return Err(BoxError::Helper(format!(
            "the disk that holds {} has {} MiB free and this profile needs {} MiB (worktree-mib = {mib}); \
             free some space, or lower worktree-mib in the profile",
            folder.display(),
            free >> 20,
            need.div_ceil(1 << 20),
        )));
    }
    if image.exists() {
        return Ok(());
    }
    if !root {
        // No loop device without root: a plain folder, which the helper weighs, and `reach` says so.
        for name in ["", "up", "wk"] {
            let path = image.join(name);
            fs::create_dir(&path).map_err(host(format!("make {}", path.display())))?;
        }
        return Ok(());
    }
    let draft = image.with_extension("draft");
    let blank = blank(blanks, mib)?;
    copy_data(&blank, &draft, bytes).map_err(host(format!("copy {} to {}", blank.display(), draft.display())))?;
    fs::rename(&draft, image).map_err(host(format!("place {}", image.display())))
}

/// A file system of `mib` MiB with nothing in it, made once for each size and then only copied: it holds some
/// hundred kilobytes, and making one takes a hundred times as long.
fn blank(blanks: &Path, mib: u64) -> Result<PathBuf, BoxError> {
    static DRAFTS: AtomicU64 = AtomicU64::new(0);
    let host = |act: String| move |cause: io::Error| BoxError::Host { act, cause };
    let blank = blanks.join(format!("blank1-{mib}.img"));
    if blank.exists() {
        return Ok(blank);
    }
    // Boxes are made at the same time; each maker has a draft of its own and the last one stands.
    let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
    let draft = blanks.join(format!("blank1-{mib}.{}-{number}.draft", std::process::id()));
    let file = create(&draft).map_err(host(format!("make {}", draft.display())))?;
    file.set_len(mib << 20).map_err(host(format!("size {}", draft.display())))?;
    let inodes = ((mib << 20) / BYTES_PER_INODE).max(1024).to_string();
    let made = Command::new("mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-m", "0", "-O", "^has_journal,^resize_inode"])
        .args(["-E", "lazy_itable_init=1,nodiscard", "-N", &inodes])
        .arg(&draft)
        .env_clear()
        .env("PATH", crate::doctor::MKE2FS_PATH)
        .stdin(Stdio::null())
        .output()
        .map_err(|cause| BoxError::Host {
            act: "run mke2fs (install the package e2fsprogs if it is missing)".into(),
            cause,
        })?;
    if !made.status.success() {
        return Err(BoxError::Helper(format!("mke2fs: {}", String::from_utf8_lossy(&made.stderr).trim())));
    }
    // Durable before it has its name: half a blank would spoil every later box.
    file.sync_all().map_err(host(format!("keep {}", draft.display())))?;
    fs::rename(&draft, &blank).map_err(host(format!("place {}", blank.display())))?;
    Ok(blank)
}

fn create(path: &Path) -> io::Result<File> {
    fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// Copies a file of `bytes` bytes with its holes.
fn copy_data(from: &Path, to: &Path, bytes: u64) -> io::Result<()> {
    let (from, to) = (File::open(from)?, create(to)?);
    to.set_len(bytes)?;
    let mut buffer = vec![0; 1 << 16];
    let mut at = 0;
    loop {
        let data = match rustix::fs::seek(&from, rustix::fs::SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(rustix::io::Errno::NXIO) => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        let hole = rustix::fs::seek(&from, rustix::fs::SeekFrom::Hole(data))?;
        at = data;
        while at < hole {
            let most = usize::try_from(hole - at).unwrap_or(usize::MAX).min(buffer.len());
            from.read_exact_at(&mut buffer[..most], at)?;
            to.write_all_at(&buffer[..most], at)?;
            at += most as u64;
        }
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

/// A loop device that detaches itself with its last user; held open until it is mounted.
struct Loop(PathBuf, #[allow(dead_code, reason = "held open so that autoclear waits for the mount")] File);

/// `struct loop_info64` and `struct loop_config` of `linux/loop.h`, as far as their sizes matter.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: [u64; 29],
    reserved: [u64; 8],
}
const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// The device holds `backing` itself, and with it whatever lock it carries, until it is detached.
fn attach(backing: &File) -> io::Result<Loop> {
    let control = File::options()
        .read(true)
        .write(true)
        .open("/dev/loop-control")
        .map_err(act("open /dev/loop-control (load the kernel module loop)"))?;
    for _ in 0..64 {
        // SAFETY: this ioctl takes no argument and returns a number.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
        if number < 0 {
            return Err(act("find a free loop device")(io::Error::last_os_error()));
        }
        let path = PathBuf::from(format!("/dev/loop{number}"));
        if !path.exists() {
            rustix::fs::mknodat(
                CWD,
                &path,
                rustix::fs::FileType::BlockDevice,
                Mode::from_raw_mode(0o600),
                rustix::fs::makedev(7, number.unsigned_abs()),
            )
            .or_else(|e| if e == rustix::io::Errno::EXIST { Ok(()) } else { Err(e) })?;
        }
        let device = File::options().read(true).write(true).open(&path)?;
        let mut config =
            LoopConfig { fd: backing.as_raw_fd().unsigned_abs(), block_size: 0, info: [0; 29], reserved: [0; 8] };
        // loop_info64: five u64 and five u32, of which the last but one pair starts at u64 index 6: lo_encrypt_key_size, lo_flags.
        config.info[6] = u64::from(LO_FLAGS_AUTOCLEAR) << 32;
        // SAFETY: LOOP_CONFIGURE reads one `loop_config` (304 bytes), which lives until the call returns.
        if unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &config) } == 0 {
            return Ok(Loop(path, device));
        }
        let e = io::Error::last_os_error();
        // Another helper was faster.
        if e.raw_os_error() != Some(libc::EBUSY) {
            return Err(act("attach the run's image")(e));
        }
    }
    Err(io::Error::other("no loop device stayed free long enough; too many boxes are being made at once"))
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

    #[test]
    fn an_image_is_held_by_its_loop_device_also_when_its_helper_is_gone() {
        if !rustix::process::geteuid().is_root() {
            // Without root there is no loop device, and the worktree is a folder.
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        fs::write(&image, [0; 1 << 16]).unwrap();
        let sole = Sole::take(&image).unwrap();
        let device = attach(sole.file()).unwrap();
        drop(sole);
        let second = Sole::take_within(&image, std::time::Duration::ZERO).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::TimedOut);
        drop(device);
        drop(Sole::take(&image).unwrap());
    }

    #[test]
    fn a_copied_image_holds_the_same_bytes_and_the_same_holes() {
        const BYTES: u64 = 64 << 20;
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let file = create(&from).unwrap();
        file.set_len(BYTES).unwrap();
        // Longer than the buffer, and one at the very end.
        file.write_all_at(&[7; 200_000], 5 << 20).unwrap();
        file.write_all_at(b"end", BYTES - 3).unwrap();
        copy_data(&from, &to, BYTES).unwrap();
        assert!(fs::read(&from).unwrap() == fs::read(&to).unwrap(), "other bytes");
        assert!(fs::metadata(&to).unwrap().blocks() * 512 < 1 << 20, "the holes were filled");
    }
}
