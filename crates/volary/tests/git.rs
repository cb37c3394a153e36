//! Git through the gateway, from a real box to a real git host in a network of the test's own.
//!
//! The person's secret opens the host; the box has a handle. What reaches the host is asserted at the host.

#[path = "git/attacks.rs"]
mod attacks;
#[path = "git/commits.rs"]
mod commits;
#[path = "git/ends.rs"]
mod ends;
#[path = "git/lease.rs"]
mod lease;
#[path = "git/local.rs"]
mod local;
#[path = "git/said.rs"]
mod said;
#[path = "git/stage.rs"]
mod stage;

use stage::Stage;
use testkit::{Forge, eventually};

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
fn a_run_from_an_address_starts_from_its_files_and_its_agent_pushes_what_it_made() {
    let mut stage = Stage::start("");
    let url = Forge::url("app");
    let cat = stage.cli(&["exec", "--profile", "git", "--repo", &url, "--", "sh", "-c", "cat max.c; ls -a"]);
    assert!(cat.out.contains("a < b") && cat.out.contains("test.sh"), "{cat:?}");
    let script = "git fetch -q --depth 50 origin HEAD && git reset -q FETCH_HEAD && git log --oneline && \
                  sed -i 's/a < b/a > b/' max.c && git commit -q -a -m 'max is the larger one' --trailer 'Agent: volary/worker' && git push origin HEAD";
    stage.worker(script);
    let run = stage.cli(&["run", "--profile", "git", "--model", "worker", "--repo", &url, "Mend max"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let transcript = stage.transcript();
    let of =
        |kind: &str| transcript.iter().find(|event| event["kind"] == kind).unwrap_or_else(|| panic!("{kind}: {run:?}"));
    assert!(run.all().contains("A faulty max"), "its log has the commit that it started from: {run:?}");
    assert_eq!(of("base")["commit"], stage.forge.git("app", &["rev-parse", "main"]));
    // What it changed is known here too, and is what it pushed.
    assert!(of("result")["diff"].as_str().expect("a diff").contains("+    return a > b"), "{run:?}");
    assert_eq!(of("push")["paths"], serde_json::json!(["max.c"]));
    let branch = of("push")["reference"].as_str().expect("a name").to_owned();
    assert!(stage.forge.git("app", &["show", &branch]).contains("+    return a > b"));
    assert!(!run.all().contains(stage::SECRET), "{run:?}");
    // The clone may be of a private repository: no other account of the host enters it.
    let clones = stage.clones();
    assert!(!clones.is_empty() && clones.iter().all(|mode| mode & 0o077 == 0), "{clones:?}");
    // A home that holds a clone is a home still.
    stage.restart();
    assert_eq!(stage.exec("true").code, Some(0));
}

/// Pushes one commit to the run's own branch.
const PUSH: &str = "git fetch -q origin && git reset -q --mixed origin/main && git checkout -q -- . && \
                    echo more >>README.md && git commit -q -a -m more && git push -q";

#[test]
fn a_proposal_is_opened_by_the_server_under_the_persons_own_identity_or_not_at_all() {
    // The host takes one user, whatever it is.
    let stage = Stage::start("forge = \"gitlab\"\nuser = \"oauth2\"");
    let early = stage.exec("true");
    assert!(stage.propose().all().contains("has pushed nothing"), "{early:?}");
    let pushed = stage.exec(PUSH);
    assert_eq!(pushed.code, Some(0), "{pushed:?}");
    let no = stage.propose();
    assert!(no.all().contains("own identity") && stage.forge.proposals().is_empty(), "{no:?}");
    // The person's own token, which is another than the one that everybody's runs push with.
    const OWN: &str = "canary-of-the-person-77c0ffee";
    stage.own_secret(OWN);
    stage.forge.proposed_by(OWN);
    let opened = stage.propose();
    assert_eq!(opened.out.trim(), "https://forge.example/proposals/1", "{opened:?}");
    assert_eq!(stage.propose().out, opened.out, "once");
    // The server read what it needed and opened it; nothing on the way was merged, approved or changed.
    let calls = stage.forge.calls();
    let written: Vec<_> = calls.iter().filter(|(method, _)| method != "GET").collect();
    assert_eq!(written, [&("POST".into(), "/api/v4/projects/forge%2Fapp/merge_requests".into())], "{calls:?}");
    let proposals = stage.forge.proposals();
    let [(target, body)] = &proposals[..] else { panic!("{proposals:?}") };
    assert_eq!(target, "/api/v4/projects/forge%2Fapp/merge_requests");
    assert_eq!(body["target_branch"], "main", "{body}");
    assert!(body["source_branch"].as_str().is_some_and(|branch| branch.starts_with("pr/")), "{body}");
    let linked = stage.transcript().into_iter().find(|event| event["kind"] == "pull-request").expect("it is linked");
    assert_eq!((&linked["url"], &linked["as_app"]), (&"https://forge.example/proposals/1".into(), &false.into()));
    assert_eq!(linked["person"], stage.person());
    assert!(!opened.all().contains(OWN) && !stage.transcript().iter().any(|event| event.to_string().contains(OWN)));
}

#[test]
fn a_proposal_is_opened_as_an_app_where_the_row_allows_it_and_says_so() {
    let stage = Stage::start("forge = \"gitea\"\nproposals-as-app = true");
    let pushed = stage.exec(PUSH);
    assert_eq!(pushed.code, Some(0), "{pushed:?}");
    let opened = stage.propose();
    assert_eq!(opened.code, Some(0), "{opened:?}");
    let proposals = stage.forge.proposals();
    let [(target, body)] = &proposals[..] else { panic!("{proposals:?}") };
    assert_eq!(target, "/api/v1/repos/forge/app/pulls");
    assert!(body["body"].as_str().is_some_and(|text| text.contains("Opened by an app for")), "{body}");
    let linked = stage.transcript().into_iter().find(|event| event["kind"] == "pull-request").expect("it is linked");
    assert_eq!(linked["as_app"], true, "{linked}");
}

#[test]
fn what_a_person_signed_in_to_opens_a_repository_and_its_proposals_are_theirs() {
    let stage = Stage::start("");
    stage.connected("forge = \"gitlab\"");
    let pushed = stage.exec(PUSH);
    assert_eq!(pushed.code, Some(0), "{pushed:?}");
    let seen = stage.forge.seen();
    assert!(!seen.is_empty() && seen.iter().all(|(_, _, signed_in)| *signed_in), "each had the token: {seen:?}");
    let opened = stage.propose();
    assert_eq!(opened.out.trim(), "https://forge.example/proposals/1", "{opened:?}");
    let proposals = stage.forge.proposals();
    let [(target, body)] = &proposals[..] else { panic!("{proposals:?}") };
    assert_eq!(target, "/api/v4/projects/forge%2Fapp/merge_requests");
    assert!(!body["description"].as_str().expect("a text").contains("app's identity"), "{body}");
    let linked = stage.transcript().into_iter().find(|event| event["kind"] == "pull-request").expect("it is linked");
    assert_eq!((&linked["as_app"], &linked["person"]), (&false.into(), &stage.person().into()));
    // A push of it is a lease on the connection's token, and nothing that was shown or kept holds that.
    eventually("the end of its lease", || {
        let mut leases = stage.leases().into_iter();
        leases.any(|lease| lease["capability"] == "push/app" && lease["state"] == "completed").then_some(())
    });
    assert!(![pushed.all(), opened.all()].concat().contains(stage::SECRET));
    // Ended, it opens nothing any more.
    assert_eq!(stage.ask(&["connect", "revoke", "forge"]).code, Some(0));
    let closed = stage.exec("git ls-remote origin");
    assert!(closed.all().contains("volary connect sign-in forge") && closed.code != Some(0), "{closed:?}");
}

#[test]
fn an_address_that_is_gone_is_told_by_the_run_that_wanted_it() {
    let stage = Stage::start("");
    stage.forge.remove("app");
    let done = stage.cli(&["exec", "--profile", "git", "--repo", &Forge::url("app"), "--", "true"]);
    assert_ne!(done.code, Some(0), "{done:?}");
    assert!(done.all().contains("could not be cloned"), "{done:?}");
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
