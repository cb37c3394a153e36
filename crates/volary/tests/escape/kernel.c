/* Goes for the kernel: calls that nothing in a box needs, privileges that nothing in a box has. */
static char stack[1 << 16];
static int nothing(void *arg) { return 0; }

static int in_a_new(int flag) {
    pid_t child = clone(nothing, stack + sizeof stack, flag | SIGCHLD, 0);
    if (child > 0) waitpid(child, 0, 0);
    return child < 0 ? -1 : 0;
}

static int more_capabilities(void) {
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct all[2] = {{~0u, ~0u, ~0u}, {~0u, ~0u, ~0u}};
    return syscall(SYS_capset, &head, all);
}

/* getpid by the x32 table, and by the i386 gate. */
static int x32(void) { return (int)syscall(0x40000000 + SYS_getpid); }
static int i386(void) {
    long answer = 20;
    __asm__ volatile("int $0x80" : "+a"(answer)::"memory");
    return answer < 0 ? (errno = -(int)answer, -1) : 0;
}

int main(void) {
    TRY("control-getpid", getpid());
    TRY("control-thread-like-clone", in_a_new(0));
    TRY("control-personality-query", personality(0xffffffff));

    TRY("mount", mount("none", "/tmp", "tmpfs", 0, 0));
    TRY("mount-bind", mount("/proc", "/workspace", 0, MS_BIND, 0));
    TRY("mount-remount", mount(0, "/", 0, MS_REMOUNT, 0));
    TRY("umount", umount2("/tmp", MNT_DETACH));
    CALL(fsopen, "tmpfs", 0);
    CALL(fsmount, 0, 0, 0);
    CALL(fspick, AT_FDCWD, "/", 0);
    CALL(open_tree, AT_FDCWD, "/", 1);
    CALL(move_mount, AT_FDCWD, "/tmp", AT_FDCWD, "/workspace", 0);
    CALL(mount_setattr, AT_FDCWD, "/", 0, "", 0);
    CALL(pivot_root, "/workspace", "/workspace");
    TRY("chroot", chroot("/workspace"));
    TRY("unshare-user", unshare(CLONE_NEWUSER));
    TRY("unshare-mount", unshare(CLONE_NEWNS));
    TRY("unshare-net", unshare(CLONE_NEWNET));
    TRY("unshare-pid", unshare(CLONE_NEWPID));
    TRY("unshare-user-and-more", unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_FS));
    TRY("unshare-time", unshare(0x80));
    TRY("clone-user", in_a_new(CLONE_NEWUSER));
    TRY("clone-net", in_a_new(CLONE_NEWNET));
    struct { uint64_t flags, rest[10]; } args = {CLONE_NEWUSER, {0}};
    CALL(clone3, &args, sizeof args);
    int own = open("/proc/self/ns/net", O_RDONLY);
    TRY("setns", setns(own, 0));

    TRY("setuid", setuid(0));
    TRY("setgid", setgid(0));
    TRY("setresuid", setresuid(0, 0, 0));
    TRY("setgroups", ({ gid_t zero = 0; syscall(SYS_setgroups, 1, &zero); }));
    TRY("capset", more_capabilities());
    TRY("ambient", prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_SYS_ADMIN, 0, 0));
    TRY("privileges-again", prctl(PR_SET_NO_NEW_PRIVS, 0, 0, 0, 0));
    TRY("seccomp-off", prctl(PR_SET_SECCOMP, 0, 0, 0, 0));
    TRY("chown", ({ close(open("/workspace/mine", O_WRONLY | O_CREAT, 0600)); chown("/workspace/mine", 0, 0); }));
    TRY("priority", setpriority(PRIO_PROCESS, 0, -20));
    TRY("real-time", ({ struct sched_param p = {50}; sched_setscheduler(0, SCHED_FIFO, &p); }));
    TRY("more-files", ({ struct rlimit all = {1 << 20, 1 << 20}; setrlimit(RLIMIT_NOFILE, &all); }));

    CALL(ptrace, PTRACE_ATTACH, 1, 0, 0);
    CALL(process_madvise, 0, 0, 0, 0, 0);
    CALL(memfd_create, "x", 0);
    CALL(memfd_secret, 0);
    CALL(io_uring_setup, 8, stack);
    CALL(io_uring_enter, 0, 0, 0, 0, 0, 0);
    CALL(io_uring_register, 0, 0, 0, 0);
    CALL(bpf, 0, stack, 64);
    CALL(perf_event_open, stack, 0, -1, -1, 0);
    CALL(userfaultfd, 1);
    CALL(keyctl, 0, -3, 0, 0, 0);
    CALL(add_key, "user", "x", "x", 1, -3);
    CALL(request_key, "user", "x", "x", -3);
    CALL(kexec_load, 0, 0, 0, 0);
    CALL(kexec_file_load, 0, 0, 0, 0, 0);
    CALL(init_module, stack, 1, "");
    CALL(finit_module, 0, "", 0);
    CALL(delete_module, "x", 0);
    CALL(open_by_handle_at, AT_FDCWD, stack, 0);
    CALL(name_to_handle_at, AT_FDCWD, "/", stack, stack, 0);
    CALL(fanotify_init, 0, 0);
    CALL(quotactl, 0, 0, 0, 0);
    CALL(acct, "/tmp/x");
    CALL(swapon, "/tmp/x", 0);
    CALL(swapoff, "/tmp/x");
    CALL(reboot, 0xfee1dead, 672274793, 0, 0);
    CALL(syslog, 3, stack, 100);
    CALL(settimeofday, stack, 0);
    CALL(clock_settime, 0, stack);
    CALL(adjtimex, stack);
    CALL(sethostname, "x", 1);
    CALL(setdomainname, "x", 1);
    CALL(vhangup, 0);
    CALL(personality, 0x0400000 /* READ_IMPLIES_EXEC */);
    TRY("type-into-terminal", ioctl(0, TIOCSTI, "x"));
    TRY("type-into-terminal-high-bits", syscall(SYS_ioctl, 0, 0xffffffff00000000ul | TIOCSTI, "x"));
#ifdef __x86_64__
    CALL(iopl, 3);
    CALL(ioperm, 0, 1, 1);
    CALL(modify_ldt, 0, stack, 16);
    TRY("x32", x32());
    CHILD("i386", i386());
#endif
    return 0;
}
