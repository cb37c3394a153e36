//! What the kernel says of one process, held against what is promised of it. What cannot be read does not hold.

use crate::confine;
use api::walls::Proof;
use serde::Serialize;
use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;

/// What is promised of a process.
pub enum Promise {
    /// `up` itself: it starts and ends the others, two of them under other uids, and has no walls.
    Supervisor {
        /// Who ran it.
        uid: u32,
    },
    /// Server, gateway or operator.
    Part {
        /// Its own.
        uid: u32,
    },
    /// A process in a box.
    Boxed {
        /// Where the box's one uid lies.
        uids: Range<u32>,
        /// Whether it is not dumpable, as the runner is; a command may be, to its own.
        not_dumpable: bool,
        /// Whether its box waits for a run: it takes its system-call filter with the run's worktree, and until then
        /// there is nothing in the box but it.
        waits: bool,
    },
}

/// One line: what was read, and whether that is as promised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// The wall.
    pub what: &'static str,
    /// What the kernel said.
    pub read: String,
    /// Whether it is as promised; none where nothing is promised, or where either answer looks the same.
    pub holds: Option<bool>,
}

/// Whether nothing is wrong, and something was promised at all.
pub fn holds(facts: &[Fact]) -> bool {
    facts.iter().all(|fact| fact.holds != Some(false)) && facts.iter().any(|fact| fact.holds == Some(true))
}

/// What `/proc` says of a process.
pub struct Process {
    /// As the host numbers it.
    pub pid: u64,
    /// `status`.
    pub status: io::Result<String>,
    /// Who owns `environ`: root, if the process is not dumpable.
    pub owner: io::Result<u32>,
    /// `limits`.
    pub limits: io::Result<String>,
}

impl Process {
    /// Reads it now.
    pub fn read(pid: u64) -> Self {
        let file = |name: &str| format!("/proc/{pid}/{name}");
        Self {
            pid,
            status: fs::read_to_string(file("status")),
            owner: fs::metadata(file("environ")).map(|m| m.uid()),
            limits: fs::read_to_string(file("limits")),
        }
    }

    fn field(&self, key: &str) -> Option<String> {
        let status = self.status.as_ref().ok()?;
        let value = status.lines().filter_map(|line| line.split_once(':')).find(|(name, _)| *name == key)?.1;
        Some(value.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    /// The name it gave itself.
    pub fn name(&self) -> String {
        self.field("Name").unwrap_or_else(|| "?".into())
    }

    /// Its number in its own namespace.
    pub fn inside(&self) -> String {
        self.field("NSpid").and_then(|all| all.split(' ').next_back().map(str::to_owned)).unwrap_or_else(|| "?".into())
    }

    fn core(&self) -> Option<String> {
        let limits = self.limits.as_ref().ok()?;
        let rest = limits.lines().find_map(|line| line.strip_prefix("Max core file size"))?;
        let both: Vec<&str> = rest.split_whitespace().take(2).collect();
        Some(both.join(" "))
    }
}

/// Judges one process.
pub fn facts(process: &Process, promise: &Promise) -> Vec<Fact> {
    let read = |value: Option<String>| value.unwrap_or_else(|| "unreadable".into());
    let field = |what, key: &str, promised: &str| {
        let found = process.field(key);
        Fact { what, holds: Some(found.as_deref() == Some(promised)), read: read(found) }
    };
    let four = |uid: u32| [uid; 4].map(|n| n.to_string()).join(" ");
    let uid = match promise {
        Promise::Supervisor { uid } | Promise::Part { uid } => field("uid", "Uid", &four(*uid)),
        Promise::Boxed { uids, .. } => {
            let found = process.field("Uid");
            let one = found.as_deref().and_then(|all| all.split(' ').next()).and_then(|first| first.parse().ok());
            let own = one.filter(|uid| uids.contains(uid)).map(four);
            Fact { what: "uid", holds: Some(own.is_some() && own == found), read: read(found) }
        }
    };
    let mut all = vec![uid];
    let walls = [field("seccomp", "Seccomp", "2"), field("no new privileges", "NoNewPrivs", "1")];
    if matches!(promise, Promise::Supervisor { .. }) {
        let none = |fact: Fact| Fact { holds: None, read: format!("{} (none promised)", fact.read), ..fact };
        all.extend(walls.map(none));
        return all;
    }
    let [seccomp, privileges] = walls;
    let later = matches!(promise, Promise::Boxed { waits: true, .. });
    let taken_later = |fact: Fact| Fact { holds: None, read: format!("{} (taken with a run)", fact.read), ..fact };
    all.extend([if later { taken_later(seccomp) } else { seccomp }, privileges]);
    match promise {
        Promise::Boxed { not_dumpable: promised, .. } => {
            for (what, key) in [("capabilities", "CapEff"), ("capability bound", "CapBnd")] {
                all.push(field(what, key, &format!("{:016x}", 0)));
            }
            if *promised {
                all.push(not_dumpable(process));
            }
        }
        _ => all.push(not_dumpable(process)),
    }
    let core = process.core();
    all.push(Fact { what: "core dumps", holds: Some(core.as_deref() == Some("1 1")), read: read(core) });
    all
}

/// Judges what a process proved by forbidden calls: one line for each wall. A call that it did not make proves nothing.
pub fn proved(promised: &[confine::Promise], proof: Option<&Proof>) -> Vec<Fact> {
    let mut walls: Vec<&'static str> = promised.iter().map(|promise| promise.wall).collect();
    walls.dedup();
    let none = Proof::default();
    let made = proof.unwrap_or(&none);
    walls
        .into_iter()
        .map(|wall| {
            let (mut missing, mut open) = (Vec::new(), Vec::new());
            let all: Vec<_> = promised.iter().filter(|promise| promise.wall == wall).collect();
            for promise in &all {
                match made.calls.iter().find(|call| call.wall == wall && call.call == promise.call) {
                    None => missing.push(promise.call.as_str()),
                    Some(call) if call.errno == Some(promise.errno) => {}
                    Some(_) => open.push(promise.call.as_str()),
                }
            }
            let read = match (open.is_empty(), missing.is_empty() && made.threads > 0) {
                (false, _) => format!("went through: {}", open.join(", ")),
                (true, false) if proof.is_none() => "not proved: it did not answer".to_owned(),
                (true, false) => format!("not proved: {}", missing.join(", ")),
                (true, true) => format!(
                    "refused ({}): {} on {}",
                    all.first().map_or("?", |promise| errno_name(promise.errno)),
                    counted(all.len(), "forbidden call"),
                    counted(made.threads as usize, "thread")
                ),
            };
            Fact { what: wall, holds: Some(open.is_empty() && missing.is_empty() && made.threads > 0), read }
        })
        .collect()
}

fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn errno_name(errno: i32) -> &'static str {
    match errno {
        libc::EACCES => "EACCES",
        libc::EPERM => "EPERM",
        _ => "another error",
    }
}

/// What is not dumpable belongs to root in `/proc`, whatever its uid; of root's own that tells nothing.
fn not_dumpable(process: &Process) -> Fact {
    let uid = process.field("Uid").and_then(|all| all.split(' ').next().and_then(|uid| uid.parse::<u32>().ok()));
    let (read, holds) = match (&process.owner, uid) {
        (Err(e), _) => (format!("unreadable: {e}"), Some(false)),
        (Ok(_), None) => ("unreadable: its uid is not known".to_owned(), Some(false)),
        (Ok(0), Some(0)) => ("not readable here: its files are root's either way".to_owned(), None),
        (Ok(0), Some(_)) => ("true".to_owned(), Some(true)),
        (Ok(owner), Some(_)) => (format!("false: its files are uid {owner}'s"), Some(false)),
    };
    Fact { what: "not dumpable", read, holds }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\trunner\nUid:\t7\t7\t7\t7\nNSpid:\t50\t1\nCapEff:\t0000000000000000\n\
        CapBnd:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n";
    const LIMITS: &str = "Max core file size        1                    1                    bytes\n";

    fn process(status: &str, owner: u32) -> Process {
        Process { pid: 50, status: Ok(status.to_owned()), owner: Ok(owner), limits: Ok(LIMITS.to_owned()) }
    }

    fn wrong(process: &Process, promise: &Promise) -> Vec<&'static str> {
        let facts = facts(process, promise);
        assert_eq!(holds(&facts), facts.iter().all(|fact| fact.holds != Some(false)));
        facts.iter().filter(|fact| fact.holds == Some(false)).map(|fact| fact.what).collect()
    }

    #[test]
    fn of_a_process_that_waits_for_a_run_only_the_filter_is_not_promised_yet() {
        let promise = Promise::Boxed { uids: 5..9, not_dumpable: true, waits: true };
        let process =
            process(&STATUS.replace("Seccomp:\t2", "Seccomp:\t0").replace("NoNewPrivs:\t1", "NoNewPrivs:\t0"), 7);
        assert_eq!(wrong(&process, &promise), ["no new privileges", "not dumpable"]);
    }

    #[test]
    fn each_wall_that_a_boxs_process_lacks_is_told() {
        let promise = Promise::Boxed { uids: 5..9, not_dumpable: true, waits: false };
        assert_eq!(wrong(&process(STATUS, 0), &promise), Vec::<&str>::new());
        let cases = [
            ("Seccomp:\t2", "Seccomp:\t0", "seccomp"),
            ("NoNewPrivs:\t1", "NoNewPrivs:\t0", "no new privileges"),
            ("CapEff:\t0000000000000000", "CapEff:\t0000000000000001", "capabilities"),
            ("CapBnd:\t0000000000000000", "CapBnd:\t0000000000000001", "capability bound"),
            ("CapBnd:\t0000000000000000\n", "", "capability bound"),
            ("Uid:\t7\t7\t7\t7", "Uid:\t9\t9\t9\t9", "uid"),
            ("Uid:\t7\t7\t7\t7", "Uid:\t7\t7\t0\t7", "uid"),
        ];
        for (from, to, what) in cases {
            assert!(STATUS.contains(from), "{from}");
            assert_eq!(wrong(&process(&STATUS.replace(from, to), 0), &promise), [what], "{from} → {to}");
        }
        assert_eq!(wrong(&process(STATUS, 7), &promise), ["not dumpable"]);
        let core = Process { limits: Ok(LIMITS.replace("1  ", "unlimited  ")), ..process(STATUS, 0) };
        assert_eq!(wrong(&core, &promise), ["core dumps"]);
        // A command may be dumpable, to its own.
        assert_eq!(
            wrong(&process(STATUS, 7), &Promise::Boxed { uids: 5..9, not_dumpable: false, waits: false }),
            Vec::<&str>::new()
        );
    }

    #[test]
    fn a_forbidden_call_that_goes_through_or_was_not_made_is_told_and_does_not_hold() {
        use api::walls::Forbidden;
        let promised = confine::promised(&crate::process::server_row());
        let made = |promise: &confine::Promise| Forbidden {
            wall: promise.wall.to_owned(),
            call: promise.call.clone(),
            promised: promise.errno,
            errno: Some(promise.errno),
        };
        let whole = Proof { threads: 2, calls: promised.iter().map(made).collect() };
        let facts = proved(&promised, Some(&whole));
        assert!(holds(&facts), "{facts:?}");
        assert_eq!(facts[0].read, "refused (EACCES): 3 forbidden calls on 2 threads");
        for n in 0..promised.len() {
            // It went through; it was refused by something else; it was left out.
            for errno in [None, Some(libc::EBADF)] {
                let mut open = whole.clone();
                open.calls[n].errno = errno;
                // Whatever the process itself says was promised.
                open.calls[n].promised = errno.unwrap_or(0);
                let facts = proved(&promised, Some(&open));
                let wrong: Vec<_> = facts.iter().filter(|fact| fact.holds == Some(false)).collect();
                assert_eq!(wrong.len(), 1, "{facts:?}");
                assert_eq!(wrong[0].read, format!("went through: {}", promised[n].call));
            }
            let mut less = whole.clone();
            less.calls.remove(n);
            assert!(!holds(&proved(&promised, Some(&less))), "{}", promised[n].call);
        }
        for nothing in [None, Some(&Proof::default()), Some(&Proof { threads: 0, ..whole.clone() })] {
            assert!(proved(&promised, nothing).iter().all(|fact| fact.holds == Some(false)), "{nothing:?}");
        }
    }

    #[test]
    fn nothing_holds_of_a_process_that_is_not_there() {
        for promise in [
            Promise::Part { uid: 0 },
            Promise::Part { uid: 7 },
            Promise::Boxed { uids: 5..9, not_dumpable: true, waits: false },
        ] {
            let facts = facts(&Process::read(u64::MAX), &promise);
            assert!(facts.iter().all(|fact| fact.holds == Some(false)), "{facts:?}");
        }
        let facts = facts(&Process::read(u64::MAX), &Promise::Supervisor { uid: 0 });
        assert!(!holds(&facts), "{facts:?}");
    }

    #[test]
    fn of_roots_own_process_dumpable_is_not_told_and_of_another_it_is() {
        let facts = facts(&process(&STATUS.replace('7', "0"), 0), &Promise::Part { uid: 0 });
        let line = facts.iter().find(|fact| fact.what == "not dumpable").unwrap();
        assert_eq!(line.holds, None);
        assert!(holds(&facts), "{facts:?}");
        assert_eq!(wrong(&process(STATUS, 7), &Promise::Part { uid: 7 }), ["not dumpable"]);
        assert_eq!(wrong(&process(STATUS, 0), &Promise::Part { uid: 7 }), Vec::<&str>::new());
        assert_eq!(wrong(&process(STATUS, 0), &Promise::Part { uid: 8 }), ["uid"]);
    }
}
