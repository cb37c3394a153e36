//! A folder of a profile that somebody exchanges for a link while its box is made, and one that is exchanged afterwards.

use crate::{AGENT, RUNNER, VOLARY, heard, plan};
use api::inbox::Hello;
use model::event::Reading;
use model::profile::{Engine, Folder};
use sandbox::Host;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use testkit::Docker;

/// A program that exchanges the folder and goes on as the helper: it is started once the folder was looked at, and it is the
/// helper that has it mounted.
fn exchanger(dir: &Path) -> std::path::PathBuf {
    let (at, helper) = (dir.display(), dir.join("helper"));
    let script =
        format!("#!/bin/sh\nmv {at}/shown {at}/before && ln -s {at}/keys {at}/shown && exec {VOLARY} \"$@\"\n");
    // Written by another process: while this one had it open to write, no other thread's child could begin it.
    let write = ["-c", "printf %s \"$1\" >\"$2\" && chmod 755 \"$2\"", "sh", &script];
    assert!(Command::new("sh").args(write).arg(&helper).status().unwrap().success());
    helper
}

/// What is read of the mounts of a box that shows `shown`, before its task and again, as every ten seconds of its life;
/// `before` the second look something is done.
fn mounts(dir: &Path, docker: Option<&Docker>, label: &str, helper: &Path, before: impl FnOnce()) -> [Reading; 2] {
    let operator = dir.join("home/operator");
    let host = Host::open(&operator, &format!("/volary-{label}"), helper, RUNNER, AGENT).unwrap();
    let host = host.with_docker(docker.map(Docker::address).unwrap_or_default());
    let mut plan = plan(&operator, if docker.is_some() { Engine::Docker } else { Engine::Embedded });
    plan.profile.folders = vec![Folder { path: dir.join("shown"), writable: false }];
    let mut made = host.create(&plan).unwrap();
    made.live.start().unwrap();
    let hello: Hello = serde_json::from_slice(&heard(&mut made.stdout.into()).1).unwrap();
    let (first, again) = (made.live.read_back(&hello), made.live.watch(&hello));
    before();
    let again = again().unwrap();
    made.live.end().unwrap();
    host.drop_worktree(&plan.upper_image).unwrap();
    [first, again].map(|lines| {
        let others = lines.iter().filter(|line| line.wall != "mounts" && !line.holds);
        assert_eq!(others.collect::<Vec<_>>(), Vec::<&Reading>::new());
        lines.into_iter().find(|line| line.wall == "mounts").unwrap()
    })
}

fn a_folder_that_is_exchanged_is_told(docker: Option<&Docker>, label: &str) {
    let dir = tempfile::Builder::new().prefix("volary-e-").tempdir_in("/tmp").unwrap();
    for folder in ["", "shown", "keys"] {
        fs::create_dir_all(dir.path().join(folder)).unwrap();
        fs::set_permissions(dir.path().join(folder), PermissionsExt::from_mode(0o755)).unwrap();
    }
    let shown = dir.path().join("shown");
    let read = mounts(dir.path(), docker, label, &exchanger(dir.path()), || ());
    for line in read {
        assert!(!line.holds && line.read.starts_with(&format!("{} is another thing", shown.display())), "{line:#?}");
    }
    // The control, and the other way round: a box keeps the folder that was looked at, and that is as promised.
    fs::remove_file(&shown).unwrap();
    fs::rename(dir.path().join("before"), &shown).unwrap();
    let read = mounts(dir.path(), docker, label, Path::new(VOLARY), || {
        fs::rename(&shown, dir.path().join("away")).unwrap();
        symlink(dir.path().join("keys"), &shown).unwrap();
    });
    assert!(read.iter().all(|line| line.holds), "{read:#?}");
}

#[test]
fn a_folder_that_is_exchanged_for_a_link_before_it_is_mounted_is_told_before_the_task_and_while_it_works() {
    a_folder_that_is_exchanged_is_told(None, "exchanged-embedded");
}

#[test]
fn a_folder_that_is_exchanged_for_a_link_before_docker_mounts_it_is_told_before_the_task_and_while_it_works() {
    a_folder_that_is_exchanged_is_told(Some(&Docker::start()), "exchanged-docker");
}
