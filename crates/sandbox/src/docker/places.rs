//! Whose mounts are where: the helper's, the host's for a moment, the box's.
//!
//! The daemon binds only what its own mount namespace shows. So the box's files are shown in the host's for as long
//! as the start takes, and taken away again; the box's own namespace keeps them. A helper that is killed in that
//! moment leaves a mount, which whoever collects it takes away ([`hide`]).

use crate::harden::HardenedSpec;
use crate::helper::act;
use crate::layers::{self, Layers};
use crate::oci::{self, Mount};
use crate::worktree::within;
use api::inbox::{BEARERS, WORKSPACE};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What every box of Docker's finds bound beside [`oci::OWN_FILES`]: without it the daemon brings the host's.
const RESOLVER: &str = "/etc/resolv.conf";
/// What the daemon mounts and no box has: the empty folder that keeps the worktree's place goes before a worktree comes.
const SURPLUS: [&str; 2] = ["/sys", WORKSPACE];

/// Every mount of the box but its root, in order; `place` is where the box's files are shown.
pub fn mounts(place: &Path, spec: &HardenedSpec) -> Vec<Mount> {
    let mut all = oci::mounts(place, spec);
    if spec.image.is_some() {
        // It brings its own system.
        all.retain(|mount| !oci::is_of_the_host(&mount.point));
    }
    all.extend(own_files(spec).map(|(point, _)| Mount::own(&place.join(file_name(point)), point)));
    all
}

/// Its own files, with what stands in them.
pub fn own_files(spec: &HardenedSpec) -> impl Iterator<Item = (&'static str, String)> {
    oci::own_files(spec).into_iter().chain([(RESOLVER, String::new())])
}

/// A name without folders for each of the box's own files.
fn file_name(point: &str) -> String {
    point.trim_start_matches('/').replace('/', "-")
}

/// Writes the box's own files to the stage and mounts the layers of the system there, beside an empty folder that keeps the worktree's place.
pub fn write_own(stage: &Path, spec: &HardenedSpec) -> io::Result<()> {
    let own = stage.join("own");
    fs::create_dir(&own)?;
    fs::create_dir(own.join("work"))?;
    Layers::of(spec, &own.join(layers::FOLDER)).mount(stage, &spec.host.dir, spec.host.root)?;
    for (point, text) in own_files(spec) {
        let file = own.join(file_name(point));
        fs::write(&file, text)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644))?;
    }
    Ok(())
}

/// Shows the box's files at `place` of the host.
pub fn show(host: &File, stage: &Path, place: &Path) -> io::Result<()> {
    // The layers of the system lie in it.
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_RECURSIVE;
    let own = rustix::mount::open_tree(CWD, stage.join("own"), flags);
    let own = own.map_err(|e| act("open the box's files")(e.into()))?;
    within(host, || {
        fs::create_dir_all(place)?;
        rustix::mount::move_mount(own.as_fd(), "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(|e| act("show the box's files to the daemon")(e.into()))
    })
}

/// Takes them away from the host again.
pub fn hide_from(host: &File, place: &Path) -> io::Result<()> {
    within(host, || hide(place))
}

/// Takes away what is shown at `place` of this mount namespace, and the place.
pub fn hide(place: &Path) -> io::Result<()> {
    use rustix::io::Errno;
    match rustix::mount::unmount(place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
        Err(e) => return Err(act("hide the box's files")(e.into())),
    }
    match fs::remove_dir(place) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(act("remove the place of the box's files")(e)),
        _ => Ok(()),
    }
}

/// Makes the box's mounts, whose namespace is the file `own`, what the spec promises and the daemon cannot be told.
pub fn tighten(own: &Path, promised: &[Mount]) -> io::Result<()> {
    let namespace = File::open(own).map_err(act("open the box's mounts"))?;
    let named = |what: String| move |e: rustix::io::Errno| act(&what)(e.into());
    within(&namespace, || {
        for point in SURPLUS {
            match rustix::mount::unmount(point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
                Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => {}
                Err(e) => return Err(named(format!("take {point} away"))(e)),
            }
        }
        narrow(Path::new("/"), NOSUID | NODEV | RDONLY)?;
        for mount in promised.iter().filter(|mount| mount.point != Path::new(WORKSPACE)) {
            let mut flags = NOSUID;
            flags |= if mount.point.starts_with("/dev") { 0 } else { NODEV };
            flags |= if mount.writable { 0 } else { RDONLY };
            flags |= if mount.executable { 0 } else { NOEXEC };
            narrow(&mount.point, flags)?;
        }
        // The daemon gives it the mode of the image's folder, if there is one.
        for point in ["/tmp", BEARERS] {
            let folder = rustix::fs::open(point, OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
            rustix::fs::fchmod(folder.map_err(named(format!("open {point}")))?, Mode::from_raw_mode(0o1777))
                .map_err(named(format!("open {point} to the box")))?;
        }
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        rustix::mount::mount_remount("/proc", flags, "hidepid=2").map_err(named("hide processes in /proc".into()))
    })
}

const RDONLY: u64 = 0x1;
const NOSUID: u64 = 0x2;
const NODEV: u64 = 0x4;
const NOEXEC: u64 = 0x8;

/// `struct mount_attr` of `linux/mount.h`.
#[repr(C)]
struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Adds flags to the mount at `point`.
fn narrow(point: &Path, flags: u64) -> io::Result<()> {
    let what = format!("narrow {}", point.display());
    let path = std::ffi::CString::new(point.as_os_str().as_encoded_bytes())?;
    let attributes = Attributes { set: flags, clear: 0, propagation: 0, user_namespace: 0 };
    // SAFETY: the path ends in 0, and mount_setattr reads one `mount_attr` of the size given; both live until it returns.
    let done = unsafe {
        libc::syscall(libc::SYS_mount_setattr, libc::AT_FDCWD, path.as_ptr(), 0, &attributes, size_of::<Attributes>())
    };
    if done == 0 { Ok(()) } else { Err(act(&what)(io::Error::last_os_error())) }
}

/// Where a box's files are shown.
pub fn place(spec: &HardenedSpec) -> PathBuf {
    spec.host.dir.join("docker").join(spec.box_id.to_string())
}
