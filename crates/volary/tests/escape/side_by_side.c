/* Two of this program in two boxes: one holds things by names that the other knows, and the other goes for them.
   The holder goes for them too, in its own box: what it does not find there, nobody needs to be kept from. */
#include <mqueue.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>

#define KEY 0x766f6c61
#define NAME "held-by-another"
#define SECRET "what-the-other-box-holds"

static const char *files[] = {"/workspace/" NAME, "/tmp/" NAME, "/dev/shm/" NAME};

static socklen_t local(struct sockaddr_un *at, const char *path) {
    *at = (struct sockaddr_un){.sun_family = AF_UNIX};
    /* Without a path: the abstract name. */
    char *to = at->sun_path + (path ? 0 : 1);
    strcpy(to, path ? path : NAME);
    return offsetof(struct sockaddr_un, sun_path) + (path ? 0 : 1) + strlen(to);
}

static struct sockaddr_in port(int number) {
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(number), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void needs(const char *what, long answer) {
    if (answer == -1) {
        fprintf(stderr, "cannot hold %s: %s\n", what, strerror(errno));
        exit(1);
    }
}

static int serve(int family, int kind, void *at, socklen_t length) {
    int s = socket(family, kind | SOCK_NONBLOCK, 0);
    needs("a socket", s);
    needs("an address", bind(s, at, length));
    if (kind == SOCK_STREAM) needs("a listener", listen(s, 8));
    return s;
}

/* Holds everything, for as long as this process lives. Gives the sockets that nobody else must reach. */
static int *hold(void) {
    static int sockets[4];
    for (int n = 0; n < 3; n++) {
        int f = open(files[n], O_CREAT | O_RDWR, 0666);
        needs(files[n], f);
        needs("its content", write(f, SECRET, sizeof SECRET));
        if (n == 1) needs("a lock", flock(f, LOCK_EX));
    }
    needs("a pipe", mkfifo("/tmp/" NAME "-pipe", 0666));
    needs("its end", open("/tmp/" NAME "-pipe", O_RDWR | O_NONBLOCK));
    struct sockaddr_un at;
    socklen_t length = local(&at, 0);
    sockets[0] = serve(AF_UNIX, SOCK_STREAM, &at, length);
    length = local(&at, "/tmp/" NAME "-socket");
    sockets[1] = serve(AF_UNIX, SOCK_STREAM, &at, length);
    struct sockaddr_in tcp = port(9191), udp = port(9192);
    sockets[2] = serve(AF_INET, SOCK_STREAM, &tcp, sizeof tcp);
    sockets[3] = serve(AF_INET, SOCK_DGRAM, &udp, sizeof udp);
    int memory = shmget(KEY, 4096, IPC_CREAT | 0666);
    needs("shared memory", memory);
    strcpy(shmat(memory, 0, 0), SECRET);
    needs("a queue", msgget(KEY, IPC_CREAT | 0666));
    needs("semaphores", semget(KEY, 1, IPC_CREAT | 0666));
    prctl(PR_SET_NAME, NAME);
    return sockets;
}

static int found_in(const char *path, const char *text) {
    static char all[1 << 20];
    int f = open(path, O_RDONLY);
    if (f < 0) return -1;
    size_t length = 0;
    ssize_t got;
    while (length < sizeof all - 1 && (got = read(f, all + length, sizeof all - 1 - length)) > 0) length += got;
    close(f);
    all[length] = 0;
    return strstr(all, text) ? 0 : (errno = ENOENT, -1);
}

static int dial(int family, int kind, void *to, socklen_t length) {
    int s = socket(family, kind, 0);
    int done = connect(s, to, length);
    /* A datagram's refusal is told with the next one. */
    for (int n = 0; kind == SOCK_DGRAM && done == 0 && n < 2; n++) {
        done = send(s, "x", 1, 0) == 1 ? 0 : -1;
        usleep(10000);
    }
    int kept = errno;
    close(s);
    errno = kept;
    return done;
}

static int process_by_name(void) {
    DIR *all = opendir("/proc");
    struct dirent *one;
    while ((one = readdir(all))) {
        char path[300];
        snprintf(path, sizeof path, "/proc/%s/comm", one->d_name);
        if (atoi(one->d_name) != getpid() && found_in(path, NAME) == 0) return 0;
    }
    errno = ENOENT;
    return -1;
}

/* Goes for what the process `pid` of the user `uid` holds. */
static void seek(pid_t pid, uid_t uid) {
    struct sockaddr_un at;
    socklen_t length;
    TRY("file-in-worktree", found_in(files[0], SECRET));
    TRY("file-in-scratch", found_in(files[1], SECRET));
    TRY("file-in-shared-memory", found_in(files[2], SECRET));
    TRY("lock", found_in("/proc/locks", "FLOCK"));
    TRY("pipe", open("/tmp/" NAME "-pipe", O_WRONLY | O_NONBLOCK));
    TRY("abstract-socket", ({ length = local(&at, 0); dial(AF_UNIX, SOCK_STREAM, &at, length); }));
    TRY("abstract-socket-listed", found_in("/proc/net/unix", NAME));
    TRY("named-socket", ({ length = local(&at, "/tmp/" NAME "-socket"); dial(AF_UNIX, SOCK_STREAM, &at, length); }));
    TRY("tcp-port", ({ struct sockaddr_in to = port(9191); dial(AF_INET, SOCK_STREAM, &to, sizeof to); }));
    TRY("tcp-port-listed", found_in("/proc/net/tcp", ":23E7 "));
    TRY("udp-port", ({ struct sockaddr_in to = port(9192); dial(AF_INET, SOCK_DGRAM, &to, sizeof to); }));
    TRY("system-v-memory", shmget(KEY, 0, 0));
    TRY("system-v-memory-listed", found_in("/proc/sysvipc/shm", "1987013729"));
    TRY("system-v-queue", msgget(KEY, 0));
    TRY("system-v-semaphores", semget(KEY, 0, 0));
    TRY("posix-queue-made", mq_open("/" NAME, O_CREAT | O_RDWR, 0666, (struct mq_attr *)0));
    TRY("posix-memory", shm_open("/" NAME, O_RDONLY, 0));
    TRY("process-by-name", process_by_name());
    TRY("process-signal", kill(pid, 0));
    TRY("process-descriptor", syscall(SYS_pidfd_open, pid, 0));
    TRY("process-folder", ({ char path[40]; snprintf(path, sizeof path, "/proc/%d/stat", pid); open(path, O_RDONLY); }));
    TRY("process-group", getpgid(pid));
    TRY("process-processors", ({ cpu_set_t set; sched_getaffinity(pid, sizeof set, &set); }));
    TRY("processes-of-its-user", getpriority(PRIO_USER, uid));
    TRY("keyring-of-its-user", syscall(SYS_add_key, "user", NAME, SECRET, sizeof SECRET, -4));
}

int main(int argc, char **argv) {
    if (strcmp(argv[1], "seek") == 0) {
        seek(atoi(argv[2]), atoi(argv[3]));
        /* Whoever can be signalled is. */
        kill(-1, SIGKILL);
        return 0;
    }
    int *sockets = hold(), holder = getpid();
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_NAME, "seeker");
        seek(holder, getuid());
        _exit(0);
    }
    waitpid(child, 0, 0);
    for (int n = 0; n < 3; n++) close(accept(sockets[n], 0, 0));
    char byte;
    while (recv(sockets[3], &byte, 1, 0) > 0) {}
    printf("ready %d\n", (int)getuid());
    fflush(stdout);
    alarm(300);
    while (read(0, &byte, 1) > 0) {}
    /* Whether anyone came meanwhile, and whether all is as it was. */
    int came = recv(sockets[3], &byte, 1, 0) > 0;
    for (int n = 0; n < 3; n++) came += accept(sockets[n], 0, 0) >= 0 || found_in(files[n], SECRET) != 0;
    puts(came ? "touched" : "untouched");
    return 0;
}
