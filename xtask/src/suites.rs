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

    /// One that is a program of libtest, or several of them one after the other. Its error holds what its failed tests said.
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
    shown_on(&mut std::io::stdout(), std::io::stderr, suites)
}

/// What they say goes to `to`, and which one begins to what `beside` gives.
fn shown_on<B: Write>(to: &mut (impl Write + Send), beside: impl Fn() -> B + Sync, suites: Vec<Suite>) -> Result<()> {
    let waiting = Mutex::new(VecDeque::from(suites));
    let over = Mutex::new((to, Vec::new()));
    let start = Instant::now();
    // What was not shown is an error in the end; until then the suites go on.
    let unshown = Mutex::new(None);
    let note = |written: std::io::Result<()>| {
        if let Err(error) = written {
            unshown.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    };
    // A suite that panics takes the program along in the end; until then the others go on.
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let worker = || {
        while let Some(suite) = next() {
            let begun = start.elapsed();
            note(writeln!(beside(), "{:>5} s  {} begins", begun.as_secs(), suite.name));
            let mut said = String::new();
            let error = (suite.act)(&mut said).err();
            let ended = start.elapsed();
            let word = if error.is_some() { "FAILED" } else { "ok" };
            let mut over = over.lock().unwrap_or_else(PoisonError::into_inner);
            let (to, over) = &mut *over;
            note(writeln!(to, "\n     Running {}\n{}\n     {}: {word}", suite.name, said.trim_end(), suite.name));
            over.push(Over { name: suite.name, begun, ended, error });
        }
    };
    std::thread::scope(|scope| {
        let workers = [(); BESIDE].map(|()| scope.spawn(worker));
        workers.into_iter().for_each(|worker| worker.join().unwrap_or_else(|why| resume_unwind(why)));
    });
    let (to, mut over) = over.into_inner().unwrap_or_else(PoisonError::into_inner);
    over.sort_by_key(|suite| suite.begun);
    let mut table = String::from("\n from   to  seconds since the first suite began\n");
    for suite in &over {
        let word = if suite.error.is_some() { "  FAILED" } else { "" };
        table.push_str(&format!("{:>5} {:>4}  {}{word}\n", suite.begun.as_secs(), suite.ended.as_secs(), suite.name));
    }
    note(to.write_all(table.as_bytes()));
    verdict(over)?;
    match unshown.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error).context("all suites passed, and not all that they said could be shown"),
        None => Ok(()),
    }
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
    let status = cargo::held(command).status().with_context(|| format!("{} cannot start", cargo::shown(command)))?;
    let text = std::fs::read(log).with_context(|| format!("reading {}", log.display()))?;
    let text = String::from_utf8_lossy(&text).into_owned();
    said.push_str(&text);
    if !status.success() {
        bail!("{} ended with {status}\n{}", cargo::shown(command), Failures::of(&text).told());
    }
    all_ran(&text)
        .with_context(|| format!("{} ended with {status}, but not as tests that passed do", cargo::shown(command)))
}

/// How a program of libtest begins to tell its result.
const RESULT: &str = "test result: ";
/// Lines after that one in which the rest of it is looked for: libtest writes it in three pieces, to a file that it shares
/// with what its tests started, and a line of theirs may stand between any two.
const LATER: usize = 3;

/// Whether each program of libtest that spoke here came to its own end, with every test that it began told of: a test that
/// ends its whole process with status 0 would pass otherwise, and all after it with it.
///
/// # Errors
/// What is missing, or counted otherwise.
pub fn all_ran(said: &str) -> Result<()> {
    let (mut programs, mut begun) = (0, None);
    let lines: Vec<&str> = said.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        if let Some(count) = began(line) {
            if let Some(before) = begun.replace(count) {
                bail!("a program began {before} tests and gave no result of them");
            }
        } else if let Some(result) = line.strip_prefix(RESULT) {
            let counted = passed(result, &lines[at + 1..])
                .with_context(|| format!("a result that is none of tests that passed: {line}"))?;
            match begun.take() {
                Some(count) if count == counted => programs += 1,
                Some(count) => bail!("{count} tests began, and the result is of {counted}: {line}"),
                None => bail!("a result of tests that nobody began: {line}"),
            }
        }
    }
    match begun {
        Some(count) => bail!("{count} tests began, and there is no result of them"),
        None if programs == 0 => bail!("no program said that it runs tests"),
        None => Ok(()),
    }
}

/// How many tests a program says here that it begins.
fn began(line: &str) -> Option<u64> {
    let rest = line.strip_prefix("running ")?;
    rest.strip_suffix(" tests").or_else(|| rest.strip_suffix(" test"))?.parse().ok()
}

/// The tests in a result without a failure: those that passed, were ignored, or were measured.
fn passed(result: &str, after: &[&str]) -> Option<u64> {
    let later = after.iter().take(LATER).take_while(|line| began(line).is_none() && !line.starts_with(RESULT));
    let (word, counts) = std::iter::once(&result).chain(later).find_map(|line| counts(line))?;
    if result.starts_with("FAILED") || word.ends_with("FAILED") {
        return None;
    }
    let mut sum = 0;
    for part in counts.split("; ") {
        // A word of another's may follow.
        let Some((count, what)) = part.split_once(' ') else { continue };
        match what {
            "failed" if count != "0" => return None,
            "passed" | "ignored" | "measured" => sum += count.parse::<u64>().ok()?,
            _ => {}
        }
    }
    Some(sum)
}

/// What stands before the counts of a result in this line, and the counts.
fn counts(line: &str) -> Option<(&str, &str)> {
    let (before, _) = line.split_once(" passed; ")?;
    let (word, _) = before.rsplit_once(". ")?;
    Some((word, &line[word.len() + ". ".len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// What was shown, and how it ended.
    fn ran(suites: Vec<Suite>) -> (String, Result<()>) {
        let mut shown = Vec::new();
        let end = shown_on(&mut shown, std::io::sink, suites);
        (String::from_utf8(shown).unwrap(), end)
    }

    fn says(name: &'static str, script: &str) -> Suite {
        let file = own(name);
        let script = format!("cat <<'X'\n{}X\n{script}", whole(1));
        Suite::new(name, move |said| {
            let end = tests(Command::new("sh").args(["-c", &script]), &file, said);
            std::fs::remove_file(file)?;
            end
        })
    }

    /// What a program of libtest says of `count` tests that passed.
    fn whole(count: u64) -> String {
        format!(
            "running {count} tests\n\ntest result: ok. {count} passed; 0 failed; 0 ignored; 0 measured; 9 filtered out; finished in 0.01s\n"
        )
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
    fn a_program_passes_by_its_count_and_not_by_its_status_alone() {
        all_ran(&whole(3)).unwrap();
        all_ran(&format!("{}Doc-tests\n{}", whole(0), whole(2))).unwrap();
        all_ran("running 4 tests\ntest result: ok. 1 passed; 0 failed; 2 ignored; 1 measured; 0 filtered out").unwrap();
        // A test may say a word that looks like the beginning of one.
        all_ran(&whole(1).replace("\n\n", "\nrunning late tests\n")).unwrap();
        // What a test started may say something between the pieces of a result.
        for piece in [RESULT, "test result: ok", "filtered out"] {
            for between in ["a late word\n", "one\ntwo\n", "half a line"] {
                all_ran(&whole(3).replace(piece, &format!("{piece}{between}"))).unwrap();
            }
        }
        all_ran(&whole(3).replace("test result: ok", "test result: one\noktwo\n")).unwrap();
        let counts = "3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out";
        for bad in [
            "",
            "running 3 tests\ntest result: a late word\n",
            &format!("running 3 tests\ntest result: FAILEDa late word\n. {counts}"),
            &format!("running 3 tests\ntest result: a late word\nFAILED. {counts}"),
            "running 3 tests\ntest result: okone\n. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out",
            "running 3 tests\ntest result: okone\n. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
            &format!("running 3 tests\ntest result: one\ntwo\nthree\nfour\nok. {counts}"),
            &format!("running 1 test\ntest result: ok\n{}", whole(1)),
            "running 3 tests\ntest a ... ok\n",
            "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
            "running 3 tests\ntest result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out",
            "running 3 tests\ntest result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out",
            "running 3 tests\ntest result: ok. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out",
            &format!("running 2 tests\n{}", whole(1)),
            &format!("{}running 2 tests\n", whole(1)),
        ] {
            assert!(all_ran(bad).is_err(), "{bad}");
        }
        let quits = Suite::new("quits", |said| {
            let file = own("quits");
            let end = tests(Command::new("sh").args(["-c", "echo running 2 tests; exit 0"]), &file, said);
            std::fs::remove_file(file)?;
            end
        });
        let error = ran(vec![quits]).1.unwrap_err().to_string();
        assert!(error.contains("no result"), "{error}");
    }

    #[test]
    fn what_cannot_be_shown_keeps_no_suite_from_running_and_no_failure_from_being_told() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let suites = |fails: bool| -> Vec<Suite> {
            let one = |n: i32| Suite::new(n.to_string(), move |_| if fails && n == 4 { bail!("no") } else { Ok(()) });
            (0..5).map(one).collect()
        };
        let error = shown_on(&mut Closed, std::io::sink, suites(true)).unwrap_err().to_string();
        assert_eq!(error, "failed: 4\n== 4\nno");
        let error = shown_on(&mut Closed, std::io::sink, suites(false)).unwrap_err().to_string();
        assert!(error.contains("could be shown"), "{error}");
    }

    #[test]
    fn what_a_suite_started_ends_with_the_thread_that_waits_for_it() {
        // The kernel's word for a parent is the thread that forked; when this program is killed, all of its threads end.
        let started = std::thread::spawn(|| cargo::held(Command::new("sleep").arg("1000")).spawn().unwrap());
        let status = started.join().unwrap().wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{status}");
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
