//! Worktrees whose changes did not get into their repository: kept when their run ends, until a person has them or
//! drops them, for [`MOST_DAYS`] at most, and no more than [`MOST_BYTES`] together.
//!
//! A run that ended is settled soon, and its folder goes then. So what an agent did and nobody has yet is moved out
//! of it before the end is recorded, to `kept/<run>.img` (and `.uid`, and `.json` with what it is) beside the folder of
//! the runs. Should the operator die between the two, the run's next attempt takes it back.
//!
//! Read [`keep`], [`list`], [`tidy`]; bringing one home is [`crate::home`]'s.

use crate::engine::Engine;
use crate::journal::{sync_folder, write_whole};
use crate::runs::{Kept, Run};
use api::kept::KeptWorktree;
use model::{Moment, RunId};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Days after which a kept worktree is removed.
pub const MOST_DAYS: i64 = 30;
/// Bytes on the disk that all kept worktrees may take together; beyond them the oldest goes, but never the last.
pub const MOST_BYTES: u64 = 16 << 30;

/// What a kept worktree is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Note {
    /// When it was kept.
    pub at: Moment,
    /// What its run was.
    pub of: Kept,
}

/// Where the worktree of `run` is kept, when `runs` is the folder of the runs.
#[must_use]
pub fn place(runs: &Path, run: &RunId) -> PathBuf {
    folder(runs).join(format!("{run}.img"))
}

fn folder(runs: &Path) -> PathBuf {
    runs.with_file_name("kept")
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
    fs::symlink_metadata(run.image())?;
    if let Some(of) = run.kept() {
        let note = Note { at: Moment::from(SystemTime::now()), of };
        write_whole(&place.with_extension("json"), &serde_json::to_vec(&note)?)?;
    }
    both(&run.image(), &place)?;
    sync_folder(&place)?;
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
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
        Ok(()) => remove(&place.with_extension("json")),
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

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// What is known of the one that is kept of `run`; none when none is, or nothing readable says what it is. Blocks.
#[must_use]
pub fn note(runs: &Path, run: &RunId) -> Option<Note> {
    let place = place(runs, run);
    fs::symlink_metadata(&place).ok()?;
    serde_json::from_slice(&fs::read(place.with_extension("json")).ok()?).ok()
}

/// All that are kept, the oldest first. Blocks.
///
/// # Errors
/// The system's own.
pub fn list(runs: &Path) -> io::Result<Vec<KeptWorktree>> {
    let mut all = Vec::new();
    let entries = match fs::read_dir(folder(runs)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(all),
        entries => entries?,
    };
    for entry in entries {
        let place = entry?.path();
        let name = place.file_stem().and_then(|name| name.to_str()).map(RunId::parse);
        let (Some(Ok(run)), true) = (name, place.extension().is_some_and(|ext| ext == "img")) else { continue };
        let note = note(runs, &run);
        // One without a note was kept by an earlier version: its age is that of its file.
        let at = match &note {
            Some(note) => note.at,
            None => fs::symlink_metadata(&place)?.modified().map(Moment::from)?,
        };
        let of = note.map(|note| note.of);
        all.push(KeptWorktree {
            run,
            at,
            until: at.plus_ms(MOST_DAYS * 86_400_000),
            bytes: bytes(&place)?,
            repo: of.as_ref().and_then(|of| of.repo.as_ref()).map(|repo| repo.display().to_string()),
            base: of.and_then(|of| of.base),
            place: place.display().to_string(),
        });
    }
    all.sort_by(|one, other| (one.at, &one.run).cmp(&(other.at, &other.run)));
    Ok(all)
}

/// Bytes on the disk of a file, or of all files in a folder.
fn bytes(path: &Path) -> io::Result<u64> {
    let about = fs::symlink_metadata(path)?;
    let mut sum = about.blocks() * 512;
    if about.is_dir() {
        for entry in fs::read_dir(path)? {
            // A folder that its box closed to everyone is not counted: without root, and by an agent's wish.
            sum += bytes(&entry?.path()).unwrap_or(0);
        }
    }
    Ok(sum)
}

/// Removes the one that is kept of `run`; its note goes last. False when there is none. Blocks.
///
/// # Errors
/// One sentence.
pub fn discard(engine: &dyn Engine, runs: &Path, run: &RunId) -> Result<bool, String> {
    let place = place(runs, run);
    if fs::symlink_metadata(&place).is_err() {
        return Ok(false);
    }
    engine.drop_worktree(&place)?;
    for extension in ["uid", "json"] {
        remove(&place.with_extension(extension))
            .map_err(|e| format!("remove what is beside {}: {e}", place.display()))?;
    }
    Ok(true)
}

/// Removes those whose time is over, and the oldest while all together take too much. Gives what went. Blocks.
///
/// # Errors
/// One sentence.
pub fn tidy(engine: &dyn Engine, runs: &Path, now: Moment) -> Result<Vec<RunId>, String> {
    tidy_to(engine, runs, now, MOST_BYTES)
}

fn tidy_to(engine: &dyn Engine, runs: &Path, now: Moment, most: u64) -> Result<Vec<RunId>, String> {
    let all = list(runs).map_err(|e| format!("list what is kept beside {}: {e}", runs.display()))?;
    let mut sum: u64 = all.iter().map(|kept| kept.bytes).sum();
    let (mut gone, last) = (Vec::new(), all.len().saturating_sub(1));
    for (n, kept) in all.into_iter().enumerate() {
        if kept.until > now && (sum <= most || n == last) {
            continue;
        }
        discard(engine, runs, &kept.run)?;
        sum -= kept.bytes;
        gone.push(kept.run);
    }
    Ok(gone)
}

/// What a person can do with what is kept at `place` of `run`, over the files of commit `base`.
#[must_use]
pub fn way_out(place: &Path, run: &RunId, base: &str) -> String {
    let shown = place.display();
    let (how, folder) = if place.is_dir() {
        (String::new(), format!("{shown}/up"))
    } else {
        (format!(" it is a file system: `mount -o loop,ro,nosuid,nodev {shown} /mnt`, and"), "/mnt/up".to_owned())
    };
    format!(
        "The agent's changes are kept in {shown} for {MOST_DAYS} days: `volary kept import {run}` brings them into the \
         repository, `volary kept drop {run}` removes them. By hand:{how} look in {folder} (files that lie over commit \
         {base}; a device there stands for a file that was deleted). Run no git in it: its .git is the agent's."
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Made, Trouble};
    use crate::journal::By;
    use crate::runs::{Runs, raw};
    use model::run::RunKind;
    use model::{BoxId, Event, Profile};
    use std::sync::Arc;

    fn run(runs: &Runs, id: &str) -> Arc<Run> {
        let run = runs.take(&RunId::parse(id).unwrap()).unwrap();
        let kept = Kept {
            box_id: BoxId::parse("b1").unwrap(),
            attempt: 1,
            kind: RunKind::Agent,
            repo: Some("/repo".into()),
            base: Some("c0ffee".into()),
            profile: Profile::default(),
            import: true,
            model: None,
            author: None,
        };
        run.keep(&kept).unwrap();
        run
    }

    #[test]
    fn what_an_operator_kept_and_died_is_taken_back_by_the_next_attempt_and_by_no_other_run() {
        let dir = tempfile::tempdir().unwrap();
        let runs = Runs::open(&dir.path().join("runs")).unwrap();
        let run = run(&runs, "r1");
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
        let run = run(&runs, "r1");
        fs::create_dir_all(run.image().join("up")).unwrap();
        let place = keep(&run).unwrap();
        assert!(place.join("up").is_dir());
        let words = way_out(&place, &run.id, "c0ffee");
        assert!(words.contains(&format!("look in {}/up", place.display())) && !words.contains("mount"), "{words}");
    }

    /// Only removes.
    struct Remover;
    impl Engine for Remover {
        fn create(&self, _: &sandbox::BoxPlan) -> Result<Made, Trouble> {
            Err("no box here".into())
        }
        fn drop_worktree(&self, image: &Path) -> Result<(), String> {
            fs::remove_file(image).map_err(|e| e.to_string())
        }
    }

    #[test]
    fn a_kept_worktree_goes_at_its_time_or_when_all_take_too_much_and_the_last_stays() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("runs");
        let runs = Runs::open(&folder).unwrap();
        let ids = ["r1", "r2", "r3"];
        for id in ids {
            let run = run(&runs, id);
            fs::write(run.image(), [7; 1 << 16]).unwrap();
            keep(&run).unwrap();
            // Kept one after the other, by any clock.
            std::thread::sleep(std::time::Duration::from_millis(3));
        }
        let of = |all: &[KeptWorktree]| all.iter().map(|kept| kept.run.to_string()).collect::<Vec<_>>();
        let all = list(&folder).unwrap();
        assert_eq!(of(&all), ids);
        assert_eq!((all[0].repo.as_deref(), all[0].base.as_deref()), (Some("/repo"), Some("c0ffee")));
        let (one, until) = (all[0].bytes, all[0].until);
        assert!(one >= 1 << 16);

        let gone = |now, most| tidy_to(&Remover, &folder, now, most).unwrap();
        assert_eq!(gone(until.plus_ms(-1), 3 * one), []);
        assert_eq!(gone(until, 3 * one), [all[0].run.clone()]);
        assert_eq!(gone(until, one), [all[1].run.clone()]);
        assert_eq!(gone(until, 0), []);
        assert_eq!(of(&list(&folder).unwrap()), ["r3"]);
        assert_eq!(fs::read_dir(dir.path().join("kept")).unwrap().count(), 2, "something is left of those that went");

        assert_eq!(discard(&Remover, &folder, &all[2].run), Ok(true));
        assert_eq!(discard(&Remover, &folder, &all[2].run), Ok(false));
    }
}
