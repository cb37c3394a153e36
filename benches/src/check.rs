//! One permission check, beside the same question asked of a set of names.

use crate::table::{Table, figure, goal, times};
use anyhow::Result;
use policy::access::{Scope, Scopes};
use std::collections::HashSet;
use std::hint::black_box;
use std::time::Instant;

/// Checks that are timed together.
const CHECKS: u32 = 20_000_000;

/// Measures and prints.
pub fn run() -> Result<()> {
    let reach: Scopes = Scope::ALL.iter().copied().step_by(2).collect();
    let names: HashSet<String> = reach.iter().map(|scope| scope.id().to_owned()).collect();
    let nothing = each(|scope| scope as u8 == u8::MAX);
    let bits = each(|scope| black_box(reach).holds(scope));
    let set = each(|scope| black_box(&names).contains(scope.id()));
    let mut table = Table::new(&["one check", "ns", "of ours"]);
    table.row(["a bit test".into(), figure(bits), times(bits, bits)]);
    table.row(["a set of names".into(), figure(set), times(set, bits)]);
    table.row(["the loop around them, nothing checked".into(), figure(nothing), times(nothing, bits)]);
    table.print();
    goal("permission check", "≤ 20 ns", &format!("{} ns", figure(bits)), bits <= 20.0);
    Ok(())
}

/// Nanoseconds of one.
fn each(mut check: impl FnMut(Scope) -> bool) -> f64 {
    let begun = Instant::now();
    let mut held = 0u32;
    for n in 0..CHECKS {
        let scope = Scope::ALL[n as usize % Scope::ALL.len()];
        held += u32::from(black_box(check(black_box(scope))));
    }
    black_box(held);
    begun.elapsed().as_secs_f64() * 1e9 / f64::from(CHECKS)
}
