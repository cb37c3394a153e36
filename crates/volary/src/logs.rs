//! What the processes log: without a value that the process holds, in any of its encodings, and without anything that has the
//! format of a credential.
//!
//! A value is never logged: it lives in a `Secret`, which does not print itself. What others wrote and a line quotes (a
//! name, a path, an error of a far side) is scrubbed here, once, whoever logs it: by what the process holds at that moment
//! (the server every secret that is set, the gateway what it was given in the last hour), and by format. The operator and
//! `up` hold no value: their lines are scrubbed by format alone.
//!
//! What a peer can make a library say is not logged, but for errors; and `up` bounds each file ([`bound`]).

use scrub::{Current, Formats, FormatsError, Scrubber};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
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
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    Ok(())
}

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
    scrubber: Scrubber,
    to: W,
}

impl<'a, W: Write, F: Fn() -> W + 'a> MakeWriter<'a> for Lines<F> {
    type Writer = Line<W>;
    fn make_writer(&'a self) -> Self::Writer {
        Line { scrubber: self.current.get().unwrap_or_else(|| self.formats.clone()), to: (self.to)() }
    }
}

impl<W: Write> Write for Line<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.to.write_all(&self.scrubber.scrub(line))?;
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
    #[test]
    fn a_line_is_scrubbed_by_the_values_that_the_process_holds_when_it_is_logged() {
        let (kept, current, held) = (Kept::default(), Current::default(), Arc::new(Mutex::new(Vec::new())));
        let (to, values) = (kept.clone(), held.clone());
        let lines = Lines::to(&current, move || to.clone()).unwrap();
        let scrubber = move || {
            Scrubber::new(
                values
                    .lock()
                    .unwrap()
                    .iter()
                    .map(|value: &String| ("capability/live".to_owned(), model::Secret::new(value.clone()))),
            )
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
