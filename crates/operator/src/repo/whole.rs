//! Whether a repository is all its own. A few lines in it make git read, and write, another one: `commondir`, a `.git` that is
//! a file, links, `alternates`. Through a repository that holds them a box would read elsewhere.
//!
//! Read [`is_whole`].

use super::Problem;
use super::git::Git;
use std::ffi::OsString;
use std::fs::{canonicalize, read, read_dir, symlink_metadata};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// Whether all that git reads of the repository at `path`, an absolute path without links, lies in it: in `path/.git`, or in
/// `path` of a bare one. Of a linked worktree, or a submodule, it lies in a repository that knows this place as its own.
///
/// # Errors
/// `repo.borrows`, `repo.elsewhere`; `git.failed` when git does not say.
pub(super) fn is_whole(git: &Git, path: &Path) -> Result<(), Problem> {
    is_at(git, path)?;
    let borrows = || {
        let message = "The run's repository borrows objects from another one, and is not served to a box. On its host, `git repack -a -d` \
                       and then removing objects/info/alternates makes it whole.";
        Problem::new("repo.borrows", message)
    };
    let objects = git.inside("objects")?;
    if !is_folder(&objects) || symlink_metadata(objects.join("info/alternates")).is_ok() {
        return Err(borrows());
    }
    for folder in [objects.clone(), objects.join("pack")] {
        let Ok(entries) = read_dir(folder) else { continue };
        for entry in entries {
            let kind = entry.and_then(|entry| entry.file_type()).map_err(Problem::io("look at the objects"))?;
            if kind.is_symlink() {
                return Err(borrows());
            }
        }
    }
    Ok(())
}

/// Whether git finds the repository where `path` says that it is.
fn is_at(git: &Git, path: &Path) -> Result<(), Problem> {
    let elsewhere = || {
        let message = "The run's repository is kept in another place, which does not know it as a worktree of its own, and is not \
                       served to a box.";
        Problem::new("repo.elsewhere", message)
    };
    let (own, common) = (found(git, path, "--absolute-git-dir")?, found(git, path, "--git-common-dir")?);
    let top = if git.bare { path.to_owned() } else { path.join(".git") };
    // Both are without links here, as `path` is.
    if own == common {
        return if own == top || is_of(git, &own, path) { Ok(()) } else { Err(elsewhere()) };
    }
    // A worktree may say of itself whose it is; what counts is that the other says so, too.
    let is_linked = own.parent() == Some(&common.join("worktrees")) && own.join("commondir").is_file();
    let back = read(own.join("gitdir")).map_err(|_| elsewhere())?;
    let back = own.join(OsString::from_vec(back.strip_suffix(b"\n").unwrap_or(&back).to_vec()));
    let is_known = canonicalize(back).is_ok_and(|back| back == top);
    if is_linked && is_known { Ok(()) } else { Err(elsewhere()) }
}

/// Whether the repository `own` says itself that its files are at `path`, as a submodule's does.
fn is_of(git: &Git, own: &Path, path: &Path) -> bool {
    let config = own.join("config");
    let Some(config) = config.to_str() else { return false };
    let said = git.run(&["config", "--file", config, "core.worktree"]).ok().filter(|said| said.status.success());
    let Some(said) = said else { return false };
    let said = said.stdout.strip_suffix(b"\n").unwrap_or(&said.stdout).to_vec();
    canonicalize(own.join(OsString::from_vec(said))).is_ok_and(|at| at == path)
}

/// A folder of git's, without links.
fn found(git: &Git, path: &Path, which: &str) -> Result<PathBuf, Problem> {
    let said = git.run(&["rev-parse", which])?;
    if !said.status.success() {
        return Err(super::git::failed(&["rev-parse"], &said.stderr));
    }
    let said = said.stdout.strip_suffix(b"\n").unwrap_or(&said.stdout);
    canonicalize(path.join(OsString::from_vec(said.to_vec()))).map_err(Problem::io("look where the repository is"))
}

fn is_folder(path: &Path) -> bool {
    symlink_metadata(path).is_ok_and(|about| about.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::process::Command;

    fn git(at: &Path, args: &[&str]) {
        let mut git = Command::new("git");
        git.current_dir(at).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        git.args(["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]).args(args);
        let said = git.output().unwrap();
        assert!(said.status.success(), "{args:?}: {}", String::from_utf8_lossy(&said.stderr));
    }

    fn judged(path: &Path) -> Result<(), String> {
        let git = Git::open(path).unwrap();
        is_whole(&git, path).map_err(|no| no.code)
    }

    #[test]
    fn a_repository_is_served_where_it_is_its_own_and_where_another_one_knows_it_as_its_worktree() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        let (own, bare, linked) = (top.join("own"), top.join("bare.git"), top.join("linked"));
        git(&top, &["init", "-q", "own"]);
        git(&own, &["commit", "-q", "--allow-empty", "-m", "it"]);
        git(&top, &["clone", "-q", "--bare", "own", "bare.git"]);
        git(&own, &["worktree", "add", "-q", "--detach", "../linked"]);
        for path in [&own, &bare, &linked] {
            assert_eq!(judged(path), Ok(()), "{}", path.display());
        }
        // A worktree that is written with a path relative to its repository's.
        fs::write(own.join(".git/worktrees/linked/gitdir"), "../../../../linked/.git\n").unwrap();
        assert_eq!(judged(&linked), Ok(()));
        git(&own, &["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", "../bare.git", "sub"]);
        assert!(own.join("sub/.git").is_file());
        assert_eq!(judged(&own.join("sub")), Ok(()));
    }

    #[test]
    fn what_makes_git_read_another_repository_is_not_served() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        let private = top.join("private");
        git(&top, &["init", "-q", "private"]);
        git(&private, &["commit", "-q", "--allow-empty", "-m", "it"]);
        git(&private, &["worktree", "add", "-q", "--detach", "../linked"]);
        let at = private.join(".git").display().to_string();
        let tree = format!("{at}/worktrees/linked");
        let fresh = |name: &str| {
            git(&top, &["init", "-q", name]);
            top.join(name)
        };
        let file = |name: &str, text: &str| {
            let path = fresh(name);
            fs::remove_dir_all(path.join(".git")).unwrap();
            fs::write(path.join(".git"), text).unwrap();
            path
        };
        let common = fresh("common");
        fs::write(common.join(".git/commondir"), format!("{at}\n")).unwrap();
        let link = fresh("link");
        fs::remove_dir_all(link.join(".git")).unwrap();
        std::os::unix::fs::symlink(&at, link.join(".git")).unwrap();
        // A folder in the form of a worktree's, which the other does not have.
        let forged = file("forged", "gitdir: worktrees/forged\n");
        let inside = forged.join("worktrees/forged");
        fs::create_dir_all(&inside).unwrap();
        for (name, text) in [
            ("HEAD", "ref: refs/heads/main\n".to_owned()),
            ("commondir", format!("{at}\n")),
            ("gitdir", format!("{}\n", forged.join(".git").display())),
        ] {
            fs::write(inside.join(name), text).unwrap();
        }
        for path in [
            common,
            link,
            forged,
            file("named", &format!("gitdir: {at}\n")),
            file("anothers", &format!("gitdir: {tree}\n")),
        ] {
            assert_eq!(judged(&path), Err("repo.elsewhere".into()), "{}", path.display());
        }
        let borrows = fresh("borrows");
        fs::write(borrows.join(".git/objects/info/alternates"), format!("{at}/objects\n")).unwrap();
        assert_eq!(judged(&borrows), Err("repo.borrows".into()));
    }
}
