//! What the tests need of the machine, and how it gets there.
//!
//! On Debian and Ubuntu as root: one `apt-get update` and one `apt-get install`, and only when something is
//! missing. Otherwise the run ends with the line to type. Nothing is ever fetched from anywhere else.

use crate::cargo;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// A program and the Debian package that brings it.
struct Need {
    program: &'static str,
    package: &'static str,
    /// What it is for, as the message says it.
    purpose: &'static str,
    /// Only for the boot of Debian's kernel.
    for_qemu: bool,
}

const NEEDS: [Need; 16] = [
    Need { program: "git", package: "git", purpose: "the repositories of the tests", for_qemu: false },
    Need { program: "cc", package: "gcc", purpose: "attacks are compiled in the box", for_qemu: false },
    Need { program: "mke2fs", package: "e2fsprogs", purpose: "the worktree's file system", for_qemu: false },
    Need { program: "chromium", package: "chromium", purpose: "the browser test", for_qemu: false },
    Need { program: "chromedriver", package: "chromium-driver", purpose: "the browser test", for_qemu: false },
    Need { program: "dockerd", package: "docker.io", purpose: "boxes made by Docker", for_qemu: false },
    Need { program: "docker-registry", package: "docker-registry", purpose: "images by digest", for_qemu: false },
    Need { program: "zstd", package: "zstd", purpose: "layers as images have them", for_qemu: false },
    Need { program: "busybox", package: "busybox-static", purpose: "an image, and process 1 of qemu", for_qemu: false },
    Need { program: "ip", package: "iproute2", purpose: "networks of the tests' own", for_qemu: false },
    Need { program: "qemu-system-x86_64", package: "qemu-system-x86", purpose: "another kernel", for_qemu: true },
    Need { program: "systemctl", package: "systemd", purpose: "another first process", for_qemu: true },
    Need { program: "apparmor_parser", package: "apparmor", purpose: "what Docker adds to it", for_qemu: true },
    Need { program: "strip", package: "binutils", purpose: "a small image for qemu", for_qemu: true },
    Need { program: "ldd", package: "libc-bin", purpose: "the libraries of that image", for_qemu: true },
    Need { program: "dpkg-deb", package: "dpkg", purpose: "opening Debian's kernel package", for_qemu: true },
];

/// Debian's package that depends on its newest kernel.
const NAMES_THE_KERNEL: &str = "linux-image-amd64";

/// What the tests have in the folder of temporary files at once, in GiB, seldom more: four at a time, each with a run or two,
/// whose worktrees are promised 2 GiB each.
const ROOM_GIB: u64 = 12;

/// What is looked for by its file: it is no program, or boxes have to see it, whose tree is `/usr` without
/// `/usr/local`.
const FILES: [(&str, &str, &str); 11] = [
    ("/usr/include/stdio.h", "libc6-dev", "attacks are compiled in the box"),
    ("/usr/bin/curl", "curl", "toolchains in boxes reach the outside"),
    ("/usr/bin/wget", "wget", "toolchains in boxes reach the outside"),
    ("/usr/bin/git", "git", "toolchains in boxes reach the outside"),
    ("/usr/lib/python3/dist-packages/requests", "python3-requests", "toolchains in boxes reach the outside"),
    ("/usr/lib/python3/dist-packages/httpx", "python3-httpx", "toolchains in boxes reach the outside"),
    ("/usr/lib/python3/dist-packages/pip", "python3-pip", "toolchains in boxes reach the outside"),
    ("/usr/bin/ruby", "ruby", "toolchains in boxes reach the outside"),
    ("/usr/bin/node", "nodejs", "toolchains in boxes reach the outside"),
    ("/usr/bin/javac", "default-jdk-headless", "toolchains in boxes reach the outside"),
    ("/usr/bin/go", "golang-go", "toolchains in boxes reach the outside"),
];

/// Sees to it that everything the tests call is there.
///
/// # Errors
/// What is missing and the one line to type, when this is not root or not Debian; apt's own failure.
pub fn prepare(with_qemu: bool) -> Result<()> {
    let missing = missing(with_qemu);
    if missing.is_empty() {
        return Ok(());
    }
    let mut packages: Vec<&str> = missing.iter().map(|(package, _)| *package).collect();
    packages.sort_unstable();
    packages.dedup();
    let line = format!("apt-get update && apt-get install -y --no-install-recommends {}", packages.join(" "));
    if !is_root() || find("apt-get").is_none() {
        let what: Vec<String> = missing.iter().map(|(package, why)| format!("  {package}: {why}")).collect();
        bail!("the tests need what this machine lacks:\n{}\nas root, type:\n  {line}", what.join("\n"));
    }
    eprintln!("installing {}", packages.join(" "));
    apt_update()?;
    cargo::finish(
        Command::new("apt-get")
            .args(["install", "-y", "-q", "--no-install-recommends"])
            .args(&packages)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )?;
    if let Some((package, why)) = self::missing(with_qemu).first() {
        bail!("{package} was installed and still something is missing: {why}");
    }
    Ok(())
}

/// Sees to it that the tests have room for their files, which are refused one by one otherwise, each for a reason of its own.
///
/// # Errors
/// When there is less than [`ROOM_GIB`] in the folder of temporary files: where, and what is there.
pub fn room() -> Result<()> {
    let folder = std::env::temp_dir();
    let disk = rustix::fs::statvfs(&folder).with_context(|| format!("looking at {}", folder.display()))?;
    enough(&folder, disk.f_bavail.saturating_mul(disk.f_frsize))
}

fn enough(folder: &Path, free: u64) -> Result<()> {
    if free >> 30 >= ROOM_GIB {
        return Ok(());
    }
    bail!(
        "the tests need {ROOM_GIB} GiB free in {}, which has {} MiB: remove old build folders there, or name another folder \
         by TMPDIR",
        folder.display(),
        free >> 20
    )
}

/// Installs those of these programs, each with its package, that are missing, as root on Debian. What cannot be had is said, and
/// done without.
pub fn bring(programs: &[(&str, &str)]) {
    let missing: Vec<&str> =
        programs.iter().filter(|(name, _)| find(name).is_none()).map(|(_, package)| *package).collect();
    if missing.is_empty() {
        return;
    }
    if !is_root() || find("apt-get").is_none() {
        eprintln!("not here, and left out: {}", missing.join(", "));
        return;
    }
    eprintln!("installing {}", missing.join(" "));
    let mut install = Command::new("apt-get");
    install
        .args(["install", "-y", "-q", "--no-install-recommends"])
        .args(&missing)
        .env("DEBIAN_FRONTEND", "noninteractive");
    // Where services are started by scripts, theirs are not for this level.
    install.env("RUNLEVEL", "1");
    if let Err(error) = apt_update().and_then(|()| cargo::finish(&mut install)) {
        eprintln!("{error:#}; what is missing is left out");
    }
}

fn missing(with_qemu: bool) -> Vec<(&'static str, String)> {
    let mut missing: Vec<(&'static str, String)> = NEEDS
        .iter()
        .filter(|need| with_qemu || !need.for_qemu)
        .filter(|need| find(need.program).is_none())
        .map(|need| (need.package, format!("{} ({})", need.program, need.purpose)))
        .collect();
    let files = FILES.iter().filter(|(file, _, _)| !Path::new(file).exists());
    missing.extend(files.map(|(file, package, purpose)| (*package, format!("{file} ({purpose})"))));
    missing
}

fn apt_update() -> Result<()> {
    cargo::finish(Command::new("apt-get").args(["update", "-q"]))
}

/// Whether this process has uid 0.
pub fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status")
        .is_ok_and(|status| status.lines().any(|l| l.starts_with("Uid:") && l.split_whitespace().nth(2) == Some("0")))
}

/// Where a program is: the system's own folders first, then `PATH` (`/usr/sbin` is not in a user's).
pub fn find(program: &str) -> Option<PathBuf> {
    let own = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    own.into_iter().chain(std::env::split_paths(&path)).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Debian's own kernel, opened (not installed) below `folder`: the folder that holds its `boot` and `lib`.
///
/// The package is fetched once; a newer one in apt's lists is fetched when the folder is removed.
///
/// # Errors
/// When apt knows no such package or cannot fetch it; says what to do.
pub fn kernel(folder: &Path) -> Result<PathBuf> {
    // Two guests want it at once.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let tree = folder.join("kernel");
    if tree.join("boot").is_dir() {
        return Ok(tree);
    }
    std::fs::create_dir_all(folder)?;
    let package = match kernel_package() {
        Ok(package) => package,
        // Without lists apt knows no package at all; a container image comes so.
        Err(_) if is_root() => {
            apt_update()?;
            kernel_package()?
        }
        Err(error) => return Err(error),
    };
    eprintln!("fetching {package}");
    for old in debs(folder)? {
        std::fs::remove_file(old)?;
    }
    // As root, apt would download as `_apt`, which cannot write here.
    let mut download = Command::new("apt-get");
    download.args(["download", "-q", "-o", "APT::Sandbox::User=root", &package]).current_dir(folder);
    if cargo::finish(&mut download).is_err() {
        if is_root() {
            apt_update()?;
        }
        cargo::finish(&mut download).context("type `apt-get update` as root and try again")?;
    }
    let deb = debs(folder)?.pop().context("apt-get download left no package")?;
    // Opened beside and renamed, so that a run that is cut off leaves no half of a kernel.
    let part = folder.join("kernel.part");
    if part.exists() {
        std::fs::remove_dir_all(&part)?;
    }
    cargo::finish(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&part))?;
    if tree.exists() {
        // Half a kernel, from a run that was cut off or from two at once.
        std::fs::remove_dir_all(&tree)?;
    }
    std::fs::rename(&part, &tree)?;
    std::fs::remove_file(deb)?;
    Ok(tree)
}

/// The package with the kernel itself, which the package `linux-image-amd64` only names.
fn kernel_package() -> Result<String> {
    let said = cargo::output(Command::new("apt-cache").args(["depends", NAMES_THE_KERNEL]));
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    said.ok().and_then(|text| named_kernel(&String::from_utf8_lossy(&text))).with_context(|| no_kernel(&release))
}

/// The dependency that is a kernel.
fn named_kernel(depends: &str) -> Option<String> {
    let mut names = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
    names.find(|name| name.starts_with("linux-image-")).map(str::to_owned)
}

/// Why there is no kernel to boot, and what to do. Ubuntu has the package in none of its lists.
fn no_kernel(os_release: &str) -> String {
    let value = |key: &str| {
        let line = os_release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.map(|value| value.trim_matches('"').to_owned())
    };
    let without = "run everything else with `cargo xtask test --no-qemu`";
    if value("ID").as_deref() == Some("debian") {
        return format!("apt knows no {NAMES_THE_KERNEL}; type `apt-get update` as root and try again, or {without}");
    }
    let name = value("PRETTY_NAME").unwrap_or_else(|| "this system".to_owned());
    format!(
        "the tests under qemu boot Debian's own kernel, the package {NAMES_THE_KERNEL}, and apt on {name} does not have it: \
         run them on Debian 12 or later (a container of it will do), and here {without}"
    )
}

fn debs(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ext| ext == "deb") {
            found.push(path);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_the_dependency_that_is_an_image() {
        let said = "linux-image-amd64\n  Depends: linux-base\n  Depends: linux-image-6.1.0-1-amd64\n";
        assert_eq!(named_kernel(said).as_deref(), Some("linux-image-6.1.0-1-amd64"));
        assert_eq!(named_kernel(""), None);
    }

    #[test]
    fn a_disk_without_room_is_named_before_a_test_begins() {
        let folder = Path::new("/tmp");
        enough(folder, ROOM_GIB << 30).unwrap();
        let said = enough(folder, (ROOM_GIB << 30) - 1).unwrap_err().to_string();
        assert!(said.contains("12 GiB free in /tmp, which has 12287 MiB"), "{said}");
    }

    #[test]
    fn a_system_that_is_not_debian_is_named_with_what_to_do() {
        let said = no_kernel("PRETTY_NAME=\"Ubuntu 24.04 LTS\"\nID=ubuntu\nID_LIKE=debian\n");
        assert!(said.contains("Ubuntu 24.04 LTS does not have it") && said.contains("--no-qemu"), "{said}");
        assert!(no_kernel("ID=debian\n").contains("apt-get update"));
    }
}
