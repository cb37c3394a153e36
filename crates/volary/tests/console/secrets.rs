//! The page of the secrets in a browser: a managed key is set, replaced and deleted, and no value is ever on a page.

use crate::{VOLARY, sign_in};
use serde_json::json;
use testkit::{Browser, Platform};

#[test]
fn a_managed_key_is_set_replaced_and_deleted_in_a_browser_and_its_value_is_on_no_page() {
    let platform = Platform::start(VOLARY);
    let browser = Browser::start();
    drop(sign_in(&platform, &browser));
    let values = ["first-canary-of-the-page", "second-canary-of-the-page"];
    let hidden = || {
        let page = browser.script("return document.documentElement.outerHTML");
        assert!(values.iter().all(|value| !page.as_str().unwrap().contains(value)), "{page}");
    };
    browser.open(&format!("{}/secrets", platform.url()));
    browser.wait_for_text("tbody", "No secret is set");
    browser.fill("#name", "capability/forge");
    drop(browser.script("document.querySelector('#kind').value = 'github'; return 1"));
    browser.fill("#value", values[0]);
    browser.click("form.fields button");
    browser.wait_for_text("[role=status]", "capability/forge is set");
    let row = browser.text("tbody").unwrap();
    for told in ["capability/forge", "managed", "api.github.com", "administrator", "never"] {
        assert!(row.contains(told), "{told}: {row}");
    }
    hidden();

    browser.click("tbody a[aria-label='Replace capability/forge']");
    browser.wait_for_text("h1", "Replace this secret");
    assert_eq!(browser.script("return document.activeElement.id"), json!("value"));
    browser.fill("#value", values[1]);
    browser.click("form.fields button");
    browser.wait_for_text("[role=status]", "has its new value");
    assert_eq!(browser.text("tbody td[data-label=Version]").as_deref(), Some("2"));
    hidden();

    browser.click("tbody a[aria-label='Delete capability/forge']");
    browser.wait_for_text("h1", "Delete this secret?");
    browser.click("form[method=post] button.danger");
    browser.wait_for_text("tbody", "No secret is set");
    hidden();
    assert_eq!(platform.json(&["secret", "list", "--json"]), json!([]));
    drop(browser);
    platform.stop();
}
