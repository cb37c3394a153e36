//! How much memory the platform takes when nothing runs, and how long each process takes to be ready.

use crate::boxed::Engine;
use crate::stage::{Home, Process, Up};
use crate::table::{Spread, Table, figure, goal, ms};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::time::{Duration, Instant};

/// Starts of each process.
const STARTS: usize = 7;

/// Measures and prints.
pub fn run() -> Result<()> {
    let [server, gateway, operator] = starts()?;
    let mut ups = Vec::new();
    let mut memory = Vec::new();
    for n in 0..3 {
        let up = Up::start(&[])?;
        ups.push(up.ready);
        if n == 0 {
            // Long enough for what start-up left to be given back, if it is.
            std::thread::sleep(Duration::from_secs(2));
            memory = up.memory()?;
        }
        up.end()?;
    }
    let runner = Engine::open("idle")?.runner_memory()?;

    let mut table = Table::new(&["idle", "resident MB", "its share MB", "start p50 ms", "min", "max"]);
    let mut row = |name: &str, starts: Option<Spread>, memory: Option<(f64, f64)>| {
        let cell = |x: Option<f64>| x.map_or_else(|| "–".to_owned(), figure);
        table.row([
            name.to_owned(),
            cell(memory.map(|m| m.0)),
            cell(memory.map(|m| m.1)),
            cell(starts.map(|s| s.p50)),
            cell(starts.map(|s| s.min)),
            cell(starts.map(|s| s.max)),
        ]);
    };
    let of = |name: &str| memory.iter().find(|(known, _)| known == name).map(|(_, memory)| *memory);
    row("volary up, until all are ready", Some(Spread::of(ups)), of("up"));
    row("server, until it answers", Some(server), of("server"));
    row("gateway, until it is at the server", Some(gateway), of("gateway"));
    row("operator, until it is linked", Some(operator), of("operator"));
    row("runner, in its box, waiting for a task", None, Some(runner));
    let all = |part: fn(&(f64, f64)) -> f64| memory.iter().map(|(_, memory)| part(memory)).sum::<f64>();
    row("the whole platform", None, Some((all(|m| m.0), all(|m| m.1))));
    table.print();

    let (resident, _) = of("server").context("the server is not among the processes")?;
    goal("server, idle", "≤ 60 MB", &format!("{} MB", figure(resident)), resident <= 60.0);
    goal("server, ready, p50", "≤ 200 ms", &format!("{} ms", figure(server.p50)), server.p50 <= 200.0);
    goal("runner, resident", "≤ 5 MB", &format!("{} MB", figure(runner.0)), runner.0 <= 5.0);
    Ok(())
}

/// From the start of each process to its first sign of life: server, gateway, operator.
fn starts() -> Result<[Spread; 3]> {
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..STARTS {
        let home = Home::new(&std::env::temp_dir())?;
        let begun = Instant::now();
        let _server = home.server()?;
        // The call waits in the socket until it is served.
        home.api("GET", "/api/health", None)?;
        times[0].push(ms(begun.elapsed()));
        let begun = Instant::now();
        let _gateway = home.gateway()?;
        until(&home, "gateway")?;
        times[1].push(ms(begun.elapsed()));
        let begun = Instant::now();
        let _operator: Process = home.operator()?;
        until(&home, "operator")?;
        times[2].push(ms(begun.elapsed()));
    }
    Ok(times.map(Spread::of))
}

fn until(home: &Home, who: &str) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(20);
    while home.api("GET", "/api/health", None)?[who] != Value::Bool(true) {
        ensure!(Instant::now() < end, "the {who} did not come: {}", home.log());
        std::thread::sleep(Duration::from_micros(500));
    }
    Ok(())
}
