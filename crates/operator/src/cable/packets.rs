//! The socket to the gateway: packets out of a queue, and what comes in given to whoever waits for it.

use super::{CableError, Held, Packet};
use crate::runs::locked;
use api::cable::{FromCable, MAX_PACKET};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Mutex;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

pub fn dial(socket: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    rustix::net::connect(&fd, &SocketAddrUnix::new(socket)?)?;
    rustix::net::sockopt::set_socket_send_buffer_size(&fd, 2 * MAX_PACKET)?;
    // SAFETY: the descriptor is owned by what it is registered with, so it stays open and the same until then.
    Ok(unsafe { AsyncFd::register(fd) }?)
}

pub async fn send_all(fd: &AsyncFd<OwnedFd>, mut packets: mpsc::Receiver<Packet>) -> io::Error {
    while let Some(packet) = packets.recv().await {
        let sent = fd
            .async_io(Interest::WRITABLE, |fd| {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut ancillary = SendAncillaryBuffer::new(&mut space);
                let doors = packet.door.as_ref().map(|door| [door.as_fd()]);
                if let Some(doors) = &doors
                    && !ancillary.push(SendAncillaryMessage::ScmRights(doors))
                {
                    return Err(io::Error::other("no room for a descriptor"));
                }
                let body = [IoSlice::new(&packet.body)];
                Ok(rustix::net::sendmsg(fd, &body, &mut ancillary, SendFlags::NOSIGNAL)?)
            })
            .await;
        if let Err(e) = sent {
            return e;
        }
    }
    io::Error::other("nobody holds the line")
}

pub async fn receive_all(fd: &AsyncFd<OwnedFd>, held: &Mutex<Held>) -> io::Error {
    let mut space = vec![0; MAX_PACKET];
    loop {
        let packet = fd
            .async_io(Interest::READABLE, |fd| {
                let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut beside = RecvAncillaryBuffer::new(&mut room);
                let mut into = [IoSliceMut::new(&mut space)];
                let got = rustix::net::recvmsg(fd, &mut into, &mut beside, RecvFlags::CMSG_CLOEXEC)?;
                if got.flags.contains(ReturnFlags::TRUNC) {
                    return Err(Errno::MSGSIZE.into());
                }
                let socket = beside.drain().find_map(|message| match message {
                    RecvAncillaryMessage::ScmRights(mut sockets) => sockets.next(),
                    _ => None,
                });
                Ok((got.bytes, socket))
            })
            .await;
        let (message, socket) = match packet {
            Ok((0, _)) => return io::ErrorKind::UnexpectedEof.into(),
            Ok((n, socket)) => (serde_json::from_slice::<FromCable>(&space[..n]), socket),
            Err(e) => return e,
        };
        let mut held = locked(held);
        // A waiter that left is no loss: its run is ending.
        match message {
            Ok(FromCable::Attached { run, authority }) => {
                drop(held.attaches.remove(&run).map(|waiting| waiting.send(Ok(authority))));
            }
            Ok(FromCable::Refused { run, why }) => {
                drop(held.attaches.remove(&run).map(|waiting| waiting.send(Err(CableError::Refused(why)))));
            }
            Ok(FromCable::Repository { run }) => {
                // Of a run that has none, or is over, the socket is closed here.
                if let (Some(served), Some(socket)) = (held.repositories.get(&run), socket) {
                    served.serve(socket);
                }
            }
            Ok(FromCable::Scrubbed { id, text, more }) => {
                if let Some((mut whole, waiting)) = held.scrubs.remove(&id) {
                    whole.push_str(&text);
                    if more {
                        held.scrubs.insert(id, (whole, waiting));
                    } else {
                        drop(waiting.send(whole));
                    }
                }
            }
            Ok(FromCable::Heard { id, events, more, cut }) => {
                if let Some((mut heard, waiting)) = held.heard.remove(&id) {
                    heard.take(events, cut);
                    if more {
                        held.heard.insert(id, (heard, waiting));
                    } else {
                        drop(waiting.send(heard.events));
                    }
                }
            }
            Err(e) => return e.into(),
        }
    }
}

/// Events that come in several packets.
#[derive(Default)]
pub struct Heard {
    events: Vec<String>,
    /// The last of them is not whole.
    cut: bool,
}

impl Heard {
    fn take(&mut self, events: Vec<String>, cut: bool) {
        let mut events = events.into_iter();
        if self.cut
            && let Some(last) = self.events.last_mut()
        {
            last.extend(events.next());
        }
        self.events.extend(events);
        self.cut = cut;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_that_come_in_pieces_are_put_together_in_order() {
        let mut heard = Heard::default();
        for (events, cut) in [(&["a"][..], false), (&["b", "c1"], true), (&["c2"], true), (&["c3", "d"], false)] {
            heard.take(events.iter().map(|event| (*event).to_owned()).collect(), cut);
        }
        assert_eq!(heard.events, ["a", "b", "c1c2c3", "d"]);
    }
}
