//! Boxes without root: a user namespace, and a control group that was delegated to the user.
//!
//! What is weaker then is said by `doctor` and `reach`: the worktree is a plain folder that is weighed once a second, and all boxes
//! share the user's uid (their other namespaces and Landlock keep them apart).

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where the platform's own processes go, so that the group above them may hold boxes (a v2 group has processes or groups).
const LEAF: &str = "volary-up";

/// Makes this process root of a user namespace of its own, with one uid and one gid: the user's. One thread only.
///
/// # Errors
/// The system's own.
pub fn enter() -> io::Result<()> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    // SAFETY: this process has one thread.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWUSER) }?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
}

/// Whether [`enter`] would be allowed; tried in a child that does nothing else.
#[must_use]
pub fn can_make_user_namespace() -> bool {
    // SAFETY: the child makes raw calls only and leaves by `_exit`; the parent waits for it.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            libc::_exit(i32::from(libc::unshare(libc::CLONE_NEWUSER) != 0));
        }
        let mut status = 0;
        child > 0
            && libc::waitpid(child, &mut status, 0) == child
            && libc::WIFEXITED(status)
            && libc::WEXITSTATUS(status) == 0
    }
}

/// The v2 group that this user may divide: the one this process is in (or the one above [`LEAF`]).
///
/// # Errors
/// Why there is none, in words.
pub fn delegated() -> io::Result<String> {
    let no = |why: String| io::Error::new(io::ErrorKind::PermissionDenied, why);
    if crate::doctor::cgroups() != crate::doctor::Cgroups::V2 {
        return Err(no("this host has no cgroup v2, and v1 cannot be given to a user".into()));
    }
    let own = fs::read_to_string("/proc/self/cgroup")?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let own = own.strip_suffix(LEAF).map_or(own, |above| above.trim_end_matches('/'));
    let path = mounted(own);
    for file in ["", "cgroup.procs", "cgroup.subtree_control"] {
        let file = path.join(file);
        if rustix::fs::access(&file, rustix::fs::Access::WRITE_OK).is_err() {
            return Err(no(format!(
                "the control group {own} is not this user's ({} cannot be written)",
                file.display()
            )));
        }
    }
    let controllers = fs::read_to_string(path.join("cgroup.controllers"))?;
    for name in ["memory", "pids", "cpu"] {
        if !controllers.split_whitespace().any(|c| c == name) {
            return Err(no(format!("the control group {own} was not given the controller {name}")));
        }
    }
    Ok(own.to_owned())
}

/// The control group that holds this installation's boxes, absolute in each hierarchy. As root a top-level one; else one
/// in the user's own delegated group, whose processes are moved to a leaf first. `label` is the installation's.
///
/// # Errors
/// Why there is none.
pub fn cgroup_parent(label: &str) -> io::Result<String> {
    if rustix::process::geteuid().is_root() {
        return Ok(format!("/volary-{label}"));
    }
    let own = delegated()?;
    let path = mounted(&own);
    let leaf = path.join(LEAF);
    if !leaf.is_dir() {
        fs::create_dir(&leaf)?;
    }
    let boxes = path.join(format!("volary-{label}"));
    let mut tries = 0;
    loop {
        for pid in fs::read_to_string(path.join("cgroup.procs"))?.lines() {
            match fs::write(leaf.join("cgroup.procs"), pid) {
                // It ended meanwhile.
                Err(e) if e.raw_os_error() == Some(libc::ESRCH) => {}
                other => other?,
            }
        }
        match fs::write(path.join("cgroup.subtree_control"), "+memory +pids +cpu") {
            // A process was born in the group between the look and the act: it is moved too.
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) && tries < 100 => tries += 1,
            other => break other?,
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    if !boxes.is_dir() {
        fs::create_dir(&boxes)?;
    }
    fs::write(boxes.join("cgroup.subtree_control"), "+memory +pids +cpu")?;
    Ok(format!("{}/volary-{label}", own.trim_end_matches('/')))
}

fn mounted(group: &str) -> PathBuf {
    Path::new("/sys/fs/cgroup").join(group.trim_start_matches('/'))
}

/// Removes a run's plain folder, in which a box may have left folders that no one may enter.
pub(crate) fn remove(folder: &Path) -> io::Result<()> {
    let mut open = vec![folder.to_path_buf()];
    while let Some(path) = open.pop() {
        if fs::symlink_metadata(&path)?.is_dir() {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
            for entry in fs::read_dir(&path)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    open.push(entry.path());
                }
            }
        }
    }
    fs::remove_dir_all(folder)
}
