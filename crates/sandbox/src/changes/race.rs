//! The reading of changes against one who exchanges what is read: files, folders, links and pipes of one name.
//!
//! In a box nobody is left to do so when its changes are read; should somebody be, this is what stands before the host.

use super::{Paths, stream};
use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What no stream may hold: it lies outside the worktree, and links of the worktree point there.
const OUTSIDE: &[u8] = b"content-of-the-host";
/// Longer: as many bytes are read of what is found in its place.
const INSIDE: &[u8] = b"content of the box, which may be read";
/// Readings at least, and the time in which each kind of answer must have come.
const ROUNDS: u32 = 5000;
const PATIENCE: Duration = Duration::from_secs(120);

fn holds(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|some| some == part)
}

/// Fills one half of a worktree: beside each entry stands what it is exchanged with.
fn filled(half: &Path, outside: &Path) {
    fs::create_dir_all(half.join("folder")).unwrap();
    fs::write(half.join("folder/f"), INSIDE).unwrap();
    std::os::unix::fs::symlink(outside, half.join("folder.other")).unwrap();
    fs::write(half.join("file"), INSIDE).unwrap();
    std::os::unix::fs::symlink(outside.join("f"), half.join("file.other")).unwrap();
    fs::write(half.join("piped"), INSIDE).unwrap();
    mknodat(CWD, half.join("piped.other"), FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
    fs::write(half.join("linked"), INSIDE).unwrap();
    fs::hard_link(half.join("file"), half.join("linked.other")).unwrap();
}

#[test]
fn what_is_exchanged_for_a_link_while_changes_are_read_leads_no_reading_out_of_the_worktree() {
    let dir = tempfile::tempdir().unwrap();
    let [lower, upper, merged, outside] = ["lower", "upper", "merged", "outside"].map(|name| dir.path().join(name));
    for folder in [&lower, &upper, &merged, &outside] {
        fs::create_dir(folder).unwrap();
    }
    fs::write(outside.join("f"), OUTSIDE).unwrap();
    filled(&upper, &outside);
    filled(&merged, &outside);
    let over = AtomicBool::new(false);
    let end = Instant::now() + PATIENCE;
    let (mut rounds, mut broken_off, mut as_link, mut as_folder) = (0, 0, 0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let exchange = |half: &Path, name: &str| {
                let other = half.join(format!("{name}.other"));
                renameat_with(CWD, half.join(name), CWD, other, RenameFlags::EXCHANGE).unwrap();
            };
            while !over.load(Ordering::Relaxed) && Instant::now() < end {
                for name in ["folder", "file", "piped", "linked"] {
                    exchange(&merged, name);
                    exchange(&upper, name);
                }
            }
        });
        let paths = Paths { lower: lower.clone(), upper: upper.clone(), merged: merged.clone() };
        // Each outcome of the race is seen: both sides of an exchange, and one that came between look and opening.
        while (rounds < ROUNDS || as_link == 0 || as_folder == 0 || broken_off == 0) && Instant::now() < end {
            let mut wire = Vec::new();
            let read = stream(&paths, 1 << 20, &mut wire);
            if holds(&wire, OUTSIDE) {
                over.store(true, Ordering::Relaxed);
                panic!("the stream holds the host's content");
            }
            rounds += 1;
            broken_off += u32::from(read.is_err());
            as_link += u32::from(holds(&wire, b"folder.other/f"));
            as_folder += u32::from(holds(&wire, b"folder/f"));
        }
        over.store(true, Ordering::Relaxed);
    });
    assert!(as_link > 0 && as_folder > 0 && broken_off > 0, "{rounds}: {as_link} {as_folder} {broken_off}");
    let left: Vec<_> = fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!((left, fs::read(outside.join("f")).unwrap()), (vec!["f".into()], OUTSIDE.to_vec()));
}
