//! What each attempt of an attack program must meet, in a box of the host's system and in one of an image.

use crate::support::Must;
use libc::{
    EACCES, EADDRINUSE, EADDRNOTAVAIL, ECONNREFUSED, EINVAL, ENETUNREACH, ENOENT, ENOSYS, EPERM, EROFS, ESRCH, EXDEV,
};

/// What a control meets: nothing.
pub const THROUGH: &[i32] = &[0];

/// Of `files.c`.
pub fn of_files() -> Vec<Must> {
    vec![
        Must(
            "nothing",
            THROUGH,
            "control-passwd control-header control-own-environ control-write-here control-root-listing",
        ),
        Must(
            "the mount namespace: it is not there",
            &[ENOENT],
            "platform-home platform-database platform-api repository host-file root-home homes shadow gshadow \
             host-keys private-keys var boot sys usr-local out-by-dots out-by-proc-root out-by-proc-cwd out-by-link \
             dev-kmsg dev-mem dev-disk dev-loop dev-fuse dev-kvm dev-userfaultfd",
        ),
        Must(
            "proc with hidepid",
            &[ENOENT],
            "init-environ init-mem init-maps init-root init-cwd init-fd init-exe init-net-namespace init-mounts proc-oom",
        ),
        Must("Landlock: no rule names it", &[EACCES], "unnamed-by-landlock runner-file agent-file box-file"),
        Must(
            "a read-only or masked part of proc, or one that this kernel lacks",
            &[EACCES, EROFS, ENOENT],
            "proc-core-pattern proc-modprobe proc-own-domainname proc-sysrq proc-kcore proc-kmsg proc-keys-empty \
             proc-kallsyms-empty",
        ),
        Must("no capabilities", &[EACCES], "proc-less-oom"),
        Must(
            "a read-only tree",
            &[EROFS],
            "write-usr write-etc write-run write-root write-var write-folder write-by-link remove-usr own-usr",
        ),
        Must("Landlock", &[EACCES], "write-passwd write-dev"),
        // Of a file system that is read-only itself, as the layers of the system are, the kernel says that first.
        Must("Landlock, or a read-only tree", &[EACCES, EROFS], "write-over-usr write-runner"),
        Must("another file system", &[EXDEV, EACCES], "write-by-rename take-by-link"),
        Must("Landlock: no device nodes", &[EACCES, EPERM], "device-block device-char whiteout"),
        Must("no capabilities", &[EPERM], "xattr-trusted xattr-redirect xattr-capability"),
    ]
}

/// Of `network.c`.
pub fn of_the_network() -> Vec<Must> {
    vec![
        Must("nothing", THROUGH, "control-door control-local-pair control-listen"),
        Must("the network namespace: a loopback of the box's own", &[ECONNREFUSED], "host-loopback"),
        Must(
            "the network namespace: no route",
            &[ENETUNREACH],
            "metadata public-tcp metadata-at-the-doors-port public-tcp-at-the-doors-port public-tcp-fast-open \
             private-tcp-at-the-doors-port public-udp public-dns broadcast mapped-ipv4",
        ),
        // Docker takes version 6 out of the namespace altogether: there is no address to come from either.
        Must(
            "the network namespace: no route, or no IPv6",
            &[ENETUNREACH, EADDRNOTAVAIL],
            "public-ipv6 public-ipv6-udp",
        ),
        // It wants an interface to be named, and there is none to name.
        Must("the network namespace: no interface", &[EINVAL, ENETUNREACH], "link-local-ipv6"),
        Must("the network namespace: no resolver", &[ENOENT], "dns-name-answers"),
        Must("the network namespace", &[ECONNREFUSED], "host-abstract-socket"),
        Must(
            "the mount namespace: it is not there",
            &[ENOENT],
            "host-api-socket host-cable-socket host-socket-in-tmp host-socket-in-run",
        ),
        Must(
            "seccomp: kinds of sockets",
            &[EPERM],
            "icmp raw raw-any raw-ipv6 packet packet-old netlink-route netlink-audit vsock alg bluetooth xdp can tipc \
             mptcp sctp pair-netlink",
        ),
        Must(
            "the door's port is taken",
            &[EADDRINUSE],
            "rival rival-reuse-port rival-reuse-address rival-elsewhere rival-elsewhere-reuse-port \
             rival-elsewhere-reuse-address rival-ipv6",
        ),
        Must("no capabilities", &[EPERM], "interface-up route-add"),
    ]
}

/// Of `kernel.c`.
pub fn of_the_kernel() -> Vec<Must> {
    let mut musts = vec![
        Must("nothing", THROUGH, "control-getpid control-thread-like-clone control-personality-query"),
        Must(
            "seccomp",
            &[EPERM],
            "mount mount-bind mount-remount umount fsopen fsmount fspick open_tree move_mount mount_setattr pivot_root \
             chroot unshare-user unshare-mount unshare-net unshare-pid unshare-user-and-more unshare-time clone-user \
             clone-net setns ptrace process_madvise memfd_create memfd_secret io_uring_setup io_uring_enter \
             io_uring_register bpf perf_event_open userfaultfd keyctl add_key request_key kexec_load kexec_file_load \
             init_module finit_module delete_module open_by_handle_at name_to_handle_at fanotify_init quotactl acct \
             swapon swapoff reboot syslog settimeofday clock_settime adjtimex sethostname setdomainname vhangup \
             personality type-into-terminal type-into-terminal-high-bits",
        ),
        Must("seccomp: as a kernel without it", &[ENOSYS], "clone3"),
        Must(
            "no capabilities",
            &[EPERM, EACCES],
            "setuid setgid setresuid setgroups capset ambient chown priority real-time more-files",
        ),
        Must("it cannot be taken back", &[EINVAL], "privileges-again"),
        Must("seccomp: filters are not a command's to set", &[EPERM], "seccomp-off"),
    ];
    if cfg!(target_arch = "x86_64") {
        musts.push(Must("seccomp", &[EPERM], "iopl ioperm modify_ldt"));
        musts.push(Must("seccomp: no x32", &[ENOSYS], "x32"));
        // SIGSYS: a call by another architecture's table ends its caller.
        musts.push(Must("seccomp: no i386", &[1000 + libc::SIGSYS], "i386"));
    }
    musts
}

/// Of `processes.c`, on a kernel of this Landlock level.
pub fn of_processes(landlock: u32) -> Vec<Must> {
    // Landlock knows signals from level 6 on; before it the uid is the same, and process 1 ignores what it can.
    let signals: &[i32] = if landlock >= 6 { &[EPERM] } else { &[0, EPERM] };
    vec![
        Must("nothing", THROUGH, "control-sibling-lives control-own-limits control-own-session"),
        Must(
            "seccomp",
            &[EPERM],
            "init-attach init-seize init-read init-write init-compare init-take-descriptor init-advise \
             sibling-attach sibling-seize sibling-read sibling-write sibling-compare sibling-take-descriptor \
             sibling-advise trace-me init-limits sibling-limits",
        ),
        Must(
            "Landlock: signals",
            signals,
            "init-signal-0 init-terminate init-every-signal init-signal-by-descriptor init-signal",
        ),
        Must("it is of another session", &[ESRCH, EPERM], "init-session"),
        Must("it is not dumpable", &[EPERM], "init-move-pages"),
    ]
}
