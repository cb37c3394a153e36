//! Which limit of its box a command met, in words for the agent and for people.
//!
//! Process 1 cannot see its control group, so it asks the operator, after each command, how often the box met which limit
//! so far: also after one that ended well, for a shell says 0 whatever became of what it started. It asks while the box
//! lives: some engines forget a box together with its last process. What is full it sees itself. Of descriptors the kernel
//! tells the command alone; what the command then says, it says with the limit beside.

use crate::outbox::Outbox;
use api::inbox::{Counts, WORKSPACE};
use model::Limits;
use model::event::Exit;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long an answer may take, in seconds; without one a command has ended as the kernel says.
const ANSWER_SECS: u32 = 60;
/// A file system with less room than this, or than a fiftieth of its size, is full: some of it is kept back for its
/// own tables, and counted late.
const FULL_BYTES: u64 = 4 * 1024 * 1024;
/// A command that ran for less than this was not slowed in a way that anyone would notice.
const SLOW_FROM: Duration = Duration::from_secs(1);
/// The part of a command's time, one of so many, in which its box had used up its share or its rate, for that to be told.
const SLOW_PART: u64 = 5;
/// What the system's libraries say of a process that has as many open files as it may.
const NO_DESCRIPTORS: &str = "Too many open files";
/// Bytes of the end of a command's output, and of its standard error, in which that is looked for at least.
pub const WORDS: usize = 4096;

/// What stood when a command began; what it met itself is what was added by its end.
pub struct Before {
    counts: Counts,
    full: Vec<String>,
}

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
    /// How long it ran, without the time for which its box stood still.
    pub took: Duration,
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

    fn known(&self) -> Counts {
        self.said.borrow().1
    }

    /// To be taken when a command under these limits begins.
    #[must_use]
    pub fn before(&self, limits: &Limits) -> Before {
        Before { counts: self.known(), full: full(limits) }
    }

    /// Returns once `time` has passed, without the time for which the box stood still meanwhile. Only the operator knows how
    /// long that was; without its answer the time is over.
    pub async fn passed(&self, time: Duration) {
        let (began, before) = (Instant::now(), self.known().stood_ms);
        let mut due = time;
        loop {
            tokio::time::sleep_until(began + due).await;
            let now = self.ask().await.unwrap_or_else(|| self.known());
            let later = time + Duration::from_millis(now.stood_ms.saturating_sub(before));
            if later <= due {
                return;
            }
            due = later;
        }
    }

    /// The end of a command that ran for `took`; `words` are the end of its output.
    pub async fn explain(
        &self,
        exit: Exit,
        took: Duration,
        before: &Before,
        limits: &Limits,
        words: impl FnOnce() -> String,
    ) -> Explained {
        let counts = before.counts;
        let at_its_time = matches!(&exit, Exit::Killed { why } if why.contains("time limit"));
        if matches!(exit, Exit::Killed { .. } | Exit::Unknown) && !at_its_time {
            return Explained { exit, beside: Vec::new(), took: lived(took, counts, self.known()) };
        }
        let is_well = matches!(exit, Exit::Code { code: 0 });
        let now = self.ask().await.unwrap_or(counts);
        let took = lived(took, counts, now);
        let mut explained = explain(exit, took, counts, now, limits);
        explained.beside.extend(slowed(took, counts, now, limits));
        explained.beside.extend(held_up(took, counts, now, limits));
        if !at_its_time {
            // What an earlier command filled is nothing to one that ended well.
            let told = full(limits).into_iter().filter(|place| !is_well || !before.full.contains(place));
            explained.beside.extend(told);
            explained.beside.extend(without_descriptors(&words(), limits));
        }
        explained
    }

    async fn ask(&self) -> Option<Counts> {
        let mut mine = 0;
        self.asked.send_modify(|asked| {
            *asked += 1;
            mine = *asked;
        });
        // A task of its own: a question that is counted is asked, also when nobody waits for its answer any more.
        let outbox = self.outbox.clone();
        tokio::task::spawn_local(async move { outbox.ask().await });
        let mut said = self.said.subscribe();
        let answer = said.wait_for(|(asked, _)| *asked >= mine);
        tokio::pin!(answer);
        for _ in 0..ANSWER_SECS {
            // A second of a box that stands still is one second too, however long it is.
            if let Ok(said) = tokio::time::timeout(Duration::from_secs(1), &mut answer).await {
                return said.ok().map(|said| said.1);
            }
        }
        None
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

/// What of `took` the box did not stand still for.
fn lived(took: Duration, before: Counts, now: Counts) -> Duration {
    took.saturating_sub(Duration::from_millis(now.stood_ms.saturating_sub(before.stood_ms)))
}

fn explain(exit: Exit, took: Duration, before: Counts, now: Counts, limits: &Limits) -> Explained {
    let memory = format!("memory limit {} MiB", limits.memory_mib);
    let killed = now.memory_kills > before.memory_kills;
    let mut beside = Vec::new();
    if now.process_refusals > before.process_refusals {
        beside.push(format!("met the limit of {} processes", limits.processes));
    }
    // A shell says 137 of what was killed before its eyes.
    if killed && matches!(exit, Exit::Signal { signal: libc::SIGKILL } | Exit::Code { code: 137 }) {
        return Explained { exit: Exit::Killed { why: format!("killed: {memory}") }, beside, took };
    }
    if killed {
        beside.push(format!("a process of it was killed: {memory}"));
    }
    Explained { exit, beside, took }
}

/// How long a command's box stood still because it had used up its share of the processor, if that is worth telling.
fn slowed(took: Duration, before: Counts, now: Counts, limits: &Limits) -> Option<String> {
    let periods = now.throttled.saturating_sub(before.throttled);
    // One that used up its share just when it was given anew did not stand still.
    let time = now.throttled_ms.saturating_sub(before.throttled_ms) / 100;
    let part_of = worth_telling(took, periods.min(time))?;
    let (whole, part) = (limits.cpu_millis / 1000, limits.cpu_millis % 1000);
    let share = format!("{whole}.{part:03}");
    let share = share.trim_end_matches('0').trim_end_matches('.');
    Some(format!("slowed: its box met the limit of {share} processors in {part_of}"))
}

/// How long a command's box was held up because it said more than it may in a second, if that is worth telling.
fn held_up(took: Duration, before: Counts, now: Counts, limits: &Limits) -> Option<String> {
    let part_of = worth_telling(took, now.held_ms.saturating_sub(before.held_ms) / 100)?;
    let rate = match limits.output_kib_per_second {
        kib if kib.is_multiple_of(1024) => format!("{} MiB", kib >> 10),
        kib => format!("{kib} KiB"),
    };
    Some(format!("slowed: its box met the limit of {rate} of output in a second in {part_of}"))
}

/// So many tenths of a second of what a command took, in words, if it took long enough and they are enough of it.
fn worth_telling(took: Duration, still: u64) -> Option<String> {
    let tenths = u64::try_from(took.as_millis() / 100).unwrap_or(u64::MAX);
    let still = still.min(tenths);
    let tell = |tenths: u64| format!("{}.{} s", tenths / 10, tenths % 10);
    (took >= SLOW_FROM && still >= tenths.div_ceil(SLOW_PART)).then(|| format!("{} of {}", tell(still), tell(tenths)))
}

/// What a command said of its open files, with the limit that it cannot know of.
fn without_descriptors(words: &str, limits: &Limits) -> Option<String> {
    let said = || format!("it says {NO_DESCRIPTORS:?}: the limit is {} for one process", limits.open_files);
    words.contains(NO_DESCRIPTORS).then(said)
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
    use api::inbox::Kind;
    use std::rc::Rc;
    use tokio::net::unix::pipe;

    const TOOK: Duration = Duration::from_secs(1);

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn time_that_a_box_stood_still_for_is_no_part_of_its_limit_and_a_silent_operator_adds_none() {
        let (ours, theirs) = std::io::pipe().unwrap();
        let mut asked_of = pipe::Receiver::from_owned_fd(ours.into()).unwrap();
        let outbox = pipe::Sender::from_owned_fd(theirs.into()).unwrap();
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let met = Rc::new(Met::new(Outbox::start(outbox)));
                met.hear(0, Counts { stood_ms: 4_000, ..Counts::default() });
                let began = Instant::now();
                let waits = Rc::clone(&met);
                let passed = tokio::task::spawn_local(async move { waits.passed(Duration::from_secs(60)).await });
                // The first question is answered with a pause of 90 s since; the second with no more.
                for asked in 1..=2 {
                    assert_eq!(api::frame::read_bytes(&mut asked_of).await.unwrap(), [Kind::Ask as u8]);
                    met.hear(asked, Counts { stood_ms: 94_000, ..Counts::default() });
                }
                passed.await.unwrap();
                assert_eq!(began.elapsed().as_secs(), 60 + 90);

                // Nobody answers any more: what was known last counts, and the limit holds.
                let began = Instant::now();
                met.passed(Duration::from_secs(60)).await;
                assert_eq!(began.elapsed().as_secs(), 60 + u64::from(ANSWER_SECS));
            })
            .await;
    }

    #[test]
    fn what_a_command_took_is_without_the_time_that_its_box_stood_still() {
        let counts = |stood_ms| Counts { stood_ms, ..Counts::default() };
        let took = Duration::from_secs(10);
        assert_eq!(lived(took, counts(1_000), counts(8_500)), Duration::from_millis(2_500));
        assert_eq!(lived(took, counts(0), counts(60_000)), Duration::ZERO);
    }

    fn limits() -> Limits {
        Limits { memory_mib: 512, processes: 32, ..Limits::default() }
    }

    fn counts(memory_kills: u64, process_refusals: u64) -> Counts {
        Counts { memory_kills, process_refusals, ..Counts::default() }
    }

    #[test]
    fn a_command_was_slowed_when_its_box_stood_still_for_a_fifth_of_its_time_and_a_second_at_least() {
        let told = |took_ms: u64, before: u64, now: u64| {
            let counts = |throttled| Counts { throttled, throttled_ms: throttled * 100, ..Counts::default() };
            let limits = Limits { cpu_millis: 1500, ..Limits::default() };
            slowed(Duration::from_millis(took_ms), counts(before), counts(now), &limits)
        };
        let said = "slowed: its box met the limit of 1.5 processors in 12.0 s of 30.0 s";
        assert_eq!(told(30_000, 7, 127).as_deref(), Some(said));
        assert!(told(30_000, 0, 60).is_some() && told(30_000, 0, 59).is_none() && told(30_000, 100, 120).is_none());
        assert!(told(1000, 0, 10).is_some() && told(999, 0, 10).is_none());
        // Of many processors each is counted; a command's time is its own.
        assert!(told(2000, 0, 1000).unwrap().ends_with("in 2.0 s of 2.0 s"));
        let at_its_end = Counts { throttled: 100, throttled_ms: 90, ..Counts::default() };
        assert_eq!(slowed(Duration::from_secs(10), Counts::default(), at_its_end, &Limits::default()), None);
    }

    #[test]
    fn a_command_whose_box_said_more_than_it_may_in_a_second_for_a_fifth_of_its_time_is_told_so() {
        let told = |took_ms: u64, held_ms: u64| {
            let [before, now] = [500, 500 + held_ms].map(|held_ms| Counts { held_ms, ..Counts::default() });
            held_up(Duration::from_millis(took_ms), before, now, &Limits::default())
        };
        let said = "slowed: its box met the limit of 16 MiB of output in a second in 12.0 s of 30.0 s";
        assert_eq!(told(30_000, 12_000).as_deref(), Some(said));
        assert!(told(30_000, 6_000).is_some() && told(30_000, 5_999).is_none());
        assert!(told(1000, 1000).is_some() && told(999, 999).is_none());
        let held = Counts { held_ms: 2000, ..Counts::default() };
        let limits = Limits { output_kib_per_second: 1500, ..Limits::default() };
        let said = "slowed: its box met the limit of 1500 KiB of output in a second in 2.0 s of 2.0 s";
        assert_eq!(held_up(Duration::from_secs(2), Counts::default(), held, &limits).as_deref(), Some(said));
    }

    #[test]
    fn a_command_that_says_that_it_has_no_descriptors_is_told_how_many_it_may_have() {
        let limits = Limits { open_files: 64, ..Limits::default() };
        let said = without_descriptors("open: Too many open files\n", &limits);
        assert_eq!(said.as_deref(), Some("it says \"Too many open files\": the limit is 64 for one process"));
        assert_eq!(without_descriptors("open: No such file or directory\n", &limits), None);
    }

    #[test]
    fn a_command_that_the_kernel_killed_at_a_limit_says_which() {
        let why = "killed: memory limit 512 MiB".to_owned();
        for exit in [Exit::Signal { signal: 9 }, Exit::Code { code: 137 }] {
            let said = explain(exit, TOOK, counts(0, 0), counts(1, 0), &limits());
            assert_eq!(said, Explained { exit: Exit::Killed { why: why.clone() }, beside: vec![], took: TOOK });
        }
    }

    #[test]
    fn a_command_that_met_a_limit_and_ended_by_itself_keeps_its_status() {
        let said = explain(Exit::Code { code: 2 }, TOOK, counts(3, 0), counts(4, 9), &limits());
        assert_eq!(said.exit, Exit::Code { code: 2 });
        assert_eq!(said.beside, ["met the limit of 32 processes", "a process of it was killed: memory limit 512 MiB"]);
    }

    #[test]
    fn a_command_of_which_a_process_was_killed_or_refused_is_told_so_though_it_ended_with_0() {
        let said = explain(Exit::Code { code: 0 }, TOOK, counts(3, 8), counts(4, 9), &limits());
        assert_eq!(said.exit, Exit::Code { code: 0 });
        assert_eq!(said.beside, ["met the limit of 32 processes", "a process of it was killed: memory limit 512 MiB"]);
    }

    #[test]
    fn a_command_that_ended_with_its_time_is_told_what_it_met_beside() {
        let exit = Exit::Killed { why: "killed: time limit 20 s".into() };
        let said = explain(exit.clone(), TOOK, counts(3, 8), counts(4, 9), &limits());
        assert_eq!(said.exit, exit);
        assert_eq!(said.beside, ["met the limit of 32 processes", "a process of it was killed: memory limit 512 MiB"]);
    }

    #[test]
    fn what_an_earlier_command_met_is_not_this_ones() {
        let said = explain(Exit::Signal { signal: 9 }, TOOK, counts(3, 2), counts(3, 2), &limits());
        assert_eq!(said, Explained { exit: Exit::Signal { signal: 9 }, beside: vec![], took: TOOK });
    }
}
