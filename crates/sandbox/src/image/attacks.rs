//! Attacks of an image on whoever unpacks it, and what honest layers come to.

use super::Image;
use super::content::{Content, digest};
use super::kept::{self, MOST};
use super::unpack::{self, Budget};
use flate2::write::GzEncoder;
use serde_json::json;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use tar::EntryType;

/// One entry of a layer, as nobody's tar program would write it.
struct Entry<'a> {
    kind: EntryType,
    path: &'a [u8],
    link: &'a [u8],
    mode: u32,
    content: &'a [u8],
}

fn entry<'a>(kind: EntryType, path: &'a str, link: &'a str) -> Entry<'a> {
    Entry { kind, path: path.as_bytes(), link: link.as_bytes(), mode: 0o755, content: b"" }
}
fn file<'a>(path: &'a str, content: &'a str) -> Entry<'a> {
    Entry { content: content.as_bytes(), mode: 0o644, ..entry(EntryType::Regular, path, "") }
}
fn folder(path: &str) -> Entry<'_> {
    entry(EntryType::Directory, path, "")
}
fn link<'a>(path: &'a str, to: &'a str) -> Entry<'a> {
    entry(EntryType::Symlink, path, to)
}
fn twin<'a>(path: &'a str, of: &'a str) -> Entry<'a> {
    entry(EntryType::Link, path, of)
}

/// A tar of them; paths are written as they are.
fn tar(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(entry.kind);
        header.set_mode(entry.mode);
        header.set_mtime(1_000_000_000);
        header.set_size(entry.content.len() as u64);
        let gnu = header.as_gnu_mut().unwrap();
        gnu.name[..entry.path.len()].copy_from_slice(entry.path);
        gnu.linkname[..entry.link.len()].copy_from_slice(entry.link);
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(entry.content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

/// A folder with a file beside the tree, which nothing may reach.
struct World {
    dir: tempfile::TempDir,
    budget: Budget,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("tree")).unwrap();
        fs::write(dir.path().join("outside"), "untouched").unwrap();
        Self { dir, budget: Budget { bytes: 1 << 20, entries: 100, spare: 0 } }
    }
    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join("tree").join(path)
    }
    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap_or_else(|e| format!("{path}: {e}"))
    }
    /// Puts a layer over the tree.
    fn layer(&mut self, entries: &[Entry<'_>]) -> io::Result<()> {
        self.bytes(&tar(entries))
    }
    fn bytes(&mut self, tar: &[u8]) -> io::Result<()> {
        let root = File::open(self.at("")).unwrap();
        unpack::layer(root.as_fd(), &mut &tar[..], &mut self.budget)
    }
    /// A layer that must be refused for this reason, with nothing changed beside the tree.
    fn refused(entries: &[Entry<'_>], why: &str) {
        let mut world = Self::new();
        let said = world.layer(entries).unwrap_err().to_string();
        assert!(said.contains(why), "{why:?} is not in {said:?}");
        world.is_whole();
    }
    fn is_whole(&self) {
        assert_eq!(fs::read_to_string(self.dir.path().join("outside")).unwrap(), "untouched");
        let mut names: Vec<_> = fs::read_dir(self.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["outside", "tree"]);
    }
}

#[test]
fn a_path_that_climbs_is_refused_wherever_it_does() {
    World::refused(&[file("../outside", "changed")], "climbs");
    World::refused(&[file("a/../../outside", "changed")], "climbs");
    World::refused(&[folder("a"), file("/../outside", "changed")], "climbs");
    World::refused(&[file("a/..", "changed")], "climbs");
    World::refused(&[twin("a", "../outside")], "climbs");
    World::refused(&[file("a/.wh...", "")], "without a name");
    World::refused(&[file(".wh..", "")], "without a name");
    World::refused(&[file(".wh.", "")], "without a name");
}

#[test]
fn an_absolute_path_is_one_of_the_tree() {
    let mut world = World::new();
    let outside = world.dir.path().join("outside");
    world.layer(&[file(outside.to_str().unwrap(), "inside")]).unwrap();
    assert_eq!(world.text(outside.to_str().unwrap().trim_start_matches('/')), "inside");
    world.is_whole();
}

#[test]
fn a_link_that_climbs_out_of_the_tree_is_refused_and_one_that_does_not_is_kept() {
    for (path, to) in [("a", ".."), ("a", "../outside"), ("a/b", "../../outside"), ("a", "/../x"), ("a", "b/../../c")] {
        World::refused(&[link(path, to)], "climbs out of the tree");
    }
    let mut world = World::new();
    world
        .layer(&[link("usr/bin/vi", "../../etc/alternatives/vi"), link("bin", "usr/bin"), link("x", "/etc/x")])
        .unwrap();
    assert_eq!(fs::read_link(world.at("usr/bin/vi")).unwrap(), Path::new("../../etc/alternatives/vi"));
    assert_eq!(fs::read_link(world.at("x")).unwrap(), Path::new("/etc/x"));
}

#[test]
fn what_is_written_through_a_link_stays_in_the_tree() {
    let mut world = World::new();
    // As a later layer of an image may: beneath a link of an earlier one.
    let out = world.dir.path().to_str().unwrap().to_owned();
    world.layer(&[link("door", &out), link("lib", "usr/lib"), folder("usr/lib")]).unwrap();
    world.layer(&[file("lib/libc.so", "of the second layer"), file("door/.wh.outside", "")]).unwrap();
    assert_eq!(world.text("usr/lib/libc.so"), "of the second layer");
    // Where the link leads in a box there is no folder, and none is made where it leads here.
    assert!(world.layer(&[file("door/outside", "changed")]).is_err());
    assert!(world.layer(&[twin("x", "door/outside")]).is_err());
    world.layer(&[file("door/.wh..wh..opq", "")]).unwrap();
    world.is_whole();
}

#[test]
fn a_name_that_stands_twice_is_made_anew_and_never_written_through() {
    let mut world = World::new();
    let out = world.dir.path().join("outside");
    let out = out.to_str().unwrap();
    world.layer(&[link("a", out), file("a", "a file now"), file("b", "first"), file("b", "second")]).unwrap();
    assert_eq!((world.text("a"), world.text("b")), ("a file now".into(), "second".into()));
    world.layer(&[twin("c", "b"), file("c", "its own")]).unwrap();
    assert_eq!((world.text("b"), world.text("c")), ("second".into(), "its own".into()));
    world.layer(&[folder("b"), file("b/in", "x"), link("b", out), folder("b")]).unwrap();
    assert!(fs::symlink_metadata(world.at("b")).unwrap().is_dir(), "a folder is never a link to one");
    world.is_whole();
}

#[test]
fn a_second_name_is_one_of_a_file_of_the_image_and_of_nothing_else() {
    let mut world = World::new();
    world.layer(&[file("a", "x"), twin("b", "./a"), twin("a", "a")]).unwrap();
    assert_eq!(fs::metadata(world.at("a")).unwrap().ino(), fs::metadata(world.at("b")).unwrap().ino());
    let own = format!("{}/outside", world.dir.path().display());
    for of in [own.as_str(), "absent", "", "."] {
        assert!(world.layer(&[twin("c", of)]).is_err(), "{of:?} has a second name");
    }
    World::refused(&[folder("d"), twin("c", "d")], "no file of the image");
    world.is_whole();
}

#[test]
fn devices_are_left_out_and_modes_give_nobody_more_than_they_need() {
    let mut world = World::new();
    let strange = Entry { mode: 0o7777, ..file("set-uid", "x") };
    let shut = Entry { mode: 0o000, ..folder("shut") };
    let all = [
        entry(EntryType::Char, "null", ""),
        entry(EntryType::Block, "disk", ""),
        entry(EntryType::Fifo, "pipe", ""),
        strange,
        shut,
        file("shut/in", "x"),
    ];
    world.layer(&all).unwrap();
    for name in ["null", "disk", "pipe"] {
        assert!(!world.at(name).exists(), "{name} is there");
    }
    let mode = |path: &str| fs::metadata(world.at(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("set-uid"), mode("shut"), mode("shut/in")), (0o755, 0o700, 0o644));
    assert_eq!(fs::metadata(world.at("set-uid")).unwrap().mtime(), 1_000_000_000);
    assert!(!fs::metadata(world.at("set-uid")).unwrap().file_type().is_char_device());
}

#[test]
fn what_a_layer_says_is_gone_is_gone_of_the_layers_below_and_of_no_other() {
    let mut world = World::new();
    world.layer(&[file("a/old", "x"), file("b/old", "x"), file("b/kept/old", "x"), folder("c/d")]).unwrap();
    world
        .layer(&[
            file("a/.wh.old", ""),
            file("b/new", "y"),
            file("b/kept/new", "y"),
            // After what it must not take.
            file("b/.wh..wh..opq", ""),
            file(".wh.c", ""),
            file(".wh..wh.plnk", ""),
            file("absent/.wh.x", ""),
        ])
        .unwrap();
    assert!(!world.at("a/old").exists() && !world.at("b/old").exists() && !world.at("b/kept/old").exists());
    assert!(!world.at("c").exists() && !world.at("absent").exists());
    assert_eq!((world.text("b/new"), world.text("b/kept/new")), ("y".into(), "y".into()));
    // What is a link is removed itself, and not what it leads to.
    let out = world.dir.path().to_str().unwrap().to_owned();
    world.layer(&[link("door", &out)]).unwrap();
    world.layer(&[file(".wh.door", "")]).unwrap();
    world.is_whole();
}

#[test]
fn a_sparse_file_and_what_is_no_file_are_refused() {
    World::refused(&[entry(EntryType::GNUSparse, "huge", "")], "sparse");
    World::refused(&[entry(EntryType::new(b'Z'), "what", "")], "no file");
    let pax = |record: &'static str| Entry { content: record.as_bytes(), ..entry(EntryType::XHeader, "x", "") };
    World::refused(&[pax("22 GNU.sparse.major=1\n"), file("huge", "")], "sparse");
    World::refused(&[pax("22 size=9000000000000\n"), file("huge", "")], "8 GiB");
    World::refused(&[pax("19 path=../outside\n"), file("x", "changed")], "climbs");
    World::refused(&[pax("9999 path=x\n"), file("x", "")], "cannot be read");
    World::refused(&[pax("0 path=x\n"), file("x", "")], "cannot be read");
}

#[test]
fn long_names_are_taken_as_they_are_said_and_bounded() {
    let mut world = World::new();
    let long = format!("{}/{}", "f".repeat(200), "n".repeat(200));
    let said = format!("{} path={long}\n", long.len() + 10);
    let pax = Entry { content: said.as_bytes(), ..entry(EntryType::XHeader, "x", "") };
    let gnu = Entry {
        content: &[b"of/", "g".repeat(150).as_bytes(), b"\0"].concat(),
        ..entry(EntryType::GNULongName, "x", "")
    };
    world.layer(&[pax, file("short", "1"), gnu, file("short", "2"), file("short", "3")]).unwrap();
    assert_eq!(world.text(&long), "1");
    assert_eq!(world.text(&format!("of/{}", "g".repeat(150))), "2");
    assert_eq!(world.text("short"), "3");
    let much = "x".repeat((1 << 20) + 1);
    let endless = Entry { content: much.as_bytes(), ..entry(EntryType::GNULongName, "x", "") };
    World::refused(&[endless, file("x", "")], "more said of it");
    let deep = "d/".repeat(2100);
    let deep = Entry { content: deep.as_bytes(), ..entry(EntryType::GNULongName, "x", "") };
    World::refused(&[deep, file("x", "")], "longer than 4096");
    let name = "n".repeat(256);
    let name = Entry { content: name.as_bytes(), ..entry(EntryType::GNULongName, "x", "") };
    World::refused(&[name, file("x", "")], "no name");
}

#[test]
fn more_files_than_an_image_may_have_are_refused_and_so_is_a_file_that_is_longer_than_its_layer() {
    let mut world = World::new();
    world.budget.entries = 3;
    world.layer(&[file("a", ""), file("b", ""), file("c", "")]).unwrap();
    assert!(world.layer(&[file("d", "")]).unwrap_err().to_string().contains("more files"));
    let mut cut = tar(&[file("a", "0123456789")]);
    cut.truncate(512 + 4);
    assert!(World::new().bytes(&cut).is_err());
    let mut long = tar(&[file("a", "")]);
    long[124..136].copy_from_slice(b"77777777777\0");
    let sum: u32 =
        long[..512].iter().enumerate().map(|(n, b)| if (148..156).contains(&n) { 32 } else { u32::from(*b) }).sum();
    long[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    assert!(World::new().bytes(&long).unwrap_err().to_string().contains("longer than all"));
}

#[test]
fn a_disk_that_would_be_full_ends_it() {
    let mut world = World::new();
    world.budget.spare = u64::MAX;
    assert!(world.layer(&[file("a", "x")]).unwrap_err().to_string().contains("free some space"));
}

/// An image of some layers, packed or not, as a layout; gives its digests: of the image and of its manifest.
fn layout(place: &Path, layers: &[Vec<u8>], pack: bool) -> (String, String) {
    let blobs = place.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let blob = |bytes: &[u8]| {
        let digest = digest(bytes);
        fs::write(blobs.join(&digest["sha256:".len()..]), bytes).unwrap();
        json!({"digest": digest, "size": bytes.len()})
    };
    let packed = |layer: &Vec<u8>| {
        if !pack {
            return blob(layer);
        }
        let mut gz = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(layer).unwrap();
        blob(&gz.finish().unwrap())
    };
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let diffs: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    let config = json!({"architecture": architecture, "os": "linux", "rootfs": {"type": "layers", "diff_ids": diffs}});
    let config = blob(config.to_string().as_bytes());
    let layers: Vec<_> = layers.iter().map(packed).collect();
    let manifest = blob(json!({"config": config, "layers": layers}).to_string().as_bytes());
    let platform = json!({"architecture": architecture, "os": "linux"});
    let index = json!({"manifests": [{"digest": manifest["digest"], "platform": platform}]});
    fs::write(place.join("index.json"), index.to_string()).unwrap();
    fs::write(place.join("oci-layout"), "{}").unwrap();
    (config["digest"].as_str().unwrap().into(), manifest["digest"].as_str().unwrap().into())
}

fn hold(dir: &Path, image: &Image, id: &str, most: &Budget) -> io::Result<File> {
    kept::hold(dir, id, most, || Content::read(image))
}

/// What lies among the trees, without locks.
fn trees(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir.join("images")).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.ends_with(".lock")).collect()
}

#[test]
fn an_image_is_unpacked_once_and_only_read_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("layout");
    for pack in [false, true] {
        let home = dir.path().join(format!("home-{pack}"));
        fs::create_dir(&home).unwrap();
        let (id, _) =
            layout(&place, &[tar(&[file("etc/a", "1"), file("etc/b", "2")]), tar(&[file("etc/.wh.a", "")])], pack);
        let image = Image::Layout(place.clone(), None);
        let first = hold(&home, &image, &id, &MOST).unwrap();
        let tree = kept::place(&home, &id);
        assert_eq!(fs::read_to_string(tree.join("etc/b")).unwrap(), "2");
        assert!(!tree.join("etc/a").exists() && tree.join("usr").is_dir());
        assert_eq!(fs::read_to_string(tree.join("etc/passwd")).unwrap(), "");
        let made = fs::metadata(&tree).unwrap().ino();
        fs::remove_dir_all(&place).unwrap();
        let second = hold(&home, &image, &id, &MOST).unwrap();
        assert_eq!(fs::metadata(&tree).unwrap().ino(), made);
        drop((first, second));
        assert_eq!(trees(&home).len(), 1);
    }
}

#[test]
fn a_places_of_an_image_that_are_links_become_files_and_folders_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("layout");
    let out = dir.path().join("outside");
    fs::write(&out, "untouched").unwrap();
    let (id, _) = layout(&place, &[tar(&[link("etc/passwd", out.to_str().unwrap()), folder("etc/hosts/x")])], false);
    let image = Image::Layout(place.clone(), None);
    drop(hold(dir.path(), &image, &id, &MOST).unwrap());
    let etc = kept::place(dir.path(), &id).join("etc");
    assert!(fs::symlink_metadata(etc.join("passwd")).unwrap().is_file());
    assert!(fs::symlink_metadata(etc.join("hosts")).unwrap().is_file());
    assert_eq!(fs::read_to_string(&out).unwrap(), "untouched");
    fs::remove_dir_all(&place).unwrap();
    let (id, _) = layout(&place, &[tar(&[link("etc", "/tmp")])], false);
    assert!(hold(dir.path(), &image, &id, &MOST).unwrap_err().to_string().contains("/etc is no folder"));
}

#[test]
fn a_system_that_is_a_link_to_anything_else_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("layout");
    let image = Image::Layout(place.clone(), None);
    let hold = |name: &str, to: &str| {
        let (id, _) = layout(&place, &[tar(&[link(name, to)])], false);
        let held = hold(dir.path(), &image, &id, &MOST).map(drop).map_err(|e| e.to_string());
        fs::remove_dir_all(&place).unwrap();
        held
    };
    for to in ["/run/volary", "run/volary", "/", ".", "/usr/../run", "/usrlocal", "/workspace"] {
        let said = hold("lib32", to).unwrap_err();
        assert!(said.contains("no part of the system"), "{to}: {said}");
    }
    for (name, to) in [("bin", "usr/bin"), ("lib64", "/usr/lib64"), ("lib64", "lib"), ("opt", "/run")] {
        hold(name, to).unwrap();
    }
}

#[test]
fn a_bomb_is_cut_at_the_size_of_an_image_and_nothing_of_it_stays() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("layout");
    let zeros = "\0".repeat(4 << 20);
    let bomb = [tar(&[file("a", &zeros)])];
    let few = Budget { bytes: 1 << 20, ..MOST };
    let after = [{
        // Past the last entry, where nothing is unpacked and all is read.
        let mut tar = tar(&[file("a", "x")]);
        tar.resize(4 << 20, 0);
        tar
    }];
    for (layers, why) in [(&bomb, "longer than all"), (&after, "more than an image may be")] {
        let (id, _) = layout(&place, layers, true);
        let said = hold(dir.path(), &Image::Layout(place.clone(), None), &id, &few).unwrap_err().to_string();
        assert!(said.contains(why) && said.contains("layer 1"), "{said}");
        fs::remove_dir_all(&place).unwrap();
        assert_eq!(trees(dir.path()), Vec::<String>::new());
    }
}

#[test]
fn content_under_another_digest_is_no_image_and_nothing_of_it_stays() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("layout");
    let image = Image::Layout(place.clone(), None);
    let good = tar(&[file("a", "good")]);
    let (id, manifest) = layout(&place, std::slice::from_ref(&good), false);
    let blob = |digest: &str| place.join("blobs/sha256").join(&digest["sha256:".len()..]);
    let real = fs::read(blob(&digest(&good))).unwrap();
    fs::write(blob(&digest(&good)), tar(&[file("a", "evil")])).unwrap();
    let said = hold(dir.path(), &image, &id, &MOST).unwrap_err().to_string();
    assert!(said.contains("its content is sha256:"), "{said}");
    assert_eq!(trees(dir.path()), Vec::<String>::new());
    fs::write(blob(&digest(&good)), real).unwrap();
    for part in [&id, &manifest] {
        let whole = fs::read(blob(part)).unwrap();
        fs::write(blob(part), [&whole[..], b" "].concat()).unwrap();
        let said = Content::read(&image).unwrap_err().to_string();
        assert!(said.contains(&format!("what it calls {part} is sha256:")), "{said}");
        fs::write(blob(part), whole).unwrap();
    }
    drop(hold(dir.path(), &image, &id, &MOST).unwrap());
}

#[test]
fn a_layout_that_was_moved_to_another_image_is_refused_by_a_profile_that_names_a_digest() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("layout");
    let (id, manifest) = layout(&place, &[tar(&[file("a", "good")])], false);
    let named = |digest: &str| Image::Layout(place.clone(), Some(digest.to_owned()));
    for digest in [&id, &manifest] {
        assert_eq!(Content::read(&named(digest)).unwrap().id, id);
    }
    let before = hold(dir.path(), &named(&id), &id, &MOST).unwrap();
    fs::remove_dir_all(&place).unwrap();
    let (other, _) = layout(&place, &[tar(&[file("a", "another")])], false);
    for digest in [&id, &manifest] {
        let said = Content::read(&named(digest)).unwrap_err().to_string();
        assert!(said.contains("moved to other content") && said.contains(&other), "{said}");
    }
    // And one that changes between the promise and the box.
    drop(before);
    fs::remove_dir_all(kept::place(dir.path(), &id)).unwrap();
    let said = hold(dir.path(), &Image::Layout(place.clone(), None), &id, &MOST).unwrap_err().to_string();
    assert!(said.contains("a moment ago"), "{said}");
}

#[test]
fn what_a_killed_one_left_is_made_anew_and_what_was_not_used_for_long_goes() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("layout");
    let (old, _) = layout(&place, &[tar(&[file("a", "old")])], false);
    let image = Image::Layout(place.clone(), None);
    drop(hold(dir.path(), &image, &old, &MOST).unwrap());
    let lock = File::options().write(true).open(kept::place(dir.path(), &old).with_extension("lock")).unwrap();
    let age = std::time::Duration::from_secs((kept::UNUSED_DAYS + 1) * 24 * 3600);
    lock.set_modified(std::time::SystemTime::now() - age).unwrap();
    fs::remove_dir_all(&place).unwrap();
    let (new, _) = layout(&place, &[tar(&[file("a", "new")])], false);
    let draft = kept::place(dir.path(), &new).with_extension("draft");
    fs::create_dir_all(draft.join("half")).unwrap();
    symlink(dir.path(), draft.join("half/link")).unwrap();
    drop(hold(dir.path(), &image, &new, &MOST).unwrap());
    assert_eq!(trees(dir.path()), [new.trim_start_matches("sha256:")]);
    assert!(place.is_dir(), "what a link in it led to is there");
}

#[test]
fn a_tree_that_a_box_uses_is_not_taken_away_however_old_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("layout");
    let image = Image::Layout(place.clone(), None);
    let (old, _) = layout(&place, &[tar(&[file("a", "old")])], false);
    let used = hold(dir.path(), &image, &old, &MOST).unwrap();
    used.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    fs::remove_dir_all(&place).unwrap();
    let (new, _) = layout(&place, &[tar(&[file("a", "new")])], false);
    drop(hold(dir.path(), &image, &new, &MOST).unwrap());
    assert_eq!(trees(dir.path()).len(), 2);
}

#[test]
fn a_layout_becomes_the_archive_of_the_one_image_it_holds_and_so_does_a_tar_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("layout");
    let layer = tar(&[file("a", "x")]);
    let (id, _) = layout(&place, &[layer.clone(), layer.clone()], false);
    let out = dir.path().join("layout.tar");
    let mut builder = tar::Builder::new(File::create(&out).unwrap());
    builder.append_dir_all(".", &place).unwrap();
    builder.finish().unwrap();
    for image in [Image::Layout(place.clone(), None), Image::Tar(out, None)] {
        let content = Content::read(&image).unwrap();
        assert_eq!(content.id, id);
        let mut names = Vec::new();
        let mut tar = tar::Archive::new(content.archive().unwrap());
        for entry in tar.entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().to_str().unwrap().to_owned();
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
            if name == "manifest.json" {
                let manifest: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
                assert_eq!(manifest[0]["Layers"].as_array().unwrap().len(), 2);
            } else {
                assert_eq!(digest(&bytes), format!("sha256:{name}"));
            }
            names.push(name);
        }
        names.sort();
        let mut expected = ["manifest.json".to_owned(), id[7..].to_owned(), digest(&layer)[7..].to_owned()];
        expected.sort();
        assert_eq!(names, expected);
    }
}

#[test]
fn a_layout_for_another_processor_or_with_a_path_for_a_digest_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let image = Image::Layout(dir.path().into(), None);
    let index = |description: serde_json::Value| {
        fs::write(dir.path().join("index.json"), json!({"manifests": [description]}).to_string()).unwrap();
        Content::read(&image).unwrap_err().to_string()
    };
    let digest = "sha256:".to_owned() + &"0a".repeat(32);
    let other = json!({"digest": digest, "platform": {"architecture": "pdp11", "os": "linux"}});
    assert!(index(other).contains("0 images for this processor"));
    assert!(index(json!({"digest": "sha256:../../../etc/passwd"})).contains("not named by a SHA-256 digest"));
    assert!(index(json!({"digest": digest})).contains("No such file"));
}

#[test]
fn a_description_longer_than_4_mib_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let image = Image::Layout(dir.path().into(), None);
    let said = |length: usize| {
        fs::write(dir.path().join("index.json"), " ".repeat(length)).unwrap();
        Content::read(&image).unwrap_err().to_string()
    };
    assert!(said(4 << 20).contains("no JSON"));
    assert!(said((4 << 20) + 1).contains("longer than 4 MiB"));
}

#[test]
fn a_tar_is_known_by_the_digest_it_names_and_one_of_two_images_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.tar");
    let said = |files: &[(&str, &str)]| {
        fs::write(&path, tar(&files.iter().map(|(name, text)| file(name, text)).collect::<Vec<_>>())).unwrap();
        Content::read(&Image::Tar(path.clone(), None)).map(|content| content.id).map_err(|e| e.to_string())
    };
    let layer = digest(b"layer");
    let config = json!({"rootfs": {"diff_ids": [layer]}}).to_string();
    let hex = digest(config.as_bytes())["sha256:".len()..].to_owned();
    for name in [format!("{hex}.json"), format!("blobs/sha256/{hex}")] {
        let manifest = json!([{"Config": name, "Layers": ["layer.tar"]}]).to_string();
        assert_eq!(said(&[("manifest.json", &manifest), (&name, &config)]), Ok(format!("sha256:{hex}")));
        let other = said(&[("manifest.json", &manifest), (&name, "{}")]).unwrap_err();
        assert!(other.contains("what it calls sha256:"), "{other}");
        let twice = said(&[("manifest.json", &manifest), (&name, &config), (&name, "{}")]).unwrap_err();
        assert!(twice.contains("stands twice"), "{twice}");
        let none = json!([{"Config": name, "Layers": []}]).to_string();
        let none = said(&[("manifest.json", &none), (&name, &config)]).unwrap_err();
        assert!(none.contains("does not name each layer"), "{none}");
    }
    let refusals = [
        ("manifest.json", "[{},{}]", "several images"),
        ("manifest.json", "[{\"Config\":\"latest.json\"}]", "not named by digest"),
        ("readme", "{}", "no image"),
    ];
    for (name, text, why) in refusals {
        let said = said(&[(name, text)]).unwrap_err();
        assert!(said.contains(why), "{said}");
    }
}

#[test]
fn an_image_that_sets_a_key_is_refused_by_the_keys_name_for_every_engine_before_there_is_a_box() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.tar");
    let layer = digest(b"layer");
    let said = |variables: &[&str]| {
        let config = json!({"config": {"Env": variables}, "rootfs": {"diff_ids": [layer]}}).to_string();
        let name = format!("{}.json", &digest(config.as_bytes())["sha256:".len()..]);
        let manifest = json!([{"Config": name, "Layers": ["layer.tar"]}]).to_string();
        fs::write(&path, tar(&[file("manifest.json", &manifest), file(&name, &config)])).unwrap();
        // What both engines read of an image of this host, and first.
        Content::read(&Image::Tar(path.clone(), None)).map(drop).map_err(|e| e.to_string())
    };
    assert_eq!(said(&["PATH=/usr/bin", "MY_GITHUB_TOKEN_FILE=/x"]), Ok(()));
    let refused = said(&["PATH=/usr/bin", "GITHUB_TOKEN=the-very-value", "OPENAI_API_KEY"]).unwrap_err();
    assert!(
        refused.contains("it sets GITHUB_TOKEN, OPENAI_API_KEY") && !refused.contains("the-very-value"),
        "{refused}"
    );
    // What the daemon says of one that it has by itself.
    assert!(super::content::without_keys(["AWS_SECRET_ACCESS_KEY=x"]).is_err());
}
