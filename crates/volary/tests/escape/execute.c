/* Executes what it should not. */
static int executed(const char *path, char *const argv[]) {
    int null = open("/dev/null", O_RDWR);
    dup2(null, 0);
    dup2(null, 1);
    dup2(null, 2);
    return execv(path, argv);
}

static void copy(const char *from, const char *to, int mode) {
    char command[512];
    snprintf(command, sizeof command, "cp %s %s && chmod %o %s", from, to, mode, to);
    if (system(command)) perror(command);
}

int main(void) {
    char *none[] = {"x", 0};
    copy("/usr/bin/true", "/workspace/t", 0755);
    copy("/usr/bin/true", "/tmp/t", 0755);
    copy("/usr/bin/true", "/dev/shm/t", 0755);
    CHILD("control-workspace", executed("/workspace/t", none));
    CHILD("control-tmp", executed("/tmp/t", none));
    CHILD("control-usr", executed("/usr/bin/true", none));

    CHILD("runner", executed("/run/volary/runner", none));
    CHILD("agent", executed("/run/volary/agent", none));
    CHILD("shared-memory", executed("/dev/shm/t", none));
    CHILD("proc-exe", executed("/proc/1/exe", none));
    CHILD("memfd", ({
        int f = (int)syscall(SYS_memfd_create, "x", 0);
        f < 0 ? -1 : fexecve(f, none, environ);
    }));
    CHILD("unnamed-file", ({
        int f = open("/dev/shm", O_TMPFILE | O_RDWR, 0700);
        int from = open("/usr/bin/true", O_RDONLY);
        char block[1 << 16];
        ssize_t got;
        while ((got = read(from, block, sizeof block)) > 0) write(f, block, got);
        char path[64];
        snprintf(path, sizeof path, "/proc/self/fd/%d", f);
        executed(path, none);
    }));
    /* The loader as a program: it maps what execve would refuse. Status 127 is its own refusal. */
    char *runner[] = {"ld.so", "/run/volary/runner", 0}, *shared[] = {"ld.so", "/dev/shm/t", 0};
    char *fine[] = {"ld.so", "/usr/bin/true", 0};
    const char *loader = access("/lib64/ld-linux-x86-64.so.2", F_OK) ? "/lib/ld-linux-aarch64.so.1" : "/lib64/ld-linux-x86-64.so.2";
    CHILD("control-loader", executed(loader, fine));
    CHILD("loader-runner", executed(loader, runner));
    CHILD("loader-shared-memory", executed(loader, shared));
    int library = open("/dev/shm/t", O_RDONLY);
    TRY("map-shared-memory", ({ void *at = mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, library, 0); at == MAP_FAILED ? -1 : 0; }));
    return 0;
}
