//! Git through the gateway, from a real box to a real git host in a network of the test's own.
//!
//! The person's secret opens the host; the box has a handle. What reaches the host is asserted at the host.

#[path = "git/attacks.rs"]
mod attacks;
#[path = "git/stage.rs"]
mod stage;

use stage::Stage;

#[test]
fn a_box_fetches_and_pushes_its_own_branch_with_a_credential_that_it_never_has() {
    let stage = Stage::start("");
    let done = stage.exec(
        "set -e
         git fetch -q origin
         git reset -q --mixed origin/main
         git checkout -q -- .
         git log --oneline | head -3
         echo more >>README.md
         git commit -q -a -m 'More words'
         git push origin HEAD
         git push 2>&1
         echo BRANCH $VOLARY_BRANCH",
    );
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.out.contains("A faulty max"), "the log has the commit: {done:?}");
    let branch = done.out.lines().find_map(|line| line.strip_prefix("BRANCH ")).expect("it has a branch");
    assert!(branch.starts_with("pr/"), "{branch}");
    let said = stage.forge.git("app", &["show", "--format=%an", "--name-only", branch]);
    assert_eq!(said, format!("{}\n\nREADME.md", stage.person()), "the commit is the person's");
    assert_eq!(stage.forge.git("app", &["for-each-ref", "--format=%(refname)"]).lines().count(), 2, "and nothing else");
    assert!(!done.out.contains(stage::SECRET) && !done.err.contains(stage::SECRET), "{done:?}");
    assert!(stage.forge.seen().iter().all(|(_, _, signed_in)| *signed_in), "each request had the credential");
    // What it changes is on the record.
    let transcript = stage.transcript();
    let push = transcript.iter().find(|event| event["kind"] == "push").expect("the push is recorded");
    assert_eq!((&push["paths"], &push["paths_count"]), (&serde_json::json!(["README.md"]), &1.into()), "{push}");
    assert_eq!(push["reference"], format!("refs/heads/{branch}"));
}

#[test]
fn other_names_of_a_repository_lead_through_the_gateway_too() {
    let stage = Stage::start("");
    for name in [
        "https://forge.example/forge/app.git",
        "https://forge.example/forge/app",
        "ssh://git@forge.example/forge/app.git",
        "git@forge.example:forge/app.git",
        "git@forge.example:forge/app",
    ] {
        let done = stage.exec(&format!("git ls-remote {name} refs/heads/main"));
        assert_eq!(done.code, Some(0), "{name}: {done:?}");
        assert!(done.out.contains("refs/heads/main"), "{name}: {done:?}");
    }
}
