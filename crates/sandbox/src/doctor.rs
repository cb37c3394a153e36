//! What this host can do: kernel, cgroups, namespaces, Landlock, tools. Each line says what is missing and what to do.

use serde::Serialize;
use std::path::Path;
use std::process::{Command, Stdio};

/// Where git is looked for, here and wherever it is run.
pub const GIT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Where mke2fs is looked for, here and where it is run.
pub(crate) const MKE2FS_PATH: &str = "/usr/sbin:/sbin:/usr/bin:/bin";

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
    /// The Debian packages that bring it; empty when it is none's.
    #[serde(skip)]
    pub packages: &'static str,
    /// The one command of ours that needs it; none when every box does.
    pub only_for: Option<&'static str>,
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

/// Looks at everything that every box needs, for root or for this user.
#[must_use]
pub fn checks() -> Vec<Check> {
    let root = rustix::process::geteuid().is_root();
    let mut all = vec![kernel(), landlock(), privilege(root), control_groups(root), overlay()];
    if root {
        all.push(loop_devices());
        all.push(tool(("mke2fs", "-V"), MKE2FS_PATH, "makes the worktree's image", "e2fsprogs"));
    } else if cgroups() == Cgroups::V2 {
        // On v1 only root can keep boxes, who needs none.
        all.push(user_namespaces());
    }
    all.push(tool(("git", "--version"), GIT_PATH, "reads a repository and takes the result in, as its owner", "git"));
    all.push(compiler());
    all
}

/// Looks at the Docker engine, which only a profile that names it needs; it may take seconds to answer.
#[must_use]
pub fn docker() -> Check {
    check("docker", true, crate::docker::doctor(rustix::process::geteuid().is_root()), "")
}

fn check(name: &'static str, ok: bool, found: impl Into<String>, fix: &str) -> Check {
    let fix = if ok { String::new() } else { fix.to_owned() };
    Check { name, ok, found: found.into(), fix, packages: "", only_for: None }
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
    check(
        "landlock",
        abi >= 2,
        scoped(abi),
        "boot with lsm=landlock,… (CONFIG_SECURITY_LANDLOCK) on Linux 5.19 or later",
    )
}

/// What a Landlock of this ABI keeps apart.
fn scoped(abi: u32) -> String {
    match abi {
        0 => "not available".to_owned(),
        1..=5 => format!(
            "ABI {abi}: files; signals between a box's own processes are not scoped below ABI 6: process 1 ignores what it does \
             not handle"
        ),
        _ => format!("ABI {abi}"),
    }
}

fn privilege(root: bool) -> Check {
    let found = if root {
        "root: every wall".to_owned()
    } else {
        let uid = rustix::process::geteuid().as_raw();
        format!(
            "uid {uid}: a worktree's size is looked at once a second, and a uid of its own for each box is not enforced"
        )
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
            Err(why) => {
                // No user can be given a part of v1.
                let before = match cgroups() {
                    Cgroups::V2 => "systemd-run --user --scope --property=Delegate=yes",
                    Cgroups::V1 | Cgroups::None => "sudo",
                };
                check("cgroups", false, why.to_string(), &format!("{before} {}", this_command()))
            }
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

fn tool((name, version): (&'static str, &str), path: &str, what: &str, packages: &'static str) -> Check {
    let found = Command::new(name).arg(version).env("PATH", path).stdin(Stdio::null()).output();
    let seen = match found {
        Ok(out) => {
            let text = [out.stdout, out.stderr].concat();
            let line = String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned();
            check(name, true, line, "")
        }
        Err(_) => check(name, false, format!("not found in {path}"), &format!("it {what}: {}", install(packages))),
    };
    Check { packages, ..seen }
}

/// The compiler of the host's tree, which boxes see; the demo's task is written in C.
fn compiler() -> Check {
    const PACKAGES: &str = "gcc libc6-dev";
    let missing = ["/usr/bin/cc", "/usr/include/stdio.h"].into_iter().find(|file| !Path::new(file).is_file());
    let found = missing.map_or_else(|| "/usr/bin/cc, which boxes see".to_owned(), |file| format!("no {file}"));
    let fix = format!("only `volary demo` needs it: {}", install(PACKAGES));
    Check { packages: PACKAGES, only_for: Some("demo"), ..check("cc", missing.is_none(), found, &fix) }
}

/// The command that installs Debian packages, for this user.
#[must_use]
pub fn install(packages: &str) -> String {
    let sudo = if rustix::process::geteuid().is_root() { "" } else { "sudo " };
    format!("{sudo}apt-get install --yes {packages}")
}

/// What was typed to start this program, to be typed again behind another word.
fn this_command() -> String {
    let exe = std::env::current_exe().map_or_else(|_| "volary".into(), |path| path.display().to_string());
    let args = std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned());
    std::iter::once(exe).chain(args).map(|word| quoted(&word)).collect::<Vec<_>>().join(" ")
}

/// A word as a shell takes it whole.
fn quoted(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./:=,@+".contains(&b);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_abi_6_it_is_said_that_signals_are_not_scoped_and_what_process_1_does_with_them() {
        for abi in 0..9 {
            let said = scoped(abi);
            let told =
                said.contains("not scoped below ABI 6") && said.contains("process 1 ignores what it does not handle");
            assert_eq!(told, (1..6).contains(&abi), "{abi}: {said}");
            assert!(abi == 0 || said.starts_with(&format!("ABI {abi}")), "{said}");
        }
    }

    #[test]
    fn a_command_to_type_again_is_taken_whole_by_a_shell() {
        for word in ["plain-word/of.all=kinds", "", "two words", "it's $HOME; `x` \"y\"", "*", "~"] {
            let line = format!("printf %s {}", quoted(word));
            let out = Command::new("sh").arg("-c").arg(line).output().expect("sh starts");
            assert_eq!(String::from_utf8_lossy(&out.stdout), word);
        }
    }
}
