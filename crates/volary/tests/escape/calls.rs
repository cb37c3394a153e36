//! The table of refused calls: each row is met by a call that this row alone refuses, and each call of `kernel.c`
//! that is made by its name has a row.

#[path = "../../../runner/src/walls/refused.rs"]
mod refused;

use crate::support::{all, attempted, attempts, built, platform};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::CommandExt;

/// Rows that the kernel itself may refuse with the same error to whoever has no capability, by its own rules or by a switch of
/// the host: of these the filter's answer is seen in its program alone
/// (`every_row_is_needed_there_is_a_call_that_it_alone_refuses`). Every other row is refused by the filter and by nothing else.
const KERNEL_TOO: [&str; 39] = [
    "acct always",
    "bpf always",
    "clone argument 0 & 0x10000000 is 0x10000000",
    "clone argument 0 & 0x20000 is 0x20000",
    "clone argument 0 & 0x2000000 is 0x2000000",
    "clone argument 0 & 0x20000000 is 0x20000000",
    "clone argument 0 & 0x4000000 is 0x4000000",
    "clone argument 0 & 0x40000000 is 0x40000000",
    "clone argument 0 & 0x8000000 is 0x8000000",
    "fanotify_init always",
    "fsmount always",
    "fsopen always",
    "fspick always",
    "io_uring_enter always",
    "io_uring_register always",
    "io_uring_setup always",
    "kcmp always",
    "move_mount always",
    "perf_event_open always",
    "pivot_root always",
    "prctl argument 0 is 0x3e",
    "reboot always",
    "setdomainname always",
    "sethostname always",
    "setpriority argument 1 is not 0x0",
    "socket argument 1 & 0xf is 0xa",
    "swapoff always",
    "swapon always",
    "syslog always",
    "unshare argument 0 & 0x10000000 is 0x10000000",
    "unshare argument 0 & 0x20000 is 0x20000",
    "unshare argument 0 & 0x2000000 is 0x2000000",
    "unshare argument 0 & 0x20000000 is 0x20000000",
    "unshare argument 0 & 0x4000000 is 0x4000000",
    "unshare argument 0 & 0x40000000 is 0x40000000",
    "unshare argument 0 & 0x80 is 0x80",
    "unshare argument 0 & 0x8000000 is 0x8000000",
    "userfaultfd always",
    "vhangup always",
];

/// A uid without a process or a file.
const NOBODYS: u32 = 0x7ffe_4711;

#[test]
fn every_row_of_the_table_of_refused_calls_is_met_in_a_box() {
    let platform = platform();
    let mut expected = BTreeMap::from([("control-getpid".to_owned(), 0)]);
    let mut args = Vec::new();
    for (n, row) in refused::rows().enumerate() {
        let attack = row.attack();
        let [first, second, third, fourth, ..] = attack.unwrap_or_else(|| panic!("nothing needs {}", row.call));
        let name = format!("{}-{n}", row.call);
        args.push(format!("{name} {} {first} {second} {third} {fourth}", row.number));
        expected.insert(name, row.answer.errno());
    }
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let met = attempts(&platform, include_str!("calls.c"), &args);
    assert_eq!(met, expected);

    // The same calls where there is no filter, and no capability either; but for the one that has the whole host write.
    let (rows, args): (Vec<_>, Vec<_>) =
        refused::rows().enumerate().zip(args).filter(|((_, row), _)| row.call != "sync").unzip();
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    let program = dir.path().join("calls");
    built(include_str!("calls.c"), &program);
    for path in [dir.path(), &program] {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let mut free = std::process::Command::new(&program);
    let out = free.args(&args).current_dir("/").uid(NOBODYS).gid(NOBODYS).output().unwrap();
    assert!(out.status.success(), "{}", all(&out));
    let met = attempted(&out);
    let alike = rows.into_iter().filter(|(n, row)| met[&format!("{}-{n}", row.call)] == row.answer.errno());
    let alike: BTreeSet<String> = alike.map(|(_, row)| format!("{} {}", row.call, row.condition())).collect();
    let too: BTreeSet<String> = KERNEL_TOO.iter().map(|row| (*row).to_owned()).collect();
    let unsaid: Vec<&String> = alike.difference(&too).collect();
    assert!(unsaid.is_empty(), "refused without a filter, too: {unsaid:#?}");
}

#[test]
fn no_call_is_attacked_by_its_name_without_a_row_that_refuses_it() {
    let calls = include_str!("kernel.c").split("CALL(").skip(1).filter_map(|rest| rest.split_once(','));
    let calls: Vec<&str> = calls.map(|(call, _)| call).collect();
    assert!(calls.len() > 40, "{calls:?}");
    for call in calls {
        assert!(refused::rows().any(|row| row.call == call), "{call} has no row");
    }
}
