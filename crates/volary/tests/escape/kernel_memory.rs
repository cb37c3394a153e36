//! Memory of the host's kernel that no limit of a control group counts, and its log: a box that takes too much of them is ended,
//! and told what of.

use crate::support::{all, platform, profile, text};
use serde_json::json;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use testkit::{Platform, Repo};

/// Room for what the programs need by themselves; what they go for is none of it.
const LIMITS: &str = "memory-mib = 256\nprocesses = 32\ncommand-seconds = 600";

fn compiled(platform: &Platform, program: &str) -> Output {
    let line = "cc -w -x c -o /tmp/taker - && exec /tmp/taker";
    platform.cli_with_input(&["exec", "--profile", "taker", "--", "sh", "-c", line], program.as_bytes())
}

/// The box was ended for this, and not for anything else.
fn ended_for(out: &Output, why: &str) {
    let said = text(&out.stderr);
    assert!(!out.status.success() && said.contains(why) && said.contains("the box was killed"), "{}", all(out));
    assert!(!text(&out.stdout).contains("held"), "{}", all(out));
}

/// Five processes lock every other byte of parts of a thousand files each: the kernel keeps each lock by itself. A sixth has the
/// kernel hold so many MiB more that it cannot give back, by what counts as memory of the box: it is asked what the box holds then.
const LOCKS: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
static long mib() {
    char line[256];
    long kib = 0;
    FILE *said = fopen("/proc/meminfo", "r");
    while (fgets(line, sizeof line, said)) if (!strncmp(line, "SUnreclaim:", 11)) kib = atol(line + 11);
    fclose(said);
    return kib >> 10;
}
static int hold(long more) {
    static char words[3000];
    long before = mib();
    for (int n = 0; mib() < before + more; n++) {
        int pair[2], much = 1 << 20;
        /* All that one process may have open. */
        if (n % 500 == 0 && n) {
            int next = fork();
            if (next) { waitpid(next, 0, 0); return 0; }
            n = 0;
            /* The one before holds its own still. */
            for (int file = 3; file < 1010; file++) close(file);
        }
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair)) return 5;
        for (int end = 0; end < 2; end++) {
            setsockopt(pair[end], SOL_SOCKET, SO_SNDBUF, &much, sizeof much);
            while (send(pair[end], words, sizeof words, MSG_DONTWAIT) > 0);
        }
    }
    sleep(SECS);
    puts("held");
    return 0;
}
int main() {
    int done[2];
    char word;
    pipe(done);
    for (int process = 0; process < 5; process++) {
        if (fork()) continue;
        for (int n = 0; n < 1000; n++) {
            char name[64];
            snprintf(name, sizeof name, "/tmp/locked-%d-%d", process, n);
            int file = open(name, O_RDWR | O_CREAT, 0600);
            if (file < 0) return 3;
            for (int at = EACH - 1; at >= 0; at--) {
                struct flock one = {.l_type = F_WRLCK, .l_start = 2 * at, .l_len = 1};
                if (fcntl(file, F_SETLK, &one)) return 4;
            }
        }
        write(done[1], "", 1);
        for (;;) pause();
    }
    for (int process = 0; process < 5; process++) read(done[0], &word, 1);
    return hold(BESIDE);
}
"#;

#[test]
fn a_box_that_takes_the_kernels_own_memory_by_locks_is_killed_and_said_to_be() {
    let platform = platform();
    profile(&platform, "taker", LIMITS);
    let taker = |each: u32, beside: u32, secs: u32| {
        let numbers = [("EACH", each), ("BESIDE", beside), ("SECS", secs)];
        let program = numbers.iter().fold(LOCKS.to_owned(), |all, (name, n)| all.replace(name, &n.to_string()));
        compiled(&platform, &program)
    };
    ended_for(&taker(500, 0, 300), " locks on parts of files, and may hold 65536");
    // Fifty thousand are no more than a database has, also when they are counted: of the host's kernel more is taken meanwhile than
    // what has a box looked at.
    profile(&platform, "taker", &LIMITS.replace("256", "1024"));
    let out = taker(10, 320, 3);
    assert_eq!(text(&out.stdout), "held\n", "{}", all(&out));
}

/// Connects to itself, says something and hangs up; nobody accepts.
const CONNECTIONS: &str = r#"
#include <arpa/inet.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>
static char words[60000];
int main() {
    for (int listener = 0; listener < 3; listener++) {
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9000 + listener), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        int door = socket(AF_INET, SOCK_STREAM, 0);
        if (bind(door, (void *)&to, sizeof to) || listen(door, 4096)) return 3;
        for (int n = 0; n < EACH; n++) {
            int one = socket(AF_INET, SOCK_STREAM, 0);
            if (connect(one, (void *)&to, sizeof to)) return 4;
            send(one, words, sizeof words, MSG_DONTWAIT);
            close(one);
        }
    }
    sleep(SECS);
    puts("held");
    return 0;
}
"#;

#[test]
fn a_box_that_takes_the_kernels_own_memory_by_connections_that_nobody_accepts_is_killed_and_said_to_be() {
    let platform = platform();
    profile(&platform, "taker", LIMITS);
    let taker = |each: u32, secs: u32| {
        compiled(&platform, &CONNECTIONS.replace("EACH", &each.to_string()).replace("SECS", &secs.to_string()))
    };
    ended_for(&taker(4000, 300), " connections in it are no process's ");
    // For as long as a look or two.
    let out = taker(100, 3);
    assert_eq!(text(&out.stdout), "held\n", "{}", all(&out));
}

/// Reads a folder of the repository again and again, after a change each time, and keeps it open; fewer times than are noticed
/// by their number.
const NAMES: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>
int main() {
    char space[65536];
    if (chdir("/workspace/wide")) return 3;
    /* Again and again: what others give back to the kernel meanwhile hides what is taken once. */
    for (int again = 0; again < 15; again++) {
        int folders[28];
        for (int n = 0; n < 28; n++) {
            char name[64];
            snprintf(name, sizeof name, "change%d-%d", again, n);
            close(open(name, O_CREAT | O_WRONLY, 0600));
            folders[n] = open(".", O_RDONLY | O_DIRECTORY);
            if (folders[n] < 0 || syscall(SYS_getdents64, folders[n], space, sizeof space) < 0) return 4;
        }
        sleep(20);
        for (int n = 0; n < 28; n++) close(folders[n]);
        sleep(1);
    }
    puts("held");
    return 0;
}
"#;

#[test]
fn a_box_that_takes_the_kernels_own_memory_by_the_names_of_its_repository_is_killed_and_said_to_be() {
    let platform = platform();
    profile(&platform, "taker", LIMITS);
    let repo = Repo::failing();
    let git = || {
        let mut git = Command::new("git");
        git.arg("-C").arg(repo.path());
        git
    };
    let branch = text(&git().args(["symbolic-ref", "HEAD"]).output().unwrap().stdout);
    let mut import = git().args(["fast-import", "--quiet"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stream = import.stdin.take().unwrap();
    let branch = branch.trim();
    write!(stream, "commit {branch}\ncommitter T <t@localhost> 1700000000 +0000\ndata 4\nwidefrom {branch}^0\n")
        .unwrap();
    let mut names = String::new();
    for n in 0..30_000 {
        names.push_str(&format!("M 100644 inline wide/{n:0>200}\ndata 0\n\n"));
    }
    stream.write_all(names.as_bytes()).unwrap();
    drop(stream);
    assert!(import.wait().unwrap().success());

    let command = format!("cat >/tmp/names.c <<'END'\n{NAMES}END\ncc -w -o /tmp/names /tmp/names.c && exec /tmp/names");
    let turns = json!([
        {"text": "I read.", "tools": [{"name": "shell", "input": {"command": command, "timeout": 500}}]},
        {"text": "Done."}
    ]);
    platform.script("reader", &turns, "sk-test-only-key-of-a-scripted-model");
    let out = platform.cli(&["run", "--profile", "taker", "--repo", repo.path_str(), "--model", "reader", "read"]);
    let said = all(&out);
    assert!(!out.status.success() && said.contains("killed: of folders of its worktree it holds "), "{said}");
    assert!(said.contains("MiB of names") && !said.contains("more than can be counted"), "{said}");
}

/// Sends to itself what it does not read, until nothing more is taken, and then counts what there is.
const DATAGRAMS: &str = r#"
#include <arpa/inet.h>
#include <stdio.h>
#include <sys/socket.h>
static char words[60000];
int main() {
    static int all[900];
    int from = socket(AF_INET, SOCK_DGRAM, 0), unused = 0;
    for (int n = 0; n < 900; n++) {
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t length = sizeof at;
        all[n] = socket(AF_INET, SOCK_DGRAM, 0);
        if (all[n] < 0 || bind(all[n], (void *)&at, length) || getsockname(all[n], (void *)&at, &length)) return 3;
        for (int again = 0; again < 4; again++) sendto(from, words, sizeof words, MSG_DONTWAIT, (void *)&at, sizeof at);
    }
    long bytes = 0, got;
    for (int n = 0; n < 900; n++)
        while ((got = recv(all[n], words, sizeof words, MSG_DONTWAIT)) > 0) bytes += got;
    printf("%ld\n", bytes >> 20);
    return 0;
}
"#;

#[test]
fn what_is_sent_in_a_box_and_not_read_is_bounded() {
    let platform = platform();
    profile(&platform, "taker", &LIMITS.replace("256", "128"));
    let out = compiled(&platform, DATAGRAMS);
    let mib: u64 = text(&out.stdout).trim().parse().unwrap_or_else(|_| panic!("{}", all(&out)));
    // On v2 it is the box's memory; on v1 there is a limit beside that, where the kernel has one.
    let apart = std::path::Path::new("/sys/fs/cgroup/memory/memory.kmem.tcp.limit_in_bytes").exists();
    let most = if apart { 64 } else { 128 };
    assert!((8..=most).contains(&mib), "{mib} MiB were taken: {}", all(&out));
}

/// Has the kernel keep a copy of each datagram that it sends, to tell when it left, and never asks.
const COPIES: &str = r#"
#include <arpa/inet.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>
static char words[30000];
int main() {
    for (int n = 0; n < SOCKETS; n++) {
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t length = sizeof at;
        int to = socket(AF_INET, SOCK_DGRAM, 0), from = socket(AF_INET, SOCK_DGRAM, 0), much = 1 << 24;
        int told = 1 << 1 | 1 << 4 | 1 << 7; /* when it leaves, by the kernel's clock, with its number */
        if (bind(to, (void *)&at, length) || getsockname(to, (void *)&at, &length)) return 3;
        if (setsockopt(from, SOL_SOCKET, SO_RCVBUF, &much, sizeof much) || setsockopt(from, SOL_SOCKET, 37, &told, sizeof told)) return 4;
        for (int again = 0; again < 200; again++) {
            sendto(from, words, sizeof words, MSG_DONTWAIT, (void *)&at, sizeof at);
            recv(to, words, sizeof words, MSG_DONTWAIT);
        }
        close(to);
    }
    sleep(SECS);
    puts("held");
    return 0;
}
"#;

#[test]
fn a_box_that_takes_the_kernels_own_memory_by_copies_of_what_it_sent_is_killed_and_said_to_be() {
    let platform = platform();
    profile(&platform, "taker", LIMITS);
    let taker = |sockets: u32, secs: u32| {
        compiled(&platform, &COPIES.replace("SOCKETS", &sockets.to_string()).replace("SECS", &secs.to_string()))
    };
    ended_for(&taker(900, 300), " MiB wait to be read");
    let out = taker(10, 3);
    assert_eq!(text(&out.stdout), "held\n", "{}", all(&out));
}

/// Processes that connect to themselves, hang up on both sides and keep what is in no list of the kernel's then: a copy of what a
/// socket sent, with the socket.
const SOCKETS: &str = r#"
#include <arpa/inet.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
int main() {
    int done[2];
    char word;
    pipe(done);
    for (int process = 0; process < PROCESSES; process++) {
        if (fork()) continue;
        struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t length = sizeof at;
        int door = socket(AF_INET, SOCK_STREAM, 0), told = 1 << 1 | 1 << 4 | 1 << 7;
        if (bind(door, (void *)&at, length) || listen(door, 16) || getsockname(door, (void *)&at, &length)) return 3;
        for (int n = 0; n < 450; n++) {
            int from = socket(AF_INET, SOCK_STREAM, 0), to;
            if (connect(from, (void *)&at, length) || (to = accept(door, 0, 0)) < 0) return 4;
            if (setsockopt(from, SOL_SOCKET, 37, &told, sizeof told) || send(from, "x", 1, 0) != 1 || recv(to, &word, 1, 0) != 1) return 5;
            if (shutdown(from, SHUT_WR) || shutdown(to, SHUT_WR)) return 6;
        }
        write(done[1], "", 1);
        for (;;) pause();
    }
    for (int process = 0; process < PROCESSES; process++) read(done[0], &word, 1);
    sleep(SECS);
    puts("held");
    return 0;
}
"#;

#[test]
fn a_box_that_has_sockets_without_number_which_may_keep_copies_of_what_they_sent_is_killed_and_said_to_be() {
    let platform = platform();
    profile(&platform, "taker", LIMITS);
    let taker = |processes: u32, secs: u32| {
        compiled(&platform, &SOCKETS.replace("PROCESSES", &processes.to_string()).replace("SECS", &secs.to_string()))
    };
    ended_for(&taker(5, 300), " sockets, and may have 4096");
    // Some 3,600, for as long as a look or two.
    let out = taker(4, 3);
    assert_eq!(text(&out.stdout), "held\n", "{}", all(&out));
}

/// Has children that take more memory than there is, by one call, and are ended for it, for ever.
const STORM: &str = r#"
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
int main() {
    int much = 128 << 20;
    for (;;) {
        if (fork() == 0) {
            char *all = mmap(0, much, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
            for (;;) memset(all, 1, much);
        }
        wait(0);
    }
}
"#;

#[test]
fn a_box_that_goes_on_and_on_at_its_memory_limit_is_ended_and_said_to_be() {
    let platform = platform();
    profile(&platform, "taker", &LIMITS.replace("256", "64"));
    let out = compiled(&platform, STORM);
    let said = text(&out.stderr);
    assert_eq!(out.status.code(), Some(137), "{}", all(&out));
    assert!(said.contains("killed: memory limit 64 MiB, at which ") && said.contains("within 60 s"), "{}", all(&out));
}
