//! A repository at a git host, which is cloned before a run's first box.

use super::end;
use crate::support::*;
use api::link::{Launch, LaunchClone};
use model::Outcome;
use std::time::Duration;

#[tokio::test(flavor = "current_thread")]
async fn a_clone_that_takes_longer_than_600_seconds_is_given_up_and_its_process_ended() {
    let stage = Stage::new();
    let gateway = stage.gateway().await;
    let clone = LaunchClone { address: "http://127.0.0.1:8080/git/r".into(), handle: "handle-of-r1".into() };
    stage.launch(Launch { clone: Some(clone), ..agent(None) });
    // The process that was started for it, whose arguments name a folder of this test.
    let own = stage.dir.path().parent().unwrap().as_os_str().to_owned();
    let process = || {
        let mut all = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
        all.find(|path| {
            let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
            let holds = |part: &[u8]| line.windows(part.len()).any(|some| some == part);
            holds(b"repo-clone") && holds(own.as_encoded_bytes())
        })
    };
    let never = std::time::Instant::now() + Duration::from_secs(60);
    let found = loop {
        match process() {
            Some(found) => break found,
            None => tokio::time::sleep(Duration::from_millis(2)).await,
        }
        assert!(std::time::Instant::now() < never, "no process was started");
    };
    pass(Duration::from_secs(300)).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(found.exists() && stage.runs.get(&id()).unwrap().is_live(), "given up long before its time");
    pass(Duration::from_secs(300)).await;
    let (outcome, reason, _) = end(&stage.events().await);
    assert_eq!(outcome, Outcome::Failed);
    assert!(reason.contains("was not cloned within 600 s"), "{reason}");
    while found.join("cmdline").exists() && !std::fs::read(found.join("cmdline")).unwrap_or_default().is_empty() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    drop(gateway);
}
