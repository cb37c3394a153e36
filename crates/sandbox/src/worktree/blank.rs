//! The run's image: an empty file system of the profile's size, made once for each size and copied with its holes.

use crate::embedded::BoxError;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes the host's disk keeps free beside every image.
const SPARE: u64 = 64 << 20;
/// Bytes of image for each inode.
const BYTES_PER_INODE: u64 = 4096;

/// Makes the run's image if it is not there, after making sure that the disk can hold all of it. `blanks` is a folder
/// of the operator's own, on the same disk.
///
/// A sparse image behind a full disk gives I/O errors in the middle of a run; so what is free is compared first.
///
/// # Errors
/// [`BoxError::Helper`] with what is free and what is needed; [`BoxError::Host`].
pub fn reserve(image: &Path, blanks: &Path, mib: u64, root: bool) -> Result<(), BoxError> {
    let host = |act: String| move |cause: io::Error| BoxError::Host { act, cause };
    let folder = image.parent().unwrap_or(Path::new("/"));
    let bytes = mib << 20;
    let held = fs::metadata(image).map(|m| std::os::unix::fs::MetadataExt::blocks(&m) * 512).unwrap_or(0);
    let stat = rustix::fs::statvfs(folder).map_err(|e| host(format!("look at {}", folder.display()))(e.into()))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let need = bytes.saturating_sub(held).saturating_add(SPARE);
    if free < need {
        return Err(BoxError::Helper(format!(
            "the disk that holds {} has {} MiB free and this profile needs {} MiB (worktree-mib = {mib}); \
             free some space, or lower worktree-mib in the profile",
            folder.display(),
            free >> 20,
            need.div_ceil(1 << 20),
        )));
    }
    if image.exists() {
        return Ok(());
    }
    if !root {
        // No loop device without root: a plain folder, which the helper weighs, and `reach` says so.
        for name in ["", "up", "wk"] {
            let path = image.join(name);
            fs::create_dir(&path).map_err(host(format!("make {}", path.display())))?;
        }
        return Ok(());
    }
    let draft = image.with_extension("draft");
    let blank = blank(blanks, mib)?;
    copy_data(&blank, &draft, bytes).map_err(host(format!("copy {} to {}", blank.display(), draft.display())))?;
    fs::rename(&draft, image).map_err(host(format!("place {}", image.display())))
}

/// A file system of `mib` MiB with nothing in it, made once for each size and then only copied: it holds some
/// hundred kilobytes, and making one takes a hundred times as long.
fn blank(blanks: &Path, mib: u64) -> Result<PathBuf, BoxError> {
    static DRAFTS: AtomicU64 = AtomicU64::new(0);
    let host = |act: String| move |cause: io::Error| BoxError::Host { act, cause };
    let blank = blanks.join(format!("blank1-{mib}.img"));
    if blank.exists() {
        return Ok(blank);
    }
    // Boxes are made at the same time; each maker has a draft of its own and the last one stands.
    let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
    let draft = blanks.join(format!("blank1-{mib}.{}-{number}.draft", std::process::id()));
    let file = create(&draft).map_err(host(format!("make {}", draft.display())))?;
    file.set_len(mib << 20).map_err(host(format!("size {}", draft.display())))?;
    let inodes = ((mib << 20) / BYTES_PER_INODE).max(1024).to_string();
    let made = Command::new("mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-m", "0", "-O", "^has_journal,^resize_inode"])
        .args(["-E", "lazy_itable_init=1,nodiscard", "-N", &inodes])
        .arg(&draft)
        .env_clear()
        .env("PATH", crate::doctor::MKE2FS_PATH)
        .stdin(Stdio::null())
        .output()
        .map_err(|cause| BoxError::Host {
            act: "run mke2fs (install the package e2fsprogs if it is missing)".into(),
            cause,
        })?;
    if !made.status.success() {
        return Err(BoxError::Helper(format!("mke2fs: {}", String::from_utf8_lossy(&made.stderr).trim())));
    }
    // Durable before it has its name: half a blank would spoil every later box.
    file.sync_all().map_err(host(format!("keep {}", draft.display())))?;
    fs::rename(&draft, &blank).map_err(host(format!("place {}", blank.display())))?;
    Ok(blank)
}

fn create(path: &Path) -> io::Result<File> {
    fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// Copies a file of `bytes` bytes with its holes.
fn copy_data(from: &Path, to: &Path, bytes: u64) -> io::Result<()> {
    let (from, to) = (File::open(from)?, create(to)?);
    to.set_len(bytes)?;
    let mut buffer = vec![0; 1 << 16];
    let mut at = 0;
    loop {
        let data = match rustix::fs::seek(&from, rustix::fs::SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(rustix::io::Errno::NXIO) => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        let hole = rustix::fs::seek(&from, rustix::fs::SeekFrom::Hole(data))?;
        at = data;
        while at < hole {
            let most = usize::try_from(hole - at).unwrap_or(usize::MAX).min(buffer.len());
            from.read_exact_at(&mut buffer[..most], at)?;
            to.write_all_at(&buffer[..most], at)?;
            at += most as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_copied_image_holds_the_same_bytes_and_the_same_holes() {
        const BYTES: u64 = 64 << 20;
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        let file = create(&from).unwrap();
        file.set_len(BYTES).unwrap();
        // Longer than the buffer, and one at the very end.
        file.write_all_at(&[7; 200_000], 5 << 20).unwrap();
        file.write_all_at(b"end", BYTES - 3).unwrap();
        copy_data(&from, &to, BYTES).unwrap();
        assert!(fs::read(&from).unwrap() == fs::read(&to).unwrap(), "other bytes");
        assert!(fs::metadata(&to).unwrap().blocks() * 512 < 1 << 20, "the holes were filled");
    }
}
