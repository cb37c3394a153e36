//! A backup, and a home that is made of one.

use super::{VALUE, VOLARY, files, forms, holds, key, kill, platform, said};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Of this home, which no platform of the test's own serves.
fn volary(home: &Path, args: &[&str], input: &str) -> Output {
    let mut child = Command::new(VOLARY)
        .arg("--home")
        .arg(home)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_backup_is_sealed_and_opens_in_a_new_home_once_its_key_is_brought() {
    let platform = platform();
    drop(platform.ok(&["exec", "--", "true"]));
    let digits = fs::read_to_string(platform.home().join("keys/kek")).unwrap();
    let place = tempfile::Builder::new().prefix("volary-b-").tempdir_in("/tmp").unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let backup = place.path().join("backup");
    let registries = "# What comes with Volary, and no more.\n";
    fs::write(platform.home().join("profiles/registries.txt"), registries).unwrap();
    fs::write(platform.home().join("profiles/shop.toml"), "").unwrap();
    let told = platform.ok(&["backup", backup.to_str().unwrap()]);
    assert!(told.contains(&key(&platform)) && told.contains("is not in it"), "{told}");
    let again = platform.cli(&["backup", backup.to_str().unwrap()]);
    assert!(!again.status.success() && said(&again).contains("make the folder"), "{}", said(&again));

    let mut all = Vec::new();
    files(&backup, &mut all);
    assert!(all.iter().any(|path| path.ends_with("volary.db")) && all.iter().any(|path| path.ends_with("backup.toml")));
    let mut needles = forms(&digits);
    needles.push(VALUE.as_bytes().to_vec());
    for path in &all {
        assert!(!holds(&fs::read(path).unwrap(), &needles), "{}", path.display());
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o077, 0, "{}", path.display());
    }
    platform.stop();

    let home = place.path().join("home");
    let volary = |args: &[&str], input: &str| volary(&home, args, input);
    let restored = volary(&["restore", backup.to_str().unwrap()], "");
    assert!(restored.status.success(), "{}", said(&restored));
    assert_eq!(fs::read_to_string(home.join("profiles/registries.txt")).unwrap(), registries);
    assert!(home.join("profiles/shop.toml").exists() && !home.join("restoring").exists());
    let own = home.join("keys/kek");
    assert!(said(&restored).contains(own.to_str().unwrap()), "{}", said(&restored));
    let twice = volary(&["restore", backup.to_str().unwrap()], "");
    assert!(!twice.status.success() && said(&twice).contains("is not empty"), "{}", said(&twice));

    let text = format!("<{VALUE}>");
    let closed = volary(&["scrub"], &text);
    assert!(!closed.status.success() && said(&closed).contains("keys/kek"), "{}", said(&closed));
    assert!(!own.exists(), "no key is made beside a database that has one");
    fs::write(&own, &digits).unwrap();
    fs::set_permissions(&own, fs::Permissions::from_mode(0o600)).unwrap();
    let open = volary(&["scrub"], &text);
    assert!(said(&open).starts_with("<[scrubbed:capability/canary#"), "{}", said(&open));
    let verified = volary(&["verify"], "");
    assert!(verified.status.success(), "{}", said(&verified));
}

#[test]
fn a_restore_that_is_killed_in_the_middle_leaves_a_home_that_does_not_start_and_says_what_to_do() {
    let place = tempfile::Builder::new().prefix("volary-b-").tempdir_in("/tmp").unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o711)).unwrap();
    let (backup, home) = (place.path().join("backup"), place.path().join("home"));
    fs::create_dir_all(backup.join("profiles")).unwrap();
    let about = "version = \"x\"\nmade = \"x\"\nkey = \"x\"\nsource = \"x\"\n";
    fs::write(backup.join("backup.toml"), about).unwrap();
    // Of this database one half comes, and no more.
    let pipe = backup.join("volary.db");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let restore = Command::new(VOLARY)
        .arg("--home")
        .arg(&home)
        .args(["restore", backup.to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Returns once the restore reads.
    let mut half: File = OpenOptions::new().write(true).open(&pipe).unwrap();
    half.write_all(b"SQLite format 3\0").unwrap();
    kill(restore);
    drop(half);
    assert!(!home.join("server/volary.db").exists());
    for args in [&["up", "--port", "0"][..], &["status"], &["run", "x"], &["restore", backup.to_str().unwrap()]] {
        let refused = volary(&home, args, "");
        let said = said(&refused);
        assert!(
            !refused.status.success() && said.contains("has not ended") && said.contains("rm -r"),
            "{args:?}: {said}"
        );
    }
    assert!(!home.join("server/volary.db").exists());
}
