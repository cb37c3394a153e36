//! The uids of live boxes: no two at once, whichever installation of the host made them.
//!
//! Each live box holds a lock on one byte, that of its uid, of one file of the host. Which uids an installation counts
//! through begins where a hash of its folder says, and that alone would let two share some.

use crate::harden::HardenedSpec;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// The file. What is in it is nothing; it goes when the host is started anew, as every box does.
const FILE: &str = "/run/volary-uids";
/// How long the end of the box before may take, and how often it is looked for.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(5);

/// A box's uid, its own until this is dropped or its process is gone.
#[derive(Debug)]
pub(crate) struct Own(#[expect(dead_code, reason = "the lock lives as long as it is open")] File);

/// The uid of a box that is about to be made; none without root, where every box has its user's.
///
/// # Errors
/// As [`take`].
pub(crate) fn of(spec: &HardenedSpec) -> io::Result<Option<Own>> {
    if spec.host.root { take(spec.uid).map(Some) } else { Ok(None) }
}

/// Takes a uid; waits for a box before that had it and is just ending.
///
/// # Errors
/// `TimedOut` when another live box still has it after half a minute; the system's own.
fn take(uid: u32) -> io::Result<Own> {
    let end = Instant::now() + PATIENCE;
    loop {
        match take_of(Path::new(FILE), uid)? {
            Some(own) => return Ok(own),
            None if Instant::now() < end => std::thread::sleep(PAUSE),
            None => {
                let why = format!("another live box of this host has its uid {uid}, and does not end");
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
        }
    }
}

/// Whether no live box has it now.
///
/// # Errors
/// The system's own.
pub(crate) fn is_free(uid: u32) -> io::Result<bool> {
    Ok(take_of(Path::new(FILE), uid)?.is_some())
}

/// Takes it at once; none if somebody has it.
fn take_of(file: &Path, uid: u32) -> io::Result<Option<Own>> {
    // One opening for each: two of one opening would not stand in each other's way.
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(file)?;
    // SAFETY: plain data, for which all zeros is a value.
    let mut byte: libc::flock = unsafe { std::mem::zeroed() };
    byte.l_type = libc::F_WRLCK as libc::c_short;
    byte.l_whence = libc::SEEK_SET as libc::c_short;
    (byte.l_start, byte.l_len) = (libc::off_t::from(uid), 1);
    // SAFETY: a descriptor that is ours, and what the call reads.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const byte) } == 0 {
        return Ok(Some(Own(file)));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EACCES) => Ok(None),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_is_one_live_boxs_alone_and_free_when_that_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("uids");
        let take = |uid| take_of(&file, uid).unwrap();
        let first = take(0x7000_0000).unwrap();
        assert!(take(0x7000_0000).is_none(), "two boxes have it");
        let next = take(0x7000_0001).expect("its neighbour is free");
        drop(first);
        // What a neighbour starts holds a copy of the lock between its fork and its exec.
        let end = Instant::now() + PATIENCE;
        while take(0x7000_0000).is_none() {
            assert!(Instant::now() < end, "it is not given back");
            std::thread::sleep(PAUSE);
        }
        assert!(take(0x7000_0001).is_none());
        drop(next);
    }
}
