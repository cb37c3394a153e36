//! The way to a run's repository on its host. The gateway may open none of it: it makes two ends of a socket, has one passed
//! to the operator over the cable, and speaks git's HTTP over the other, to a process that works as the repository's owner.
//!
//! Which repository that is, the operator knows by the run; nothing that is sent says it.
//!
//! Read [`Lines`], then [`Lines::open`].

use crate::refusal::Refusal;
use model::RunId;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

/// Ends that wait for one cable to pass them on.
pub(crate) const WAITING: usize = 16;

/// One end of a socket, for the operator to serve a run's repository on.
pub(crate) struct End {
    pub(crate) run: RunId,
    pub(crate) socket: OwnedFd,
}

/// The cables by which runs are served.
#[derive(Default)]
pub(crate) struct Lines(Mutex<HashMap<RunId, mpsc::Sender<End>>>);

impl Lines {
    fn held(&self) -> MutexGuard<'_, HashMap<RunId, mpsc::Sender<End>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This run is served over that cable from now on.
    pub(crate) fn attach(&self, run: RunId, cable: mpsc::Sender<End>) {
        self.held().insert(run, cable);
    }

    /// It is no longer, if it was over that very one.
    pub(crate) fn detach(&self, run: &RunId, cable: &mpsc::Sender<End>) {
        let mut held = self.held();
        if held.get(run).is_some_and(|of| of.same_channel(cable)) {
            held.remove(run);
        }
    }

    /// A connection to whoever serves the repository of `run`.
    ///
    /// # Errors
    /// A fault when there is nobody, or too much waits.
    pub(crate) fn open(&self, run: &RunId) -> Result<UnixStream, Refusal> {
        let gone = || Refusal::fault("git.cut", "Nobody serves this run's repository at this moment.");
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(|_| gone())?;
        ours.set_nonblocking(true).map_err(|_| gone())?;
        let ours = UnixStream::from_std(ours).map_err(|_| gone())?;
        let cable = self.held().get(run).cloned().ok_or_else(gone)?;
        cable.try_send(End { run: run.clone(), socket: theirs.into() }).map_err(|_| gone())?;
        Ok(ours)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_run_has_its_own_cable_and_none_once_that_is_gone() {
        let (lines, run) = (Lines::default(), RunId::parse("r1").unwrap());
        assert_eq!(lines.open(&run).unwrap_err().rule, "git.cut");
        let ((first, mut ends), (second, _kept)) = (mpsc::channel(1), mpsc::channel(1));
        lines.attach(run.clone(), first.clone());
        lines.open(&run).unwrap();
        assert_eq!(ends.recv().await.unwrap().run, run);
        assert!(lines.open(&RunId::parse("r2").unwrap()).is_err());
        lines.detach(&run, &second);
        lines.open(&run).unwrap();
        assert!(lines.open(&run).is_err(), "it is full");
        lines.detach(&run, &first);
        assert!(lines.open(&run).is_err());
    }
}
