//! What opens a forge: for the proposal that the server opens there, and by git's own helper, given to one command.

use crate::everything::{self, Said};
use crate::search::{Canary, Search};
use crate::{SMALL, TELLS, VOLARY, random};
use testkit::{Forge, Outside, Platform, Repo, Temporary, shell_capability};

const PUSH: &str = "git fetch -q origin && git reset -q --mixed origin/main && git checkout -q -- . && \
                    echo more >>README.md && git commit -q -a -m more && git push -q && echo pushed";

/// Has git's helper say the password, and git use it, with all that git says of it.
const BY_GIT: &str = "export TOKEN=$(printf 'protocol=https\nhost=forge.example\npath=forge/app.git\n\n' | \
                      git credential fill | sed -n s/password=//p); \
                      GIT_TRACE_CURL=1 GIT_TRACE=1 git ls-remote https://forge.example/forge/app.git 2>&1 | cat; ";

/// A repository at a known provider's host, which the same forge answers for.
const LAB: &str = "https://gitlab.com/forge/lab.git";

#[test]
fn what_opens_a_forge_that_tells_it_in_its_errors_and_to_gits_helper_is_kept_and_shown_nowhere() {
    let temporary = Temporary::enter(VOLARY);
    let value = format!("tok{}/+{}==", random(), random());
    let forge = Forge::new("oauth2", &value);
    let repo = Repo::failing();
    // A key that a known provider's is: it never enters a box, and opens that provider's hosts alone.
    let managed = format!("tok{}/+{}==", random(), random());
    forge.opened_by_another(&managed);
    ["app", "lab"].iter().for_each(|name| drop(forge.mirror(name, repo.path())));
    let outside = Outside::enter_with(&forge);
    let platform = Platform::start_with(VOLARY, &outside.options());
    platform.secret("capability/forge", &value);
    let url = Forge::url("app");
    let by_git = shell_capability("by-git", "capability/forge", "forge.example/forge/app.git", "\"git-helper\"");
    let profile = format!(
        "[[repository]]\nid = \"app\"\nurl = {url:?}\nsecret = \"capability/forge\"\nforge = \"gitea\"\n\
         proposals-as-app = true\n{by_git}{SMALL}"
    );
    std::fs::write(platform.home().join("profiles/forge.toml"), profile).expect("the profile is written");
    let set = ["secret", "set", "capability/lab", "--kind", "gitlab"];
    let set = platform.cli_with_input(&set, managed.as_bytes());
    assert!(set.status.success(), "{}", String::from_utf8_lossy(&set.stderr));
    let profile = format!(
        "[[repository]]\nid = \"lab\"\nurl = \"{LAB}\"\nsecret = \"capability/lab\"\nforge = \"gitlab\"\nuser = \"oauth2\"\n\
         proposals-as-app = true\n{SMALL}"
    );
    std::fs::write(platform.home().join("profiles/lab.toml"), profile).expect("the profile is written");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut said = Said::default();

    let tell = TELLS.strip_prefix("sh -c '").and_then(|tell| tell.strip_suffix('\'')).expect("a shell's line");
    let tell = format!("{BY_GIT}{tell}");
    let out = platform.cli(&["exec", "--profile", "forge", "--lease", "by-git", "--", "sh", "-c", &tell]);
    // The control: it was told, in every form, and what it told was taken out.
    let shown = text(&out.stdout);
    assert!(shown.contains("given: [scrubbed:capability/forge"), "{shown}{}", text(&out.stderr));
    assert!(shown.matches("[scrubbed:capability/forge").count() >= 7, "{shown}");
    said.of("git's helper", &out);

    let last = || platform.json(&["runs", "--json"])[0]["run"].as_str().expect("a run").to_owned();
    let pushed =
        [("forge", PUSH.to_owned()), ("lab", format!("export GIT_TRACE_CURL=1; {PUSH}"))].map(|(profile, push)| {
            let out = platform.cli(&["exec", "--profile", profile, "--", "sh", "-c", &push]);
            assert!(text(&out.stdout).contains("pushed"), "{}", text(&out.stderr));
            said.of("the push", &out);
            last()
        });
    forge.echoes();
    for (run, name) in pushed.iter().zip(["forge", "lab"]) {
        let out = platform.cli(&["pr", run]);
        let shown = text(&out.stderr);
        assert!(!out.status.success() && shown.contains("422") && forge.proposals().is_empty(), "{shown}");
        let taken = shown.matches(&format!("[scrubbed:capability/{name}")).count();
        assert!(taken >= 2, "the message is shown, without it: {shown}");
        said.of("pr", &out);
    }

    let values = [("what opens the forge", &value), ("the provider's key", &managed)];
    let mut search = Search::new(&values.map(|(what, value)| Canary::new(what, value)));
    everything::look(&platform, &temporary, &said, &mut search);
    search.below(repo.path());
    search.verdict();
    platform.stop();
}
