//! What floods meet: each ends, says which limit it met, and is felt by nobody else.

use crate::support::{all, platform, profile, shell, text};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Output, Stdio};
use testkit::Platform;

/// Small numbers, so that a flood is over soon; but time for a compiler on a machine that is very busy.
const SMALL: &str = "memory-mib = 128\nscratch-mib = 64\nworktree-mib = 32\nprocesses = 32\nopen-files = 64\n\
                     output-mib = 1\ncommand-seconds = 300";

fn small() -> Platform {
    let platform = platform();
    profile(&platform, "small", SMALL);
    platform
}

fn compiled(platform: &Platform, program: &str) -> Output {
    let line = "cc -w -x c -o /tmp/flood - && exec /tmp/flood";
    platform.cli_with_input(&["exec", "--profile", "small", "--", "sh", "-c", line], program.as_bytes())
}

/// The box after a flood's is as good as any.
fn works_still(platform: &Platform) {
    let out = shell(platform, "small", "sleep 0.1 & wait; echo fine");
    assert_eq!(text(&out.stdout), "fine\n", "{}", all(&out));
}

#[test]
fn a_fork_bomb_meets_its_limit_and_ends_with_the_time_of_its_command() {
    let platform = platform();
    // What the kernel sets up for a process that it then refuses, it frees later: with little memory a bomb may meet that
    // limit first.
    let roomy = SMALL.replace("memory-mib = 128", "memory-mib = 1024");
    profile(&platform, "small", &roomy.replace("command-seconds = 300", "command-seconds = 20"));
    // It says when it met its limit: what takes its time until then is the compiler, on a machine that is very busy.
    let bomb = "#include <unistd.h>\n#include <signal.h>\n\
                int main() { signal(SIGTERM, SIG_IGN); int first = getpid(), met = 0;\n\
                for (;;) if (fork() < 0 && getpid() == first && !met++) write(1, \"refused\\n\", 8); }";
    let full = |out: &Output| text(&out.stderr).contains("killed: memory limit 1024 MiB");
    let mut tries = (0..3).map(|_| compiled(&platform, bomb));
    let out =
        tries.find(|out| text(&out.stdout) == "refused\n" || full(out)).expect("a bomb that met a limit in its time");
    let said = text(&out.stderr);
    assert_eq!(out.status.code(), Some(137), "{}", all(&out));
    let at_its_time = said.contains("killed: time limit 20 s") && said.contains("limit of 32 processes");
    assert!(at_its_time || full(&out), "{}", all(&out));
    works_still(&platform);
}

#[test]
fn processes_beyond_the_limit_are_refused_and_the_command_told_so() {
    let platform = small();
    let program = "#include <errno.h>\n#include <stdio.h>\n#include <unistd.h>\n\
                   int main() { int n = 0; for (;;) { pid_t p = fork(); if (p == 0) for (;;) pause(); if (p < 0) break; n++; }\n\
                   printf(\"%d %d\\n\", n, errno); return 7; }";
    let out = compiled(&platform, program);
    assert_eq!(out.status.code(), Some(7), "{}", all(&out));
    let said = text(&out.stdout);
    let (made, errno) = said.trim().split_once(' ').expect("two numbers");
    let made: u32 = made.parse().unwrap();
    assert!((20..32).contains(&made), "{made} of 32 processes");
    assert_eq!(errno, libc::EAGAIN.to_string());
    assert!(text(&out.stderr).contains("met the limit of 32 processes"), "{}", all(&out));
}

#[test]
fn a_memory_bomb_is_killed_and_said_to_be() {
    let platform = small();
    let program = "#include <stdlib.h>\n#include <string.h>\n\
                   int main() { for (;;) { char *p = malloc(1 << 20); if (!p) return 3; memset(p, 1, 1 << 20); } }";
    let out = compiled(&platform, program);
    assert_eq!(out.status.code(), Some(137), "{}", all(&out));
    assert!(text(&out.stderr).contains("killed: memory limit 128 MiB"), "{}", all(&out));
    works_still(&platform);
}

#[test]
fn scratch_counts_as_memory_and_cannot_be_used_to_go_round_it() {
    let platform = platform();
    profile(&platform, "small", "memory-mib = 64\nscratch-mib = 512\ncommand-seconds = 300");
    let out = shell(&platform, "small", "exec dd if=/dev/zero of=/tmp/fill bs=1M count=400");
    assert_eq!(out.status.code(), Some(137), "{}", all(&out));
    assert!(text(&out.stderr).contains("killed: memory limit 64 MiB"), "{}", all(&out));
}

/// Makes many names in a folder of the worktree, and opens it again and again, with a change before each: the kernel keeps all
/// the names for each opening, and counts them for nobody.
const HOARD: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
int main(int count, char **args) {
    char name[300], pad[201];
    memset(pad, 'n', 200);
    pad[200] = 0;
    if (chdir("/workspace") || close(open("one", O_CREAT | O_WRONLY, 0600))) return 3;
    for (int n = 0; n < NAMES; n++) {
        snprintf(name, sizeof name, "%s%x", pad, n);
        if (link("one", name)) return 4;
    }
    int pair[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    for (int n = 0; n < 48; n++) {
        snprintf(name, sizeof name, "change%d", n);
        close(open(name, O_CREAT | O_WRONLY, 0600));
        int folder = open(".", O_RDONLY | O_DIRECTORY);
        if (folder < 0 || syscall(SYS_getdents64, folder, name, sizeof name) < 0) return 5;
        if (AWAY) {
            /* In no table: on its way to nobody. */
            char one = 0, space[CMSG_SPACE(sizeof folder)] = {0};
            struct iovec text = {&one, 1};
            struct msghdr message = {.msg_iov = &text, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
            struct cmsghdr *part = CMSG_FIRSTHDR(&message);
            part->cmsg_level = SOL_SOCKET, part->cmsg_type = SCM_RIGHTS, part->cmsg_len = CMSG_LEN(sizeof folder);
            memcpy(CMSG_DATA(part), &folder, sizeof folder);
            if (sendmsg(pair[0], &message, 0) != 1) return 6;
            close(folder);
        }
        usleep(100000);
    }
    /* Until it is looked at, on however busy a machine. */
    if (NAMES > 1000) sleep(300);
    puts("held");
    return 0;
}
"#;

#[test]
fn a_box_that_takes_the_kernels_own_memory_by_open_folders_is_killed_and_said_to_be() {
    let platform = platform();
    profile(&platform, "small", "memory-mib = 256\nworktree-mib = 512\ncommand-seconds = 600\nopen-files = 64");
    let hoard = |names: u32, away: u32| {
        let line = format!("cc -w -DNAMES={names} -DAWAY={away} -x c -o /tmp/hoard - && exec /tmp/hoard");
        platform.cli_with_input(&["exec", "--profile", "small", "--", "sh", "-c", &line], HOARD.as_bytes())
    };
    for away in [0, 1] {
        let out = hoard(60_000, away);
        let said = text(&out.stderr);
        assert!(
            !out.status.success() && said.contains("killed: of folders of its worktree it holds "),
            "{}",
            all(&out)
        );
        assert!(said.contains("(read a folder and close it)") && said.contains("the box was killed"), "{}", all(&out));
    }
    // As many of a small folder are nobody's business.
    let out = hoard(10, 0);
    assert_eq!(text(&out.stdout), "held\n", "{}", all(&out));
    works_still(&platform);
}

/// Bytes that the disk holds of a folder's files, which may be shorter or longer themselves.
fn allocated(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(about) if about.is_dir() => allocated(&entry.path()),
        // What goes while it is looked at is no more.
        about => about.map_or(0, |about| about.blocks() * 512),
    };
    entries.map(of).sum()
}

#[test]
fn a_full_worktree_or_scratch_is_enospc_and_the_hosts_disk_does_not_feel_it() {
    let platform = platform();
    profile(&platform, "small", &SMALL.replace("memory-mib = 128", "memory-mib = 512"));
    let line = "for place in /workspace /tmp /dev/shm; do LC_ALL=C dd if=/dev/zero of=$place/fill bs=1M count=500 2>&1 \
                | grep -c 'No space left'; stat -c %s $place/fill; done; rm /workspace/fill; \
                cd /workspace; i=0; while [ $i -lt 100000 ] && (: > f$i) 2>/dev/null; do i=$((i+1)); done; echo $i; \
                rm /dev/shm/fill; cd /dev/shm; i=0; while [ $i -lt 100000 ] && (: > f$i) 2>/dev/null; do i=$((i+1)); done; \
                echo $i; read -r end";
    let mut flood = platform.command();
    flood.args(["exec", "--profile", "small", "--", "sh", "-c", line]);
    let mut flood = flood.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let said: Vec<String> =
        BufReader::new(flood.stdout.take().unwrap()).lines().map_while(Result::ok).take(8).collect();
    // While all that it was given is full, and of this home's files alone: others on this machine write, too.
    let on_disk = allocated(platform.home());
    drop(flood.stdin.take());
    let out = flood.wait_with_output().unwrap();
    let said: Vec<u64> = said.iter().map(|line| line.parse().unwrap()).collect();
    assert_eq!(said.len(), 8, "{}", all(&out));
    assert!(on_disk < 400 << 20, "the host's disk has {on_disk} bytes of this home's files");
    for (place, at) in [("/workspace", 0), ("/tmp", 2), ("/dev/shm", 4)] {
        assert_eq!(said[at], 1, "{place} did not answer ENOSPC: {}", all(&out));
        assert!(said[at + 1] <= 64 << 20, "{place} took {} bytes", said[at + 1]);
    }
    assert!(said[6] < 20_000, "{} files in a worktree of 32 MiB", said[6]);
    // Its own folder is one of the 16,384.
    assert_eq!(said[7], 16_383, "files in /dev/shm");
    works_still(&platform);
}

#[test]
fn a_command_that_ends_with_0_is_told_what_was_killed_or_refused_of_it_and_which_place_it_filled() {
    let platform = small();
    // The shell sees the end of what it started, and goes on.
    let out = shell(&platform, "small", "head -c 300000000 /dev/zero | tail > /dev/null; echo inner $?");
    assert_eq!((out.status.code(), text(&out.stdout).as_str()), (Some(0), "inner 137\n"), "{}", all(&out));
    assert!(text(&out.stderr).contains("volary: a process of it was killed: memory limit 128 MiB"), "{}", all(&out));
    let run = platform.json(&["runs", "--json"])[0]["run"].as_str().unwrap().to_owned();
    let log = platform.ok(&["log", &run]);
    assert!(log.contains("a process of it was killed: memory limit 128 MiB"), "{log}");

    let forks = "#include <unistd.h>\n\
                 int main() { for (;;) { pid_t p = fork(); if (p == 0) for (;;) pause(); if (p < 0) return 0; } }";
    let out = compiled(&platform, forks);
    assert_eq!(out.status.code(), Some(0), "{}", all(&out));
    assert!(text(&out.stderr).contains("volary: met the limit of 32 processes"), "{}", all(&out));

    let out = shell(&platform, "small", "dd if=/dev/zero of=/workspace/fill bs=1M count=100; true");
    assert_eq!(out.status.code(), Some(0), "{}", all(&out));
    assert!(text(&out.stderr).contains("volary: the worktree is full: limit 32 MiB"), "{}", all(&out));
    works_still(&platform);
}

#[test]
fn a_person_whose_command_says_that_it_has_no_descriptors_is_told_how_many_it_may_have() {
    let platform = small();
    for (end, code) in [("", 1), (" || true", 0)] {
        let line = format!("python3 -c '[open(\"/dev/null\") for i in range(2000)]'{end}");
        let out = shell(&platform, "small", &line);
        assert_eq!(out.status.code(), Some(code), "{}", all(&out));
        let said = "volary: it says \"Too many open files\": the limit is 64 for one process";
        assert!(text(&out.stderr).contains(said), "{}", all(&out));
    }
}

#[test]
fn descriptors_beyond_the_limit_are_refused() {
    let platform = small();
    let program = "#include <errno.h>\n#include <fcntl.h>\n#include <stdio.h>\n\
                   int main() { int n = 3; while (open(\"/dev/null\", O_RDONLY) >= 0) n++; printf(\"%d %d\\n\", n, errno); }";
    let out = compiled(&platform, program);
    assert_eq!(text(&out.stdout), format!("64 {}\n", libc::EMFILE), "{}", all(&out));
}

#[test]
fn an_output_flood_is_cut_at_its_limit() {
    let platform = small();
    for line in ["exec yes", "exec yes >&2", "while :; do sh -c 'yes & yes >&2' & wait; done"] {
        let out = shell(&platform, "small", line);
        assert_eq!(out.status.code(), Some(137), "{line}: {}", out.status);
        let error = text(&out.stderr);
        assert!(error.ends_with("volary: killed: output limit 1 MiB\n"), "{line}: …{:?}", error.lines().last());
        let came = out.stdout.len() + out.stderr.len();
        assert!((1 << 20..=(1 << 20) + 200).contains(&came), "{line}: {came} bytes came");
    }
    works_still(&platform);
}

#[test]
fn a_command_that_never_ends_is_ended_by_the_time_of_its_command() {
    let platform = platform();
    profile(&platform, "brief", "command-seconds = 1");
    let out = shell(&platform, "brief", "trap '' TERM INT HUP; while :; do sleep 1000; done");
    assert_eq!(out.status.code(), Some(137), "{}", all(&out));
    assert!(text(&out.stderr).contains("killed: time limit 1 s"), "{}", all(&out));
}

#[test]
fn a_run_that_outlasts_its_own_time_is_ended() {
    let platform = platform();
    profile(&platform, "brief", "seconds = 2");
    let out = shell(&platform, "brief", "trap '' TERM INT HUP; while :; do sleep 1000; done");
    assert_ne!(out.status.code(), Some(0), "{}", all(&out));
    assert!(text(&out.stderr).contains("killed: time limit 2 s"), "{}", all(&out));
}

#[test]
fn what_the_kernel_counts_for_a_uid_is_bounded_and_boxes_are_ended_before_the_host() {
    let platform = platform();
    let line = "cat /proc/self/limits; ulimit -l 16384 && echo more; \
                for n in 0 -1000; do (echo $n > /proc/self/oom_score_adj) 2>/dev/null && echo less; done; \
                echo \"score $(cat /proc/self/oom_score_adj)\"";
    let out = shell(&platform, "default", line);
    let said = text(&out.stdout);
    let hard = |name: &str| {
        let rest = said.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{}", all(&out)));
        rest.split_whitespace().nth(1).unwrap().to_owned()
    };
    for name in ["Max realtime priority", "Max nice priority", "Max msgqueue size"] {
        assert_eq!(hard(name), "0", "{name}");
    }
    for (name, most) in [("Max pending signals", 4096), ("Max locked memory", 8 << 20)] {
        assert!(hard(name).parse::<u64>().is_ok_and(|hard| hard <= most), "{name} is {}", hard(name));
    }
    assert!(!said.lines().any(|line| line == "more" || line == "less"), "{}", all(&out));
    assert_eq!(said.lines().last(), Some("score 1000"), "{}", all(&out));
}
