//! What came of the server's own calls, and what of it is held: a value that a vendor made for a lease. The server may be
//! killed between the vendor's answer and the act that keeps it, and nobody else could have the value ended then. So it
//! is said again after every new dial, until the server says that it has it.
//!
//! Read [`Server::called`], then [`Held`].

use super::{Queued, Server};
use api::grants::FromGateway;
use api::platform::CallWord;
use model::LeaseId;
use std::collections::VecDeque;

/// Values that are held at most, the newest; as many calls as can be under way. One that gives way is said in the log.
const MOST: usize = crate::platform::AT_ONCE;

/// The values of leases of which the server did not say that it has them, oldest first.
#[derive(Default)]
pub(super) struct Held(VecDeque<(LeaseId, CallWord)>);

impl Held {
    fn keep(&mut self, lease: &LeaseId, word: &CallWord) {
        if self.0.len() == MOST
            && let Some((lost, _)) = self.0.pop_front()
        {
            tracing::warn!("too many values are held for the server: the oldest, of lease {lost}, is held no longer");
        }
        self.0.push_back((lease.clone(), word.share()));
    }

    /// The server has it.
    pub(super) fn drop(&mut self, lease: &LeaseId) {
        self.0.retain(|(held, _)| held != lease);
    }

    /// What is to be said on the next connection.
    pub(super) fn again(&self) -> Vec<Queued> {
        self.0.iter().map(|(lease, word)| said(lease, word)).collect()
    }
}

fn said(lease: &LeaseId, word: &CallWord) -> Queued {
    Queued { message: FromGateway::Held { lease: lease.clone(), word: word.share() }, written: None }
}

impl Server {
    /// Tells what became of the server's question `id`, which came on the connection `dial`. On another one that number is
    /// another question's.
    pub(crate) fn called(&self, (id, dial): (u64, u64), lease: Option<LeaseId>, word: CallWord) {
        {
            let mut shared = self.shared();
            let is_same = shared.dial == dial;
            if let (Some(lease), CallWord::Answered { status: 200..=299, .. }) = (&lease, &word) {
                shared.made.keep(lease, &word);
                if !is_same {
                    let queued = said(lease, &word);
                    shared.queue.push_back(queued);
                }
            }
            if is_same {
                shared.queue.push_back(Queued { message: FromGateway::Called { id, word }, written: None });
            }
        }
        self.work.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recent::Recent;
    use api::frame;
    use api::grants::{ToGateway, WireSecret};
    use model::Secret;
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::net::{UnixListener, UnixStream};

    fn made(status: u16) -> CallWord {
        let body = WireSecret(Secret::new("{\"token\":\"ghs_canary\"}".to_owned()));
        CallWord::Answered { status, headers: Vec::new(), body }
    }

    fn lease(id: &str) -> LeaseId {
        LeaseId::parse(id).unwrap()
    }

    async fn heard(stream: &mut UnixStream) -> FromGateway {
        tokio::time::timeout(Duration::from_secs(60), frame::read(stream)).await.expect("a word").expect("a frame")
    }

    /// The next connection, on which both have said hello.
    async fn connected(listener: &UnixListener, server: &Server) -> UnixStream {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(matches!(heard(&mut stream).await, FromGateway::Hello { .. }));
        let key = WireSecret::of_key(&Secret::new([7; 32]));
        frame::write(&mut stream, &ToGateway::Hello { fingerprints: key }).await.unwrap();
        while !server.is_up() {
            tokio::task::yield_now().await;
        }
        stream
    }

    #[tokio::test]
    async fn what_a_vendor_made_is_said_again_after_every_dial_until_the_server_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("s")).unwrap();
        let (orders, _kept) = tokio::sync::mpsc::unbounded_channel();
        let recent = Arc::new(Recent::new().expect("formats"));
        let server = Server::dial(folder.path().join("s"), orders, recent);
        let mut stream = connected(&listener, &server).await;
        // One whose answer is heard, and one that answers when its connection is gone; what no vendor made is held by nobody.
        server.called((3, 0), Some(lease("a")), made(201));
        assert!(matches!(heard(&mut stream).await, FromGateway::Called { id: 3, .. }));
        server.called((4, 0), Some(lease("b")), made(422));
        assert!(matches!(heard(&mut stream).await, FromGateway::Called { id: 4, .. }));
        drop(stream);
        let mut stream = connected(&listener, &server).await;
        server.called((3, 0), Some(lease("c")), made(201));
        server.called((5, 0), None, made(200));
        for expected in ["a", "c"] {
            match heard(&mut stream).await {
                FromGateway::Held { lease, word: CallWord::Answered { status: 201, .. } } => {
                    assert_eq!(lease.as_str(), expected);
                }
                other => panic!("{other:?}"),
            }
        }
        frame::write(&mut stream, &ToGateway::Kept { lease: lease("a") }).await.unwrap();
        // Whatever was said before this is heard before it.
        server.called((6, 1), None, made(200));
        assert!(matches!(heard(&mut stream).await, FromGateway::Called { id: 6, .. }));
        while server.shared().made.0.len() > 1 {
            tokio::task::yield_now().await;
        }
        drop(stream);
        let mut stream = connected(&listener, &server).await;
        assert!(matches!(heard(&mut stream).await, FromGateway::Held { lease, .. } if lease.as_str() == "c"));
    }

    #[test]
    fn as_many_are_held_as_calls_can_be_under_way_and_the_newest_of_them() {
        let mut held = Held::default();
        for n in 0..=MOST {
            held.keep(&lease(&format!("l{n}")), &made(201));
        }
        assert_eq!((held.again().len(), held.0[0].0.as_str()), (MOST, "l1"));
    }
}
