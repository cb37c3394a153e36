//! Boxes that came to be after they were given up. A Docker engine that was starting a box when its helper was killed
//! may go on with it after everything of it was taken away; so for a while after every such loss it is looked whether
//! there is a box that nobody here holds, and that one is taken away too.
//!
//! Read [`Strays::hold`] (which boxes there may be), then [`watch`] and [`Host::sweep`].

use crate::{Host, group};
use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often it is looked after a loss, and the pause before each look: half a minute in all, several times what a busy
/// engine takes to start a container.
const LOOKS: u32 = 60;
const PAUSE: Duration = Duration::from_millis(500);

/// The boxes that somebody holds, and how often it is still to be looked for others.
#[derive(Debug, Default)]
pub(crate) struct Strays {
    known: Mutex<Known>,
    lost: Condvar,
}

#[derive(Debug, Default)]
struct Known {
    held: HashSet<String>,
    looks: u32,
}

/// Says that its holder answers for the box, until it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    strays: Arc<Strays>,
    name: String,
}

impl Strays {
    /// From here on there may be a box of this name.
    pub(crate) fn hold(self: &Arc<Self>, name: String) -> Held {
        self.known().held.insert(name.clone());
        Held { strays: Arc::clone(self), name }
    }

    /// A box was given up that may still come to be.
    pub(crate) fn lost(&self) {
        self.known().looks = LOOKS;
        self.lost.notify_all();
    }

    fn is_held(&self, name: &str) -> bool {
        self.known().held.contains(name)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // A set and a number are whole whatever happened to who held them.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is to be looked once more.
    fn wait(&self) {
        let known = self.known();
        let due = self.lost.wait_while(known, |known| known.looks == 0);
        due.unwrap_or_else(PoisonError::into_inner).looks -= 1;
        std::thread::sleep(PAUSE);
    }
}

impl Held {
    /// The box was lost: see [`Strays::lost`].
    pub(crate) fn lost(&self) {
        self.strays.lost();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.strays.known().held.remove(&self.name);
    }
}

impl Host {
    /// Takes away every box of this installation that nobody holds; gives their names.
    ///
    /// # Errors
    /// The system's, and the Docker engine's where this installation ever asked one for a box.
    pub fn sweep(&self) -> io::Result<Vec<String>> {
        let (strays, facts) = (self.strays(), self.facts());
        // Looked at before who is held: a box that is begun meanwhile is not among them.
        let mut found: Vec<String> = group::boxes(&facts.cgroup_parent).into_keys().collect();
        found.retain(|name| !strays.is_held(name));
        // What Docker still has of others is taken away, too, where one of these is not.
        let ended = group::reap_these(&facts.cgroup_parent, &found);
        found.extend(crate::docker::sweep(&facts.docker, &facts.dir, &facts.cgroup_parent, |name| {
            strays.is_held(name)
        })?);
        ended?;
        Ok(found)
    }
}

/// Looks for strays after every loss, on a thread of its own, for as long as this process lives; what an earlier one
/// lost counts as a loss.
///
/// # Errors
/// When the thread cannot be started.
pub fn watch(host: Arc<Host>) -> io::Result<()> {
    host.strays().lost();
    let look = move || {
        loop {
            host.strays().wait();
            match host.sweep() {
                Ok(found) => {
                    found.iter().for_each(|name| eprintln!("took away the box {name}, which nobody held any more"))
                }
                Err(e) => eprintln!("look for boxes that nobody holds: {e}"),
            }
        }
    };
    std::thread::Builder::new().name("strays".into()).spawn(look).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_is_held_until_its_holder_is_gone_and_a_loss_is_looked_after_a_while() {
        let strays = Arc::new(Strays::default());
        let held = strays.hold("a".into());
        assert!(strays.is_held("a") && !strays.is_held("b"));
        assert_eq!(strays.known().looks, 0);
        held.lost();
        strays.wait();
        assert_eq!(strays.known().looks, LOOKS - 1);
        drop(held);
        assert!(!strays.is_held("a"));
    }
}
