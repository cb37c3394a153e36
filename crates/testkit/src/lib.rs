//! A whole platform in a test: started as a child the way a person starts it, spoken to as a person speaks to it.
//!
//! Nothing of the product is linked in, so a test can only see what a user or an attacker could see.
//! Everything here panics with a sentence when it cannot do its part: a test has no one to hand an error to.
//!
//! Read [`Platform`] (start, speak, end, nothing left behind), then [`Repo`], [`ModelDouble`], [`Browser`], [`Docker`], [`Outside`], [`Vendors`], [`Temporary`].

mod browser;
mod docker;
mod double;
mod forge;
mod leftovers;
pub mod mirror;
mod oauth;
mod outside;
mod platform;
mod repo;
mod rows;
mod temporary;
mod tls_front;
mod vendors;
mod wire;

pub use browser::Browser;
pub use docker::Docker;
pub use double::{ModelDouble, Request, Turn};
pub use forge::Forge;
pub use leftovers::leftovers;
pub use oauth::{Mood, OauthDouble, OauthRequest, Tokens};
pub use outside::Outside;
pub use platform::{ENGINE, Platform};
pub use repo::Repo;
pub use rows::shell_capability;
pub use temporary::Temporary;
pub use tls_front::TlsFront;
pub use vendors::{INSTALLATION, Minted, Vendors};

use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

/// Longest that anything in a test is waited for, in seconds. Far above what is ever needed: it ends a test that
/// hangs, and decides none.
pub const PATIENCE_SECS: u64 = 120;

/// Has what a test starts be told to end when the thread of the test does, also when its whole program is killed: drop glue
/// does not run then.
fn held(command: &mut Command) -> &mut Command {
    let parent = rustix::process::getpid();
    // SAFETY: plain system calls, which allocate nothing.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?;
            if rustix::process::getppid() == Some(parent) {
                return Ok(());
            }
            // Whom this is for is gone: nobody reads it.
            Err(rustix::io::Errno::SRCH.into())
        })
    }
}

/// Asks `look` again and again until it gives something.
///
/// # Panics
/// After [`PATIENCE_SECS`], saying `what` was waited for.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(PATIENCE_SECS);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {PATIENCE_SECS} s");
        std::thread::sleep(Duration::from_millis(20));
    }
}
