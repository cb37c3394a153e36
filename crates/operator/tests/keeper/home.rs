//! A result that does not come home: its import is ended, and the changes are kept.

use super::*;
use std::time::Duration;

/// A run whose changes have no end, as they are imported.
async fn endless(stage: &Stage) -> std::path::PathBuf {
    let repo = stage.repo("true");
    let (told, importing) = tokio::sync::oneshot::channel();
    *stage.engine.endless.lock().unwrap() = Some(told);
    stage.play(|mut runner| {
        runner.hello();
        runner.order();
        runner.done(DONE, true, "");
    });
    stage.launch(agent(Some(repo.clone())));
    importing.await.unwrap();
    repo
}

/// The changes are kept, the reason says so and `why`, and the repository has no branch.
fn kept(stage: &Stage, repo: &std::path::Path, reason: &str, why: &str) {
    assert!(reason.contains(&format!("the result is not in the repository: {why}. The agent's changes are kept in")));
    assert_eq!(std::fs::read_to_string(stage.dir.path().join("kept/r1.img")).unwrap(), "an image");
    let refs = Command::new("git").current_dir(repo).arg("for-each-ref").output().unwrap();
    let refs = String::from_utf8(refs.stdout).unwrap();
    assert!(refs.ends_with("refs/heads/main\n") && refs.lines().count() == 1, "{refs}");
}

#[tokio::test(flavor = "current_thread")]
async fn a_cancel_ends_an_import_and_the_changes_are_kept() {
    let stage = Stage::new();
    let _gateway = stage.gateway().await;
    let repo = endless(&stage).await;
    stage.keeper_cancel();
    let (outcome, reason, _) = end(&stage.events().await);
    assert_eq!(outcome, Outcome::Cancelled, "{reason}");
    kept(&stage, &repo, &reason, "its import was cancelled and was ended");
}

#[tokio::test(flavor = "current_thread")]
async fn an_import_that_takes_too_long_is_ended_and_the_changes_are_kept() {
    let stage = Stage::new();
    let _gateway = stage.gateway().await;
    let repo = endless(&stage).await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(601)).await;
    tokio::time::resume();
    let (outcome, reason, _) = end(&stage.events().await);
    assert_eq!(outcome, Outcome::Failed, "{reason}");
    kept(&stage, &repo, &reason, "its import took longer than 600 s and was ended");
}
