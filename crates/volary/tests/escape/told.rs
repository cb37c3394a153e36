//! What a model and a person are told of a limit that an agent's command met; and limits that are no wall of one command.

use crate::support::{all, platform, profile, shell, text};
use serde_json::{Value, json};
use testkit::Platform;

const SMALL: &str = "memory-mib = 128\nscratch-mib = 16\nworktree-mib = 32\nprocesses = 32\nopen-files = 64\n\
                     output-mib = 1\ncommand-seconds = 60";

/// Lets an agent run each command in turn, under a profile; gives the whole transcript.
fn play(platform: &Platform, profile: &str, commands: &[&str]) -> (std::process::Output, Vec<Value>) {
    let mut turns: Vec<Value> = commands
        .iter()
        .map(|command| json!({"text": "Next.", "tools": [{"name": "shell", "input": {"command": command}}]}))
        .collect();
    turns.push(json!({"text": "Done."}));
    platform.script("player", &Value::Array(turns), "sk-test-only-key-of-a-scripted-model");
    let out = platform.cli(&["run", "--empty", "--model", "player", "--profile", profile, "--json", "play"]);
    let entries = text(&out.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (out, entries)
}

fn events<'a>(entries: &'a [Value], kind: &str) -> Vec<&'a Value> {
    entries.iter().map(|entry| &entry["event"]).filter(|event| event["kind"] == kind).collect()
}

/// Compiles a program and becomes it.
fn becomes(program: &str) -> String {
    format!("cat > /tmp/p.c <<'END'\n{program}\nEND\ncc -w -o /tmp/p /tmp/p.c && exec /tmp/p")
}

#[test]
fn each_limit_that_an_agents_command_meets_is_named_to_the_model_and_to_the_person() {
    let platform = platform();
    profile(&platform, "small", SMALL);
    let memory = becomes(
        "#include <stdlib.h>\n#include <string.h>\n\
         int main() { for (;;) { char *p = malloc(1 << 20); if (!p) return 3; memset(p, 1, 1 << 20); } }",
    );
    let processes = becomes(
        "#include <unistd.h>\n\
         int main() { for (;;) { pid_t p = fork(); if (p == 0) for (;;) pause(); if (p < 0) return 7; } }",
    );
    let files = becomes(
        "#include <fcntl.h>\n#include <stdio.h>\n\
         int main() { while (open(\"/dev/null\", 0) >= 0) {} perror(\"open\"); return 8; }",
    );
    let many = |place: &str| {
        format!("i=0; while [ $i -lt 100000 ] && (: > {place}/f$i) 2>/dev/null; do i=$((i+1)); done; false")
    };
    let clean = "rm -rf /workspace/* /tmp/* /dev/shm/* && echo clean";
    let (many_at_work, many_in_scratch) = (many("/workspace"), many("/tmp"));
    let commands = [
        memory.as_str(),
        &processes,
        &files,
        "head -c 300000000 /dev/zero | tail > /dev/null; echo inner $?",
        "exec yes",
        clean,
        "dd if=/dev/zero of=/workspace/fill bs=1M count=100",
        clean,
        "dd if=/dev/zero of=/tmp/fill bs=1M count=100",
        clean,
        "dd if=/dev/zero of=/dev/shm/fill bs=1M count=100",
        clean,
        &many_at_work,
        clean,
        &many_in_scratch,
        clean,
        "kill -9 $$",
    ];
    let (out, entries) = play(&platform, "small", &commands);
    let told = events(&entries, "tool-result");
    assert_eq!(told.len(), commands.len(), "{}", all(&out));
    let must = [
        "[killed: memory limit 128 MiB]",
        "[exit status 7; met the limit of 32 processes]",
        "[exit status 8; it says \"Too many open files\": the limit is 64 for one process]",
        "[exit status 0; a process of it was killed: memory limit 128 MiB]",
        "[killed: output limit 1 MiB]",
        "clean",
        "the worktree is full: limit 32 MiB]",
        "clean",
        "/tmp is full: limit 16 MiB]",
        "clean",
        "/dev/shm is full]",
        "clean",
        "/workspace holds as many files as it may: 8192]",
        "clean",
        "/tmp holds as many files as it may: 4096]",
        "clean",
        // Nobody's limit.
        "[ended by signal SIGKILL]",
    ];
    for (n, must) in must.iter().enumerate() {
        let text = told[n]["text"].as_str().unwrap();
        assert!(
            text.contains(must),
            "{}: the model was told {:?}",
            commands[n],
            &text[text.len().saturating_sub(400)..]
        );
    }
    // The person reads the ends of commands, and the notes beside them: in the record, and as `volary log` prints it.
    let people = entries.iter().map(|entry| entry["event"].to_string()).filter(|event| !event.contains("tool-result"));
    let people: String = people.collect();
    let run = platform.json(&["runs", "--json"])[0]["run"].as_str().unwrap().to_owned();
    let printed = platform.ok(&["log", &run]);
    for said in [
        "killed: memory limit 128 MiB",
        "met the limit of 32 processes",
        "it says \"Too many open files\": the limit is 64 for one process",
        "a process of it was killed: memory limit 128 MiB",
        "killed: output limit 1 MiB",
        "the worktree is full: limit 32 MiB",
        "/tmp is full: limit 16 MiB",
        "/dev/shm is full",
        "/workspace holds as many files as it may: 8192",
        "/tmp holds as many files as it may: 4096",
    ] {
        let in_json = said.replace('"', "\\\"");
        assert!(people.contains(&in_json), "the person was not told: {said}");
        assert!(printed.contains(said), "`volary log` does not print: {said}\n{printed}");
    }
}

#[test]
fn memory_that_is_no_process_s_ends_what_the_kernel_chooses_and_the_limit_is_said() {
    let platform = platform();
    profile(&platform, "small", "memory-mib = 64\nscratch-mib = 512\ncommand-seconds = 30");
    // What lies in /tmp stays when its writer is killed: the agent may be the next.
    let fill = "dd if=/dev/zero of=/tmp/fill bs=1M count=400";
    let (out, entries) = play(&platform, "small", &[fill, fill, fill]);
    let said = entries.iter().map(|entry| entry["event"].to_string()).collect::<String>() + &text(&out.stderr);
    assert!(said.contains("killed: memory limit 64 MiB"), "{}", all(&out));
}

#[test]
fn a_command_that_its_share_of_the_processor_slowed_down_is_told_so_though_it_ended_well() {
    let platform = platform();
    // So little that a busy host gives it as much, and it stands still for most of its time.
    profile(&platform, "slower", "cpu-millis = 20");
    let out = shell(&platform, "slower", "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; echo counted");
    assert_eq!(text(&out.stdout), "counted\n", "{}", all(&out));
    assert!(text(&out.stderr).contains("slowed: its box met the limit of 0.02 processors in "), "{}", all(&out));
}

#[test]
fn a_command_whose_box_says_more_than_its_rate_waits_and_the_model_and_the_person_are_told_so() {
    let platform = platform();
    profile(&platform, "quiet", "output-mib = 8\noutput-kib-per-second = 256");
    let (out, entries) = play(&platform, "quiet", &["yes | head -c 3000000 && echo all of it"]);
    let told = events(&entries, "tool-result");
    let said = "slowed: its box met the limit of 256 KiB of output in a second in ";
    let text = told[0]["text"].as_str().unwrap();
    assert!(text.contains("all of it\n") && text.contains(said), "the model was told {text:?}\n{}", all(&out));
    let run = platform.json(&["runs", "--json"])[0]["run"].as_str().unwrap().to_owned();
    assert!(platform.ok(&["log", &run]).contains(said), "`volary log` does not print it");
    // Nothing of it is lost: each byte is in the record.
    let length = |base64: &str| base64.len() / 4 * 3 - base64.matches('=').count();
    let outputs = events(&entries, "output");
    let kept: usize = outputs.iter().map(|event| length(event["data_b64"].as_str().unwrap())).sum();
    assert_eq!(kept, 3_000_000 + "all of it\n".len());
}

#[test]
fn a_box_gets_no_more_of_the_processor_than_its_share() {
    let platform = platform();
    profile(&platform, "slow", "cpu-millis = 200");
    // Four that burn for three seconds of the clock; what they were given is counted by the kernel.
    let line = "python3 - <<'END'\nimport os, time, resource\nbegan = time.monotonic()\nfor n in range(4):\n  if os.fork() == 0:\n    \
                while time.monotonic() - began < 3: pass\n    os._exit(0)\nfor n in range(4): os.wait()\n\
                used = resource.getrusage(resource.RUSAGE_CHILDREN)\n\
                print(used.ru_utime + used.ru_stime, time.monotonic() - began)\nEND";
    let out = shell(&platform, "slow", line);
    let said = text(&out.stdout);
    let (used, clock) = said.trim().split_once(' ').unwrap_or_else(|| panic!("{}", all(&out)));
    let (used, clock): (f64, f64) = (used.parse().unwrap(), clock.parse().unwrap());
    // A tenth of a second is a period, which a box may have in advance. Without a limit it is as much as there are processors.
    assert!(used > 0.0 && used <= 0.2 * clock + 0.2, "{used} s of processor in {clock} s");
}
