/* A race of names, from inside: a process exchanges a folder of the worktree, a link to a folder of the host and one to
   the system under the name "race"; another links, moves and writes through that name, a bounded number of times. The
   first one then goes on for as long as it lives, whatever kills what can be seen of it. */
static long own, met, took;

static void exchange_for_ever(const char *outside) {
    setsid();
    if (fork()) _exit(0);
    for (int n = 1; n < 65; n++) signal(n, SIG_IGN);
    prctl(PR_SET_DUMPABLE, 0);
    for (int n = 0; n < 3; n++) close(n);
    for (;;) {
        syscall(SYS_renameat2, AT_FDCWD, "race", AT_FDCWD, "race.host", 2 /* RENAME_EXCHANGE */);
        syscall(SYS_renameat2, AT_FDCWD, "race", AT_FDCWD, "race.system", 2);
        symlink(outside, "race.new");
        rename("race.new", "race.more");
    }
}

/* Counts an attempt at what only the system's folder has: that it was met there, or what must never be, taken. */
static void foreign(long answer) {
    if (answer != -1) took++;
    else if (errno != ENOENT) met++;
}

int main(int argc, char **argv) {
    mkdir("race", 0755);
    mkdir("taken", 0755);
    close(open("race/f", O_CREAT | O_WRONLY, 0644));
    symlink(argv[1], "race.host");
    symlink("/etc", "race.system");
    if (fork() == 0) exchange_for_ever(argv[1]);
    wait(0);
    /* As many as it needs until both have been met under that name, and some thousands. */
    for (int round = 0; round < 1000000 && (round < 5000 || !own || !met); round++) {
        foreign(link("race/passwd", "taken/hard-link"));
        foreign(linkat(AT_FDCWD, "race/passwd", AT_FDCWD, "taken/followed", AT_SYMLINK_FOLLOW));
        foreign(linkat(AT_FDCWD, "race/../shadow", AT_FDCWD, "taken/above", 0));
        foreign(rename("race/passwd", "taken/moved"));
        own += link("race/f", "taken/own") == 0;
        unlink("taken/own");
        int planted = open("race/planted", O_CREAT | O_WRONLY, 0644);
        close(planted);
        close(open("mine", O_CREAT | O_WRONLY, 0644));
        rename("mine", "race/planted-by-rename");
        link("mine", "race/planted-by-link");
    }
    printf("took %ld\n%s %s\n", took, own ? "linked" : "never", met ? "met" : "never");
    return 0;
}
