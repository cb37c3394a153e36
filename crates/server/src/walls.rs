//! The proof that the walls of the confined processes stand: each makes the calls that are forbidden to it, and reports.
//!
//! Which calls those are is known to whoever confined the process ([`crate::Config::prove`]); nothing here judges them.

use crate::app::App;
use api::walls::{Forbidden, Proof, Prove, Walls};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

/// How long a thread is held so that another takes the next piece of work.
const HOLD: Duration = Duration::from_millis(1);

/// How often work is handed out before a thread that is busy all the time is done without.
const ROUNDS: usize = 400;

/// Both processes' proofs, made now.
pub async fn prove(app: &App) -> Walls {
    let server = everywhere(crate::WORKERS, app.prove).await;
    let gateway = match app.gateway() {
        Some(gateway) => gateway.walls().await,
        None => None,
    };
    Walls { server, gateway }
}

/// Makes the calls on each of the runtime's `workers`.
///
/// A task runs on whichever worker is free: each that comes to one holds it for a moment, so that the next comes to
/// another, until all have made the calls.
async fn everywhere(workers: usize, prove: Prove) -> Proof {
    let made: Arc<Mutex<HashMap<ThreadId, Vec<Forbidden>>>> = Arc::default();
    for _ in 0..ROUNDS {
        let tasks: Vec<_> = (0..workers)
            .map(|_| {
                let made = made.clone();
                tokio::spawn(async move {
                    let here = std::thread::current().id();
                    made.lock().unwrap_or_else(PoisonError::into_inner).entry(here).or_insert_with(prove);
                    std::thread::sleep(HOLD);
                })
            })
            .collect();
        for task in tasks {
            // A task that panicked has proved nothing, and its thread is not counted.
            if task.await.is_err() {
                tracing::error!("a thread could not make its forbidden calls");
            }
        }
        if made.lock().unwrap_or_else(PoisonError::into_inner).len() >= workers {
            break;
        }
    }
    let mut proof = Proof::default();
    for (_, calls) in made.lock().unwrap_or_else(PoisonError::into_inner).drain() {
        proof.add(calls);
    }
    proof
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goes through on one thread only: the one that made it first.
    fn one_open_thread() -> Vec<Forbidden> {
        static FIRST: Mutex<Option<ThreadId>> = Mutex::new(None);
        let here = std::thread::current().id();
        let first = *FIRST.lock().unwrap().get_or_insert(here);
        let errno = (first != here).then_some(13);
        vec![Forbidden { wall: "landlock".into(), call: "open /".into(), promised: 13, errno }]
    }

    #[test]
    fn one_thread_of_several_without_the_wall_is_found() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(3).build().unwrap();
        let proof = runtime.block_on(everywhere(3, one_open_thread));
        assert_eq!(proof.threads, 3);
        assert!(!proof.calls[0].holds(), "{proof:?}");
    }
}
