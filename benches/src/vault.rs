//! Sealing and opening a secret, beside what a key is wrapped and unwrapped with: the same cipher, without padding.

use crate::table::{Table, figure, times};
use anyhow::{Context, Result};
use model::WorkspaceId;
use std::hint::black_box;
use std::time::Instant;
use vault::{Dek, Kek, Place};

/// Sealings that are timed together.
const TIMES: u32 = 20_000;

/// Lengths of values, in bytes: a key as vendors give them, a long token, the longest secret that is taken.
const VALUES: [(&str, usize); 3] = [("a key of 51 bytes", 51), ("a token of 2 KiB", 2048), ("16 KiB", 16_384)];

/// Measures and prints.
pub fn run() -> Result<()> {
    let workspace: WorkspaceId = "main".parse().context("a workspace's name")?;
    let place = Place { workspace: &workspace, person: "", name: "model/anthropic", version: 7 };
    let dek = Dek::generate()?;
    let kek = Kek::new([7; 32]);
    let wrapped = kek.wrap(&dek, &workspace)?;
    let wrap = each(|| kek.wrap(&dek, &workspace).is_ok());
    let unwrap = each(|| kek.unwrap(black_box(&wrapped), &workspace).is_ok());
    let mut table = Table::new(&["", "seal, per second", "open, per second", "time of an unwrap"]);
    table.row(["the data key, 32 bytes, without padding".into(), figure(wrap), figure(unwrap), times(1.0, 1.0)]);
    for (what, length) in VALUES {
        let value = vec![b'k'; length];
        let sealed = vault::seal(&dek, &place, &value)?;
        let seal = each(|| vault::seal(&dek, &place, black_box(&value)).is_ok());
        let open = each(|| vault::open(&dek, &place, black_box(&sealed)).is_ok());
        table.row([what.into(), figure(seal), figure(open), times(unwrap, open)]);
    }
    table.print();
    Ok(())
}

/// How many per second.
fn each(mut act: impl FnMut() -> bool) -> f64 {
    let begun = Instant::now();
    let done = (0..TIMES).filter(|_| black_box(act())).count();
    done as f64 / begun.elapsed().as_secs_f64()
}
