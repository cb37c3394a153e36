/* Whether a file of the system is the same one for two boxes and the host: one holds locks on it and watches who opens
   it, the other looks for the locks. */
#include <sys/file.h>
#include <sys/inotify.h>

#define FILE_OF_ALL "/usr/bin/tsort"
static const char *watched[] = {"/usr/bin", "/usr/lib", "/etc/ssl/certs", "/run/volary/runner", "/run/volary/agent"};
static int events, watches[5];

/* Prints what was opened since the last time, and says how often. */
static int seen(int silently) {
    static char buffer[1 << 16] __attribute__((aligned(8)));
    int all = 0;
    for (ssize_t got; (got = read(events, buffer, sizeof buffer)) > 0;)
        for (char *at = buffer; at < buffer + got;) {
            struct inotify_event *e = (void *)at;
            for (int n = 0; n < 5 && !silently; n++)
                if (watches[n] == e->wd) printf("seen %s/%s\n", watched[n], e->len ? e->name : "");
            all++;
            at += sizeof *e + e->len;
        }
    fflush(stdout);
    return all;
}

int main(int argc, char **argv) {
    int f = open(FILE_OF_ALL, O_RDONLY);
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET}, asked = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (strcmp(argv[1], "seek") == 0) {
        TRY("flock", flock(f, LOCK_EX | LOCK_NB));
        TRY("posix-lock", fcntl(f, F_GETLK, &asked) ? -1 : asked.l_type == F_UNLCK ? 0 : (errno = EAGAIN, -1));
        return 0;
    }
    events = inotify_init1(IN_NONBLOCK);
    for (int n = 0; n < 5; n++) watches[n] = inotify_add_watch(events, watched[n], IN_OPEN | IN_ACCESS | IN_CLOSE);
    TRY("control-flock", flock(f, LOCK_EX | LOCK_NB));
    TRY("control-posix-lock", fcntl(f, F_SETLK, &lock));
    TRY("control-own-open", open(FILE_OF_ALL, O_RDONLY));
    TRY("control-own-lock-is-met", flock(open(FILE_OF_ALL, O_RDONLY), LOCK_EX | LOCK_NB));
    TRY("control-own-open-is-seen", seen(1) > 0 ? 0 : -1);
    TRY("control-watch", watches[0]);
    puts("ready 0");
    fflush(stdout);
    alarm(300);
    char byte;
    while (read(0, &byte, 1) > 0) {}
    seen(0);
    puts("over 0");
    return 0;
}
