//! What was read of a box's walls: whether it may have its task, and whether it may keep it.

use crate::engine::{Folders, Watch};
use model::event::Reading;
use std::sync::Arc;
use std::time::Duration;

/// How often the walls of a box at work are read again.
const LOOK: Duration = Duration::from_secs(10);
/// How soon once more, when one was read that does not hold, and how often it must be read so: a box that is just
/// ending is no broken one.
const LOOK_AGAIN: (Duration, u32) = (Duration::from_millis(500), 3);

/// Every wall must have been read and must hold; no reading at all is no wall at all.
///
/// # Errors
/// A sentence that names each wall that does not hold.
pub fn judge(readings: &[Reading]) -> Result<(), String> {
    let off: Vec<String> = readings
        .iter()
        .filter(|reading| !reading.holds)
        .map(|reading| format!("{} (promised {}, read {})", reading.wall, reading.promised, reading.read))
        .collect();
    match (readings.is_empty(), off.is_empty()) {
        (true, _) => Err("no wall of the box could be read back; it was killed".into()),
        (false, true) => Ok(()),
        (false, false) => Err(format!("a wall of the box does not hold: {}; it was killed", off.join(", "))),
    }
}

/// Returns when a wall of a box at work does not hold any more, with what was read.
pub async fn drift(watch: &Watch) -> String {
    let mut wrong = 0;
    loop {
        tokio::time::sleep(if wrong == 0 { LOOK } else { LOOK_AGAIN.0 }).await;
        let look = Arc::clone(watch);
        let verdict = crate::blocking(move || look()).await.map_or(Ok(()), |readings| judge(&readings));
        match verdict {
            Ok(()) => wrong = 0,
            Err(why) if wrong + 1 == LOOK_AGAIN.1 => return why,
            Err(_) => wrong += 1,
        }
    }
}

/// How often the kernel's own memory is looked at while a box works.
const WEIGH: Duration = Duration::from_millis(250);
/// What the host's kernel may take beyond the least that it took since a box began to work, in KiB, before the box's open
/// folders are counted.
const ROOM_KIB: u64 = 256 << 10;
/// What a box may hold open then, of folders of its worktree: how many, and how many bytes their lists have together.
pub const MOST_FOLDERS: (usize, u64) = (32, 64 << 20);
/// How often in a row it must be found so: a command may be just walking through a deep tree.
const LOOKS: u32 = 4;

/// Returns when a box takes the host's memory through the folders that it holds open, with what was found.
///
/// Of a folder of the worktree that is read the kernel keeps every name for as long as it is open, and once more for each
/// opening after a change; it counts that for nobody, so no limit of the box's does. What it takes by that is within what
/// the host's kernel takes that it cannot give back.
pub async fn hoards(folders: &Folders) -> String {
    let (mut least, mut found) = (u64::MAX, 0);
    loop {
        tokio::time::sleep(WEIGH).await;
        let Some(now) = kernels_kib() else { continue };
        least = least.min(now);
        let grown = now - least;
        if grown < ROOM_KIB {
            found = 0;
            continue;
        }
        let count = Arc::clone(folders);
        let (open, bytes) = crate::blocking(move || count()).await;
        if open <= MOST_FOLDERS.0 && bytes <= MOST_FOLDERS.1 {
            // Somebody else's, up to here.
            (least, found) = (now, 0);
            continue;
        }
        found += 1;
        if found == LOOKS {
            let open = if open == usize::MAX { "more than can be counted".to_owned() } else { open.to_string() };
            return format!(
                "killed: of folders of its worktree it holds {open} open, with {} MiB of names, and the host's kernel took {} MiB for \
                 such lists and the like; read a folder and close it",
                bytes >> 20,
                grown >> 10
            );
        }
    }
}

/// What the host's kernel holds that it cannot give back, in KiB: `SUnreclaim` of `/proc/meminfo`.
fn kernels_kib() -> Option<u64> {
    let said = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = said.lines().find_map(|line| line.strip_prefix("SUnreclaim:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}
