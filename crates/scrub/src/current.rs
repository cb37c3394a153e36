//! The scrubber that a process has now: for what is scrubbed by whatever values it holds at that moment, as its log is.

use crate::Scrubber;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// Where the scrubber of the moment is asked for. Clones are one and the same.
#[derive(Clone, Default)]
pub struct Current(Arc<OnceLock<Source>>);

type Source = Box<dyn Fn() -> Scrubber + Send + Sync>;

impl Current {
    /// From here on it is what `source` gives, which is asked anew each time, on any thread: it must neither log nor wait
    /// for whoever does. Who said so first stays.
    pub fn is(&self, source: impl Fn() -> Scrubber + Send + Sync + 'static) {
        // A second one is a mistake that leaves the first in its place.
        drop(self.0.set(Box::new(source)));
    }

    /// The scrubber of this moment; none before anybody said where it is.
    #[must_use]
    pub fn get(&self) -> Option<Scrubber> {
        self.0.get().map(|source| source())
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Current")
    }
}
