//! Pulls: what a registry gives, and what becomes of its lies.

use super::*;
use crate::harden::{BoxPlan, HostFacts, harden, image_id};
use crate::image::kept::MOST;
use crate::image::pulled::{self, Progress, Source};
use api::images::{Part, PartKind};
use model::{BoxId, Profile, RunId};
use rustix::fs::FlockOperation;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

/// A registry that a layout stands for.
struct Registry {
    blobs: PathBuf,
    /// How many parts were asked for.
    asked: Arc<AtomicUsize>,
    /// What it does to the bytes of a part before it gives them.
    lie: fn(&Part, Vec<u8>) -> Vec<u8>,
    /// After how many parts it is gone.
    most: usize,
    /// Bytes that may be set aside for layers.
    room: u64,
    /// Is asked, with how often before, whenever another's pull is waited for.
    waits: Box<dyn FnMut(usize) -> io::Result<()> + Send>,
    waited: usize,
}

impl Registry {
    fn of(layout: &Path) -> Self {
        let honest = |_: &Part, bytes| bytes;
        Self {
            blobs: layout.join("blobs/sha256"),
            asked: Arc::default(),
            lie: honest,
            most: usize::MAX,
            room: u64::MAX,
            waits: Box::new(|_| Ok(())),
            waited: 0,
        }
    }
    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Source for Registry {
    fn part(&mut self, part: &Part, to: &mut dyn Write) -> io::Result<()> {
        if self.asked.fetch_add(1, Ordering::Relaxed) >= self.most {
            return Err(io::Error::other("the gateway ended"));
        }
        let bytes = fs::read(self.blobs.join(part.digest.trim_start_matches("sha256:")))?;
        let bytes = (self.lie)(part, bytes);
        bytes.chunks(1000).try_for_each(|piece| to.write_all(piece))
    }
    fn waits(&mut self) -> io::Result<()> {
        self.waited += 1;
        (self.waits)(self.waited - 1)
    }
    fn set_aside(&mut self, bytes: u64) -> io::Result<()> {
        if bytes <= self.room { Ok(()) } else { Err(io::Error::other(format!("no room for {bytes} bytes"))) }
    }
}

/// An image at a registry, and the folder of an operator.
struct Here {
    dir: tempfile::TempDir,
    registry: Registry,
    /// As a profile names it.
    name: String,
    id: String,
}

impl Here {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let much = "m".repeat(30_000);
        let layers = [tar(&[file("etc/a", "1"), file("big", &much)]), tar(&[file("etc/b", "2")])];
        let (id, _) = layout(&dir.path().join("registry"), &layers);
        // The index: what a registry calls an image of several processors.
        let index = fs::read(dir.path().join("registry/index.json")).unwrap();
        let index_digest = digest(&index);
        fs::write(dir.path().join("registry/blobs/sha256").join(&index_digest[7..]), index).unwrap();
        fs::create_dir(dir.path().join("operator")).unwrap();
        let registry = Registry::of(&dir.path().join("registry"));
        Self { registry, name: format!("registry.example/team/tools@{index_digest}"), id, dir }
    }
    fn operator(&self) -> PathBuf {
        self.dir.path().join("operator")
    }
    fn pull(&mut self) -> Result<Vec<Progress>, String> {
        let (operator, mut said) = (self.operator(), Vec::new());
        pulled::pull(&operator, &self.name, &mut self.registry, &mut |now| said.push(now))
            .map(|()| said)
            .map_err(|e| e.to_string())
    }
    fn is_here(&self) -> bool {
        pulled::is_here(&self.operator(), &self.name).unwrap()
    }
    /// What lies among the image's parts.
    fn parts(&self) -> Vec<String> {
        let digest = self.name.rsplit_once(':').unwrap().1;
        let blobs = self.operator().join("images/pulled").join(digest).join("blobs/sha256");
        let mut names: Vec<_> =
            fs::read_dir(blobs).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
    /// Unpacks it, as a box's helper does.
    fn hold(&self) -> io::Result<File> {
        kept::hold_pulled(&self.operator(), &self.id, &MOST, &self.name)
    }
}

#[test]
fn an_image_is_pulled_once_unpacked_once_and_then_nobody_is_asked() {
    let mut here = Here::new();
    assert!(!here.is_here());
    let said = here.pull().unwrap();
    // Index, manifest, configuration, two layers.
    assert_eq!((here.registry.asked(), here.parts().len(), here.is_here()), (5, 5, true));
    assert_eq!(said.first().unwrap().done, 0);
    assert!(said.last().is_some_and(|last| last.done == last.all && last.all > 30_000), "{said:?}");
    let held = here.hold().unwrap();
    assert_eq!(fs::read_to_string(kept::place(&here.operator(), &here.id).join("etc/b")).unwrap(), "2");
    assert_eq!(here.parts().len(), 3, "its layers lie there once, unpacked");
    assert!(here.is_here());
    drop(held);
    here.pull().unwrap();
    drop(here.hold().unwrap());
    assert_eq!(here.registry.asked(), 5);
    // Its tree gone, only the layers are asked for again.
    fs::remove_dir_all(kept::place(&here.operator(), &here.id)).unwrap();
    assert!(!here.is_here());
    here.pull().unwrap();
    assert_eq!(here.registry.asked(), 7);
}

#[test]
fn what_a_registry_gives_under_another_digest_or_at_another_length_is_not_taken_and_nothing_of_it_stays() {
    let changed: fn(&Part, Vec<u8>) -> Vec<u8> = |_, mut bytes| {
        bytes[0] ^= 1;
        bytes
    };
    let cut: fn(&Part, Vec<u8>) -> Vec<u8> = |_, bytes| bytes[..bytes.len() - 1].to_vec();
    let endless: fn(&Part, Vec<u8>) -> Vec<u8> = |part, mut bytes| {
        bytes.resize(usize::try_from(part.most).unwrap() + 1, 0);
        bytes
    };
    for (lie, why) in [(changed, "gives sha256:"), (cut, "gives sha256:"), (endless, "sends more than the")] {
        // Of each part in turn: index, manifest, configuration, layers.
        for honest in 0..5 {
            let mut here = Here::new();
            here.registry.most = honest;
            let before = here.pull().unwrap_err();
            assert!(before.contains("the gateway ended"), "{before}");
            assert_eq!(here.parts().len(), honest);
            (here.registry.most, here.registry.lie) = (usize::MAX, lie);
            let said = here.pull().unwrap_err();
            assert!(said.contains(why) && said.contains("registry.example/team/tools"), "part {honest}: {said}");
            assert_eq!((here.parts().len(), here.is_here()), (honest, false), "part {honest}");
            here.registry.lie = |_, bytes| bytes;
            here.pull().unwrap();
            assert!(here.is_here());
        }
    }
}

#[test]
fn a_pull_that_was_killed_goes_on_from_the_parts_that_are_whole() {
    let mut here = Here::new();
    here.registry.most = 4;
    here.pull().unwrap_err();
    // As a kill leaves the part that was on its way.
    let digest = here.name.rsplit_once(':').unwrap().1;
    let blobs = here.operator().join("images/pulled").join(digest).join("blobs/sha256");
    let other = here.registry.blobs.read_dir().unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let missing: Vec<String> = other.filter(|name| !here.parts().contains(name)).collect();
    assert_eq!(missing.len(), 1);
    fs::write(blobs.join(&missing[0]).with_extension("part"), "half of it").unwrap();
    assert!(!here.is_here());
    here.registry.most = usize::MAX;
    here.pull().unwrap();
    assert_eq!((here.registry.asked(), here.parts().len()), (6, 5), "{:?}", here.parts());
}

#[test]
fn a_layer_that_was_damaged_on_the_disk_makes_no_tree_and_is_pulled_anew() {
    let mut here = Here::new();
    here.pull().unwrap();
    let digest = here.name.rsplit_once(':').unwrap().1;
    let blobs = here.operator().join("images/pulled").join(digest).join("blobs/sha256");
    let longest =
        blobs.read_dir().unwrap().map(|e| e.unwrap().path()).max_by_key(|path| fs::metadata(path).unwrap().len());
    let longest = longest.unwrap();
    let mut bytes = fs::read(&longest).unwrap();
    bytes[20_000] ^= 1;
    fs::write(&longest, bytes).unwrap();
    let said = here.hold().unwrap_err().to_string();
    assert!(said.contains("its content is sha256:") && said.contains("registry.example/team/tools"), "{said}");
    assert!(!here.is_here() && !kept::place(&here.operator(), &here.id).exists());
    here.pull().unwrap();
    drop(here.hold().unwrap());
    assert_eq!((here.registry.asked(), here.is_here()), (7, true));
}

#[test]
fn of_two_that_pull_the_same_one_asks_the_registry() {
    let here = Here::new();
    let start = Arc::new(Barrier::new(2));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let (start, operator, name) = (Arc::clone(&start), here.operator(), here.name.clone());
            let mut registry = Registry::of(&here.dir.path().join("registry"));
            registry.asked = Arc::clone(&here.registry.asked);
            scope.spawn(move || {
                start.wait();
                pulled::pull(&operator, &name, &mut registry, &mut |_| {}).unwrap();
            });
        }
    });
    assert_eq!((here.registry.asked(), here.parts().len()), (5, 5));
}

#[test]
fn whoever_waits_for_anothers_pull_can_be_ended_and_asks_nobody_until_that_is_over() {
    let mut here = Here::new();
    let digest = here.name.rsplit_once(':').unwrap().1;
    let lock = here.operator().join("images/pulled").join(digest).with_extension("lock");
    fs::create_dir_all(lock.parent().unwrap()).unwrap();
    let others = || {
        let file = File::create(&lock).unwrap();
        rustix::fs::flock(&file, FlockOperation::LockExclusive).unwrap();
        file
    };
    let held = others();
    here.registry.waits = Box::new(|before| match before {
        0 => Ok(()),
        _ => Err(io::Error::other("nobody waits for it")),
    });
    assert_eq!(here.pull().unwrap_err(), "nobody waits for it");
    assert_eq!((here.registry.asked(), here.registry.waited), (0, 2));
    let mut held = Some(held);
    here.registry.waits = Box::new(move |_| {
        drop(held.take());
        Ok(())
    });
    here.pull().unwrap();
    assert_eq!((here.registry.asked(), here.registry.waited, here.is_here()), (5, 3, true));
}

#[test]
fn room_is_set_aside_for_the_layers_that_are_not_here_and_without_it_none_is_asked_for() {
    let mut here = Here::new();
    here.registry.room = 0;
    let said = here.pull().unwrap_err();
    assert!(said.contains("no room for") && said.contains("registry.example/team/tools"), "{said}");
    assert_eq!(here.registry.asked(), 3, "index, manifest, configuration");
    let all: u64 = said.split(' ').filter_map(|word| word.parse::<u64>().ok()).sum();
    here.registry.room = all;
    here.registry.most = 4;
    here.pull().unwrap_err();
    // One of two is here now, and not counted again.
    (here.registry.room, here.registry.most) = (all - 1, usize::MAX);
    here.pull().unwrap();
    assert!(here.is_here());
}

#[test]
fn no_box_is_begun_of_an_image_that_is_half_here() {
    let mut here = Here::new();
    let facts =
        HostFacts { dir: here.operator(), cgroup_parent: "/volary-test".into(), root: true, docker: String::new() };
    let profile = Profile { image: Some(here.name.clone()), ..Profile::default() };
    here.registry.most = 4;
    here.pull().unwrap_err();
    assert_eq!(image_id(&profile, &facts).unwrap(), None);
    let plan = BoxPlan {
        run: RunId::parse("r1").unwrap(),
        box_id: BoxId::parse("b1").unwrap(),
        profile: profile.clone(),
        lower: None,
        upper_image: "/nowhere".into(),
    };
    let begin = || harden(&plan, 7, &facts, Path::new("/r"), Path::new("/a")).map(drop).map_err(|e| e.to_string());
    assert!(begin().unwrap_err().contains("not on this host yet"));
    here.registry.most = usize::MAX;
    here.pull().unwrap();
    assert_eq!(begin(), Ok(()));
    drop(here.hold().unwrap());
    assert_eq!((begin(), image_id(&profile, &facts).unwrap()), (Ok(()), Some(here.id)));
}

#[test]
fn of_an_index_the_image_of_this_processor_is_pulled_and_no_other() {
    let mut here = Here::new();
    let blobs = here.registry.blobs.clone();
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(here.dir.path().join("registry/index.json")).unwrap()).unwrap();
    let own = index["manifests"][0].clone();
    let other = |architecture: &str, os: &str| json!({ "digest": format!("sha256:{}", "0a".repeat(32)), "platform": { "architecture": architecture, "os": os } });
    // As builders write them: an image for each processor, and beside each what says how it was made.
    let manifests = json!([other("pdp11", "linux"), other("unknown", "unknown"), own, other("amd64", "windows")]);
    let index = json!({ "schemaVersion": 2, "manifests": manifests }).to_string();
    fs::write(blobs.join(&digest(index.as_bytes())[7..]), &index).unwrap();
    here.name = format!("registry.example/team/tools@{}", digest(index.as_bytes()));
    here.pull().unwrap();
    assert_eq!((here.registry.asked(), here.is_here()), (5, true));
    drop(here.hold().unwrap());
    // And what is no image at all.
    let old = json!({ "schemaVersion": 1, "fsLayers": [] }).to_string();
    fs::write(blobs.join(&digest(old.as_bytes())[7..]), &old).unwrap();
    here.name = format!("registry.example/team/tools@{}", digest(old.as_bytes()));
    assert!(here.pull().unwrap_err().contains("Docker's first format"));
}

#[test]
fn an_image_for_another_processor_or_with_a_key_in_it_is_refused_before_its_layers_are_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("registry");
    let blobs = place.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let blob = |bytes: &[u8]| {
        let digest = digest(bytes);
        fs::write(blobs.join(&digest[7..]), bytes).unwrap();
        json!({ "digest": digest, "size": bytes.len() })
    };
    let layer = blob(&tar(&[file("a", "x")]));
    let pulled = |config: serde_json::Value, layer: &serde_json::Value| {
        let manifest =
            blob(json!({"config": blob(config.to_string().as_bytes()), "layers": [layer]}).to_string().as_bytes());
        let name = format!("registry.example/x@{}", manifest["digest"].as_str().unwrap());
        let mut registry = Registry::of(&place);
        let operator = dir.path().join("operator");
        let said = pulled::pull(&operator, &name, &mut registry, &mut |_| {}).map_err(|e| e.to_string());
        (said, registry.asked())
    };
    let rootfs = json!({ "diff_ids": [layer["digest"]] });
    let (said, asked) = pulled(json!({ "architecture": "pdp11", "rootfs": rootfs }), &layer);
    assert!(said.unwrap_err().contains("another processor"));
    assert_eq!(asked, 2);
    let (said, asked) = pulled(json!({ "config": { "Env": ["GITHUB_TOKEN=x"] }, "rootfs": rootfs }), &layer);
    assert!(said.unwrap_err().contains("it sets GITHUB_TOKEN"));
    assert_eq!(asked, 2);
    for (size, why) in [(json!(64u64 << 30), "longer than an image may be"), (json!(-1), "how long each layer is")] {
        let lying = json!({ "digest": layer["digest"], "size": size });
        let (said, asked) = pulled(json!({ "rootfs": rootfs, "history": [size] }), &lying);
        assert!(said.unwrap_err().contains(why));
        assert_eq!(asked, 2);
    }
    assert_eq!(pulled(json!({ "rootfs": rootfs }), &layer), (Ok(()), 3));
}

#[test]
fn what_no_box_asked_for_in_a_long_time_goes_when_another_is_pulled() {
    let (mut old, mut new) = (Here::new(), Here::new());
    old.pull().unwrap();
    let folder = old.operator().join("images/pulled").join(old.name.rsplit_once(':').unwrap().1);
    let lock = File::options().write(true).open(folder.with_extension("lock")).unwrap();
    let age = std::time::Duration::from_secs((kept::UNUSED_DAYS + 1) * 24 * 3600);
    let long_ago = std::time::SystemTime::now() - age;
    // Another image's pull in the same operator's folder.
    let (_, other) = layout(&new.dir.path().join("other"), &[tar(&[file("c", "3")])]);
    new.registry = Registry::of(&new.dir.path().join("other"));
    let name = format!("registry.example/other@{other}");
    lock.set_modified(long_ago).unwrap();
    // One that is looked for is used.
    assert!(old.is_here());
    pulled::pull(&old.operator(), &name, &mut new.registry, &mut |_| {}).unwrap();
    assert!(folder.is_dir());
    lock.set_modified(long_ago).unwrap();
    nobody_holds(&lock);
    pulled::pull(&old.operator(), &name, &mut new.registry, &mut |_| {}).unwrap();
    assert!(!folder.exists() && !old.is_here());
}

#[test]
fn manifests_and_blobs_are_asked_for_as_such_and_each_with_its_bound() {
    struct Noting(Vec<Part>, Registry);
    impl Source for Noting {
        fn part(&mut self, part: &Part, to: &mut dyn Write) -> io::Result<()> {
            self.0.push(part.clone());
            self.1.part(part, to)
        }
        fn waits(&mut self) -> io::Result<()> {
            self.1.waits()
        }
        fn set_aside(&mut self, bytes: u64) -> io::Result<()> {
            self.1.set_aside(bytes)
        }
    }
    let here = Here::new();
    let mut noting = Noting(Vec::new(), Registry::of(&here.dir.path().join("registry")));
    pulled::pull(&here.operator(), &here.name, &mut noting, &mut |_| {}).unwrap();
    let kinds: Vec<_> = noting.0.iter().map(|part| part.kind).collect();
    assert_eq!(kinds, [PartKind::Manifest, PartKind::Manifest, PartKind::Blob, PartKind::Blob, PartKind::Blob]);
    assert!(noting.0[..3].iter().all(|part| part.most == 4 << 20));
    assert!(noting.0[3..].iter().all(|part| part.most < 64 << 10), "as long as the manifest says");
}
