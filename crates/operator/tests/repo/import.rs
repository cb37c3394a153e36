use crate::support::*;
use api::changes::Change;
use model::Author;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

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
fn the_locks_that_a_killed_import_left_do_not_stop_the_next_one_of_the_same_run() {
    let place = simple();
    let locks =
        ["refs/volary/import/r1.lock", "refs/heads/volary/r1.lock"].map(|name| place.work.join(".git").join(name));
    for lock in &locks {
        fs::create_dir_all(lock.parent().unwrap()).unwrap();
        fs::write(lock, "").unwrap();
    }
    import(&place.work, &[file(b"a.txt", "two\n")]).unwrap();
    assert_eq!(show(&place.work, "a.txt"), "two");
    assert!(locks.iter().all(|lock| !lock.exists()));
    // Another's lock is another's.
    let other = place.work.join(".git/refs/heads/volary/r2.lock");
    fs::write(&other, "").unwrap();
    import(&place.work, &[file(b"a.txt", "three\n")]).unwrap();
    assert!(other.exists());
}

#[test]
fn a_branch_named_volary_is_in_the_way_and_is_named() {
    let place = simple();
    git(&place.work, &["branch", "volary"]);
    let problem = import(&place.work, &[file(b"a.txt", "two\n")]).unwrap_err();
    assert!(problem.message.contains("refs/heads/volary'"), "{problem}");
}

/// A disk of its own in memory, for as long as it lives.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// With this many MiB, and a repository `work` in it.
    fn new(mib: u32) -> (Self, std::path::PathBuf) {
        assert!(rustix::process::geteuid().is_root(), "run as root");
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={mib}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).status();
        assert!(mounted.unwrap().success());
        let disk = Self(dir);
        let work = disk.0.path().canonicalize().unwrap().join("work");
        git(disk.0.path(), &["init", "-q", "work"]);
        fs::write(work.join("a.txt"), "one\n").unwrap();
        git(&work, &["add", "."]);
        commit(&work);
        (disk, work)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What a neighbour starts holds files of it open between its fork and its exec.
        rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

/// Everything git keeps beside objects, references and their logs.
fn temporary(at: &Path) -> Vec<String> {
    let mut all = vec![];
    for folder in [".git", ".git/objects/pack"] {
        let names = fs::read_dir(at.join(folder)).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
        all.extend(names.filter(|name| name.starts_with("tmp_") || name.starts_with("fast_import_crash_")));
    }
    all.sort();
    all
}

#[test]
fn a_disk_without_room_is_named_before_anything_is_written() {
    let (_disk, work) = SmallDisk::new(32);
    let problem = import(&work, &[file(b"a.txt", "two\n")]).unwrap_err();
    assert_eq!(problem.code, "disk.full", "{problem}");
    assert!(problem.message.contains("needs at least 64 MiB. Free some"), "{problem}");
    assert_eq!(checkout(&work, None).unwrap().0.head.obstacle, Some(problem.message));
}

#[test]
fn a_disk_that_fills_up_keeps_nothing_of_a_failed_import_and_all_of_what_is_others() {
    let (_disk, work) = SmallDisk::new(80);
    let pack = work.join(".git/objects/pack");
    fs::write(pack.join("tmp_pack_old"), "").unwrap();
    // Bytes that do not get smaller.
    let noise: Vec<u8> =
        (0..40u32 << 18).flat_map(|n| n.wrapping_mul(0x9E37_79B9).rotate_left(n % 31).to_le_bytes()).collect();
    let change = |path: &[u8]| Change::File { path: path.to_vec(), executable: false, len: noise.len() as u64 };
    let wire = stream(&[(change(b"first"), &noise), (change(b"second"), &noise), (change(b"third"), &noise)]);
    let problem = import_bytes(&work, &head(&work), &wire).unwrap_err();
    assert!(problem.message.contains("tmp_pack_"), "the disk was not filled: {problem}");
    assert_eq!(temporary(&work), ["tmp_pack_old"]);
}

#[test]
fn a_half_written_pack_that_another_git_has_open_stays() {
    let place = simple();
    let path = place.work.join(".git/objects/pack/tmp_pack_other");
    let mut importing =
        process().import(&place.work, &model::RunId::parse("r1").unwrap(), &head(&place.work), "m", None).unwrap();
    let mut stdin = importing.stdin().unwrap();
    // Larger than every buffer on the way: once it is through, git is at work.
    let wire = stream(&[file(b"a.txt", &"x".repeat(4 << 20))]);
    std::io::Write::write_all(&mut stdin, &wire[..wire.len() - 20]).unwrap();
    let open = fs::File::create(&path).unwrap();
    let shut = path.with_file_name("tmp_pack_shut");
    fs::write(&shut, "").unwrap();
    drop(stdin);
    importing.finish().unwrap_err();
    assert_eq!(temporary(&place.work), ["tmp_pack_other"]);
    drop(open);
}

#[test]
fn the_runs_person_is_the_author_and_the_owner_commits_or_without_a_name_volary() {
    let place = simple();
    let tess = |name: &str, email: &str| Author { name: name.into(), email: email.into(), trailer: None };
    let import = |text: &str, author: Option<&Author>| {
        import_by(&place.work, &head(&place.work), &stream(&[file(b"a.txt", text)]), author)
    };
    let said = || git(&place.work, &["log", "-1", "--format=%an <%ae>|%cn <%ce>", "volary/r1"]);
    git(&place.work, &["config", "user.name", "Eve <x>\u{7}"]);
    git(&place.work, &["config", "user.email", "eve@example.org"]);
    import("two\n", Some(&tess("tess", "tess@localhost"))).unwrap();
    assert_eq!(said(), "tess <tess@localhost>|Eve x <eve@example.org>");
    // What an earlier version kept names no author.
    import("three\n", None).unwrap();
    assert_eq!(said(), "Eve x <eve@example.org>|Eve x <eve@example.org>");
    git(&place.work, &["config", "user.name", ""]);
    import("four\n", Some(&tess("tess", "tess@localhost"))).unwrap();
    assert_eq!(said(), "tess <tess@localhost>|volary <volary@localhost>");
    for (name, email) in [("t\nfrom x", "t@x"), ("tess", "t> 1 +0000\nfrom <x"), ("", "t@x"), ("a <b> c", "t@x")] {
        let wrong = tess(name, email);
        assert_eq!(import("five\n", Some(&wrong)).unwrap_err().code, "repo.usage", "{wrong:?}");
    }
    assert_eq!(show(&place.work, "a.txt"), "four");
}

#[test]
fn a_long_diff_is_cut_at_a_line() {
    let place = simple();
    let long = "a line of text\n".repeat(100_000);
    let imported = import(&place.work, &[file(b"long", &long)]).unwrap();
    assert!(imported.diff_cut);
    let most = operator::repo::MAX_DIFF;
    assert!(imported.diff.len() <= most && imported.diff.ends_with("a line of text\n"));
    assert!(most == 1 << 20 && imported.diff.len() + "+a line of text\n".len() > most, "{}", imported.diff.len());
    assert_eq!(show(&place.work, "long").len(), long.len() - 1);
}

#[test]
fn a_file_too_long_to_be_compared_line_by_line_is_told_as_one_that_differs_and_is_imported_whole() {
    let place = simple();
    let lines = |count: usize| "\n".repeat(count);
    let (most, more) = (lines(2 << 20), lines((2 << 20) + 1));
    let imported = import(&place.work, &[file(b"longer", &more)]).unwrap();
    assert!(imported.diff.contains("Binary files /dev/null and b/longer differ\n"), "{:.300}", imported.diff);
    assert!(!imported.diff_cut);
    assert_eq!(git(&place.work, &["cat-file", "-s", "volary/r1:longer"]), more.len().to_string());
    let place = simple();
    let imported = import(&place.work, &[file(b"long", &most)]).unwrap();
    assert!(imported.diff_cut && imported.diff.contains("+\n+\n"), "{:.300}", imported.diff);
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
