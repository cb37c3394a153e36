#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

/* Lives on in four ways, each deaf to every signal that can be ignored; ends itself when its standard input does. */
static void live_on(int detach, int hide) {
    if (fork()) return;
    for (int n = 1; n < 65; n++) signal(n, SIG_IGN);
    if (detach) {
        setsid();
        if (fork()) _exit(0);
        setsid();
    }
    /* Not dumpable: its folder in /proc belongs to root, and those of its own uid do not see it. */
    if (hide) prctl(PR_SET_DUMPABLE, 0);
    int null = open("/dev/null", O_RDWR);
    dup2(null, 0);
    /* Standard output stays open: whoever waits for its end waits for us. */
    for (;;) pause();
}

int main(void) {
    live_on(0, 0);
    live_on(1, 0);
    live_on(0, 1);
    live_on(1, 1);
    for (int n = 1; n < 65; n++) signal(n, SIG_IGN);
    puts("ready");
    fflush(stdout);
    char byte;
    while (read(0, &byte, 1) > 0) {}
    return 0;
}
