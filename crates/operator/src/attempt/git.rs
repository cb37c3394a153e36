//! The branch that is a run's own, and what its agent is told of git.

use api::link::Launch;

/// The variable in which commands find the branch that is their run's own.
const BRANCH: &str = "VOLARY_BRANCH";

/// The branch that is a run's own, where there is a way to a repository.
pub(super) fn branch(launch: &Launch) -> Option<&str> {
    launch.variables.iter().find(|(name, _)| name == BRANCH).map(|(_, branch)| branch.as_str())
}

/// How git is used, where there is a way to a repository. `base` is the commit that the worktree began with.
pub(super) fn of_git(launch: &Launch, base: Option<&str>) -> String {
    let Some(branch) = branch(launch) else {
        return "\n\nGit has no remote in this run.\n".to_owned();
    };
    // Names of SHA-256, which a box's own repository does not have.
    if base.is_some_and(|base| base.len() == 64) {
        return "\n\nThe repository's objects are named by SHA-256: its history is read with `git clone \"$(git remote get-url origin)\" /tmp/history`, \
                and nothing is pushed to it. What you change in the worktree is the result.\n"
            .to_owned();
    }
    let agent = launch.agent.as_ref().map_or("agent", |agent| agent.model.name.as_str());
    let propose = if launch.profile.repository.iter().any(|row| row.secret.is_some()) {
        " After your last push, call `propose` with a title and a text for the pull request."
    } else {
        ""
    };
    format!(
        "\n\nGit has a remote in this run, origin, which is read and pushed to without any credential of yours. The \
         worktree begins without history; `git fetch --depth 50 origin {} && git reset -q FETCH_HEAD` gives it its own, and \
         `git fetch --unshallow` all of it. To have a change looked at, commit it and `git push origin HEAD`: the only branch \
         that may be pushed is {branch}, on which you are. Each commit has the author that git is set to here, and is made \
         with `git commit --trailer 'Agent: volary/{agent}'`; others are not pushed.{propose} A person reviews and merges.\n",
        base.unwrap_or("HEAD")
    )
}
