//! A repository on the host itself: its history is read and its own branch pushed from a box, by its owner's git, and nothing
//! else of it is touched or shown.

use super::stage::Stage;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use testkit::Repo;

/// Brings the box's repository to where the host's is, with one commit on top.
const READY: &str = "git fetch -q origin && git reset -q --mixed origin/main && git checkout -q -- . && \
                     echo more >>README.md && git commit -q -a -m more && ";

fn exec(stage: &Stage, repo: &Repo, script: &str) -> super::stage::Done {
    stage.cli(&["exec", "--repo", repo.path_str(), "--", "sh", "-c", script])
}

/// git in a repository, whoever's it is.
fn git(repo: &Repo, args: &[&str]) -> String {
    repo.git(&[&["-c", "safe.directory=*"], args].concat())
}

/// All that a push from a box must leave as it is: the worktree's state, the index, HEAD and every reference but `pr/`.
fn standing(repo: &Repo) -> String {
    let refs = git(repo, &["for-each-ref", "--format=%(refname) %(objectname)"]);
    let refs: Vec<&str> = refs.lines().filter(|line| !line.starts_with("refs/heads/pr/")).collect();
    let index = git(repo, &["ls-files", "--stage"]);
    format!(
        "{}{}{index}{}",
        refs.join("\n"),
        git(repo, &["status", "--porcelain"]),
        git(repo, &["symbolic-ref", "HEAD"])
    )
}

#[test]
fn a_box_reads_the_history_of_its_repository_on_the_host_and_pushes_its_own_branch_there() {
    let stage = Stage::start("");
    let repo = Repo::failing();
    repo.write("README.md", b"two\n");
    repo.commit("A second one");
    repo.write("open.txt", b"not committed\n");
    // Another account's, as a rule.
    if is_root() {
        give(repo.path(), 4242);
    }
    let before = standing(&repo);
    let done = exec(
        &stage,
        &repo,
        &format!(
            "git fetch -q origin && git log --oneline origin/main && {READY} git push 2>&1 && echo BRANCH $VOLARY_BRANCH"
        ),
    );
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.out.contains("A second one") && done.out.contains("A faulty max"), "it has the history: {done:?}");
    let branch = done.out.lines().find_map(|line| line.strip_prefix("BRANCH ")).expect("it has a branch");
    assert_eq!(
        git(&repo, &["show", "--format=%an", "--name-only", branch]),
        format!("{}\n\nREADME.md", stage.person())
    );
    assert_eq!(standing(&repo), before, "what the owner works on is as it was");
    let uid = std::fs::metadata(repo.path()).expect("it is there").uid();
    let file = repo.path().join(".git/refs/heads").join(branch);
    assert_eq!(std::fs::metadata(file).expect("the branch").uid(), uid, "its owner wrote it");
    let transcript = stage.transcript();
    let push = transcript.iter().find(|event| event["kind"] == "push").expect("the push is recorded");
    assert_eq!((&push["repository"], &push["paths"]), (&"local".into(), &serde_json::json!(["README.md"])), "{push}");
    assert!(stage.propose().all().contains("on this host alone"), "there are no pull requests");
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").expect("a process").uid() == 0
}

fn give(path: &Path, uid: u32) {
    let given = std::process::Command::new("chown").args(["-R", &format!("{uid}:{uid}")]).arg(path).status();
    assert!(given.expect("chown starts").success());
}

#[test]
fn of_a_repository_on_the_host_nothing_but_the_runs_own_branch_is_set_and_nothing_but_branches_and_tags_shown() {
    let stage = Stage::start("");
    let repo = Repo::failing();
    drop(repo.git(&["branch", "side"]));
    drop(repo.git(&["tag", "v0"]));
    drop(repo.git(&["notes", "add", "-m", "a note"]));
    repo.write("README.md", b"a secret of the stash\n");
    drop(repo.git(&["stash"]));
    let before = standing(&repo);
    let seen = exec(&stage, &repo, "git ls-remote origin | cut -f2 | sort");
    assert_eq!(
        seen.out.lines().collect::<Vec<_>>(),
        ["HEAD", "refs/heads/main", "refs/heads/side", "refs/tags/v0"],
        "{seen:?}"
    );
    let (stash, tip) = (repo.git(&["rev-parse", "refs/stash"]), repo.git(&["rev-parse", "main"]));
    let done = exec(&stage, &repo, &format!("git fetch -q origin {tip} && ! git fetch origin {stash} 2>&1"));
    assert_eq!(done.code, Some(0), "what no branch or tag leads to is not given to who knows its name: {done:?}");
    for (what, command, rule) in [
        ("the branch that is checked out", "git push origin HEAD:main", "git.branch"),
        ("another, by force", "git push --force origin HEAD:side", "git.branch"),
        ("a new tag", "git tag v1 && git push origin v1", "git.tag"),
        ("the stash", "git push origin HEAD:refs/stash", "git.branch"),
        (
            "pipeline files",
            "mkdir -p .github/workflows && echo x >.github/workflows/x.yml && git add . && git commit -q -m ci && git push",
            "git.pipelines",
        ),
    ] {
        let done = exec(&stage, &repo, &format!("{READY}{command}"));
        assert_ne!(done.code, Some(0), "{what}: {done:?}");
        stage.refused(rule, &format!("{what}: {done:?}"));
    }
    assert_eq!(standing(&repo), before);
    assert_eq!(repo.git(&["for-each-ref", "refs/heads/pr"]), "", "nothing was pushed");
}

#[test]
fn what_no_branch_or_tag_of_a_repository_on_the_host_leads_to_its_box_does_not_get_in_any_way() {
    let stage = Stage::start("");
    let repo = Repo::failing();
    repo.write("README.md", b"a secret of the stash\n");
    drop(repo.git(&["stash"]));
    repo.write("staged", b"a secret of the index\n");
    drop(repo.git(&["add", "staged"]));
    let (tip, stash) = (repo.git(&["rev-parse", "main"]), repo.git(&["rev-parse", "refs/stash:README.md"]));
    let staged = repo.git(&["rev-parse", ":0:staged"]);
    // git's lines, by hand, and what is answered to them.
    let ask = "H=$(git config --get-urlmatch http.extraHeader http://127.0.0.1:8080/git/); \
               line() { printf '%04x%s\\n' $((${#1} + 5)) \"$1\"; }; \
               post() { curl -sS -H \"$H\" -H \"Content-Type: application/x-git-$1-request\" --data-binary @- \
               http://127.0.0.1:8080/git/local/git-$1 | grep -a -o 'rule [a-z.-]*\\|PACK\\|git.local\\|leaves out' | head -2; }; ";
    for (what, lines, said) in [
        ("what the branch leads to", vec![format!("want {tip}")], "PACK\n"),
        ("a file of the stash", vec![format!("want {stash}")], "git.local\n"),
        ("a file of the index", vec![format!("want {staged}")], "git.local\n"),
        (
            "an expression",
            vec![format!("want {tip} filter"), "filter sparse:oid=refs/stash:README.md".to_owned()],
            "rule git.filter\n",
        ),
        (
            "an abbreviation",
            vec![format!("want {tip} filter"), format!("filter sparse:oid={}", &stash[..4])],
            "rule git.filter\n",
        ),
        (
            "a hidden reference",
            vec![format!("want {tip} deepen-not"), "deepen-not stash".to_owned()],
            "rule git.deepen\n",
        ),
    ] {
        let lines: Vec<String> = lines.iter().map(|line| format!("line '{line}'; ")).collect();
        let done =
            exec(&stage, &repo, &format!("{ask} {{ {} printf 0000; line done; }} | post upload-pack", lines.concat()));
        assert_eq!(done.out, said, "{what}: {done:?}");
    }
    for file in [&stash, &staged] {
        let push = format!(
            "{ask} git fetch -q origin; T=$(printf '100644 blob {file}\\tx\\n' | git mktree --missing); \
             C=$(git commit-tree $T -p origin/main -m x); printf '%s\\n' $C $T | git pack-objects -q --stdout >/tmp/pack; \
             U=\"{} $C refs/heads/$VOLARY_BRANCH\"; \
             {{ printf '%04x%s\\0 report-status side-band-64k' $((${{#U}} + 33)) \"$U\"; printf 0000; cat /tmp/pack; }} | post receive-pack",
            "0".repeat(40)
        );
        let done = exec(&stage, &repo, &push);
        assert_eq!(done.out, "rule git.local\nleaves out\n", "{done:?}");
    }
    assert_eq!(repo.git(&["for-each-ref", "refs/heads/pr"]), "", "nothing was pushed");
    // A git that asks to leave files out is told that nothing is left out here, and clones all.
    let done = exec(
        &stage,
        &repo,
        "git clone --no-checkout --filter=blob:none http://127.0.0.1:8080/git/local /tmp/c && cd /tmp/c && \
         git rev-list --objects --all --missing=print | grep -c '^?'",
    );
    assert!(done.all().contains("filtering not recognized by server"), "{done:?}");
    assert_eq!(done.out, "0\n", "objects are missing: {done:?}");
}

#[test]
fn what_a_repository_configures_runs_nothing_when_a_box_fetches_from_it_and_pushes_to_it() {
    let stage = Stage::start("");
    let repo = Repo::failing();
    let marker = repo.path().parent().expect("a folder").join("ran");
    let program = repo.path().parent().expect("a folder").join("program");
    std::fs::write(&program, format!("#!/bin/sh\necho \"$0 $*\" >>{}\n", marker.display())).expect("a program");
    assert!(std::process::Command::new("chmod").arg("755").arg(&program).status().expect("chmod starts").success());
    for hook in [
        "pre-receive",
        "update",
        "post-receive",
        "post-update",
        "reference-transaction",
        "proc-receive",
        "push-to-checkout",
        "pre-auto-gc",
    ] {
        std::fs::copy(&program, repo.path().join(".git/hooks").join(hook)).expect("a hook");
    }
    let program = program.to_str().expect("a path");
    for (key, value) in [
        ("core.alternateRefsCommand", program),
        ("uploadpack.packObjectsHook", program),
        ("core.fsmonitor", program),
        ("core.sshCommand", program),
        ("core.pager", program),
        ("core.gitProxy", program),
        ("gc.auto", "1"),
        ("gc.recentObjectsHook", program),
        ("receive.denyCurrentBranch", "updateInstead"),
        ("receive.autogc", "true"),
        ("filter.x.clean", program),
        ("filter.x.process", program),
        ("diff.external", program),
        ("credential.helper", program),
        ("remote.x.vcs", "ext"),
        ("remote.x.promisor", "true"),
    ] {
        drop(repo.git(&["config", key, value]));
    }
    let before = standing(&repo);
    if marker.exists() {
        std::fs::remove_file(&marker).expect("it was there");
    }
    let done = exec(&stage, &repo, &format!("{READY} git push -q"));
    assert_eq!(done.code, Some(0), "{done:?}");
    let ran = std::fs::read_to_string(&marker).unwrap_or_default();
    assert_eq!(ran, "", "nothing of the repository's choosing ran");
    drop(repo.git(&["config", "--unset", "core.fsmonitor"]));
    assert_eq!(standing(&repo), before);
}

#[test]
fn a_repository_that_borrows_objects_from_elsewhere_is_not_served() {
    let stage = Stage::start("");
    let (repo, other) = (Repo::failing(), Repo::failing());
    other.write("private", b"of another repository\n");
    other.commit("A private one");
    let theirs = format!("{}/.git/objects\n", other.path_str());
    std::fs::write(repo.path().join(".git/objects/info/alternates"), theirs).expect("a line");
    let private = other.git(&["rev-parse", "HEAD"]);
    let done = exec(&stage, &repo, &format!("git fetch origin {private}; git fetch origin main; cat README.md"));
    assert!(done.out.contains("The larger of two"), "its files are read as before: {done:?}");
    assert!(done.all().contains("borrows objects"), "{done:?}");
    std::fs::remove_file(repo.path().join(".git/objects/info/alternates")).expect("it was there");
    let done = exec(&stage, &repo, &format!("git fetch origin main && ! git fetch -q origin {private}"));
    assert_eq!(done.code, Some(0), "{done:?}");
}

#[test]
fn an_agents_result_and_what_it_pushed_are_two_branches_of_the_repository() {
    let stage = Stage::start("");
    let repo = Repo::failing();
    let base = repo.git(&["rev-parse", "HEAD"]);
    stage.worker(&format!(
        "git fetch -q --depth 50 origin {base} && git reset -q FETCH_HEAD && sed -i 's/a < b/a > b/' max.c && \
         git commit -q -a -m 'max is the larger one' --trailer 'Agent: volary/worker' && git push origin HEAD 2>&1"
    ));
    let run = stage.cli(&["run", "--model", "worker", "--repo", repo.path_str(), "Mend max"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let branches = repo.git(&["for-each-ref", "--format=%(refname:short)", "refs/heads"]);
    let of = |start: &str| {
        branches.lines().find(|name| name.starts_with(start)).unwrap_or_else(|| panic!("{start}: {run:?}"))
    };
    for branch in [of("volary/"), of("pr/")] {
        assert!(repo.git(&["show", branch]).contains("+    return a > b"), "{branch}");
        assert!(repo.git(&["log", "-1", "--format=%B", branch]).contains("Agent: volary/worker"), "{branch}");
    }
    assert!(repo.read("max.c").contains("a < b"), "what is checked out is as it was");
}
