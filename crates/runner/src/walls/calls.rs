//! Seccomp: the programs that refuse what [`refused`] lists.
//!
//! [`everyone`]'s program is taken by process 1 and so by all; [`child`]'s by every command on top of it, and
//! [`agent`]'s by the agent; [`fn@unimplemented`]'s answers as a kernel that lacks the call. A call of another
//! architecture kills the caller; an x32 call does not exist, nor does one that is newer than this file.

use super::refused::{self, Answer, Refusal, Test, When, Who};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp as Is, SeccompCondition as Condition,
    SeccompFilter, SeccompRule, TargetArch, sock_filter,
};
use std::collections::BTreeMap;

/// Process 1's program.
///
/// # Errors
/// A sentence; only a mistake in the table makes one.
pub fn everyone() -> Result<BpfProgram, String> {
    let mut program = what_nobody_looked_at_does_not_exist();
    program.extend(compile(rows_of(Who::Everyone, Answer::Forbidden), Answer::Forbidden)?);
    Ok(program)
}

/// The program of every command.
///
/// # Errors
/// As [`everyone`].
pub fn child() -> Result<BpfProgram, String> {
    compile(rows_of_commands(), Answer::Forbidden)
}

/// The program of a command that holds a value; `by_port` says whether Landlock holds its TCP to the door.
///
/// # Errors
/// As [`everyone`].
pub fn bearer(by_port: bool) -> Result<BpfProgram, String> {
    let mut table = table(rows_of_commands().chain(refused::rows_of_bearers()))?;
    if !by_port {
        table.insert(libc::SYS_socket, Vec::new());
    }
    program(table, Answer::Forbidden)
}

/// What process 1 says when it executes the agent, in registers that `execve` does not read and a filter does: 128
/// bits of chance, which nobody in the box has. The kernel clears the registers of what it begins.
#[derive(Clone, Copy)]
pub struct Word(u64, u64);

impl Word {
    /// A new one.
    ///
    /// # Errors
    /// A sentence, when the kernel gives no chance.
    pub fn new() -> Result<Self, String> {
        let mut bytes = [0; 16];
        let given = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
        if given != Ok(bytes.len()) {
            return Err("the kernel gives no random bytes".into());
        }
        let (first, second) = bytes.split_at(8);
        let number = |bytes: &[u8]| u64::from_ne_bytes(std::array::from_fn(|n| bytes[n]));
        Ok(Self(number(first), number(second)))
    }

    /// Executes a program with the word beside, from lists of strings that end in null. Returns only when refused.
    pub fn execute(self, program: *const libc::c_char, arguments: usize, environment: usize) -> std::io::Error {
        // SAFETY: the caller's lists and strings live until the call returns, which it does only when refused.
        unsafe { libc::syscall(libc::SYS_execve, program, arguments, environment, self.0, self.1) };
        std::io::Error::last_os_error()
    }
}

/// The program of the agent: a command's, no way past Landlock's rules on ports, and nothing is executed but by process 1,
/// with its word.
///
/// # Errors
/// As [`everyone`].
pub fn agent(word: Word) -> Result<BpfProgram, String> {
    let mut table = table(rows_of(Who::Child, Answer::Forbidden).chain(refused::rows_at_the_door()))?;
    let unless = |index: u8, value: u64| {
        let condition = Condition::new(index, Width::Qword, Is::Ne, value).map_err(|e| e.to_string())?;
        SeccompRule::new(vec![condition]).map_err(|e| e.to_string())
    };
    table.insert(libc::SYS_execve, vec![unless(3, word.0)?, unless(4, word.1)?]);
    table.insert(libc::SYS_execveat, Vec::new());
    program(table, Answer::Forbidden)
}

/// Process 1's second program.
///
/// # Errors
/// As [`everyone`].
pub fn unimplemented() -> Result<BpfProgram, String> {
    compile(rows_of(Who::Everyone, Answer::Missing), Answer::Missing)
}

fn rows_of(who: Who, answer: Answer) -> impl Iterator<Item = &'static Refusal> {
    refused::rows().filter(move |row| row.who == who && row.answer == answer)
}

fn rows_of_commands() -> impl Iterator<Item = &'static Refusal> {
    [Who::Child, Who::Command].into_iter().flat_map(|who| rows_of(who, Answer::Forbidden))
}

fn compile<'a>(rows: impl Iterator<Item = &'a Refusal>, answer: Answer) -> Result<BpfProgram, String> {
    program(table(rows)?, answer)
}

/// Calls by their numbers, and when each is refused: always, where nothing is said.
type Table = BTreeMap<i64, Vec<SeccompRule>>;

fn table<'a>(rows: impl Iterator<Item = &'a Refusal>) -> Result<Table, String> {
    let mut table = Table::new();
    for row in rows {
        let rules = table.entry(row.number).or_default();
        if let When::All(tests) = row.when {
            rules.push(rule(tests)?);
        }
    }
    Ok(table)
}

fn program(table: Table, answer: Answer) -> Result<BpfProgram, String> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|e| e.to_string())?;
    let refuse = SeccompAction::Errno(answer.errno().unsigned_abs());
    let filter = SeccompFilter::new(table, SeccompAction::Allow, refuse, arch).map_err(|e| e.to_string())?;
    filter.try_into().map_err(|e: seccompiler::BackendError| e.to_string())
}

fn rule(tests: &[(u8, Test)]) -> Result<SeccompRule, String> {
    let mut all = Vec::with_capacity(tests.len());
    for (index, test) in tests {
        let (width, is, value) = match *test {
            Test::Is(value) => (Width::Dword, Is::Eq, value),
            Test::Not(value) => (Width::Dword, Is::Ne, value),
            Test::Bits(mask, value) => (Width::Dword, Is::MaskedEq(mask.cast_unsigned()), value),
            Test::Given => (Width::Qword, Is::Ne, 0),
        };
        all.push(Condition::new(*index, width, is, value.cast_unsigned()).map_err(|e| e.to_string())?);
    }
    SeccompRule::new(all).map_err(|e| e.to_string())
}

/// The last call that was looked at: `file_setattr`, of Linux 6.17. A newer kernel's calls get their rows, or none, and then
/// this is a higher number.
const LAST: u32 = 469;

/// Three instructions before a program's own: numbers above [`LAST`] are answered with `ENOSYS`, those of a newer kernel as
/// those of x32, which begin at 0x40000000. None of them is in the table, so the table would let them through.
fn what_nobody_looked_at_does_not_exist() -> BpfProgram {
    const LOAD_NUMBER: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS, offset 0
    const ABOVE: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    vec![
        sock_filter { code: LOAD_NUMBER, jt: 0, jf: 0, k: 0 },
        sock_filter { code: ABOVE, jt: 0, jf: 1, k: LAST },
        sock_filter { code: RETURN, jt: 0, jf: 0, k: libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs() },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_carries_its_reason() {
        assert!(refused::rows().all(|row| row.why.len() > 5));
    }

    #[test]
    fn no_call_is_both_refused_always_and_refused_by_its_arguments() {
        // An empty chain of rules would be read as "always", and a rule beside it would undo that.
        for row in refused::rows().filter(|row| matches!(row.when, When::Always)) {
            let alike = refused::rows().filter(|other| other.number == row.number);
            assert_eq!(alike.count(), 1, "{}", row.call);
        }
    }

    /// The programs that stand before a child's call, in which the strictest answer wins.
    fn verdict_of_all(number: i64, args: [u64; 6]) -> u32 {
        let programs = [everyone().unwrap(), unimplemented().unwrap(), child().unwrap()];
        let said = programs.iter().map(|program| verdict(program, number, args));
        let refusals: Vec<u32> = said.filter(|said| *said != ALLOW).collect();
        assert!(refusals.len() < 2, "call {number} {args:?} is answered twice: {refusals:x?}");
        refusals.first().copied().unwrap_or(ALLOW)
    }

    #[test]
    fn every_row_is_needed_there_is_a_call_that_it_alone_refuses() {
        for row in refused::rows() {
            let attack = row.attack();
            let attack = attack.unwrap_or_else(|| panic!("{}, {}: nothing needs it", row.call, row.condition()));
            let told = libc::SECCOMP_RET_ERRNO | row.answer.errno().unsigned_abs();
            assert_eq!(verdict_of_all(row.number, attack), told, "{}, {}", row.call, row.condition());
        }
    }

    #[test]
    fn every_condition_of_a_row_is_needed_where_it_does_not_hold_the_call_passes() {
        const SOME: [u64; 27] = [
            0, 1, 2, 4, 5, 6, 10, 14, 17, 20, 22, 26, 31, 32, 35, 38, 39, 41, 42, 46, 50, 51, 52, 57, 100, 0x1_0000, !0,
        ];
        // The one row that looks at a fourth argument looks at no other.
        let every = || {
            let three = SOME.iter().flat_map(|a| SOME.iter().flat_map(move |b| SOME.iter().map(move |c| [*a, *b, *c])));
            three.map(|[a, b, c]| [a, b, c, c, 0, 0])
        };
        for row in refused::rows() {
            let When::All(tests) = row.when else { continue };
            let attack = row.attack().unwrap();
            for (n, (_, test)) in tests.iter().enumerate() {
                // As the attack where no test of this row looks.
                let mut near = every().map(|mut args| {
                    for (at, arg) in args.iter_mut().enumerate() {
                        if tests.iter().all(|(index, _)| usize::from(*index) != at) {
                            *arg = attack[at];
                        }
                    }
                    args
                });
                let only_this_fails = |args: &[u64; 6]| {
                    tests.iter().enumerate().all(|(m, (at, test))| test.holds(args[usize::from(*at)]) == (m != n))
                };
                let spares = near.any(|args| only_this_fails(&args) && verdict_of_all(row.number, args) == ALLOW);
                assert!(spares, "{}, {}: {test:?} spares nothing", row.call, row.condition());
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
    fn the_agents_program_lets_nothing_be_executed_without_the_whole_word() {
        let program = agent(Word(7 << 32 | 1, 9 << 32 | 1)).unwrap();
        let ask = |first: u64, second: u64| verdict(&program, libc::SYS_execve, [1, 2, 3, first, second, 0]);
        assert_eq!(ask(7 << 32 | 1, 9 << 32 | 1), ALLOW);
        for (first, second) in
            [(0, 0), (7 << 32 | 1, 0), (0, 9 << 32 | 1), (1, 1), (7 << 32, 9 << 32), (u64::MAX, u64::MAX)]
        {
            assert_eq!(ask(first, second), EPERM, "{first:x} {second:x}");
        }
        let word = [3, 0, 0, 7 << 32 | 1, 9 << 32 | 1, 0];
        assert_eq!(verdict(&program, libc::SYS_execveat, word), EPERM);
        // And all that a command is refused, but for the filter that it takes itself.
        for row in rows_of(Who::Child, Answer::Forbidden) {
            assert_eq!(verdict(&program, row.number, row.attack().unwrap()), EPERM, "{}", row.call);
        }
        // And what gets past rules on ports, which a command may.
        for row in refused::rows_at_the_door() {
            let mut past = [3, 0, 0, 0, 0, 0];
            if let When::All([(at, _)]) = row.when {
                past[usize::from(*at)] = libc::MSG_FASTOPEN as u64;
                assert_eq!(verdict(&program, row.number, [3, 0, 0, 0, 0, 0]), ALLOW, "{}", row.call);
            }
            assert_eq!((verdict(&program, row.number, past), verdict_of_all(row.number, past)), (EPERM, ALLOW));
        }
    }

    #[test]
    fn what_holds_a_value_has_tcp_alone_and_no_tcp_where_no_rule_holds_it_to_the_door() {
        let (held, free) = (bearer(true).unwrap(), bearer(false).unwrap());
        let ask = |program: &BpfProgram, family: i32, kind: i32| {
            verdict(program, libc::SYS_socket, [family as u64, kind as u64, 0, 0, 0, 0])
        };
        assert_eq!(ask(&held, libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC), ALLOW);
        assert_eq!(ask(&held, libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC), EPERM);
        assert_eq!(ask(&held, libc::AF_UNIX, libc::SOCK_STREAM), EPERM);
        assert_eq!(ask(&held, libc::AF_INET6, libc::SOCK_STREAM), EPERM);
        for (call, at) in [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)] {
            let send = |flags: i32| {
                let mut args = [3, 0, 0, 0, 0, 0];
                args[at] = flags as u64;
                (verdict(&held, call, args), verdict_of_all(call, args))
            };
            assert_eq!(send(libc::MSG_NOSIGNAL), (ALLOW, ALLOW), "call {call}");
            assert_eq!(send(libc::MSG_FASTOPEN | libc::MSG_NOSIGNAL), (EPERM, ALLOW), "call {call}");
        }
        assert_eq!(ask(&free, libc::AF_INET, libc::SOCK_STREAM), EPERM);
        assert!(refused::rows_of_bearers().all(|row| row.why.len() > 5));
        for row in refused::rows_of_bearers().filter(|row| matches!(row.when, When::Always)) {
            assert_eq!(verdict(&held, row.number, [0; 6]), EPERM, "{}", row.call);
            assert_eq!(verdict_of_all(row.number, [0; 6]), ALLOW, "{}: others are refused it, too", row.call);
        }
        for row in rows_of(Who::Child, Answer::Forbidden) {
            assert_eq!(verdict(&held, row.number, row.attack().unwrap()), EPERM, "{}", row.call);
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
    fn memory_is_of_ordinary_pages() {
        let program = everyone().unwrap();
        let ask = |flags: i32| verdict(&program, libc::SYS_mmap, [0, 4096, 3, flags as u64, u64::MAX, 0]);
        let usual = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE;
        assert_eq!((ask(usual), ask(usual | libc::MAP_HUGETLB)), (ALLOW, EPERM));
        assert_eq!(ask(usual | libc::MAP_HUGETLB | libc::MAP_HUGE_1GB), EPERM);
        let ask = |flags: u64| verdict(&program, libc::SYS_shmget, [0, 4096, flags, 0, 0, 0]);
        assert_eq!((ask(0o1600), ask(0o5600)), (ALLOW, EPERM));
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
    fn a_call_that_nobody_looked_at_does_not_exist_and_the_last_one_that_somebody_did_does() {
        let program = everyone().unwrap();
        let missing = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
        let last = i64::from(LAST);
        assert_eq!(verdict(&program, last, [0; 6]), ALLOW);
        for number in [last + 1, last + 2, 511, 547, 4711, i64::from(u32::MAX)] {
            assert_eq!(verdict(&program, number, [0; 6]), missing, "{number}");
        }
        assert!(refused::rows().chain(refused::rows_of_bearers()).all(|row| row.number <= last), "a row for nothing");
    }

    #[test]
    fn what_is_refused_always_is_refused_with_any_arguments() {
        for row in refused::rows().filter(|row| matches!(row.when, When::Always)) {
            let told = libc::SECCOMP_RET_ERRNO | row.answer.errno().unsigned_abs();
            assert_eq!(verdict_of_all(row.number, [0; 6]), told, "{}", row.call);
            assert_eq!(verdict_of_all(row.number, [u64::MAX; 6]), told, "{}", row.call);
        }
    }
}
