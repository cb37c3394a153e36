//! A boot of Debian's own kernel: cgroup v2, rootless, and that kernel's Landlock level (2, the oldest that we
//! support, in Debian 12), whatever kernel this machine has.
//!
//! The guest runs every script of `crates/volary/tests/qemu` and says `ok NAME` or `fail NAME` on its console;
//! here those lines are counted and shown as cargo shows its own. A guest that says nothing more is a failure.

use crate::{cargo, guest, machine};
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Seconds until the machine is switched off, whatever it does. It decides no test: a boot takes seven seconds in
/// software emulation, a box four, and a busy machine has been seen to take four times as long.
const LIMIT_SECS: u64 = 900;
/// Seconds without a word from the guest, whose own clock beats every ten, after which its processors stand still.
///
/// Two of some sixty boots ended in silence in the middle of a test, at a different claim each; since then the guest
/// beats. A silent beat is the emulator's failure and no claim's, so the machine is booted again. A guest that beats
/// and makes no claim is not: it tells where its processes stand, and the run fails.
const SILENCE_SECS: u64 = 120;
/// The guest's beat.
const BEAT: &str = "~";
/// Boots that are tried when machines stand still.
const BOOTS: usize = 3;
/// Memory of the guest. All its files lie in it.
const MEMORY: &str = "3072";

/// Builds the guest, boots it, and tells what it said.
///
/// # Errors
/// A missing part, a failed claim, or a guest that did not come to its end within [`LIMIT_SECS`].
pub fn run() -> Result<()> {
    let scratch = cargo::target().join("qemu");
    std::fs::create_dir_all(&scratch)?;
    let kernel = machine::kernel(&scratch)?;
    let volary = cargo::target().join("debug/volary");
    let tests = tests()?;
    let archive = scratch.join("initramfs.cpio");
    guest::build(&archive, &kernel, &volary, &tests, &scratch)?;
    let started = Instant::now();
    let mut boots = 0;
    let console = loop {
        boots += 1;
        match boot(&image(&kernel)?, &archive)? {
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
        println!("{line}");
    }
    let verdict = said.verdict();
    let word = if verdict.is_ok() { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {word}. {} passed; {} failed; 0 ignored; 0 measured; 0 filtered out; finished in {:.2}s\n",
        said.passed.len(),
        said.failed.len() + usize::from(verdict.is_err() && said.failed.is_empty()),
        started.elapsed().as_secs_f32()
    );
    verdict.with_context(|| format!("the whole console is in {}", scratch.join("console.log").display()))
}

/// The scripts (and the C programs they call) that run in the guest: this program's own, then volary's.
fn tests() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for folder in ["xtask/qemu/tests", "crates/volary/tests/qemu"] {
        let folder = cargo::root().join(folder);
        if folder.is_dir() {
            for entry in std::fs::read_dir(folder)? {
                found.push(entry?.path());
            }
        }
    }
    found.sort();
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
enum Boot {
    /// The machine was switched off, by itself or after [`LIMIT_SECS`].
    Ended(Vec<String>),
    /// It said nothing for [`SILENCE_SECS`].
    Stood(Vec<String>),
}

/// Boots and gives the console's lines. The machine ends by itself, or is ended after its time.
fn boot(image: &Path, archive: &Path) -> Result<Boot> {
    let mut qemu = Command::new("qemu-system-x86_64");
    // Software emulation also where /dev/kvm is: inside another virtual machine it may open and then never run.
    qemu.args(["-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", MEMORY])
        .args(["-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"])
        .arg("-kernel")
        .arg(image)
        .arg("-initrd")
        .arg(archive)
        .args(["-append", "console=ttyS0 quiet panic=-1"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = qemu.spawn().context("qemu-system-x86_64 cannot start")?;
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
    let end = Instant::now() + Duration::from_secs(LIMIT_SECS);
    let mut console = Vec::new();
    let mut stood = false;
    // Ends when both outputs are closed, which is when the machine is off.
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match lines.recv_timeout(left.min(Duration::from_secs(SILENCE_SECS))) {
            Ok(beat) if beat == BEAT => {}
            Ok(line) => console.push(line),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                child.kill().context("the machine cannot be switched off")?;
                stood = Instant::now() < end;
                console.push(if stood {
                    format!("not a word for {SILENCE_SECS} s, not even its own beat: the machine stood still")
                } else {
                    format!("switched off after {LIMIT_SECS} s")
                });
                break;
            }
        }
    }
    child.wait()?;
    std::io::stdout().flush()?;
    Ok(if stood { Boot::Stood(console) } else { Boot::Ended(console) })
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
            } else if line.ends_with(" failed") && line.contains(" passed, ") {
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
