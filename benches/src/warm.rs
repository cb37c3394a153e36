//! A box that waited for its run: from the claim to the first output, beside a cold start of the same box, in turns.

use crate::boxed::{Engine, Times};
use crate::rivals::Docker;
use crate::stage;
use crate::table::{Spread, Table, figure, goal, times};
use anyhow::Result;
use std::time::Duration;

/// Boxes of each kind.
const EACH: usize = 30;

/// How long a box waits: as long at least as the operator's pool leaves a run alone before it makes the next.
const WAIT: Duration = Duration::from_millis(250);

/// Measures and prints.
pub fn run() -> Result<()> {
    measure("embedded", Engine::open("warm")?, 5.0)?;
    println!();
    if !stage::root() {
        println!("Docker: measured as root only");
        return Ok(());
    }
    match Docker::start() {
        Ok(docker) => measure("Docker", Engine::open("warm-docker")?.on_docker(docker.socket.clone()), 60.0),
        Err(why) => {
            println!("Docker is not here: {why:#}");
            Ok(())
        }
    }
}

/// A step of a box's way, and when it was done, in milliseconds.
type Step = (&'static str, fn(&Times) -> f64);

fn measure(name: &str, engine: Engine, most_ms: f64) -> Result<()> {
    let command = ["/bin/echo", "x"];
    engine.end(engine.run("first", None, &command)?)?;
    let (mut cold, mut warm) = (Vec::new(), Vec::new());
    for n in 0..EACH {
        cold.push(engine.end(engine.run(&format!("cold-{n}"), None, &command)?)?);
        let waits = engine.prepare(&n.to_string())?;
        std::thread::sleep(WAIT);
        warm.push(engine.end(engine.run_in(waits, &format!("warm-{n}"), &command)?)?);
    }
    let mut table = Table::new(&[&format!("{name}, ms"), "warm p50", "min", "max", "cold p50", "cold is"]);
    let steps: [Step; 4] = [
        ("claimed, its worktree mounted (cold: made)", |t| t.created),
        ("greeted: its walls taken", |t| t.greeted),
        ("read back: every wall seen from outside", |t| t.read_back),
        ("first output of the command", |t| t.output),
    ];
    for (what, of) in steps {
        let (w, c) = (Spread::of(warm.iter().map(of).collect()), Spread::of(cold.iter().map(of).collect()));
        table.row([what.to_owned(), figure(w.p50), figure(w.min), figure(w.max), figure(c.p50), times(c.p50, w.p50)]);
    }
    table.print();
    let first = Spread::of(warm.iter().map(|t| t.output).collect());
    let most = format!("≤ {most_ms} ms");
    goal(
        &format!("warm claim to first output, {name}, p50"),
        &most,
        &format!("{} ms", figure(first.p50)),
        first.p50 <= most_ms,
    );
    Ok(())
}
