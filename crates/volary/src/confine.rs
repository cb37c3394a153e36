//! Each process in its own row of the table of DESIGN §3, before its runtime starts: a uid of its own (as root),
//! non-dumpable, no core, no new privileges, a Landlock layer and a seccomp filter.
//!
//! `setuid`, Landlock and seccomp are per thread: all of this happens while there is one.

use anyhow::{Context, bail};
use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What one process may do beyond computing and using what it inherited.
#[derive(Debug, Default)]
pub struct Row {
    /// Uid and gid to become, when root.
    pub uid: Option<u32>,
    /// Folders it may read and write; everything else of the file system is closed. `None` leaves files alone
    /// (for what mounts: a Landlock layer forbids that).
    pub files: Option<Files>,
    /// System calls it may not make, with the reason.
    pub refused: Vec<(i64, &'static str)>,
    /// Whether it may open no IP socket at all (it serves what it inherited).
    pub no_ip_sockets: bool,
}

/// Files a process may reach.
#[derive(Debug, Default)]
pub struct Files {
    /// Read and written.
    pub own: Vec<PathBuf>,
    /// Read.
    pub read: Vec<PathBuf>,
}

/// What no process of ours ever does: calls that reach into the kernel or into other processes.
const NOBODY: [(i64, &str); 14] = [
    (libc::SYS_ptrace, "reads and steers another process"),
    (libc::SYS_process_vm_readv, "reads another process"),
    (libc::SYS_process_vm_writev, "writes another process"),
    (libc::SYS_kcmp, "compares another process's memory"),
    (libc::SYS_bpf, "loads code into the kernel"),
    (libc::SYS_perf_event_open, "watches other processes"),
    (libc::SYS_userfaultfd, "a lever of kernel exploits"),
    (libc::SYS_io_uring_setup, "does work that filters do not see"),
    (libc::SYS_kexec_load, "replaces the kernel"),
    (libc::SYS_init_module, "loads code into the kernel"),
    (libc::SYS_finit_module, "loads code into the kernel"),
    (libc::SYS_delete_module, "unloads kernel code"),
    (libc::SYS_keyctl, "reaches keyrings that outlive the process"),
    (libc::SYS_add_key, "reaches keyrings that outlive the process"),
];

/// What a process that starts no other never does.
pub const STARTS_NOTHING: [(i64, &str); 6] = [
    (libc::SYS_execve, "starts no program"),
    (libc::SYS_execveat, "starts no program"),
    (libc::SYS_mount, "changes no mounts"),
    (libc::SYS_umount2, "changes no mounts"),
    (libc::SYS_unshare, "makes no namespaces"),
    (libc::SYS_setns, "enters no namespaces"),
];

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
    seccompiler::apply_filter(&program).context("take the seccomp filter")
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
    for (call, _) in NOBODY.iter().chain(&row.refused) {
        rules.insert(*call, Vec::new());
    }
    if row.no_ip_sockets {
        let mut families = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6, libc::AF_PACKET, libc::AF_NETLINK, libc::AF_VSOCK] {
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
