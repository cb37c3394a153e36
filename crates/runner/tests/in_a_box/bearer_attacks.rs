//! Attacks on a command that holds a value: by the agent, by another command, before, meanwhile and after; and what it
//! can do itself to hand the value on.

use crate::agent::{kept, request, task, wait};
use crate::bearer::{VALUE, play, shown};
use crate::gateway::{lease, serve};
use crate::support::{Box, code};
use model::capability::Delivery;
use model::event::Stream;
use model::{Event, Limits};
use serde_json::json;

/// Holds a value in a variable and a file until it is told to go; what it says it says for the other to find it.
const HOLD: &str = "sleep 1000 & exec 2>&-; until [ -e /workspace/over ]; do sleep 0.02; done; kill $!; echo held";

/// Finds the process that holds a value by its arguments, which anyone may read, and goes for it and all of its tree: a line
/// for each thing tried, with the status of the try. This `/proc` hides nobody, as that of a real box does: only the domain
/// stands in the way.
const GO: &str = r#"
until victim=$(grep -l -a 'until \[ -e /workspace/over' /proc/[0-9]*/cmdline 2>&- | grep -v "/$$/" | head -1 | cut -d/ -f3); [ -n "$victim" ]; do sleep 0.02; done
tree=$(for s in /proc/[0-9]*/stat; do set -- $(sed 's/([^)]*)//' $s 2>&-); [ "$5" = "$victim" ] && echo $1; done)
for n in $tree; do
  for f in environ mem maps smaps auxv pagemap stack syscall fd/0 fd/1 fd/3 fd/10 fdinfo/1 root/etc/passwd cwd/x exe map_files io; do
    head -c 1 /proc/$n/$f >/dev/null 2>&1; echo "read-$f $?"
  done
  i=3; while [ $i -lt 40 ]; do head -c 1 /proc/$n/fd/$i >/dev/null 2>&1 && echo "fd-$i 0"; i=$((i+1)); done
  (echo x > /proc/$n/fd/1) 2>&-; echo "write-output $?"
  readlink /proc/$n/exe >/dev/null; echo "exe $?"
  kill -USR1 $n 2>&-; echo "signal $?"; kill -QUIT $n 2>&-; echo "signal-quit $?"; kill -STOP $n 2>&-; echo "signal-stop $?"
  perl -e 'sub t { my ($w, $c, @with) = @_; $! = 0; my $r = syscall($c, @with); print "$w ", ($r == -1 ? $!+0 : 0), "\n" }
    my $n = $ARGV[0]+0; my $b = "x" x 64; my $v = pack("QQ", unpack("Q", pack("p", $b)), 8);
    t("attach", 101, 16, $n, 0, 0); t("seize", 101, 0x4206, $n, 0, 0); t("readv", 310, $n, $v, 1, $v, 1, 0);
    my $d = syscall(434, $n, 0); t("take-fd", 438, $d, 1, 0); t("kcmp", 312, $$, $n, 0, 1, 1);' $n
done
cat /run/bearer/*/* >/dev/null 2>&1; echo "scratch $?"
(echo x > /run/bearer/t1/planted) 2>&-; echo "scratch-write $?"
mv /run/bearer/t1 /run/bearer/t9 2>&-; echo "scratch-move $?"
cat /proc/$$/environ >/dev/null; echo "control $?"
cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline /proc/keys /proc/locks /tmp/* /tmp/.[a-z]* /dev/shm/* 2>&- | tr '\0' '\n'
find / -xdev -newer /run/volary/runner -type f -size -64k 2>&- | head -200 | xargs -r cat 2>&- | tr '\0' '\n' | tail -c 200000
echo > /workspace/over
"#;

#[tokio::test(flavor = "current_thread")]
async fn no_other_process_of_the_box_reads_a_value_or_a_handle_while_a_command_holds_it() {
    // Also what is no value, and its command's own all the same: its handle.
    for way in [
        Delivery::Variable("TOKEN".into()),
        Delivery::File("TOKEN".into()),
        Delivery::Stdin,
        Delivery::GitHelper,
        Delivery::Proxy,
    ] {
        let mut made = Box::start_with_agent().await;
        let signals = made.hello.landlock_abi >= 6;
        serve(&mut made, VALUE, vec![way.clone()], None).await;
        let hold = json!({ "command": "sh", "args": ["-c", HOLD], "_meta": { "volary.lease": lease(0) } });
        let go = json!({ "command": "sh", "args": ["-c", GO] });
        let mut acts = vec![request(1, "terminal/create", hold), wait()];
        acts.extend([request(2, "terminal/create", go), wait()]);
        // The agent itself, meanwhile: every number that a process of so small a box has.
        for pid in 3..40 {
            acts.extend([
                format!("r /proc/{pid}/environ"),
                format!("r /proc/{pid}/fd/0"),
                format!("r /proc/{pid}/fd/10"),
            ]);
        }
        for id in ["t2", "t1"] {
            acts.extend([request(3, "terminal/wait_for_exit", json!({ "terminalId": id })), wait()]);
        }
        made.send(&task(&acts.join("\n"), Limits::default())).await;
        let story = made.story().await;
        let said = story.text(Stream::Stdout);
        assert!(said.contains("control 0") && said.contains("held"), "{way:?}: {said}");
        let tried: Vec<(&str, &str)> = said
            .lines()
            .filter_map(|line| line.split_once(' '))
            .filter(|(what, met)| met.parse::<u8>().is_ok() && !what.starts_with("control"))
            .collect();
        assert!(tried.iter().filter(|(what, _)| *what == "read-environ").count() >= 2, "a tree of two: {said}");
        for (what, met) in tried {
            // Before level 6 one uid may signal itself.
            assert!(met != "0" || what.starts_with("signal") && !signals, "{way:?}: {what} WENT THROUGH\n{said}");
        }
        let met: Vec<String> = kept(&story).into_iter().filter(|line| line.starts_with("r ")).collect();
        assert_eq!(met.len(), 37 * 3);
        assert!(met.iter().all(|line| line != "r 0"), "the agent read one: {met:?}");
        assert!(!format!("{story:?}").contains(VALUE) && !said.contains(VALUE), "{way:?}: {said}");
    }
}

/// Tries to hand a value on; a line for each try, with the error number that it met.
const HAND_ON: &str = r#"use Socket; use Fcntl;
sub told { print "$_[0] ", ($_[1] ? 0 : $!+0), "\n" }
sub call { my ($w, $n, @with) = @_; $! = 0; my $r = syscall($n, @with); told($w, $r != -1) }
for my $f ("/workspace/x", "/tmp/x", "/dev/shm/x", "/workspace/there", "/run/bearer/x", "/dev/tty") { $! = 0; told("write $f", sysopen(my $h, $f, O_WRONLY | O_CREAT)) }
$! = 0; told("pipe", sysopen(my $p, "/workspace/pipe", O_WRONLY | O_NONBLOCK));
for my $f ("/workspace/there", "/tmp/there", "/dev/shm/there") { $! = 0; told("execute $f", do { my $r = system { $f } $f; $r != -1 }) }
$! = 0; told("read-shm", open(my $s, "<", "/dev/shm/there")); $! = 0; told("read-tmp", open(my $t, "<", "/tmp/there"));
call("setsid", 112); call("setpgid", 109, 0, 0);
call("unix", 41, 1, 1, 0); call("udp", 41, 2, 2, 0); call("udp6", 41, 10, 2, 0); call("tcp6", 41, 10, 1, 0);
call("shmget", 29, 77, 4096, 0600 | 01000); call("shmat", 30, 0, 0, 0); call("semget", 64, 77, 1, 01600); call("msgget", 68, 77, 01600);
my $there = "/workspace/there"; sysopen(my $held, $there, O_RDONLY); my $h = fileno($held); my ($name, $one) = ("user.k", "x");
call("setxattr", 188, $there, $name, $one, 1, 0); call("lsetxattr", 189, $there, $name, $one, 1, 0); call("fsetxattr", 190, $h, $name, $one, 1, 0);
call("setxattrat", 463, -100, $there, 0, $name, pack("QLL", unpack("Q", pack("P", $one)), 1, 0), 16);
call("removexattr", 197, $there, "user.there"); call("lremovexattr", 198, $there, "user.there"); call("fremovexattr", 199, $h, "user.there"); call("removexattrat", 466, -100, $there, 0, "user.there");
call("chmod", 90, $there, 0711); call("fchmod", 91, $h, 0711); call("fchmodat", 268, -100, $there, 0711); call("fchmodat2", 452, -100, $there, 0711, 0);
call("chown", 92, $there, -1, -1); call("fchown", 93, $h, -1, -1); call("lchown", 94, $there, -1, -1); call("fchownat", 260, -100, $there, -1, -1, 0);
call("utime", 132, $there, 0); call("utimes", 235, $there, 0); call("futimesat", 261, -100, $there, 0); call("utimensat", 280, -100, $there, 0, 0); call("utimensat-own", 280, $h, 0, 0, 0);
call("chmod-folder", 90, "/workspace", 0751); call("utime-folder", 132, "/dev/shm", 0); call("chmod-scratch", 90, "/run/bearer", 0755);
call("set-flags", 16, $h, 0x40086602, pack("Q", 0x40)); call("set-attributes", 16, $h, 0x401c5820, "\0" x 28); call("set-version", 16, $h, 0x40087602, pack("Q", 7));
call("file_setattr", 469, -100, $there, "\0" x 24, 24, 0);
call("mq_open", 240, "x", 66, 0600, 0); call("memfd", 319, "x", 0); call("tiocsti", 16, 0, 0x5412, "x");
sub met { my ($w, $port, $what) = @_; socket(my $s, AF_INET, SOCK_STREAM, 0) or return told($w, 0); $! = 0; told($w, $what->($s, pack_sockaddr_in($port, INADDR_LOOPBACK))) }
met("connect-other", 8081, sub { connect($_[0], $_[1]) }); met("bind", 8082, sub { bind($_[0], $_[1]) });
met("listen", 0, sub { listen($_[0], 1) }); met("fast-open", 8081, sub { send($_[0], "x", 0x20000000, $_[1]) });
sub fast { my ($w, $n, $many) = @_; met($w, 8081, sub { my ($s, $to) = @_; my $x = "x"; my $at = sub { unpack("Q", pack("P", $_[0])) };
  my $v = pack("QQ", $at->($x), 1); my $m = pack("QLLQQQQLL", $at->($to), length $to, 0, $at->($v), 1, 0, 0, 0, 0) . pack("Q", 0);
  syscall($n, fileno($s), $m, $many ? (1, 0x20000000) : 0x20000000) != -1 }) }
fast("fast-open-message", 46, 0); fast("fast-open-messages", 307, 1);
met("control-door", 8080, sub { connect($_[0], $_[1]) });
$! = 0; told("control-scratch", open(my $o, ">", "$ENV{HOME}/x")); $! = 0; told("control-read", open(my $r, "<", "/workspace/there"));
"#;

#[tokio::test(flavor = "current_thread")]
async fn a_command_that_holds_a_value_has_no_file_connection_or_memory_that_another_can_open() {
    let made = Box::start().await;
    let abi = made.hello.landlock_abi;
    made.hang_up().await;
    let before = "mkfifo /workspace/pipe; for f in /workspace/there /tmp/there /dev/shm/there; do cp /usr/bin/true $f; done; \
         perl -e 'syscall(188, $ARGV[0], $ARGV[1], $ARGV[1], 1, 0) == 0 || die; chmod(0755, $ARGV[0]) || die; utime(1, 2, $ARGV[0]) || die' /workspace/there user.there; echo marked $?";
    let (story, _) = play(
        &[Delivery::Variable("TOKEN".into())],
        None,
        &[(None, &["sh", "-c", before]), (Some(lease(0)), &["perl", "-e", HAND_ON])],
    )
    .await;
    // Without a value all of it goes through.
    assert_eq!(shown(&story, 0).0, "marked 0\n");
    let (said, _) = shown(&story, 1);
    let mut met: Vec<(&str, i32)> = said
        .lines()
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(what, met)| (what, met.parse().unwrap()))
        .collect();
    assert!(met.len() > 58, "{said}");
    met.retain(|(what, met)| !what.starts_with("control-") || *met != 0);
    for (what, met) in met {
        // Below level 4 it has no TCP at all.
        let late = what == "control-door" && abi < 4;
        assert!(late || !what.starts_with("control-"), "{what} met {met}: {said}");
        assert!([libc::EPERM, libc::EACCES].contains(&met), "{what} met {met}; {said}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn what_an_earlier_command_left_running_finds_nothing_of_a_later_ones_value() {
    // It outlives its command for as long as another one runs, and looks at every process that comes.
    let spy = "i=0; until [ -e /workspace/done ]; do cat /proc/[0-9]*/environ /proc/[0-9]*/fd/[3-9]* 2>&-; cat /run/bearer/*/* 2>&-; done";
    let mut made = Box::start_with_agent().await;
    serve(&mut made, VALUE, vec![Delivery::Variable("TOKEN".into())], None).await;
    let create = |id: u64, argv: &[&str], lease: Option<String>| {
        let mut create = json!({ "command": argv[0], "args": argv[1..] });
        if let Some(lease) = lease {
            create["_meta"] = json!({ "volary.lease": lease });
        }
        [request(id, "terminal/create", create), wait()]
    };
    let mut acts = create(1, &["sh", "-c", spy], None).to_vec();
    for n in 0..5 {
        acts.extend(create(2, &["sh", "-c", "echo $TOKEN > $HOME/x; sleep 0.05; echo one"], Some(lease(0))));
        acts.extend([request(3, "terminal/wait_for_exit", json!({ "terminalId": format!("t{}", n + 2) })), wait()]);
    }
    acts.extend(create(4, &["touch", "/workspace/done"], None));
    acts.extend([request(5, "terminal/wait_for_exit", json!({ "terminalId": "t1" })), wait()]);
    made.send(&task(&acts.join("\n"), Limits::default())).await;
    let story = made.story().await;
    let said = story.text(Stream::Stdout);
    assert_eq!(said.matches("one\n").count(), 5, "{said}");
    assert!(said.contains("TMPDIR="), "it read nothing at all: {said}");
    assert!(!said.contains(VALUE), "{said}");
    let well = |event: &&Event| matches!(event, Event::CommandEnd { exit, .. } if *exit == code(0));
    assert!(story.events.iter().filter(well).count() >= 6);
}

#[tokio::test(flavor = "current_thread")]
async fn a_box_whose_process_1_cannot_be_the_first_at_its_door_ends() {
    let said = Box::without_a_door().await;
    assert!(said.contains("the gateway cannot be reached"), "{said}");
}
