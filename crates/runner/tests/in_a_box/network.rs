//! What the scripted agent has open, and its ways to the box's loopback: each gives an error number, or 0 when it went
//! through.

use std::ffi::{c_int, c_void};
use std::net::TcpStream;

unsafe extern "C" {
    fn socket(family: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn bind(fd: c_int, to: *const c_void, length: u32) -> c_int;
    fn listen(fd: c_int, waiting: c_int) -> c_int;
    fn sendto(fd: c_int, from: *const u8, n: usize, flags: c_int, to: *const c_void, length: u32) -> isize;
    fn close(fd: c_int) -> c_int;
    fn fcntl(fd: c_int, what: c_int, ...) -> c_int;
}

const INET: c_int = 2;
const STREAM: c_int = 1;
const FASTOPEN_QUIETLY: c_int = 0x2000_0000 | 0x4000;

/// `sockaddr_in` of 127.0.0.1.
fn loopback(port: u16) -> [u8; 16] {
    let mut to = [0; 16];
    to[..2].copy_from_slice(&(INET as u16).to_ne_bytes());
    to[2..4].copy_from_slice(&port.to_be_bytes());
    to[4..8].copy_from_slice(&[127, 0, 0, 1]);
    to
}

/// What a call on a new TCP socket met.
fn met(call: impl Fn(c_int) -> bool) -> i32 {
    // SAFETY: numbers, and a descriptor that is ours.
    unsafe {
        let fd = socket(INET, STREAM, 0);
        let errno = || std::io::Error::last_os_error().raw_os_error().unwrap_or(-1);
        if fd < 0 {
            return errno();
        }
        let met = if call(fd) { 0 } else { errno() };
        close(fd);
        met
    }
}

/// Connects.
pub fn dial(port: u16) -> i32 {
    TcpStream::connect(("127.0.0.1", port)).map_or_else(|e| e.raw_os_error().unwrap_or(-1), |_| 0)
}

/// Connects by sending, which is no call of connect.
pub fn dial_by_sending(port: u16) -> i32 {
    let to = loopback(port);
    // SAFETY: a byte and an address, of the lengths given.
    met(|fd| unsafe { sendto(fd, b"x".as_ptr(), 1, FASTOPEN_QUIETLY, to.as_ptr().cast(), 16) } >= 0)
}

/// Binds a port and listens there; `any` listens without having bound one.
pub fn serve(port: &str) -> i32 {
    let to = port.parse().ok().map(loopback);
    // SAFETY: an address of the length given, and a number.
    met(|fd| unsafe { to.is_none_or(|to| bind(fd, to.as_ptr().cast(), 16) == 0) && listen(fd, 1) == 0 })
}

/// The numbers of all that is open, up to 4,096.
pub fn descriptors() -> String {
    const GET_FLAGS: c_int = 1;
    // SAFETY: numbers only.
    let open = (0..4096).filter(|fd| unsafe { fcntl(*fd, GET_FLAGS) } >= 0);
    open.map(|fd| fd.to_string()).collect::<Vec<_>>().join(" ")
}
