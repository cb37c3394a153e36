//! A push is a lease: listed while it is under way, and ended when it is taken back.

use super::stage::{Done, Stage};
use serde_json::Value;
use std::time::{Duration, Instant};

const PUSH: &str = "git fetch -q origin && git reset -q --mixed origin/main && git checkout -q -- . && \
                    echo more >>README.md && git commit -q -a -m more && git push";

fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + Duration::from_secs(120);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "{what} did not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn of_push(stage: &Stage) -> Option<Value> {
    stage.leases().into_iter().find(|lease| lease["kind"] == "git-push" && lease["capability"] == "push/app")
}

#[test]
fn a_push_is_listed_as_a_lease_and_completed_by_itself() {
    let stage = Stage::start("");
    let done = stage.exec(PUSH);
    assert_eq!(done.code, Some(0), "{done:?}");
    let lease = eventually("its end", || of_push(&stage).filter(|lease| lease["state"] == "completed"));
    assert_eq!(lease["destination"], "forge.example/forge/app.git", "{lease}");
    let seconds = lease["expires"].as_i64().expect("a moment") - lease["made"].as_i64().expect("a moment");
    assert_eq!(seconds, 600_000);
    // One that is refused is not left open.
    let done = stage.exec(&format!(
        "{PUSH} --force origin HEAD:$VOLARY_BRANCH && mkdir -p .github/workflows && \
        echo x >.github/workflows/x.yml && git add . && git commit -q -m ci && git push"
    ));
    assert!(done.err.contains("git.pipelines"), "{done:?}");
    eventually("its end", || of_push(&stage).filter(|lease| lease["ended_by"] == "given up"));
}

#[test]
fn a_push_whose_lease_is_taken_back_goes_no_further() {
    let stage = Stage::start("");
    let before = stage.forge.git("app", &["for-each-ref"]);
    // Once it is being looked what the push changes: that is the gateway's own question. What the box fetches goes by.
    stage.forge.hold("/git-upload-pack", "agent=volary");
    let done: Done = std::thread::scope(|scope| {
        let pushing = scope.spawn(|| stage.exec(PUSH));
        let lease = eventually("the lease", || of_push(&stage).filter(|lease| lease["state"] == "granted"));
        let id = lease["lease"].as_str().expect("an id");
        let revoked = stage.ask(&["lease", "revoke", id]);
        assert_eq!(revoked.code, Some(0), "{revoked:?}");
        let done = pushing.join().expect("it ends");
        stage.forge.release();
        done
    });
    assert_ne!(done.code, Some(0), "{done:?}");
    assert!(done.err.contains("lease.over"), "{done:?}");
    assert_eq!(stage.forge.git("app", &["for-each-ref"]), before, "nothing came to the host");
    assert_eq!(of_push(&stage).expect("it is listed")["state"], "revoked");
}
