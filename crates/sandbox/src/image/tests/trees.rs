//! The trees of images: made once, whole, of what the digests say, and taken away when nobody uses them.

use super::*;
use crate::image::kept::MOST;
use std::os::unix::fs::{MetadataExt, symlink};

#[test]
fn an_image_is_unpacked_once_and_only_read_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("layout");
    for (n, pack) in [plain, gzip, zstd].into_iter().enumerate() {
        let home = dir.path().join(format!("home-{n}"));
        fs::create_dir(&home).unwrap();
        let layers = [tar(&[file("etc/a", "1"), file("etc/b", "2")]), tar(&[file("etc/.wh.a", "")])];
        let (id, _) = layout_of(&place, &layers, pack);
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
    let (id, _) = layout(&place, &[tar(&[link("etc/passwd", out.to_str().unwrap()), folder("etc/hosts/x")])]);
    let image = Image::Layout(place.clone(), None);
    drop(hold(dir.path(), &image, &id, &MOST).unwrap());
    let etc = kept::place(dir.path(), &id).join("etc");
    assert!(fs::symlink_metadata(etc.join("passwd")).unwrap().is_file());
    assert!(fs::symlink_metadata(etc.join("hosts")).unwrap().is_file());
    assert_eq!(fs::read_to_string(&out).unwrap(), "untouched");
    fs::remove_dir_all(&place).unwrap();
    let (id, _) = layout(&place, &[tar(&[link("etc", "/tmp")])]);
    assert!(hold(dir.path(), &image, &id, &MOST).unwrap_err().to_string().contains("/etc is no folder"));
}

#[test]
fn a_system_that_is_a_link_to_anything_else_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("layout");
    let image = Image::Layout(place.clone(), None);
    let hold = |name: &str, to: &str| {
        let (id, _) = layout(&place, &[tar(&[link(name, to)])]);
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
    for pack in [gzip, zstd] {
        for (layers, why) in [(&bomb, "longer than all"), (&after, "more than an image may be")] {
            let (id, _) = layout_of(&place, layers, pack);
            let said = hold(dir.path(), &Image::Layout(place.clone(), None), &id, &few).unwrap_err().to_string();
            assert!(said.contains(why) && said.contains("layer 1"), "{said}");
            fs::remove_dir_all(&place).unwrap();
            assert_eq!(trees(dir.path()), Vec::<String>::new());
        }
    }
}

#[test]
fn content_under_another_digest_is_no_image_and_nothing_of_it_stays() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("layout");
    let image = Image::Layout(place.clone(), None);
    let good = tar(&[file("a", "good")]);
    let (id, manifest) = layout(&place, std::slice::from_ref(&good));
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
    let (id, manifest) = layout(&place, &[tar(&[file("a", "good")])]);
    let named = |digest: &str| Image::Layout(place.clone(), Some(digest.to_owned()));
    for digest in [&id, &manifest] {
        assert_eq!(Content::read(&named(digest)).unwrap().id, id);
    }
    let before = hold(dir.path(), &named(&id), &id, &MOST).unwrap();
    fs::remove_dir_all(&place).unwrap();
    let (other, _) = layout(&place, &[tar(&[file("a", "another")])]);
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
    let (old, _) = layout(&place, &[tar(&[file("a", "old")])]);
    let image = Image::Layout(place.clone(), None);
    drop(hold(dir.path(), &image, &old, &MOST).unwrap());
    let lock = File::options().write(true).open(kept::place(dir.path(), &old).with_extension("lock")).unwrap();
    let age = std::time::Duration::from_secs((kept::UNUSED_DAYS + 1) * 24 * 3600);
    lock.set_modified(std::time::SystemTime::now() - age).unwrap();
    fs::remove_dir_all(&place).unwrap();
    let (new, _) = layout(&place, &[tar(&[file("a", "new")])]);
    let draft = kept::place(dir.path(), &new).with_extension("draft");
    fs::create_dir_all(draft.join("half")).unwrap();
    symlink(dir.path(), draft.join("half/link")).unwrap();
    nobody_holds(&lock);
    drop(hold(dir.path(), &image, &new, &MOST).unwrap());
    assert_eq!(trees(dir.path()), [new.trim_start_matches("sha256:")]);
    assert!(place.is_dir(), "what a link in it led to is there");
}

#[test]
fn a_tree_that_a_box_uses_is_not_taken_away_however_old_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("layout");
    let image = Image::Layout(place.clone(), None);
    let (old, _) = layout(&place, &[tar(&[file("a", "old")])]);
    let used = hold(dir.path(), &image, &old, &MOST).unwrap();
    used.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    fs::remove_dir_all(&place).unwrap();
    let (new, _) = layout(&place, &[tar(&[file("a", "new")])]);
    drop(hold(dir.path(), &image, &new, &MOST).unwrap());
    assert_eq!(trees(dir.path()).len(), 2);
}
