//! Becoming the owner of a repository, before anything in it is opened.

use super::Problem;
use rustix::process::{Gid, Uid, geteuid};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Takes the user and group of the folder `path` for good, when this process is root and they are not root's;
/// gives the path without links. Single-threaded callers only: the rights of the calling thread are changed.
///
/// # Errors
/// [`Problem`] when the path is a URL or relative, is not there, is no folder, or its owner cannot reach it.
pub fn become_owner(path: &Path) -> Result<PathBuf, Problem> {
    let shown = path.display();
    if path.to_str().is_some_and(is_url) {
        let message = format!("{shown} is a URL. Runs from a URL come with the git gateway; give a path on this host.");
        return Err(Problem::new("repo.url", message));
    }
    if !path.is_absolute() {
        return Err(Problem::new("repo.relative", format!("{shown} is not an absolute path.")));
    }
    let about = std::fs::metadata(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => {
            Problem::new("repo.none", format!("{shown} is not there; give the path of a git repository."))
        }
        _ => Problem::new("repo.unreachable", format!("{shown} cannot be looked at: {e}.")),
    })?;
    if !about.is_dir() {
        return Err(Problem::new("repo.none", format!("{shown} is not a folder; give the path of a git repository.")));
    }
    if geteuid().is_root() && about.uid() != 0 {
        let failed = |e: rustix::io::Errno| {
            Problem::new("repo.owner", format!("this process could not become uid {}: {e}", about.uid()))
        };
        let (uid, gid) = (Uid::from_raw(about.uid()), Gid::from_raw(about.gid()));
        let parent = rustix::process::getppid();
        // Groups first: without root they can no longer be given up.
        rustix::thread::set_thread_groups(&[]).map_err(failed)?;
        rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(failed)?;
        rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(failed)?;
        super::rein::tie_again(parent)?;
    }
    reach(path, about.uid())?;
    path.canonicalize().map_err(|e| Problem::new("repo.unreachable", format!("{shown} cannot be resolved: {e}.")))
}

/// Names the first folder on the way that the owner may not enter.
fn reach(path: &Path, uid: u32) -> Result<(), Problem> {
    if std::fs::read_dir(path).is_ok() {
        return Ok(());
    }
    let mut way: Vec<&Path> = path.ancestors().collect();
    way.reverse();
    for folder in way {
        if let Err(e) = std::fs::metadata(folder.join(".")) {
            return Err(Problem::new(
                "repo.unreachable",
                format!(
                    "{} belongs to uid {uid}, who cannot enter {}: {e}. Open that folder to them, or move the \
                     repository.",
                    path.display(),
                    folder.display()
                ),
            ));
        }
    }
    Err(Problem::new("repo.unreachable", format!("{} cannot be read by its owner, uid {uid}.", path.display())))
}

/// `scheme://…` or the short form `[user@]host:path`.
fn is_url(text: &str) -> bool {
    text.contains("://") || (!text.starts_with('/') && text.split('/').next().is_some_and(|first| first.contains(':')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_in_either_form_is_refused_with_the_way_out() {
        for url in ["https://example.org/x.git", "ssh://git@example.org/x", "git@example.org:x.git", "file:///srv/x"] {
            let problem = become_owner(Path::new(url)).unwrap_err();
            assert_eq!(problem.code, "repo.url");
            assert!(problem.message.contains("git gateway; give a path"), "{problem}");
        }
        assert_eq!(become_owner(Path::new("some/where")).unwrap_err().code, "repo.relative");
    }
}
