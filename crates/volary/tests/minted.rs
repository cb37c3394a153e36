//! What vendors mint, from real boxes to vendors and a git host in a network of the test's own: what reaches the host is
//! asserted at the host.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::process::Stdio;
use testkit::{Forge, INSTALLATION, Outside, Platform, Repo, Vendors, eventually};

const VOLARY: &str = env!("CARGO_BIN_EXE_volary");

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A platform with a repository `app` at a forge, whose secret is the key of an app that the vendors know.
fn house(vendors: &Vendors, outside: &Outside) -> Platform {
    let platform = Platform::start_with(VOLARY, &outside.options());
    let number = INSTALLATION.to_string();
    let set = [
        "secret",
        "set",
        "capability/app",
        "--kind",
        "github-app",
        "--app",
        "123",
        "--installation",
        &number,
        "--base",
        "https://forge.example/api/v3",
    ];
    let done = platform.cli_with_input(&set, vendors.key().as_bytes());
    assert!(done.status.success(), "{}", text(&done.stderr));
    // An app's key has several lines whether its kind is said or known.
    for again in [["secret", "set", "capability/app"], ["secret", "rotate", "capability/app"]] {
        let done = platform.cli_with_input(&again, vendors.key().as_bytes());
        assert!(done.status.success(), "{again:?}: {}", text(&done.stderr));
    }
    row(&platform, "");
    platform
}

/// The profile `git`, with this in the repository's row.
fn row(platform: &Platform, more: &str) {
    let url = Forge::url("app");
    let row =
        format!("[[repository]]\nid = \"app\"\nurl = {url:?}\nsecret = \"capability/app\"\nforge = \"github\"\n{more}");
    std::fs::write(platform.home().join("profiles/git.toml"), row).expect("a profile");
}

#[test]
fn an_app_s_key_opens_one_repository_by_tokens_that_are_minted_for_it_and_revoked_with_the_run() {
    let (forge, vendors) = (Forge::new("nobody", "canary-of-nobody"), Vendors::new("forge"));
    let repo = Repo::failing();
    forge.mirror("app", repo.path());
    forge.opened_by(&vendors);
    let outside = Outside::enter_minting(Some(&forge), &vendors);
    let platform = house(&vendors, &outside);
    let list = platform.ok(&["secret", "list"]);
    assert!(list.contains("minted from (github-app)") && !list.contains("PRIVATE"), "{list}");
    let script = "set -e; git fetch -q origin; git reset -q --mixed origin/main; git checkout -q -- .; \
                  echo more >>README.md; git commit -q -a -m more; git push -q origin HEAD; echo pushed";
    let pushed = platform.cli(&["exec", "--profile", "git", "--", "sh", "-c", script]);
    assert!(text(&pushed.stdout).contains("pushed"), "{}{}", text(&pushed.stdout), text(&pushed.stderr));
    // One to read and one to push, each for this repository; both are ended with the run.
    let minted = eventually("both are revoked", || {
        let minted = vendors.minted();
        (minted.len() >= 2 && minted.iter().all(|one| one.ended)).then_some(minted)
    });
    assert!(minted.iter().all(|one| one.repository == "forge/app"), "{minted:?}");
    let used = platform.json(&["secret", "list", "--json"]);
    assert!(used[0]["last_used"].is_i64(), "a minting is a use of the key: {used}");
    let may: Vec<&Value> = minted.iter().map(|one| &one.permissions["contents"]).collect();
    assert!(may.contains(&&"read".into()) && may.contains(&&"write".into()), "{minted:?}");
    let leases = eventually("it is on record", || {
        let list = platform.ok(&["lease", "list", "--all"]);
        (list.matches("a minted value, revoked").count() >= 2).then_some(list)
    });
    assert!(leases.contains("git/app:write for forge.example/forge/app"), "{leases}");

    // A proposal under the app's identity: where an administrator allowed it, and it says so.
    let run = platform.json(&["runs", "--json"])[0]["run"].as_str().expect("a run").to_owned();
    let no = platform.cli(&["pr", &run]);
    assert!(text(&no.stderr).contains("own identity") && forge.proposals().is_empty(), "{}", text(&no.stderr));
    row(&platform, "proposals-as-app = true\n");
    let again = platform.cli(&["exec", "--profile", "git", "--", "sh", "-c", script]);
    assert!(text(&again.stdout).contains("pushed"), "{}", text(&again.stderr));
    let run = platform.json(&["runs", "--json"])[0]["run"].as_str().expect("a run").to_owned();
    let opened = platform.cli(&["pr", &run]);
    assert!(opened.status.success(), "{}", text(&opened.stderr));
    let proposals = forge.proposals();
    let [(target, body)] = &proposals[..] else { panic!("{proposals:?}") };
    assert_eq!(target, "/api/v3/repos/forge/app/pulls");
    let said = body["body"].as_str().expect("a text");
    assert!(said.contains(&format!("Opened by the app 123 (installation {INSTALLATION}) for ")), "{said}");
    let last = eventually("the proposal's token is revoked", || vendors.minted().pop().filter(|one| one.ended));
    assert_eq!(last.permissions, serde_json::json!({ "pull_requests": "write" }));
    platform.stop();
}

#[test]
fn what_a_vendor_made_while_the_server_was_killed_is_held_by_the_gateway_and_revoked() {
    let (forge, vendors) = (Forge::new("nobody", "canary-of-nobody"), Vendors::new("forge"));
    forge.mirror("app", Repo::failing().path());
    forge.opened_by(&vendors);
    let outside = Outside::enter_minting(Some(&forge), &vendors);
    let platform = house(&vendors, &outside);
    vendors.hold_answers(true);
    let mut command = platform.command();
    command.args(["exec", "--profile", "git", "--", "git", "ls-remote", "origin"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("volary starts");
    // Made, and its answer on its way: nobody but the vendor and, from now on, the gateway ever has it.
    let made = eventually("the vendor made one", || vendors.minted().into_iter().next());
    let server = platform.pid_of("server").and_then(|pid| Pid::from_raw(pid.cast_signed())).expect("the server");
    kill_process(server, Signal::KILL).expect("it is killed");
    vendors.hold_answers(false);
    eventually("it is ended", || vendors.minted()[0].ended.then_some(()));
    assert!(!made.ended && made.repository == "forge/app", "{made:?}");
    drop(child.wait_with_output().expect("the command ends"));
    // Also what a command that tried again had made.
    eventually("all are ended", || vendors.minted().iter().all(|one| one.ended).then_some(()));
    let first = eventually("it is on record", || {
        let leases = platform.json(&["lease", "list", "--all", "--json"]);
        leases.as_array()?.iter().rfind(|lease| lease["minted"] == "revoked").cloned()
    });
    assert_eq!(first["capability"], "git/app:read", "{first}");
    platform.stop();
}
