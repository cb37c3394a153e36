//! The loop device that an image is mounted by.

use super::act;
use rustix::fs::{CWD, Mode};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

/// A loop device that detaches itself with its last user; held open until it is mounted.
pub struct Loop(pub PathBuf, #[allow(dead_code, reason = "held open so that autoclear waits for the mount")] File);

/// `struct loop_info64` and `struct loop_config` of `linux/loop.h`, as far as their sizes matter.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: [u64; 29],
    reserved: [u64; 8],
}
const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// The device holds `backing` itself, and with it whatever lock it carries, until it is detached.
pub fn attach(backing: &File) -> io::Result<Loop> {
    let control = File::options()
        .read(true)
        .write(true)
        .open("/dev/loop-control")
        .map_err(act("open /dev/loop-control (load the kernel module loop)"))?;
    for _ in 0..64 {
        // SAFETY: this ioctl takes no argument and returns a number.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
        if number < 0 {
            return Err(act("find a free loop device")(io::Error::last_os_error()));
        }
        let path = PathBuf::from(format!("/dev/loop{number}"));
        if !path.exists() {
            rustix::fs::mknodat(
                CWD,
                &path,
                rustix::fs::FileType::BlockDevice,
                Mode::from_raw_mode(0o600),
                rustix::fs::makedev(7, number.unsigned_abs()),
            )
            .or_else(|e| if e == rustix::io::Errno::EXIST { Ok(()) } else { Err(e) })?;
        }
        let device = File::options().read(true).write(true).open(&path)?;
        let mut config =
            LoopConfig { fd: backing.as_raw_fd().unsigned_abs(), block_size: 0, info: [0; 29], reserved: [0; 8] };
        // loop_info64: five u64 and five u32, of which the last but one pair starts at u64 index 6: lo_encrypt_key_size, lo_flags.
        config.info[6] = u64::from(LO_FLAGS_AUTOCLEAR) << 32;
        // SAFETY: LOOP_CONFIGURE reads one `loop_config` (304 bytes), which lives until the call returns.
        if unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &config) } == 0 {
            return Ok(Loop(path, device));
        }
        let e = io::Error::last_os_error();
        // Another helper was faster.
        if e.raw_os_error() != Some(libc::EBUSY) {
            return Err(act("attach the run's image")(e));
        }
    }
    Err(io::Error::other("no loop device stayed free long enough; too many boxes are being made at once"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sole::Sole;
    use std::fs;

    #[test]
    fn an_image_is_held_by_its_loop_device_also_when_its_helper_is_gone() {
        if !rustix::process::geteuid().is_root() {
            // Without root there is no loop device, and the worktree is a folder.
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        fs::write(&image, [0; 1 << 16]).unwrap();
        let sole = Sole::take(&image).unwrap();
        let device = attach(sole.file()).unwrap();
        drop(sole);
        let second = Sole::take_within(&image, std::time::Duration::ZERO).unwrap_err();
        assert_eq!(second.kind(), io::ErrorKind::TimedOut);
        drop(device);
        drop(Sole::take(&image).unwrap());
    }
}
