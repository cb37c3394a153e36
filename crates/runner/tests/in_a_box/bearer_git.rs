//! What a run wrote into its worktree and its home for git and curl to read, under a lease: none of it runs or leads anywhere.

use crate::bearer::{play, shown};
use crate::gateway::lease;
use crate::support::Story;
use model::capability::Delivery;

/// Makes a repository whose configuration has a trap wherever git starts a program or goes elsewhere. Each says its name and
/// what it sees of a value, where its output goes and into a file.
const PLANT: &str = r#"
cd /workspace && git init -q -b main . && echo one > file && git add file && git -c user.name=a -c user.email=a commit -q -m first
mkdir planted /tmp/home 2>&-
plant() { printf '%s' "sh -c 'echo RAN-$1 value=[\$TOKEN]\$(cat \${TOKEN_FILE:-/dev/null}) >&2; echo \$TOKEN > \$HOME/stolen' x"; }
git config alias.planted "!$(plant alias)"
git config core.fsmonitor "$(plant fsmonitor)"
git config core.hooksPath /workspace/planted
printf '#!/bin/sh\necho RAN-hook "[$TOKEN]" >&2\n' > planted/post-checkout
cp planted/post-checkout planted/pre-push; cp planted/post-checkout .git/hooks/pre-push; chmod 755 planted/* .git/hooks/pre-push
git config filter.planted.clean "$(plant filter)"
git config filter.planted.smudge "$(plant filter)"
git config diff.planted.textconv "$(plant textconv)"
git config diff.external "$(plant diff)"
echo 'file filter=planted diff=planted' > .gitattributes
git config url.https://planted.example/.insteadOf https://git.example/
git config credential.helper "!$(plant helper)"
git config credential.https://git.example.helper "!$(plant helper-of-host)"
git config core.sshCommand "$(plant ssh)"
git config core.askPass "$(plant askpass)"
git config core.editor "$(plant editor)"
git config core.pager "$(plant pager)"
git config protocol.allow always
git config remote.origin.url https://planted.example/
git config include.path /workspace/planted/more
git config -f planted/more alias.included "!$(plant include)"
git init -q -b main planted/other && cp .git/config planted/other/.git/config
printf '[alias]\n\thome = "!echo RAN-home >&2"\n[url "https://home.example/"]\n\tinsteadOf = https://other.example/\n' > /tmp/home/.gitconfig
printf 'write-out = "RAN-curlrc"\n' > /tmp/home/.curlrc
cp /tmp/home/.curlrc /workspace
echo two > file; touch file
"#;

/// Goes into every trap that it can. Each line that begins with `is` says what git or curl believes.
const WALK: &str = r#"
cd /workspace
git planted < /dev/null; git included < /dev/null; git home
git status > /dev/null; git hash-object file; git diff < /dev/null | cat; git diff HEAD | cat; git diff --no-ext-diff HEAD | cat
git hook run pre-push; git hook run post-checkout
git -C planted status > /dev/null; git -C planted/other planted < /dev/null; (cd planted/other && git included < /dev/null; git status > /dev/null)
git ls-remote ssh://git@git.example/x 2>&1; git ls-remote /workspace/planted/other; git ls-remote file:///workspace/planted/other
git ls-remote ext::planted; git push /workspace/planted/other HEAD:x; git fetch /workspace/planted/other main
printf 'protocol=https\nhost=git.example\n\n' | GIT_ASKPASS= git credential fill | grep -v password
printf 'protocol=https\nhost=git.example\nusername=x\npassword=y\n\n' | git credential approve
echo "is address $(git ls-remote --get-url https://git.example/x) $(git ls-remote --get-url https://other.example/x)"
echo "is origin [$(git config remote.origin.url)]"
echo "is header [$(git config --get-urlmatch http.extraHeader http://127.0.0.1:8080/git/x)]"
echo "is hooks $(git config core.hooksPath)"
echo "is subject $(git log -1 --format=%s) on $(git symbolic-ref HEAD)"
GIT_EDITOR= git var GIT_EDITOR; git config --get-regexp '^(alias|filter|include|url)'
curl -s file:///etc/hostname -o /dev/null
ls -A $HOME/stolen 2>&-
echo ended
"#;

fn sh(script: &str) -> [&str; 3] {
    ["sh", "-c", script]
}

fn said(story: &Story, n: usize) -> String {
    let (said, exit) = shown(story, n);
    assert!(said.ends_with("ended\n") && exit["exitCode"] == 0, "{n}: {exit}: {said}");
    said
}

#[tokio::test(flavor = "current_thread")]
async fn nothing_that_a_run_configured_for_git_or_curl_runs_or_leads_elsewhere_under_a_lease() {
    let ways =
        [Delivery::Variable("TOKEN".into()), Delivery::File("TOKEN_FILE".into()), Delivery::Stdin, Delivery::GitHelper];
    let plant = format!("exec 2>&1; {PLANT} echo ended");
    // What stands in it comes to the script as its standard input, where that is the way.
    let walk = format!("exec 2>&1; {WALK}");
    let mut commands = vec![(None, sh(&plant)), (None, sh(&walk))];
    commands.extend((0..4).map(|n| (Some(lease(n)), sh(&walk))));
    let commands: Vec<(Option<String>, &[&str])> = commands.iter().map(|(l, argv)| (l.clone(), &argv[..])).collect();
    let (story, _) = play(&ways, None, &commands).await;
    said(&story, 0);
    // Without a lease every trap is sprung: they are where git and curl look.
    let free = said(&story, 1);
    for planted in [
        "alias",
        "fsmonitor",
        "hook",
        "filter",
        "textconv",
        "diff",
        "helper",
        "helper-of-host",
        "ssh",
        "include",
        "home",
        "curlrc",
    ] {
        assert!(free.contains(&format!("RAN-{planted}")), "the trap {planted} is none: {free}");
    }
    assert!(free.contains("is header [X-Runs-Own: of-the-run]"), "what git shows at the door: {free}");
    assert!(free.contains("is address https://planted.example/x https://home.example/x"), "{free}");
    for (n, way) in ways.iter().enumerate() {
        let held = said(&story, n + 2);
        assert!(!held.contains("RAN-"), "{way:?}: {held}");
        for is in [
            "is address https://git.example/x https://other.example/x\n",
            "is origin []\n",
            "is header []\n",
            "is hooks /dev/null\n",
            "is subject first on refs/heads/main\n",
        ] {
            assert!(held.contains(is), "{way:?}: {is}: {held}");
        }
        assert!(!held.contains("planted.example") && !held.contains("stolen"), "{way:?}: {held}");
        let asked = *way == Delivery::GitHelper;
        assert_eq!(held.contains("username=x-access-token"), asked, "{way:?}: our own helper alone: {held}");
    }
}
