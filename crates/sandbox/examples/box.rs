//! One command in a box, without the platform around it: `box DIR RUNNER AGENT COUNT -- COMMAND …`.
//!
//! `ENGINE=docker` makes them by Docker; `LOWER` is a folder that lies below the worktree.
//! Prints the read-back of the first box, the command's output, and for each box the microseconds from create to
//! the first output. The benchmark of box starts is made of this; so is a look at a wall under a debugger.

use api::inbox::{Hello, Kind, ToRunner};
use model::profile::Engine;
use model::{BoxId, Profile, RunId};
use sandbox::{BoxPlan, Host};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

fn frame(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0u8; 4];
    from.read_exact(&mut length)?;
    let mut body = vec![0; u32::from_le_bytes(length) as usize];
    from.read_exact(&mut body)?;
    Ok(body)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_some_and(|a| a == "process") {
        std::process::exit(sandbox::helper::main());
    }
    let [_, dir, runner, agent, count, _, command @ ..] = &args[..] else {
        return Err("box DIR RUNNER AGENT COUNT -- COMMAND …".into());
    };
    std::fs::create_dir_all(dir)?;
    let host = Host::open(
        Path::new(dir),
        &sandbox::rootless::cgroup_parent("box-example")?,
        Path::new("/proc/self/exe"),
        &std::fs::read(runner)?,
        &std::fs::read(agent)?,
    )?;
    host.reap_orphans()?;
    let lower = std::env::var_os("LOWER").map(PathBuf::from);
    let engine = match std::env::var("ENGINE").as_deref() {
        Ok("docker") => Engine::Docker,
        _ => Engine::Embedded,
    };
    for n in 0..count.parse::<u32>()? {
        let image = Path::new(dir).join(format!("boxes/{n}.img"));
        let profile = Profile { engine, ..Profile::default() };
        let begun = Instant::now();
        let plan = BoxPlan {
            run: RunId::parse("example")?,
            box_id: BoxId::parse(&format!("example-{n}"))?,
            profile: profile.clone(),
            lower: lower.clone(),
            upper_image: image.clone(),
        };
        let made = host.create(&plan)?;
        let created = begun.elapsed();
        let mut live = made.live;
        live.start()?;
        let (mut input, mut output) = (File::from(made.stdin), File::from(made.stdout));
        let hello = match frame(&mut output) {
            Ok(hello) => hello,
            Err(e) => {
                let mut said = String::new();
                File::from(made.stderr).take(4096).read_to_string(&mut said)?;
                return Err(format!("no hello: {e}: {said}").into());
            }
        };
        if Kind::of(hello[0]) != Some(Kind::Hello) {
            return Err("the first frame is no hello".into());
        }
        let hello: Hello = serde_json::from_slice(&hello[1..])?;
        let greeted = begun.elapsed();
        let readings = live.read_back(&hello);
        let read = begun.elapsed();
        if n == 0 || readings.iter().any(|r| !r.holds) {
            for r in &readings {
                let mark = if r.holds { "holds" } else { "FAILS" };
                println!("{mark} {}: promised {}, read {} ({})", r.wall, r.promised, r.read, r.by);
            }
        }
        let task =
            ToRunner::Exec { argv: command.to_vec(), cwd: "/workspace".into(), limits: profile.limits, lease: None };
        let task = serde_json::to_vec(&task)?;
        input.write_all(&u32::try_from(task.len())?.to_le_bytes())?;
        input.write_all(&task)?;
        let mut first = None;
        loop {
            let body = frame(&mut output)?;
            let text = String::from_utf8_lossy(&body[1..]).into_owned();
            if text.contains("\"output\"") && first.is_none() {
                first = Some(begun.elapsed());
            }
            if n == 0 {
                println!("{} {text}", char::from(body[0]));
            }
            if Kind::of(body[0]) == Some(Kind::Done) {
                break;
            }
        }
        live.kill()?;
        if n == 0 {
            let (ours, theirs) = std::io::pipe()?;
            let reader = std::thread::spawn(move || {
                let mut all = Vec::new();
                let mut ours = ours;
                ours.read_to_end(&mut all).map(|_| all)
            });
            let count = live.write_changes(theirs.into())?;
            println!("changes: {count:?}; {} bytes of stream", reader.join().map_err(|_| "reader")??.len());
        }
        let ended = live.end()?;
        let us = |d: std::time::Duration| d.as_micros();
        println!(
            "box {n}: created {} greeted {} read back {} first output {} ended {} µs {:?}",
            us(created),
            us(greeted),
            us(read),
            first.map_or(0, us),
            us(begun.elapsed()),
            ended.why
        );
        host.drop_worktree(&image)?;
    }
    Ok(())
}
