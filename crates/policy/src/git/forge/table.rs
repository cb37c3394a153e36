//! The rows: what no handle writes to at a forge, by the API that has it.
//!
//! Every endpoint of each API's reference that writes was read for what merges, approves, opens a proposal, or writes a
//! reference or a file, for what decides those (protection, rules, checks, pipelines and their secrets), and for what gives
//! others access or sends what happens elsewhere. Rows that could be taken for the name of somebody's repository are anchored at
//! the root of their API.

use std::fmt::Write as _;

/// One API of forges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// GitHub's, also an Enterprise Server's.
    Github,
    /// GitLab's.
    Gitlab,
    /// Gitea's and Forgejo's.
    Gitea,
    /// Bitbucket's: 2.0 of the cloud, and of a Data Center all below a repository.
    Bitbucket,
}

impl Api {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Github, Self::Gitlab, Self::Gitea, Self::Bitbucket];

    /// As people read it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Github => "GitHub",
            Self::Gitlab => "GitLab",
            Self::Gitea => "Gitea and Forgejo",
            Self::Bitbucket => "Bitbucket",
        }
    }
}

/// One thing that a handle never does.
pub(super) struct Never {
    pub api: Api,
    /// The parts of the path, in order; `*` is any one part, `**` at the end one or more of them.
    pub path: &'static str,
    pub what: &'static str,
}

const fn on(api: Api, path: &'static str, what: &'static str) -> Never {
    Never { api, path, what }
}

const MERGES: &str = "a person merges";
const APPROVES: &str = "a person approves";
const OPENS: &str = "a proposal is the server's to open, and a person's to review";
const REFERENCES: &str = "it writes references past the pack's look";
const COMMITS: &str = "it commits past the pack's look";
const BRANCH: &str = "it writes a branch";
const TAGS: &str = "it makes tags";
const PROTECTS: &str = "it changes what protects branches";
const RUNS: &str = "it runs pipelines, or holds their secrets";
const CHECKS: &str = "it says that checks passed";
const ACCESS: &str = "it gives others access";
const ELSEWHERE: &str = "it sends what happens elsewhere";
const WHOLE: &str = "it changes or removes a whole repository";
const COPIES: &str = "it copies or moves a whole repository";
const NUMBERS: &str = "an issue and a proposal share their numbers: it may close or rewrite a proposal";
const ORDERS: &str = "a text there may be an order to merge, or to make a branch and a proposal";

/// Paths that no handle writes to, whatever the method. A prefix before the API's own root (`/api/v3`) is taken off. The first
/// row that fits says why.
pub(super) const NEVER: &[Never] = &[
    on(Api::Github, "graphql", "GraphQL can do all that the API can"),
    on(Api::Github, "repos/*/*/pulls/*/merge", MERGES),
    on(Api::Github, "repos/*/*/pulls/*/update-branch", BRANCH),
    on(Api::Github, "repos/*/*/pulls/*/reviews", APPROVES),
    on(Api::Github, "repos/*/*/pulls/*/reviews/**", APPROVES),
    on(Api::Github, "repos/*/*/pulls", OPENS),
    on(Api::Github, "repos/*/*/pulls/**", OPENS),
    on(Api::Github, "repos/*/*/issues/*", NUMBERS),
    on(Api::Github, "repos/*/*/bypass-requests/**", APPROVES),
    on(Api::Github, "orgs/*/bypass-requests/**", APPROVES),
    on(Api::Github, "repos/*/*/dismissal-requests/**", APPROVES),
    on(Api::Github, "orgs/*/dismissal-requests/**", APPROVES),
    on(Api::Github, "repos/*/*/merges", "it merges branches"),
    on(Api::Github, "repos/*/*/merge-upstream", BRANCH),
    on(Api::Github, "repos/*/*/git/**", REFERENCES),
    on(Api::Github, "repos/*/*/contents/**", COMMITS),
    on(Api::Github, "repos/*/*/branches/**", PROTECTS),
    on(Api::Github, "repos/*/*/tags/**", "it changes what protects tags"),
    on(Api::Github, "repos/*/*/rulesets", PROTECTS),
    on(Api::Github, "repos/*/*/rulesets/**", PROTECTS),
    on(Api::Github, "orgs/*/rulesets", PROTECTS),
    on(Api::Github, "orgs/*/rulesets/**", PROTECTS),
    on(Api::Github, "enterprises/*/rulesets", PROTECTS),
    on(Api::Github, "enterprises/*/rulesets/**", PROTECTS),
    on(Api::Github, "repos/*/*/properties/**", PROTECTS),
    on(Api::Github, "orgs/*/properties/**", PROTECTS),
    on(Api::Github, "repos/*/*/releases", TAGS),
    on(Api::Github, "repos/*/*/releases/**", TAGS),
    on(Api::Github, "repos/*/*/immutable-releases", "it changes what protects tags"),
    on(Api::Github, "repos/*/*/import", REFERENCES),
    on(Api::Github, "repos/*/*/import/**", REFERENCES),
    on(Api::Github, "repos/*/*/code-scanning/**", "it commits a repair, or takes back what was found"),
    on(Api::Github, "repos/*/*/secret-scanning/**", "it takes back what was found"),
    on(Api::Github, "repos/*/*/automated-security-fixes", "it has proposals opened"),
    on(Api::Github, "agents/repos/**", "it has proposals opened"),
    on(Api::Github, "repos/*/*/actions/**", RUNS),
    on(Api::Github, "orgs/*/actions/**", RUNS),
    on(Api::Github, "enterprises/*/actions/**", RUNS),
    on(Api::Github, "repos/*/*/dependabot/**", RUNS),
    on(Api::Github, "orgs/*/dependabot/**", RUNS),
    on(Api::Github, "repos/*/*/codespaces", RUNS),
    on(Api::Github, "repos/*/*/codespaces/**", RUNS),
    on(Api::Github, "orgs/*/codespaces/**", RUNS),
    on(Api::Github, "user/codespaces", RUNS),
    on(Api::Github, "user/codespaces/**", RUNS),
    on(Api::Github, "repos/*/*/dispatches", RUNS),
    on(Api::Github, "repos/*/*/environments/**", "it changes what protects deployments, or holds their secrets"),
    on(Api::Github, "repos/*/*/deployments", "it merges branches, and runs pipelines"),
    on(Api::Github, "repos/*/*/deployments/**", CHECKS),
    on(Api::Github, "repos/*/*/statuses/**", CHECKS),
    on(Api::Github, "repos/*/*/check-runs", CHECKS),
    on(Api::Github, "repos/*/*/check-runs/**", CHECKS),
    on(Api::Github, "repos/*/*/check-suites", CHECKS),
    on(Api::Github, "repos/*/*/check-suites/**", CHECKS),
    on(Api::Github, "repos/*/*/keys", ACCESS),
    on(Api::Github, "repos/*/*/keys/**", ACCESS),
    on(Api::Github, "repos/*/*/collaborators/**", ACCESS),
    on(Api::Github, "repos/*/*/invitations/**", ACCESS),
    on(Api::Github, "orgs/*/memberships/**", ACCESS),
    on(Api::Github, "orgs/*/members/**", ACCESS),
    on(Api::Github, "orgs/*/invitations", ACCESS),
    on(Api::Github, "orgs/*/outside_collaborators/**", ACCESS),
    on(Api::Github, "orgs/*/teams", ACCESS),
    on(Api::Github, "orgs/*/teams/**", ACCESS),
    on(Api::Github, "teams/*/repos/**", ACCESS),
    on(Api::Github, "teams/*/members/**", ACCESS),
    on(Api::Github, "teams/*/memberships/**", ACCESS),
    on(Api::Github, "user/keys", ACCESS),
    on(Api::Github, "user/keys/**", ACCESS),
    on(Api::Github, "user/gpg_keys", ACCESS),
    on(Api::Github, "user/ssh_signing_keys", ACCESS),
    on(Api::Github, "app/installations/*/access_tokens", ACCESS),
    on(Api::Github, "orgs/*/personal-access-token-requests", ACCESS),
    on(Api::Github, "orgs/*/personal-access-token-requests/**", ACCESS),
    on(Api::Github, "orgs/*/personal-access-tokens", ACCESS),
    on(Api::Github, "orgs/*/personal-access-tokens/**", ACCESS),
    on(Api::Github, "repos/*/*/pages", RUNS),
    on(Api::Github, "repos/*/*/pages/**", RUNS),
    on(Api::Github, "repos/*/*/hooks", ELSEWHERE),
    on(Api::Github, "repos/*/*/hooks/**", ELSEWHERE),
    on(Api::Github, "orgs/*/hooks", ELSEWHERE),
    on(Api::Github, "orgs/*/hooks/**", ELSEWHERE),
    on(Api::Github, "repos/*/*/forks", COPIES),
    on(Api::Github, "repos/*/*/generate", COPIES),
    on(Api::Github, "repos/*/*/transfer", COPIES),
    on(Api::Github, "repos/*/*", WHOLE),
    on(Api::Gitlab, "graphql", "GraphQL can do all that the API can"),
    on(Api::Gitlab, "projects/*/merge_requests/*/merge", MERGES),
    on(Api::Gitlab, "projects/*/merge_requests/*/approve", APPROVES),
    on(Api::Gitlab, "projects/*/merge_requests", ORDERS),
    on(Api::Gitlab, "projects/*/merge_requests/**", ORDERS),
    on(Api::Gitlab, "projects/*/issues", ORDERS),
    on(Api::Gitlab, "projects/*/issues/*", ORDERS),
    on(Api::Gitlab, "projects/*/issues/*/notes", ORDERS),
    on(Api::Gitlab, "projects/*/issues/*/notes/**", ORDERS),
    on(Api::Gitlab, "projects/*/issues/*/discussions", ORDERS),
    on(Api::Gitlab, "projects/*/issues/*/discussions/**", ORDERS),
    on(Api::Gitlab, "suggestions/batch_apply", BRANCH),
    on(Api::Gitlab, "suggestions/*/apply", BRANCH),
    on(Api::Gitlab, "projects/*/merge_trains/**", "it merges"),
    on(Api::Gitlab, "projects/*/repository/**", REFERENCES),
    on(Api::Gitlab, "projects/*/create_ci_config", COMMITS),
    on(Api::Gitlab, "projects/*/mirror/**", REFERENCES),
    on(Api::Gitlab, "projects/*/remote_mirrors", ELSEWHERE),
    on(Api::Gitlab, "projects/*/remote_mirrors/**", ELSEWHERE),
    on(Api::Gitlab, "projects/*/approvals", "it changes who approves"),
    on(Api::Gitlab, "projects/*/approval_rules", "it changes who approves"),
    on(Api::Gitlab, "projects/*/approval_rules/**", "it changes who approves"),
    on(Api::Gitlab, "projects/*/merge_request_approval_setting", "it changes who approves"),
    on(Api::Gitlab, "groups/*/approval_rules", "it changes who approves"),
    on(Api::Gitlab, "groups/*/approval_rules/**", "it changes who approves"),
    on(Api::Gitlab, "groups/*/merge_request_approval_setting", "it changes who approves"),
    on(Api::Gitlab, "projects/*/protected_branches", PROTECTS),
    on(Api::Gitlab, "projects/*/protected_branches/**", PROTECTS),
    on(Api::Gitlab, "groups/*/protected_branches", PROTECTS),
    on(Api::Gitlab, "groups/*/protected_branches/**", PROTECTS),
    on(Api::Gitlab, "projects/*/protected_tags", "it changes what protects tags"),
    on(Api::Gitlab, "projects/*/protected_tags/**", "it changes what protects tags"),
    on(Api::Gitlab, "projects/*/protected_environments", "it changes what protects deployments"),
    on(Api::Gitlab, "projects/*/protected_environments/**", "it changes what protects deployments"),
    on(Api::Gitlab, "groups/*/protected_environments", "it changes what protects deployments"),
    on(Api::Gitlab, "groups/*/protected_environments/**", "it changes what protects deployments"),
    on(Api::Gitlab, "projects/*/push_rule", PROTECTS),
    on(Api::Gitlab, "groups/*/push_rule", PROTECTS),
    on(Api::Gitlab, "projects/*/external_status_checks", CHECKS),
    on(Api::Gitlab, "projects/*/external_status_checks/**", CHECKS),
    on(Api::Gitlab, "projects/*/statuses/**", CHECKS),
    on(Api::Gitlab, "projects/*/deployments", APPROVES),
    on(Api::Gitlab, "projects/*/deployments/**", APPROVES),
    on(Api::Gitlab, "projects/*/environments", RUNS),
    on(Api::Gitlab, "projects/*/environments/**", RUNS),
    on(Api::Gitlab, "projects/*/freeze_periods", "it changes what protects deployments"),
    on(Api::Gitlab, "projects/*/freeze_periods/**", "it changes what protects deployments"),
    on(Api::Gitlab, "projects/*/pipeline", RUNS),
    on(Api::Gitlab, "projects/*/pipelines/**", RUNS),
    on(Api::Gitlab, "projects/*/pipeline_schedules", RUNS),
    on(Api::Gitlab, "projects/*/pipeline_schedules/**", RUNS),
    on(Api::Gitlab, "projects/*/jobs/**", RUNS),
    on(Api::Gitlab, "projects/*/trigger/**", RUNS),
    on(Api::Gitlab, "projects/*/triggers", RUNS),
    on(Api::Gitlab, "projects/*/triggers/**", RUNS),
    on(Api::Gitlab, "projects/*/ref/**", RUNS),
    on(Api::Gitlab, "projects/*/runners", RUNS),
    on(Api::Gitlab, "projects/*/runners/**", RUNS),
    on(Api::Gitlab, "groups/*/runners/**", RUNS),
    on(Api::Gitlab, "user/runners", RUNS),
    on(Api::Gitlab, "projects/*/secure_files", RUNS),
    on(Api::Gitlab, "projects/*/secure_files/**", RUNS),
    on(Api::Gitlab, "projects/*/variables", RUNS),
    on(Api::Gitlab, "projects/*/variables/**", RUNS),
    on(Api::Gitlab, "groups/*/variables", RUNS),
    on(Api::Gitlab, "groups/*/variables/**", RUNS),
    on(Api::Gitlab, "admin/ci/**", RUNS),
    on(Api::Gitlab, "projects/*/releases", TAGS),
    on(Api::Gitlab, "projects/*/releases/**", TAGS),
    on(Api::Gitlab, "projects/*/job_token_scope", ACCESS),
    on(Api::Gitlab, "projects/*/job_token_scope/**", ACCESS),
    on(Api::Gitlab, "projects/*/cluster_agents/**", ACCESS),
    on(Api::Gitlab, "projects/*/deploy_keys", ACCESS),
    on(Api::Gitlab, "projects/*/deploy_keys/**", ACCESS),
    on(Api::Gitlab, "projects/*/access_tokens", ACCESS),
    on(Api::Gitlab, "projects/*/access_tokens/**", ACCESS),
    on(Api::Gitlab, "groups/*/access_tokens", ACCESS),
    on(Api::Gitlab, "groups/*/access_tokens/**", ACCESS),
    on(Api::Gitlab, "projects/*/deploy_tokens", ACCESS),
    on(Api::Gitlab, "projects/*/deploy_tokens/**", ACCESS),
    on(Api::Gitlab, "groups/*/deploy_tokens", ACCESS),
    on(Api::Gitlab, "groups/*/deploy_tokens/**", ACCESS),
    on(Api::Gitlab, "projects/*/members", ACCESS),
    on(Api::Gitlab, "projects/*/members/**", ACCESS),
    on(Api::Gitlab, "groups/*/members", ACCESS),
    on(Api::Gitlab, "groups/*/members/**", ACCESS),
    on(Api::Gitlab, "projects/*/invitations", ACCESS),
    on(Api::Gitlab, "projects/*/invitations/**", ACCESS),
    on(Api::Gitlab, "groups/*/invitations", ACCESS),
    on(Api::Gitlab, "groups/*/invitations/**", ACCESS),
    on(Api::Gitlab, "projects/*/access_requests/**", ACCESS),
    on(Api::Gitlab, "groups/*/access_requests/**", ACCESS),
    on(Api::Gitlab, "projects/*/share", ACCESS),
    on(Api::Gitlab, "projects/*/share/**", ACCESS),
    on(Api::Gitlab, "groups/*/share", ACCESS),
    on(Api::Gitlab, "groups/*/share/**", ACCESS),
    on(Api::Gitlab, "personal_access_tokens/**", ACCESS),
    on(Api::Gitlab, "user/personal_access_tokens", ACCESS),
    on(Api::Gitlab, "users/*/personal_access_tokens", ACCESS),
    on(Api::Gitlab, "users/*/impersonation_tokens", ACCESS),
    on(Api::Gitlab, "users/*/keys", ACCESS),
    on(Api::Gitlab, "projects/*/hooks", ELSEWHERE),
    on(Api::Gitlab, "projects/*/hooks/**", ELSEWHERE),
    on(Api::Gitlab, "groups/*/hooks", ELSEWHERE),
    on(Api::Gitlab, "groups/*/hooks/**", ELSEWHERE),
    on(Api::Gitlab, "projects/*/integrations/**", ELSEWHERE),
    on(Api::Gitlab, "projects/*/services/**", ELSEWHERE),
    on(Api::Gitlab, "groups/*/integrations/**", ELSEWHERE),
    on(Api::Gitlab, "projects/*/fork", COPIES),
    on(Api::Gitlab, "projects/*/fork/**", COPIES),
    on(Api::Gitlab, "projects/*/transfer", COPIES),
    on(Api::Gitlab, "groups/*/projects/*", COPIES),
    on(Api::Gitlab, "projects/*/export", COPIES),
    on(Api::Gitlab, "projects/*/archive", WHOLE),
    on(Api::Gitlab, "projects/*/unarchive", WHOLE),
    on(Api::Gitlab, "api/v4/projects/*", WHOLE),
    on(Api::Gitlab, "api/v4/groups/*", "it changes or removes a whole group"),
    on(Api::Gitea, "repos/*/*/pulls/*/merge", MERGES),
    on(Api::Gitea, "repos/*/*/pulls/*/update", BRANCH),
    on(Api::Gitea, "repos/*/*/pulls/*/reviews", APPROVES),
    on(Api::Gitea, "repos/*/*/pulls/*/reviews/**", APPROVES),
    on(Api::Gitea, "repos/*/*/pulls", OPENS),
    on(Api::Gitea, "repos/*/*/pulls/**", OPENS),
    on(Api::Gitea, "repos/*/*/issues/*", NUMBERS),
    on(Api::Gitea, "repos/*/*/merge-upstream", BRANCH),
    on(Api::Gitea, "repos/*/*/sync_fork", BRANCH),
    on(Api::Gitea, "repos/*/*/sync_fork/**", BRANCH),
    on(Api::Gitea, "repos/*/*/mirror-sync", REFERENCES),
    on(Api::Gitea, "repos/*/*/git/**", REFERENCES),
    on(Api::Gitea, "repos/*/*/contents", COMMITS),
    on(Api::Gitea, "repos/*/*/contents/**", COMMITS),
    on(Api::Gitea, "repos/*/*/diffpatch", COMMITS),
    on(Api::Gitea, "repos/*/*/branches", REFERENCES),
    on(Api::Gitea, "repos/*/*/branches/**", REFERENCES),
    on(Api::Gitea, "repos/*/*/branch_protections", PROTECTS),
    on(Api::Gitea, "repos/*/*/branch_protections/**", PROTECTS),
    on(Api::Gitea, "repos/*/*/tag_protections", "it changes what protects tags"),
    on(Api::Gitea, "repos/*/*/tag_protections/**", "it changes what protects tags"),
    on(Api::Gitea, "repos/*/*/tags", TAGS),
    on(Api::Gitea, "repos/*/*/tags/**", TAGS),
    on(Api::Gitea, "repos/*/*/releases", TAGS),
    on(Api::Gitea, "repos/*/*/releases/**", TAGS),
    on(Api::Gitea, "repos/*/*/actions/**", RUNS),
    on(Api::Gitea, "orgs/*/actions/**", RUNS),
    on(Api::Gitea, "user/actions/**", RUNS),
    on(Api::Gitea, "repos/*/*/statuses/**", CHECKS),
    on(Api::Gitea, "repos/*/*/keys", ACCESS),
    on(Api::Gitea, "repos/*/*/keys/**", ACCESS),
    on(Api::Gitea, "repos/*/*/collaborators/**", ACCESS),
    on(Api::Gitea, "repos/*/*/teams/**", ACCESS),
    on(Api::Gitea, "users/*/tokens", ACCESS),
    on(Api::Gitea, "user/applications/**", ACCESS),
    on(Api::Gitea, "api/v1/admin/**", ACCESS),
    on(Api::Gitea, "repos/*/*/hooks", ELSEWHERE),
    on(Api::Gitea, "repos/*/*/hooks/**", ELSEWHERE),
    on(Api::Gitea, "user/hooks", ELSEWHERE),
    on(Api::Gitea, "user/hooks/**", ELSEWHERE),
    on(Api::Gitea, "repos/*/*/push_mirrors", ELSEWHERE),
    on(Api::Gitea, "repos/*/*/push_mirrors/**", ELSEWHERE),
    on(Api::Gitea, "repos/*/*/push_mirrors-sync", ELSEWHERE),
    on(Api::Gitea, "repos/migrate", COPIES),
    on(Api::Gitea, "repos/*/*/forks", COPIES),
    on(Api::Gitea, "repos/*/*/generate", COPIES),
    on(Api::Gitea, "repos/*/*/transfer", COPIES),
    on(Api::Gitea, "repos/*/*/transfer/**", COPIES),
    on(Api::Gitea, "repos/*/*/convert", WHOLE),
    on(Api::Gitea, "repos/*/*", WHOLE),
    on(Api::Bitbucket, "repositories/*/*/pullrequests/*/merge", MERGES),
    on(Api::Bitbucket, "repositories/*/*/pullrequests/*/approve", APPROVES),
    on(Api::Bitbucket, "repositories/*/*/pullrequests/*/request-changes", APPROVES),
    on(Api::Bitbucket, "repositories/*/*/pullrequests", OPENS),
    on(Api::Bitbucket, "repositories/*/*/pullrequests/**", OPENS),
    on(Api::Bitbucket, "repositories/*/*/refs", REFERENCES),
    on(Api::Bitbucket, "repositories/*/*/refs/**", REFERENCES),
    on(Api::Bitbucket, "repositories/*/*/src", COMMITS),
    on(Api::Bitbucket, "repositories/*/*/src/**", COMMITS),
    on(Api::Bitbucket, "repositories/*/*/commit/**", "it approves, or says that checks passed"),
    on(Api::Bitbucket, "repositories/*/*/branch-restrictions", PROTECTS),
    on(Api::Bitbucket, "repositories/*/*/branch-restrictions/**", PROTECTS),
    on(Api::Bitbucket, "repositories/*/*/branching-model/**", PROTECTS),
    on(Api::Bitbucket, "repositories/*/*/override-settings", PROTECTS),
    on(Api::Bitbucket, "repositories/*/*/default-reviewers/**", "it changes who approves"),
    on(Api::Bitbucket, "repositories/*/*/pipelines", RUNS),
    on(Api::Bitbucket, "repositories/*/*/pipelines/**", RUNS),
    on(Api::Bitbucket, "repositories/*/*/pipelines-config/**", RUNS),
    on(Api::Bitbucket, "repositories/*/*/pipelines_config", RUNS),
    on(Api::Bitbucket, "repositories/*/*/pipelines_config/**", RUNS),
    on(Api::Bitbucket, "repositories/*/*/deployments", RUNS),
    on(Api::Bitbucket, "repositories/*/*/deployments/**", RUNS),
    on(Api::Bitbucket, "repositories/*/*/deployments_config/**", RUNS),
    on(Api::Bitbucket, "repositories/*/*/environments", RUNS),
    on(Api::Bitbucket, "repositories/*/*/environments/**", RUNS),
    on(Api::Bitbucket, "repositories/*/*/deploy-keys", ACCESS),
    on(Api::Bitbucket, "repositories/*/*/deploy-keys/**", ACCESS),
    on(Api::Bitbucket, "repositories/*/*/permissions-config/**", ACCESS),
    on(Api::Bitbucket, "2.0/users/*/ssh-keys", ACCESS),
    on(Api::Bitbucket, "2.0/users/*/ssh-keys/**", ACCESS),
    on(Api::Bitbucket, "repositories/*/*/hooks", ELSEWHERE),
    on(Api::Bitbucket, "repositories/*/*/hooks/**", ELSEWHERE),
    on(Api::Bitbucket, "repositories/*/*/forks", COPIES),
    on(Api::Bitbucket, "2.0/repositories/*/*", WHOLE),
    on(Api::Bitbucket, "2.0/workspaces/**", "it changes a workspace: who has access, what runs, where events go"),
    on(Api::Bitbucket, "2.0/teams/**", "it changes a workspace: who has access, what runs, where events go"),
    on(Api::Bitbucket, "!api/**", "it is an API of the pages' own, which can do all that they can"),
    on(Api::Bitbucket, "internal/repositories/**", "it is an API of the pages' own, which can do all that they can"),
    on(Api::Bitbucket, "rest/*/*/projects/*/repos/**", "nothing is written below a repository of a Data Center"),
    on(Api::Bitbucket, "rest/*/*/users/*/repos/**", "nothing is written below a repository of a Data Center"),
    on(Api::Bitbucket, "rest/*/*/projects/**", "nothing is written below a project of a Data Center"),
    on(Api::Bitbucket, "rest/build-status/**", CHECKS),
    on(Api::Bitbucket, "rest/access-tokens/**", ACCESS),
    on(Api::Bitbucket, "rest/ssh/**", ACCESS),
    on(Api::Bitbucket, "rest/keys/**", ACCESS),
];

/// The table as a page of `docs/generated`.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(
        "# What no handle writes to at a forge\n\nGenerated from `policy::git::forge`; do not edit. Whatever a profile's row says, and \
         whatever the method but GET and HEAD (GraphQL not by those either). `*` is one part of a path, `**` one or more; what stands \
         before a row's first part does not matter, nor does a format behind its last (`.json`, `.txt`, any), a parameter behind a \
         semicolon, or how it is spelled. What GitHub takes by number (`repositories/ID`, `organizations/ID`, `organizations/ID/team/ID`) \
         is what it takes by name (`repos/*/*`, `orgs/*`, `orgs/*/teams/*`).\n",
    );
    for api in Api::ALL {
        // Writing to a String does not fail.
        let _ = writeln!(page, "\n## {}\n\n| path | why |\n|---|---|", api.word());
        for row in NEVER.iter().filter(|row| row.api == api) {
            let _ = writeln!(page, "| `{}` | {} |", row.path, row.what);
        }
    }
    page
}
