//! Homes, profiles, ports and disks that cannot be used.

use crate::support::{VOLARY, all, platform, profile, refused};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use testkit::{Platform, leftovers};

fn up(home: &Path, more: &[&str]) -> Output {
    Command::new(VOLARY)
        .args(["up", "--json", "--home"])
        .arg(home)
        .args(more)
        .stdin(Stdio::null())
        .output()
        .expect("volary starts")
}

fn folder(mode: u32) -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("volary-h-").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(mode)).unwrap();
    folder
}

#[test]
fn a_home_that_others_cannot_reach_names_the_folder_in_the_way() {
    let above = folder(0o700);
    let home = above.path().join("home");
    refused(&up(&home, &["--port", "0"]), 1, &[above.path().to_str().unwrap(), "--home", "only its owner can enter"]);
    assert_eq!(leftovers(&home, ""), Vec::<String>::new());
    assert!(!home.exists(), "a home was made and stays");
    // Nor the folders on the way to it; but what was there before stays.
    let there = above.path().join("there");
    std::fs::create_dir(&there).unwrap();
    refused(&up(&there.join("a/b/home"), &["--port", "0"]), 1, &["only its owner can enter"]);
    assert_eq!(std::fs::read_dir(&there).unwrap().count(), 0);
}

#[test]
fn a_home_of_someone_else_is_refused_and_stays_his() {
    let home = folder(0o755);
    chown(home.path(), Some(65534), Some(65534)).unwrap();
    refused(&up(home.path(), &["--port", "0"]), 1, &[home.path().to_str().unwrap(), "belongs to uid 65534", "--home"]);
    assert_eq!(std::fs::metadata(home.path()).unwrap().uid(), 65534);
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn a_home_with_too_long_a_path_says_how_long_it_may_be() {
    let above = folder(0o711);
    let home = above.path().join("x".repeat(100));
    refused(&up(&home, &["--port", "0"]), 1, &["too long a path", "80 bytes"]);
    assert!(!home.exists());
}

#[test]
fn a_second_up_on_one_home_is_refused_and_the_first_goes_on() {
    let platform = platform();
    let (_, port) = platform.url().rsplit_once(':').unwrap();
    // Also when it wants the port of the first, as any second `up` without --port does.
    for port in ["0", port] {
        let words = [platform.home().to_str().unwrap(), "in use", "--home"];
        refused(&up(platform.home(), &["--port", port]), 1, &words);
    }
    let out = platform.cli(&["exec", "--", "echo", "still here"]);
    assert!(out.status.success(), "{}", all(&out));
    platform.stop();
}

#[test]
fn a_taken_port_is_named_with_the_way_out_and_nothing_starts() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let above = folder(0o711);
    for home in [above.path(), &above.path().join("home")] {
        refused(&up(home, &["--port", &port]), 1, &[&port, "taken", "--port"]);
        assert_eq!(leftovers(home, ""), Vec::<String>::new());
        assert_eq!(std::fs::read_dir(above.path()).unwrap().count(), 0, "something was made and stays");
    }
}

#[test]
fn a_database_of_a_newer_version_is_left_alone_and_named_with_the_way_out() {
    let mut platform = platform();
    platform.down();
    let folder = platform.home().join("server");
    let database = folder.join("volary.db");
    let owner = std::fs::metadata(&database).unwrap();
    for old in ["volary.db-wal", "volary.db-shm"] {
        // A clean end may have removed them.
        std::fs::remove_file(folder.join(old)).ok();
    }
    // Made by an engine: one table `schema_versions`, one row: schema 7000, written by 99.0.0.
    std::fs::write(&database, include_bytes!("newer.db")).unwrap();
    chown(&database, Some(owner.uid()), Some(owner.gid())).unwrap();
    let out = up(platform.home(), &["--port", "0"]);
    refused(&out, 1, &[database.to_str().unwrap(), "7000", "99.0.0", "later"]);
    assert_eq!(leftovers(platform.home(), ""), Vec::<String>::new());
    let rows = std::fs::read(&database).unwrap();
    assert!(rows.windows(6).any(|bytes| bytes == b"99.0.0"), "the database was not left as it was");
}

#[test]
fn a_typo_in_a_profile_names_file_and_line_and_no_box_starts() {
    let platform = platform();
    profile(&platform, "typo", "description = \"x\"\n\n[limits]\nmemory-mb = 64\n");
    let out = platform.cli(&["exec", "--profile", "typo", "--", "true"]);
    refused(&out, 125, &["typo.toml", "line 4", "memory-mb", "memory-mib"]);
    let out = platform.cli(&["exec", "--profile", "missing", "--", "true"]);
    refused(&out, 125, &["no profile \"missing\"", "missing.toml"]);
    let out = platform.cli(&["exec", "--profile", "../../etc/passwd", "--", "true"]);
    refused(&out, 125, &["no profile's name"]);
    profile(&platform, "none", "[limits]\nprocesses = 0\n");
    let out = platform.cli(&["exec", "--profile", "none", "--", "true"]);
    refused(&out, 125, &["none.toml", "processes"]);
    assert_eq!(platform.ok(&["runs", "--json"]).matches("\"run\"").count(), 0, "a refused run stands in the list");
}

#[test]
fn a_profiles_folder_that_is_missing_or_the_hosts_own_is_refused_by_name() {
    let platform = platform();
    let home = platform.home().to_str().unwrap();
    let inside = format!("{home}/profiles");
    let cases = [
        ("/no/such/folder", "cannot be opened"),
        ("/etc", "the host's own state"),
        ("/proc", "the host's own state"),
        (home, "the platform's own home"),
        (&inside, "the platform's own home"),
    ];
    for (n, (path, why)) in cases.into_iter().enumerate() {
        let name = format!("folder-{n}");
        profile(&platform, &name, &format!("folders = [{{ path = \"{path}\" }}]\n"));
        refused(&platform.cli(&["exec", "--profile", &name, "--", "true"]), 125, &[path, why]);
    }
    // The control: a folder that is there is shown, and read-only unless said.
    let good = folder(0o755);
    std::fs::write(good.path().join("tool"), "of the host\n").unwrap();
    let path = good.path().to_str().unwrap();
    profile(&platform, "good", &format!("folders = [{{ path = \"{path}\" }}]\n"));
    let line = format!("cat {path}/tool; echo x > {path}/planted");
    let out = platform.cli(&["exec", "--profile", "good", "--", "sh", "-c", &line]);
    assert!(String::from_utf8_lossy(&out.stdout).contains("of the host"), "{}", all(&out));
    assert!(!out.status.success() && !good.path().join("planted").exists(), "{}", all(&out));
}

/// A small file system, unmounted when dropped.
struct Small(tempfile::TempDir);

impl Small {
    fn new(mib: u32) -> Self {
        let at = folder(0o755);
        let size = format!("size={mib}m,mode=755");
        let status = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(at.path()).status().unwrap();
        assert!(status.success(), "a small file system is mounted");
        Self(at)
    }
    fn home(&self) -> PathBuf {
        self.0.path().join("home")
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let status = Command::new("umount").arg(self.0.path()).status().expect("umount starts");
        if !status.success() {
            eprintln!("{} stays mounted", self.0.path().display());
        }
    }
}

#[test]
fn a_disk_without_room_is_named_before_anything_starts() {
    let small = Small::new(400);
    let home = small.home();
    let exec = |profile: &str| {
        Command::new(VOLARY)
            .arg("--home")
            .arg(&home)
            .args(["exec", "--profile", profile, "--", "echo", "ran"])
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    // The built-in profile's worktree may grow to 2 GiB.
    let out = exec("default");
    refused(&out, 125, &["MiB free", "this profile needs", "lower worktree-mib", home.to_str().unwrap()]);
    assert!(!String::from_utf8_lossy(&out.stdout).contains("ran"));
    // The control, and the way out: a smaller worktree runs on the same disk.
    std::fs::write(home.join("profiles/small.toml"), "[limits]\nworktree-mib = 16\n").unwrap();
    let out = exec("small");
    assert_eq!(String::from_utf8_lossy(&out.stdout), "ran\n", "{}", all(&out));
    let inside: Vec<String> = leftovers(&home, "").into_iter().filter(|left| !left.starts_with("a mount")).collect();
    assert_eq!(inside, Vec::<String>::new());
}

#[test]
fn a_home_on_a_disk_that_is_full_to_the_last_byte_is_named() {
    let small = Small::new(1);
    let fill = vec![1u8; 2 << 20];
    // As much as fits.
    std::fs::write(small.0.path().join("fill"), fill).unwrap_err();
    let home = small.home();
    let words = [home.to_str().unwrap(), "0 MiB free", "free some space", "--home"];
    refused(&up(&home, &["--port", "0"]), 1, &words);
    assert!(!home.exists(), "nothing was begun");
}

#[test]
fn a_command_starts_a_platform_for_its_own_length_and_leaves_nothing() {
    let home = folder(0o711);
    let out = Command::new(VOLARY)
        .arg("--home")
        .arg(home.path())
        .args(["exec", "--", "sh", "-c", "sleep 1000 & echo ran"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stdout), "ran\n", "{}", all(&out));
    assert_eq!(leftovers(home.path(), ""), Vec::<String>::new());
    let left: Vec<_> = std::fs::read_dir(home.path().join("run")).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
    let mut platform = Platform::start(VOLARY);
    platform.down();
}
