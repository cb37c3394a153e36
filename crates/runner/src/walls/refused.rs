//! The system calls that a box refuses: call, condition, answer, reason, and who is refused. Data, and nothing else.
//!
//! One table. `walls::calls` makes the programs of it; `volary goldens` prints it; the attacks on the box make,
//! for each row, the call that this row alone refuses ([`Refusal::attack`]). So there is no row without an attack,
//! and a row that refuses nothing by itself fails a test.
//!
//! This file names the system's numbers and nothing of this crate: those who print it and those who attack it
//! read the file itself, since the runner is an executable that nothing links.

#![allow(dead_code, reason = "each of its readers needs another part")]

/// Who is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Process 1, and so every process of the box.
    Everyone,
    /// The agent and every command. Process 1 needs it, or loses nothing by it.
    Child,
    /// Every command. The agent does it once, for itself: it takes a filter of its own.
    Command,
    /// The agent, and a command that holds a value: those whose TCP is held to the door, beside what every command is refused.
    AtTheDoor,
    /// A command that holds a value, beside all that.
    Bearer,
}

/// What the caller is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// `EPERM`.
    Forbidden,
    /// `ENOSYS`, so that the C library falls back to a call whose arguments a filter can see.
    Missing,
}

impl Answer {
    /// The error number.
    #[must_use]
    pub const fn errno(self) -> i32 {
        match self {
            Self::Forbidden => libc::EPERM,
            Self::Missing => libc::ENOSYS,
        }
    }
}

/// When a call is refused.
#[derive(Debug, Clone, Copy)]
pub enum When {
    /// Always.
    Always,
    /// When all of these hold of its arguments: index, comparison.
    All(&'static [(u8, Test)]),
}

/// A comparison of the low 32 bits of an argument, for those that are an `int`.
#[derive(Debug, Clone, Copy)]
pub enum Test {
    /// It is this.
    Is(i64),
    /// It is not this.
    Not(i64),
    /// The bits of the first are those of the second.
    Bits(i64, i64),
    /// It is a pointer and not null, by all of its 64 bits.
    Given,
}

impl Test {
    /// Whether it holds of an argument, as the kernel would find it.
    #[must_use]
    pub const fn holds(self, argument: u64) -> bool {
        let low = argument & 0xffff_ffff;
        match self {
            Self::Is(value) => low == value.cast_unsigned() & 0xffff_ffff,
            Self::Not(value) => low != value.cast_unsigned() & 0xffff_ffff,
            Self::Bits(mask, value) => low & mask.cast_unsigned() == value.cast_unsigned(),
            Self::Given => argument != 0,
        }
    }

    const fn values(self) -> Option<u64> {
        match self {
            Self::Is(value) | Self::Bits(_, value) => Some(value.cast_unsigned()),
            Self::Not(_) | Self::Given => None,
        }
    }
}

/// One row: a call, and why a box has no use for it.
#[derive(Debug)]
pub struct Refusal {
    /// Its name in the kernel.
    pub call: &'static str,
    /// Its number on this machine.
    pub number: libc::c_long,
    /// When it is refused.
    pub when: When,
    /// Why.
    pub why: &'static str,
    /// Who is refused.
    pub who: Who,
    /// What the caller is told.
    pub answer: Answer,
}

impl Refusal {
    /// Whether this row refuses the call with these arguments.
    #[must_use]
    pub fn meets(&self, arguments: &[u64; 6]) -> bool {
        match self.when {
            When::Always => true,
            When::All(tests) => tests.iter().all(|(index, test)| test.holds(arguments[usize::from(*index)])),
        }
    }

    /// Arguments of the call that this row refuses and no other row does; none when there are none, and the row is
    /// not needed.
    #[must_use]
    pub fn attack(&self) -> Option<[u64; 6]> {
        let tests = if let When::All(tests) = self.when { tests } else { &[] };
        // Small numbers first: TCP on IPv4, and a process, a file or a pointer that is nobody's.
        let mut candidates = vec![2, 0, 1];
        candidates.extend(tests.iter().filter_map(|(_, test)| test.values()));
        combinations(&candidates).into_iter().find(|arguments| {
            let mut met = rows().filter(|row| row.number == self.number && row.meets(arguments));
            met.next().is_some_and(|row| std::ptr::eq(row, self)) && met.next().is_none()
        })
    }

    /// When it is refused, in words: `always`, or what holds of its arguments, counted from 0.
    #[must_use]
    pub fn condition(&self) -> String {
        let When::All(tests) = self.when else { return "always".to_owned() };
        let words = tests.iter().map(|(index, test)| match test {
            Test::Is(value) => format!("argument {index} is {value:#x}"),
            Test::Not(value) => format!("argument {index} is not {value:#x}"),
            Test::Bits(mask, value) => format!("argument {index} & {mask:#x} is {value:#x}"),
            Test::Given => format!("argument {index} is not null"),
        });
        words.collect::<Vec<_>>().join(", ")
    }
}

/// Every choice of a candidate for each of the first four arguments; no row looks at a later one.
fn combinations(candidates: &[u64]) -> Vec<[u64; 6]> {
    let mut all = vec![[0; 6]];
    for at in 0..4 {
        let with = |arguments: &[u64; 6], value: u64| {
            let mut arguments = *arguments;
            arguments[at] = value;
            arguments
        };
        all = all.iter().flat_map(|one| candidates.iter().map(move |value| with(one, *value))).collect();
    }
    all
}

use Answer::{Forbidden, Missing};
use Test::{Bits, Given, Is, Not};
use When::{All, Always};
use Who::{AtTheDoor, Bearer, Child, Command, Everyone};

/// The system's names; those that its crate lacks beside them.
#[allow(non_upper_case_globals, reason = "the crate's own way to write them")]
mod numbers {
    pub use libc::*;
    /// The same number everywhere.
    pub const SYS_open_tree_attr: c_long = 467;
    pub const SYS_setxattrat: c_long = 463;
    pub const SYS_removexattrat: c_long = 466;
    pub const SYS_file_setattr: c_long = 469;
    #[cfg(target_arch = "x86_64")]
    pub const SYS_io_pgetevents: c_long = 333;
    #[cfg(target_arch = "aarch64")]
    pub const SYS_io_pgetevents: c_long = 292;
}

macro_rules! table {
    ($who:ident is told $answer:ident: $($call:ident $when:expr, $why:expr;)*) => {
        &[$(Refusal {
            call: stringify!($call).split_at(4).1,
            number: numbers::$call,
            when: $when,
            why: $why,
            who: $who,
            answer: $answer,
        }),*]
    };
}

const UNIX: i64 = libc::AF_UNIX as i64;
const INET: i64 = libc::AF_INET as i64;
const INET6: i64 = libc::AF_INET6 as i64;
/// The bits of a socket's type that are the type.
const TYPE: i64 = 0xf;
const RAW: i64 = libc::SOCK_RAW as i64;
/// `SOCK_PACKET`.
const PACKET: i64 = 10;
const DATAGRAMS: i64 = libc::SOCK_DGRAM as i64;
const FASTOPEN: i64 = libc::MSG_FASTOPEN as i64;
const TCP: i64 = libc::IPPROTO_TCP as i64;
const UDP: i64 = libc::IPPROTO_UDP as i64;

const CORE: i64 = libc::RLIMIT_CORE as i64;
const CORE_STAYS: &str =
    "at 0 a host's core handler, which runs as its root, would be fed by a crash in a box; at 1 it is not";

const PROCESS: i64 = libc::PRIO_PROCESS as i64;
/// `IOPRIO_WHO_PROCESS` of `linux/ioprio.h`.
const IOPRIO_PROCESS: i64 = 1;
const SLOWS: &str = "process 1 is of the same uid: slowed down enough, it could neither end a command nor die";

/// `SHM_HUGETLB` of `linux/shm.h`.
const HUGE_SEGMENT: i64 = 0x800;
const HUGE: i64 = libc::MAP_HUGETLB as i64;
const HUGE_PAGES: &str = "the host's reserved huge pages are one stock for all, and no memory limit counts them";

const SOCKET: i64 = libc::SOL_SOCKET as i64;
const ATTACH_FILTER: i64 = libc::SO_ATTACH_FILTER as i64;
const ATTACH_BPF: i64 = libc::SO_ATTACH_BPF as i64;
const ATTACH_REUSEPORT_CBPF: i64 = libc::SO_ATTACH_REUSEPORT_CBPF as i64;
const ATTACH_REUSEPORT_EBPF: i64 = libc::SO_ATTACH_REUSEPORT_EBPF as i64;
const DONTNEED: i64 = libc::POSIX_FADV_DONTNEED as i64;
const SECCOMP: i64 = libc::PR_SET_SECCOMP as i64;
const FILTER: i64 = libc::SECCOMP_SET_MODE_FILTER as i64;
const PROGRAMS: &str = "the memory of translated programs (net.core.bpf_jit_limit) is one stock for the host: without it no box takes its own filter";

/// `F_OFD_GETLK`, `F_OFD_SETLK` and `F_OFD_SETLKW` of `linux/fcntl.h`.
const ASK_LOCK: i64 = 36;
const SET_LOCK: i64 = 37;
const AWAIT_LOCK: i64 = 38;
const KEPT_LOCK: &str = "locks are counted for nobody, and those of an open file stay, unseen, where it is mapped and its descriptor closed; libraries use the older ones";
/// `PR_SCHED_CORE` of `linux/prctl.h`.
const SCHED_CORE: i64 = 62;
/// `TCP_ULP` of `linux/tcp.h`, and `UDP_ENCAP` of `linux/udp.h`, each at the level of its protocol.
const TCP_ULP: i64 = 31;
const UDP_ENCAP: i64 = 100;
/// `TCP_MD5SIG`, `TCP_MD5SIG_EXT` and `TCP_AO_ADD_KEY` of `linux/tcp.h`.
const MD5_KEY: i64 = 14;
const MD5_KEY_OF_NET: i64 = 32;
const AO_KEY: i64 = 38;
const KEYS_OF_TCP: &str =
    "keys of routers for their TCP: a socket holds a thousand of them, which are counted for nobody";
const IPV6: i64 = libc::IPPROTO_IPV6 as i64;
/// `IPV6_ADD_MEMBERSHIP` of `linux/in6.h`, `MCAST_JOIN_GROUP` and `MCAST_JOIN_SOURCE_GROUP` of `linux/in.h`. Whatever else they have
/// for groups needs one that was joined. A socket of IPv4 joins twenty.
const JOIN_IPV6: i64 = 20;
const JOIN: i64 = 42;
const JOIN_SOURCE: i64 = 46;
const GROUPS: &str = "groups of IPv6: a socket joins thousands of them, which the kernel counts for nobody";
/// `IPV6_2292PKTOPTIONS`, `IPV6_RTHDR` and `IPV6_FLOWLABEL_MGR` of `linux/in6.h`.
const OPTIONS_IPV6: i64 = 6;
const ROUTE_IPV6: i64 = 57;
const LABELS_IPV6: i64 = 32;
const OPTIONS: &str =
    "what is to stand in each packet, up to 64 KiB that a socket keeps and the kernel counts for nobody";

const UNSHARE: i64 = libc::CLOSE_RANGE_UNSHARE as i64;
const THREAD: i64 = libc::CLONE_THREAD as i64;
const THREAD_WITH_FILES: i64 = (libc::CLONE_THREAD | libc::CLONE_FILES) as i64;
const OWN_TABLE: &str = "what a thread opens in a table of its own is not counted as its process's";

const NEW_NAMESPACE: &str = "in a namespace of its own a process has every capability, and the kernel's whole surface";

/// A call whose first argument holds this flag.
macro_rules! flag {
    ($name:ident) => {
        All(&[(0, Bits(libc::$name as i64, libc::$name as i64))])
    };
}

/// What nobody in a box needs, process 1 included.
static EVERYONE: &[Refusal] = table![Everyone is told Forbidden:
    SYS_io_uring_setup Always, "does what other calls do, unseen by their filters; a rich source of kernel faults";
    SYS_io_uring_enter Always, "as io_uring_setup";
    SYS_io_uring_register Always, "as io_uring_setup";
    SYS_keyctl Always, "keyrings are not in a namespace";
    SYS_add_key Always, "keyrings are not in a namespace";
    SYS_request_key Always, "keyrings are not in a namespace, and it may start a helper on the host";
    SYS_bpf Always, "programs in the kernel";
    SYS_perf_event_open Always, "watches other processes and the kernel";
    SYS_userfaultfd Always, "holds the kernel at a moment of the caller's choice";
    SYS_kexec_load Always, "replaces the kernel";
    SYS_kexec_file_load Always, "replaces the kernel";
    SYS_init_module Always, "code in the kernel";
    SYS_finit_module Always, "code in the kernel";
    SYS_delete_module Always, "the kernel's own code";
    SYS_mount Always, "the box's tree is made outside it";
    SYS_umount2 Always, "what is mounted over something hides it";
    SYS_move_mount Always, "as mount";
    SYS_fsopen Always, "as mount";
    SYS_fsmount Always, "as mount";
    SYS_fsconfig Always, "as mount";
    SYS_fspick Always, "as mount";
    SYS_open_tree Always, "as mount";
    SYS_open_tree_attr Always, "as mount";
    SYS_mount_setattr Always, "as mount";
    SYS_pivot_root Always, "the box's tree is made outside it";
    SYS_chroot Always, "a step of known ways out of a tree";
    SYS_setns Always, "enters another box's or the host's namespaces";
    SYS_name_to_handle_at Always, "handles pass by path checks";
    SYS_open_by_handle_at Always, "opens files by number, outside the tree";
    SYS_quotactl Always, "the host's limits";
    SYS_quotactl_fd Always, "the host's limits";
    SYS_acct Always, "the host's accounting";
    SYS_swapon Always, "the host's memory";
    SYS_swapoff Always, "the host's memory";
    SYS_reboot Always, "the host's power";
    SYS_syslog Always, "the kernel's log holds addresses and other people's facts";
    SYS_settimeofday Always, "the clock is not in a namespace";
    SYS_clock_settime Always, "the clock is not in a namespace";
    SYS_clock_adjtime Always, "the clock is not in a namespace";
    SYS_adjtimex Always, "the clock is not in a namespace";
    SYS_vhangup Always, "takes a terminal from its user";
    SYS_lookup_dcookie Always, "names paths outside the tree";
    SYS_sethostname Always, "the box's name is given to it";
    SYS_setdomainname Always, "the box's name is given to it";
    SYS_fanotify_init Always, "watches whole file systems";
    SYS_setrlimit All(&[(0, Is(CORE))]), CORE_STAYS;
    SYS_prlimit64 All(&[(1, Is(CORE)), (2, Given)]), CORE_STAYS;
    SYS_memfd_secret Always, "memory that a scan for keys could not see";
    SYS_mmap All(&[(3, Bits(HUGE, HUGE))]), HUGE_PAGES;
    SYS_shmget All(&[(2, Bits(HUGE_SEGMENT, HUGE_SEGMENT))]), HUGE_PAGES;
    // Sockets: the door is TCP on the loopback, and local sockets are the box's own.
    SYS_socket All(&[(0, Not(UNIX)), (0, Not(INET)), (0, Not(INET6))]), "only local, IPv4 and IPv6 sockets: each other family is more kernel to attack";
    SYS_socket All(&[(1, Bits(TYPE, RAW))]), "raw packets";
    SYS_socket All(&[(1, Bits(TYPE, PACKET))]), "SOCK_PACKET, raw packets by an old name";
    SYS_socket All(&[(0, Not(UNIX)), (2, Not(0)), (2, Not(TCP)), (2, Not(UDP))]), "only TCP and UDP: MPTCP and SCTP pass by Landlock's rules on ports";
    SYS_socketpair All(&[(0, Not(UNIX))]), "only local pairs exist";
    SYS_ioctl All(&[(1, Is(libc::TIOCSTI as i64))]), "types into a terminal for its user";
    SYS_ioctl All(&[(1, Is(libc::TIOCLINUX as i64))]), "types into a console for its user";
    SYS_setsockopt All(&[(1, Is(SOCKET)), (2, Is(ATTACH_FILTER))]), PROGRAMS;
    SYS_setsockopt All(&[(1, Is(SOCKET)), (2, Is(ATTACH_BPF))]), PROGRAMS;
    SYS_setsockopt All(&[(1, Is(SOCKET)), (2, Is(ATTACH_REUSEPORT_CBPF))]), PROGRAMS;
    SYS_setsockopt All(&[(1, Is(SOCKET)), (2, Is(ATTACH_REUSEPORT_EBPF))]), PROGRAMS;
    SYS_fadvise64 All(&[(3, Is(DONTNEED))]), "has the host forget a file of the system that it keeps in memory, after which a box sees that somebody reads it";
    SYS_setsockopt All(&[(1, Is(TCP)), (2, Is(TCP_ULP))]), "TLS in the kernel: more kernel to attack, and libraries have their own";
    SYS_setsockopt All(&[(1, Is(TCP)), (2, Is(MD5_KEY))]), KEYS_OF_TCP;
    SYS_setsockopt All(&[(1, Is(TCP)), (2, Is(MD5_KEY_OF_NET))]), KEYS_OF_TCP;
    SYS_setsockopt All(&[(1, Is(TCP)), (2, Is(AO_KEY))]), KEYS_OF_TCP;
    SYS_setsockopt All(&[(1, Is(IPV6)), (2, Is(JOIN_IPV6))]), GROUPS;
    SYS_setsockopt All(&[(1, Is(IPV6)), (2, Is(JOIN))]), GROUPS;
    SYS_setsockopt All(&[(1, Is(IPV6)), (2, Is(JOIN_SOURCE))]), GROUPS;
    SYS_setsockopt All(&[(1, Is(IPV6)), (2, Is(OPTIONS_IPV6))]), OPTIONS;
    SYS_setsockopt All(&[(1, Is(IPV6)), (2, Is(ROUTE_IPV6))]), OPTIONS;
    SYS_setsockopt All(&[(1, Is(IPV6)), (2, Is(LABELS_IPV6))]), "flow labels: the kernel has 4,096 for all the host, and a box needs none";
    SYS_setsockopt All(&[(1, Is(UDP)), (2, Is(UDP_ENCAP))]), "IPsec's ways through UDP: more kernel to attack";
    SYS_fcntl All(&[(1, Is(ASK_LOCK))]), KEPT_LOCK;
    SYS_fcntl All(&[(1, Is(SET_LOCK))]), KEPT_LOCK;
    SYS_fcntl All(&[(1, Is(AWAIT_LOCK))]), KEPT_LOCK;
    SYS_mbind Always, "the kernel keeps a policy for each part of shared memory, mapped or not, and counts it for nobody";
    SYS_sync Always, "has the host write out everything of everybody, and wait; who syncs its own files has fsync";
    SYS_prctl All(&[(0, Is(SCHED_CORE))]), "keeps other boxes and the host from the other half of a processor's core";
    SYS_unshare flag!(CLONE_FILES), OWN_TABLE;
    SYS_close_range All(&[(2, Bits(UNSHARE, UNSHARE))]), OWN_TABLE;
    SYS_clone All(&[(0, Bits(THREAD_WITH_FILES, THREAD))]), OWN_TABLE;
    SYS_unshare flag!(CLONE_NEWUSER), NEW_NAMESPACE;
    SYS_unshare flag!(CLONE_NEWNS), NEW_NAMESPACE;
    SYS_unshare flag!(CLONE_NEWPID), NEW_NAMESPACE;
    SYS_unshare flag!(CLONE_NEWNET), NEW_NAMESPACE;
    SYS_unshare flag!(CLONE_NEWIPC), NEW_NAMESPACE;
    SYS_unshare flag!(CLONE_NEWUTS), NEW_NAMESPACE;
    SYS_unshare flag!(CLONE_NEWCGROUP), NEW_NAMESPACE;
    SYS_unshare flag!(CLONE_NEWTIME), NEW_NAMESPACE;
    // CLONE_NEWTIME lies in clone's exit signal, so clone cannot mean it.
    SYS_clone flag!(CLONE_NEWUSER), NEW_NAMESPACE;
    SYS_clone flag!(CLONE_NEWNS), NEW_NAMESPACE;
    SYS_clone flag!(CLONE_NEWPID), NEW_NAMESPACE;
    SYS_clone flag!(CLONE_NEWNET), NEW_NAMESPACE;
    SYS_clone flag!(CLONE_NEWIPC), NEW_NAMESPACE;
    SYS_clone flag!(CLONE_NEWUTS), NEW_NAMESPACE;
    SYS_clone flag!(CLONE_NEWCGROUP), NEW_NAMESPACE;
];

/// What exists on x86-64 only.
#[cfg(target_arch = "x86_64")]
static EVERYONE_HERE: &[Refusal] = table![Everyone is told Forbidden:
    SYS_iopl Always, "the machine's ports";
    SYS_ioperm Always, "the machine's ports";
    SYS_modify_ldt Always, "a rich source of kernel faults, for 16-bit programs";
    SYS_uselib Always, "loads code by an old way";
    SYS_ustat Always, "old, looks at devices by number";
    SYS_sysfs Always, "old, unused";
];
#[cfg(not(target_arch = "x86_64"))]
static EVERYONE_HERE: &[Refusal] = &[];

/// What process 1 may and its children may not.
static CHILD: &[Refusal] = table![Child is told Forbidden:
    SYS_ptrace Always, "reads and drives other processes";
    SYS_memfd_create Always, "a file that no path rule sees can be executed";
    SYS_process_vm_readv Always, "reads other processes";
    SYS_process_vm_writev Always, "writes into other processes";
    SYS_process_madvise Always, "drives other processes' memory";
    SYS_pidfd_getfd Always, "takes descriptors of other processes";
    SYS_kcmp Always, "tells where the kernel keeps things";
    SYS_prlimit64 All(&[(0, Not(0))]), "sets the limits of other processes: process 1 is of the same uid, and could be starved of files or memory";
    SYS_sched_setaffinity All(&[(0, Not(0))]), SLOWS;
    SYS_sched_setscheduler All(&[(0, Not(0))]), SLOWS;
    SYS_sched_setparam All(&[(0, Not(0))]), SLOWS;
    SYS_sched_setattr All(&[(0, Not(0))]), SLOWS;
    SYS_setpriority All(&[(0, Not(PROCESS))]), SLOWS;
    SYS_setpriority All(&[(1, Not(0))]), SLOWS;
    SYS_ioprio_set All(&[(0, Not(IOPRIO_PROCESS))]), SLOWS;
    SYS_ioprio_set All(&[(1, Not(0))]), SLOWS;
    SYS_personality All(&[(0, Not(0)), (0, Not(0xffff_ffff))]), "READ_IMPLIES_EXEC undoes filters on executable memory; 0 and the query are fine";
];

/// What commands may not and the agent may.
static COMMAND: &[Refusal] = table![Command is told Forbidden:
    SYS_seccomp All(&[(0, Is(FILTER))]), PROGRAMS;
    SYS_prctl All(&[(0, Is(SECCOMP))]), PROGRAMS;
];

const HANDS_ON: &str = "what holds a value hands it to no other process of its box";
const UNSEEN: &str = "connects by sending, to any port: Landlock's rules see a call of connect alone";
const MARKS: &str =
    "a file's mode, owner, times and attributes outlive what holds a value, and no rule of Landlock knows them";
/// `FS_IOC_SETFLAGS`, `FS_IOC_SETVERSION` and `FS_IOC_FSSETXATTR` of `linux/fs.h`.
const SET_FLAGS: i64 = 0x4008_6602;
const SET_VERSION: i64 = 0x4008_7602;
const SET_ATTRIBUTES: i64 = 0x401c_5820;
const STAYS: &str = "what holds a value ends with its command, wherever its parent is: its group is killed whole";

/// Ways past Landlock's rules on ports, for whom they hold.
static AT_THE_DOOR: &[Refusal] = table![AtTheDoor is told Forbidden:
    SYS_listen Always, "takes a port of the kernel's choice where none was bound, which no rule on ports sees";
    SYS_sendto All(&[(3, Bits(FASTOPEN, FASTOPEN))]), UNSEEN;
    SYS_sendmsg All(&[(2, Bits(FASTOPEN, FASTOPEN))]), UNSEEN;
    SYS_sendmmsg All(&[(3, Bits(FASTOPEN, FASTOPEN))]), UNSEEN;
];

/// What a command that holds a value may not, beside all of the above. TCP is held to the door by Landlock; on a kernel
/// whose Landlock knows no ports such a command has no sockets at all.
static BEARER: &[Refusal] = table![Bearer is told Forbidden:
    SYS_setsid Always, STAYS;
    SYS_setpgid Always, STAYS;
    SYS_socket All(&[(0, Is(UNIX))]), HANDS_ON;
    SYS_socket All(&[(1, Bits(TYPE, DATAGRAMS))]), "no rule on ports holds a datagram, and others of the box may listen";
    SYS_socket All(&[(0, Is(INET6))]), "the door is on IPv4: others of the box may listen on its port of [::1]";
    SYS_shmget Always, HANDS_ON;
    SYS_shmat Always, HANDS_ON;
    SYS_semget Always, HANDS_ON;
    SYS_msgget Always, HANDS_ON;
    SYS_mq_open Always, HANDS_ON;
    SYS_setxattr Always, MARKS;
    SYS_lsetxattr Always, MARKS;
    SYS_fsetxattr Always, MARKS;
    SYS_setxattrat Always, MARKS;
    SYS_removexattr Always, MARKS;
    SYS_lremovexattr Always, MARKS;
    SYS_fremovexattr Always, MARKS;
    SYS_removexattrat Always, MARKS;
    SYS_fchmod Always, MARKS;
    SYS_fchmodat Always, MARKS;
    SYS_fchmodat2 Always, MARKS;
    SYS_fchown Always, MARKS;
    SYS_fchownat Always, MARKS;
    SYS_utimensat Always, MARKS;
    SYS_file_setattr Always, MARKS;
    SYS_ioctl All(&[(1, Is(SET_FLAGS))]), MARKS;
    SYS_ioctl All(&[(1, Is(SET_VERSION))]), MARKS;
    SYS_ioctl All(&[(1, Is(SET_ATTRIBUTES))]), MARKS;
];

/// The older names of the same.
#[cfg(target_arch = "x86_64")]
static BEARER_HERE: &[Refusal] = table![Bearer is told Forbidden:
    SYS_chmod Always, MARKS;
    SYS_chown Always, MARKS;
    SYS_lchown Always, MARKS;
    SYS_utime Always, MARKS;
    SYS_utimes Always, MARKS;
    SYS_futimesat Always, MARKS;
];
#[cfg(not(target_arch = "x86_64"))]
static BEARER_HERE: &[Refusal] = &[];

/// What the C library has another way for.
static UNIMPLEMENTED: &[Refusal] = table![Everyone is told Missing:
    SYS_clone3 Always, "its flags lie in memory, where no filter sees them; libraries fall back to clone";
    SYS_io_setup Always, "the kernel counts asynchronous I/O for the whole host (fs.aio-max-nr): one box could take all of it; libraries use threads";
    SYS_io_destroy Always, "as io_setup";
    SYS_io_submit Always, "as io_setup";
    SYS_io_getevents Always, "as io_setup";
    SYS_io_pgetevents Always, "as io_setup";
    SYS_io_cancel Always, "as io_setup";
];

/// The rows for a command that holds a value, beside [`rows`].
pub fn rows_of_bearers() -> impl Iterator<Item = &'static Refusal> {
    rows_at_the_door().chain(BEARER).chain(BEARER_HERE)
}

/// Those of them that hold for the agent, too.
pub fn rows_at_the_door() -> impl Iterator<Item = &'static Refusal> {
    AT_THE_DOOR.iter()
}

/// Every row that holds without a lease.
pub fn rows() -> impl Iterator<Item = &'static Refusal> {
    EVERYONE.iter().chain(EVERYONE_HERE).chain(CHILD).chain(COMMAND).chain(UNIMPLEMENTED)
}

/// The table as a page for a reviewer.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(
        "# System calls that a box refuses\n\nPrinted from the table that the filters are made of, as it is on x86-64. Each row is attacked in a live box by a call that it \
         alone refuses\n(`every_row_of_the_table_of_refused_calls_is_met_in_a_box`; those of a *bearer*, a command that holds a value, by\n\
         `a_command_that_holds_a_value_has_no_file_connection_or_memory_that_another_can_open`, and those of the agent by\n\
         `the_agents_own_tcp_leads_to_the_door_alone_and_it_takes_no_port`). A call of another architecture ends its caller; an x32 call, and \
         one that\nLinux knows since 6.19, does not exist. *child*: the agent and every command; *command*: every command. Beside them the agent is refused `execveat`, and `execve` without a word that\nonly process 1 knows: \
         once it is begun it executes nothing (`an_agent_finds_no_way_to_execute_anything_its_own_file_too`).\n\n| call | when | who | told | why |\n|---|---|---|---|---|\n",
    );
    for row in rows().chain(rows_of_bearers()) {
        let who = match row.who {
            Everyone => "everyone",
            Child => "child",
            Command => "command",
            AtTheDoor => "agent, bearer",
            Bearer => "bearer",
        };
        let told = if row.answer == Forbidden { "EPERM" } else { "ENOSYS" };
        page.push_str(&format!("| `{}` | {} | {who} | {told} | {} |\n", row.call, row.condition(), row.why));
    }
    page
}
