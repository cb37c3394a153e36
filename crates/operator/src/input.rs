//! An exec's standard input on its way to the box.
//!
//! One run that does not read must not stop the others: so whatever the box took is told to the server, which sends no
//! more than [`api::http::INPUT_WINDOW`] ahead of it. What waits here is bounded all the same, and a command for which
//! more came than that is ended with the reason. It outlives an attempt: what no box took waits for the next one.

use crate::runs::locked;
use api::inbox::ToRunner;
use std::collections::VecDeque;
use std::sync::Mutex;
use tokio::sync::Notify;

/// Bytes, base 64, that may wait for one run.
pub const MOST_WAITING: usize = 16 * 1024 * 1024;

#[derive(Debug, Default)]
struct Waiting {
    messages: VecDeque<ToRunner>,
    bytes: usize,
    over: bool,
}

/// The queue of one run.
#[derive(Default)]
pub struct Input {
    /// Told how many bytes of base 64 a box took.
    took: Option<Box<dyn Fn(u64) + Send + Sync>>,
    waiting: Mutex<Waiting>,
    came: Notify,
    overflowed: Notify,
}

impl Input {
    /// A queue that tells `took` how many bytes of base 64 a box took, each time.
    pub fn telling(took: impl Fn(u64) + Send + Sync + 'static) -> Self {
        Self { took: Some(Box::new(took)), ..Self::default() }
    }

    /// Takes what the person sent. Once too much waits, everything after is dropped and [`Input::overflow`] returns.
    pub fn push(&self, data_b64: String, end: bool) {
        let mut waiting = locked(&self.waiting);
        if waiting.over {
            return;
        }
        if waiting.bytes + data_b64.len() > MOST_WAITING {
            waiting.over = true;
            drop(waiting);
            self.overflowed.notify_one();
            return;
        }
        if !data_b64.is_empty() {
            waiting.bytes += data_b64.len();
            waiting.messages.push_back(ToRunner::Input { data_b64 });
        }
        if end {
            waiting.messages.push_back(ToRunner::InputEnd);
        }
        drop(waiting);
        self.came.notify_one();
    }

    /// The next message; waits for one. One caller at a time.
    pub async fn next(&self) -> ToRunner {
        loop {
            let message = {
                let mut waiting = locked(&self.waiting);
                let message = waiting.messages.pop_front();
                if let Some(ToRunner::Input { data_b64 }) = &message {
                    waiting.bytes -= data_b64.len();
                }
                message
            };
            if let (Some(ToRunner::Input { data_b64 }), Some(took)) = (&message, &self.took) {
                took(data_b64.len() as u64);
            }
            match message {
                Some(message) => return message,
                None => self.came.notified().await,
            }
        }
    }

    /// Returns once more came than may wait.
    pub async fn overflow(&self) {
        self.overflowed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn what_waits_is_bounded_and_what_is_read_makes_room() {
        let input = Input::default();
        let half = "x".repeat(MOST_WAITING / 2);
        input.push(half.clone(), false);
        input.push(half.clone(), false);
        assert_eq!(input.next().await, ToRunner::Input { data_b64: half.clone() });
        input.push(half.clone(), true);
        input.push("y".into(), false);
        input.overflow().await;
        assert_eq!(input.next().await, ToRunner::Input { data_b64: half.clone() });
        assert_eq!(input.next().await, ToRunner::Input { data_b64: half });
        assert_eq!(input.next().await, ToRunner::InputEnd);
    }
}
