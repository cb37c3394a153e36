//! For which profiles a box is to wait on the host: those that were run last, as they are written now.
//!
//! The files are looked at every second, so an edit of a profile empties the pool of what was made by it within
//! that; it is no wall, because the host gives a box only to a run of the very profile that it was made for.

use crate::app::App;
use crate::profiles;
use api::link::Down;
use model::Profile;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// How often the files of the profiles are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The profiles that were run last, and what the operator was told of them.
#[derive(Debug)]
pub struct Wanted {
    most: usize,
    state: Mutex<State>,
    news: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Names, the last one first.
    names: Vec<String>,
    told: Option<Vec<Profile>>,
}

impl Wanted {
    /// At most `most` boxes are to wait; until something is run, one of the built-in profile's name.
    #[must_use]
    pub fn new(most: usize) -> Self {
        let wanted = Self { most, state: Mutex::default(), news: Notify::new() };
        wanted.ran(profiles::DEFAULT);
        wanted
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A run of this profile was sent to the host.
    pub fn ran(&self, profile: &str) {
        let mut state = self.state();
        state.names.retain(|name| name != profile);
        state.names.insert(0, profile.to_owned());
        state.names.truncate(self.most);
        self.news.notify_one();
    }

    /// The operator that is linked now was told nothing.
    pub fn forget_told(&self) {
        self.state().told = None;
        self.news.notify_one();
    }
}

/// Tells the operator whenever what it was told is no longer so; does not return.
pub async fn keep(app: &App) {
    if app.warm.most == 0 {
        return std::future::pending().await;
    }
    let mut every = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = app.warm.news.notified() => {}
        }
        let Some(link) = app.operator() else { continue };
        let names = app.warm.state().names.clone();
        // A profile that cannot be read has no runs either.
        let profiles: Vec<Profile> = names.iter().filter_map(|name| profiles::load(&app.profiles, name).ok()).collect();
        let mut state = app.warm.state();
        if state.told.as_ref() != Some(&profiles) {
            link.tell(&Down::Warm { profiles: profiles.clone() });
            state.told = Some(profiles);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profiles_run_last_are_wanted_each_once_and_no_more_than_asked_for() {
        let wanted = Wanted::new(2);
        for name in ["a", "b", "a", "c", "c"] {
            wanted.ran(name);
        }
        assert_eq!(wanted.state().names, ["c", "a"]);
        assert_eq!(Wanted::new(2).state().names, [profiles::DEFAULT]);
        let none = Wanted::new(0);
        none.ran("a");
        assert_eq!(none.state().names, [""; 0]);
    }
}
