//! What a platform must not leave behind when it ends.

use std::fs;
use std::path::Path;

/// Everything on this machine that still belongs to the platform of `home` and `label`, one sentence each:
/// mounts, loop devices, control groups, processes. Empty is good.
///
/// Looks where a person would look: `/proc`, `/sys/block`, `/sys/fs/cgroup`; needs root to see other uids' processes.
#[must_use]
pub fn leftovers(home: &Path, label: &str) -> Vec<String> {
    let home = home.to_string_lossy().into_owned();
    let mut left = Vec::new();
    mounts(&home, &mut left);
    loops(&home, &mut left);
    if !label.is_empty() {
        groups(Path::new("/sys/fs/cgroup"), &format!("volary-{label}"), 4, &mut left);
    }
    processes(&home, &mut left);
    left
}

fn mounts(home: &str, left: &mut Vec<String>) {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    left.extend(table.lines().filter(|line| line.contains(home)).map(|line| format!("a mount: {line}")));
}

fn loops(home: &str, left: &mut Vec<String>) {
    for device in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
        let file = fs::read_to_string(device.path().join("loop/backing_file")).unwrap_or_default();
        if file.contains(home) {
            left.push(format!("a loop device: {} on {}", device.file_name().to_string_lossy(), file.trim()));
        }
    }
}

fn groups(folder: &Path, name: &str, depth: u32, left: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        if entry.file_name().to_string_lossy().contains(name) {
            left.push(format!("a control group: {}", entry.path().display()));
        } else if depth > 0 {
            groups(&entry.path(), name, depth - 1, left);
        }
    }
}

fn processes(home: &str, left: &mut Vec<String>) {
    let own = std::process::id().to_string();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == own || !name.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        for file in ["cmdline", "environ", "mountinfo"] {
            // A process that ended while we looked has no files; that is what we want of it.
            let bytes = fs::read(entry.path().join(file)).unwrap_or_default();
            if contains(&bytes, home.as_bytes()) {
                let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
                let line = String::from_utf8_lossy(&line).replace('\0', " ");
                left.push(format!("a process: {name} ({}), by its {file}", line.trim()));
                break;
            }
        }
    }
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_that_names_the_home_is_found_and_gone_once_it_ended() {
        let home = Path::new("/tmp/volary-t-only-in-this-test");
        assert_eq!(leftovers(home, ""), Vec::<String>::new());
        let mut child =
            Command::new("sleep").arg("100").env("AT", home).stdin(Stdio::null()).spawn().expect("sleep starts");
        let found =
            crate::eventually("the child's environment", || Some(leftovers(home, "")).filter(|left| !left.is_empty()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("sleep 100") && found[0].contains("environ"), "{found:?}");
        assert_eq!(leftovers(home, ""), Vec::<String>::new());
    }
}
