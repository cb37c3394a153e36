//! One box to a worktree: a second one on the same image would be two file systems writing to one disk.
//!
//! The operator ends a run's box before it makes the next, but not across its own death: its helpers then end their
//! boxes by themselves while the next operator is starting. So each helper locks its run's image, and gives the very
//! file that holds the lock to the loop device: it outlives a helper that was killed, by the time that the kernel takes
//! to tear the box's mounts down, and the lock lives as long as either of them.

use rustix::fs::{FlockOperation, flock};
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the end of the box before may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked for.
const PAUSE: Duration = Duration::from_millis(5);

/// A run's image, held by one helper alone until it and the image's loop device are gone.
#[derive(Debug)]
pub struct Sole(File);

impl Sole {
    /// Takes the image, or the folder that stands for it without root; waits for whoever has it.
    ///
    /// # Errors
    /// `TimedOut` when it is still in use after half a minute; the system's own.
    pub fn take(image: &Path) -> io::Result<Self> {
        Self::take_within(image, PATIENCE)
    }

    pub(crate) fn take_within(image: &Path, patience: Duration) -> io::Result<Self> {
        let end = Instant::now() + patience;
        let file = File::options().read(true).write(!image.is_dir()).open(image)?;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self(file)),
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < end => std::thread::sleep(PAUSE),
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let why = "the run's worktree is still in use by its last box, which does not end";
                    return Err(io::Error::new(io::ErrorKind::TimedOut, why));
                }
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// The image, open for reading and writing; without root the folder, open for reading.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn an_image_is_held_by_one_alone_and_free_when_he_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        fs::write(&image, b"").unwrap();
        let first = Sole::take(&image).unwrap();
        let second = Sole::take_within(&image, Duration::ZERO).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::TimedOut);
        drop(first);
        // What a neighbour starts holds a copy of the lock between its fork and its exec.
        drop(Sole::take(&image).unwrap());
    }
}
