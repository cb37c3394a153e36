/* Goes for other processes: process 1, and a sibling that is another command of the same box. */
static void against(const char *who, pid_t pid) {
    char name[64], byte = 0;
#define NAMED(what) (snprintf(name, sizeof name, "%s-%s", who, what), name)
    struct iovec here = {&byte, 1}, there = {(void *)0x400000, 1};
    TRY(NAMED("attach"), ptrace(PTRACE_ATTACH, pid, 0, 0));
    TRY(NAMED("seize"), ptrace(PTRACE_SEIZE, pid, 0, 0));
    TRY(NAMED("read"), process_vm_readv(pid, &here, 1, &there, 1, 0));
    TRY(NAMED("write"), process_vm_writev(pid, &here, 1, &there, 1, 0));
    TRY(NAMED("compare"), syscall(SYS_kcmp, pid, getpid(), 0, 0, 0));
    int watched = (int)syscall(SYS_pidfd_open, pid, 0);
    TRY(NAMED("take-descriptor"), syscall(SYS_pidfd_getfd, watched, 0, 0));
    TRY(NAMED("advise"), syscall(SYS_process_madvise, watched, &there, 1, 4, 0));
    TRY(NAMED("limits"), ({ struct rlimit few = {64, 64}; prlimit(pid, RLIMIT_NOFILE, &few, 0); }));
    if (pid == 1) {
        TRY(NAMED("signal"), kill(pid, SIGKILL));
        TRY(NAMED("signal-0"), kill(pid, 0));
        TRY(NAMED("terminate"), kill(pid, SIGTERM));
        TRY(NAMED("every-signal"), ({ int all = -1; for (int n = 1; n <= 64; n++) if (kill(pid, n) == 0) all = 0; all; }));
        TRY(NAMED("signal-by-descriptor"), syscall(SYS_pidfd_send_signal, watched, SIGKILL, 0, 0));
        TRY(NAMED("session"), setpgid(pid, getpid()));
        TRY(NAMED("move-pages"), syscall(SYS_migrate_pages, pid, 0, 0, 0));
    }
    close(watched);
}

int main(void) {
    against("init", 1);
    pid_t sibling = fork();
    if (sibling == 0) {
        setsid();
        for (;;) pause();
    }
    TRY("control-sibling-lives", kill(sibling, 0));
    TRY("control-own-limits", ({ struct rlimit now; prlimit(0, RLIMIT_NOFILE, 0, &now) ? -1 : prlimit(0, RLIMIT_NOFILE, &now, 0); }));
    TRY("control-own-session", getsid(0));
    against("sibling", sibling);
    TRY("trace-me", ptrace(PTRACE_TRACEME, 0, 0, 0));
    kill(sibling, SIGKILL);
    waitpid(sibling, 0, 0);
    return 0;
}
