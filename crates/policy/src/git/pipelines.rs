//! Which files decide what a forge runs: those of a list that comes with Volary, and those that a profile's row adds. No row
//! takes one away.
//!
//! A pattern is a path in which `*` is any characters of one name. `**/` before it is any folder, the root too; with a slash
//! at its end it is the file or folder of that name, and everything in it. Upper and lower case are the same.
//!
//! Read [`Pipelines`], then [`check`].

use model::Repository;
use std::cmp::Ordering;
use std::ops::Range;
use std::sync::LazyLock;

/// What comes with Volary; see its own first lines.
const TEXT: &str = include_str!("pipelines.txt");
static KNOWN: LazyLock<Vec<Pattern>> = LazyLock::new(|| lines().map(Pattern::of).collect());
/// Patterns that one repository's row adds.
pub const MAX_OWN: usize = 64;
/// Longest of them, in bytes.
pub const MAX_PATTERN: usize = 250;

/// The files that decide what a forge runs in one repository. Made once for a push: a push has very many paths.
pub struct Pipelines(Vec<Pattern>);

impl Pipelines {
    /// Those that are known, and those that the row adds.
    #[must_use]
    pub fn of(row: &Repository) -> Self {
        Self(row.pipelines.iter().map(|pattern| Pattern::of(pattern)).collect())
    }

    /// Whether a path is one of them. With a slash at its end it is a folder that was taken away, or what may lead to one.
    ///
    /// Costs at most the path's length times the patterns' length: a box chooses the path, never the patterns. Of the
    /// patterns of any folder, those that end in a file look at the end of the path alone.
    #[must_use]
    pub fn hold(&self, path: &str) -> bool {
        let path = path.to_ascii_lowercase();
        let bare = path.trim_end_matches('/');
        let (names, is_folder): (Vec<&str>, _) = (bare.split('/').collect(), bare.len() < path.len());
        KNOWN.iter().chain(&self.0).any(|pattern| pattern.fits(&names, is_folder))
    }
}

fn lines() -> impl Iterator<Item = &'static str> {
    TEXT.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// One pattern, taken apart.
struct Pattern {
    parts: Vec<Part>,
    /// `**/` stands before it.
    anywhere: bool,
    /// A slash stands at its end.
    whole: bool,
}

impl Pattern {
    fn of(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        let (rest, anywhere) = text.strip_prefix("**/").map_or((&*text, false), |rest| (rest, true));
        let (rest, whole) = rest.strip_suffix('/').map_or((rest, false), |rest| (rest, true));
        Self { parts: rest.split('/').map(Part::of).collect(), anywhere, whole }
    }

    fn fits(&self, names: &[&str], is_folder: bool) -> bool {
        self.places(names.len(), is_folder).any(|from| self.fits_here(&names[from..], is_folder))
    }

    /// At which of so many names it may begin.
    fn places(&self, names: usize, is_folder: bool) -> Range<usize> {
        let first = if self.whole { 0 } else { names.saturating_sub(self.parts.len()) };
        match (self.anywhere, self.whole || is_folder) {
            (false, _) => 0..1,
            (true, true) => first..names,
            // A file ends where its pattern ends.
            (true, false) => first..first + 1,
        }
    }

    fn fits_here(&self, names: &[&str], is_folder: bool) -> bool {
        let is_as_long = match names.len().cmp(&self.parts.len()) {
            // A folder above it: that changes what is in it too. A file there has nothing in it.
            Ordering::Less => is_folder,
            Ordering::Equal => true,
            Ordering::Greater => self.whole,
        };
        is_as_long && self.parts.iter().zip(names).all(|(part, name)| part.fits(name))
    }
}

/// What one name is to be: a text, or texts with stars between them.
struct Part {
    start: String,
    /// What stands between two stars, and after the last; none without a star.
    rest: Option<(Vec<String>, String)>,
}

impl Part {
    fn of(text: &str) -> Self {
        let mut pieces = text.split('*').map(str::to_owned);
        let start = pieces.next().unwrap_or_default();
        let rest = pieces.next_back().map(|end| (pieces.collect(), end));
        Self { start, rest }
    }

    /// Each piece between two stars is looked for once, so that stars cost no more than the name is long.
    fn fits<'n>(&self, name: &'n str) -> bool {
        let Some((pieces, end)) = &self.rest else { return self.start == name };
        let rest = name.strip_prefix(&*self.start).and_then(|rest| rest.strip_suffix(&**end));
        let after = |rest: &'n str, piece: &String| rest.find(&**piece).map(|at| &rest[at + piece.len()..]);
        rest.and_then(|rest| pieces.iter().try_fold(rest, after)).is_some()
    }
}

/// Checks the patterns that a row adds.
///
/// # Errors
/// What is wrong with the first that is, as the end of a sentence.
pub(super) fn check(row: &Repository) -> Result<(), String> {
    let id = &row.id;
    if row.pipelines.len() > MAX_OWN {
        return Err(format!("the repository {id:?} names more than {MAX_OWN} pipelines"));
    }
    // What seems to narrow and does not is worse than nothing.
    if row.pipelines_without_secrets && !row.pipelines.is_empty() {
        return Err(format!("the repository {id:?} names pipelines, and by pipelines-without-secrets none is held"));
    }
    row.pipelines.iter().try_for_each(|pattern| {
        pattern_is_plain(pattern)
            .map_err(|why| format!("the repository {id:?} has the pipeline {pattern:?}, which {why}"))
    })
}

fn pattern_is_plain(pattern: &str) -> Result<(), String> {
    if pattern.is_empty() || pattern.len() > MAX_PATTERN {
        return Err(format!("is none of 1 to {MAX_PATTERN} bytes"));
    }
    if pattern.starts_with('/') {
        return Err("begins with a slash: it stands from the repository's root anyway".into());
    }
    // Read as a name it would fit no file that was meant.
    if pattern.chars().any(|c| c.is_control() || "\\?[]{}!".contains(c)) {
        return Err("holds a character that stands for nothing here; `*` does, and `**/` at the start".into());
    }
    let rest = pattern.strip_prefix("**/").unwrap_or(pattern);
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.split('/').any(|part| matches!(part, "" | "." | "..") || part.contains("**")) {
        return Err("has an empty part, `.`, `..`, or `**` elsewhere than at the start".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(more: &str) -> Repository {
        toml::from_str(&format!("id = \"app\"\nurl = \"https://github.com/acme/app.git\"\n{more}")).unwrap()
    }

    fn is_pipeline(row: &Repository, path: &str) -> bool {
        Pipelines::of(row).hold(path)
    }

    #[test]
    fn pipeline_files_are_known_in_any_spelling_and_what_takes_them_away_too() {
        let row = row("");
        for path in [
            ".github/workflows/ci.yml",
            ".GitHub/Workflows/ci.yml",
            ".github/workflows",
            ".github/",
            ".github/actions/setup/action.yml",
            "tools/setup/action.yaml",
            ".gitlab-ci.yml",
            "ci-templates/build.gitlab-ci.yml",
            ".forgejo/workflows/x.yaml",
            ".gitea/workflows/x.yaml",
            "Jenkinsfile",
            "deploy/Jenkinsfile.prod",
            "Jenkinsfile-release",
            "x.Jenkinsfile",
            "build/release.jenkinsfile",
            "jenkinsfiles/nightly.groovy",
            "azure-pipelines-release.yml",
            "build/azure-pipelines.yml",
            ".azure-pipelines/steps/x.yml",
            "bitrise.yml",
            "codemagic.yaml",
            ".zuul.yaml",
            "zuul.yaml",
            "zuul.d/jobs.yaml",
            ".zuul.d/jobs.yaml",
            ".prow.yaml",
            ".prow/x.yaml",
            "amplify.yml",
            "app.json",
            "heroku.yml",
            "Procfile",
            ".platform.app.yaml",
            "shop/.platform.app.yaml",
            ".upsun/config.yaml",
            ".drone.yml",
            ".drone.star",
            ".woodpecker.yaml",
            ".woodpecker/test.yml",
            ".buildkite/pipeline.yml",
            "buildkite.yml",
            "buildkite/pipeline.yml",
            ".semaphore/semaphore.yml",
            "appveyor.yml",
            ".appveyor.yml",
            "ci/pipeline.yml",
            ".teamcity/settings.kts",
            "screwdriver.yaml",
            ".tekton/push.yaml",
            ".cirrus.yml",
            "codefresh.yml",
            ".codefresh/x.yml",
            ".vela.yml",
            "netlify.toml",
            "site/netlify.toml",
            "vercel.json",
            "shop/vercel.json",
            "vercel.ts",
            "render.yaml",
            "fly.toml",
            "api/fly.prod.toml",
            "railway.json",
            "packit.yaml",
            "hooks/build",
            "hooks/pre_build",
            "cloudbuild-prod.yaml",
            "api/cloudbuild.yaml",
            "buildspec.yml",
            "deploy/buildspec-test.yml",
            "skaffold.yaml",
            ".pre-commit-config.yaml",
            "atlantis.yaml",
        ] {
            assert!(is_pipeline(&row, path), "{path}");
        }
        for path in [
            "src/main.rs",
            ".github/ISSUE_TEMPLATE.md",
            "docs/.github/workflows/x",
            ".gitignore",
            "README.md",
            "renovate.json",
            ".github/dependabot.yml",
            "src/action.rs",
            "docs/ci/x.md",
            "cicd.md",
            "src/app.json",
            "src/hooks/build.ts",
            "hooks/pre_gen_project.py",
            "hooks/post_gen_project.sh",
            "public/vercel.svg",
            "src/vercel.ts",
            "flyway.toml",
            "src/buildspec.rs",
            "src/buildspec/mod.rs",
            "pkg/cloudbuild/client.go",
            "pkg/clouddeploy.go",
            "src/nixpacks.rs",
            "docs/azure-pipelines.md",
            "src/jenkinsfile/parser.rb",
            "lib/jenkinsfile_parser.rb",
            "buildkite.go",
            "appveyor.go",
            "codeship.rb",
            "packit.py",
            "data/railway.json",
            "src/appcenter-client.ts",
        ] {
            assert!(!is_pipeline(&row, path), "{path}");
        }
    }

    #[test]
    fn a_profile_adds_pipeline_files_of_its_own_and_takes_none_away() {
        let own = row("pipelines = [\"build/*.yml\", \"**/deploy/run*.SH\", \"conf/envs/\", \"infra/*/plan.hcl\"]");
        for path in [
            "build/ci.yml",
            "Build/CI.YML",
            "build/.yml",
            "build/",
            "deploy/run.sh",
            "a/b/deploy/run-all.sh",
            "a/deploy/",
            "conf/envs",
            "conf/envs/x/y",
            "conf/",
            "infra/prod/plan.hcl",
            "infra/prod/",
            "infra/",
        ] {
            assert!(is_pipeline(&own, path), "{path}");
            assert!(!is_pipeline(&row(""), path), "{path} is in the list that comes with Volary");
        }
        for path in [
            "build/x/ci.yml",
            "build/ci.yaml",
            "x/build/ci.yml",
            "deploy/arun.sh",
            "conf/x",
            "infra/prod/plan.md",
            "conf/x/",
        ] {
            assert!(!is_pipeline(&own, path), "{path}");
        }
        assert!(lines().all(|pattern| is_pipeline(&own, &pattern.replace("**/", "x/").replace('*', ""))));
    }

    #[test]
    fn a_file_that_stands_where_a_pattern_has_a_folder_is_held_by_none_and_a_folder_that_is_gone_is() {
        for (pattern, files, folders) in [
            ("*/ci.yml", &["readme.md", "x"][..], &["x/"][..]),
            ("services/*/deploy.yml", &["services/README.md", "services"], &["services/", "services/shop/"]),
            ("**/*/ci.yml", &["readme.md", "a/b/c.rs"], &["a/", "a/b/"]),
            ("**/deploy/run.sh", &["deploy", "a/deploy", "a/run.sh"], &["deploy/", "a/deploy/"]),
            ("infra/*/plan.hcl", &["infra/readme.md"], &["infra/prod/"]),
            ("**/a/*/x/", &["a", "b/a/c"], &["a/", "b/a/c/", "b/a/c/x/"]),
        ] {
            let own = row(&format!("pipelines = [{pattern:?}]"));
            let held: Vec<_> = files.iter().filter(|path| is_pipeline(&own, path)).collect();
            assert!(held.is_empty(), "{pattern}: {held:?}");
            let passed: Vec<_> = folders.iter().filter(|path| !is_pipeline(&own, path)).collect();
            assert!(passed.is_empty(), "{pattern}: {passed:?}");
        }
    }

    #[test]
    fn a_pattern_that_would_fit_nothing_that_was_meant_is_wrong() {
        let wrong = |pattern: &str| check(&row(&format!("pipelines = [{pattern:?}]"))).unwrap_err();
        for (pattern, word) in [
            ("", "bytes"),
            ("/build/ci.yml", "begins with a slash"),
            ("../ci.yml", "`..`"),
            ("build/../ci.yml", "`..`"),
            ("./ci.yml", "`.`"),
            ("build//ci.yml", "empty part"),
            ("build/**/ci.yml", "at the start"),
            ("**", "at the start"),
            ("**/", "empty part"),
            ("build\\ci.yml", "stands for nothing"),
            ("build/[a-z].yml", "stands for nothing"),
            ("!build/ci.yml", "stands for nothing"),
            ("build/\tx", "stands for nothing"),
        ] {
            let said = wrong(pattern);
            assert!(said.contains(word) && said.contains("\"app\""), "{pattern}: {said}");
        }
        let said = check(&row("pipelines = [\"x.yml\"]\npipelines-without-secrets = true")).unwrap_err();
        assert!(said.contains("none is held"), "{said}");
        // Nor is one of the list that comes with Volary.
        let wrong: Vec<&str> = lines().filter(|pattern| pattern_is_plain(pattern).is_err()).collect();
        assert!(wrong.is_empty() && lines().all(|pattern| pattern == pattern.to_lowercase()), "{wrong:?}");
    }

    #[test]
    fn a_pattern_that_ends_in_a_file_looks_at_the_end_of_a_path_however_many_folders_it_has() {
        let places = |pattern: &str, is_folder| Pattern::of(pattern).places(200, is_folder);
        assert_eq!(places("**/*.yml", false), 199..200);
        assert_eq!(places("**/deploy/*/ci.yml", false), 197..198);
        assert_eq!(places("**/deploy/*/ci.yml", true), 197..200);
        assert_eq!(places("deploy/*/ci.yml", true), 0..1);
        assert_eq!(places("**/deploy/", false), 0..200);
        // Else each name of a path would be looked at for each part of a pattern.
        let deep = KNOWN.iter().filter(|pattern| pattern.anywhere && pattern.whole);
        assert!(deep.clone().count() > 0 && deep.clone().all(|pattern| pattern.parts.len() == 1));
    }

    #[test]
    fn a_row_adds_64_patterns_of_250_bytes_at_most() {
        let rows = |count: usize, length: usize| Repository { pipelines: vec!["a".repeat(length); count], ..row("") };
        assert_eq!(check(&rows(MAX_OWN, MAX_PATTERN)), Ok(()));
        assert_eq!((MAX_OWN, MAX_PATTERN), (64, 250));
        assert!(check(&rows(65, 1)).unwrap_err().contains("more than 64"));
        assert!(check(&rows(1, 251)).unwrap_err().contains("250"));
    }

    proptest! {
        #[test]
        fn stars_are_any_characters_of_one_name(
            name in "[ab.]{0,6}", part in "[ab.*]{1,6}",
        ) {
            // As it is said: each star tried at every length.
            fn slow(part: &str, name: &str) -> bool {
                match part.split_once('*') {
                    None => part == name,
                    Some((start, rest)) => name
                        .strip_prefix(start)
                        .is_some_and(|name| (0..=name.len()).any(|at| slow(rest, &name[at..]))),
                }
            }
            prop_assert_eq!(Part::of(&part).fits(&name), slow(&part, &name));
        }
    }
}
