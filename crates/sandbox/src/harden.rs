//! What a box is promised to be. Everything that bounds a box is in [`HardenedSpec`], and nothing but
//! [`harden`] makes one; an engine takes nothing else.

use crate::folders::{self, Shown};
use crate::image::content::Content;
use crate::image::{Image, kept, pulled};
use api::images::Word;
use model::image::Reference;
use model::profile::{Engine, Folder};
use model::{BoxId, Limits, Profile, RunId};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What the operator wants a box for.
#[derive(Debug, Clone)]
pub struct BoxPlan {
    /// The run.
    pub run: RunId,
    /// This attempt's box.
    pub box_id: BoxId,
    /// What it may be.
    pub profile: Profile,
    /// A clean checkout, the read-only lower half of the worktree; none for an empty worktree.
    pub lower: Option<PathBuf>,
    /// The run's own file system image, the upper half; made at the first attempt, kept until settled.
    pub upper_image: PathBuf,
}

/// Facts of the host that a spec is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// The operator's folder; no profile may show it to a box.
    pub dir: PathBuf,
    /// Cgroup that holds all boxes of this installation, absolute in each hierarchy.
    pub cgroup_parent: String,
    /// Whether the engine has real root.
    pub root: bool,
    /// The Docker engine's socket, as an administrator set it; asked for only by a profile that names that engine.
    pub docker: String,
}

/// A box, complete and bounded. Fields are readable by the engine and by no one else writable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardenedSpec {
    pub(crate) run: RunId,
    pub(crate) box_id: BoxId,
    pub(crate) uid: u32,
    pub(crate) engine: Engine,
    pub(crate) image: Option<Image>,
    /// The image's digest, where the platform itself makes its tree.
    pub(crate) image_id: Option<String>,
    /// The image's digest, where Docker's engine has it.
    pub(crate) docker_image: Option<String>,
    pub(crate) limits: Limits,
    pub(crate) folders: Vec<Shown>,
    pub(crate) lower: Option<PathBuf>,
    pub(crate) upper_image: PathBuf,
    pub(crate) host: HostFacts,
    pub(crate) runner: PathBuf,
    pub(crate) agent: PathBuf,
}

impl HardenedSpec {
    /// The uid (and gid) of everything in the box.
    #[must_use]
    pub fn uid(&self) -> u32 {
        self.uid
    }
    /// The uid as the box itself sees it: without root the box has a user namespace with one uid, 0, and no capability.
    #[must_use]
    pub fn uid_inside(&self) -> u32 {
        if self.host.root { self.uid } else { 0 }
    }
    /// Where the tree of its image is, if the platform itself makes it.
    pub(crate) fn image_tree(&self) -> Option<PathBuf> {
        self.image_id.as_deref().map(|id| kept::place(&self.host.dir, id))
    }
    /// The box's cgroup, absolute in each hierarchy.
    #[must_use]
    pub fn cgroup(&self) -> String {
        format!("{}/{}", self.host.cgroup_parent, self.box_id)
    }
}

/// Why a plan cannot be made into a box.
#[derive(Debug, thiserror::Error)]
pub enum HardenError {
    /// A folder of the profile may not be shown.
    #[error("the profile's folder {path:?} cannot be shown to a box: {why}")]
    Folder {
        /// As the profile names it.
        path: PathBuf,
        /// Why, and what to do.
        why: String,
    },
    /// This host cannot make a box with the profile's engine, or not with its image.
    #[error("the profile's {what}: {why}")]
    Engine {
        /// `engine` or `image`.
        what: &'static str,
        /// Why, and what to do.
        why: String,
    },
    /// A limit is outside what can be enforced.
    #[error("the profile's limit {name} is {value}; it must be {range}")]
    Limit {
        /// Key in the profile.
        name: &'static str,
        /// What it says.
        value: u64,
        /// What it may be.
        range: &'static str,
    },
}

/// Makes the one thing that an engine accepts; beside it what the profile's image says of itself, where the platform itself
/// unpacks it: that is still to be judged.
///
/// # Errors
/// [`HardenError`] for a folder that would show the host's state, our own or a place of keys, and for a limit of nothing.
pub fn harden(
    plan: &BoxPlan,
    uid: u32,
    host: &HostFacts,
    runner: &Path,
    agent: &Path,
) -> Result<(HardenedSpec, Vec<Word>), HardenError> {
    let folders = checked(&plan.profile, host)?;
    let (image, content) = image(&plan.profile, &host.dir)?;
    if let (Engine::Embedded, Some(Image::Registry(name)), None) = (plan.profile.engine, &image, &content) {
        let why = format!("{name} is not on this host yet; a run that begins has it pulled");
        return Err(HardenError::Engine { what: "image", why });
    }
    let (image_id, said) = content.map(|content| (content.id, content.said)).unzip();
    let spec = HardenedSpec {
        run: plan.run.clone(),
        box_id: plan.box_id.clone(),
        uid,
        engine: plan.profile.engine,
        image,
        image_id,
        docker_image: None,
        limits: plan.profile.limits.clone(),
        folders,
        lower: plan.lower.clone(),
        upper_image: plan.upper_image.clone(),
        host: host.clone(),
        runner: runner.to_path_buf(),
        agent: agent.to_path_buf(),
    };
    Ok((spec, said.unwrap_or_default()))
}

/// Whether this host would make a box of the profile; gives its folders as a box would see them.
///
/// # Errors
/// As of [`harden`].
pub fn check(profile: &Profile, host: &HostFacts) -> Result<Vec<Folder>, HardenError> {
    Ok(checked(profile, host)?.into_iter().map(|shown| shown.folder).collect())
}

/// Why which of a profile's folders may not be shown: all of them, where [`check`] tells the first fault.
pub fn refused(profile: &Profile, host: &HostFacts) -> impl Iterator<Item = HardenError> {
    profile.folders.iter().filter_map(|folder| folders::shown(folder, host).err())
}

/// The same, with which folders those are.
fn checked(profile: &Profile, host: &HostFacts) -> Result<Vec<Shown>, HardenError> {
    let limits = &profile.limits;
    let bounds: [(&'static str, u64, u64, u64, &'static str); 9] = [
        ("memory-mib", limits.memory_mib, 32, 1 << 20, "32 to 1048576"),
        ("cpu-millis", limits.cpu_millis, 10, 1_000_000, "10 to 1000000"),
        ("processes", limits.processes, 8, 32_768, "8 to 32768"),
        ("open-files", limits.open_files, 64, 1 << 20, "64 to 1048576"),
        ("worktree-mib", limits.worktree_mib, 16, 1 << 20, "16 to 1048576"),
        ("scratch-mib", limits.scratch_mib, 1, 1 << 20, "1 to 1048576"),
        ("seconds", limits.seconds, 1, 604_800, "1 to 604800"),
        ("output-mib", limits.output_mib, 1, 4096, "1 to 4096"),
        // Slower, why a box ended would wait behind what it said before for longer than it is waited for.
        ("output-kib-per-second", limits.output_kib_per_second, 256, 1 << 22, "256 to 4194304"),
    ];
    for (name, value, low, high, range) in bounds {
        if !(low..=high).contains(&value) {
            return Err(HardenError::Limit { name, value, range });
        }
    }
    if profile.engine == Engine::Docker && !limits.cpu_millis.is_multiple_of(10) {
        // Finer, systemd would write another number than was asked for whenever it reads its units again.
        let range = "a multiple of 10 with engine = \"docker\"";
        return Err(HardenError::Limit { name: "cpu-millis", value: limits.cpu_millis, range });
    }
    if profile.engine == Engine::Docker && !host.root {
        let why = "a box of Docker's is read back and tightened from outside, which takes root: run volary as root, or \
                   use engine = \"embedded\"";
        return Err(HardenError::Engine { what: "engine = \"docker\"", why: why.into() });
    }
    image(profile, &host.dir)?;
    profile.folders.iter().map(|folder| folders::shown(folder, host)).collect()
}

/// The profile's image, if it names one that cannot change under it; and its content, if this platform unpacks it and it
/// is on this host. `dir` is the operator's folder.
fn image(profile: &Profile, dir: &Path) -> Result<(Option<Image>, Option<Content>), HardenError> {
    let refuse = |why: String| HardenError::Engine { what: "image", why };
    let Some(name) = &profile.image else { return Ok((None, None)) };
    let image = Image::parse(name).map_err(refuse)?;
    match (profile.engine, &image) {
        (Engine::Docker, _) => Ok((Some(image), None)),
        (Engine::Embedded, Image::Registry(name)) => {
            Reference::parse(name).map_err(refuse)?;
            let whole = pulled::whole(dir, name).map_err(|e| refuse(e.to_string()))?;
            Ok((Some(image), whole))
        }
        (Engine::Embedded, _) => {
            let content = Content::read(&image).map_err(|e| refuse(e.to_string()))?;
            Ok((Some(image), Some(content)))
        }
    }
}

/// The digest of the profile's image, where it lies on this host and the platform itself unpacks it.
///
/// # Errors
/// As of [`check`].
pub fn image_id(profile: &Profile, host: &HostFacts) -> Result<Option<String>, HardenError> {
    image(profile, &host.dir).map(|(_, content)| content.map(|content| content.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(dir: &Path) -> HostFacts {
        HostFacts { dir: dir.join("operator"), cgroup_parent: "/volary-test".into(), root: true, docker: String::new() }
    }

    fn plan(profile: Profile) -> BoxPlan {
        BoxPlan {
            run: RunId::parse("r1").unwrap(),
            box_id: BoxId::parse("b1").unwrap(),
            profile,
            lower: None,
            upper_image: "/nowhere".into(),
        }
    }

    #[test]
    fn a_profile_cannot_show_the_host_or_the_home() {
        let home = tempfile::tempdir().unwrap();
        let inside = home.path().join("operator");
        std::fs::create_dir(&inside).unwrap();
        for bad in ["/", "/proc", "/etc", "/root", "relative", "/no/such/folder"].iter().map(PathBuf::from).chain([
            inside,
            home.path().to_path_buf(),
            "/tmp".into(),
        ]) {
            let profile =
                Profile { folders: vec![Folder { path: bad.clone(), writable: false }], ..Profile::default() };
            let made = harden(&plan(profile), 7, &facts(home.path()), Path::new("/r"), Path::new("/a"));
            assert!(matches!(made, Err(HardenError::Folder { .. })), "{bad:?} was taken");
        }
    }

    #[test]
    fn a_limit_of_nothing_is_no_limit_and_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let mut profile = Profile::default();
        profile.limits.processes = 0;
        let made = harden(&plan(profile), 7, &facts(home.path()), Path::new("/r"), Path::new("/a"));
        assert!(matches!(made, Err(HardenError::Limit { name: "processes", .. })));
    }

    #[test]
    fn a_rate_of_output_below_256_kib_a_second_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let made = |rate| {
            let mut profile = Profile::default();
            profile.limits.output_kib_per_second = rate;
            harden(&plan(profile), 7, &facts(home.path()), Path::new("/r"), Path::new("/a")).map(drop)
        };
        let refused = made(255).unwrap_err().to_string();
        assert!(refused.contains("output-kib-per-second") && refused.contains("256 to 4194304"), "{refused}");
        made(256).unwrap();
    }

    #[test]
    fn a_part_of_a_processor_that_systemd_would_round_is_refused_for_a_box_of_dockers_alone() {
        let home = tempfile::tempdir().unwrap();
        let mut profile = Profile { engine: Engine::Docker, ..Profile::default() };
        for (millis, taken) in [(1230, true), (1234, false), (10, true), (1001, false)] {
            profile.limits.cpu_millis = millis;
            let refused = check(&profile, &facts(home.path())).err();
            assert_eq!(refused.is_none(), taken, "{millis}: {refused:?}");
            assert!(refused.is_none_or(|e| e.to_string().contains("multiple of 10")), "{millis}");
        }
        let profile = Profile { engine: Engine::Embedded, ..profile };
        assert!(check(&profile, &facts(home.path())).is_ok());
    }
}
