//! What a box's control group lets it have: memory and swap, time of the processor, processes.
//!
//! A limit is all of its numbers: a quota says nothing without its period. What cannot be read does not hold.

use super::reading;
use crate::doctor::Cgroups;
use crate::group::{SOCKET_BUFFERS, cgroup_path};
use crate::process::Process;
use model::Limits;
use model::event::Reading;
use std::fs;
use std::io;

/// The time, in microseconds, of which [`crate::oci`] and Docker's engine give a quota.
pub(crate) const PERIOD_US: u64 = 100_000;

/// A control group as [`limits`] and [`member`] ask it: by controller and file, as v1 has them. On v2 there is one folder.
pub(super) trait Group {
    /// How the host has them.
    fn kind(&self) -> Cgroups;
    /// The text of one file, without its last line's end.
    fn text(&self, controller: &str, file: &str) -> io::Result<String>;
    /// The host's own list of its swap areas: a line of titles, and one for each.
    fn swap_areas(&self) -> io::Result<String>;
}

/// The group of a live box, by its name that is absolute in each hierarchy.
pub(super) struct Live<'a>(pub &'a str);

impl Group for Live<'_> {
    fn kind(&self) -> Cgroups {
        crate::doctor::cgroups()
    }
    fn text(&self, controller: &str, file: &str) -> io::Result<String> {
        let controller = if self.kind() == Cgroups::V2 { "" } else { controller };
        Ok(fs::read_to_string(cgroup_path(self.0, controller).join(file))?.trim_end().to_owned())
    }
    fn swap_areas(&self) -> io::Result<String> {
        fs::read_to_string("/proc/swaps")
    }
}

fn said(read: io::Result<String>) -> String {
    read.unwrap_or_else(|e| format!("unreadable: {e}"))
}

/// Every limit, and that process 1 is in the group that has it.
pub(super) fn all(limits: &Limits, group: &impl Group, first: &Process) -> Vec<Reading> {
    let mut lines = self::limits(limits, group);
    lines.extend(["memory", "cpu", "pids"].map(|controller| member(group, controller, first.number())));
    lines
}

fn limits(limits: &Limits, group: &impl Group) -> Vec<Reading> {
    let v2 = group.kind() == Cgroups::V2;
    let ask = |controller, v1, two| said(group.text(controller, if v2 { two } else { v1 }));
    let memory = limits.memory_mib << 20;
    let time = if v2 {
        ask("cpu", "", "cpu.max").split_whitespace().collect::<Vec<_>>().join(" of ")
    } else {
        format!("{} of {}", ask("cpu", "cpu.cfs_quota_us", ""), ask("cpu", "cpu.cfs_period_us", ""))
    };
    let quota = limits.cpu_millis * PERIOD_US / 1000;
    let line = |wall: &str, promised: String, read: String| reading(wall, promised, read, "cgroup");
    let mut lines = vec![
        line("memory", memory.to_string(), ask("memory", "memory.limit_in_bytes", "memory.max")),
        line("processor", format!("{quota} of {PERIOD_US}"), time),
        line("processes", limits.processes.to_string(), ask("pids", "pids.max", "pids.max")),
        swap(memory, group),
    ];
    // Time that was not used may be kept for later where the kernel knows it (5.14).
    match group.text("cpu", if v2 { "cpu.max.burst" } else { "cpu.cfs_burst_us" }) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        kept => lines.push(line("processor kept for later", "0".into(), said(kept))),
    }
    // On v2 they are memory; and a kernel without v1's own count of them has nothing that could be set.
    match group.text("memory", "memory.kmem.tcp.limit_in_bytes") {
        _ if v2 => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        read => lines.push(line("socket buffers", SOCKET_BUFFERS.to_string(), said(read))),
    }
    lines
}

/// No swap beside the memory: by the group's limit or, where the kernel counts none for a group, as the host has none.
fn swap(memory: u64, group: &impl Group) -> Reading {
    let (file, most) = match group.kind() {
        Cgroups::V2 => ("memory.swap.max", 0),
        // Memory and swap together.
        _ => ("memory.memsw.limit_in_bytes", memory),
    };
    match group.text("memory", file) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let areas = match group.swap_areas() {
                Ok(list) => list.lines().skip(1).count().to_string(),
                // A kernel without swap has no such list.
                Err(e) if e.kind() == io::ErrorKind::NotFound => "0".into(),
                Err(e) => format!("unreadable: {e}"),
            };
            let read = format!("{areas} areas of the host, not counted for a box");
            reading("swap", "0 areas of the host, not counted for a box", read, "/proc/swaps")
        }
        read => reading("swap", most.to_string(), said(read), "cgroup"),
    }
}

fn member(group: &impl Group, controller: &str, first: u32) -> Reading {
    let wall = match controller {
        "memory" => "memory group",
        "cpu" => "processor group",
        _ => "processes group",
    };
    let members = said(group.text(controller, "cgroup.procs"));
    let inside = members.lines().any(|line| line == first.to_string());
    reading(wall, "a member", if inside { "a member" } else { "not in it" }, "cgroup.procs")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// A group of files that a test wrote.
    #[derive(Clone)]
    struct Written(Cgroups, BTreeMap<&'static str, &'static str>, Option<&'static str>);

    impl Group for Written {
        fn kind(&self) -> Cgroups {
            self.0
        }
        fn text(&self, _: &str, file: &str) -> io::Result<String> {
            self.1.get(file).map(|text| (*text).to_owned()).ok_or_else(|| io::ErrorKind::NotFound.into())
        }
        fn swap_areas(&self) -> io::Result<String> {
            self.2.map(str::to_owned).ok_or_else(|| io::ErrorKind::NotFound.into())
        }
    }

    const TITLES: &str = "Filename\tType\tSize\tUsed\tPriority\n";

    /// 2 GiB, two processors and 256 processes, as each version of the kernel's groups says it.
    fn as_promised() -> [Written; 2] {
        let v1 = [
            ("memory.limit_in_bytes", "2147483648"),
            ("memory.memsw.limit_in_bytes", "2147483648"),
            ("cpu.cfs_quota_us", "200000"),
            ("cpu.cfs_period_us", "100000"),
            ("cpu.cfs_burst_us", "0"),
            ("pids.max", "256"),
            ("cgroup.procs", "17\n4711"),
            ("memory.kmem.tcp.limit_in_bytes", "67108864"),
        ];
        let v2 = [
            ("memory.max", "2147483648"),
            ("memory.swap.max", "0"),
            ("cpu.max", "200000 100000"),
            ("cpu.max.burst", "0"),
            ("pids.max", "256"),
            ("cgroup.procs", "17\n4711"),
        ];
        [Written(Cgroups::V1, v1.into(), Some(TITLES)), Written(Cgroups::V2, v2.into(), Some(TITLES))]
    }

    fn broken(group: &Written) -> Vec<String> {
        let limits = Limits { memory_mib: 2048, cpu_millis: 2000, processes: 256, ..Limits::default() };
        let lines =
            self::limits(&limits, group).into_iter().chain(["memory", "cpu", "pids"].map(|c| member(group, c, 4711)));
        lines.filter(|line| !line.holds).map(|line| line.wall).collect()
    }

    #[test]
    fn a_share_of_the_processor_is_a_quota_and_its_period() {
        let [v1, v2] = as_promised();
        assert_eq!((broken(&v1), broken(&v2)), (vec![], vec![]));
        for period in ["20000", "99999", "100001", "", "max"] {
            let mut one = v1.clone();
            one.1.insert("cpu.cfs_period_us", period);
            assert_eq!(broken(&one), ["processor"], "{period}");
        }
        for text in ["200000 20000", "200000 100001", "200000", "max 100000", "100000 200000", ""] {
            let mut two = v2.clone();
            two.1.insert("cpu.max", text);
            assert_eq!(broken(&two), ["processor"], "{text}");
        }
        let mut burst = v2.clone();
        burst.1.insert("cpu.max.burst", "200000");
        assert_eq!(broken(&burst), ["processor kept for later"]);
    }

    #[test]
    fn a_limit_whose_file_is_not_there_or_says_something_else_does_not_hold() {
        for group in as_promised() {
            let not_everywhere = |file: &str| ["sw", "burst", "tcp"].iter().any(|part| file.contains(part));
            for file in group.1.keys().copied().filter(|file| !not_everywhere(file)) {
                let mut without = group.clone();
                without.1.remove(file);
                assert!(!broken(&without).is_empty(), "{file} is missing");
                let mut other = group.clone();
                other.1.insert(file, "7777");
                assert!(!broken(&other).is_empty(), "{file} is another");
            }
        }
    }

    #[test]
    fn what_sockets_hold_is_bounded_where_the_kernel_counts_it_apart() {
        let [mut v1, mut v2] = as_promised();
        for text in ["9223372036854771712", "67108865", ""] {
            v1.1.insert("memory.kmem.tcp.limit_in_bytes", text);
            assert_eq!(broken(&v1), ["socket buffers"], "{text}");
        }
        v1.1.remove("memory.kmem.tcp.limit_in_bytes");
        v2.1.insert("memory.kmem.tcp.limit_in_bytes", "7777");
        assert_eq!((broken(&v1), broken(&v2)), (vec![], vec![]));
    }

    #[test]
    fn where_the_kernel_counts_no_swap_for_a_box_the_host_must_have_none() {
        for mut group in as_promised() {
            for file in ["memory.swap.max", "memory.memsw.limit_in_bytes"] {
                if let Some(text) = group.1.get_mut(file) {
                    *text = "4294967296";
                    assert_eq!(broken(&group), ["swap"]);
                    group.1.remove(file);
                }
            }
            assert_eq!(broken(&group), [""; 0], "neither counted nor there");
            group.2 = None;
            assert_eq!(broken(&group), [""; 0], "a kernel that knows none");
            group.2 = Some("Filename\tType\tSize\tUsed\tPriority\n/dev/vdb partition 1048572 0 -2\n");
            assert_eq!(broken(&group), ["swap"]);
        }
    }
}
