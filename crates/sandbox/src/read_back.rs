//! What the kernel says of a live box, line by line against the promise. A spec can be ignored without a word;
//! so nothing is believed that is not read here, or proved by a forbidden call ([`api::inbox::Hello`]).

mod mounts;
pub(crate) mod shares;

use crate::harden::HardenedSpec;
use crate::oci;
use crate::process::Process;
use api::inbox::Hello;
use model::event::Reading;
use model::profile::Engine;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

pub use crate::group::{boxes, remove_parent};

pub(crate) fn reading(wall: &str, promised: impl Into<String>, read: impl Into<String>, by: &str) -> Reading {
    let (promised, read) = (promised.into(), read.into());
    Reading { wall: wall.into(), holds: promised == read, promised, read, by: by.into() }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| format!("unreadable: {e}"))
}

/// Everything that is read of a box by its process 1. `group` is its control group, absolute in each hierarchy.
#[must_use]
pub fn all(spec: &HardenedSpec, first: &Process, group: &str, hello: &Hello) -> Vec<Reading> {
    let mut lines = status(spec, first);
    lines.extend(namespaces(spec, first));
    lines.push(mounts::as_promised(spec, first));
    lines.extend(mounts::image(spec, first));
    lines.push(mounts::own_files(spec, first));
    lines.push(network(first));
    lines.extend(limits(spec, first, group));
    lines.extend(forbidden(hello));
    lines
}

fn status(spec: &HardenedSpec, first: &Process) -> Vec<Reading> {
    let status = text(&first.file("status"));
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
    let owner = fs::metadata(first.file("environ")).map_or_else(|e| e.to_string(), |m| m.uid().to_string());
    lines.push(reading("not dumpable", "0", owner, "owner of /proc/PID/environ"));
    lines
}

fn own_groups() -> String {
    text(Path::new("/proc/self/status"))
        .lines()
        .find_map(|line| line.strip_prefix("Groups:"))
        .map(|groups| groups.split_whitespace().collect::<Vec<_>>().join(" "))
        .unwrap_or_default()
}

fn namespaces(spec: &HardenedSpec, first: &Process) -> Vec<Reading> {
    let user = if spec.host.root { None } else { Some("user") };
    ["cgroup", "ipc", "mnt", "net", "pid", "uts"]
        .into_iter()
        .chain(user)
        .map(|name| {
            let namespace = format!("ns/{name}");
            let own = Path::new("/proc/self").join(&namespace);
            let own = match (fs::read_link(first.file(&namespace)), fs::read_link(own)) {
                (Ok(theirs), Ok(ours)) if theirs != ours => "its own",
                (Ok(_), Ok(_)) => "the host's",
                _ => "unreadable",
            };
            reading(&format!("{name} namespace"), "its own", own, "/proc/PID/ns")
        })
        .collect()
}

fn network(first: &Process) -> Reading {
    let devices: Vec<String> = text(&first.file("net/dev"))
        .lines()
        .skip(2)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name.trim().to_owned())
        .collect();
    let routes = text(&first.file("net/route")).lines().skip(1).count();
    let read = format!("{} and {routes} routes", devices.join(", "));
    reading("network", "lo and 0 routes", read, "/proc/PID/net")
}

fn limits(spec: &HardenedSpec, first: &Process, group: &str) -> Vec<Reading> {
    let mut lines = Vec::new();
    let limit_file = text(&first.file("limits"));
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
    let score = text(&first.file("oom_score_adj"));
    let promised = oci::OUT_OF_MEMORY_SCORE.to_string();
    lines.push(reading("ended first when memory runs out", promised, score.trim(), "/proc/PID/oom_score_adj"));
    lines.extend(shares::all(&spec.limits, &shares::Live(group), first));
    lines
}

/// Walls that `/proc` does not show, by the calls that the runner made although they are forbidden. What was to come of each
/// is [`api::inbox::forbidden`]'s word, not the box's.
fn forbidden(hello: &Hello) -> Vec<Reading> {
    let mut lines: Vec<Reading> = api::inbox::forbidden()
        .map(|(wall, call, expected)| {
            let name = |errno: i32| match errno {
                0 => "allowed".into(),
                _ => io::Error::from_raw_os_error(errno).to_string(),
            };
            let met: Vec<i32> = hello.forbidden.iter().filter(|met| met.call == call).map(|met| met.errno).collect();
            let read = match met[..] {
                [errno] => name(errno),
                [] => "not made".into(),
                _ => "made more than once".into(),
            };
            reading(wall, name(expected), read, &format!("forbidden call: {call}"))
        })
        .collect();
    let enough = if hello.landlock_abi >= 2 { "2 or more" } else { "less than 2" };
    lines.push(reading("landlock level", "2 or more", enough, "the runner's hello"));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::inbox::Forbidden;

    #[test]
    fn a_forbidden_call_that_was_not_made_or_met_another_error_proves_nothing() {
        let made = api::inbox::forbidden().map(|(_, call, errno)| Forbidden { call: call.to_owned(), errno }).collect();
        let good = Hello { landlock_abi: 2, forbidden: made };
        let failed = |hello: &Hello| -> Vec<String> {
            let lines = forbidden(hello).into_iter().filter(|line| !line.holds);
            lines.map(|line| format!("{}: {}", line.by, line.read)).collect()
        };
        assert_eq!(failed(&good), [""; 0]);
        assert_eq!(failed(&Hello { landlock_abi: 1, ..good.clone() }), ["the runner's hello: less than 2"]);
        let count = good.forbidden.len();
        assert_eq!(failed(&Hello { forbidden: Vec::new(), ..good.clone() }).len(), count, "none at all");
        for n in 0..count {
            let by = format!("forbidden call: {}", good.forbidden[n].call);
            let mut left_out = good.clone();
            left_out.forbidden.remove(n);
            assert_eq!(failed(&left_out), [format!("{by}: not made")]);
            let mut through = good.clone();
            through.forbidden[n].errno = 0;
            assert_eq!(failed(&through), [format!("{by}: allowed")]);
            let mut another = good.clone();
            another.forbidden[n].errno = 22;
            assert_eq!(failed(&another).len(), 1, "{by}");
            let mut twice = good.clone();
            twice.forbidden.push(good.forbidden[n].clone());
            assert_eq!(failed(&twice), [format!("{by}: made more than once")]);
        }
    }
}
