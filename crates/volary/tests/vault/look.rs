//! What is wrong with the key, as it is told before a start and by it.

use super::{is_open, platform, said};
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn a_key_file_that_others_may_read_is_told_by_doctor_and_by_up_with_the_reason() {
    let mut platform = platform();
    let own = platform.home().join("keys/kek");
    let shut = |mode| fs::set_permissions(&own, fs::Permissions::from_mode(mode)).unwrap();
    let doctor = || {
        let checks = platform.json(&["doctor", "--json"]);
        checks.as_array().unwrap().iter().find(|check| check["name"] == "vault key").unwrap().clone()
    };
    assert_eq!(doctor()["ok"], true);
    shut(0o644);
    let checked = platform.cli(&["doctor"]);
    assert_eq!(checked.status.code(), Some(1), "{}", said(&checked));
    assert!(said(&checked).contains("may be read by others (mode 644)"), "{}", said(&checked));
    // The next start refuses it, each time with the reason.
    platform.down();
    let refused = platform.cli(&["up", "--port", "0", "--warm", "0"]);
    let told = said(&refused);
    let ends: Vec<&str> = told.lines().filter(|line| line.contains("the server ended (status 1")).collect();
    assert!(!refused.status.success() && !ends.is_empty(), "{told}");
    assert!(ends.iter().all(|line| line.contains("may be read by others (mode 644)")), "{told}");
    shut(0o600);
    platform.up(&[]);
    is_open(&platform);
    platform.stop();
}
