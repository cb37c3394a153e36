//! What an image says of itself is judged by the server: it alone knows which values are secrets.
//!
//! A question goes by the link, and again every few seconds, because a link that is dialled anew forgets it. Whoever wants the
//! same words judged meanwhile waits for the same answer; nothing is kept of an answer once it is given. Without an answer
//! no box is made, and the attempt may be made again. A run that is to end stops waiting.
//!
//! Read [`Vetting::heed`], then [`Judge::judge`].

use crate::runs::{Runs, locked};
use api::images::Word;
use api::link::Up;
use model::RunId;
use sandbox::image::said::{Judge, Unfit};
use std::collections::HashMap;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long an attempt waits for answers, from its first question on and all of them together, and how often one is asked for meanwhile.
const PATIENCE: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_secs(5);
/// How soon whoever waits sees that its run is to end.
const LOOK: Duration = Duration::from_millis(50);

/// Asks the server.
#[derive(Debug)]
pub struct Vetting {
    runs: Arc<Runs>,
    patience: Duration,
    again: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The last number that a question, or a seat at one, was given.
    last: u64,
    questions: HashMap<u64, Question>,
    /// Until when an attempt waits, once it has asked something, and what says that its run is to end.
    heeded: HashMap<RunId, (Option<Instant>, watch::Receiver<bool>)>,
}

#[derive(Debug)]
struct Question {
    words: Vec<Word>,
    asked: Instant,
    /// Who waits, by the number of its seat.
    waiting: HashMap<u64, Sender<Option<String>>>,
}

/// While this lives, whatever is judged for the run is given up when the run is to end.
#[derive(Debug)]
pub struct Heeded<'a>(&'a Vetting, RunId);

impl Drop for Heeded<'_> {
    fn drop(&mut self) {
        locked(&self.0.state).heeded.remove(&self.1);
    }
}

/// A place in front of a question; the last one who leaves takes it along.
struct Seat<'a> {
    vetting: &'a Vetting,
    question: u64,
    number: u64,
    answer: Receiver<Option<String>>,
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut state = locked(&self.vetting.state);
        if let Some(question) = state.questions.get_mut(&self.question) {
            question.waiting.remove(&self.number);
            if question.waiting.is_empty() {
                state.questions.remove(&self.question);
            }
        }
    }
}

impl Vetting {
    /// One that asks by the words of these runs.
    #[must_use]
    pub fn of(runs: Arc<Runs>) -> Self {
        Self::within(runs, PATIENCE, AGAIN)
    }

    /// The same, with another time for an answer, and until it is asked for again.
    fn within(runs: Arc<Runs>, patience: Duration, again: Duration) -> Self {
        Self { runs, patience, again, state: Mutex::default() }
    }

    /// An attempt of `run` begins to make its box: it waits for [`PATIENCE`] from its first question on at most, however often an
    /// image is judged for it, and no longer once `cancelled` says that the run is to end. Until there is a question it may take its time:
    /// a daemon may have to pull the image first.
    #[must_use]
    pub fn heed(&self, run: &RunId, cancelled: watch::Receiver<bool>) -> Heeded<'_> {
        locked(&self.state).heeded.insert(run.clone(), (None, cancelled));
        Heeded(self, run.clone())
    }

    /// Takes the server's answer to the question `id`; one that nobody waits for means nothing.
    pub fn answered(&self, id: u64, refused: Option<String>) {
        let question = locked(&self.state).questions.remove(&id);
        for waits in question.into_iter().flat_map(|question| question.waiting.into_values()) {
            if waits.send(refused.clone()).is_err() {
                tracing::debug!(id, "nobody waits for the word on an image any more");
            }
        }
    }

    /// A seat at the question that these words are, which is asked if nobody asked it before.
    fn seat(&self, words: Vec<Word>) -> Seat<'_> {
        let (waits, answer) = mpsc::channel();
        let mut state = locked(&self.state);
        state.last += 1;
        let number = state.last;
        let same = state.questions.iter_mut().find(|(_, question)| is_same(&question.words, &words));
        let question = if let Some((id, question)) = same {
            question.waiting.insert(number, waits);
            *id
        } else {
            self.ask(number, &words);
            let waiting = HashMap::from([(number, waits)]);
            state.questions.insert(number, Question { words, asked: Instant::now(), waiting });
            number
        };
        Seat { vetting: self, question, number, answer }
    }

    fn ask(&self, id: u64, words: &[Word]) {
        self.runs.tell(Up::Image { id, words: words.iter().map(Word::share).collect() });
    }

    /// Asks a question again that was not answered for long enough, whoever of those that wait sees that first.
    fn ask_again(&self, id: u64) {
        if let Some(question) = locked(&self.state).questions.get_mut(&id)
            && question.asked.elapsed() >= self.again
        {
            question.asked = Instant::now();
            self.ask(id, &question.words);
        }
    }
}

fn is_same(one: &[Word], other: &[Word]) -> bool {
    let is_same = |(one, other): (&Word, &Word)| one.of == other.of && one.text.0.expose() == other.text.0.expose();
    one.len() == other.len() && one.iter().zip(other).all(is_same)
}

impl Judge for Vetting {
    fn judge(&self, run: &RunId, words: Vec<Word>) -> Result<(), Unfit> {
        let from_now = || Instant::now() + self.patience;
        let heeded = locked(&self.state)
            .heeded
            .get_mut(run)
            .map(|(until, cancelled)| (*until.get_or_insert_with(from_now), cancelled.clone()));
        let until = heeded.as_ref().map_or_else(from_now, |(until, _)| *until);
        let is_to_end = || heeded.as_ref().is_some_and(|(_, cancelled)| *cancelled.borrow());
        let ended = || Err(Unfit::Unjudged("its image was not judged: the run is to end".into()));
        if is_to_end() {
            return ended();
        }
        let seat = self.seat(words);
        loop {
            if is_to_end() {
                return ended();
            }
            match seat.answer.recv_timeout(LOOK.min(until.saturating_duration_since(Instant::now()))) {
                Ok(None) => return Ok(()),
                Ok(Some(why)) => return Err(Unfit::Refused(why)),
                Err(RecvTimeoutError::Timeout) if Instant::now() < until => self.ask_again(seat.question),
                Err(_) => {
                    let why = format!("the server did not judge its image within {} s", self.patience.as_secs());
                    return Err(Unfit::Unjudged(why));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::grants::WireSecret;
    use model::Secret;
    use std::thread::{self, JoinHandle};

    const NEVER: Duration = Duration::from_secs(3600);

    fn words() -> Vec<Word> {
        vec![Word { of: "a variable of it".into(), text: WireSecret(Secret::new("A=b".into())) }]
    }

    fn run(id: &str) -> RunId {
        RunId::parse(id).unwrap()
    }

    /// The word on an image, waited for on a thread of its own.
    fn judging(vetting: &Arc<Vetting>, id: &str, words: Vec<Word>) -> JoinHandle<Result<(), Unfit>> {
        let (vetting, run) = (Arc::clone(vetting), run(id));
        thread::spawn(move || vetting.judge(&run, words))
    }

    /// What comes, once it does.
    fn eventually<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
        let until = Instant::now() + Duration::from_secs(120);
        while Instant::now() < until {
            if let Some(found) = look() {
                return found;
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("{what}")
    }

    /// What was asked, once something is.
    fn asked(runs: &Runs) -> (u64, usize) {
        eventually("nothing was asked", || match runs.words().pop() {
            Some(Up::Image { id, words }) => Some((id, words.len())),
            Some(other) => panic!("{other:?}"),
            None => None,
        })
    }

    fn waiting(vetting: &Vetting) -> usize {
        locked(&vetting.state).questions.values().map(|question| question.waiting.len()).sum()
    }

    #[test]
    fn the_servers_word_on_an_image_is_asked_for_until_it_comes_and_is_taken_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let runs = Arc::new(Runs::open(dir.path()).unwrap());
        let vetting = Arc::new(Vetting::within(Arc::clone(&runs), PATIENCE, Duration::from_millis(20)));
        for refused in [None, Some("it holds X.".to_owned())] {
            let judged = judging(&vetting, "r1", words());
            // The first is lost with its link; the second is the same question.
            let first = asked(&runs);
            assert_eq!(asked(&runs), first);
            assert_eq!(first.1, 1);
            vetting.answered(first.0 + 1, Some("of another image".into()));
            vetting.answered(first.0, refused.clone());
            assert_eq!(judged.join().unwrap(), refused.map_or(Ok(()), |why| Err(Unfit::Refused(why))));
            // It may have been asked once more before the answer.
            drop(runs.words());
        }
    }

    #[test]
    fn without_the_servers_word_an_image_is_not_judged() {
        let dir = tempfile::tempdir().unwrap();
        let runs = Arc::new(Runs::open(dir.path()).unwrap());
        let vetting = Vetting::within(runs, Duration::from_millis(20), AGAIN);
        let judge = || vetting.judge(&run("r1"), words());
        assert!(matches!(judge(), Err(Unfit::Unjudged(why)) if why.contains("did not judge its image")));
        assert_eq!((waiting(&vetting), locked(&vetting.state).questions.len()), (0, 0));
        vetting.answered(0, None);
    }

    #[test]
    fn one_word_on_an_image_serves_all_who_wait_for_it_and_nobody_later() {
        let dir = tempfile::tempdir().unwrap();
        let runs = Arc::new(Runs::open(dir.path()).unwrap());
        let vetting = Arc::new(Vetting::within(Arc::clone(&runs), NEVER, NEVER));
        let same: Vec<_> = ["r1", "r2", "r3"].map(|id| judging(&vetting, id, words())).into();
        let other = judging(&vetting, "r4", Vec::new());
        eventually("not all of them wait", || (waiting(&vetting) == 4).then_some(()));
        let mut questions: Vec<(u64, usize)> = runs.words().iter().map(of_image).collect();
        questions.sort_by_key(|(_, words)| *words);
        let [(of_other, 0), (of_same, 1)] = questions[..] else { panic!("{questions:?}") };
        vetting.answered(of_same, Some("it holds X.".into()));
        for judged in same {
            assert_eq!(judged.join().unwrap(), Err(Unfit::Refused("it holds X.".into())));
        }
        vetting.answered(of_other, None);
        assert_eq!(other.join().unwrap(), Ok(()));
        // Another value may be a secret by now.
        let later = judging(&vetting, "r5", words());
        let (again, _) = asked(&runs);
        assert_ne!(again, of_same);
        vetting.answered(again, None);
        assert_eq!(later.join().unwrap(), Ok(()));
    }

    fn of_image(word: &Up) -> (u64, usize) {
        let Up::Image { id, words } = word else { panic!("{word:?}") };
        (*id, words.len())
    }

    #[test]
    fn a_run_that_is_to_end_waits_for_no_word_and_the_others_do() {
        let dir = tempfile::tempdir().unwrap();
        let runs = Arc::new(Runs::open(dir.path()).unwrap());
        let vetting = Arc::new(Vetting::within(Arc::clone(&runs), NEVER, NEVER));
        let (cancel, cancelled) = watch::channel(false);
        let heeded = vetting.heed(&run("r1"), cancelled);
        let (ends, stays) = (judging(&vetting, "r1", words()), judging(&vetting, "r2", words()));
        eventually("not both of them wait", || (waiting(&vetting) == 2).then_some(()));
        cancel.send_replace(true);
        assert!(matches!(ends.join().unwrap(), Err(Unfit::Unjudged(why)) if why.contains("is to end")));
        // Nor does it ask anything more.
        assert!(matches!(vetting.judge(&run("r1"), Vec::new()), Err(Unfit::Unjudged(_))));
        let (id, _) = asked(&runs);
        vetting.answered(id, None);
        vetting.answered(id + 1, None);
        assert_eq!(stays.join().unwrap(), Ok(()));
        drop(heeded);
        assert_eq!(locked(&vetting.state).heeded.len(), 0);
    }

    #[test]
    fn an_attempt_has_one_patience_for_all_its_questions_and_a_question_stands_once_in_the_queue() {
        let dir = tempfile::tempdir().unwrap();
        let runs = Arc::new(Runs::open(dir.path()).unwrap());
        let vetting = Vetting::within(Arc::clone(&runs), Duration::from_millis(200), Duration::ZERO);
        let (_cancel, cancelled) = watch::channel(false);
        let begun = Instant::now();
        let heeded = vetting.heed(&run("r1"), cancelled);
        assert!(vetting.judge(&run("r1"), words()).is_err());
        assert!(begun.elapsed() >= Duration::from_millis(200));
        // Asked again and again, with nobody to take it.
        assert_eq!(runs.words().len(), 1);
        let (until, _) = locked(&vetting.state).heeded[&run("r1")].clone();
        assert!(until.unwrap() <= Instant::now(), "it has more time for the next");
        assert!(vetting.judge(&run("r1"), words()).is_err());
        drop(heeded);
    }

    #[test]
    fn the_time_until_an_image_is_there_to_be_judged_is_none_of_the_servers() {
        let dir = tempfile::tempdir().unwrap();
        let runs = Arc::new(Runs::open(dir.path()).unwrap());
        let patience = Duration::from_millis(50);
        let vetting = Vetting::within(runs, patience, AGAIN);
        let (_cancel, cancelled) = watch::channel(false);
        let _heeded = vetting.heed(&run("r1"), cancelled);
        thread::sleep(2 * patience);
        let asked = Instant::now();
        assert!(vetting.judge(&run("r1"), words()).is_err(), "nobody answers");
        let (until, _) = locked(&vetting.state).heeded[&run("r1")].clone();
        assert!(until.unwrap() >= asked + patience, "its time was over before it asked");
    }
}
