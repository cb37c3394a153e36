//! Worktrees whose changes did not get into their repository: kept when their run ends, until a person removes them.
//!
//! A run that ended is settled soon, and its folder goes then. So what an agent did and nobody has yet is moved out
//! of it before the end is recorded, to `kept/<run>.img` (and `.uid`) beside the folder of the runs. Should the
//! operator die between the two, the run's next attempt takes it back.

use crate::runs::Run;
use model::RunId;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Where the worktree of `run` is kept, when `runs` is the folder of the runs.
#[must_use]
pub fn place(runs: &Path, run: &RunId) -> PathBuf {
    runs.with_file_name("kept").join(format!("{run}.img"))
}

fn place_of(run: &Run) -> io::Result<PathBuf> {
    run.dir.parent().map(|runs| place(runs, &run.id)).ok_or_else(|| io::Error::other("its run has no folder"))
}

/// Moves the worktree of a run that is about to end, whose box is gone; gives its new place. Blocks.
///
/// # Errors
/// The system's own; `NotFound` when there is no worktree.
pub fn keep(run: &Run) -> io::Result<PathBuf> {
    let place = place_of(run)?;
    if let Some(folder) = place.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    both(&run.image(), &place)?;
    crate::journal::sync_folder(&place)?;
    Ok(place)
}

/// Takes back what was kept of a run that has not ended after all. Without any, nothing happens. Blocks.
///
/// # Errors
/// The system's own.
pub fn take_back(run: &Run) -> io::Result<()> {
    let place = place_of(run)?;
    // A run that never came to its task kept nothing: what is there by its name is another's.
    if !run.started() || run.image().exists() {
        return Ok(());
    }
    match both(&place, &run.image()) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// Moves an image and the file with its box's uid, if there is one.
fn both(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    match fs::rename(from.with_extension("uid"), to.with_extension("uid")) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// What a person can do with what is kept at `place`, over the files of commit `base`.
#[must_use]
pub fn way_out(place: &Path, base: &str) -> String {
    let shown = place.display();
    let (how, folder) = if place.is_dir() {
        (String::new(), format!("{shown}/up"))
    } else {
        (format!(" it is a file system: `mount -o loop,ro,nosuid,nodev {shown} /mnt`, and"), "/mnt/up".to_owned())
    };
    format!(
        "The agent's changes are kept in {shown}:{how} look in {folder} (files that lie over commit {base}; a device \
         there stands for a file that was deleted). Run no git in it: its .git is the agent's. Remove \
         {shown} when you have them."
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::By;
    use crate::runs::{Runs, raw};
    use model::Event;

    #[test]
    fn what_an_operator_kept_and_died_is_taken_back_by_the_next_attempt_and_by_no_other_run() {
        let dir = tempfile::tempdir().unwrap();
        let runs = Runs::open(&dir.path().join("runs")).unwrap();
        let run = runs.take(&RunId::parse("r1").unwrap()).unwrap();
        let uid = run.image().with_extension("uid");
        fs::write(run.image(), "changes").unwrap();
        fs::write(&uid, "7").unwrap();
        let place = keep(&run).unwrap();
        assert_eq!(place, dir.path().join("kept/r1.img"));
        assert!(!run.image().exists() && !uid.exists());

        take_back(&run).unwrap();
        assert!(place.exists(), "a run that never began took what another kept");

        run.record_now(By::Operator, &[raw(&Event::Walls { readings: vec![] })]).unwrap();
        take_back(&run).unwrap();
        assert_eq!(fs::read_to_string(run.image()).unwrap(), "changes");
        assert_eq!(fs::read_to_string(uid).unwrap(), "7");
        assert_eq!(fs::read_dir(dir.path().join("kept")).unwrap().count(), 0);
        take_back(&run).unwrap();
    }

    #[test]
    fn a_plain_folder_is_kept_as_it_is_and_not_to_be_mounted() {
        let dir = tempfile::tempdir().unwrap();
        let runs = Runs::open(&dir.path().join("runs")).unwrap();
        let run = runs.take(&RunId::parse("r1").unwrap()).unwrap();
        fs::create_dir_all(run.image().join("up")).unwrap();
        let place = keep(&run).unwrap();
        assert!(place.join("up").is_dir());
        let words = way_out(&place, "c0ffee");
        assert!(words.contains(&format!("look in {}/up", place.display())) && !words.contains("mount"), "{words}");
    }
}
