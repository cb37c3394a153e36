//! The box as an OCI bundle: the root tree on the stage, and `config.json`.
//!
//! The mount table here is the promise that [`crate::read_back`] holds the kernel to.

use crate::folders::{Inode, Shown};
use crate::harden::HardenedSpec;
use crate::layers::{self, Layers};
use crate::read_back::shares::PERIOD_US;
use crate::worktree;
use model::Limits;
use model::profile::Folder;
use rustix::process::Resource;
use serde_json::{Value, json};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Top-level system folders a box may see, read-only, if the host has them.
pub(crate) const SYSTEM: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];
/// Parts of them that are the host administrator's own and not the system's: shown empty.
const EMPTIED: [&str; 2] = ["/usr/local", "/usr/src"];
/// Names in `/etc` a box may see, read-only, if the host has them: what compilers, linkers and TLS look up,
/// and Java's own settings, which Debian keeps there.
const ETC: [&str; 15] = [
    "alternatives",
    "ca-certificates",
    "java-11-openjdk",
    "java-17-openjdk",
    "java-21-openjdk",
    "java-25-openjdk",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "nsswitch.conf",
    "protocols",
    "services",
    "shells",
    "ssl/certs",
];
/// Parts of `/proc` that tell of the host or steer it: shown empty, where the kernel has them.
pub const MASKED: [&str; 27] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/config.gz",
    // Which disks, other boxes' worktrees among them, are there and how busy each is.
    "/proc/diskstats",
    "/proc/mdstat",
    "/proc/partitions",
    "/proc/fs",
    // How many control groups the host has, and so how many boxes; which users of it have keys, and so who is signed in.
    "/proc/cgroups",
    "/proc/key-users",
    // What the whole host reads, writes, pages and is interrupted by.
    "/proc/buddyinfo",
    "/proc/interrupts",
    "/proc/pressure",
    "/proc/schedstat",
    "/proc/softirqs",
    "/proc/swaps",
    "/proc/vmstat",
    "/proc/zoneinfo",
    // Locks of the whole box, of commands with a value too.
    "/proc/locks",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/modules",
];
/// Parts of `/proc` that steer the host: read-only, where the kernel has them.
pub const READ_ONLY: [&str; 4] = ["/proc/bus", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
/// The devices of every box, in `/dev`; there are no others.
pub const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Files of the box's own that the platform writes: none is the host's.
pub const OWN_FILES: [&str; 6] =
    ["/etc/passwd", "/etc/group", "/etc/hosts", "/etc/hostname", PROBE, "/run/volary/box.json"];

/// What one uid may take of what the kernel counts for it, beside its files: the limit's name, the most, and whose it is.
/// Nothing in a box needs a place before others; a message queue lies on no path that it may use.
pub(crate) const RESOURCES: [(&str, u64, Resource); 5] = [
    ("rtprio", 0, Resource::Rtprio),
    ("nice", 0, Resource::Nice),
    ("msgqueue", 0, Resource::Msgqueue),
    ("sigpending", 4096, Resource::Sigpending),
    ("memlock", 8 << 20, Resource::Memlock),
];
/// When the host's memory runs out, boxes are ended before anything else of it: the highest score that there is.
pub(crate) const OUT_OF_MEMORY_SCORE: i16 = 1000;

/// A world-readable file that no Landlock rule of the runner names; reading it must be refused.
pub const PROBE: &str = "/var/volary-probe";

/// One line of the box's mount table, as promised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Mount point in the box.
    pub point: PathBuf,
    /// Whether the box may write there.
    pub writable: bool,
    /// Whether a program there may be executed, as far as the mount goes.
    pub executable: bool,
    /// Most that fits in, in KiB, for a file system that is made for the box in memory.
    pub size_kib: Option<u64>,
    /// Most files that it holds, folders and links too, for the same.
    pub inodes: Option<u64>,
    /// By what it is known to show what was promised.
    pub(crate) origin: Origin,
    /// What of the host is shown there.
    of: Option<PathBuf>,
    spec: Value,
}

/// By what a mount of a live box is known to show what was promised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A file system of this kind that was made for the box, all of it.
    Fresh(String),
    /// An overlay: the option that names its layers, and what of it is mounted. Its inodes are the box's own.
    Layers { option: String, part: PathBuf },
    /// A file or folder of the host: the one that its path leads to.
    Host,
    /// A folder of the profile: the one that was looked at, whatever its path leads to by now.
    Folder(Inode),
    /// A file of the box's own, which is read by itself.
    Own,
}

impl Mount {
    pub(crate) fn bind(from: &Path, point: &str, writable: bool) -> Self {
        let access = if writable { "rw" } else { "ro" };
        Self {
            point: point.into(),
            writable,
            executable: true,
            size_kib: None,
            inodes: None,
            origin: Origin::Host,
            of: Some(from.to_path_buf()),
            spec: json!({"destination": point, "type": "bind", "source": from,
                "options": ["bind", access, "nosuid", "nodev"]}),
        }
    }
    fn folder(folder: &Folder) -> Self {
        Self::bind(&folder.path, &folder.path.to_string_lossy(), folder.writable)
    }
    /// Shows a file or folder of the host, read-only and through the layer that it lies in.
    fn through(layers: &Layers, from: &Path, point: &str) -> Self {
        let mut mount = Self::bind(from, point, false);
        // A link is followed here: through a layer it would lead out of it.
        if let Some((seen, origin)) = from.canonicalize().ok().and_then(|real| layers.through(&real)) {
            mount.spec["source"] = json!(seen);
            mount.origin = origin;
        }
        mount
    }
    /// Binds a file that was written for the box.
    pub(crate) fn own(from: &Path, point: &str) -> Self {
        Self { origin: Origin::Own, ..Self::bind(from, point, false) }
    }
    /// What is bound there; none where a file system is made.
    pub(crate) fn source(&self) -> Option<&Path> {
        (self.spec["type"] == "bind").then(|| self.spec["source"].as_str().map(Path::new)).flatten()
    }
    /// What of the host is bound there, by its own name; none where a file system is made.
    pub(crate) fn of(&self) -> Option<&Path> {
        self.of.as_deref()
    }
    /// Which file or folder of the host that has to be; none where a file system is made.
    ///
    /// # Errors
    /// The system's own, where its path alone says it.
    pub(crate) fn inode(&self) -> io::Result<Option<Inode>> {
        match (&self.origin, &self.of) {
            (Origin::Folder(inode), _) => Ok(Some(*inode)),
            (_, of) => of.as_deref().map(Inode::at).transpose(),
        }
    }
    /// The kind of file system, and its options as the runtime takes them.
    pub(crate) fn kind(&self) -> (&str, Vec<&str>) {
        let options = self.spec["options"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        (self.spec["type"].as_str().unwrap_or_default(), options)
    }
    fn fresh(kind: &str, point: &str, writable: bool, options: &[&str]) -> Self {
        let kib = |size: &str| match size.split_at_checked(size.len() - 1)? {
            (n, "m") => n.parse::<u64>().ok().map(|n| n << 10),
            (n, "k") => n.parse().ok(),
            _ => None,
        };
        Self {
            point: point.into(),
            writable,
            executable: !options.contains(&"noexec"),
            size_kib: options.iter().find_map(|option| option.strip_prefix("size=")).and_then(kib),
            inodes: options.iter().find_map(|option| option.strip_prefix("nr_inodes=")?.parse().ok()),
            origin: Origin::Fresh(kind.to_owned()),
            of: None,
            spec: json!({"destination": point, "type": kind, "source": kind, "options": options}),
        }
    }
}

/// Every mount of the box but its root, in order.
#[must_use]
pub fn mounts(stage: &Path, spec: &HardenedSpec) -> Vec<Mount> {
    let layers = Layers::of(spec, &stage.join(layers::FOLDER));
    let system = match spec.image_tree() {
        Some(tree) => system_of_image(&tree, stage, &layers),
        None => system_of_host(&layers),
    };
    let shown = |shown: &Shown| Mount { origin: Origin::Folder(shown.inode), ..Mount::folder(&shown.folder) };
    let folders = spec.folders.iter().map(shown);
    table(&stage.join("work"), [&spec.runner, &spec.agent], &layers, &spec.limits, folders, system)
}

/// Whether what is mounted there is the host's system, which an image brings instead.
#[must_use]
pub fn is_of_the_host(point: &Path) -> bool {
    let etc = || ETC.iter().any(|name| point == Path::new("/etc").join(name));
    SYSTEM.iter().chain(&EMPTIED).any(|own| point == Path::new(own)) || etc()
}

/// What [`mounts`] would be for such limits and folders, for a person who asks before there is a box.
#[must_use]
pub fn promised(limits: &Limits, folders: &[Folder]) -> Vec<Mount> {
    let (nowhere, layers) = (Path::new("/"), Layers::of_the_host());
    let folders = folders.iter().map(Mount::folder);
    table(nowhere, [nowhere; 2], &layers, limits, folders, system_of_host(&layers))
}

/// The host's own system, read-only, with what is its administrator's left out.
fn system_of_host(layers: &Layers) -> Vec<Mount> {
    let mut all = Vec::new();
    for point in SYSTEM {
        let path = Path::new(point);
        if path.is_dir() && !path.is_symlink() {
            all.push(Mount::through(layers, path, point));
        }
    }
    for point in EMPTIED {
        if Path::new(point).is_dir() {
            all.push(Mount::fresh("tmpfs", point, false, &["ro", "nosuid", "nodev", "noexec", "size=4k", "mode=755"]));
        }
    }
    for name in ETC {
        let point = format!("/etc/{name}");
        if Path::new(&point).exists() {
            all.push(Mount::through(layers, Path::new(&point), &point));
        }
    }
    all
}

/// The same of an image's tree, whose `/etc` has places for the box's own files.
fn system_of_image(tree: &Path, stage: &Path, layers: &Layers) -> Vec<Mount> {
    let mut all = Vec::new();
    for point in SYSTEM.into_iter().chain(["/etc"]) {
        let path = tree.join(&point[1..]);
        // What is a link at its top is one in the box, too: followed here, it would lead into the host.
        if path.is_dir() && !path.is_symlink() {
            all.push(Mount::through(layers, &path, point));
        }
    }
    for name in own_in_etc() {
        all.push(Mount::own(&stage.join("own").join(name), &format!("/etc/{name}")));
    }
    all
}

/// Those of [`OWN_FILES`] that lie in `/etc`, by their names there.
pub(crate) fn own_in_etc() -> Vec<&'static str> {
    OWN_FILES.iter().filter_map(|file| file.strip_prefix("/etc/")).collect()
}

fn table(
    work: &Path,
    [runner, agent]: [&Path; 2],
    layers: &Layers,
    limits: &Limits,
    folders: impl Iterator<Item = Mount>,
    system: Vec<Mount>,
) -> Vec<Mount> {
    // One inode for 4 KiB, as in the worktree: an empty file takes no room and some of the host's memory.
    let scratch =
        [format!("size={}m", limits.scratch_mib), format!("nr_inodes={}", limits.scratch_mib.saturating_mul(256))];
    let mut all = vec![
        Mount::fresh("proc", "/proc", true, &["nosuid", "noexec", "nodev", "hidepid=2"]),
        Mount::fresh("tmpfs", "/dev", true, &["nosuid", "noexec", "mode=755", "size=64k"]),
        Mount::fresh(
            "tmpfs",
            "/dev/shm",
            true,
            &["nosuid", "noexec", "nodev", "mode=1777", "size=64m", "nr_inodes=16384"],
        ),
    ];
    all.extend(system);
    all.push(Mount::fresh("tmpfs", "/tmp", true, &["nosuid", "nodev", "mode=1777", &scratch[0], &scratch[1]]));
    // Opened by the runner's walls to one command at a time, and to none without a lease.
    let bearers = ["nosuid", "noexec", "nodev", "mode=1777", "size=16m", "nr_inodes=4096"];
    all.push(Mount::fresh("tmpfs", api::inbox::BEARERS, true, &bearers));
    all.push(Mount { origin: worktree::origin(), ..Mount::bind(work, api::inbox::WORKSPACE, true) });
    all.push(Mount::through(layers, runner, api::inbox::RUNNER_PATH));
    all.push(Mount::through(layers, agent, api::inbox::AGENT_PATH));
    all.extend(folders);
    all
}

/// Makes the box's root tree: mount points, the links that the host has at its top, and the few files of its own.
///
/// # Errors
/// The system's own.
pub fn root_tree(stage: &Path, spec: &HardenedSpec) -> io::Result<()> {
    let root = stage.join("root");
    for folder in ["", "dev", "etc", "proc", "run", "run/bearer", "run/volary", "tmp", "usr", "var", "workspace"] {
        fs::create_dir(root.join(folder))?;
        fs::set_permissions(root.join(folder), fs::Permissions::from_mode(0o755))?;
    }
    // The links of whoever brings the system: of the host, or of the image.
    let tree = spec.image_tree();
    for point in SYSTEM {
        let name = &point[1..];
        if let Ok(target) = fs::read_link(tree.as_deref().unwrap_or(Path::new("/")).join(name)) {
            symlink(target, root.join(name))?;
        }
    }
    if tree.is_some() {
        fs::create_dir(stage.join("own"))?;
    }
    for (point, text) in own_files(spec) {
        let file = match point.strip_prefix("/etc/") {
            // Bound over the image's.
            Some(name) if tree.is_some() => stage.join("own").join(name),
            _ => root.join(&point[1..]),
        };
        fs::write(&file, text)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644))?;
    }
    Ok(())
}

/// [`OWN_FILES`], with what stands in them.
pub(crate) fn own_files(spec: &HardenedSpec) -> [(&'static str, String); OWN_FILES.len()] {
    let uid = spec.uid_inside();
    let text = |name| match name {
        "/etc/passwd" => {
            format!("agent:x:{uid}:{uid}:agent:/tmp/home:/bin/sh\nroot:x:0:0:root:/:/usr/sbin/nologin\n")
        }
        "/etc/group" => format!("agent:x:{uid}:\nroot:x:0:\n"),
        "/etc/hosts" => "127.0.0.1 localhost\n".to_owned(),
        "/etc/hostname" => "box\n".to_owned(),
        PROBE => "No rule of the runner's Landlock layer names this file.\n".to_owned(),
        _ => box_json(spec).to_string(),
    };
    OWN_FILES.map(|name| (name, text(name)))
}

/// What the runner reads before it takes its walls: which folders its rules must name.
fn box_json(spec: &HardenedSpec) -> Value {
    let folders: Vec<Value> = spec.folders.iter().map(|shown| json!(shown.folder)).collect();
    json!({"folders": folders, "uid": spec.uid_inside()})
}

/// Writes `config.json` for the runtime.
///
/// # Errors
/// The system's own.
pub fn write_bundle(stage: &Path, spec: &HardenedSpec) -> io::Result<()> {
    let bundle = stage.join("bundle");
    fs::create_dir(&bundle)?;
    fs::create_dir(stage.join("state"))?;
    fs::write(bundle.join("config.json"), config(stage, spec).to_string())
}

fn config(stage: &Path, spec: &HardenedSpec) -> Value {
    let limits = &spec.limits;
    let memory = limits.memory_mib << 20;
    // The worktree comes when the box has a run.
    let early = mounts(stage, spec).into_iter().filter(|mount| mount.point != Path::new(api::inbox::WORKSPACE));
    let mounts: Vec<Value> = early.map(|mount| mount.spec).collect();
    let namespaces: Vec<Value> =
        ["pid", "network", "ipc", "uts", "mount", "cgroup"].iter().map(|kind| json!({"type": kind})).collect();
    let rlimit = |kind: &str, n: u64| json!({"type": kind, "soft": n, "hard": n});
    let mut rlimits = vec![rlimit("RLIMIT_NOFILE", limits.open_files), rlimit("RLIMIT_CORE", 1)];
    rlimits.extend(RESOURCES.map(|(name, most, held)| {
        // Who has less already, without root, cannot have more.
        let have = rustix::process::getrlimit(held).maximum.unwrap_or(u64::MAX);
        rlimit(&format!("RLIMIT_{}", name.to_uppercase()), most.min(have))
    }));
    json!({
        "ociVersion": "1.0.2",
        "root": {"path": stage.join("root"), "readonly": true},
        "hostname": "box",
        "process": {
            "terminal": false,
            "user": {"uid": spec.uid_inside(), "gid": spec.uid_inside(), "umask": 0o022, "additionalGids": []},
            "args": [api::inbox::RUNNER_PATH],
            "env": ["PATH=/usr/bin:/bin"],
            "cwd": "/",
            "capabilities": {"bounding": [], "effective": [], "inheritable": [], "permitted": [], "ambient": []},
            "noNewPrivileges": true,
            "rlimits": rlimits,
        },
        "mounts": mounts,
        "linux": {
            "cgroupsPath": spec.cgroup(),
            "namespaces": namespaces,
            "rootfsPropagation": "private",
            "maskedPaths": MASKED,
            "readonlyPaths": READ_ONLY,
            "resources": {
                "devices": [{"allow": false, "access": "rwm"}],
                "memory": {"limit": memory, "swap": memory},
                "cpu": {"period": PERIOD_US, "quota": limits.cpu_millis * PERIOD_US / 1000},
                "pids": {"limit": limits.processes},
            },
        },
    })
}
