//! What the agent takes from itself, first thing in `main`: it can execute nothing afterwards.
//!
//! The runner put a Landlock and a seccomp layer around it before it began; these here hold without them.
//! What is refused answers EPERM.

use seccompiler::{
    SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};
use std::collections::BTreeMap;
use std::io;

/// Refused whatever the arguments.
const REFUSED: &[i64] = &[
    // Executing.
    libc::SYS_execve,
    libc::SYS_execveat,
    // A file in memory is a program without a path.
    libc::SYS_memfd_create,
    libc::SYS_memfd_secret,
    // Another process is a way to execute in its place.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // READ_IMPLIES_EXEC would make every page a program.
    libc::SYS_personality,
    // A ring makes calls that no filter sees.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // No new namespaces, no mounts, no programs in the kernel.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_bpf,
    libc::SYS_userfaultfd,
    libc::SYS_perf_event_open,
];

/// Numbers that only the x32 table has: execve, ptrace, process_vm_readv, process_vm_writev, execveat.
const REFUSED_X32: &[i64] = &[520, 521, 539, 540, 545];
/// Marks a call of the x32 table, which shares its architecture's number with the usual one.
const X32: i64 = 0x4000_0000;
/// Calls that can make memory executable, by the argument that says so: the third in each.
const PROTECT: &[i64] = &[libc::SYS_mmap, libc::SYS_mprotect, libc::SYS_pkey_mprotect];

/// Why the walls could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum WallError {
    /// The kernel refused.
    #[error("{0} failed")]
    Call(&'static str, #[source] io::Error),
    /// The filter could not be built or put in force.
    #[error("the system call filter could not be put in force")]
    Filter(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Takes all of them: not dumpable (so `/proc/PID` is closed to others of its uid), and the filter,
/// for this thread and all that it starts.
///
/// # Errors
/// [`WallError`]; the caller must end then.
pub fn take() -> Result<(), WallError> {
    // SAFETY: prctl with these arguments reads and writes no memory of ours.
    if unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) } != 0 {
        return Err(WallError::Call("prctl(PR_SET_DUMPABLE)", io::Error::last_os_error()));
    }
    let program = filter().map_err(|e| WallError::Filter(Box::new(e)))?;
    seccompiler::apply_filter(&program).map_err(|e| WallError::Filter(Box::new(e)))
}

fn filter() -> Result<seccompiler::BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for table in [0, X32] {
        for call in REFUSED {
            rules.insert(table | call, Vec::new());
        }
        for call in PROTECT {
            let executable = SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64);
            let asked = SeccompCondition::new(2, SeccompCmpArgLen::Qword, executable, libc::PROT_EXEC as u64)?;
            rules.insert(table | call, vec![SeccompRule::new(vec![asked])?]);
        }
    }
    for call in REFUSED_X32 {
        rules.insert(X32 | call, Vec::new());
    }
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    SeccompFilter::new(rules, SeccompAction::Allow, refuse, TargetArch::x86_64)?.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    const CHILD: &str = "VOLARY_AGENT_WALLS_CHILD";

    /// Runs in a process of its own (see the test below): there is no way back from behind the walls.
    #[test]
    fn behind_the_walls() {
        if std::env::var_os(CHILD).is_none() {
            return;
        }
        take().unwrap();
        let errno = |ok: i64| if ok < 0 { io::Error::last_os_error().raw_os_error().unwrap() } else { 0 };
        let path = c"/bin/true";
        let argv = [path.as_ptr(), std::ptr::null()];
        // SAFETY: the arguments are valid for these calls, and are only read; each is refused before it does anything.
        unsafe {
            assert_eq!(
                errno(libc::execve(path.as_ptr(), argv.as_ptr(), argv[1..].as_ptr().cast()).into()),
                libc::EPERM
            );
            let by_fd = libc::syscall(libc::SYS_execveat, libc::AT_FDCWD, path.as_ptr(), argv.as_ptr(), 0, 0);
            assert_eq!(errno(by_fd), libc::EPERM);
            assert_eq!(errno(libc::syscall(X32 | 520, path.as_ptr(), argv.as_ptr(), 0)), libc::EPERM);
            assert_eq!(errno(libc::memfd_create(c"x".as_ptr(), 0).into()), libc::EPERM);
            assert_eq!(errno(libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0)), libc::EPERM);
            let both = libc::PROT_READ | libc::PROT_EXEC;
            let anonymous = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let page = libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ, anonymous, -1, 0);
            assert_ne!(page, libc::MAP_FAILED);
            assert_eq!(errno(libc::mprotect(page, 4096, both).into()), libc::EPERM);
            assert_eq!(libc::mmap(std::ptr::null_mut(), 4096, both, anonymous, -1, 0), libc::MAP_FAILED);
            assert_eq!(libc::prctl(libc::PR_GET_DUMPABLE), 0);
        }
        let refused = Command::new("/bin/true").status().unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EPERM));
        println!("every wall held");
    }

    #[test]
    fn after_its_start_the_agent_can_execute_nothing() {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "walls::tests::behind_the_walls", "--nocapture"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success() && said.contains("every wall held"), "{said}");
    }
}
