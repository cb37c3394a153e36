//! The pages of the secrets and of the connections in a browser: what is changed elsewhere comes to them by itself.

use crate::{VOLARY, sign_in};
use serde_json::json;
use testkit::{Browser, Mood, OauthDouble, Platform, Tokens};

/// Opens a page and waits until it is live. As long as it is there, nothing was loaded anew.
fn watch(platform: &Platform, browser: &Browser, page: &str) {
    browser.open(&format!("{}/{page}", platform.url()));
    browser.wait_for_text("#live-state", "live");
    drop(browser.script("window.marked = true"));
}

fn is_marked(browser: &Browser) -> bool {
    browser.script("return window.marked === true") == json!(true)
}

#[test]
fn secrets_that_are_set_replaced_and_deleted_elsewhere_come_to_the_page_by_themselves() {
    let platform = Platform::start(VOLARY);
    let browser = Browser::start();
    drop(sign_in(&platform, &browser));
    watch(&platform, &browser, "secrets");
    browser.wait_for_text("#secrets", "No secret is set");
    browser.fill("#name", "capability/being-typed");
    let value = "canary-of-the-live-page";
    platform.secret("capability/shop", value);
    browser.wait_for_text("#secrets", "capability/shop");
    // What had the keyboard has it, also where its row was made anew.
    drop(browser.script("document.querySelector(\"#secrets a[aria-label='Replace capability/shop']\").focus()"));
    let rotated = platform.cli_with_input(&["secret", "rotate", "capability/shop"], b"another-canary-of-the-page");
    assert!(rotated.status.success(), "{rotated:?}");
    browser.wait_for_text("#secrets td[data-label=Version]", "2");
    let focused = browser.script("return document.activeElement.getAttribute('aria-label')");
    assert_eq!(focused, json!("Replace capability/shop"));
    drop(platform.ok(&["secret", "delete", "capability/shop"]));
    browser.wait_for_text("#secrets", "No secret is set");
    assert_eq!(browser.script("return document.querySelector('#name').value"), json!("capability/being-typed"));
    assert!(is_marked(&browser), "a change came by a reload");
    let page = browser.script("return document.documentElement.outerHTML");
    assert!(!page.as_str().unwrap().contains("canary"), "{page}");
    drop(browser);
    platform.stop();
}

#[test]
fn a_connection_that_is_added_signed_in_to_lapses_and_is_ended_elsewhere_changes_on_the_page_by_itself() {
    let platform = Platform::start(VOLARY);
    let provider = OauthDouble::start(Tokens::Once, Some(3600));
    let browser = Browser::start();
    drop(sign_in(&platform, &browser));
    watch(&platform, &browser, "connections");
    browser.wait_for_text("#connections", "There is no connection");
    let [token, device, revoke] = ["/token", "/device", "/revoke"].map(|path| provider.url(path));
    let urls = ["--token-url", &token, "--device-url", &device, "--revoke-url", &revoke];
    drop(platform.ok(&[&["connect", "add", "x", "--client-id", "volary", "--internal"][..], &urls].concat()));
    browser.wait_for_text("#connections .badge", "new");
    assert_eq!(platform.json(&["connect", "sign-in", "x", "--json"])["state"], "live");
    browser.wait_for_text("#connections .badge", "live");
    assert_ne!(browser.text("#connections td[data-label='Last refresh, UTC']").as_deref(), Some("–"));
    drop(platform.ok(&["connect", "revoke", "x"]));
    browser.wait_for_text("#connections .badge", "revoked");
    // One that lapses, which nobody asked for: its token is over at once, and the provider no longer takes its sign-in.
    provider.lives(Some(0));
    provider.moods(&[Mood::Plain, Mood::Fail(400)]);
    drop(platform.ok(&["connect", "sign-in", "x"]));
    browser.wait_for_text("#connections .badge", "lapsed");
    browser.wait_for_text("#connections", "sign in again");
    assert!(is_marked(&browser), "a change came by a reload");
    drop(browser);
    platform.stop();
}
