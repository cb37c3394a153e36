//! Memory of the host's kernel that no limit counts, taken by something else than what one thinks of first ([`super::kernel_memory`]):
//! locks on what is no file, names of a folder that has another name by now.

use crate::support::{all, platform, profile, text};
use serde_json::json;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use testkit::{Platform, Repo};

/// Room for what the programs need by themselves; what they go for is none of it.
const LIMITS: &str = "memory-mib = 256\nprocesses = 32\ncommand-seconds = 600";

/// Five processes lock every other byte of parts of many things each, none of which is a file.
const LOCKS: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
static int a_pipe() {
    int both[2];
    if (pipe(both)) return -1;
    close(both[1]);
    return both[0];
}
static int a_folder() {
    mkdir("/tmp/locked", 0700);
    char name[64];
    static int n;
    snprintf(name, sizeof name, "/tmp/locked/%d-%d", getpid(), n++);
    mkdir(name, 0700);
    return open(name, O_RDONLY | O_DIRECTORY);
}
int main() {
    for (int process = 0; process < 5; process++) {
        if (fork()) continue;
        for (int n = 0; n < 700; n++) {
            int open = OPENED();
            if (open < 0) return 3;
            for (int at = 719; at >= 0; at--) {
                struct flock one = {.l_type = F_RDLCK, .l_start = 2 * at, .l_len = 1};
                if (fcntl(open, F_SETLK, &one)) return 4;
            }
        }
        sleep(300);
        puts("held");
        return 0;
    }
    while (wait(0) > 0);
    return 0;
}
"#;

fn locking(platform: &Platform, opened: &str) -> Output {
    let program = LOCKS.replace("OPENED", opened);
    let line = "cc -w -x c -o /tmp/taker - && exec /tmp/taker";
    platform.cli_with_input(&["exec", "--profile", "taker", "--", "sh", "-c", line], program.as_bytes())
}

#[test]
fn a_box_that_locks_what_is_no_file_is_killed_for_that_as_for_locks_on_files() {
    let platform = platform();
    profile(&platform, "taker", LIMITS);
    for opened in ["a_pipe", "a_folder"] {
        let out = locking(&platform, opened);
        let said = text(&out.stderr);
        assert!(
            !out.status.success() && said.contains(" locks on parts of files, and may hold 65536"),
            "{}",
            all(&out)
        );
        assert!(!text(&out.stdout).contains("held"), "{opened}: {}", all(&out));
    }
}

/// Gives a folder of the repository another name, then reads it again and again, after a change each time, and keeps it open;
/// fewer times than are noticed by their number.
const NAMES: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
int main() {
    char space[65536];
    chdir("/workspace");
    RENAMED
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

/// A repository with a folder `in/wide` of thirty thousand names.
fn wide() -> Repo {
    let repo = Repo::failing();
    let git = || {
        let mut git = Command::new("git");
        git.arg("-C").arg(repo.path());
        git
    };
    let branch = text(&git().args(["symbolic-ref", "HEAD"]).output().unwrap().stdout);
    let branch = branch.trim();
    let mut import = git().args(["fast-import", "--quiet"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stream =
        format!("commit {branch}\ncommitter T <t@localhost> 1700000000 +0000\ndata 4\nwidefrom {branch}^0\n");
    for n in 0..30_000 {
        stream.push_str(&format!("M 100644 inline in/wide/{n:0>200}\ndata 0\n\n"));
    }
    import.stdin.take().unwrap().write_all(stream.as_bytes()).unwrap();
    assert!(import.wait().unwrap().success());
    repo
}

#[test]
fn a_box_that_keeps_the_names_of_a_folder_of_its_repository_by_another_name_is_killed_all_the_same() {
    let platform = platform();
    profile(&platform, "taker", LIMITS);
    let repo = wide();
    for (model, renamed) in [
        // By a folder on the way, and from one place to another.
        ("on-the-way", r#"if (rename("in", "out") || chdir("out/wide")) return 3;"#),
        (
            "moved",
            r#"if (mkdir("new", 0700) || rename("in/wide", "new/w2") || rename("new", "n2") || chdir("n2/w2")) return 3;"#,
        ),
    ] {
        let program = NAMES.replace("RENAMED", renamed);
        let line =
            format!("cat >/tmp/names.c <<'END'\n{program}END\ncc -w -o /tmp/names /tmp/names.c && exec /tmp/names");
        let turns = json!([
            {"text": "I read.", "tools": [{"name": "shell", "input": {"command": line, "timeout": 500}}]},
            {"text": "Done."}
        ]);
        platform.script(model, &turns, "sk-test-only-key-of-a-scripted-model");
        let out = platform.cli(&["run", "--profile", "taker", "--repo", repo.path_str(), "--model", model, "read"]);
        let said = all(&out);
        assert!(
            !out.status.success() && said.contains("killed: of folders of its worktree it holds "),
            "{model}: {said}"
        );
        let names =
            said.split_once(" MiB of names").and_then(|(before, _)| before.rsplit_once(' ')?.1.parse::<u32>().ok());
        // They are counted: what cannot be found counts as 16 MiB each, and would be more.
        assert!(names.is_some_and(|mib| (100..28 * 16).contains(&mib)), "{model}: {said}");
    }
}
