//! The processes of boxes, as the host's root sees them: which there are, what they are called, what their memory holds.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The processes in the control groups of this installation's boxes.
pub fn processes_of_boxes(label: &str) -> Vec<u32> {
    fn walk(folder: &Path, wanted: bool, label: &str, found: &mut BTreeSet<u32>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let inside = wanted || entry.file_name().to_string_lossy().contains(&format!("volary-{label}"));
                if inside {
                    let list = fs::read_to_string(entry.path().join("cgroup.procs")).unwrap_or_default();
                    found.extend(list.lines().filter_map(|line| line.parse::<u32>().ok()));
                }
                walk(&entry.path(), inside, label, found);
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(Path::new("/sys/fs/cgroup"), false, label, &mut found);
    found.into_iter().collect()
}

/// A process's command line.
pub fn words(pid: u32) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).replace('\0', " ")
}

/// Reads a process's memory in pieces that overlap by less than `overlap`, and says how many bytes there were; none of one that
/// has ended.
pub fn memory_of(pid: u32, overlap: usize, mut each: impl FnMut(&[u8])) -> Option<u64> {
    let lives = |error: &std::io::Error| {
        let gone = error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH);
        assert!(gone, "memory of {pid}: {error}");
    };
    let memory = File::open(format!("/proc/{pid}/mem")).inspect_err(lives).ok()?;
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).inspect_err(lives).ok()?;
    let mut bytes = 0;
    let mut data = vec![0; 1 << 20];
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (from, to) = words.next().unwrap().split_once('-').unwrap();
        let (from, to) = (u64::from_str_radix(from, 16).unwrap(), u64::from_str_radix(to, 16).unwrap());
        let mut at = from;
        while at < to && from < 1 << 63 {
            let most = usize::try_from((to - at).min(data.len() as u64)).unwrap();
            // Pages that were never there, and those of the kernel's own, do not read.
            let Ok(got @ 1..) = memory.read_at(&mut data[..most], at) else { break };
            each(&data[..got]);
            bytes += got as u64;
            if at + got as u64 >= to {
                break;
            }
            at += (got.saturating_sub(overlap).max(1)) as u64;
        }
    }
    Some(bytes)
}
