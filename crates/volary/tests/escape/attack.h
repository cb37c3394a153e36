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
#include <unistd.h>

extern char **environ;

static void told(const char *name, int met) {
    printf("%s %d\n", name, met);
    fflush(stdout);
}

/* One attempt: a call that answers -1 when it is refused. */
#define TRY(name, call)                     \
    do {                                    \
        errno = 0;                          \
        long answer_ = (long)(call);        \
        told(name, answer_ == -1 ? errno : 0); \
    } while (0)

#define CALL(name, ...) TRY(#name, syscall(SYS_##name, __VA_ARGS__))

/* One attempt in a child of its own: its errno, or 1000 + the signal that ended it. */
#define CHILD(name, call)                                        \
    do {                                                         \
        fflush(stdout);                                          \
        pid_t child_ = fork();                                   \
        if (child_ == 0) {                                       \
            errno = 0;                                           \
            long answer_ = (long)(call);                         \
            _exit(answer_ == -1 ? errno : 0);                    \
        }                                                        \
        int status_ = 0;                                         \
        waitpid(child_, &status_, 0);                            \
        told(name, WIFEXITED(status_) ? WEXITSTATUS(status_) : 1000 + WTERMSIG(status_)); \
    } while (0)

/* Whatever hangs ends here, with a signal that the test sees. */
__attribute__((constructor)) static void watchdog(void) { alarm(90); }
