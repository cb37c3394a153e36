//! How fast a command may say things: as fast as they are taken, and no faster.

use crate::support::{Box, code, sh};
use model::{Event, Limits};
use std::time::{Duration, Instant};

/// Far beyond what anything here takes.
const HANG: Duration = Duration::from_secs(120);
/// What lies between a command and whoever takes its output, at most: pipes, pieces on their way, the runner's queue.
const ON_THE_WAY: u64 = 8 << 20;
const PIECE: u64 = 1 << 16;

#[tokio::test(flavor = "current_thread")]
async fn a_command_whose_output_is_not_taken_waits_and_nothing_grows() {
    let mut made = Box::start().await;
    // It counts what it has written, 16 times as much as anything may hold, and ends well if it could write it all.
    let all = 16 * ON_THE_WAY / PIECE;
    let script =
        format!("i=0; while [ $i -lt {all} ]; do head -c {PIECE} /dev/zero; i=$((i+1)); echo $i > /workspace/n; done");
    made.send(&sh(&script, Limits { output_mib: 4096, ..Limits::default() })).await;
    let pid = made.host_pid();
    let written = || std::fs::read_to_string(format!("/proc/{pid}/root/workspace/n")).unwrap_or_default();
    let (began, mut last, mut still) = (Instant::now(), String::new(), 0);
    // Until it says the same for two seconds, in which nobody takes anything.
    while still < 20 {
        assert!(began.elapsed() < HANG, "it writes on: {last}");
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = written();
        still = if now == last && !now.is_empty() { still + 1 } else { 0 };
        last = now;
    }
    let stood_at = last.trim().parse::<u64>().unwrap() * PIECE;
    assert!(stood_at < ON_THE_WAY, "{stood_at} bytes lie in the box");
    let memory = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let resident = memory.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let resident: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(resident < 32 << 10, "process 1 holds {resident} KiB");
    // Once it is taken, all of it comes.
    let story = made.story().await;
    assert_eq!(story.done.exit, code(0));
    assert!(story.events.iter().any(|event| matches!(event, Event::CommandEnd { .. })));
    assert_eq!(story.bytes(model::event::Stream::Stdout).len() as u64, all * PIECE);
}
