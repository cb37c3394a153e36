//! Box start: from create to the first output, beside the usual ways to run one command in a container.

use crate::boxed::{Engine, Times};
use crate::rivals::{self, Rival};
use crate::table::{Spread, Table, figure, goal, times};
use anyhow::Result;

/// Boxes of ours.
const OURS: usize = 50;
/// Starts of each other way, after one that warms it up.
const THEIRS: usize = 20;

/// One of the steps.
type Of = fn(&Times) -> f64;

/// Measures and prints.
pub fn run() -> Result<()> {
    let engine = Engine::open("start")?;
    let command = ["/bin/echo", "x"];
    engine.end(engine.run("warm", None, &command)?)?;
    let mut ours = Vec::new();
    for n in 0..OURS {
        ours.push(engine.end(engine.run(&n.to_string(), None, &command)?)?);
    }
    let spread = |of: Of| Spread::of(ours.iter().map(of).collect());

    let mut steps = Table::new(&["our box, ms since create", "p50", "min", "max"]);
    let parts: [(&str, Of); 5] = [
        ("made: worktree, namespaces, cgroup, door", |t| t.created),
        ("greeted: runner is up, its walls taken", |t| t.greeted),
        ("read back: every wall seen from outside", |t| t.read_back),
        ("first output of the command", |t| t.output),
        ("ended: nothing of it left", |t| t.ended),
    ];
    for (what, of) in parts {
        let s = spread(of);
        steps.row([what.to_owned(), figure(s.p50), figure(s.min), figure(s.max)]);
    }
    steps.print();
    println!();

    let first = spread(|t| t.output);
    let mut table = Table::new(&["start to first output, ms", "p50", "min", "max", "of ours"]);
    let row = |table: &mut Table, name: &str, s: Spread| {
        table.row([name.to_owned(), figure(s.p50), figure(s.min), figure(s.max), times(s.p50, first.p50)]);
    };
    row(&mut table, &format!("ours, all walls ({OURS})"), first);
    let mut docker = None;
    for rival in rivals::all() {
        match rival.and_then(|rival| measure(&rival)) {
            Ok((name, s)) => {
                if name.starts_with("docker") {
                    docker = Some(s.p50);
                }
                row(&mut table, &format!("{name} ({THEIRS})"), s);
            }
            Err(absent) => table.absent(&absent.0, &format!("not here: {:#}", absent.1)),
        }
    }
    table.print();
    goal("box start, p50", "≤ 15 ms", &format!("{} ms", figure(first.p50)), first.p50 <= 15.0);
    match docker {
        Some(docker) => {
            let ratio = docker / first.p50;
            goal(
                "beside docker run with the same walls",
                "≥ 10× faster",
                &format!("{}×", figure(ratio)),
                ratio >= 10.0,
            );
        }
        None => println!("goal: ≥ 10× faster than docker run with the same walls; docker is not here"),
    }
    Ok(())
}

fn measure(rival: &Rival) -> Result<(String, Spread), rivals::Absent> {
    let mut all = Vec::new();
    for n in 0..=THEIRS {
        let time = rival.start(n).map_err(|e| rivals::Absent(rival.name.to_owned(), e))?;
        if n > 0 {
            all.push(time);
        }
    }
    Ok((rival.name.to_owned(), Spread::of(all)))
}
