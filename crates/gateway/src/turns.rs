//! Scrubbing what boxes say beside the thread that serves, so that a costly text delays nobody but its own run.
//!
//! A run, and a text that no live box says, has one turn at a time, and its questions are answered in their order;
//! the answers of different runs may overtake each other. Over all there are [`SCRUBBERS`] turns at once.
//!
//! Read [`Turns::ask`], [`Turns::begin`], then [`Turns::done`].

use crate::recent::Recent;
use anyhow::Context as _;
use api::cable::FromCable;
use model::RunId;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Turns at once, over all runs and operators.
pub(crate) const SCRUBBERS: usize = 2;
/// Bytes of one operator's questions that wait or are at work; beyond them no more is read from it.
const MOST_WAITING: usize = 64 << 20;
/// Texts that may be open at once, beside what boxes say. Each holds back 16 KiB and the longest form of a value at most.
const MAX_TEXTS: usize = 64;

/// Whose turn it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Whose {
    /// A run's: what its box says.
    Run(RunId),
    /// A text's, by its number.
    Text(u64),
}

/// One question.
pub(crate) enum Question {
    /// The next event, or none; `ends` when no other follows it.
    Hear { id: u64, event: Option<String>, ends: bool },
    /// The next piece of a text.
    Scrub { id: u64, text: String, more: bool },
    /// The run is no longer served: what waits of its texts is given to nobody. No answer.
    Forget,
}

/// What is not at its end of one run, or of one text.
#[derive(Default)]
struct Open {
    said: scrub::Said,
    text: Option<scrub::Text>,
}

/// The questions of one run, or of one text.
#[derive(Default)]
struct Line {
    /// None while its turn lasts.
    open: Option<Open>,
    /// With the bytes that each counts for.
    waiting: VecDeque<(Question, usize)>,
}

/// A turn that is over.
struct Done {
    whose: Whose,
    bytes: usize,
    /// None when everything is at its end.
    open: Option<Open>,
    answer: Option<FromCable>,
}

/// The questions of one operator. Dropped, those that wait are forgotten.
pub(crate) struct Turns {
    recent: Arc<Recent>,
    seats: Arc<Semaphore>,
    lines: BTreeMap<Whose, Line>,
    working: JoinSet<anyhow::Result<Done>>,
    bytes: usize,
}

impl Turns {
    /// `seats` are those of all operators: [`SCRUBBERS`].
    pub(crate) fn new(recent: Arc<Recent>, seats: Arc<Semaphore>) -> Self {
        Self { recent, seats, lines: BTreeMap::new(), working: JoinSet::new(), bytes: 0 }
    }

    /// Whether another question may be taken in.
    pub(crate) fn has_room(&self) -> bool {
        self.bytes < MOST_WAITING
    }

    /// Takes a question in, which came in so many bytes.
    pub(crate) fn ask(&mut self, whose: Whose, question: Question, bytes: usize) {
        self.bytes += bytes;
        let line =
            self.lines.entry(whose.clone()).or_insert_with(|| Line { open: Some(Open::default()), ..Line::default() });
        line.waiting.push_back((question, bytes));
        self.begin(whose);
    }

    /// Begins the next turn of a line, unless one lasts.
    fn begin(&mut self, whose: Whose) {
        let Some(line) = self.lines.get_mut(&whose) else { return };
        let Some(open) = line.open.take() else { return };
        let Some((question, bytes)) = line.waiting.pop_front() else {
            line.open = Some(open);
            return;
        };
        let (recent, seats) = (self.recent.clone(), self.seats.clone());
        self.working.spawn(async move {
            let seat = seats.acquire_owned().await.context("there are no turns any more")?;
            let done = tokio::task::spawn_blocking(move || {
                // Of now and not of when it was asked: what was leased meanwhile is looked for too.
                let (open, answer) = question.answer(open, &recent.scrubber(Instant::now()));
                drop(seat);
                Done { whose, bytes, open, answer }
            });
            done.await.context("a text was not scrubbed")
        });
    }

    /// The end of the next turn, with its answer if it has one. Never ends while there is none. May be dropped without loss.
    ///
    /// # Errors
    /// When a scrub did not come to its end: nothing of its text may be passed on.
    pub(crate) async fn done(&mut self) -> anyhow::Result<Option<FromCable>> {
        let Some(done) = self.working.join_next().await else { return std::future::pending().await };
        let Done { whose, bytes, open, answer } = done.context("a text was not scrubbed")??;
        self.bytes -= bytes;
        if let Some(line) = self.lines.get_mut(&whose) {
            if open.is_none() && line.waiting.is_empty() {
                self.lines.remove(&whose);
            } else {
                line.open = Some(open.unwrap_or_default());
                self.begin(whose);
                self.forget_a_text();
            }
        }
        Ok(answer)
    }

    /// Of too many open texts one is given up that nobody asks about.
    fn forget_a_text(&mut self) {
        let texts = || self.lines.range(Whose::Text(0)..);
        if texts().count() > MAX_TEXTS {
            // Numbers rise, and whoever is at work on a text waits for its answer: nobody comes back to this one.
            let idle = texts().find(|(_, line)| line.open.is_some()).map(|(whose, _)| whose.clone());
            idle.map(|whose| self.lines.remove(&whose));
        }
    }
}

impl Question {
    /// The answer, and what is open after it, if anything may be.
    fn answer(self, mut open: Open, scrubber: &scrub::Scrubber) -> (Option<Open>, Option<FromCable>) {
        match self {
            Self::Forget => (None, None),
            Self::Hear { id, event, ends } => {
                let mut events = event.map_or_else(Vec::new, |event| open.said.take(scrubber, &event));
                if ends {
                    events.extend(open.said.end(scrubber));
                }
                ((!ends).then_some(open), Some(FromCable::Heard { id, events, more: false, cut: false }))
            }
            Self::Scrub { id, text, more } => {
                let whole = open.text.get_or_insert_with(|| scrub::Text::new(scrubber));
                let text = whole.take(scrubber, &text, !more);
                (more.then_some(open), Some(FromCable::Scrubbed { id, text, more: false }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Poll;

    fn turns(seats: usize) -> Turns {
        Turns::new(Arc::new(Recent::new().unwrap()), Arc::new(Semaphore::new(seats)))
    }

    fn run(name: &str) -> Whose {
        Whose::Run(RunId::parse(name).unwrap())
    }

    fn said(id: u64, kind: &str, text: &str) -> Question {
        let event = serde_json::json!({"kind": kind, "text": text}).to_string();
        Question::Hear { id, event: Some(event), ends: false }
    }

    async fn heard(turns: &mut Turns) -> (u64, String) {
        match turns.done().await.unwrap() {
            Some(FromCable::Heard { id, events, .. }) => (id, events.concat()),
            other => panic!("not an answer: {other:?}"),
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn one_runs_questions_have_one_turn_at_a_time_and_are_answered_in_their_order() {
        let mut turns = turns(0);
        for id in 1..=20 {
            turns.ask(run("r1"), said(id, "note", &format!("word {id}.")), 10);
        }
        turns.ask(run("r2"), said(100, "note", "other"), 10);
        // Nothing is scrubbed by whoever asks: without a seat all of it waits, and the thread goes on.
        assert_eq!((turns.working.len(), turns.bytes), (2, 210));
        {
            let mut waits = std::pin::pin!(turns.done());
            assert!(std::future::poll_fn(|cx| Poll::Ready(waits.as_mut().poll(cx).is_pending())).await);
        }
        turns.seats.add_permits(SCRUBBERS);
        let mut first = Vec::new();
        for _ in 0..21 {
            let (id, event) = heard(&mut turns).await;
            if id == 100 {
                assert!(event.contains("other"));
            } else {
                assert!(event.contains(&format!("word {id}.")), "{event}");
                first.push(id);
            }
        }
        assert_eq!(first, (1..=20).collect::<Vec<u64>>());
        assert_eq!((turns.bytes, turns.working.len()), (0, 0));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_a_run_said_before_its_end_is_answered_and_what_waited_then_is_nobodys() {
        let mut turns = turns(SCRUBBERS);
        let half = format!("npm_{}", "a1B2".repeat(4));
        turns.ask(run("r1"), said(1, "chunk", &half), 1);
        turns.ask(run("r1"), Question::Forget, 1);
        turns.ask(run("r1"), Question::Hear { id: 2, event: None, ends: true }, 1);
        assert_eq!(heard(&mut turns).await, (1, String::new()), "it waits for more of it");
        assert!(turns.done().await.unwrap().is_none());
        assert_eq!(heard(&mut turns).await, (2, String::new()));
        assert!(turns.lines.is_empty());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn no_more_is_taken_in_than_so_many_bytes() {
        let mut turns = turns(SCRUBBERS);
        turns.ask(run("r1"), said(1, "note", "a"), MOST_WAITING - 1);
        assert!(turns.has_room());
        turns.ask(run("r1"), said(2, "note", "b"), 1);
        assert!(!turns.has_room());
        heard(&mut turns).await;
        assert!(turns.has_room());
    }
}
