//! What this host can do: kernel, cgroups, namespaces, Landlock, tools. Each line says what is missing and what to do.

use serde::Serialize;
use std::path::Path;
use std::process::{Command, Stdio};

/// One line of the doctor.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// Whether it is as boxes need it.
    pub ok: bool,
    /// What was found.
    pub found: String,
    /// What to do, when it is not.
    pub fix: String,
}

/// The Landlock ABI of this kernel; 0 when it has none or it is switched off.
#[must_use]
pub fn landlock_abi() -> u32 {
    const LANDLOCK_CREATE_RULESET_VERSION: libc::c_ulong = 1;
    // SAFETY: with a null attribute and this flag the call only returns a number.
    let abi = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u8>(),
            0usize,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    };
    u32::try_from(abi).unwrap_or(0)
}

/// How this host's control groups are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cgroups {
    /// One hierarchy.
    V2,
    /// One hierarchy per controller (also beside an empty v2 mount).
    V1,
    /// None mounted.
    None,
}

/// Looks at `/sys/fs/cgroup`.
#[must_use]
pub fn cgroups() -> Cgroups {
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        Cgroups::V2
    } else if Path::new("/sys/fs/cgroup/memory").is_dir() {
        Cgroups::V1
    } else {
        Cgroups::None
    }
}

/// Looks at everything a box needs, for root or for this user.
#[must_use]
pub fn checks() -> Vec<Check> {
    let root = rustix::process::geteuid().is_root();
    let mut all = vec![kernel(), landlock(), privilege(root), control_groups(root), overlay()];
    if root {
        all.push(loop_devices());
        all.push(tool("mke2fs", "makes the worktree's image", "e2fsprogs"));
    } else {
        all.push(user_namespaces());
    }
    // Not needed: without it only a profile that names it makes no box, and is told why.
    all.push(check("docker", true, crate::docker::doctor(root), ""));
    all.push(tool("git", "reads a repository and takes the result in, as its owner", "git"));
    all
}

fn check(name: &'static str, ok: bool, found: impl Into<String>, fix: &str) -> Check {
    Check { name, ok, found: found.into(), fix: if ok { String::new() } else { fix.to_owned() } }
}

fn kernel() -> Check {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut parts = release.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    let ok = version >= (5, 19);
    check(
        "kernel",
        ok,
        release,
        "Linux 5.19 or later is needed (idmapped overlay layers, Landlock ABI 2): upgrade the kernel",
    )
}

fn landlock() -> Check {
    let abi = landlock_abi();
    let found = match abi {
        0 => "not available".to_owned(),
        2..=5 => format!("ABI {abi}: files; signals between a box's own processes are not scoped below ABI 6"),
        _ => format!("ABI {abi}"),
    };
    check("landlock", abi >= 2, found, "boot with lsm=landlock,… (CONFIG_SECURITY_LANDLOCK) on Linux 5.19 or later")
}

fn privilege(root: bool) -> Check {
    let found = if root {
        "root: every wall".to_owned()
    } else {
        let uid = rustix::process::geteuid().as_raw();
        format!("uid {uid}: the worktree's size and a uid of its own for each box are not enforced")
    };
    check("privilege", true, found, "")
}

fn user_namespaces() -> Check {
    let ok = crate::rootless::can_make_user_namespace();
    let fix = "run it as root (sudo), or allow user namespaces: sysctl kernel.unprivileged_userns_clone=1, and on Ubuntu \
               sysctl kernel.apparmor_restrict_unprivileged_userns=0";
    check("user namespaces", ok, if ok { "this user may make one" } else { "refused by the kernel" }, fix)
}

fn control_groups(root: bool) -> Check {
    if !root {
        return match crate::rootless::delegated() {
            Ok(path) => check("cgroups", true, format!("v2, {path} is this user's"), ""),
            Err(why) => check(
                "cgroups",
                false,
                why.to_string(),
                "run it as root (sudo), or in a group of its own: systemd-run --user --scope --property=Delegate=yes volary …",
            ),
        };
    }
    match cgroups() {
        Cgroups::V2 => check("cgroups", true, "v2", ""),
        Cgroups::V1 => {
            let missing: Vec<&str> = ["memory", "cpu", "pids", "devices", "freezer"]
                .into_iter()
                .filter(|name| !Path::new("/sys/fs/cgroup").join(name).is_dir())
                .collect();
            check(
                "cgroups",
                missing.is_empty(),
                "v1",
                &format!("these controllers are not mounted: {}", missing.join(", ")),
            )
        }
        Cgroups::None => check("cgroups", false, "none mounted", "mount cgroup2 on /sys/fs/cgroup"),
    }
}

fn loop_devices() -> Check {
    let ok = Path::new("/dev/loop-control").exists();
    check("loop devices", ok, if ok { "/dev/loop-control" } else { "no /dev/loop-control" }, "modprobe loop")
}

fn overlay() -> Check {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let ok = known.lines().any(|line| line.split_whitespace().last() == Some("overlay"));
    check("overlay", ok, if ok { "known to the kernel" } else { "not loaded" }, "modprobe overlay")
}

fn tool(name: &'static str, what: &str, package: &str) -> Check {
    let found = Command::new(name)
        .arg(if name == "git" { "--version" } else { "-V" })
        .env("PATH", "/usr/local/bin:/usr/sbin:/sbin:/usr/bin:/bin")
        .stdin(Stdio::null())
        .output();
    match found {
        Ok(out) => {
            let text = [out.stdout, out.stderr].concat();
            let line = String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned();
            check(name, true, line, "")
        }
        Err(_) => check(name, false, "not found", &format!("it {what}: apt-get install {package}")),
    }
}
