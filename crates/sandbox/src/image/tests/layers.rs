//! Attacks of a layer on whoever unpacks it, and what honest layers come to.

use super::*;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};

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
