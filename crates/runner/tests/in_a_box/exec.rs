//! One command in a box: its input, output, end and limits.

use crate::support::{Box, code, run, sh};
use api::inbox::ToRunner;
use base64::Engine;
use model::event::{Exit, Stream};
use model::{Event, Limits};

#[tokio::test(flavor = "current_thread")]
async fn a_command_is_recorded_before_its_output_and_its_end_after() {
    let story = run("echo out; echo err >&2; exit 3").await;
    assert!(matches!(&story.events[0], Event::Command { id, argv, .. } if id == "exec" && argv[0] == "sh"));
    assert!(matches!(story.events.last(), Some(Event::CommandEnd { exit, .. }) if *exit == code(3)));
    assert_eq!((story.text(Stream::Stdout).as_str(), story.text(Stream::Stderr).as_str()), ("out\n", "err\n"));
    assert_eq!((story.done.exit, story.done.task_done), (code(3), false));
}

#[tokio::test(flavor = "current_thread")]
async fn a_handle_is_in_the_commands_environment_and_without_one_there_is_none() {
    let print = "printf '<%s>' \"$VOLARY_HANDLE\"";
    let mut made = Box::start().await;
    made.send(&ToRunner::Handle { handle: "vh_mine".into() }).await;
    made.send(&sh(print, Limits::default())).await;
    assert_eq!(made.story().await.text(Stream::Stdout), "<vh_mine>");
    assert_eq!(run(print).await.text(Stream::Stdout), "<>");
}

#[tokio::test(flavor = "current_thread")]
async fn a_signal_is_told_as_a_signal() {
    assert_eq!(run("kill -SEGV $$").await.done.exit, Exit::Signal { signal: 11 });
}

#[tokio::test(flavor = "current_thread")]
async fn a_shell_hears_of_its_childrens_end() {
    // With SIGCHLD blocked, as we have it, a shell that waits for a living child waits for ever.
    let story = run("sleep 0.2 & wait; grep SigBlk /proc/self/status; exit 5").await;
    assert_eq!(story.text(Stream::Stdout), "SigBlk:\t0000000000000000\n");
    assert_eq!(story.done.exit, code(5));
}

#[tokio::test(flavor = "current_thread")]
async fn a_program_that_is_not_there_ends_as_a_shell_would_say_it() {
    let mut made = Box::start().await;
    let argv = vec!["no-such-program".to_owned()];
    made.send(&ToRunner::Exec { argv, cwd: "/workspace".into(), limits: Limits::default(), lease: None }).await;
    let story = made.story().await;
    assert_eq!(story.done.exit, code(127));
    assert!(story.text(Stream::Stderr).starts_with("cannot run no-such-program in /workspace"), "{story:?}");
}

#[tokio::test(flavor = "current_thread")]
async fn input_reaches_the_command_and_its_end_too() {
    let mut made = Box::start().await;
    made.send(&sh("cat; echo over", Limits::default())).await;
    let piece = vec![b'x'; 300_000];
    for _ in 0..4 {
        let data_b64 = base64::engine::general_purpose::STANDARD.encode(&piece);
        made.send(&ToRunner::Input { data_b64 }).await;
    }
    made.send(&ToRunner::InputEnd).await;
    let story = made.story().await;
    assert_eq!(story.bytes(Stream::Stdout).len(), 4 * 300_000 + 5);
    assert!(story.text(Stream::Stdout).ends_with("xover\n"));
}

#[tokio::test(flavor = "current_thread")]
async fn input_that_nobody_reads_does_not_hold_the_end_up() {
    let mut made = Box::start().await;
    made.send(&sh("exec true", Limits::default())).await;
    for _ in 0..8 {
        let data_b64 = base64::engine::general_purpose::STANDARD.encode(vec![b'x'; 100_000]);
        // The runner may be gone before all of it is sent; the operator sees that the same way.
        if made.try_send(&ToRunner::Input { data_b64 }).await.is_err() {
            break;
        }
    }
    assert_eq!(made.story().await.done.exit, code(0));
}

#[tokio::test(flavor = "current_thread")]
async fn output_is_kept_to_the_byte_at_its_limit_and_the_command_killed_past_it() {
    let mib = 1 << 20;
    let limits = || Limits { output_mib: 1, ..Limits::default() };
    let mut exact = Box::start().await;
    exact.send(&sh(&format!("head -c {mib} /dev/zero"), limits())).await;
    let exact = exact.story().await;
    assert_eq!((exact.done.exit.clone(), exact.bytes(Stream::Stdout).len()), (code(0), mib));

    let mut over = Box::start().await;
    over.send(&sh("cat /dev/zero & cat /dev/zero", limits())).await;
    let over = over.story().await;
    assert_eq!(over.done.exit, Exit::Killed { why: "killed: output limit 1 MiB".into() });
    assert_eq!(over.bytes(Stream::Stdout).len(), mib);
}

#[tokio::test(flavor = "current_thread")]
async fn a_command_past_its_time_is_killed_with_all_that_it_started() {
    let mut made = Box::start().await;
    let limits = Limits { command_seconds: 1, ..Limits::default() };
    made.send(&sh("sleep 1000 & setsid sleep 1000 & trap '' TERM INT HUP; sleep 1000", limits)).await;
    assert_eq!(made.story().await.done.exit, Exit::Killed { why: "killed: time limit 1 s".into() });
}

#[tokio::test(flavor = "current_thread")]
async fn a_cancelled_command_says_so() {
    let mut made = Box::start().await;
    made.send(&sh("echo up; sleep 1000", Limits::default())).await;
    made.until(|event| matches!(event, Event::Output { .. })).await;
    made.send(&ToRunner::Cancel).await;
    assert_eq!(made.story().await.done.exit, Exit::Killed { why: "killed: cancelled".into() });
}

#[tokio::test(flavor = "current_thread")]
async fn what_outlives_its_command_is_killed_and_its_output_ends() {
    // The second holds the pipe in a session of its own, without a parent: only the end of the box meets it.
    let story = run("sleep 1000 & (setsid sleep 1000 &) ; sleep 0.2; echo done").await;
    assert_eq!((story.done.exit.clone(), story.text(Stream::Stdout).as_str()), (code(0), "done\n"));
}

#[tokio::test(flavor = "current_thread")]
async fn orphans_are_reaped() {
    // Waits for the orphans to end, then for their zombies to go: a runner that does not reap never gets there.
    let script = "cp /bin/sleep /tmp/orphan; for i in 1 2 3 4 5 6 7 8; do (/tmp/orphan 0.01 &) ; done; \
         while grep -qx orphan /proc/[0-9]*/comm 2>/dev/null; do :; done; echo gone";
    assert_eq!(run(script).await.text(Stream::Stdout), "gone\n");
}

#[tokio::test(flavor = "current_thread")]
async fn a_slow_operator_slows_the_command_and_loses_nothing() {
    let mut made = Box::start().await;
    made.send(&sh("seq 1 200000; echo end >&2", Limits::default())).await;
    // Nothing is read meanwhile: the pipe fills, then the queue, then the command's own pipe.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let text = made.story().await.text(Stream::Stdout);
    assert_eq!(text.lines().count(), 200_000);
    assert!(text.ends_with("\n200000\n"));
}

#[tokio::test(flavor = "current_thread")]
async fn when_the_operator_hangs_up_the_box_is_gone_though_its_frames_were_not_read() {
    let mut made = Box::start().await;
    made.send(&sh("cat /dev/zero", Limits { output_mib: 1000, ..Limits::default() })).await;
    made.until(|event| matches!(event, Event::Output { .. })).await;
    let runner = made.host_pid();
    made.hang_up().await;
    assert!(!std::path::Path::new(&format!("/proc/{runner}")).exists());
}

#[tokio::test(flavor = "current_thread")]
async fn a_command_has_a_clean_environment_its_own_session_and_three_descriptors() {
    let story = run("env | sort; ls /proc/self/fd | wc -l; ulimit -n; ulimit -c; pwd; stat -c %a $HOME").await;
    let text = story.text(Stream::Stdout);
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| {
            !line.starts_with("PWD=")
                && !line.starts_with("_=")
                && !line.starts_with("OLDPWD")
                && !line.starts_with("SHLVL")
        })
        .collect();
    let env = ["HOME=/tmp/home", "LANG=C.UTF-8", "PATH=/usr/bin:/bin", "TMPDIR=/tmp", "USER=agent"];
    assert_eq!(lines[..5], env);
    // `ls` itself holds a fourth, the folder that it lists.
    assert_eq!(lines[5..], ["4", "1024", "0", "/workspace", "700"]);
}
