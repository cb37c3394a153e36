//! What would keep a result out of its repository, found while nothing is lost yet.

use super::Problem;
use super::git::Git;
use std::path::Path;

/// Bytes that the repository's disk must have free for a result.
pub const LEAST_FREE: u64 = 64 << 20;

/// Why no result could be brought into the repository at `path` as it is now: a sentence with the way out.
#[must_use]
pub fn obstacle(git: &Git, path: &Path) -> Option<String> {
    branch(git, path).and_then(|()| room(git)).err().map(|problem| problem.message)
}

/// A branch named `volary` rules out every branch named `volary/<run>`.
fn branch(git: &Git, path: &Path) -> Result<(), Problem> {
    if !git.run(&["show-ref", "--verify", "--quiet", "refs/heads/volary"])?.status.success() {
        return Ok(());
    }
    let message = format!(
        "{} has a branch named volary, so that the result's branch, volary/<run>, cannot be made: git keeps no \
         branch below another. Rename it (`git branch -m volary OTHERNAME`) and run again.",
        path.display()
    );
    Err(Problem::new("repo.branch", message))
}

/// Looks for room on the repository's disk.
///
/// # Errors
/// [`Problem`] with what is free and what is needed, when less than [`LEAST_FREE`] is free.
pub fn room(git: &Git) -> Result<(), Problem> {
    let objects = git.inside("objects")?;
    let shown = objects.display();
    let stat =
        rustix::fs::statvfs(&objects).map_err(|e| Problem::new("repo.io", format!("look for room in {shown}: {e}")))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if free >= LEAST_FREE {
        return Ok(());
    }
    let message = format!(
        "the repository's disk is full: {} MiB are free where {shown} is, and a result needs at least {} MiB. Free \
         some space there.",
        free >> 20,
        LEAST_FREE >> 20
    );
    Err(Problem::new("disk.full", message))
}
