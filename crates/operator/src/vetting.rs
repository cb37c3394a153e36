//! What an image says of itself is judged by the server: it alone knows which values are secrets.
//!
//! A question goes by the link, and again every few seconds, because a link that is dialled anew forgets it. Without an
//! answer no box is made, and the attempt may be made again.

use crate::runs::{Runs, locked};
use api::images::Word;
use api::link::Up;
use sandbox::image::said::{Judge, Unfit};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long an answer is waited for, and how often it is asked for meanwhile.
const PATIENCE: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_secs(5);

/// Asks the server.
#[derive(Debug)]
pub struct Vetting {
    runs: Arc<Runs>,
    patience: Duration,
    again: Duration,
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, Sender<Option<String>>>>,
}

impl Vetting {
    /// One that asks by the words of these runs.
    #[must_use]
    pub fn of(runs: Arc<Runs>) -> Self {
        Self::within(runs, PATIENCE, AGAIN)
    }

    /// The same, with another time for an answer, and until it is asked for again.
    fn within(runs: Arc<Runs>, patience: Duration, again: Duration) -> Self {
        Self { runs, patience, again, next: AtomicU64::default(), waiting: Mutex::default() }
    }

    /// Takes the server's answer to the question `id`; one that nobody waits for means nothing.
    pub fn answered(&self, id: u64, refused: Option<String>) {
        if let Some(waits) = locked(&self.waiting).remove(&id)
            && waits.send(refused).is_err()
        {
            tracing::debug!(id, "nobody waits for the word on an image any more");
        }
    }
}

impl Judge for Vetting {
    fn judge(&self, words: Vec<Word>) -> Result<(), Unfit> {
        let (id, until) = (self.next.fetch_add(1, Ordering::Relaxed), Instant::now() + self.patience);
        let (waits, answer) = mpsc::channel();
        locked(&self.waiting).insert(id, waits);
        loop {
            self.runs.tell(Up::Image { id, words: words.iter().map(Word::share).collect() });
            match answer.recv_timeout(self.again.min(until.saturating_duration_since(Instant::now()))) {
                Ok(None) => return Ok(()),
                Ok(Some(why)) => return Err(Unfit::Refused(why)),
                Err(RecvTimeoutError::Timeout) if Instant::now() < until => {}
                Err(_) => {
                    locked(&self.waiting).remove(&id);
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
    use std::thread;

    fn words() -> Vec<Word> {
        vec![Word { of: "a variable of it".into(), text: WireSecret(Secret::new("A=b".into())) }]
    }

    /// What was asked, once something is.
    fn asked(runs: &Runs) -> (u64, usize) {
        let until = Instant::now() + Duration::from_secs(120);
        while Instant::now() < until {
            match runs.words().pop() {
                Some(Up::Image { id, words }) => return (id, words.len()),
                Some(other) => panic!("{other:?}"),
                None => thread::sleep(Duration::from_millis(5)),
            }
        }
        panic!("nothing was asked")
    }

    #[test]
    fn the_servers_word_on_an_image_is_asked_for_until_it_comes_and_is_taken_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let runs = Arc::new(Runs::open(dir.path()).unwrap());
        let vetting = Arc::new(Vetting::within(Arc::clone(&runs), PATIENCE, Duration::from_millis(20)));
        for refused in [None, Some("it holds X.".to_owned())] {
            let asks = Arc::clone(&vetting);
            let judged = thread::spawn(move || asks.judge(words()));
            // The first is lost with its link; the second is the same question.
            let first = asked(&runs);
            assert_eq!(asked(&runs), first);
            assert_eq!(first.1, 1);
            vetting.answered(first.0 + 1, Some("of another image".into()));
            vetting.answered(first.0, refused.clone());
            assert_eq!(judged.join().unwrap(), refused.map_or(Ok(()), |why| Err(Unfit::Refused(why))));
        }
    }

    #[test]
    fn without_the_servers_word_an_image_is_not_judged() {
        let dir = tempfile::tempdir().unwrap();
        let runs = Arc::new(Runs::open(dir.path()).unwrap());
        let vetting = Vetting::within(runs, Duration::from_millis(20), AGAIN);
        assert!(matches!(vetting.judge(words()), Err(Unfit::Unjudged(why)) if why.contains("did not judge its image")));
        assert!(locked(&vetting.waiting).is_empty());
        vetting.answered(0, None);
    }
}
