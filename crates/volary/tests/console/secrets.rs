//! The page of the secrets in a browser: a managed key is set, replaced and deleted, and one that others are minted from; no value
//! is ever on a page.

use crate::{VOLARY, sign_in};
use serde_json::json;
use testkit::{Browser, Platform, Vendors};

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
    browser.wait_for_text(".said", "capability/forge is set");
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
    browser.wait_for_text(".said", "has its new value");
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

#[test]
fn keys_that_others_are_minted_from_are_set_in_a_browser_with_the_settings_of_their_vendors() {
    let platform = Platform::start(VOLARY);
    let vendors = Vendors::new("forge");
    let browser = Browser::start();
    drop(sign_in(&platform, &browser));
    browser.open(&format!("{}/secrets", platform.url()));
    browser.wait_for_text("#secrets", "No secret is set");
    // A value of several lines is pasted: the field takes it as one.
    let fill = |name: &str, kind: &str, settings: &str, value: &str| {
        browser.fill("#name", name);
        drop(browser.script(&format!(
            "const kind = document.querySelector('#kind'); kind.value = '{kind}'; \
             kind.dispatchEvent(new Event('change', {{ bubbles: true }})); return 1"
        )));
        // Who chooses such a kind sees the field for its settings.
        browser.wait_for("details.fold[open] #minter");
        browser.fill("#minter", settings);
        let value = serde_json::to_string(value).unwrap();
        drop(browser.script(&format!("document.querySelector('#value').value = {value}; return 1")));
        browser.click("form.fields button");
    };
    let app = "app = \"123\"\ninstallation = 45\npermissions = { issues = \"write\" }";
    fill("capability/app", "github-app", "app = \"123\"", &vendors.key());
    browser.wait_for_text("#minter-wrong", "installation");
    assert_eq!(browser.script("return document.querySelector('#value').value"), json!(""), "a value comes back");
    drop(browser.script("for (const id of ['name', 'minter']) document.getElementById(id).value = ''; return 1"));
    fill("capability/app", "github-app", app, &vendors.key());
    browser.wait_for_text(".said", "capability/app is set");
    let account = "base = \"https://k.example:6443\"\nnamespace = \"ci\"\naccount = \"deployer\"";
    fill("capability/cluster", "kubernetes-account", account, &vendors.bearer());
    browser.wait_for_text(".said", "capability/cluster is set");
    let role = "access-key = \"AKIAIOSFODNN7EXAMPLE\"\nrole = \"arn:aws:iam::123456789012:role/deploy\"\nregion = \"eu-central-1\"";
    fill("capability/deploy", "aws-role", role, "canary-secret-access-key-0123456789");
    browser.wait_for_text(".said", "capability/deploy is set");
    let rows = browser.text("#secrets").unwrap();
    for told in
        ["github-app: each lease has a narrower one, which is revoked", "aws-role: each lease", "kubernetes-account"]
    {
        assert!(rows.contains(told), "{told}: {rows}");
    }
    let page = browser.script("return document.documentElement.outerHTML");
    for value in ["PRIVATE KEY", "canary", &vendors.bearer()] {
        assert!(!page.as_str().unwrap().contains(value), "{value}: {page}");
    }
    let list = platform.json(&["secret", "list", "--json"]);
    assert_eq!(list[0]["minter"]["permissions"], json!({ "issues": "write" }), "{list}");
    assert_eq!(list.as_array().unwrap().len(), 3, "{list}");
    drop(browser);
    platform.stop();
}
