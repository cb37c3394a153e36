//! What the processes log: without anything that has the format of a credential.
//!
//! A value is never logged: it lives in a `Secret`, which does not print itself. What others wrote and a line quotes (a
//! name, a path, an error of a far side) is scrubbed here by format, once, whoever logs it.

use scrub::{Formats, FormatsError, Scrubber};
use std::io::{self, Write};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// From here on this process's log goes to its standard error.
///
/// # Errors
/// [`FormatsError`]: nothing could be scrubbed, so nothing may be logged.
pub fn begin() -> Result<(), FormatsError> {
    tracing_subscriber::fmt()
        .with_writer(Lines::to(io::stderr)?)
        .with_ansi(false)
        .with_env_filter(EnvFilter::new("info"))
        .init();
    Ok(())
}

/// Lines on their way to where `to` says.
struct Lines<F> {
    scrubber: Scrubber,
    to: F,
}

impl<W: Write, F: Fn() -> W> Lines<F> {
    fn to(to: F) -> Result<Self, FormatsError> {
        Ok(Self { scrubber: Scrubber::new([]).with_formats(Formats::load()?), to })
    }
}

/// One line, or several; a line comes in one piece.
struct Line<'a, W> {
    scrubber: &'a Scrubber,
    to: W,
}

impl<'a, W: Write, F: Fn() -> W + 'a> MakeWriter<'a> for Lines<F> {
    type Writer = Line<'a, W>;
    fn make_writer(&'a self) -> Self::Writer {
        Line { scrubber: &self.scrubber, to: (self.to)() }
    }
}

impl<W: Write> Write for Line<'_, W> {
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
        let lines = Lines::to(move || to.clone()).unwrap();
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
}
