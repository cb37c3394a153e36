//! Git repositories for tests.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A repository in a folder of its own in `/tmp`, removed when dropped.
///
/// Made by the machine's git with no configuration but its own, so that it is the same on every machine.
pub struct Repo {
    // Held for its drop.
    _folder: tempfile::TempDir,
    path: PathBuf,
}

/// A C program with a fault that its test finds: `max` gives the smaller one.
const MAX_C: &str = "int max(int a, int b) {\n    return a < b ? a : b;\n}\n";
const MAX_TEST_C: &str = "int max(int a, int b);\n\nint main(void) {\n    if (max(1, 2) != 2) return 1;\n    if (max(2, 1) != 2) return 2;\n    return 0;\n}\n";
const TEST_SH: &str = "#!/bin/sh\nset -e\ncc -o /tmp/max-test max.c max_test.c\nif /tmp/max-test; then echo PASS; else echo FAIL; exit 1; fi\n";

impl Repo {
    /// A repository without a commit.
    ///
    /// # Panics
    /// When git is missing or fails, as everything here does.
    #[must_use]
    pub fn empty() -> Self {
        let folder = tempfile::Builder::new().prefix("volary-r-").tempdir_in("/tmp").expect("/tmp can be written");
        // Owners and boxes of other uids pass through it.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path(), mode).expect("its mode can be set");
        let path = folder.path().join("repo");
        std::fs::create_dir(&path).expect("a new folder");
        let repo = Self { _folder: folder, path };
        drop(repo.git(&["init", "--quiet", "--initial-branch=main"]));
        repo
    }

    /// A small C program with a fault, a test that finds it (`sh test.sh`), one commit on `main`.
    ///
    /// The fix: in `max.c`, `a < b` becomes `a > b`.
    #[must_use]
    pub fn failing() -> Self {
        let repo = Self::empty();
        repo.write("max.c", MAX_C.as_bytes());
        repo.write("max_test.c", MAX_TEST_C.as_bytes());
        repo.write("test.sh", TEST_SH.as_bytes());
        repo.write("README.md", b"# max\n\nThe larger of two numbers. `sh test.sh` tests it.\n");
        repo.commit("A faulty max");
        repo
    }

    /// One commit of `count` small files, 1,000 a folder.
    #[must_use]
    pub fn of_files(count: u32) -> Self {
        let repo = Self::empty();
        for n in 0..count {
            let folder = repo.path.join(format!("d{:04}", n / 1000));
            if n % 1000 == 0 {
                std::fs::create_dir(&folder).expect("a new folder");
            }
            std::fs::write(folder.join(format!("f{:03}", n % 1000)), format!("{n}\n")).expect("a file is written");
        }
        repo.commit("Many files");
        repo
    }

    /// The worktree's folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The same as text.
    #[must_use]
    pub fn path_str(&self) -> &str {
        self.path.to_str().expect("a path in UTF-8")
    }

    /// Writes a file of the worktree, folders above it too.
    pub fn write(&self, name: &str, content: &[u8]) {
        let file = self.path.join(name);
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).expect("its folder is made");
        }
        std::fs::write(file, content).expect("a file is written");
    }

    /// Reads a file of the worktree as text.
    #[must_use]
    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path.join(name)).expect("a file is read")
    }

    /// Commits everything that is there.
    pub fn commit(&self, message: &str) {
        drop(self.git(&["add", "--all"]));
        drop(self.git(&["commit", "--quiet", "--allow-empty", "--message", message]));
    }

    /// Runs git in the worktree and gives its output without the last line end.
    #[must_use]
    pub fn git(&self, args: &[&str]) -> String {
        let out = Command::new("git")
            .arg("-C")
            .arg(&self.path)
            .args(args)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .envs([
                ("GIT_CONFIG_GLOBAL", "/dev/null"),
                ("GIT_CONFIG_SYSTEM", "/dev/null"),
                ("GIT_AUTHOR_NAME", "Tess Ter"),
                ("GIT_AUTHOR_EMAIL", "tess@example.org"),
                ("GIT_AUTHOR_DATE", "2026-01-02T03:04:05Z"),
                ("GIT_COMMITTER_NAME", "Tess Ter"),
                ("GIT_COMMITTER_EMAIL", "tess@example.org"),
                ("GIT_COMMITTER_DATE", "2026-01-02T03:04:05Z"),
            ])
            .output()
            .expect("git starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches('\n').to_owned();
        assert!(out.status.success(), "git {}: {}", args.join(" "), text(&out.stderr));
        text(&out.stdout)
    }

    /// What a run must not touch: the checked-out branch, the index' bytes, and the state of the worktree.
    #[must_use]
    pub fn untouched(&self) -> (String, Vec<u8>, String) {
        let status = self.git(&["--no-optional-locks", "status", "--porcelain=v2", "--branch", "--ignored"]);
        let index = std::fs::read(self.path.join(".git/index")).unwrap_or_default();
        (self.git(&["symbolic-ref", "HEAD"]), index, status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_failing_repository_fails_its_test_until_the_one_fault_is_fixed() {
        let repo = Repo::failing();
        let test = || Command::new("sh").arg("test.sh").current_dir(repo.path()).output().unwrap().status.success();
        assert!(!test());
        repo.write("max.c", MAX_C.replace("a < b", "a > b").as_bytes());
        assert!(test());
    }

    #[test]
    fn a_new_file_shows_in_what_a_run_must_not_touch() {
        let repo = Repo::failing();
        let before = repo.untouched();
        assert_eq!(before, repo.untouched());
        repo.write("new", b"x");
        assert_ne!(before, repo.untouched());
    }
}
