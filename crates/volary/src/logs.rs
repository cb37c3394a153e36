//! What the processes log: without a value that the process holds, in any of its encodings, and without anything that has the
//! format of a credential.
//!
//! A value is never logged: it lives in a `Secret`, which does not print itself. What others wrote and a line quotes (a
//! name, a path, an error of a far side) is scrubbed here, once, whoever logs it: by what the process holds at that moment
//! (the server every secret that is set, the gateway what it was given in the last hour), and by format. The operator and
//! `up` hold no value: their lines are scrubbed by format alone.

use scrub::{Current, Formats, FormatsError, Scrubber};
use std::io::{self, Write};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// From here on this process's log goes to its standard error, what it says when it panics too; scrubbed by `current` where
/// there is one.
///
/// # Errors
/// [`FormatsError`]: nothing could be scrubbed, so nothing may be logged.
pub fn begin(current: &Current) -> Result<(), FormatsError> {
    tracing_subscriber::fmt()
        .with_writer(Lines::to(current, io::stderr)?)
        .with_ansi(false)
        .with_env_filter(EnvFilter::new("info"))
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
