//! The box's mount table: exactly what was promised, and nothing else.

use super::{reading, text};
use crate::folders::Inode;
use crate::harden::HardenedSpec;
use crate::oci::{self, Origin};
use crate::process::Process;
use model::event::Reading;
use model::profile::Engine;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// The mount table: exactly the promised points, each with what was promised of it.
pub fn as_promised(spec: &HardenedSpec, first: &Process) -> Reading {
    let exists = |point: &str| {
        let inside = first.file("root").join(&point[1..]);
        Path::new(point).symlink_metadata().is_ok() || inside.symlink_metadata().is_ok()
    };
    let table = text(&first.file("mountinfo"));
    let promised = match spec.engine {
        Engine::Embedded => oci::mounts(Path::new("/"), spec),
        Engine::Docker => crate::docker::mounts(Path::new("/"), spec),
    };
    let is_hosts = |mount: &oci::Mount| is_the_same(first, mount);
    let wrong = wrong_mounts(&table, &promised, exists, is_hosts);
    let read = if wrong.is_empty() { "as promised".to_owned() } else { wrong.join("; ") };
    reading("mounts", "as promised", read, "/proc/PID/mountinfo")
}

/// The files of the box's own: each with the text that was written for it.
pub fn own_files(spec: &HardenedSpec, first: &Process) -> Reading {
    let other = |(point, text): (&'static str, String)| match read_in(first, Path::new(point), text.len()) {
        Ok(found) if found == text.as_bytes() => None,
        Ok(_) => Some(format!("{point} has another text")),
        Err(e) => Some(format!("{point}: {e}")),
    };
    let wrong: Vec<String> = match spec.engine {
        Engine::Embedded => oci::own_files(spec).into_iter().filter_map(other).collect(),
        Engine::Docker => crate::docker::own_files(spec).filter_map(other).collect(),
    };
    let read = if wrong.is_empty() { "as written".to_owned() } else { wrong.join("; ") };
    reading("own files", "as written", read, "/proc/PID/root")
}

/// The first bytes of a file of the box, one more than `expected` at most.
fn read_in(first: &Process, path: &Path, expected: usize) -> io::Result<Vec<u8>> {
    let mut found = Vec::new();
    File::from(open_in(first, path, OFlags::RDONLY)?).take(expected as u64 + 1).read_to_end(&mut found)?;
    Ok(found)
}

/// Whether the box has at a mount's point what of the host has to be there.
fn is_the_same(first: &Process, mount: &oci::Mount) -> io::Result<bool> {
    let inside = File::from(open_in(first, &mount.point, OFlags::PATH)?).metadata()?;
    Ok(mount.inode()? == Some(Inode::from(&inside)))
}

/// Opens a path as the box's processes find it: a link of the box leads to nothing of the host.
fn open_in(first: &Process, path: &Path, how: OFlags) -> io::Result<OwnedFd> {
    let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(first.file("root"), folder, Mode::empty())?;
    let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(root, path, how | OFlags::CLOEXEC, Mode::empty(), within)?)
}

/// Whose tree the box's system is, where the platform itself unpacked it.
pub fn image(spec: &HardenedSpec, first: &Process) -> Option<Reading> {
    let id = spec.image_id.as_deref()?;
    let table = text(&first.file("mountinfo"));
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

/// Everything of a mount table that is not as promised. `exists` tells whether this kernel has such a part of `/proc`,
/// `is_hosts` whether what is found at a mount's point of the box is what of the host has to be there.
fn wrong_mounts(
    table: &str,
    promised: &[oci::Mount],
    exists: impl Fn(&str) -> bool,
    is_hosts: impl Fn(&oci::Mount) -> io::Result<bool>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut seen: Vec<PathBuf> = Vec::new();
    for text in table.lines() {
        let Some(line) = Line::read(text) else {
            wrong.push(format!("a line that cannot be read: {text}"));
            continue;
        };
        let point = line.point.display();
        if seen.contains(&line.point) {
            wrong.push(format!("{point} is mounted twice"));
        }
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
            wrong.extend(wrong_origin(&line, mount, &is_hosts));
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

/// What is mounted there, if that is another thing than what was promised.
fn wrong_origin(line: &Line, mount: &oci::Mount, is_hosts: impl Fn(&oci::Mount) -> io::Result<bool>) -> Option<String> {
    let point = line.point.display();
    let other = || Some(format!("{point} is another thing: {} of a file system {}", line.root, line.kind));
    match &mount.origin {
        Origin::Layers { .. } if line.kind != "overlay" => Some(format!("{point} has the host's own inodes")),
        Origin::Layers { option, part } => {
            let as_promised = line.own.contains(&option.as_str()) && unescape(line.root) == *part;
            if as_promised { None } else { other() }
        }
        Origin::Fresh(kind) => {
            if line.kind == kind && line.root == "/" {
                None
            } else {
                other()
            }
        }
        Origin::Host | Origin::Folder(_) => match is_hosts(mount) {
            Ok(true) => None,
            Ok(false) => other(),
            Err(e) => Some(format!("{point} cannot be compared with the host's: {e}")),
        },
        Origin::Own => None,
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use model::Profile;
    use model::profile::Folder;

    fn promised() -> Vec<oci::Mount> {
        let shared = Folder { path: "/srv/shared".into(), writable: false };
        oci::promised(&Profile::default().limits, &[shared])
    }

    /// A table in which everything is as promised.
    fn table() -> String {
        let mut lines = vec!["1 0 0:1 /root / ro,nosuid,nodev - tmpfs tmpfs rw".to_owned()];
        for mount in promised() {
            let access = if mount.writable { "rw" } else { "ro" };
            let noexec = if mount.executable { "" } else { ",noexec" };
            let size = mount.size_kib.map(|kib| format!(",size={kib}k")).unwrap_or_default();
            let inodes = mount.inodes.map(|n| format!(",nr_inodes={n}")).unwrap_or_default();
            let point = mount.point.display();
            let (kind, part, of) = match &mount.origin {
                Origin::Layers { option, part } => ("overlay", part.display().to_string(), format!(",{option}")),
                Origin::Fresh(kind) => (&**kind, "/".to_owned(), String::new()),
                Origin::Host | Origin::Folder(_) | Origin::Own => ("ext4", point.to_string(), String::new()),
            };
            let own = if kind == "proc" { ",hidepid=invisible" } else { "" };
            let own = format!("{own}{size}{inodes}{of}");
            lines.push(format!("2 1 0:2 {part} {point} {access},nosuid,nodev{noexec} - {kind} some rw{own}"));
        }
        lines.push("3 2 0:3 /sys /proc/sys ro,nosuid - proc proc rw".into());
        lines.push("3 2 0:4 / /proc/acpi ro - tmpfs tmpfs ro".into());
        lines.push("3 2 0:5 /null /proc/keys rw,nosuid - tmpfs tmpfs rw".into());
        lines.join("\n")
    }

    fn wrong(table: &str) -> String {
        let exists = |part: &str| ["/proc/sys", "/proc/acpi", "/proc/keys"].contains(&part);
        let is_hosts = |_: &oci::Mount| Ok(!table.contains("/elsewhere"));
        wrong_mounts(table, &promised(), exists, is_hosts).join("; ")
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
            ("lowerdir=/usr:", "lowerdir=/root:", "/usr is another thing"),
            ("/ /usr ro", "/share /usr ro", "/usr is another thing"),
            ("lowerdir=lower", "lowerdir=other", "/workspace is another thing"),
            ("/ /tmp rw", "/root /tmp rw", "/tmp is another thing"),
            (
                "/srv/shared ro,nosuid,nodev - ext4 some",
                "/srv/shared ro,nosuid,nodev - ext4 /elsewhere",
                "/srv/shared is another",
            ),
            ("3 2 0:4 /", "2 1 0:9 / /tmp rw,nosuid,nodev - tmpfs t rw\n3 2 0:4 /", "/tmp is mounted twice"),
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
