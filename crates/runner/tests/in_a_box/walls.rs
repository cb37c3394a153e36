//! The walls, tried from inside by commands.

use crate::support::{Box, run};
use model::event::Stream;

#[tokio::test(flavor = "current_thread")]
async fn every_forbidden_call_meets_the_error_that_was_expected() {
    let made = Box::start().await;
    assert!(made.hello.landlock_abi >= 2);
    let mut promised: Vec<(String, i32)> =
        api::inbox::forbidden().map(|(_, call, errno)| (call.to_owned(), errno)).collect();
    let mut met: Vec<(String, i32)> = made.hello.forbidden.iter().map(|call| (call.call.clone(), call.errno)).collect();
    promised.sort();
    met.sort();
    assert_eq!(met, promised);
    made.hang_up().await;
}

/// Runs perl and gives what it printed.
async fn perl(program: &str) -> String {
    let story = run(&format!("perl -e '{program}' 2>&1")).await;
    story.text(Stream::Stdout)
}

#[tokio::test(flavor = "current_thread")]
async fn a_command_cannot_see_or_run_what_is_ours() {
    let story = run(
        "cat /run/volary/runner | wc -c; /run/volary/agent; echo $?; cat /run/volary/box.json /var/volary-probe; exit 0",
    )
    .await;
    assert_eq!(story.text(Stream::Stdout), "0\n126\n");
}

#[tokio::test(flavor = "current_thread")]
async fn a_command_cannot_trace_read_or_signal_process_1() {
    let story = run(
        "cat /proc/1/environ; cat /proc/1/mem; ls -l /proc/1/fd/; readlink /proc/1/exe; kill -9 1; kill -TERM 1; echo $?",
    )
    .await;
    assert_eq!(story.text(Stream::Stdout), "1\n", "{story:?}");
    // ptrace(PTRACE_ATTACH) and PTRACE_TRACEME, by number.
    let text =
        perl(r#"$! = 0; syscall(101, 16, 1, 0, 0); print $!+0, " "; $! = 0; syscall(101, 0, 0, 0, 0); print $!+0"#)
            .await;
    assert_eq!(text, "1 1");
}

#[tokio::test(flavor = "current_thread")]
async fn a_command_cannot_execute_a_file_that_no_rule_sees() {
    // memfd_create, process_vm_readv, pidfd_getfd, kcmp, personality(READ_IMPLIES_EXEC)
    let text = perl(r#"for my $call ([319, "x", 0], [310, 1, 0, 0, 0, 0, 0], [438, 0, 0, 0], [312, 1, 1, 0, 0, 0], [135, 0x0400000]) { $! = 0; syscall($$call[0], @$call[1..$#$call]); print $!+0, " " }"#).await;
    assert_eq!(text, "1 1 1 1 1 ");
}

#[tokio::test(flavor = "current_thread")]
async fn a_command_writes_in_its_places_and_nowhere_else() {
    let story = run(
        "for f in /workspace/a /tmp/a /dev/shm/a /usr/a /etc/a /a /run/a /run/volary/a /var/a /dev/a; do (echo x > $f) 2>/dev/null && echo $f; done; \
         cp /bin/true /workspace/p && /workspace/p && echo runs; cp /bin/true /dev/shm/p && /dev/shm/p || echo no; mv /workspace/a /workspace/b && echo moved",
    )
    .await;
    assert_eq!(story.text(Stream::Stdout), "/workspace/a\n/tmp/a\n/dev/shm/a\nruns\nno\nmoved\n", "{story:?}");
}

#[tokio::test(flavor = "current_thread")]
async fn a_command_that_is_not_ours_cannot_signal_another() {
    // Signals between layers are refused from Landlock level 6 on.
    let made = Box::start().await;
    let scoped = made.hello.landlock_abi >= 6;
    made.hang_up().await;
    let story = run("kill -0 1; echo $?").await;
    assert_eq!(story.text(Stream::Stdout), if scoped { "1\n" } else { "0\n" });
}

#[tokio::test(flavor = "current_thread")]
async fn a_command_may_test_a_server_on_the_loopback_and_lists_what_stands_in_the_box() {
    // Nothing listens here, and the loopback is down: what counts is that no wall refuses (EACCES is 13).
    let text = perl(r#"use Socket; sub met { socket(my $s, AF_INET, SOCK_STREAM, 0) or die; $! = 0; $_[0]->($s, pack_sockaddr_in($_[1], INADDR_LOOPBACK)); print $! == 13 ? "refused " : "met " } met(sub { connect($_[0], $_[1]) }, 8081); met(sub { bind($_[0], $_[1]) }, 8081); opendir(my $d, "/") or die; print "listed""#).await;
    assert_eq!(text, "met met listed");
}

#[tokio::test(flavor = "current_thread")]
async fn a_second_program_can_be_started_by_the_first() {
    // The layers must not stand in the way of work: pipes, subshells, threads by the C library, temporary files.
    let story =
        run("echo a | sed s/a/b/ | sort; perl -e 'print fork() ? \"\" : \"child\\n\"; wait'; mktemp | wc -l").await;
    assert_eq!(story.text(Stream::Stdout), "b\nchild\n1\n", "{story:?}");
}

#[tokio::test(flavor = "current_thread")]
async fn process_1_is_small() {
    let made = Box::start().await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", made.host_pid())).unwrap();
    let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!(
        (value("Threads:").as_str(), value("NoNewPrivs:").as_str(), value("Seccomp:").as_str()),
        ("1", "1", "2")
    );
    assert_eq!(value("Seccomp_filters:"), "2");
    made.hang_up().await;
}
