//! What a runner is told, and the pipes by which it is told and speaks.

use crate::engine::Gauge;
use crate::home::until;
use crate::input::Input;
use api::frame;
use api::inbox::ToRunner;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use tokio::net::unix::pipe;
use tokio::sync::watch;

/// Tells the runner its first orders, then what comes for it, what of its words is kept, what it asks, and a cancel;
/// keeps the pipe open until dropped.
pub async fn write(
    mut to: pipe::Sender,
    first: Vec<ToRunner>,
    input: Arc<Input>,
    kept: Option<watch::Receiver<u64>>,
    (mut asked, gauge): (Option<watch::Receiver<u64>>, Gauge),
    cancelled: watch::Receiver<bool>,
) {
    let (mut first, mut kept, mut told) = (first.into_iter(), kept, false);
    loop {
        let next = match first.next() {
            Some(order) => order,
            None => tokio::select! {
                biased;
                () = until(cancelled.clone()), if !told => ToRunner::Cancel,
                asked = more(&mut asked) => ToRunner::Met { asked, counts: gauge() },
                events = more(&mut kept) => ToRunner::Kept { events },
                next = input.next(), if !told => next,
            },
        };
        told |= next == ToRunner::Cancel;
        // A broken pipe needs no word here: the box is ending, and its output says how.
        if frame::write(&mut to, &next).await.is_err() {
            break;
        }
    }
    std::future::pending().await
}

/// A count, once it has grown.
async fn more(kept: &mut Option<watch::Receiver<u64>>) -> u64 {
    let Some(kept) = kept else { return std::future::pending().await };
    match kept.changed().await {
        Ok(()) => *kept.borrow_and_update(),
        // Nothing more comes from the box.
        Err(_) => std::future::pending().await,
    }
}

/// The three pipes of a box, made ready to be waited for.
///
/// # Errors
/// The system's own.
pub fn pipes(
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
) -> std::io::Result<(pipe::Sender, pipe::Receiver, pipe::Receiver)> {
    Ok((
        pipe::Sender::from_owned_fd(stdin)?,
        pipe::Receiver::from_owned_fd(stdout)?,
        pipe::Receiver::from_owned_fd(stderr)?,
    ))
}
