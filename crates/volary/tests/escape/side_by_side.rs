//! Two boxes that live at once, of one workspace: each is alone in its world.

use crate::support::{Must, all, attempts, judge, platform, text};
use libc::{ECONNREFUSED, EMFILE, ENOENT, EPERM, ESRCH};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsRawFd;
use std::process::Stdio;
use testkit::eventually;

const PROGRAM: &str = include_str!("side_by_side.c");

/// The host's number of the process whose command line holds `mark`.
fn host_pid(mark: &str) -> Option<u32> {
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        // A process that ended meanwhile is not the one.
        let line = text(&std::fs::read(entry.path().join("cmdline")).unwrap_or_default());
        if line.starts_with("/tmp/holder\0") && line.contains(mark) {
            return entry.file_name().to_str()?.parse().ok();
        }
    }
    None
}

#[test]
fn of_two_boxes_side_by_side_neither_finds_what_the_other_holds() {
    let platform = platform();
    let mark = format!("mark-side-{}", std::process::id());
    let source = format!("{}{PROGRAM}", include_str!("attack.h"));
    let line = format!(
        "cat > /tmp/holder.c <<'END'\n{source}END\ncc -w -o /tmp/holder /tmp/holder.c && exec /tmp/holder \"$@\""
    );
    let mut holder = platform
        .command()
        .args(["exec", "--", "sh", "-c", &line, "sh", "hold", &mark])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    let mut own = BTreeMap::new();
    let uid = loop {
        let Some(line) = lines.next().map(Result::unwrap) else {
            let mut error = String::new();
            holder.stderr.take().unwrap().read_to_string(&mut error).unwrap();
            panic!("the holder did not get ready: {own:?} {error}");
        };
        let (name, met) = line.split_once(' ').unwrap();
        if name == "ready" {
            break met.to_owned();
        }
        own.insert(name.to_owned(), met.parse::<i32>().unwrap());
    };
    const ALL: &str = "file-in-worktree file-in-scratch file-in-shared-memory pipe abstract-socket \
                       abstract-socket-listed named-socket tcp-port tcp-port-listed udp-port system-v-memory \
                       system-v-memory-listed system-v-queue system-v-semaphores posix-memory \
                       process-by-name process-signal process-descriptor process-folder process-group \
                       process-processors processes-of-its-user";
    let no_queues = || Must("the limit on such queues, which is none", &[EMFILE], "posix-queue-made");
    let no_keys = || Must("seccomp: keyrings are not in a namespace", &[EPERM], "keyring-of-its-user");
    let no_locks = || Must("the mask over the list of locks", &[ENOENT], "lock");
    judge(&own, &[Must("nothing: it is its own", &[0], ALL), no_locks(), no_keys(), no_queues()]);

    let other: u32 = text(&platform.cli(&["exec", "--", "id", "-u"]).stdout).trim().parse().unwrap();
    assert_ne!(other.to_string(), uid, "two live boxes have one uid");

    let pid = eventually("the holder, seen from the host", || host_pid(&mark)).to_string();
    let met = attempts(&platform, PROGRAM, &["seek", &pid, &uid]);
    judge(
        &met,
        &[
            Must(
                "a tree of its own",
                &[ENOENT],
                "file-in-worktree file-in-scratch file-in-shared-memory pipe named-socket posix-memory",
            ),
            Must("a network namespace of its own", &[ECONNREFUSED], "abstract-socket tcp-port udp-port"),
            Must("a network namespace of its own", &[ENOENT], "abstract-socket-listed tcp-port-listed"),
            Must(
                "an IPC namespace of its own",
                &[ENOENT],
                "system-v-memory system-v-memory-listed system-v-queue system-v-semaphores",
            ),
            Must("a process namespace of its own", &[ENOENT], "process-by-name process-folder"),
            no_locks(),
            Must(
                "a process namespace of its own",
                &[ESRCH],
                "process-signal process-descriptor process-group process-processors processes-of-its-user",
            ),
            no_keys(),
            no_queues(),
        ],
    );
    drop(holder.stdin.take());
    assert_eq!(lines.map(Result::unwrap).collect::<Vec<_>>(), ["untouched"]);
    let out = holder.wait_with_output().unwrap();
    assert!(out.status.success(), "{}", all(&out));
}

#[test]
fn a_uid_that_a_live_box_of_another_installation_has_is_passed_by() {
    let platform = platform();
    let counter = platform.home().join("operator/next-uid");
    let uid = || -> u32 {
        let out = platform.cli(&["exec", "--", "id", "-u"]);
        text(&out.stdout).trim().parse().unwrap_or_else(|_| panic!("{}", all(&out)))
    };
    uid();
    let next: u32 = std::fs::read_to_string(counter).unwrap().trim().parse().unwrap();
    // As the helpers of forty boxes hold theirs.
    let file = std::fs::OpenOptions::new().write(true).open("/run/volary-uids").unwrap();
    let mut others = 0;
    for taken in next..next + 40 {
        // SAFETY: plain data, for which all zeros is a value.
        let mut byte: libc::flock = unsafe { std::mem::zeroed() };
        (byte.l_type, byte.l_start, byte.l_len) = (libc::F_WRLCK as libc::c_short, taken.into(), 1);
        // SAFETY: a descriptor that is ours, and what the call reads.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const byte) } != 0 {
            // Another live platform's box has it, which is as good.
            let error = std::io::Error::last_os_error();
            assert_eq!(error.raw_os_error(), Some(libc::EAGAIN), "{taken}: {error}");
            others += 1;
        }
    }
    // One may have waited already, another one may have been under way, and those of others may be free by now.
    let all: Vec<u32> = (0..4 + others).map(|_| uid()).collect();
    assert!(*all.last().unwrap() >= next + 40, "{all:?} from {next} on");
    platform.stop();
}

#[test]
fn a_box_neither_locks_the_systems_files_for_another_or_the_host_nor_sees_them_being_opened() {
    const FILE: &str = "/usr/bin/tsort";
    let platform = platform();
    let program = include_str!("inodes.c");
    let source = format!("{}{program}", include_str!("attack.h"));
    let line = format!(
        "cat > /tmp/inodes.c <<'END'\n{source}END\ncc -w -o /tmp/inodes /tmp/inodes.c && exec /tmp/inodes hold"
    );
    let mut holder = platform
        .command()
        .args(["exec", "--", "sh", "-c", &line])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines().map(Result::unwrap);
    let own: BTreeMap<String, i32> = lines
        .by_ref()
        .take_while(|line| line != "ready 0")
        .map(|line| line.split_once(' ').map(|(name, met)| (name.to_owned(), met.parse().unwrap())).unwrap())
        .collect();
    const CONTROLS: &str = "control-flock control-posix-lock control-own-open control-own-open-is-seen control-watch";
    judge(
        &own,
        &[
            Must("nothing: it is its own", &[0], CONTROLS),
            Must("its own lock", &[libc::EWOULDBLOCK], "control-own-lock-is-met"),
        ],
    );

    // The host uses the file, and so does another box; each is as if it were alone.
    let file = std::fs::File::open(FILE).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).expect("the host's lock is free");
    drop(file);
    assert!(std::process::Command::new(FILE).stdin(Stdio::null()).output().unwrap().status.success());
    let met = attempts(&platform, program, &["seek"]);
    judge(&met, &[Must("nothing: nobody else's lock is there", &[0], "flock posix-lock")]);

    drop(holder.stdin.take());
    assert_eq!(lines.collect::<Vec<_>>(), ["over 0"], "it saw what others opened");
    let out = holder.wait_with_output().unwrap();
    assert!(out.status.success(), "{}", all(&out));
}

#[test]
fn a_box_sees_nothing_of_the_disks_of_others() {
    const MASKED: [&str; 12] = [
        "diskstats",
        "partitions",
        "vmstat",
        "interrupts",
        "softirqs",
        "zoneinfo",
        "buddyinfo",
        "swaps",
        "schedstat",
        "locks",
        "cgroups",
        "key-users",
    ];
    let platform = platform();
    let line = format!(
        "for f in {}; do cat /proc/$f 2>&- | wc -c; done; ls -A /proc/fs /proc/pressure 2>&- | grep -v : | wc -w; wc -c < /proc/uptime",
        MASKED.join(" ")
    );
    let out = platform.cli(&["exec", "--", "sh", "-c", &line]);
    let said = text(&out.stdout);
    let sizes: Vec<u32> = said.lines().map(|line| line.trim().parse().unwrap()).collect();
    assert_eq!(sizes.len(), 14, "{}", all(&out));
    assert_eq!(sizes[..13], [0; 13], "{}", all(&out));
    assert!(sizes[13] > 0, "the control: {}", all(&out));
    // And the host itself has something to say there, but of what its kernel was built without.
    let is_said = |name: &&&str| std::fs::read(format!("/proc/{name}")).is_ok_and(|said| !said.is_empty());
    let told: Vec<_> = MASKED.iter().filter(is_said).collect();
    assert!(told.contains(&&"cgroups") && told.contains(&&"vmstat"), "the host tells of {told:?} alone");
}
