use crate::support::*;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;

#[test]
fn a_checkout_holds_the_commit_and_what_is_not_committed_is_listed() {
    let place = simple();
    fs::write(place.work.join("a.txt"), "two\n").unwrap();
    fs::write(place.work.join("new"), "").unwrap();
    fs::write(place.work.join("staged"), "").unwrap();
    fs::write(place.work.join(".gitignore"), "ignored\n").unwrap();
    fs::write(place.work.join("ignored"), "").unwrap();
    git(&place.work, &["add", "staged"]);
    fs::remove_file(place.work.join("bin/run")).unwrap();
    let (checkout, _dir) = checkout(&place.work, None).unwrap();
    assert_eq!(fs::read(checkout.files.join("a.txt")).unwrap(), b"one\n");
    assert_eq!(fs::metadata(checkout.files.join("bin/run")).unwrap().mode() & 0o7777, 0o755);
    assert_eq!(fs::metadata(checkout.files.join("a.txt")).unwrap().mode() & 0o7777, 0o644);
    assert_eq!(checkout.head.commit, head(&place.work));
    assert_eq!(checkout.head.left_out, [".gitignore", "a.txt", "bin/run", "new", "staged"]);
    assert_eq!(checkout.head.left_out_count, 5);
}

#[test]
fn a_file_that_was_only_touched_is_not_listed() {
    let place = simple();
    let touched = Command::new("touch").arg(place.work.join("a.txt")).status().unwrap();
    assert!(touched.success());
    assert_eq!(checkout(&place.work, None).unwrap().0.head.left_out_count, 0);
}

#[test]
fn an_older_commit_can_be_named_whole_and_an_unknown_one_is_an_error() {
    let place = simple();
    let first = head(&place.work);
    fs::write(place.work.join("a.txt"), "two\n").unwrap();
    git(&place.work, &["add", "."]);
    commit(&place.work);
    let (checkout_of_first, _dir) = checkout(&place.work, Some(&first)).unwrap();
    assert_eq!(fs::read(checkout_of_first.files.join("a.txt")).unwrap(), b"one\n");
    for unknown in ["0".repeat(40).as_str(), "HEAD~1", "--upload-pack=touch"] {
        let problem = checkout(&place.work, Some(unknown)).err().unwrap();
        assert_eq!(problem.code, "repo.commit", "{unknown}: {problem}");
    }
}

#[test]
fn a_bare_repository_is_read_and_nothing_is_left_out() {
    let place = simple();
    let bare = place.work.with_file_name("bare.git");
    git(&place.work, &["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
    let (checkout, _dir) = checkout(&bare, None).unwrap();
    assert!(checkout.files.join("a.txt").is_file());
    assert_eq!(checkout.head.left_out_count, 0);
}

#[test]
fn a_linked_worktree_is_a_repository_of_its_own_head() {
    let place = simple();
    let linked = place.work.with_file_name("linked");
    git(&place.work, &["worktree", "add", "-q", "-b", "side", linked.to_str().unwrap()]);
    fs::write(linked.join("side"), "").unwrap();
    git(&linked, &["add", "."]);
    commit(&linked);
    assert!(checkout(&linked, None).unwrap().0.files.join("side").is_file());
}

#[test]
fn what_is_no_repository_is_named_with_the_way_out() {
    let place = place(&[]);
    let empty = problem(&place.work);
    assert_eq!(empty.code, "repo.empty");
    assert!(empty.message.contains("has no commit yet; commit something first"), "{empty}");

    let top = place.work.parent().unwrap();
    let none = problem(top);
    assert_eq!(none.code, "repo.none");
    assert!(none.message.contains(top.to_str().unwrap()) && none.message.contains("git init"), "{none}");
    assert_eq!(problem(&top.join("missing")).code, "repo.none");
    fs::write(top.join("file"), "").unwrap();
    assert_eq!(problem(&top.join("file")).code, "repo.none");

    let url = problem(Path::new("https://example.org/x.git"));
    assert!(url.message.contains("comes with the git gateway") || url.message.contains("come with"), "{url}");
}

#[test]
fn a_folder_inside_a_repository_is_refused_and_the_repository_named() {
    let place = simple();
    for inside in ["bin", ".git"] {
        let problem = problem(&place.work.join(inside));
        assert_eq!(problem.code, "repo.inside", "{inside}");
        assert!(problem.message.contains(&format!("{}; give that path", place.work.display())), "{problem}");
    }
}

#[test]
fn a_submodule_is_an_empty_folder_and_a_note() {
    let (place, inner) = (simple(), simple());
    git(&place.work, &["submodule", "-q", "add", inner.work.to_str().unwrap(), "lib"]);
    commit(&place.work);
    let (checkout, _dir) = checkout(&place.work, None).unwrap();
    assert_eq!(fs::read_dir(checkout.files.join("lib")).unwrap().count(), 0);
    assert!(checkout.head.notes[0].contains("submodule"));
}

#[test]
fn a_link_that_leaves_is_carried_as_a_link_and_never_followed() {
    let place = simple();
    symlink("/etc/passwd", place.work.join("out")).unwrap();
    symlink("..", place.work.join("up")).unwrap();
    git(&place.work, &["add", "."]);
    commit(&place.work);
    let (checkout, _dir) = checkout(&place.work, None).unwrap();
    assert_eq!(fs::read_link(checkout.files.join("out")).unwrap(), Path::new("/etc/passwd"));
    assert_eq!(fs::read_link(checkout.files.join("up")).unwrap(), Path::new(".."));
}

#[test]
fn names_in_any_bytes_are_carried() {
    let place = simple();
    let names: [&[u8]; 5] = [b"tab\there", b"line\nend", b"\xff\xfe", b"\"quoted\\", "día".as_bytes()];
    for name in names {
        fs::write(place.work.join(OsStr::from_bytes(name)), name).unwrap();
    }
    git(&place.work, &["add", "."]);
    commit(&place.work);
    let (checkout, _dir) = checkout(&place.work, None).unwrap();
    for name in names {
        assert_eq!(fs::read(checkout.files.join(OsStr::from_bytes(name))).unwrap(), name);
    }
}

#[test]
fn a_sha256_repository_is_read() {
    let place = place(&["--object-format=sha256"]);
    fs::write(place.work.join("a"), "x").unwrap();
    git(&place.work, &["add", "."]);
    commit(&place.work);
    let (checkout, _dir) = checkout(&place.work, None).unwrap();
    assert_eq!(checkout.head.commit.len(), 64);
    assert!(checkout.files.join("a").is_file());
}

#[test]
fn neither_hooks_nor_filters_nor_monitors_run() {
    let place = simple();
    let marker = place.work.with_file_name("marker");
    let run = format!("touch {}; cat", marker.display());
    for (key, value) in [
        ("filter.evil.clean", run.as_str()),
        ("filter.evil.smudge", &run),
        ("filter.evil.process", &run),
        ("filter.evil.required", "true"),
        ("filter.a=b.c.clean", &run),
        ("core.fsmonitor", &run),
        ("diff.evil.textconv", &run),
        ("diff.evil.command", &run),
        ("core.pager", &run),
        ("core.alternateRefsCommand", &run),
    ] {
        git(&place.work, &["config", key, value]);
    }
    let attributes = "* filter=evil diff=evil\nz filter=a=b.c\n";
    fs::write(place.work.join(".gitattributes"), attributes).unwrap();
    fs::write(place.work.join("a.txt"), "two\n").unwrap();
    // The same size, so that only the content can tell.
    let (checkout, _dir) = checkout(&place.work, None).unwrap();
    assert_eq!(checkout.head.left_out, [".gitattributes", "a.txt"]);
    for name in ["reference-transaction", "post-commit", "pre-commit", "post-index-change"] {
        let hook = place.work.join(".git/hooks").join(name);
        fs::write(&hook, format!("#!/bin/sh\ntouch {}\n", marker.display())).unwrap();
        fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let imported = import(&place.work, &[file(b"a.txt", "three\n")]).unwrap();
    assert!(imported.diff.contains("+three"), "{imported:?}");
    assert!(!marker.exists(), "a program of the repository's choosing ran");
    // The traps are real: a person's own git springs them.
    git(&place.work, &["-c", "filter.evil.process=", "-c", "filter.evil.required=false", "status"]);
    assert!(marker.exists(), "the test would not have noticed");
}

#[test]
fn a_partial_clone_is_refused_and_nothing_is_fetched() {
    let place = simple();
    git(&place.work, &["config", "uploadpack.allowFilter", "true"]);
    let partial = place.work.with_file_name("partial");
    let from = format!("file://{}", place.work.display());
    git(&place.work, &["clone", "-q", "--no-checkout", "--filter=blob:none", &from, partial.to_str().unwrap()]);
    let problem = problem(&partial);
    assert_eq!(problem.code, "repo.incomplete", "{problem}");
}

#[test]
fn a_path_that_names_git_is_refused_with_its_name() {
    let place = simple();
    let blob = git(&place.work, &["rev-parse", "HEAD:a.txt"]);
    let mut tree = Command::new("sh");
    let script = format!("printf '100644 blob {blob}\\t.GIT\\n' | git mktree | xargs -I T git commit-tree T -m x");
    let made = tree.current_dir(&place.work).args(["-c", &script]).env("HOME", "/nonexistent");
    let who = [
        ("GIT_AUTHOR_NAME", "a"),
        ("GIT_AUTHOR_EMAIL", "a"),
        ("GIT_COMMITTER_NAME", "a"),
        ("GIT_COMMITTER_EMAIL", "a"),
    ];
    let made = made.envs(who).output().unwrap();
    let commit = String::from_utf8_lossy(&made.stdout).trim().to_owned();
    let problem = checkout(&place.work, Some(&commit)).err().unwrap();
    assert_eq!(problem.code, "repo.path", "{problem}");
    assert!(problem.message.contains(".GIT"), "{problem}");
}

/// Only root can become someone else; a test of that which passed without it would show nothing.
fn as_root() {
    assert!(rustix::process::geteuid().is_root(), "run as root");
}

/// Gives everything under `at` to `uid`.
fn give(at: &Path, uid: u32) {
    let status = Command::new("chown").args(["-R", &format!("{uid}:{uid}")]).arg(at).status().unwrap();
    assert!(status.success());
}

#[test]
fn a_repository_under_a_closed_home_is_read_and_written_as_its_owner() {
    as_root();
    let place = simple();
    let home = place.work.parent().unwrap().to_path_buf();
    give(&home, 12345);
    fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
    let base = git(&place.work, &["rev-parse", "HEAD"]);
    let (checkout, _dir) = checkout(&place.work, None).unwrap();
    assert_eq!(fs::metadata(checkout.files.join("a.txt")).unwrap().uid(), 0);
    import_bytes(&place.work, &base, &stream(&[file(b"a.txt", "two\n")])).unwrap();
    let foreign = Command::new("find").arg(&place.work).args(["!", "-uid", "12345"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&foreign.stdout), "", "these files are no longer the owner's");
}

#[test]
fn a_folder_that_the_owner_cannot_enter_is_named() {
    as_root();
    let place = simple();
    give(&place.work, 12345);
    let closed = place.work.parent().unwrap();
    fs::set_permissions(closed, fs::Permissions::from_mode(0o700)).unwrap();
    let problem = problem(&place.work);
    assert_eq!(problem.code, "repo.unreachable");
    assert!(problem.message.contains(&format!("cannot enter {}:", closed.display())), "{problem}");
}

#[test]
fn a_repository_whose_inside_belongs_to_another_is_refused() {
    as_root();
    let place = simple();
    fs::set_permissions(place.work.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    chown(&place.work, Some(12345), Some(12345)).unwrap();
    assert_eq!(problem(&place.work).code, "repo.owner");
}

#[test]
fn two_runs_of_one_tree_share_a_checkout_and_old_ones_are_removed() {
    use operator::checkout::{Checkouts, KEPT};
    use operator::disk::Disk;
    let place = simple();
    let dir = tempfile::tempdir().unwrap();
    let checkouts = Checkouts::open(&dir.path().join("checkouts")).unwrap();
    let disk = Disk::of(dir.path());
    let get = || checkouts.get(&process(), &disk, &place.work, None).unwrap();
    let first = get();
    let inode = |path: &Path| fs::metadata(path).unwrap().ino();
    assert_eq!(inode(&first.files.join("a.txt")), inode(&get().files.join("a.txt")));
    for n in 0..KEPT + 3 {
        fs::write(place.work.join("a.txt"), n.to_string()).unwrap();
        git(&place.work, &["add", "."]);
        commit(&place.work);
        drop(get());
    }
    assert!(first.files.join("a.txt").is_file(), "a checkout in use was removed");
    let kept = fs::read_dir(dir.path().join("checkouts")).unwrap().filter(|e| e.as_ref().unwrap().path().is_dir());
    assert_eq!(kept.count(), KEPT + 1);
}
