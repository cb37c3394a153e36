//! Much input and much output of a command: every byte, however far one side runs ahead, at bounded memory.
//!
//! `VOLARY_STREAM_MIB` makes it more than the usual 24 MiB, which is more than any of the queues on the way may hold.

use std::fs;
use std::io::{Read, Write};
use std::process::Stdio;
use testkit::Platform;

/// Bytes of every value, in no order that repeats soon.
struct Noise(u64);

impl Noise {
    fn fill(&mut self, buffer: &mut [u8]) {
        for eight in buffer.chunks_mut(8) {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            eight.copy_from_slice(&(self.0 ^ (self.0 >> 29)).to_le_bytes()[..eight.len()]);
        }
    }
}

fn mib() -> usize {
    std::env::var("VOLARY_STREAM_MIB").map_or(24, |text| text.parse().expect("a number"))
}

/// Most memory that a process of the platform ever held, in MiB.
fn peak_mib(platform: &Platform, process: &str) -> u64 {
    let pid = platform.pid_of(process).expect("it is up");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it is up");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a line of its peak");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") >> 10
}

/// Sends `mib` MiB into `line` and expects them back, byte for byte.
fn there_and_back(platform: &Platform, line: &str) {
    const PIECE: usize = 1 << 20;
    let mut child = platform
        .command()
        .args(["exec", "--profile", "wide", "--", "sh", "-c", line])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("volary starts");
    let (mut to, mut from) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
    let writer = std::thread::spawn(move || {
        let (mut noise, mut piece) = (Noise(7), vec![0; PIECE]);
        for _ in 0..mib() {
            noise.fill(&mut piece);
            to.write_all(&piece).expect("it is read");
        }
    });
    let (mut noise, mut expected, mut piece) = (Noise(7), vec![0; PIECE], vec![0; PIECE]);
    for n in 0..mib() {
        noise.fill(&mut expected);
        from.read_exact(&mut piece).unwrap_or_else(|e| panic!("{e} in MiB {n}"));
        assert!(piece == expected, "another byte in MiB {n}");
    }
    assert_eq!(from.read_to_end(&mut piece).expect("its end"), 0, "more came back than was sent");
    writer.join().expect("all is sent");
    assert_eq!(child.wait().expect("its end").code(), Some(0));
}

#[test]
fn more_than_any_queue_holds_passes_through_a_box_to_the_byte_also_when_it_is_not_read_at_once() {
    let mut platform = Platform::start(env!("CARGO_BIN_EXE_volary"));
    let output = mib() + 8;
    fs::write(platform.home().join("profiles/wide.toml"), format!("[limits]\noutput-mib = {output}\n"))
        .expect("a profile is written");
    there_and_back(&platform, "cat");
    // Meanwhile everything before the box is full, and nothing is thrown away.
    there_and_back(&platform, "sleep 3; cat");
    for process in ["server", "gateway", "operator"] {
        let peak = peak_mib(&platform, process);
        println!("{process}: {peak} MiB at most");
        assert!(peak < 160, "{process} held {peak} MiB");
    }
    platform.down();
}
