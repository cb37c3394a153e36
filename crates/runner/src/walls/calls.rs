//! Seccomp: system calls that nothing in a box needs, each with the reason why it is refused.
//!
//! Three programs. [`everyone`]'s is taken by process 1 and so by all; [`child`]'s by every child on top of
//! it; [`fn@unimplemented`]'s answers as a kernel that lacks the call, so that the C library falls back to one
//! whose arguments a filter can see. A call of another architecture kills the caller; an x32 call does not exist.

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp as Is, SeccompCondition as Condition,
    SeccompFilter, SeccompRule, TargetArch, sock_filter,
};
use std::collections::BTreeMap;

/// When a call is refused.
#[derive(Debug, Clone, Copy)]
enum When {
    /// Always.
    Always,
    /// When all of these hold of its arguments: index, comparison.
    All(&'static [(u8, Test)]),
}

/// A comparison of the low 32 bits of an argument, for those that are an `int`.
#[derive(Debug, Clone, Copy)]
enum Test {
    /// It is this.
    Is(i64),
    /// It is not this.
    Not(i64),
    /// The bits of the first are those of the second.
    Bits(i64, i64),
    /// It is a pointer and not null, by all of its 64 bits.
    Given,
}

/// One refusal: the call, when, why.
struct Refusal(
    libc::c_long,
    When,
    #[allow(dead_code, reason = "for the reader, and a test that none is empty")] &'static str,
);

use Test::{Bits, Given, Is as Equals, Not};
use When::{All, Always};

/// `open_tree_attr`, the same number everywhere; the libc crate lacks it.
const SYS_OPEN_TREE_ATTR: libc::c_long = 467;
/// The bits of a socket's type that are the type.
const TYPE: i64 = 0xf;

const UNIX: i64 = libc::AF_UNIX as i64;
const INET: i64 = libc::AF_INET as i64;
const INET6: i64 = libc::AF_INET6 as i64;

const CORE: i64 = libc::RLIMIT_CORE as i64;
const CORE_STAYS: &str =
    "at 0 a host's core handler, which runs as its root, would be fed by a crash in a box; at 1 it is not";

/// `IOPRIO_WHO_PROCESS` of `linux/ioprio.h`.
const IOPRIO_WHO_PROCESS: i64 = 1;
const SLOWS: &str = "process 1 is of the same uid: slowed down enough, it could neither end a command nor die";

macro_rules! namespaces {
    ($call:expr, $why:expr; $($flag:ident)*) => {
        [$(Refusal($call, All(&[(0, Bits(libc::$flag as i64, libc::$flag as i64))]), $why)),*]
    };
}

/// Refused to all, with `EPERM`.
const EVERYONE: &[Refusal] = &[
    Refusal(
        libc::SYS_io_uring_setup,
        Always,
        "does what other calls do, unseen by their filters; a rich source of kernel faults",
    ),
    Refusal(libc::SYS_io_uring_enter, Always, "as io_uring_setup"),
    Refusal(libc::SYS_io_uring_register, Always, "as io_uring_setup"),
    Refusal(libc::SYS_keyctl, Always, "keyrings are not in a namespace"),
    Refusal(libc::SYS_add_key, Always, "keyrings are not in a namespace"),
    Refusal(libc::SYS_request_key, Always, "keyrings are not in a namespace, and it may start a helper on the host"),
    Refusal(libc::SYS_bpf, Always, "programs in the kernel"),
    Refusal(libc::SYS_perf_event_open, Always, "watches other processes and the kernel"),
    Refusal(libc::SYS_userfaultfd, Always, "holds the kernel at a moment of the caller's choice"),
    Refusal(libc::SYS_kexec_load, Always, "replaces the kernel"),
    Refusal(libc::SYS_kexec_file_load, Always, "replaces the kernel"),
    Refusal(libc::SYS_init_module, Always, "code in the kernel"),
    Refusal(libc::SYS_finit_module, Always, "code in the kernel"),
    Refusal(libc::SYS_delete_module, Always, "the kernel's own code"),
    Refusal(libc::SYS_mount, Always, "the box's tree is made outside it"),
    Refusal(libc::SYS_umount2, Always, "what is mounted over something hides it"),
    Refusal(libc::SYS_move_mount, Always, "as mount"),
    Refusal(libc::SYS_fsopen, Always, "as mount"),
    Refusal(libc::SYS_fsmount, Always, "as mount"),
    Refusal(libc::SYS_fsconfig, Always, "as mount"),
    Refusal(libc::SYS_fspick, Always, "as mount"),
    Refusal(libc::SYS_open_tree, Always, "as mount"),
    Refusal(SYS_OPEN_TREE_ATTR, Always, "as mount"),
    Refusal(libc::SYS_mount_setattr, Always, "as mount"),
    Refusal(libc::SYS_pivot_root, Always, "the box's tree is made outside it"),
    Refusal(libc::SYS_chroot, Always, "a step of known ways out of a tree"),
    Refusal(libc::SYS_setns, Always, "enters another box's or the host's namespaces"),
    Refusal(libc::SYS_name_to_handle_at, Always, "handles pass by path checks"),
    Refusal(libc::SYS_open_by_handle_at, Always, "opens files by number, outside the tree"),
    Refusal(libc::SYS_quotactl, Always, "the host's limits"),
    Refusal(libc::SYS_quotactl_fd, Always, "the host's limits"),
    Refusal(libc::SYS_acct, Always, "the host's accounting"),
    Refusal(libc::SYS_swapon, Always, "the host's memory"),
    Refusal(libc::SYS_swapoff, Always, "the host's memory"),
    Refusal(libc::SYS_reboot, Always, "the host's power"),
    Refusal(libc::SYS_syslog, Always, "the kernel's log holds addresses and other people's facts"),
    Refusal(libc::SYS_settimeofday, Always, "the clock is not in a namespace"),
    Refusal(libc::SYS_clock_settime, Always, "the clock is not in a namespace"),
    Refusal(libc::SYS_clock_adjtime, Always, "the clock is not in a namespace"),
    Refusal(libc::SYS_adjtimex, Always, "the clock is not in a namespace"),
    Refusal(libc::SYS_vhangup, Always, "takes a terminal from its user"),
    Refusal(libc::SYS_nfsservctl, Always, "gone from the kernel"),
    Refusal(libc::SYS_lookup_dcookie, Always, "gone from the kernel; named paths outside the tree"),
    Refusal(libc::SYS_sethostname, Always, "the box's name is given to it"),
    Refusal(libc::SYS_setdomainname, Always, "the box's name is given to it"),
    Refusal(libc::SYS_fanotify_init, Always, "watches whole file systems"),
    Refusal(libc::SYS_setrlimit, All(&[(0, Equals(CORE))]), CORE_STAYS),
    Refusal(libc::SYS_prlimit64, All(&[(1, Equals(CORE)), (2, Given)]), CORE_STAYS),
    Refusal(libc::SYS_memfd_secret, Always, "memory that a scan for keys could not see"),
    // Sockets: the door is TCP on the loopback, and local sockets are the box's own.
    Refusal(
        libc::SYS_socket,
        All(&[(0, Not(UNIX)), (0, Not(INET)), (0, Not(INET6))]),
        "only local, IPv4 and IPv6 sockets: each other family is more kernel to attack",
    ),
    Refusal(libc::SYS_socket, All(&[(1, Bits(TYPE, libc::SOCK_RAW as i64))]), "raw packets"),
    Refusal(libc::SYS_socket, All(&[(1, Bits(TYPE, 10))]), "SOCK_PACKET, raw packets by an old name"),
    Refusal(
        libc::SYS_socket,
        All(&[(0, Not(UNIX)), (2, Not(0)), (2, Not(libc::IPPROTO_TCP as i64)), (2, Not(libc::IPPROTO_UDP as i64))]),
        "only TCP and UDP: MPTCP and SCTP pass by Landlock's rules on ports",
    ),
    Refusal(libc::SYS_socketpair, All(&[(0, Not(UNIX))]), "only local pairs exist"),
    Refusal(libc::SYS_ioctl, All(&[(1, Equals(libc::TIOCSTI as i64))]), "types into a terminal for its user"),
    Refusal(libc::SYS_ioctl, All(&[(1, Equals(libc::TIOCLINUX as i64))]), "types into a console for its user"),
];

/// Refused to all on x86-64 only, where they exist.
#[cfg(target_arch = "x86_64")]
const EVERYONE_HERE: &[Refusal] = &[
    Refusal(libc::SYS_iopl, Always, "the machine's ports"),
    Refusal(libc::SYS_ioperm, Always, "the machine's ports"),
    Refusal(libc::SYS_modify_ldt, Always, "a rich source of kernel faults, for 16-bit programs"),
    Refusal(libc::SYS_uselib, Always, "loads code by an old way"),
    Refusal(libc::SYS_ustat, Always, "old, looks at devices by number"),
    Refusal(libc::SYS_sysfs, Always, "old, unused"),
    Refusal(libc::SYS__sysctl, Always, "gone from the kernel"),
];
/// Refused to all on x86-64 only, where they exist.
#[cfg(not(target_arch = "x86_64"))]
const EVERYONE_HERE: &[Refusal] = &[];

const NEW_NAMESPACE: &str = "in a namespace of its own a process has every capability, and the kernel's whole surface";
const UNSHARE: [Refusal; 8] = namespaces!(libc::SYS_unshare, NEW_NAMESPACE;
    CLONE_NEWUSER CLONE_NEWNS CLONE_NEWPID CLONE_NEWNET CLONE_NEWIPC CLONE_NEWUTS CLONE_NEWCGROUP CLONE_NEWTIME);
// CLONE_NEWTIME lies in clone's exit signal, so clone cannot mean it.
const CLONE: [Refusal; 7] = namespaces!(libc::SYS_clone, NEW_NAMESPACE;
    CLONE_NEWUSER CLONE_NEWNS CLONE_NEWPID CLONE_NEWNET CLONE_NEWIPC CLONE_NEWUTS CLONE_NEWCGROUP);

/// Refused to the agent and to commands, with `EPERM`.
const CHILD: &[Refusal] = &[
    Refusal(libc::SYS_ptrace, Always, "reads and drives other processes"),
    Refusal(libc::SYS_memfd_create, Always, "a file that no path rule sees can be executed"),
    Refusal(libc::SYS_process_vm_readv, Always, "reads other processes"),
    Refusal(libc::SYS_process_vm_writev, Always, "writes into other processes"),
    Refusal(libc::SYS_process_madvise, Always, "drives other processes' memory"),
    Refusal(libc::SYS_pidfd_getfd, Always, "takes descriptors of other processes"),
    Refusal(libc::SYS_kcmp, Always, "tells where the kernel keeps things"),
    Refusal(
        libc::SYS_prlimit64,
        All(&[(0, Not(0))]),
        "sets the limits of other processes: process 1 is of the same uid, and could be starved of files or memory",
    ),
    Refusal(libc::SYS_sched_setaffinity, All(&[(0, Not(0))]), SLOWS),
    Refusal(libc::SYS_sched_setscheduler, All(&[(0, Not(0))]), SLOWS),
    Refusal(libc::SYS_sched_setparam, All(&[(0, Not(0))]), SLOWS),
    Refusal(libc::SYS_sched_setattr, All(&[(0, Not(0))]), SLOWS),
    Refusal(libc::SYS_setpriority, All(&[(0, Not(libc::PRIO_PROCESS as i64))]), SLOWS),
    Refusal(libc::SYS_setpriority, All(&[(1, Not(0))]), SLOWS),
    Refusal(libc::SYS_ioprio_set, All(&[(0, Not(IOPRIO_WHO_PROCESS))]), SLOWS),
    Refusal(libc::SYS_ioprio_set, All(&[(1, Not(0))]), SLOWS),
    Refusal(
        libc::SYS_personality,
        All(&[(0, Not(0)), (0, Not(0xffff_ffff))]),
        "READ_IMPLIES_EXEC undoes filters on executable memory; 0 and the query are fine",
    ),
];

/// Answered with `ENOSYS`.
const UNIMPLEMENTED: &[Refusal] = &[Refusal(
    libc::SYS_clone3,
    Always,
    "its flags lie in memory, where no filter sees them; libraries fall back to clone",
)];

/// Process 1's program.
///
/// # Errors
/// A sentence; only a mistake in the tables makes one.
pub fn everyone() -> Result<BpfProgram, String> {
    let rows = EVERYONE.iter().chain(EVERYONE_HERE).chain(&UNSHARE).chain(&CLONE);
    let mut program = x32_does_not_exist();
    program.extend(compile(rows, libc::EPERM)?);
    Ok(program)
}

/// The program of the agent and of every command.
///
/// # Errors
/// As [`everyone`].
pub fn child() -> Result<BpfProgram, String> {
    compile(CHILD.iter(), libc::EPERM)
}

/// Process 1's second program.
///
/// # Errors
/// As [`everyone`].
pub fn unimplemented() -> Result<BpfProgram, String> {
    compile(UNIMPLEMENTED.iter(), libc::ENOSYS)
}

fn compile<'a>(rows: impl Iterator<Item = &'a Refusal>, errno: i32) -> Result<BpfProgram, String> {
    let mut table: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for Refusal(call, when, _) in rows {
        let rules = table.entry(*call).or_default();
        if let All(tests) = when {
            rules.push(rule(tests)?);
        }
    }
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|e| e.to_string())?;
    let refuse = SeccompAction::Errno(errno.unsigned_abs());
    let filter = SeccompFilter::new(table, SeccompAction::Allow, refuse, arch).map_err(|e| e.to_string())?;
    filter.try_into().map_err(|e: seccompiler::BackendError| e.to_string())
}

fn rule(tests: &[(u8, Test)]) -> Result<SeccompRule, String> {
    let mut all = Vec::with_capacity(tests.len());
    for (index, test) in tests {
        let (width, is, value) = match *test {
            Equals(value) => (Width::Dword, Is::Eq, value),
            Not(value) => (Width::Dword, Is::Ne, value),
            Bits(mask, value) => (Width::Dword, Is::MaskedEq(mask.cast_unsigned()), value),
            Given => (Width::Qword, Is::Ne, 0),
        };
        all.push(Condition::new(*index, width, is, value.cast_unsigned()).map_err(|e| e.to_string())?);
    }
    SeccompRule::new(all).map_err(|e| e.to_string())
}

/// Two instructions before a program's own: numbers from 0x40000000 on (x32) are answered with `ENOSYS`.
///
/// Their numbers are not those of the table, so the table would let them through.
fn x32_does_not_exist() -> BpfProgram {
    if !cfg!(target_arch = "x86_64") {
        return Vec::new();
    }
    const LOAD_NUMBER: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS, offset 0
    const AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    vec![
        sock_filter { code: LOAD_NUMBER, jt: 0, jf: 0, k: 0 },
        sock_filter { code: AT_LEAST, jt: 0, jf: 1, k: 0x4000_0000 },
        sock_filter { code: RETURN, jt: 0, jf: 0, k: libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs() },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> impl Iterator<Item = &'static Refusal> {
        EVERYONE.iter().chain(EVERYONE_HERE).chain(&UNSHARE).chain(&CLONE).chain(CHILD).chain(UNIMPLEMENTED)
    }

    #[test]
    fn every_refusal_carries_its_reason() {
        assert!(rows().all(|Refusal(_, _, why)| why.len() > 5));
    }

    #[test]
    fn no_call_is_both_refused_always_and_refused_by_its_arguments() {
        // An empty chain of rules would be read as "always", and a rule beside it would undo that.
        for table in [EVERYONE, EVERYONE_HERE, CHILD] {
            for Refusal(call, when, _) in table {
                if matches!(when, Always) {
                    assert_eq!(table.iter().filter(|row| row.0 == *call).count(), 1, "call {call}");
                }
            }
        }
    }

    /// Runs a program as the kernel would on one call: the classic BPF subset that seccompiler writes.
    fn verdict(program: &[sock_filter], number: i64, args: [u64; 6]) -> u32 {
        let mut data = [0u8; 64];
        data[0..4].copy_from_slice(&(number as u32).to_le_bytes());
        let arch: u32 = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };
        data[4..8].copy_from_slice(&arch.to_le_bytes());
        for (i, arg) in args.iter().enumerate() {
            data[16 + 8 * i..24 + 8 * i].copy_from_slice(&arg.to_le_bytes());
        }
        let (mut at, mut held) = (0usize, 0u32);
        loop {
            let step = &program[at];
            at += 1;
            let jump = |taken: bool| usize::from(if taken { step.jt } else { step.jf });
            match step.code {
                0x20 => held = u32::from_le_bytes(data[step.k as usize..step.k as usize + 4].try_into().unwrap()),
                0x54 => held &= step.k,
                0x05 => at += step.k as usize,
                0x15 => at += jump(held == step.k),
                0x25 => at += jump(held > step.k),
                0x35 => at += jump(held >= step.k),
                0x06 => return step.k,
                other => panic!("an instruction that no program of ours has: {other:#x}"),
            }
        }
    }

    const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

    #[test]
    fn a_socket_is_tcp_udp_or_local() {
        let program = everyone().unwrap();
        let ask = |family: i32, kind: i32, protocol: i32| {
            verdict(&program, libc::SYS_socket, [family as u64, kind as u64, protocol as u64, 0, 0, 0])
        };
        let cloexec = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        assert_eq!(ask(libc::AF_INET, libc::SOCK_STREAM | cloexec, 0), ALLOW);
        assert_eq!(ask(libc::AF_INET6, libc::SOCK_DGRAM | cloexec, libc::IPPROTO_UDP), ALLOW);
        assert_eq!(ask(libc::AF_UNIX, libc::SOCK_SEQPACKET, 0), ALLOW);
        assert_eq!(ask(libc::AF_INET, libc::SOCK_RAW | cloexec, 0), EPERM);
        assert_eq!(ask(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP), EPERM);
        assert_eq!(ask(libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP), EPERM);
        for family in
            [libc::AF_NETLINK, libc::AF_PACKET, libc::AF_VSOCK, libc::AF_ALG, libc::AF_BLUETOOTH, libc::AF_XDP]
        {
            assert_eq!(ask(family, libc::SOCK_STREAM, 0), EPERM, "family {family}");
        }
    }

    #[test]
    fn a_namespace_is_refused_and_a_thread_is_not() {
        let program = everyone().unwrap();
        let thread = libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND | libc::CLONE_THREAD;
        assert_eq!(verdict(&program, libc::SYS_clone, [thread as u64, 0, 0, 0, 0, 0]), ALLOW);
        assert_eq!(verdict(&program, libc::SYS_clone, [libc::SIGCHLD as u64, 0, 0, 0, 0, 0]), ALLOW);
        assert_eq!(verdict(&program, libc::SYS_unshare, [libc::CLONE_FS as u64, 0, 0, 0, 0, 0]), ALLOW);
        for flag in [libc::CLONE_NEWUSER, libc::CLONE_NEWNS, libc::CLONE_NEWPID, libc::CLONE_NEWNET] {
            let flags = (flag | libc::SIGCHLD) as u64;
            assert_eq!(verdict(&program, libc::SYS_clone, [flags, 0, 0, 0, 0, 0]), EPERM);
            // The kernel looks at 32 bits; rubbish above them must not hide a flag.
            assert_eq!(verdict(&program, libc::SYS_unshare, [flags | 1 << 40, 0, 0, 0, 0, 0]), EPERM);
        }
    }

    #[test]
    fn personality_may_be_asked_and_reset_but_not_set() {
        let program = child().unwrap();
        let ask = |value: u64| verdict(&program, libc::SYS_personality, [value, 0, 0, 0, 0, 0]);
        assert_eq!((ask(0), ask(0xffff_ffff), ask(0x0040_0000)), (ALLOW, ALLOW, EPERM));
    }

    #[test]
    fn the_limit_on_cores_may_be_asked_and_not_set() {
        let program = everyone().unwrap();
        let core = u64::from(libc::RLIMIT_CORE);
        let ask = |new: u64| verdict(&program, libc::SYS_prlimit64, [0, core, new, 0, 0, 0]);
        // A pointer whose low half is zero is a pointer.
        assert_eq!((ask(0), ask(0x7fff_0010), ask(0x1_0000_0000)), (ALLOW, EPERM, EPERM));
        assert_eq!(verdict(&program, libc::SYS_setrlimit, [core, 0x7fff_0010, 0, 0, 0, 0]), EPERM);
        assert_eq!(verdict(&program, libc::SYS_setrlimit, [7, 0x7fff_0010, 0, 0, 0, 0]), ALLOW);
    }

    #[test]
    fn a_child_sets_its_own_place_in_the_queue_and_nobody_elses() {
        let program = child().unwrap();
        for call in [libc::SYS_sched_setaffinity, libc::SYS_sched_setscheduler, libc::SYS_sched_setattr] {
            assert_eq!(verdict(&program, call, [0, 8, 1, 0, 0, 0]), ALLOW);
            assert_eq!(verdict(&program, call, [1, 8, 1, 0, 0, 0]), EPERM);
        }
        let ask = |which: u64, who: u64| verdict(&program, libc::SYS_setpriority, [which, who, 5, 0, 0, 0]);
        assert_eq!((ask(0, 0), ask(0, 1), ask(1, 0), ask(2, 0)), (ALLOW, EPERM, EPERM, EPERM));
        let ask = |which: u64, who: u64| verdict(&program, libc::SYS_ioprio_set, [which, who, 0, 0, 0, 0]);
        assert_eq!((ask(1, 0), ask(1, 1), ask(3, 0)), (ALLOW, EPERM, EPERM));
    }

    #[test]
    fn a_child_sets_its_own_limits_and_nobody_elses() {
        let program = child().unwrap();
        let ask = |pid: u64| verdict(&program, libc::SYS_prlimit64, [pid, 7, 0x1_0000_0000, 0, 0, 0]);
        assert_eq!((ask(0), ask(1), ask(12)), (ALLOW, EPERM, EPERM));
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn an_x32_call_does_not_exist_and_its_native_twin_does() {
        let program = everyone().unwrap();
        assert_eq!(verdict(&program, libc::SYS_getpid, [0; 6]), ALLOW);
        assert_eq!(
            verdict(&program, 0x4000_0000 | libc::SYS_getpid, [0; 6]),
            libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32
        );
    }

    #[test]
    fn what_is_refused_always_is_refused_with_any_arguments() {
        for (program, table) in
            [(everyone().unwrap(), EVERYONE), (everyone().unwrap(), EVERYONE_HERE), (child().unwrap(), CHILD)]
        {
            for Refusal(call, _, why) in table.iter().filter(|row| matches!(row.1, Always)) {
                assert_eq!(verdict(&program, *call, [0; 6]), EPERM, "call {call}: {why}");
                assert_eq!(verdict(&program, *call, [u64::MAX; 6]), EPERM, "call {call}: {why}");
            }
        }
    }
}
