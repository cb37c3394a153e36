//! The cable: operators dial in, hand over their boxes' listeners, and have what boxes say scrubbed.
//!
//! Packets are carried out one after the other; what is to be scrubbed has turns of its own ([`crate::turns`]), so that
//! answers come in the order of one run's questions, and no run waits for another's. The end of an operator's connection, or a packet that is none of this protocol, ends every run on it at once. A listener for
//! which there is no descriptor left here is the failure of its run alone.
//!
//! Read [`accept`], [`Cable::carry_out`], then [`Packets`] (the socket).

use crate::Gate;
use crate::door::DoorId;
use crate::git::local::{End, WAITING};
use crate::turns::{Question, Turns, Whose};
use anyhow::{Context as _, bail, ensure};
use api::cable::{FromCable, MAX_PACKET, ToCable};
use model::RunId;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags,
};
use std::collections::HashMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

/// Descriptors that a packet may bring; one is right, more are closed with the connection.
const DESCRIPTORS: usize = 4;
/// Rest after a failed accept, in milliseconds.
const ACCEPT_REST_MS: u64 = 50;

/// Serves every operator that dials, until the process ends.
///
/// # Errors
/// When `listener` is no listening socket. A connection that fails is only logged.
pub(crate) async fn accept(gate: Arc<Gate>, listener: OwnedFd) -> anyhow::Result<()> {
    ensure!(
        rustix::net::sockopt::socket_acceptconn(&listener).context("the cable is no socket")?,
        "the cable is no listening socket"
    );
    rustix::io::ioctl_fionbio(&listener, true).context("the cable cannot be made non-blocking")?;
    let listener = watch(listener).context("the cable cannot be watched")?;
    loop {
        let accepted = async {
            let mut ready = listener.readable().await?;
            ready
                .try_io(|l| Ok(rustix::net::accept_with(l.get_ref(), SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?))
                .unwrap_or_else(|_| Err(io::ErrorKind::WouldBlock.into()))
        };
        match accepted.await.and_then(watch) {
            Ok(socket) => {
                // Room for the longest packet whatever the machine's default; the kernel caps it without an error.
                if let Err(error) = rustix::net::sockopt::set_socket_send_buffer_size(&socket, 2 * MAX_PACKET) {
                    tracing::warn!(%error, "the cable's buffer keeps its size");
                }
                let (passes, ends) = mpsc::channel(WAITING);
                let mut cable = Cable {
                    passes,
                    ends,
                    turns: Turns::new(gate.recent.clone(), gate.scrubbers.clone()),
                    gate: gate.clone(),
                    packets: Packets(socket),
                    doors: HashMap::new(),
                };
                tokio::spawn(async move {
                    match cable.serve().await {
                        Ok(()) => tracing::info!("an operator hung up; its runs are shut"),
                        Err(error) => {
                            tracing::error!(error = format!("{error:#}"), "an operator is cut off; its runs are shut")
                        }
                    }
                });
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                tracing::warn!(%error, "an operator was not accepted");
                tokio::time::sleep(Duration::from_millis(ACCEPT_REST_MS)).await;
            }
        }
    }
}

/// Has the runtime watch a descriptor.
fn watch(owned: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is one open descriptor for its whole life, and the `AsyncFd` owns it.
    unsafe { AsyncFd::register(owned) }.map_err(io::Error::from)
}

/// Bytes of events, as they stand in JSON, that an answer has room for.
const ROOM: usize = MAX_PACKET - 1024;
/// Bytes of a scrubbed text in one packet: escaped they still fit it.
const PIECE: usize = 24 * 1024;
/// The length of a text as JSON, in bytes, and of what is between it and the next.
fn quoted(text: &str) -> usize {
    serde_json::to_string(text).map_or(usize::MAX, |quoted| quoted.len() + 1)
}

/// One operator. Dropped, it takes the doors of its runs with it.
struct Cable {
    gate: Arc<Gate>,
    packets: Packets,
    doors: HashMap<RunId, DoorId>,
    /// What is to be scrubbed.
    turns: Turns,
    /// Takes sockets on which the operator is to serve repositories.
    passes: mpsc::Sender<End>,
    ends: mpsc::Receiver<End>,
}

impl Drop for Cable {
    fn drop(&mut self) {
        for (run, door) in self.doors.drain() {
            self.gate.doors.detach(&run, Some(door));
            self.gate.locals.detach(&run, &self.passes);
            self.gate.outlet.scripts.forget(run.as_str());
        }
    }
}

impl Cable {
    async fn serve(&mut self) -> anyhow::Result<()> {
        // A placeholder made without the workspace's key would not be the one that all others make.
        self.gate.recent.known().await;
        let mut buffer = vec![0; MAX_PACKET];
        loop {
            let answer = tokio::select! {
                scrubbed = self.turns.done() => scrubbed?,
                Some(End { run, socket }) = self.ends.recv() => {
                    self.packets.send_with(FromCable::Repository { run }, Some(socket)).await?;
                    None
                }
                received = self.packets.receive(&mut buffer), if self.turns.has_room() => {
                    let Some(received) = received? else { return Ok(()) };
                    let message = serde_json::from_slice(&buffer[..received.length])
                        .context("a packet holds no message of the cable")?;
                    self.carry_out(message, received)?
                }
            };
            if let Some(answer) = answer {
                self.packets.send(answer).await?;
            }
        }
    }

    fn carry_out(&mut self, message: ToCable, received: Received) -> anyhow::Result<Option<FromCable>> {
        let Received { mut descriptors, lost, length, .. } = received;
        if let (ToCable::Attach { run }, true) = (&message, lost) {
            return Ok(Some(no_descriptors(run.clone())));
        }
        if let (ToCable::Pull { run, .. }, true) = (&message, lost) {
            // The socket is closed with that, which the operator sees.
            tracing::error!(%run, "no descriptor is left for an image's socket; it is not pulled");
            return Ok(None);
        }
        let expected = usize::from(matches!(message, ToCable::Attach { .. } | ToCable::Pull { .. }));
        ensure!(descriptors.len() == expected, "a packet brought {} descriptors, not {expected}", descriptors.len());
        match message {
            ToCable::Attach { run } => {
                let listener = descriptors.pop().context("a packet brought no descriptor")?;
                let (door, authority) = match self.gate.doors.attach(&self.gate, run.clone(), listener) {
                    Ok(attached) => attached,
                    Err(error) if is_shortage(&error) => return Ok(Some(no_descriptors(run))),
                    Err(error) => return Err(error).context("a listener cannot be served"),
                };
                self.doors.insert(run.clone(), door);
                self.gate.locals.attach(run.clone(), self.passes.clone());
                Ok(Some(FromCable::Attached { run, authority: Some(authority) }))
            }
            ToCable::Pull { run, image } => {
                let socket = descriptors.pop().context("a packet brought no descriptor")?;
                tokio::spawn(crate::images::serve(self.gate.clone(), run, image, socket));
                Ok(None)
            }
            ToCable::Detach { run } => {
                let door = self.doors.remove(&run);
                self.gate.doors.detach(&run, door);
                self.gate.locals.detach(&run, &self.passes);
                self.gate.outlet.scripts.forget(run.as_str());
                self.turns.ask(Whose::Run(run), Question::Forget, length);
                Ok(None)
            }
            ToCable::Scrub { id, text, more } => {
                self.turns.ask(Whose::Text(id), Question::Scrub { id, text, more }, length);
                Ok(None)
            }
            ToCable::Hear { id, run, event } => {
                let ends = event.is_none() || !self.doors.contains_key(&run);
                self.turns.ask(Whose::Run(run), Question::Hear { id, event, ends }, length);
                Ok(None)
            }
        }
    }
}

/// The answer to a listener that cannot be held.
fn no_descriptors(run: RunId) -> FromCable {
    tracing::error!(%run, "no descriptor is left for a run's listener; the run is refused");
    let why = "it has no descriptors left; a higher limit of open files, or fewer runs at once, would help";
    FromCable::Refused { run, why: why.to_owned() }
}

/// Whether what failed is this process's or machine's shortage, and no fault of what was sent.
fn is_shortage(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let short = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::NOBUFS, Errno::NOSPC];
    error.raw_os_error().is_some_and(|code| short.iter().any(|errno| errno.raw_os_error() == code))
}

/// A connected `SOCK_SEQPACKET` socket.
struct Packets(AsyncFd<OwnedFd>);

impl Packets {
    /// The next packet; none at the end.
    async fn receive(&mut self, buffer: &mut [u8]) -> anyhow::Result<Option<Received>> {
        loop {
            let mut ready = self.0.readable().await.context("the cable cannot be read")?;
            match ready.try_io(|socket| receive_now(socket.get_ref(), buffer)) {
                Ok(Ok(Received { length: 0, descriptors, .. })) if descriptors.is_empty() => return Ok(None),
                Ok(Ok(received)) => {
                    if received.cut {
                        bail!("a packet is longer than {MAX_PACKET} bytes or brings too many descriptors");
                    }
                    return Ok(Some(received));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Ok(Err(error)) => return Err(error).context("the cable cannot be read"),
                Err(_would_block) => {}
            }
        }
    }

    /// Sends an answer, of events that were heard and of a text in as many packets as it takes: placeholders can be longer
    /// than what they stand for.
    async fn send(&mut self, answer: FromCable) -> anyhow::Result<()> {
        let (id, events) = match answer {
            FromCable::Heard { id, events, .. } => (id, events),
            FromCable::Scrubbed { id, text, .. } => {
                let mut rest = text.as_str();
                loop {
                    let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE));
                    rest = after;
                    let more = !rest.is_empty();
                    self.send_one(FromCable::Scrubbed { id, text: piece.to_owned(), more }).await?;
                    if !more {
                        return Ok(());
                    }
                }
            }
            other => return self.send_one(other).await,
        };
        let mut packet = Vec::new();
        let mut room = ROOM;
        for event in events {
            let mut rest = event.as_str();
            if quoted(rest) > room && !packet.is_empty() {
                let events = std::mem::take(&mut packet);
                self.send_one(FromCable::Heard { id, events, more: true, cut: false }).await?;
                room = ROOM;
            }
            while quoted(rest) > room {
                let (piece, after) = rest.split_at(rest.floor_char_boundary(PIECE));
                let events = vec![piece.to_owned()];
                self.send_one(FromCable::Heard { id, events, more: true, cut: true }).await?;
                rest = after;
            }
            room -= quoted(rest);
            packet.push(rest.to_owned());
        }
        self.send_one(FromCable::Heard { id, events: packet, more: false, cut: false }).await
    }

    async fn send_one(&mut self, answer: FromCable) -> anyhow::Result<()> {
        self.send_with(answer, None).await
    }

    /// Sends a packet, and a descriptor beside it.
    async fn send_with(&mut self, answer: FromCable, beside: Option<OwnedFd>) -> anyhow::Result<()> {
        let packet = serde_json::to_vec(&answer)?;
        let send = |socket: &OwnedFd| {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let sockets = beside.as_ref().map(|socket| [socket.as_fd()]);
            if let Some(sockets) = &sockets {
                control.push(SendAncillaryMessage::ScmRights(sockets));
            }
            Ok(rustix::net::sendmsg(socket, &[IoSlice::new(&packet)], &mut control, SendFlags::NOSIGNAL)?)
        };
        loop {
            let mut ready = self.0.writable().await.context("the cable cannot be written")?;
            match ready.try_io(|socket| send(socket.get_ref())) {
                Ok(sent) => {
                    sent.context("the cable cannot be written")?;
                    return Ok(());
                }
                Err(_would_block) => {}
            }
        }
    }
}

struct Received {
    length: usize,
    descriptors: Vec<OwnedFd>,
    /// More was sent than a packet may hold.
    cut: bool,
    /// It brought descriptors, and this process had room for none.
    lost: bool,
}

fn receive_now(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Received> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(brought) = message {
            descriptors.extend(brought);
        }
    }
    let fewer = got.flags.contains(ReturnFlags::CTRUNC);
    let lost = fewer && descriptors.is_empty();
    let cut = got.flags.contains(ReturnFlags::TRUNC) || fewer && !lost;
    Ok(Received { length: got.bytes, descriptors, cut, lost })
}
