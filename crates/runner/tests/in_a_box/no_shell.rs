//! Once it is begun an agent executes nothing, and where its profile gives no shell nothing is executed for it.

use crate::agent::{kept, play, request, task, wait};
use crate::support::{Box, Linked, code};
use api::inbox::ToRunner;
use model::{Event, Limits};
use serde_json::{Value, json};

#[tokio::test(flavor = "current_thread")]
async fn the_agent_executes_nothing_and_reads_nothing_of_ours() {
    let acts = [
        "x /bin/sh",
        "r /run/volary/runner",
        "r /var/volary-probe",
        "r /proc/1/environ",
        "w /workspace/x",
        "x /workspace/x",
        "w /usr/x",
        "r /etc/passwd",
    ];
    let story = play(&acts.map(str::to_owned)).await;
    let (refused, read_only) = (libc::EACCES, libc::EROFS);
    let executed = libc::EPERM;
    let expected = [
        format!("x {executed}"),
        format!("r {refused}"),
        format!("r {refused}"),
        format!("r {refused}"),
        "w 0".into(),
        format!("x {executed}"),
        format!("w {refused}"),
        "r 0".into(),
    ];
    let kept = kept(&story);
    // /usr is refused by Landlock here; where it is mounted read-only the mount says so first.
    let kept: Vec<String> =
        kept.iter().map(|line| line.replace(&format!("w {read_only}"), &format!("w {refused}"))).collect();
    assert_eq!(kept, expected);
}

/// Each way to execute, and what it met, tried by an agent.
async fn tried(mut made: Box, act: &str) -> Vec<(String, i32)> {
    made.send(&task(act, Limits::default())).await;
    let story = made.story().await;
    assert_eq!(story.done.exit, code(0), "{:?}", story.done);
    let kept = kept(&story);
    let met = kept.iter().map(|line| line.split_once(' ').unwrap());
    met.map(|(way, met)| (way.to_owned(), met.parse().unwrap())).collect()
}

/// Tries one way (`executes.rs`) in a box of its own, by an agent that is linked statically and by one that was begun
/// through its loader: the kernel refuses it, with one of these errors, and at once.
async fn no_way_but(way: &str, errnos: &[i32]) {
    for made in [Box::start_with_agent().await, Box::start_with_dynamic_agent().await] {
        let [(tried, met)] = &tried(made, &format!("try {way}")).await[..] else { panic!("one way, one answer") };
        assert!(tried == way && errnos.contains(met), "{tried} met {met}");
    }
}

async fn no_way(way: &str) {
    no_way_but(way, &[libc::EPERM]).await;
}

#[tokio::test(flavor = "current_thread")]
async fn an_agent_executes_no_program_of_the_system() {
    no_way("bin").await;
}

#[tokio::test(flavor = "current_thread")]
async fn an_agent_spawns_nothing() {
    no_way("spawn").await;
}

#[tokio::test(flavor = "current_thread")]
async fn an_agent_executes_nothing_in_a_child_of_vfork() {
    no_way("vfork").await;
}

#[tokio::test(flavor = "current_thread")]
async fn an_agent_executes_no_program_through_the_systems_loader() {
    no_way("loader").await;
}

#[tokio::test(flavor = "current_thread")]
async fn an_agent_executes_its_own_file_not_through_the_loader_either() {
    no_way("loader-own").await;
}

#[tokio::test(flavor = "current_thread")]
async fn an_agent_executes_nothing_through_a_link() {
    no_way("link").await;
}

#[tokio::test(flavor = "current_thread")]
async fn an_agent_executes_no_copy_of_itself_in_its_worktree() {
    no_way("copy").await;
}

#[tokio::test(flavor = "current_thread")]
async fn an_agent_executes_no_copy_of_itself_in_its_scratch() {
    no_way("copy-in-scratch").await;
}

#[tokio::test(flavor = "current_thread")]
async fn an_agent_executes_no_copy_of_itself_in_shared_memory() {
    no_way("copy-in-shared-memory").await;
}

#[tokio::test(flavor = "current_thread")]
async fn an_agent_executes_no_script_by_its_first_line() {
    no_way("shebang").await;
}

#[tokio::test(flavor = "current_thread")]
async fn an_agent_executes_no_open_file_by_its_name_in_proc() {
    no_way("descriptor").await;
}

#[tokio::test(flavor = "current_thread")]
async fn an_agent_executes_no_open_file_without_a_path() {
    no_way("empty-path").await;
}

#[tokio::test(flavor = "current_thread")]
async fn an_agent_executes_nothing_by_a_descriptor_that_only_names_it() {
    no_way("path-descriptor").await;
}

#[tokio::test(flavor = "current_thread")]
async fn an_agent_executes_no_file_that_never_had_a_name() {
    no_way("unnamed-file").await;
}

#[tokio::test(flavor = "current_thread")]
async fn an_agent_executes_no_file_that_is_only_in_memory() {
    no_way("memfd").await;
}

#[tokio::test(flavor = "current_thread")]
async fn an_agent_takes_no_personality_that_makes_what_it_reads_code() {
    no_way("personality").await;
}

#[tokio::test(flavor = "current_thread")]
async fn an_agent_executes_its_own_file_no_second_time() {
    no_way("own").await;
}

#[tokio::test(flavor = "current_thread")]
async fn an_agent_executes_not_the_file_of_process_1() {
    // Where processes hide from each other, as in a real box, it is not there at all.
    no_way_but("init", &[libc::EPERM, libc::ENOENT]).await;
}

#[tokio::test(flavor = "current_thread")]
async fn each_way_to_execute_has_a_test_of_its_own_and_none_opens_another() {
    let tests = include_str!("no_shell.rs");
    let all = tried(Box::start_with_agent().await, "try-all").await;
    assert!(all.len() > 17);
    for (way, met) in all {
        assert!(tests.contains(&format!("(\"{way}\"")), "{way} has no test");
        assert!([libc::EPERM, libc::ENOENT].contains(&met), "{way} met {met}");
    }
}

#[tokio::test(flavor = "current_thread")]
async fn where_there_are_no_walls_each_way_executes_what_it_goes_for() {
    for linked in [Linked::Static, Linked::Dynamic] {
        let said = Box::unwalled(linked, "try-all").await;
        let met: Vec<&str> =
            said.iter().filter_map(|line| line.split_once("\"text\":\"")?.1.split('"').next()).collect();
        assert!(met.len() > 17, "{said:?}");
        // Process 1 is root's here, whatever the walls.
        for met in met.into_iter().filter(|met| !met.starts_with("init ")) {
            // Another program, or this one, which says so by its status.
            assert!(met.ends_with(" 0") || met.ends_with(" 77"), "{met}, {linked:?}");
        }
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_way_that_hangs_is_no_refusal_and_is_named() {
    let mut made = Box::start_with_agent().await;
    made.send(&task("try never", Limits::default())).await;
    let done = made.story().await.done;
    assert!(done.exit != code(0) && done.reason.contains("never: no answer in 1 s"), "{done:?}");
}

/// A program that says by its status whether what process 1 said when it executed it is still to be had: 77 when it is not.
#[cfg(target_arch = "x86_64")]
const LISTENS: &str = ".globl _start\n_start: mov %r10, %rdi\n or %r8, %rdi\n or %r9, %rdi\n or %rdx, %rdi\n \
                       or %rsi, %rdi\n mov $77, %rax\n test %rdi, %rdi\n jz said\n mov $78, %rax\n\
                       said: mov %rax, %rdi\n mov $60, %rax\n syscall\n.section .note.GNU-stack,\"\",@progbits\n";

#[cfg(target_arch = "x86_64")]
#[tokio::test(flavor = "current_thread")]
async fn nothing_is_left_in_its_registers_of_the_word_that_an_agent_was_begun_with() {
    let dir = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let [source, program] = ["s", "out"].map(|kind| dir.join(format!("listens-{}.{kind}", std::process::id())));
    std::fs::write(&source, LISTENS).unwrap();
    let compiled = std::process::Command::new("cc")
        .args(["-nostdlib", "-static", "-x", "assembler", "-o"])
        .args([&program, &source])
        .status()
        .unwrap();
    assert!(compiled.success());
    let mut made = Box::start_with(program.to_str().unwrap()).await;
    made.send(&task("", Limits::default())).await;
    assert_eq!(made.story().await.done.exit, code(77));
    std::fs::remove_file(source).unwrap();
    std::fs::remove_file(program).unwrap();
}

#[tokio::test(flavor = "current_thread")]
async fn where_the_profile_gives_no_shell_no_command_starts_whatever_the_agent_says() {
    let mut made = Box::start_with_agent().await;
    let acts = [
        request(1, "terminal/create", json!({ "command": "touch", "args": ["/workspace/made"] })),
        wait(),
        request(2, "terminal/output", json!({ "terminalId": "t1" })),
        wait(),
        request(3, "fs/read_text_file", json!({ "path": "/etc/hostname" })),
        wait(),
        "r /workspace/made".into(),
        "try bin".into(),
    ];
    let ToRunner::Agent(mut without) = task(&acts.join("\n"), Limits::default()) else { unreachable!() };
    without.tools.retain(|tool| tool != "shell");
    made.send(&ToRunner::Agent(without)).await;
    let story = made.story().await;
    let kept = kept(&story);
    for answer in &kept[..2] {
        let answer: Value = serde_json::from_str(answer).unwrap();
        assert!(answer["error"]["message"].as_str().unwrap().contains("gives no commands"), "{answer}");
    }
    assert_eq!(kept[3..], [format!("r {}", libc::ENOENT), format!("bin {}", libc::EPERM)]);
    assert!(!story.events.iter().any(|event| matches!(event, Event::Command { .. })), "{:?}", story.events);
}

#[tokio::test(flavor = "current_thread")]
async fn what_an_agent_maps_into_itself_no_wall_of_the_box_judges() {
    // Said, not promised: code that an agent brings into its own memory runs with the agent's rights, as its own does.
    assert_eq!(tried(Box::start_with_agent().await, "try map").await, [("map".to_owned(), 0)]);
}
