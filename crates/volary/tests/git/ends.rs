//! How a person ends what has no lease of its own, a fetch: by the end of its run, or of its secret.

use super::stage::Stage;
use testkit::eventually;

#[test]
fn a_fetch_that_is_under_way_ends_with_its_run_and_without_its_secret_none_begins() {
    let stage = Stage::start("");
    // It waits at its host, for as long as nobody lets it go on.
    stage.forge.hold("/git-upload-pack", "agent=git/");
    let done = std::thread::scope(|scope| {
        let fetching = scope.spawn(|| stage.exec("git fetch origin"));
        let is_fetch =
            |(method, target, _): &(String, String, bool)| method == "POST" && target.ends_with("/git-upload-pack");
        eventually("the fetch at its host", || stage.forge.seen().iter().any(is_fetch).then_some(()));
        let run = eventually("its run", || stage.newest());
        let cancelled = stage.ask(&["cancel", &run]);
        assert_eq!(cancelled.code, Some(0), "{cancelled:?}");
        let done = fetching.join().expect("it ends");
        // Only now: what ended it was not an answer.
        stage.forge.release();
        done
    });
    assert_ne!(done.code, Some(0), "{done:?}");
    // The gateway says that it was cut, the operator that the run has ended: either may be on record first.
    let (cut, transcript) = eventually("its record as cut", || {
        let transcript = stage.transcript();
        let cut = transcript.iter().filter(|event| event["kind"] == "passed" && event["interrupted"] == true).count();
        (cut > 0).then_some((cut, transcript))
    });
    assert_eq!(cut, 1, "it is on record as cut: {transcript:?}");

    assert_eq!(stage.exec("git ls-remote origin").code, Some(0));
    assert_eq!(stage.ask(&["secret", "delete", "capability/forge"]).code, Some(0));
    let before = stage.forge.seen().len();
    let done = stage.exec("git ls-remote origin");
    assert_ne!(done.code, Some(0), "{done:?}");
    assert!(done.all().contains("capability/forge"), "{done:?}");
    assert_eq!(stage.forge.seen().len(), before, "nothing came to the host: {done:?}");
}
