//! The engines alone: to which plans a box that waits is given.

use model::profile::{Engine, Folder};
use model::{BoxId, Limits, Profile, RunId};
use sandbox::{BoxPlan, ClaimError, Host, Warm};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use testkit::Docker;

const RUNNER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/runner"));
const AGENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/agent"));

struct Stage {
    host: Host,
    dir: tempfile::TempDir,
    profile: Profile,
    group: String,
    /// Ended last: by then it must have no container.
    docker: Option<Docker>,
}

/// The test on each engine; `label` is a part of its groups' names.
fn on_each_engine(label: &str, test: impl Fn(Stage)) {
    test(Stage::set(format!("/volary-{label}"), None));
    test(Stage::set(format!("/volary-{label}-docker"), Some(Docker::start())));
}

impl Stage {
    fn set(group: String, docker: Option<Docker>) -> Self {
        let dir = tempfile::Builder::new().prefix("volary-w-").tempdir_in("/tmp").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let host = Self::open(&dir.path().join("home/operator"), &group, docker.as_ref());
        let limits = Limits { worktree_mib: 16, ..Limits::default() };
        let engine = if docker.is_some() { Engine::Docker } else { Engine::Embedded };
        Self { host, dir, profile: Profile { engine, limits, ..Profile::default() }, group, docker }
    }
    fn open(operator: &Path, group: &str, docker: Option<&Docker>) -> Host {
        let host = Host::open(operator, group, Path::new(super::VOLARY), RUNNER, AGENT).unwrap();
        host.with_docker(docker.map(Docker::address).unwrap_or_default())
    }
    /// Nothing of a box is there: no group, and no container.
    fn no_box(&self, why: &str) {
        assert_eq!(sandbox::read_back::boxes(&self.group).len(), 0, "{why}");
        let containers = self.docker.as_ref().map(Docker::containers).unwrap_or_default();
        assert!(containers.is_empty(), "{why}: {containers:#?}");
    }
    fn image(&self, run: &str) -> PathBuf {
        self.dir.path().join(format!("home/operator/boxes/{run}.img"))
    }
    fn plan(&self, run: &str) -> BoxPlan {
        BoxPlan {
            run: RunId::parse(run).unwrap(),
            box_id: BoxId::parse(&format!("plan-{run}")).unwrap(),
            profile: self.profile.clone(),
            lower: None,
            upper_image: self.image(run),
        }
    }
    fn warm(&self, name: &str) -> Warm {
        let warm = self.host.prepare(&BoxId::parse(name).unwrap(), &self.profile).unwrap();
        assert!(warm.is_alive());
        warm
    }
    /// The claim is refused for drift, nothing of the box is left, and a cold box does.
    fn refused(&self, warm: Warm, plan: &BoxPlan, why: &str) {
        let met = self.host.claim(warm, plan);
        assert!(matches!(&met, Err(ClaimError::Drift(said)) if said.contains(why)), "{met:?}");
        drop(met);
        self.no_box("the refused box is still there");
        self.host.create(plan).unwrap().live.end().unwrap();
    }
    fn end(self) {
        self.no_box("a box is still there");
        assert_eq!(fs::read_dir(self.dir.path().join("home/operator/warm")).unwrap().count(), 0);
    }
}

#[test]
fn a_claimed_box_has_the_runs_image_under_the_uid_that_it_was_made_with() {
    on_each_engine("warm-claim", |stage| {
        let warm = stage.warm("waits");
        let made = stage.host.claim(warm, &stage.plan("r1")).unwrap();
        let uid = fs::read_to_string(stage.image("r1").with_extension("uid")).unwrap();
        assert_eq!(uid, made.live.uid().to_string());
        assert_eq!(made.live.box_id().as_str(), "waits");
        made.live.end().unwrap();
        // The run's next box is made on the same image, with the same uid.
        let next = stage.host.create(&stage.plan("r1")).unwrap();
        assert_eq!(next.live.uid().to_string(), uid);
        next.live.end().unwrap();
        stage.host.drop_worktree(&stage.image("r1")).unwrap();
        stage.end();
    });
}

#[test]
fn a_box_that_waits_is_given_to_no_other_version_of_its_profile_and_to_no_run_with_a_worktree() {
    on_each_engine("warm-version", |mut stage| {
        let warm = stage.warm("waits");
        stage.profile.egress.packages.push("rust".into());
        stage.refused(warm, &stage.plan("r1"), "another version");
        let warm = stage.warm("waits");
        stage.refused(warm, &stage.plan("r1"), "has a worktree already");
        // What one engine made is for no run of another's.
        let warm = stage.warm("waits");
        stage.profile.engine = match stage.profile.engine {
            Engine::Docker => Engine::Embedded,
            Engine::Embedded => Engine::Docker,
        };
        let met = stage.host.claim(warm, &stage.plan("r2"));
        assert!(matches!(&met, Err(ClaimError::Drift(said)) if said.contains("another profile")), "{met:?}");
        stage.end();
    });
}

#[test]
fn a_box_that_waits_is_not_used_once_the_host_shows_something_else_under_a_name_of_its_profile() {
    on_each_engine("warm-drift", |mut stage| {
        let shown = stage.dir.path().join("shown");
        fs::create_dir(&shown).unwrap();
        stage.profile.folders = vec![Folder { path: shown.clone(), writable: false }];
        let warm = stage.warm("waits");
        fs::rename(&shown, stage.dir.path().join("before")).unwrap();
        fs::create_dir(&shown).unwrap();
        stage.refused(warm, &stage.plan("r1"), "changed since it was made");
        // A folder that turned into a link is no folder of a profile any more: that is for the cold box to say.
        let warm = stage.warm("waits");
        fs::rename(&shown, stage.dir.path().join("before-that")).unwrap();
        std::os::unix::fs::symlink("/etc", &shown).unwrap();
        assert!(matches!(stage.host.claim(warm, &stage.plan("r2")), Err(ClaimError::Box(_))));
        assert!(stage.host.create(&stage.plan("r2")).is_err());
        stage.end();
    });
}

#[test]
fn a_box_that_nobody_claims_ends_with_all_of_it() {
    on_each_engine("warm-unclaimed", |stage| {
        drop(stage.warm("waits"));
        stage.end();
    });
}

#[test]
fn the_next_operator_removes_what_a_killed_one_left_of_a_box_that_waited() {
    on_each_engine("warm-orphan", |stage| {
        // As if this process had been killed: nobody ends the box, and its helper is killed too.
        let warm = stage.warm("waits");
        super::kill(warm.helper_pid());
        std::mem::forget(warm);
        let second = Stage::open(&stage.dir.path().join("home/operator"), &stage.group, stage.docker.as_ref());
        drop(second.reap_orphans().unwrap());
        stage.end();
    });
}
