//! A refusal in a browser: it comes to the run's page by itself, explains itself, is allowed after a question, and the
//! command that was refused goes on, in the same live box.

use crate::{VOLARY, sign_in};
use serde_json::{Value, json};
use std::process::Stdio;
use testkit::{Browser, Outside, Platform, eventually};

/// Asks until it is let out. What it was told on the way is in its output. Each refusal replaces the table on the run's
/// page: between two of them a person has the time to click.
const ASKS: &str = "until curl -sSf https://docs.example.org/guide/a; do sleep 3; done";

fn run_of(platform: &Platform) -> Option<String> {
    let runs = platform.json(&["runs", "--json"]);
    Some(runs.as_array()?.first()?["run"].as_str()?.to_owned())
}

fn explained(platform: &Platform, run: &str) -> Vec<Value> {
    platform.json(&["explain", run, "--json"]).as_array().expect("a list").clone()
}

#[test]
fn a_person_allows_what_a_live_run_was_refused_and_the_run_goes_on() {
    let outside = Outside::enter();
    let platform = Platform::start_with(VOLARY, &outside.options());
    let profile = platform.home().join("profiles/narrow.toml");
    std::fs::write(&profile, "# by hand\n[egress]\nreads = \"none\" # for now\n").unwrap();
    let mut command = platform.command();
    command.args(["exec", "--profile", "narrow", "--", "sh", "-c", ASKS]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let exec = command.spawn().unwrap();
    let run = eventually("the run", || run_of(&platform));

    let browser = Browser::start();
    drop(sign_in(&platform, &browser));
    browser.open(&format!("{}/runs/{run}", platform.url()));
    browser.wait_for("#denial-1");
    // A CONNECT to the host is what is refused, whatever was wanted inside.
    browser.wait_for_text("#denials", "docs.example.org:443");
    browser.wait_for_text("#denials", "read.none");
    browser.wait_for_text("#denials", "a row would allow it");

    // Right after another refusal there is none for a while.
    let before = browser.text("#denials").unwrap();
    browser.wait_until("another refusal", |b| b.text("#denials").is_some_and(|now| now != before));
    browser.click("#denial-1");
    browser.wait_for_text("h1", "Refusal 1");
    let page = browser.text("main").unwrap();
    assert!(page.contains("docs.example.org") && page.contains("It would newly open"), "{page}");
    assert!(page.contains("policy and not a fault"), "{page}");
    browser.click("#accept button");
    browser.wait_for_text("h1", "Allow this?");
    let question = browser.text("main").unwrap();
    assert!(
        question.contains("-reads = \"none\" # for now") && question.contains("+reads = \"listed\" # for now"),
        "{question}"
    );
    assert!(question.contains("GET and HEAD to"), "{question}");
    assert_eq!(browser.script("return document.activeElement.textContent"), json!("Leave it refused"));
    assert!(std::fs::read_to_string(&profile).unwrap().contains("\"none\""), "a question changes nothing");
    browser.click("form[method=post] button.primary");
    browser.wait_for_text("[role=status]", "Allowed");

    // The same box, the same command.
    let done = exec.wait_with_output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success() && said.contains("heard GET /guide/a"), "{said}");
    let text = std::fs::read_to_string(&profile).unwrap();
    assert!(text.starts_with("# by hand\n[egress]\nreads = \"listed\" # for now\n"), "{text}");
    let entries = platform.json_lines(&["log", &run, "--json"]);
    let kinds = |kind: &str| entries.iter().filter(|entry| entry["event"]["kind"] == kind).count();
    assert_eq!((kinds("attempt"), kinds("profile-changed")), (1, 1));

    // Who comes again is told that nothing is left to do.
    browser.open(&format!("{}/runs/{run}/denials/1", platform.url()));
    assert_eq!(browser.count("#accept"), 0);
    let again = platform.ok(&["allow", &run, "1", "--yes"]);
    assert!(again.contains("nothing to do"), "{again}");
    drop(browser);
    platform.stop();
}

#[test]
fn at_a_terminal_a_refusal_is_explained_and_allowed_for_the_profile_it_came_from() {
    let outside = Outside::enter();
    let platform = Platform::start_with(VOLARY, &outside.options());
    let hostile = "https://a.example/%22%20[[folders]]/b";
    let refused = platform.cli(&["exec", "--", "curl", "-sS", "-g", "-X", "POST", hostile]);
    assert!(String::from_utf8_lossy(&refused.stdout).contains("write.no-row"), "{refused:?}");
    let refused = platform.cli(&["exec", "--", "curl", "-sS", "--noproxy", "", "http://169.254.169.254/"]);
    assert!(String::from_utf8_lossy(&refused.stdout).contains("host.metadata"), "{refused:?}");
    let runs = platform.json(&["runs", "--json"]);
    let runs: Vec<&str> = runs.as_array().unwrap().iter().map(|run| run["run"].as_str().unwrap()).collect();
    let of = |rule: &str| {
        let has = |run: &&&str| explained(&platform, run).iter().any(|one| one["rule"] == rule);
        (*runs.iter().find(has).unwrap_or_else(|| panic!("no {rule} in {runs:?}"))).to_owned()
    };
    let (posted, metadata) = (of("write.no-row"), of("host.metadata"));
    let said = platform.ok(&["explain", &metadata, "1"]);
    assert!(said.contains("No row of a profile can be added"), "{said}");
    let no = platform.cli(&["allow", &metadata, "1", "--yes"]);
    assert!(!no.status.success() && String::from_utf8_lossy(&no.stderr).contains("No row"), "{no:?}");

    let said = platform.ok(&["explain", &posted, "1"]);
    assert!(said.contains("policy, not a fault") && said.contains("--capability NAME"), "{said}");
    // Nobody is at this terminal, so nobody says yes.
    platform.secret("capability/tracker", "token-0123456789");
    let named = ["allow", posted.as_str(), "1", "--capability", "tracker"];
    let asked = platform.cli(&named);
    assert!(!asked.status.success() && String::from_utf8_lossy(&asked.stderr).contains("--yes"), "{asked:?}");
    assert!(!platform.home().join("profiles/default.toml").exists());
    let said = platform.ok(&[&named[..], &["--yes"]].concat());
    assert!(said.contains("takes the built-in profile's place") && said.contains("Allowed."), "{said}");
    let reach = platform.ok(&["reach"]);
    assert!(reach.contains("tracker") && reach.contains("a.example"), "{reach}");
    assert!(!reach.contains("the host's own folder"), "{reach}");

    // A command's own handle stands where the credential would: allowed while it asks, it is let out.
    let posts = "until curl -sSf -X POST -H \"authorization: Bearer $VOLARY_HANDLE\" https://b.example/v1/x; do sleep 0.2; done";
    let mut command = platform.command();
    command.args(["exec", "--", "sh", "-c", posts]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let exec = command.spawn().unwrap();
    let run = eventually("a refusal of the write", || {
        run_of(&platform).filter(|run| explained(&platform, run).iter().any(|one| one["rule"] == "write.no-row"))
    });
    assert_eq!(explained(&platform, &run)[0]["proposal"]["blank"], "capability");
    drop(platform.ok(&["allow", &run, "1", "--capability", "tracker", "--yes"]));
    let done = exec.wait_with_output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success() && said.contains("heard POST /v1/x"), "{said}");
    // The handle itself is shown to nobody, and is nobody's key to a model.
    let shown = platform.ok(&["exec", "--", "sh", "-c", "test -n \"$VOLARY_HANDLE\" && echo \"<$VOLARY_HANDLE>\""]);
    assert!(shown.starts_with('<') && !shown.contains("vh_"), "{shown}");
    let verified = platform.cli(&["verify"]);
    assert!(verified.status.success(), "{verified:?}");
    platform.stop();
}
