//! The warm pool: boxes that are made ahead of the runs that claim them.
//!
//! The server says for which profiles, as they are now, a box is to wait ([`Engine::keep_warm`]); a thread of the pool's
//! own makes what is missing and ends what is no longer wanted. A run gets the box that waits for its very profile, if
//! it has no worktree yet; no box is given twice, because it leaves the pool with that. Whatever is wrong with a warm
//! box, the run gets a cold one: the pool makes nothing fail.
//!
//! Read [`Pool::create`](Engine::create), then [`Pool::open`].

use crate::engine::{Engine, Made, Trouble, Waits};
use crate::runs::locked;
use model::{BoxId, Profile};
use sandbox::BoxPlan;
use std::fmt::Write;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Memory of the host that stays available beside warm boxes, in MiB: below it none waits.
pub const SPARE_MIB: u64 = 1024;
/// Most boxes that wait, whatever is asked for.
pub const MOST: usize = 8;
/// How long the pool leaves the processors to the run that just begins before it makes the next box.
const REST: Duration = Duration::from_millis(250);
/// How often boxes that wait are looked at, and how long a box that cannot be made is not tried again.
const LOOK: Duration = Duration::from_secs(30);

/// An engine whose boxes may wait for their runs.
pub struct Pool(Arc<Inner>);

struct Inner {
    engine: Arc<dyn Engine>,
    state: Mutex<State>,
    changed: Condvar,
    /// MiB that the host could give to another process.
    available: Box<dyn Fn() -> u64 + Send + Sync>,
}

#[derive(Default)]
struct State {
    /// For which profiles a box is to wait, the most wanted first.
    wanted: Vec<Profile>,
    waiting: Vec<Waiting>,
    /// None is made before.
    not_before: Option<Instant>,
    /// For which none could be made, and until when that is not tried again: an image that is not here, as a rule.
    refused: Vec<(Profile, Instant)>,
    /// Something is to be done, or to be looked at.
    news: bool,
    /// Nobody holds the pool any more.
    closed: bool,
}

struct Waiting {
    profile: Profile,
    warm: Box<dyn Waits>,
}

impl Pool {
    /// Over `engine`; nothing waits yet. The pool's thread ends with it.
    ///
    /// # Errors
    /// The system's own, when there is no thread for it.
    pub fn open(engine: Arc<dyn Engine>) -> std::io::Result<Self> {
        Self::with_memory(engine, Box::new(available_mib))
    }

    /// The same, with another way to ask for the memory that the host has left.
    ///
    /// # Errors
    /// As of [`Pool::open`].
    pub fn with_memory(
        engine: Arc<dyn Engine>,
        available: Box<dyn Fn() -> u64 + Send + Sync>,
    ) -> std::io::Result<Self> {
        let inner = Arc::new(Inner { engine, state: Mutex::default(), changed: Condvar::new(), available });
        let work = Arc::clone(&inner);
        std::thread::Builder::new().name("pool".into()).spawn(move || tend(&work))?;
        Ok(Self(inner))
    }

    /// How many boxes wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        locked(&self.0.state).waiting.len()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut state = locked(&self.0.state);
        state.closed = true;
        self.0.wake(&mut state);
    }
}

impl Engine for Pool {
    fn create(&self, plan: &BoxPlan) -> Result<Made, Trouble> {
        // A run that had a box before has a worktree, with a uid of its own; its next box is made for it.
        let first = !plan.upper_image.exists();
        if let Some(warm) = first.then(|| self.0.take(&plan.profile)).flatten() {
            match warm.claim(plan) {
                Ok(made) => return Ok(made),
                Err(why) => tracing::warn!(run = %plan.run, why, "a warm box was not claimed; a cold one is made"),
            }
        }
        self.0.engine.create(plan)
    }
    fn prepare(&self, box_id: &BoxId, profile: &Profile) -> Result<Box<dyn Waits>, Trouble> {
        self.0.engine.prepare(box_id, profile)
    }
    fn keep_warm(&self, mut profiles: Vec<Profile>) {
        profiles.truncate(MOST);
        let mut state = locked(&self.0.state);
        // It is told when a run of a new profile begins, which needs the processors first.
        state.not_before = Some(Instant::now() + REST);
        state.wanted = profiles;
        state.refused.clear();
        self.0.wake(&mut state);
    }
    fn drop_worktree(&self, image: &Path) -> Result<(), String> {
        self.0.engine.drop_worktree(image)
    }
}

impl Inner {
    fn wake(&self, state: &mut State) {
        state.news = true;
        self.changed.notify_all();
    }

    /// The box that waits for this profile; it is the caller's alone from here on.
    fn take(&self, profile: &Profile) -> Option<Box<dyn Waits>> {
        let mut state = locked(&self.state);
        let at = state.waiting.iter().position(|one| one.profile == *profile)?;
        let taken = state.waiting.swap_remove(at);
        state.not_before = Some(Instant::now() + REST);
        self.wake(&mut state);
        Some(taken.warm)
    }

    /// Takes out what is not to wait any longer.
    fn sort_out(&self) -> Vec<Waiting> {
        let short = (self.available)() < SPARE_MIB;
        let mut state = locked(&self.state);
        let State { wanted, waiting, .. } = &mut *state;
        let keep = |one: &Waiting| !short && wanted.contains(&one.profile) && one.warm.is_alive();
        let (stay, go): (Vec<_>, Vec<_>) = std::mem::take(waiting).into_iter().partition(keep);
        *waiting = stay;
        go
    }

    /// The next profile for which a box is to be made now.
    fn missing(&self) -> Option<Profile> {
        let (state, now) = (locked(&self.state), Instant::now());
        let due = state.not_before.is_none_or(|time| time <= now);
        let has = |profile: &Profile| state.waiting.iter().any(|one| one.profile == *profile);
        let rests = |profile: &Profile| state.refused.iter().any(|(one, until)| one == profile && *until > now);
        let next = state.wanted.iter().find(|profile| !has(profile) && !rests(profile)).cloned();
        next.filter(|_| due && (self.available)() >= SPARE_MIB)
    }

    /// Makes one; whether it is still wanted then is looked at like of every other.
    fn add(&self, profile: Profile) {
        let made = name().and_then(|name| self.engine.prepare(&name, &profile).map_err(|trouble| trouble.what));
        let mut state = locked(&self.state);
        match made {
            Ok(warm) => state.waiting.push(Waiting { profile, warm }),
            Err(why) => {
                tracing::warn!(why, "no box waits for the next run: it cannot be made");
                state.refused.push((profile, Instant::now() + LOOK));
            }
        }
    }

    /// Waits for news, for the time to make the next, or for the next look.
    fn rest(&self) {
        let mut state = locked(&self.state);
        if !state.news {
            let times = state.refused.iter().map(|(_, until)| *until).chain(state.not_before);
            let due = times.min().map_or(LOOK, |time| time.saturating_duration_since(Instant::now()));
            let waited = self.changed.wait_timeout(state, due.clamp(Duration::from_millis(1), LOOK));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.news = false;
        let now = Instant::now();
        state.not_before = state.not_before.filter(|time| *time > now);
        state.refused.retain(|(_, until)| *until > now);
    }
}

/// The pool's thread: until nobody holds the pool any more.
fn tend(pool: &Inner) {
    while !locked(&pool.state).closed {
        // Ended outside the lock: that takes a while, and a run may want another one meanwhile.
        drop(pool.sort_out());
        match pool.missing() {
            Some(profile) => pool.add(profile),
            None => pool.rest(),
        }
    }
}

/// A name for a box that has no run yet: 26 characters, as the server's.
fn name() -> Result<BoxId, String> {
    let mut bytes = [0; 13];
    let filled = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty());
    if filled != Ok(bytes.len()) {
        return Err("no random name for a box".into());
    }
    let mut name = String::new();
    for byte in bytes {
        // Writing to a text cannot fail.
        write!(name, "{byte:02x}").map_err(|e| e.to_string())?;
    }
    BoxId::parse(&name).map_err(|e| e.to_string())
}

/// By the kernel's own estimate; nothing when it gives none.
fn available_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) >> 10
}
