//! What a box does to the host's kernel that no limit of a control group bounds: memory that is counted for nobody, and lines in
//! the host's log. Both are looked at from outside while the box works; whoever hears of one ends the box.

use crate::engine::{Gauge, Holds};
use sandbox::Held;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// How often the kernel's own memory is looked at while a box works.
const WEIGH: Duration = Duration::from_millis(250);
/// What the host's kernel may take beyond the least that it took since a box began to work, in KiB, before it is counted what
/// the box has it hold.
const ROOM_KIB: u64 = 256 << 10;
/// What a box may hold then. Of each it is more than anything that works needs, and, but for what sockets keep of what they sent, little
/// of the host's memory. Sockets: those of four processes that have nothing else open, by the limit where a profile says none; a
/// server and what tries it with a thousand connections have half of them.
const MOST: Held = Held {
    // As many as are listed in a look: what they take is told by their names, and of more nobody knows.
    folders: 64,
    names: 64 << 20,
    unseen: false,
    elsewhere: 4096,
    locks: 1 << 16,
    nobodys: 1 << 14,
    unread: 128 << 20,
    sockets: 4096,
};
/// At each of so many looks sockets and what is on them are counted in any case: what they hold is not all told by the kernel's
/// own sums.
const ALWAYS: u32 = 4;
/// How often in a row too many folders must be found open: a command may be just walking through a deep tree.
const LOOKS: u32 = 4;
/// So many processes of a box may be ended at its memory limit within [`STORM_SECS`]: each is a line of the host's log.
const MOST_ENDED: u64 = 100;
/// Seconds of that, each looked at once.
const STORM_SECS: usize = 60;

/// Returns when a box takes the host's memory by what is counted for nobody, with what was found.
///
/// The kernel keeps every name of a folder of the worktree for as long as it is open, and once more for each opening after
/// a change; so it keeps each lock on a part of a file, and each connection that nobody has accepted, with what was sent on
/// it; of those that are closed and not done it has only so many for the whole host. What a box takes by that is within what the host's kernel takes that it cannot give back, and its TCP.
/// A process of it may have so many files open.
pub async fn hoards(holds: &Holds, open_files: u64) -> String {
    let sockets = usize::try_from(open_files).unwrap_or(usize::MAX).saturating_mul(4).max(MOST.sockets);
    hoards_beside(holds, &Held { sockets, ..MOST }, kernels_kib).await
}

/// As [`hoards`], of what may be held at most so much, where the host's kernel takes so many KiB.
async fn hoards_beside(holds: &Holds, most: &Held, kernels_kib: impl Fn() -> Option<u64>) -> String {
    let (mut least, mut found, mut looks) = (u64::MAX, 0, 0_u32);
    loop {
        tokio::time::sleep(WEIGH).await;
        let now = kernels_kib();
        least = now.map_or(least, |now| least.min(now));
        looks = looks.wrapping_add(1);
        let grown = now.map(|now| now - least);
        // Where the kernel does not say, every look is.
        let whole = grown.is_none_or(|grown| grown >= ROOM_KIB);
        if !whole && looks % ALWAYS != 0 {
            found = 0;
            continue;
        }
        let count = Arc::clone(holds);
        let held = crate::blocking(move || count(whole)).await;
        let Some((what, may_pass)) = too_much(&held, most) else {
            // Somebody else's, up to here.
            (least, found) = (now.filter(|_| whole).unwrap_or(least), 0);
            continue;
        };
        found += 1;
        if found == LOOKS || !may_pass {
            // Where its own sums were not asked they say nothing of this.
            let took = grown.filter(|_| whole);
            let took =
                took.map_or_else(String::new, |kib| format!("; the host's kernel took {} MiB for the like", kib >> 10));
            return format!("killed: {what}{took}");
        }
    }
}

/// What a box holds too much of, and what to do, in words; and whether it may be so for a moment only.
fn too_much(held: &Held, most: &Held) -> Option<(String, bool)> {
    let told =
        |number: usize| if number == usize::MAX { "more than can be counted".into() } else { number.to_string() };
    if held.folders > most.folders || held.names > most.names {
        let (open, names) = (told(held.folders), held.names >> 20);
        let what = if held.unseen {
            format!(
                "its worktree could not be looked at, and of folders it holds {open} open (read a folder and close it)"
            )
        } else {
            format!(
                "of folders of its worktree it holds {open} open, with {names} MiB of names (read a folder and close it)"
            )
        };
        return Some((what, true));
    }
    if held.elsewhere > most.elsewhere {
        let what = format!("it holds {} folders open (read a folder and close it)", told(held.elsewhere));
        return Some((what, true));
    }
    if held.locks > most.locks {
        let (locks, most) = (told(held.locks), most.locks);
        return Some((format!("it holds {locks} locks on parts of files, and may hold {most}"), false));
    }
    if held.nobodys > most.nobodys || held.unread > most.unread {
        let (connections, unread) = (told(held.nobodys), held.unread >> 20);
        let what = format!(
            "{connections} connections in it are no process's (nobody accepted them, or they were closed and are not done), and on \
             them and in sockets of datagrams {unread} MiB wait to be read"
        );
        return Some((what, false));
    }
    if held.sockets > most.sockets {
        return Some((format!("its processes have {} sockets, and may have {}", held.sockets, most.sockets), false));
    }
    None
}

/// What the host's kernel holds that it cannot give back, in KiB: `SUnreclaim` of `/proc/meminfo`, and the buffers of all TCP.
fn kernels_kib() -> Option<u64> {
    let said = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = said.lines().find_map(|line| line.strip_prefix("SUnreclaim:"))?;
    let slabs: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    // In pages, of every namespace together.
    let said = std::fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let tcp = said.lines().find_map(|line| line.strip_prefix("TCP:"));
    let mut words = tcp.unwrap_or_default().split_whitespace().skip_while(|word| *word != "mem");
    let pages: u64 = words.nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    Some(slabs + pages * sandbox::page_kib())
}

/// Returns when the kernel has ended too many processes of a box at its memory limit, with what was found.
pub async fn storms(gauge: &Gauge, memory_mib: u64) -> String {
    let mut before = VecDeque::with_capacity(STORM_SECS);
    loop {
        let now = gauge().memory_kills;
        let first = *before.front().unwrap_or(&now);
        if now.saturating_sub(first) >= MOST_ENDED {
            let ended = now - first;
            return format!(
                "killed: memory limit {memory_mib} MiB, at which {ended} of its processes were ended within {STORM_SECS} s; a box that goes \
                 on and on at its limit is ended"
            );
        }
        if before.len() == STORM_SECS {
            before.pop_front();
        }
        before.push_back(now);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::inbox::Counts;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn a_box_may_hold_as_much_as_it_may_and_not_one_more_of_anything() {
        assert_eq!(too_much(&MOST, &MOST), None);
        let more = [
            (Held { folders: 65, ..MOST }, "65 open", true),
            (Held { folders: usize::MAX, ..MOST }, "more than can be counted open", true),
            (Held { names: (64 << 20) + 1, ..MOST }, "64 MiB of names", true),
            // Not looked at, five are too many: what they hold is not said to be names.
            (
                Held { folders: 5, names: 80 << 20, unseen: true, ..MOST },
                "its worktree could not be looked at, and of folders it holds 5 open (",
                true,
            ),
            (Held { elsewhere: 4097, ..MOST }, "4097 folders", true),
            (Held { locks: 65_537, ..MOST }, "65537 locks", false),
            (Held { nobodys: 16_385, ..MOST }, "16385 connections", false),
            (Held { unread: (128 << 20) + 1, ..MOST }, "128 MiB wait", false),
            (Held { sockets: 4097, ..MOST }, "4097 sockets, and may have 4096", false),
        ];
        for (held, word, may_pass) in more {
            let (what, passes) = too_much(&held, &MOST).unwrap_or_else(|| panic!("{held:?} may be"));
            assert!(what.contains(word) && passes == may_pass, "{held:?}: {what}");
        }
    }

    /// What a box holds at each look, the last of it for ever, and how each look was asked for.
    fn looks(held: Vec<Held>) -> (Holds, Arc<Mutex<Vec<bool>>>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&asked);
        let holds: Holds = Arc::new(move |whole| {
            let mut told = told.lock().unwrap();
            told.push(whole);
            held[(told.len() - 1).min(held.len() - 1)]
        });
        (holds, asked)
    }

    const LONG: Duration = Duration::from_secs(600);
    const FOLDERS: Held = Held { folders: MOST.folders + 1, ..MOST };

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_ends_a_box_when_it_is_found_so_many_times_in_a_row_and_the_rest_at_once() {
        // It grows at each look, so that each is whole.
        let kernel = || {
            let taken = AtomicU64::new(0);
            move || Some(taken.fetch_add(ROOM_KIB, Ordering::Relaxed))
        };
        let (holds, asked) = looks([vec![FOLDERS; 3], vec![MOST], vec![FOLDERS; 4]].concat());
        let said = tokio::time::timeout(LONG, hoards_beside(&holds, &MOST, kernel())).await.unwrap();
        assert!(said.contains("65 open") && said.contains("the host's kernel took 1024 MiB for the like"), "{said}");
        assert_eq!(*asked.lock().unwrap(), [true; 8]);
        let (holds, asked) = looks(vec![MOST, Held { locks: MOST.locks + 1, ..MOST }]);
        tokio::time::timeout(LONG, hoards_beside(&holds, &MOST, kernel())).await.unwrap();
        assert_eq!(asked.lock().unwrap().len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn where_the_kernel_does_not_say_what_it_takes_every_look_is_whole() {
        let (holds, asked) = looks([vec![MOST; 2], vec![FOLDERS; 4]].concat());
        let said = tokio::time::timeout(LONG, hoards_beside(&holds, &MOST, || None)).await.unwrap();
        assert!(said.ends_with("(read a folder and close it)"), "{said}");
        assert_eq!(*asked.lock().unwrap(), [true; 6]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_kernel_took_is_counted_once_and_connections_and_datagrams_each_second_whatever_it_took() {
        // It grew once, and not by this box.
        let grown = || {
            let looks = AtomicU64::new(0);
            move || Some(if looks.fetch_add(1, Ordering::Relaxed) == 0 { 0 } else { ROOM_KIB })
        };
        let much = Held { unread: MOST.unread + 1, ..MOST };
        let (holds, asked) = looks([vec![MOST; 4], vec![much]].concat());
        let said = tokio::time::timeout(LONG, hoards_beside(&holds, &MOST, grown())).await.unwrap();
        assert!(said.ends_with("wait to be read"), "nobody asked what the kernel took: {said}");
        assert_eq!(*asked.lock().unwrap(), [true, false, false, false, false]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hundred_processes_ended_within_a_minute_are_too_many_and_as_many_within_more_are_not() {
        static ENDED: AtomicU64 = AtomicU64::new(0);
        // At each look that many more were ended.
        let gauge = |more: u64| -> Gauge {
            ENDED.store(4711, Ordering::Relaxed);
            let ended = move || ENDED.fetch_add(more, Ordering::Relaxed);
            Box::new(move || Counts { memory_kills: ended(), ..Counts::default() })
        };
        let long = Duration::from_secs(600);
        let one_a_second = gauge(1);
        assert!(tokio::time::timeout(long, storms(&one_a_second, 64)).await.is_err());
        let two_a_second = gauge(2);
        let said = tokio::time::timeout(long, storms(&two_a_second, 64)).await.unwrap();
        assert!(said.starts_with("killed: memory limit 64 MiB, at which 100 of its processes"), "{said}");
    }
}
