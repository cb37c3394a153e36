//! Which limit of its box a command met, in words for the agent and for people.
//!
//! Process 1 cannot see its control group, so it asks the operator, after a command that did not end well, how often
//! the box met which limit so far. It asks while the box lives: some engines forget a box together with its last
//! process. What is full it sees itself. Descriptors are the command's own affair: the kernel tells it, and nobody else.

use crate::outbox::Outbox;
use api::inbox::{Counts, WORKSPACE};
use model::Limits;
use model::event::Exit;
use std::time::Duration;
use tokio::sync::watch;

/// How long an answer may take; without one a command has ended as the kernel says.
const ANSWER: Duration = Duration::from_secs(10);
/// A file system with less room than this, or than a fiftieth of its size, is full: some of it is kept back for its
/// own tables, and counted late.
const FULL_BYTES: u64 = 4 * 1024 * 1024;

/// What the operator said last, and the way to ask it.
pub struct Met {
    outbox: Outbox,
    asked: watch::Sender<u64>,
    /// The number of questions that were answered, and the answer to the last of them.
    said: watch::Sender<(u64, Counts)>,
}

/// An end in words.
#[derive(Debug, PartialEq, Eq)]
pub struct Explained {
    /// How the command ended; killed by the kernel at a limit, it was killed by us.
    pub exit: Exit,
    /// Limits that it met beside.
    pub beside: Vec<String>,
}

impl Met {
    /// Nothing was said yet.
    #[must_use]
    pub fn new(outbox: Outbox) -> Self {
        Self { outbox, asked: watch::Sender::new(0), said: watch::Sender::new((0, Counts::default())) }
    }

    /// The operator's answer to the first `asked` questions.
    pub fn hear(&self, asked: u64, counts: Counts) {
        self.said.send_replace((asked, counts));
    }

    /// What is known; a command's own is what is said at its end beyond what was known at its beginning.
    #[must_use]
    pub fn known(&self) -> Counts {
        self.said.borrow().1
    }

    /// The end of a command before which `before` was known.
    pub async fn explain(&self, exit: Exit, before: Counts, limits: &Limits) -> Explained {
        if matches!(exit, Exit::Code { code: 0 } | Exit::Killed { .. } | Exit::Unknown) {
            return Explained { exit, beside: Vec::new() };
        }
        let now = self.ask().await.unwrap_or(before);
        let mut explained = explain(exit, before, now, limits);
        explained.beside.extend(full(limits));
        explained
    }

    async fn ask(&self) -> Option<Counts> {
        let mut mine = 0;
        self.asked.send_modify(|asked| {
            *asked += 1;
            mine = *asked;
        });
        self.outbox.ask().await;
        let mut said = self.said.subscribe();
        let answer = tokio::time::timeout(ANSWER, said.wait_for(|(asked, _)| *asked >= mine)).await;
        answer.ok()?.ok().map(|said| said.1)
    }
}

/// An end and the limits beside it, as one sentence.
#[must_use]
pub fn whole(exit: &Exit, beside: &[String]) -> String {
    let how = match exit {
        Exit::Code { code } => format!("exit status {code}"),
        Exit::Signal { signal } => format!("ended by signal {signal}"),
        Exit::Killed { why } => why.clone(),
        Exit::Unknown => "its exit status is not known".to_owned(),
    };
    format!("{how}; {}", beside.join("; "))
}

fn explain(exit: Exit, before: Counts, now: Counts, limits: &Limits) -> Explained {
    let memory = format!("memory limit {} MiB", limits.memory_mib);
    let killed = now.memory_kills > before.memory_kills;
    let mut beside = Vec::new();
    if now.process_refusals > before.process_refusals {
        beside.push(format!("met the limit of {} processes", limits.processes));
    }
    // A shell says 137 of what was killed before its eyes.
    if killed && matches!(exit, Exit::Signal { signal: libc::SIGKILL } | Exit::Code { code: 137 }) {
        return Explained { exit: Exit::Killed { why: format!("killed: {memory}") }, beside };
    }
    if killed {
        beside.push(format!("a process of it was killed: {memory}"));
    }
    Explained { exit, beside }
}

/// The box's places that take nothing more.
fn full(limits: &Limits) -> Vec<String> {
    let places = [
        (WORKSPACE, format!("the worktree is full: limit {} MiB", limits.worktree_mib)),
        ("/tmp", format!("/tmp is full: limit {} MiB", limits.scratch_mib)),
        ("/dev/shm", "/dev/shm is full".to_owned()),
    ];
    let found = places.into_iter().filter_map(|(path, full)| {
        let about = rustix::fs::statvfs(path).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(about.f_frsize);
        if bytes(about.f_bavail) < FULL_BYTES.min(bytes(about.f_blocks) / 50) {
            return Some(full);
        }
        // Where files are not counted there are none of them at all.
        (about.f_files > 0 && about.f_favail == 0)
            .then(|| format!("{path} holds as many files as it may: {}", about.f_files))
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits { memory_mib: 512, processes: 32, ..Limits::default() }
    }

    fn counts(memory_kills: u64, process_refusals: u64) -> Counts {
        Counts { memory_kills, process_refusals }
    }

    #[test]
    fn a_command_that_the_kernel_killed_at_a_limit_says_which() {
        let why = "killed: memory limit 512 MiB".to_owned();
        for exit in [Exit::Signal { signal: 9 }, Exit::Code { code: 137 }] {
            let said = explain(exit, counts(0, 0), counts(1, 0), &limits());
            assert_eq!(said, Explained { exit: Exit::Killed { why: why.clone() }, beside: vec![] });
        }
    }

    #[test]
    fn a_command_that_met_a_limit_and_ended_by_itself_keeps_its_status() {
        let said = explain(Exit::Code { code: 2 }, counts(3, 0), counts(4, 9), &limits());
        assert_eq!(said.exit, Exit::Code { code: 2 });
        assert_eq!(said.beside, ["met the limit of 32 processes", "a process of it was killed: memory limit 512 MiB"]);
    }

    #[test]
    fn what_an_earlier_command_met_is_not_this_ones() {
        let said = explain(Exit::Signal { signal: 9 }, counts(3, 2), counts(3, 2), &limits());
        assert_eq!(said, Explained { exit: Exit::Signal { signal: 9 }, beside: vec![] });
    }
}
