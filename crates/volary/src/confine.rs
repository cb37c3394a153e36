//! Each process takes its walls before its runtime starts, by a table of what each may: a uid of its own (as root),
//! non-dumpable, no core, no new privileges, a Landlock layer and a seccomp filter.
//!
//! `setuid`, Landlock and seccomp are per thread: all of this happens while there is one. What is started from it
//! inherits them.
//!
//! Read [`Row`], [`take`], then [`prove`]: every wall is met once it was taken, and again whenever `status` asks.

use anyhow::{Context, bail};
use api::walls::Forbidden;
use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use std::collections::BTreeMap;
use std::os::fd::FromRawFd;
use std::path::{Path, PathBuf};

/// What one process may do beyond computing and using what it inherited.
#[derive(Debug, Default)]
pub struct Row {
    /// Uid and gid to become, when root.
    pub uid: Option<u32>,
    /// Folders it may read and write; everything else of the file system is closed. `None` leaves files alone
    /// (for what mounts: a Landlock layer forbids that).
    pub files: Option<Files>,
    /// System calls it may not make.
    pub refused: Vec<Call>,
    /// Whether it may open no IP socket at all (it serves what it inherited).
    pub no_ip_sockets: bool,
}

/// Files a process may reach.
#[derive(Debug, Default)]
pub struct Files {
    /// Read and written.
    pub own: Vec<PathBuf>,
    /// Folders in which plain files are read, made and replaced: no folder, no link, no device.
    pub replace: Vec<PathBuf>,
    /// Read.
    pub read: Vec<PathBuf>,
}

/// A system call that a process may not make.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// Its number here.
    pub number: i64,
    /// Its name.
    pub name: &'static str,
    /// What it would do.
    pub why: &'static str,
}

macro_rules! call {
    ($number:ident, $why:literal) => {
        $crate::confine::Call { number: libc::$number, name: stringify!($number), why: $why }
    };
}
pub(crate) use call;

/// What no process of ours ever does: calls that reach into the kernel or into other processes.
const NOBODY: [Call; 14] = [
    call!(SYS_ptrace, "reads and steers another process"),
    call!(SYS_process_vm_readv, "reads another process"),
    call!(SYS_process_vm_writev, "writes another process"),
    call!(SYS_kcmp, "compares another process's memory"),
    call!(SYS_bpf, "loads code into the kernel"),
    call!(SYS_perf_event_open, "watches other processes"),
    call!(SYS_userfaultfd, "a lever of kernel exploits"),
    call!(SYS_io_uring_setup, "does work that filters do not see"),
    call!(SYS_kexec_load, "replaces the kernel"),
    call!(SYS_init_module, "loads code into the kernel"),
    call!(SYS_finit_module, "loads code into the kernel"),
    call!(SYS_delete_module, "unloads kernel code"),
    call!(SYS_keyctl, "reaches keyrings that outlive the process"),
    call!(SYS_add_key, "reaches keyrings that outlive the process"),
];

/// What a process that starts no other never does.
pub const STARTS_NOTHING: [Call; 6] = [
    call!(SYS_execve, "starts no program"),
    call!(SYS_execveat, "starts no program"),
    call!(SYS_mount, "changes no mounts"),
    call!(SYS_umount2, "changes no mounts"),
    call!(SYS_unshare, "makes no namespaces"),
    call!(SYS_setns, "enters no namespaces"),
];

/// Families of sockets that lead out of the process's own files.
const IP_SOCKETS: [(i32, &str); 5] = [
    (libc::AF_INET, "AF_INET"),
    (libc::AF_INET6, "AF_INET6"),
    (libc::AF_PACKET, "AF_PACKET"),
    (libc::AF_NETLINK, "AF_NETLINK"),
    (libc::AF_VSOCK, "AF_VSOCK"),
];

/// What a row with files may not open, though every account of the host may: a refusal is the Landlock layer's alone.
const OUTSIDE: [(&str, i32, &str); 3] = [
    ("/", libc::O_RDONLY | libc::O_DIRECTORY, "list /"),
    ("/proc/self/status", libc::O_RDONLY, "read /proc/self/status"),
    ("/dev/null", libc::O_WRONLY, "write /dev/null"),
];

/// A call that a row forbids.
#[derive(Debug)]
pub struct Promise {
    /// The wall that refuses it.
    pub wall: &'static str,
    /// The call, in words.
    pub call: String,
    /// The error that this wall gives.
    pub errno: i32,
    how: How,
}

/// How a forbidden call is made: so that it does nothing should it go through.
#[derive(Debug, Clone, Copy)]
enum How {
    Open(&'static str, i32),
    /// With arguments that none takes; to one who may make the call at all, nothing but the filter answers EPERM.
    Senseless(i64),
    Socket(i32),
    /// As root it changes nothing.
    BecomeRoot,
}

/// Every call that `row` forbids.
pub fn promised(row: &Row) -> Vec<Promise> {
    let mut all = Vec::new();
    let mut add = |wall, call: String, errno, how| all.push(Promise { wall, call, errno, how });
    if row.files.is_some() {
        for (path, flags, call) in OUTSIDE {
            add("landlock", call.to_owned(), libc::EACCES, How::Open(path, flags));
        }
    }
    for call in NOBODY.iter().chain(&row.refused) {
        let name = call.name.trim_start_matches("SYS_");
        add("system calls", format!("{name} ({})", call.why), libc::EPERM, How::Senseless(call.number));
    }
    if row.no_ip_sockets {
        let connect = "connect (reaches another process or host)".to_owned();
        add("system calls", connect, libc::EPERM, How::Senseless(libc::SYS_connect));
        for (family, name) in IP_SOCKETS {
            add("system calls", format!("socket of {name}"), libc::EPERM, How::Socket(family));
        }
    }
    if row.uid.is_some() {
        add("no way to root", "setuid(0)".to_owned(), libc::EPERM, How::BecomeRoot);
    }
    all
}

/// Makes every call that `row` forbids, on the calling thread, and says what came of each.
pub fn prove(row: &Row) -> Vec<Forbidden> {
    let made = |promise: Promise| {
        let errno = match promise.how {
            How::Open(path, flags) => opened(path, flags),
            How::Senseless(number) => senseless(number),
            How::Socket(family) => socket(family),
            // SAFETY: a plain call of this thread alone, past the C library, which would change all of them.
            How::BecomeRoot => failed(unsafe { libc::syscall(libc::SYS_setuid, 0) }),
        };
        Forbidden { wall: promise.wall.to_owned(), call: promise.call, promised: promise.errno, errno }
    };
    promised(row).into_iter().map(made).collect()
}

/// The calls of `prove` that did not end as promised, in words.
fn gone_through(made: &[Forbidden]) -> Vec<&str> {
    made.iter().filter(|call| !call.holds()).map(|call| call.call.as_str()).collect()
}

fn failed(result: libc::c_long) -> Option<i32> {
    if result >= 0 { None } else { std::io::Error::last_os_error().raw_os_error() }
}

fn opened(path: &str, flags: i32) -> Option<i32> {
    let flags = rustix::fs::OFlags::from_bits_retain(flags.cast_unsigned()) | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::open(path, flags, rustix::fs::Mode::empty()).err().map(rustix::io::Errno::raw_os_error)
}

fn socket(family: i32) -> Option<i32> {
    // SAFETY: a plain call; what it gives is closed.
    let made = unsafe { libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if made >= 0 {
        // SAFETY: it is ours and nobody else has it.
        drop(unsafe { std::os::fd::OwnedFd::from_raw_fd(made) });
        return None;
    }
    failed(-1)
}

/// The call with arguments that make no sense to it: no descriptor, no address, no process, no flag is -1.
fn senseless(number: i64) -> Option<i32> {
    // SAFETY: every pointer among them is one that the kernel refuses to read.
    failed(unsafe { libc::syscall(number, -1, -1, -1, -1, -1, -1) })
}

/// Takes the row, for good.
///
/// # Errors
/// Anything that could not be taken in full: a process does not run half-confined.
pub fn take(row: &Row, up: u32) -> anyhow::Result<()> {
    if let (Some(uid), true) = (row.uid, rustix::process::geteuid().is_root()) {
        become_user(uid)?;
    }
    // A change of uid clears the death signal; so it is set after it, and the race looked at.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    // Held against the process that began it, not against whoever is the parent by now: that may be init already.
    if rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().cast_unsigned()) != Some(up) {
        bail!("the process that started this one is gone");
    }
    // 1, not 0: a core handler behind a pipe is started at 0 all the same; and boxes inherit it, who may not raise it.
    let none = rustix::process::Rlimit { current: Some(1), maximum: Some(1) };
    rustix::process::setrlimit(rustix::process::Resource::Core, none)?;
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    rustix::thread::set_no_new_privs(true)?;
    if let Some(files) = &row.files {
        restrict_files(files).context("take the Landlock layer")?;
    }
    let program = filter(row)?;
    seccompiler::apply_filter(&program).context("take the seccomp filter")?;
    // What was asked for is not what was taken: a process whose walls do not hold serves nobody.
    let made = prove(row);
    let open = gone_through(&made);
    if !open.is_empty() {
        bail!("walls of this process do not hold: {}", open.join(", "));
    }
    Ok(())
}

fn become_user(uid: u32) -> anyhow::Result<()> {
    // SAFETY: one thread; plain calls. The order is: groups, gid, uid; after the last nothing can be taken back.
    let done = unsafe {
        libc::setgroups(0, std::ptr::null()) == 0
            && libc::setresgid(uid, uid, uid) == 0
            && libc::setresuid(uid, uid, uid) == 0
    };
    if !done {
        bail!("become uid {uid}: {}", std::io::Error::last_os_error());
    }
    // SAFETY: only asks; regaining root must fail.
    if unsafe { libc::setuid(0) } == 0 {
        bail!("uid {uid} could become root again");
    }
    Ok(())
}

fn restrict_files(files: &Files) -> anyhow::Result<()> {
    let abi = ABI::V2;
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(abi))?
        .create()?;
    let beneath = |path: &Path| PathFd::new(path).with_context(|| format!("open {}", path.display()));
    for path in &files.own {
        rules = rules.add_rule(PathBeneath::new(beneath(path)?, AccessFs::from_all(abi) & !AccessFs::Execute))?;
    }
    let plain = AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::WriteFile | AccessFs::MakeReg | AccessFs::RemoveFile;
    for path in &files.replace {
        rules = rules.add_rule(PathBeneath::new(beneath(path)?, plain))?;
    }
    for path in &files.read {
        if !path.exists() {
            continue;
        }
        let access = if path.is_dir() { AccessFs::ReadFile | AccessFs::ReadDir } else { AccessFs::ReadFile.into() };
        rules = rules.add_rule(PathBeneath::new(beneath(path)?, access))?;
    }
    let status = rules.restrict_self()?;
    if status.ruleset != RulesetStatus::FullyEnforced {
        bail!("Landlock was enforced in part only; Linux 5.19 or later with Landlock on is needed");
    }
    Ok(())
}

fn filter(row: &Row) -> anyhow::Result<BpfProgram> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in NOBODY.iter().chain(&row.refused) {
        rules.insert(call.number, Vec::new());
    }
    if row.no_ip_sockets {
        let mut families = Vec::new();
        for (family, _) in IP_SOCKETS {
            let is = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, family.unsigned_abs().into())?;
            families.push(SeccompRule::new(vec![is])?);
        }
        rules.insert(libc::SYS_socket, families);
        rules.insert(libc::SYS_connect, Vec::new());
    }
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let arch = std::env::consts::ARCH.try_into().context("seccomp knows x86_64 and aarch64")?;
    Ok(SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch)?.try_into()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row {
            uid: None,
            files: Some(Files { own: vec![std::env::temp_dir()], ..Files::default() }),
            refused: STARTS_NOTHING.to_vec(),
            no_ip_sockets: true,
        }
    }

    /// What `prove` finds on a thread of its own (walls are per thread) that took walls by `take`.
    fn proved_after(take: impl FnOnce(&Row) + Send) -> Vec<Forbidden> {
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    let row = row();
                    rustix::thread::set_no_new_privs(true).unwrap();
                    take(&row);
                    prove(&row)
                })
                .join()
                .unwrap()
        })
    }

    fn walls_that_hold(made: &[Forbidden]) -> std::collections::BTreeSet<&str> {
        let all: std::collections::BTreeSet<&str> = made.iter().map(|call| call.wall.as_str()).collect();
        all.into_iter().filter(|wall| made.iter().filter(|call| call.wall == *wall).all(Forbidden::holds)).collect()
    }

    #[test]
    fn every_call_meets_its_own_wall_and_without_that_wall_it_is_told() {
        let landlock = |row: &Row| restrict_files(row.files.as_ref().unwrap()).unwrap();
        let seccomp = |row: &Row| seccompiler::apply_filter(&filter(row).unwrap()).unwrap();
        let both = proved_after(|row| {
            landlock(row);
            seccomp(row);
        });
        assert_eq!(gone_through(&both), Vec::<&str>::new());
        assert_eq!(both.len(), OUTSIDE.len() + NOBODY.len() + STARTS_NOTHING.len() + 1 + IP_SOCKETS.len());
        assert_eq!(walls_that_hold(&proved_after(landlock)), ["landlock"].into());
        assert_eq!(walls_that_hold(&proved_after(seccomp)), ["system calls"].into());
        let open = proved_after(|_| {});
        assert_eq!(walls_that_hold(&open), [].into());
        // Each of Landlock's by itself, and what a hole in the filter would let through.
        assert!(open.iter().filter(|call| call.wall == "landlock").all(|call| call.errno.is_none()), "{open:?}");
        for call in ["execve ", "execveat ", "ptrace ", "connect ", "socket of AF_INET", "setns ", "keyctl "] {
            assert!(gone_through(&open).iter().any(|open| open.starts_with(call)), "{call}: {open:?}");
        }
    }
}
