use crate::support::*;
use api::changes::Change;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

fn show(at: &Path, path: &str) -> String {
    git(at, &["show", &format!("volary/r1:{path}")])
}

fn entries(at: &Path) -> String {
    git(at, &["ls-tree", "-r", "volary/r1"])
}

#[test]
fn the_branch_holds_the_changes_and_nothing_else_is_touched() {
    let place = simple();
    fs::write(place.work.join("a.txt"), "dirty\n").unwrap();
    fs::write(place.work.join("staged"), "").unwrap();
    git(&place.work, &["add", "staged"]);
    let before = outside_of_ours(&place.work);
    let target = b"a.txt";
    let imported = import(
        &place.work,
        &[
            gone(b"bin"),
            file(b"a.txt", "two\n"),
            (Change::File { path: b"new/deep/tool".to_vec(), executable: true, len: 2 }, b"x\n"),
            (Change::Link { path: b"link".to_vec(), len: 5 }, target),
            (Change::Folder { path: b"void".to_vec() }, b""),
        ],
    )
    .unwrap();
    assert_eq!(imported.branch.as_deref(), Some("volary/r1"));
    assert_eq!(imported.files, 4);
    assert!(imported.diff.contains("-one\n+two\n") && !imported.diff_cut, "{}", imported.diff);
    assert_eq!(show(&place.work, "a.txt"), "two");
    let modes: Vec<String> =
        entries(&place.work).lines().map(|l| format!("{} {}", &l[..6], l.split('\t').nth(1).unwrap())).collect();
    assert_eq!(modes, ["100644 a.txt", "120000 link", "100755 new/deep/tool"]);
    assert_eq!(git(&place.work, &["rev-parse", "volary/r1^"]), head(&place.work));
    assert_eq!(outside_of_ours(&place.work), before);
    let trailer = git(&place.work, &["log", "-1", "--format=%(trailers:key=Agent,valueonly)", "volary/r1"]);
    assert_eq!(trailer.trim(), "volary/scripted");
    git(&place.work, &["fsck", "--strict"]);
}

#[test]
fn a_file_becomes_a_folder_and_a_folder_a_file() {
    let place = simple();
    let changes = [gone(b"a.txt"), file(b"a.txt/inside", "x"), gone(b"bin"), file(b"bin", "y")];
    import(&place.work, &changes).unwrap();
    assert_eq!(show(&place.work, "a.txt/inside"), "x");
    assert_eq!(show(&place.work, "bin"), "y");
}

#[test]
fn names_in_any_bytes_come_back_the_same() {
    let place = simple();
    let names: [&[u8]; 6] = [b"tab\there", b"line\nend", b"\xff\xfe", b"\"q\\\"", b"-rf", b" lead and trail "];
    let changes: Vec<_> = names.iter().map(|name| file(name, "x")).collect();
    import(&place.work, &changes).unwrap();
    let listed = std::process::Command::new("git")
        .current_dir(&place.work)
        .args(["ls-tree", "-r", "-z", "--name-only", "volary/r1"])
        .output()
        .unwrap();
    let listed: Vec<&[u8]> = listed.stdout.split(|b| *b == 0).collect();
    for name in names {
        assert!(listed.contains(&name), "{name:?}");
    }
}

#[test]
fn a_stream_cut_anywhere_makes_no_branch() {
    let place = simple();
    let wire = stream(&[file(b"a.txt", "two\n"), gone(b"bin")]);
    let base = head(&place.work);
    let before = git(&place.work, &["for-each-ref"]);
    for cut in [0, 1, 10, wire.len() - 9, wire.len() - 1] {
        let problem = import_bytes(&place.work, &base, &wire[..cut]).unwrap_err();
        assert_eq!(problem.code, "repo.changes", "cut at {cut}: {problem}");
        assert_eq!(git(&place.work, &["for-each-ref"]), before);
    }
}

#[test]
fn nothing_changed_is_no_branch() {
    let place = simple();
    for changes in [&[][..], &[file(b"a.txt", "one\n")]] {
        let imported = import(&place.work, changes).unwrap();
        assert_eq!((imported.branch, imported.files), (None, 0));
        assert_eq!(git(&place.work, &["for-each-ref", "refs/heads/volary", "refs/volary"]), "");
    }
}

#[test]
fn a_branch_of_someone_else_is_never_replaced_and_our_own_interrupted_one_is() {
    let place = simple();
    import(&place.work, &[file(b"a.txt", "two\n")]).unwrap();
    import(&place.work, &[file(b"a.txt", "three\n")]).unwrap();
    assert_eq!(show(&place.work, "a.txt"), "three");
    git(&place.work, &["branch", "-f", "volary/r1", "HEAD"]);
    let problem = import(&place.work, &[file(b"a.txt", "four\n")]).unwrap_err();
    assert_eq!(problem.code, "repo.branch");
    assert_eq!(git(&place.work, &["rev-parse", "volary/r1"]), head(&place.work));
    assert_eq!(git(&place.work, &["for-each-ref", "refs/volary"]), "");
}

#[test]
fn a_branch_named_volary_is_in_the_way_and_is_named() {
    let place = simple();
    git(&place.work, &["branch", "volary"]);
    let problem = import(&place.work, &[file(b"a.txt", "two\n")]).unwrap_err();
    assert!(problem.message.contains("refs/heads/volary'"), "{problem}");
}

#[test]
fn the_owner_is_the_author_and_without_a_name_volary_is() {
    let place = simple();
    let author = |at: &Path| git(at, &["log", "-1", "--format=%an <%ae>|%cn", "volary/r1"]);
    git(&place.work, &["config", "user.name", "Eve <x>\u{7}"]);
    git(&place.work, &["config", "user.email", "eve@example.org"]);
    import(&place.work, &[file(b"a.txt", "two\n")]).unwrap();
    assert_eq!(author(&place.work), "Eve x <eve@example.org>|Eve x");
    git(&place.work, &["config", "user.name", ""]);
    import(&place.work, &[file(b"a.txt", "three\n")]).unwrap();
    assert_eq!(author(&place.work), "volary <volary@localhost>|volary");
}

#[test]
fn a_long_diff_is_cut_at_a_line() {
    let place = simple();
    let long = "a line of text\n".repeat(100_000);
    let imported = import(&place.work, &[file(b"long", &long)]).unwrap();
    assert!(imported.diff_cut);
    assert!(imported.diff.len() <= operator::repo::MAX_DIFF && imported.diff.ends_with("a line of text\n"));
    assert_eq!(show(&place.work, "long").len(), long.len() - 1);
}

#[test]
fn bare_sha256_and_linked_repositories_take_a_branch() {
    let bare = place(&["--bare", "--object-format=sha256"]);
    let tree = git(&bare.work, &["hash-object", "-t", "tree", "-w", "/dev/null"]);
    let commit = git(&bare.work, &["commit-tree", &tree, "-m", "x"]);
    git(&bare.work, &["update-ref", "HEAD", &commit]);
    import(&bare.work, &[file(b"a", "x")]).unwrap();
    assert_eq!(show(&bare.work, "a"), "x");

    let place = simple();
    let linked = place.work.with_file_name("linked");
    git(&place.work, &["worktree", "add", "-q", "-b", "side", linked.to_str().unwrap()]);
    import(&linked, &[file(b"a.txt", "linked\n")]).unwrap();
    assert_eq!(show(&place.work, "a.txt"), "linked");
}

#[test]
fn a_link_in_the_worktree_is_never_written_through() {
    let place = simple();
    let outside = tempfile::tempdir().unwrap();
    symlink(outside.path(), place.work.join("out")).unwrap();
    git(&place.work, &["add", "out"]);
    commit(&place.work);
    import(&place.work, &[gone(b"out"), file(b"out/planted", "x")]).unwrap();
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    assert_eq!(show(&place.work, "out/planted"), "x");
}

#[test]
fn a_base_that_is_gone_is_an_error_in_gits_own_words() {
    let place = simple();
    let problem = import_bytes(&place.work, &"1".repeat(40), &stream(&[file(b"a", "x")])).unwrap_err();
    assert_eq!(problem.code, "git.failed", "{problem}");
}
