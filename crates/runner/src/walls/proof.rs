//! Forbidden calls, made on purpose once the walls stand, and what the kernel said to each.
//!
//! Landlock does not show in `/proc`; this is how the operator sees that it holds. A call goes through only
//! when a wall is missing, and the operator kills the box for any answer but the one that it expects.

use api::inbox::{Forbidden, X32};
use std::io;

/// A file outside every rule that anyone may read by its mode: only Landlock refuses it. The sandbox puts it there.
const PROBE: &std::ffi::CStr = c"/var/volary-probe";
/// An address of TEST-NET-1 (RFC 5737), which belongs to no one.
const NOWHERE: [u8; 4] = [192, 0, 2, 1];

/// Makes every forbidden call, as [`api::inbox::forbidden`] lists them.
#[must_use]
pub fn attempts() -> Vec<Forbidden> {
    let mut all = vec![
        said("read /var/volary-probe", open(PROBE, libc::O_RDONLY)),
        said("make /run/x", open(c"/run/x", libc::O_CREAT | libc::O_WRONLY)),
        said("mkdir /volary-forbidden", mkdir(c"/volary-forbidden")),
        said("io_uring_setup", raw(libc::SYS_io_uring_setup, 1, 0)),
        said("unshare(CLONE_NEWUSER)", raw(libc::SYS_unshare, i64::from(libc::CLONE_NEWUSER), 0)),
        said("clone3", raw(libc::SYS_clone3, 0, 0)),
        said("socket(AF_NETLINK)", socket(libc::AF_NETLINK, libc::SOCK_RAW)),
        said("socket(AF_INET, SOCK_RAW)", socket(libc::AF_INET, libc::SOCK_RAW)),
        said("TCP connect 192.0.2.1:443", connect(libc::SOCK_STREAM, 443)),
        said("TCP connect 192.0.2.1:8080", connect(libc::SOCK_STREAM, 8080)),
        said("UDP connect 192.0.2.1:53", connect(libc::SOCK_DGRAM, 53)),
    ];
    if cfg!(target_arch = "x86_64") {
        const BIT: i64 = 0x4000_0000;
        all.push(said(X32, raw(BIT | libc::SYS_getpid, 0, 0)));
    }
    all
}

fn said(call: &str, errno: i32) -> Forbidden {
    Forbidden { call: call.to_owned(), errno }
}

/// The error number of a call that answered `answer`; 0 when it went through.
fn errno(answer: i64) -> i32 {
    if answer >= 0 { 0 } else { io::Error::last_os_error().raw_os_error().unwrap_or(-1) }
}

/// As [`errno`], for a call that gives a descriptor, which is closed again.
fn errno_of_descriptor(fd: i32) -> i32 {
    let errno = errno(i64::from(fd));
    if fd >= 0 {
        // SAFETY: ours, just made, known to no one else.
        unsafe { libc::close(fd) };
    }
    errno
}

fn open(path: &std::ffi::CStr, flags: i32) -> i32 {
    // SAFETY: a C string that outlives the call.
    errno_of_descriptor(unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) })
}

fn mkdir(path: &std::ffi::CStr) -> i32 {
    // SAFETY: a C string that outlives the call.
    errno(i64::from(unsafe { libc::mkdir(path.as_ptr(), 0o700) }))
}

fn raw(number: libc::c_long, first: i64, second: i64) -> i32 {
    // SAFETY: each of these calls takes numbers or a null pointer here, and touches no memory of ours.
    errno(unsafe { libc::syscall(number, first, second) })
}

fn socket(family: i32, kind: i32) -> i32 {
    // SAFETY: numbers only.
    errno_of_descriptor(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, 0) })
}

fn connect(kind: i32, port: u16) -> i32 {
    // SAFETY: numbers only.
    let fd = unsafe { libc::socket(libc::AF_INET, kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0) };
    if fd < 0 {
        return errno(-1);
    }
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(NOWHERE) },
        sin_zero: [0; 8],
    };
    let length = std::mem::size_of::<libc::sockaddr_in>() as libc::socklen_t;
    // SAFETY: an address of the length given, and a descriptor that is ours and closed right after.
    let met = errno(i64::from(unsafe { libc::connect(fd, (&raw const address).cast(), length) }));
    // SAFETY: as above.
    unsafe { libc::close(fd) };
    met
}
