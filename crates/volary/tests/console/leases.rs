//! The page of the leases in a browser: a lease comes to it by itself, is taken back by the keyboard alone, and how it ended
//! stands there; also on a phone.

use crate::{VOLARY, sign_in};
use serde_json::{Value, json};
use std::process::{Child, Stdio};
use testkit::{Browser, Platform, eventually};

/// Given to one program; a lease and its command outlast every patience of this test.
const PROFILE: &str = r#"
[[capability]]
name = "shop"
secret = "capability/shop"
kind = "command"
destinations = ["shop.example.org/<b>orders</b>"]
delivery = { variable = "SHOP_TOKEN" }
executables = ["/usr/bin/sh"]
seconds = 600
"#;

const VALUE: &str = "canary-of-the-leases-page";

fn hold(platform: &Platform) -> Child {
    let mut command = platform.command();
    let line = "test -n \"$SHOP_TOKEN\" && echo ready; sleep 600";
    command.args(["exec", "--profile", "shop", "--lease", "shop", "--", "sh", "-c", line]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("volary starts")
}

fn house() -> Platform {
    let platform = Platform::start(VOLARY);
    platform.secret("capability/shop", VALUE);
    std::fs::write(platform.home().join("profiles/shop.toml"), PROFILE).expect("a profile is written");
    platform
}

/// The end of the command whose lease was taken back.
fn was_ended(child: Child) {
    let out = child.wait_with_output().expect("it ends");
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert_eq!(out.status.code(), Some(137), "{said}");
    assert!(said.contains("its lease was taken back") && !said.contains(VALUE), "{said}");
}

#[test]
fn a_lease_comes_to_the_page_by_itself_is_taken_back_by_the_keyboard_and_its_end_is_shown() {
    let platform = house();
    let browser = Browser::start();
    drop(sign_in(&platform, &browser));
    browser.open(&format!("{}/leases", platform.url()));
    browser.wait_for_text("#leases", "No lease is open");
    browser.wait_for_text("#ended-leases", "None has ended yet");
    browser.wait_for_text("#live-state", "live");
    // Gone with the page: as long as it is there, nothing was loaded anew.
    drop(browser.script("window.marked = true"));
    let marked = || browser.script("return window.marked === true") == json!(true);

    let child = hold(&platform);
    browser.wait_for_text("#leases", "in use");
    let row = browser.text("#leases").unwrap();
    for told in ["shop for shop.example.org/<b>orders</b>", "by the command /usr/bin/sh", "variable SHOP_TOKEN"] {
        assert!(row.contains(told), "{told}: {row}");
    }
    assert!(marked(), "the lease came by a reload");

    // By the keyboard alone: to its button, to the question, to the answer.
    let to = |what: &str| {
        let there = || browser.script("const e = document.activeElement; return e ? e.textContent.trim() : ''") == what;
        for _ in 0..60 {
            browser.press(Browser::TAB);
            if there() {
                return;
            }
        }
        panic!("the keyboard does not come to {what:?}: {:?}", browser.text("main"));
    };
    to("Take back");
    browser.press(Browser::ENTER);
    browser.wait_for_text("h1", "Take this lease back?");
    assert_eq!(browser.script("return document.activeElement.textContent"), json!("Leave it"), "the safe answer");
    browser.wait_for_text("main", "What uses it now is ended at once");
    browser.press(Browser::ESCAPE);
    browser.wait_for_text("#leases", "in use");
    to("Take back");
    browser.press(Browser::ENTER);
    browser.wait_for_text("h1", "Take this lease back?");
    drop(browser.script("document.querySelector('main form button').focus()"));
    browser.press(Browser::ENTER);
    browser.wait_for_text("#ended-leases", "taken back");
    browser.wait_for_text("#leases", "No lease is open");
    was_ended(child);
    let who = platform.json(&["lease", "list", "--all", "--json"])[0]["ended_by"].clone();
    assert!(browser.text("#ended-leases").unwrap().contains(who.as_str().expect("who took it back")));

    // One that another person takes back: the page that is open says so, and the keyboard is not lost.
    drop(browser.script("window.marked = true"));
    let child = hold(&platform);
    browser.wait_for_text("#leases", "in use");
    drop(browser.script("document.querySelector('#leases a.button').focus()"));
    let open = platform.json(&["lease", "list", "--json"]);
    drop(platform.ok(&["lease", "revoke", open[0]["lease"].as_str().expect("an id")]));
    browser.wait_for_text("#leases", "No lease is open");
    assert_eq!(browser.text("#ended-leases").unwrap().matches("taken back").count(), 2);
    assert_eq!(browser.script("return document.activeElement.id"), json!("main"));
    assert!(marked(), "its end came by a reload");
    was_ended(child);
    assert!(!browser.script("return document.documentElement.outerHTML").as_str().unwrap().contains(VALUE));
    drop(browser);
    platform.stop();
}

#[test]
fn on_a_phone_a_lease_is_read_and_taken_back_without_moving_sideways() {
    let platform = house();
    let child = hold(&platform);
    let open = || -> Option<Value> {
        let open = platform.json(&["lease", "list", "--json"]);
        open.as_array()?.iter().find(|lease| lease["state"] == "consumed").cloned()
    };
    let lease = eventually("the lease in use", open);
    let browser = Browser::start_sized(360, 740);
    drop(sign_in(&platform, &browser));
    let fits = || {
        let wide = browser.script("return document.documentElement.scrollWidth - window.innerWidth");
        assert!(wide.as_i64().is_some_and(|wide| wide <= 0), "{wide} wider than the screen at {}", browser.url());
    };
    browser.open(&format!("{}/leases", platform.url()));
    browser.wait_for_text("#leases", "in use");
    fits();
    browser.click(&format!("#revoke-{}", lease["lease"].as_str().expect("an id")));
    browser.wait_for_text("h1", "Take this lease back?");
    fits();
    browser.click("main form button");
    browser.wait_for_text("#ended-leases", "taken back");
    fits();
    was_ended(child);
    for page in ["secrets", "connections"] {
        browser.open(&format!("{}/{page}", platform.url()));
        fits();
    }
    drop(browser);
    platform.stop();
}
