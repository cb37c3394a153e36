//! What a call meets.

use crate::support::{Must, all, attempts, compiled, judge, landlock, platform, shell, text};
use libc::{
    EACCES, EADDRINUSE, EADDRNOTAVAIL, ECONNREFUSED, EINVAL, ENETUNREACH, ENOENT, ENOSYS, EPERM, EROFS, ESRCH, EXDEV,
};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use testkit::Repo;

const THROUGH: &[i32] = &[0];

#[test]
fn the_hosts_files_and_process_1_cannot_be_read_and_nothing_but_the_places_of_work_written() {
    let platform = platform();
    let repo = Repo::failing();
    // Readable by all on the host, so that nothing but the box stands before it.
    let secret = repo.path().join("of-the-host");
    std::fs::write(&secret, "x").unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).unwrap();
    let home = platform.home().to_str().unwrap();
    let met = attempts(&platform, include_str!("files.c"), &[home, repo.path_str(), secret.to_str().unwrap()]);
    judge(
        &met,
        &[
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
            Must("Landlock", &[EACCES], "write-over-usr write-passwd write-runner write-dev"),
            Must("another file system", &[EXDEV, EACCES], "write-by-rename take-by-link"),
            Must("Landlock: no device nodes", &[EACCES, EPERM], "device-block device-char whiteout"),
            Must("no capabilities", &[EPERM], "xattr-trusted xattr-redirect xattr-capability"),
        ],
    );
}

#[test]
fn there_is_no_network_but_the_door() {
    let platform = platform();
    let abstract_name = format!("volary-escape-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&abstract_name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    UnixStream::connect_addr(&address).expect("the host's own abstract socket answers on the host");
    let api = platform.home().join("run/api.sock");
    let met = attempts(&platform, include_str!("network.c"), &[&abstract_name, api.to_str().unwrap()]);
    judge(
        &met,
        &[
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
                "host-api-socket host-cable-socket host-docker-socket host-bus-socket",
            ),
            Must(
                "seccomp: kinds of sockets",
                &[EPERM],
                "icmp raw raw-any raw-ipv6 packet packet-old netlink-route netlink-audit vsock alg bluetooth xdp can tipc \
                 mptcp sctp pair-netlink",
            ),
            Must("the door's port is taken", &[EADDRINUSE], "rival rival-reuse-port rival-reuse-address rival-ipv6"),
            Must("no capabilities", &[EPERM], "interface-up route-add"),
        ],
    );
}

#[test]
fn the_kernel_refuses_what_nothing_in_a_box_needs() {
    let platform = platform();
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
        Must("it cannot be taken back", &[EINVAL], "privileges-again seccomp-off"),
    ];
    if cfg!(target_arch = "x86_64") {
        musts.push(Must("seccomp", &[EPERM], "iopl ioperm modify_ldt"));
        musts.push(Must("seccomp: no x32", &[ENOSYS], "x32"));
        // SIGSYS: a call by another architecture's table ends its caller.
        musts.push(Must("seccomp: no i386", &[1000 + libc::SIGSYS], "i386"));
    }
    judge(&attempts(&platform, include_str!("kernel.c"), &[]), &musts);
}

#[test]
fn a_process_reaches_into_no_other() {
    let platform = platform();
    let met = attempts(&platform, include_str!("processes.c"), &[]);
    // Landlock knows signals from level 6 on; before it the uid is the same, and process 1 ignores what it can.
    let signals: &[i32] = if landlock(&platform) >= 6 { &[EPERM] } else { &[0, EPERM] };
    judge(
        &met,
        &[
            Must("nothing", THROUGH, "control-sibling-lives control-own-limits control-own-session"),
            Must(
                "seccomp",
                &[EPERM],
                "init-attach init-seize init-read init-write init-compare init-take-descriptor init-advise \
                 sibling-attach sibling-seize sibling-read sibling-write sibling-compare sibling-take-descriptor \
                 sibling-advise trace-me init-limits sibling-limits",
            ),
            Must("Landlock: signals", signals, "init-signal-0 init-terminate init-signal-by-descriptor init-signal"),
            Must("it is of another session", &[ESRCH, EPERM], "init-session"),
            Must("it is not dumpable", &[EPERM], "init-move-pages"),
        ],
    );
}

#[test]
fn only_what_stands_in_the_system_or_was_made_at_work_is_executed() {
    let platform = platform();
    judge(
        &attempts(&platform, include_str!("execute.c"), &[]),
        &[
            Must("nothing", THROUGH, "control-workspace control-tmp control-usr control-loader"),
            Must("Landlock", &[EACCES], "runner agent shared-memory unnamed-file"),
            Must("proc with hidepid", &[ENOENT], "proc-exe"),
            Must("seccomp", &[EPERM], "memfd"),
            // The loader's own status for a file that it could not open or map.
            Must("Landlock, no-exec mount", &[127], "loader-runner loader-shared-memory"),
            Must("no-exec mount", &[EPERM, EACCES], "map-shared-memory"),
        ],
    );
}

#[test]
fn a_setuid_program_gains_nothing() {
    let platform = platform();
    let line = "for p in su mount umount sudo passwd newgrp chsh pkexec; do \
                  f=$(command -v $p) && test -u $f && echo \"setuid $f\"; done; \
                su root -c 'id -u; echo as-root' </dev/null; echo \"su $?\"; \
                mount -t tmpfs none /tmp; echo \"mount $?\"; \
                umount /tmp; echo \"umount $?\"; \
                cp /usr/bin/id /workspace/id && chmod 6755 /workspace/id && /workspace/id -u";
    let out = shell(&platform, "default", line);
    let said = text(&out.stdout);
    assert!(said.contains("setuid /usr/bin/su"), "the control: su is setuid on this host: {}", all(&out));
    assert!(!said.contains("as-root") && !said.lines().any(|line| line == "0"), "{}", all(&out));
    for program in ["su", "mount", "umount"] {
        let status = said.lines().find_map(|line| line.strip_prefix(program)?.strip_prefix(' ')?.parse::<i32>().ok());
        assert!(status.is_some_and(|status| status != 0), "{program}: {}", all(&out));
    }
    let last: u32 = said.lines().last().unwrap().parse().expect("the copied id prints a uid");
    assert!(last >= 0x7000_0000 || last > 1_000_000, "{last} is no box's uid");
}

#[test]
fn a_command_starts_with_three_descriptors_and_a_clean_environment() {
    let platform = platform();
    let program = "int main(void) {
        for (int n = 0; n < 4096; n++) if (fcntl(n, F_GETFD) >= 0) printf(\"descriptor %d\\n\", n);
        for (char **v = environ; *v; v++) puts(*v);
        return 0;
    }";
    let mut command = platform.command();
    command.env("HOST_SECRET_OF_THE_TEST", "do-not-carry-along");
    let out = compiled(command, program, &[]);
    let said = text(&out.stdout);
    let mut lines: Vec<&str> = said.lines().collect();
    lines.sort_unstable();
    // The way out and trust in it: each names a file of the box's own or the door, and holds nothing.
    let door = |line: &&str| line.contains("=/tmp/trust/") || line.contains("=http://127.0.0.1:8080");
    let named: Vec<&str> = lines.extract_if(.., |line| door(line)).filter_map(|line| line.split('=').next()).collect();
    assert_eq!(
        named,
        [
            "AWS_CA_BUNDLE",
            "CARGO_HTTP_CAINFO",
            "CURL_CA_BUNDLE",
            "DENO_CERT",
            "GIT_SSL_CAINFO",
            "HTTPS_PROXY",
            "HTTP_PROXY",
            "JAVA_TOOL_OPTIONS",
            "NODE_EXTRA_CA_CERTS",
            "PIP_CERT",
            "REQUESTS_CA_BUNDLE",
            "SSL_CERT_FILE",
            "WGETRC",
            "http_proxy",
            "https_proxy"
        ]
    );
    assert_eq!(
        lines,
        [
            "HOME=/tmp/home",
            "LANG=C.UTF-8",
            "NODE_USE_ENV_PROXY=1",
            "NO_PROXY=localhost,127.0.0.1,::1",
            "PATH=/usr/bin:/bin",
            "PWD=/workspace",
            "TMPDIR=/tmp",
            "USER=agent",
            "descriptor 0",
            "descriptor 1",
            "descriptor 2",
            "no_proxy=localhost,127.0.0.1,::1"
        ],
        "{}",
        all(&out)
    );
}
