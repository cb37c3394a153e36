//! The cable: hands each box's door to the gateway, and has everything a box said scrubbed there.
//!
//! The operator keeps a duplicate of every door and never accepts on it. When the connection to the gateway ends,
//! the duplicates are shut down in the same instant: connects in the boxes are refused from then on, and no rival
//! in a box can take the port. Every run attached over that connection learns of it through its [`Attachment`] and
//! ends its box; nothing of a box is passed on unscrubbed, ever. The next connection serves the next attempts.
//!
//! Read [`Cable::keep`] (dialling), [`Cable::attach`], then [`Attachment::hear`] and [`Cable::scrub_text`]; the socket
//! itself is in [`packets`].

mod packets;

use crate::repo::serve::Served;
use crate::runs::locked;
use api::cable::{MAX_PACKET, ToCable};
use model::RunId;
use packets::{Heard, dial, receive_all, send_all};
use rustix::net::Shutdown;
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot, watch};

/// How long the gateway may take to say that it serves a run. The socket outlives the process that serves it, so a
/// dial succeeds while the gateway is being started again: as long as that may take.
pub const ATTACH: Duration = Duration::from_secs(60);
/// How long a text that no live box said waits for a gateway.
const PRESENT: Duration = Duration::from_secs(10);
/// Bytes of a text in one packet to the scrubber: escaped they still fit it.
const PIECE: usize = 24 * 1024;

/// Why something of a box cannot be scrubbed or served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CableError {
    /// The connection to the gateway ended.
    #[error("the gateway ended; the box has no network")]
    Lost,
    /// The gateway cannot serve this run; it serves the others.
    #[error("the gateway cannot serve the run: {0}")]
    Refused(String),
    /// No gateway in the time given.
    #[error("the gateway is not there; `volary status` says why")]
    NoGateway,
    /// The text does not fit one packet.
    #[error("an event of {0} bytes does not fit a packet of {MAX_PACKET} to the scrubber")]
    TooLong(usize),
    /// The listener could not be duplicated.
    #[error("the box's door could not be kept: {0}")]
    Door(String),
}

struct Packet {
    body: Vec<u8>,
    door: Option<OwnedFd>,
}

/// Questions that wait for an answer, and the doors that must close with the line.
#[derive(Default)]
struct Held {
    over: bool,
    next: u64,
    /// Pieces of texts, with what is decided so far.
    scrubs: HashMap<u64, (String, oneshot::Sender<String>)>,
    heard: HashMap<u64, (Heard, oneshot::Sender<Vec<String>>)>,
    attaches: HashMap<RunId, oneshot::Sender<Result<Option<String>, CableError>>>,
    doors: HashMap<RunId, OwnedFd>,
    /// Repositories that are served to their runs.
    repositories: HashMap<RunId, Arc<Served>>,
}

/// One connection.
#[derive(Clone)]
struct Line {
    out: mpsc::Sender<Packet>,
    held: Arc<Mutex<Held>>,
    lost: watch::Receiver<()>,
}

/// The connection to the gateway, redialled when it ends.
#[derive(Clone)]
pub struct Cable {
    line: watch::Sender<Option<Line>>,
}

impl Default for Cable {
    fn default() -> Self {
        Self { line: watch::Sender::new(None) }
    }
}

impl Cable {
    /// Dials for ever; returns only by being dropped.
    pub async fn keep(self, socket: PathBuf) {
        let mut pause = crate::link::FIRST_PAUSE;
        loop {
            match dial(&socket) {
                Ok(fd) => {
                    pause = crate::link::FIRST_PAUSE;
                    let why = self.serve(fd).await;
                    tracing::warn!(%why, "the gateway's connection ended; dialling again");
                }
                Err(cause) => tracing::debug!(%cause, socket = %socket.display(), "the gateway is not there"),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(crate::link::LONGEST_PAUSE);
        }
    }

    async fn serve(&self, fd: AsyncFd<OwnedFd>) -> io::Error {
        let (out, packets) = mpsc::channel(64);
        let (alive, lost) = watch::channel(());
        let held = Arc::new(Mutex::new(Held::default()));
        let line = Line { out, held: Arc::clone(&held), lost };
        // Dropped on every way out of here, also when the task itself is dropped.
        let closing = Closing { line: self.line.clone(), held, _alive: alive };
        self.line.send_replace(Some(line));
        let why = tokio::select! {
            why = send_all(&fd, packets) => why,
            why = receive_all(&fd, &closing.held) => why,
        };
        drop(closing);
        why
    }

    /// Waits until a gateway is there.
    ///
    /// # Errors
    /// [`CableError::NoGateway`] after `patience`.
    pub async fn ready(&self, patience: Duration) -> Result<(), CableError> {
        let mut line = self.line.subscribe();
        let there = line.wait_for(Option::is_some);
        match tokio::time::timeout(patience, there).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(CableError::NoGateway),
        }
    }

    /// Scrubs a text of any length that no live box said. It goes in pieces and is one text to the gateway: what is
    /// cut by their borders is found.
    ///
    /// # Errors
    /// [`CableError::Lost`]; [`CableError::NoGateway`] when none is there within ten seconds.
    pub async fn scrub_text(&self, text: &str) -> Result<String, CableError> {
        self.ready(PRESENT).await?;
        let line = self.line.borrow().clone().ok_or(CableError::Lost)?;
        line.scrub_text(text).await
    }

    /// Has the gateway ask a registry for the image that the run's profile names; gives the socket on which its parts
    /// are asked for ([`api::images`]).
    ///
    /// # Errors
    /// [`CableError::NoGateway`], [`CableError::Lost`]; [`CableError::Door`] when there is no socket.
    pub async fn pull(&self, run: &RunId, image: &str) -> Result<UnixStream, CableError> {
        let line = self.line.borrow().clone().ok_or(CableError::NoGateway)?;
        let (ours, theirs) = UnixStream::pair().map_err(|e| CableError::Door(e.to_string()))?;
        line.send(&ToCable::Pull { run: run.clone(), image: image.to_owned() }, Some(theirs.into())).await?;
        Ok(ours)
    }

    /// Has the gateway serve `run` on `door`; afterwards the run may be started.
    ///
    /// # Errors
    /// [`CableError`]; the door is shut then.
    pub async fn attach(&self, run: &RunId, door: OwnedFd) -> Result<Attachment, CableError> {
        let Some(line) = self.line.borrow().clone() else {
            shut(&door);
            return Err(CableError::NoGateway);
        };
        let kept = door.try_clone().map_err(|e| CableError::Door(e.to_string()))?;
        let (said, served) = oneshot::channel();
        {
            let mut held = locked(&line.held);
            if held.over {
                shut(&kept);
                return Err(CableError::Lost);
            }
            held.doors.insert(run.clone(), kept);
            held.attaches.insert(run.clone(), said);
        }
        let mut attachment = Attachment { run: run.clone(), line, authority: None };
        attachment.line.send(&ToCable::Attach { run: run.clone() }, Some(door)).await?;
        match tokio::time::timeout(ATTACH, served).await {
            Ok(Ok(said)) => {
                attachment.authority = said?;
                Ok(attachment)
            }
            Ok(Err(_)) => Err(CableError::Lost),
            Err(_) => Err(CableError::NoGateway),
        }
    }
}

/// Shuts every kept door the moment it is dropped.
struct Closing {
    line: watch::Sender<Option<Line>>,
    held: Arc<Mutex<Held>>,
    _alive: watch::Sender<()>,
}

impl Drop for Closing {
    fn drop(&mut self) {
        let mut held = locked(&self.held);
        held.over = true;
        for door in held.doors.values() {
            shut(door);
        }
        held.doors.clear();
        held.scrubs.clear();
        held.heard.clear();
        held.attaches.clear();
        held.repositories.clear();
        drop(held);
        self.line.send_replace(None);
    }
}

/// Ends listening on every copy of a door at once, also on the gateway's.
fn shut(door: &OwnedFd) {
    if let Err(cause) = rustix::net::shutdown(door, Shutdown::Both) {
        // Already shut through another copy.
        tracing::debug!(%cause, "a door was shut before");
    }
}

/// A run that the gateway serves. Dropping it shuts the run's door.
pub struct Attachment {
    run: RunId,
    line: Line,
    /// The certificate of the run's own authority, PEM, for its box to trust.
    pub authority: Option<String>,
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let (door, served) = {
            let mut held = locked(&self.line.held);
            (held.doors.remove(&self.run), held.repositories.remove(&self.run))
        };
        drop(served);
        if let Some(door) = door {
            shut(&door);
            let detach = ToCable::Detach { run: self.run.clone() };
            // A full queue only delays what the shut door already did; the gateway sees its listener end.
            if let Ok(body) = serde_json::to_vec(&detach)
                && self.line.out.try_send(Packet { body, door: None }).is_err()
            {
                tracing::debug!(run = %self.run, "the gateway was not told of a detached run");
            }
        }
    }
}

impl Attachment {
    /// Returns when the gateway's connection has ended.
    pub async fn lost(&self) {
        let mut lost = self.line.lost.clone();
        while lost.changed().await.is_ok() {}
    }

    /// Has the gateway's requests for this run's repository answered from here on.
    pub fn serves(&self, repository: Served) {
        let mut held = locked(&self.line.held);
        if !held.over {
            held.repositories.insert(self.run.clone(), Arc::new(repository));
        }
    }

    /// Hands the next event of the box to the scrubber, or none at its end; what is to be kept for it comes through what
    /// is returned, in order of asking. The end of a text may wait for the next piece of it.
    ///
    /// # Errors
    /// [`CableError::TooLong`], [`CableError::Lost`]; also the returned channel's end means lost.
    pub async fn hear(&self, event: Option<String>) -> Result<oneshot::Receiver<Vec<String>>, CableError> {
        let (said, answer) = oneshot::channel();
        let id = {
            let mut held = locked(&self.line.held);
            if held.over {
                return Err(CableError::Lost);
            }
            held.next += 1;
            let id = held.next;
            held.heard.insert(id, (Heard::default(), said));
            id
        };
        let sent = self.line.send(&ToCable::Hear { id, run: self.run.clone(), event }, None).await;
        if sent.is_err() {
            locked(&self.line.held).heard.remove(&id);
        }
        sent.map(|()| answer)
    }

    /// Scrubs a text of any length, as [`Cable::scrub_text`].
    ///
    /// # Errors
    /// [`CableError::Lost`].
    pub async fn scrub_text(&self, text: &str) -> Result<String, CableError> {
        self.line.scrub_text(text).await
    }
}

impl Line {
    async fn send(&self, message: &ToCable, door: Option<OwnedFd>) -> Result<(), CableError> {
        let body = serde_json::to_vec(message).map_err(|e| CableError::Door(e.to_string()))?;
        if body.len() > MAX_PACKET {
            return Err(CableError::TooLong(body.len()));
        }
        self.out.send(Packet { body, door }).await.map_err(|_| CableError::Lost)
    }

    async fn scrub_text(&self, text: &str) -> Result<String, CableError> {
        let id = {
            let mut held = locked(&self.held);
            held.next += 1;
            held.next
        };
        let (mut whole, mut rest) = (String::with_capacity(text.len()), text);
        loop {
            let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE));
            rest = after;
            whole.push_str(&self.scrub_piece(id, piece, !rest.is_empty()).await?);
            if rest.is_empty() {
                return Ok(whole);
            }
        }
    }

    /// Has the next piece of a text scrubbed; gives what is decided by it.
    async fn scrub_piece(&self, id: u64, piece: &str, more: bool) -> Result<String, CableError> {
        let (said, answer) = oneshot::channel();
        {
            let mut held = locked(&self.held);
            if held.over {
                return Err(CableError::Lost);
            }
            held.scrubs.insert(id, (String::new(), said));
        }
        let sent = self.send(&ToCable::Scrub { id, text: piece.to_owned(), more }, None).await;
        if sent.is_err() {
            locked(&self.held).scrubs.remove(&id);
        }
        sent?;
        answer.await.map_err(|_| CableError::Lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::cable::FromCable;
    use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
    use tokio::io::Interest;

    #[tokio::test(flavor = "current_thread")]
    async fn a_run_that_the_gateway_refuses_fails_alone_and_the_line_stays() {
        let (ours, gateways) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )
        .unwrap();
        // SAFETY: the descriptor is owned by what it is registered with.
        let (ours, gateways) = unsafe { (AsyncFd::register(ours).unwrap(), AsyncFd::register(gateways).unwrap()) };
        let cable = Cable::default();
        let (served, gateway) = (cable.clone(), async move {
            let mut packet = vec![0; 4096];
            for answer in [r#"{"say":"refused","run":"r1","why":"full"}"#, r#"{"say":"attached","run":"r2"}"#] {
                let read = |fd: &OwnedFd| Ok(rustix::net::recv(fd, &mut packet[..], RecvFlags::empty())?.0);
                assert_ne!(gateways.async_io(Interest::READABLE, read).await.unwrap(), 0);
                rustix::net::send(gateways.get_ref(), answer.as_bytes(), SendFlags::NOSIGNAL).unwrap();
                // The refused run's detach, or the end.
                let read = |fd: &OwnedFd| Ok(rustix::net::recv(fd, &mut packet[..], RecvFlags::empty())?.0);
                gateways.async_io(Interest::READABLE, read).await.unwrap();
            }
        });
        tokio::spawn(async move { served.serve(ours).await });
        let playing = tokio::spawn(gateway);
        cable.ready(ATTACH).await.unwrap();
        let attach = async |run: &str| {
            let door = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            cable.attach(&RunId::parse(run).unwrap(), door.into()).await
        };
        assert_eq!(attach("r1").await.err(), Some(CableError::Refused("full".into())));
        assert!(attach("r2").await.is_ok());
        playing.await.unwrap();
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_long_text_goes_in_pieces_of_one_number_and_its_answers_in_any_count_are_joined() {
        let (ours, gateways) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
            None,
        )
        .unwrap();
        // SAFETY: the descriptor is owned by what it is registered with.
        let (ours, gateways) = unsafe { (AsyncFd::register(ours).unwrap(), AsyncFd::register(gateways).unwrap()) };
        let cable = Cable::default();
        let served = cable.clone();
        // Holds all back until the last piece, and gives it in packets of 1000 characters.
        let playing = tokio::spawn(async move {
            let (mut packet, mut pieces, mut whole) = (vec![0; MAX_PACKET], Vec::new(), String::new());
            loop {
                let read = |fd: &OwnedFd| Ok(rustix::net::recv(fd, &mut packet[..], RecvFlags::empty())?.0);
                let got = gateways.async_io(Interest::READABLE, read).await.unwrap();
                let ToCable::Scrub { id, text, more } = serde_json::from_slice(&packet[..got]).unwrap() else {
                    panic!()
                };
                whole.push_str(&text);
                pieces.push((id, text.len(), more));
                let said: Vec<char> = if more { Vec::new() } else { whole.chars().collect() };
                let mut answers: Vec<String> = said.chunks(1000).map(|some| some.iter().collect()).collect();
                let last = answers.pop().unwrap_or_default();
                for (text, more) in answers.into_iter().map(|text| (text, true)).chain([(last, false)]) {
                    let answer = serde_json::to_vec(&FromCable::Scrubbed { id, text, more }).unwrap();
                    let send = |fd: &OwnedFd| Ok(rustix::net::send(fd, &answer, SendFlags::NOSIGNAL)?);
                    gateways.async_io(Interest::WRITABLE, send).await.unwrap();
                }
                if !more {
                    return pieces;
                }
            }
        });
        tokio::spawn(async move { served.serve(ours).await });
        let text = "é\u{1}".repeat(PIECE / 2);
        assert_eq!(cable.scrub_text(&text).await.unwrap(), text);
        // No piece is cut in a character, and one without any line end is sent as well.
        assert_eq!(playing.await.unwrap(), [(1, PIECE, true), (1, PIECE / 2, false)]);
    }
}
