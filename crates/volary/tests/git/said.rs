//! What a git host says of the credential that a push has opened it by.

use super::stage::{SECRET, Stage};
use std::os::unix::fs::PermissionsExt as _;

#[test]
fn what_a_hook_of_the_host_says_of_the_credential_reaches_no_box_also_where_gits_packets_cut_it() {
    let stage = Stage::start("");
    let hook = stage.forge.git("app", &["rev-parse", "--absolute-git-dir"]) + "/hooks/pre-receive";
    // git passes on at most 128 bytes of it at a time.
    let script = format!("#!/bin/sh\nprintf '%0120d%s\\n' 0 {SECRET} >&2\nprintf 'whole: %s\\n' {SECRET} >&2\n");
    std::fs::write(&hook, script).expect("a hook");
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).expect("it can be run");
    let done = stage.exec(
        "git fetch -q origin && git reset -q --mixed origin/main && git checkout -q -- . && echo more >>README.md && \
         git commit -q -a -m more && git push 2>/tmp/said && sed 's/./& /g' /tmp/said",
    );
    assert_eq!(done.code, Some(0), "{done:?}");
    // Spaced out, for what a person is shown is scrubbed once more.
    let spaced = |text: &str| text.chars().map(|c| format!("{c} ")).collect::<String>();
    assert!(!done.out.contains(&spaced(SECRET)), "{done:?}");
    let placed = spaced("[scrubbed:capability/forge");
    assert!(done.out.contains(&format!("{}{placed}", spaced(&"0".repeat(120)))), "{done:?}");
    assert!(done.out.contains(&format!("{}{placed}", spaced("whole: "))), "{done:?}");
    assert_eq!(stage.forge.git("app", &["for-each-ref"]).lines().count(), 2, "and it is pushed");
}
