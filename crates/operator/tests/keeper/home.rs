//! What a run changed comes home whatever ended it; where it cannot, it is kept, and can be had later.

use super::*;
use api::kept::{KeptAct, KeptAnswer};
use api::link::{Launch, Up};
use operator::link::Orders;
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

/// A run that was at work, had changed a file, and whose box is lost.
async fn interrupted(stage: &Stage) -> std::path::PathBuf {
    let repo = stage.repo("true");
    *stage.engine.changes.lock().unwrap() = vec![(b"a".to_vec(), "two\n".into())];
    stage.play(|mut runner| {
        runner.hello();
        runner.order();
        runner.die();
    });
    let mut stale = stage.runs.stale.subscribe();
    stage.launch(agent(Some(repo.clone())));
    stale.changed().await.unwrap();
    stage.over().await;
    repo
}

/// The branch of the run holds what was changed.
fn is_home(repo: &std::path::Path) {
    let show = Command::new("git").current_dir(repo).args(["show", "volary/r1:a"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&show.stdout), "two\n", "{}", String::from_utf8_lossy(&show.stderr));
}

fn has_result(events: &[Event]) -> bool {
    matches!(&events[events.len() - 2], Event::Result { branch: Some(branch), files: 1, .. } if branch == "volary/r1")
}

#[tokio::test(flavor = "current_thread")]
async fn a_cancel_between_two_attempts_brings_home_what_was_changed() {
    let stage = Stage::new();
    let _gateway = stage.gateway().await;
    let repo = interrupted(&stage).await;
    stage.play(|_| ());
    stage.keeper_cancel();
    let events = stage.events().await;
    assert_eq!(end(&events).0, Outcome::Cancelled, "{events:?}");
    assert!(has_result(&events), "{events:?}");
    is_home(&repo);
    assert_eq!(*stage.engine.alive.lock().unwrap(), 0);
}

#[tokio::test(flavor = "current_thread")]
async fn a_run_that_is_launched_no_more_ends_with_the_reason_and_its_changes_in_its_branch() {
    let stage = Stage::new();
    let _gateway = stage.gateway().await;
    let repo = interrupted(&stage).await;
    stage.play(|_| ());
    stage.keeper.obey(Down::Close { run: id(), reason: "interrupted in each of 3 attempts".into() });
    let events = stage.events().await;
    assert_eq!(end(&events), (Outcome::Failed, "interrupted in each of 3 attempts".into(), None));
    assert!(has_result(&events), "{events:?}");
    is_home(&repo);
    // Said twice, as after a cut, it changes nothing.
    stage.keeper.obey(Down::Close { run: id(), reason: "again".into() });
    assert_eq!(stage.events().await, events);
}

#[tokio::test(flavor = "current_thread")]
async fn a_box_ended_by_a_limit_has_what_it_changed_brought_home() {
    let stage = Stage::new();
    let _gateway = stage.gateway().await;
    let repo = stage.repo("true");
    *stage.engine.changes.lock().unwrap() = vec![(b"a".to_vec(), "two\n".into())];
    *stage.engine.why.lock().unwrap() = Some("killed: memory limit 2048 MiB".into());
    stage.play(|_| ());
    stage.play(|mut runner| {
        runner.hello();
        runner.order();
        runner.die();
    });
    stage.launch(agent(Some(repo.clone())));
    let events = stage.events().await;
    assert_eq!(end(&events).1, "killed: memory limit 2048 MiB");
    assert!(has_result(&events), "{events:?}");
    is_home(&repo);
}

/// What the host answers about kept worktrees.
async fn about_kept(stage: &Stage, what: KeptAct) -> KeptAnswer {
    stage.keeper.obey(Down::Kept { id: 7, what });
    loop {
        if let Some(Up::Kept { id: 7, answer }) = stage.runs.words().pop() {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "current_thread")]
async fn what_a_run_changed_that_ended_while_its_host_was_away_is_kept_and_can_be_had() {
    let stage = Stage::new();
    let _gateway = stage.gateway().await;
    let repo = interrupted(&stage).await;
    // The server ended it, and this host only hears that it is over.
    stage.settle().await;
    let place = stage.dir.path().join("kept/r1.img");
    assert!(place.is_file());
    let KeptAnswer::List { kept } = about_kept(&stage, KeptAct::List).await else { panic!("no list") };
    assert_eq!((kept.len(), kept[0].run.as_str(), kept[0].repo.as_deref()), (1, "r1", repo.to_str()));

    // As long as it cannot be brought home it stays.
    std::fs::rename(&repo, repo.with_file_name("elsewhere")).unwrap();
    let KeptAnswer::Failed { why } = about_kept(&stage, KeptAct::Import { run: id() }).await else { panic!("it went") };
    assert!(why.contains("is not there") && place.is_file(), "{why}");
    std::fs::rename(repo.with_file_name("elsewhere"), &repo).unwrap();

    stage.play(|_| ());
    let answer = about_kept(&stage, KeptAct::Import { run: id() }).await;
    let KeptAnswer::Imported(imported) = answer else { panic!("{answer:?}") };
    assert_eq!((imported.branch.as_deref(), imported.files), (Some("volary/r1"), 1));
    is_home(&repo);
    assert_eq!(std::fs::read_dir(stage.dir.path().join("kept")).unwrap().count(), 0);
    assert_eq!(about_kept(&stage, KeptAct::Import { run: id() }).await, KeptAnswer::None);
}

#[tokio::test(flavor = "current_thread")]
async fn what_is_kept_is_removed_on_a_persons_word() {
    let stage = Stage::new();
    let _gateway = stage.gateway().await;
    interrupted(&stage).await;
    stage.settle().await;
    assert_eq!(about_kept(&stage, KeptAct::Drop { run: id() }).await, KeptAnswer::Dropped);
    assert_eq!(std::fs::read_dir(stage.dir.path().join("kept")).unwrap().count(), 0);
    assert_eq!(about_kept(&stage, KeptAct::Drop { run: id() }).await, KeptAnswer::None);
}

#[tokio::test(flavor = "current_thread")]
async fn the_time_of_a_run_is_that_of_all_its_attempts() {
    let stage = Stage::new();
    let _gateway = stage.gateway().await;
    let launch = |attempt, seconds| {
        let mut launch = Launch { attempt, ..agent(None) };
        launch.profile.limits.seconds = seconds;
        launch
    };
    let mut stale = stage.runs.stale.subscribe();
    stage.play(|mut runner| {
        runner.hello();
        runner.order();
        std::thread::sleep(Duration::from_millis(2_100));
        runner.die();
    });
    stage.launch(launch(1, 3_600));
    stale.changed().await.unwrap();
    stage.over().await;

    let (told, tasks) = std::sync::mpsc::channel();
    stage.play(move |mut runner| {
        runner.hello();
        told.send(runner.order().unwrap()).unwrap();
        runner.die();
    });
    stage.launch(launch(2, 3_600));
    stale.changed().await.unwrap();
    stage.over().await;
    let ToRunner::Agent(task) = tasks.recv().unwrap() else { panic!("no task") };
    assert!(task.limits.seconds <= 3_598, "{} s are left", task.limits.seconds);

    // Nothing is left: it needs no box.
    stage.launch(launch(3, 2));
    while !stage.over().await.ended() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(end(&stage.events().await).1, "killed: time limit 2 s");
    assert_eq!(stage.engine.plans.lock().unwrap().len(), 2);
}
