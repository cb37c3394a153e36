//! Builds the two static executables that stand in a box, runner and agent, and hands them to the program that carries them.
//!
//! They are a build of their own: another profile (`box`), statically linked, in a target folder of their own
//! (cargo would wait for itself on the same one). What the outer build says about compilers is taken out of the
//! inner one's environment: kept, it makes the result dynamic without a word.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Process 1 is the smallest of all: 3 MB.
const MAX_RUNNER_BYTES: u64 = 3_000_000;
/// The agent: 8 MB.
const MAX_AGENT_BYTES: u64 = 8_000_000;

fn main() {
    let arch = var("CARGO_CFG_TARGET_ARCH");
    assert!(
        var("CARGO_CFG_TARGET_OS") == "linux",
        "volary keeps agents in boxes of the Linux kernel: build and run it on Linux (on macOS and Windows, in a virtual \
         machine with Linux)"
    );
    let target = format!("{arch}-unknown-linux-gnu");
    let workspace = PathBuf::from(var("CARGO_MANIFEST_DIR")).join("../..");
    let workspace = workspace.canonicalize().expect("the workspace's folder");
    let out = PathBuf::from(var("OUT_DIR"));
    let target_dir = target_folder(&out).join("box");

    let mut cargo = Command::new(var("CARGO"));
    cargo
        .current_dir(&workspace)
        .args([
            "build",
            "--locked",
            "--profile",
            "box",
            "--package",
            "runner",
            "--package",
            "agent",
            "--target",
            &target,
        ])
        .arg("--target-dir")
        .arg(&target_dir);
    for (name, _) in std::env::vars() {
        let steering = name == "CARGO_ENCODED_RUSTFLAGS"
            || name == "RUSTC_WRAPPER"
            || name == "RUSTC_WORKSPACE_WRAPPER"
            || name == "CARGO_MAKEFLAGS"
            || name.starts_with("CARGO_PROFILE_")
            || name.starts_with("CARGO_") && name.contains("TARGET");
        if steering {
            cargo.env_remove(name);
        }
    }
    cargo.env("RUSTFLAGS", "-C target-feature=+crt-static");
    let status = cargo.status().expect("start cargo for the box's executables");
    assert!(status.success(), "the box's executables were not built");

    for (name, limit) in [("runner", MAX_RUNNER_BYTES), ("agent", MAX_AGENT_BYTES)] {
        let built = target_dir.join(&target).join("box").join(name);
        let bytes = std::fs::read(&built).unwrap_or_else(|e| panic!("read {}: {e}", built.display()));
        assert!(!has_interpreter(&bytes), "{name} is not static: it names an interpreter");
        assert!(bytes.len() as u64 <= limit, "{name} is {} bytes; its limit is {limit}", bytes.len());
        std::fs::write(out.join(name), bytes).unwrap_or_else(|e| panic!("carry {name}: {e}"));
        watch(&built.with_extension("d"));
    }
    for file in ["Cargo.toml", "Cargo.lock", "crates/runner/Cargo.toml", "crates/agent/Cargo.toml"] {
        println!("cargo:rerun-if-changed={}", workspace.join(file).display());
    }
    println!("cargo:rerun-if-changed=build.rs");
}

fn var(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}

/// `<target>` of `<target>/<profile>/build/volary-<hash>/out`.
fn target_folder(out: &Path) -> PathBuf {
    out.ancestors().nth(4).expect("OUT_DIR lies in a target folder").to_path_buf()
}

/// Names every source of a build, from the `.d` file that cargo wrote beside it.
fn watch(depfile: &Path) {
    let text = std::fs::read_to_string(depfile).unwrap_or_else(|e| panic!("read {}: {e}", depfile.display()));
    let sources = text.split_once(": ").map_or("", |(_, sources)| sources);
    for source in sources.replace("\\ ", "\u{0}").split_whitespace() {
        println!("cargo:rerun-if-changed={}", source.replace('\u{0}', " "));
    }
}

/// Whether a 64-bit ELF file asks for a dynamic loader (a `PT_INTERP` header).
fn has_interpreter(elf: &[u8]) -> bool {
    const PT_INTERP: u32 = 3;
    let word = |at: usize, len: usize| -> u64 {
        let mut bytes = [0u8; 8];
        bytes[..len].copy_from_slice(&elf[at..at + len]);
        u64::from_le_bytes(bytes)
    };
    assert!(elf.len() > 64 && elf.starts_with(b"\x7fELF\x02\x01"), "not a 64-bit little-endian ELF file");
    let (table, size, count) = (word(32, 8) as usize, word(54, 2) as usize, word(56, 2) as usize);
    (0..count).any(|n| word(table + n * size, 4) as u32 == PT_INTERP)
}
