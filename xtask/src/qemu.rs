//! A boot of Debian's own kernel: cgroup v2, rootless, and that kernel's Landlock level (2, the oldest that we
//! support, in Debian 12), whatever kernel this machine has.
//!
//! The guest runs every script of `crates/volary/tests/qemu` and says `ok NAME` or `fail NAME` on its console;
//! here those lines are counted and shown as cargo shows its own. A guest that makes no further claim is a failure.
//!
//! A second guest has systemd as its first process and a Docker engine that leaves control groups to it; it runs the
//! scripts of `crates/volary/tests/qemu/docker`, those called `NAME.whole.sh` only by hand (`cargo xtask qemu --docker`).

use crate::guest::{self, Guest};
use crate::{cargo, machine};
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Seconds until the machine is switched off, whatever it does. It decides no test: a boot takes seven seconds in
/// software emulation, a box four, all claims two minutes, and a busy machine has been seen to take four times as long.
const LIMIT_SECS: u64 = 2400;
/// Seconds without a word from the guest, whose own clock beats every ten, after which its processors stand still.
///
/// Two of some sixty boots ended in silence in the middle of a test, at a different claim each; since then the guest
/// beats. A silent beat is the emulator's failure and no claim's, so the machine is booted again. Before its first beat, in
/// the kernel and in systemd, it says nothing for as long as they take.
const SILENCE_SECS: u64 = 300;
/// Seconds without a claim from a guest that beats, after which what it runs hangs, and the tests have failed. It has
/// told where its processes stand by then, and its own waits of ten minutes are over.
const HANG_SECS: u64 = 900;
/// Seconds that a guest which has said its count may take to switch itself off.
const OFF_SECS: u64 = 20;
/// The guest's beat.
const BEAT: &str = "~";
/// Boots that are tried when machines stand still.
const BOOTS: usize = 3;
/// Memory of the guest. All its files lie in it.
const MEMORY: &str = "3072";

/// Builds the guest, boots it, and adds what it said to `told`.
///
/// # Errors
/// A missing part, a failed claim, or a guest that did not come to its end within [`LIMIT_SECS`].
pub fn run(guest: Guest, told: &mut String) -> Result<()> {
    let kernel = machine::kernel(&cargo::target().join("qemu"))?;
    let scratch = cargo::target().join(match guest {
        Guest::Bare => "qemu",
        Guest::Docker { .. } => "qemu/docker",
    });
    std::fs::create_dir_all(&scratch)?;
    let volary = cargo::target().join("debug/volary");
    let tests = tests(guest)?;
    let archive = scratch.join("initramfs.cpio");
    guest::build(guest, &archive, &kernel, &volary, &tests, &scratch)?;
    let started = Instant::now();
    let mut boots = 0;
    let console = loop {
        boots += 1;
        match boot(&image(&kernel)?, &archive, boots)? {
            Boot::Stood(console) if boots < BOOTS => {
                std::fs::write(scratch.join(format!("stood-{boots}.log")), console.join("\n"))?;
                eprintln!("the emulated machine stood still; booted again");
            }
            Boot::Stood(console) | Boot::Ended(console) => break console,
        }
    };
    std::fs::write(scratch.join("console.log"), console.join("\n"))?;
    let said = Said::read(&console);
    for line in said.lines() {
        told.push_str(&line);
        told.push('\n');
    }
    let verdict = said.verdict();
    let word = if verdict.is_ok() { "ok" } else { "FAILED" };
    told.push_str(&format!(
        "\ntest result: {word}. {} passed; {} failed; 0 ignored; 0 measured; 0 filtered out; finished in {:.2}s\n",
        said.passed.len(),
        said.failed.len() + usize::from(verdict.is_err() && said.failed.is_empty()),
        started.elapsed().as_secs_f32()
    ));
    verdict.with_context(|| format!("the whole console is in {}", scratch.join("console.log").display()))
}

/// The scripts (and the C programs they call) that run in the guest: this program's own, then volary's.
fn tests(guest: Guest) -> Result<Vec<PathBuf>> {
    let folders: &[&str] = match guest {
        Guest::Bare => &["xtask/qemu/tests", "crates/volary/tests/qemu"],
        Guest::Docker { .. } => &["crates/volary/tests/qemu/docker"],
    };
    let mut found = Vec::new();
    for folder in folders {
        for entry in std::fs::read_dir(cargo::root().join(folder)).with_context(|| format!("reading {folder}"))? {
            found.push(entry?.path());
        }
    }
    let whole = guest == Guest::Docker { whole: true };
    found.retain(|path| path.is_file() && (whole || !path.to_string_lossy().ends_with(".whole.sh")));
    found.sort();
    let programs: &[&str] = match guest {
        Guest::Bare => &["crates/volary/tests/escape/side_by_side.c"],
        Guest::Docker { .. } => &["crates/volary/tests/qemu/attacks.c", "crates/volary/tests/qemu/signals.c"],
    };
    found.extend(programs.iter().map(|program| cargo::root().join(program)));
    Ok(found)
}

fn image(kernel: &Path) -> Result<PathBuf> {
    for entry in std::fs::read_dir(kernel.join("boot"))? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-")) {
            return Ok(path);
        }
    }
    bail!("the kernel package holds no vmlinuz");
}

/// How a boot came to its end, with the console's lines.
#[derive(Debug, PartialEq, Eq)]
enum Boot {
    /// The machine was switched off: by itself, or because it hangs or its time is over.
    Ended(Vec<String>),
    /// It said nothing for [`SILENCE_SECS`].
    Stood(Vec<String>),
}

/// What is heard of a guest, and what follows from hearing nothing.
struct Watch {
    begun: Instant,
    claimed: Instant,
    console: Vec<String>,
    counted: bool,
}

impl Watch {
    fn new(now: Instant) -> Self {
        Self { begun: now, claimed: now, console: Vec::new(), counted: false }
    }

    fn hear(&mut self, line: String, now: Instant) {
        if line == BEAT {
            return;
        }
        if line.starts_with("ok ") || line.starts_with("fail ") {
            self.claimed = now;
        }
        self.counted |= is_count(&line);
        self.console.push(line);
    }

    /// How long to listen on for, at most.
    fn patience(&self, now: Instant) -> Duration {
        let secs = if self.counted { OFF_SECS } else { SILENCE_SECS };
        Duration::from_secs(secs).min(self.end().0.saturating_duration_since(now))
    }

    /// When it is switched off although it beats, and why.
    fn end(&self) -> (Instant, String) {
        let (late, hangs) = (Duration::from_secs(LIMIT_SECS), Duration::from_secs(HANG_SECS));
        if self.begun + late < self.claimed + hangs {
            return (self.begun + late, format!("switched off after {LIMIT_SECS} s"));
        }
        (self.claimed + hangs, format!("no claim for {HANG_SECS} s of a machine that runs: what it runs hangs"))
    }

    /// The end of a boot that was heard nothing of for [`Watch::patience`].
    fn silent(mut self, now: Instant) -> Boot {
        let (end, why) = self.end();
        if self.counted {
            return Boot::Ended(self.console);
        }
        if now >= end {
            self.console.push(why);
            return Boot::Ended(self.console);
        }
        let still = format!("not a word for {SILENCE_SECS} s, not even its own beat: the machine stood still");
        self.console.push(still);
        Boot::Stood(self.console)
    }
}

/// Whether a line is the guest's own count at its end.
fn is_count(line: &str) -> bool {
    line.ends_with(" failed") && line.contains(" passed, ")
}

/// Boots for the time number `boots` and gives the console's lines. The machine ends by itself, or is ended after its time.
fn boot(image: &Path, archive: &Path, boots: usize) -> Result<Boot> {
    let mut qemu = Command::new("qemu-system-x86_64");
    // Software emulation also where /dev/kvm is: inside another virtual machine it may open and then never run. A machine
    // that stood still emulates its two processors by turns the next time, which is slower and has less to go wrong.
    let accelerator = if boots == 1 { "tcg" } else { "tcg,thread=single" };
    qemu.args(["-accel", accelerator, "-cpu", "max", "-smp", "2", "-m", MEMORY])
        .args(["-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"])
        .arg("-kernel")
        .arg(image)
        .arg("-initrd")
        .arg(archive)
        .args(["-append", "console=ttyS0 quiet panic=-1 systemd.show_status=false"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = cargo::held(&mut qemu).spawn().context("qemu-system-x86_64 cannot start")?;
    let (to, lines) = mpsc::channel();
    let outputs: [Box<dyn std::io::Read + Send>; 2] = [
        Box::new(child.stdout.take().context("no console")?),
        Box::new(child.stderr.take().context("no error stream")?),
    ];
    for output in outputs {
        let to = to.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                if to.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                    return;
                }
            }
        });
    }
    drop(to);
    let mut watch = Watch::new(Instant::now());
    // Ends when both outputs are closed, which is when the machine is off.
    let boot = loop {
        let now = Instant::now();
        let heard = if now < watch.end().0 {
            lines.recv_timeout(watch.patience(now))
        } else {
            // It may beat without an end.
            Err(mpsc::RecvTimeoutError::Timeout)
        };
        match heard {
            Ok(line) => watch.hear(line, Instant::now()),
            Err(mpsc::RecvTimeoutError::Disconnected) => break Boot::Ended(watch.console),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                child.kill().context("the machine cannot be switched off")?;
                break watch.silent(Instant::now());
            }
        }
    };
    child.wait()?;
    Ok(boot)
}

/// What the guest said, told apart.
#[derive(Debug, Default)]
struct Said {
    passed: Vec<String>,
    failed: Vec<String>,
    /// Lines beginning with `|`: what a failed claim printed, and facts.
    notes: Vec<String>,
    /// The guest's own count at its end.
    end: Option<String>,
    /// The last lines of the console, for a guest that did not come to its end.
    tail: Vec<String>,
}

impl Said {
    fn read(console: &[String]) -> Self {
        let mut said = Self::default();
        for line in console {
            // The firmware's control codes may stand before the first line.
            if let Some(name) = line.strip_prefix("ok ") {
                said.passed.push(name.to_owned());
            } else if let Some(name) = line.strip_prefix("fail ") {
                said.failed.push(name.to_owned());
            } else if line.starts_with('|') {
                said.notes.push(line.clone());
            } else if is_count(line) {
                said.end = Some(line.clone());
            }
        }
        said.tail = console.iter().rev().take(30).rev().cloned().collect();
        said
    }

    fn lines(&self) -> Vec<String> {
        let mut lines = vec![format!("\nrunning {} tests under qemu", self.passed.len() + self.failed.len())];
        lines.extend(self.passed.iter().map(|name| format!("test qemu: {name} ... ok")));
        lines.extend(self.failed.iter().map(|name| format!("test qemu: {name} ... FAILED")));
        lines.extend(self.notes.iter().cloned());
        lines
    }

    /// Good only when the guest came to its end, made at least one claim, and all of them held.
    fn verdict(&self) -> Result<()> {
        let counted = format!("{} passed, {} failed", self.passed.len(), self.failed.len());
        match &self.end {
            None => bail!("the guest did not come to its end; its last words:\n{}", self.tail.join("\n")),
            Some(end) if *end != counted => bail!("the guest counted {end:?}, its console shows {counted:?}"),
            Some(_) if !self.failed.is_empty() => {
                bail!("failed:\n  {}\nsaid:\n{}", self.failed.join("\n  "), self.notes.join("\n"))
            }
            Some(_) if self.passed.is_empty() => bail!("the guest made no claim"),
            Some(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Said {
        Said::read(&text.lines().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_guest_that_is_silent_stood_still_and_one_that_beats_without_a_claim_hangs() {
        let begun = Instant::now();
        let after = |secs: u64| begun + Duration::from_secs(secs);
        let watch = |lines: &[(u64, &str)]| {
            let mut watch = Watch::new(begun);
            lines.iter().for_each(|(secs, line)| watch.hear((*line).to_owned(), after(*secs)));
            watch
        };
        let silent = watch(&[(7, "ok a"), (60, BEAT)]);
        assert_eq!(silent.patience(after(60)), Duration::from_secs(SILENCE_SECS));
        assert!(matches!(silent.silent(after(60 + SILENCE_SECS)), Boot::Stood(_)));

        // Its beat is no progress; a claim is.
        let hangs = watch(&[(7, "ok a"), (HANG_SECS, BEAT)]);
        assert_eq!(hangs.end().0, after(7 + HANG_SECS));
        let Boot::Ended(console) = hangs.silent(after(7 + HANG_SECS)) else { panic!("it counts as no failure") };
        assert!(console.last().is_some_and(|why| why.contains("hangs")), "{console:?}");
        let late = watch(&[(7, "ok a"), (LIMIT_SECS - 1, "ok b")]);
        let Boot::Ended(console) = late.silent(after(LIMIT_SECS)) else { panic!("it counts as no failure") };
        assert!(Said::read(&console).verdict().is_err(), "{console:?}");

        // One that has come to its end and is not off has come to its end.
        let counted = watch(&[(7, "ok a"), (8, "1 passed, 0 failed")]);
        assert_eq!(counted.patience(after(8)), Duration::from_secs(OFF_SECS));
        let Boot::Ended(console) = counted.silent(after(8 + OFF_SECS)) else { panic!("booted again") };
        assert!(Said::read(&console).verdict().is_ok());
    }

    #[test]
    fn a_guest_that_ends_with_all_claims_held_passes() {
        assert!(said("noise\nok a\nok b\n2 passed, 0 failed").verdict().is_ok());
    }

    #[test]
    fn a_failed_claim_a_missing_end_a_wrong_count_and_no_claim_at_all_fail() {
        for bad in ["ok a\nfail b\n1 passed, 1 failed", "ok a", "ok a\n2 passed, 0 failed", "0 passed, 0 failed", ""] {
            assert!(said(bad).verdict().is_err(), "{bad:?} passed");
        }
    }
}
