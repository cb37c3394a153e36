/* Goes for the host's files, and for those of process 1. */
static char *beneath(const char *folder, const char *name) {
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

/* Opens and reads a byte, since some files refuse only then. */
static int look(const char *path) {
    int f = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (f < 0) return -1;
    char byte;
    int got = (int)read(f, &byte, 1);
    int kept = errno;
    close(f);
    errno = kept;
    if (got < 0 && kept == EISDIR) return 0;
    return got < 0 ? -1 : got;
}

/* How many names of a folder are shown. */
static int entries(const char *path) {
    DIR *d = opendir(path);
    int n = 0;
    while (d && readdir(d)) n++;
    if (d) closedir(d);
    return n;
}

int main(int argc, char **argv) {
    const char *home = argv[1], *repo = argv[2], *secret = argv[3];
    /* What may be read: without these the rest would prove nothing. */
    TRY("control-passwd", look("/etc/passwd"));
    TRY("control-header", look("/usr/include/stdio.h"));
    TRY("control-root-listing", look("/"));
    TRY("control-own-environ", look("/proc/self/environ"));
    TRY("control-write-here", open("/workspace/here", O_WRONLY | O_CREAT, 0600));

    TRY("platform-home", look(home));
    TRY("platform-database", look(beneath(home, "server/volary.db")));
    TRY("platform-api", look(beneath(home, "run/api.sock")));
    TRY("repository", look(repo));
    TRY("host-file", look(secret));
    TRY("root-home", look("/root"));
    TRY("homes", look("/home"));
    TRY("shadow", look("/etc/shadow"));
    TRY("gshadow", look("/etc/gshadow"));
    TRY("host-keys", look("/etc/ssh"));
    TRY("private-keys", look("/etc/ssl/private"));
    TRY("var", look("/var/lib"));
    TRY("boot", look("/boot"));
    TRY("sys", look("/sys/class/net"));
    TRY("usr-local", entries("/usr/local") > 2 ? 0 : (errno = ENOENT, -1));
    TRY("out-by-dots", look("/workspace/../../../../etc/shadow"));
    TRY("out-by-proc-root", look("/proc/self/root/../etc/shadow"));
    TRY("out-by-proc-cwd", look("/proc/self/cwd/../root"));
    symlink("/root", "/workspace/way-out");
    TRY("out-by-link", look("/workspace/way-out"));
    TRY("unnamed-by-landlock", look("/var/volary-probe"));

    TRY("init-environ", look("/proc/1/environ"));
    TRY("init-mem", look("/proc/1/mem"));
    TRY("init-maps", look("/proc/1/maps"));
    TRY("init-root", look("/proc/1/root/etc/shadow"));
    TRY("init-cwd", look("/proc/1/cwd"));
    TRY("init-fd", look("/proc/1/fd"));
    TRY("init-exe", look("/proc/1/exe"));
    TRY("init-net-namespace", look("/proc/1/ns/net"));
    TRY("init-mounts", look("/proc/1/mountinfo"));
    TRY("runner-file", look("/run/volary/runner"));
    TRY("agent-file", look("/run/volary/agent"));
    TRY("box-file", look("/run/volary/box.json"));

    TRY("proc-core-pattern", open("/proc/sys/kernel/core_pattern", O_WRONLY));
    TRY("proc-modprobe", open("/proc/sys/kernel/modprobe", O_WRONLY));
    TRY("proc-own-domainname", open("/proc/sys/kernel/domainname", O_WRONLY));
    TRY("proc-sysrq", open("/proc/sysrq-trigger", O_WRONLY));
    TRY("proc-kcore", look("/proc/kcore"));
    TRY("proc-kmsg", look("/proc/kmsg"));
    TRY("proc-keys-empty", look("/proc/keys") > 0 ? 0 : (errno = ENOENT, -1));
    TRY("proc-kallsyms-empty", look("/proc/kallsyms") > 0 ? 0 : (errno = ENOENT, -1));
    TRY("proc-oom", open("/proc/1/oom_score_adj", O_WRONLY));
    TRY("proc-less-oom", ({ int f = open("/proc/self/oom_score_adj", O_WRONLY); f < 0 ? -1 : write(f, "-1000", 5); }));

    TRY("dev-kmsg", look("/dev/kmsg"));
    TRY("dev-mem", look("/dev/mem"));
    TRY("dev-disk", look("/dev/vda"));
    TRY("dev-loop", look("/dev/loop-control"));
    TRY("dev-fuse", look("/dev/fuse"));
    TRY("dev-kvm", look("/dev/kvm"));
    TRY("dev-userfaultfd", look("/dev/userfaultfd"));

    TRY("write-usr", open("/usr/bin/planted", O_WRONLY | O_CREAT, 0755));
    TRY("write-over-usr", open("/usr/bin/env", O_WRONLY));
    TRY("write-etc", open("/etc/planted", O_WRONLY | O_CREAT, 0644));
    TRY("write-passwd", open("/etc/passwd", O_WRONLY));
    TRY("write-run", open("/run/planted", O_WRONLY | O_CREAT, 0644));
    TRY("write-runner", open("/run/volary/runner", O_WRONLY));
    TRY("write-root", open("/planted", O_WRONLY | O_CREAT, 0644));
    TRY("write-var", open("/var/planted", O_WRONLY | O_CREAT, 0644));
    TRY("write-dev", open("/dev/planted", O_WRONLY | O_CREAT, 0644));
    TRY("write-folder", mkdir("/planted", 0755));
    TRY("write-by-rename", rename("/workspace/here", "/etc/here"));
    TRY("write-by-link", link("/workspace/here", "/usr/here"));
    TRY("take-by-link", link("/etc/passwd", "/workspace/passwd"));
    TRY("remove-usr", unlink("/usr/bin/env"));
    TRY("own-usr", chmod("/usr/bin/env", 0777));
    TRY("device-block", mknod("/workspace/disk", S_IFBLK | 0600, 0x0800));
    TRY("device-char", mknod("/tmp/mem", S_IFCHR | 0600, 0x0101));
    TRY("whiteout", mknod("/workspace/whiteout", S_IFCHR | 0600, 0));
    TRY("xattr-trusted", setxattr("/workspace/here", "trusted.overlay.opaque", "y", 1, 0));
    TRY("xattr-redirect", setxattr("/workspace/here", "trusted.overlay.redirect", "/etc", 4, 0));
    TRY("xattr-capability", setxattr("/workspace/here", "security.capability", "\1\0\0\2\0\40\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20, 0));
    return 0;
}
