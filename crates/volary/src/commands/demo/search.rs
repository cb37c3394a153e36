//! The search for the key in all that a run left behind.

use crate::client::Client;
use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use model::{RunId, Secret};
use std::fs;
use std::path::{Path, PathBuf};

/// What a search came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Search {
    /// Files, answers and outputs that hold the key.
    pub found: usize,
    /// Files, answers and outputs that were searched and not empty.
    pub searched: usize,
}

impl Search {
    fn note(&mut self, found: Option<bool>) {
        self.found += usize::from(found == Some(true));
        self.searched += usize::from(found.is_some());
    }
}

/// The forms of a key that are looked for. They are made here and not taken from the scrubber, which is on trial.
pub struct Needles {
    forms: Vec<Vec<u8>>,
    /// Whether a form begins with this byte.
    first: [bool; 256],
    longest: usize,
}

impl Needles {
    /// The key itself, and what its base 64 always is after any number of other bytes, in both alphabets.
    ///
    /// `key` is at least 6 bytes long.
    pub fn of(key: &Secret<String>) -> Self {
        let key = key.expose().as_bytes();
        let mut forms = vec![key.to_vec()];
        for before in 0..3 {
            let shifted = [&[0; 2][..before], key].concat();
            // The first and the last group of four characters also depend on what stands around the key.
            let (from, to) = (before.div_ceil(2) * 4, shifted.len() / 3 * 4);
            forms.extend([STANDARD, URL_SAFE].map(|alphabet| alphabet.encode(&shifted).as_bytes()[from..to].to_vec()));
        }
        let mut first = [false; 256];
        for form in &forms {
            first[usize::from(form[0])] = true;
        }
        let longest = forms.iter().map(Vec::len).max().unwrap_or(0);
        Self { forms, first, longest }
    }

    /// Whether `bytes` hold any form.
    pub fn are_in(&self, bytes: &[u8]) -> bool {
        let starts = |(at, byte): (usize, &u8)| {
            self.first[usize::from(*byte)] && self.forms.iter().any(|form| bytes[at..].starts_with(form))
        };
        bytes.iter().enumerate().any(starts)
    }

    /// As [`Needles::are_in`]; none if there was nothing to search.
    fn search(&self, bytes: &[u8]) -> Option<bool> {
        (!bytes.is_empty()).then(|| self.are_in(bytes))
    }

    /// Searches a file piece by piece; holes of a sparse one (a worktree's image) are passed over.
    /// None if it holds nothing but holes.
    fn search_file(&self, path: &Path) -> std::io::Result<Option<bool>> {
        use rustix::fs::{SeekFrom, seek};
        use std::io::Read;
        const PIECE: usize = 1 << 20;
        let mut file = fs::File::open(path)?;
        let mut piece = Vec::with_capacity(PIECE);
        let (mut at, mut any) = (0, None);
        loop {
            let data = match seek(&file, SeekFrom::Data(at)) {
                Ok(data) => data,
                Err(rustix::io::Errno::NXIO) => return Ok(any),
                Err(e) => return Err(e.into()),
            };
            piece.clear();
            let read = Read::by_ref(&mut file).take(PIECE as u64).read_to_end(&mut piece)?;
            any = any.or(self.search(&piece));
            if self.are_in(&piece) {
                return Ok(Some(true));
            }
            if read < PIECE {
                return Ok(any);
            }
            // Back by a form's length, so that none is missed that lies across two pieces.
            at = data + (PIECE - self.longest) as u64;
        }
    }
}

/// How often the key stands in anything that was kept or can be shown: every file under `folder` (home, repository,
/// the sealed vault), every `output` of the run as the bytes that it was, the transcript, the evidence, the lists.
///
/// # Errors
/// A file that is there and cannot be read; a request that fails.
pub async fn kept<'a>(
    client: &Client,
    run: &RunId,
    folder: &Path,
    outputs: impl Iterator<Item = &'a [u8]>,
    needles: &Needles,
) -> anyhow::Result<Search> {
    let mut all = files(folder, needles).await?;
    for output in outputs {
        all.note(needles.search(output));
    }
    for path in [
        format!("/api/runs/{run}/events?after=0"),
        format!("/api/runs/{run}"),
        "/api/evidence".into(),
        "/api/models".into(),
        "/api/secrets".into(),
    ] {
        all.note(needles.search(&client.get_bytes(&path).await?));
    }
    Ok(all)
}

async fn files(folder: &Path, needles: &Needles) -> anyhow::Result<Search> {
    let mut all = Search::default();
    let mut open = vec![folder.to_path_buf()];
    while let Some(path) = open.pop() {
        // Lets a signal be heard between two files.
        tokio::task::yield_now().await;
        match look(&path, needles, &mut open) {
            Ok(found) => all.note(found),
            // The platform is up, and takes its temporary files away.
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(e).with_context(|| format!("search {}", path.display())),
        }
    }
    Ok(all)
}

/// Searches a file; of a folder, adds what is in it to `open`.
fn look(path: &Path, needles: &Needles, open: &mut Vec<PathBuf>) -> std::io::Result<Option<bool>> {
    let about = fs::symlink_metadata(path)?;
    if about.is_file() {
        return needles.search_file(path);
    }
    if about.is_dir() {
        for entry in fs::read_dir(path)? {
            open.push(entry?.path());
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    const KEY: &str = "sk-volary-canary-abcdefghijklmnopqrstuvwxyz234567";

    fn needles() -> Needles {
        Needles::of(&Secret::new(KEY.to_owned()))
    }

    #[test]
    fn a_key_is_found_across_two_pieces_and_behind_a_hole_and_only_when_it_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        let file = fs::File::create(&path).unwrap();
        let search = || needles().search_file(&path).unwrap();
        assert_eq!(search(), None, "nothing was searched");
        file.set_len(64 << 20).unwrap();
        file.write_all_at(&vec![b's'; 2 << 20], 8 << 20).unwrap();
        assert_eq!(search(), Some(false));
        for at in [(9 << 20) - 7, (9 << 20) - 48, 64 << 20] {
            file.write_all_at(KEY.as_bytes(), at).unwrap();
            assert_eq!(search(), Some(true));
            file.write_all_at(&[0; KEY.len()], at).unwrap();
            assert_eq!(search(), Some(false));
        }
    }

    #[test]
    fn a_key_in_base_64_is_found_whatever_stands_before_and_behind_it() {
        for before in 0..4 {
            for behind in 0..4 {
                let text = [&b"\xff\xff\xff"[..before], KEY.as_bytes(), &b"\xfb\xff\xff"[..behind]].concat();
                for alphabet in [STANDARD, URL_SAFE] {
                    let text = alphabet.encode(&text);
                    assert!(needles().are_in(text.as_bytes()), "{before} before, {behind} behind: {text}");
                }
            }
        }
    }

    #[test]
    fn neither_another_key_nor_a_part_of_one_nor_their_base_64_is_taken_for_it() {
        let other = KEY.replace("234567", "765432");
        for text in [&other, &KEY[6..], &KEY[..KEY.len() - 6], "", "s"] {
            assert!(!needles().are_in(text.as_bytes()), "{text}");
            assert!(!needles().are_in(STANDARD.encode(text).as_bytes()), "{text} in base 64");
        }
    }

    #[tokio::test]
    async fn every_file_of_every_folder_is_searched_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("deep")).unwrap();
        fs::write(folder.path().join("empty"), "").unwrap();
        fs::write(folder.path().join("a"), "nothing").unwrap();
        assert_eq!(files(folder.path(), &needles()).await.unwrap(), Search { found: 0, searched: 1 });
        fs::write(folder.path().join("deep/b"), STANDARD.encode(format!("x{KEY}"))).unwrap();
        assert_eq!(files(folder.path(), &needles()).await.unwrap(), Search { found: 1, searched: 2 });
    }
}
