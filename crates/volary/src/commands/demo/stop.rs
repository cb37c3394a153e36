//! What can end the demonstration early: Ctrl-C, `kill`, and a reader that goes away.

use std::cell::Cell;
use std::io::{ErrorKind, Write};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Exit status of a demonstration that was stopped before its end, as shells have it for Ctrl-C.
pub const STOPPED: i32 = 130;

/// Ctrl-C and TERM, which from here on end nothing by themselves.
pub struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    /// Takes both signals over.
    ///
    /// # Errors
    /// The kernel's.
    pub fn install() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Returns at the next of them, also at one that came since [`Stop::install`].
    pub async fn asked(&mut self) {
        tokio::select! { _ = self.interrupt.recv() => {}, _ = self.terminate.recv() => {} }
    }
}

/// While it lives, writing to a pipe that no one reads is an error and not the end of this process.
pub struct Pipes(());

impl Pipes {
    /// From here on.
    pub fn are_no_end() -> Self {
        // SAFETY: only sets a disposition; no handler of ours is replaced. What is spawned gets the default again.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
        Self(())
    }
}

impl Drop for Pipes {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    }
}

/// Standard output, which may end before we do. What cannot be written is left out, and remembered.
#[derive(Default)]
pub struct Screen(Cell<Option<ErrorKind>>);

impl Screen {
    /// Writes a line.
    pub fn line(&self, text: &str) {
        self.line_to(&mut Unbuffered, text);
    }

    fn line_to(&self, out: &mut impl Write, text: &str) {
        if self.0.get().is_some() {
            return;
        }
        if let Err(e) = out.write_all(format!("{text}\n").as_bytes()) {
            self.0.set(Some(e.kind()));
        }
    }

    /// Whether anyone still reads.
    ///
    /// # Errors
    /// Why a line could not be written, if it is not that its reader went away.
    pub fn is_read(&self) -> std::io::Result<bool> {
        match self.0.get() {
            None => Ok(true),
            Some(ErrorKind::BrokenPipe) => Ok(false),
            Some(kind) => Err(kind.into()),
        }
    }
}

/// Standard output without the library's buffer, which would try what is left in it once more at the very end.
struct Unbuffered;

impl Write for Unbuffered {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(rustix::io::write(rustix::stdio::stdout(), bytes)?)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Broken(ErrorKind, usize);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            self.1 += 1;
            Err(self.0.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_goes_away_is_no_error_and_is_not_written_to_again() {
        let (screen, mut out) = (Screen::default(), Broken(ErrorKind::BrokenPipe, 0));
        assert!(screen.is_read().unwrap());
        screen.line_to(&mut out, "one");
        screen.line_to(&mut out, "two");
        assert!(!screen.is_read().unwrap());
        assert_eq!(out.1, 1);
    }

    #[test]
    fn a_full_disk_behind_standard_output_is_an_error() {
        let screen = Screen::default();
        screen.line_to(&mut Broken(ErrorKind::StorageFull, 0), "one");
        assert_eq!(screen.is_read().unwrap_err().kind(), ErrorKind::StorageFull);
    }
}
