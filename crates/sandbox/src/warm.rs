//! Boxes that wait for a run: made ahead of it, claimed by one run, never used again.
//!
//! A warm box has its namespaces, its control group, its system tree and its bound door; its process 1 waits for one
//! byte. It has no worktree, no task, no handle, and nobody answers at its door. A run claims it by
//! [`Host::claim`]: only then its worktree is mounted, its process 1 takes its walls, and everything is read back, as of
//! every other box: [`Host::create`] takes the same steps, one after the other.
//!
//! It is claimed only for the very profile that it was made for, only by a run that has no worktree yet, and only while
//! the host shows the same things under the same names as when it was made.

use crate::embedded::{BoxError, Created, Host};
use crate::folders::Inode;
use crate::harden::{BoxPlan, HardenedSpec};
use crate::oci;
use model::{BoxId, Profile, RunId};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where the images of warm boxes lie, in the operator's folder.
pub(crate) const FOLDER: &str = "warm";

/// A box that waits for a run. Dropping it ends it and removes its image, which takes some milliseconds.
#[derive(Debug)]
pub struct Warm {
    /// None once it is claimed.
    made: Option<Created>,
    plan: BoxPlan,
    spec: HardenedSpec,
    sources: Sources,
}

/// What a box shows of the host, by name, and which file that was, with the time of its last change where that matters;
/// none where nothing was.
type Sources = BTreeMap<PathBuf, Option<(Inode, i64)>>;

/// Why a warm box is not given to a run. A cold one does for it.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// It was made for another profile, or the host shows something else by now; in words.
    #[error("it is no longer what the run's box has to be: {0}")]
    Drift(String),
    /// It is gone, or could not be claimed.
    #[error(transparent)]
    Box(#[from] BoxError),
}

impl Warm {
    /// Whether its process 1 and its helper live.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.made.as_ref().is_some_and(|made| !made.live.is_lost() && !made.live.is_dead())
    }
    /// What it was made for.
    #[must_use]
    pub fn profile(&self) -> &Profile {
        &self.plan.profile
    }
    /// Its process 1, as the host counts.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.made.as_ref().map_or(0, |made| made.live.pid())
    }
    /// Its helper, as the host counts.
    #[must_use]
    pub fn helper_pid(&self) -> u32 {
        self.made.as_ref().map_or(0, |made| made.live.helper_pid())
    }
}

impl Drop for Warm {
    fn drop(&mut self) {
        // Its end is awaited: its image is not anybody's before.
        drop(self.made.take());
        for path in [self.plan.upper_image.clone(), uid_of(&self.plan.upper_image)] {
            if let Err(e) = remove(&path) {
                eprintln!("remove {}: {e}", path.display());
            }
        }
    }
}

fn uid_of(image: &Path) -> PathBuf {
    image.with_extension("uid")
}

fn remove(path: &Path) -> std::io::Result<()> {
    let removed = if path.is_dir() { crate::rootless::remove(path) } else { fs::remove_file(path) };
    match removed {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

impl Host {
    /// Makes a box that waits for a run of exactly this profile. Blocks for as long as making any box takes.
    ///
    /// # Errors
    /// [`BoxError`]; nothing is left behind then.
    pub fn prepare(&self, box_id: &BoxId, profile: &Profile) -> Result<Warm, BoxError> {
        let image = self.folder().join(FOLDER).join(format!("{box_id}.img"));
        let nobody = RunId::parse("nobody").map_err(|e| BoxError::Helper(e.to_string()))?;
        let plan =
            BoxPlan { run: nobody, box_id: box_id.clone(), profile: profile.clone(), lower: None, upper_image: image };
        let spec = self.harden(&plan, &plan.run)?;
        let sources = sources(&spec);
        // From here on it is taken away again, whatever is there of it.
        let mut warm = Warm { made: None, plan, spec, sources };
        warm.made = Some(self.make(&warm.plan)?);
        Ok(warm)
    }

    /// Makes a warm box the box of a run: gives it the run's worktree. What follows is as with [`Host::create`].
    ///
    /// # Errors
    /// [`ClaimError`]; the warm box is ended then, and [`Host::create`] makes another for the same plan.
    pub fn claim(&self, mut warm: Warm, plan: &BoxPlan) -> Result<Created, ClaimError> {
        let drift = |what: &str| Err(ClaimError::Drift(what.to_owned()));
        if plan.profile != warm.plan.profile {
            return drift("it was made for another profile, or another version of it");
        }
        if fs::symlink_metadata(&plan.upper_image).is_ok() {
            return drift("the run has a worktree already");
        }
        if self.harden(&warm.plan, &plan.run)? != warm.spec || sources(&warm.spec) != warm.sources {
            return drift("what the host shows to boxes changed since it was made");
        }
        let Some(mut made) = warm.made.take() else { return drift("it is claimed already") };
        // The uid first: without its image it is only a number that the run's next image is given.
        for (from, to) in [
            (uid_of(&warm.plan.upper_image), uid_of(&plan.upper_image)),
            (warm.plan.upper_image.clone(), plan.upper_image.clone()),
        ] {
            match fs::rename(&from, &to) {
                // Without root there is no uid of its own.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound && from != warm.plan.upper_image => {}
                Err(cause) => {
                    let act = format!("make {} the run's", from.display());
                    return Err(BoxError::Host { act, cause }.into());
                }
                Ok(()) => {}
            }
        }
        made.live.claim(plan.lower.as_deref())?;
        Ok(made)
    }

    /// Removes the images of warm boxes that an earlier operator left; the boxes are gone.
    pub(crate) fn remove_warm(&self) -> std::io::Result<()> {
        for entry in fs::read_dir(self.folder().join(FOLDER))? {
            remove(&entry?.path())?;
        }
        Ok(())
    }
}

/// What of the host a box of this spec shows, as it is now, but for the profile's folders.
fn sources(spec: &HardenedSpec) -> Sources {
    let mounts = oci::mounts(Path::new("/"), spec);
    // Of those the spec itself says which they were, and does not change; a claim compares it with the spec of now.
    let is_asked = |mount: &&oci::Mount| {
        mount.point != Path::new(api::inbox::WORKSPACE) && !matches!(mount.origin, oci::Origin::Folder(_))
    };
    let shown = mounts.iter().filter(is_asked).filter_map(oci::Mount::of);
    let mut all: Sources = shown.map(|of| (of.to_path_buf(), Inode::at(of).ok().map(|inode| (inode, 0)))).collect();
    // Of an image on this host a layout's index or the tar itself: by its time too, because it may be written over.
    if let Some(crate::image::Image::Layout(path, _) | crate::image::Image::Tar(path, _)) = &spec.image {
        for path in [path.clone(), path.join("index.json")] {
            let found = fs::metadata(&path).ok();
            let is = found.map(|found| (Inode::from(&found), found.mtime_nsec() ^ found.mtime()));
            all.insert(path, is);
        }
    }
    all
}
