//! The branch of the box's own repository is named as the run's own, so that what is pushed by its name is that branch.

use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// The variable that names it.
const BRANCH: &str = "VOLARY_BRANCH";
/// What a fresh repository's `HEAD` says.
const FRESH: &str = "ref: refs/heads/work\n";

/// Names the branch of the repository at `git`, when it is fresh still: what the agent made of it stays as it is.
///
/// # Errors
/// The system's own, where there is such a repository.
pub fn name(git: &Path, variables: &[(String, String)]) -> io::Result<()> {
    let Some((_, branch)) = variables.iter().find(|(name, _)| name == BRANCH) else { return Ok(()) };
    let mut options = std::fs::OpenOptions::new();
    let mut head = match options.read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(git.join("HEAD")) {
        Ok(head) => head,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut said = String::new();
    if std::io::Read::by_ref(&mut head).take(1024).read_to_string(&mut said).is_err() || said != FRESH {
        return Ok(());
    }
    head.rewind()?;
    head.set_len(0)?;
    head.write_all(format!("ref: refs/heads/{branch}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_repository_has_the_runs_own_branch_and_another_keeps_its_own() {
        let folder = std::env::temp_dir().join(format!("runner-branch-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let head = folder.join("HEAD");
        let variables = [("VOLARY_BRANCH".to_owned(), "pr/a/b".to_owned())];
        name(&folder, &variables).unwrap();
        for (before, given, after) in [
            (FRESH, &variables[..], "ref: refs/heads/pr/a/b\n"),
            (FRESH, &[], FRESH),
            ("ref: refs/heads/mine\n", &variables, "ref: refs/heads/mine\n"),
        ] {
            std::fs::write(&head, before).unwrap();
            name(&folder, given).unwrap();
            assert_eq!(std::fs::read_to_string(&head).unwrap(), after);
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
