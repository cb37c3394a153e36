//! The cable: the one door of a box, bound from outside.
//!
//! The helper, single-threaded, enters the box's network namespace between create and start, brings `lo` up and
//! binds port 8080 of every IPv4 address there. All of them are the box's own, since `lo` is its only interface; who
//! lives in the box connects to `127.0.0.1:8080`. Bound to that one alone, the port of `127.0.0.2` would be free for a
//! rival, and Landlock's rules know ports and no addresses. Bound without `SO_REUSEADDR`, on purpose: together with the
//! operator's kept duplicate, which is shut down when the gateway dies, it makes that the port can never be taken by
//! a rival. `[::1]` stays free: what holds a value has no IPv6.

use rustix::net::{AddressFamily, Protocol, SocketAddrV4, SocketFlags, SocketType};
use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

/// The door's port in the box.
pub const PORT: u16 = 8080;

/// Enters the network namespace at `netns`, for good, and binds the door there.
///
/// # Errors
/// The system's own, named by act.
pub fn bind(netns: &Path) -> io::Result<OwnedFd> {
    let namespace = File::open(netns)?;
    rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(rustix::thread::LinkNameSpaceType::Network))?;
    listen()
}

/// Brings `lo` up in the network namespace of this thread, a new one, and binds the door there.
///
/// # Errors
/// The system's own, named by act.
pub fn listen() -> io::Result<OwnedFd> {
    raise_loopback()?;
    let socket = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        Some(rustix::net::ipproto::TCP),
    )
    .map_err(|e| io::Error::other(format!("socket: {e}")))?;
    rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, PORT))
        .map_err(|e| io::Error::other(format!("bind 0.0.0.0:{PORT}: {e}")))?;
    rustix::net::listen(&socket, 128)?;
    Ok(socket)
}

fn raise_loopback() -> io::Result<()> {
    let socket =
        rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None::<Protocol>)?;
    // SAFETY: `ifreq` is plain data, for which all zeros is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one `ifreq`, which lives until the call returns.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
