//! What the kernel says of a live box, line by line against the promise. A spec can be ignored without a word;
//! so nothing is believed that is not read here, or proved by a forbidden call ([`api::inbox::Hello`]).

use crate::doctor::{Cgroups, cgroups};
use crate::harden::HardenedSpec;
use crate::oci;
use api::inbox::{Counts, Hello};
use model::event::Reading;
use model::profile::Engine;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How often the freezer is asked whether it is done: a millisecond apart, so ten seconds at least.
const FREEZE_ROUNDS: u32 = 10_000;
/// After so many rounds a freeze of v1 is begun again.
const THAW_EVERY: u32 = 50;

pub(crate) fn reading(wall: &str, promised: impl Into<String>, read: impl Into<String>, by: &str) -> Reading {
    let (promised, read) = (promised.into(), read.into());
    Reading { wall: wall.into(), holds: promised == read, promised, read, by: by.into() }
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| format!("unreadable: {e}"))
}

/// Everything that is read of a box. `group` is its control group, absolute in each hierarchy.
#[must_use]
pub fn all(spec: &HardenedSpec, pid: u32, group: &str, hello: &Hello) -> Vec<Reading> {
    let mut lines = status(spec, pid);
    lines.extend(namespaces(spec, pid));
    lines.push(mounts(spec, pid));
    lines.extend(image(spec, pid));
    lines.push(network(pid));
    lines.extend(limits(spec, pid, group));
    lines.extend(forbidden(hello));
    lines
}

fn status(spec: &HardenedSpec, pid: u32) -> Vec<Reading> {
    let status = text(&format!("/proc/{pid}/status"));
    let fields: BTreeMap<&str, String> = status
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(key, value)| (key, value.split_whitespace().collect::<Vec<_>>().join(" ")))
        .collect();
    let by = "/proc/PID/status";
    let field = |key: &str| fields.get(key).cloned().unwrap_or_else(|| "missing".into());
    let four = |id: u32| [id; 4].map(|n| n.to_string()).join(" ");
    let ids = four(spec.uid);
    let gids = four(if spec.host.root { spec.uid } else { rustix::process::getegid().as_raw() });
    // Without root the user's own groups cannot be dropped; they are read so that they are seen.
    let groups = match spec.engine {
        _ if !spec.host.root => own_groups(),
        Engine::Embedded => String::new(),
        // Its own once more, so that a file which shuts its group out shuts it out.
        Engine::Docker => spec.uid.to_string(),
    };
    let mut lines = vec![
        reading("seccomp", "2", field("Seccomp"), by),
        reading("no new privileges", "1", field("NoNewPrivs"), by),
        reading("user", ids, field("Uid"), by),
        reading("group", gids, field("Gid"), by),
        reading("supplementary groups", groups, field("Groups"), by),
        reading("process 1", "1", field("NSpid").split(' ').next_back().unwrap_or_default(), by),
    ];
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        lines.push(reading("capabilities", format!("{set} {:016x}", 0), format!("{set} {}", field(set)), by));
    }
    if !spec.host.root {
        // In a user namespace of this very user /proc shows the same owner either way.
        return lines;
    }
    // What is not dumpable belongs to root in /proc, whatever its uid.
    let owner = fs::metadata(format!("/proc/{pid}/environ")).map_or_else(|e| e.to_string(), |m| m.uid().to_string());
    lines.push(reading("not dumpable", "0", owner, "owner of /proc/PID/environ"));
    lines
}

fn own_groups() -> String {
    text("/proc/self/status")
        .lines()
        .find_map(|line| line.strip_prefix("Groups:"))
        .map(|groups| groups.split_whitespace().collect::<Vec<_>>().join(" "))
        .unwrap_or_default()
}

fn namespaces(spec: &HardenedSpec, pid: u32) -> Vec<Reading> {
    let user = if spec.host.root { None } else { Some("user") };
    ["cgroup", "ipc", "mnt", "net", "pid", "uts"]
        .into_iter()
        .chain(user)
        .map(|name| {
            let of = |who: &str| fs::read_link(format!("/proc/{who}/ns/{name}")).ok();
            let own = match (of(&pid.to_string()), of("self")) {
                (Some(theirs), Some(ours)) if theirs != ours => "its own",
                (Some(_), Some(_)) => "the host's",
                _ => "unreadable",
            };
            reading(&format!("{name} namespace"), "its own", own, "/proc/PID/ns")
        })
        .collect()
}

/// The mount table: exactly the promised points, each with what was promised of it.
fn mounts(spec: &HardenedSpec, pid: u32) -> Reading {
    let exists = |point: &str| {
        let inside = PathBuf::from(format!("/proc/{pid}/root")).join(&point[1..]);
        Path::new(point).symlink_metadata().is_ok() || inside.symlink_metadata().is_ok()
    };
    let table = text(&format!("/proc/{pid}/mountinfo"));
    let promised = match spec.engine {
        Engine::Embedded => oci::mounts(Path::new("/"), spec),
        Engine::Docker => crate::docker::mounts(Path::new("/"), spec),
    };
    let wrong = wrong_mounts(&table, &promised, exists);
    let read = if wrong.is_empty() { "as promised".to_owned() } else { wrong.join("; ") };
    reading("mounts", "as promised", read, "/proc/PID/mountinfo")
}

/// Whose tree the box's system is, where the platform itself unpacked it.
fn image(spec: &HardenedSpec, pid: u32) -> Option<Reading> {
    let id = spec.image_id.as_deref()?;
    let table = text(&format!("/proc/{pid}/mountinfo"));
    Some(reading("image", id, image_of(&table, id), "/proc/PID/mountinfo"))
}

/// The image's digest, if the system's folders are all of its tree; else the first that is not.
fn image_of(table: &str, id: &str) -> String {
    let tree = format!("images/{}", id.trim_start_matches("sha256:"));
    let is_system = |line: &Line| oci::SYSTEM.iter().chain(&["/etc"]).any(|point| line.point == Path::new(point));
    let system: Vec<Line> = table.lines().filter_map(Line::read).filter(is_system).collect();
    let promised = |line: &Line| crate::layers::told(Path::new(&format!("{tree}{}", line.point.display())));
    let other = system.iter().find(|line| line.shows() != Some(&promised(line)));
    match other {
        Some(line) => format!("{} is {}", line.point.display(), line.shows().unwrap_or(line.root)),
        None if system.is_empty() => "no system is mounted".to_owned(),
        None => id.to_owned(),
    }
}

/// One line of `mountinfo`, proc(5).
struct Line<'a> {
    /// What of its file system is mounted.
    root: &'a str,
    point: PathBuf,
    options: Vec<&'a str>,
    kind: &'a str,
    /// Options of the file system itself, its size among them.
    own: Vec<&'a str>,
}

impl<'a> Line<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let (mount, file_system) = line.split_once(" - ")?;
        let mount: Vec<&str> = mount.split(' ').collect();
        let file_system: Vec<&str> = file_system.split(' ').collect();
        Some(Self {
            root: mount.get(3)?,
            point: unescape(mount.get(4)?),
            options: mount.get(5)?.split(',').collect(),
            kind: file_system.first()?,
            own: file_system.get(2)?.split(',').collect(),
        })
    }
    /// Of an overlay the option that names its layers, where all of it is mounted.
    fn shows(&self) -> Option<&'a str> {
        let layers = self.own.iter().find(|option| option.starts_with("lowerdir="));
        layers.copied().filter(|_| self.kind == "overlay" && self.root == "/")
    }
    fn has(&self, option: &str) -> bool {
        self.options.contains(&option)
    }
}

/// Everything of a mount table that is not as promised. `exists` tells whether this kernel has such a part of `/proc`.
fn wrong_mounts(table: &str, promised: &[oci::Mount], exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut seen = Vec::new();
    for text in table.lines() {
        let Some(line) = Line::read(text) else {
            wrong.push(format!("a line that cannot be read: {text}"));
            continue;
        };
        let point = line.point.display();
        if line.point == Path::new("/") {
            if !line.has("ro") {
                wrong.push("/ is writable".into());
            }
        } else if let Some(mount) = promised.iter().find(|m| m.point == line.point) {
            if line.has("rw") != mount.writable {
                wrong.push(format!("{point} is {}", if line.has("rw") { "writable" } else { "read-only" }));
            }
            if !line.has("nosuid") {
                wrong.push(format!("{point} obeys set-uid"));
            }
            if !line.has("nodev") && !line.point.starts_with("/dev") {
                wrong.push(format!("{point} has devices"));
            }
            if !mount.executable && !line.has("noexec") {
                wrong.push(format!("{point} can be executed from"));
            }
            if mount.layered && line.kind != "overlay" {
                wrong.push(format!("{point} has the host's own inodes"));
            }
            if line.kind == "proc" && !["hidepid=2", "hidepid=invisible"].iter().any(|word| line.own.contains(word)) {
                wrong.push(format!("{point} shows the processes of others"));
            }
            if let Some(kib) = mount.size_kib
                && !(line.kind == "tmpfs" && line.own.contains(&&*format!("size={kib}k")))
            {
                wrong.push(format!("{point} is not {kib} KiB at most"));
            }
            if let Some(inodes) = mount.inodes
                && !line.own.contains(&&*format!("nr_inodes={inodes}"))
            {
                wrong.push(format!("{point} takes more than {inodes} files"));
            }
        } else if line.point.starts_with("/proc") {
            wrong.extend(wrong_part_of_proc(&line));
        } else if !oci::DEVICES.iter().any(|device| line.point == Path::new("/dev").join(device)) {
            wrong.push(format!("{point} is mounted and was not promised"));
        }
        seen.push(line.point);
    }
    for mount in promised {
        // A link of the host is bound where it leads to.
        let real = mount.point.canonicalize().unwrap_or_else(|_| mount.point.clone());
        if !seen.contains(&mount.point) && !seen.contains(&real) {
            wrong.push(format!("{} is not mounted", mount.point.display()));
        }
    }
    for (parts, what) in [(&oci::MASKED[..], "masked"), (&oci::READ_ONLY[..], "read-only")] {
        let open = parts.iter().filter(|part| exists(part) && !seen.iter().any(|point| point == Path::new(part)));
        wrong.extend(open.map(|part| format!("{part} is not {what}")));
    }
    wrong
}

/// A masked file is the null device, a masked folder an empty read-only file system; the rest is read-only.
fn wrong_part_of_proc(line: &Line) -> Option<String> {
    let point = line.point.display();
    let is_one = |parts: &[&str]| parts.iter().any(|part| line.point == Path::new(part));
    if is_one(&oci::READ_ONLY) {
        (!line.has("ro")).then(|| format!("{point} is writable"))
    } else if is_one(&oci::MASKED) {
        let null = line.root == "/null" || line.root.ends_with("/dev/null");
        let empty = line.kind == "tmpfs" && line.root == "/" && line.has("ro");
        (!null && !empty).then(|| format!("{point} is not masked: {} {} is there", line.kind, line.root))
    } else {
        Some(format!("{point} is mounted and was not promised"))
    }
}

fn unescape(field: &str) -> PathBuf {
    let bytes = field.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = (bytes[at] == b'\\')
            .then(|| bytes.get(at + 1..at + 4))
            .flatten()
            .and_then(|d| std::str::from_utf8(d).ok())
            .and_then(|d| u8::from_str_radix(d, 8).ok());
        if let Some(byte) = octal {
            out.push(byte);
            at += 4;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    PathBuf::from(<std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(out))
}

fn network(pid: u32) -> Reading {
    let devices: Vec<String> = text(&format!("/proc/{pid}/net/dev"))
        .lines()
        .skip(2)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name.trim().to_owned())
        .collect();
    let routes = text(&format!("/proc/{pid}/net/route")).lines().skip(1).count();
    let read = format!("{} and {routes} routes", devices.join(", "));
    reading("network", "lo and 0 routes", read, "/proc/PID/net")
}

fn limits(spec: &HardenedSpec, pid: u32, group: &str) -> Vec<Reading> {
    let mut lines = Vec::new();
    let limit_file = text(&format!("/proc/{pid}/limits"));
    let of = |name: &str| {
        limit_file
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|rest| rest.split_whitespace().nth(1))
            .unwrap_or("missing")
            .to_owned()
    };
    lines.push(reading("open files", spec.limits.open_files.to_string(), of("Max open files"), "/proc/PID/limits"));
    // 1, not 0: at 0 a core handler that the host pipes cores into is started all the same (core(5)).
    lines.push(reading("core dumps", "1", of("Max core file size"), "/proc/PID/limits"));
    for (name, most, _) in oci::RESOURCES {
        let title = match name {
            "rtprio" => "Max realtime priority",
            "nice" => "Max nice priority",
            "msgqueue" => "Max msgqueue size",
            "sigpending" => "Max pending signals",
            _ => "Max locked memory",
        };
        let hard = of(title);
        let promised = format!("{most} at most");
        let read = if hard.parse().is_ok_and(|hard: u64| hard <= most) { promised.clone() } else { hard };
        lines.push(reading(name, promised, read, "/proc/PID/limits"));
    }
    let score = text(&format!("/proc/{pid}/oom_score_adj"));
    let first = oci::OUT_OF_MEMORY_SCORE.to_string();
    lines.push(reading("ended first when memory runs out", first, score.trim(), "/proc/PID/oom_score_adj"));
    let memory = (spec.limits.memory_mib << 20).to_string();
    let quota = (spec.limits.cpu_millis * 100).to_string();
    let pids = spec.limits.processes.to_string();
    let files: [(&str, &str, &str, &str, String); 3] = [
        ("memory", "memory", "memory.limit_in_bytes", "memory.max", memory),
        ("processor", "cpu", "cpu.cfs_quota_us", "cpu.max", quota),
        ("processes", "pids", "pids.max", "pids.max", pids),
    ];
    for (wall, controller, v1, v2, promised) in files {
        let file = match cgroups() {
            Cgroups::V2 => cgroup_path(group, "").join(v2),
            _ => cgroup_path(group, controller).join(v1),
        };
        let whole = text(&file.to_string_lossy());
        let read = whole.split_whitespace().next().unwrap_or_default();
        lines.push(reading(wall, promised, read, "cgroup"));
        let members = text(&file.with_file_name("cgroup.procs").to_string_lossy());
        let inside = members.lines().any(|line| line == pid.to_string());
        lines.push(reading(
            &format!("{wall} group"),
            "a member",
            if inside { "a member" } else { "not in it" },
            "cgroup.procs",
        ));
    }
    lines.extend(swap(spec, group));
    lines
}

/// No swap beside the memory. A kernel without swap has no such file, and nothing to bound.
fn swap(spec: &HardenedSpec, group: &str) -> Option<Reading> {
    let (file, promised) = match cgroups() {
        Cgroups::V2 => (cgroup_path(group, "").join("memory.swap.max"), 0),
        // Memory and swap together.
        _ => (cgroup_path(group, "memory").join("memory.memsw.limit_in_bytes"), spec.limits.memory_mib << 20),
    };
    file.exists().then(|| reading("swap", promised.to_string(), text(&file.to_string_lossy()).trim(), "cgroup"))
}

fn cgroup_path(group: &str, controller: &str) -> PathBuf {
    Path::new("/sys/fs/cgroup").join(controller).join(group.trim_start_matches('/'))
}

/// Walls that `/proc` does not show, by the calls that the runner made although they are forbidden.
fn forbidden(hello: &Hello) -> Vec<Reading> {
    let mut lines: Vec<Reading> = hello
        .forbidden
        .iter()
        .map(|call| {
            let name = |errno: i32| {
                if errno == 0 { "allowed".into() } else { io::Error::from_raw_os_error(errno).to_string() }
            };
            let mut line =
                reading(&call.wall, name(call.expected), name(call.errno), &format!("forbidden call: {}", call.call));
            line.holds = line.holds && call.errno != 0;
            line
        })
        .collect();
    // None at all would be a runner that proves nothing.
    for wall in ["landlock", "seccomp"] {
        if !lines.iter().any(|line| line.wall == wall) {
            lines.push(reading(wall, "proved by a forbidden call", "not proved", "the runner's hello"));
        }
    }
    let enough = if hello.landlock_abi >= 2 { "2 or more" } else { "less than 2" };
    lines.push(reading("landlock level", "2 or more", enough, "the runner's hello"));
    lines
}

/// Sets swap to nothing where the kernel has a limit of its own for it (v2): the runtime takes a 0 there for "not said".
pub(crate) fn forbid_swap(group: &str) -> io::Result<()> {
    let file = cgroup_path(group, "").join("memory.swap.max");
    if cgroups() == Cgroups::V2 && file.exists() { fs::write(file, "0") } else { Ok(()) }
}

/// The file that tells of processes which were refused; whoever polls it is woken.
pub(crate) fn process_events(group: &str) -> PathBuf {
    cgroup_path(group, if cgroups() == Cgroups::V2 { "" } else { "pids" }).join("pids.events")
}

/// How often a box met which limit; nothing of a group that is gone.
pub(crate) fn counts(group: &str) -> Counts {
    let memory = match cgroups() {
        Cgroups::V2 => cgroup_path(group, "").join("memory.events"),
        _ => cgroup_path(group, "memory").join("memory.oom_control"),
    };
    let count = |file: &Path, key: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        lines.find(|(name, _)| *name == key).and_then(|(_, n)| n.trim().parse().ok()).unwrap_or(0)
    };
    let processor = cgroup_path(group, if cgroups() == Cgroups::V2 { "" } else { "cpu" }).join("cpu.stat");
    Counts {
        memory_kills: count(&memory, "oom_kill"),
        process_refusals: count(&process_events(group), "max"),
        throttled: count(&processor, "nr_throttled"),
        // v2 counts microseconds, v1 nanoseconds.
        throttled_ms: count(&processor, "throttled_usec") / 1000 + count(&processor, "throttled_time") / 1_000_000,
    }
}

/// The limit that a box met, in words, from its cgroup; read before the cgroup is removed.
pub(crate) fn limit_met(spec: &HardenedSpec, group: &str) -> Option<String> {
    let counts = counts(group);
    if counts.memory_kills > 0 {
        return Some(format!("killed: memory limit {} MiB", spec.limits.memory_mib));
    }
    (counts.process_refusals > 0).then(|| format!("met the limit of {} processes", spec.limits.processes))
}

/// Kills every process in the box's group, and takes its processor limit away, so that they may run to their end.
/// `parent` is the installation's own group, below which each of its boxes has one.
pub(crate) fn kill_members(parent: &str, group: &str) -> io::Result<()> {
    let below = Path::new(group).strip_prefix(parent);
    if parent.trim_matches('/').is_empty() || !below.is_ok_and(|below| below.components().next().is_some()) {
        // The host's own group, or another's: a box that never got to have one has nobody in it.
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the box has no control group of its own"));
    }
    let (quota, members) = match cgroups() {
        Cgroups::V2 => (cgroup_path(group, "").join("cpu.max"), cgroup_path(group, "")),
        _ => (cgroup_path(group, "cpu").join("cpu.cfs_quota_us"), cgroup_path(group, "pids")),
    };
    // What is not there (the group is gone, or the kernel is older) is no hindrance: each process is killed below.
    drop(fs::write(&quota, if quota.ends_with("cpu.max") { "max" } else { "-1" }));
    // What is frozen dies only when it thaws; and a second freezer (v1) has no kill of its own.
    drop(freeze(group, false));
    if fs::write(members.join("cgroup.kill"), "1").is_ok() {
        return Ok(());
    }
    for pid in fs::read_to_string(members.join("cgroup.procs")).unwrap_or_default().lines() {
        if let Some(pid) = pid.parse().ok().and_then(rustix::process::Pid::from_raw)
            && let Err(e) = rustix::process::kill_process(pid, rustix::process::Signal::KILL)
            && e != rustix::io::Errno::SRCH
        {
            return Err(e.into());
        }
    }
    Ok(())
}

/// Stops every process of a box where it stands, or lets all go on; returns when the kernel says so.
pub(crate) fn freeze(group: &str, still: bool) -> io::Result<()> {
    let (file, word, told, said) = match cgroups() {
        Cgroups::V2 => {
            let path = cgroup_path(group, "");
            let told = if still { "frozen 1" } else { "frozen 0" };
            (path.join("cgroup.freeze"), if still { "1" } else { "0" }, told, path.join("cgroup.events"))
        }
        _ => {
            let file = cgroup_path(group, "freezer").join("freezer.state");
            let word = if still { "FROZEN" } else { "THAWED" };
            (file.clone(), word, word, file)
        }
    };
    for round in 0..FREEZE_ROUNDS {
        if still && file == said && round % THAW_EVERY == THAW_EVERY - 1 {
            // On v1 a freeze that meets a fork can stay half done for good; begun again, it comes to its end.
            fs::write(&file, "THAWED")?;
        }
        fs::write(&file, word)?;
        if fs::read_to_string(&said)?.lines().any(|line| line == told) {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, format!("the box's processes do not become {told}")))
}

fn hierarchies() -> Vec<PathBuf> {
    match cgroups() {
        Cgroups::V2 => vec![PathBuf::from("/sys/fs/cgroup")],
        Cgroups::V1 => fs::read_dir("/sys/fs/cgroup")
            .map(|entries| entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect())
            .unwrap_or_default(),
        Cgroups::None => Vec::new(),
    }
}

/// A group and those below it, the innermost first. A box of Docker's has one of its own within the box's.
fn and_below(group: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(group).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        all.extend(and_below(&entry.path()));
    }
    all.push(group.to_path_buf());
    all
}

/// The processes of a group and of those below it.
fn members(group: &Path) -> Vec<u32> {
    let lists = and_below(group).into_iter().map(|group| fs::read_to_string(group.join("cgroup.procs")));
    // A group that ended meanwhile has none.
    let lines = lists.map(Result::unwrap_or_default).collect::<String>();
    lines.lines().filter_map(|line| line.parse().ok()).collect()
}

/// The boxes of this installation that exist now: box id → processes, from the cgroups themselves.
#[must_use]
pub fn boxes(parent: &str) -> BTreeMap<String, Vec<u32>> {
    let mut found: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for hierarchy in hierarchies() {
        let Ok(entries) = fs::read_dir(hierarchy.join(&parent[1..])) else { continue };
        for entry in entries.flatten().filter(|entry| entry.path().is_dir()) {
            let list = found.entry(entry.file_name().to_string_lossy().into_owned()).or_default();
            for pid in members(&entry.path()) {
                if !list.contains(&pid) {
                    list.push(pid);
                }
            }
        }
    }
    found
}

/// Ends every process under `parent` and removes its groups; gives the boxes' names.
pub(crate) fn reap(parent: &str) -> io::Result<Vec<String>> {
    let names: Vec<String> = boxes(parent).into_keys().collect();
    for name in &names {
        reap_one(parent, name)?;
    }
    Ok(names)
}

/// Ends every process of the box `name` and removes its groups. A box that is not there is no error.
///
/// A box's helper does this by itself; this is for one whose helper was killed, or is slow and without an operator.
pub(crate) fn reap_one(parent: &str, name: &str) -> io::Result<()> {
    let groups: Vec<PathBuf> = hierarchies().into_iter().map(|path| path.join(&parent[1..]).join(name)).collect();
    for freezer in groups.iter().flat_map(|group| and_below(group)).map(|group| group.join("freezer.state")) {
        // On v1 what is frozen does not die; elsewhere there is no such file.
        if freezer.exists() {
            drop(fs::write(&freezer, "THAWED"));
        }
    }
    let mut tries = 0;
    loop {
        for pid in groups.iter().flat_map(|group| members(group)) {
            if let Some(pid) = rustix::process::Pid::from_raw(pid.cast_signed())
                && let Err(e) = rustix::process::kill_process(pid, rustix::process::Signal::KILL)
                && e != rustix::io::Errno::SRCH
            {
                return Err(e.into());
            }
        }
        let removed = groups.iter().flat_map(|group| and_below(group)).map(|group| match fs::remove_dir(group) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        });
        tries += 1;
        match removed.fold(Ok(()), io::Result::and) {
            // Killed is not yet gone; and one that was killed on its way into a group may still come to it.
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy && tries < 1000 => {
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
            done => return done,
        }
    }
}

/// Removes the installation's own group, if it is empty.
pub fn remove_parent(parent: &str) {
    for hierarchy in hierarchies() {
        // Not empty, or not there: both are fine, the next operator reaps.
        drop(fs::remove_dir(hierarchy.join(&parent[1..])));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Profile;

    /// A table in which everything is as promised.
    fn table() -> String {
        let mut lines = vec!["1 0 0:1 /root / ro,nosuid,nodev - tmpfs tmpfs rw".to_owned()];
        for mount in oci::promised(&Profile::default().limits, &[]) {
            let access = if mount.writable { "rw" } else { "ro" };
            let noexec = if mount.executable { "" } else { ",noexec" };
            let size = mount.size_kib.map(|kib| format!(",size={kib}k")).unwrap_or_default();
            let inodes = mount.inodes.map(|n| format!(",nr_inodes={n}")).unwrap_or_default();
            let point = mount.point.display();
            let kind = if mount.layered { "overlay" } else { "tmpfs" };
            lines.push(format!("2 1 0:2 / {point} {access},nosuid,nodev{noexec} - {kind} tmpfs rw{size}{inodes}"));
        }
        lines.push("3 2 0:3 /sys /proc/sys ro,nosuid - proc proc rw".into());
        lines.push("3 2 0:4 / /proc/acpi ro - tmpfs tmpfs ro".into());
        lines.push("3 2 0:5 /null /proc/keys rw,nosuid - tmpfs tmpfs rw".into());
        lines.join("\n")
    }

    fn wrong(table: &str) -> String {
        let promised = oci::promised(&Profile::default().limits, &[]);
        wrong_mounts(table, &promised, |part| ["/proc/sys", "/proc/acpi", "/proc/keys"].contains(&part)).join("; ")
    }

    #[test]
    fn the_system_is_the_images_when_each_folder_of_it_is() {
        let id = format!("sha256:{}", "0a".repeat(32));
        let line = |of: &str, point: &str| {
            format!("2 1 0:2 / {point} ro,nosuid,nodev - overlay system ro,lowerdir={of}:stage/empty,metacopy=off\n")
        };
        let tree = format!("images/{}", "0a".repeat(32));
        let good = line(&format!("{tree}/usr"), "/usr") + &line(&format!("{tree}/etc"), "/etc") + &line("/", "/proc");
        assert_eq!(image_of(&good, &id), id);
        assert_eq!(image_of(&(good.clone() + &line("/lib64", "/lib64")), &id), "/lib64 is lowerdir=/lib64:stage/empty");
        assert_eq!(image_of(&good.replace("overlay", "ext4"), &id), "/usr is /");
        assert_eq!(image_of(&good.replace("0a0a", "0b0b"), &id).split(' ').next(), Some("/usr"));
        assert_eq!(image_of(&line("/", "/proc"), &id), "no system is mounted");
    }

    #[test]
    fn what_is_no_group_of_a_box_is_never_killed() {
        for other in ["", "/", "//", "/volary-1", "/volary-1/", "/volary-2/b1", "/volary-10/b1", "/system.slice"] {
            let refused = kill_members("/volary-1", other).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput, "{other:?}");
        }
        for parent in ["", "/"] {
            assert_eq!(kill_members(parent, "/b1").unwrap_err().kind(), io::ErrorKind::InvalidInput, "{parent:?}");
        }
    }

    #[test]
    fn a_table_as_promised_has_nothing_wrong() {
        assert_eq!(wrong(&table()), "");
    }

    #[test]
    fn each_thing_that_is_missing_of_a_mount_is_told() {
        let cases = [
            ("/proc/sys ro,", "/proc/sys rw,", "/proc/sys is writable"),
            ("/proc/acpi ro ", "/proc/acpi rw ", "/proc/acpi is not masked"),
            ("/null /proc/keys", "/keys /proc/keys", "/proc/keys is not masked"),
            ("/proc/keys", "/proc/1/root", "/proc/1/root is mounted and was not promised; /proc/keys is not masked"),
            ("/sys /proc/sys", "/sys /tmp/x", "/tmp/x is mounted and was not promised; /proc/sys is not read-only"),
            ("/dev/shm rw,nosuid,nodev,noexec", "/dev/shm rw,nosuid,nodev", "/dev/shm can be executed from"),
            ("size=65536k", "size=65537k", "/dev/shm is not 65536 KiB at most"),
            (",size=524288k", "", "/tmp is not 524288 KiB at most"),
            (",nr_inodes=131072", "", "/tmp takes more than 131072 files"),
            ("/usr ro,", "/usr rw,", "/usr is writable"),
            ("/usr ro,nosuid,nodev - overlay", "/usr ro,nosuid,nodev - ext4", "/usr has the host's own inodes"),
            ("/workspace rw,nosuid,", "/workspace rw,", "/workspace obeys set-uid"),
            ("/root / ro,", "/root / rw,", "/ is writable"),
        ];
        for (from, to, said) in cases {
            let table = table();
            assert!(table.contains(from), "{from} is not in {table}");
            let found = wrong(&table.replace(from, to));
            assert!(found.contains(said), "{from} → {to}: {found:?}");
        }
        assert!(wrong("no table").contains("cannot be read"));
    }
}
