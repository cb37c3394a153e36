//! What the processes log: without a value that the process holds, in any of its encodings, and without anything that has the
//! format of a credential.
//!
//! A value is never logged: it lives in a `Secret`, which does not print itself. What others wrote and a line quotes (a
//! name, a path, an error of a far side) is scrubbed here, once, whoever logs it: by what the process holds at that moment
//! (the server every secret that is set, the gateway what it was given in the last hour), and by format. The operator and
//! `up` hold no value: their lines are scrubbed by format alone.
//!
//! A thread that panics waits for no lock: it may be the one that has it. What it says while it changes the values cannot be
//! scrubbed, and is withheld; where in the program it was is said.
//!
//! What a peer can make a library say is not logged, but for errors; and `up` bounds each file ([`bound`]).

use crate::commands::show;
use scrub::{Current, Formats, FormatsError, Now, Scrubber};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Longest log of one process, in bytes; as much of what stood before it is kept beside it.
const LONGEST: u64 = 16 << 20;
/// What is logged: our own lines, and of libraries, which say what peers do, errors alone.
const LEVELS: &str = "error,volary=info,api=info,gateway=info,model=info,operator=info,policy=info,sandbox=info,scrub=info,server=info,store=info,vault=info,evidence=info";

/// Begins the logs of this folder anew that have become too long: what stood in `gateway` stands in `gateway.1` then.
///
/// A process writes to the end of a file that was opened for it, and goes on doing so. What it says in the moment between
/// the copy and the cut is lost.
///
/// # Errors
/// The system's; a log of which no copy could be made is cut all the same.
pub fn bound(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let (path, entry) = (folder, entry?);
        let path = path.join(entry.file_name());
        let is_old = path.extension().is_some();
        if is_old || !entry.file_type()?.is_file() || entry.metadata()?.len() < LONGEST {
            continue;
        }
        let mut old = OsString::from(&path);
        old.push(".1");
        let kept = fs::copy(&path, &old);
        File::options().write(true).open(&path)?.set_len(0)?;
        kept?;
    }
    Ok(())
}

/// Bytes of a log's end in which its last line is looked for.
const END: u64 = 4096;

/// The last line of a log, in one line of at most 500 characters; none where there is none, or it cannot be read.
pub fn last_line(log: &Path) -> Option<String> {
    let mut file = File::open(log).ok()?;
    file.seek(SeekFrom::End(0)).ok()?;
    let length = file.stream_position().ok()?;
    file.seek(SeekFrom::Start(length.saturating_sub(END))).ok()?;
    let mut end = Vec::new();
    file.take(END).read_to_end(&mut end).ok()?;
    let end = String::from_utf8_lossy(&end);
    let line = end.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    Some(show::short(line.trim_end_matches('.'), 500))
}

/// From here on this process's log goes to its standard error, what it says when it panics too; scrubbed by `current` where
/// there is one.
///
/// # Errors
/// [`FormatsError`]: nothing could be scrubbed, so nothing may be logged.
pub fn begin(current: &Current) -> Result<(), FormatsError> {
    tracing_subscriber::fmt()
        .with_writer(Lines::to(current, io::stderr)?)
        .with_ansi(false)
        .with_env_filter(EnvFilter::new(LEVELS))
        .init();
    let current = current.clone();
    std::panic::set_hook(Box::new(move |panic| match (current.get(), panic.location()) {
        // A place in the program holds no value.
        (Now::Locked, Some(place)) => drop(writeln!(io::stderr(), "a panic at {place}. {WITHHELD}")),
        _ => tracing::error!("{panic}"),
    }));
    Ok(())
}

/// In the place of what cannot be scrubbed.
pub const WITHHELD: &str = "What it says is not shown: its thread panics while it changes what is scrubbed.";

/// Lines on their way to where `to` says.
struct Lines<F> {
    formats: Scrubber,
    current: Current,
    to: F,
}

impl<W: Write, F: Fn() -> W> Lines<F> {
    fn to(current: &Current, to: F) -> Result<Self, FormatsError> {
        Ok(Self { formats: Scrubber::new([]).with_formats(Formats::load()?), current: current.clone(), to })
    }
}

/// One line, or several; a line comes in one piece.
struct Line<W> {
    /// None: it is withheld.
    scrubber: Option<Scrubber>,
    to: W,
}

impl<'a, W: Write, F: Fn() -> W + 'a> MakeWriter<'a> for Lines<F> {
    type Writer = Line<W>;
    fn make_writer(&'a self) -> Self::Writer {
        let scrubber = match self.current.get() {
            Now::NoValues => Some(self.formats.clone()),
            Now::Scrubber(scrubber) => Some(scrubber),
            Now::Locked => None,
        };
        Line { scrubber, to: (self.to)() }
    }
}

impl<W: Write> Write for Line<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match &self.scrubber {
            Some(scrubber) => self.to.write_all(&scrubber.scrub(line))?,
            None => self.to.write_all(format!("a line. {WITHHELD}\n").as_bytes())?,
        }
        Ok(line.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_that_reaches_16_mib_begins_anew_its_writer_goes_on_and_one_old_one_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mut log = File::options().create(true).append(true).open(at("gateway")).unwrap();
        fs::write(at("server"), "short").unwrap();
        let length = |name: &str| fs::metadata(at(name)).map(|file| file.len()).ok();
        for times in 1..=3u8 {
            let line = vec![b'0' + times; 1 << 20];
            (0..15).for_each(|_| log.write_all(&line).unwrap());
            bound(folder.path()).unwrap();
            assert_eq!(length("gateway"), Some(15 << 20), "it is not too long");
            log.write_all(&line).unwrap();
            bound(folder.path()).unwrap();
            assert_eq!((length("gateway"), length("gateway.1")), (Some(0), Some(16 << 20)));
            assert_eq!(fs::read(at("gateway.1")).unwrap()[0], b'0' + times, "the last one is kept");
        }
        log.write_all(b"and on").unwrap();
        bound(folder.path()).unwrap();
        assert_eq!(fs::read(at("gateway")).unwrap(), b"and on");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "only logs that are too long are cut");
    }

    #[test]
    fn what_a_peer_makes_a_library_say_is_not_logged_and_each_crate_of_ours_is() {
        let kept = Kept::default();
        let to = kept.clone();
        let lines = Lines::to(&Current::default(), move || to.clone()).unwrap();
        let levels = EnvFilter::new(LEVELS);
        let logger = tracing_subscriber::fmt().with_writer(lines).with_ansi(false).with_env_filter(levels).finish();
        tracing::subscriber::with_default(logger, || {
            tracing::warn!(target: "h2::proto::streams::recv", "recv_reset");
            tracing::warn!(target: "rustls::conn", "a strange message");
            tracing::error!(target: "h2::proto", "broken");
            tracing::info!(target: "gateway::door", "ours");
        });
        let log = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert!(!log.contains("recv_reset") && !log.contains("strange"), "{log}");
        assert!(log.contains("broken") && log.contains("ours"), "{log}");
        // Those that run in boxes, or in tests alone, have no such log.
        for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let elsewhere = ["agent", "runner", "testkit"].contains(&name.as_str());
            assert_eq!(LEVELS.split(',').any(|level| level == format!("{name}=info")), !elsewhere, "{name}");
        }
    }

    #[test]
    fn a_log_line_holds_no_credential_in_its_message_its_fields_or_an_error() {
        let kept = Kept::default();
        let to = kept.clone();
        let lines = Lines::to(&Current::default(), move || to.clone()).unwrap();
        let token = format!("npm_{}", "a1B2".repeat(9));
        let logger = tracing_subscriber::fmt().with_writer(lines).with_ansi(false).finish();
        tracing::subscriber::with_default(logger, || {
            let error = io::Error::other(format!("the far side said {token}"));
            tracing::warn!(%error, quoted = ?token, "a name is {token}");
        });
        let log = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert!(!log.contains(&token), "{log}");
        assert_eq!(log.matches("[redacted: npm-token]").count(), 3, "{log}");
    }

    /// What the test below is, begun anew as a process of its own.
    const PANICS: &str = "VOLARY_TEST_PANICS";

    #[test]
    fn a_panic_of_the_thread_that_changes_the_values_is_told_without_them_and_ends() {
        const NAME: &str = "logs::tests::a_panic_of_the_thread_that_changes_the_values_is_told_without_them_and_ends";
        if std::env::var_os(PANICS).is_some() {
            return panics();
        }
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture"])
            .env(PANICS, "1")
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut err = child.stderr.take().unwrap();
        let said = std::thread::spawn(move || io::read_to_string(&mut err).unwrap());
        let until = std::time::Instant::now() + std::time::Duration::from_secs(120);
        while child.try_wait().unwrap().is_none() {
            if std::time::Instant::now() > until {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("it waits for itself: {}", said.join().unwrap());
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let said = said.join().unwrap();
        assert!(!said.contains("4711"), "{said}");
        assert_eq!(said.matches("a panic at crates/volary/src/logs.rs:").count(), 1, "{said}");
        assert_eq!(said.matches("a line. What it says is not shown").count(), 1, "{said}");
        // The values are there still, also behind a lock that a panic has poisoned.
        assert!(said.contains("and again: [scrubbed:capability/live]") && said.contains("the end"), "{said}");
    }

    /// Panics with the lock in its hands, logs on the way out, and panics again without it.
    fn panics() {
        struct OnTheWayOut;
        impl Drop for OnTheWayOut {
            fn drop(&mut self) {
                tracing::error!("on the way out: plain-words-4711");
            }
        }
        let values = Arc::new(Mutex::new(vec!["plain-words-4711".to_owned()]));
        let (current, held) = (Current::default(), values.clone());
        current.is(move || {
            let held = scrub::unlocked(&held)?;
            let named = |value: &String| ("capability/live".to_owned(), model::Secret::new(value.clone()));
            Some(Scrubber::new(held.iter().map(named)))
        });
        begin(&current).unwrap();
        let panicked = std::thread::spawn(move || {
            let _held = values.lock();
            let _out = OnTheWayOut;
            panic!("with the lock: plain-words-4711");
        });
        assert!(panicked.join().is_err());
        assert!(std::thread::spawn(|| panic!("and again: plain-words-4711")).join().is_err());
        tracing::error!("the end");
    }

    #[test]
    fn a_line_is_scrubbed_by_the_values_that_the_process_holds_when_it_is_logged() {
        let (kept, current, held) = (Kept::default(), Current::default(), Arc::new(Mutex::new(Vec::new())));
        let (to, values) = (kept.clone(), held.clone());
        let lines = Lines::to(&current, move || to.clone()).unwrap();
        let scrubber = move || {
            let values = scrub::unlocked(&values)?;
            let named = |value: &String| ("capability/live".to_owned(), model::Secret::new(value.clone()));
            Some(Scrubber::new(values.iter().map(named)))
        };
        current.is(scrubber);
        let logger = tracing_subscriber::fmt().with_writer(lines).with_ansi(false).finish();
        tracing::subscriber::with_default(logger, || {
            tracing::warn!("before: plain-words-4711");
            held.lock().unwrap().push("plain-words-4711".to_owned());
            tracing::warn!(hex = "706c61696e2d776f7264732d34373131", "plain-words-4711, cGxhaW4td29yZHMtNDcxMQ==");
        });
        let log = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert_eq!(
            (log.matches("[scrubbed:capability/live]").count(), log.matches("plain-words").count()),
            (3, 1),
            "{log}"
        );
    }
}
