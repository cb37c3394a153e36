//! Finding 10 changes in a small and in a large tree, beside `git status` on the same tree with the same changes.

use crate::boxed::Engine;
use crate::rivals::finish;
use crate::stage;
use crate::table::{Spread, Table, figure, goal, ms, times};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Files of a folder.
const IN_A_FOLDER: usize = 100;
/// Boxes, and calls of `git status`, for each tree.
const TIMES: usize = 5;

/// Changes ten files of a tree: six written, two added, two removed.
const TEN: &str = "for n in 0 1 2 3 4 5; do echo changed >> d$n/f$n; done; echo new > d1/new; echo new > new; \
    rm d6/f6 d7/f7; echo x";

/// Measures and prints.
pub fn run() -> Result<()> {
    let engine = Engine::open("changes")?;
    let mut table = Table::new(&["10 changes found", "p50 ms", "min", "max", "of ours"]);
    let mut figures = Vec::new();
    for files in [1_000, 100_000] {
        let dir = stage::folder(&std::env::temp_dir())?;
        let tree = dir.path().join("tree");
        plant(&tree, files)?;
        let mut found = Vec::new();
        for n in 0..TIMES {
            found.push(ours(&engine, &format!("{files}-{n}"), &tree)?);
        }
        let found = Spread::of(found);
        let git = git_status(dir.path(), &tree)?;
        for (what, s) in [("ours", found), ("git status", git)] {
            let what = format!("{what}, {files} files");
            table.row([what, figure(s.p50), figure(s.min), figure(s.max), times(s.p50, found.p50)]);
        }
        figures.push(found.p50);
    }
    table.print();
    let (small, large) = (figures[0], figures[1]);
    println!("a tree a hundred times as large takes {} as long", times(large, small));
    goal("10 changes in 100 000 files, p50", "≤ 5 ms", &format!("{} ms", figure(large)), large <= 5.0);
    Ok(())
}

fn plant(tree: &Path, files: usize) -> Result<()> {
    for folder in 0..files / IN_A_FOLDER {
        let path = tree.join(format!("d{folder}"));
        fs::create_dir_all(&path)?;
        for file in 0..IN_A_FOLDER {
            fs::write(path.join(format!("f{file}")), format!("line {file}\n"))?;
        }
    }
    Ok(())
}

/// Milliseconds from the order to the last byte of the changes, after a box made them.
fn ours(engine: &Engine, name: &str, tree: &Path) -> Result<f64> {
    let mut ran = engine.run(name, Some(tree), &["/bin/sh", "-c", TEN])?;
    let (mut from, to) = std::io::pipe()?;
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        from.read_to_end(&mut all).map(|_| all)
    });
    let begun = Instant::now();
    let count = ran.live.write_changes(to.into())?;
    let time = ms(begun.elapsed());
    let stream = reader.join().ok().context("the reader ended badly")??;
    engine.end(ran)?;
    ensure!(count.changes == 10, "{} changes were found, in {} bytes", count.changes, stream.len());
    Ok(time)
}

fn git_status(dir: &Path, tree: &Path) -> Result<Spread> {
    let git = || {
        let mut git = Command::new("git");
        git.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", dir);
        git.arg("--git-dir").arg(dir.join("git")).arg("--work-tree").arg(tree).current_dir(tree);
        git
    };
    finish(git().args(["init", "--quiet"]))?;
    finish(git().args(["add", "--all"]))?;
    finish(git().args(["-c", "user.name=b", "-c", "user.email=b@b", "commit", "--quiet", "--message", "x"]))?;
    finish(Command::new("sh").arg("-c").arg(TEN).current_dir(tree))?;
    let mut all = Vec::new();
    for n in 0..=TIMES {
        let begun = Instant::now();
        let out = finish(git().args(["status", "--porcelain"]))?;
        let lines = out.iter().filter(|byte| **byte == b'\n').count();
        ensure!(lines == 10, "git status found {lines} changes");
        // The first one fills the caches.
        if n > 0 {
            all.push(ms(begun.elapsed()));
        }
    }
    Ok(Spread::of(all))
}
