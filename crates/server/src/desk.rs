//! What waits for one linked host: room for a command's input, and answers about kept worktrees.
//!
//! It lives as long as the connection, and whoever waits at it then is told that the host is gone.
//!
//! Read [`Desk::room`], then [`Desk::ask`].

use api::http::INPUT_WINDOW;
use api::kept::KeptAnswer;
use model::RunId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Semaphore, oneshot};

/// See the module.
#[derive(Debug, Default)]
pub struct Desk(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    closed: bool,
    rooms: HashMap<RunId, Arc<Semaphore>>,
    asked: u64,
    questions: HashMap<u64, oneshot::Sender<KeptAnswer>>,
}

/// The host is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gone;

/// Closes a desk when it is dropped.
#[derive(Debug)]
pub struct Closing(pub Arc<Desk>);

impl Drop for Closing {
    fn drop(&mut self) {
        let mut desk = self.0.lock();
        desk.closed = true;
        desk.rooms.drain().for_each(|(_, room)| room.close());
        desk.questions.clear();
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `bytes` more of a run's input may be sent, at most [`INPUT_WINDOW`] ahead of what its box took.
    ///
    /// # Errors
    /// [`Gone`]; also when the run is over.
    pub async fn room(&self, run: &RunId, bytes: usize) -> Result<(), Gone> {
        let room = {
            let mut desk = self.lock();
            if desk.closed {
                return Err(Gone);
            }
            desk.rooms.entry(run.clone()).or_insert_with(|| Arc::new(Semaphore::new(INPUT_WINDOW))).clone()
        };
        let bytes = u32::try_from(bytes.min(INPUT_WINDOW)).map_err(|_| Gone)?;
        room.acquire_many(bytes).await.map_err(|_| Gone)?.forget();
        Ok(())
    }

    /// A box took `bytes` of its input. Never makes more room than there is in all, whatever a host says.
    pub fn took(&self, run: &RunId, bytes: u64) {
        if let Some(room) = self.lock().rooms.get(run) {
            let most = INPUT_WINDOW - room.available_permits().min(INPUT_WINDOW);
            room.add_permits(usize::try_from(bytes).unwrap_or(usize::MAX).min(most));
        }
    }

    /// A run is over: nobody waits for its room any more.
    pub fn forget(&self, run: &RunId) {
        if let Some(room) = self.lock().rooms.remove(run) {
            room.close();
        }
    }

    /// A question for the host, by its number, and where the answer comes.
    ///
    /// # Errors
    /// [`Gone`]; the end of what is returned means the same.
    pub fn ask(&self) -> Result<(u64, oneshot::Receiver<KeptAnswer>), Gone> {
        let mut desk = self.lock();
        if desk.closed {
            return Err(Gone);
        }
        let (told, answer) = oneshot::channel();
        desk.asked += 1;
        let id = desk.asked;
        desk.questions.insert(id, told);
        Ok((id, answer))
    }

    /// The host's answer.
    pub fn answer(&self, id: u64, answer: KeptAnswer) {
        if let Some(told) = self.lock().questions.remove(&id) {
            // Whoever asked may have left.
            drop(told.send(answer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn input_waits_for_room_and_no_host_can_make_more_than_there_is() {
        let (desk, run) = (Arc::new(Desk::default()), RunId::parse("r1").unwrap());
        desk.room(&run, INPUT_WINDOW).await.unwrap();
        let waits = tokio::spawn({
            let (desk, run) = (desk.clone(), run.clone());
            async move { desk.room(&run, 1).await }
        });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished(), "there was no room");
        desk.took(&run, 1);
        assert_eq!(waits.await.unwrap(), Ok(()));
        desk.took(&run, u64::MAX);
        assert_eq!(desk.lock().rooms[&run].available_permits(), INPUT_WINDOW);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn who_waits_at_a_desk_that_closes_is_told() {
        let (desk, run) = (Arc::new(Desk::default()), RunId::parse("r1").unwrap());
        desk.room(&run, INPUT_WINDOW).await.unwrap();
        let (_, answer) = desk.ask().unwrap();
        let waits = tokio::spawn({
            let (desk, run) = (desk.clone(), run.clone());
            async move { desk.room(&run, 1).await }
        });
        tokio::task::yield_now().await;
        drop(Closing(desk.clone()));
        assert_eq!(waits.await.unwrap(), Err(Gone));
        assert!(answer.await.is_err());
        assert_eq!(desk.room(&run, 1).await, Err(Gone));
        assert_eq!(desk.ask().err(), Some(Gone));
    }
}
