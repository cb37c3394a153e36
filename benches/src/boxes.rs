//! A hundred boxes, four at a time: how long all of it takes, and that none fails.

use crate::boxed::{Engine, Times};
use crate::table::{Spread, Table, figure, goal, ms, times};
use anyhow::Result;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

const BOXES: usize = 100;

/// Measures and prints.
pub fn run() -> Result<()> {
    let engine = Engine::open("boxes")?;
    engine.end(engine.run("warm", None, &["/bin/echo", "x"])?)?;
    let mut table = Table::new(&["", "wall time, s", "boxes/s", "failed", "first output p50, ms", "p99, ms"]);
    let (alone, _) = at_a_time(&engine, 1, BOXES / 4, &mut table);
    let (four, failures) = at_a_time(&engine, 4, BOXES, &mut table);
    table.print();
    println!("four at a time make {} as many boxes a second as one at a time", times(four, alone));
    for failure in failures.iter().take(3) {
        println!("failed: {failure}");
    }
    goal("boxes that failed", "0", &failures.len().to_string(), failures.is_empty());
    Ok(())
}

/// Boxes a second, and why those failed that did.
fn at_a_time(engine: &Engine, makers: usize, boxes: usize, table: &mut Table) -> (f64, Vec<String>) {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<Result<Times>>> = Mutex::default();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..makers {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= boxes {
                        return;
                    }
                    let one = engine.run(&format!("{makers}-{n}"), None, &["/bin/echo", "x"]);
                    let one = one.and_then(|ran| engine.end(ran));
                    done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(one);
                }
            });
        }
    });
    let wall = begun.elapsed();
    let done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let (good, bad): (Vec<_>, Vec<_>) = done.into_iter().partition(Result::is_ok);
    let first = Spread::of(good.into_iter().flatten().map(|times| times.output).collect());
    let failures: Vec<String> = bad.into_iter().filter_map(Result::err).map(|e| format!("{e:#}")).collect();
    let rate = boxes as f64 / wall.as_secs_f64();
    table.row([
        format!("{boxes} boxes, {makers} at a time"),
        figure(ms(wall) / 1e3),
        figure(rate),
        failures.len().to_string(),
        figure(first.p50),
        figure(first.p99),
    ]);
    (rate, failures)
}
