//! What a run does to the repository it is given: a branch, and nothing else.

use crate::shared::{all, anthropic, mend, platform, run, sha256};
use serde_json::json;
use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use testkit::{ModelDouble, Repo, Turn};

const KEY: &str = "sk-a-key-of-some-length";

/// Every file below a folder: mode, owner and content. Of `.git`, what the person's own work hangs on.
fn files(folder: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(at) = folders.pop() {
        for entry in std::fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let name = path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
            // Where git keeps new objects and refs, which a branch is made of.
            if [".git/objects", ".git/refs", ".git/logs"].contains(&&*name) {
                continue;
            }
            let content = if meta.is_symlink() {
                std::fs::read_link(&path).unwrap().to_string_lossy().into_owned()
            } else if meta.is_dir() {
                folders.push(path);
                String::new()
            } else {
                sha256(&std::fs::read(&path).unwrap())
            };
            all.insert(name, format!("{:o} {}:{} {content}", meta.mode(), meta.uid(), meta.gid()));
        }
    }
    all
}

#[test]
fn a_run_leaves_branch_index_worktree_and_settings_as_they_were_and_adds_one_branch() {
    let (platform, repo) = (platform(), Repo::failing());
    // Staged, changed, both, removed, ignored, new: everything that a worktree can hold.
    repo.write("staged.txt", b"staged\n");
    drop(repo.git(&["add", "staged.txt"]));
    repo.write("README.md", b"changed and staged\n");
    drop(repo.git(&["add", "README.md"]));
    repo.write("README.md", b"and changed again\n");
    std::fs::remove_file(repo.path().join("max_test.c")).unwrap();
    repo.write(".gitignore", b"ignored/\n");
    repo.write("ignored/file", b"ignored\n");
    repo.write("new.txt", b"new\n");
    std::os::unix::fs::symlink("/etc/passwd", repo.path().join("link")).unwrap();
    std::fs::set_permissions(repo.path().join("test.sh"), std::fs::Permissions::from_mode(0o700)).unwrap();
    // A hook that would tell.
    repo.write(".git/hooks/post-checkout", b"#!/bin/sh\ntouch hook-ran\n");
    repo.write(".git/hooks/reference-transaction", b"#!/bin/sh\ntouch hook-ran\n");
    for hook in ["post-checkout", "reference-transaction"] {
        let path = repo.path().join(".git/hooks").join(hook);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let refs = || repo.git(&["for-each-ref", "--format=%(refname) %(objectname)"]);
    let (untouched, before, refs_before) = (repo.untouched(), files(repo.path()), refs());

    let write = |path: &str| ("write".to_owned(), json!({"path": path, "content": "by the agent\n"}));
    let all_at_once = Turn {
        tools: vec![("edit".into(), mend()), write("new.txt"), write("deep/er/file.txt")],
        ..Turn::says("I work.")
    };
    let git = Turn::calls(
        "shell",
        json!({"command": "rm README.md; git checkout -b mine; git config user.name Mallory; \
        git commit --all --message theirs; echo x > .git/hooks/pre-commit"}),
    );
    let double = ModelDouble::start(KEY, vec![all_at_once, git, Turn::says("Done.")]);
    anthropic(&platform, "claude", &double.url(), KEY);
    let ran = run(&platform, &repo, &[]);
    assert_eq!(ran.end(), ("done".into(), String::new()), "{}", all(&ran.out));

    assert_eq!(repo.untouched(), untouched);
    assert_eq!(files(repo.path()), before);
    let branch = format!("volary/{}", ran.run);
    let commit = repo.git(&["rev-parse", &branch]);
    let mut refs_after: Vec<String> = refs_before.lines().map(str::to_owned).collect();
    refs_after.push(format!("refs/heads/{branch} {commit}"));
    assert_eq!(refs().lines().collect::<Vec<_>>(), refs_after);

    // It starts at HEAD: what was not committed is neither in it nor undone by it, and is named.
    assert_eq!(repo.git(&["rev-parse", &format!("{branch}^")]), repo.git(&["rev-parse", "HEAD"]));
    let changed = repo.git(&["diff", "--name-status", "--no-renames", "HEAD", &branch]);
    assert_eq!(changed, "D\tREADME.md\nA\tdeep/er/file.txt\nM\tmax.c\nA\tnew.txt");
    let base = ran.of_kind("base")[0];
    let left_out: Vec<&str> = base["left_out"].as_array().unwrap().iter().map(|path| path.as_str().unwrap()).collect();
    for path in ["staged.txt", "README.md", "max_test.c", ".gitignore", "new.txt", "link"] {
        assert!(left_out.contains(&path), "{path} is not in {left_out:?}");
    }
    assert_eq!(base["left_out_count"], left_out.len());
    let result = ran.of_kind("result")[0];
    assert_eq!((&result["branch"], &result["commit"], &result["files"]), (&json!(branch), &json!(commit), &json!(4)));
    assert_eq!(ran.view(&platform)["branch"], branch);
}

#[test]
fn the_branchs_commit_is_the_persons_by_its_owners_hand_and_says_which_run_and_model_made_it() {
    let (platform, repo) = (platform(), Repo::failing());
    drop(repo.git(&["config", "user.name", "Olga Owner"]));
    drop(repo.git(&["config", "user.email", "olga@example.org"]));
    let double = ModelDouble::start(KEY, vec![Turn::calls("edit", mend()), Turn::says("Done.")]);
    anthropic(&platform, "claude", &double.url(), KEY);
    let ran = run(&platform, &repo, &[]);
    let branch = format!("volary/{}", ran.run);
    let show = |format: &str| repo.git(&["show", "--no-patch", &format!("--format={format}"), &branch]);
    let person = ran.of_kind("accepted")[0]["person"].as_str().unwrap();
    assert_eq!(show("%an <%ae>"), format!("{person} <{person}@localhost>"));
    assert_eq!(show("%cn <%ce>"), "Olga Owner <olga@example.org>");
    assert_eq!(show("%(trailers:key=Run,valueonly)"), ran.run);
    assert_eq!(show("%(trailers:key=Agent,valueonly)"), "volary/claude");
    assert_eq!(repo.git(&["diff", "--stat=80", "HEAD", &branch]).lines().count(), 2);
}

#[test]
fn a_second_run_starts_at_head_and_not_at_the_first_ones_branch() {
    let (platform, repo) = (platform(), Repo::failing());
    let look = Turn::calls("read", json!({"path": "max.c"}));
    let double = ModelDouble::start(
        KEY,
        vec![Turn::calls("edit", mend()), Turn::says("Done."), look, Turn::says("It is still wrong.")],
    );
    anthropic(&platform, "claude", &double.url(), KEY);
    let first = run(&platform, &repo, &[]);
    let second = run(&platform, &repo, &[]);
    assert_ne!(first.run, second.run);
    let read = second.of_kind("tool-result")[0]["text"].as_str().unwrap();
    assert!(read.contains("a < b"), "{read}");
    assert_eq!(second.of_kind("result").iter().filter(|result| !result["branch"].is_null()).count(), 0);
    assert_eq!(
        repo.git(&["for-each-ref", "--format=%(refname:short)", "refs/heads/volary"]),
        format!("volary/{}", first.run)
    );
}
