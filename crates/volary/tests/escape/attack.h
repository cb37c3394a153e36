/* What every attack program shares: it stands before each of them, as one text handed to cc in the box.
   A program prints one line an attempt, "name errno" (0: it went through), and decides nothing itself. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <netdb.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

/* Milliseconds of its own processor time that a refusal takes at most: a busy machine adds none to them, an emulated one
   does, and whoever builds for it says how many. */
#ifndef REFUSAL_MS
#define REFUSAL_MS 1000
#endif
static long refusal_ms = REFUSAL_MS;

static void told(const char *name, int met, long ms) {
    if (met && ms > refusal_ms) {
        fprintf(stderr, "%s: refused with %d after %ld ms of processor time, of which it has %ld\n", name, met, ms, refusal_ms);
        _exit(71);
    }
    printf("%s %d\n", name, met);
    fflush(stdout);
}

/* What this process has worked so far, in milliseconds. */
static long worked(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Seconds after which an attempt hangs, on however busy a machine. How fast a refusal is, is said by what it works. */
static unsigned answer_secs = 20;
/* What is said when the attempt under way, or what is between two, hangs. */
static char if_it_hangs[200];

static void hangs(int signal) {
    write(2, if_it_hangs, strlen(if_it_hangs));
    _exit(70);
}

static void within(const char *name, unsigned seconds) {
    alarm(0);
    snprintf(if_it_hangs, sizeof if_it_hangs, "%s: no answer in %u s\n", name, seconds);
    alarm(seconds);
}

static void begins(const char *name) {
    within(name, answer_secs);
    errno = 0;
}

/* Whatever stands between attempts has longer: it compiles, copies and waits for others. */
static void between(void) { within("what stands between two attempts", 90); }

__attribute__((constructor)) static void watchdog(void) {
    signal(SIGALRM, hangs);
    between();
}

/* One attempt: a call that answers -1 when it is refused. */
#define TRY(name, call)                        \
    do {                                       \
        begins(name);                          \
        long before_ = worked();               \
        long answer_ = (long)(call);           \
        int met_ = answer_ == -1 ? errno : 0;  \
        between();                             \
        told(name, met_, worked() - before_);  \
    } while (0)

#define CALL(name, ...) TRY(#name, syscall(SYS_##name, __VA_ARGS__))

/* One attempt in a child of its own, which has no alarm: its errno, or 1000 + the signal that ended it. */
#define CHILD(name, call)                                        \
    do {                                                         \
        fflush(stdout);                                          \
        begins(name);                                            \
        pid_t child_ = fork();                                   \
        if (child_ == 0) {                                       \
            errno = 0;                                           \
            long answer_ = (long)(call);                         \
            _exit(answer_ == -1 ? errno : 0);                    \
        }                                                        \
        int status_ = 0;                                         \
        struct rusage used_ = {0};                               \
        wait4(child_, &status_, 0, &used_);                      \
        between();                                               \
        long secs_ = used_.ru_utime.tv_sec + used_.ru_stime.tv_sec, micros_ = used_.ru_utime.tv_usec + used_.ru_stime.tv_usec; \
        told(name, WIFEXITED(status_) ? WEXITSTATUS(status_) : 1000 + WTERMSIG(status_), secs_ * 1000 + micros_ / 1000); \
    } while (0)
