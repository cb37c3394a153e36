//! The runner's own connection: what process 1 of a box asks for its commands, and the only way on which a value enters
//! a box.
//!
//! It is the first connection that a door's listener accepts, or there is none. Process 1 connects before any other
//! process exists in the box's network namespace, and the kernel gives connections out in the order in which they were
//! made, so the first is process 1's and no other can come before it. A first connection that does not begin as the
//! runner's does is an ordinary one; then no lease ends in this box. It holds no seat and none of the run's
//! connections, and no time ends it: it lives as long as the door.
//!
//! Read [`is_runner`], [`serve`], then [`one_use`].

use crate::Gate;
use crate::call::Caller;
use crate::refusal::{Refusal, Trace};
use crate::server::Lost;
use crate::server::leases::Taken;
use api::delivery::{FromRunner, MAX_USES, RUNNER, ToRunner};
use api::frame;
use api::grants::WireSecret;
use api::leases::{LeaseEnd, LeaseUse, LeaseUser};
use model::LeaseId;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// Whether a door's first connection is the runner's; `patience` is how long it may take to say its first byte.
pub(crate) async fn is_runner(stream: &TcpStream, patience: Duration) -> bool {
    let mut first = [0];
    let said = tokio::time::timeout(patience, stream.peek(&mut first)).await;
    matches!(said, Ok(Ok(1)) if first == [RUNNER])
}

/// Serves the runner until it hangs up or the door is shut. What it had under way is broken off then.
pub(crate) async fn serve(gate: &Arc<Gate>, caller: &Arc<Caller>, mut stream: TcpStream) {
    let run = &caller.run;
    if let Err(error) = stream.set_nodelay(true).and(stream.read_u8().await.map(drop)) {
        tracing::debug!(%error, %run, "a runner was gone before it was served");
        return;
    }
    let (mut from, mut to) = stream.into_split();
    let (answer, mut answers) = mpsc::channel::<ToRunner>(MAX_USES);
    let mut uses = JoinSet::new();
    let hearing = async {
        let mut open: HashMap<u64, oneshot::Sender<LeaseEnd>> = HashMap::new();
        loop {
            while uses.try_join_next().is_some() {}
            match frame::read::<FromRunner>(&mut from).await {
                Ok(FromRunner::Use { id, lease, by }) => {
                    open.retain(|_, end| !end.is_closed());
                    if open.len() >= MAX_USES || open.contains_key(&id) {
                        let why = format!("A box uses at most {MAX_USES} leases at a time.");
                        drop(answer.send(ToRunner::Denied { id, rule: "lease.at-once".into(), why }).await);
                        continue;
                    }
                    let (end, ended) = oneshot::channel();
                    open.insert(id, end);
                    let used = (caller.clone(), lease, by);
                    uses.spawn(one_use(gate.clone(), id, used, ended, answer.clone()));
                }
                Ok(FromRunner::End { id, outcome }) => {
                    // A use that is over without the runner's word has nobody who waits for it.
                    if let Some(end) = open.remove(&id) {
                        end.send(outcome).ok();
                    }
                }
                Err(end) => return end,
            }
        }
    };
    let telling = async {
        while let Some(message) = answers.recv().await {
            if let Err(end) = frame::write(&mut to, &message).await {
                return end;
            }
        }
        frame::FrameError::Closed
    };
    let end = tokio::select! {
        end = hearing => end,
        end = telling => end,
    };
    tracing::debug!(error = %end, %run, "a runner's connection ended");
    // Its last words may have come with its end: each use hears the one for it, and the others hear that there is none.
    drop(answers);
    while uses.join_next().await.is_some() {}
}

/// One use, from the question to its end. One that the runner's last word does not end is broken off with the connection.
async fn one_use(
    gate: Arc<Gate>,
    id: u64,
    (caller, lease, by): (Arc<Caller>, LeaseId, LeaseUser),
    mut ended: oneshot::Receiver<LeaseEnd>,
    answer: mpsc::Sender<ToRunner>,
) {
    // A box asks for as many uses as it likes, and each denial of the server's is a record.
    if let Err(no) = caller.tally.may_ask() {
        let denied = match caller.tally.record(Trace::default().refused(&no)).await {
            Ok(()) => no,
            Err(Lost) => Refusal::record_lost(),
        };
        drop(answer.send(ToRunner::Denied { id, rule: denied.rule, why: denied.why }).await);
        return;
    }
    let mut held = match gate.server.use_lease(LeaseUse { run: caller.run.clone(), lease, by }).await {
        Ok(Taken::Value(held)) => {
            caller.tally.granted();
            held
        }
        Ok(Taken::Denied { rule, why }) => {
            // What the server could not record is no record.
            if rule != "server.failed" {
                caller.tally.denied();
            }
            drop(answer.send(ToRunner::Denied { id, rule, why }).await);
            return;
        }
        Err(_) => {
            let why = "The platform's server does not answer; without it no lease is used.".to_owned();
            drop(answer.send(ToRunner::Denied { id, rule: "server.away".into(), why }).await);
            return;
        }
    };
    if !held.secret.is_empty() {
        for one in std::iter::once(&held.value).chain(held.parts.iter().map(|part| &part.0)) {
            caller.egress.given.note_of_a_command((&held.secret, one), &gate.recent);
        }
    }
    let value = ToRunner::Value {
        id,
        value: WireSecret(held.value.share()),
        secret: held.secret.clone(),
        delivery: held.delivery.clone(),
        variables: held.variables.clone(),
        destination: held.destination.clone(),
        parts: held.parts.iter().map(|part| WireSecret(part.0.share())).collect(),
    };
    if answer.send(value).await.is_err() {
        return;
    }
    tokio::select! {
        outcome = &mut ended => if let Ok(outcome) = outcome { held.ended(outcome) },
        why = held.over() => {
            // What the runner says of its end then changes nothing: it was broken off. It is over when nothing lives.
            if answer.send(ToRunner::Over { id, why }).await.is_ok() {
                drop(ended.await);
            }
        }
    }
}
