//! The scrubber that a process has now: for what is scrubbed by whatever values it holds at that moment, as its log is.
//!
//! A thread that panics logs too, and may hold the lock under which the values are changed: it never waits for it
//! ([`unlocked`]).

use crate::Scrubber;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};

/// Where the scrubber of the moment is asked for. Clones are one and the same.
#[derive(Clone, Default)]
pub struct Current(Arc<OnceLock<Source>>);

type Source = Box<dyn Fn() -> Option<Scrubber> + Send + Sync>;

/// What [`Current::get`] gives.
#[derive(Debug)]
pub enum Now {
    /// Nobody has said where it is: the process holds no value.
    NoValues,
    /// It is this.
    Scrubber(Scrubber),
    /// It is being changed, and the thread that asks panics: what that has to say cannot be scrubbed, and is not to be shown.
    Locked,
}

impl Current {
    /// From here on it is what `source` gives, which is asked anew each time, on any thread: it must neither log nor wait
    /// for whoever does, and on a thread that panics it must wait for nobody ([`unlocked`]) and may give none. Who said so
    /// first stays.
    pub fn is(&self, source: impl Fn() -> Option<Scrubber> + Send + Sync + 'static) {
        // A second one is a mistake that leaves the first in its place.
        drop(self.0.set(Box::new(source)));
    }

    /// The scrubber of this moment.
    #[must_use]
    pub fn get(&self) -> Now {
        match self.0.get() {
            None => Now::NoValues,
            Some(source) => source().map_or(Now::Locked, Now::Scrubber),
        }
    }
}

/// Takes a lock for whoever logs: waits for it, unless this thread panics, for then it may be this very thread that has
/// it. None then.
#[must_use]
pub fn unlocked<T>(of: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    if !std::thread::panicking() {
        return Some(of.lock().unwrap_or_else(PoisonError::into_inner));
    }
    match of.try_lock() {
        Ok(free) => Some(free),
        Err(TryLockError::Poisoned(free)) => Some(free.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Current")
    }
}
