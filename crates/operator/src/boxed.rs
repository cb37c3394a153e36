//! A box, called on threads that may block; dropped on one, too.

use crate::engine::Live;

/// See the module.
pub struct Boxed(Option<Box<dyn Live>>);

impl Boxed {
    /// Of one that exists.
    #[must_use]
    pub fn new(live: Box<dyn Live>) -> Self {
        Self(Some(live))
    }

    /// Lends it to `work`, on another thread.
    pub async fn with<T: Send + 'static>(&mut self, work: impl FnOnce(&mut dyn Live) -> T + Send + 'static) -> T {
        let Some(mut live) = self.0.take() else {
            // Only a call that was given up in the middle leaves nothing here, and its caller is gone.
            return std::future::pending().await;
        };
        let (live, done) = crate::blocking(move || {
            let done = work(live.as_mut());
            (live, done)
        })
        .await;
        self.0 = Some(live);
        done
    }

    /// Ends it; gives the limit that had ended it before.
    ///
    /// # Errors
    /// Those of [`Live::end`].
    pub async fn end(mut self) -> Result<Option<String>, String> {
        match self.0.take() {
            Some(live) => crate::blocking(move || live.end()).await,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Boxed {
    fn drop(&mut self) {
        if let Some(live) = self.0.take() {
            // Detached on purpose: ending takes a while and has nothing more to say.
            drop(tokio::task::spawn_blocking(move || drop(live)));
        }
    }
}
