//! The grants connection: asking the server for each call, and saying what came of it.
//!
//! While it is down nothing is asked and every call is refused. What must not be lost (a settled grant, a
//! refusal's record) waits here and is sent first after the next dial. A message stays in the queue until
//! its whole frame is written. A server that is killed may not have read it then: so what was settled lately is
//! said again after the next dial, which changes nothing where it was heard; and the first word after a dial is
//! which calls are under way, so that the server settles none of them by guess.
//!
//! Read [`Server::ask`], [`Lease`] (a grant that settles itself), [`held`] (what vendors made), then [`Server::dial`] and [`queue`].

pub(crate) mod egress;
pub(crate) mod git;
mod held;
pub(crate) mod leases;
mod queue;

use crate::meter::Meter;
use crate::recent::Recent;
use api::frame;
use api::grants::{Answer, FromGateway, ModelCall, ToGateway, Upstream};
use model::{GrantId, RunId, Usage, event::Verdict, profile::Sought};
use queue::{Queued, Shared};
use scrub::Key;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::sync::{Notify, mpsc, oneshot};
use zeroize::Zeroize as _;

/// How long the server may take to answer one question.
const ANSWER_SECS: u64 = 30;
/// How long one frame may take to be written to a local socket.
const WRITE_SECS: u64 = 10;
/// Waits between dials, in milliseconds: the first, doubled up to the last.
const BACKOFF_MS: (u64, u64) = (20, 1000);
/// Records of refusals kept while the server is away; a box that goes on knocking is not remembered further.
const KEPT_REFUSALS: usize = 1024;

/// What the server says by itself.
pub(crate) enum Order {
    /// Cut the run's live calls.
    Close(RunId),
    /// End the run's allowances.
    EndReads(RunId),
    /// Try a model.
    Probe { id: u64, route: Upstream, model: String },
    /// Make a call of the server's own.
    Call { id: u64, dial: u64, call: Box<api::platform::PlatformCall> },
    /// Prove the walls.
    Walls { id: u64 },
}

/// The server is away: nothing can be recorded.
#[derive(Debug)]
pub(crate) struct Lost;

/// The server's word on a call.
pub(crate) enum Word {
    /// Go.
    Granted(Box<Granted>),
    /// Do not.
    Denied { rule: String, why: String },
}

/// A call that may be made.
pub(crate) struct Granted {
    pub(crate) lease: Lease,
    pub(crate) upstream: Upstream,
    /// What is to be replaced in the call's body.
    pub(crate) sought: Sought,
}

/// The server, as the gateway knows it.
pub(crate) struct Server {
    shared: Mutex<Shared>,
    work: Notify,
    /// Is told the key of fingerprints.
    recent: Arc<Recent>,
}

impl Server {
    /// Keeps a connection to the server from now on, and passes its orders to `said`.
    pub(crate) fn dial(socket: PathBuf, said: mpsc::UnboundedSender<Order>, recent: Arc<Recent>) -> Arc<Self> {
        let server = Arc::new(Self { shared: Mutex::default(), work: Notify::new(), recent });
        tokio::spawn(server.clone().keep(socket, said));
        server
    }

    /// One that talks to nobody, and believes that its server is there.
    #[cfg(test)]
    pub(crate) fn unconnected() -> Arc<Self> {
        let shared = Shared { up: true, ..Shared::default() };
        Arc::new(Self {
            shared: Mutex::new(shared),
            work: Notify::new(),
            recent: Arc::new(Recent::new().expect("formats")),
        })
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the server is there, as far as is known.
    pub(crate) fn is_up(&self) -> bool {
        self.shared().up
    }

    /// May this call be made? The answer is recorded by the server before it comes.
    ///
    /// # Errors
    /// [`Lost`] when the server is away, goes away, or does not answer in time. Should it grant the call
    /// after all, that grant settles itself.
    pub(crate) async fn ask(&self, call: ModelCall) -> Result<Word, Lost> {
        let (answered, word) = oneshot::channel();
        self.put(|shared, id| {
            shared.questions.insert(id, answered);
            FromGateway::Ask { id, call }
        })?;
        in_time(word).await
    }

    /// Puts a question on its way: `message` writes down, under the number that it is given, who waits for the answer.
    ///
    /// # Errors
    /// [`Lost`] when the server is away; nobody was written down then.
    fn put(&self, message: impl FnOnce(&mut Shared, u64) -> FromGateway) -> Result<(), Lost> {
        {
            let mut shared = self.shared();
            if !shared.up {
                return Err(Lost);
            }
            shared.last_id += 1;
            let id = shared.last_id;
            let message = message(&mut shared, id);
            shared.queue.push_back(Queued { message, written: None });
        }
        self.work.notify_one();
        Ok(())
    }

    /// Records a refusal of our own; true afterwards: the record is on its way to the server.
    ///
    /// # Errors
    /// [`Lost`] when the server is away; the record is kept for its return.
    pub(crate) async fn refused(&self, run: RunId, verdict: Verdict) -> Result<(), Lost> {
        let (written, is_written) = oneshot::channel();
        {
            let mut shared = self.shared();
            if shared.refusals >= KEPT_REFUSALS && !shared.up {
                return Err(Lost);
            }
            shared.refusals += 1;
            let message = FromGateway::Refused { run, verdict };
            let up = shared.up;
            shared.queue.push_back(Queued { message, written: up.then_some(written) });
        }
        self.work.notify_one();
        // Not up: the sender is gone already and this gives Lost at once.
        is_written.await.map_err(|_| Lost)
    }

    /// Records a refusal for which nobody waits, now or after the next dial.
    pub(crate) fn note_refused(&self, run: RunId, verdict: Verdict) {
        self.shared().refusals += 1;
        self.post(FromGateway::Refused { run, verdict });
    }

    /// Sends what needs no answer, now or after the next dial.
    pub(crate) fn post(&self, message: FromGateway) {
        self.shared().queue.push_back(Queued { message, written: None });
        self.work.notify_one();
    }

    async fn keep(self: Arc<Self>, socket: PathBuf, said: mpsc::UnboundedSender<Order>) {
        let mut wait = BACKOFF_MS.0;
        loop {
            match UnixStream::connect(&socket).await {
                Ok(stream) => {
                    wait = BACKOFF_MS.0;
                    let (from, to) = stream.into_split();
                    let hello = self.shared().hello();
                    let end = tokio::select! {
                        end = self.read(from, &said) => end,
                        end = self.write(to, hello) => end,
                    };
                    self.shared().forget();
                    tracing::warn!(error = %end, "the server's grants connection ended; every call is refused until it is back");
                }
                Err(error) => tracing::debug!(%error, "the server's grants socket does not answer"),
            }
            tokio::time::sleep(Duration::from_millis(wait)).await;
            wait = (wait * 2).min(BACKOFF_MS.1);
        }
    }

    async fn read(
        self: &Arc<Self>,
        mut from: impl AsyncRead + Unpin,
        said: &mpsc::UnboundedSender<Order>,
    ) -> frame::FrameError {
        loop {
            let mut bytes = match frame::read_bytes(&mut from).await {
                Ok(bytes) => bytes,
                Err(end) => return end,
            };
            let message = serde_json::from_slice(&bytes);
            // The frame may hold a credential.
            bytes.zeroize();
            let order = match message {
                // It is up once it has said this: what it grants from then on is scrubbed as it should be.
                Ok(ToGateway::Hello { fingerprints }) => {
                    let Some(key) = fingerprints.key() else {
                        let why = "the server said a key that is none";
                        return frame::FrameError::Io(std::io::Error::new(std::io::ErrorKind::InvalidData, why));
                    };
                    self.recent.know(Key::new(key));
                    self.shared().up = true;
                    continue;
                }
                Ok(ToGateway::Answer { id, answer }) => {
                    self.answered(id, answer);
                    continue;
                }
                Ok(ToGateway::EgressAnswer { id, answer }) => {
                    self.egress_answered(id, answer);
                    continue;
                }
                Ok(ToGateway::GitAnswer { id, word }) => {
                    self.git_answered(id, word);
                    continue;
                }
                Ok(ToGateway::LeaseAnswer { id, word }) => {
                    self.lease_answered(id, word);
                    continue;
                }
                Ok(ToGateway::LeaseValue { id, word }) => {
                    self.lease_value(id, word);
                    continue;
                }
                Ok(ToGateway::RevokeLease { lease }) => {
                    self.revoke(lease);
                    continue;
                }
                Ok(ToGateway::EndValue { value }) => {
                    self.end_value(value);
                    continue;
                }
                Ok(ToGateway::Kept { lease }) => {
                    self.shared().made.drop(&lease);
                    continue;
                }
                Ok(ToGateway::Close { run }) => Order::Close(run),
                Ok(ToGateway::EndReads { run }) => Order::EndReads(run),
                Ok(ToGateway::Probe { id, route, model }) => Order::Probe { id, route, model },
                Ok(ToGateway::Call { id, call }) => Order::Call { id, dial: self.shared().dial, call },
                Ok(ToGateway::Walls { id }) => Order::Walls { id },
                Err(error) => return frame::FrameError::Malformed(error),
            };
            if said.send(order).is_err() {
                return frame::FrameError::Closed;
            }
        }
    }

    fn answered(self: &Arc<Self>, id: u64, answer: Answer) {
        let word = match answer {
            Answer::Granted { grant, upstream, reserved: _, sought } => {
                self.shared().open.insert(grant.clone());
                let lease = Lease { server: self.clone(), grant, status: 0, meter: None, whole: false };
                Word::Granted(Box::new(Granted { lease, upstream, sought }))
            }
            Answer::Denied { rule, why } => Word::Denied { rule, why },
        };
        let asker = self.shared().questions.remove(&id);
        // An asker who is gone drops the word here, outside the lock, and the lease in it settles.
        if let Some(asker) = asker {
            drop(asker.send(word));
        }
    }

    async fn write(&self, mut to: impl AsyncWrite + Unpin, hello: FromGateway) -> frame::FrameError {
        if let Err(end) = frame::write(&mut to, &hello).await {
            return end;
        }
        loop {
            // The message stays in front until it is written whole; only this loop takes from the front.
            let bytes = {
                let mut shared = self.shared();
                while shared.asker_of_front_is_gone() {
                    shared.queue.pop_front();
                }
                shared.queue.front().map(|q| serde_json::to_vec(&q.message))
            };
            let mut bytes = match bytes {
                None => {
                    self.work.notified().await;
                    continue;
                }
                Some(Ok(bytes)) => bytes,
                Some(Err(error)) => return frame::FrameError::Malformed(error),
            };
            let wrote =
                tokio::time::timeout(Duration::from_secs(WRITE_SECS), frame::write_bytes(&mut to, &bytes)).await;
            // It may hold tokens that a provider gave the platform.
            bytes.zeroize();
            match wrote {
                Ok(Ok(())) => self.shared().front_is_written(),
                Ok(Err(error)) => return error,
                Err(slow) => return frame::FrameError::Io(slow.into()),
            }
        }
    }
}

/// The answer to a question, if it comes in time and on the connection that was asked on.
async fn in_time<T>(answer: oneshot::Receiver<T>) -> Result<T, Lost> {
    match tokio::time::timeout(Duration::from_secs(ANSWER_SECS), answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) | Err(_) => Err(Lost),
    }
}

/// A granted call. It settles exactly once, when it is dropped, whatever ended it.
pub(crate) struct Lease {
    server: Arc<Server>,
    grant: GrantId,
    /// The provider's status; 0 until it answered.
    pub(crate) status: u16,
    /// Reads what was used; none until the call is dispatched.
    pub(crate) meter: Option<Meter>,
    /// Whether the answer came to its end. Until that is set, the call counts as interrupted.
    pub(crate) whole: bool,
}

impl Lease {
    /// The grant's id.
    pub(crate) fn grant(&self) -> &GrantId {
        &self.grant
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let usage = self.meter.as_mut().map_or_else(Usage::default, |meter| meter.usage(self.status));
        // A client that hangs up after the stream's own last word has missed nothing.
        let whole = self.whole || self.meter.as_ref().is_some_and(Meter::saw_the_end);
        self.server.post(FromGateway::Settle {
            grant: self.grant.clone(),
            usage,
            status: self.status,
            interrupted: !whole,
        });
        self.server.shared().open.remove(&self.grant);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn refusals_are_kept_for_a_server_that_is_away_and_a_1025th_is_not() {
        let server = Server::unconnected();
        server.shared().up = false;
        let verdict = Verdict {
            allowed: false,
            rule: "model.path".into(),
            method: "GET".into(),
            target: "/".into(),
            why: "no".into(),
            body_sha256: None,
            grant: None,
            model: None,
            reserved: None,
        };
        let run: RunId = "r".parse().expect("an id");
        for kept in 1..=KEPT_REFUSALS + 1 {
            // Whether it is kept or not: the agent is told that it is on no record yet.
            assert!(server.refused(run.clone(), verdict.clone()).await.is_err());
            assert_eq!(server.shared().queue.len(), kept.min(KEPT_REFUSALS));
        }
    }
}
