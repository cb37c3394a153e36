//! Running suites side by side: a suite is a test program, a guest under qemu, or whatever else makes claims and tells them.
//!
//! Most suites wait for about half of their time (for processes, for a browser, for a disk), so that [`BESIDE`] of them use the
//! two processors that they are made for. What a suite says stands in a file of its own while it runs, and is shown as a whole
//! when it is over; at the end a table says when each began and ended. Every suite runs, whichever failed.

use crate::cargo::{self, Failures};
use anyhow::{Context, Result, bail};
use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Suites at a time. Each test program runs as many of its tests at once as there are processors.
const BESIDE: usize = 2;

/// Something that makes claims. What it gives is what it said of them.
pub struct Suite {
    /// As it is called in what is shown and in [`log`].
    name: String,
    act: Box<Act>,
}

/// Does it, and adds what is to be shown to the text.
type Act = dyn FnOnce(&mut String) -> Result<()> + Send;

impl Suite {
    /// One that is done by `act`, which adds what is to be shown to the text that it is given.
    pub fn new(name: impl Into<String>, act: impl FnOnce(&mut String) -> Result<()> + Send + 'static) -> Self {
        Self { name: name.into(), act: Box::new(act) }
    }

    /// One that is a command. Its error holds what its failed tests said.
    pub fn of(name: impl Into<String>, mut command: Command) -> Self {
        let name = name.into();
        let log = log(&name);
        Self::new(name, move |said| tests(&mut command, &log, said))
    }
}

/// Where a suite's words stand while it runs.
fn log(name: &str) -> PathBuf {
    cargo::target().join("suites").join(format!("{}.log", name.replace(['/', ' '], "-")))
}

/// A suite that is over.
struct Over {
    name: String,
    begun: Duration,
    ended: Duration,
    error: Option<anyhow::Error>,
}

/// Runs all of them, in this order, [`BESIDE`] at a time, and shows what they say.
///
/// # Errors
/// Which failed, each with its reason, which is told last: of a long output often only the end is seen.
pub fn run(suites: Vec<Suite>) -> Result<()> {
    shown_on(&mut std::io::stdout(), suites)
}

fn shown_on(to: &mut (impl Write + Send), suites: Vec<Suite>) -> Result<()> {
    let waiting = Mutex::new(VecDeque::from(suites));
    let over = Mutex::new((to, Vec::new()));
    let start = Instant::now();
    // A suite that panics takes the program along in the end; until then the others go on.
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let worker = || {
        while let Some(suite) = next() {
            let begun = start.elapsed();
            eprintln!("{:>5} s  {} begins", begun.as_secs(), suite.name);
            let mut said = String::new();
            let error = (suite.act)(&mut said).err();
            let ended = start.elapsed();
            let word = if error.is_some() { "FAILED" } else { "ok" };
            let mut over = over.lock().unwrap_or_else(PoisonError::into_inner);
            let (to, over) = &mut *over;
            writeln!(to, "\n     Running {}\n{}\n     {}: {word}", suite.name, said.trim_end(), suite.name)?;
            over.push(Over { name: suite.name, begun, ended, error });
        }
        anyhow::Ok(())
    };
    std::thread::scope(|scope| {
        let workers = [(); BESIDE].map(|()| scope.spawn(worker));
        workers.into_iter().try_for_each(|worker| worker.join().unwrap_or_else(|why| resume_unwind(why)))
    })?;
    let (to, mut over) = over.into_inner().unwrap_or_else(PoisonError::into_inner);
    over.sort_by_key(|suite| suite.begun);
    writeln!(to, "\n from   to  seconds since the first suite began")?;
    for suite in &over {
        let word = if suite.error.is_some() { "  FAILED" } else { "" };
        writeln!(to, "{:>5} {:>4}  {}{word}", suite.begun.as_secs(), suite.ended.as_secs(), suite.name)?;
    }
    verdict(over)
}

/// Tells the failures.
fn verdict(over: Vec<Over>) -> Result<()> {
    let failed: Vec<(String, String)> =
        over.into_iter().filter_map(|suite| Some((suite.name, format!("{:#}", suite.error?)))).collect();
    if failed.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = failed.iter().map(|(name, _)| name.as_str()).collect();
    let reasons: Vec<String> = failed.iter().map(|(name, reason)| format!("== {name}\n{reason}")).collect();
    bail!("failed: {}\n{}", names.join(", "), reasons.join("\n"))
}

/// Runs tests, with all that they and what they start say in the file `log`, and adds it to `said`.
///
/// A file, not a pipe: the end of a test program is its end, whatever it left behind with its output in hand.
fn tests(command: &mut Command, log: &Path, said: &mut String) -> Result<()> {
    std::fs::create_dir_all(log.parent().unwrap_or(Path::new("/")))?;
    let file = File::create(log).with_context(|| format!("writing {}", log.display()))?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    let status = command.status().with_context(|| format!("{} cannot start", cargo::shown(command)))?;
    let text = String::from_utf8_lossy(&std::fs::read(log)?).into_owned();
    said.push_str(&text);
    if status.success() {
        return Ok(());
    }
    let failures = Failures::of(&text);
    bail!("{} ended with {status}\n{}", cargo::shown(command), failures.told())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// What was shown, and how it ended.
    fn ran(suites: Vec<Suite>) -> (String, Result<()>) {
        let mut shown = Vec::new();
        let end = shown_on(&mut shown, suites);
        (String::from_utf8(shown).unwrap(), end)
    }

    fn says(name: &'static str, script: &str) -> Suite {
        let file = own(name);
        let script = script.to_owned();
        Suite::new(name, move |said| {
            let end = tests(Command::new("sh").args(["-c", &script]), &file, said);
            std::fs::remove_file(file)?;
            end
        })
    }

    fn own(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("xtask-suites-{}-{name}", std::process::id()))
    }

    #[test]
    fn tests_that_fail_are_told_in_the_error_and_tests_that_pass_are_none() {
        ran(vec![says("fine", "echo failures:")]).1.unwrap();
        let bad = "printf 'failures:\n\n---- x stdout ----\nwhy\n'; echo more >&2; exit 101";
        let (shown, end) = ran(vec![says("bad", bad), says("good", "true")]);
        let error = end.unwrap_err().to_string();
        assert!(error.starts_with("failed: bad\n") && error.contains("101"), "{error}");
        assert!(error.ends_with("---- x stdout ----\nwhy\nmore") && !error.contains("good"), "{error}");
        assert!(shown.contains("why\nmore\n     bad: FAILED\n") && shown.contains("     good: ok\n"), "{shown}");
    }

    #[test]
    fn every_suite_runs_whichever_failed_and_what_it_left_behind_holds_up_nothing() {
        let (to, order) = mpsc::channel();
        let mut suites: Vec<Suite> = (0..5)
            .map(|n| {
                let to = to.clone();
                Suite::new(n.to_string(), move |_| {
                    to.send(n)?;
                    if n == 1 { bail!("no") } else { Ok(()) }
                })
            })
            .collect();
        drop(to);
        // It has the output in hand for longer than anybody waits.
        let left = own("left");
        suites.push(says("leaver", &format!("sleep 1000 & echo $! >{}", left.display())));
        let (_, end) = ran(suites);
        let pid = std::fs::read_to_string(&left).unwrap();
        std::fs::remove_file(left).unwrap();
        assert!(Command::new("kill").arg(pid.trim()).status().unwrap().success());
        assert_eq!(end.unwrap_err().to_string(), "failed: 1\n== 1\nno");
        let mut order: Vec<i32> = order.iter().collect();
        order.sort_unstable();
        assert_eq!(order, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn two_suites_run_at_a_time() {
        let (to_first, from_second) = mpsc::channel();
        let (to_second, from_first) = mpsc::channel();
        // Each waits for a word of the other's.
        let meet = |to: mpsc::Sender<()>, from: mpsc::Receiver<()>| {
            move |_: &mut String| {
                to.send(())?;
                Ok(from.recv_timeout(Duration::from_secs(60))?)
            }
        };
        let first = Suite::new("first", meet(to_second, from_second));
        let second = Suite::new("second", meet(to_first, from_first));
        ran(vec![first, second]).1.unwrap();
    }
}
