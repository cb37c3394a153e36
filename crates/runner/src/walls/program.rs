//! What of the agent's own file its walls depend on: the loader, if it is linked dynamically.
//!
//! A dynamic program is begun by the kernel through its loader, so for as long as that takes the loader is executed,
//! too. Afterwards nothing is ([`super::calls::agent`]); that the loader is no way to execute other files is no
//! matter of paths, then.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// `e_ident` of a 64-bit program of this processor's byte order; those of others are not executed here.
const ELF_64: [u8; 5] = [0x7f, b'E', b'L', b'F', 2];
/// Length of a program header of 64-bit ELF.
const HEADER: usize = 56;
/// Most program headers that are looked at.
const MAX_HEADERS: usize = 128;
/// The kind of program header that names the loader.
const INTERP: u32 = 3;
/// Longest name of a loader, the system's longest path.
const MAX_NAME: usize = 4096;

/// The loader that a program names; none for a static one, and for what is no program.
///
/// # Errors
/// The system's own; a program that is cut off.
pub fn loader(program: &Path) -> io::Result<Option<PathBuf>> {
    let file = match File::open(program) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut head = [0; 64];
    match file.read_exact_at(&mut head, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    if head[..5] != ELF_64 {
        return Ok(None);
    }
    let number = |bytes: &[u8], at: usize| u64::from_le_bytes(std::array::from_fn(|n| bytes[at + n]));
    let short = |bytes: &[u8], at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
    let (first, size, count) = (number(&head, 32), short(&head, 54), short(&head, 56));
    if size != HEADER || count > MAX_HEADERS {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "its program headers are none that are known"));
    }
    let mut headers = vec![0; size * count];
    file.read_exact_at(&mut headers, first)?;
    let is_loader = |header: &&[u8]| header[..4] == INTERP.to_le_bytes();
    let Some(header) = headers.chunks_exact(HEADER).find(is_loader) else { return Ok(None) };
    let (at, length) = (number(header, 8), number(header, 32));
    let mut name = vec![0; usize::try_from(length).unwrap_or(usize::MAX).min(MAX_NAME)];
    file.read_exact_at(&mut name, at)?;
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(Some(PathBuf::from(OsStr::from_bytes(name))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_names_its_loader_and_what_is_no_program_has_none() {
        let dir = std::env::temp_dir().join(format!("volary-program-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let found = loader(Path::new("/usr/bin/env")).unwrap().expect("Debian's programs are dynamic");
        assert!(found.file_name().unwrap().to_str().unwrap().starts_with("ld-linux"), "{}", found.display());
        for (name, content) in [("empty", &b""[..]), ("script", &[b'#'; 100]), ("other", b"\x7fELF\x01")] {
            std::fs::write(dir.join(name), content).unwrap();
            assert_eq!(loader(&dir.join(name)).unwrap(), None, "{name}");
        }
        assert_eq!(loader(&dir.join("absent")).unwrap(), None);
        let whole = std::fs::read("/usr/bin/env").unwrap();
        std::fs::write(dir.join("cut"), &whole[..200]).unwrap();
        assert!(loader(&dir.join("cut")).is_err());
        std::fs::remove_dir_all(dir).unwrap();
    }
}
