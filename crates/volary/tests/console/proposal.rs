//! A run's page in a browser: what it pushed becomes a pull request by the form, in the person's own words and under their
//! own identity.

use crate::{VOLARY, sign_in};
use testkit::{Browser, Forge, Outside, Platform, Repo};

const SECRET: &str = "canary-of-the-proposal-page";
const PUSH: &str = "set -e; git fetch -q origin; git reset -q --mixed origin/main; git checkout -q -- .; \
                    echo more >>README.md; git commit -q -a -m more; git push -q origin HEAD; echo pushed";

#[test]
fn a_pull_request_is_opened_by_the_form_on_the_page_of_its_run_and_linked_there() {
    let forge = Forge::new("oauth2", SECRET);
    forge.mirror("app", Repo::failing().path());
    let outside = Outside::enter_with(&forge);
    let platform = Platform::start_with(VOLARY, &outside.options());
    for more in [&["--personal", "yes"][..], &["--mine"]] {
        let set = [&["secret", "set", "capability/forge"], more].concat();
        let done = platform.cli_with_input(&set, SECRET.as_bytes());
        assert!(done.status.success(), "{done:?}");
    }
    let url = Forge::url("app");
    let row = format!(
        "[[repository]]\nid = \"app\"\nurl = {url:?}\nsecret = \"capability/forge\"\nforge = \"gitlab\"\nuser = \"oauth2\"\n"
    );
    std::fs::write(platform.home().join("profiles/git.toml"), row).expect("a profile");
    let pushed = platform.cli(&["exec", "--profile", "git", "--", "sh", "-c", PUSH]);
    assert!(pushed.status.success(), "{pushed:?}");
    let run = platform.json(&["runs", "--json"])[0]["run"].as_str().expect("a run").to_owned();

    let browser = Browser::start();
    drop(sign_in(&platform, &browser));
    browser.open(&format!("{}/runs/{run}", platform.url()));
    browser.wait_for_text("#proposal summary", "Open a pull request in app");
    assert!(forge.proposals().is_empty(), "looking opens nothing");
    browser.click("#proposal summary");
    browser.fill("#title", "More in the README");
    browser.fill("#body", "It says more now.\nNothing else.");
    browser.click("#proposal form button");
    browser.wait_for_text("#proposal a", "https://forge.example/proposals/1");
    assert_eq!(browser.attribute("#proposal a", "href").as_deref(), Some("https://forge.example/proposals/1"));
    assert_eq!(browser.count("#proposal form"), 0, "it is opened once");
    let proposals = forge.proposals();
    let [(target, body)] = &proposals[..] else { panic!("{proposals:?}") };
    assert_eq!(target, "/api/v4/projects/forge%2Fapp/merge_requests");
    assert_eq!(body["title"], "More in the README", "{body}");
    assert!(
        body["description"].as_str().is_some_and(|text| text.contains("It says more now.\nNothing else.")),
        "{body}"
    );
    let page = browser.script("return document.documentElement.outerHTML");
    assert!(!page.as_str().unwrap().contains("canary"), "{page}");
    drop(browser);
    platform.stop();
}
